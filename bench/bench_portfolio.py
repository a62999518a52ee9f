"""Books: ours against the pure twin, the plain loop that it replaces, and vectorbt; full statistics of all, long and short.

Parity is asserted before anything is timed; gates are ratios of minima taken in turns in one run.
"""

import resource
import sys
import time
import warnings

import numpy as np
import pandas as pd
import plain_portfolio
import pytest
from ratio import minima

import backtest as bt
from backtest import _backend

N_BARS, N_ASSETS, EVERY = 1000, 50, 5
FEE_RATE, SLIPPAGE, START = 0.0005, 0.0002, 100_000.0
COSTS = bt.Costs(fee_rate=FEE_RATE, slippage=SLIPPAGE)
#: Runs of ours that are timed together: about as long as one of the others, so that none of them starts in the other's caches.
TURN = 100
#: Least ratios of the seconds of others to ours, with AVX2; docs/portfolio.md says what was measured.
LEAST = {"arrays": 200.0, "frames": 500.0, "pure": 100.0, "vectorbt": 50.0}


def random_book(n_bars, n_assets, every, seed=0):
    """Weights of both signs, |weights| adding up to 1, on every ``every``-th bar, and prices."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (n_bars, n_assets)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.003, close.shape))
    weights = np.full(close.shape, np.nan)
    drawn = rng.normal(0, 1, weights[::every].shape)
    weights[::every] = drawn / np.abs(drawn).sum(axis=1, keepdims=True)
    for array in (close, open_, weights):
        array.flags.writeable = False  # what may change is copied
    return weights, close, open_


def ours(weights, close, open_):
    book = bt.simulate(weights, close=close, open=open_, costs=COSTS, start_cash=START)
    return book, book.trade_statistics()


def plain(weights, close, open_):
    values, trades = plain_portfolio.trade_weights(weights, close, open_, FEE_RATE, SLIPPAGE, START)
    return values, plain_portfolio.statistics(trades)


def in_turns(mine, *others, repeats=9):
    """Least seconds of each, in turns; ours are so short that ``TURN`` of them are one turn."""
    least = minima(lambda: [mine() for _ in range(TURN)], *others, repeats=repeats)
    return [least[0] / TURN, *least[1:]]


def assert_equal(statistics, others):
    for column, rows in others.items():
        for key, value in rows.items():
            assert statistics.loc[key, column] == pytest.approx(value, rel=1e-9), (key, column)


def test_weekly_book_with_full_statistics(benchmark):
    """1,000 days, 50 assets, weekly events, fills at the next open: value, trades with MFE and MAE, statistics by side."""
    case = random_book(N_BARS, N_ASSETS, EVERY)
    book, statistics = ours(*case)
    values, others = plain(*case)
    np.testing.assert_allclose(book.equity, values, rtol=1e-12)
    assert_equal(statistics, others)
    benchmark(ours, *case)
    frames = [plain_portfolio.Frame(pd.DataFrame(each)) for each in case]
    ours_, arrays, of_frames = (
        1000 * each for each in in_turns(lambda: ours(*case), lambda: plain(*case), lambda: plain(*frames))
    )
    benchmark.extra_info |= {"loop_over_arrays": round(arrays / ours_), "loop_over_frames": round(of_frames / ours_)}
    print(
        f"\nours {ours_:.3f} ms; plain loop over arrays {arrays:.0f} ms, {arrays / ours_:.0f} times; over DataFrames "
        f"{of_frames:.0f} ms, {of_frames / ours_:.0f} times"
    )
    if _backend.chosen().name == "cython":
        share = 1.0 if _backend.chosen().simd in ("x86-64-v3", "x86-64-v4") else 0.4  # vectors of two numbers
        assert arrays >= share * LEAST["arrays"] * ours_
        assert of_frames >= share * LEAST["frames"] * ours_


def test_against_the_pure_twin(benchmark):
    if _backend.chosen().name != "cython":
        pytest.skip("one backend only")
    case = random_book(N_BARS, N_ASSETS, EVERY)

    def work(name):
        with _backend.forced(name):
            return ours(*case)

    (one, first), (other, second) = work("cython"), work("python")
    assert one._account.tobytes() == other._account.tobytes()
    pd.testing.assert_frame_equal(first, second, check_exact=True)
    mine, pure = in_turns(lambda: ours(*case), lambda: work("python"))
    benchmark(ours, *case)
    print(f"\npure twin: {pure / mine:.0f} times ours")
    assert pure >= LEAST["pure"] * mine


def of_vectorbt(vbt, weights, close):
    portfolio = vbt.Portfolio.from_orders(
        pd.DataFrame(close),
        size=pd.DataFrame(weights),
        size_type="targetpercent",
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        fees=FEE_RATE,
        slippage=SLIPPAGE,
        init_cash=START,
        freq="1D",
    )
    trades = portfolio.exit_trades
    return portfolio, [trades.stats(), trades.long.stats(), trades.short.stats()]


def test_against_vectorbt(benchmark):
    """Same-bar close, as its ``from_orders`` does; the statistics of its trades of all, long and short."""
    vbt = pytest.importorskip("vectorbt", reason="extra `peers` is not installed")
    weights, close, _ = random_book(N_BARS, N_ASSETS, EVERY)

    def mine():
        book = bt.simulate(weights, close=close, fill="close", costs=COSTS, start_cash=START)
        return book, book.trade_statistics()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        begun = time.perf_counter()
        portfolio, stats = of_vectorbt(vbt, weights, close)
        first = time.perf_counter() - begun
        book, statistics = mine()
        np.testing.assert_allclose(book.equity, portfolio.value().to_numpy(), rtol=1e-9)
        for column, each in zip(("All", "Long", "Short"), stats, strict=True):
            assert statistics.loc["n_trades", column] == each["Total Closed Trades"]
            assert 100 * statistics.loc["win_rate", column] == pytest.approx(each["Win Rate [%]"], rel=1e-9)
            assert statistics.loc["profit_factor", column] == pytest.approx(each["Profit Factor"], rel=1e-7)
        ours_, theirs = in_turns(mine, lambda: of_vectorbt(vbt, weights, close), repeats=3)
    benchmark(mine)
    print(
        f"\nvectorbt: {theirs / ours_:.0f} times ours ({ours_ * 1e3:.2f} against {theirs * 1e3:.0f} ms; its first call took "
        f"{first:.1f} s)"
    )
    if _backend.chosen().name == "cython":
        assert theirs >= LEAST["vectorbt"] * ours_


def test_large_book(benchmark):
    """20 years, 500 assets, rebalanced daily: about 2.5 million orders, full statistics; its memory is what grows meanwhile."""
    if _backend.chosen().name != "cython":
        pytest.skip("half an hour on the pure twin")
    n_bars = 5040 if benchmark.enabled else 504
    case = random_book(n_bars, 500, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if sys.platform != "win32" else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bt.NumericsWarning)
        book, statistics = benchmark.pedantic(ours, args=case, rounds=3, iterations=1)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    n_fills = int(book.sums["n_fills"][0])
    assert n_fills > 0.99 * (n_bars - 1) * 500
    assert statistics.loc["n_trades", "All"] == statistics.loc["n_trades", "Long"] + statistics.loc["n_trades", "Short"]
    if benchmark.enabled:
        begun = time.perf_counter()
        n_trades = len(book.tracked)
        print(
            f"\n{n_fills:,} orders: {benchmark.stats.stats.min:.3f} s with full statistics, {grown:.0f} MB more; ledger and "
            f"{n_trades:,} trade records on request in {time.perf_counter() - begun:.2f} s"
        )

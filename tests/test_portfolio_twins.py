"""Portfolio: the compiled kernel against its pure twin, bit for bit; batches, threads, and a twin that is wrong on purpose."""

import warnings

import numpy as np
import pytest
from cases import simulated, weight_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from test_twins import both, copy_of_twin, pure_source, same_bits

import backtest as bt
from backtest import _backend, records
from backtest.book_evaluator import evaluate_books, joined
from backtest.metrics import SUMS
from backtest.portfolio import Market, Rules

pytestmark = pytest.mark.compiled


def outputs(weights, kwargs):
    book = simulated(weights, kwargs)
    return [
        book.sums,
        book._trade_sums,
        book._account,
        book._waiting,
        book._held,
        np.array(book._waits_since),
        book.fills,
        book.tracked.records,
        book.tracked.positions,
    ]


@given(weight_cases(), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=400)
def test_books_agree_to_the_last_bit(case, n_before, n_behind):
    weights, kwargs = case
    if n_before + n_behind < len(weights):
        kwargs["window"] = slice(n_before, len(weights) - n_behind)
    for left, right in zip(*both(lambda: outputs(weights, kwargs)), strict=True):
        same_bits(left, right)


def random_book(rng, n_bars=60, n_assets=7):
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, (n_bars, n_assets)), axis=0))
    open_ = close * np.exp(rng.normal(0, 0.01, close.shape))
    open_[rng.random(close.shape) < 0.02] = np.nan
    close[rng.random(close.shape) < 0.02] = np.nan
    close[-1] = 100.0
    for asset in range(1, n_assets, 4):
        end = rng.integers(n_bars // 2, 2 * n_bars)
        close[end:, asset] = open_[end:, asset] = np.nan
    weights = rng.choice([0.0, 0.1, 0.2, -0.1, 0.3], close.shape)
    weights[rng.random(n_bars) < 0.6] = np.nan
    return weights, close, open_


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("n_assets", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33])
def test_widths_around_simd_registers(n_assets, fill):
    rng = np.random.default_rng(n_assets)
    weights, close, open_ = random_book(rng, 80, n_assets)
    costs = bt.Costs(fee_rate=0.002, minimum=0.5, slippage=0.001, borrow_rate=0.05)
    kwargs = {
        "close": close,
        "open": open_,
        "high": close * 1.01,
        "low": close * 0.98,
        "fill": fill,
        "costs": costs,
        "periods_per_year": 252.0,
        "delisted": ("keep", "write_off")[n_assets % 2],
        "reserve_costs": n_assets % 3 == 0,
    }
    for array in (weights, close, open_):
        array.flags.writeable = False
    with _backend.forced("python"):
        expected = outputs(weights, kwargs)
    for simd in _backend.simd_levels():
        with _backend.forced("cython", simd):
            for left, right in zip(outputs(weights, kwargs), expected, strict=True):
                same_bits(left, right)


def test_statistics_of_the_kernel_are_those_of_the_trades():
    """What a book adds up while it trades is what its trades add up to, bit for bit; the trades are those of its ledger."""
    rng = np.random.default_rng(1)
    for case in range(20):
        weights, close, open_ = random_book(rng)
        costs = bt.Costs(fee_rate=0.002, slippage=0.001, borrow_rate=(0.0, 2.0)[case % 2])
        extremes = {"high": close * 1.01, "low": close * 0.98} if case % 3 else {}
        fill = ("next_open", "close")[case % 4 // 2]
        delisted = ("keep", "write_off")[case % 8 // 4]
        more = extremes | {"fill": fill, "costs": costs, "periods_per_year": 252.0, "delisted": delisted}
        book = simulated(weights, {"close": close, "open": open_} | more)
        same_bits(book._trade_sums, book.tracked.sums())
        opens = {"open": open_} if fill == "next_open" else {}
        marks = np.where(book.market.marks > 0, book.market.marks, np.nan)
        again = bt.track_trades(book.orders, close=marks, borrow_per_bar=costs.borrow_rate / 252.0, **opens, **extremes)
        same_bits(again.records, book.tracked.records)
        same_bits(again.positions, book.tracked.positions)
        assert len(again) > 50


@pytest.mark.parametrize("backend", ["cython", "python"])
def test_batches_threads_and_single_books_agree_to_the_last_bit(backend):
    rng = np.random.default_rng(2)
    _, close, open_ = random_book(rng)
    market = Market(close, open_)
    rules = Rules(bt.Costs(fee_rate=0.001, slippage=0.0005), periods_per_year=252.0).checked()
    weights = [random_book(rng)[0] for _ in range(9)]
    books, prices, settings = [market.events(each) for each in weights], market.prices("next_open"), market.settings(rules)
    with _backend.forced(backend):
        alone = {"close": close, "open": open_, "costs": rules.costs, "periods_per_year": 252.0}
        single = np.concatenate([simulated(each, alone).sums for each in weights])
        for n_threads, cut in ((1, 9), (4, 9), (2, 4), (1, 1)):
            sums = np.zeros(len(books), dtype=SUMS)
            for begin in range(0, len(books), cut):
                evaluate_books(books[begin : begin + cut], prices, settings, n_threads, sums[begin : begin + cut])
            same_bits(sums, single)


def test_rows_of_a_batch_are_the_callers_business():
    rng = np.random.default_rng(3)
    _, close, open_ = random_book(rng)
    market = Market(close, open_)
    books = [market.events(random_book(rng)[0]) for _ in range(5)]
    settings = market.settings(Rules(bt.Costs.zero()).checked())
    for name in ("cython", "python"):
        with _backend.forced(name):
            part = np.zeros(5, dtype=SUMS)
            _backend.kernel("portfolio").evaluate(market.prices("next_open"), joined(books), settings, 1, 3, part)
        assert part["n_fills"][1:3].all()
        assert not part[[0, 3, 4]].tobytes().strip(b"\0")


@given(
    arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.integers(1, 5)),
        elements=st.sampled_from([np.nan, np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 5e-324, 1.7e308]),
    )
)
@settings(max_examples=200)
def test_tables_are_checked_alike(table):
    found = []
    for name in ("cython", "python"):
        with _backend.forced(name):
            kernel, bars = _backend.kernel("portfolio"), np.full(len(table), -1)
            found.append((kernel.are_prices(table, 1e-30, 1e30), kernel.find_events(table, bars, 0.75), bars.tolist()))
    assert found[0] == found[1]
    is_event, is_none = np.isfinite(table).all(axis=1), np.isnan(table).all(axis=1)
    wrong = np.flatnonzero(~(is_event | is_none))
    n_seen = wrong[0] if len(wrong) else len(table)
    assert found[0][0] == bool(((table >= 1e-30) & (table <= 1e30)).all())
    with np.errstate(over="ignore"):
        heavy = np.flatnonzero(is_event[:n_seen] & (np.abs(table[:n_seen]).sum(axis=1) > 0.75))
    assert found[0][1] == (is_event[:n_seen].sum(), wrong[0] if len(wrong) else -1, heavy[0] if len(heavy) else -1)
    assert found[0][2][: found[0][1][0]] == np.flatnonzero(is_event[:n_seen]).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "sign", "mutant"),
    [
        ("portfolio", "cash_before - (units * price + cost)", "cash_before - (units * price - cost)"),
        ("portfolio", "if self.units[asset] < 0.0:", "if self.units[asset] <= 0.0 or True:"),
        ("portfolio", "if self.tracks_positions and moment == OPEN", "if self.tracks_positions and moment == CLOSE"),
        ("portfolio", "if reason != DELISTED else 0.0", "if True else 0.0"),
        ("_orders", "target * base / quote - before", "target * base / quote + before"),
        ("_orders", "marks[bar - 1]", "marks[bar]"),
        ("_orders", "else quote * (1.0 - slippage)", "else quote * (1.0 + slippage)"),
        ("_orders", "gross[asset % LANES] += abs(value)", "gross[asset % LANES] += value"),
        ("_orders", "least = base * (1.0 - total)", "least = base * total"),
        ("_orders", "order - (1.0 - factor) * after", "factor * order"),
        ("_orders", "self.waiting[asset] = self.last_targets[asset]", "pass"),
    ],
)
def test_a_changed_twin_does_not_pass(part, sign, mutant, monkeypatch):
    source = pure_source(part)
    assert source.count(sign) == 1, f"{sign!r} is not there once"
    changed = copy_of_twin("portfolio", part, source.replace(sign, mutant), monkeypatch)
    rng = np.random.default_rng(4)
    differs = False
    for case in range(12):
        weights, close, open_ = random_book(rng)
        kwargs = {
            "close": close,
            "open": open_,
            "costs": bt.Costs(fee_rate=0.002, slippage=0.001, borrow_rate=0.5, fixed=1.0),
            "periods_per_year": 252.0,
            "delisted": ("keep", "write_off")[case % 2],
        }
        with _backend.forced("cython"):
            right = outputs(weights, kwargs)
        with _backend.forced("python") as pure, warnings.catch_warnings():
            monkeypatch.setitem(pure.kernels, "portfolio", changed)
            wrong = outputs(weights, kwargs)
        differs |= any(a.tobytes() != b.tobytes() for a, b in zip(right, wrong, strict=True))
    assert differs


def test_the_random_books_meet_everything():
    """The comparison above is no comparison of empty books."""
    rng = np.random.default_rng(5)
    reasons, n_waited = set(), 0
    for case in range(20):
        weights, close, open_ = random_book(rng)
        delisted = ("keep", "write_off")[case % 2]
        book = simulated(weights, {"close": close, "open": open_, "costs": bt.Costs.zero(), "delisted": delisted})
        reasons |= {records.REASONS[code] for code in book.fills["reason"]}
        n_waited += int((book.fills["fill_bar"] > book.fills["decision_bar"] + 1).sum())
    assert n_waited > 10
    assert reasons == {"", "signal", "reverse", "delisted"}

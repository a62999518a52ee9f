"""Live parity of books with vectorbt's ``Portfolio.from_orders``: target percent, shared cash."""

import numpy as np
import pandas as pd
import pytest

import backtest as bt

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peers' own warnings are theirs

CASH = 10_000.0


@pytest.fixture(scope="module")
def vbt():
    return pytest.importorskip("vectorbt", reason="extra `peers` is not installed")


def random_case(rng, sides):
    """Prices, weights with events now and then, costs.  Long books keep cash for their costs: vectorbt would cut the orders."""
    n_bars, n_assets = int(rng.integers(20, 120)), int(rng.integers(1, 8))
    close = 100 * np.exp(np.cumsum(rng.normal(0, rng.choice([0.005, 0.02]), (n_bars, n_assets)), axis=0))
    weights = rng.random((n_bars, n_assets)) * (rng.random((n_bars, n_assets)) < 0.7)
    weights *= 0.9 / np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    if sides == "both":
        weights *= rng.choice([-0.7, 0.7], weights.shape)
    weights[rng.random(n_bars) < rng.choice([0.0, 0.5, 0.9])] = np.nan
    return close, weights, float(rng.choice([0.0, 0.001, 0.01])), float(rng.choice([0.0, 0.001])), float(rng.choice([0.0, 1.0]))


@pytest.mark.parametrize("sides", ["long", "both"])
def test_vectorbt_from_orders(vbt, sides):
    """Value at every bar, and bars, prices, sizes, fees and profit of every exit trade, to 1e-9; statistics of each side."""
    rng = np.random.default_rng(7)
    n_cases = n_trades = n_reversals = 0
    while n_cases < 120:
        close, weights, fee_rate, slippage, fixed = random_case(rng, sides)
        theirs = vbt.Portfolio.from_orders(
            pd.DataFrame(close),
            size=pd.DataFrame(weights),
            size_type="targetpercent",
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            fees=fee_rate,
            fixed_fees=fixed,
            slippage=slippage,
            init_cash=CASH,
            freq="1D",
            direction="longonly" if sides == "long" else "both",
        )
        book = bt.simulate(
            weights,
            close=close,
            fill="close",
            start_cash=CASH,
            periods_per_year=365.0,
            costs=bt.Costs(fee_rate=fee_rate, slippage=slippage, fixed=fixed),
        )
        if fixed and len(theirs.orders.records) < len(book.fills):
            continue  # vectorbt leaves sales out that would not earn their fixed fee
        n_cases += 1
        np.testing.assert_allclose(book.equity, theirs.value().to_numpy(), rtol=1e-9)
        np.testing.assert_allclose(book.returns, theirs.returns().to_numpy(), rtol=0, atol=1e-9)
        from_first = book.equity / book.equity.cummax() - 1  # theirs begins with the first value, ours with the start cash
        np.testing.assert_allclose(from_first, theirs.drawdown().to_numpy(), rtol=0, atol=1e-9)
        records = theirs.exit_trades.records
        records = records[records["status"] == 1].sort_values(["exit_idx", "col"], kind="stable")
        trades = book.trades.sort_values(["exit_bar", "asset"], kind="stable")
        assert len(trades) == len(records)
        for mine, other in (
            ("asset", "col"),
            ("entry_bar", "entry_idx"),
            ("exit_bar", "exit_idx"),
            ("entry_price", "entry_price"),
            ("exit_price", "exit_price"),
            ("units", "size"),
            ("entry_cost", "entry_fees"),
            ("exit_cost", "exit_fees"),
            ("return", "return"),
        ):
            of_mine = trades[mine].abs() if mine == "units" else trades[mine]
            np.testing.assert_allclose(of_mine, records[other], rtol=1e-9, atol=1e-9, err_msg=mine)
        np.testing.assert_allclose(trades["net_profit"], records["pnl"], rtol=1e-9, atol=1e-9 * CASH)
        assert (trades["side"] == "short").tolist() == (records["direction"] == 1).tolist()
        again = bt.track_trades(theirs.orders.records, close=close)  # their ledger, our trades
        streaks = ["longest_winning_streak", "longest_losing_streak"]  # theirs sell before they buy, ours go by column
        ours, of_theirs = (each.statistics().drop(streaks) for each in (book.tracked, again))
        np.testing.assert_allclose(of_theirs, ours, rtol=1e-6, atol=1e-6)
        n_trades += len(trades)
        n_reversals += int((trades["exit_reason"] == "reverse").sum())
    assert n_trades > 4000
    assert (n_reversals > 1000) == (sides == "both")


def test_statistics_of_vectorbt(vbt):
    """Where the definitions agree, their names: see docs/definitions.md for where they do not."""
    rng = np.random.default_rng(8)
    for _ in range(10):
        close, weights, fee_rate, slippage, _ = random_case(rng, "both")
        theirs = vbt.Portfolio.from_orders(
            pd.DataFrame(close),
            size=pd.DataFrame(weights),
            size_type="targetpercent",
            cash_sharing=True,
            group_by=True,
            call_seq="auto",
            fees=fee_rate,
            slippage=slippage,
            init_cash=CASH,
            freq="1D",
        ).exit_trades
        book = bt.simulate(
            weights, close=close, fill="close", start_cash=CASH, costs=bt.Costs(fee_rate=fee_rate, slippage=slippage)
        )
        if len(book.trades) < 20:
            continue
        statistics = book.trade_statistics()
        for column, of in (("All", theirs.closed), ("Long", theirs.long.closed), ("Short", theirs.short.closed)):
            mine = statistics[column]
            assert mine["n_trades"] == of.count()
            np.testing.assert_allclose(
                [mine["win_rate"], mine["profit_factor"], mine["net_profit"], mine["largest_profit"], mine["largest_loss"]],
                [of.win_rate(), of.profit_factor(), of.pnl.sum(), of.pnl.max(), of.pnl.min()],
                rtol=1e-7,
            )

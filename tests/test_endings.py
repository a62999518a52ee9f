"""Prices that end or are missing: what cannot be sold pays for nothing; what is kept, what is written off, and what is said."""

import hashlib
import math
import re

import numpy as np
import pandas as pd
import pytest
from cases import simulated
from test_cli import invoke
from test_portfolio import of_oracle
from test_portfolio_cli import folder  # noqa: F401  # a fixture

import backtest as bt
from backtest import allocation

FREE = bt.Costs.zero()
NAN = math.nan
DAYS = pd.bdate_range("2024-01-01", periods=4)
CLOSE = pd.DataFrame({"A": [100.0, 110, 120, 130], "B": [100, NAN, NAN, NAN]}, index=DAYS)
WEIGHTS = pd.DataFrame({"A": [0.5, NAN, 1, NAN], "B": [0.5, NAN, 0, NAN]}, index=DAYS)
ENDED = r"prices end while they are held: 'B' at bar 0; to the last bar \(3\) .*, 50,000\.00 of 115,000\.00; delisted="
on_both = pytest.mark.usefixtures("backend")


def traded(weights=WEIGHTS, close=CLOSE, fill="close", costs=FREE, **more):
    return bt.simulate(weights, close=close, fill=fill, costs=costs, **more)


# --- kept, or written off -----------------------------------------------------------------------------------------------


@on_both
def test_an_ended_asset_is_kept_at_its_last_price_and_buys_nothing():
    with pytest.warns(bt.NumericsWarning, match=ENDED) as said:
        book = traded()
    assert len(said) == 1
    assert book.equity.tolist() == [100_000, 105_000, 110_000, 115_000]
    assert book.cash.tolist() == [0, 0, 0, 0]
    assert book.units.iloc[-1].tolist() == [500, 500]
    assert book.account_statistics()["stale_value"] == book.stale_value == 50_000
    assert book.to_dict()["account_statistics"]["stale_value"] == 50_000
    assert book.stats["max_drawdown"] == 0


@on_both
def test_an_ended_asset_is_written_off_at_the_bar_after_its_last_price():
    book = traded(delisted="write_off", delisted_after=0)  # and nothing is said
    assert book.equity.tolist() == [100_000, 55_000, 60_000, 65_000]
    assert book.stale_value == 0
    trade = book.trades.iloc[0]
    assert (trade.asset, trade.exit_bar, trade.exit_price, trade.exit_reason) == ("B", 1, 0.0, "delisted")
    assert (trade.net_profit, trade["return"], trade.mae, trade.mfe) == (-50_000, -1.0, -50_000, 0.0)
    row = book.orders.iloc[2]
    assert (row.asset, row.decision_bar, row.fill_bar, row.moment, row.units, row.price) == ("B", 1, 1, "open", -500, 0)
    assert (row.cost, row.cash_before, row.cash_after) == (0, 0, 0)
    assert book.contribution.to_dict() == {"A": 15_000, "B": -50_000}
    assert book.open_positions["asset"].tolist() == ["A"]
    assert book.stats["max_drawdown"] == pytest.approx(-0.45)
    assert book.stats["buy_hold_return"] == pytest.approx(-0.35)  # what it is compared with is written off too


@on_both
def test_a_short_gains_all_it_was_sold_for_and_costs_nothing():
    close, weights = CLOSE.assign(A=100.0), WEIGHTS.assign(A=[0.5, NAN, NAN, NAN], B=[-0.5, NAN, NAN, NAN])
    costs = bt.Costs(fee_rate=0.01, fixed=7.0, borrow_rate=0.5)
    book = traded(weights, close, costs=costs, delisted="write_off", delisted_after=3, periods_per_year=252)
    statistics = book.trade_statistics()
    assert statistics.loc["net_profit"].tolist() == [50_000 - 507, 0, 50_000 - 507]
    assert statistics.loc["costs_paid", "Short"] == 507  # of the entry: held into no close
    assert (book.trades["exit_cost"] == 0).all()
    assert book.equity.tolist() == pytest.approx([100_000 - 1014, *[150_000 - 1014] * 3])
    again = bt.track_trades(book.orders, close=close)
    assert again.records.tobytes() == book.tracked.records.tobytes()


@on_both
@pytest.mark.parametrize(("after", "is_gone"), [(0, True), (1, True), (3, True), (4, False), (5, False)])
def test_bars_without_a_price_are_counted(after, is_gone):
    if is_gone:
        assert traded(delisted="write_off", delisted_after=after).equity.iloc[-1] == 65_000
    else:
        with pytest.warns(bt.NumericsWarning, match=ENDED):
            assert traded(delisted="write_off", delisted_after=after).equity.iloc[-1] == 115_000


@on_both
def test_nobody_is_written_off_where_nobody_goes_on():
    book = traded(close=CLOSE.assign(A=[100.0, NAN, NAN, NAN]), delisted="write_off", delisted_after=0)  # and nothing is said
    assert book.equity.tolist() == [100_000] * 4
    assert book.stale_value == 100_000


@on_both
def test_a_bust_by_a_write_off():
    book = traded(WEIGHTS.assign(A=[-1.0, NAN, NAN, NAN], B=[2.0, NAN, NAN, NAN]), delisted="write_off", delisted_after=0)
    assert book.equity.tolist() == [100_000, 0, 0, 0]
    assert book.trades["exit_reason"].tolist() == ["delisted", "bust"]
    assert book.trades["written_off"].sum() == book.trade_statistics().loc["written_off", "All"] == 110_000
    assert book.contribution.sum() == pytest.approx(-100_000)
    alone = traded(WEIGHTS.assign(A=[1e-15, NAN, NAN, NAN], B=[1.5, NAN, NAN, NAN]), delisted="write_off", delisted_after=0)
    assert alone.equity.tolist() == [100_000, 0, 0, 0]  # nothing is left to close
    assert alone.trades["written_off"].tolist() == [50_000]
    assert alone.trade_statistics().loc["written_off"].tolist() == [50_000, 50_000, 0]


@on_both
def test_windows_see_the_same_ends():
    n = 12
    days = pd.bdate_range("2024-01-01", periods=n)
    close = pd.DataFrame({"A": np.linspace(100, 111, n), "B": [100.0] * 4 + [NAN] * 8}, index=days)
    weights = np.full((n, 2), 0.5)
    more = {"delisted": "write_off", "index": close.index}
    early = traded(weights, close, window=slice(0, 6), **more).trades
    assert early.query("exit_reason == 'delisted'")["exit_bar"].tolist() == [4]
    later = traded(weights, close, window=slice(6, n), **more)
    assert later.orders["asset"].unique().tolist() == ["A"]
    assert later.stats["buy_hold_return"] == pytest.approx(111 / close["A"].iloc[5] - 1)  # of what could be bought
    kept = traded(weights, close, window=slice(6, n))
    assert kept.stats["buy_hold_return"] == later.stats["buy_hold_return"]
    with pytest.warns(bt.NumericsWarning, match="'B' at bar 3; to the last bar"):
        traded(weights, close, window=slice(0, 6))


@on_both
def test_a_weekend_is_no_end():
    """Beside an asset that trades every day one that does not is no news, but what its value rests on is told."""
    days = pd.date_range("2024-01-01", periods=14)  # ends on a Sunday
    close = pd.DataFrame({"coin": 100.0, "stock": np.where(days.day_of_week < 5, 50.0, NAN)}, index=days)
    book = traded(pd.DataFrame(NAN, index=days, columns=close.columns).fillna(0.5, limit=1), close)
    assert book.stale_value == 50_000


# --- what cannot be sold pays for nothing -----------------------------------------------------------------------------


def event(held, targets, prices, costs=FREE, fill="close", **more):
    """Units after an event at prices of 100 and another one; NaN says that an asset cannot trade at the second.  And cash."""
    close = np.array([[100.0] * len(held), prices, [100.0] * len(held)])
    book = simulated(
        np.array([held, targets, [NAN] * len(held)]),
        {"close": close, "fill": fill, "costs": costs, "start_cash": 1000.0, "periods_per_year": 252.0} | more,
    )
    return book.units.iloc[1].round(9).tolist(), round(book.cash.iloc[1], 9)


@on_both
@pytest.mark.parametrize(
    ("held", "targets", "prices", "units", "cash"),
    [
        ([0.5, 0.5, 0], [0.5, 0, 0.5], [100, NAN, 100], [5, 5, 0], 0),  # there is no money at all
        ([0.5, 0.3, 0], [0.5, 0, 0.5], [100, NAN, 100], [5, 3, 2], 0),  # 200 for what should cost 500: a factor of 0.4
        ([0.5, 0.3, 0, 0], [0.5, 0, 0.4, 0.1], [100, NAN, 100, 100], [5, 3, 1.6, 0.4], 0),  # one factor for all
        ([0.5, 0.5, 0], [0.2, 0, 0.8], [100, NAN, 100], [2, 5, 3], 0),  # sales are not cut, and pay
        ([0.5, 0.5, 0], [0, 0, 0], [100, NAN, 100], [0, 5, 0], 500),
        ([0, 0.5, 0], [0.5, 0, -0.5], [100, NAN, 100], [5, 5, -5], 500),  # there is enough
        ([0, 1, 0], [0.75, 0, -0.25], [100, NAN, 100], [0, 10, 0], 0),  # short sales alone could be paid for: one factor for all
        ([0, 1, 0], [0.25, 0, -0.75], [100, NAN, 100], [2.5, 10, -7.5], 500),  # these pay
        ([0.5, 0.5, 0], [-0.5, 0, 1], [100, NAN, 100], [-5, 5, 10], 0),  # what is held is sold, the short sale pays for the rest
        ([0.5, 0.5, 0], [-0.2, 0, 1.2], [100, NAN, 100], [-1, 5, 6], 0),  # a factor of 0.5, but not of what is held
        ([0.5, 0.5], [1, 0.5], [100, NAN], [10, 5], -500),  # debt that the weights ask for
        ([0.5, 0.5], [1.5, 0], [100, NAN], [10, 5], -500),  # and no more
        ([1, 1], [1.5, 0], [100, NAN], [10, 10], -1000),  # more than they ask for (-500) is owed already
        ([-1, 1.5], [0, 0], [100, NAN], [-5, 15], 0),  # to cover is to buy
    ],
)
def test_what_cannot_be_sold_pays_for_nothing(held, targets, prices, units, cash):
    assert event(held, targets, prices) == (units, cash)


@on_both
def test_costs_are_in_what_is_left():
    costs = bt.Costs(fee_rate=0.01, slippage=0.02)
    units, cash = event([0, 0.3, 0], [0, 0, 1], [100, NAN, 100], costs)
    assert 0 <= cash < 1e-8
    assert units[2] == pytest.approx((1000 - 300 * 1.02 * 1.01) / (100 * 1.02 * 1.01), rel=1e-9)
    assert event([0.4, 0.3, 0], [0.4, 0, 0.6], [100, NAN, 100], costs, reserve_costs=True)[1] < 1e-8
    assert event([0.5, 0.2, 0], [0.5, 0.2, 0.3], [100, NAN, 100], costs, start_cash=1000.0)[1] == pytest.approx(0, abs=1e-8)


@on_both
def test_it_is_the_largest_factor():
    """Long books without costs: what is bought is what there is, to the last cent, and never more than was asked for."""
    rng, n_cut = np.random.default_rng(2), 0
    for _ in range(100):
        n = int(rng.integers(2, 9))
        held, targets = (w / max(w.sum() * 1.01, 1) for w in rng.random((2, n)))
        targets[rng.random(n) < 0.3] = 0
        stuck = rng.random(n) < 0.4
        stuck[0] = False
        units, cash = event(held.tolist(), targets.tolist(), np.where(stuck, NAN, 100.0).tolist())
        order = np.where(stuck, 0.0, 10 * (targets - held))
        bought, there = 100 * order[order > 0].sum(), 1000 * (1 - held.sum()) - 100 * order[order < 0].sum()
        factor = min(1.0, there / bought) if bought and stuck.any() else 1.0
        n_cut += factor < 1
        assert units == pytest.approx((10 * held + np.where(order > 0, factor * order, order)).tolist(), abs=1e-6)
        assert cash >= 0
    assert n_cut > 10


@on_both
def test_at_opens_what_was_cut_waits_for_the_money():
    """Two of three assets do not trade on bars 2 and 3; what the third should buy is bought when they have been sold."""
    days = np.full((6, 3), 100.0)
    opens = days.copy()
    opens[2:4, 1:] = NAN
    weights = np.full((6, 3), NAN)
    weights[0], weights[1] = [0.4, 0.4, 0.2], [0.9, 0, 0.1]
    book = bt.simulate(weights, close=days, open=opens, costs=FREE, start_cash=1000.0)
    assert book.units.to_numpy().tolist() == [[0, 0, 0], [4, 4, 2], [4, 4, 2], [4, 4, 2], [9, 0, 1], [9, 0, 1]]
    assert book.cash.tolist() == [1000, 0, 0, 0, 0, 0]
    assert book.orders[["asset", "decision_bar", "fill_bar"]].to_numpy().tolist()[3:] == [[0, 1, 4], [1, 1, 4], [2, 1, 4]]
    assert book.unfilled.empty
    opens[2:, 1:] = NAN  # they never come back
    with pytest.warns(bt.NumericsWarning, match="prices end while they are held"):
        book = bt.simulate(weights, close=np.where(np.isnan(opens), NAN, days), open=opens, costs=FREE, start_cash=1000.0)
    assert book.units.iloc[-1].tolist() == [4, 4, 2]
    assert book.unfilled[["asset", "target"]].to_numpy().tolist() == [[0, 0.9], [1, 0], [2, 0.1]]
    waiting = book.orders.query("status == 'unfilled'")
    assert waiting[["asset", "decision_bar", "fill_bar", "side", "reason"]].to_numpy().tolist() == [
        [0, 1, -1, "buy", "entry"],
        [1, 1, -1, "sell", "signal"],
        [2, 1, -1, "sell", "signal"],
    ]
    assert waiting[["time", "units", "price", "value", "cost", "cash_after"]].isna().all(axis=None)


@on_both
def test_an_asset_that_is_only_wanted_stops_nobody():
    opens = np.array([[100.0, NAN]] * 3)
    weights = np.array([[0.5, 0.5], [NAN, NAN], [NAN, NAN]])
    book = bt.simulate(weights, close=[[100.0, 100.0]] * 3, open=opens, costs=bt.Costs(fee_rate=0.1), start_cash=1000.0)
    assert book.units.iloc[-1].tolist() == [5, 0]


def test_books_that_end_meet_the_oracle():
    rng, n_delisted = np.random.default_rng(6), 0
    for case in range(40):
        n_bars, n_assets = 30, int(rng.integers(2, 6))
        close = 100 * np.cumprod(1 + rng.integers(-20, 21, (n_bars, n_assets)) / 200, axis=0)
        opens = close * 1.01
        for asset in range(1, n_assets):
            end = rng.integers(5, 2 * n_bars)
            close[end:, asset] = opens[end:, asset] = NAN
        opens[rng.random(close.shape) < 0.1] = NAN
        weights = rng.choice([0.0, 0.5, 1.0, -0.5], close.shape) / n_assets * 2
        weights[rng.random(n_bars) < 0.7] = NAN
        kwargs = {
            "close": close,
            "open": opens,
            "fill": ("close", "next_open")[case % 2],
            "start_cash": 1000.0,
            "reinvest": case % 5 > 0,
            "reserve_costs": case % 3 == 0,
            "periods_per_year": 252.0,
            "costs": bt.Costs(fee_rate=0.002, slippage=0.001),
            "delisted": ("keep", "write_off")[case // 2 % 2],
            "delisted_after": case % 7,
        }
        book = simulated(weights, kwargs)
        values, _, ledger, trades, _ = of_oracle(weights, kwargs)
        np.testing.assert_allclose(book.equity, values, rtol=1e-9, atol=1e-6)
        assert len(book.fills) == len(ledger)
        assert book.trades["exit_reason"].tolist() == [trade["exit_reason"] for trade in trades]
        n_delisted += (book.trades["exit_reason"] == "delisted").sum()
    assert n_delisted > 5


#: What of a book's records is compared; other fields may come.
SUMMED = (
    "end_equity",
    "sum_return",
    "sum_return_2",
    "sum_downside_2",
    "max_drawdown",
    "traded_value",
    "costs",
    "n_fills",
    "won",
    "lost",
    "sum_trade_return_2",
)
ADDED = ("n_trades", "costs", "net_profit", "won", "lost", "sum_mfe", "sum_mae", "longest_losing_streak")
FILLED = ("decision_bar", "fill_bar", "asset", "units", "price", "cost", "cash_after", "position_after", "reason")
TRADED = (
    "entry_bar",
    "exit_bar",
    "units",
    "entry_price",
    "exit_price",
    "entry_cost",
    "borrow_cost",
    "net_profit",
    "return_",
    "mfe",
    "mae",
)


def lattice_book(seed):
    """A book with all its prices, from whole numbers alone: the same on every machine and with every NumPy."""
    state, n_bars, n_assets = seed * 7919 + 1, 40, 1 + seed % 9

    def numbers(n):
        nonlocal state
        drawn = []
        for _ in range(n):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            drawn.append(state >> 40)
        return np.array(drawn).reshape(n_bars, -1)

    close = 50.0 + numbers(n_bars * n_assets) % 400 / 4
    opens = close + (numbers(n_bars * n_assets) % 9 - 4) / 8
    weights = (numbers(n_bars * n_assets) % 9 - 3) / 4 / n_assets
    weights[numbers(n_bars)[:, 0] % 3 > 0] = NAN
    costs = bt.Costs(fee_rate=0.002, slippage=0.001, fixed=float(seed % 2), borrow_rate=0.1 * (seed % 3))
    return weights, {
        "close": close,
        "open": opens,
        "costs": costs,
        "fill": ("close", "next_open")[seed // 3 % 2],
        "reserve_costs": seed % 4 == 0,
        "reinvest": seed % 5 > 0,
        "periods_per_year": 252.0,
    }


@on_both
def test_books_with_all_their_prices_are_what_they_were():
    digest = hashlib.sha256()
    for seed in range(24):
        book = simulated(*lattice_book(seed))
        digest.update(book._account.tobytes())
        trades = book.tracked.records
        for table, names in ((book.sums, SUMMED), (book._trade_sums, ADDED), (book.fills, FILLED), (trades, TRADED)):
            for name in names:
                digest.update(np.ascontiguousarray(table[name]).tobytes())
    assert digest.hexdigest() == "96d3068c5aac1d5eda5431e8697aa1f6fcbd964c02606d5461c922f3b6f77a30"


# --- weights ------------------------------------------------------------------------------------------------------------


def test_percents_are_no_weights():
    percents = WEIGHTS * 100
    whole = CLOSE.assign(B=100.0)
    with pytest.raises(bt.InputError, match=r"at most 10, regardless of sign, got 100 \(row 0\); .* 0\.5 for 50 %"):
        traded(percents, whole)
    assert traded(percents, whole, max_gross=100).orders["units"].tolist()[:2] == [50_000, 50_000]
    assert traded(percents, whole, max_gross=math.inf).sums["n_fills"] > 0
    tenths = pd.DataFrame(0.1, index=DAYS, columns=range(100))
    traded(tenths, tenths * 0 + 100.0)  # a hundred times 0.1 is a little more than 10, and is 10
    with pytest.raises(bt.ObjectiveError, match=r"rule at \{'n': 1\}: weights of an event must add up to at most 10"):
        bt.optimize_weights(lambda params: percents, {"n": [1]}, close=whole, fill="close", costs=FREE)
    found = bt.optimize_weights(
        lambda params: percents,
        {"n": [1]},
        close=whole,
        fill="close",
        costs=FREE,
        max_gross=100,
        min_trades=0,
        metric="total_return",
    )
    assert found.best.equity.iloc[0] == 100_000


def test_an_asset_without_a_weight_is_told():
    whole = CLOSE.assign(B=100.0)
    with pytest.warns(bt.NumericsWarning, match="assets have prices and weight 0 at every event: 'B'") as said:
        traded(WEIGHTS.assign(B=[0, NAN, 0, NAN]), whole)
    assert len(said) == 1
    with pytest.warns(bt.NumericsWarning, match="at every event: 'A'"):
        traded(WEIGHTS.assign(A=[0, NAN, 0, NAN], B=[0, NAN, 1, NAN]), whole)
    traded(WEIGHTS.assign(A=[0, NAN, 0, NAN], B=[0, NAN, 0, NAN]), whole)  # a book that holds nothing means it
    traded(WEIGHTS.assign(B=[0, NAN, 0, NAN]), CLOSE.assign(B=[NAN, 7.0, NAN, NAN]))  # no price at any event
    with pytest.warns(bt.NumericsWarning, match="at every event: 'B'"):
        traded(WEIGHTS, whole, window=slice(2, 4))


def test_a_search_says_what_ends_and_trades_as_simulate_does():
    def rule(params):
        return WEIGHTS * params["share"]

    common = {"close": CLOSE, "fill": "close", "costs": FREE, "min_trades": 0, "metric": "total_return"}
    with pytest.warns(bt.NumericsWarning, match=r"prices end before the last bar \(3\): 'B' at bar 0; books that hold"):
        kept = bt.optimize_weights(rule, {"share": [0.5, 1.0]}, **common)
    gone = bt.optimize_weights(rule, {"share": [0.5, 1.0]}, **common, delisted="write_off", delisted_after=0)
    assert kept.table["total_return"].to_dict() == {0.5: 0.09375, 1.0: pytest.approx(0.15)}
    assert gone.table.loc[1.0, "total_return"] == pytest.approx(-0.35)
    assert gone.provenance["rules"]["delisted"] == "write_off"
    with pytest.warns(bt.NumericsWarning, match=ENDED):
        assert kept.best.equity.iloc[-1] == 115_000


def test_stock_and_coin_share_the_risk():
    """An asset that trades five days a week has its own last returns beside one that trades on seven."""
    days, rng = pd.date_range("2024-01-01", periods=120), np.random.default_rng(0)
    coin, stock = (pd.Series(100 * np.exp(np.cumsum(rng.normal(0, each, 120))), index=days) for each in (0.04, 0.01))
    stock = stock[days.day_of_week < 5]
    close = pd.DataFrame({"coin": coin, "stock": stock})
    weights = allocation.inverse_volatility(close, 20)
    assert (weights[:20] == 0).all()
    for row in (34, 60, 90, 119):  # Sundays and others
        own = [each[: days[row]].pct_change().iloc[-20:].std() for each in (coin, stock)]
        np.testing.assert_allclose(weights[row], (1 / np.array(own)) / (1 / np.array(own)).sum(), rtol=1e-12)
    assert traded(weights, close, window=slice(30, 120)).stats["exposure"] == 1.0
    ended = close.assign(stock=close["stock"].where(days < days[60]))
    shares = allocation.inverse_volatility(ended, 20)[:, 1]
    assert (shares[60:79] > 0.5).all()
    assert (shares[80:] == 0).all()  # no price on the last 20 bars
    with pytest.raises(bt.DataError, match=r"close must be > 0, got 0\.0 \(row 3, asset 'coin'\)"):
        allocation.inverse_volatility(close.assign(coin=[100.0] * 3 + [0.0] * 117), 20)


# --- on the command line ----------------------------------------------------------------------------------------------


def test_a_configuration_says_what_becomes_of_them(folder):  # noqa: F811
    CLOSE.to_csv(folder / "close.csv", index_label="date")
    WEIGHTS.dropna().to_csv(folder / "weights.csv", index_label="date")
    text = (
        '[data]\nclose = "close.csv"\nweights = "weights.csv"\n[costs]\nfee_rate = 0.0\n[portfolio]\nfill = "close"\n'
        'delisted = "write_off"\ndelisted_after = 0\n'
    )
    for more, end in (("", 65_000.0), ("max_gross = 1.0\n", 65_000.0)):
        (folder / "p.toml").write_text(text + more)
        code, out = invoke("portfolio", "p.toml", "--out", "o")
        assert code == 0, out
        assert pd.read_csv(folder / "o" / "equity.csv")["equity"].tolist() == [100_000.0, 55_000.0, 60_000.0, end]
        assert "Value on stale prices" in out
    for change, message in (
        ("max_gross = 0.9\n", "must add up to at most 0.9"),
        ('delisted = "drop"\n', "delisted must be one of"),
    ):
        (folder / "p.toml").write_text(re.sub(r"delisted = .*\n" if "delisted" in change else "$^", "", text) + change)
        code, out = invoke("portfolio", "p.toml")
        assert code == 2, out
        assert message in out
    assert "delisted" in invoke("example", "portfolio")[1]

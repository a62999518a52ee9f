"""Weights to fills to trades to statistics: the definitions' fixtures, an oracle in plain floats, invariants, bad input."""

import math

import numpy as np
import oracle_portfolio
import pandas as pd
import pytest
from cases import simulated, weight_cases
from hypothesis import given, settings

import backtest as bt

FREE = bt.Costs.zero()
DAYS = pd.bdate_range("2024-01-01", periods=12)


def at_close(weights, close, costs=FREE, **more):
    return bt.simulate(np.array(weights, dtype=float), close=np.array(close, dtype=float), fill="close", costs=costs, **more)


def flat(n=3):
    return np.full(n, 100.0)


pytestmark = []
on_both = pytest.mark.usefixtures("backend")
NAN = math.nan


# --- fixtures that must hold exactly ----------------------------------------------------------------------------------


@on_both
def test_flat_price_in_and_out_costs_twenty():
    book = at_close([0, 1, 0], flat(), bt.Costs(fee_rate=0.01), start_value=1000.0)
    statistics = book.statistics()
    assert statistics.loc["n_trades"].tolist()[:2] == [1, 1]
    assert statistics.loc["costs_paid", "All"] == 20
    assert book.trades["entry_cost"].tolist() == book.trades["exit_cost"].tolist() == [10]
    assert book.value.tolist() == [1000, 990, 980]


@on_both
def test_less_weight_sells_the_difference():
    book = at_close([1, 0.4], flat(2))
    assert book.fills["units"].tolist() == [1000, -600]
    assert book.cash.iloc[-1] == 60_000


@on_both
def test_through_zero_is_one_row():
    book = at_close([1, -1], flat(2))
    assert book.fills["units"].tolist() == [1000, -2000]
    assert book.trades["exit_reason"].tolist() == ["reverse"]
    assert book.open_positions["units"].tolist() == [-1000]


@on_both
def test_first_costs_are_in_the_first_return():
    book = at_close([1, NAN], flat(2), bt.Costs(fee_rate=0.001))
    assert book.value.tolist() == [99_900, 99_900]
    assert book.returns.tolist() == [-0.001, 0.0]


@on_both
def test_one_event_and_then_nothing_drifts():
    book = at_close([[0.5, 0.5], [NAN, NAN], [NAN, NAN]], [[100, 100], [110, 90], [100, 100]], start_value=1000.0)
    assert book.value.tolist() == [1000, 1000, 1000]
    assert len(book.fills) == 2


@on_both
def test_a_bar_without_a_price_is_valued_at_the_last_one():
    book = at_close([1, NAN, NAN], [100, NAN, 100])
    assert book.returns.tolist() == [0, 0, 0]


# --- events, fills, waiting -------------------------------------------------------------------------------------------


@on_both
def test_repeated_weights_trade_the_drift_back():
    book = at_close([[0.5, 0.5], [0.5, 0.5]], [[100, 100], [120, 80]], start_value=1000.0)
    assert book.fills["units"].tolist() == pytest.approx([5, 5, 500 / 120 - 5, 500 / 80 - 5])
    assert at_close([[0.5, 0.5], [0.5, 0.5]], [[100, 100], [100, 100]]).fills.shape == (2,)  # nothing to trade back


@on_both
def test_a_mask_says_which_rows_are_traded():
    book = at_close([0.5, 1, NAN], flat(), rebalance=[True, False, False])
    assert book.fills["units"].tolist() == [500]


@on_both
def test_the_next_open_fills_and_the_last_event_is_dropped():
    with pytest.warns(bt.NumericsWarning, match=r"the event on the last bar \(2\) is dropped"):
        book = bt.simulate([1.0, NAN, 0.0], close=[100.0, 110, 120], open=[90.0, 105, 115], costs=FREE)
    assert len(book.fills) == 1
    fill = book.fills[0]
    assert (fill["decision_bar"], fill["fill_bar"], fill["price"], fill["units"]) == (0, 1, 105, 100_000 / 105)
    assert book.unfilled["target"].tolist() == [0.0]
    assert book.unfilled["decision_bar"].tolist() == [2]


@on_both
def test_an_asset_without_an_open_waits_for_its_first():
    open_ = np.array([[100, 100], [100, NAN], [110, NAN], [120, 50], [100, 100.0]])
    close = np.array([[100, 100], [105, 100], [115, NAN], [120, 60], [100, 100.0]])
    weights = np.full((5, 2), NAN)
    weights[0] = 0.5
    book = bt.simulate(weights, close=close, open=open_, costs=FREE, start_value=1000.0)
    rows = [(fill["asset"], fill["decision_bar"], fill["fill_bar"], fill["units"]) for fill in book.fills]
    assert rows == [(0, 0, 1, 5.0), (1, 0, 3, 0.5 * (500 + 5 * 120) / 50)]  # its share of the value at that bar's opens
    weights[2] = [0.5, 0.0]  # a later event replaces what waits
    replaced = bt.simulate(weights, close=close, open=open_, costs=FREE, start_value=1000.0)
    assert replaced.fills["asset"].tolist() == [0, 0]
    assert replaced.unfilled.empty


@on_both
def test_at_the_close_nothing_waits_and_capital_is_not_given_to_others():
    close = np.array([[100, 100], [100, NAN], [100, 50.0]])
    book = at_close([[0.5, 0.5], [0.8, 0.2], [NAN, NAN]], close, start_value=1000.0)
    assert book.units.iloc[-1].tolist() == [8, 5]
    assert book.cash.tolist() == [0, -300, -300]


@on_both
def test_sizing_by_the_start_value():
    book = at_close([1, 1], [100, 200], start_value=1000.0, reinvest=False)
    assert book.units[0].tolist() == [10, 5]


@on_both
@pytest.mark.parametrize("costs", [bt.Costs(fee_rate=0.01), bt.Costs(fee_rate=0.0, slippage=0.02),
                                   bt.Costs(fee_rate=0.0, fixed=30)])
def test_reserved_costs_leave_cash_where_it_was(costs):
    assert at_close([1, NAN], flat(2), costs, start_value=1000.0).cash.iloc[0] < -9
    reserved = at_close([1, NAN], flat(2), costs, start_value=1000.0, reserve_costs=True)
    assert 0 <= reserved.cash.iloc[0] < 1e-9
    debt = at_close([1.5, NAN], flat(2), costs, start_value=1000.0, reserve_costs=True)
    assert -500 <= debt.cash.iloc[0] < -500 + 1e-9  # what the targets ask for, and no more
    part = at_close([0.5, NAN], flat(2), costs, start_value=1000.0, reserve_costs=True)
    assert part.units[0].tolist() == [5, 5]  # there is room


@on_both
def test_shorts_pay_for_borrowing():
    costs = bt.Costs(fee_rate=0.0, borrow_rate=0.1)
    book = at_close([-1, NAN, 0], flat(), costs, start_value=1000.0, periods_per_year=100)
    assert book.value.tolist() == [1000, 999, 998]
    assert book.trades["borrow_cost"].tolist() == [2]
    assert book.statistics().loc["costs", "All"] == 2


@on_both
def test_a_bust_closes_everything_and_writes_the_rest_off():
    book = at_close([-2, NAN, NAN, 1], [100, 120, 160, 100], start_value=1000.0)
    assert book.value.tolist() == [1000, 600, 0, 0]
    assert book.returns.tolist() == [0, -0.4, -1, 0]
    assert book.trades["exit_reason"].tolist() == ["bust"]
    assert book.trades["written_off"].tolist() == [200]
    assert book.statistics().loc["written_off"].tolist() == [200, 0, 200]
    assert book.contribution.tolist() == [-1000]


@on_both
def test_a_bust_by_the_costs_of_closing():
    book = at_close([1, 0], [100, 6], bt.Costs(fee_rate=0.0, fixed=40), start_value=1000.0)
    assert book.value.tolist() == [960, 0]
    assert book.trades["exit_reason"].tolist() == ["signal"]
    assert book.statistics().loc["written_off", "All"] == book.trades["written_off"].sum() > 0


@on_both
def test_a_window_trades_inside_only():
    weights, close = np.full(6, 1.0), np.array([100, 110, 120, 130, 140, 150.0])
    book = at_close(weights, close, window=slice(2, 5))
    assert len(book.value) == 3
    assert book.units[0].iloc[0] == 100_000 / 120
    assert book.fills["fill_bar"].tolist() == [2]


# --- against the oracle -----------------------------------------------------------------------------------------------


def of_oracle(weights, kwargs):
    rules = {name: kwargs[name] for name in ("costs", "fill", "start_value", "reinvest", "reserve_costs")}
    tables = {name: kwargs[name].tolist() for name in ("close", "open", "high", "low") if name in kwargs}
    rows = [None if np.isnan(row).all() else row.tolist() for row in weights]
    return oracle_portfolio.trade_weights(rows, **tables, ppy=kwargs["periods_per_year"], **rules)


def close_to(mine, theirs, what=""):
    np.testing.assert_allclose(np.asarray(mine, dtype=float), np.asarray(theirs, dtype=float), rtol=1e-9, atol=1e-7, err_msg=what)


def is_on_an_edge(values):
    """A value within rounding of nothing: whether that is a bust is for the last bit to say."""
    return any(0 < abs(value) < 1e-6 for value in values)


@given(weight_cases())
@settings(max_examples=300)
def test_oracle(case):
    weights, kwargs = case
    book = simulated(weights, kwargs)
    values, cashes, ledger, trades, holding = of_oracle(weights, kwargs)
    if is_on_an_edge(values):
        return
    close_to(book.value, values, "value")
    close_to(book.cash, cashes, "cash")
    assert len(book.fills) == len(ledger)
    for name in ledger[0] if ledger else ():
        close_to(book.fills[name], [row[name] for row in ledger], name)
    table = book.trades
    assert len(table) == len(trades)
    for name in trades[0] if trades else ():
        if name in ("side", "exit_reason"):
            assert table[name].tolist() == [trade[name] for trade in trades]
        else:
            close_to(table[name], [trade[name] for trade in trades], name)
    for name, other in (("units", "units"), ("entry_price", "price"), ("entry_cost", "cost"), ("borrow_cost", "borrow"),
                        ("mfe", "best"), ("mae", "worst")):
        close_to(book.open_positions[name], [p[other] for p in holding if p], name)
    statistics, expected = book.statistics(), oracle_portfolio.statistics(trades)
    for column, rows in expected.items():
        for key, value in rows.items():
            if not math.isinf(value):
                close_to(statistics.loc[key, column], value, f"{key} {column}")

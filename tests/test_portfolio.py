"""Weights to fills to trades to statistics: the definitions' fixtures, an oracle in plain floats, invariants, bad input."""

import json
import math

import numpy as np
import oracle_portfolio
import pandas as pd
import pytest
from cases import simulated, weight_cases
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import backtest as bt
from backtest.tables import ACCOUNT_STATISTICS
from backtest.trades import STATISTICS

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
    book = at_close([0, 1, 0], flat(), bt.Costs(fee_rate=0.01), start_cash=1000.0)
    statistics = book.trade_statistics()
    assert statistics.loc["n_trades"].tolist()[:2] == [1, 1]
    assert statistics.loc["costs_paid", "All"] == 20
    assert book.trades["entry_cost"].tolist() == book.trades["exit_cost"].tolist() == [10]
    assert book.equity.tolist() == [1000, 990, 980]


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
    assert book.equity.tolist() == [99_900, 99_900]
    assert book.returns.tolist() == [-0.001, 0.0]


@on_both
def test_one_event_and_then_nothing_drifts():
    book = at_close([[0.5, 0.5], [NAN, NAN], [NAN, NAN]], [[100, 100], [110, 90], [100, 100]], start_cash=1000.0)
    assert book.equity.tolist() == [1000, 1000, 1000]
    assert len(book.fills) == 2


@on_both
def test_a_bar_without_a_price_is_valued_at_the_last_one():
    book = at_close([1, NAN, NAN], [100, NAN, 100])
    assert book.returns.tolist() == [0, 0, 0]


# --- events, fills, waiting -------------------------------------------------------------------------------------------


@on_both
def test_repeated_weights_trade_the_drift_back():
    book = at_close([[0.5, 0.5], [0.5, 0.5]], [[100, 100], [120, 80]], start_cash=1000.0)
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
    book = bt.simulate(weights, close=close, open=open_, costs=FREE, start_cash=1000.0)
    rows = [(fill["asset"], fill["decision_bar"], fill["fill_bar"], fill["units"]) for fill in book.fills]
    assert rows == [(0, 0, 1, 5.0), (1, 0, 3, 0.5 * (500 + 5 * 120) / 50)]  # its share of the value at that bar's opens
    weights[2] = [0.5, 0.0]  # a later event replaces what waits
    replaced = bt.simulate(weights, close=close, open=open_, costs=FREE, start_cash=1000.0)
    assert replaced.fills["asset"].tolist() == [0, 0]
    assert replaced.unfilled.empty


@on_both
def test_at_the_close_nothing_waits_and_capital_is_not_given_to_others():
    close = np.array([[100, 100], [100, NAN], [100, 50.0]])
    book = at_close([[0.5, 0.5], [0.8, 0.2], [NAN, NAN]], close, start_cash=1000.0)
    assert book.units.iloc[-1].tolist() == [5, 5]  # what cannot be sold buys nothing
    assert book.cash.tolist() == [0, 0, 0]
    book = at_close([[0.5, 0.5], [0.2, 0.8], [NAN, NAN]], close, start_cash=1000.0)
    assert book.units.iloc[-1].tolist() == [2, 5]  # and others are sold all the same


@on_both
def test_sizing_by_the_start_cash():
    book = at_close([1, 1], [100, 200], start_cash=1000.0, reinvest=False)
    assert book.units[0].tolist() == [10, 5]


@on_both
@pytest.mark.parametrize(
    "costs", [bt.Costs(fee_rate=0.01), bt.Costs(fee_rate=0.0, slippage=0.02), bt.Costs(fee_rate=0.0, fixed=30)]
)
def test_reserved_costs_leave_cash_where_it_was(costs):
    assert at_close([1, NAN], flat(2), costs, start_cash=1000.0).cash.iloc[0] < -9
    reserved = at_close([1, NAN], flat(2), costs, start_cash=1000.0, reserve_costs=True)
    assert 0 <= reserved.cash.iloc[0] < 1e-9
    debt = at_close([1.5, NAN], flat(2), costs, start_cash=1000.0, reserve_costs=True)
    assert -500 <= debt.cash.iloc[0] < -500 + 1e-9  # what the targets ask for, and no more
    part = at_close([0.5, NAN], flat(2), costs, start_cash=1000.0, reserve_costs=True)
    assert part.units[0].tolist() == [5, 5]  # there is room


@on_both
def test_shorts_pay_for_borrowing():
    costs = bt.Costs(fee_rate=0.0, borrow_rate=0.1)
    book = at_close([-1, NAN, 0], flat(), costs, start_cash=1000.0, periods_per_year=100)
    assert book.equity.tolist() == [1000, 999, 998]
    assert book.trades["borrow_cost"].tolist() == [2]
    assert book.account_statistics()["costs"] == 2


@on_both
def test_a_bust_closes_everything_and_writes_the_rest_off():
    book = at_close([-2, NAN, NAN, 1], [100, 120, 160, 100], start_cash=1000.0)
    assert book.equity.tolist() == [1000, 600, 0, 0]
    assert book.returns.tolist() == [0, -0.4, -1, 0]
    assert book.trades["exit_reason"].tolist() == ["bust"]
    assert book.trades["written_off"].tolist() == [200]
    assert book.trade_statistics().loc["written_off"].tolist() == [200, 0, 200]
    assert book.contribution.tolist() == [-1000]


@on_both
def test_a_bust_by_the_costs_of_closing():
    book = at_close([1, 0], [100, 6], bt.Costs(fee_rate=0.0, fixed=40), start_cash=1000.0)
    assert book.equity.tolist() == [960, 0]
    assert book.trades["exit_reason"].tolist() == ["signal"]
    assert book.trade_statistics().loc["written_off", "All"] == book.trades["written_off"].sum() > 0


@on_both
def test_a_window_trades_inside_only():
    weights, close = np.full(6, 1.0), np.array([100, 110, 120, 130, 140, 150.0])
    book = at_close(weights, close, window=slice(2, 5))
    assert len(book.equity) == 3
    assert book.units[0].iloc[0] == 100_000 / 120
    assert book.fills["fill_bar"].tolist() == [2]


# --- against the oracle -----------------------------------------------------------------------------------------------


def of_oracle(weights, kwargs):
    rules = {
        name: kwargs[name] for name in ("costs", "fill", "start_cash", "reinvest", "reserve_costs", "delisted", "delisted_after")
    }
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
    close_to(book.equity, values, "value")
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
    for name, other in (
        ("units", "units"),
        ("entry_price", "price"),
        ("entry_cost", "cost"),
        ("borrow_cost", "borrow"),
        ("mfe", "best"),
        ("mae", "worst"),
    ):
        close_to(book.open_positions[name], [p[other] for p in holding if p], name)
    statistics, expected = book.trade_statistics(), oracle_portfolio.statistics(trades)
    for column, rows in expected.items():
        for key, value in rows.items():
            close_to(statistics.loc[key, column], value, f"{key} {column}")


@pytest.mark.parametrize(("change", "n_orders"), [(0.5e-12, 1), (2e-12, 2)])
def test_the_smallest_order_that_counts(backend, change, n_orders):
    """Above 1e-12 of what sizes it."""
    book = bt.simulate(
        [[0.5], [0.5 + change], [np.nan]],
        close=[[100.0]] * 3,
        fill="close",
        reinvest=False,
        start_cash=1000.0,
        costs=bt.Costs.zero(),
    )
    assert len(book.fills) == n_orders


@pytest.mark.parametrize(("rest", "is_closed"), [(0.4e-12, True), (0.6e-12, False)])
def test_the_smallest_position_that_stays(backend, rest, is_closed):
    """Above 1e-12 of what was held before, here 0.5; less is a rounding error, and the order closes it."""
    book = bt.simulate(
        [[0.5], [rest], [np.nan]], close=[[100.0]] * 3, fill="close", reinvest=False, start_cash=1000.0, costs=bt.Costs.zero()
    )
    assert len(book.fills) == 2
    assert (book.fills["position_after"][-1] == 0.0) == is_closed


# --- invariants -------------------------------------------------------------------------------------------------------


def profit_of(book):
    """Net profit of what was closed and of what is open."""
    open_ = book.open_positions
    return book.trades["net_profit"].sum() + (open_["gross_profit"] - open_["entry_cost"] - open_["borrow_cost"]).sum()


@given(case=weight_cases())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])  # one backend for all examples
def test_money_is_neither_made_nor_lost(backend, case):
    """Cash and positions are the value, trades and open positions its change, assets' contributions too."""
    weights, kwargs = case
    book = simulated(weights, kwargs)
    value = book.equity.to_numpy()
    positions = (book.units * book.market.marks).sum(axis=1).to_numpy()
    scale = 1.0 + np.abs(value).max() + np.abs(positions).max()
    np.testing.assert_allclose(book.cash + positions, value, rtol=0, atol=1e-12 * scale)
    written_off = book.sums["written_off"][0]
    traded = 1.0 + book.sums["traded_value"][0] + book.sums["costs"][0]
    np.testing.assert_allclose(profit_of(book) + written_off, value[-1] - 1000.0, rtol=0, atol=1e-11 * traded)
    np.testing.assert_allclose(book.contribution.sum(), value[-1] - 1000.0, rtol=0, atol=1e-11 * traded)
    trades = book.trades
    assert (trades["mae"] <= trades["gross_profit"]).all()
    assert (trades["gross_profit"] <= trades["mfe"]).all()
    before = np.concatenate([[1000.0], value[:-1]])
    np.testing.assert_allclose(np.cumprod(1 + book.returns)[before > 0] * 1000, value[before > 0], rtol=1e-9, atol=1e-9)
    assert (book.margin_load >= 0).all()


@given(weight_cases(), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_permuting_assets_changes_nothing(case, random):
    weights, kwargs = case
    order = list(range(weights.shape[1]))
    random.shuffle(order)
    tables = {name: np.ascontiguousarray(kwargs[name][:, order]) for name in ("close", "open", "high", "low") if name in kwargs}
    first, second = simulated(weights, kwargs), simulated(np.ascontiguousarray(weights[:, order]), kwargs | tables)
    values = first.equity.to_numpy()
    if is_on_an_edge(values) or kwargs["reserve_costs"]:
        return  # a scale found by halving moves where a rounding moves it
    scale = 1e-12 * (1 + values.max() + first.sums["traded_value"][0])
    np.testing.assert_allclose(second.equity, values, rtol=0, atol=scale)
    contributions = second.contribution.to_numpy(), first.contribution.to_numpy()[order]
    np.testing.assert_allclose(*contributions, rtol=0, atol=10 * scale)


@given(weight_cases())
@settings(max_examples=60)
def test_writing_orders_down_changes_nothing(case):
    weights, kwargs = case
    book, untouched = simulated(weights, kwargs), simulated(weights, kwargs)
    assert len(book.fills) == (book.orders["status"] == "filled").sum()
    assert book.tracked is not None
    again = simulated(weights, kwargs)
    for other in (untouched, again):
        for name in ("sums", "_trade_sums", "_account", "_waiting"):
            assert getattr(book, name).tobytes() == getattr(other, name).tobytes()


@given(weight_cases(), st.sampled_from([0.25, 2.0, 1024.0]))
@settings(max_examples=60)
def test_scaling_prices_by_a_power_of_two(case, factor):
    """Prices, per-unit costs and nothing else: units shrink, values stay, bit for bit."""
    weights, kwargs = case
    costs = kwargs["costs"]
    more = {name: kwargs[name] * factor for name in ("close", "open", "high", "low") if name in kwargs}
    more["costs"] = bt.Costs(**costs.to_dict() | {"per_unit": costs.per_unit * factor})
    first, second = simulated(weights, kwargs), simulated(weights, kwargs | more)
    assert first._account.tobytes() == second._account.tobytes()
    assert first._trade_sums.tobytes() == second._trade_sums.tobytes()
    assert (first.fills["units"] == second.fills["units"] * factor).all()


@given(weight_cases(), st.integers(1, 14))
@settings(max_examples=60)
def test_later_bars_leave_earlier_trades_alone(case, n_bars):
    weights, kwargs = case
    kwargs["delisted"] = "keep"  # writing off is hindsight
    n_bars = min(n_bars, len(weights))
    head = {name: each[:n_bars] if isinstance(each, np.ndarray) else each for name, each in kwargs.items()}
    if not (np.isfinite(head["close"]) & (head["close"] > 0)).any():
        return
    whole, part = simulated(weights, kwargs), simulated(weights[:n_bars], head)
    assert whole._account[:, :n_bars].tobytes() == part._account.tobytes()
    assert whole.fills[: len(part.fills)].tobytes() == part.fills.tobytes()
    assert whole.tracked.records[: len(part.tracked)].tobytes() == part.tracked.records.tobytes()


def test_inputs_are_not_changed_and_may_be_read_only():
    rng = np.random.default_rng(0)
    close, weights = rng.random((20, 3)) + 1, rng.random((20, 3)) / 3
    kept = close.copy(), weights.copy()
    book = at_close(weights, close)
    fills = book.fills.copy()
    np.testing.assert_array_equal(close, kept[0])
    np.testing.assert_array_equal(weights, kept[1])
    later = at_close(weights, close)
    close[:], weights[:] = 7, 0  # the caller goes on using them
    assert later.fills.tobytes() == fills.tobytes()


# --- labels, times, tables --------------------------------------------------------------------------------------------


def frames():
    rng = np.random.default_rng(3)
    close = pd.DataFrame(100 * np.exp(np.cumsum(rng.normal(0, 0.02, (12, 2)), axis=0)), index=DAYS, columns=["A", "B"])
    weights = pd.DataFrame(np.full((12, 2), NAN), index=DAYS, columns=["A", "B"])
    weights.iloc[::3] = rng.choice([-0.5, 0.0, 0.5], (4, 2))
    return weights, close


@on_both
def test_frames_bring_labels_and_times():
    weights, close = frames()
    book = bt.simulate(weights, close=close, fill="close", costs=bt.Costs(fee_rate=0.001))
    assert book.equity.index.equals(DAYS)
    assert set(book.orders["asset"]) == {"A", "B"}
    assert list(book.units.columns) == ["A", "B"]
    assert book.trades["exit_time"].tolist() == [DAYS[bar] for bar in book.trades["exit_bar"]]
    held = (book.trades["duration"] / pd.Timedelta("1D")).to_numpy()
    statistics = book.trade_statistics()
    assert statistics.loc[["min_days_held", "mean_days_held", "max_days_held"], "All"].tolist() == [
        held.min(),
        held.mean(),
        held.max(),
    ]
    assert statistics.loc["trades_per_month", "All"] == len(held) / ((DAYS[-1] - DAYS[0]).days / 30.44)
    assert book.stats["cagr"] == pytest.approx((book.equity.iloc[-1] / 1e5) ** (365.25 / (DAYS[-1] - DAYS[0]).days) - 1)
    assert book.contribution.index.tolist() == ["A", "B"]


@on_both
def test_statistics_of_account_and_trades():
    weights, close = frames()
    book = bt.simulate(weights, close=close, fill="close", costs=bt.Costs(fee_rate=0.001), start_cash=5000.0)
    statistics, value = book.account_statistics(), book.equity
    assert list(statistics.index) == list(ACCOUNT_STATISTICS)
    gross = (book.units * close).abs().sum(axis=1)
    assert statistics["max_margin_load"] == pytest.approx((gross / value).max())
    assert statistics["mean_margin_load"] == pytest.approx((gross / value).mean())
    assert statistics["turnover"] == pytest.approx(book.orders["value"].abs().sum() / 5000)
    assert statistics["costs"] == pytest.approx(book.orders["cost"].sum())
    assert statistics["end_equity"] == value.iloc[-1]
    assert statistics["start_cash"] == 5000
    assert statistics["total_return"] == value.iloc[-1] / 5000 - 1
    assert statistics["max_drawdown"] == book.drawdown.min()
    trades = book.trade_statistics()
    assert list(trades.columns) == ["All", "Long", "Short"]
    assert list(trades.index) == list(STATISTICS)
    pd.testing.assert_frame_equal(trades, book.tracked.statistics())


def test_metrics_of_a_book():
    weights, close = frames()
    book = bt.simulate(weights, close=close, fill="close", costs=bt.Costs(fee_rate=0.001), benchmark=close["A"])
    assert list(book.stats.index) == list(bt.METRICS)
    assert book.stats["buy_hold_return"] == pytest.approx(close["A"].iloc[-1] / close["A"].iloc[0] - 1)
    r = book.returns
    assert book.stats["sharpe"] == pytest.approx(r.mean() / r.std() * math.sqrt(252))
    assert book.stats["volatility"] == pytest.approx(r.std() * math.sqrt(252))
    assert book.stats["exposure"] == pytest.approx((book.units != 0).any(axis=1).mean())
    equal = bt.simulate(weights, close=close, fill="close", costs=bt.Costs(fee_rate=0.001)).stats["buy_hold_return"]
    assert equal == pytest.approx((close.iloc[-1] / close.iloc[0]).mean() - 1)
    with pytest.warns(bt.NumericsWarning, match="no dates"):
        assert math.isnan(at_close([1, 0], [100, 110]).stats["sharpe"])
    assert at_close([1, 0], [100, 110], periods_per_year=252).stats["total_return"] == pytest.approx(0.1)


def test_a_book_as_json_and_as_a_table():
    from rich.console import Console

    weights, close = frames()
    book = bt.simulate(weights, close=close, fill="close", costs=FREE)
    plain = book.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["trade_statistics"]["All"]["n_trades"] == len(book.trades)
    assert plain["account_statistics"]["end_equity"] == book.equity.iloc[-1]
    assert set(plain["stats"]) == set(bt.METRICS)
    console = Console(width=100)
    with console.capture() as shown:
        console.print(book)
    assert "Completed trades" in shown.get()
    assert "Largest margin load" in shown.get()
    assert repr(book).startswith("Book(2 assets; 12 bars, total return ")


# --- searching over rules ---------------------------------------------------------------------------------------------


def momentum(close):
    """A rule: equal weights of the assets that rose over ``n`` bars, every ``every`` bars."""

    def rule(params):
        n, every = params["n"], params["every"]
        rose = np.zeros(close.shape)
        rose[n:] = close[n:] > close[:-n]
        weights = rose / np.maximum(rose.sum(axis=1, keepdims=True), 1) * params.get("share", 1.0)
        weights[np.arange(len(close)) % every != 0] = NAN
        return weights

    return rule


def walks(n_bars=150, n_assets=4):
    rng = np.random.default_rng(11)
    return 100 * np.exp(np.cumsum(rng.normal(0.0005, 0.02, (n_bars, n_assets)), axis=0))


SPACE = {"n": [5, 10, 20], "every": [1, 5]}


@on_both
def test_optimize_weights_is_simulate_for_every_candidate():
    close = walks()
    common = {"close": close, "fill": "close", "costs": bt.Costs(fee_rate=0.001), "periods_per_year": 252.0}
    result = bt.optimize_weights(momentum(close), SPACE, **common, metric="sharpe")
    assert result.n_evaluated == len(result.table) == 6
    for params, row in result.table.iterrows():
        book = bt.simulate(momentum(close)(dict(zip(result.table.index.names, params, strict=True))), **common)
        assert book.stats[list(row.index)].to_numpy().tobytes() == row.to_numpy().tobytes()
    assert result.best_value == result.table["sharpe"].max() == result.best.stats["sharpe"]
    assert isinstance(result.best, bt.Book)


@pytest.mark.parametrize("method", ["direct", "evolution"])
def test_optimize_weights_by_other_searches(method):
    close = walks()
    space = {"n": range(5, 25), "every": [1, 5], "share": {"low": 0.1, "high": 1.0}}
    result = bt.optimize_weights(
        momentum(close),
        space,
        close=close,
        fill="close",
        costs=bt.Costs(fee_rate=0.001),
        method=method,
        metric="total_return",
        n_trials=60,
        periods_per_year=252,
    )
    assert result.n_evaluated == 60
    assert result.best.stats["total_return"] == result.best_value >= 0.0


def test_optimize_weights_in_a_window_saves_and_loads(tmp_path):
    close = walks()
    window = slice(50, 120)
    common = {"close": close, "fill": "close", "costs": FREE, "window": window, "periods_per_year": 252}
    result = bt.optimize_weights(momentum(close), SPACE, **common)
    assert result.best.stats["sharpe"] == bt.simulate(momentum(close)(result.best_params), **common).stats["sharpe"]
    assert len(result.best.equity) == 70
    loaded = bt.load(result.save(tmp_path / "found"))
    pd.testing.assert_frame_equal(loaded.table, result.table)
    with pytest.raises(bt.InputError, match=r"call bt\.simulate\(rule\(result\.best_params\), close=close, costs="):
        _ = loaded.best
    assert len(pd.read_csv(tmp_path / "found" / "trades.csv")) == len(result.best.trades)
    assert pd.read_csv(tmp_path / "found" / "equity.csv")["equity"].iloc[-1] == result.best.equity.iloc[-1]


def test_optimize_weights_in_blocks_and_threads(monkeypatch):
    """What books bring along is bounded; where a block ends changes nothing."""
    close = walks()
    common = {"close": close, "fill": "close", "costs": bt.Costs(fee_rate=0.001), "periods_per_year": 252}
    whole = bt.optimize_weights(momentum(close), SPACE, **common).table
    monkeypatch.setattr("backtest.book_evaluator.BLOCK_BYTES", 6000)
    for n_threads in (1, 3):
        pd.testing.assert_frame_equal(bt.optimize_weights(momentum(close), SPACE, n_threads=n_threads, **common).table, whole)


def test_rules_that_fail():
    close = walks()
    common = {"close": close, "fill": "close", "costs": FREE, "periods_per_year": 252}
    with pytest.raises(bt.ObjectiveError, match=r"rule failed at \{'n': 5\}: KeyError: 'every'") as failed:
        bt.optimize_weights(momentum(close), {"n": [5, 10]}, **common)
    assert failed.value.params == {"n": 5}
    with pytest.raises(bt.ObjectiveError, match=r"rule at \{'n': 1\}: weights must have the shape of close"):
        bt.optimize_weights(lambda params: np.ones((3, 3)), {"n": [1]}, **common, method="grid")
    with pytest.raises(bt.InputError, match=r"rule must be callable, rule\(params\) -> weights, got 3"):
        bt.optimize_weights(3, SPACE, **common)
    with pytest.raises(bt.SpaceError, match="parameter names must not be metrics, got 'sharpe'"):
        bt.optimize_weights(momentum(close), {"sharpe": [1]}, **common)
    with pytest.warns(bt.NumericsWarning, match="no candidate has a defined sharpe"):
        bt.optimize_weights(lambda params: np.zeros(close.shape), {"n": [1]}, **common)


# --- bad input --------------------------------------------------------------------------------------------------------

ONES = np.ones((3, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.ones((2, 2))}, r"weights must have the shape of close \(3, 2\), got \(2, 2\)"),
        ({"open": np.ones((3, 3))}, r"open must have the shape of close \(3, 2\), got \(3, 3\)"),
        (
            {"weights": [[1, NAN], [0, 0], [0, 0]]},
            r"weights must be finite for every asset in a row that rebalances, got nan \(row 0, column 1\)",
        ),
        ({"weights": [[1, math.inf], [0, 0], [0, 0]]}, r"weights must be finite .*, got inf \(row 0, column 1\)"),
        ({"weights": ONES > 0}, "weights must hold numbers, got dtype bool"),
        ({"weights": np.ones((3, 2, 2))}, "weights must have 2 dimensions"),
        ({"rebalance": [True, False]}, r"rebalance must be True or False for each bar, shape \(3,\), got bool of shape \(2,\)"),
        ({"rebalance": [1, 0, 1]}, "rebalance must be True or False for each bar, .* got int"),
        ({"start_value": 5.0}, "^start_value is now start_cash$"),
        ({"cash": 5.0}, "^cash is now start_cash$"),
        ({"start_cash": 0}, "start_cash must be > 0, got 0"),
        ({"start_cash": -1}, "start_cash must be > 0, got -1"),
        ({"fill": "next_open"}, 'open must be given for fill="next_open", got None'),
        ({"fill": "open"}, "fill must be one of 'next_open', 'close', got 'open'"),
        ({"costs": 0.001}, "costs must be a Costs, got 0.001"),
        ({"high": ONES}, "high and low must be given together, got one of them"),
        (
            {"close": [[1, 2], [3, 0], [5, 6]]},
            r"close must be > 0, got 0\.0 \(row 1, asset 1\); NaN means that there is no price",
        ),
        ({"open": [[1, 2], [3, 4], [-5, NAN]]}, r"open must be > 0, got -5\.0 \(row 2, asset 0\)"),
        ({"high": ONES * 200, "low": ONES * 0}, r"low must be > 0, got 0\.0 \(row 0, asset 0\)"),
        ({"close": [[1, 2], [3, math.inf], [5, 6]]}, r"close must be finite, got inf \(row 1, asset 1\)"),
        ({"close": pd.DataFrame({"A": [1.0, 2, 3], "B": [1, NAN, -1]})}, r"close must be > 0, got -1\.0 \(row 2, asset 'B'\)"),
        ({"weights": ONES * 50}, r"weights of an event must add up to at most 10, regardless of sign, got 100 \(row 0\)"),
        ({"weights": ONES * [[NAN], [1], [-5.1]]}, r"at most 10, regardless of sign, got 10\.2 \(row 2\)"),
        ({"weights": ONES * 50, "rebalance": [False, False, True]}, r"at most 10, regardless of sign, got 100 \(row 2\)"),
        ({"max_gross": 0.5}, r"weights of an event must add up to at most 0\.5, regardless of sign, got 1 \(row 0\)"),
        ({"max_gross": 0}, "max_gross must be > 0, got 0"),
        ({"delisted": "drop"}, "delisted must be one of 'keep', 'write_off', got 'drop'"),
        ({"delisted_after": -1}, "delisted_after must be a whole number >= 0, got -1"),
        ({"delisted_after": 2.0}, r"delisted_after must be a whole number >= 0, got 2\.0"),
        ({"close": np.full((3, 2), NAN)}, "close must hold a valid price, finite and > 0, got none"),
        ({"close": np.empty((0, 2)), "weights": np.empty((0, 2))}, "close must have at least one bar and one asset"),
        ({"window": slice(5, 9)}, "window must leave a bar to trade, got bars 3 to 3 of 3"),
        ({"window": 3}, "window must be a slice of bars"),
        ({"window": slice("2024-01-02", None)}, "window must be bar numbers for bars without dates, got "),
        ({"window": slice(0.0, 2)}, r"window must be a slice of bars by their numbers or dates, got 0\.0"),
        ({"window": slice(False, True)}, "window must be a slice of bars by their numbers or dates, got False"),
        ({"weights": None}, "weights must have 2 dimensions, got None"),
        ({"close": [[1, 2], [3, "x"], [5, 6]]}, "close must hold numbers, got dtype <U"),
        ({"close": pd.DataFrame([[1, 2], [3, "x"], [5, 6]])}, r"close must hold numbers, got 'x' \(row 1, column 1\)"),
        ({"reinvest": 1}, "reinvest must be True or False, got 1"),
        ({"periods_per_year": 0}, "periods_per_year must be > 0, got 0"),
        ({"index": pd.date_range("2024", periods=2)}, r"index must have one time per bar \(3\), got 2"),
        ({"index": pd.DatetimeIndex(["2024-01-02", "2024-01-01", "2024-01-03"])}, r"index must be sorted, .* got 2024-01-01"),
        ({"index": ["a", "b", "c"]}, "index must hold dates, got 'a'"),
        ({"benchmark": [1.0]}, "benchmark must have length 3, got 1"),
        ({"costs": bt.Costs(fee_rate=0, borrow_rate=0.1)}, "periods_per_year must be given for a borrow_rate"),
    ],
)
def test_bad_input(change, message):
    good = {"weights": ONES / 2, "close": ONES * 100, "fill": "close", "costs": FREE}
    with pytest.raises(bt.InputError, match=message):
        bt.simulate(**good | change)


def test_labels_that_differ():
    weights, close = frames()
    with pytest.raises(bt.InputError, match=r"weights must have the columns of close, got 'C' for 'B' \(column 1\)"):
        bt.simulate(weights.rename(columns={"B": "C"}), close=close, fill="close", costs=FREE)
    with pytest.raises(bt.InputError, match=r"weights must have the columns of close, got 'B' for 'A' \(column 0\)"):
        bt.simulate(weights[["B", "A"]], close=close, fill="close", costs=FREE)
    with pytest.raises(bt.InputError, match=r"weights must have the index of close, got 2024-01-02 for 2024-01-01 \(row 0\)"):
        bt.simulate(weights.set_axis(DAYS + pd.Timedelta("1D")), close=close, fill="close", costs=FREE)
    later, is_event = DAYS + pd.Timedelta("1D"), np.ones(len(DAYS), dtype=bool)
    with pytest.raises(bt.InputError, match=r"rebalance must have the index of close, got 2024-01-02 for 2024-01-01 \(row 0\)"):
        bt.simulate(weights, close=close, fill="close", costs=FREE, rebalance=pd.Series(is_event, index=later))
    with pytest.raises(bt.InputError, match=r"benchmark must have the index of close, got 2024-01-02 for 2024-01-01 \(row 0\)"):
        bt.simulate(weights, close=close, fill="close", costs=FREE, benchmark=close["A"].set_axis(later))
    twice = close.set_axis(["A", "A"], axis=1)
    with pytest.raises(bt.InputError, match="close must have one column per asset, got 'A' twice"):
        bt.simulate(weights.set_axis(["A", "A"], axis=1), close=twice, fill="close", costs=FREE)
    with pytest.raises(bt.InputError, match=r"fee_rate must be >= 0, got -0\.1"):
        bt.Costs(fee_rate=-0.1)

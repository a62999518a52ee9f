"""What runs and books have in common: one vocabulary, one table of orders, one way to be shown."""

import inspect
import json
import pickle

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest.records import FILL, STATUSES
from backtest.simulation import Simulation
from backtest.tables import ACCOUNT_STATISTICS
from backtest.trades import STATISTICS

BARS = bt.Bars.sample("GOOG")
DAYS = pd.bdate_range("2024-01-01", periods=60)
COSTS = bt.Costs(fee_rate=0.001, borrow_rate=0.02)
NAN = np.nan


def a_run(**more):
    return bt.run(BARS, bt.strategies.sma_cross, {"fast": 10, "slow": 30}, costs=COSTS, **more)


def prices():
    rng = np.random.default_rng(3)
    moves = 1 + rng.normal(0, 0.02, (60, 3))
    return pd.DataFrame(100 * moves.cumprod(axis=0), index=DAYS, columns=["A", "B", "C"])


def a_book(**more):
    close = prices()
    weights = pd.DataFrame(NAN, index=DAYS, columns=close.columns)
    rng = np.random.default_rng(5)
    weights.iloc[::5] = rng.uniform(-0.5, 0.5, (12, 3))
    return bt.simulate(weights, close=close, open=close.shift(fill_value=100.0), costs=COSTS, **more)


@pytest.fixture(params=[a_run, a_book], ids=["run", "book"])
def simulation(request):
    return request.param()


def test_both_are_simulations_and_have_what_it_promises(simulation):
    assert isinstance(simulation, bt.Simulation)
    promised = [name for name in vars(Simulation) if not name.startswith("_")]
    assert {"equity", "returns", "drawdown", "units", "orders", "fills", "trades", "open_positions", "stats"} <= set(promised)
    for name in promised:
        assert inspect.getdoc(getattr(type(simulation), name)), name
        assert getattr(simulation, name) is not None


def test_a_simulation_cannot_be_made_without_its_parts():
    with pytest.raises(TypeError, match="abstract"):
        Simulation()


def test_series_of_bars(simulation):
    n = simulation.last - simulation.first
    for name in ("equity", "returns", "drawdown", "margin_load"):
        series = getattr(simulation, name)
        assert isinstance(series, pd.Series)
        assert series.index.equals(simulation.times)
        assert len(series) == n
    equity = np.concatenate([[simulation.start_cash], simulation.equity])
    np.testing.assert_allclose(simulation.returns, np.diff(equity) / equity[:-1], rtol=1e-12)
    assert simulation.drawdown.min() == simulation.stats["max_drawdown"] == simulation.account_statistics()["max_drawdown"]
    assert simulation.equity.name == "equity"
    mine = simulation.equity
    mine.iloc[:] = 0  # a copy
    assert (simulation.equity > 0).all()


def test_units_have_a_column_for_each_asset():
    run, book = a_run(), a_book()
    assert run.units.shape == (run.last - run.first,)
    assert book.units.shape == (book.last - book.first, 3)
    assert list(book.units.columns) == ["A", "B", "C"]
    gross = (run.units.abs() * BARS.close[run.first : run.last]) / run.equity
    np.testing.assert_allclose(run.margin_load, gross, rtol=1e-12)


def test_orders_have_the_same_columns_and_hold_every_fill(simulation):
    orders = simulation.orders
    plain = a_run().orders.columns.tolist()
    assert orders.columns.tolist() == (["asset", *plain] if isinstance(simulation, bt.Book) else plain)
    assert set(orders["status"]) <= set(STATUSES)
    filled = orders[orders["status"] == "filled"]
    assert simulation.fills.dtype == FILL
    for name in ("decision_bar", "fill_bar", "units", "price", "value", "cost", "position_after", "cash_after", "equity"):
        np.testing.assert_array_equal(filled[name], simulation.fills[name])
    assert ((filled["units"] > 0) == (filled["side"] == "buy")).all()
    assert (filled["time"] == simulation._all_times()[filled["fill_bar"]]).all()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["orders", "fills"])
def test_trades_are_those_of_the_orders(simulation, name):
    if isinstance(simulation, bt.Book):
        close = prices()
        kwargs = {"close": close, "open": close.shift(fill_value=100.0)}
    else:
        kwargs = {each: pd.Series(getattr(BARS, each), index=BARS.times()) for each in ("open", "high", "low", "close")}
    rate = COSTS.borrow_rate / simulation.periods.per_year
    again = bt.track_trades(getattr(simulation, name), borrow_per_bar=rate, **kwargs)
    assert again.records.tobytes() == simulation.tracked.records.tobytes()
    assert again.positions.tobytes() == simulation.tracked.positions.tobytes()
    assert len(simulation.trades) > 5


def test_orders_that_were_not_executed_are_no_fills():
    close = prices()
    weights = pd.DataFrame(NAN, index=DAYS, columns=close.columns)
    weights.iloc[0], weights.iloc[-1] = [0.5, 0.3, 0.2], [0.0, 0.4, -0.2]
    with pytest.warns(bt.NumericsWarning, match="event on the last bar"):
        book = bt.simulate(weights, close=close, open=close, costs=bt.Costs.zero())
    late = book.orders.query("status == 'unfilled'")
    assert late[["asset", "decision_bar", "fill_bar", "side", "reason"]].to_numpy().tolist() == [
        ["A", 59, -1, "sell", "signal"],
        ["B", 59, -1, "buy", "entry"],
        ["C", 59, -1, "sell", "reverse"],
    ]
    assert len(book.fills) == 3
    again = bt.track_trades(book.orders, close=close)
    assert len(again.records) == 0
    assert again.positions["units"].tolist() == book.units.iloc[-1].tolist()


def test_what_is_there_already_is_no_order():
    close = prices() * 0 + 100.0
    weights = pd.DataFrame(NAN, index=DAYS, columns=close.columns)
    weights.iloc[0] = weights.iloc[-1] = [0.5, 0.0, 0.25]
    with pytest.warns(bt.NumericsWarning, match=r"event on the last bar|weight 0 at every event"):
        book = bt.simulate(weights, close=close, open=close, costs=bt.Costs.zero())
    assert book.orders["status"].tolist() == ["filled", "filled"]


def test_a_status_of_no_order_is_refused():
    orders = a_run().orders.assign(status="done")
    with pytest.raises(bt.InputError, match=r"status must be one of .*filled.*got 'done'"):
        bt.track_trades(orders, close=BARS.close)


def test_a_side_without_a_status_is_refused():
    """A table of another engine may mean its size by it, so that units would have the wrong sign."""
    with pytest.raises(bt.InputError, match="'side'"):
        bt.track_trades({"fill_bar": [0], "units": [1.0], "price": [1.0], "side": ["sell"]}, close=[1.0, 2.0])


def test_codes_out_of_range_are_refused():
    fills = a_run().fills.copy()
    fills["moment"][0] = 3
    with pytest.raises(bt.InputError, match="'moment' must be from 0 to 2, got 3"):
        bt.track_trades(fills, close=BARS.close)


def test_statistics_have_one_vocabulary(simulation):
    assert list(simulation.stats.index) == list(bt.METRICS)
    assert list(simulation.account_statistics().index) == list(ACCOUNT_STATISTICS)
    trades = simulation.trade_statistics()
    assert list(trades.index) == list(STATISTICS)
    assert list(trades.columns) == ["All", "Long", "Short"]
    pd.testing.assert_frame_equal(simulation.stats.trade_statistics(), trades)
    account = simulation.account_statistics()
    assert account["start_cash"] == simulation.start_cash
    assert account["end_equity"] == simulation.equity.iloc[-1]
    assert account["total_return"] == simulation.stats["total_return"]
    assert account["n_fills"] == len(simulation.fills)
    assert account["max_margin_load"] == simulation.margin_load.max()
    assert account["costs"] / simulation.start_cash == simulation.stats["costs_paid"]


def test_translations_are_those_of_one_asset():
    run, book = a_run(), a_book()
    assert run.stats.to_backtesting()["# Trades"] == len(run.trades)
    assert run.stats.to_vectorbt()["Total Closed Trades"] == len(run.trades)
    for name in ("to_backtesting", "to_vectorbt"):
        with pytest.raises(bt.InputError, match=rf"{name} must be asked of the statistics of a Run, .* got those of Book\("):
            getattr(book.stats, name)()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("ledger", "orders"),
        ("value", "equity"),
        ("position", "units"),
        ("statistics", r"trade_statistics\(\)"),
        ("start_value", "start_cash"),
    ],
)
def test_former_names_say_the_new_one(simulation, name, remedy):
    kind = type(simulation).__name__
    with pytest.raises(AttributeError, match=rf"{kind} has no attribute '{name}'; it is .*{remedy}"):
        getattr(simulation, name)


def test_what_is_no_attribute_is_none(simulation):
    assert not hasattr(simulation, "anything")
    with pytest.raises(AttributeError, match=r"has no attribute 'anything'$"):
        _ = simulation.anything


def test_an_error_inside_a_property_is_the_one_to_see(monkeypatch):
    run = a_run()
    monkeypatch.delattr(run, "_fills")
    with pytest.raises(AttributeError, match="_fills"):
        _ = run.orders


def test_plain_data(simulation):
    plain = simulation.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["stats"]["sharpe"] == simulation.stats["sharpe"]
    assert plain["trade_statistics"]["All"]["n_trades"] == len(simulation.trades)
    assert plain["account_statistics"]["start_cash"] == simulation.start_cash
    assert plain["first"] == simulation.times[0].isoformat()
    assert plain["n_bars"] == len(simulation.equity)
    assert plain.get("params") == ({"fast": 10, "slow": 30} if isinstance(simulation, bt.Run) else None)


def test_consoles_and_notebooks(simulation):
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as shown:
        console.print(simulation)
    page = simulation._repr_html_()
    for text in (shown.get(), page):
        for words in ("Sharpe ratio", "Largest margin load", "Completed trades", f"{len(simulation.trades):,}"):
            assert words in text
    assert page.count("<table>") == page.count("</table>") == 3
    assert repr(simulation).startswith(f"{type(simulation).__name__}(")
    assert "\n" not in repr(simulation)
    assert str(simulation) == repr(simulation)
    assert f"{len(simulation.fills):,} fills, {len(simulation.trades):,} trades)" in repr(simulation)


def test_a_run_names_its_symbol():
    bars = bt.Bars.sample("GOOG")
    run = bt.run(bars, bt.strategies.sma_cross, {"fast": 10, "slow": 30}, costs=COSTS)
    assert repr(run).startswith("Run(sma_cross on GOOG: fast=10, slow=30; ")
    assert run.to_dict()["symbol"] == "GOOG"
    unnamed = bt.Bars(open=bars.open, high=bars.high, low=bars.low, close=bars.close, index=bars.index)
    run = bt.run(unnamed, bt.strategies.sma_cross, {"fast": 10, "slow": 30}, costs=COSTS)
    assert repr(run).startswith("Run(sma_cross: fast=10, slow=30; ")
    assert run.to_dict()["symbol"] is None


def test_codes_of_fills_are_decoded_as_said(simulation):
    from backtest.records import MOMENTS, REASONS

    filled = simulation.orders.query("status == 'filled'")
    assert [MOMENTS[code] for code in simulation.fills["moment"]] == filled["moment"].tolist()
    closing = (simulation.fills["position_before"] != 0) & (simulation.fills["reason"] > 0)
    assert [REASONS[code] for code in simulation.fills["reason"][closing]] == filled["reason"][closing].tolist()
    if isinstance(simulation, bt.Book):
        assert [simulation.market.assets[code] for code in simulation.fills["asset"]] == filled["asset"].tolist()


def test_names_are_escaped():
    strategy = bt.rules.from_arrays(np.arange(len(BARS)) % 7 == 0, name="<b>[red]")
    run = bt.run(BARS, strategy, costs=COSTS)
    assert "&lt;b&gt;[red]" in run._repr_html_()
    from rich.console import Console

    console = Console(width=120)
    with console.capture() as shown:
        console.print(run)
    assert "<b>[red]" in shown.get()


def test_pickles(simulation):
    again = pickle.loads(pickle.dumps(simulation))
    pd.testing.assert_series_equal(again.equity, simulation.equity)
    pd.testing.assert_frame_equal(again.orders, simulation.orders)
    pd.testing.assert_series_equal(pickle.loads(pickle.dumps(simulation.stats)), simulation.stats)


# --- several symbols --------------------------------------------------------------------------------------------------


SYMBOLS = {name: bt.Bars.sample(name) for name in ("GOOG", "IBM")}
PARAMS = {"fast": 10, "slow": 30}


def test_a_mapping_is_replayed_symbol_by_symbol():
    runs = bt.run(SYMBOLS, bt.strategies.sma_cross, PARAMS, costs=COSTS, window=slice(100, 400))
    assert list(runs) == ["GOOG", "IBM"]
    table = bt.evaluate(
        SYMBOLS, bt.strategies.sma_cross, {name: [value] for name, value in PARAMS.items()}, costs=COSTS, window=slice(100, 400)
    )
    for name, run in runs.items():
        alone = bt.run(SYMBOLS[name], bt.strategies.sma_cross, PARAMS, costs=COSTS, window=slice(100, 400))
        pd.testing.assert_series_equal(run.stats, alone.stats)
        assert run.orders.equals(alone.orders)
        assert table[f"sharpe@{name}"].iloc[0] == run.stats["sharpe"]
    one = bt.run({"GOOG": SYMBOLS["GOOG"]}, bt.strategies.sma_cross, PARAMS, costs=COSTS)
    assert list(one) == ["GOOG"]  # a mapping gives a mapping


@pytest.mark.parametrize(
    ("bars", "more", "message"),
    [
        ({}, {}, "bars must hold at least one symbol, got none"),
        ({1: BARS}, {}, "symbol must be text, got 1"),
        ({"A": BARS, "B": 5}, {}, "B: bars must be a Bars, got 5"),
        ({"A": BARS, "B": SYMBOLS["IBM"]}, {"window": slice(0, 5)}, "A: window must leave a bar to trade"),
    ],
)
def test_what_is_wrong_with_a_symbol_names_it(bars, more, message):
    with pytest.raises(bt.InputError, match=f"^{message}"):
        bt.run(bars, bt.strategies.sma_cross, PARAMS, costs=COSTS, **more)


def test_warnings_point_at_the_caller():
    entries = np.zeros(len(BARS), dtype=bool)
    entries[5] = True
    strategy = bt.rules.from_arrays(entries)
    for bars in (BARS, {"GOOG": BARS}):
        with pytest.warns(bt.NumericsWarning, match="could not be paid for") as said:
            bt.run(bars, strategy, costs=bt.Costs(fee_rate=0, fixed=1e9))
        assert [each.filename for each in said] == [__file__]

"""``bt.stats``: the numbers of a run from its equity and trades alone, and by hand."""

import math
import re

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest.trades import STATISTICS

BARS = bt.Bars.sample("GOOG")
CLOSE = pd.Series(BARS.close, index=BARS.times())
DAYS = pd.bdate_range("2024-01-01", periods=6)
#: Sums of returns, which a run adds up in another order.
ROUNDED = ["volatility", "sharpe", "sortino", "omega", "skew", "kurtosis", "turnover", "costs_paid", "breakeven_cost"]


def a_run(**execution):
    costs = bt.Costs(fee_rate=0.001, slippage=0.0005, borrow_rate=0.03)
    params = {"fast": 10, "slow": 30, "stop_loss": 0.05, "take_profit": 0.1}
    return bt.run(BARS, bt.strategies.sma_cross, params, costs=costs, execution=bt.Execution(rf=0.02, **execution))


def of(run, trades=None, **more):
    kwargs = {
        "start_cash": run.start_cash,
        "benchmark": CLOSE,
        "rf": 0.02,
        "periods_per_year": run.periods.per_year,
        "open_positions": run.open_positions,
    }
    return bt.stats(run.equity, run.trades if trades is None else trades, **(kwargs | more))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("execution", [{}, {"sides": "long"}, {"close_at_end": True}, {"fill": "close"}, {"size": 0.5}])
def test_a_run_s_own_numbers(execution):
    run = a_run(**execution)
    found = of(run)
    assert list(found.index) == list(bt.METRICS)
    assert found.missing == {}
    exact = found.index.difference(ROUNDED)
    pd.testing.assert_series_equal(found[exact], run.stats[exact], check_exact=True)
    pd.testing.assert_series_equal(found[ROUNDED], run.stats[ROUNDED], rtol=1e-9)
    pd.testing.assert_frame_equal(found.trade_statistics(), run.trade_statistics(), check_exact=True)


def test_by_hand():
    equity = pd.Series([100.0, 110.0, 99.0, 99.0, 108.9, 108.9], index=DAYS)
    trades = {
        "entry_time": [DAYS[0], DAYS[3]],
        "exit_time": [DAYS[2], DAYS[4]],
        "net_profit": [-1.0, 9.9],
        "return": [-0.01, 0.1],
    }
    found = bt.stats(equity, trades)
    r = np.array([0.1, -0.1, 0.0, 0.1, 0.0])
    assert found["total_return"] == pytest.approx(0.089)
    assert found["sharpe"] == pytest.approx(r.mean() / r.std(ddof=1) * math.sqrt(252))
    assert found["max_drawdown"] == pytest.approx(-0.1)
    assert found["cagr"] == pytest.approx(1.089 ** (365.25 / 7) - 1)  # Monday to Monday
    assert found["omega"] == pytest.approx(2.0)
    assert found[["n_trades", "win_rate", "profit_factor"]].tolist() == pytest.approx([2, 0.5, 9.9])
    assert found[["expectancy", "best_trade", "worst_trade"]].tolist() == pytest.approx([0.045, 0.1, -0.01])
    assert found["exposure"] == pytest.approx(2 / 5)  # the closes of bars 1 and 3, of bars 1 to 5
    assert found["largest_trade_share"] == pytest.approx(9.9 / 8.9)
    assert set(found.missing) == {"turnover", "costs_paid", "breakeven_cost", "n_ambiguous", "buy_hold_return", "alpha", "beta"}
    assert found.missing["costs_paid"] == "trades['entry_cost'], trades['exit_cost']"
    assert found[list(found.missing)].isna().all()
    table = found.trade_statistics()
    assert table.loc["net_profit", "All"] == pytest.approx(8.9)
    assert table.loc["max_bars_held", "All"] == 2
    assert table[["Long", "Short"]].isna().all(axis=None)  # nobody said which
    assert table.loc[["costs_paid", "mean_mfe", "n_ambiguous"], "All"].isna().all()


def test_start_cash_gives_the_first_bar_a_return():
    equity = pd.Series([110.0, 121.0], index=DAYS[:2])
    assert bt.stats(equity, periods_per_year=252)["total_return"] == pytest.approx(0.1)
    assert bt.stats(equity, start_cash=100.0, periods_per_year=252)["total_return"] == pytest.approx(0.21)


def test_without_trades_what_needs_them_is_named():
    found = bt.stats(CLOSE, benchmark=CLOSE)
    assert found["beta"] == pytest.approx(1.0)
    assert found["buy_hold_return"] == found["total_return"]
    assert found.missing == dict.fromkeys(
        (
            "n_trades",
            "exposure",
            "win_rate",
            "profit_factor",
            "largest_trade_share",
            "expectancy",
            "best_trade",
            "worst_trade",
            "sqn",
            "turnover",
            "costs_paid",
            "breakeven_cost",
            "n_ambiguous",
        ),
        "trades",
    )
    assert found[list(found.missing)].isna().all()
    assert found.drop(list(found.missing)).notna().all()
    with pytest.raises(bt.InputError, match="trades must be given for trade_statistics"):
        found.trade_statistics()


@pytest.mark.parametrize("name", ["net_profit", "return"])
def test_profit_or_return_is_enough(name):
    run = a_run()
    found = of(run, run.trades[["entry_time", "exit_time", "side", name]], open_positions=None)
    for key in ("n_trades", "win_rate"):
        assert found[key] == run.stats[key]
    for key, column in (("expectancy", "return"), ("profit_factor", "net_profit")):
        assert (key in found.missing) == (column != name)
        assert math.isnan(found[key]) == (column != name)
    table, whole = found.trade_statistics(), run.trade_statistics()
    for key in ("n_winners", "longest_losing_streak", "mean_bars_held"):
        assert table.loc[key].tolist() == whole.loc[key].tolist()
    known = table.dropna(how="all").index
    pd.testing.assert_frame_equal(table.loc[known], whole.loc[known])


def test_no_trade_is_not_no_trades():
    found = bt.stats(CLOSE, a_run().trades.iloc[:0])
    assert found["n_trades"] == found["exposure"] == found["turnover"] == 0
    assert math.isnan(found["win_rate"])
    assert list(found.trade_statistics().index) == list(STATISTICS)


def test_arrays_have_no_years():
    with pytest.warns(bt.NumericsWarning, match="no dates"):
        found = bt.stats([100.0, 110.0, 105.0], benchmark=[1.0, 2.0, 3.0])
    assert math.isnan(found["sharpe"])
    assert found["buy_hold_return"] == 2.0
    found = bt.stats([100.0, 110.0, 105.0], periods_per_year=252, start_cash=100.0, benchmark=[1.0, 2.0, 2.0, 3.0])
    assert found["buy_hold_return"] == 2.0
    trades = {"entry_time": [0], "exit_time": [2], "return": [0.05]}
    assert bt.stats([100.0, 110.0, 105.0], trades, periods_per_year=252)["exposure"] == 0.5


def test_a_total_loss():
    found = bt.stats(pd.Series([100.0, 50.0, 0.0, 0.0], index=DAYS[:4]))
    assert found["total_return"] == found["max_drawdown"] == -1


TRADES = {"entry_time": DAYS[:1], "exit_time": DAYS[2:3], "return": [0.1]}


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"equity": []}, "equity"),
        ({"equity": [1.0]}, "equity must have two values or more without a start_cash, got 1"),
        ({"equity": [1.0, -1.0]}, r"equity must be >= 0, got -1.0 \(row 1\)"),
        ({"equity": [1.0, math.nan]}, "equity"),
        ({"equity": [0.0, 1.0]}, r"equity \(its first value\) must be > 0"),
        ({"equity": pd.Series([1.0, 2.0], index=DAYS[[1, 0]])}, "equity must have an index that ascends"),
        ({"equity": pd.Series([1.0, 2.0], index=DAYS[[1, 1]])}, "equity must have an index that ascends"),
        ({"start_cash": 0.0}, "start_cash must be > 0, got 0"),
        ({"rf": "a"}, "rf must be a number, got 'a'"),
        ({"periods_per_year": 0}, "periods_per_year must be > 0"),
        ({"benchmark": [1.0]}, r"benchmark must have a value for each bar \(6\), or one more in front, got 1"),
        ({"benchmark": pd.Series([1.0], index=DAYS[:1])}, "benchmark must have a price at each time of equity, got none at"),
        ({"benchmark": np.zeros(6)}, "benchmark must be > 0, got 0"),
        ({"trades": 5}, "trades must be a DataFrame or a mapping of columns, got int"),
        ({"trades": {}}, "trades must have a column 'entry_time', got none"),
        ({"trades": {"entry_time": DAYS[:1], "exit_time": DAYS[:1]}}, "must have a column 'net_profit' or 'return'"),
        ({"trades": TRADES | {"return": [math.inf]}}, r"trades column 'return' must be finite, got inf \(row 0\)"),
        ({"trades": TRADES | {"side": ["up"]}}, "trades column 'side' must be"),
        ({"trades": TRADES | {"entry_time": DAYS[3:4]}}, "'exit_time' must not be before entry_time"),
        (
            {"trades": TRADES | {"exit_time": ["2023-01-01"]}},
            "'exit_time' must hold times in the index of equity, got '2023-01-01'",
        ),
        ({"trades": TRADES | {"exit_time": ["soon"]}}, "'exit_time' must hold times in the index of equity, got 'soon'"),
        ({"open_positions": TRADES}, "trades must be given with open_positions|must have a column 'units'"),
    ],
)
def test_refused(kwargs, message):
    kwargs = {"equity": pd.Series(np.linspace(100.0, 110.0, 6), index=DAYS)} | kwargs
    with pytest.raises(bt.InputError, match=message):
        bt.stats(kwargs.pop("equity"), **kwargs)


BACKTESTING = {"EntryTime": DAYS[:1], "ExitTime": DAYS[2:3], "PnL": [10.0], "Size": [3], "Tag": [None]}
VECTORBT = {"Entry Timestamp": DAYS[:1], "Exit Timestamp": DAYS[2:3], "PnL": [10.0], "Size": [3.0], "Direction": ["Short"]}


@pytest.mark.parametrize("table", [BACKTESTING, VECTORBT])
def test_tables_of_other_tools_get_the_rename_to_type(table):
    equity, trades = pd.Series(np.linspace(100.0, 110.0, 6), index=DAYS), pd.DataFrame(table)
    with pytest.raises(bt.InputError, match=r"trades must have a column 'entry_time', got .*; trades\.rename\(columns=") as error:
        bt.stats(equity, trades)
    found = bt.stats(equity, eval(re.search(r"trades\.rename\(columns=.*?\)", str(error.value))[0], {"trades": trades}))
    assert found["n_trades"] == 1
    assert found.trade_statistics().loc["net_profit", "Short" if "Direction" in table else "Long"] == 10.0


def test_the_zone_of_trades_is_named():
    equity = pd.Series(np.linspace(100.0, 110.0, 6), index=DAYS)
    aware = {"entry_time": DAYS[:1].tz_localize("UTC"), "exit_time": DAYS[2:3].tz_localize("UTC"), "return": [0.1]}
    message = (
        r"'entry_time' must have no zone, as equity has none, got times in UTC; trades\['entry_time'\]\.dt\.tz_localize\(None\)"
    )
    with pytest.raises(bt.InputError, match=message):
        bt.stats(equity, aware)
    with pytest.raises(
        bt.InputError, match=r"must have the zone of equity, UTC, .*; trades\['entry_time'\]\.dt\.tz_localize\('UTC'\)"
    ):
        bt.stats(equity.tz_localize("UTC"), TRADES)


def test_a_table_of_equity_names_its_column():
    frame = pd.DataFrame({"Equity": np.linspace(100.0, 110.0, 6)}, index=DAYS)
    with pytest.raises(bt.InputError, match=r"equity must be a Series, got a DataFrame of 1 columns; equity\['Equity'\] is one"):
        bt.stats(frame)


def test_a_side_against_the_sign_of_units_is_refused():
    equity = pd.Series(np.linspace(100.0, 110.0, 6), index=DAYS)
    with pytest.raises(bt.InputError, match=r"'units' must be > 0 for a long .* got -3 with side 'long' \(row 0\)"):
        bt.stats(equity, TRADES | {"side": ["long"], "units": [-3.0]})
    for units in (3.0, -3.0):
        assert bt.stats(equity, TRADES | {"side": ["short"], "units": [units]})["n_trades"] == 1


def test_open_positions_that_were_not_given_are_missed():
    run = bt.run(BARS, bt.strategies.sma_cross, {"fast": 10, "slow": 30}, costs=bt.Costs(fee_rate=0.001))
    assert len(run.open_positions) == 1
    with pytest.warns(bt.NumericsWarning, match=r"exposure, turnover, costs_paid and breakeven_cost lack what is still open"):
        bt.stats(run.equity, run.trades, start_cash=run.start_cash)
    closed = a_run(close_at_end=True)
    assert bt.stats(closed.equity, closed.trades, start_cash=closed.start_cash)["costs_paid"] == pytest.approx(
        closed.stats["costs_paid"]
    )


def test_other_tools_are_not_defined():
    with pytest.raises(bt.InputError, match=r"to_vectorbt must be asked .* of a Run, .* got those of EquityRecord"):
        bt.stats(CLOSE).to_vectorbt()


def test_the_name_is_the_function():
    import importlib

    assert callable(bt.stats)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("backtest.stats")


TEXTS = {
    "ISO": [f"{day:%Y-%m-%d}" for day in DAYS],
    "compact": [f"{day:%Y%m%d}" for day in DAYS],
    "dates": [day.date() for day in DAYS],
    "periods": pd.PeriodIndex(DAYS, freq="D"),
    "categories": pd.CategoricalIndex([f"{day:%Y-%m-%d}" for day in DAYS]),
}


@pytest.mark.parametrize("index", TEXTS.values(), ids=TEXTS)
def test_texts_and_dates_are_times(index):
    equity = [100.0, 110.0, 99.0, 99.0, 108.9, 108.9]
    dated = bt.stats(pd.Series(equity, index=DAYS), TRADES)
    pd.testing.assert_series_equal(bt.stats(pd.Series(equity, index=index), TRADES), dated)
    assert dated["cagr"] == pytest.approx(1.089 ** (365.25 / 7) - 1)

    def book(labels):
        close = pd.DataFrame({"A": equity}, index=labels)
        return bt.simulate(close * 0 + 0.5, close=close, fill="close", costs=bt.Costs.zero())

    assert book(index).times.equals(book(DAYS).times)
    pd.testing.assert_series_equal(book(index).stats, book(DAYS).stats)


def test_texts_that_could_be_times_are_no_silent_row_numbers():
    equity = pd.Series([100.0, 110.0, 99.0], index=["2024-01-01", "2024-01-02", "soon"])
    with pytest.raises(bt.DataError, match=r"pandas\.to_datetime\(index, format=\.\.\.\) makes dates of them"):
        bt.stats(equity)
    with pytest.raises(bt.DataError, match=r"pandas\.to_datetime\(index, format=\.\.\.\) makes dates of them"):
        bt.simulate(equity.to_frame() * 0, close=equity.to_frame(), fill="close", costs=bt.Costs.zero())
    words = bt.stats(equity.set_axis(["a", "b", "c"]), periods_per_year=252)
    assert math.isnan(words["cagr"])


def test_a_column_that_comes_twice_is_refused():
    equity, table = pd.Series(np.linspace(100.0, 110.0, 6), index=DAYS), pd.DataFrame(TRADES)
    for each in table.columns:
        with pytest.raises(bt.InputError, match=f"trades must have each column once, got '{each}' twice"):
            bt.stats(equity, pd.concat([table, table[[each]]], axis=1))

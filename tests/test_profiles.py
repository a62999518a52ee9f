"""Profiles: what they fix, what they refuse, and each convention on a few bars worked out by hand."""

import pickle

import numpy as np
import pytest
from cases import UNPAID, cases, strategy_of, under_profile
from hypothesis import given, settings

import backtest as bt
from backtest import _backend, lines, rules
from backtest.costs import PROFILES

PROFILED = [name for name in PROFILES if name]


def bars_of(*rows):
    """Bars from rows of open, high, low, close."""
    open_, high, low, close = np.array(rows, dtype=float).T
    return bt.Bars(open=open_, high=high, low=low, close=close)


def on(n, *bars):
    mask = np.zeros(n, dtype=bool)
    mask[list(bars)] = True
    return mask


def run_of(bars, profile, *signals, costs=None, levels=None, start_cash=1000.0, **execution):
    return bt.run(
        bars,
        rules.from_arrays(*signals, **(levels or {})),
        costs=costs or bt.Costs.zero(),
        execution=bt.Execution(profile=profile, start_cash=start_cash, periods_per_year=252.0, **execution),
    )


# Fields


def test_profiles_fill_in_what_they_fix():
    vectorbt, backtesting = (bt.Execution(profile=name) for name in ("vectorbt", "backtesting.py"))
    assert (vectorbt.fill, vectorbt.whole_units, vectorbt.size) == ("close", False, 1.0)
    assert (backtesting.fill, backtesting.whole_units, backtesting.close_at_end) == ("next_open", True, False)
    assert backtesting.size == 1 - 2.0**-52
    assert bt.Execution(profile="backtesting.py", close_at_end=True).close_at_end is True
    assert bt.Execution(profile="backtesting.py", size=0.5).size == 0.5
    assert backtesting.to_dict()["profile"] == "backtesting.py"


@pytest.mark.parametrize("profile", PROFILED)
def test_profiles_survive_replace_and_pickle(profile):
    execution = bt.Execution(profile=profile)
    assert execution.replace(start=7).replace(start=None) == execution == pickle.loads(pickle.dumps(execution))
    assert bt.Execution(**execution.to_dict()) == execution


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"profile": "vectorbt", "fill": "next_open"}, "fill must be 'close' with profile='vectorbt', got 'next_open'"),
        ({"profile": "vectorbt", "whole_units": True}, "whole_units must be False with profile='vectorbt', got True"),
        ({"profile": "vectorbt", "close_at_end": True}, "close_at_end must be False with profile='vectorbt', got True"),
        ({"profile": "vectorbt", "intrabar": "optimistic"}, "intrabar must be 'pessimistic' with profile='vectorbt'"),
        ({"profile": "vectorbt", "size_type": "value"}, "size_type must be 'equity' with profile='vectorbt', got 'value'"),
        ({"profile": "vectorbt", "size": 0.5}, r"size must be 1 with profile='vectorbt' and both sides .*, got 0\.5"),
        ({"profile": "backtesting.py", "fill": "close"}, "fill must be 'next_open' with profile='backtesting.py', got 'close'"),
        (
            {"profile": "backtesting.py", "whole_units": False},
            "whole_units must be True with profile='backtesting.py', got False",
        ),
        ({"profile": "zipline"}, "profile must be one of None, 'vectorbt', 'backtesting.py', got 'zipline'"),
    ],
)
def test_contradictions_are_refused(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        bt.Execution(**arguments)


@pytest.mark.parametrize(
    ("profile", "costs", "levels", "message"),
    [
        ("vectorbt", {"per_unit": 1}, {}, r"per_unit must be 0 with profile='vectorbt' \(from_signals has none\), got 1\.0"),
        ("vectorbt", {"maximum": 1}, {}, "maximum must be inf with profile='vectorbt'"),
        ("vectorbt", {"fixed": 1}, {}, "fixed must be 0 with profile='vectorbt' and both sides"),
        ("vectorbt", {}, {"max_bars": 3}, "max_bars must be None with profile='vectorbt'"),
        (
            "vectorbt",
            {},
            {"stop_loss": 0.1, "trailing_stop": 0.1},
            "stop_loss or trailing_stop must be None with profile='vectorbt'",
        ),
        ("backtesting.py", {"fixed": 1}, {}, "fixed must be 0 with profile='backtesting.py'"),
        ("backtesting.py", {"borrow_rate": 0.1}, {}, "borrow_rate must be 0 with profile='backtesting.py'"),
        ("backtesting.py", {}, {"trailing_stop": 0.1}, "trailing_stop must be None with profile='backtesting.py'"),
    ],
)
def test_what_the_other_tool_cannot_do_is_refused(profile, costs, levels, message):
    bars = bars_of(*[(100, 101, 99, 100)] * 4)
    with pytest.raises(bt.InputError, match=message):
        run_of(bars, profile, on(4, 1), costs=bt.Costs(**({"fee_rate": 0.0} | costs)), levels=levels)


def test_one_candidate_of_a_batch_is_enough_to_refuse_it():
    strategy = rules.from_arrays(on(4, 1), stop_loss=bt.param("stop"), trailing_stop=bt.param("trail"))
    bars = bars_of(*[(100, 101, 99, 100)] * 4)
    arguments = {"costs": bt.Costs.zero(), "execution": bt.Execution(profile="vectorbt", periods_per_year=252.0)}
    assert len(bt.evaluate(bars, strategy, {"stop": [0.1, None], "trail": [None, 0.1]}, **arguments)) == 2
    with pytest.raises(bt.InputError, match="stop_loss or trailing_stop must be None"):
        bt.evaluate(bars, strategy, {"stop": [0.1, 0.2], "trail": [None, 0.1]}, **arguments)


# Conventions, by hand


def test_vectorbt_measures_levels_from_the_close_and_trails_highs(backend):
    bars = bars_of((100, 100, 100, 100), (100, 120, 100, 110), (110, 112, 107, 108), (108, 108, 108, 108))
    run = run_of(bars, "vectorbt", on(4, 0), costs=bt.Costs(fee_rate=0.0, slippage=0.01), levels={"trailing_stop": 0.1})
    # Entered at 101 (slippage); the base is 100, then the high 120: touched at 108, without slippage.
    assert run.trades[["entry_price", "exit_price", "exit_bar", "exit_reason"]].iloc[0].tolist() == [101.0, 108.0, 2, "trail"]
    ours = bt.run(
        bars,
        rules.from_arrays(on(4, 0), trailing_stop=0.1),
        costs=bt.Costs(fee_rate=0.0, slippage=0.01),
        execution=bt.Execution(fill="close", periods_per_year=252.0),
    )
    assert len(ours.trades) == 0  # ours follows closes: 110 (1 - 0.1) is never touched


@pytest.mark.parametrize("profile", PROFILED)
def test_a_stop_beats_a_target_that_the_open_gapped_over(profile, backend):
    bars = bars_of(*[(100, 100, 100, 100)] * 3, (130, 130, 80, 90), (90, 90, 90, 90))
    levels = {"stop_loss": 0.1, "take_profit": 0.2}
    run = run_of(bars, profile, on(5, 1), levels=levels)
    assert run.trades[["exit_price", "exit_bar", "exit_reason", "ambiguous"]].iloc[0].tolist() == [90.0, 3, "stop", True]
    ours = bt.run(
        bars, rules.from_arrays(on(5, 1), **levels), costs=bt.Costs.zero(), execution=bt.Execution(periods_per_year=252.0)
    )
    assert ours.trades[["exit_price", "exit_reason"]].iloc[0].tolist() == [130.0, "target"]
    short = run_of(
        bars_of(*[(100, 100, 100, 100)] * 3, (70, 120, 70, 90), (90, 90, 90, 90)),
        profile,
        None,
        None,
        on(5, 1),
        None,
        levels=levels,
    )
    assert short.trades["exit_price"].iloc[0] == pytest.approx(110.0)


def test_backtesting_pays_the_spread_once_and_buys_whole_units(backend):
    bars = bars_of(*[(100, 100, 100, 100)] * 2, (100, 100, 100, 100), (125, 125, 125, 125), (110, 110, 110, 110))
    run = run_of(bars, "backtesting.py", on(5, 1), on(5, 2), costs=bt.Costs(fee_rate=0.0, slippage=0.01))
    trade = run.trades.iloc[0]
    assert (trade["entry_price"], trade["exit_price"], trade["units"]) == (101.0, 125.0, 9.0)
    # 1000 / 100 are 10 units, but its default size is just below 1.
    assert run_of(bars, "backtesting.py", on(5, 1), on(5, 2)).trades["units"].iloc[0] == 9.0


def test_backtesting_sizes_with_the_fee_of_the_quote(backend):
    bars = bars_of(*[(100, 100, 100, 100)] * 5)
    costs = bt.Costs(fee_rate=0.05, slippage=0.09)
    # A unit is counted as 109 + 5 = 114: 1024 pays for 8 (912) and not 9 (1026); with the fee on 109 it is 114.45.
    for start_cash, units in ((913.0, 8.0), (911.0, 7.0), (1025.0, 8.0), (1027.0, 9.0)):
        assert (
            run_of(bars, "backtesting.py", on(5, 1), on(5, 2), costs=costs, start_cash=start_cash).trades["units"].iloc[0]
            == units
        )


def test_backtesting_measures_levels_from_the_deciding_close(backend):
    flat = (100, 100, 100, 100)
    gapped = bars_of(flat, flat, (90, 95, 85, 90), (100, 113, 100, 108), flat)
    run = run_of(gapped, "backtesting.py", on(5, 1), levels={"take_profit": 0.125})
    assert run.trades[["entry_price", "exit_price", "exit_bar"]].iloc[0].tolist() == [90.0, 112.5, 3]
    # The stop at 98 lies beyond the open it fills at: out again at once, at that open.
    run = run_of(gapped, "backtesting.py", on(5, 1), levels={"stop_loss": 0.02})
    assert run.trades[["entry_price", "exit_price", "exit_bar"]].iloc[0].tolist() == [90.0, 90.0, 2]
    # So does a target below the open.
    run = run_of(bars_of(flat, flat, (120, 125, 119, 121), flat), "backtesting.py", on(4, 1), levels={"take_profit": 0.1})
    assert run.trades[["entry_price", "exit_price", "exit_reason"]].iloc[0].tolist() == [120.0, 120.0, "target"]


def test_backtesting_finalises_at_the_last_open(backend):
    bars = bars_of(*[(100, 100, 100, 100)] * 2, (100, 110, 90, 105), (107, 120, 100, 115))
    left = run_of(bars, "backtesting.py", on(4, 0, 1))
    assert len(left.trades) == 0
    assert left.equity.iloc[-1] == 1000 + 9 * 15
    closed = run_of(bars, "backtesting.py", on(4, 1), close_at_end=True)
    assert closed.trades[["exit_price", "exit_bar", "exit_reason"]].iloc[0].tolist() == [107.0, 3, "end"]
    assert closed.equity.iloc[-1] == 1000 + 9 * 7
    # What the last close decides fills at that bar's open, hours before: so it does there.
    reversed_ = run_of(bars, "backtesting.py", on(4, 1), None, on(4, 3), None, close_at_end=True)
    assert reversed_.open_positions[["side", "entry_price"]].iloc[0].tolist() == ["short", 107.0]
    assert reversed_.trades["exit_reason"].tolist() == ["reverse"]
    assert reversed_.equity.iloc[-1] == 1000 + 9 * 7 - 9 * 8


def test_backtesting_waits_one_bar_after_the_longest_warm_up():
    close = np.arange(100.0, 120.0)
    bars = bt.Bars(open=close, high=close, low=close, close=close)
    level = rules.Strategy(enter_long=lines.sma(lines.close, 5) < lines.close)
    cross = rules.Strategy(enter_long=rules.crosses_above(lines.close, lines.sma(lines.close, 5)))
    for profile, starts in ((None, (4, 5)), ("vectorbt", (4, 5)), ("backtesting.py", (5, 5))):
        execution = bt.Execution(profile=profile, periods_per_year=252.0)
        found = tuple(bt.run(bars, each, costs=bt.Costs.zero(), execution=execution).start for each in (level, cross))
        assert found == starts, profile


# Twins


@pytest.mark.filterwarnings(UNPAID)
@pytest.mark.compiled
@pytest.mark.parametrize("profile", PROFILED)
@given(case=cases())
@settings(max_examples=200)
def test_twins_agree_under_profiles(profile, case):
    bars, signals, levels, costs, execution = under_profile(profile, case)
    found = []
    for name in ("cython", "python"):
        with _backend.forced(name):
            run = bt.run(bars, strategy_of(signals, levels), costs=costs, execution=execution)
        found.append((run.sums, run.fills, run._equity, run._units, run.tracked.records, run.tracked.positions))
    for left, right in zip(*found, strict=True):
        assert left.tobytes() == right.tobytes()


# Statistics in other tools' words (their live numbers: test_peers.py)


def a_run(**execution):
    return bt.run(
        bt.Bars.sample(),
        bt.strategies.sma_cross,
        {"fast": 10, "slow": 30},
        costs=bt.Costs(fee_rate=0.001),
        execution=bt.Execution(**execution),
        **({"window": slice(500, 1500)} if execution.get("start") else {}),
    )


def test_stats_are_a_series_that_knows_its_run():
    stats = a_run().stats
    assert list(stats.index) == list(bt.METRICS)
    assert stats.dtype == np.float64
    assert type(stats[["sharpe"]]).__name__ == "Series"  # a part knows no run
    again = pickle.loads(pickle.dumps(stats))
    assert again.equals(stats)
    assert again.to_vectorbt()["End Value"] == stats.to_vectorbt()["End Value"]


@pytest.mark.parametrize("profile", list(PROFILES))
def test_other_words_for_the_same_run(profile):
    run = a_run(profile=profile)
    theirs, others = run.stats.to_backtesting(), run.stats.to_vectorbt("1D")
    total = run.stats["total_return"]
    assert theirs["Return [%]"] == pytest.approx(100 * total)
    assert others["Total Return [%]"] == pytest.approx(100 * total)
    assert theirs["# Trades"] == others["Total Closed Trades"] == run.stats["n_trades"]
    assert theirs["Max. Drawdown [%]"] == pytest.approx(100 * run.stats["max_drawdown"])
    assert others["Total Fees Paid"] == pytest.approx(run.stats["costs_paid"] * run.execution.start_cash)
    # Their curves begin at the first bar, ours where a close may first decide.
    assert len(theirs["_equity_curve"]) == len(others["_equity_curve"]) == len(run.bars) == run.first + len(run.equity)
    assert theirs["Sharpe Ratio"] != run.stats["sharpe"] != others["Sharpe Ratio"]


def test_a_window_begins_their_count_of_bars():
    run = a_run(start=30)
    curve, trades = (run.stats.to_backtesting()[name] for name in ("_equity_curve", "_trades"))
    assert len(curve) == 1000
    assert (trades["EntryBar"] == run.trades["entry_bar"] - 500).all()
    assert len(run.stats.to_vectorbt()["_equity_curve"]) == 1000


def test_vectorbt_needs_the_duration_of_a_bar():
    bars = bars_of(*[(100, 101, 99, 100)] * 4)
    stats = run_of(bars, "vectorbt", on(4, 1)).stats
    with pytest.raises(bt.InputError, match="freq must be given where bars have no dates, or only one, got None"):
        stats.to_vectorbt()
    with pytest.raises(bt.InputError, match="freq must be a duration > 0, got '0D'"):
        stats.to_vectorbt("0D")
    assert stats.to_vectorbt("D")["Period"].days == 4

"""``bt.explain``: what became of each decision of a run of rules."""

import io

import numpy as np
import pandas as pd
import pytest
from cases import random_bars
from rich.console import Console

import backtest as bt

QUIET = (100, 101, 99, 100)
FREE = bt.Costs.zero()


def flat(*rows):
    """Bars from rows of (open, high, low, close)."""
    columns = np.array(rows, dtype=float).T
    index = pd.bdate_range("2024-01-01", periods=len(rows))
    return bt.Bars(open=columns[0], high=columns[1], low=columns[2], close=columns[3], index=index)


def replay(bars, enter_long=(), exit_long=(), enter_short=(), exit_short=(), *, levels=None, costs=FREE, **execution):
    masks = [np.isin(np.arange(len(bars)), bars_of) for bars_of in (enter_long, exit_long, enter_short, exit_short)]
    strategy = bt.rules.from_arrays(*masks, **(levels or {}))
    return bt.run(bars, strategy, costs=costs, execution=bt.Execution(periods_per_year=252.0, start_cash=1000.0, **execution))


def outcomes(run, call):
    """Count, first and last bar by outcome of a condition or level."""
    table = bt.explain(run).table.query("call == @call")
    return {row.end: (row.n, row.first_bar, row.last_bar) for row in table.itertuples()}


NEVER = {"never true": (0, -1, -1)}


@pytest.mark.usefixtures("backend")
class TestConditions:
    def test_a_condition_that_is_never_true_says_so(self):
        run = replay(flat(QUIET, QUIET), [])
        assert outcomes(run, "enter_long") == NEVER
        assert "never true" in str(bt.explain(run))

    def test_entries_fill_are_ignored_in_a_position_and_wait_for_a_bar(self):
        run = replay(flat(*[QUIET] * 6), [0, 1, 2, 5], [3])
        assert outcomes(run, "enter_long") == {
            "filled": (1, 0, 0),
            "ignored: already long": (2, 1, 2),
            "pending: no bar was left to fill it": (1, 5, 5),
        }
        assert outcomes(run, "exit_long") == {"filled": (1, 3, 3)}

    def test_conflicts_are_counted_on_both_sides(self):
        run = replay(flat(*[QUIET] * 6), [0, 1, 3], [0], [3], [])
        conflict = "cancelled by a conflict with another condition"
        assert outcomes(run, "enter_long") == {"filled": (1, 1, 1), conflict: (2, 0, 3)}
        assert outcomes(run, "exit_long") == {conflict: (1, 0, 0)}
        assert outcomes(run, "enter_short") == {conflict: (1, 3, 3)}
        assert outcomes(run, "exit_short") == NEVER

    def test_exits_without_a_position_and_beside_a_reversal(self):
        run = replay(flat(*[QUIET] * 6), [1], [0, 3], [3])
        assert outcomes(run, "exit_long") == {
            "ignored: no long position": (1, 0, 0),
            "replaced by the opposite entry on that bar": (1, 3, 3),
        }
        assert outcomes(run, "enter_short") == {"filled": (1, 3, 3)}

    def test_what_could_not_be_paid_for(self):
        with pytest.warns(bt.NumericsWarning, match="2 of 2 entries"):
            run = replay(flat(*[QUIET] * 4), [0, 2], costs=bt.Costs(fee_rate=0, fixed=2000.0))
        assert outcomes(run, "enter_long") == {"unaffordable": (2, 0, 2)}

    def test_after_an_exit_by_a_level_entries_do_not_fill_at_that_close(self):
        run = replay(flat(QUIET, (100, 101, 80, 100), QUIET), [0, 1], levels={"stop_loss": 0.05}, fill="close")
        assert outcomes(run, "enter_long") == {"filled": (1, 0, 0), "ignored: a level closed a position on that bar": (1, 1, 1)}
        assert outcomes(run, "stop_loss") == {"filled": (1, 1, 1)}

    def test_after_a_bust_nothing_is_decided(self):
        run = replay(flat(QUIET, QUIET, (300, 301, 299, 300), QUIET, QUIET), (), (), [0, 3], [2, 4])
        assert outcomes(run, "enter_short") == {"filled": (1, 0, 0), "ignored: the equity was gone": (1, 3, 3)}
        assert outcomes(run, "exit_short") == {"ignored: the equity was gone": (2, 2, 4)}
        assert outcomes(run, "bust") == {"filled": (1, 2, 2)}

    def test_what_no_rule_closed_is_there_too(self):
        assert outcomes(replay(flat(*[QUIET] * 3), [0], close_at_end=True), "end") == {"filled": (1, 2, 2)}
        assert outcomes(replay(flat(*[QUIET] * 3), [0]), "end") == {}
        margin = {"leverage": 3.0, "maintenance_margin": 0.3, "size_type": "value", "size": 2800.0}
        run = replay(flat(QUIET, QUIET, (80, 81, 79, 80)), [0], **margin)
        assert outcomes(run, "liquidation") == {"filled": (1, 2, 2)}

    def test_levels_and_the_time_exit_are_off_or_never_filled_or_filled(self):
        levels = {"stop_loss": bt.param("stop", None), "take_profit": 0.5, "max_bars": 2}
        run = replay(flat(*[QUIET] * 6), [0], levels=levels)
        assert outcomes(run, "stop_loss") == {"off": (0, -1, -1)}
        assert outcomes(run, "take_profit") == {"never filled": (0, -1, -1)}
        assert outcomes(run, "max_bars") == {"filled": (1, 2, 2)}

    def test_a_side_that_is_not_traded_is_left_out(self):
        run = replay(flat(*[QUIET] * 4), [0], (), [2], sides="long")
        assert set(bt.explain(run).table["call"]) == {"enter_long", "exit_long"}

    @pytest.mark.parametrize("seed", range(8))
    def test_every_bar_of_a_condition_is_counted_once(self, seed):
        """Random runs: outcomes add up to the bars of the raw condition, and those that filled to the fills."""
        rng = np.random.default_rng(seed)
        bars, masks = random_bars(rng, 150, 0.04), [rng.random(150) < 0.2 for _ in range(4)]
        strategy = bt.rules.from_arrays(*masks, stop_loss=0.03, max_bars=9)
        execution = bt.Execution(
            fill=("next_open", "close")[seed % 2], start=4, close_at_end=seed % 3 == 0, periods_per_year=252.0
        )
        run = bt.run(bars, strategy, costs=bt.Costs(fee_rate=0.001), execution=execution)
        table = bt.explain(run).table
        for name, mask in zip(("enter_long", "exit_long", "enter_short", "exit_short"), masks, strict=True):
            assert table.loc[table["call"] == name, "n"].sum() == mask[run.first : run.last].sum()
        opened = run.fills[run.fills["position_before"] == 0]
        filled = table[table["end"] == "filled"].set_index("call")["n"]
        assert filled["enter_long"] == (opened["units"] > 0).sum()
        assert filled["enter_short"] == (opened["units"] < 0).sum()
        assert filled.get("exit_long", 0) + filled.get("exit_short", 0) == (run.fills["reason"] == 1).sum()
        pending = (table["end"] == "pending: no bar was left to fill it").sum()
        assert (pending > 0) == ("unfilled" in set(run.orders["status"]))


def test_it_reads_well_as_text_on_a_console_and_in_a_notebook():
    run = bt.run(bt.Bars.sample("GOOG"), bt.strategies.sma_cross, {"fast": 10, "slow": 30, "stop_loss": 0.05}, costs=FREE)
    explanation = bt.explain(run)
    text = str(explanation)
    assert text.startswith(repr(run))
    lines = text.splitlines()
    assert "enter_long  [crosses_above(sma(close, fast), sma(close, slow))]" in lines
    longs = run.fills[(run.fills["position_before"] == 0) & (run.fills["units"] > 0)]
    first, last = (str(run.bars.times()[longs["decision_bar"][at]].date()) for at in (0, -1))
    assert lines[lines.index("enter_long  [crosses_above(sma(close, fast), sma(close, slow))]") + 1].split() == [
        *("filled", str(len(longs)), first, last)
    ]
    console = Console(width=120, file=io.StringIO())
    console.print(explanation)
    assert "replaced by the opposite entry" in console.file.getvalue()
    html = explanation._repr_html_()
    assert "<td>enter_long  [crosses_above(sma(close, fast), sma(close, slow))]</td>" in html
    assert {"call", "where", "end", "n", "first_bar", "first_time", "last_bar", "last_time"} == set(explanation.table.columns)


def test_bars_without_times_are_counted_by_number():
    bars = random_bars(np.random.default_rng(1), 30)
    run = bt.run(bars, bt.rules.from_arrays(np.arange(30) == 7), costs=FREE, execution=bt.Execution(periods_per_year=252.0))
    assert "  filled  1  bar 7  bar 7" in str(bt.explain(run)).splitlines()


def test_only_runs_are_explained():
    with pytest.raises(bt.InputError, match="run must be a Run, got 3"):
        bt.explain(3)


@bt.on_bar
def watches(bar, account, state, p):
    if account.is_long:
        account.move_stop_loss(bar.low)


def test_a_function_without_orders_is_said_to_have_none():
    explanation = bt.explain(bt.run(bt.Bars.sample("GOOG"), watches, costs=FREE))
    assert len(explanation.table) == 0
    assert str(explanation).splitlines() == [explanation.title, "The function has no call that places orders."]
    console = Console(width=120, file=io.StringIO())
    console.print(explanation)
    assert "The function has no call that places orders." in console.file.getvalue()
    assert "<td>The function has no call that places orders.</td>" in explanation._repr_html_()

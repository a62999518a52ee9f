"""``run.pending``: what a run of rules would do next."""

import math

import numpy as np
import pandas as pd
import pytest
from cases import random_bars

import backtest as bt
from backtest.pending import COLUMNS, candidate_of

FREE = bt.Costs.zero()
QUIET = (100, 101, 99, 100)


def flat(*rows):
    """Bars from rows of (open, high, low, close)."""
    columns = np.array(rows, dtype=float).T
    return bt.Bars(
        open=columns[0], high=columns[1], low=columns[2], close=columns[3], index=pd.bdate_range("2024-01-01", periods=len(rows))
    )


def replay(bars, enter_long=(), exit_long=(), enter_short=(), exit_short=(), *, levels=None, costs=FREE, **execution):
    masks = [np.isin(np.arange(len(bars)), bars_of) for bars_of in (enter_long, exit_long, enter_short, exit_short)]
    strategy = bt.rules.from_arrays(*masks, **(levels or {}))
    return bt.run(bars, strategy, costs=costs, execution=bt.Execution(periods_per_year=252.0, start_cash=1000.0, **execution))


def rows_of(run, *names):
    return run.pending[list(names)].to_numpy().tolist()


@pytest.mark.usefixtures("backend")
class TestPendingOfRules:
    def test_nothing_is_pending_and_the_columns_are_there(self):
        table = replay(flat(QUIET, QUIET)).pending
        assert len(table) == 0
        assert [name for name in table.columns if name != "time"] == list(COLUMNS)
        assert (table.dtypes["decision_bar"], table.dtypes["limit"]) == (np.int64, np.float64)

    def test_an_entry_of_the_last_close(self):
        run = replay(flat(QUIET, QUIET, QUIET), [2], levels={"stop_loss": 0.05, "trailing_stop": 0.1}, size=0.5)
        row = run.pending.iloc[0]
        assert row[["kind", "side", "reason", "size", "size_kind", "call"]].tolist() == [
            "market",
            "buy",
            "entry",
            0.5,
            "share",
            "enter_long",
        ]
        assert row[["stop_loss", "stop_loss_kind", "trailing_stop", "trailing_stop_kind"]].tolist() == [
            0.05,
            "below_entry",
            0.1,
            "fraction",
        ]
        assert row["take_profit_kind"] == ""
        assert math.isnan(row["take_profit"])
        assert (row["decision_bar"], row["time"]) == (2, pd.Timestamp("2024-01-03"))
        assert math.isnan(row["valid_until"])

    def test_a_short_has_its_stop_above_and_its_target_below(self):
        run = replay(
            flat(QUIET, QUIET), (), (), [1], levels={"stop_loss": 0.05, "take_profit": 0.1}, size_type="value", size=300.0
        )
        assert rows_of(run, "side", "size", "size_kind", "stop_loss_kind", "take_profit_kind") == [
            ["sell", 300.0, "value", "above_entry", "below_entry"]
        ]

    def test_a_reversal_is_two_orders_and_the_levels_of_the_old_position_still_stand(self):
        run = replay(flat(QUIET, QUIET, QUIET), [0], (), [2], levels={"stop_loss": 0.05})
        assert rows_of(run, "kind", "side", "reason", "size", "call") == [
            ["market", "sell", "reverse", 10.0, "enter_short"],
            ["market", "sell", "entry", 1.0, "enter_short"],
            ["stop_loss", "sell", "stop", 10.0, ""],
        ]
        assert run.pending["stop"].tolist()[2] == 95.0

    @pytest.mark.parametrize(
        ("exits", "levels", "reason", "call"), [([2], {}, "signal", "exit_long"), ((), {"max_bars": 2}, "time", "max_bars")]
    )
    def test_an_exit_of_the_last_close(self, exits, levels, reason, call):
        run = replay(flat(QUIET, QUIET, QUIET), [0], exits, levels=levels)
        assert rows_of(run, "kind", "side", "reason", "size", "size_kind", "call") == [
            ["market", "sell", reason, 10.0, "units", call]
        ]

    def test_levels_of_an_open_position_are_prices(self):
        bars = flat(QUIET, QUIET, (104, 111, 103, 110), (110, 111, 105, 106))
        run = replay(bars, [0], levels={"stop_loss": 0.05, "take_profit": 0.2, "trailing_stop": 0.1})
        assert rows_of(run, "kind", "side", "reason") == [
            ["stop_loss", "sell", "stop"],
            ["trailing_stop", "sell", "trail"],
            ["take_profit", "sell", "target"],
        ]
        assert run.pending["stop"].tolist()[:2] == [95.0, 110 * (1 - 0.1)]  # the best close since the entry, not the last
        assert run.pending["limit"].tolist()[2] == 120.0
        assert run.pending["decision_bar"].tolist() == [3, 3, 3]

    def test_with_fills_at_the_close_only_levels_are_left(self):
        run = replay(flat(QUIET, QUIET, (100, 120, 99, 118)), [1], levels={"trailing_stop": 0.1}, fill="close")
        assert rows_of(run, "kind", "stop") == [["trailing_stop", 118 * (1 - 0.1)]]
        run = replay(flat(QUIET, QUIET), [1], levels={"trailing_stop": 0.1}, fill="close")
        assert rows_of(run, "kind", "stop") == [["trailing_stop", 100 * (1 - 0.1)]]

    def test_a_closed_end_leaves_entries_only(self):
        run = replay(flat(QUIET, QUIET, QUIET), [0], (), [2], levels={"stop_loss": 0.05}, close_at_end=True)
        assert rows_of(run, "kind", "side", "reason") == [["market", "sell", "entry"]]

    def test_an_account_that_is_gone_does_nothing(self):
        run = replay(flat(QUIET, QUIET, (300, 301, 299, 300), QUIET), (), (), [0, 3])
        assert run.equity.iloc[-1] == 0
        assert len(run.pending) == 0

    def test_a_line_is_sampled_at_the_close_that_decided(self):
        bars = random_bars(np.random.default_rng(3), 40)
        enter = np.isin(np.arange(40), [39])
        strategy = bt.rules.from_arrays(enter, stop_loss=2 * bt.lines.atr(5) / bt.lines.close)
        run = bt.run(
            bars,
            strategy,
            costs=FREE,
            execution=bt.Execution(size=bt.lines.lowest(bt.lines.close, 3) / bt.lines.close, periods_per_year=252.0),
        )
        row = run.pending.iloc[0]
        _, table = candidate_of(run)
        assert row["size"] == bars.close[-3:].min() / bars.close[-1]
        assert row["stop_loss"] == table.lines[table.line_rows[0, 0], 39]

    @pytest.mark.parametrize("profile", ["vectorbt", "backtesting.py"])
    def test_the_trail_of_a_profile_is_where_the_next_bar_tests_it(self, profile):
        """Levels after the last close, against what a bar more would fill at."""
        rng, n_tested = np.random.default_rng(11), 0
        name = "trailing_stop" if profile == "vectorbt" else "stop_loss"
        for _ in range(30):
            bars = random_bars(rng, 60, 0.02)
            enter = rng.random(60) < 0.1
            strategy = bt.rules.from_arrays(enter, np.zeros(60, dtype=bool), **{name: 0.04})
            run = bt.run(bars, strategy, costs=FREE, execution=bt.Execution(profile=profile, periods_per_year=252.0))
            closed = run.fills[run.fills["position_after"] == 0]
            for fill in closed[closed["moment"] == 1]:
                at = int(fill["fill_bar"])
                before = bt.run(
                    bars[:at],
                    bt.rules.from_arrays(enter[:at], np.zeros(at, dtype=bool), **{name: 0.04}),
                    costs=FREE,
                    execution=run.execution,
                )
                if before.units.iloc[-1] != 0:
                    assert fill["price"] == pytest.approx(before.pending["stop"].iloc[-1], rel=1e-12)
                    n_tested += 1
        assert n_tested > 20

"""The meaning of signals: order of events, conflicts, levels, size, accounting, windows; oracle and metamorphic tests."""

import concurrent.futures

import numpy as np
import pytest
from cases import UNPAID, cases, random_bars, random_signals, strategy_of, under_profile
from hypothesis import given, settings
from oracle import metrics_of, trade_signals

import backtest as bt
from backtest import _backend, signals
from backtest.signals import StrategyEvaluator

FREE = bt.Costs.zero()


def flat(*rows):
    """Bars from rows of (open, high, low, close)."""
    columns = np.array(rows, dtype=float).T
    return bt.Bars(open=columns[0], high=columns[1], low=columns[2], close=columns[3])


def at(n, *bars):
    mask = np.zeros(n, dtype=bool)
    mask[list(bars)] = True
    return mask


def replay(bars, enter_long=(), exit_long=(), enter_short=(), exit_short=(), *, costs=FREE, levels=None, **execution):
    n = len(bars)
    strategy = bt.rules.from_arrays(
        at(n, *enter_long), at(n, *exit_long), at(n, *enter_short), at(n, *exit_short), **(levels or {})
    )
    return bt.run(
        bars, strategy, costs=costs, execution=bt.Execution(**({"periods_per_year": 252.0, "start_cash": 1000.0} | execution))
    )


QUIET = (100, 101, 99, 100)


# --- order of events -------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("backend")
class TestFills:
    def test_a_decision_fills_at_the_next_open(self):
        run = replay(flat(QUIET, (102, 103, 101, 102), QUIET, (98, 99, 97, 98)), [0], [2])
        trade = run.trades.iloc[0]
        assert (trade.decision_bar, trade.entry_bar, trade.exit_bar) == (0, 1, 3)
        assert (trade.entry_price, trade.exit_price, trade.exit_reason) == (102, 98, "signal")
        assert trade.units == pytest.approx(1000 / 102, rel=1e-15)

    def test_or_at_the_same_close_if_asked(self):
        run = replay(flat(QUIET, (102, 103, 101, 103), QUIET), [1], [2], fill="close")
        trade = run.trades.iloc[0]
        assert (trade.entry_bar, trade.exit_bar, trade.entry_price, trade.exit_price) == (1, 2, 103, 100)

    def test_a_decision_on_the_last_bar_does_not_fill_and_is_listed(self):
        run = replay(flat(QUIET, QUIET, QUIET), [2])
        assert len(run.trades) == 0
        order = run.orders.iloc[-1]
        assert (order.status, order.side, order.reason, order.decision_bar, order.fill_bar) == ("unfilled", "buy", "entry", 2, -1)

    def test_both_halves_of_a_last_reversal_are_listed(self):
        run = replay(flat(QUIET, QUIET, QUIET), [0], [], [2])
        assert run.orders[["side", "reason", "status"]].to_numpy().tolist() == [
            ["buy", "entry", "filled"],
            ["sell", "reverse", "unfilled"],
            ["sell", "entry", "unfilled"],
        ]
        assert run.orders["time"].isna().tolist() == [False, True, True]

    def test_slippage_moves_market_orders_against_the_trader(self):
        run = replay(flat(QUIET, QUIET, QUIET, QUIET), [0], [1], costs=bt.Costs(fee_rate=0, slippage=0.01))
        assert run.trades.iloc[0][["entry_price", "exit_price"]].tolist() == [101, 99]
        run = replay(flat(QUIET, QUIET, QUIET, QUIET), (), (), [0], [1], costs=bt.Costs(fee_rate=0, slippage=0.01))
        assert run.trades.iloc[0][["entry_price", "exit_price"]].tolist() == [99, 101]


@pytest.mark.usefixtures("backend")
class TestConflicts:
    bars = flat(*[QUIET] * 6)

    def test_enter_and_exit_of_one_side_cancel(self):
        assert len(replay(self.bars, [0], [0]).orders) == 0
        assert len(replay(self.bars, [0, 2], [2]).orders) == 1  # still held: the exit was cancelled too

    def test_enter_long_and_enter_short_cancel(self):
        assert len(replay(self.bars, [0], (), [0]).orders) == 0

    def test_cancelling_one_side_leaves_the_other(self):
        assert replay(self.bars, [0], [0], [0]).orders["side"].tolist() == ["sell"]

    def test_an_opposite_entry_reverses_in_two_orders(self):
        run = replay(self.bars, [0], (), [2])
        assert run.orders["reason"].tolist() == ["entry", "reverse", "entry"]
        assert run.orders["fill_bar"].tolist() == [1, 3, 3]

    def test_entry_while_in_that_side_does_nothing(self):
        assert len(replay(self.bars, [0, 1, 2, 3]).orders) == 1

    def test_a_disabled_side_is_removed_first(self):
        run = replay(self.bars, [0], (), [0], sides="long")  # with the short entry there, both would cancel
        assert run.orders["side"].tolist() == ["buy"]

    def test_a_time_exit_is_never_cancelled(self):
        run = replay(self.bars, [0, 2], [2], levels={"max_bars": 2})
        trade = run.trades.iloc[0]
        assert (trade.entry_bar, trade.exit_bar, trade.exit_reason) == (1, 3, "time")
        assert len(run.orders) == 2  # the entry of the same side was ignored with it

    def test_an_opposite_entry_reverses_on_a_time_exit(self):
        run = replay(self.bars, [0], (), [2], levels={"max_bars": 2})
        assert run.orders["reason"].tolist() == ["entry", "reverse", "entry", "time"]

    def test_max_bars_counts_closes_held(self):
        assert replay(self.bars, [0], levels={"max_bars": 1}).trades.iloc[0][["entry_bar", "exit_bar"]].tolist() == [1, 2]
        assert replay(self.bars, [0], levels={"max_bars": 1}, fill="close").trades.iloc[0][
            ["entry_bar", "exit_bar"]
        ].tolist() == [0, 1]


@pytest.mark.usefixtures("backend")
class TestLevels:
    def test_a_gap_beyond_the_stop_exits_at_the_open(self):
        run = replay(flat(QUIET, QUIET, (90, 91, 89, 90)), [0], levels={"stop_loss": 0.05})
        assert run.trades.iloc[0][["exit_bar", "exit_price", "exit_reason"]].tolist() == [2, 90, "stop"]

    def test_a_gap_beyond_the_target_exits_at_the_open_without_slippage(self):
        run = replay(
            flat(QUIET, QUIET, (120, 121, 119, 120)), [0], levels={"take_profit": 0.05}, costs=bt.Costs(fee_rate=0, slippage=0.01)
        )
        assert run.trades.iloc[0][["exit_price", "exit_reason"]].tolist() == [120, "target"]

    def test_the_open_comes_before_the_rest_of_the_bar(self):
        """Beyond the target at the open, and below the stop later: the target, and nothing is ambiguous."""
        run = replay(flat(QUIET, QUIET, (120, 121, 50, 60)), [0], levels={"take_profit": 0.05, "stop_loss": 0.05})
        assert run.trades.iloc[0][["exit_price", "exit_reason", "ambiguous"]].tolist() == [120, "target", False]

    def test_touch_is_inclusive(self):
        run = replay(flat(QUIET, (100, 100, 100, 100), (100, 100, 95, 97)), [0], levels={"stop_loss": 0.05})
        assert run.trades.iloc[0][["exit_price", "exit_reason"]].tolist() == [95, "stop"]
        run = replay(flat(QUIET, (100, 100, 100, 100), (100, 105, 100, 101)), [0], levels={"take_profit": 0.05})
        assert run.trades.iloc[0][["exit_price", "exit_reason"]].tolist() == [105, "target"]

    def test_levels_start_from_the_entry_price_with_slippage(self):
        run = replay(
            flat(QUIET, QUIET, (100, 100, 90, 95)), [0], levels={"stop_loss": 0.05}, costs=bt.Costs(fee_rate=0, slippage=0.02)
        )
        trade = run.trades.iloc[0]
        assert trade.stop == 102 * 0.95
        assert trade.exit_price == 102 * 0.95 * (1 - 0.02)

    def test_on_the_entry_bar_a_stop_above_the_open_fills_at_the_open(self):
        run = replay(
            flat(QUIET, (100, 101, 99, 100), QUIET), [0], levels={"stop_loss": 0.005}, costs=bt.Costs(fee_rate=0, slippage=0.02)
        )
        assert run.trades.iloc[0][["entry_bar", "exit_bar", "exit_price"]].tolist() == [1, 1, 98]
        run = replay(
            flat(QUIET, (100, 101, 99, 100), QUIET),
            (),
            (),
            [0],
            levels={"stop_loss": 0.005},
            costs=bt.Costs(fee_rate=0, slippage=0.02),
        )
        assert run.trades.iloc[0][["entry_bar", "exit_bar", "exit_price"]].tolist() == [1, 1, 102]

    @pytest.mark.parametrize("intrabar", ["pessimistic", "optimistic"])
    @pytest.mark.parametrize("level", ["stop_loss", "trailing_stop"])
    def test_a_stop_beyond_the_open_of_the_entry_bar_comes_before_the_target(self, intrabar, level):
        """Slippage carried the entry so far that the stop lies beyond the open, where the bar begins: nothing is in doubt."""
        costs, levels = bt.Costs(fee_rate=0, slippage=0.02), {level: 0.005, "take_profit": 0.03}
        for entries, price, reached in (([0], 98, (100, 120, 99, 110)), ((), 102, (100, 101, 80, 90))):
            run = replay(
                flat(QUIET, reached, QUIET), entries, (), () if entries else [0], levels=levels, costs=costs, intrabar=intrabar
            )
            trade = run.trades.iloc[0]
            assert trade[["exit_bar", "exit_price", "ambiguous"]].tolist() == [1, price, False]
            assert trade.exit_reason == level.split("_")[0].replace("trailing", "trail")
            assert run.stats["n_ambiguous"] == 0

    def test_a_position_opened_at_the_close_is_tested_from_the_next_bar(self):
        bars = flat(QUIET, (100, 100, 80, 100), (100, 100, 94, 100))
        run = replay(bars, [1], levels={"stop_loss": 0.05}, fill="close")
        assert run.trades.iloc[0][["entry_bar", "exit_bar"]].tolist() == [1, 2]

    @pytest.mark.parametrize(("intrabar", "price", "reason"), [("pessimistic", 95, "stop"), ("optimistic", 105, "target")])
    def test_stop_and_target_in_one_bar_are_ambiguous(self, intrabar, price, reason):
        run = replay(
            flat(QUIET, QUIET, (100, 110, 90, 100)), [0], levels={"stop_loss": 0.05, "take_profit": 0.05}, intrabar=intrabar
        )
        assert run.trades.iloc[0][["exit_price", "exit_reason", "ambiguous"]].tolist() == [price, reason, True]
        assert run.stats["n_ambiguous"] == 1

    def test_a_trail_follows_closes_known_before_the_bar(self):
        bars = flat(QUIET, (100, 111, 99, 110), (110, 121, 105, 120), (115, 116, 107, 108))
        run = replay(bars, [0], levels={"trailing_stop": 0.1})
        # After closes of 110 and 120 the trail is 108; on bar 2 it was 99, though the high was 121.
        assert run.trades.iloc[0][["exit_bar", "exit_price", "exit_reason"]].tolist() == [3, 108, "trail"]

    def test_a_short_trail_mirrors(self):
        bars = flat(QUIET, (100, 101, 89, 90), (90, 95, 79, 80), (82, 95, 81, 94))
        run = replay(bars, (), (), [0], levels={"trailing_stop": 0.1})
        assert run.trades.iloc[0][["exit_bar", "exit_price", "exit_reason"]].tolist() == [3, 88, "trail"]

    def test_the_nearer_of_stop_and_trail_acts_and_equal_is_the_stop(self):
        bars = flat(QUIET, QUIET, (100, 100, 80, 90))
        for levels, reason in (
            ({"stop_loss": 0.05, "trailing_stop": 0.05}, "stop"),
            ({"stop_loss": 0.1, "trailing_stop": 0.05}, "trail"),
            ({"stop_loss": 0.02, "trailing_stop": 0.05}, "stop"),
        ):
            assert replay(bars, [0], levels=levels).trades.iloc[0].exit_reason == reason

    def test_after_an_exit_by_levels_a_close_fill_allows_no_entry_on_that_bar(self):
        bars = flat(QUIET, QUIET, (100, 100, 90, 95), QUIET, QUIET)
        for side in ([2], ()), ((), [2]):
            run = replay(bars, [0, *side[0]], (), side[1], levels={"stop_loss": 0.05}, fill="close")
            assert len(run.orders) == 2
        run = replay(bars, [0, 2], levels={"stop_loss": 0.05})  # at the next open it may
        assert run.orders["fill_bar"].tolist() == [1, 2, 3]

    def test_a_line_is_sampled_at_the_decision_bar(self):
        bars = flat(*[QUIET] * 6)
        strategy = bt.rules.Strategy(
            enter_long=bt.lines.previous(bt.lines.close, 1) > 0, stop_loss=bt.param("k") * bt.lines.atr(2) / bt.lines.close
        )
        run = bt.run(bars, strategy, {"k": 2.0}, costs=FREE, execution=bt.Execution(periods_per_year=252.0))
        assert run.start == 2
        assert run.orders.iloc[0].fill_bar == 3
        assert run.open_positions.iloc[0].stop == pytest.approx(100 * (1 - 2 * 2.0 / 100))

    @pytest.mark.parametrize(
        ("stop", "message"),
        [(0.0, r"stop_loss \(stop = 0.0\) must be > 0, got 0.0"), (-0.1, r"stop_loss \(stop = -0.1\) must be > 0, got -0.1")],
    )
    def test_a_level_of_nothing_is_refused(self, stop, message):
        strategy = bt.rules.Strategy(enter_long=bt.lines.close > 0, stop_loss=bt.param("stop"))
        with pytest.raises(bt.InputError, match=message):
            bt.run(flat(QUIET, QUIET), strategy, {"stop": stop}, costs=FREE)

    def test_a_level_line_is_checked_from_the_start_on(self):
        bars = flat(QUIET, QUIET, (100, 100, 100, 100), QUIET)
        strategy = bt.rules.Strategy(
            enter_long=bt.lines.close > 0, stop_loss=bt.param("k") * (bt.lines.high - bt.lines.low) / bt.lines.close
        )
        with pytest.raises(
            bt.InputError, match=r"stop_loss = .* \(k = 1.0\) must be finite and > 0 from the start on, got 0.0 \(row 2\)"
        ):
            bt.run(bars, strategy, {"k": 1.0}, costs=FREE)


@pytest.mark.usefixtures("backend")
class TestAccounting:
    def test_costs_fit_inside_the_equity(self):
        run = replay(flat(QUIET, QUIET, QUIET), [0], costs=bt.Costs(fee_rate=0.01))
        assert run.orders.iloc[0].units == 1000 / (100 * 1.01)
        assert run.orders.iloc[0].cash_after == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize(
        ("costs", "units"),
        [
            (bt.Costs(fee_rate=0, fixed=100), 9.0),
            (bt.Costs(fee_rate=0, per_unit=25), 8.0),
            (bt.Costs(fee_rate=0.001, minimum=100), 9.0),
            (bt.Costs(fee_rate=0.5, maximum=100), 9.0),
            (bt.Costs(fee_rate=0, fixed=1000), 0.0),
        ],
    )
    @pytest.mark.filterwarnings(UNPAID)
    def test_every_cost_is_inside_the_size(self, costs, units):
        orders = replay(flat(QUIET, QUIET, QUIET), [0], costs=costs).orders
        assert orders["units"].sum() == pytest.approx(units)

    def test_whole_units(self):
        assert replay(flat(QUIET, (300, 300, 300, 300), QUIET), [0], whole_units=True).orders.iloc[0].units == 3
        # 1000 / 0.1 is exactly 10,000 only if the rounded division is checked against the rule.
        cheap = (0.1, 0.1, 0.1, 0.1)
        assert replay(flat(cheap, cheap, cheap), [0], whole_units=True).orders.iloc[0].units == 10_000

    def test_size_in_currency_does_not_compound(self):
        run = replay(flat(QUIET, QUIET, QUIET), [0], size=250.0, size_type="value")
        assert run.orders.iloc[0].units == 2.5
        assert replay(flat(QUIET, QUIET, QUIET), [0], size=5000.0, size_type="value").orders.iloc[0].units == 10

    def test_a_short_is_worth_cash_minus_what_it_owes(self):
        run = replay(flat(QUIET, QUIET, (100, 121, 99, 120)), (), (), [0])
        assert run.equity.tolist() == [1000, 1000, 800]
        assert run.units.tolist() == [0, -10, -10]

    def test_borrowing_is_paid_at_each_close_and_belongs_to_the_trade(self):
        costs = bt.Costs(fee_rate=0, borrow_rate=0.252)
        run = replay(flat(*[QUIET] * 4), (), (), [0], [2], costs=costs)
        assert run.trades.iloc[0].borrow_cost == pytest.approx(2 * 1000 * 0.001)
        assert run.trades.iloc[0].net_profit == pytest.approx(-2.0)
        assert run.equity.tolist() == pytest.approx([1000, 999, 998, 998])
        assert run.stats["costs_paid"] == pytest.approx(0.002)

    def test_bust(self):
        run = replay(flat(QUIET, QUIET, (250, 260, 240, 250), QUIET, QUIET), [3], (), [0])
        trade = run.trades.iloc[0]
        assert (trade.exit_reason, trade.exit_bar, trade.exit_price) == ("bust", 2, 250)
        assert trade.net_profit == -1500
        assert trade.written_off == 500
        assert run.equity.tolist() == [1000, 1000, 0, 0, 0]  # and nothing is traded from then on
        assert run.stats["total_return"] == -1
        assert run.stats["max_drawdown"] == -1

    def test_an_exit_that_leaves_less_than_nothing_is_a_bust_too(self):
        run = replay(flat(QUIET, QUIET, (300, 300, 300, 300), QUIET), (), (), [0], levels={"stop_loss": 0.5})
        assert run.trades.iloc[0][["exit_reason", "written_off"]].tolist() == ["stop", 1000]
        assert run.equity.tolist() == [1000, 1000, 0, 0]

    def test_an_open_position_is_valued_but_is_no_completed_trade(self):
        bars = flat(QUIET, QUIET, (110, 111, 109, 110))
        run = replay(bars, [0])
        assert len(run.trades) == 0
        assert run.stats["total_return"] == pytest.approx(0.1)
        assert run.open_positions.iloc[0][["side", "units", "gross_profit"]].tolist() == ["long", 10.0, 100.0]
        closed = replay(bars, [0], close_at_end=True, costs=bt.Costs(fee_rate=0.01))
        assert closed.trades.iloc[0][["exit_reason", "exit_bar", "exit_price"]].tolist() == ["end", 2, 110]
        assert closed.equity.iloc[-1] == pytest.approx(1000 / 1.01 * 1.1 * 0.99)

    def test_first_bar_costs_show_in_the_first_return(self):
        run = replay(flat(QUIET, QUIET), [0], costs=bt.Costs(fee_rate=0.25), fill="close")
        assert run.equity.iloc[0] == 800
        assert run.stats["max_drawdown"] == pytest.approx(-0.2)


# --- start and window --------------------------------------------------------------------------------------------------


def test_run_starts_at_its_own_warm_up_and_batches_at_the_longest():
    bars, strategy = bt.Bars.sample(), bt.strategies.sma_cross
    assert bt.run(bars, strategy, {"fast": 5, "slow": 20}, costs=FREE).start == 20
    table = bt.evaluate(bars, strategy, {"fast": [5, 5], "slow": [20, 50]}, costs=FREE)
    own = bt.run(bars, strategy, {"fast": 5, "slow": 20}, costs=FREE, execution=bt.Execution(start=50))
    assert table.iloc[0].tolist() == own.stats[table.columns].tolist()


def test_a_start_inside_the_warm_up_is_refused():
    with pytest.raises(bt.InputError, match=r"start must be >= the longest warm-up of the candidates \(20\), got 19"):
        bt.run(bt.Bars.sample(), bt.strategies.sma_cross, {"fast": 5, "slow": 20}, costs=FREE, execution=bt.Execution(start=19))


def test_a_warm_up_that_leaves_no_bar_is_refused():
    with pytest.raises(bt.DataError, match=r"window must leave a bar to trade.*warm-up of 3000 bars"):
        bt.run(bt.Bars.sample(), bt.strategies.sma_cross, {"fast": 5, "slow": 3000}, costs=FREE)


@pytest.mark.usefixtures("backend")
def test_a_window_trades_inside_only_and_reads_warm_up_before_it():
    bars, strategy, params = bt.Bars.sample(), bt.strategies.sma_cross, {"fast": 5, "slow": 20}
    run = bt.run(bars, strategy, params, costs=FREE, window=slice(300, 400))
    assert len(run.equity) == 100
    assert run.equity.index[0] == bars.times()[300]
    assert run.trades["decision_bar"].min() >= 300
    assert run.trades["exit_bar"].max() < 400
    # Lines are those of all bars; trading is that of a run that starts there and ends there.
    cut = bt.Bars(open=bars.open[:400], high=bars.high[:400], low=bars.low[:400], close=bars.close[:400], index=bars.index[:400])
    same = bt.run(cut, strategy, params, costs=FREE, execution=bt.Execution(start=300))
    assert run.sums.tobytes() == same.sums.tobytes()
    table = bt.evaluate(bars, strategy, {name: [value] for name, value in params.items()}, costs=FREE, window=slice(300, 400))
    np.testing.assert_array_equal(table.iloc[0], run.stats[table.columns])


@pytest.mark.parametrize("window", [slice(0, 10, 2), (0, 10), 5])
def test_a_window_must_be_a_slice(window):
    with pytest.raises(bt.InputError, match="window must be a slice of bars without a step"):
        bt.run(bt.Bars.sample(), bt.strategies.sma_cross, {"fast": 5, "slow": 20}, costs=FREE, window=window)


# --- oracle ------------------------------------------------------------------------------------------------------------


def against_oracle(bars, signals, levels, costs, execution):
    run = bt.run(bars, strategy_of(signals, levels), costs=costs, execution=execution)
    n = len(bars)
    constant = {
        name: None if value is None else [value] * n
        for name, value in zip(
            ("stop", "target", "trail"), map(levels.get, ("stop_loss", "take_profit", "trailing_stop")), strict=True
        )
    }
    filled = [np.zeros(n, dtype=bool) if signal is None else signal for signal in signals]
    equity, trades, position, missed = trade_signals(
        bars, filled, costs, execution, first=execution.start, last=n, levels=constant, max_bars=levels.get("max_bars")
    )
    listed = run.orders[run.orders["status"] == "unaffordable"]
    assert list(zip(listed["decision_bar"], listed["side"].map({"buy": 1, "sell": -1}), strict=True)) == missed
    np.testing.assert_allclose(run.equity, equity, rtol=1e-9, atol=1e-6)
    mine = run.trades
    assert len(mine) == len(trades)
    for index, trade in enumerate(trades):
        row = mine.iloc[index]
        assert (row.entry_bar, row.exit_bar, row.exit_reason, row.ambiguous) == (
            trade["entry_bar"],
            trade["exit_bar"],
            trade["reason"],
            trade["ambiguous"],
        )
        for name, key in (
            ("entry_price", "entry_price"),
            ("exit_price", "exit_price"),
            ("net_profit", "net"),
            ("written_off", "written_off"),
            ("trail", "trail"),
        ):
            assert row[name] == pytest.approx(trade[key], rel=1e-9, abs=1e-6, nan_ok=True)
    assert len(run.open_positions) == (position is not None)
    if run.stats["max_drawdown"] > -1:  # after a bust, returns of nothing are a convention
        expected = metrics_of(equity, trades, execution.start_cash, 252.0, execution.rf)
        for key, value in expected.items():
            assert run.stats[key] == pytest.approx(value, rel=1e-6, abs=1e-7, nan_ok=True), key
    return len(trades)


@pytest.mark.filterwarnings(UNPAID)
@given(cases())
@settings(max_examples=300)
def test_oracle_on_everything_that_can_happen(case):
    bars, signals, levels, costs, execution = case
    if execution.sides == "short":
        signals = [None, None, *signals[2:]]
    against_oracle(bars, signals, levels, costs, execution)


@pytest.mark.filterwarnings(UNPAID)
@pytest.mark.parametrize("profile", ["vectorbt", "backtesting.py"])
@given(case=cases())
@settings(max_examples=200)
def test_oracle_under_profiles(profile, case):
    against_oracle(*under_profile(profile, case))


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("seed", range(12))
def test_oracle_on_random_walks(seed):
    rng = np.random.default_rng(seed)
    bars = random_bars(rng, 300, 0.02)
    levels = {
        "stop_loss": (None, 0.03)[seed % 2],
        "take_profit": (None, 0.04)[seed // 2 % 2],
        "trailing_stop": (None, 0.05)[seed // 4 % 2],
        "max_bars": (None, 7)[seed % 3 == 0],
    }
    n_trades = against_oracle(
        bars,
        random_signals(rng, 300, 0.05),
        levels,
        bt.Costs(fee_rate=0.001, slippage=0.0005, borrow_rate=0.05),
        bt.Execution(fill=("next_open", "close")[seed % 2], start=3, periods_per_year=252.0, rf=0.02),
    )
    assert n_trades > 5


def test_sums_of_a_batch_equal_those_of_the_trades():
    rng = np.random.default_rng(5)
    bars = random_bars(rng, 400, 0.03)
    for density in (0.02, 0.3):
        run = bt.run(
            bars,
            strategy_of(random_signals(rng, 400, density), {"stop_loss": 0.05}),
            costs=bt.Costs(fee_rate=0.001, borrow_rate=0.1),
            execution=bt.Execution(periods_per_year=252.0),
        )
        trades, sums = run.tracked.sums()[0], run.sums[0]
        for mine, theirs in (
            ("n_trades", "n_trades"),
            ("n_winners", "n_winners"),
            ("won", "won"),
            ("net_profit", "net_profit"),
            ("largest_profit", "largest_profit"),
            ("sum_trade_return", "sum_return"),
            ("n_ambiguous", "n_ambiguous"),
            ("sum_trade_return_2", "sum_return_2"),
        ):
            # Trades are added up by side, a candidate's in order.
            assert sums[mine] == pytest.approx(trades[theirs], rel=1e-12, abs=0), mine
        for mine in ("n_trades", "n_winners", "n_ambiguous", "largest_profit"):
            assert sums[mine] == trades[mine], mine
        assert run.stats["win_rate"] == run.trade_statistics().loc["win_rate", "All"]


# --- metamorphic -------------------------------------------------------------------------------------------------------


def sweep(bars=None, n_threads=1, batch=None, **execution):
    bars = bt.Bars.sample() if bars is None else bars
    space = bt.Space({"fast": range(5, 25, 5), "slow": range(30, 90, 20), "stop_loss": [None, 0.05], "take_profit": [None, 0.1]})
    evaluator = StrategyEvaluator(
        bars,
        bt.strategies.sma_cross,
        space.parameters,
        costs=bt.Costs(fee_rate=0.001, slippage=0.0005),
        execution=bt.Execution(start=100, **execution),
        n_threads=n_threads,
    )
    return evaluator, space.candidates(np.arange(len(space)))[1] if batch is None else batch


def test_threads_and_cuts_change_no_bit(monkeypatch):
    evaluator, batch = sweep()
    whole = evaluator(batch)
    monkeypatch.setattr("backtest.compute.threads.WORTH_A_THREAD_US", 0.0)
    for n_threads in (2, 3, 7):
        assert sweep(n_threads=n_threads)[0](batch).tobytes() == whole.tobytes()
    for block in (1, 2, 5, 47):
        evaluator.block = block
        assert evaluator(batch).tobytes() == whole.tobytes()
    pieces = [sweep()[0](batch[start : start + 11]) for start in range(0, len(batch), 11)]
    assert np.concatenate(pieces).tobytes() == whole.tobytes()


CLOSE, FAST, SLOW = bt.lines.close, *(bt.lines.sma(bt.lines.close, bt.param(name)) for name in ("fast", "slow"))
UP, DOWN = bt.rules.crosses_above(FAST, SLOW), bt.rules.crosses_below(FAST, SLOW)
RSI, LEVEL = bt.lines.rsi(CLOSE, bt.param("fast")), 40.0 + 5.0 * bt.param("level")
#: Which of the conditions wait until the candidates are replayed, and how many kernel calls make them.
WAITING = {
    "mirrored": ({"enter_long": UP, "exit_long": DOWN, "enter_short": DOWN, "exit_short": UP}, 1),
    "with others": (
        {
            "enter_long": UP,
            "exit_long": CLOSE < SLOW,
            "enter_short": bt.lines.rsi(CLOSE) > 60,
            "exit_short": (FAST > CLOSE) & (SLOW > CLOSE),
        },
        1,
    ),
    "compared": ({"enter_long": FAST > SLOW, "exit_long": FAST <= SLOW, "stop_loss": 0.02, "take_profit": 0.02}, 2),
    "inside another": ({"enter_long": UP, "exit_long": ~UP & DOWN}, 0),
    "number": ({"enter_long": RSI < LEVEL, "exit_long": RSI >= LEVEL, "stop_loss": 0.02, "take_profit": 0.02}, 2),
}


@pytest.mark.parametrize("which", WAITING)
@pytest.mark.parametrize("intrabar", ["pessimistic", "both"])
def test_masks_made_tile_by_tile_change_no_bit(monkeypatch, backend, which, intrabar):
    rng = np.random.default_rng(5)
    bars = random_bars(rng, 150, 0.02)
    rows = {"fast": range(2, 6), "slow": range(6, 12), "level": [0.5, 2.0, 5.0]}
    conditions, n_calls = WAITING[which]
    strategy = bt.rules.Strategy(**conditions)
    space = bt.Space({name: rows[name] for name in rows if name in strategy.params})
    batch = rng.permutation(space.candidates(np.arange(len(space)))[1])

    def evaluator(tile, n_threads=1):
        monkeypatch.setattr(signals, "TILE_BYTES", 0)
        monkeypatch.setattr(signals, "MIN_TILE", tile)
        return StrategyEvaluator(
            bars,
            strategy,
            space.parameters,
            costs=bt.Costs(fee_rate=0.001),
            n_threads=n_threads,
            execution=bt.Execution(start=20, intrabar=intrabar, periods_per_year=252.0),
        )

    whole = evaluator(len(batch))
    with whole.lazy_table(batch, whole.settings()) as table:
        assert table.lazy is None
    expected = whole(batch)
    assert np.unique(expected[:, 0]).size > 3
    for tile, n_threads, chunk in ((1, 1, 5), (7, 1, 10), (7, 3, 4096), (len(batch) - 1, 1, 4096)):
        monkeypatch.setattr("backtest.compute.threads.WORTH_A_THREAD_US", 0.0)
        monkeypatch.setattr(signals, "CHUNK", chunk)
        some = evaluator(tile, n_threads)
        with some.lazy_table(batch, some.settings()) as table:
            assert len(table.lazy.comparisons if table.lazy else ()) == n_calls
        assert some(batch).tobytes() == expected.tobytes()
        assert some.sums(batch).tobytes() == whole.sums(batch).tobytes()


def test_one_evaluator_on_several_threads(monkeypatch, backend):
    """Lines that lazy masks need are held, whatever another thread asks the same table for."""
    monkeypatch.setattr(signals, "TILE_BYTES", 0)
    monkeypatch.setattr(signals, "MIN_TILE", 3)
    monkeypatch.setattr("backtest.evaluation.MEMO_BYTES", 1 << 16)  # 19 lines
    space = bt.Space({"fast": range(2, 30), "slow": range(30, 60)})
    strategy = bt.rules.Strategy(enter_long=UP, exit_long=DOWN)
    evaluator = StrategyEvaluator(
        random_bars(np.random.default_rng(0), 160),
        strategy,
        space.parameters,
        costs=FREE,
        execution=bt.Execution(start=60, periods_per_year=252.0),
    )
    batches = [space.candidates(np.arange(len(space)))[1][start : start + 12] for start in range(0, len(space), 14)]
    with evaluator.lazy_table(batches[0], evaluator.settings()) as table:
        assert table.lazy.comparisons
    expected = [evaluator(batch).tobytes() for batch in batches]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert [scores.tobytes() for scores in pool.map(evaluator, batches)] == expected


def test_lazy_masks_check_the_warm_up(monkeypatch):
    monkeypatch.setattr(signals, "TILE_BYTES", 0)
    monkeypatch.setattr(signals, "MIN_TILE", 2)
    space = bt.Space({"fast": range(2, 6), "slow": range(6, 12)})
    evaluator = StrategyEvaluator(
        random_bars(np.random.default_rng(0), 50),
        bt.rules.Strategy(enter_long=UP),
        space.parameters,
        costs=FREE,
        execution=bt.Execution(start=10, periods_per_year=252.0),
    )
    with pytest.raises(bt.InputError, match=r"got 10; crosses_above.* needs 11 bars"):
        evaluator(space.candidates(np.arange(len(space)))[1])


def test_lines_too_many_for_their_table_make_masks_at_once(monkeypatch):
    monkeypatch.setattr(signals, "TILE_BYTES", 0)
    monkeypatch.setattr(signals, "MIN_TILE", 2)
    bars = random_bars(np.random.default_rng(0), 300)
    space = bt.Space({"fast": range(2, 6), "slow": range(6, 12)})
    batch = space.candidates(np.arange(len(space)))[1]
    found = []
    for room in (1 << 14, 1 << 20):
        monkeypatch.setattr("backtest.evaluation.MEMO_BYTES", room)
        evaluator = StrategyEvaluator(
            bars,
            bt.rules.Strategy(enter_long=UP, exit_long=DOWN),
            space.parameters,
            costs=FREE,
            execution=bt.Execution(start=20, periods_per_year=252.0),
        )
        with evaluator.lazy_table(batch, evaluator.settings()) as table:
            assert (table.lazy is not None) == (room == 1 << 20)
        found.append(evaluator(batch).tobytes())
    assert found[0] == found[1]


def test_permuting_candidates_permutes_results():
    evaluator, batch = sweep()
    order = np.random.default_rng(0).permutation(len(batch))
    assert evaluator(batch[order]).tobytes() == evaluator(batch)[order].tobytes()


@pytest.mark.usefixtures("backend")
def test_scaling_prices_by_a_power_of_two_changes_nothing():
    bars = bt.Bars.sample()
    scaled = bt.Bars(open=bars.open * 4, high=bars.high * 4, low=bars.low * 4, close=bars.close * 4, index=bars.index)
    evaluator, batch = sweep(bars)
    assert sweep(scaled)[0](batch[:4]).tobytes() == evaluator(batch[:4]).tobytes()


@pytest.mark.usefixtures("backend")
def test_long_and_short_mirror():
    """Prices reflected around the entry turn a long into a short of the same profit."""
    rng = np.random.default_rng(2)
    steps = rng.integers(-3, 4, (40, 4)).cumsum(0) + 200.0
    rows = np.stack([steps[:, 0], steps.max(1), steps.min(1), steps[:, 1]], axis=1)
    mirrored = np.stack([400 - rows[:, 0], 400 - rows[:, 2], 400 - rows[:, 1], 400 - rows[:, 3]], axis=1)
    execution = {"size": 10.0, "size_type": "value", "start_cash": 1e6}
    up = replay(flat(*rows), [3, 20], [10, 33], **execution)
    down = replay(flat(*mirrored), (), (), [3, 20], [10, 33], **execution)
    ups = up.trades["gross_profit"] / up.trades["units"]
    downs = down.trades["gross_profit"] / -down.trades["units"]
    np.testing.assert_allclose(ups, downs, rtol=1e-12)
    assert up.trades["mfe"].gt(0).any()


@pytest.mark.usefixtures("backend")
def test_appended_future_bars_leave_earlier_trades_alone():
    bars = bt.Bars.sample()
    cut = bt.Bars(
        open=bars.open[:1000], high=bars.high[:1000], low=bars.low[:1000], close=bars.close[:1000], index=bars.index[:1000]
    )
    params = {"fast": 7, "slow": 40, "stop_loss": 0.04, "trailing_stop": 0.06}
    before, after = (
        bt.run(each, bt.strategies.sma_cross, params, costs=bt.Costs(fee_rate=0.001)).tracked.records for each in (cut, bars)
    )
    assert len(before) > 10
    assert after[: len(before)].tobytes() == before.tobytes()


def test_inputs_are_never_changed():
    rng = np.random.default_rng(0)
    signals = random_signals(rng, 50, 0.2)
    copies = [signal.copy() for signal in signals]
    candidates = {"column": np.arange(1)}
    bars = random_bars(rng, 50)
    hashed = bt.Bars(open=bars.open, high=bars.high, low=bars.low, close=bars.close).content_hash
    bt.evaluate(
        bars,
        strategy_of([signal[:, None] for signal in signals]),
        candidates,
        costs=FREE,
        execution=bt.Execution(periods_per_year=1.0),
    )
    assert all((signal == copy).all() for signal, copy in zip(signals, copies, strict=True))
    assert bars.content_hash == hashed
    signals[0][:] = True  # and later changes of the caller's arrays change nothing here
    assert (candidates["column"] == np.arange(1)).all()


# --- what the door refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda b, s: bt.run(b, s, {"fast": 5}, costs=FREE), r"parameter 'slow' must have a value, got none \(given: fast\)"),
        (
            lambda b, s: bt.run(b, s, {"fast": 5, "slow": 9, "stoploss": 1}, costs=FREE),
            r"parameter 'stoploss' is not known .*did you mean 'stop_loss'",
        ),
        (
            lambda b, s: bt.run(b, s, {"fast": 5.5, "slow": 9}, costs=FREE),
            r"window of sma\(close, fast\) must be a whole number >= 1, got 5.5",
        ),
        (lambda b, s: bt.run(b, s, {"fast": None, "slow": 9}, costs=FREE), "must have numbers for its parameters"),
        (
            lambda b, s: bt.run(b, s, {"fast": 5, "slow": 9, "max_bars": 0}, costs=FREE),
            r"max_bars \(max_bars = 0\) must be a whole number >= 1, got 0",
        ),
        (lambda b, s: bt.run(b.to_frame(), s, {"fast": 5, "slow": 9}, costs=FREE), "bars must be a Bars, got"),
        (lambda b, s: bt.run(b, s, {"fast": 5, "slow": 9}, costs=0.001), "costs must be a Costs, got 0.001"),
        (
            lambda b, s: bt.run(b, s, {"fast": 5, "slow": 9}, costs=FREE, execution=bt.Execution(size=bt.param("size"))),
            "parameter 'size' must have a value",
        ),
        (
            lambda b, s: bt.run(
                b, s, {"fast": 5, "slow": 9, "size": 1.5}, costs=FREE, execution=bt.Execution(size=bt.param("size"))
            ),
            r"size \(size = 1.5\) must be > 0 and <= 1, got 1.5",
        ),
        (
            lambda b, s: bt.evaluate(b, s, {"fast": [5, 6], "slow": [9]}, costs=FREE),
            "candidates must have columns of equal length, got fast: 2, slow: 1",
        ),
        (
            lambda b, s: bt.evaluate(b, s, np.ones((2, 2)), costs=FREE),
            r"candidates must be a DataFrame, a dict of sequences, or a matrix with columns=",
        ),
        (
            lambda b, s: bt.evaluate(b, s, {"fast": [5], "slow": [9]}, costs=FREE, metrics=["sharp"]),
            "metric 'sharp' is not known .* did you mean 'sharpe'",
        ),
        (
            lambda b, s: bt.evaluate(b, s, {"fast": [5], "slow": [9]}, costs=FREE, metrics=["beta"]),
            "metric must be one that every candidate has",
        ),
        (
            lambda b, s: bt.evaluate(b, s, {"fast": [5], "slow": [9]}, costs=FREE, n_threads=0),
            "n_threads must be a whole number >= 1, got 0",
        ),
    ],
)
def test_bad_input_names_argument_rule_and_value(call, message):
    with pytest.raises(bt.InputError, match=message):
        call(bt.Bars.sample(), bt.strategies.sma_cross)


def test_sides_must_leave_an_entry():
    strategy = bt.rules.Strategy(enter_long=bt.lines.close > 1)
    with pytest.raises(bt.InputError, match="sides must leave the strategy an entry, got 'short'"):
        bt.run(bt.Bars.sample(), strategy, costs=FREE, execution=bt.Execution(sides="short"))


def test_size_may_be_a_parameter_or_a_line():
    bars = flat(*[QUIET] * 4)
    strategy = bt.rules.Strategy(enter_long=bt.lines.close > 0)
    for size in (bt.param("size"), bt.param("size") * bt.lines.close / 100):
        run = bt.run(
            bars, strategy, {"size": 0.5}, costs=FREE, execution=bt.Execution(size=size, start_cash=1000.0, periods_per_year=1.0)
        )
        assert run.orders.iloc[0].units == 5.0


def test_undated_bars_warn_once_and_annual_metrics_are_undefined():
    bars = flat(*[QUIET] * 4)
    strategy = bt.rules.Strategy(enter_long=bt.lines.close > 0)
    with pytest.warns(bt.NumericsWarning, match="bars have no dates") as caught:
        run = bt.run(bars, strategy, costs=FREE)
    assert len(caught) == 1
    assert np.isnan(run.stats[["sharpe", "cagr", "volatility"]]).all()
    with pytest.raises(bt.InputError, match="periods_per_year must be given for a borrow_rate"):
        bt.run(bars, strategy, costs=bt.Costs(fee_rate=0, borrow_rate=0.1))


def test_one_bar():
    run = replay(flat(QUIET), [0], fill="close", close_at_end=True)
    assert len(run.trades) == 1
    assert _backend.chosen().name in ("cython", "python")

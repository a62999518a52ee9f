"""From event to event: what is looked up equals what a walk over the bars adds up, and the tables are the same in both twins."""

import math

import numpy as np
import pytest
from cases import UNPAID, cases, random_bars, random_signals, strategy_of
from hypothesis import given, settings
from hypothesis import strategies as st

import backtest as bt
from backtest import _backend
from backtest.holding_tables import HoldingTables
from backtest.signals import StrategyEvaluator

pytestmark = pytest.mark.filterwarnings(UNPAID)
POWERS = {
    "sum_return": lambda r, rf: r,
    "sum_return_2": lambda r, rf: r**2,
    "sum_return_3": lambda r, rf: r**3,
    "sum_return_4": lambda r, rf: r**4,
    "sum_gain": lambda r, rf: np.maximum(r, 0),
    "sum_loss": lambda r, rf: np.maximum(-r, 0),
    "sum_downside_2": lambda r, rf: np.minimum(r - rf, 0) ** 2,
}


def against_walk(run, rf_per_bar, tolerance=1e-12):
    """The sums of a run against its own equity, added up exactly."""
    equity = np.concatenate([[run.metric_inputs.start_cash], run._equity])
    before = equity[:-1]
    r = np.where(before != 0, np.diff(equity) / np.where(before != 0, before, 1), 0.0)
    for name, power in POWERS.items():
        terms = power(r, rf_per_bar)
        allowed = tolerance * math.fsum(np.abs(terms)) + 1e-300
        assert run.sums[name][0] == pytest.approx(math.fsum(terms), rel=0, abs=allowed), name
    fall = (equity / np.maximum.accumulate(equity)).min() - 1
    assert run.sums["max_drawdown"][0] == pytest.approx(fall, rel=0, abs=tolerance)
    assert run.sums["end_equity"][0] == run._equity[-1]
    assert run.sums["bars_held"][0] == (run._units != 0).sum()


def against_trades(run):
    """The sums of a run against those of its trades."""
    statistics = run.trade_statistics()["All"]
    for name, key in (("n_trades", "n_trades"), ("net_profit", "net_profit"), ("largest_profit", "largest_profit")):
        if run.sums["n_trades"][0] or name == "n_trades":
            expected = statistics[key] if key in statistics.index else None
            assert expected is not None, statistics.index.tolist()
            if key != "largest_profit" or expected != 0:  # counts of nothing are 0 there
                assert run.sums[name][0] == pytest.approx(expected, rel=1e-12, abs=1e-9)


@given(cases())
@settings(max_examples=300)
def test_sums_are_those_of_a_walk_over_the_bars(case):
    bars, signals, levels, costs, execution = case
    if execution.sides == "short":
        signals = [None, None, *signals[2:]]
    run = bt.run(bars, strategy_of(signals, levels), costs=costs, execution=execution)
    against_walk(run, execution.rf / 252.0)
    against_trades(run)


@pytest.mark.parametrize("sides", ["long", "both"])
@pytest.mark.parametrize("n_bars", [17, 64, 65, 257, 3000])
def test_long_holds_are_those_of_a_walk_over_the_bars(n_bars, sides, backend):
    rng = np.random.default_rng(n_bars)
    bars = random_bars(rng, n_bars, 0.01)
    for density in (0.002, 0.02, 0.2):
        signals = random_signals(rng, n_bars, density)
        signals[0][0] = True
        levels = {"stop_loss": (None, 0.05)[n_bars % 2], "trailing_stop": (None, 0.2)[n_bars % 3 == 0]}
        for costs in (bt.Costs(fee_rate=0.001), bt.Costs(fee_rate=0.0, borrow_rate=0.1)):
            execution = bt.Execution(start=0, sides=sides, rf=0.02, periods_per_year=252.0)
            run = bt.run(bars, strategy_of(signals, levels), costs=costs, execution=execution)
            against_walk(run, 0.02 / 252.0)
            against_trades(run)


def test_long_series_lose_no_digits():
    """A plain running sum would be off by 1e-5 in a short trade at the end of these."""
    rng = np.random.default_rng(5)
    n_bars = 200_000
    bars = random_bars(rng, n_bars, 0.02)
    entries, exits = np.zeros(n_bars, bool), np.zeros(n_bars, bool)
    entries[[10, 199_900]], exits[[150_000, 199_940]] = True, True
    strategy, execution = bt.rules.from_arrays(entries, exits), bt.Execution(periods_per_year=252.0)
    against_walk(bt.run(bars, strategy, costs=bt.Costs.zero(), execution=execution), 0.0)
    late = bt.run(bars, strategy, costs=bt.Costs.zero(), execution=execution, window=slice(199_890, 200_000))
    against_walk(late, 0.0, tolerance=1e-13)


@pytest.mark.parametrize("n_bars", [1, 2, 15, 16, 17, 31, 32, 33, 100, 513])
def test_tables_hold_what_they_say(n_bars, backend):
    bars = random_bars(np.random.default_rng(n_bars), n_bars)
    tables = HoldingTables.of(bars, 0.0001)
    close, segment = bars.close, 16
    for bar in range(n_bars):
        first, last = bar // segment * segment, min((bar // segment + 1) * segment, n_bars)
        for table, part in ((tables.since_segment_start, close[first : bar + 1]), (tables.until_segment_end, close[bar:last])):
            fall = min(part[later] / part[earlier] for earlier in range(len(part)) for later in range(earlier, len(part)))
            assert table[bar, :3].tolist() == [part.min(), part.max(), fall]
    r = np.diff(close) / close[:-1]
    for column, power in enumerate(POWERS.values()):
        terms = power(r, 0.0001)
        total = tables.moments[-1, column] + tables.moments[-1, 8 + column]
        assert total == pytest.approx(math.fsum(terms), rel=1e-15, abs=1e-300)
    for left in range(len(tables.segment_lows)):
        assert tables.segment_lows[left] == bars.low[left * segment : (left + 1) * segment].min()
        assert tables.segment_highs[left] == bars.high[left * segment : (left + 1) * segment].max()
        for right in range(left + 1, len(tables.segment_lows)):
            level = (left ^ right).bit_length() - 1
            whole = close[left * segment : (right + 1) * segment]
            found = tables.segment_runs[level, left], tables.segment_runs[level, right]
            assert min(found[0][0], found[1][0]) == whole.min()
            assert max(found[0][1], found[1][1]) == whole.max()


@pytest.mark.compiled
@pytest.mark.parametrize("n_bars", [1, 16, 17, 257, 1000])
def test_tables_agree_to_the_last_bit(n_bars):
    bars, tables = random_bars(np.random.default_rng(n_bars), n_bars, 0.05), []
    for name in ("cython", "python"):
        with _backend.forced(name):
            tables.append(HoldingTables.of(bars, 0.0002))
    for left, right in zip(*tables, strict=True):
        assert left.tobytes() == right.tobytes()


@pytest.mark.slow
@given(cases(), st.sampled_from(["any", "plain", "long"]), st.sampled_from([0.0, 0.001, 0.5, 0.9, 0.99]))
@settings(max_examples=500)
def test_a_batch_takes_the_straight_line_to_the_same_bits(case, kind, fee_rate):
    """Candidates of signals only have shorter ways through the kernel; ``replay``, which records, takes the long one."""
    bars, signals, levels, costs, execution = case
    if kind != "any":
        levels, execution = {}, execution.replace(close_at_end=False)
    if kind == "long":
        costs = bt.Costs(fee_rate=fee_rate, slippage=costs.slippage)
        execution = execution.replace(sides="long", size_type="equity", size=1.0, whole_units=False)
    if execution.sides == "short":
        signals = [None, None, *signals[2:]]
    run = bt.run(bars, strategy_of(signals, levels), costs=costs, execution=execution)
    evaluator = StrategyEvaluator(bars, strategy_of(signals, levels), {}, costs=costs, execution=execution)
    evaluator.fix_start(evaluator.combinations(np.empty((1, 0))))
    assert evaluator.sums(np.empty((1, 0)))[0].tobytes() == run.sums.tobytes()


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("sides", ["long", "short", "both"])
def test_plain_candidates_on_long_series_end_in_the_same_bits(sides, fill):
    rng = np.random.default_rng(11)
    bars = random_bars(rng, 1000, 0.03)
    for density in (0.003, 0.02, 0.2, 0.7):
        signals = random_signals(rng, 1000, density)
        signals = [None, None, *signals[2:]] if sides == "short" else signals
        execution = bt.Execution(fill=fill, sides=sides, start=3, rf=0.03, periods_per_year=252.0)
        for costs in (bt.Costs(fee_rate=0.001), bt.Costs(fee_rate=0.99), bt.Costs(fee_rate=0.2, fixed=500.0)):
            run = bt.run(bars, strategy_of(signals), costs=costs, execution=execution)
            evaluator = StrategyEvaluator(bars, strategy_of(signals), {}, costs=costs, execution=execution)
            assert evaluator.sums(np.empty((1, 0)))[0].tobytes() == run.sums.tobytes()


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize(("start_cash", "scale"), [(1e5, 1.0), (1e5, 1e-9), (5e-324, 1.0)])
@pytest.mark.parametrize("gap", [3, 30])
def test_what_is_not_for_the_straight_line_of_longs(fill, start_cash, scale, gap):
    """Prices that fall until rounding is as large as the position, and cash that buys nothing."""
    rng = np.random.default_rng(4)
    bars = random_bars(rng, 200, 0.02)
    falls = np.where(np.arange(200) % 60 < 20, 1.0, scale)
    bars = bt.Bars(**{name: getattr(bars, name) * falls for name in ("open", "high", "low", "close")})
    entries, exits = np.zeros((2, 200), dtype=bool)
    entries[5::60], exits[5 + gap :: 60] = True, True
    execution = bt.Execution(fill=fill, sides="long", start=3, start_cash=start_cash, periods_per_year=252.0)
    for fee_rate in (0.0, 0.0013, 0.7):
        strategy, costs = bt.rules.from_arrays(entries, exits), bt.Costs(fee_rate=fee_rate, slippage=0.0007)
        run = bt.run(bars, strategy, costs=costs, execution=execution)
        assert (len(run.fills) > 3) == (start_cash > 1.0)
        evaluator = StrategyEvaluator(bars, strategy, {}, costs=costs, execution=execution)
        assert evaluator.sums(np.empty((1, 0)))[0].tobytes() == run.sums.tobytes()

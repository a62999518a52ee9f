"""Both engines mean the same: what rules do on the event engine and on the bar machine, bit for bit."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from cases import UNPAID, cases, random_bars, strategy_of
from conftest import long, slow
from engine_cases import pick, random_case, random_costs, random_execution
from hypothesis import given, settings

import backtest as bt
from backtest.machine.evaluator import RulesOnMachine
from backtest.metrics import SUMS, SWEEP
from backtest.signals import StrategyEvaluator
from backtest.space import Choice

pytestmark = [
    pytest.mark.filterwarnings(UNPAID),
    pytest.mark.filterwarnings("ignore:.*a level that is never touched:backtest.NumericsWarning"),
]
#: Sums that are added up in another order, and so may differ by rounding.
ADDED_UP = [name for name in SUMS.names if name.startswith("sum_") and "trade" not in name]
#: Those that are numbers of a single bar, looked up from tables by the event engine.
LOOKED_UP = ["max_drawdown"]


def on_both(case):
    """Runs of a case on the event engine and on the machine."""
    bars, strategy, params, costs, execution, window = case
    return [
        bt.run(bars, strategy, params, costs=costs, execution=execution.replace(engine=engine), window=window)
        for engine in (None, "machine")
    ]


def magnitudes(run):
    """Sums of |terms| of what a run adds up over its bars, by name."""
    r, rf = run.returns.to_numpy(), run.execution.rf / run.periods.per_year
    downside = np.minimum(r - rf, 0.0)
    terms = {"sum_gain": r, "sum_loss": r, "sum_downside_2": downside**2}
    return {name: np.abs(terms.get(name, r ** int(name[-1]) if name[-1].isdigit() else r)).sum() for name in ADDED_UP}


def assert_same(events, machine, case):
    """Ledger, equity, units, trades, orders and what is pending bit for bit; sums and metrics within rounding."""
    assert (events.engine, machine.engine) == ("events", "machine")
    for name in ("fills", "_equity", "_units"):
        left, right = getattr(events, name), getattr(machine, name)
        assert left.dtype == right.dtype
        assert left.shape == right.shape, name
        assert left.tobytes() == right.tobytes(), name
    for name in ("records", "positions"):
        assert getattr(events.tracked, name).tobytes() == getattr(machine.tracked, name).tobytes(), name
    pd.testing.assert_frame_equal(events.orders, machine.orders, check_exact=True)
    pd.testing.assert_frame_equal(events.pending, machine.pending, check_exact=True)
    pd.testing.assert_frame_equal(bt.explain(events).table, bt.explain(machine).table, check_exact=True)
    assert events.n_unaffordable == machine.n_unaffordable
    scale = magnitudes(events)
    for name in SUMS.names:
        one, other = float(events.sums[name][0]), float(machine.sums[name][0])
        tolerance = 1e-12 * scale[name] if name in ADDED_UP else 1e-12 if name in LOOKED_UP else 0.0
        assert one == other or abs(one - other) <= tolerance, (name, one, other)
    for key in [*SWEEP, *(f"{key}_optimistic" for key in SWEEP if case[4].intrabar == "both")]:
        assert machine.stats[key] == pytest.approx(events.stats[key], rel=1e-9, abs=1e-12, nan_ok=True), key


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("seeds", [range(60), slow(range(60, 300)), long(range(300, 2000))], ids=["some", "more", "many"])
def test_rules_do_the_same_on_both_engines(seeds):
    """Stops, targets, trails, time exits, both fills, all sides, whole units, all costs, busts, what cannot be paid for."""
    seen = {"reasons": set(), "n_ambiguous": 0, "n_unaffordable": 0, "n_bust": 0, "n_pending": 0, "n_fills": 0}
    for seed in seeds:
        case = random_case(seed)
        events, machine = on_both(case)
        assert_same(events, machine, case)
        seen["reasons"] |= set(events.fills["reason"].tolist())
        seen["n_ambiguous"] += int(events.sums["n_ambiguous"][0])
        seen["n_unaffordable"] += events.n_unaffordable
        seen["n_bust"] += int(events.equity.iloc[-1] <= 0)
        seen["n_pending"] += len(events.pending)
        seen["n_fills"] += len(events.fills)
    assert seen["reasons"] >= set(range(8))  # entry, signal, reverse, stop, target, trail, time, end
    assert min(seen["n_ambiguous"], seen["n_unaffordable"], seen["n_bust"], seen["n_pending"]) > 0
    assert seen["n_fills"] > 10 * len(seeds)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("seed", range(6))
def test_a_batch_on_the_machine_has_the_sums_of_each_run(seed):
    """Rows of a batch, some with lines and some without, against ``bt.run`` of each, to the last bit."""
    rng = np.random.default_rng(seed)
    n, n_candidates = 90, 9
    bars = random_bars(rng, n, 0.03)
    arrays = [rng.random((n, n_candidates)) < density for density in (0.1, 0.05, 0.1, 0.05)]
    strategy = bt.rules.from_arrays(
        *arrays,
        stop_loss=bt.param("k", None) * bt.lines.atr(5) / bt.lines.close,
        take_profit=bt.param("target", None),
        max_bars=bt.param("age", None),
    )
    candidates = {
        "column": list(range(n_candidates)),
        "k": [None, 1.0, 2.0, None, 0.5, 3.0, 1.0, None, 2.0],
        "target": [0.05, None, 0.02, 0.1, None, 0.05, 0.02, 0.3, None],
        "age": [None, 5, None, 2, 9, None, 3, None, 1],
    }
    costs = bt.Costs(fee_rate=0.001, slippage=0.0005, borrow_rate=0.05)
    execution = bt.Execution(
        engine="machine",
        fill=("next_open", "close")[seed % 2],
        intrabar=("pessimistic", "both")[seed % 3 == 0],
        start=12,
        periods_per_year=252.0,
    )
    table = bt.evaluate(bars, strategy, candidates, costs=costs, execution=execution)
    assert table["n_trades"].min() > 0
    for row in range(n_candidates):
        params = {name: values[row] for name, values in candidates.items()}
        run = bt.run(bars, strategy, params, costs=costs, execution=execution)
        for key in table.columns:
            assert np.float64(table[key].iloc[row]).tobytes() == np.float64(run.stats[key]).tobytes(), (row, key)


@pytest.mark.usefixtures("backend")
def test_optimize_finds_the_same_on_both_engines():
    bars = bt.Bars.sample("GOOG")[:500]
    space = bt.Space({"fast": range(5, 9), "slow": range(20, 24), "stop_loss": [None, 0.04], "take_profit": [None, 0.08]})
    costs = bt.Costs(fee_rate=0.001, slippage=0.0005)
    events, machine = (
        bt.optimize(bars, bt.strategies.sma_cross, space, costs=costs, execution=bt.Execution(engine=engine), progress=False)
        for engine in (None, "machine")
    )
    assert len(events.table) == len(machine.table) == 64
    assert events.best_params == machine.best_params
    assert machine.best.engine == "machine"
    names = [name for name in events.table.columns if name in events.best_params]
    left, right = (each.table.sort_values(names, ignore_index=True) for each in (events, machine))
    for name in left.columns:
        if name in names:
            assert left[name].equals(right[name])
        else:
            np.testing.assert_allclose(right[name].astype(float), left[name].astype(float), rtol=1e-9, atol=1e-12, err_msg=name)


@given(cases())
@settings(max_examples=60)
def test_rules_do_the_same_where_prices_are_few(case):
    """Levels that are touched exactly, gaps over them, equal prices, ruinous costs."""
    bars, signals, levels, costs, execution = case
    if execution.sides == "short":
        signals = [None, None, *signals[2:]]
    full = bars, strategy_of(signals, levels), {}, costs, execution, None
    assert_same(*on_both(full), full)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("sides", ["both", "long"])
@pytest.mark.parametrize("levels", [{}, {"stop_loss": 0.05, "take_profit": 0.1}, {"trailing_stop": 0.08}])
def test_long_holding_periods_of_a_sample(sides, levels):
    """Thousands of bars, which the event engine jumps over and looks up, and the machine lives through."""
    bars = bt.Bars.sample("GOOG")
    execution = bt.Execution(sides=sides, intrabar="both", rf=0.02)
    full = (
        bars,
        bt.strategies.sma_cross,
        {"fast": 40, "slow": 150} | levels,
        bt.Costs(fee_rate=0.001, slippage=0.0002),
        execution,
        None,
    )
    events, machine = on_both(full)
    assert_same(events, machine, full)
    assert len(events.trades) > 5


@pytest.mark.compiled
def test_a_sweep_whose_masks_are_made_late():
    """More candidates than a tile, of which few share a mask: the tables of each tile reach the machine as they are."""
    bars = bt.Bars.sample("GOOG")
    pairs = [(fast, slow) for fast in range(2, 42) for slow in range(45, 95)]
    candidates = {"fast": [fast for fast, _ in pairs], "slow": [slow for _, slow in pairs], "stop_loss": [0.05] * len(pairs)}
    costs = bt.Costs(fee_rate=0.001, slippage=0.0002)
    events, machine = (
        bt.evaluate(
            bars, bt.strategies.sma_cross, candidates, costs=costs, execution=bt.Execution(engine=engine, intrabar="both")
        )
        for engine in (None, "machine")
    )
    assert len(events) == 2000
    for name in events.columns:
        np.testing.assert_allclose(machine[name], events[name], rtol=1e-9, atol=1e-12, err_msg=name)


@pytest.mark.compiled
@pytest.mark.parametrize("seed", range(16))
def test_sums_of_many_candidates_side_by_side(seed):
    """Hundreds of candidates that share lanes: everything but sums over bars is equal bit for bit, whoever trades beside them."""
    rng = np.random.default_rng(100 + seed)
    n, n_candidates = 150, 300
    bars = random_bars(rng, n, pick(rng, 0.01, 0.03, 0.08))
    densities = rng.choice([0.01, 0.05, 0.2, 0.5], n_candidates)
    arrays = [rng.random((n, n_candidates)) < densities * share for share in (1.0, 0.5, 1.0, 0.5)]
    sides = pick(rng, "both", "both", "long")
    strategy = bt.rules.from_arrays(
        *arrays,
        stop_loss=bt.param("stop"),
        take_profit=bt.param("target"),
        trailing_stop=bt.param("trail"),
        max_bars=bt.param("age"),
    )
    columns = {
        "column": [int(each) for each in range(n_candidates)],
        "stop": rng.choice([None, 0.005, 0.02, 0.1], n_candidates).tolist(),
        "target": rng.choice([None, 0.01, 0.05, 0.3], n_candidates).tolist(),
        "trail": rng.choice([None, None, 0.03], n_candidates).tolist(),
        "age": rng.choice([None, 1, 4, 20], n_candidates).tolist(),
    }
    parameters = {name: Choice(name, list(dict.fromkeys(values))) for name, values in columns.items()}
    batch = np.array(
        [
            [parameters[name].choices.index(value) for name, value in zip(columns, row, strict=True)]
            for row in zip(*columns.values(), strict=True)
        ],
        dtype=float,
    )
    costs = random_costs(rng)
    costs = dataclasses.replace(costs, fixed=min(costs.fixed, 1.0))  # somebody must be able to pay
    execution = random_execution(rng, n, sides).replace(start=8, start_cash=5000.0)
    execution = execution.replace(size=1.0 if execution.size_type == "equity" else 3000.0)
    events, machine = (
        kind(bars, strategy, parameters, costs=costs, execution=execution.replace(engine=engine)).sums(batch)
        for kind, engine in ((StrategyEvaluator, None), (RulesOnMachine, "machine"))
    )
    assert events["n_fills"].sum() > 100
    for name in SUMS.names:
        left, right = events[name], machine[name]
        if name in (*ADDED_UP, *LOOKED_UP):
            np.testing.assert_allclose(right, left, rtol=1e-9, atol=1e-11, err_msg=name)
        else:
            assert left.tobytes() == right.tobytes(), name

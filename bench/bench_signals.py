"""Signals: the compiled kernel against its pure twin, and candidates a second of a whole sweep.

Parity is asserted before anything is timed; the gate is a ratio of minima taken in turns in one run.
"""

import numpy as np
import pytest
from ratio import minima

import backtest as bt
from backtest import _backend
from backtest.compute.threads import default_threads
from backtest.metrics import SUMS
from backtest.signals import StrategyEvaluator

#: Compiled time over pure; measured 0.01 to 0.02.
MOST_OF_PURE = 0.05
SPACES = {
    "pairs": {"fast": range(5, 51), "slow": range(20, 201, 5)},
    "stops": {
        "fast": range(5, 51, 5),
        "slow": range(60, 201, 20),
        "stop_loss": [0.02, 0.05, 0.1],
        "take_profit": [0.05, 0.2, 0.4],
    },
}
COSTS = bt.Costs(fee_rate=0.001, slippage=0.0005)


def evaluator_of(name, n_threads=1):
    space = bt.Space(SPACES[name], where="fast < slow")
    evaluator = StrategyEvaluator(
        bt.Bars.sample(),
        bt.strategies.sma_cross,
        space.parameters,
        costs=COSTS,
        execution=bt.Execution(start=200),
        n_threads=n_threads,
    )
    return evaluator, space.candidates(np.arange(len(space)))[1]


@pytest.mark.parametrize("space", SPACES)
def test_sweep(benchmark, space):
    """A whole sweep: lines and masks, kernel, metrics."""
    evaluator, batch = evaluator_of(space)
    expected = evaluator(batch)
    scores = benchmark(evaluator, batch)
    assert scores.tobytes() == expected.tobytes()
    n_bars = len(evaluator.bars) - evaluator.start
    benchmark.extra_info["candidate_bars_per_second"] = f"{len(batch) * n_bars / benchmark.stats.stats.min:.3g}"


@pytest.mark.parametrize("space", SPACES)
def test_kernel_against_pure(benchmark, space):
    if _backend.chosen().name != "cython":
        pytest.skip("one backend only")
    evaluator, batch = evaluator_of(space)
    few = batch[:: len(batch) // 20]
    settings = evaluator.settings()
    table = evaluator.candidate_table(few, settings)

    def replay(backend):
        sums = np.zeros(len(few), dtype=SUMS)
        with _backend.forced(backend) as now:
            now.kernels["signals"].evaluate(
                evaluator.bars, evaluator.holding_tables(settings), table, settings, 0, len(few), sums
            )
        return sums

    assert replay("cython").tobytes() == replay("python").tobytes()
    mine, pures = minima(lambda: replay("cython"), lambda: replay("python"), repeats=3)
    benchmark.extra_info["ratio"] = round(mine / pures, 4)
    benchmark(replay, "cython")
    print(f"\n{space}: {mine / pures:.4f} of the pure twin's time, {mine / len(few) * 1e6:.1f} us a candidate")
    assert mine <= MOST_OF_PURE * pures


def test_threads(benchmark):
    """More threads, the same bits."""
    (one, batch), (all_of_them, _) = evaluator_of("stops"), evaluator_of("stops", n_threads=default_threads())
    assert one(batch).tobytes() == all_of_them(batch).tobytes()
    single, many = minima(lambda: one(batch), lambda: all_of_them(batch), repeats=5)
    benchmark.extra_info["speed_up"] = round(single / many, 2)
    benchmark(all_of_them, batch)
    print(f"\nthreads: {single / many:.2f} times one thread's speed")

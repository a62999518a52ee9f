"""Levels: the batch kernel against its pure twin and across instruction sets, the exact optimum, and DIRECT.

Machines are shared and noisy, so what is asserted is a ratio of minima in one run; results are compared before any timing.
Figures beyond the times, such as candidate-bars per second, are in ``extra_info`` of the JSON and, with ``-s``, on the terminal.
"""

import numpy as np
import pytest
from ratio import minima

from backtest import _backend, search
from backtest.compute.many import optimize_many
from backtest.levels import Levels

N_CANDIDATES = 4096
LEVELS = [*_backend.simd_levels()] if _backend.chosen().name == "cython" else []
compiled = pytest.mark.skipif(not LEVELS, reason="times the compiled kernels")


def problem(n_bars, seed=20):
    """Bars with forecasts half right, both sides."""
    rng = np.random.default_rng(seed)
    close = rng.normal(0.0, 0.01, n_bars)
    high = np.maximum(close, 0.0) + np.abs(rng.normal(0.0, 0.006, n_bars))
    low = np.minimum(close, 0.0) - np.abs(rng.normal(0.0, 0.006, n_bars))
    return Levels(
        close=close,
        high=high,
        low=low,
        high_pred=np.abs(rng.normal(0.008, 0.004, n_bars)),
        low_pred=-np.abs(rng.normal(0.008, 0.004, n_bars)),
        position=rng.choice([-1.0, 1.0], n_bars) * rng.uniform(0.1, 1.0, n_bars),
        fee_rate=0.0015,
    )


def offsets(n_candidates=N_CANDIDATES):
    return np.random.default_rng(1).uniform(-0.03, 0.03, (n_candidates, 2))


def say(benchmark, **figures):
    benchmark.extra_info.update(figures)
    print("  " + ", ".join(f"{name} {value:.3g}" for name, value in figures.items()))


@compiled
@pytest.mark.parametrize("simd", LEVELS)
@pytest.mark.parametrize("n_bars", [200, 2000])
def bench_batch(benchmark, n_bars, simd):
    task, batch = problem(n_bars), offsets()
    with _backend.forced("python"):
        expected = task.profit(batch[:64])
    with _backend.forced("cython", simd):
        profit = benchmark(task.profit, batch, n_threads=1)
        np.testing.assert_array_equal(profit[:64], expected)
        seconds = minima(lambda: task.profit(batch, n_threads=1), repeats=5)[0]
    say(benchmark, candidate_bars_per_second=n_bars * N_CANDIDATES / seconds)


@compiled
def bench_batch_against_the_pure_twin(benchmark):
    task, batch = problem(200), offsets()
    with _backend.forced("python"):
        expected = task.profit(batch, n_threads=1)
        pure_seconds = minima(lambda: task.profit(batch, n_threads=1), repeats=3)[0]
    profit = benchmark(task.profit, batch, n_threads=1)
    np.testing.assert_array_equal(profit, expected)
    ratio = pure_seconds / minima(lambda: task.profit(batch, n_threads=1), repeats=20)[0]
    say(benchmark, times_faster_than_pure=ratio)
    assert ratio > 10.0


@compiled
def bench_threads(benchmark):
    task, batch = problem(20_000), offsets()
    expected = task.profit(batch, n_threads=1)
    np.testing.assert_array_equal(benchmark(task.profit, batch, n_threads=2), expected)
    # Interleaved, because the neighbours of a shared machine come and go.
    one, two = minima(lambda: task.profit(batch, n_threads=1), lambda: task.profit(batch, n_threads=2))
    say(benchmark, speed_up_on_two_threads=one / two)


@compiled
@pytest.mark.parametrize("n_bars", [200, 2000, 20_000])
def bench_exact(benchmark, n_bars):
    task = problem(n_bars)
    sampled = task.profit(offsets()).max()
    found = benchmark(task.optimize, "exact")
    assert found.profit >= sampled
    assert found.profit == task.profit([found.x])[0]
    assert not found.truncated
    say(benchmark, milliseconds=1e3 * minima(lambda: task.optimize("exact"), repeats=5)[0])


@compiled
def bench_exact_against_the_pure_twin(benchmark):
    task = problem(2000)
    with _backend.forced("python"):
        expected = task.optimize()
        pure_seconds = minima(task.optimize, repeats=1)[0]
    found = benchmark(task.optimize)
    assert (found.profit, found.x.tolist(), found.nfev) == (expected.profit, expected.x.tolist(), expected.nfev)
    ratio = pure_seconds / minima(task.optimize, repeats=10)[0]
    say(benchmark, times_faster_than_pure=ratio)
    assert ratio > 5.0


@compiled
@pytest.mark.parametrize("n_bars", [200, 2000])
def bench_direct_in_the_kernel_against_batches_from_outside(benchmark, n_bars):
    task, box = problem(n_bars), [(-0.03, 0.03), (-0.03, 0.03)]

    def outside():
        return search.direct(lambda batch: -task.profit(batch, n_threads=1), box, maxfun=500)

    expected = outside()
    found = benchmark(task.optimize, "direct")
    assert (found.x.tolist(), found.fun, found.nfev) == (expected.x.tolist(), expected.fun, expected.nfev)
    theirs, ours = minima(outside, lambda: task.optimize("direct"), repeats=30)
    say(benchmark, milliseconds=1e3 * ours, times_faster_than_outside=theirs / ours)
    assert theirs / ours > (1.5 if n_bars == 200 else 0.9)  # with more bars the scores are what takes the time


@compiled
@pytest.mark.parametrize("method", ["exact", "direct"])
def bench_many_on_two_threads(benchmark, method):
    tasks = {seed: problem(200, seed) for seed in range(140)}
    expected = optimize_many(tasks, method, n_threads=1, progress=False)
    got = benchmark(optimize_many, tasks, method, n_threads=2, progress=False)
    assert got.equals(expected)
    one, two, each = minima(
        lambda: optimize_many(tasks, method, n_threads=1, progress=False),
        lambda: optimize_many(tasks, method, n_threads=2, progress=False),
        lambda: [task.optimize(method) for task in tasks.values()],
        repeats=20,
    )
    say(benchmark, milliseconds_a_problem=1e3 * two / len(tasks), speed_up_on_two_threads=one / two, overhead=one / each - 1.0)


@compiled
def bench_making_a_problem(benchmark):
    arrays = dict.fromkeys(("close", "high", "low", "high_pred", "low_pred", "position"), np.zeros(200))
    assert benchmark(Levels, **arrays, fee_rate=0.0015).n_bars == 200

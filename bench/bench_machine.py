"""The bar machine: the compiled kernel against its pure twin and against loops written by hand; what decorating costs.

Parity with the loops (bench/plain_machine.py, nothing of the library) is asserted before anything is timed; gates are ratios of
minima taken in turns in one run.
"""

import ast
import inspect

import machine_strategies as made
import numpy as np
import pytest
from jobs import METRICS
from machine_jobs import StepJob, numba_loop, ours, plain_loop, table
from ratio import minima

import backtest as bt
from backtest import _backend
from backtest.compute.threads import default_threads

FAMILIES = {
    "showcase": (made.showcases, (range(10, 42, 2), range(60, 140, 5))),
    "chandelier": (made.chandeliers, (range(20, 84, 4), (2.0, 3.0, 4.0, 5.0), (1.0, 2.0, 3.0, 4.0))),
    "flipping": (made.flippings, (range(10, 74), (0.3, 0.6), 2)),
    "weighing": (made.weighings, (range(110, 174, 4), (0.5, 1.0, 1.5, 2.0), (0.1, 0.3, 0.5, 0.7))),
}
TOLERANCE = 1e-8
#: Times ours that others take at least, in short calls whose tables cost as much as their bars; bench/peers.py has long ones.
LEAST = {"pure": 200.0, "plain": 10.0, "numba": 0.05}
#: Decorating one function over parsing the file it is in, with four of them.
MOST_OF_PARSING = 20.0

compiled = pytest.mark.skipif(_backend.chosen().name != "cython", reason="times the compiled kernel")


def job_of(name):
    make, values = FAMILIES[name]
    return StepJob(name, bt.Bars.sample("GOOG"), make(*values), 0.0005, 0.0002)


def assert_same(job, loop, count):
    mine, theirs = ours(job, count), loop(job, count)
    for metric in METRICS:
        np.testing.assert_allclose(mine[metric], theirs[metric], rtol=TOLERANCE, atol=TOLERANCE, err_msg=metric)


@compiled
@pytest.mark.parametrize("name", FAMILIES)
def test_sweep(benchmark, name):
    """The public call: lines, kernel, metrics, table; 256 candidates equal to the loops' numbers."""
    job = job_of(name)
    assert_same(job, plain_loop, job.n_candidates)
    everything = slice(None)
    found = benchmark(table, job, everything)
    assert len(found) == job.n_candidates
    benchmark.extra_info["candidate_bars_per_second"] = f"{job.n_candidates * job.n_bars / benchmark.stats.stats.min:.3g}"


@compiled
@pytest.mark.parametrize("name", FAMILIES)
def test_against_pure(benchmark, name):
    """The same bits, from 16 candidates."""
    job = job_of(name)
    few = job.sample(16)

    def scores(backend):
        with _backend.forced(backend):
            return table(job, few)

    assert scores("cython").equals(scores("python"))
    mine, pure = minima(lambda: table(job, slice(None)), lambda: scores("python"), repeats=1)
    ratio = (pure / len(few)) / (mine / job.n_candidates)
    benchmark.extra_info["ratio"] = round(ratio, 1)
    benchmark(scores, "cython")
    print(f"\n{name}: the pure twin takes {ratio:.0f} times as long")
    assert ratio >= LEAST["pure"]


@compiled
@pytest.mark.parametrize("name", FAMILIES)
def test_against_loops(benchmark, name):
    """Written by hand: plain Python and, where it is installed, Numba; lines and metrics on both sides."""
    job = job_of(name)
    count = job.n_candidates
    mine, plain = minima(lambda: ours(job, count), lambda: plain_loop(job, 16), repeats=3)
    ratios = {"plain": (plain / 16) / (mine / count)}
    try:
        import numba  # noqa: F401
    except ImportError:
        pass
    else:
        assert_same(job, numba_loop, count)
        mine, theirs = minima(lambda: ours(job, count), lambda: numba_loop(job, count))
        ratios["numba"] = theirs / mine
    benchmark.extra_info |= {each: round(ratio, 2) for each, ratio in ratios.items()}
    benchmark(ours, job, count)
    print(f"\n{name}: " + ", ".join(f"{each} {ratio:.2f} times ours" for each, ratio in ratios.items()))
    assert all(ratio >= LEAST[each] for each, ratio in ratios.items())


@compiled
def test_threads(benchmark):
    """More threads, the same bits."""
    job = job_of("showcase")
    everything = slice(None)
    many = job.rules | {"n_threads": default_threads()}

    def threaded():
        return bt.evaluate(job.bars, job.family.strategy, job.family.columns, **many)

    assert threaded().equals(table(job, everything))
    one, all_of_them = minima(lambda: table(job, everything), threaded)
    benchmark.extra_info["speed_up"] = round(one / all_of_them, 2)
    benchmark(threaded)
    print(f"\nthreads: {one / all_of_them:.2f} times one thread's speed")


@pytest.mark.parametrize("name", FAMILIES)
def test_decorating(benchmark, name):
    """A register program from a function, beside what Python itself needs to parse the file's text."""
    strategy = getattr(made, name)
    function, given = strategy.function, {"state": dict(strategy.states), **strategy.lines}

    def decorated():
        return bt.on_bar(**given)(function).program()

    text = inspect.getsource(made)
    assert np.array_equal(decorated().code, strategy.program().code)
    mine, parsing = minima(decorated, lambda: ast.parse(text), repeats=20)
    benchmark.extra_info |= {"milliseconds": round(mine * 1e3, 2), "instructions": len(strategy.program().code)}
    benchmark(decorated)
    print(f"\n{name}: decorated in {mine * 1e3:.2f} ms, {mine / parsing:.1f} times parsing")
    assert mine <= MOST_OF_PARSING * parsing

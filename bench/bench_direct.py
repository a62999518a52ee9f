"""DIRECT in batches against scipy's point by point, and the compiled kernel against its pure twin.

Both optimizers see the same objective, and parity of every point is asserted before anything is timed.  A gate is a ratio
of two minima taken in turns in one run, so a busy machine moves both.
"""

import operator

import numpy as np
import pytest
import scipy.optimize
from ratio import minima

from backtest import _backend, search

#: Our time over scipy's; measured 0.03 to 0.33.
MOST_OF_SCIPY = 0.5
#: Compiled time over pure; measured 0.03 to 0.07.
MOST_OF_PURE = 0.5
BUDGETS = {1: 1000, 2: 500, 4: 1000, 6: 2000, 10: 3000}
VARIANTS = {"locally_biased": True, "original": False}


def bowl_batch(batch):
    total = np.zeros(len(batch))
    for column in range(batch.shape[1]):
        u = batch[:, column] - 0.3
        total = total + u * u
    return total


def bowl_point(x):
    total = 0.0
    for value in x.tolist():
        u = value - 0.3
        total = total + u * u
    return total


def first_batch(batch):
    return batch[:, 0]


#: The cheapest objective there is, compiled on both sides, leaves nothing but the optimizers; the bowl is Python per point
#: for scipy and NumPy per batch for us, the usual case.
OBJECTIVES = {"compiled": (operator.itemgetter(0), first_batch), "bowl": (bowl_point, bowl_batch)}


def runs(objective, n, variant):
    point, batch = OBJECTIVES[objective]
    bounds = [(-1.0, 1.2)] * n
    options = {"maxfun": BUDGETS[n], "locally_biased": VARIANTS[variant], "vol_tol": 0.0, "len_tol": 0.0}
    return (lambda: search.direct(batch, bounds, **options)), (lambda: scipy.optimize.direct(point, bounds, **options))


def assert_parity(ours, theirs):
    got, reference = ours(), theirs()
    assert (got.fun, got.nfev, got.nit, got.status) == (reference.fun, reference.nfev, reference.nit, reference.status)
    assert got.x_scipy.tobytes() == np.asarray(reference.get("x_scipy", reference.x)).tobytes()
    return got


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", BUDGETS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_against_scipy(benchmark, objective, n, variant):
    if _backend.chosen().name != "cython":
        pytest.skip("the gate is for the compiled kernel")
    ours, theirs = runs(objective, n, variant)
    expected = assert_parity(ours, theirs)
    mine, scipys = minima(ours, theirs)
    benchmark.extra_info.update(ratio=round(mine / scipys, 3), scipy_us_per_point=round(scipys / expected.nfev * 1e6, 3))
    assert benchmark(ours).fun == expected.fun
    print(f"\n{objective}, n = {n}, {variant}: {mine / scipys:.3f} of scipy's time, {mine / expected.nfev * 1e6:.3f} us a point")
    assert mine <= MOST_OF_SCIPY * scipys


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("n", [2, 6])
def test_against_pure(benchmark, n, variant):
    if _backend.chosen().name != "cython":
        pytest.skip("one backend only")
    ours, _ = runs("bowl", n, variant)

    def pure():
        with _backend.forced("python"):
            return ours()

    assert_parity(ours, pure)
    mine, pures = minima(ours, pure, repeats=5)
    benchmark.extra_info["ratio"] = round(mine / pures, 3)
    benchmark(ours)
    print(f"\nn = {n}, {variant}: {mine / pures:.3f} of the pure twin's time")
    assert mine <= MOST_OF_PURE * pures


def test_plateau_against_scipy(benchmark):
    """Everything scores alike: scipy walks a list past all equals for every insertion, a heap does not."""
    if _backend.chosen().name != "cython":
        pytest.skip("the gate is for the compiled kernel")
    options = {"maxfun": 40_000, "maxiter": 10**6, "vol_tol": 0.0, "len_tol": 0.0}

    def ours():
        return search.direct(lambda batch: np.ones(len(batch)), [(0, 1)] * 2, **options)

    def theirs():
        return scipy.optimize.direct(lambda x: 1.0, [(0, 1)] * 2, **options)

    expected = assert_parity(ours, theirs)
    mine, scipys = minima(ours, theirs, repeats=2)
    benchmark.extra_info["ratio"] = round(mine / scipys, 3)
    assert benchmark.pedantic(ours, rounds=3).nfev == expected.nfev
    print(f"\nplateau: {mine / scipys:.3f} of scipy's time, {mine / expected.nfev * 1e6:.3f} us a point")
    assert mine <= MOST_OF_SCIPY * scipys

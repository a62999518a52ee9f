"""DIRECT: the points of scipy and, when strict, of NLopt; and all that the door promises beyond."""

import contextlib
import functools
import importlib
import math
import platform
import subprocess
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy
import scipy.optimize
from conftest import slow

from backtest import InputError, ObjectiveError, search

door = importlib.import_module("backtest.search.direct")  # the package's attribute of that name is the function

# scipy as built for other processors may fuse multiply and add, and then visits other points.
same_bits_as_scipy = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="scipy's bits are x86-64's")
KINDS = (
    "quadratic",
    "absolute",
    "many minima",
    "steps",
    "plateaus",
    "symmetric",
    "infinite",
    "minus infinite",
    "constant",
    "no value",
    "nearly equal",
    "scattered",
    "scattered infinities",
)
N_PROBLEMS = 2600


class Problem:
    """A random objective, equal bits for one point and for a batch, with random options."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        pick = lambda *options: options[rng.integers(len(options))]  # noqa: E731
        self.n = int(rng.integers(1, 7))
        self.low = rng.uniform(-5, 5, self.n) * 10.0 ** rng.integers(-3, 4, self.n)
        self.width = rng.uniform(0.1, 9, self.n) * 10.0 ** rng.integers(-2, 3, self.n)
        self.centre, self.weight = rng.uniform(0, 1, self.n), rng.uniform(0.1, 3, self.n)
        self.kind = KINDS[seed % len(KINDS)]
        self.bounds = [(float(a), float(a + w)) for a, w in zip(self.low, self.width, strict=True)]
        self.options = {
            "eps": pick(1e-4, 0.0, 1e-2, 0.5),
            "maxfun": pick(1, 5, *rng.integers(1, 600, 6).tolist()),
            "maxiter": pick(1, 2, 3, 5, 20, 1000),
            "locally_biased": pick(True, False),
            "vol_tol": pick(1e-16, 0.0, 1e-3, 1e-6),
            "len_tol": pick(1e-6, 0.0, 1e-2, 1e-4),
            "f_min": pick(-math.inf, -math.inf, 0.0, -1.0),
            "f_min_rtol": pick(1e-4, 0.0, 0.1),
        }

    def __call__(self, batch):
        total, ripple, spread = np.zeros(len(batch)), np.zeros(len(batch)), np.zeros(len(batch))
        for column in range(self.n):  # elementwise, column by column: a matrix product would depend on the batch
            u = (batch[:, column] - self.low[column]) / self.width[column] - self.centre[column]
            if self.kind == "symmetric":
                u = u + self.centre[column] - 0.5
            total = total + (u * u if self.kind == "symmetric" else self.weight[column] * u * u)
            phase = u * 7 - np.floor(u * 7)
            ripple = ripple + phase * (1 - phase)
            spread = spread + (u * 1237 - np.floor(u * 1237))
        scattered = np.floor((spread - np.floor(spread)) * 5)
        return {
            "quadratic": total,
            "absolute": np.abs(total - 0.2) - 1,
            "many minima": total + ripple - 1,
            "steps": np.floor(total * 20),
            "plateaus": np.floor(total * 3),
            "symmetric": np.round(total, 3),
            "infinite": np.where(total > 0.4, math.inf, total),
            "minus infinite": np.where(total < 0.001, -math.inf, total),
            "constant": total * 0 + 1,
            "no value": total * 0 + math.inf,
            "nearly equal": np.floor(total * 2) + 4e-14 * scattered,
            "scattered": scattered,
            "scattered infinities": np.select([scattered == 0, scattered == 4], [-math.inf, math.inf], scattered),
        }[self.kind]


class Recorder:
    def __init__(self, evaluate):
        self.evaluate, self.points, self.scores, self.batches = evaluate, [], [], []

    def __call__(self, batch):
        scores = self.evaluate(batch)
        self.points += map(tuple, batch.tolist())
        self.scores += scores.tolist()
        self.batches.append(len(batch))
        return scores

    def one(self, x, *_):
        return float(self(np.array(x, dtype=float)[None, :])[0])


def run(evaluate, bounds, **options):
    recorder = Recorder(evaluate)
    return search.direct(recorder, bounds, **options), recorder


@functools.cache
def scipys(seed):
    problem = Problem(seed)
    recorder = Recorder(problem)
    return scipy.optimize.direct(recorder.one, problem.bounds, **problem.options), recorder


def assert_same_run(got, ours, reference, theirs, what):
    where = f"{what} (scipy {scipy.__version__}; the rules were checked with scipy 1.14 to 1.17)"
    if reference.status < 0:  # its buffers overflowed: we pass that point and go on
        assert ours.points[: len(theirs.points)] == theirs.points, where
        assert got.status > 0, where
        return
    assert ours.points == theirs.points, where
    assert (got.fun, got.nfev, got.nit, got.status, got.success) == (
        reference.fun,
        reference.nfev,
        reference.nit,
        reference.status,
        reference.success,
    ), where
    assert got.x_scipy.tobytes() == np.asarray(reference.x).tobytes(), where


def sphere(batch):
    total = np.zeros(len(batch))
    for column in range(batch.shape[1]):
        u = batch[:, column] - 0.3 - 0.1 * column
        total = total + u * u
    return total


@same_bits_as_scipy
@pytest.mark.parametrize("chunk", [0, 1, *(slow(chunk) for chunk in range(2, N_PROBLEMS // 100))])
def test_visits_scipys_points_in_its_order(backend, chunk):
    for seed in range(100 * chunk, 100 * chunk + 100):
        problem = Problem(seed)
        got, ours = run(problem, problem.bounds, **problem.options)
        assert_same_run(got, ours, *scipys(seed), f"problem {seed}, {problem.kind}, {problem.options}")
        at = ours.points.index(tuple(got.x.tolist()))
        assert ours.scores[at] == got.fun == min(ours.scores)
        assert at == ours.scores.index(got.fun)
        assert ours.batches[0] == 2 * problem.n + 1
        assert sum(ours.batches) == got.nfev


@same_bits_as_scipy
@pytest.mark.parametrize("locally_biased", [True, False])
@pytest.mark.parametrize(("n", "seed"), [(2, None), (10, None), slow(40, None), (None, 11), slow(None, 24), (None, 37)])
def test_long_runs_visit_scipys_points(backend, n, seed, locally_biased):
    problem = sphere if seed is None else Problem(seed)  # these seeds: a few scattered values, so ties everywhere
    bounds = [(-1.0, 1.2)] * n if seed is None else problem.bounds
    options = {"maxfun": 6000, "locally_biased": locally_biased, "len_tol": 0.0, "vol_tol": 0.0, "maxiter": 10_000}
    got, ours = run(problem, bounds, **options)
    theirs = Recorder(problem)
    reference = scipy.optimize.direct(theirs.one, bounds, **options)
    assert_same_run(got, ours, reference, theirs, f"n = {n}, problem {seed}")
    assert got.nfev > 4000


@same_bits_as_scipy
def test_every_budget_stops_where_scipy_stops(backend):
    for maxfun in range(1, 120):
        got = search.direct(sphere, [(-1.0, 1.2)], maxfun=maxfun)
        reference = scipy.optimize.direct(Recorder(sphere).one, [(-1.0, 1.2)], maxfun=maxfun)
        assert (got.nfev, got.nit, got.status) == (reference.nfev, reference.nit, reference.status)


@same_bits_as_scipy
def test_follows_scipy_below_the_smallest_float(backend):
    """The minimum at the centre, no tolerance: sides of 3 ** -700, all sizes zero."""

    def at_centre(batch):
        return np.abs(batch[:, 0] - 0.5) - 1.0

    options = {"maxfun": 3000, "maxiter": 1500, "len_tol": 0.0, "vol_tol": 0.0, "eps": 0.0}
    got, ours = run(at_centre, [(0.0, 1.0)], **options)
    theirs = Recorder(at_centre)
    assert_same_run(got, ours, scipy.optimize.direct(theirs.one, [(0.0, 1.0)], **options), theirs, "underflow")
    assert len(set(ours.points)) < len(ours.points)


def test_goes_on_where_scipy_runs_out_of_room(backend):
    options = {"locally_biased": False, "maxfun": 20_000, "vol_tol": 0.0, "len_tol": 0.0}

    def plateau(batch):
        return np.ones(len(batch))

    reference = scipy.optimize.direct(lambda x: 1.0, [(0, 1)] * 3, **options)
    got, ours = run(plateau, [(0, 1)] * 3, **options)
    assert reference.status in (-4, -6)
    assert (got.status, got.fun) == (1, 1.0)
    assert got.nfev > 20_000
    assert len(set(ours.points)) == got.nfev


# ---- strict selection ---------------------------------------------------------------------------------------------------


@pytest.mark.peers
@same_bits_as_scipy
def test_strict_visits_nlopts_points(backend):
    nlopt = pytest.importorskip("nlopt")
    n_relaxed_differs = 0
    for seed in range(120):
        problem = Problem(seed)
        if problem.kind in ("infinite", "minus infinite", "scattered infinities", "no value"):
            continue  # to NLopt these are infeasible points
        is_biased = problem.options["locally_biased"]
        theirs = Recorder(problem)
        peer = nlopt.opt(nlopt.GN_ORIG_DIRECT_L if is_biased else nlopt.GN_ORIG_DIRECT, problem.n)
        peer.set_lower_bounds([low for low, _ in problem.bounds])
        peer.set_upper_bounds([high for _, high in problem.bounds])
        peer.set_min_objective(theirs.one)
        peer.set_maxeval(400)
        with contextlib.suppress(nlopt.runtime_error):  # its buffers overflow on plateaus, as scipy's do
            peer.optimize([low for low, _ in problem.bounds])
        options = {"eps": 0.0, "maxfun": 800, "maxiter": 10**6, "vol_tol": 0.0, "len_tol": 0.0, "locally_biased": is_biased}
        _, strict = run(problem, problem.bounds, selection="strict", **options)
        _, relaxed = run(problem, problem.bounds, **options)
        n_common = min(len(strict.points), len(theirs.points))
        assert n_common >= 300
        assert strict.points[:n_common] == theirs.points[:n_common], (seed, problem.kind)
        n_relaxed_differs += relaxed.points[:n_common] != theirs.points[:n_common]
    assert n_relaxed_differs > 20


# ---- the door -----------------------------------------------------------------------------------------------------------


def test_growing_arrays_changes_nothing(backend, monkeypatch):
    options = {"maxfun": 4000, "vol_tol": 0.0, "len_tol": 0.0}
    for locally_biased in (True, False):
        before, roomy = run(sphere, [(-1, 2)] * 2, locally_biased=locally_biased, **options)
        with monkeypatch.context() as patch:
            patch.setattr(door, "FIRST_CAPACITY", 8)
            patch.setattr(door, "FIRST_CUTS", 1)
            after, tight = run(sphere, [(-1, 2)] * 2, locally_biased=locally_biased, **options)
        assert roomy.points == tight.points
        assert (before.x.tobytes(), before.nit) == (after.x.tobytes(), after.nit)


def test_cutting_the_batch_changes_nothing(backend):
    problem = Problem(2)

    def in_pieces(size):
        return lambda batch: np.concatenate([problem(batch[at : at + size]) for at in range(0, len(batch), size)])

    whole = run(problem, problem.bounds, maxfun=300)
    for size in (1, 2, 7):
        cut = run(in_pieces(size), problem.bounds, maxfun=300)
        assert cut[1].points == whole[1].points
        assert cut[0].x.tobytes() == whole[0].x.tobytes()


def test_batches_are_the_callees_to_keep_and_to_spoil(backend):
    kept = []

    def spoil(batch):
        assert batch.dtype == np.float64
        assert batch.flags.c_contiguous
        assert batch.shape[1] == 2
        kept.append(batch)
        scores = sphere(batch)
        batch[:] = np.nan
        return scores

    got = search.direct(spoil, [(-1, 1)] * 2, maxfun=200)
    clean = search.direct(sphere, [(-1, 1)] * 2, maxfun=200)
    assert got.x.tobytes() == clean.x.tobytes()
    assert len({id(batch) for batch in kept}) == len(kept) == got.nit


def test_bounds_come_in_several_forms_and_stay_as_they_are(backend):
    pairs = np.array([[-1.0, 1.0], [0.0, 2.0]])
    pairs.flags.writeable = False
    forms = [[(-1, 1), (0, 2)], ((-1.0, 1.0), (0.0, 2.0)), pairs, scipy.optimize.Bounds([-1, 0], [1, 2]), iter([(-1, 1), (0, 2)])]
    assert len({search.direct(sphere, form, maxfun=100).x.tobytes() for form in forms}) == 1
    assert search.direct(sphere, scipy.optimize.Bounds(-1, 1), maxfun=50).x.shape == (1,)


@pytest.mark.parametrize(
    "scores",
    [
        lambda x: sphere(x).astype(np.float32),
        lambda x: sphere(x).tolist(),
        lambda x: np.round(sphere(x)).astype(int),
        lambda x: np.repeat(sphere(x), 2)[::2],
    ],
)
def test_scores_may_be_any_real_vector(backend, scores):
    assert search.direct(scores, [(-1, 1)] * 2, maxfun=100).nfev > 60


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (lambda batch: None, "evaluate must return numbers, got NoneType of dtype object"),
        (lambda batch: 1.0, r"evaluate must return scores of shape \(5,\), got shape \(\)"),
        (lambda batch: batch, r"evaluate must return scores of shape \(5,\), got shape \(5, 2\)"),
        (lambda batch: sphere(batch)[:, None], r"got shape \(5, 1\)"),
        (lambda batch: sphere(batch)[:-1], r"got shape \(4,\)"),
        (lambda batch: sphere(batch) + 0j, "dtype complex128"),
        (lambda batch: sphere(batch) > 0, "dtype bool"),
        (lambda batch: ["a"] * len(batch), "evaluate must return numbers, got list of dtype <U1"),
        (lambda batch: [[1], [1, 2]], "evaluate must return 5 numbers, got list"),
    ],
)
def test_other_scores_are_refused(backend, scores, message):
    with pytest.raises(ObjectiveError, match=message):
        search.direct(scores, [(-1, 1)] * 2)


def test_nan_is_refused_with_its_point_or_counts_as_infinite(backend):
    def hole(batch):
        scores = sphere(batch)
        scores[batch[:, 0] > 0.5] = np.nan
        batch[:] = 0  # the message has the point all the same
        return scores

    with pytest.raises(ObjectiveError, match=r"not be NaN, got nan at x = \[0\.6.+, 0\.0\] \(row 1 of batch 0") as caught:
        search.direct(hole, [(-1, 1)] * 2)
    assert caught.value.params["x"] == pytest.approx([2 / 3, 0.0])
    got, ours = run(lambda batch: np.where(batch[:, 0] > 0.5, np.nan, sphere(batch)), [(-1, 1)] * 2, maxfun=100, nan="inf")
    _, infinite = run(lambda batch: np.where(batch[:, 0] > 0.5, np.inf, sphere(batch)), [(-1, 1)] * 2, maxfun=100)
    assert ours.points == infinite.points
    assert math.isfinite(got.fun)
    nothing = search.direct(lambda batch: np.full(len(batch), np.nan), [(-1, 1)], maxfun=20, nan="inf")
    assert (nothing.fun, nothing.x.tolist()) == (math.inf, [0.0])


def test_exceptions_of_evaluate_pass_through(backend):
    error = KeyError("mine")

    def fails(batch):
        raise error

    with pytest.raises(KeyError) as caught:
        search.direct(fails, [(0, 1)])
    assert caught.value is error


def test_callback_sees_the_best_so_far_and_may_stop(backend):
    seen = []
    got, ours = run(sphere, [(-1, 1)] * 2, maxfun=200, callback=seen.append)
    assert [each.nit for each in seen] == list(range(1, got.nit + 1))
    assert [each.nfev for each in seen] == np.cumsum(ours.batches).tolist()
    assert [each.fun for each in seen] == [min(ours.scores[: each.nfev]) for each in seen]
    assert all(sphere(each.x[None])[0] == each.fun for each in seen)

    def stop(best):
        if best.nfev > 50:
            raise StopIteration

    stopped = search.direct(sphere, [(-1, 1)] * 2, callback=stop)
    assert (stopped.status, stopped.success, stopped.message) == (99, False, "callback raised StopIteration")
    assert 50 < stopped.nfev < 100


def test_messages_name_the_limit(backend):
    cases = [
        ({"maxfun": 30}, 1, "more than maxfun=30 evaluations done"),
        ({"maxiter": 5}, 2, "maxiter=5 iterations done"),
        ({"f_min": 0.0, "f_min_rtol": 0.01}, 3, "fun is within f_min_rtol=0.01 of f_min"),
        ({"vol_tol": 0.01}, 4, "the volume of the best rectangle is below vol_tol=0.01"),
        ({"len_tol": 0.1}, 5, "the size of the best rectangle is below len_tol=0.1"),
    ]
    for options, status, message in cases:
        got = search.direct(sphere, [(-1, 1)] * 2, **options)
        assert (got.status, got.message, got.success) == (status, message, status in (3, 4, 5))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maxfun": 0}, "maxfun must be a whole number >= 1"),
        ({"maxfun": 10.0}, "maxfun must be a whole number"),
        ({"maxiter": 0}, "maxiter must be a whole number >= 1"),
        ({"eps": -1e-4}, "eps must be >= 0, got -0.0001"),
        ({"eps": math.nan}, "eps must be a finite number"),
        ({"vol_tol": 2}, "vol_tol must be >= 0 and <= 1, got 2"),
        ({"len_tol": -1}, "len_tol must be >= 0"),
        ({"f_min_rtol": 1.5}, "f_min_rtol must be"),
        ({"f_min": math.inf}, "f_min must be < inf, got inf"),
        ({"f_min": math.nan}, "f_min must be"),
        ({"locally_biased": 1}, "locally_biased must be True or False, got 1"),
        ({"selection": "stric"}, "selection must be one of 'relaxed', 'strict', got 'stric'; did you mean 'strict'"),
        ({"nan": "ignore"}, "nan must be one of 'raise', 'inf'"),
        ({"callback": 3}, "callback must be callable or None, got 3"),
        ({"bounds": []}, "bounds must "),
        ({"bounds": [(1, 0)]}, r"bounds must have low < high, got \(1.0, 0.0\) \(row 0\)"),
        ({"bounds": [(0, 1), (2, 2)]}, r"got \(2.0, 2.0\) \(row 1\)"),
        ({"bounds": [(0, math.inf)]}, r"bounds must be finite, got inf \(row 0, column 1\)"),
        ({"bounds": [(0, math.nan)]}, "bounds must be finite, got nan"),
        ({"bounds": [(None, 1)]}, "bounds must be finite, got nan"),
        ({"bounds": [(-1e308, 1e308)]}, "bounds must have a finite width"),
        ({"bounds": [(0, 1, 2)]}, "bounds must have shape"),
        ({"bounds": 3}, "bounds must be a list, got 3"),
        ({"bounds": [("a", "b")]}, "bounds must hold numbers"),
        ({"bounds": scipy.optimize.Bounds([0, 0], [1, -1])}, r"low < high, got \(0.0, -1.0\) \(row 1\)"),
        ({"bounds": scipy.optimize.Bounds([0], [math.inf])}, "bounds.ub must be finite"),
        ({"bounds": types.SimpleNamespace(lb=[0, 0], ub=[1])}, "as many lower as upper bounds, got 2 and 1"),
        ({"evaluate": 3}, "evaluate must be callable"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(InputError, match=message):
        search.direct(**{"evaluate": sphere, "bounds": [(0, 1)], **arguments})


def test_importing_the_search_leaves_scipys_optimizers_alone():
    code = "import sys, backtest.search; sys.exit('scipy.optimize' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_runs_in_threads_do_not_meet(backend):
    alone = [search.direct(Problem(seed), Problem(seed).bounds, maxfun=500) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda seed: search.direct(Problem(seed), Problem(seed).bounds, maxfun=500), range(8)))
    assert [each.x.tobytes() for each in together] == [each.x.tobytes() for each in alone]


def test_the_page_runs_as_it_stands(backend, capsys):
    page = Path(__file__).parent.parent / "docs" / "direct.md"
    blocks = page.read_text(encoding="utf-8").split("```python\n")[1:]
    assert blocks
    for block in blocks:
        exec(compile(block.split("```")[0], str(page), "exec"), {})
    assert capsys.readouterr().out

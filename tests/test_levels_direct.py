"""DIRECT inside the levels kernel: the points of search.direct, across twins and instruction sets, and its door."""

import types
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from levels_problems import KINDS, always_on, bounds, moves, rules
from mutants import mutated

from backtest import FallbackWarning, _backend, search
from backtest._pure import levels as pure
from backtest.levels import AlwaysOn, Levels

#: Of the search: (maxfun, maxiter, eps, vol_tol, len_tol).
DEFAULTS = (500, 1000, 1e-4, 1e-16, 1e-6)
LIMITS = [
    DEFAULTS,
    (240, 1000, 1e-4, 1e-16, 1e-6),
    (101, 1000, 0.0, 0.0, 0.0),
    (1, 1000, 1e-4, 1e-16, 1e-6),
    (7, 3, 0.1, 0.0, 0.0),
    (1 << 50, 25, 1e-4, 0.0, 0.0),
    (3000, 1, 1e-4, 1e-16, 1e-6),
    (1 << 50, 1000, 1e-4, 1e-4, 0.0),
    (1 << 50, 1000, 1e-4, 0.0, 1e-2),
    (300, 12, 1e-4, 1e-16, 1e-6),
]


def random_problem(seed):
    kind = KINDS[seed % len(KINDS)]
    data, rule = moves((0, 1, 2, 5, 13, 40)[seed // 7 % 6], seed, kind), rules(seed, kind)
    if seed % 3 == 0:
        return AlwaysOn(**always_on(data, seed), allow_short=seed % 2 == 0, **rule)
    return Levels(**data, **rule)


def random_bounds(seed):
    (low_h, high_h), low_high_l = bounds(seed)
    return (low_h, high_h + 1e-3 * (low_h == high_h)), low_high_l  # DIRECT needs room


def solve(kernel, problem, box, limits=DEFAULTS):
    maxfun, maxiter, eps, vol_tol, len_tol = limits
    budget = maxfun - maxfun % 2
    # Empty, not full of NaN: where only the iterations bound a run, most of it is never touched.
    scratch = np.empty(kernel.direct_scratch_size(budget, maxiter))
    scratch[:10_000] = np.nan
    out = np.full(5, 9.0)
    edges = np.array(box, dtype=np.float64).ravel()
    kernel.direct(
        problem._rows,
        problem._split,
        problem.fee_rate,
        problem._pessimistic,
        edges,
        eps,
        budget,
        maxiter,
        vol_tol or -1.0,
        len_tol or -1.0,
        scratch,
        out,
    )
    return out


def test_the_kernels_loop_is_search_direct(backend):
    statuses = []
    for seed in range(500 if backend.name == "cython" else 60):
        problem, box, limits = random_problem(seed), random_bounds(seed), LIMITS[seed % len(LIMITS)]
        maxfun, maxiter, eps, vol_tol, len_tol = limits
        expected = search.direct(
            lambda batch, problem=problem: -problem.profit(batch),
            box,
            maxfun=maxfun,
            maxiter=maxiter,
            eps=eps,
            vol_tol=vol_tol,
            len_tol=len_tol,
        )
        found = solve(backend.kernels["levels"], problem, box, limits)
        assert found[:2].tobytes() == expected.x.tobytes(), seed
        assert found[2:].tolist() == [-expected.fun, expected.nfev, expected.status], seed
        statuses.append(expected.status)
    assert set(statuses) == {1, 2, 4, 5}


@pytest.mark.compiled
def test_instruction_sets_agree_to_the_last_bit():
    for seed in range(120):
        task = random_problem(seed), random_bounds(seed), LIMITS[seed % len(LIMITS)]
        expected = solve(_backend.kernel("levels"), *task)
        for simd in _backend.simd_levels():
            with _backend.forced("cython", simd) as now:
                assert solve(now.kernels["levels"], *task).tobytes() == expected.tobytes(), (seed, simd)


move = st.floats(-1.0, 1.0) | st.sampled_from([0.0, -0.0, -1.0, 1.0, 0.01, -0.01])
edge = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.03, 0.03, 5e-324, -1e150, 1e300])


@pytest.mark.compiled
@given(
    bars=st.lists(st.tuples(move, move, move, move, move, st.floats(-10.0, 10.0)), max_size=6),
    box=st.tuples(*[st.tuples(edge, edge).filter(lambda pair: pair[0] < pair[1])] * 2),
    fee_rate=st.floats(0.0, 1.0),
    limits=st.tuples(st.integers(1, 150), st.integers(1, 40), st.floats(0.0, 2.0), st.floats(0.0, 1.0), st.floats(0.0, 1.0)),
)
def test_twins_agree_on_anything(bars, box, fee_rate, limits):
    table = np.array(bars, dtype=np.float64).reshape(-1, 6).T
    problem = Levels(
        close=table[0],
        high=np.maximum(table[1], table[2]),
        low=np.minimum(table[1], table[2]),
        high_pred=table[3],
        low_pred=table[4],
        position=table[5],
        fee_rate=fee_rate,
    )
    assert solve(_backend.kernel("levels"), problem, box, limits).tobytes() == solve(pure, problem, box, limits).tobytes()


@pytest.mark.compiled
@pytest.mark.parametrize("max_iter", [1, 2, 3, 10, 1000, 1 << 20])
def test_twins_take_the_same_scratch(max_iter):
    kernel = _backend.kernel("levels")
    for budget in [*range(0, 50, 2), 500, 2 * max_iter + 2, 4 * max_iter, 4 * max_iter + 6, 1 << 40, 1 << 53]:
        assert kernel.direct_scratch_size(budget, max_iter) == pure.direct_scratch_size(budget, max_iter)
    # A budget beyond what the iterations can spend costs no memory.
    assert kernel.direct_scratch_size(1 << 53, max_iter) == kernel.direct_scratch_size(1 << 52, max_iter)


MUTATIONS = [
    ("direct_kernel.update(state, -scores)", "direct_kernel.update(state, scores)"),
    ("True, False, -math.inf", "False, False, -math.inf"),
    ("True, False, -math.inf", "True, True, -math.inf"),
    ("-math.inf, 0.0, vol_tol, len_tol", "-math.inf, 0.0, len_tol, vol_tol"),
    ("ratio = bounds[::2] / width", "ratio = bounds[1::2] / width"),
    ("width = bounds[1::2] - bounds[::2]", "width = bounds[1::2] - 0.5 * bounds[::2]"),
    ("out[2:] = (-state.fun", "out[2:] = (state.fun"),
    ("out[:2] = (centre[state.best] + ratio) * width", "out[:2] = centre[state.best] * width + bounds[::2]"),
]


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("text", "mutant"), MUTATIONS)
def test_the_comparison_notices_a_mutation(text, mutant):
    twin = mutated("levels", text, mutant)
    compiled = _backend.kernel("levels")
    tasks = [
        (random_problem(seed), random_bounds(seed), limits)
        for seed in range(28, 42)
        for limits in (LIMITS[1], (400, 60, 1e-4, 1e-3, 1e-5))
    ]

    def differ(twin):
        return any(solve(twin, *task).tobytes() != solve(compiled, *task).tobytes() for task in tasks)

    assert not differ(pure)
    assert differ(twin)


def test_threads_never_change_a_result():
    tasks = [(random_problem(seed), random_bounds(seed)) for seed in range(60)]
    expected = [solve(_backend.kernel("levels"), *task).tobytes() for task in tasks]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda task: solve(_backend.kernel("levels"), *task).tobytes(), tasks)) == expected


# --- The door


def test_direct_itself(backend):
    for seed in range(3):
        problem = Levels(**moves(60, seed), fee_rate=0.001)
        found = problem.optimize("direct")
        assert found.baseline <= found.profit <= problem.optimize().profit
        assert found.profit == problem.profit([found.x])[0]
        assert 300 < found.nfev < 700  # the budget is soft, as scipy's is
        assert (found.fallback, found.success) == (None, True)
        assert problem.optimize("direct", effort="fast").nfev < 200


@pytest.mark.parametrize(
    ("problem", "budget"),
    [(Levels(**moves(30, 1), fee_rate=0.001), 500), (AlwaysOn(**always_on(moves(30, 1), 1), fee_rate=0.001), 240)],
)
def test_the_door_says_what_search_direct_says(backend, problem, budget):
    box = ((-0.03, 0.03), (-0.03, 0.03))
    fast = "(effort='fast': 100 evaluations)"
    for options, maxfun in (({}, budget), ({"maxfun": 33}, 33), ({"effort": "fast"}, 100), ({"maxfun": 10**12}, 10**12)):
        expected = search.direct(lambda batch: -problem.profit(batch), box, maxfun=maxfun)
        found = problem.optimize("direct", **options)
        assert found.message.removesuffix(fast).strip() == expected.message
        assert found.message.endswith(fast) == ("effort" in options)
        assert (found.fun, found.nfev, found.status) == (expected.fun, expected.nfev, expected.status)
        assert found.x.tobytes() == expected.x.tobytes()
        assert (found.method, found.fallback, found.success) == ("direct", None, True)


@pytest.fixture
def stand_in(monkeypatch):
    """Put a function in the place of the kernel's DIRECT."""

    def install(direct):
        kernels = _backend.chosen().kernels
        names = {name: getattr(kernels["levels"], name) for name in ("profit", "report", "direct_scratch_size")}
        monkeypatch.setitem(kernels, "levels", types.SimpleNamespace(**names, direct=direct))

    return install


def test_direct_that_cannot_go_on_falls_back_and_says_so(stand_in):
    def full(*arguments):
        arguments[-1][:] = (0.0, 0.0, 0.0, 9, -2)

    stand_in(full)
    problem = Levels(**moves(30, 1), fee_rate=0.001)
    with pytest.warns(FallbackWarning, match="evolution ran: DIRECT ended with status -2"):
        found = problem.optimize("direct", maxfun=60)
    expected = problem.optimize("evolution", maxfun=60)
    assert found.fallback == "evolution ran: DIRECT ended with status -2"
    assert (found.profit, found.nfev, found.method) == (expected.profit, expected.nfev + 9, "direct")


def test_what_the_search_raises_is_never_swallowed(stand_in):
    def broken(*_):
        raise ZeroDivisionError("mine")

    stand_in(broken)
    with pytest.raises(ZeroDivisionError, match="mine"):
        Levels(**moves(30, 1), fee_rate=0.001).optimize("direct")

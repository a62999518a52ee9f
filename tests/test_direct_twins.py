"""DIRECT's kernels: equal twins, mutants that show it, and two rules checked by slower means."""

import importlib
import inspect
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutants import mutated
from test_direct import sphere

from backtest._pure import _direct_heaps as heaps
from backtest._pure import direct as pure

door = importlib.import_module("backtest.search.direct")  # the package's attribute of that name is the function


def opened(kernel, n, *, locally_biased=True, strict=False, eps=1e-4, arrays=None):
    """A kernel's state without limits, and its arrays."""
    arrays = arrays or door._allocate(n, 20_000, 60 * n)
    state = kernel.State(n, eps, 1 << 40, 1 << 40, locally_biased, strict, -math.inf, 0.0, -1.0, -1.0)
    state.bind(np.linspace(-1.3, 2.1, n), np.linspace(0.7, 3.3, n), **arrays)
    return state, arrays


def compiled():
    return pytest.importorskip("backtest._ext.direct")


def lockstep(one, two, n, draw, *, locally_biased=True, strict=False, n_iterations=12, eps=1e-4):
    """Run two kernels side by side on equal scores; every array must agree to the last bit after every step."""
    room = door._allocate(n, 5_000, 60 * n)  # uninitialised, so both start from copies
    pairs = []
    for kernel in (one, two):
        copies = {name: array.copy() for name, array in room.items()}
        pairs.append((kernel, *opened(kernel, n, locally_biased=locally_biased, strict=strict, eps=eps, arrays=copies)))
    news = [kernel.start(state) for kernel, state, _ in pairs]
    for _ in range(n_iterations):
        assert news[0] == news[1]
        if not pairs[0][0].fits(pairs[0][1]):
            break
        batches = [np.empty((news[0], n)) for _ in pairs]
        for (kernel, state, _), batch in zip(pairs, batches, strict=True):
            kernel.sample(state, batch)
        assert batches[0].tobytes() == batches[1].tobytes()
        scores = draw(batches[0])
        assert len({kernel.update(state, scores) for kernel, state, _ in pairs}) == 1
        news = [kernel.select(state) for kernel, state, _ in pairs]
        for name in room:
            assert pairs[0][2][name].tobytes() == pairs[1][2][name].tobytes(), name
        for name in ("n_points", "n_chosen", "n_new", "best", "fun", "deepest", "iteration"):
            assert getattr(pairs[0][1], name) == getattr(pairs[1][1], name), name


def noise(seed, pool):
    rng = np.random.default_rng(seed)
    return lambda batch: rng.choice(pool, len(batch))


def test_twins_have_the_same_face():
    kernel = compiled()
    assert inspect.getdoc(kernel) == inspect.getdoc(pure)  # dedented: since 3.13 Python does that at compile time
    for ours, twins in ((kernel.State, pure.State), (kernel.State.bind, pure.State.bind)):
        assert inspect.getdoc(ours) == inspect.getdoc(twins)
    assert kernel.NAN == pure.NAN
    names = [
        name
        for name, each in vars(pure).items()
        if inspect.isfunction(each) and each.__module__ == pure.__name__ and not name.startswith("_")
    ]
    assert names == ["start", "select", "fits", "sample", "update"]
    for name in names:
        ours, twins = getattr(kernel, name), getattr(pure, name)
        assert inspect.getdoc(ours) == inspect.getdoc(twins)
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(twins).parameters)


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 10),
    locally_biased=st.booleans(),
    strict=st.booleans(),
    pool=st.lists(st.sampled_from([0.0, -0.0, 1.0, 1.0 + 1e-14, 0.5, -2.0, 3e-300, 1e300, math.inf, -math.inf]), min_size=1),
)
def test_twins_agree_on_any_scores(seed, n, locally_biased, strict, pool):
    lockstep(compiled(), pure, n, noise(seed, pool), locally_biased=locally_biased, strict=strict)


@pytest.mark.parametrize("locally_biased", [True, False])
@pytest.mark.parametrize("n", range(1, 11))
def test_twins_agree_on_a_surface(n, locally_biased):
    lockstep(compiled(), pure, n, sphere, locally_biased=locally_biased, n_iterations=40)


@pytest.mark.parametrize(
    ("sign", "flipped"),
    [
        ("centre[parent, param] - step", "centre[parent, param] + step"),
        ("return not score - low * size", "return not score + low * size"),
        ("state.fun - state.eps * abs", "state.fun + state.eps * abs"),
        ("state.lowest_rank -= 1", "state.lowest_rank += 1"),
        ("if slope > high:", "if slope < high:"),
        ("minus if minus < plus else plus", "minus if minus > plus else plus"),
        ("score < state.least[place - 1]", "score <= state.least[place - 1]"),
        ("state.rank[two] < state.rank[one]", "state.rank[two] > state.rank[one]"),
        ("(n_params - cut) + cut / 9.0", "(n_params - cut) - cut / 9.0"),
    ],
)
def test_a_flipped_sign_breaks_the_agreement(sign, flipped):
    mutant = mutated("direct", sign, flipped)

    def compare(twin):
        for seed in range(6):
            options = {"locally_biased": seed % 2 == 0, "strict": seed % 3 == 0, "eps": 0.3}
            lockstep(compiled(), twin, 3, noise(seed, [0.0, 1.0, 1.0, 2.0, -0.5]), **options)
            lockstep(compiled(), twin, 3, sphere, **options, n_iterations=30)

    compare(pure)
    with pytest.raises(AssertionError):
        compare(mutant)


# ---- by slower means ----------------------------------------------------------------------------------------------------


def on_hull(scores, sizes):
    """In exact arithmetic, largest first: does some K > 0 make score - K * size least here?"""

    def slopes(j, others):
        return [(scores[i] - scores[j]) / (sizes[i] - sizes[j]) for i in others]

    least = [min(slopes(j, range(j)), default=math.inf) for j in range(len(scores))]
    most = [max([Fraction(0), *slopes(j, range(j + 1, len(scores)))]) for j in range(len(scores))]
    return [low > 0 and high <= low for low, high in zip(least, most, strict=True)]


@pytest.mark.parametrize("locally_biased", [True, False])
def test_strict_chooses_the_lower_hull_and_relaxed_more(backend, locally_biased):
    kernel = backend.kernels["direct"]
    n_more = 0
    for seed in range(60):
        strict = seed % 2 == 0
        rng = np.random.default_rng(seed)
        state, arrays = opened(kernel, 2, locally_biased=locally_biased, strict=strict, eps=0.0)
        n_new = kernel.start(state)
        for _ in range(7):
            kernel.sample(state, np.empty((n_new, 2)))
            kernel.update(state, rng.integers(0, 10**6, n_new).astype(float))
            levels = np.flatnonzero(arrays["head"] >= 0)
            scores = list(map(Fraction, arrays["value"][arrays["head"][levels]]))
            n_new = kernel.select(state)
            chosen = (arrays["waiting"][levels] >= 0).tolist()
            hull = on_hull(scores, list(map(Fraction, arrays["size"][levels])))
            if strict:
                assert chosen == hull
            assert all(is_in or not is_on for is_in, is_on in zip(chosen, hull, strict=True))
            n_more += sum(chosen) - sum(hull)
    assert n_more > 5


def test_a_class_is_scipys_sorted_list():
    """Rule by rule on a plain list: behind equals, plus first unless minus is better, and the pair before an equal front."""

    def insert(members, rect, scores):
        at = next((i for i, other in enumerate(members) if scores[rect] < scores[other]), len(members))
        members.insert(at, rect)

    for seed in range(300):
        rng = np.random.default_rng(seed)
        state, arrays = opened(pure, 1)
        pure.start(state)
        scores, members, waiting = arrays["value"], [], -1
        for plus in range(1, 60, 2):
            minus = plus + 1
            scores[plus : plus + 2] = rng.integers(0, 3, 2)
            front = members[0] if members else None
            heaps.insert_pair(state, 0, plus, minus)
            if front is not None and scores[plus] < scores[front] and scores[minus] == scores[front]:
                members[:0] = [plus, minus]
            else:
                for rect in (minus, plus) if scores[minus] < scores[plus] else (plus, minus):
                    insert(members, rect, scores)
            if waiting >= 0 and rng.random() < 0.5:  # its turn to be divided
                members.remove(waiting)
                waiting = state.waiting[0] = -1
            for _ in range(rng.integers(0, 4) if waiting < 0 and len(members) > 4 else 0):  # chosen, and its turn at once
                assert heaps.pop(state, 0) == members.pop(0)
            if waiting < 0 and rng.random() < 0.8:  # chosen; stays in the list until its turn
                waiting = state.waiting[0] = heaps.pop(state, 0)
                assert waiting == members[0]
        if waiting >= 0:
            members.remove(waiting)
        while members:
            assert heaps.pop(state, 0) == members.pop(0)

"""The exact optimum against brute force with its own candidates, and across twins and instruction sets."""

import itertools

import numpy as np
import oracle_levels as oracle
import pytest
from conftest import slow
from levels_problems import KINDS, always_on, bounds, moves, rules
from mutants import mutated

from backtest import _backend, search
from backtest._pure import _levels_events as events
from backtest._pure import levels as pure
from backtest.levels import AlwaysOn, Levels

SIZES = (0, 1, 2, 3, 5, 8, 13)
COMPILED = _backend.chosen().name == "cython"


def axis(values, lowest, highest, rng):
    """Brute-force candidates of one axis: around every breakpoint, a grid, random points, the bounds."""
    around = np.concatenate([values, values - 1e-12, values + 1e-12, np.nextafter(values, 9.0), np.nextafter(values, -9.0)])
    points = np.concatenate([around, np.linspace(lowest, highest, 17), rng.uniform(lowest, highest, 12), [0.0]])
    return np.unique(np.clip(points, lowest, highest))


def breakpoints(data, margin):
    """Where a predicate or a clamp may change, by plain arithmetic."""
    highs = np.concatenate([data["high"] - margin - data["high_pred"], data["close"] - data["high_pred"], -data["high_pred"]])
    lows = np.concatenate([data["low"] + margin - data["low_pred"], data["close"] - data["low_pred"], -data["low_pred"]])
    return highs, lows


def random_problem(seed):
    kind = KINDS[seed % len(KINDS)]
    data, rule = moves(SIZES[seed // len(KINDS) % len(SIZES)], seed, kind), rules(seed, kind)
    if seed % 3 == 0:
        return data, rule, AlwaysOn(**always_on(data, seed), allow_short=seed % 2 == 0, **rule)
    return data, rule, Levels(**data, **rule)


@pytest.mark.slow
def test_exact_beats_brute_force(backend):
    # The pure twin is held to the compiled one bit for bit below, so a tenth of the problems is enough for it.
    n_problems = 2500 if backend.name == "cython" else 250
    gains = losses = truncated = 0
    for seed in range(n_problems):
        data, rule, problem = random_problem(seed)
        box = bounds(seed)
        found = problem.optimize("exact", box)
        rng = np.random.default_rng(seed)
        highs, lows = breakpoints(data, rule["fill_margin"])
        grid = np.array(list(itertools.product(axis(highs, *box[0], rng), axis(lows, *box[1], rng))))
        best = problem.profit(grid).max()
        assert found.profit >= best, (seed, found, best)
        assert found.profit == problem.profit([found.x])[0], seed
        assert box[0][0] <= found.x[0] <= box[0][1], seed
        assert box[1][0] <= found.x[1] <= box[1][1], seed
        gains += found.profit > found.baseline
        losses += found.profit < 0.0
        truncated += found.truncated
    # The problems are not all of one sort: some leave nothing to gain, in some every point within bounds loses.
    assert n_problems / 4 < gains < n_problems
    assert losses > 0
    assert truncated == 0


def threshold(predicate, lowest, highest, first_true):
    """Nearest double to the bound at which the predicate turns, by bisection over doubles in order."""
    low, high = 0, oracle.places(lowest, highest)
    if not predicate(highest if first_true else lowest):
        return None
    while low < high:
        middle = (low + high + (not first_true)) // 2
        if predicate(oracle.ulps(lowest, middle)):
            low, high = (low, middle) if first_true else (middle, high)
        else:
            low, high = (middle + 1, high) if first_true else (low, middle - 1)
    return oracle.ulps(lowest, low)


def test_ties_go_to_the_smallest_offsets(backend):
    """Every candidate of the definition, found and scored by the oracle alone."""
    ties = 0
    for seed in range(140):
        kind = ("lattice", "worthless", "duplicates", "hopeless")[seed % 4]
        data, rule, box = moves(seed % 6, seed, kind), rules(seed, kind), bounds(seed)
        problem = Levels(**data, **rule)
        plain = {name: value.tolist() for name, value in data.items()}
        highs, lows = {*box[0], 0.0}, {*box[1], 0.0}
        for row in zip(*plain.values(), strict=True):
            *bar, position = row
            side = "long" if position > 0.0 else "short"
            if position == 0.0:
                continue
            fills = lambda h, l: oracle.bar(side, *bar, 1.0, h, l, **rule)[0]  # noqa: B023, E731, E741
            counts = lambda h, l: oracle.counts(side, *bar, h, l, **rule)  # noqa: B023, E731, E741
            on_high, on_low = (counts, fills) if side == "long" else (fills, counts)
            highs.add(threshold(lambda h: on_high(h, 0.0), *box[0], False))  # noqa: B023
            lows.add(threshold(lambda l: on_low(0.0, l), *box[1], True))  # noqa: B023, E741
        highs = [h for h in highs - {None} if box[0][0] <= h <= box[0][1]]
        lows = [l for l in lows - {None} if box[1][0] <= l <= box[1][1]]  # noqa: E741
        scored = [(-oracle.profit(plain, h, l, **rule), oracle.tie_order((h, l))) for h in highs for l in lows]  # noqa: E741
        best = min(scored)
        ties += sum(score == best[0] for score, _ in scored) > 1
        found = problem.optimize("exact", box)
        assert (-found.profit, oracle.tie_order(found.x.tolist())) == best, seed
    assert ties > 40


def test_nothing_to_gain_stays_where_it_is(backend):
    problem = Levels(**moves(40, 1), fee_rate=0.9)
    found = problem.optimize()
    assert found.profit <= 0.0
    flat = Levels(**{name: np.zeros(5) for name in moves(5, 0)}, fee_rate=0.0)
    found = flat.optimize()
    assert (found.x.tolist(), found.profit, found.nfev) == ([0.0, 0.0], 0.0, 1)


def whole_grid(problem, box):
    """Every cell's corner, from the pure twin's thresholds, scored by the kernel; and the best of them in tie order."""
    limits = events.ordinal_of(np.array(box, dtype=np.float64).ravel() + 0.0)
    level = pure.PESSIMISTIC_LEVEL if problem.intrabar == "pessimistic" else pure.OPTIMISTIC_LEVEL
    top, bottom = events.thresholds(problem._rows, level, limits)
    highs, lows = events.value_of(events.grid(top, *limits[:2])), events.value_of(events.grid(bottom, *limits[2:]))
    cells = np.stack(np.meshgrid(highs, lows, indexing="ij"), axis=-1).reshape(-1, 2)
    profit = problem.profit(cells)
    best = cells[profit == profit.max()]
    return len(highs), profit.max(), min(best.tolist(), key=oracle.tie_order)


# The pure twin takes seconds for a grid that the kernel scores in milliseconds.
@pytest.mark.parametrize("n_bars", [150, 300, slow(520), slow(1200)] if COMPILED else [150])
def test_every_cell_of_the_grid(n_bars):
    """One pass of the sweep and several, its pruning, its first look and its plateaus, against every cell there is."""
    n_problems, n_wide = {150: 60, 300: 60, 520: 40, 1200: 4}[n_bars], 0
    for seed in range(n_problems):
        kind = KINDS[seed % len(KINDS)]
        data, rule = moves(n_bars, seed, kind), rules(seed, kind)
        if seed % 4 == 1:  # one side only and a high fee: the plateaus
            data["position"] = (1.0 if seed % 8 == 1 else -1.0) * np.abs(data["position"])
            rule["fee_rate"] = 0.02
        problem = AlwaysOn(**always_on(data, seed), **rule) if seed % 8 == 3 else Levels(**data, **rule)
        box = bounds(seed) if seed % 2 else ((-0.03, 0.03), (-0.03, 0.03))
        width, profit, point = whole_grid(problem, box)
        found = problem.optimize("exact", box)
        assert (found.profit, found.x.tolist(), found.truncated) == (profit, point, False), (seed, kind)
        n_wide += width > pure.WIDTH
    assert n_wide > 0 or n_bars <= 300


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_plateau_of_equal_cells_is_one_cell(backend, sign):
    """A fee that nothing earns, on more bars than cells are kept: never to trade is best, at thousands of equal points."""
    data = moves(1500, 3)
    data["position"] = np.full(1500, sign)
    found = Levels(**data, fee_rate=0.9).optimize(bounds=((-0.2, 0.2), (-0.2, 0.2)))
    assert (found.profit, found.n_fills, found.truncated) == (0.0, 0, False)
    assert found.nfev < pure.MAX_CELLS


@pytest.mark.slow
def test_more_near_ties_than_are_kept(backend):
    """One row weighs 1e17 times the others and does the same everywhere: theirs is lost in the tolerance, and that is said."""
    data = moves(1500, 3)
    data["position"] = np.full(1500, 1e-16)
    data["position"][700] = 10.0
    data["high_pred"][700] = data["low_pred"][700] = 0.9
    found = Levels(**data, fee_rate=0.001).optimize()
    assert found.truncated
    assert "within tolerance" in found.message
    assert found.nfev == pure.MAX_CELLS
    alone = Levels(**{name: value[700:701] for name, value in data.items()}, fee_rate=0.001).optimize()
    assert found.profit == pytest.approx(alone.profit, abs=found.tolerance)


def solve(kernel, problem, box):
    n_floats, n_ints = kernel.scratch_sizes(len(problem._rows))
    out = np.empty(6)
    kernel.exact(
        problem._rows,
        problem._split,
        problem.fee_rate,
        problem._pessimistic,
        np.array(box).ravel(),
        np.full(n_floats, np.nan),
        np.full(n_ints, -7),
        out,
    )
    return out


@pytest.mark.compiled
def test_twins_and_instruction_sets_agree_to_the_last_bit():
    levels = _backend.simd_levels()
    for seed in range(420):
        _, _, problem = random_problem(seed)
        expected = solve(pure, problem, bounds(seed))
        for simd in levels:
            with _backend.forced("cython", simd) as now:
                np.testing.assert_array_equal(solve(now.kernels["levels"], problem, bounds(seed)), expected, strict=True)
    for n_bars, kind in ((700, "plain"), (700, "lattice"), (1300, "worthless"), (1300, "hopeless")):
        problem = Levels(**moves(n_bars, 5, kind), **rules(5, kind))
        expected = solve(pure, problem, bounds(0))
        for simd in levels:
            with _backend.forced("cython", simd) as now:
                np.testing.assert_array_equal(solve(now.kernels["levels"], problem, bounds(0)), expected, strict=True)


def test_exact_is_never_below_the_heuristics(backend):
    for seed in range(4):
        problem = Levels(**moves(80, seed), fee_rate=0.0015)
        best = problem.optimize().profit
        assert best >= problem.optimize("evolution", seed=seed).profit
        sample = np.random.default_rng(seed).uniform(-0.03, 0.03, (20_000, 2))
        assert best >= problem.profit(sample).max()


MUTATIONS = [
    ("if turn > 0.0 else turn * h[0]", "if turn < 0.0 else turn * h[0]"),
    ("start < 0 or lane <= h_end", "start < 0"),
    ("if lane >= l_end else -1", ""),
    ("is_stale = is_stale or not is_quiet", "is_stale = False"),
    ("1.5 * self.tolerance", "-0.2"),
    ("entry_part = np.where(is_linear, low_pred, 0.0)", "entry_part = low_pred"),
    ("exit_part = np.where(is_floor, -1.0, entry_part)", "exit_part = entry_part"),
    ("zero_end = np.minimum(", "zero_end = np.maximum("),
    ("np.where(is_open & ~filled, middle + 1, entry)", "np.where(is_open & ~filled, middle, entry)"),
    ("np.where(is_long, exit_ - 1, -entry)", "np.where(is_long, exit_, -entry)"),
    ("np.abs(h) + np.abs(l), -value", "-value"),
    ("np.array([lowest, highest, 0])", "np.array([lowest, highest])"),
]


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("text", "mutant"), MUTATIONS)
def test_the_comparison_notices_a_mutation(text, mutant):
    twin = mutated("levels", text, mutant)
    compiled = _backend.kernel("levels")
    tasks = [(random_problem(seed)[2], bounds(seed)) for seed in range(300)]

    def differ(twin):
        return any(not np.array_equal(solve(twin, problem, box), solve(compiled, problem, box)) for problem, box in tasks)

    assert differ(twin)


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("n_bars", [60, 200, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_direct_with_50_000_evaluations_never_gets_above_it(n_bars, kind):
    """A search that has nothing in common with the sweep, without the tolerances that would let it rest early."""
    problem = Levels(**moves(n_bars, 500, kind), **rules(500, kind))
    exact = problem.optimize()
    found = search.direct(
        lambda batch: -problem.profit(batch, n_threads=1),
        [(-0.03, 0.03)] * 2,
        maxfun=50_000,
        maxiter=10**6,
        vol_tol=0.0,
        len_tol=0.0,
    )
    assert found.nfev >= 50_000
    assert -found.fun <= exact.profit

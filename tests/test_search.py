"""Searches through the unit cube: evolution on its own, the memory of trials, any space, which search, and bt.optimize."""

import itertools
import logging
import math
import warnings

import numpy as np
import pandas as pd
import pytest
from test_optimize import COSTS, CROSS, GOOG, LEVEL, SHORT

import backtest as bt
from backtest import lines, rules, search
from backtest.search.choose import default_trials
from backtest.search.duplicates import TrialCache
from backtest.space import Space

nan, inf = math.nan, math.inf
BOX = [(-4.0, 5.0), (-3.0, 4.0)]
ENGINES = ("direct", "evolution")
#: A window, a choice, and a continuous level on a logarithmic scale.
MIXED = Space({"fast": range(2, 12), "slow": [15, 20, 30], "stop_loss": {"low": 0.005, "high": 0.3, "log": True}})


def parabola(batch):
    return ((batch - 1.0) ** 2).sum(axis=1)


def optimize(space=MIXED, strategy=CROSS, bars=SHORT, **more):
    return bt.optimize(bars, strategy, space, costs=COSTS, **{"n_trials": 120} | more)


def recorded(function=parabola):
    seen = []

    def evaluate(batch):
        seen.append(batch.copy())
        return function(batch)

    return evaluate, seen


# -- evolution ---------------------------------------------------------------------------------------------------------


def test_evolution_finds_the_bottom_and_counts_points():
    evaluate, seen = recorded()
    found = search.evolution(evaluate, BOX, maxfun=3000)
    points = np.concatenate(seen)
    np.testing.assert_allclose(found.x, [1, 1], atol=1e-3)
    assert found.fun == parabola(points).min() == parabola(found.x[None])[0]
    assert found.nfev == len(points) == 3000
    assert found.nit == len(seen) == 100
    assert (found.status, found.success) == (1, False)
    assert found.message == "no generation fits into maxfun=3000 any more"
    assert all(batch.flags.c_contiguous and batch.shape == (30, 2) for batch in seen)
    assert ((points >= [-4, -3]) & (points <= [5, 4])).all()


@pytest.mark.parametrize("n_params", [1, 2, 5])
@pytest.mark.parametrize("maxfun", [5, 6, 29, 30, 31, 100, 151])
@pytest.mark.parametrize("popsize", [1, 4, 15])
def test_evolution_never_exceeds_its_budget(n_params, maxfun, popsize):
    found = search.evolution(parabola, [(-1, 2)] * n_params, maxfun=maxfun, popsize=popsize)
    assert 0 < found.nfev <= maxfun


def test_evolution_without_a_finite_score_keeps_its_budget():
    found = search.evolution(lambda batch: np.full(len(batch), inf), BOX, maxfun=100)
    assert found.nfev == 90
    assert found.fun == inf


def test_evolution_is_seeded():
    runs = [recorded() for _ in range(3)]
    for (evaluate, _), seed in zip(runs, (3, 3, 4), strict=True):
        search.evolution(evaluate, BOX, maxfun=200, seed=seed)
    first, again, other = (np.concatenate(seen) for _, seen in runs)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_evolution_visits_scipys_points():
    from scipy.optimize import differential_evolution

    evaluate, seen = recorded()
    mine = search.evolution(evaluate, BOX, maxfun=300, seed=5)
    other, theirs = recorded()
    found = differential_evolution(
        lambda x: other(x.T), BOX, seed=5, vectorized=True, updating="deferred", polish=False, tol=0, maxiter=9
    )
    np.testing.assert_array_equal(np.concatenate(seen), np.concatenate(theirs))
    assert mine.x.tolist() == found.x.tolist()


def test_evolution_rests_on_a_plateau():
    found = search.evolution(lambda batch: np.ones(len(batch)), BOX)
    assert (found.status, found.success, found.fun) == (0, True, 1.0)
    assert found.message == "the scores of a generation are alike to tol=0"


def test_evolution_takes_infinities_and_reports_them():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = search.evolution(lambda batch: np.select([batch[:, 0] > 3, batch[:, 0] < 0], [-inf, inf], 1.0), BOX, maxfun=300)
    assert found.fun == -inf
    assert found.x[0] > 3


def test_scipy_is_told_a_number_in_place_of_minus_infinity(monkeypatch):
    import scipy.optimize

    original, told = scipy.optimize.differential_evolution, []

    def spied(function, *arguments, **more):
        def listened(points):
            told.append(function(points))
            return told[-1]

        return original(listened, *arguments, **more)

    monkeypatch.setattr(scipy.optimize, "differential_evolution", spied)
    found = search.evolution(lambda batch: np.where(batch[:, 0] > 3, -inf, 1.0), BOX, maxfun=60)
    assert set(np.concatenate(told)) == {-1e300, 1.0}
    assert found.fun == -inf


def test_evolution_tells_the_best_so_far_and_stops_on_request():
    told = []

    def callback(best):
        told.append((best.nfev, best.fun))
        if len(told) == 3:
            raise StopIteration

    found = search.evolution(parabola, BOX, callback=callback)
    assert [nfev for nfev, _ in told] == [30, 60, 90]
    assert told[0][1] >= told[1][1] >= told[2][1] == found.fun
    assert (found.status, found.nfev, found.message) == (99, 90, "callback raised StopIteration")


@pytest.mark.parametrize("error", [ValueError, TypeError, StopIteration, ZeroDivisionError, bt.InputError, KeyboardInterrupt])
@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("where", ["evaluate", "callback"])
def test_exceptions_pass_through_evolution_unchanged(error, call, where):
    calls = itertools.count(1)

    def fail(best=None):
        if next(calls) == call:
            raise error("mine")

    arguments = {"callback": fail} if where == "callback" else {}
    if (error, where) == (StopIteration, "callback"):
        return  # a wish, tested above

    def evaluate(batch):
        if where == "evaluate":
            fail()
        return parabola(batch)

    with pytest.raises(error, match="mine"):
        search.evolution(evaluate, BOX, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"maxfun": 4}, "maxfun must be a whole number >= 5 .*, got 4"),
        ({"tol": -1}, "tol must be >= 0 and <= 1, got -1"),
        ({"maxfun": 5.0}, r"maxfun must be a whole number .*, got 5\.0"),
        ({"seed": -1}, "seed must be a whole number >= 0 .*, got -1"),
        ({"popsize": 0}, "popsize must be a whole number >= 1, got 0"),
        ({"bounds": [(1, 1)]}, r"bounds must have low < high, got \(1\.0, 1\.0\) \(row 0\)"),
        ({"evaluate": 5}, "evaluate must be callable, got 5"),
        ({"callback": 5}, "callback must be callable or None, got 5"),
    ],
)
def test_evolution_refuses_bad_arguments(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        search.evolution(**{"evaluate": parabola, "bounds": BOX} | arguments)


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (lambda batch: batch, r"evaluate must return scores of shape \(30,\), got shape \(30, 2\)"),
        (lambda batch: np.where(np.arange(30) == 7, nan, 0.0), r"scores must not be NaN, got nan at x = .* \(row 7 of batch 1\)"),
    ],
)
def test_evolution_refuses_bad_scores(evaluate, message):
    with pytest.raises(bt.ObjectiveError, match=message):
        search.evolution(evaluate, BOX)


def test_evaluate_may_write_into_its_batch():
    def evaluate(batch):
        scores = parabola(batch)
        batch[:] = nan
        return scores

    assert search.evolution(evaluate, BOX, maxfun=90).x.tolist() == search.evolution(parabola, BOX, maxfun=90).x.tolist()


# -- memory ------------------------------------------------------------------------------------------------------------


def test_cache_knows_each_candidate_once():
    cache, keys = TrialCache(), np.array([[1, 2], [3, 4], [1, 2], [5, 6]])
    assert cache.missing(keys).tolist() == [0, 1, 3]
    cache.store(keys[[0, 1]], np.array([0.5, -inf]))
    assert cache.read(keys, new=2).tolist() == [0.5, -inf, 0.5, inf]
    assert (cache.hits, len(cache)) == (1, 2)
    assert cache.missing(keys).tolist() == [3]
    assert cache.read(keys[:2]).tolist() == [0.5, -inf]
    assert cache.hits == 3
    assert cache.missing(np.empty((0, 2), dtype=np.int64)).dtype == np.int64


# -- cube --------------------------------------------------------------------------------------------------------------

STEPPED = Space({"x": range(30), "y": {"low": 0, "high": 1, "step": 0.1}, "z": ["a", "b"]}, where="x > 3 or y < 0.5")


@pytest.mark.parametrize("engine", ENGINES)
def test_cube_evaluates_no_candidate_twice_and_none_outside(engine):
    evaluate, seen = recorded(lambda batch: (batch[:, 0] - 20) ** 2 + (batch[:, 1] - 0.3) ** 2 + batch[:, 2])
    found = search.cube(evaluate, STEPPED, engine, keep=1000)
    batch = np.concatenate(seen)
    assert len(np.unique(STEPPED.grid_index(batch), axis=0)) == len(batch) == found.nfev == len(found.batch) <= len(STEPPED)
    assert STEPPED.feasible(batch).all()
    assert found.hits > 0
    assert f"done: {found.nfev} of {len(STEPPED)} candidates evaluated" in found.message
    assert found.message.endswith(f", {found.hits:,} repeats answered from memory")
    assert (found.x[0], found.x[2]) == (20, 0)
    assert (np.diff(found.objective) >= 0).all()
    np.testing.assert_array_equal(found.batch, batch[found.numbers])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("n_trials", [1, 2, 7, 50])
def test_cube_keeps_the_budget_of_distinct_candidates(engine, n_trials):
    evaluate, seen = recorded()
    found = search.cube(evaluate, Space({"x": {"low": 0, "high": 3}, "y": range(3)}), engine, n_trials=n_trials, keep=99)
    assert found.nfev == sum(map(len, seen)) == len(found.batch) == n_trials
    assert (found.status, found.success) == (0, True)


@pytest.mark.parametrize("engine", ENGINES)
def test_cube_finds_the_bottom_on_every_scale(engine):
    space = Space({"x": {"low": -4, "high": 5}, "y": {"low": 1e-6, "high": 10, "log": True}, "fixed": 7})
    found = search.cube(lambda batch: (batch[:, 0] - 1) ** 2 + np.log10(batch[:, 1] / 1e-3) ** 2, space, engine)
    assert found.nfev == default_trials(space) == 2000
    np.testing.assert_allclose(found.x, [1, 1e-3, 0], rtol=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_ties_go_to_the_earlier_evaluation(engine):
    evaluate, seen = recorded(lambda batch: np.floor(batch[:, 0]))
    found = search.cube(evaluate, Space({"x": {"low": 0, "high": 4}}), engine, n_trials=60, keep=60)
    order = np.argsort(np.floor(np.concatenate(seen)[:, 0]), kind="stable")
    assert found.numbers.tolist() == order.tolist()


@pytest.mark.parametrize("engine", ENGINES)
def test_minus_infinity_is_reported_as_itself(engine):
    told = []
    found = search.cube(
        lambda batch: np.where(batch[:, 0] > 0.6, -inf, batch[:, 0]),
        Space({"x": {"low": 0, "high": 1}}),
        engine,
        n_trials=50,
        keep=50,
        callback=lambda result: told.append(result.fun),
    )
    assert found.fun == told[-1] == -inf
    assert found.objective[0] == -inf
    assert 0 < np.isfinite(found.objective).sum() < 50


def test_engines_are_told_a_number_in_place_of_minus_infinity(monkeypatch):
    told = []

    def engine(evaluate, bounds, **_):
        told.extend(evaluate(np.array([[0.1], [0.9], [0.95]])).tolist())

    monkeypatch.setitem(search.cube.__globals__, "direct", engine)
    space = Space({"x": {"low": 0, "high": 1}}, where="x < 0.92")
    found = search.cube(lambda batch: np.where(batch[:, 0] > 0.6, -inf, batch[:, 0]), space)
    assert told == [0.1, -1e300, inf]
    assert found.fun == -inf


def test_evolution_at_rest_starts_afresh():
    space = Space({"x": {"low": 0, "high": 1}})
    found = search.cube(lambda batch: np.ones(len(batch)), space, "evolution", n_trials=500, keep=500)
    assert found.nfev == len(np.unique(found.batch)) == 500


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_but_infinity_is_an_answer(engine):
    found = search.cube(lambda batch: np.full(len(batch), inf), Space({"x": {"low": 0, "high": 1}}), engine, n_trials=20)
    assert (found.fun, found.nfev) == (inf, 20)


@pytest.mark.parametrize("engine", ENGINES)
def test_cube_stops_on_time_and_on_ctrl_c(engine, monkeypatch):
    space = Space({"x": {"low": 0, "high": 1}, "y": {"low": 0, "high": 1}})
    clock = itertools.count()
    monkeypatch.setattr(search.cube.__globals__["time"], "monotonic", lambda: next(clock))
    evaluate, seen = recorded()
    found = search.cube(evaluate, space, engine, timeout=1.5)
    assert found.status == search.cube.__globals__["TIMED_OUT"]
    assert found.nfev == sum(map(len, seen))
    assert len(seen) == 2
    assert found.message.startswith(f"timed out: {found.nfev} of 2,000 candidates evaluated, ")
    monkeypatch.undo()

    def interrupted(batch):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(len(batch))
        return parabola(batch)

    done = []
    found = search.cube(interrupted, space, engine)
    assert (found.status, found.success, found.nfev) == (search.INTERRUPTED, False, sum(done))
    assert found.message.startswith(f"interrupted: {sum(done)} of 2,000 candidates evaluated, ")
    with pytest.raises(KeyboardInterrupt):  # nothing was evaluated
        search.cube(interrupted, space, engine)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"space": Space({"x": 5, "y": ["a"]})}, bt.SpaceError, "space must have a parameter with more than one value for"),
        (
            {"space": Space({"x": {"low": 0, "high": 1}}, where="x > 2")},
            bt.SpaceError,
            "where must leave a candidate that .* can find",
        ),
        ({"n_trials": 0}, bt.InputError, "n_trials must be a whole number >= 1, got 0"),
        ({"keep": 0}, bt.InputError, "keep must be a whole number >= 1, got 0"),
        ({"seed": "x"}, bt.InputError, "seed must be a whole number >= 0, got 'x'"),
        ({"timeout": 0}, bt.InputError, "timeout must be > 0, got 0"),
        ({"engine": "evolve"}, bt.InputError, "engine must be one of 'direct', 'evolution', got 'evolve'"),
        (
            {"evaluate": lambda batch: np.full(len(batch), nan)},
            bt.ObjectiveError,
            r"evaluate must not return NaN, got it at \{'x':",
        ),
        (
            {"evaluate": lambda batch: batch},
            bt.ObjectiveError,
            r"evaluate must return one score per candidate \(\d+\), got shape",
        ),
    ],
)
def test_cube_refuses_what_it_cannot_use(engine, arguments, error, message):
    space = Space({"x": {"low": 0, "high": 1}})
    with pytest.raises(error, match=message):
        search.cube(**{"evaluate": lambda batch: batch[:, 0], "space": space, "engine": engine} | arguments)


# -- which search ------------------------------------------------------------------------------------------------------

LINE = {"low": 0, "high": 1}
PART = {"low": 0.1, "high": 0.9}  # of a price


@pytest.mark.parametrize(
    ("space", "more", "method", "why"),
    [
        ({"x": range(1000)}, {}, "grid", "because the space is finite"),
        ({"x": range(10**6)}, {"n_trials": 500}, "grid", "because the space is finite"),
        ({"x": range(1001)}, {}, "grid", "because the space is finite and fits into 60 s"),
        ({"x": range(1001)}, {"timeout": 1e-9}, "evolution", "because a grid of 1,001 candidates does not fit into 1e-09 s"),
        ({"x": range(10**12)}, {}, "evolution", "because a grid of 1,000,000,000,000 candidates does not fit into 60 s"),
        ({"x": range(10**12), "y": range(10**12)}, {}, "evolution", "does not fit into 60 s"),
        (
            {"x": LINE, "y": range(3), "z": LINE, "fixed": 1},
            {},
            "direct",
            "because x, z are continuous and no more than 3 parameters vary",
        ),
        (
            {"x": LINE, "y": range(3), "z": LINE, "w": [1, 2]},
            {},
            "evolution",
            "because x, z are continuous and 4 parameters vary",
        ),
    ],
)
def test_auto_chooses(space, more, method, why):
    chosen, because = search.choose(parabola, Space(space), **more)
    assert chosen == method
    assert why in because


def test_auto_goes_by_the_time_that_candidates_take(monkeypatch):
    now, is_first = [0.0], []
    monkeypatch.setattr(search.choose.__globals__["time"], "perf_counter", lambda: now[0])

    def evaluate(batch):
        now[0] += 0.01 * len(batch) + (0 if is_first else 1000)  # what is loaded once is no part of a candidate
        is_first.append(False)
        return parabola(batch)

    assert search.choose(evaluate, Space({"x": range(5900)}))[0] == "grid"
    assert search.choose(evaluate, Space({"x": range(6100)}))[0] == "evolution"
    assert search.choose(evaluate, Space({"x": range(6100)}), timeout=100)[0] == "grid"
    assert search.choose(evaluate, Space({"x": range(6100)}), n_trials=5900)[0] == "grid"


def test_auto_times_few_slow_candidates(monkeypatch):
    now, asked = [0.0], [0]
    monkeypatch.setattr(search.choose.__globals__["time"], "perf_counter", lambda: now[0])

    def evaluate(batch):
        now[0] += 2.0 * len(batch)
        asked[0] += len(batch)
        return batch[:, 0]

    assert search.choose(evaluate, Space({"x": range(2000)}))[0] == "evolution"
    assert asked[0] <= 5
    assert search.choose(evaluate, Space({"x": range(2000)}), timeout=4001)[0] == "grid"


# -- bt.optimize -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ENGINES)
def test_best_is_what_a_single_run_gives(backend, method):
    result = optimize(method=method, n_trials=40)
    assert result.n_evaluated == len(result.table) == 40
    assert result.best.stats["sharpe"] == result.best_value == result.table["sharpe"].iloc[0] == result.table["sharpe"].max()
    again = bt.run(SHORT, CROSS, result.best_params, costs=COSTS, execution=bt.Execution(start=result.start))
    assert again.stats["sharpe"] == result.best_value
    assert result.start == 30  # of the longest window; the continuous level has none
    assert result.search.startswith(f"{method}, as asked for; done: 40 of 40 candidates evaluated, ")
    assert result.provenance["method"] == method


@pytest.mark.parametrize("method", ENGINES)
def test_equal_seeds_and_any_threads_give_equal_results(method):
    space = MIXED.parameters | {"take_profit": {"low": 0.01, "high": 0.5}}
    first, again, threads = (optimize(space, bars=GOOG, method=method, seed=2, n_trials=300, n_threads=n) for n in (1, 1, 3))
    for other in (again, threads):
        assert other.table.to_numpy().tobytes() == first.table.to_numpy().tobytes()
        assert other.table.index.equals(first.table.index)
        assert other.search == first.search


def test_evolution_depends_on_its_seed():
    first, other = (optimize(method="evolution", seed=seed) for seed in (0, 1))
    assert not first.table.index.equals(other.table.index)


@pytest.mark.parametrize("method", ENGINES)
def test_grid_and_other_searches_agree_on_each_candidate(backend, method):
    space = Space(
        {"fast": [3, 5, 8], "slow": range(6, 25, 6), "stop_loss": {"low": 0.01, "high": 0.05, "step": 0.02}}, where="fast < slow"
    )
    grid, other = optimize(space, method="grid", n_trials=None), optimize(space, method=method, n_trials=None)
    assert other.start == grid.start
    assert len(grid.table) * 0.5 < len(other.table) <= len(grid.table)
    pd.testing.assert_frame_equal(grid.table.loc[other.table.index], other.table, check_exact=True)


@pytest.mark.parametrize("method", ENGINES)
def test_undefined_and_too_few_trades_rank_last(method):
    result = optimize({"level": {"low": 80, "high": 300}}, LEVEL, method=method, n_trials=60, min_trades=3)
    good = result.table["sharpe"].notna() & (result.table["n_trades"] >= 3)
    assert 0 < good.sum() < 60
    assert good.is_monotonic_decreasing
    assert result.table["sharpe"][good].is_monotonic_decreasing


def test_nothing_defined_is_reported_with_a_warning():
    with pytest.warns(bt.NumericsWarning, match="no candidate has a defined sharpe"):
        result = optimize({"level": {"low": 8000, "high": 9000}}, LEVEL, n_trials=20)
    assert math.isnan(result.best_value)
    assert result.best_params == {"level": 8500.0}  # the centre, which DIRECT evaluates first


def test_where_applies_to_continuous_parameters():
    space = Space(
        {"fast": range(2, 8), "slow": [20, 30], "stop_loss": PART, "take_profit": PART}, where="stop_loss < take_profit"
    )
    for method in ENGINES:
        params = optimize(space, method=method).table.index.to_frame()
        assert len(params) == 120
        assert (params["stop_loss"] < params["take_profit"]).all()


@pytest.mark.parametrize(
    ("space", "method"),
    [(MIXED, "direct"), ({"fast": [3, 5], "slow": [10, 20]}, "grid"), (MIXED.parameters | {"take_profit": PART}, "evolution")],
)
def test_auto_says_what_it_chose_in_one_line(caplog, space, method):
    with caplog.at_level(logging.INFO, logger="backtest"):
        result = optimize(space)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"search: {method} over a space of ")
    assert "because" in caplog.messages[0]
    assert result.search.startswith(f"{method}, because ")
    assert result.provenance["method"] == method


def test_a_huge_finite_space_is_searched_without_enumerating():
    space = {
        "fast": range(2, 30),
        "slow": range(30, 90),
        "stop_loss": {"low": 1e-6, "high": 0.5, "step": 1e-6},
        "take_profit": {"low": 1e-6, "high": 0.5, "step": 1e-6},
    }
    result = optimize(space)
    assert result.search.startswith("grid, because the space is finite; done: 120 of 120")
    result = optimize(space, n_trials=None, timeout=0.2)
    assert result.search.startswith("evolution, because a grid of 420,000,000,000,000 candidates does not fit into 0.2 s; ")
    assert 0 < result.n_evaluated <= 4000


def test_interrupted_and_timed_out_searches_return_what_was_done(monkeypatch):
    from backtest import signals

    original, calls = signals.StrategyEvaluator.lazy_table, itertools.count()

    def lazy_table(self, batch, settings):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return original(self, batch, settings)

    monkeypatch.setattr(signals.StrategyEvaluator, "lazy_table", lazy_table)
    result = optimize(method="direct", n_trials=None)
    assert result.is_interrupted
    assert 0 < result.n_evaluated == len(result.table) < 3000
    assert f"interrupted: {result.n_evaluated:,} of 3,000 candidates evaluated" in result.search
    monkeypatch.undo()
    assert result.best.stats["sharpe"] == result.best_value


def test_continuous_parameters_of_custom_lines_count_with_both_ends():
    @bt.line("share")
    def late(bars, share):
        values = bars.close.copy()
        values[: int(share * 100)] = nan
        return values

    strategy = rules.Strategy(enter_long=lines.close >= late(), exit_long=lines.close < late())
    result = optimize({"share": LINE | {"high": 0.5}}, strategy, n_trials=20, metric="total_return", min_trades=0)
    assert result.start == 50


def test_continuous_results_come_back_from_a_folder(tmp_path):
    result = optimize(n_trials=30)
    result.save(tmp_path)
    loaded = bt.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.table, result.table)
    assert loaded.best_params == result.best_params
    assert loaded.provenance["n_candidates"] == math.inf


def test_a_grid_of_a_billion_is_cut_lazily_and_stopped_by_the_clock():
    space = bt.Space(
        {
            "fast": range(2, 30),
            "slow": range(30, 90),
            "stop_loss": {"low": 1e-3, "high": 0.8, "step": 1e-3},
            "take_profit": {"low": 1e-3, "high": 0.8, "step": 1e-3},
        }
    )
    assert len(space) > 10**9
    result = optimize(space, method="grid", n_trials=None, timeout=0.3)
    assert result.is_interrupted
    assert "timed out" in result.search
    assert result.summary["n"] == result.n_evaluated >= 4096
    assert result.best.stats["sharpe"] == result.best_value

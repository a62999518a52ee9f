"""Studies: each candidate once, remembered; duplicates, capping, failures, pruning, interruptions, export."""

import contextlib
import functools
import json
import logging
import os
import re
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import optuna
import pytest

import backtest as bt
from backtest.study.records import ATTEMPTS
from backtest.study.sharing import SharedStore
from backtest.study.store import Status, Store

GRID = {"a": range(10), "b": range(10), "c": range(10)}
MIXED = bt.Space(
    {
        "kind": ["ema", "sma", None],
        "n": {"low": 1, "high": 9, "step": 2, "when": "kind is not None"},
        "x": {"low": 0.01, "high": 1.0, "log": True},
        "flag": [True, 1, 1.0],
        "fixed": 5,
    },
    where="x < 0.9",
)


def bowl(params, trial):
    return -((params["a"] - 3) ** 2) - (params["b"] - 7) ** 2 - (params["c"] - 2) ** 2


class Counted:
    """An objective that remembers what it was called with."""

    def __init__(self, function=bowl):
        self.function, self.calls = function, []

    def __call__(self, params, trial):
        self.calls.append(tuple(params.items()))
        return self.function(params, trial)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def quietly(study, *arguments, **options):
    return study.run(*arguments, progress=False, **options)


# -- each candidate once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "nsga2"])
def test_distinct_candidates_are_counted(sampler):
    objective = Counted()
    study = bt.Study(GRID, objective, sampler=sampler, seed=1)
    summary = quietly(study, 150)
    assert len(objective.calls) == len(set(objective.calls)) == len(study.trials) == summary.evaluated == 150
    assert study.best_value == max(each.values[0] for each in study.trials)
    assert bowl(study.best_params, None) == study.best_value
    assert summary.ended == "done"


def test_150_distinct_points_cost_at_most_165_asks():
    for seed in range(3):
        study = bt.Study(GRID, bowl, seed=seed)
        summary = quietly(study, 150)
        assert summary.asks <= 165
        assert summary.duplicates > 20  # which plain asking would have evaluated again
        assert study.best_value >= -2


def test_duplicates_are_answered_and_logged(caplog):
    caplog.set_level(logging.INFO, "backtest")
    study = bt.Study({"a": range(4), "b": range(4)}, lambda params, trial: 1.413701)
    quietly(study, 12)
    lines = [each.getMessage() for each in caplog.records if "duplicate" in each.getMessage()]
    assert lines[0].startswith("Trial ")
    assert lines[0].endswith("Using cached value 1.413701 for duplicate parameters")


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_four_combinations_are_all_visited_and_no_more(sampler):
    objective = Counted(lambda params, trial: params["a"] + params["b"])
    study = bt.Study({"a": [1, 2], "b": [1, 2]}, objective, sampler=sampler)
    said = "Parameter space has only 4 unique combinations but 100 trials were requested. Capping to 4."
    with pytest.warns(bt.FallbackWarning, match=f"^{re.escape(said)}$"):
        summary = quietly(study, 100)
    assert len(objective.calls) == len(set(objective.calls)) == summary.evaluated == 4
    assert (study.best_params, study.best_value) == ({"a": 2, "b": 2}, 4.0)


def test_the_unseen_rest_is_enumerated():
    study = bt.Study({"a": range(30)}, lambda params, trial: params["a"])
    quietly(study, 28)
    assert quietly(study).evaluated == 2
    assert study.summary.asks == 0
    assert quietly(study).evaluated == 0
    assert study.summary.ended == "done"


def test_a_where_is_respected_by_engines():
    for sampler in ("tpe", "nsga2", "random"):
        objective = Counted(lambda params, trial: -params["a"])
        study = bt.Study(bt.Space({"a": range(20), "b": range(20)}, where="a > b + 8"), objective, sampler=sampler)
        quietly(study, 40)
        assert all(dict(call)["a"] > dict(call)["b"] + 8 for call in objective.calls)
        assert len(set(objective.calls)) == 40


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc"])
def test_any_space(sampler, url):
    objective = Counted(lambda params, trial: params["x"] + params.get("n", 0))
    study = bt.Study(MIXED, objective, sampler=sampler, store=url, version="1")
    quietly(study, 60)
    assert len(study.trials) == 60
    for call in map(dict, objective.calls):
        assert ("n" in call) == (call["kind"] is not None)
        assert call["x"] < 0.9
        assert call["fixed"] == 5
    again = bt.Study(MIXED, Counted(), sampler=sampler, store=url, version="1")
    assert [(each.params, each.values, each.row, each.digest) for each in again.trials] == [
        (each.params, each.values, each.row, each.digest) for each in study.trials
    ]
    assert [type(each.params["flag"]) for each in again.trials] == [type(each.params["flag"]) for each in study.trials]


def test_ties_go_to_the_first_in_enumeration_order():
    for seed in range(5):
        study = bt.Study({"a": range(5), "b": range(5)}, lambda params, trial: min(params["b"], 2), sampler="random", seed=seed)
        quietly(study)
        assert study.best_params == {"a": 0, "b": 2}


def test_seeds_are_of_the_candidate():
    seeds = {}

    def objective(params, trial):
        seeds.setdefault(params["a"], set()).add(trial.seed)
        return np.random.default_rng(trial.seed).normal()

    values = []
    for sampler in ("random", "tpe"):
        study = bt.Study({"a": range(20)}, objective, sampler=sampler, seed=5)
        quietly(study)
        values.append(study.best_value)
    assert values[0] == values[1]
    assert all(len(each) == 1 for each in seeds.values())
    assert len(set.union(*seeds.values())) == 20
    quietly(bt.Study({"a": range(20)}, objective, sampler="random", seed=6))
    assert all(len(each) == 2 for each in seeds.values())


def test_minimising_and_several_directions():
    assert quietly_best({"a": range(-5, 5)}, lambda params, trial: params["a"] ** 2, direction="minimize") == ({"a": 0}, 0.0)
    study = bt.Study(
        {"a": range(10), "b": range(10)},
        lambda params, trial: (params["a"], params["a"] + params["b"]),
        direction=["maximize", "minimize"],
        sampler="random",
    )
    quietly(study)
    assert sorted(tuple(each.params.values()) for each in study.best_trials) == [(a, 0) for a in range(10)]
    with pytest.raises(bt.InputError, match="several directions"):
        _ = study.best_value
    assert list(study.trials_dataframe().columns[:4]) == ["a", "b", "value_0", "value_1"]


def quietly_best(space, objective, **options):
    study = bt.Study(space, objective, sampler="random", **options)
    quietly(study)
    return study.best_params, study.best_value


def test_infinities_rank_and_are_kept():
    study = bt.Study({"a": [1, 2, 3]}, lambda params, trial: [-np.inf, 5.0, np.inf][params["a"] - 1], sampler="tpe")
    quietly(study)
    assert study.best_params == {"a": 3}


# -- the store ---------------------------------------------------------------------------------------------------------


def test_a_second_run_evaluates_nothing_and_says_so(url, caplog):
    caplog.set_level(logging.INFO, "backtest")
    for sampler in ("tpe", "random"):
        first, second = Counted(), Counted()
        study = bt.Study(GRID, first, name=sampler, sampler=sampler, store=url, version="1", seed=3)
        quietly(study, 60)
        again = bt.Study(GRID, second, name=sampler, sampler=sampler, store=url, version="1", seed=3)
        summary = quietly(again, 60)
        assert (len(first.calls), second.calls, summary.evaluated, summary.known) == (60, [], 0, 60)
        assert (again.best_params, again.best_value) == (study.best_params, study.best_value)
        assert "done: 0 candidates evaluated, 60 known before" in caplog.text
        assert quietly(again, 80).evaluated == len(second.calls) == 20
        assert not set(first.calls) & set(second.calls)


def test_results_are_reused_by_other_searches_and_wider_spaces(url):
    first = Counted(lambda params, trial: params["a"])
    quietly(bt.Study({"a": range(10), "b": 1}, first, sampler="random", store=url, version="1"))
    wider = Counted(lambda params, trial: params["a"])
    study = bt.Study({"b": [0, 1], "a": range(5, 15)}, wider, sampler="tpe", store=url, version="1")
    assert len(study.trials) == 5
    quietly(study)
    assert len(wider.calls) == 15
    floats = Counted(lambda params, trial: params["a"])
    quietly(bt.Study({"a": {"low": 0.0, "high": 9.0, "step": 1.0}, "b": 1}, floats, sampler="random", store=url, version="1"))
    assert len(floats.calls) == 10  # floats are not whole numbers


@pytest.mark.parametrize("other", [{"version": "2"}, {"data": "2020"}, {"name": "b"}, {"direction": "minimize"}])
def test_another_context_is_another_memory(url, other):
    given = {"name": "a", "version": "1", "data": "2019", "direction": "maximize", "store": url, "sampler": "random"}
    quietly(bt.Study({"a": range(5)}, Counted(lambda params, trial: params["a"]), **given))
    objective = Counted(lambda params, trial: params["a"])
    quietly(bt.Study({"a": range(5)}, objective, **given | other))
    assert len(objective.calls) == 5


def test_bars_are_data(url):
    given = {"version": "1", "store": url, "sampler": "random"}
    quietly(bt.Study({"a": range(5)}, bowl_of_a, data=bt.Bars.sample("GOOG"), **given))
    assert len(bt.Study({"a": range(5)}, bowl_of_a, data=bt.Bars.sample("GOOG"), **given).trials) == 5
    assert bt.Study({"a": range(5)}, bowl_of_a, data=bt.Bars.sample("AAPL"), **given).trials == []


def charged(params, trial, bars, costs, fee):
    return params["a"] - fee


def test_what_is_bound_to_an_objective_is_part_of_the_context(url):
    goog = bt.Bars.sample("GOOG")

    def known(fee=0.1, bars=goog, costs=bt.Costs(fee_rate=0.1)):  # noqa: B008 - a constant
        objective = functools.partial(charged, bars=bars, costs=costs, fee=fee)
        study = bt.Study({"a": range(5)}, objective, sampler="random", store=url, version="1", data={"x": [goog, "2020"]})
        before = len(study.trials)
        quietly(study)
        return before

    assert [known(), known(), known(fee=0.2), known(fee=0.2)] == [0, 5, 0, 5]
    assert [known(bars=bt.Bars.sample("IBM")), known(costs=bt.Costs(fee_rate=0.2))] == [0, 0]
    with pytest.raises(bt.InputError, match="a value bound to the objective must be text, a number, Bars"):
        known(fee=np.zeros(3))


def bowl_of_a(params, trial):
    return -params["a"]


def test_resume_may_be_refused_or_required(url):
    given = {"name": "t", "store": url, "sampler": "random"}
    with pytest.raises(bt.StoreError, match="study 't' must be in the store with resume='require', got none"):
        bt.Study({"a": range(5)}, bowl_of_a, version="1", resume="require", **given)
    quietly(bt.Study({"a": range(5)}, bowl_of_a, version="1", resume="never", **given))
    with pytest.raises(bt.StoreError, match="study 't' must be new with resume='never', got 5 results"):
        bt.Study({"a": range(5)}, bowl_of_a, version="1", resume="never", **given)
    assert len(bt.Study({"a": range(5)}, bowl_of_a, version="1", resume="require", **given).trials) == 5
    with pytest.raises(bt.FingerprintMismatch, match="version '1' there, '2' here"):
        bt.Study({"a": range(5)}, bowl_of_a, version="2", resume="require", **given)


def test_everything_of_a_trial_is_kept(url):
    def objective(params, trial):
        trial.report(0, 1.5)
        trial.report(3, -np.inf)
        trial.set_attr("why", {"deep": [1, "x"]})
        if params["a"] == 1:
            raise bt.TrialPruned
        if params["a"] == 2:
            raise ValueError("no")
        return 0.1 + 0.2

    quietly(bt.Study({"a": range(3)}, objective, sampler="random", store=url, version="1"), catch=ValueError)
    store = Store(url)
    rows = {json.loads(row.params)["a"]: row for row in store.read(1)[0]}
    assert [rows[a].status for a in range(3)] == [Status.DONE, Status.PRUNED, Status.FAILED]
    again = bt.Study({"a": range(3)}, objective, sampler="random", store=url, version="1")
    by_a = {each.params["a"]: each for each in again.trials}
    assert sorted(by_a) == [0, 1]  # the failure may be tried again
    assert by_a[0].values == (0.1 + 0.2,)
    assert by_a[0].reports == ((0, 1.5), (3, -np.inf))
    assert by_a[1].attrs == {"why": {"deep": [1, "x"]}}
    assert json.loads(rows[2].extra)["error"] == "ValueError: no"


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_failures_are_not_repeated_forever(url, sampler):
    calls = []

    def objective(params, trial):
        calls.append(params["a"])
        raise ValueError("always")

    for _ in range(ATTEMPTS + 3):
        study = bt.Study({"a": range(4)}, objective, sampler=sampler, store=url, version="1")
        quietly(study, catch=ValueError)
        assert len(study.trials) == 4
    assert sorted(calls) == sorted(list(range(4)) * ATTEMPTS)


# -- failures ----------------------------------------------------------------------------------------------------------

BAD = [
    (None, "got None"),
    (float("nan"), "got NaN .* raise an error where it is undefined"),
    ("1.5", "got '1.5'"),
    ([1.0, 2.0], "must return a number, got"),
    (True, "got True"),
    (1j, "got 1j"),
    ({}, "got {}"),
]


@pytest.mark.parametrize(("result", "message"), BAD, ids=lambda each: repr(each)[:12])
def test_what_is_no_number_ends_the_run_or_is_a_failure(result, message):
    study = bt.Study({"a": range(3)}, lambda params, trial: result, sampler="random")
    with pytest.raises(bt.ObjectiveError, match=message) as raised:
        quietly(study)
    assert set(raised.value.params) == {"a"}
    assert "Traceback" not in str(raised.value)
    assert study.summary.ended == "ended by an error"
    assert len(study.trials) == 1
    study = bt.Study({"a": range(3)}, lambda params, trial: result, sampler="tpe")
    summary = quietly(study, catch=bt.ObjectiveError)
    assert (summary.failures, [each.status for each in study.trials]) == (3, [Status.FAILED] * 3)
    with pytest.raises(bt.InputError, match="a trial must have been finished"):
        _ = study.best_params


def test_several_directions_want_several_numbers():
    for result in (1.0, (1.0,), (1.0, None), (1.0, 2.0, 3.0)):
        with pytest.raises(bt.ObjectiveError, match="must return 2 numbers, one for each direction"):
            quietly(bt.Study({"a": [1, 2]}, lambda params, trial, result=result: result, direction=["minimize"] * 2))


def test_numbers_of_any_kind():
    for result in (1, np.float32(1), np.int8(1), np.array(1.0), [1.0], np.array([1.0])):
        study = bt.Study({"a": [1, 2]}, lambda params, trial, result=result: result, sampler="random")
        quietly(study)
        assert study.best_value == 1.0


def test_leaving_the_program_is_a_failure():
    study = bt.Study({"a": range(3)}, lambda params, trial: sys.exit(3), sampler="random")
    with pytest.raises(bt.ObjectiveError, match="SystemExit: 3"):
        quietly(study)


@pytest.mark.parametrize("space", [{"a": range(300)}, {"a": {"low": 0.0, "high": 300.0}}], ids=["finite", "continuous"])
def test_a_slow_one_among_cheap_ones_keeps_no_others_waiting(url, space):
    waited = []

    def objective(params, trial):
        if 60 <= trial.number < 64:
            time.sleep(0.4)
        waited.append((trial.number, time.time()))
        return params["a"]

    study = bt.Study(space, objective, sampler="random", store=url, version="1")
    quietly(study, 250)
    begun = dict(waited)
    assert len(study.trials) == len(waited) == 250
    slow = [each for each in study.trials if 60 <= each.number < 64]
    assert slow
    assert all(each.finished - begun[each.number] < 0.8 for each in slow)


def test_an_error_ends_the_run_after_everything_is_stored(url):
    def objective(params, trial):
        if params["a"] == 7:
            raise KeyError("x")
        return params["a"]

    study = bt.Study({"a": range(10)}, objective, sampler="random", store=url, version="1")
    with pytest.raises(bt.ObjectiveError, match=r"objective failed at {'a': 7}: KeyError: 'x'") as raised:
        quietly(study)
    assert raised.value.params == {"a": 7}
    store = Store(url)
    assert store.counts(1).get(Status.FAILED) == 1
    assert sum(store.counts(1).values()) == len(study.trials)
    assert store.owners() == []


def test_retries(monkeypatch):
    monkeypatch.setattr("backtest.study.trial.BACKOFF", 0.001)
    calls = []

    def objective(params, trial):
        calls.append(params["a"])
        if calls.count(params["a"]) < 3:
            raise OSError("for now")
        return 1.0

    study = bt.Study({"a": range(3)}, objective, sampler="random")
    assert quietly(study, retries=2).failures == 0
    assert len(calls) == 9
    study = bt.Study({"a": range(3, 6)}, objective, sampler="random")
    assert quietly(study, retries=1, catch=OSError).failures == 3


def test_objectives_cannot_change_what_is_remembered():
    def objective(params, trial):
        params["a"] = 99
        return 1.0

    study = bt.Study({"a": range(3)}, objective, sampler="random")
    quietly(study)
    assert sorted(each.params["a"] for each in study.trials) == [0, 1, 2]


# -- the end of a run --------------------------------------------------------------------------------------------------


def test_timeout_stop_and_callbacks():
    study = bt.Study({"x": {"low": 0.0, "high": 1.0}}, lambda params, trial: time.sleep(0.005) or params["x"], sampler="random")
    begun = time.monotonic()
    summary = quietly(study, timeout=0.2)
    assert 0.15 < time.monotonic() - begun < 5
    assert summary.ended == "timed out"
    seen = []

    def callback(study, finished):
        seen.append(finished)
        if len(seen) == 3:
            study.stop()

    study = bt.Study(GRID, bowl)
    assert quietly(study, 200, callbacks=[callback]).ended == "stopped"
    assert seen == study.trials
    assert len(seen) == 3


def test_callbacks_see_what_is_stored(url):
    reader = []

    def callback(study, finished):
        reader.append(finished.digest in {row.digest for row in Store(url).read(1)[0]})

    quietly(bt.Study({"a": range(5)}, bowl_of_a, sampler="random", store=url, version="1"), callbacks=[callback])
    assert reader == [True] * 5


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_an_interruption_leaves_everything_stored(url, sampler):
    def objective(params, trial):
        if len(done) == 7:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
            pytest.fail("not interrupted")
        done.append(params)
        return 1.0

    done = []
    study = bt.Study({"a": range(100)}, objective, sampler=sampler, store=url, version="1")
    before = signal.getsignal(signal.SIGINT)
    summary = quietly(study, 50)
    assert signal.getsignal(signal.SIGINT) is before
    assert (study.is_interrupted, summary.ended, summary.evaluated) == (True, "interrupted", 7)
    store = Store(url)
    assert store.counts(1) == {Status.DONE: 7}
    assert store.owners() == []
    done.append(None)
    assert quietly(study, 50).evaluated == 43
    assert not study.is_interrupted


def test_termination_leaves_everything_stored_and_ends_the_program(url):
    def objective(params, trial):
        if params["a"] == first and len(calls) > 3:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        calls.append(params["a"])
        return 1.0

    calls, first = [], 5
    study = bt.Study({"a": range(200)}, objective, sampler="random", store=url, version="1", seed=4)
    with pytest.raises(SystemExit) as raised:
        quietly(study)
    assert raised.value.code == 143
    assert sum(Store(url).counts(1).values()) == len(calls) > 3


def test_one_run_at_a_time():
    entered, go = threading.Event(), threading.Event()

    def objective(params, trial):
        entered.set()
        go.wait(10)
        return 1.0

    study = bt.Study({"a": [1, 2]}, objective, sampler="random")
    thread = threading.Thread(target=quietly, args=(study,))
    thread.start()
    entered.wait(10)
    with pytest.raises(bt.InputError, match="a study must run once at a time"):
        quietly(study)
    go.set()
    thread.join(10)
    assert len(study.trials) == 2


def test_threads_evaluate_each_candidate_once(url):
    objective = Counted(lambda params, trial: time.sleep(0.001) or params["a"])
    for sampler in ("random", "tpe"):
        study = bt.Study({"a": range(60)}, objective, sampler=sampler, store=url, name=sampler, version="1")
        with ThreadPoolExecutor(4) as pool:
            quietly(study, executor=pool)
        assert len(study.trials) == 60
    assert len(objective.calls) == 120


# -- two drivers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_two_drivers_share_a_store(url, sampler):
    objective = Counted(lambda params, trial: time.sleep(0.002) or params["a"])
    studies = [bt.Study({"a": range(80)}, objective, sampler=sampler, store=url, version="1") for _ in range(2)]
    threads = [threading.Thread(target=quietly, args=(study,)) for study in studies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(objective.calls) == len(set(objective.calls)) == 80
    assert [len(study.trials) for study in studies] == [80, 80]
    assert sum(study.summary.evaluated for study in studies) == 80


def test_a_result_after_its_lease_is_discarded(url, monkeypatch, caplog):
    monkeypatch.setattr("backtest.study.sharing.LEASE", 0.05)
    monkeypatch.setattr(SharedStore, "renewing", lambda self: warnings.catch_warnings())  # as if this process stood still
    store = Store(url)

    def objective(params, trial):
        if params["a"] == 2 and not taken:
            time.sleep(0.2)
            keys = [bt.Space({"a": range(4)}).digests(np.array([[2.0]]))[0]]
            taken.extend(store.reserve(1, keys, f"elsewhere 0 {time.time()}", 60.0, 1).granted)
            store.finish(1, [store_row(keys[0])], store.owners()[0])
        return params["a"]

    def store_row(key):
        from backtest.study.store import Row

        return Row(key, value=42.0, params='{"a": 2}')

    taken = []
    study = bt.Study({"a": range(4)}, objective, sampler="random", store=url, version="1")
    summary = quietly(study)
    assert summary.discarded == 1
    assert "came after its lease was taken over" in caplog.text
    assert {row.params: row.value for row in store.read(1)[0]}['{"a": 2}'] == 42.0
    assert study.best_value == 42.0  # what the other one found


# -- pruning -----------------------------------------------------------------------------------------------------------


def windows(params, trial):
    values = []
    for step in range(8):
        values.append(params["a"] + 0.1 * step)
        trial.report(step, values[-1])
        if trial.should_prune():
            raise bt.TrialPruned
    return float(np.mean(values))


@pytest.mark.parametrize("sampler", ["random", "tpe"])
@pytest.mark.parametrize("pruner", ["median", "wilcoxon", optuna.pruners.MedianPruner(n_startup_trials=3)], ids=str)
def test_pruning(sampler, pruner):
    study = bt.Study({"a": range(40)}, windows, sampler=sampler, pruner=pruner, seed=2)
    quietly(study)
    statuses = [each.status for each in study.trials]
    assert statuses.count(Status.PRUNED) > 5
    assert study.best_params == {"a": 39}
    assert all(each.values is None and each.reports for each in study.trials if each.status == Status.PRUNED)


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_tried_again_reports_again(monkeypatch, workers, tmp_path):
    monkeypatch.setattr("backtest.study.trial.BACKOFF", 0.001)

    def objective(params, trial):
        for step in range(4):
            trial.report(step, params["a"] + step)
            trial.report(step, params["a"] + step)
            if trial.should_prune():
                raise bt.TrialPruned
        log = tmp_path / str(params["a"])
        if not log.exists():
            log.touch()
            if workers and params["a"] % 2:
                os._exit(1)
            raise OSError("for now")
        return params["a"]

    study = bt.Study({"a": range(8)}, objective, sampler="random", pruner="median")
    with bt.Workers(1) if workers else contextlib.nullcontext() as executor:
        quietly(study, retries=1, executor=executor)
    assert len(study.trials) == 8
    assert study.best_params == {"a": 7}
    assert Status.FAILED not in {each.status for each in study.trials}


def test_optunas_own_exception_prunes_too():
    def objective(params, trial):
        raise optuna.TrialPruned

    study = bt.Study({"a": range(3)}, objective, sampler="random")
    quietly(study)
    assert [each.status for each in study.trials] == [Status.PRUNED] * 3


# -- Optuna ------------------------------------------------------------------------------------------------------------


def test_any_sampler_object():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        samplers = [
            optuna.samplers.TPESampler(multivariate=False, seed=1),
            optuna.samplers.RandomSampler(seed=1),
            optuna.samplers.NSGAIIISampler(seed=1),
        ]
    for sampler in samplers:
        study = bt.Study(GRID, bowl, sampler=sampler)
        quietly(study, 30)
        assert len({each.digest for each in study.trials}) == 30


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: optuna.samplers.BruteForceSampler(seed=1),
        lambda: optuna.samplers.GridSampler({"a": range(5), "b": range(4)}, seed=1),
    ],
)
@pytest.mark.parametrize("where", [None, "a > b"])
def test_samplers_that_end_by_themselves(make, where):
    sampler = make()
    space = bt.Space({"a": range(5), "b": range(4)}, where=where)
    study = bt.Study(space, lambda params, trial: params["a"] + params["b"], sampler=sampler)
    quietly(study)
    assert len({each.digest for each in study.trials}) == len(space)


@pytest.mark.parametrize("again", [0, 1])
def test_export_to_optuna(tmp_path, again):
    study = bt.Study(MIXED, lambda params, trial: trial.report(1, 2.0) or params["x"], sampler="random")
    quietly(study, 12)
    storage = f"sqlite:///{tmp_path / 'dashboard.db'}"
    assert study.export_to_optuna(storage) == 12
    if again:
        quietly(study, 15)
        assert study.export_to_optuna(storage) == 3
    there = optuna.load_study(study_name="study", storage=storage)
    assert len(there.trials) == len(study.trials)
    assert there.best_value == study.best_value
    assert there.trials[0].intermediate_values == {1: 2.0}
    assert set(there.best_params) == set(study.best_params)


def test_what_is_exported_took_place_when_it_did():
    study = bt.Study({"a": range(3)}, lambda params, trial: time.sleep(0.05) or params["a"], sampler="random")
    quietly(study)
    storage = optuna.storages.InMemoryStorage()
    time.sleep(0.1)
    study.export_to_optuna(storage)
    there = optuna.load_study(study_name="study", storage=storage).trials
    for mine, copy in zip(study.trials, there, strict=True):
        assert copy.datetime_complete.timestamp() == pytest.approx(mine.finished, abs=1e-3)
        assert copy.duration.total_seconds() == pytest.approx(mine.seconds, abs=1e-3)


@pytest.mark.parametrize("storage", [5, "nonsense://x", "results.db", "sqlite:////no/such/folder/x.db"])
def test_storages_that_cannot_be(storage):
    study = bt.Study({"a": range(3)}, bowl_of_a)
    for use in (lambda: study.export_to_optuna(storage), lambda: quietly(study, mirror=storage)):
        with pytest.raises(bt.InputError, match=r"storage must be .*, got "):
            use()
    assert not study.trials


@pytest.mark.parametrize("callbacks", [[5], print, [print, None]])
def test_callbacks_that_cannot_be(callbacks):
    study = bt.Study({"a": range(3)}, bowl_of_a)
    with pytest.raises(bt.InputError, match="callbacks must be a list of functions"):
        quietly(study, callbacks=callbacks)
    assert not study.trials


def test_a_mirror_follows_the_run(monkeypatch):
    monkeypatch.setattr("backtest.study.export.MIRROR_SECONDS", 0.0)
    storage = optuna.storages.InMemoryStorage()
    seen = []

    def callback(study, finished):
        names = [each.study_name for each in storage.get_all_studies()]
        seen.append(len(storage.get_all_trials(storage.get_study_id_from_name("t"))) if "t" in names else -1)

    study = bt.Study({"a": range(10)}, bowl_of_a, name="t", sampler="tpe")
    quietly(study, 8, mirror=storage, callbacks=[callback])
    assert seen == list(range(8))
    assert len(storage.get_all_trials(storage.get_study_id_from_name("t"))) == 8


def test_trials_dataframe():
    study = bt.Study(
        {"g": {"a": range(3)}, "b": [None, "x"]}, lambda params, trial: trial.set_attr("n", 1) or params["g.a"], sampler="random"
    )
    quietly(study)
    table = study.trials_dataframe()
    assert table.index.tolist() == list(range(6))
    assert list(table.columns) == ["g.a", "b", "value", "status", "error", "seconds", "finished", "attrs.n"]
    assert (table["value"] == table["g.a"]).all()


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": 5}, "objective must be callable"),
        ({"name": ""}, "name must be text"),
        ({"direction": "up"}, "direction must be one of 'maximize', 'minimize', got 'up'"),
        ({"direction": []}, "at least one"),
        ({"resume": "yes"}, "resume must be one of"),
        ({"resume": "require"}, "must go with a store"),
        ({"sampler": "tep"}, "sampler must be one of .*; did you mean 'tpe'"),
        ({"sampler": 5}, "or an Optuna sampler, got 5"),
        ({"pruner": "best"}, "pruner must be one of"),
        ({"pruner": 5}, "or an Optuna pruner, got 5"),
        ({"seed": -1}, "seed must be a whole number >= 0"),
        ({"store": "sqlite:///x.db"}, "version must be given with a store"),
        ({"store": "x.db", "version": "1"}, "store must be a URL"),
        ({"store": "sqlite:///unused.db", "version": "1", "data": object()}, "data must be text, a number, Bars"),
    ],
)
def test_bad_studies_are_refused(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((bt.InputError, bt.StoreError), match=message):
        bt.Study(**{"space": {"a": [1, 2]}, "objective": bowl_of_a} | given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_trials": 0}, "n_trials must be a whole number >= 1"),
        ({"timeout": 0}, "timeout must be > 0"),
        ({"trial_timeout": 1.0}, "trial_timeout must go with executor=bt.Workers"),
        ({"trial_timeout": -1}, "trial_timeout must be > 0"),
        ({"catch": "ValueError"}, "catch must be an exception class"),
        ({"catch": KeyboardInterrupt}, "catch must be an exception class"),
        ({"retries": -1}, "retries must be"),
        ({"executor": 2}, "executor must have submit, as bt.Workers"),
    ],
)
def test_bad_runs_are_refused(given, message):
    with pytest.raises(bt.InputError, match=message):
        quietly(bt.Study({"a": [1, 2]}, bowl_of_a, sampler="random"), **given)


def test_endless_spaces_want_an_end():
    with pytest.raises(bt.InputError, match="n_trials or timeout must be given"):
        quietly(bt.Study({"x": {"low": 0.0, "high": 1.0}}, bowl_of_a, sampler="random"))


def test_bad_reports_and_attributes_are_refused():
    for tell in (
        lambda trial: trial.report(0.5, 1.0),
        lambda trial: trial.report(0, "x"),
        lambda trial: trial.set_attr(5, 1),
        lambda trial: trial.set_attr("x", object()),
    ):
        with pytest.raises(bt.ObjectiveError, match="InputError"):
            quietly(bt.Study({"a": [1, 2]}, lambda params, trial, tell=tell: tell(trial), sampler="random"))


def test_samplers_that_need_a_package_say_so(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(bt.BackendUnavailable, match="sampler 'cmaes' needs the package cmaes, which is missing"):
        bt.Study(GRID, bowl, sampler="cmaes")

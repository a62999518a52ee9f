"""Searches end: where hardly anything is a candidate, at the deadline, at a signal, or when too much was looked at in vain."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import backtest as bt
from backtest import enumeration, search
from backtest.enumeration import VisitOrder
from backtest.search.optuna_search import optuna_search
from backtest.space import Space
from backtest.study import sharing

#: Nothing that intervals could see: a sum and a difference are even together.
EVEN = "(x + y) % 2 == 0"
NEVER = f"{EVEN} and (x - y) % 2 == 1"
LIMIT = 50_000


def never():
    space = Space({"x": range(10_000), "y": range(10_000)}, where=NEVER)
    assert not space.is_exact
    assert space.size == 10**8
    return space


def zero(batch):
    return np.zeros(len(batch))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setitem(search.grid.__globals__, "MAX_EMPTY", LIMIT)


def test_ten_million_positions_are_the_limit():
    assert search.grid.__globals__["MAX_EMPTY"] == 10_000_000


SEARCHES = [
    lambda space, **given: search.grid(zero, space, **given),
    lambda space, **given: search.grid(zero, space, n_trials=5, batch_size=256, seconds=0.01, **given),
    lambda space, **given: optuna_search(zero, space, sampler="random", **given),
    lambda space, **given: optuna_search(zero, space, n_trials=5, **given),
]


@pytest.mark.parametrize("find", SEARCHES)
@pytest.mark.usefixtures("impatient")
def test_a_search_that_finds_nothing_says_how_much_it_looked_at(find):
    with pytest.raises(bt.SpaceError, match=r"where must leave .* none: [56]\d,\d{3} positions in a row held no candidate of"):
        find(never())


@pytest.mark.parametrize("find", SEARCHES)
def test_a_search_that_finds_nothing_ends_at_its_timeout(find):
    begun = time.monotonic()
    with pytest.raises(bt.InputError, match=r"timeout must leave time .*, got 0\.3: [\d,]+ positions in a row held no candidate"):
        find(never(), timeout=0.3)
    assert time.monotonic() - begun < 5


@pytest.mark.usefixtures("impatient")
def test_a_grid_that_finds_no_more_returns_what_it_found(monkeypatch):
    monkeypatch.setattr(enumeration, "MAX_COUNTED", 1000)
    space = Space({"x": range(400), "y": range(400)}, where=f"{EVEN} and ((x - y) % 2 == 1 or x * 5 + y * 3 < 8)")
    assert not space.is_exact
    seed = next(seed for seed in range(100) if VisitOrder(10, seed)(0, 1)[0] == 0)  # the first block has them
    with pytest.warns(
        bt.FallbackWarning,
        match=r"the search ends with the 2 candidates it found: [\d,]+ positions in a row held "
        r"no candidate of where='.*'; give a timeout to look on",
    ):
        found = search.grid(zero, space, keep=5, seed=seed)
    assert (found.nfev, found.success) == (2, True)
    assert found.batch.tolist() == [[0, 0], [0, 2]]
    assert "positions in a row held no candidate" in found.message


# -- studies -----------------------------------------------------------------------------------------------------------


def study_of(space, **given):
    return bt.Study(space, lambda params, trial: params["x"], **given)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_study_that_finds_no_more_ends_with_a_warning(sampler):
    study = study_of(never(), sampler=sampler)
    with pytest.warns(bt.FallbackWarning, match=r"ends with the 0 candidates it found: [56]\d,\d{3} positions in a row"):
        summary = study.run(20, progress=False)
    assert (summary.evaluated, summary.ended) == (0, "no more candidates")


@pytest.mark.parametrize("executor", [None, "threads"])
def test_a_study_ends_at_its_timeout(executor):
    from concurrent.futures import ThreadPoolExecutor

    begun = time.monotonic()
    summary = study_of(never(), sampler="random").run(
        timeout=0.3, progress=False, executor=None if executor is None else ThreadPoolExecutor(1)
    )
    assert time.monotonic() - begun < 5
    assert (summary.evaluated, summary.ended) == (0, "timed out")


def test_a_study_that_is_told_to_stop_stops_looking():
    study = study_of(never(), sampler="random")
    threading.Timer(0.2, study.stop).start()
    assert study.run(timeout=60, progress=False).ended == "stopped"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143)])
def test_a_study_that_looks_for_candidates_hears_signals(number, code):
    script = f"""
import backtest as bt
space = bt.Space({{"x": range(10_000), "y": range(10_000)}}, where={NEVER!r})
study = bt.Study(space, lambda params, trial: 0.0, sampler="random")
print("looking", flush=True)
print(study.run(timeout=60, progress=False).ended, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "looking\n"
        time.sleep(0.5)
        begun = time.monotonic()
        os.kill(process.pid, number)
        said = process.communicate(timeout=30)[0]
        assert time.monotonic() - begun < 10
    assert process.returncode == code
    assert said == ("interrupted\n" if code == 0 else "")


def test_results_are_stored_while_the_next_candidate_is_looked_for(monkeypatch, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(sharing, "POLL_SECONDS", 0.02)
    space = Space({"x": range(10_000), "y": range(10_000)}, where=f"{EVEN} and ((x - y) % 2 == 1 or x + y * 10_000 < 40_000)")
    finished = []
    with ThreadPoolExecutor(2) as pool:
        study_of(space, sampler="random").run(
            timeout=1.5, progress=False, executor=pool, callbacks=[lambda study, each: finished.append(time.monotonic())]
        )
    assert len(finished) > 3
    assert finished[-1] - finished[0] > 0.1


def test_known_candidates_are_no_reason_to_give_up(monkeypatch):
    space = Space({"x": range(2000), "y": range(3000)}, where="(x + y) % 2 == 0")
    study = study_of(space, sampler="random")
    study.run(500, progress=False)
    monkeypatch.setitem(search.grid.__globals__, "MAX_EMPTY", 100)
    study._proposer = None  # as after a resume: what is known comes first
    assert study.run(510, progress=False).evaluated == 10


# -- scores ------------------------------------------------------------------------------------------------------------


def masked(batch, mask=True):
    return np.ma.masked_array(np.zeros(len(batch)), mask=mask & (np.arange(len(batch)) == 2))


UNIT = Space({"x": {"low": 0.0, "high": 1.0}, "y": {"low": 0.0, "high": 1.0}})
TAKERS = [
    lambda evaluate: search.direct(evaluate, [(0, 1), (0, 1)], maxfun=50),
    lambda evaluate: search.evolution(evaluate, [(0, 1), (0, 1)], maxfun=60),
    lambda evaluate: search.grid(evaluate, Space({"x": range(10)})),
    lambda evaluate: search.cube(evaluate, UNIT, n_trials=50),
    lambda evaluate: search.cube(evaluate, UNIT, "evolution", n_trials=50),
    lambda evaluate: optuna_search(evaluate, UNIT, sampler="random", n_trials=50),
]


@pytest.mark.parametrize("take", TAKERS)
def test_masked_scores_are_refused(take):
    with pytest.raises(
        bt.ObjectiveError,
        match=r"evaluate must return a score for each candidate, got a masked array with 1 of "
        r"\d+ masked; scores\.filled",
    ):
        take(masked)
    assert take(lambda batch: masked(batch, False)).fun == 0


@pytest.mark.parametrize("take", TAKERS)
@pytest.mark.parametrize("scores", [["a"] * 10, [[1], [1, 2]], object(), None, [10**400] * 10, [1j] * 10])
def test_scores_that_are_no_numbers_are_refused(take, scores):
    with pytest.raises(bt.ObjectiveError, match="evaluate must"):
        take(lambda batch: scores)

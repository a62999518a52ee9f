"""Killed drivers and workers: no acknowledged result is lost, no candidate is evaluated again that was stored."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time

import optuna
import pytest
from conftest import ROOT, slow

import backtest as bt
from backtest.study.store import Status, Store

#: Kills of each driver; more by hand.
ROUNDS = int(os.environ.get("FAULT_ROUNDS", "5"))
POINTS = 150

DRIVER = """
import os, sys, time
import backtest as bt

url, log, sampler, width = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def objective(params, trial):
    with open(log, "ab", buffering=0) as file:
        file.write(b"%d\\n" % params["a"])
    time.sleep(0.004)
    return -(params["a"] - 40) ** 2

study = bt.Study({"a": range(POINTS)}, objective, name="faults", version="1", sampler=sampler, store=url)
study.objective.__qualname__ = "objective"
print("ready", flush=True)
said = lambda study, finished: print(finished.params["a"], flush=True)
study.run(executor=bt.Workers(width) if width else None, progress=False, callbacks=[said])
print("end", study.best_value, study.summary.evaluated, flush=True)
""".replace("POINTS", str(POINTS))


def driver(*arguments):
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", DRIVER, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def evaluations(log):
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def stored(url):
    store = Store(url)
    rows = store.read(1)[0] if store.contexts() else []
    store.close()
    return rows


@pytest.mark.parametrize(("sampler", "width"), [("random", 0), slow("tpe", 0), slow("random", 2)])
def test_killed_drivers_lose_nothing(tmp_path, sampler, width):
    url, log, chance = f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "log", random.Random(1)
    flying = 0
    for _ in range(ROUNDS):
        known, before = len(stored(url)) if (tmp_path / "x.db").exists() else 0, len(evaluations(log))
        process = driver(url, log, sampler, width)
        process.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.15))
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in process.communicate()[0].split() if line.isdigit()]
        time.sleep(0.05)  # workers end when their pipe does
        rows = stored(url)
        values = {row.value for row in rows}
        assert {float(-((a - 40) ** 2)) for a in said} <= values  # what was acknowledged is there
        begun = evaluations(log)[before:]
        assert len(begun) >= len(rows) - known
        flying += len(begun) - (len(rows) - known)  # begun, and not stored when the kill came
    process = driver(url, log, sampler, width)
    out, error = process.communicate(timeout=120)
    assert error == ""
    assert out.splitlines()[-1].split()[:2] == ["end", "0.0"]
    rows = stored(url)
    assert len(rows) == len({row.digest for row in rows}) == POINTS
    assert {row.status for row in rows} == {Status.DONE}
    assert set(evaluations(log)) == set(range(POINTS))
    assert len(evaluations(log)) <= POINTS + flying


def test_two_drivers_evaluate_nothing_twice(tmp_path):
    url, log = f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "log"
    drivers = [driver(url, log, sampler, width) for sampler, width in (("random", 0), ("tpe", 0), ("random", 2))]
    answers = [each.communicate(timeout=120) for each in drivers]
    assert [error for _, error in answers] == ["", "", ""]
    assert sorted(evaluations(log)) == list(range(POINTS))
    assert [out.splitlines()[-1].split()[1] for out, _ in answers] == ["0.0", "0.0", "0.0"]
    assert sum(int(out.splitlines()[-1].split()[2]) for out, _ in answers) == POINTS


MIRRORED = """
import sys, time
import backtest as bt

def objective(params, trial):
    time.sleep(0.03)
    return params["x"]

study = bt.Study({"x": {"low": 0.0, "high": 1.0}}, objective, name="shared", version="1", store=sys.argv[1])
study.run(60, mirror=sys.argv[2], progress=False)
"""


@pytest.mark.slow
def test_drivers_that_start_and_end_together_share_a_mirror_and_a_budget(tmp_path):
    """Nobody fails over Optuna's new tables, no trial is copied twice, and no more is evaluated than was in flight at the end."""
    url, dashboard = f"sqlite:///{tmp_path / 'x.db'}", f"sqlite:///{tmp_path / 'dashboard.db'}"
    command = [sys.executable, "-W", "error", "-c", MIRRORED, url, dashboard]
    drivers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [each.communicate(timeout=120)[1] for each in drivers] == ["", "", ""]
    copied = [each.user_attrs["digest"] for each in optuna.load_study(study_name="shared", storage=dashboard).trials]
    keys = [row.digest.hex() for row in stored(url)]
    assert sorted(copied) == sorted(keys)
    assert 60 <= len(keys) <= 60 + 2
    store = Store(url)
    assert store.owners() == []
    store.close()


STOPPED = """
import sys, time
import backtest as bt
import backtest.study.sharing as sharing

sharing.LEASE = 0.6
url = sys.argv[1]

def objective(params, trial):
    if params["a"] == 3:
        print("here", flush=True)
        time.sleep(float(sys.argv[2]))
    return float(sys.argv[3])

study = bt.Study({"a": range(6)}, objective, name="faults", version="1", sampler="random", store=url)
summary = study.run(progress=False)
print("end", summary.discarded, summary.evaluated, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_a_driver_that_stood_still_past_its_lease_is_not_believed(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"

    def start(seconds, value):
        command = [sys.executable, "-W", "error", "-c", STOPPED, url, seconds, value]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    slow = start("0.3", "-1")
    assert slow.stdout.readline() == "here\n"
    slow.send_signal(signal.SIGSTOP)
    time.sleep(0.8)
    fast = start("0", "2")
    out = fast.communicate(timeout=60)[0]
    slow.send_signal(signal.SIGCONT)
    late = slow.communicate(timeout=60)[0]
    assert out.split()[-2:-1] == ["0"]
    assert int(late.split()[-2]) >= 1  # discarded
    assert int(late.split()[-1]) + int(out.split()[-1]) == 6
    rows = stored(url)
    assert len(rows) == 6
    assert sum(row.value == 2.0 for row in rows) == int(out.split()[-1])
    assert next(row.value for row in rows if row.params == '{"a": 3}') == 2.0


def test_killed_workers_lose_nothing(tmp_path):
    url, log, chance = f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "log", random.Random(2)

    def objective(params, trial):
        with open(log, "ab", buffering=0) as file:
            file.write(b"%d\n" % params["a"])
        time.sleep(0.01)
        return params["a"]

    with bt.Workers(2) as workers:

        def kill(study, finished):
            pids = workers.pids if kills and chance.random() < 0.2 else []  # read once: the last one may be gone next
            if pids:
                with contextlib.suppress(ProcessLookupError):  # it ended by itself
                    os.kill(chance.choice(pids), signal.SIGKILL)
                kills.pop()

        kills = list(range(10))
        study = bt.Study({"a": range(120)}, objective, sampler="random", store=url, version="1")
        study.run(executor=workers, progress=False, callbacks=[kill])
    rows = stored(url)
    assert len(rows) == 120
    assert {row.status for row in rows} <= {Status.DONE, Status.FAILED}
    failed = {each.params["a"] for each in study.trials if each.status == Status.FAILED}  # killed when they were run again, too
    assert len(failed) <= 5
    assert study.best_value == max(set(range(120)) - failed)
    assert len(evaluations(log)) <= 120 + 10 * 10  # a task holds at most ten of these


@pytest.mark.slow
def test_the_example_is_killed_half_way_resumes_and_ends(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    command = [sys.executable, "-W", "error", str(ROOT / "docs" / "examples" / "python_strategy.py"), url]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while time.monotonic() < until and first.poll() is None:
        time.sleep(0.05)
        if (tmp_path / "x.db").exists() and len(stored(url)) >= 100:
            break
    first.kill()
    first.communicate()
    known = len(stored(url))
    assert 100 <= known < 200
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    evaluated = 200 - known
    assert done.stdout.startswith(f"done: {evaluated} candidates evaluated, {known} known before")
    rows = stored(url)
    assert len(rows) == len({row.digest for row in rows}) == 200
    best = max(row.value for row in rows if row.status == Status.DONE)
    assert f"best growth {best:.3f} at" in done.stdout

"""Worker processes at their edges: starts that fail, where they import from, groups that end as one, folders left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

import backtest as bt
from backtest import WorkerUnable
from backtest.compute import folders
from backtest.compute.worker import WorkerDied
from backtest.compute.workers import Workers
from backtest.study.store import Status, Store

pytestmark = pytest.mark.skipif(os.name != "posix", reason="process groups")


def is_alive(pid):
    """Whether a process runs; one that is dead and not waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_end(*pids, seconds=10.0):
    until = time.monotonic() + seconds
    while any(map(is_alive, pids)) and time.monotonic() < until:
        time.sleep(0.01)
    return [pid for pid in pids if is_alive(pid)]


def program(code, folder, *flags, env=None, **options):
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        check=False,
        env=env and os.environ | env,
        **options,
    )


# -- starts that fail --------------------------------------------------------------------------------------------------


def objective(params, trial):
    return params["a"]


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no such library >&2; exit 3", "got exit code 3 of .*; it said: no such library"),
        ("kill -9 $$", "got signal 9 of"),
        ("exit 0", "got exit code 0 of"),
    ],
)
def test_workers_that_cannot_start_raise_and_store_nothing(tmp_path, monkeypatch, script, said):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    url = f"sqlite:///{tmp_path / 'x.db'}"
    study = bt.Study({"a": range(5)}, objective, sampler="random", store=url, version="1")
    with bt.Workers(2) as workers, pytest.raises(WorkerUnable, match=f"a worker process must start, {said}"):
        study.run(executor=workers, progress=False, catch=Exception, retries=2)
    study.close()
    store = Store(url)
    assert store.counts(1) == {}
    assert store.owners() == []
    store.close()
    monkeypatch.undo()
    study = bt.Study({"a": range(5)}, objective, sampler="random", store=url, version="1")
    with bt.Workers(1) as workers:
        assert study.run(executor=workers, progress=False).failures == 0
    assert study.best_value == 4


def test_an_interpreter_that_is_not_there(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with Workers(1) as workers, pytest.raises(WorkerUnable, match="must start, got FileNotFoundError"):
        bt.optimize_many(dict.fromkeys(range(500), Raising()), executor=workers)  # the others are not tried
    with Workers(1) as workers, pytest.raises(WorkerUnable, match=r"FileNotFoundError: .* for sys.executable '/no/such/python'"):
        workers.submit(abs, 1).result()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("import os; os.write(2, b'out of memory'); os.kill(os.getpid(), 9)", "got signal 9 3 times; it said: out of memory"),
    ],
)
def test_objectives_that_workers_cannot_load_are_no_failed_trials(tmp_path, text, said):
    """The module imports in the parent, and not in a worker."""
    (tmp_path / "lame.py").write_text(
        textwrap.dedent(f"""
        import sys
        if "parent" not in vars(sys):
            {text}
        def objective(params, trial):
            return params["a"]
    """)
    )
    done = program(
        """
        import sys
        sys.parent = True
        import backtest as bt, lame
        from backtest.study.store import Store

        study = bt.Study({"a": range(5)}, lame.objective, sampler="random", store="sqlite:///x.db", version="1")
        try:
            study.run(executor=bt.Workers(1), progress=False, catch=Exception)
        except bt.WorkerUnable as error:
            print(error)
        study.close()
        print(Store("sqlite:///x.db").counts(1))
    """,
        tmp_path,
    )
    assert "a worker process must take in its task, got" in done.stdout, done.stderr
    assert said in done.stdout
    assert done.stdout.endswith("{}\n")


# -- where they import from --------------------------------------------------------------------------------------------

SHADOWS = ("queue", "numpy", "cloudpickle", "backtest", "json", "random", "optuna")
LOOK = """
    import os, subprocess, sys
    import backtest as bt

    def look():
        import json, queue
        theirs = subprocess.run([sys.executable, "-c", "import os; print(os.environ.get('PYTHONPATH'))"], capture_output=True,
                                text=True, check=True)
        return sys.path, bt.__file__, theirs.stdout.strip(), sys.flags.isolated

    with bt.Workers(1) as workers:
        path, ours, theirs, isolated = workers.submit(look).result()
    print(path == [each or os.getcwd() for each in sys.path], ours == bt.__file__, theirs, isolated)
"""


@pytest.mark.parametrize(("flags", "expected"), [(["-P"], "True True None 0"), (["-I"], "True True None 1")])
def test_the_working_folder_is_not_imported_from(tmp_path, flags, expected):
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise SystemError('imported from the working folder')\n")
    done = program(LOOK, tmp_path, *flags)
    assert (done.stdout.strip(), done.stderr) == (expected, "")


def test_the_path_is_the_parents_and_the_environment_the_users(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "helper.py").write_text("value = 7\n")
    done = program(
        LOOK
        + """
    import pathlib
    sys.path.append(str(pathlib.Path("mine").resolve()))
    with bt.Workers(1) as workers:
        print(workers.submit(lambda: __import__("helper").value).result())
        pathlib.Path("late").mkdir()
        pathlib.Path("late/other.py").write_text("value = 8")
        sys.path.append(str(pathlib.Path("late").resolve()))
        print(workers.submit(lambda: __import__("other").value).result())
    """,
        tmp_path,
        env={"PYTHONPATH": "/users/own"},
    )
    assert (done.stdout.split("\n"), done.stderr) == (["True True /users/own 0", "7", "8", ""], "")


def test_programs_that_tasks_start_do_not_read_their_tasks():
    with Workers(1) as workers:
        for _ in range(3):
            assert workers.submit(subprocess.run, ["cat"], timeout=20).result().returncode == 0


# -- groups ------------------------------------------------------------------------------------------------------------


def family(path, escapes=False):
    """A forked child that holds every pipe, and a program; their numbers are written to a file."""
    child = os.fork()
    if not child:
        if escapes:
            os.setsid()
        time.sleep(8 if escapes else 60)
        os._exit(0)
    other = subprocess.Popen(["sleep", "60"])
    path.write_text(f"{os.getpid()} {child} {other.pid}")


def test_trial_timeout_ends_the_whole_group(tmp_path):
    def slow(params, trial):
        if params["a"] == 1:
            family(tmp_path / "pids")
            time.sleep(60)
        return params["a"]

    study = bt.Study({"a": range(3)}, slow, sampler="random")
    begun = time.monotonic()
    with bt.Workers(1) as workers:
        study.run(executor=workers, progress=False, trial_timeout=0.3)
        pids = list(map(int, (tmp_path / "pids").read_text().split()))
        assert await_end(*pids) == []
    assert time.monotonic() - begun < 20
    assert {each.params["a"]: each.error for each in study.trials if each.error} == {1: "TimeoutError: took longer than 0.3 s"}


@pytest.mark.parametrize("how", ["timeout", "exit"])
def test_nobody_waits_for_a_pipe_that_a_stranger_holds(tmp_path, how):
    """A grandchild that left the group and lives on keeps the pipe open."""

    def task():
        family(tmp_path / "pids", escapes=True)
        if how == "exit":
            os._exit(7)
        time.sleep(60)

    begun = time.monotonic()
    with Workers(1) as workers:
        with pytest.raises((TimeoutError, WorkerDied), match=r"took longer than|exit code 7"):
            workers.call(task, (), timeout=0.3 if how == "timeout" else None).result()
        assert workers.submit(abs, -1).result() == 1
    assert time.monotonic() - begun < 6
    worker, stranger, other = map(int, (tmp_path / "pids").read_text().split())
    assert await_end(worker, other) == []
    assert is_alive(stranger)
    os.kill(stranger, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("stuck", [False, True])
def test_orphans_end_with_their_parent(tmp_path, stuck):
    """Also a worker in code that never lets another thread run."""
    code = textwrap.dedent(f"""
        import os, pathlib, re, subprocess, sys, time
        import backtest as bt

        def task():
            child = os.fork()
            if not child:
                time.sleep(60)
            other = subprocess.Popen(["sleep", "60"])
            pathlib.Path("pids.new").write_text(f"{{os.getpid()}} {{child}} {{other.pid}}")
            os.rename("pids.new", "pids")
            if {stuck}:
                re.match("(a*)*$", 40 * "a" + "b")
            time.sleep(60)

        bt.Workers(1).submit(task).result()
    """)
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    until = time.monotonic() + 60
    while not (tmp_path / "pids").exists() and time.monotonic() < until:
        time.sleep(0.01)
    pids = list(map(int, (tmp_path / "pids").read_text().split()))
    time.sleep(0.2)
    assert all(map(is_alive, pids))
    parent.kill()
    parent.wait()
    assert await_end(*pids) == []


# -- folders of killed programs ----------------------------------------------------------------------------------------

PLACER = """
import sys, time
import numpy as np
import backtest as bt
print(bt.Workers(1).place(np.zeros(1000)).path, flush=True)
sys.stdin.read()
"""


def test_folders_of_killed_programs_are_swept(tmp_path):
    env = os.environ | {"TMPDIR": str(tmp_path)}

    def start():
        process = subprocess.Popen(
            [sys.executable, "-c", PLACER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        return process, os.path.dirname(process.stdout.readline().strip())

    killed, lost = start()
    living, kept = start()
    killed.kill()
    killed.communicate()
    strangers = [tmp_path / "backtest-mine", tmp_path / f"{folders._prefix()}unlocked"]
    for each in strangers:
        each.mkdir()
    (tmp_path / f"{folders._prefix()}link").symlink_to(tmp_path / "backtest-mine")
    assert os.path.isdir(lost)
    third, own = start()
    assert not os.path.exists(lost)
    assert os.path.isdir(kept)
    assert all(each.is_dir() for each in strangers)
    for process, folder in ((living, kept), (third, own)):
        process.communicate("")
        assert not os.path.exists(folder)


def test_a_folder_is_swept_once_and_never_while_it_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(folders, "_is_swept", False)
    made = [folders.Folder() for _ in range(20)]
    swept = []
    threads = [threading.Thread(target=lambda: swept.extend(folders.sweep())) for _ in range(4)]
    for each in threads:
        each.start()
    made += [folders.Folder() for _ in range(20)]
    for each in threads:
        each.join()
    assert swept == []
    for each in made[:5]:
        os.close(each._lock)  # as if its program had ended
        folders._ours.remove(each)
    assert sorted(folders.sweep()) == sorted(each.path for each in made[:5])
    for each in made[5:]:
        assert os.path.isdir(each.path)
        each.remove()
    assert os.listdir(tmp_path) == []


# -- problems on workers -----------------------------------------------------------------------------------------------


class Deadly:
    def optimize(self, **options):
        os.kill(os.getpid(), signal.SIGKILL)


class Raising:
    def optimize(self, **options):
        raise Unspeakable


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no")

    __repr__ = __str__


def test_a_problem_that_kills_its_worker_is_a_row(tmp_path):
    with Workers(1) as workers:
        table = bt.optimize_many({"a": Deadly(), "b": Raising()}, executor=workers)
    assert table["error"].tolist() == [
        "WorkerDied: the worker process died (signal 9)",
        "Unspeakable: <its text raises RuntimeError>",
    ]


@pytest.mark.parametrize("executor", [None, 1])
def test_an_exception_that_cannot_be_written_is_a_failed_trial(executor, tmp_path, caplog):
    def objective(params, trial):
        if params["a"] == 1:
            raise Unspeakable
        if params["a"] == 2:
            raise ValueError("\ud800 postgresql://me:secret@host/x")
        return params["a"]

    url = f"sqlite:///{tmp_path / 'x.db'}"
    study = bt.Study({"a": range(4)}, objective, sampler="random", store=url, version="1")
    pool = Workers(executor) if executor else None
    study.run(executor=pool, progress=False, catch=Exception)
    errors = {each.params["a"]: each.error for each in study.trials if each.status == Status.FAILED}
    assert errors == {1: "Unspeakable: <its text raises RuntimeError>", 2: r"ValueError: \ud800 postgresql://me:***@host/x"}
    with pytest.raises(bt.ObjectiveError, match="Unspeakable: <its text raises RuntimeError>") as caught:
        bt.Study({"a": [1]}, objective, sampler="random").run(executor=pool, progress=False)
    assert "Unspeakable" in str(caught.value)
    study.close()
    if pool is not None:
        pool.shutdown()


def test_a_value_that_cannot_be_written_is_a_failed_trial():
    study = bt.Study({"a": [1]}, lambda params, trial: Unspeakable(), sampler="random")
    with pytest.raises(bt.ObjectiveError, match="must return a number, got <Unspeakable whose repr raises RuntimeError> at"):
        study.run(progress=False)

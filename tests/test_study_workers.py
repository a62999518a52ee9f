"""Worker processes that stay: data placed once, dead ones replaced, scripts without a guard, forks; and studies on them."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

import backtest as bt
from backtest.compute.worker import WorkerDied
from backtest.compute.workers import Workers
from backtest.study.store import Status, Store


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as pool:
        yield pool


def run(study, executor, *arguments, **options):
    return study.run(*arguments, executor=executor, progress=False, **options)


# -- the pool ----------------------------------------------------------------------------------------------------------


def test_tasks_and_errors(workers):
    futures = [workers.submit(divmod, number, 7) for number in range(20)]
    assert [each.result() for each in futures] == [divmod(number, 7) for number in range(20)]
    assert workers.submit(int, "ff", base=16).result() == 255
    with pytest.raises(ZeroDivisionError):
        workers.submit(divmod, 1, 0).result()
    with pytest.raises(SystemExit):
        workers.submit(sys.exit, 3).result()
    with pytest.raises(bt.InputError, match="a task must be picklable"):
        workers.submit(print, threading.Lock())
    with pytest.raises(RuntimeError, match="the result of a task must be picklable"):
        workers.submit(threading.Lock).result()
    assert len(workers.pids) <= 2


def test_what_a_task_prints_is_not_an_answer(capfd):
    with Workers(1) as pool:
        assert pool.submit(lambda: print("hello", flush=True) or os.write(1, b"raw\n")).result() == 4
    assert capfd.readouterr() == ("", "hello\nraw\n")


def test_workers_stay_and_are_pinned_to_one_thread(workers):
    def look():
        return os.getpid(), os.environ["OMP_NUM_THREADS"]

    first = {workers.submit(look).result() for _ in range(10)}
    assert {pid for pid, _ in first} <= set(workers.pids)
    assert {threads for _, threads in first} == {"1"}


def test_data_is_placed_once_and_read_only(workers):
    data = {"close": np.arange(300_000.0), "name": "x"}
    placed = workers.place(data)
    assert workers.place(data) is placed
    changed = workers.place(data | {"name": "y"})
    assert changed.token != placed.token
    assert os.path.exists(placed.path)
    assert len(os.listdir(os.path.dirname(placed.path))) <= 16

    def look(data):
        shared = [line for line in open("/proc/self/maps") if "backtest-" in line] if sys.platform == "linux" else [""]  # noqa: SIM115
        try:
            data["close"][0] = 1.0
        except ValueError as error:
            return float(data["close"].sum()), str(error), len(shared), id(data)
        return None

    found = {workers.submit(look, placed).result()[:3] for _ in range(6)}
    assert found == {(data["close"].sum(), "assignment destination is read-only", 1)}


def test_old_data_makes_room(workers):
    values = [np.full(1000, number) for number in range(20)]
    placed = [workers.place(each) for each in values]
    assert sum(os.path.exists(each.path) for each in placed) == 16
    assert workers.submit(np.sum, placed[-1]).result() == 19_000


def test_a_dead_worker_is_replaced(workers):
    with pytest.raises(WorkerDied, match="exit code 9"):
        workers.submit(os._exit, 9).result()
    with pytest.raises(WorkerDied, match="signal 9"):
        workers.submit(lambda: os.kill(os.getpid(), signal.SIGKILL)).result()
    assert workers.submit(abs, -1).result() == 1


def test_a_task_may_be_ended(workers):
    begun = time.monotonic()
    with pytest.raises(TimeoutError, match=r"took longer than 0\.2 s"):
        workers.call(time.sleep, (60,), timeout=0.2).result()
    assert time.monotonic() - begun < 20
    assert workers.submit(abs, -2).result() == 2


def test_a_task_may_ask(workers):
    def task(number, channel):
        return channel(number, 1) + channel(number, 2)

    assert workers.call(task, (10,), answer=lambda *given: sum(given)).result() == 23


def test_other_parts_of_the_library_run_on_them(workers):
    rng = np.random.default_rng(0)
    moves = rng.normal(scale=0.01, size=(3, 80))
    given = {
        "close": moves[0],
        "high": moves.max(axis=0) + 0.01,
        "low": moves.min(axis=0) - 0.01,
        "high_pred": moves[1] + 0.01,
        "low_pred": moves[2] - 0.01,
        "fee_rate": 0.001,
    }
    problems = {name: bt.Levels(position=np.full(80, sign), **given) for name, sign in (("long", 1.0), ("short", -1.0))}
    assert bt.optimize_many(problems, executor=workers).equals(bt.optimize_many(problems))


def test_shutdown_ends_the_processes():
    pool = Workers(1)
    pid = pool.submit(os.getpid).result()
    long = pool.submit(time.sleep, 60)
    queued = pool.submit(abs, 1)
    time.sleep(0.1)
    pool.shutdown(cancel_futures=True)
    with pytest.raises(WorkerDied):
        long.result(10)
    assert queued.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="shut down"):
        pool.submit(abs, 1)


SCRIPT = """
import os, sys, time
import numpy as np
import backtest as bt

scale = np.full(50_000, 2.0)

def objective(params, trial):
    return params["a"] * float(scale[0])

workers = bt.Workers(2)
study = bt.Study({"a": range(20)}, objective, sampler="random")
study.run(executor=workers, progress=False)
print(study.best_value, flush=True)
"""


@pytest.mark.parametrize("way", ["script", "-c", "stdin"])
def test_no_guard_is_needed(way, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    command = {"script": [str(path)], "-c": ["-c", SCRIPT], "stdin": ["-"]}[way]
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        input=SCRIPT,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("38.0\n", "")


PROMPT = """
import backtest as bt
factor = 2.0
workers = bt.Workers(2)
def objective(params, trial):
    return params["a"] * factor

def best():
    study = bt.Study({"a": range(20)}, objective, sampler="random")
    study.run(executor=workers, progress=False)
    return study.best_value

best()
factor = 3.0
best()
def objective(params, trial):
    return helper(params["a"])

def helper(value):
    return -value

best()
objective = lambda params, trial: factor
best()
workers.shutdown()
"""


@pytest.mark.parametrize("command", [["-i"], ["-c", "import code; code.interact()"]])
def test_an_objective_may_be_typed_at_a_prompt_and_typed_again(command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", *command],
        input=PROMPT,
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=True,
    )
    assert [word for word in done.stdout.split() if word not in (">>>", "...")] == ["38.0", "57.0", "0.0", "3.0"]
    assert "Error" not in done.stderr


def test_a_module_that_starts_workers_when_it_is_imported_is_refused(tmp_path):
    (tmp_path / "unguarded.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-c", "import unguarded"], capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "must start none when it is imported, got one that does; put what starts them under" in done.stderr


def test_workers_end_with_a_parent_that_was_killed():
    code = textwrap.dedent("""
        import time, os, backtest as bt
        workers = bt.Workers(1)
        print(workers.submit(os.getpid).result(), flush=True)
        workers.submit(time.sleep, 60).result()
    """)
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.02)
    pytest.fail("the worker outlived its parent")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_workers_of_its_own(workers):
    theirs = workers.submit(os.getpid).result()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        code = 1
        try:
            found = workers.submit(os.getpid).result(60)
            study = bt.Study({"a": range(4)}, lambda params, trial: params["a"], sampler="random")
            run(study, workers)
            code = 0 if found not in (theirs, os.getpid()) and study.best_value == 3 else 2
            workers.kill()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert workers.submit(abs, -3).result() == 3


# -- studies on workers ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_each_candidate_once(workers, sampler):
    def objective(params, trial):
        trial.set_attr("pid", os.getpid())
        time.sleep(0.005)
        return params["a"]

    study = bt.Study({"a": range(50)}, objective, sampler=sampler)
    summary = run(study, workers, 40)
    assert len({each.digest for each in study.trials}) == summary.evaluated == 40
    assert {each.attrs["pid"] for each in study.trials} == set(workers.pids)


def test_a_second_study_starts_at_once(workers):
    def objective(params, trial):
        return params["a"]

    run(bt.Study({"a": range(40)}, objective, sampler="random"), workers)
    before, least = set(workers.pids), 10.0
    for _ in range(5):
        begun = time.perf_counter()
        study = bt.Study({"a": range(4)}, objective, sampler="random")
        run(study, workers, 1)
        least = min(least, time.perf_counter() - begun)
    assert set(workers.pids) == before  # nothing was started
    assert least < 0.25  # milliseconds; to start a process takes longer than this


def test_a_trial_that_kills_its_worker_is_run_again_once(workers, tmp_path, caplog):
    def objective(params, trial):
        log = tmp_path / str(params["a"])
        with log.open("a") as file:
            file.write("x")
        if params["a"] == 3 or (params["a"] == 5 and log.stat().st_size == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        return params["a"]

    study = bt.Study({"a": range(12)}, objective, sampler="random")
    summary = run(study, workers)
    errors = {each.params["a"]: each.error for each in study.trials if each.status == Status.FAILED}
    assert list(errors) == [3]
    assert errors[3].startswith("WorkerDied: the worker process died (signal 9)")
    assert summary.failures == 1
    assert len(study.trials) == 12
    assert "is run again" in caplog.text


def test_trial_timeouts(workers):
    def objective(params, trial):
        if params["a"] == 2:
            time.sleep(60)
        return params["a"]

    study = bt.Study({"a": range(5)}, objective, sampler="tpe")
    run(study, workers, trial_timeout=0.5)
    assert {each.params["a"]: each.error for each in study.trials if each.error} == {2: "TimeoutError: took longer than 0.5 s"}
    assert study.best_value == 4


def test_pruning_in_workers(workers):
    def objective(params, trial):
        for step in range(6):
            trial.report(step, params["a"] + step)
            if trial.should_prune():
                raise bt.TrialPruned
        return params["a"]

    study = bt.Study({"a": range(40)}, objective, sampler="random", pruner="median", seed=2)
    run(study, workers)
    statuses = [each.status for each in study.trials]
    assert statuses.count(Status.PRUNED) > 5
    assert study.best_params == {"a": 39}
    with ProcessPoolExecutor(1) as pool, pytest.raises(bt.InputError, match=r"executor must be bt\.Workers, threads or None"):
        run(study, pool)


def test_objectives_that_cannot_be_sent_are_refused(workers):
    lock = threading.Lock()
    with pytest.raises(bt.InputError, match=r"objective must be picklable for worker processes, .* inside the function"):
        run(bt.Study({"a": range(3)}, lambda params, trial: lock.locked(), sampler="random"), workers)


def squared(params, trial):
    return -((params["a"] - trial.seed % 5) ** 2)


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_any_executor_will_do(workers, sampler):
    best = []
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        for executor in (pool, workers, None):
            study = bt.Study({"a": range(25)}, squared, sampler=sampler)
            run(study, executor)
            assert len(study.trials) == 25
            best.append((study.best_value, study.best_params))
    assert len(set(map(str, best))) == 1


def test_executors_that_cannot_take_an_objective_say_so():
    study = bt.Study({"a": range(5)}, lambda params, trial: 1.0, sampler="random")
    said = r"could not evaluate: .*; bt\.Workers takes objectives of any kind"
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool, pytest.raises(bt.ObjectiveError, match=said):
        run(study, pool)


def test_errors_in_workers_end_the_run(workers):
    def objective(params, trial):
        raise LookupError(params["a"])

    study = bt.Study({"a": range(30)}, objective, sampler="random")
    with pytest.raises(bt.ObjectiveError, match="LookupError"):
        run(study, workers)
    assert run(bt.Study({"a": range(30)}, objective, sampler="random"), workers, catch=LookupError).failures == 30


def test_an_interruption_with_workers(workers, tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"

    def objective(params, trial):
        time.sleep(0.01)
        return params["a"]

    def callback(study, finished):
        if finished.number == 5:
            os.kill(os.getpid(), signal.SIGINT)

    study = bt.Study({"a": range(400)}, objective, sampler="random", store=url, version="1")
    summary = run(study, workers, callbacks=[callback])
    assert summary.ended == "interrupted"
    store = Store(url)
    assert store.counts(1) == {Status.DONE: len(study.trials)}
    assert 5 <= len(study.trials) < 400
    assert store.owners() == []
    study = bt.Study({"a": range(400)}, objective, sampler="random", store=url, version="1")
    assert run(study, workers, 20).known >= 5

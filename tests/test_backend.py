"""Which kernels run: chosen once per process, loud when asked for, reported with the reason."""

import concurrent.futures
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
from conftest import BACKENDS, load_setup

import backtest as bt
from backtest import _backend
from backtest.compute import threads


def python(code, **environment):
    env = {name: value for name, value in os.environ.items() if not name.startswith("BACKTEST_")} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, check=False)


REPORT = "import backtest; print(backtest.backend())"
# What a pure wheel looks like: the compiled modules are not there.
WITHOUT_KERNELS = "import sys; sys.modules['backtest._ext.buildinfo'] = None; "


def test_report_names_the_backend_of_this_process():
    text = bt.backend()
    assert "\n" not in text
    assert text.startswith("cython (compiled kernels, " if BACKENDS[0] == "cython" else "python (")


def test_python_on_request():
    done = python(REPORT, BACKTEST_BACKEND="python")
    assert done.stdout == "python (asked for by BACKTEST_BACKEND=python)\n"
    assert done.stderr == ""


def test_an_unknown_backend_is_refused():
    done = python(REPORT, BACKTEST_BACKEND="fortran")
    assert done.returncode == 1
    assert "InputError: BACKTEST_BACKEND must be one of auto, cython, python, got 'fortran'" in done.stderr


@pytest.mark.parametrize("wish", [{}, {"BACKTEST_BACKEND": ""}, {"BACKTEST_BACKEND": "auto"}])
def test_auto_falls_back_with_one_warning_that_says_why(wish):
    done = python(WITHOUT_KERNELS + REPORT + "; print(backtest.backend())", **wish)
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith("python (compiled kernels unavailable: ")
    assert done.stderr.count("FallbackWarning") == 1


def test_cython_without_kernels_fails_loudly():
    done = python(WITHOUT_KERNELS + REPORT, BACKTEST_BACKEND="cython")
    assert done.returncode == 1
    assert "BackendUnavailable: BACKTEST_BACKEND=cython, but compiled kernels unavailable" in done.stderr


def test_require_compiled():
    done = python("import backtest; backtest.require_compiled()", BACKTEST_BACKEND="python")
    assert "BackendUnavailable: the compiled kernels do not run: asked for by BACKTEST_BACKEND=python" in done.stderr
    if BACKENDS[0] == "cython":
        bt.require_compiled()


def test_all_kernels_come_from_one_backend(backend):
    sides = {module.__name__.split(".")[1] for module in backend.kernels.values()}
    assert sides == {{"cython": "_ext", "python": "_pure"}[backend.name]}
    assert sorted(backend.kernels) == _backend.kernel_names()


def test_build_modes():
    setup = load_setup()
    assert setup.extensions("pure") == []
    assert setup.MODES == ("auto", "require", "pure")


def test_the_source_hash_sees_every_change(tmp_path):
    setup = load_setup()
    (tmp_path / "a.pyx").write_text("x = 1\n")
    before = setup.source_hash(tmp_path)
    (tmp_path / "a.pyx").write_bytes(b"x = 1\r\n")
    assert setup.source_hash(tmp_path) == before  # line endings are no change
    (tmp_path / "a.pyx").write_text("x = 2\n")
    assert setup.source_hash(tmp_path) != before
    (tmp_path / "a.pyx").write_text("x = 1\n")
    (tmp_path / "_b.pxd").write_text("")
    assert setup.source_hash(tmp_path) != before


# --- threads ------------------------------------------------------------------------------------------------------------


def test_rows_are_covered_once_whatever_the_blocks():
    for n_rows in (0, 1, 2, 7, 100):
        for n_threads in (1, 2, 5):
            seen = np.zeros(n_rows, dtype=int)

            def work(start, stop, seen=seen):
                seen[start:stop] += 1

            threads.run_rows(work, n_rows, n_threads, row_us=1e6)
            assert (seen == 1).all()


def test_short_batches_stay_on_the_calling_thread():
    names = []
    threads.run_rows(lambda start, stop: names.append(threading.current_thread().name), 10, 4, row_us=1.0)
    assert names == [threading.current_thread().name]


def test_an_error_in_a_block_reaches_the_caller():
    def work(start, stop):
        raise ValueError(f"rows from {start}")

    with pytest.raises(ValueError, match="rows from 0"):
        threads.run_rows(work, 10, 2, row_us=1e6)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_the_pool_is_rebuilt_after_a_fork():
    threads.run_rows(lambda start, stop: None, 100, 2, row_us=1e6)
    child = os.fork()
    if child == 0:
        total = []
        threads.run_rows(lambda start, stop: total.append(stop - start), 100, 2, row_us=1e6)
        os._exit(0 if sum(total) == 100 else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_scratch_memory_is_kept_by_its_thread(monkeypatch):
    first = threads.scratch(1000)
    assert np.shares_memory(first, threads.scratch(500))
    assert len(threads.scratch(500)) == 500
    more = threads.scratch(1 << 20)
    assert np.shares_memory(more, threads.scratch(1000))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(more, pool.submit(threads.scratch, 1000).result())
    monkeypatch.setattr(threads, "KEPT_BYTES", 1 << 21)
    assert not np.shares_memory(threads.scratch(1 << 22), threads.scratch(1 << 22))


def test_default_threads_respect_affinity():
    done = python(
        "import os; os.sched_setaffinity(0, {0}); from backtest.compute.threads import default_threads; print(default_threads())"
    )
    assert done.stdout == "1\n"


def test_many_callers_at_once():
    """The library may be called from several threads of a program."""
    bars, params = bt.Bars.sample(), {"fast": [5, 6, 7], "slow": [20, 30, 40]}
    expected = bt.evaluate(bars, bt.strategies.sma_cross, params, costs=bt.Costs.zero(), n_threads=2)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(bt.evaluate, bars, bt.strategies.sma_cross, params, costs=bt.Costs.zero(), n_threads=1 + i % 3)
            for i in range(12)
        ]
        assert all(future.result().equals(expected) for future in futures)

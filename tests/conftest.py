"""What every test shares: both backends, the refusal of stale builds, the refusal of skips in CI."""

import importlib.util
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from backtest import _backend

ROOT = Path(__file__).parent.parent
settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("suite")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # shells start what runs in the background so, and children inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


def load_setup():
    """The project's ``setup.py`` as a module (it does nothing unless run)."""
    spec = importlib.util.spec_from_file_location("backtest_setup", ROOT / "setup.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def slow(*values):
    """A parameter of a test that takes seconds."""
    return pytest.param(*values, marks=pytest.mark.slow)


def long(*values):
    """A parameter of a test that takes minutes: more random cases of what others test."""
    return pytest.param(*values, marks=[pytest.mark.slow, pytest.mark.long])


def pytest_addoption(parser):
    parser.addoption("--no-skips", action="store_true", help="a skipped test fails the run (CI installs everything)")
    parser.addoption("--slow", action="store_true", help="run slow tests too")
    parser.addoption("--long", action="store_true", help="run slow tests, and thousands of random cases where some are run else")
    parser.addoption("--fuzz-calls", type=int, default=25, help="calls of each door in tests/test_fuzz_doors.py")


def pytest_configure(config):
    """Refuse kernels that were not built from the sources beside these tests."""
    info = sys.modules.get("backtest._ext.buildinfo") or _import_buildinfo()
    if info is not None and (ROOT / "ext").is_dir():
        expected = load_setup().source_hash(ROOT / "ext")
        if expected != info.SOURCE_HASH:
            raise pytest.UsageError(
                f"stale build: the compiled kernels carry source hash {info.SOURCE_HASH}, ext/ has {expected}; install again"
            )


def _import_buildinfo():
    try:
        return importlib.import_module("backtest._ext.buildinfo")
    except ImportError:
        return None


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# BACKTEST_BACKEND=python, or a pure wheel: the suite runs once, on the twins.
BACKENDS = ["cython", "python"] if _backend.chosen().name == "cython" else ["python"]


def pytest_collection_modifyitems(config, items):
    """Leave out slow tests, unless asked for; and without compiled kernels, tests that compare the twins with them."""
    left_out = ["compiled"] if len(BACKENDS) == 1 else []
    named = any("::" in each for each in config.args) or "slow" in config.option.markexpr
    if not (config.getoption("--slow") or config.getoption("--long") or named):
        left_out.append("slow")
    if not (config.getoption("--long") or named):
        left_out.append("long")
    deselected = [item for item in items if any(item.get_closest_marker(name) for name in left_out)]
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = [item for item in items if item not in set(deselected)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    """Run the test on each backend that this process may use."""
    with _backend.forced(request.param) as now:
        yield now

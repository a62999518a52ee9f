"""The comparison of the signals twins can fail: on a fixed collection of runs, changes of the pure twin are noticed."""

import importlib
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from cases import UNPAID
from signal_corpus import corpus

import backtest as bt
from backtest import _backend, holding_tables

pytestmark = [pytest.mark.compiled, pytest.mark.filterwarnings(UNPAID)]
#: Modules of the twin, imported ones first.
PARTS = ["_costs", "_holding_tables", "_sums", "_signal_account", "_bar_events", "signals"]
CASES = list(corpus())


def replayed(bars, strategy, costs, execution):
    run = bt.run(bars, strategy, costs=costs, execution=execution)
    return [part.tobytes() for part in (run.sums, run.fills, run._equity, run._units, *run._replay.unexecuted[:3])]


@pytest.fixture(scope="module")
def expected():
    with _backend.forced("cython"):
        return [replayed(*case) for case in CASES]


def source_of(part):
    return Path(importlib.import_module(f"backtest._pure.{part}").__file__).read_text()


def first_difference(kernel, expected, monkeypatch):
    """Index of the first case that the kernel replays differently; None if there is none."""
    with _backend.forced("python") as pure:
        monkeypatch.setitem(pure.kernels, "signals", kernel)
        holding_tables._CACHE.clear()
        with np.errstate(all="ignore"):
            different = (index for index, case in enumerate(CASES) if replayed(*case) != expected[index])
            try:
                found = next(different, None)
            except (ArithmeticError, IndexError, ValueError):
                found = -1  # the mutant does not even run
        holding_tables._CACHE.clear()
    return found


def test_twins_agree_on_every_case(expected, monkeypatch):
    assert first_difference(importlib.import_module("backtest._pure.signals"), expected, monkeypatch) is None


@pytest.mark.parametrize(
    ("part", "text", "mutant"),
    [
        ("_bar_events", "CASH_TOLERANCE = 1e-14", "CASH_TOLERANCE = 1e-12"),
        ("_bar_events", "CASH_TOLERANCE = 1e-14", "CASH_TOLERANCE = 2e-14"),
        ("_bar_events", "CASH_TOLERANCE = 1e-14", "CASH_TOLERANCE = 5e-15"),
        ("_bar_events", "CASH_TOLERANCE = 1e-14", "CASH_TOLERANCE = 1e-16"),
        ("_bar_events", "end - begin >= LANES", "end - begin > LANES"),
        ("_bar_events", "end - begin >= LANES", "end - begin + 1 >= LANES"),
        ("_holding_tables", "LANES = 8", "LANES = 4"),
        ("_holding_tables", "result if result > 0.0 else 0.0,\n", "result if result > 0.01 else 0.0,\n"),
        ("_holding_tables", "if excess < 0.0 else 0.0,\n    )", "if excess < -0.01 else 0.0,\n    )"),
        ("_sums", "if net > 0.0:", "if net > -1.0:"),
        ("_sums", "result < self.worst_trade", "result < self.worst_trade - 0.01"),
        ("_costs", "if cost > costs.maximum:", "if cost > 100.0 * costs.maximum:"),
        ("_costs", "if at_minimum < units:", "if at_minimum > units:"),
        ("_costs", "(units + 1.0) * price", "(units + 2.0) * price"),
        ("_signal_account", "if trail > level or level != level:", "if trail >= level or level != level:"),
        ("_signal_account", "not (settings.stop_beats_gap and stopped)", "not (settings.stop_beats_gap or stopped)"),
        ("_signal_account", "if not self.settings.ends_at_open:", "if True:"),
        ("_signal_account", "if settings.sized_on_quote else price", "if False else price"),
        ("_signal_account", "if settings.levels_from_decision else price", "if False else price"),
    ],
)
def test_a_change_of_the_twin_is_noticed(part, text, mutant, expected, monkeypatch):
    source = source_of(part)
    assert len(re.findall(re.escape(text), source)) == 1, f"{text!r} must be in the twin once"
    for each in PARTS:
        module = types.ModuleType(f"backtest._pure.{each}")
        code = source.replace(text, mutant) if each == part else source_of(each)
        exec(compile(code, f"mutant of {each}", "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, f"backtest._pure.{each}", module)  # the next part imports it
    assert first_difference(module, expected, monkeypatch) is not None

"""DIRECT for many problems on one device: in lockstep, one iteration of all problems is one launch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backtest import gpu
from backtest._checks import InputError, whole
from backtest.level_rows import LevelRows
from backtest.levels import search
from backtest.search.lockstep import bytes_each, lockstep

#: Memory of the host that the searches of one wave of problems may take.
WAVE_BYTES = 1 << 28


class Problem(Protocol):
    """What this module needs of a problem of levels."""

    @property
    def budget(self) -> int:
        """Evaluations by default."""

    def level_rows(self) -> LevelRows:
        """Rows of the kernel."""


Search = Callable[[Sequence[Any], dict[str, Any], float | None, int], Iterator[tuple[int, Any]]]


def searcher(method: str, device: str, dtype: str) -> Search | None:
    """The search that runs on a device, its arguments and the device checked; None: the method stays on the CPU."""
    gpu.check(device, dtype)
    if method == "exact":
        return None
    if method != "direct":
        raise InputError(
            f"method must be 'direct' on a device (or 'exact', which stays on the CPU), got {method!r}; leave out device"
        )
    return partial(_search, device, dtype)


def _search(
    device: str, dtype: str, problems: Sequence[Problem], options: dict[str, Any], until: float | None, n_threads: int
) -> Iterator[tuple[int, Any]]:
    """(index, result) of each problem; a wave that would begin after ``until`` is left out."""
    chosen = {"bounds": search.BOUNDS, "effort": "normal", "maxfun": None, "seed": 0} | options
    whole("seed", chosen.pop("seed"), low=0)
    rows = [problem.level_rows() for problem in problems]
    budgets = {problem.budget for problem in problems}
    options_by_budget = {budget: search.check_options("direct", default_budget=budget, **chosen) for budget in budgets}
    for each in options_by_budget.values():
        search.check_width(each.box, "direct")
    largest = max(each.budget for each in options_by_budget.values())
    for start, stop in _waves(rows, bytes_each(2, largest), gpu.rows_that_fit(device, dtype)):
        if until is not None and time.monotonic() >= until:
            return
        wave = [options_by_budget[problem.budget] for problem in problems[start:stop]]
        on_device = gpu.Problems(rows[start:stop], device, dtype)
        found = lockstep(
            partial(_losses, on_device),
            wave[0].box.reshape(2, 2),
            np.array([each.budget for each in wave], dtype=np.int64),
            n_threads,
        )
        for index, each in enumerate(wave):
            result = search.direct_result(found.x[index], int(found.nfev[index]), int(found.status[index]), each.budget)
            result["message"] += f"{each.note}, scored on {on_device.device} in {dtype}"
            yield start + index, search.report(rows[start + index], "direct", result)


def _losses(on_device: gpu.Problems, points: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    profits: NDArray[np.float64] = on_device.ragged(points, first)
    return -profits


def _waves(problems: Sequence[LevelRows], bytes_per_run: int, device_rows: int) -> Iterator[tuple[int, int]]:
    """Ranges of problems that run at once: as many as the host's memory for searches and the device's for rows allow."""
    largest = max(1, WAVE_BYTES // bytes_per_run)
    start = n_rows = 0
    for index, each in enumerate(problems):
        if index > start and (index - start >= largest or n_rows + len(each.rows) > device_rows):
            yield start, index
            start, n_rows = index, 0
        n_rows += len(each.rows)
    if start < len(problems):
        yield start, len(problems)

"""Many problems on one device: DIRECT in lock-step, each iteration of all problems one launch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from backtest import gpu
from backtest._checks import InputError, whole
from backtest.folded import Folded
from backtest.levels import search
from backtest.search.lockstep import bytes_each, lockstep

#: Memory that the searches of one wave of problems may take here.
WAVE_BYTES = 1 << 28


class Problem(Protocol):
    """What of a problem of levels is needed here."""

    @property
    def budget(self) -> int:
        """Evaluations by default."""

    @property
    def _folded(self) -> Folded: ...


Search = Callable[[Sequence[Any], dict[str, Any], float | None, int], Iterator[tuple[int, Any]]]


def searcher(method: str, device: str, dtype: str) -> Search | None:
    """Checks the names, and whether the device is there; None where the method stays on the CPU."""
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
    """(place, result) of each problem; those of a wave that would begin after ``until`` do not come."""
    chosen = {"bounds": search.BOUNDS, "effort": "normal", "maxfun": None, "seed": 0} | options
    whole("seed", chosen.pop("seed"), low=0)
    folded = [problem._folded for problem in problems]
    wishes = {budget: search.wish("direct", usual=budget, **chosen) for budget in {problem.budget for problem in problems}}
    for wish in wishes.values():
        search.leave_room(wish.box, "direct")
    most = max(wish.budget for wish in wishes.values())
    for start, stop in _waves(folded, bytes_each(2, most), gpu.rows_that_fit(device, dtype)):
        if until is not None and time.monotonic() >= until:
            return
        wave = [wishes[problem.budget] for problem in problems[start:stop]]
        on_device = gpu.Problems(folded[start:stop], device, dtype)
        found = lockstep(
            partial(_losses, on_device),
            wave[0].box.reshape(2, 2),
            np.array([wish.budget for wish in wave], dtype=np.int64),
            n_threads,
        )
        for place, wish in enumerate(wave):
            ended = search.ended(found.x[place], int(found.nfev[place]), int(found.status[place]), wish.budget)
            ended["message"] += f"{wish.note}, scored on {on_device.device} in {dtype}"
            yield start + place, search.report(folded[start + place], "direct", ended)


def _losses(on_device: gpu.Problems, points: NDArray[np.float64], first: NDArray[np.int64]) -> NDArray[np.float64]:
    profits: NDArray[np.float64] = on_device.ragged(points, first)
    return -profits


def _waves(folded: Sequence[Folded], bytes_a_run: int, rows: int) -> Iterator[tuple[int, int]]:
    """Problems that run together: as many as the memory of the searches, and that of the device, allow."""
    most = max(1, WAVE_BYTES // bytes_a_run)
    start = taken = 0
    for place, each in enumerate(folded):
        if place > start and (place - start >= most or taken + len(each.rows) > rows):
            yield start, place
            start, taken = place, 0
        taken += len(each.rows)
    if start < len(folded):
        yield start, len(folded)

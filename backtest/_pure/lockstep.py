"""DIRECT, locally biased, on many problems at once: every call advances all of them by one iteration.

For objectives with a high cost per call and a low cost per point, such as a launch on a GPU: the points of one iteration of
all problems are one batch.  Each problem's run is that of the kernel ``direct``, bit for bit, independent of the others; one
that has ended adds no points to later batches.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._pure import direct

#: Status of a run that has not ended.
RUNNING = 0


class Runs:
    """Runs over one search space, in the caller's memory.

    Parameters
    ----------
    ratio, width : float64 (n_params,)
        Lower bound / width, and width, of the search space.
    eps, max_iter, vol_tol, len_tol : float, int, float, float
        As in the State of the kernel ``direct``.
    budgets : int64 (n_runs,)
        Budget of each run, at most that given to :func:`sizes`.
    work : float64 (n_runs, n_work)
        Memory of the runs, of the size that :func:`sizes` gives; need not be initialised.
    counts : int64 (n_runs,)
        Filled: points that each run has in the next batch; 0 for one that has ended.
    """

    def __init__(
        self,
        ratio: NDArray[np.float64],
        width: NDArray[np.float64],
        eps: float,
        max_iter: int,
        vol_tol: float,
        len_tol: float,
        budgets: NDArray[np.int64],
        capacity: int,
        n_classes: int,
        work: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None:
        self.ratio, self.width, self.counts = ratio, width, counts
        self.states: list[direct.State] = []
        self.status: list[int] = []
        for run in range(len(budgets)):
            state = direct.State(len(width), eps, int(budgets[run]), max_iter, True, False, -math.inf, 0.0, vol_tol, len_tol)
            state.bind(ratio, width, **_placed(len(width), capacity, n_classes, work[run]))
            self.states.append(state)
            self.status.append(RUNNING)
            counts[run] = direct.start(state)


def sizes(n_params: int, budget: int, max_iter: int) -> tuple[int, int, int]:
    """Upper bounds for any run of this budget: rectangles, size classes, and float64 of memory."""
    # An iteration adds one size class at most, and divides one rectangle a class into 2 * n_params more at most.
    budget = min(budget, n_params * (max_iter + 2) * (max_iter + 2))
    n_classes = min(budget // (2 * n_params) + 2, max_iter + 1)
    capacity = budget + 2 * n_params * (n_classes + 1) + 2
    deepest = budget // 2 + 1
    if deepest // n_params > max_iter:
        deepest = n_params * max_iter
    n_classes = deepest + 3 * n_params + 2
    return capacity, n_classes, capacity * (2 * n_params + 5) + 4 * n_classes + 3 * n_params


def sample(runs: Runs, first: NDArray[np.int64], points: NDArray[np.float64], start: int, stop: int) -> None:
    """Points of the next batch, of runs ``start`` to ``stop``.

    Parameters
    ----------
    first : int64 (n_runs,)
        Row of each run's first point.
    points : float64 (n_points, n_params)
        Rows of these runs are filled.
    start, stop : int
        Runs to work on.
    """
    for run in range(start, stop):
        count = int(runs.counts[run])
        if count:
            direct.sample(runs.states[run], points[first[run] : first[run] + count])


def update(runs: Runs, first: NDArray[np.int64], scores: NDArray[np.float64], start: int, stop: int) -> None:
    """Take in the scores of the batch and choose the next, for runs ``start`` to ``stop``.

    Parameters
    ----------
    first : int64 (n_runs,)
        As in :func:`sample`.
    scores : float64 (n_points,)
        Smaller is better.
    start, stop : int
        Runs to work on.
    """
    for run in range(start, stop):
        count = int(runs.counts[run])
        if count:
            runs.status[run] = direct.update(runs.states[run], scores[first[run] : first[run] + count])
            runs.counts[run] = 0 if runs.status[run] else direct.select(runs.states[run])


def results(runs: Runs, start: int, stop: int, out: NDArray[np.float64]) -> None:
    """State of runs ``start`` to ``stop``.

    Parameters
    ----------
    start, stop : int
        Runs to work on.
    out : float64 (n_runs, n_params + 3)
        Rows of these runs are filled: best point, its score, points scored, status of the kernel ``direct`` (0: not ended).
    """
    n_params = len(runs.width)
    for run in range(start, stop):
        state = runs.states[run]
        for param in range(n_params):
            out[run, param] = (state.centre[state.best, param] + runs.ratio[param]) * runs.width[param]
        out[run, n_params], out[run, n_params + 1], out[run, n_params + 2] = state.fun, state.n_points, runs.status[run]


def _placed(n_params: int, capacity: int, n_classes: int, work: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Arrays of the State in one run's memory."""
    place = 0

    def take(length: int, dtype: Any = np.float64) -> NDArray[Any]:
        nonlocal place
        place += length
        return work[place - length : place].view(dtype)

    centre = take(capacity * n_params).reshape(capacity, n_params)
    exponent = take(capacity * n_params).view(np.intc)[: capacity * n_params].reshape(capacity, n_params)
    return {
        "centre": centre,
        "exponent": exponent,
        "value": take(capacity),
        "rank": take(capacity, np.intp),
        "child": take(capacity, np.intp),
        "sibling": take(capacity, np.intp),
        "chosen": take(capacity, np.intp),
        "third": take(n_classes),
        "size": take(n_classes),
        "head": take(n_classes, np.intp),
        "waiting": take(n_classes, np.intp),
        "least": take(n_params),
        "order": take(n_params, np.intp),
        "side": take(n_params, np.intp),
    }

"""DIRECT on many objectives in lock-step: one call evaluates an iteration of all of them.

For objectives that are scored together, such as in one launch on a GPU.  Every run visits the points of :func:`search.direct`
with the default options and its own budget.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import ObjectiveError
from backtest.compute.threads import run_rows
from backtest.search.direct import EPS, LEN_TOL, MAXITER, VOL_TOL, checked_scores

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]

#: Microseconds per iteration of one run, without its scores; decides on threads.
RUN_US = 2.0


class Results(NamedTuple):
    """Results, one entry per run."""

    x: Floats  # (n_runs, n_params), the best points, exactly as scored
    fun: Floats
    nfev: Wholes
    status: Wholes  # as in search.direct


def bytes_each(n_params: int, budget: int) -> int:
    """Bytes of memory per run."""
    return 8 * int(_backend.kernel("lockstep").sizes(n_params, budget - budget % 2, MAXITER)[2])


def lockstep(evaluate: Callable[[Floats, Wholes], Floats], box: Floats, budgets: Wholes, n_threads: int = 1) -> Results:
    """Minimise many objectives over one box.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(points, first) -> scores``: points (n_points, n_params); those of objective ``i`` are rows ``first[i]`` to
        ``first[i + 1]``, none once its run has ended; scores (n_points,).
    box : float64 (n_params, 2)
        Finite, low < high.
    budgets : int64 (n_runs,)
        ``maxfun`` of each run.
    n_threads : int
        Threads of the kernel; never changes a result.
    """
    kernel = _backend.kernel("lockstep")
    n_runs, n_params = len(budgets), len(box)
    even = budgets - budgets % 2  # as scipy rounds it
    width = np.ascontiguousarray(box[:, 1] - box[:, 0])
    capacity, n_classes, n_work = kernel.sizes(n_params, int(even.max(initial=0)), MAXITER)
    counts = np.zeros(n_runs, dtype=np.int64)
    runs = kernel.Runs(
        np.ascontiguousarray(box[:, 0] / width),
        width,
        EPS,
        MAXITER,
        VOL_TOL,
        LEN_TOL,
        even,
        capacity,
        n_classes,
        np.empty((n_runs, n_work)),
        counts,
    )
    while True:
        first = np.concatenate([[0], np.cumsum(counts)])
        if not first[-1]:
            break
        points = np.empty((int(first[-1]), n_params))
        run_rows(partial(kernel.sample, runs, first, points), n_runs, n_threads, RUN_US)
        scores = checked_scores(evaluate(points, first), len(points))
        if np.isnan(scores).any():
            row = int(np.isnan(scores).argmax())
            raise ObjectiveError(
                f"scores must not be NaN, got nan at x = {points[row].tolist()} of objective "
                f"{int(np.searchsorted(first, row, side='right')) - 1}"
            )
        run_rows(partial(kernel.update, runs, first, scores), n_runs, n_threads, RUN_US)
    out = np.empty((n_runs, n_params + 3))
    kernel.results(runs, 0, n_runs, out)
    return Results(
        np.ascontiguousarray(out[:, :n_params]),
        out[:, n_params].copy(),
        out[:, n_params + 1].astype(np.int64),
        out[:, n_params + 2].astype(np.int64),
    )

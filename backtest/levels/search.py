"""Searches for the best levels: exact, DIRECT, differential evolution."""

from __future__ import annotations

import math
import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import FallbackWarning, InputError, choice, whole
from backtest._said import shown
from backtest.level_rows import BEST_HIGH, BEST_LOW, SCORED, TOLERANCE, TRUNCATED, LevelRows
from backtest.levels.moves import check_bounds
from backtest.search.direct import EPS, F_MIN_RTOL, LEN_TOL, MAX_COUNT, MAXITER, MESSAGES, VOL_TOL
from backtest.search.evolution import MIN_POPULATION, SPENT
from backtest.search.evolution import evolution as differential_evolution

Floats = NDArray[np.float64]

METHODS = ("exact", "direct", "evolution")
EFFORTS = ("normal", "fast")
#: Default bounds: 3 % each way.
BOUNDS = ((-0.03, 0.03), (-0.03, 0.03))
#: Evaluations that ``effort="fast"`` spends.
FAST_BUDGET = 100


class SearchOptions(NamedTuple):
    """The arguments of ``optimize``, checked."""

    box: Floats
    budget: int
    note: str  # appended to a heuristic's message: its effort


def check_options(method: str, bounds: Any, effort: str, maxfun: int | None, default_budget: int) -> SearchOptions:
    """The arguments of ``optimize``, checked; ``default_budget`` is that of ``effort="normal"``."""
    choice("method", method, METHODS)
    choice("effort", effort, EFFORTS)
    box = check_bounds(bounds)
    if maxfun is not None:
        return SearchOptions(box, whole("maxfun", maxfun, low=1, high=MAX_COUNT), "")
    if effort == "fast":
        return SearchOptions(box, FAST_BUDGET, f" (effort='fast': {FAST_BUDGET} evaluations)")
    return SearchOptions(box, default_budget, "")


def exact(problem: LevelRows, box: Floats) -> dict[str, Any]:
    """The exact optimum within the box."""
    kernel = _backend.kernel("levels")
    n_floats, n_ints = kernel.scratch_sizes(len(problem.rows))
    out = np.empty(6)
    kernel.exact(*problem, box, np.empty(n_floats), np.empty(n_ints, dtype=np.int64), out)
    truncated = bool(out[TRUNCATED])
    message = (
        "more than 1,024 cells lie within tolerance of the best: profit is within tolerance of the exact optimum"
        if truncated
        else "the exact optimum"
    )
    return {
        "x": out[[BEST_HIGH, BEST_LOW]],
        "tolerance": float(out[TOLERANCE]),
        "truncated": truncated,
        "nfev": int(out[SCORED]),
        "fallback": None,
        "success": True,
        "status": 0,
        "message": message,
    }


def direct(problem: LevelRows, box: Floats, budget: int, seed: int) -> dict[str, Any]:
    """DIRECT as :func:`backtest.search.direct` does it, in one call; on an error status evolution runs, with a warning."""
    check_width(box, "direct")
    kernel = _backend.kernel("levels")
    out = np.empty(5)
    even = budget - budget % 2  # as scipy rounds it
    scratch = np.empty(kernel.direct_scratch_size(even, MAXITER))
    kernel.direct(*problem, box, EPS, even, MAXITER, VOL_TOL, LEN_TOL, scratch, out)
    n_points, status = int(out[3]), int(out[4])
    if status < 0:
        why = f"evolution ran: DIRECT ended with status {status}"
        warnings.warn(why, FallbackWarning, stacklevel=4)
        found = evolution(problem, box, budget, seed)
        return found | {"fallback": why, "nfev": found["nfev"] + n_points}
    return direct_result(out[:2].copy(), n_points, status, budget)


def direct_result(x: Floats, n_points: int, status: int, budget: int) -> dict[str, Any]:
    """Result of a run of DIRECT."""
    message = MESSAGES[status].format(maxfun=budget, maxiter=MAXITER, f_min_rtol=F_MIN_RTOL, vol_tol=VOL_TOL, len_tol=LEN_TOL)
    return {
        "x": x,
        "tolerance": np.nan,
        "truncated": False,
        "nfev": n_points,
        "fallback": None,
        "success": True,
        "status": status,
        "message": message,
    }


def evolution(problem: LevelRows, box: Floats, budget: int, seed: int) -> dict[str, Any]:
    """Differential evolution as :func:`backtest.search.evolution` does it."""
    check_width(box, "evolution")
    found = differential_evolution(
        lambda batch: -problem.profit(batch), box.reshape(2, 2), maxfun=max(budget, MIN_POPULATION), seed=seed
    )
    message = f"evolution spent its budget of {budget} evaluations" if found.status == SPENT else found.message
    return {
        "x": found.x,
        "tolerance": np.nan,
        "truncated": False,
        "nfev": found.nfev,
        "fallback": None,
        "success": True,
        "status": 0,
        "message": message,
    }


def check_width(box: Floats, method: str) -> None:
    """Refuse a box without a finite width in both directions."""
    low_h, high_h, low_l, high_l = box.tolist()
    given = ((low_h, high_h), (low_l, high_l))
    if low_h == high_h or low_l == high_l:
        raise InputError(
            f"bounds must be (lowest, highest) with lowest < highest for method={shown(method)}, got {given}; "
            "method='exact' takes equal ones"
        )
    if math.isinf(high_h - low_h) or math.isinf(high_l - low_l):
        raise InputError(f"bounds must have a finite width for method={shown(method)}, got {given}; method='exact' takes any")


def report(problem: LevelRows, method: str, found: dict[str, Any]) -> Any:
    """The ``OptimizeResult`` for a point, whichever method found it."""
    from scipy.optimize import OptimizeResult

    out = np.empty(6)
    high, low = found["x"].tolist()
    _backend.kernel("levels").report(problem.rows, problem.split, problem.fee_rate, high, low, out)
    optimistic, pessimistic, *baselines, fills, ambiguous = out.tolist()
    profit = pessimistic if problem.pessimistic else optimistic
    return OptimizeResult(
        x=found["x"],
        fun=0.0 - profit,
        profit=profit,
        profit_low=pessimistic,
        profit_high=optimistic,
        n_fills=int(fills),
        n_ambiguous=int(ambiguous),
        baseline=baselines[problem.pessimistic],
        tolerance=found["tolerance"],
        truncated=found["truncated"],
        fallback=found["fallback"],
        nfev=found["nfev"],
        method=method,
        success=found["success"],
        status=found["status"],
        message=found["message"],
    )

"""How the best levels are looked for: exactly, by DIRECT, by differential evolution."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import FallbackWarning, InputError
from backtest.levels.rows import BEST_HIGH, BEST_LOW, SCORED, TOLERANCE, TRUNCATED

if TYPE_CHECKING:
    from backtest.levels.problem import _LevelProblem

Floats = NDArray[np.float64]

#: Points of one generation of evolution: 15 for each of the two parameters, as scipy has it.
POPULATION = 30


def exact(problem: _LevelProblem, box: Floats) -> dict[str, Any]:
    """The best point there is."""
    kernel = _backend.kernel("levels")
    n_floats, n_ints = kernel.scratch_sizes(len(problem._rows))
    out = np.empty(6)
    kernel.exact(problem._rows, problem._split, problem.fee_rate, problem._pessimistic, box, np.empty(n_floats),
                 np.empty(n_ints, dtype=np.int64), out)
    truncated = bool(out[TRUNCATED])
    message = ("more than 1,024 cells lie within tolerance of the best: profit is within tolerance of the exact optimum"
               if truncated else "the exact optimum")
    return {"x": out[[BEST_HIGH, BEST_LOW]], "tolerance": float(out[TOLERANCE]), "truncated": truncated,
            "nfev": int(out[SCORED]), "fallback": None, "success": True, "status": 0, "message": message}


def direct(problem: _LevelProblem, box: Floats, budget: int, seed: int) -> dict[str, Any]:
    """DIRECT; where it ends in an error status, evolution, with a warning.  What the objective raises is never caught."""
    def evaluate(batch: Floats) -> Floats:
        return -problem._profit(np.ascontiguousarray(batch), problem._pessimistic)

    _leave_room(box, "direct")
    from backtest.search import direct as search

    ended = search(evaluate, [(box[0], box[1]), (box[2], box[3])], maxfun=budget)
    if ended.status < 0:
        why = f"evolution ran: DIRECT ended with status {ended.status} ({ended.message})"
        warnings.warn(why, FallbackWarning, stacklevel=4)
        found = evolution(problem, box, budget, seed)
        return found | {"fallback": why, "nfev": found["nfev"] + int(ended.nfev)}
    return {"x": np.asarray(ended.x, dtype=np.float64), "tolerance": np.nan, "truncated": False, "nfev": int(ended.nfev),
            "fallback": None, "success": True, "status": int(ended.status), "message": str(ended.message)}


def evolution(problem: _LevelProblem, box: Floats, budget: int, seed: int) -> dict[str, Any]:
    """Differential evolution, one generation a batch."""
    from scipy.optimize import differential_evolution

    n_points = 0

    def evaluate(transposed: Floats) -> Floats:  # scipy passes (2, n_points) and counts calls
        nonlocal n_points
        batch = np.ascontiguousarray(transposed.T)
        n_points += len(batch)
        return -problem._profit(batch, problem._pessimistic)

    _leave_room(box, "evolution")
    population = min(POPULATION, max(budget, 5))
    ended = differential_evolution(evaluate, [(box[0], box[1]), (box[2], box[3])], seed=seed, vectorized=True,
                                   updating="deferred", polish=False, tol=0.0, atol=0.0, popsize=-(-population // 2),
                                   maxiter=max(0, budget // population - 1))
    return {"x": np.asarray(ended.x, dtype=np.float64), "tolerance": np.nan, "truncated": False, "nfev": n_points,
            "fallback": None, "success": True, "status": 0, "message": f"evolution spent its budget of {budget} evaluations"}


def _leave_room(box: Floats, method: str) -> None:
    if box[0] == box[1] or box[2] == box[3]:
        raise InputError(f"bounds must be (lowest, highest) with lowest < highest for method={method!r}, got "
                         f"{((float(box[0]), float(box[1])), (float(box[2]), float(box[3])))}; method='exact' takes equal ones")


def report(problem: _LevelProblem, method: str, found: dict[str, Any]) -> Any:
    """What every method says about the point it found."""
    from scipy.optimize import OptimizeResult

    points = np.array([found["x"], (0.0, 0.0)])
    optimistic, pessimistic = problem._profit(points, 0).tolist(), problem._profit(points, 1).tolist()
    mine = pessimistic if problem._pessimistic else optimistic
    fills, ambiguous = np.empty(1, dtype=np.int64), np.empty(1, dtype=np.int64)
    _backend.kernel("levels").count(problem._rows, points, 0, 1, fills, ambiguous)
    return OptimizeResult(x=found["x"], fun=0.0 - mine[0], profit=mine[0], profit_low=pessimistic[0], profit_high=optimistic[0],
                          n_fills=int(fills[0]), n_ambiguous=int(ambiguous[0]), baseline=mine[1], tolerance=found["tolerance"],
                          truncated=found["truncated"], fallback=found["fallback"], nfev=found["nfev"], method=method,
                          success=found["success"], status=found["status"], message=found["message"])

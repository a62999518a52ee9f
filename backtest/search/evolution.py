"""Batched differential evolution: scipy's, one generation per call of ``evaluate``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import InputError, ObjectiveError, number, whole
from backtest._said import said, shown
from backtest.search.direct import CALLBACK_STOP, MAX_COUNT, MAXFUN_PER_PARAM, box, checked_scores

if TYPE_CHECKING:
    from scipy.optimize import Bounds, OptimizeResult

    Evaluate = Callable[[NDArray[np.float64]], ArrayLike]

#: Points of a generation for each parameter, as scipy has it.
POPSIZE = 15
#: Smallest population: scipy mutates a point with four others.
MIN_POPULATION = 5
#: Passed to a search in place of -inf, so that differences of scores are not NaN.
LOWEST = -1e300

SPENT, CONVERGED = 1, 0


def evolution(
    evaluate: Evaluate,
    bounds: Bounds | ArrayLike,
    *,
    maxfun: int | None = None,
    seed: int = 0,
    popsize: int = POPSIZE,
    tol: float = 0.0,
    callback: Callable[[OptimizeResult], object] | None = None,
) -> OptimizeResult:
    """Minimise over a box by ``scipy.optimize.differential_evolution``, a whole generation per call of ``evaluate``.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``: batch float64 (n_points, n_params), C-contiguous and the callee's to keep (scipy
        passes the transpose); scores (n_points,), to be minimised.  Infinite scores are fine.  Its exceptions pass through
        unchanged.
    bounds : sequence of (low, high), or scipy.optimize.Bounds
        The box, one pair for each parameter; finite, low < high.
    maxfun : int, optional
        Points to evaluate at most, 1000 for each parameter by default; at least 5, and one for each parameter.  Only whole
        generations run, so that fewer may be evaluated, and never more.
    seed : int
        Equal seeds visit equal points, if ``evaluate`` gives a point the same score in any batch.
    popsize : int
        Points of a generation for each parameter, as in scipy; fewer where ``maxfun`` leaves no room for one generation, at
        least 5 in all.
    tol : float
        The search has converged when the scores of a generation have a standard deviation of no more than this share of
        their mean; 0: when they are all equal.
    callback : callable, optional
        ``callback(best)`` after every batch, with an ``OptimizeResult`` of ``x``, ``fun``, ``nfev``, ``nit``: the best so
        far.  Raising ``StopIteration`` ends the run with status 99.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (n_params,): the best point, exactly as evaluated, the earliest of equals; ``fun``, its score; ``nfev``: points
        (scipy counts calls); ``nit``: generations, the first included; ``status``, ``success`` (status 0), ``message``.
        Status: 0 converged, 1 ``maxfun``, 99 ``callback``.

    Raises
    ------
    InputError
        An argument breaks a rule.
    ObjectiveError
        ``evaluate`` returned something else than one number a point, or NaN (``params`` holds the point).

    References
    ----------
    .. [1] R. Storn, K. Price, Differential evolution, J. Global Optim. 11 (1997) 341-359.

    Examples
    --------
    >>> from backtest import search
    >>> best = search.evolution(lambda batch: (batch[:, 0] - 1) ** 2 + batch[:, 1] ** 2, [(-4, 5), (-3, 4)], maxfun=3000)
    >>> best.x.round(2).tolist(), best.status, best.nfev
    ([1.0, 0.0], 1, 3000)
    """
    from scipy.optimize import differential_evolution

    if not callable(evaluate):
        raise InputError(f"evaluate must be callable, got {shown(evaluate)}")
    if callback is not None and not callable(callback):
        raise InputError(f"callback must be callable or None, got {shown(callback)}")
    low, high = box(bounds)
    n_params = len(low)
    maxfun = (
        MAXFUN_PER_PARAM * n_params
        if maxfun is None
        else whole("maxfun", maxfun, low=max(MIN_POPULATION, n_params), high=MAX_COUNT)
    )
    seed, popsize = whole("seed", seed, low=0, high=2**32 - 1), whole("popsize", popsize, low=1)
    tol = number("tol", tol, low=0.0, high=1.0)
    popsize = min(popsize, maxfun // n_params)
    generations = maxfun // max(MIN_POPULATION, popsize * n_params)
    generation = _Generation(evaluate, low, high, maxfun, callback)
    best = generation.best
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # scipy squares LOWEST for the standard deviation
            outcome = differential_evolution(
                generation,
                list(zip(low.tolist(), high.tolist(), strict=True)),
                seed=seed,
                vectorized=True,
                updating="deferred",
                polish=False,
                tol=tol,
                atol=0.0,
                popsize=popsize,
                maxiter=generations - 1,
            )
        status = CONVERGED if outcome.success else SPENT
    except _WrappedError as wrapped:
        raise wrapped.error from wrapped.error.__cause__
    except _Stopped as stopped:
        status = stopped.status
    best.status, best.success = status, status == CONVERGED
    best.message = {
        SPENT: f"no generation fits into maxfun={maxfun} any more",
        CALLBACK_STOP: "callback raised StopIteration",
        CONVERGED: f"the scores of a generation are alike to tol={tol:g}",
    }[status]
    return best


class _Generation:
    """Objective as scipy calls it, on a transposed generation of points; keeps the best point so far."""

    def __init__(
        self,
        evaluate: Evaluate,
        low: NDArray[np.float64],
        high: NDArray[np.float64],
        maxfun: int,
        callback: Callable[[OptimizeResult], object] | None,
    ) -> None:
        from scipy.optimize import OptimizeResult

        self.evaluate, self.low, self.high, self.maxfun, self.callback = evaluate, low, high, maxfun, callback
        self.best = OptimizeResult(x=low.copy(), fun=math.inf, nfev=0, nit=0)
        self._floating_errors = np.geterr()  # the caller's settings, restored while its function runs

    def __call__(self, transposed: NDArray[np.float64]) -> NDArray[np.float64]:
        points = np.clip(transposed.T, self.low, self.high)  # scipy's scaling may round past a bound
        if self.best.nfev + len(points) > self.maxfun:  # scipy evaluates a first generation without a finite score again
            raise _Stopped(SPENT)
        try:
            scores = self._scores(points)
        except Exception as error:
            raise _WrappedError(error) from error
        if self.callback is not None:
            try:
                self.callback(type(self.best)(self.best))
            except StopIteration:
                raise _Stopped(CALLBACK_STOP) from None
            except Exception as error:
                raise _WrappedError(error) from error
        return np.where(scores == -math.inf, LOWEST, scores)

    def _scores(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        best = self.best
        with np.errstate(**self._floating_errors):
            scores = checked_scores(self.evaluate(np.ascontiguousarray(points.copy())), len(points))
        if np.isnan(scores).any():
            row = int(np.isnan(scores).argmax())
            raise ObjectiveError(
                f"scores must not be NaN, got nan at x = {points[row].tolist()} (row {row} of batch {best.nit + 1})",
                {"x": points[row].tolist()},
            )
        row = int(scores.argmin())
        if scores[row] < best.fun or not best.nfev:
            best.x, best.fun = points[row].copy(), float(scores[row])
        best.nfev, best.nit = best.nfev + len(points), best.nit + 1
        return scores


class _WrappedError(Exception):
    """Wraps an exception on its way through scipy, which handles ValueError, TypeError and StopIteration itself."""

    def __init__(self, error: Any) -> None:
        super().__init__(said(error))
        self.error = error


class _Stopped(Exception):
    """Ends scipy's search early."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status

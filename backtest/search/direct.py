"""Batched DIRECT: the points of ``scipy.optimize.direct``, one batch per iteration."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import InputError, ObjectiveError, as_array, choice, flag, items, matrix, number, vector, whole
from backtest._said import shown
from backtest.search.ranking import refuse_masked

if TYPE_CHECKING:
    from scipy.optimize import Bounds, OptimizeResult

    Evaluate = Callable[[NDArray[np.float64]], ArrayLike]
    Arrays = dict[str, NDArray[Any]]

#: scipy's defaults; the budget is per dimension.
MAXFUN_PER_PARAM = 1000
MAXITER, EPS, F_MIN_RTOL, VOL_TOL, LEN_TOL = 1000, 1e-4, 1e-4, 1e-16, 1e-6
#: Most rectangles allocated at first; arrays grow as needed.
FIRST_CAPACITY = 1 << 14
#: Cuts of every side for which size classes are allocated at first: 3 ** -40 is below one part in 10 ** 19 of the range.
FIRST_CUTS = 40
#: Largest count that is exact as a float64, as stores hold it.
MAX_COUNT = 1 << 53

CALLBACK_STOP = 99
MESSAGES = {
    1: "more than maxfun={maxfun} evaluations done",
    2: "maxiter={maxiter} iterations done",
    3: "fun is within f_min_rtol={f_min_rtol} of f_min",
    4: "the volume of the best rectangle is below vol_tol={vol_tol}",
    5: "the size of the best rectangle is below len_tol={len_tol}",
    CALLBACK_STOP: "callback raised StopIteration",
}


def direct(
    evaluate: Evaluate,
    bounds: Bounds | ArrayLike,
    *,
    eps: float = EPS,
    maxfun: int | None = None,
    maxiter: int = MAXITER,
    locally_biased: bool = True,
    f_min: float = -math.inf,
    f_min_rtol: float = F_MIN_RTOL,
    vol_tol: float = VOL_TOL,
    len_tol: float = LEN_TOL,
    callback: Callable[[OptimizeResult], object] | None = None,
    selection: str = "relaxed",
    nan: str = "raise",
) -> OptimizeResult:
    """Minimise over a box by dividing rectangles, a whole iteration per call of ``evaluate``.

    Visits the points of ``scipy.optimize.direct``, in its order, bit for bit, if ``evaluate`` gives a point the same
    score in any batch; only the calls differ: one for the first 2 n + 1 points, then one an iteration.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``: batch float64 (n_points, n_params), C-contiguous and the callee's to keep; scores
        (n_points,), to be minimised. Infinite scores are fine. Its exceptions pass through unchanged.
    bounds : sequence of (low, high), or scipy.optimize.Bounds
        The box, one pair for each parameter; finite, low < high.
    eps : float
        How much better than the best, as a fraction of its absolute score, a rectangle must promise to be in order to be
        divided. Smaller is more local.
    maxfun : int, optional
        Evaluations, 1000 for each parameter by default. Soft, as in scipy: after the first two batches and
        every one that follows, the run ends if more than ``maxfun``, rounded down to even, are done.
    maxiter : int
        As in scipy: the first batch, and ``maxiter - 2`` iterations after it.
    locally_biased : bool
        True measures a rectangle by its longest side and divides one of each size (DIRECT-L); False, the original, by its
        diagonal, and divides all with equal scores: more global, better on many local minima.
    f_min : float
        Score of the optimum, where it is known.
    f_min_rtol : float
        Stop when ``(fun - f_min) / abs(f_min)`` is no more than this (``f_min = 0`` counts as 1 in the denominator).
    vol_tol : float
        Stop when the best rectangle's volume is no more than this fraction of the box; 0 never stops.
    len_tol : float
        Stop when the best rectangle's size is no more than this; 0 never stops. Size is the longest side
        (``locally_biased=True``; the whole side, where scipy's documentation says half) or half the diagonal, of the
        unit cube.
    callback : callable, optional
        ``callback(best)`` after every batch, with an ``OptimizeResult`` of ``x``, ``fun``, ``nfev``, ``nit``: the best so
        far (scipy passes the last point evaluated). Raising ``StopIteration`` ends the run with status 99.
    selection : {"relaxed", "strict"}
        What to do with a rectangle above the lower hull of (size, score): "relaxed" keeps it, as scipy 1.9 to 1.17 does,
        "strict" drops it, as the papers and NLopt do.
    nan : {"raise", "inf"}
        A NaN score is an error, or counts as infinitely bad.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` (n_params,): the best point, exactly as evaluated; ``x_scipy``: the same as scipy reports it, which
        rounds differently; ``fun``, ``nfev`` (points), ``nit`` (scipy's count: the first batch is
        1), ``status``, ``success`` (status 3, 4 or 5), ``message``. Status: 1 ``maxfun``, 2 ``maxiter``, 3 ``f_min``,
        4 ``vol_tol``, 5 ``len_tol``, 99 ``callback``.

    Raises
    ------
    InputError
        An argument breaks a rule.
    ObjectiveError
        ``evaluate`` returned something else than one number a point, or NaN (``params`` holds the point).

    Notes
    -----
    Where scipy aborts for lack of memory (status -4, one iteration larger than its reserve; -6, more than 5,000 rectangles
    chosen) or caps ``maxfun`` to stay below 1 GiB, this continues. Memory is ``40 + 12 * n_params`` bytes a point, up to
    three times that while the arrays grow.

    References
    ----------
    .. [1] D. R. Jones, C. D. Perttunen, B. E. Stuckman, Lipschitzian optimization without the Lipschitz constant,
       J. Optim. Theory Appl. 79 (1993) 157-181.
    .. [2] J. M. Gablonsky, C. T. Kelley, A locally-biased form of the DIRECT algorithm, J. Global Optim. 21 (2001) 27-37.

    Examples
    --------
    >>> from backtest import search
    >>> best = search.direct(lambda batch: (batch[:, 0] - 1) ** 2 + batch[:, 1] ** 2, [(-4, 5), (-3, 4)], maxfun=300)
    >>> best.x.round(2).tolist(), best.status
    ([1.0, 0.0], 1)
    """
    from scipy.optimize import OptimizeResult

    if not callable(evaluate):
        raise InputError(f"evaluate must be callable, got {shown(evaluate)}")
    if callback is not None and not callable(callback):
        raise InputError(f"callback must be callable or None, got {shown(callback)}")
    low, high = box(bounds)
    width, n_params = high - low, len(low)
    options = _checked(
        _Options(eps, maxfun, maxiter, locally_biased, f_min, f_min_rtol, vol_tol, len_tol, selection, nan), n_params
    )
    kernel = _backend.kernel("direct")
    state, budget = _state(kernel, n_params, options)
    ratio = low / width
    # The last iteration may overshoot the budget by an amount unknown until its rectangles are chosen.
    arrays = _allocate(n_params, min(budget + 64 * n_params, FIRST_CAPACITY), FIRST_CUTS * n_params)
    state.bind(ratio, width, **arrays)
    n_new = kernel.start(state)
    while True:
        if not kernel.fits(state):
            arrays = _grown(arrays, state.n_points, n_new, state.deepest)
            state.bind(ratio, width, **arrays)
        batch = np.empty((n_new, n_params))
        kernel.sample(state, batch)
        status = _updated(kernel, state, checked_scores(evaluate(batch), n_new), options.nan)
        if callback is not None:
            centre = arrays["centre"][state.best]
            best = OptimizeResult(x=(centre + ratio) * width, fun=state.fun, nfev=state.n_points, nit=state.iteration)
            try:
                callback(best)
            except StopIteration:
                status = CALLBACK_STOP
        if status:
            break
        n_new = kernel.select(state)
    return _result(state, arrays["centre"][state.best], ratio, width, status, options)


def _result(
    state: Any,
    centre: NDArray[np.float64],
    ratio: NDArray[np.float64],
    width: NDArray[np.float64],
    status: int,
    options: _Options,
) -> OptimizeResult:
    from scipy.optimize import OptimizeResult

    return OptimizeResult(
        x=(centre + ratio) * width,
        x_scipy=centre * width + width * ratio,
        fun=state.fun,
        nfev=state.n_points,
        nit=state.iteration + 1 if status == 2 else state.iteration,  # scipy's counter is one further when its loop is exhausted
        status=status,
        success=status in (3, 4, 5),
        message=MESSAGES[status].format(**options._asdict()),
    )


class _Options(NamedTuple):
    """Options of :func:`direct`."""

    eps: float
    maxfun: Any
    maxiter: int
    locally_biased: bool
    f_min: float
    f_min_rtol: float
    vol_tol: float
    len_tol: float
    selection: str
    nan: str


def _checked(given: _Options, n_params: int) -> _Options:
    """Checked options, with defaults filled in."""
    maxfun = MAXFUN_PER_PARAM * n_params if given.maxfun is None else whole("maxfun", given.maxfun, low=1, high=MAX_COUNT)
    maxiter = whole("maxiter", given.maxiter, low=1, high=MAX_COUNT)
    shares: dict[str, Any] = {
        name: number(name, getattr(given, name), low=0.0, high=1.0) for name in ("f_min_rtol", "vol_tol", "len_tol")
    }
    f_min = number("f_min", given.f_min, infinite=True)
    if f_min == math.inf:
        raise InputError(f"f_min must be < inf, got {shown(f_min)}")
    choice("nan", given.nan, ("raise", "inf"))
    choice("selection", given.selection, ("relaxed", "strict"))
    eps, locally_biased = number("eps", given.eps, low=0.0), flag("locally_biased", given.locally_biased)
    return given._replace(maxfun=maxfun, maxiter=maxiter, f_min=f_min, eps=eps, locally_biased=locally_biased, **shares)


def _state(kernel: Any, n_params: int, options: _Options) -> tuple[Any, int]:
    """The kernel's state, and its budget of evaluations."""
    budget = options.maxfun - options.maxfun % 2  # scipy's 2 * (maxfun + maxfun // 2) // 3, from the size of its buffers
    state = kernel.State(
        n_params,
        options.eps,
        budget,
        options.maxiter,
        options.locally_biased,
        options.selection == "strict",
        options.f_min,
        options.f_min_rtol,
        options.vol_tol or -1.0,
        options.len_tol or -1.0,
    )
    return state, budget


def _updated(kernel: Any, state: Any, scores: NDArray[np.float64], nan: str) -> int:
    """The status after a batch's scores."""
    status = kernel.update(state, scores)
    if status == kernel.NAN:
        if nan == "raise":
            _refuse_nan(kernel, state, scores)
        status = kernel.update(state, np.where(np.isnan(scores), math.inf, scores))
    return int(status)


def box(bounds: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bounds, checked."""
    if hasattr(bounds, "lb") and hasattr(bounds, "ub"):  # scipy's Bounds
        low, high = (
            vector(f"bounds.{name}", np.atleast_1d(as_array(f"bounds.{name}", getattr(bounds, name)))) for name in ("lb", "ub")
        )
        if len(low) != len(high):
            raise InputError(f"bounds must have as many lower as upper bounds, got {len(low)} and {len(high)}")
    else:
        pairs = matrix("bounds", bounds if isinstance(bounds, np.ndarray) else items("bounds", bounds), shape=(None, 2))
        low, high = pairs[:, 0].copy(), pairs[:, 1].copy()
    if not len(low):
        raise InputError("bounds must hold at least one (low, high) pair, got none")
    for row, (a, b) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if not a < b:
            raise InputError(f"bounds must have low < high, got {(a, b)} (row {row})")
        if math.isinf(b - a):
            raise InputError(f"bounds must have a finite width, got {(a, b)} (row {row})")
    return low, high


def _allocate(n_params: int, capacity: int, n_classes: int) -> Arrays:
    """Arrays of ``State.bind`` for so many rectangles and size classes; the kernel defines their contents."""
    capacity, n_classes = max(capacity, 2 * n_params + 2), max(n_classes, 2 * n_params + 2)
    return {
        "centre": np.empty((capacity, n_params)),
        "exponent": np.empty((capacity, n_params), dtype=np.intc),
        "value": np.empty(capacity),
        "rank": np.empty(capacity, dtype=np.intp),
        "child": np.empty(capacity, dtype=np.intp),
        "sibling": np.empty(capacity, dtype=np.intp),
        "chosen": np.empty(capacity, dtype=np.intp),
        "head": np.full(n_classes, -1, dtype=np.intp),
        "waiting": np.full(n_classes, -1, dtype=np.intp),
        "third": np.empty(n_classes),
        "size": np.empty(n_classes),
        "least": np.empty(n_params),
        "order": np.empty(n_params, dtype=np.intp),
        "side": np.empty(n_params, dtype=np.intp),
    }


def _grown(arrays: Arrays, n_points: int, n_new: int, deepest: int) -> Arrays:
    """Larger arrays with the old contents; at least doubled, so that growth is amortised."""
    n_params = len(arrays["least"])
    capacity, n_classes = len(arrays["value"]), len(arrays["head"])
    if n_points + n_new > capacity:
        capacity = max(2 * capacity, n_points + n_new)
    if deepest + n_params + 1 >= n_classes:
        n_classes = max(2 * n_classes, deepest + n_params + 2)
    larger = _allocate(n_params, capacity, n_classes)
    for name, old in arrays.items():
        larger[name][: len(old)] = old
    return larger


def checked_scores(scores: Any, n_points: int) -> NDArray[np.float64]:
    """What ``evaluate`` returned as a float64 vector, one number a point, checked."""
    if type(scores) is np.ndarray and scores.dtype == np.float64 and scores.shape == (n_points,):
        return np.ascontiguousarray(scores)
    refuse_masked(scores)
    try:
        array = np.asarray(scores)
    except (TypeError, ValueError, OverflowError):  # ragged lists
        raise ObjectiveError(f"evaluate must return {n_points} numbers, got {type(scores).__name__}") from None
    if array.dtype.kind not in "iuf":
        raise ObjectiveError(f"evaluate must return numbers, got {type(scores).__name__} of dtype {array.dtype}")
    if array.shape != (n_points,):
        raise ObjectiveError(f"evaluate must return scores of shape ({n_points},), got shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)


def _refuse_nan(kernel: Any, state: Any, scores: NDArray[np.float64]) -> None:
    row = int(np.isnan(scores).argmax())
    batch = np.empty((len(scores), state.n_params))
    kernel.sample(state, batch)  # again: evaluate may have overwritten its batch
    point = batch[row].tolist()
    raise ObjectiveError(
        f"scores must not be NaN, got nan at x = {point} (row {row} of batch {state.iteration}); "
        "nan='inf' counts NaN as infinitely bad",
        {"x": point},
    )

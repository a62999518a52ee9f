"""Grid: every candidate of a finite space once, in compiled batches and a seeded order, keeping the best."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, ObjectiveError, SpaceError, number, whole
from backtest.search.order import Order
from backtest.space import Space

Floats = NDArray[np.float64]

#: Large enough that the cost of a call vanishes, small enough that an interruption loses little.
BATCH = 16_384

DONE, INTERRUPTED, TIMED_OUT = 0, 1, 2


def grid(evaluate: Callable[[Floats], Floats], space: Space, *, rank: Callable[[Floats], Floats] | None = None,
         n_trials: int | None = None, keep: int = 1, seed: int = 0, batch_size: int = BATCH, timeout: float | None = None,
         callback: Callable[[Any], None] | None = None) -> Any:
    """Evaluate the candidates of a finite space and keep the best.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``: batch float64 (n_candidates, n_params), scores (n_candidates,) to minimise, or
        (n_candidates, n_metrics) together with ``rank``.
    space : Space
        Finite.
    rank : callable, optional
        ``rank(scores) -> (n_candidates,)``, to minimise.
    n_trials : int, optional
        Distinct candidates to evaluate, drawn in seeded order; all by default.
    keep : int
        Best candidates to keep.
    seed : int
        Order of evaluation.  A sweep of everything visits blocks of neighbours in seeded order, so that an interrupted
        one has seen the whole space coarsely.
    batch_size : int
        Candidates per call of ``evaluate``.
    timeout : float, optional
        Seconds after which no further batch starts.
    callback : callable, optional
        Called after each batch with the result so far: ``x``, ``fun``, ``nfev``, ``total``.

    Returns
    -------
    scipy.optimize.OptimizeResult
        ``x`` and ``fun`` of the best candidate (ties: first in enumeration order), ``nfev``; of the kept ones, best
        first: ``numbers`` (enumeration order), ``batch``, ``scores``, ``objective``; ``status`` 0 done, 1 interrupted
        (Ctrl-C), 2 timed out; ``success``, ``message``.

    Raises
    ------
    SpaceError
        The space is not finite.
    ObjectiveError
        ``evaluate`` returned another shape than one score per candidate.
    """
    from scipy.optimize import OptimizeResult

    size, keep, batch_size = len(space), whole("keep", keep, low=1), whole("batch_size", batch_size, low=1)
    whole("seed", seed, low=0)
    if timeout is not None:
        number("timeout", timeout, low=0.0, open_low=True)
    total = size if n_trials is None else min(whole("n_trials", n_trials, low=1), size)
    best = Kept(keep, len(space.names))
    result = OptimizeResult(nfev=0, status=DONE, total=total)
    begun = time.monotonic()
    try:
        for positions in _batches(size, total, batch_size, seed):
            if timeout is not None and time.monotonic() - begun > timeout:
                result.status = TIMED_OUT
                break
            numbers, batch = space.candidates(positions)
            drawn = slice(total - result.nfev)  # by draw, so that the sample does not depend on how it is cut
            nearby = np.argsort(numbers[drawn])  # neighbours side by side
            numbers, batch = numbers[drawn][nearby], batch[drawn][nearby]
            if not len(batch):
                continue
            scores = np.asarray(evaluate(batch), dtype=np.float64)
            objective = scores if rank is None else rank(scores)
            if objective.shape != (len(batch),):
                raise ObjectiveError(f"evaluate must return one score per candidate ({len(batch)}), got shape {scores.shape}")
            if np.isnan(objective).any():
                row = int(np.isnan(objective).argmax())
                raise ObjectiveError(
                    f"evaluate must not return NaN, got it at {space.decode(batch[row])}", space.decode(batch[row])
                )
            best.add(numbers, batch, scores, objective)
            result.nfev += len(batch)
            if callback is not None:
                callback(best.first(result))
            if result.nfev == total:
                break
    except KeyboardInterrupt:
        result.status = INTERRUPTED
    if not result.nfev:
        if result.status == DONE:
            raise SpaceError("where must leave at least one candidate, got none")
        if result.status == INTERRUPTED:
            raise KeyboardInterrupt  # nothing was evaluated, so there is nothing to return
        raise InputError(f"timeout must leave time for one batch, got {timeout!r}")
    result.success = result.status == DONE
    ended = {DONE: "done", INTERRUPTED: "interrupted", TIMED_OUT: "timed out"}[result.status]
    result.message = f"{ended}: {result.nfev:,} of {total:,} candidates evaluated"
    return best.fill(result)


def _batches(size: int, total: int, batch_size: int, seed: int) -> Any:
    if total < size:  # a sample; more positions than candidates may be needed where only an upper bound is known
        order = Order(size, seed)
        for start in range(0, size, batch_size):
            yield order(start, min(start + batch_size, size))
        return
    n_blocks = -(-size // batch_size)
    order = Order(n_blocks, seed)
    for at in range(n_blocks):
        block = int(order(at, at + 1)[0])
        yield np.arange(block * batch_size, min((block + 1) * batch_size, size), dtype=np.int64)


class Kept:
    """The best candidates so far; ties go to the lower number.

    What may have a place waits until there is as much of it as there are places: sorting then costs next to nothing.
    """

    def __init__(self, keep: int, n_params: int) -> None:
        self.keep = keep
        self.numbers, self.batch = np.empty(0, dtype=np.int64), np.empty((0, n_params))
        self.objective = np.empty(0)
        self.scores: Floats | None = None
        self._waiting: list[tuple[NDArray[np.int64], Floats, Floats, Floats]] = []
        self._x, self._fun, self._number = np.empty(0), np.inf, -1

    def add(self, numbers: NDArray[np.int64], batch: Floats, scores: Floats, objective: Floats) -> None:
        """Let a batch compete for a place."""
        self._take_first(numbers, batch, objective)
        if len(self.objective) == self.keep:  # most of a long sweep ends here
            near = np.flatnonzero(objective <= self.objective[-1])
            numbers, batch, scores, objective = numbers[near], batch[near], scores[near], objective[near]
        if len(numbers):
            self._waiting.append((numbers, batch, scores, objective))
        if sum(len(waiting[0]) for waiting in self._waiting) >= self.keep:
            self._sort()

    def _take_first(self, numbers: NDArray[np.int64], batch: Floats, objective: Floats) -> None:
        ties = np.flatnonzero(objective == objective.min())
        first = int(ties[numbers[ties].argmin()])
        if self._number < 0 or (objective[first], numbers[first]) < (self._fun, self._number):
            self._x, self._fun, self._number = batch[first].copy(), float(objective[first]), int(numbers[first])

    def _sort(self) -> None:
        parts = [(self.numbers, self.batch, self.scores, self.objective), *self._waiting]
        self._waiting = []
        numbers, batch, objective = (np.concatenate([part[column] for part in parts]) for column in (0, 1, 3))
        scores = np.concatenate([part[2] for part in parts if part[2] is not None])
        chosen = np.lexsort((numbers, objective))[: self.keep]
        self.numbers, self.batch, self.scores, self.objective = numbers[chosen], batch[chosen], scores[chosen], objective[chosen]

    def first(self, result: Any) -> Any:
        """``result`` with the best candidate."""
        result.x, result.fun = self._x, self._fun
        return result

    def fill(self, result: Any) -> Any:
        """``result`` with all that is kept, best first."""
        self._sort()
        result.numbers, result.batch, result.scores, result.objective = self.numbers, self.batch, self.scores, self.objective
        return self.first(result)

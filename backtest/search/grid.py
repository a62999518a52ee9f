"""Grid search: every candidate of a finite space once, in batches and a seeded order, keeping the best."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import FallbackWarning, InputError, SpaceError, called, instance, number, whole
from backtest._said import shown
from backtest.enumeration import VisitOrder
from backtest.search.ranking import DONE, ENDED, INTERRUPTED, TIMED_OUT, TopK, evaluated
from backtest.space import Space

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: Numbers of candidates in the space, and their rows.
Candidates = tuple[NDArray[np.int64], Floats]

#: Large enough to amortise the cost of a call, small enough that an interruption loses little.
BATCH = 16_384
#: Most growth of a timed batch from one to the next, and its largest size.
MAX_GROWTH, MAX_BATCH = 4, 1 << 20
#: Most positions in a row without a candidate, if there is no timeout.
MAX_EMPTY = 10_000_000


def grid(
    evaluate: Callable[[Floats], Floats],
    space: Space,
    *,
    rank: Callable[[Floats], Floats] | None = None,
    n_trials: int | None = None,
    keep: int = 1,
    seed: int = 0,
    batch_size: int = BATCH,
    seconds: float | None = None,
    timeout: float | None = None,
    callback: Callable[[Any], None] | None = None,
) -> Any:
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
        Candidates per call of ``evaluate``, at most.
    seconds : float, optional
        Smaller batches, so that a call takes about this long, which bounds the loss by an interruption and the overrun of a
        timeout.
    timeout : float, optional
        Seconds after which no further batch starts.  Without one, a search ends, with a warning, when 10,000,000 positions in a
        row of a space that is too large to be counted hold no candidate.
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

    called("evaluate", evaluate)
    instance("space", space, Space)
    for name, function in (("rank", rank), ("callback", callback)):
        if function is not None:
            called(name, function)
    size, keep, batch_size = len(space), whole("keep", keep, low=1), whole("batch_size", batch_size, low=1)
    whole("seed", seed, low=0)
    for name, each in (("seconds", seconds), ("timeout", timeout)):
        if each is not None:
            number(name, each, low=0.0, open_low=True)
    total = size if n_trials is None else min(whole("n_trials", n_trials, low=1), size)
    best = TopK(keep, len(space.names))
    result = OptimizeResult(nfev=0, status=DONE, total=total)
    started = time.monotonic()
    limit = SearchLimit(math.inf if timeout is None else started + timeout)
    try:
        for numbers, batch in _timed_batches(_candidate_batches(space, total, batch_size, seed, limit), seconds):
            if timeout is not None and time.monotonic() - started > timeout:
                result.status = TIMED_OUT
                break
            if not len(batch):
                continue
            scores, objective = evaluated(evaluate, rank, batch, space)
            best.add(numbers, batch, scores, objective)
            result.nfev += len(batch)
            if callback is not None:
                callback(best.first(result))
    except KeyboardInterrupt:
        result.status = INTERRUPTED
    if not result.nfev:
        if result.status == INTERRUPTED:
            raise KeyboardInterrupt("the search was interrupted before its first batch ended: there is no result so far")
        so_far = f": {limit.message(space)}" if limit.n_empty else ""
        if result.status == DONE:
            raise SpaceError(f"where must leave at least one candidate, got none{so_far}")
        raise InputError(f"timeout must leave time for one batch, got {shown(timeout)}{so_far}")
    result.success = result.status == DONE
    result.message = f"{ENDED[result.status]}: {result.nfev:,} of {total:,} candidates evaluated"
    if limit.is_exhausted:
        limit.warn(space, result.nfev, stacklevel=2)
        result.message += f"; {limit.message(space)}"
    return best.fill(result)


def _timed_batches(batches: Iterable[Candidates], seconds: float | None) -> Iterator[Candidates]:
    """Batches cut so that the caller takes about ``seconds`` for each; the first is one candidate."""
    if seconds is None:
        yield from batches
        return
    n_rows = 1
    for numbers, batch in batches:
        if not len(batch):
            yield numbers, batch
        start = 0
        while start < len(batch):
            rows, started = slice(start, start + n_rows), time.monotonic()
            yield numbers[rows], batch[rows]
            start += n_rows
            fit = n_rows * seconds / max(time.monotonic() - started, 1e-9)
            n_rows = int(min(max(fit, 1.0), MAX_GROWTH * n_rows, MAX_BATCH))


def _candidate_batches(space: Space, total: int, batch_size: int, seed: int, limit: SearchLimit) -> Iterator[Candidates]:
    """Numbers and rows of up to ``total`` candidates, batch by batch; a batch may be empty."""
    left = total
    for positions in _batches(len(space), total, batch_size, seed):
        numbers, batch = space.candidates(positions)
        numbers, batch = numbers[:left], batch[:left]  # before sorting, so that the sample does not depend on the batch size
        order = np.argsort(numbers)  # neighbours together: they share work
        limit.record(len(positions), len(batch))
        yield numbers[order], batch[order]
        left -= len(batch)
        if not left or limit.is_exhausted:
            return


def _batches(size: int, total: int, batch_size: int, seed: int) -> Any:
    if total < size:  # a sample; may need more positions than candidates if the size is an upper bound
        order = VisitOrder(size, seed)
        for start in range(0, size, batch_size):
            yield order(start, min(start + batch_size, size))
        return
    n_blocks = -(-size // batch_size)
    order = VisitOrder(n_blocks, seed)
    for at in range(n_blocks):
        block = int(order(at, at + 1)[0])
        yield np.arange(block * batch_size, min((block + 1) * batch_size, size), dtype=np.int64)


class SearchLimit:
    """When to give up the search for the next candidate, if ``where`` refuses most positions.

    Parameters
    ----------
    deadline : float
        ``time.monotonic()`` at which the search ends; if finite, the number of positions is not limited.
    is_stopping : callable, optional
        Whether to end for another reason, such as a signal.

    Attributes
    ----------
    n_empty : int
        Positions visited since the last candidate.
    """

    def __init__(self, deadline: float = math.inf, is_stopping: Callable[[], bool] | None = None) -> None:
        self.deadline, self.is_stopping, self.n_empty = deadline, is_stopping, 0

    def record(self, n_positions: int, n_found: int) -> None:
        """Count visited positions; ``n_found`` of them held a candidate, new or known."""
        self.n_empty = 0 if n_found else self.n_empty + n_positions

    @property
    def is_exhausted(self) -> bool:
        """Whether too many positions in a row held none."""
        return self.deadline == math.inf and self.n_empty >= MAX_EMPTY

    def allows_more(self) -> bool:
        """Whether to visit another block; always true directly after a candidate."""
        return not self.n_empty or not (self.is_exhausted or self.is_time_up())

    def is_time_up(self) -> bool:
        """Whether the deadline has passed, or ``is_stopping``."""
        return time.monotonic() >= self.deadline or (self.is_stopping is not None and self.is_stopping())

    def message(self, space: Space) -> str:
        """How many positions in a row held no candidate."""
        return f"{self.n_empty:,} positions in a row held no candidate of where={space.where!r}"

    def warn(self, space: Space, n_found: int, stacklevel: int) -> None:
        """Warn that a search ends for lack of candidates."""
        warnings.warn(
            f"the search ends with the {n_found:,} candidates it found: {self.message(space)}; give a timeout to look on, "
            "or narrower ranges",
            FallbackWarning,
            stacklevel=stacklevel + 1,
        )

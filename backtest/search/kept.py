"""What searches over a space share: a batch's scores checked, the best candidates kept, and how a search ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import ObjectiveError
from backtest.space import Space

Floats = NDArray[np.float64]

DONE, INTERRUPTED, TIMED_OUT = 0, 1, 2
#: What a search's message begins with, by status.
ENDED = {DONE: "done", INTERRUPTED: "interrupted", TIMED_OUT: "timed out"}


def evaluated(
    evaluate: Callable[[Floats], Any], rank: Callable[[Floats], Floats] | None, batch: Floats, space: Space
) -> tuple[Floats, Floats]:
    """Scores of a batch, and of them what to minimise, (n_candidates,).

    Raises
    ------
    ObjectiveError
        No numbers, another shape than one score per candidate, masked scores, or NaN; ``params`` holds the candidate.
    """
    scores = numbers(evaluate(batch))
    objective = scores if rank is None else numbers(rank(scores))
    if objective.shape != (len(batch),):
        raise ObjectiveError(f"evaluate must return one score per candidate ({len(batch)}), got shape {scores.shape}")
    if np.isnan(objective).any():
        params = space.decode(batch[int(np.isnan(objective).argmax())])
        raise ObjectiveError(f"evaluate must not return NaN, got it at {params}", params)
    return scores, objective


def numbers(scores: Any) -> Floats:
    """What ``evaluate`` returned as float64s.

    Raises
    ------
    ObjectiveError
        It holds something else than numbers, or a masked array of which some are masked: what lies below a mask is no score.
    """
    if type(scores) is np.ndarray and scores.dtype == np.float64:
        return scores
    refuse_masked(scores)
    try:
        array = np.asarray(scores)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"dtype {array.dtype}")
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ObjectiveError(f"evaluate must return numbers, got {type(scores).__name__}: {error}") from None


def refuse_masked(scores: Any) -> None:
    """Refuse scores of which some are masked."""
    if isinstance(scores, np.ma.MaskedArray) and np.ma.getmaskarray(scores).any():
        n_masked = int(np.ma.getmaskarray(scores).sum())
        raise ObjectiveError(
            f"evaluate must return a score for each candidate, got a masked array with {n_masked:,} of "
            f"{scores.size:,} masked; scores.filled(...) says what they count as"
        )


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

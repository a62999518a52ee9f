"""Shared by searches: checks of scores, the best candidates, and the distribution of a metric over all candidates."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, ObjectiveError, number
from backtest.metrics import objective
from backtest.space import Space

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

DONE, INTERRUPTED, TIMED_OUT = 0, 1, 2
#: What a search's message begins with, by status.
ENDED = {DONE: "done", INTERRUPTED: "interrupted", TIMED_OUT: "timed out"}
#: Low bits of a float64 that buckets ignore: 7 of 52 bits of the fraction remain, so buckets are 1/128 wide.
_IGNORED_BITS = 45
#: Quantiles in :meth:`Distribution.summary`.
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Distribution:
    """Counts, moments and quantiles of the values added.

    Values fall into buckets by their sign, exponent and leading bits, so a quantile is accurate to 0.4 % in any range,
    and independent of the order and batches in which values were added; moments depend on them in their last bits.  Memory is
    bounded by the number of buckets: a few hundred for a metric, whatever the number of candidates.

    Attributes
    ----------
    n : int
        Values added, undefined ones included.
    n_undefined : int
        NaN among them; they take no part in the rest.
    min, max : float
        Infinities included; NaN of nothing.
    mean, std : float
        Of the finite values (std with ddof=1); NaN of nothing.
    """

    def __init__(self) -> None:
        self.n = self.n_undefined = self._n_finite = 0
        self.min = self.max = self.mean = math.nan
        self._squares = 0.0  # sum of squared deviations from the mean
        self._buckets: Counter[int] = Counter()

    def __len__(self) -> int:
        return self.n

    def __repr__(self) -> str:
        return (
            f"Distribution(n={self.n}, undefined={self.n_undefined}, mean={self.mean:.6g}, std={self.std:.6g}, "
            f"median={self.quantile(0.5):.6g}, min={self.min:.6g}, max={self.max:.6g})"
        )

    def add(self, values: Floats) -> None:
        """Add values, float64 (n,)."""
        defined = values[~np.isnan(values)]
        self.n += len(values)
        self.n_undefined += len(values) - len(defined)
        if not len(defined):
            return
        self.min, self.max = np.fmin(self.min, defined.min()).item(), np.fmax(self.max, defined.max()).item()
        keys, counts = np.unique(_bucket(defined), return_counts=True)
        self._buckets.update(dict(zip(keys.tolist(), counts.tolist(), strict=True)))
        finite = defined[np.isfinite(defined)]
        if len(finite):
            with np.errstate(over="ignore", invalid="ignore"):  # squares of what is larger than 1e154 are infinite
                mean = finite.mean()
                self._merge(len(finite), float(mean), float(((finite - mean) ** 2).sum()))

    def _merge(self, n: int, mean: float, squares: float) -> None:
        """Combine the moments of two parts (Chan, Golub and LeVeque 1979)."""
        if not self._n_finite:
            self._n_finite, self.mean, self._squares = n, mean, squares
            return
        total, delta = self._n_finite + n, mean - self.mean
        self._squares += squares + delta * delta * (self._n_finite * n / total)
        self.mean += delta * (n / total)
        self._n_finite = total

    @property
    def std(self) -> float:
        """Standard deviation of the finite values, ddof=1."""
        return math.sqrt(self._squares / (self._n_finite - 1)) if self._n_finite > 1 else math.nan

    def quantile(self, q: float) -> float:
        """The value that a share ``q`` of the defined values does not exceed, to 0.4 %."""
        number("q", q, low=0.0, high=1.0)
        cumulative, target = 0, q * (self.n - self.n_undefined)
        for key in sorted(self._buckets):
            cumulative += self._buckets[key]
            if cumulative >= target:
                return min(max(_middle(key), self.min), self.max)
        return math.nan

    def histogram(self, edges: Sequence[float]) -> NDArray[np.int64]:
        """Number of values in each of the bins between ascending ``edges``, by the middle of their buckets."""
        at = np.asarray(edges, dtype=np.float64)
        if at.ndim != 1 or len(at) < 2 or not (np.diff(at) > 0).all():
            raise InputError(f"edges must be two or more ascending numbers, got {edges!r}")
        middles = np.array([min(max(_middle(key), self.min), self.max) for key in self._buckets], dtype=np.float64)
        weights = np.array(list(self._buckets.values()), dtype=np.int64)
        return np.histogram(middles, bins=at, weights=weights)[0].astype(np.int64)

    def summary(self) -> pd.Series[float]:
        """Counts, moments and quantiles, by name."""
        import pandas as pd

        values: dict[str, Any] = {
            "n": self.n,
            "n_undefined": self.n_undefined,
            "mean": self.mean,
            "std": self.std,
            "min": self.min,
        }
        values |= {f"{q:.0%}": self.quantile(q) for q in QUANTILES}
        return pd.Series(values | {"max": self.max}, dtype=np.float64)


class Ranking:
    """The objective that a search over a metric minimises, and the distribution of the metric over evaluated candidates.

    Parameters
    ----------
    metric : str
    min_trades : int
        Candidates with fewer rank last.
    column : int
        Column of the metric in the scores.
    n_trades : callable
        ``n_trades(scores) -> (n_candidates,)``.
    """

    def __init__(self, metric: str, min_trades: int, column: int, n_trades: Callable[[Floats], Floats]) -> None:
        self.metric, self.min_trades, self.column, self.n_trades = metric, min_trades, column, n_trades
        self.distribution = Distribution()
        self.should_count: Callable[[], bool] = lambda: True  # whether the scores were evaluated, not stored

    def __call__(self, scores: Floats) -> Floats:
        """Objective of each candidate, float64 (n_candidates,); the metric is added to the distribution."""
        if self.should_count():
            self.distribution.add(np.ascontiguousarray(scores[:, self.column]))
        return self.objective(scores)

    def objective(self, scores: Floats) -> Floats:
        """Objective of each candidate, float64 (n_candidates,), to minimise."""
        return objective(np.ascontiguousarray(scores[:, self.column]), self.metric, self.n_trades(scores), self.min_trades)


def _bucket(values: Floats) -> NDArray[np.int64]:
    """Number of the bucket of each value, ascending with it; 0 holds zero only."""
    size = (np.abs(values).view(np.int64) >> _IGNORED_BITS) + 1
    return np.where(values > 0, size, np.where(values < 0, -size, 0))


def _middle(key: int) -> float:
    if key == 0:
        return 0.0
    low, high = (np.int64((abs(key) - 1 + edge) << _IGNORED_BITS).view(np.float64).item() for edge in (0, 1))
    if low < math.inf <= high:
        high = sys.float_info.max
    return math.copysign(low if low == math.inf else low / 2 + high / 2, key)


def evaluated(
    evaluate: Callable[[Floats], Any], rank: Callable[[Floats], Floats] | None, batch: Floats, space: Space
) -> tuple[Floats, Floats]:
    """Scores of a batch, and the objective to minimise, (n_candidates,).

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


class TopK:
    """The best candidates so far; ties go to the lower number.

    Candidates that may be among the best are buffered until there are ``keep`` of them, which amortises sorting.
    """

    def __init__(self, keep: int, n_params: int) -> None:
        self.keep = keep
        self.numbers, self.batch = np.empty(0, dtype=np.int64), np.empty((0, n_params))
        self.objective = np.empty(0)
        self.scores: Floats | None = None
        self._buffer: list[tuple[NDArray[np.int64], Floats, Floats, Floats]] = []
        self._x, self._fun, self._number = np.empty(0), np.inf, -1

    def add(self, numbers: NDArray[np.int64], batch: Floats, scores: Floats, objective: Floats) -> None:
        """Add a batch."""
        self._update_first(numbers, batch, objective)
        if len(self.objective) == self.keep:  # in a long sweep this removes most
            near = np.flatnonzero(objective <= self.objective[-1])
            numbers, batch, scores, objective = numbers[near], batch[near], scores[near], objective[near]
        if len(numbers):
            self._buffer.append((numbers, batch, scores, objective))
        if sum(len(part[0]) for part in self._buffer) >= self.keep:
            self._sort()

    def _update_first(self, numbers: NDArray[np.int64], batch: Floats, objective: Floats) -> None:
        ties = np.flatnonzero(objective == objective.min())
        first = int(ties[numbers[ties].argmin()])
        if self._number < 0 or (objective[first], numbers[first]) < (self._fun, self._number):
            self._x, self._fun, self._number = batch[first].copy(), float(objective[first]), int(numbers[first])

    def _sort(self) -> None:
        parts = [(self.numbers, self.batch, self.scores, self.objective), *self._buffer]
        self._buffer = []
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

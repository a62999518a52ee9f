"""What was tried, remembered once: a candidate that comes again is answered, not evaluated."""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np
from cachetools import Cache
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class TrialCache:
    """Scores by candidate, as long as the search lives.

    Unbounded: an entry that had to go would come back as a duplicate.  A candidate is a row of
    :meth:`backtest.Space.keys`, so that equal candidates are one, whatever path their floats came by.

    Attributes
    ----------
    hits : int
        Answers that cost no evaluation.
    """

    def __init__(self) -> None:
        self._known: Cache[bytes, float] = Cache(math.inf)
        self._lock = threading.Lock()
        self.hits = 0

    def __len__(self) -> int:
        return len(self._known)

    def missing(self, keys: Ints) -> Ints:
        """Rows of ``keys`` that have no score yet; of equal ones the first."""
        with self._lock:
            first: dict[bytes, int] = {}
            for row, key in enumerate(_names(keys)):
                if key not in self._known:
                    first.setdefault(key, row)
        return np.array(list(first.values()), dtype=np.int64)

    def store(self, keys: Ints, scores: Floats) -> None:
        """Remember a score for each row."""
        with self._lock:
            for key, score in zip(_names(keys), scores.tolist(), strict=True):
                self._known[key] = score

    def read(self, keys: Ints, new: int = 0) -> Floats:
        """The score of each row, +inf where there is none; all that are found but ``new`` of them are hits."""
        with self._lock:
            found: list[Any] = [self._known.get(key) for key in _names(keys)]
            self.hits += sum(score is not None for score in found) - new
        return np.array([math.inf if score is None else score for score in found], dtype=np.float64)


def _names(keys: Ints) -> list[bytes]:
    raw, width = np.ascontiguousarray(keys).tobytes(), keys.shape[1] * keys.itemsize
    return [raw[at : at + width] for at in range(0, len(raw), width)]

"""In-memory cache of results, so that no candidate is evaluated twice."""

from __future__ import annotations

import enum
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from cachetools import Cache, LRUCache
from numpy.typing import NDArray

from backtest._checks import InputError, whole

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: ``behind(keys) -> {key: value}``: a slower source, such as a store, for keys that are not in memory.
Behind = Callable[[Sequence[bytes]], Mapping[bytes, Any]]


class Status(enum.IntEnum):
    """How an evaluation ended."""

    DONE = 0
    UNDEFINED = 1  # evaluated; the metric is undefined
    PRUNED = 2
    FAILED = 3


class Statistics(NamedTuple):
    """Where the answers of a cache came from."""

    hits: int  # from memory
    waited: int  # another thread was evaluating it
    stored: int  # from ``behind``
    computed: int


class TrialCache:
    """Values by candidate, for the duration of a search.

    Parameters
    ----------
    behind : callable, optional
        ``behind(keys) -> {key: value}``: source of values that are not in memory.
    maxsize : int, optional
        Entries in memory; the least recently used is evicted.  Only with ``behind``: without it, an evicted candidate would be
        evaluated again, so the cache is unbounded.

    Attributes
    ----------
    hits : int
        Answers that cost no evaluation.

    Notes
    -----
    Safe to share between threads; of threads that ask for one candidate with :meth:`answer`, one computes and the others
    wait.  Keys are rows of :meth:`backtest.Space.grid_index` as bytes (:func:`packed_rows`) or :meth:`backtest.Space.digests`.
    """

    def __init__(self, behind: Behind | None = None, maxsize: int | None = None) -> None:
        if maxsize is not None and behind is None:
            raise InputError(f"maxsize must come with a store behind the cache, got {maxsize!r} alone")
        size = math.inf if maxsize is None else whole("maxsize", maxsize, low=1)
        self._values: Cache[bytes, Any] = Cache(size) if maxsize is None else LRUCache(size)
        self._behind, self._lock = behind, threading.Lock()
        self._in_flight: dict[bytes, threading.Event] = {}
        self.hits = self._waited = self._stored = self._computed = 0

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        """Whether a key is in memory."""
        return key in self._values

    def statistics(self) -> Statistics:
        """Where the answers came from so far."""
        with self._lock:
            return Statistics(self.hits, self._waited, self._stored, self._computed)

    # -- by key --------------------------------------------------------------------------------------------------------

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Known values of keys, from memory or from ``behind``; those from memory are hits."""
        with self._lock:
            found = {key: self._values[key] for key in keys if key in self._values}
            self.hits += len(found)
        return found | self._from_behind([key for key in dict.fromkeys(keys) if key not in found])

    def _from_behind(self, keys: Sequence[bytes]) -> dict[bytes, Any]:
        if self._behind is None or not keys:
            return {}
        found = dict(self._behind(keys))
        with self._lock:
            self._values.update(found)
            self._stored += len(found)
        return found

    def put(self, values: Mapping[bytes, Any]) -> None:
        """Remember values that were computed."""
        with self._lock:
            self._values.update(values)
            self._computed += len(values)

    def answer(self, keys: Sequence[bytes], compute: Callable[[list[bytes]], Sequence[Any]]) -> list[Any]:
        """The value of each key: known, or computed exactly once.

        Parameters
        ----------
        compute : callable
            ``compute(keys) -> values``, of keys that are unknown and computed by no other thread.  If it fails, nothing is
            cached, and a thread that waited computes them itself.
        """
        answers: dict[bytes, Any] = {}
        pending = list(dict.fromkeys(keys))
        while pending:
            mine, others = self._claim(pending, answers)
            if mine:  # before waiting, so that threads cannot deadlock
                try:
                    answers |= self._from_behind(mine)
                    unknown = [key for key in mine if key not in answers]
                    values = dict(zip(unknown, compute(unknown), strict=True)) if unknown else {}
                    self.put(values)
                    answers |= values
                finally:
                    self._complete(mine)
            for event in others.values():
                event.wait()
            pending = list(others)
        return [answers[key] for key in keys]

    def _claim(self, keys: list[bytes], answers: dict[bytes, Any]) -> tuple[list[bytes], dict[bytes, threading.Event]]:
        """Answer what is in memory; divide the rest into keys to compute, and keys that other threads compute."""
        mine: list[bytes] = []
        others: dict[bytes, threading.Event] = {}
        with self._lock:
            for key in keys:
                if key in self._values:
                    answers[key] = self._values[key]
                    self.hits += 1
                elif key in self._in_flight:
                    others[key] = self._in_flight[key]
                    self._waited += 1
                else:
                    self._in_flight[key] = threading.Event()
                    mine.append(key)
        return mine, others

    def _complete(self, mine: list[bytes]) -> None:
        with self._lock:
            for key in mine:
                self._in_flight.pop(key).set()

    # -- by row of a batch ---------------------------------------------------------------------------------------------

    def missing(self, keys: Ints) -> Ints:
        """Rows without a score yet; of equal rows the first."""
        with self._lock:
            first: dict[bytes, int] = {}
            for row, key in enumerate(packed_rows(keys)):
                if key not in self._values:
                    first.setdefault(key, row)
        return np.array(list(first.values()), dtype=np.int64)

    def store(self, keys: Ints, scores: Floats) -> None:
        """Remember a score for each row."""
        self.put(dict(zip(packed_rows(keys), scores.tolist(), strict=True)))

    def read(self, keys: Ints, new: int = 0) -> Floats:
        """The score of each row, +inf where there is none; all found count as hits, except ``new`` of them."""
        with self._lock:
            found: list[Any] = [self._values.get(key) for key in packed_rows(keys)]
            self.hits += sum(score is not None for score in found) - new
        return np.array([math.inf if score is None else score for score in found], dtype=np.float64)


def packed_rows(keys: Ints) -> list[bytes]:
    """Rows of a matrix of grid indices as bytes, one key each."""
    raw, width = np.ascontiguousarray(keys).tobytes(), keys.shape[1] * keys.itemsize
    return [raw[at : at + width] for at in range(0, len(raw), width)]

"""Proposes candidates: distinct, feasible and new, from an engine, by enumeration in seeded order, or at random."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import SpaceError
from backtest.elementary import exp, log
from backtest.enumeration import VisitOrder
from backtest.search.duplicates import Status, TrialCache
from backtest.search.engine import Engine
from backtest.search.grid import SearchLimit
from backtest.space import Choice, Continuous, Space

Floats = NDArray[np.float64]
logger = logging.getLogger("backtest")

#: Positions enumerated at once, at first and at most, when few hold candidates.
CHUNK, LARGEST_CHUNK = 1024, 16_384
#: Most unusable suggestions in a row before a neighbour is taken, for engines that need the outcome of their own.
MAX_DUPLICATES = 10
#: Most batches of random points without a feasible one.
MAX_EMPTY_BATCHES = 1000
#: Standard deviation of a neighbour's continuous value at radius 1, as a share of the range.
_SPREAD = 0.01


class Candidate(NamedTuple):
    """A candidate to evaluate."""

    digest: bytes
    row: Floats
    ticket: int | None  # the engine's number for it


class Proposer:
    """Proposes candidates that are new: feasible, not evaluated before, and not being evaluated.

    Parameters
    ----------
    space : Space
    engine : Engine or None
        Suggests candidates, and is told the outcome of all.
    memory : TrialCache
        Finished trials by digest, with ``status`` and ``values``.
    seed : int
    suggests : bool
        False: the engine is used for its pruner only.  Candidates are then enumerated in seeded order, or random if the space
        cannot be enumerated.

    Attributes
    ----------
    asks : int
        Number of suggestions of the engine.
    duplicates : int
        Those of known candidates.
    limit : SearchLimit
        When to give up the search for the next candidate; set for each run.
    """

    def __init__(self, space: Space, engine: Engine | None, memory: TrialCache, seed: int, suggests: bool = True) -> None:
        self.space, self.engine, self.memory, self.suggests = space, engine, memory, suggests and engine is not None
        self.asks = self.duplicates = 0
        self.limit = SearchLimit()
        self.in_flight: dict[bytes, Candidate] = {}
        self.leased_by_others: dict[bytes, Floats] = {}  # reserved by another driver
        self._can_enumerate = space.can_enumerate
        self._order = VisitOrder(int(space.size), seed) if self._can_enumerate else None
        self._position, self._enumerates_rest = 0, False
        self._buffer: deque[tuple[bytes, Floats]] = deque()
        self._rng = np.random.default_rng(np.random.SeedSequence(seed))

    def is_new(self, digest: bytes) -> bool:
        """Whether a candidate is neither finished nor being evaluated, here or by another driver."""
        return digest not in self.in_flight and digest not in self.memory and digest not in self.leased_by_others

    def next(self, count: int, left: float) -> list[Candidate]:
        """Up to ``count`` candidates that are new; none if there are no more, or the search limit is reached.

        Parameters
        ----------
        left : float
            Remaining budget: once it covers the rest of a finite space, the rest is enumerated.
        """
        if not self._enumerates_rest and self.space.is_exact and self._can_enumerate:
            self._enumerates_rest = self.space.size - len(self.memory) - len(self.in_flight) <= left
        if not self.suggests or self._enumerates_rest:
            return self._mark_in_flight(
                self._registered(self._next_enumerated(count) if self._can_enumerate else self._next_random(count))
            )
        candidates: list[Candidate] = []
        while len(candidates) < count and not self._enumerates_rest:
            candidate = self._ask_engine()
            if candidate is None:  # no neighbour is new: few candidates remain
                self._enumerates_rest = True
                break
            candidates += self._mark_in_flight([candidate])
        return candidates or self.next(count, left)

    @property
    def learns(self) -> bool:
        """Whether the next candidate depends on the results of those before."""
        return self.suggests and not self._enumerates_rest

    def retry_leased(self) -> list[Candidate]:
        """Candidates that another driver had reserved, to try to reserve them again."""
        candidates = [Candidate(digest, row, None) for digest, row in self.leased_by_others.items()][:CHUNK]
        self.leased_by_others = {
            digest: row for digest, row in self.leased_by_others.items() if digest not in {each.digest for each in candidates}
        }
        return self._mark_in_flight(self._registered(candidates))

    def _registered(self, candidates: list[Candidate]) -> list[Candidate]:
        """Candidates that the engine did not suggest, registered with it."""
        return (
            candidates if self.engine is None else [each._replace(ticket=self.engine.register(each.row)) for each in candidates]
        )

    def replay(self, finished: Sequence[Any]) -> None:
        """Tell the engine results of candidates that it did not suggest."""
        if self.engine is not None and finished:
            self.engine.replay(finished)

    def prune(self, candidate: Candidate, reports: Sequence[tuple[int, float]]) -> bool:
        """Report intermediate values, and ask whether to stop."""
        return self.engine is not None and candidate.ticket is not None and self.engine.prune(candidate.ticket, reports)

    def _mark_in_flight(self, candidates: list[Candidate]) -> list[Candidate]:
        self.in_flight |= {each.digest: each for each in candidates}
        return candidates

    def put_back(self, candidates: Sequence[Candidate]) -> None:
        """Return candidates that were not evaluated; they will be proposed again."""
        for each in candidates:
            self.discard(each.digest)
        self._buffer.extendleft((each.digest, each.row) for each in reversed(candidates))

    def complete(self, digest: bytes, status: Status, values: Sequence[float] | None) -> None:
        """Record that a candidate was evaluated, and tell the engine."""
        candidate = self.in_flight.pop(digest)
        if self.engine is not None and candidate.ticket is not None:
            self.engine.tell(candidate.ticket, status, values)

    def discard(self, digest: bytes) -> None:
        """Record that a candidate will not be evaluated here."""
        candidate = self.in_flight.pop(digest)
        if self.engine is not None and candidate.ticket is not None:
            self.engine.forget(candidate.ticket)

    # -- without an engine ---------------------------------------------------------------------------------------------

    def _next_enumerated(self, count: int) -> list[Candidate]:
        assert self._order is not None
        candidates: list[Candidate] = []
        while len(candidates) < count:
            if not self._buffer:
                if self._position >= self._order.size or not self.limit.allows_more():
                    break
                chunk = min(CHUNK + self.limit.n_empty, LARGEST_CHUNK)
                start, stop = self._position, min(self._position + chunk, self._order.size)
                _, batch = self.space.candidates(self._order(start, stop))
                self._position = stop
                self.limit.record(stop - start, len(batch))
                self._buffer.extend(zip(self.space.digests(batch), batch, strict=True))
                continue
            digest, row = self._buffer.popleft()
            if self.is_new(digest):
                candidates.append(Candidate(digest, row, None))
        return candidates

    def _next_random(self, count: int) -> list[Candidate]:
        candidates: dict[bytes, Candidate] = {}
        while self._buffer and len(candidates) < count:
            digest, row = self._buffer.popleft()
            if self.is_new(digest):
                candidates[digest] = Candidate(digest, row, None)
        for attempt in range(MAX_EMPTY_BATCHES if len(candidates) < count else 0):
            if attempt and self.limit.is_time_up():
                return list(candidates.values())
            batch = self.space.from_unit(self._rng.uniform(size=(max(16, count), len(self.space.varied))))
            batch = batch[self.space.feasible(batch)]
            for digest, row in zip(self.space.digests(batch), batch, strict=True):
                if len(candidates) < count and self.is_new(digest):
                    candidates[digest] = Candidate(digest, row, None)
            if len(candidates) == count:
                break
        if not candidates and not len(self.memory) and not self.in_flight:
            raise SpaceError(f"where must leave a candidate that random points can find, got {self.space.where!r} and none")
        return list(candidates.values())

    # -- with an engine ------------------------------------------------------------------------------------------------

    def _ask_engine(self) -> Candidate | None:
        """The engine's suggestion, or a neighbour of it if it is a duplicate or not feasible."""
        assert self.engine is not None
        for attempt in range(MAX_DUPLICATES):
            row, ticket = self.engine.ask()
            self.asks += 1
            feasible = bool(self.space.feasible(row[np.newaxis])[0])
            digest = self.space.digests(row[np.newaxis])[0]
            if feasible and self.is_new(digest):
                return Candidate(digest, row, ticket)
            cached = self.memory.get([digest]).get(digest) if feasible else None
            if feasible:
                self.duplicates += 1
                self._log_duplicate(ticket, cached)
            if self.engine.learns_from_any or attempt == MAX_DUPLICATES - 1:
                self.engine.forget(ticket)
                break
            # Population-based samplers need an outcome of each of their suggestions.
            self.engine.tell(
                ticket, Status.PRUNED if cached is None else cached.status, None if cached is None else cached.values
            )
        near = neighbour(self.space, row, self._rng, self.is_new)
        return None if near is None else Candidate(*near, self.engine.register(near[1]))

    @staticmethod
    def _log_duplicate(ticket: int, cached: Any) -> None:
        if cached is None:
            logger.info("Trial %d: duplicate parameters are being evaluated", ticket)
        elif cached.values is None:
            logger.info("Trial %d: Using cached status %s for duplicate parameters", ticket, Status(cached.status).name.lower())
        else:
            values = ", ".join(f"{each:f}" for each in cached.values)
            logger.info("Trial %d: Using cached value %s for duplicate parameters", ticket, values)


def neighbour(
    space: Space, row: Floats, rng: np.random.Generator, is_new: Callable[[bytes], bool]
) -> tuple[bytes, Floats] | None:
    """A new, feasible candidate near a row: one or several parameters are moved, by steps that grow until one is found."""
    varied = [(column, each) for column, each in enumerate(space.parameters.values()) if each.size > 1]
    largest = max((each.size for _, each in varied if each.size != math.inf), default=64)
    radius = 1
    while radius <= max(64, largest):
        batch = space.canonical(np.concatenate([np.repeat(row[np.newaxis], 4 * len(varied) + 16, axis=0)]))
        for place, (column, each) in enumerate(varied):
            moved = np.zeros(len(batch), dtype=np.bool_)
            moved[4 * place : 4 * place + 4] = True
            moved[4 * len(varied) :] = rng.random(16) < 0.5
            batch[moved, column] = _moved(each, batch[moved, column], radius, rng)
        batch = space.canonical(batch)
        batch = batch[space.feasible(batch)]
        for digest, moved_row in zip(space.digests(batch), batch, strict=True):
            if is_new(digest):
                return digest, moved_row
        radius *= 2
    return None


def _moved(parameter: Any, values: Floats, radius: int, rng: np.random.Generator) -> Floats:
    if isinstance(parameter, Continuous):
        low, high = (math.log(parameter.low), math.log(parameter.high)) if parameter.is_log else (parameter.low, parameter.high)
        spread = rng.normal(scale=_SPREAD * radius * (high - low), size=len(values))
        moved = exp(log(values) + spread) if parameter.is_log else values + spread
        return np.asarray(np.clip(moved, parameter.low, parameter.high))
    index = parameter.index("neighbour", values)
    if isinstance(parameter, Choice):  # choices have no order
        return rng.integers(0, parameter.size, len(values)).astype(np.float64)
    steps = rng.integers(1, radius + 1, len(values)) * rng.choice([-1, 1], len(values))
    moved = np.clip(index + steps, 0, parameter.size - 1)
    return np.asarray(parameter.at(moved), dtype=np.float64)

"""Which candidates come next: distinct, feasible, not tried before; from an engine, or from an enumeration in seeded order."""

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
from backtest.search.cache import Status, TrialCache
from backtest.search.engine import Engine
from backtest.search.grid import SearchLimit, VisitOrder
from backtest.space import Choice, Continuous, Space

Floats = NDArray[np.float64]
logger = logging.getLogger("backtest")

#: Candidates that are looked at in one go while enumerating, and at most, when few are found.
CHUNK, LARGEST_CHUNK = 1024, 16_384
#: Suggestions in a row that lead nowhere, before an engine that counts on its own is given a neighbour all the same.
MAX_DUPLICATES = 10
#: Batches of random points without a feasible one, before the search says so.
MAX_EMPTY_BATCHES = 1000
#: Spread of a neighbour of a continuous value, as a share of the range, at the first radius.
_SPREAD = 0.01


class Candidate(NamedTuple):
    """A candidate to evaluate."""

    digest: bytes
    row: Floats
    ticket: int | None  # of the engine


class Proposer:
    """Proposes candidates that are new: feasible, not evaluated before, and not being evaluated.

    Parameters
    ----------
    space : Space
    engine : Engine or None
        Is told of every candidate, and suggests them.
    memory : TrialCache
        Finished trials by digest; ``status`` and ``values`` of each are read.
    seed : int
    suggests : bool
        False: the engine only listens, for the sake of its pruner.  Without suggestions, candidates are all those of a finite
        space in seeded order, or random points of another.

    Attributes
    ----------
    asks : int
        Suggestions of the engine.
    duplicates : int
        Those that were known already.
    limit : SearchLimit
        When to stop looking for the next candidate; set for each run.
    """

    def __init__(self, space: Space, engine: Engine | None, memory: TrialCache, seed: int, suggests: bool = True) -> None:
        self.space, self.engine, self.memory, self.suggests = space, engine, memory, suggests and engine is not None
        self.asks = self.duplicates = 0
        self.limit = SearchLimit()
        self.in_flight: dict[bytes, Candidate] = {}
        self.leased_by_others: dict[bytes, Floats] = {}  # in another driver's hands
        self._can_enumerate = space.can_enumerate
        self._order = VisitOrder(int(space.size), seed) if self._can_enumerate else None
        self._position, self._rest = 0, False
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
            What is left of the budget: when it covers the unseen rest of a finite space, the rest is enumerated.
        """
        if not self._rest and self.space.is_exact and self._can_enumerate:
            self._rest = self.space.size - len(self.memory) - len(self.in_flight) <= left
        if not self.suggests or self._rest:
            return self._mark_in_flight(
                self._registered(self._next_enumerated(count) if self._can_enumerate else self._next_random(count))
            )
        found: list[Candidate] = []
        while len(found) < count and not self._rest:
            candidate = self._ask_engine()
            if candidate is None:  # no neighbour is new: what is left is hard to find
                self._rest = True
                break
            found += self._mark_in_flight([candidate])
        return found or self.next(count, left)

    @property
    def learns(self) -> bool:
        """Whether the next candidate depends on the results of those before."""
        return self.suggests and not self._rest

    def retry_leased(self) -> list[Candidate]:
        """Candidates that another driver had reserved, to be reserved once more."""
        found = [Candidate(digest, row, None) for digest, row in self.leased_by_others.items()][:CHUNK]
        self.leased_by_others = {
            digest: row for digest, row in self.leased_by_others.items() if digest not in {each.digest for each in found}
        }
        return self._mark_in_flight(self._registered(found))

    def _registered(self, found: list[Candidate]) -> list[Candidate]:
        """Candidates that the engine did not suggest, registered with it."""
        return found if self.engine is None else [each._replace(ticket=self.engine.register(each.row)) for each in found]

    def replay(self, finished: Sequence[Any]) -> None:
        """Tell the engine of results that it did not suggest."""
        if self.engine is not None and finished:
            self.engine.replay(finished)

    def prune(self, candidate: Candidate, reports: Sequence[tuple[int, float]]) -> bool:
        """Report intermediate values, and ask whether to stop."""
        return self.engine is not None and candidate.ticket is not None and self.engine.prune(candidate.ticket, reports)

    def _mark_in_flight(self, found: list[Candidate]) -> list[Candidate]:
        self.in_flight |= {each.digest: each for each in found}
        return found

    def put_back(self, candidates: Sequence[Candidate]) -> None:
        """Candidates that were not evaluated after all; they will be proposed again."""
        for each in candidates:
            self.discard(each.digest)
        self._buffer.extendleft((each.digest, each.row) for each in reversed(candidates))

    def complete(self, digest: bytes, status: Status, values: Sequence[float] | None) -> None:
        """A candidate was evaluated; the engine is told."""
        candidate = self.in_flight.pop(digest)
        if self.engine is not None and candidate.ticket is not None:
            self.engine.tell(candidate.ticket, status, values)

    def discard(self, digest: bytes) -> None:
        """A candidate will not be evaluated here."""
        candidate = self.in_flight.pop(digest)
        if self.engine is not None and candidate.ticket is not None:
            self.engine.forget(candidate.ticket)

    # -- without an engine ---------------------------------------------------------------------------------------------

    def _next_enumerated(self, count: int) -> list[Candidate]:
        assert self._order is not None
        found: list[Candidate] = []
        while len(found) < count:
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
                found.append(Candidate(digest, row, None))
        return found

    def _next_random(self, count: int) -> list[Candidate]:
        found: dict[bytes, Candidate] = {}
        while self._buffer and len(found) < count:
            digest, row = self._buffer.popleft()
            if self.is_new(digest):
                found[digest] = Candidate(digest, row, None)
        for attempt in range(MAX_EMPTY_BATCHES if len(found) < count else 0):
            if attempt and self.limit.is_time_up():
                return list(found.values())
            batch = self.space.from_unit(self._rng.uniform(size=(max(16, count), len(self.space.varied))))
            batch = batch[self.space.feasible(batch)]
            for digest, row in zip(self.space.digests(batch), batch, strict=True):
                if len(found) < count and self.is_new(digest):
                    found[digest] = Candidate(digest, row, None)
            if len(found) == count:
                break
        if not found and not len(self.memory) and not self.in_flight:
            raise SpaceError(f"where must leave a candidate that random points can find, got {self.space.where!r} and none")
        return list(found.values())

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
            known = self.memory.get([digest]).get(digest) if feasible else None
            if feasible:
                self.duplicates += 1
                self._log_duplicate(ticket, known)
            if self.engine.learns_from_any or attempt == MAX_DUPLICATES - 1:
                self.engine.forget(ticket)
                break
            # Engines of populations count on an answer to each of their own.
            self.engine.tell(ticket, Status.PRUNED if known is None else known.status, None if known is None else known.values)
        found = neighbour(self.space, row, self._rng, self.is_new)
        return None if found is None else Candidate(*found, self.engine.register(found[1]))

    @staticmethod
    def _log_duplicate(ticket: int, known: Any) -> None:
        if known is None:
            logger.info("Trial %d: duplicate parameters are being evaluated", ticket)
        elif known.values is None:
            logger.info("Trial %d: Using cached status %s for duplicate parameters", ticket, Status(known.status).name.lower())
        else:
            values = ", ".join(f"{each:f}" for each in known.values)
            logger.info("Trial %d: Using cached value %s for duplicate parameters", ticket, values)


def neighbour(
    space: Space, row: Floats, rng: np.random.Generator, is_new: Callable[[bytes], bool]
) -> tuple[bytes, Floats] | None:
    """A new, feasible candidate near a row: one parameter moved, or several, by steps that grow until there is one."""
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
        for digest, found in zip(space.digests(batch), batch, strict=True):
            if is_new(digest):
                return digest, found
        radius *= 2
    return None


def _moved(each: Any, values: Floats, radius: int, rng: np.random.Generator) -> Floats:
    if isinstance(each, Continuous):
        low, high = (math.log(each.low), math.log(each.high)) if each.is_log else (each.low, each.high)
        spread = rng.normal(scale=_SPREAD * radius * (high - low), size=len(values))
        moved = exp(log(values) + spread) if each.is_log else values + spread
        return np.asarray(np.clip(moved, each.low, each.high))
    index = each.index("neighbour", values)
    if isinstance(each, Choice):  # no choice is nearer than another
        return rng.integers(0, each.size, len(values)).astype(np.float64)
    steps = rng.integers(1, radius + 1, len(values)) * rng.choice([-1, 1], len(values))
    moved = np.clip(index + steps, 0, each.size - 1)
    return np.asarray(each.at(moved), dtype=np.float64)

"""A store that several drivers use at once: leases on candidates, and what the others have finished."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

from backtest._checks import StoreError
from backtest.search.propose import Candidate, Proposer
from backtest.study.records import ATTEMPTS, Finished, of_rows, to_row
from backtest.study.state import State
from backtest.study.store import has_died, new_owner, no_object

logger = logging.getLogger("backtest")

#: Seconds after which others may take over what was reserved; renewed three times as often.
LEASE = 30.0
#: Seconds between two looks at what other drivers did.
POLL_SECONDS = 0.5


class SharedStore:
    """The store of a study during one run; does nothing for a study without one.

    Parameters
    ----------
    study : State
    proposer : Proposer
        Is told of candidates that others evaluate or have finished.
    seconds : dict
        Where time spent ``store`` is added up.
    """

    def __init__(self, study: State, proposer: Proposer, seconds: dict[str, float]) -> None:
        self.study, self.proposer, self.seconds, self.store = study, proposer, seconds, study.store
        self.owner, self._polled = new_owner(), 0.0
        self._changes = -1 if self.store is None else self.store.changes()

    def reserved(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those of the candidates that this driver may evaluate."""
        if self.store is None:
            return candidates
        begun = time.perf_counter()
        digests = [each.digest for each in candidates]
        reservation = self.store.reserve(self.study.context, digests, self.owner, LEASE, ATTEMPTS)
        self.seconds["store"] += time.perf_counter() - begun
        granted, leased = set(reservation.granted), set(reservation.leased_by_others)
        if len(granted) == len(candidates):
            return candidates
        for each in candidates:
            if each.digest not in granted:
                self.proposer.discard(each.digest)
            if each.digest in leased:
                self.proposer.leased_by_others[each.digest] = each.row
        self._absorb(list(reservation.stored.values()))
        for each in candidates:
            if each.digest in reservation.stored and each.digest not in self.study.memory:  # its parameters are another's
                self._report_faulty({each.digest: no_object("params", reservation.stored[each.digest].params)})
                self.proposer.leased_by_others[each.digest] = each.row
        return [each for each in candidates if each.digest in granted]

    def finish(self, finished: list[Finished], is_expensive: bool) -> set[bytes]:
        """Store results, and say by digest which were taken: not those whose lease another driver has taken over."""
        if self.store is None:
            return {each.digest for each in finished}
        begun = time.perf_counter()
        self.store.be_durable(is_expensive)
        taken = self.store.finish(self.study.context, [to_row(each) for each in finished], self.owner)
        self.seconds["store"] += time.perf_counter() - begun
        return taken

    def release_dead_owners(self) -> None:
        """Release what killed processes of this machine had reserved, without waiting for their leases to end."""
        if self.store is None:
            return
        for owner in self.store.owners():
            if has_died(owner):
                self.store.release(owner)

    def release(self) -> None:
        """Give back everything that is reserved and not finished."""
        if self.store is not None:
            self.store.release(self.owner)

    def absorb_others(self, is_expensive: bool) -> None:
        """Take in what other drivers have finished; of cheap evaluations not more often than every POLL_SECONDS."""
        if self.store is None or (not is_expensive and time.monotonic() - self._polled < POLL_SECONDS):
            return
        self._polled = time.monotonic()
        begun = time.perf_counter()
        changes = self.store.changes()
        if changes != self._changes:
            self._changes = changes
            rows, self.study.mark = self.store.read(self.study.context, self.study.mark)
            self._absorb(rows)
        self.seconds["store"] += time.perf_counter() - begun

    def _report_faulty(self, faults: dict[Any, str]) -> None:
        assert self.store is not None
        self.store.faulty.report(self.study.context, faults)

    def _absorb(self, rows: list[Any]) -> None:
        new = [row for row in rows if row.digest not in self.study.memory and row.digest not in self.proposer.in_flight]
        found = of_rows(new, self.study.space, self.study.numbers, self.study.n_values, self._report_faulty)
        self.study.numbers += len(found)
        for each in found:
            self.proposer.leased_by_others.pop(each.digest, None)
        self.study.remember(found)
        self.proposer.replay(found)

    @contextlib.contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew leases in a thread for a while."""
        store = self.store
        if store is None:
            yield
            return
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE / 3):
                try:
                    store.renew(self.owner, LEASE)
                except StoreError as error:  # if the lease is lost by that, the store refuses the result
                    logger.warning("leases were not renewed: %s", error)

        thread = threading.Thread(target=renew, name="backtest-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

"""A store that several drivers use at once: leases on candidates, and results of other drivers."""

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

#: Seconds of a lease, after which others may take over; renewed every third of it.
LEASE = 30.0
#: Seconds between reads of other drivers' results.
POLL_SECONDS = 0.5


class SharedStore:
    """The store of a study during one run; does nothing for a study without one.

    Parameters
    ----------
    study : State
    proposer : Proposer
        Learns which candidates others evaluate or have finished.
    seconds : dict
        Its ``store`` accumulates the time spent here.
    """

    def __init__(self, study: State, proposer: Proposer, seconds: dict[str, float]) -> None:
        self.study, self.proposer, self.seconds, self.store = study, proposer, seconds, study.store
        self.owner, self._polled = new_owner(), 0.0
        self._changes = -1 if self.store is None else self.store.changes()

    def reserved(self, candidates: list[Candidate]) -> list[Candidate]:
        """Those of the candidates that this driver may evaluate."""
        if self.store is None:
            return candidates
        started = time.perf_counter()
        digests = [each.digest for each in candidates]
        reservation = self.store.reserve(self.study.context, digests, self.owner, LEASE, ATTEMPTS)
        self.seconds["store"] += time.perf_counter() - started
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
            if each.digest in reservation.stored and each.digest not in self.study.memory:  # the stored row is faulty
                self._report_faulty({each.digest: no_object("params", reservation.stored[each.digest].params)})
                self.proposer.leased_by_others[each.digest] = each.row
        return [each for each in candidates if each.digest in granted]

    def finish(self, finished: list[Finished], is_expensive: bool) -> set[bytes]:
        """Store results, and return the digests accepted: not those whose lease another driver has taken over."""
        if self.store is None:
            return {each.digest for each in finished}
        started = time.perf_counter()
        self.store.be_durable(is_expensive)
        accepted = self.store.finish(self.study.context, [to_row(each) for each in finished], self.owner)
        self.seconds["store"] += time.perf_counter() - started
        return accepted

    def release_dead_owners(self) -> None:
        """Release reservations of killed processes of this machine before their leases end."""
        if self.store is None:
            return
        for owner in self.store.owners():
            if has_died(owner):
                self.store.release(owner)

    def release(self) -> None:
        """Release all reservations that are not finished."""
        if self.store is not None:
            self.store.release(self.owner)

    def absorb_others(self, is_expensive: bool) -> None:
        """Read results of other drivers; at most every POLL_SECONDS if evaluations are cheap."""
        if self.store is None or (not is_expensive and time.monotonic() - self._polled < POLL_SECONDS):
            return
        self._polled = time.monotonic()
        started = time.perf_counter()
        changes = self.store.changes()
        if changes != self._changes:
            self._changes = changes
            rows, self.study.mark = self.store.read(self.study.context, self.study.mark)
            self._absorb(rows)
        self.seconds["store"] += time.perf_counter() - started

    def _report_faulty(self, faults: dict[Any, str]) -> None:
        assert self.store is not None
        self.store.faulty.report(self.study.context, faults)

    def _absorb(self, rows: list[Any]) -> None:
        new = [row for row in rows if row.digest not in self.study.memory and row.digest not in self.proposer.in_flight]
        trials = of_rows(new, self.study.space, self.study.numbers, self.study.n_values, self._report_faulty)
        self.study.numbers += len(trials)
        for each in trials:
            self.proposer.leased_by_others.pop(each.digest, None)
        self.study.remember(trials)
        self.proposer.replay(trials)

    @contextlib.contextmanager
    def renewing(self) -> Iterator[None]:
        """Renew leases in a thread during this block."""
        store = self.store
        if store is None:
            yield
            return
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE / 3):
                try:
                    store.renew(self.owner, LEASE)
                except StoreError as error:  # if the lease expires, the store refuses the result
                    logger.warning("leases were not renewed: %s", error)

        thread = threading.Thread(target=renew, name="backtest-lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

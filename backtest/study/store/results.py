"""Results of candidates on disk, one row each by context and digest; and leases, so that no two drivers evaluate one candidate.

One SQLite file.  Tables:

* ``contexts``: fingerprints of objective and data, by which results are kept apart.
* ``results``: (context, digest) -> status, value, metrics, parameters, times.
* ``leases``: (context, digest) -> who evaluates it now, and when the lease ends.
* ``blocks``: blocks of candidates that a sweep has finished; only those rows of them that it keeps are in ``results``.
"""

from __future__ import annotations

import json
import operator
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backtest._checks import StoreWarning
from backtest.search.duplicates import Status
from backtest.study.store.database import Database
from backtest.study.store.faults import FaultyRows, context_fault, objects
from backtest.study.store.rows import COLUMNS, Row, insertions, on_digests

#: Longest seconds until a lease ends; one that ends later was made with another clock.
LONGEST_LEASE = 60.0
#: Most rows per transaction.
BATCH = 100_000


class Reservation(NamedTuple):
    """Outcome of a request to reserve candidates."""

    granted: list[bytes]
    stored: dict[bytes, Row]
    leased_by_others: list[bytes]  # another driver evaluates them now


class Store(Database):
    """Results on disk.

    Parameters
    ----------
    url : str
        ``sqlite:///study.db``, relative to the working folder, or ``sqlite:////srv/study.db``; created if missing.
    read_only : bool
        Only read; the file must exist.

    Raises
    ------
    StoreError
        No such folder, not a SQLite file, another program's, read-only, no room on the disk.  What was stored before stays.
    StoreVersionError
        Written by a release with a layout that this one cannot read; earlier layouts are migrated.

    Notes
    -----
    One file may be used by many threads and, on one machine, by many processes.  What a call has stored survives the death
    of the process (write-ahead log, ``synchronous=NORMAL``); with :meth:`be_durable` the loss of power too.
    """

    def __init__(self, url: str, read_only: bool = False) -> None:
        super().__init__(url, read_only)
        self.faulty = FaultyRows(self.path)

    # -- contexts ------------------------------------------------------------------------------------------------------

    def context(self, fingerprint: bytes, name: str, description: Mapping[str, Any], before: bytes | None = None) -> int:
        """Number of the context with a fingerprint; made if it is not there, or taken from the fingerprint it had before."""
        with self._session():
            if before is not None:
                self._run(
                    "UPDATE OR IGNORE contexts SET fingerprint = ?, description = ? WHERE fingerprint = ?",
                    (fingerprint, json.dumps(description), before),
                )
            self._run(
                "INSERT INTO contexts (fingerprint, name, description, created) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (fingerprint) DO NOTHING",
                (fingerprint, name, json.dumps(description), time.time()),
            )
            return int(self._one("SELECT id FROM contexts WHERE fingerprint = ?", (fingerprint,)))

    def contexts(self) -> list[dict[str, Any]]:
        """Every context: ``id``, ``name``, ``fingerprint``, ``description``, ``created``."""
        with self._session(writes=False):
            found = self._run("SELECT id, name, fingerprint, description, created FROM contexts ORDER BY id").mappings().all()
        faults = {each["id"]: context_fault(each) for each in found}
        for number, fault in faults.items():
            if fault is not None:
                warnings.warn(
                    f"contexts must be as this library writes them, got number {number} of {str(self.path)!r} with "
                    f"{fault}; left out",
                    StoreWarning,
                    stacklevel=2,
                )
        return [dict(each) | {"description": json.loads(each["description"])} for each in found if faults[each["id"]] is None]

    def description(self, context: int) -> dict[str, Any]:
        """Description of a context; empty if it is missing or faulty."""
        with self._session(writes=False):
            return objects([self._one("SELECT description FROM contexts WHERE id = ?", (context,))])[0] or {}

    def describe(self, context: int, more: Mapping[str, Any]) -> None:
        """Add to a context's description."""
        with self._session():
            text = self._one("SELECT description FROM contexts WHERE id = ?", (context,))
            self._run(
                "UPDATE contexts SET description = ? WHERE id = ?", (json.dumps({**(objects([text])[0] or {}), **more}), context)
            )

    def counts(self, context: int) -> dict[Status, int]:
        """Results of a context by status."""
        with self._session(writes=False):
            found = self._run("SELECT status, count(*) FROM results WHERE context = ? GROUP BY status", (context,)).all()
        known = set(map(int, Status))  # invalid ones are reported when rows are read
        return {Status(status): count for status, count in found if status in known}

    # -- results -------------------------------------------------------------------------------------------------------

    def look_up(self, context: int, digests: Sequence[bytes]) -> dict[bytes, Row]:
        """Stored rows by digest."""
        with self._session(writes=False):
            return self._known(context, digests)

    def _known(self, context: int, digests: Sequence[bytes]) -> dict[bytes, Row]:
        found = map(Row._make, self._by_digest(f"SELECT {COLUMNS} FROM results", context, digests))
        return {row.digest: row for row in self.faulty.without(context, list(found))}

    def _by_digest(
        self, select: str, context: int, digests: Sequence[bytes], more: str = "", *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        for statement, parameters in on_digests(select, context, digests, more, *values):
            yield from self._all(statement, parameters)

    def read(self, context: int, after: int = 0) -> tuple[list[Row], int]:
        """Results of a context in the order they were stored in, and a mark; with ``after``, only those stored since."""
        # With a mark, +context keeps SQLite from using the index: a range of ids is faster.
        where = f"{'+' if after else ''}context = ? AND id > ?"
        with self._session(writes=False):
            found = self._all(f"SELECT {COLUMNS}, id FROM results WHERE {where} ORDER BY id", (context, after))
        rows = self.faulty.without(context, [Row._make(row[:-1]) for row in found])
        return rows, found[-1][-1] if found else after

    def add(self, context: int, rows: Iterable[Row]) -> None:
        """Store results without reservation; existing ones are kept.

        In transactions of :data:`BATCH` rows.
        """
        ready = sorted(rows, key=operator.itemgetter(0))  # in the order of the index
        for start in range(0, len(ready), BATCH):
            with self._session():
                self._insert(context, ready[start : start + BATCH])

    def _insert(self, context: int, rows: Iterable[Row]) -> None:
        rows = list(rows)
        for delete, digests in on_digests(
            "DELETE FROM results", context, self.faulty.replaced(context, (row.digest for row in rows))
        ):
            self._run(delete, digests)
        for statement, parameters in insertions(context, rows):
            self._run(statement, parameters)

    def changes(self) -> int:
        """A number that differs when another connection has written."""
        with self._session(writes=False):
            return int(self._one("PRAGMA data_version"))

    # -- leases --------------------------------------------------------------------------------------------------------

    def reserve(self, context: int, digests: Sequence[bytes], owner: str, lease: float, attempts: int) -> Reservation:
        """Reserve digests for evaluation: each is granted, stored already, or leased by another owner.

        Parameters
        ----------
        owner : str
            Unique name of the driver.
        lease : float
            Seconds until others may take over; :meth:`renew` in time.  A stored lease that ends later than possible (another
            clock, or one that was set back) is shortened to :data:`LONGEST_LEASE` from now on.
        attempts : int
            Most failures of a candidate, after which it is not evaluated again.
        """
        with self._session():
            now = time.time()
            stored = {
                digest: row
                for digest, row in self._known(context, digests).items()
                if row.status != Status.FAILED or row.attempts >= attempts
            }
            absent = [digest for digest in dict.fromkeys(digests) if digest not in stored]
            leases = list(
                self._by_digest("SELECT digest, until FROM leases", context, absent, " AND owner <> ? AND until >= ?", owner, now)
            )
            leased, latest = {row[0] for row in leases}, now + max(lease, LONGEST_LEASE)
            if any(not isinstance(until, float) or until > latest for _, until in leases):
                self._run("UPDATE leases SET until = ? WHERE until > ?", (latest, latest))
            granted = [digest for digest in absent if digest not in leased]
            if granted:
                self._run(
                    "INSERT OR REPLACE INTO leases (context, digest, owner, until) VALUES (?, ?, ?, ?)",
                    [(context, bytearray(digest), owner, now + lease) for digest in sorted(granted)],
                )
        return Reservation(granted, stored, [digest for digest in absent if digest in leased])

    def renew(self, owner: str, lease: float) -> None:
        """Extend the leases of an owner."""
        with self._session():
            self._run("UPDATE leases SET until = ? WHERE owner = ?", (time.time() + lease, owner))

    def owners(self) -> list[str]:
        """Names of all owners of leases."""
        with self._session(writes=False):
            return [owner for (owner,) in self._run("SELECT DISTINCT owner FROM leases")]

    def release(self, owner: str) -> None:
        """Release all leases of an owner."""
        with self._session():
            self._run("DELETE FROM leases WHERE owner = ?", (owner,))

    def finish(self, context: int, rows: Sequence[Row], owner: str) -> set[bytes]:
        """Store results of reserved digests, and release their leases.

        Returns
        -------
        set of bytes
            Digests of the results that were accepted.  One that came after its lease was taken over is discarded.
        """
        with self._session():
            digests = [row.digest for row in rows]
            accepted = {row[0] for row in self._by_digest("SELECT digest FROM leases", context, digests, " AND owner = ?", owner)}
            self._insert(context, (row for row in rows if row.digest in accepted))
            for statement, parameters in on_digests("DELETE FROM leases", context, accepted):
                self._run(statement, parameters)
        return accepted

    # -- sweeps --------------------------------------------------------------------------------------------------------

    def finish_blocks(self, context: int, blocks: Sequence[tuple[bytes, bytes, int]], kept: Iterable[Row] = ()) -> None:
        """Store blocks that a sweep has finished (identity, places of the rows it keeps, size), and those rows, at once."""
        with self._session():
            self._insert(context, kept)
            if blocks:
                self._run(
                    "INSERT OR REPLACE INTO blocks (context, block, kept, size) VALUES (?, ?, ?, ?)",
                    [(context, *block) for block in blocks],
                )

    def blocks(self, context: int) -> dict[bytes, bytes]:
        """Finished blocks: the places of the kept rows of each."""
        with self._session(writes=False):
            return dict(self._run("SELECT block, kept FROM blocks WHERE context = ?", (context,)).all())

"""Store: results of candidates on disk, one row each, known by context and key; leases, so that no two drivers do one twice.

One SQLite file.  Tables:

* ``contexts``: what was evaluated on what (a fingerprint of objective and data); results of one are never another's.
* ``results``: (context, key) -> status, value, metrics, parameters, times.
* ``leases``: (context, key) -> who evaluates it now, and until when that is believed.
* ``blocks``: blocks of candidates that a sweep of cheap ones has finished; only the kept rows of them are in ``results``.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import threading
import time
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from backtest._checks import StoreError, StoreVersionError, StoreWarning
from backtest.search.cache import Status
from backtest.study.store.faults import Odd, context_fault, objects
from backtest.study.store.layout import APPLICATION_ID, SCHEMA_VERSION, tables
from backtest.study.store.location import PATIENCE, check, complaints, path_of
from backtest.study.store.rows import COLUMNS, Row, insertions, on_keys

if TYPE_CHECKING:
    import sqlalchemy as sa

#: Seconds from now in which any lease ends; one that ends later was given by another clock.
LONGEST_LEASE = 60.0
#: Rows of a transaction that stores many.
BATCH = 100_000
#: Measured in plain sqlite3 with a million rows there already and half a million more, keys a second with all that folds the log
#: back: in batches of 20,000 192,000 with these pages, 172,000 with pages of 8 KiB, 161,000 of 4 KiB, 223,000 of 32 KiB; but rows
#: in batches of 512 38,000, 47,000, 62,000 and 29,000, since each of them touches a page of the index.  A log of twice the size
#: gains 6 %.  Where the rows themselves lie in the order of their keys (WITHOUT ROWID), which is a random one, it takes three
#: times as long.  Cache and log are limits, which a small store does not reach.
_PAGE, _CACHE_KIB, _LOG_PAGES = 16_384, 131_072, 8192


#: Connections of a parent, kept so that the child's end of them is never closed in its name.
_inherited: list[Any] = []


class Reserved(NamedTuple):
    """What became of keys that were asked for."""

    mine: list[bytes]
    known: dict[bytes, Row]
    others: list[bytes]  # another driver evaluates them now


class Store:
    """Results on disk.

    Parameters
    ----------
    url : str
        ``sqlite:///study.db``, relative to the working folder, or ``sqlite:////srv/study.db``; made if it is not there.
    read_only : bool
        Only look; the file has to be there.

    Raises
    ------
    StoreError
        No such folder, not a SQLite file, another program's, read-only, no room on the disk.  What was stored before stays.
    StoreVersionError
        Written by a release with another layout.

    Notes
    -----
    One file may be used by many threads and, on one machine, by many processes.  What a call has stored survives the death
    of the process (write-ahead log, ``synchronous=NORMAL``); with :meth:`be_durable` the loss of power too.
    """

    def __init__(self, url: str, read_only: bool = False) -> None:
        self.path = path_of(url)
        self.url, self.read_only = f"sqlite:///{self.path}", read_only
        self._lock, self.odd = threading.RLock(), Odd(self.path)
        self._pid, self._is_durable = os.getpid(), False
        self._connection = self._connect()

    # -- the connection ------------------------------------------------------------------------------------------------

    def _connect(self) -> sa.Connection:
        from urllib.parse import quote

        import sqlalchemy as sa

        check(self.path, must_exist=self.read_only)
        # A path is quoted, as it may hold ? and %.
        where = sa.URL.create(
            "sqlite",
            database=f"file:{quote(os.fsencode(self.path))}",
            query={"mode": "ro" if self.read_only else "rwc", "uri": "true"},
        )
        engine = sa.create_engine(
            where,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.pool.NullPool,
            connect_args={"timeout": PATIENCE, "check_same_thread": False},
        )
        with complaints(self.path):
            connection = engine.connect()
            try:
                self._connection = connection
                self._prepare(engine)
            except BaseException:
                connection.close()
                raise
        self._closing = weakref.finalize(self, _closed, connection, os.getpid())
        return connection

    def _prepare(self, engine: sa.Engine) -> None:
        """Settings of this connection, which SQLite does not keep, and the tables if there are none."""
        for pragma in (
            f"busy_timeout = {PATIENCE * 1000:.0f}",
            f"cache_size = -{_CACHE_KIB}",
            "temp_store = MEMORY",
            f"wal_autocheckpoint = {_LOG_PAGES}",
            f"synchronous = {'FULL' if self._is_durable else 'NORMAL'}",
        ):
            self._run(f"PRAGMA {pragma}")
        if self._is_ours():
            return
        if self.read_only:
            raise StoreError(f"store must be a database of this library, got {str(self.path)!r}")
        self._run(f"PRAGMA page_size = {_PAGE}")
        self._patiently("PRAGMA journal_mode = WAL")
        with self._transaction():
            if self._is_ours():  # another process was faster
                return
            for table in tables().sorted_tables:
                from sqlalchemy.schema import CreateTable

                self._run(str(CreateTable(table).compile(engine)))
            self._run(f"PRAGMA application_id = {APPLICATION_ID}")
            self._run(f"PRAGMA user_version = {SCHEMA_VERSION}")

    def _is_ours(self) -> bool:
        """False for an empty file; anything else that is not ours is refused."""
        if not self._one("SELECT count(*) FROM sqlite_master"):
            return False
        if self._one("PRAGMA application_id") != APPLICATION_ID:
            raise StoreError(f"store must be a database of this library, got {str(self.path)!r}, which another program wrote")
        version = self._one("PRAGMA user_version")
        if version != SCHEMA_VERSION:
            raise StoreVersionError(
                f"schema version must be {SCHEMA_VERSION}, got {version} in {str(self.path)!r}; read it with "
                f"the release that wrote it (backtest store export), or take another file"
            )
        return True

    def _patiently(self, statement: str) -> None:
        """Run what SQLite refuses at once, without waiting, while another process has the file."""
        from sqlalchemy.exc import OperationalError

        until = time.monotonic() + PATIENCE
        while True:
            try:
                self._run(statement)
                return
            except OperationalError as error:
                if "locked" not in str(error.orig) or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    @contextlib.contextmanager
    def _session(self, writes: bool = True) -> Iterator[None]:
        """One transaction of this thread; after a fork, on a connection of the child's own."""
        with self._lock:
            if self._pid != os.getpid():
                self._pid = os.getpid()
                self._closing()  # keeps the parent's, which is the parent's to close
                self._connection = self._connect()
            with complaints(self.path), self._transaction() if writes else contextlib.nullcontext():
                yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._driver().in_transaction:  # a full disk has ended it already
                self._run("ROLLBACK")
            raise

    def _driver(self) -> Any:
        return self._connection.connection.dbapi_connection

    def _run(self, statement: str, parameters: Any = None) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)

    def _all(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows as the driver's plain tuples, made in a third of the time."""
        result = self._run(statement, parameters)
        try:
            return result.cursor.fetchall()  # type: ignore[no-any-return]
        finally:
            result.close()

    def _one(self, statement: str, parameters: Any = None) -> Any:
        return self._run(statement, parameters).scalar()

    def close(self) -> None:
        """Close the file; a later call of any method fails."""
        with self._lock:
            self._closing()

    def be_durable(self, full: bool) -> None:
        """Whether a commit waits for the disk (``synchronous=FULL``), for results that are dear."""
        with self._session(writes=False):
            if full != self._is_durable:
                self._is_durable = full
                self._run(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")

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
        """Of a context; nothing if it has none, or an odd one."""
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
        known = set(map(int, Status))  # others are named where rows are read
        return {Status(status): count for status, count in found if status in known}

    # -- results -------------------------------------------------------------------------------------------------------

    def look_up(self, context: int, keys: Sequence[bytes]) -> dict[bytes, Row]:
        """What is known of keys."""
        with self._session(writes=False):
            return self._known(context, keys)

    def _known(self, context: int, keys: Sequence[bytes]) -> dict[bytes, Row]:
        found = map(Row._make, self._by_key(f"SELECT {COLUMNS} FROM results", context, keys))
        return {row.key: row for row in self.odd.sound(context, list(found))}

    def _by_key(
        self, select: str, context: int, keys: Sequence[bytes], more: str = "", *values: Any
    ) -> Iterator[tuple[Any, ...]]:
        for statement, parameters in on_keys(select, context, keys, more, *values):
            yield from self._all(statement, parameters)

    def read(self, context: int, after: int = 0) -> tuple[list[Row], int]:
        """Results of a context in the order they were stored in, and a mark; ``after`` a mark, only those stored since."""
        # After a mark the rows themselves are searched, not the index: +context is no column of it.
        where = f"{'+' if after else ''}context = ? AND id > ?"
        with self._session(writes=False):
            found = self._all(f"SELECT {COLUMNS}, id FROM results WHERE {where} ORDER BY id", (context, after))
        rows = self.odd.sound(context, [Row._make(row[:-1]) for row in found])
        return rows, found[-1][-1] if found else after

    def add(self, context: int, rows: Iterable[Row]) -> None:
        """Store results that nobody had to reserve; those that are there already stay.

        In transactions of :data:`BATCH` rows.
        """
        ready = sorted(rows, key=operator.itemgetter(0))  # neighbours in the index side by side
        for start in range(0, len(ready), BATCH):
            with self._session():
                self._insert(context, ready[start : start + BATCH])

    def _insert(self, context: int, rows: Iterable[Row]) -> None:
        rows = list(rows)
        for delete, keys in on_keys("DELETE FROM results", context, self.odd.among(context, (row.key for row in rows))):
            self._run(delete, keys)
        for statement, parameters in insertions(context, rows):
            self._run(statement, parameters)

    def changes(self) -> int:
        """A number that differs when another connection has written."""
        with self._session(writes=False):
            return int(self._one("PRAGMA data_version"))

    # -- leases --------------------------------------------------------------------------------------------------------

    def reserve(self, context: int, keys: Sequence[bytes], owner: str, lease: float, attempts: int) -> Reserved:
        """Ask for keys to evaluate: each is ours now, or known, or another's.

        Parameters
        ----------
        owner : str
            Who asks; unique to a driver.
        lease : float
            Seconds for which others believe that we work on them; :meth:`renew` in time.  One that ends later than any can
            (another clock, or one that was set back) is believed for :data:`LONGEST_LEASE` from now on.
        attempts : int
            A failure may be tried again until it has failed so often.
        """
        with self._session():
            now = time.time()
            known = {
                key: row
                for key, row in self._known(context, keys).items()
                if row.status != Status.FAILED or row.attempts >= attempts
            }
            rest = [key for key in dict.fromkeys(keys) if key not in known]
            leases = list(
                self._by_key("SELECT key, until FROM leases", context, rest, " AND owner <> ? AND until >= ?", owner, now)
            )
            held, latest = {row[0] for row in leases}, now + max(lease, LONGEST_LEASE)
            if any(not isinstance(until, float) or until > latest for _, until in leases):
                self._run("UPDATE leases SET until = ? WHERE until > ?", (latest, latest))
            mine = [key for key in rest if key not in held]
            if mine:
                self._run(
                    "INSERT OR REPLACE INTO leases (context, key, owner, until) VALUES (?, ?, ?, ?)",
                    [(context, bytearray(key), owner, now + lease) for key in sorted(mine)],
                )
        return Reserved(mine, known, [key for key in rest if key in held])

    def renew(self, owner: str, lease: float) -> None:
        """Be believed for another while."""
        with self._session():
            self._run("UPDATE leases SET until = ? WHERE owner = ?", (time.time() + lease, owner))

    def owners(self) -> list[str]:
        """Who has reserved something."""
        with self._session(writes=False):
            return [owner for (owner,) in self._run("SELECT DISTINCT owner FROM leases")]

    def release(self, owner: str) -> None:
        """Give back everything that is reserved and not finished."""
        with self._session():
            self._run("DELETE FROM leases WHERE owner = ?", (owner,))

    def finish(self, context: int, rows: Sequence[Row], owner: str) -> set[bytes]:
        """Store results of reserved keys, and give the keys back.

        Returns
        -------
        set of bytes
            Keys of the results that were taken.  One that came after its lease was taken over is not: it is discarded.
        """
        with self._session():
            keys = [row.key for row in rows]
            mine = {row[0] for row in self._by_key("SELECT key FROM leases", context, keys, " AND owner = ?", owner)}
            self._insert(context, (row for row in rows if row.key in mine))
            for statement, parameters in on_keys("DELETE FROM leases", context, mine):
                self._run(statement, parameters)
        return mine

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


def _closed(connection: sa.Connection, pid: int) -> None:
    if pid != os.getpid():
        _inherited.append(connection)
        return
    connection.close()
    connection.engine.dispose()

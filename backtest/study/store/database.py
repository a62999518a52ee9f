"""The SQLite file of a store: its connection, settings and layout, transactions, and statements."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from backtest._checks import StoreError, StoreVersionError
from backtest.study.store.layout import APPLICATION_ID, FORMER_VERSIONS, SCHEMA_VERSION, create_tables
from backtest.study.store.location import BUSY_TIMEOUT, check, path_of, translated_errors
from backtest.study.store.migration import migrate

if TYPE_CHECKING:
    import sqlalchemy as sa

#: Measured in plain sqlite3: half a million rows inserted into a table of a million, in digests a second, checkpoints included,
#: with pages of 4, 8, 16 and 32 KiB.  In batches of 20,000: 161,000, 172,000, 192,000 and 223,000; in batches of 512, in which
#: each row touches another page of the index: 62,000, 47,000, 38,000 and 29,000.  A log of twice the size gains 6 %.  Rows in the
#: order of their digests (WITHOUT ROWID), which is random, take three times as long.  Cache and log sizes are upper limits.
_PAGE, _CACHE_KIB, _LOG_PAGES = 16_384, 131_072, 8192

#: Connections inherited from a parent process: kept open, because closing them would release the parent's locks.
_inherited: list[Any] = []


class Database:
    """One SQLite file, shared by the threads of a process.

    Parameters
    ----------
    url : str
        ``sqlite:///study.db``.
    read_only : bool
        Only read; the file must exist.
    """

    def __init__(self, url: str, read_only: bool = False) -> None:
        self.path = path_of(url)
        self.url, self.read_only = f"sqlite:///{self.path}", read_only
        self._lock = threading.RLock()
        self._pid, self._is_durable = os.getpid(), False
        self._connection = self._connect()

    def _connect(self) -> sa.Connection:
        from urllib.parse import quote

        import sqlalchemy as sa

        check(self.path, must_exist=self.read_only)
        # A path is quoted, as it may hold ? and %.
        address = sa.URL.create(
            "sqlite",
            database=f"file:{quote(os.fsencode(self.path))}",
            query={"mode": "ro" if self.read_only else "rwc", "uri": "true"},
        )
        engine = sa.create_engine(
            address,
            isolation_level="AUTOCOMMIT",
            poolclass=sa.pool.NullPool,
            connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
        )
        with translated_errors(self.path):
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
        """Apply settings of this connection, create missing tables, migrate an earlier layout."""
        for pragma in (
            f"busy_timeout = {BUSY_TIMEOUT * 1000:.0f}",
            f"cache_size = -{_CACHE_KIB}",
            "temp_store = MEMORY",
            f"wal_autocheckpoint = {_LOG_PAGES}",
            f"synchronous = {'FULL' if self._is_durable else 'NORMAL'}",
        ):
            self._run(f"PRAGMA {pragma}")
        version = self._version()
        if version == SCHEMA_VERSION:
            return
        if self.read_only:
            if version is None:
                raise StoreError(f"store must be a database of this library, got {str(self.path)!r}")
            try:
                Database(self.url).close()  # migrates its layout
            except StoreError as error:
                raise StoreError(
                    f"store must be of layout {SCHEMA_VERSION} to be read, got {version} in {str(self.path)!r}, which cannot "
                    f"be migrated ({error}); copy it to where it can be written"
                ) from error
            return
        if version is None:
            self._run(f"PRAGMA page_size = {_PAGE}")
            self._retry_while_locked("PRAGMA journal_mode = WAL")
        with self._transaction():
            version = self._version()  # another process may have been faster
            if version is None:
                create_tables(engine, self._run)
            elif version != SCHEMA_VERSION:
                migrate(self._run, self.path, version)

    def _version(self) -> int | None:
        """Layout version of the file, None if it is empty; other files are refused."""
        if not self._one("SELECT count(*) FROM sqlite_master"):
            return None
        if self._one("PRAGMA application_id") != APPLICATION_ID:
            raise StoreError(f"store must be a database of this library, got {str(self.path)!r}, which another program wrote")
        version = self._one("PRAGMA user_version")
        if version not in (SCHEMA_VERSION, *FORMER_VERSIONS):
            raise StoreVersionError(
                f"schema version must be {SCHEMA_VERSION}, got {version} in {str(self.path)!r}; read it with "
                f"the release that wrote it (backtest store export), or take another file"
            )
        return int(version)

    def _retry_while_locked(self, statement: str) -> None:
        """Run a statement that SQLite refuses immediately while another process uses the file."""
        from sqlalchemy.exc import OperationalError

        until = time.monotonic() + BUSY_TIMEOUT
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
                self._closing()  # sets the parent's connection aside
                self._connection = self._connect()
            with translated_errors(self.path), self._transaction() if writes else contextlib.nullcontext():
                yield

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._driver().in_transaction:  # not if a full disk has ended it
                self._run("ROLLBACK")
            raise

    def _driver(self) -> Any:
        return self._connection.connection.dbapi_connection

    def _run(self, statement: str, parameters: Any = None) -> Any:
        return self._connection.exec_driver_sql(statement, parameters)

    def _all(self, statement: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Rows as the driver's plain tuples, in a third of the time of SQLAlchemy's."""
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
        """Whether a commit waits for the disk (``synchronous=FULL``), for results that are expensive."""
        with self._session(writes=False):
            if full != self._is_durable:
                self._is_durable = full
                self._run(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}")


def _closed(connection: sa.Connection, pid: int) -> None:
    if pid != os.getpid():
        _inherited.append(connection)
        return
    connection.close()
    connection.engine.dispose()

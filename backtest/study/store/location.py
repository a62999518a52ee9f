"""Path of a store's URL, checked; and translation of SQLite's errors."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from backtest._checks import StoreError
from backtest._said import said, shown, url_without_password

#: Seconds to wait for another process's transaction.
BUSY_TIMEOUT = 60.0
#: The rule broken, by a word of SQLite's message.
_RULES = {
    "not a database": "must be a SQLite database of this library",
    "readonly": "must be writable",
    "malformed": "must be an undamaged database (sqlite3 FILE .recover saves what can be read)",
    "full": "must have room on its disk",
    "disk I/O": "must be on a disk that can be written",
    "unable to open": "must be a file we may open",
    "locked": f"must be free within {BUSY_TIMEOUT:.0f} s",
}


def path_of(url: str) -> Path:
    """The file of ``sqlite:///study.db``.

    Raises
    ------
    StoreError
        Not such a URL, or an impossible path; a password is not shown.
    """
    got = repr(url_without_password(url)) if isinstance(url, str) else shown(url)
    if not isinstance(url, str) or "://" not in url:
        near = f"; did you mean {'sqlite:///' + url_without_password(str(url))!r}?" if isinstance(url, (str, Path)) else ""
        raise StoreError(f"store must be a URL such as 'sqlite:///study.db', got {got}{near}")
    scheme, _, rest = url.partition("://")
    if scheme != "sqlite":
        raise StoreError(f"store must be on SQLite ('sqlite:///study.db'), got {got}")
    if not rest.startswith("/") or len(rest) == 1 or ":memory:" in rest:
        raise StoreError(f"store must name a file ('sqlite:///study.db'; leave it out to remember in memory), got {got}")
    try:
        if "\0" in rest:
            raise StoreError(f"store must be a path without NUL characters, got {got}")
        os.fsencode(rest)
        return Path(rest[1:]).absolute()
    except UnicodeEncodeError:
        raise StoreError(f"store must be a path that this system can write, got {got}") from None
    except OSError as error:  # a working folder that was removed
        raise StoreError(f"store must be an absolute path here, got {got}: {said(error)}") from None


def check(path: Path, must_exist: bool) -> None:
    """Refuse a path that cannot be a store."""
    try:
        if not path.parent.is_dir():
            raise StoreError(f"store must be in an existing folder, got {str(path)!r}")
        if path.is_dir() or (must_exist and not path.is_file()):
            raise StoreError(f"store must be {'an existing file' if must_exist else 'a file'}, got {str(path)!r}")
    except OSError as error:  # a name that is too long, an unreadable folder
        raise StoreError(f"store must be a file we may open, got {str(path)!r}: {said(error)}") from None


@contextlib.contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Raise SQLite's errors as StoreError with the rule broken."""
    import sqlite3

    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:  # the latter from the driver's own cursor
        text = str(error.orig if isinstance(error, DBAPIError) else error)
        for word, rule in _RULES.items():
            if word in text:
                raise StoreError(f"store {rule}, got {str(path)!r}: {text}; what was stored before is kept") from error
        raise StoreError(f"store {str(path)!r} failed: {text}") from error

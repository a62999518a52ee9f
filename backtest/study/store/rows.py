"""One stored result, and the statements that store many and find many by their digests."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from backtest.search.duplicates import Status

#: Rows or digests of one call of the database.
CHUNK = 500


class Row(NamedTuple):
    """One stored result."""

    digest: bytes
    status: int = Status.DONE
    value: float | None = None
    metrics: bytes | None = None  # float64, named by the context
    params: str | None = None  # JSON
    extra: str | None = None  # JSON: error, reported steps, attributes
    finished: float = 0.0  # seconds since 1970
    seconds: float | None = None  # it took
    attempts: int = 1


COLUMNS = ", ".join(Row._fields)


def insertions(context: int, rows: Iterable[Row]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Statements that store rows, each with the parameters of many.

    A column of nothing is left out, and bytes are bound as ``bytearray``: sqlite3 looks for an adapter of every None and every
    ``bytes`` that it is given, which takes 0.3 us a value, as long as the database takes for the row.
    """
    waiting = iter(rows)
    while some := list(itertools.islice(waiting, CHUNK)):
        fields, columns = [], []
        for name, column in zip(Row._fields, zip(*some, strict=True), strict=True):
            if column[0] is not None or column.count(None) < len(column):
                fields.append(name)
                columns.append(tuple(map(_bound, column)) if name in ("digest", "metrics") else column)
        yield _upsert(tuple(fields)), list(zip(itertools.repeat(context), *columns))


def _bound(value: bytes | None) -> bytearray | None:
    return None if value is None else bytearray(value)


@functools.cache
def _upsert(fields: tuple[str, ...]) -> str:
    """Store these fields, the others as NULL; a result stays as it is, but a failure may be followed by another attempt."""
    return (
        f"INSERT INTO results (context, {', '.join(fields)}) VALUES ({', '.join('?' * (len(fields) + 1))}) "
        "ON CONFLICT (context, digest) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in Row._fields[1:-1])
        + f", attempts = results.attempts + excluded.attempts WHERE results.status = {Status.FAILED:d}"
    )


def on_digests(
    what: str, context: int, digests: Iterable[bytes], more: str = "", *values: Any
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements on a context's digests, each with its parameters: neighbours in the index together, so that its pages are read
    once."""
    waiting = iter(sorted(digests))
    while some := tuple(map(bytearray, itertools.islice(waiting, CHUNK))):
        yield f"{what} WHERE context = ? AND digest IN ({', '.join('?' * len(some))}){more}", (context, *some, *values)

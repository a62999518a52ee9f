"""One stored result, and statements that store and select many by digest."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from backtest.search.duplicates import Status

#: Rows or digests per statement.
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
    seconds: float | None = None  # of evaluation
    attempts: int = 1


COLUMNS = ", ".join(Row._fields)


def insertions(context: int, rows: Iterable[Row]) -> Iterator[tuple[str, list[tuple[Any, ...]]]]:
    """Statements that store rows, each with the parameters of many.

    Columns of None only are left out, and bytes are bound as ``bytearray``: sqlite3 looks up an adapter for every None and every
    ``bytes``, which takes 0.3 us a value, as long as inserting the row.
    """
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, CHUNK)):
        fields, columns = [], []
        for name, column in zip(Row._fields, zip(*chunk, strict=True), strict=True):
            if column[0] is not None or column.count(None) < len(column):
                fields.append(name)
                columns.append(tuple(map(_bound, column)) if name in ("digest", "metrics") else column)
        yield _upsert(tuple(fields)), list(zip(itertools.repeat(context), *columns))


def _bound(value: bytes | None) -> bytearray | None:
    return None if value is None else bytearray(value)


@functools.cache
def _upsert(fields: tuple[str, ...]) -> str:
    """Statement that stores these fields, the others as NULL; only failed results are overwritten."""
    return (
        f"INSERT INTO results (context, {', '.join(fields)}) VALUES ({', '.join('?' * (len(fields) + 1))}) "
        "ON CONFLICT (context, digest) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in Row._fields[1:-1])
        + f", attempts = results.attempts + excluded.attempts WHERE results.status = {Status.FAILED:d}"
    )


def on_digests(
    statement: str, context: int, digests: Iterable[bytes], clause: str = "", *values: Any
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Statements on a context's digests, each with its parameters; sorted, so that each page of the index is read once."""
    remaining = iter(sorted(digests))
    while chunk := tuple(map(bytearray, itertools.islice(remaining, CHUNK))):
        yield (f"{statement} WHERE context = ? AND digest IN ({', '.join('?' * len(chunk))}){clause}", (context, *chunk, *values))

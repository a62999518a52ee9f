"""Rows of a store that are not as this library writes them: they are reported in a warning, and left out."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from backtest._checks import StoreWarning
from backtest.search.duplicates import Status
from backtest.study.store.rows import Row

_STATUSES = frozenset(map(int, Status))
#: Largest time, in seconds since 1970 (year 2255).
_TIMES = 9e9
#: Most rows named in one message.
MAX_NAMED = 3


class FaultyRows:
    """Faulty rows of one store: each is reported once, and replaced by the next result of its candidate."""

    def __init__(self, path: Any) -> None:
        self._path = path
        self._digests: dict[int, set[Any]] = {}

    def report(self, context: int, faults: Mapping[Any, str]) -> None:
        """Warn of faulty rows, by digest, that were not reported before."""
        reported = self._digests.setdefault(context, set())
        new = [
            f"{digest.hex() if isinstance(digest, bytes) else repr(digest)} ({fault})"
            for digest, fault in faults.items()
            if digest not in reported
        ]
        reported.update(faults)
        if new:
            more = f" and {len(new) - MAX_NAMED:,} more" if len(new) > MAX_NAMED else ""
            warnings.warn(
                f"results must be as this library writes them, got in context {context} of {str(self._path)!r} the "
                f"{'row' if len(new) == 1 else 'rows'} with digest {', '.join(new[:MAX_NAMED])}{more}; left out, and "
                "evaluated again when asked for",
                StoreWarning,
                stacklevel=5,
            )

    def without(self, context: int, rows: list[Row]) -> list[Row]:
        """Rows without the faulty ones."""
        faults = {}
        for row in rows:
            digest, status, value, metrics, params, extra, finished, seconds, attempts = row
            if not (
                type(digest) is bytes
                and status in _STATUSES
                and (value is None or type(value) is float)
                and (metrics is None or (type(metrics) is bytes and not len(metrics) % 8))
                and (params is None or type(params) is str)
                and (extra is None or type(extra) is str)
                and type(finished) is float
                and 0.0 <= finished < _TIMES
                and (seconds is None or type(seconds) is float)
                and type(attempts) is int
            ):
                faults[digest] = _fault(row)
        reported = self._digests.get(context, ())
        if not faults and not reported:
            return rows
        self.report(context, faults)
        return [row for row in rows if row.digest not in self._digests[context]]

    def replaced(self, context: int, digests: Iterable[bytes]) -> list[bytes]:
        """Those of the digests that have faulty rows, which are now replaced."""
        reported = self._digests.get(context)
        if not reported:
            return []
        faulty = [digest for digest in digests if digest in reported]
        reported.difference_update(faulty)
        return faulty


def _fault(row: Row) -> str:
    rules = {
        "digest": (bytes,),
        "status": (int,),
        "value": (float, type(None)),
        "metrics": (bytes, type(None)),
        "params": (str, type(None)),
        "extra": (str, type(None)),
        "finished": (float,),
        "seconds": (float, type(None)),
        "attempts": (int,),
    }
    for name, kinds in rules.items():
        value = getattr(row, name)
        if type(value) not in kinds:
            return f"{name} {_short(value)}"
    if row.status not in _STATUSES:
        return f"status {row.status}"
    if row.metrics is not None and len(row.metrics) % 8:
        return f"metrics of {len(row.metrics)} bytes"
    return f"finished {row.finished!r}"


def objects(texts: Sequence[str | None]) -> list[dict[str, Any] | None]:
    """Parsed JSON objects; None for a text that is no object, an empty one for no text."""
    try:
        parsed = json.loads(f"[{','.join(each or '{}' for each in texts)}]")
        if len(parsed) == len(texts) and all(type(each) is dict for each in parsed):
            return parsed  # type: ignore[no-any-return]
    except (TypeError, ValueError, RecursionError):
        pass  # at least one is no object: parse each by itself
    return [_object(each) for each in texts]


def _object(text: str | None) -> dict[str, Any] | None:
    try:
        parsed = json.loads(text or "{}")
    except (TypeError, ValueError, RecursionError):
        return None
    return parsed if type(parsed) is dict else None


def no_object(name: str, text: Any) -> str:
    """Description of a fault: a text that is no JSON object."""
    return f"{name} {_short(text)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "..."


def context_fault(each: Mapping[str, Any]) -> str | None:
    """Description of a context's fault, None if it is valid."""
    if not isinstance(each["name"], str):
        return f"name {_short(each['name'])}"
    if not isinstance(each["fingerprint"], bytes):
        return f"fingerprint {_short(each['fingerprint'])}"
    if not isinstance(each["description"], str) or _object(each["description"]) is None:
        return no_object("description", each["description"])
    if not isinstance(each["created"], float) or not 0.0 <= each["created"] < _TIMES:
        return f"created {_short(each['created'])}"
    return None

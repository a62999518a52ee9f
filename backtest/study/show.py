"""Contents of a store for people: its contexts, and their results as a table."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import InputError
from backtest._said import without_password
from backtest.study.store import Row, Status, Store, no_object, objects

if TYPE_CHECKING:
    import pandas as pd

#: Keys of a context's description that are not shown.
HIDDEN = ("metrics", "cells", "code")
#: Most characters of one value.
MAX_VALUE = 300


def overview(store: Store) -> list[dict[str, Any]]:
    """Each context: ``id``, ``name``, ``description``, ``created``, and its number of results by status."""
    return [
        {"id": each["id"], "name": each["name"], "description": each["description"], "created": each["created"]}
        | {status.name.lower(): count for status, count in store.counts(each["id"]).items()}
        for each in store.contexts()
    ]


def one_line(description: Mapping[str, Any]) -> str:
    """A context's description in one line, without options that are off and without redundant keys."""
    first = ("objective", "strategy", "rule", "version")
    keys = [*(key for key in first if key in description), *(key for key in description if key not in (*first, *HIDDEN))]
    parts = []
    for key in keys:
        value = description[key]
        text = without_password(str(value))
        if isinstance(value, dict):
            text = without_password(", ".join(f"{name} {each}" for name, each in value.items() if _is_set(each)))
        if _is_set(value) and text:
            text = text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "..."
            parts.append(f"{key} ({text})" if isinstance(value, dict) else f"{key} {text}")
    return ", ".join(parts)


def _is_set(value: Any) -> bool:
    return value not in (None, False, 0, math.inf, {}, [])


def _split_faulty(rows: list[Row]) -> tuple[list[Row], list[dict[str, Any]], list[dict[str, Any]], dict[bytes, str]]:
    """Valid rows with their parameters and extras; and faults of the others by digest."""
    pairs = zip(rows, objects([row.params for row in rows]), objects([row.extra for row in rows]), strict=True)
    valid, faults = [], {}
    for row, params, extra in pairs:
        if params is None or extra is None or not isinstance(extra.get("attrs") or {}, dict):
            faults[row.digest] = no_object("params", row.params) if params is None else no_object("extra", row.extra)
        else:
            valid.append((row, params, extra))
    return [each[0] for each in valid], [each[1] for each in valid], [each[2] for each in valid], faults


def frame(rows: list[Row], metrics: list[str], report: Callable[[dict[Any, str]], None] | None = None) -> pd.DataFrame:
    """Results as a table: parameters, ``value``, metrics, ``status``, ``error``, ``finished``, ``seconds``, ``attempts``,
    and attributes of ``set_attr``; ``report`` is called with faulty rows."""
    import pandas as pd

    rows, params, extras, faults = _split_faulty(rows)
    if faults and report is not None:
        report(faults)
    table = pd.DataFrame(params, index=range(len(rows)))
    columns: dict[str, Any] = {"value": np.array([np.nan if row.value is None else row.value for row in rows])}
    numbers = [np.frombuffer(row.metrics, dtype=np.float64) if row.metrics else np.empty(0) for row in rows]
    for place, name in enumerate(metrics):
        columns[name] = np.array([each[place] if place < len(each) else np.nan for each in numbers])
    columns |= {
        "status": [Status(row.status).name.lower() for row in rows],
        "error": [each.get("error") for each in extras],
        "finished": pd.to_datetime([row.finished for row in rows], unit="s", utc=True),
        "seconds": np.array([np.nan if row.seconds is None else row.seconds for row in rows]),
        "attempts": [row.attempts for row in rows],
    }
    attrs = [each.get("attrs") or {} for each in extras]
    columns |= {f"attrs.{key}": [each.get(key) for each in attrs] for key in dict.fromkeys(key for each in attrs for key in each)}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


def _names(description: Mapping[str, Any]) -> list[str]:
    names = description.get("metrics", [])
    return [str(each) for each in names] if isinstance(names, list) else []


def export(url: str, out: str | Path, context: int | None = None) -> int:
    """Write a context's results to a .csv or .parquet file, and return their number; the only context by default."""
    out = Path(out)
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"OUT must end in .csv or .parquet, got {str(out)!r}")
    store = Store(url, read_only=True)
    try:
        stored = {each["id"]: each for each in store.contexts()}
        if context is None and len(stored) == 1:
            context = next(iter(stored))
        if context is None or context not in stored:
            raise InputError(f"context must be one of {', '.join(map(str, stored)) or 'none (an empty store)'}, got {context!r}")
        rows, _ = store.read(context)
        table = frame(rows, _names(stored[context]["description"]), functools.partial(store.faulty.report, context))
    finally:
        store.close()
    if out.suffix == ".csv":
        table.to_csv(out, index=False)
    else:
        for name in table.columns:  # a column of several types has no Parquet type
            if table[name].dtype == object and table[name].dropna().map(type).nunique() > 1:
                table[name] = table[name].map(repr, na_action="ignore")
        table.to_parquet(out, index=False)
    return len(table)

"""What a store holds, for people: its contexts, and their results as a table."""

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

#: Of a context's description, what people need not read.
HIDDEN = ("metrics", "cells", "code")
#: Letters of one value.
LONGEST = 300


def overview(store: Store) -> list[dict[str, Any]]:
    """Each context: ``id``, ``name``, ``description``, ``created``, and its number of results by status."""
    return [
        {"id": each["id"], "name": each["name"], "description": each["description"], "created": each["created"]}
        | {status.name.lower(): count for status, count in store.counts(each["id"]).items()}
        for each in store.contexts()
    ]


def one_line(description: Mapping[str, Any]) -> str:
    """What a context is about, in one line; what is off, and what another word says too, is left out."""
    first = ("objective", "strategy", "rule", "version")
    keys = [*(key for key in first if key in description), *(key for key in description if key not in (*first, *HIDDEN))]
    said = []
    for key in keys:
        value = description[key]
        text = without_password(str(value))
        if isinstance(value, dict):
            text = without_password(", ".join(f"{name} {each}" for name, each in value.items() if _says(each)))
        if _says(value) and text:
            text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
            said.append(f"{key} ({text})" if isinstance(value, dict) else f"{key} {text}")
    return ", ".join(said)


def _says(value: Any) -> bool:
    return value not in (None, False, 0, math.inf, {}, [])


def _sound(rows: list[Row]) -> tuple[list[Row], list[dict[str, Any]], list[dict[str, Any]], dict[bytes, str]]:
    """Rows with their parameters and extras; and what is wrong with those that have none."""
    pairs = zip(rows, objects([row.params for row in rows]), objects([row.extra for row in rows]), strict=True)
    good, faults = [], {}
    for row, params, extra in pairs:
        if params is None or extra is None or not isinstance(extra.get("attrs") or {}, dict):
            faults[row.digest] = no_object("params", row.params) if params is None else no_object("extra", row.extra)
        else:
            good.append((row, params, extra))
    return [each[0] for each in good], [each[1] for each in good], [each[2] for each in good], faults


def frame(rows: list[Row], metrics: list[str], report: Callable[[dict[Any, str]], None] | None = None) -> pd.DataFrame:
    """Results as a table: parameters, ``value``, metrics, ``status``, ``error``, ``finished``, ``seconds``, ``attempts``,
    and what ``set_attr`` kept; ``report`` is told of rows that cannot be one."""
    import pandas as pd

    rows, params, extras, faults = _sound(rows)
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
    """Write a context's results to a .csv or .parquet file, and say how many there are; the only context by default."""
    out = Path(out)
    if out.suffix not in (".csv", ".parquet"):
        raise InputError(f"OUT must end in .csv or .parquet, got {str(out)!r}")
    store = Store(url, read_only=True)
    try:
        known = {each["id"]: each for each in store.contexts()}
        if context is None and len(known) == 1:
            context = next(iter(known))
        if context is None or context not in known:
            raise InputError(f"context must be one of {', '.join(map(str, known)) or 'none (an empty store)'}, got {context!r}")
        rows, _ = store.read(context)
        table = frame(rows, _names(known[context]["description"]), functools.partial(store.faulty.report, context))
    finally:
        store.close()
    if out.suffix == ".csv":
        table.to_csv(out, index=False)
    else:
        for name in table.columns:  # a choice of several kinds has no Parquet type
            if table[name].dtype == object and table[name].dropna().map(type).nunique() > 1:
                table[name] = table[name].map(repr, na_action="ignore")
        table.to_parquet(out, index=False)
    return len(table)

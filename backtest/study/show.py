"""What a store holds, for people: its contexts, and their results as a table."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import InputError
from backtest.study.rows import Row, Status
from backtest.study.store import Store

if TYPE_CHECKING:
    import pandas as pd

#: Of a context's description, what people need not read.
UNSAID = ("metrics", "cells")
#: Letters of one value.
LONGEST = 300


def overview(store: Store) -> list[dict[str, Any]]:
    """Each context: ``id``, ``name``, ``description``, ``created``, and its number of results by status."""
    return [{"id": each["id"], "name": each["name"], "description": each["description"], "created": each["created"]}
            | {status.name.lower(): count for status, count in store.counts(each["id"]).items()} for each in store.contexts()]


def words(description: Mapping[str, Any]) -> str:
    """What a context is about, in one line; what is off, and what another word says too, is left out."""
    first = ("objective", "strategy", "rule", "version")
    keys = [*(key for key in first if key in description), *(key for key in description if key not in (*first, *UNSAID))]
    said = []
    for key in keys:
        value = description[key]
        text = str(value)
        if isinstance(value, dict):
            text = ", ".join(f"{name} {each}" for name, each in value.items() if _says(each))
        if _says(value) and text:
            text = text if len(text) <= LONGEST else text[:LONGEST] + "..."
            said.append(f"{key} ({text})" if isinstance(value, dict) else f"{key} {text}")
    return ", ".join(said)


def _says(value: Any) -> bool:
    return value not in (None, False, 0, math.inf, {}, [])


def frame(rows: list[Row], metrics: list[str]) -> pd.DataFrame:
    """Results as a table: parameters, ``value``, metrics, ``status``, ``error``, ``finished``, ``seconds``, ``attempts``,
    and what ``set_attr`` kept."""
    import pandas as pd

    table = pd.DataFrame([json.loads(row.params) if row.params else {} for row in rows], index=range(len(rows)))
    columns: dict[str, Any] = {"value": np.array([np.nan if row.value is None else row.value for row in rows])}
    numbers = [np.frombuffer(row.metrics, dtype=np.float64) if row.metrics else np.empty(0) for row in rows]
    for place, name in enumerate(metrics):
        columns[name] = np.array([each[place] if place < len(each) else np.nan for each in numbers])
    extras = [json.loads(row.extra) if row.extra else {} for row in rows]
    columns |= {"status": [Status(row.status).name.lower() for row in rows], "error": [each.get("error") for each in extras],
                "finished": pd.to_datetime([row.finished for row in rows], unit="s", utc=True),
                "seconds": np.array([np.nan if row.seconds is None else row.seconds for row in rows]),
                "attempts": [row.attempts for row in rows]}
    attrs = [each.get("attrs", {}) for each in extras]
    columns |= {f"attrs.{key}": [each.get(key) for each in attrs] for key in dict.fromkeys(key for each in attrs for key in each)}
    return pd.concat([table, pd.DataFrame(columns)], axis=1)


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
        table = frame(rows, known[context]["description"].get("metrics", []))
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

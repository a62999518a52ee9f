"""Migration of a store of an earlier layout when it is opened, in one transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backtest.study.fingerprint import context_fingerprint
from backtest.study.store.faults import objects
from backtest.study.store.layout import SCHEMA_VERSION

logger = logging.getLogger("backtest")

#: Fields of ``Execution`` and of the rules of a portfolio in layout 1: a table with exactly these names is one of them.
_EXECUTION = frozenset(
    [
        "fill",
        "intrabar",
        "sides",
        "size",
        "size_type",
        "cash",
        "whole_units",
        "close_at_end",
        "start",
        "rf",
        "periods_per_year",
        "profile",
    ]
)
_PORTFOLIO = frozenset(
    ["fill", "start_value", "reinvest", "reserve_costs", "periods_per_year", "rf", "delisted", "delisted_after"]
)
#: Keys of a study's description that make its fingerprint.
_STUDY = ("objective", "version", "directions", "data")


def migrate(run: Callable[..., Any], path: Path, version: int) -> None:
    """Migrate layout 1 to 2: a candidate's ``key`` becomes ``digest``, and start money becomes ``start_cash``.

    Parameters
    ----------
    run : callable
        ``run(statement, parameters)`` on a connection that holds the file's write lock.
    """
    for table in ("results", "leases"):
        run(f"ALTER TABLE {table} RENAME COLUMN key TO digest")
    for number, fingerprint, name, text in run("SELECT id, fingerprint, name, description FROM contexts").fetchall():
        description = objects([text])[0] if isinstance(text, str) else None
        current = None if description is None else renamed(description)
        # A context whose fingerprint does not follow from its description stays as it is.
        if description is None or current == description or _fingerprint(name, description) != fingerprint:
            continue
        run(
            "UPDATE OR IGNORE contexts SET fingerprint = ?, description = ? WHERE id = ?",
            (_fingerprint(name, current or {}), json.dumps(current), number),
        )
    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
    logger.info("store %s: raised from layout %d to %d", path, version, SCHEMA_VERSION)


def renamed(value: Any) -> Any:
    """A plain value with the current names in every execution and portfolio rules inside, in the same order."""
    if isinstance(value, list):
        return [renamed(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == _EXECUTION:
        size_type = "value" if value["size_type"] == "cash" else value["size_type"]
        return {("start_cash" if name == "cash" else name): each for name, each in (value | {"size_type": size_type}).items()}
    if value.keys() == _PORTFOLIO:
        return {("start_cash" if name == "start_value" else name): each for name, each in value.items()}
    return {name: renamed(each) for name, each in value.items()}


def _fingerprint(name: str, description: Mapping[str, Any]) -> bytes:
    """Fingerprint of a context with this description."""
    if "objective" in description:
        return context_fingerprint(["study", name, {each: description.get(each) for each in _STUDY}])
    parts = {each: value for each, value in description.items() if each not in ("metrics", "code")}
    return context_fingerprint(["kernels", parts, description.get("metrics")], sort_keys=True)

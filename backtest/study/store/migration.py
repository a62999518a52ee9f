"""Migration of a store of an earlier layout when it is opened, in one transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from backtest.study.fingerprint import content_hash, renamed
from backtest.study.store.faults import objects
from backtest.study.store.layout import SCHEMA_VERSION

logger = logging.getLogger("backtest")

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
        if description is not None and current == description:
            continue
        if description is None or _fingerprint(name, description) != fingerprint:
            logger.warning(
                "store %s: the description of context %d is damaged, so it cannot be migrated; its results are kept, "
                "and a search evaluates its candidates again",
                path,
                number,
            )
            continue
        run(
            "UPDATE OR IGNORE contexts SET fingerprint = ?, description = ? WHERE id = ?",
            (_fingerprint(name, current or {}), json.dumps(current), number),
        )
    run(f"PRAGMA user_version = {SCHEMA_VERSION}")
    logger.info("store %s: raised from layout %d to %d", path, version, SCHEMA_VERSION)


def _fingerprint(name: str, description: Mapping[str, Any]) -> bytes:
    """Fingerprint of a context with this description."""
    if "objective" in description:
        return content_hash(["study", name, {each: description.get(each) for each in _STUDY}])
    parts = {each: value for each, value in description.items() if each not in ("metrics", "code")}
    return content_hash(["kernels", parts, description.get("metrics")], sort_keys=True)

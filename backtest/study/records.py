"""Finished trials, as a study keeps them and as a store does."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from backtest.space import Space
from backtest.study.rows import Row, Status
from backtest.study.trial import Outcome

#: A candidate whose evaluation failed is tried again by later runs, until it has failed so often.
ATTEMPTS = 3


class Finished(NamedTuple):
    """A finished trial.

    ``values`` is None unless ``status`` is done; ``row`` is the candidate in a batch; ``finished`` is in seconds since 1970,
    ``seconds`` is what the objective took.
    """

    number: int
    params: dict[str, Any]
    values: tuple[float, ...] | None
    status: Status
    key: bytes
    row: tuple[float, ...]
    seconds: float | None
    finished: float
    error: str | None = None
    reports: tuple[tuple[int, float], ...] = ()
    attrs: dict[str, Any] | None = None


def of_outcome(outcome: Outcome, key: bytes, row: Sequence[float], params: dict[str, Any]) -> Finished:
    """A trial that was evaluated just now."""
    return Finished(outcome.number, params, outcome.values, outcome.status, key, tuple(row), outcome.seconds, time.time(),
                    outcome.error, outcome.reports, outcome.attrs or None)


def to_row(trial: Finished) -> Row:
    """A trial as a store keeps it."""
    extra: dict[str, Any] = {}
    if trial.error is not None:
        extra["error"] = trial.error
    if trial.reports:
        extra["reports"] = trial.reports
    if trial.attrs:
        extra["attrs"] = trial.attrs
    values = trial.values or ()
    several = np.array(values).tobytes() if len(values) > 1 else None
    return Row(trial.key, int(trial.status), values[0] if values else None, several, json.dumps(trial.params),
               json.dumps(extra) if extra else None, trial.finished, trial.seconds)


def of_rows(rows: Sequence[Row], space: Space, number: int) -> list[Finished]:
    """Stored results of a space's candidates, numbered from ``number`` on; results of other candidates are left out.

    Left out too are failures that may be tried again.
    """
    rows = [row for row in rows if row.params is not None and (row.status != Status.FAILED or row.attempts >= ATTEMPTS)]
    if not rows:
        return []
    given = json.loads("[" + ",".join(row.params or "{}" for row in rows) + "]")
    batch, inside = space.encode_batch(given)
    rows = [row for row, is_inside in zip(rows, inside.tolist(), strict=True) if is_inside]
    batch = batch[inside]
    found: list[Finished] = []
    for row, key, place, params in zip(rows, space.digests(batch), batch.tolist(), space.decode_batch(batch), strict=True):
        if key != row.key:  # a number of another kind: what was whole there is a float here
            continue
        extra = json.loads(row.extra) if row.extra else {}
        reports = tuple((step, value) for step, value in extra.get("reports", ()))
        found.append(Finished(number + len(found), params, _values(row), Status(row.status), key, tuple(place), row.seconds,
                              row.finished, extra.get("error"), reports, extra.get("attrs")))
    return found


def _values(row: Row) -> tuple[float, ...] | None:
    if row.status != Status.DONE:
        return None
    if row.metrics is not None:
        return tuple(np.frombuffer(row.metrics).tolist())
    return (math.nan if row.value is None else row.value,)

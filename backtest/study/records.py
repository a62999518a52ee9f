"""Finished trials, and their conversion to and from rows of a store."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from backtest.space import Space
from backtest.study.store import Row, Status, no_object, objects
from backtest.study.trial import Outcome

#: A failed candidate is evaluated again by later runs until it has failed so many times.
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
    digest: bytes
    row: tuple[float, ...]
    seconds: float | None
    finished: float
    error: str | None = None
    reports: tuple[tuple[int, float], ...] = ()
    attrs: dict[str, Any] | None = None


def of_outcome(outcome: Outcome, digest: bytes, row: Sequence[float], params: dict[str, Any]) -> Finished:
    """The finished trial of an outcome."""
    return Finished(
        outcome.number,
        params,
        outcome.values,
        outcome.status,
        digest,
        tuple(row),
        outcome.seconds,
        time.time(),
        outcome.error,
        outcome.reports,
        outcome.attrs or None,
    )


def to_row(trial: Finished) -> Row:
    """The row of a store for a finished trial."""
    extra: dict[str, Any] = {}
    if trial.error is not None:
        extra["error"] = trial.error
    if trial.reports:
        extra["reports"] = trial.reports
    if trial.attrs:
        extra["attrs"] = trial.attrs
    values = trial.values or ()
    several = np.array(values).tobytes() if len(values) > 1 else None
    return Row(
        trial.digest,
        int(trial.status),
        values[0] if values else None,
        several,
        json.dumps(trial.params),
        json.dumps(extra) if extra else None,
        trial.finished,
        trial.seconds,
    )


def of_rows(
    rows: Sequence[Row], space: Space, number: int, n_values: int = 1, report: Callable[[dict[Any, str]], None] | None = None
) -> list[Finished]:
    """Stored results of a space's candidates, numbered from ``number`` on; results of other candidates are left out.

    Failures that may be tried again are left out too, and rows that are no results of a study; ``report`` is called with those.
    """
    rows = [row for row in rows if row.params is not None and (row.status != Status.FAILED or row.attempts >= ATTEMPTS)]
    if not rows:
        return []
    all_params, faults = objects([row.params for row in rows]), {}
    extras = [extra if extra is None or _is_extra(extra) else None for extra in objects([row.extra for row in rows])]
    for row, params, extra in zip(rows, all_params, extras, strict=True):
        if params is None or extra is None:
            faults[row.digest] = no_object("params", row.params) if params is None else no_object("extra", row.extra)
        elif row.status == Status.DONE and len(_values(row) or ()) != n_values:
            faults[row.digest] = f"{len(_values(row) or ())} values"
    if faults:
        if report is not None:
            report(faults)
        sound = [row.digest not in faults for row in rows]
        rows, all_params, extras = _only(rows, sound), _only(all_params, sound), _only(extras, sound)
    batch, inside = space.encode_batch(all_params)  # type: ignore[arg-type]  # without None now
    rows, extras = _only(rows, inside.tolist()), _only(extras, inside.tolist())
    batch = batch[inside]
    trials: list[Finished] = []
    for row, digest, coordinates, params, extra in zip(
        rows, space.digests(batch), batch.tolist(), space.decode_batch(batch), extras, strict=True
    ):
        if digest != row.digest:  # of another type: a stored whole number is a float here
            continue
        assert extra is not None
        reports = tuple((step, value) for step, value in extra.get("reports", ()))
        trials.append(
            Finished(
                number + len(trials),
                params,
                _values(row),
                Status(row.status),
                digest,
                tuple(coordinates),
                row.seconds,
                row.finished,
                extra.get("error"),
                reports,
                extra.get("attrs"),
            )
        )
    return trials


def _only(values: Sequence[Any], selected: list[bool]) -> list[Any]:
    return list(itertools.compress(values, selected))


def _is_extra(extra: dict[str, Any]) -> bool:
    if not extra:
        return True
    reports, attrs = extra.get("reports", ()), extra.get("attrs")
    return (
        isinstance(extra.get("error", ""), str)
        and (attrs is None or isinstance(attrs, dict))
        and isinstance(reports, (list, tuple))
        and all(_is_report(each) for each in reports)
    )


def _is_report(report: Any) -> bool:
    return isinstance(report, list) and len(report) == 2 and type(report[0]) is int and isinstance(report[1], (int, float))


def _values(row: Row) -> tuple[float, ...] | None:
    if row.status != Status.DONE:
        return None
    if row.metrics is not None:
        return tuple(np.frombuffer(row.metrics).tolist())
    return () if row.value is None else (row.value,)

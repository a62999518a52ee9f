"""Rows of many problems in one table, and that table on a device."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError
from backtest.folded import CLOSE, ENTRY_LEVEL, ENTRY_PRED, EXIT_PRED, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, SIDE, WEIGHT, Folded

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]


class Table(NamedTuple):
    """Rows of many problems, each problem's longs before its shorts."""

    columns: Floats  # (6, n_rows): entry_pred, exit_pred, entry_level, exit_level, close, weight
    is_long: NDArray[np.bool_]
    edges: Wholes  # (2 n_problems + 1,): of problem i longs from 2 i, shorts from 2 i + 1, end at 2 i + 2
    fees: Floats


def folded_of(problem: Any) -> Folded:
    """The rows of a problem."""
    folded = getattr(problem, "_folded", problem)
    if not isinstance(folded, Folded):
        raise InputError(f"problem must be Levels or AlwaysOn, got {type(problem).__name__}")
    return folded


def table(problems: list[Folded]) -> Table:
    """The rows of all problems in one table."""
    columns = np.empty((6, sum(len(each.rows) for each in problems)))
    is_long = np.empty(columns.shape[1], dtype=bool)
    edges = np.zeros(2 * len(problems) + 1, dtype=np.int64)
    start = 0
    for place, each in enumerate(problems):
        level = PESSIMISTIC_LEVEL if each.pessimistic else OPTIMISTIC_LEVEL
        long = each.rows[:, SIDE] > 0.0
        stop, n_long = start + len(long), int(long.sum())
        order = np.argsort(~long, kind="stable")
        columns[:, start:stop] = each.rows.T[[ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, level, CLOSE, WEIGHT]][:, order]
        is_long[start:stop] = long[order]
        edges[2 * place + 1 : 2 * place + 3] = start + n_long, stop
        start = stop
    return Table(columns, is_long, edges, np.array([each.fee_rate for each in problems], dtype=np.float64))


class Placed(NamedTuple):
    """A table on a device, as both ways to score take it."""

    device: Any
    columns: Any
    is_long: Any
    fees: Any
    edges: Wholes  # here
    edges_there: Any
    most_rows: int  # of one problem
    multiprocessors: int


def place(torch: Any, made: Table, device: Any, dtype: str) -> Placed:
    """Copy a table to a device."""
    kind = getattr(torch, dtype)
    count = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return Placed(
        device,
        torch.as_tensor(made.columns, dtype=kind, device=device),
        torch.as_tensor(made.is_long, device=device),
        torch.as_tensor(made.fees, dtype=kind, device=device),
        made.edges,
        torch.as_tensor(made.edges, device=device),
        int(np.diff(made.edges[::2]).max(initial=0)),
        count,
    )

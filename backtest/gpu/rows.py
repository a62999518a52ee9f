"""Rows of many problems of levels: one after the other, and these on a device."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError
from backtest.level_rows import (
    CLOSE,
    ENTRY_LEVEL,
    ENTRY_PRED,
    EXIT_PRED,
    OPTIMISTIC_LEVEL,
    PESSIMISTIC_LEVEL,
    SIDE,
    WEIGHT,
    LevelRows,
)

Floats = NDArray[np.float64]
Wholes = NDArray[np.int64]

#: Columns of a row on a device, in this order; the exit level is that of the problem's intrabar rule.
DEVICE_COLUMNS = ("entry_pred", "exit_pred", "entry_level", "exit_level", "close", "weight")


class StackedRows(NamedTuple):
    """Rows of many problems, each problem's longs before its shorts."""

    columns: Floats  # (len(DEVICE_COLUMNS), n_rows)
    is_long: NDArray[np.bool_]
    edges: Wholes  # (2 n_problems + 1,): of problem i longs from 2 i, shorts from 2 i + 1, end at 2 i + 2
    fees: Floats


def rows_of(problem: Any, window: slice | None = None) -> LevelRows:
    """The rows of a problem, of all its bars or of those in a window."""
    if isinstance(problem, LevelRows):
        if window is not None:
            raise InputError(f"window must be None for rows, which do not know their bars, got {window}")
        return problem
    if not hasattr(problem, "level_rows"):
        raise InputError(f"problem must be Levels or AlwaysOn, got {type(problem).__name__}")
    rows: LevelRows = problem.level_rows(window)
    return rows


def stack_rows(problems: list[LevelRows]) -> StackedRows:
    """The rows of all problems in one array."""
    columns = np.empty((len(DEVICE_COLUMNS), sum(len(each.rows) for each in problems)))
    is_long = np.empty(columns.shape[1], dtype=bool)
    edges = np.zeros(2 * len(problems) + 1, dtype=np.int64)
    start = 0
    for index, each in enumerate(problems):
        exit_level = PESSIMISTIC_LEVEL if each.pessimistic else OPTIMISTIC_LEVEL
        long = each.rows[:, SIDE] > 0.0
        stop, n_long = start + len(long), int(long.sum())
        order = np.argsort(~long, kind="stable")
        columns[:, start:stop] = each.rows.T[[ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, exit_level, CLOSE, WEIGHT]][:, order]
        is_long[start:stop] = long[order]
        edges[2 * index + 1 : 2 * index + 3] = start + n_long, stop
        start = stop
    return StackedRows(columns, is_long, edges, np.array([each.fee_rate for each in problems], dtype=np.float64))


class DeviceRows(NamedTuple):
    """Rows of many problems on a device, as both scoring paths take them."""

    device: Any
    columns: Any
    is_long: Any
    fees: Any
    edges: Wholes  # on the host
    device_edges: Any
    most_rows: int  # of one problem
    multiprocessors: int


def to_device(torch: Any, stacked: StackedRows, device: Any, dtype: str) -> DeviceRows:
    """Copy rows to a device."""
    kind = getattr(torch, dtype)
    count = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    return DeviceRows(
        device,
        torch.as_tensor(stacked.columns, dtype=kind, device=device),
        torch.as_tensor(stacked.is_long, device=device),
        torch.as_tensor(stacked.fees, dtype=kind, device=device),
        stacked.edges,
        torch.as_tensor(stacked.edges, device=device),
        int(np.diff(stacked.edges[::2]).max(initial=0)),
        count,
    )

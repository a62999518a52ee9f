"""Level profit: columns of a row, and the entry and exit that offsets make of it; the twin of ``ext/_levels.pxd``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Columns of a row: eight numbers, one cache line.
ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, CLOSE, WEIGHT, SIDE = range(8)


def sides_of(offsets: Floats) -> dict[float, tuple[Floats, Floats]]:
    """(entry_offset, exit_offset) of the candidates for each side."""
    high, low = offsets[:, 0], offsets[:, 1]
    return {1.0: (low, high), -1.0: (-high, -low)}


def prices(row: Floats, entry_offset: Floats, exit_offset: Floats) -> tuple[Floats, Floats]:
    """Entry and limit exit of one row, over candidates; or of many rows, each with its own offset."""
    floor, cap = np.where(row[SIDE] > 0.0, -1.0, -10.0), np.where(row[SIDE] > 0.0, 10.0, 1.0)
    entry = row[ENTRY_PRED] + entry_offset
    entry = np.where(entry < floor, floor, entry)
    entry = np.where(entry > 0.0, 0.0, entry)
    exit_ = row[EXIT_PRED] + exit_offset
    exit_ = np.where(exit_ < 0.0, 0.0, exit_)
    exit_ = np.where(exit_ > cap, cap, exit_)
    return entry, exit_

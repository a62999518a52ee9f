"""Rows of the levels kernel: one per bar and side with a position, a short as the long of the mirrored prices.

Column numbers are equal to the kernel's (``ext/_levels.pxd``, ``_pure/_levels.py``); a test holds the three together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest.compute.threads import run_rows

Floats = NDArray[np.float64]

#: Columns of a row.
ROW = ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, CLOSE, WEIGHT, SIDE = tuple(range(8))
#: Columns of a replayed row, and what its exit kind means.
ENTRY, EXIT, EXIT_KIND, FILLED, AMBIGUOUS, PROFIT = range(6)
NONE, AT_CLOSE, AT_LIMIT = range(3)
#: Columns of the exact optimum's answer.
BEST_HIGH, BEST_LOW, BEST_PROFIT, TOLERANCE, TRUNCATED, SCORED = range(6)

#: Candidate-bars per microsecond and core, from which the number of threads is chosen: those of the slowest compiled kernel.
SPEED = 800.0


class LevelRows(NamedTuple):
    """A problem of levels in the order of the kernel's arguments."""

    rows: Floats  # (n_rows, 8)
    split: int  # rows of the first leg, which is summed by itself
    fee_rate: float
    pessimistic: int

    def profit(self, batch: Floats, n_threads: int | None = 1) -> Floats:
        """Profit of each candidate, (n_candidates,)."""
        out = np.empty(len(batch))
        kernel = _backend.kernel("levels")

        def work(start: int, stop: int) -> None:
            kernel.profit(*self, batch, start, stop, out)

        run_rows(work, len(batch), n_threads, len(self.rows) / SPEED)
        return out

"""A problem of levels as kernels take it: one row a bar and side, read like a long."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest.compute.threads import run_rows

Floats = NDArray[np.float64]

#: Columns of a row.  As in the kernel.
ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, CLOSE, WEIGHT, SIDE = range(8)

#: Candidate-bars per microsecond and core, for the choice of threads: the slowest compiled level.
SPEED = 800.0


class Folded(NamedTuple):
    """A problem as the kernel wants it, in the order of its arguments."""

    rows: Floats  # (n_rows, 8)
    split: int  # rows of the first leg, which is summed by itself
    fee_rate: float
    pessimistic: int

    def profit(self, batch: Floats, n_threads: int = 1) -> Floats:
        """Profit of each candidate, (n_candidates,)."""
        out = np.empty(len(batch))
        kernel = _backend.kernel("levels")

        def work(start: int, stop: int) -> None:
            kernel.profit(*self, batch, start, stop, out)

        run_rows(work, len(batch), n_threads, len(self.rows) / SPEED)
        return out

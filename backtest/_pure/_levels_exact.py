"""The exact optimum of level profit: the sweep over events and the cells it keeps; the twin of ``ext/_levels_exact.pxd``.

Notes (d) to (f) of ``levels.py`` say why each step is right.
"""

from __future__ import annotations

import numpy as np

from backtest._pure._levels import Floats, Ints
from backtest._pure._levels_events import Event

#: h-candidates that one pass of the sweep carries.  Fewer make more passes, more loosen the bound: 64, 256 and 1,024 took
#: 2.1, 2.0 and 3.8 ms for 2,000 bars, and 117, 47 and 49 ms for 20,000.
WIDTH = 256
#: Cells that the kernel scores again at most.
MAX_CELLS = 1024


def sweep(first: Ints, events: list[Event], high: Floats, low: Floats, column: int, shift: int, cells: Cells, keep: bool) -> None:
    """Take WIDTH columns, every 2^shift-th from ``column``, through all l-candidates."""
    h = high[column :: 1 << shift][:WIDTH]
    width = len(h)
    round_up = (1 << shift) - 1
    sums, slopes = np.zeros(width), np.zeros(width)
    base = per_h = per_l = 0.0
    peak = base_then = per_h_then = line_then = 0.0
    starts = first.tolist()
    # Columns from h_end (l_end) on do not depend on h (l).  No event ends after h_end: each comes with one in h of equal end.
    h_end = l_end = 0
    is_stale, kept_rows = False, [-1] * width  # row in ``cells`` of the plateau that begins at a column; -1: none
    for step, l in enumerate(low.tolist()):  # noqa: E741 - the offset's name
        is_touched, is_quiet = step == 0, True
        for end, event_base, event_h, event_l, moves_with_l in events[starts[step] : starts[step + 1]]:
            end = (end - column + round_up) >> shift
            if end >= width:
                base += event_base
                per_h += event_h
                per_l += event_l
            elif end > 0:
                sums[:end] += event_base + event_h * h[:end]
                slopes[:end] += event_l
                is_touched = True
            else:
                continue
            is_quiet = False
            if event_h != 0.0:
                h_end = max(h_end, end)
            if moves_with_l:
                l_end = max(l_end, end)
        is_stale = is_stale or not is_quiet
        line = per_l * l
        if not is_touched:
            turn = per_h - per_h_then
            edge = turn * h[width - 1] if turn > 0.0 else turn * h[0]
            bound = ((peak + (base - base_then)) + edge) + (line - line_then)  # slopes are <= 0, and l only rises
            if bound < cells.floor:
                continue
        values = ((sums + per_h * h) + slopes * l) + (base + line)
        peak = float(values.max())
        base_then, per_h_then, line_then = base, per_h, line
        if peak > cells.best:
            cells.raise_best(peak)
        if keep and peak >= cells.best - cells.tolerance:
            if is_stale:
                kept_rows, is_stale = [-1] * width, False
            cells.keep(values, h, l, h_end, l_end, kept_rows)


class Cells:
    """The cells within tolerance of the best, highest first, at most MAX_CELLS; up to twice as many until ``tidy``."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.best = self.floor = self.dropped = -np.inf
        self.rows: list[tuple[float, float, float]] = []

    def raise_best(self, value: float) -> None:
        self.best = value
        self.floor = value - 1.5 * self.tolerance  # half the tolerance is room for the rounding of the bound itself

    def keep(self, values: Floats, h: Floats, l: float, h_end: int, l_end: int, kept_rows: list[int]) -> None:  # noqa: E741
        """Take in the cells of one l-candidate that are within tolerance; of a plateau only the first in tie order."""
        start = row = -1
        for lane in np.nonzero(values >= self.best - self.tolerance)[0].tolist():
            if start < 0 or lane <= h_end:
                start, row = lane, kept_rows[lane] if lane >= l_end else -1
            cell = (float(values[lane]), float(h[lane]), l)
            if row >= 0:
                if rank(cell) < rank(self.rows[row]):
                    self.rows[row] = cell
                continue
            if len(self.rows) == 2 * MAX_CELLS:
                self.tidy()
                kept_rows[:] = [-1] * len(kept_rows)
            self.rows.append(cell)
            row = kept_rows[start] = len(self.rows) - 1

    def close(self) -> tuple[Floats, bool]:
        self.tidy()
        return np.array(self.rows), self.dropped >= self.best - self.tolerance

    def tidy(self) -> None:
        rows = np.array([row for row in self.rows if row[0] >= self.best - self.tolerance])
        order = ranked(rows)
        if len(order) > MAX_CELLS:
            self.dropped = max(self.dropped, rows[order[MAX_CELLS], 0])
        self.rows = [tuple(row) for row in rows[order[:MAX_CELLS]].tolist()]


def rank(cell: tuple[float, float, float]) -> tuple[float, ...]:
    value, h, l = cell  # noqa: E741
    return -value, abs(h) + abs(l), abs(h), h, l


def ranked(cells: Floats) -> Ints:
    """Order of (value, h, l): highest value, then smallest |h| + |l|, |h|, h, l.  (0, 0) thus wins every tie."""
    value, h, l = cells.T  # noqa: E741
    return np.lexsort((l, h, np.abs(h), np.abs(h) + np.abs(l), -value))

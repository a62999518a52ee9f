"""Level profit: the sum over bars for a batch of offsets, and the offsets that are best.

A bar with a position is folded into one *row* that reads like a long, whatever its side: a short is the long of the
mirrored prices, ``entry = -high_pred - h`` and ``exit = -low_pred - l``, and a negated number is exact.  What ``close_at_eod``,
``fill_margin`` and ``intrabar`` ask for is in the two levels of the row, so one loop serves every mode:

    entry = clamp(entry_pred + entry_offset, floor, 0)      fills if entry > entry_level
    exit  = clamp(exit_pred + exit_offset, 0, cap)          counts if exit <= exit_level, else the exit is the close
    profit of a filled row = weight * ((exit - entry) - fee_rate)

Lanes are candidates: nothing crosses them and each is summed in bar order, so every width of registers gives the same bits.
A long takes (entry_offset, exit_offset) = (l, h), floor -1 and cap 10; a short takes (-h, -l), floor -10 and cap 1.

The exact optimum:

(a) A row has one threshold in h (largest h at which its limit exit counts if long, at which it fills if short) and one in
    l (smallest l at which it fills if long, at which its limit exit counts if short).  Between thresholds no predicate
    changes, every term is non-decreasing in h and non-increasing in l, and rounding keeps that order; so the kernel's own
    sum is largest at the (largest h, smallest l) corner of a cell, and the best corner is the best point there is.
(b) A threshold is found by bisection over the bit patterns of doubles, on the predicate as the kernel evaluates it: one
    step of h near 0 vanishes in HP + h, so the largest h is not the arithmetic breakpoint.
(c) On the grid of thresholds the profit is a sum of *events*: from l-candidate ``step`` on, the first ``end``
    h-candidates gain ``base + per_h * h + per_l * l``.  A row has at most five, its clamps included.
(d) The sweep takes WIDTH h-candidates at a time through all l-candidates.  An event that covers all of them, nearly
    every one, changes three numbers; only one that ends among them touches the columns.  The columns' sums are formed
    only where an upper bound, exact at the last time they were formed, reaches the best known.  A first pass over
    every 2^shift-th column makes that best known.
(e) Running sums round differently from the kernel.  With N events and S the sum of their largest absolute values, a
    running sum is within E = (N + 32) (eps / 2) S of the truth, the kernel's too, so no cell below best - 4 E can be
    the kernel's best: cells within B = 4 E are scored again by the kernel, which decides.
(f) Where no filled row depends on h (or l), neighbouring cells have one value to the last bit; the sweep keeps the first
    of them in tie order.  Without it a high fee on many bars, which leaves a few fills, gives thousands of equal cells.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from backtest._pure import direct as _direct

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Event = tuple[int, float, float, float, bool]  # end, base, per_h, per_l, whether it depends on l

#: Columns of a row: eight numbers, one cache line.
ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, CLOSE, WEIGHT, SIDE = range(8)
#: Columns of a replayed row, and what its exit kind means.
ENTRY, EXIT, EXIT_KIND, FILLED, AMBIGUOUS, PROFIT = range(6)
NONE, AT_CLOSE, AT_LIMIT = range(3)
#: Columns of the exact optimum's answer.
BEST_HIGH, BEST_LOW, BEST_PROFIT, TOLERANCE, TRUNCATED, SCORED = range(6)

#: h-candidates that one pass of the sweep carries.  Fewer make more passes, more loosen the bound: 64, 256 and 1,024 took
#: 2.1, 2.0 and 3.8 ms for 2,000 bars, and 117, 47 and 49 ms for 20,000.
WIDTH = 256
#: Cells that the kernel scores again at most.
KEPT = 1024
EVENTS_PER_ROW = 5
_LOWEST = np.iinfo(np.int64).min


def profit(
    rows: Floats, split: int, fee_rate: float, pessimistic: int, offsets: Floats, start: int, stop: int, out: Floats
) -> None:
    """Profit of candidates ``start`` to ``stop``.

    Parameters
    ----------
    rows
        (n_rows, 8), folded bars; see the module's columns.
    split
        Rows before it are one sum and rows from it on another; their sum is the profit.
    fee_rate
        Charged once per filled row, relative to its weight.
    pessimistic
        1 to take the pessimistic exit level, 0 the optimistic one.
    offsets
        (n_candidates, 2), columns high and low.
    start, stop
        Candidates to score.
    out
        (n_candidates,), filled from ``start`` to ``stop``.
    """
    sides = _sides(offsets[start:stop])
    level = PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL
    legs = []
    for leg in (rows[:split], rows[split:]):
        total = np.zeros(stop - start)
        for row in leg:
            entry, exit_ = _prices(row, *sides[row[SIDE]])
            exit_ = np.where(exit_ <= row[level], exit_, row[CLOSE])
            gain = row[WEIGHT] * ((exit_ - entry) - fee_rate)
            total = total + np.where(entry > row[ENTRY_LEVEL], gain, 0.0)
        legs.append(total)
    out[start:stop] = legs[0] + legs[1]


def report(rows: Floats, split: int, fee_rate: float, high: float, low: float, out: Floats) -> None:
    """What a point earns by each intrabar rule, what no offsets at all earn, and how often it fills.

    Parameters
    ----------
    rows, split, fee_rate
        As in :func:`profit`.
    high, low
        The offsets.
    out
        (6,): profit by the optimistic and by the pessimistic rule, the same two at (0, 0), filled rows at the point, and
        those of them where the two rules exit differently.
    """
    points = np.array([[high, low], [0.0, 0.0]])
    profits = np.empty((2, 2))
    for rule in (0, 1):
        profit(rows, split, fee_rate, rule, points, 0, 2, profits[rule])
    out[:4] = profits.T.ravel()
    bars = np.empty((len(rows), 6))
    replay(rows, fee_rate, 0, high, low, 0, len(rows), bars)
    out[4:] = np.count_nonzero(bars[:, FILLED]), np.count_nonzero(bars[:, AMBIGUOUS])


def replay(rows: Floats, fee_rate: float, pessimistic: int, high: float, low: float, start: int, stop: int, out: Floats) -> None:
    """What rows ``start`` to ``stop`` do at one point.

    Parameters
    ----------
    rows
        (n_rows, 8), folded bars.
    fee_rate
        Charged once per filled row, relative to its weight.
    pessimistic
        1 to take the pessimistic exit level, 0 the optimistic one.
    high, low
        The offsets.
    start, stop
        Rows to replay.
    out
        (n_rows, 6): entry, exit (relative moves; NaN if not filled), exit kind, filled, ambiguous, profit.
    """
    level = PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL
    sides = _sides(np.array([[high, low]]))
    for index in range(start, stop):
        row = rows[index]
        entries, exits = _prices(row, *sides[row[SIDE]])
        entry, exit_ = float(entries[0]), float(exits[0])
        if not entry > row[ENTRY_LEVEL]:
            out[index] = (np.nan, np.nan, NONE, 0.0, 0.0, 0.0)
            continue
        differ = exit_ <= row[OPTIMISTIC_LEVEL] and not exit_ <= row[PESSIMISTIC_LEVEL]
        kind = AT_LIMIT if exit_ <= row[level] else AT_CLOSE
        if kind == AT_CLOSE:
            exit_ = row[CLOSE]
        gain = row[WEIGHT] * ((exit_ - entry) - fee_rate)
        out[index] = (row[SIDE] * entry + 0.0, row[SIDE] * exit_ + 0.0, kind, 1.0, float(differ), gain)  # + 0.0: no minus zero


def _sides(offsets: Floats) -> dict[float, tuple[Floats, Floats]]:
    """(entry_offset, exit_offset) of the candidates for each side."""
    high, low = offsets[:, 0], offsets[:, 1]
    return {1.0: (low, high), -1.0: (-high, -low)}


def _prices(row: Floats, entry_offset: Floats, exit_offset: Floats) -> tuple[Floats, Floats]:
    """Entry and limit exit of one row, over candidates; or of many rows, each with its own offset."""
    floor, cap = np.where(row[SIDE] > 0.0, -1.0, -10.0), np.where(row[SIDE] > 0.0, 10.0, 1.0)
    entry = row[ENTRY_PRED] + entry_offset
    entry = np.where(entry < floor, floor, entry)
    entry = np.where(entry > 0.0, 0.0, entry)
    exit_ = row[EXIT_PRED] + exit_offset
    exit_ = np.where(exit_ < 0.0, 0.0, exit_)
    exit_ = np.where(exit_ > cap, cap, exit_)
    return entry, exit_


def scratch_sizes(n_rows: int) -> tuple[int, int]:
    """Lengths of the two scratch arrays of :func:`exact`, float64 and int64."""
    return 4 * EVENTS_PER_ROW * n_rows + 2 * (n_rows + 3) + 12 * KEPT, 11 * (n_rows + 4)


def exact(
    rows: Floats, split: int, fee_rate: float, pessimistic: int, bounds: Floats, floats: Floats, ints: Ints, out: Floats
) -> None:
    """The best point within bounds, to the last bit of :func:`profit`.

    Parameters
    ----------
    rows, split, fee_rate, pessimistic
        As in :func:`profit`.
    bounds
        (4,): lowest and highest h, lowest and highest l.
    floats, ints
        Scratch of :func:`scratch_sizes`; its contents mean nothing.
    out
        (6,): h, l, profit there, tolerance B, 1 if more than 1,024 cells were within it, cells scored by :func:`profit`.
    """
    limits = _key(bounds)
    top, bottom = _thresholds(rows, PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL, limits)
    highs, lows = _grid(top, limits[0], limits[1]), _grid(bottom, limits[2], limits[3])
    high, low = _value(highs), _value(lows)
    ends, steps = np.searchsorted(highs, top, side="right"), np.searchsorted(lows, bottom, side="left")
    first, events, size = _events(rows, fee_rate, high, low, ends, steps)
    tolerance = 2.0 * (len(events) + 32.0) * np.finfo(np.float64).eps * size
    cells = _Cells(tolerance)
    shift = 0
    while len(high) >> shift > WIDTH:
        shift += 1
    if shift > 0:
        _sweep(first, events, high, low, 0, shift, cells, False)
    for column in range(0, len(high), WIDTH):
        _sweep(first, events, high, low, column, 0, cells, True)
    found, truncated = cells.close()
    scores = np.empty(len(found))
    profit(rows, split, fee_rate, pessimistic, np.ascontiguousarray(found[:, 1:]), 0, len(found), scores)
    found[:, 0] = scores
    best = found[_ranked(found)[0]]
    out[:] = (best[1], best[2], best[0], tolerance, float(truncated), len(found))


def direct_scratch_size(budget: int, max_iter: int) -> int:
    """Length of the scratch of :func:`direct`, float64.  A run never needs more, so it cannot end for lack of room."""
    capacity, n_levels = _room(budget, max_iter)
    return 12 * capacity + 4 * n_levels + 6


def direct(
    rows: Floats,
    split: int,
    fee_rate: float,
    pessimistic: int,
    bounds: Floats,
    eps: float,
    budget: int,
    max_iter: int,
    vol_tol: float,
    len_tol: float,
    scratch: Floats,
    out: Floats,
) -> None:
    """DIRECT, locally biased, from its first point to its end: the points of ``backtest.search.direct``.

    Parameters
    ----------
    rows, split, fee_rate, pessimistic
        As in :func:`profit`.
    bounds
        (4,): lowest and highest h, lowest and highest l, lowest < highest.
    eps, budget, max_iter, vol_tol, len_tol
        As in the State of the kernel ``direct``.
    scratch
        Of :func:`direct_scratch_size`; its contents mean nothing.
    out
        (5,): h, l, profit there, points scored, status of the kernel ``direct``.
    """
    width = bounds[1::2] - bounds[::2]
    state = _direct.State(2, eps, budget, max_iter, True, False, -math.inf, 0.0, vol_tol, len_tol)
    capacity, n_levels = _room(budget, max_iter)
    centre = np.empty((capacity, 2))
    rank, child, sibling, chosen = np.empty((4, capacity), dtype=np.intp)
    head, waiting = np.empty((2, n_levels), dtype=np.intp)
    order, side = np.empty((2, 2), dtype=np.intp)
    ratio = bounds[::2] / width
    state.bind(
        ratio,
        width,
        centre,
        np.empty((capacity, 2), dtype=np.intc),
        np.empty(capacity),
        rank,
        child,
        sibling,
        chosen,
        head,
        waiting,
        np.empty(n_levels),
        np.empty(n_levels),
        np.empty(2),
        order,
        side,
    )
    n_new, status = _direct.start(state), 0
    while status == 0:
        points, scores = np.empty((n_new, 2)), np.empty(n_new)
        _direct.sample(state, points)
        profit(rows, split, fee_rate, pessimistic, points, 0, n_new, scores)
        status = _direct.update(state, -scores)
        n_new = n_new if status else _direct.select(state)
    out[:2] = (centre[state.best] + ratio) * width
    out[2:] = (-state.fun, state.n_points, status)


def _room(budget: int, max_iter: int) -> tuple[int, int]:
    """Rectangles and size classes for the longest run there can be."""
    # An iteration adds one size class at most, and divides one rectangle a class into four more at most.
    most = min(budget, 2 * (max_iter + 2) ** 2)
    n_classes = min(most // 4 + 2, max_iter + 1)
    deepest = budget // 2 + 1
    return most + 4 * (n_classes + 1) + 2, (deepest if deepest // 2 <= max_iter else 2 * max_iter) + 8


def _key(values: Floats) -> Ints:
    """Whole numbers in the order of the doubles; both zeros are 0 and -x is the negative of x."""
    bits = values.view(np.int64)
    return np.where(bits >= 0, bits, _LOWEST - bits)


def _value(keys: Ints) -> Floats:
    return np.where(keys >= 0, keys, _LOWEST - keys).view(np.float64)


def _thresholds(rows: Floats, level: int, limits: Ints) -> tuple[Ints, Ints]:
    """Key of each row's largest h (below the bounds: none) and smallest l (above the bounds: none)."""
    lowest_h, highest_h, lowest_l, highest_l = limits
    is_long = rows[:, SIDE] > 0.0
    fields = rows.T
    # In the row's own direction: the first entry offset that fills, the first exit offset that no longer counts.
    entry, entry_stop = np.where(is_long, lowest_l, -highest_h), np.where(is_long, highest_l, -lowest_h) + 1
    exit_, exit_stop = np.where(is_long, lowest_h, -highest_l), np.where(is_long, highest_h, -lowest_l) + 1
    for _ in range(64):
        middle = (entry >> 1) + (entry_stop >> 1) + (entry & entry_stop & 1)
        filled = _prices(fields, _value(middle), fields[EXIT_PRED])[0] > fields[ENTRY_LEVEL]
        is_open = entry < entry_stop
        entry, entry_stop = np.where(is_open & ~filled, middle + 1, entry), np.where(is_open & filled, middle, entry_stop)
        middle = (exit_ >> 1) + (exit_stop >> 1) + (exit_ & exit_stop & 1)
        counts = _prices(fields, fields[ENTRY_PRED], _value(middle))[1] <= fields[level]
        is_open = exit_ < exit_stop
        exit_, exit_stop = np.where(is_open & counts, middle + 1, exit_), np.where(is_open & ~counts, middle, exit_stop)
    return np.where(is_long, exit_ - 1, -entry), np.where(is_long, entry, 1 - exit_)


def _grid(keys: Ints, lowest: int, highest: int) -> Ints:
    """Candidates of one axis: thresholds within bounds, the bounds, and 0."""
    keys = np.concatenate([keys, np.array([lowest, highest, 0])])
    return np.unique(keys[(keys >= lowest) & (keys <= highest)])


def _events(rows: Floats, fee_rate: float, high: Floats, low: Floats, ends: Ints, steps: Ints) -> tuple[Ints, list[Event], float]:
    """Events in order of ``step``, where each step's begin, and the sum of their largest absolute values."""
    side, weight = rows[:, SIDE], rows[:, WEIGHT]
    is_long = side > 0.0
    close = side * rows[:, CLOSE]
    high_pred = np.where(is_long, rows[:, EXIT_PRED], -rows[:, ENTRY_PRED])
    low_pred = np.where(is_long, rows[:, ENTRY_PRED], -rows[:, EXIT_PRED])
    never = len(low)
    zero_end = np.minimum(np.searchsorted(high, -high_pred, side="left"), ends)  # before it hp is clamped to 0
    zero_step = np.searchsorted(low, -low_pred, side="left")  # from it on lp is clamped to 0
    is_linear = zero_step > steps
    # Only a short's exit can be filled at lp = -1: a long fills strictly above its low, which is -1 or more.
    floor_step = np.where(is_long, 0, np.searchsorted(low, -1.0 - low_pred, side="left"))
    is_floor = floor_step > steps
    nothing, everything = np.zeros(len(rows)), np.full(len(rows), len(high))

    def slot(step: Ints, end: Ints, base: Floats, per_h: Floats, per_l: Floats) -> tuple[Ints | Floats, ...]:
        return np.where(end > 0, step, never), end, base, per_h, per_l, is_floor | (per_l != 0.0)

    entry_part = np.where(is_linear, low_pred, 0.0)
    exit_part = np.where(is_floor, -1.0, entry_part)
    slope = np.where(is_linear & ~is_floor, -weight, 0.0)
    slots = [
        slot(
            np.where(is_long, steps, 0),
            np.where(is_long, everything, ends),
            np.where(is_long, weight * ((close - fee_rate) - entry_part), weight * ((high_pred - fee_rate) - close)),
            np.where(is_long, 0.0, weight),
            np.where(is_long, slope, 0.0),
        ),
        slot(
            steps,
            ends,
            np.where(is_long, weight * (high_pred - close), weight * (close - exit_part)),
            np.where(is_long, weight, 0.0),
            np.where(is_long, 0.0, slope),
        ),
        slot(np.where(is_long, steps, 0), zero_end, -(weight * high_pred), -weight, nothing),
        slot(np.where(is_floor, floor_step, never), ends, weight * (-1.0 - low_pred), nothing, -weight),
        slot(
            np.where(is_linear & (steps < never), zero_step, never),
            np.where(is_long, everything, ends),
            weight * low_pred,
            nothing,
            weight,
        ),
    ]
    step, end, base, per_h, per_l, moves_with_l = (np.stack(field, axis=1).ravel() for field in zip(*slots, strict=True))
    order = np.argsort(step, kind="stable")
    order = order[step[order] < never]
    first = np.searchsorted(step[order], np.arange(never + 1), side="left")
    largest_h, largest_l = max(abs(high[0]), abs(high[-1])), max(abs(low[0]), abs(low[-1]))
    sizes = (np.abs(base[order]) + np.abs(per_h[order]) * largest_h) + np.abs(per_l[order]) * largest_l
    size = float(np.cumsum(sizes)[-1]) if len(sizes) else 0.0
    events = list(zip(*(field[order].tolist() for field in (end, base, per_h, per_l, moves_with_l)), strict=True))
    return first, events, size


def _sweep(
    first: Ints, events: list[Event], high: Floats, low: Floats, column: int, shift: int, cells: _Cells, keep: bool
) -> None:
    """Take WIDTH columns, every 2^shift-th from ``column``, through all l-candidates."""
    h = high[column :: 1 << shift][:WIDTH]
    width = len(h)
    round_up = (1 << shift) - 1
    sums, slopes = np.zeros(width), np.zeros(width)
    base = per_h = per_l = 0.0
    peak = base_then = per_h_then = line_then = 0.0
    starts = first.tolist()
    # Columns from h_end (l_end) on do not depend on h (l).  No event ends behind h_end: each comes with one in h of equal end.
    h_end = l_end = 0
    is_stale, slots = False, [-1] * width  # where the cell of the plateau that begins at a column is kept
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
            start = place = -1
            if is_stale:
                slots, is_stale = [-1] * width, False
            for lane in np.nonzero(values >= cells.best - cells.tolerance)[0].tolist():
                if start < 0 or lane <= h_end:
                    start, place = lane, slots[lane] if lane >= l_end else -1
                cell = (float(values[lane]), float(h[lane]), l)
                if place >= 0:
                    if _rank(cell) < _rank(cells.rows[place]):
                        cells.rows[place] = cell
                    continue
                if len(cells.rows) == 2 * KEPT:
                    cells.tidy()
                    slots = [-1] * width
                cells.rows.append(cell)
                place = slots[start] = len(cells.rows) - 1


class _Cells:
    """The cells within tolerance of the best, highest first, at most KEPT; twice as many between two tidyings."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.best = self.floor = self.dropped = -np.inf
        self.rows: list[tuple[float, float, float]] = []

    def raise_best(self, value: float) -> None:
        self.best = value
        self.floor = value - 1.5 * self.tolerance  # half the tolerance is room for the rounding of the bound itself

    def close(self) -> tuple[Floats, bool]:
        self.tidy()
        return np.array(self.rows), self.dropped >= self.best - self.tolerance

    def tidy(self) -> None:
        rows = np.array([row for row in self.rows if row[0] >= self.best - self.tolerance])
        order = _ranked(rows)
        if len(order) > KEPT:
            self.dropped = max(self.dropped, rows[order[KEPT], 0])
        self.rows = [tuple(row) for row in rows[order[:KEPT]].tolist()]


def _rank(cell: tuple[float, float, float]) -> tuple[float, ...]:
    value, h, l = cell  # noqa: E741
    return -value, abs(h) + abs(l), abs(h), h, l


def _ranked(cells: Floats) -> Ints:
    """Order of (value, h, l): highest value, then smallest |h| + |l|, |h|, h, l.  (0, 0) thus wins every tie."""
    value, h, l = cells.T  # noqa: E741
    return np.lexsort((l, h, np.abs(h), np.abs(h) + np.abs(l), -value))

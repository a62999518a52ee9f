"""Level profit: the sum over bars for a batch of offsets, and the offsets that are best.

A bar with a position is folded into one *row* that reads like a long, whatever its side: a short is the long of the
mirrored prices, ``entry = -high_pred - h`` and ``exit = -low_pred - l``, and a negated number is exact.  What ``close_at_eod``,
``fill_margin`` and ``intrabar`` ask for is in the two levels of the row, so one loop serves every mode:

    entry = clamp(entry_pred + entry_offset, floor, 0)      fills if entry > entry_level
    exit  = clamp(exit_pred + exit_offset, 0, cap)          counts if exit <= exit_level, else the exit is the close
    profit of a filled row = weight * ((exit - entry) - fee_rate)

Lanes are candidates: each is independent and summed in bar order, so every width of registers gives the same bits.
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
    only where an upper bound, exact at the last time they were formed, reaches the best cell so far.  A first pass over
    every 2^shift-th column finds a good one early.
(e) Running sums round differently from the kernel.  With N events and S the sum of their largest absolute values, a
    running sum is within E = (N + 32) (eps / 2) S of the truth, the kernel's too, so no cell below best - 4 E can be
    the kernel's best: cells within B = 4 E are scored again by the kernel, which decides.
(f) Where no filled row depends on h (or l), neighbouring cells have one value to the last bit; the sweep keeps the first
    of them in tie order.  Without it a high fee on many bars, which leaves a few fills, gives thousands of equal cells.
"""

from __future__ import annotations

import math

import numpy as np

from backtest._pure import direct as direct_kernel
from backtest._pure._levels import (
    CLOSE,
    ENTRY_LEVEL,
    ENTRY_PRED,
    EXIT_PRED,
    OPTIMISTIC_LEVEL,
    PESSIMISTIC_LEVEL,
    SIDE,
    WEIGHT,
    Floats,
    Ints,
    prices,
    sides_of,
)
from backtest._pure._levels_events import EVENTS_PER_ROW, events_of, grid, ordinal_of, thresholds, value_of
from backtest._pure._levels_exact import MAX_CELLS, WIDTH, Cells, ranked, sweep

#: Columns of a replayed row, and what its exit kind means.
ENTRY, EXIT, EXIT_KIND, FILLED, AMBIGUOUS, PROFIT = range(6)
NONE, AT_CLOSE, AT_LIMIT = range(3)
#: Columns of the exact optimum's answer.
BEST_HIGH, BEST_LOW, BEST_PROFIT, TOLERANCE, TRUNCATED, SCORED = range(6)
#: Columns and sizes that the callers and both twins must agree on.
LAYOUT = {
    "ENTRY_PRED": ENTRY_PRED,
    "EXIT_PRED": EXIT_PRED,
    "ENTRY_LEVEL": ENTRY_LEVEL,
    "OPTIMISTIC_LEVEL": OPTIMISTIC_LEVEL,
    "PESSIMISTIC_LEVEL": PESSIMISTIC_LEVEL,
    "CLOSE": CLOSE,
    "WEIGHT": WEIGHT,
    "SIDE": SIDE,
    "ENTRY": ENTRY,
    "EXIT": EXIT,
    "EXIT_KIND": EXIT_KIND,
    "FILLED": FILLED,
    "AMBIGUOUS": AMBIGUOUS,
    "PROFIT": PROFIT,
    "NONE": NONE,
    "AT_CLOSE": AT_CLOSE,
    "AT_LIMIT": AT_LIMIT,
    "BEST_HIGH": BEST_HIGH,
    "BEST_LOW": BEST_LOW,
    "BEST_PROFIT": BEST_PROFIT,
    "TOLERANCE": TOLERANCE,
    "TRUNCATED": TRUNCATED,
    "SCORED": SCORED,
    "EVENTS_PER_ROW": EVENTS_PER_ROW,
    "WIDTH": WIDTH,
    "MAX_CELLS": MAX_CELLS,
}


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
    sides = sides_of(offsets[start:stop])
    level = PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL
    legs = []
    for leg in (rows[:split], rows[split:]):
        total = np.zeros(stop - start)
        for row in leg:
            entry, exit_ = prices(row, *sides[row[SIDE]])
            exit_ = np.where(exit_ <= row[level], exit_, row[CLOSE])
            gain = row[WEIGHT] * ((exit_ - entry) - fee_rate)
            total = total + np.where(entry > row[ENTRY_LEVEL], gain, 0.0)
        legs.append(total)
    out[start:stop] = legs[0] + legs[1]


def report(rows: Floats, split: int, fee_rate: float, high: float, low: float, out: Floats) -> None:
    """Profit of a point by each intrabar rule, that of no offsets, and how often the point fills.

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
    sides = sides_of(np.array([[high, low]]))
    for index in range(start, stop):
        row = rows[index]
        entries, exits = prices(row, *sides[row[SIDE]])
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


def scratch_sizes(n_rows: int) -> tuple[int, int]:
    """Lengths of the two scratch arrays of :func:`exact`, float64 and int64."""
    return 4 * EVENTS_PER_ROW * n_rows + 2 * (n_rows + 3) + 12 * MAX_CELLS, 11 * (n_rows + 4)


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
        Scratch of :func:`scratch_sizes`; need not be initialised.
    out
        (6,): h, l, profit there, tolerance B, 1 if more than 1,024 cells were within it, cells scored by :func:`profit`.
    """
    limits = ordinal_of(bounds)
    top, bottom = thresholds(rows, PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL, limits)
    highs, lows = grid(top, limits[0], limits[1]), grid(bottom, limits[2], limits[3])
    high, low = value_of(highs), value_of(lows)
    ends, steps = np.searchsorted(highs, top, side="right"), np.searchsorted(lows, bottom, side="left")
    first, events, size = events_of(rows, fee_rate, high, low, ends, steps)
    tolerance = 2.0 * (len(events) + 32.0) * np.finfo(np.float64).eps * size
    cells = Cells(tolerance)
    shift = 0
    while len(high) >> shift > WIDTH:
        shift += 1
    if shift > 0:
        sweep(first, events, high, low, 0, shift, cells, False)
    for column in range(0, len(high), WIDTH):
        sweep(first, events, high, low, column, 0, cells, True)
    found, truncated = cells.close()
    scores = np.empty(len(found))
    profit(rows, split, fee_rate, pessimistic, np.ascontiguousarray(found[:, 1:]), 0, len(found), scores)
    found[:, 0] = scores
    best = found[ranked(found)[0]]
    out[:] = (best[1], best[2], best[0], tolerance, float(truncated), len(found))


def direct_scratch_size(budget: int, max_iter: int) -> int:
    """Length of the scratch of :func:`direct`, float64.  A run never needs more, so it cannot end for lack of room."""
    capacity, n_classes = _room(budget, max_iter)
    return 12 * capacity + 4 * n_classes + 6


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
        Of :func:`direct_scratch_size`; need not be initialised.
    out
        (5,): h, l, profit there, points scored, status of the kernel ``direct``.
    """
    width = bounds[1::2] - bounds[::2]
    state = direct_kernel.State(2, eps, budget, max_iter, True, False, -math.inf, 0.0, vol_tol, len_tol)
    capacity, n_classes = _room(budget, max_iter)
    centre = np.empty((capacity, 2))
    rank, child, sibling, chosen = np.empty((4, capacity), dtype=np.intp)
    head, waiting = np.empty((2, n_classes), dtype=np.intp)
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
        np.empty(n_classes),
        np.empty(n_classes),
        np.empty(2),
        order,
        side,
    )
    n_new, status = direct_kernel.start(state), 0
    while status == 0:
        points, scores = np.empty((n_new, 2)), np.empty(n_new)
        direct_kernel.sample(state, points)
        profit(rows, split, fee_rate, pessimistic, points, 0, n_new, scores)
        status = direct_kernel.update(state, -scores)
        n_new = n_new if status else direct_kernel.select(state)
    out[:2] = (centre[state.best] + ratio) * width
    out[2:] = (-state.fun, state.n_points, status)


def _room(budget: int, max_iter: int) -> tuple[int, int]:
    """Rectangles and size classes for the longest run there can be."""
    # An iteration adds one size class at most, and divides one rectangle a class into four more at most.
    most = min(budget, 2 * (max_iter + 2) ** 2)
    n_classes = min(most // 4 + 2, max_iter + 1)
    deepest = budget // 2 + 1
    return most + 4 * (n_classes + 1) + 2, (deepest if deepest // 2 <= max_iter else 2 * max_iter) + 8

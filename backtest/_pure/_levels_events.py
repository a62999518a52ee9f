"""The exact optimum of level profit: thresholds, the grid they make, and profit as events on it; the twin of
``ext/_levels_events.pxd``.  Notes (a) to (c) of ``levels.py`` say why each step is right.
"""

from __future__ import annotations

import numpy as np

from backtest._pure._levels import CLOSE, ENTRY_LEVEL, ENTRY_PRED, EXIT_PRED, SIDE, WEIGHT, Floats, Ints, prices

Event = tuple[int, float, float, float, bool]  # end, base, per_h, per_l, whether it depends on l

EVENTS_PER_ROW = 5
_LOWEST = np.iinfo(np.int64).min


def ordinal_of(values: Floats) -> Ints:
    """Whole numbers in the order of the doubles; both zeros are 0 and -x is the negative of x."""
    bits = values.view(np.int64)
    return np.where(bits >= 0, bits, _LOWEST - bits)


def value_of(ordinals: Ints) -> Floats:
    return np.where(ordinals >= 0, ordinals, _LOWEST - ordinals).view(np.float64)


def thresholds(rows: Floats, level: int, limits: Ints) -> tuple[Ints, Ints]:
    """Key of each row's largest h (below the bounds: none) and smallest l (above the bounds: none)."""
    lowest_h, highest_h, lowest_l, highest_l = limits
    is_long = rows[:, SIDE] > 0.0
    fields = rows.T
    # In the row's own direction: the first entry offset that fills, the first exit offset that no longer counts.
    entry, entry_stop = np.where(is_long, lowest_l, -highest_h), np.where(is_long, highest_l, -lowest_h) + 1
    exit_, exit_stop = np.where(is_long, lowest_h, -highest_l), np.where(is_long, highest_h, -lowest_l) + 1
    for _ in range(64):
        middle = (entry >> 1) + (entry_stop >> 1) + (entry & entry_stop & 1)
        filled = prices(fields, value_of(middle), fields[EXIT_PRED])[0] > fields[ENTRY_LEVEL]
        is_open = entry < entry_stop
        entry, entry_stop = np.where(is_open & ~filled, middle + 1, entry), np.where(is_open & filled, middle, entry_stop)
        middle = (exit_ >> 1) + (exit_stop >> 1) + (exit_ & exit_stop & 1)
        counts = prices(fields, fields[ENTRY_PRED], value_of(middle))[1] <= fields[level]
        is_open = exit_ < exit_stop
        exit_, exit_stop = np.where(is_open & counts, middle + 1, exit_), np.where(is_open & ~counts, middle, exit_stop)
    return np.where(is_long, exit_ - 1, -entry), np.where(is_long, entry, 1 - exit_)


def grid(ordinals: Ints, lowest: int, highest: int) -> Ints:
    """Candidates of one axis: thresholds within bounds, the bounds, and 0."""
    ordinals = np.concatenate([ordinals, np.array([lowest, highest, 0])])
    return np.unique(ordinals[(ordinals >= lowest) & (ordinals <= highest)])


def events_of(
    rows: Floats, fee_rate: float, high: Floats, low: Floats, ends: Ints, steps: Ints
) -> tuple[Ints, list[Event], float]:
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

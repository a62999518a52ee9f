"""From event to event: the order of things on a bar, and the way to the next bar on which something can happen.

The twin of ``ext/_events.pxd``.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from backtest._pure._book import BUST, CLOSE, NONE, OPEN, Book
from backtest._pure._spans import LANES, MOMENTS, extremes, first_touch, lane_sums

#: Cash that a position may leave for it to be all there is: rounding, as a share of the position's value.
NO_CASH = 1e-14


def replay_bars(book: Book) -> None:
    bar, last = book.settings.first, book.settings.last
    while bar < last:
        step(book, bar)
        bar = skip(book, bar)
    if book.units != 0.0:
        book.bars_held += last - book.entry_bar


def step(book: Book, bar: int) -> None:
    """One bar, on which anything may happen."""
    settings, bars = book.settings, book.bars
    close = float(bars.close[bar])
    opened_here = left_here = False
    if book.exit_reason != NONE or book.entry_side != 0:
        opened_here = book.act(float(bars.open[bar]), bar, OPEN, True)
    if book.units != 0.0:
        book.decision_bar = bar  # of an exit by its levels
        left_here = book.test_levels(bar, opened_here)
    if book.units != 0.0:
        book.closes_held += 1
        if book.units < 0.0:
            borrow = -book.units * close * settings.borrow_per_bar
            book.cash -= borrow
            book.borrow_cost += borrow
            book.costs += borrow
        book.base = best_of(book, book.base, bar)
    value = book.cash + book.units * close
    if value > 0.0:
        book.decide(bar)
        if settings.fills_at_close:
            book.act(close, bar, CLOSE, not left_here)
            value = book.cash + book.units * close
    if value > 0.0 and bar == settings.last - 1 and settings.close_at_end:
        book.end_of_data(bar)
        value = book.cash + book.units * close
    if value <= 0.0:
        go_bust(book, bar)
        return
    book.mark(value)
    book.record(bar, [value])


def go_bust(book: Book, bar: int) -> None:
    """Nothing is left at this close."""
    book.is_bust = True
    book.exit_reason, book.entry_side = NONE, 0
    if book.units != 0.0:
        book.decision_bar = bar
        book.leave(float(book.bars.close[bar]), bar, CLOSE, BUST, 0)
    book.written_off = 0.0 - book.cash
    if book.ledger is not None:
        book.ledger[book.n_fills - 1]["written_off"] = book.written_off
    book.mark(0.0)
    book.record(bar, [0.0])


def skip(book: Book, bar: int) -> int:
    """Live through the bars after ``bar`` on which nothing can happen but a decision; the bar on which something can.

    May stop early: the step that follows decides what happens.
    """
    settings = book.settings
    if bar == settings.last - 1 or book.exit_reason != NONE or book.entry_side != 0:
        return bar + 1
    if book.is_bust:
        rest(book, bar + 1, settings.last - 1)
        return int(settings.last)
    decision = next_decision(book, bar)
    last: int = settings.last - (2 if settings.close_at_end else 1)
    end = min(decision - 1 if settings.fills_at_close else decision, last)
    if book.units == 0.0:
        rest(book, bar + 1, end)
    else:
        end = next_touch(book, bar + 1, end) - 1
        end = hold(book, bar + 1, end)
    if end == decision:
        book.decide(end)
    return end + 1


def next_decision(book: Book, bar: int) -> int:
    """Next bar at whose close the position, or its absence, is decided on; the last one and 1 if there is none."""
    side = (book.units > 0.0) - (book.units < 0.0)
    acting = book.acting[side]
    at = bisect_right(acting, bar)
    last: int = book.settings.last
    decision: int = min(acting[at], last) if at < len(acting) else last
    if side != 0 and book.max_bars > 0:
        decision = min(decision, max(bar + book.max_bars - book.closes_held, bar + 1))
    return decision


def next_touch(book: Book, begin: int, end: int) -> int:
    """First bar from ``begin`` to ``end`` on which a level of the position is touched; ``end + 1`` if there is none."""
    bars = book.bars
    above, below = 1.0 + book.settings.touch_tolerance, 1.0 - book.settings.touch_tolerance
    is_long = book.units > 0.0
    floor, ceiling = (book.stop * above, book.target * below) if is_long else (book.target * above, book.stop * below)
    if book.trail != book.trail:
        return first_touch(bars.low, bars.high, begin, end, floor, ceiling)
    base = book.base
    for bar in range(begin, end + 1):
        low, high = bars.low[bar], bars.high[bar]
        if low <= floor or high >= ceiling:
            return bar
        if low <= base * (1.0 - book.trail) * above if is_long else high >= base * (1.0 + book.trail) * below:
            return bar
        base = best_of(book, base, bar)
    return end + 1


def best_of(book: Book, base: float, bar: int) -> float:
    """What the trail follows, after ``bar``."""
    bars = book.bars
    if book.units > 0.0:
        return max(base, float(bars.high[bar] if book.settings.trail_from_extremes else bars.close[bar]))
    return min(base, float(bars.low[bar] if book.settings.trail_from_extremes else bars.close[bar]))


def rest(book: Book, begin: int, end: int) -> None:
    """Mark bars ``begin`` to ``end`` without a position: returns of 0."""
    if end >= begin:
        shortfall = 0.0 - book.settings.rf_per_bar
        book.moments[MOMENTS - 1] += (end - begin + 1) * (shortfall * shortfall)
        book.record(begin, [book.last_equity] * (end - begin + 1))


def hold(book: Book, begin: int, end: int) -> int:
    """Mark bars ``begin`` to ``end`` with the position as it is; the last bar marked (it may go bust on the next)."""
    if end < begin:
        return end
    low, high, fall = extremes(book.bars.close, begin, end)
    if end - begin >= LANES and book.units > 0.0 and abs(book.cash) <= NO_CASH * (book.units * low):
        close, moments = book.bars.close[begin : end + 1], book.spans.moments
        book.add(
            (moments[end, :MOMENTS] - moments[begin - 1, :MOMENTS])
            + (moments[end, 8 : 8 + MOMENTS] - moments[begin - 1, 8 : 8 + MOMENTS])
        )
        book.fall_to(fall)
        book.fall_to((book.cash + book.units * low) / book.peak)
        highest = book.cash + book.units * high
        if highest > book.peak:
            book.peak = highest
        book.last_equity = book.cash + book.units * float(close[-1])
        book.record(begin, book.cash + book.units * close)
    else:
        end = walk(book, begin, end)
    book.closes_held += end - begin + 1
    if book.trail == book.trail:
        for bar in range(begin, end + 1):
            book.base = best_of(book, book.base, bar)
    return end


def walk(book: Book, begin: int, end: int) -> int:
    """Mark bars ``begin`` to ``end``, one by one; the last bar before equity is gone."""
    settings, equity = book.settings, [book.last_equity]
    for close in book.bars.close[begin : end + 1].tolist():
        borrow = -book.units * close * settings.borrow_per_bar if book.units < 0.0 else 0.0
        value = (book.cash - borrow) + book.units * close
        if value <= 0.0:
            break
        book.cash -= borrow
        book.borrow_cost += borrow
        book.costs += borrow
        equity.append(value)
    before, values = np.array(equity[:-1]), np.array(equity[1:])
    if len(values):
        book.add(lane_sums((values - before) / before, settings.rf_per_bar))
        peaks = np.maximum.accumulate(np.maximum(values, book.peak))
        book.fall_to(float((values / peaks).min()))
        book.peak, book.last_equity = float(peaks[-1]), equity[-1]
        book.record(begin, values)
    return begin + len(values) - 1

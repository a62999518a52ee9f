"""The event loop of one candidate: what happens on a bar, and the jump to the next bar on which anything can happen.

The twin of ``ext/_bar_events.pxd``.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from backtest._pure._holding_tables import LANES, MOMENTS, close_extremes, first_touch, lane_sums
from backtest._pure._signal_account import BUST, CLOSE, NONE, OPEN, SignalAccount

#: A position counts as all of the equity if cash is at most this share of its value: what rounding leaves.
CASH_TOLERANCE = 1e-14


def replay_bars(account: SignalAccount) -> None:
    bar, last = account.settings.first, account.settings.last
    while bar < last:
        step(account, bar)
        bar = skip(account, bar)


def step(account: SignalAccount, bar: int) -> None:
    """Process one bar on which anything may happen."""
    settings, bars = account.settings, account.bars
    close = float(bars.close[bar])
    opened_here = closed_here = False
    if account.exit_reason != NONE or account.entry_side != 0:
        opened_here = account.fill_decision(float(bars.open[bar]), bar, OPEN, True)
    if account.units != 0.0:
        account.decision_bar = bar  # of an exit by its levels
        closed_here = account.check_levels(bar, opened_here)
    if account.units != 0.0:
        account.closes_held += 1
        if account.units < 0.0:
            borrow = -account.units * close * settings.borrow_per_bar
            account.cash -= borrow
            account.borrow_cost += borrow
            account.sums.costs += borrow
        account.level_base = trail_base(account, account.level_base, bar)
    value = account.cash + account.units * close
    if value > 0.0:
        account.decide(bar)
        if settings.fills_at_close:
            account.fill_decision(close, bar, CLOSE, not closed_here)
            value = account.cash + account.units * close
    if value > 0.0 and bar == settings.last - 1 and settings.close_at_end:
        account.end_of_data(bar)
        value = account.cash + account.units * close
    if value <= 0.0:
        go_bust(account, bar)
        return
    account.mark(value)
    account.record(bar, [value])


def go_bust(account: SignalAccount, bar: int) -> None:
    """Equity is gone at this close: close the position and stop trading."""
    account.is_bust = True
    account.exit_reason, account.entry_side = NONE, 0
    if account.units != 0.0:
        account.decision_bar = bar
        account.close_position(float(account.bars.close[bar]), bar, CLOSE, BUST, 0)
    account.sums.written_off = 0.0 - account.cash
    if account.ledger is not None:
        account.ledger[account.n_fills - 1]["written_off"] = account.sums.written_off
    account.mark(0.0)
    account.record(bar, [0.0])


def skip(account: SignalAccount, bar: int) -> int:
    """Mark the bars after ``bar`` on which nothing can fill; return the next bar that ``step`` has to process.

    It may return an earlier bar than necessary: ``step`` alone decides what happens.
    """
    settings = account.settings
    if bar == settings.last - 1 or account.exit_reason != NONE or account.entry_side != 0:
        return bar + 1
    if account.is_bust:
        mark_flat(account, bar + 1, settings.last - 1)
        return int(settings.last)
    decision = next_decision(account, bar)
    last: int = settings.last - (2 if settings.close_at_end else 1)
    end = min(decision - 1 if settings.fills_at_close else decision, last)
    if account.units == 0.0:
        mark_flat(account, bar + 1, end)
    else:
        end = next_touch(account, bar + 1, end) - 1
        end = mark_held(account, bar + 1, end)
    if end == decision:
        account.decide(end)
    return end + 1


def next_decision(account: SignalAccount, bar: int) -> int:
    """Next bar whose close decides to enter or to exit, by signal or by time; ``settings.last`` if there is none."""
    side = (account.units > 0.0) - (account.units < 0.0)
    decision_bars = account.decision_bars[side]
    at = bisect_right(decision_bars, bar)
    last: int = account.settings.last
    decision: int = min(decision_bars[at], last) if at < len(decision_bars) else last
    if side != 0 and account.max_bars > 0:
        decision = min(decision, max(bar + account.max_bars - account.closes_held, bar + 1))
    return decision


def next_touch(account: SignalAccount, begin: int, end: int) -> int:
    """First bar from ``begin`` to ``end`` on which a level of the position is touched; ``end + 1`` if there is none."""
    bars = account.bars
    touch_above, touch_below = 1.0 + account.settings.touch_tolerance, 1.0 - account.settings.touch_tolerance
    is_long = account.units > 0.0
    lower, upper = (account.stop, account.target) if is_long else (account.target, account.stop)
    floor, ceiling = lower * touch_above, upper * touch_below
    if account.trail != account.trail:
        return first_touch(bars.low, bars.high, begin, end, floor, ceiling)
    level_base = account.level_base
    for bar in range(begin, end + 1):
        low, high = bars.low[bar], bars.high[bar]
        if low <= floor or high >= ceiling:
            return bar
        if is_long:
            if low <= level_base * (1.0 - account.trail) * touch_above:
                return bar
        elif high >= level_base * (1.0 + account.trail) * touch_below:
            return bar
        level_base = trail_base(account, level_base, bar)
    return end + 1


def trail_base(account: SignalAccount, level_base: float, bar: int) -> float:
    """The price that the trail is measured from, after ``bar``: the best close (or extreme) since the entry."""
    bars = account.bars
    if account.units > 0.0:
        return max(level_base, float(bars.high[bar] if account.settings.trail_from_extremes else bars.close[bar]))
    return min(level_base, float(bars.low[bar] if account.settings.trail_from_extremes else bars.close[bar]))


def mark_flat(account: SignalAccount, begin: int, end: int) -> None:
    """Mark bars ``begin`` to ``end`` without a position: their returns are 0."""
    if end >= begin:
        shortfall = max(account.settings.rf_per_bar, 0.0)  # a return of 0 beats a negative rate
        account.sums.moments[MOMENTS - 1] += (end - begin + 1) * (shortfall * shortfall)
        account.record(begin, [account.last_equity] * (end - begin + 1))


def mark_held(account: SignalAccount, begin: int, end: int) -> int:
    """Mark bars ``begin`` to ``end`` with an unchanged position; return the last bar marked (equity is gone at the next)."""
    if end < begin:
        return end
    low, high, fall = close_extremes(account.bars.close, begin, end)
    if end - begin >= LANES and account.units > 0.0 and abs(account.cash) <= CASH_TOLERANCE * (account.units * low):
        close, moments = account.bars.close[begin : end + 1], account.tables.moments
        account.sums.add_moments(
            (moments[end, :MOMENTS] - moments[begin - 1, :MOMENTS])
            + (moments[end, 8 : 8 + MOMENTS] - moments[begin - 1, 8 : 8 + MOMENTS])
        )
        account.sums.update_drawdown(fall)
        account.sums.update_drawdown((account.cash + account.units * low) / account.peak)
        highest = account.cash + account.units * high
        if highest > account.peak:
            account.peak = highest
        account.last_equity = account.cash + account.units * float(close[-1])
        account.record(begin, account.cash + account.units * close)
    else:
        end = mark_span(account, begin, end)
    account.closes_held += end - begin + 1
    if account.trail == account.trail:
        for bar in range(begin, end + 1):
            account.level_base = trail_base(account, account.level_base, bar)
    return end


def mark_span(account: SignalAccount, begin: int, end: int) -> int:
    """Mark bars ``begin`` to ``end`` one by one; return the last bar before equity is gone."""
    settings, equity = account.settings, [account.last_equity]
    for close in account.bars.close[begin : end + 1].tolist():
        borrow = -account.units * close * settings.borrow_per_bar if account.units < 0.0 else 0.0
        value = (account.cash - borrow) + account.units * close
        if value <= 0.0:
            break
        account.cash -= borrow
        account.borrow_cost += borrow
        account.sums.costs += borrow
        equity.append(value)
    before, values = np.array(equity[:-1]), np.array(equity[1:])
    if len(values):
        account.sums.add_moments(lane_sums((values - before) / before, settings.rf_per_bar))
        peaks = np.maximum.accumulate(np.maximum(values, account.peak))
        account.sums.update_drawdown(float((values / peaks).min()))
        account.peak, account.last_equity = float(peaks[-1]), equity[-1]
        account.record(begin, values)
    return begin + len(values) - 1

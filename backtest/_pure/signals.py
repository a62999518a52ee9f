"""Signals: one candidate at a time, from event to event.

The order of events on a bar, once and for all (``_step``):

1. what the previous close decided fills at the open (``fill="next_open"``);
2. a position opened before this bar whose level lies beyond the open exits at the open;
3. high and low against the levels;
4. the close: borrowed units are paid for, equity is marked, the conditions decide; with ``fill="close"`` that fills here.

Between two events nothing fills, so nothing but the marks has to be added up (``_skip``): a position that is all there
is takes the sums of its returns from the tables of :func:`measure`, any other one is walked through, in lanes.

Every argument is a record with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``spans`` (what
:func:`measure` fills, see ``signals.Spans``), ``program`` (what the candidates do, see ``signals.Program``) and
``settings`` (what they share, see ``signals.Settings``).
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import numpy as np

from backtest._pure._costs import affordable_units, order_cost
from backtest._pure._spans import LANES, MOMENTS, extremes, first_touch, lane_sums, measure_moments, measure_ranges, powers

OPEN, INSIDE, CLOSE = 0, 1, 2
NONE, SIGNAL, REVERSE, STOP, TARGET, TRAIL, TIME, END, BUST = range(9)

NAN = float("nan")
INF = float("inf")

#: Cash that a position may leave for it to be all there is: rounding, as a share of the position's value.
NO_CASH = 1e-14


def measure(bars: Any, rf_per_bar: float, spans: Any) -> None:
    """Fill the tables that spans of bars are looked up in.

    Parameters
    ----------
    bars
        Record, see the module.
    rf_per_bar : float
        Riskless return of a bar; what falls short of it is downside.
    spans
        Record of output tables, see ``signals.Spans``.
    """
    measure_moments(bars.close, rf_per_bar, spans.moments)
    measure_ranges(bars, spans.to_here, spans.from_here, spans.blocks, spans.lows, spans.highs)


def evaluate(bars: Any, spans: Any, program: Any, settings: Any, start: int, stop: int, sums: Any) -> None:
    """Replay candidates ``start <= row < stop`` and fill their rows of ``sums``.

    Parameters
    ----------
    bars, spans, program, settings
        Records, see the module.
    start, stop : int
        Rows of the batch.
    sums : ndarray of SUMS, shape (n_candidates,)
        Output.
    """
    for row in range(start, stop):
        book = _Book(bars, spans, program, settings, row)
        _replay(book)
        book.write(sums[row])


def replay(
    bars: Any, spans: Any, program: Any, settings: Any, row: int, sums: Any, ledger: Any, equity: Any, units: Any
) -> tuple[int, int, int]:
    """Replay one candidate and record what it did.

    Parameters
    ----------
    bars, spans, program, settings
        Records, see the module.
    row : int
        Row of the batch.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    ledger : ndarray of FILL
        Output; room for every fill (``sums["n_fills"]`` of ``evaluate``).
    equity, units : ndarray of float64, shape (last - first,)
        Output: equity and position at each close.

    Returns
    -------
    n_fills, unfilled_exit, unfilled_entry : int
        Rows written to the ledger; reason and side of a decision on the last bar that did not fill.
    """
    book = _Book(bars, spans, program, settings, row)
    book.ledger, book.equity, book.position = ledger, equity, units
    _replay(book)
    book.write(sums[0])
    return book.n_fills, book.exit_reason, book.entry_side


class _Book:
    """The account of one candidate while its bars pass."""

    def __init__(self, bars: Any, spans: Any, program: Any, settings: Any, row: int) -> None:
        self.bars, self.spans, self.program, self.settings, self.row = bars, spans, program, settings, row
        self.conditions = _resolved(program, row, len(bars.close))
        enter_long, exit_long, enter_short, exit_short = self.conditions
        # Bars at whose close something is decided: flat, long (1) and short (-1).
        self.acting = [np.flatnonzero(each).tolist() for each in (
            enter_long | enter_short, enter_short | exit_long, enter_long | exit_short)]
        self.max_bars = int(program.max_bars[row])
        self.ledger: Any = None
        self.equity: Any = None
        self.position: Any = None
        self.cash: float = settings.cash
        self.units = 0.0
        # The open position.
        self.entry_price = self.entry_value = self.entry_cost = self.borrow_cost = 0.0
        self.stop = self.target = self.trail = NAN  # levels, and the trailing fraction
        self.base = 0.0  # what levels are fractions of; then the best of it and the closes (or extremes) since
        self.entry_bar = self.closes_held = 0
        # What the last close decided.
        self.exit_reason, self.entry_side, self.decision_bar = NONE, 0, -1
        self.is_bust = False
        # Sums.
        self.n_fills = 0
        self.last_equity = self.peak = float(settings.cash)
        self.moments, self.max_drawdown = [0.0] * MOMENTS, 0.0
        self.bars_held = self.traded_value = self.costs = self.written_off = 0.0
        self.n_trades = self.n_winners = self.won = self.lost = self.net_profit = 0.0
        self.sum_trade_return = self.sum_trade_return_2 = self.n_ambiguous = 0.0
        self.largest_profit = self.best_trade = -INF
        self.worst_trade = INF

    def sampled(self, which: int, bar: int) -> float:
        """Number ``which`` (stop, target, trail, size) as the close of ``bar`` sees it; NaN is off."""
        line = self.program.line_rows[self.row, which]
        return float(self.program.lines[line, bar] if line >= 0 else self.program.values[self.row, which])

    def trade(self, units: float, price: float, bar: int, moment: int, reason: int, ambiguous: int) -> float:
        """One order: cash, sums, ledger; returns its cost."""
        before = self.units
        value = units * price
        cost = order_cost(self.settings, abs(units), price)
        cash_before = self.cash
        equity = self.cash if before == 0.0 else NAN
        self.cash = cash_before - value - cost
        self.units = before + units if before == 0.0 else 0.0
        self.traded_value += abs(value)
        self.costs += cost
        if self.ledger is not None:
            fill = self.ledger[self.n_fills]
            fill["decision_bar"], fill["fill_bar"], fill["moment"], fill["asset"] = self.decision_bar, bar, moment, 0
            fill["units"], fill["price"], fill["value"], fill["cost"] = units, price, value, cost
            fill["cash_before"], fill["cash_after"] = cash_before, self.cash
            fill["position_before"], fill["position_after"] = before, self.units
            fill["reason"], fill["ambiguous"] = reason, ambiguous
            fill["stop"], fill["target"], fill["equity"], fill["written_off"] = NAN, NAN, equity, 0.0
        self.n_fills += 1
        return cost

    def enter(self, side: int, quote: float, bar: int, moment: int) -> bool:
        """Open a position at ``quote`` plus slippage, as large as its costs allow; False if nothing fits."""
        settings = self.settings
        equity = self.cash
        if equity <= 0.0:
            return False
        price = quote * (1.0 + settings.slippage) if side > 0 else quote * (1.0 - settings.slippage)
        size = self.sampled(3, self.decision_bar)
        budget = size * equity if settings.size_is_share else (size if size < equity else equity)
        # Sized on the quote: the fee inside the size is that of the price without slippage.
        sized = (price + settings.fee_rate * quote) / (1.0 + settings.fee_rate) if settings.sized_on_quote else price
        units = affordable_units(settings, budget, sized, settings.whole_units)
        if not units > 0.0:
            return False
        self.entry_cost = self.trade(units if side > 0 else -units, price, bar, moment, NONE, 0)
        self.entry_price = price
        self.entry_value = units * price
        self.borrow_cost = 0.0
        self.entry_bar, self.closes_held = bar, 0
        stop, target, self.trail = (self.sampled(which, self.decision_bar) for which in range(3))
        self.base = float(self.bars.close[self.decision_bar]) if settings.levels_from_decision else price
        self.stop = self.base * (1.0 - stop) if side > 0 else self.base * (1.0 + stop)
        self.target = self.base * (1.0 + target) if side > 0 else self.base * (1.0 - target)
        if self.ledger is not None:
            self.ledger[self.n_fills - 1]["stop"] = self.stop
            self.ledger[self.n_fills - 1]["target"] = self.target
        return True

    def leave(self, quote: float, bar: int, moment: int, reason: int, ambiguous: int) -> None:
        """Close the position at ``quote``, minus slippage unless it is a target, and add up the trade."""
        price = quote
        if reason != TARGET:
            slippage = self.settings.stop_slippage if reason in (STOP, TRAIL) else self.settings.exit_slippage
            price = quote * (1.0 - slippage) if self.units > 0.0 else quote * (1.0 + slippage)
        units = self.units
        cost = self.trade(-units, price, bar, moment, reason, ambiguous)
        net = units * (price - self.entry_price) - self.entry_cost - cost - self.borrow_cost
        result = net / self.entry_value
        self.n_trades += 1.0
        self.net_profit += net
        if net > 0.0:
            self.n_winners += 1.0
            self.won += net
        else:
            self.lost -= net
        if net > self.largest_profit:
            self.largest_profit = net
        self.sum_trade_return += result
        self.sum_trade_return_2 += result * result
        if result > self.best_trade:
            self.best_trade = result
        if result < self.worst_trade:
            self.worst_trade = result
        self.bars_held += bar - self.entry_bar
        self.n_ambiguous += ambiguous

    def test_levels(self, bar: int, opened_here: bool) -> bool:
        """Levels against open, high and low of ``bar``; True if the position was closed."""
        bars, units = self.bars, self.units
        quote, high, low = float(bars.open[bar]), float(bars.high[bar]), float(bars.low[bar])
        level, target, reason = self.stop, self.target, STOP
        stop_beats_gap = self.settings.stop_beats_gap
        if units > 0.0:
            trail = self.base * (1.0 - self.trail)
            if trail > level or level != level:  # the nearer acts; equal is the stop
                level, reason = trail, TRAIL
            if opened_here:
                if level > quote:
                    level = quote
                if target < quote:  # only where levels are not those of the entry price
                    target = quote
            elif quote <= level:
                self.leave(quote, bar, OPEN, reason, 0)
                return True
            elif quote >= target and not (stop_beats_gap and low <= level):
                self.leave(quote, bar, OPEN, TARGET, 0)
                return True
            stopped, reached = low <= level, high >= target
        else:
            trail = self.base * (1.0 + self.trail)
            if trail < level or level != level:
                level, reason = trail, TRAIL
            if opened_here:
                if level < quote:
                    level = quote
                if target > quote:
                    target = quote
            elif quote >= level:
                self.leave(quote, bar, OPEN, reason, 0)
                return True
            elif quote <= target and not (stop_beats_gap and high >= level):
                self.leave(quote, bar, OPEN, TARGET, 0)
                return True
            stopped, reached = high >= level, low <= target
        if stopped and (not reached or self.settings.is_pessimistic):
            self.leave(level, bar, INSIDE, reason, int(reached))
        elif reached:
            self.leave(target, bar, INSIDE, TARGET, int(stopped))
        return stopped or reached

    def decide(self, bar: int) -> None:
        """What the conditions at the close of ``bar`` ask for."""
        enter_long, exit_long, enter_short, exit_short = (condition[bar] for condition in self.conditions)
        is_time = self.max_bars > 0 and self.closes_held >= self.max_bars
        self.exit_reason, self.entry_side, self.decision_bar = NONE, 0, bar
        if self.units > 0.0:
            if enter_short:
                self.exit_reason, self.entry_side = REVERSE, -1
            elif exit_long:
                self.exit_reason = SIGNAL
            elif is_time:
                self.exit_reason = TIME
        elif self.units < 0.0:
            if enter_long:
                self.exit_reason, self.entry_side = REVERSE, 1
            elif exit_short:
                self.exit_reason = SIGNAL
            elif is_time:
                self.exit_reason = TIME
        elif enter_long:
            self.entry_side = 1
        elif enter_short:
            self.entry_side = -1

    def act(self, quote: float, bar: int, moment: int, may_enter: bool) -> bool:
        """Fill what was decided; True if a position was opened."""
        opened = False
        if self.exit_reason != NONE:
            self.leave(quote, bar, moment, self.exit_reason, 0)
        if self.entry_side != 0 and may_enter:
            opened = self.enter(self.entry_side, quote, bar, moment)
        self.exit_reason, self.entry_side = NONE, 0
        return opened

    def end(self, bar: int) -> None:
        """Close what is open on the last bar: at its close, or back at its open with all that its close decided."""
        if not self.settings.ends_at_open:
            if self.units != 0.0:
                self.leave(float(self.bars.close[bar]), bar, CLOSE, END, 0)
                self.exit_reason = NONE
            return
        if self.units != 0.0 and self.exit_reason == NONE:
            self.exit_reason = END
        if self.act(float(self.bars.open[bar]), bar, OPEN, True):
            self.test_levels(bar, True)

    def mark(self, equity: float) -> None:
        """One return, from the last close's equity to this one's."""
        result = (equity - self.last_equity) / self.last_equity if self.last_equity != 0.0 else 0.0
        self.last_equity = equity
        self.add(powers(result, self.settings.rf_per_bar))
        if equity > self.peak:
            self.peak = equity
        self.fall_to(equity / self.peak)

    def add(self, terms: Any) -> None:
        """Moments of one return, or of a span of them."""
        for column, term in enumerate(terms):
            self.moments[column] += term

    def fall_to(self, ratio: float) -> None:
        """Equity was this share of its peak."""
        if ratio - 1.0 < self.max_drawdown:
            self.max_drawdown = ratio - 1.0

    def record(self, begin: int, values: Any) -> None:
        """Equity at the closes from ``begin`` on, nothing traded among them."""
        if self.equity is not None:
            begin -= self.settings.first
            self.equity[begin : begin + len(values)], self.position[begin : begin + len(values)] = values, self.units

    def write(self, sums: Any) -> None:
        """The sums of this candidate."""
        settings = self.settings
        sums["n_returns"], sums["end_equity"] = settings.last - settings.first, self.last_equity
        for name, total in zip(("sum_return", "sum_return_2", "sum_return_3", "sum_return_4", "sum_gain", "sum_loss",
                                "sum_downside_2"), self.moments, strict=True):
            sums[name] = total
        for name in ("max_drawdown", "bars_held", "traded_value", "costs", "written_off", "n_fills", "n_trades", "n_winners",
                     "won", "lost", "net_profit", "largest_profit", "sum_trade_return", "sum_trade_return_2", "best_trade",
                     "worst_trade", "n_ambiguous"):
            sums[name] = getattr(self, name)


def _resolved(program: Any, row: int, n_bars: int) -> list[Any]:
    """The four conditions per bar, in the order of rules.CONDITIONS, conflicts resolved; row -1 is the last one, never."""
    enter_long, exit_long, enter_short, exit_short = (program.masks[mask] for mask in program.mask_rows[row])
    both = enter_long & exit_long
    enter_long, exit_long = enter_long ^ both, exit_long ^ both
    both = enter_short & exit_short
    enter_short, exit_short = enter_short ^ both, exit_short ^ both
    both = enter_long & enter_short
    words = (enter_long ^ both, exit_long, enter_short ^ both, exit_short)
    return [np.unpackbits(each.view(np.uint8), bitorder="little")[:n_bars].view(np.bool_) for each in words]


def _replay(book: _Book) -> None:
    bar, last = book.settings.first, book.settings.last
    while bar < last:
        _step(book, bar)
        bar = _skip(book, bar)
    if book.units != 0.0:
        book.bars_held += last - book.entry_bar


def _step(book: _Book, bar: int) -> None:
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
        book.base = _best_of(book, book.base, bar)
    value = book.cash + book.units * close
    if value > 0.0:
        book.decide(bar)
        if settings.fills_at_close:
            book.act(close, bar, CLOSE, not left_here)
            value = book.cash + book.units * close
    if value > 0.0 and bar == settings.last - 1 and settings.close_at_end:
        book.end(bar)
        value = book.cash + book.units * close
    if value <= 0.0:
        _go_bust(book, bar)
        return
    book.mark(value)
    book.record(bar, [value])


def _go_bust(book: _Book, bar: int) -> None:
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


def _skip(book: _Book, bar: int) -> int:
    """Live through the bars after ``bar`` on which nothing can happen but a decision; the bar on which something can.

    May stop early: the step that follows decides what happens.
    """
    settings = book.settings
    if bar == settings.last - 1 or book.exit_reason != NONE or book.entry_side != 0:
        return bar + 1
    if book.is_bust:
        _rest(book, bar + 1, settings.last - 1)
        return int(settings.last)
    decision = _next_decision(book, bar)
    last: int = settings.last - (2 if settings.close_at_end else 1)
    end = min(decision - 1 if settings.fills_at_close else decision, last)
    if book.units == 0.0:
        _rest(book, bar + 1, end)
    else:
        end = _next_touch(book, bar + 1, end) - 1
        end = _hold(book, bar + 1, end)
    if end == decision:
        book.decide(end)
    return end + 1


def _next_decision(book: _Book, bar: int) -> int:
    """Next bar at whose close the position, or its absence, is decided on; the last one and 1 if there is none."""
    side = (book.units > 0.0) - (book.units < 0.0)
    acting = book.acting[side]
    at = bisect_right(acting, bar)
    last: int = book.settings.last
    decision: int = min(acting[at], last) if at < len(acting) else last
    if side != 0 and book.max_bars > 0:
        decision = min(decision, max(bar + book.max_bars - book.closes_held, bar + 1))
    return decision


def _next_touch(book: _Book, begin: int, end: int) -> int:
    """First bar from ``begin`` to ``end`` on which a level of the position is touched; ``end + 1`` if there is none."""
    bars = book.bars
    is_long, stop, target = book.units > 0.0, book.stop, book.target
    if book.trail != book.trail:
        return first_touch(bars.low, bars.high, begin, end, *((stop, target) if is_long else (target, stop)))
    base = book.base
    for bar in range(begin, end + 1):
        low, high = bars.low[bar], bars.high[bar]
        if is_long:
            if low <= stop or low <= base * (1.0 - book.trail) or high >= target:
                return bar
        else:
            if high >= stop or high >= base * (1.0 + book.trail) or low <= target:
                return bar
        base = _best_of(book, base, bar)
    return end + 1


def _best_of(book: _Book, base: float, bar: int) -> float:
    """What the trail follows, after ``bar``."""
    bars = book.bars
    if book.units > 0.0:
        return max(base, float(bars.high[bar] if book.settings.trail_from_extremes else bars.close[bar]))
    return min(base, float(bars.low[bar] if book.settings.trail_from_extremes else bars.close[bar]))


def _rest(book: _Book, begin: int, end: int) -> None:
    """Mark bars ``begin`` to ``end`` without a position: returns of 0."""
    if end >= begin:
        shortfall = 0.0 - book.settings.rf_per_bar
        book.moments[MOMENTS - 1] += (end - begin + 1) * (shortfall * shortfall)
        book.record(begin, [book.last_equity] * (end - begin + 1))


def _hold(book: _Book, begin: int, end: int) -> int:
    """Mark bars ``begin`` to ``end`` with the position as it is; the last bar marked (it may go bust on the next)."""
    if end < begin:
        return end
    low, high, fall = extremes(book.bars.close, begin, end)
    if end - begin >= LANES and book.units > 0.0 and abs(book.cash) <= NO_CASH * (book.units * low):
        close, moments = book.bars.close[begin : end + 1], book.spans.moments
        book.add((moments[end, :MOMENTS] - moments[begin - 1, :MOMENTS])
                 + (moments[end, 8 : 8 + MOMENTS] - moments[begin - 1, 8 : 8 + MOMENTS]))
        book.fall_to(fall)
        book.fall_to((book.cash + book.units * low) / book.peak)
        highest = book.cash + book.units * high
        if highest > book.peak:
            book.peak = highest
        book.last_equity = book.cash + book.units * float(close[-1])
        book.record(begin, book.cash + book.units * close)
    else:
        end = _walk(book, begin, end)
    book.closes_held += end - begin + 1
    if book.trail == book.trail:
        for bar in range(begin, end + 1):
            book.base = _best_of(book, book.base, bar)
    return end


def _walk(book: _Book, begin: int, end: int) -> int:
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

"""The account of one candidate of a signals sweep: its decisions, orders, levels and equity marks.

The twin of ``ext/_signal_account.pxd``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from backtest._pure._costs import affordable_units, order_cost
from backtest._pure._sums import CandidateSums

OPEN, INSIDE, CLOSE = 0, 1, 2
NONE, SIGNAL, REVERSE, STOP, TARGET, TRAIL, TIME, END, BUST = range(9)

#: Conditions: enter long, exit long, enter short, exit short.  Numbers: stop, target, trail, size.
N_CONDITIONS, N_NUMBERS = 4, 4
NAN = float("nan")


class SignalAccount:
    """The account of one candidate."""

    def __init__(self, bars: Any, tables: Any, candidates: Any, settings: Any, row: int) -> None:
        self.bars, self.tables, self.candidates, self.settings, self.row = bars, tables, candidates, settings, row
        self.conditions = _resolved_conditions(candidates, row, len(bars.close))
        enter_long, exit_long, enter_short, exit_short = self.conditions
        # Bars whose close decides, by the side held: flat (0), long (1) and short (-1).
        self.decision_bars = [
            np.flatnonzero(each).tolist() for each in (enter_long | enter_short, enter_short | exit_long, enter_long | exit_short)
        ]
        self.max_bars = int(candidates.max_bars[row])
        self.ledger: Any = None
        self.equity: Any = None
        self.position: Any = None
        self.unaffordable: Any = None
        self.cash = float(settings.start_cash)
        self.units = 0.0
        # The open position.
        self.entry_price = self.entry_value = self.entry_cost = self.borrow_cost = 0.0
        self.stop = self.target = self.trail = NAN  # levels, and the trailing fraction
        self.level_base = 0.0  # price that levels are fractions of; a trail moves it to the best price since entry
        self.entry_bar = self.closes_held = 0
        # What the last close decided.
        self.exit_reason, self.entry_side, self.decision_bar = NONE, 0, -1
        self.is_bust = False
        self.n_fills = 0
        self.last_equity = self.peak = self.cash
        self.sums = CandidateSums(settings.last - settings.first)

    def number_at(self, which: int, bar: int) -> float:
        """Stop, target, trail or size (``which`` 0 to 3) as known at the close of ``bar``; NaN: off."""
        line = self.candidates.line_rows[self.row, which]
        return float(self.candidates.lines[line, bar] if line >= 0 else self.candidates.values[self.row, which])

    def execute_order(self, units: float, price: float, bar: int, moment: int, reason: int, ambiguous: int) -> float:
        """Execute an order: update cash and sums, write its fill; return its cost."""
        before = self.units
        value = units * price
        cost = order_cost(self.settings, abs(units), price)
        cash_before = self.cash
        equity = self.cash if before == 0.0 else NAN
        self.cash = cash_before - value - cost
        self.units = before + units if before == 0.0 else 0.0
        self.sums.traded_value += abs(value)
        self.sums.costs += cost
        if self.ledger is not None:
            fill = self.ledger[self.n_fills]
            fill["decision_bar"], fill["fill_bar"], fill["moment"], fill["asset"] = self.decision_bar, bar, moment, 0
            fill["units"], fill["price"], fill["value"], fill["cost"] = units, price, value, cost
            fill["cash_before"], fill["cash_after"] = cash_before, self.cash
            fill["position_before"], fill["position_after"] = before, self.units
            fill["reason"], fill["ambiguous"] = reason, ambiguous
            fill["stop"] = fill["target"] = fill["trail"] = NAN
            fill["equity"], fill["written_off"] = equity, 0.0
        self.n_fills += 1
        return cost

    def open_position(self, side: int, quote: float, bar: int, moment: int) -> bool:
        """Open a position at ``quote`` plus slippage, sized so that its costs fit; False if the account cannot pay for any."""
        settings = self.settings
        equity = self.cash
        if equity <= 0.0:
            return self.record_unaffordable(side)
        price = quote * (1.0 + settings.slippage) if side > 0 else quote * (1.0 - settings.slippage)
        size = self.number_at(3, self.decision_bar)
        budget = size * equity if settings.size_is_share else (size if size < equity else equity)
        # Sized on the quote: the fee inside the size is that of the price without slippage.
        sized = (price + settings.fee_rate * quote) / (1.0 + settings.fee_rate) if settings.sized_on_quote else price
        units = affordable_units(settings, budget, sized, settings.whole_units)
        if not units > 0.0:
            return self.record_unaffordable(side)
        self.entry_cost = self.execute_order(units if side > 0 else -units, price, bar, moment, NONE, 0)
        self.entry_price = price
        self.entry_value = units * price
        self.borrow_cost = 0.0
        self.entry_bar, self.closes_held = bar, 0
        stop, target, self.trail = (self.number_at(which, self.decision_bar) for which in range(3))
        self.level_base = float(self.bars.close[self.decision_bar]) if settings.levels_from_decision else price
        self.stop = self.level_base * (1.0 - stop) if side > 0 else self.level_base * (1.0 + stop)
        self.target = self.level_base * (1.0 + target) if side > 0 else self.level_base * (1.0 - target)
        if self.ledger is not None:
            self.ledger[self.n_fills - 1]["stop"] = level_or_nan(self.stop)
            self.ledger[self.n_fills - 1]["target"] = level_or_nan(self.target)
        return True

    def record_unaffordable(self, side: int) -> bool:
        """An entry that the account cannot pay for; False."""
        if self.unaffordable is not None:
            self.unaffordable[self.decision_bar - self.settings.first] = side
        return False

    def trail_level(self) -> float:
        """Current level of the trailing stop; NaN: off."""
        return self.level_base * (1.0 - self.trail) if self.units > 0.0 else self.level_base * (1.0 + self.trail)

    def close_position(self, quote: float, bar: int, moment: int, reason: int, ambiguous: int) -> None:
        """Close the position at ``quote``, with slippage unless it is a target, and add the trade to the sums."""
        price = quote
        if reason != TARGET:
            slippage = self.settings.stop_slippage if reason in (STOP, TRAIL) else self.settings.exit_slippage
            price = quote * (1.0 - slippage) if self.units > 0.0 else quote * (1.0 + slippage)
        units, trail = self.units, self.trail_level()
        cost = self.execute_order(-units, price, bar, moment, reason, ambiguous)
        if self.ledger is not None:
            self.ledger[self.n_fills - 1]["trail"] = level_or_nan(trail)
        net = units * (price - self.entry_price) - self.entry_cost - cost - self.borrow_cost
        self.sums.add_trade(net, net / self.entry_value)
        self.sums.bars_held += bar - self.entry_bar
        self.sums.n_ambiguous += ambiguous

    def check_levels(self, bar: int, opened_here: bool) -> bool:
        """Compare the levels with open, high and low of ``bar``; True if the position was closed."""
        bars, settings = self.bars, self.settings
        quote, high, low = float(bars.open[bar]), float(bars.high[bar]), float(bars.low[bar])
        level, target, trail, reason = self.stop, self.target, self.trail_level(), STOP
        touch_above, touch_below = 1.0 + settings.touch_tolerance, 1.0 - settings.touch_tolerance
        if self.units > 0.0:
            if trail > level or level != level:  # the nearer level acts; if both are equal, the stop
                level, reason = trail, TRAIL
            if opened_here:
                if level > quote:
                    level = quote
                if target < quote:  # only where levels are not fractions of the entry price
                    target = quote
            floor, ceiling = level * touch_above, target * touch_below
            stopped, reached = low <= floor, high >= ceiling
            is_stop_gap, is_target_gap = quote <= floor, quote >= ceiling
        else:
            if trail < level or level != level:
                level, reason = trail, TRAIL
            if opened_here:
                if level < quote:
                    level = quote
                if target > quote:
                    target = quote
            floor, ceiling = target * touch_above, level * touch_below
            stopped, reached = high >= ceiling, low <= floor
            is_stop_gap, is_target_gap = quote >= ceiling, quote <= floor
        if not opened_here and is_stop_gap:
            self.close_position(quote, bar, OPEN, reason, 0)
            return True
        if not opened_here and is_target_gap and not (settings.stop_beats_gap and stopped):
            self.close_position(quote, bar, OPEN, TARGET, 0)
            return True
        # Slippage may put a stop beyond the open of its entry bar: there the bar begins, before it is at any target.
        if stopped and (not reached or settings.is_pessimistic or is_stop_gap):
            self.close_position(clip_to_bar(level, low, high), bar, INSIDE, reason, int(reached and not is_stop_gap))
        elif reached:
            self.close_position(clip_to_bar(target, low, high), bar, INSIDE, TARGET, int(stopped))
        return bool(stopped or reached)

    def decide(self, bar: int) -> None:
        """Decide at the close of ``bar`` what to enter or exit."""
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

    def fill_decision(self, quote: float, bar: int, moment: int, may_enter: bool) -> bool:
        """Fill the last decision; True if a position was opened."""
        opened = False
        if self.exit_reason != NONE:
            self.close_position(quote, bar, moment, self.exit_reason, 0)
        if self.entry_side != 0 and may_enter:
            opened = self.open_position(self.entry_side, quote, bar, moment)
        self.exit_reason, self.entry_side = NONE, 0
        return opened

    def end_of_data(self, bar: int) -> None:
        """Close the position on the last bar: at its close, or at its open together with what the last close decided."""
        if not self.settings.ends_at_open:
            if self.units != 0.0:
                self.close_position(float(self.bars.close[bar]), bar, CLOSE, END, 0)
                self.exit_reason = NONE
            return
        if self.units != 0.0 and self.exit_reason == NONE:
            self.exit_reason = END
        if self.fill_decision(float(self.bars.open[bar]), bar, OPEN, True):
            self.check_levels(bar, True)

    def mark(self, equity: float) -> None:
        """Add the return from the last close's equity to this one."""
        result = (equity - self.last_equity) / self.last_equity if self.last_equity != 0.0 else 0.0
        self.last_equity = equity
        self.sums.add_return(result, self.settings.rf_per_bar)
        if equity > self.peak:
            self.peak = equity
        self.sums.update_drawdown(equity / self.peak)

    def record(self, begin: int, values: Any) -> None:
        """Record equity at the closes from ``begin`` on, with unchanged units."""
        if self.equity is not None:
            begin -= self.settings.first
            self.equity[begin : begin + len(values)], self.position[begin : begin + len(values)] = values, self.units

    def write(self, row: Any) -> None:
        """Write this candidate's sums."""
        if self.units != 0.0:
            self.sums.bars_held += self.settings.last - self.entry_bar
        self.sums.n_fills, self.sums.end_equity = float(self.n_fills), self.last_equity
        self.sums.write(row)


def level_or_nan(level: float) -> float:
    """A level for a record; one that is off is the canonical NaN, whatever its sign bit."""
    return level if level == level else NAN


def clip_to_bar(level: float, low: float, high: float) -> float:
    """A touched level inside its bar's range: rounding may put it just outside."""
    if level < low:
        return low
    return high if level > high else level


def _resolved_conditions(candidates: Any, row: int, n_bars: int) -> list[Any]:
    """The four conditions per bar, in the order of rules.CONDITIONS, conflicts resolved; row -1 is the mask that never holds."""
    enter_long, exit_long, enter_short, exit_short = (candidates.masks[mask] for mask in candidates.mask_rows[row])
    both = enter_long & exit_long
    enter_long, exit_long = enter_long ^ both, exit_long ^ both
    both = enter_short & exit_short
    enter_short, exit_short = enter_short ^ both, exit_short ^ both
    both = enter_long & enter_short
    words = (enter_long ^ both, exit_long, enter_short ^ both, exit_short)
    return [np.unpackbits(each.view(np.uint8), bitorder="little")[:n_bars].view(np.bool_) for each in words]

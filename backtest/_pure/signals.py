"""Signals: one candidate at a time through the bars it trades on.

The order of events on a bar, once and for all:

1. what the previous close decided fills at the open (``fill="next_open"``);
2. a position opened before this bar whose level lies beyond the open exits at the open;
3. high and low against the levels;
4. the close: borrowed units are paid for, equity is marked, the conditions decide; with ``fill="close"`` that fills here.

Every argument is a record with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``program`` (what the
candidates do, see ``signals.Program``) and ``settings`` (what they share, see ``signals.Settings``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from backtest._pure._costs import affordable_units, order_cost

OPEN, INSIDE, CLOSE = 0, 1, 2
NONE, SIGNAL, REVERSE, STOP, TARGET, TRAIL, TIME, END, BUST = range(9)

NAN = float("nan")
INF = float("inf")


def evaluate(bars: Any, program: Any, settings: Any, start: int, stop: int, sums: Any) -> None:
    """Replay candidates ``start <= row < stop`` and fill their rows of ``sums``.

    Parameters
    ----------
    bars, program, settings
        Records, see the module.
    start, stop : int
        Rows of the batch.
    sums : ndarray of SUMS, shape (n_candidates,)
        Output.
    """
    quotes = _quotes(bars)
    for row in range(start, stop):
        book = _Book(quotes, program, settings, row)
        _replay(book, None, None)
        book.write(sums[row])


def replay(
    bars: Any, program: Any, settings: Any, row: int, sums: Any, ledger: Any, equity: Any, units: Any
) -> tuple[int, int, int]:
    """Replay one candidate and record what it did.

    Parameters
    ----------
    bars, program, settings
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
    book = _Book(_quotes(bars), program, settings, row)
    book.ledger = ledger
    _replay(book, equity, units)
    book.write(sums[0])
    return book.n_fills, book.exit_reason, book.entry_side


class _Quotes(NamedTuple):
    """Prices as lists: plain floats, and several times faster to index one by one than arrays."""

    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]


def _quotes(bars: Any) -> _Quotes:
    return _Quotes(bars.open.tolist(), bars.high.tolist(), bars.low.tolist(), bars.close.tolist())


class _Book:
    """The account of one candidate while its bars pass."""

    def __init__(self, quotes: _Quotes, program: Any, settings: Any, row: int) -> None:
        self.quotes, self.program, self.settings, self.row = quotes, program, settings, row
        # In the order of rules.CONDITIONS; a side that is off has none.
        self.conditions = [program.masks[mask].tolist() if mask >= 0 else [0] * settings.last for mask in program.mask_rows[row]]
        self.max_bars = int(program.max_bars[row])
        self.ledger: Any = None
        self.cash: float = settings.cash
        self.units = 0.0
        # The open position.
        self.entry_price = self.entry_value = self.entry_cost = self.borrow_cost = 0.0
        self.stop = self.target = self.trail = NAN  # levels, and the trailing fraction
        self.base = 0.0  # what levels are fractions of; then the best of it and the closes (or extremes) since
        self.entry_bar = self.closes_held = 0
        # What the last close decided.
        self.exit_reason, self.entry_side, self.decision_bar = NONE, 0, -1
        # Sums.
        self.n_fills = 0
        self.last_equity = self.peak = float(settings.cash)
        self.sum_return = self.sum_return_2 = self.sum_return_3 = self.sum_return_4 = 0.0
        self.sum_gain = self.sum_loss = self.sum_downside_2 = self.max_drawdown = 0.0
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
        self.base = self.quotes.close[self.decision_bar] if settings.levels_from_decision else price
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
        quotes, units = self.quotes, self.units
        quote, high, low = quotes.open[bar], quotes.high[bar], quotes.low[bar]
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
        """What the conditions at the close of ``bar`` ask for, conflicts resolved."""
        enter_long, exit_long, enter_short, exit_short = (condition[bar] for condition in self.conditions)
        if enter_long and exit_long:
            enter_long = exit_long = 0
        if enter_short and exit_short:
            enter_short = exit_short = 0
        if enter_long and enter_short:
            enter_long = enter_short = 0
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
                self.leave(self.quotes.close[bar], bar, CLOSE, END, 0)
                self.exit_reason = NONE
            return
        if self.units != 0.0 and self.exit_reason == NONE:
            self.exit_reason = END
        if self.act(self.quotes.open[bar], bar, OPEN, True):
            self.test_levels(bar, True)

    def mark(self, equity: float) -> None:
        """One return, from the last close's equity to this one's."""
        result = (equity - self.last_equity) / self.last_equity if self.last_equity != 0.0 else 0.0
        self.last_equity = equity
        square = result * result
        self.sum_return += result
        self.sum_return_2 += square
        self.sum_return_3 += square * result
        self.sum_return_4 += square * square
        if result > 0.0:
            self.sum_gain += result
        else:
            self.sum_loss -= result
        excess = result - self.settings.rf_per_bar
        if excess < 0.0:
            self.sum_downside_2 += excess * excess
        if equity > self.peak:
            self.peak = equity
        fall = equity / self.peak - 1.0
        if fall < self.max_drawdown:
            self.max_drawdown = fall

    def write(self, sums: Any) -> None:
        """The sums of this candidate."""
        settings = self.settings
        sums["n_returns"], sums["end_equity"] = settings.last - settings.first, self.last_equity
        for name in ("sum_return", "sum_return_2", "sum_return_3", "sum_return_4", "sum_gain", "sum_loss", "sum_downside_2",
                     "max_drawdown", "bars_held", "traded_value", "costs", "written_off", "n_fills", "n_trades", "n_winners",
                     "won", "lost", "net_profit", "largest_profit", "sum_trade_return", "sum_trade_return_2", "best_trade",
                     "worst_trade", "n_ambiguous"):
            sums[name] = getattr(self, name)


def _replay(book: _Book, equity: Any, units: Any) -> None:
    settings, quotes = book.settings, book.quotes
    first, last = settings.first, settings.last
    is_bust = False
    for bar in range(first, last):
        if is_bust:
            book.mark(0.0)
            if equity is not None:
                equity[bar - first] = units[bar - first] = 0.0
            continue
        close = quotes.close[bar]
        opened_here = left_here = False
        if book.exit_reason != NONE or book.entry_side != 0:
            opened_here = book.act(quotes.open[bar], bar, OPEN, True)
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
            best = close
            if settings.trail_from_extremes:
                best = quotes.high[bar] if book.units > 0.0 else quotes.low[bar]
            if (best > book.base) if book.units > 0.0 else (best < book.base):
                book.base = best
        value = book.cash + book.units * close
        if value > 0.0:
            book.decide(bar)
            if settings.fills_at_close:
                book.act(close, bar, CLOSE, not left_here)
                value = book.cash + book.units * close
        if value > 0.0 and bar == last - 1 and settings.close_at_end:
            book.end(bar)
            value = book.cash + book.units * close
        if value <= 0.0:
            is_bust = True
            book.exit_reason, book.entry_side = NONE, 0
            if book.units != 0.0:
                book.decision_bar = bar
                book.leave(close, bar, CLOSE, BUST, 0)
            book.written_off = 0.0 - book.cash
            if book.ledger is not None:
                book.ledger[book.n_fills - 1]["written_off"] = book.written_off
            value = 0.0
        book.mark(value)
        if equity is not None:
            equity[bar - first], units[bar - first] = value, book.units
    if book.units != 0.0:
        book.bars_held += last - book.entry_bar

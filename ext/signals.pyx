"""Signals: one candidate at a time through the bars it trades on.

The order of events on a bar, once and for all:

1. what the previous close decided fills at the open (``fill="next_open"``);
2. a position opened before this bar whose level lies beyond the open exits at the open;
3. high and low against the levels;
4. the close: borrowed units are paid for, equity is marked, the conditions decide; with ``fill="close"`` that fills here.

Every argument is a record with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``program`` (what the
candidates do, see ``signals.Program``) and ``settings`` (what they share, see ``signals.Settings``).
"""

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint8_t

from _costs cimport CostRule, affordable_units, order_cost
from _records cimport BUST, CLOSE, END, INSIDE, NONE, OPEN, REVERSE, SIGNAL, STOP, TARGET, TIME, TRAIL, Fill, Sums

cdef struct Rules:  # what the candidates share
    CostRule costs
    int64_t first
    int64_t last
    double cash
    double rf_per_bar
    double borrow_per_bar
    bint fills_at_close
    bint is_pessimistic
    bint close_at_end
    bint whole_units
    bint size_is_share
    double exit_slippage
    double stop_slippage
    bint sized_on_quote
    bint levels_from_decision
    bint trail_from_extremes
    bint stop_beats_gap
    bint ends_at_open


cdef struct Book:  # the account of one candidate while its bars pass
    const double *open
    const double *high
    const double *low
    const double *close
    const uint8_t *conditions[4]  # NULL: never
    const double *lines[4]        # stop, target, trail, size; NULL: the value
    double values[4]
    int64_t max_bars
    Fill *ledger                  # NULL: not recorded
    double cash
    double units
    # The open position.
    double entry_price
    double entry_value
    double entry_cost
    double borrow_cost
    double stop
    double target
    double trail
    double base                   # what levels are fractions of; then the best of it and the closes (or extremes) since
    int64_t entry_bar
    int64_t closes_held
    # What the last close decided.
    int64_t exit_reason
    int64_t entry_side
    int64_t decision_bar
    # Sums.
    int64_t n_fills
    double last_equity
    double peak
    Sums sums


def evaluate(bars, program, settings, Py_ssize_t start, Py_ssize_t stop, Sums[::1] sums):
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
    cdef Data data = Data(bars, program, settings)
    cdef Book book
    cdef Py_ssize_t row
    with nogil:
        for row in range(start, stop):
            open_book(&book, data, row)
            replay_bars(&book, &data.rules, NULL, NULL)
            sums[row] = book.sums


def replay(bars, program, settings, Py_ssize_t row, Sums[::1] sums, Fill[::1] ledger, double[::1] equity, double[::1] units):
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
    cdef Data data = Data(bars, program, settings)
    cdef Book book
    cdef Fill nowhere  # an empty ledger has no first row, and nothing will be written
    with nogil:
        open_book(&book, data, row)
        book.ledger = &ledger[0] if ledger.shape[0] else &nowhere
        replay_bars(&book, &data.rules, &equity[0] if equity.shape[0] else NULL, &units[0] if units.shape[0] else NULL)
        sums[0] = book.sums
    return book.n_fills, book.exit_reason, book.entry_side


cdef class Data:
    """The arguments, typed."""

    cdef const double[::1] open, high, low, close
    cdef const uint8_t[:, ::1] masks
    cdef const int64_t[:, ::1] mask_rows, line_rows
    cdef const double[:, ::1] lines, values
    cdef const int64_t[::1] max_bars
    cdef Rules rules

    def __cinit__(self, bars, program, settings):
        self.open, self.high, self.low, self.close = bars.open, bars.high, bars.low, bars.close
        self.masks, self.mask_rows = program.masks, program.mask_rows
        self.lines, self.line_rows = program.lines, program.line_rows
        self.values, self.max_bars = program.values, program.max_bars
        self.rules.costs.fee_rate, self.rules.costs.slippage = settings.fee_rate, settings.slippage
        self.rules.costs.fixed, self.rules.costs.per_unit = settings.fixed, settings.per_unit
        self.rules.costs.minimum, self.rules.costs.maximum = settings.minimum, settings.maximum
        self.rules.first, self.rules.last, self.rules.cash = settings.first, settings.last, settings.cash
        self.rules.rf_per_bar, self.rules.borrow_per_bar = settings.rf_per_bar, settings.borrow_per_bar
        self.rules.fills_at_close, self.rules.is_pessimistic = settings.fills_at_close, settings.is_pessimistic
        self.rules.close_at_end, self.rules.whole_units = settings.close_at_end, settings.whole_units
        self.rules.size_is_share = settings.size_is_share
        self.rules.exit_slippage, self.rules.stop_slippage = settings.exit_slippage, settings.stop_slippage
        self.rules.sized_on_quote, self.rules.levels_from_decision = settings.sized_on_quote, settings.levels_from_decision
        self.rules.trail_from_extremes, self.rules.stop_beats_gap = settings.trail_from_extremes, settings.stop_beats_gap
        self.rules.ends_at_open = settings.ends_at_open


cdef void open_book(Book *book, Data data, Py_ssize_t row) noexcept nogil:
    cdef int which
    cdef int64_t at
    book.open, book.high, book.low, book.close = &data.open[0], &data.high[0], &data.low[0], &data.close[0]
    for which in range(4):
        at = data.mask_rows[row, which]
        book.conditions[which] = &data.masks[at, 0] if at >= 0 else NULL
        at = data.line_rows[row, which]
        book.lines[which] = &data.lines[at, 0] if at >= 0 else NULL
        book.values[which] = data.values[row, which]
    book.max_bars = data.max_bars[row]
    book.ledger = NULL
    book.cash = data.rules.cash
    book.units = 0.0
    book.entry_price = book.entry_value = book.entry_cost = book.borrow_cost = 0.0
    book.stop = book.target = book.trail = NAN
    book.base = 0.0
    book.entry_bar = book.closes_held = 0
    book.exit_reason, book.entry_side, book.decision_bar = NONE, 0, -1
    book.n_fills = 0
    book.last_equity = book.peak = data.rules.cash
    book.sums = Sums(
        n_returns=data.rules.last - data.rules.first, end_equity=0.0, sum_return=0.0, sum_return_2=0.0, sum_return_3=0.0,
        sum_return_4=0.0, sum_gain=0.0, sum_loss=0.0, sum_downside_2=0.0, max_drawdown=0.0, bars_held=0.0, traded_value=0.0,
        costs=0.0, written_off=0.0, n_fills=0.0, n_trades=0.0, n_winners=0.0, won=0.0, lost=0.0, net_profit=0.0,
        largest_profit=-INFINITY, sum_trade_return=0.0, sum_trade_return_2=0.0, best_trade=-INFINITY, worst_trade=INFINITY,
        n_ambiguous=0.0)


cdef inline bint holds(const Book *book, int which, int64_t bar) noexcept nogil:
    return book.conditions[which] != NULL and book.conditions[which][bar] != 0


cdef inline double sampled(const Book *book, int which, int64_t bar) noexcept nogil:
    return book.lines[which][bar] if book.lines[which] != NULL else book.values[which]


cdef double trade(Book *book, const Rules *rules, double units, double price, int64_t bar, int64_t moment, int64_t reason,
                  int64_t ambiguous) noexcept nogil:
    cdef double before = book.units
    cdef double value = units * price
    cdef double cost = order_cost(&rules.costs, fabs(units), price)
    cdef double cash_before = book.cash
    cdef Fill *fill
    book.cash = cash_before - value - cost
    book.units = before + units if before == 0.0 else 0.0
    book.sums.traded_value += fabs(value)
    book.sums.costs += cost
    if book.ledger != NULL:
        fill = &book.ledger[book.n_fills]
        fill.decision_bar, fill.fill_bar, fill.moment, fill.asset = book.decision_bar, bar, moment, 0
        fill.units, fill.price, fill.value, fill.cost = units, price, value, cost
        fill.cash_before, fill.cash_after = cash_before, book.cash
        fill.position_before, fill.position_after = before, book.units
        fill.reason, fill.ambiguous = reason, ambiguous
        fill.stop, fill.target, fill.written_off = NAN, NAN, 0.0
        fill.equity = cash_before if before == 0.0 else NAN
    book.n_fills += 1
    return cost


cdef bint enter(Book *book, const Rules *rules, int64_t side, double quote, int64_t bar, int64_t moment) noexcept nogil:
    cdef double equity = book.cash
    cdef double price, size, budget, sized, units, stop, target
    if equity <= 0.0:
        return False
    price = quote * (1.0 + rules.costs.slippage) if side > 0 else quote * (1.0 - rules.costs.slippage)
    size = sampled(book, 3, book.decision_bar)
    budget = size * equity if rules.size_is_share else (size if size < equity else equity)
    # Sized on the quote: the fee inside the size is that of the price without slippage.
    sized = (price + rules.costs.fee_rate * quote) / (1.0 + rules.costs.fee_rate) if rules.sized_on_quote else price
    units = affordable_units(&rules.costs, budget, sized, rules.whole_units)
    if not units > 0.0:
        return False
    book.entry_cost = trade(book, rules, units if side > 0 else -units, price, bar, moment, NONE, 0)
    book.entry_price = price
    book.entry_value = units * price
    book.borrow_cost = 0.0
    book.entry_bar, book.closes_held = bar, 0
    stop, target = sampled(book, 0, book.decision_bar), sampled(book, 1, book.decision_bar)
    book.trail = sampled(book, 2, book.decision_bar)
    book.base = book.close[book.decision_bar] if rules.levels_from_decision else price
    book.stop = book.base * (1.0 - stop) if side > 0 else book.base * (1.0 + stop)
    book.target = book.base * (1.0 + target) if side > 0 else book.base * (1.0 - target)
    if book.ledger != NULL:
        book.ledger[book.n_fills - 1].stop = book.stop
        book.ledger[book.n_fills - 1].target = book.target
    return True


cdef void leave(Book *book, const Rules *rules, double quote, int64_t bar, int64_t moment, int64_t reason,
                int64_t ambiguous) noexcept nogil:
    cdef Sums *sums = &book.sums
    cdef double units = book.units
    cdef double price = quote
    cdef double slippage, cost, net, result
    if reason != TARGET:
        slippage = rules.stop_slippage if reason == STOP or reason == TRAIL else rules.exit_slippage
        price = quote * (1.0 - slippage) if units > 0.0 else quote * (1.0 + slippage)
    cost = trade(book, rules, -units, price, bar, moment, reason, ambiguous)
    net = units * (price - book.entry_price) - book.entry_cost - cost - book.borrow_cost
    result = net / book.entry_value
    sums.n_trades += 1.0
    sums.net_profit += net
    if net > 0.0:
        sums.n_winners += 1.0
        sums.won += net
    else:
        sums.lost -= net
    if net > sums.largest_profit:
        sums.largest_profit = net
    sums.sum_trade_return += result
    sums.sum_trade_return_2 += result * result
    if result > sums.best_trade:
        sums.best_trade = result
    if result < sums.worst_trade:
        sums.worst_trade = result
    sums.bars_held += <double>(bar - book.entry_bar)
    sums.n_ambiguous += <double>ambiguous


cdef bint test_levels(Book *book, const Rules *rules, int64_t bar, bint opened_here) noexcept nogil:
    cdef double quote = book.open[bar]
    cdef double high = book.high[bar]
    cdef double low = book.low[bar]
    cdef double level = book.stop
    cdef double target = book.target
    cdef int64_t reason = STOP
    cdef double trail
    cdef bint stopped, reached
    cdef bint stop_beats_gap = rules.stop_beats_gap
    if book.units > 0.0:
        trail = book.base * (1.0 - book.trail)
        if trail > level or level != level:  # the nearer acts; equal is the stop
            level, reason = trail, TRAIL
        if opened_here:
            if level > quote:
                level = quote
            if target < quote:  # only where levels are not those of the entry price
                target = quote
        elif quote <= level:
            leave(book, rules, quote, bar, OPEN, reason, 0)
            return True
        elif quote >= target and not (stop_beats_gap and low <= level):
            leave(book, rules, quote, bar, OPEN, TARGET, 0)
            return True
        stopped, reached = low <= level, high >= target
    else:
        trail = book.base * (1.0 + book.trail)
        if trail < level or level != level:
            level, reason = trail, TRAIL
        if opened_here:
            if level < quote:
                level = quote
            if target > quote:
                target = quote
        elif quote >= level:
            leave(book, rules, quote, bar, OPEN, reason, 0)
            return True
        elif quote <= target and not (stop_beats_gap and high >= level):
            leave(book, rules, quote, bar, OPEN, TARGET, 0)
            return True
        stopped, reached = high >= level, low <= target
    if stopped and (not reached or rules.is_pessimistic):
        leave(book, rules, level, bar, INSIDE, reason, reached)
    elif reached:
        leave(book, rules, target, bar, INSIDE, TARGET, stopped)
    return stopped or reached


cdef void decide(Book *book, int64_t bar) noexcept nogil:
    cdef bint enter_long = holds(book, 0, bar), exit_long = holds(book, 1, bar)
    cdef bint enter_short = holds(book, 2, bar), exit_short = holds(book, 3, bar)
    cdef bint is_time
    if enter_long and exit_long:
        enter_long = exit_long = False
    if enter_short and exit_short:
        enter_short = exit_short = False
    if enter_long and enter_short:
        enter_long = enter_short = False
    is_time = book.max_bars > 0 and book.closes_held >= book.max_bars
    book.exit_reason, book.entry_side, book.decision_bar = NONE, 0, bar
    if book.units > 0.0:
        if enter_short:
            book.exit_reason, book.entry_side = REVERSE, -1
        elif exit_long:
            book.exit_reason = SIGNAL
        elif is_time:
            book.exit_reason = TIME
    elif book.units < 0.0:
        if enter_long:
            book.exit_reason, book.entry_side = REVERSE, 1
        elif exit_short:
            book.exit_reason = SIGNAL
        elif is_time:
            book.exit_reason = TIME
    elif enter_long:
        book.entry_side = 1
    elif enter_short:
        book.entry_side = -1


cdef bint act(Book *book, const Rules *rules, double quote, int64_t bar, int64_t moment, bint may_enter) noexcept nogil:
    cdef bint opened = False
    if book.exit_reason != NONE:
        leave(book, rules, quote, bar, moment, book.exit_reason, 0)
    if book.entry_side != 0 and may_enter:
        opened = enter(book, rules, book.entry_side, quote, bar, moment)
    book.exit_reason, book.entry_side = NONE, 0
    return opened


cdef void end(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    if not rules.ends_at_open:
        if book.units != 0.0:
            leave(book, rules, book.close[bar], bar, CLOSE, END, 0)
            book.exit_reason = NONE
        return
    if book.units != 0.0 and book.exit_reason == NONE:
        book.exit_reason = END
    if act(book, rules, book.open[bar], bar, OPEN, True):
        test_levels(book, rules, bar, True)


cdef inline void mark(Book *book, const Rules *rules, double equity) noexcept nogil:
    cdef Sums *sums = &book.sums
    cdef double result = (equity - book.last_equity) / book.last_equity if book.last_equity != 0.0 else 0.0
    cdef double square = result * result
    cdef double excess = result - rules.rf_per_bar
    cdef double fall
    book.last_equity = equity
    sums.sum_return += result
    sums.sum_return_2 += square
    sums.sum_return_3 += square * result
    sums.sum_return_4 += square * square
    if result > 0.0:
        sums.sum_gain += result
    else:
        sums.sum_loss -= result
    if excess < 0.0:
        sums.sum_downside_2 += excess * excess
    if equity > book.peak:
        book.peak = equity
    fall = equity / book.peak - 1.0
    if fall < sums.max_drawdown:
        sums.max_drawdown = fall


cdef void replay_bars(Book *book, const Rules *rules, double *equity, double *units) noexcept nogil:
    cdef int64_t bar
    cdef int64_t first = rules.first, last = rules.last
    cdef double close, value, borrow, best
    cdef bint opened_here, left_here
    cdef bint is_bust = False
    for bar in range(first, last):
        if is_bust:
            mark(book, rules, 0.0)
            if equity != NULL:
                equity[bar - first] = units[bar - first] = 0.0
            continue
        close = book.close[bar]
        opened_here = left_here = False
        if book.exit_reason != NONE or book.entry_side != 0:
            opened_here = act(book, rules, book.open[bar], bar, OPEN, True)
        if book.units != 0.0:
            book.decision_bar = bar  # of an exit by its levels
            left_here = test_levels(book, rules, bar, opened_here)
        if book.units != 0.0:
            book.closes_held += 1
            if book.units < 0.0:
                borrow = -book.units * close * rules.borrow_per_bar
                book.cash -= borrow
                book.borrow_cost += borrow
                book.sums.costs += borrow
            best = close
            if rules.trail_from_extremes:
                best = book.high[bar] if book.units > 0.0 else book.low[bar]
            if (best > book.base) if book.units > 0.0 else (best < book.base):
                book.base = best
        value = book.cash + book.units * close
        if value > 0.0:
            decide(book, bar)
            if rules.fills_at_close:
                act(book, rules, close, bar, CLOSE, not left_here)
                value = book.cash + book.units * close
        if value > 0.0 and bar == last - 1 and rules.close_at_end:
            end(book, rules, bar)
            value = book.cash + book.units * close
        if value <= 0.0:
            is_bust = True
            book.exit_reason, book.entry_side = NONE, 0
            if book.units != 0.0:
                book.decision_bar = bar
                leave(book, rules, close, bar, CLOSE, BUST, 0)
            book.sums.written_off = 0.0 - book.cash
            if book.ledger != NULL:
                book.ledger[book.n_fills - 1].written_off = book.sums.written_off
            value = 0.0
        mark(book, rules, value)
        if equity != NULL:
            equity[bar - first], units[bar - first] = value, book.units
    if book.units != 0.0:
        book.sums.bars_held += <double>(last - book.entry_bar)
    book.sums.n_fills = <double>book.n_fills
    book.sums.end_equity = book.last_equity

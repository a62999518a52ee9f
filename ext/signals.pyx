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

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t

from _costs cimport CostRule, affordable_units, order_cost
from _records cimport BUST, CLOSE, END, INSIDE, NONE, OPEN, REVERSE, SIGNAL, STOP, TARGET, TIME, TRAIL, Fill, Sums
from _spans cimport (CHUNK, LANES, MOMENTS, Range, SpanTables, add_lanes, add_powers, fall_of, first_touch,
                     measure_moments, measure_ranges, range_of)

cdef extern from "_words.h" nogil:
    int lowest_bit(uint64_t word)

# Cash that a position may leave for it to be all there is: rounding, as a share of the position's value.
cdef double NO_CASH = 1e-14
# What rounding can do to a comparison of drawdowns that saves their division.
cdef double CLOSE_CALL = 1e-15

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
    const uint64_t *conditions[4]  # 64 bars a word
    bint has_longs                # one side alone needs less looking at
    bint has_shorts
    const SpanTables *spans
    const double *lines[4]        # stop, target, trail, size; NULL: the value
    double values[4]
    int64_t max_bars
    Fill *ledger                  # NULL: not recorded, nor are the next two
    double *equity
    double *position
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
    bint has_levels
    int64_t entry_bar
    int64_t closes_held
    # What the last close decided.
    int64_t exit_reason
    int64_t entry_side
    int64_t decision_bar
    bint is_bust
    # Sums.
    int64_t n_fills
    double last_equity
    double peak
    double moments[8]             # in the order of Sums, of which they are part
    Sums sums


def measure(bars, double rf_per_bar, spans):
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
    cdef const double[::1] close = bars.close, low = bars.low, high = bars.high
    cdef double[:, ::1] moments = spans.moments, to_here = spans.to_here, from_here = spans.from_here
    cdef double[:, :, ::1] blocks = spans.blocks
    cdef double[::1] lows = spans.lows, highs = spans.highs
    with nogil:
        measure_moments(&close[0], close.shape[0], rf_per_bar, &moments[0, 0])
        measure_ranges(&close[0], &low[0], &high[0], close.shape[0], lows.shape[0], blocks.shape[0], <Range *>&to_here[0, 0],
                       <Range *>&from_here[0, 0], <Range *>&blocks[0, 0, 0], &lows[0], &highs[0])


def evaluate(bars, spans, program, settings, Py_ssize_t start, Py_ssize_t stop, Sums[::1] sums):
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
    cdef Data data = Data(bars, spans, program, settings)
    cdef Book book
    cdef Py_ssize_t row
    with nogil:
        for row in range(start, stop):
            open_book(&book, data, row)
            if is_plain(&book, &data.rules):
                replay_plain(&book, &data.rules)
            else:
                replay_bars(&book, &data.rules, data.rules.first)
            add_up(&book, &data.rules)
            sums[row] = book.sums


def replay(bars, spans, program, settings, Py_ssize_t row, Sums[::1] sums, Fill[::1] ledger, double[::1] equity,
           double[::1] units):
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
    cdef Data data = Data(bars, spans, program, settings)
    cdef Book book
    cdef Fill nowhere  # an empty ledger has no first row, and nothing will be written
    with nogil:
        open_book(&book, data, row)
        book.ledger = &ledger[0] if ledger.shape[0] else &nowhere
        book.equity, book.position = &equity[0], &units[0]
        replay_bars(&book, &data.rules, data.rules.first)
        add_up(&book, &data.rules)
        sums[0] = book.sums
    return book.n_fills, book.exit_reason, book.entry_side


cdef class Data:
    """The arguments, typed."""

    cdef const double[::1] open, high, low, close, lows, highs
    cdef const double[:, ::1] moments, to_here, from_here
    cdef const double[:, :, ::1] blocks
    cdef const uint64_t[:, ::1] masks
    cdef const int64_t[:, ::1] mask_rows, line_rows
    cdef const double[:, ::1] lines, values
    cdef const int64_t[::1] max_bars
    cdef SpanTables spans
    cdef Rules rules

    def __cinit__(self, bars, spans, program, settings):
        self.open, self.high, self.low, self.close = bars.open, bars.high, bars.low, bars.close
        self.moments, self.to_here, self.from_here = spans.moments, spans.to_here, spans.from_here
        self.blocks, self.lows, self.highs = spans.blocks, spans.lows, spans.highs
        self.spans.moments, self.spans.blocks = &self.moments[0, 0], <const Range *>&self.blocks[0, 0, 0]
        self.spans.to_here, self.spans.from_here = <const Range *>&self.to_here[0, 0], <const Range *>&self.from_here[0, 0]
        self.spans.lows, self.spans.highs, self.spans.n_blocks = &self.lows[0], &self.highs[0], self.lows.shape[0]
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
    cdef int64_t never = data.masks.shape[0] - 1
    book.has_longs = data.mask_rows[row, 0] >= 0
    book.has_shorts = data.mask_rows[row, 2] >= 0
    book.open, book.high, book.low, book.close = &data.open[0], &data.high[0], &data.low[0], &data.close[0]
    book.spans = &data.spans
    for which in range(4):
        at = data.mask_rows[row, which]
        book.conditions[which] = &data.masks[at if at >= 0 else never, 0]
        at = data.line_rows[row, which]
        book.lines[which] = &data.lines[at, 0] if at >= 0 else NULL
        book.values[which] = data.values[row, which]
    book.max_bars = data.max_bars[row]
    book.ledger = NULL
    book.equity = book.position = NULL
    book.cash = data.rules.cash
    book.units = 0.0
    book.entry_price = book.entry_value = book.entry_cost = book.borrow_cost = 0.0
    book.stop = book.target = book.trail = NAN
    book.has_levels = False
    book.base = 0.0
    book.entry_bar = book.closes_held = 0
    book.exit_reason, book.entry_side, book.decision_bar = NONE, 0, -1
    book.is_bust = False
    book.n_fills = 0
    book.last_equity = book.peak = data.rules.cash
    for which in range(8):
        book.moments[which] = 0.0
    book.sums = Sums(
        n_returns=data.rules.last - data.rules.first, end_equity=0.0, sum_return=0.0, sum_return_2=0.0, sum_return_3=0.0,
        sum_return_4=0.0, sum_gain=0.0, sum_loss=0.0, sum_downside_2=0.0, max_drawdown=0.0, bars_held=0.0, traded_value=0.0,
        costs=0.0, written_off=0.0, n_fills=0.0, n_trades=0.0, n_winners=0.0, won=0.0, lost=0.0, net_profit=0.0,
        largest_profit=-INFINITY, sum_trade_return=0.0, sum_trade_return_2=0.0, best_trade=-INFINITY, worst_trade=INFINITY,
        n_ambiguous=0.0)


cdef inline void conditions_of(const Book *book, int64_t word, uint64_t *result) noexcept nogil:
    """64 bars of the four conditions, conflicts resolved; a side that is never entered is never left."""
    cdef uint64_t enter_long = 0, exit_long = 0, enter_short = 0, exit_short = 0, both
    if book.has_longs:
        enter_long, exit_long = book.conditions[0][word], book.conditions[1][word]
        both = enter_long & exit_long
        enter_long ^= both
        exit_long ^= both
    if book.has_shorts:
        enter_short, exit_short = book.conditions[2][word], book.conditions[3][word]
        both = enter_short & exit_short
        enter_short ^= both
        exit_short ^= both
        both = enter_long & enter_short
        enter_long ^= both
        enter_short ^= both
    result[0], result[1], result[2], result[3] = enter_long, exit_long, enter_short, exit_short


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
    book.has_levels = stop == stop or target == target or book.trail == book.trail
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
    # Without branches: nobody can predict which trades win.
    sums.n_winners += <double>(net > 0.0)
    sums.won += 0.5 * (fabs(net) + net)
    sums.lost += 0.5 * (fabs(net) - net)
    sums.largest_profit = net if net > sums.largest_profit else sums.largest_profit
    sums.sum_trade_return += result
    sums.sum_trade_return_2 += result * result
    sums.best_trade = result if result > sums.best_trade else sums.best_trade
    sums.worst_trade = result if result < sums.worst_trade else sums.worst_trade
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
    cdef uint64_t conditions[4]
    cdef int64_t bit = bar & 63
    cdef bint enter_long, exit_long, enter_short, exit_short, is_time
    conditions_of(book, bar >> 6, conditions)
    enter_long, exit_long = (conditions[0] >> bit) & 1, (conditions[1] >> bit) & 1
    enter_short, exit_short = (conditions[2] >> bit) & 1, (conditions[3] >> bit) & 1
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


cdef inline void fall_to(Book *book, double equity, double peak) noexcept nogil:
    """Equity was this share of its peak; the division is only done where it may tell something new."""
    cdef double fall
    if equity >= (book.sums.max_drawdown + 1.0 + CLOSE_CALL) * peak:
        return
    fall = equity / peak - 1.0
    if fall < book.sums.max_drawdown:
        book.sums.max_drawdown = fall


cdef inline void mark(Book *book, const Rules *rules, double equity) noexcept nogil:
    """One return, from the last close's equity to this one's."""
    cdef double result = 0.0
    if equity != book.last_equity and book.last_equity != 0.0:
        result = (equity - book.last_equity) / book.last_equity
    book.last_equity = equity
    add_powers(result, rules.rf_per_bar, book.moments)
    book.peak = equity if equity > book.peak else book.peak
    fall_to(book, equity, book.peak)


cdef inline void record(Book *book, const Rules *rules, int64_t bar, double equity) noexcept nogil:
    if book.equity != NULL:
        book.equity[bar - rules.first], book.position[bar - rules.first] = equity, book.units


cdef void replay_bars(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    while bar < rules.last:
        step(book, rules, bar)
        bar = skip(book, rules, bar)


cdef bint is_plain(const Book *book, const Rules *rules) noexcept nogil:
    """Signals only, filled at the next open, nothing borrowed: most of a sweep."""
    cdef int which
    if book.max_bars > 0 or rules.fills_at_close or rules.close_at_end or (book.has_shorts and rules.borrow_per_bar > 0.0):
        return False
    for which in range(3):
        if book.lines[which] != NULL or book.values[which] == book.values[which]:
            return False
    return True


cdef void replay_plain(Book *book, const Rules *rules) noexcept nogil:
    """What ``replay_bars`` does to a plain candidate, without asking on every bar what cannot be."""
    cdef int64_t bar = rules.first, last = rules.last, side = 0, decision, end
    cdef int64_t reason
    cdef double value
    mark(book, rules, book.cash)
    while True:
        decision = next_of(book, side, bar, last)
        end = decision if decision < last else last - 1
        if side == 0:
            rest(book, rules, bar + 1, end)
        else:
            end = hold(book, rules, bar + 1, end)
            if end < decision and end < last - 1:  # bust on the next bar
                replay_bars(book, rules, end + 1)
                return
        if decision >= last - 1:
            return
        bar, book.decision_bar = decision + 1, decision
        if side == 0:
            side = 1 if acts(book, 0, decision) else -1
        else:
            reason = REVERSE if acts(book, 2 if side > 0 else 0, decision) else SIGNAL
            leave(book, rules, book.open[bar], bar, OPEN, reason, 0)
            side = -side if reason == REVERSE else 0
        if side != 0 and not enter(book, rules, side, book.open[bar], bar, OPEN):
            side = 0
        value = book.cash + book.units * book.close[bar]
        if value <= 0.0:
            go_bust(book, rules, bar)
            rest(book, rules, bar + 1, last - 1)
            return
        mark(book, rules, value)


cdef inline bint acts(const Book *book, int which, int64_t bar) noexcept nogil:
    cdef uint64_t conditions[4]
    if not book.has_shorts:
        return which == 0
    conditions_of(book, bar >> 6, conditions)
    return (conditions[which] >> (bar & 63)) & 1


cdef inline int64_t next_of(const Book *book, int64_t side, int64_t bar, int64_t last) noexcept nogil:
    """First bar from ``bar`` on at whose close a position of this side, or none, is decided on; ``last`` if there is none."""
    cdef uint64_t conditions[4]
    cdef uint64_t wanted = ~<uint64_t>0 << (bar & 63)
    cdef int64_t word = bar >> 6, last_word = (last - 1) >> 6
    cdef int which, other
    if not book.has_shorts:
        if side == 0:
            return next_alone(book.conditions[0], book.conditions[1], bar, last)
        return next_alone(book.conditions[1], book.conditions[0], bar, last)
    which = 0 if side == 0 else (1 if side > 0 else 3)
    other = 2 if which < 2 else 0
    while word <= last_word:
        conditions_of(book, word, conditions)
        wanted &= conditions[which] | conditions[other]
        if wanted:
            bar = (word << 6) + lowest_bit(wanted)
            return bar if bar < last else last
        wanted = ~<uint64_t>0
        word += 1
    return last


cdef inline int64_t next_alone(const uint64_t *wanted, const uint64_t *unwanted, int64_t bar, int64_t last) noexcept nogil:
    """First bar from ``bar`` on with one condition and not the other; ``last`` if there is none before."""
    cdef int64_t word = bar >> 6, last_word = (last - 1) >> 6
    cdef uint64_t found = wanted[word] & ~unwanted[word] & (~<uint64_t>0 << (bar & 63))
    while not found:
        word += 1
        if word > last_word:
            return last
        found = wanted[word] & ~unwanted[word]
    bar = (word << 6) + lowest_bit(found)
    return bar if bar < last else last


cdef void add_up(Book *book, const Rules *rules) noexcept nogil:
    cdef Sums *sums = &book.sums
    if book.units != 0.0:
        sums.bars_held += <double>(rules.last - book.entry_bar)
    sums.n_fills = <double>book.n_fills
    sums.end_equity = book.last_equity
    sums.sum_return, sums.sum_return_2 = book.moments[0], book.moments[1]
    sums.sum_return_3, sums.sum_return_4 = book.moments[2], book.moments[3]
    sums.sum_gain, sums.sum_loss, sums.sum_downside_2 = book.moments[4], book.moments[5], book.moments[6]


cdef void step(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    """One bar, on which anything may happen."""
    cdef double close = book.close[bar]
    cdef double value, borrow
    cdef bint opened_here = False, left_here = False
    if book.exit_reason != NONE or book.entry_side != 0:
        opened_here = act(book, rules, book.open[bar], bar, OPEN, True)
    if book.units != 0.0:
        book.decision_bar = bar  # of an exit by its levels
        left_here = book.has_levels and test_levels(book, rules, bar, opened_here)
    if book.units != 0.0:
        book.closes_held += 1
        if book.units < 0.0:
            borrow = -book.units * close * rules.borrow_per_bar
            book.cash -= borrow
            book.borrow_cost += borrow
            book.sums.costs += borrow
        book.base = best_of(book, rules, book.base, bar)
    value = book.cash + book.units * close
    if value > 0.0:
        decide(book, bar)
        if rules.fills_at_close:
            act(book, rules, close, bar, CLOSE, not left_here)
            value = book.cash + book.units * close
    if value > 0.0 and bar == rules.last - 1 and rules.close_at_end:
        end(book, rules, bar)
        value = book.cash + book.units * close
    if value <= 0.0:
        go_bust(book, rules, bar)
        return
    mark(book, rules, value)
    record(book, rules, bar, value)


cdef void go_bust(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    """Nothing is left at this close."""
    book.is_bust = True
    book.exit_reason, book.entry_side = NONE, 0
    if book.units != 0.0:
        book.decision_bar = bar
        leave(book, rules, book.close[bar], bar, CLOSE, BUST, 0)
    book.sums.written_off = 0.0 - book.cash
    if book.ledger != NULL:
        book.ledger[book.n_fills - 1].written_off = book.sums.written_off
    mark(book, rules, 0.0)
    record(book, rules, bar, 0.0)


cdef int64_t skip(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    """Live through the bars after ``bar`` on which nothing can happen but a decision; the bar on which something can.

    May stop early: the step that follows decides what happens.
    """
    cdef int64_t last = rules.last - 1
    cdef int64_t decision, end
    if bar == last or book.exit_reason != NONE or book.entry_side != 0:
        return bar + 1
    if book.is_bust:
        rest(book, rules, bar + 1, last)
        return last + 1
    decision = next_decision(book, rules, bar)
    end = decision - 1 if rules.fills_at_close else decision
    last = last - 1 if rules.close_at_end else last
    end = last if last < end else end
    if book.units == 0.0:
        rest(book, rules, bar + 1, end)
    else:
        if book.has_levels:
            end = next_touch(book, rules, bar + 1, end) - 1
        end = hold(book, rules, bar + 1, end)
    if end == decision:
        decide(book, end)
    return end + 1


cdef inline int64_t next_decision(const Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    """Next bar at whose close the position, or its absence, is decided on; the last one and 1 if there is none."""
    cdef int64_t side = 0 if book.units == 0.0 else (1 if book.units > 0.0 else -1)
    cdef int64_t decision = next_of(book, side, bar + 1, rules.last), timed
    if side != 0 and book.max_bars > 0:
        timed = bar + book.max_bars - book.closes_held
        timed = bar + 1 if timed < bar + 1 else timed
        decision = timed if timed < decision else decision
    return decision


cdef inline int64_t next_touch(const Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """First bar from ``begin`` to ``end`` on which a level of the position is touched; ``end + 1`` if there is none."""
    cdef double stop = book.stop, target = book.target, base = book.base
    cdef int64_t bar
    cdef bint is_long = book.units > 0.0
    if book.trail != book.trail:
        if is_long:
            return first_touch(book.spans, book.low, book.high, begin, end, stop, target)
        return first_touch(book.spans, book.low, book.high, begin, end, target, stop)
    for bar in range(begin, end + 1):
        if is_long:
            if book.low[bar] <= stop or book.low[bar] <= base * (1.0 - book.trail) or book.high[bar] >= target:
                return bar
        else:
            if book.high[bar] >= stop or book.high[bar] >= base * (1.0 + book.trail) or book.low[bar] <= target:
                return bar
        base = best_of(book, rules, base, bar)
    return end + 1


cdef inline double best_of(const Book *book, const Rules *rules, double base, int64_t bar) noexcept nogil:
    """What the trail follows, after ``bar``."""
    cdef double quote = book.close[bar]
    if book.units > 0.0:
        quote = book.high[bar] if rules.trail_from_extremes else quote
        return quote if quote > base else base
    quote = book.low[bar] if rules.trail_from_extremes else quote
    return quote if quote < base else base


cdef inline void rest(Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end`` without a position: returns of 0."""
    cdef double shortfall = 0.0 - rules.rf_per_bar
    cdef int64_t bar
    if end >= begin:
        book.moments[MOMENTS - 1] += <double>(end - begin + 1) * (shortfall * shortfall)
        if book.equity != NULL:
            for bar in range(begin, end + 1):
                record(book, rules, bar, book.last_equity)


cdef inline int64_t hold(Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end`` with the position as it is; the last bar marked (it may go bust on the next)."""
    cdef Range span
    cdef const double *upper
    cdef const double *lower
    cdef double highest, lowest
    cdef int64_t bar
    cdef int column
    cdef bint is_all = False
    if end < begin:
        return end
    if end - begin < LANES:
        pass
    elif book.units > 0.0 and fabs(book.cash) <= NO_CASH * (book.units * book.close[begin]):  # saves the look-up
        span = range_of(book.spans, book.close, begin, end)
        is_all = fabs(book.cash) <= NO_CASH * (book.units * span.low)
    if is_all:
        upper, lower = book.spans.moments + 16 * end, book.spans.moments + 16 * (begin - 1)
        for column in range(8):
            book.moments[column] += (upper[column] - lower[column]) + (upper[8 + column] - lower[8 + column])
        if span.low < (book.sums.max_drawdown + 1.0 + CLOSE_CALL) * span.high:
            fall_to(book, fall_of(book.spans, book.close, begin, end), 1.0)
        lowest, highest = book.cash + book.units * span.low, book.cash + book.units * span.high
        fall_to(book, lowest, book.peak)
        book.peak = highest if highest > book.peak else book.peak
        book.last_equity = book.cash + book.units * book.close[end]
        if book.equity != NULL:
            for bar in range(begin, end + 1):
                record(book, rules, bar, book.cash + book.units * book.close[bar])
    elif end - begin < LANES and not (book.units < 0.0 and rules.borrow_per_bar > 0.0):
        end = stroll(book, rules, begin, end)
    else:
        end = walk(book, rules, begin, end)
    book.closes_held += end - begin + 1
    if book.trail == book.trail:
        for bar in range(begin, end + 1):
            book.base = best_of(book, rules, book.base, bar)
    return end


cdef inline int64_t stroll(Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """What ``walk`` does, for so few bars that each has a lane to itself, and cash that stays as it is."""
    cdef double totals[8]
    cdef double cash = book.cash, units = book.units, last = book.last_equity, peak = book.peak, rf = rules.rf_per_bar
    cdef double bound = book.sums.max_drawdown + 1.0 + CLOSE_CALL
    cdef double value
    cdef int64_t bar
    cdef int column
    for column in range(8):
        totals[column] = 0.0
    for bar in range(begin, end + 1):
        value = cash + units * book.close[bar]
        if value <= 0.0:
            end = bar - 1
            break
        add_powers((value - last) / last, rf, totals)
        last = value
        peak = value if value > peak else peak
        if value < bound * peak:
            fall_to(book, value, peak)
            bound = book.sums.max_drawdown + 1.0 + CLOSE_CALL
    book.last_equity, book.peak = last, peak
    if book.equity != NULL:
        for bar in range(begin, end + 1):
            record(book, rules, bar, cash + units * book.close[bar])
    for column in range(8):
        book.moments[column] += totals[column]
    return end


cdef int64_t walk(Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end``, one by one; the last bar before equity is gone."""
    cdef double equity[CHUNK + 1]
    cdef double lanes[MOMENTS * LANES]
    cdef double cash = book.cash, units = book.units
    cdef double borrow, value, total, lowest, highest
    cdef int64_t bar = begin, n, at
    cdef int lane, column
    cdef bint borrows = units < 0.0 and rules.borrow_per_bar > 0.0
    for lane in range(MOMENTS * LANES):
        lanes[lane] = 0.0
    while bar <= end:
        n = end - bar + 1 if end - bar + 1 < CHUNK else CHUNK
        equity[0] = book.last_equity
        if borrows:
            for at in range(n):
                borrow = -units * book.close[bar + at] * rules.borrow_per_bar
                value = (cash - borrow) + units * book.close[bar + at]
                if value <= 0.0:
                    n = at
                    break
                cash -= borrow
                book.borrow_cost += borrow
                book.sums.costs += borrow
                equity[at + 1] = value
        else:
            for at in range(n):
                equity[at + 1] = cash + units * book.close[bar + at]
        lowest = highest = equity[0]
        for at in range(1, n + 1):
            lowest = equity[at] if equity[at] < lowest else lowest
            highest = equity[at] if equity[at] > highest else highest
        if lowest <= 0.0:
            for at in range(n):
                if equity[at + 1] <= 0.0:
                    n = at
                    break
        add_lanes(equity, n, rules.rf_per_bar, lanes)
        highest = book.peak if book.peak > highest else highest
        if lowest < (book.sums.max_drawdown + 1.0 + CLOSE_CALL) * highest:
            for at in range(1, n + 1):
                book.peak = equity[at] if equity[at] > book.peak else book.peak
                fall_to(book, equity[at], book.peak)
        else:
            book.peak = highest
        for at in range(n):
            record(book, rules, bar + at, equity[at + 1])
        book.last_equity = equity[n]
        bar += n
        if n < CHUNK:
            break
    book.cash = cash
    for column in range(MOMENTS):
        total = lanes[column * LANES]
        for lane in range(1, LANES):
            total += lanes[column * LANES + lane]
        book.moments[column] += total
    return bar - 1

# One candidate's account: what it decides, trades and marks on a bar; the twin is backtest/_pure/_book.py.

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t, uint64_t

from _costs cimport CostRule, affordable_units, order_cost
from _records cimport CLOSE, END, INSIDE, NONE, OPEN, REVERSE, SIGNAL, STOP, TARGET, TIME, TRAIL, Fill, Sums
from _spans cimport Moments, SpanTables, add_powers

cdef extern from *:
    """
    /* What rounding can do to a comparison of drawdowns that saves their division. */
    #define CLOSE_CALL 1e-15
    """
    const double CLOSE_CALL

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
    double above                  # a low at or below level * above touches it, a high at or above level * below
    double below
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
    int64_t *unaffordable
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
    Moments moments               # in the order of Sums, of which they are part
    Sums *sums                    # written where they are wanted: a copy would wait for its parts


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


cdef inline double trade(Book *book, const Rules *rules, double units, double price, int64_t bar, int64_t moment, int64_t reason,
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
        fill.stop, fill.target, fill.trail, fill.written_off = NAN, NAN, NAN, 0.0
        fill.equity = cash_before if before == 0.0 else NAN
    book.n_fills += 1
    return cost


cdef inline bint enter(Book *book, const Rules *rules, int64_t side, double quote, int64_t bar, int64_t moment) noexcept nogil:
    cdef double equity = book.cash
    cdef double price, size, budget, sized, units, stop, target
    if equity <= 0.0:
        return miss(book, rules, side)
    price = quote * (1.0 + rules.costs.slippage) if side > 0 else quote * (1.0 - rules.costs.slippage)
    size = sampled(book, 3, book.decision_bar)
    budget = size * equity if rules.size_is_share else (size if size < equity else equity)
    # Sized on the quote: the fee inside the size is that of the price without slippage.
    sized = (price + rules.costs.fee_rate * quote) / (1.0 + rules.costs.fee_rate) if rules.sized_on_quote else price
    units = affordable_units(&rules.costs, budget, sized, rules.whole_units)
    if not units > 0.0:
        return miss(book, rules, side)
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
        book.ledger[book.n_fills - 1].stop = known(book.stop)
        book.ledger[book.n_fills - 1].target = known(book.target)
    return True


cdef inline bint miss(Book *book, const Rules *rules, int64_t side) noexcept nogil:
    """An entry that nothing could be bought or sold short with."""
    if book.unaffordable != NULL:
        book.unaffordable[book.decision_bar - rules.first] = side
    return False


cdef inline double trail_level(const Book *book) noexcept nogil:
    """The level of the trail as it is now; NaN is off."""
    return book.base * (1.0 - book.trail) if book.units > 0.0 else book.base * (1.0 + book.trail)


cdef inline double known(double level) noexcept nogil:
    """A level for a record: what is off is the one NaN, whatever sign arithmetic gave it."""
    return level if level == level else NAN


cdef inline double clipped(double level, double low, double high) noexcept nogil:
    """A touched level inside its bar: rounding may put it just beyond the price that touched it."""
    if level < low:
        return low
    return high if level > high else level


cdef inline void leave(Book *book, const Rules *rules, double quote, int64_t bar, int64_t moment, int64_t reason,
                       int64_t ambiguous) noexcept nogil:
    cdef Sums *sums = book.sums
    cdef double units = book.units
    cdef double price = quote
    cdef double slippage, cost, net, result, trail = NAN
    if reason != TARGET:
        slippage = rules.stop_slippage if reason == STOP or reason == TRAIL else rules.exit_slippage
        price = quote * (1.0 - slippage) if units > 0.0 else quote * (1.0 + slippage)
    if book.ledger != NULL:
        trail = trail_level(book)
    cost = trade(book, rules, -units, price, bar, moment, reason, ambiguous)
    if book.ledger != NULL:
        book.ledger[book.n_fills - 1].trail = known(trail)
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


cdef inline bint test_levels(Book *book, const Rules *rules, int64_t bar, bint opened_here) noexcept nogil:
    cdef double quote = book.open[bar]
    cdef double high = book.high[bar]
    cdef double low = book.low[bar]
    cdef double level = book.stop
    cdef double target = book.target
    cdef double trail = trail_level(book)
    cdef double floor, ceiling
    cdef int64_t reason = STOP
    cdef bint stopped, reached, is_stop_gap, is_target_gap
    if book.units > 0.0:
        if trail > level or level != level:  # the nearer acts; equal is the stop
            level, reason = trail, TRAIL
        if opened_here:
            if level > quote:
                level = quote
            if target < quote:  # only where levels are not those of the entry price
                target = quote
        floor, ceiling = level * rules.above, target * rules.below
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
        floor, ceiling = target * rules.above, level * rules.below
        stopped, reached = high >= ceiling, low <= floor
        is_stop_gap, is_target_gap = quote >= ceiling, quote <= floor
    if not opened_here and is_stop_gap:
        leave(book, rules, quote, bar, OPEN, reason, 0)
        return True
    if not opened_here and is_target_gap and not (rules.stop_beats_gap and stopped):
        leave(book, rules, quote, bar, OPEN, TARGET, 0)
        return True
    if stopped and (not reached or rules.is_pessimistic):
        leave(book, rules, clipped(level, low, high), bar, INSIDE, reason, reached)
    elif reached:
        leave(book, rules, clipped(target, low, high), bar, INSIDE, TARGET, stopped)
    return stopped or reached


cdef inline void decide(Book *book, int64_t bar) noexcept nogil:
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


cdef inline bint act(Book *book, const Rules *rules, double quote, int64_t bar, int64_t moment, bint may_enter) noexcept nogil:
    cdef bint opened = False
    if book.exit_reason != NONE:
        leave(book, rules, quote, bar, moment, book.exit_reason, 0)
    if book.entry_side != 0 and may_enter:
        opened = enter(book, rules, book.entry_side, quote, bar, moment)
    book.exit_reason, book.entry_side = NONE, 0
    return opened


cdef inline void end_of_data(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
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
    add_powers(&book.moments, result, rules.rf_per_bar)
    book.peak = equity if equity > book.peak else book.peak
    fall_to(book, equity, book.peak)


cdef inline void record(Book *book, const Rules *rules, int64_t bar, double equity) noexcept nogil:
    if book.equity != NULL:
        book.equity[bar - rules.first], book.position[bar - rules.first] = equity, book.units

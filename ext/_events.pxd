# From event to event: the order of things on a bar, and the way to the next bar on which something can happen; the twin is
# backtest/_pure/_events.py.

from libc.math cimport fabs
from libc.stdint cimport int64_t, uint64_t

from _book cimport (CLOSE_CALL, Book, Rules, act, conditions_of, decide, end_of_data, enter, fall_to, leave, mark, record,
                    test_levels)
from _records cimport BUST, CLOSE, NONE, OPEN, REVERSE, SIGNAL, Sums
from _spans cimport (CHUNK, LANES, MOMENTS, Moments, Range, add_between, add_lanes, add_moments, add_powers, add_shortfall,
                     fall_of, first_touch, moments_of, range_of, read_moments)

cdef extern from *:
    """
    /* Cash that a position may leave for it to be all there is: rounding, as a share of the position's value. */
    #define NO_CASH 1e-14
    """
    const double NO_CASH

cdef extern from "_words.h" nogil:
    int lowest_bit(uint64_t word)


cdef inline void replay_bars(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    while bar < rules.last:
        step(book, rules, bar)
        bar = skip(book, rules, bar)


cdef inline bint is_plain(const Book *book, const Rules *rules) noexcept nogil:
    """Signals only, nothing borrowed: most of a sweep."""
    cdef int which
    if book.max_bars > 0 or rules.close_at_end or (book.has_shorts and rules.borrow_per_bar > 0.0):
        return False
    for which in range(3):
        if book.lines[which] != NULL or book.values[which] == book.values[which]:
            return False
    return True


cdef inline void replay_plain(Book *book, const Rules *rules) noexcept nogil:
    """What ``replay_bars`` does to a plain candidate, without asking on every bar what cannot be."""
    cdef const double *quotes = book.close if rules.fills_at_close else book.open
    cdef int64_t moment = CLOSE if rules.fills_at_close else OPEN
    cdef int64_t later = 0 if rules.fills_at_close else 1  # a fill comes so many bars after its decision
    cdef int64_t bar = rules.first, last = rules.last, side = 0, decision, end, reason
    cdef double value
    if later or next_of(book, 0, bar, last) > bar:
        mark(book, rules, book.cash)
    else:
        bar -= 1
    while True:
        # All bars up to this one are marked.
        decision = next_of(book, side, bar + 1 - later, last)
        end = decision + later - 1 if decision + later < last else last - 1
        if side == 0:
            rest(book, rules, bar + 1, end)
        else:
            bar = hold(book, rules, bar + 1, end) + 1
            if bar <= end or (bar < last and not later and book.cash + book.units * book.close[bar] <= 0.0):  # bust
                replay_bars(book, rules, bar)
                return
        if decision + later >= last:
            return
        bar, book.decision_bar = decision + later, decision
        if side == 0:
            side = 1 if acts(book, 0, decision) else -1
        else:
            reason = REVERSE if acts(book, 2 if side > 0 else 0, decision) else SIGNAL
            leave(book, rules, quotes[bar], bar, moment, reason, 0)
            side = -side if reason == REVERSE else 0
        if side != 0 and not enter(book, rules, side, quotes[bar], bar, moment):
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


cdef inline void add_up(Book *book, const Rules *rules) noexcept nogil:
    cdef Sums *sums = book.sums
    cdef double moments[8]
    if book.units != 0.0:
        sums.bars_held += <double>(rules.last - book.entry_bar)
    sums.n_fills = <double>book.n_fills
    sums.end_equity = book.last_equity
    read_moments(&book.moments, moments)
    sums.sum_return, sums.sum_return_2, sums.sum_return_3, sums.sum_return_4 = moments[0], moments[1], moments[2], moments[3]
    sums.sum_gain, sums.sum_loss, sums.sum_downside_2 = moments[4], moments[5], moments[6]


cdef inline void step(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
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
        end_of_data(book, rules, bar)
        value = book.cash + book.units * close
    if value <= 0.0:
        go_bust(book, rules, bar)
        return
    mark(book, rules, value)
    record(book, rules, bar, value)


cdef inline void go_bust(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
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


cdef inline int64_t skip(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
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
    cdef bint is_long = book.units > 0.0
    cdef double floor = (book.stop if is_long else book.target) * rules.above
    cdef double ceiling = (book.target if is_long else book.stop) * rules.below
    cdef double base = book.base
    cdef int64_t bar
    if book.trail != book.trail:
        return first_touch(book.spans, book.low, book.high, begin, end, floor, ceiling)
    for bar in range(begin, end + 1):
        if book.low[bar] <= floor or book.high[bar] >= ceiling:
            return bar
        if is_long:
            if book.low[bar] <= base * (1.0 - book.trail) * rules.above:
                return bar
        else:
            if book.high[bar] >= base * (1.0 + book.trail) * rules.below:
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
        add_shortfall(&book.moments, <double>(end - begin + 1) * (shortfall * shortfall))
        if book.equity != NULL:
            for bar in range(begin, end + 1):
                record(book, rules, bar, book.last_equity)


cdef inline int64_t hold(Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end`` with the position as it is; the last bar marked (it may go bust on the next)."""
    cdef Range span
    cdef double highest, lowest
    cdef int64_t bar
    cdef bint is_all = False
    if end < begin:
        return end
    if end - begin < LANES:
        pass
    elif book.units > 0.0 and fabs(book.cash) <= NO_CASH * (book.units * book.close[begin]):  # saves the look-up
        span = range_of(book.spans, book.close, begin, end)
        is_all = fabs(book.cash) <= NO_CASH * (book.units * span.low)
    if is_all:
        add_between(&book.moments, book.spans.moments + 16 * end, book.spans.moments + 16 * (begin - 1))
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
    cdef double none[8]
    cdef Moments totals
    cdef double cash = book.cash, units = book.units, last = book.last_equity, peak = book.peak, rf = rules.rf_per_bar
    cdef double bound = book.sums.max_drawdown + 1.0 + CLOSE_CALL
    cdef double value
    cdef int64_t bar
    cdef int column
    for column in range(8):
        none[column] = 0.0
    totals = moments_of(none)
    for bar in range(begin, end + 1):
        value = cash + units * book.close[bar]
        if value <= 0.0:
            end = bar - 1
            break
        add_powers(&totals, (value - last) / last, rf)
        last = value
        peak = value if value > peak else peak
        if value < bound * peak:
            fall_to(book, value, peak)
            bound = book.sums.max_drawdown + 1.0 + CLOSE_CALL
    book.last_equity, book.peak = last, peak
    if book.equity != NULL:
        for bar in range(begin, end + 1):
            record(book, rules, bar, cash + units * book.close[bar])
    add_moments(&book.moments, &totals)
    return end


cdef inline int64_t walk(Book *book, const Rules *rules, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end``, one by one; the last bar before equity is gone."""
    cdef double equity[CHUNK + 1]
    cdef double lanes[MOMENTS * LANES]
    cdef double totals[8]
    cdef Moments more
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
        totals[column] = total
    totals[MOMENTS] = 0.0
    more = moments_of(totals)
    add_moments(&book.moments, &more)
    return bar - 1

# The event loop of one candidate: what happens on a bar, and the jump to the next bar on which anything can happen.
# The twin is backtest/_pure/_bar_events.py.

from libc.math cimport fabs
from libc.stdint cimport int64_t, uint64_t

from _holding_tables cimport (CHUNK, LANES, MOMENTS, MOMENTS_WIDTH, CloseRange, Moments, add_between, add_lanes, add_moments,
                              add_powers, add_shortfall, close_range, first_touch, moments_of, read_moments, worst_fall)
from _records cimport BUST, CLOSE, NONE, OPEN, REVERSE, SIGNAL
from _signal_account cimport (SharedSettings, SignalAccount, check_levels, close_position, conditions_of, decide, end_of_data,
                              fill_decision, mark, open_position, record)
from _sums cimport DRAWDOWN_ROUNDING, Sums, update_drawdown

cdef extern from *:
    """
    /* A position counts as all of the equity if cash is at most this share of its value: what rounding leaves. */
    #define CASH_TOLERANCE 1e-14
    /* All of a candidate's loop is inlined, so that a local account stays in registers and constant settings drop branches. */
    #if defined(__GNUC__)
    #undef CYTHON_INLINE
    #define CYTHON_INLINE inline __attribute__((always_inline, unused))
    #endif
    """
    const double CASH_TOLERANCE

cdef extern from "_words.h" nogil:
    int lowest_bit(uint64_t word)


cdef inline void replay_bars(SignalAccount *account, const SharedSettings *settings, int64_t bar) noexcept nogil:
    while bar < settings.last:
        step(account, settings, bar)
        bar = skip(account, settings, bar)


cdef inline bint has_signals_only(const SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    """Whether the candidate has no levels, no time exit, no forced close and pays no borrowing: most of a sweep."""
    cdef int which
    if account.max_bars > 0 or settings.close_at_end or (account.has_shorts and settings.borrow_per_bar > 0.0):
        return False
    for which in range(3):
        if account.lines[which] != NULL or account.values[which] == account.values[which]:
            return False
    return True


cdef inline int64_t replay_signals_only(SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    """``replay_bars`` for a candidate that ``has_signals_only``, without the tests that cannot succeed for it.

    Return the bar from which ``replay_bars`` has to go on (equity is gone at it); ``settings.last`` if there is none.
    """
    cdef const double *quotes = account.close if settings.fills_at_close else account.open
    cdef int64_t moment = CLOSE if settings.fills_at_close else OPEN
    cdef int64_t fill_delay = 0 if settings.fills_at_close else 1  # bars from a decision to its fill
    cdef int64_t bar = settings.first, last = settings.last, side = 0, decision, end, reason
    cdef double value
    if fill_delay or next_signal(account, 0, bar, last) > bar:
        mark(account, settings, account.cash)
    else:
        bar -= 1
    while True:
        # Loop invariant: all bars up to ``bar`` are marked.
        decision = next_signal(account, side, bar + 1 - fill_delay, last)
        end = decision + fill_delay - 1 if decision + fill_delay < last else last - 1
        if side == 0:
            mark_flat(account, settings, bar + 1, end)
        else:
            bar = mark_held(account, settings, bar + 1, end) + 1
            if bar <= end or (bar < last and not fill_delay and account.cash + account.units * account.close[bar] <= 0.0):  # bust
                return bar
        if decision + fill_delay >= last:
            return last
        bar, account.decision_bar = decision + fill_delay, decision
        if side == 0:
            side = 1 if condition_at(account, 0, decision) else -1
        else:
            reason = REVERSE if condition_at(account, 2 if side > 0 else 0, decision) else SIGNAL
            close_position(account, settings, quotes[bar], bar, moment, reason, 0)
            side = -side if reason == REVERSE else 0
        if side != 0 and not open_position(account, settings, side, quotes[bar], bar, moment):
            side = 0
        value = account.cash + account.units * account.close[bar]
        if value <= 0.0:
            go_bust(account, settings, bar)
            mark_flat(account, settings, bar + 1, last - 1)
            return last
        mark(account, settings, value)


cdef inline bint condition_at(const SignalAccount *account, int which, int64_t bar) noexcept nogil:
    cdef uint64_t conditions[4]
    if not account.has_shorts:
        return which == 0
    conditions_of(account, bar >> 6, conditions)
    return (conditions[which] >> (bar & 63)) & 1


cdef inline int64_t next_signal(const SignalAccount *account, int64_t side, int64_t bar, int64_t last) noexcept nogil:
    """First bar from ``bar`` on whose signals act on a position of this side (0: on a flat account); ``last`` if none do."""
    cdef uint64_t conditions[4]
    cdef uint64_t wanted = ~<uint64_t>0 << (bar & 63)
    cdef int64_t word = bar >> 6, last_word = (last - 1) >> 6
    cdef int which, other
    if not account.has_shorts:
        if side == 0:
            return next_signal_one_side(account.conditions[0], account.conditions[1], bar, last)
        return next_signal_one_side(account.conditions[1], account.conditions[0], bar, last)
    which = 0 if side == 0 else (1 if side > 0 else 3)
    other = 2 if which < 2 else 0
    while word <= last_word:
        conditions_of(account, word, conditions)
        wanted &= conditions[which] | conditions[other]
        if wanted:
            bar = (word << 6) + lowest_bit(wanted)
            return bar if bar < last else last
        wanted = ~<uint64_t>0
        word += 1
    return last


cdef inline int64_t next_signal_one_side(const uint64_t *wanted, const uint64_t *unwanted, int64_t bar,
                                         int64_t last) noexcept nogil:
    """First bar from ``bar`` on at which ``wanted`` holds and ``unwanted`` does not; ``last`` if there is none."""
    cdef int64_t word = bar >> 6, last_word = (last - 1) >> 6
    cdef uint64_t found = wanted[word] & ~unwanted[word] & (~<uint64_t>0 << (bar & 63))
    while not found:
        word += 1
        if word > last_word:
            return last
        found = wanted[word] & ~unwanted[word]
    bar = (word << 6) + lowest_bit(found)
    return bar if bar < last else last


cdef inline void finish_sums(SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    cdef Sums *sums = account.sums
    cdef double moments[8]
    if account.units != 0.0:
        sums.bars_held += <double>(settings.last - account.entry_bar)
    sums.n_fills = <double>account.n_fills
    sums.end_equity = account.last_equity
    read_moments(&account.moments, moments)
    sums.sum_return, sums.sum_return_2, sums.sum_return_3, sums.sum_return_4 = moments[0], moments[1], moments[2], moments[3]
    sums.sum_gain, sums.sum_loss, sums.sum_downside_2 = moments[4], moments[5], moments[6]


cdef inline void step(SignalAccount *account, const SharedSettings *settings, int64_t bar) noexcept nogil:
    """Process one bar on which anything may happen."""
    cdef double close = account.close[bar]
    cdef double value, borrow
    cdef bint opened_here = False, closed_here = False
    if account.exit_reason != NONE or account.entry_side != 0:
        opened_here = fill_decision(account, settings, account.open[bar], bar, OPEN, True)
    if account.units != 0.0:
        account.decision_bar = bar  # of an exit by its levels
        closed_here = account.has_levels and check_levels(account, settings, bar, opened_here)
    if account.units != 0.0:
        account.closes_held += 1
        if account.units < 0.0:
            borrow = -account.units * close * settings.borrow_per_bar
            account.cash -= borrow
            account.borrow_cost += borrow
            account.sums.costs += borrow
        account.level_base = trail_base(account, settings, account.level_base, bar)
    value = account.cash + account.units * close
    if value > 0.0:
        decide(account, bar)
        if settings.fills_at_close:
            fill_decision(account, settings, close, bar, CLOSE, not closed_here)
            value = account.cash + account.units * close
    if value > 0.0 and bar == settings.last - 1 and settings.close_at_end:
        end_of_data(account, settings, bar)
        value = account.cash + account.units * close
    if value <= 0.0:
        go_bust(account, settings, bar)
        return
    mark(account, settings, value)
    record(account, settings, bar, value)


cdef inline void go_bust(SignalAccount *account, const SharedSettings *settings, int64_t bar) noexcept nogil:
    """Equity is gone at this close: close the position and stop trading."""
    account.is_bust = True
    account.exit_reason, account.entry_side = NONE, 0
    if account.units != 0.0:
        account.decision_bar = bar
        close_position(account, settings, account.close[bar], bar, CLOSE, BUST, 0)
    account.sums.written_off = 0.0 - account.cash
    if account.ledger != NULL:
        account.ledger[account.n_fills - 1].written_off = account.sums.written_off
    mark(account, settings, 0.0)
    record(account, settings, bar, 0.0)


cdef inline int64_t skip(SignalAccount *account, const SharedSettings *settings, int64_t bar) noexcept nogil:
    """Mark the bars after ``bar`` on which nothing can fill; return the next bar that ``step`` has to process.

    It may return an earlier bar than necessary: ``step`` alone decides what happens.
    """
    cdef int64_t last = settings.last - 1
    cdef int64_t decision, end
    if bar == last or account.exit_reason != NONE or account.entry_side != 0:
        return bar + 1
    if account.is_bust:
        mark_flat(account, settings, bar + 1, last)
        return last + 1
    decision = next_decision(account, settings, bar)
    end = decision - 1 if settings.fills_at_close else decision
    last = last - 1 if settings.close_at_end else last
    end = last if last < end else end
    if account.units == 0.0:
        mark_flat(account, settings, bar + 1, end)
    else:
        if account.has_levels:
            end = next_touch(account, settings, bar + 1, end) - 1
        end = mark_held(account, settings, bar + 1, end)
    if end == decision:
        decide(account, end)
    return end + 1


cdef inline int64_t next_decision(const SignalAccount *account, const SharedSettings *settings, int64_t bar) noexcept nogil:
    """Next bar whose close decides to enter or to exit, by signal or by time; ``settings.last`` if there is none."""
    cdef int64_t side = 0 if account.units == 0.0 else (1 if account.units > 0.0 else -1)
    cdef int64_t decision = next_signal(account, side, bar + 1, settings.last), timed
    if side != 0 and account.max_bars > 0:
        timed = bar + account.max_bars - account.closes_held
        timed = bar + 1 if timed < bar + 1 else timed
        decision = timed if timed < decision else decision
    return decision


cdef inline int64_t next_touch(const SignalAccount *account, const SharedSettings *settings, int64_t begin,
                               int64_t end) noexcept nogil:
    """First bar from ``begin`` to ``end`` on which a level of the position is touched; ``end + 1`` if there is none."""
    cdef bint is_long = account.units > 0.0
    cdef double floor = (account.stop if is_long else account.target) * settings.touch_above
    cdef double ceiling = (account.target if is_long else account.stop) * settings.touch_below
    cdef double level_base = account.level_base
    cdef int64_t bar
    if account.trail != account.trail:
        return first_touch(account.tables, account.low, account.high, begin, end, floor, ceiling)
    for bar in range(begin, end + 1):
        if account.low[bar] <= floor or account.high[bar] >= ceiling:
            return bar
        if is_long:
            if account.low[bar] <= level_base * (1.0 - account.trail) * settings.touch_above:
                return bar
        else:
            if account.high[bar] >= level_base * (1.0 + account.trail) * settings.touch_below:
                return bar
        level_base = trail_base(account, settings, level_base, bar)
    return end + 1


cdef inline double trail_base(const SignalAccount *account, const SharedSettings *settings, double level_base,
                              int64_t bar) noexcept nogil:
    """The price that the trail is measured from, after ``bar``: the best close (or extreme) since the entry."""
    cdef double quote = account.close[bar]
    if account.units > 0.0:
        quote = account.high[bar] if settings.trail_from_extremes else quote
        return quote if quote > level_base else level_base
    quote = account.low[bar] if settings.trail_from_extremes else quote
    return quote if quote < level_base else level_base


cdef inline void mark_flat(SignalAccount *account, const SharedSettings *settings, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end`` without a position: their returns are 0."""
    cdef double shortfall = settings.rf_per_bar if settings.rf_per_bar > 0.0 else 0.0  # a return of 0 beats a negative rate
    cdef int64_t bar
    if end >= begin:
        add_shortfall(&account.moments, <double>(end - begin + 1) * (shortfall * shortfall))
        if account.equity != NULL:
            for bar in range(begin, end + 1):
                record(account, settings, bar, account.last_equity)


cdef inline int64_t mark_held(SignalAccount *account, const SharedSettings *settings, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end`` with an unchanged position; return the last bar marked (equity is gone at the next)."""
    cdef CloseRange span
    cdef double highest, lowest
    cdef int64_t bar
    cdef bint is_full_equity = False
    if end < begin:
        return end
    if end - begin < LANES:
        pass
    elif account.units > 0.0 and fabs(account.cash) <= CASH_TOLERANCE * (account.units * account.close[begin]):
        # That was the cheaper test; the whole span decides.
        span = close_range(account.tables, account.close, begin, end)
        is_full_equity = fabs(account.cash) <= CASH_TOLERANCE * (account.units * span.low)
    if is_full_equity:
        add_between(&account.moments, account.tables.moments + MOMENTS_WIDTH * end,
                    account.tables.moments + MOMENTS_WIDTH * (begin - 1))
        if span.low < (account.sums.max_drawdown + 1.0 + DRAWDOWN_ROUNDING) * span.high:
            update_drawdown(account.sums, worst_fall(account.tables, account.close, begin, end), 1.0)
        lowest, highest = account.cash + account.units * span.low, account.cash + account.units * span.high
        update_drawdown(account.sums, lowest, account.peak)
        account.peak = highest if highest > account.peak else account.peak
        account.last_equity = account.cash + account.units * account.close[end]
        if account.equity != NULL:
            for bar in range(begin, end + 1):
                record(account, settings, bar, account.cash + account.units * account.close[bar])
    elif end - begin < LANES and not (account.units < 0.0 and settings.borrow_per_bar > 0.0):
        end = mark_short_span(account, settings, begin, end)
    else:
        end = mark_span(account, settings, begin, end)
    account.closes_held += end - begin + 1
    if account.trail == account.trail:
        for bar in range(begin, end + 1):
            account.level_base = trail_base(account, settings, account.level_base, bar)
    return end


cdef inline int64_t mark_short_span(SignalAccount *account, const SharedSettings *settings, int64_t begin,
                                    int64_t end) noexcept nogil:
    """``mark_span`` for at most LANES bars, so that each has a lane of its own, and without borrowing."""
    cdef double none[8]
    cdef Moments totals
    cdef double cash = account.cash, units = account.units, last = account.last_equity, peak = account.peak
    cdef double rf_per_bar = settings.rf_per_bar
    cdef double bound = account.sums.max_drawdown + 1.0 + DRAWDOWN_ROUNDING
    cdef double value
    cdef int64_t bar
    cdef int column
    for column in range(8):
        none[column] = 0.0
    totals = moments_of(none)
    for bar in range(begin, end + 1):
        value = cash + units * account.close[bar]
        if value <= 0.0:
            end = bar - 1
            break
        add_powers(&totals, (value - last) / last, rf_per_bar)
        last = value
        peak = value if value > peak else peak
        if value < bound * peak:
            update_drawdown(account.sums, value, peak)
            bound = account.sums.max_drawdown + 1.0 + DRAWDOWN_ROUNDING
    account.last_equity, account.peak = last, peak
    if account.equity != NULL:
        for bar in range(begin, end + 1):
            record(account, settings, bar, cash + units * account.close[bar])
    add_moments(&account.moments, &totals)
    return end


cdef inline int64_t mark_span(SignalAccount *account, const SharedSettings *settings, int64_t begin, int64_t end) noexcept nogil:
    """Mark bars ``begin`` to ``end`` one by one; return the last bar before equity is gone."""
    cdef double equity[CHUNK + 1]
    cdef double lanes[MOMENTS * LANES]
    cdef double totals[8]
    cdef Moments more
    cdef double cash = account.cash, units = account.units
    cdef double borrow, value, total, lowest, highest
    cdef int64_t bar = begin, n, at
    cdef int lane, column
    cdef bint borrows = units < 0.0 and settings.borrow_per_bar > 0.0
    for lane in range(MOMENTS * LANES):
        lanes[lane] = 0.0
    while bar <= end:
        n = end - bar + 1 if end - bar + 1 < CHUNK else CHUNK
        equity[0] = account.last_equity
        if borrows:
            for at in range(n):
                borrow = -units * account.close[bar + at] * settings.borrow_per_bar
                value = (cash - borrow) + units * account.close[bar + at]
                if value <= 0.0:
                    n = at
                    break
                cash -= borrow
                account.borrow_cost += borrow
                account.sums.costs += borrow
                equity[at + 1] = value
        else:
            for at in range(n):
                equity[at + 1] = cash + units * account.close[bar + at]
        lowest = highest = equity[0]
        for at in range(1, n + 1):
            lowest = equity[at] if equity[at] < lowest else lowest
            highest = equity[at] if equity[at] > highest else highest
        if lowest <= 0.0:
            for at in range(n):
                if equity[at + 1] <= 0.0:
                    n = at
                    break
        add_lanes(equity, n, settings.rf_per_bar, lanes)
        highest = account.peak if account.peak > highest else highest
        if lowest < (account.sums.max_drawdown + 1.0 + DRAWDOWN_ROUNDING) * highest:
            for at in range(1, n + 1):
                account.peak = equity[at] if equity[at] > account.peak else account.peak
                update_drawdown(account.sums, equity[at], account.peak)
        else:
            account.peak = highest
        for at in range(n):
            record(account, settings, bar + at, equity[at + 1])
        account.last_equity = equity[n]
        bar += n
        if n < CHUNK:
            break
    account.cash = cash
    for column in range(MOMENTS):
        total = lanes[column * LANES]
        for lane in range(1, LANES):
            total += lanes[column * LANES + lane]
        totals[column] = total
    totals[MOMENTS] = 0.0
    more = moments_of(totals)
    add_moments(&account.moments, &more)
    return bar - 1

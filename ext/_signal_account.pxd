# The account of one candidate of a signals sweep: its decisions, orders, levels and equity marks.
# The twin is backtest/_pure/_signal_account.py.

from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t, uint64_t

from _costs cimport CostRule, affordable_units, order_cost
from _holding_tables cimport HoldingTables, Moments, add_powers
from _records cimport CLOSE, END, INSIDE, NONE, OPEN, REVERSE, SIGNAL, STOP, TARGET, TIME, TRAIL, Fill
from _sums cimport Sums, add_trade_to_sums, update_drawdown

cdef enum:
    N_CONDITIONS = 4  # enter long, exit long, enter short, exit short
    N_NUMBERS = 4     # stop, target, trail, size

cdef struct SharedSettings:  # the same for all candidates of a batch
    CostRule costs
    int64_t first
    int64_t last
    double start_cash
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
    double touch_above            # a low at or below level * above touches it, a high at or above level * below
    double touch_below
    bint ends_at_open


cdef struct SignalAccount:
    const double *open
    const double *high
    const double *low
    const double *close
    const uint64_t *conditions[N_CONDITIONS]  # 64 bars a word
    bint has_longs                # candidates of one side only take a faster path
    bint has_shorts
    const HoldingTables *tables
    const double *lines[N_NUMBERS]  # stop, target, trail, size; NULL: the value
    double values[N_NUMBERS]
    int64_t max_bars
    Fill *ledger                  # NULL: not recorded, as the next three
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
    double level_base             # price that levels are fractions of; a trail moves it to the best price since entry
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
    Sums *sums                    # the caller's row, written in place: copying values just stored stalls


cdef inline void conditions_of(const SignalAccount *account, int64_t word, uint64_t *result) noexcept nogil:
    """64 bars of the four conditions, conflicts resolved; a side without entries has no exits."""
    cdef uint64_t enter_long = 0, exit_long = 0, enter_short = 0, exit_short = 0, both
    if account.has_longs:
        enter_long, exit_long = account.conditions[0][word], account.conditions[1][word]
        both = enter_long & exit_long
        enter_long ^= both
        exit_long ^= both
    if account.has_shorts:
        enter_short, exit_short = account.conditions[2][word], account.conditions[3][word]
        both = enter_short & exit_short
        enter_short ^= both
        exit_short ^= both
        both = enter_long & enter_short
        enter_long ^= both
        enter_short ^= both
    result[0], result[1], result[2], result[3] = enter_long, exit_long, enter_short, exit_short


cdef inline double number_at(const SignalAccount *account, int which, int64_t bar) noexcept nogil:
    return account.lines[which][bar] if account.lines[which] != NULL else account.values[which]


cdef inline double execute_order(SignalAccount *account, const SharedSettings *settings, double units, double price,
                                 int64_t bar, int64_t moment, int64_t reason,
                                 int64_t ambiguous) noexcept nogil:
    cdef double before = account.units
    cdef double value = units * price
    cdef double cost = order_cost(&settings.costs, fabs(units), price)
    cdef double cash_before = account.cash
    cdef Fill *fill
    account.cash = cash_before - value - cost
    account.units = before + units if before == 0.0 else 0.0
    account.sums.traded_value += fabs(value)
    account.sums.costs += cost
    if account.ledger != NULL:
        fill = &account.ledger[account.n_fills]
        fill.decision_bar, fill.fill_bar, fill.moment, fill.asset = account.decision_bar, bar, moment, 0
        fill.units, fill.price, fill.value, fill.cost = units, price, value, cost
        fill.cash_before, fill.cash_after = cash_before, account.cash
        fill.position_before, fill.position_after = before, account.units
        fill.reason, fill.ambiguous = reason, ambiguous
        fill.stop, fill.target, fill.trail, fill.written_off = NAN, NAN, NAN, 0.0
        fill.equity = cash_before if before == 0.0 else NAN
    account.n_fills += 1
    return cost


cdef inline bint open_position(SignalAccount *account, const SharedSettings *settings, int64_t side, double quote, int64_t bar,
                               int64_t moment) noexcept nogil:
    cdef double equity = account.cash
    cdef double price, size, budget, sized, units, stop, target
    if equity <= 0.0:
        return record_unaffordable(account, settings, side)
    price = quote * (1.0 + settings.costs.slippage) if side > 0 else quote * (1.0 - settings.costs.slippage)
    size = number_at(account, 3, account.decision_bar)
    budget = size * equity if settings.size_is_share else (size if size < equity else equity)
    # Sized on the quote: the fee inside the size is that of the price without slippage.
    sized = (price + settings.costs.fee_rate * quote) / (1.0 + settings.costs.fee_rate) if settings.sized_on_quote else price
    units = affordable_units(&settings.costs, budget, sized, settings.whole_units)
    if not units > 0.0:
        return record_unaffordable(account, settings, side)
    account.entry_cost = execute_order(account, settings, units if side > 0 else -units, price, bar, moment, NONE, 0)
    account.entry_price = price
    account.entry_value = units * price
    account.borrow_cost = 0.0
    account.entry_bar, account.closes_held = bar, 0
    stop, target = number_at(account, 0, account.decision_bar), number_at(account, 1, account.decision_bar)
    account.trail = number_at(account, 2, account.decision_bar)
    account.level_base = account.close[account.decision_bar] if settings.levels_from_decision else price
    account.stop = account.level_base * (1.0 - stop) if side > 0 else account.level_base * (1.0 + stop)
    account.target = account.level_base * (1.0 + target) if side > 0 else account.level_base * (1.0 - target)
    account.has_levels = stop == stop or target == target or account.trail == account.trail
    if account.ledger != NULL:
        account.ledger[account.n_fills - 1].stop = level_or_nan(account.stop)
        account.ledger[account.n_fills - 1].target = level_or_nan(account.target)
    return True


cdef inline bint record_unaffordable(SignalAccount *account, const SharedSettings *settings, int64_t side) noexcept nogil:
    """An entry that the account cannot pay for; False."""
    if account.unaffordable != NULL:
        account.unaffordable[account.decision_bar - settings.first] = side
    return False


cdef inline double trail_level(const SignalAccount *account) noexcept nogil:
    """Current level of the trailing stop; NaN: off."""
    return account.level_base * (1.0 - account.trail) if account.units > 0.0 else account.level_base * (1.0 + account.trail)


cdef inline double level_or_nan(double level) noexcept nogil:
    """A level for a record; one that is off is the canonical NaN, whatever its sign bit."""
    return level if level == level else NAN


cdef inline double clip_to_bar(double level, double low, double high) noexcept nogil:
    """A touched level inside its bar's range: rounding may put it just outside."""
    if level < low:
        return low
    return high if level > high else level


cdef inline void close_position(SignalAccount *account, const SharedSettings *settings, double quote, int64_t bar,
                                int64_t moment, int64_t reason,
                                int64_t ambiguous) noexcept nogil:
    cdef Sums *sums = account.sums
    cdef double units = account.units
    cdef double price = quote
    cdef double slippage, cost, net, trail = NAN
    if reason != TARGET:
        slippage = settings.stop_slippage if reason == STOP or reason == TRAIL else settings.exit_slippage
        price = quote * (1.0 - slippage) if units > 0.0 else quote * (1.0 + slippage)
    if account.ledger != NULL:
        trail = trail_level(account)
    cost = execute_order(account, settings, -units, price, bar, moment, reason, ambiguous)
    if account.ledger != NULL:
        account.ledger[account.n_fills - 1].trail = level_or_nan(trail)
    net = units * (price - account.entry_price) - account.entry_cost - cost - account.borrow_cost
    add_trade_to_sums(sums, net, net / account.entry_value)
    sums.bars_held += <double>(bar - account.entry_bar)
    sums.n_ambiguous += <double>ambiguous


cdef inline bint check_levels(SignalAccount *account, const SharedSettings *settings, int64_t bar,
                              bint opened_here) noexcept nogil:
    cdef double quote = account.open[bar]
    cdef double high = account.high[bar]
    cdef double low = account.low[bar]
    cdef double level = account.stop
    cdef double target = account.target
    cdef double trail = trail_level(account)
    cdef double floor, ceiling
    cdef int64_t reason = STOP
    cdef bint stopped, reached, is_stop_gap, is_target_gap
    if account.units > 0.0:
        if trail > level or level != level:  # the nearer level acts; if both are equal, the stop
            level, reason = trail, TRAIL
        if opened_here:
            if level > quote:
                level = quote
            if target < quote:  # only where levels are not fractions of the entry price
                target = quote
        floor, ceiling = level * settings.touch_above, target * settings.touch_below
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
        floor, ceiling = target * settings.touch_above, level * settings.touch_below
        stopped, reached = high >= ceiling, low <= floor
        is_stop_gap, is_target_gap = quote >= ceiling, quote <= floor
    if not opened_here and is_stop_gap:
        close_position(account, settings, quote, bar, OPEN, reason, 0)
        return True
    if not opened_here and is_target_gap and not (settings.stop_beats_gap and stopped):
        close_position(account, settings, quote, bar, OPEN, TARGET, 0)
        return True
    # Slippage may put a stop beyond the open of its entry bar: there the bar begins, before it is at any target.
    if stopped and (not reached or settings.is_pessimistic or is_stop_gap):
        close_position(account, settings, clip_to_bar(level, low, high), bar, INSIDE, reason, reached and not is_stop_gap)
    elif reached:
        close_position(account, settings, clip_to_bar(target, low, high), bar, INSIDE, TARGET, stopped)
    return stopped or reached


cdef inline void decide(SignalAccount *account, int64_t bar) noexcept nogil:
    cdef uint64_t conditions[4]
    cdef int64_t bit = bar & 63
    cdef bint enter_long, exit_long, enter_short, exit_short, is_time
    conditions_of(account, bar >> 6, conditions)
    enter_long, exit_long = (conditions[0] >> bit) & 1, (conditions[1] >> bit) & 1
    enter_short, exit_short = (conditions[2] >> bit) & 1, (conditions[3] >> bit) & 1
    is_time = account.max_bars > 0 and account.closes_held >= account.max_bars
    account.exit_reason, account.entry_side, account.decision_bar = NONE, 0, bar
    if account.units > 0.0:
        if enter_short:
            account.exit_reason, account.entry_side = REVERSE, -1
        elif exit_long:
            account.exit_reason = SIGNAL
        elif is_time:
            account.exit_reason = TIME
    elif account.units < 0.0:
        if enter_long:
            account.exit_reason, account.entry_side = REVERSE, 1
        elif exit_short:
            account.exit_reason = SIGNAL
        elif is_time:
            account.exit_reason = TIME
    elif enter_long:
        account.entry_side = 1
    elif enter_short:
        account.entry_side = -1


cdef inline bint fill_decision(SignalAccount *account, const SharedSettings *settings, double quote, int64_t bar,
                               int64_t moment, bint may_enter) noexcept nogil:
    cdef bint opened = False
    if account.exit_reason != NONE:
        close_position(account, settings, quote, bar, moment, account.exit_reason, 0)
    if account.entry_side != 0 and may_enter:
        opened = open_position(account, settings, account.entry_side, quote, bar, moment)
    account.exit_reason, account.entry_side = NONE, 0
    return opened


cdef inline void end_of_data(SignalAccount *account, const SharedSettings *settings, int64_t bar) noexcept nogil:
    if not settings.ends_at_open:
        if account.units != 0.0:
            close_position(account, settings, account.close[bar], bar, CLOSE, END, 0)
            account.exit_reason = NONE
        return
    if account.units != 0.0 and account.exit_reason == NONE:
        account.exit_reason = END
    if fill_decision(account, settings, account.open[bar], bar, OPEN, True):
        check_levels(account, settings, bar, True)


cdef inline void mark(SignalAccount *account, const SharedSettings *settings, double equity) noexcept nogil:
    """Add the return from the last close's equity to this one."""
    cdef double result = 0.0
    if equity != account.last_equity and account.last_equity != 0.0:
        result = (equity - account.last_equity) / account.last_equity
    account.last_equity = equity
    add_powers(&account.moments, result, settings.rf_per_bar)
    account.peak = equity if equity > account.peak else account.peak
    update_drawdown(account.sums, equity, account.peak)


cdef inline void record(SignalAccount *account, const SharedSettings *settings, int64_t bar, double equity) noexcept nogil:
    if account.equity != NULL:
        account.equity[bar - settings.first], account.position[bar - settings.first] = equity, account.units

# The order of events on a bar of the bar machine: the open, the path between open and close, the close.
# The twin is backtest/_pure/_machine_bar.py.

from libc.math cimport NAN, fabs
from libc.stdint cimport int64_t, uint64_t

from _machine cimport (AFTER_LEVEL, AT_BUST, CANCELLED, MACHINE_SAME, NEAREST, OPTIMISTIC, Action, MachineAccount,
                       MachineRecords, MachineShared, MachineSlot)
from _machine_account cimport (close_position, end_slot, end_slots, liquidation_level, lowest_bit, reduce_position, sums_of,
                               trail_level, value_at)
from _machine_orders cimport fill_order, whole_lots
from _records cimport BUST, CLOSE, END, INSIDE, LIQUIDATION, OPEN, STOP, TARGET, TRAIL

cdef enum:
    # What may trigger inside a bar, in order of priority at one price; call sites follow, by their slot.
    STOP_PLACE
    LIQUIDATION_PLACE
    TARGET_PLACE
    FIRST_SLOT

cdef struct Trigger:  # a level or an order that a price reaches, rising or falling
    int place
    bint is_rising
    int64_t reason
    double price

cdef struct Triggers:  # what rests now, in order of priority at one price
    int n
    Trigger at[67]


cdef inline void open_bar(MachineAccount *account, int64_t bar) noexcept nogil:
    """What happens on a bar up to its close, but for orders that expire: market orders at the open, the path."""
    fill_market_orders(account, account.shared.open[bar], OPEN)
    if may_touch(account, account.shared.low[bar], account.shared.high[bar]):
        trade_at_open(account, bar)
        take_path(account, bar)


cdef inline bint may_touch(const MachineAccount *account, double low, double high) noexcept nogil:
    """Whether anything may be reached on a bar: whether orders rest, else what ``is_reached`` says of the levels."""
    cdef double above = 1.0 + account.shared.settings.touch_tolerance, below = 1.0 - account.shared.settings.touch_tolerance
    if account.active & ~account.shared.market_slots:
        return True
    if account.units == 0.0:
        return False
    if account.shared.settings.maintenance_margin > 0.0:
        return True
    if account.units > 0.0:
        return (low <= account.stop * above or high >= account.target * below
                or (account.trail == account.trail and low <= trail_level(account) * above))
    return (high >= account.stop * below or low <= account.target * above
            or (account.trail == account.trail and high >= trail_level(account) * below))


cdef inline void end_of_data(MachineAccount *account, double close) noexcept nogil:
    if account.units != 0.0:
        close_position(account, close, CLOSE, END, account.bar, False)


cdef inline void go_bust(MachineAccount *account, double close) noexcept nogil:
    """Equity is gone at this close: close the position and stop trading."""
    cdef MachineRecords *records = <MachineRecords *>account.records
    cdef int64_t last
    end_slots(account, account.active, CANCELLED, AT_BUST)
    if account.units != 0.0:
        close_position(account, close, CLOSE, BUST, account.bar, False)
    sums_of(account).written_off = 0.0 - account.cash
    last = <int64_t>sums_of(account).n_fills - 1
    if records != NULL and 0 <= last < records.n_ledger:
        records.ledger[last].written_off = sums_of(account).written_off
    account.cash = 0.0  # what is left is written off, so that equity is marked as 0 from here on


cdef inline void fill_market_orders(MachineAccount *account, double quote, int64_t moment) noexcept nogil:
    """Fill what the last call decided: closes first, then in the order of the text, each sized after the former."""
    cdef const MachineShared *shared = account.shared
    cdef uint64_t slots = account.active & shared.market_slots & shared.closing_slots
    cdef int slot
    while slots:
        slot = lowest_bit(slots)
        fill_order(account, slot, quote, moment)
        slots = account.active & slots & (slots - 1)
    slots = account.active & shared.market_slots & ~shared.closing_slots
    while slots:
        slot = lowest_bit(slots)
        if moment == CLOSE and shared.no_entry_after_level and account.left_by_level:
            end_slot(account, slot, CANCELLED, AFTER_LEVEL)  # rules do not enter at the close of such a bar
        else:
            fill_order(account, slot, quote, moment)
        slots = account.active & slots & (slots - 1)


# --- the path -------------------------------------------------------------------------------------------------------------


cdef inline void add_trigger(Triggers *found, int place, double price, bint is_rising, int64_t reason) noexcept nogil:
    if price == price:
        found.at[found.n] = Trigger(place=place, is_rising=is_rising, reason=reason, price=price)
        found.n += 1


cdef inline void find_triggers(const MachineAccount *account, Triggers *found) noexcept nogil:
    """What rests now, in order of priority at one price."""
    cdef const MachineSlot *order
    cdef uint64_t slots = account.active & ~account.shared.market_slots
    cdef int slot
    cdef double level, trail
    cdef int64_t reason = STOP
    cdef bint is_long = account.units > 0.0, waits, is_buy
    found.n = 0
    if account.units != 0.0:
        level, trail = account.stop, trail_level(account)
        if (trail > level if is_long else trail < level) or level != level:  # the nearer acts; if equal, the stop
            level, reason = trail, TRAIL
        add_trigger(found, STOP_PLACE, level, not is_long, reason)
        add_trigger(found, LIQUIDATION_PLACE, liquidation_level(account), not is_long, LIQUIDATION)
        add_trigger(found, TARGET_PLACE, account.target, is_long, TARGET)
    while slots:
        slot = lowest_bit(slots)
        slots &= slots - 1
        order = &account.shared.slots[slot]
        is_buy = account.shared.actions[slot].kind == 0
        waits = account.shared.actions[slot].stop >= 0 and not account.triggered >> slot & 1
        add_trigger(found, FIRST_SLOT + slot, order.stop[account.lane] if waits else order.limit[account.lane],
                    is_buy == waits, 0)


cdef inline bint is_reached(const MachineAccount *account, const Trigger *trigger, double price) noexcept nogil:
    """Whether a price is at or beyond the trigger, within rounding."""
    cdef double tolerance = account.shared.settings.touch_tolerance
    if trigger.is_rising:
        return price >= trigger.price * (1.0 - tolerance)
    return price <= trigger.price * (1.0 + tolerance)


cdef inline void trade_at_open(MachineAccount *account, int64_t bar) noexcept nogil:
    """Whatever the bar opens at or beyond fills at the open; levels of a position that opened there are tested from it on."""
    cdef double quote = account.shared.open[bar], low = account.shared.low[bar], high = account.shared.high[bar], price
    cdef Triggers found
    cdef const Trigger *trigger
    cdef int at
    while True:
        find_triggers(account, &found)
        for at in range(found.n):
            if is_reached(account, &found.at[at], quote):
                break
        else:
            return
        trigger = &found.at[at]
        if trigger.place < FIRST_SLOT and account.opened_here:
            price = beyond(trigger, quote)
            fire(account, trigger, clip_to_bar(price, low, high), INSIDE)
        else:
            fire(account, trigger, quote, OPEN)


cdef inline double beyond(const Trigger *trigger, double price) noexcept nogil:
    """The trigger's price, or ``price`` where that is beyond it already."""
    if trigger.is_rising:
        return price if price > trigger.price else trigger.price
    return price if price < trigger.price else trigger.price


cdef inline int find_reached(const MachineAccount *account, int64_t bar, Trigger *reached) noexcept nogil:
    """How many triggers the bar reaches; ``reached`` is the last of them."""
    cdef double low = account.shared.low[bar], high = account.shared.high[bar]
    cdef Triggers found
    cdef int at, n = 0
    find_triggers(account, &found)
    for at in range(found.n):
        if is_reached(account, &found.at[at], high if found.at[at].is_rising else low):
            reached[0] = found.at[at]
            n += 1
    return n


cdef inline void take_path(MachineAccount *account, int64_t bar) noexcept nogil:
    """Fill what the price reaches between open and close; where the order of low and high matters, as ``intrabar`` says."""
    cdef Trigger reached
    cdef MachineAccount low_first, high_first
    cdef bint takes_low_first = True
    cdef int n_reached = find_reached(account, bar, &reached)
    if n_reached == 0:
        return
    low_first = account[0]
    if n_reached == 1 and account.records == NULL:
        # One trigger fires at its price on any path; if nothing is reached after it, that is all.
        fire(account, &reached, clip_to_bar(reached.price, account.shared.low[bar], account.shared.high[bar]), INSIDE)
        if not find_reached(account, bar, &reached):
            return
        account[0] = low_first
    high_first = low_first
    low_first.records = high_first.records = NULL
    walk(&low_first, bar, True)
    walk(&high_first, bar, False)
    if not are_alike(&low_first, &high_first, account.shared.close[bar]):
        account.is_ambiguous = 1
        takes_low_first = goes_low_first(account, bar, &low_first, &high_first)
    elif account.records == NULL:
        account[0] = low_first
        return
    walk(account, bar, takes_low_first)
    account.is_ambiguous = 0


cdef inline bint are_alike(const MachineAccount *one, const MachineAccount *other, double close) noexcept nogil:
    """Whether a bar that ends in either account is not ambiguous: they differ by rounding at most."""
    cdef double gross = fabs(one.cash) + fabs(one.units) * (close * one.shared.settings.multiplier)
    return (one.active == other.active and one.triggered == other.triggered
            and fabs(one.cash - other.cash) <= MACHINE_SAME * gross
            and is_same(one.units, other.units) and is_same(one.entry_price, other.entry_price)
            and is_same(one.stop, other.stop) and is_same(one.target, other.target) and is_same(one.trail, other.trail))


cdef inline bint is_same(double one, double other) noexcept nogil:
    """Whether two numbers differ by rounding at most; levels that are off are equal."""
    return one == other or fabs(one - other) <= MACHINE_SAME * fabs(one) or (one != one and other != other)


cdef inline bint goes_low_first(const MachineAccount *account, int64_t bar, const MachineAccount *low_first,
                                const MachineAccount *high_first) noexcept nogil:
    """Which path an ambiguous bar takes."""
    cdef const MachineShared *shared = account.shared
    cdef double one, other
    if shared.settings.intrabar == NEAREST:
        return not shared.high[bar] - shared.open[bar] < shared.open[bar] - shared.low[bar]
    one, other = value_at(low_first, shared.close[bar]), value_at(high_first, shared.close[bar])
    if fabs(one - other) <= MACHINE_SAME * fabs(one):
        return True
    return not other > one if shared.settings.intrabar == OPTIMISTIC else not other < one


cdef inline void walk(MachineAccount *account, int64_t bar, bint low_first) noexcept nogil:
    """Follow the price from the open to its extremes and the close; it is monotone on each leg."""
    cdef double low = account.shared.low[bar], high = account.shared.high[bar], price = account.shared.open[bar]
    cdef double ends[3]
    cdef Trigger trigger
    cdef int leg
    ends[0], ends[1], ends[2] = low if low_first else high, high if low_first else low, account.shared.close[bar]
    for leg in range(3):
        while next_trigger(account, price, ends[leg], &trigger):
            price = clip_to_bar(beyond(&trigger, price), low, high)
            fire(account, &trigger, price, INSIDE)
        price = ends[leg]


cdef inline bint next_trigger(const MachineAccount *account, double price, double end, Trigger *next) noexcept nogil:
    """What triggers first on the way from ``price`` to ``end``: what is reached already, then by price, then by priority."""
    cdef Triggers found
    cdef const Trigger *trigger
    cdef const Trigger *best = NULL
    cdef bint is_up = end > price
    cdef int at
    find_triggers(account, &found)
    for at in range(found.n):
        trigger = &found.at[at]
        if is_reached(account, trigger, price):
            next[0] = trigger[0]
            return True
        if trigger.is_rising == is_up and is_reached(account, trigger, end):
            if best == NULL or (trigger.price < best.price if is_up else trigger.price > best.price):
                best = trigger
    if best == NULL:
        return False
    next[0] = best[0]
    return True


cdef inline void fire(MachineAccount *account, const Trigger *trigger, double quote, int64_t moment) noexcept nogil:
    """A trigger is reached: a level closes the position, a stop-limit becomes a limit, any other order fills."""
    cdef int slot = trigger.place - FIRST_SLOT
    cdef const Action *action
    cdef double units
    if slot < 0:
        if trigger.reason == TARGET and account.target_share < 1.0:
            units = whole_lots(account.target_share * fabs(account.units), account.shared.settings.lot)
            account.target, account.target_share = NAN, 1.0
            if units > 0.0:
                reduce_position(account, units, quote, moment, TARGET, account.bar, True)
        else:
            close_position(account, quote, moment, trigger.reason, account.bar, False)
        return
    action = account.shared.actions[slot]
    if action.stop >= 0 and action.limit >= 0 and not account.triggered >> slot & 1:
        account.triggered |= <uint64_t>1 << slot
    else:
        fill_order(account, slot, quote, moment)


cdef inline double clip_to_bar(double level, double low, double high) noexcept nogil:
    """A touched level inside its bar's range: rounding may put it just outside."""
    if level < low:
        return low
    return high if level > high else level

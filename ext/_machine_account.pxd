# The account of one candidate of the bar machine: cash, position, levels, and how an order of a given size fills.
# The twin is backtest/_pure/_machine_account.py.

from libc.math cimport NAN, ceil, fabs, floor
from libc.stdint cimport int64_t, uint64_t

from _costs cimport order_cost
from _machine cimport (ABOVE_ENTRY, BELOW_ENTRY, CANCELLED, DISTANCE, MACHINE_DUST, MACHINE_TICK_TOLERANCE, POSITION_ENDED,
                       Action, MachineAccount, MachineRecords, MachineSettings, MachineSlot, Order, cost_rule)
from _records cimport LIQUIDATION, NONE, STOP, TARGET, TRAIL, Fill
from _sums cimport Sums, add_trade_to_sums

cdef extern from "_words.h" nogil:
    int lowest_bit(uint64_t word)


cdef inline Sums *sums_of(MachineAccount *account) noexcept nogil:
    return <Sums *>&account.sums[0]


cdef inline Fill *next_fill(MachineAccount *account) noexcept nogil:
    """Where the next fill is recorded; NULL: nowhere."""
    cdef MachineRecords *records = <MachineRecords *>account.records
    cdef int64_t row = <int64_t>sums_of(account).n_fills
    return &records.ledger[row] if records != NULL and row < records.n_ledger else NULL


cdef inline double level_or_nan(double level) noexcept nogil:
    """A level for a record; one that is off is the canonical NaN, whatever its sign bit."""
    return level if level == level else NAN


cdef inline double on_tick(double price, double side, double tick) noexcept nogil:
    """A price on the tick: buys down, sales up, so that limits move away from the market and stops toward it."""
    cdef double steps, nearest
    if not tick > 0.0 or price != price:
        return price
    steps = price / tick
    nearest = floor(steps + 0.5)
    if fabs(steps - nearest) > MACHINE_TICK_TOLERANCE * steps:
        nearest = floor(steps) if side > 0.0 else ceil(steps)
    return nearest * tick


cdef inline double slipped(const MachineSettings *settings, double quote, double side) noexcept nogil:
    """What a market order pays: a buy (``side`` 1) more than the quote, a sale less."""
    return quote * (1.0 + settings.slippage) if side > 0.0 else quote * (1.0 - settings.slippage)


cdef inline double value_at(const MachineAccount *account, double price) noexcept nogil:
    """Equity at a price."""
    return account.cash + account.units * (price * account.shared.settings.multiplier)


# --- fills ----------------------------------------------------------------------------------------------------------------


cdef inline double execute(MachineAccount *account, double units, double after, double price, int64_t moment, int64_t reason,
                           int64_t decision_bar, double fee) noexcept nogil:
    """Buy or sell ``units`` at ``price``: update cash, position and sums, write the fill; return its cost.

    ``after`` is the position after it, ``fee`` what is paid besides.
    """
    cdef const MachineSettings *settings = account.shared.settings
    cdef Fill *fill = next_fill(account)
    cdef double before = account.units, worth = price * settings.multiplier
    cdef double value = units * worth
    cdef double cost = order_cost(cost_rule(settings), fabs(units), worth) + fee
    cdef double cash_before = account.cash
    account.cash = cash_before - value - cost
    account.units = after
    sums_of(account).traded_value += fabs(value)
    sums_of(account).costs += cost
    if fill != NULL:
        fill.decision_bar, fill.fill_bar, fill.moment, fill.asset = decision_bar, account.bar, moment, 0
        fill.units, fill.price, fill.value, fill.cost = units, price, value, cost
        fill.cash_before, fill.cash_after = cash_before, account.cash
        fill.position_before, fill.position_after = before, after
        fill.reason, fill.ambiguous = reason, account.is_ambiguous if reason != NONE else 0
        fill.stop = fill.target = fill.trail = NAN
        fill.equity, fill.written_off = cash_before if before == 0.0 else NAN, 0.0
    sums_of(account).n_fills += 1.0
    return cost


cdef inline double level_price(const MachineAccount *account, int64_t kind, double number, double side) noexcept nogil:
    """Price of a level that closes the position by an order of ``side``."""
    if kind == BELOW_ENTRY:
        number = account.entry_price * (1.0 - number)
    elif kind == ABOVE_ENTRY:
        number = account.entry_price * (1.0 + number)
    return on_tick(number, side, account.shared.settings.tick)


cdef inline double trail_level(const MachineAccount *account) noexcept nogil:
    """Current level of the trailing stop; NaN: off."""
    cdef double level
    if account.trail_kind == DISTANCE:
        level = account.best_close - account.trail if account.units > 0.0 else account.best_close + account.trail
    else:
        level = (account.best_close * (1.0 - account.trail) if account.units > 0.0
                 else account.best_close * (1.0 + account.trail))
    return on_tick(level, -1.0 if account.units > 0.0 else 1.0, account.shared.settings.tick)


cdef inline double liquidation_level(const MachineAccount *account) noexcept nogil:
    """Price at which equity is ``maintenance_margin`` times the position's value; NaN: there is none."""
    cdef double maintenance = account.shared.settings.maintenance_margin
    cdef double worth, level
    if not maintenance > 0.0:
        return NAN
    worth = fabs(account.units) * account.shared.settings.multiplier
    level = (-account.cash / (worth * (1.0 - maintenance)) if account.units > 0.0
             else account.cash / (worth * (1.0 + maintenance)))
    return level if level > 0.0 else NAN


cdef inline void add_to_position(MachineAccount *account, int slot, double side, double units, double price,
                                 int64_t moment) noexcept nogil:
    """Open a position with ``units`` > 0 at ``price``, slippage included, or add to it; set the order's levels."""
    cdef const MachineSlot *order = &account.shared.slots[slot]
    cdef const Action *action = account.shared.actions[slot]
    cdef Fill *fill = next_fill(account)
    cdef double filled = units if side > 0.0 else -units
    cdef double held = account.units, average = account.entry_price
    cdef double cost = execute(account, filled, held + filled, price, moment, NONE,
                               <int64_t>order.decision_bar[account.lane], 0.0)
    if held == 0.0:
        account.entry_price, account.entry_cost, account.borrow_cost, account.result = price, cost, 0.0, 0.0
        account.entry_bar, account.bars_held, account.n_entries, account.n_exits = <double>account.bar, 0.0, 1.0, 0.0
        account.stop = account.target = account.trail = NAN
        account.target_share, account.trail_kind = 1.0, 0.0
        account.best_close = account.worst_close = price
        account.opened_here = 1
        account.epoch += 1.0
    else:
        account.entry_price = (held * average + filled * price) / (held + filled)
        account.entry_cost += cost
        account.n_entries += 1.0
    account.last_entry_price = price
    if action.stop_loss_kind:
        account.stop = level_price(account, action.stop_loss_kind, order.stop_loss[account.lane], -side)
    if action.take_profit_kind:
        account.target = level_price(account, action.take_profit_kind, order.take_profit[account.lane], -side)
        account.target_share = 1.0
    if action.trail_kind:
        account.trail, account.trail_kind = order.trail[account.lane], <double>action.trail_kind
    if fill != NULL:
        fill.stop, fill.target = level_or_nan(account.stop), level_or_nan(account.target)


cdef inline void close_position(MachineAccount *account, double quote, int64_t moment, int64_t reason, int64_t decision_bar,
                                bint at_limit) noexcept nogil:
    """Close the whole position; a target and a limit order pay no slippage."""
    cdef const MachineSettings *settings = account.shared.settings
    cdef Fill *fill = next_fill(account)
    cdef double price = quote, units = account.units, multiplier = settings.multiplier
    cdef double trail = trail_level(account), fee = 0.0, cost, net
    if reason != TARGET and not at_limit:
        price = slipped(settings, quote, -1.0 if units > 0.0 else 1.0)
    if reason == LIQUIDATION:
        fee = fabs(units) * (price * multiplier) * settings.liquidation_fee
    cost = execute(account, -units, 0.0, price, moment, reason, decision_bar, fee)
    if fill != NULL:
        fill.trail = level_or_nan(trail)
    net = units * (price - account.entry_price) * multiplier - account.entry_cost - cost - account.borrow_cost
    add_trade_to_sums(sums_of(account), net, net / (fabs(units) * account.entry_price * multiplier))
    sums_of(account).bars_held += <double>account.bar - account.entry_bar
    sums_of(account).n_ambiguous += <double>account.is_ambiguous
    account.last_exit_reason, account.last_exit_bar = <double>reason, <double>account.bar
    account.last_exit_price, account.last_result = price, account.result + net
    account.entry_price = account.last_entry_price = account.entry_cost = account.borrow_cost = account.result = 0.0
    account.bars_held = account.n_entries = account.n_exits = 0.0
    account.best_close = account.worst_close = 0.0
    account.stop = account.target = account.trail = NAN
    account.trail_kind = 0.0
    account.opened_here = 0
    if reason == STOP or reason == TARGET or reason == TRAIL or reason == LIQUIDATION:
        account.left_by_level = 1
    account.epoch += 1.0
    end_slots(account, account.active & account.shared.reducing_slots, CANCELLED, POSITION_ENDED)


cdef inline double reduce_position(MachineAccount *account, double units, double quote, int64_t moment, int64_t reason,
                                   int64_t decision_bar, bint at_limit) noexcept nogil:
    """Close ``units`` > 0 of the position, all of it if nothing but rounding would be left; return the units closed."""
    cdef double held = account.units, multiplier = account.shared.settings.multiplier
    cdef double size = fabs(held)
    cdef double rest = size - units
    cdef double price, closed, after, trail, cost, share, gross, net, kept
    cdef Fill *fill
    if rest <= MACHINE_DUST * size:
        close_position(account, quote, moment, reason, decision_bar, at_limit)
        return size
    fill = next_fill(account)
    price = quote if reason == TARGET or at_limit else slipped(account.shared.settings, quote, -1.0 if held > 0.0 else 1.0)
    closed, after = (units, rest) if held > 0.0 else (-units, -rest)
    trail = trail_level(account)
    cost = execute(account, -closed, after, price, moment, reason, decision_bar, 0.0)
    if fill != NULL:
        fill.trail = level_or_nan(trail)
    share = units / size
    gross = closed * (price - account.entry_price) * multiplier
    net = gross - share * account.entry_cost - cost - share * account.borrow_cost
    add_trade_to_sums(sums_of(account), net, net / (units * account.entry_price * multiplier))
    sums_of(account).n_ambiguous += <double>account.is_ambiguous
    account.result += net
    account.n_exits += 1.0
    kept = 1.0 - share
    account.entry_cost *= kept
    account.borrow_cost *= kept
    return units


# --- the end of orders ----------------------------------------------------------------------------------------------------


cdef inline void end_slot(MachineAccount *account, int slot, int64_t status, int64_t why) noexcept nogil:
    """An active order ends on the bar that is being processed."""
    cdef MachineRecords *records = <MachineRecords *>account.records
    cdef Order *order
    account.active &= ~(<uint64_t>1 << slot)
    if records != NULL and records.rows[slot] < records.n_rows:
        order = &records.orders[records.rows[slot]]
        order.status, order.reason, order.end_bar = status, why, account.bar
        order.units, order.price = records.units[slot], records.prices[slot]


cdef inline void end_slots(MachineAccount *account, uint64_t slots, int64_t status, int64_t why) noexcept nogil:
    """Active orders of ``slots`` end."""
    cdef int slot
    if account.records == NULL:
        account.active &= ~slots
        return
    while slots:
        slot = lowest_bit(slots)
        slots &= slots - 1
        end_slot(account, slot, status, why)


# --- the close ------------------------------------------------------------------------------------------------------------


cdef inline void carry(MachineAccount *account, double close) noexcept nogil:
    """A close into which the position is held: its age, borrowing and funding, best and worst close."""
    cdef const MachineSettings *settings = account.shared.settings
    cdef double worth = close * settings.multiplier
    account.bars_held += 1.0
    if account.units < 0.0:
        pay(account, -account.units * worth * settings.borrow_per_bar)
    if settings.leverage > 1.0 and account.cash < 0.0:
        pay(account, -account.cash * settings.borrow_per_bar)
    if settings.funding != NULL:
        pay(account, account.units * worth * settings.funding[account.bar])
    if account.units > 0.0:
        account.best_close = close if close > account.best_close else account.best_close
        account.worst_close = close if close < account.worst_close else account.worst_close
    else:
        account.best_close = close if close < account.best_close else account.best_close
        account.worst_close = close if close > account.worst_close else account.worst_close


cdef inline void pay(MachineAccount *account, double amount) noexcept nogil:
    """A cost of holding the position; received if it is negative."""
    account.cash -= amount
    account.borrow_cost += amount
    sums_of(account).costs += amount

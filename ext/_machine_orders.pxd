# Orders of the bar machine: what a call site places, when it breaks a rule, and what it fills.
# The twin is backtest/_pure/_machine_orders.py.

from libc.math cimport INFINITY, NAN, fabs, floor, isfinite
from libc.stdint cimport int64_t, uint64_t

from _costs cimport affordable_units, order_cost
from _machine cimport (ABOVE_ENTRY, ASKED, BELOW_ENTRY, BUY, CANCEL, CANCELLED, CLOSE_POSITION, FAULT_LIMIT, FAULT_SIZE,
                       FAULT_STOP, FAULT_STOP_LOSS, FAULT_STOP_SIDE, FAULT_TAKE_PROFIT, FAULT_TARGET_SIDE, FAULT_TRAIL,
                       FAULT_VALID, FILLED, MACHINE_LOT_TOLERANCE, MACHINE_POWER_TOLERANCE, MOVE_STOP, NOTHING_TO_REDUCE, PRICE,
                       REPLACED, RESTING,
                       SELL, SHARE, SHARE_OF_POSITION, UNAFFORDABLE, UNITS, Action, Fault, MachineAccount, MachineRecords,
                       MachineSettings, MachineSlot, Order, cost_rule)
from _machine_account cimport (add_to_position, close_position, end_slot, end_slots, level_price, reduce_position, slipped,
                               value_at)
from _records cimport REVERSE, SIGNAL

# --- what the function decides --------------------------------------------------------------------------------------------


cdef inline bint set_fault(Fault *fault, int64_t code, int64_t index, int64_t bar, double value) noexcept nogil:
    """Note a fault; True."""
    fault.code, fault.action, fault.bar, fault.value = code, index, bar, value
    return True


cdef inline double operand(const MachineAccount *account, int64_t place, const double *const *rows) noexcept nogil:
    """Number at an action's operand; NaN: not given."""
    return rows[place][account.lane] if place >= 0 else NAN


cdef inline void act(MachineAccount *account, int64_t index, const Action *action, const double *const *rows,
                     Fault *fault) noexcept nogil:
    """Apply one action of the function's text, decided at the close of the account's bar."""
    if fault.code:
        return
    if action.kind == BUY or action.kind == SELL:
        place(account, index, action, rows, fault)
    elif action.kind == CLOSE_POSITION:
        if account.units != 0.0:
            start_slot(account, action)
            record_order(account, action)
    elif action.kind == CANCEL:
        end_slots(account, account.active, CANCELLED, ASKED)
    elif account.units != 0.0:  # of no position, there is no level to move
        move_level(account, index, action, rows, fault)


cdef inline void move_level(MachineAccount *account, int64_t index, const Action *action, const double *const *rows,
                            Fault *fault) noexcept nogil:
    """Move the protective stop or the target of the position."""
    cdef double side = 1.0 if account.units > 0.0 else -1.0
    cdef double price = operand(account, action.stop_loss if action.kind == MOVE_STOP else action.take_profit, rows)
    cdef double share = operand(account, action.share, rows) if action.share >= 0 else 1.0
    if not 0.0 < price < INFINITY:
        set_fault(fault, FAULT_STOP_LOSS if action.kind == MOVE_STOP else FAULT_TAKE_PROFIT, index, account.bar, price)
    elif action.kind == MOVE_STOP:
        account.stop = level_price(account, PRICE, price, -side)
    elif not 0.0 < share <= 1.0:
        set_fault(fault, FAULT_SIZE, index, account.bar, share)
    else:
        account.target, account.target_share = level_price(account, PRICE, price, -side), share


cdef inline void place(MachineAccount *account, int64_t index, const Action *action, const double *const *rows,
                       Fault *fault) noexcept nogil:
    """Place a buy or a sale, in the slot of its call site."""
    cdef MachineSlot *order = &account.shared.slots[action.slot]
    cdef int64_t lane = account.lane
    cdef double side = 1.0 if action.kind == BUY else -1.0
    if action.once and order.once_epoch[lane] == account.epoch:
        return
    if find_fault(account, index, action, rows, fault):
        return
    order.once_epoch[lane] = account.epoch
    start_slot(account, action)
    order.size[lane] = operand(account, action.size, rows)
    order.limit[lane] = level_price(account, PRICE, operand(account, action.limit, rows), side)
    order.stop[lane] = level_price(account, PRICE, operand(account, action.stop, rows), side)
    if action.valid >= 0:
        order.valid_until[lane] = <double>account.bar + operand(account, action.valid, rows)
    order.stop_loss[lane] = operand(account, action.stop_loss, rows)
    order.take_profit[lane] = operand(account, action.take_profit, rows)
    order.trail[lane] = operand(account, action.trail, rows)
    record_order(account, action)
    if account.shared.reducing_slots >> action.slot & 1 and not account.units * side < 0.0:
        end_slot(account, action.slot, CANCELLED, NOTHING_TO_REDUCE)


cdef inline bint find_fault(const MachineAccount *account, int64_t index, const Action *action, const double *const *rows,
                            Fault *fault) noexcept nogil:
    """Note the first argument of a buy or sale that breaks a rule; whether there is one."""
    cdef double limit = operand(account, action.limit, rows), stop = operand(account, action.stop, rows)
    cdef double size = operand(account, action.size, rows), valid = operand(account, action.valid, rows)
    cdef double trail = operand(account, action.trail, rows), reference = account.shared.close[account.bar]
    cdef bint is_buy = action.kind == BUY, may_be_off = account.shared.off_is_nan
    if action.limit >= 0 and not 0.0 < limit < INFINITY:
        return set_fault(fault, FAULT_LIMIT, index, account.bar, limit)
    if action.stop >= 0 and not 0.0 < stop < INFINITY:
        return set_fault(fault, FAULT_STOP, index, account.bar, stop)
    if not (0.0 < size < INFINITY and (size <= 1.0 or action.size_kind != SHARE_OF_POSITION)):
        return set_fault(fault, FAULT_SIZE, index, account.bar, size)
    if action.valid >= 0 and not (1.0 <= valid < INFINITY and valid == floor(valid)):
        return set_fault(fault, FAULT_VALID, index, account.bar, valid)
    if action.limit >= 0:
        reference = limit
    elif action.stop >= 0:
        reference = stop
    if (find_level_fault(account, index, action.stop_loss_kind, operand(account, action.stop_loss, rows),
                         is_buy, reference, FAULT_STOP_LOSS, FAULT_STOP_SIDE, fault, action.stop_loss >= 0)
            or find_level_fault(account, index, action.take_profit_kind, operand(account, action.take_profit, rows),
                                not is_buy, reference, FAULT_TAKE_PROFIT, FAULT_TARGET_SIDE, fault,
                                action.take_profit >= 0)):
        return True
    if action.trail >= 0 and not (may_be_off and trail != trail) and not 0.0 < trail < INFINITY:
        return set_fault(fault, FAULT_TRAIL, index, account.bar, trail)
    return False


cdef inline bint find_level_fault(const MachineAccount *account, int64_t index, int64_t kind, double level, bint is_below,
                                  double reference, int64_t code, int64_t side_code, Fault *fault,
                                  bint is_given) noexcept nogil:
    """Note what is wrong with a level that must be below (or above) ``reference``; whether anything is."""
    cdef bint may_be_off = account.shared.off_is_nan
    if not is_given or (may_be_off and level != level):
        return False
    if not 0.0 < level < INFINITY or (kind == BELOW_ENTRY and level >= 1.0 and not may_be_off):
        return set_fault(fault, code, index, account.bar, level)
    if (kind == (ABOVE_ENTRY if is_below else BELOW_ENTRY)
            or (kind == PRICE and (level >= reference if is_below else level <= reference))):
        return set_fault(fault, side_code, index, account.bar, level)
    return False


cdef inline void start_slot(MachineAccount *account, const Action *action) noexcept nogil:
    """A new order in its call site's slot; one that rests there is replaced."""
    cdef MachineSlot *order = &account.shared.slots[action.slot]
    cdef MachineRecords *records = <MachineRecords *>account.records
    cdef int64_t lane = account.lane
    cdef uint64_t slot = <uint64_t>1 << action.slot
    if account.active & slot:
        end_slot(account, action.slot, REPLACED, ASKED)
    account.active |= slot
    account.triggered &= ~slot
    order.decision_bar[lane] = <double>account.bar
    order.size[lane] = order.limit[lane] = order.stop[lane] = NAN
    order.stop_loss[lane] = order.take_profit[lane] = order.trail[lane] = NAN
    order.valid_until[lane] = INFINITY
    if records != NULL:
        records.units[action.slot], records.prices[action.slot] = 0.0, NAN


cdef inline void record_order(MachineAccount *account, const Action *action) noexcept nogil:
    """Write a new order's row; what becomes of it is written when it ends."""
    cdef MachineRecords *records = <MachineRecords *>account.records
    cdef const MachineSlot *order = &account.shared.slots[action.slot]
    cdef int64_t lane = account.lane
    cdef Order *row
    if records == NULL:
        return
    records.rows[action.slot] = records.n_orders
    records.n_orders += 1
    if records.n_orders > records.n_rows:
        return
    row = &records.orders[records.n_orders - 1]
    row.slot, row.kind, row.line, row.decision_bar = action.slot, action.kind, action.line, account.bar
    row.side = 1 if action.kind == BUY or (action.kind == CLOSE_POSITION and account.units < 0.0) else -1
    row.size_kind, row.size, row.limit, row.stop = action.size_kind, order.size[lane], order.limit[lane], order.stop[lane]
    row.valid_until, row.stop_loss, row.take_profit = order.valid_until[lane], order.stop_loss[lane], order.take_profit[lane]
    row.trail, row.end_bar, row.status, row.reason = order.trail[lane], -1, RESTING, ASKED
    row.units, row.price = 0.0, NAN


# --- fills ----------------------------------------------------------------------------------------------------------------


cdef inline void fill_order(MachineAccount *account, int slot, double quote, int64_t moment) noexcept nogil:
    """Fill an order at ``quote``, plus slippage unless it is a limit order; it ends, filled or unaffordable."""
    cdef const MachineSlot *order = &account.shared.slots[slot]
    cdef const Action *action = account.shared.actions[slot]
    cdef int64_t decision_bar = <int64_t>order.decision_bar[account.lane]
    cdef double side = 1.0 if action.kind == BUY else -1.0
    cdef bint at_limit = action.limit >= 0, is_filled = True
    account.active &= ~(<uint64_t>1 << slot)  # it does not end with the position that it closes
    if action.kind == CLOSE_POSITION:
        side = -1.0 if account.units > 0.0 else 1.0
        note_fill(account, slot, side, fabs(account.units), quote, at_limit)
        close_position(account, quote, moment, action.reason, decision_bar, False)
    elif account.units * side < 0.0:
        is_filled = fill_against(account, slot, side, quote, moment, at_limit)
    else:
        is_filled = add_units(account, slot, side, quote, moment, at_limit, NAN)
    end_slot(account, slot, FILLED if is_filled else UNAFFORDABLE, ASKED)


cdef inline void note_fill(MachineAccount *account, int slot, double side, double units, double quote,
                           bint at_limit) noexcept nogil:
    """Remember what an order filled, for its record: units of all its fills, the price of the last."""
    cdef MachineRecords *records = <MachineRecords *>account.records
    if records != NULL:
        records.units[slot] += units
        records.prices[slot] = quote if at_limit else slipped(account.shared.settings, quote, side)


cdef inline bint fill_against(MachineAccount *account, int slot, double side, double quote, int64_t moment,
                              bint at_limit) noexcept nogil:
    """Fill an order against the position: reduce it, close it, or reverse it; False if nothing could be filled."""
    cdef const MachineSettings *settings = account.shared.settings
    cdef const MachineSlot *order = &account.shared.slots[slot]
    cdef const Action *action = account.shared.actions[slot]
    cdef bint reduces = account.shared.reducing_slots >> slot & 1
    cdef int64_t decision_bar = <int64_t>order.decision_bar[account.lane]
    cdef double held = fabs(account.units), size = order.size[account.lane]
    cdef double rest = NAN  # units to open beyond the position; NaN: by the order's size
    cdef double units, price
    if action.size_kind == SHARE_OF_POSITION:
        units = held if size == 1.0 else whole_lots(size * held, settings.lot)
    elif action.size_kind == UNITS:
        units = whole_lots(size, settings.lot)
        rest = units - held
    elif reduces:
        price = quote if at_limit else slipped(settings, quote, side)
        units = sized_units(account, slot, price, value_at(account, price))
    else:
        units = INFINITY  # an entry against the position reverses it, whatever its size
    if not units > 0.0:
        return False
    if reduces or units <= held * (1.0 + 1e-12):
        units = units if units < held else held
        note_fill(account, slot, side, units, quote, at_limit)
        reduce_position(account, units, quote, moment, SIGNAL, decision_bar, at_limit)
        return True
    note_fill(account, slot, side, held, quote, at_limit)
    close_position(account, quote, moment, REVERSE, decision_bar, at_limit)
    return add_units(account, slot, side, quote, moment, at_limit, rest)


cdef inline double sized_units(const MachineAccount *account, int slot, double price, double equity) noexcept nogil:
    """Units of an order by its size: as given, or as many as its budget pays for with their cost."""
    cdef const MachineSettings *settings = account.shared.settings
    cdef const Action *action = account.shared.actions[slot]
    cdef double size = account.shared.slots[slot].size[account.lane], budget = size
    if action.size_kind == UNITS:
        return whole_lots(size, settings.lot)
    if action.size_kind == SHARE:
        budget = size * equity
    elif action.cut and not size < settings.leverage * equity:
        budget = settings.leverage * equity
    return affordable_lots(settings, budget, price * settings.multiplier)


cdef inline bint add_units(MachineAccount *account, int slot, double side, double quote, int64_t moment, bint at_limit,
                           double units) noexcept nogil:
    """Open a position or add to it by the order's size, or by ``units`` if that is no NaN; False if it is not affordable."""
    cdef const MachineSettings *settings = account.shared.settings
    cdef double price = quote if at_limit else slipped(settings, quote, side)
    cdef double worth = price * settings.multiplier
    cdef double equity = value_at(account, price) if account.units != 0.0 else account.cash
    cdef double power
    if not equity > 0.0:
        return False
    if units != units:
        units = sized_units(account, slot, price, equity)
    if not units > 0.0:
        return False
    power = settings.leverage * equity - fabs(account.units) * worth
    if not units * worth + order_cost(cost_rule(settings), units, worth) <= power * MACHINE_POWER_TOLERANCE:
        return False
    note_fill(account, slot, side, units, quote, at_limit)
    add_to_position(account, slot, side, units, price, moment)
    return True


cdef inline double whole_lots(double units, double lot) noexcept nogil:
    """Units rounded toward 0 to whole lots, within rounding: 0.3 is three lots of 0.1."""
    cdef double lots
    if not lot > 0.0:
        return units
    lots = floor(units / lot)
    if (lots + 1.0) * lot <= units * (1.0 + MACHINE_LOT_TOLERANCE):
        lots += 1.0
    return lots * lot


cdef inline double affordable_lots(const MachineSettings *settings, double budget, double price) noexcept nogil:
    """Most units, in whole lots, whose value and cost fit into ``budget``; may be <= 0."""
    cdef double units = affordable_units(cost_rule(settings), budget, price, False)
    cdef double lot = settings.lot, lots, more, fewer
    if not lot > 0.0 or not isfinite(units):
        return units
    lots = floor(units / lot)
    # The divisions may have rounded across a whole number; the rule itself decides.
    more, fewer = (lots + 1.0) * lot, (lots - 1.0) * lot
    units = lots * lot
    if more * price + order_cost(cost_rule(settings), more, price) <= budget:
        return more
    return fewer if units * price + order_cost(cost_rule(settings), units, price) > budget else units

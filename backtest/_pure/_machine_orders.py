"""Orders of the bar machine: what a call site places, when it breaks a rule, and what it fills.

The twin of ``ext/_machine_orders.pxd``.
"""

from __future__ import annotations

import math
from typing import Any

from backtest._pure._costs import affordable_units, order_cost
from backtest._pure._machine_layout import (
    ABOVE_ENTRY,
    ASKED,
    BELOW_ENTRY,
    BUY,
    CANCEL,
    CANCELLED,
    CLOSE_POSITION,
    DUST,
    FAULT_LIMIT,
    FAULT_SIZE,
    FAULT_STOP,
    FAULT_STOP_LOSS,
    FAULT_STOP_SIDE,
    FAULT_TAKE_PROFIT,
    FAULT_TARGET_SIDE,
    FAULT_TRAIL,
    FAULT_VALID,
    FILLED,
    INF,
    LOT_TOLERANCE,
    MOVE_STOP,
    NAN,
    NOTHING_TO_REDUCE,
    POSITION_ENDED,
    POWER_TOLERANCE,
    PRICE,
    REPLACED,
    RESTING,
    REVERSE,
    SELL,
    SHARE,
    SHARE_OF_POSITION,
    SIGNAL,
    UNAFFORDABLE,
    UNITS,
    floor,
)


class Order:
    """What one call site has placed: a market, limit, stop or stop-limit order."""

    def __init__(self) -> None:
        self.is_active = self.is_market = self.is_triggered = self.reduces = self.is_cut = False
        self.kind = self.slot = self.side = self.size_kind = self.reason = self.line = 0
        self.stop_loss_kind = self.take_profit_kind = self.trail_kind = 0
        self.size = self.limit = self.stop = self.stop_loss = self.take_profit = self.trail = NAN
        self.valid_until = INF
        self.decision_bar = self.row = -1
        self.units, self.price = 0.0, NAN  # of its fills


# --- what the function decides --------------------------------------------------------------------------------------------


def act(account: Any, index: int, action: Any, numbers: Any) -> None:
    """Apply one action of the function's text, decided at the close of the account's bar.

    Parameters
    ----------
    account : MachineAccount
    index : int
        Place of the action in the program, for faults.
    action
        Record with the whole-number fields of ACTION.
    numbers : sequence of float or None
        In the order of ``NUMBERS``; None: not given.
    """
    if account.fault is not None:
        return
    kind = int(action["kind"])
    if kind in (BUY, SELL):
        place(account, index, action, numbers)
    elif kind == CLOSE_POSITION:
        if account.units != 0.0:
            order = new_order(account, action)
            order.side = -1 if account.units > 0.0 else 1
            order.is_market = order.reduces = True
            record_order(account, order)
    elif kind == CANCEL:
        for order in account.slots:
            end_order(account, order, CANCELLED, ASKED)
    elif account.units != 0.0:  # of no position, there is no level to move
        move_level(account, index, kind, numbers)


def move_level(account: Any, index: int, kind: int, numbers: Any) -> None:
    """Move the protective stop or the target of the position."""
    side = 1 if account.units > 0.0 else -1
    price = numbers[4] if kind == MOVE_STOP else numbers[5]
    if not 0.0 < price < INF:
        account.fault = FAULT_STOP_LOSS if kind == MOVE_STOP else FAULT_TAKE_PROFIT, index, account.bar, price
    elif kind == MOVE_STOP:
        account.stop = account.level(PRICE, price, -side)
    else:
        share = 1.0 if numbers[7] is None else numbers[7]
        if not 0.0 < share <= 1.0:
            account.fault = FAULT_SIZE, index, account.bar, share
        else:
            account.target, account.target_share = account.level(PRICE, price, -side), share


def place(account: Any, index: int, action: Any, numbers: Any) -> None:
    """Place a buy or a sale, in the slot of its call site."""
    slot = int(action["slot"])
    if action["once"] and account.once_epochs[slot] == account.epoch:
        return
    account.fault = find_fault(account, index, action, numbers)
    if account.fault is not None:
        return
    account.once_epochs[slot] = account.epoch
    order = new_order(account, action)
    order.side = 1 if int(action["kind"]) == BUY else -1
    given = [NAN if number is None else float(number) for number in numbers]
    order.size, limit, stop, valid, order.stop_loss, order.take_profit, order.trail, _ = given
    order.limit, order.stop = account.level(PRICE, limit, order.side), account.level(PRICE, stop, order.side)
    order.is_market = numbers[1] is None and numbers[2] is None
    order.valid_until = INF if numbers[3] is None else account.bar + valid
    order.reduces = bool(action["reduce_only"]) or order.size_kind == SHARE_OF_POSITION
    record_order(account, order)
    if order.reduces and not account.units * order.side < 0.0:
        end_order(account, order, CANCELLED, NOTHING_TO_REDUCE)


def find_fault(account: Any, index: int, action: Any, numbers: Any) -> tuple[int, int, int, float] | None:
    """The first argument of a buy or sale that breaks a rule."""
    size, limit, stop, valid, stop_loss, take_profit, trail, _ = numbers
    bar, may_be_off = account.bar, bool(account.program.off_is_nan)
    for code, price in ((FAULT_LIMIT, limit), (FAULT_STOP, stop)):
        if price is not None and not 0.0 < price < INF:
            return code, index, bar, price
    largest = 1.0 if action["size_kind"] == SHARE_OF_POSITION else INF
    if not (0.0 < size <= largest and size < INF):
        return FAULT_SIZE, index, bar, size
    if valid is not None and not (1.0 <= valid < INF and valid == floor(valid)):
        return FAULT_VALID, index, bar, valid
    reference = limit if limit is not None else stop if stop is not None else float(account.bars.close[bar])
    is_buy = action["kind"] == BUY
    for code, level, kind, is_below in (
        (FAULT_STOP_LOSS, stop_loss, action["stop_loss_kind"], is_buy),
        (FAULT_TAKE_PROFIT, take_profit, action["take_profit_kind"], not is_buy),
    ):
        if level is None or (may_be_off and level != level):
            continue
        if not 0.0 < level < INF or (kind == BELOW_ENTRY and level >= 1.0 and not may_be_off):
            return code, index, bar, level
        if kind == (ABOVE_ENTRY if is_below else BELOW_ENTRY) or (
            kind == PRICE and (level >= reference if is_below else level <= reference)
        ):
            return (FAULT_STOP_SIDE if code == FAULT_STOP_LOSS else FAULT_TARGET_SIDE), index, bar, level
    if trail is not None and not (may_be_off and trail != trail) and not 0.0 < trail < INF:
        return FAULT_TRAIL, index, bar, trail
    return None


def new_order(account: Any, action: Any) -> Order:
    """A new order in its call site's slot; one that rests there is replaced."""
    slot = int(action["slot"])
    end_order(account, account.slots[slot], REPLACED, ASKED)
    order = account.slots[slot] = Order()
    order.is_active, order.slot, order.kind, order.decision_bar = True, slot, int(action["kind"]), account.bar
    for name in ("line", "size_kind", "stop_loss_kind", "take_profit_kind", "trail_kind", "reason"):
        setattr(order, name, int(action[name]))
    order.is_cut = bool(action["cut"])
    return order


def record_order(account: Any, order: Order) -> None:
    """Write a new order's row; what becomes of it is written when it ends."""
    order.row = account.n_orders
    account.n_orders += 1
    if account.orders is None or order.row >= len(account.orders):
        return
    row = account.orders[order.row]
    for name in ("slot", "kind", "line", "decision_bar", "side", "size_kind", "size", "limit", "stop", "valid_until"):
        row[name] = getattr(order, name)
    row["stop_loss"], row["take_profit"], row["trail"] = order.stop_loss, order.take_profit, order.trail
    row["end_bar"], row["status"], row["reason"] = -1, RESTING, ASKED
    row["units"], row["price"] = 0.0, NAN


def end_order(account: Any, order: Order, status: int, why: int) -> None:
    """An order ends on the bar that is being processed, if it is active."""
    if not order.is_active:
        return
    order.is_active = False
    if account.orders is not None and order.row < len(account.orders):
        row = account.orders[order.row]
        row["status"], row["reason"], row["end_bar"] = status, why, account.bar
        row["units"], row["price"] = order.units, order.price


def end_orders_of_position(account: Any) -> None:
    """Reducing orders end with the position that they were placed in."""
    for order in account.slots:
        if order.reduces:
            end_order(account, order, CANCELLED, POSITION_ENDED)


# --- fills ----------------------------------------------------------------------------------------------------------------


def fill_order(account: Any, order: Order, quote: float, moment: int) -> None:
    """Fill an order at ``quote``, plus slippage unless it is a limit order; it ends, filled or unaffordable."""
    at_limit = order.limit == order.limit
    order.is_active = False  # it does not end with the position that it closes
    is_filled = True
    if order.kind == CLOSE_POSITION:
        note_fill(account, order, abs(account.units), quote, at_limit)
        account.close(quote, moment, order.reason, order.decision_bar)
    elif account.units * order.side < 0.0:
        is_filled = fill_against(account, order, quote, moment, at_limit)
    else:
        is_filled = add_units(account, order, quote, moment, at_limit, NAN)
    order.is_active = True
    end_order(account, order, FILLED if is_filled else UNAFFORDABLE, ASKED)


def note_fill(account: Any, order: Order, units: float, quote: float, at_limit: bool) -> None:
    """Remember what an order filled, for its record: units of all its fills, the price of the last."""
    order.units += units
    order.price = quote if at_limit else account.slipped(quote, order.side)


def fill_against(account: Any, order: Order, quote: float, moment: int, at_limit: bool) -> bool:
    """Fill an order against the position: reduce it, close it, or reverse it; False if nothing could be filled."""
    held = abs(account.units)
    rest = NAN  # units to open beyond the position; NaN: by the order's size
    if order.size_kind == SHARE_OF_POSITION:
        units = held if order.size == 1.0 else whole_lots(order.size * held, account.settings.lot)
    elif order.size_kind == UNITS:
        units = whole_lots(order.size, account.settings.lot)
        rest = units - held
    elif order.reduces:
        price = quote if at_limit else account.slipped(quote, order.side)
        units = sized_units(account, order, price, account.value(price))
    else:
        units = INF  # an entry against the position reverses it, whatever its size
    if not units > 0.0:
        return False
    if order.reduces or units <= held * (1.0 + DUST):
        units = units if units < held else held
        note_fill(account, order, units, quote, at_limit)
        account.reduce(units, quote, moment, SIGNAL, order.decision_bar, at_limit)
        return True
    note_fill(account, order, held, quote, at_limit)
    account.close(quote, moment, REVERSE, order.decision_bar, at_limit)
    return add_units(account, order, quote, moment, at_limit, rest)


def sized_units(account: Any, order: Order, price: float, equity: float) -> float:
    """Units of an order by its size: as given, or as many as its budget pays for with their cost."""
    settings = account.settings
    if order.size_kind == UNITS:
        return whole_lots(order.size, settings.lot)
    if order.size_kind == SHARE:
        budget = order.size * equity
    else:
        most = settings.leverage * equity
        budget = most if order.is_cut and not order.size < most else order.size
    return affordable_lots(settings, budget, price * settings.multiplier, settings.lot)


def add_units(account: Any, order: Order, quote: float, moment: int, at_limit: bool, units: float) -> bool:
    """Open a position or add to it by the order's size, or by ``units`` if that is no NaN; False if it is not affordable."""
    settings = account.settings
    price = quote if at_limit else account.slipped(quote, order.side)
    worth = price * settings.multiplier
    equity = account.value(price) if account.units != 0.0 else account.cash
    if not equity > 0.0:
        return False
    if units != units:
        units = sized_units(account, order, price, equity)
    if not units > 0.0:
        return False
    power = settings.leverage * equity - abs(account.units) * worth
    if not units * worth + order_cost(settings, units, worth) <= power * POWER_TOLERANCE:
        return False
    note_fill(account, order, units, quote, at_limit)
    account.add(order, units, price, moment)
    return True


def whole_lots(units: float, lot: float) -> float:
    """Units rounded toward 0 to whole lots, within rounding: 0.3 is three lots of 0.1."""
    if not lot > 0.0:
        return units
    lots = floor(units / lot)
    if (lots + 1.0) * lot <= units * (1.0 + LOT_TOLERANCE):
        lots += 1.0
    return lots * lot


def affordable_lots(settings: Any, budget: float, price: float, lot: float) -> float:
    """Most units, in whole lots, whose value and cost fit into ``budget``; may be <= 0."""
    units = affordable_units(settings, budget, price, False)
    if not lot > 0.0 or not math.isfinite(units):
        return units
    lots = floor(units / lot)
    # The divisions may have rounded across a whole number; the rule itself decides.
    more, fewer = (lots + 1.0) * lot, (lots - 1.0) * lot
    units = lots * lot
    if more * price + order_cost(settings, more, price) <= budget:
        return more
    return fewer if units * price + order_cost(settings, units, price) > budget else units

"""The order of events on a bar of the bar machine: the open, the path between open and close, the close.

The twin of ``ext/_machine_bar.pxd``.
"""

from __future__ import annotations

from backtest._pure._machine_account import MachineAccount
from backtest._pure._machine_layout import (
    AFTER_LEVEL,
    ASKED,
    AT_BUST,
    BUST,
    CANCELLED,
    CLOSE,
    CLOSE_POSITION,
    END,
    EXPIRED,
    INSIDE,
    LIQUIDATION,
    NAN,
    NEAREST,
    OPEN,
    OPTIMISTIC,
    SAME,
    STOP,
    TARGET,
    TRAIL,
)
from backtest._pure._machine_orders import Order, end_order, fill_order, whole_lots

#: What may trigger inside a bar, in order of priority at one price; call sites follow, by their slot.
STOP_PLACE, LIQUIDATION_PLACE, TARGET_PLACE, FIRST_SLOT = range(4)


def open_bar(account: MachineAccount, bar: int) -> None:
    """What happens on a bar up to its close: market orders at the open, the path, orders that expire."""
    account.bar, account.opened_here, account.left_by_level, account.is_ambiguous = bar, False, False, 0
    fill_market_orders(account, float(account.bars.open[bar]), OPEN)
    trade_at_open(account, bar)
    take_path(account, bar)
    for order in account.slots:
        if order.valid_until <= bar:
            end_order(account, order, EXPIRED, ASKED)


def close_bar(account: MachineAccount, bar: int) -> float:
    """Pay for what is held over this close and value the account: what the function may then read."""
    close = float(account.bars.close[bar])
    if account.units != 0.0:
        account.carry(close)
    return account.value(close)


def end_bar(account: MachineAccount, bar: int, value: float) -> float:
    """After the function has decided: fill at this close what fills there, end of data, bust; mark the equity."""
    settings, close = account.settings, float(account.bars.close[bar])
    if value > 0.0:
        if settings.fills_at_close:
            fill_market_orders(account, close, CLOSE)
            value = account.value(close)
        if value > 0.0 and bar == settings.last - 1 and settings.close_at_end and account.units != 0.0:
            account.close(close, CLOSE, END, bar)
            value = account.value(close)
    if value <= 0.0:
        go_bust(account, close)
        value = 0.0
    account.mark(value)
    return value


def go_bust(account: MachineAccount, close: float) -> None:
    """Equity is gone at this close: close the position and stop trading."""
    account.is_bust = True
    for order in account.slots:
        end_order(account, order, CANCELLED, AT_BUST)
    if account.units != 0.0:
        account.close(close, CLOSE, BUST, account.bar)
    account.sums.written_off = 0.0 - account.cash
    if account.ledger is not None and 0 < account.n_fills <= len(account.ledger):
        account.ledger[account.n_fills - 1]["written_off"] = account.sums.written_off


def fill_market_orders(account: MachineAccount, quote: float, moment: int) -> None:
    """Fill what the last call decided: closes first, then in the order of the text, each sized after the former."""
    for closes in (True, False):
        for order in account.slots:
            if order.is_active and order.is_market and (order.kind == CLOSE_POSITION) == closes:
                if moment == CLOSE and account.program.no_entry_after_level and account.left_by_level and not closes:
                    end_order(account, order, CANCELLED, AFTER_LEVEL)  # rules do not enter at the close of such a bar
                else:
                    fill_order(account, order, quote, moment)


# --- the path -------------------------------------------------------------------------------------------------------------


class Trigger:
    """A level or an order that a price reaches, rising or falling."""

    def __init__(self, place: int, price: float, is_rising: bool, reason: int = 0, order: Order | None = None) -> None:
        self.place, self.price, self.is_rising, self.reason, self.order = place, price, is_rising, reason, order


def triggers(account: MachineAccount) -> list[Trigger]:
    """What rests now, in order of priority at one price."""
    found = []
    if account.units != 0.0:
        is_long = account.units > 0.0
        level, trail, reason = account.stop, account.trail_level(), STOP
        if (trail > level if is_long else trail < level) or level != level:  # the nearer acts; if equal, the stop
            level, reason = trail, TRAIL
        found.append(Trigger(STOP_PLACE, level, not is_long, reason))
        found.append(Trigger(LIQUIDATION_PLACE, account.liquidation_level(), not is_long, LIQUIDATION))
        found.append(Trigger(TARGET_PLACE, account.target, is_long, TARGET))
    for slot, order in enumerate(account.slots):
        if order.is_active and not order.is_market:
            waits = order.stop == order.stop and not order.is_triggered
            is_rising = (order.side > 0) == waits
            found.append(Trigger(FIRST_SLOT + slot, order.stop if waits else order.limit, is_rising, 0, order))
    return [trigger for trigger in found if trigger.price == trigger.price]


def is_reached(account: MachineAccount, trigger: Trigger, price: float) -> bool:
    """Whether a price is at or beyond the trigger, within rounding."""
    tolerance = float(account.settings.touch_tolerance)
    if trigger.is_rising:
        return price >= trigger.price * (1.0 - tolerance)
    return price <= trigger.price * (1.0 + tolerance)


def trade_at_open(account: MachineAccount, bar: int) -> None:
    """Whatever the bar opens at or beyond fills at the open; levels of a position that opened there are tested from it on."""
    quote, low, high = float(account.bars.open[bar]), float(account.bars.low[bar]), float(account.bars.high[bar])
    while True:
        trigger = next((each for each in triggers(account) if is_reached(account, each, quote)), None)
        if trigger is None:
            return
        if trigger.order is None and account.opened_here:
            price = max(trigger.price, quote) if trigger.is_rising else min(trigger.price, quote)
            fire(account, trigger, clip_to_bar(price, low, high), INSIDE)
        else:
            fire(account, trigger, quote, OPEN)


def take_path(account: MachineAccount, bar: int) -> None:
    """Fill what the price reaches between open and close; where the order of low and high matters, as ``intrabar`` says."""
    low, high = float(account.bars.low[bar]), float(account.bars.high[bar])
    if not any(is_reached(account, each, high if each.is_rising else low) for each in triggers(account)):
        return
    low_first, high_first = account.trial(), account.trial()
    walk(low_first, bar, True)
    walk(high_first, bar, False)
    takes_low_first = True
    if not low_first.is_like(high_first, float(account.bars.close[bar])):
        account.is_ambiguous = 1
        takes_low_first = goes_low_first(account, bar, low_first, high_first)
    walk(account, bar, takes_low_first)
    account.is_ambiguous = 0


def goes_low_first(account: MachineAccount, bar: int, low_first: MachineAccount, high_first: MachineAccount) -> bool:
    """Which path an ambiguous bar takes."""
    settings, bars = account.settings, account.bars
    close = float(bars.close[bar])
    if settings.intrabar == NEAREST:
        return not float(bars.high[bar]) - float(bars.open[bar]) < float(bars.open[bar]) - float(bars.low[bar])
    one, other = low_first.value(close), high_first.value(close)
    if abs(one - other) <= SAME * abs(one):
        return True
    return not other > one if settings.intrabar == OPTIMISTIC else not other < one


def walk(account: MachineAccount, bar: int, low_first: bool) -> None:
    """Follow the price from the open to its extremes and the close; it is monotone on each leg."""
    bars = account.bars
    low, high, close = float(bars.low[bar]), float(bars.high[bar]), float(bars.close[bar])
    price = float(bars.open[bar])
    for end in (low, high, close) if low_first else (high, low, close):
        while True:
            trigger = next_trigger(account, price, end)
            if trigger is None:
                break
            reached = max(trigger.price, price) if trigger.is_rising else min(trigger.price, price)
            price = clip_to_bar(reached, low, high)
            fire(account, trigger, price, INSIDE)
        price = end


def next_trigger(account: MachineAccount, price: float, end: float) -> Trigger | None:
    """What triggers first on the way from ``price`` to ``end``: what is reached already, then by price, then by priority."""
    best, is_up = None, end > price
    for trigger in triggers(account):
        if is_reached(account, trigger, price):
            return trigger
        is_nearer = best is None or (trigger.price < best.price if is_up else trigger.price > best.price)
        if trigger.is_rising == is_up and is_nearer and is_reached(account, trigger, end):
            best = trigger
    return best


def fire(account: MachineAccount, trigger: Trigger, quote: float, moment: int) -> None:
    """A trigger is reached: a level closes the position, a stop-limit becomes a limit, any other order fills."""
    order = trigger.order
    if order is None:
        if trigger.reason == TARGET and account.target_share < 1.0:
            units = whole_lots(account.target_share * abs(account.units), account.settings.lot)
            account.target, account.target_share = NAN, 1.0
            if units > 0.0:
                account.reduce(units, quote, moment, TARGET, account.bar, True)
        else:
            account.close(quote, moment, trigger.reason, account.bar)
    elif order.stop == order.stop and not order.is_triggered and order.limit == order.limit:
        order.is_triggered = True
    else:
        fill_order(account, order, quote, moment)


def clip_to_bar(level: float, low: float, high: float) -> float:
    """A touched level inside its bar's range: rounding may put it just outside."""
    if level < low:
        return low
    return high if level > high else level

"""The account of one candidate of the bar machine: cash, position, levels, and how an order of a given size fills.

The twin of ``ext/_machine_account.pxd``.  Orders are in ``_machine_orders``, the order of events on a bar in ``_machine_bar``.
"""

from __future__ import annotations

import copy
from typing import Any

from backtest._pure._costs import order_cost
from backtest._pure._machine_layout import (
    ABOVE_ENTRY,
    BELOW_ENTRY,
    DISTANCE,
    DUST,
    INF,
    LIQUIDATION,
    NAN,
    NONE,
    SAME,
    STOP,
    TARGET,
    TICK_TOLERANCE,
    TRAIL,
    ceil,
    floor,
)
from backtest._pure._machine_orders import Order, end_orders_of_position
from backtest._pure._sums import CandidateSums


class MachineAccount:
    """The account of one candidate.

    Parameters
    ----------
    bars
        Record of open, high, low and close.
    settings
        Record, see :mod:`backtest._pure.machine`.
    program
        Record with ``n_slots``, ``no_entry_after_level`` and ``off_is_nan``.
    """

    def __init__(self, bars: Any, settings: Any, program: Any) -> None:
        self.bars, self.settings, self.program = bars, settings, program
        self.bar = int(settings.first)  # that is being processed
        self.slots = [Order() for _ in range(program.n_slots)]  # one for each call site
        self.once_epochs = [-1] * program.n_slots
        self.ledger: Any = None
        self.orders: Any = None
        self.n_fills = self.n_orders = 0
        self.cash = float(settings.start_cash)
        self.units = 0.0
        # The open position.
        self.entry_price = self.last_entry_price = self.entry_cost = self.borrow_cost = self.result = 0.0
        self.stop = self.target = self.trail = NAN  # levels, and the trail's fraction or distance; NaN: off
        self.trail_kind, self.target_share = 0, 1.0
        self.best_close = self.worst_close = 0.0
        self.entry_bar = self.bars_held = self.n_entries = self.n_exits = 0
        #: Counts up when a position opens and when it ends: what ``once`` belongs to.
        self.epoch = 0
        self.paid = 0.0  # at this bar's close, for holding the position
        self.opened_here = self.left_by_level = False  # on this bar: opened a position; closed one at a level
        self.is_ambiguous = 0  # of the fills that follow
        # The last full exit.
        self.last_exit_reason, self.last_exit_bar, self.last_exit_price, self.last_result = NONE, -INF, 0.0, 0.0
        self.is_bust = False
        self.fault: tuple[int, int, int, float] | None = None  # code, action, bar, value
        self.last_equity = self.peak = self.cash
        self.sums = CandidateSums(settings.last - settings.first)

    def trial(self) -> MachineAccount:
        """A copy on which a path is tried: it records nothing."""
        other = copy.copy(self)
        other.slots, other.sums = [copy.copy(order) for order in self.slots], copy.copy(self.sums)
        other.sums.moments = list(self.sums.moments)
        other.ledger = other.orders = None
        return other

    def is_like(self, other: MachineAccount, close: float) -> bool:
        """Whether a bar that ends in either account is not ambiguous: they differ by rounding at most."""
        if [(order.is_active, order.is_triggered) for order in self.slots] != [
            (order.is_active, order.is_triggered) for order in other.slots
        ]:
            return False
        gross = abs(self.cash) + abs(self.units) * (close * self.settings.multiplier)
        if not abs(self.cash - other.cash) <= SAME * gross:
            return False
        return all(
            one == another or abs(one - another) <= SAME * abs(one) or (one != one and another != another)
            for one, another in (
                (self.units, other.units),
                (self.entry_price, other.entry_price),
                (self.stop, other.stop),
                (self.target, other.target),
                (self.trail, other.trail),
            )
        )

    # --- fills ------------------------------------------------------------------------------------------------------------

    def execute(
        self, units: float, after: float, price: float, moment: int, reason: int, decision_bar: int, fee: float = 0.0
    ) -> float:
        """Buy or sell ``units`` at ``price``: update cash, position and sums, write the fill; return its cost.

        ``after`` is the position after it, ``fee`` what is paid besides.
        """
        before, worth = self.units, price * self.settings.multiplier
        value = units * worth
        cost = order_cost(self.settings, abs(units), worth) + fee
        cash_before = self.cash
        self.cash = cash_before - value - cost
        self.units = after
        self.sums.traded_value += abs(value)
        self.sums.costs += cost
        if self.ledger is not None and self.n_fills < len(self.ledger):
            fill = self.ledger[self.n_fills]
            fill["decision_bar"], fill["fill_bar"], fill["moment"], fill["asset"] = decision_bar, self.bar, moment, 0
            fill["units"], fill["price"], fill["value"], fill["cost"] = units, price, value, cost
            fill["cash_before"], fill["cash_after"] = cash_before, self.cash
            fill["position_before"], fill["position_after"] = before, after
            fill["reason"], fill["ambiguous"] = reason, self.is_ambiguous if reason != NONE else 0
            fill["stop"] = fill["target"] = fill["trail"] = NAN
            fill["equity"], fill["written_off"] = cash_before if before == 0.0 else NAN, 0.0
        self.n_fills += 1
        return cost

    def slipped(self, quote: float, side: int) -> float:
        """What a market order pays: a buy (``side`` 1) more than the quote, a sale less."""
        slippage = float(self.settings.slippage)
        return quote * (1.0 + slippage) if side > 0 else quote * (1.0 - slippage)

    def add(self, order: Order, units: float, price: float, moment: int) -> None:
        """Open a position with ``units`` > 0 at ``price``, slippage included, or add to it; set the order's levels."""
        signed = units if order.side > 0 else -units
        held, average = self.units, self.entry_price
        cost = self.execute(signed, held + signed, price, moment, NONE, order.decision_bar)
        if held == 0.0:
            self.entry_price, self.entry_cost, self.borrow_cost, self.result = price, cost, 0.0, 0.0
            self.entry_bar, self.bars_held, self.n_entries, self.n_exits = self.bar, 0, 1, 0
            self.stop = self.target = self.trail = NAN
            self.target_share, self.trail_kind = 1.0, 0
            self.best_close = self.worst_close = price
            self.opened_here = True
            self.epoch += 1
        else:
            self.entry_price = (held * average + signed * price) / (held + signed)
            self.entry_cost += cost
            self.n_entries += 1
        self.last_entry_price = price
        if order.stop_loss_kind:
            self.stop = self.level(order.stop_loss_kind, order.stop_loss, -order.side)
        if order.take_profit_kind:
            self.target, self.target_share = self.level(order.take_profit_kind, order.take_profit, -order.side), 1.0
        if order.trail_kind:
            self.trail, self.trail_kind = order.trail, order.trail_kind
        if self.ledger is not None and self.n_fills <= len(self.ledger):
            fill = self.ledger[self.n_fills - 1]
            fill["stop"], fill["target"] = level_or_nan(self.stop), level_or_nan(self.target)

    def level(self, kind: int, number: float, side: int) -> float:
        """Price of a level that closes the position by an order of ``side``."""
        if kind == BELOW_ENTRY:
            number = self.entry_price * (1.0 - number)
        elif kind == ABOVE_ENTRY:
            number = self.entry_price * (1.0 + number)
        return on_tick(number, side, self.settings.tick)

    def trail_level(self) -> float:
        """Current level of the trailing stop; NaN: off."""
        if self.trail_kind == DISTANCE:
            level = self.best_close - self.trail if self.units > 0.0 else self.best_close + self.trail
        else:
            level = self.best_close * (1.0 - self.trail) if self.units > 0.0 else self.best_close * (1.0 + self.trail)
        return on_tick(level, -1 if self.units > 0.0 else 1, self.settings.tick)

    def liquidation_level(self) -> float:
        """Price at which equity is ``maintenance_margin`` times the position's value; NaN: there is none."""
        maintenance = self.settings.maintenance_margin
        if not maintenance > 0.0:
            return NAN
        worth = abs(self.units) * self.settings.multiplier
        level = -self.cash / (worth * (1.0 - maintenance)) if self.units > 0.0 else self.cash / (worth * (1.0 + maintenance))
        return level if level > 0.0 else NAN

    def close(self, quote: float, moment: int, reason: int, decision_bar: int, at_limit: bool = False) -> None:
        """Close the whole position; a target and a limit order pay no slippage."""
        price, units, trail = quote, self.units, self.trail_level()
        if reason != TARGET and not at_limit:
            price = self.slipped(quote, -1 if units > 0.0 else 1)
        fee = abs(units) * (price * self.settings.multiplier) * self.settings.liquidation_fee if reason == LIQUIDATION else 0.0
        cost = self.execute(-units, 0.0, price, moment, reason, decision_bar, fee)
        if self.ledger is not None and self.n_fills <= len(self.ledger):
            self.ledger[self.n_fills - 1]["trail"] = level_or_nan(trail)
        multiplier = self.settings.multiplier
        net = units * (price - self.entry_price) * multiplier - self.entry_cost - cost - self.borrow_cost
        self.sums.add_trade(net, net / (abs(units) * self.entry_price * multiplier))
        self.sums.bars_held += self.bar - self.entry_bar
        self.sums.n_ambiguous += self.is_ambiguous
        self.last_exit_reason, self.last_exit_bar, self.last_exit_price = reason, float(self.bar), price
        self.last_result = self.result + net
        self.entry_price = self.last_entry_price = self.entry_cost = self.borrow_cost = self.result = 0.0
        self.bars_held = self.n_entries = self.n_exits = 0
        self.best_close = self.worst_close = 0.0
        self.stop = self.target = self.trail = NAN
        self.trail_kind = 0
        self.opened_here = False
        self.left_by_level = self.left_by_level or reason in (STOP, TARGET, TRAIL, LIQUIDATION)
        self.epoch += 1
        end_orders_of_position(self)

    def reduce(self, units: float, quote: float, moment: int, reason: int, decision_bar: int, at_limit: bool) -> float:
        """Close ``units`` > 0 of the position, all of it if nothing but rounding would be left; return the units closed."""
        held = self.units
        size = abs(held)
        rest = size - units
        if rest <= DUST * size:
            self.close(quote, moment, reason, decision_bar, at_limit)
            return size
        price = quote if reason == TARGET or at_limit else self.slipped(quote, -1 if held > 0.0 else 1)
        closed, after = (units, rest) if held > 0.0 else (-units, -rest)
        trail, multiplier = self.trail_level(), self.settings.multiplier
        cost = self.execute(-closed, after, price, moment, reason, decision_bar)
        if self.ledger is not None and self.n_fills <= len(self.ledger):
            self.ledger[self.n_fills - 1]["trail"] = level_or_nan(trail)
        share = units / size
        gross = closed * (price - self.entry_price) * multiplier
        net = gross - share * self.entry_cost - cost - share * self.borrow_cost
        self.sums.add_trade(net, net / (units * self.entry_price * multiplier))
        self.sums.n_ambiguous += self.is_ambiguous
        self.result += net
        self.n_exits += 1
        kept = 1.0 - share
        self.entry_cost *= kept
        self.borrow_cost *= kept
        return units

    # --- the close --------------------------------------------------------------------------------------------------------

    def carry(self, close: float) -> None:
        """A close into which the position is held: its age, borrowing and funding, best and worst close."""
        settings = self.settings
        self.bars_held += 1
        worth = close * settings.multiplier
        if self.units < 0.0:
            self.pay(-self.units * worth * settings.borrow_per_bar)
        if settings.leverage > 1.0 and self.cash < 0.0:
            self.pay(-self.cash * settings.borrow_per_bar)
        if len(settings.funding):
            self.pay(self.units * worth * float(settings.funding[self.bar]))
        is_long = self.units > 0.0
        if close > self.best_close if is_long else close < self.best_close:
            self.best_close = close
        if close < self.worst_close if is_long else close > self.worst_close:
            self.worst_close = close

    def pay(self, amount: float) -> None:
        """A cost of holding the position; received if it is negative."""
        self.cash -= amount
        self.paid += amount
        self.borrow_cost += amount
        self.sums.costs += amount

    def value(self, close: float) -> float:
        """Equity at a price."""
        return self.cash + self.units * (close * float(self.settings.multiplier))

    def mark(self, equity: float) -> None:
        """Add the return from the last close's equity to this one."""
        result = (equity - self.last_equity) / self.last_equity if self.last_equity != 0.0 else 0.0
        self.last_equity = equity
        self.sums.add_return(result, self.settings.rf_per_bar)
        if equity > self.peak:
            self.peak = equity
        self.sums.update_drawdown(equity / self.peak)

    def fields(self, close: float) -> list[float]:
        """What the function reads of the account at this close, in the order of FIELDS."""
        side = (self.units > 0.0) - (self.units < 0.0)
        stop, target = self.stop, self.target
        equity = self.value(close)
        open_profit = self.units * (close - self.entry_price) * self.settings.multiplier - self.entry_cost - self.borrow_cost
        return [
            self.units,
            float(side),
            self.entry_price,
            self.last_entry_price,
            float(self.n_entries),
            float(self.bars_held),
            stop if stop == stop else INF if side < 0 else -INF,
            target if target == target else -INF if side < 0 else INF,
            open_profit if side else 0.0,
            equity,
            self.cash,
            equity if equity > self.peak else self.peak,
            self.best_close,
            self.worst_close,
            float(self.last_exit_reason),
            self.last_exit_bar,
            self.last_exit_price,
            self.last_result,
            float(self.n_exits),
            self.sums.n_trades,
            float(self.bar),
        ]

    def flags(self) -> list[bool]:
        """What the function reads of the account as booleans, in the order of FLAGS."""
        return [self.units == 0.0, self.units > 0.0, self.units < 0.0]


def level_or_nan(level: float) -> float:
    """A level for a record; one that is off is the canonical NaN, whatever its sign bit."""
    return level if level == level else NAN


def on_tick(price: float, side: int, tick: float) -> float:
    """A price on the tick: buys down, sales up, so that limits move away from the market and stops toward it."""
    if not tick > 0.0 or price != price:
        return price
    steps = price / tick
    nearest = floor(steps + 0.5)
    if abs(steps - nearest) > TICK_TOLERANCE * steps:
        nearest = floor(steps) if side > 0 else ceil(steps)
    return nearest * tick


def write(account: MachineAccount, sums: Any, fault: Any) -> None:
    """Write a candidate's sums, and its fault if there is one."""
    if account.units != 0.0:
        account.sums.bars_held += account.settings.last - account.entry_bar
    account.sums.n_fills, account.sums.end_equity = float(account.n_fills), account.last_equity
    account.sums.write(sums)
    if account.fault is not None:
        fault["code"], fault["action"], fault["bar"], fault["value"] = account.fault

"""How the orders of a portfolio run are sized: by targets and by available cash; the twin of ``ext/_orders.pxd``."""

from __future__ import annotations

from typing import Any

from backtest._pure._costs import order_cost
from backtest._pure.trades import DUST, LANES, _in_order

OPEN, CLOSE = 0, 2

NAN = float("nan")
INF = float("inf")

#: Smaller orders, as a share of what targets are fractions of, are dropped.
LEAST_ORDER = 1e-12
#: Bisection steps for the factor of orders that cash pays for: down to neighbouring floats.
HALVINGS = 60


def is_price(quote: float) -> bool:
    """Whether a quote is a price: finite and > 0."""
    return 0.0 < quote < INF


class Market:
    """Prices as lists: plain floats, and several times faster to index one by one than arrays."""

    def __init__(self, prices: Any) -> None:
        self.quotes, self.marks = prices.quotes.tolist(), prices.marks.tolist()
        self.ends = list(zip(prices.end_bars.tolist(), prices.end_assets.tolist(), strict=True))
        self.times = prices.times.tolist()
        self.extremes = [(high, low) for high, low in zip(prices.high.tolist(), prices.low.tolist(), strict=True)]


class Orders:
    """Sizing of orders, from what an account holds and what waits."""

    market: Market
    settings: Any
    n_assets: int
    assets: range
    cash: float
    units: list[float]
    waiting: list[float]  # targets; NaN: does not wait
    last_targets: list[float]  # targets of the last event

    def value_at(self, prices: list[float]) -> tuple[float, float]:
        """Value of the positions, and the sum of their absolute values."""
        positions, gross = [0.0] * LANES, [0.0] * LANES
        for asset in self.assets:
            value = self.units[asset] * prices[asset]
            positions[asset % LANES] += value
            gross[asset % LANES] += abs(value)
        return _in_order(positions), _in_order(gross)

    def fill_prices(self, bar: int, moment: int) -> list[float]:
        """What assets are valued at when orders fill: quotes, and the last valid price of assets without one."""
        before = self.market.marks[bar] if moment == CLOSE else self.market.marks[bar - 1]
        return [quote if is_price(quote) else mark for quote, mark in zip(self.market.quotes[bar], before, strict=True)]

    def order_of(self, asset: int, target: float, base: float, quote: float) -> float:
        """Units to trade for a target; 0 if the order is too small to count."""
        before = self.units[asset]
        return self.rounded_order(before, target * base / quote - before, base, quote)

    def rounded_order(self, before: float, order: float, base: float, quote: float) -> float:
        """An order, rounded to what closes the position where it leaves a rounding error; 0 if it is too small to count."""
        after = before + order
        if abs(after) <= DUST * (abs(order) if abs(order) > abs(before) else abs(before)):
            order = -before  # do not leave a rounding error open
        return order if abs(order) * quote > LEAST_ORDER * base else 0.0

    def fill_price(self, order: float, quote: float) -> float:
        """Price of an order: the quote and slippage."""
        slippage: float = self.settings.slippage
        return quote * (1.0 + slippage) if order > 0.0 else quote * (1.0 - slippage)

    def target_scale(self, bar: int, base: float) -> float:
        """Share of the targets that leaves room for their costs: cash does not fall below 0, or below what targets imply."""
        cash = self.cash
        for asset in self.assets:
            quote = self.market.quotes[bar][asset]
            if self.waiting[asset] == self.waiting[asset] and is_price(quote):
                cash -= self.order_of(asset, self.waiting[asset], base, quote) * quote
        least = cash if cash < 0.0 else 0.0
        if self.cash_after(bar, base, 1.0) >= least or self.cash_after(bar, base, 0.0) < least:
            return 1.0
        low, high = 0.0, 1.0
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            if self.cash_after(bar, base, middle) >= least:
                low = middle
            else:
                high = middle
        return low

    def cash_after(self, bar: int, base: float, scale: float) -> float:
        """Cash after the orders of scaled targets and their costs."""
        cash = self.cash
        for asset in self.assets:
            quote = self.market.quotes[bar][asset]
            if self.waiting[asset] == self.waiting[asset] and is_price(quote):
                order = self.order_of(asset, self.waiting[asset] * scale, base, quote)
                if order != 0.0:
                    price = self.fill_price(order, quote)
                    cash = cash - (order * price + order_cost(self.settings, abs(order), price))
        return cash

    def has_untradable(self, bar: int) -> bool:
        """Whether a held asset waits and has no price: its value counts in sizing orders, but cannot pay for any."""
        quotes = self.market.quotes[bar]
        return any(
            self.waiting[asset] == self.waiting[asset] and self.units[asset] != 0.0 and not is_price(quotes[asset])
            for asset in self.assets
        )

    def limit_to_cash(self, orders: list[float], bar: int, base: float) -> None:
        """Scale purchases and short sales down to what cash pays for: cash does not fall below 0, or below what targets imply.

        Assets whose orders were cut go on waiting.
        """
        total = 0.0
        for target in self.last_targets:
            total += target
        least = base * (1.0 - total)
        least = least if least < 0.0 else 0.0
        if self.cash_after_parts(orders, bar, base, 1.0) >= least:
            return
        low, high = 0.0, 1.0
        if self.cash_after_parts(orders, bar, base, 0.0) >= least:
            for _ in range(HALVINGS):
                middle = 0.5 * (low + high)
                if self.cash_after_parts(orders, bar, base, middle) >= least:
                    low = middle
                else:
                    high = middle
        for asset in self.assets:
            order, before = orders[asset], self.units[asset]
            if order > 0.0 or (order < 0.0 and before + order < 0.0):
                orders[asset] = self.part_of_order(asset, order, low, base, self.market.quotes[bar][asset])
                self.waiting[asset] = self.last_targets[asset]

    def part_of_order(self, asset: int, order: float, factor: float, base: float, quote: float) -> float:
        """An order whose purchase or short sale is multiplied; a sale of units held is not."""
        before = self.units[asset]
        after = before + order
        if order < 0.0 < before:
            return self.rounded_order(before, order - (1.0 - factor) * after, base, quote) if after < 0.0 else order
        return self.rounded_order(before, factor * order, base, quote)

    def cash_after_parts(self, orders: list[float], bar: int, base: float, factor: float) -> float:
        """Cash after these parts of the orders and their costs."""
        cash = self.cash
        for asset in self.assets:
            if orders[asset] != 0.0:
                quote = self.market.quotes[bar][asset]
                order = self.part_of_order(asset, orders[asset], factor, base, quote)
                if order != 0.0:
                    price = self.fill_price(order, quote)
                    cash = cash - (order * price + order_cost(self.settings, abs(order), price))
        return cash

"""Portfolio: replay books of target weights, one at a time, assets in column order.

The order of events on a bar:

1. positions in assets whose prices have ended, if they are written off, are closed at 0;
2. at the open, assets that wait since an earlier close are traded (``fill="next_open"``): those with a quote;
3. at the close, borrowed units are paid for and the book is valued;
4. an event at this close makes every asset wait for its new target; with ``fill="close"`` those with a price trade right
   here, none waits any longer, and the book is valued again;
5. a value <= 0 is a bust: all positions are closed, and trading ends.

Arguments are records with attributes: ``prices`` (see ``portfolio.Prices``), ``targets`` (``portfolio.Targets``) and
``settings`` (``portfolio.Settings``).
"""

from __future__ import annotations

import math
from typing import Any

from backtest._pure._costs import order_cost
from backtest._pure._orders import CLOSE, NAN, OPEN, Market, Orders, is_price
from backtest._pure._sums import CandidateSums
from backtest._pure.trades import LANES, NO_PRICES, _apply, _in_order, _Totals, _update_excursions

NONE, SIGNAL, REVERSE, BUST, DELISTED = 0, 1, 2, 8, 9


def evaluate(prices: Any, targets: Any, settings: Any, start: int, stop: int, sums: Any) -> None:
    """Replay books ``start <= row < stop`` and fill their rows of ``sums``.

    Parameters
    ----------
    prices, targets, settings
        Records, see the module.
    start, stop : int
        Rows of the batch.
    sums : ndarray of SUMS, shape (n_books,)
        Output.
    """
    market = Market(prices)
    for row in range(start, stop):
        book = PortfolioAccount(market, targets, settings, row)
        _replay(book, None)
        book.write(sums[row])


def replay(
    prices: Any,
    targets: Any,
    settings: Any,
    row: int,
    sums: Any,
    trade_sums: Any,
    account: Any,
    waiting: Any,
    units: Any,
    ledger: Any,
) -> tuple[int, int]:
    """Replay one book and record what it did.

    Parameters
    ----------
    prices, targets, settings
        Records, see the module.
    row : int
        Row of the batch.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    trade_sums : ndarray of TRADE_SUMS, shape (3,)
        Output: sums of completed trades, rows all, long, short, excursions included.
    account : ndarray of float64, shape (3, last - first)
        Output: value, cash and gross value of positions, at each close.
    waiting : ndarray of float64, shape (n_assets,)
        Output: targets that still waited for a price when the bars ended; NaN of assets that did not.
    units : ndarray of float64, shape (n_assets,)
        Output: units held when the bars ended.
    ledger : ndarray of FILL
        Output; room for every fill (``sums["n_fills"]``), or empty.

    Returns
    -------
    n_fills, decision_bar : int
        Orders executed, positions written off included; the bar whose close decided what is still waiting, -1 if none did.
    """
    book = PortfolioAccount(Market(prices), targets, settings, row)
    book.tracks_positions = True
    book.ledger = ledger if len(ledger) else None
    _replay(book, account)
    book.write(sums[0])
    book.totals.write(trade_sums)
    waiting[:], units[:] = book.waiting, book.units
    return book.n_fills, book.decision_bar


def are_prices(values: Any, least: float, most: float) -> bool:
    """Whether every value is a price: ``least`` to ``most``.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
    least, most : float
    """
    return all(least <= value <= most for row in values.tolist() for value in row)


def find_events(weights: Any, bars: Any, max_gross: float) -> tuple[int, int, int]:
    """Rows that are events: all weights finite.  All weights of any other row have to be NaN.

    Parameters
    ----------
    weights : ndarray of float64, shape (n_bars, n_assets)
    bars : ndarray of int64, shape (n_bars,)
        Output: the rows, ascending.
    max_gross : float
        Limit of the sum of absolute weights of an event.

    Returns
    -------
    n_events, row, heavy : int
        Number of events; the first row that is neither, or -1; the first event above ``max_gross``, or -1.
    """
    n_events, heavy = 0, -1
    for row, values in enumerate(weights.tolist()):
        if all(math.isfinite(value) for value in values):
            bars[n_events] = row
            n_events += 1
            gross = [0.0] * LANES
            for asset, value in enumerate(values):
                gross[asset % LANES] += abs(value)
            if heavy < 0 and _in_order(gross) > max_gross:
                heavy = row
        elif not all(value != value for value in values):
            return n_events, row, heavy
    return n_events, -1, heavy


class PortfolioAccount(Orders):
    """The account of one book."""

    def __init__(self, market: Market, targets: Any, settings: Any, row: int) -> None:
        self.market, self.settings = market, settings
        first, last = int(targets.first_event[row]), int(targets.first_event[row + 1])
        self.targets, self.event_bars = targets.weights[first:last], targets.bars[first:last].tolist()
        self.n_assets = targets.weights.shape[1]
        self.assets = range(self.n_assets)
        self.tracks_positions = False  # whether excursions between fills are tracked
        self.ledger: Any = None
        self.cash = float(settings.start_cash)
        self.units = [0.0] * self.n_assets
        self.waiting = [NAN] * self.n_assets
        self.last_targets = self.waiting  # targets of the last event
        self.decision_bar = -1
        self.positions: list[dict[str, Any]] = [
            {"side": 0, "units": 0.0, "price": 0.0, "borrow_cost": 0.0, "mfe": 0.0, "mae": 0.0} for _ in self.assets
        ]
        self.totals = _Totals(market.times)
        self.last_side = 0  # of the last completed trade
        self.n_fills = 0
        self.last_value = self.peak = float(settings.start_cash)
        self.sums = CandidateSums(settings.last - settings.first)
        self.borrowing = 0.0
        self.traded, self.paid = [0.0] * LANES, [0.0] * LANES

    def rebalance(self, bar: int, moment: int) -> None:
        """Trade what waits and has a price."""
        prices, quotes = self.fill_prices(bar, moment), self.market.quotes[bar]
        value = self.cash + self.value_at(prices)[0]
        if not value > 0.0:
            return  # no value to size orders by; the close decides whether this is a bust
        base = value if self.settings.reinvest else float(self.settings.start_cash)
        has_untradable = self.has_untradable(bar)
        scale = self.target_scale(bar, base) if self.settings.reserve_costs and not has_untradable else 1.0
        orders = [0.0] * self.n_assets
        for asset in self.assets:
            target = self.waiting[asset]
            if target != target:
                continue
            if not is_price(quotes[asset]):
                if target == 0.0 and self.units[asset] == 0.0:
                    self.waiting[asset] = NAN  # nothing to trade
                continue
            self.waiting[asset] = NAN
            orders[asset] = self.order_of(asset, target * scale, base, quotes[asset])
        if has_untradable:
            self.limit_to_cash(orders, bar, base)
        for asset in self.assets:
            if orders[asset] != 0.0:
                self.trade(asset, orders[asset], self.fill_price(orders[asset], quotes[asset]), bar, moment, NONE, value)
        if all(target != target for target in self.waiting):
            self.decision_bar = -1

    def write_off(self, asset: int, bar: int) -> None:
        """A position in an asset whose prices have ended is worth nothing; nothing is paid for that."""
        if self.units[asset] != 0.0:
            waits_since, self.decision_bar = self.decision_bar, bar
            self.trade(asset, -self.units[asset], 0.0, bar, OPEN, DELISTED, self.last_value)
            self.decision_bar = waits_since

    def trade(self, asset: int, units: float, price: float, bar: int, moment: int, reason: int, value: float) -> None:
        """One order: cash, position, trade, sums, ledger."""
        position = self.positions[asset]
        before = self.units[asset]
        cost = order_cost(self.settings, abs(units), price) if reason != DELISTED else 0.0
        cash_before = self.cash
        self.cash = cash_before - (units * price + cost)
        self.units[asset] = before + units
        self.traded[asset % LANES] += abs(units * price)
        self.paid[asset % LANES] += cost
        closes = before != 0.0 and (before > 0.0) != (units > 0.0)
        if closes and reason == NONE:
            reason = REVERSE if self.units[asset] != 0.0 and (self.units[asset] > 0.0) != (before > 0.0) else SIGNAL
        is_last = reason == BUST and all(held == 0.0 for held in self.units)
        fill = {
            "decision_bar": self.decision_bar,
            "fill_bar": bar,
            "moment": moment,
            "asset": asset,
            "units": units,
            "price": price,
            "value": units * price,
            "cost": cost,
            "cash_before": cash_before,
            "cash_after": self.cash,
            "position_before": before,
            "position_after": self.units[asset],
            "reason": reason,
            "ambiguous": 0,
            "stop": NAN,
            "target": NAN,
            "trail": NAN,
            "equity": value,
            "written_off": 0.0 - self.cash if is_last else 0.0,
        }
        if self.ledger is not None:
            for name, each in fill.items():
                self.ledger[self.n_fills][name] = each
        self.n_fills += 1
        if self.tracks_positions and moment == OPEN and position["side"] != 0:
            _update_excursions(position, self.market.quotes[bar][asset])  # the open came before the order
        trade: list[dict[str, Any]] = [{}]
        if _apply(position, fill, NO_PRICES, trade, 0):
            self.complete(trade[0])

    def complete(self, trade: dict[str, Any]) -> None:
        """Add a completed trade up."""
        self.sums.add_extremes(trade["return_"] + 0.0)
        self.last_side = trade["side"]
        self.totals.add(trade)

    def track(self, bar: int) -> None:
        """What open positions see of a bar: its extremes, if they are known, and its close."""
        marks = self.market.marks[bar]
        for asset in self.assets:
            position = self.positions[asset]
            if position["side"] != 0:
                if self.market.extremes:
                    for each in self.market.extremes[bar]:
                        _update_excursions(position, each[asset])
                _update_excursions(position, marks[asset])

    def borrow(self, bar: int) -> None:
        """Shorts pay for a close they are held into."""
        paid = 0.0
        for asset in self.assets:
            if self.units[asset] < 0.0:
                cost = -self.units[asset] * self.market.marks[bar][asset] * self.settings.borrow_per_bar
                self.positions[asset]["borrow_cost"] += cost
                paid += cost
        self.cash -= paid
        self.borrowing += paid

    def bust(self, bar: int) -> None:
        """Close everything; what is owed beyond that is written off to the last trade."""
        self.decision_bar = bar
        self.waiting = [NAN] * self.n_assets
        marks = self.market.marks[bar]
        if any(self.units):
            for asset in self.assets:
                if self.units[asset] != 0.0:
                    order = -self.units[asset]
                    self.trade(asset, order, self.fill_price(order, marks[asset]), bar, CLOSE, BUST, 0.0)
        else:  # costs alone were too much, after the last position had been closed
            self.totals.write_off(self.last_side, 0.0 - self.cash)
            if self.ledger is not None:
                self.ledger[self.n_fills - 1]["written_off"] = 0.0 - self.cash
        self.decision_bar = -1
        self.sums.written_off = 0.0 - self.cash
        self.cash = 0.0

    def mark(self, value: float) -> None:
        """One return, from the last close's value to this one's."""
        result = (value - self.last_value) / self.last_value if self.last_value != 0.0 else 0.0
        self.last_value = value
        self.sums.add_return(result, self.settings.rf_per_bar)
        if value > self.peak:
            self.peak = value
        self.sums.update_drawdown(value / self.peak)

    def write(self, row: Any) -> None:
        """The sums of this book."""
        sums = self.sums
        sums.end_equity, sums.n_fills = self.last_value, float(self.n_fills)
        sums.traded_value, sums.costs = _in_order(self.traded), _in_order(self.paid) + self.borrowing
        for name in ("n_trades", "n_winners", "largest_profit", "won", "lost", "net_profit"):
            setattr(sums, name, self.totals.get(name))
        sums.sum_trade_return, sums.sum_trade_return_2 = self.totals.get("sum_return"), self.totals.get("sum_return_2")
        sums.write(row)


def _replay(book: PortfolioAccount, account: Any) -> None:
    settings = book.settings
    first, last = settings.first, settings.last
    events = [(bar, row) for row, bar in enumerate(book.event_bars) if first <= bar < last]
    ends = [(bar, asset) for bar, asset in book.market.ends if first <= bar < last]
    is_bust, event, ending = False, 0, 0
    for bar in range(first, last):
        if is_bust:
            book.mark(0.0)
            if account is not None:
                account[:, bar - first] = 0.0
            continue
        while ending < len(ends) and ends[ending][0] == bar:
            book.write_off(ends[ending][1], bar)
            ending += 1
        if book.decision_bar >= 0:
            book.rebalance(bar, OPEN)
        if settings.borrow_per_bar != 0.0:
            book.borrow(bar)
        if book.tracks_positions:
            book.track(bar)
        positions, gross = book.value_at(book.market.marks[bar])
        value = book.cash + positions
        if event < len(events) and events[event][0] == bar:
            if value > 0.0:
                book.last_targets, book.decision_bar = book.targets[events[event][1]].tolist(), bar
                book.waiting = book.last_targets.copy()
                if settings.fills_at_close:
                    book.rebalance(bar, CLOSE)
                    book.waiting, book.decision_bar = [NAN] * book.n_assets, -1
                    positions, gross = book.value_at(book.market.marks[bar])
                    value = book.cash + positions
            event += 1
        if value <= 0.0:
            is_bust = True
            book.bust(bar)
            value = gross = 0.0
        book.mark(value)
        if any(book.units):
            book.sums.bars_held += 1.0
        if account is not None:
            account[0, bar - first], account[1, bar - first], account[2, bar - first] = value, book.cash, gross

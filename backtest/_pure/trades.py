"""Trades: fills replayed into completed trades and open positions, and their sums.

Per asset: 0 to x opens; same sign and larger averages the entry price; same sign and smaller completes a trade for the
closed part; through zero completes one and opens another.  Bars between fills update a position's best and
worst unrealised profit and its cost of borrowing.

Prices are (n_assets, n_bars), so that one asset's bars lie side by side.  ``open``, ``high`` and ``low`` may be empty,
shape (0, 0): then only closes count.
"""

from __future__ import annotations

from typing import Any, NamedTuple

START, OPEN, INSIDE, CLOSE = -1, 0, 1, 2

#: A remainder below this share of what was traded is rounding.
DUST = 1e-12
NS_PER_DAY = 86_400_000_000_000.0
INF = float("inf")
#: Fractions are summed by column modulo LANES, several at a time in the compiled twin; the lanes are added up in order.
LANES = 8
IN_LANES = ("costs", "net_profit", "won", "lost", "sum_return", "sum_return_2", "sum_mfe", "sum_mae", "sum_days_held")
COUNTS = ("n_trades", "n_winners", "n_losers", "sum_bars_held", "n_ambiguous", "written_off")
LARGEST, SMALLEST = ("largest_profit", "max_bars_held", "max_days_held"), ("largest_loss", "min_bars_held", "min_days_held")
#: Sizes that both twins must agree on; ``n_ambiguous`` and ``written_off`` are not in lanes there.
LAYOUT = {"LANES": LANES, "N_KEPT": len({*IN_LANES, *COUNTS, *LARGEST, *SMALLEST} - {"n_ambiguous", "written_off"})}


class Prices(NamedTuple):
    """What positions are valued with."""

    open: Any
    high: Any
    low: Any
    close: Any
    carry: Any
    borrow_per_bar: float
    multiplier: float


#: Where fills need no prices.
NO_PRICES = Prices((), (), (), (), (), 0.0, 1.0)


def track(
    ledger: Any,
    open: Any,
    high: Any,
    low: Any,
    close: Any,
    borrow_per_bar: float,
    carry: Any,
    multiplier: float,
    last: int,
    positions: Any,
    trades: Any,
) -> int:
    """Replay a ledger.

    Parameters
    ----------
    ledger : ndarray of FILL, shape (n_fills,)
        In order of execution.
    open, high, low, close : ndarray of float64, shape (n_assets, n_bars)
        ``open``, ``high`` and ``low`` may be (0, 0).
    borrow_per_bar : float
        Cost of a short per bar, as a share of its value at the close.
    carry : ndarray of float64, shape (n_bars,)
        What holding the one asset cost at each close, instead of ``borrow_per_bar``; empty where that holds.
    multiplier : float
        Value of one unit per unit of price.
    last : int
        Bars from here on do not count; open positions are followed up to the close before.
    positions : ndarray of POSITION, shape (n_assets,)
        Zeros; on return the open positions.
    trades : ndarray of TRADE, shape (n_fills,)
        Output, in order of exit.

    Returns
    -------
    int
        Number of trades written.
    """
    prices = Prices(open, high, low, close, carry, borrow_per_bar, multiplier)
    n_trades = 0
    for row in range(len(ledger)):
        fill = ledger[row]
        asset = int(fill["asset"])
        position = positions[asset]
        if position["side"] != 0:
            _advance(position, prices, asset, int(fill["fill_bar"]), int(fill["moment"]))
        n_trades = _apply(position, fill, prices, trades, n_trades)
    for asset in range(len(positions)):
        if positions[asset]["side"] != 0:
            _advance(positions[asset], prices, asset, last - 1, CLOSE)
    return n_trades


def summarise(trades: Any, times: Any, sums: Any) -> None:
    """Sums of trades: all, long, short.

    Parameters
    ----------
    trades : ndarray of TRADE
        In order of exit.
    times : ndarray of int64, shape (n_bars,)
        Time of each bar in nanoseconds; may be empty.
    sums : ndarray of TRADE_SUMS, shape (3,)
        Output: rows all, long, short.
    """
    totals = _Totals(times.tolist())
    for trade in trades:
        totals.add(trade)
    totals.write(sums)


def _in_order(lanes: list[float]) -> float:
    """Lanes added up, one after the other: ``sum`` of newer Pythons compensates rounding."""
    total = 0.0
    for lane in lanes:
        total += lane
    return total


class _Streaks:
    """Winners and losers in a row."""

    def __init__(self) -> None:
        self.winning = self.losing = self.longest_winning = self.longest_losing = 0.0

    def add(self, net: float) -> None:
        self.winning = self.winning + 1.0 if net > 0.0 else 0.0
        self.losing = self.losing + 1.0 if net < 0.0 else 0.0
        if self.winning > self.longest_winning:
            self.longest_winning = self.winning
        if self.losing > self.longest_losing:
            self.longest_losing = self.losing


class _Side:
    """Sums of the trades of one side; fractions in lanes."""

    def __init__(self, times: list[int]) -> None:
        self.times = times
        self.n_trades = self.n_winners = self.n_losers = self.sum_bars_held = self.n_ambiguous = self.written_off = 0.0
        self.largest_profit = self.max_bars_held = self.max_days_held = -INF
        self.largest_loss = self.min_bars_held = self.min_days_held = INF
        self.lanes = {name: [0.0] * LANES for name in IN_LANES}

    def add(self, trade: Any) -> None:
        lane = int(trade["asset"]) % LANES
        net, result = trade["net_profit"] + 0.0, trade["return_"] + 0.0  # -0.0 is 0.0
        held = float(trade["exit_bar"] - trade["entry_bar"])
        days = (self.times[trade["exit_bar"]] - self.times[trade["entry_bar"]]) / NS_PER_DAY if self.times else 0.0
        self.n_trades += 1.0
        if net > 0.0:
            self.n_winners += 1.0
            self.lanes["won"][lane] += net
        elif net < 0.0:
            self.n_losers += 1.0
            self.lanes["lost"][lane] -= net
        for name, value in (
            ("costs", trade["entry_cost"] + trade["exit_cost"] + trade["borrow_cost"]),
            ("net_profit", net),
            ("sum_return", result),
            ("sum_return_2", result * result),
            ("sum_mfe", trade["mfe"]),
            ("sum_mae", trade["mae"]),
            ("sum_days_held", days),
        ):
            self.lanes[name][lane] += value
        self.largest_profit, self.largest_loss = max(self.largest_profit, net), min(self.largest_loss, net)
        self.max_bars_held, self.min_bars_held = max(self.max_bars_held, held), min(self.min_bars_held, held)
        self.max_days_held, self.min_days_held = max(self.max_days_held, days), min(self.min_days_held, days)
        self.sum_bars_held += held
        self.n_ambiguous += trade["ambiguous"]
        self.written_off += trade["written_off"]

    def get(self, name: str) -> float:
        """A number of ``TRADE_SUMS`` but streaks."""
        return _in_order(self.lanes[name]) if name in IN_LANES else getattr(self, name)


class _Totals:
    """Sums of long and of short trades; those of all trades are computed from both."""

    def __init__(self, times: list[int]) -> None:
        self.long, self.short = _Side(times), _Side(times)
        self.streaks = {0: _Streaks(), 1: _Streaks(), -1: _Streaks()}

    def add(self, trade: Any) -> None:
        side = 1 if trade["side"] > 0 else -1
        (self.long if side > 0 else self.short).add(trade)
        for each in (0, side):
            self.streaks[each].add(trade["net_profit"] + 0.0)

    def write_off(self, side: int, amount: float) -> None:
        (self.long if side > 0 else self.short).written_off += amount

    def get(self, name: str, side: int = 0) -> float:
        """A number of ``TRADE_SUMS`` but streaks, of a side or of all trades."""
        if side:
            return (self.long if side > 0 else self.short).get(name)
        long, short = self.long.get(name), self.short.get(name)
        return max(long, short) if name in LARGEST else min(long, short) if name in SMALLEST else long + short

    def write(self, sums: Any) -> None:
        for row, side in zip(sums, (0, 1, -1), strict=True):
            for name in (*COUNTS, *IN_LANES):
                row[name] = self.get(name, side)
            for name in (*LARGEST, *SMALLEST):
                row[name] = self.get(name, side) if row["n_trades"] > 0.0 else 0.0
            streaks = self.streaks[side]
            row["longest_winning_streak"], row["longest_losing_streak"] = streaks.longest_winning, streaks.longest_losing


def _update_excursions(position: Any, price: float, multiplier: float = 1.0) -> None:
    """Update the position's best and worst unrealised profit with a price; NaN changes nothing."""
    profit = position["units"] * (price - position["price"]) * multiplier
    if profit > position["mfe"]:
        position["mfe"] = profit
    if profit < position["mae"]:
        position["mae"] = profit


def _finish_bar(position: Any, prices: Prices, asset: int) -> None:
    """Account for the rest of the position's bar: extremes, close, borrowing."""
    bar, moment = int(position["bar"]), position["moment"]
    if moment <= OPEN and len(prices.high):
        _update_excursions(position, float(prices.high[asset, bar]), prices.multiplier)
        _update_excursions(position, float(prices.low[asset, bar]), prices.multiplier)
    if moment < CLOSE:
        price = float(prices.close[asset, bar])
        _update_excursions(position, price, prices.multiplier)
        if len(prices.carry):
            position["borrow_cost"] += float(prices.carry[bar])
        elif position["units"] < 0.0 and prices.borrow_per_bar != 0.0:
            position["borrow_cost"] += -position["units"] * price * prices.borrow_per_bar


def _advance(position: Any, prices: Prices, asset: int, bar: int, moment: int) -> None:
    """Account for prices and borrowing up to a moment of a bar."""
    while position["bar"] < bar:
        _finish_bar(position, prices, asset)
        position["bar"] += 1
        position["moment"] = START
    if moment == CLOSE:
        _finish_bar(position, prices, asset)
    elif position["moment"] == START and len(prices.open):
        _update_excursions(position, float(prices.open[asset, bar]), prices.multiplier)
    if moment > position["moment"]:
        position["moment"] = moment


def _apply(position: Any, fill: Any, prices: Prices, trades: Any, n_trades: int) -> int:
    """Apply a fill to a position advanced up to it; return the number of trades so far."""
    units, price, cost = float(fill["units"]), float(fill["price"]), float(fill["cost"])
    held = float(position["units"]) if position["side"] != 0 else 0.0
    if held == 0.0:
        _open(position, fill, units, cost)
        return n_trades
    if (held > 0.0) == (units > 0.0):  # an addition averages the price
        position["price"] = (held * position["price"] + units * price) / (held + units)
        position["units"] = held + units
        position["entry_cost"] += cost
        return n_trades
    rest = held + units
    scale = abs(units) if abs(units) > abs(held) else abs(held)
    if abs(rest) <= DUST * scale:
        rest = 0.0
    crosses = rest != 0.0 and (rest > 0.0) != (held > 0.0)
    closed = held if rest == 0.0 or crosses else -units
    exit_cost = cost * (held / -units) if crosses else cost
    _complete(position, fill, closed, held, exit_cost, prices, trades[n_trades])
    if crosses:
        _open(position, fill, rest, cost - exit_cost)
    elif rest == 0.0:
        position["side"] = 0
    else:
        share = 1.0 - closed / held  # what stays open
        position["units"] = rest
        for name in ("entry_cost", "borrow_cost", "mfe", "mae"):
            position[name] *= share
    return n_trades + 1


def _open(position: Any, fill: Any, units: float, cost: float) -> None:
    position["side"] = 1 if units > 0.0 else -1
    position["decision_bar"] = fill["decision_bar"]
    position["entry_bar"] = position["bar"] = fill["fill_bar"]
    position["moment"] = fill["moment"]
    position["units"], position["price"], position["entry_cost"] = units, fill["price"], cost
    position["borrow_cost"] = position["mfe"] = position["mae"] = 0.0
    for name in ("stop", "target", "equity"):
        position[name] = fill[name]


def _complete(position: Any, fill: Any, closed: float, held: float, exit_cost: float, prices: Prices, trade: Any) -> None:
    """Write the trade that closes ``closed`` of the ``held`` units."""
    share = closed / held
    entry_price, exit_price = float(position["price"]), float(fill["price"])
    entry_cost, borrow_cost = share * position["entry_cost"], share * position["borrow_cost"]
    gross = closed * (exit_price - entry_price) * prices.multiplier
    net = gross - entry_cost - exit_cost - borrow_cost
    entry_value = abs(closed) * entry_price * prices.multiplier
    mfe, mae = share * position["mfe"], share * position["mae"]
    mfe, mae = (gross if gross > mfe else mfe), (gross if gross < mae else mae)
    is_uncertain = 0
    if fill["moment"] == INSIDE and len(prices.high):
        asset, bar = int(fill["asset"]), int(fill["fill_bar"])
        best, worst = (closed * (float(each[asset, bar]) - entry_price) * prices.multiplier for each in (prices.high, prices.low))
        is_uncertain = int(best > mfe or best < mae or worst > mfe or worst < mae)
    trade["asset"], trade["side"] = fill["asset"], position["side"]
    trade["decision_bar"], trade["entry_bar"], trade["exit_bar"] = (
        position["decision_bar"],
        position["entry_bar"],
        fill["fill_bar"],
    )
    trade["units"], trade["entry_price"], trade["exit_price"] = closed, entry_price, exit_price
    trade["stop"], trade["target"], trade["trail"] = position["stop"], position["target"], fill["trail"]
    trade["entry_value"] = entry_value
    trade["entry_cost"], trade["exit_cost"], trade["borrow_cost"] = entry_cost, exit_cost, borrow_cost
    trade["gross_profit"], trade["net_profit"], trade["return_"] = gross, net, net / entry_value
    trade["mfe"], trade["mae"], trade["is_uncertain"] = mfe, mae, is_uncertain
    trade["reason"], trade["ambiguous"] = fill["reason"], fill["ambiguous"]
    trade["equity"], trade["written_off"] = position["equity"], fill["written_off"]

"""The strategies of ``docs/examples/strategies`` as plain loops, written from their descriptions alone.

Each loop keeps its own cash, units and orders; indicators are NumPy.  Nothing here knows the bar machine.  A loop returns the
first bar that may decide, fills ``(bar, units, price, reason)`` and equity at each close from there on.
"""

import copy
import math

import numpy as np

#: Decimals and binary differ by rounding: a price this close to a level touches it.
TOUCH = 2.0**-50


# Indicators


def rolling(function, values, n):
    """A function of the last n values; NaN before there are n."""
    windows = np.lib.stride_tricks.sliding_window_view(values, n)
    return np.concatenate([np.full(n - 1, np.nan), function(windows, axis=1)])


def mean(values, n):
    return rolling(np.mean, values, n)


def highest(values, n):
    return rolling(np.max, values, n)


def lowest(values, n):
    return rolling(np.min, values, n)


def exponential(values, n):
    """Weight 2 / (n + 1), seeded with the mean of the first n."""
    found = np.full(len(values), np.nan)
    found[n - 1] = values[:n].mean()
    for t in range(n, len(values)):
        found[t] = found[t - 1] + 2.0 / (n + 1.0) * (values[t] - found[t - 1])
    return found


def average_true_range(bars, n):
    """Wilder's: the first is the mean of n true ranges, and bar 0 has none."""
    high, low, last = bars.high[1:], bars.low[1:], bars.close[:-1]
    true_range = np.maximum(high, last) - np.minimum(low, last)
    values = np.full(len(bars.close), np.nan)
    values[n] = true_range[:n].mean()
    for t in range(n + 1, len(values)):
        values[t] = (values[t - 1] * (n - 1) + true_range[t - 1]) / n
    return values


# The account


class Account:
    """Cash and units, a fee that is a share of the value, slippage that is a share of the price."""

    def __init__(self, bars, costs, start, intrabar):
        self.bars, self.costs, self.start, self.intrabar = bars, costs, start, intrabar
        self.cash, self.units, self.entry, self.last_entry, self.n_entries = costs["start_cash"], 0.0, 0.0, 0.0, 0
        self.held, self.spent = 0, 0.0  # closes held; fees of the position
        self.ended = []  # of positions: net profit, bar and reason
        self.gain = 0.0  # of the position's parts that are sold
        self.fills, self.equity = [], []

    def outcome(self):
        """A copy that may go on in another way."""
        other = copy.copy(self)
        other.fills, other.ended = list(self.fills), list(self.ended)
        return other

    def bar(self, t):
        bars = self.bars
        return bars.open[t], bars.high[t], bars.low[t], bars.close[t]

    def worth(self, price):
        return self.cash + self.units * price

    def fill(self, t, units, price, reason):
        """An order of signed units."""
        fee = self.costs["fee_rate"] * abs(units) * price
        before = self.units
        self.cash -= units * price + fee
        self.units = before + units
        self.fills.append((t, units, price, reason))
        if before * units >= 0.0:
            if before == 0.0:
                self.spent = self.gain = 0.0
                self.n_entries = self.held = 0
            self.entry = (self.entry * abs(before) + price * abs(units)) / abs(self.units)
            self.last_entry, self.n_entries = price, self.n_entries + 1
        else:
            self.gain -= units * (price - self.entry)
        self.spent += fee
        if abs(self.units) <= 1e-12 * abs(before):
            self.units = 0.0
            self.ended.append((self.gain - self.spent, t, reason))
            self.entry = 0.0

    def enter(self, t, side, price, share=None, units=None, slips=True):
        """A buy (1) or a sale (-1) that opens or adds; False if it is not paid for."""
        if slips:
            price *= 1.0 + side * self.costs["slippage"]
        fee_rate = self.costs["fee_rate"]
        if units is None:
            units = share * self.worth(price) / (price * (1.0 + fee_rate))
        if units * price * (1.0 + fee_rate) > (self.worth(price) - abs(self.units) * price) * (1.0 + 1e-12):
            return False
        self.fill(t, side * units, price, "")
        return True

    def leave(self, t, price, reason, part=1.0, slips=True):
        """The position, or a part of it, at a price."""
        if slips:
            price *= 1.0 - math.copysign(self.costs["slippage"], self.units)
        self.fill(t, -part * self.units, price, reason)

    def one_of(self, t, low_first, high_first):
        """What became of a bar that touched two things: the worse way through it, or the better one."""
        down, up = self.outcome(), self.outcome()
        low_first(down)
        high_first(up)
        close = self.bars.close[t]
        takes_up = up.worth(close) < down.worth(close) if self.intrabar == "pessimistic" else up.worth(close) > down.worth(close)
        self.__dict__.update((up if takes_up else down).__dict__)

    def protect(self, t, stop, target=math.inf, reason="stop"):
        """Stop and target of a position that is held, or was opened, at the open of t."""
        side = math.copysign(1.0, self.units)
        opened, high, low, _ = self.bar(t)
        worst, best = (low, high) if side > 0 else (high, low)

        def reaches(price, level, direction):  # direction 1: from below
            return (price - level * (1.0 - direction * TOUCH)) * direction >= 0.0

        if reaches(opened, stop, -side):
            self.leave(t, opened, reason)
        elif math.isfinite(target) and reaches(opened, target, side):
            self.leave(t, opened, "target", slips=False)
        else:
            stopped = reaches(worst, stop, -side)
            reached = math.isfinite(target) and reaches(best, target, side)
            if stopped and reached:
                at_stop, at_target = (
                    lambda account: account.leave(t, stop, reason),
                    lambda account: account.leave(t, target, "target", slips=False),
                )
                self.one_of(t, *((at_stop, at_target) if side > 0 else (at_target, at_stop)))
            elif stopped:
                self.leave(t, stop, reason)
            elif reached:
                self.leave(t, target, "target", slips=False)

    def mark(self, t):
        """The close: a short pays for what it borrows, equity is written down."""
        close = self.bars.close[t]
        if self.units != 0.0:
            self.held += 1
        if self.units < 0.0:
            self.cash -= -self.units * close * self.costs["borrow_per_bar"]
        self.equity.append(self.worth(close))

    def result(self):
        return self.start, self.fills, np.array(self.equity)


# The strategies


def donchian(bars, p, costs, intrabar):
    upper, lower = highest(bars.high, p["entry"]), lowest(bars.low, p["exit"])
    start = max(p["entry"], p["exit"]) - 1
    account, order, stop = Account(bars, costs, start, intrabar), None, 0.0
    for t in range(start, len(bars.close)):
        opened, high, low, close = account.bar(t)
        if account.units != 0.0:
            account.protect(t, stop)
        elif order is not None:
            trigger, stop = order
            if opened >= trigger * (1.0 - TOUCH):
                if account.enter(t, 1, opened, p["share"]):
                    account.protect(t, stop)
            elif high >= trigger * (1.0 - TOUCH):

                def breaks_out(account, then, t=t, trigger=trigger, stop=stop):
                    """Up through the trigger, and from there down to a price."""
                    if account.enter(t, 1, trigger, p["share"]) and then <= stop * (1.0 + TOUCH):
                        account.leave(t, stop, "stop")

                account.one_of(t, lambda a, c=close, f=breaks_out: f(a, c), lambda a, c=low, f=breaks_out: f(a, c))
        account.mark(t)
        order = None
        if account.units == 0.0:
            order = (upper[t], lower[t])
        else:
            stop = max(stop, lower[t])
    return account.result()


def limit_entry(bars, p, costs, intrabar):
    trend = mean(bars.close, p["n"])
    start = p["n"] - 1
    account, order, next_try, is_over = Account(bars, costs, start, intrabar), None, 0, False
    stop = target = 0.0
    for t in range(start, len(bars.close)):
        opened, high, low, close = account.bar(t)
        if is_over:
            account.leave(t, opened, "signal")
        elif account.units != 0.0:
            account.protect(t, stop, target)
        elif order is not None:
            limit, last = order
            touched = low <= limit * (1.0 + TOUCH)
            at_open = opened <= limit * (1.0 + TOUCH)
            entry = opened if at_open else limit
            stop, target = entry * (1.0 - p["stop"]), entry * (1.0 + p["target"])
            if at_open and account.enter(t, 1, opened, 1.0, slips=False):
                account.protect(t, stop, target)
            elif touched and account.enter(t, 1, limit, 1.0, slips=False):
                # The dip comes before or after the high; its stop lies further down in either case.
                if low <= stop * (1.0 + TOUCH):
                    account.leave(t, stop, "stop")
                else:

                    def rises(account, to, t=t, target=target):
                        if to >= target * (1.0 - TOUCH):
                            account.leave(t, target, "target", slips=False)

                    account.one_of(t, lambda a, h=high, f=rises: f(a, h), lambda a, c=close, f=rises: f(a, c))
            if touched or t == last:
                order = None
        account.mark(t)
        is_over = False
        if account.units == 0.0:
            if close > trend[t] and t >= next_try:
                order, next_try = (close * (1.0 - p["below"]), t + 3), t + 3
        else:
            is_over = account.held >= p["max_bars"]
    return account.result()


def pyramid(bars, p, costs, intrabar):
    top, atr = highest(bars.close, p["entry"]), average_true_range(bars, p["n"])
    start = max(p["entry"] - 1, p["n"])
    account, buys, stop, unit = Account(bars, costs, start, intrabar), None, 0.0, 0.0
    for t in range(start, len(bars.close)):
        opened, _, _, close = account.bar(t)
        if buys is not None and account.enter(t, 1, opened, p["share"]):
            stop = buys
        if account.units != 0.0:
            account.protect(t, stop)
        account.mark(t)
        buys = None
        if account.units == 0.0:
            if close >= top[t]:
                unit = atr[t]
                buys = close - p["stop"] * unit
        elif account.n_entries < p["most"] and close >= account.last_entry + p["step"] * unit:
            buys = close - p["stop"] * unit
    return account.result()


def half_out(bars, p, costs, intrabar):
    fast, slow = mean(bars.close, p["fast"]), mean(bars.close, p["slow"])
    start = max(p["fast"], p["slow"])
    account, enters, leaves, limit, is_halved, best = Account(bars, costs, start, intrabar), False, False, None, False, 0.0
    for t in range(start, len(bars.close)):
        opened, high, low, close = account.bar(t)
        if leaves:
            account.leave(t, opened, "signal")
        elif enters and account.enter(t, 1, opened, 1.0):
            best, limit, is_halved = account.entry, None, False
        if account.units != 0.0:
            trail = best * (1.0 - p["trail"])
            rests = limit is not None and not is_halved
            if rests and opened > trail * (1.0 + TOUCH) and opened >= limit * (1.0 - TOUCH):
                account.leave(t, opened, "signal", part=0.5, slips=False)
                is_halved, rests = True, False
            touched = rests and high >= limit * (1.0 - TOUCH)
            if not touched:
                account.protect(t, trail, reason="trail")
            elif low > trail * (1.0 + TOUCH):
                account.leave(t, limit, "signal", part=0.5, slips=False)
                is_halved = True
            elif opened <= trail * (1.0 + TOUCH):
                account.leave(t, opened, "trail")
            else:

                def half_first(account, t=t, limit=limit, trail=trail):
                    account.leave(t, limit, "signal", part=0.5, slips=False)
                    account.leave(t, trail, "trail")

                account.one_of(t, lambda a, t=t, level=trail: a.leave(t, level, "trail"), half_first)
        account.mark(t)
        enters = leaves = False
        if account.units == 0.0:
            enters = fast[t] > slow[t] and fast[t - 1] <= slow[t - 1]
        else:
            best = max(best, close)
            if limit is None:
                limit = account.entry * (1.0 + p["gain"])
            leaves = fast[t] < slow[t] and fast[t - 1] >= slow[t - 1]
    return account.result()


def chandelier(bars, p, costs, intrabar):
    trend, atr = mean(bars.close, p["trend"]), average_true_range(bars, p["n"])
    top, bottom = highest(bars.high, p["n"]), lowest(bars.low, p["n"])
    start = max(p["trend"] - 1, p["n"])
    account, side, stop = Account(bars, costs, start, intrabar), 0, 0.0
    for t in range(start, len(bars.close)):
        opened, _, _, close = account.bar(t)
        if side != 0:
            account.enter(t, side, opened, p["share"])
        if account.units != 0.0:
            account.protect(t, stop)
        account.mark(t)
        below, above, side = top[t] - p["k"] * atr[t], bottom[t] + p["k"] * atr[t], 0
        if account.units > 0.0:
            stop = max(stop, below)
        elif account.units < 0.0:
            stop = min(stop, above)
        elif close > trend[t] and below < close:
            side, stop = 1, below
        elif close < trend[t] and above > close:
            side, stop = -1, above
    return account.result()


def martingale(bars, p, costs, intrabar):
    account, enters, factor, seen = Account(bars, costs, 0, intrabar), False, 1.0, 0
    stop = target = 0.0
    for t in range(len(bars.close)):
        if enters and account.enter(t, 1, bars.open[t], min(p["stake"] * factor, p["most"])):
            stop, target = account.entry * (1.0 - p["move"]), account.entry * (1.0 + p["move"])
        if account.units != 0.0:
            account.protect(t, stop, target)
        account.mark(t)
        enters = account.units == 0.0
        if enters and len(account.ended) > seen:
            seen = len(account.ended)
            factor = 2.0 * factor if account.ended[-1][0] < 0.0 else 1.0
    return account.result()


def grid(bars, p, costs, intrabar):
    account, orders, anchor, lot = Account(bars, costs, 0, intrabar), [], 0.0, 0.0

    def way_through(account, t, orders, prices):
        """Every order that a path from price to price meets; sales belong to the position that was there before."""
        waiting, n_ended = list(orders), len(account.ended)

        def meet(side, limit, price):
            waiting.remove((side, limit))
            if side > 0:
                account.enter(t, 1, price, units=lot, slips=False)
            elif len(account.ended) == n_ended:
                account.leave(t, price, "signal", part=min(lot / account.units, 1.0), slips=False)

        for side, limit in orders:
            if side * (limit * (1.0 + side * TOUCH) - prices[0]) >= 0.0:
                meet(side, limit, prices[0])
        for to in prices[1:]:
            for side, limit in sorted(waiting, key=lambda order: -order[0] * order[1]):
                if side * (limit * (1.0 + side * TOUCH) - to) >= 0.0:
                    meet(side, limit, limit)

    for t in range(len(bars.close)):
        opened, high, low, close = account.bar(t)
        account.one_of(
            t,
            lambda a, t=t, o=orders, path=(opened, low, high, close): way_through(a, t, o, path),
            lambda a, t=t, o=orders, path=(opened, high, low, close): way_through(a, t, o, path),
        )
        account.mark(t)
        if account.units == 0.0:
            anchor, lot = close, account.worth(close) * p["share"] / close
        lots, orders = round(account.units / lot), []
        for i in range(3):
            if lots + i < p["most"]:
                orders.append((1, anchor * (1.0 - p["step"] * (lots + i + 1))))
            if lots - i >= 1:
                orders.append((-1, anchor * (1.0 - p["step"] * (lots - i - 1))))
    return account.result()


def squeeze(bars, p, costs, intrabar):
    middle, atr = mean(bars.close, p["n"]), average_true_range(bars, p["n"])
    upper = middle + 2.0 * rolling(np.std, bars.close, p["n"])
    start = p["n"]
    account, side, leaves, quiet, stop = Account(bars, costs, start, intrabar), 0, False, 0, 0.0
    for t in range(start, len(bars.close)):
        opened, _, _, close = account.bar(t)
        if leaves:
            account.leave(t, opened, "signal")
        elif side != 0:
            account.enter(t, side, opened, 1.0)
        if account.units != 0.0:
            account.protect(t, stop)
        account.mark(t)
        leaves, side = account.units * (close - middle[t]) < 0.0, 0
        if upper[t] < middle[t] + p["width"] * atr[t]:
            quiet += 1
        else:
            if account.units == 0.0 and quiet >= p["least"] and close != middle[t]:
                side = 1 if close > middle[t] else -1
                stop = close - side * p["stop"] * atr[t]
            quiet = 0
    return account.result()


def cooldown(bars, p, costs, intrabar):
    fast, slow = mean(bars.close, p["fast"]), mean(bars.close, p["slow"])
    start = max(p["fast"], p["slow"]) - 1
    account, enters, leaves = Account(bars, costs, start, intrabar), False, False
    stop = target = 0.0
    for t in range(start, len(bars.close)):
        opened = bars.open[t]
        if leaves:
            account.leave(t, opened, "signal")
        elif enters and account.enter(t, 1, opened, 1.0):
            stop, target = account.entry * (1.0 - p["stop"]), account.entry * (1.0 + p["target"])
        if account.units != 0.0:
            account.protect(t, stop, target)
        account.mark(t)
        enters = leaves = False
        if account.ended and account.ended[-1][2] == "stop" and t - account.ended[-1][1] < p["cooldown"]:
            continue
        enters = account.units == 0.0 and fast[t] > slow[t]
        leaves = account.units != 0.0 and fast[t] < slow[t]
    return account.result()


def break_even(bars, p, costs, intrabar):
    top, atr = highest(bars.close, p["entry"]), average_true_range(bars, p["n"])
    start = max(p["entry"] - 1, p["n"])
    account, share, stop, target, risk, is_safe = Account(bars, costs, start, intrabar), None, 0.0, 0.0, 0.0, False
    for t in range(start, len(bars.close)):
        opened, _, _, close = account.bar(t)
        if share is not None:
            account.enter(t, 1, opened, share)
        if account.units != 0.0:
            account.protect(t, stop, target)
        account.mark(t)
        share = None
        if account.units == 0.0:
            is_safe = False
            if close >= top[t]:
                risk = p["k"] * atr[t]
                share, stop, target = min(p["risk"] * close / risk, 1.0), close - risk, close + p["reward"] * risk
        elif not is_safe and close >= account.entry + risk:
            stop, is_safe = account.entry, True
    return account.result()


def perpetual(bars, p, costs, intrabar):
    fast, slow = exponential(bars.close, p["fast"]), exponential(bars.close, p["slow"])
    start = max(p["fast"], p["slow"]) - 1
    account, side, leaves, stop = Account(bars, costs, start, intrabar), 0, False, 0.0
    margin, power = costs["maintenance_margin"], costs["leverage"]

    def end(t, price, reason):
        account.leave(t, price, reason)
        if reason == "liquidation":
            account.cash -= costs["liquidation_fee"] * abs(account.fills[-1][1]) * account.fills[-1][2]

    for t in range(start, len(bars.close)):
        opened, high, low, close = account.bar(t)
        if leaves:
            end(t, opened, "signal")
        elif side != 0:
            price = opened * (1.0 + side * costs["slippage"])
            units = p["share"] * account.cash / (price * (1.0 + costs["fee_rate"]))
            if units > 0.0 and units * price * (1.0 + costs["fee_rate"]) <= power * account.cash * (1.0 + 1e-12):
                account.fill(t, side * units, price, "")
                stop = price * (1.0 - side * p["stop"])
        if account.units != 0.0:
            way = math.copysign(1.0, account.units)
            size = abs(account.units)
            # Equity (cash + units x price) is the maintenance margin of the position's value.
            ruin = -account.cash / (size * (1.0 - margin)) if way > 0 else account.cash / (size * (1.0 + margin))
            worst = low if way > 0 else high
            reached = [
                (level, reason)
                for level, reason in ((stop, "stop"), (ruin, "liquidation"))
                if level > 0.0 and way * worst <= way * level * (1.0 + way * TOUCH)
            ]
            at_open = [each for each in reached if way * opened <= way * each[0] * (1.0 + way * TOUCH)]
            if at_open:
                end(t, opened, at_open[0][1])
            elif reached:
                end(t, *max(reached, key=lambda each: way * each[0]))
        if account.units != 0.0:
            if account.units < 0.0:
                account.cash -= -account.units * close * costs["borrow_per_bar"]
            if account.cash < 0.0:
                account.cash -= -account.cash * costs["borrow_per_bar"]
            account.cash -= account.units * close * costs["funding"]
        if account.worth(close) <= 0.0:
            if account.units != 0.0:
                end(t, close, "bust")
            account.equity += [0.0] * (len(bars.close) - t)
            break
        account.equity.append(account.worth(close))
        leaves, side = False, 0
        if account.units == 0.0:
            if account.ended and account.ended[-1][2] == "liquidation" and t - account.ended[-1][1] < 20:
                continue
            side = int(fast[t] > slow[t]) - int(fast[t] < slow[t])
        else:
            leaves = account.units * (fast[t] - slow[t]) < 0.0
    return account.result()

"""The third implementation: the slowest, most obvious one, in plain floats and dicts, written from the definitions."""

import math

#: Share of a level by which a price may miss it and still touch it.
TOUCH = 2.0**-50

#: What the profiles say, line by line as in docs/definitions.md; None is ours.
OURS = {
    "touch": TOUCH,
    "no_slippage": {"target"},
    "levels_from": "entry",
    "trail_follows": "close",
    "gap_over_both": "target",
    "fee_in_size_on": "fill",
    "end_fills_at": "close",
}
CONVENTIONS = {
    None: OURS,
    "vectorbt": OURS
    | {
        "touch": 0.0,
        "no_slippage": {"target", "stop", "trail"},
        "levels_from": "decision",
        "trail_follows": "extreme",
        "gap_over_both": "stop",
    },
    "backtesting.py": OURS
    | {
        "touch": 0.0,
        "no_slippage": {"target", "stop", "trail", "signal", "reverse", "time", "end", "bust"},
        "levels_from": "decision",
        "gap_over_both": "stop",
        "fee_in_size_on": "quote",
        "end_fills_at": "open",
    },
}


def order_cost(costs, units, price):
    return min(max(costs.fixed + costs.per_unit * units + costs.fee_rate * (units * price), costs.minimum), costs.maximum)


def largest_units(costs, budget, price, whole):
    """Largest u with u p + cost(u) <= budget: whole ones counted down, others by bisection on that very rule."""

    def fits(units):
        return units * price + order_cost(costs, units, price) <= budget

    if whole:
        units = math.floor(budget / price) + 1
        while units > 0 and not fits(float(units)):
            units -= 1
        return float(units)
    if not fits(0.0):
        return 0.0
    low, high = 0.0, budget / price
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def trade_signals(bars, signals, costs, execution, *, first, last, levels=None, max_bars=None, ppy=252.0):
    """Replay signals bar by bar.

    ``signals``: four lists of booleans (enter_long, exit_long, enter_short, exit_short); ``levels``: per-bar lists under
    "stop", "target", "trail", "size", each optional.  Returns equity per bar, completed trades as dicts, the open position,
    and decisions to enter that could not be paid for as (bar, side).
    """
    levels, style = levels or {}, CONVENTIONS[execution.profile]
    cash, position, trades, equity, pending, missed = execution.start_cash, None, [], [], None, []
    dead = False

    def sample(name, bar):
        values = levels.get(name)
        return None if values is None else values[bar]

    def enter(side, quote, bar, decided):
        nonlocal cash, position
        if cash <= 0:
            missed.append((decided, side))
            return
        price = quote * (1 + side * costs.slippage)
        size = sample("size", decided)
        size = execution.size if size is None else size
        budget = size * cash if execution.size_type == "equity" else min(size, cash)
        sized = price if style["fee_in_size_on"] == "fill" else (price + costs.fee_rate * quote) / (1 + costs.fee_rate)
        units = largest_units(costs, budget, sized, execution.whole_units)
        if units <= 0:
            missed.append((decided, side))
            return
        cost = order_cost(costs, units, price)
        stop, target, trail = (sample(name, decided) for name in ("stop", "target", "trail"))
        base = price if style["levels_from"] == "entry" else bars.close[decided]
        position = {
            "side": side,
            "units": units,
            "entry_price": price,
            "entry_bar": bar,
            "entry_cost": cost,
            "borrow": 0.0,
            "stop": None if stop is None else base * (1 - side * stop),
            "target": None if target is None else base * (1 + side * target),
            "trail": trail,
            "best": base,
            "closes": 0,
            "equity": cash,
            "decision_bar": decided,
        }
        cash = cash - side * units * price - cost

    def leave(quote, bar, reason, ambiguous=False):
        nonlocal cash, position
        p = position
        price = quote if reason in style["no_slippage"] else quote * (1 - p["side"] * costs.slippage)
        cost = order_cost(costs, p["units"], price)
        cash = cash + p["side"] * p["units"] * price - cost
        gross = p["side"] * p["units"] * (price - p["entry_price"])
        trail = math.nan if p["trail"] is None else p["best"] * (1 - p["side"] * p["trail"])
        net = gross - p["entry_cost"] - cost - p["borrow"]
        trades.append(
            {
                "side": p["side"],
                "entry_bar": p["entry_bar"],
                "exit_bar": bar,
                "entry_price": p["entry_price"],
                "exit_price": price,
                "units": p["units"],
                "net": net,
                "return": net / (p["units"] * p["entry_price"]),
                "reason": reason,
                "ambiguous": ambiguous,
                "written_off": 0.0,
                "trail": trail,
            }
        )
        position = None

    def act(decision, quote, bar):
        if decision["exit"] and position is not None:
            leave(quote, bar, decision["exit"])
        if decision["enter"] and position is None:
            enter(decision["enter"], quote, bar, decision["bar"])

    def meet_levels(bar, opened):
        p, side = position, position["side"]
        trail = None if p["trail"] is None else p["best"] * (1 - side * p["trail"])
        choices = [(level, why) for level, why in ((p["stop"], "stop"), (trail, "trail")) if level is not None]
        nearest = max(choices, key=lambda c: (side * c[0], c[1] == "stop")) if choices else None
        target = p["target"]
        o, worst = bars.open[bar], bars.low[bar] if side > 0 else bars.high[bar]
        best = bars.high[bar] if side > 0 else bars.low[bar]
        if opened:  # a level that the entry is already beyond acts at once
            nearest = nearest and (side * min(side * nearest[0], side * o), nearest[1])
            target = None if target is None else side * max(side * target, side * o)
        stops_at = None if nearest is None else nearest[0] * (1 + side * style["touch"])  # a little before the level
        ends_at = None if target is None else target * (1 - side * style["touch"])
        stopped = nearest is not None and side * worst <= side * stops_at
        reached = target is not None and side * best >= side * ends_at
        gap = nearest is not None and side * o <= side * stops_at
        if not opened and gap:
            leave(o, bar, nearest[1])
        elif (
            not opened
            and target is not None
            and side * o >= side * ends_at
            and not (style["gap_over_both"] == "stop" and stopped)
        ):
            leave(o, bar, "target")
        elif stopped and (gap or not reached or execution.intrabar == "pessimistic"):
            leave(min(max(nearest[0], bars.low[bar]), bars.high[bar]), bar, nearest[1], reached and not gap)
        elif reached:
            leave(min(max(target, bars.low[bar]), bars.high[bar]), bar, "target", stopped)

    for bar in range(first, last):
        opened = left = False
        if dead:
            equity.append(0.0)
            continue
        if pending is not None:
            before = position
            act(pending, bars.open[bar], bar)
            opened = position is not None and position is not before
            pending = None
        if position is not None:
            meet_levels(bar, opened)
            left = position is None
        close = bars.close[bar]
        if position is not None:
            position["closes"] += 1
            extreme = bars.high[bar] if position["side"] > 0 else bars.low[bar]
            followed = close if style["trail_follows"] == "close" else extreme
            position["best"] = max(position["best"], followed) if position["side"] > 0 else min(position["best"], followed)
            if position["side"] < 0:
                paid = position["units"] * close * costs.borrow_rate / ppy
                cash -= paid
                position["borrow"] += paid

        def value(close=close):
            held = position["side"] * position["units"] * close if position else 0.0
            return cash + held  # noqa: B023 - called in this turn of the loop only

        if value() > 0:
            decision = decide(signals, bar, position, execution.sides, max_bars)
            if execution.fill == "close":
                if left:
                    decision["enter"] = 0
                act(decision, close, bar)
            elif decision["exit"] or decision["enter"]:
                pending = decision
        if value() > 0 and bar == last - 1 and execution.close_at_end:
            if style["end_fills_at"] == "open":  # back at the open, with what the last close decided
                final = pending or {"exit": None, "enter": 0, "bar": bar}
                pending = None
                held = position
                act(final | {"exit": final["exit"] or "end"}, bars.open[bar], bar)
                if position is not None and position is not held:
                    meet_levels(bar, True)
            elif position is not None:
                leave(close, bar, "end")
        if value() <= 0:
            if position is not None:
                leave(close, bar, "bust")
            trades[-1]["written_off"] = -cash
            dead, pending = True, None
            equity.append(0.0)
        else:
            equity.append(value())
    return equity, trades, position, missed


def decide(signals, bar, position, sides, max_bars):
    el, xl, es, xs = (bool(signal[bar]) for signal in signals)
    if sides == "short":
        el = xl = False
    if sides == "long":
        es = xs = False
    if el and xl:
        el = xl = False
    if es and xs:
        es = xs = False
    if el and es:
        el = es = False
    decision = {"exit": None, "enter": 0, "bar": bar}
    if position is None:
        decision["enter"] = 1 if el else -1 if es else 0
        return decision
    opposite, leave = (es, xl) if position["side"] > 0 else (el, xs)
    timed = max_bars is not None and position["closes"] >= max_bars
    if opposite:
        decision.update(exit="reverse", enter=-position["side"])
    elif leave:
        decision["exit"] = "signal"
    elif timed:
        decision["exit"] = "time"
    return decision


def metrics_of(equity, trades, cash, ppy, rf=0.0):
    """Sweep metrics from equity and trades, with the textbook's formulas."""
    r, before = [], cash
    for value in equity:
        r.append((value - before) / before if before else 0.0)
        before = value
    n = len(r)
    mean = math.fsum(r) / n
    variance = math.fsum((x - mean) ** 2 for x in r) / n
    if variance <= 1e-12 * math.fsum(x * x for x in r) / n:  # returns that do not vary but for rounding
        variance = math.nan
    population = math.sqrt(variance)
    deviation = math.sqrt(variance * n / (n - 1)) if n > 1 else math.nan
    excess = mean - rf / ppy
    down = math.sqrt(math.fsum(min(x - rf / ppy, 0.0) ** 2 for x in r) / n)
    peak, worst = cash, 0.0
    for value in equity:
        peak = max(peak, value)
        worst = min(worst, value / peak - 1)
    returns = [trade["return"] for trade in trades]
    nets = [trade["net"] for trade in trades]
    result = {
        "total_return": equity[-1] / cash - 1,
        "max_drawdown": worst,
        "n_trades": len(trades),
        "volatility": deviation * math.sqrt(ppy),
        "sharpe": excess / deviation * math.sqrt(ppy),
        "sortino": (excess / down if down else math.copysign(math.inf, excess) if excess else math.nan) * math.sqrt(ppy),
        "skew": math.fsum((x - mean) ** 3 for x in r) / n / population**3,
        "kurtosis": math.fsum((x - mean) ** 4 for x in r) / n / population**4 - 3,
        "n_ambiguous": sum(trade["ambiguous"] for trade in trades),
    }
    if returns:
        result |= {
            "win_rate": sum(net > 0 for net in nets) / len(nets),
            "expectancy": math.fsum(returns) / len(returns),
            "best_trade": max(returns),
            "worst_trade": min(returns),
        }
        lost = -math.fsum(net for net in nets if net <= 0)
        if lost:
            result["profit_factor"] = math.fsum(net for net in nets if net > 0) / lost
    return result

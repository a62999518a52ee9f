"""Portfolio, the third implementation: day by day, asset by asset, in plain floats and dicts, written from the definitions."""

import math

from oracle import order_cost


def is_price(price):
    return price is not None and 0 < price < math.inf


def trade_weights(
    weights,
    close,
    open=None,
    high=None,
    low=None,
    *,
    costs,
    fill="next_open",
    start_cash=100_000.0,
    reinvest=True,
    reserve_costs=False,
    ppy=252.0,
    delisted="keep",
    delisted_after=5,
):
    """Rows of weights are events unless None.  Returns value and cash per bar, ledger rows, completed trades, open positions."""
    n_bars, n_assets = len(close), len(close[0])
    assets = range(n_assets)
    cash, units, last_price = start_cash, [0.0] * n_assets, [0.0] * n_assets
    waiting, waits_since, wanted = {}, None, None
    values, cashes, ledger, trades = [], [], [], []
    holding = [None] * n_assets
    dead = False
    priced = [{a for a in assets if is_price(close[bar][a]) or (open and is_price(open[bar][a]))} for bar in range(n_bars)]
    ends = {}
    for a in assets if delisted == "write_off" else ():
        last = max((bar for bar in range(n_bars) if a in priced[bar]), default=None)
        if last is not None and sum(map(bool, priced[last + 1 :])) >= max(delisted_after, 1):
            ends.setdefault(last + 1, []).append(a)

    def worth(prices):
        return cash + sum(units[a] * prices[a] for a in assets)

    def look(asset, price):
        p = holding[asset]
        if p and not math.isnan(price):
            profit = p["units"] * (price - p["price"])
            p["best"], p["worst"] = max(p["best"], profit), min(p["worst"], profit)

    def sized(asset, target, base, quote):
        return whole(asset, target * base / quote - units[asset], base, quote)

    def whole(asset, order, base, quote):
        if abs(units[asset] + order) <= 1e-12 * max(abs(order), abs(units[asset])):
            order = -units[asset]
        return order if abs(order) * quote > 1e-12 * base else 0.0

    def left_over(orders, quotes):
        rest = cash
        for asset, order in orders.items():
            price = quotes[asset] * (1 + math.copysign(costs.slippage, order))
            rest -= order * price + (order_cost(costs, abs(order), price) if order else 0.0)
        return rest

    def execute(asset, order, price, bar, decided, reason, equity):
        nonlocal cash
        cost = order_cost(costs, abs(order), price) if price else 0.0
        before = units[asset]
        cash -= order * price + cost
        units[asset] = before + order
        p = holding[asset]
        ledger.append(
            {
                "decision_bar": decided,
                "fill_bar": bar,
                "asset": asset,
                "units": order,
                "price": price,
                "cost": cost,
                "cash_after": cash,
                "position_after": units[asset],
            }
        )
        if p is not None and p["units"] * order > 0:
            p["price"] = (p["units"] * p["price"] + order * price) / (p["units"] + order)
            p["units"] += order
            p["cost"] += cost
            return
        entry_share = 1.0
        if p is not None:
            closed = p["units"] if abs(order) >= abs(p["units"]) else -order
            share = closed / p["units"]
            exit_cost = cost * abs(closed / order)
            gross = closed * (price - p["price"])
            net = gross - share * p["cost"] - exit_cost - share * p["borrow"]
            through = abs(order) > abs(p["units"]) and units[asset] != 0
            trades.append(
                {
                    "asset": asset,
                    "side": "long" if closed > 0 else "short",
                    "decision_bar": p["decided"],
                    "entry_bar": p["bar"],
                    "exit_bar": bar,
                    "units": closed,
                    "entry_price": p["price"],
                    "exit_price": price,
                    "entry_cost": share * p["cost"],
                    "exit_cost": exit_cost,
                    "borrow_cost": share * p["borrow"],
                    "gross_profit": gross,
                    "net_profit": net,
                    "return": net / abs(closed * p["price"]),
                    "mfe": max(share * p["best"], gross),
                    "mae": min(share * p["worst"], gross),
                    "equity": p["equity"],
                    "exit_reason": reason or ("reverse" if through else "signal"),
                    "written_off": 0.0,
                }
            )
            if not through:
                if share == 1.0 or units[asset] == 0:
                    holding[asset] = None
                else:
                    p["units"] += order
                    for name in ("cost", "borrow", "best", "worst"):
                        p[name] *= 1 - share
                return
            entry_share = 1.0 - abs(closed / order)
        holding[asset] = {
            "units": units[asset],
            "price": price,
            "cost": cost * entry_share,
            "borrow": 0.0,
            "best": 0.0,
            "worst": 0.0,
            "bar": bar,
            "decided": decided,
            "equity": equity,
        }

    def rebalance(quotes, bar):
        nonlocal waiting
        prices = [quotes[a] if is_price(quotes[a]) else last_price[a] for a in assets]
        equity = worth(prices)
        if equity <= 0:
            return
        base = equity if reinvest else start_cash
        ready = [a for a in waiting if is_price(quotes[a])]
        targets = {a: waiting[a] for a in ready}
        unsold = any(units[a] and not is_price(quotes[a]) for a in waiting)
        if reserve_costs and not unsold:
            orders = {a: sized(a, targets[a], base, quotes[a]) for a in ready}
            floor = min(0.0, cash - sum(orders[a] * quotes[a] for a in ready))

            def fits(scale):
                scaled = {a: sized(a, targets[a] * scale, base, quotes[a]) for a in ready}
                return left_over(scaled, quotes) >= floor

            if not fits(1.0) and fits(0.0):
                few, many = 0.0, 1.0
                while many - few > 1e-15:
                    few, many = ((few + many) / 2, many) if fits((few + many) / 2) else (few, (few + many) / 2)
                targets = {a: targets[a] * few for a in ready}
        orders = {a: sized(a, targets[a], base, quotes[a]) for a in ready}
        cut = set()
        if unsold:
            floor = min(0.0, base * (1 - sum(wanted)))

            def some(factor):
                part = {}
                for a, order in orders.items():
                    sold = -min(-order, units[a]) if order < 0 < units[a] else 0.0  # what is held may be sold in any case
                    part[a] = whole(a, sold + factor * (order - sold), base, quotes[a])
                return part

            def pays(factor):
                return left_over(some(factor), quotes) >= floor

            if not pays(1.0):
                few, many = 0.0, 1.0 if pays(0.0) else 0.0
                while many - few > 1e-15:
                    few, many = ((few + many) / 2, many) if pays((few + many) / 2) else (few, (few + many) / 2)
                cut = {a for a, order in orders.items() if order > 0 or units[a] + order < min(0.0, units[a])}
                orders = some(few)
        for asset in ready:
            order = orders[asset]
            if order:
                if fill == "next_open":
                    look(asset, quotes[asset])
                execute(asset, order, quotes[asset] * (1 + math.copysign(costs.slippage, order)), bar, waits_since, "", equity)
        waiting = {a: target for a, target in waiting.items() if a in cut or (a not in ready and (target or units[a]))}

    for bar in range(n_bars):
        if dead:
            values.append(0.0)
            cashes.append(0.0)
            continue
        for asset in ends.get(bar, ()):
            if units[asset]:
                execute(asset, -units[asset], 0.0, bar, bar, "delisted", values[-1])
        if fill == "next_open" and waiting:
            rebalance(open[bar], bar)
        for asset in assets:
            for price in ((open[bar][asset],) if open else ()) + (close[bar][asset],):
                if is_price(price):
                    last_price[asset] = price
            if high:
                look(asset, high[bar][asset])
                look(asset, low[bar][asset])
            look(asset, last_price[asset])
            if units[asset] < 0:
                paid = -units[asset] * last_price[asset] * costs.borrow_rate / ppy
                cash -= paid
                holding[asset]["borrow"] += paid
        value = worth(last_price)
        if weights[bar] is not None and value > 0:
            waiting, waits_since, wanted = dict(enumerate(weights[bar])), bar, weights[bar]
            if fill == "close":
                rebalance(close[bar], bar)
                waiting = {}
                value = worth(last_price)
        if value <= 0:
            dead, waiting = True, {}
            for asset in assets:
                if units[asset]:
                    price = last_price[asset] * (1 + math.copysign(costs.slippage, -units[asset]))
                    execute(asset, -units[asset], price, bar, bar, "bust", 0.0)
            trades[-1]["written_off"] = -cash
            cash = value = 0.0
        values.append(value)
        cashes.append(cash)
    for trade in trades:
        assert trade["mae"] <= trade["gross_profit"] <= trade["mfe"]
    return values, cashes, ledger, trades, holding


def statistics(trades):
    """All, Long, Short: a plain pass over a list of trades for each statistic."""
    result = {}
    for column, side in (("All", None), ("Long", "long"), ("Short", "short")):
        of = [trade for trade in trades if side is None or trade["side"] == side]
        net = [trade["net_profit"] for trade in of]
        won, lost = [x for x in net if x > 0], [x for x in net if x < 0]
        returns = [trade["return"] for trade in of]
        held = [trade["exit_bar"] - trade["entry_bar"] for trade in of]
        n = len(of)
        mean = math.fsum(returns) / n if n else math.nan
        spread = math.sqrt(math.fsum((x - mean) ** 2 for x in returns) / n) if n else math.nan
        result[column] = {
            "n_trades": n,
            "n_winners": len(won),
            "n_losers": len(lost),
            "win_rate": _mean([float(x > 0) for x in net]),
            "costs_paid": math.fsum(t["entry_cost"] + t["exit_cost"] + t["borrow_cost"] for t in of),
            "net_profit": math.fsum(net),
            "largest_profit": max(net, default=math.nan),
            "largest_loss": min(net, default=math.nan),
            "mean_profit": _mean(won),
            "mean_loss": _mean(lost),
            "mean_net_profit": _mean(net),
            "reward_risk": abs(_mean(won) / _mean(lost)),
            "expectancy": mean,
            "longest_winning_streak": _streak(net, 1),
            "longest_losing_streak": _streak(net, -1),
            "mean_mfe": _mean([t["mfe"] for t in of]),
            "mean_mae": _mean([t["mae"] for t in of]),
            "min_bars_held": min(held, default=math.nan),
            "mean_bars_held": _mean(held),
            "max_bars_held": max(held, default=math.nan),
            "written_off": math.fsum(t["written_off"] for t in of),
        }
        if lost:
            result[column]["profit_factor"] = math.fsum(won) / -math.fsum(lost)
        if n > 1 and spread > 1e-5 * max(map(abs, returns)):
            result[column]["information_score"] = mean / spread
            result[column]["sqn"] = math.sqrt(n) * mean / (spread * math.sqrt(n / (n - 1)))
    return result


def _mean(values):
    return math.fsum(values) / len(values) if len(values) else math.nan


def _streak(net, sign):
    longest = running = 0
    for value in net:
        running = running + 1 if value * sign > 0 else 0
        longest = max(longest, running)
    return longest

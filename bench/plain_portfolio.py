"""The loop that is replaced: day by day, asset by asset, in plain Python, with MFE and MAE kept, then statistics by side.

Written as such loops are: arrays indexed one number at a time, a dict for a position, a list of dicts for trades.
"""

import math

import numpy as np


def trade_weights(weights, close, open_, fee_rate, slippage, start_cash):
    """Value at each close and completed trades; rows of NaN in ``weights`` do not trade, fills are at the next open."""
    n_bars, n_assets = close.shape
    cash, positions, trades, pending = start_cash, {}, [], None
    values = np.zeros(n_bars)
    for bar in range(n_bars):
        if pending is not None:
            equity = cash
            for asset, position in positions.items():
                equity += position["units"] * open_[bar, asset]
            for asset in range(n_assets):
                quote = open_[bar, asset]
                position = positions.get(asset)
                held = position["units"] if position else 0.0
                units = pending[asset] * equity / quote - held
                if abs(units) * quote <= 1e-12 * equity:
                    continue
                price = quote * (1 + slippage) if units > 0 else quote * (1 - slippage)
                cost = fee_rate * abs(units) * price
                cash -= units * price + cost
                if position:
                    see(position, quote)
                order(positions, trades, asset, units, price, cost, bar)
            pending = None
        value = cash
        for asset, position in positions.items():
            price = close[bar, asset]
            value += position["units"] * price
            see(position, price)
        values[bar] = value
        if not np.isnan(weights[bar, 0]):
            pending = weights[bar]
    return values, trades


class Frame:
    """A DataFrame read as loops over tables read it: one cell at a time, by position."""

    def __init__(self, frame):
        self.frame, self.shape = frame, frame.shape

    def __getitem__(self, key):
        return self.frame.iat[key] if isinstance(key, tuple) else self.frame.iloc[key].to_numpy()


def see(position, price):
    profit = position["units"] * (price - position["price"])
    if profit > position["mfe"]:
        position["mfe"] = profit
    if profit < position["mae"]:
        position["mae"] = profit


def order(positions, trades, asset, units, price, cost, bar):
    position = positions.get(asset)
    if position is None:
        positions[asset] = {"units": units, "price": price, "cost": cost, "mfe": 0.0, "mae": 0.0, "bar": bar}
        return
    held = position["units"]
    if (held > 0) == (units > 0):
        position["price"] = (held * position["price"] + units * price) / (held + units)
        position["units"] = held + units
        position["cost"] += cost
        return
    rest = held + units
    closes_all = abs(rest) <= 1e-12 * max(abs(units), abs(held))
    crosses = not closes_all and (rest > 0) != (held > 0)
    closed = held if closes_all or crosses else -units
    share = closed / held
    exit_cost = cost * abs(held / units) if crosses else cost
    gross = closed * (price - position["price"])
    net = gross - share * position["cost"] - exit_cost
    trades.append(
        {
            "asset": asset,
            "side": 1 if held > 0 else -1,
            "entry_bar": position["bar"],
            "exit_bar": bar,
            "gross": gross,
            "net": net,
            "return": net / (abs(closed) * position["price"]),
            "cost": share * position["cost"] + exit_cost,
            "mfe": max(share * position["mfe"], gross),
            "mae": min(share * position["mae"], gross),
        }
    )
    if closes_all:
        del positions[asset]
    elif crosses:
        positions[asset] = {"units": rest, "price": price, "cost": cost - exit_cost, "mfe": 0.0, "mae": 0.0, "bar": bar}
    else:
        position["units"] = rest
        for name in ("cost", "mfe", "mae"):
            position[name] *= rest / held


def statistics(trades):
    """The statistics of all, long and short trades."""
    result = {}
    for name, side in (("All", 0), ("Long", 1), ("Short", -1)):
        of = [trade for trade in trades if side in (0, trade["side"])]
        net = [trade["net"] for trade in of]
        won, lost = [x for x in net if x > 0], [x for x in net if x < 0]
        returns, held = [trade["return"] for trade in of], [trade["exit_bar"] - trade["entry_bar"] for trade in of]
        winning = losing = most_won = most_lost = 0
        for x in net:
            winning = winning + 1 if x > 0 else 0
            losing = losing + 1 if x < 0 else 0
            most_won, most_lost = max(most_won, winning), max(most_lost, losing)
        n = len(of)
        mean = sum(returns) / n
        deviation = math.sqrt(sum((x - mean) ** 2 for x in returns) / n)
        mean_profit, mean_loss = sum(won) / len(won), sum(lost) / len(lost)
        result[name] = {
            "n_trades": n,
            "n_winners": len(won),
            "n_losers": len(lost),
            "win_rate": len(won) / n,
            "costs_paid": sum(trade["cost"] for trade in of),
            "net_profit": sum(net),
            "largest_profit": max(net),
            "largest_loss": min(net),
            "mean_profit": mean_profit,
            "mean_loss": mean_loss,
            "mean_net_profit": sum(net) / n,
            "reward_risk": abs(mean_profit / mean_loss),
            "profit_factor": -sum(won) / sum(lost),
            "expectancy": mean,
            "sqn": math.sqrt(n) * mean / (deviation * math.sqrt(n / (n - 1))),
            "longest_winning_streak": most_won,
            "longest_losing_streak": most_lost,
            "mean_mfe": sum(trade["mfe"] for trade in of) / n,
            "mean_mae": sum(trade["mae"] for trade in of) / n,
            "min_bars_held": min(held),
            "mean_bars_held": sum(held) / n,
            "max_bars_held": max(held),
            "information_score": mean / deviation,
        }
    return result

"""The loops that the bar machine replaces: each of bench/machine_strategies.py as somebody writes it by hand for one purpose.

``loops(jit)`` makes them: with Numba's ``njit`` they are compiled, with ``plain`` they are plain Python over lists.  Account,
orders and sums are worked out here from the descriptions of the strategies; nothing of the library is used.

Every loop takes prices, all lines (one row each), for each candidate the rows of its lines and its parameters, the rules ``(first
deciding bar, cash, fee rate, slippage, whole units)`` and an array for ``OUT``.
"""

import math

#: What a loop leaves behind for each candidate.
OUT = ("equity", "total", "squares", "downside", "drawdown", "trades", "winners", "won", "lost")
NOTHING, ENTER, LEAVE = 0, 1, 2
NO_STOP, NO_BUY, NO_SELL = -math.inf, -math.inf, math.inf


def plain(function):
    """In the place of Numba's ``njit``."""
    return function


def loops(jit):
    """Name of a strategy -> loop over its candidates."""
    branching, straight, completed = loops_of_sums(jit)
    return {
        "showcase": showcase_loop(jit, straight, completed),
        "chandelier": chandelier_loop(jit, branching, completed, walk_of_a_bar(jit, completed)),
        "flipping": flipping_loop(jit, branching, completed),
        "weighing": weighing_loop(jit, branching, completed),
    }


def loops_of_sums(jit):
    """What loops share: a return at each close, in the two ways of which each loop takes the faster, and a completed trade."""

    @jit
    def marked(value, equity, total, squares, downside, peak, drawdown):
        change = (value - equity) / equity
        total += change
        squares += change * change
        if change < 0.0:
            downside += change * change
        if value > peak:
            peak = value
        elif value / peak - 1.0 < drawdown:
            drawdown = value / peak - 1.0
        return total, squares, downside, peak, drawdown

    @jit
    def marked_straight(value, equity, total, squares, downside, peak, drawdown):
        change = (value - equity) / equity
        loss = change if change < 0.0 else 0.0
        peak = value if value > peak else peak
        fall = value / peak - 1.0
        return total + change, squares + change * change, downside + loss * loss, peak, fall if fall < drawdown else drawdown

    @jit
    def completed(profit, trades, winners, won, lost):
        if profit > 0.0:
            return trades + 1, winners + 1, won + profit, lost
        return trades + 1, winners, won, lost - profit

    return marked, marked_straight, completed


def showcase_loop(jit, marked, completed):
    @jit
    def showcase(open_, high, low, close, lines, rows, params, rules, out):
        start, start_cash, fee, slip, whole = rules
        for row in range(len(rows)):
            fast, slow = lines[rows[row][0]], lines[rows[row][1]]
            share, stop_share, target_share, cooldown = params[row][0], params[row][1], params[row][2], params[row][3]
            cash = equity = peak = start_cash
            units = entry = entry_cost = stop = target = total = squares = downside = drawdown = won = lost = 0.0
            trades = winners = 0
            order, last_stop = NOTHING, -(10**9)
            for bar in range(start, len(close)):
                price = 0.0  # of a fill that ends the position
                if order == LEAVE:
                    price = open_[bar] * (1.0 - slip)
                elif order == ENTER:
                    entry = open_[bar] * (1.0 + slip)
                    units = share * cash / (entry * (1.0 + fee))
                    if whole:
                        units = math.floor(units)
                    entry_cost = fee * units * entry
                    cash -= units * entry + entry_cost
                order = NOTHING
                if units > 0.0:
                    if price == 0.0:
                        if open_[bar] <= stop:
                            price, last_stop = open_[bar] * (1.0 - slip), bar
                        elif open_[bar] >= target:
                            price = open_[bar]
                        elif low[bar] <= stop:  # before the target, if both are touched
                            price, last_stop = stop * (1.0 - slip), bar
                        elif high[bar] >= target:
                            price = target
                    if price > 0.0:
                        exit_cost = fee * units * price
                        cash += units * price - exit_cost
                        profit = units * (price - entry) - entry_cost - exit_cost
                        trades, winners, won, lost = completed(profit, trades, winners, won, lost)
                        units = 0.0
                value = cash + units * close[bar]
                total, squares, downside, peak, drawdown = marked(value, equity, total, squares, downside, peak, drawdown)
                equity = value
                if bar - last_stop < cooldown:
                    continue
                if units == 0.0:
                    if fast[bar] > slow[bar]:
                        order = ENTER
                        stop, target = close[bar] * (1.0 - stop_share), close[bar] * (1.0 + target_share)
                elif fast[bar] < slow[bar]:
                    order = LEAVE
            out[row][0], out[row][1], out[row][2], out[row][3], out[row][4] = equity, total, squares, downside, drawdown
            out[row][5], out[row][6], out[row][7], out[row][8] = trades, winners, won, lost

    return showcase


def walk_of_a_bar(jit, completed):
    @jit
    def walk(down, low, high, fee, slip, share, stop, buy, sell, account, score):
        """One path through a bar: both legs, the falling one first if ``down``.  Buys at ``buy``, sells half at ``sell``."""
        cash, units, entry, entry_cost, entries = account
        trades, winners, won, lost = score
        has_stopped, has_bought, has_sold = False, False, False
        for leg in range(2):
            if (leg == 0) == down:
                for _ in range(2):
                    if units > 0.0 and not has_stopped and stop >= low and (has_bought or stop >= buy):
                        price = stop * (1.0 - slip)
                        exit_cost = fee * units * price
                        cash += units * price - exit_cost
                        profit = units * (price - entry) - entry_cost - exit_cost
                        trades, winners, won, lost = completed(profit, trades, winners, won, lost)
                        units, entries, stop, has_stopped = 0.0, 0, NO_STOP, True
                    elif buy >= low and not has_bought:
                        has_bought = True
                        worth = cash + units * buy
                        more = share * worth / (buy * (1.0 + fee))
                        cost = fee * more * buy
                        if more * buy + cost <= (worth - units * buy) * (1.0 + 1e-12):
                            entry = (units * entry + more * buy) / (units + more)
                            entry_cost = entry_cost + cost if units > 0.0 else cost
                            units += more
                            entries += 1
                            cash -= more * buy + cost
            elif units > 0.0 and sell <= high and not has_stopped:
                part = 0.5 * units
                exit_cost = fee * part * sell
                cash += part * sell - exit_cost
                profit = part * (sell - entry) - 0.5 * entry_cost - exit_cost
                trades, winners, won, lost = completed(profit, trades, winners, won, lost)
                entry_cost *= 0.5
                units -= part
                has_sold = True
        return has_stopped, has_bought, has_sold, (cash, units, entry, entry_cost, entries), (trades, winners, won, lost)

    return walk


def chandelier_loop(jit, marked, completed, walk):
    @jit
    def chandelier(open_, high, low, close, lines, rows, params, rules, out):
        start, start_cash, fee, slip = rules[:4]
        for row in range(len(rows)):
            top, atr = lines[rows[row][0]], lines[rows[row][1]]
            share, width, reach = params[row][0], params[row][1], params[row][2]
            cash = equity = peak = start_cash
            units = entry = entry_cost = total = squares = downside = drawdown = won = lost = mark = best = next_stop = 0.0
            trades = winners = entries = 0
            stop, buy, sell, until, has_placed, enters = NO_STOP, NO_BUY, NO_SELL, -1, False, False
            for bar in range(start, len(close)):
                first = open_[bar]
                if bar > until:
                    buy = NO_BUY
                was_flat = units == 0.0
                if enters:
                    entry, enters = first * (1.0 + slip), False
                    units = share * cash / (entry * (1.0 + fee))
                    entry_cost = fee * units * entry
                    cash -= units * entry + entry_cost
                    stop, entries, best, was_flat = next_stop, 1, entry, False
                # At the open the stop, then resting orders, all at the open; then the path.
                account, score = (cash, units, entry, entry_cost, entries), (trades, winners, won, lost)
                if (units > 0.0 and (first <= stop or first >= sell)) or first <= buy:
                    if units > 0.0 and first <= stop:
                        account, score = walk(True, first, first, fee, slip, share, first, -math.inf, math.inf, account, score)[
                            3:
                        ]
                        stop, sell, has_placed, was_flat = NO_STOP, NO_SELL, False, True
                    if first <= buy:
                        account, score = walk(True, first, first, fee, slip, share, NO_STOP, first, NO_SELL, account, score)[3:]
                        buy = NO_BUY
                        if was_flat and account[1] > 0.0:
                            best, was_flat = first, False
                    if account[1] > 0.0 and first >= sell:
                        account, score = walk(False, first, first, fee, slip, share, NO_STOP, NO_BUY, first, account, score)[3:]
                        sell = NO_SELL
                if (account[1] > 0.0 and (low[bar] <= stop or high[bar] >= sell)) or low[bar] <= buy:
                    found = walk(True, low[bar], high[bar], fee, slip, share, stop, buy, sell, account, score)
                    if high[bar] >= sell:
                        other = walk(False, low[bar], high[bar], fee, slip, share, stop, buy, sell, account, score)
                        if other[3][0] + other[3][1] * close[bar] < found[3][0] + found[3][1] * close[bar]:
                            found = other
                    has_stopped, has_bought, has_sold, account, score = found
                    if has_stopped:
                        stop, sell, has_placed = NO_STOP, NO_SELL, False
                    if has_bought:
                        if account[4] == 1:
                            best = buy
                        buy = NO_BUY
                    if has_sold:
                        sell = NO_SELL
                cash, units, entry, entry_cost, entries = account
                trades, winners, won, lost = score
                value = cash + units * close[bar]
                total, squares, downside, peak, drawdown = marked(value, equity, total, squares, downside, peak, drawdown)
                equity = value
                if units == 0.0:
                    if close[bar] >= top[bar]:
                        enters, next_stop, mark = True, close[bar] - width * atr[bar], close[bar]
                    continue
                best = max(best, close[bar])
                stop = max(stop, best - width * atr[bar])
                if entries < 3 and close[bar] > mark + atr[bar]:
                    buy, until, mark = close[bar] - 0.5 * atr[bar], bar + 3, close[bar]
                if not has_placed:
                    sell, has_placed = entry + reach * atr[bar], True
            out[row][0], out[row][1], out[row][2], out[row][3], out[row][4] = equity, total, squares, downside, drawdown
            out[row][5], out[row][6], out[row][7], out[row][8] = trades, winners, won, lost

    return chandelier


def flipping_loop(jit, marked, completed):
    @jit
    def flipping(open_, high, low, close, lines, rows, params, rules, out):
        start, start_cash, fee, slip = rules[:4]
        for row in range(len(rows)):
            mean = lines[rows[row][0]]
            share, hold, phase = params[row][0], params[row][1], params[row][2]
            cash = equity = peak = start_cash
            units = entry = entry_cost = total = squares = downside = drawdown = won = lost = 0.0
            trades = winners = held = side = 0
            order = NOTHING
            for bar in range(start, len(close)):
                if order == ENTER:
                    entry = open_[bar] * (1.0 + slip * side)
                    units = side * (share * cash / (entry * (1.0 + fee)))
                    entry_cost = fee * abs(units) * entry
                    cash -= units * entry + entry_cost
                    held = 0
                elif order == LEAVE:
                    price = open_[bar] * (1.0 - slip * side)
                    exit_cost = fee * abs(units) * price
                    cash += units * price - exit_cost
                    profit = units * (price - entry) - entry_cost - exit_cost
                    trades, winners, won, lost = completed(profit, trades, winners, won, lost)
                    units = 0.0
                order = NOTHING
                value = cash + units * close[bar]
                total, squares, downside, peak, drawdown = marked(value, equity, total, squares, downside, peak, drawdown)
                equity = value
                if units == 0.0:
                    if bar >= phase:
                        order, side = ENTER, 1 if close[bar] > mean[bar] else -1
                else:
                    held += 1
                    if held >= hold:
                        order = LEAVE
            out[row][0], out[row][1], out[row][2], out[row][3], out[row][4] = equity, total, squares, downside, drawdown
            out[row][5], out[row][6], out[row][7], out[row][8] = trades, winners, won, lost

    return flipping


def weighing_loop(jit, marked, completed):
    @jit
    def squashed(x):
        return x / (1.0 + abs(x))

    @jit
    def weighing(open_, high, low, close, lines, rows, params, rules, out):
        start, start_cash, fee, slip = rules[:4]
        for row in range(len(rows)):
            atr = lines[rows[row][7]]
            share, weight, level = params[row][0], params[row][1], params[row][2]
            cash = equity = peak = start_cash
            units = entry = entry_cost = total = squares = downside = drawdown = won = lost = mood = heat = 0.0
            trades = winners = side = 0
            for bar in range(start, len(close)):
                if side != 0:
                    price = open_[bar] * (1.0 + slip * side)
                    if units != 0.0:
                        exit_cost = fee * abs(units) * price
                        cash += units * price - exit_cost
                        profit = units * (price - entry) - entry_cost - exit_cost
                        trades, winners, won, lost = completed(profit, trades, winners, won, lost)
                    entry = price
                    units = side * (share * cash / (entry * (1.0 + fee)))
                    entry_cost = fee * abs(units) * entry
                    cash -= units * entry + entry_cost
                    side = 0
                value = cash + units * close[bar]
                total, squares, downside, peak, drawdown = marked(value, equity, total, squares, downside, peak, drawdown)
                equity = value
                score, scale = 0.0, 1.0 / atr[bar]
                for each in range(7):
                    mean = lines[rows[row][each]]
                    score += weight * squashed((close[bar] - mean[bar]) * scale) + squashed((mean[bar] - mean[bar - 5]) * scale)
                mood = 0.8 * mood + 0.2 * max(min(score, 6.0), -6.0)
                heat = max(0.98 * heat, abs(mood))
                edge = level * heat
                if mood > edge and units <= 0.0:
                    side = 1
                elif mood < -edge and units >= 0.0:
                    side = -1
            out[row][0], out[row][1], out[row][2], out[row][3], out[row][4] = equity, total, squares, downside, drawdown
            out[row][5], out[row][6], out[row][7], out[row][8] = trades, winners, won, lost

    return weighing

"""The meaning of orders a second time: lists of orders, a price that walks from point to point, one account, plain floats.

Written from the text of docs alone, slow and obvious on purpose: no register program, no lanes, no shared code with the library.
A step function is run as it is: what it reads are NumPy's float64s, whose division is IEEE's.
"""

import ast
import copy
import math
import sys
from types import SimpleNamespace

import numpy as np

#: Share of a level by which a price may miss it and still touch it.
TOUCH = 2.0**-50
#: Two amounts that differ by less than this share are the same.
ROUNDING = 1e-12
REASONS = ("", "signal", "reverse", "stop", "target", "trail", "time", "end", "bust", "delisted", "liquidation")
SIGNAL, REVERSE, STOP, TARGET, TRAIL, END, BUST, LIQUIDATION = 1, 2, 3, 4, 5, 7, 8, 10


class Faulty(Exception):
    """A price, size or number of bars that no order can have: (code, bar)."""


class Relative:
    def __init__(self, kind, x):
        self.kind, self.x = kind, float(x)


#: What the text of a strategy sees as ``bt``.
bt = SimpleNamespace(
    below_entry=lambda x: Relative("below", x),
    above_entry=lambda x: Relative("above", x),
    distance=lambda x: Relative("distance", x),
    **{name.upper(): code for code, name in enumerate(REASONS) if name},
)


class Division(ast.NodeTransformer):
    """Makes ``a / b`` of literals IEEE's too."""

    def visit_BinOp(self, node):
        self.generic_visit(node)
        return self.divided(node, node.left) if isinstance(node.op, ast.Div) else node

    def visit_AugAssign(self, node):
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        read = copy.deepcopy(node.target)
        read.ctx = ast.Load()
        return ast.copy_location(ast.Assign([node.target], self.divided(node, read)), node)

    def divided(self, node, left):
        dividend = ast.Call(ast.Name("float64", ast.Load()), [left], [])
        return ast.copy_location(ast.BinOp(dividend, ast.Div(), node.right if hasattr(node, "right") else node.value), node)


def function_of(text, filename, names):
    """The function ``strategy`` of a text, and what its decorator was given."""
    given = {}

    def on_bar(**each):
        given.update(each)
        return lambda function: function

    tree = ast.fix_missing_locations(Division().visit(ast.parse(text)))
    seen = SimpleNamespace(**(vars(bt) | {"on_bar": on_bar} | names.pop("bt", {})))
    names |= {"bt": seen, "sqrt": np.sqrt, "float64": np.float64}
    exec(compile(tree, filename, "exec"), names)
    loops = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.For)]
    found = sorted((node.lineno, node.end_lineno, node.target.id) for node in loops)
    return names["strategy"], given, {filename: found}


class Bar:
    """One bar of prices and lines."""

    def __init__(self, columns, index):
        self._columns, self.index = columns, np.float64(index)

    def __getattr__(self, name):
        return np.float64(self._columns[name][int(self.index)])

    def previous(self, k):
        return Bar(self._columns, int(self.index) - k)


class Account:
    """Money, the position and its levels, and orders in the order of their call sites."""

    def __init__(self, costs, rules):
        self.costs, self.rules = costs, rules
        self.cash, self.units = rules.start_cash, 0.0
        self.orders, self.ended, self.fills, self.placed_once = [], [], [], {}
        #: Bars whose two ways, or two levels on the way, differ by about as much as rounding does: another order of sums may
        #: choose the other.
        self.ties = []
        self.epoch = 0  # counts openings and endings of positions
        self.last_exit = {"reason": 0, "bar": -math.inf, "price": 0.0, "result": 0.0}
        self.n_trades, self.peak = 0, rules.start_cash
        self.forget_position()

    def __deepcopy__(self, memo):
        other = copy.copy(self)
        other.orders = [copy.copy(order) for order in self.orders]
        other.ended, other.fills, other.ties = list(self.ended), list(self.fills), list(self.ties)
        other.last_exit, other.placed_once = dict(self.last_exit), dict(self.placed_once)
        return other

    def forget_position(self):
        self.units = self.entry_price = self.last_entry_price = self.entry_costs = self.borrowed = self.realized = 0.0
        self.n_entries = self.bars_held = self.n_exits = 0
        self.stop = self.target = self.trail = None
        self.target_share, self.best, self.worst = 1.0, 0.0, 0.0

    @property
    def side(self):
        return (self.units > 0) - (self.units < 0)

    def equity_at(self, price):
        return self.cash + self.units * price * self.rules.multiplier

    # ---- money

    def cost(self, units, price):
        costs = self.costs
        linear = costs.fixed + costs.per_unit * units + costs.fee_rate * units * price * self.rules.multiplier
        return min(max(linear, costs.minimum), costs.maximum)

    def largest(self, budget, price):
        """Most units whose value and cost fit, by bisection on that very rule."""

        def fits(units):
            return units * (price * self.rules.multiplier) + self.cost(units, price) <= budget  # of what a unit is worth

        if not fits(0.0):
            return 0.0
        low, high = 0.0, budget / price / self.rules.multiplier
        if fits(high):
            low = high
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        if low * price * self.rules.multiplier <= 1e-14 * budget:  # the cost alone takes the budget; the rest is its rounding
            return 0.0
        if self.rules.lot:
            n = math.floor(low / self.rules.lot) + 1
            while n > 0 and not fits(n * self.rules.lot):
                n -= 1
            return n * self.rules.lot
        return low

    def whole(self, units):
        lot = self.rules.lot
        return math.floor(units / lot * (1 + 1e-12)) * lot if lot else units

    # ---- fills

    def ticked(self, price, side):
        """A price on the tick: limits move away from the market, stops toward it; so buys go down and sales up."""
        if not self.rules.tick or price is None:
            return price
        steps = price / self.rules.tick
        if abs(steps - round(steps)) > 2.0**-50 * steps:
            steps = math.floor(steps) if side > 0 else math.ceil(steps)
        return round(steps) * self.rules.tick

    def book(self, signed, price, bar, reason):
        cost = self.cost(abs(signed), price)
        if reason == LIQUIDATION:
            cost += self.rules.liquidation_fee * abs(signed) * price * self.rules.multiplier
        self.cash -= signed * price * self.rules.multiplier + cost
        self.fills.append({"bar": bar, "price": price, "units": signed, "reason": reason})
        return cost

    def add(self, side, units, price, bar, order):
        """Open a position or add to it, if it can be paid for."""
        equity, m = self.equity_at(price), self.rules.multiplier
        power = self.rules.leverage * equity - abs(self.units) * price * m
        if not units > 0 or equity <= 0 or units * price * m + self.cost(units, price) > power * (1 + 1e-12):
            return False
        cost, held = self.book(side * units, price, bar, 0), abs(self.units)
        if held == 0:
            self.epoch += 1
            self.entry_price = self.best = self.worst = price
        else:
            self.entry_price = (held * self.entry_price + units * price) / (held + units)
        self.units += side * units
        self.entry_costs += cost
        self.last_entry_price, self.n_entries = price, self.n_entries + 1
        for name, level in order.levels.items():
            if isinstance(level, Relative) and level.kind != "distance":
                level = self.entry_price * (1 - level.x if level.kind == "below" else 1 + level.x)
            setattr(self, name, level if name == "trail" else self.ticked(level, -side))
            if name == "target":
                self.target_share = 1.0
        return True

    def reduce(self, units, price, bar, reason):
        """Close a part of the position, or all of it."""
        held = abs(self.units)
        if held - units <= 1e-12 * held:
            units = held
        share = units / held
        cost = self.book(-self.side * units, price, bar, reason)
        net = self.side * units * (price - self.entry_price) * self.rules.multiplier
        net -= cost + share * (self.entry_costs + self.borrowed)
        self.n_trades, self.realized = self.n_trades + 1, self.realized + net
        if units == held:
            self.last_exit = {"reason": reason, "bar": bar, "price": price, "result": self.realized}
            self.epoch += 1
            self.forget_position()
            self.end_orders(lambda order: order.reducing or order.kind == "close", "cancelled", bar)
            return
        self.units += -self.side * units
        self.entry_costs *= 1 - share
        self.borrowed *= 1 - share
        self.n_exits += 1

    def end_orders(self, which, status, bar):
        for order in [order for order in self.orders if which(order)]:
            self.end(order, status, bar)

    def end(self, order, status, bar):
        order.status, order.end_bar = status, bar
        self.orders.remove(order)
        self.ended.append(order)

    def pay(self, amount):
        self.cash -= amount
        self.borrowed += amount

    def slipped(self, side, price, slips):
        return price * (1 + side * self.costs.slippage) if slips else price

    def size(self, order, price):
        kind, size = order.size
        if kind == "units":
            return self.whole(size)
        if kind == "share_of_position":
            return abs(self.units) if size == 1 else self.whole(size * abs(self.units))
        budget = size * self.equity_at(price) if kind == "share" else size
        return self.largest(budget, price)

    def execute(self, order, quote, bar):
        """An order fills at a quote, or cannot be paid for."""
        slips = order.limit is None
        if order.kind == "close":
            self.orders.remove(order)
            self.ended.append(order)
            order.status, order.end_bar = "filled", bar
            self.reduce(abs(self.units), self.slipped(-self.side, quote, slips), bar, order.reason)
            return
        side = 1 if order.kind == "buy" else -1
        price = self.slipped(side, quote, slips)
        self.orders.remove(order)
        self.ended.append(order)
        order.end_bar = bar
        done = False
        if self.side == -side:
            kind = order.size[0]
            if order.reducing or kind == "units":
                units = self.size(order, price)
                if units > 0:
                    held, done = abs(self.units), True
                    beyond = units - held > 1e-12 * held and not order.reducing
                    self.reduce(min(units, held), price, bar, REVERSE if beyond else SIGNAL)
                    if beyond:
                        self.add(side, self.whole(units - held), price, bar, order)
            else:
                done = True
                self.reduce(abs(self.units), price, bar, REVERSE)
                self.add(side, self.size(order, price), price, bar, order)
        else:
            done = self.add(side, self.size(order, price), price, bar, order)
        order.status = "filled" if done else "unaffordable"

    # ---- levels and resting orders at a price

    def protective(self):
        """The level that acts, stop or trail, and its reason."""
        levels = []
        if self.stop is not None:
            levels.append((self.stop, STOP))
        if self.trail is not None:
            is_distance = isinstance(self.trail, Relative)
            level = self.best - self.side * self.trail.x if is_distance else self.best * (1 - self.side * self.trail)
            levels.append((self.ticked(level, -self.side), TRAIL))
        return max(levels, key=lambda each: (self.side * each[0], each[1] == STOP)) if levels else (None, None)

    def triggers(self):
        """Everything that waits for a price, in its order at one price: (price, falling: acts at or below it, what)."""
        found = []
        if self.units:
            level, reason = self.protective()
            if level is not None:
                found.append((level, self.side > 0, reason))
            margin = self.rules.maintenance
            if margin:  # cash + units price multiplier = margin |units| price multiplier
                level = self.cash / (abs(self.units) * self.rules.multiplier * (margin - self.side))
                if level > 0:
                    found.append((level, self.side > 0, LIQUIDATION))
            if self.target is not None:
                found.append((self.target, self.side < 0, TARGET))
        for order in self.orders:
            buys = order.kind == "buy"
            if order.stop is not None and not order.triggered:
                found.append((order.stop, not buys, order))
            elif order.limit is not None:
                found.append((order.limit, buys, order))
        return found

    def act(self, what, quote, bar):
        if what in (STOP, TRAIL, LIQUIDATION):
            self.reduce(abs(self.units), self.slipped(-self.side, quote, True), bar, what)
        elif what == TARGET:
            share, self.target = self.target_share, None
            units = abs(self.units) if share == 1 else self.whole(share * abs(self.units))
            if units > 0:
                self.reduce(units, quote, bar, TARGET)
        elif what.stop is not None and not what.triggered and what.limit is not None:
            what.triggered = True
        else:
            self.execute(what, quote, bar)

    def settle(self, price, bar):
        """Everything at or beyond the price acts, the first in order before the next."""
        while True:
            for level, falling, what in self.triggers():
                if price <= level * (1 + TOUCH) if falling else price >= level * (1 - TOUCH):
                    self.act(what, price, bar)
                    break
            else:
                return

    def walk(self, bar, points):
        """The price goes from point to point; what it meets acts in the order in which it is met."""
        low, high = min(points), max(points)
        price = points[0]
        for point in points[1:]:
            down = point < price
            while True:
                self.settle(price, bar)
                ahead = [
                    (level, -place)
                    for place, (level, falling, _) in enumerate(self.triggers())
                    if falling == down and (point <= level * (1 + TOUCH) if down else point >= level * (1 - TOUCH))
                ]
                if not ahead or point == price:
                    break
                level, place = max(ahead) if down else min(ahead, key=lambda each: (each[0], -each[1]))
                if any(0 < abs(other - level) <= ROUNDING * level for other, _ in ahead):
                    self.ties.append(bar)
                price = min(max(level, low), high)
                self.act(self.triggers()[-place][2], price, bar)
            price = point
            self.settle(price, bar)

    # ---- what the function sees and says

    def view(self, bar, close):
        held = self.side != 0
        away = math.inf if self.side >= 0 else -math.inf
        m = self.rules.multiplier
        fields = {
            "units": self.units,
            "side": self.side,
            "entry_price": self.entry_price,
            "last_entry_price": self.last_entry_price,
            "n_entries": self.n_entries,
            "bars_held": self.bars_held,
            "stop_loss": -away if self.stop is None else self.stop,
            "take_profit": away if self.target is None else self.target,
            "profit": self.units * m * (close - self.entry_price) - self.entry_costs - self.borrowed if held else 0.0,
            "equity": self.equity_at(close),
            "cash": self.cash,
            "peak_equity": max(self.peak, self.equity_at(close)),
            "best_close": self.best,
            "worst_close": self.worst,
            "last_exit_reason": self.last_exit["reason"],
            "last_exit_bar": self.last_exit["bar"],
            "last_exit_price": self.last_exit["price"],
            "last_result": self.last_exit["result"],
            "n_exits": self.n_exits,
            "n_trades": self.n_trades,
        }
        seen = SimpleNamespace(**{name: np.float64(value) for name, value in fields.items()})
        seen.is_flat, seen.is_long, seen.is_short = self.side == 0, self.side > 0, self.side < 0
        return seen

    def place(self, call, bar, close):
        """One call of the function: an order, a cancellation, a moved level."""
        kind, given, site = call
        if kind == "cancel":
            self.end_orders(lambda order: True, "cancelled", bar)
        elif kind in ("move_stop_loss", "move_take_profit"):
            if not self.units:
                return
            stops = kind == "move_stop_loss"
            if not 0 < given["price"] < math.inf:
                raise Faulty(3 if stops else 4, bar)
            if stops:
                self.stop = self.ticked(float(given["price"]), -self.side)
            else:
                share = given.get("share", 1.0)
                if not 0 < share <= 1:
                    raise Faulty(6, bar)
                self.target, self.target_share = self.ticked(float(given["price"]), -self.side), float(share)
        elif kind == "close":
            if self.units:
                order = SimpleNamespace(kind="close", levels={}, size=None, limit=None, stop=None, reason=SIGNAL)
                order.valid_until, order.reducing = math.inf, True
                self.put(order, site, bar)
        else:
            self.place_order(kind, given, site, bar, close)

    def place_order(self, kind, given, site, bar, close):
        if given.get("once"):
            if self.placed_once.get(site) == self.epoch:
                return
            self.placed_once[site] = self.epoch
        size = next((name, float(given[name])) for name in ("units", "share", "value", "share_of_position") if name in given)
        names = {"stop_loss": "stop", "take_profit": "target", "trailing_stop": "trail"}
        levels = {names[name]: given[name] for name in names if given.get(name) is not None}
        levels = {name: level if isinstance(level, Relative) else float(level) for name, level in levels.items()}
        self.check(kind, given, size, bar, close)
        side = 1 if kind == "buy" else -1
        limit, stop = self.ticked(given.get("limit"), side), self.ticked(given.get("stop"), side)
        order = SimpleNamespace(kind=kind, levels=levels, size=size, limit=limit, stop=stop)
        order.valid_until = math.inf if given.get("valid_bars") is None else bar + given["valid_bars"]
        order.reducing = bool(given.get("reduce_only")) or size[0] == "share_of_position"
        self.put(order, site, bar)
        if order.reducing and self.side != (-1 if kind == "buy" else 1):
            self.end(order, "cancelled", bar)

    def check(self, kind, given, size, bar, close):
        """The arguments in the order in which they are looked at: prices, size, validity, levels, trail."""

        def positive(code, name):
            value = given.get(name)
            value = value.x if isinstance(value, Relative) else value
            if value is not None and not 0 < value < math.inf:
                raise Faulty(code, bar)

        positive(1, "limit")
        positive(2, "stop")
        if not 0 < size[1] < math.inf or (size[0] == "share_of_position" and size[1] > 1):
            raise Faulty(6, bar)
        valid = given.get("valid_bars")
        if valid is not None and not (1 <= valid < math.inf and valid == math.floor(valid)):
            raise Faulty(7, bar)
        price = next((given[name] for name in ("limit", "stop") if given.get(name) is not None), close)
        side = 1 if kind == "buy" else -1
        for code, wrong, name, sign in ((3, 8, "stop_loss", 1), (4, 9, "take_profit", -1)):
            value, below = given.get(name), sign * side > 0
            positive(code, name)
            if isinstance(value, Relative):
                if value.kind == "below" and value.x >= 1:
                    raise Faulty(code, bar)
                if (value.kind == "below") != below:
                    raise Faulty(wrong, bar)
            elif value is not None and not (value < price if below else value > price):
                raise Faulty(wrong, bar)
        positive(5, "trailing_stop")

    def put(self, order, site, bar):
        self.end_orders(lambda other: other.site == site, "replaced", bar)
        order.site, order.decision_bar, order.triggered, order.status = site, bar, False, "resting"
        self.orders.append(order)
        self.orders.sort(key=lambda each: each.site)

    def market(self, price, bar):
        """Market orders fill: closes first, then in the order of the text."""
        waiting = [order for order in self.orders if order.limit is None and order.stop is None]
        for order in sorted(waiting, key=lambda each: each.kind != "close"):
            if order in self.orders:
                self.execute(order, price, bar)


class Calls:
    """The account as the function has it: reads are of a moment before its orders, calls are noted."""

    def __init__(self, seen, loops):
        self.__dict__.update(vars(seen))
        self._calls, self._loops = [], loops

    def _note(self, kind, given):
        frame, site = sys._getframe(2), []
        while frame is not None and frame.f_code.co_filename in self._loops:
            line, place = frame.f_lineno, []
            for begin, end, name in self._loops[frame.f_code.co_filename]:
                if begin < line <= end:
                    place += [begin, int(frame.f_locals[name])]
            site[:0] = [*place, line]
            frame = frame.f_back
        given = {name: float(value) if isinstance(value, np.float64) else value for name, value in given.items()}
        self._calls.append((kind, given, tuple(site)))

    def buy(self, **given):
        self._note("buy", given)

    def sell(self, **given):
        self._note("sell", given)

    def close(self):
        self._note("close", {})

    def cancel(self):
        self._note("cancel", {})

    def move_stop_loss(self, price):
        self._note("move_stop_loss", {"price": price})

    def move_take_profit(self, price, share=1.0):
        self._note("move_take_profit", {"price": price, "share": share})


def simulate(function, columns, params, states, costs, rules, loops):
    """Live through the bars.

    ``columns``: open, high, low, close and every line by name; ``costs``: fee_rate ... and borrow_per_bar; ``rules``: first,
    last, start_cash, fill, intrabar, close_at_end, lot, leverage, multiplier, tick, maintenance, liquidation_fee, funding (a rate
    for each bar or None); ``loops``: for the file name of the function's
    code, (first line, last line, variable) of its loops, outer ones first, by which the passes of an unrolled call are told
    apart.  A line has one call.  Returns the account, equity at each close and (code, bar) of a fault, or None.
    """
    with np.errstate(all="ignore"):
        return _simulate(function, columns, params, states, costs, rules, loops)


def _simulate(function, columns, params, states, costs, rules, loops):
    account, equity, dead = Account(costs, rules), [], False
    state = SimpleNamespace(**{n: v if isinstance(v, bool) else np.float64(v) for n, v in states.items()})
    p = SimpleNamespace(**{name: np.float64(value) for name, value in params.items()})
    for bar in range(rules.first, rules.last):
        if dead:
            equity.append(0.0)
            continue
        o, h, lo, c = (float(columns[name][bar]) for name in ("open", "high", "low", "close"))
        if rules.fill == "next_open":
            account.market(o, bar)
        account = the_path_taken(account, bar, o, h, lo, c, rules.intrabar)
        account.end_orders(lambda order: order.valid_until <= bar, "expired", bar)  # noqa: B023 - called in this turn only
        if account.units:
            account.bars_held += 1
            better, worse = (max, min) if account.units > 0 else (min, max)
            account.best, account.worst = better(account.best, c), worse(account.worst, c)
            worth, borrow = account.units * c * rules.multiplier, costs.borrow_per_bar
            funding = 0.0 if rules.funding is None else float(rules.funding[bar])
            account.pay(-worth * borrow if account.units < 0 else 0.0)
            account.pay(max(-account.cash, 0.0) * borrow if rules.leverage > 1 else 0.0)
            account.pay(worth * funding)
        if account.equity_at(c) > 0:
            calls = Calls(account.view(bar, c), loops)
            function(Bar(columns, bar), calls, state, p)
            for name, value in vars(state).items():
                setattr(state, name, value if isinstance(value, (bool, np.bool_)) else np.float64(value))
            try:
                for call in calls._calls:
                    account.place(call, bar, c)
            except Faulty as fault:
                return account, equity, fault.args
            if rules.fill == "close":
                account.market(c, bar)
        if account.equity_at(c) > 0 and bar == rules.last - 1 and rules.close_at_end and account.units:
            account.reduce(abs(account.units), account.slipped(-account.side, c, True), bar, END)
        if account.equity_at(c) <= 0:
            if account.units:
                account.reduce(abs(account.units), account.slipped(-account.side, c, True), bar, BUST)
            account.end_orders(lambda order: True, "cancelled", bar)
            dead = True
            equity.append(0.0)
            continue
        account.peak = max(account.peak, account.equity_at(c))
        equity.append(account.equity_at(c))
    return account, equity, None


def the_path_taken(account, bar, o, h, lo, c, intrabar):
    """Both ways through the bar; the one that the rule asks for."""
    down_first, up_first = copy.deepcopy(account), copy.deepcopy(account)
    down_first.walk(bar, (o, lo, h, c))
    up_first.walk(bar, (o, h, lo, c))
    first, second = down_first.equity_at(c), up_first.equity_at(c)
    if 1e-13 * abs(first) < abs(first - second) < 1e-11 * abs(first):
        down_first.ties.append(bar)
        up_first.ties.append(bar)
    if are_alike(down_first, up_first, c):
        return down_first
    if intrabar == "nearest":
        return up_first if h - o < o - lo else down_first
    if abs(first - second) <= ROUNDING * abs(first):
        return down_first
    if intrabar == "pessimistic":
        return up_first if second < first else down_first
    return up_first if second > first else down_first


def are_alike(one, other, close):
    """Whether two accounts are the same but for rounding: money, position, levels and orders."""
    money = abs(one.cash) + abs(one.units) * close * one.rules.multiplier
    if abs(one.cash - other.cash) > ROUNDING * money:
        return False
    numbers = [(one.units, other.units), (one.entry_price, other.entry_price), (one.stop, other.stop), (one.target, other.target)]
    trails = [each.x if isinstance(each, Relative) else each for each in (one.trail, other.trail)]
    for a, b in [*numbers, trails]:
        if (a is None) != (b is None) or (a is not None and abs(a - b) > ROUNDING * abs(a)):
            return False
    resting = [[(each.site, each.decision_bar, each.triggered) for each in account.orders] for account in (one, other)]
    return resting[0] == resting[1]

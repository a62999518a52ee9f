"""Random step functions as text, and random bars, costs and executions to run them with."""

import math
import random
from types import SimpleNamespace

import numpy as np

import backtest as bt
from backtest import lines

#: Numbers of a bar, and of the account, that expressions read.
PRICES = ("bar.close", "bar.open", "bar.high", "bar.low", "bar.fast", "bar.slow")
BEFORE = ("bar.previous(1).close", "bar.previous(3).fast", "bar.edge")
COUNTS = (
    "account.bars_held",
    "account.n_entries",
    "account.n_exits",
    "account.n_trades",
    "account.side",
    "account.last_exit_reason",
)
CASH = "max(account.cash, account.equity / 16.0)"  # of what is all invested, cash is rounding
MONEY = ("account.profit", "account.last_result", "account.equity", "account.peak_equity", CASH)
#: Of several entries at one price the average may be that price but for rounding: not compared with one of them.
HELD = (
    "account.entry_price",
    "account.last_entry_price * 1.0009",
    "account.best_close",
    "account.worst_close",
    "account.last_exit_price * 1.0011",
)
LEVELS = ("account.stop_loss", "account.take_profit", "account.last_exit_bar", "account.units", "bar.index")
NUMBERS = ("p.wide", "p.cool", "p.odds", "STEP")
PARAMS = {"wide": (0.01, 0.08), "share": (0.1, 1.0), "cool": (0, 6), "odds": (100.0, 900.0)}

HEADER = """\
@bt.on_bar(
    fast=lines.sma(lines.close, bt.param("n_fast")),
    slow=lines.sma(lines.close, 6),
    atr=lines.atr(3),
    up=lines.close > lines.sma(lines.close, 4),
    edge=bt.param("edge", 0.03),
    state={state},
)
def strategy(bar, account, state, p):
"""

HELPERS = """\
STEP, N_STEPS, CAREFUL = 0.0625, 3, True


def middle(bar, weight):
    total = bar.high * weight + bar.low * (1.0 - weight)
    if total > bar.close:
        return total
    else:
        total = (total + bar.close) / 2.0
    return total


def is_wide(bar, p):
    return bar.high - bar.low > bar.atr * (1.0 + p.wide)


def rungs(bar, account, size, first=1, away=0.01):
    for rung in range(first, first + 2):
        if bar.previous(rung).close > bar.close:
            for side in range(2):
                price = bar.close * (1.0 - away * (rung + side))
                account.buy(units=size / (rung + side), limit=price, valid_bars=4, stop_loss=bt.below_entry(0.08))


def enter(bar, account, p, away):
    if bar.volume > p.odds:
        account.buy(share=p.share / 4.0, limit=bar.close * (1.0 - away), valid_bars=3, stop_loss=bt.below_entry(away))
    else:
        account.sell(units=2.0, stop=bar.low, valid_bars=2, take_profit=bt.below_entry(2.0 * away))


"""


class Writer:
    """Writes one function; names that every path has assigned are kept, so that the text is one that may be run."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines, self.sites, self.fresh = [], 0, 0
        self.states = {"mark": 0.0, "count": 1.0, "armed": False, "seen": True}

    def pick(self, *each):
        return self.random.choice(each)

    def chance(self, share):
        return self.random.random() < share

    def real(self, low, high):
        return f"{self.random.uniform(low, high):.3g}" if self.chance(0.8) else f"{self.random.uniform(low, high)!r}"

    def say(self, depth, text):
        self.lines.append("    " * depth + text)

    # ---- expressions

    def price(self, names):
        """Something that is near to the market, and > 0."""
        base = self.pick("bar.close", "bar.close", "bar.low", "bar.high", "bar.fast", "bar.slow", "middle(bar, 0.25)")
        if self.chance(0.01):  # not always > 0: a fault
            return f"{base} - {self.real(9, 90)} * bar.atr"
        if self.chance(0.25):
            return f"max(0.5, min({self.number(names)}, 1.5 * bar.close))"
        return self.pick(base, f"max(0.5, {base} - {self.real(0.1, 1.5)} * bar.atr)", f"{base} * {self.real(0.97, 1.03)}")

    def below(self, price):
        return self.pick(f"{price} * {self.real(0.9, 0.995)}", f"{price} * (1.0 - p.wide)", f"max(0.01, {price} - 2.0 * bar.atr)")

    def above(self, price):
        return self.pick(f"{price} * {self.real(1.005, 1.1)}", f"{price} * (1.0 + p.wide)", f"{price} + 2.0 * bar.atr")

    def number(self, names, depth=2):
        if depth == 0 or self.chance(0.3):
            numbers = [name for name, kind in names.items() if kind == "number"]
            options = [PRICES, BEFORE, COUNTS, MONEY, HELD, LEVELS, ("state.mark", "state.count"), NUMBERS]
            options += [numbers] * (3 if numbers else 0)
            return self.pick(*self.pick(*options)) if self.chance(0.8) else self.pick(self.real(0.1, 20.0), "2", "0.0", "1")
        a, b = self.number(names, depth - 1), self.number(names, depth - 1)
        kind = self.random.random()
        if kind < 0.55:
            return f"({a} {self.pick('+', '-', '*', '/')} {b})"
        if kind < 0.7:
            return f"{self.pick('min', 'max')}({a}, {b})" if self.chance(0.8) else f"max({a}, {b}, {self.number(names, 0)})"
        if kind < 0.78:
            return f"abs({a})"
        if kind < 0.84:
            return f"sqrt({a})"
        if kind < 0.92:
            return f"(-{a})"
        return f"({a} if {self.truth(names, 1)} else {b})"

    def truth(self, names, depth=2):
        kind = self.random.random()
        if depth == 0 or kind < 0.45:
            flags = [name for name, sort in names.items() if sort == "bool"]
            options = [
                f"bar.volume {self.pick('>', '<')} {self.real(150, 850)}",
                f"bar.close {self.pick('>', '<', '>=', '<=')} {self.pick('bar.fast', 'bar.slow', 'bar.open')}",
                f"bar.close {self.pick('>', '<')} bar.previous(2).close",
                self.pick("account.is_flat", "account.is_long", "account.is_short", "account.is_flat"),
                self.pick("bar.up", "bar.previous(1).up", "state.armed", "state.seen", "is_wide(bar, p)"),
                f"bar.index - account.last_exit_bar {self.pick('>', '<=')} p.cool",
                f"account.n_entries < {self.pick('2', '3', 'N_STEPS')}",
                f"{self.pick(*COUNTS)} {self.pick('==', '!=', '>')} {self.pick('0', '1', '2')}",
                f"account.last_exit_reason == bt.{self.pick('STOP', 'TARGET', 'TRAIL', 'SIGNAL')}",
            ]
            return self.pick(*options, *flags)
        if kind < 0.6:
            return f"{self.number(names, 1)} {self.pick('<', '<=', '>', '>=', '==', '!=')} {self.number(names, 1)}"
        if kind < 0.66:
            return f"{self.number(names, 0)} < {self.number(names, 1)} <= {self.number(names, 0)}"
        if kind < 0.76:
            return f"not {self.paren(names, depth)}"
        return f"{self.paren(names, depth)} {self.pick('and', 'or')} {self.paren(names, depth)}"

    def paren(self, names, depth):
        return f"({self.truth(names, depth - 1)})"

    # ---- orders

    def size(self, opens, names):
        if self.chance(0.1):
            kind, most = (
                self.pick(("units", "50.0"), ("share", "1.0"), ("value", "900.0")) if opens else ("share_of_position", "1.0")
            )
            return f"{kind}=max(0.01, min({self.number(names)}, {most}))"
        options = [
            f"share={self.pick('p.share', 'p.share * p.gear', 'p.gear', self.real(0.1, 0.9), '1.0', self.real(0.02, 0.3))}",
            f"units={self.pick('1', self.real(0.5, 40), '10.0')}",
            f"value={self.pick(self.real(50, 900), 'account.equity / 3.0', '500')}",
        ]
        return (
            self.pick(*options) if opens else f"share_of_position={self.pick('0.5', '1.0', self.real(0.05, 0.95), '1.0 / 3.0')}"
        )

    def order(self, depth, names, suffix=""):
        """One call on the account."""
        self.sites += 1
        kind = self.random.random()
        if kind < 0.06:
            return self.say(depth, "account.close()")
        if kind < 0.09:
            self.sites -= 1
            return self.say(depth, "account.cancel()")
        if kind < 0.2:
            self.sites -= 1
            return self.move(depth, names)
        buys = self.chance(0.6)
        opens = self.chance(0.8)
        given = [self.size(opens, names)]
        if opens and self.chance(0.12):
            opens = False
            given.append("reduce_only=True")
        at = "bar.close"
        shape = self.random.random()
        offset = f" * (1.0 {'-' if buys else '+'} STEP * ({suffix} + 1))" if suffix else ""
        if shape < 0.35:
            at = self.price(names) + offset
            given.append(f"limit={at}")
        elif shape < 0.6:
            at = self.price(names) + offset
            given.append(f"stop={at}")
        elif shape < 0.7:
            stop = self.price(names)
            at = self.pick(stop, f"{stop} * {self.real(0.98, 1.02)}")
            given += [f"stop={stop}", f"limit={at}"]
        if shape < 0.7 and self.chance(0.4):
            given.append(f"valid_bars={self.pick('1', '2', '3', '5.0', 'p.cool + 1')}")
        if opens:
            given += self.levels(buys, at)
        if self.chance(0.2):
            given.append("once=True")
        return self.say(depth, f"account.{'buy' if buys else 'sell'}({', '.join(given)})")

    def levels(self, buys, at):
        given = []
        lower, upper = ("stop_loss", "take_profit") if buys else ("take_profit", "stop_loss")
        if self.chance(0.4):
            relative = self.pick(f"bt.below_entry({self.real(0.004, 0.08)})", "bt.below_entry(bar.edge)", "None", "near")
            given.append(f"{lower}={self.pick(self.below(f'({at})'), relative)}")
        if self.chance(0.4):
            given.append(f"{upper}={self.pick(self.above(f'({at})'), f'bt.above_entry({self.real(0.004, 0.08)})')}")
        if self.chance(0.2):
            wide = "p.gear" if buys else "1.5"  # a constant from 1 is refused for buys
            wild = ("0.999", wide, "bt.distance(20.0 * bar.close)") if self.chance(0.2) else ()
            given.append(f"trailing_stop={self.pick(self.real(0.01, 0.1), 'bt.distance(2.0 * bar.atr)', 'p.wide', *wild)}")
        return given

    def move(self, depth, names):
        """A level moved; + 0.0 hides that it may start from itself, which is refused for a second move on a path."""
        price = self.price(names)
        share = self.pick("", "", ", share=0.5", f", share={self.real(0.1, 0.9)}")
        self.say(
            depth,
            self.pick(
                f"account.move_stop_loss({price} + 0.0)",
                "account.move_stop_loss(min(max(account.stop_loss, bar.close - 2.0 * bar.atr, 0.1), 2.0 * bar.close) + 0.0)",
                f"account.move_take_profit({price} + 0.0{share})",
                f"account.move_take_profit(max(1.0, account.entry_price) * {self.real(0.98, 1.06)}{share})",
            ),
        )

    # ---- statements

    def block(self, depth, names, level):
        """A few statements; returns True if the block always returns."""
        return any(self.statement(depth, names, level) for _ in range(self.random.randint(1, 3 if level else 6)))

    def statement(self, depth, names, level):
        kind = self.random.random()
        if kind < 0.18:
            self.fresh += 1
            name = self.pick(f"x{self.fresh}", *names) if names else f"x{self.fresh}"
            sort = names.get(name) or self.pick("number", "number", "bool")
            if name in names and sort == "number" and self.chance(0.5):
                self.say(depth, f"{name} {self.pick('+', '-', '*', '/')}= {self.number(names, 1)}")
            else:
                self.say(depth, f"{name} = {self.number(names) if sort == 'number' else self.truth(names)}")
            names[name] = sort
        elif kind < 0.32:
            self.store(depth, names)
        elif kind < 0.62 and self.sites < 40:
            self.order(depth, names)
        elif kind < 0.67 and self.sites < 40:
            self.sites += 4
            calls = (f"enter(bar, account, p, {self.real(0.005, 0.05)})", "enter(bar, account, away=bar.edge, p=p)")
            self.say(depth, self.pick(*calls, f"rungs(bar, account, {self.real(0.5, 9)})", "rungs(bar, account, 3, first=2)"))
        elif kind < 0.69:
            self.pair(depth, names)
        elif kind < 0.72 and self.sites < 40 and level < 3:
            self.fresh += 1
            passes = self.pick("2", "N_STEPS")
            self.say(depth, f"for i{self.fresh} in range({passes}):")
            if self.chance(0.3):
                self.say(depth + 1, f"if {self.truth(names, 1)}:")
                self.say(depth + 2, self.pick("break", "continue"))
            if self.chance(0.5):
                self.say(depth + 1, f"if {self.truth(names, 1)}:")
                self.order(depth + 2, names, f"i{self.fresh}")
            else:
                self.order(depth + 1, names, f"i{self.fresh}")
            self.sites += 2
        elif kind < 0.75 and level:
            self.say(depth, "return")
            return True
        elif level < 3:
            return self.branch(depth, names, level)
        else:
            self.say(depth, self.pick("pass", "print(end='')"))
        return False

    def pair(self, depth, names):
        """Two names at once, the second of the values before."""
        one, other = f"x{self.fresh + 1}", f"x{self.fresh + 2}"
        self.fresh += 2
        values = self.number(names, 1), self.number(names, 1)
        self.say(depth, f"{one}, {other} = {values[0]}, {values[1]}")
        if self.chance(0.5):
            self.say(depth, f"{one}, {other} = {other}, {one} - {other}")
        names |= {one: "number", other: "number"}

    def store(self, depth, names):
        which = self.pick("mark", "count", "armed", "seen")
        if which in ("mark", "count"):
            form = self.random.random()
            if form < 0.4:
                self.say(depth, f"state.count {self.pick('+', '+', '-')}= {self.pick('1', '1.0', '2')}")
            else:
                self.say(depth, f"state.{which} = {self.number(names)}")
        else:
            self.say(depth, f"state.{which} = {self.truth(names)}")

    def branch(self, depth, names, level):
        ways, always = [], True
        arms = self.random.choices((1, 2, 3), (5, 3, 1))[0]
        for arm in range(arms):
            self.say(depth, f"{'elif' if arm else 'if'} {self.truth(names)}:")
            here = dict(names)
            ended = self.block(depth + 1, here, level + 1)
            always = always and ended
            if not ended:
                ways.append(here)
        if self.chance(0.5):
            self.say(depth, "else:")
            here = dict(names)
            ended = self.block(depth + 1, here, level + 1)
            always = always and ended
            if not ended:
                ways.append(here)
        else:
            always = False
            ways.append(dict(names))
        for name in set().union(*ways):
            if all(name in way for way in ways) and len({way[name] for way in ways}) == 1:
                names[name] = ways[0][name]
            else:
                names.pop(name, None)
        return always

    def program(self):
        names = {}
        if self.chance(0.3):
            self.say(1, "if account.is_flat and bar.index - account.last_exit_bar < p.cool:")
            self.say(2, "return")
        self.say(1, "near = bt.below_entry(0.015 + p.wide) if bar.up else bt.below_entry(0.0125)")
        self.say(1, f"if {self.pick('account.is_flat', 'bar.volume > p.odds', 'bar.up', 'CAREFUL')}:")
        self.order(2, names)
        if not self.block(1, names, 0):
            for _ in range(self.random.randint(0, 3)):
                self.order(1, names)
        return HELPERS + HEADER.format(state=self.states) + "\n".join(self.lines) + "\n"


def text_of(seed):
    """The text of a random strategy."""
    return Writer(seed).program()


def params_of(seed):
    """Its parameters."""
    rng = random.Random(f"params {seed}")
    chosen = {name: rng.randint(*ends) if isinstance(ends[0], int) else rng.uniform(*ends) for name, ends in PARAMS.items()}
    return chosen | {"n_fast": rng.randint(2, 5), "edge": rng.uniform(0.01, 0.05), "gear": rng.choice([1.0, 1.0, 2.0, 5.0, 9.0])}


def bars_of(seed):
    """Bars on a grid of prices, so that levels meet them exactly; some with gaps, some wild enough to ruin a short."""
    rng = np.random.default_rng(seed)
    n, grid = int(rng.integers(40, 130)), float(rng.choice([0.25, 0.01, 0.0]))
    step = float(rng.choice([0.005, 0.02, 0.06]))
    close = 20.0 * np.exp(np.cumsum(rng.normal(0, step, n)))
    opening = np.concatenate([[20.0], close[:-1]]) * np.exp(rng.normal(0, step * float(rng.choice([0.0, 0.3, 1.0])), n))
    high = np.maximum(opening, close) * np.exp(np.abs(rng.normal(0, step / 2, n)))
    low = np.minimum(opening, close) * np.exp(-np.abs(rng.normal(0, step / 2, n)))
    columns = {"open": opening, "high": high, "low": low, "close": close}
    if grid:
        columns = {name: np.maximum(np.round(values / grid), 1.0) * grid for name, values in columns.items()}
    return bt.Bars(**columns, volume=rng.uniform(0, 1000, n))


def costs_of(seed):
    """Costs of every kind, or none."""
    rng = random.Random(f"costs {seed}")
    if rng.random() < 0.25:
        return bt.Costs.zero()
    some = {
        "slippage": rng.choice([0.0, 0.001, 0.02]),
        "fixed": rng.choice([0.0, 1.0]),
        "per_unit": rng.choice([0.0, 0.02]),
        "minimum": rng.choice([0.0, 0.0, 2.0]),
        "maximum": rng.choice([float("inf"), 5.0]),
        "borrow_rate": rng.choice([0.0, 0.3]),
    }
    if rng.random() < 0.2:
        some["funding"] = rng.choice([0.001, -0.002, 0.03, -0.02, lines.atr(3) / lines.close / 20.0])
        some["liquidation_fee"] = rng.choice([0.0, 0.01])
    return bt.Costs(fee_rate=rng.choice([0.0, 0.001, 0.005]), **some)


def execution_of(seed):
    """An execution of orders, some of them on margin."""
    rng = random.Random(f"execution {seed}")
    given = {
        "fill": rng.choice(["next_open", "next_open", "close"]),
        "intrabar": rng.choice(["pessimistic", "optimistic", "nearest"]),
        "close_at_end": rng.random() < 0.4,
        "whole_units": rng.random() < 0.25,
        "start_cash": rng.choice([1000.0, 1000.0, 100_000.0]),
    }
    if rng.random() < 0.5:
        given |= {"leverage": rng.choice([1.0, 3.0, 10.0, 10.0]), "maintenance_margin": rng.choice([0.0, 0.04, 0.09])}
        given |= {"multiplier": rng.choice([1.0, 5.0]), "tick": rng.choice([None, 0.25, 0.01])}
        if not given["whole_units"]:
            given["lot"] = rng.choice([None, 0.1, 2.0])
    return bt.Execution(**given, start=12, periods_per_year=252.0)


def made(text, namespace=None, filename="<strategy>"):
    """The strategy that a text defines, with the library's names or others in their place."""
    names = {"bt": bt, "lines": lines, "sqrt": math.sqrt, "__name__": "strategies"} | (namespace or {})
    exec(compile(text, filename, "exec"), names)
    return names["strategy"]


def rules_of(execution, costs, funding, n_bars):
    """An execution as the oracle has it."""
    return SimpleNamespace(
        first=execution.start,
        last=n_bars,
        start_cash=execution.start_cash,
        fill=execution.fill,
        intrabar=execution.intrabar,
        close_at_end=execution.close_at_end,
        lot=1.0 if execution.whole_units else execution.lot or 0.0,
        leverage=execution.leverage,
        multiplier=execution.multiplier,
        tick=execution.tick or 0.0,
        maintenance=execution.maintenance_margin,
        liquidation_fee=costs.liquidation_fee,
        funding=funding,
    )

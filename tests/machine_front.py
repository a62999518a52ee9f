"""A register program run for one candidate and one bar, and the same function run by Python: for the tests of the front end."""

import linecache
import math
import types
from typing import NamedTuple

import numpy as np

import backtest as bt
from backtest.machine.program import ACTION, FIELDS, FLAGS, KINDS, LEVEL_KINDS, OPERANDS, OPS, SIZE_KINDS, TRAIL_KINDS

N_BARS = 7  # bars known at the decision; the last one is today
PRICES = ("open", "high", "low", "close", "volume")


class Outcome(NamedTuple):
    """What a call of the function did: orders in the order of the text, and the state afterwards."""

    orders: list
    state: dict


class World:
    """One moment: lines, conditions, parameters, account and state, all drawn by a generator of random numbers."""

    def __init__(self, strategy, rng):
        self.strategy = strategy
        self.params = {name: draw(rng) for name in strategy.params}
        self.series = {name: [draw(rng) for _ in range(N_BARS)] for name in PRICES}
        for name, node in strategy.lines.items():
            if hasattr(node, "leaves"):
                self.series[name] = [bool(rng.integers(2)) for _ in range(N_BARS)]
            elif hasattr(node, "name"):  # a parameter
                self.series[name] = [self.params[node.name]] * N_BARS
            else:
                self.series[name] = [draw(rng) for _ in range(N_BARS)]
        self.fields = {name: draw(rng) for name in FIELDS}
        self.fields["index"] = Number(N_BARS - 1)
        side = int(rng.integers(-1, 2))
        self.flags = {"is_flat": side == 0, "is_long": side > 0, "is_short": side < 0}
        self.state = {
            name: bool(rng.integers(2)) if isinstance(start, bool) else draw(rng) for name, start in strategy.states.items()
        }

    def by_key(self, key):
        """The series of a node of the strategy."""
        from backtest import lines

        named = {name: getattr(lines, name) for name in PRICES} | self.strategy.lines
        return next(self.series[name] for name, node in named.items() if node.key == key)


class Number(float):
    """A float that divides as IEEE 754 does, and stays one through arithmetic."""

    def __truediv__(self, other):
        return Number(divide(self, other))

    def __rtruediv__(self, other):
        return Number(divide(other, self))


def _kept(name):
    plain = getattr(float, name)
    return lambda *args: Number(plain(*map(float, args)))


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "neg", "pos", "abs"):
    setattr(Number, f"__{_name}__", _kept(f"__{_name}__"))


def draw(rng):
    """A number, often one of few, so that comparisons are equal at times."""
    few = [0.0, 1.0, 2.0, -1.0, 0.5, 100.0, math.inf, -0.0, math.nan]
    return Number(rng.choice(few) if rng.random() < 0.5 else rng.normal())


def divide(a, b):
    with np.errstate(all="ignore"):
        return float(np.float64(a) / np.float64(b))


def run_program(world):
    """The register program on a world."""
    strategy, program = world.strategy, world.strategy.program()
    numbers, words = [math.nan] * program.n_numbers, [True] * program.n_words
    numbers[: len(program.constants)] = program.constants.tolist()
    for at, name in enumerate(strategy.value_names):
        numbers[program.first_param + at] = float(world.params[name])
    numbers[program.first_field : program.first_state] = [world.fields[name] for name in FIELDS]
    states = world_states(world)
    numbers[program.first_state : program.first_input] = [world.state[name] for name in states[0]]
    for at, (column, shift) in enumerate(program.inputs.tolist()):
        numbers[program.first_input + at] = world.by_key(strategy.line_nodes[column].key)[-1 - shift]
    words[: program.first_flag] = [False, True, *(world.flags[name] for name in FLAGS)]
    words[program.first_flag : program.first_mask] = [world.state[name] for name in states[1]]
    for at, (column, shift) in enumerate(program.masks.tolist()):
        words[program.first_mask + at] = world.by_key(strategy.mask_nodes[column].key)[-1 - shift]
    interpret(program, numbers, words)
    orders = [order_of(record, numbers) for record in program.actions if words[record["where"]]]
    new = [(states[0][at], numbers[source]) for at, source in program.stores.tolist()]
    new += [(states[1][at], words[source]) for at, source in program.flag_stores.tolist()]
    return Outcome(orders, world.state | dict(new))


def world_states(world):
    """Names of the program's number states and boolean states; those without effect may be left out."""
    names = world.strategy.state_names
    return tuple([name for name in names if isinstance(world.strategy.states[name], bool) == kind] for kind in (False, True))


def interpret(program, numbers, words):
    two = {
        "ADD": lambda a, b: a + b,
        "SUB": lambda a, b: a - b,
        "MUL": lambda a, b: a * b,
        "DIV": divide,
        "MIN": lambda a, b: b if b < a else a,
        "MAX": lambda a, b: b if b > a else a,
    }
    compare = {"LT": lambda a, b: a < b, "LE": lambda a, b: a <= b, "EQ": lambda a, b: a == b, "NE": lambda a, b: a != b}
    logic = {
        "AND": lambda a, b: a and b,
        "OR": lambda a, b: a or b,
        "XOR": lambda a, b: a != b,
        "ANDNOT": lambda a, b: a and not b,
    }
    at, code = 0, program.code.tolist()
    while at < len(code):
        op, out, a, b, c = code[at]
        op, at = OPS[op], at + 1
        if op in two:
            numbers[out] = two[op](numbers[a], numbers[b])
        elif op in compare:
            words[out] = compare[op](numbers[a], numbers[b])
        elif op in logic:
            words[out] = logic[op](words[a], words[b])
        elif op in ("NEG", "ABS", "SQRT"):
            x = numbers[a]
            numbers[out] = -x if op == "NEG" else abs(x) if op == "ABS" else math.nan if x < 0 else math.sqrt(x)
        elif op == "SELECT":
            numbers[out] = numbers[b] if words[a] else numbers[c]
        elif op == "WSELECT":
            words[out] = words[b] if words[a] else words[c]
        elif op == "NUMBER":
            numbers[out] = float(words[a])
        elif op == "NOT":
            words[out] = not words[a]
        elif op == "JUMP":
            assert b >= at
            assert at > program.n_setup
            at = at if words[a] else b
        else:
            raise AssertionError(op)


def order_of(record, numbers):
    """An action as a dict, as ``Account`` below records it."""
    order = {name: int(record[name]) for name in ("kind", "slot", "once", "reduce_only", "reason")}
    order |= {f"{name}_kind": int(record[f"{name}_kind"]) for name in ("size", "stop_loss", "take_profit", "trail")}
    return order | {name: numbers[record[name]] for name in OPERANDS if record[name] >= 0}


class Bar:
    def __init__(self, world, shift):
        self.world, self.shift, self.index = world, shift, Number(N_BARS - 1 - shift)

    def __getattr__(self, name):
        return self.world.series[name][-1 - self.shift]

    def previous(self, shift):
        return Bar(self.world, self.shift + shift)


class Account:
    """Records calls; reads are those of the world."""

    def __init__(self, world):
        self.__dict__.update(world.fields, **world.flags)
        self.orders = []

    def _order(self, kind, **given):
        order = dict.fromkeys(("kind", "once", "reduce_only", "reason"), 0)
        order |= dict.fromkeys(("size_kind", "stop_loss_kind", "take_profit_kind", "trail_kind"), 0)
        order["kind"] = KINDS.index(kind)
        for name, value in given.items():
            if value is None:
                continue
            if name in SIZE_KINDS:
                order |= {"size_kind": SIZE_KINDS.index(name), "size": float(value)}
            elif name in ("stop_loss", "take_profit", "trailing_stop"):
                name, kinds = ("trail", TRAIL_KINDS) if name == "trailing_stop" else (name, LEVEL_KINDS)
                is_relative = hasattr(value, "kind")
                order |= {
                    f"{name}_kind": kinds.index(value.kind) if is_relative else 1,
                    name: float(value.value if is_relative else value),
                }
            elif name in ("once", "reduce_only", "reason"):
                order[name] = int(value)
            else:
                order["valid" if name == "valid_bars" else name] = float(value)
        self.orders.append(order)

    def buy(self, **given):
        self._order("buy", **given)

    def sell(self, **given):
        self._order("sell", **given)

    def close(self):
        self._order("close", reason=1)

    def cancel(self):
        self._order("cancel")

    def move_stop_loss(self, price):
        self._order("move_stop_loss", stop_loss=price)

    def move_take_profit(self, price, share=1.0):
        self._order("move_take_profit", take_profit=price)
        self.orders[-1]["share"] = float(share)


def run_python(world):
    """The function itself on a world; its numbers are such that nothing raises."""
    state = types.SimpleNamespace(**world.state)
    account = Account(world)
    world.strategy.function(Bar(world, 0), account, state, types.SimpleNamespace(**world.params))
    return Outcome(account.orders, {name: getattr(state, name) for name in world.state})


def same(a, b):
    """Equal to the last bit; NaN is NaN."""
    a, b = float(a), float(b)
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1.0, a) == math.copysign(1.0, b))


def check(strategy, seed=0, n=50):
    """Program and function do the same on random worlds."""
    rng = np.random.default_rng(seed)
    assert strategy.program().actions.dtype == ACTION
    for _ in range(n):
        world = World(strategy, rng)
        got, expected = run_program(world), run_python(world)
        slots = [order.pop("slot") for order in got.orders]
        assert [slot for slot in slots if slot >= 0] == sorted({slot for slot in slots if slot >= 0})
        assert len(got.orders) == len(expected.orders)
        for one, other in zip(got.orders, expected.orders, strict=True):
            assert one.keys() == other.keys()
            assert all(same(one[name], other[name]) for name in one), (one, other)
        for name in strategy.state_names:
            assert same(got.state[name], expected.state[name]), (name, got, expected)
            assert isinstance(got.state[name], type(strategy.states[name]))


def written(text, file="strategy.py", **names):
    """What a text defines, as if it stood in a file of that name; also the text's number of lines."""
    lines = text.splitlines(keepends=True)
    linecache.cache[file] = (len(text), None, lines, file)
    scope = {"bt": bt, "lines": bt.lines, "math": math, "__name__": "written", **names}
    exec(compile(text, file, "exec", dont_inherit=True), scope)
    return scope

"""The front end of the bar machine: each construct of a strategy's function as a program, against the function itself."""

import ast
import inspect
import math
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
from conftest import ROOT
from machine_front import check, written

import backtest as bt
from backtest import lines
from backtest.machine import passes
from backtest.machine.decorate import BarStrategy
from backtest.machine.graph import WORD_OPS
from backtest.machine.program import (
    ACTION,
    BUY,
    CANCEL,
    CANCEL_REASONS,
    CLOSE,
    FAULT,
    FAULTS,
    FIELDS,
    FLAGS,
    KINDS,
    LEVEL_KINDS,
    MOVE_STOP,
    MOVE_TARGET,
    OPERANDS,
    OPS,
    ORDER,
    ORDER_STATUSES,
    SELL,
    SIZE_KINDS,
    TRAIL_KINDS,
    Program,
)
from backtest.metrics import SUMS
from backtest.records import REASONS

FAST, SLOW, ATR = lines.sma(lines.close, bt.param("fast")), lines.sma(lines.close, bt.param("slow")), lines.atr(14)
THRESHOLD, COUNT, IS_ON, HALF = 1.5, 3, True, np.float64(0.5)


class Settings:
    """Constants of a class."""

    LIMIT = 2.0


@bt.on_bar(fast=FAST, slow=SLOW, atr=ATR, state={"mark": 0.0})
def trend(bar, account, state, p):
    """SMA trend with a cooldown after a stop, up to three units, half out at +2 ATR."""
    if account.last_exit_reason == bt.STOP and bar.index - account.last_exit_bar < p.cooldown:
        return
    if account.is_flat:
        if bar.fast > bar.slow:
            account.buy(share=p.risk / (bar.atr / bar.close), stop_loss=bar.close - 3.0 * bar.atr)
            state.mark = bar.close
    elif account.n_entries < 3 and bar.close > state.mark + bar.atr:
        account.buy(share=p.risk, limit=bar.close - 0.5 * bar.atr, valid_bars=3)
        state.mark = bar.close
    else:
        account.move_stop_loss(max(account.stop_loss, bar.close - 3.0 * bar.atr))
        account.sell(share_of_position=0.5, limit=account.entry_price + 2.0 * bar.atr, once=True)


def test_the_trend():
    check(trend, n=400)
    program = trend.program()
    assert trend.params == dict.fromkeys(("fast", "slow", "cooldown", "risk"), bt.expr.REQUIRED)
    assert trend.value_names == ("cooldown", "risk")
    assert [repr(each) for each in trend.line_nodes] == ["sma(close, slow)", "sma(close, fast)", "atr(14)", "close"]
    assert trend.state_names == ("mark",)
    assert program.n_slots == 3
    assert program.actions["slot"].tolist() == [0, 1, -1, 2]
    assert program.fields_used == sum(
        1 << FIELDS.index(name)
        for name in ("entry_price", "n_entries", "stop_loss", "last_exit_reason", "last_exit_bar", "index")
    )
    assert [call.text.split("(")[0] for call in trend.calls] == [
        "account.buy",
        "account.buy",
        "account.move_stop_loss",
        "account.sell",
    ]
    assert {(call.function, call.file) for call in trend.calls} == {("trend", __file__)}
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert all(call.text == source[call.line - 1].strip() for call in trend.calls)
    assert program.actions["line"].tolist() == [call.line for call in trend.calls]


def middle(bar, weight=0.5):
    total = bar.high * weight + bar.low * (1.0 - weight)
    if total > bar.close:
        return total
    return (total + bar.close) / 2.0


def enter(bar, account, size, wide=False):
    """A helper without a value, with an order on one path."""
    if wide:
        return
    if bar.close > bar.open:
        account.buy(units=size, stop=middle(bar, weight=0.25), valid_bars=2)
    else:
        account.sell(units=size, once=True, reduce_only=True)


@bt.on_bar(atr=ATR, state={"a": 0.0, "on": False})
def branches(bar, account, state, p):
    x: float = bar.close - bar.open
    y = 1.0 if x > 0.0 else -1.0 if x < 0.0 else 0.0
    if 0.0 < x <= bar.atr < THRESHOLD:
        y += 2.0
    elif not (x < 0.0 or bar.atr != x) and IS_ON:
        y -= p.size
        if account.is_long:
            account.close()
            return
        y = -y
    else:
        pass
    state.on = account.is_short or (y == 1.0) == state.on
    state.a = max(min(y, bar.high, state.a), abs(-x), math.sqrt(abs(bar.low)))
    if state.on != account.is_flat:
        account.cancel()
        account.buy(value=y, limit=bar.low, take_profit=bt.above_entry(x), trailing_stop=bt.distance(bar.atr), stop_loss=None)
    account.sell(share=HALF, trailing_stop=0.1, stop_loss=bt.above_entry(p.size / Settings.LIMIT))


@bt.on_bar(state={"n": 1.0, "first": 0, "seen": True})
def loops(bar, account, state, p):
    total = 0.0
    for i in range(COUNT):
        if bar.previous(i).close < bar.previous(i + 1).close:
            continue
        total += bar.previous(i).close * i
        if total > p.limit:
            state.first = i
            break
        for j in range(i, 0, -1):
            state.n *= 1.5
            if state.n > 100.0:
                break
            if j == 2 and bar.open > bar.previous(j).open:
                return
            account.buy(units=state.n, limit=bar.low - j, valid_bars=j + 1)
    enter(bar, account, total, wide=state.seen)
    enter(bar, account, size=2.0)
    state.seen = total > 0.0 and not state.seen
    account.move_take_profit(i + 1.0, share=0.5)
    account.move_take_profit(price=total)


@bt.on_bar(up=lines.close > SLOW, odds=bt.param("odds"), state={"a": 0.0, "b": 1.0, "c": 0.0})
def odd(bar, account, state, p):
    print(f"bar {bar.index}", account.equity)
    state.a, state.b = state.b, state.a
    before = bar.previous(1)
    both = bar.up & before.up | (account.units > bar.odds) ^ account.is_flat
    count = (bar.close > bar.open) + (bar.up + True) * 2
    if account.n_entries and p.flag:
        count -= account.is_long
    one = other = count
    if both:
        if bar.up:
            state.c = count
            return
        state.c += one
    elif bool(p.flag) or before.up:
        account.sell(share_of_position=1.0)
        state.c = other
    state.c = float(state.c) + float("2.5") + before.previous(1).index
    account.buy(units=count, stop=bt.STOP, limit=math.pi if both else math.inf)


@bt.on_bar
def bare(bar, account, state, p):
    """No line, no state, no parentheses."""
    if account.is_flat and bar.close > bar.previous(1).close:
        account.buy(share=1.0)


@pytest.mark.parametrize("strategy", [branches, loops, odd, bare], ids=lambda strategy: strategy.name)
def test_constructs(strategy):
    check(strategy, n=400)


def test_slots_of_helpers_and_passes():
    assert [call.function for call in loops.calls] == ["loops"] * 3 + ["enter"] * 4 + ["loops"] * 2
    program = loops.program()
    assert program.n_slots == 7
    assert program.actions["slot"].tolist() == [0, 1, 2, 3, 4, 5, 6, -1, -1]
    assert program.actions["once"].tolist() == [0, 0, 0, 0, 1, 0, 1, 0, 0]
    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    assert all(call.text == source[call.line - 1].strip() for call in loops.calls)


def test_tables_of_a_program():
    program = odd.program()
    assert isinstance(program, Program)
    assert odd.value_names == ("flag", "odds")
    assert odd.params == {"slow": bt.expr.REQUIRED, "odds": bt.expr.REQUIRED, "flag": bt.expr.REQUIRED}
    assert [repr(each) for each in odd.mask_nodes] == ["close > sma(close, slow)"]
    assert sorted(program.masks.tolist()) == [[0, 0], [0, 1]]
    assert odd.states == {"a": 0.0, "b": 1.0, "c": 0.0}
    assert odd.state_names == ()  # no order depends on any of them
    assert program.code.dtype == np.int32
    assert program.n_numbers >= program.first_number
    assert program.n_words >= program.first_word


def ops(strategy):
    program = strategy.program()
    return [OPS[op] for op in program.code[:, 0].tolist()]


def strategy_of(body, decorator="state={'a': 0.0, 'on': False}", **names):
    """A strategy whose function has a body."""
    text = f"@bt.on_bar({decorator})\ndef strategy(bar, account, state, p):\n" + "".join(
        f"    {line}\n" for line in body.splitlines()
    )
    return written(text, **names)["strategy"]


def test_expressions_are_shared_and_folded():
    body = """x = (bar.close - bar.open) * (2.0 + 3.0)
y = (bar.close - bar.open) * 5.0
unused = bar.high / bar.low
if x < 0.0:
    account.buy(units=abs(x) + abs(y))
else:
    account.sell(units=math.inf + bar.close)"""
    strategy = strategy_of(body)
    assert sorted(ops(strategy)) == sorted(["SUB", "MUL", "LT", "NOT", "JUMP", "ABS", "ADD", "JUMP", "ADD"])
    assert strategy.program().constants.tolist() == [5.0, 0.0, math.inf]
    check(strategy)


def test_constants_are_folded_as_numbers_are():
    """The first of two equal ones, and of NaN and a number, as Python's min and max."""
    pairs = [(0.0, -0.0), (-0.0, 0.0), (math.nan, 1.0), (1.0, math.nan), (1.0, 2.0), (2.0, 1.0)]
    for a, b in pairs:
        for name in ("min", "max"):
            strategy = strategy_of(f"account.buy(units={name}(A, B) + bar.low, limit=bar.low / {name}(A, B))", A=a, B=b)
            assert sorted(ops(strategy)) in (["ADD", "DIV"], ["ADD"])
            check(strategy)


@pytest.mark.parametrize("is_dearer", [False, True])
def test_assignments_of_one_value_with_another_between(is_dearer, monkeypatch):
    cost = passes._added_cost
    monkeypatch.setattr(passes, "_added_cost", lambda *each: -cost(*each) if is_dearer else cost(*each))
    body = """if bar.close > 1.0:
    state.a = 1.0
if bar.open > 1.0:
    state.a = 2.0
if bar.high > 1.0:
    state.a = 1.0
if bar.low > 1.0:
    state.a = 1.0
account.buy(units=state.a)"""
    check(strategy_of(body + "\nif bar.index > state.a:\n    account.sell(units=1.0)"), n=200)


def test_operations_that_change_nothing():
    body = """account.buy(units=(bar.close - 0.0) * 1.0 / 1.0, limit=1.0 * bar.low)
account.sell(units=bar.close + 0.0, limit=bar.close - -0.0, stop=0.0 - bar.close)
account.close()"""
    strategy = strategy_of(body)
    assert ops(strategy) == ["ADD", "SUB", "SUB"]
    check(strategy)


def test_what_depends_on_parameters_is_computed_once():
    strategy = strategy_of("if bar.close > p.a * 2.0 + p.b and p.a > p.b:\n    account.buy(units=p.a / p.b + bar.close)")
    program = strategy.program()
    assert ops(strategy)[: program.n_setup] == ["MUL", "ADD", "LT", "DIV"]
    assert ops(strategy)[program.n_setup :] == ["LT", "AND", "JUMP", "ADD"]
    kept = set(program.code[: program.n_setup, 1].tolist())
    rest = program.code[program.n_setup :]
    numbers = [op not in (*WORD_OPS, "JUMP") for op in ops(strategy)[program.n_setup :]]
    assert kept.isdisjoint(rest[numbers, 1].tolist()) or program.n_setup == 0
    check(strategy)


def test_what_one_order_needs_is_skipped_without_it():
    strategy = strategy_of("if bar.close > bar.open:\n    state.a = state.a / bar.high + 1.0\n    account.buy(units=state.a)")
    assert ops(strategy) == ["LT", "JUMP", "DIV", "ADD", "SELECT"]
    assert strategy.program().code[1, 3] == 4
    check(strategy)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (  # the quotient is needed on both sides of the inner condition, thus under the outer one
            """if bar.close > bar.open:
    if bar.high > bar.open:
        account.buy(units=bar.close / bar.low)
    else:
        account.sell(units=bar.close / bar.low)""",
            ["LT", "LT", "AND", "ANDNOT", "JUMP", "DIV"],
        ),
        (  # needed where the function was left, and where it was not: nothing is true of both
            """x = bar.close / bar.low
if bar.close > bar.open:
    account.sell(units=x)
    if bar.high > bar.open:
        return
account.buy(units=x)""",
            ["LT", "LT", "ANDNOT", "NOT", "OR", "DIV"],
        ),
    ],
)
def test_what_several_orders_need(body, expected):
    strategy = strategy_of(body)
    assert sorted(ops(strategy)) == sorted(expected)
    check(strategy, n=200)


def test_no_choice_where_paths_agree():
    body = """x = bar.close
if bar.close > bar.open:
    x = bar.close
    y = bar.high
else:
    y = bar.high
account.buy(units=x + y)"""
    assert ops(strategy_of(body)) == ["ADD"]


def test_paths_that_all_come_back_are_one():
    """What stands behind a helper or a loop is reached whichever way they were left."""
    text = """def sign(x):
    if x > 0.0:
        return 1.0
    return -1.0
@bt.on_bar
def strategy(bar, account, state, p):
    x = sign(bar.close)
    for i in range(2):
        if bar.open > bar.high + i:
            continue
        if bar.open > bar.low + i:
            break
        x += 1.0
    if account.is_flat:
        account.buy(units=bar.close, limit=x)
"""
    strategy = written(text)["strategy"]
    assert strategy.program().actions["where"].tolist() == [2]  # the flag is_flat itself
    check(strategy)


def test_constants_of_the_module_choose_a_path():
    body = "if FLAG:\n    account.buy(units=N)\nelse:\n    account.sell(units=N)"
    buys, sells = strategy_of(body, FLAG=True, N=2), strategy_of(body, FLAG=False, N=2)
    assert (len(buys.calls), buys.program().actions["kind"][0], sells.program().actions["kind"][0]) == (1, 0, 1)
    assert ops(buys) == []


def test_no_instruction_writes_what_it_reads():
    for strategy in (trend, branches, loops, odd):
        program = strategy.program()
        for code in program.code.tolist():
            op, out, *operands = code
            name = OPS[op]
            if name in ("ADD", "SUB", "MUL", "DIV", "MIN", "MAX"):
                assert out not in operands[:2]
            elif name in ("NEG", "ABS", "SQRT", "NOT"):
                assert out != operands[0]
            elif name == "SELECT":
                assert out not in operands[1:]
            elif name in ("AND", "OR", "XOR", "ANDNOT"):
                assert out not in operands[:2]


def test_the_key_is_of_what_is_computed():
    one = strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)")
    other = strategy_of("# another text\nif bar.open < bar.close * p.a:\n    y = bar.close * p.a\n    account.buy(units=y)")
    assert one.key == other.key
    assert hash(one.key) == hash(other.key)
    named = strategy_of(
        "if bar.open < bar.c * p.a:\n    account.buy(units=bar.c * p.a)", "c=lines.close, state={'other': 0.0, 'z': False}"
    )
    assert named.key == one.key
    differing = [
        strategy_of("x = bar.close * p.b\nif x > bar.open:\n    account.buy(units=x)"),
        strategy_of("x = bar.close * p.a\nif x >= bar.open:\n    account.buy(units=x)"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(share=x)"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x, once=True)"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.sell(units=x)"),
        strategy_of("x = bar.close * p.a\nif x > bar.previous(1).open:\n    account.buy(units=x)"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)", "params={'a': 1.0}"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)\nstate.a = x"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)\nstate.a = -x"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)\nstate.on = True"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)\nstate.a = x", "state={'a': 0.0}"),
        strategy_of("x = bar.close * p.a\nif x > bar.open:\n    account.buy(units=x)\nstate.a = x", "state={'a': 1.0}"),
    ]
    assert len({each.key for each in [one, *differing]}) == 1 + len(differing)


def test_the_key_is_the_same_in_every_process():
    code = "import test_machine_front as f; print([each.key for each in (f.trend, f.branches, f.loops, f.odd)])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT / "tests",
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert done.stdout == f"{[each.key for each in (trend, branches, loops, odd)]}\n"


def test_a_strategy_shows_its_function():
    from backtest.study.code import _sources

    assert trend.__doc__ == "SMA trend with a cooldown after a stop, up to three units, half out at +2 ATR."
    assert list(inspect.signature(trend).parameters) == ["bar", "account", "state", "p"]
    assert list(_sources(trend)) == [trend.function]


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps], ids=["pickle", "cloudpickle"])
def test_strategies_are_pickled(dumps):
    again = pickle.loads(dumps(trend))
    assert (again.name, again.key, again.params, again.calls) == (trend.name, trend.key, trend.params, trend.calls)
    for one, other in zip(again.program(), trend.program(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again.function is trend.function
    with pytest.raises(AttributeError, match="BarStrategy is immutable; cannot set 'name'"):
        again.name = "x"


def test_without_its_module_a_pickle_has_no_function():
    strategy = pickle.loads(pickle.dumps(strategy_of("account.buy(units=1.0)")))
    assert strategy.program().n_slots == 1
    with pytest.raises(
        bt.InputError, match=r"the function of strategy must be importable here, got no written\.strategy that is"
    ):
        _ = strategy.function


def test_parameters_and_their_defaults():
    strategy = strategy_of(
        "if p.on and bar.fast > bar.close:\n    account.buy(units=p.size * p.n)",
        "fast=lines.sma(lines.close, bt.param('n', 20)), params={'size': 2, 'on': True}",
    )
    assert strategy.params == {"n": 20.0, "on": True, "size": 2.0}
    assert repr(strategy) == "BarStrategy(strategy: n (default 20.0), on (default True), size (default 2.0))"
    assert strategy.value_names == ("on", "size", "n")


def test_custom_lines_are_listed():
    @bt.line("n", version="1")
    def twice(bars, n):
        return bars.close * n

    strategy = strategy_of("if bar.up:\n    account.buy(units=bar.x)", "x=twice(2), up=twice(3) > 1", twice=twice)
    assert strategy.custom_lines() == [twice]
    assert strategy.n_columns is None


def test_relative_levels_in_python():
    assert tuple(bt.below_entry(0.05)) == ("below_entry", 0.05)
    assert tuple(bt.above_entry(1)) == ("above_entry", 1.0)
    assert tuple(bt.distance(2.5)) == ("distance", 2.5)
    with pytest.raises(bt.InputError, match="a level must be a number, got 'x'"):
        bt.below_entry("x")


def test_reasons_are_places_in_their_names():
    for name in ("SIGNAL", "REVERSE", "STOP", "TARGET", "TRAIL", "TIME", "END", "BUST", "LIQUIDATION"):
        assert REASONS[getattr(bt, name)] == name.lower()


def test_decorating_is_quick():
    best = math.inf
    for _ in range(20):
        begin = time.process_time()
        BarStrategy(trend.function, trend.lines, trend.states, {})
        best = min(best, time.process_time() - begin)
    assert best < 0.02, "a strategy is read in 1 to 3 ms"


def test_the_machine_loads_when_it_is_needed():
    code = "import sys, backtest; print([name for name in sys.modules if name.startswith('backtest.machine.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert "backtest.machine.decorate" in loaded
    assert loaded.isdisjoint({"backtest.machine.compile", "backtest.machine.statements", "backtest.machine.assemble"})


def test_the_kernels_have_the_same_tables():
    from backtest._pure import _machine_layout as layout
    from backtest._pure import machine

    tables = {"ops": OPS, "fields": FIELDS, "flags": FLAGS, "sums": len(SUMS.names), "lanes": 64}
    assert tables == machine.LAYOUT
    codes = {
        KINDS: ("BUY", "SELL", "CLOSE_POSITION", "CANCEL", "MOVE_STOP", "MOVE_TARGET"),
        SIZE_KINDS[1:]: ("UNITS", "SHARE", "VALUE", "SHARE_OF_POSITION"),
        LEVEL_KINDS[1:]: ("PRICE", "BELOW_ENTRY", "ABOVE_ENTRY"),
        TRAIL_KINDS[1:]: ("FRACTION", "DISTANCE"),
        ORDER_STATUSES: ("RESTING", "FILLED", "EXPIRED", "REPLACED", "CANCELLED", "UNAFFORDABLE"),
        CANCEL_REASONS: ("ASKED", "POSITION_ENDED", "NOTHING_TO_REDUCE", "AT_BUST", "AFTER_LEVEL"),
        REASONS[1:]: [name.upper() for name in REASONS[1:]],
    }
    for names, theirs in codes.items():
        first = 0 if names in (KINDS, ORDER_STATUSES, CANCEL_REASONS) else 1
        assert [getattr(layout, name) for name in theirs] == list(range(first, first + len(names)))
    assert list(range(len(KINDS))) == [BUY, SELL, CLOSE, CANCEL, MOVE_STOP, MOVE_TARGET]
    assert len(FAULTS) - 1 == layout.FAULT_TARGET_SIDE
    assert all(dtype[name].itemsize == 8 for dtype in (ORDER, FAULT) for name in dtype.names)
    assert all(ACTION[name].itemsize == 4 for name in ACTION.names)
    assert ACTION.names[-len(OPERANDS) :] == OPERANDS == layout.NUMBERS

"""What a strategy's function must not contain: the text of every refusal, which names the line and says what to write."""

import pickle
import subprocess
import sys

import pytest
from machine_front import written

import backtest as bt

HEAD = """import numpy as np
NUMBERS = np.ones(3)
FACTORS = [1.0, 2.0]
TEXT = "text"
THRESHOLD = 1.0
HUGE = 2**60 + 1
LINE = bt.lines.close
class HELPER_CLASS: pass
def helper_partly(bar):
    if bar.close > 1:
        return 1.0
def helper_self(bar):
    return helper_self(bar)
helper_lambda = lambda bar: 1.0
def helper_star(*bars):
    return 1.0
def helper_one(bar, n):
    return n
def helper_nothing(bar):
    pass
@bt.on_bar
def other_strategy(bar, account, state, p):
    pass
@bt.on_bar(slow=bt.lines.sma(bt.lines.close, 3), state={"a": 0.0, "on": False})
def strategy(bar, account, state, p):
"""
#: Bodies and what is said of them; "{1}" stands for the function's name and the body's first line, "{2}" for its second.
REFUSED = [
    (
        "x = bar.close // 2",
        "{1} must not use //, got bar.close // 2; write / ; bt.Execution(whole_units=True) rounds the units of orders, and "
        "state counts whole numbers",
    ),
    ("x = bar.close % 2", "{1} must not use %, got bar.close % 2; count bars in state and start again at the limit"),
    (
        "x = bar.close ** 2",
        ("{1} must not use **, got bar.close ** 2; write x * x, or math.sqrt(x); powers of prices belong into a line (@bt.line)"),
    ),
    ("x = bar.close @ 2", "{1} must not use @, got bar.close @ 2; write + - * /"),
    ("x = bar.close & 2", "{1} must not use & between numbers, got bar.close & 2; write and"),
    (
        "x = round(bar.close)",
        (
            "{1} must not use round(...), got round(bar.close); all numbers are float64; bt.Execution(whole_units=True) "
            "rounds the units of orders, state counts whole numbers, and a line (@bt.line) may round"
        ),
    ),
    (
        "x = int(bar.close)",
        (
            "{1} must not use int(...), got int(bar.close); all numbers are float64; bt.Execution(whole_units=True) "
            "rounds the units of orders, state counts whole numbers, and a line (@bt.line) may round"
        ),
    ),
    (
        "x = math.floor(bar.close)",
        (
            "{1} must not use floor(...), got math.floor(bar.close); all numbers are float64; bt.Execution(whole_units=True) "
            "rounds the units of orders, state counts whole numbers, and a line (@bt.line) may round"
        ),
    ),
    (
        "x = math.exp(bar.close)",
        (
            "{1} must not use exp(...), got math.exp(bar.close); compute it in a line (@bt.line), which is "
            "shared between candidates"
        ),
    ),
    (
        "x = math.gamma(bar.close)",
        (
            "{1} must call min, max, abs, math.sqrt, bt.below_entry, bt.above_entry, bt.distance or plain Python "
            "functions, got math.gamma(bar.close); compute it in a line (@bt.line)"
        ),
    ),
    (
        "while bar.close > 1: pass",
        ("{1} must not use while, got while bar.close > 1:; a loop must be for name in range(constant), which is unrolled"),
    ),
    (
        "x = bar.close[1]",
        ("{1} must not use [...], got bar.close[1]; bar.previous(k).close is the close k bars ago; other series are lines"),
    ),
    (
        "x = [1, 2]",
        ("{1} must not use a list, got [1, 2]; keep numbers in state, and look back with bar.previous(k) or with a line"),
    ),
    (
        "x = {1: 2}",
        ("{1} must not use a dict, got {1: 2}; keep numbers in state, and look back with bar.previous(k) or with a line"),
    ),
    (
        'x = f"{bar.close}"',
        (
            "{1} must not use an f-string, got f'{bar.close}'; only numbers and booleans can be used; print(...) "
            "may show text in bt.step_through"
        ),
    ),
    ('x = "text"', ("{1} must not use text, got 'text'; numbers and booleans stand for choices; bt.STOP names an exit's reason")),
    ("x = lambda y: y", "{1} must not use lambda, got lambda y: y; define a helper function outside, above the strategy"),
    ("x = (y := 2)", "{1} must not use :=, got (y := 2); assign on a line of its own"),
    ("x = 1j", "{1} must not use complex, got 1j; write a float"),
    (
        "x, y = bar.close",
        ("{1} must not use such an assignment, got x, y = bar.close; assign to a name or to state.name, one by one"),
    ),
    ("del x", "{1} must not use del, got del x; a name may simply be assigned again"),
    ("import os", "{1} must not use import, got import os; import at the top of the module"),
    (
        "raise ValueError",
        ("{1} must not use raise, got raise ValueError; a strategy runs for thousands of candidates at once; write return"),
    ),
    (
        "assert bar.close > 1",
        (
            "{1} must not use assert, got assert bar.close > 1; a strategy runs for thousands of candidates at "
            "once; bt.step_through shows every bar"
        ),
    ),
    (
        'with open("x"): pass',
        ("{1} must not use with, got with open('x'):; only numbers, the bar, the account, the state and parameters can be used"),
    ),
    (
        "try: pass\nexcept ValueError: pass",
        "{1} must not use try, got try:; nothing in a strategy raises: x / 0 is infinite or NaN; write an if",
    ),
    ("global x", '{1} must not use global, got global x; what lasts from bar to bar is state: state={"name": 0.0}'),
    ("def inner(): pass", "{1} must not use an inner def, got def inner():; define the helper outside the function, above it"),
    (
        "class Inner: pass",
        ("{1} must not use class, got class Inner:; only numbers, the bar, the account, the state and parameters can be used"),
    ),
    (
        "x = bar.close is None",
        ("{1} must not use None, got bar.close is None; a level that is not set is infinite, and account.is_flat is known"),
    ),
    ("x = bar.close in (1, 2)", "{1} must not use in, got bar.close in (1, 2); write a == x or b == x"),
    ("x = ~account.is_flat", "{1} must not use ~, got ~account.is_flat; write not"),
    (
        "x = bar.close and bar.open",
        ("{1} must combine booleans by and / or, got the number bar.close; write a comparison, or x if condition else y"),
    ),
    ("x = bar\naccount.buy(units=x)", "{2} must use numbers, got the bar x; write x.close"),
    ("x = state.a + bar", "{1} must use numbers, got the bar bar; write bar.close"),
    (
        "x = math + 1",
        (
            "{1} must use numbers and booleans, got math, which is a module; constants are int, float or bool; "
            "other numbers are lines, parameters or state"
        ),
    ),
    ("x = account.equty", "{1} must know account.equty, got a name that is not there; did you mean 'equity'?"),
    ("x = account.position", "{1} must know account.position, got a name that is not there; did you mean 'units'?"),
    ("x = account.entry", "{1} must know account.entry, got a name that is not there; did you mean 'entry_price'?"),
    ("x = bar.clos", "{1} must know bar.clos, got a name that is not there; did you mean 'close'?"),
    ("x = bar.slw", "{1} must know bar.slw, got a name that is not there; did you mean 'slow'?"),
    (
        "x = bar.whatever",
        (
            "{1} must know bar.whatever, got a name that is not there (known: open, high, low, close, volume, "
            "slow, index, previous); lines are declared with the decorator: @bt.on_bar(name=line)"
        ),
    ),
    ("x = state.b", "{1} must know state.b, got a name that is not there (known: a, on)"),
    (
        "state.a = True",
        (
            "{1} must keep state 'a' a number, as it starts (0.0), got a boolean in state.a = True; write 1.0 "
            "and 0.0, or start it as True or False"
        ),
    ),
    (
        "state.on = 1.0",
        ("{1} must keep state 'on' a boolean, as it starts (False), got a number in state.on = 1.0; write x != 0"),
    ),
    ("state.b = 1.0", "{1} must know state.b, got a name that is not there (known: a, on)"),
    ("x = unknown", "{1} must know its names when it is decorated, got 'unknown', which is not defined above it"),
    (
        "x = THRESHOLDS",
        (
            "{1} must know its names when it is decorated, got 'THRESHOLDS', which is not defined above it; did "
            "you mean 'THRESHOLD'?"
        ),
    ),
    ("x = y", "{1} must know its names when it is decorated, got 'y', which is not defined above it"),
    (
        "if bar.close > 1:\n    x = 1.0\naccount.buy(units=x)",
        "{3} must assign 'x' on every path that leads here, got one that leaves it out",
    ),
    (
        "if bar.close > 1:\n    x = 1.0\nelse:\n    x = True\naccount.buy(units=x)",
        "{5} must give 'x' one kind of value, got a number on one path and a boolean on another",
    ),
    (
        "x = 1.0 if bar.close > 1 else True",
        "{1} must give x one kind of value, got a number on one path and a boolean on another",
    ),
    (
        "x = bar.close if bar.close > 1 else None\naccount.buy(units=x)",
        "{1} must give x one kind of value, got two on two paths; write the whole call in an if and its else",
    ),
    ("for i in range(0):\n    pass\nx = i", "{3} must assign 'i' before it is used"),
    (
        "for i in [1, 2]: pass",
        (
            "{1} must loop over range(constant), got [1, 2]; write for name in range(constant); lines and "
            "bar.previous(k) look back"
        ),
    ),
    (
        "for i in range(p.n): pass",
        "{1} must know how often a loop runs, got range(p.n); use a constant, and an if or break inside",
    ),
    (
        "for i in range(bar.close): pass",
        "{1} must know how often a loop runs, got range(bar.close); use a constant, and an if or break inside",
    ),
    (
        "for i in range(2.5): pass",
        "{1} must know how often a loop runs, got range(2.5); use a constant, and an if or break inside",
    ),
    ("for i in range(1, 2, 0): pass", "{1} must loop with a step that is not 0, got range(1, 2, 0)"),
    ("for i in range(1000000): pass", "{1} must loop at most 20,000 times, got range(1000000); a loop is unrolled"),
    (
        "for i in range(100):\n    for j in range(1000):\n        state.a += bar.close * j",
        "{3} must have at most 20,000 operations, got more; a loop is unrolled: shorten it",
    ),
    (
        "for i in range(3): pass\nelse: pass",
        ("{1} must not use such a loop, got for i in range(3):; write for name in range(constant), without else"),
    ),
    (
        "for i in range(65): account.buy(units=1.0, limit=bar.low - i)",
        (
            "{1} must have at most 64 calls that place orders (each helper call and each pass of a loop counts), "
            "got one more: account.buy(units=1.0, limit=bar.low - i)"
        ),
    ),
    ("account.buy(1.0)", "{1} must name the arguments of an order, got account.buy(1.0); write account.buy(units=1.0)"),
    ("account.buy()", "{1} must give an order one size (units, share, value, share_of_position), got none in account.buy()"),
    (
        "account.buy(units=1.0, share=0.5)",
        (
            "{1} must give an order one size (units, share, value, share_of_position), got units and share in "
            "account.buy(units=1.0, share=0.5)"
        ),
    ),
    (
        "account.buy(unit=1.0)",
        (
            "{1} must know the arguments of an order (units, share, value, share_of_position, limit, stop, "
            "valid_bars, stop_loss, take_profit, trailing_stop, reduce_only, once), got unit; did you mean "
            "'units'?"
        ),
    ),
    ("account.buy(units=0)", "{1} must have units > 0, got 0.0"),
    ("account.buy(units=-5)", "{1} must have units > 0, got -5.0; account.buy and account.sell say the direction"),
    ("account.buy(share_of_position=1.5)", "{1} must have share_of_position > 0 and <= 1, got 1.5"),
    ("account.buy(share=0.0)", "{1} must have share > 0, got 0.0"),
    ("account.buy(units=1.0, limit=0)", "{1} must have limit > 0, got 0.0"),
    ("account.buy(units=1.0, limit=-1.0)", "{1} must have limit > 0, got -1.0"),
    ("account.buy(units=1.0, limit=math.nan)", "{1} must have limit > 0, got nan"),
    ("account.buy(units=1.0, limit=math.inf)", "{1} must have limit finite and > 0, got inf"),
    ("account.buy(units=math.inf)", "{1} must have units finite and > 0, got inf"),
    ("account.sell(units=-2 * THRESHOLD)", "{1} must have units > 0, got -2.0; account.buy and account.sell say the direction"),
    ("account.buy(units=1.0, take_profit=bt.above_entry(math.inf))", "{1} must have bt.above_entry finite and > 0, got inf"),
    ("account.buy(units=1.0, trailing_stop=bt.distance(0))", "{1} must have bt.distance finite and > 0, got 0.0"),
    (
        "account.buy(units=1.0, stop_loss=bt.below_entry(1.0))",
        "{1} must have bt.below_entry > 0 and < 1 (a fraction: 0.05 for 5 %), got 1.0",
    ),
    (
        "account.buy(units=1.0, stop_loss=bt.below_entry(5))",
        "{1} must have bt.below_entry > 0 and < 1 (a fraction: 0.05 for 5 %), got 5.0",
    ),
    (
        "account.buy(units=1.0, stop_loss=bt.below_entry(0.0))",
        "{1} must have bt.below_entry > 0 and < 1 (a fraction: 0.05 for 5 %), got 0.0",
    ),
    (
        "account.buy(units=1.0, stop_loss=bt.above_entry(0.1))",
        (
            "{1} must have the stop_loss of account.buy on its side of the entry, got bt.above_entry(0.1); write "
            "bt.below_entry(...)"
        ),
    ),
    (
        "account.sell(units=1.0, stop_loss=bt.below_entry(0.1))",
        (
            "{1} must have the stop_loss of account.sell on its side of the entry, got bt.below_entry(0.1); "
            "write bt.above_entry(...)"
        ),
    ),
    (
        "account.sell(units=1.0, take_profit=bt.above_entry(0.1))",
        (
            "{1} must have the take_profit of account.sell on its side of the entry, got bt.above_entry(0.1); "
            "write bt.below_entry(...)"
        ),
    ),
    (
        "account.buy(units=1.0, stop_loss=bt.distance(1.0))",
        (
            "{1} must give stop_loss a level of its kind, got bt.distance(1.0); write a price, "
            "bt.below_entry(fraction) or bt.above_entry(fraction)"
        ),
    ),
    (
        "account.buy(units=1.0, trailing_stop=bt.below_entry(0.1))",
        (
            "{1} must give trailing_stop a level of its kind, got bt.below_entry(0.1); write a fraction (0.05 "
            "for 5 %) or bt.distance(points)"
        ),
    ),
    ("account.buy(units=1.0, trailing_stop=0)", "{1} must have trailing_stop > 0, got 0.0"),
    ("account.buy(units=1.0, limit=bt.below_entry(0.1))", "{1} must give limit as a number, got bt.below_entry(0.1)"),
    ("account.buy(units=1.0, limit=1.0, valid_bars=0)", "{1} must have valid_bars > 0, got 0.0"),
    ("account.buy(units=1.0, limit=1.0, valid_bars=1.5)", "{1} must have valid_bars a whole number >= 1, got 1.5"),
    (
        "account.buy(units=1.0, valid_bars=3)",
        "{1} must give valid_bars to orders with limit or stop, got 3; a market order fills at once",
    ),
    (
        "account.buy(units=1.0, once=p.once)",
        "{1} must know once when it is decorated, got p.once; write True or False, and an if",
    ),
    ("account.buy(units=1.0, once=1)", "{1} must know once when it is decorated, got 1; write True or False, and an if"),
    (
        "account.buy(units=1.0, reduce_only=True, stop_loss=bar.low)",
        (
            "{1} must give levels to orders that open or add, got stop_loss in account.buy(units=1.0, "
            "reduce_only=True, stop_loss=bar.low); account.move_stop_loss(price) changes a position's level"
        ),
    ),
    (
        "account.sell(share_of_position=0.5, trailing_stop=0.1)",
        (
            "{1} must give levels to orders that open or add, got trailing_stop in "
            "account.sell(share_of_position=0.5, trailing_stop=0.1); account.move_stop_loss(price) changes a "
            "position's level"
        ),
    ),
    ("account.buy(**{})", "{1} must not use **, got account.buy(**{}); write the arguments one by one"),
    ("account.buy(units=bar)", "{1} must use numbers, got the bar bar; write bar.close"),
    (
        'account.buy(units="1")',
        ("{1} must not use text, got '1'; numbers and booleans stand for choices; bt.STOP names an exit's reason"),
    ),
    (
        "account.close(0.5)",
        (
            "{1} must call account.close without arguments, got account.close(0.5); "
            "account.sell(share_of_position=0.5) sells a part"
        ),
    ),
    (
        "account.cancel(all=True)",
        ("{1} must call account.cancel without arguments, got account.cancel(all=True); it cancels every resting order"),
    ),
    ("account.move_stop_loss()", "{1} must call account.move_stop_loss(price), got account.move_stop_loss()"),
    (
        "account.move_stop_loss(bt.below_entry(0.1))",
        (
            "{1} must move a level to a price, got account.move_stop_loss(bt.below_entry(0.1)); write "
            "account.entry_price * (1 - x) or bar.close - x"
        ),
    ),
    ("account.move_stop_loss(stop=1.0)", "{1} must call account.move_stop_loss(price), got account.move_stop_loss(stop=1.0)"),
    ("account.move_stop_loss(-1.0)", "{1} must have price > 0, got -1.0"),
    ("account.move_take_profit(1.0, 2.0)", "{1} must have share > 0 and <= 1, got 2.0"),
    (
        "account.move_take_profit(1.0, 0.5, 3)",
        "{1} must call account.move_take_profit(price, share), got account.move_take_profit(1.0, 0.5, 3)",
    ),
    ("account.close", "{1} must not have expressions without effect, got account.close; write account.close()"),
    ("bar.close > 2", "{1} must not have expressions without effect, got bar.close > 2"),
    (
        "x = account.buy(units=1.0)",
        "{1} must place orders on lines of their own, got account.buy(units=1.0); an order gives nothing back",
    ),
    (
        "account.stop_loss = 3.0",
        (
            "{1} must not assign to account.stop_loss; account.move_stop_loss(price) moves a stop, and a value "
            "of this bar is a name"
        ),
    ),
    (
        "account.units += 3.0",
        ("{1} must not assign to account.units; account.move_stop_loss(price) moves a stop, and a value of this bar is a name"),
    ),
    (
        "x = bar.previous(p.n).close",
        (
            "{1} must look back a constant whole number of bars >= 0, got bar.previous(p.n); a distance that "
            "varies belongs into a line: lines.previous(source, bt.param(...))"
        ),
    ),
    (
        "x = bar.previous(-1).close",
        (
            "{1} must look back a constant whole number of bars >= 0, got bar.previous(-1); a distance that "
            "varies belongs into a line: lines.previous(source, bt.param(...))"
        ),
    ),
    (
        "x = bar.previous(1.5).close",
        (
            "{1} must look back a constant whole number of bars >= 0, got bar.previous(1.5); a distance that "
            "varies belongs into a line: lines.previous(source, bt.param(...))"
        ),
    ),
    ("x = bar.previous.close", "{1} must call bar.previous, got its name alone; write bar.previous(...)"),
    ("x = bar.previous(1) + 1", "{1} must use numbers, got the bar bar.previous(1); write bar.previous(1).close"),
    (
        "x = bt.lines.sma(bt.lines.close, 3)",
        (
            "{1} must not use bt.lines.sma(...), got bt.lines.sma(bt.lines.close, 3); lines are declared with "
            "the decorator, @bt.on_bar(name=line), and read as bar.name"
        ),
    ),
    (
        "x = LINE + 1",
        (
            "{1} must use numbers and booleans, got LINE, which is a Price; a line is declared with the "
            "decorator, @bt.on_bar(name=line), and read as bar.name"
        ),
    ),
    ("x = bt.STPO", "{1} must know bt.STPO, got a name that is not there; did you mean 'STOP'?"),
    ("x = math.sqr(2)", "{1} must know math.sqr, got a name that is not there; did you mean 'sqrt'?"),
    ("x = min(bar.close)", "{1} must give min at least 2 numbers, without names, got min(bar.close)"),
    ("x = max([1, 2])", "{1} must give max at least 2 numbers, without names, got max([1, 2])"),
    ("x = min(bar.close, key=2)", "{1} must give min at least 2 numbers, without names, got min(bar.close, key=2)"),
    ("x = abs()", "{1} must give abs 1 number, without names, got abs()"),
    ("x = print(1)", "{1} must not use print(...), got print(1); it must stand on a line of its own"),
    ("x = range(3)", "{1} must not use range(...), got range(3); it may only stand in for name in range(constant)"),
    ("x = bar.close.real", "{1} must use numbers as they are, got .real of the number bar.close"),
    (
        "x = bt.below_entry(0.1) + 1",
        (
            "{1} must use bt.below_entry(...) as a level of an order only, got bt.below_entry(0.1); a price is "
            "account.entry_price * (1 - x)"
        ),
    ),
    ("x = HUGE", "{1} must use whole numbers up to 2**53, got HUGE; write a float"),
    ("return 1.0", "{1} must return nothing, got return 1.0; orders are placed by account.buy and account.sell"),
    (
        "x = helper_partly(bar)",
        (
            "helper_partly (strategy.py:9) must return a value on every path or on none, got some of both; "
            "return a number at its end too"
        ),
    ),
    (
        "x = helper_self(bar)",
        ("helper_self (strategy.py:13) must not call itself, got helper_self(bar); write for name in range(constant)"),
    ),
    ("x = helper_one(bar)", "{1} must call helper_one(bar, n), got helper_one(bar): missing a required argument: 'n'"),
    ("x = helper_lambda(bar)", "a strategy must be a function with a name, got a lambda (strategy.py:14); write def"),
    ("x = helper_star(bar)", "{1} must call functions with plain parameters, got helper_star(bar), which takes * or **"),
    ("x = helper_one(*bar)", "{1} must not use * and ** in calls, got helper_one(*bar); write the arguments one by one"),
    ("helper_nothing(bar) + 1", "{1} must use numbers and booleans, got helper_nothing(bar), which has no value"),
    ("x = helper_nothing(bar) + 1", "{1} must use numbers and booleans, got helper_nothing(bar), which has no value"),
    ("state.a = helper_nothing(bar)", "{1} must store numbers and booleans in state, got state.a = helper_nothing(bar)"),
    ("match bar.close:\n    case 1: pass", "{1} must not use match, got match bar.close:; write if and elif"),
    (
        "yield 1",
        ("{1} must not use yield, got (yield 1); orders are placed by account.buy and account.sell; what lasts is state"),
    ),
    (
        "x = np.log(bar.close)",
        ("{1} must not use log(...), got np.log(bar.close); compute it in a line (@bt.line), which is shared between candidates"),
    ),
    (
        "x = np.where(bar.close > 1, 1, 2)",
        "{1} must not use where(...), got np.where(bar.close > 1, 1, 2); write a if condition else b",
    ),
    ("x = sum([1])", "{1} must not use sum(...), got sum([1]); write a + b + c"),
    ("x = np.sqrt(bar.close)", "{1} must not use sqrt(...), got np.sqrt(bar.close); write math.sqrt"),
    (
        'x = float("low")',
        ("{1} must not use text, got 'low'; numbers and booleans stand for choices; bt.STOP names an exit's reason"),
    ),
    ("x = float(bar)", "{1} must use numbers, got the bar bar; write bar.close"),
    (
        "x = HELPER_CLASS()",
        (
            "{1} must call min, max, abs, math.sqrt, bt.below_entry, bt.above_entry, bt.distance or plain Python "
            "functions, got HELPER_CLASS(); compute it in a line (@bt.line)"
        ),
    ),
    (
        "x = other_strategy(bar)",
        ("{1} must not use another strategy, got other_strategy(bar); a helper is a function without a decorator"),
    ),
    ("x = state.a.b", "{1} must use numbers as they are, got .b of the number state.a"),
    ("break_me = TEXT", "{1} must assign numbers and booleans, got 'text'; constants are int, float or bool"),
]

KNOWN = "{1} must know the arguments of an order ("
KNOWN += (
    "units, share, value, share_of_position, limit, stop, valid_bars, stop_loss, take_profit, trailing_stop, reduce_only, once)"
)
UNKNOWN = "{1} must know its names when it is decorated, got "
WEEKDAY = (
    "got a name that is not there; the time of a bar is a line: @bt.line() above def weekday_of(bars): return "
    "bars.times().day_of_week, then @bt.on_bar(weekday=weekday_of()) and bar.weekday"
)
NO_FUTURE = (
    "{1} must know bar.next, got a name that is not there; what comes after this bar is not known when it is decided; "
    "bar.previous(1) is the bar before"
)
NO_NONE = "a level that is not set is infinite, and account.is_flat is known"
LOOK_BACK = "bar.previous(k).close is the close k bars ago; other series are lines"
SIZE = "units= (how many), share= (a part of the equity) or value= (money)"
WHOLE = (
    "all numbers are float64; bt.Execution(whole_units=True) rounds the units of orders, state counts whole numbers, and a line "
    "(@bt.line) may round"
)
FIXED = "and a fixed price below 1 is a parameter, p.name"
FRACTION = "{1} must have trailing_stop of account.buy > 0 and < 1 (a fraction: 0.05 for 5 %), got "
ONCE = "that before both, so that the last move alone would count: move it once, to the min or max of all"
#: Habits from other tools, each with what to write here.
HABITS = [
    (
        "position.close()",
        UNKNOWN + "'position', which is not defined above it; account.close() closes the position, account.units is its size and "
        "account.is_flat tells that there is none",
    ),
    (
        "self.buy(units=1.0)",
        UNKNOWN + "'self', which is not defined above it; a strategy is a function without self: bar.close, account.buy(...), "
        "state.name and p.name",
    ),
    (
        "x = data.Close",
        UNKNOWN + "'data', which is not defined above it; bar.close is the close of this bar, bar.previous(1).close that of the "
        "bar before",
    ),
    (
        "x = trade.pl",
        UNKNOWN + "'trade', which is not defined above it; account.entry_price, account.profit and account.units are of the open "
        "position; account.close() closes it",
    ),
    (
        "order.cancel()",
        UNKNOWN
        + "'order', which is not defined above it; account.cancel() cancels every resting order; an order gives nothing back",
    ),
    ("buy(units=1.0)", UNKNOWN + "'buy', which is not defined above it; write account.buy(...)"),
    ("x = close", UNKNOWN + "'close', which is not defined above it; write bar.close"),
    ("x = equity", UNKNOWN + "'equity', which is not defined above it; write account.equity"),
    ("account.buy(units=1.0, sl=2.0)", KNOWN + ", got sl; write stop_loss="),
    ("account.buy(units=1.0, tp=2.0)", KNOWN + ", got tp; write take_profit="),
    ("account.buy(units=1.0, trail=0.1)", KNOWN + ", got trail; write trailing_stop="),
    ("account.buy(size=1.0)", KNOWN + ", got size; write " + SIZE),
    ("account.buy(qty=1.0)", KNOWN + ", got qty; write " + SIZE),
    ("account.buy(percent=0.5)", KNOWN + ", got percent; write share= (a part of the equity: 0.5 for 50 %)"),
    (
        "account.buy(units=1.0, price=2.0)",
        KNOWN + ", got price; write limit= or stop=, without which an order fills at the market",
    ),
    ("x = bar.next(1)", NO_FUTURE),
    ("x = bar.next.close", NO_FUTURE),
    ("x = bar.time", "{1} must know bar.time, " + WEEKDAY),
    ("x = bar.date.weekday()", "{1} must know bar.date, " + WEEKDAY),
    ("x = bar.weekday", "{1} must know bar.weekday, " + WEEKDAY),
    ("x = bar.hour", "{1} must know bar.hour, " + WEEKDAY.replace("day_of_week", "hour").replace("weekday", "hour")),
    ("x = account.stop_loss == None", "{1} must not use None, got account.stop_loss == None; " + NO_NONE),
    ("x = None != account.stop_loss", "{1} must not use None, got None != account.stop_loss; " + NO_NONE),
    ("x = None is account.stop_loss", "{1} must not use None, got None is account.stop_loss; " + NO_NONE),
    ("x = p['fast']", "{1} must not use [...], got p['fast']; write p.fast"),
    ("x = p['a b']", "{1} must not use [...], got p['a b']; write p.name"),
    ("x = p.get('fast')", "{1} must call functions only, got p.get('fast'); write p.name"),
    ("x = state['a']", "{1} must not use [...], got state['a']; write state.a"),
    ("x = account['equity']", "{1} must not use [...], got account['equity']; write account.equity"),
    ("x = bar['close']", "{1} must not use [...], got bar['close']; write bar.close"),
    ("x = bar[-1]", "{1} must not use [...], got bar[-1]; " + LOOK_BACK),
    ("x = bar.close[-1]", "{1} must not use [...], got bar.close[-1]; " + LOOK_BACK),
    ("x = FACTORS[0]", "{1} must not use [...], got FACTORS[0]; each number needs a name of its own: first, second = 1.0, 2.0"),
    ("x = NUMBERS[0]", "{1} must not use [...], got NUMBERS[0]; a series is a line (@bt.line)"),
    ("x = account.is_flat()", "{1} must call functions only, got account.is_flat(); write account.is_flat, without parentheses"),
    (
        "bar.close()",
        "{1} must call functions only, got bar.close(); write bar.close, without parentheses; account.close() closes "
        "the position",
    ),
    ("x = bar.high()", "{1} must call functions only, got bar.high(); write bar.high, without parentheses"),
    (
        "account.buy(units=int(account.equity / bar.close))",
        "{1} must not use int(...), got int(account.equity / bar.close); " + WHOLE,
    ),
    (
        "account.buy(units=1.0, stop_loss=0.05)",
        "{1} must have stop_loss a price, got 0.05; bt.below_entry(0.05) is 5 % below the entry, " + FIXED,
    ),
    (
        "account.buy(units=1.0, take_profit=THRESHOLD / 10)",
        "{1} must have take_profit a price, got 0.1; bt.above_entry(0.1) is 10 % above the entry, " + FIXED,
    ),
    (
        "account.sell(units=1.0, stop_loss=0.07)",
        "{1} must have stop_loss a price, got 0.07; bt.above_entry(0.07) is 7 % above the entry, " + FIXED,
    ),
    (
        "account.sell(units=1.0, take_profit=0.07)",
        "{1} must have take_profit a price, got 0.07; bt.below_entry(0.07) is 7 % below the entry, " + FIXED,
    ),
    (
        "account.move_stop_loss(0.05)",
        "{1} must move a level to a price, got 0.05; account.entry_price * (1 - 0.05) is 5 % below the entry, " + FIXED,
    ),
    (
        "account.move_take_profit(0.05, 0.5)",
        "{1} must move a level to a price, got 0.05; account.entry_price * (1 + 0.05) is 5 % above the entry, " + FIXED,
    ),
    ("account.buy(units=1.0, trailing_stop=5)", FRACTION + "5.0; bt.distance(points) is a distance in units of the price"),
    ("account.buy(units=1.0, trailing_stop=1.0)", FRACTION + "1.0; bt.distance(points) is a distance in units of the price"),
    (
        "account.move_stop_loss(max(account.stop_loss, bar.low))\n"
        "if bar.close > 2: account.move_stop_loss(max(account.stop_loss, bar.slow))",
        "{2} must move a level once, got account.move_stop_loss(max(account.stop_loss, bar.slow)) after "
        "account.move_stop_loss(max(account.stop_loss, bar.low)) of line {line}; account.stop_loss is " + ONCE,
    ),
    (
        "if account.is_long and bar.close > 2: account.move_take_profit(bar.high)\n"
        "account.move_take_profit(min(bar.slow, max(account.take_profit, 1.0)))",
        "{2} must move a level once, got account.move_take_profit(min(bar.slow, max(account.take_profit, 1.0))) after "
        "account.move_take_profit(bar.high) of line {line}; account.take_profit is " + ONCE,
    ),
    (
        "for i in range(2): account.move_stop_loss(max(account.stop_loss, bar.low - i))",
        "{1} must move a level once, got account.move_stop_loss(max(account.stop_loss, bar.low - i)) after "
        "account.move_stop_loss(max(account.stop_loss, bar.low - i)) of line {line}; account.stop_loss is " + ONCE,
    ),
]
#: What looks like these and is right: levels below 1 that are no constants, trails of shorts, moves of which one counts.
ACCEPTED = [
    "account.buy(units=1.0, stop_loss=p.level, take_profit=bar.close * 1.1, trailing_stop=p.trail)",
    "account.buy(units=1.0, stop_loss=1.0, trailing_stop=0.999)",
    "account.sell(units=1.0, trailing_stop=1.5)",
    "account.buy(units=1.0, trailing_stop=bt.distance(5))",
    "account.move_stop_loss(bar.low)\nif bar.close > 2: account.move_stop_loss(bar.slow)",
    "account.move_stop_loss(max(account.stop_loss, bar.low))\naccount.move_take_profit(min(account.take_profit, bar.high))",
    "account.move_stop_loss(bar.low)\naccount.move_take_profit(max(account.stop_loss, bar.high))",
    "if bar.close > 2:\n    account.move_stop_loss(max(account.stop_loss, bar.low))\n"
    "elif bar.close > 1:\n    account.move_stop_loss(max(account.stop_loss, bar.slow))\n"
    "else:\n    account.move_stop_loss(max(account.stop_loss, bar.open))",
    "if bar.close > 2:\n    account.move_stop_loss(max(account.stop_loss, bar.low))\n    return\n"
    "account.move_stop_loss(max(account.stop_loss, bar.slow))",
    "if bar.close > 2: account.move_stop_loss(max(account.stop_loss, bar.low))\n"
    "if bar.open > 2: account.move_stop_loss(max(account.stop_loss, bar.slow))",
]


def said_of(body, decorator=""):
    """What is said of a strategy with this body, with {1} for where its first line is."""
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    with pytest.raises(bt.StrategyError) as error:
        written(text)
    return str(error.value), error.value


@pytest.mark.parametrize(("body", "expected"), REFUSED + HABITS, ids=[body for body, _ in REFUSED + HABITS])
def test_refused(body, expected):
    first = len(HEAD.splitlines())
    said, error = said_of(body)
    for line in range(1, 6):
        expected = expected.replace(f"{{{line}}}", f"strategy (strategy.py:{first + line})")
    expected = expected.replace("{line}", str(first + 1))
    assert said == expected
    assert isinstance(error, bt.InputError)
    assert (error.filename, f"({error.filename}:{error.lineno})" in said) == ("strategy.py", True)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.lineno) == (said, error.lineno)


@pytest.mark.parametrize("body", ACCEPTED)
def test_accepted(body):
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    assert len(written(text)["strategy"].calls) == body.count("account.buy(") + body.count("account.sell(") + body.count("move_")


DECORATORS = [
    ("close=lines.sma(lines.close, 3)", "a line must not be called close, which is the bar's own; give it another name"),
    ("index=lines.close", "a line must not be called index, which is the bar's own; give it another name"),
    (
        "x=3.0",
        "x must be a line, a condition or a parameter, got 3.0; "
        "a number that stays the same is a name of the module, one that changes is state",
    ),
    (
        "x='close'",
        "x must be a line, a condition or a parameter, got 'close'; a function with @bt.line computes a line of values",
    ),
    ("state=['mark']", "state must map names to start values, such as {\"mark\": 0.0}, got ['mark']"),
    ("state={'a b': 0.0}", "state must have names that are identifiers, got 'a b'"),
    ("state={'a': None}", "state 'a' must be a number, got None"),
    ("state={'a': float('nan')}", "state 'a' must be a finite number, got nan"),
    ("params=['n']", "params must map names to defaults, such as {\"cooldown\": 24}, got ['n']"),
    ("params={'sise': 1.0}", "params must be parameters that strategy reads, got 'sise'; did you mean 'size'?"),
    ("params={'size': 'big'}", "the default of 'size' must be a number, got 'big'"),
    (
        "params={'n': 20}, x=lines.sma(lines.close, bt.param('n'))",
        "parameter 'n' must have one default, got 20.0 in params and none in a line; write bt.param('n', 20.0)",
    ),
    (
        "params={'n': 20}, x=lines.sma(lines.close, bt.param('n', 10))",
        "parameter 'n' must have one default, got 20.0 in params and 10.0 in a line; write bt.param('n', 20.0)",
    ),
]


@pytest.mark.parametrize(("decorator", "expected"), DECORATORS, ids=[decorator for decorator, _ in DECORATORS])
def test_refused_by_the_decorator(decorator, expected):
    text = f"@bt.on_bar({decorator})\ndef strategy(bar, account, state, p):\n    account.buy(units=p.size)\n"
    with pytest.raises(bt.InputError) as error:
        written(text)
    assert str(error.value) == expected


@pytest.mark.parametrize("arguments", ["bar, account", "bar, account, state, p, more", "*all", "bar, account, state, *, p"])
def test_four_arguments(arguments):
    with pytest.raises(bt.StrategyError) as error:
        written(f"@bt.on_bar\ndef strategy({arguments}):\n    pass\n")
    rule = "must take four arguments, f(bar, account, state, p)"
    assert str(error.value) == f"strategy (strategy.py:2) {rule}, got ({arguments})"


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ("self, bar, account, p", "must take the bar first, got ({}); the function stands outside the class, as "),
        ("self, bar, account, state, p", "must take the bar first, got ({}); the function stands outside the class, as "),
        ("account, bar, state, p", "must take its arguments in this order, f(bar, account, state, p), got ({})"),
        ("bar, account, p, state", "must take its arguments in this order, f(bar, account, state, p), got ({})"),
    ],
)
def test_the_order_of_the_arguments(arguments, rule):
    with pytest.raises(bt.StrategyError) as error:
        written(f"@bt.on_bar\ndef strategy({arguments}):\n    account.buy(units=1.0)\n")
    end = "f(bar, account, state, p)" if rule.endswith("as ") else ""
    assert str(error.value) == f"strategy (strategy.py:2) {rule.format(arguments)}{end}"


def test_the_arguments_may_have_other_names():
    text = "@bt.on_bar\ndef strategy(b, a, s, params):\n    a.buy(units=params.size + b.close)\n"
    assert list(written(text)["strategy"].params) == ["size"]


@pytest.mark.parametrize("body", ["account.close()", "yield 1"])
def test_async(body):
    with pytest.raises(bt.StrategyError) as error:
        written(f"@bt.on_bar\nasync def strategy(bar, account, state, p):\n    {body}\n")
    assert str(error.value) == "strategy (strategy.py:1) must not be async, got async def strategy; write def strategy"


def test_what_is_no_function():
    for given, got in ((len, "<built-in function len>"), (bt.Costs, "<class 'backtest.costs.Costs'>"), (3, "3")):
        with pytest.raises(bt.InputError) as error:
            bt.on_bar()(given)
        assert str(error.value) == f"a strategy must be a plain Python function f(bar, account, state, p), got {got}"
    with pytest.raises(bt.StrategyError) as error:
        written("strategy = bt.on_bar(lambda bar, account, state, p: None)")
    assert str(error.value) == "a strategy must be a function with a name, got a lambda (strategy.py:1); write def"


def test_a_strategy_is_not_called():
    strategy = written("@bt.on_bar\ndef strategy(bar, account, state, p):\n    account.close()\n")["strategy"]
    with pytest.raises(bt.InputError) as error:
        strategy(1, 2, 3, 4)
    rule = "must be run by bt.run, bt.optimize or bt.step_through"
    assert str(error.value) == f"strategy {rule}, got a call; a helper has no decorator"


TEXT = "import backtest as bt\n\n@bt.on_bar\ndef strategy(bar, account, state, p):\n    account.buy(units=1.0)\n"


def test_without_source():
    with pytest.raises(bt.StrategyError) as error:
        exec(compile(TEXT, "nowhere.py", "exec"), {})
    assert str(error.value) == (
        "strategy (nowhere.py:3) must have its source in a file or a notebook cell, got none (made by exec, python -c or at the "
        "prompt?); write it into a file and import or run that"
    )


def test_python_c():
    """Python keeps the text of ``-c`` from 3.13 on."""
    done = subprocess.run([sys.executable, "-c", TEXT + "print(strategy)"], capture_output=True, text=True, check=False)
    if sys.version_info >= (3, 13):
        assert done.stdout == "BarStrategy(strategy)\n"
    else:
        assert "must have its source in a file or a notebook cell, got none (made by exec, python -c" in done.stderr


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("units=1.0", "units=2.0"),
        ("units=1.0", "share=1.0"),
        ("account.buy", "account.sell"),
        ("    account", "    if bar.close > 1:\n        account"),
        ("(bar, account, state, p)", "(bar, account, states, p)"),
        ("def strategy", "def other"),
        ("account.buy(units=1.0)", "account.buy(units="),
        ("@bt.on_bar", "\n@bt.on_bar"),
    ],
)
def test_an_edited_file(tmp_path, old, new):
    file = tmp_path / "edited.py"
    assert old in TEXT
    file.write_text(TEXT.replace(old, new), encoding="utf-8")
    with pytest.raises(bt.StrategyError) as error:
        exec(compile(TEXT, str(file), "exec"), {})
    assert str(error.value) == (
        f"strategy ({file}:3) must be what its file says, got other code there: the file was edited after it was imported; "
        "import it again (importlib.reload, or a new process)"
    )


def test_source_in_any_place(tmp_path):
    """Inside functions and classes, with names from around, odd indentation, other alphabets, and imports that are used."""
    text = '''import math
from math import pi
import backtest as bt
def make(größe, flag):
        """Text at the margin:
no indentation here."""
        def helper(x): return math.sqrt(x) * größe
        @bt.on_bar(
            up=bt.lines.close > 1.0,
        )
        def strategy(bar, account, state, p):
            """Text
at the margin."""
            if bar.up and flag and helper(bar.close) > math.pi: account.buy(units=größe, limit=(
                bar.low - math.sqrt(2.0)))  # ö
        return strategy
'''
    file = tmp_path / "odd.py"
    file.write_text(text, encoding="utf-8")
    scope = {}
    exec(compile(text, str(file), "exec"), scope)
    one, other = scope["make"](2.0, True), scope["make"](3.0, True)
    assert one.key != other.key
    assert one.calls[0].text == "account.buy(units=größe, limit=( bar.low - math.sqrt(2.0)))"
    assert (one.calls[0].line, one.calls[0].file) == (14, str(file))
    assert len(scope["make"](2.0, False).program().code) == 0


def test_nested_too_deeply():
    depth = 400
    text = f"@bt.on_bar\ndef strategy(bar, account, state, p):\n    account.buy(units={' + '.join(['bar.close'] * depth)})\n"
    with pytest.raises(bt.StrategyError) as error:
        written(text)
    assert str(error.value) == "strategy (strategy.py:1) must not be nested so deeply; give parts of it names"

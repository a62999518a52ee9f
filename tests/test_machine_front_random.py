"""Random functions through the front end: the program does what the function does, and the rules of programs hold."""

from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_front import check, written

from backtest.machine import passes
from backtest.machine.graph import WORD_OPS, divide, square_root
from backtest.machine.program import OPERANDS, OPS

LEAVES = [
    "bar.close",
    "bar.open",
    "bar.previous(2).high",
    "bar.slow",
    "bar.index",
    "account.units",
    "account.entry_price",
    "account.side",
    "state.a",
    "state.b",
    "p.x",
    "p.y",
    "x",
    "y",
    "1.0",
    "0.5",
    "N",
    "-3.0",
]
TRUTHS = ["account.is_flat", "account.is_long", "bar.up", "bar.previous(1).up", "state.on", "True", "flag", "(p.x > p.y)"]


def numbers(depth=3):
    """Texts of expressions that are numbers."""
    if not depth:
        return st.sampled_from(LEAVES)
    inner, conditions = numbers(depth - 1), truths(depth - 1)
    return st.one_of(
        st.sampled_from(LEAVES),
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda each: f"({each[0]} {each[1]} {each[2]})"),
        st.tuples(st.sampled_from(["min", "max"]), inner, inner).map(lambda each: f"{each[0]}({each[1]}, {each[2]})"),
        inner.map(lambda each: f"abs({each})"),
        inner.map(lambda each: f"(-{each})"),
        inner.map(lambda each: f"root({each})"),
        st.tuples(inner, conditions, inner).map(lambda each: f"({each[0]} if {each[1]} else {each[2]})"),
        st.tuples(inner, conditions).map(lambda each: f"({each[0]} * {each[1]})"),
        st.tuples(inner, inner).map(lambda each: f"chosen({each[0]}, b={each[1]})"),
    )


def truths(depth=3):
    """Texts of conditions."""
    if not depth:
        return st.sampled_from(TRUTHS)
    inner, values = truths(depth - 1), numbers(depth - 1)
    signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
    return st.one_of(
        st.sampled_from(TRUTHS),
        st.tuples(values, signs, values).map(" ".join).map(lambda each: f"({each})"),
        st.tuples(values, signs, values, signs, values).map(" ".join).map(lambda each: f"({each})"),
        st.tuples(inner, st.sampled_from(["and", "or", "==", "!=", "&", "|", "^"]), inner)
        .map(" ".join)
        .map(lambda each: f"({each})"),
        inner.map(lambda each: f"(not {each})"),
        values.map(lambda each: f"bool({each})"),
        st.tuples(inner, inner, inner).map(lambda each: f"({each[0]} if {each[1]} else {each[2]})"),
    )


def indented(lines):
    return [f"    {line}" for line in lines]


def block(depth):
    """Lines of a few statements."""
    return st.lists(statement(depth), min_size=1, max_size=3).map(lambda parts: [line for part in parts for line in part])


def statement(depth):
    simple = st.one_of(
        st.tuples(
            st.sampled_from(["x", "y", "state.a", "state.b"]), st.sampled_from(["=", "+=", "-=", "*=", "/="]), numbers()
        ).map(lambda each: [" ".join(each)]),
        st.tuples(st.sampled_from(["flag", "state.on"]), truths()).map(lambda each: [f"{each[0]} = {each[1]}"]),
        st.tuples(st.sampled_from(["buy", "sell"]), numbers(2), numbers(1)).map(
            lambda each: [f"account.{each[0]}(units={each[1]} + bar.low, limit={each[2]} * bar.low)"]
        ),
        st.sampled_from([["account.close()"], ["account.cancel()"], ["x, y = y, x"], ["pass"], ["placed(bar, account, x)"]]),
        numbers(2).map(lambda each: [f"account.move_stop_loss({each} + bar.low)"]),
        st.sampled_from([["return"]]) if depth < 2 else st.just(["state.n = state.n + 1"]),
    )
    if not depth:
        return simple
    branch = st.tuples(truths(2), block(depth - 1), truths(2), block(depth - 1), block(depth - 1)).map(
        lambda each: [f"if {each[0]}:", *indented(each[1]), f"elif {each[2]}:", *indented(each[3]), "else:", *indented(each[4])]
    )
    loop = st.tuples(block(depth - 1), truths(1), st.sampled_from(["break", "continue"]), numbers(1)).map(
        lambda each: ["for i in range(2):", *indented([f"if {each[1]}:", f"    {each[2]}", *each[0], f"x = {each[3]} + i"])]
    )
    return st.one_of(simple, branch, loop)


HEAD = """\
N = 2.0


def root(value):
    return value * value


def chosen(a, b):
    if a < b:
        return a + b
    elif a > 1.0:
        return b
    return a


def placed(bar, account, size):
    if size > bar.open:
        account.buy(units=size + bar.low, stop=bar.high)
        return
    account.sell(share=size * bar.low)


"""
DECORATOR = "@bt.on_bar(slow=bt.param('slow'), up=lines.close > 1.0, state={'a': 0.0, 'b': 1.5, 'on': True, 'n': 0.0})\n"


def strategy_of(body):
    text = HEAD + DECORATOR + "def strategy(bar, account, state, p):\n    x, y, flag = bar.low, 2.0, bar.up\n"
    return written(text + "".join(f"    {line}\n" for line in body))["strategy"]


@settings(max_examples=60)
@given(block(2), st.integers(0, 2**32))
def test_random_functions(body, seed):
    body += [
        "account.buy(units=x + state.a, limit=y + bar.low)",
        "if flag and state.on:",
        "    account.sell(units=state.b + state.n)",
    ]
    for cost in (passes._added_cost, dearer):  # a state's new value in either form
        with mock.patch.object(passes, "_added_cost", cost):
            strategy = strategy_of(body)
        check(strategy, seed=seed, n=8)
        well_formed(strategy.program())


def dearer(*each, cost=passes._added_cost):
    return -cost(*each)


def well_formed(program):
    """Every place exists, is written before it is read, and jumps go forward; what setup writes stays."""
    n_numbers, n_words = program.n_numbers, program.n_words
    known = [set(range(program.first_number)), set(range(program.first_word))]
    kept = [set(), set()]
    jumps = []
    for at, (op, out, a, b, c) in enumerate(program.code.tolist()):
        name = OPS[op]
        assert (name == "JUMP") <= (at >= program.n_setup)
        reads = {
            **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "LT", "LE", "EQ", "NE"), ((0, a), (0, b))),
            **dict.fromkeys(("NEG", "ABS", "SQRT", "COPY"), ((0, a),)),
            **dict.fromkeys(("AND", "OR", "XOR", "ANDNOT"), ((1, a), (1, b))),
            **dict.fromkeys(("NOT", "WCOPY", "NUMBER", "JUMP"), ((1, a),)),
            "SELECT": ((1, a), (0, b), (0, c)),
            "WSELECT": ((1, a), (1, b), (1, c)),
        }[name]
        assert all(place in known[kind] for kind, place in reads)
        if name == "JUMP":
            assert at < b <= len(program.code)
            assert not jumps or jumps[-1] <= at, "skipped parts do not overlap"
            jumps.append(b)
            continue
        kind = int(name in WORD_OPS)
        assert (program.first_number, program.first_word)[kind] <= out < (n_numbers, n_words)[kind]
        assert out not in kept[kind]
        assert (kind, out) not in reads
        known[kind].add(out)
        if at < program.n_setup:
            kept[kind].add(out)
    for action in program.actions:
        assert action["where"] in known[1]
        assert all(action[name] == -1 or action[name] in known[0] for name in OPERANDS)
    assert all(source in known[0] and 0 <= state < program.n_states for state, source in program.stores.tolist())
    assert all(source in known[1] and 0 <= flag < program.n_flags for flag, source in program.flag_stores.tolist())


@given(st.floats(), st.floats())
def test_division_is_that_of_ieee_754(a, b):
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(divide(a, b), np.float64(a) / np.float64(b))
        assert np.signbit(divide(a, b)) == np.signbit(np.float64(a) / np.float64(b)) or divide(a, b) != divide(a, b)
        np.testing.assert_array_equal(square_root(a), np.sqrt(np.float64(a)))

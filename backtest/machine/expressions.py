"""Expressions of a strategy's function, as nodes of its graph."""

from __future__ import annotations

import ast
import builtins
import contextlib
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

from backtest._errors import StrategyError
from backtest.machine import relative
from backtest.machine.program import FIELDS, FLAGS
from backtest.machine.refusals import EXPRESSIONS, FUNCTIONS, OF_BAR, OPERATORS, nearest
from backtest.machine.walk import Account, Bar, Level, Meaning, Method, Params, State, Static, Unusable, Walk

PRICES = ("open", "high", "low", "close", "volume")
#: Calls on the account.
ORDERS = ("buy", "sell", "close", "cancel", "move_stop_loss", "move_take_profit")
ACCOUNT = (*FIELDS[: FIELDS.index("index")], *FLAGS)
_ARITHMETIC: dict[type[ast.AST], str] = {ast.Add: "ADD", ast.Sub: "SUB", ast.Mult: "MUL", ast.Div: "DIV"}
_LOGICAL: dict[type[ast.AST], str] = {ast.BitAnd: "AND", ast.BitOr: "OR", ast.BitXor: "XOR"}
#: Comparisons: operation, and whether the sides are exchanged.
_COMPARE: dict[type[ast.AST], tuple[str, bool]] = {
    ast.Lt: ("LT", False),
    ast.LtE: ("LE", False),
    ast.Gt: ("LT", True),
    ast.GtE: ("LE", True),
    ast.Eq: ("EQ", False),
    ast.NotEq: ("NE", False),
}
_LEVELS = {relative.below_entry: "below_entry", relative.above_entry: "above_entry", relative.distance: "distance"}


def number(walk: Walk, node: ast.expr) -> int:
    """An expression that must be a number; a boolean counts as 1 or 0."""
    return walk.graph.as_number(plain(walk, node))


def truth(walk: Walk, node: ast.expr) -> int:
    """An expression as a condition; a number is true where it is not 0, as in Python."""
    if isinstance(node, ast.BoolOp):
        return _all_or_any(walk, node, truth)
    return walk.graph.as_word(plain(walk, node))


def plain(walk: Walk, node: ast.expr) -> int:
    """An expression that must be a number or a boolean."""
    result = meaning(walk, node)
    if isinstance(result, int):
        return result
    raise object_error(walk, node, result)


def object_error(walk: Walk, node: ast.expr, result: Meaning) -> StrategyError:
    """The error about something that is no number, which says what it is."""
    place = walk.place(node)
    if isinstance(result, Unusable):
        return place.error(result.why.format(name=place.text))
    if isinstance(result, Method):
        return place.error(f"must call {place.text}, got its name alone; write {place.text}(...)")
    if isinstance(result, Bar):
        return place.error(f"must use numbers, got the bar {place.text}; write {place.text}.close")
    if isinstance(result, Account):
        return place.error(f"must use numbers, got the account {place.text}; write {place.text}.equity")
    if isinstance(result, State | Params):
        return place.error(f"must use numbers, got {place.text}; write {place.text}.name")
    if isinstance(result, Level):
        return place.error(
            f"must use bt.{result.kind}(...) as a level of an order only, got {place.text}; "
            "a price is account.entry_price * (1 - x)"
        )
    assert isinstance(result, Static)
    if result.value is None:
        return place.error(f"must use numbers and booleans, got {place.text}, which has no value")
    if _is_node(result.value):
        remedy = "a line is declared with the decorator, @bt.on_bar(name=line), and read as bar.name"
    else:
        remedy = "constants are int, float or bool; other numbers are lines, parameters or state"
    return place.error(f"must use numbers and booleans, got {place.text}, which is a {type(result.value).__name__}; {remedy}")


def meaning(walk: Walk, node: ast.expr) -> Meaning:
    """What an expression is: a node of the graph, or an object that only some places take."""
    reader = _READERS.get(type(node))
    if reader is not None:
        return reader(walk, node)
    what, remedy = EXPRESSIONS.get(type(node), (type(node).__name__, "write numbers, comparisons, and, or, not"))
    raise walk.place(node).use_error(what, remedy)


def _constant(walk: Walk, node: ast.Constant) -> Meaning:
    value = node.value
    if isinstance(value, str | bytes):
        raise walk.place(node).use_error("text", "numbers and booleans stand for choices; bt.STOP names an exit's reason")
    if value is None or isinstance(value, bool | int | float):
        return walk.static(value, node)
    raise walk.place(node).use_error(type(value).__name__, "write a float")


def _name(walk: Walk, node: ast.Name) -> Meaning:
    return walk.lookup(node)


def _attribute(walk: Walk, node: ast.Attribute) -> Meaning:
    owner, name = meaning(walk, node.value), node.attr
    if isinstance(owner, Bar):
        return _of_bar(walk, node, owner)
    if isinstance(owner, Account):
        if name in FLAGS:
            return walk.graph.leaf("flag", name)
        if name in ACCOUNT:
            return walk.graph.leaf("field", name)
        if name in ORDERS:
            return Method(owner, name)
        raise _unknown(walk, node, [*ACCOUNT, *ORDERS])
    if isinstance(owner, State):
        if name in walk.state:
            return walk.state[name]
        if not walk.state:
            raise walk.place(node).error(
                f"must declare its state, got {walk.place(node).text}; write @bt.on_bar(state={{{name!r}: 0.0}})"
            )
        raise _unknown(walk, node, list(walk.state))
    if isinstance(owner, Params):
        walk.params[name] = None
        return walk.graph.leaf("param", name)
    if isinstance(owner, Static) and isinstance(owner.value, types.ModuleType | type):
        try:
            value = getattr(owner.value, name)
        except AttributeError:
            known = [each for each in dir(owner.value) if not each.startswith("_")]
            raise walk.place(node).error(
                f"must know {walk.place(node).text}, got a name that is not there{nearest(name, known)}"
            ) from None
        return walk.static(value, node)
    if isinstance(owner, int):
        raise walk.place(node).error(f"must use numbers as they are, got .{name} of the number {ast.unparse(node.value)}")
    raise object_error(walk, node.value, owner)


def _of_bar(walk: Walk, node: ast.Attribute, bar: Bar) -> Meaning:
    name, graph = node.attr, walk.graph
    if name in walk.parameters:
        return graph.leaf("param", walk.parameters[name])
    if name in walk.numbers:
        return graph.leaf("line", walk.numbers[name], bar.shift)
    if name in walk.masks:
        return graph.leaf("mask", walk.masks[name], bar.shift)
    if name == "index":
        index = graph.leaf("field", "index")
        return graph.add("SUB", index, graph.constant(bar.shift)) if bar.shift else index
    if name == "previous":
        return Method(bar, name)
    known = [*walk.parameters, *walk.numbers, *walk.masks, "index", "previous"]
    if name in OF_BAR:
        raise walk.place(node).error(f"must know {walk.place(node).text}, got a name that is not there; {OF_BAR[name]}")
    raise _unknown(walk, node, known, "; lines are declared with the decorator: @bt.on_bar(name=line)")


def _unknown(walk: Walk, node: ast.Attribute, known: list[str], remedy: str = "") -> StrategyError:
    near = nearest(node.attr, known) or f" (known: {', '.join(known)}){remedy}"
    return walk.place(node).error(f"must know {walk.place(node).text}, got a name that is not there{near}")


def _arithmetic(walk: Walk, node: ast.BinOp) -> Meaning:
    op = _ARITHMETIC.get(type(node.op))
    if op is not None:
        return walk.graph.add(op, number(walk, node.left), number(walk, node.right))
    logical = _LOGICAL.get(type(node.op))
    if logical is not None:
        a, b = plain(walk, node.left), plain(walk, node.right)
        if walk.graph.is_word[a] and walk.graph.is_word[b]:
            return walk.graph.add(logical, a, b)
    raise walk.place(node).use_error(*OPERATORS[type(node.op)])


def _unary(walk: Walk, node: ast.UnaryOp) -> Meaning:
    if isinstance(node.op, ast.Not):
        return walk.graph.add("NOT", truth(walk, node.operand))
    if isinstance(node.op, ast.Invert):
        raise walk.place(node).use_error(*OPERATORS[ast.Invert])
    value = number(walk, node.operand)
    return walk.graph.add("NEG", value) if isinstance(node.op, ast.USub) else value


def _logical(walk: Walk, node: ast.BoolOp) -> Meaning:
    return _all_or_any(walk, node, _boolean)


def _boolean(walk: Walk, node: ast.expr) -> int:
    """An operand of ``and`` or ``or`` whose value is used: Python gives one of the operands, so that it must be a boolean."""
    result = plain(walk, node)
    if not walk.graph.is_word[result]:
        raise walk.place(node).error(
            f"must combine booleans by and / or, got the number {walk.place(node).text}; "
            "write a comparison, or x if condition else y"
        )
    return result


def _all_or_any(walk: Walk, node: ast.BoolOp, read: Callable[[Walk, ast.expr], int]) -> int:
    """Operands from the left; the next is walked only where it is asked for, since a helper in it may place orders."""
    graph, is_and, operands = walk.graph, isinstance(node.op, ast.And), node.values

    def rest(at: int) -> int:
        first = read(walk, operands[at])
        if at == len(operands) - 1:
            return first
        if is_and:
            found = walk.branch(first, lambda: rest(at + 1), lambda: graph.false)
        else:
            found = walk.branch(first, lambda: graph.true, lambda: rest(at + 1))
        assert isinstance(found, int)
        return found

    return rest(0)


def _comparison(walk: Walk, node: ast.Compare) -> Meaning:
    graph = walk.graph
    for op, side in zip(node.ops, node.comparators, strict=True):
        if any(isinstance(each, ast.Constant) and each.value is None for each in (node.left, side)):
            raise walk.place(node).use_error("None", "a level that is not set is infinite, and account.is_flat is known")
        if type(op) in OPERATORS:
            raise walk.place(node).use_error(*OPERATORS[type(op)])

    def rest(left: int, at: int) -> int:
        right = plain(walk, node.comparators[at])
        op, is_exchanged = _COMPARE[type(node.ops[at])]
        if graph.is_word[left] and graph.is_word[right] and op in ("EQ", "NE"):
            result = graph.add("XOR", left, right)
            result = result if op == "NE" else graph.add("NOT", result)
        else:
            a, b = graph.as_number(left), graph.as_number(right)
            result = graph.add(op, b, a) if is_exchanged else graph.add(op, a, b)
        if at == len(node.ops) - 1:
            return result
        found = walk.branch(result, lambda: rest(right, at + 1), lambda: graph.false)
        assert isinstance(found, int)
        return found

    return rest(plain(walk, node.left), 0)


def _conditional(walk: Walk, node: ast.IfExp) -> Meaning:
    return walk.branch(truth(walk, node.test), lambda: meaning(walk, node.body), lambda: meaning(walk, node.orelse))


def _call(walk: Walk, node: ast.Call) -> Meaning:
    target = meaning(walk, node.func)
    place = walk.place(node)
    if isinstance(target, Method):
        if isinstance(target.owner, Bar):
            return _previous(walk, node, target.owner)
        raise place.error(f"must place orders on lines of their own, got {place.text}; an order gives nothing back")
    if not isinstance(target, Static):
        text = ast.unparse(node.func)
        has_arguments = bool(node.args or node.keywords)
        remedy = f"; write {text}, without parentheses" if isinstance(target, int) and not has_arguments else ""
        if isinstance(node.func, ast.Attribute):
            owner = meaning(walk, node.func.value)
            if isinstance(owner, Bar) and node.func.attr == "close":
                remedy += "; account.close() closes the position"
            elif isinstance(owner, Params | State) and has_arguments:
                remedy = f"; write {ast.unparse(node.func.value)}.name"
        raise place.error(f"must call functions only, got {place.text}{remedy}")
    function = target.value
    name = getattr(function, "__name__", "")
    if function in (builtins.min, builtins.max, builtins.abs, builtins.float, builtins.bool, math.sqrt):
        return _of_numbers(walk, node, name)
    if isinstance(function, types.FunctionType) and function in _LEVELS:
        [argument] = _arguments(walk, node, 1)
        return Level(_LEVELS[function], walk.graph.as_number(argument))
    if name in FUNCTIONS and not isinstance(function, types.FunctionType):
        raise place.use_error(f"{name}(...)", FUNCTIONS[name])
    if (
        isinstance(function, types.FunctionType)
        and (function.__module__ or "").partition(".")[0] != "backtest"
        and walk.inline is not None
    ):
        return walk.inline(walk, function, node)
    if isinstance(getattr(function, "calls", None), tuple):
        raise place.use_error("another strategy", "a helper is a function without a decorator")
    if _is_node(function) or str(getattr(function, "__module__", "")).startswith("backtest"):
        raise place.use_error(
            f"{ast.unparse(node.func)}(...)", "lines are declared with the decorator, @bt.on_bar(name=line), and read as bar.name"
        )
    raise place.error(
        f"must call min, max, abs, math.sqrt, bt.below_entry, bt.above_entry, bt.distance or plain Python functions, "
        f"got {place.text}; compute it in a line (@bt.line)"
    )


def _subscript(walk: Walk, node: ast.Subscript) -> Meaning:
    """Refused, with what to write for what it is of."""
    owner, key, text = meaning(walk, node.value), node.slice, ast.unparse(node.value)
    named = str(key.value) if isinstance(key, ast.Constant) and isinstance(key.value, str) else ""
    named = named if named.isidentifier() else "name"
    what, remedy = EXPRESSIONS[ast.Subscript]
    if isinstance(owner, Params | State | Account) or (isinstance(owner, Bar) and named != "name"):
        remedy = f"write {text}.{named}"
    elif isinstance(owner, Static):
        is_series = hasattr(owner.value, "dtype")
        remedy = "a series is a line (@bt.line)" if is_series else "each number needs a name of its own: first, second = 1.0, 2.0"
    raise walk.place(node).use_error(what, remedy)


def _arguments(walk: Walk, node: ast.Call, least: int, most: int | None = None) -> list[int]:
    """Positional arguments that must be numbers or booleans; as many as allowed."""
    most = least if most is None else most
    if node.keywords or not least <= len(node.args) <= most:
        rule = f"{least}" if least == most else f"at least {least}"
        raise walk.place(node).error(
            f"must give {ast.unparse(node.func)} {rule} number{'s' * (rule != '1')}, without names, got {walk.place(node).text}"
        )
    return [plain(walk, each) for each in node.args]


def _of_numbers(walk: Walk, node: ast.Call, name: str) -> Meaning:
    graph = walk.graph
    if name in ("min", "max"):
        first, *others = (graph.as_number(each) for each in _arguments(walk, node, 2, 255))
        for other in others:
            first = graph.add(name.upper(), first, other)
        return first
    given = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
    if name == "float" and isinstance(given, str) and not node.keywords:
        with contextlib.suppress(ValueError):  # other texts are refused below
            return graph.constant(float(given))  # float("inf")
    [value] = _arguments(walk, node, 1)
    if name == "bool":
        return graph.as_word(value)
    value = graph.as_number(value)
    return value if name == "float" else graph.add(name.upper(), value)


def _previous(walk: Walk, node: ast.Call, bar: Bar) -> Meaning:
    [shift] = _arguments(walk, node, 1)
    known = walk.graph.known(shift)
    if known is None or isinstance(known, bool) or known != int(known) or not 0 <= known < 2**31 - bar.shift:
        raise walk.place(node).error(
            f"must look back a constant whole number of bars >= 0, got {walk.place(node).text}; "
            "a distance that varies belongs into a line: lines.previous(source, bt.param(...))"
        )
    return Bar(bar.shift + int(known))


def _is_node(value: Any) -> bool:
    return hasattr(value, "key") and hasattr(value, "depth")


_READERS: Mapping[type[ast.AST], Callable[[Walk, Any], Meaning]] = {
    ast.Constant: _constant,
    ast.Name: _name,
    ast.Attribute: _attribute,
    ast.BinOp: _arithmetic,
    ast.UnaryOp: _unary,
    ast.BoolOp: _logical,
    ast.Compare: _comparison,
    ast.IfExp: _conditional,
    ast.Call: _call,
    ast.Subscript: _subscript,
}

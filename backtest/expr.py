"""Parameters, lines and conditions as data: trees of immutable nodes, and the operators that build them.

A node knows nothing of bars.  ``key`` is its structure, hashable, equal for equal trees: what is computed for one node
serves every equal one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from backtest._checks import Frozen, InputError, number
from backtest._said import shown

#: Operations one inside the other.  Python's pickle, ``repr`` and ``==`` go down such a tree by recursion, and end at about 250.
MAX_DEPTH = 100
#: Operations in a tree, one that stands at two places counted twice: ``x = x + x`` doubles it each time.
MAX_NODES = 100_000


class REQUIRED:
    """Marks a parameter without a default: every candidate must give it a value (a class, so that it survives pickling)."""


class Node(Frozen):
    """One operation and its arguments (nodes, numbers or strings).

    Attributes
    ----------
    op : str
        What the node does.
    args : tuple
        Its arguments.
    key : tuple
        Structure of the whole tree below.
    params : dict
        Parameter names below, each with its default or ``REQUIRED``.
    depth, n_nodes : int
        Longest way down, and operations, of the whole tree.
    """

    __slots__ = ("args", "depth", "key", "n_nodes", "op", "params")
    __array_ufunc__ = None  # NumPy numbers on the left leave the operators to us

    op: str
    args: tuple[Any, ...]
    key: tuple[Any, ...]
    params: dict[str, Any]
    depth: int
    n_nodes: int

    def __init__(self, op: str, args: tuple[Any, ...], *, identity: Any = None) -> None:
        below = [arg for arg in args if isinstance(arg, Node)]
        self.depth = 1 + max((arg.depth for arg in below), default=0)
        self.n_nodes = 1 + sum(arg.n_nodes for arg in below)
        if self.depth > MAX_DEPTH or self.n_nodes > MAX_NODES:
            raise InputError(
                f"an expression must be of at most {MAX_DEPTH} operations one inside the other and {MAX_NODES:,} in all, got "
                f"{self.depth} and {self.n_nodes:,}; a function with @bt.line computes any line at once, and "
                "rules.from_arrays takes signals that are ready"
            )
        self.op, self.args, self.params = op, args, merged_params(args)
        self.key = (op, identity, *(arg.key if isinstance(arg, Node) else arg for arg in args))

    def __bool__(self) -> bool:
        raise InputError(
            f"{_brief(self)} has no truth value before bars are known; combine conditions with & | ~, not and/or/not"
            "; a < b < c is (a < b) & (b < c)"
        )

    def __eq__(self, other: Any) -> bool:
        if self is other:
            return True
        if isinstance(other, (bool, int, float, Node)) or hasattr(other, "__array__"):
            raise _no_equality("==", self, other)
        return NotImplemented  # of something that is no number, == is False, as containers expect

    def __ne__(self, other: Any) -> bool:
        if self is other:
            return False
        if isinstance(other, (bool, int, float, Node)) or hasattr(other, "__array__"):
            raise _no_equality("!=", self, other)
        return NotImplemented

    __hash__ = object.__hash__


class Value(Node):
    """Anything with a number per bar, or one number: has arithmetic and comparisons."""

    __slots__ = ()

    def __add__(self, other: Any) -> Value:
        return _arithmetic("+", self, other)

    def __radd__(self, other: Any) -> Value:
        return _arithmetic("+", other, self)

    def __sub__(self, other: Any) -> Value:
        return _arithmetic("-", self, other)

    def __rsub__(self, other: Any) -> Value:
        return _arithmetic("-", other, self)

    def __mul__(self, other: Any) -> Value:
        return _arithmetic("*", self, other)

    def __rmul__(self, other: Any) -> Value:
        return _arithmetic("*", other, self)

    def __truediv__(self, other: Any) -> Value:
        return _arithmetic("/", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return _arithmetic("/", other, self)

    def __neg__(self) -> Value:
        return _arithmetic("-", 0.0, self)

    def __gt__(self, other: Any) -> Condition:
        return compare(">", self, other)

    def __ge__(self, other: Any) -> Condition:
        return compare(">=", self, other)

    def __lt__(self, other: Any) -> Condition:
        return compare("<", self, other)

    def __le__(self, other: Any) -> Condition:
        return compare("<=", self, other)

    def _is_no_condition(self, other: Any = None) -> NoReturn:
        """What ``a > 5 & b < 3`` comes to, because & binds more tightly than > does."""
        raise InputError(
            f"both sides of & must be conditions, as of | and behind ~, got {_brief(self)}; put each comparison "
            "into parentheses: (a > 5) & (b < 3)"
        )

    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _is_no_condition


class Param(Value):
    """A number that each candidate chooses; make one with :func:`param`."""

    __slots__ = ("default", "name")

    name: str
    default: Any

    def __init__(self, name: str, default: Any = REQUIRED) -> None:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"name must be an identifier (dots allowed), got {shown(name)}")
        if default is not REQUIRED and default is not None:
            default = number("default", default)
        # The default is part of the key: two strategies that differ only there differ.
        self.op, self.args, self.name, self.default, self.params = "param", (), name, default, {name: default}
        self.depth = self.n_nodes = 1
        self.key = ("param", name, "required" if default is REQUIRED else default)

    def __repr__(self) -> str:
        return self.name


def param(name: str, default: Any = REQUIRED) -> Param:
    """A parameter of a strategy, to be used wherever a number may stand.

    Parameters
    ----------
    name : str
        Its name in the space and in candidates.
    default : float or None, optional
        Value of candidates that do not give it; without one it must be given.
    """
    return Param(name, default)


class Line(Value):
    """One number per bar: a price, an indicator, or arithmetic on them; made by the functions of ``lines``."""

    __slots__ = ()

    def __repr__(self) -> str:
        if self.op in _SIGNS:
            return f" {self.op} ".join(
                f"({arg!r})" if isinstance(arg, Line) and arg.op in _SIGNS else _text(arg) for arg in self.args
            )
        if self.op == "custom":
            return f"{self.args[0]!r}({', '.join(map(_text, self.args[1:]))})"
        return f"{self.op}({', '.join(map(_text, self.args))})" if self.args else self.op


class Condition(Node):
    """True or False per bar; combine with ``& | ~``."""

    __slots__ = ()

    def _is_no_value(self, other: Any) -> NoReturn:
        """What ``(a < b) < c`` comes to."""
        raise InputError(
            f"< <= > >= must stand between lines and numbers, got the condition {_brief(self)}; write (a < b) & (b < c)"
        )

    __lt__ = __le__ = __gt__ = __ge__ = _is_no_value

    def __and__(self, other: Any) -> Condition:
        return _logic("&", self, other)

    def __rand__(self, other: Any) -> Condition:
        return _logic("&", other, self)

    def __or__(self, other: Any) -> Condition:
        return _logic("|", self, other)

    def __ror__(self, other: Any) -> Condition:
        return _logic("|", other, self)

    def __invert__(self) -> Condition:
        return Condition("~", (self,))

    def __repr__(self) -> str:
        if self.op == "~":
            return f"~({self.args[0]!r})"
        if self.op in ("&", "|"):
            return f" {self.op} ".join(f"({arg!r})" for arg in self.args)
        if self.op in (">", ">=", "<", "<="):
            return f"{_text(self.args[0])} {self.op} {_text(self.args[1])}"
        return f"{self.op}({', '.join(map(_text, self.args))})"


_SIGNS = ("+", "-", "*", "/")


def operand(name: str, value: Any) -> Value | float:
    """``value`` as a node or a float; anything else is refused."""
    if isinstance(value, Value):
        return value
    if not isinstance(value, np.generic) and hasattr(value, "__array__"):
        raise InputError(
            f"{name} must be a number, got {type(value).__name__} of shape {np.shape(value)}; a function with "
            "@bt.line makes a line of values, and rules.from_arrays takes signals that are ready"
        )
    if isinstance(value, Condition):
        raise InputError(f"{name} must be a number, got {_brief(value)}, a condition")
    return number(name, value)


def compare(op: str, left: Any, right: Any) -> Condition:
    """A comparison of two values, at least one of them a node."""
    return Condition(op, (operand("left side", left), operand("right side", right)))


def _arithmetic(op: str, left: Any, right: Any) -> Line:
    return Line(op, _flat(op, operand("left operand", left), operand("right operand", right)))


def _logic(op: str, left: Any, right: Any) -> Condition:
    for side in (left, right):
        if not isinstance(side, Condition):
            raise InputError(f"both sides of {op} must be conditions, got {shown(side)}")
    return Condition(op, _flat(op, left, right))


def _flat(op: str, left: Any, right: Any) -> tuple[Any, ...]:
    """Both sides; where the tree would be too deep, all that a chain of one operation is made of, from left to right.

    What is computed stays the same to the last bit: a chain is computed from the left.  So only conditions, which may be grouped
    in any way, are also taken apart on the right.
    """
    if max(each.depth for each in (left, right) if isinstance(each, Node)) < MAX_DEPTH:
        return left, right
    parts, waiting = [], [left, right] if op in ("&", "|") else [left]
    while waiting:
        each = waiting.pop()
        if not isinstance(each, Node) or each.op != op:
            parts.append(each)
        elif op in ("&", "|"):
            waiting.extend(each.args)
        else:
            parts.extend(reversed(each.args[1:]))
            waiting.append(each.args[0])
    parts.reverse()
    return tuple(parts) if op in ("&", "|") else (*parts, right)


def _no_equality(sign: str, left: Any, right: Any) -> InputError:
    return InputError(
        f"lines and conditions have no {sign}, got {_brief(left)} {sign} {_brief(right)}; where two lines are "
        "equal is (a >= b) & (a <= b), and ~ says not"
    )


def _brief(value: Any) -> str:
    """A node's text, cut; of a tree too large to be written down, only what it does."""
    if isinstance(value, Node) and value.n_nodes > 100:
        return f"{value.op}(...) of {value.n_nodes:,} operations"
    if not isinstance(value, (Node, np.generic)) and hasattr(value, "__array__"):
        return f"a {type(value).__name__}"
    return shown(value)


def _text(arg: Any) -> str:
    return f"{arg:g}" if isinstance(arg, float) else str(arg) if isinstance(arg, str) else repr(arg)


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, default in more.items():
        if name in into and not (into[name] is default or into[name] == default):
            raise InputError(f"parameter {shown(name)} must have one default, got {shown(into[name])} and {shown(default)}")
        into[name] = default


def merged_params(nodes: Iterable[Any]) -> dict[str, Any]:
    """Parameter names of several nodes (others are skipped), each with its default or ``REQUIRED``."""
    params: dict[str, Any] = {}
    for node in nodes:
        if isinstance(node, Node):
            _merge(params, node.params)
    return params

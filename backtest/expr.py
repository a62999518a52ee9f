"""Parameters, lines and conditions as data: trees of immutable nodes, and the operators that build them.

A node knows nothing of bars.  ``key`` is its structure, hashable, equal for equal trees: what is computed for one node
serves every equal one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from backtest._checks import InputError, number


class REQUIRED:
    """Marks a parameter without a default: every candidate must give it a value (a class, so that it survives pickling)."""


class Node:
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
    """

    __slots__ = ("args", "key", "op", "params")

    op: str
    args: tuple[Any, ...]
    key: tuple[Any, ...]
    params: dict[str, Any]

    def __init__(self, op: str, args: tuple[Any, ...], *, identity: Any = None) -> None:
        params: dict[str, Any] = {}
        for arg in args:
            if isinstance(arg, Node):
                _merge(params, arg.params)
        self._fill(op=op, args=args, params=params,
                   key=(op, identity, *(arg.key if isinstance(arg, Node) else arg for arg in args)))

    def _fill(self, **attributes: Any) -> None:
        for name, value in attributes.items():
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; cannot set {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._fill(**state)

    def __bool__(self) -> bool:
        raise TypeError(f"{self!r} has no truth value before bars are known; combine conditions with & | ~, not and/or/not")


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


class Param(Value):
    """A number that each candidate chooses; make one with :func:`param`."""

    __slots__ = ("default", "name")

    name: str
    default: Any

    def __init__(self, name: str, default: Any = REQUIRED) -> None:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise InputError(f"name must be an identifier (dots allowed), got {name!r}")
        if default is not REQUIRED and default is not None:
            default = number("default", default)
        # The default is part of the key: two strategies that differ only there differ.
        self._fill(op="param", args=(), name=name, default=default, params={name: default},
                   key=("param", name, "required" if default is REQUIRED else default))

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
            left, right = (f"({arg!r})" if isinstance(arg, Line) and arg.op in _SIGNS else _text(arg) for arg in self.args)
            return f"{left} {self.op} {right}"
        return f"{self.op}({', '.join(map(_text, self.args))})" if self.args else self.op


class Condition(Node):
    """True or False per bar; combine with ``& | ~``."""

    __slots__ = ()

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
            return f"({self.args[0]!r}) {self.op} ({self.args[1]!r})"
        if self.op in (">", ">=", "<", "<="):
            return f"{_text(self.args[0])} {self.op} {_text(self.args[1])}"
        return f"{self.op}({', '.join(map(_text, self.args))})"


_SIGNS = ("+", "-", "*", "/")


def operand(name: str, value: Any) -> Value | float:
    """``value`` as a node or a float; anything else is refused."""
    return value if isinstance(value, Value) else number(name, value)


def compare(op: str, left: Any, right: Any) -> Condition:
    """A comparison of two values, at least one of them a node."""
    return Condition(op, (operand("left side", left), operand("right side", right)))


def _arithmetic(op: str, left: Any, right: Any) -> Line:
    return Line(op, (operand("left operand", left), operand("right operand", right)))


def _logic(op: str, left: Any, right: Any) -> Condition:
    for side in (left, right):
        if not isinstance(side, Condition):
            raise InputError(f"both sides of {op} must be conditions, got {side!r}")
    return Condition(op, (left, right))


def _text(arg: Any) -> str:
    return f"{arg:g}" if isinstance(arg, float) else str(arg) if isinstance(arg, str) else repr(arg)


def _merge(into: dict[str, Any], more: Mapping[str, Any]) -> None:
    for name, default in more.items():
        if name in into and not (into[name] is default or into[name] == default):
            raise InputError(f"parameter {name!r} must have one default, got {into[name]!r} and {default!r}")
        into[name] = default


def merged_params(nodes: Iterator[Any] | list[Any]) -> dict[str, Any]:
    """Parameter names of several nodes (others are skipped), each with its default or ``REQUIRED``."""
    params: dict[str, Any] = {}
    for node in nodes:
        if isinstance(node, Node):
            _merge(params, node.params)
    return params

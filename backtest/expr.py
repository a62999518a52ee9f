"""Expressions: parameters, lines and conditions as trees of immutable nodes, and the operators that build them.

A node holds no bars; ``key`` is its structure.  What a condition needs to be evaluated is handed to its methods.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import numpy as np

from backtest._checks import Frozen, InputError, number
from backtest._said import shown

#: Depth of a tree.  Python's pickle, ``repr`` and ``==`` recurse into it, and reach their limit at about 250.
MAX_DEPTH = 100
#: Operations in a tree; a shared subtree counts once for each use, so ``x = x + x`` doubles the number.
MAX_NODES = 100_000


class REQUIRED:
    """Marks a parameter without a default: every candidate must give it a value (a class, so that it survives pickling)."""


class Node(Frozen):
    """One operation and its arguments (nodes, numbers or strings).

    Attributes
    ----------
    op : str
        Name of the operation, as it stands in the key and in the text.
    args : tuple
    key : tuple
        Structure of the tree, hashable and equal for equal trees, which share what is computed for them.
    params : dict
        Parameters of the tree by name, each with its default or ``REQUIRED``.
    depth, n_nodes : int
        Depth of the tree, and its number of operations.
    """

    __slots__ = ("args", "depth", "key", "n_nodes", "op", "params")
    __array_ufunc__ = None  # makes NumPy scalars on the left use the operators below

    op: str
    args: tuple[Any, ...]
    key: tuple[Any, ...]
    params: dict[str, Any]
    depth: int
    n_nodes: int

    def __init__(self, op: str, args: tuple[Any, ...], *, identity: Any = None) -> None:
        children = [arg for arg in args if isinstance(arg, Node)]
        self.depth = 1 + max((arg.depth for arg in children), default=0)
        self.n_nodes = 1 + sum(arg.n_nodes for arg in children)
        if self.depth > MAX_DEPTH or self.n_nodes > MAX_NODES:
            raise InputError(
                f"an expression must have at most {MAX_DEPTH} nested operations and {MAX_NODES:,} in all, got "
                f"{self.depth} and {self.n_nodes:,}; a function with @bt.line computes any line at once, and "
                "rules.from_arrays takes ready signals"
            )
        self.op, self.args, self.params = op, args, merged_params(args)
        self.key = (op, identity, *(arg.key if isinstance(arg, Node) else arg for arg in args))

    def __bool__(self) -> bool:
        raise InputError(
            f"{_brief(self)} has no truth value before bars are known; combine conditions with & | ~, not and/or/not"
            "; a < b < c is (a < b) & (b < c)"
        )

    def __eq__(self, other: Any) -> bool:
        return self is other or self._unequal("==", other)

    def __ne__(self, other: Any) -> bool:
        return self is not other and self._unequal("!=", other)

    def _unequal(self, sign: str, other: Any) -> Any:
        """Refuse ``==`` and ``!=`` with numbers, arrays and nodes; other types are unequal, as containers expect."""
        if isinstance(other, (bool, int, float, Node)) or hasattr(other, "__array__"):
            raise InputError(
                f"lines and conditions have no {sign}, got {_brief(self)} {sign} {_brief(other)}; write "
                "(a >= b) & (a <= b) for equal, and ~ for not"
            )
        return NotImplemented

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(text, self.args))})" if self.args else self.op


class Value(Node):
    """A number per bar, or one number for all bars: has arithmetic and comparisons."""

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
        return Comparison(">", self, other)

    def __ge__(self, other: Any) -> Condition:
        return Comparison(">=", self, other)

    def __lt__(self, other: Any) -> Condition:
        return Comparison("<", self, other)

    def __le__(self, other: Any) -> Condition:
        return Comparison("<=", self, other)

    def _refuse_logical(self, other: Any = None) -> NoReturn:
        """Refuse ``a > 5 & b < 3``, which Python reads as ``a > (5 & b) < 3``."""
        raise InputError(
            f"both sides of & must be conditions (so must operands of | and ~), got {_brief(self)}; put each comparison "
            "into parentheses: (a > 5) & (b < 3)"
        )

    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = __invert__ = _refuse_logical


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


class Arithmetic(Line):
    """Sum, difference, product or quotient, bar by bar."""

    __slots__ = ()
    _FUNCTIONS: Mapping[str, Any] = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}

    def apply(self, values: Iterable[Any]) -> Any:
        """The result, given the operands' values: an array, or a number if all of them are."""
        with np.errstate(all="ignore"):  # infinities are values; a NaN is refused with its row
            result = functools.reduce(self._FUNCTIONS[self.op], values)
        return result if isinstance(result, np.ndarray) else float(result)

    def __repr__(self) -> str:
        return f" {self.op} ".join(f"({arg!r})" if isinstance(arg, Arithmetic) else text(arg) for arg in self.args)


class Condition(Node):
    """True or False per bar; combine with ``& | ~``."""

    __slots__ = ()

    def _refuse_comparison(self, other: Any) -> NoReturn:
        """Refuse ``(a < b) < c``."""
        raise InputError(
            f"< <= > >= must stand between lines and numbers, got the condition {_brief(self)}; write (a < b) & (b < c)"
        )

    __lt__ = __le__ = __gt__ = __ge__ = _refuse_comparison

    def __and__(self, other: Any) -> Condition:
        return _combination(And, self, other)

    def __or__(self, other: Any) -> Condition:
        return _combination(Or, self, other)

    __rand__, __ror__ = __and__, __or__  # the left side is no condition, and is refused

    def __invert__(self) -> Condition:
        return Not(self)

    def leaves(self) -> Iterator[Condition]:
        """The conditions that ``& | ~`` combine; the condition itself if it is no combination."""
        yield self

    def warm_up(self, operand_warm_up: Callable[[Any], int], cross_bars: int = 1) -> int:
        """Longest warm-up; ``operand_warm_up`` gives that of an operand, and a cross takes ``cross_bars`` more."""
        return max((leaf.warm_up(operand_warm_up, cross_bars) for leaf in self.leaves() if leaf is not self), default=0)


class Comparison(Condition):
    """``left > right`` on each bar, or ``>=``, ``<``, ``<=``."""

    __slots__ = ()
    #: Earlier bars that are compared too.
    lookback = 0

    def __init__(self, op: str, left: Any, right: Any) -> None:
        super().__init__(op, (operand("left side", left), operand("right side", right)))

    @property
    def mirror_key(self) -> tuple[Any, ...] | None:
        """Key of the comparison whose masks the same kernel call computes, if there is one."""
        return None

    def fill(self, kernel: Any, table: Any, pairs: Any, start: int, stop: int, masks: Any, mirrored: Any) -> None:
        """Write the masks of ``Pairs`` of a ``LineTable``, and those of the mirror comparison if ``mirrored`` has rows."""
        if self.op in ("<", "<="):
            pairs = pairs.swapped()
        kernel.compare(table.values, table.coarse, pairs, self.op in ("<", ">"), table.n_bars, start, stop, masks)

    def warm_up(self, operand_warm_up: Callable[[Any], int], cross_bars: int = 1) -> int:
        """The longest of its operands, and ``cross_bars`` for a cross."""
        return max(map(operand_warm_up, self.args)) + self.lookback * cross_bars

    def __repr__(self) -> str:
        return f"{text(self.args[0])} {self.op} {text(self.args[1])}"


class Cross(Comparison):
    """``left`` crosses above ``right``: greater now, and not on the bar before."""

    __slots__ = ()
    lookback = 1
    __repr__ = Node.__repr__

    def __init__(self, left: Any, right: Any) -> None:
        super().__init__("crosses_above", left, right)

    @property
    def mirror_key(self) -> tuple[Any, ...] | None:
        """Key of ``right`` crossing above ``left``."""
        return *self.key[:2], *reversed(self.key[2:])

    def fill(self, kernel: Any, table: Any, pairs: Any, start: int, stop: int, masks: Any, mirrored: Any) -> None:
        """Both crosses come out of one kernel call."""
        kernel.crosses(table.values, table.coarse, pairs, table.n_bars, start, stop, masks, mirrored)


class Combination(Condition):
    """Conditions combined by a logical operation; False in the warm-up of any of them."""

    __slots__ = ()
    sign: str
    function: np.ufunc

    def __init__(self, *parts: Condition) -> None:
        super().__init__(self.sign, parts)

    def combine(self, parts: list[Any], out: Any) -> None:
        """Combine the masks of the parts into ``out``."""
        self.function(*parts[:2], out=out)
        for part in parts[2:]:
            self.function(out, part, out=out)

    def leaves(self) -> Iterator[Condition]:
        """The leaves of every part."""
        for part in self.args:
            yield from part.leaves()

    def __repr__(self) -> str:
        parts = f" {self.op} ".join(f"({part!r})" for part in self.args)
        return parts if len(self.args) > 1 else self.op + parts


class And(Combination):
    """All parts are True."""

    __slots__ = ()
    sign, function = "&", np.bitwise_and


class Or(Combination):
    """At least one part is True."""

    __slots__ = ()
    sign, function = "|", np.bitwise_or


class Not(Combination):
    """The part is False."""

    __slots__ = ()
    sign, function = "~", np.invert


def operand(name: str, value: Any) -> Value | float:
    """``value`` as a node or a float; anything else is refused."""
    if isinstance(value, Value):
        return value
    if not isinstance(value, np.generic) and hasattr(value, "__array__"):
        raise InputError(
            f"{name} must be a number, got {type(value).__name__} of shape {np.shape(value)}; a function with "
            "@bt.line makes a line of values, and rules.from_arrays takes ready signals"
        )
    if isinstance(value, Condition):
        raise InputError(f"{name} must be a number, got {_brief(value)}, a condition")
    return number(name, value)


def _arithmetic(op: str, left: Any, right: Any) -> Line:
    return Arithmetic(op, _flat(Arithmetic, op, operand("left operand", left), operand("right operand", right)))


def _combination(kind: type[Combination], left: Any, right: Any) -> Condition:
    for side in (left, right):
        if not isinstance(side, Condition):
            raise InputError(f"both sides of {kind.sign} must be conditions, got {shown(side)}")
    return kind(*_flat(kind, kind.sign, left, right))


def _flat(kind: type[Node], op: str, left: Any, right: Any) -> tuple[Any, ...]:
    """The operands; where the tree would be too deep, those of a whole chain of one operation, evaluated from the left."""
    if max(each.depth for each in (left, right) if isinstance(each, Node)) < MAX_DEPTH:
        return left, right
    is_logical, parts = kind is not Arithmetic, []  # associative, so the right side is flattened too
    stack = [left, right] if is_logical else [left]
    while stack:
        node = stack.pop()
        if not isinstance(node, kind) or node.op != op:
            parts.append(node)
        elif is_logical:
            stack.extend(node.args)
        else:
            parts.extend(reversed(node.args[1:]))
            stack.append(node.args[0])
    parts.reverse()
    return tuple(parts) if is_logical else (*parts, right)


def _brief(value: Any) -> str:
    """A node as text for messages; of a large tree only its operation and size."""
    if isinstance(value, Node) and value.n_nodes > 100:
        return f"{value.op}(...) of {value.n_nodes:,} operations"
    if not isinstance(value, (Node, np.generic)) and hasattr(value, "__array__"):
        return f"a {type(value).__name__}"
    return shown(value)


def text(arg: Any) -> str:
    """An argument as it stands in a node's text."""
    return f"{arg:g}" if isinstance(arg, float) else str(arg) if isinstance(arg, str) else repr(arg)


def merged_params(nodes: Iterable[Any]) -> dict[str, Any]:
    """Parameter names of several nodes (others are skipped), each with its default or ``REQUIRED``."""
    params: dict[str, Any] = {}
    for node in nodes:
        for name, default in node.params.items() if isinstance(node, Node) else ():
            if not (params.setdefault(name, default) is default or params[name] == default):
                raise InputError(f"parameter {shown(name)} must have one default, got {shown(params[name])} and {shown(default)}")
    return params

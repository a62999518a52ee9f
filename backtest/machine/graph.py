"""The expressions of a strategy as a graph: every distinct operation once, constants folded by the same IEEE operations.

A node is known by its number; its operands have smaller ones.  Numbers and words (booleans, one bit for each candidate) are kept
apart: ``is_word`` tells which a node is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from backtest.machine.program import OPS

#: Version of what a graph means and of how it is written down; part of every strategy's key.
VERSION = 1
#: Operations whose result is a word.
WORD_OPS = frozenset(("LT", "LE", "EQ", "NE", "AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "WSELECT"))
#: Leaves; those of the second line are words.
NUMBER_LEAVES = ("constant", "param", "field", "state", "line")
WORD_LEAVES = ("truth", "flag", "flag_state", "mask")


def divide(a: float, b: float) -> float:
    """``a / b`` as IEEE 754 has it: infinite or NaN where Python raises."""
    if b != 0.0:
        return a / b
    return math.nan if a == 0.0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)


def square_root(a: float) -> float:
    """The square root; NaN of a negative number."""
    return math.nan if a < 0.0 else math.sqrt(a)


_FOLD: dict[str, Callable[..., Any]] = {
    "ADD": operator.add,
    "SUB": operator.sub,
    "MUL": operator.mul,
    "DIV": divide,
    "MIN": lambda a, b: b if b < a else a,
    "MAX": lambda a, b: b if b > a else a,
    "NEG": operator.neg,
    "ABS": abs,
    "SQRT": square_root,
    "NUMBER": float,
    "LT": operator.lt,
    "LE": operator.le,
    "EQ": operator.eq,
    "NE": operator.ne,
}

#: Operations that give their first operand, whatever it is, if the second is this number; -0.0 + 0.0 is not -0.0.
_SAME = {("SUB", 0.0), ("MUL", 1.0), ("DIV", 1.0)}


class Graph:
    """Distinct nodes, each a tuple of its operation and its operands (of a leaf: of what it reads).

    Attributes
    ----------
    nodes : list of tuple
    is_word : list of bool
    """

    def __init__(self) -> None:
        self.nodes: list[tuple[Any, ...]] = []
        self.is_word: list[bool] = []
        self._numbers: dict[tuple[Any, ...], int] = {}
        self.false, self.true = self.leaf("truth", False), self.leaf("truth", True)

    def leaf(self, kind: str, *what: Any) -> int:
        """A leaf, of one of ``NUMBER_LEAVES`` or ``WORD_LEAVES``."""
        return self._node((kind, *what), kind in WORD_LEAVES)

    def constant(self, value: float) -> int:
        """A number that is the same everywhere; 0.0 and -0.0 are two."""
        return self.leaf("constant", float(value).hex())

    def truth(self, value: bool) -> int:
        """True or False, the same everywhere."""
        return self.true if value else self.false

    def known(self, node: int) -> float | bool | None:
        """The value of a constant; None of other nodes."""
        op, *what = self.nodes[node]
        if op == "constant":
            return float.fromhex(what[0])
        return bool(what[0]) if op == "truth" else None

    def add(self, op: str, *args: int) -> int:
        """The node of an operation, which may be one that is there already, or one of its operands."""
        fold = _FOLD.get(op)
        if fold is None:
            return self._logical(op, args)
        values = [self.known(arg) for arg in args]
        if None not in values:
            result = fold(*values)
            return self.truth(result) if op in WORD_OPS else self.constant(result)
        last = values[-1]
        if last is not None and (op, last) in _SAME and math.copysign(1.0, last) > 0.0:
            return args[0]
        if op == "MUL" and values[0] == 1.0:
            return args[1]
        return self._node((op, *(sorted(args) if op in ("EQ", "NE") else args)), op in WORD_OPS)

    def all_of(self, a: int, b: int) -> int:
        """Both words."""
        return self.add("AND", a, b)

    def without(self, a: int, b: int) -> int:
        """The first word where the second is false."""
        return self.add("ANDNOT", a, b)

    def choice(self, condition: int, a: int, b: int) -> int:
        """``a`` where the condition is true, else ``b``; both are numbers, or both words."""
        return self.add("WSELECT" if self.is_word[a] else "SELECT", condition, a, b)

    def as_number(self, node: int) -> int:
        """The node, a word as 1 or 0."""
        return self.add("NUMBER", node) if self.is_word[node] else node

    def as_word(self, node: int) -> int:
        """The node, a number as true where it is not 0 (NaN is not, as in Python)."""
        return node if self.is_word[node] else self.add("NE", node, self.constant(0.0))

    def _node(self, key: tuple[Any, ...], is_word: bool) -> int:
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.nodes)
            self.nodes.append(key)
            self.is_word.append(is_word)
        return number

    def _logical(self, op: str, args: tuple[int, ...]) -> int:
        """An operation on words, simplified where an operand is known or comes twice."""
        if op in ("SELECT", "WSELECT"):
            return self._choice(op, *args)
        if op == "NOT":
            [a] = args
            if (known := self.known(a)) is not None:
                return self.truth(not known)
            return self.nodes[a][1] if self.nodes[a][0] == "NOT" else self._node((op, a), True)
        if op not in OPS:
            raise ValueError(f"unknown operation {op}")
        a, b = args
        false, true = self.false, self.true
        if op == "ANDNOT":
            if b == false:
                return a
            if a in (false, b) or b == true:
                return false
            return self.add("NOT", b) if a == true else self._node((op, a, b), True)
        low, high = sorted(args)  # false and true are the first nodes
        if low == high:
            return false if op == "XOR" else low
        if op == "AND" and low in (false, true):
            return false if low == false else high
        if op == "OR" and low in (false, true):
            return high if low == false else true
        if op == "XOR" and low in (false, true):
            return high if low == false else self.add("NOT", high)
        if op == "AND":  # a and not b
            for one, other in ((low, high), (high, low)):
                if self.nodes[other][0] == "NOT":
                    return self.add("ANDNOT", one, self.nodes[other][1])
        return self._node((op, low, high), True)

    def _choice(self, op: str, condition: int, a: int, b: int) -> int:
        if a == b:
            return a
        if (known := self.known(condition)) is not None:
            return a if known else b
        if op == "WSELECT":
            if a == self.true:
                return self.add("OR", condition, b)
            if a == self.false:
                return self.add("ANDNOT", b, condition)
            if b == self.false:
                return self.add("AND", condition, a)
            if b == self.true:
                return self.add("OR", a, self.add("NOT", condition))
        if self.nodes[condition][0] == "NOT":
            condition, a, b = self.nodes[condition][1], b, a
        return self._node((op, condition, a, b), op == "WSELECT")

"""``where`` over whole boxes of candidates: what an expression may be when its parameters may be any of several values.

Never too narrow: what a candidate of the box makes of an expression is among what is said here.  ``+ - * /`` of float64s are
rounded correctly, so their results grow with the exact ones, and results at the ends bound those in between to the last bit.
Powers and floors are given room.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.where import dotted

Bools = NDArray[np.bool_]

#: Share by which a power, or the floor of a quotient, may be off.
_ROOM = 1e-12
#: Whole quotients up to here are floored exactly.
_MAX_QUOTIENT = 2.0**52


class Range(NamedTuple):
    """A number from ``low`` to ``high`` if ``can_be``, or nothing (None, NaN) if ``can_miss``; a row for each box."""

    low: Any
    high: Any
    can_be: Any = np.True_
    can_miss: Any = np.False_


class Texts(NamedTuple):
    """One of ``values``, some of which are text: those that ``can``, shape (n_boxes or 1, n_values)."""

    values: tuple[Any, ...]
    can: Bools


class Truth(NamedTuple):
    """Whether a condition holds for some candidate of a box, and whether it fails for some."""

    can_hold: Any
    can_fail: Any


May = Range | Texts | Truth

ANYTHING = Range(-np.inf, np.inf, np.True_, np.True_)
_UNKNOWN = Truth(np.True_, np.True_)


def may_be(node: ast.AST, seen: Mapping[str, May]) -> May:
    """What an expression that :class:`backtest.where.Where` has checked may be.

    Parameters
    ----------
    node : ast.AST
    seen : mapping
        What each parameter may be.
    """
    with np.errstate(all="ignore"):
        return _may_be(node, seen)


def truth(value: May) -> Truth:
    """Whether something counts as true."""
    if isinstance(value, Truth):
        return value
    if isinstance(value, Texts):
        counts = np.array([bool(each) for each in value.values])
        return Truth((value.can & counts).any(axis=1), (value.can & ~counts).any(axis=1))
    is_zero = (value.low == 0) & (value.high == 0)
    return Truth(value.can_be & ~is_zero, value.can_miss | (value.can_be & (value.low <= 0) & (value.high >= 0)))


def _may_be(node: ast.AST, seen: Mapping[str, May]) -> May:
    name = dotted(node)
    if name is not None:
        return seen[name]
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.BoolOp):
        parts = [truth(_may_be(value, seen)) for value in node.values]
        return _all(parts) if isinstance(node.op, ast.And) else _not(_all([_not(part) for part in parts]))
    if isinstance(node, ast.UnaryOp):
        value = _may_be(node.operand, seen)
        if isinstance(node.op, ast.Not):
            return _not(truth(value))
        number = _number(value)
        return number._replace(low=-number.high, high=-number.low) if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp):
        return _combined(node.op, _number(_may_be(node.left, seen)), _number(_may_be(node.right, seen)))
    assert isinstance(node, ast.Compare)
    steps, left = [], _may_be(node.left, seen)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        if isinstance(op, (ast.In, ast.NotIn)):
            assert isinstance(right_node, (ast.Tuple, ast.List))
            differs = _all([_not(_equal(left, _may_be(each, seen))) for each in right_node.elts])
            steps.append(differs if isinstance(op, ast.NotIn) else _not(differs))
            continue
        right = _may_be(right_node, seen)
        steps.append(_compared(op, left, right))
        left = right
    return _all(steps)


def _constant(value: Any) -> May:
    if isinstance(value, str):
        return Texts((value,), np.ones((1, 1), dtype=np.bool_))
    if value is None:
        return Range(0.0, 0.0, np.False_, np.True_)
    return Range(np.float64(value), np.float64(value))


def _all(parts: list[Truth]) -> Truth:
    can_hold, can_fail = np.True_, np.False_
    for part in parts:
        can_hold, can_fail = can_hold & part.can_hold, can_fail | part.can_fail
    return Truth(can_hold, can_fail)


def _not(part: Truth) -> Truth:
    return Truth(part.can_fail, part.can_hold)


def _number(value: May) -> Range:
    if isinstance(value, Truth):
        return Range(np.where(value.can_fail, 0.0, 1.0), np.where(value.can_hold, 1.0, 0.0))
    return ANYTHING if isinstance(value, Texts) else value  # there is no arithmetic on text


# -- comparisons -------------------------------------------------------------------------------------------------------


def _compared(op: ast.cmpop, left: May, right: May) -> Truth:
    if isinstance(op, (ast.Eq, ast.Is)):
        return _equal(left, right)
    if isinstance(op, (ast.NotEq, ast.IsNot)):
        return _not(_equal(left, right))
    if isinstance(left, Texts) or isinstance(right, Texts):
        return _UNKNOWN  # such a comparison may be an error, which is not said here
    a, b = _number(left), _number(right)
    if isinstance(op, (ast.Gt, ast.GtE)):
        a, b = b, a
    both, either_misses = a.can_be & b.can_be, a.can_miss | b.can_miss
    if isinstance(op, (ast.Lt, ast.Gt)):
        return Truth(both & (a.low < b.high), either_misses | (both & (a.high >= b.low)))
    return Truth(both & (a.low <= b.high), either_misses | (both & (a.high > b.low)))


def _equal(left: May, right: May) -> Truth:
    if isinstance(left, Texts) and isinstance(right, Texts):
        alike = np.array([[bool(a == b) for b in right.values] for a in left.values])
        pairs = left.can[:, :, np.newaxis] & right.can[:, np.newaxis, :]
        return Truth((pairs & alike).any(axis=(1, 2)), (pairs & ~alike).any(axis=(1, 2)))
    if isinstance(left, Texts):
        return _equal(right, left)
    a = _number(left)
    if isinstance(right, Texts):
        can_hold = np.False_
        for place, value in enumerate(right.values):
            if value is None:
                can_hold = can_hold | (right.can[:, place] & a.can_miss)
            elif not isinstance(value, str):
                can_hold = can_hold | (right.can[:, place] & a.can_be & (a.low <= value) & (value <= a.high))
        return Truth(can_hold, np.True_)
    b = _number(right)
    both = a.can_be & b.can_be
    is_one = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    can_hold = (both & (a.low <= b.high) & (b.low <= a.high)) | (a.can_miss & b.can_miss)
    return Truth(can_hold, (both & ~is_one) | (a.can_miss & b.can_be) | (a.can_be & b.can_miss))


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _combined(op: ast.operator, a: Range, b: Range) -> Range:
    is_finite = np.isfinite(a.low) & np.isfinite(a.high) & np.isfinite(b.low) & np.isfinite(b.high)
    low, high, is_known = _ARITHMETIC[type(op)](a, b)
    is_known = is_known & is_finite & ~np.isnan(low) & ~np.isnan(high)
    both, either_misses = a.can_be & b.can_be, a.can_miss | b.can_miss
    if isinstance(op, ast.Pow):  # NaN to the power of 0 is 1, and so is 1 to the power of NaN
        is_known, both = is_known & ~either_misses, both | either_misses
    return Range(np.where(is_known, low, -np.inf), np.where(is_known, high, np.inf), both, either_misses | ~is_known)


def _sum(a: Range, b: Range) -> tuple[Any, Any, Any]:
    return a.low + b.low, a.high + b.high, np.True_


def _difference(a: Range, b: Range) -> tuple[Any, Any, Any]:
    return a.low - b.high, a.high - b.low, np.True_


def _at_corners(ufunc: Any, a: Range, b: Range) -> tuple[Any, Any]:
    corners = [ufunc(x, y) for x in (a.low, a.high) for y in (b.low, b.high)]
    return (
        np.minimum(np.minimum(corners[0], corners[1]), np.minimum(corners[2], corners[3])),
        np.maximum(np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3])),
    )


def _product(a: Range, b: Range) -> tuple[Any, Any, Any]:
    return *_at_corners(np.multiply, a, b), np.True_


def _keeps_off_zero(b: Range) -> Any:
    return (b.low > 0) | (b.high < 0)


def _quotient(a: Range, b: Range) -> tuple[Any, Any, Any]:
    return *_at_corners(np.divide, a, b), _keeps_off_zero(b)


def _are_points(a: Range, b: Range) -> Any:
    return (a.low == a.high) & (b.low == b.high)


def _floored(a: Range, b: Range) -> tuple[Any, Any, Any]:
    low, high = _at_corners(np.floor_divide, a, b)
    exact = np.where(_are_points(a, b), 0.0, 1.0)
    return low - exact * (1.0 + np.abs(low) * _ROOM), high + exact * (1.0 + np.abs(high) * _ROOM), _keeps_off_zero(b)


def _remainder(a: Range, b: Range) -> tuple[Any, Any, Any]:
    first, last = np.floor_divide(a.low, b.low), np.floor_divide(a.high, b.low)
    # Between two multiples of one divisor the remainder grows with the number.
    grows = (b.low == b.high) & (first == last) & (np.abs(first) < _MAX_QUOTIENT)
    grows = grows | _are_points(a, b)
    low = np.where(grows, np.mod(a.low, b.low), np.minimum(b.low, 0.0))
    high = np.where(grows, np.mod(a.high, b.low), np.maximum(b.high, 0.0))
    return low, high, _keeps_off_zero(b)


def _power(a: Range, b: Range) -> tuple[Any, Any, Any]:
    low, high = _at_corners(np.power, a, b)
    is_whole = (b.low == b.high) & (b.low >= 0) & (b.low == np.floor(b.low))
    turns = is_whole & (b.low > 0) & (np.mod(b.low, 2.0) == 0) & (a.low < 0) & (a.high > 0)  # an even power is 0 at 0
    low = np.where(turns, 0.0, low)
    tiny = np.finfo(np.float64).tiny
    return low - np.abs(low) * _ROOM - tiny, high + np.abs(high) * _ROOM + tiny, is_whole | (a.low > 0)


_ARITHMETIC: dict[type[ast.operator], Any] = {
    ast.Add: _sum,
    ast.Sub: _difference,
    ast.Mult: _product,
    ast.Div: _quotient,
    ast.FloorDiv: _floored,
    ast.Mod: _remainder,
    ast.Pow: _power,
}

"""``where`` over whole boxes of candidates: the possible values of an expression whose parameters take any of several values.

Never too narrow: the value for every candidate of the box is included.  ``+ - * /`` of float64s are rounded
correctly, hence monotonic, and results at the ends bound those in between to the last bit.  Powers and floors are widened.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.where import dotted

Bools = NDArray[np.bool_]

#: Relative error allowed for a power, or the floor of a quotient.
_MARGIN = 1e-12
#: Whole quotients up to here are floored exactly.
_MAX_QUOTIENT = 2.0**52


class Range(NamedTuple):
    """A number from ``low`` to ``high`` if ``can_be_number``, None (NaN) if ``can_be_none``; one row for each box."""

    low: Any
    high: Any
    can_be_number: Any = np.True_
    can_be_none: Any = np.False_


class Texts(NamedTuple):
    """One of ``values``, some of which are text; ``is_possible`` has shape (n_boxes or 1, n_values)."""

    values: tuple[Any, ...]
    is_possible: Bools


class Truth(NamedTuple):
    """Whether a condition holds for some candidate of a box, and whether it fails for some."""

    can_hold: Any
    can_fail: Any


Possible = Range | Texts | Truth

ANYTHING = Range(-np.inf, np.inf, np.True_, np.True_)
_UNKNOWN = Truth(np.True_, np.True_)


def possible_values(node: ast.AST, possible: Mapping[str, Possible]) -> Possible:
    """Possible values of an expression that :class:`backtest.where.Where` has checked.

    Parameters
    ----------
    node : ast.AST
    possible : mapping
        Possible values of each parameter.
    """
    with np.errstate(all="ignore"):
        return _possible_values(node, possible)


def truth(value: Possible) -> Truth:
    """Whether a value can be true, and whether it can be false."""
    if isinstance(value, Truth):
        return value
    if isinstance(value, Texts):
        counts = np.array([bool(each) for each in value.values])
        return Truth((value.is_possible & counts).any(axis=1), (value.is_possible & ~counts).any(axis=1))
    is_zero = (value.low == 0) & (value.high == 0)
    return Truth(value.can_be_number & ~is_zero, value.can_be_none | (value.can_be_number & (value.low <= 0) & (value.high >= 0)))


def _possible_values(node: ast.AST, possible: Mapping[str, Possible]) -> Possible:
    name = dotted(node)
    if name is not None:
        return possible[name]
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.BoolOp):
        parts = [truth(_possible_values(value, possible)) for value in node.values]
        return _all(parts) if isinstance(node.op, ast.And) else _not(_all([_not(part) for part in parts]))
    if isinstance(node, ast.UnaryOp):
        value = _possible_values(node.operand, possible)
        if isinstance(node.op, ast.Not):
            return _not(truth(value))
        number = _number(value)
        return number._replace(low=-number.high, high=-number.low) if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp):
        return _combined(node.op, _number(_possible_values(node.left, possible)), _number(_possible_values(node.right, possible)))
    assert isinstance(node, ast.Compare)
    steps, left = [], _possible_values(node.left, possible)
    for op, right_node in zip(node.ops, node.comparators, strict=True):
        if isinstance(op, (ast.In, ast.NotIn)):
            assert isinstance(right_node, (ast.Tuple, ast.List))
            differs = _all([_not(_equal(left, _possible_values(each, possible))) for each in right_node.elts])
            steps.append(differs if isinstance(op, ast.NotIn) else _not(differs))
            continue
        right = _possible_values(right_node, possible)
        steps.append(_compared(op, left, right))
        left = right
    return _all(steps)


def _constant(value: Any) -> Possible:
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


def _number(value: Possible) -> Range:
    if isinstance(value, Truth):
        return Range(np.where(value.can_fail, 0.0, 1.0), np.where(value.can_hold, 1.0, 0.0))
    return ANYTHING if isinstance(value, Texts) else value  # there is no arithmetic on text


# -- comparisons -------------------------------------------------------------------------------------------------------


def _compared(op: ast.cmpop, left: Possible, right: Possible) -> Truth:
    if isinstance(op, (ast.Eq, ast.Is)):
        return _equal(left, right)
    if isinstance(op, (ast.NotEq, ast.IsNot)):
        return _not(_equal(left, right))
    if isinstance(left, Texts) or isinstance(right, Texts):
        return _UNKNOWN  # such a comparison may raise an error, which is not decided here
    a, b = _number(left), _number(right)
    if isinstance(op, (ast.Gt, ast.GtE)):
        a, b = b, a
    both, either_none = a.can_be_number & b.can_be_number, a.can_be_none | b.can_be_none
    if isinstance(op, (ast.Lt, ast.Gt)):
        return Truth(both & (a.low < b.high), either_none | (both & (a.high >= b.low)))
    return Truth(both & (a.low <= b.high), either_none | (both & (a.high > b.low)))


def _equal(left: Possible, right: Possible) -> Truth:
    if isinstance(left, Texts) and isinstance(right, Texts):
        is_equal = np.array([[bool(a == b) for b in right.values] for a in left.values])
        pairs = left.is_possible[:, :, np.newaxis] & right.is_possible[:, np.newaxis, :]
        return Truth((pairs & is_equal).any(axis=(1, 2)), (pairs & ~is_equal).any(axis=(1, 2)))
    if isinstance(left, Texts):
        return _equal(right, left)
    a = _number(left)
    if isinstance(right, Texts):
        can_hold = np.False_
        for place, value in enumerate(right.values):
            if value is None:
                can_hold = can_hold | (right.is_possible[:, place] & a.can_be_none)
            elif not isinstance(value, str):
                can_hold = can_hold | (right.is_possible[:, place] & a.can_be_number & (a.low <= value) & (value <= a.high))
        return Truth(can_hold, np.True_)
    b = _number(right)
    both = a.can_be_number & b.can_be_number
    is_certain = (a.low == a.high) & (b.low == b.high) & (a.low == b.low)
    can_hold = (both & (a.low <= b.high) & (b.low <= a.high)) | (a.can_be_none & b.can_be_none)
    return Truth(can_hold, (both & ~is_certain) | (a.can_be_none & b.can_be_number) | (a.can_be_number & b.can_be_none))


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _combined(op: ast.operator, a: Range, b: Range) -> Range:
    is_finite = np.isfinite(a.low) & np.isfinite(a.high) & np.isfinite(b.low) & np.isfinite(b.high)
    low, high, is_known = _ARITHMETIC[type(op)](a, b)
    is_known = is_known & is_finite & ~np.isnan(low) & ~np.isnan(high)
    both, either_none = a.can_be_number & b.can_be_number, a.can_be_none | b.can_be_none
    if isinstance(op, ast.Pow):  # NaN to the power of 0 is 1, and so is 1 to the power of NaN
        is_known, both = is_known & ~either_none, both | either_none
    return Range(np.where(is_known, low, -np.inf), np.where(is_known, high, np.inf), both, either_none | ~is_known)


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


def _excludes_zero(b: Range) -> Any:
    return (b.low > 0) | (b.high < 0)


def _quotient(a: Range, b: Range) -> tuple[Any, Any, Any]:
    return *_at_corners(np.divide, a, b), _excludes_zero(b)


def _are_single(a: Range, b: Range) -> Any:
    return (a.low == a.high) & (b.low == b.high)


def _floored(a: Range, b: Range) -> tuple[Any, Any, Any]:
    low, high = _at_corners(np.floor_divide, a, b)
    widening = np.where(_are_single(a, b), 0.0, 1.0)
    return low - widening * (1.0 + np.abs(low) * _MARGIN), high + widening * (1.0 + np.abs(high) * _MARGIN), _excludes_zero(b)


def _remainder(a: Range, b: Range) -> tuple[Any, Any, Any]:
    first, last = np.floor_divide(a.low, b.low), np.floor_divide(a.high, b.low)
    # Between two multiples of one divisor the remainder grows with the number.
    grows = (b.low == b.high) & (first == last) & (np.abs(first) < _MAX_QUOTIENT)
    grows = grows | _are_single(a, b)
    low = np.where(grows, np.mod(a.low, b.low), np.minimum(b.low, 0.0))
    high = np.where(grows, np.mod(a.high, b.low), np.maximum(b.high, 0.0))
    return low, high, _excludes_zero(b)


def _power(a: Range, b: Range) -> tuple[Any, Any, Any]:
    low, high = _at_corners(np.power, a, b)
    is_whole = (b.low == b.high) & (b.low >= 0) & (b.low == np.floor(b.low))
    crosses_zero = is_whole & (b.low > 0) & (np.mod(b.low, 2.0) == 0) & (a.low < 0) & (a.high > 0)
    # The least value of an even power is at 0, not at an end.
    low = np.where(crosses_zero, 0.0, low)
    tiny = np.finfo(np.float64).tiny
    return low - np.abs(low) * _MARGIN - tiny, high + np.abs(high) * _MARGIN + tiny, is_whole | (a.low > 0)


_ARITHMETIC: dict[type[ast.operator], Any] = {
    ast.Add: _sum,
    ast.Sub: _difference,
    ast.Mult: _product,
    ast.Div: _quotient,
    ast.FloorDiv: _floored,
    ast.Mod: _remainder,
    ast.Pow: _power,
}

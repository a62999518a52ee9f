"""Reduction of a space by its conditions: values that no candidate can have are removed, equalities are solved.

That no candidate has a removed value is proved by :mod:`backtest.intervals`; the rest is still checked by ``where``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen
from backtest.intervals import Possible, Range, Texts, possible_values, truth
from backtest.space_params import Choice, Grid
from backtest.where import Where, dotted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A parameter of at most this many values is checked value by value; a longer one is only cut at its ends.
MAX_LISTED = 1 << 15
_N_PARTS = 4096
#: Passes over the parameters, at most and at least; after the least, a pass must leave no more than this share.
_MAX_PASSES, _MIN_PASSES, _LARGEST_SHARE = 100, 10, 0.9
#: An equality is solved only if rounding moves its solution by less than this share of a step.
_MAX_ROUNDING = 0.25
_EPS = 2.0**-53


class Domain(Frozen):
    """Remaining values of a parameter: ascending indices, listed, or contiguous from ``first`` on."""

    __slots__ = ("first", "listed", "parameter", "size")

    def __init__(self, parameter: Grid | Choice, first: int = 0, size: int | None = None, listed: Ints | None = None) -> None:
        self.parameter = parameter
        self.first = first if listed is None else int(listed[0])
        self.size = int(parameter.size if size is None else size) if listed is None else len(listed)
        # A contiguous list is not kept.
        self.listed = None if listed is None or int(listed[-1]) - self.first + 1 == self.size else listed

    def at(self, places: Ints) -> Ints:
        """Indices of the parameter at places of the domain."""
        return self.first + places if self.listed is None else self.listed[places]

    def place(self, index: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Places of indices in the domain, and which are in it; the others get any valid place."""
        if self.listed is None:
            place = np.clip(index - self.first, 0, self.size - 1)
        else:
            place = np.minimum(np.searchsorted(self.listed, index), self.size - 1)
        return place, self.at(place) == index

    def reduced(self, can_hold: NDArray[np.bool_], edges: Ints) -> Domain:
        """The domain without the parts (between ``edges``) in which the conditions cannot hold."""
        if len(edges) == self.size + 1:
            return Domain(self.parameter, listed=self.at(np.flatnonzero(can_hold)))
        parts = np.flatnonzero(can_hold)
        first, last = int(edges[parts[0]]), int(edges[parts[-1] + 1])
        return Domain(self.parameter, self.first + first, last - first)

    def edges(self) -> Ints:
        """Edges of the parts that are checked one by one: single values if there are not too many."""
        if self.size <= MAX_LISTED or isinstance(self.parameter, Choice):
            return np.arange(self.size + 1, dtype=np.int64)
        step = -(-self.size // _N_PARTS)
        return np.append(np.arange(0, self.size, step, dtype=np.int64), self.size)

    def whole(self) -> Possible:
        """Possible values of the whole domain."""
        if isinstance(self.parameter, Grid):
            ends = self.parameter.at(self.at(np.array([0, self.size - 1])))
            return Range(ends[0], ends[1])
        column = self._column()
        if column.dtype == object:
            return Texts(tuple(column), np.ones((1, len(column)), dtype=np.bool_))
        numbers = column[~np.isnan(column)]
        return Range(
            numbers.min() if len(numbers) else 0.0,
            numbers.max() if len(numbers) else 0.0,
            np.bool_(len(numbers)),
            np.bool_(len(numbers) < len(column)),
        )

    def parts(self, edges: Ints) -> Possible:
        """Possible values of each part."""
        if isinstance(self.parameter, Grid):
            return Range(self.parameter.at(self.at(edges[:-1])), self.parameter.at(self.at(edges[1:] - 1)))
        column = self._column()
        if column.dtype == object:
            return Texts(tuple(column), np.eye(len(column), dtype=np.bool_))
        is_number = ~np.isnan(column)
        numbers = np.where(is_number, column, 0.0)
        return Range(numbers, numbers, is_number, ~is_number)

    def _column(self) -> NDArray[Any]:
        assert isinstance(self.parameter, Choice)
        return self.parameter.column(self.at(np.arange(self.size)).astype(np.float64))


def narrow(
    parameters: Mapping[str, Grid | Choice], conditions: Mapping[str, Where], where: Where | None
) -> dict[str, Domain] | None:
    """Remaining values of each parameter; None if there can be no candidate.

    Parameters
    ----------
    parameters : mapping
        Those in ``where`` and the conditions, in order.
    conditions : mapping
        ``when`` of the parameters that have one.
    where : Where or None
    """
    domains = {name: Domain(each) for name, each in parameters.items()}
    for n_pass in range(_MAX_PASSES):
        before = math.prod(domain.size for domain in domains.values())
        for name in domains:
            while True:
                domain = domains[name]
                edges = domain.edges()
                can_hold = _can_hold(domains, conditions, where, name, edges)
                if not can_hold.any():
                    return None
                domains[name] = domain.reduced(can_hold, edges)
                if len(edges) == domain.size + 1 or domains[name].size == domain.size:
                    break
        left = math.prod(domain.size for domain in domains.values())
        if left == before or (n_pass >= _MIN_PASSES and left > _LARGEST_SHARE * before):
            break
    return domains


def _can_hold(
    domains: Mapping[str, Domain], conditions: Mapping[str, Where], where: Where | None, split: str, edges: Ints
) -> NDArray[np.bool_]:
    """Whether each part of one parameter can hold a candidate, for any values of the others."""
    can_hold: Any = np.ones(len(edges) - 1, dtype=np.bool_)
    possible: dict[str, Possible] = {}
    for name, domain in domains.items():
        value = domain.parts(edges) if name == split else domain.whole()
        if name in conditions:
            presence = truth(possible_values(conditions[name].tree, possible))
            has_first = np.bool_(domain.first == 0)  # an absent parameter has its first value
            if name == split:
                has_first = domain.at(edges[:-1]) == 0
            can_be_none = presence.can_fail & has_first
            can_hold = can_hold & (presence.can_hold | can_be_none)
            value = _optional(value, presence.can_hold, can_be_none)
        possible[name] = value
    if where is not None:
        can_hold = can_hold & truth(possible_values(where.tree, possible)).can_hold
    return np.broadcast_to(can_hold, (len(edges) - 1,))


def _optional(value: Possible, can_be_number: Any, can_be_none: Any) -> Possible:
    """Possible values of a parameter that can be absent."""
    if isinstance(value, Texts):
        can_be_number, can_be_none = np.atleast_1d(can_be_number)[:, np.newaxis], np.atleast_1d(can_be_none)[:, np.newaxis]
        rows = np.broadcast_shapes(value.is_possible.shape[:1], can_be_number.shape[:1], can_be_none.shape[:1])[0]
        parts = [
            np.broadcast_to(value.is_possible & can_be_number, (rows, len(value.values))),
            np.broadcast_to(can_be_none, (rows, 1)),
        ]
        return Texts((*value.values, None), np.concatenate(parts, axis=1))
    assert isinstance(value, Range)
    return value._replace(
        can_be_number=value.can_be_number & can_be_number, can_be_none=(value.can_be_none & can_be_number) | can_be_none
    )


# -- equalities --------------------------------------------------------------------------------------------------------


class SolvedEquality(NamedTuple):
    """An equality ``side == other`` whose ``side`` is linear in one parameter, which occurs nowhere else in it."""

    name: str
    side: ast.expr
    other: ast.expr
    stride: float  # change of side from one value of the parameter to the next

    def solution(self, where: Where, columns: Mapping[str, NDArray[Any]], reference: int) -> Ints:
        """The only index of the parameter that can solve it, by row; in ``columns`` the parameter is at ``reference``."""
        with np.errstate(all="ignore"):
            gap = where.value(self.other, columns) - where.value(self.side, columns)
            steps = np.rint(np.asarray(gap / self.stride, dtype=np.float64))
        return reference + np.where(np.abs(steps) < 2.0**53, steps, 0.0).astype(np.int64)


def solve_equalities(domains: Mapping[str, Domain], conditions: Mapping[str, Where], where: Where | None) -> list[SolvedEquality]:
    """Equalities that each determine one parameter, in the order in which they must be solved.

    Only those with a unique solution despite rounding; of several parameters the one with most values, then the last.
    """
    if where is None:
        return []
    possible: dict[str, Possible] = {}
    for name, domain in domains.items():
        possible[name] = domain.whole()
        if name in conditions:
            presence = truth(possible_values(conditions[name].tree, possible))
            possible[name] = _optional(possible[name], presence.can_hold, presence.can_fail)
    equalities: list[SolvedEquality] = []
    used: set[str] = set()  # an equality must not need a parameter that a later one determines
    for equality in _equalities(where.tree):
        names = [*_names(equality.left), *_names(equality.comparators[0])]
        solvable = [
            name
            for name in names
            if names.count(name) == 1
            and name not in used
            and name not in conditions
            and isinstance(domains[name].parameter, Grid)
            and domains[name].size > 1
        ]
        order = {name: place for place, name in enumerate(domains)}
        for name in sorted(solvable, key=lambda each: (domains[each].size, order[each]), reverse=True):
            sides = (equality.left, equality.comparators[0])
            side, other = sides if name in _names(sides[0]) else sides[::-1]
            stride = _stride(name, side, other, domains[name], possible)
            if stride is not None:
                equalities.append(SolvedEquality(name, side, other, stride))
                used.update(names)
                break
    return equalities


def _equalities(tree: ast.expr) -> list[ast.Compare]:
    """Equalities that every candidate satisfies."""
    if isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And):
        return [each for part in tree.values for each in _equalities(part)]
    is_one = isinstance(tree, ast.Compare) and len(tree.ops) == 1 and isinstance(tree.ops[0], ast.Eq)
    return [tree] if is_one and isinstance(tree, ast.Compare) else []


def _names(tree: ast.expr) -> list[str]:
    name = dotted(tree)
    if name is not None:
        return [name]
    return [each for child in ast.iter_child_nodes(tree) if isinstance(child, ast.expr) for each in _names(child)]


def _stride(name: str, side: ast.expr, other: ast.expr, domain: Domain, possible: Mapping[str, Possible]) -> float | None:
    """Change of ``side`` from one value of a parameter to the next; None if rounding could hide it."""
    assert isinstance(domain.parameter, Grid)
    path = _path(name, side)
    if path is None:
        return None
    slope, error = 1.0, 0.0  # error: bound of the rounding error of the node
    for node, factor in path:
        magnitude = _max_magnitude(possible_values(node, possible))
        slope, error = slope * factor, error * abs(factor) + _EPS * magnitude
    magnitude = _max_magnitude(possible_values(other, possible)) + _max_magnitude(possible_values(side, possible))
    stride = slope * domain.parameter.step
    if not math.isfinite(magnitude) or not math.isfinite(error) or stride == 0 or not math.isfinite(stride):
        return None
    rounding = (4 * error + 4 * _EPS * magnitude) / abs(stride) + float(domain.parameter.size) * (len(path) + 4) * 2 * _EPS
    return stride if rounding < _MAX_ROUNDING else None


def _path(name: str, node: ast.expr) -> list[tuple[ast.expr, float]] | None:
    """Nodes from a parameter up to an expression, with the factor of each; None if one is not linear."""
    if dotted(node) == name:
        return [(node, 1.0)]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        path, factor = _path(name, node.operand), 1.0 if isinstance(node.op, ast.UAdd) else -1.0
    elif isinstance(node, ast.BinOp):
        is_left = name in _names(node.left)
        path, rest = _path(name, node.left if is_left else node.right), node.right if is_left else node.left
        factor = _factor(node.op, rest, is_left)
    else:
        return None
    return None if path is None or not factor else [*path, (node, factor)]


def _factor(op: ast.operator, rest: ast.expr, is_left: bool) -> float:
    """Factor by which an operation multiplies its operand; 0 if it is not constant."""
    if isinstance(op, (ast.Add, ast.Sub)):
        return -1.0 if isinstance(op, ast.Sub) and not is_left else 1.0
    if not isinstance(rest, ast.Constant) or isinstance(rest.value, (str, bool)) or rest.value is None or not rest.value:
        return 0.0
    assert isinstance(rest.value, (int, float))
    if isinstance(op, ast.Mult):
        return float(rest.value)
    return 1.0 / float(rest.value) if isinstance(op, ast.Div) and is_left else 0.0


def _max_magnitude(value: Possible) -> float:
    """Largest magnitude of a value that is always a number; infinite if it may be none."""
    if not isinstance(value, Range) or bool(value.can_be_none):
        return math.inf
    return max(abs(float(value.low)), abs(float(value.high)))

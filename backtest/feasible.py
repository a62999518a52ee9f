"""Where in a space its conditions can hold at all: values that cannot be left out, equalities solved for a parameter.

What is left out is proved to be in no candidate (:mod:`backtest.intervals`); what is left is still looked at by ``where``.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen
from backtest.intervals import May, Range, Texts, may_be, truth
from backtest.space_params import Choice, Grid
from backtest.where import Where, dotted

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: A parameter of no more values than this is looked at value by value; of a longer one, parts are cut off its ends.
MAX_LISTED = 1 << 15
_PARTS = 4096
#: Rounds over the parameters at most, each from what the one before has left; after the first ones, only while they are worth it.
_ROUNDS, _FIRST_ROUNDS, _WORTH_A_ROUND = 100, 10, 0.9
#: An equality is solved only if rounding moves its solution by less than this share of a step.
_SURE = 0.25
_EPS = 2.0**-53


class Domain(Frozen):
    """Values of a parameter that are left: their indices, ascending, listed or from ``first`` on without a gap."""

    __slots__ = ("first", "listed", "parameter", "size")

    def __init__(self, parameter: Grid | Choice, first: int = 0, size: int | None = None, listed: Ints | None = None) -> None:
        self.parameter = parameter
        self.first = first if listed is None else int(listed[0])
        self.size = int(parameter.size if size is None else size) if listed is None else len(listed)
        # Without a gap, a list says nothing more.
        self.listed = None if listed is None or int(listed[-1]) - self.first + 1 == self.size else listed

    def at(self, places: Ints) -> Ints:
        """Indices of the parameter at places of the domain."""
        return self.first + places if self.listed is None else self.listed[places]

    def place(self, index: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        """Places of indices in the domain, and which are in it; of those that are not, a place all the same."""
        if self.listed is None:
            place = np.clip(index - self.first, 0, self.size - 1)
        else:
            place = np.minimum(np.searchsorted(self.listed, index), self.size - 1)
        return place, self.at(place) == index

    def cut(self, may_stay: NDArray[np.bool_], edges: Ints) -> Domain:
        """What is left of parts that begin at ``edges`` of places, of which some may stay."""
        if len(edges) == self.size + 1:
            return Domain(self.parameter, listed=self.at(np.flatnonzero(may_stay)))
        parts = np.flatnonzero(may_stay)
        first, last = int(edges[parts[0]]), int(edges[parts[-1] + 1])
        return Domain(self.parameter, self.first + first, last - first)

    def edges(self) -> Ints:
        """Where parts that are looked at one by one begin, and the end; a single value each if there are not too many."""
        if self.size <= MAX_LISTED or isinstance(self.parameter, Choice):
            return np.arange(self.size + 1, dtype=np.int64)
        step = -(-self.size // _PARTS)
        return np.append(np.arange(0, self.size, step, dtype=np.int64), self.size)

    def whole(self) -> May:
        """What the parameter may be."""
        if isinstance(self.parameter, Grid):
            ends = self.parameter.at(self.at(np.array([0, self.size - 1])))
            return Range(ends[0], ends[1])
        column = self._column()
        if column.dtype == object:
            return Texts(tuple(column), np.ones((1, len(column)), dtype=np.bool_))
        known = column[~np.isnan(column)]
        return Range(
            known.min() if len(known) else 0.0,
            known.max() if len(known) else 0.0,
            np.bool_(len(known)),
            np.bool_(len(known) < len(column)),
        )

    def parts(self, edges: Ints) -> May:
        """What the parameter may be in each part."""
        if isinstance(self.parameter, Grid):
            return Range(self.parameter.at(self.at(edges[:-1])), self.parameter.at(self.at(edges[1:] - 1)))
        column = self._column()
        if column.dtype == object:
            return Texts(tuple(column), np.eye(len(column), dtype=np.bool_))
        is_there = ~np.isnan(column)
        known = np.where(is_there, column, 0.0)
        return Range(known, known, is_there, ~is_there)

    def _column(self) -> NDArray[Any]:
        assert isinstance(self.parameter, Choice)
        return self.parameter.column(self.at(np.arange(self.size)).astype(np.float64))


def narrowed(
    parameters: Mapping[str, Grid | Choice], conditions: Mapping[str, Where], where: Where | None
) -> dict[str, Domain] | None:
    """What is left of each parameter; None if no candidate can be.

    Parameters
    ----------
    parameters : mapping
        Those that ``where`` and the conditions are about, in order.
    conditions : mapping
        ``when`` of the parameters that have one.
    where : Where or None
    """
    domains = {name: Domain(each) for name, each in parameters.items()}
    for turn in range(_ROUNDS):
        before = math.prod(domain.size for domain in domains.values())
        for name in domains:
            while True:
                domain = domains[name]
                edges = domain.edges()
                may_stay = _can_hold(domains, conditions, where, name, edges)
                if not may_stay.any():
                    return None
                domains[name] = domain.cut(may_stay, edges)
                if len(edges) == domain.size + 1 or domains[name].size == domain.size:
                    break
        left = math.prod(domain.size for domain in domains.values())
        if left == before or (turn >= _FIRST_ROUNDS and left > _WORTH_A_ROUND * before):
            break
    return domains


def _can_hold(
    domains: Mapping[str, Domain], conditions: Mapping[str, Where], where: Where | None, split: str, edges: Ints
) -> NDArray[np.bool_]:
    """Whether there can be a candidate in each part of one parameter, whatever the values of the others."""
    can_hold: Any = np.ones(len(edges) - 1, dtype=np.bool_)
    seen: dict[str, May] = {}
    for name, domain in domains.items():
        value = domain.parts(edges) if name == split else domain.whole()
        if name in conditions:
            there = truth(may_be(conditions[name].tree, seen))
            has_first = np.bool_(domain.first == 0)  # what is not there has its first value
            if name == split:
                has_first = domain.at(edges[:-1]) == 0
            can_miss = there.can_fail & has_first
            can_hold = can_hold & (there.can_hold | can_miss)
            value = _optional(value, there.can_hold, can_miss)
        seen[name] = value
    if where is not None:
        can_hold = can_hold & truth(may_be(where.tree, seen)).can_hold
    return np.broadcast_to(can_hold, (len(edges) - 1,))


def _optional(value: May, can_be: Any, can_miss: Any) -> May:
    """A parameter that may be there, and may be missing."""
    if isinstance(value, Texts):
        can_be, can_miss = np.atleast_1d(can_be)[:, np.newaxis], np.atleast_1d(can_miss)[:, np.newaxis]
        rows = np.broadcast_shapes(value.can.shape[:1], can_be.shape[:1], can_miss.shape[:1])[0]
        parts = [np.broadcast_to(value.can & can_be, (rows, len(value.values))), np.broadcast_to(can_miss, (rows, 1))]
        return Texts((*value.values, None), np.concatenate(parts, axis=1))
    assert isinstance(value, Range)
    return value._replace(can_be=value.can_be & can_be, can_miss=(value.can_miss & can_be) | can_miss)


# -- equalities --------------------------------------------------------------------------------------------------------


class Solved(NamedTuple):
    """An equality ``side == other`` whose ``side`` grows or falls evenly with one parameter, which is nowhere else in it."""

    name: str
    side: ast.expr
    other: ast.expr
    stride: float  # by which side changes from a value of the parameter to the next

    def solution(self, where: Where, seen: Mapping[str, NDArray[Any]], reference: int) -> Ints:
        """The only index of the parameter that may solve it, by row; ``seen`` has the parameter at ``reference``."""
        with np.errstate(all="ignore"):
            apart = where.value(self.other, seen) - where.value(self.side, seen)
            steps = np.rint(np.asarray(apart / self.stride, dtype=np.float64))
        return reference + np.where(np.abs(steps) < 2.0**53, steps, 0.0).astype(np.int64)


def solved(domains: Mapping[str, Domain], conditions: Mapping[str, Where], where: Where | None) -> list[Solved]:
    """Equalities that each give one parameter, in the order they have to be solved in.

    Only those whose solution is sure to be one value, whatever the rounding; of several parameters the one with most values,
    then the last.
    """
    if where is None:
        return []
    seen: dict[str, May] = {}
    for name, domain in domains.items():
        seen[name] = domain.whole()
        if name in conditions:
            there = truth(may_be(conditions[name].tree, seen))
            seen[name] = _optional(seen[name], there.can_hold, there.can_fail)
    found: list[Solved] = []
    taken: set[str] = set()  # an equality must not need a parameter that a later one gives
    for equality in _equalities(where.tree):
        names = [*_names(equality.left), *_names(equality.comparators[0])]
        open_to = [
            name
            for name in names
            if names.count(name) == 1
            and name not in taken
            and name not in conditions
            and isinstance(domains[name].parameter, Grid)
            and domains[name].size > 1
        ]
        last = {name: place for place, name in enumerate(domains)}
        for name in sorted(open_to, key=lambda each: (domains[each].size, last[each]), reverse=True):
            sides = (equality.left, equality.comparators[0])
            side, other = sides if name in _names(sides[0]) else sides[::-1]
            stride = _stride(name, side, other, domains[name], seen)
            if stride is not None:
                found.append(Solved(name, side, other, stride))
                taken.update(names)
                break
    return found


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


def _stride(name: str, side: ast.expr, other: ast.expr, domain: Domain, seen: Mapping[str, May]) -> float | None:
    """By how much ``side`` changes with each value of a parameter; None if it is not sure to tell them apart."""
    assert isinstance(domain.parameter, Grid)
    path = _path(name, side)
    if path is None:
        return None
    slope, error = 1.0, 0.0  # error: of rounding, at most, in units of the node
    for node, factor in path:
        most = _most(may_be(node, seen))
        slope, error = slope * factor, error * abs(factor) + _EPS * most
    most = _most(may_be(other, seen)) + _most(may_be(side, seen))
    stride = slope * domain.parameter.step
    if not math.isfinite(most) or not math.isfinite(error) or stride == 0 or not math.isfinite(stride):
        return None
    off = (4 * error + 4 * _EPS * most) / abs(stride) + float(domain.parameter.size) * (len(path) + 4) * 2 * _EPS
    return stride if off < _SURE else None


def _path(name: str, node: ast.expr) -> list[tuple[ast.expr, float]] | None:
    """From a parameter up to an expression, what each step multiplies it by; None if a step is not linear."""
    if dotted(node) == name:
        return [(node, 1.0)]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
        below, factor = _path(name, node.operand), 1.0 if isinstance(node.op, ast.UAdd) else -1.0
    elif isinstance(node, ast.BinOp):
        is_left = name in _names(node.left)
        below, rest = _path(name, node.left if is_left else node.right), node.right if is_left else node.left
        factor = _factor(node.op, rest, is_left)
    else:
        return None
    return None if below is None or not factor else [*below, (node, factor)]


def _factor(op: ast.operator, rest: ast.expr, is_left: bool) -> float:
    """What an operation multiplies its operand by; 0 if that is not one number."""
    if isinstance(op, (ast.Add, ast.Sub)):
        return -1.0 if isinstance(op, ast.Sub) and not is_left else 1.0
    if not isinstance(rest, ast.Constant) or isinstance(rest.value, (str, bool)) or rest.value is None or not rest.value:
        return 0.0
    assert isinstance(rest.value, (int, float))
    if isinstance(op, ast.Mult):
        return float(rest.value)
    return 1.0 / float(rest.value) if isinstance(op, ast.Div) and is_left else 0.0


def _most(value: May) -> float:
    """The largest size of a number that is sure to be one; infinite if it is not."""
    if not isinstance(value, Range) or bool(value.can_miss):
        return math.inf
    return max(abs(float(value.low)), abs(float(value.high)))

"""Candidates of a space by position: counted where that is possible, else among what its conditions leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen, SpaceError
from backtest.feasible import Domain, Solved, narrowed, solved
from backtest.space_params import Choice, Grid, Parameter
from backtest.where import Where

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Mapping[str, Floats]
#: Columns of a batch as conditions see them.
Seen = Callable[[Columns], Mapping[str, NDArray[Any]]]

#: ``where`` is counted exactly over at most this many combinations of the parameters it names.
MAX_COUNTED = 10_000_000
#: What is left of a space that is too large to count has to be smaller by this to be visited in place of all of it.
WORTH_IT = 2
#: Positions and numbers of candidates are int64s.
LIMIT = 2**63
_CHUNK = 1_000_000  # combinations looked at in one go while counting


class Enumeration(Frozen):
    """Which candidate is at which position.

    Parameters
    ----------
    parameters : mapping of str to Parameter
    named : sequence of str
        Those that ``where`` and the conditions are about.
    conditions : mapping of str to Where
        ``when`` of the parameters that have one.
    where : Where or None
    seen, allowed : callable
        Columns as conditions see them, and rows that are candidates.

    Attributes
    ----------
    size : int or float
        Positions; of candidates, an upper bound unless ``is_exact``.
    product : int or float
        Combinations.
    """

    __slots__ = (
        "_cut",
        "_domains",
        "_feasible",
        "_free",
        "_solved",
        "_visited",
        "box",
        "is_exact",
        "parameters",
        "product",
        "size",
        "where",
    )

    parameters: dict[str, Parameter]
    where: Where | None
    product: int | float
    size: int | float
    is_exact: bool
    box: int | float  # combinations that are visited: what numbers count where there are too many in all
    _domains: dict[str, Domain]  # of the parameters that are named
    _cut: dict[str, Domain]  # those of them that conditions leave only some values of
    _solved: list[Solved]
    _visited: list[str]  # parameters that a position has a digit for
    _free: list[str]
    _feasible: Ints | None  # positions, among the named parameters' combinations, of those that are candidates

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        named: Sequence[str],
        conditions: Mapping[str, Where],
        where: Where | None,
        seen: Seen,
        allowed: Callable[[Columns], NDArray[np.bool_]],
    ) -> None:
        self.parameters, self.where = dict(parameters), where
        sizes = [each.size for each in parameters.values()]
        self.product = math.inf if math.inf in sizes else math.prod(sizes)
        self._free = [name for name in parameters if name not in named]
        is_finite = self.product != math.inf
        chosen = {name: cast(Grid | Choice, each) for name, each in parameters.items() if name in named} if is_finite else {}
        domains, self._solved = _left(chosen, conditions, where)
        self._domains = {name: domains[name] for name in named if is_finite}
        self._cut = {name: each for name, each in self._domains.items() if each.size < parameters[name].size}
        given = [each.name for each in self._solved]
        visited = [name for name in self._domains if name not in given]
        combinations = math.prod(self._domains[name].size for name in visited)
        is_counted = bool(visited or given) and combinations <= MAX_COUNTED
        # Named parameters first: a position among their combinations is what is counted.
        self._visited = visited if is_counted else [name for name in parameters if name not in given]
        free = math.prod(parameters[name].size for name in self._free) if is_finite else math.inf
        self._feasible = self._counted(combinations, seen, allowed) if is_counted else None
        self.is_exact = not named or not is_finite or is_counted
        self.size = combinations * free if self._feasible is None else len(self._feasible) * free
        self.box = combinations * free

    @property
    def reach(self) -> int | float:
        """What every position and number lies below."""
        return max(self.size, min(self.product, self.box))

    def _counted(self, combinations: int, seen: Seen, allowed: Callable[[Columns], NDArray[np.bool_]]) -> Ints:
        found = []
        for start in range(0, combinations, _CHUNK):
            flat = np.arange(start, min(start + _CHUNK, combinations), dtype=np.int64)
            index = self._complete(self._digits(flat), len(flat), seen)
            found.append(flat[allowed({name: self.parameters[name].at(index[name]) for name in self._domains})])
        return np.concatenate(found)

    def _digits(self, positions: Ints) -> dict[str, Ints]:
        """Places of the parameters that have a digit, as indices."""
        sizes = [self._domains[name].size if name in self._domains else int(self.parameters[name].size) for name in self._visited]
        index = dict(zip(self._visited, _digits(positions, sizes), strict=True))
        return {name: self._cut[name].at(digit) if name in self._cut else digit for name, digit in index.items()}

    def _complete(self, index: dict[str, Ints], n: int, seen: Seen) -> dict[str, Ints]:
        """Indices of all parameters: what an equality gives is added."""
        if not self._solved:
            return index
        assert self.where is not None
        for each in self._solved:
            index[each.name] = np.full(n, self._domains[each.name].first, dtype=np.int64)
        columns = {name: self.parameters[name].at(index[name]) for name in self._domains}
        for each in self._solved:
            domain = self._domains[each.name]
            found = each.solution(self.where, seen(columns), domain.first)
            place, _ = domain.place(np.broadcast_to(found, (n,)))  # where nothing solves it, ``where`` says so
            index[each.name] = domain.at(place)
            columns[each.name] = self.parameters[each.name].at(index[each.name])
        return index

    def indices(self, positions: Ints, seen: Seen) -> list[Ints]:
        """Index of each parameter at positions."""
        if self._feasible is None:
            index = self._complete(self._digits(positions), len(positions), seen)
        else:
            rest = math.prod(int(self.parameters[name].size) for name in self._free)
            index = self._complete(self._digits(self._feasible[positions // rest]), len(positions), seen)
            free = _digits(positions % rest, [int(self.parameters[name].size) for name in self._free])
            index |= dict(zip(self._free, free, strict=True))
        return [index[name] for name in self.parameters]

    def numbers(self, indices: Sequence[Ints]) -> Ints:
        """Lexicographic numbers among all combinations, or among those that are visited if there are 2**63 or more."""
        numbers = np.zeros(len(indices[0]), dtype=np.int64)
        for (name, each), index in zip(self.parameters.items(), indices, strict=True):
            if self.product < LIMIT or name not in self._domains:
                numbers = numbers * int(each.size) + index
            elif name in self._visited:
                numbers = numbers * self._domains[name].size + self._domains[name].place(index)[0]
        return numbers


def _left(
    parameters: Mapping[str, Grid | Choice], conditions: Mapping[str, Where], where: Where | None
) -> tuple[dict[str, Domain], list[Solved]]:
    """Values to visit, and equalities that give the others: all where all can be counted, or hardly any fall away."""
    everything = {name: Domain(each) for name, each in parameters.items()}
    combinations = math.prod(each.size for each in everything.values())
    if combinations <= MAX_COUNTED:
        return everything, []
    left = narrowed(parameters, conditions, where)
    if left is None:
        raise SpaceError(f"where must leave at least one candidate, got {where!r}, which no combination can satisfy")
    equalities = solved(left, conditions, where)
    given = [each.name for each in equalities]
    if math.prod(each.size for name, each in left.items() if name not in given) * WORTH_IT > combinations:
        return everything, []
    return left, equalities


def _digits(flat: Ints, sizes: Sequence[int]) -> list[Ints]:
    """Mixed-radix digits of flat indices, the last one fastest."""
    digits = []
    for size in reversed(sizes):
        flat, digit = np.divmod(flat, size)
        digits.append(digit)
    return digits[::-1]

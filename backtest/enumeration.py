"""Candidates of a space by position: of all feasible ones where they can be counted, else of what conditions leave.

And the seeded order in which a sweep visits positions, computed and not stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen, SpaceError
from backtest.feasible import Domain, SolvedEquality, narrow, solve_equalities
from backtest.space_params import Choice, Grid, Parameter
from backtest.where import Where

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Columns = Mapping[str, Floats]
#: Columns of a batch with None where a parameter is absent.
MaskAbsent = Callable[[Columns], Mapping[str, NDArray[Any]]]

#: ``where`` is counted exactly over at most this many combinations of the parameters it names.
MAX_COUNTED = 10_000_000
#: Least factor by which conditions must shrink a space too large to count for only the rest to be enumerated.
MIN_REDUCTION = 2
#: Positions and numbers of candidates are int64s.
LIMIT = 2**63
_CHUNK = 1_000_000  # combinations evaluated at once while counting


class Enumeration(Frozen):
    """Which candidate is at which position.

    Parameters
    ----------
    parameters : mapping of str to Parameter
    named : sequence of str
        Those in ``where`` and the conditions.
    conditions : mapping of str to Where
        ``when`` of the parameters that have one.
    where : Where or None
    mask_absent, allowed : callable
        Columns with None where a parameter is absent, and rows that are candidates.

    Attributes
    ----------
    size : int or float
        Number of positions; an upper bound of the number of candidates unless ``is_exact``.
    product : int or float
        Number of combinations.
    """

    __slots__ = (
        "_domains",
        "_feasible",
        "_free",
        "_narrowed",
        "_solved",
        "_visited",
        "is_exact",
        "n_visited",
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
    n_visited: int | float  # combinations that are enumerated, before ``where``
    _domains: dict[str, Domain]  # of the named parameters
    _narrowed: dict[str, Domain]  # those that conditions have reduced
    _solved: list[SolvedEquality]
    _visited: list[str]  # parameters that are digits of a position
    _free: list[str]
    _feasible: Ints | None  # positions, among the named parameters' combinations, of those that are candidates

    def __init__(
        self,
        parameters: Mapping[str, Parameter],
        named: Sequence[str],
        conditions: Mapping[str, Where],
        where: Where | None,
        mask_absent: MaskAbsent,
        allowed: Callable[[Columns], NDArray[np.bool_]],
    ) -> None:
        self.parameters, self.where = dict(parameters), where
        sizes = [each.size for each in parameters.values()]
        self.product = math.inf if math.inf in sizes else math.prod(sizes)
        self._free = [name for name in parameters if name not in named]
        is_finite = self.product != math.inf
        chosen = {name: cast(Grid | Choice, each) for name, each in parameters.items() if name in named} if is_finite else {}
        domains, self._solved = _reduced_domains(chosen, conditions, where)
        self._domains = {name: domains[name] for name in named if is_finite}
        self._narrowed = {name: each for name, each in self._domains.items() if each.size < parameters[name].size}
        solved_names = [each.name for each in self._solved]
        visited = [name for name in self._domains if name not in solved_names]
        combinations = math.prod(self._domains[name].size for name in visited)
        is_counted = bool(visited or solved_names) and combinations <= MAX_COUNTED
        # Named parameters first: ``_feasible`` holds positions among their combinations.
        self._visited = visited if is_counted else [name for name in parameters if name not in solved_names]
        free = math.prod(parameters[name].size for name in self._free) if is_finite else math.inf
        self._feasible = self._find_feasible(combinations, mask_absent, allowed) if is_counted else None
        self.is_exact = not named or not is_finite or is_counted
        self.size = combinations * free if self._feasible is None else len(self._feasible) * free
        self.n_visited = combinations * free

    @property
    def upper_bound(self) -> int | float:
        """Exclusive upper bound of positions and numbers."""
        return max(self.size, min(self.product, self.n_visited))

    def _find_feasible(self, combinations: int, mask_absent: MaskAbsent, allowed: Callable[[Columns], NDArray[np.bool_]]) -> Ints:
        feasible = []
        for start in range(0, combinations, _CHUNK):
            flat = np.arange(start, min(start + _CHUNK, combinations), dtype=np.int64)
            index = self._complete(self._digits(flat), len(flat), mask_absent)
            feasible.append(flat[allowed({name: self.parameters[name].at(index[name]) for name in self._domains})])
        return np.concatenate(feasible)

    def _digits(self, positions: Ints) -> dict[str, Ints]:
        """Indices of the visited parameters at positions."""
        sizes = [self._domains[name].size if name in self._domains else int(self.parameters[name].size) for name in self._visited]
        index = dict(zip(self._visited, _digits(positions, sizes), strict=True))
        return {name: self._narrowed[name].at(digit) if name in self._narrowed else digit for name, digit in index.items()}

    def _complete(self, index: dict[str, Ints], n: int, mask_absent: MaskAbsent) -> dict[str, Ints]:
        """Add the indices of parameters that follow from an equality."""
        if not self._solved:
            return index
        assert self.where is not None
        for each in self._solved:
            index[each.name] = np.full(n, self._domains[each.name].first, dtype=np.int64)
        columns = {name: self.parameters[name].at(index[name]) for name in self._domains}
        for each in self._solved:
            domain = self._domains[each.name]
            solution = each.solution(self.where, mask_absent(columns), domain.first)
            # Where there is no solution, ``where`` refuses the candidate.
            place, _ = domain.place(np.broadcast_to(solution, (n,)))
            index[each.name] = domain.at(place)
            columns[each.name] = self.parameters[each.name].at(index[each.name])
        return index

    def indices(self, positions: Ints, mask_absent: MaskAbsent) -> list[Ints]:
        """Index of each parameter at positions."""
        if self._feasible is None:
            index = self._complete(self._digits(positions), len(positions), mask_absent)
        else:
            rest = math.prod(int(self.parameters[name].size) for name in self._free)
            index = self._complete(self._digits(self._feasible[positions // rest]), len(positions), mask_absent)
            free = _digits(positions % rest, [int(self.parameters[name].size) for name in self._free])
            index |= dict(zip(self._free, free, strict=True))
        return [index[name] for name in self.parameters]

    def numbers(self, indices: Sequence[Ints]) -> Ints:
        """Lexicographic numbers among all combinations, or among those visited if there are 2**63 or more."""
        numbers = np.zeros(len(indices[0]), dtype=np.int64)
        for (name, each), index in zip(self.parameters.items(), indices, strict=True):
            if self.product < LIMIT or name not in self._domains:
                numbers = numbers * int(each.size) + index
            elif name in self._visited:
                numbers = numbers * self._domains[name].size + self._domains[name].place(index)[0]
        return numbers


def _reduced_domains(
    parameters: Mapping[str, Grid | Choice], conditions: Mapping[str, Where], where: Where | None
) -> tuple[dict[str, Domain], list[SolvedEquality]]:
    """Domains to enumerate, and equalities that determine the other parameters; whole domains if few values can be removed."""
    full = {name: Domain(each) for name, each in parameters.items()}
    combinations = math.prod(each.size for each in full.values())
    if combinations <= MAX_COUNTED:
        return full, []
    domains = narrow(parameters, conditions, where)
    if domains is None:
        raise SpaceError(f"where must leave at least one candidate, got {where!r}, which no combination can satisfy")
    equalities = solve_equalities(domains, conditions, where)
    solved_names = [each.name for each in equalities]
    if math.prod(each.size for name, each in domains.items() if name not in solved_names) * MIN_REDUCTION > combinations:
        return full, []
    return domains, equalities


def _digits(flat: Ints, sizes: Sequence[int]) -> list[Ints]:
    """Mixed-radix digits of flat indices, the last one fastest."""
    digits = []
    for size in reversed(sizes):
        flat, digit = np.divmod(flat, size)
        digits.append(digit)
    return digits[::-1]


class VisitOrder:
    """A seeded permutation of ``range(size)``, computed without storing it: a Feistel network with cycle walking.

    Parameters
    ----------
    size : int
        Below 2**62.
    seed : int
    """

    __slots__ = ("_half", "_keys", "size")
    ROUNDS = 6

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
        self._keys = np.random.SeedSequence(seed).generate_state(self.ROUNDS, np.uint64)

    def __call__(self, start: int, stop: int) -> Ints:
        """Positions ``start`` to ``stop`` of the permutation, up to its size."""
        positions = self._mix(np.arange(start, min(stop, self.size), dtype=np.uint64))
        outside = positions >= self.size
        while outside.any():  # cycle walking: apply the network until the value is inside
            positions[outside] = self._mix(positions[outside])
            outside = positions >= self.size
        return positions.astype(np.int64)

    def _mix(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        mask = (np.uint64(1) << self._half) - np.uint64(1)
        left, right = values >> self._half, values & mask
        for key in self._keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
        return (left << self._half) | right

"""Blocks: a batch of candidates by its distinct values, and the distinct combinations of any of its columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.expr import Node
from backtest.space import Choice, Grid, Parameter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Combinations of values, per candidate of a block, up to which a table finds the distinct ones; more are sorted.
_MOST_PER_CANDIDATE = 64


class Distinct(NamedTuple):
    """Distinct combinations of some parameters' values in a block."""

    candidates: Ints  # (n_distinct,): one that has it
    inverse: Ints  # (n_candidates,): index of each candidate's combination


class Block:
    """A batch whose columns are factorised once, and the distinct combinations of any of them.

    Parameters
    ----------
    batch : ndarray of float64, shape (n_candidates, n_params)
    columns : mapping of str to Parameter
        What the batch's columns hold, in order.
    defaults : mapping of str to value
        Values of parameters without a column.
    """

    def __init__(self, batch: Floats, columns: Mapping[str, Parameter], defaults: Mapping[str, Any]) -> None:
        self.batch, self.columns, self.defaults = batch, columns, defaults
        self._position = {name: index for index, name in enumerate(columns)}
        self._codes: dict[str, tuple[Floats, Ints]] = {}
        self._values: dict[str, list[Any]] = {}
        self._distinct: dict[tuple[str, ...], Distinct] = {}
        self._keys: dict[tuple[str, ...], list[Any]] = {}

    def __len__(self) -> int:
        return len(self.batch)

    def varied(self, node: Any) -> tuple[str, ...]:
        """The node's parameters that have a column, in the columns' order."""
        names = node.params if isinstance(node, Node) else ()
        return tuple(sorted((name for name in names if name in self._position), key=self._position.__getitem__))

    def column(self, name: str) -> Floats:
        """A column of the batch."""
        return self.batch[:, self._position[name]]

    def codes(self, name: str) -> tuple[Floats, Ints]:
        """Distinct numbers of a column, ascending, and each candidate's index among them."""
        known = self._codes.get(name)
        if known is None:
            known = self._codes[name] = _factorised(self.column(name), self.columns[name])
        return known

    def values(self, name: str) -> list[Any]:
        """What the distinct numbers of a column stand for."""
        known = self._values.get(name)
        if known is None:
            known = self._values[name] = [self.columns[name].decode(value) for value in self.codes(name)[0].tolist()]
        return known

    def distinct(self, names: tuple[str, ...]) -> Distinct:
        """Distinct combinations of the values of columns."""
        known = self._distinct.get(names)
        if known is None:
            known = self._distinct[names] = _distinct([self.codes(name) for name in names], len(self))
        return known

    def keys(self, names: tuple[str, ...]) -> list[Any]:
        """Distinct combinations of the values of columns, in the order of :meth:`distinct`: values with their types."""
        known = self._keys.get(names)
        if known is None:
            columns = [[(value.__class__, value) for value in values] for values in map(self.values, names)]
            if len(columns) == 1:
                known = columns[0]
            else:
                codes = [self.codes(name)[1][self.distinct(names).candidates].tolist() for name in names]
                known = (
                    list(
                        zip(*([column[code] for code in each] for column, each in zip(columns, codes, strict=True)), strict=True)
                    )
                    if names
                    else [()]
                )
            self._keys[names] = known
        return known

    def fixed(self, node: Any) -> dict[str, Any]:
        """The node's parameters that have no column, and their defaults."""
        names = node.params if isinstance(node, Node) else ()
        return {name: self.defaults[name] for name in names if name not in self._position}

    def identity(self, node: Node) -> Any:
        """What the node's values depend on beside its :meth:`keys`."""
        return node.key, self.varied(node), tuple((name, value.__class__, value) for name, value in self.fixed(node).items())

    def settings(self, node: Any, keys: Iterable[Any]) -> Iterator[dict[str, Any]]:
        """A node's parameters at :meth:`keys` of its columns."""
        names, fixed = self.varied(node), self.fixed(node)
        for key in keys:
            typed = [key] if len(names) == 1 else key
            yield fixed | {name: value for name, (_, value) in zip(names, typed, strict=True)}

    def combinations(self, node: Any) -> list[dict[str, Any]]:
        """Distinct combinations of a node's parameters as dicts, in the order of :meth:`distinct`."""
        return list(self.settings(node, self.keys(self.varied(node))))


def _factorised(column: Floats, parameter: Parameter) -> tuple[Floats, Ints]:
    """Distinct values of a column, ascending, and each row's index among them."""
    if (column[1:] > column[:-1]).all():
        return column, np.arange(len(column))
    low, step = (parameter.low, parameter.step) if isinstance(parameter, Grid) else (0.0, 1.0)
    if isinstance(parameter, (Grid, Choice)) and parameter.size < max(1024, _MOST_PER_CANDIDATE * len(column)):
        index = np.rint((column - low) / step).astype(np.int64)
        table = np.full(int(parameter.size), -1, dtype=np.int64)
        if len(index) and index.min() >= 0 and index.max() < len(table):
            table[index] = np.arange(len(index))
            present = np.flatnonzero(table >= 0)
            values = column[table[present]]
            table[present] = np.arange(len(present))
            codes = table[index]
            if np.array_equal(values[codes], column):  # values off the grid are told apart by sorting
                return values, codes
    values, codes = np.unique(column, return_inverse=True)
    return values, codes.astype(np.int64, copy=False)


def _distinct(columns: Sequence[tuple[Floats, Ints]], n_candidates: int) -> Distinct:
    if not columns:
        return Distinct(np.zeros(min(n_candidates, 1), dtype=np.int64), np.zeros(n_candidates, dtype=np.int64))
    codes, size = columns[0][1], len(columns[0][0])
    for values, more in columns[1:]:
        if size * len(values) >= 2**62:
            distinct, codes = np.unique(codes, return_inverse=True)
            size = len(distinct)
        codes, size = codes * len(values) + more, size * len(values)
    if (codes[1:] > codes[:-1]).all():  # a sweep in order: every candidate is another combination
        return Distinct(np.arange(n_candidates), np.arange(n_candidates))
    if size <= max(1024, _MOST_PER_CANDIDATE * n_candidates):
        table = np.full(size, -1, dtype=np.int64)
        table[codes] = np.arange(n_candidates)
        present = np.flatnonzero(table >= 0)
        candidates = table[present]
        table[present] = np.arange(len(present))
        return Distinct(candidates, table[codes])
    _, candidates, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return Distinct(candidates, inverse)

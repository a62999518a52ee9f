"""Candidates of a function with ``bt.on_bar``: what each reads, as rows in tables of distinct lines and masks."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError
from backtest._said import shown
from backtest.expr import Condition, Value
from backtest.line_values import Block, Combinations, DistinctParams, LineMemo, shown_params
from backtest.masks import MaskMemo

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Candidates that the kernel replays together, one a lane.
LANES = 64


class Candidates(NamedTuple):
    """What the candidates of a block read, for the machine's kernel."""

    values: Floats  # (n_candidates, n_params)
    lines: Floats  # (n_lines, n_bars)
    line_rows: Ints  # (n_candidates, n_line_columns)
    masks: NDArray[np.uint64]  # (n_masks + 1, n_words): bit t % 64 of word t // 64 is bar t; the last row is empty
    mask_rows: Ints  # (n_candidates, n_mask_columns); -1: never true


class LineRows:
    """Lines as rows of one array, each computed once per distinct value of its parameters; cleared as a whole when it is full."""

    def __init__(self, lines: LineMemo, max_bytes: int, least: int) -> None:
        n_bars = len(lines.bars)
        self.capacity = max(least, 1, max_bytes // (8 * n_bars))
        self.values = np.empty((self.capacity, n_bars))  # memory is taken when a row is written
        self._lines = lines
        self._rows: dict[Any, tuple[int, int]] = {}  # row and warm-up

    def rows(self, wanted: Sequence[tuple[DistinctParams, Ints]]) -> list[tuple[Ints, Ints]]:
        """Rows and warm-ups of lines at some of their distinct values; all are in the table at the same time."""
        keys = [[(params.structure, params.keys[each]) for each in places.tolist()] for params, places in wanted]
        if len(self._rows) + len({key for each in keys for key in each if key not in self._rows}) > self.capacity:
            self._rows = {}
        found = []
        for (params, places), each in zip(wanted, keys, strict=True):
            missing = [at for at, key in enumerate(each) if key not in self._rows]
            values = params.params(params.keys[places[at]] for at in missing)
            for at, at_values in zip(missing, values, strict=True):
                if each[at] not in self._rows:  # two columns may be the same line
                    self._rows[each[at]] = self._add(params.node, at_values)
            pairs = np.array([self._rows[key] for key in each], dtype=np.int64).reshape(-1, 2)
            found.append((pairs[:, 0], pairs[:, 1]))
        return found

    def _add(self, node: Value, params: Mapping[str, Any]) -> tuple[int, int]:
        value, warm = self._lines.entry(node, params)
        if not isinstance(value, (np.ndarray, int, float)):
            raise InputError(f"line {node!r} must be numbers, got {shown(value)} at {shown_params(node, params)}")
        row = len(self._rows)
        self.values[row] = value
        return row, warm


class CandidateBlocks:
    """Makes the tables of batches of a function's candidates.

    Parameters
    ----------
    program : Program
    value_names : sequence of str
        Parameters that the program reads, in the order of its columns.
    line_nodes : sequence of Value
        By the program's column of lines.
    mask_nodes : sequence of Condition
    lines : LineMemo
    masks : MaskMemo
    max_bytes : int
        Bound of the memory for lines; more only if one candidate needs more.
    """

    def __init__(
        self,
        program: Any,
        value_names: Sequence[str],
        line_nodes: Sequence[Value],
        mask_nodes: Sequence[Condition],
        *,
        lines: LineMemo,
        masks: MaskMemo,
        max_bytes: int,
    ) -> None:
        self.value_names, self.line_nodes, self.mask_nodes = value_names, line_nodes, mask_nodes
        self.lines, self.masks = lines, masks
        self._table = LineRows(lines, max_bytes, len(line_nodes))
        self._line_bars = _most_bars_back(program.inputs, len(line_nodes))
        self._mask_bars = _most_bars_back(program.masks, len(mask_nodes))
        self._lock = threading.Lock()  # one block at a time fills and reads the table of lines

    def warm_up(self, combinations: Combinations) -> int:
        """Longest warm-up of any candidate, with the bars that are looked back."""
        lines = [self.lines.warm_up(node, combinations) for node in self.line_nodes]
        masks = [self.masks.warm_up(condition, combinations) for condition in self.mask_nodes]
        return max((a + b for a, b in zip(lines + masks, self._line_bars + self._mask_bars, strict=True)), default=0)

    def parts(self, block: Block, start: int) -> Iterator[tuple[Ints, Candidates]]:
        """Candidates of a block that fit into memory together, those that read the same lines beside each other.

        Parameters
        ----------
        block : Block
        start : int
            First bar whose close may decide.

        Yields
        ------
        rows : ndarray of int64
            Of the block.
        candidates : Candidates
            Theirs, valid until the next.
        """
        values = self.values(block)
        words, found = self.masks.masks(list(self.mask_nodes), block)
        mask_rows, n_masks = np.empty((len(block), len(self.mask_nodes)), dtype=np.int64), 0
        for column, each in enumerate(found):
            self._check_warm_up(self.mask_nodes[column], each.warm + self._mask_bars[column], start)
            mask_rows[:, column] = each.inverse + n_masks
            n_masks += len(each.warm)
        params = [block.distinct(node) for node in self.line_nodes]
        order = _beside_each_other([each.inverse for each in params if len(each) > 1], len(block))
        with self._lock:
            for rows in _fitting(order, [each.inverse for each in params], self._table.capacity):
                line_rows = self._line_rows(params, rows, start)
                yield rows, Candidates(values[rows], self._table.values, line_rows, words, mask_rows[rows])

    def _line_rows(self, params: Sequence[DistinctParams], rows: Ints, start: int) -> Ints:
        distinct = [np.unique(each.inverse[rows], return_inverse=True) for each in params]
        found = self._table.rows([(each, places) for each, (places, _) in zip(params, distinct, strict=True)])
        line_rows = np.empty((len(rows), len(params)), dtype=np.int64)
        for column, ((at, warm), (_, inverse)) in enumerate(zip(found, distinct, strict=True)):
            self._check_warm_up(self.line_nodes[column], warm + self._line_bars[column], start)
            line_rows[:, column] = at[inverse]
        return line_rows

    def values(self, block: Block) -> Floats:
        """Parameters that the program reads, as numbers; True is 1."""
        values = np.empty((len(block), len(self.value_names)))
        for column, name in enumerate(self.value_names):
            if name in block.columns:
                numbers = np.array([_number(name, value) for value in block.values(name)], dtype=np.float64)
                values[:, column] = numbers[block.codes(name)[1]]
            else:
                values[:, column] = _number(name, block.defaults[name])
        return values

    def _check_warm_up(self, node: Value | Condition, warm: Ints, start: int) -> None:
        if len(warm) and int(warm.max()) > start:
            raise InputError(
                f"start must be >= the longest warm-up of the candidates, got {start}; {node!r} needs {int(warm.max())} bars"
            )


def _number(name: str, value: Any) -> float:
    if not isinstance(value, (bool, int, float)):
        raise InputError(
            f"parameter {shown(name)} must be a number, or True or False, because the function reads it, got {shown(value)}"
        )
    return float(value)


def _most_bars_back(inputs: NDArray[np.int32], n_columns: int) -> list[int]:
    """How many bars back each column is read, at most."""
    most = [0] * n_columns
    for column, shift in inputs.tolist():
        most[column] = max(most[column], shift)
    return most


def _beside_each_other(codes: Sequence[Ints], n_candidates: int) -> Ints:
    """An order of candidates in which those of one group of lanes read few lines: tiles of the grid of distinct values."""
    if not codes:
        return np.arange(n_candidates)
    side = max(1, round(LANES ** (1 / len(codes))))
    order: Ints = np.lexsort([*reversed(codes), *(each // side for each in reversed(codes))])
    return order


def _fitting(order: Ints, codes: Sequence[Ints], capacity: int) -> Iterator[Ints]:
    """Cuts of an order, whole groups of lanes where they fit, in which all columns together have few enough distinct values."""
    if sum(int(each.max(initial=-1)) + 1 for each in codes) <= capacity:
        yield order
        return
    begin, seen = 0, [set[int]() for _ in codes]
    step = LANES
    at = 0
    while at < len(order):
        rows = order[at : at + step]
        new = [set(each[rows].tolist()) for each in codes]
        together = sum(len(one | other) for one, other in zip(seen, new, strict=True))
        if together <= capacity:
            seen = [one | other for one, other in zip(seen, new, strict=True)]
            at += len(rows)
        elif at > begin:
            yield order[begin:at]
            begin, seen, step = at, [set() for _ in codes], LANES
        else:
            step = len(rows) // 2  # one candidate always fits
    if at > begin:
        yield order[begin:at]

"""Masks: conditions of a block of candidates as bits, 64 bars a word, each computed once per distinct parameter value."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError
from backtest.compute.threads import run_rows
from backtest.expr import Combination, Comparison, Condition, Line
from backtest.line_values import Block, Combinations, DistinctParams, LineMemo
from backtest.ready_signals import ReadySignals

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

#: Bars per tile of the coarse lines in ``LineTable``; the kernel's.
TILE = 512
#: Bytes of a cache line: vectors that straddle two take twice the loads.
_ALIGNMENT = 64
#: Measured: microseconds per bar of a comparison, and per word of a combination.
_COMPARE_US, _WORD_US = 0.0001, 0.001


def n_words(n_bars: int) -> int:
    """Words that hold a bit per bar."""
    return -(-n_bars // 64)


def unpack(words: Words, n_bars: int) -> NDArray[np.bool_]:
    """Bits as booleans: (..., n_words) to (..., n_bars)."""
    flat = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(flat, axis=-1, count=n_bars, bitorder="little").view(np.bool_)


class Pairs(NamedTuple):
    """Operands that the kernel compares, a row per pair."""

    left: Ints  # rows of the table of lines; -1: the value
    right: Ints
    left_values: Floats
    right_values: Floats
    warm: Ints  # warm-up of each pair: bars whose bits are cleared

    def of_rows(self, rows: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.left[rows], self.right[rows], self.left_values[rows], self.right_values[rows], self.warm[rows])

    def swapped(self) -> Pairs:
        """The pairs with left and right exchanged."""
        return Pairs(self.right, self.left, self.right_values, self.left_values, self.warm)


class Operands(NamedTuple):
    """An operand of a comparison at some values of its parameters."""

    rows: Ints  # of the table of lines; -1: the value
    values: list[Any]
    warm: Ints


class LineTable:
    """Lines laid out for the kernel, a row per line and value of its parameters; cleared as a whole when it is full."""

    def __init__(self, lines: LineMemo, max_bytes: int) -> None:
        self.lines, self.n_bars = lines, len(lines.bars)
        n_tiles = max(1, -(-self.n_bars // TILE))
        self.capacity = max(2, max_bytes // (8 * self.n_bars + 4 * n_tiles * TILE))
        # One allocation: the allocator reuses its pages for the next table of the same size.
        n_coarse = 4 * n_tiles * self.capacity * TILE
        memory = np.empty(n_coarse + 8 * self.capacity * self.n_bars + _ALIGNMENT, dtype=np.uint8)
        memory = memory[-memory.ctypes.data % _ALIGNMENT :]
        # Tile by tile, so that pairs of neighbouring lines read neighbouring memory.
        self.coarse = memory[:n_coarse].view(np.int32).reshape(n_tiles, self.capacity, TILE)
        self.values = memory[n_coarse : n_coarse + 8 * self.capacity * self.n_bars].view(np.float64).reshape(self.capacity, -1)
        self._warm = np.zeros(self.capacity + 1, dtype=np.int64)  # the last, row -1, is that of numbers
        self._rows: dict[Any, dict[Any, int]] = {}
        self._used = 0

    def operands(self, wanted: Sequence[tuple[DistinctParams, Sequence[Any]]]) -> list[Operands]:
        """Rows of lines at some of their keys; all are in the table at the same time."""
        if self._used + sum(len(keys) for _, keys in wanted) > self.capacity:
            cached = [self._rows.get(params.structure, {}) for params, _ in wanted]
            missing = sum(key not in rows for rows, (_, keys) in zip(cached, wanted, strict=True) for key in keys)
            if self._used + missing > self.capacity:
                self._rows, self._used = {}, 0
        return [self._operands(params, keys) for params, keys in wanted]

    def _operands(self, params: DistinctParams, keys: Sequence[Any]) -> Operands:
        cached = self._rows.setdefault(params.structure, {})
        values: list[Any] = []
        rows: list[Any] = list(map(cached.get, keys))
        missing = [index for index, row in enumerate(rows) if row is None]
        if missing:
            values = [0.0] * len(keys)
            for index, each in zip(missing, params.params(keys[index] for index in missing), strict=True):
                value, warm = self.lines.entry(params.node, each)
                if isinstance(value, np.ndarray):
                    rows[index] = cached[keys[index]] = self._add(value, warm)
                else:
                    values[index], rows[index] = value, -1
        row_numbers = np.array(rows, dtype=np.int64)
        return Operands(row_numbers, values or [0.0], self._warm[row_numbers])

    def _add(self, line: Floats, warm: int) -> int:
        row = self._used
        self.values[row], self._warm[row] = line, warm
        _backend.kernel("masks").spread(line, row, self.coarse)
        self._used += 1
        return row


class ConditionMasks(NamedTuple):
    """Masks of a condition at the distinct combinations of its parameters in a block."""

    words: Words  # (n_distinct, n_words)
    warm: Ints  # (n_distinct,)
    inverse: Ints  # (n_candidates,): each candidate's row


class LazyComparison(NamedTuple):
    """A comparison whose masks are made for some candidates at a time."""

    condition: Comparison
    mirror: Condition | None  # its masks come out of the same call
    pairs: Pairs  # a row per candidate


class MaskMemo:
    """Masks of conditions over one set of bars, each computed once per distinct parameter value while memory lasts.

    Bits are 0 in the warm-up, under ``~`` too, and behind the last bar.

    Parameters
    ----------
    lines : LineMemo
    max_bytes : int
        Bound of the memory for masks of comparisons with at most one varying parameter, and of that for the table of lines.
    n_threads : int, optional
    """

    def __init__(self, lines: LineMemo, max_bytes: int, n_threads: int | None = 1) -> None:
        self.lines, self.n_bars, self.n_threads = lines, len(lines.bars), n_threads
        self.n_words = n_words(self.n_bars)
        self.table = LineTable(lines, max_bytes)
        self._memo: LRUCache[Any, tuple[Words, int]] = LRUCache(max_bytes, getsizeof=lambda entry: entry[0].nbytes)
        self._numbers: dict[Any, int] = {}

    def masks(self, conditions: Sequence[Condition], block: Block) -> tuple[Words, list[ConditionMasks]]:
        """Masks of conditions in one array, (n_masks + 1, n_words), and those of each condition, which are views of its rows.

        The last row is empty: no bit is set.
        """
        work = _BlockMasks(self, conditions, block)
        return work.table, [work.of(condition) for condition in conditions]

    def lazy_conditions(self, conditions: Sequence[Condition], block: Block) -> list[Comparison]:
        """Comparisons of which few candidates share a mask, if the table of lines has room for all that they compare."""
        combined = {leaf.key for condition in conditions if isinstance(condition, Combination) for leaf in condition.leaves()}
        chosen = [
            condition
            for condition in conditions
            if isinstance(condition, Comparison)
            and condition.key not in combined
            and len((params := block.distinct(condition)).names) > 1
            and len(params) > len(block) // 2
        ]
        return chosen if sum(map(len, _lines_of(chosen, block))) <= self.table.capacity else []

    def lazy_comparisons(self, conditions: Sequence[Comparison], block: Block) -> list[LazyComparison]:
        """Comparisons from :meth:`lazy_conditions`, for ``candidate_table.LazyMasks``; valid until other masks are computed."""
        # All lines at once, so that the table is not cleared between two of them.
        self.table.operands([(params, params.keys) for params in _lines_of(conditions, block)])
        comparisons, everyone = [], np.arange(len(block))
        remaining: dict[Any, Comparison] = {condition.key: condition for condition in conditions}
        while remaining:
            _, condition = remaining.popitem()
            mirror = remaining.pop(condition.mirror_key, None)
            comparisons.append(LazyComparison(condition, mirror, self.pairs(condition, block, everyone, False)))
        return comparisons

    def pairs(self, condition: Comparison, block: Block, candidates: Ints, is_subset: bool) -> Pairs:
        """Operands of the candidates' combinations; ``is_subset`` says that they are not all of the block's."""
        wanted, indices = [], []
        for params in (block.distinct(arg) for arg in condition.args if isinstance(arg, Line)):
            index, keys = params.inverse[candidates], params.keys
            if is_subset:
                present, index = np.unique(index, return_inverse=True)
                keys = [keys[each] for each in present.tolist()]
            wanted.append((params, keys))
            indices.append(index)
        line_operands = iter(zip(self.table.operands(wanted), indices, strict=True))
        rows, values, warms = [], [], []
        for arg in condition.args:
            (at, numbers, warm), index = next(line_operands) if isinstance(arg, Line) else _numbers(arg, block, candidates)
            checked = np.array(_checked_numbers(condition, numbers), dtype=np.float64)
            rows.append(at[index])
            values.append(checked[index] if len(checked) > 1 else np.full(len(index), checked[0]))
            warms.append(warm[index])
        warm = np.minimum(np.maximum(*warms) + condition.lookback, self.n_bars)
        return Pairs(rows[0], rows[1], values[0], values[1], warm)

    def warm_up(self, condition: Condition | None, combinations: Combinations, cross_bars: int = 1) -> int:
        """Longest warm-up over all combinations of the condition's parameters, ``cross_bars`` more for a cross."""
        if condition is None:
            return 0
        return condition.warm_up(lambda node: self.lines.warm_up(node, combinations), cross_bars)

    def cached(self, params: DistinctParams) -> tuple[list[Any], list[tuple[Words, int] | None]]:
        """Cache keys of a comparison, and the masks and warm-ups that are cached; None where one is not."""
        identity = params.node.key, params.names, tuple((name, value.__class__, value) for name, value in params.fixed.items())
        number = self._numbers.setdefault(
            identity, len(self._numbers)
        )  # a number, since hashing the tree for every key would dominate
        keys = [(number, key) for key in params.keys]
        return keys, [self._memo.get(key) for key in keys]

    def store(self, key: Any, words: Words, warm: int) -> None:
        """Cache a mask."""
        if words.nbytes <= self._memo.maxsize:
            self._memo[key] = words.copy(), warm

    def run(self, call: Callable[[int, int], None], n_rows: int, row_us: float) -> None:
        """Call the kernel for all rows, on threads if that is worth it."""
        run_rows(call, n_rows, self.n_threads, row_us)


class _BlockMasks:
    """Masks of one block's conditions, each computed once."""

    def __init__(self, memo: MaskMemo, conditions: Sequence[Condition], block: Block) -> None:
        self.memo, self.block, self.kernel = memo, block, _backend.kernel("masks")
        self._leaves: dict[Any, Condition] = {leaf.key: leaf for condition in conditions for leaf in condition.leaves()}
        edges = np.cumsum([0, *(len(block.distinct(condition)) for condition in conditions)]).tolist()
        self.table = np.empty((edges[-1] + 1, memo.n_words), dtype=np.uint64)
        self.table[-1] = 0
        self._rows = {condition.key: self.table[edges[at] : edges[at + 1]] for at, condition in enumerate(conditions)}
        self._done: dict[Any, ConditionMasks] = {}

    def of(self, condition: Condition) -> ConditionMasks:
        """Masks of a condition."""
        cached = self._done.get(condition.key)
        if cached is None:
            params = self.block.distinct(condition)
            if isinstance(condition, Combination):
                cached = self._combined(condition, params)
            elif isinstance(condition, ReadySignals):
                cached = ConditionMasks(self._output(condition), np.zeros(len(params), dtype=np.int64), params.inverse)
                condition.fill(params, self.memo.n_bars, cached.words)
            elif len(params.names) > 1:
                cached = self._compared(cast(Comparison, condition), params, None)
            else:
                cached = self._cached(cast(Comparison, condition), params)
            self._done[condition.key] = cached
        return cached

    def _output(self, condition: Condition) -> Words:
        """Where a condition's masks are written to: its rows of the table, if it has any."""
        rows = self._rows.get(condition.key)
        return np.empty((len(self.block.distinct(condition)), self.memo.n_words), np.uint64) if rows is None else rows

    def _combined(self, condition: Combination, params: DistinctParams) -> ConditionMasks:
        parts = [self.of(arg) for arg in condition.args]
        rows = [part.inverse[params.candidates] for part in parts]
        words = self._output(condition)
        condition.combine([part.words[row] for part, row in zip(parts, rows, strict=True)], words)
        warm = functools.reduce(np.maximum, [part.warm[row] for part, row in zip(parts, rows, strict=True)])
        trim = functools.partial(self.kernel.trim, words, warm, self.memo.n_bars)
        self.memo.run(trim, len(words), _WORD_US * self.memo.n_words)
        return ConditionMasks(words, warm, params.inverse)

    def _cached(self, condition: Comparison, params: DistinctParams) -> ConditionMasks:
        """A comparison with at most one varying parameter, whose masks are cached between blocks."""
        keys, cached = self.memo.cached(params)
        missing = [index for index, entry in enumerate(cached) if entry is None]
        words, warm = self._output(condition), np.zeros(len(keys), dtype=np.int64)
        if missing:
            fresh = self._compared(condition, params, np.array(missing, dtype=np.int64))
            words[missing], warm[missing] = fresh.words, fresh.warm
            for row, index in enumerate(missing):
                self.memo.store(keys[index], fresh.words[row], int(fresh.warm[row]))
        for index, entry in enumerate(cached):
            if entry is not None:
                words[index], warm[index] = entry
        return ConditionMasks(words, warm, params.inverse)

    def _compared(self, condition: Comparison, params: DistinctParams, chosen: Ints | None) -> ConditionMasks:
        """Masks computed by the kernel, of all combinations or of the chosen ones."""
        candidates = params.candidates if chosen is None else params.candidates[chosen]
        mirror = self._leaves.get(condition.mirror_key) if chosen is None else None
        if mirror is not None and (mirror.key == condition.key or mirror.key in self._done):
            mirror = None
        words = self._output(condition) if chosen is None else self._empty(len(chosen))
        mirrored = self._empty(0) if mirror is None else self._output(mirror)
        warm = np.zeros(len(candidates), dtype=np.int64)
        for part in self._parts(condition, candidates):
            pairs = self.memo.pairs(condition, self.block, candidates[part], len(part) < len(params))
            warm[part] = pairs.warm
            if len(part) == len(candidates):
                self._fill(condition, pairs, words, mirrored)
                continue
            part_words, part_mirrored = self._empty(len(part)), self._empty(len(part) if len(mirrored) else 0)
            self._fill(condition, pairs, part_words, part_mirrored)
            words[part] = part_words
            if len(mirrored):
                mirrored[part] = part_mirrored
        if mirror is not None:
            self._done[mirror.key] = ConditionMasks(mirrored, warm, params.inverse)
        return ConditionMasks(words, warm, params.inverse)

    def _empty(self, n_masks: int) -> Words:
        return np.empty((n_masks, self.memo.n_words), np.uint64)

    def _parts(self, condition: Comparison, candidates: Ints) -> Iterable[Ints]:
        """Pairs in parts whose lines fit into the table: all, or squares of neighbouring lines, which share most."""
        indices = [
            params.inverse[candidates] for params in (self.block.distinct(arg) for arg in condition.args if isinstance(arg, Line))
        ]
        capacity = self.memo.table.capacity
        if sum(int(index.max(initial=-1)) + 1 for index in indices) <= capacity:
            return [np.arange(len(candidates))]
        side = capacity // len(indices)
        square = np.zeros(len(candidates), dtype=np.int64)
        for index in indices:
            square = square * (int(index.max()) // side + 1) + index // side
        order = np.argsort(square, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(square[order])) + 1)

    def _fill(self, condition: Comparison, pairs: Pairs, words: Words, mirrored: Words) -> None:
        def call(start: int, stop: int) -> None:
            condition.fill(self.kernel, self.memo.table, pairs, start, stop, words, mirrored)

        self.memo.run(call, len(words), _COMPARE_US * self.memo.n_bars)


def _lines_of(conditions: Iterable[Comparison], block: Block) -> list[DistinctParams]:
    """The lines that comparisons read, each with its distinct parameters."""
    lines = {arg.key: arg for condition in conditions for arg in condition.args if isinstance(arg, Line)}
    return [block.distinct(line) for line in lines.values()]


def _numbers(arg: Any, block: Block, candidates: Ints) -> tuple[Operands, Ints]:
    """A number or a parameter as the operand of a comparison, and each pair's index in it."""
    params = block.distinct(arg)
    if params.names:
        [name] = params.names
        values, index = block.values(name), block.codes(name)[1][candidates]
    else:
        values, index = list(params.fixed.values()) or [arg], np.zeros(len(candidates), dtype=np.int64)
    return Operands(np.full(len(values), -1, dtype=np.int64), values, np.zeros(len(values), dtype=np.int64)), index


def _checked_numbers(condition: Condition, numbers: list[Any]) -> list[Any]:
    for value in numbers:
        if not isinstance(value, (int, float)) or math.isnan(value):
            raise InputError(f"{condition!r} must have numbers for its parameters, got {value!r}")
    return numbers

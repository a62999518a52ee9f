"""Masks: conditions of a block of candidates as bits, 64 bars a word, each computed once per distinct parameter value."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError
from backtest.blocks import Block, Distinct
from backtest.compute.threads import run_rows
from backtest.expr import Condition, Node, Param
from backtest.lines import Combinations, LineMemo, memo_key
from backtest.space import Grid

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Words = NDArray[np.uint64]

#: Bars of a tile of a line, as the kernel wants it.
TILE = 512
#: Bytes of a line of the cache: vectors that lie across two take twice the loads.
_ALIGNMENT = 64
_COMBINED = ("~", "&", "|")
#: Measured: microseconds of a comparison per bar, and of a word that is only combined.
_COMPARE_US, _WORD_US = 0.0001, 0.001


def n_words(n_bars: int) -> int:
    """Words that hold a bit per bar."""
    return -(-n_bars // 64)


def unpack(words: Words, n_bars: int) -> NDArray[np.bool_]:
    """Bits as booleans: (..., n_words) to (..., n_bars)."""
    flat = np.ascontiguousarray(words).astype("<u8", copy=False).view(np.uint8)
    return np.unpackbits(flat, axis=-1, count=n_bars, bitorder="little").view(np.bool_)


class Pairs(NamedTuple):
    """What the kernel compares, a row per pair."""

    left: Ints  # rows of the table of lines; -1: the value
    right: Ints
    left_values: Floats
    right_values: Floats
    warm: Ints  # bars to clear

    def of_rows(self, rows: slice) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.left[rows], self.right[rows], self.left_values[rows], self.right_values[rows], self.warm[rows])


class LineTable:
    """Lines as the kernel wants them, a row per line and value of its parameters; all are forgotten when the table is full."""

    def __init__(self, lines: LineMemo, max_bytes: int) -> None:
        self.lines, self.n_bars = lines, len(lines.bars)
        n_tiles = max(1, -(-self.n_bars // TILE))
        self.capacity = max(2, max_bytes // (8 * self.n_bars + 4 * n_tiles * TILE))
        # One piece of memory: the allocator keeps what is no larger for the next table, pages and all.
        n_coarse = 4 * n_tiles * self.capacity * TILE
        room = np.empty(n_coarse + 8 * self.capacity * self.n_bars + _ALIGNMENT, dtype=np.uint8)
        room = room[-room.ctypes.data % _ALIGNMENT :]
        # Neighbouring lines side by side: pairs in order read memory in order.
        self.coarse = room[:n_coarse].view(np.int32).reshape(n_tiles, self.capacity, TILE)
        self.values = room[n_coarse : n_coarse + 8 * self.capacity * self.n_bars].view(np.float64).reshape(self.capacity, -1)
        self._warm = np.zeros(self.capacity + 1, dtype=np.int64)  # the last is that of numbers
        self._rows: dict[Any, dict[Any, int]] = {}
        self._used = 0

    def sides(self, nodes: Sequence[Any], keys: Sequence[Sequence[Any]], block: Block) -> list[tuple[Ints, list[Any], Ints]]:
        """Of each node at keys of the block: rows (-1: the value), values, warm-ups; all rows are there together."""
        if self._used + sum(map(len, keys)) > self.capacity:
            known = [self._rows.get(_shape(node, block), {}) for node in nodes]
            missing = sum(key not in rows for rows, each in zip(known, keys, strict=True) for key in each)
            if self._used + missing > self.capacity:
                self._rows, self._used = {}, 0
        return [self._side(node, each, block) for node, each in zip(nodes, keys, strict=True)]

    def _side(self, node: Any, keys: Sequence[Any], block: Block) -> tuple[Ints, list[Any], Ints]:
        known = self._rows.setdefault(_shape(node, block), {})
        values: list[Any] = []
        found: list[Any] = list(map(known.get, keys))
        missing = [index for index, row in enumerate(found) if row is None]
        if missing:
            values = [0.0] * len(keys)
            for index, params in zip(missing, block.settings(node, (keys[index] for index in missing)), strict=True):
                value, warm = self.lines.entry(node, params)
                if isinstance(value, np.ndarray):
                    found[index] = known[keys[index]] = self._add(value, warm)
                else:
                    values[index], found[index] = value, -1
        rows = np.array(found, dtype=np.int64)
        return rows, values or [0.0], self._warm[rows]

    def _add(self, line: Floats, warm: int) -> int:
        row = self._used
        self.values[row], self._warm[row] = line, warm
        _backend.kernel("masks").spread(line, row, self.coarse)
        self._used += 1
        return row


def _shape(node: Node, block: Block) -> Any:
    """What a node's values depend on beside its keys; not the names of its parameters: lines that differ there share rows."""
    return memo_key(node, block.fixed(node) | {name: (at,) for at, name in enumerate(block.varied(node))})


class Stack(NamedTuple):
    """A condition at its distinct combinations in a block."""

    words: Words  # (n_distinct, n_words)
    warm: Ints  # (n_distinct,)
    inverse: Ints  # (n_candidates,): each candidate's row


class Pending(NamedTuple):
    """A comparison that most candidates of a block have to themselves: made for some at a time, just before they are replayed."""

    condition: Condition
    mirror: Condition | None  # made in the same pass
    pairs: Pairs  # a row per candidate

    def fill(self, memo: MaskMemo, start: int, stop: int, words: Words, other: Words) -> None:
        """Masks of candidates ``start <= row < stop``, from row 0 on; ``other`` is the mirror's place, empty if there is none."""
        pairs = self.pairs.of_rows(slice(start, stop))
        memo.call(self.condition, pairs)(0, stop - start, words, *[other] * (self.condition.op == "crosses_above"))


class MaskMemo:
    """Masks of conditions over one set of bars, each computed once per distinct parameter value while memory lasts.

    A mask is 0 in its warm-up, also below ``~``, and behind the last bar.

    Parameters
    ----------
    lines : LineMemo
    max_bytes : int
        Bound of what is remembered of comparisons with at most one varying parameter, and of the table of lines, each.
    n_threads : int
    """

    def __init__(self, lines: LineMemo, max_bytes: int, n_threads: int = 1) -> None:
        self.lines, self.n_bars, self.n_threads = lines, len(lines.bars), n_threads
        self.n_words = n_words(self.n_bars)
        self._table = LineTable(lines, max_bytes)
        self._memo: LRUCache[Any, tuple[Words, int]] = LRUCache(max_bytes, getsizeof=lambda entry: entry[0].nbytes)
        self._numbers: dict[Any, int] = {}

    def stacks(self, conditions: Sequence[Condition], block: Block) -> tuple[Words, list[Stack]]:
        """Masks of conditions in one table, (n_masks + 1, n_words), and each condition's stack of its rows, in order.

        The last row is never.
        """
        counts = [len(block.distinct(block.varied(condition)).candidates) for condition in conditions]
        edges = np.cumsum([0, *counts]).tolist()
        table = np.empty((edges[-1] + 1, self.n_words), dtype=np.uint64)
        table[-1] = 0
        places = {condition.key: table[edges[at] : edges[at + 1]] for at, condition in enumerate(conditions)}
        work = _Work(block, {leaf.key: leaf for condition in conditions for leaf in _leaves(condition)}, places)
        return table, [self._stack(condition, work) for condition in conditions]

    def own(self, conditions: Sequence[Condition], block: Block) -> list[Condition]:
        """Those of the conditions that most candidates have to themselves, if the table of lines holds all that they need."""
        within = {leaf.key for condition in conditions if condition.op in _COMBINED for leaf in _leaves(condition)}
        chosen = [
            condition
            for condition in conditions
            if condition.op not in (*_COMBINED, "array")
            and condition.key not in within
            and len(names := block.varied(condition)) > 1
            and len(block.distinct(names).candidates) > len(block) // 2
        ]
        return chosen if sum(len(keys) for _, keys in self._lines_of(chosen, block)) <= self._table.capacity else []

    def pending(self, conditions: Sequence[Condition], block: Block) -> list[Pending]:
        """What makes the masks of some of these conditions, all from :meth:`own`, later; until other masks are asked for."""
        asked = self._lines_of(conditions, block)
        self._table.sides([line for line, _ in asked], [keys for _, keys in asked], block)  # none drives another one out
        left, found, everyone = {condition.key: condition for condition in conditions}, [], np.arange(len(block))
        while left:
            _, condition = left.popitem()
            mirror = left.pop(_mirrored(condition), None) if condition.op == "crosses_above" else None
            found.append(Pending(condition, mirror, self._pairs(condition, block, everyone, False)))
        return found

    def _lines_of(self, conditions: Sequence[Condition], block: Block) -> list[tuple[Any, list[Any]]]:
        """Distinct lines of comparisons, and their keys in the block."""
        lines = {arg.key: arg for condition in conditions for arg in condition.args if _is_line(arg)}
        return [(line, block.keys(block.varied(line))) for line in lines.values()]

    def _stack(self, condition: Condition, work: _Work) -> Stack:
        known = work.done.get(condition.key)
        if known is None:
            known = work.done[condition.key] = self._computed(condition, work)
        return known

    def _computed(self, condition: Condition, work: _Work) -> Stack:
        if condition.op == "array":
            return self._columns(condition, work)
        if condition.op not in _COMBINED:
            return self._leaf(condition, work)
        parts = [self._stack(arg, work) for arg in condition.args]
        candidates, inverse = work.distinct(condition)
        rows = [part.inverse[candidates] for part in parts]
        words = work.place(condition, self.n_words)
        if condition.op == "~":
            np.invert(parts[0].words[rows[0]], out=words)
        else:
            combine = np.bitwise_and if condition.op == "&" else np.bitwise_or
            combine(parts[0].words[rows[0]], parts[1].words[rows[1]], out=words)
            for part, row in zip(parts[2:], rows[2:], strict=True):
                combine(words, part.words[row], out=words)
        warm = functools.reduce(np.maximum, [part.warm[row] for part, row in zip(parts, rows, strict=True)])
        trim = functools.partial(_backend.kernel("masks").trim, words, warm, self.n_bars)
        self._run(trim, len(words), _WORD_US * self.n_words)
        return Stack(words, warm, inverse)

    def _leaf(self, condition: Condition, work: _Work) -> Stack:
        if len(work.block.varied(condition)) > 1:
            return self._compared(condition, work, None)
        identity = work.block.identity(condition)
        number = self._numbers.setdefault(identity, len(self._numbers))  # hashing a tree for each key takes longer than the rest
        keys = [(number, key) for key in work.block.keys(work.block.varied(condition))]
        known = [self._memo.get(key) for key in keys]
        missing = [index for index, entry in enumerate(known) if entry is None]
        words, warm = work.place(condition, self.n_words), np.zeros(len(keys), dtype=np.int64)
        if missing:
            fresh = self._compared(condition, work, np.array(missing, dtype=np.int64))
            words[missing], warm[missing] = fresh.words, fresh.warm
            for row, index in enumerate(missing):
                if fresh.words[row].nbytes <= self._memo.maxsize:
                    self._memo[keys[index]] = fresh.words[row].copy(), int(fresh.warm[row])
        for index, entry in enumerate(known):
            if entry is not None:
                words[index], warm[index] = entry
        return Stack(words, warm, work.distinct(condition).inverse)

    def _compared(self, condition: Condition, work: _Work, chosen: Ints | None) -> Stack:
        """The kernel's answer for all combinations, or for the chosen ones."""
        block, distinct = work.block, work.distinct(condition)
        candidates = distinct.candidates if chosen is None else distinct.candidates[chosen]
        mirror = None
        if condition.op == "crosses_above" and chosen is None:
            mirror = work.leaves.get(_mirrored(condition))
            if mirror is not None and (mirror.key == condition.key or mirror.key in work.done):
                mirror = None
        words = work.place(condition, self.n_words) if chosen is None else np.empty((len(chosen), self.n_words), np.uint64)
        other = work.place(mirror, self.n_words) if mirror is not None else np.empty((0, self.n_words), np.uint64)
        warm = np.zeros(len(candidates), dtype=np.int64)
        for part in self._parts(condition, block, candidates):
            pairs = self._pairs(condition, block, candidates[part], len(part) < len(distinct.candidates))
            warm[part] = pairs.warm
            if len(part) == len(candidates):
                self._compare(condition, pairs, words, other)
                continue
            some, others = (np.empty((len(part) if len(each) else 0, self.n_words), np.uint64) for each in (words, other))
            self._compare(condition, pairs, some, others)
            words[part] = some
            if len(other):
                other[part] = others
        stack = Stack(words, warm, distinct.inverse)
        if mirror is not None:
            work.done[mirror.key] = Stack(other, warm, distinct.inverse)
        return stack

    def _parts(self, condition: Condition, block: Block, candidates: Ints) -> list[Ints]:
        """Pairs in parts whose lines fit into the table: all, or squares of neighbouring lines, which share most."""
        indices = [block.distinct(block.varied(arg)).inverse[candidates] for arg in condition.args if _is_line(arg)]
        if sum(int(index.max(initial=-1)) + 1 for index in indices) <= self._table.capacity:
            return [np.arange(len(candidates))]
        side = self._table.capacity // len(indices)
        square = np.zeros(len(candidates), dtype=np.int64)
        for index in indices:
            square = square * (int(index.max()) // side + 1) + index // side
        order = np.argsort(square, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(square[order])) + 1)

    def _compare(self, condition: Condition, pairs: Pairs, words: Words, other: Words) -> None:
        out = (words, other) if condition.op == "crosses_above" else (words,)
        self._run(self.call(condition, pairs), len(words), _COMPARE_US * self.n_bars, *out)

    def call(self, condition: Condition, pairs: Pairs) -> Callable[..., None]:
        """The kernel's function for a comparison of pairs, as ``call(start, stop, *out)``."""
        table, kernel = self._table, _backend.kernel("masks")
        if condition.op == "crosses_above":
            return functools.partial(kernel.crosses, table.values, table.coarse, pairs, self.n_bars)
        if condition.op in ("<", "<="):
            pairs = Pairs(pairs.right, pairs.left, pairs.right_values, pairs.left_values, pairs.warm)
        return functools.partial(kernel.compare, table.values, table.coarse, pairs, condition.op in ("<", ">"), self.n_bars)

    def _run(self, call: Callable[..., None], n_rows: int, row_us: float, *out: Any) -> None:
        run_rows(lambda start, stop: call(start, stop, *out), n_rows, self.n_threads, row_us)

    def _pairs(self, condition: Condition, block: Block, candidates: Ints, are_few: bool) -> Pairs:
        """Rows and numbers of both sides at the combinations that the candidates stand for, which may be only some."""
        lines = [arg for arg in condition.args if _is_line(arg)]
        indices, asked = [], []
        for arg in lines:
            index, keys = block.distinct(block.varied(arg)).inverse[candidates], block.keys(block.varied(arg))
            if are_few:
                wanted, index = np.unique(index, return_inverse=True)
                keys = [keys[each] for each in wanted.tolist()]
            indices.append(index)
            asked.append(keys)
        found = dict(zip(map(id, lines), zip(self._table.sides(lines, asked, block), indices, strict=True), strict=True))
        rows, values, warms = [], [], []
        for arg in condition.args:
            if id(arg) in found:
                (at, numbers, warm), index = found[id(arg)]
            else:
                at, numbers, warm, index = _numbers(arg, block, candidates)
            needed = np.array(_checked(condition, numbers), dtype=np.float64)
            rows.append(at[index])
            values.append(needed[index] if len(needed) > 1 else np.full(len(index), needed[0]))
            warms.append(warm[index])
        warm = np.maximum(*warms)
        if condition.op == "crosses_above":
            warm = np.minimum(warm + 1, self.n_bars)
        return Pairs(rows[0], rows[1], values[0], values[1], warm)

    def _columns(self, condition: Condition, work: _Work) -> Stack:
        signals = condition.args[0]
        if signals.n_bars != self.n_bars:
            raise InputError(f"signals must have one row per bar ({self.n_bars}), got {signals.n_bars}")
        candidates, inverse = work.distinct(condition)
        words = work.place(condition, self.n_words)
        if signals.is_shared:
            words[:] = signals.words
        else:
            np.take(signals.words, _whole_columns(condition, work.block, candidates), axis=0, out=words)
        return Stack(words, np.zeros(len(candidates), dtype=np.int64), inverse)

    def warm_up(self, condition: Condition | None, combinations: Combinations, cross: int = 1) -> int:
        """Longest warm-up over all combinations of the condition's parameters, ``cross`` bars more for a cross."""
        if condition is None or condition.op == "array":
            return 0
        if condition.op in _COMBINED:
            return max(self.warm_up(arg, combinations, cross) for arg in condition.args)
        longest = max(self.lines.warm_up(arg, combinations) for arg in condition.args)
        return longest + (cross if condition.op == "crosses_above" else 0)


def _whole_columns(condition: Condition, block: Block, candidates: Ints) -> Ints:
    """Columns of ready signals; a table of one column needs no parameter that names it."""
    if "column" not in block.columns:
        return np.zeros(len(candidates), dtype=np.int64)
    n_columns, parameter = len(condition.args[0].words), block.columns["column"]
    if isinstance(parameter, Grid) and parameter.is_whole:
        columns = block.column("column")[candidates].astype(np.int64)
        bad = columns[(columns < 0) | (columns >= n_columns)].tolist()
    else:
        values = block.values("column")
        bad = [
            value for value in values if not isinstance(value, (int, float)) or not 0 <= value < n_columns or value != int(value)
        ]
        columns = np.array([0] * len(values) if bad else values, dtype=np.int64)[block.codes("column")[1][candidates]]
    if bad:
        raise InputError(f"column must be a whole number from 0 to {n_columns - 1}, got {bad[0]!r}")
    return columns


class _Work:
    """What one block's conditions have in common: leaves, places to write to, what is done."""

    def __init__(self, block: Block, leaves: dict[Any, Condition], places: dict[Any, Words]) -> None:
        self.block, self.leaves, self._places = block, leaves, places
        self.done: dict[Any, Stack] = {}

    def distinct(self, condition: Condition) -> Distinct:
        return self.block.distinct(self.block.varied(condition))

    def place(self, condition: Condition, width: int) -> Words:
        place = self._places.get(condition.key)
        return np.empty((len(self.distinct(condition).candidates), width), np.uint64) if place is None else place


def _mirrored(condition: Condition) -> Any:
    """Key of a cross the other way round."""
    return (condition.key[0], condition.key[1], *reversed(condition.key[2:]))


def _leaves(condition: Condition) -> list[Condition]:
    if condition.op in _COMBINED:
        return [leaf for arg in condition.args for leaf in _leaves(arg)]
    return [condition]


def _is_line(arg: Any) -> bool:
    return isinstance(arg, Node) and not isinstance(arg, Param)


def _numbers(arg: Any, block: Block, candidates: Ints) -> tuple[Ints, list[Any], Ints, Ints]:
    """A number or a parameter as the side of a comparison: rows, values, warm-ups, and each pair's index in them."""
    if not isinstance(arg, Param):
        values, index = [arg], np.zeros(len(candidates), dtype=np.int64)
    elif block.varied(arg):
        values, index = block.values(arg.name), block.codes(arg.name)[1][candidates]
    else:
        values, index = [block.defaults[arg.name]], np.zeros(len(candidates), dtype=np.int64)
    return np.full(len(values), -1, dtype=np.int64), values, np.zeros(len(values), dtype=np.int64), index


def _checked(condition: Condition, numbers: list[Any]) -> list[Any]:
    for value in numbers:
        if not isinstance(value, (int, float)) or math.isnan(value):
            raise InputError(f"{condition!r} must have numbers for its parameters, got {value!r}")
    return numbers

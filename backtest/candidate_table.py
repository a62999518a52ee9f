"""Candidates: what each candidate of a block does, as rows in tables of distinct masks and lines, for the signals kernel."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError, NumericsWarning, fraction, number, whole
from backtest._said import shown
from backtest.expr import Condition, Node, Param, Value
from backtest.line_values import MOST_BARS, Block, Combinations, LineMemo, WarmUpUnknown
from backtest.masks import ConditionMasks, LazyComparison, LineTable, MaskMemo, Words
from backtest.ready_signals import ReadySignals
from backtest.rules import CONDITIONS, LEVELS
from backtest.space import Choice, Continuous, Grid, Parameter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Most combinations of a node's parameters that are tried to find its longest warm-up.
MAX_WARM_UP_TRIALS = 100_000
#: What is sampled at the decision bar, in the order of a table's columns.
SAMPLED = (*LEVELS, "size")
#: The side on which a level lies below the entry price; at 1 (100 % of it) or more no bar can touch it.
SIDE_BELOW_ENTRY = {"stop_loss": "long", "take_profit": "short", "trailing_stop": "long"}


class LazyMasks:
    """Masks of a block's conditions, made for some candidates at a time, just before these are replayed.

    For comparisons of which few candidates share a mask: the masks of a tile fit into the second-level cache, those of a block
    do not.

    Parameters
    ----------
    conditions : sequence of Condition or None
        Columns of the mask rows; None is never true.
    ready : mapping of key to ConditionMasks
        Conditions whose masks are made already.
    comparisons : sequence of LazyComparison
        The others.
    table : LineTable
    tile : int
        Most candidates at a time.
    """

    def __init__(
        self,
        conditions: Sequence[Condition | None],
        ready: Mapping[Any, ConditionMasks],
        comparisons: Sequence[LazyComparison],
        table: LineTable,
        tile: int,
    ) -> None:
        self.comparisons, self._ready, self._table, self.tile = comparisons, ready, table, tile
        keys = dict.fromkeys(condition.key for condition in conditions if condition is not None)
        self._first_rows = {key: at * tile for at, key in enumerate(keys)}
        #: Rows of the buffer, shape (tile, n_conditions).
        self.mask_rows = np.full((tile, len(conditions)), -1, dtype=np.int64)
        for column, condition in enumerate(conditions):
            if condition is not None:
                self.mask_rows[:, column] = self._first_rows[condition.key] + np.arange(tile)

    def fill(self, start: int, stop: int, buffer: Words) -> None:
        """Write the masks of candidates ``start <= row < stop``, at most ``tile``.

        Parameters
        ----------
        start, stop : int
        buffer : ndarray of uint64, shape (n_distinct_conditions * tile + 1, n_words)
            Output; the last row is empty, and stays so.
        """
        kernel = _backend.kernel("masks")
        for each in self.comparisons:
            words = self._rows_of(each.condition.key, stop - start, buffer)
            mirrored = buffer[:0] if each.mirror is None else self._rows_of(each.mirror.key, stop - start, buffer)
            each.condition.fill(kernel, self._table, each.pairs.of_rows(slice(start, stop)), 0, stop - start, words, mirrored)
        for key, masks in self._ready.items():
            out = self._rows_of(key, stop - start, buffer)
            np.take(masks.words, masks.inverse[start:stop], axis=0, out=out, mode="clip")  # the default mode copies out

    def _rows_of(self, key: Any, count: int, buffer: Words) -> Words:
        return buffer[self._first_rows[key] : self._first_rows[key] + count]


class CandidateTable(NamedTuple):
    """What each candidate does: its rows in tables of distinct masks and lines."""

    masks: Words  # (n_masks + 1, n_words): bit t % 64 of word t // 64 is bar t; 0 in the warm-up; the last row is empty
    mask_rows: Ints  # (n_candidates, 4), in the order of rules.CONDITIONS; -1, the empty last row: never true
    lines: Floats  # (n_lines, n_bars)
    line_rows: Ints  # (n_candidates, 4), in the order of SAMPLED; -1: the value
    values: Floats  # (n_candidates, 4), same columns; NaN is off
    max_bars: Ints  # (n_candidates,); 0 is off
    lazy: LazyMasks | None = None  # if given, ``masks`` lacks some, and the kernel takes the tables of :meth:`tiles`

    def has(self, column: int) -> NDArray[np.bool_]:
        """Which candidates have a level, by its column in ``SAMPLED``."""
        return (self.line_rows[:, column] >= 0) | ~np.isnan(self.values[:, column])

    def of_rows(self, rows: Ints | slice) -> CandidateTable:
        """The table of some of its candidates."""
        return self._replace(
            mask_rows=self.mask_rows[rows], line_rows=self.line_rows[rows], values=self.values[rows], max_bars=self.max_bars[rows]
        )

    def tiles(self, start: int, stop: int, buffer: Words) -> Iterator[tuple[slice, CandidateTable]]:
        """Tables that cover candidates ``start <= row < stop``, and their rows.

        Parameters
        ----------
        start, stop : int
        buffer : ndarray of uint64, shape (n_distinct_conditions * tile + 1, n_words)
            Where lazy masks are written to; the last row is empty.  A table is valid until the next one is made.
        """
        if self.lazy is None:
            yield slice(start, stop), self.of_rows(slice(start, stop))
            return
        for first in range(start, stop, self.lazy.tile):
            rows = slice(first, min(first + self.lazy.tile, stop))
            self.lazy.fill(rows.start, rows.stop, buffer)
            mask_rows = self.lazy.mask_rows[: rows.stop - rows.start]
            yield rows, self.of_rows(rows)._replace(masks=buffer, mask_rows=mask_rows, lazy=None)


class CandidateTableBuilder:
    """Makes the candidate tables of batches.

    Parameters
    ----------
    conditions : sequence of Condition or None
        In the order of ``rules.CONDITIONS``; None is never true.
    sampled : sequence
        Levels and size, in the order of ``SAMPLED``: node, number or None.
    max_bars : node, number or None
    columns : mapping of str to Parameter
        What a batch's columns hold, in order.
    defaults : mapping of str to value
        Parameters of the strategy; those without a column keep their default.
    lines : LineMemo
    masks : MaskMemo
    largest_size : float, optional

    Raises
    ------
    InputError
        Ready signals have other times than the bars; or a level, given as a number or by its parameter's range, can be 1 or
        more on a side where no price could then touch it.
    """

    def __init__(
        self,
        conditions: Sequence[Condition | None],
        sampled: Sequence[Any],
        max_bars: Any,
        columns: Mapping[str, Parameter],
        defaults: Mapping[str, Any],
        *,
        lines: LineMemo,
        masks: MaskMemo,
        largest_size: float | None,
    ) -> None:
        self.conditions, self.sampled, self.max_bars = conditions, sampled, max_bars
        self.columns, self.defaults, self.lines, self.masks, self.largest_size = columns, defaults, lines, masks, largest_size
        for leaf in (leaf for condition in conditions if condition is not None for leaf in condition.leaves()):
            if isinstance(leaf, ReadySignals):
                leaf.check_bars(lines.bars)
        self._lock = threading.Lock()  # one block at a time fills and reads the table of lines
        has_entry = {"long": conditions[0] is not None, "short": conditions[2] is not None}
        #: Levels that must be below 1, and why.
        self.capped = {name: f"where {side}s are traded" for name, side in SIDE_BELOW_ENTRY.items() if has_entry[side]}
        self._warned = False
        for name, node in zip(SAMPLED, sampled, strict=True):
            if name in self.capped:
                label = f"{name} = {node!r}" if isinstance(node, Value) and repr(node) != name else name
                fraction(label, _highest(node, columns, defaults), self.capped[name])

    def block(self, batch: Floats) -> Block:
        """A batch, factorised on demand."""
        return Block(batch, self.columns, self.defaults)

    def table(self, batch: Floats, start: int, end: int) -> CandidateTable:
        """The table of a batch whose candidates may decide on bars ``start <= bar < end``."""
        with self._lock:
            return self._build(self.block(batch), start, end, 0)

    @contextlib.contextmanager
    def lazy_table(self, batch: Floats, start: int, end: int, tile: int) -> Iterator[CandidateTable]:
        """The same with lazy masks, for up to ``tile`` candidates at a time; the table of lines is locked meanwhile."""
        with self._lock:
            table = self._build(self.block(batch), start, end, tile)
            if table.lazy is not None:
                yield table
                return
        yield table

    def _build(self, block: Block, start: int, end: int, tile: int) -> CandidateTable:
        distinct = {condition.key: condition for condition in self.conditions if condition is not None}
        lazy_conditions = self.masks.lazy_conditions(list(distinct.values()), block) if 0 < tile < len(block) else []
        for each in lazy_conditions:
            del distinct[each.key]
        words, masks = self.masks.masks(list(distinct.values()), block)
        ready = dict(zip(distinct, masks, strict=True))
        for key, condition in distinct.items():
            _check_warm_up(condition, ready[key].warm, start)
        lazy = None
        if lazy_conditions:  # after the other masks, which may clear the table of lines
            comparisons = self.masks.lazy_comparisons(lazy_conditions, block)
            for lazy_one in comparisons:
                _check_warm_up(lazy_one.condition, lazy_one.pairs.warm, start)
            lazy = LazyMasks(self.conditions, ready, comparisons, self.masks.table, tile)
        lines, line_rows, values = self._levels(block, start, end)
        return CandidateTable(words, self._mask_rows(ready, block), lines, line_rows, values, self._max_bars(block), lazy)

    def _mask_rows(self, ready: Mapping[Any, ConditionMasks], block: Block) -> Ints:
        rows, n_masks = {}, 0
        for key, masks in ready.items():
            rows[key] = masks.inverse + n_masks  # one side's entry is often the other's exit
            n_masks += len(masks.warm)
        mask_rows = np.full((len(block), len(CONDITIONS)), -1, dtype=np.int64)
        for column, condition in enumerate(self.conditions):
            if condition is not None and condition.key in rows:
                mask_rows[:, column] = rows[condition.key]
        return mask_rows

    def _levels(self, block: Block, start: int, end: int) -> tuple[Floats, Ints, Floats]:
        lines: list[Floats] = []
        untouchable: list[tuple[str, int]] = []  # lines that reach 1: text, and number of bars
        rows = np.full((len(block), len(SAMPLED)), -1, dtype=np.int64)
        values = np.full((len(block), len(SAMPLED)), np.nan)
        for column, (name, node) in enumerate(zip(SAMPLED, self.sampled, strict=True)):
            if node is None and name != "size":
                continue
            high = self.largest_size if name == "size" else None
            numbers = _number_column(node, block)
            if numbers is not None and ((numbers > 0) & (numbers <= (np.finfo(np.float64).max if high is None else high))).all():
                values[:, column] = numbers
                continue
            params = block.distinct(node)
            found_rows, found_values = np.empty(len(params), dtype=np.int64), np.empty(len(params))
            for index, each in enumerate(params.params()):
                found_rows[index], found_values[index] = self._sampled(name, node, each, start, end, lines, untouchable)
            inverse = params.inverse if len(params) > 1 else 0
            rows[:, column], values[:, column] = found_rows[inverse], found_values[inverse]
        if untouchable and not self._warned:
            self._warned = True
            others = (
                f"; so are {sum(count for _, count in untouchable[1:]):,} values of {len(untouchable) - 1:,} other lines"
                if untouchable[1:]
                else ""
            )
            warnings.warn(f"{untouchable[0][0]}: a level that is never touched{others}", NumericsWarning, stacklevel=2)
        return np.array(lines).reshape(len(lines), len(self.lines.bars)), rows, values

    def _sampled(
        self,
        name: str,
        node: Any,
        params: dict[str, Any],
        start: int,
        end: int,
        lines: list[Floats],
        untouchable: list[tuple[str, int]],
    ) -> tuple[int, float]:
        """Row in ``lines`` or -1, and the value (NaN: off), of a level or size."""
        value = None if node is None else self.lines.value(node, params)
        high = self.largest_size if name == "size" else None
        if value is None:
            if name == "size":
                raise InputError("size must be a number, got None")
            return -1, np.nan
        if not isinstance(value, np.ndarray):
            value = number(f"{name}{_at_params(params)}", value, low=0.0, open_low=True, high=high)
            if name in self.capped:
                fraction(f"{name}{_at_params(params)}", value, self.capped[name])
            return -1, value
        span = value[start:end]
        bad = ~(np.isfinite(span) & (span > 0)) if high is None else ~((span > 0) & (span <= high))
        if bad.any():
            row = start + int(bad.argmax())
            rule = "finite and > 0" if high is None else f"> 0 and <= {high:g}"
            raise InputError(
                f"{name} = {node!r}{_at_params(params)} must be {rule} from the start on, got {value[row]} (row {row})"
            )
        reached = span >= 1.0 if name in self.capped else np.zeros(0, dtype=np.bool_)
        if reached.any():
            count, row = int(np.count_nonzero(reached)), start + int(reached.argmax())
            untouchable.append(
                (f"{name} = {node!r}{_at_params(params)} is >= 1 on {count:,} of {len(span):,} bars (first: row {row})", count)
            )
        lines.append(value)
        return len(lines) - 1, np.nan

    def _max_bars(self, block: Block) -> Ints:
        if self.max_bars is None:
            return np.zeros(len(block), dtype=np.int64)
        params = block.distinct(self.max_bars)
        return np.array([self._max_bars_at(each) for each in params.params()], dtype=np.int64)[params.inverse]

    def _max_bars_at(self, params: dict[str, Any]) -> int:
        value = self.lines.value(self.max_bars, params)
        if value is None:
            return 0
        if isinstance(value, float) and abs(value) < math.inf and value == int(value):
            value = int(value)
        limit = whole(f"max_bars{_at_params(params)}", value, low=1)
        return whole(f"max_bars{_at_params(params)}", limit, high=MOST_BARS)


def all_combinations(choices: Mapping[str, Sequence[Any]]) -> Combinations:
    """Every combination of the values of a node's parameters."""

    def combinations(node: Node) -> Iterable[dict[str, Any]]:
        lists = [choices[name] for name in node.params]
        if math.prod(map(len, lists)) > MAX_WARM_UP_TRIALS:
            raise WarmUpUnknown(
                f"the longest warm-up of {node!r} needs more than {MAX_WARM_UP_TRIALS:,} combinations of its "
                "parameters; give Execution(start=...)"
            )
        return (dict(zip(node.params, values, strict=True)) for values in itertools.product(*lists))

    return combinations


def _check_warm_up(condition: Condition, warm: Ints, start: int) -> None:
    if len(warm) and int(warm.max()) > start:
        needed = int(warm[np.argmax(warm > start)])
        raise InputError(
            f"start must be >= the longest warm-up of the candidates, got {start}; {condition!r} needs {needed} bars"
        )


def _highest(node: Any, columns: Mapping[str, Parameter], defaults: Mapping[str, Any]) -> float:
    """The largest value that a number or a parameter can have, as far as columns and defaults say; else -inf."""
    column = columns.get(node.name) if isinstance(node, Param) else None
    if isinstance(column, (Grid, Continuous)):
        return column.high
    given = column.choices if isinstance(column, Choice) else [defaults.get(node.name) if isinstance(node, Param) else node]
    return max((value for value in given if isinstance(value, (int, float)) and not isinstance(value, bool)), default=-math.inf)


def _number_column(node: Any, block: Block) -> Floats | None:
    """Each candidate's value of a parameter whose column holds numbers; None of any other node."""
    if isinstance(node, Param) and isinstance(block.columns.get(node.name), (Grid, Continuous)):
        return block.column(node.name)
    return None


def _at_params(params: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} = {shown(value)}" for name, value in itertools.islice(params.items(), 4))
    return f" ({text})" if text else ""

"""Programs: what each candidate of a block does, as rows in tables of distinct masks and lines."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, NumericsWarning, fraction, number, whole
from backtest._said import shown
from backtest.blocks import Block
from backtest.expr import Condition, Param, Value
from backtest.lines import MOST_BARS, LineMemo
from backtest.masks import MaskMemo, Pending, Stack, Words
from backtest.rules import CONDITIONS, LEVELS
from backtest.space import Choice, Continuous, Grid, Parameter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: What is sampled at the decision bar, in the order of a program's columns.
SAMPLED = (*LEVELS, "size")
#: The side whose level at 1, 100 % of the entry price, or beyond lies at a price of 0 or below, which no bar touches.
FALLING = {"stop_loss": "long", "take_profit": "short", "trailing_stop": "long"}


class Program(NamedTuple):
    """What each candidate does: its rows in tables of distinct masks and lines."""

    masks: Words  # (n_masks + 1, n_words): bit t % 64 of word t // 64 is bar t; no warm-up; the last row is never
    mask_rows: Ints  # (n_candidates, 4), in the order of rules.CONDITIONS; -1, the last row, is never
    lines: Floats  # (n_lines, n_bars)
    line_rows: Ints  # (n_candidates, 4): stop, target, trail, size; -1 is the value
    values: Floats  # (n_candidates, 4), same columns; NaN is off
    max_bars: Ints  # (n_candidates,); 0 is off

    def has(self, which: int) -> NDArray[np.bool_]:
        """Which candidates have a level, by its place in ``SAMPLED``."""
        return (self.line_rows[:, which] >= 0) | ~np.isnan(self.values[:, which])

    def of_rows(self, rows: Ints | slice) -> Program:
        """The program of some of its candidates."""
        return self._replace(
            mask_rows=self.mask_rows[rows], line_rows=self.line_rows[rows], values=self.values[rows], max_bars=self.max_bars[rows]
        )


class Plan:
    """A block of candidates, whose programs are made some candidates at a time.

    What most candidates have to themselves is made only then, for so few that it is still near when they are replayed.

    Parameters
    ----------
    program : Program
        Of the whole block; its masks are those of ``stacks`` alone.
    conditions : sequence of hashable or None
        In the order of ``rules.CONDITIONS``; equal ones are equal conditions, None is never.
    stacks : mapping of hashable to Stack
        Masks that are there.
    pending : sequence of Pending
        What gives the others.
    memo : MaskMemo
    tile : int
        Most candidates of a program.
    """

    def __init__(
        self,
        program: Program,
        conditions: Sequence[Any],
        stacks: Mapping[Any, Stack],
        pending: Sequence[Pending],
        memo: MaskMemo,
        tile: int,
    ) -> None:
        self.program, self.pending, self._stacks, self._memo, self._tile = program, pending, stacks, memo, tile
        self._places = {key: at * tile for at, key in enumerate(dict.fromkeys(key for key in conditions if key is not None))}
        self._rows = np.full((tile, len(CONDITIONS)), -1, dtype=np.int64)
        for which, key in enumerate(conditions):
            if key is not None:
                self._rows[:, which] = self._places[key] + np.arange(tile)

    def programs(self, start: int, stop: int, room: Words) -> Iterator[tuple[slice, Program]]:
        """Programs that cover candidates ``start <= row < stop``, and their rows.

        Parameters
        ----------
        start, stop : int
        room : ndarray of uint64, shape (n_conditions * tile + 1, n_words)
            Where masks are written to; the last row is never.  A program is good until the next one.
        """
        if not self.pending:
            yield slice(start, stop), self.program.of_rows(slice(start, stop))
            return
        for begin in range(start, stop, self._tile):
            rows = slice(begin, min(begin + self._tile, stop))
            self._fill(rows, room)
            yield rows, self.program.of_rows(rows)._replace(masks=room, mask_rows=self._rows[: rows.stop - begin])

    def _fill(self, rows: slice, room: Words) -> None:
        count = rows.stop - rows.start
        for each in self.pending:
            words, other = (
                room[:0] if condition is None else self._place(condition.key, count, room)
                for condition in (each.condition, each.mirror)
            )
            each.fill(self._memo, rows.start, rows.stop, words, other)
        for key, stack in self._stacks.items():
            np.take(stack.words, stack.inverse[rows], axis=0, out=self._place(key, count, room), mode="clip")  # else it buffers

    def _place(self, key: Any, count: int, room: Words) -> Words:
        return room[self._places[key] : self._places[key] + count]


class ProgramBuilder:
    """Makes programs of batches.

    Parameters
    ----------
    conditions : sequence of Condition or None
        In the order of ``rules.CONDITIONS``; None is never.
    sampled : sequence
        Levels and size, in the order of ``SAMPLED``: node, number or None.
    max_bars : node, number or None
    columns : mapping of str to Parameter
        What a batch's columns hold, in order.
    defaults : mapping of str to value
        Parameters of the strategy; those without a column keep their default.
    lines, masks
        Memory.
    largest_size : float, optional

    Raises
    ------
    InputError
        A level, as a number or anywhere in its parameter's range, is 1 or more where it can then never be touched.
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
        self._lock = threading.Lock()  # tables of lines are filled and read in turns
        held = {"long": conditions[0] is not None, "short": conditions[2] is not None}
        #: Levels that must be below 1, and why.
        self.capped = {name: f"where {side}s are traded" for name, side in FALLING.items() if held[side]}
        self._warned = False
        for name, node in zip(SAMPLED, sampled, strict=True):
            if name in self.capped:
                label = f"{name} = {node!r}" if isinstance(node, Value) and repr(node) != name else name
                fraction(label, _highest(node, columns, defaults), self.capped[name])

    def block(self, batch: Floats) -> Block:
        """A batch, factorised on demand."""
        return Block(batch, self.columns, self.defaults)

    def __call__(self, batch: Floats, first: int, last: int) -> Program:
        """The program of a batch whose candidates may decide on bars ``first <= bar < last``."""
        with self._lock:
            return self._plan(self.block(batch), first, last, 0).program

    @contextlib.contextmanager
    def plan(self, batch: Floats, first: int, last: int, tile: int) -> Iterator[Plan]:
        """The same for some candidates at a time, up to ``tile``; while masks are pending, the lines they need are held."""
        with self._lock:
            plan = self._plan(self.block(batch), first, last, tile)
            if plan.pending:
                yield plan
                return
        yield plan

    def _plan(self, block: Block, first: int, last: int, tile: int) -> Plan:
        distinct = {condition.key: condition for condition in self.conditions if condition is not None}
        own = self.masks.own(list(distinct.values()), block) if 0 < tile < len(block) else []
        late = {condition.key for condition in own}
        masks, stacks = self._masks([condition for key, condition in distinct.items() if key not in late], block, first)
        pending = self.masks.pending(own, block)  # last, since the table of lines forgets
        for each in pending:
            _check_warm_up(each.condition, each.pairs.warm, first)
        lines, line_rows, values = self._levels(block, first, last)
        program = Program(masks, self._mask_rows(stacks, block), lines, line_rows, values, self._limits(block))
        keys = [None if condition is None else condition.key for condition in self.conditions]
        return Plan(program, keys, stacks, pending, self.masks, tile)

    def _masks(self, conditions: Sequence[Condition], block: Block, first: int) -> tuple[Words, dict[Any, Stack]]:
        """Masks of conditions in one table, and their stacks."""
        masks, stacks = self.masks.stacks(conditions, block)
        for condition, stack in zip(conditions, stacks, strict=True):
            _check_warm_up(condition, stack.warm, first)
        return masks, {condition.key: stack for condition, stack in zip(conditions, stacks, strict=True)}

    def _mask_rows(self, stacks: Mapping[Any, Stack], block: Block) -> Ints:
        rows, n_masks = {}, 0
        for key, stack in stacks.items():
            rows[key] = stack.inverse + n_masks  # one side's entry is often the other's exit
            n_masks += len(stack.warm)
        mask_rows = np.full((len(block), len(CONDITIONS)), -1, dtype=np.int64)
        for which, each in enumerate(self.conditions):
            if each is not None and each.key in rows:
                mask_rows[:, which] = rows[each.key]
        return mask_rows

    def _levels(self, block: Block, first: int, last: int) -> tuple[Floats, Ints, Floats]:
        lines: list[Floats] = []
        untouchable: list[tuple[str, int]] = []  # lines beyond 1: what and where, and how many bars
        rows = np.full((len(block), len(SAMPLED)), -1, dtype=np.int64)
        values = np.full((len(block), len(SAMPLED)), np.nan)
        for which, (name, node) in enumerate(zip(SAMPLED, self.sampled, strict=True)):
            if node is None and name != "size":
                continue
            high = self.largest_size if name == "size" else None
            plain = _plain(node, block)
            if plain is not None and ((plain > 0) & (plain <= (np.finfo(np.float64).max if high is None else high))).all():
                values[:, which] = plain
                continue
            combinations = block.combinations(node)
            at, of = np.empty(len(combinations), dtype=np.int64), np.empty(len(combinations))
            for index, params in enumerate(combinations):
                at[index], of[index] = self._sampled(name, node, params, first, last, lines, untouchable)
            inverse = block.distinct(block.varied(node)).inverse if len(combinations) > 1 else 0
            rows[:, which], values[:, which] = at[inverse], of[inverse]
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
        first: int,
        last: int,
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
            value = number(f"{name}{_at(params)}", value, low=0.0, open_low=True, high=high)
            if name in self.capped:
                fraction(f"{name}{_at(params)}", value, self.capped[name])
            return -1, value
        span = value[first:last]
        bad = ~(np.isfinite(span) & (span > 0)) if high is None else ~((span > 0) & (span <= high))
        if bad.any():
            row = first + int(bad.argmax())
            rule = "finite and > 0" if high is None else f"> 0 and <= {high:g}"
            raise InputError(f"{name} = {node!r}{_at(params)} must be {rule} from the start on, got {value[row]} (row {row})")
        beyond = span >= 1.0 if name in self.capped else np.zeros(0, dtype=np.bool_)
        if beyond.any():
            count, row = int(np.count_nonzero(beyond)), first + int(beyond.argmax())
            untouchable.append(
                (f"{name} = {node!r}{_at(params)} is >= 1 on {count:,} of {len(span):,} bars (first: row {row})", count)
            )
        lines.append(value)
        return len(lines) - 1, np.nan

    def _limits(self, block: Block) -> Ints:
        if self.max_bars is None:
            return np.zeros(len(block), dtype=np.int64)
        limits = np.array([self._max_bars(params) for params in block.combinations(self.max_bars)], dtype=np.int64)
        return limits[block.distinct(block.varied(self.max_bars)).inverse]

    def _max_bars(self, params: dict[str, Any]) -> int:
        value = self.lines.value(self.max_bars, params)
        if value is None:
            return 0
        if isinstance(value, float) and abs(value) < math.inf and value == int(value):
            value = int(value)
        limit = whole(f"max_bars{_at(params)}", value, low=1)
        return whole(f"max_bars{_at(params)}", limit, high=MOST_BARS)


def _check_warm_up(condition: Condition, warm: Ints, first: int) -> None:
    if len(warm) and int(warm.max()) > first:
        needed = int(warm[np.argmax(warm > first)])
        raise InputError(
            f"start must be >= the longest warm-up of the candidates, got {first}; {condition!r} needs {needed} bars"
        )


def _highest(node: Any, columns: Mapping[str, Parameter], defaults: Mapping[str, Any]) -> float:
    """The largest value that a number or a parameter can have, as far as it is known before a batch is; else -inf."""
    column = columns.get(node.name) if isinstance(node, Param) else None
    if isinstance(column, (Grid, Continuous)):
        return column.high
    given = column.choices if isinstance(column, Choice) else [defaults.get(node.name) if isinstance(node, Param) else node]
    return max((value for value in given if isinstance(value, (int, float)) and not isinstance(value, bool)), default=-math.inf)


def _plain(node: Any, block: Block) -> Floats | None:
    """Values of a parameter whose column holds numbers, per candidate."""
    if isinstance(node, Param) and isinstance(block.columns.get(node.name), (Grid, Continuous)):
        return block.column(node.name)
    return None


def _at(params: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} = {shown(value)}" for name, value in itertools.islice(params.items(), 4))
    return f" ({text})" if text else ""

"""Signals: a strategy's candidates in batches, as arguments of the signals kernel, which goes from event to event."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError, instance
from backtest._said import shown
from backtest.bars import Bars
from backtest.candidate_table import CandidateTable, CandidateTableBuilder
from backtest.compute.threads import run_rows, scratch
from backtest.costs import Costs, Execution, OrderCosts
from backtest.evaluation import MAX_BLOCK, TOUCH_TOLERANCE, BarsEvaluator, Replay, UseSums
from backtest.expr import Condition, Param, Value, merged_params
from backtest.holding_tables import HoldingTables
from backtest.line_values import Block, Combinations
from backtest.masks import Words
from backtest.metrics import SUMS, SWEEP
from backtest.records import FILL, REASONS, Unexecuted
from backtest.rules import CONDITIONS, LEVELS, Strategy
from backtest.space import Parameter

Floats = NDArray[np.float64]

#: Memory of the tables of one block of candidates, at most.
BLOCK_BYTES = 32 << 20
#: A tile are candidates whose masks are made and replayed while they are in the second-level cache: memory of its masks, and
#: its least number of candidates.
TILE_BYTES, MIN_TILE = 640 << 10, 512
#: Candidates whose sums are turned into metrics together.
CHUNK = 4096
#: Tasks per thread and block.  Measured: with more, metrics of few candidates at a time keep the interpreter busy.
TASKS_PER_THREAD = 2
#: Measured: microseconds per bar of a candidate that trades rarely.
BAR_US = 0.0005


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings(OrderCosts):
    """What all candidates of a batch share: an argument of the signals kernel."""

    first: int  # first bar whose close may decide
    last: int  # one past the last bar
    start_cash: float
    rf_per_bar: float
    borrow_per_bar: float
    fills_at_close: bool
    is_pessimistic: bool
    close_at_end: bool
    whole_units: bool
    size_is_share: bool
    # What a profile changes; costs.Conventions says what each means.
    exit_slippage: float
    stop_slippage: float
    sized_on_quote: bool
    levels_from_decision: bool
    trail_from_extremes: bool
    stop_beats_gap: bool
    touch_tolerance: float
    ends_at_open: bool


class StrategyEvaluator(BarsEvaluator):
    """Evaluates candidates of a strategy of rules; parameters as of :class:`backtest.evaluation.BarsEvaluator`."""

    engine = "events"

    def __init__(
        self,
        bars: Bars,
        strategy: Strategy,
        parameters: Mapping[str, Parameter],
        *,
        costs: Costs,
        execution: Execution,
        metrics: Sequence[str] = SWEEP,
        n_threads: int | None = None,
        memo_share: int = 1,
    ) -> None:
        instance("strategy", strategy, Strategy)
        super().__init__(
            bars,
            strategy,
            parameters,
            costs=costs,
            execution=execution,
            metrics=metrics,
            n_threads=n_threads,
            memo_share=memo_share,
        )
        if not isinstance(execution.size, (float, Value)):
            raise InputError(f"size must be a number, a parameter or a line, got {shown(execution.size)}")
        self.conditions = _traded(strategy, execution.sides)
        if all(condition is None for condition in self.conditions[::2]):
            raise InputError(f"sides must leave the strategy an entry, got {execution.sides!r} for {strategy.name!r}")
        self.sampled = [*(getattr(strategy, name) for name in LEVELS), execution.size]
        self._take_params(
            merged_params([*self.conditions, *self.sampled, strategy.max_bars]),
            merged_params([*_traded(strategy, "both"), *self.sampled, strategy.max_bars]),
        )
        self.builder = CandidateTableBuilder(
            self.conditions,
            self.sampled,
            strategy.max_bars,
            self.parameters,
            self.params,
            lines=self.lines,
            masks=self.masks,
            largest_size=execution.largest_size,
        )
        line_levels = sum(isinstance(node, Value) and not isinstance(node, Param) for node in self.sampled)
        n_conditions = len({condition.key for condition in self.conditions if condition is not None})
        self.tile = max(MIN_TILE, TILE_BYTES // (8 * n_conditions * self.masks.n_words))
        self._masks_shape = n_conditions * self.tile + 1, self.masks.n_words
        self.block = int(min(MAX_BLOCK, max(64, BLOCK_BYTES // (len(bars) * (0.5 + 8 * line_levels)))))

    def warm_up(self, combinations: Combinations) -> int:
        """Longest warm-up of any candidate among ``combinations``."""
        extra = int(self.execution.conventions.extra_warm_up)
        conditions = [self.masks.warm_up(condition, combinations, 1 - extra) for condition in self.conditions]
        return max(*conditions, *(self.lines.warm_up(node, combinations) for node in self.sampled)) + extra

    def settings(self, window: slice | None = None) -> Settings:
        """What all candidates of a batch share, for the kernel."""
        costs, execution, conventions = self.costs, self.execution, self.execution.conventions
        return Settings(
            **self.shared_settings(window),
            is_pessimistic=execution.intrabar != "optimistic",
            whole_units=execution.whole_units,
            size_is_share=execution.size_type == "equity",
            exit_slippage=costs.slippage if conventions.exits_slip else 0.0,
            stop_slippage=costs.slippage if conventions.stops_slip else 0.0,
            sized_on_quote=conventions.sized_on_quote,
            levels_from_decision=conventions.levels_from_decision,
            trail_from_extremes=conventions.trail_from_extremes,
            stop_beats_gap=conventions.stop_beats_gap,
            touch_tolerance=0.0 if conventions.touches_exactly else TOUCH_TOLERANCE,
            ends_at_open=conventions.ends_at_open,
        )

    def replayed(self, batch: Floats, settings: Settings) -> Replay:
        """The only candidate of a batch, replayed with its ledger."""
        table, tables, kernel = self.candidate_table(batch, settings), self.holding_tables(settings), _backend.kernel("signals")
        sums, n_bars = np.zeros(1, dtype=SUMS), settings.last - settings.first
        kernel.evaluate(self.bars, tables, table, settings, 0, 1, sums)  # counts the fills
        fills = np.zeros(int(sums["n_fills"][0]), dtype=FILL)
        equity, units, unaffordable = np.empty(n_bars), np.empty(n_bars), np.zeros(n_bars, dtype=np.int64)
        _, exit_reason, entry_side = kernel.replay(
            self.bars, tables, table, settings, 0, sums, fills, equity, units, unaffordable
        )
        entries = np.flatnonzero(unaffordable)
        bars, sides = (settings.first + entries).tolist(), unaffordable[entries].tolist()
        reasons, statuses = ["entry"] * len(bars), ["unaffordable"] * len(bars)
        unfilled_exit = REASONS[exit_reason]
        for reason, side in ((unfilled_exit, -np.sign(units[-1])), ("entry", entry_side)):
            if reason and side:
                bars.append(settings.last - 1)
                sides.append(side)
                reasons.append(reason)
                statuses.append("unfilled")
        columns = np.array(bars, dtype=np.int64), np.zeros(len(bars), dtype=np.int64), np.array(sides)
        return Replay(sums, fills, equity, units, Unexecuted(*columns, reasons, statuses), unfilled_exit, int(entry_side))

    def _replay_block(self, batch: Floats, settings: Settings, offset: int, use: UseSums) -> None:
        with self.lazy_table(batch, settings) as table:
            run_rows(
                functools.partial(self._replay_rows, table, settings, offset, use),
                len(batch),
                self.n_threads,
                BAR_US * (settings.last - settings.first),
                TASKS_PER_THREAD,
            )

    def _replay_rows(self, block: CandidateTable, settings: Settings, offset: int, use: UseSums, start: int, stop: int) -> None:
        """Replay rows ``start`` to ``stop`` of a block, which is row ``offset`` of the batch and on; runs on any thread."""
        masks, chunk_sums = self._scratch()
        for begin in range(start, stop, CHUNK):
            end = min(begin + CHUNK, stop)
            sums = chunk_sums[:, : end - begin]
            for rows, table in block.tiles(begin, end, masks):
                self._evaluate(table, settings, sums[:, rows.start - begin : rows.stop - begin])
            use(slice(offset + begin, offset + end), sums)

    def _evaluate(self, table: CandidateTable, settings: Settings, sums: NDArray[Any]) -> None:
        """Sums of a table's candidates; if both orders inside a bar are scored, also with the target before the stop.

        For the second order only candidates with an ambiguous trade are replayed; the others are equal.
        """
        evaluate, tables = _backend.kernel("signals").evaluate, self.holding_tables(settings)
        evaluate(self.bars, tables, table, settings, 0, sums.shape[1], sums[0])
        if self.scores_both:
            ambiguous = np.flatnonzero(sums["n_ambiguous"][0])
            other = np.zeros(len(ambiguous), dtype=SUMS)
            optimistic = dataclasses.replace(settings, is_pessimistic=False)
            evaluate(self.bars, tables, table.of_rows(ambiguous), optimistic, 0, len(other), other)
            sums[1] = sums[0]
            sums[1, ambiguous] = other

    def _scratch(self) -> tuple[Words, NDArray[Any]]:
        """This thread's memory for the masks of a tile, with an empty last row, and for the sums of a chunk."""
        n_masks, n_sums = 8 * self._masks_shape[0] * self._masks_shape[1], (1 + self.scores_both) * CHUNK
        memory = scratch(n_masks + n_sums * SUMS.itemsize)
        masks = memory[:n_masks].view(np.uint64).reshape(self._masks_shape)
        masks[-1] = 0
        return masks, memory[n_masks:].view(SUMS).reshape(-1, CHUNK)

    def holding_tables(self, settings: Settings) -> HoldingTables:
        """Holding tables of the bars."""
        return HoldingTables.of(self.bars, settings.rf_per_bar)

    def candidate_table(self, batch: Floats, settings: Settings) -> CandidateTable:
        """Distinct masks and lines of a block of candidates, and each candidate's rows in them."""
        table = self.builder.table(batch, settings.first, settings.last)
        self._check_rules(table)
        return table

    @contextlib.contextmanager
    def lazy_table(self, batch: Floats, settings: Settings) -> Iterator[CandidateTable]:
        """The same with masks that are made for some candidates at a time, where most have masks of their own."""
        with self.builder.lazy_table(batch, settings.first, settings.last, self.tile) as table:
            self._check_rules(table)
            yield table

    def _check_rules(self, table: CandidateTable) -> None:
        if self.execution.profile is not None:
            is_on = {name: table.has(column) for column, name in enumerate(LEVELS)}
            self.execution.check_rules(is_on | {"max_bars": table.max_bars > 0})

    def _block(self, batch: Floats) -> Block:
        return self.builder.block(batch)


def _traded(strategy: Strategy, sides: str) -> list[Condition | None]:
    """The strategy's conditions in the order of ``CONDITIONS``; None for those of a side that is not traded."""
    off = {"long": "short", "short": "long"}.get(sides, "neither")
    return [None if name.endswith(off) else getattr(strategy, name) for name in CONDITIONS]

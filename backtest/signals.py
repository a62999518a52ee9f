"""Signals: a strategy's candidates in batches, as arguments of the signals kernel, and metrics from its sums."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import DataError, InputError, each_window, instance, known_names, matrix, optional_whole
from backtest._said import shown
from backtest.bars import Bars
from backtest.candidate_table import CandidateTable, CandidateTableBuilder
from backtest.compute.threads import run_rows, scratch
from backtest.costs import Costs, Execution, OrderCosts
from backtest.expr import REQUIRED, Condition, Param, Value, merged_params
from backtest.holding_tables import HoldingTables
from backtest.line_values import Combinations, LineMemo, WarmUpUnknown
from backtest.masks import MaskMemo, Words
from backtest.metrics import SUMS, SWEEP, MetricInputs, check_metrics, optimistic, sweep_metrics
from backtest.periods import Periods, given
from backtest.rules import CONDITIONS, LEVELS, Strategy
from backtest.space import Parameter
from backtest.windows import hint_of_years

Floats = NDArray[np.float64]
#: Called with rows of a batch and their sums, (1 or 2, n_rows); the memory of the sums is used again afterwards.
UseSums = Callable[[slice, NDArray[Any]], None]

#: Memory of the caches of lines, of lines laid out for comparisons, and of masks, each: 64 MiB in all.
MEMO_BYTES = (64 << 20) // 3
#: Memory of the tables of one block of candidates, at most.
BLOCK_BYTES = 32 << 20
#: Candidates of a block, at most.  Measured: smaller ones cost more for tables and for waking threads, larger ones gain nothing.
MAX_BLOCK = 16_384
#: A tile are candidates whose masks are made and replayed while they are in the second-level cache: memory of its masks, and
#: its least number of candidates.
TILE_BYTES, MIN_TILE = 640 << 10, 512
#: Candidates whose sums are turned into metrics together.
CHUNK = 4096
#: Tasks per thread and block.  Measured: with more, metrics of few candidates at a time keep the interpreter busy.
TASKS_PER_THREAD = 2
#: Relative distance to a level at which a price has touched it: more than the rounding errors between a decimal price and a level
#: computed from prices, and far less than any tick.
TOUCH_TOLERANCE = 2.0**-50
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


class StrategyEvaluator:
    """Evaluates candidates of a strategy: :class:`backtest.evaluator.Evaluator` over its parameters.

    Parameters
    ----------
    bars : Bars
    strategy : Strategy
    parameters : mapping of str to Parameter
        Parameters of the batch's columns, in order.
    costs : Costs
    execution : Execution
    metrics : sequence of str
        Columns of the scores.
    n_threads : int, optional
        All processors this process may use by default.
    memo_share : int
        Number of evaluators that share the memory for lines and masks.
    """

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
        instance("bars", bars, Bars)
        instance("strategy", strategy, Strategy)
        instance("costs", costs, Costs)
        instance("execution", execution, Execution)
        execution.check_costs(costs)
        if not isinstance(execution.size, (float, Value)):
            raise InputError(f"size must be a number, a parameter or a line, got {shown(execution.size)}")
        self.bars, self.strategy, self.parameters, self.costs, self.execution = bars, strategy, dict(parameters), costs, execution
        self.metrics, self.n_threads = check_metrics(metrics, "sweep"), optional_whole("n_threads", n_threads, low=1)
        self.scores_both = execution.intrabar == "both"
        #: Metrics; where both orders inside a bar are scored, those with the target first follow.
        self.columns = self.metrics + [optimistic(metric) for metric in self.metrics if self.scores_both]
        self.conditions = _traded(strategy, execution.sides)
        if all(condition is None for condition in self.conditions[::2]):
            raise InputError(f"sides must leave the strategy an entry, got {execution.sides!r} for {strategy.name!r}")
        self.sampled = [*(getattr(strategy, name) for name in LEVELS), execution.size]
        self.params = merged_params([*self.conditions, *self.sampled, strategy.max_bars])
        known_names("parameter", self.parameters, merged_params([*_traded(strategy, "both"), *self.sampled, strategy.max_bars]))
        for name, default in self.params.items():
            if name not in self.parameters and default is REQUIRED:
                raise InputError(
                    f"parameter {shown(name)} must have a value, got none (given: {', '.join(self.parameters) or 'none'})"
                )
        self.lines = LineMemo(bars, MEMO_BYTES // memo_share)
        self.masks = MaskMemo(self.lines, MEMO_BYTES // memo_share, self.n_threads)
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
        if costs.borrow_rate > 0 and not self.periods.per_year > 0:
            raise InputError("periods_per_year must be given for a borrow_rate when bars have no dates, got None")
        self.start = execution.start
        # Threads compute metrics one after the other: in parallel, they would contend for the interpreter's lock in each of
        # these short NumPy calls.
        self._metrics_lock = threading.Lock()
        line_levels = sum(isinstance(node, Value) and not isinstance(node, Param) for node in self.sampled)
        n_conditions = len({condition.key for condition in self.conditions if condition is not None})
        self.tile = max(MIN_TILE, TILE_BYTES // (8 * n_conditions * self.masks.n_words))
        self._masks_shape = n_conditions * self.tile + 1, self.masks.n_words
        self.block = int(min(MAX_BLOCK, max(64, BLOCK_BYTES // (len(bars) * (0.5 + 8 * line_levels)))))

    @property
    def periods(self) -> Periods:
        """How many bars make a year, and why."""
        asked = self.execution.periods_per_year
        return given(asked) if asked else self.bars.inferred_periods()

    @property
    def is_annual(self) -> bool:
        """Whether anything says how many bars make a year."""
        return bool(self.execution.periods_per_year) or (self.bars.index is not None and len(self.bars) > 1)

    def warm_up(self, combinations: Combinations) -> int:
        """Longest warm-up of any candidate among ``combinations``."""
        extra = int(self.execution.conventions.extra_warm_up)
        conditions = [self.masks.warm_up(condition, combinations, 1 - extra) for condition in self.conditions]
        return max(*conditions, *(self.lines.warm_up(node, combinations) for node in self.sampled)) + extra

    def fix_start(self, combinations: Combinations) -> int:
        """Set the first decision bar: ``execution.start``, which must be at least the longest warm-up, or the longest warm-up."""
        try:
            longest = self.warm_up(combinations)
        except WarmUpUnknown:
            if self.execution.start is None:
                raise
            return self.fixed_start  # every batch is checked against its own warm-up
        if self.execution.start is None:
            self.start = longest
        elif self.execution.start < longest:
            raise InputError(f"start must be >= the longest warm-up of the candidates ({longest}), got {self.execution.start}")
        return self.fixed_start

    @property
    def fixed_start(self) -> int:
        """First bar whose close may decide."""
        if self.start is None:
            raise InputError("start must be known before a batch is evaluated; call fix_start or give Execution(start=...)")
        return self.start

    def window(self, window: slice | None) -> slice | None:
        """A window of bar numbers or dates, as bar numbers."""
        return self.bars.window(window)

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar whose close may decide, and one past the last bar."""
        n_bars = len(self.bars)
        begin, last, _ = (self.bars.window(window) or slice(None)).indices(n_bars)
        first = max(begin, self.fixed_start)
        if first >= last:
            raise DataError(
                f"window must leave a bar to trade: bars {begin} to {last} of {n_bars}, and a warm-up of "
                f"{self.fixed_start} bars before the first decision, leave none"
                + ("" if self.bars.index is None else hint_of_years(window))
            )
        return first, last

    def metric_inputs(self, window: slice | None = None) -> MetricInputs:
        """What metrics are computed from besides the sums."""
        return MetricInputs(
            start_cash=self.execution.start_cash,
            rf=self.execution.rf,
            periods_per_year=self.periods.per_year,
            years=self.bars.years(*self.bounds(window)),
        )

    def settings(self, window: slice | None = None) -> Settings:
        """What all candidates of a batch share, for the kernel."""
        costs, execution, conventions = self.costs, self.execution, self.execution.conventions
        ppy = self.periods.per_year if execution.rf or costs.borrow_rate > 0 else math.nan
        first, last = self.bounds(window)
        return Settings(
            **costs.of_order(),
            first=first,
            last=last,
            start_cash=execution.start_cash,
            rf_per_bar=execution.rf / ppy if ppy > 0 else 0.0,
            borrow_per_bar=costs.borrow_rate / ppy if costs.borrow_rate > 0 else 0.0,
            fills_at_close=execution.fill == "close",
            is_pessimistic=execution.intrabar != "optimistic",
            close_at_end=execution.close_at_end,
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

    def __call__(self, batch: Floats, window: slice | Sequence[slice | None] | None = None) -> Floats:
        """Metrics of a batch; see :class:`backtest.evaluator.Evaluator`.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, n_params)
            As :meth:`backtest.Space.candidates` gives it.
        window : slice or sequence of slices, optional
            Trade inside these bars only; warm-up is read before them.

        Returns
        -------
        ndarray of float64, shape (n_candidates, n_metrics), or (n_windows, n_candidates, n_metrics)
        """
        batch = matrix("batch", batch, shape=(None, len(self.parameters)))
        windows = each_window(window)
        scores = np.empty((len(windows), len(self.columns), len(batch)))  # filled by column
        for each, out in zip(windows, scores, strict=True):
            self._score(batch, each, out.T)
        scores = scores.transpose(0, 2, 1)
        return scores if isinstance(window, (list, tuple)) else scores[0]

    def _score(self, batch: Floats, window: slice | None, out: Floats) -> None:
        """Metrics of a batch in one window, into ``out`` (n_candidates, n_metrics)."""
        inputs = functools.cache(lambda: self.metric_inputs(window))  # computed once, and not before the first sums
        width = len(self.metrics)

        def score(rows: slice, sums: NDArray[Any]) -> None:
            with self._metrics_lock:
                for order, each in enumerate(sums):
                    sweep_metrics(self.metrics, each, inputs(), out=out[rows, order * width : (order + 1) * width])

        self._replay(batch, self.settings(window), score)

    def sums(self, batch: Floats, window: slice | None = None) -> NDArray[Any]:
        """Sums of each candidate: ndarray of SUMS (1, n_candidates), or (2, n_candidates) for both orders inside a bar."""
        result = np.zeros((1 + self.scores_both, len(batch)), dtype=SUMS)

        def keep(rows: slice, sums: NDArray[Any]) -> None:
            result[:, rows] = sums

        self._replay(batch, self.settings(window), keep)
        return result

    def _replay(self, batch: Floats, settings: Settings, use: UseSums) -> None:
        """Replay a batch, block by block, and call ``use`` with the sums of some candidates at a time."""
        for offset in range(0, len(batch), self.block):
            block = batch[offset : offset + self.block]
            with self.lazy_table(block, settings) as table:
                run_rows(
                    functools.partial(self._replay_rows, table, settings, offset, use),
                    len(block),
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

    def combinations(self, batch: Floats) -> Combinations:
        """Combinations of parameter values in a batch."""
        return self.builder.block(batch).combinations


def _traded(strategy: Strategy, sides: str) -> list[Condition | None]:
    """The strategy's conditions in the order of ``CONDITIONS``; None for those of a side that is not traded."""
    off = {"long": "short", "short": "long"}.get(sides, "neither")
    return [None if name.endswith(off) else getattr(strategy, name) for name in CONDITIONS]

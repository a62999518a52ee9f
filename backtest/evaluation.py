"""Evaluation: what evaluators of strategies on bars have in common, whichever engine replays the candidates."""

from __future__ import annotations

import abc
import functools
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError, InputError, each_window, instance, known_names, matrix, optional_whole
from backtest._said import shown
from backtest.bars import Bars
from backtest.costs import Costs, Execution
from backtest.expr import REQUIRED
from backtest.line_values import Block, Combinations, LineMemo, WarmUpUnknown
from backtest.masks import MaskMemo
from backtest.metrics import SUMS, SWEEP, MetricInputs, check_metrics, optimistic, sweep_metrics
from backtest.periods import Periods, given
from backtest.records import Unexecuted
from backtest.space import Parameter
from backtest.windows import hint_of_years

Floats = NDArray[np.float64]
#: Called with rows of a batch and their sums, (1 or 2, n_rows); the memory of the sums is used again afterwards.
UseSums = Callable[[slice, NDArray[Any]], None]

#: Memory of the caches of lines, of lines laid out for comparisons, and of masks, each: 64 MiB in all.
MEMO_BYTES = (64 << 20) // 3
#: Candidates of a block, at most.  Measured: smaller ones cost more for tables and for waking threads, larger ones gain nothing.
MAX_BLOCK = 16_384
#: Relative distance to a level at which a price has touched it: more than the rounding errors between a decimal price and a level
#: computed from prices, and far less than any tick.
TOUCH_TOLERANCE = 2.0**-50


class Replay(NamedTuple):
    """One candidate, replayed: what a :class:`backtest.Run` is made of."""

    sums: NDArray[Any]  # (1,) of metrics.SUMS
    fills: NDArray[Any]  # of records.FILL
    equity: Floats  # at each close
    units: Floats  # held after each close
    unexecuted: Unexecuted
    unfilled_exit: str  # why the open position would be closed at the next open; empty if it would not
    unfilled_side: int  # of the entry that would be filled at the next open; 0 if there is none
    orders: NDArray[Any] | None = None  # of the bar machine: of program.ORDER, one an order placed
    levels: Floats | None = None  # of the bar machine: stop, target and trail at the end; NaN where there is none
    carry: Floats | None = None  # of the bar machine: paid at each close for holding the position (negative: received)
    program: Any = None  # of the bar machine: the Program that ran


class BarsEvaluator(abc.ABC):
    """Evaluates candidates of a strategy on bars: :class:`backtest.evaluator.Evaluator` over its parameters.

    A subclass says what the strategy's parameters are (:meth:`_take_params`), what warms up, and how a block of candidates
    is replayed.

    Parameters
    ----------
    bars : Bars
    strategy : Strategy or BarStrategy
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

    #: The engine that replays candidates.
    engine: str
    #: Parameters of the strategy by name, each with its default or ``REQUIRED``.
    params: dict[str, Any]
    #: Most candidates of a block.
    block = MAX_BLOCK
    #: Candidates that take no longer than one.
    lanes = 1

    def __init__(
        self,
        bars: Bars,
        strategy: Any,
        parameters: Mapping[str, Parameter],
        *,
        costs: Costs,
        execution: Execution,
        metrics: Sequence[str] = SWEEP,
        n_threads: int | None = None,
        memo_share: int = 1,
    ) -> None:
        instance("bars", bars, Bars)
        instance("costs", costs, Costs)
        instance("execution", execution, Execution)
        execution.check_costs(costs)
        self.bars, self.strategy, self.parameters, self.costs, self.execution = bars, strategy, dict(parameters), costs, execution
        self.metrics, self.n_threads = check_metrics(metrics, "sweep"), optional_whole("n_threads", n_threads, low=1)
        self.scores_both = execution.intrabar == "both"
        #: Metrics; where both orders inside a bar are scored, those with the target first follow.
        self.columns = self.metrics + [optimistic(metric) for metric in self.metrics if self.scores_both]
        self.lines = LineMemo(bars, MEMO_BYTES // memo_share)
        self.masks = MaskMemo(self.lines, MEMO_BYTES // memo_share, self.n_threads)
        if costs.borrow_rate > 0 and not self.periods.per_year > 0:
            raise InputError("periods_per_year must be given for a borrow_rate when bars have no dates, got None")
        self.start = execution.start
        # Threads compute metrics one after the other: in parallel, they would contend for the interpreter's lock in each of
        # these short NumPy calls.
        self._metrics_lock = threading.Lock()

    def _take_params(self, params: dict[str, Any], known: Mapping[str, Any] | None = None) -> None:
        """Take the strategy's parameters; refuse columns of others (``known`` are more that may be given), and missing values."""
        self.params = params
        known_names("parameter", self.parameters, params if known is None else known)
        for name, default in params.items():
            if name not in self.parameters and default is REQUIRED:
                raise InputError(
                    f"parameter {shown(name)} must have a value, got none (given: {', '.join(self.parameters) or 'none'})"
                )

    # --- what each engine provides ----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def warm_up(self, combinations: Combinations) -> int:
        """Longest warm-up of any candidate among ``combinations``."""

    @abc.abstractmethod
    def settings(self, window: slice | None = None) -> Any:
        """What all candidates of a batch share, for the kernel."""

    @abc.abstractmethod
    def replayed(self, batch: Floats, settings: Any) -> Replay:
        """The only candidate of a batch, replayed with its ledger."""

    @abc.abstractmethod
    def _replay_block(self, batch: Floats, settings: Any, offset: int, use: UseSums) -> None:
        """Replay a block of candidates, row ``offset`` of the batch and on; ``use`` gets the sums of some at a time."""

    # --- bars and time ----------------------------------------------------------------------------------------------------

    @property
    def periods(self) -> Periods:
        """How many bars make a year, and why."""
        asked = self.execution.periods_per_year
        return given(asked) if asked else self.bars.inferred_periods()

    @property
    def is_annual(self) -> bool:
        """Whether anything says how many bars make a year."""
        return bool(self.execution.periods_per_year) or (self.bars.index is not None and len(self.bars) > 1)

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

    def shared_settings(self, window: slice | None) -> dict[str, Any]:
        """The settings of all engines, by name."""
        costs, execution = self.costs, self.execution
        ppy = self.periods.per_year if execution.rf or costs.borrow_rate > 0 else math.nan
        first, last = self.bounds(window)
        return {
            **costs.of_order(),
            "first": first,
            "last": last,
            "start_cash": execution.start_cash,
            "rf_per_bar": execution.rf / ppy if ppy > 0 else 0.0,
            "borrow_per_bar": costs.borrow_rate / ppy if costs.borrow_rate > 0 else 0.0,
            "fills_at_close": execution.fill == "close",
            "close_at_end": execution.close_at_end,
        }

    # --- batches ----------------------------------------------------------------------------------------------------------

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

    def _replay(self, batch: Floats, settings: Any, use: UseSums) -> None:
        """Replay a batch, block by block, and call ``use`` with the sums of some candidates at a time."""
        for offset in range(0, len(batch), self.block):
            self._replay_block(batch[offset : offset + self.block], settings, offset, use)

    def combinations(self, batch: Floats) -> Combinations:
        """Combinations of parameter values in a batch."""
        return self._block(batch).combinations

    def _block(self, batch: Floats) -> Block:
        """A batch, factorised on demand."""
        return Block(batch, self.parameters, self.params)

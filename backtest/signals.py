"""Signals: from a batch of rule candidates to what the kernel wants, and back to metrics."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import DataError, InputError, known_names, number, whole
from backtest.bars import Bars
from backtest.compute.threads import run_rows, thread_count
from backtest.costs import Costs, Execution
from backtest.expr import REQUIRED, Node, Param, Value, merged_params
from backtest.lines import Combinations, LineMemo, WarmUpUnknown
from backtest.metrics import SUMS, SWEEP, Context, check_metrics, optimistic, sweep_metrics
from backtest.rules import CONDITIONS, LEVELS, MaskMemo, Strategy
from backtest.space import Parameter

Floats = NDArray[np.float64]

#: Bound of what is remembered of lines and of masks, each.
MEMO_BYTES = 32 << 20
#: Bound of the tables one block of candidates brings along.
BLOCK_BYTES = 32 << 20
MAX_BLOCK = 8192
#: Bars of a block of ``Spans``; the kernels know it as BLOCK.
SPAN_BLOCK = 16
#: Measured: microseconds per bar of a candidate that trades now and then.
BAR_US = 0.01

_SAMPLED = (*LEVELS, "size")


class Settings(NamedTuple):
    """What all candidates of a batch share, as the kernel wants it."""

    fee_rate: float
    slippage: float
    fixed: float
    per_unit: float
    minimum: float
    maximum: float
    first: int  # first bar whose close may decide
    last: int  # one past the last bar
    cash: float
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
    ends_at_open: bool


class Spans(NamedTuple):
    """What holding from one bar to another comes to, looked up instead of added up; see ``_pure/_spans.py``."""

    moments: Floats  # (n_bars, 16)
    to_here: Floats  # (n_bars, 4)
    from_here: Floats  # (n_bars, 4)
    blocks: Floats  # (n_levels, n_blocks, 4)
    lows: Floats  # (n_blocks,)
    highs: Floats  # (n_blocks,)

    @classmethod
    def of(cls, bars: Bars, rf_per_bar: float) -> Spans:
        """The tables of these bars, filled."""
        n_bars, n_blocks = len(bars), -(-len(bars) // SPAN_BLOCK)
        n_levels = max(int(n_blocks - 1).bit_length(), 1)
        spans = cls(np.zeros((n_bars, 16)), np.zeros((n_bars, 4)), np.zeros((n_bars, 4)), np.zeros((n_levels, n_blocks, 4)),
                    np.zeros(n_blocks), np.zeros(n_blocks))
        _backend.kernel("signals").measure(bars, rf_per_bar, spans)
        return spans


class Program(NamedTuple):
    """What each candidate does: its rows in tables of distinct masks and lines."""

    masks: NDArray[np.uint64]  # (n_masks, n_words): bit t % 64 of word t // 64 is the close of bar t; the last row is never
    mask_rows: NDArray[np.int64]  # (n_candidates, 4), in the order of rules.CONDITIONS; -1 is never
    lines: Floats  # (n_lines, n_bars)
    line_rows: NDArray[np.int64]  # (n_candidates, 4): stop, target, trail, size; -1 is the value
    values: Floats  # (n_candidates, 4), same columns; NaN is off
    max_bars: NDArray[np.int64]  # (n_candidates,); 0 is off

    def of_rows(self, rows: NDArray[np.int64]) -> Program:
        """The program of some of its candidates."""
        return self._replace(mask_rows=self.mask_rows[rows], line_rows=self.line_rows[rows], values=self.values[rows],
                             max_bars=self.max_bars[rows])


class Evaluator:
    """``evaluate(batch, window=None) -> scores`` over rule candidates: the seam every search takes.

    Parameters
    ----------
    bars : Bars
    strategy : Strategy
    columns : mapping of str to Parameter
        What the batch's columns hold, in order.
    costs : Costs
    execution : Execution
    metrics : sequence of str
        Columns of the scores.
    start : int, optional
        First bar whose close may decide; ``execution.start`` goes before it; 0 needs no warm-up.
    n_threads : int, optional
    memo_share : int
        How many evaluators share the memory for lines and masks.

    Notes
    -----
    Scores do not depend on the thread count or on how a batch is cut: every candidate is replayed on its own.
    """

    def __init__(self, bars: Bars, strategy: Strategy, columns: Mapping[str, Parameter], *, costs: Costs, execution: Execution,
                 metrics: Sequence[str] = SWEEP, n_threads: int | None = None, memo_share: int = 1) -> None:
        _instance("bars", bars, Bars)
        _instance("strategy", strategy, Strategy)
        _instance("costs", costs, Costs)
        _instance("execution", execution, Execution)
        execution.check_costs(costs)
        if not isinstance(execution.size, (float, Value)):
            raise InputError(f"size must be a number, a parameter or a line, got {execution.size!r}")
        self.bars, self.strategy, self.columns, self.costs, self.execution = bars, strategy, dict(columns), costs, execution
        self.swept, self.n_threads = check_metrics(metrics, "sweep"), thread_count(n_threads)
        self.scores_both = execution.intrabar == "both"
        #: Columns of the scores; where both orders inside a bar are scored, the target's first once more at the end.
        self.metrics = self.swept + [optimistic(metric) for metric in self.swept if self.scores_both]
        self.conditions = strategy.conditions(execution.sides)
        if all(condition is None for condition in self.conditions[::2]):
            raise InputError(f"sides must leave the strategy an entry, got {execution.sides!r} for {strategy.name!r}")
        self.sampled = [*(getattr(strategy, name) for name in LEVELS), execution.size]
        self.params = merged_params([*self.conditions, *self.sampled, strategy.max_bars])
        known_names("parameter", self.columns, merged_params([*_conditions(strategy), *self.sampled, strategy.max_bars]))
        for name, default in self.params.items():
            if name not in self.columns and default is REQUIRED:
                raise InputError(f"parameter {name!r} must have a value, got none (given: {', '.join(self.columns) or 'none'})")
        self.lines = LineMemo(bars, MEMO_BYTES // memo_share)
        self.masks = MaskMemo(bars, self.lines, MEMO_BYTES // memo_share)
        self.periods_per_year = execution.periods_per_year or bars.inferred_periods_per_year()
        if costs.borrow_rate > 0 and not self.periods_per_year > 0:
            raise InputError("periods_per_year must be given for a borrow_rate when bars have no dates, got None")
        self._spans: Spans | None = None
        self.start = execution.start
        line_levels = sum(isinstance(node, Value) and not isinstance(node, Param) for node in self.sampled)
        self.block = int(min(MAX_BLOCK, max(64, BLOCK_BYTES // (len(bars) * (4 + 8 * line_levels)))))

    def warm_up(self, combinations: Combinations) -> int:
        """Longest warm-up of the candidates that ``combinations`` stands for."""
        extra = int(self.execution.conventions.extra_warm_up)
        conditions = [self.masks.warm_up(condition, combinations, 1 - extra) for condition in self.conditions]
        return max(*conditions, *(self.lines.warm_up(node, combinations) for node in self.sampled)) + extra

    def fix_start(self, combinations: Combinations) -> int:
        """Set the start: the one that was asked for, if it leaves the warm-up alone, else the longest warm-up."""
        try:
            longest = self.warm_up(combinations)
        except WarmUpUnknown:
            if self.execution.start is None:
                raise
            return self.fixed_start  # every batch is checked against it anyway
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

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar whose close may decide, and one past the last bar."""
        n_bars = len(self.bars)
        if window is not None and (not isinstance(window, slice) or window.step not in (None, 1)):
            raise InputError(f"window must be a slice of bars without a step, got {window!r}")
        begin, last, _ = (window or slice(None)).indices(n_bars)
        first = max(begin, self.fixed_start)
        if first >= last:
            raise DataError(f"window must leave a bar to trade: bars {begin} to {last} of {n_bars}, and a warm-up of "
                            f"{self.fixed_start} bars before the first decision, leave none")
        return first, last

    def context(self, window: slice | None = None) -> Context:
        """What turns sums into metrics."""
        return Context(self.execution.cash, self.execution.rf, self.periods_per_year, self.bars.years(*self.bounds(window)))

    def settings(self, window: slice | None = None) -> Settings:
        """What all candidates share."""
        costs, execution, ppy = self.costs, self.execution, self.periods_per_year
        conventions = execution.conventions
        first, last = self.bounds(window)
        return Settings(
            costs.fee_rate,
            costs.slippage,
            costs.fixed,
            costs.per_unit,
            costs.minimum,
            costs.maximum,
            first,
            last,
            execution.cash,
            execution.rf / ppy if ppy > 0 else 0.0,
            costs.borrow_rate / ppy if costs.borrow_rate > 0 else 0.0,
            execution.fill == "close",
            execution.intrabar != "optimistic",
            execution.close_at_end,
            execution.whole_units,
            execution.size_type == "equity",
            costs.slippage if conventions.exits_slip else 0.0,
            costs.slippage if conventions.stops_slip else 0.0,
            conventions.sized_on_quote,
            conventions.levels_from_decision,
            conventions.trail_from_extremes,
            conventions.stop_beats_gap,
            conventions.ends_at_open,
        )

    def __call__(self, batch: Floats, window: slice | None = None) -> Floats:
        """Metrics of a batch.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, n_params)
            As :meth:`backtest.Space.candidates` gives it.
        window : slice, optional
            Trade inside these bars only; warm-up is read before them.

        Returns
        -------
        ndarray of float64, shape (n_candidates, n_metrics)
        """
        sums, context = self.sums(batch, window), self.context(window)
        return np.hstack([sweep_metrics(self.swept, each, context) for each in sums])

    def sums(self, batch: Floats, window: slice | None = None) -> NDArray[Any]:
        """What each candidate leaves behind: ndarray of SUMS, shape (1, n_candidates), or of both orders inside a bar (2, ...).

        Only candidates with an ambiguous trade are replayed in the other order: for the rest it makes no difference.
        """
        settings = self.settings(window)
        result = np.zeros((1 + self.scores_both, len(batch)), dtype=SUMS)
        for begin in range(0, len(batch), self.block):
            rows = slice(begin, min(begin + self.block, len(batch)))
            program = self.program(batch[rows], settings)
            self._replay(program, settings, result[0, rows])
            if self.scores_both:
                result[1, rows] = result[0, rows]
                doubtful = begin + np.flatnonzero(result["n_ambiguous"][0, rows])
                other = np.zeros(len(doubtful), dtype=SUMS)
                self._replay(program.of_rows(doubtful - begin), settings._replace(is_pessimistic=False), other)
                result[1, doubtful] = other
        return result

    def _replay(self, program: Program, settings: Settings, sums: NDArray[Any]) -> None:
        """Fill the sums of a block of candidates."""
        evaluate, spans = _backend.kernel("signals").evaluate, self.spans(settings)
        run_rows(functools.partial(_rows, evaluate, self.bars, spans, program, settings, sums), len(sums), self.n_threads,
                 BAR_US * (settings.last - settings.first))

    def spans(self, settings: Settings) -> Spans:
        """Tables of the bars; made at the first call."""
        if self._spans is None:
            self._spans = Spans.of(self.bars, settings.rf_per_bar)
        return self._spans

    def program(self, batch: Floats, settings: Settings) -> Program:
        """Distinct masks and lines of a block of candidates, and each candidate's rows in them."""
        n, n_bars = len(batch), len(self.bars)
        masks: list[NDArray[np.bool_]] = []
        mask_rows = np.full((n, len(CONDITIONS)), -1, dtype=np.int64)
        seen: dict[Any, int] = {}
        for which, condition in enumerate(self.conditions):
            if condition is None:
                continue
            if condition.key in seen:  # one side's entry is often the other's exit
                mask_rows[:, which] = mask_rows[:, seen[condition.key]]
                continue
            seen[condition.key] = which
            combinations, inverse = self._distinct(condition, batch)
            for params in combinations:
                mask, warm = self.masks.mask(condition, params)
                if warm > settings.first:
                    raise InputError(f"start must be >= the longest warm-up of the candidates, got {settings.first}; "
                                     f"{condition!r} needs {warm} bars")
                masks.append(mask)
            mask_rows[:, which] = len(masks) - len(combinations) + inverse
        lines: list[Floats] = []
        line_rows, values = np.full((n, len(_SAMPLED)), -1, dtype=np.int64), np.full((n, len(_SAMPLED)), np.nan)
        for which, (name, node) in enumerate(zip(_SAMPLED, self.sampled, strict=True)):
            combinations, inverse = self._distinct(node, batch)
            at, of = np.empty(len(combinations), dtype=np.int64), np.empty(len(combinations))
            for index, params in enumerate(combinations):
                at[index], of[index] = self._sampled(name, node, params, settings, lines)
            line_rows[:, which], values[:, which] = at[inverse], of[inverse]
        combinations, inverse = self._distinct(self.strategy.max_bars, batch)
        limits = np.array([self._max_bars(params) for params in combinations], dtype=np.int64)
        limits = limits[inverse]
        is_on = {name: (line_rows[:, which] >= 0) | ~np.isnan(values[:, which]) for which, name in enumerate(LEVELS)}
        self.execution.check_rules(is_on | {"max_bars": limits > 0})
        packed = np.zeros((len(masks) + 1, -(-n_bars // 64) * 8), dtype=np.uint8)
        for row, mask in enumerate(masks):
            packed[row, : -(-n_bars // 8)] = np.packbits(mask, bitorder="little")
        return Program(packed.view(np.uint64), mask_rows, np.array(lines).reshape(len(lines), n_bars), line_rows, values, limits)

    def _distinct(self, node: Any, batch: Floats) -> tuple[list[dict[str, Any]], NDArray[np.int64]]:
        """Distinct values of a node's parameters in a batch, as dicts, and each row's index in them."""
        names = list(node.params) if isinstance(node, Node) else []
        fixed = {name: self.params[name] for name in names if name not in self.columns}
        varied = [name for name in names if name in self.columns]
        if not varied:
            return [fixed], np.zeros(len(batch), dtype=np.int64)
        positions = [list(self.columns).index(name) for name in varied]
        rows, inverse = _unique_rows(batch[:, positions])
        decode = [self.columns[name].decode for name in varied]
        return [
            fixed | {name: read(value) for name, read, value in zip(varied, decode, row, strict=True)} for row in rows.tolist()
        ], inverse

    def given(self, batch: Floats) -> Combinations:
        """The combinations that a batch holds."""
        return lambda node: self._distinct(node, batch)[0]

    def _sampled(
        self, name: str, node: Any, params: dict[str, Any], settings: Settings, lines: list[Floats]
    ) -> tuple[int, float]:
        """Row in ``lines`` or -1, and the value (NaN: off), of a level or size."""
        value = None if node is None else self.lines.value(node, params)
        high = self.execution.largest_size if name == "size" else None
        if value is None:
            if name == "size":
                raise InputError("size must be a number, got None")
            return -1, np.nan
        if not isinstance(value, np.ndarray):
            return -1, number(f"{name}{_at(params)}", value, low=0.0, open_low=True, high=high)
        span = value[settings.first : settings.last]
        bad = ~(np.isfinite(span) & (span > 0)) if high is None else ~((span > 0) & (span <= high))
        if bad.any():
            row = settings.first + int(bad.argmax())
            rule = "finite and > 0" if high is None else f"> 0 and <= {high:g}"
            raise InputError(f"{name} = {node!r}{_at(params)} must be {rule} from the start on, got {value[row]} (row {row})")
        lines.append(value)
        return len(lines) - 1, np.nan

    def _max_bars(self, params: dict[str, Any]) -> int:
        value = None if self.strategy.max_bars is None else self.lines.value(self.strategy.max_bars, params)
        if value is None:
            return 0
        if isinstance(value, float) and value == int(value):
            value = int(value)
        return whole(f"max_bars{_at(params)}", value, low=1)


def _rows(evaluate: Any, bars: Bars, spans: Spans, program: Program, settings: Settings, sums: NDArray[Any], start: int,
          stop: int) -> None:
    evaluate(bars, spans, program, settings, start, stop, sums)


def _unique_rows(rows: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Distinct rows in order of first appearance, and each row's index among them."""
    if rows.shape[1] == 1:
        _, first, inverse = np.unique(rows[:, 0], return_index=True, return_inverse=True)
    else:
        _, first, inverse = np.unique(
            np.ascontiguousarray(rows).view(f"V{rows.shape[1] * 8}").ravel(), return_index=True, return_inverse=True
        )
    order = np.argsort(first)
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    return rows[first[order]], rank[inverse]


def _conditions(strategy: Strategy) -> Iterable[Any]:
    return (getattr(strategy, name) for name in CONDITIONS)


def _at(params: Mapping[str, Any]) -> str:
    text = ", ".join(f"{name} = {value!r}" for name, value in itertools.islice(params.items(), 4))
    return f" ({text})" if text else ""


def _instance(name: str, value: Any, kind: type) -> None:
    if not isinstance(value, kind):
        raise InputError(f"{name} must be a {kind.__name__}, got {value!r}")

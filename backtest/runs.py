"""Runs: replay one candidate (``bt.run``), or tabulate the metrics of given ones (``bt.evaluate``)."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, NumericsWarning, as_array, caller_level, items
from backtest._said import shown
from backtest.bars import Bars
from backtest.cells import Aggregate, Cells, Window, checked_symbols, evaluator_of, naming
from backtest.costs import Costs, Execution
from backtest.evaluation import BarsEvaluator
from backtest.machine.decorate import BarStrategy
from backtest.machine.unaffordable import why_unaffordable
from backtest.metrics import SWEEP, optimistic, sweep_metrics, walk_metrics, warn_if_undated
from backtest.periods import Periods
from backtest.records import Unexecuted
from backtest.rules import Strategy
from backtest.simulation import Simulation, json_safe
from backtest.space import Choice, Grid, Parameter
from backtest.trades import Trades, track

if TYPE_CHECKING:
    import pandas as pd

    from backtest.stats_series import Stats

Floats = NDArray[np.float64]


class Run(Simulation):
    """One candidate, replayed: equity, orders, trades and statistics; see :class:`backtest.Simulation`.

    Attributes
    ----------
    params : dict
    bars : Bars
    strategy : Strategy or function with bt.on_bar
    start : int
        First bar whose close could decide if there were no window; ``first`` is the one inside it.
    n_unaffordable : int
        Entries that could not be paid for, or were rounded to 0 units; ``orders`` lists them.
    """

    #: ``to_backtesting`` and ``to_vectorbt`` are defined: there is one asset, and its bars are known.
    has_tool_stats = True

    def __init__(self, evaluator: BarsEvaluator, row: Floats, window: slice | None) -> None:
        window = evaluator.window(window)
        self.params = {
            name: column.decode(value) for (name, column), value in zip(evaluator.parameters.items(), row, strict=True)
        }
        self.start, self.strategy, self.bars = evaluator.fixed_start, evaluator.strategy, evaluator.bars
        self.costs, self.execution, self.metric_inputs = evaluator.costs, evaluator.execution, evaluator.metric_inputs(window)
        self._periods, self.start_cash = evaluator.periods, self.metric_inputs.start_cash
        settings = evaluator.settings(window)
        self.first, self.last, self._borrow_per_bar = settings.first, settings.last, settings.borrow_per_bar
        self.window_first = (window or slice(None)).indices(len(self.bars))[0]
        batch = row[None, :]
        self.sums_optimistic = evaluator.sums(batch, window)[1] if evaluator.scores_both else None
        self._replay, self.engine = evaluator.replayed(batch, settings), evaluator.engine
        self.sums, self._fills, self._equity, self._units, *_ = self._replay
        self._program = self._replay.program
        self.n_unaffordable = self._replay.unexecuted.status.count("unaffordable")
        self._warn_if_unaffordable()

    def _warn_if_unaffordable(self) -> None:
        if self.n_unaffordable:
            unexecuted = self._replay.unexecuted
            bar = unexecuted.decision_bar[unexecuted.status.index("unaffordable")]
            orders, why = self._replay.orders, ""
            if isinstance(self.strategy, Strategy) or orders is None:  # rules say what to enter, functions what to order
                entries, n_entries = "entries", self.n_unaffordable + int(np.count_nonzero(self.fills["position_before"] == 0))
            else:
                entries, n_entries, why = "orders", len(orders), why_unaffordable(self)
            warnings.warn(
                f"{self.n_unaffordable:,} of {n_entries:,} {entries} could not be paid for, or were rounded to 0 units; the "
                f"first was decided at the close of bar {bar} (run.orders lists them as unaffordable){why}",
                NumericsWarning,
                stacklevel=caller_level(),
            )

    @property
    def units(self) -> pd.Series[float]:
        """Units held after each close, negative for a short."""
        return self._series(self._units.copy(), "units")

    @property
    def fills(self) -> NDArray[Any]:
        """Every executed order, in order of execution: ndarray of ``backtest.records.FILL``.

        ``reason`` and ``moment`` are places in ``backtest.records.REASONS`` and ``MOMENTS`` (reason 0 opens or adds to a
        position), ``asset`` in ``book.market.assets`` (0 in a run); ``orders`` is the same as a table, decoded.
        """
        return self._fills

    @property
    def pending(self) -> pd.DataFrame:
        """What was decided or rests after the last bar, and the levels of an open position: orders to place tomorrow, one a row.

        Columns are explained in ``docs/results.md``.
        """
        from backtest.pending import pending_table

        return pending_table(self)

    @functools.cached_property
    def tracked(self) -> Trades:
        """Completed trades and open positions, as records."""
        return track(
            self.fills,
            times=self.bars.times(),
            borrow_per_bar=self._borrow_per_bar,
            carry=self._carry(),
            multiplier=self.execution.multiplier,
            first=self.first,
            last=self.last,
            **{name: getattr(self.bars, name)[None, :] for name in ("open", "high", "low", "close")},
        )

    @functools.cached_property
    def stats(self) -> Stats:
        """Every metric of ``bt.METRICS``, by key; equal to what a batch gives at the same start.

        A ``pandas.Series``; ``.to_backtesting()`` and ``.to_vectorbt()`` give those tools' keys with their definitions.
        """
        from backtest.stats_series import Stats

        values = dict(zip(SWEEP, sweep_metrics(SWEEP, self.sums, self.metric_inputs)[0], strict=True))
        if self.sums_optimistic is not None:
            other = sweep_metrics(SWEEP, self.sums_optimistic, self.metric_inputs)[0]
            values |= dict(zip(map(optimistic, SWEEP), other, strict=True))
        close = self.bars.close
        benchmark = np.concatenate([close[max(self.first - 1, 0)][None], close[self.first : self.last]])
        return Stats(values | walk_metrics(self._equity, benchmark, self.metric_inputs), self)

    @property
    def periods(self) -> Periods:
        """How many bars make a year, ``per_year``, and ``why``."""
        return self._periods

    @property
    def stale_value(self) -> float:
        """0: every bar has a price."""
        return 0.0

    def to_dict(self) -> dict[str, Any]:
        """Symbol, parameters and numbers as plain data for JSON: what is undefined or infinite is None, times are text."""
        return {"symbol": self.bars.symbol or None, "params": json_safe(self.params)} | super().to_dict()

    def _all_times(self) -> pd.Index[Any]:
        times: pd.Index[Any] = self.bars.times()
        return times

    def _equity_values(self) -> Floats:
        return self._equity

    def _gross_value(self) -> Floats:
        return np.abs(self._units) * self.bars.close[self.first : self.last] * self.execution.multiplier

    def _assets(self) -> None:
        return None

    def _carry(self) -> Floats | None:
        """What holding the position cost at each close of all bars; None where it is ``borrow_per_bar`` alone."""
        paid = self._replay.carry
        if paid is None:
            return None
        return np.concatenate([np.zeros(self.first), paid, np.zeros(len(self.bars) - self.last)])

    def _unexecuted(self) -> Unexecuted:
        return self._replay.unexecuted

    def _subject(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.params.items())
        strategy = f"{self.strategy.name} on {self.bars.symbol}" if self.bars.symbol else self.strategy.name
        return f"{strategy}: {values}" if values else strategy


@overload
def run(
    bars: Bars,
    strategy: Strategy | BarStrategy,
    params: Mapping[str, Any] | None = None,
    *,
    costs: Costs,
    execution: Execution | None = None,
    window: slice | None = None,
) -> Run: ...


@overload
def run(
    bars: Mapping[str, Bars],
    strategy: Strategy | BarStrategy,
    params: Mapping[str, Any] | None = None,
    *,
    costs: Costs,
    execution: Execution | None = None,
    window: slice | None = None,
) -> dict[str, Run]: ...


def run(
    bars: Bars | Mapping[str, Bars],
    strategy: Strategy | BarStrategy,
    params: Mapping[str, Any] | None = None,
    *,
    costs: Costs,
    execution: Execution | None = None,
    window: slice | None = None,
) -> Run | dict[str, Run]:
    """Replay one candidate.

    Parameters
    ----------
    bars : Bars or mapping of str to Bars
        Several symbols by name: the candidate is replayed on each, with ``start_cash`` and a warm-up of its own.
    strategy : Strategy or function with bt.on_bar
    params : mapping of str to value
        A value for every parameter without a default.
    costs : Costs
        ``bt.Costs.zero()`` says none.
    execution : Execution, optional
    window : slice, optional
        Trade inside these bars only, by their numbers or by dates (``slice("2010", "2012-06")``, both ends included); warm-up is
        read before them.  See :meth:`backtest.Bars.window`.

    Returns
    -------
    Run or dict of str to Run
        ``.stats``, ``.trades``, ``.orders``, ``.equity``, ``.trade_statistics()``; of a mapping by symbol, in its order.

    Raises
    ------
    InputError
        An argument breaks a rule; of a mapping the message begins with the symbol.
    """
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params must be a mapping of names to values, got {shown(params)}")
    columns: dict[str, Parameter] = {name: Choice(name, [value]) for name, value in ({} if params is None else params).items()}
    execution = Execution() if execution is None else execution
    if isinstance(strategy, BarStrategy):
        strategy.warn_if_changed()
    if isinstance(bars, Mapping):
        runs = {}
        for symbol, its_bars in checked_symbols(bars).items():
            with naming(symbol):
                runs[symbol] = _run(its_bars, strategy, columns, costs, execution, window)
        return runs
    return _run(bars, strategy, columns, costs, execution, window)


def _run(
    bars: Bars,
    strategy: Strategy | BarStrategy,
    columns: Mapping[str, Parameter],
    costs: Costs,
    execution: Execution,
    window: slice | None,
) -> Run:
    evaluator = evaluator_of(bars, strategy, columns, costs=costs, execution=execution, n_threads=1)
    row = np.zeros(len(columns))
    evaluator.fix_start(evaluator.combinations(row[None, :]))
    result = Run(evaluator, row, window)
    warn_if_undated(evaluator.is_annual)
    return result


def evaluate(
    bars: Bars | Mapping[str, Bars],
    strategy: Strategy | BarStrategy,
    candidates: Any = None,
    *,
    costs: Costs,
    execution: Execution | None = None,
    metrics: Sequence[str] | None = None,
    window: Window = None,
    aggregate: Aggregate = "median",
    columns: Sequence[str] | None = None,
    n_threads: int | None = None,
) -> pd.DataFrame:
    """Metrics of many candidates.

    Parameters
    ----------
    bars : Bars or mapping of str to Bars
        Several symbols by name: each candidate is evaluated on each.
    strategy : Strategy or function with bt.on_bar
    candidates : DataFrame, dict of sequences, or array of shape (n_candidates, n_params)
        A column per parameter; an array needs ``columns``.  May be left out for two-dimensional ``rules.from_arrays``:
        then each column is a candidate.
    costs : Costs
    execution : Execution, optional
        All candidates start at the longest warm-up among them (on each symbol), unless ``execution.start`` is given.
    metrics : sequence of str, optional
        All ``sweep`` metrics by default.
    window : slice or list of slices, optional
        Trade inside these bars only, by their numbers or by dates; several windows are evaluated one by one, each with
        ``start_cash`` anew.
    aggregate : {"median", "mean", "min"} or callable
        Of several symbols or windows; see :func:`backtest.optimize`.
    columns : sequence of str, optional
        Names of an array's columns.
    n_threads : int, optional
        All processors this process may use by default; never changes a result.

    Returns
    -------
    DataFrame
        One row per candidate, in the order given; parameters as (Multi)Index, metrics as columns.  Of several symbols or
        windows: the aggregated metrics, then ``metric@cell`` of each cell, such as ``sharpe@GOOG``, ``sharpe@0:500`` or
        ``sharpe@GOOG[0:500]``; ``table.filter(like="sharpe@")`` is one metric in all cells.
    """
    table = _candidate_table(candidates, columns, strategy)
    parameters: dict[str, Parameter] = {}
    batch = np.empty((len(next(iter(table.values()), [None])), len(table)))
    for column, (name, values) in enumerate(table.items()):
        if isinstance(values, range) and values:  # every column of ready signals
            batch[:, column], parameters[name] = np.arange(len(values)), Grid(name, 0, len(values) - 1, 1)
            continue
        try:
            batch[:, column], parameters[name] = Choice.of_column(name, values)
        except TypeError:
            raise InputError(
                f"candidates must hold numbers, strings, booleans or None, got others in column {shown(name)}"
            ) from None
    metrics = list(SWEEP) if metrics is None else items("metrics", metrics)
    execution = Execution() if execution is None else execution
    cells = Cells(
        bars,
        window,
        aggregate,
        lambda its_bars, n_symbols: evaluator_of(
            its_bars,
            strategy,
            parameters,
            costs=costs,
            execution=execution,
            metrics=metrics,
            n_threads=n_threads,
            memo_share=n_symbols,
        ),
    )
    cells.by_symbol(lambda evaluator: evaluator.fix_start(evaluator.combinations(batch)))
    cells.check()
    return cells.table(table, cells(batch))


def _candidate_table(candidates: Any, columns: Sequence[str] | None, strategy: Any) -> dict[str, Any]:
    import pandas as pd

    if candidates is None:
        n_columns = getattr(strategy, "n_columns", None)  # the evaluator checks what it is
        return {} if n_columns is None else {"column": range(n_columns)}
    if isinstance(candidates, pd.DataFrame):
        if any(name is not None for name in candidates.index.names):
            candidates = candidates.reset_index()
        if not candidates.columns.is_unique:
            duplicate = candidates.columns[candidates.columns.duplicated()][0]
            raise InputError(f"candidates must have one column for each parameter, got {duplicate!r} twice")
        table = {str(name): candidates[name].tolist() for name in candidates.columns}
        # A missing number in a frame is None: pandas turned it into NaN.
        return {
            name: [None if value is pd.NA or (isinstance(value, float) and value != value) else value for value in values]
            for name, values in table.items()
        }
    if isinstance(candidates, Mapping):
        table = {
            name: values
            if _are_numbers(values)
            else items(f"candidates[{shown(name)}]", values.tolist() if isinstance(values, np.ndarray) else values)
            for name, values in candidates.items()
        }
        lengths = {len(values) for values in table.values()}
        if len(lengths) > 1:
            raise InputError(
                "candidates must have columns of equal length, got "
                + ", ".join(f"{name}: {len(values)}" for name, values in table.items())
            )
        return table
    array, columns = as_array("candidates", candidates), None if columns is None else items("columns", columns)
    if columns is None or array.ndim != 2 or array.shape[1] != len(columns) or not all(isinstance(name, str) for name in columns):
        raise InputError(
            f"candidates must be a DataFrame, a dict of sequences, or a matrix with columns=[...] as wide, got "
            f"{type(candidates).__name__} of shape {array.shape} and columns {shown(columns)}"
        )
    return {name: each if _are_numbers(each) else each.tolist() for name, each in zip(columns, array.T, strict=True)}


def _are_numbers(values: Any) -> bool:
    """An array whose values need not be looked at one by one: the usual column of a large sweep."""
    is_plain = type(values) is np.ndarray and values.ndim == 1 and values.dtype in (np.int64, np.float64)
    return is_plain and not bool(np.isnan(values).any())

"""Cells: candidates evaluated on several symbols and in several windows, and the aggregate of their metrics."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, ObjectiveError, choice
from backtest._said import shown
from backtest.costs import Execution
from backtest.evaluation import MAX_BLOCK, BarsEvaluator
from backtest.evaluator import Evaluator
from backtest.metrics import MetricInputs, warn_if_undated
from backtest.periods import Periods
from backtest.rules import Strategy
from backtest.signals import StrategyEvaluator
from backtest.windows import is_dated, no_slice, pair, text

if TYPE_CHECKING:
    import pandas as pd

    from backtest.bars import Bars
    from backtest.space import Parameter

Floats = NDArray[np.float64]
Window = slice | Sequence[slice] | None
Aggregate = str | Callable[[Floats], Any]
#: Least candidates of a sweep's batch: work for some threads.  It does not depend on their number, since stores know batches.
LEAST_BATCH = 512


class SymbolEvaluator(Evaluator, Protocol):
    """What evaluates candidates on one symbol: strategies on bars, or weights in a market."""

    def window(self, window: slice | None) -> slice | None:
        """A window of bar numbers or dates, as bar numbers."""

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar of a window, and one past its last."""

    def metric_inputs(self, window: slice | None = None) -> MetricInputs:
        """What metrics are computed from besides the sums."""

    @property
    def periods(self) -> Periods:
        """How many bars make a year, and why."""

    @property
    def is_annual(self) -> bool:
        """Whether anything says how many bars make a year."""


E = TypeVar("E", bound=SymbolEvaluator)


class Cell(NamedTuple):
    """One symbol in one window."""

    name: str  # with dates as they were given
    symbol: str
    window: slice | None  # by bar numbers
    durable_name: str  # with bar numbers in place of dates: the same however a window was given


class Cells(Generic[E]):
    """Evaluates candidates on every symbol in every window; see :class:`backtest.evaluator.Evaluator`.

    Parameters
    ----------
    bars : Bars or Market, or mapping of str to them
    window : slice, sequence of slices or None
        Each symbol is evaluated in each.
    aggregate : {"median", "mean", "min"} or callable
        How a metric's values in all cells become one; a callable takes an array (n_candidates, n_cells) and returns
        (n_candidates,).
    evaluator : callable
        ``evaluator(bars, n_symbols)`` makes the evaluator of one symbol; all of them share the memory of caches.

    Attributes
    ----------
    evaluators : dict of str to evaluator
        By symbol.
    windows : dict of str to list of slice or None
        By symbol, as bar numbers: a date is another number on other bars.
    given_windows : list of slice or None
        As they were given.
    cells : list of Cell
        Symbols in order, each with its windows in order.
    columns : list of str
        Of the scores: of one cell its metrics; of several the aggregated metrics, then ``metric@cell`` of each cell.
    durable_columns : list of str
        The same with bar numbers in place of dates, for a store.
    """

    def __init__(self, bars: Any, window: Window, aggregate: Aggregate, evaluator: Callable[[Any, int], E]) -> None:
        if not callable(aggregate):
            choice("aggregate", aggregate, tuple(AGGREGATES))
        self.aggregate, self._has_symbols = aggregate, isinstance(bars, Mapping)
        symbols = checked_symbols(bars) if isinstance(bars, Mapping) else {"": bars}
        self.given_windows: list[slice | None] = _listed(window)
        self.windows: dict[str, list[slice | None]] = {}
        self.evaluators: dict[str, E] = {}
        for symbol, its_bars in symbols.items():
            with self._naming(symbol):
                self.evaluators[symbol] = evaluator(its_bars, len(symbols))
                self.windows[symbol] = _numbered(self.given_windows, self.evaluators[symbol])
        self.cells = [
            Cell(self._name(symbol, given), symbol, each, self._name(symbol, each))
            for symbol, windows in self.windows.items()
            for given, each in zip(self.given_windows, windows, strict=True)
        ]
        self.metrics = next(iter(self.evaluators.values())).columns
        self.columns = self._columns([cell.name for cell in self.cells])
        self.durable_columns = self._columns([cell.durable_name for cell in self.cells])

    def _columns(self, names: Sequence[str]) -> list[str]:
        of_cells = [f"{metric}@{name}" for name in names for metric in self.metrics] if len(names) > 1 else []
        return [*self.metrics, *of_cells]

    def _name(self, symbol: str, window: slice | None) -> str:
        if len(self.given_windows) == 1:
            return symbol
        return f"{symbol}[{text(window)}]" if self._has_symbols else text(window)

    def _naming(self, symbol: str) -> contextlib.AbstractContextManager[None]:
        """Name the symbol in errors, where symbols have names."""
        return naming(symbol) if self._has_symbols else contextlib.nullcontext()

    def check(self) -> None:
        """Refuse a window that leaves no bar to trade, and warn where nothing says how many bars make a year."""
        for cell in self.cells:
            with self._naming(cell.symbol):
                self.evaluators[cell.symbol].bounds(cell.window)
        warn_if_undated(all(each.is_annual for each in self.evaluators.values()))
        strategy: Any = getattr(next(iter(self.evaluators.values())), "strategy", None)
        if hasattr(strategy, "warn_if_changed"):  # a function
            strategy.warn_if_changed()

    def by_symbol(self, value: Callable[[E], Any]) -> Any:
        """``value(evaluator)`` of the only symbol, or of each by symbol."""
        values = {}
        for symbol, each in self.evaluators.items():
            with self._naming(symbol):
                values[symbol] = value(each)
        return values if len(values) > 1 else next(iter(values.values()))

    def window_numbers(self) -> Any:
        """Bar numbers of the window, or of each of several; by symbol where these differ."""
        numbers = {symbol: [pair(each) for each in windows] for symbol, windows in self.windows.items()}
        plain = {symbol: each if len(each) > 1 else each[0] for symbol, each in numbers.items()}
        first = next(iter(plain.values()))
        return first if all(each == first for each in plain.values()) else plain

    def window_dates(self) -> Any:
        """The dates that were given, as text, of the window or of each of several; None if bar numbers were."""
        if not any(each is not None and is_dated(each) for each in self.given_windows):
            return None
        dates = [pair(each) for each in self.given_windows]
        return dates if len(dates) > 1 else dates[0]

    @property
    def lanes(self) -> int:
        """Candidates that take no longer than one."""
        return getattr(next(iter(self.evaluators.values())), "lanes", 1)

    def batch_size(self) -> int | None:
        """Candidates of a sweep's batch, by the bars of all cells; None where they take little time."""
        work: int | None = getattr(next(iter(self.evaluators.values())), "batch_work", None)
        if work is None:
            return None
        return min(MAX_BLOCK, max(LEAST_BATCH, work // self.n_bars() // self.lanes * self.lanes))

    def n_bars(self) -> int:
        """Bars on which each candidate may decide, in all cells."""
        bounds = [self.evaluators[cell.symbol].bounds(cell.window) for cell in self.cells]
        return sum(last - first for first, last in bounds)

    def __call__(self, batch: Floats, window: Any = None) -> Floats:
        """Scores of a batch in all cells, aggregated; see :class:`backtest.evaluator.Evaluator`.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, n_params)
        window : slice or sequence of slices, optional
            Trade only the bars of each cell that are inside this window too.

        Returns
        -------
        ndarray of float64, shape (n_candidates, n_columns), or (n_windows, n_candidates, n_columns)
        """
        if isinstance(window, (list, tuple)):
            return np.array([self(batch, each) for each in window]).reshape(len(window), len(batch), len(self.columns))
        scores: list[Floats] = []
        for symbol, each in self.evaluators.items():
            with self._naming(symbol):
                own, (_, n_bars) = each.window(window), each.bounds(None)
                scores.extend(each(batch, [_overlap(of_cell, own, n_bars) for of_cell in self.windows[symbol]]))
        if len(scores) == 1:
            return scores[0]
        values = np.stack(scores, axis=2)  # (n_candidates, n_metrics, n_cells)
        aggregated = [self._aggregated(np.ascontiguousarray(values[:, metric])) for metric in range(values.shape[1])]
        return np.column_stack([*aggregated, *scores])

    def _aggregated(self, values: Floats) -> Floats:
        if not callable(self.aggregate):
            return AGGREGATES[self.aggregate](values)
        result = np.asarray(self.aggregate(values))
        if result.shape != (len(values),) or result.dtype.kind not in "iuf":
            raise ObjectiveError(
                f"aggregate must return one number per candidate ({len(values)}), got shape {result.shape} of "
                f"dtype {result.dtype}"
            )
        return result.astype(np.float64)

    def total(self, scores: Floats, metric: str) -> Floats:
        """Sum of a metric over all cells, (n_candidates,)."""
        at, width = self.metrics.index(metric), len(self.metrics)
        return _total(scores[:, at::width][:, 1:] if len(self.cells) > 1 else scores[:, at : at + 1])

    def table(self, params: Mapping[str, Any], scores: Floats) -> pd.DataFrame:
        """Scores as a DataFrame: parameters as (Multi)Index, metrics as columns."""
        import pandas as pd

        names = list(params)
        index: Any = None
        if len(names) == 1:
            values = params[names[0]]
            index = pd.Index(values if isinstance(values, range) else list(values), name=names[0])
        elif names:
            columns = [values if isinstance(values, np.ndarray) else list(values) for values in params.values()]
            index = pd.MultiIndex.from_arrays(columns, names=names)
        return pd.DataFrame(scores, index=index, columns=pd.Index(list(self.columns), name="metric"))


def evaluator_of(
    bars: Bars, strategy: Any, parameters: Mapping[str, Parameter], *, execution: Execution, **options: Any
) -> BarsEvaluator:
    """The evaluator of a strategy's candidates on bars: of rules on the event engine, unless they need the machine."""
    asks: Mapping[str, Any] = getattr(execution, "of_machine", dict)() or getattr(options.get("costs"), "of_machine", dict)()
    if isinstance(strategy, Strategy) and not asks:
        return StrategyEvaluator(bars, strategy, parameters, execution=execution, **options)
    from backtest.machine.evaluator import machine_evaluator  # not needed by most

    return machine_evaluator(bars, strategy, parameters, execution=execution, **options)


def _overlap(window: slice | None, other: slice | None, n_bars: int) -> slice | None:
    """Bars that are in both windows."""
    if window is None or other is None:
        return other if window is None else window
    (begin, end, _), (other_begin, other_end, _) = window.indices(n_bars), other.indices(n_bars)
    return slice(max(begin, other_begin), min(end, other_end))


def _total(values: Floats) -> Floats:
    total: Floats = values[:, 0].copy()
    for cell in range(1, values.shape[1]):  # one by one: the order in which np.sum adds depends on the shape of the batch
        total += values[:, cell]
    return total


def _mean(values: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # inf - inf is undefined, and stays so
        return np.asarray(_total(values) / values.shape[1])


def _median(values: Floats) -> Floats:
    ranked, half = np.sort(values, axis=1), values.shape[1] // 2
    low, high = ranked[:, half - (values.shape[1] % 2 == 0)], ranked[:, half]
    with np.errstate(invalid="ignore"):
        middle = np.where(low == high, low, low / 2 + high / 2)
    return np.where(np.isnan(values).any(axis=1), np.nan, middle)


def _min(values: Floats) -> Floats:
    return np.asarray(np.minimum.reduce(values, axis=1))


#: Aggregates over cells by name; NaN in any cell gives NaN.
AGGREGATES: dict[str, Callable[[Floats], Floats]] = {"median": _median, "mean": _mean, "min": _min}


@contextlib.contextmanager
def naming(symbol: str) -> Iterator[None]:
    """Error messages begin with the symbol."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"{symbol}: {error}") from error


def checked_symbols(bars: Mapping[Any, Any]) -> dict[str, Any]:
    """Bars by symbol; refuses an empty mapping, and names that are not text."""
    if not bars:
        raise InputError("bars must hold at least one symbol, got none")
    for symbol in bars:
        if not isinstance(symbol, str) or not symbol:
            raise InputError(f"symbol must be text, got {shown(symbol)}")
    return dict(bars)


def _listed(window: Any) -> list[slice | None]:
    if not isinstance(window, (list, tuple)):
        return [window]
    if not window:
        raise InputError("window must hold at least one slice of bars, got none")
    if not any(each is None or isinstance(each, slice) for each in window):  # a pair of dates, most likely
        raise no_slice(window)
    return list(window)


def _numbered(windows: Sequence[slice | None], evaluator: SymbolEvaluator) -> list[slice | None]:
    """Windows as bar numbers; refuses one that is given twice."""
    numbered = [evaluator.window(each) for each in windows]
    if len(numbered) == 1:
        return numbered
    labels = [text(each) for each in numbered]
    for label, window in zip(labels, windows, strict=True):
        if labels.count(label) > 1:
            got = f"{text(window)}, bars {label}," if is_dated(window or slice(None)) else label
            raise InputError(f"window must hold each slice of bars once, got {got} twice")
    return numbered

"""Cells: one batch over many symbols and windows, and what is made of a candidate's numbers in all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, ObjectiveError, bars_window, choice
from backtest._said import shown
from backtest.evaluator import Evaluator
from backtest.metrics import MetricInputs, warn_if_undated
from backtest.periods import Periods

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Window = slice | Sequence[slice] | None
Aggregate = str | Callable[[Floats], Any]


class SymbolEvaluator(Evaluator, Protocol):
    """What evaluates candidates on one symbol: strategies on bars, or weights in a market."""

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar of a window, and one past its last."""

    def metric_inputs(self, window: slice | None = None) -> MetricInputs:
        """What metrics are made of beside the sums."""

    @property
    def periods(self) -> Periods:
        """How many bars make a year, and why."""

    @property
    def is_annual(self) -> bool:
        """Whether anything says how many bars make a year."""


E = TypeVar("E", bound=SymbolEvaluator)


class Cell(NamedTuple):
    """One symbol in one window."""

    name: str
    symbol: str
    window: slice | None


class Cells(Generic[E]):
    """``evaluate(batch, window=None) -> scores`` over every symbol in every window.

    Parameters
    ----------
    bars : Bars or Market, or mapping of str to them
    window : slice, sequence of slices or None
        Each symbol is evaluated in each.
    aggregate : {"median", "mean", "min"} or callable
        What becomes of a metric's values in all cells; a callable takes an array (n_candidates, n_cells) and returns
        (n_candidates,).
    evaluator : callable
        ``evaluator(bars, share)``: the evaluator of one symbol, with 1 / share of the usual memory.

    Attributes
    ----------
    evaluators : dict of str to evaluator
        By symbol.
    windows : list of slice or None
    cells : list of Cell
        Symbols in order, each with its windows in order.
    columns : list of str
        Of the scores: of one cell its metrics; of several the aggregated metrics, then ``metric@cell`` of each cell.
    """

    def __init__(self, bars: Any, window: Window, aggregate: Aggregate, evaluator: Callable[[Any, int], E]) -> None:
        if not callable(aggregate):
            choice("aggregate", aggregate, tuple(AGGREGATES))
        self.aggregate, self._has_symbols = aggregate, isinstance(bars, Mapping)
        symbols = _symbols(bars) if isinstance(bars, Mapping) else {"": bars}
        self.windows = _windows(window)
        self.evaluators: dict[str, E] = {}
        for symbol, of in symbols.items():
            with self._naming(symbol):
                self.evaluators[symbol] = evaluator(of, len(symbols))
        self.cells = [Cell(self._name(symbol, each), symbol, each) for symbol in symbols for each in self.windows]
        self.metrics = next(iter(self.evaluators.values())).columns
        self.columns = [*self.metrics]
        if len(self.cells) > 1:
            self.columns += [f"{metric}@{cell.name}" for cell in self.cells for metric in self.metrics]

    def _name(self, symbol: str, window: slice | None) -> str:
        label = _label(window)
        return symbol if len(self.windows) == 1 else f"{symbol}[{label}]" if self._has_symbols else label

    @contextlib.contextmanager
    def _naming(self, symbol: str) -> Iterator[None]:
        """Complaints name the symbol where there are symbols."""
        try:
            yield
        except InputError as error:
            if not self._has_symbols:
                raise
            raise type(error)(f"{symbol}: {error}") from error

    def check(self) -> None:
        """Refuse a window that leaves no bar to trade, and warn where nothing says how many bars make a year."""
        for cell in self.cells:
            with self._naming(cell.symbol):
                self.evaluators[cell.symbol].bounds(cell.window)
        warn_if_undated(all(each.is_annual for each in self.evaluators.values()))

    def by_symbol(self, value: Callable[[E], Any]) -> Any:
        """The value of the only symbol, or values by symbol."""
        values = {}
        for symbol, each in self.evaluators.items():
            with self._naming(symbol):
                values[symbol] = value(each)
        return values if len(values) > 1 else next(iter(values.values()))

    def n_bars(self) -> int:
        """Bars on which each candidate may decide, in all cells."""
        bounds = [self.evaluators[cell.symbol].bounds(cell.window) for cell in self.cells]
        return sum(last - first for first, last in bounds)

    def __call__(self, batch: Floats, window: slice | Sequence[slice | None] | None = None) -> Floats:
        """Scores of a batch in all cells, aggregated; see :class:`backtest.evaluator.Evaluator`.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, n_params)
        window : slice or sequence of slices, optional
            Of each cell trade only the bars that are inside this one, too.

        Returns
        -------
        ndarray of float64, shape (n_candidates, n_columns), or (n_windows, n_candidates, n_columns)
        """
        if isinstance(window, (list, tuple)):
            return np.array([self(batch, each) for each in window]).reshape(len(window), len(batch), len(self.columns))
        inside, found = bars_window(window), list[Floats]()
        for symbol, each in self.evaluators.items():
            with self._naming(symbol):
                found.extend(each(batch, [_overlap(own, inside, each.bounds(None)[1]) for own in self.windows]))
        if len(found) == 1:
            return found[0]
        values = np.stack(found, axis=2)  # (n_candidates, n_metrics, n_cells)
        aggregated = [self._aggregated(np.ascontiguousarray(values[:, metric])) for metric in range(values.shape[1])]
        return np.column_stack([*aggregated, *found])

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

    def table(self, params: Mapping[str, Sequence[Any]], scores: Floats) -> pd.DataFrame:
        """Scores as a DataFrame: parameters as (Multi)Index, metrics as columns."""
        import pandas as pd

        names = list(params)
        index: Any = None
        if len(names) == 1:
            values = params[names[0]]
            index = pd.Index(values if isinstance(values, range) else list(values), name=names[0])
        elif names:
            index = pd.MultiIndex.from_arrays([list(values) for values in params.values()], names=names)
        return pd.DataFrame(scores, index=index, columns=pd.Index(list(self.columns), name="metric"))


def _overlap(window: slice | None, other: slice | None, n_bars: int) -> slice | None:
    """Bars that are in both windows."""
    if window is None or other is None:
        return other if window is None else window
    (begin, end, _), (other_begin, other_end, _) = window.indices(n_bars), other.indices(n_bars)
    return slice(max(begin, other_begin), min(end, other_end))


def _total(values: Floats) -> Floats:
    total: Floats = values[:, 0].copy()
    for cell in range(1, values.shape[1]):  # in order: np.sum would group by the shape of the batch
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


#: What may become of the cells' values, by name; a NaN among them stays one.
AGGREGATES: dict[str, Callable[[Floats], Floats]] = {"median": _median, "mean": _mean, "min": _min}


def _symbols(bars: Mapping[Any, Any]) -> dict[str, Any]:
    if not bars:
        raise InputError("bars must hold at least one symbol, got none")
    for symbol in bars:
        if not isinstance(symbol, str) or not symbol:
            raise InputError(f"symbol must be text, got {shown(symbol)}")
    return dict(bars)


def _windows(window: Window) -> list[slice | None]:
    if window is None or not isinstance(window, (list, tuple)):
        return [bars_window(window)]
    if not window:
        raise InputError("window must hold at least one slice of bars, got none")
    windows = [bars_window(each) for each in window]
    labels = [_label(each) for each in windows]
    for label in labels:
        if labels.count(label) > 1:
            raise InputError(f"window must hold each slice of bars once, got {label} twice")
    return windows


def _label(window: Any) -> str:
    if not isinstance(window, slice):
        return repr(window)
    return ":".join("" if edge is None else str(edge) for edge in (window.start, window.stop))

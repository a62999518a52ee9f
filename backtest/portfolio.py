"""Portfolio: from target weights and prices to what the kernel wants, and back to metrics."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import (
    DataError,
    InputError,
    ObjectiveError,
    as_array,
    bars_mask,
    bars_window,
    check_prices,
    choice,
    flag,
    matrix,
    money,
    number,
    vector,
)
from backtest._said import said, shown
from backtest.bars import Bars
from backtest.compute.threads import run_rows, thread_count
from backtest.costs import Costs
from backtest.files.times import times_asked, times_of_rows
from backtest.labels import check_labels, labels, labels_of_index
from backtest.metrics import SUMS, SWEEP, Context, check_metrics, sweep_metrics
from backtest.periods import Periods, given
from backtest.space import Space
from backtest.trades import NO_TIMES, nanos_of

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
#: Target weights of bars, and these bars.
Events = tuple[Floats, NDArray[np.int64]]
#: From parameters to target weights.
Rule = Callable[[Mapping[str, Any]], Any]

#: Bound of the targets that books of one kernel call bring along.
BLOCK_BYTES = 32 << 20
#: Measured: microseconds per bar and asset of a book that trades weekly.
CELL_US = 0.006

NOTHING: Floats = np.empty((0, 0))


class Prices(NamedTuple):
    """What assets cost, as the kernel wants it."""

    quotes: Floats  # (n_bars, n_assets); what orders fill at, opens or closes; not finite or not > 0 is no price
    marks: Floats  # (n_bars, n_assets); at each close the last valid price, 0 before the first
    high: Floats  # (n_bars, n_assets) or (0, 0)
    low: Floats
    times: NDArray[np.int64]  # (n_bars,) in nanoseconds, or empty


class Targets(NamedTuple):
    """Target weights of all events, book after book."""

    weights: Floats  # (n_events, n_assets)
    bars: NDArray[np.int64]  # (n_events,); the bar whose close decided, ascending in each book
    first_event: NDArray[np.int64]  # (n_books + 1,)


class Settings(NamedTuple):
    """What all books of a batch share, as the kernel wants it."""

    fee_rate: float
    slippage: float
    fixed: float
    per_unit: float
    minimum: float
    maximum: float
    first: int  # first bar
    last: int  # one past the last bar
    start_value: float
    rf_per_bar: float
    borrow_per_bar: float
    fills_at_close: bool
    reinvest: bool
    reserve_costs: bool


class Rules(NamedTuple):
    """How a book is traded: the arguments of :func:`backtest.simulate` that are not data, checked."""

    costs: Costs
    fill: str = "next_open"
    start_value: float = 100_000.0
    reinvest: bool = True
    reserve_costs: bool = False
    periods_per_year: float | None = None
    rf: float = 0.0

    def checked(self) -> Rules:
        """The same, or an error that names the argument."""
        if not isinstance(self.costs, Costs):
            raise InputError(f"costs must be a Costs, got {shown(self.costs)}; Costs.zero() says none")
        ppy = self.periods_per_year
        return Rules(
            self.costs, choice("fill", self.fill, ("next_open", "close")),
            money("start_value", self.start_value), flag("reinvest", self.reinvest),
            flag("reserve_costs", self.reserve_costs),
            None if ppy is None else number("periods_per_year", ppy, low=0.0, open_low=True), number("rf", self.rf))


class Market:
    """Prices of several assets on the same bars, checked.

    A valid price is finite and > 0; anything else means that there was none.  At each close an asset is valued at its last
    valid price, be it an open or a close.
    """

    def __init__(self, close: Any, open: Any = None, high: Any = None, low: Any = None, index: Any = None) -> None:
        self.close = _table("close", close)
        self.n_bars, self.n_assets = self.close.shape
        if not self.close.size:
            raise DataError(f"close must have at least one bar and one asset, got shape {self.close.shape}")
        self._columns, self._rows = getattr(close, "columns", None), _rows(close)
        self._labels = labels(close) if index is None or self._rows is not None else labels_of_index(index)
        if self._columns is not None and not getattr(self._columns, "is_unique", True):
            raise DataError(f"close must have one column per asset, got {self._columns[self._columns.duplicated()][0]!r} twice")
        if (high is None) != (low is None):
            raise InputError("high and low must be given together, got one of them")
        self.open, self.high, self.low = (None if each is None else self.aligned(name, each)
                                          for name, each in (("open", open), ("high", high), ("low", low)))
        for name in ("close", "open", "high", "low"):
            if getattr(self, name) is not None:
                check_prices(name, getattr(self, name))
        self.times = _times(close if index is None else index, self.n_bars, is_asked=index is not None)
        self.nanos = None if self.times is None else nanos_of(self.times)
        self.marks = _marks(self.close, self.open)
        if not self.marks[-1].any():
            raise DataError("close must hold a valid price, finite and > 0, got none")

    @functools.cached_property
    def assets(self) -> tuple[Any, ...]:
        """Labels of the columns, or their numbers."""
        return tuple(range(self.n_assets) if self._columns is None else self._columns)

    def aligned(self, name: str, values: Any) -> Floats:
        """Values for the same bars and assets; of another shape or with other labels they are refused."""
        array = _table(name, values)
        if array.shape != self.close.shape:
            raise InputError(f"{name} must have the shape of close {self.close.shape}, got {array.shape}")
        columns = getattr(values, "columns", None)
        if columns is not None and self._columns is not None and not (columns is self._columns or columns.equals(self._columns)):
            found, expected = list(columns), list(self._columns)
            column = next((at for at in range(self.n_assets) if found[at] != expected[at]), 0)
            raise InputError(f"{name} must have the columns of close, got {found[column]!r} for {expected[column]!r} (column "
                             f"{column})")
        self._check_rows(name, values)
        return array

    def _check_rows(self, name: str, values: Any, fill: str = "") -> None:
        rows = _rows(values)
        if rows is not None and rows is not self._rows:
            check_labels(name, labels(values), self._labels, self.n_bars, "close", "close.index" if self._rows is not None else
                         "index", fill)

    def benchmark(self, values: Any) -> Floats | None:
        """Prices of a benchmark on the same bars, if there is one."""
        if values is None:
            return None
        prices = vector("benchmark", values, length=self.n_bars)
        self._check_rows("benchmark", values)
        return prices

    @functools.cached_property
    def clock(self) -> Bars:
        """Bars that know the times, for what a year is."""
        ones = np.ones(self.n_bars)
        zone = getattr(self.times, "tz", None)
        index = None if self.times is None else (
            self.times if zone is None else self.times.tz_convert("UTC").tz_localize(None)).to_numpy()
        return Bars(open=ones, high=ones, low=ones, close=ones, index=index, tz=None if zone is None else str(zone))

    def prices(self, fill: str) -> Prices:
        """What the kernel wants to know of prices."""
        if fill == "next_open" and self.open is None:
            raise InputError('open must be given for fill="next_open", got None; fill="close" trades at the deciding close')
        quotes = self.close if fill == "close" else self.open
        assert quotes is not None
        return Prices(quotes, self.marks, NOTHING if self.high is None else self.high, NOTHING if self.low is None else self.low,
                      NO_TIMES if self.nanos is None else self.nanos)

    def events(self, weights: Any, rebalance: Any = None) -> Events:
        """Target weights of the bars that decide, and these bars.

        ``rebalance`` says which, or None: every row that is not NaN throughout.
        """
        table = self.aligned("weights", weights)
        if rebalance is None:
            bars = np.empty(self.n_bars, dtype=np.int64)
            n_events, wrong = _backend.kernel("portfolio").find_events(table, bars)
            bars = bars[:n_events] if wrong < 0 else np.array([wrong])
        else:
            bars, wrong = self.mask(rebalance).nonzero()[0], 0
        targets = table.take(bars, axis=0)
        if wrong >= 0 and not np.isfinite(targets).all():
            event, asset = np.argwhere(~np.isfinite(targets))[0].tolist()
            raise InputError(f"weights must be finite for every asset in a row that rebalances, got {targets[event, asset]} (row "
                             f"{bars[event]}, column {self.assets[asset]!r})")
        return targets, bars

    def mask(self, rebalance: Any) -> NDArray[np.bool_]:
        """Which bars decide."""
        is_event = bars_mask("rebalance", rebalance, self.n_bars)
        self._check_rows("rebalance", rebalance, ", fill_value=False")
        return is_event

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar, and one past the last."""
        first, last, _ = (bars_window(window) or slice(None)).indices(self.n_bars)
        if first >= last:
            raise DataError(f"window must leave a bar to trade, got bars {first} to {last} of {self.n_bars}")
        return first, last

    def context(self, rules: Rules, window: slice | None = None) -> Context:
        """What turns sums into metrics."""
        return Context(rules.start_value, rules.rf, self.periods(rules).per_year, self.clock.years(*self.bounds(window)))

    def periods(self, rules: Rules) -> Periods:
        """How many bars make a year, and why: as the rules say, or as the times tell."""
        return given(rules.periods_per_year) if rules.periods_per_year else self.clock.inferred_periods()

    def settings(self, rules: Rules, window: slice | None = None) -> Settings:
        """What all books share."""
        costs, (first, last) = rules.costs, self.bounds(window)
        ppy = rules.periods_per_year or np.nan
        if costs.borrow_rate > 0 or rules.rf:
            ppy = self.periods(rules).per_year
        if costs.borrow_rate > 0 and not ppy > 0:
            raise InputError("periods_per_year must be given for a borrow_rate when prices have no dates, got None")
        return Settings(
            costs.fee_rate, costs.slippage, costs.fixed, costs.per_unit, costs.minimum, costs.maximum, first, last,
            rules.start_value, rules.rf / ppy if ppy > 0 else 0.0, costs.borrow_rate / ppy if costs.borrow_rate > 0 else 0.0,
            rules.fill == "close", rules.reinvest, rules.reserve_costs)


class Evaluator:
    """Books of the candidates of a space, as :class:`backtest.cells.Cells` asks for them.

    Parameters
    ----------
    rule : callable
        ``rule(params) -> weights``: target weights for every bar and asset, as :func:`backtest.simulate` takes them.
    space : Space
        What the batch's columns hold.
    market : Market
    rules : Rules
        Checked.
    rebalance : array_like of bool, optional
    metrics : sequence of str
        Columns of the scores.
    n_threads : int, optional

    Notes
    -----
    Scores do not depend on the thread count or on how a batch is cut: every book is replayed on its own.
    """

    def __init__(self, rule: Rule, space: Space, market: Market, rules: Rules, *, rebalance: Any = None,
                 metrics: Sequence[str] = SWEEP, n_threads: int | None = None) -> None:
        if not callable(rule):
            raise InputError(f"rule must be callable, rule(params) -> weights, got {shown(rule)}")
        self.rule, self.space, self.market, self.rules, self.rebalance = rule, space, market, rules, rebalance
        self.metrics, self.n_threads = check_metrics(metrics, "sweep"), thread_count(n_threads)
        self.prices = market.prices(rules.fill)
        if rebalance is not None:
            market.mask(rebalance)  # refused here, it is not the rule's fault

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar of a window, and one past its last."""
        return self.market.bounds(window)

    def context(self, window: slice | None = None) -> Context:
        """What turns sums into metrics."""
        return self.market.context(self.rules, window)

    @property
    def periods(self) -> Periods:
        """How many bars make a year, and why."""
        return self.market.periods(self.rules)

    def in_windows(self, batch: Floats, windows: Sequence[slice | None]) -> list[Floats]:
        """Metrics of a batch in each window; the rule is asked once for all of them, and may look at all bars.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, n_params)
            As :meth:`backtest.Space.candidates` gives it.
        windows : sequence of slice or None
            Trade inside these bars only.

        Returns
        -------
        list of ndarray of float64, shape (n_candidates, n_metrics)
        """
        settings = [self.market.settings(self.rules, window) for window in windows]
        sums = [np.zeros(len(batch), dtype=SUMS) for _ in windows]
        for start, books in self._blocks(batch):
            for each, found in zip(settings, sums, strict=True):
                evaluate_books(books, self.prices, each, self.n_threads, found[start : start + len(books)])
        return [sweep_metrics(self.metrics, found, self.context(window)) for window, found in zip(windows, sums, strict=True)]

    def _blocks(self, batch: Floats) -> Iterator[tuple[int, list[Events]]]:
        """Books of a batch and the number of the first, in blocks of bounded size."""
        start, held, books = 0, 0, list[Events]()
        for row in batch:
            books.append(self.events(self.space.decode(row)))
            held += books[-1][0].nbytes
            if held >= BLOCK_BYTES:
                yield start, books
                start, held, books = start + len(books), 0, []
        if books:
            yield start, books

    def events(self, params: Mapping[str, Any]) -> Events:
        """Target weights of a candidate, and the bars that decide on them."""
        try:
            weights = self.rule(params)
        except Exception as error:
            raise ObjectiveError(f"rule failed at {params}: {said(error)}", dict(params)) from error
        try:
            return self.market.events(weights, self.rebalance)
        except InputError as error:
            raise ObjectiveError(f"rule at {params}: {error}", dict(params)) from error


def evaluate_books(books: Sequence[Events], prices: Prices, settings: Settings, n_threads: int,
                   sums: NDArray[Any]) -> None:
    """Replay books, each the targets of its events and the bars that decide on them, into ``sums`` (n_books,)."""
    targets = joined(books)
    evaluate = _backend.kernel("portfolio").evaluate

    def work(start: int, stop: int) -> None:
        evaluate(prices, targets, settings, start, stop, sums)

    run_rows(work, len(books), n_threads, CELL_US * (settings.last - settings.first) * prices.marks.shape[1])


def joined(books: Sequence[Events]) -> Targets:
    """The events of several books in one table."""
    if len(books) == 1:
        return Targets(*books[0], np.array([0, len(books[0][1])], dtype=np.int64))
    first_event = np.zeros(len(books) + 1, dtype=np.int64)
    np.cumsum([len(bars) for _, bars in books], out=first_event[1:])
    return Targets(np.concatenate([weights for weights, _ in books]), np.concatenate([bars for _, bars in books]), first_event)


def _table(name: str, values: Any) -> Floats:
    """A matrix (n_bars, n_assets) that nobody else writes into; one dimension is one asset."""
    given = values.to_numpy() if hasattr(values, "to_numpy") else as_array(name, values)
    array = matrix(name, given[:, None] if given.ndim == 1 else given if given.ndim else values, finite=False)
    if array.flags.writeable and np.shares_memory(array, given):
        array = array.copy()
    return array


def _rows(values: Any) -> Any:
    """The index of a DataFrame or Series; a list's ``index`` is something else."""
    return values.index if hasattr(values, "iloc") else None


def _times(source: Any, n_bars: int, is_asked: bool) -> pd.DatetimeIndex | None:
    """Times of the bars as pandas dates, sorted and without duplicates; None where nothing holds dates."""
    times = times_asked("index", source) if is_asked else times_of_rows(_rows(source))
    if times is None:
        return None
    if len(times) != n_bars:
        raise InputError(f"index must have one time per bar ({n_bars}), got {len(times)}")
    if not (times.is_monotonic_increasing and times.is_unique) or times.hasnans:
        steps = np.diff(times.asi8)
        row = int(times.isna().argmax()) if times.hasnans else int((steps <= 0).argmax()) + 1
        raise DataError(f"index must be sorted, oldest first, without duplicates or missing dates, got {times[row]} (row {row})")
    return times


def _marks(close: Floats, open: Floats | None) -> Floats:
    """At each close the last valid price, an open or a close; 0 before the first."""
    if _backend.kernel("portfolio").are_prices(close):
        return close
    marks = close
    if open is not None:  # a bar without a close may have had an open
        marks = np.where(_is_price(close), close, open)
    rows = np.where(_is_price(marks), np.arange(len(close))[:, None], -1)
    np.maximum.accumulate(rows, axis=0, out=rows)
    marks = np.take_along_axis(marks, np.maximum(rows, 0), axis=0)
    marks[rows < 0] = 0.0
    return np.ascontiguousarray(marks)


def _is_price(values: Floats) -> NDArray[np.bool_]:
    return (values > 0) & (values < np.inf)

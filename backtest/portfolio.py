"""Portfolio: prices and target weights, checked, as the arguments of the portfolio kernel."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import (
    LEAST_PRICE,
    MOST_PRICE,
    DataError,
    InputError,
    as_array,
    bars_mask,
    check_prices,
    choice,
    flag,
    matrix,
    money,
    number,
    vector,
    whole,
)
from backtest._said import shown
from backtest.bars import Bars
from backtest.costs import Costs, OrderCosts
from backtest.endings import Endings
from backtest.files.times import times_asked, times_of_rows
from backtest.labels import check_labels, labels, labels_of_index
from backtest.metrics import MetricInputs
from backtest.periods import Periods, given
from backtest.trades import NO_TIMES, nanos_of
from backtest.windows import hint_of_years

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
#: Target weights of the bars that decide, and the numbers of these bars.
Events = tuple[Floats, NDArray[np.int64]]
#: A user's function from parameters to target weights.
Rule = Callable[[Mapping[str, Any]], Any]

#: Default of ``max_gross``, the largest sum of absolute weights of one event.
MAX_GROSS = 10.0
#: Relative rounding error allowed above that.
ROUNDING = 1e-9

NO_PRICES: Floats = np.empty((0, 0))
NO_ASSETS: NDArray[np.int64] = np.empty(0, dtype=np.int64)


class Prices(NamedTuple):
    """Prices of all assets, as arguments of the kernel."""

    quotes: Floats  # (n_bars, n_assets); opens or closes, by Rules.fill; NaN is no price
    marks: Floats  # (n_bars, n_assets); at each close the last price, 0 before the first and where the asset is written off
    high: Floats  # (n_bars, n_assets) or (0, 0)
    low: Floats
    times: NDArray[np.int64]  # (n_bars,) in nanoseconds, or empty
    end_bars: NDArray[np.int64]  # ascending; from this bar on an asset is written off
    end_assets: NDArray[np.int64]  # column of that asset


class Targets(NamedTuple):
    """Target weights of all events, book after book."""

    weights: Floats  # (n_events, n_assets)
    bars: NDArray[np.int64]  # (n_events,); the bar whose close decided, ascending in each book
    first_event: NDArray[np.int64]  # (n_books + 1,)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Settings(OrderCosts):
    """Settings that all books of a batch share, as arguments of the kernel."""

    first: int  # first bar
    last: int  # one past the last bar
    start_cash: float
    rf_per_bar: float
    borrow_per_bar: float
    fills_at_close: bool
    reinvest: bool
    reserve_costs: bool


class Rules(NamedTuple):
    """How a book is traded: the arguments of :func:`backtest.simulate` that are not data, checked."""

    costs: Costs
    fill: str = "next_open"
    start_cash: float = 100_000.0
    reinvest: bool = True
    reserve_costs: bool = False
    periods_per_year: float | None = None
    rf: float = 0.0
    delisted: str = "keep"
    delisted_after: int = 5

    def checked(self) -> Rules:
        """These rules with checked values; an error names the argument."""
        if not isinstance(self.costs, Costs):
            raise InputError(f"costs must be a Costs, got {shown(self.costs)}; Costs.zero() says none")
        self.costs.refuse_machine("in a portfolio")
        ppy = self.periods_per_year
        return Rules(
            costs=self.costs,
            fill=choice("fill", self.fill, ("next_open", "close")),
            start_cash=money("start_cash", self.start_cash),
            reinvest=flag("reinvest", self.reinvest),
            reserve_costs=flag("reserve_costs", self.reserve_costs),
            periods_per_year=None if ppy is None else number("periods_per_year", ppy, low=0.0, open_low=True),
            rf=number("rf", self.rf),
            delisted=choice("delisted", self.delisted, ("keep", "write_off")),
            delisted_after=whole("delisted_after", self.delisted_after, low=0),
        )

    @property
    def write_off_after(self) -> int | None:
        """Bars without a price after which an asset was worth nothing; None: it keeps its last price."""
        return self.delisted_after if self.delisted == "write_off" else None


class Market:
    """Prices of several assets on the same bars, checked.

    A price is finite and > 0; NaN means that there was none, anything else is refused.  At each close an asset is valued at its
    last price, an open or a close; if it is written off (``write_off_after``), at 0 from the bar after its last price on.
    """

    def __init__(
        self,
        close: Any,
        open: Any = None,
        high: Any = None,
        low: Any = None,
        index: Any = None,
        write_off_after: int | None = None,
    ) -> None:
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
        self.open, self.high, self.low = (
            None if each is None else self.aligned(name, each) for name, each in (("open", open), ("high", high), ("low", low))
        )
        self.times = _times(close if index is None else index, self.n_bars, is_index=index is not None)
        self.nanos = None if self.times is None else nanos_of(self.times)
        #: Where prices are missing; None: every close is a price.
        self.endings: Endings | None = None
        self.marks, self._written_off = self.close, (NO_ASSETS, NO_ASSETS)
        self._check_prices(write_off_after)

    def _check_prices(self, write_off_after: int | None) -> None:
        are_prices = _backend.kernel("portfolio").are_prices
        is_complete = are_prices(self.close, LEAST_PRICE, MOST_PRICE)
        for name in ("close", "open", "high", "low"):
            table = getattr(self, name)
            if table is not None and not (is_complete if name == "close" else are_prices(table, LEAST_PRICE, MOST_PRICE)):
                check_prices(name, table, self.assets)
        if is_complete:
            return
        self.endings = Endings(self.close, self.open)
        if not self.endings.has_price.any():
            raise DataError("close must hold a valid price, finite and > 0, got none")
        self.marks = self.endings.marks(self.close, self.open)
        if write_off_after is not None:
            self._written_off = self.endings.written_off(write_off_after)
            for bar, asset in zip(*self._written_off, strict=True):
                self.marks[bar:, asset] = 0.0

    @functools.cached_property
    def assets(self) -> tuple[Any, ...]:
        """Labels of the columns, or their numbers."""
        return tuple(range(self.n_assets) if self._columns is None else self._columns)

    def aligned(self, name: str, values: Any) -> Floats:
        """Values for the same bars and assets; refuses another shape or other labels."""
        array = _table(name, values)
        if array.shape != self.close.shape:
            raise InputError(f"{name} must have the shape of close {self.close.shape}, got {array.shape}")
        columns = getattr(values, "columns", None)
        if columns is not None and self._columns is not None and not (columns is self._columns or columns.equals(self._columns)):
            got, expected = list(columns), list(self._columns)
            column = next((at for at in range(self.n_assets) if got[at] != expected[at]), 0)
            raise InputError(
                f"{name} must have the columns of close, got {got[column]!r} for {expected[column]!r} (column {column})"
            )
        self._check_rows(name, values)
        return array

    def _check_rows(self, name: str, values: Any, fill: str = "") -> None:
        rows = _rows(values)
        if rows is not None and rows is not self._rows:
            check_labels(
                name,
                labels(values),
                self._labels,
                self.n_bars,
                "close",
                "close.index" if self._rows is not None else "index",
                fill,
            )

    def benchmark(self, values: Any) -> Floats | None:
        """Prices of a benchmark on the same bars, or None."""
        if values is None:
            return None
        prices = vector("benchmark", values, length=self.n_bars)
        self._check_rows("benchmark", values)
        return prices

    @functools.cached_property
    def clock(self) -> Bars:
        """Bars with these times, from which the number of periods per year is inferred."""
        ones = np.ones(self.n_bars)
        zone = getattr(self.times, "tz", None)
        index = (
            None
            if self.times is None
            else (self.times if zone is None else self.times.tz_convert("UTC").tz_localize(None)).to_numpy()
        )
        return Bars(open=ones, high=ones, low=ones, close=ones, index=index, tz=None if zone is None else str(zone))

    def prices(self, fill: str) -> Prices:
        """Prices as arguments of the kernel."""
        if fill == "next_open" and self.open is None:
            raise InputError('open must be given for fill="next_open", got None; fill="close" trades at the deciding close')
        quotes = self.close if fill == "close" else self.open
        assert quotes is not None
        end_bars, end_assets = self._written_off
        return Prices(
            quotes=quotes,
            marks=self.marks,
            high=NO_PRICES if self.high is None else self.high,
            low=NO_PRICES if self.low is None else self.low,
            times=NO_TIMES if self.nanos is None else self.nanos,
            end_bars=end_bars,
            end_assets=end_assets,
        )

    def events(self, weights: Any, rebalance: Any = None, max_gross: float = MAX_GROSS) -> Events:
        """Target weights of the bars that decide, and these bars.

        ``rebalance`` says which, or None: every row that is not NaN throughout.
        """
        table = self.aligned("weights", weights)
        bars, limit = np.empty(self.n_bars, dtype=np.int64), max_gross * (1.0 + ROUNDING)
        find_events = _backend.kernel("portfolio").find_events
        heavy_row = -1
        if rebalance is None:
            n_events, invalid_row, heavy_row = find_events(table, bars, limit)
            bars = bars[:n_events] if invalid_row < 0 else np.array([invalid_row])
        else:
            bars, invalid_row = self.mask(rebalance).nonzero()[0], 0
        targets = table.take(bars, axis=0)
        if invalid_row >= 0 and not np.isfinite(targets).all():
            event, asset = np.argwhere(~np.isfinite(targets))[0].tolist()
            raise InputError(
                f"weights must be finite for every asset in a row that rebalances, got {targets[event, asset]} (row "
                f"{bars[event]}, column {self.assets[asset]!r})"
            )
        if rebalance is not None:
            heavy_row = find_events(targets, np.empty_like(bars), limit)[2]
            heavy_row = heavy_row if heavy_row < 0 else bars[heavy_row]
        if heavy_row >= 0:
            raise InputError(
                f"weights of an event must add up to at most {max_gross:g}, regardless of sign, got "
                f"{float(np.abs(table[heavy_row]).sum()):g} (row {heavy_row}); they are shares of the value, 0.5 for 50 %, and "
                "max_gross= allows more"
            )
        return targets, bars

    def mask(self, rebalance: Any) -> NDArray[np.bool_]:
        """Mask of the bars that decide."""
        is_event = bars_mask("rebalance", rebalance, self.n_bars)
        self._check_rows("rebalance", rebalance, ", fill_value=False")
        return is_event

    def window(self, window: slice | None) -> slice | None:
        """A window by bar numbers; see :meth:`backtest.Bars.window`."""
        return None if window is None else self.clock.window(window)

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar, and one past the last."""
        first, last, _ = (self.window(window) or slice(None)).indices(self.n_bars)
        if first >= last:
            hint = "" if self.times is None else hint_of_years(window)
            raise DataError(f"window must leave a bar to trade, got bars {first} to {last} of {self.n_bars}{hint}")
        return first, last

    def metric_inputs(self, rules: Rules, window: slice | None = None) -> MetricInputs:
        """What metrics are computed from besides the sums."""
        return MetricInputs(
            start_cash=rules.start_cash,
            rf=rules.rf,
            periods_per_year=self.periods(rules).per_year,
            years=self.clock.years(*self.bounds(window)),
        )

    def periods(self, rules: Rules) -> Periods:
        """How many bars make a year, and why: as the rules say, or as the times tell."""
        return given(rules.periods_per_year) if rules.periods_per_year else self.clock.inferred_periods()

    def settings(self, rules: Rules, window: slice | None = None) -> Settings:
        """Settings that all books share."""
        costs, (first, last) = rules.costs, self.bounds(window)
        ppy = rules.periods_per_year or np.nan
        if costs.borrow_rate > 0 or rules.rf:
            ppy = self.periods(rules).per_year
        if costs.borrow_rate > 0 and not ppy > 0:
            raise InputError("periods_per_year must be given for a borrow_rate when prices have no dates, got None")
        return Settings(
            **costs.of_order(),
            first=first,
            last=last,
            start_cash=rules.start_cash,
            rf_per_bar=rules.rf / ppy if ppy > 0 else 0.0,
            borrow_per_bar=costs.borrow_rate / ppy if costs.borrow_rate > 0 else 0.0,
            fills_at_close=rules.fill == "close",
            reinvest=rules.reinvest,
            reserve_costs=rules.reserve_costs,
        )


def gross_limit(value: Any) -> float:
    """``max_gross``, checked; infinity is no limit."""
    return number("max_gross", value, low=0.0, open_low=True, infinite=True)


def _table(name: str, values: Any) -> Floats:
    """A matrix (n_bars, n_assets) that shares no memory with the caller's if that is writable; a vector is one asset."""
    given = values.to_numpy() if hasattr(values, "to_numpy") else as_array(name, values)
    array = matrix(name, given[:, None] if given.ndim == 1 else given if given.ndim else values, finite=False)
    if array.flags.writeable and np.shares_memory(array, given):
        array = array.copy()
    return array


def _rows(values: Any) -> Any:
    """The index of a DataFrame or Series; a list's ``index`` is something else."""
    return values.index if hasattr(values, "iloc") else None


def _times(source: Any, n_bars: int, is_index: bool) -> pd.DatetimeIndex | None:
    """Times of the bars as pandas dates, sorted and without duplicates; None where nothing holds dates."""
    times = times_asked("index", source) if is_index else times_of_rows(_rows(source))
    if times is None:
        return None
    if len(times) != n_bars:
        raise InputError(f"index must have one time per bar ({n_bars}), got {len(times)}")
    if not (times.is_monotonic_increasing and times.is_unique) or times.hasnans:
        steps = np.diff(times.asi8)
        row = int(times.isna().argmax()) if times.hasnans else int((steps <= 0).argmax()) + 1
        raise DataError(f"index must be sorted, oldest first, without duplicates or missing dates, got {times[row]} (row {row})")
    return times

"""Bars: open, high, low, close and volume of one instrument, checked once and then read-only."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import suspects
from backtest._checks import MOST, DataError, Frozen, InputError, as_array, choice, file_path, price_bounds
from backtest._said import shown
from backtest.files.reading import Reading, zone
from backtest.files.tables import PRICES, Prices, prices_of, read_prices, table_of
from backtest.files.times import split
from backtest.labels import check_alike, check_beside, labels_of_bars
from backtest.periods import DAYS_PER_YEAR, NS_PER_DAY, Periods, infer
from backtest.windows import hint_of_years, numbered, slice_instead

if TYPE_CHECKING:
    import pandas as pd

#: Range of 64-bit nanoseconds since 1970, in whole years.
EARLIEST, LATEST = np.datetime64("1678-01-01T00:00:00"), np.datetime64("2261-12-31T23:59:59")


class Bars(Frozen):
    """Price bars of one instrument, oldest first.

    Immutable, picklable and safe to share between threads; every array is read-only.

    Parameters
    ----------
    open, high, low, close : array_like, shape (n_bars,)
        Prices, > 0 (from 1e-30 to 1e30), with ``low <= open, close <= high`` on every bar.
    volume : array_like, shape (n_bars,), optional
        From 0 to 1e30.
    index : array_like of datetime64, shape (n_bars,), optional
        Time of each bar, strictly increasing.  Without one, metrics per year are undefined unless
        ``Execution.periods_per_year`` is given.
    tz : str, optional
        Name of the time zone the index is shown in; the index itself is then in UTC.
    symbol : str, optional
        A name for tables and messages.

    Raises
    ------
    DataError
        A rule above is broken; the message names the column, the rule, the value and the row.
    """

    __slots__ = ("__weakref__", "_content", "_periods", "close", "high", "index", "low", "open", "symbol", "tz", "volume")

    open: NDArray[np.float64]
    high: NDArray[np.float64]
    low: NDArray[np.float64]
    close: NDArray[np.float64]
    volume: NDArray[np.float64] | None
    index: NDArray[np.datetime64] | None
    tz: str | None
    symbol: str
    _content: str
    _periods: Periods

    def __init__(
        self,
        *,
        open: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        close: ArrayLike,
        volume: ArrayLike | None = None,
        index: ArrayLike | None = None,
        tz: str | None = None,
        symbol: str = "",
    ) -> None:
        given = {"close": close, "open": open, "high": high, "low": low, "volume": volume}
        check_alike(given)
        columns = {
            "open": _prices("open", open),
            "high": _prices("high", high),
            "low": _prices("low", low),
            "close": _prices("close", close),
        }
        n_bars = columns["close"].shape[0]
        for name, values in columns.items():
            if values.shape[0] != n_bars:
                raise DataError(f"{name} must have as many rows as close ({n_bars}), got {values.shape[0]}")
        if n_bars == 0:
            raise DataError("bars must hold at least one row, got 0")
        for name in ("open", "low", "close"):
            _refuse(columns["high"] < columns[name], "high", f">= {name}", columns["high"], columns[name])
        for name in ("open", "close"):
            _refuse(columns["low"] > columns[name], "low", f"<= {name}", columns["low"], columns[name])
        for name, values in columns.items():
            setattr(self, name, _frozen(values))
        self.volume = None if volume is None else _frozen(_volume(volume, n_bars))
        self.index = None if index is None else _frozen(_index(index, n_bars))
        self.tz = None if tz is None else zone(tz)
        self.symbol = symbol if isinstance(symbol, str) else shown(symbol)
        check_beside(self, given)

    def __len__(self) -> int:
        return int(self.close.shape[0])

    def __getitem__(self, window: Any) -> Bars:
        """Bars of a window, ``bars[100:200]`` or ``bars["2010":"2012-06"]``; see :meth:`window`."""
        if not isinstance(window, slice):
            raise InputError(f"bars must be sliced, got {slice_instead(window)}")
        rows = self.window(window) or slice(None)
        first, last, _ = rows.indices(len(self))
        if first >= last:
            hint = "" if self.index is None else hint_of_years(window)
            raise DataError(f"bars must hold at least one row, got bars {first} to {last} of {len(self)}{hint}")
        part = object.__new__(type(self))
        for name in (*PRICES, "volume", "index"):
            column = getattr(self, name)
            setattr(part, name, None if column is None else column[first:last])
        part.tz, part.symbol = self.tz, self.symbol
        return part

    def window(self, window: slice | None) -> slice | None:
        """A window of two bar numbers, half-open, or of two dates, inclusive at both ends, by bar numbers.

        Either edge may be None; ``slice("2010", "2012-06")`` ends with June's last bar.  Dates are text (a year, month, day
        or time of day in ISO 8601), ``datetime``, ``date``, ``Timestamp``, ``Period`` or ``datetime64``; without a zone they
        are the clock of the bars' zone.  A date outside the bars, and two dates without a bar between them, are refused.
        """
        return None if window is None else numbered(window, labels_of_bars(self))

    def __repr__(self) -> str:
        name = f"{self.symbol}, " if self.symbol else ""
        if self.index is None:
            return f"Bars({name}{len(self):,} bars)"
        return f"Bars({name}{len(self):,} bars, {str(self.index[0])[:16]} to {str(self.index[-1])[:16]})"

    @classmethod
    def sample(cls, symbol: str = "GOOG") -> Bars:
        """Real daily bars that come with the library: ``GOOG`` (2,148 bars), ``AAPL``, ``IBM``, ``MSFT`` (3,270 each).

        AAPL, IBM and MSFT are adjusted for splits and dividends.
        """
        with np.load(Path(__file__).parent / "data" / "stocks.npz") as stored:
            symbols = sorted({name.partition(".")[0] for name in stored.files})
            choice("symbol", symbol, symbols)
            columns = {name: stored[f"{symbol}.{name}"] for name in PRICES}
            if f"{symbol}.factor" in stored.files:
                factor = stored[f"{symbol}.factor"]
                columns = {name: values * factor for name, values in columns.items()}
            return cls(
                **columns,
                volume=stored[f"{symbol}.volume"],
                symbol=symbol,
                index=stored[f"{symbol}.date"].astype("datetime64[D]"),
            )

    @classmethod
    def read(
        cls,
        path: str | Path,
        *,
        symbol: str | None = None,
        dates: str | None = None,
        tz: str | None = None,
        sep: str | None = None,
        decimal: str | None = None,
        thousands: str | None = None,
        columns: Mapping[str, str] | None = None,
        adjust: str | None = None,
    ) -> Bars:
        """Read a CSV or Parquet file; the file extension says which.

        The format is inferred from the whole file and logged (``logging.getLogger("backtest")``); an ambiguous one is
        refused, and the error names the argument that decides.  A file that runs newest first is
        reversed, with a warning.  ``docs/files.md`` shows which files are read how.

        Parameters
        ----------
        path : str or Path
            ``.csv`` (also ``.csv.gz``, ``.tsv``, ``.txt``) or ``.parquet``.  Columns as in :meth:`from_frame`; in a file
            of text the time may also be an unnamed first column.
        symbol : str, optional
            Name of the instrument; the file's name by default.
        dates : str, optional
            What the times are: a format such as ``"%d/%m/%Y"``, or ``"unix_s"``, ``"unix_ms"``, ``"unix_us"``,
            ``"unix_ns"``, ``"excel"``.
        tz : str, optional
            Time zone of the bars, such as ``"Europe/Berlin"``: times with an offset and unix times are converted, others
            are its local times.
        sep, decimal, thousands : str, optional
            Separator of columns, decimal mark, mark between groups of three digits.
        columns : mapping of str to str, optional
            Our name to the file's: ``{"Close": "Schluss", "Date": "Datum"}``.
        adjust : {"close"}, optional
            Scale open, high, low and close by the column Adj Close / Close.

        Raises
        ------
        InputError, DataError
            An argument breaks a rule, or the file does; the message names file, row, column and value.
        """
        path = file_path("path", path)
        reading = Reading(dates, tz, sep, decimal, thousands, columns, adjust)
        return from_prices(read_prices(path, reading), path.name.partition(".")[0] if symbol is None else symbol)

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        symbol: str = "",
        dates: str | None = None,
        tz: str | None = None,
        columns: Mapping[str, str] | None = None,
        adjust: str | None = None,
    ) -> Bars:
        """Bars from a pandas, polars or pyarrow table.

        Parameters
        ----------
        frame
            Columns Open, High, Low, Close and, if there is one, Volume, in any letter case, or o, h, l, c, v.  The time is
            a ``DatetimeIndex`` (pandas), a column named date, datetime, time, timestamp or open_time (date and time of day
            may be two columns), or an index of dates, stamps such as 20200131, or unix times; naive or with a time zone.
            An index that only numbers the rows is no time.
        symbol : str, optional
            Name of the instrument.
        dates, tz, columns, adjust
            As in :meth:`read`.
        """
        reading = Reading(dates=dates, tz=tz, columns=columns, adjust=adjust)
        prices = prices_of(table_of(frame, columns), reading, reverses=False)
        prices.source.log()
        return from_prices(prices, symbol)

    def check(self) -> pd.DataFrame:
        """Find what looks like errors in the data; nothing is ever corrected.

        Returns
        -------
        DataFrame
            One row per finding: ``kind``, ``first`` and ``last`` row, ``first_time`` and ``last_time``, ``value``, ``text``.
            Kinds: ``split`` (a close that jumps by a factor near 2, 3, 4, 5, 10, 100, 1,000 or its inverse; the ratio), ``hole``
            (much longer without a bar than anywhere else; days), ``equal`` (bars in a row with the same four prices; how many),
            ``volume`` (bars in a row without volume; how many), ``high`` (ten times the highs beside it; the high), ``low`` (a
            tenth of the lows beside it; the low).  Empty if nothing is found.
        """
        return suspects.frame(self, suspects.suspects(self))

    def to_frame(self) -> pd.DataFrame:
        """The bars as a pandas DataFrame with columns Open, High, Low, Close and Volume, if there is one."""
        import pandas as pd

        columns = {name.title(): getattr(self, name) for name in PRICES}
        if self.volume is not None:
            columns["Volume"] = self.volume
        return pd.DataFrame(columns, index=self.times())

    def times(self) -> pd.Index[Any]:
        """Time of each bar: a ``DatetimeIndex`` in the bars' time zone, or 0, 1, 2, ... without dates."""
        import pandas as pd

        if self.index is None:
            return pd.RangeIndex(len(self), name="bar")
        index = pd.DatetimeIndex(self.index, name="time")
        return index if self.tz is None else index.tz_localize("UTC").tz_convert(self.tz)

    @property
    def content_hash(self) -> str:
        """Hash of the prices, volume and times: equal content, equal hash, whatever it was read from."""
        if not hasattr(self, "_content"):
            digest = hashlib.blake2b(digest_size=16)
            for name in (*PRICES, "volume", "index"):
                array = getattr(self, name)
                digest.update(name.encode() + (b"-" if array is None else array.tobytes()))
            object.__setattr__(self, "_content", digest.hexdigest())  # two threads may both set it
        return self._content

    def inferred_periods(self) -> Periods:
        """How many bars make a year, ``per_year``, and ``why``, as their times tell; see ``docs/definitions.md``.

        NaN without an index or with a single bar.
        """
        if not hasattr(self, "_periods"):
            no_times = np.empty(0, dtype=np.int64)
            nanos = no_times if self.index is None else self.index.astype("datetime64[ns]").astype(np.int64)
            object.__setattr__(self, "_periods", infer(nanos, nanos if self.tz is None else self._local_nanos()))
        return self._periods

    def inferred_periods_per_year(self) -> float:
        """``per_year`` of :meth:`inferred_periods`."""
        return self.inferred_periods().per_year

    def _local_nanos(self) -> NDArray[np.int64]:
        """Local times in the bars' zone, in nanoseconds."""
        import pandas as pd

        if self.index is None:
            return np.empty(0, dtype=np.int64)
        local = pd.DatetimeIndex(self.times()).tz_localize(None)
        return np.asarray(local.to_numpy(), dtype="datetime64[ns]").astype(np.int64)

    def years(self, first: int, last: int) -> float:
        """Calendar years from the bar before ``first`` (or ``first`` itself, if there is none) to the bar before ``last``."""
        if self.index is None:
            return float("nan")
        nanos = self.index[[max(first - 1, 0), last - 1]].astype("datetime64[ns]").astype(np.int64)
        return float(nanos[1] - nanos[0]) / (NS_PER_DAY * DAYS_PER_YEAR)


def from_prices(prices: Prices, symbol: str = "") -> Bars:
    """Bars of the prices that a reader found; errors name the file."""
    index, tz = (None, None) if prices.times is None else split(prices.times)
    with prices.source.named():
        bars = Bars(**prices.columns, index=index, tz=tz, symbol=symbol)
    if prices.source.name:
        suspects.log(bars, prices.source.name)
    return bars


def _prices(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = _numbers(name, values)
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{name} must be finite, got {array[row]} (row {row})")
    if (array <= 0).any():
        row = int((array <= 0).argmax())
        raise DataError(f"{name} must be > 0, got {array[row]} (row {row})")
    price_bounds(name, array)
    return array


def _volume(values: ArrayLike, n_bars: int) -> NDArray[np.float64]:
    array = _numbers("volume", values)
    if array.shape[0] != n_bars:
        raise DataError(f"volume must have as many rows as close ({n_bars}), got {array.shape[0]}")
    bad = ~(np.isfinite(array) & (array >= 0))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"volume must be finite and >= 0, got {array[row]} (row {row})")
    if (array > MOST).any():
        row = int((array > MOST).argmax())
        raise DataError(f"volume must be <= {MOST:g}, got {array[row]} (row {row})")
    return array


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = as_array(name, values, DataError)
    if array.ndim != 1:
        raise DataError(f"{name} must have 1 dimension, got shape {array.shape}")
    if array.dtype.kind not in "iufO":
        raise DataError(f"{name} must hold numbers, got dtype {array.dtype}")
    try:
        return np.ascontiguousarray(array, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{name} must hold numbers, got dtype {array.dtype}") from None


def _refuse(bad: NDArray[np.bool_], name: str, rule: str, values: NDArray[np.float64], other: NDArray[np.float64]) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{name} must be {rule}, got {values[row]} against {other[row]} (row {row})")


def _index(values: ArrayLike, n_bars: int) -> NDArray[np.datetime64]:
    index = as_array("index", values, DataError)
    if index.dtype.kind != "M":
        raise DataError(f"index must hold dates (datetime64), got dtype {index.dtype}")
    if index.shape != (n_bars,):
        raise DataError(f"index must have as many rows as close ({n_bars}), got shape {index.shape}")
    if np.isnat(index).any():
        raise DataError(f"index must have no missing date, got NaT (row {int(np.isnat(index).argmax())})")
    seconds = index.astype("datetime64[s]")
    far = (seconds < EARLIEST) | (seconds > LATEST)
    if far.any():  # NumPy would wrap around silently
        raise DataError(f"index must be between {EARLIEST} and {LATEST}, got {index[far][0]} (row {int(far.argmax())})")
    index = index.astype("datetime64[ns]")
    steps = np.diff(index.astype(np.int64))
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        rule = "without duplicates" if steps[row - 1] == 0 else "sorted, oldest first"
        hint = "; it runs newest first throughout, so reverse the rows" if (steps < 0).all() else ""
        raise DataError(f"index must be {rule}, got {index[row]} after {index[row - 1]} (row {row}){hint}")
    return index


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A read-only copy, independent of the caller's array."""
    copy = np.array(array, copy=True, order="C")
    copy.flags.writeable = False
    return copy

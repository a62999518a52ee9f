"""Trades: fills -> completed trades and open positions -> statistics.  The only implementation of trades in the library."""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import InputError, as_array, check_prices, choice, known_names, matrix, number, price_bounds, vector
from backtest._said import shown
from backtest.files.times import times_asked, times_of_rows
from backtest.labels import check_alike
from backtest.metrics import ZERO_VARIANCE
from backtest.periods import NS_PER_DAY

if TYPE_CHECKING:
    import pandas as pd

#: Why a fill closed, by code.
REASONS = ("", "signal", "reverse", "stop", "target", "trail", "time", "end", "bust", "delisted")
#: Where in its bar a fill happened, by code.
MOMENTS = ("open", "inside", "close")

_INT, _FLOAT = np.int64, np.float64
#: One executed order; the struct Fill in ext/_records.pxd.
FILL = np.dtype(
    [
        ("decision_bar", _INT),
        ("fill_bar", _INT),
        ("moment", _INT),
        ("asset", _INT),
        ("units", _FLOAT),
        ("price", _FLOAT),
        ("value", _FLOAT),
        ("cost", _FLOAT),
        ("cash_before", _FLOAT),
        ("cash_after", _FLOAT),
        ("position_before", _FLOAT),
        ("position_after", _FLOAT),
        ("reason", _INT),
        ("ambiguous", _INT),
        ("stop", _FLOAT),
        ("target", _FLOAT),
        ("trail", _FLOAT),
        ("equity", _FLOAT),
        ("written_off", _FLOAT),
    ]
)
#: One completed trade; the struct Trade.
TRADE = np.dtype(
    [
        ("asset", _INT),
        ("side", _INT),
        ("decision_bar", _INT),
        ("entry_bar", _INT),
        ("exit_bar", _INT),
        ("units", _FLOAT),
        ("entry_price", _FLOAT),
        ("exit_price", _FLOAT),
        ("stop", _FLOAT),
        ("target", _FLOAT),
        ("trail", _FLOAT),
        ("entry_value", _FLOAT),
        ("entry_cost", _FLOAT),
        ("exit_cost", _FLOAT),
        ("borrow_cost", _FLOAT),
        ("gross_profit", _FLOAT),
        ("net_profit", _FLOAT),
        ("return_", _FLOAT),
        ("mfe", _FLOAT),
        ("mae", _FLOAT),
        ("is_uncertain", _INT),
        ("reason", _INT),
        ("ambiguous", _INT),
        ("equity", _FLOAT),
        ("written_off", _FLOAT),
    ]
)
#: One open position; the struct Position.
POSITION = np.dtype(
    [
        ("side", _INT),
        ("decision_bar", _INT),
        ("entry_bar", _INT),
        ("bar", _INT),
        ("moment", _INT),
        ("units", _FLOAT),
        ("price", _FLOAT),
        ("entry_cost", _FLOAT),
        ("borrow_cost", _FLOAT),
        ("mfe", _FLOAT),
        ("mae", _FLOAT),
        ("stop", _FLOAT),
        ("target", _FLOAT),
        ("equity", _FLOAT),
    ]
)
#: Trades of one side, added up; the struct TradeSums.
TRADE_SUMS = np.dtype(
    [
        (name, _FLOAT)
        for name in (
            "n_trades",
            "n_winners",
            "n_losers",
            "costs",
            "net_profit",
            "won",
            "lost",
            "largest_profit",
            "largest_loss",
            "sum_return",
            "sum_return_2",
            "sum_mfe",
            "sum_mae",
            "sum_bars_held",
            "min_bars_held",
            "max_bars_held",
            "longest_winning_streak",
            "longest_losing_streak",
            "n_ambiguous",
            "written_off",
            "sum_days_held",
            "min_days_held",
            "max_days_held",
        )
    ]
)

#: Columns that a ledger of this library has and that follow from its others.
DERIVED = ("value", "cash_before", "cash_after", "position_before", "position_after")

#: Columns of vectorbt's order records.
VECTORBT = ("id", "col", "idx", "size", "price", "fees", "side")

DAYS_PER_MONTH = 30.44

#: Rows of :meth:`Trades.statistics`: key -> title.
STATISTICS = {
    "n_trades": "Completed trades",
    "n_winners": "Winners (net profit > 0)",
    "n_losers": "Losers (net profit < 0)",
    "win_rate": "Win rate",
    "costs_paid": "Costs paid",
    "net_profit": "Net profit",
    "largest_profit": "Largest profit",
    "largest_loss": "Largest loss",
    "mean_profit": "Mean profit of winners",
    "mean_loss": "Mean loss of losers",
    "mean_net_profit": "Mean net profit",
    "reward_risk": "Reward / risk",
    "profit_factor": "Profit factor",
    "expectancy": "Expectancy (mean return)",
    "sqn": "System quality number",
    "longest_winning_streak": "Longest winning streak",
    "longest_losing_streak": "Longest losing streak",
    "mean_mfe": "Mean MFE",
    "mean_mae": "Mean MAE",
    "min_bars_held": "Shortest (bars)",
    "mean_bars_held": "Mean (bars)",
    "max_bars_held": "Longest (bars)",
    "min_days_held": "Shortest (days)",
    "mean_days_held": "Mean (days)",
    "max_days_held": "Longest (days)",
    "information_score": "Information score",
    "trades_per_month": "Trades per month",
    "n_ambiguous": "Ambiguous trades",
    "written_off": "Written off",
}


class Trades:
    """Completed trades and open positions of a ledger.

    Attributes
    ----------
    records : ndarray of TRADE
        Completed trades in order of exit.
    positions : ndarray of POSITION
        Per asset; ``side`` is 0 where nothing is open.
    """

    def __init__(
        self,
        records: NDArray[Any],
        positions: NDArray[Any],
        close: NDArray[np.float64],
        times: Any,
        bars: tuple[int, int],
        assets: tuple[Any, ...] | None,
    ) -> None:
        self.records, self.positions = records, positions
        self._close, self._times, self._assets = close, times, assets
        self._first, self._last = bars

    def __len__(self) -> int:
        return len(self.records)

    def __repr__(self) -> str:
        net, n_open = float(np.add.reduce(self.records["net_profit"])), int(np.count_nonzero(self.positions["side"]))
        return f"Trades({len(self):,} completed, net profit {net:,.2f}; {n_open:,} open)"

    @property
    def table(self) -> pd.DataFrame:
        """Completed trades, one a row; see ``docs/definitions.md`` for the columns."""
        import pandas as pd

        t = self.records
        columns: dict[str, Any] = {} if self._assets is None else {"asset": self._asset_names(t["asset"])}
        columns["side"] = np.where(t["side"] > 0, "long", "short")
        for name in ("decision", "entry", "exit"):
            columns[f"{name}_bar"] = t[f"{name}_bar"]
        for name in ("decision", "entry", "exit"):
            columns[f"{name}_time"] = self._times[t[f"{name}_bar"]]
        for name in (
            "entry_price",
            "exit_price",
            "stop",
            "target",
            "trail",
            "units",
            "entry_value",
            "entry_cost",
            "exit_cost",
            "borrow_cost",
            "gross_profit",
            "net_profit",
        ):
            columns[name] = t[name]
        columns |= {
            "return": t["return_"],
            "mfe": t["mfe"],
            "mae": t["mae"],
            "excursion_uncertain": t["is_uncertain"] != 0,
            "bars_held": t["exit_bar"] - t["entry_bar"],
            "duration": self._times[t["exit_bar"]] - self._times[t["entry_bar"]],
            "exit_reason": [REASONS[code] for code in t["reason"]],
            "ambiguous": t["ambiguous"] != 0,
            "equity": t["equity"],
            "written_off": t["written_off"],
        }
        return pd.DataFrame(columns)

    @property
    def open_positions(self) -> pd.DataFrame:
        """Positions open at the last bar, valued at its close; not part of the statistics."""
        import pandas as pd

        assets = np.flatnonzero(self.positions["side"])
        p = self.positions[assets]
        last_close = self._close[assets, self._last - 1] if len(assets) else np.empty(0)
        columns: dict[str, Any] = {} if self._assets is None else {"asset": self._asset_names(assets)}
        columns |= {
            "side": np.where(p["side"] > 0, "long", "short"),
            "entry_bar": p["entry_bar"],
            "entry_time": self._times[p["entry_bar"]],
            "entry_price": p["price"],
            "units": p["units"],
            "entry_cost": p["entry_cost"],
            "borrow_cost": p["borrow_cost"],
            "stop": p["stop"],
            "target": p["target"],
            "last_price": last_close,
            "gross_profit": p["units"] * (last_close - p["price"]),
            "mfe": p["mfe"],
            "mae": p["mae"],
            "bars_held": self._last - 1 - p["entry_bar"],
        }
        return pd.DataFrame(columns)

    def _asset_names(self, assets: NDArray[np.int64]) -> list[Any]:
        assert self._assets is not None
        return [self._assets[asset] for asset in assets]

    def sums(self) -> NDArray[Any]:
        """Trades added up: all, long, short; ndarray of TRADE_SUMS, shape (3,)."""
        sums, nanos = np.zeros(3, dtype=TRADE_SUMS), nanos_of(self._times)
        _backend.kernel("trades").summarise(self.records, NO_TIMES if nanos is None else nanos, sums)
        return sums

    def statistics(self) -> pd.DataFrame:
        """Statistics of completed trades: one row per statistic, columns All, Long, Short.

        Counts of nothing are 0, means of nothing NaN.
        """
        return statistics_frame(STATISTICS, statistics_of(self.sums(), months_of(nanos_of(self._times), self._first, self._last)))

    def to_dict(self) -> dict[str, dict[str, float | None]]:
        """The statistics as plain numbers, by side and key, for JSON: what is undefined or infinite is None."""
        return plain_numbers(self.statistics())


_Sums = namedtuple("_Sums", TRADE_SUMS.names or ())  # type: ignore[misc]  # the names are those of the struct


def statistics_of(sums: NDArray[Any], months: float) -> list[tuple[float, float, float]]:
    """Statistics from sums: for each of STATISTICS its values of all, long and short trades."""
    # Plain floats: arrays of three numbers cost four times as much.
    return list(zip(*(_statistics_of_side(_Sums._make(row), months) for row in sums.tolist()), strict=True))


def _statistics_of_side(s: Any, months: float) -> tuple[float, ...]:
    n = s.n_trades
    none, undated = 0.0 if n > 0 else math.nan, 0.0 if months == months else math.nan
    mean_profit, mean_loss = ratio(s.won, s.n_winners), -ratio(s.lost, s.n_losers)
    mean, square = ratio(s.sum_return, n), ratio(s.sum_return_2, n)
    variance = square - mean * mean
    deviation = math.sqrt(variance) if variance > ZERO_VARIANCE * square else math.nan  # else it is rounding only
    sample = deviation * math.sqrt(ratio(n, n - 1.0)) if n > 1 else math.nan
    values = {
        "n_trades": n,
        "n_winners": s.n_winners,
        "n_losers": s.n_losers,
        "win_rate": ratio(s.n_winners, n),
        "costs_paid": s.costs,
        "net_profit": s.net_profit,
        "largest_profit": s.largest_profit + none,
        "largest_loss": s.largest_loss + none,
        "mean_profit": mean_profit,
        "mean_loss": mean_loss,
        "mean_net_profit": ratio(s.net_profit, n),
        "reward_risk": abs(ratio(mean_profit, mean_loss)),
        "profit_factor": ratio(s.won, s.lost),
        "expectancy": mean,
        "sqn": ratio(math.sqrt(n) * mean, sample),
        "longest_winning_streak": s.longest_winning_streak,
        "longest_losing_streak": s.longest_losing_streak,
        "mean_mfe": ratio(s.sum_mfe, n),
        "mean_mae": ratio(s.sum_mae, n),
        "min_bars_held": s.min_bars_held + none,
        "mean_bars_held": ratio(s.sum_bars_held, n),
        "max_bars_held": s.max_bars_held + none,
        "min_days_held": s.min_days_held + undated + none,
        "mean_days_held": ratio(s.sum_days_held, n) + undated,
        "max_days_held": s.max_days_held + undated + none,
        "information_score": ratio(mean, deviation) if n > 1 else math.nan,
        "trades_per_month": ratio(n, months),
        "n_ambiguous": s.n_ambiguous,
        "written_off": s.written_off,
    }
    return tuple(map(values.__getitem__, STATISTICS))


def ratio(numerator: float, denominator: float) -> float:
    """A quotient as IEEE 754 has it: undefined or infinite where Python would raise."""
    if denominator:
        return numerator / denominator
    return numerator * math.inf if numerator and numerator == numerator else math.nan


@functools.cache
def _labels(keys: tuple[str, ...]) -> tuple[pd.Index[str], pd.Index[str]]:
    import pandas as pd

    return pd.Index(list(keys), name="statistic"), pd.Index(["All", "Long", "Short"])


def statistics_frame(keys: Iterable[str], values: Sequence[tuple[float, float, float]]) -> pd.DataFrame:
    """A table of statistics: one row per key, columns All, Long, Short."""
    import pandas as pd

    index, columns = _labels(tuple(keys))
    return pd.DataFrame(np.array(values), index=index, columns=columns, copy=False)


def plain_numbers(frame: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """A table of numbers as dicts by column and row; what JSON cannot hold is None."""
    return {
        str(column): {
            str(key): value if math.isfinite(value) else None
            for key, value in zip(frame.index, frame[column].tolist(), strict=True)
        }
        for column in frame
    }


NO_TIMES: NDArray[np.int64] = np.empty(0, dtype=np.int64)


def nanos_of(times: Any) -> NDArray[np.int64] | None:
    """A pandas index of dates as nanoseconds; None if it holds no dates."""
    if not hasattr(times, "asi8"):
        return None
    nanos: NDArray[np.int64] = times.asi8 * {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[times.unit]
    return nanos


def months_of(nanos: NDArray[np.int64] | None, first: int, last: int) -> float:
    """Months from bar ``first`` to the bar before ``last``; NaN without dates."""
    return np.nan if nanos is None else float(nanos[last - 1] - nanos[first]) / (NS_PER_DAY * DAYS_PER_MONTH)


def track(
    ledger: NDArray[Any],
    *,
    close: NDArray[np.float64],
    times: Any,
    open: NDArray[np.float64] | None = None,
    high: NDArray[np.float64] | None = None,
    low: NDArray[np.float64] | None = None,
    borrow_per_bar: float = 0.0,
    first: int = 0,
    last: int | None = None,
    assets: tuple[Any, ...] | None = None,
) -> Trades:
    """Trades of a ledger that is known to be in order, traded on the bars ``first`` to ``last``.

    Prices are (n_assets, n_bars), ``times`` a pandas index.
    """
    nothing = np.empty((0, 0))
    last = close.shape[1] if last is None else last
    positions, trades = np.zeros(close.shape[0], dtype=POSITION), np.empty(max(len(ledger), 1), dtype=TRADE)
    n_trades = _backend.kernel("trades").track(
        ledger,
        nothing if open is None else open,
        nothing if high is None else high,
        nothing if low is None else low,
        close,
        borrow_per_bar,
        last,
        positions,
        trades,
    )
    return Trades(trades[:n_trades], positions, close, times, (first, last), assets)


def track_trades(
    ledger: Any,
    *,
    close: ArrayLike,
    open: ArrayLike | None = None,
    high: ArrayLike | None = None,
    low: ArrayLike | None = None,
    index: Any = None,
    borrow_per_bar: float = 0.0,
) -> Trades:
    """Completed trades and open positions of any engine's ledger.

    Parameters
    ----------
    ledger : DataFrame, mapping of columns or structured array
        vectorbt's order records (``portfolio.orders.records``, ``portfolio.orders.values``), ``book.ledger``, or a table of
        your own: one executed order a row, in order of execution.  ``fill_bar``, ``units`` (signed: bought > 0) and ``price`` are
        needed, and ``asset`` if ``close`` has several columns (the label of its column, of an array its number); ``cost``,
        ``decision_bar``, ``moment`` ("open", "inside" or "close" of the bar; close by default), ``stop`` and ``target`` (of
        the order that opens), ``trail`` (of the one that closes), ``reason``, ``ambiguous`` and ``equity`` may be there.
    close : array_like, shape (n_bars,) or (n_bars, n_assets)
        Prices that positions are valued at, where there is none (NaN) at the last one before; a DataFrame brings labels and
        times.
    open, high, low : array_like, optional
        Same shape.  With ``high`` and ``low``, MFE and MAE use the bars' extremes; with ``close`` alone the closes.
    index : array_like of datetime64, optional
        Time of each bar; ``close.index`` by default, if it holds dates.
    borrow_per_bar : float
        Cost of a short per bar, as a share of its value.

    Returns
    -------
    Trades
        ``.table``, ``.open_positions``, ``.statistics()``.

    Raises
    ------
    InputError
        A column is missing or unknown, a bar is out of range or out of order, a price is not > 0 (in the ledger 0 stands for
        what was written off, reason ``"delisted"``), units are 0.
    """
    import pandas as pd

    if index is None and isinstance(close, (pd.DataFrame, pd.Series)):
        index = times_of_rows(close.index)
    labels: tuple[Any, ...] | None = tuple(close.columns) if isinstance(close, pd.DataFrame) else None
    prices: dict[str, Any] = {
        name: _price_matrix(name, values)
        for name, values in (("close", close), ("open", open), ("high", high), ("low", low))
        if name == "close" or values is not None
    }
    if ("high" in prices) != ("low" in prices):
        raise InputError("high and low must be given together, got one of them")
    shape = prices["close"].shape
    for name, each in prices.items():
        if each.shape != shape:
            raise InputError(f"{name} must have the shape of close {shape[::-1]}, got {each.shape[::-1]}")
    check_alike({"close": close, "open": open, "high": high, "low": low})
    for name, values in (("open", open), ("high", high), ("low", low)):
        found = None if labels is None or not hasattr(values, "columns") else tuple(values.columns)  # type: ignore[union-attr]
        if found is not None and found != labels:
            raise InputError(f"{name} must have the columns of close, got {found} for {labels}; {name}[close.columns] has")
    if labels is None and shape[0] > 1:
        labels = tuple(range(shape[0]))
    for name, each in prices.items():
        check_prices(name, each.T, labels)
    prices["close"] = _last_valid(prices["close"])
    times = pd.RangeIndex(shape[1]) if index is None else times_asked("index", index)
    if len(times) != shape[1]:
        raise InputError(f"index must have one time per bar ({shape[1]}), got {len(times)}")
    return track(
        _ledger(ledger, shape[1], shape[0], labels),
        times=times,
        assets=labels,
        borrow_per_bar=number("borrow_per_bar", borrow_per_bar, low=0.0),
        **prices,
    )


def _dates(index: Any) -> Any:
    import pandas as pd

    try:
        if isinstance(index, pd.DatetimeIndex):
            return index
        if as_array("index", index).ndim == 1:
            return pd.DatetimeIndex(index)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"index must hold dates, got {shown(index)}")


def _price_matrix(name: str, values: Any) -> NDArray[np.float64]:
    shape = as_array(name, values).shape
    if len(shape) not in (1, 2) or shape[0] == 0:
        raise InputError(f"{name} must have shape (n_bars,) or (n_bars, n_assets), got {shape}")
    if len(shape) == 1:
        return vector(name, values, finite=False)[None, :]
    return np.ascontiguousarray(matrix(name, values, finite=False).T)


def _last_valid(prices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Prices (n_assets, n_bars), where there is none the last one before."""
    is_price = prices > 0
    if is_price.all():
        return prices
    bars = np.maximum.accumulate(np.where(is_price, np.arange(prices.shape[1]), 0), axis=1)
    return np.ascontiguousarray(np.take_along_axis(prices, bars, axis=1))


def _ledger(given: Any, n_bars: int, n_assets: int, labels: tuple[Any, ...] | None) -> NDArray[Any]:
    import pandas as pd

    if isinstance(given, np.ndarray) and given.dtype.names:
        given = {name: given[name] for name in given.dtype.names}
    if not isinstance(given, (pd.DataFrame, Mapping)):
        raise InputError(f"ledger must be a DataFrame, a mapping of columns or a structured array, got {type(given).__name__}")
    columns = {
        name: as_array(f"ledger column {shown(name)}", given[name])
        for name in (given.columns if isinstance(given, pd.DataFrame) else given)
    }
    if set(VECTORBT) <= set(columns):
        columns = _from_vectorbt(columns, labels)
    known = (
        "fill_bar",
        "units",
        "price",
        "asset",
        "cost",
        "decision_bar",
        "moment",
        "stop",
        "target",
        "trail",
        "reason",
        "ambiguous",
        "equity",
        "written_off",
        *DERIVED,
    )
    known_names("ledger column", columns, known)
    for name in known[:3]:
        if name not in columns:
            raise InputError(f"ledger must have a column {shown(name)}, got {', '.join(columns)}")
    if n_assets > 1 and "asset" not in columns:
        raise InputError(f"ledger must have a column 'asset' where close has {n_assets} columns, got {', '.join(columns)}")
    for name, values in columns.items():
        if values.ndim != 1:
            raise InputError(f"ledger column {name!r} must have a value for each order, got shape {values.shape}")
    n = len(columns["units"])
    ledger = np.zeros(n, dtype=FILL)
    for name in ("stop", "target", "trail", "equity"):
        ledger[name] = np.nan
    for name, values in columns.items():
        if name in DERIVED:
            continue
        if values.shape != (n,):
            raise InputError(f"ledger column {shown(name)} must have {n} rows, got shape {values.shape}")
        if name == "moment":
            ledger[name] = [MOMENTS.index(choice("moment", value, MOMENTS)) for value in values.tolist()]
        elif name == "reason":
            ledger[name] = [REASONS.index(choice("reason", value, REASONS)) for value in values.tolist()]
        elif name == "asset" and labels is not None:
            at = {label: column for column, label in enumerate(labels)}
            known_names("asset", [value for value in values.tolist() if value not in at][:1], [str(label) for label in labels])
            ledger[name] = [at[value] for value in values.tolist()]
        else:
            ledger[name] = _column(name, values)
    if "moment" not in columns:
        ledger["moment"] = MOMENTS.index("close")
    if "decision_bar" not in columns:
        ledger["decision_bar"] = ledger["fill_bar"]
    ledger["value"] = ledger["units"] * ledger["price"]
    _rows(ledger, "fill_bar", (ledger["fill_bar"] < 0) | (ledger["fill_bar"] >= n_bars), f"from 0 to {n_bars - 1}")
    _rows(ledger, "asset", (ledger["asset"] < 0) | (ledger["asset"] >= n_assets), f"from 0 to {n_assets - 1}")
    is_gone = (ledger["reason"] == REASONS.index("delisted")) & (ledger["price"] == 0)
    _rows(ledger, "price", ~(np.isfinite(ledger["price"]) & (ledger["price"] > 0) | is_gone), "finite and > 0")
    price_bounds("ledger column 'price'", ledger["price"], InputError)
    _rows(ledger, "units", ~np.isfinite(ledger["units"]) | (ledger["units"] == 0), "finite and not 0")
    _rows(ledger, "cost", ~(ledger["cost"] >= 0) | (ledger["cost"] == math.inf), "finite and >= 0")
    _rows(
        ledger,
        "decision_bar",
        (ledger["decision_bar"] < 0) | (ledger["decision_bar"] > ledger["fill_bar"]),
        "from 0 to the fill_bar",
    )
    order = ledger["fill_bar"] * len(MOMENTS) + ledger["moment"]
    _rows(ledger, "fill_bar", np.diff(order, prepend=order[:1]) < 0, "in order of execution")
    return ledger


def _column(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A column as numbers; of bars as whole ones."""
    if values.dtype.kind in "Mm":
        raise InputError(
            f"ledger column {name!r} must hold numbers, got dates; close.index.get_indexer(dates) gives the numbers of their bars"
        )
    if values.dtype.kind in "iub":
        return values
    numbers = vector(f"ledger column {name!r}", values, finite=False)
    if FILL[name].kind == "f":
        return np.where(np.isnan(numbers), np.nan, numbers)  # the one NaN, whatever sign arithmetic gave it
    wrong = ~np.isfinite(numbers) | (numbers != np.floor(numbers))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(f"ledger column {shown(name)} must hold whole numbers, got {numbers[row]} (row {row})")
    return numbers.astype(np.int64)


def _from_vectorbt(records: dict[str, NDArray[Any]], labels: tuple[Any, ...] | None) -> dict[str, NDArray[Any]]:
    """vectorbt's order records (``portfolio.orders.records``) as columns of a ledger, in order of execution."""
    known_names("column of vectorbt's order records", records, VECTORBT)
    order = np.lexsort((records["id"], records["idx"]))
    columns, sides = records["col"][order], records["side"][order]
    if not np.isin(sides, (0, 1)).all():
        raise InputError(f"column 'side' of vectorbt's order records must hold 0 (buy) and 1 (sell), got {sides.tolist()[:3]}")
    assets = columns
    if labels is not None:
        if len(columns) and not 0 <= columns.min() <= columns.max() < len(labels):
            raise InputError(f"column 'col' of vectorbt's order records must be from 0 to {len(labels) - 1}, got {columns.max()}")
        assets = np.empty(len(columns), dtype=object)
        assets[:] = [labels[column] for column in columns.tolist()]
    return {
        "fill_bar": records["idx"][order],
        "units": np.where(sides == 0, 1.0, -1.0) * records["size"][order],
        "price": records["price"][order],
        "asset": assets,
        "cost": records["fees"][order],
    }


def _rows(ledger: NDArray[Any], name: str, bad: NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"ledger column {shown(name)} must be {rule}, got {ledger[name][row]} (row {row})")

"""``bt.track_trades``: checks the ledger of any engine and makes trades and open positions of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import InputError, as_array, check_prices, choice, known_names, matrix, number, price_bounds, vector
from backtest._said import shown
from backtest.files.times import times_asked, times_of_rows
from backtest.labels import check_alike
from backtest.records import FILL, MOMENTS, REASONS, STATUSES
from backtest.trades import Trades, track

#: Columns of this library's orders that follow from the others; not read.
DERIVED = ("value", "cash_before", "cash_after", "position_before", "position_after")
#: More columns of a table of ``orders``.
OF_ORDERS = ("time", "side", "status")
#: Columns that are read; the first three are required.
COLUMNS = (
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
)

#: Columns of vectorbt's order records.
VECTORBT = ("id", "col", "idx", "size", "price", "fees", "side")


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
        ``orders`` or ``fills`` of a :class:`backtest.Simulation`, vectorbt's order records (``portfolio.orders.records``,
        ``portfolio.orders.values``), or a table of your own: one executed order a row, in order of execution.
        ``fill_bar``, ``units`` (signed: bought > 0) and ``price`` are needed, and ``asset`` if ``close`` has several columns
        (the label of its column, of an array its number); ``cost``, ``decision_bar``, ``moment`` ("open", "inside" or "close"
        of the bar; close by default), ``stop`` and ``target`` (of the order that opens), ``trail`` (of the one that closes),
        ``reason``, ``ambiguous`` and ``equity`` may be there.
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
        columns = None if labels is None or not hasattr(values, "columns") else tuple(values.columns)  # type: ignore[union-attr]
        if columns is not None and columns != labels:
            raise InputError(
                f"{name} must have the columns of close, got {columns} for {labels}; {name}[close.columns] reorders them"
            )
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
    """Executed orders, checked, as an ndarray of FILL."""
    columns = _columns(given, labels)
    if n_assets > 1 and "asset" not in columns:
        raise InputError(f"ledger must have a column 'asset' where close has {n_assets} columns, got {', '.join(columns)}")
    n = len(columns["units"])
    ledger = np.zeros(n, dtype=FILL)
    for name in ("stop", "target", "trail", "equity"):
        ledger[name] = np.nan
    for name, values in columns.items():
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
    _check(ledger, n_bars, n_assets)
    return ledger


def _columns(given: Any, labels: tuple[Any, ...] | None) -> dict[str, NDArray[Any]]:
    """The columns that are read, with executed orders only."""
    import pandas as pd

    if isinstance(given, np.ndarray) and given.dtype == FILL:
        given = _from_fills(given, labels)
    elif isinstance(given, np.ndarray) and given.dtype.names:
        given = {name: given[name] for name in given.dtype.names}
    if not isinstance(given, (pd.DataFrame, Mapping)):
        raise InputError(f"ledger must be a DataFrame, a mapping of columns or a structured array, got {type(given).__name__}")
    columns = {
        name: as_array(f"ledger column {shown(name)}", given[name])
        for name in (given.columns if isinstance(given, pd.DataFrame) else given)
    }
    if set(VECTORBT) <= set(columns):
        columns = _from_vectorbt(columns, labels)
    known_names("ledger column", columns, (*COLUMNS, *DERIVED, *(OF_ORDERS if "status" in columns else ())))
    for name in COLUMNS[:3]:
        if name not in columns:
            raise InputError(f"ledger must have a column {shown(name)}, got {', '.join(columns)}")
    for name, values in columns.items():
        if values.ndim != 1:
            raise InputError(f"ledger column {name!r} must have a value for each order, got shape {values.shape}")
    return _executed({name: values for name, values in columns.items() if name in COLUMNS or name == "status"})


def _executed(columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A table of ``orders`` without those that were not executed, and with the reasons of fills."""
    status = columns.pop("status", None)
    if status is not None:
        is_filled = np.array([choice("status", value, STATUSES) == "filled" for value in status.tolist()], dtype=np.bool_)
        columns = {
            name: values[is_filled] if values.shape == is_filled.shape else values  # another length is refused later
            for name, values in columns.items()
        }
    if "reason" in columns:
        reasons = columns["reason"].astype(object)
        columns["reason"] = np.where(reasons == "entry", "", reasons)
    return columns


def _from_fills(fills: NDArray[Any], labels: tuple[Any, ...] | None) -> dict[str, Any]:
    """Our own records, with names instead of codes."""
    columns: dict[str, Any] = {name: fills[name] for name in COLUMNS}
    for name, names in (("moment", MOMENTS), ("reason", REASONS), ("asset", labels)):
        if names is not None:
            codes = fills[name]
            _refuse_rows(fills, name, (codes < 0) | (codes >= len(names)), f"from 0 to {len(names) - 1}")
            columns[name] = np.empty(len(codes), dtype=object)
            columns[name][:] = [names[code] for code in codes.tolist()]
    return columns


def _check(ledger: NDArray[Any], n_bars: int, n_assets: int) -> None:
    """Refuse rows that no engine can have executed."""
    _refuse_rows(ledger, "fill_bar", (ledger["fill_bar"] < 0) | (ledger["fill_bar"] >= n_bars), f"from 0 to {n_bars - 1}")
    _refuse_rows(ledger, "asset", (ledger["asset"] < 0) | (ledger["asset"] >= n_assets), f"from 0 to {n_assets - 1}")
    is_written_off = (ledger["reason"] == REASONS.index("delisted")) & (ledger["price"] == 0)
    _refuse_rows(ledger, "price", ~(np.isfinite(ledger["price"]) & (ledger["price"] > 0) | is_written_off), "finite and > 0")
    price_bounds("ledger column 'price'", ledger["price"], InputError)
    _refuse_rows(ledger, "units", ~np.isfinite(ledger["units"]) | (ledger["units"] == 0), "finite and not 0")
    _refuse_rows(ledger, "cost", ~(ledger["cost"] >= 0) | (ledger["cost"] == math.inf), "finite and >= 0")
    _refuse_rows(
        ledger,
        "decision_bar",
        (ledger["decision_bar"] < 0) | (ledger["decision_bar"] > ledger["fill_bar"]),
        "from 0 to the fill_bar",
    )
    order = ledger["fill_bar"] * len(MOMENTS) + ledger["moment"]
    _refuse_rows(ledger, "fill_bar", np.diff(order, prepend=order[:1]) < 0, "in order of execution")


def _column(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """A column as numbers, whole ones where the record has integers."""
    if values.dtype.kind in "Mm":
        raise InputError(
            f"ledger column {name!r} must hold numbers, got dates; close.index.get_indexer(dates) gives the numbers of their bars"
        )
    if values.dtype.kind in "iub":
        return values
    numbers = vector(f"ledger column {name!r}", values, finite=False)
    if FILL[name].kind == "f":
        return np.where(np.isnan(numbers), np.nan, numbers)  # one bit pattern for every NaN
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


def _refuse_rows(ledger: NDArray[Any], name: str, bad: NDArray[np.bool_], rule: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise InputError(f"ledger column {shown(name)} must be {rule}, got {ledger[name][row]} (row {row})")

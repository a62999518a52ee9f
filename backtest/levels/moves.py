"""Moves of a problem of levels: validation, prices to moves, moves to rows of the kernel, rows to a DataFrame; ticks."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import DataError, InputError, as_array, number, price_bounds, vector
from backtest._said import shown
from backtest.labels import check_alike, check_beside
from backtest.level_rows import (
    AMBIGUOUS,
    AT_CLOSE,
    AT_LIMIT,
    CLOSE,
    ENTRY,
    ENTRY_LEVEL,
    ENTRY_PRED,
    EXIT,
    EXIT_KIND,
    EXIT_PRED,
    FILLED,
    NONE,
    OPTIMISTIC_LEVEL,
    PESSIMISTIC_LEVEL,
    PROFIT,
    SIDE,
    WEIGHT,
)

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

MOVES = ("close", "high", "low", "high_pred", "low_pred")
#: What a size means, for the error that refuses a boolean array.
SIZES = {
    "position": "signed fractions of capital (1.0 long, -1.0 short, 0.0 none)",
    "buy": "fractions of capital (1.0 or 0.0)",
    "sell": "negative fractions of capital (-1.0 or 0.0)",
}


def check_moves(
    given: Mapping[str, ArrayLike], sizes: Mapping[str, ArrayLike], valid: ArrayLike | None, door: str
) -> tuple[dict[str, Floats], Mask]:
    """The arrays as float64, 0 where not ``valid``, and the mask; refuses what is not relative moves."""
    n_bars = len(vector("close", given["close"], finite=False, error=DataError))
    check_alike({**given, **sizes, "valid": valid})
    mask = check_mask(valid, n_bars)
    checked = {name: _masked(name, value, n_bars, mask) for name, value in given.items()}
    checked |= {name: _size(name, value, n_bars, mask) for name, value in sizes.items()}
    for name in MOVES:
        far = np.nonzero(np.abs(checked[name]) > 1.0)[0]
        if len(far):
            raise DataError(f"{name}: relative moves expected, got {checked[name][far[0]]} (row {far[0]}); use {door}.from_bars")
    crossed = np.nonzero(checked["low"] > checked["high"])[0]
    if len(crossed):
        row = crossed[0]
        raise DataError(f"low must be <= high, got low {checked['low'][row]} and high {checked['high'][row]} (row {row})")
    return checked, mask


def check_mask(valid: ArrayLike | None, n_bars: int) -> Mask:
    """``valid`` as a boolean vector; None is all."""
    if valid is None:
        return np.ones(n_bars, dtype=bool)
    mask = as_array("valid", valid)
    if mask.dtype != bool or mask.shape != (n_bars,):
        raise InputError(f"valid must be a boolean array of length {n_bars}, got dtype {mask.dtype} and shape {mask.shape}")
    return mask


def _masked(name: str, value: ArrayLike, n_bars: int, mask: Mask) -> Floats:
    if mask.all():
        return vector(name, value, length=n_bars, error=DataError)
    loose = vector(name, value, length=n_bars, finite=False, error=DataError)
    return vector(name, np.where(mask, loose, 0.0), error=DataError)


def _size(name: str, value: ArrayLike, n_bars: int, mask: Mask) -> Floats:
    if as_array(name, value, DataError).dtype == bool:
        raise DataError(
            f"{name} must hold {SIZES[name]}, got a boolean array; pass {name}.astype(float){' * -1.0' if name == 'sell' else ''}"
        )
    return _masked(name, value, n_bars, mask)


def refuse(bad: Mask, name: str, rule: str, values: Floats) -> None:
    """An error that names the first bad row, if there is one."""
    rows = np.nonzero(bad)[0]
    if len(rows):
        raise DataError(f"{name} {rule}, got {values[rows[0]]} (row {rows[0]})")


def check_bounds(bounds: Any) -> Floats:
    """((lowest, highest h), (lowest, highest l)) as the four numbers the kernel takes."""
    try:
        (low_h, high_h), (low_l, high_l) = bounds
    except (TypeError, ValueError):
        raise InputError(f"bounds must be ((lowest, highest h), (lowest, highest l)), got {shown(bounds)}") from None
    pairs = {
        "h": (number("bounds of h", low_h), number("bounds of h", high_h)),
        "l": (number("bounds of l", low_l), number("bounds of l", high_l)),
    }
    for name, (low, high) in pairs.items():
        if low > high:
            raise InputError(f"bounds of {name} must be (lowest, highest), got ({low}, {high})")
    return np.array([*pairs["h"], *pairs["l"]]) + 0.0  # no minus zero


def moves_from_bars(
    bars: Any,
    reference: str | ArrayLike,
    forecasts: str,
    predictions: dict[str, ArrayLike],
    sizes: Mapping[str, ArrayLike],
    valid: ArrayLike | None,
) -> tuple[dict[str, Floats], Mask, Floats]:
    """Moves against the reference, the mask (without bars that have none), and the reference prices.

    Labels of all that comes with the bars (``sizes`` too) must be theirs.
    """
    for name in ("open", "high", "low", "close"):
        if not hasattr(bars, name):
            raise InputError(f"bars must have open, high, low and close, got {shown(bars)}")
    close = _prices("close", bars.close, None)
    check_beside(bars, {**predictions, **sizes, "reference": reference, "valid": valid})
    n_bars = len(close)
    mask = check_mask(valid, n_bars).copy()
    against = np.full(n_bars, np.nan)
    if isinstance(reference, str):
        if reference == "prev_close":
            against[1:] = close[:-1]
            mask[:1] = False
        elif reference == "open":
            against = _prices("open", bars.open, n_bars)
        else:
            raise InputError(f"reference must be 'prev_close', 'open' or an array of prices, got {shown(reference)}")
    else:
        against = _prices("reference", reference, n_bars)
    prices = {"close": close, "high": _prices("high", bars.high, n_bars), "low": _prices("low", bars.low, n_bars)}
    moves = {name: price / against - 1.0 for name, price in prices.items()}
    for name, value in predictions.items():
        prediction = _masked(name, value, n_bars, mask)
        if forecasts == "prices":
            # A forecast below half its reference is a move taken for a price, not a forecast.
            refuse(mask & (prediction < 0.5 * against), name, "must hold prices (or pass forecasts='moves')", prediction)
            prediction = prediction / against - 1.0
        moves[name] = prediction
    return moves, mask, against


def _prices(name: str, value: ArrayLike, n_bars: int | None) -> Floats:
    price = vector(name, value, length=n_bars, error=DataError)
    refuse(price <= 0.0, name, "must hold prices > 0", price)
    price_bounds(name, price)
    return price


def fold(
    moves: dict[str, Floats], weights: Floats, side: float, close_at_eod: bool, fill_margin: float
) -> tuple[NDArray[np.int64], Floats]:
    """Rows of the kernel for one sum, and the bar of each.

    Parameters
    ----------
    weights
        (n_bars,), signed; 0 is no row: it would add nothing, not even in the last bit.
    side
        1 keeps the longs, -1 the shorts, 0 both.
    """
    bar = np.nonzero(weights * side > 0.0 if side else weights)[0]
    weight = weights[bar]
    close, high, low, high_pred, low_pred = (moves[name][bar] for name in MOVES)
    is_long = weight > 0.0
    rows = np.empty((len(bar), 8))
    rows[:, ENTRY_PRED] = np.where(is_long, low_pred, -high_pred)
    rows[:, EXIT_PRED] = np.where(is_long, high_pred, -low_pred)
    rows[:, ENTRY_LEVEL] = np.where(is_long, low + fill_margin, -(high - fill_margin))
    rows[:, CLOSE] = np.where(is_long, close, -close)
    rows[:, WEIGHT] = np.abs(weight)
    rows[:, SIDE] = np.where(is_long, 1.0, -1.0)
    if close_at_eod:  # no exit reaches a level of minus infinity
        rows[:, OPTIMISTIC_LEVEL] = rows[:, PESSIMISTIC_LEVEL] = -np.inf
    else:
        level = np.where(is_long, high - fill_margin, -(low + fill_margin))
        rows[:, OPTIMISTIC_LEVEL] = level
        rows[:, PESSIMISTIC_LEVEL] = np.where(rows[:, CLOSE] < level, rows[:, CLOSE], level)
    return bar, rows


def on_tick(prices: Floats, tick: float, up: bool) -> Floats:
    """Prices on the next multiple of ``tick`` up or down; one that is on a tick but for rounding stays."""
    steps = prices / tick
    nearest = np.round(steps)
    away = np.ceil(steps) if up else np.floor(steps)
    steps = np.where(np.abs(steps - nearest) <= 1e-9 * np.abs(nearest), nearest, away)
    exponent = Decimal(repr(tick)).as_tuple().exponent
    return np.round(steps * tick, max(0, -int(exponent)))


def replay_frame(replayed: Floats, place: NDArray[np.int64], index: pd.Index) -> pd.DataFrame:
    """One row per entry of ``index``; those that the kernel did not see hold no fill."""
    import pandas as pd

    table = np.full((len(index), 6), (np.nan, np.nan, NONE, 0.0, 0.0, 0.0))
    table[place] = replayed
    kinds = {NONE: "none", AT_CLOSE: "close", AT_LIMIT: "limit"}
    return pd.DataFrame(
        {
            "entry": table[:, ENTRY],
            "exit": table[:, EXIT],
            "exit_kind": [kinds[int(kind)] for kind in table[:, EXIT_KIND]],
            "filled": table[:, FILLED] == 1.0,
            "ambiguous": table[:, AMBIGUOUS] == 1.0,
            "profit": table[:, PROFIT],
        },
        index=index,
    )

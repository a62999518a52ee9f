"""Ready rules that make weights, and the calendar they trade by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import InputError, bars_mask, choice, matrix, whole
from backtest.labels import check_alike

Floats = NDArray[np.float64]

#: What :func:`calendar` knows.
EVERY = ("day", "week", "month", "quarter", "year")


def calendar(times: Any, every: str) -> NDArray[np.bool_]:
    """Mask of the bars that end a day, week, month, quarter or year.

    Parameters
    ----------
    times : DatetimeIndex
        Of each bar.
    every : {"day", "week", "month", "quarter", "year"}

    Returns
    -------
    ndarray of bool, shape (n_bars,)
        The last bar ends nothing: nobody knows what comes after it.
    """
    import pandas as pd

    choice("every", every, EVERY)
    if not isinstance(times, pd.DatetimeIndex):
        raise InputError(f"times must be dates to rebalance by the {every}, got {type(times).__name__}")
    day = np.asarray((times.tz_localize(None).normalize() - pd.Timestamp("1970-01-05")).days)  # that was a Monday
    month = np.asarray(times.year * 12 + times.month - 1)
    period = {"day": day, "week": day // 7, "month": month, "quarter": month // 3, "year": month // 12}[every]
    return np.append(period[:-1] != period[1:], False)


def inverse_volatility(close: ArrayLike, lookback: int, rebalance: ArrayLike | None = None) -> Floats:
    """Weights in inverse proportion to volatility: each asset contributes about the same risk.

    Parameters
    ----------
    close : array_like, shape (n_bars, n_assets)
        What is not finite and > 0 is no price.
    lookback : int
        Returns whose standard deviation (ddof 1) counts, this bar's included; >= 2.
    rebalance : array_like of bool, shape (n_bars,), optional
        Bars to make weights for; all by default.

    Returns
    -------
    ndarray, shape (n_bars, n_assets)
        Rows that add up to 1, or 0 where no asset has ``lookback`` returns that vary; NaN where ``rebalance`` is False.
    """
    prices = matrix("close", close, finite=False)
    check_alike({"close": close, "rebalance": rebalance}, fill=", fill_value=False")
    lookback = whole("lookback", lookback, low=2)
    rows = np.arange(len(prices)) if rebalance is None else np.flatnonzero(bars_mask("rebalance", rebalance, len(prices)))
    weights = np.full(prices.shape, np.nan)
    with np.errstate(all="ignore"):
        prices = np.where((prices > 0) & np.isfinite(prices), prices, np.nan)
        returns = np.full(prices.shape, np.nan)
        returns[1:] = prices[1:] / prices[:-1] - 1.0
        for row in rows:
            inverse = np.zeros(prices.shape[1])
            if row >= lookback:
                deviation = returns[row - lookback + 1 : row + 1].std(axis=0, ddof=1)
                inverse = np.where(deviation > 0, 1.0 / deviation, 0.0)  # NaN compares false
            total = inverse.sum()
            weights[row] = inverse / total if total > 0 else inverse
    return weights

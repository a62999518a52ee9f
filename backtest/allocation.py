"""Ready rules from prices to target weights, and calendars of rebalancing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import InputError, bars_mask, check_prices, choice, matrix, whole
from backtest.labels import check_alike

Floats = NDArray[np.float64]

#: Periods of :func:`calendar`.
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
        False on the last bar: whether it ends a period is not known.
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
        Prices; NaN says that there is none.
    lookback : int
        Returns of an asset whose standard deviation (ddof 1) counts: its own last ones, from one of its prices to the next, this
        bar's included; >= 2.
    rebalance : array_like of bool, shape (n_bars,), optional
        Bars to make weights for; all by default.

    Returns
    -------
    ndarray, shape (n_bars, n_assets)
        Rows that add up to 1, or 0 where no asset has ``lookback`` returns that vary; NaN where ``rebalance`` is False.

    Notes
    -----
    A missing price is no return: an asset that trades five days a week keeps its weight beside one that trades on seven.  An
    asset without a price on the last ``lookback`` bars has weight 0.
    """
    prices = matrix("close", close, finite=False)
    check_alike({"close": close, "rebalance": rebalance}, fill=", fill_value=False")
    check_prices("close", prices, list(getattr(close, "columns", range(prices.shape[1]))))
    lookback = whole("lookback", lookback, low=2)
    rows = np.arange(len(prices)) if rebalance is None else np.flatnonzero(bars_mask("rebalance", rebalance, len(prices)))
    weights = np.full(prices.shape, np.nan)
    there = ~np.isnan(prices)
    n_prices = np.cumsum(there, axis=0, dtype=np.int64)
    returns = _own_returns(prices, there)
    behind, columns = np.arange(lookback)[:, None] - lookback, np.arange(prices.shape[1])
    for row in rows:
        inverse = np.zeros(prices.shape[1])
        n_returns = n_prices[row] - 1
        if n_returns.max() >= lookback:
            is_whole = n_returns.min() == row  # nobody misses a price: the same rows for all, and nothing to gather
            own = returns[row - lookback : row] if is_whole else returns[np.maximum(n_returns + behind, 0), columns]
            with np.errstate(all="ignore"):
                deviation = own.std(axis=0, ddof=1)
            counts = deviation > 0
            if not is_whole:
                counts &= there[row - lookback + 1 : row + 1].any(axis=0) & (n_returns >= lookback)
            inverse[counts] = 1.0 / deviation[counts]
        total = inverse.sum()
        weights[row] = inverse / total if total > 0 else inverse
    return weights


def _own_returns(prices: Floats, there: NDArray[np.bool_]) -> Floats:
    """Returns of each asset from one of its prices to the next, one after the other from row 0 on; NaN behind the last."""
    returns = np.full(prices.shape, np.nan)
    with np.errstate(over="ignore"):
        if there.all():
            returns[:-1] = prices[1:] / prices[:-1] - 1.0
            return returns
        for asset in range(prices.shape[1]):
            own = prices[there[:, asset], asset]
            returns[: max(len(own) - 1, 0), asset] = own[1:] / own[:-1] - 1.0
    return returns

"""Rolling windows: each window's best levels, and what they earn on the bars that come next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import InputError, choice, instance, items, vector, whole
from backtest._said import shown
from backtest.bars import Bars
from backtest.compute.many import optimize_many
from backtest.labels import check_beside
from backtest.levels.moves import MOVES, check_bounds, moves_from_bars
from backtest.levels.problem import FORECASTS, Levels
from backtest.levels.search import METHODS

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

#: Exit policies by name: may a position leave at its limit, or at the close only?
POLICIES = {"limit": False, "close": True}


class Series(NamedTuple):
    """One symbol: moves, forecasts and positions of all its bars."""

    moves: dict[str, Floats]
    position: Floats
    valid: NDArray[np.bool_]
    times: Any  # pandas index


def series(
    bars: Any,
    *,
    high_pred: ArrayLike,
    low_pred: ArrayLike,
    position: ArrayLike,
    forecasts: str = "prices",
    reference: str | ArrayLike = "prev_close",
) -> Series:
    """A symbol's bars and forecasts as moves; rows whose forecasts are missing at the start are left out.

    Parameters
    ----------
    bars : Bars
    high_pred, low_pred, position : array_like, shape (n_bars,)
        NaN in a leading warm-up is allowed.
    forecasts : {"prices", "moves"}
    reference
        As in :meth:`backtest.Levels.from_bars`.
    """
    instance("bars", bars, Bars)
    check_beside(bars, {"high_pred": high_pred, "low_pred": low_pred, "position": position})
    given = {
        name: vector(name, values, finite=False)
        for name, values in (("high_pred", high_pred), ("low_pred", low_pred), ("position", position))
    }
    valid = np.ones(len(bars), dtype=np.bool_)
    for name, values in given.items():
        if values.shape != (len(bars),):
            raise InputError(f"{name} must have one value per bar ({len(bars)}), got shape {values.shape}")
        first = int(np.argmin(np.isnan(values))) if not np.isnan(values).all() else len(values)
        valid[:first] = False
    size = np.where(valid, given.pop("position"), 0.0)
    moves, mask, _ = moves_from_bars(bars, reference, choice("forecasts", forecasts, FORECASTS), dict(given), {}, valid)
    return Series({name: moves[name] for name in MOVES}, size, mask, bars.times())


def walk(
    symbols: Mapping[str, Series],
    *,
    window: int,
    step: int | None = None,
    policies: Sequence[str] = tuple(POLICIES),
    fee_rate: float,
    intrabar: str = "optimistic",
    fill_margin: float = 0.0,
    method: str = "exact",
    deadline: float | None = None,
    executor: Executor | None = None,
    n_threads: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Optimise every window of every symbol under every policy, and score each optimum on the next bars.

    Parameters
    ----------
    symbols : mapping of str to Series
    window : int
        Bars per window.
    step : int, optional
        Bars from one window to the next, and bars on which an optimum is scored; ``window`` by default.
    policies : sequence of {"limit", "close"}
        Each is optimised on its own before they are compared.
    fee_rate, intrabar, fill_margin
        As in :class:`backtest.Levels`.
    method, deadline, executor, n_threads, progress, **options
        As in :func:`backtest.optimize_many`; a bad window is a row with its ``error``.

    Returns
    -------
    DataFrame
        One row per symbol, window and policy: columns of :func:`backtest.optimize_many` (in sample), ``first`` and
        ``last`` (times), ``next_bars``, ``next_profit`` and ``next_baseline`` (the same offsets, and (0, 0), on the bars
        after the window; NaN where none come), ``is_chosen`` (the policy with the larger profit in sample).
    """
    window = whole("window", window, low=1)
    step = window if step is None else whole("step", step, low=1)
    choice("method", method, METHODS)  # an argument of all problems is refused at once, not recorded in every row
    if "bounds" in options:
        check_bounds(options["bounds"])
    policies = items("policies", policies)
    for name in policies:
        choice("policies", name, tuple(POLICIES))
    if not policies:
        raise InputError(f"policies must name at least one of {', '.join(POLICIES)}, got none")
    problems: dict[Any, Any] = {}
    following: dict[Any, Levels] = {}
    rules = {"fee_rate": fee_rate, "intrabar": intrabar, "fill_margin": fill_margin}
    for symbol, data in symbols.items():
        n_bars = len(data.valid)
        starts = range(int(np.argmax(data.valid)), n_bars - window + 1, step)
        if not starts or not data.valid.any():
            raise InputError(
                f"window must fit into the bars of {shown(symbol)} ({int(data.valid.sum())} with forecasts), got {window}"
            )
        for start in starts:
            for policy in policies:
                key = symbol, start, policy
                problems[key] = _problem(data, start, start + window, policy, rules)
                following[key] = _problem(data, start + window, min(start + window + step, n_bars), policy, rules)
    table = optimize_many(
        problems, method, deadline=deadline, executor=executor, n_threads=n_threads, progress=progress, **options
    )
    table.index.names = ["symbol", "start", "policy"]
    return _with_next(table, symbols, following, window)


def _problem(data: Series, start: int, stop: int, policy: str, rules: dict[str, Any]) -> Levels:
    rows = slice(start, stop)
    moves: dict[str, Any] = {name: values[rows] for name, values in data.moves.items()}
    return Levels(**moves, position=data.position[rows], valid=data.valid[rows], close_at_eod=POLICIES[policy], **rules)


def _with_next(table: pd.DataFrame, symbols: Mapping[str, Series], following: Mapping[Any, Levels], window: int) -> pd.DataFrame:
    scores = np.full((len(table), 2), np.nan)
    next_bars = np.zeros(len(table), dtype=np.int64)
    for row, (key, high, low) in enumerate(zip(table.index, table["high"], table["low"], strict=True)):
        problem = following[key]
        next_bars[row] = problem.n_bars
        if problem.n_bars and high == high:
            scores[row] = problem.profit([[high, low], [0.0, 0.0]], n_threads=1)
    first = [symbols[symbol].times[start] for symbol, start, _ in table.index]
    last = [symbols[symbol].times[start + window - 1] for symbol, start, _ in table.index]
    table = table.assign(first=first, last=last, next_bars=next_bars, next_profit=scores[:, 0], next_baseline=scores[:, 1])
    best = table.groupby(level=["symbol", "start"])["profit"].transform("max")
    # Of equal policies the first named is chosen.
    leads = (table["profit"] == best) & (table["success"].astype(bool))
    return table.assign(is_chosen=leads & ~leads.groupby(level=["symbol", "start"]).cumsum().gt(1))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Sums over windows, one row per symbol and policy, and ``chosen``: in every window the policy that was ahead in sample.

    ``next_*`` columns are what the optimum of each window earned on the bars after it.
    """
    import pandas as pd

    def add_up(rows: pd.DataFrame) -> dict[str, Any]:
        compared = rows[rows["next_profit"].notna()]  # the last window has no next one
        return {
            "windows": len(rows),
            "failed": int((~rows["success"].astype(bool)).sum()),
            "profit": rows["profit"].sum(),
            "baseline": rows["baseline"].sum(),
            "profit_low": rows["profit_low"].sum(),
            "profit_high": rows["profit_high"].sum(),
            "fills": rows["n_fills"].sum(),
            "ambiguous": rows["n_ambiguous"].sum(),
            "next_windows": len(compared),
            "next_profit": compared["next_profit"].sum(),
            "next_baseline": compared["next_baseline"].sum(),
        }

    found: dict[tuple[str, str], dict[str, Any]] = {}
    for symbol, of_symbol in table.groupby(level="symbol", sort=False):
        for policy, rows in of_symbol.groupby(level="policy", sort=False):
            found[str(symbol), str(policy)] = add_up(rows)
        if of_symbol.index.get_level_values("policy").nunique() > 1:
            found[str(symbol), "chosen"] = add_up(of_symbol[of_symbol["is_chosen"]])
    frame = pd.DataFrame.from_dict(found, orient="index")
    frame.index = pd.MultiIndex.from_tuples(list(found), names=["symbol", "policy"])
    return frame


def simple_forecasts(bars: Any, n: int = 20) -> dict[str, Any]:
    """Forecasts that anyone can make, for examples: the last ``n`` bars' mean high and low moves, and the side of the trend.

    The position is 1 where the previous close is above its mean of ``n`` bars, else -1.  All are known before the bar.
    """
    instance("bars", bars, Bars)
    n, close = whole("n", n, low=1), bars.close
    before = np.concatenate([[np.nan], close[:-1]])
    result: dict[str, Any] = {}
    for name, prices in (("high_pred", bars.high), ("low_pred", bars.low)):
        mean = _mean_of_last(prices / before - 1.0, n)
        result[name] = before * (1.0 + np.concatenate([[np.nan], mean[:-1]]))
    trend = np.concatenate([[np.nan], _mean_of_last(close, n)[:-1]])
    side = np.where(before > trend, 1.0, -1.0)
    return result | {"position": np.where(np.isnan(result["high_pred"]), np.nan, side)}


def _mean_of_last(values: Floats, n: int) -> Floats:
    result = np.full(len(values), np.nan)
    if len(values) >= n:
        result[n - 1 :] = np.lib.stride_tricks.sliding_window_view(values, n).mean(axis=1)
    return result

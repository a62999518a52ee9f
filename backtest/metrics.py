"""Every metric's definition, unit and direction, in one table.

Metrics of kind ``sweep`` come from sums that a kernel computes, so every candidate of a batch has them; ``walk``
needs the equity at each bar.  Returns are simple, one per bar; fractions, not percents; undefined is NaN.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, NumericsWarning, caller_level, items, known_names
from backtest._said import shown
from backtest.elementary import power

Floats = NDArray[np.float64]

#: Part of every result's identity: raised whenever a result changes, even in its last bit.
NUMERICS_VERSION = 5

#: Names of the sums a kernel leaves behind for each candidate; the struct ``Sums`` of ext/_sums.pxd has these fields.
SUM_NAMES = (
    *("n_returns", "end_equity", "sum_return", "sum_return_2", "sum_return_3", "sum_return_4"),
    *("sum_gain", "sum_loss", "sum_downside_2", "max_drawdown", "bars_held", "traded_value", "costs", "written_off"),
    *("n_fills", "n_trades", "n_winners", "won", "lost", "net_profit", "largest_profit"),
    *("sum_trade_return", "sum_trade_return_2", "best_trade", "worst_trade", "n_ambiguous"),
)
SUMS = np.dtype([(name, np.float64) for name in SUM_NAMES])

#: A variance of at most this share of the mean square is zero: the returns do not vary, their rounding does.
ZERO_VARIANCE = 1e-12


class MetricInputs(NamedTuple):
    """What metrics are computed from besides a candidate's sums; the same for all candidates of a batch."""

    start_cash: float
    rf: float
    periods_per_year: float
    years: float


class Metric(NamedTuple):
    """One metric."""

    key: str
    title: str
    unit: str  # "fraction", "ratio", "count", "bars" or "per year"
    direction: int  # 1: more is better, -1: less is better
    kind: str  # "sweep" or "walk"
    definition: str


class _Columns:
    """The sums of a batch as columns (n_candidates,), by name, and values that several metrics share; each computed once."""

    def __init__(self, sums: NDArray[Any], inputs: MetricInputs) -> None:
        self._sums, self._inputs = sums, inputs

    def __getattr__(self, name: str) -> Floats:
        column = np.ascontiguousarray(self._sums[name])
        setattr(self, name, column)
        return column

    @functools.cached_property
    def cagr(self) -> Floats:
        if not self._inputs.years > 0:
            return np.full(self.end_equity.shape, np.nan)
        grown: Floats = self.end_equity / self._inputs.start_cash
        return power(grown, 1.0 / self._inputs.years) - 1.0

    @functools.cached_property
    def mean_and_deviation(self) -> tuple[Floats, Floats]:
        return mean_and_deviation(self.sum_return, self.sum_return_2, self.n_returns, 1)

    @functools.cached_property
    def moments(self) -> tuple[Floats, Floats, Floats]:
        """Standard deviation (ddof=0), third and fourth central moment of r."""
        n = self.n_returns
        mean, deviation = mean_and_deviation(self.sum_return, self.sum_return_2, n, 0)
        second, third, fourth = self.sum_return_2 / n, self.sum_return_3 / n, self.sum_return_4 / n
        square = mean * mean
        return (
            deviation,
            third - 3.0 * mean * second + 2.0 * square * mean,
            fourth - 4.0 * mean * third + 6.0 * square * second - 3.0 * square * square,
        )


def mean_and_deviation(total: Floats, squares: Floats, n: Floats, ddof: int) -> tuple[Floats, Floats]:
    """Mean and standard deviation from a sum and a sum of squares; NaN for a deviation that is mere rounding."""
    mean = total / n
    variance = squares / n - mean * mean
    variance = np.where(variance > ZERO_VARIANCE * (squares / n), variance, np.nan)
    return mean, np.asarray(np.sqrt(variance * (n / (n - ddof))))


Compute = Callable[["_Columns", MetricInputs], Floats]
_SWEEP: dict[str, tuple[Metric, Compute]] = {}


def _metric(title: str, unit: str, direction: int, definition: str) -> Callable[[Compute], Compute]:
    """Define a metric of kind ``sweep``: a function of the sums ``s`` (n_candidates,) whose name is the metric's key."""

    def define(compute: Compute) -> Compute:
        key = compute.__name__.lstrip("_")
        _SWEEP[key] = Metric(key, title, unit, direction, "sweep", definition), compute
        return compute

    return define


@_metric("Total return", "fraction", 1, "end equity / start cash - 1")
def _total_return(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.end_equity / inputs.start_cash - 1.0


@_metric("Return per year", "fraction", 1, "(end equity / start cash) ** (1 / calendar years) - 1; a year is 365.25 days")
def _cagr(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.cagr


@_metric("Volatility per year", "fraction", -1, "std(r, ddof=1) sqrt(ppy)")
def _volatility(s: _Columns, inputs: MetricInputs) -> Floats:
    return np.asarray(s.mean_and_deviation[1] * np.sqrt(inputs.periods_per_year))


@_metric("Sharpe ratio", "ratio", 1, "mean(r - rf / ppy) / std(r, ddof=1) sqrt(ppy)")
def _sharpe(s: _Columns, inputs: MetricInputs) -> Floats:
    mean, deviation = s.mean_and_deviation
    return np.asarray((mean - inputs.rf / inputs.periods_per_year) / deviation * np.sqrt(inputs.periods_per_year))


@_metric("Sortino ratio", "ratio", 1, "mean(r - rf / ppy) / sqrt(mean(min(r - rf / ppy, 0)^2)) sqrt(ppy)")
def _sortino(s: _Columns, inputs: MetricInputs) -> Floats:
    excess = s.sum_return / s.n_returns - inputs.rf / inputs.periods_per_year
    ratio = excess / np.sqrt(s.sum_downside_2 / s.n_returns) * np.sqrt(inputs.periods_per_year)
    return np.where((s.sum_downside_2 == 0.0) & ~(excess > 0.0), np.nan, ratio)


@_metric("Maximum drawdown", "fraction", 1, "min(equity / running maximum - 1), the maximum from the start cash on")
def _max_drawdown(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.max_drawdown


@_metric("Calmar ratio", "ratio", 1, "cagr / |max_drawdown|")
def _calmar(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.cagr / np.abs(s.max_drawdown)


@_metric("Omega ratio", "ratio", 1, "sum of positive r / |sum of negative r|")
def _omega(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.sum_gain / s.sum_loss


@_metric("Skew of returns", "ratio", 1, "third central moment of r / std(r, ddof=0)^3")
def _skew(s: _Columns, inputs: MetricInputs) -> Floats:
    deviation, third, _ = s.moments
    return third / (deviation * deviation * deviation)


@_metric("Excess kurtosis of returns", "ratio", -1, "fourth central moment of r / std(r, ddof=0)^4 - 3")
def _kurtosis(s: _Columns, inputs: MetricInputs) -> Floats:
    deviation, _, fourth = s.moments
    square = deviation * deviation
    return fourth / (square * square) - 3.0


@_metric("Completed trades", "count", 1, "number of completed trades")
def _n_trades(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.n_trades


@_metric("Win rate", "fraction", 1, "trades with net profit > 0 / trades")
def _win_rate(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.n_winners / s.n_trades


@_metric("Profit factor", "ratio", 1, "net profit of winners / |net profit of the others|")
def _profit_factor(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.won / s.lost


@_metric("Expectancy", "fraction", 1, "mean return of trades (net profit / entry value)")
def _expectancy(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.sum_trade_return / s.n_trades


@_metric("Best trade", "fraction", 1, "largest return of a trade")
def _best_trade(s: _Columns, inputs: MetricInputs) -> Floats:
    return np.where(s.n_trades > 0, s.best_trade, np.nan)


@_metric("Worst trade", "fraction", 1, "smallest return of a trade")
def _worst_trade(s: _Columns, inputs: MetricInputs) -> Floats:
    return np.where(s.n_trades > 0, s.worst_trade, np.nan)


@_metric("System quality number", "ratio", 1, "sqrt(n_trades) mean / std (ddof=1) of trade returns")
def _sqn(s: _Columns, inputs: MetricInputs) -> Floats:
    mean, deviation = mean_and_deviation(s.sum_trade_return, s.sum_trade_return_2, s.n_trades, 1)
    return np.sqrt(s.n_trades) * mean / deviation


@_metric("Exposure", "fraction", -1, "bars at whose close a position is held / bars")
def _exposure(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.bars_held / s.n_returns


@_metric("Turnover", "ratio", -1, "traded value / start cash")
def _turnover(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.traded_value / inputs.start_cash


@_metric("Costs paid", "fraction", -1, "fees and borrowing / start cash (slippage is in the prices)")
def _costs_paid(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.costs / inputs.start_cash


@_metric("Break-even cost", "fraction", 1, "profit before costs, open position included / traded value")
def _breakeven_cost(s: _Columns, inputs: MetricInputs) -> Floats:
    return (s.end_equity - s.written_off - inputs.start_cash + s.costs) / s.traded_value


@_metric("Ambiguous trades", "count", -1, "trades whose stop and target were touched in one bar")
def _n_ambiguous(s: _Columns, inputs: MetricInputs) -> Floats:
    return s.n_ambiguous


@_metric("Largest trade's share", "fraction", -1, "largest net profit of a trade / net profit of all, if that is > 0")
def _largest_trade_share(s: _Columns, inputs: MetricInputs) -> Floats:
    return np.where(s.net_profit > 0, s.largest_profit / s.net_profit, np.nan)


_WALK = {
    key: Metric(key, title, unit, direction, "walk", definition)
    for key, title, unit, direction, definition in (
        ("tail_ratio", "Tail ratio", "ratio", 1, "|95 % quantile of r| / |5 % quantile of r|"),
        ("max_drawdown_bars", "Longest drawdown", "bars", -1, "most bars in a row with equity below its running maximum"),
        ("ulcer_index", "Ulcer index", "fraction", -1, "sqrt(mean(drawdown^2))"),
        ("cvar_5", "Expected shortfall 5 %", "fraction", 1, "mean of the r at or below their 5 % quantile"),
        ("buy_hold_return", "Buy and hold", "fraction", 1, "last close / close before the first r (or its own) - 1"),
        (
            "alpha",
            "Alpha per year",
            "fraction",
            1,
            "(mean(r - rf / ppy) - beta mean(b - rf / ppy)) ppy, b the benchmark's returns",
        ),
        ("beta", "Beta", "ratio", 1, "cov(r, b) / var(b), b the benchmark's returns"),
    )
}

#: Every metric by key, sweep metrics first.
METRICS: dict[str, Metric] = {key: metric for key, (metric, _) in _SWEEP.items()} | _WALK
SWEEP = tuple(_SWEEP)
WALK = tuple(_WALK)
#: Metrics that need to know how long a bar or the span is.
ANNUAL = ("cagr", "volatility", "sharpe", "sortino", "calmar", "alpha")


def optimistic(metric: str) -> str:
    """Name of the column with a metric's value if the target is touched before the stop in the same bar."""
    return f"{metric}_optimistic"


def check_metrics(keys: Sequence[str], kind: str | None = None) -> list[str]:
    """Refuse unknown metrics, and metrics of the other kind."""
    keys = items("metrics", keys)
    known_names("metric", keys, METRICS)
    for key in keys:
        if kind is not None and METRICS[key].kind != kind:
            raise InputError(
                f"metric must be one that every candidate has ({', '.join(SWEEP)}), got {shown(key)}; bt.run gives it"
            )
    return keys


def sweep_metrics(keys: Sequence[str], sums: NDArray[Any], inputs: MetricInputs, out: Floats | None = None) -> Floats:
    """Metrics of a batch.

    Parameters
    ----------
    keys : sequence of str
        Of kind ``sweep``.
    sums : ndarray of SUMS, shape (n_candidates,)
    inputs : MetricInputs
    out : ndarray of float64, shape (n_candidates, n_metrics), optional
        Output; allocated by default.

    Returns
    -------
    ndarray of float64, shape (n_candidates, n_metrics)
    """
    columns, result = _Columns(sums, inputs), np.empty((len(sums), len(keys)), order="F") if out is None else out
    with np.errstate(all="ignore"):  # division by zero gives NaN or infinity, which is the result
        for column, key in enumerate(keys):
            values = _SWEEP[key][1](columns, inputs)
            missing = np.isnan(values)
            # One bit pattern for every NaN: the sign of 0 / 0 depends on the processor.
            result[:, column] = np.where(missing, np.nan, values) if missing.any() else values
    return result


def walk_metrics(equity: Floats, benchmark: Floats, inputs: MetricInputs) -> dict[str, float]:
    """Metrics that need every bar.

    Parameters
    ----------
    equity : ndarray, shape (n_returns,)
        At each close.
    benchmark : ndarray, shape (n_returns + 1,)
        Value of the benchmark at the same closes, and before the first of them.
    inputs : MetricInputs
    """
    before = np.concatenate([[inputs.start_cash], equity])
    with np.errstate(all="ignore"):
        r = np.where(before[:-1] != 0, np.diff(before) / before[:-1], 0.0)
        b = np.diff(benchmark) / benchmark[:-1]
        drawdown = before / np.maximum.accumulate(before) - 1.0
        low, high = np.quantile(r, [0.05, 0.95])
        under = np.concatenate([[0], drawdown < 0, [0]]).astype(np.int8)
        edges = np.flatnonzero(np.diff(under))
        variance = float(np.mean((b - b.mean()) ** 2))
        is_flat = not variance > ZERO_VARIANCE * float(np.mean(b * b))
        beta = np.nan if is_flat else float(np.mean((r - r.mean()) * (b - b.mean()))) / variance
        rf = inputs.rf / inputs.periods_per_year
        values = {
            "tail_ratio": float(np.abs(high) / np.abs(low)),
            "max_drawdown_bars": float((edges[1::2] - edges[::2]).max(initial=0)),
            "ulcer_index": float(np.sqrt(np.mean(drawdown[1:] ** 2))),
            "cvar_5": float(r[r <= low].mean()),
            "buy_hold_return": float(benchmark[-1] / benchmark[0] - 1.0),
            "alpha": float((r.mean() - rf - beta * (b.mean() - rf)) * inputs.periods_per_year),
            "beta": float(beta),
        }
        return {key: value if value == value else np.nan for key, value in values.items()}


def objective(values: Floats, metric: str, n_trades: Floats, min_trades: int) -> Floats:
    """What a search minimises: ``-value`` where more is better; undefined or too few trades is +inf, so ranks last."""
    result = -values if METRICS[metric].direction > 0 else values.copy()
    result[np.isnan(values) | (n_trades < min_trades)] = np.inf
    return result


def warn_if_undated(is_annual: bool) -> None:
    """Warn unless something says how many bars make a year."""
    if not is_annual:
        warnings.warn(
            "bars have no dates and periods_per_year is not given: metrics per year are undefined (NaN)",
            NumericsWarning,
            stacklevel=caller_level(),
        )

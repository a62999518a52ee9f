"""Statistics of one run under the keys of backtesting.py and vectorbt, computed by *their* definitions.

Imported on use only, since it needs pandas.  ``docs/definitions.md`` sets the three vocabularies side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from backtest._checks import InputError
from backtest._said import shown
from backtest.elementary import exp, log, log1p, power

Floats = NDArray[np.float64]

#: What vectorbt calls a year.
VECTORBT_YEAR = pd.Timedelta(days=365)
#: backtesting.py's periods per year, by the days between its bars; all else is daily.
_PERIODS = {7: 52, 31: 12, 365: 1}
_RESAMPLE = {7: "W", 31: "ME", 365: "YE"}


class _View:
    """A run as both tools count it: from the first bar of its window, in cash during the warm-up."""

    def __init__(self, run: Any) -> None:
        self.run, self.start_cash = run, run.start_cash
        self.times: Any = run.bars.times()[run.window_first : run.last]
        waiting = np.full(run.first - run.window_first, self.start_cash)
        self.equity: Floats = np.concatenate([waiting, run.equity.to_numpy()])
        self.units: Floats = np.concatenate([np.zeros_like(waiting), run.units.to_numpy()])
        self.close: Floats = run.bars.close[run.window_first : run.last]
        self.trades = run.trades
        self.profit: Floats = self.trades["net_profit"].to_numpy()
        self.returns: Floats = self.trades["return"].to_numpy()


class Backtesting(_View):
    """backtesting.py's definitions."""

    def series(self) -> pd.Series[Any]:
        """The keys of ``Backtest.run``, in its order."""
        with np.errstate(all="ignore"):  # undefined ratios are NaN or infinite there too
            return pd.Series(
                self._summary() | self._annual() | self._drawdowns() | self._of_trades() | self._frames(), dtype=object
            )

    def _summary(self) -> dict[str, Any]:
        held = np.zeros(len(self.times))
        for entered, left in self.trades[["entry_bar", "exit_bar"]].to_numpy() - self.run.window_first:
            held[entered : left + 1] = 1
        fees = float(self.trades[["entry_cost", "exit_cost"]].to_numpy().sum())
        equity, close = self.equity, self.close
        reference = close[max(self.run.first - self.run.window_first - 1, 0)]
        return {
            "Start": self.times[0],
            "End": self.times[-1],
            "Duration": self.times[-1] - self.times[0],
            "Exposure Time [%]": held.mean() * 100,
            "Equity Final [$]": equity[-1],
            "Equity Peak [$]": equity.max(),
            **({"Commissions [$]": fees} if fees else {}),
            "Return [%]": (equity[-1] / equity[0] - 1) * 100,
            "Buy & Hold Return [%]": (close[-1] / reference - 1) * 100,
        }

    def _annual(self) -> dict[str, Any]:
        is_dated = isinstance(self.times, pd.DatetimeIndex)
        growth, deviation, downside, periods = 0.0, np.nan, np.nan, np.nan  # its values for bars without dates
        if is_dated:
            days = self._bar_duration().days
            weekends = np.isin(self.times.day_of_week, (5, 6)).mean() > 2 / 7 * 0.6
            periods = _PERIODS.get(days, 365 if weekends else 252)
            value = pd.Series(self.equity, index=self.times).resample(_RESAMPLE.get(days, "D")).last().dropna().to_numpy()
            r = value[1:] / value[:-1] - 1
            r = r[~np.isnan(r)]
            growth = _geometric_mean(r)
            deviation = r.var(ddof=1) if len(r) > 1 else np.nan
            downside = np.sqrt(np.mean(np.minimum(r, 0) ** 2)) if len(r) else np.nan
        yearly = power(1 + growth, periods)[()] - 1
        volatility = np.sqrt((power(deviation + (1 + growth) * (1 + growth), periods) - power(1 + growth, 2 * periods))[()])
        values: dict[str, Any] = {"Return (Ann.) [%]": yearly * 100, "Volatility (Ann.) [%]": volatility * 100}
        if is_dated:
            span = self.times[-1] - self.times[0]
            years = (span.days + span.seconds / 86400) / 365.25
            values["CAGR [%]"] = (power(self.equity[-1] / self.equity[0], 1 / years)[()] - 1) * 100 if years else np.nan
        worst = self._depths().max()
        log_equity, log_close = np.diff(log(self.equity)), np.diff(log(self.close))
        beta = np.nan
        if len(log_equity) > 1:  # not np.cov: the order in which a matrix product adds depends on the processor
            of_equity, of_close = log_equity - log_equity.mean(), log_close - log_close.mean()
            beta = (of_equity * of_close).sum() / (of_close * of_close).sum()
        summary = self._summary()
        alpha = summary["Return [%]"] - beta * summary["Buy & Hold Return [%]"]
        return values | {
            "Sharpe Ratio": yearly / _not_zero(volatility),
            "Sortino Ratio": yearly / (downside * np.sqrt(periods)),
            "Calmar Ratio": yearly / _not_zero(worst),
            "Alpha [%]": alpha,
            "Beta": beta,
            "Max. Drawdown [%]": -worst * 100,
        }

    def _bar_duration(self) -> Any:
        """Median distance of the last hundred bars."""
        return pd.Series(self.times[-100:]).diff().median()

    def _depths(self) -> Floats:
        return np.asarray(1 - self.equity / np.maximum.accumulate(self.equity))

    def _drawdown_periods(self) -> tuple[pd.Series[Any], pd.Series[Any]]:
        """Duration and depth of each drawdown of more than one bar, at the bar that ends it."""
        depth = self._depths()
        edges = np.unique(np.append(np.flatnonzero(depth == 0), len(depth) - 1))
        begins, ends = edges[:-1], edges[1:]
        long = ends > begins + 1
        begins, ends = begins[long], ends[long]
        if not len(ends):  # it then takes the drawdown of each bar for both
            own = pd.Series(np.where(depth == 0, np.nan, depth), index=self.times)
            return own, own
        depths = [depth[begin : end + 1].max() for begin, end in zip(begins, ends, strict=True)]
        lengths = pd.Series(self.times[ends] - self.times[begins], index=self.times[ends])
        return lengths, pd.Series(depths, index=self.times[ends])

    def _rounded(self, duration: Any) -> Any:
        """A mean or maximum of durations, up to a whole unit of the bars' distance."""
        bar = self._bar_duration()  # undefined for a single bar
        return duration.ceil(bar.resolution_string) if isinstance(duration, pd.Timedelta) and not pd.isna(bar) else duration

    def _drawdowns(self) -> dict[str, Any]:
        durations, depths = self._drawdown_periods()
        return {
            "Avg. Drawdown [%]": -depths.mean() * 100,
            "Max. Drawdown Duration": self._rounded(durations.max()),
            "Avg. Drawdown Duration": self._rounded(durations.mean()),
        }

    def _of_trades(self) -> dict[str, Any]:
        profit, returns, n = self.profit, self.returns, len(self.profit)
        durations = self.trades["duration"]
        wins = float((profit > 0).mean()) if n else np.nan
        return {
            "# Trades": n,
            "Win Rate [%]": wins * 100,
            "Best Trade [%]": returns.max() * 100 if n else np.nan,
            "Worst Trade [%]": returns.min() * 100 if n else np.nan,
            "Avg. Trade [%]": _geometric_mean(returns) * 100,
            "Max. Trade Duration": self._rounded(durations.max()) if n else np.nan,
            "Avg. Trade Duration": self._rounded(durations.mean()) if n else np.nan,
            "Profit Factor": returns[returns > 0].sum() / _not_zero(-returns[returns < 0].sum()),
            "Expectancy [%]": returns.mean() * 100 if n else np.nan,
            "SQN": np.sqrt(n) * profit.mean() / _not_zero(profit.std(ddof=1)) if n > 1 else np.nan,
            "Kelly Criterion": wins - (1 - wins) / (_mean(profit[profit > 0]) / -_mean(profit[profit < 0])),
        }

    def _frames(self) -> dict[str, Any]:
        durations, _ = self._drawdown_periods()
        curve = pd.DataFrame(
            {"Equity": self.equity, "DrawdownPct": self._depths(), "DrawdownDuration": durations.reindex(self.times)},
            index=self.times,
        )
        t = self.trades
        size = t["units"].astype(np.int64) if self.run.execution.whole_units else t["units"]
        trades = pd.DataFrame(
            {
                "Size": size,
                "EntryBar": t["entry_bar"] - self.run.window_first,
                "ExitBar": t["exit_bar"] - self.run.window_first,
                "EntryPrice": t["entry_price"],
                "ExitPrice": t["exit_price"],
                "SL": t["stop"],
                "TP": t["target"],
                "PnL": self.profit,
                "Commission": t["entry_cost"] + t["exit_cost"],
                "ReturnPct": self.returns,
                "EntryTime": t["entry_time"],
                "ExitTime": t["exit_time"],
                "Duration": t["duration"],
                "Tag": None,
            }
        )
        return {"_strategy": self.run.strategy, "_equity_curve": curve, "_trades": trades}


class Vectorbt(_View):
    """vectorbt's definitions."""

    def __init__(self, run: Any, freq: Any) -> None:
        super().__init__(run)
        if freq is None:
            if not isinstance(self.times, pd.DatetimeIndex) or len(self.times) < 2:
                raise InputError("freq must be given where bars have no dates, or only one, got None")
            freq = pd.Series(self.times).diff().median()
        elif isinstance(freq, str) and not freq[:1].isdigit():
            freq = f"1{freq}"
        try:
            self.bar = pd.Timedelta(freq)
        except (TypeError, ValueError, OverflowError):
            raise InputError(f"freq must be a duration, such as '1D', got {shown(freq)}") from None
        if not self.bar > pd.Timedelta(0):
            raise InputError(f"freq must be a duration > 0, got {shown(freq)}")
        self.per_year = VECTORBT_YEAR / self.bar

    def series(self) -> pd.Series[Any]:
        """The keys of ``Portfolio.stats()``, in its order."""
        with np.errstate(all="ignore"):
            return pd.Series(self._summary() | self._of_trades() | self._ratios() | self._frames(), dtype=object)

    def _summary(self) -> dict[str, Any]:
        depth, duration = self._drawdowns()
        return {
            "Start": self.times[0],
            "End": self.times[-1],
            "Period": len(self.times) * self.bar,
            "Start Value": self.start_cash,
            "End Value": self.equity[-1],
            "Total Return [%]": (self.equity[-1] / self.start_cash - 1) * 100,
            "Benchmark Return [%]": (self.close[-1] / self.close[0] - 1) * 100,
            "Max Gross Exposure [%]": self._gross_exposure().max() * 100,
            "Total Fees Paid": float(self.run.fills["cost"].sum()),
            "Max Drawdown [%]": -depth * 100,
            "Max Drawdown Duration": duration,
        }

    def _gross_exposure(self) -> Floats:
        """|Position value| / (|position value| + free cash); free cash excludes the proceeds of a short twice."""
        value, debt = np.abs(self.units) * self.close, np.zeros(len(self.units))
        for fill in self.run.fills[self.run.fills["position_after"] < 0]:
            debt[fill["fill_bar"] - self.run.window_first :] = -fill["position_after"] * fill["price"]
        free = self.equity - self.units * self.close - 2 * np.where(self.units < 0, debt, 0.0)
        return np.where(value == 0, 0.0, value / (value + free))

    def _drawdowns(self) -> tuple[float, Any]:
        """Depth of the deepest and duration of the longest; the peak before the first bar does not count."""
        equity = self.equity
        peaks = np.maximum.accumulate(equity)
        at_peak = np.flatnonzero(equity >= peaks)
        lengths = np.diff(at_peak) - 1  # from the bar after a peak to the recovery
        if at_peak[-1] < len(equity) - 1:  # not recovered: counted to the last bar, included
            lengths = np.append(lengths, len(equity) - 1 - at_peak[-1])
        if not (lengths > 0).any():
            return np.nan, pd.NaT
        return float((equity / peaks - 1).min()), int(lengths.max()) * self.bar

    def _of_trades(self) -> dict[str, Any]:
        profit, returns, n = self.profit, self.returns, len(self.profit)
        open_ = self._open()
        held = self.trades["bars_held"].to_numpy()
        won, lost = profit > 0, profit < 0
        return {
            "Total Trades": n + len(open_),
            "Total Closed Trades": n,
            "Total Open Trades": len(open_),
            "Open Trade PnL": float(open_["PnL"].sum()),
            "Win Rate [%]": won.mean() * 100 if n else np.nan,
            "Best Trade [%]": returns.max() * 100 if n else np.nan,
            "Worst Trade [%]": returns.min() * 100 if n else np.nan,
            "Avg Winning Trade [%]": _mean(returns[won]) * 100,
            "Avg Losing Trade [%]": _mean(returns[lost]) * 100,
            "Avg Winning Trade Duration": self._duration(held[won]),
            "Avg Losing Trade Duration": self._duration(held[lost]),
            "Profit Factor": profit[won].sum() / abs(profit[lost].sum()) if n else np.nan,
            "Expectancy": profit.sum() / n if n else np.nan,
        }

    def _duration(self, held: NDArray[np.int64]) -> Any:
        return held.mean() * self.bar if len(held) else pd.NaT

    def _ratios(self) -> dict[str, Any]:
        before = np.concatenate([[self.start_cash], self.equity])
        r = np.diff(before) / before[:-1]
        root = np.sqrt(self.per_year)
        deviation = r.std(ddof=1) if len(r) > 1 else np.nan
        worst = (self.equity / np.maximum.accumulate(self.equity) - 1).min()
        yearly = power(self.equity[-1] / self.start_cash, self.per_year / len(r))[()] - 1
        downside = np.sqrt(np.mean(np.minimum(r, 0) ** 2))
        lost = -r[r < 0].sum()
        return {
            "Sharpe Ratio": r.mean() / deviation * root if deviation != 0 else np.inf,
            "Calmar Ratio": yearly / abs(worst) if worst != 0 else np.nan,
            "Omega Ratio": r[r > 0].sum() / lost if lost != 0 else np.inf,
            "Sortino Ratio": r.mean() / downside * root if downside != 0 else np.inf,
        }

    def _open(self) -> pd.DataFrame:
        p = self.run.open_positions
        profit = p["gross_profit"] - p["entry_cost"] - p["borrow_cost"]
        return pd.DataFrame(
            {
                "Size": p["units"].abs(),
                "Entry Timestamp": p["entry_time"],
                "Avg Entry Price": p["entry_price"],
                "Entry Fees": p["entry_cost"],
                "Exit Timestamp": self.times[-1],
                "Avg Exit Price": p["last_price"],
                "Exit Fees": 0.0,
                "PnL": profit,
                "Return": profit / (p["units"].abs() * p["entry_price"]),
                "Direction": p["side"].str.capitalize(),
                "Status": "Open",
            }
        )

    def _frames(self) -> dict[str, Any]:
        t = self.trades
        closed = pd.DataFrame(
            {
                "Size": t["units"].abs(),
                "Entry Timestamp": t["entry_time"],
                "Avg Entry Price": t["entry_price"],
                "Entry Fees": t["entry_cost"],
                "Exit Timestamp": t["exit_time"],
                "Avg Exit Price": t["exit_price"],
                "Exit Fees": t["exit_cost"],
                "PnL": self.profit,
                "Return": self.returns,
                "Direction": t["side"].str.capitalize(),
                "Status": "Closed",
            }
        )
        parts = [part for part in (closed, self._open()) if len(part)]
        trades = pd.concat(parts, ignore_index=True) if parts else closed
        trades.insert(0, "Exit Trade Id", np.arange(len(trades)))
        trades.insert(1, "Column", 0)
        trades["Position Id"] = np.arange(len(trades))
        before = np.concatenate([[self.start_cash], self.equity])
        curve = pd.DataFrame(
            {
                "Value": self.equity,
                "Returns": np.diff(before) / before[:-1],
                "Drawdown": self.equity / np.maximum.accumulate(self.equity) - 1,
            },
            index=self.times,
        )
        return {"_equity_curve": curve, "_trades": trades}


def _geometric_mean(returns: Floats) -> float:
    """0 after a total loss; NaN of nothing."""
    if (returns <= -1).any():
        return 0.0
    return float(exp(log1p(returns).sum() / len(returns))) - 1 if len(returns) else np.nan


def _mean(values: Floats) -> Any:
    return values.mean() if len(values) else np.float64(np.nan)


def _not_zero(value: Any) -> Any:
    """NaN instead of a zero to divide by."""
    return value if value != 0 else np.nan

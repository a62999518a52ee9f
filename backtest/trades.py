"""Trades: fills -> completed trades and open positions -> statistics.  The only implementation of trades in the library."""

from __future__ import annotations

import functools
import math
from collections import namedtuple
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest.metrics import ZERO_VARIANCE
from backtest.periods import NS_PER_DAY
from backtest.records import POSITION, REASONS, TRADE, TRADE_SUMS

if TYPE_CHECKING:
    import pandas as pd

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
        multiplier: float = 1.0,
    ) -> None:
        self._multiplier = multiplier
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
            "gross_profit": p["units"] * (last_close - p["price"]) * self._multiplier,
            "mfe": p["mfe"],
            "mae": p["mae"],
            "bars_held": self._last - 1 - p["entry_bar"],
        }
        return pd.DataFrame(columns)

    def _asset_names(self, assets: NDArray[np.int64]) -> list[Any]:
        assert self._assets is not None
        return [self._assets[asset] for asset in assets]

    def sums(self) -> NDArray[Any]:
        """Sums over all, long and short trades; ndarray of TRADE_SUMS, shape (3,)."""
        sums, nanos = np.zeros(3, dtype=TRADE_SUMS), nanos_of(self._times)
        _backend.kernel("trades").summarise(self.records, NO_TIMES if nanos is None else nanos, sums)
        return sums

    def statistics(self) -> pd.DataFrame:
        """Statistics of completed trades: one row per statistic, columns All, Long, Short.

        Without trades counts are 0 and means NaN.
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
    # Added to a value: makes it NaN where there is no trade, or no date.
    none, undated = 0.0 if n > 0 else math.nan, 0.0 if months == months else math.nan
    mean_profit, mean_loss = ratio(s.won, s.n_winners), -ratio(s.lost, s.n_losers)
    mean, square = ratio(s.sum_return, n), ratio(s.sum_return_2, n)
    variance = square - mean * mean
    deviation = math.sqrt(variance) if variance > ZERO_VARIANCE * square else math.nan  # a smaller one is rounding
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
    """A quotient by IEEE 754: NaN or infinite where Python would raise."""
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
    carry: NDArray[np.float64] | None = None,
    multiplier: float = 1.0,
    first: int = 0,
    last: int | None = None,
    assets: tuple[Any, ...] | None = None,
) -> Trades:
    """Trades of a ledger in order of execution, which is not checked, traded on the bars ``first`` to ``last``.

    Prices are (n_assets, n_bars), ``times`` a pandas index.  ``carry`` (n_bars,) is what holding the one asset cost at each
    close, instead of ``borrow_per_bar``; ``multiplier`` the value of one unit per unit of price.
    """
    no_prices = np.empty((0, 0))
    last = close.shape[1] if last is None else last
    positions, trades = np.zeros(close.shape[0], dtype=POSITION), np.empty(max(len(ledger), 1), dtype=TRADE)
    n_trades = _backend.kernel("trades").track(
        ledger,
        no_prices if open is None else open,
        no_prices if high is None else high,
        no_prices if low is None else low,
        close,
        borrow_per_bar,
        np.empty(0) if carry is None else carry,
        multiplier,
        last,
        positions,
        trades,
    )
    return Trades(trades[:n_trades], positions, close, times, (first, last), assets, multiplier)

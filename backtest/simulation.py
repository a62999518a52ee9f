"""``Simulation``: the common interface of runs (one asset by rules) and books (several assets by weights)."""

from __future__ import annotations

import abc
import functools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from backtest.metrics import SUMS
from backtest.periods import Periods
from backtest.records import FILL, MOMENTS, REASONS, Unexecuted
from backtest.tables import ACCOUNT_STATISTICS, html_of_simulation, of_simulation
from backtest.trades import Trades, plain_numbers

if TYPE_CHECKING:
    import pandas as pd

    from backtest.stats_series import Stats

Floats = NDArray[np.float64]


class Simulation(abc.ABC):
    """A strategy traded bar by bar: the common interface of :class:`backtest.Run` and :class:`backtest.Book`.

    Tables are pandas, made when they are asked for.  A console (``rich.print``) and a notebook show metrics and statistics.

    Attributes
    ----------
    first, last : int
        First bar that was traded, or could be, and one past the last.
    start_cash : float
        Money before the first bar.
    sums : ndarray of ``metrics.SUMS``, shape (1,)
        What metrics are computed from.
    """

    first: int
    last: int
    start_cash: float
    sums: NDArray[Any]
    #: Other names of attributes, and what to type instead.
    _other_names: ClassVar[dict[str, str]] = {
        "ledger": "orders (a table, with those that were not executed) or fills (records)",
        "value": "equity",
        "values": "equity",
        "position": "units",
        "positions": "units, or open_positions for those at the end",
        "statistics": "trade_statistics() for completed trades, account_statistics() for the account, or stats for metrics",
        "start_value": "start_cash",
        "n_trades": 'stats["n_trades"]',
    }

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(type(self), name):  # a property failed: its own error is the one to see
            return object.__getattribute__(self, name)
        kind = type(self).__name__
        if name in self._other_names:
            raise AttributeError(f"{kind} has no attribute {name!r}; it is {self._other_names[name]}")
        raise AttributeError(f"{kind} has no attribute {name!r}")

    # --- what each kind of simulation provides ----------------------------------------------------------------------------

    @property
    @abc.abstractmethod
    def units(self) -> Any:
        """Units held after each close, negative for a short: a Series, of several assets a DataFrame (n_bars, n_assets)."""

    @property
    @abc.abstractmethod
    def fills(self) -> NDArray[Any]:
        """Every executed order, in order of execution: ndarray of ``backtest.records.FILL``.

        ``reason`` and ``moment`` are places in ``backtest.records.REASONS`` and ``MOMENTS`` (reason 0 opens or adds to a
        position), ``asset`` in ``book.market.assets`` (0 in a run); ``orders`` is the same as a table, decoded.
        """

    @property
    @abc.abstractmethod
    def tracked(self) -> Trades:
        """Completed trades and open positions, as records."""

    @property
    @abc.abstractmethod
    def stats(self) -> Stats:
        """Every metric of ``bt.METRICS``, by key."""

    @property
    @abc.abstractmethod
    def periods(self) -> Periods:
        """How many bars make a year, ``per_year``, and ``why``."""

    @property
    @abc.abstractmethod
    def stale_value(self) -> float:
        """Value, regardless of sign, of what is held at the last bar without a price on it."""

    @abc.abstractmethod
    def _all_times(self) -> pd.Index[Any]:
        """Time of each bar there is, or its number."""

    @abc.abstractmethod
    def _equity_values(self) -> Floats:
        """Equity at each close."""

    @abc.abstractmethod
    def _gross_value(self) -> Floats:
        """Sum of |units| x price at each close."""

    @abc.abstractmethod
    def _assets(self) -> tuple[Any, ...] | None:
        """Names of the assets; None where there is only one."""

    @abc.abstractmethod
    def _unexecuted(self) -> Unexecuted:
        """Orders that were never executed, by the bar that decided."""

    @abc.abstractmethod
    def _subject(self) -> str:
        """What was traded, in a few words."""

    # --- bar by bar -----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def times(self) -> pd.Index[Any]:
        """Time of each bar from ``first`` on, or its number."""
        return self._all_times()[self.first : self.last]

    def _series(self, values: Floats, name: str) -> pd.Series[float]:
        import pandas as pd

        return pd.Series(values, index=self.times, name=name)

    @property
    def equity(self) -> pd.Series[float]:
        """Cash and positions at each close; 0 from a bust on."""
        return self._series(self._equity_values().copy(), "equity")

    @property
    def returns(self) -> pd.Series[float]:
        """Simple return of each bar; the first is against ``start_cash``, so it holds the first costs."""
        equity = self._equity_values()
        before = np.concatenate([[self.start_cash], equity[:-1]])
        with np.errstate(all="ignore"):
            return self._series(np.where(before != 0, (equity - before) / before, 0.0), "return")

    @property
    def drawdown(self) -> pd.Series[float]:
        """Equity against its running maximum, from ``start_cash`` on, minus 1; <= 0."""
        equity = self._equity_values()
        peak = np.maximum.accumulate(np.concatenate([[self.start_cash], equity]))[1:]
        return self._series(equity / peak - 1.0, "drawdown")

    @property
    def margin_load(self) -> pd.Series[float]:
        """Sum of |units| x price over equity at each close; 0 from a bust on."""
        return self._series(self._margin_load(), "margin_load")

    def _margin_load(self) -> Floats:
        equity, gross = self._equity_values(), self._gross_value()
        if equity[-1] > 0:
            return np.asarray(gross / equity)
        return np.asarray(np.divide(gross, equity, out=np.zeros(len(equity)), where=equity > 0))  # it went bust

    # --- orders and trades ----------------------------------------------------------------------------------------------

    @property
    def orders(self) -> pd.DataFrame:
        """Every order, in order of execution, with its ``status``; :func:`backtest.track_trades` reads it.

        ``unfilled`` is an order that had no bar, or no price, to fill at before the bars ended; ``unaffordable`` an entry
        that the account could not pay for, or that was rounded to 0 units.  Neither has a bar, a price or a size.
        """
        return orders_table(self.fills, self._unexecuted(), self._all_times(), self._assets())

    @property
    def trades(self) -> pd.DataFrame:
        """Completed trades, one a row."""
        return self.tracked.table

    @property
    def open_positions(self) -> pd.DataFrame:
        """Positions open at the last bar, valued at their last valid price; no completed trades."""
        return self.tracked.open_positions

    # --- numbers --------------------------------------------------------------------------------------------------------

    def trade_statistics(self) -> pd.DataFrame:
        """Statistics of completed trades: one row per statistic, columns All, Long, Short.

        Without trades counts are 0 and means NaN.
        """
        return self.tracked.statistics()

    def account_statistics(self) -> pd.Series[float]:
        """Statistics of the account, by the keys of ``tables.ACCOUNT_STATISTICS``."""
        import pandas as pd

        load, start = self._margin_load(), self.start_cash
        sums = dict(zip(SUMS.names or (), self.sums[0].item(), strict=True))
        values = (
            start,
            sums["end_equity"],
            sums["end_equity"] / start - 1.0,
            sums["max_drawdown"],
            sums["traded_value"] / start,
            sums["costs"],
            load.max(),
            np.add.reduce(load) / len(load),
            sums["n_fills"],
            self.stale_value,
        )
        return pd.Series(dict(zip(ACCOUNT_STATISTICS, values, strict=True)), name="value")

    def to_dict(self) -> dict[str, Any]:
        """Numbers as plain data for JSON: what is undefined or infinite is None, times are text."""
        times = self.times
        return {
            "first": _plain_time(times[0]),
            "last": _plain_time(times[-1]),
            "n_bars": len(times),
            "stats": json_safe(self.stats.to_dict()),
            "account_statistics": json_safe(self.account_statistics().to_dict()),
            "trade_statistics": plain_numbers(self.trade_statistics()),
        }

    # --- for people -----------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        gained = float(self.sums["end_equity"][0]) / self.start_cash - 1
        return (
            f"{type(self).__name__}({self._subject()}; {self.last - self.first:,} bars, total return {gained:.2%}, "
            f"{int(self.sums['n_fills'][0]):,} fills, {int(self.sums['n_trades'][0]):,} trades)"
        )

    def __rich__(self) -> Any:
        return of_simulation(self)

    def _repr_html_(self) -> str:
        return html_of_simulation(self)


def json_safe(value: Any) -> Any:
    """``value`` with NaN and infinities as null and NumPy scalars as numbers, for JSON."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain_time(time: Any) -> Any:
    return time.isoformat() if hasattr(time, "isoformat") else int(time)


def orders_table(
    fills: NDArray[Any], unexecuted: Unexecuted, times: pd.Index[Any], assets: tuple[Any, ...] | None
) -> pd.DataFrame:
    """Orders, executed or not, one a row; see ``docs/results.md`` for the columns.

    Parameters
    ----------
    fills : ndarray of FILL
        In order of execution.
    unexecuted : Unexecuted
    times : Index
        Of all bars.
    assets : tuple, optional
        Names for a column ``asset``.
    """
    import pandas as pd

    n = len(fills)
    every = np.zeros(n + len(unexecuted.reason), dtype=FILL)
    every[:n] = fills
    rest = every[n:]
    for name in FILL.names or ():
        if FILL[name].kind == "f":  # an order that was not executed has no price, size or cost
            rest[name] = np.nan
    rest["decision_bar"], rest["fill_bar"], rest["asset"] = unexecuted.decision_bar, -1, unexecuted.asset
    is_buy = np.concatenate([fills["units"] > 0, np.asarray(unexecuted.side) > 0])
    opens = (fills["position_before"] == 0).tolist()
    reason = ["entry" if opened else REASONS[code] or "entry" for opened, code in zip(opens, fills["reason"], strict=True)]
    moment = [MOMENTS[code] for code in fills["moment"]]
    # In order of execution; orders that were not executed come after those decided on the same bar.
    decided = np.concatenate([np.maximum.accumulate(fills["decision_bar"]), unexecuted.decision_bar])
    order = np.argsort(decided, kind="stable")
    every, is_filled = every[order], order < n

    def ordered(values: list[str]) -> NDArray[Any]:
        return np.array(values, dtype=object)[order]

    columns: dict[str, Any] = {} if assets is None else {"asset": [assets[asset] for asset in every["asset"]]}
    columns |= {
        "decision_bar": every["decision_bar"],
        "fill_bar": every["fill_bar"],
        "time": times[every["fill_bar"]].where(is_filled),
        "moment": ordered(moment + [""] * len(rest)),
        "side": np.where(is_buy[order], "buy", "sell"),
        "units": every["units"],
        "price": every["price"],
        "value": every["value"],
        "cost": every["cost"],
        "reason": ordered(reason + unexecuted.reason),
        "stop": every["stop"],
        "target": every["target"],
        "trail": every["trail"],
        "ambiguous": every["ambiguous"] != 0,
        "position_before": every["position_before"],
        "position_after": every["position_after"],
        "cash_before": every["cash_before"],
        "cash_after": every["cash_after"],
        "equity": every["equity"],
        "written_off": every["written_off"],
        "status": ordered(["filled"] * n + unexecuted.status),
    }
    return pd.DataFrame(columns)

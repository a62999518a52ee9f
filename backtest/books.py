"""Books: one portfolio, traded by target weights; ``bt.simulate``."""

from __future__ import annotations

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import NumericsWarning, caller_level, renamed
from backtest.book_evaluator import joined
from backtest.costs import FORMER, Costs
from backtest.endings import listed, never_weighted
from backtest.metrics import SUMS, SWEEP, sweep_metrics, walk_metrics, warn_if_undated
from backtest.periods import Periods
from backtest.portfolio import MAX_GROSS, Market, Rules, Targets, gross_limit
from backtest.records import FILL, TRADE_SUMS, Unexecuted
from backtest.simulation import Simulation
from backtest.trades import STATISTICS, Trades, months_of, statistics_frame, statistics_of, track

if TYPE_CHECKING:
    import pandas as pd

    from backtest.stats_series import Stats

Floats = NDArray[np.float64]

#: Orders below this share of the value that sizes them are not placed; as in the kernel, see ``docs/definitions.md``.
DUST = 1e-12


class Book(Simulation):
    """A portfolio that was traded: equity, orders, trades and statistics; see :class:`backtest.Simulation`.

    Orders are recorded when first asked for, by a second replay with the same numbers.

    Attributes
    ----------
    market : Market
    rules : Rules
    window : slice or None
        By bar numbers.
    """

    #: ``to_backtesting`` and ``to_vectorbt`` are not defined: those tools define them for one asset.
    has_tool_stats = False

    def __init__(
        self, market: Market, rules: Rules, targets: Targets, window: slice | None = None, benchmark: Floats | None = None
    ) -> None:
        self.market, self.rules, self._targets, self._benchmark = market, rules, targets, benchmark
        self.window = market.window(window)
        self._prices, self._settings = market.prices(rules.fill), market.settings(rules, self.window)
        self.start_cash = rules.start_cash
        self.first, self.last = self._settings.first, self._settings.last
        self.sums, self._trade_sums = np.zeros(1, dtype=SUMS), np.zeros(3, dtype=TRADE_SUMS)
        self._account, self._waiting = np.empty((3, self.last - self.first)), np.empty(market.n_assets)
        self._held = np.empty(market.n_assets)
        self._waits_since = self._replay(
            self.sums, self._trade_sums, self._account, self._waiting, self._held, np.empty(0, dtype=FILL)
        )[1]

    def _replay(self, *outputs: Any) -> tuple[int, int]:
        counts: tuple[int, int] = _backend.kernel("portfolio").replay(self._prices, self._targets, self._settings, 0, *outputs)
        return counts

    @property
    def units(self) -> pd.DataFrame:
        """Units held after each close, assets as columns."""
        import pandas as pd

        fills, n_assets = self.fills, self.market.n_assets
        held = np.full((self.last - self.first, n_assets), np.nan)
        held[0] = 0.0
        held[fills["fill_bar"] - self.first, fills["asset"]] = fills["position_after"]  # the last fill on a bar counts
        return pd.DataFrame(held, index=self.times, columns=list(self.market.assets)).ffill()

    @property
    def cash(self) -> pd.Series[float]:
        """Cash at each close."""
        return self._series(self._account[1].copy(), "cash")

    @functools.cached_property
    def fills(self) -> NDArray[Any]:
        """Every executed order, in order of execution: ndarray of ``backtest.records.FILL``.

        ``reason`` and ``moment`` are places in ``backtest.records.REASONS`` and ``MOMENTS`` (reason 0 opens or adds to a
        position), ``asset`` in ``book.market.assets`` (0 in a run); ``orders`` is the same as a table, decoded.
        """
        fills = np.empty(int(self.sums["n_fills"][0]), dtype=FILL)
        if len(fills):
            scratch = [np.empty_like(each) for each in (self.sums, self._trade_sums, self._account, self._waiting, self._held)]
            self._replay(*scratch, fills)
        return fills

    @functools.cached_property
    def tracked(self) -> Trades:
        """Completed trades and open positions."""
        import pandas as pd

        market = self.market
        by_asset: dict[str, Any] = {
            name: np.ascontiguousarray(each.T)
            for name, each in (
                ("close", market.marks),
                ("high", market.high),
                ("low", market.low),
                ("open", market.open if self.rules.fill == "next_open" else None),
            )
            if each is not None
        }
        return track(
            self.fills,
            times=pd.RangeIndex(market.n_bars) if market.times is None else market.times,
            borrow_per_bar=self._settings.borrow_per_bar,
            first=self.first,
            last=self.last,
            assets=market.assets,
            **by_asset,
        )

    @property
    def unfilled(self) -> pd.DataFrame:
        """Targets that were still waiting for a price at the last bar."""
        import pandas as pd

        assets = np.flatnonzero(~np.isnan(self._waiting))
        return pd.DataFrame(
            {
                "asset": [self.market.assets[asset] for asset in assets],
                "decision_bar": np.full(len(assets), self._waits_since),
                "target": self._waiting[assets],
            }
        )

    @property
    def contribution(self) -> pd.Series[float]:
        """Profit of each asset after its costs, open positions included; they add up to the change of value."""
        import pandas as pd

        fills, n_assets = self.fills, self.market.n_assets
        profit = np.zeros(n_assets)
        np.subtract.at(profit, fills["asset"], fills["value"])
        np.subtract.at(profit, fills["asset"], fills["cost"])
        np.add.at(profit, fills["asset"], fills["written_off"])  # debt that was written off is no loss
        positions = self.tracked.positions
        held = np.flatnonzero(positions["side"])
        profit[held] += positions["units"][held] * self.market.marks[self.last - 1, held] - positions["borrow_cost"][held]
        completed = self.tracked.records
        np.subtract.at(profit, completed["asset"], completed["borrow_cost"])
        return pd.Series(profit, index=list(self.market.assets), name="contribution")

    def _all_times(self) -> pd.Index[Any]:
        import pandas as pd

        return pd.RangeIndex(self.market.n_bars, name="bar") if self.market.times is None else self.market.times

    def _equity_values(self) -> Floats:
        return np.asarray(self._account[0])

    def _gross_value(self) -> Floats:
        return np.asarray(self._account[2])

    def _assets(self) -> tuple[Any, ...]:
        return tuple(self.market.assets)

    def _unexecuted(self) -> Unexecuted:
        """Targets still waiting at the end, as orders sized at the last valid prices; targets that are met already are none."""
        assets = np.flatnonzero(~np.isnan(self._waiting))
        base = self._account[0][-1] if self.rules.reinvest else self.start_cash
        held = self._held[assets] * self.market.marks[self.last - 1, assets]
        wanted = self._waiting[assets] * base
        missing = wanted - held
        is_order = np.abs(missing) > DUST * abs(base)
        bars = np.full(int(is_order.sum()), self._waits_since, dtype=np.int64)
        reason = np.where(held * wanted < 0, "reverse", np.where(held * missing < 0, "signal", "entry"))[is_order].tolist()
        return Unexecuted(bars, assets[is_order], missing[is_order], reason, ["unfilled"] * len(bars))

    def _subject(self) -> str:
        return f"{self.market.n_assets} assets"

    # --- numbers --------------------------------------------------------------------------------------------------------

    @property
    def periods(self) -> Periods:
        """How many bars make a year, ``per_year``, and ``why``."""
        return self.market.periods(self.rules)

    @functools.cached_property
    def stats(self) -> Stats:
        """Every metric of ``bt.METRICS``, by key; equal to what :func:`backtest.optimize_weights` gives."""
        from backtest.stats_series import Stats

        inputs = self.market.metric_inputs(self.rules, self.window)
        warn_if_undated(inputs.periods_per_year > 0)
        values = dict(zip(SWEEP, sweep_metrics(SWEEP, self.sums, inputs)[0], strict=True))
        before = max(self.first - 1, 0)
        benchmark = self._buy_and_hold(before) if self._benchmark is None else self._benchmark
        benchmark = np.concatenate([benchmark[before : before + 1], benchmark[self.first : self.last]])
        return Stats(values | walk_metrics(self._account[0], benchmark, inputs), self)

    def _buy_and_hold(self, before: int) -> Floats:
        """Value of equal amounts of all assets whose prices have begun and not ended at bar ``before``, bought there and held."""
        marks = self.market.marks
        endings = self.market.endings
        assets = np.flatnonzero(marks[before] if endings is None else (marks[before] > 0) & (endings.last >= before))
        if not len(assets):
            return np.full(len(marks), np.nan)
        relative = marks[:, assets] / marks[before, assets]
        value: Floats = np.add.accumulate(relative, axis=1)[:, -1] / len(assets)
        return value

    @property
    def stale_value(self) -> float:
        """Value, regardless of sign, of what is held at the last bar without a price on it."""
        return math.fsum(abs(self._held[asset]) * self.market.marks[self.last - 1, asset] for asset in self._stale())

    def _stale(self) -> list[int]:
        """Assets that are held at the last bar and have no price on it."""
        endings = self.market.endings
        if endings is None:
            return []
        assets: list[int] = np.flatnonzero((self._held != 0) & ~endings.has_price[self.last - 1]).tolist()
        return assets

    def warn(self) -> None:
        """Warn of positions whose prices have ended, and of assets that have prices and never a weight."""
        labels, endings, last = self.market.assets, self.market.endings, self.last - 1
        ended = endings.unusual_gaps(self._stale(), last, labels) if endings is not None else ""
        if ended:
            warnings.warn(
                f"prices end while they are held: {ended}; to the last bar ({last}) the book values them at their last price, "
                f'{self.stale_value:,.2f} of {self._account[0][-1]:,.2f}; delisted="write_off" makes an asset worth 0 from the '
                "bar after its last price on, if delisted_after bars have passed without one",
                NumericsWarning,
                caller_level(),
            )
        bars = self._targets.bars
        first, end = int(bars.searchsorted(self.first)), int(bars.searchsorted(self.last))
        never = never_weighted(self._targets.weights[first:end], endings, bars[first:end])
        if never:
            names = listed([repr(labels[asset]) for asset in never])
            warnings.warn(f"assets have prices and weight 0 at every event: {names}", NumericsWarning, caller_level())

    def trade_statistics(self) -> pd.DataFrame:
        """Statistics of completed trades: one row per statistic, columns All, Long, Short.

        Without trades counts are 0 and means NaN.
        """
        return statistics_frame(STATISTICS, statistics_of(self._trade_sums, months_of(self.market.nanos, self.first, self.last)))


@renamed(FORMER)
def simulate(
    weights: Any,
    *,
    close: Any,
    open: Any = None,
    high: Any = None,
    low: Any = None,
    rebalance: ArrayLike | None = None,
    fill: str = "next_open",
    costs: Costs,
    start_cash: float = 100_000.0,
    reinvest: bool = True,
    reserve_costs: bool = False,
    window: slice | None = None,
    index: Any = None,
    benchmark: ArrayLike | None = None,
    periods_per_year: float | None = None,
    rf: float = 0.0,
    delisted: str = "keep",
    delisted_after: int = 5,
    max_gross: float = MAX_GROSS,
) -> Book:
    """Trade target weights over several assets.

    Parameters
    ----------
    weights : array_like, shape (n_bars, n_assets)
        Shares of the book's value to hold in each asset, negative for a short; a DataFrame must have the labels of ``close``.
        Rows that are not NaN throughout rebalance; a row that repeats the last weights trades too, since prices have moved.
    close, open : array_like, shape (n_bars, n_assets)
        Prices, finite and > 0; NaN says that there is none, anything else is refused.  ``open`` is needed for
        ``fill="next_open"``.
    high, low : array_like, optional
        With them MFE and MAE use the bars' extremes, otherwise the closes.
    rebalance : array_like of bool, shape (n_bars,), optional
        Rows of ``weights`` to trade; the others are not looked at.
    fill : {"next_open", "close"}
        Weights of a bar are known at its close; they fill at the next bar's opens, or at that same close.
    costs : Costs
        ``bt.Costs.zero()`` says none.
    start_cash : float
        Cash before the first bar, > 0.
    reinvest : bool
        Weights are shares of the current value (before costs, at the prices that fill), or of ``start_cash``.
    reserve_costs : bool
        False pays costs out of cash, which goes slightly below 0 at full weights; True scales the weights of an event down
        to avoid that.
    window : slice, optional
        Trade inside these bars only, by their numbers or by dates (``slice("2010", "2012-06")``, both ends included).
    index : array_like of datetime64, optional
        Time of each bar; ``close.index`` by default, if it holds dates.
    benchmark : array_like, shape (n_bars,), optional
        Prices for ``buy_hold_return``, ``alpha`` and ``beta``; by default equal amounts of all assets that have a price at
        the start, bought and held.  A Series must have the index of ``close`` or 0, 1, 2, ..., as all tables here.
    periods_per_year : float, optional
        Bars in a year; inferred from the dates by default.
    rf : float
        Risk-free rate per year in Sharpe and Sortino ratio.
    delisted : {"keep", "write_off"}
        What a position is worth once the prices of its asset have ended: its last price to the end, with a warning and the
        statistic "Value on stale prices", or nothing from the bar after the last price on (a trade that exits at 0, reason
        ``delisted``).  Writing off is hindsight: nobody knows on that bar that no price will follow.
    delisted_after : int
        An asset is written off if others have prices on at least this many bars after its last one.
    max_gross : float
        Largest sum of absolute weights of one event; more is refused, since 50 for 50 % is the usual mistake.

    Returns
    -------
    Book
        ``.equity``, ``.returns``, ``.stats``, ``.trade_statistics()``, ``.trades``, ``.orders``, ``.open_positions``.

    Raises
    ------
    InputError
        Weights and prices of different shape or labels, NaN or infinity inside a row that rebalances, a mask of wrong
        length, ``next_open`` without opens, and whatever else breaks a rule; the message names it.

    Notes
    -----
    An asset that has to trade and has no price at the open waits for its first one, and is then sized by the value at that
    time; with ``fill="close"`` it keeps its units.  What cannot be sold frees no cash: orders of other assets are cut to
    the cash there is meanwhile.  Between events units are constant.
    """
    rules = Rules(
        costs=costs,
        fill=fill,
        start_cash=start_cash,
        reinvest=reinvest,
        reserve_costs=reserve_costs,
        periods_per_year=periods_per_year,
        rf=rf,
        delisted=delisted,
        delisted_after=delisted_after,
    ).checked()
    market = Market(close, open, high, low, index, rules.write_off_after)
    events = market.events(weights, rebalance, gross_limit(max_gross))
    base = market.benchmark(benchmark)
    book = Book(market, rules, joined([events]), window, base)
    if rules.fill == "next_open" and len(events[1]) and events[1][-1] == book.last - 1:
        warnings.warn(
            f"the event on the last bar ({book.last - 1}) is dropped: there is no next open to fill it at",
            NumericsWarning,
            stacklevel=caller_level(),
        )
    book.warn()
    return book

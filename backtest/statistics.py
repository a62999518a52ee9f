"""``bt.stats``: this library's metrics from any engine's equity and trades."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._checks import InputError, NumericsWarning, caller_level, money, number, vector
from backtest._said import shown
from backtest.bars import Bars
from backtest.equity_record import EquityRecord, TradeTable, trades_of
from backtest.files.times import split, times_of_rows
from backtest.metrics import SUMS, SWEEP, MetricInputs, sweep_metrics, walk_metrics, warn_if_undated
from backtest.periods import given

if TYPE_CHECKING:
    from backtest.stats_series import Stats

Floats = NDArray[np.float64]

#: Difference between equity and the profits of trades that is rounding (of cents, say), as a share of the account.
EXPLAINED = 1e-4

#: Metrics of trades, and the columns each needs besides the times of entry and exit.
NEEDED_COLUMNS: dict[str, tuple[str, ...]] = {
    "n_trades": (),
    "exposure": (),
    "win_rate": (),
    "profit_factor": ("net_profit",),
    "largest_trade_share": ("net_profit",),
    "expectancy": ("return",),
    "best_trade": ("return",),
    "worst_trade": ("return",),
    "sqn": ("return",),
    "turnover": ("units", "entry_price", "exit_price"),
    "costs_paid": ("entry_cost", "exit_cost"),
    "breakeven_cost": ("units", "entry_price", "exit_price", "entry_cost", "exit_cost"),
    "n_ambiguous": ("ambiguous",),
}


def stats(
    equity: ArrayLike,
    trades: Any = None,
    *,
    open_positions: Any = None,
    start_cash: float | None = None,
    benchmark: ArrayLike | None = None,
    rf: float = 0.0,
    periods_per_year: float | None = None,
) -> Stats:
    """Every metric of ``bt.METRICS``, by the same functions, of any engine's equity and trades.

    Parameters
    ----------
    equity : Series or array_like, shape (n_bars,)
        Value of the account at each close, finite and >= 0; a Series brings the times of its bars.
    trades : DataFrame or mapping of columns, optional
        Completed trades, such as ``run.trades``: ``entry_time`` and ``exit_time``, which are times in the index of ``equity``,
        and ``net_profit`` or ``return`` (a fraction of what was paid).  ``side`` ("long" or "short"), ``units``,
        ``entry_price``, ``exit_price``, ``entry_cost``, ``exit_cost``, ``borrow_cost``, ``mfe``, ``mae``, ``ambiguous`` and
        ``written_off`` are used if they are there, any other column is left alone.
    open_positions : DataFrame or mapping of columns, optional
        Positions at the end, such as ``run.open_positions``: ``entry_time``, ``units``, ``entry_price`` and ``entry_cost``,
        ``borrow_cost`` if there is one.  They count in exposure, turnover and costs.
    start_cash : float, optional
        Money before the first bar, which then has a return.  By default the first value of ``equity`` is the start, and
        returns begin with the second.
    benchmark : Series or array_like, optional
        Prices for ``buy_hold_return``, ``alpha`` and ``beta``: a Series that has the times of ``equity`` (the value before them
        is used if there is one), or an array with a value for each bar, or one more in front.
    rf : float
        Risk-free rate per year in Sharpe and Sortino ratio.
    periods_per_year : float, optional
        Bars in a year; inferred from the times by default.

    Returns
    -------
    Stats
        A ``pandas.Series``.  A metric that needs more than was given is NaN, and ``.missing`` names what it needs;
        ``.trade_statistics()`` is the table of trades.

    Raises
    ------
    InputError
        An argument breaks a rule; the message names it.

    Notes
    -----
    The numbers of a :class:`backtest.Run` need its start, its open positions and prices from before its first bar::

        bt.stats(run.equity, run.trades, open_positions=run.open_positions, start_cash=run.start_cash, rf=run.execution.rf,
                 benchmark=pd.Series(bars.close, index=bars.times()), periods_per_year=run.periods.per_year)

    Sums of returns are rounded once, those of a run as they are added up, so metrics agree to about 1e-12; those of single bars
    and of trades agree to the last bit.
    """
    import pandas as pd

    from backtest.stats_series import Stats

    curve, times, index = _curve(equity)
    rf = number("rf", rf)
    if periods_per_year is not None:
        periods_per_year = number("periods_per_year", periods_per_year, low=0.0, open_low=True)
    clock = _clock(index, len(curve))
    periods = clock.inferred_periods() if periods_per_year is None else given(periods_per_year)
    first = 1 if start_cash is None else 0  # bar of the first return
    if first >= len(curve):
        raise InputError(f"equity must have two values or more without a start_cash, got {len(curve)}")
    start = money("equity (its first value)", float(curve[0])) if start_cash is None else money("start_cash", start_cash)
    base, time_before = _benchmark(benchmark, times, first)
    inputs = MetricInputs(
        start_cash=start, rf=rf, periods_per_year=periods.per_year, years=_years(clock, index, first, time_before)
    )
    table = None if trades is None else trades_of(trades, times, "trades")
    held = None if open_positions is None else trades_of(open_positions, times, "open_positions")
    if held is not None and table is None:
        raise InputError("trades must be given with open_positions, got None")
    sums = _sums_of_returns(curve[first:], start, rf / periods.per_year if periods.per_year > 0 else 0.0)
    if table is not None and held is None and start_cash is not None:
        _warn_if_open(table, start, float(curve[-1]))
    missing = _add_trades(sums, table, held, first, len(curve))
    values = dict(zip(SWEEP, sweep_metrics(SWEEP, sums, inputs)[0], strict=True))
    values = {name: math.nan if name in missing else value for name, value in values.items()}
    if base is None:
        missing |= dict.fromkeys(("buy_hold_return", "alpha", "beta"), "benchmark")
    unknown = np.full(len(curve) - first + 1, math.nan)
    values |= walk_metrics(curve[first:], unknown if base is None else base, inputs)
    warn_if_undated(periods.per_year > 0)
    series = pd.Series(curve, index=times, name="equity")
    return Stats(values, EquityRecord(series, times, periods, table), missing)


def _warn_if_open(trades: TradeTable, start_cash: float, end_equity: float) -> None:
    """Warn if completed trades do not explain the last equity: positions are then probably open."""
    c = trades.columns
    if "net_profit" not in c:
        return
    explained = start_cash + math.fsum(c["net_profit"].tolist())
    forgiven = math.fsum(c["written_off"].tolist()) if "written_off" in c else 0.0
    if min(abs(end_equity - explained), abs(end_equity - explained - forgiven)) > EXPLAINED * max(start_cash, end_equity):
        warnings.warn(
            f"equity ends at {end_equity:g}, start_cash and the net_profit of trades come to {explained:g}: exposure, turnover, "
            "costs_paid and breakeven_cost lack what is still open, which open_positions= adds (or net_profit is before costs)",
            NumericsWarning,
            stacklevel=caller_level(),
        )


def _curve(equity: Any) -> tuple[Floats, Any, Any]:
    """Equity, the labels of its bars, and these as a DatetimeIndex if they are dates."""
    import pandas as pd

    if isinstance(equity, pd.DataFrame):
        first = shown(equity.columns[0]) if len(equity.columns) else "'equity'"
        raise InputError(f"equity must be a Series, got a DataFrame of {len(equity.columns)} columns; equity[{first}] is one")
    curve = vector("equity", equity)
    if not len(curve):
        raise InputError("equity must have a value, got none")
    if (curve < 0).any():
        bar = int((curve < 0).argmax())
        raise InputError(f"equity must be >= 0, got {curve[bar]} (row {bar})")
    if not isinstance(equity, pd.Series):
        return curve, pd.RangeIndex(len(curve)), None
    index = times_of_rows(equity.index)
    times = equity.index if index is None else index
    if not times.is_monotonic_increasing or not times.is_unique:
        raise InputError("equity must have an index that ascends, each label once; equity.sort_index() sorts it")
    return curve, times, index


def _clock(index: Any, n_bars: int) -> Bars:
    """Bars that matter for their times only; all prices are 1."""
    ones = np.ones(n_bars)
    if index is None:
        return Bars(open=ones, high=ones, low=ones, close=ones)
    nanos, tz = split(index)
    return Bars(open=ones, high=ones, low=ones, close=ones, index=nanos, tz=tz)


def _years(clock: Bars, index: Any, first: int, time_before: Any) -> float:
    """Calendar years of the returns: from the bar before the first, if its time is known."""
    if time_before is not None:
        return _clock(index.insert(0, time_before), len(clock) + 1).years(1, len(clock) + 1)
    return clock.years(first, len(clock))


def _benchmark(benchmark: Any, times: Any, first: int) -> tuple[Floats | None, Any]:
    """Prices at the bar before the first return and from there on, and the time of that bar if equity has none."""
    import pandas as pd

    if benchmark is None:
        return None, None
    values = vector("benchmark", benchmark)
    if (values <= 0).any():
        raise InputError(f"benchmark must be > 0, got {values[values <= 0][0]}")
    time_before = None
    if isinstance(benchmark, pd.Series):
        dated = times_of_rows(benchmark.index)
        labels = benchmark.index if dated is None else dated
        at = labels.get_indexer(times) if labels.is_unique and labels.is_monotonic_increasing else np.array([-1])
        if (at < 0).any():
            row = int((at < 0).argmax())
            raise InputError(f"benchmark must have a price at each time of equity, got none at {shown(times[row])}")
        before = max(int(at[0]) - 1, 0)
        time_before = labels[before] if dated is not None and before < at[0] else None
        values = np.concatenate([values[before : before + 1], values[at]])
    elif len(values) == len(times):
        values = np.concatenate([values[:1], values])
    if len(values) != len(times) + 1:
        raise InputError(f"benchmark must have a value for each bar ({len(times)}), or one more in front, got {len(values)}")
    return values[first:], time_before if first == 0 else None


def _sums_of_returns(equity: Floats, start_cash: float, rf_per_bar: float) -> NDArray[Any]:
    """Sums of the returns, each rounded once; those of trades are 0."""
    before = np.concatenate([[start_cash], equity])
    with np.errstate(all="ignore"):
        r = np.where(before[:-1] != 0, np.diff(before) / before[:-1], 0.0)
    square, below = r * r, np.minimum(r - rf_per_bar, 0.0)
    sums = np.zeros(1, dtype=SUMS)
    sums["n_returns"], sums["end_equity"] = len(r), equity[-1]
    for name, values in (
        ("sum_return", r),
        ("sum_return_2", square),
        ("sum_return_3", square * r),
        ("sum_return_4", square * square),
        ("sum_gain", r[r > 0]),
        ("sum_loss", -r[r < 0]),
        ("sum_downside_2", below * below),
    ):
        sums[name] = math.fsum(values.tolist())
    sums["max_drawdown"] = (before / np.maximum.accumulate(before) - 1.0).min()
    return sums


def _add_trades(
    sums: NDArray[Any], trades: TradeTable | None, held: TradeTable | None, first: int, n_bars: int
) -> dict[str, str]:
    """Write the sums of trades; returns the metrics that cannot be computed, each with what it needs."""
    if trades is None:
        return dict.fromkeys(NEEDED_COLUMNS, "trades")
    c = trades.columns
    zeros = np.zeros(len(trades))
    net, result = c.get("net_profit", c.get("return", zeros)) + 0.0, c.get("return", zeros) + 0.0
    exposed = np.zeros(n_bars, dtype=np.bool_)
    for table in (trades, held):
        for entry, end in () if table is None else zip(table.entry.tolist(), table.exit.tolist(), strict=True):
            exposed[entry:end] = True
    traded, costs = _paid(trades)
    if held is not None:
        more_traded, more_costs = _paid(held)
        traded, costs = traded + more_traded, costs + more_costs
    for name, value in (
        ("bars_held", np.count_nonzero(exposed[first:])),
        ("traded_value", traded),
        ("costs", costs),
        ("written_off", math.fsum(c.get("written_off", zeros).tolist())),
        ("n_trades", len(trades)),
        ("n_winners", np.count_nonzero(net > 0)),
        ("won", _in_order(net[net > 0])),
        ("lost", _in_order(-net[net < 0])),
        ("net_profit", _in_order(net)),
        ("largest_profit", net.max(initial=-math.inf)),
        ("sum_trade_return", _in_order(result)),
        ("sum_trade_return_2", _in_order(result * result)),
        ("best_trade", result.max(initial=-math.inf)),
        ("worst_trade", result.min(initial=math.inf)),
        ("n_ambiguous", _in_order(c.get("ambiguous", zeros))),
    ):
        sums[name] = value
    lacking = {name: [each for each in needed if each not in c] for name, needed in NEEDED_COLUMNS.items()}
    return {name: ", ".join(f"trades[{each!r}]" for each in names) for name, names in lacking.items() if names}


def _paid(table: TradeTable) -> tuple[float, float]:
    """Value that was traded and costs that were paid; a missing column counts as 0."""
    c = table.columns
    zeros = np.zeros(len(table))
    units = np.abs(c.get("units", zeros))
    value = units * c.get("entry_price", zeros) + units * c.get("exit_price", zeros)
    costs = c.get("entry_cost", zeros) + c.get("exit_cost", zeros) + c.get("borrow_cost", zeros)
    return math.fsum(value.tolist()), math.fsum(costs.tolist())


def _in_order(values: Floats) -> float:
    """Sum from the first to the last, as the kernels add up."""
    return float(np.add.accumulate(values)[-1]) if len(values) else 0.0

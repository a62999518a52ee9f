"""Equity and trades of another engine, checked, for :func:`backtest.stats`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, choice, vector
from backtest._said import shown
from backtest.periods import Periods
from backtest.records import POSITION, TRADE
from backtest.trades import Trades

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Trade statistics that need more columns of trades than the times, and these columns.
NEEDED_COLUMNS: dict[str, tuple[str, ...]] = {
    "costs_paid": ("entry_cost", "exit_cost"),
    "n_ambiguous": ("ambiguous",),
    "mean_mfe": ("mfe",),
    "mean_mae": ("mae",),
    **dict.fromkeys(("expectancy", "sqn", "information_score"), ("return",)),
    **dict.fromkeys(
        (
            "net_profit",
            "largest_profit",
            "largest_loss",
            "mean_profit",
            "mean_loss",
            "mean_net_profit",
            "reward_risk",
            "profit_factor",
        ),
        ("net_profit",),
    ),
}
#: Columns of trades that hold numbers.
NUMBERS = (
    "net_profit",
    "return",
    "units",
    "entry_price",
    "exit_price",
    "entry_value",
    "entry_cost",
    "exit_cost",
    "borrow_cost",
    "gross_profit",
    "mfe",
    "mae",
    "ambiguous",
    "written_off",
)


#: Columns of other engines' tables of trades, by the name that is read here.
RENAMED = {
    "backtesting.py": {
        "EntryTime": "entry_time",
        "ExitTime": "exit_time",
        "PnL": "net_profit",
        "ReturnPct": "return",
        "Size": "units",
        "EntryPrice": "entry_price",
        "ExitPrice": "exit_price",
    },
    "vectorbt": {
        "Entry Timestamp": "entry_time",
        "Exit Timestamp": "exit_time",
        "PnL": "net_profit",
        "Return": "return",
        "Size": "units",
        "Avg Entry Price": "entry_price",
        "Avg Exit Price": "exit_price",
        "Entry Fees": "entry_cost",
        "Exit Fees": "exit_cost",
        "Direction": "side",
    },
}


SIDES = ("long", "short", "Long", "Short")


class TradeTable(NamedTuple):
    """Trades of another engine, checked."""

    columns: dict[str, Floats]  # those of NUMBERS that were given
    entry: Ints  # bars of equity
    exit: Ints
    side: Ints | None  # 1 and -1

    def __len__(self) -> int:
        return len(self.entry)


class EquityRecord:
    """Equity and trades of another engine, and how many bars make a year.

    Attributes
    ----------
    equity : Series
    periods : Periods
    """

    #: ``to_backtesting`` and ``to_vectorbt`` are not defined: they need bars and orders.
    has_tool_stats = False

    def __init__(self, equity: pd.Series[float], times: Any, periods: Periods, trades: TradeTable | None) -> None:
        self.equity, self.periods, self._times, self._trades = equity, periods, times, trades

    def __repr__(self) -> str:
        n = "unknown" if self._trades is None else f"{len(self._trades):,}"
        return f"EquityRecord({len(self.equity):,} bars, {n} trades)"

    def trade_statistics(self) -> pd.DataFrame:
        """Statistics of the trades: All, Long, Short; NaN where the columns it needs were not given."""
        if self._trades is None:
            raise InputError("trades must be given for trade_statistics, got None")
        t, n_bars = self._trades, len(self.equity)
        records = np.zeros(len(t), dtype=TRADE)
        records["side"] = 1 if t.side is None else t.side
        records["decision_bar"] = records["entry_bar"] = t.entry
        records["exit_bar"] = t.exit
        for name, values in t.columns.items():
            records["return_" if name == "return" else name] = values
        if "net_profit" not in t.columns:  # its sign still tells winners
            records["net_profit"] = t.columns["return"]
        close = np.asarray(self.equity, dtype=np.float64)[None, :]
        positions = np.zeros(1, dtype=POSITION)
        frame = Trades(records, positions, close, self._times, (0, n_bars), None).statistics()
        unknown = [name for name, needed in NEEDED_COLUMNS.items() if not t.columns.keys() >= set(needed)]
        frame.loc[unknown] = math.nan
        if t.side is None:
            frame[["Long", "Short"]] = math.nan
        return frame


def trades_of(given_trades: Any, times: Any, name: str) -> TradeTable:
    """A table of trades or open positions, checked, with times as bar numbers of equity."""
    import pandas as pd

    is_open = name == "open_positions"
    try:
        table = given_trades if isinstance(given_trades, pd.DataFrame) else pd.DataFrame(dict(given_trades))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} must be a DataFrame or a mapping of columns, got {type(given_trades).__name__}") from error
    repeated = table.columns[table.columns.duplicated()]
    if len(repeated):
        raise InputError(f"{name} must have each column once, got {shown(repeated[0])} twice")
    needed = ("entry_time", "units", "entry_price", "entry_cost") if is_open else ("entry_time", "exit_time")
    for each in needed:
        if each not in table:
            raise _lacks(name, repr(each), table)
    columns = {
        each: vector(
            f"{name} column {each!r}", table[each].astype(np.int64) if table[each].dtype == bool else table[each], finite=False
        )
        for each in NUMBERS
        if each in table
    }
    for each in ("net_profit", "return", "units", "entry_price", "exit_price", "entry_cost", "exit_cost", "borrow_cost"):
        if each in columns and not np.isfinite(columns[each]).all():
            row = int((~np.isfinite(columns[each])).argmax())
            raise InputError(f"{name} column {each!r} must be finite, got {columns[each][row]} (row {row})")
    entry = _bars_at(table["entry_time"], times, f"{name} column 'entry_time'")
    if is_open:
        return TradeTable(columns, entry, np.full(len(entry), len(times), dtype=np.int64), None)
    if "net_profit" not in columns and "return" not in columns:
        raise _lacks(name, "'net_profit' or 'return'", table)
    end = _bars_at(table["exit_time"], times, f"{name} column 'exit_time'")
    if (end < entry).any():
        row = int((end < entry).argmax())
        raise InputError(
            f"{name} column 'exit_time' must not be before entry_time, got {shown(table['exit_time'].iloc[row])} (row {row})"
        )
    side = None
    if "side" in table:
        is_long = [choice(f"{name} column 'side'", each, SIDES) in ("long", "Long") for each in table["side"]]
        side = np.where(np.array(is_long, dtype=np.bool_), 1, -1)
        # Units without a sign are sizes: then nothing contradicts.
        if "units" in columns and (columns["units"] < 0).any() and (np.sign(columns["units"]) * side < 0).any():
            row = int((np.sign(columns["units"]) * side < 0).argmax())
            raise InputError(
                f"{name} column 'units' must be > 0 for a long and < 0 for a short where some are negative, got "
                f"{columns['units'][row]:g} with side {table['side'].iloc[row]!r} (row {row})"
            )
    elif "units" in columns:
        side = np.where(columns["units"] > 0, 1, -1)
    order = np.argsort(end, kind="stable")
    return TradeTable(
        {each: values[order] for each, values in columns.items()}, entry[order], end[order], None if side is None else side[order]
    )


def _lacks(name: str, needed: str, table: pd.DataFrame) -> InputError:
    """The error of a column that is not there; of another engine's table it has the ``rename`` to type."""
    message = f"{name} must have a column {needed}, got {', '.join(map(str, table.columns)) or 'none'}"
    tool = max(RENAMED, key=lambda each: len(RENAMED[each].keys() & set(table.columns)))
    known = {old: new for old, new in RENAMED[tool].items() if old in table}
    if any(new.endswith("_time") for new in known.values()):
        message += f"; {name}.rename(columns={known}) has it"
    return InputError(message)


def _bars_at(values: pd.Series[Any], times: Any, name: str) -> Ints:
    import pandas as pd

    _check_zone(values, times, name)
    try:
        labels = pd.DatetimeIndex(values) if isinstance(times, pd.DatetimeIndex) else pd.Index(values)
        bars = times.get_indexer(labels)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{name} must hold times in the index of equity, got {shown(values.iloc[0])}") from error
    if (bars < 0).any():
        row = int((bars < 0).argmax())
        raise InputError(f"{name} must hold times in the index of equity, got {shown(values.iloc[row])} (row {row})")
    return np.asarray(bars, dtype=np.int64)


def _check_zone(values: pd.Series[Any], times: Any, name: str) -> None:
    """Refuse times with a zone beside times without."""
    import pandas as pd

    mine, of = getattr(getattr(values, "dt", None), "tz", None), getattr(times, "tz", None)
    if not isinstance(times, pd.DatetimeIndex) or not len(values) or values.dtype.kind != "M" or (mine is None) == (of is None):
        return
    column = name.replace(" column ", "[") + "]"
    if mine is None:
        raise InputError(f"{name} must have the zone of equity, {of}, got times without a zone; {column}.dt.tz_localize('{of}')")
    raise InputError(f"{name} must have no zone, as equity has none, got times in {mine}; {column}.dt.tz_localize(None) drops it")

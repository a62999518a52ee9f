"""Numbers as people like to read them, and tables of them (rich)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from backtest.trades import STATISTICS

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

#: Statistics that are fractions, shown as percents.
FRACTIONS = ("win_rate", "expectancy", "total_return", "max_drawdown", "max_margin_load", "mean_margin_load")
COUNTS = ("n_", "longest_", "min_", "max_")


def number(value: float, text: str) -> str:
    """A number by its format; a dash for what is undefined, a sign for what is infinite."""
    return "-" if math.isnan(value) else "∞" if value == math.inf else "-∞" if value == -math.inf else text.format(value)


def statistic(key: str, value: float) -> str:
    """A statistic of trades or of a book."""
    if key in FRACTIONS:
        return number(value, "{:.2%}")
    return number(value, "{:,.0f}" if key.startswith(COUNTS) else "{:,.2f}")


def plain_table(title: str, is_tight: bool = False) -> Table:
    """A table without lines."""
    from rich.table import Table

    return Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False,
                 padding=(0, 1 if is_tight else 2, 0, 0))


def statistics(frame: pd.DataFrame, more: Mapping[str, str] | None = None) -> Table:
    """Statistics of trades as a table: All, Long, Short; ``more`` gives titles of keys that trades do not have."""
    titles = STATISTICS | (dict(more) if more else {})
    table = plain_table("Statistics" if more else "Trades")
    for name in ("", *map(str, frame.columns)):
        table.add_column(name, justify="left" if name == "" else "right")
    for key, *values in frame.itertuples():
        table.add_row(titles[key], *(statistic(key, value) for value in values))
    return table

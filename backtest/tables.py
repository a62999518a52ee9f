"""Numbers as people like to read them, and tables of them (rich)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.metrics import METRICS, optimistic
from backtest.trades import STATISTICS

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

#: Statistics that are fractions, shown as percents.
FRACTIONS = ("win_rate", "expectancy", "total_return", "max_drawdown", "max_margin_load", "mean_margin_load")
BARS_OF_SPARKS = " ▁▂▃▄▅▆▇█"
COUNTS = ("n_", "longest_", "min_", "max_")


def number(value: float, text: str) -> str:
    """A number by its format; a dash for what is undefined, a sign for what is infinite."""
    return "-" if math.isnan(value) else "∞" if value == math.inf else "-∞" if value == -math.inf else text.format(value)


def statistic(key: str, value: float) -> str:
    """A statistic of trades or of a book."""
    if key in FRACTIONS:
        return number(value, "{:.2%}")
    return number(value, "{:,.0f}" if key.startswith(COUNTS) else "{:,.2f}")


def metric(key: str, value: float) -> str:
    """A metric of ``bt.METRICS``."""
    unit = METRICS[key].unit
    return number(value, "{:.2%}" if unit == "fraction" else "{:,.0f}" if unit in ("count", "bars") else "{:.3f}")


def plain_table(title: str, is_tight: bool = False) -> Table:
    """A table without lines."""
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        header_style="bold",
        box=None,
        pad_edge=False,
        padding=(0, 1 if is_tight else 2, 0, 0),
    )


def statistics(frame: pd.DataFrame, more: Mapping[str, str] | None = None) -> Table:
    """Statistics of trades as a table: All, Long, Short; ``more`` gives titles of keys that trades do not have."""
    titles = STATISTICS | (dict(more) if more else {})
    table = plain_table("Statistics" if more else "Trades")
    for name in ("", *map(str, frame.columns)):
        table.add_column(name, justify="left" if name == "" else "right")
    for key, *values in frame.itertuples():
        table.add_row(titles[key], *(statistic(key, value) for value in values))
    return table


def metrics(stats: pd.Series[float]) -> Table:
    """Metrics by key, in two columns."""
    table = plain_table("Metrics")
    for name in ("", "", "   ", ""):
        table.add_column(name)
    rows = [
        (METRICS[str(key)].title, metric(str(key), value) + _other_order(str(key), stats))
        for key, value in stats.items()
        if key in METRICS
    ]
    half = -(-len(rows) // 2)
    for left, right in zip(rows[:half], [*rows[half:], ("", "")][:half], strict=False):
        table.add_row(*left, *right)
    return table


def _other_order(key: str, stats: pd.Series[float]) -> str:
    """The metric with the target first, where ``intrabar="both"`` found another value."""
    value, other = float(stats[key]), float(stats.get(optimistic(key), stats[key]))
    return "" if other == value or (other != other and value != value) else f" (target first {metric(key, other)})"


def contributions(book: Any) -> Table:
    """Profit, orders and costs of each asset of a book."""
    from rich.markup import escape

    table = plain_table("Assets")
    for name in ("asset", "profit", "orders", "costs"):
        table.add_column(name, justify="left" if name == "asset" else "right")
    by_asset = book.ledger.groupby("asset", sort=False)["cost"].agg(["size", "sum"])
    for asset, profit in book.contribution.items():
        orders, costs = by_asset.loc[asset] if asset in by_asset.index else (0, 0.0)
        table.add_row(escape(str(asset)), f"{profit:,.2f}", f"{orders:,.0f}", f"{costs:,.2f}")
    return table


def sparkline(values: Any, width: int) -> str:
    """A curve in one line of text, on a logarithmic scale where all values are > 0."""
    values = np.asarray(values, dtype=np.float64)
    picked = values[np.linspace(0, len(values) - 1, min(width, len(values))).astype(int)]
    scaled = np.log(picked) if (picked > 0).all() else picked
    span = scaled.max() - scaled.min()
    level = np.zeros(len(scaled)) if span == 0 else (scaled - scaled.min()) / span
    return "".join(BARS_OF_SPARKS[1 + round(each * (len(BARS_OF_SPARKS) - 2))] for each in level.tolist())

"""Numbers formatted for people, and tables of them for consoles (rich) and notebooks (HTML)."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest.metrics import METRICS, optimistic
from backtest.trades import STATISTICS

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

#: Rows of :meth:`backtest.Simulation.account_statistics`: key -> title.
ACCOUNT_STATISTICS = {
    "start_cash": "Start cash",
    "end_equity": "End equity",
    "total_return": "Total return",
    "max_drawdown": "Maximum drawdown",
    "turnover": "Turnover (traded / start cash)",
    "costs": "Costs, open positions included",
    "max_margin_load": "Largest margin load",
    "mean_margin_load": "Mean margin load",
    "n_fills": "Orders executed",
    "stale_value": "Value on stale prices",
}
#: Statistics that are fractions, shown as percents.
FRACTIONS = ("win_rate", "expectancy", "total_return", "max_drawdown", "max_margin_load", "mean_margin_load")
SPARKS = " ▁▂▃▄▅▆▇█"
COUNTS = ("n_", "longest_", "min_", "max_")


def number(value: float, text: str) -> str:
    """A number by its format; a dash for NaN, the sign for infinity."""
    return "-" if math.isnan(value) else "∞" if value == math.inf else "-∞" if value == -math.inf else text.format(value)


def statistic(key: str, value: float) -> str:
    """A statistic of trades or of an account."""
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


def statistics(frame: pd.DataFrame) -> Table:
    """Statistics of trades as a table: All, Long, Short."""
    return _filled(plain_table("Trades"), ["", *map(str, frame.columns)], _trade_rows(frame))


def account(values: pd.Series[float]) -> Table:
    """Statistics of an account as a table."""
    return _filled(plain_table("Account"), ["", ""], _account_rows(values))


def metrics(stats: pd.Series[float]) -> Table:
    """Metrics by key, in two columns."""
    table, rows = plain_table("Metrics"), _metric_rows(stats)
    for name in ("", "", "   ", ""):
        table.add_column(name)
    half = -(-len(rows) // 2)
    for left, right in zip(rows[:half], [*rows[half:], ("", "")][:half], strict=False):
        table.add_row(*left, *right)
    return table


def of_simulation(simulation: Any) -> Any:
    """What a console shows of a simulation: metrics, its account, statistics of its trades."""
    from rich.console import Group
    from rich.markup import escape

    return Group(
        escape(repr(simulation)),
        "",
        metrics(simulation.stats),
        "",
        account(simulation.account_statistics()),
        "",
        statistics(simulation.trade_statistics()),
    )


def html_of_simulation(simulation: Any) -> str:
    """The same for a notebook."""
    trades = simulation.trade_statistics()
    return "\n".join(
        (
            f"<p><b>{html.escape(repr(simulation))}</b></p>",
            _html("Metrics", ["", ""], _metric_rows(simulation.stats)),
            _html("Account", ["", ""], _account_rows(simulation.account_statistics())),
            _html("Trades", ["", *map(str, trades.columns)], _trade_rows(trades)),
        )
    )


def _metric_rows(stats: pd.Series[float]) -> list[Sequence[str]]:
    return [
        (METRICS[str(key)].title, metric(str(key), value) + _other_order(str(key), stats))
        for key, value in stats.items()
        if key in METRICS
    ]


def _trade_rows(frame: pd.DataFrame) -> list[Sequence[str]]:
    return [(STATISTICS[key], *(statistic(key, value) for value in values)) for key, *values in frame.itertuples()]


def _account_rows(values: pd.Series[float]) -> list[Sequence[str]]:
    return [(ACCOUNT_STATISTICS[str(key)], statistic(str(key), value)) for key, value in values.items()]


def _filled(table: Table, columns: list[str], rows: list[Sequence[str]]) -> Table:
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left")
    for row in rows:
        table.add_row(*row)
    return table


def _html(title: str, columns: list[str], rows: list[Sequence[str]]) -> str:
    """A table as HTML, numbers aligned to the right."""
    right = ' style="text-align: right"'
    head = "".join(f"<th{right if at else ''}>{html.escape(name)}</th>" for at, name in enumerate(columns))
    body = "\n".join(
        "<tr>" + "".join(f"<td{right if at else ''}>{html.escape(text)}</td>" for at, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<table><caption>{html.escape(title)}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"


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
    orders = book.orders.query("status == 'filled'")
    by_asset = orders.groupby("asset", sort=False)["cost"].agg(["size", "sum"])
    for asset, profit in book.contribution.items():
        n_orders, costs = by_asset.loc[asset] if asset in by_asset.index else (0, 0.0)
        table.add_row(escape(str(asset)), f"{profit:,.2f}", f"{n_orders:,.0f}", f"{costs:,.2f}")
    return table


def of_rows(title: str, columns: list[str], rows: list[Sequence[str]]) -> Table:
    """Texts as a table, all but the first column aligned to the right."""
    from rich.markup import escape

    return _filled(plain_table(escape(title)), columns, [[escape(text) for text in row] for row in rows])


def html_of_rows(title: str, columns: list[str], rows: list[Sequence[str]]) -> str:
    """The same for a notebook."""
    return _html(title, columns, rows)


def sparkline(values: Any, width: int) -> str:
    """A curve in one line of text, on a logarithmic scale where all values are > 0."""
    values = np.asarray(values, dtype=np.float64)
    picked = values[np.linspace(0, len(values) - 1, min(width, len(values))).astype(int)]
    scaled = np.log(picked) if (picked > 0).all() else picked
    span = scaled.max() - scaled.min()
    level = np.zeros(len(scaled)) if span == 0 else (scaled - scaled.min()) / span
    return "".join(SPARKS[1 + round(each * (len(SPARKS) - 2))] for each in level.tolist())

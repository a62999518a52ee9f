"""What a search found, for people: the best candidates, and the best one in each cell."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from rich.markup import escape

from backtest.cli.console import console
from backtest.metrics import METRICS
from backtest.periods import Periods
from backtest.tables import metric, plain_table
from backtest.windows import text

#: Columns of the table of the best candidates, after the searched metric.
SHOWN = {
    "total_return": "return",
    "max_drawdown": "drawdown",
    "sharpe": "sharpe",
    "n_trades": "trades",
    "win_rate": "wins",
    "profit_factor": "profit factor",
}


def show_best(result: Any, top: int) -> None:
    """The table of the best candidates, and how the metric is distributed over all of them."""
    shown = [result.metric, *(key for key in SHOWN if key != result.metric)]
    table = plain_table(
        f"Best {min(top, len(result.table))} of {result.n_evaluated:,} candidates by {METRICS[result.metric].title}",
        is_tight=True,
    )
    table.add_column("#", justify="right")
    names = [name for name in result.table.index.names if name is not None]
    for name in [*names, *(SHOWN.get(key, key) for key in shown)]:
        table.add_column(name.replace("_", " "), justify="right", overflow="fold")
    head = result.table.head(top)
    params = head.index.to_frame(index=False)
    for rank, (_, row) in enumerate(head.iterrows(), 1):
        values = [escape(parameter_text(params[name].iloc[rank - 1])) for name in names]
        table.add_row(str(rank), *values, *(metric(key, row[key]) for key in shown), style="bold green" if rank == 1 else None)
    console.print(table)
    if result.distribution.n > result.distribution.n_undefined:
        low, middle, high = (metric(result.metric, result.distribution.quantile(q)) for q in (0.05, 0.5, 0.95))
        console.print(
            f"{METRICS[result.metric].title} of all candidates: median {middle}, 5 % to 95 %: {low} to {high}; "
            f"{result.distribution.n_undefined:,} undefined",
            highlight=False,
        )
    console.print()


def show_cells(result: Any) -> None:
    """The best candidate in each symbol and window, and all of them together."""
    params = ", ".join(f"{name} = {parameter_text(value)}" for name, value in result.best_params.items())
    console.print(f"[bold]Best candidate[/bold]  {escape(params)}\n", highlight=False)
    table = plain_table("In each cell", is_tight=True)
    shown = [result.metric, *(key for key in SHOWN if key != result.metric)]
    for name in ("cell", *(SHOWN.get(key, key).replace("_", " ") for key in shown)):
        table.add_column(name, justify="left" if name == "cell" else "right")
    best = result.table.iloc[0]
    for cell in result.best:
        table.add_row(escape(cell), *(metric(key, best[f"{key}@{cell}"]) for key in shown))
    table.add_row(escape(result.provenance["aggregate"]), *(metric(key, best[key]) for key in shown), style="bold green")
    console.print(table, "", sep="\n")


def each_window(window: Any) -> list[slice]:
    """The windows of a configuration: none, one or several."""
    return window if isinstance(window, list) else [] if window is None else [window]


def show_windows(window: Any, numbered: Callable[[slice], slice | None], times: Any, of: str = "") -> None:
    """What each window of a configuration stands for: its bars, both ends included, and their dates."""
    for each in each_window(window):
        first, end, _ = (numbered(each) or slice(None)).indices(len(times))
        span = f"bars {first} to {end - 1}, {time_text(times[first])} to {time_text(times[end - 1])}" if first < end else "no bar"
        console.print(f"window {escape(text(each))}{escape(of)}: {span}", highlight=False)


def periods_text(periods: Periods) -> str:
    """How many bars make a year, and why."""
    return f"bars a year: {periods.per_year:.6g}, {periods.why}"


def time_text(value: Any) -> str:
    """A time without a midnight that says nothing."""
    return str(value).removesuffix(" 00:00:00")


def parameter_text(value: Any) -> str:
    """A parameter's value; ``off`` for None, which tables have as NaN."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "off"
    return f"{value:g}" if isinstance(value, float) else str(value)

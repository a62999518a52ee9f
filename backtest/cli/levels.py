"""``backtest levels``: levels of many symbols and windows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import backtest
from backtest.cli.console import console, plain_errors
from backtest.cli.options import ConfigArgument, ProgressOption, ThreadsOption, made, reads_files
from backtest.config import levels as config
from backtest.levels import windows
from backtest.tables import number, plain_table

if TYPE_CHECKING:
    import pandas as pd


@reads_files
def levels(
    config_path: ConfigArgument = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write windows.csv and summary.csv into this folder.", show_default=False),
    ] = None,
    threads: ThreadsOption = None,
    progress: ProgressOption = None,
    told: dict[str, Any] | None = None,
) -> None:
    """Find the best levels of many symbols and windows, and what they earn on the bars that follow.

    With no CONFIG: GOOG, AAPL, IBM and MSFT with simple forecasts, year by year.
    """
    with plain_errors():
        conf = config.read(config_path, told)
        if out is not None:
            made(out)
        options = conf.options | ({} if threads is None else {"n_threads": threads})
        begun = time.perf_counter()
        table = windows.walk(conf.symbols, progress=progress, **options)
        seconds = time.perf_counter() - begun
        totals = windows.summary(table)
        _show_levels(totals)
        console.print(
            f"{len(table)} problems ({options.get('method', 'exact')}) in {seconds:.2f} s; {backtest.backend()}\n",
            highlight=False,
        )
        failed = table.loc[~table["success"].astype(bool), ["error", "message"]]
        for key, error, message in zip(failed.index, failed["error"], failed["message"], strict=True):
            console.print(escape(f"{key}: {error or message!s}"), highlight=False)
        if out is not None:
            table.to_csv(out / "windows.csv")
            totals.to_csv(out / "summary.csv")
            console.print(f"written to {out}", highlight=False, markup=False)


def _show_levels(totals: pd.DataFrame) -> None:
    table = plain_table("Levels: profit summed over windows, in units of capital", is_tight=True)
    columns = {
        "windows": "windows",
        "baseline": "baseline",
        "profit": "best",
        "profit_low": "low",
        "profit_high": "high",
        "fills": "fills",
        "ambiguous": "in doubt",
        "next_baseline": "next: base",
        "next_profit": "next: best",
    }
    for name in ("symbol", "exit", *columns.values()):
        table.add_column(name, justify="left" if name in ("symbol", "exit") else "right")
    for key, row in totals.iterrows():
        symbol, policy = str(key[0]), str(key[1])  # type: ignore[index]  # a MultiIndex gives tuples
        numbers = [number(row[name], "{:,.0f}" if name in ("windows", "fills", "ambiguous") else "{:+.3f}") for name in columns]
        table.add_row(escape(symbol), policy, *numbers, style="bold" if policy == "chosen" else None)
    console.print(table)
    console.print(
        "baseline: offsets (0, 0). best: each window's optimum, in sample; low and high: whichever came first inside the bar.\n"
        "next: the same offsets on the bars after each window. chosen: the exit that was ahead in sample, window by window.\n",
        style="dim",
        highlight=False,
    )

"""``backtest portfolio``: weights, or a rule that makes them, to statistics."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

import backtest
from backtest.cli.console import console, plain_errors
from backtest.cli.found import periods_text, show_best, show_cells, show_windows, time_text
from backtest.cli.options import ConfigArgument, ProgressOption, StoreOption, ThreadsOption, made, reads_files
from backtest.config import portfolio as config
from backtest.labels import labels
from backtest.tables import account, contributions, metrics, sparkline, statistics
from backtest.windows import numbered


@reads_files
def portfolio(
    config_path: ConfigArgument = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write orders.csv, trades.csv, open_positions.csv, equity.csv and statistics.json of the book into "
            "this folder; of a search, candidates.parquet and result.json too.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    top: Annotated[int, typer.Option(help="Candidates to print.", min=1)] = 5,
    threads: ThreadsOption = None,
    progress: ProgressOption = None,
    told: dict[str, Any] | None = None,
) -> None:
    """Target weights of several assets to fills, trades and statistics.

    With no CONFIG: inverse-volatility weights of four stocks, rebalanced monthly, the look-back searched for.
    """
    with plain_errors():
        conf = config.read(config_path, told)
        if out is not None:
            made(out)
        close = conf.market["close"]
        console.print(
            f"[bold]Data[/bold]    {escape(', '.join(map(str, close.columns)))}: {len(close):,} bars, "
            f"{time_text(close.index[0])} to {time_text(close.index[-1])}, {escape(conf.source)}",
            highlight=False,
        )
        dates = labels(close)
        show_windows(conf.options.get("window"), lambda each: numbered(each, dates), close.index)
        begun = time.perf_counter()
        result = None
        if conf.space is not None:
            result = conf.optimize(
                progress=progress,
                **({} if threads is None else {"n_threads": threads}),
                **({} if store is None else {"store": store}),
            )
            console.print(f"[bold]Rule[/bold]    {escape(conf.rule_name)}; {escape(result.search)}", highlight=False)
        best = conf.simulate() if result is None else result.best
        console.print(f"        {time.perf_counter() - begun:.2f} s; {backtest.backend()}", highlight=False)
        periods = next(iter(best.values())).periods if isinstance(best, dict) else best.periods
        console.print(f"        {periods_text(periods)}\n", highlight=False)
        if result is not None:
            show_best(result, top)
        if isinstance(best, dict):
            show_cells(result)
        else:
            _show_book(best)
        if out is not None:
            if result is not None:
                result.save(out)
            if not isinstance(best, dict):
                for name in ("orders", "trades", "open_positions"):
                    getattr(best, name).to_csv(out / f"{name}.csv", index=False)
                best.equity.to_csv(out / "equity.csv")
                (out / "statistics.json").write_text(json.dumps(best.to_dict(), indent=2) + "\n", encoding="utf-8")
            console.print(f"written to {escape(str(out))}", highlight=False)
        if result is not None and result.is_interrupted and "interrupted" in result.search:
            raise typer.Exit(130)


def _show_book(book: Any) -> None:
    console.print(f"equity        {sparkline(book.equity.to_numpy(), max(20, min(100, console.width - 16)))}\n", highlight=False)
    for table in (
        metrics(book.stats),
        account(book.account_statistics()),
        statistics(book.trade_statistics()),
        contributions(book),
    ):
        console.print(table, "", sep="\n")

"""``backtest worker`` and ``backtest store``: help a study, and look into its store."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

import backtest
from backtest.cli.console import console, plain_errors
from backtest.study import join, show
from backtest.study.store import Store
from backtest.tables import plain_table


def worker(
    store: Annotated[str, typer.Option(metavar="URL", help="Store of the study, such as sqlite:///study.db")],
    study: Annotated[str, typer.Option(metavar="NAME", help="Name of a study in the store.")],
    objective: Annotated[str, typer.Option(metavar="MODULE:NAME", help="Its objective, to be imported from a module.")],
    version: Annotated[
        str | None, typer.Option(help="Version of the objective; the newest by default.", show_default=False)
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(help="Stop when the study has this many distinct candidates; all by default.", min=1, show_default=False),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of this process' sampler.", min=0, show_default=False)] = None,
    processes: Annotated[
        int | None, typer.Option(help="Number of worker processes; none by default.", min=1, show_default=False)
    ] = None,
    progress: Annotated[bool | None, typer.Option("--progress/--no-progress", show_default=False)] = None,
) -> None:
    """Join a study that another process has started, and evaluate further candidates of it."""
    with plain_errors():
        joined = join.join(store, study, join.imported(objective), version=version, seed=seed)
        with backtest.Workers(processes) if processes else contextlib.nullcontext() as executor:
            summary = joined.run(trials, executor=executor, progress=progress)
        console.print(f"{escape(str(summary))}", highlight=False)
        if joined.is_interrupted:
            raise typer.Exit(130)


def store_show(url: Annotated[str, typer.Argument(metavar="URL", help="Store, such as sqlite:///study.db")]) -> None:
    """List the contexts of a store, and how many results each has."""
    with plain_errors():
        store = Store(url, read_only=True)
        try:
            contexts = show.overview(store)
        finally:
            store.close()
        statuses = ("done", "undefined", "pruned", "failed")
        table = plain_table("", is_tight=True)
        for name in ("context", "name", *statuses, "created"):
            table.add_column(name, justify="right" if name in statuses else "left")
        for each in contexts:
            counts = [f"{each[status]:,}" if status in each else "-" for status in statuses]
            created = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["created"]))
            table.add_row(str(each["id"]), escape(each["name"]), *counts, created)
        console.print(table)
        for each in contexts:
            console.print(f"[bold]{each['id']}[/bold]  {escape(show.one_line(each['description']))}", highlight=False)


def store_export(
    url: Annotated[str, typer.Argument(metavar="URL", help="Store, such as sqlite:///study.db")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .csv or .parquet file to write.")],
    context: Annotated[
        int | None,
        typer.Option(
            help="Number of the context, from [bold]store show[/bold]; not needed if there is only one.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a context's results to a file."""
    with plain_errors():
        console.print(f"{show.export(url, out, context):,} results written to {escape(str(out))}", highlight=False)

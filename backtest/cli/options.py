"""Arguments and options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ConfigArgument = Annotated[Path | None, typer.Argument(
    metavar="[CONFIG.toml]", help="What to run; without one, an embedded example. [bold]backtest example[/bold] prints it.",
    show_default=False)]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Write candidates.parquet, trades.csv, equity.csv and result.json into this folder.",
        show_default=False,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Where results are kept and found again: sqlite:///results.db", show_default=False),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="Threads; all processors by default. Never changes a result.", show_default=False)
]
ProgressOption = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show a progress bar; by default on terminals only.", show_default=False),
]

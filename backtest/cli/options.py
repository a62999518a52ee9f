"""Arguments and options that several commands take."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from backtest._checks import InputError
from backtest.cli.console import file_notes, plain_errors
from backtest.files.reading import KEYS

ConfigArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[CONFIG.toml]",
        help="Configuration; without one, an embedded example runs, which [bold]backtest example[/bold] prints.",
        show_default=False,
    ),
]
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
    typer.Option(
        metavar="URL",
        help="Store of results, such as sqlite:///results.db; what is in it is not evaluated again.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", help="Threads; all processors by default. Never changes a result.", show_default=False)
]
ProgressOption = Annotated[
    bool | None,
    typer.Option("--progress/--no-progress", help="Show a progress bar; by default on terminals only.", show_default=False),
]

_READING = {
    "dates": Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            show_default=False,
            help='Format of times in files, such as "%d/%m/%Y", or unix_s, unix_ms, unix_us, unix_ns, excel.',
        ),
    ],
    "tz": Annotated[
        str | None,
        typer.Option(
            metavar="ZONE",
            show_default=False,
            help=(
                "Time zone of the bars, such as Europe/Berlin; times with an offset are converted, others are its local times."
            ),
        ),
    ],
    "sep": Annotated[str | None, typer.Option(metavar="MARK", help="Separator of columns in files.", show_default=False)],
    "decimal": Annotated[str | None, typer.Option(metavar="MARK", help="Decimal mark in files.", show_default=False)],
    "thousands": Annotated[
        str | None, typer.Option(metavar="MARK", help="Mark between groups of three digits in files.", show_default=False)
    ],
    "columns": Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="OURS=THEIRS",
            help="Name of a column in files: Close=Schluss; may be repeated.",
            show_default=False,
        ),
    ],
    "adjust": Annotated[
        str | None,
        typer.Option(metavar="close", help="Scale open, high, low and close by Adj Close / Close.", show_default=False),
    ],
}


def reads_files(command: Callable[..., None]) -> Callable[..., None]:
    """A command that also takes how files are written: given options stand above the keys of ``[data]``.

    The command has an argument ``told``, which typer does not see.
    """

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        with plain_errors():
            told = {name: value for name in KEYS if (value := given.pop(name)) not in (None, [])}
            if "columns" in told:
                told["columns"] = _pairs(told["columns"])
        with file_notes():
            command(**given, told=told)

    parameters = [each for each in inspect.signature(command, eval_str=True).parameters.values() if each.name != "told"]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind) for name, kind in _READING.items()
    ]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    with_options.__signature__ = inspect.Signature([*parameters, *added])  # type: ignore[attr-defined]  # what typer reads
    with_options.__annotations__ = {each.name: each.annotation for each in [*parameters, *added]}
    return with_options


def _pairs(texts: list[str]) -> dict[str, str]:
    """``Close=Schluss`` as a mapping."""
    pairs = {}
    for text in texts:
        ours, mark, theirs = text.partition("=")
        if not (ours and mark and theirs):
            raise InputError(f"column must be OURS=THEIRS, such as Close=Schluss, got {text!r}")
        pairs[ours] = theirs
    return pairs


def made(out: Path) -> None:
    """Make the folder of ``--out``; a wish that cannot be met is refused before the work, not after it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out must be a folder that can be written, got {str(out)!r}: {error.strerror}") from None

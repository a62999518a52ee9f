"""Where the command line writes, and how it ends: one clear line for what went wrong."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from backtest._checks import BacktestError

console = Console()
errors = Console(stderr=True)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input ends in one clear line and exit code 2, an interruption in 130."""
    try:
        yield
    except (BacktestError, OSError) as error:  # a folder that cannot be written, a full disk
        errors.print(f"[bold red]error:[/bold red] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None


def show_warning(message: Warning | str, *_: Any) -> None:
    """One line, without the path and source line that help nobody here."""
    errors.print(f"[bold yellow]warning:[/bold yellow] {escape(str(message))}", soft_wrap=True, highlight=False)


class _Notes(logging.Handler):
    """What was told of files, to people; what is as one would expect is left out."""

    def emit(self, record: logging.LogRecord) -> None:
        if not getattr(record, "is_plain", False):
            errors.print(f"[dim]{escape(record.getMessage())}[/dim]", soft_wrap=True, highlight=False)


@contextlib.contextmanager
def file_notes() -> Iterator[None]:
    """Show how files are read while a command runs."""
    logger, handler = logging.getLogger("backtest.files"), _Notes()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)

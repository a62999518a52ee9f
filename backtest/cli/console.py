"""Where the command line writes, and how it ends: one clear line for what went wrong."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from backtest._checks import BacktestError
from backtest._said import without_password

#: Exit code where whoever read the output has gone (``| head``): as of a program that SIGPIPE ends.
NOBODY_READS = 141


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise SystemExit(NOBODY_READS)


console = _Console()
errors = _Console(stderr=True)


@contextlib.contextmanager
def plain_errors() -> Iterator[None]:
    """Bad input ends in one clear line and exit code 2, an interruption in 130, output that nobody reads in 141."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(NOBODY_READS) from None
    except (BacktestError, OSError) as error:  # a folder that cannot be written, a full disk
        errors.print(f"[bold red]error:[/bold red] {escape(without_password(str(error)))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None


@contextlib.contextmanager
def quiet_pipe() -> Iterator[None]:
    """No traceback, and one exit code, where the reader of the output has gone, whichever library wrote last."""
    with contextlib.ExitStack() as after:
        try:
            reader = os.dup(1)  # libraries put another file in its place when they notice
            after.callback(os.close, reader)
        except OSError:  # closed from the start
            reader = -1
        try:
            yield
            code: Any = 0
        except SystemExit as ended:
            code = ended.code
        try:
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            code = NOBODY_READS
        if code == NOBODY_READS or (code == 1 and _has_gone(reader)):
            code = NOBODY_READS
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)  # for what Python still writes at its end
            os.close(nowhere)
        raise SystemExit(code)


def _has_gone(file: int) -> bool:
    if file < 0 or not hasattr(select, "poll"):
        return False
    looked = select.poll()
    looked.register(file, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in looked.poll(0))


def show_warning(message: Warning | str, *_: Any) -> None:
    """One line, without the path and source line that help nobody here."""
    errors.print(f"[bold yellow]warning:[/bold yellow] {escape(without_password(str(message)))}", soft_wrap=True, highlight=False)


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

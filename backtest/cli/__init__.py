"""The command line: what people run, and tables they like to read."""

from __future__ import annotations

import warnings
from typing import Annotated

import typer

import backtest
from backtest._checks import choice
from backtest.cli import levels, optimize, portfolio, study
from backtest.cli.console import console, errors, plain_errors, quiet_pipe, show_warning
from backtest.config import levels as levels_config
from backtest.config import optimize as optimize_config
from backtest.config import portfolio as portfolio_config

__all__ = ["app", "console", "errors", "main"]

#: What ``backtest example NAME`` prints.
EXAMPLES = {"optimize": optimize_config.EXAMPLE, "levels": levels_config.EXAMPLE, "portfolio": portfolio_config.EXAMPLE}

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Search over trading strategies on compiled kernels.\n\nStart with [bold]backtest optimize[/bold]: it runs an example "
    "on real daily bars.  Exit codes: 0 done, 2 bad input, 130 interrupted, 141 where "
    "what reads the output has closed it, as head does.",
)
store_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Show or export results of a store.")
app.add_typer(store_app, name="store")


def main() -> None:
    """Run the command line."""
    warnings.showwarning = show_warning  # type: ignore[assignment]  # reads the message alone
    with quiet_pipe():
        app()


def backend() -> None:
    """Which kernels run, and why."""
    with plain_errors():
        print(backtest.backend())


def example(what: Annotated[str, typer.Argument(help="One of optimize, levels, portfolio.")] = "optimize") -> None:
    """Print a configuration to start from: backtest example > my.toml."""
    with plain_errors():
        print(EXAMPLES[choice("example", what, tuple(EXAMPLES))], end="")


for command in (optimize.optimize, optimize.run, levels.levels, portfolio.portfolio, backend, example, study.worker):
    app.command()(command)
store_app.command("show")(study.store_show)
store_app.command("export")(study.store_export)

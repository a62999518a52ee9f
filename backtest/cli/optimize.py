"""``backtest optimize`` and ``backtest run``: the best candidate of a strategy, or the one that is asked for."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

import backtest
from backtest._checks import InputError
from backtest.cells import naming
from backtest.cli.console import console, plain_errors
from backtest.cli.found import each_window, parameter_text, periods_text, show_best, show_cells, show_windows, time_text
from backtest.cli.options import ConfigArgument, OutOption, ProgressOption, StoreOption, ThreadsOption, made, reads_files
from backtest.config import optimize as config
from backtest.periods import given
from backtest.space import Space
from backtest.tables import metrics, plain_table, sparkline, statistics
from backtest.windows import text

if TYPE_CHECKING:
    import pandas as pd


@reads_files
def optimize(
    config_path: ConfigArgument = None,
    out: OutOption = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric to search for, in place of the configured one.", show_default=False)
    ] = None,
    store: StoreOption = None,
    top: Annotated[int, typer.Option(help="Candidates to print.", min=1)] = 10,
    threads: ThreadsOption = None,
    progress: ProgressOption = None,
    told: dict[str, Any] | None = None,
) -> None:
    """Find the best parameters of a strategy.

    With no CONFIG: SMA crossover with stop-loss and take-profit, 25,440 candidates, on embedded daily bars of GOOG.
    """
    with plain_errors():
        conf = config.read(config_path, told)
        if conf.space is None:
            raise InputError("section [space] must be there to optimize, got none; backtest run takes [params]")
        settings = (
            conf.search
            | ({} if metric is None else {"metric": metric})
            | ({} if threads is None else {"n_threads": threads})
            | ({} if store is None else {"store": store})
        )
        if out is not None:
            made(out)
        _show_data(conf)
        _show_space(conf.space)
        begun = time.perf_counter()
        result = backtest.optimize(
            conf.bars, conf.strategy, conf.space, costs=conf.costs, execution=conf.execution, progress=progress, **settings
        )
        seconds = time.perf_counter() - begun
        console.print(f"[bold]Search[/bold]  {escape(result.search)}", highlight=False)
        rate, n_bars = result.n_evaluated / seconds, result.provenance["n_decision_bars"]
        speed = f"{rate:,.0f} candidates/s, {rate * n_bars / 1e6:,.0f} M candidate-bars/s"
        console.print(f"        {seconds:.2f} s, {speed}; {backtest.backend()}", highlight=False)
        _show_first(conf, result)
        console.print()
        show_best(result, top)
        if isinstance(result.best, dict):
            show_cells(result)
        else:
            _show_run("Best candidate", result.best)
        if out is not None:
            console.print(f"written to {escape(str(result.save(out)))}", highlight=False)
        if result.is_interrupted and "interrupted" in result.search:
            raise typer.Exit(130)


@reads_files
def run(
    config_path: Annotated[
        Path, typer.Argument(metavar="CONFIG.toml", help="With a section \\[params]: one value per parameter.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Write trades.csv, orders.csv and equity.csv into this folder.", show_default=False
        ),
    ] = None,
    told: dict[str, Any] | None = None,
) -> None:
    """Replay one candidate: statistics and trades."""
    with plain_errors():
        conf = config.read(config_path, told)
        if conf.params is None:
            raise InputError("section [params] must be there to run one candidate, got none")
        bars, window = conf.bars, conf.search.get("window")
        if isinstance(bars, dict):
            raise InputError(f"[data] must have sample or file to run one candidate, got {', '.join(bars)}")
        if isinstance(window, list):
            raise InputError(f"window must be one pair [first, last] to run one candidate, got {len(window)} windows")
        _show_data(conf)
        replayed = backtest.run(bars, conf.strategy, conf.params, costs=conf.costs, execution=conf.execution, window=window)
        console.print(f"first decision on bar {replayed.first} ({time_text(bars.times()[replayed.first])})\n", highlight=False)
        _show_run("Candidate", replayed)
        _show_trades(replayed.trades)
        if out is not None:
            made(out)
            for name in ("trades", "orders", "equity"):
                getattr(replayed, name).to_csv(out / f"{name}.csv", index=name == "equity")
            console.print(f"written to {escape(str(out))}", highlight=False)


def _by_symbol(bars: Any) -> dict[str, Any]:
    return bars if isinstance(bars, dict) else {bars.symbol: bars}


def _show_data(conf: config.Config) -> None:
    table = plain_table("Data", is_tight=True)
    for name in ("symbol", "bars", "first", "last", "bars a year", "buy and hold", "source"):
        table.add_column(name)
    reasons: dict[str, list[str]] = {}
    for symbol, bars in _by_symbol(conf.bars).items():
        asked = conf.execution.periods_per_year
        times, periods = bars.times(), given(asked) if asked else bars.inferred_periods()
        table.add_row(
            escape(symbol) or "-",
            f"{len(bars):,}",
            time_text(times[0]),
            time_text(times[-1]),
            f"{periods.per_year:.6g}",
            f"{bars.close[-1] / bars.close[0] - 1:.1%}",
            escape(conf.source),
        )
        reasons.setdefault(periods_text(periods), []).append(symbol)
    console.print(table)
    for symbol, bars in _by_symbol(conf.bars).items():
        with naming(symbol) if isinstance(conf.bars, dict) else contextlib.nullcontext():
            of = f" of {symbol}" if isinstance(conf.bars, dict) else ""
            show_windows(conf.search.get("window"), bars.window, bars.times(), of)
    for reason, symbols in reasons.items():
        of = f" ({escape(', '.join(symbols))})" if len(reasons) > 1 else ""
        console.print(f"{reason}{of}", style="dim", highlight=False)
    console.print()


def _show_first(conf: config.Config, result: Any) -> None:
    """The first bar whose close can decide, of each symbol and window."""
    windows = each_window(conf.search.get("window"))
    for symbol, bars in _by_symbol(conf.bars).items():
        start = result.start[symbol] if isinstance(result.start, dict) else result.start
        of = f" of {escape(symbol)}" if isinstance(result.start, dict) else ""
        for window in windows or [slice(None)]:
            begin = (bars.window(window) or slice(None)).indices(len(bars))[0]
            first = max(start, begin)
            inside = f" in {escape(text(window))}" if len(windows) > 1 else ""
            before = f"; start is bar {start}" if first > start else ""
            when = time_text(bars.times()[first])
            console.print(
                f"        first decision on bar {first}{of}{inside} for every candidate ({when}){before}", highlight=False
            )


def _show_space(space: Space) -> None:
    table = plain_table("Space")
    for name in ("parameter", "values", "from"):
        table.add_column(name, justify="right" if name == "values" else "left")
    for name, parameter in space.parameters.items():
        table.add_row(name, "∞" if parameter.size == math.inf else f"{parameter.size:,}", escape(repr(parameter)))
    console.print(table)
    if space.continuous:
        where = f", where {escape(space.where.text)}" if space.where else ""
        console.print(f"infinitely many candidates{where}\n", highlight=False)
        return
    bound = "" if space.is_exact else "at most "
    where = f" of {space.product:,} combinations, where {escape(space.where.text)}" if space.where else ""
    console.print(f"{bound}{space.size:,} candidates{where}\n", highlight=False)


def _show_run(title: str, run: Any) -> None:
    settings = ", ".join(f"{name} = {parameter_text(value)}" for name, value in run.params.items())
    console.print(f"[bold]{title}[/bold]  {escape(settings)}", highlight=False)
    close = run.bars.close[run.first : run.last]
    width = max(20, min(100, console.width - 16))
    console.print(f"equity        {sparkline(run.equity.to_numpy(), width)}", highlight=False)
    console.print(f"{(run.bars.symbol or 'close')[:12]:<13} {sparkline(close, width)}\n", highlight=False, markup=False)
    for table in (metrics(run.stats), statistics(run.trade_statistics())):
        console.print(table, "", sep="\n")
    for _, position in run.open_positions.iterrows():
        console.print(
            f"open at the end: {position['side']} {position['units']:,.6g} units from {time_text(position['entry_time'])} at "
            f"{position['entry_price']:,.6g}, gross profit {position['gross_profit']:,.2f}\n",
            highlight=False,
        )


def _show_trades(trades: pd.DataFrame, last: int = 20) -> None:
    table = plain_table(f"Last {min(last, len(trades))} of {len(trades)} trades", is_tight=True)
    shown = ("side", "entry_time", "exit_time", "entry_price", "exit_price", "net_profit", "return", "exit_reason")
    for name in shown:
        table.add_column(name.replace("_", " "), justify="left" if name in ("side", "exit_reason") else "right")
    for _, trade in trades.tail(last).iterrows():
        table.add_row(
            trade["side"],
            *(time_text(trade[name]) for name in ("entry_time", "exit_time")),
            *(f"{trade[name]:,.2f}" for name in ("entry_price", "exit_price", "net_profit")),
            f"{trade['return']:.2%}",
            trade["exit_reason"],
        )
    console.print(table, "", sep="\n")

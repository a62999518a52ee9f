"""The command line: what people run, and tables they like to read."""

from __future__ import annotations

import contextlib
import json
import math
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import backtest
from backtest._checks import BacktestError, InputError, choice
from backtest.books import BOOK_STATISTICS
from backtest.config import levels as levels_config
from backtest.config import optimize as config
from backtest.config import portfolio as portfolio_config
from backtest.levels import windows
from backtest.metrics import METRICS
from backtest.space import Space
from backtest.study import join, show
from backtest.study.store import Store
from backtest.tables import contributions, metrics, sparkline, statistics
from backtest.tables import metric as _metric
from backtest.tables import number as _number
from backtest.tables import plain_table as _table

if TYPE_CHECKING:
    import pandas as pd

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="Search over trading strategies on compiled kernels.\n\nStart with [bold]backtest optimize[/bold]: it runs an example "
    "on real daily bars.  Exit codes: 0 done, 2 bad input, 130 interrupted.",
)
store_app = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Look into a store of results.")
app.add_typer(store_app, name="store")
console = Console()
errors = Console(stderr=True)

#: Columns of the table of the best candidates, after the searched metric.
SHOWN = {"total_return": "return", "max_drawdown": "drawdown", "sharpe": "sharpe", "n_trades": "trades", "win_rate": "wins",
         "profit_factor": "profit factor"}

#: What ``backtest example NAME`` prints.
EXAMPLES = {"optimize": config.EXAMPLE, "levels": levels_config.EXAMPLE, "portfolio": portfolio_config.EXAMPLE}

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


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # reads the message alone
    app()


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Bad input ends in one clear line and exit code 2, an interruption in 130."""
    try:
        yield
    except (BacktestError, OSError) as error:  # a folder that cannot be written, a full disk
        errors.print(f"[bold red]error:[/bold red] {_escaped(str(error))}", soft_wrap=True, highlight=False)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        errors.print("interrupted")
        raise typer.Exit(130) from None


def _show_warning(message: Warning | str, *_: Any) -> None:
    """One line, without the path and source line that help nobody here."""
    errors.print(f"[bold yellow]warning:[/bold yellow] {_escaped(str(message))}", soft_wrap=True, highlight=False)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@app.command()
def optimize(
    config_path: ConfigArgument = None,
    out: OutOption = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric to search for, in place of the configured one.", show_default=False)
    ] = None,
    store: StoreOption = None,
    top: Annotated[int, typer.Option(help="Candidates to print.", min=1)] = 10,
    threads: ThreadsOption = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Show a progress bar; by default on terminals only.", show_default=False),
    ] = None,
) -> None:
    """Find the best parameters of a strategy.

    With no CONFIG: SMA crossover with stop-loss and take-profit, 25,440 candidates, on embedded daily bars of GOOG.
    """
    with _plain_errors():
        conf = config.read(config_path)
        if conf.space is None:
            raise InputError("section [space] must be there to optimize, got none; backtest run takes [params]")
        settings = (
            conf.search | ({} if metric is None else {"metric": metric}) | ({} if threads is None else {"n_threads": threads})
            | ({} if store is None else {"store": store})
        )
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)  # a wish that cannot be met is refused before the search, not after it
        _show_data(conf)
        _show_space(conf.space)
        begun = time.perf_counter()
        result = backtest.optimize(conf.bars, conf.strategy, conf.space, costs=conf.costs, execution=conf.execution,
                                   progress=progress, **settings)
        seconds = time.perf_counter() - begun
        console.print(f"[bold]Search[/bold]  {_escaped(result.search)}", highlight=False)
        rate, n_bars = result.n_evaluated / seconds, result.provenance["n_decision_bars"]
        speed = f"{rate:,.0f} candidates/s, {rate * n_bars / 1e6:,.0f} M candidate-bars/s"
        console.print(f"        {seconds:.2f} s, {speed}; {backtest.backend()}", highlight=False)
        for symbol, bars in _by_symbol(conf.bars).items():
            start = result.start[symbol] if isinstance(result.start, dict) else result.start
            of = f" of {_escaped(symbol)}" if isinstance(result.start, dict) else ""
            console.print(f"        first decision on bar {start}{of} for every candidate ({_time(bars.times()[start])})",
                          highlight=False)
        console.print()
        _show_best(result, top)
        if isinstance(result.best, dict):
            _show_cells(result)
        else:
            _show_run("Best candidate", result.best)
        if out is not None:
            console.print(f"written to {_escaped(str(result.save(out)))}", highlight=False)
        if result.is_interrupted and "interrupted" in result.search:
            raise typer.Exit(130)


@app.command()
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
) -> None:
    """Replay one candidate: statistics and trades."""
    with _plain_errors():
        conf = config.read(config_path)
        if conf.params is None:
            raise InputError("section [params] must be there to run one candidate, got none")
        bars, window = conf.bars, conf.search.get("window")
        if isinstance(bars, dict):
            raise InputError(f"[data] must have sample or file to run one candidate, got {', '.join(bars)}")
        if isinstance(window, list):
            raise InputError(f"window must be two bars [first, last] to run one candidate, got {len(window)} windows")
        _show_data(conf)
        replayed = backtest.run(bars, conf.strategy, conf.params, costs=conf.costs, execution=conf.execution, window=window)
        _show_run("Candidate", replayed)
        _show_trades(replayed.trades)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for name in ("trades", "orders", "equity"):
                getattr(replayed, name).to_csv(out / f"{name}.csv", index=name == "equity")
            console.print(f"written to {_escaped(str(out))}", highlight=False)


@app.command()
def levels(
    config_path: ConfigArgument = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write windows.csv and summary.csv into this folder.", show_default=False),
    ] = None,
    threads: ThreadsOption = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Show a progress bar; by default on terminals only.", show_default=False),
    ] = None,
) -> None:
    """Levels of many symbols and windows: best offsets in sample, and what they earn on the next bars.

    With no CONFIG: GOOG, AAPL, IBM and MSFT with simple forecasts, year by year.
    """
    with _plain_errors():
        conf = levels_config.read(config_path)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
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
            console.print(_escaped(f"{key}: {error or message!s}"), highlight=False)
        if out is not None:
            table.to_csv(out / "windows.csv")
            totals.to_csv(out / "summary.csv")
            console.print(f"written to {out}", highlight=False, markup=False)


@app.command()
def portfolio(
    config_path: ConfigArgument = None,
    out: OutOption = None,
    store: StoreOption = None,
    top: Annotated[int, typer.Option(help="Candidates to print.", min=1)] = 5,
    threads: ThreadsOption = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="Show a progress bar; by default on terminals only.", show_default=False),
    ] = None,
) -> None:
    """Target weights of several assets to fills, trades and statistics.

    With no CONFIG: inverse-volatility weights of four stocks, rebalanced monthly, the look-back searched for.
    """
    with _plain_errors():
        conf = portfolio_config.read(config_path)
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
        close = conf.market["close"]
        console.print(f"[bold]Data[/bold]    {_escaped(', '.join(map(str, close.columns)))}: {len(close):,} bars, "
                      f"{_time(close.index[0])} to {_time(close.index[-1])}, {_escaped(conf.source)}", highlight=False)
        begun = time.perf_counter()
        result = None
        if conf.space is not None:
            result = conf.optimize(progress=progress, **({} if threads is None else {"n_threads": threads}),
                                   **({} if store is None else {"store": store}))
            console.print(f"[bold]Rule[/bold]    {_escaped(conf.rule_name)}; {_escaped(result.search)}", highlight=False)
        best = conf.simulate() if result is None else result.best
        console.print(f"        {time.perf_counter() - begun:.2f} s; {backtest.backend()}\n", highlight=False)
        if result is not None:
            _show_best(result, top)
        if isinstance(best, dict):
            _show_cells(result)
        else:
            _show_book(best)
        if out is not None:
            if result is not None:
                result.save(out)
            if not isinstance(best, dict):
                for name in ("ledger", "trades", "open_positions"):
                    getattr(best, name).to_csv(out / f"{name}.csv", index=False)
                best.value.to_csv(out / "equity.csv")
                (out / "statistics.json").write_text(json.dumps(best.to_dict(), indent=2) + "\n", encoding="utf-8")
            console.print(f"written to {_escaped(str(out))}", highlight=False)


@app.command()
def backend() -> None:
    """Which kernels run, and why."""
    with _plain_errors():
        print(backtest.backend())


@app.command()
def example(
    what: Annotated[str, typer.Argument(help="Which example.")] = "optimize",
) -> None:
    """Print a configuration to start from: backtest example > my.toml."""
    with _plain_errors():
        print(EXAMPLES[choice("example", what, tuple(EXAMPLES))], end="")


def _by_symbol(bars: Any) -> dict[str, Any]:
    return bars if isinstance(bars, dict) else {bars.symbol: bars}


def _show_data(conf: config.Config) -> None:
    table = _table("Data", is_tight=True)
    for name in ("symbol", "bars", "first", "last", "bars a year", "buy and hold", "source"):
        table.add_column(name)
    for symbol, bars in _by_symbol(conf.bars).items():
        times, per_year = bars.times(), conf.execution.periods_per_year or bars.inferred_periods_per_year()
        table.add_row(_escaped(symbol) or "-", f"{len(bars):,}", _time(times[0]), _time(times[-1]), f"{per_year:.6g}",
                      f"{bars.close[-1] / bars.close[0] - 1:.1%}", _escaped(conf.source))
    console.print(table, "", sep="\n")


def _show_space(space: Space) -> None:
    table = _table("Space")
    for name in ("parameter", "values", "from"):
        table.add_column(name, justify="right" if name == "values" else "left")
    for name, parameter in space.parameters.items():
        table.add_row(name, "∞" if parameter.size == math.inf else f"{parameter.size:,}", _escaped(repr(parameter)))
    console.print(table)
    if space.continuous:
        where = f", where {_escaped(space.where.text)}" if space.where else ""
        console.print(f"infinitely many candidates{where}\n", highlight=False)
        return
    bound = "" if space.is_exact else "at most "
    where = f" of {space.product:,} combinations, where {_escaped(space.where.text)}" if space.where else " combinations"
    console.print(f"{bound}{space.size:,} candidates{where}\n", highlight=False)


def _show_best(result: Any, top: int) -> None:
    shown = [result.metric, *(key for key in SHOWN if key != result.metric)]
    table = _table(
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
        values = [_escaped(_parameter(params[name].iloc[rank - 1])) for name in names]
        table.add_row(str(rank), *values, *(_metric(key, row[key]) for key in shown), style="bold green" if rank == 1 else None)
    console.print(table)
    if result.distribution.n > result.distribution.n_undefined:
        low, middle, high = (_metric(result.metric, result.distribution.quantile(q)) for q in (0.05, 0.5, 0.95))
        console.print(f"{METRICS[result.metric].title} of all candidates: median {middle}, 5 % to 95 %: {low} to {high}; "
                      f"{result.distribution.n_undefined:,} undefined", highlight=False)
    console.print()


def _show_cells(result: Any) -> None:
    """The best candidate in each symbol and window, and all of them together."""
    params = ", ".join(f"{name} = {_parameter(value)}" for name, value in result.best_params.items())
    console.print(f"[bold]Best candidate[/bold]  {_escaped(params)}\n", highlight=False)
    table = _table("In each cell", is_tight=True)
    shown = [result.metric, *(key for key in SHOWN if key != result.metric)]
    for name in ("cell", *(SHOWN.get(key, key).replace("_", " ") for key in shown)):
        table.add_column(name, justify="left" if name == "cell" else "right")
    best = result.table.iloc[0]
    for cell in result.best:
        table.add_row(_escaped(cell), *(_metric(key, best[f"{key}@{cell}"]) for key in shown))
    table.add_row(_escaped(result.provenance["aggregate"]), *(_metric(key, best[key]) for key in shown), style="bold green")
    console.print(table, "", sep="\n")


def _show_run(title: str, run: Any) -> None:
    settings = ", ".join(f"{name} = {_parameter(value)}" for name, value in run.params.items())
    console.print(f"[bold]{title}[/bold]  {_escaped(settings)}", highlight=False)
    close = run.bars.close[run.first : run.last]
    width = max(20, min(100, console.width - 16))
    console.print(f"equity        {sparkline(run.equity.to_numpy(), width)}", highlight=False)
    console.print(f"{(run.bars.symbol or 'close')[:12]:<13} {sparkline(close, width)}\n", highlight=False, markup=False)
    for table in (metrics(run.stats), statistics(run.trade_statistics())):
        console.print(table, "", sep="\n")
    for _, position in run.open_positions.iterrows():
        console.print(
            f"open at the end: {position['side']} {position['units']:,.6g} units from {_time(position['entry_time'])} at "
            f"{position['entry_price']:,.6g}, gross profit {position['gross_profit']:,.2f}\n",
            highlight=False,
        )


def _show_book(book: Any) -> None:
    console.print(f"value         {sparkline(book.value.to_numpy(), max(20, min(100, console.width - 16)))}\n", highlight=False)
    for table in (metrics(book.stats), statistics(book.statistics(), BOOK_STATISTICS), contributions(book)):
        console.print(table, "", sep="\n")


def _show_levels(totals: pd.DataFrame) -> None:
    table = _table("Levels: profit summed over windows, in units of capital", is_tight=True)
    columns = {"windows": "windows", "baseline": "baseline", "profit": "best", "profit_low": "low", "profit_high": "high",
               "fills": "fills", "ambiguous": "in doubt", "next_baseline": "next: base", "next_profit": "next: best"}
    for name in ("symbol", "exit", *columns.values()):
        table.add_column(name, justify="left" if name in ("symbol", "exit") else "right")
    for key, row in totals.iterrows():
        symbol, policy = str(key[0]), str(key[1])  # type: ignore[index]  # a MultiIndex gives tuples
        numbers = [_number(row[name], "{:,.0f}" if name in ("windows", "fills", "ambiguous") else "{:+.3f}") for name in columns]
        table.add_row(_escaped(symbol), policy, *numbers, style="bold" if policy == "chosen" else None)
    console.print(table)
    console.print(
        "baseline: offsets (0, 0). best: each window's optimum, in sample; low and high: whichever came first inside the bar.\n"
        "next: the same offsets on the bars after each window. chosen: the exit that was ahead in sample, window by window.\n",
        style="dim", highlight=False)


def _show_trades(trades: pd.DataFrame, last: int = 20) -> None:
    table = _table(f"Last {min(last, len(trades))} of {len(trades)} trades", is_tight=True)
    shown = ("side", "entry_time", "exit_time", "entry_price", "exit_price", "net_profit", "return", "exit_reason")
    for name in shown:
        table.add_column(name.replace("_", " "), justify="left" if name in ("side", "exit_reason") else "right")
    for _, trade in trades.tail(last).iterrows():
        table.add_row(trade["side"], *(_time(trade[name]) for name in ("entry_time", "exit_time")),
                      *(f"{trade[name]:,.2f}" for name in ("entry_price", "exit_price", "net_profit")),
                      f"{trade['return']:.2%}", trade["exit_reason"])
    console.print(table, "", sep="\n")


def _time(value: Any) -> str:
    """A time without a midnight that says nothing."""
    return str(value).removesuffix(" 00:00:00")


def _parameter(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


@app.command()
def worker(
    store: Annotated[str, typer.Option(metavar="URL", help="Such as sqlite:///study.db")],
    study: Annotated[str, typer.Option(metavar="NAME", help="Of a study in the store.")],
    objective: Annotated[str, typer.Option(metavar="MODULE:NAME", help="Its objective, to be imported.")],
    version: Annotated[
        str | None, typer.Option(help="Where there are several; the newest by default.", show_default=False)
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Distinct candidates the study shall have; all by default.", min=1,
                                               show_default=False)] = None,
    seed: Annotated[int | None, typer.Option(help="Of this worker's sampler.", min=0, show_default=False)] = None,
    processes: Annotated[int | None, typer.Option(help="Worker processes; none by default.", min=1, show_default=False)] = None,
    progress: Annotated[bool | None, typer.Option("--progress/--no-progress", show_default=False)] = None,
) -> None:
    """Help a study that another process has started: evaluate candidates that nobody else does."""
    with _plain_errors():
        joined = join.join(store, study, join.imported(objective), version=version, seed=seed)
        with backtest.Workers(processes) if processes else contextlib.nullcontext() as executor:
            summary = joined.run(trials, executor=executor, progress=progress)
        console.print(f"{_escaped(str(summary))}", highlight=False)
        if joined.is_interrupted:
            raise typer.Exit(130)


@store_app.command("show")
def store_show(url: Annotated[str, typer.Argument(metavar="URL", help="Such as sqlite:///study.db")]) -> None:
    """What was evaluated on what, and how it ended."""
    with _plain_errors():
        store = Store(url, read_only=True)
        try:
            contexts = show.overview(store)
        finally:
            store.close()
        statuses = ("done", "undefined", "pruned", "failed")
        table = Table("context", "name", *statuses, "created", "what")
        for each in contexts:
            counts = [f"{each[status]:,}" if status in each else "-" for status in statuses]
            simple = {key: value for key, value in each["description"].items() if isinstance(value, (str, int, float))}
            what = ", ".join(f"{key} {value}" for key, value in simple.items())
            created = time.strftime("%Y-%m-%d %H:%M", time.localtime(each["created"]))
            table.add_row(str(each["id"]), _escaped(each["name"]), *counts, created, _escaped(what))
        console.print(table)


@store_app.command("export")
def store_export(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as sqlite:///study.db")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .csv or .parquet file to write.")],
    context: Annotated[int | None, typer.Option(help="Number of the context, as shown; the only one by default.",
                                                show_default=False)] = None,
) -> None:
    """Write a context's results to a file."""
    with _plain_errors():
        console.print(f"{show.export(url, out, context):,} results written to {_escaped(str(out))}", highlight=False)

"""Configuration of ``backtest optimize`` and ``backtest run``: TOML in, their checked arguments out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtest._checks import InputError, did_you_mean, known_names
from backtest.bars import Bars, from_prices
from backtest.config import sections
from backtest.costs import FORMER, Costs, Execution
from backtest.files.reading import KEYS
from backtest.files.tables import read_prices
from backtest.machine.decorate import BarStrategy
from backtest.rules import Strategy
from backtest.space import NONE, Space
from backtest.strategies import READY

SECTIONS = ("data", "strategy", "space", "params", "costs", "execution", "search")
DATA = ("sample", "samples", "file", "files", "symbol", *KEYS)
SEARCH = (
    "metric",
    "method",
    "sampler",
    "n_trials",
    "min_trades",
    "keep",
    "seed",
    "window",
    "aggregate",
    "n_threads",
    "timeout",
    "store",
)

EXAMPLE = """\
# SMA crossover with stop-loss and take-profit on real daily bars: 25,440 candidates.
[data]
sample = "GOOG"                 # or: file = "prices.csv"; several: samples = ["GOOG", "AAPL"], files = { A = "a.csv" }
# dates = "%d/%m/%Y"              # where a file does not tell; also tz, sep, decimal, thousands, columns, adjust: docs/files.md

[strategy]
name = "sma_cross"              # a ready strategy, or "package.module:name" of rules or of a function with @bt.on_bar

[space]
fast = { low = 5, high = 50, step = 1 }
slow = { low = 20, high = 200, step = 5 }
stop_loss = ["none", 0.05, 0.10, 0.15]
take_profit = ["none", 0.20, 0.40, 0.80]
where = "fast < slow"

[costs]
fee_rate = 0.001                # 0.1 % of the traded value

# [execution]                     # fill, intrabar, sides, size, start_cash and whatever else bt.Execution takes
# engine = "machine"              # runs rules bar by bar, as functions with @bt.on_bar always are

[search]
metric = "sharpe"
# window = ["2010", "2012-06"]    # bars to trade; "none" is an open end; bar numbers: [500, 1500]; or a list of such pairs
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration."""

    bars: Bars | dict[str, Bars]
    source: str  # where the bars came from, for people
    strategy: Strategy | BarStrategy
    space: Space | None
    params: dict[str, Any] | None
    costs: Costs
    execution: Execution
    search: dict[str, Any]


def read(path: str | Path | None, told: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file; None is the embedded example.  What is told stands above the keys of ``[data]``.

    Raises
    ------
    InputError
        No such file, no TOML, an unknown section or key, a value that breaks a rule.
    """
    tables, folder = sections.read_tables(path, EXAMPLE, SECTIONS, told)
    bars, source = _bars(tables.get("data", {}), folder)
    costs, search = sections.costs(tables), dict(tables.get("search", {}))
    known_names("key of [search]", search, SEARCH)
    if "window" in search:
        search["window"] = sections.window(search["window"])
    return Config(
        bars=bars,
        source=source,
        strategy=_strategy(tables.get("strategy", {}), folder),
        space=Space.from_dict(tables["space"], NONE) if "space" in tables else None,
        params=sections.values(tables["params"]) if "params" in tables else None,
        costs=costs,
        execution=sections.record("execution", Execution, tables.get("execution", {}), FORMER),
        search=search,
    )


def _bars(table: Mapping[str, Any], folder: Path) -> tuple[Bars | dict[str, Bars], str]:
    known_names("key of [data]", table, DATA)
    kinds = [key for key in table if key not in ("symbol", *KEYS)]
    if len(kinds) != 1:
        raise InputError(f"[data] must have one of sample, samples, file and files, got {dict(table)!r}")
    kind, reading = kinds[0], sections.reading(table)
    given = table[kind]
    for key, value in (("sample", given if kind == "sample" else ""), ("symbol", table.get("symbol", ""))):
        if not isinstance(value, str):
            raise InputError(f"{key} of [data] must be text, got {value!r}")
    if "symbol" in table and kind != "file":
        raise InputError(f"symbol of [data] must go with file, got {kind} = {given!r}")
    if kind in ("sample", "samples"):
        sections.refuse_reading(table, f"{kind} = {given!r}")
        return (Bars.sample(given), "embedded daily bars") if kind == "sample" else sections.samples(given)
    if kind == "files":
        return sections.files(given, folder, reading)
    name, reading = sections.file("file of [data]", given, reading)
    return from_prices(read_prices(folder / name, reading), table.get("symbol", Path(name).name.partition(".")[0])), name


def _strategy(table: Mapping[str, Any], folder: Path) -> Strategy | BarStrategy:
    """A ready strategy, or what a module has: rules, or a function with ``@bt.on_bar``."""
    known_names("key of [strategy]", table, ("name",))
    name = table.get("name")
    if not isinstance(name, str):
        raise InputError(f"[strategy] must have a name, one of {', '.join(READY)} or 'package.module:name', got {name!r}")
    if ":" not in name:
        if name not in READY:
            raise InputError(
                f"strategy must be one of {', '.join(READY)} or 'package.module:name', got {name!r}{did_you_mean(name, READY)}"
            )
        return READY[name]
    strategy = sections.imported("strategy", name, folder)
    if isinstance(strategy, (Strategy, BarStrategy)):
        return strategy
    remedy = "; decorate it with @bt.on_bar" if callable(strategy) and not isinstance(strategy, type) else ""
    raise InputError(
        f"strategy must be a Strategy, or a function with @bt.on_bar, got {type(strategy).__name__} at {name!r}{remedy}"
    )

"""Configuration files: TOML in, checked arguments of ``optimize`` and ``run`` out.

Every section and key has the name of the argument it stands for; an unknown one is an error that names the nearest.
"""

from __future__ import annotations

import dataclasses
import importlib
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtest._checks import InputError, did_you_mean, known_names
from backtest.bars import Bars
from backtest.costs import Costs, Execution
from backtest.rules import Strategy
from backtest.space import Space
from backtest.strategies import READY

SECTIONS = ("data", "strategy", "space", "params", "costs", "execution", "search")
DATA = ("sample", "file", "symbol")
SEARCH = ("metric", "method", "n_trials", "min_trades", "keep", "seed", "window", "n_threads", "timeout")
#: TOML has no null: in choices and parameters this word stands for None.
NONE = "none"

EXAMPLE = """\
# SMA crossover with stop-loss and take-profit on real daily bars: 25,440 candidates.
[data]
sample = "GOOG"                 # or: file = "prices.csv"

[strategy]
name = "sma_cross"              # a ready strategy, or "package.module:name"

[space]
fast = { low = 5, high = 50, step = 1 }
slow = { low = 20, high = 200, step = 5 }
stop_loss = ["none", 0.05, 0.10, 0.15]
take_profit = ["none", 0.20, 0.40, 0.80]
where = "fast < slow"

[costs]
fee_rate = 0.001                # 0.1 % of the traded value

[search]
metric = "sharpe"
"""


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration."""

    bars: Bars
    source: str  # where the bars came from, for people
    strategy: Strategy
    space: Space | None
    params: dict[str, Any] | None
    costs: Costs
    execution: Execution
    search: dict[str, Any]


def read(path: str | Path | None) -> Config:
    """Read a TOML file; None is the embedded example.

    Raises
    ------
    InputError
        No such file, no TOML, an unknown section or key, a value that breaks a rule.
    """
    if path is None:
        return parse(tomllib.loads(EXAMPLE), Path.cwd())
    path = Path(path)
    if not path.is_file():
        raise InputError(f"CONFIG must be an existing TOML file, got {str(path)!r}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"CONFIG must be TOML, got {str(path)!r}: {error}") from None
    return parse(tables, path.parent)


def parse(tables: Mapping[str, Any], folder: Path) -> Config:
    """Check the tables of a configuration; paths and modules are looked up from ``folder``."""
    known_names("section", tables, SECTIONS)
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise InputError(f"section {name!r} must be a table [{name}], got {table!r}")
    bars, source = _bars(tables.get("data", {}), folder)
    if "costs" not in tables:
        raise InputError("section [costs] must be there, got none; fee_rate = 0.0 says no costs")
    search = dict(tables.get("search", {}))
    known_names("key of [search]", search, SEARCH)
    if "window" in search:
        search["window"] = _window(search["window"])
    return Config(bars=bars, source=source, strategy=_strategy(tables.get("strategy", {}), folder),
                  space=_space(tables["space"]) if "space" in tables else None,
                  params=_values(tables["params"]) if "params" in tables else None,
                  costs=_record("costs", Costs, tables["costs"]),
                  execution=_record("execution", Execution, tables.get("execution", {})), search=search)


def _bars(table: Mapping[str, Any], folder: Path) -> tuple[Bars, str]:
    known_names("key of [data]", table, DATA)
    if ("sample" in table) == ("file" in table):
        raise InputError(f"[data] must have either sample or file, got {dict(table)!r}")
    if "sample" in table:
        return Bars.sample(table["sample"]), "embedded daily bars"
    path = folder / table["file"]
    return Bars.read(path, symbol=table.get("symbol")), str(table["file"])


def _strategy(table: Mapping[str, Any], folder: Path) -> Strategy:
    known_names("key of [strategy]", table, ("name",))
    name = table.get("name")
    if not isinstance(name, str):
        raise InputError(f"[strategy] must have a name, one of {', '.join(READY)} or 'package.module:name', got {name!r}")
    module_name, colon, attribute = name.partition(":")
    if not colon:
        if name not in READY:
            raise InputError(
                f"strategy must be one of {', '.join(READY)} or 'package.module:name', got {name!r}{did_you_mean(name, READY)}"
            )
        return READY[name]
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    try:
        strategy = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise InputError(f"strategy must name something importable, got {name!r}: {error}") from error
    if not isinstance(strategy, Strategy):
        raise InputError(f"strategy must be a rules.Strategy, got {type(strategy).__name__} at {name!r}")
    return strategy


def _space(table: Mapping[str, Any]) -> Space:
    parameters = {name: _values(value) if isinstance(value, Mapping) else
                  [_none(each) for each in value] if isinstance(value, list) else _none(value)
                  for name, value in table.items() if name != "where"}
    return Space(parameters, where=table.get("where"))


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _none(value) for name, value in table.items()}


def _none(value: Any) -> Any:
    return None if value == NONE else value


def _window(value: Any) -> slice:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(edge, int) for edge in value):
        raise InputError(f"window must be two bars [first, last], got {value!r}")
    return slice(*value)


def _record(section: str, kind: Any, table: Mapping[str, Any]) -> Any:
    fields = dataclasses.fields(kind)
    known_names(f"key of [{section}]", table, [field.name for field in fields])
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in table:
            raise InputError(f"[{section}] must have {field.name!r}, got {dict(table)!r}")
    return kind(**table)

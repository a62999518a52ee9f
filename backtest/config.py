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
from backtest.bars import Bars, read_frame
from backtest.costs import Costs, Execution
from backtest.levels import windows
from backtest.rules import Strategy
from backtest.space import NONE, Space
from backtest.strategies import READY

SECTIONS = ("data", "strategy", "space", "params", "costs", "execution", "search")
DATA = ("sample", "samples", "file", "files", "symbol")
SEARCH = ("metric", "method", "n_trials", "min_trades", "keep", "seed", "window", "aggregate", "n_threads",
          "timeout", "store")

LEVELS_SECTIONS = ("symbols", "forecast", "levels", "search")
FORECAST = ("high", "low", "position", "kind")
LEVELS = ("window", "step", "policies", "fee_rate", "intrabar", "fill_margin", "reference")
LEVELS_SEARCH = ("method", "bounds", "effort", "maxfun", "seed", "deadline", "n_threads")

EXAMPLE = """\
# SMA crossover with stop-loss and take-profit on real daily bars: 25,440 candidates.
[data]
sample = "GOOG"                 # or: file = "prices.csv"; several: samples = ["GOOG", "AAPL"], files = { A = "a.csv" }

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

LEVELS_EXAMPLE = """\
# Limit-order levels around forecasts, year by year: the best offsets of each window, scored on the next one.
[symbols]                       # name = file with open, high, low, close and the forecast columns, or "sample"
GOOG = "sample"
AAPL = "sample"
IBM = "sample"
MSFT = "sample"

[forecast]                      # columns of the files; samples come with simple forecasts of their own
high = "high_pred"
low = "low_pred"
position = "position"           # 1.0 long, -1.0 short, fractions allowed
kind = "prices"                 # or "moves" against the previous close

[levels]
window = 250                    # bars; step = window
fee_rate = 0.0005
policies = ["limit", "close"]   # exit at the limit where it fills, or always at the close

[search]
method = "exact"
bounds = [[-0.03, 0.03], [-0.03, 0.03]]
"""

PORTFOLIO_EXAMPLE = """\
# Inverse-volatility weights of four stocks, rebalanced monthly; the look-back is searched for.
[data]
samples = ["AAPL", "GOOG", "IBM", "MSFT"]   # or files = { A = "a.csv" }; or close = "close.csv", open = ..., one column an asset
# weights = "weights.csv"         # in place of [rule]: a date column and one column an asset; its dates rebalance

[rule]
name = "inverse_volatility"     # or "package.module:function", called with (close, params, mask)
every = "month"                 # day, week, month, quarter, year: the mask of bars that rebalance
# version = "1"                  # of a function of your own, for a store; change it when the function changes

[space]                         # or [params], to run one
lookback = { low = 10, high = 250, step = 5 }

[costs]
fee_rate = 0.0005               # 0.05 % of the traded value
slippage = 0.0002

[portfolio]
fill = "next_open"              # or "close"
start_value = 100000.0
window = [251, 3270]            # the same bars for every look-back; several: [[251, 1700], [1700, 3270]], ranked by aggregate

[search]
metric = "sharpe"
"""

#: What ``backtest example NAME`` prints.
EXAMPLES = {"optimize": EXAMPLE, "levels": LEVELS_EXAMPLE, "portfolio": PORTFOLIO_EXAMPLE}


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration."""

    bars: Bars | dict[str, Bars]
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
    return parse(*_tables(path, EXAMPLE))


def _tables(path: str | Path | None, example: str) -> tuple[dict[str, Any], Path]:
    """A file's tables and its folder; None is the example."""
    if path is None:
        return tomllib.loads(example), Path.cwd()
    path = Path(path)
    if not path.is_file():
        raise InputError(f"CONFIG must be an existing TOML file, got {str(path)!r}")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path.parent
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"CONFIG must be TOML, got {str(path)!r}: {error}") from None


def _check_sections(tables: Mapping[str, Any], sections: tuple[str, ...]) -> None:
    known_names("section", tables, sections)
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise InputError(f"section {name!r} must be a table [{name}], got {table!r}")


def parse(tables: Mapping[str, Any], folder: Path) -> Config:
    """Check the tables of a configuration; paths and modules are looked up from ``folder``."""
    _check_sections(tables, SECTIONS)
    bars, source = _bars(tables.get("data", {}), folder)
    if "costs" not in tables:
        raise InputError("section [costs] must be there, got none; fee_rate = 0.0 says no costs")
    search = dict(tables.get("search", {}))
    known_names("key of [search]", search, SEARCH)
    if "window" in search:
        search["window"] = _window(search["window"])
    return Config(bars=bars, source=source, strategy=_strategy(tables.get("strategy", {}), folder),
                  space=Space.from_dict(tables["space"], NONE) if "space" in tables else None,
                  params=_values(tables["params"]) if "params" in tables else None,
                  costs=_record("costs", Costs, tables["costs"]),
                  execution=_record("execution", Execution, tables.get("execution", {})), search=search)


def _bars(table: Mapping[str, Any], folder: Path) -> tuple[Bars | dict[str, Bars], str]:
    known_names("key of [data]", table, DATA)
    if sum(key != "symbol" for key in table) != 1:
        raise InputError(f"[data] must have one of sample, samples, file and files, got {dict(table)!r}")
    kind = next(key for key in table if key != "symbol")
    given = table[kind]
    for key, value in table.items():
        if key not in ("samples", "files") and not isinstance(value, str):
            raise InputError(f"{key} of [data] must be text, got {value!r}")
    if "symbol" in table and kind != "file":
        raise InputError(f"symbol of [data] must go with file, got {kind} = {given!r}")
    if kind == "sample":
        return Bars.sample(given), "embedded daily bars"
    if kind == "file":
        return Bars.read(folder / given, symbol=table.get("symbol")), given
    if kind == "samples":
        if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
            raise InputError(f"samples of [data] must be a list of symbols, got {given!r}")
        if len(set(given)) < len(given):
            raise InputError(f"samples of [data] must hold each symbol once, got {given!r}")
        return {name: Bars.sample(name) for name in given}, "embedded daily bars"
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given.values()):
        raise InputError(f"files of [data] must be a table of symbols and files, got {given!r}")
    return {symbol: Bars.read(folder / name, symbol=symbol) for symbol, name in given.items()}, ", ".join(given.values())


def _strategy(table: Mapping[str, Any], folder: Path) -> Strategy:
    known_names("key of [strategy]", table, ("name",))
    name = table.get("name")
    if not isinstance(name, str):
        raise InputError(f"[strategy] must have a name, one of {', '.join(READY)} or 'package.module:name', got {name!r}")
    module_name, colon, attribute = name.partition(":")
    if colon and not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise InputError(f"strategy must be 'package.module:name', got {name!r}")
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


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _none(value) for name, value in table.items()}


def _none(value: Any) -> Any:
    return None if value == NONE else value


def _window(value: Any) -> slice | list[slice]:
    """Two bars, or a list of such pairs."""
    if isinstance(value, list) and value and all(isinstance(each, list) for each in value):
        return [slice(*_edges(each)) for each in value]
    return slice(*_edges(value))


def _edges(value: Any) -> list[int]:
    if not isinstance(value, list) or len(value) != 2 or not all(type(edge) is int for edge in value):
        raise InputError(f"window must be two bars [first, last], or a list of such pairs, got {value!r}")
    return value


def _record(section: str, kind: Any, table: Mapping[str, Any]) -> Any:
    fields = dataclasses.fields(kind)
    known_names(f"key of [{section}]", table, [field.name for field in fields])
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in table:
            raise InputError(f"[{section}] must have {field.name!r}, got {dict(table)!r}")
    return kind(**table)


@dataclasses.dataclass(frozen=True)
class LevelsConfig:
    """A checked configuration of ``backtest levels``."""

    symbols: dict[str, windows.Series]
    options: dict[str, Any]  # of windows.walk


def read_levels(path: str | Path | None) -> LevelsConfig:
    """Read a TOML file for ``backtest levels``; None is the embedded example."""
    tables, folder = _tables(path, LEVELS_EXAMPLE)
    _check_sections(tables, LEVELS_SECTIONS)
    files, forecast = tables.get("symbols", {}), tables.get("forecast", {})
    rules, search = dict(tables.get("levels", {})), dict(tables.get("search", {}))
    known_names("key of [forecast]", forecast, FORECAST)
    known_names("key of [levels]", rules, LEVELS)
    known_names("key of [search]", search, LEVELS_SEARCH)
    for name in ("window", "fee_rate"):
        if name not in rules:
            raise InputError(f"[levels] must have {name!r}, got {rules!r}")
    if not files:
        raise InputError("[symbols] must name at least one file, got none")
    how = {"forecasts": forecast.get("kind", "prices"), "reference": rules.pop("reference", "prev_close")}
    return LevelsConfig({symbol: _series(symbol, file, forecast, folder, how) for symbol, file in files.items()}, rules | search)


def _series(symbol: str, file: Any, forecast: Mapping[str, Any], folder: Path, how: dict[str, Any]) -> windows.Series:
    if file == "sample":
        bars = Bars.sample(symbol)
        return windows.series(bars, **windows.simple_forecasts(bars))
    if not isinstance(file, str):
        raise InputError(f"[symbols] {symbol} must be a file or 'sample', got {file!r}")
    frame = read_frame(folder / file)
    named = {
        key: forecast.get(key, default) for key, default in (("high", "high_pred"), ("low", "low_pred"), ("position", "position"))
    }
    known_names(f"forecast column of {file}", named.values(), [str(name) for name in frame.columns])
    columns = {
        target: frame[named[key]] for target, key in (("high_pred", "high"), ("low_pred", "low"), ("position", "position"))
    }
    return windows.series(Bars.from_frame(frame, symbol=symbol), **columns, **how)

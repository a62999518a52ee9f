"""Configuration of ``backtest levels``: TOML in, symbols and checked options of ``levels.windows.walk`` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtest._checks import InputError, known_names
from backtest.bars import Bars, from_prices
from backtest.config import sections
from backtest.files.reading import KEYS, Reading
from backtest.files.tables import prices_of, read_table
from backtest.levels import windows

SECTIONS = ("symbols", "data", "forecast", "levels", "search")
FORECAST = ("high", "low", "position", "kind")
LEVELS = ("window", "step", "policies", "fee_rate", "intrabar", "fill_margin", "reference")
SEARCH = ("method", "bounds", "effort", "maxfun", "seed", "deadline", "n_threads")

EXAMPLE = """\
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


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration of ``backtest levels``."""

    symbols: dict[str, windows.Series]
    options: dict[str, Any]  # of windows.walk


def read(path: str | Path | None, told: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file; None is the embedded example.  What is told stands above the keys of ``[data]``."""
    tables, folder = sections.read_tables(path, EXAMPLE, SECTIONS, told, "levels")
    files, forecast = tables.get("symbols", {}), tables.get("forecast", {})
    rules, search = dict(tables.get("levels", {})), dict(tables.get("search", {}))
    data = tables.get("data", {})
    known_names("key of [data]", data, KEYS)
    known_names("key of [forecast]", forecast, FORECAST)
    known_names("key of [levels]", rules, LEVELS)
    known_names("key of [search]", search, SEARCH)
    for name in ("window", "fee_rate"):
        if name not in rules:
            raise InputError(f"[levels] must have {name!r}, got {rules!r}")
    if not files:
        raise InputError("[symbols] must name at least one file, got none")
    if all(file == "sample" for file in files.values()):
        sections.refuse_reading(data, "samples only")
    reading = sections.reading(data)
    how = {"forecasts": forecast.get("kind", "prices"), "reference": rules.pop("reference", "prev_close")}
    series = {symbol: _series(symbol, file, forecast, folder, how, reading) for symbol, file in files.items()}
    return Config(series, rules | search)


def _series(
    symbol: str, file: Any, forecast: Mapping[str, Any], folder: Path, how: dict[str, Any], reading: Reading
) -> windows.Series:
    if file == "sample":
        bars = Bars.sample(symbol)
        return windows.series(bars, **windows.simple_forecasts(bars))
    name, reading = sections.file(f"[symbols] {symbol}", file, reading)
    table = read_table(folder / name, reading)
    named = {
        key: forecast.get(key, default) for key, default in (("high", "high_pred"), ("low", "low_pred"), ("position", "position"))
    }
    known_names(f"forecast column of {name}", named.values(), [str(each) for each in table.names])
    with table.source.named():
        found = prices_of(table, reading, list(named.values()))
    table.source.log()
    columns: dict[str, Any] = {
        target: found.others[named[key]] for target, key in (("high_pred", "high"), ("low_pred", "low"), ("position", "position"))
    }
    return windows.series(from_prices(found, symbol), **columns, **how)

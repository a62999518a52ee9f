"""Configuration of ``backtest levels``: TOML in, symbols and checked options of ``levels.windows.walk`` out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtest._checks import InputError, known_names
from backtest.bars import Bars, read_frame
from backtest.config import sections
from backtest.levels import windows

SECTIONS = ("symbols", "forecast", "levels", "search")
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


def read(path: str | Path | None) -> Config:
    """Read a TOML file; None is the embedded example."""
    tables, folder = sections.read_tables(path, EXAMPLE, SECTIONS)
    files, forecast = tables.get("symbols", {}), tables.get("forecast", {})
    rules, search = dict(tables.get("levels", {})), dict(tables.get("search", {}))
    known_names("key of [forecast]", forecast, FORECAST)
    known_names("key of [levels]", rules, LEVELS)
    known_names("key of [search]", search, SEARCH)
    for name in ("window", "fee_rate"):
        if name not in rules:
            raise InputError(f"[levels] must have {name!r}, got {rules!r}")
    if not files:
        raise InputError("[symbols] must name at least one file, got none")
    how = {"forecasts": forecast.get("kind", "prices"), "reference": rules.pop("reference", "prev_close")}
    return Config({symbol: _series(symbol, file, forecast, folder, how) for symbol, file in files.items()}, rules | search)


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

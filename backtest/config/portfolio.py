"""Configuration of ``backtest portfolio``: TOML in, checked arguments of ``simulate`` or ``optimize_weights`` out."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backtest._checks import InputError, choice, known_names, refuse_former
from backtest._said import shown
from backtest.allocation import EVERY, calendar, inverse_volatility
from backtest.books import Book, simulate
from backtest.config import sections
from backtest.costs import FORMER
from backtest.files.reading import KEYS
from backtest.files.tables import read_wide
from backtest.portfolio import Rule
from backtest.results import Result
from backtest.space import NONE, Space
from backtest.weights import optimize_weights

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = ("data", "rule", "space", "params", "costs", "portfolio", "search")
DATA = ("samples", "files", "close", "open", "high", "low", "weights", *KEYS)
RULE = ("name", "every", "version")
PORTFOLIO = (
    "fill",
    "start_cash",
    "reinvest",
    "reserve_costs",
    "rf",
    "periods_per_year",
    "window",
    "delisted",
    "delisted_after",
    "max_gross",
)
SEARCH = ("metric", "method", "sampler", "n_trials", "min_trades", "keep", "seed", "aggregate", "n_threads", "timeout", "store")
EXAMPLE = """\
# Inverse-volatility weights of four stocks, rebalanced monthly; the look-back is searched for.
[data]
samples = ["AAPL", "GOOG", "IBM", "MSFT"]   # or files = { A = "a.csv" }; or close = "close.csv", open = ..., one column an asset
# dates = "%d/%m/%Y"              # where files do not tell; also tz, sep, decimal, thousands, columns, adjust: docs/files.md
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
start_cash = 100000.0
# delisted = "write_off"         # where prices end while others go on: worth 0; "keep" (default) values at the last price
# delisted_after = 5             # bars without a price after which an asset is written off
# max_gross = 10.0               # weights of an event that add up to more are refused
# Bars to trade, the same for every look-back; dates: ["2001", "2010-06"], "none" is an open end; or a list of such pairs
window = [251, 3270]

[search]
metric = "sharpe"
"""

#: Version of ready rules in a store; what they compute changes with the numerics version, which a store knows too.
OURS = "ready"


def _inverse_volatility(close: Any, params: Mapping[str, Any], mask: Any) -> Any:
    return inverse_volatility(close, params["lookback"], mask)


READY = {"inverse_volatility": _inverse_volatility}


@dataclasses.dataclass(frozen=True)
class Config:
    """A checked configuration."""

    source: str  # where the prices came from, for people
    market: dict[str, Any]  # close, open, ... of simulate
    options: dict[str, Any]  # the rest of simulate's
    weights: Any  # or None
    rule: Rule | None
    rule_name: str
    every: str
    version: str | None  # of the rule
    space: Space | None
    params: dict[str, Any] | None
    search: dict[str, Any]

    def simulate(self) -> Book:
        """The book of the weights, or of the rule at ``[params]``."""
        window = self.options.get("window")
        if isinstance(window, list):
            raise InputError(f"window must be one pair [first, last] to run one book, got {len(window)} windows")
        weights = self.weights if self.rule is None else self.rule(self.params or {})
        return simulate(weights, **self.market, **self.options)

    def optimize(self, **more: Any) -> Result:
        """The search over ``[space]``."""
        assert self.rule is not None
        assert self.space is not None
        return optimize_weights(
            self.rule,
            self.space,
            version=self.version,
            data={"every": self.every},
            **self.market,
            **self.options,
            **self.search | more,
        )


def read(path: str | Path | None, told: Mapping[str, Any] | None = None) -> Config:
    """Read a TOML file; None is the embedded example.  What is told stands above the keys of ``[data]``.

    Raises
    ------
    InputError
        No such file, no TOML, an unknown section or key, a value that breaks a rule.
    """
    tables, folder = sections.read_tables(path, EXAMPLE, SECTIONS, told, "portfolio")
    data, rule, search = tables.get("data", {}), tables.get("rule", {}), dict(tables.get("search", {}))
    options = dict(tables.get("portfolio", {}))
    refuse_former(options, FORMER, "portfolio")
    for section, table, known in (
        ("data", data, DATA),
        ("rule", rule, RULE),
        ("search", search, SEARCH),
        ("portfolio", options, PORTFOLIO),
    ):
        known_names(f"key of [{section}]", table, known)
    options["costs"] = sections.costs(tables)
    if "window" in options:
        options["window"] = sections.window(options["window"])
    market, source = _market(data, folder)
    name, every = rule.get("name"), choice("every", rule.get("every", "month"), EVERY)
    if not isinstance(name, str | None):
        raise InputError(f"name of [rule] must be text, got {shown(name)}")
    if name in READY and "version" in rule:
        raise InputError(f"version of [rule] must go with a function of your own, got {rule['version']!r} for {name!r}")
    has_rule = "rule" in tables
    if ("weights" in data) == has_rule:
        raise InputError(
            "[data] must have weights, or there must be a section [rule], got both"
            if has_rule
            else "[data] must have weights, or there must be a section [rule], got neither"
        )
    if has_rule and ("space" in tables) == ("params" in tables):
        raise InputError(
            "a [rule] must come with [space] to search or [params] to run one, got "
            + ("both" if "space" in tables else "neither")
        )
    return Config(
        source=source,
        market=market,
        options=options,
        weights=_weights(data, market["close"], source, folder) if "weights" in data else None,
        rule=_rule(name, every, market["close"], folder) if has_rule else None,
        rule_name=str(name),
        every=every,
        version=OURS if name in READY else rule.get("version"),
        space=Space.from_dict(tables["space"], NONE) if has_rule and "space" in tables else None,
        params=sections.values(tables["params"]) if has_rule and "params" in tables else None,
        search=search,
    )


def _market(table: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """Prices as frames of equal labels, one column an asset; where an asset has no bar it has no price."""
    import pandas as pd

    kinds = [name for name in ("samples", "files", "close") if name in table]
    if len(kinds) != 1:
        raise InputError(f"[data] must have one of samples, files and close, got {', '.join(kinds) or 'none'}")
    reading = sections.reading(table)
    if kinds == ["close"]:
        names = {
            name: sections.file(f"{name} of [data]", table[name], reading)
            for name in ("close", "open", "high", "low")
            if name in table
        }
        frames = {name: read_wide(folder / file, how) for name, (file, how) in names.items()}
        _refuse_mixed({names[name][0]: frame.index for name, frame in frames.items()})
        return dict(frames), ", ".join(file for file, _ in names.values())
    given = table[kinds[0]]
    if kinds == ["samples"]:
        if "weights" not in table:
            sections.refuse_reading(table, f"samples = {given!r}")
        bars, source = sections.samples(given)
    else:
        bars, source = sections.files(given, folder, reading)
        _refuse_mixed({symbol: each.times() for symbol, each in bars.items()})
    return {
        name: pd.DataFrame({symbol: pd.Series(getattr(each, name), index=each.times()) for symbol, each in bars.items()})
        for name in ("close", "open", "high", "low")
    }, source


def _refuse_mixed(indexes: Mapping[str, Any]) -> None:
    """Times with and without a zone, and bars without dates, have no common calendar."""
    kinds: dict[str, str] = {}
    for name, index in indexes.items():
        zone = getattr(index, "tz", None)
        kind = "no dates" if not hasattr(index, "tz") else "times without a zone" if zone is None else "times with a zone"
        kinds.setdefault(kind, f"{name} ({kind if zone is None else f'{kind}, {zone}'})")
    if len(kinds) > 1:
        raise InputError(
            f"files must all have times with a zone or all without, got {' and '.join(kinds.values())}; "
            'tz="America/New_York" gives all of them one'
        )


def _weights(table: Mapping[str, Any], close: pd.DataFrame, source: str, folder: Path) -> pd.DataFrame:
    """Weights on the bars of the prices; dates that the file leaves out do not rebalance."""
    name, reading = sections.file("weights of [data]", table["weights"], sections.reading(table))
    frame = read_wide(folder / name, dataclasses.replace(reading, adjust=None))
    _refuse_mixed({source: close.index, name: frame.index})
    known_names("asset of the weights", map(str, frame.columns), map(str, close.columns))
    for label in close.columns:
        if label not in frame.columns:
            raise InputError(f"weights must have a column for every asset, got none for {label!r}")
    strange = frame.index.difference(close.index)
    if len(strange):
        raise InputError(f"weights must be for bars that have prices, got {strange[0]}")
    if not frame.index.is_unique:
        raise InputError(f"weights must have one row per date, got {frame.index[frame.index.duplicated()][0]} again")
    return frame[list(close.columns)].reindex(close.index)


def _rule(name: Any, every: str, close: pd.DataFrame, folder: Path) -> Rule:
    if not isinstance(name, str):
        raise InputError(f"[rule] must have a name, one of {', '.join(READY)} or 'package.module:name', got {name!r}")
    if ":" in name:
        function = sections.imported("rule", name, folder)
        if not callable(function):
            raise InputError(f"rule must be a function rule(close, params, mask) -> weights, got {type(function).__name__}")
    else:
        known_names("rule", [name], READY)
        function = READY[name]
    mask = calendar(close.index, every)

    @functools.wraps(function)  # a store knows the rule by the function's name
    def rule(params: Mapping[str, Any]) -> Any:
        return function(close, params, mask)

    return rule

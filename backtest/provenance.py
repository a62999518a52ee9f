"""Provenance of a result: versions, data, settings and search; and the part of it on which scores depend."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING, Any

from backtest import _backend
from backtest._checks import InputError
from backtest._said import shown
from backtest.metrics import NUMERICS_VERSION
from backtest.windows import pair

if TYPE_CHECKING:
    from backtest.book_evaluator import BookEvaluator
    from backtest.cells import Cells
    from backtest.evaluation import BarsEvaluator
    from backtest.portfolio import Market
    from backtest.space import Space

#: Keys of the provenance on which scores of any kind of candidate depend.
SHARED = ("numerics_version", "costs", "window", "cells", "aggregate", "periods_per_year")


def evaluation(cells: Cells[Any]) -> dict[str, Any]:
    """Numerics version, windows, cells and periods per year of any evaluation."""
    return {
        "numerics_version": NUMERICS_VERSION,
        "window": cells.window_numbers(),
        "window_dates": cells.window_dates(),
        "cells": [cell.name for cell in cells.cells],
        "n_decision_bars": cells.n_bars(),
        "aggregate": _aggregate_name(cells),
        "periods_per_year": cells.by_symbol(lambda each: each.periods.per_year),
        "periods_per_year_why": cells.by_symbol(lambda each: each.periods.why),
    }


def strategies(cells: Cells[BarsEvaluator]) -> dict[str, Any]:
    """Data, strategy and settings of an evaluation of strategies."""
    each, by_symbol = next(iter(cells.evaluators.values())), cells.by_symbol
    return {
        "data": by_symbol(lambda each: each.bars.content_hash),
        "symbol": by_symbol(lambda each: each.bars.symbol),
        "n_bars": by_symbol(lambda each: len(each.bars)),
        "strategy": repr(each.strategy),
        "strategy_fingerprint": hashlib.blake2b(repr(each.strategy.key).encode(), digest_size=16).hexdigest(),
        "costs": each.costs.to_dict(),
        "execution": each.execution.to_dict(),
        "engine": each.engine,
        "start": by_symbol(lambda each: each.fixed_start),
    }


def books(cells: Cells[BookEvaluator], version: str | None) -> dict[str, Any]:
    """Data, rule and settings of an evaluation of portfolio rules."""
    evaluator = next(iter(cells.evaluators.values()))
    market, rule = evaluator.market, evaluator.rule
    return {
        "data": market_hash(market),
        "assets": list(map(str, market.assets)),
        "n_bars": market.n_bars,
        "start": min(market.bounds(cell.window)[0] for cell in cells.cells),
        "rule": f"{getattr(rule, '__module__', '?')}.{getattr(rule, '__qualname__', shown(rule))}",
        "version": version,
        "costs": evaluator.rules.costs.to_dict(),
        "rules": {name: value for name, value in evaluator.rules._asdict().items() if name != "costs"},
    }


def search(space: Space, settings: Mapping[str, Any], packages: tuple[str, ...]) -> dict[str, Any]:
    """Versions, space and settings of a search."""
    backend = _backend.chosen()
    versions = {name: metadata.version(name) for name in ("backtest-kernels", "numpy", "scipy", "pandas", *packages)}
    return {
        "versions": {"python": platform.python_version()} | versions,
        "backend": backend.name,
        "simd": backend.simd,
        "space": repr(space),
        "n_candidates": space.size,
        **settings,
    }


def how_to_replay(cells: Cells[Any], call: str, settings: str) -> str:
    """What to type for the best candidate's replay, as text.

    Parameters
    ----------
    cells : Cells
    call : str
        On one symbol in the only window, without ``window`` and the closing bracket.
    settings : str
        What must be as in the search.
    """
    window, each = cells.cells[0].window, []
    if len(cells.evaluators) > 1:
        call = call.replace("bars", "bars[symbol]").replace("result.start", "result.start[symbol]")
        each.append("symbol")
    if len(cells.given_windows) > 1 or (window is not None and each):
        call += ", window=slice(*window)"
        each.append("window in result.provenance['window']")
    elif window is not None:
        call += ", window=slice({}, {})".format(*pair(window) or ())
    cells_to_replay = f" for each {' and '.join(each)}" if each else ""
    return f"{call}){cells_to_replay}, with the {settings}"


def store_context(
    cells: Cells[Any], subject: Mapping[str, Any], names: tuple[str, ...], more: Mapping[str, Any]
) -> dict[str, Any]:
    """All that scores depend on, as plain values: it identifies results in a store.

    Parameters
    ----------
    subject : mapping
        Of :func:`strategies` or :func:`books`.
    names : tuple of str
        Its keys on which scores depend, beside :data:`SHARED`.
    more : mapping
        What else they depend on.
    """
    if callable(cells.aggregate):
        raise InputError(f"aggregate must be a name to use a store, got {shown(cells.aggregate)}")
    names_of_cells = [cell.durable_name for cell in cells.cells]  # by bar numbers: windows given by dates find the same results
    record = evaluation(cells) | {"cells": names_of_cells} | dict(subject)
    return {name: record[name] for name in SHARED} | {name: record[name] for name in names} | dict(more)


def market_hash(market: Market) -> str:
    """Hash of prices and times."""
    digest = hashlib.blake2b(f"{market.close.shape} {getattr(market.times, 'tz', None)}".encode(), digest_size=16)
    for name in ("close", "open", "high", "low", "nanos"):
        array = getattr(market, name)
        digest.update(name.encode() + (b"-" if array is None else array.tobytes()))
    return digest.hexdigest()


def _aggregate_name(cells: Cells[Any]) -> str | None:
    """Name of the aggregate; None for a single cell."""
    if len(cells.cells) == 1:
        return None
    return getattr(cells.aggregate, "__qualname__", repr(cells.aggregate)) if callable(cells.aggregate) else cells.aggregate

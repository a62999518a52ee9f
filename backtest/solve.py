"""From any evaluator and a space to a :class:`Result`: what every optimisation does, whatever its candidates are."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import platform
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from backtest import _backend, search
from backtest._checks import InputError, NumericsWarning, SpaceError, caller_level, choice, optional_flag, whole
from backtest._said import shown
from backtest.books import Book
from backtest.cells import Cell, Cells
from backtest.metrics import METRICS, NUMERICS_VERSION, SWEEP, check_metrics
from backtest.results import Result, replay
from backtest.runs import Run, metrics_table
from backtest.search.optuna_search import optuna_search
from backtest.space import Space
from backtest.study.memory import Memory, SweepMemory

logger = logging.getLogger("backtest")

#: What a slow evaluation may lose when it is interrupted.
SECONDS = 0.25
METHODS = ("auto", "grid", "direct", "evolution", "optuna")
#: Of the provenance, what scores depend on whatever the candidates are.
SHARED = ("numerics_version", "costs", "window", "cells", "aggregate", "periods_per_year")


class Search(NamedTuple):
    """What is looked for, and how: arguments of :func:`backtest.optimize` that are of any optimisation."""

    metric: str
    method: str
    n_trials: int | None
    min_trades: int
    keep: int
    seed: int
    timeout: float | None
    store: str | None
    progress: bool | None
    sampler: Any = "tpe"

    def space(self, given: Space | Mapping[str, Any]) -> Space:
        """The space, if it can be searched so; an error that names the argument otherwise."""
        space = given if isinstance(given, Space) else Space(given)
        check_metrics([self.metric], "sweep")
        choice("method", self.method, METHODS)
        if self.method != "optuna" and not (isinstance(self.sampler, str) and self.sampler == "tpe"):
            raise InputError(f"sampler must go with method='optuna', got {shown(self.sampler)} with {shown(self.method)}")
        whole("min_trades", self.min_trades, low=0)
        optional_flag("progress", self.progress)
        for name in space.names:
            if name in METRICS:  # a table of results has both as columns
                raise SpaceError(f"parameter names must not be metrics, got {shown(name)}")
        if space.continuous and self.method == "grid":
            raise SpaceError(f"{', '.join(space.continuous)} must have a step for a grid search, got a continuous range")
        return space


def solve(
    cells: Cells[Any],
    space: Space,
    asked: Search,
    *,
    provenance: Mapping[str, Any],
    identity: Callable[[], Mapping[str, Any]],
    again: Callable[[Cell, dict[str, Any]], Callable[[], Run | Book]],
    packages: Sequence[str] = (),
    batch_size: int | None = None,
) -> Result:
    """Choose a search, search, remember, and say what was found.

    Parameters
    ----------
    cells : Cells
        Ready to evaluate batches of the space.
    space : Space
        Checked by :meth:`Search.space`.
    asked : Search
    provenance : mapping
        What takes part in the result, beside versions, space, windows and search: costs, data, where candidates start.
    identity : callable
        What scores depend on beside that, as plain values; only asked for if there is a store, and may refuse.
    again : callable
        ``again(cell, params)()`` replays a candidate in a cell; what it returns goes into the result, and is pickled with it.
    packages : sequence of str
        Whose versions provenance has too.
    batch_size : int, optional
        Candidates per batch of a ``grid`` at most, for what takes longer than a kernel: batches are cut by the clock, and a
        store keeps every row.

    Returns
    -------
    Result
    """
    known = _provenance(cells, space, asked, packages) | dict(provenance)
    what = None if asked.store is None else {name: known[name] for name in SHARED} | _checked(cells, identity)
    ranking = search.Ranking(
        asked.metric, asked.min_trades, SWEEP.index(asked.metric), lambda scores: cells.total(scores, "n_trades")
    )
    method, why = asked.method, "as asked for"
    if method == "auto":
        method, why = search.choose(cells, space, n_trials=asked.n_trials, seed=asked.seed, timeout=asked.timeout)
    logger.info("search: %s over a space of %s candidates, %s", method, _count(space.size), why)
    is_sweep = method == "grid" and batch_size is None
    memory = None if what is None else _memory(cells, space, asked, is_sweep, ranking, what)
    with _Progress(method, asked.metric, asked.progress) as bar, memory or contextlib.nullcontext():
        found = _finder(method, batch_size, asked.sampler)(
            cells if memory is None else memory,
            space,
            n_trials=asked.n_trials,
            keep=asked.keep,
            seed=asked.seed,
            timeout=asked.timeout,
            callback=bar,
            rank=ranking,
        )
    if memory is not None:
        found.message += f", {memory.known:,} of them from the store"
    if found.status == search.INTERRUPTED:
        logger.warning("search interrupted: %s", found.message)
    if found.fun == math.inf:
        warnings.warn(
            f"no candidate has a defined {asked.metric} with at least {asked.min_trades} trades; the first candidate is reported",
            NumericsWarning,
            stacklevel=caller_level(),
        )
    if method == "optuna":
        known["sampler"] = asked.sampler if isinstance(asked.sampler, str) else type(asked.sampler).__name__
    known |= {
        "method": method,
        "n_trials": asked.n_trials,
        "n_evaluated": found.nfev,
        "is_interrupted": not found.success,
        "search": f"{method}, {why}; {found.message}",
    }
    rows = space.decode_batch(found.batch)
    params = {name: [row.get(name) for row in rows] for name in space.names}  # None where a parameter is not there
    best_params = space.decode(found.x)
    best = functools.partial(replay, {cell.name: again(cell, best_params) for cell in cells.cells})
    return Result(metrics_table(cells.columns, params, found.scores), best_params, known, best, ranking.distribution)


def _finder(method: str, batch_size: int | None, sampler: Any) -> Callable[..., Any]:
    if method == "optuna":
        return functools.partial(optuna_search, sampler=sampler)
    if method != "grid":
        return functools.partial(search.cube, engine=method)
    return search.grid if batch_size is None else functools.partial(search.grid, batch_size=batch_size, seconds=SECONDS)


def _checked(cells: Cells[Any], identity: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    if callable(cells.aggregate):
        raise InputError(f"aggregate must be a name to use a store, got {shown(cells.aggregate)}")
    return dict(identity())


def _memory(
    cells: Cells[Any], space: Space, asked: Search, is_sweep: bool, ranking: search.Ranking, what: Mapping[str, Any]
) -> Memory:
    """A store behind the evaluation, under the fingerprint of all that scores depend on."""
    assert asked.store is not None
    if not is_sweep:
        return Memory(cells, space, asked.store, what, cells.columns)
    memory = SweepMemory(
        cells,
        space,
        asked.store,
        what,
        cells.columns,
        rank=ranking.objective,
        keep=asked.keep,
        sweep={"metric": asked.metric, "min_trades": asked.min_trades},
    )
    ranking.counts = lambda: not memory.is_known  # most of what it knows is only known to be no better
    return memory


def _count(size: float) -> str:
    return "infinitely many" if size == math.inf else f"{size:,}" if size < 10**30 else shown(size)


class _Progress:
    """A tqdm bar that a search's callback moves; off where nobody looks."""

    def __init__(self, method: str, metric: str, wish: bool | None) -> None:
        from tqdm.auto import tqdm

        self._metric = metric
        self._bar = tqdm(
            unit=" candidates", unit_scale=True, desc=method, leave=False, disable=None if wish is None else not wish
        )

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, result: Any) -> None:
        self._bar.total = result.total
        self._bar.update(result.nfev - self._bar.n)
        value = -result.fun if METRICS[self._metric].direction > 0 else result.fun
        self._bar.set_postfix_str(f"best {self._metric} {value:.4g}", refresh=False)


def _provenance(cells: Cells[Any], space: Space, asked: Search, packages: Sequence[str]) -> dict[str, Any]:
    backend, windows = _backend.chosen(), [_edges(window) for window in cells.windows]
    versions = {name: metadata.version(name) for name in ("backtest-kernels", "numpy", "scipy", "pandas", *packages)}
    return {
        "versions": {"python": platform.python_version()} | versions,
        "numerics_version": NUMERICS_VERSION,
        "backend": backend.name,
        "simd": backend.simd,
        "space": repr(space),
        "n_candidates": space.size,
        "window": windows if len(windows) > 1 else windows[0],
        "cells": [cell.name for cell in cells.cells],
        "n_decision_bars": cells.n_bars(),
        "aggregate": _aggregate_name(cells),
        "periods_per_year": cells.by_symbol(lambda each: each.periods.per_year),
        "periods_per_year_why": cells.by_symbol(lambda each: each.periods.why),
        "metric": asked.metric,
        "min_trades": asked.min_trades,
        "seed": asked.seed,
    }


def _edges(window: slice | None) -> list[Any] | None:
    return None if window is None else [window.start, window.stop]


def _aggregate_name(cells: Cells[Any]) -> str | None:
    """What made one number of several cells; of a callable its name."""
    if len(cells.cells) == 1:
        return None
    return getattr(cells.aggregate, "__qualname__", repr(cells.aggregate)) if callable(cells.aggregate) else cells.aggregate

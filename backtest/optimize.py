"""``bt.optimize``: from bars, a strategy and a space to the best candidates."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import math
import platform
import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend, search
from backtest._checks import InputError, NumericsWarning, SpaceError, choice, whole
from backtest.bars import Bars
from backtest.cells import Aggregate, Cells, Window
from backtest.costs import Costs, Execution
from backtest.expr import Node
from backtest.lines import Combinations, all_combinations
from backtest.metrics import METRICS, NUMERICS_VERSION, SWEEP, check_metrics, warn_if_undated
from backtest.results import Result, replay
from backtest.rules import Strategy
from backtest.runs import metrics_table, run
from backtest.signals import Evaluator
from backtest.space import Continuous, Space
from backtest.study.batch import suggested
from backtest.study.memory import Memory, SweepMemory, own_lines

Floats = NDArray[np.float64]
logger = logging.getLogger("backtest")

METHODS = ("auto", "grid", "direct", "evolution", "optuna")


def optimize(
    bars: Bars | Mapping[str, Bars],
    strategy: Strategy,
    space: Space | Mapping[str, Any],
    *,
    costs: Costs,
    execution: Execution | None = None,
    metric: str = "sharpe",
    method: str = "auto",
    n_trials: int | None = None,
    min_trades: int = 1,
    keep: int = 10_000,
    seed: int = 0,
    window: Window = None,
    aggregate: Aggregate = "median",
    store: str | None = None,
    n_threads: int | None = None,
    timeout: float | None = None,
    progress: bool | None = None,
) -> Result:
    """Search a space for the best candidates of a strategy.

    Parameters
    ----------
    bars : Bars or mapping of str to Bars
        Several symbols by name: each candidate is evaluated on each.
    strategy : Strategy
        Ready ones are in ``bt.strategies``.
    space : Space or mapping
        What may vary.
    costs : Costs
        ``bt.Costs.zero()`` says none.
    execution : Execution, optional
    metric : str
        A ``sweep`` metric of ``bt.METRICS``; its direction is known.
    method : {"auto", "grid", "direct", "evolution", "optuna"}
        ``grid`` evaluates every candidate of a finite space.  ``direct`` (DIRECT) and ``evolution`` (differential
        evolution) move through any space, continuous ranges too, and evaluate no candidate twice.  ``auto`` takes the grid
        where the space is finite and can be enumerated in 60 s (or ``timeout``), going by the time that a few candidates
        take; ``direct`` for a continuous space in which up to three parameters vary; ``evolution`` otherwise.
        ``result.search`` says what was chosen, and why.  ``optuna`` asks Optuna's TPE for eight at a time, at milliseconds each:
        for objectives that cost as much, so never chosen by itself.
    n_trials : int, optional
        Distinct candidates to evaluate.  By default all (``grid``), or for each parameter that varies 1,000 (``optuna``: 100).
    min_trades : int
        Candidates with fewer completed trades rank last; of several symbols or windows, in all of them together.
    keep : int
        Best candidates that the result's table holds.  Ties are in enumeration order (``grid``), or in order of evaluation.
    seed : int
        Order of evaluation and choice of ``n_trials`` (``grid``), or the start of ``evolution``.
    window : slice or list of slices, optional
        Trade inside these bars only; warm-up is read before them.  Several windows are evaluated one by one, each with
        ``cash`` anew; of several symbols, each in each window.
    aggregate : {"median", "mean", "min"} or callable
        Of several symbols or windows (*cells*): what becomes of a metric's values in all of them, and is searched for if it
        is ``metric``.  A metric undefined in a cell is undefined.  A callable takes an array (n_candidates, n_cells), once
        for each metric, and returns (n_candidates,), NaN for undefined; ``min`` is the smallest value, also of metrics of
        which less is better.
    store : str, optional
        ``"sqlite:///results.db"``: what was evaluated there on the same data with the same costs, execution, start and windows,
        by any search, is not evaluated again.  A ``grid`` stores the blocks it has finished and the candidates it keeps; an
        interrupted one goes on where it was.
    n_threads : int, optional
        All processors this process may use by default; never changes a result.
    timeout : float, optional
        Seconds after which no further batch starts.
    progress : bool, optional
        Show a progress bar; by default on terminals and in notebooks only.

    Returns
    -------
    Result
        Ctrl-C ends the search and returns what is done so far, marked ``is_interrupted``.  Of several cells, the table has
        the aggregated metrics, then ``metric@cell`` of each, such as ``sharpe@GOOG``, ``sharpe@0:500`` or
        ``sharpe@GOOG[0:500]``; ``table.filter(like="sharpe@")`` is one metric in all cells.

    Notes
    -----
    Every candidate starts at the longest warm-up that any candidate of the space can have (``result.start``, of several
    symbols by symbol), so that their metrics cover the same bars.  A continuous parameter cannot be a window, which is whole.
    """
    space = space if isinstance(space, Space) else Space(space)
    check_metrics([metric], "sweep")
    choice("method", method, METHODS)
    whole("min_trades", min_trades, low=0)
    if space.conditional:
        raise SpaceError(f"{', '.join(space.conditional)} must always be there, because a strategy reads every parameter, got a "
                         "condition (when); bt.Study takes it")
    for name in space.names:
        if name in METRICS:  # a table of results has both as columns
            raise SpaceError(f"parameter names must not be metrics, got {name!r}")
    execution = execution or Execution()
    cells = Cells(bars, window, aggregate, lambda of, share: Evaluator(
        of, strategy, space.parameters, costs=costs, execution=execution, metrics=SWEEP, n_threads=n_threads, memo_share=share))
    if space.continuous and method == "grid":
        raise SpaceError(f"{', '.join(space.continuous)} must have a step for a grid search, got a continuous range")
    cells.fix_start(lambda evaluator: _combinations(evaluator, space))
    warn_if_undated(*cells.contexts())
    ranking = search.Ranking(metric, min_trades, SWEEP.index(metric), lambda scores: cells.total(scores, "n_trades"))
    why = "as asked for"
    if method == "auto":
        method, why = search.choose(cells, space, n_trials=n_trials, seed=seed, timeout=timeout)
    find: Callable[..., Any] = functools.partial(search.cube, engine=method)
    if method in ("grid", "optuna"):
        find = search.grid if method == "grid" else suggested
    logger.info("search: %s over a space of %s candidates, %s", method, _count(space.size), why)
    memory = None if store is None else _memory(cells, space, store, method, ranking.objective, keep, metric, min_trades)
    if isinstance(memory, SweepMemory):
        ranking.counts = lambda: not memory.is_known  # most of what it knows is only known to be no better
    with _progress(method, metric, progress) as bar, memory or contextlib.nullcontext():
        found = find(cells if memory is None else memory, space, n_trials=n_trials, keep=keep, seed=seed, timeout=timeout,
                     callback=bar, rank=ranking)
    if memory is not None:
        found.message += f", {memory.known:,} of them from the store"
    if found.status == search.INTERRUPTED:
        logger.warning("search interrupted: %s", found.message)
    if found.fun == math.inf:
        warnings.warn(f"no candidate has a defined {metric} with at least {min_trades} trades; the first candidate is reported",
                      NumericsWarning, stacklevel=2)
    columns = {name: [parameter.decode(value) for value in found.batch[:, column].tolist()]
               for column, (name, parameter) in enumerate(space.parameters.items())}
    best_params = space.decode(found.x)
    provenance = _provenance(cells, space, metric, seed, min_trades) | {
        "method": method, "n_trials": n_trials, "n_evaluated": found.nfev, "is_interrupted": not found.success,
        "search": f"{method}, {why}; {found.message}"}
    runs = {cell.name: functools.partial(run, evaluator.bars, strategy, best_params, costs=costs, window=cell.window,
                                         execution=execution.replace(start=evaluator.fixed_start))
            for cell in cells.cells for evaluator in [cells.evaluators[cell.symbol]]}
    return Result(metrics_table(cells.columns, columns, found.scores), best_params, provenance, functools.partial(replay, runs),
                  ranking.distribution)


def _memory(cells: Cells, space: Space, store: str, method: str, rank: Callable[[Floats], Floats], keep: int, metric: str,
            min_trades: int) -> Memory:
    """A store behind the evaluation, under the fingerprint of all that scores depend on."""
    of = next(iter(cells.evaluators.values()))
    if callable(cells.aggregate):
        raise InputError(f"aggregate must be a name to use a store, got {cells.aggregate!r}")
    given = _provenance(cells, space, metric, 0, min_trades)
    what = {name: given[name] for name in ("numerics_version", "data", "strategy", "strategy_fingerprint", "costs", "execution",
                                           "start", "window", "cells", "aggregate", "periods_per_year")}
    what |= {"lines": own_lines(of.strategy), "TA-Lib": given["versions"]["TA-Lib"]}
    if method != "grid":
        return Memory(cells, space, store, what, cells.columns)
    return SweepMemory(cells, space, store, what, cells.columns, rank=rank, keep=keep,
                       sweep={"metric": metric, "min_trades": min_trades})


def _combinations(evaluator: Evaluator, space: Space) -> Combinations:
    """What the longest warm-up of a space has to be looked for in: every value, and both ends of continuous ranges."""
    values = {name: [parameter.low, parameter.high] if isinstance(parameter, Continuous) else parameter.values()
              for name, parameter in space.parameters.items()}
    listed = all_combinations({name: [default] for name, default in evaluator.params.items()} | values)

    def combinations(node: Node) -> Iterable[dict[str, Any]]:
        # A custom line takes any number; whatever else has a warm-up of its own is a window.
        for name in node.params if node.op != "custom" else ():
            if name in space.continuous:
                raise SpaceError(f"{name} must have a step, because it counts bars, got the continuous range "
                                 f"{space.parameters[name]!r}")
        return listed(node)

    if isinstance(evaluator.strategy.max_bars, Node):
        combinations(evaluator.strategy.max_bars)
    return combinations


def _count(size: float) -> str:
    return "infinitely many" if size == math.inf else f"{size:,}"


class _progress:
    """A tqdm bar that a search's callback moves; off where nobody looks."""

    def __init__(self, method: str, metric: str, wish: bool | None) -> None:
        from tqdm.auto import tqdm

        self._metric = metric
        self._bar = tqdm(unit=" candidates", unit_scale=True, desc=method, leave=False,
                         disable=None if wish is None else not wish)

    def __enter__(self) -> _progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, result: Any) -> None:
        self._bar.total = result.total
        self._bar.update(result.nfev - self._bar.n)
        value = -result.fun if METRICS[self._metric].direction > 0 else result.fun
        self._bar.set_postfix_str(f"best {self._metric} {value:.4g}", refresh=False)


def _provenance(cells: Cells, space: Space, metric: str, seed: int, min_trades: int) -> dict[str, Any]:
    packages = ("backtest-kernels", "numpy", "scipy", "pandas", "TA-Lib")
    backend, of, by_symbol = _backend.chosen(), next(iter(cells.evaluators.values())), cells.by_symbol
    first = cells.cells[0].symbol
    windows = [_edges(cell.window) for cell in cells.cells if cell.symbol == first]
    return {
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "numerics_version": NUMERICS_VERSION, "backend": backend.name, "simd": backend.simd,
        "data": by_symbol(lambda each: each.bars.content_hash), "symbol": by_symbol(lambda each: each.bars.symbol),
        "n_bars": by_symbol(lambda each: len(each.bars)), "strategy": repr(of.strategy),
        "strategy_fingerprint": hashlib.blake2b(repr(of.strategy.key).encode(), digest_size=16).hexdigest(), "space": repr(space),
        "n_candidates": space.size, "costs": of.costs.to_dict(), "execution": of.execution.to_dict(),
        "start": by_symbol(lambda each: each.fixed_start),
        "window": windows if len(windows) > 1 else windows[0], "cells": [cell.name for cell in cells.cells],
        "n_decision_bars": cells.n_bars(), "aggregate": _aggregate_name(cells), "metric": metric, "min_trades": min_trades,
        "periods_per_year": by_symbol(lambda each: each.periods_per_year), "seed": seed}


def _edges(window: slice | None) -> list[Any] | None:
    return None if window is None else [window.start, window.stop]


def _aggregate_name(cells: Cells) -> str | None:
    """What made one number of several cells; of a callable its name."""
    if len(cells.cells) == 1:
        return None
    return getattr(cells.aggregate, "__qualname__", repr(cells.aggregate)) if callable(cells.aggregate) else cells.aggregate

"""Shared by all optimisations: choose a search, run it, store scores, and make a :class:`Result`."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from backtest import provenance, search
from backtest._checks import InputError, NumericsWarning, SpaceError, caller_level, choice, optional_flag, whole
from backtest._said import shown
from backtest.cells import Cell, Cells
from backtest.metrics import METRICS, SWEEP, check_metrics
from backtest.results import Result
from backtest.search.optuna_search import optuna_search
from backtest.simulation import Simulation
from backtest.space import Space
from backtest.study.memory import Memory, SweepMemory

logger = logging.getLogger("backtest")

#: Seconds per batch of slow candidates: the most that an interruption loses.
SECONDS = 0.25
METHODS = ("auto", "grid", "direct", "evolution", "optuna")


class SearchOptions(NamedTuple):
    """Arguments of :func:`backtest.optimize` that every optimisation has."""

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

    def checked(self, given: Space | Mapping[str, Any]) -> Space:
        """Check the options, and return the space; errors name the argument."""
        space = given if isinstance(given, Space) else Space(given)
        check_metrics([self.metric], "sweep")
        choice("method", self.method, METHODS)
        if self.method != "optuna" and not (isinstance(self.sampler, str) and self.sampler == "tpe"):
            raise InputError(f"sampler must go with method='optuna', got {shown(self.sampler)} with {shown(self.method)}")
        whole("min_trades", self.min_trades, low=0)
        optional_flag("progress", self.progress)
        for name in space.names:
            if name in METRICS:  # both are columns of the table
                raise SpaceError(f"parameter names must not be metrics, got {shown(name)}")
        if space.continuous and self.method == "grid":
            raise SpaceError(f"{', '.join(space.continuous)} must have a step for a grid search, got a continuous range")
        return space


class Subject(NamedTuple):
    """The kind of optimisation: its provenance, what scores depend on, and how a candidate is replayed.

    Parameters
    ----------
    provenance : callable
        ``provenance() -> mapping``: data, rules, costs and first decision bar, for the result; see :mod:`backtest.provenance`.
    depends_on : tuple of str
        Keys of the provenance on which scores depend.
    more_context : callable
        ``more_context() -> mapping``: what else scores depend on, as plain values.  Only called with a store; may raise
        InputError.
    replay_factory : callable
        ``replay_factory(cell, params)() -> Simulation``: a candidate replayed in a cell.  The inner function goes into the
        result, and is pickled with it.
    how_to_replay : callable
        ``how_to_replay() -> str``: what to call in its place on a loaded result, which has no data.
    packages : tuple of str
        Packages whose versions the provenance includes.
    """

    provenance: Callable[[], Mapping[str, Any]]
    depends_on: tuple[str, ...]
    more_context: Callable[[], Mapping[str, Any]]
    replay_factory: Callable[[Cell, dict[str, Any]], Callable[[], Simulation]]
    how_to_replay: Callable[[], str]
    packages: tuple[str, ...] = ()


def solve(cells: Cells[Any], space: Space, options: SearchOptions, subject: Subject, *, batch_size: int | None = None) -> Result:
    """Choose a search, run it, store scores, and make a result.

    Parameters
    ----------
    cells : Cells
        Ready to evaluate batches of the space.
    space : Space
        Checked by :meth:`SearchOptions.checked`.
    options : SearchOptions
    subject : Subject
    batch_size : int, optional
        Most candidates per batch of a ``grid``, for evaluations slower than a kernel: batches are sized by time, and a store
        keeps every row.

    Returns
    -------
    Result
    """
    metric, min_trades = options.metric, options.min_trades
    ranking = search.Ranking(metric, min_trades, SWEEP.index(metric), lambda scores: cells.total(scores, "n_trades"))
    method, reason = options.method, "as asked for"
    is_sweep = method in ("auto", "grid") and batch_size is None
    context = None if options.store is None else _context(cells, subject)
    if method == "auto":
        method, reason = search.choose(cells, space, n_trials=options.n_trials, seed=options.seed, timeout=options.timeout)
    logger.info("search: %s over a space of %s candidates, %s", method, _count(space.size), reason)
    memory = None if context is None else _memory(cells, space, options, is_sweep and method == "grid", ranking, context)
    with _Progress(method, metric, options.progress) as bar, memory or contextlib.nullcontext():
        search_with = _search(method, batch_size, options.sampler, cells.batch_size() if is_sweep else None)
        outcome = search_with(
            cells if memory is None else memory,
            space,
            n_trials=options.n_trials,
            keep=options.keep,
            seed=options.seed,
            timeout=options.timeout,
            callback=bar,
            rank=ranking,
        )
    if memory is not None:
        outcome.message += f", {memory.n_stored:,} of them from the store"
    if outcome.status == search.INTERRUPTED:
        logger.warning("search interrupted: %s", outcome.message)
    if outcome.fun == math.inf:
        warnings.warn(
            f"no candidate has a defined {metric} with at least {min_trades} trades; the first candidate is reported",
            NumericsWarning,
            stacklevel=caller_level(),
        )
    settings = {"metric": metric, "min_trades": min_trades, "seed": options.seed}
    if method == "optuna":
        settings["sampler"] = options.sampler if isinstance(options.sampler, str) else type(options.sampler).__name__
    settings |= {
        "method": method,
        "n_trials": options.n_trials,
        "n_evaluated": outcome.nfev,
        "is_interrupted": not outcome.success,
        "search": f"{method}, {reason}; {outcome.message}",
    }
    record = provenance.search(space, settings, subject.packages) | provenance.evaluation(cells) | dict(subject.provenance())
    rows = space.decode_batch(outcome.batch)
    params = {name: [row.get(name) for row in rows] for name in space.names}  # None where a parameter is absent
    best_params = space.decode(outcome.x)
    table = cells.table(params, outcome.scores)
    return Result(
        table=table,
        best_params=best_params,
        best_value=float(table[metric].iloc[0]),
        metric=metric,
        distribution=ranking.distribution,
        provenance=record,
        how_to_replay=subject.how_to_replay(),
        replay=functools.partial(_replay, {cell.name: subject.replay_factory(cell, best_params) for cell in cells.cells}),
        **{name: record[name] for name in ("start", "search", "n_evaluated", "is_interrupted")},
    )


def _replay(by_cell: Mapping[str, Callable[[], Simulation]]) -> Simulation | dict[str, Simulation]:
    """The replay in the only cell, or replays by cell."""
    replays = {name: each() for name, each in by_cell.items()}
    return replays if len(replays) > 1 else next(iter(replays.values()))


def _context(cells: Cells[Any], subject: Subject) -> dict[str, Any]:
    return provenance.store_context(cells, subject.provenance(), subject.depends_on, subject.more_context())


def _search(method: str, batch_size: int | None, sampler: Any, sweep_size: int | None) -> Callable[..., Any]:
    if method == "optuna":
        return functools.partial(optuna_search, sampler=sampler)
    if method != "grid":
        return functools.partial(search.cube, engine=method)
    if sweep_size is not None:
        return functools.partial(search.grid, batch_size=sweep_size)
    return search.grid if batch_size is None else functools.partial(search.grid, batch_size=batch_size, seconds=SECONDS)


def _memory(
    cells: Cells[Any], space: Space, options: SearchOptions, is_sweep: bool, ranking: search.Ranking, context: Mapping[str, Any]
) -> Memory:
    """A store in front of the evaluation, under the fingerprint of all that scores depend on."""
    assert options.store is not None
    if not is_sweep:
        return Memory(cells, space, options.store, context, cells.durable_columns)
    memory = SweepMemory(
        cells,
        space,
        options.store,
        context,
        cells.durable_columns,
        rank=ranking.objective,
        keep=options.keep,
        sweep={"metric": options.metric, "min_trades": options.min_trades},
    )
    ranking.should_count = lambda: not memory.is_stored  # a stored block has only its best scores
    return memory


def _count(size: float) -> str:
    return "infinitely many" if size == math.inf else f"{size:,}" if size < 10**30 else shown(size)


class _Progress:
    """A progress bar, updated as a search's callback; by default on terminals and in notebooks only."""

    def __init__(self, method: str, metric: str, is_shown: bool | None) -> None:
        from tqdm.auto import tqdm

        self._metric = metric
        self._bar = tqdm(
            unit=" candidates", unit_scale=True, desc=method, leave=False, disable=None if is_shown is None else not is_shown
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

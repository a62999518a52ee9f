"""Optuna over ``evaluate(batch)``: ask k, evaluate k as a batch, tell k."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, SpaceError, number, whole
from backtest.search.duplicates import Status, TrialCache
from backtest.search.engine import Engine
from backtest.search.evolution import LOWEST
from backtest.search.grid import SearchLimit
from backtest.search.propose import Candidate, Proposer
from backtest.search.ranking import DONE, ENDED, INTERRUPTED, TIMED_OUT, TopK, evaluated
from backtest.space import Space

Floats = NDArray[np.float64]

#: Candidates per batch: small, because a sampler learns only between batches.
BATCH = 8
#: Default budget for each varied parameter; a suggestion costs milliseconds.
TRIALS_PER_PARAM = 100


class _Result(NamedTuple):
    status: Status
    values: tuple[float] | None


def optuna_search(
    evaluate: Callable[[Floats], Floats],
    space: Space,
    *,
    sampler: Any = "tpe",
    rank: Callable[[Floats], Floats] | None = None,
    n_trials: int | None = None,
    keep: int = 1,
    seed: int = 0,
    timeout: float | None = None,
    callback: Callable[[Any], None] | None = None,
) -> Any:
    """Search a space with one of Optuna's samplers, in batches, and keep the best candidates.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``, as of :func:`backtest.search.grid`; never called twice for one candidate.
    sampler : str or Optuna sampler
        As of :class:`bt.Study`.
    rank, keep, timeout, callback
        As of :func:`backtest.search.grid`.
    n_trials : int, optional
        Distinct candidates; 100 for each parameter that varies by default.
    seed : int

    Returns
    -------
    scipy.optimize.OptimizeResult
        As of :func:`backtest.search.cube`; ``hits`` counts suggestions of known candidates.

    Raises
    ------
    SpaceError
        No parameter varies, or ``where`` refuses every point proposed.
    InputError
        ``timeout`` leaves no time to find a candidate.
    ObjectiveError
        ``evaluate`` returned NaN, or another shape than one score per candidate.
    """
    from scipy.optimize import OptimizeResult

    if not space.varied:
        raise SpaceError(f"space must have a parameter with more than one value for optuna, got {space!r}")
    whole("seed", seed, low=0)
    budget = TRIALS_PER_PARAM * len(space.varied) if n_trials is None else whole("n_trials", n_trials, low=1)
    total = int(min(budget, space.size))
    deadline = math.inf if timeout is None else time.monotonic() + number("timeout", timeout, low=0.0, open_low=True)
    memory, best = TrialCache(), TopK(whole("keep", keep, low=1), len(space.names))
    engine = None if sampler == "random" else Engine(space, sampler, None, ["minimize"], seed)
    proposer = Proposer(space, engine, memory, seed)
    limit = proposer.limit = SearchLimit(deadline)
    result = OptimizeResult(nfev=0, hits=0, status=DONE, total=total)
    try:
        while result.nfev < total:
            if result.nfev and time.monotonic() >= deadline:
                result.status = TIMED_OUT
                break
            candidates = proposer.next(min(BATCH, total - result.nfev), total - result.nfev)
            if not candidates:
                if limit.is_time_up():
                    result.status = TIMED_OUT
                break
            batch = np.array([each.row for each in candidates])
            scores, objective = evaluated(evaluate, rank, batch, space)
            best.add(result.nfev + np.arange(len(batch)), batch, scores, objective)
            result.nfev += len(batch)
            _tell(proposer, memory, candidates, objective)
            result.hits = proposer.duplicates
            if callback is not None:
                callback(best.fill(result))
    except KeyboardInterrupt:
        if not result.nfev:
            raise  # nothing was evaluated, so there is nothing to return
        result.status = INTERRUPTED
    if not result.nfev:
        so_far = f": {limit.message(space)}" if limit.n_empty else ""
        if result.status == TIMED_OUT:
            raise InputError(f"timeout must leave time to find a candidate, got {timeout!r}{so_far}")
        raise SpaceError(f"where must leave a candidate that {sampler} can find, got {space.where!r} and none{so_far}")
    return _ended(best.fill(result), proposer, space)


def _ended(result: Any, proposer: Proposer, space: Space) -> Any:
    """``result`` with ``success`` and ``message``."""
    limit = proposer.limit
    result.success = result.status == DONE
    result.message = (
        f"{ENDED[result.status]}: {result.nfev:,} of {result.total:,} candidates evaluated, "
        f"{proposer.asks:,} suggestions, {result.hits:,} of them repeats"
    )
    if limit.is_exhausted:
        limit.warn(space, result.nfev, stacklevel=3)
        result.message += f"; {limit.message(space)}"
    return result


def _tell(proposer: Proposer, memory: TrialCache, candidates: list[Candidate], objective: Floats) -> None:
    for candidate, value in zip(candidates, np.maximum(objective, LOWEST).tolist(), strict=True):
        # An undefined score is cached, but is no number that a model could learn from.
        finished = _Result(Status.UNDEFINED, None) if value == math.inf else _Result(Status.DONE, (value,))
        proposer.complete(candidate.digest, finished.status, finished.values)
        memory.put({candidate.digest: finished})

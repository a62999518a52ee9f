"""DIRECT and evolution over any space: points of the unit cube become candidates, each evaluated once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import SpaceError, called, choice, instance, number, whole
from backtest._said import shown
from backtest.search.choose import default_trials
from backtest.search.direct import MAXFUN_PER_PARAM, direct
from backtest.search.duplicates import TrialCache
from backtest.search.evolution import LOWEST, POPSIZE, evolution
from backtest.search.ranking import DONE, ENDED, INTERRUPTED, TIMED_OUT, TopK, evaluated
from backtest.space import Space

Floats = NDArray[np.float64]

ENGINES = ("direct", "evolution")
#: Most points proposed per trial of the budget; on stepped ranges most are repeats, at microseconds each.
POINTS_PER_TRIAL = 10
#: Evolution with a small budget has smaller populations, for about so many generations of at least so many points a parameter.
GENERATIONS = 20
SMALLEST_POPSIZE = 4
#: Evolution restarts when the scores of a generation deviate by no more than this share of their mean.
RESTART_TOLERANCE = 1e-6


def cube(
    evaluate: Callable[[Floats], Floats],
    space: Space,
    engine: str = "direct",
    *,
    rank: Callable[[Floats], Floats] | None = None,
    n_trials: int | None = None,
    keep: int = 1,
    seed: int = 0,
    timeout: float | None = None,
    callback: Callable[[Any], None] | None = None,
) -> Any:
    """Search a space, finite or not, with DIRECT or differential evolution, and keep the best candidates.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``: batch float64 (n_candidates, n_params), scores (n_candidates,) to minimise, or
        (n_candidates, n_metrics) together with ``rank``.  Never called twice for one candidate, nor for one that
        ``where`` refuses; those count as +inf.
    space : Space
        With a parameter that has more than one value.  Points of the unit cube are mapped to candidates by
        :meth:`backtest.Space.from_unit`.
    engine : {"direct", "evolution"}
    rank : callable, optional
        ``rank(scores) -> (n_candidates,)``, to minimise.
    n_trials : int, optional
        Distinct candidates to evaluate, never more; 1,000 for each parameter that varies by default.  Fewer if the search
        has proposed ten points per trial.
    keep : int
        Best candidates to keep.
    seed : int
        Of evolution, which restarts when it has converged; DIRECT is deterministic.
    timeout : float, optional
        Seconds after which no further batch starts; the first always runs.
    callback : callable, optional
        Called after each batch with the result so far.

    Returns
    -------
    scipy.optimize.OptimizeResult
        As of :func:`backtest.search.grid`: ``x``, ``fun`` (the score itself, also if it is -inf), ``nfev`` distinct
        candidates, ``batch``, ``scores``, ``objective`` of the kept ones, ``numbers`` (order of evaluation, which breaks
        ties), ``status``, ``success``, ``message``; and ``hits``: points answered from memory.

    Raises
    ------
    SpaceError
        No parameter varies, or ``where`` refuses every point proposed.
    ObjectiveError
        ``evaluate`` returned NaN, or another shape than one score per candidate.
    """
    choice("engine", engine, ENGINES)
    called("evaluate", evaluate)
    instance("space", space, Space)
    for name, function in (("rank", rank), ("callback", callback)):
        if function is not None:
            called(name, function)
    if not space.varied:
        raise SpaceError(f"space must have a parameter with more than one value for {engine}, got {shown(space)}")
    whole("seed", seed, low=0)
    total = default_trials(space) if n_trials is None else int(min(whole("n_trials", n_trials, low=1), space.size))
    if timeout is not None:
        number("timeout", timeout, low=0.0, open_low=True)
    trials = _Trials(evaluate, space, rank, total, whole("keep", keep, low=1), timeout, callback)
    n_varied = len(space.varied)
    bounds, maxfun = [(0.0, 1.0)] * n_varied, POINTS_PER_TRIAL * max(total, MAXFUN_PER_PARAM * n_varied)
    result = trials.result
    try:
        if engine == "direct":
            # Without tolerances on the best rectangle: only the budget ends the search.
            direct(trials, bounds, maxfun=maxfun, maxiter=maxfun, vol_tol=0.0, len_tol=0.0, callback=trials.after_batch)
        else:
            popsize = min(POPSIZE, max(SMALLEST_POPSIZE, total // (GENERATIONS * n_varied)))
            trials.evolve(bounds, maxfun, seed, popsize)
        reason = "" if result.nfev == total or result.status else f", {engine} proposes no more new ones"
    except KeyboardInterrupt:
        if not result.nfev:
            raise  # nothing was evaluated, so there is nothing to return
        result.status, reason = INTERRUPTED, ""
    if not result.nfev:
        raise SpaceError(f"where must leave a candidate that {engine} can find, got {shown(space.where)} and none")
    result.success = result.status == DONE
    result.message = (
        f"{ENDED[result.status]}: {result.nfev:,} of {total:,} candidates evaluated{reason}, "
        f"{result.hits:,} repeats answered from memory"
    )
    return trials.best.fill(result)


class _Trials:
    """Objective of an engine: maps points of the cube to scores, within a budget of distinct candidates."""

    def __init__(
        self,
        evaluate: Callable[[Floats], Floats],
        space: Space,
        rank: Callable[[Floats], Floats] | None,
        total: int,
        keep: int,
        timeout: float | None,
        callback: Callable[[Any], None] | None,
    ) -> None:
        from scipy.optimize import OptimizeResult

        self.evaluate, self.space, self.rank, self.total, self.callback = evaluate, space, rank, total, callback
        self.cache, self.best = TrialCache(), TopK(keep, len(space.names))
        self.result = OptimizeResult(nfev=0, hits=0, status=DONE, total=total)
        self.deadline = math.inf if timeout is None else time.monotonic() + timeout

    def __call__(self, points: Floats) -> Floats:
        batch = self.space.from_unit(np.clip(points, 0.0, 1.0))  # DIRECT's sums of thirds may round past an end
        scores = np.full(len(batch), math.inf)
        inside = np.flatnonzero(self.space.feasible(batch))
        indices = self.space.grid_index(batch[inside])
        new = self.cache.missing(indices)[: self.total - self.result.nfev]
        if len(new):
            self.cache.store(indices[new], self._evaluated(np.ascontiguousarray(batch[inside[new]])))
        scores[inside] = self.cache.read(indices, len(new))
        self.result.hits = self.cache.hits
        return np.where(scores == -math.inf, LOWEST, scores)

    def evolve(self, bounds: Any, maxfun: int, seed: int, popsize: int) -> None:
        """Evolution, restarted with a new population whenever it converges before the budget is spent."""
        seeds = np.random.SeedSequence(seed)
        while maxfun >= popsize * len(bounds):
            outcome = evolution(
                self,
                bounds,
                maxfun=maxfun,
                seed=int(seeds.spawn(1)[0].generate_state(1)[0]),
                popsize=popsize,
                tol=RESTART_TOLERANCE,
                callback=self.after_batch,
            )
            if not outcome.success:
                return
            maxfun -= outcome.nfev

    def _evaluated(self, batch: Floats) -> Floats:
        scores, objective = evaluated(self.evaluate, self.rank, batch, self.space)
        self.best.add(self.result.nfev + np.arange(len(batch)), batch, scores, objective)
        self.result.nfev += len(batch)
        return objective

    def after_batch(self, _: Any) -> None:
        """Called by the engine after each batch: call the callback, and stop at the end of the budget or the time."""
        if self.result.nfev and self.callback is not None:
            self.callback(self.best.first(self.result))
        if self.result.nfev == self.total:
            raise StopIteration
        if time.monotonic() > self.deadline:
            self.result.status = TIMED_OUT
            raise StopIteration

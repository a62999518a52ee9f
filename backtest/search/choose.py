"""Choice of a search for ``method="auto"``, with its reason."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import called, instance, number, whole
from backtest.enumeration import VisitOrder
from backtest.search.direct import MAXFUN_PER_PARAM
from backtest.space import Space

#: A finite space is enumerated if that takes at most this many seconds, unless there is a timeout.
GRID_SECONDS = 60.0
#: Candidates that are timed, spread over the space so that they share little work.
N_TIMED = 64
#: If the first one takes at least so many seconds, only so many are timed: their scores are discarded.
SLOW_SECONDS, N_TIMED_SLOW = 0.1, 4
#: Most varied parameters with which DIRECT reaches better scores per evaluation than evolution.
MAX_DIRECT = 3


def default_trials(space: Space) -> int:
    """Default budget of distinct candidates for direct and evolution: 1,000 for each parameter that varies, or all."""
    return int(min(MAXFUN_PER_PARAM * max(1, len(space.varied)), space.size))


def choose(
    evaluate: Callable[[NDArray[np.float64]], Any],
    space: Space,
    *,
    n_trials: int | None = None,
    seed: int = 0,
    timeout: float | None = None,
) -> tuple[str, str]:
    """Choose a search for a space, with the reason.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``; timed on a few candidates if the size of a finite space does not decide.
        ``evaluate.lanes``, if there is that, says how many candidates take no longer than one.
    space : Space
    n_trials : int, optional
        Most candidates that a grid would evaluate.
    seed : int
        Chooses the candidates that are timed.
    timeout : float, optional
        Seconds a grid may take; 60 by default.

    Returns
    -------
    method : {"grid", "direct", "evolution"}
    why : str

    Notes
    -----
    Finite spaces no larger than what the other searches would evaluate are enumerated; larger ones if it fits into the
    time, as extrapolated from 64 timed candidates.  Otherwise: ``direct`` for continuous spaces in which up to three
    parameters vary, ``evolution`` for the rest.
    """
    called("evaluate", evaluate)
    instance("space", space, Space)
    n_varied = len(space.varied)
    if space.continuous:
        names = ", ".join(space.continuous) + (" is" if len(space.continuous) == 1 else " are")
        if n_varied <= MAX_DIRECT:
            return "direct", f"because {names} continuous and no more than {MAX_DIRECT} parameters vary"
        return "evolution", f"because {names} continuous and {n_varied} parameters vary"
    total = space.size if n_trials is None else min(whole("n_trials", n_trials, low=1), space.size)
    if total <= default_trials(space):
        return "grid", "because the space is finite"
    budget = GRID_SECONDS if timeout is None else number("timeout", timeout, low=0.0, open_low=True)
    seconds = _seconds(evaluate, space, seed) * (float(total) if total < 10**300 else math.inf)
    if seconds <= budget:
        return "grid", f"because the space is finite and fits into {budget:g} s"
    return "evolution", f"because a grid of {total:,} candidates does not fit into {budget:g} s"


def _seconds(evaluate: Callable[[NDArray[np.float64]], Any], space: Space, seed: int) -> float:
    """Measured seconds per candidate."""
    if not space.can_enumerate:
        return math.inf  # a grid is impossible, so nothing needs to be timed
    positions = VisitOrder(len(space), seed)(0, N_TIMED)
    _, batch = space.candidates(positions)
    started = time.perf_counter()
    if len(batch):
        evaluate(batch[:1])  # warm-up: loading on the first call does not count
    is_fast = time.perf_counter() - started < SLOW_SECONDS
    n_timed = N_TIMED if is_fast else min(N_TIMED, max(N_TIMED_SLOW, getattr(evaluate, "lanes", 1)))
    started = time.perf_counter()
    space.candidates(positions[:n_timed])
    if len(batch):
        evaluate(batch[: max(1, len(batch) * n_timed // N_TIMED)])
    return (time.perf_counter() - started) / n_timed  # positions that ``where`` refuses take time too

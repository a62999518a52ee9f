"""Which search: what ``method="auto"`` looks at, and what it says."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import called, instance, number, whole
from backtest.search.direct import MAXFUN_PER_PARAM
from backtest.search.grid import VisitOrder
from backtest.space import Space

#: A finite space is enumerated if that takes no longer, in seconds, unless a timeout says how much time there is.
GRID_SECONDS = 60.0
#: Candidates that are timed; they are spread over the space, so that few share what they compute.
TIMED = 64
#: But only a few if the first one alone takes that long, in seconds: nothing of it is kept.
SLOW, FEW = 0.1, 4
#: Up to here dividing rectangles reaches a better score per evaluation than evolution, beyond it does not.
MAX_DIRECT = 3


def default_trials(space: Space) -> int:
    """Distinct candidates that direct and evolution evaluate unless told: 1,000 for each parameter that varies, or all."""
    return int(min(MAXFUN_PER_PARAM * max(1, len(space.varied)), space.size))


def choose(
    evaluate: Callable[[NDArray[np.float64]], Any],
    space: Space,
    *,
    n_trials: int | None = None,
    seed: int = 0,
    timeout: float | None = None,
) -> tuple[str, str]:
    """The search for a space, and why.

    Parameters
    ----------
    evaluate : callable
        ``evaluate(batch) -> scores``; timed on a few candidates if the space is finite and too large to be obvious.
    space : Space
    n_trials : int, optional
        A grid would evaluate no more.
    seed : int
        Of the candidates that are timed.
    timeout : float, optional
        Seconds a grid may take; 60 by default.

    Returns
    -------
    method : {"grid", "direct", "evolution"}
    why : str

    Notes
    -----
    Finite spaces no larger than what the other searches would evaluate are enumerated; larger ones if 64 timed
    candidates promise that it fits into the time.  Otherwise: ``direct`` for continuous spaces in which up to three
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
    """Seconds a candidate takes, measured."""
    if not space.can_enumerate:
        return math.inf  # cannot be enumerated, so its candidates need not be timed
    positions = VisitOrder(len(space), seed)(0, TIMED)
    _, batch = space.candidates(positions)
    begun = time.perf_counter()
    if len(batch):
        evaluate(batch[:1])  # what the first call ever has to load is no part of a candidate
    n_timed = TIMED if time.perf_counter() - begun < SLOW else FEW
    begun = time.perf_counter()
    space.candidates(positions[:n_timed])
    if len(batch):
        evaluate(batch[: max(1, len(batch) * n_timed // TIMED)])
    return (time.perf_counter() - begun) / n_timed  # positions that ``where`` refuses take their time too

"""Level problems for the tests of devices: every mode, every length, and what an exact sum of each would be."""

import numpy as np
from levels_problems import KINDS, always_on, moves, rules

from backtest import _backend
from backtest.levels import AlwaysOn, Levels


def any_problem(seed):
    """One problem; 2 x 2 x 2 x 2 modes, both kinds of problem and all kinds of bars take turns, lengths from 0 on."""
    rng = np.random.default_rng([seed, 5])
    kind = KINDS[seed % len(KINDS)]
    data = moves(int(rng.choice([0, 1, 2, 7, 31, 40, 60])), seed, kind)
    settings = rules(seed, kind) | {
        "close_at_eod": bool(seed & 1),
        "intrabar": ("optimistic", "pessimistic")[seed >> 1 & 1],
        "fill_margin": 0.001 * (seed >> 2 & 1),
    }
    return AlwaysOn(**always_on(data, seed), **settings) if seed >> 3 & 1 else Levels(**data, **settings)


def size_of_terms(problem, points):
    """Sum of the absolute terms at each point."""
    return scales(problem, points)[0]


def scales(problem, points):
    """At each point the sum of the absolute terms, and that of the amounts whose difference a term is, of rows that fill."""
    out = np.empty((len(problem._rows), 6))
    sizes = np.empty((2, len(points)))
    for place, (high, low) in enumerate(points):
        _backend.kernel("levels").replay(problem._rows, problem.fee_rate, problem._pessimistic, high, low, 0, len(out), out)
        amounts = problem._rows[:, 6] * (np.abs(out[:, 0]) + np.abs(out[:, 1]) + problem.fee_rate)
        sizes[:, place] = np.abs(out[:, 5]).sum(), np.nansum(amounts)
    return sizes


def distance(problem, points):
    """Of each point: how near the nearest of its prices is to the level it is compared with."""
    rows = problem.level_rows().rows
    is_long = rows[:, 7] > 0.0
    level = rows[:, 4 if problem.intrabar == "pessimistic" else 3]
    nearest = []
    for high, low in points:
        entry = np.minimum(rows[:, 0] + np.where(is_long, low, -high), 0.0)
        leave = np.minimum(np.maximum(rows[:, 1] + np.where(is_long, high, -low), 0.0), np.where(is_long, 10.0, 1.0))
        nearest.append(min(np.abs(entry - rows[:, 2]).min(initial=1.0), np.abs(leave - level).min(initial=1.0)))
    return np.array(nearest)

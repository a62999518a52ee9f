"""Levels the way it is done elsewhere, one candidate a call, beside ours, on the same 140 problems.

70 windows of 200 bars x 2 close policies, AR(1) returns, forecasts that carry signal (0.6 x actual + noise).  Elsewhere:
a torch function scores one candidate, and ``scipy.optimize.direct`` or ``differential_evolution`` calls it.  Here: the
exact optimum, and DIRECT, one problem a thread.

    python bench/one_by_one.py                 # every way on every problem; about a minute
    python bench/one_by_one.py --problems 20   # fewer

Parity comes first: every scorer must agree with the kernel on random points of every problem.  Times are the least of
interleaved repetitions; what is compared is a ratio in one run on one machine.
"""

import argparse

import numpy as np
import torch
from ratio import minima
from rich.console import Console
from rich.table import Table
from scipy.optimize import differential_evolution
from scipy.optimize import direct as scipy_direct

import backtest as bt

FEE, BUDGET, BARS, WINDOWS = 0.0015, 500, 200, 70
WIDTH = 100
BOUNDS = [(-0.03, 0.03), (-0.03, 0.03)]


def series(n, seed=0):
    """Moves of n bars: AR(1) returns with highs and lows of a path inside the bar, and forecasts of both."""
    rng = np.random.default_rng(seed)
    shocks = rng.normal(0, 0.012, n)
    close = np.empty(n)
    before = 0.0
    for bar in range(n):
        close[bar] = before = 0.2 * before + shocks[bar]
    high = np.maximum(close, 0) + np.abs(rng.normal(0, 0.006, n))
    low = np.minimum(close, 0) - np.abs(rng.normal(0, 0.006, n))
    side = np.sign(0.6 * close + rng.normal(0, 0.012, n))
    return {
        "close": close,
        "high": high,
        "low": low,
        "high_pred": 0.6 * high + rng.normal(0, 0.003, n),
        "low_pred": 0.6 * low + rng.normal(0, 0.003, n),
        "position": np.where(side == 0, 1.0, side),
    }


def problems(count):
    moves = series(WINDOWS * BARS)
    made = {}
    for window in range(WINDOWS):
        rows = slice(window * BARS, (window + 1) * BARS)
        for close_at_eod in (False, True):
            made[window, close_at_eod] = {name: values[rows] for name, values in moves.items()} | {"close_at_eod": close_at_eod}
    return dict(list(made.items())[:count])


class OneByOne:
    """The usual torch function: one candidate a call, a dozen small tensor operations."""

    def __init__(self, arrays, dtype=torch.float64):
        self.close_at_eod = arrays["close_at_eod"]
        self.close, self.high, self.low, self.high_pred, self.low_pred, position = (
            torch.as_tensor(arrays[name], dtype=dtype) for name in ("close", "high", "low", "high_pred", "low_pred", "position")
        )
        self.size, self.is_long = position.abs(), position > 0

    def profit(self, x):
        h, l = float(x[0]), float(x[1])  # noqa: E741 - the offset's name
        hp, lp = torch.clamp(self.high_pred + h, 0.0, 10.0), torch.clamp(self.low_pred + l, -1.0, 0.0)
        if self.close_at_eod:
            long_exit = short_exit = self.close
        else:
            long_exit = torch.where(hp <= self.high, hp, self.close)
            short_exit = torch.where(lp >= self.low, lp, self.close)
        long = torch.where(lp > self.low, (long_exit - lp) - FEE, 0.0)
        short = torch.where(hp < self.high, (hp - short_exit) - FEE, 0.0)
        return (self.size * torch.where(self.is_long, long, short)).sum()

    def loss(self, x):
        return -self.profit(x).item()


def check(arrays, problem):
    """Both scorers are the same function, before anything is timed."""
    points = np.random.default_rng(1).uniform(-0.03, 0.03, (20, 2))
    theirs = np.array([OneByOne(arrays).profit(point).item() for point in points])
    np.testing.assert_allclose(problem.profit(points), theirs, rtol=0, atol=1e-12)


def listing(title, *columns):
    """A table whose first column is words and whose others are figures."""
    table = Table(title=title, title_justify="left", box=None)
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right", no_wrap=True)
    return table


def per_candidate(console, repeats=5):
    """Time per candidate of a batch of 4,096, against one torch call."""
    table = listing("one candidate, one core", "bars", "torch (us)", "ours (us)", "ratio", "candidate-bars/s")
    for n in (200, 2000):
        arrays = series(n, seed=n) | {"close_at_eod": False}
        problem, scorer = bt.Levels(**arrays, fee_rate=FEE), OneByOne(arrays)
        check(arrays, problem)
        points = np.random.default_rng(2).uniform(-0.03, 0.03, (4096, 2))
        few = points[:200]
        ours, theirs = minima(
            lambda p=problem, x=points: p.profit(x, n_threads=1),
            lambda s=scorer, x=few: [s.loss(point) for point in x],
            repeats=repeats,
        )
        ours, theirs = ours / len(points), theirs / len(few)
        table.add_row(f"{n:,}", f"{theirs * 1e6:.1f}", f"{ours * 1e6:.4f}", f"{theirs / ours:,.0f}x", f"{n / ours / 1e9:.2f} G")
    console.print(table, "")


def ways(made, ours, n_evolution):
    """{name: (keys it runs on, function that returns the profit of each)}; the first is what the others are compared with."""
    scorers = {key: OneByOne(arrays) for key, arrays in made.items()}
    keys = list(made)
    some = keys[:n_evolution]

    def theirs(search, keys):
        return {key: ours[key].profit([search(scorers[key].loss).x])[0] for key in keys}

    def many(method, n_threads):
        return bt.optimize_many(ours, method, n_threads=n_threads, progress=False)["profit"].to_dict()

    def direct(loss):
        return scipy_direct(loss, BOUNDS, maxfun=BUDGET)

    def evolution(loss):
        return differential_evolution(loss, BOUNDS, seed=0, polish=False, maxiter=16, tol=0)

    found = {
        "torch, scipy.direct": (keys, lambda: theirs(direct, keys)),
        "torch, differential_evolution": (some, lambda: theirs(evolution, some)),
    }
    for method in ("exact", "direct"):
        found[f"ours, {method}, all threads"] = keys, lambda method=method: many(method, None)
        found[f"ours, {method}, 1 thread"] = keys, lambda method=method: many(method, 1)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2 * WINDOWS, help="how many of the 140")
    parser.add_argument("--evolution", type=int, default=10, help="problems that one-by-one differential evolution runs on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=WIDTH)
    console.print(f"{bt.backend()}; torch {torch.__version__}, 1 thread\n", highlight=False)
    per_candidate(console)

    made = problems(options.problems)
    ours = {key: bt.Levels(**arrays, fee_rate=FEE) for key, arrays in made.items()}
    for key in made:
        check(made[key], ours[key])

    each = ways(made, ours, options.evolution)
    profits = {name: run() for name, (_, run) in each.items()}
    best = profits["ours, exact, all threads"]
    slow, fast = ([name for name in each if name.startswith(who)] for who in ("torch", "ours"))
    seconds = dict(zip(slow, minima(*(each[name][1] for name in slow), repeats=1), strict=True))
    seconds |= dict(zip(fast, minima(*(each[name][1] for name in fast), repeats=20), strict=True))
    table = listing(
        f"{len(made)} problems of {BARS} bars", "way", "ms a problem", "times faster", "of the optimum", "below exact on"
    )
    base = seconds[slow[0]] / len(made)
    for name, (keys, _) in each.items():
        mine = seconds[name] / len(keys)
        share = sum(profits[name].values()) / sum(best[key] for key in keys)
        below = sum(profits[name][key] < best[key] - 1e-12 for key in keys)
        above = sum(profits[name][key] > best[key] + 1e-12 for key in keys)
        assert not above, f"{name} beats the exact optimum on {above} problems"
        table.add_row(name, f"{mine * 1e3:.3f}", f"{base / mine:,.1f}x", f"{share:.4%}", f"{below} of {len(keys)}")
    console.print(table)


if __name__ == "__main__":
    main()

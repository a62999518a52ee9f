"""Levels the way it is done elsewhere, one candidate a call, beside ours, on the same 140 problems.

70 windows of 200 bars x 2 close policies, AR(1) returns, forecasts that carry signal (0.6 x actual + noise).  Elsewhere:
a torch function scores one candidate, and ``scipy.optimize.direct`` or ``differential_evolution`` calls it.  Here: the
exact optimum, and DIRECT in batches, one problem a thread.

    python bench/one_by_one.py                 # every way on every problem; about a minute
    python bench/one_by_one.py --problems 20   # fewer

Parity comes first: every scorer must agree with the kernel on random points of every problem.  Times are the least of
interleaved repetitions; what is compared is a ratio in one run on one machine.
"""

import argparse
import time

import numpy as np
import torch
from ratio import minima
from rich.console import Console
from rich.table import Table
from scipy.optimize import differential_evolution
from scipy.optimize import direct as scipy_direct

import backtest as bt

FEE, BUDGET, BARS, WINDOWS = 0.0015, 500, 200, 70
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
    return {"close": close, "high": high, "low": low, "high_pred": 0.6 * high + rng.normal(0, 0.003, n),
            "low_pred": 0.6 * low + rng.normal(0, 0.003, n), "position": np.where(side == 0, 1.0, side)}


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
            torch.as_tensor(arrays[name], dtype=dtype) for name in ("close", "high", "low", "high_pred", "low_pred", "position"))
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


def per_candidate(console, repeats=5):
    """Time per candidate of a batch of 4,096, against one torch call."""
    table = Table(
        "bars",
        "torch, a call (us)",
        "ours, a candidate (us)",
        "ratio",
        "candidate-bars/s",
        title="one candidate, one core",
        title_justify="left",
        box=None,
    )
    for n in (200, 2000):
        arrays = series(n, seed=n) | {"close_at_eod": False}
        problem, scorer = bt.Levels(**arrays, fee_rate=FEE), OneByOne(arrays)
        check(arrays, problem)
        points = np.random.default_rng(2).uniform(-0.03, 0.03, (4096, 2))
        few = points[:200]
        ours, theirs = minima(lambda p=problem, x=points: p.profit(x, n_threads=1),
                              lambda s=scorer, x=few: [s.loss(point) for point in x], repeats=repeats)
        ours, theirs = ours / len(points), theirs / len(few)
        table.add_row(f"{n:,}", f"{theirs * 1e6:.1f}", f"{ours * 1e6:.4f}", f"{theirs / ours:,.0f}x", f"{n / ours / 1e9:.2f} G")
    console.print(table, "")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=2 * WINDOWS, help="how many of the 140")
    parser.add_argument("--evolution", type=int, default=10, help="problems that one-by-one differential evolution runs on")
    options = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    console.print(f"{bt.backend()}; torch {torch.__version__}, 1 thread\n", highlight=False)
    per_candidate(console)

    made = problems(options.problems)
    ours = {key: bt.Levels(**arrays, fee_rate=FEE) for key, arrays in made.items()}
    scorers = {key: OneByOne(arrays) for key, arrays in made.items()}
    for key in made:
        check(made[key], ours[key])

    found = {}
    rows = []

    def timed(name, run, keys, repeats):
        least = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            result = run()
            least = min(least, time.perf_counter() - start)
        found[name] = result
        rows.append((name, least, len(keys)))

    keys = list(made)
    some = keys[: options.evolution]
    timed("torch + scipy.direct(500)", lambda: {key: ours[key].profit(
        [scipy_direct(scorers[key].loss, BOUNDS, maxfun=BUDGET).x])[0] for key in keys}, keys, 1)
    timed(
        "torch + differential_evolution",
        lambda: {
            key: ours[key].profit([differential_evolution(scorers[key].loss, BOUNDS, seed=0, polish=False, maxiter=16, tol=0).x])[
                0
            ]
            for key in some
        },
        some,
        1,
    )
    for method in ("exact", "direct"):
        timed(
            f"ours, {method}", lambda method=method: bt.optimize_many(ours, method, progress=False)["profit"].to_dict(), keys, 5
        )
    timed(
        "ours, exact, 1 thread", lambda: bt.optimize_many(ours, "exact", n_threads=1, progress=False)["profit"].to_dict(), keys, 5
    )
    timed(
        "ours, direct, 1 thread",
        lambda: bt.optimize_many(ours, "direct", n_threads=1, progress=False)["profit"].to_dict(),
        keys,
        5,
    )

    best = found["ours, exact"]
    base = rows[0][1] / rows[0][2]
    table = Table(
        "way",
        "a problem (ms)",
        "against the first",
        "share of the optimum",
        "below exact on",
        title=f"{len(keys)} problems",
        title_justify="left",
        box=None,
    )
    for name, seconds, count in rows:
        each = found[name]
        share = sum(each.values()) / sum(best[key] for key in each)
        below = sum(each[key] < best[key] - 1e-12 for key in each)
        above = sum(each[key] > best[key] + 1e-12 for key in each)
        assert not above, f"{name} beats the exact optimum on {above} problems"
        table.add_row(
            name, f"{seconds / count * 1e3:.3f}", f"{base / (seconds / count):,.1f}x", f"{share:.4%}", f"{below} of {count}"
        )
    console.print(table)


if __name__ == "__main__":
    main()

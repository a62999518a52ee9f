"""Levels on a device: parity, then speed against every core of the CPU and against what the card could do at most.

    python bench/gpu.py                  # the first CUDA device, five minutes at most
    python bench/gpu.py --device cpu     # the same on small sizes, to see that it runs

Prints a page in Markdown.  Results are compared before anything is timed; a difference beyond tolerance ends the run.  Times are
medians; "device" is without transfers (events on the card's clock), "call" is an array in and an array out.
"""

import argparse
import contextlib
import functools
import platform
import statistics
import sys
import time
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).parent.parent))  # the tree, where nothing is installed
from backtest import _backend, gpu
from backtest.compute.many import optimize_many
from backtest.compute.threads import default_threads
from backtest.levels import AlwaysOn, Levels

#: Arithmetic of one candidate-bar of the fused kernel: 6 additions, 3 limits, 2 comparisons, 2 selections, 1 multiply-add.
OPERATIONS = 14
BYTES_A_ROW, BYTES_A_PROFIT = {"float64": 48, "float32": 24}, 24


def problem(n_bars, seed=20, **rules):
    """Bars with forecasts half right, both sides."""
    rng = np.random.default_rng(seed)
    close = rng.normal(0.0, 0.01, n_bars)
    high = np.maximum(close, 0.0) + np.abs(rng.normal(0.0, 0.006, n_bars))
    low = np.minimum(close, 0.0) - np.abs(rng.normal(0.0, 0.006, n_bars))
    bars = {
        "close": close,
        "high": high,
        "low": low,
        "high_pred": np.abs(rng.normal(0.008, 0.004, n_bars)),
        "low_pred": -np.abs(rng.normal(0.008, 0.004, n_bars)),
        "fee_rate": 0.0015,
    }
    if rules.pop("always_on", False):
        return AlwaysOn(**bars, buy=rng.random(n_bars), sell=-rng.random(n_bars), **rules)
    return Levels(**bars, position=rng.choice([-1.0, 1.0], n_bars) * rng.uniform(0.1, 1.0, n_bars), **rules)


def offsets(n_candidates, seed=1):
    return np.random.default_rng(seed).uniform(-0.03, 0.03, (n_candidates, 2))


def table(title, *columns):
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)


def row(*cells):
    print(f"| {' | '.join(f'{cell:.3g}' if isinstance(cell, float) else str(cell) for cell in cells)} |", flush=True)


def seconds(work, limit=0.4, repeats=25):
    """Median wall time, the first call left out."""
    work()
    times, stop = [], time.perf_counter() + limit
    while len(times) < 3 or (len(times) < repeats and time.perf_counter() < stop):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


class Bench:
    """One device, one set of sizes."""

    def __init__(self, device, small):
        import torch

        self.torch, self.small, self.device = torch, small, gpu.check(device, "float64")
        self.is_cuda = self.device.type == "cuda"
        if not self.is_cuda:
            torch.set_num_threads(1)  # the sizes are small: threads would wait for each other
        self.threads = default_threads()

    def on_device(self, work, limit=0.4, repeats=25):
        """Median time of work that stays on the device."""
        if not self.is_cuda:
            return seconds(work, limit, repeats)
        work()
        times, stop = [], time.perf_counter() + limit
        while len(times) < 3 or (len(times) < repeats and time.perf_counter() < stop):
            start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            work()
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        return statistics.median(times)

    def parity(self):
        """500 problems of every mode, ragged lengths, against the CPU kernel; or the end."""
        rng = np.random.default_rng(0)
        modes = [
            {"close_at_eod": eod, "intrabar": rule, "fill_margin": margin, "always_on": both}
            for eod in (False, True)
            for rule in ("optimistic", "pessimistic")
            for margin in (0.0, 0.001)
            for both in (False, True)
        ]
        n = 96 if self.small else 500
        tasks = [problem(int(rng.integers(1, 300)), seed, **modes[seed % len(modes)]) for seed in range(n)]
        first = np.concatenate([[0], np.cumsum(rng.integers(0, 40, len(tasks)))])
        points = offsets(first[-1])
        mine = [(task, points[first[place] : first[place + 1]]) for place, task in enumerate(tasks)]
        expected = np.concatenate([task.profit(batch) for task, batch in mine])
        terms, amounts = np.concatenate([scales(task, batch) for task, batch in mine], axis=1)
        sizes = {"float64": terms, "float32": amounts}
        clear = np.concatenate([distance(task, batch) for task, batch in mine]) > 1e-6
        table(
            f"**Parity**: {len(tasks)} problems, {len(points)} profits against the CPU kernel; error of float64 as a share of "
            "the sum of absolute terms, of float32 of the amounts they are differences of",
            "way",
            "type",
            "largest error",
            "share",
            "allowed",
        )
        for way in ["fused", "torch"] if self.is_cuda else ["torch"]:
            for dtype, allowed in (("float64", 1e-12), ("float32", 1e-6)):
                error = np.abs(gpu.Problems(tasks, self.device, dtype, path=way).ragged(points, first) - expected)
                kept = clear if dtype == "float32" else np.ones_like(clear)
                share = (error[kept] / np.maximum(sizes[dtype][kept], 1e-12)).max()
                row(way, dtype, float(error[kept].max()), float(share), allowed)
                if not share <= allowed:
                    raise SystemExit(f"no parity: {way} in {dtype} is {share} of its scale away; nothing was timed")

    def ceilings(self):
        """What the memory and the arithmetic of the device reach here: bytes/s, and operations/s of each type."""
        torch, found = self.torch, {}
        source = torch.ones((1 << 24) if self.small else (1 << 30), dtype=torch.uint8, device=self.device)
        target = torch.empty_like(source)
        found["bytes"] = 2 * len(source) / self.on_device(lambda: target.copy_(source))
        table("**Ceilings**, measured", "what", "a second")
        row("bytes copied (read and written)", f"{found['bytes']:.3g}")
        if self.is_cuda:
            with contextlib.suppress(ImportError):  # without triton there is no fused kernel to compare either
                from ceilings import operations

                for dtype in ("float64", "float32"):
                    found[dtype] = operations(torch, self.device, dtype, self.on_device)
                    row(f"{dtype} multiply-adds, each one operation", f"{found[dtype]:.3g}")
        return found

    def throughput(self, ceilings):
        """Candidate-bars a second, by size, type and way."""
        table(
            f"**Candidate-bars a second**; CPU: {self.threads} threads, float64",
            "bars",
            "candidates",
            "CPU",
            "way",
            "type",
            "device",
            "call",
            "call / CPU",
            "of arithmetic",
            "of memory",
        )
        sizes = (
            [(200, 512), (2000, 512)]
            if self.small
            else [(200, 4096), (200, 1 << 20), (2000, 4096), (2000, 1 << 18), (20_000, 4096), (20_000, 1 << 16)]
        )
        for n_bars, n in sizes:
            task, batch = problem(n_bars), offsets(n)
            work = n_bars * n
            cpu = work / seconds(lambda task=task, batch=batch: task.profit(batch))
            tensor = self.torch.as_tensor(batch, device=self.device)
            for way in ["fused", "torch"] if self.is_cuda else ["torch"]:
                for dtype in ("float64", "float32"):
                    there = gpu.Problems([task], self.device, dtype, path=way)
                    inside = work / self.on_device(lambda there=there, tensor=tensor: there.profit(tensor))
                    call = work / seconds(lambda there=there, batch=batch: there.profit(batch))
                    arithmetic = f"{100 * OPERATIONS * inside / ceilings[dtype]:.0f} %" if dtype in ceilings else "-"
                    moved = (n_bars * BYTES_A_ROW[dtype] + n * BYTES_A_PROFIT) * inside / work
                    row(
                        n_bars,
                        n,
                        cpu,
                        way,
                        dtype,
                        inside,
                        call,
                        call / cpu,
                        arithmetic,
                        f"{100 * moved / ceilings['bytes']:.1f} %",
                    )

    def break_even(self):
        """The batch from which on a call is faster than all cores."""
        table(
            f"**Break-even**: candidates in one call from which on the device is ahead of {self.threads} threads; the rows lie "
            "there",
            "bars",
            "type",
            "candidates",
            "call (ms)",
            "CPU (ms)",
        )
        for n_bars in (200, 2000) if self.small else (200, 2000, 20_000):
            task = problem(n_bars)
            for dtype in ("float64", "float32"):
                there, found = gpu.Problems([task], self.device, dtype), None
                for power in range(4, 8 if self.small else 21):
                    batch = offsets(1 << power)
                    ours = seconds(lambda there=there, batch=batch: there.profit(batch), limit=0.1)
                    cpu = seconds(lambda task=task, batch=batch: task.profit(batch), limit=0.1)
                    found = (found or (len(batch), 1e3 * ours, 1e3 * cpu)) if ours < cpu else None
                row(n_bars, dtype, *(found or (f"none up to {len(batch)}", 1e3 * ours, 1e3 * cpu)))

    def jobs(self, until):
        """Many problems, start to finish, and how good what they find is."""
        from_exact = {}
        for n, n_bars in ((6, 60), (20, 60)) if self.small else ((140, 200), (10_000, 200)):
            tasks = {seed: problem(n_bars, seed) for seed in range(n)}
            table(
                f"**{n} problems** of {n_bars} bars, whole: `optimize_many`, direct with 500 evaluations",
                "how",
                "seconds",
                "ms a problem",
                "sum of profits",
                "of exact",
            )
            ways = {"exact, CPU": {"method": "exact"}, "direct, CPU": {"method": "direct"}}
            ways |= {
                f"direct, {self.device}, {dtype}": {"method": "direct", "device": str(self.device), "dtype": dtype}
                for dtype in ("float64", "float32")
            }
            for name, options in ways.items():
                if time.monotonic() > until:
                    row(name, "not run: five minutes are over", "-", "-", "-")
                    continue
                optimize_many(dict(list(tasks.items())[:4]), progress=False, **options)  # what is made once is made
                start = time.perf_counter()
                found = optimize_many(tasks, progress=False, on_error="raise", **options)
                spent = time.perf_counter() - start
                profit = float(found["profit"].sum())
                from_exact.setdefault(n, profit)
                row(name, spent, 1e3 * spent / n, profit, f"{100 * profit / from_exact[n]:.3f} %")


def scales(task, points):
    """At each point the sum of the absolute terms, and that of the amounts whose difference a term is, of rows that fill."""
    out = np.empty((len(task._rows), 6))
    sizes = np.empty((2, len(points)))
    for place, (high, low) in enumerate(points):
        _backend.kernel("levels").replay(task._rows, task.fee_rate, task._pessimistic, high, low, 0, len(out), out)
        amounts = task._rows[:, 6] * (np.abs(out[:, 0]) + np.abs(out[:, 1]) + task.fee_rate)
        sizes[:, place] = np.abs(out[:, 5]).sum(), np.nansum(amounts)
    return sizes


def distance(task, points):
    """Of each point: how near the nearest of its prices is to the level it is compared with."""
    rows, is_long = task._rows, task._rows[:, 7] > 0.0
    high, low = points[:, :1], points[:, 1:]
    entry = np.minimum(rows[:, 0] + np.where(is_long, low, -high), 0.0)
    leave = np.maximum(rows[:, 1] + np.where(is_long, high, -low), 0.0)
    level = rows[:, 4 if task.intrabar == "pessimistic" else 3]
    return np.minimum(np.abs(entry - rows[:, 2]).min(1, initial=1.0), np.abs(leave - level).min(1, initial=1.0))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (default: cuda)")
    parser.add_argument("--minutes", type=float, default=5.0, help="when to start nothing more (default: 5)")
    wish = parser.parse_args()
    _backend.require_compiled()
    begun = time.monotonic()
    until = begun + 60.0 * wish.minutes
    bench = Bench(wish.device, small=not wish.device.startswith("cuda"))
    import torch

    print(
        f"{gpu.report(wish.device)}; torch {torch.__version__}, threads {torch.get_num_threads()}; CPU: {_backend.backend()}, "
        f"{platform.processor() or platform.machine()}; Python {platform.python_version()}"
    )
    bench.parity()
    ceilings = bench.ceilings()
    parts = {
        "throughput": functools.partial(bench.throughput, ceilings),
        "break-even": bench.break_even,
        "jobs": functools.partial(bench.jobs, until),
    }
    for name, part in parts.items():
        if time.monotonic() > until:
            print(f"\nnot run, the time is over: {name}")
            continue
        part()
    print(f"\n{time.monotonic() - begun:.0f} s in all")


if __name__ == "__main__":
    main()

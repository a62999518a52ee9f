"""The same candidates and the same metrics through other engines: vectorbt, raptorbt, backtesting.py.

    python bench/peers.py                # every job; some minutes
    python bench/peers.py --quick        # fewer candidates, fewer repetitions, no fresh processes
    python bench/peers.py --jobs sma     # jobs whose name contains a text; machine: strategies that live bar by bar

Each peer by its best recipe: vectorbt vectorised over columns, in chunks that fit the cache, with both of its engines; raptorbt
candidate by candidate and as a batch; backtesting.py as it is; what the bar machine runs (bench/machine_jobs.py) also as loops
written by hand, with Numba and plain, and as vectorbt's order function.  Parity comes first: a timing whose numbers differ from
ours is dropped, and the table says which number.  Times are the least of repetitions taken in turns on one thread; peers are
timed on a subset and quoted per candidate.  What is compared is a ratio in one run on one machine.
"""

import argparse
import functools
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
import warnings
from importlib.metadata import version
from typing import Any, NamedTuple

import machine_jobs
import numpy as np
import talib
from jobs import CASH, CHUNK_CELLS, FEE_BARS, METRICS, PER_YEAR, SEED, Engine, random_bars
from ratio import memory_growth, minima
from rich.console import Console
from rich.table import Table

import backtest as bt
from backtest import rules
from backtest.metrics import SWEEP
from backtest.signals import StrategyEvaluator

TOLERANCE = 1e-8
WINDOWS = range(2, 250)
STOPS = {"stop_loss": 0.05, "take_profit": 0.1}
WIDTH = 150


class Job(NamedTuple):
    """What is to be evaluated: moving averages of a close, or ready signals."""

    name: str
    bars: bt.Bars
    start: int  # first bar that may decide
    sides: str
    levels: dict[str, float]
    pairs: Any  # (n_candidates, 2) windows, or None
    arrays: Any  # two or four arrays (n_bars, n_candidates), or None
    profile: str = "vectorbt"
    order: Any = None  # of the pairs, for which a sample has to be drawn, as a sweep has them

    @property
    def engines(self):
        return ENGINES

    @property
    def n_candidates(self):
        return len(self.pairs) if self.pairs is not None else self.arrays[0].shape[1]

    @property
    def fee_rate(self):
        return FEE_BARS / len(self.bars)

    @property
    def rules(self):
        """Costs and execution, as our calls take them."""
        return {
            "costs": bt.Costs(fee_rate=self.fee_rate),
            "n_threads": 1,
            "execution": bt.Execution(
                profile=self.profile, sides=self.sides, start_cash=CASH, start=self.start, periods_per_year=PER_YEAR
            ),
        }

    @property
    def n_bars(self):
        return len(self.bars) - self.start

    def prices(self):
        """Open, high, low and close of the bars that may decide: other engines have no warm-up before their first bar."""
        return (np.ascontiguousarray(getattr(self.bars, name)[self.start :]) for name in ("open", "high", "low", "close"))

    def signals(self, count):
        """Entries and exits of the first ``count`` candidates on those bars: a generator of chunks of columns."""
        width = max(1, CHUNK_CELLS // self.n_bars)
        lines = {}
        for begin in range(0, count, width):
            columns = slice(begin, min(begin + width, count))
            if self.arrays is not None:
                yield [array[:, columns] for array in self.arrays]
                continue
            for window in np.unique(self.pairs[columns]):
                if window not in lines:
                    lines[window] = talib.SMA(self.bars.close, int(window))[self.start - 1 :]
            fast, slow = (np.stack([lines[window] for window in self.pairs[columns, side]], axis=1) for side in (0, 1))
            above, below = fast > slow, fast < slow
            yield [above[1:] & ~above[:-1], below[1:] & ~below[:-1]]


def jobs(quick):
    """Moving averages on the embedded GOOG, ready signals of three densities on 2,000 and 100,000 bars, the bar machine's."""
    bars = bt.Bars.sample("GOOG")
    pairs = np.array([(fast, slow) for fast in WINDOWS for slow in WINDOWS if fast < slow])
    pairs = np.random.default_rng(SEED).permutation(pairs)[: 4096 if quick else None]
    start = max(WINDOWS)
    order = np.lexsort(pairs.T[::-1])
    yield Job("SMA pairs, long", bars, start, "long", {}, pairs, None, order=order)
    yield Job("SMA pairs, long, stop and target", bars, start, "long", STOPS, pairs, None, order=order)
    yield Job("SMA pairs, both, rules of backtesting.py", bars, start, "both", {}, pairs, None, "backtesting.py", order)
    for n_bars, n_candidates in ((2_000, 512), (100_000, 32)) if quick else ((2_000, 2_048), (100_000, 64)):
        for sides in ("long", "both"):
            for density in (0.005, 0.05, 0.2):
                made = random_bars(n_bars)
                rng = np.random.default_rng(SEED)
                arrays = [rng.random((n_bars, n_candidates)) < density for _ in range(2 if sides == "long" else 4)]
                for entries, exits in zip(arrays[::2], arrays[1::2], strict=True):
                    entries[0] = False  # a peak before the first close counts here and not there
                    exits &= ~entries  # the rules for both at once differ
                yield Job(f"arrays {density:.1%}, {sides}, {n_bars:,} bars", made, 0, sides, {}, None, arrays)
    yield from machine_jobs.jobs(quick)


# Engines: engine(job, count) -> metric -> array of the first ``count`` candidates


def strategy_and_batch(job, count):
    if job.arrays is not None:
        names = ("entries", "exits", "short_entries", "short_exits")
        strategy = rules.from_arrays(**dict(zip(names, (array[:, :count] for array in job.arrays), strict=False)))
        return strategy, bt.Space({"column": range(count)}).parameters, np.arange(float(count))[:, None]
    space = bt.Space({"fast": list(WINDOWS), "slow": list(WINDOWS)} | {name: [value] for name, value in job.levels.items()})
    numbers = job.pairs[:count].astype(float) - min(WINDOWS)  # a choice is its index
    return bt.strategies.sma_cross, space.parameters, np.hstack([numbers, np.zeros((count, len(job.levels)))])


def ours(job, count):
    """The seam that every search calls: masks, kernel, all sweep metrics."""
    strategy, columns, batch = strategy_and_batch(job, count)
    evaluator = StrategyEvaluator(job.bars, strategy, columns, **job.rules)
    scores = evaluator(batch)
    return {metric: scores[:, evaluator.columns.index(metric)] for metric in METRICS}


def ours_sweeping(job, count):
    """Every pair, side by side, as a sweep visits them; only timed, since ``job.pairs`` are in an order to sample from."""
    return ours(job._replace(pairs=job.pairs[job.order]) if job.pairs is not None else job, count)


def ours_as_table(job, count):
    """The public call, with its DataFrame."""
    fast, slow = job.pairs[:count].T
    levels = {name: np.full(count, value) for name, value in job.levels.items()}
    table = bt.evaluate(job.bars, bt.strategies.sma_cross, {"fast": fast, "slow": slow} | levels, **job.rules)
    return {metric: table[metric].to_numpy() for metric in METRICS}


def vectorbt(engine):
    def evaluate(job, count):
        import vectorbt as vbt

        open_, high, low, close = (price[:, None] for price in job.prices())
        found = []
        for signals in job.signals(count):
            entries, exits, *short = signals
            extra = {"short_entries": short[0], "short_exits": short[1]} if short else {"direction": "longonly"}
            if job.levels:
                extra |= {
                    "open": open_,
                    "high": high,
                    "low": low,
                    "sl_stop": job.levels["stop_loss"],
                    "tp_stop": job.levels["take_profit"],
                }
            book = vbt.Portfolio.from_signals(
                close, entries, exits, **extra, size=np.inf, fees=job.fee_rate, init_cash=CASH, freq="1D", engine=engine
            )
            closed = book.trades.closed
            numbers = (
                book.total_return(),
                book.sharpe_ratio(),
                book.sortino_ratio(),
                book.max_drawdown(),
                closed.count(),
                closed.win_rate(),
                closed.profit_factor(),
            )
            found.append(np.array([np.atleast_1d(np.asarray(each, dtype=float)) for each in numbers]))
            # Its peak begins at the first close, ours at the cash: they differ if the first bar already pays a fee.
            found[-1][3, sum(each[0] for each in (entries, *short[:1])) > 0] = np.nan
        return dict(zip(METRICS, np.concatenate(found, axis=1), strict=True))

    return evaluate


def _raptorbt_arguments(job):
    import raptorbt

    open_, high, low, close = job.prices()
    config = raptorbt.BacktestConfig(
        initial_capital=CASH, fees=job.fee_rate, slippage=0.0, fill_timing="same_bar_close", periods_per_year=PER_YEAR
    )
    if job.levels:
        config.set_fixed_stop(job.levels["stop_loss"])
        config.set_fixed_target(job.levels["take_profit"])
    stamps = np.arange(len(close), dtype=np.int64) * 86_400_000_000_000
    return raptorbt, config, (stamps, open_, high, low, close, np.ones(len(close)))


def _raptorbt_metrics(results):
    found = np.array(
        [
            [
                each.total_return_pct / 100,
                each.sharpe_ratio,
                each.sortino_ratio,
                -each.max_drawdown_pct / 100,
                each.total_closed_trades,
                each.win_rate_pct / 100,
                each.profit_factor,
            ]
            for each in (result.metrics for result in results)
        ],
        dtype=float,
    )  # None is NaN
    return dict(zip(METRICS, found.T, strict=True))


def raptorbt_single(job, count):
    raptorbt, config, prices = _raptorbt_arguments(job)
    return _raptorbt_metrics(
        [
            raptorbt.run_single_backtest(
                *prices, np.ascontiguousarray(entries[:, each]), np.ascontiguousarray(exits[:, each]), 1, 1.0, "", config
            )
            for entries, exits in job.signals(count)
            for each in range(entries.shape[1])
        ]
    )


def raptorbt_batch(job, count):
    raptorbt, config, prices = _raptorbt_arguments(job)
    results = []
    for entries, exits in job.signals(count):
        items = [
            raptorbt.BatchSingleItem(
                str(each), np.ascontiguousarray(entries[:, each]), np.ascontiguousarray(exits[:, each]), 1, 1.0, ""
            )
            for each in range(entries.shape[1])
        ]
        found = dict(raptorbt.batch_single_backtest(*prices, items, config))
        results += [found[str(each)] for each in range(len(items))]
    return _raptorbt_metrics(results)


def backtesting_py(job, count):
    import pandas as pd
    from backtesting import Backtest, Strategy, backtesting
    from backtesting.lib import crossover

    backtesting._tqdm = lambda bars, **_: bars

    class SmaCross(Strategy):
        fast = slow = 0

        def init(self):
            self.one = self.I(talib.SMA, self.data.Close, self.fast)
            self.other = self.I(talib.SMA, self.data.Close, self.slow)
            self.longest = self.I(talib.SMA, self.data.Close, job.start)  # so that all candidates begin at one bar

        def next(self):
            if crossover(self.one, self.other):
                self.position.close()
                self.buy()
            elif crossover(self.other, self.one):
                self.position.close()
                self.sell()

    frame = pd.DataFrame(
        {name.capitalize(): getattr(job.bars, name) for name in ("open", "high", "low", "close")}, index=job.bars.times()
    )
    engine, found = Backtest(frame, SmaCross, cash=CASH, commission=job.fee_rate), []
    for fast, slow in job.pairs[:count].tolist():
        told = engine.run(fast=fast, slow=slow)
        found.append((told["Return [%]"] / 100, told["Max. Drawdown [%]"] / 100, told["# Trades"], told["Win Rate [%]"] / 100))
    return dict(zip(("total_return", "max_drawdown", "n_trades", "win_rate"), np.array(found, dtype=float).T, strict=True))


def _is_for_vectorbt(job):
    return job.profile == "vectorbt"


def _is_for_raptorbt(job):
    return job.profile == "vectorbt" and job.sides == "long"  # one direction a call


ENGINES = {
    "backtest": Engine("backtest", ours, f"all {len(SWEEP)}", lambda job: True, np.inf, ours_sweeping),
    "backtest, DataFrame": Engine("backtest", ours_as_table, f"all {len(SWEEP)}", lambda job: job.pairs is not None, np.inf),
    "vectorbt, Rust": Engine("vectorbt_rust", vectorbt("rust"), "these 7", _is_for_vectorbt, 2 * CHUNK_CELLS),
    "vectorbt, Numba": Engine("vectorbt", vectorbt("numba"), "these 7", _is_for_vectorbt, 2 * CHUNK_CELLS),
    "raptorbt, single": Engine("raptorbt", raptorbt_single, "48", _is_for_raptorbt, CHUNK_CELLS / 2),
    "raptorbt, batch": Engine("raptorbt", raptorbt_batch, "48", _is_for_raptorbt, CHUNK_CELLS / 2),
    "backtesting.py": Engine("backtesting", backtesting_py, "30", lambda job: not _is_for_vectorbt(job), 0),
}
FIRST = 4  # candidates of a first call, and the least that are timed


def count_for(engine, job, quick):
    """Candidates an engine is timed on."""
    share = 0.25 if quick and engine.module != "backtest" else 1.0
    return int(min(job.n_candidates, max(FIRST, share * engine.cells / job.n_bars)))


def difference(mine, theirs):
    """The first number in which a peer differs, as text; nothing if none does."""
    for metric, values in theirs.items():
        expected = mine[metric][: len(values)]
        both = np.isfinite(values) & np.isfinite(expected)
        if metric in ("total_return", "n_trades") and not both.all():
            return f"{metric} undefined"
        wrong = both & ~np.isclose(values, expected, rtol=TOLERANCE, atol=TOLERANCE)
        if wrong.any():
            return f"{metric} differs for {wrong.sum()} of {len(values)} ({values[wrong][0]:.6g}, ours {expected[wrong][0]:.6g})"
    return ""


IMPORT = "import time, numpy, pandas; begin = time.perf_counter(); import backtest; print(time.perf_counter() - begin)"


def fresh(job_name, engine, module, quick):
    """First call and growth of resident memory, from a process of its own."""
    command = [sys.executable, os.path.abspath(__file__), "--child", job_name, "--engine", engine] + ["--quick"] * quick
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if module == "backtest":  # this script has imported it before the child's clock starts
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
        found["first"] += float(done.stdout)
    return found


def child(job_name, engine, quick):
    """What ``fresh`` measures: seconds from nothing imported to the first result, then the growth over the timed work."""
    job = next(each for each in jobs(quick) if each.name == job_name)
    how = job.engines[engine]
    begin = time.perf_counter()
    importlib.import_module(how.module)
    how.evaluate(job, FIRST)
    first = time.perf_counter() - begin
    growth = memory_growth(lambda: how.work(job, count_for(how, job, quick)))
    print(json.dumps({"first": first, "growth": growth}))


def is_installed(engine):
    return importlib.util.find_spec(engine.module) is not None


def measure(job, quick, table, wanted=""):
    """One job through every engine that takes it and agrees, a row each; says which numbers differed."""
    asked = {name: each for name, each in job.engines.items() if each.takes(job) and (name == "backtest" or wanted in name)}
    here = {name: engine for name, engine in asked.items() if is_installed(engine)}
    counts = {name: count_for(engine, job, quick) for name, engine in here.items()}
    mine = here["backtest"].evaluate(job, job.n_candidates)
    differ = {name: difference(mine, engine.evaluate(job, counts[name])) for name, engine in here.items()}
    agreed = [name for name in here if not differ[name]]
    works = [functools.partial(here[name].work, job, counts[name]) for name in agreed]
    seconds = minima(*works, repeats=2 if quick else 5)
    each = {name: least / counts[name] for name, least in zip(agreed, seconds, strict=True)}
    for name, engine in asked.items():
        cells = [job.name if name == "backtest" else "", name, engine.says]
        if name not in here:
            cells += ["", "", "", "not installed"]
        elif differ[name]:
            cells += [f"{counts[name]:,}", "", "", "differs: dropped"]
        else:
            cells += [
                f"{counts[name]:,}",
                f"{each[name] * 1e6:,.2f}",
                f"{job.n_bars / each[name] / 1e6:,.1f}",
                f"{each[name] / each['backtest']:,.1f}",
            ]
            if not quick:
                cost = fresh(job.name, name, engine.module, quick)
                cells += ["" if cost["growth"] is None else f"{cost['growth'] / 2**20:,.0f}", f"{cost['first']:.2f}"]
        table.add_row(*cells)
    table.add_section()
    return [f"dropped: {job.name}: {name}: {text}" for name, text in differ.items() if text]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer candidates, two repetitions, no fresh processes")
    parser.add_argument("--jobs", default="", metavar="TEXT", help="only jobs whose name contains TEXT")
    parser.add_argument("--engines", default="", metavar="TEXT", help="only engines whose name contains TEXT, and ours")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--engine", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # the peers' own
    os.environ |= {"RAYON_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "RAPTORBT_NO_VERSION_CHECK": "1"}  # before they load
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core for everybody
    if options.child:
        return child(options.child, options.engine, options.quick)
    table = Table(title=f"{bt.backend()}; one thread each", title_justify="left")
    for column in (
        "job",
        "engine",
        "metrics",
        "candidates",
        "us each",
        "M candidate-bars/s",
        "times ours",
        "MB more",
        "first call, s",
    ):
        table.add_column(column, justify="left" if column in ("job", "engine", "metrics") else "right")
    dropped = []
    asked = [job for job in jobs(options.quick) if options.jobs.lower() in job.name.lower()]
    for job in asked:
        dropped += measure(job, options.quick, table, options.engines)
    console = Console(width=WIDTH)
    console.print(table, *dropped, sep="\n")
    if any(isinstance(job, machine_jobs.StepJob) for job in asked):
        console.print(machine_jobs.beginnings())
    engines = [*ENGINES.values(), *machine_jobs.ENGINES.values()]
    modules = {engine.module for engine in engines if is_installed(engine)} - {"backtest"}
    names = sorted(module.replace("_", "-") for module in modules)
    console.print("versions: " + ", ".join(f"{name} {version(name)}" for name in names))
    console.print(
        "metrics: how many each computes, none where only orders are timed; parity is checked on "
        + ", ".join(METRICS)
        + " (backtesting.py: 4 of them). "
        "MB more: growth of resident memory over the timed candidates, at its peak; first call: import and four "
        "candidates, with NumPy and pandas there; both in a fresh process, with what the peer has cached before."
    )
    return None


if __name__ == "__main__":
    main()

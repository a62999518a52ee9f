"""Studies, their store and their workers, against plain Optuna, a commit per row and processes that are started each time.

Gates are ratios of two minima taken in turns in one run, or counts.  ``python bench/bench_study.py`` prints the figures of
this machine, which gate nothing.
"""

import multiprocessing
import shutil
import sqlite3
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
from ratio import minima

import backtest as bt
from backtest.search.duplicates import packed_rows
from backtest.study.store import Row, Store

GRID = {"a": range(10), "b": range(10), "c": range(10)}
SPACE = bt.Space(
    {
        "fast": range(5, 60),
        "slow": range(20, 201, 5),
        "stop_loss": [None, 0.05, 0.1],
        "k": {"low": 0.1, "high": 3.0, "step": 0.1},
        "x": {"low": 0.0, "high": 1.0},
    }
)
#: Our time a key over that of a tuple of decoded values, which is what one writes first; measured 0.1.
MOST_OF_TUPLES = 0.3
#: Time a row in batches over a commit a row; measured 0.1.
MOST_OF_COMMITS = 0.3
#: Asks that 150 distinct points of a grid of 1,000 may cost.
MOST_ASKS = 165
#: Time of a study on warm workers over one on processes that are started for it; measured 0.02.
MOST_OF_COLD = 0.3


def bowl(params, trial):
    return -((params["a"] - 3) ** 2) - (params["b"] - 7) ** 2 - (params["c"] - 2) ** 2


def some_batch(count):
    return SPACE.from_unit(np.random.default_rng(0).uniform(size=(count, 5)))


def some_rows(rng, count):
    keys, metrics = rng.bytes(16 * count), rng.bytes(12 * 8)
    params = '{"fast": 5, "slow": 20, "stop_loss": 0.05}'
    return [Row(keys[16 * at : 16 * at + 16], 0, float(at), metrics, params, None, 1.7e9, 0.001) for at in range(count)]


def bench_keys():
    batch = some_batch(1000)
    assert len(set(packed_rows(SPACE.grid_index(batch)))) == len({tuple(each.values()) for each in SPACE.decode_batch(batch)})
    ours, tuples = minima(
        lambda: packed_rows(SPACE.grid_index(batch)), lambda: [tuple(SPACE.decode(row).items()) for row in batch], repeats=15
    )
    print(f"keys {ours * 1e3:.3f} us each, tuples {tuples * 1e3:.3f} us")
    assert ours <= MOST_OF_TUPLES * tuples


def bench_store_batches(tmp_path):
    rng, count = np.random.default_rng(0), 2000
    store = Store(f"sqlite:///{tmp_path / 'x.db'}")
    context = store.context(b"x", "x", {})
    plain = sqlite3.connect(tmp_path / "y.db")
    plain.execute("PRAGMA journal_mode = WAL")
    plain.execute("PRAGMA synchronous = NORMAL")  # as ours
    plain.execute("CREATE TABLE results (key BLOB PRIMARY KEY, value REAL, metrics BLOB, params TEXT)")

    def one_by_one():
        for row in some_rows(rng, count):
            plain.execute("INSERT INTO results VALUES (?, ?, ?, ?)", (row.digest, row.value, row.metrics, row.params))
            plain.commit()

    ours, theirs = minima(lambda: store.add(context, some_rows(rng, count)), one_by_one, repeats=5)
    assert sum(store.counts(context).values()) == plain.execute("SELECT count(*) FROM results").fetchone()[0]
    print(f"store {ours / count * 1e6:.1f} us a row, a commit a row {theirs / count * 1e6:.1f} us")
    store.close()
    plain.close()
    assert ours <= MOST_OF_COMMITS * theirs


def plain_optuna(count, seed):
    """Asks until so many distinct points, telling the value again for a duplicate, as plain Optuna does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    distributions = {name: optuna.distributions.IntDistribution(0, 9) for name in "abc"}
    seen = set()
    asks = 0
    while len(seen) < count and asks < 4 * count:
        trial = study.ask(distributions)
        asks += 1
        seen.add(tuple(trial.params.values()))
        study.tell(trial, bowl(trial.params, None))
    return asks


@pytest.mark.parametrize("seed", [0, 1])
def bench_asks(seed):
    study = bt.Study(GRID, bowl, seed=seed)
    summary = study.run(150, progress=False)
    plain = plain_optuna(150, seed)
    print(f"150 distinct points: {summary.asks} asks, plain Optuna {plain}")
    assert len({each.digest for each in study.trials}) == 150
    assert summary.asks <= MOST_ASKS < plain


def bench_warm_workers():
    def objective(params, trial):
        return params["a"]

    def warm():
        bt.Study({"a": range(4)}, objective, sampler="random").run(1, executor=workers, progress=False)

    def cold():
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            pool.submit(time.sleep, 0.0).result()

    with bt.Workers(1) as workers:
        warm()
        ours, theirs = minima(warm, cold, repeats=3)
    print(f"study on warm workers {ours * 1e3:.1f} ms, a process that is started for it {theirs * 1e3:.0f} ms")
    assert ours <= MOST_OF_COLD * theirs


def two_against_one():
    """Speed-up of two workers against one, of work that holds the processor."""

    def objective(params, trial):
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass
        return params["a"]

    def run(workers):
        begun = time.perf_counter()
        bt.Study({"a": range(60)}, objective, sampler="random").run(executor=workers, progress=False)
        return time.perf_counter() - begun

    with bt.Workers(1) as one, bt.Workers(2) as two:
        run(one), run(two)
        single = min(run(one) for _ in range(3))
        double = min(run(two) for _ in range(3))
    return single / double


def of_a_million(folder):
    """Rates of a store with a million rows: look-ups, and half a million rows more, with what folds the log back."""
    rng, keys = np.random.default_rng(1), []
    store = Store(f"sqlite:///{folder / 'million.db'}")
    context = store.context(b"x", "x", {})
    for _ in range(10):
        rows = some_rows(rng, 100_000)
        store.add(context, rows)
        keys += [row.digest for row in rows]
    asked_for = {
        "known": [keys[place] for place in rng.permutation(len(keys))[:100_000].tolist()],
        "unknown": [row.digest for row in some_rows(rng, 100_000)],
    }
    for what, asked in asked_for.items():
        seconds = []
        for start in range(0, len(asked), 20_000):
            begun = time.perf_counter()
            found = store.look_up(context, asked[start : start + 20_000])
            seconds.append(time.perf_counter() - begun)
            assert len(found) == (20_000 if what == "known" else 0)
        print(f"store with a million rows, look-up of 20,000 {what} keys: {len(asked) / sum(seconds):,.0f} a second")
    store.close()
    for what in ("rows with 12 metrics", "keys alone"):
        for count in (20_000, 100_000):
            store = Store(f"sqlite:///{shutil.copy(folder / 'million.db', folder / 'more.db')}")
            seconds = []
            for _ in range(500_000 // count):
                rows = some_rows(rng, count) if what[0] == "r" else [Row(row.digest) for row in some_rows(rng, count)]
                begun = time.perf_counter()
                store.add(context, rows)
                seconds.append(time.perf_counter() - begun)
            store.close()
            mean, best, worst = (f"{count / each:,.0f}" for each in (sum(seconds) / len(seconds), min(seconds), max(seconds)))
            print(f"store with a million rows, batches of {count:,}, {what}: {mean} a second, of batches {worst} to {best}")


def figures():
    """Every row of the table, on this machine."""
    bench_keys()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        bench_store_batches(path)
        of_a_million(path)
        space, count = {"a": range(1000), "b": range(1000)}, 100_000
        for url in (None, f"sqlite:///{path / 'study.db'}"):
            study = bt.Study(space, one, sampler="random", store=url, version="1")
            begun = time.perf_counter()
            study.run(count, progress=False)
            seconds = time.perf_counter() - begun
            print(f"study {'with SQLite' if url else 'in memory'}: {seconds / count * 1e6:.1f} us an evaluation of nothing")
        begun = time.perf_counter()
        study = bt.Study(space, one, sampler="random", store=url, version="1")
        print(f"resume of {len(study.trials):,} results: {time.perf_counter() - begun:.2f} s")
    for seed in range(3):
        bench_asks(seed)
    bench_warm_workers()
    print(f"two workers against one: {two_against_one():.2f}x")


def one(params, trial):
    return 1.0


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    figures()
    sys.exit()

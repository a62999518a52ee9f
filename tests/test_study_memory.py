"""A store behind bt.optimize: every search answers from it what any other has evaluated."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import optuna
import pandas as pd
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli, lines, rules
from backtest.search.optuna_search import optuna_search
from backtest.signals import StrategyEvaluator
from backtest.study.store import Store

SPACE = {"fast": range(5, 15), "slow": range(12, 50, 7), "stop_loss": [None, 0.05]}
WINDOW = slice(0, 400)  # enough bars, and few enough for the pure kernels
COSTS = bt.Costs(fee_rate=0.001)


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'results.db'}"


@pytest.fixture
def evaluated(monkeypatch):
    """Candidates that the kernel evaluates."""
    counts = []
    call = StrategyEvaluator.__call__

    def counted(self, batch, window=None):
        counts.append(len(batch))
        return call(self, batch, window)

    monkeypatch.setattr(StrategyEvaluator, "__call__", counted)
    return counts


def search(bars=None, space=None, **options):
    given = {"costs": COSTS, "progress": False, "method": "grid", "window": WINDOW} | options
    strategy = given.pop("strategy", bt.strategies.sma_cross)
    return bt.optimize(bars or bt.Bars.sample("GOOG"), strategy, bt.Space(space or SPACE, where="fast < slow"), **given)


def same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    assert one.best_params == other.best_params


# -- optuna ------------------------------------------------------------------------------------------------------------


def test_optuna_searches_strategies(evaluated):
    result = search(method="optuna", n_trials=50)
    assert result.n_evaluated == sum(evaluated) == len(result.table) == 50
    assert result.search.startswith("optuna, as asked for; done: 50 of 50 candidates evaluated")
    again = search(method="optuna", n_trials=50)
    same(result, again)
    continuous = search(
        space={"fast": range(5, 20), "slow": [30, 50], "stop_loss": {"low": 0.01, "high": 0.3, "log": True}},
        method="optuna",
        n_trials=30,
    )
    assert len(continuous.table) == 30


@pytest.mark.parametrize("sampler", ["random", "qmc", "nsga2", optuna.samplers.RandomSampler(seed=3)], ids=str)
def test_optuna_takes_a_sampler(sampler):
    space = {"fast": range(5, 20), "slow": range(20, 60), "stop_loss": {"low": 0.01, "high": 0.3}}
    found = search(space=space, method="optuna", n_trials=20, sampler=sampler)
    assert found.n_evaluated == len(found.table) == 20
    assert found.provenance["sampler"] == (sampler if isinstance(sampler, str) else "RandomSampler")
    tpe = search(space=space, method="optuna", n_trials=20)
    assert not found.table.index.isin(tpe.table.index).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "grid", "sampler": "nsga2"}, "sampler must go with method='optuna', got 'nsga2' with 'grid'"),
        ({"method": "optuna", "sampler": "tpee"}, "sampler must be one of .* got 'tpee'; did you mean 'tpe'"),
    ],
)
def test_samplers_that_cannot_be(given, message):
    with pytest.raises(bt.InputError, match=message):
        search(**given)


def test_optuna_ends_with_a_small_space():
    result = search(space={"fast": [5, 6], "slow": [7, 8]}, method="optuna", n_trials=100)
    assert result.n_evaluated == 4
    same(result, search(space={"fast": [5, 6], "slow": [7, 8]}, method="grid"))


def parabola(batch):
    return ((batch - 20.0) ** 2).sum(axis=1)


def test_suggested_minimises_and_finds_its_way():
    space = bt.Space({"x": range(100), "y": range(100)})
    found = optuna_search(parabola, space, n_trials=150, keep=5)
    assert found.nfev == 150
    assert found.fun <= 10
    assert found.fun == parabola(found.x[np.newaxis])[0]
    assert len(np.unique(optuna_search(parabola, space, n_trials=40, keep=40).batch, axis=0)) == 40
    for sampler in ("random", "qmc"):
        assert optuna_search(parabola, space, n_trials=20, sampler=sampler).nfev == 20


def test_suggested_with_a_clock_and_undefined_scores():
    space = bt.Space({"x": range(100), "y": range(100)})
    found = optuna_search(lambda batch: time.sleep(0.05) or parabola(batch), space, n_trials=5000, timeout=0.2)
    assert (found.status, found.success) == (2, False)
    assert 8 <= found.nfev < 500
    undefined = optuna_search(lambda batch: np.where(batch[:, 0] > 5, np.inf, -np.inf), space, n_trials=60)
    assert undefined.fun == -np.inf
    with pytest.raises(bt.ObjectiveError, match="evaluate must not return NaN, got it at"):
        optuna_search(lambda batch: batch[:, 0] * np.nan, space)
    with pytest.raises(bt.ObjectiveError, match="one score per candidate"):
        optuna_search(lambda batch: batch, space)
    with pytest.raises(bt.SpaceError, match="more than one value for optuna"):
        optuna_search(parabola, bt.Space({"x": 1}))


# -- the store ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["grid", "direct", "evolution", "optuna"])
def test_a_second_search_evaluates_nothing(url, evaluated, method):
    options = {"method": method} | ({} if method == "grid" else {"n_trials": 40})
    plain = search(**options)
    first = search(store=url, **options)
    before = sum(evaluated)
    again = search(store=url, **options)
    assert sum(evaluated) == before
    same(plain, first)
    same(plain, again)
    assert f"{again.n_evaluated:,} of them from the store" in again.search
    assert "0 of them from the store" in first.search


@pytest.mark.parametrize("keep", [1, 20, 500])
@pytest.mark.parametrize("batch_size", [17, 40])
def test_a_sweep_keeps_what_a_search_keeps(url, monkeypatch, evaluated, keep, batch_size):
    from backtest import search as searches

    monkeypatch.setattr(searches.grid, "__kwdefaults__", searches.grid.__kwdefaults__ | {"batch_size": batch_size})
    plain = search(keep=keep, min_trades=3)
    first = search(keep=keep, min_trades=3, store=url)
    before = sum(evaluated)
    again = search(keep=keep, min_trades=3, store=url)
    assert sum(evaluated) == before
    same(plain, first)
    same(plain, again)
    store = Store(url)
    n_rows, size = sum(store.counts(1).values()), len(bt.Space(SPACE, where="fast < slow"))
    store.close()
    assert min(keep, size) <= n_rows <= size
    if keep == 1:
        assert n_rows < size / 2  # not every row


def test_searches_share_what_they_evaluate(url, evaluated):
    search(keep=10_000, store=url)
    before = sum(evaluated)
    for method in ("optuna", "evolution"):
        result = search(method=method, n_trials=50, store=url)
        assert f"{result.n_evaluated} of them from the store" in result.search
    assert sum(evaluated) == before


CROSS = bt.strategies.sma_cross
STOPPED = rules.Strategy(enter_long=CROSS.enter_long, exit_long=CROSS.exit_long, stop_loss=0.2)


@pytest.mark.parametrize(
    "other",
    [
        {"costs": bt.Costs(fee_rate=0.002)},
        {"bars": bt.Bars.sample("AAPL")},
        {"window": slice(100, 500)},
        {"execution": bt.Execution(sides="long")},
        {"execution": bt.Execution(start=300)},
        {"strategy": STOPPED},
    ],
    ids=repr,
)
@pytest.mark.parametrize("method", ["grid", "optuna"])
def test_another_context_is_never_a_hit(url, evaluated, other, method):
    space = {"fast": range(5, 12), "slow": [20, 40]}
    options = {"method": method, "n_trials": 14, "store": url, "space": space}
    search(**options)
    before = sum(evaluated)
    plain = search(**{"method": method, "n_trials": 14, "space": space} | other)
    result = search(**options | other)
    assert sum(evaluated) == before + 28
    same(result, plain)


def test_another_ranking_is_another_sweep(url):
    for metric in ("sharpe", "total_return", "max_drawdown"):
        for min_trades in (1, 4):
            given = {"metric": metric, "min_trades": min_trades, "keep": 15}
            same(search(store=url, **given), search(**given))
            same(search(store=url, **given), search(**given))


def test_several_cells(url, evaluated):
    bars = {name: bt.Bars.sample(name) for name in ("GOOG", "IBM")}
    given = {"space": {"fast": range(5, 9), "slow": [20, 30]}, "window": [slice(0, 300), slice(300, 600)]}
    plain = search(bars, **given)
    search(bars, store=url, **given)
    before = sum(evaluated)
    same(plain, search(bars, store=url, **given))
    assert sum(evaluated) == before
    with pytest.raises(bt.InputError, match="aggregate must be a name to use a store"):
        search(bars, store=url, aggregate=lambda values: values.mean(axis=1), **given)


def average(bars, n):
    close = bars.close
    out = np.full(len(close), np.nan)
    out[n - 1 :] = np.convolve(close, np.ones(n) / n, mode="valid")
    return out


def test_custom_lines_want_a_version(url, evaluated):
    def strategy(version):
        line = bt.line("n", version=version)(average)
        return rules.Strategy(
            enter_long=rules.crosses_above(lines.close, line(bt.param("n"))),
            exit_long=rules.crosses_below(lines.close, line(bt.param("n"))),
        )

    def ask(version):
        return bt.optimize(
            bt.Bars.sample("GOOG"), strategy(version), {"n": range(5, 25)}, costs=COSTS, store=url, progress=False, window=WINDOW
        )

    with pytest.raises(bt.InputError, match="line average must have a version to use a store"):
        ask(None)
    ask("1")
    before = sum(evaluated)
    ask("1")
    assert sum(evaluated) == before
    ask("2")
    assert sum(evaluated) == before + 20


KILLED = """
import sys, time
import backtest as bt
from backtest import search
from backtest.signals import StrategyEvaluator
import backtest.study.memory as memory

memory.FLUSH = 0.0
search.grid.__kwdefaults__["batch_size"] = 6
call, count = StrategyEvaluator.__call__, [0]

def slow(self, batch, window=None):
    time.sleep(0.01)
    count[0] += len(batch)
    print(count[0], flush=True)
    return call(self, batch, window)

StrategyEvaluator.__call__ = slow
space = bt.Space({"fast": range(5, 15), "slow": range(12, 50, 7), "stop_loss": [None, 0.05]}, where="fast < slow")
result = bt.optimize(bt.Bars.sample("GOOG"), bt.strategies.sma_cross, space, costs=bt.Costs(fee_rate=0.001), progress=False,
                     method="grid", keep=25, window=slice(0, 400), store=sys.argv[1])
print("end", count[0], result.best_value, result.best_params)
"""


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(url):
    counts = []
    for blocks in (3, 4, 5):
        process = subprocess.Popen([sys.executable, "-W", "error", "-c", KILLED, url], stdout=subprocess.PIPE, text=True)
        counts.append([int(process.stdout.readline()) for _ in range(blocks)][-1])
        process.send_signal(signal.SIGKILL)
        process.communicate()
    command = [sys.executable, "-W", "error", "-c", KILLED, url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    expected, size = search(keep=25), len(bt.Space(SPACE, where="fast < slow"))
    end = done.stdout.splitlines()[-1]
    assert end.endswith(f"{expected.best_value} {expected.best_params}")
    assert int(end.split()[1]) <= size - sum(counts) + 3 * 6  # what was stored, but for the block of each kill
    same(search(keep=25, store=url), expected)


def test_an_interrupted_sweep_is_stored(url, monkeypatch, evaluated):
    from backtest import search as searches

    monkeypatch.setattr(searches.grid, "__kwdefaults__", searches.grid.__kwdefaults__ | {"batch_size": 9})
    call = StrategyEvaluator.__call__

    def interrupted(self, batch, window=None):
        if len(evaluated) == 6:
            evaluated.append(0)
            os.kill(os.getpid(), signal.SIGINT)
        return call(self, batch, window)

    with monkeypatch.context() as patch:
        patch.setattr(StrategyEvaluator, "__call__", interrupted)
        result = search(store=url)
    assert result.is_interrupted
    before = sum(evaluated)
    full = search(store=url)
    assert sum(evaluated) - before == full.n_evaluated - result.n_evaluated
    same(full, search())


def test_the_command_line_has_a_store(url, tmp_path):
    config = tmp_path / "x.toml"
    config.write_text(
        '[data]\nsample = "GOOG"\n[strategy]\nname = "sma_cross"\n[space]\nfast = [5, 6]\nslow = [20, 30]\n'
        "[costs]\nfee_rate = 0.001\n[search]\nwindow = [0, 300]\n"
    )
    for known in (0, 4):
        done = CliRunner().invoke(cli.app, ["optimize", str(config), "--store", url, "--no-progress"], env={"COLUMNS": "200"})
        assert done.exit_code == 0, done.output
        assert f"4 of 4 candidates evaluated, {known} of them from the store" in done.output
    config.write_text(config.read_text() + f'store = "{url}"\n')
    done = CliRunner().invoke(cli.app, ["optimize", str(config), "--no-progress"], env={"COLUMNS": "200"})
    assert "4 of them from the store" in done.output

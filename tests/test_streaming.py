"""Sweeps in bounded memory: long series and many candidates."""

import sys
from pathlib import Path

import numpy as np
import pytest
from cases import random_bars

import backtest as bt
from backtest import signals
from backtest.config import optimize as config

pytestmark = [pytest.mark.compiled, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]
MIB = 2**20
ROOT = Path(__file__).parent.parent


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def growth(work):
    """Most resident memory during the work, batch by batch, above what there was before it."""
    before, seen = resident(), []
    original = signals.StrategyEvaluator._evaluate

    def evaluate(self, program, settings, sums):
        original(self, program, settings, sums)
        seen.append(resident() - before)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(signals.StrategyEvaluator, "_evaluate", evaluate)
        result = work()
    return result, max(seen) / MIB


def sweep(bars, space, **more):
    return bt.optimize(
        bars,
        bt.strategies.sma_cross,
        space,
        costs=bt.Costs(fee_rate=0.001),
        method="grid",
        execution=bt.Execution(sides="long", periods_per_year=252.0),
        **more,
    )


def test_long_series_in_bounded_memory():
    """400 lines of 200,000 bars would be 640 MB."""
    bars = random_bars(np.random.default_rng(0), 200_000, 0.001)
    space = bt.Space({"fast": range(10, 30), "slow": range(50, 430)})
    sweep(random_bars(np.random.default_rng(1), 500), space, timeout=1.0)  # what is imported once
    found, grown = growth(lambda: sweep(bars, space, n_trials=300, keep=10))
    assert found.n_evaluated == 300
    assert grown < 300


def test_many_candidates_in_bounded_memory():
    bars = random_bars(np.random.default_rng(0), 2_000)
    space = bt.Space(
        {
            "fast": range(2, 52),
            "slow": range(60, 160),
            "stop_loss": {"low": 0.001, "high": 0.1, "step": 0.001},
            "take_profit": {"low": 0.001, "high": 0.2, "step": 0.001},
        }
    )
    assert len(space) == 100_000_000
    sweep(bars, space, timeout=0.5, keep=1000)
    found, grown = growth(lambda: sweep(bars, space, timeout=4.0, keep=1000))
    assert found.n_evaluated > 100_000
    assert found.summary["n"] == found.n_evaluated
    assert grown < 100


def test_the_26_day_example_is_what_it_says():
    conf = config.read(ROOT / "docs/examples/26_days.toml")
    assert len(conf.space) == 54 * 189 * 25 == 255_150
    few = sweep(conf.bars, conf.space, n_trials=2000)
    assert few.table["n_trades"].mean() * len(conf.space) > 1_000_000
    assert few.best.stats["sharpe"] == few.best_value

"""``intrabar="both"``: two scores in one pass, of any door."""

import numpy as np
import pytest
from cases import random_bars

import backtest as bt
from backtest.metrics import SWEEP

COSTS = bt.Costs(fee_rate=0.001)


@pytest.fixture(scope="module")
def bars():
    return random_bars(np.random.default_rng(2), 400, 0.03)


def strategy():
    rng = np.random.default_rng(3)
    return bt.rules.from_arrays(
        rng.random((400, 30)) < 0.05, rng.random((400, 30)) < 0.02, stop_loss=bt.param("stop"), take_profit=0.02
    )


def execution(intrabar):
    return bt.Execution(intrabar=intrabar, periods_per_year=252.0)


CANDIDATES = {"column": list(range(30)), "stop": [0.01, 0.02, 0.3] * 10}


@pytest.mark.parametrize("n_threads", [1, 2])
def test_both_scores_are_those_of_either_rule(bars, backend, n_threads):
    each = {
        name: bt.evaluate(bars, strategy(), CANDIDATES, costs=COSTS, execution=execution(name))
        for name in ("pessimistic", "optimistic")
    }
    both = bt.evaluate(bars, strategy(), CANDIDATES, costs=COSTS, execution=execution("both"), n_threads=n_threads)
    assert both.columns.tolist() == [*SWEEP, *(f"{metric}_optimistic" for metric in SWEEP)]
    np.testing.assert_array_equal(both[list(SWEEP)], each["pessimistic"])
    np.testing.assert_array_equal(both[[f"{metric}_optimistic" for metric in SWEEP]], each["optimistic"])
    doubtful = both["n_ambiguous"] > 0
    assert 3 < doubtful.sum() < 30  # some have doubt, some have none
    assert (both["total_return_optimistic"] >= both["total_return"] - 1e-12).all()
    assert (both["total_return_optimistic"] > both["total_return"])[doubtful].all()


def test_a_run_has_both(bars, backend):
    table = bt.evaluate(bars, strategy(), CANDIDATES, costs=COSTS, execution=execution("both"))
    row = int(np.argmax(table["n_ambiguous"]))
    params = {name: values[row] for name, values in CANDIDATES.items()}
    run = bt.run(bars, strategy(), params, costs=COSTS, execution=execution("both"))
    np.testing.assert_array_equal(run.stats[list(table.columns)], table.iloc[row])
    assert run.trades["ambiguous"].sum() == run.stats["n_ambiguous"] > 0
    single = bt.run(bars, strategy(), params, costs=COSTS, execution=execution("pessimistic"))
    assert run.trades.equals(single.trades)


def test_a_search_ranks_by_the_stop_first_and_shows_both(bars):
    space = bt.Space({"column": range(30), "stop": [0.01, 0.02]})
    found, plain = (
        bt.optimize(bars, strategy(), space, costs=COSTS, execution=execution(name), metric="sharpe")
        for name in ("both", "pessimistic")
    )
    assert found.best_params == plain.best_params
    np.testing.assert_array_equal(found.table[plain.table.columns], plain.table)
    assert "sharpe_optimistic" in found.table.columns


def test_of_several_symbols_both_come_by_symbol(bars):
    other = random_bars(np.random.default_rng(9), 400, 0.03)
    table = bt.evaluate(
        {"A": bars, "B": other}, strategy(), CANDIDATES, costs=COSTS, execution=execution("both"), metrics=["total_return"]
    )
    assert table.columns.tolist() == [
        "total_return",
        "total_return_optimistic",
        "total_return@A",
        "total_return_optimistic@A",
        "total_return@B",
        "total_return_optimistic@B",
    ]
    np.testing.assert_allclose(
        table["total_return_optimistic"],
        (table["total_return_optimistic@A"] + table["total_return_optimistic@B"]) / 2,
        rtol=1e-12,
    )

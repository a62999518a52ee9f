"""Many symbols and windows: cells, their aggregate, and the best candidate in each of them."""

import itertools
import json
import math
import pickle

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest import lines, rules
from backtest.cells import AGGREGATES
from backtest.metrics import SWEEP
from backtest.simulation import json_safe
from backtest.space import Space

nan, inf = math.nan, math.inf


def shortened(symbol, first, last):
    of = bt.Bars.sample(symbol)
    return bt.Bars(**{name: getattr(of, name)[first:last] for name in ("open", "high", "low", "close", "index")}, symbol=symbol)


BARS = {"GOOG": shortened("GOOG", 0, 400), "AAPL": shortened("AAPL", 300, 900), "IBM": shortened("IBM", 1000, 1500)}
WINDOWS = [slice(0, 200), slice(200, 390)]
COSTS = bt.Costs(fee_rate=0.001)
CROSS = bt.strategies.sma_cross
SPACE = Space({"fast": [3, 5, 8], "slow": range(6, 25, 6), "stop_loss": [None, 0.03]}, where="fast < slow")
CELLS = [f"{symbol}[{first}:{last}]" for symbol in BARS for first, last in ((0, 200), (200, 390))]
LEVEL = rules.Strategy(enter_long=lines.close > bt.param("level"), exit_long=lines.close < bt.param("level"))


def optimize(bars=BARS, space=SPACE, strategy=CROSS, **more):
    return bt.optimize(bars, strategy, space, costs=COSTS, **more)


def evaluate(bars=BARS, strategy=CROSS, candidates=None, **more):
    given = {"fast": [3, 5, 8], "slow": [10, 24, 60]} if candidates is None else candidates
    return bt.evaluate(bars, strategy, given, costs=COSTS, **more)


# -- cells -------------------------------------------------------------------------------------------------------------


def test_cells_are_what_single_calls_give(backend):
    table = evaluate(window=WINDOWS)
    assert table.columns.tolist() == [*SWEEP, *(f"{metric}@{cell}" for cell in CELLS for metric in SWEEP)]
    assert table.columns.name == "metric"
    for cell, (symbol, window) in zip(CELLS, itertools.product(BARS, WINDOWS), strict=True):
        single = evaluate(BARS[symbol], window=window)
        np.testing.assert_array_equal(table[[f"{metric}@{cell}" for metric in SWEEP]], single)


@pytest.mark.parametrize(
    ("bars", "window", "cells"),
    [
        (BARS, None, list(BARS)),
        (BARS, WINDOWS[0], list(BARS)),
        (BARS, WINDOWS, CELLS),
        (BARS["GOOG"], WINDOWS, ["0:200", "200:390"]),
        (BARS["GOOG"], [slice(None, 200), slice(200, None)], [":200", "200:"]),
        (BARS["GOOG"], [slice(np.int64(0), np.int64(200)), slice(200, -10)], ["0:200", "200:-10"]),
    ],
)
def test_names_of_cells(bars, window, cells):
    table = evaluate(bars, window=window, metrics=["sharpe"])
    assert table.columns.tolist() == ["sharpe", *(f"sharpe@{cell}" for cell in cells)]
    assert table.filter(like="sharpe@").shape == (3, len(cells))


@pytest.mark.parametrize(
    ("bars", "window"), [({"G": BARS["GOOG"]}, None), (BARS["GOOG"], [slice(None)]), ({"G": BARS["GOOG"]}, [None])]
)
def test_one_cell_is_no_aggregate(bars, window):
    for aggregate in ("median", lambda values: values[:, 0] * nan):
        result, single = optimize(bars, window=window, aggregate=aggregate), optimize(BARS["GOOG"])
        pd.testing.assert_frame_equal(result.table, single.table)
        assert isinstance(result.best, bt.Run)
        assert (result.start, result.best_value, result.best_params) == (single.start, single.best_value, single.best_params)
        assert result.provenance["aggregate"] is None
        pd.testing.assert_frame_equal(evaluate(bars, window=window, aggregate=aggregate), evaluate(BARS["GOOG"]))


# -- aggregates --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", AGGREGATES)
@pytest.mark.parametrize("n_cells", [2, 3, 4, 9, 20])
def test_aggregates_are_numpys(aggregate, n_cells):
    values = np.random.default_rng(n_cells).normal(size=(50, n_cells))
    values[::7, 1], values[3, :] = nan, inf
    result, expected = AGGREGATES[aggregate](values), getattr(np, aggregate)(values, axis=1)
    np.testing.assert_allclose(result, expected, rtol=1e-14, atol=1e-15)
    for row in range(50):  # alone or in a batch
        assert AGGREGATES[aggregate](values[row : row + 1].copy()).tobytes() == result[row : row + 1].tobytes()


@pytest.mark.parametrize(
    ("values", "median", "mean", "least"),
    [
        ([inf, -inf], nan, nan, -inf),
        ([1, inf], inf, inf, 1),
        ([-inf, -inf], -inf, -inf, -inf),
        ([nan, 5], nan, nan, nan),
        ([1.5e308, 1.7e308], 1.6e308, inf, 1.5e308),
        ([3, inf, 4], 4, inf, 3),
    ],
)
def test_aggregates_of_what_is_not_finite(values, median, mean, least):
    with np.errstate(over="ignore"):
        found = [AGGREGATES[name](np.array([values], dtype=np.float64))[0] for name in ("median", "mean", "min")]
    np.testing.assert_array_equal(found, [median, mean, least])


def worst_of_two(values):
    return np.sort(values, axis=1)[:, 1]


@pytest.mark.parametrize("aggregate", ["median", "mean", "min", worst_of_two])
def test_table_and_ranking_are_of_the_aggregate(aggregate):
    result = optimize(window=WINDOWS, aggregate=aggregate, min_trades=0)
    function = AGGREGATES.get(aggregate, aggregate) if isinstance(aggregate, str) else aggregate
    for metric in SWEEP:
        of_cells = np.ascontiguousarray(result.table[[f"{metric}@{cell}" for cell in CELLS]].to_numpy())
        np.testing.assert_array_equal(result.table[metric], function(of_cells))
    defined = result.table["sharpe"].dropna()
    assert len(defined) > 5
    assert defined.is_monotonic_decreasing
    assert result.best_value == result.table["sharpe"].iloc[0] == defined.max()
    assert result.provenance["aggregate"] == ("worst_of_two" if callable(aggregate) else aggregate)


def test_undefined_in_one_cell_is_undefined_and_ranks_last():
    bars = {"GOOG": BARS["GOOG"], "IBM": BARS["IBM"]}
    assert BARS["IBM"].close.max() < 170 < BARS["GOOG"].close.max()  # only one of them ever trades there
    middle = float(np.median(BARS["IBM"].close))
    result = optimize(bars, {"level": [170.0, middle, middle + 1]}, LEVEL)
    row = result.table.loc[170.0]
    assert math.isnan(row["sharpe"])
    assert math.isnan(row["sharpe@IBM"])
    assert not math.isnan(row["sharpe@GOOG"])
    assert result.table.index.tolist()[-1] == 170.0
    assert result.table["sharpe"].notna().sum() == 2


def test_too_few_trades_are_counted_over_all_cells():
    table = optimize(min_trades=0).table
    total = table[[f"n_trades@{symbol}" for symbol in BARS]].sum(axis=1)
    limit = int(total.median()) + 1
    result = optimize(min_trades=limit)
    enough = result.table[[f"n_trades@{symbol}" for symbol in BARS]].sum(axis=1) >= limit
    assert (result.table["n_trades"] < limit).all()  # the median of the cells' counts is not what is compared
    assert 0 < enough.sum() < len(enough)
    assert enough.is_monotonic_decreasing
    assert result.table["sharpe"][enough].is_monotonic_decreasing


# -- best, start, provenance -------------------------------------------------------------------------------------------


def test_best_is_replayed_in_every_cell(backend):
    result = optimize(window=WINDOWS)
    assert list(result.best) == CELLS
    for cell, (symbol, window) in zip(CELLS, itertools.product(BARS, WINDOWS), strict=True):
        run = result.best[cell]
        np.testing.assert_array_equal(run.stats[list(SWEEP)], result.table.iloc[0][[f"{metric}@{cell}" for metric in SWEEP]])
        again = bt.run(
            BARS[symbol],
            CROSS,
            result.best_params,
            costs=COSTS,
            window=window,
            execution=bt.Execution(start=result.start[symbol]),
        )
        pd.testing.assert_series_equal(again.stats, run.stats)
        assert run.equity.index[0] == BARS[symbol].times()[max(window.start, 24)]


def test_start_is_each_symbols_longest_warm_up():
    @bt.line("n")
    def late(bars, n):
        values = bars.close.copy()
        values[: n + len(bars) // 100] = nan
        return values

    strategy = rules.Strategy(enter_long=lines.close >= late(), exit_long=lines.close < late())
    result = optimize(space={"n": [2, 7]}, strategy=strategy, metric="total_return", min_trades=0)
    assert result.start == {"GOOG": 11, "AAPL": 13, "IBM": 12}
    assert evaluate(strategy=strategy, candidates={"n": [2, 7]}).shape == (2, 4 * len(SWEEP))
    assert optimize(execution=bt.Execution(start=60)).start == dict.fromkeys(BARS, 60)


def test_warm_up_is_read_before_each_window():
    above = lines.close > 0.1 * lines.sma(lines.close, bt.param("n"))
    strategy = rules.Strategy(enter_long=above, exit_long=~above)
    later = evaluate(BARS["GOOG"], strategy, {"n": [60]}, window=[slice(100, 200), slice(200, 300)])
    # Decided at the window's first close, filled at the next open: no bar is spent on a warm-up of 60.
    assert later.filter(like="exposure@").to_numpy().tolist() == [[0.99, 0.99]]


def test_provenance_lists_every_symbol_and_window():
    provenance = json.loads(json.dumps(json_safe(optimize(window=WINDOWS).provenance), allow_nan=False))
    assert provenance["data"] == {symbol: bars.content_hash for symbol, bars in BARS.items()}
    assert provenance["symbol"] == {symbol: symbol for symbol in BARS}
    assert provenance["n_bars"] == {"GOOG": 400, "AAPL": 600, "IBM": 500}
    assert provenance["start"] == dict.fromkeys(BARS, 24)
    assert provenance["window"] == [[0, 200], [200, 390]]
    assert provenance["cells"] == CELLS
    assert provenance["n_decision_bars"] == 3 * (200 - 24 + 190)
    assert provenance["periods_per_year"] == dict.fromkeys(BARS, 252)
    single = optimize(BARS["GOOG"], window=WINDOWS).provenance
    assert (single["data"], single["start"]) == (BARS["GOOG"].content_hash, 24)


# -- searches, threads, folders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["direct", "evolution"])
def test_other_searches_agree_with_the_grid(method):
    grid, other = optimize(window=WINDOWS, method="grid"), optimize(window=WINDOWS, method=method)
    assert len(other.table) > len(grid.table) / 2
    pd.testing.assert_frame_equal(grid.table.loc[other.table.index], other.table, check_exact=True)
    assert other.best["GOOG[0:200]"].stats["sharpe"] == other.table["sharpe@GOOG[0:200]"].iloc[0]


def test_threads_and_cuts_change_no_bit():
    candidates = {"fast": [3, 5, 8] * 30, "slow": np.repeat(np.arange(10, 40), 3)}
    whole = evaluate(candidates=candidates, window=WINDOWS, n_threads=1, aggregate="mean")
    threads = evaluate(candidates=candidates, window=WINDOWS, n_threads=3, aggregate="mean")
    assert threads.to_numpy().tobytes() == whole.to_numpy().tobytes()
    for row in (0, 37, 89):
        alone = evaluate(
            candidates={name: [values[row]] for name, values in candidates.items()},
            window=WINDOWS,
            aggregate="mean",
            execution=bt.Execution(start=39),
        )
        assert alone.to_numpy().tobytes() == whole.iloc[[row]].to_numpy().tobytes()


def test_saved_results_come_back(tmp_path):
    result = optimize(window=WINDOWS)
    result.save(tmp_path)
    loaded = bt.load(tmp_path)
    pd.testing.assert_frame_equal(loaded.table, result.table)
    assert loaded.start == result.start
    equity, trades = pd.read_csv(tmp_path / "equity.csv"), pd.read_csv(tmp_path / "trades.csv")
    for cell, run in result.best.items():
        assert equity.loc[equity["cell"] == cell, "equity"].tolist() == run.equity.tolist()
        assert (trades["cell"] == cell).sum() == len(run.trades)
    statistics = json.loads((tmp_path / "result.json").read_text())["stats"]
    assert statistics["IBM[0:200]"]["total_return"] == result.best["IBM[0:200]"].stats["total_return"]


def test_results_survive_a_pickle():
    result = optimize(aggregate=lambda values: values.min(axis=1))
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(again.table, result.table)
    pd.testing.assert_series_equal(again.best["IBM"].stats, result.best["IBM"].stats)


def test_symbols_share_the_memory_of_one():
    from backtest.cells import Cells
    from backtest.evaluation import MEMO_BYTES
    from backtest.signals import StrategyEvaluator

    cells = Cells(
        BARS,
        None,
        "min",
        lambda bars, share: StrategyEvaluator(
            bars, CROSS, SPACE.parameters, costs=COSTS, execution=bt.Execution(), memo_share=share
        ),
    )
    for each in cells.evaluators.values():
        assert each.lines._memo.maxsize == each.masks._memo.maxsize == MEMO_BYTES // 3


# -- refusals ----------------------------------------------------------------------------------------------------------

UNDATED = bt.Bars(open=[1.0] * 50, high=[1.0] * 50, low=[1.0] * 50, close=[1.0] * 50)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bars": {}}, "bars must hold at least one symbol, got none"),
        ({"bars": {5: UNDATED}}, "symbol must be text, got 5"),
        ({"bars": {"": UNDATED}}, "symbol must be text, got ''"),
        ({"bars": {"A": 5}}, "A: bars must be a Bars, got 5"),
        ({"window": []}, "window must hold at least one slice of bars, got none"),
        ({"window": [slice(0, 9), slice(0, 9)]}, "window must hold each slice of bars once, got 0:9 twice"),
        ({"window": [slice(0, 200), 5]}, "window must be a slice of bars without a step"),
        ({"window": [slice(0, 200), slice(450, 480)]}, "GOOG: window must leave a bar to trade"),
        ({"aggregate": "meann"}, r"aggregate must be one of 'median', 'mean', 'min', got 'meann'; did you mean 'mean'\?"),
        ({"aggregate": 5}, "aggregate must be one of 'median', 'mean', 'min', got 5"),
        ({"execution": bt.Execution(start=5)}, r"GOOG: start must be >= the longest warm-up of the candidates \(\d+\), got 5"),
    ],
)
@pytest.mark.parametrize("call", [optimize, evaluate])
def test_bad_arguments_are_refused(call, arguments, message):
    with pytest.raises(bt.InputError, match=message):
        call(**arguments)


@pytest.mark.parametrize("aggregate", [lambda values: values, lambda values: 5.0, lambda values: ["a"] * len(values)])
def test_aggregates_of_another_shape_are_refused(aggregate):
    with pytest.raises(bt.ObjectiveError, match=r"aggregate must return one number per candidate \(\d+\), got shape"):
        optimize(aggregate=aggregate)


@pytest.mark.parametrize("call", [optimize, evaluate])
def test_bars_without_dates_warn_once(call):
    bars = {name: bt.Bars(open=of.open, high=of.high, low=of.low, close=of.close) for name, of in BARS.items()}
    more = {"metric": "total_return"} if call is optimize else {}
    with pytest.warns(bt.NumericsWarning, match="bars have no dates") as caught:
        call(bars | {"GOOG": BARS["GOOG"]}, **more)
    assert len(caught) == 1


def test_a_run_of_several_symbols_is_a_run_of_each():
    runs = bt.run(BARS, CROSS, {"fast": 3, "slow": 9}, costs=COSTS)
    assert list(runs) == list(BARS)
    for symbol, run in runs.items():
        alone = bt.run(BARS[symbol], CROSS, {"fast": 3, "slow": 9}, costs=COSTS)
        np.testing.assert_array_equal(run.equity, alone.equity)

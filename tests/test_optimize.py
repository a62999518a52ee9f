"""bt.optimize end to end, and search.grid on its own."""

import itertools
import json
import math
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest import lines, rules, search
from backtest.enumeration import VisitOrder
from backtest.metrics import METRICS, SWEEP
from backtest.simulation import json_safe
from backtest.space import Grid, Space

nan, inf = math.nan, math.inf
GOOG = bt.Bars.sample()
SHORT = bt.Bars(
    open=GOOG.open[:400], high=GOOG.high[:400], low=GOOG.low[:400], close=GOOG.close[:400], index=GOOG.index[:400], symbol="G"
)
COSTS = bt.Costs(fee_rate=0.001, slippage=0.0005)
SPACE = Space({"fast": [3, 5, 8], "slow": range(6, 25, 6), "stop_loss": [None, 0.03]}, where="fast < slow")
CROSS = bt.strategies.sma_cross
BLOCKS = Space({"fast": range(2, 8), "slow": range(20, 36)})  # three batches of 32


def optimize(space=SPACE, strategy=CROSS, bars=SHORT, costs=COSTS, **more):
    return bt.optimize(bars, strategy, space, costs=costs, **more)


@pytest.fixture
def batches_of(monkeypatch):
    """Set the batch size of a grid search."""

    def set_size(batch_size):
        monkeypatch.setattr(search.grid, "__kwdefaults__", search.grid.__kwdefaults__ | {"batch_size": batch_size})

    return set_size


def params_of(result):
    """Rows of the table as dicts, with None for what pandas calls NaN."""
    frame = result.table.index.to_frame(index=False)
    return [{name: None if value != value else value for name, value in row.items()} for row in frame.to_dict("records")]


def all_candidates(space):
    _, batch = space.candidates(np.arange(len(space)))
    return [space.decode(row) for row in batch]


# -- against brute force -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["sharpe", "total_return", "max_drawdown", "costs_paid", "profit_factor"])
def test_best_is_the_best_of_all_single_runs(backend, metric):
    result = optimize(metric=metric)
    execution = bt.Execution(start=result.start)
    runs = [bt.run(SHORT, CROSS, params, costs=COSTS, execution=execution) for params in all_candidates(SPACE)]
    values = [run.stats[metric] * METRICS[metric].direction for run in runs]
    best = values.index(max(values))  # the first of equals
    assert result.best_params == runs[best].params
    assert result.best_value == runs[best].stats[metric]
    pd.testing.assert_series_equal(result.best.stats, runs[best].stats)
    pd.testing.assert_series_equal(result.best.equity, runs[best].equity)
    pd.testing.assert_frame_equal(result.best.trades, runs[best].trades)
    by_params = {tuple(run.params.items()): run for run in runs}
    for row, params in enumerate(params_of(result)):
        np.testing.assert_array_equal(result.table.iloc[row], by_params[tuple(params.items())].stats[list(SWEEP)])
    assert [value * METRICS[metric].direction for value in result.table[metric]] == sorted(values, reverse=True)


def test_table():
    result = optimize()
    assert result.table.index.names == ["fast", "slow", "stop_loss"]
    assert result.table.columns.tolist() == list(SWEEP)
    assert result.table.columns.name == "metric"
    assert len(result.table) == len(SPACE) == result.n_evaluated
    assert sorted(map(str, params_of(result))) == sorted(
        str({**each, "stop_loss": each["stop_loss"]}) for each in all_candidates(SPACE)
    )
    assert result.table["sharpe"].is_monotonic_decreasing
    assert result.table["sharpe"].iloc[0] == result.best_value
    assert not result.is_interrupted


def test_one_parameter_gives_a_plain_index():
    result = optimize({"fast": [3, 5], "slow": 20})
    assert result.table.index.names == ["fast", "slow"]
    single = rules.Strategy(
        enter_long=lines.close > lines.sma(lines.close, bt.param("n")),
        exit_long=lines.close < lines.sma(lines.close, bt.param("n")),
    )
    table = optimize({"n": [5, 9]}, single).table
    assert table.index.name == "n"
    assert sorted(table.index) == [5, 9]


def test_mapping_and_space_are_equal():
    given = {"fast": [3, 5], "slow": [10, 20]}
    pd.testing.assert_frame_equal(optimize(given).table, optimize(Space(given)).table)


def test_evaluate_agrees_at_the_same_start():
    result = optimize()
    frame = result.table.index.to_frame(index=False)
    table = bt.evaluate(SHORT, CROSS, frame, costs=COSTS, execution=bt.Execution(start=result.start))
    np.testing.assert_array_equal(table.to_numpy(), result.table.to_numpy())


def test_window_trades_inside_only():
    result = optimize(window=slice(100, 300))
    equity = result.best.equity
    assert (equity.index[0], equity.index[-1]) == (SHORT.times()[100], SHORT.times()[299])
    again = bt.run(
        SHORT, CROSS, result.best_params, costs=COSTS, execution=bt.Execution(start=result.start), window=slice(100, 300)
    )
    assert again.stats["sharpe"] == result.best_value
    assert result.provenance["window"] == [100, 300]


# -- start -------------------------------------------------------------------------------------------------------------


def test_start_is_the_longest_warm_up_of_the_whole_space_ignoring_where():
    assert optimize().start == 24  # slow = 24 needs 24 bars for a cross
    assert optimize(Space({"fast": [3, 40], "slow": [10, 20]}, where="fast < slow")).start == 40
    assert optimize({"fast": 3, "slow": 20}).start == 20
    levels = rules.Strategy(
        enter_long=lines.close > lines.sma(lines.close, bt.param("n")),
        stop_loss=bt.param("k", None) * lines.atr(bt.param("m", 14)) / lines.close,
    )
    assert optimize({"n": [2, 5], "k": [None, 2.0]}, levels, min_trades=0).start == 14
    sized = bt.Execution(size=0.5 * lines.lowest(lines.close, bt.param("w")) / lines.close)
    assert optimize({"fast": 3, "slow": 20, "w": [10, 50]}, execution=sized).start == 49


def test_start_may_be_given_but_not_inside_the_warm_up():
    result = optimize(execution=bt.Execution(start=100))
    assert result.start == 100
    assert result.best.equity.index[0] == SHORT.times()[100]
    with pytest.raises(bt.InputError, match=r"start must be >= the longest warm-up of the candidates \(24\), got 23"):
        optimize(execution=bt.Execution(start=23))


def test_start_that_is_given_needs_no_longest_warm_up():
    strategy = rules.Strategy(
        enter_long=lines.close > lines.sma(lines.close, bt.param("a") + bt.param("b")),
        exit_long=lines.close < lines.sma(lines.close, bt.param("a") + bt.param("b")),
    )
    space = {"a": range(1, 400), "b": range(1, 400)}
    with pytest.raises(bt.InputError, match=r"needs more than 100,000 combinations of its parameters; give Execution"):
        optimize(space, strategy, n_trials=5)
    assert optimize(space, strategy, bars=GOOG, n_trials=5, execution=bt.Execution(start=800)).start == 800
    with pytest.raises(bt.InputError, match=r"start must be >= the longest warm-up of the candidates, got 5; .* needs \d+ bars"):
        optimize(space, strategy, bars=GOOG, n_trials=5, execution=bt.Execution(start=5))


def test_candidates_of_one_space_cover_the_same_bars_however_many_are_evaluated():
    whole, part = optimize(), optimize(n_trials=3)
    assert part.start == whole.start
    for params, row in zip(params_of(part), part.table.to_numpy(), strict=True):
        np.testing.assert_array_equal(row, whole.table.to_numpy()[params_of(whole).index(params)])


def test_warm_up_longer_than_the_bars_is_refused():
    with pytest.raises(bt.DataError, match=r"window must leave a bar to trade: .* leave none"):
        optimize({"fast": 3, "slow": 400})


# -- ranking -----------------------------------------------------------------------------------------------------------

LEVEL = rules.Strategy(enter_long=lines.close > bt.param("level"), exit_long=lines.close < bt.param("level"))


def test_undefined_ranks_last_and_ties_are_in_enumeration_order():
    space = {"level": [10_000, 9_000, 120, 20_000]}  # only 120 ever trades
    result = optimize(space, LEVEL)
    assert result.table.index.tolist() == [120, 10_000, 9_000, 20_000]
    assert result.table["sharpe"].isna().tolist() == [False, True, True, True]


def test_ties_go_to_the_first_in_enumeration_order_for_any_seed():
    space = {"level": 120, "unused_stop": [0.9, 0.8, 0.7, 0.95]}
    strategy = rules.Strategy(enter_long=LEVEL.enter_long, exit_long=LEVEL.exit_long, stop_loss=bt.param("unused_stop"))
    for seed in range(5):
        result = optimize(space, strategy, seed=seed)
        assert result.best_params["unused_stop"] == 0.9
        assert result.table.index.get_level_values("unused_stop").tolist() == [0.9, 0.8, 0.7, 0.95]


def test_too_few_trades_rank_last():
    free = optimize(min_trades=0)
    counts = free.table["n_trades"]
    limit = int(counts.median()) + 1
    limited = optimize(min_trades=limit)
    enough = limited.table["n_trades"] >= limit
    assert 0 < enough.sum() < len(enough)
    assert enough.is_monotonic_decreasing
    assert limited.table["sharpe"][enough].is_monotonic_decreasing


def test_nothing_defined_is_reported_with_a_warning():
    with pytest.warns(bt.NumericsWarning, match="no candidate has a defined sharpe with at least 1 trades; the first candidate"):
        result = optimize({"level": [9_000, 10_000]}, LEVEL)
    assert math.isnan(result.best_value)
    assert result.best_params == {"level": 9_000}


@pytest.mark.parametrize("keep", [1, 5, 1000])
def test_keep_is_the_head_of_the_whole_table(keep):
    pd.testing.assert_frame_equal(optimize(keep=keep).table, optimize().table.head(keep))


@pytest.mark.parametrize("metric", SWEEP)
def test_every_sweep_metric_can_be_searched_for(metric):
    result = optimize({"fast": [3, 5], "slow": [10, 20]}, metric=metric)
    defined = result.table[metric].dropna() * METRICS[metric].direction
    assert defined.is_monotonic_decreasing
    assert len(defined) == 4 or result.table[metric].isna().tolist() == sorted(result.table[metric].isna().tolist())


# -- how much is evaluated ---------------------------------------------------------------------------------------------


def test_n_trials_is_a_seeded_subset():
    some = [params_of(optimize(n_trials=6, seed=seed)) for seed in (0, 0, 1)]
    assert all(len(each) == 6 for each in some)
    assert some[0] == some[1]
    assert {str(each) for each in some[0]} != {str(each) for each in some[2]}
    for each in some[0]:
        assert each in all_candidates(SPACE)
    assert optimize(n_trials=10**9).n_evaluated == len(SPACE)


def test_timeout_returns_what_was_done(monkeypatch, batches_of):
    batches_of(32)
    clock = itertools.count()
    monkeypatch.setattr(search.grid.__globals__["time"], "monotonic", lambda: next(clock))
    result = optimize(BLOCKS, timeout=1.5)
    assert result.is_interrupted
    assert result.n_evaluated == 32
    assert "timed out: 32 of 96 candidates evaluated" in result.search
    assert result.provenance["is_interrupted"] is True
    with pytest.raises(bt.InputError, match=r"timeout must leave time for one batch, got 0\.5"):
        optimize(timeout=0.5)


def test_ctrl_c_in_a_custom_line_returns_what_was_done(monkeypatch, batches_of):

    batches_of(4096)

    calls = itertools.count()

    @bt.line("n")
    def counted(bars, n):
        # The warm-up looks at each value, auto times 65 candidates, then block by block.
        if next(calls) == 2 * 9000 + 2 * 65 + 2 * 4096 + 100:
            raise KeyboardInterrupt
        return bars.close / n

    monkeypatch.setattr("backtest.evaluation.MEMO_BYTES", 1 << 12)
    strategy = rules.Strategy(enter_long=counted() > 1, exit_long=counted() < 1)
    result = optimize({"n": np.linspace(100, 140, 9000).tolist()}, strategy, keep=9000)
    assert result.is_interrupted
    assert 0 < result.n_evaluated == len(result.table) < 9000
    assert f"interrupted: {result.n_evaluated:,} of 9,000" in result.search


def test_ctrl_c_in_a_callback_returns_what_was_done():
    space = Space({"x": range(1000)})

    def interrupt(result):
        if result.nfev >= 300:
            raise KeyboardInterrupt

    found = search.grid(lambda batch: -batch[:, 0], space, batch_size=100, keep=1000, callback=interrupt)
    assert (found.nfev, found.status, found.success) == (300, search.INTERRUPTED, False)
    assert found.message == "interrupted: 300 of 1,000 candidates evaluated"
    assert len(found.batch) == 300
    assert found.fun == -found.batch[:, 0].max()


def test_ctrl_c_during_a_search_returns_a_partial_result(monkeypatch, batches_of):
    from backtest import signals

    batches_of(32)
    original, calls = signals.StrategyEvaluator.lazy_table, itertools.count()

    def lazy_table(self, batch, settings):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return original(self, batch, settings)

    monkeypatch.setattr(signals.StrategyEvaluator, "lazy_table", lazy_table)
    result = optimize(BLOCKS)
    assert result.is_interrupted
    assert result.n_evaluated == 2 * 32
    assert "interrupted: 64 of 96 candidates evaluated" in result.search
    monkeypatch.undo()
    assert result.best.stats["sharpe"] == result.best_value


def test_ctrl_c_before_anything_was_done_is_an_interruption(monkeypatch):
    from backtest import signals

    def lazy_table(self, batch, settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(signals.StrategyEvaluator, "lazy_table", lazy_table)
    with pytest.raises(KeyboardInterrupt):
        optimize()


def test_progress_is_silent_unless_on_a_terminal(capsys):
    optimize()
    optimize(progress=False)
    assert capsys.readouterr() == ("", "")
    optimize(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "grid" in err


# -- threads and cuts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [2, 3, 4])
def test_threads_change_no_bit(n_threads):
    # 264 candidates of 2,148 bars: enough work for several threads.
    space = {"fast": range(3, 9), "slow": range(16, 60, 4), "stop_loss": [None, 0.02], "take_profit": [None, 0.1]}
    one, more = (optimize(space, bars=GOOG, n_threads=count) for count in (1, n_threads))
    assert one.table.to_numpy().tobytes() == more.table.to_numpy().tobytes()
    assert one.table.index.equals(more.table.index)


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_cuts_change_no_bit(batches_of, batch_size):
    whole = optimize()
    batches_of(batch_size)
    cut = optimize()
    assert cut.table.to_numpy().tobytes() == whole.table.to_numpy().tobytes()
    assert params_of(cut) == params_of(whole)


def test_inputs_are_not_changed():
    space, before = Space(SPACE.values(), where="fast < slow"), pickle.dumps(SHORT.close.tobytes())
    given = {"fast": [3, 5], "slow": [10, 20]}
    text = repr(space)
    optimize(space)
    optimize(given)
    assert repr(space) == text
    assert given == {"fast": [3, 5], "slow": [10, 20]}
    assert pickle.dumps(SHORT.close.tobytes()) == before


# -- heatmap, save, load -----------------------------------------------------------------------------------------------


def test_heatmap():
    result = optimize()
    expected = {}
    for params, value in zip(params_of(result), result.table["sharpe"], strict=True):
        cell = params["slow"], params["fast"]
        expected[cell] = max(expected.get(cell, -inf), value)
    frame = result.heatmap("fast", "slow")
    assert frame.index.name == "slow"
    assert frame.columns.name == "fast"
    assert {(slow, fast): frame.loc[slow, fast] for slow, fast in expected} == expected
    assert frame.isna().sum().sum() == frame.size - len(expected)
    assert result.heatmap("stop_loss", "fast", "n_trades", "sum").to_numpy().sum() == result.table["n_trades"].sum()
    assert result.heatmap("stop_loss", "fast").shape == (3, 2)  # None is a column of its own


def test_heatmap_refuses_unknown_names():
    result = optimize()
    with pytest.raises(bt.InputError, match=r"parameter 'fsat' is not known .*; did you mean 'fast'\?"):
        result.heatmap("fsat", "slow")
    with pytest.raises(bt.InputError, match=r"metric 'sharp' is not known .*; did you mean 'sharpe'\?"):
        result.heatmap("fast", "slow", "sharp")


@bt.line("n", "kind")
def average(bars, n, kind):
    return bars.close * (n if kind in ("a", True) else n + 1) / 5


MIXED = rules.Strategy(enter_long=lines.close > average(), exit_long=lines.close < average(), stop_loss=bt.param("stop", None))


@pytest.mark.parametrize(
    ("space", "strategy"),
    [
        (SPACE, CROSS),
        ({"n": [4, 4.5], "kind": ["a", 2, 0.5], "stop": [None, 0.1]}, MIXED),
        ({"level": [110, 120.5, 130]}, LEVEL),
        ({"level": [110, 120, 130]}, LEVEL),
        ({"n": 4, "kind": ["a", "b"]}, MIXED),
    ],
    ids=["none", "mixed", "floats", "ints", "text"],
)
def test_saved_results_come_back(tmp_path, space, strategy):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bt.NumericsWarning)
        result = optimize(space, strategy)
    assert result.save(tmp_path / "deep" / "folder") == tmp_path / "deep" / "folder"
    loaded = bt.load(str(tmp_path / "deep" / "folder"))
    pd.testing.assert_frame_equal(loaded.table, result.table)
    assert loaded.best_params == result.best_params
    assert [type(each) for each in loaded.best_params.values()] == [type(each) for each in result.best_params.values()]
    np.testing.assert_equal(loaded.best_value, result.best_value)
    assert (loaded.metric, loaded.start, loaded.search, loaded.n_evaluated) == (
        result.metric,
        result.start,
        result.search,
        result.n_evaluated,
    )
    assert loaded.provenance == result.provenance
    with pytest.raises(bt.InputError, match="a loaded result has no bars to replay its best candidate on"):
        _ = loaded.best
    assert pd.read_csv(tmp_path / "deep" / "folder" / "equity.csv")["equity"].tolist() == result.best.equity.tolist()
    assert len(pd.read_csv(tmp_path / "deep" / "folder" / "trades.csv")) == len(result.best.trades)


def test_a_loaded_result_gives_the_same_run_again(tmp_path):
    optimize().save(tmp_path)
    loaded = bt.load(tmp_path)
    run = bt.run(SHORT, CROSS, loaded.best_params, costs=COSTS, execution=bt.Execution(start=loaded.start))
    assert run.stats["sharpe"] == loaded.best_value


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(bt.InputError, match=r"path must be a folder with a result\.json"):
        bt.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(bt.InputError, match="path must be a folder, got the file"):
        optimize().save(tmp_path / "file")
    (tmp_path / "result.json").write_text('{"schema_version": 99}')
    with pytest.raises(bt.InputError, match="schema_version must be from 1 to 2, got 99"):
        bt.load(tmp_path)


def test_provenance_is_json_and_says_what_it_takes():
    result = optimize(
        execution=bt.Execution(rf=0.01, size=bt.param("share", 0.5)), seed=7, n_trials=5, window=slice(np.int64(50), None)
    )
    provenance = json.loads(json.dumps(json_safe(result.provenance), allow_nan=False))
    assert provenance["data"] == SHORT.content_hash
    assert provenance["seed"] == 7
    assert provenance["costs"]["fee_rate"] == 0.001
    assert provenance["execution"]["rf"] == 0.01
    assert provenance["execution"]["size"] == "share"
    assert provenance["start"] == 24
    assert provenance["window"] == [50, None]
    assert provenance["versions"]["numpy"] == np.__version__
    assert provenance["periods_per_year"] == 252
    assert (provenance["n_candidates"], provenance["n_trials"], provenance["n_evaluated"]) == (len(SPACE), 5, 5)


def test_fingerprints_differ_by_strategy_and_not_by_run():
    prints = [optimize({"fast": 3, "slow": 20}).provenance["strategy_fingerprint"] for _ in range(2)]
    other = optimize({"level": 120}, LEVEL).provenance["strategy_fingerprint"]
    assert prints[0] == prints[1] != other


def test_results_survive_a_pickle():
    result = optimize()
    again = pickle.loads(pickle.dumps(result))
    pd.testing.assert_frame_equal(again.table, result.table)
    pd.testing.assert_series_equal(again.best.stats, result.best.stats)


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metric": "sharp"}, r"metric 'sharp' is not known .*; did you mean 'sharpe'\?"),
        ({"metric": "ulcer_index"}, r"metric must be one that every candidate has .*, got 'ulcer_index'; bt\.run gives it"),
        ({"method": "gird"}, r"method must be one of 'auto', 'grid', .*, 'optuna', got 'gird'; did you mean 'grid'\?"),
        ({"min_trades": -1}, "min_trades must be a whole number >= 0, got -1"),
        ({"keep": 0}, "keep must be a whole number >= 1, got 0"),
        ({"n_trials": 0}, "n_trials must be a whole number >= 1, got 0"),
        ({"n_trials": "9"}, "n_trials must be a whole number >= 1, got '9'"),
        ({"seed": -1}, "seed must be a whole number >= 0, got -1"),
        ({"seed": None}, "seed must be a whole number >= 0, got None"),
        ({"timeout": 0}, "timeout must be > 0, got 0"),
        ({"n_threads": 0}, "n_threads must be a whole number >= 1, got 0"),
        ({"window": 5}, "window must be a slice of bars without a step"),
        ({"window": slice(0, 100, 2)}, "window must be a slice of bars without a step"),
        ({"window": slice(0, 10)}, "window must leave a bar to trade"),
        ({"bars": None}, "bars must be a Bars, got None"),
        ({"strategy": "sma_cross"}, "strategy must be a Strategy, or a function with @bt.on_bar, got 'sma_cross'"),
        ({"costs": 0.001}, r"costs must be a Costs, got 0\.001"),
        ({"execution": "close"}, "execution must be a Execution, got 'close'"),
        ({"space": {"fast": [3], "slwo": [9]}}, r"parameter 'slwo' is not known .*; did you mean 'slow'\?"),
        ({"space": {"fast": [3]}}, r"parameter 'slow' must have a value, got none \(given: fast\)"),
        (
            {"space": {"fast": [3], "slow": {"low": 5, "high": 9}}},
            r"slow must have a step, because it counts bars, got the continuous range 5\.\.9",
        ),
        (
            {"space": {"fast": [3], "slow": {"low": 5, "high": 9}}, "method": "grid"},
            "slow must have a step for a grid search, got a continuous range",
        ),
        (
            {"space": {"fast": [3], "slow": [9], "max_bars": {"low": 5, "high": 9}}},
            "max_bars must have a step, because it counts bars",
        ),
        ({"space": {"fast": [3.5], "slow": [9]}}, r"window of sma\(close, fast\) must be a whole number >= 1, got 3\.5"),
        ({"space": {"fast": [3], "slow": [9], "stop_loss": [0.0]}}, r"stop_loss .* must be > 0, got 0\.0"),
        ({"space": None}, "parameters must be a mapping"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        optimize(**arguments)


def test_bars_without_dates_warn_once():
    bars = bt.Bars(open=SHORT.open, high=SHORT.high, low=SHORT.low, close=SHORT.close)
    with pytest.warns(bt.NumericsWarning) as caught:
        result = optimize(bars=bars, metric="total_return")
    assert len(caught) == 1
    assert "bars have no dates and periods_per_year is not given" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert result.table["sharpe"].isna().all()
    assert optimize(bars=bars, metric="volatility", execution=bt.Execution(periods_per_year=252)).best_value > 0


# -- search.grid -------------------------------------------------------------------------------------------------------


def parabola(batch):
    return ((batch - 30.0) ** 2).sum(axis=1)


def test_grid_finds_the_bottom_of_a_parabola():
    space = Space({"x": range(100), "y": {"low": 0, "high": 60, "step": 0.5}})
    found = search.grid(parabola, space, keep=5)
    assert found.x.tolist() == [30, 30]
    assert found.fun == 0
    assert found.nfev == len(space) == 100 * 121
    assert (found.status, found.success) == (search.grid.__globals__["DONE"], True)
    assert found.objective.tolist() == [0, 0.25, 0.25, 1, 1]
    assert found.numbers.tolist() == sorted(found.numbers[:1]) + found.numbers[1:].tolist()
    assert found.batch[1].tolist() == [30, 29.5]  # ties: first in enumeration order


@pytest.mark.parametrize("batch_size", [1, 10, 4096])
@pytest.mark.parametrize("seed", [0, 1])
def test_grid_evaluates_every_candidate_once(batch_size, seed):
    space, seen = Space({"x": range(20), "y": range(10)}, where="y < x"), []

    def evaluate(batch):
        assert len(batch) <= batch_size
        seen.extend(map(tuple, batch.tolist()))
        return np.zeros(len(batch))

    found = search.grid(evaluate, space, batch_size=batch_size, seed=seed, keep=3)
    assert sorted(seen) == [(x, y) for x in range(20) for y in range(10) if y < x]
    assert found.batch.tolist() == [[1, 0], [2, 0], [2, 1]]


def test_grid_samples_the_same_candidates_however_they_are_cut():
    space = Space({"x": range(1000), "y": range(1000)})
    kept = [
        search.grid(parabola, space, n_trials=500, keep=500, batch_size=batch_size, seed=3) for batch_size in (1, 7, 500, 4096)
    ]
    for each in kept:
        assert each.nfev == 500
        np.testing.assert_array_equal(each.batch, kept[0].batch)
    assert len(np.unique(kept[0].batch, axis=0)) == 500
    assert set(kept[0].numbers.tolist()) == set(VisitOrder(10**6, 3)(0, 500).tolist())


@pytest.mark.parametrize("batch_size", [100, 4096])
def test_n_trials_counts_candidates_where_only_an_upper_bound_is_known(batch_size):
    space = Space({"x": range(5000), "y": range(5000)}, where="x < y and (x + y) % 5 == 3")
    assert not space.is_exact
    found = search.grid(parabola, space, n_trials=50, keep=100, batch_size=batch_size)
    assert found.nfev == len(found.batch) == 50
    assert space.feasible(found.batch).all()
    np.testing.assert_array_equal(found.batch, search.grid(parabola, space, n_trials=50, keep=100, batch_size=999).batch)


def test_a_fine_grid_is_searched_without_being_listed(monkeypatch):
    listed = Grid.values
    monkeypatch.setattr(Grid, "values", lambda self: listed(self) if self.size < 10**6 else pytest.fail(f"listed {self!r}"))
    fine = {"low": 1e-9, "high": 0.5, "step": 1e-9}
    found = bt.optimize(
        SHORT,
        bt.strategies.sma_cross,
        {"fast": [3, 5], "slow": [10, 20], "stop_loss": fine},
        costs=COSTS,
        n_trials=200,
        progress=False,
    )
    assert found.provenance["n_evaluated"] == 200
    assert found.provenance["n_candidates"] == 2 * 10**9
    with pytest.raises(bt.BacktestError, match=r"the longest warm-up of .* needs more than 100,000 combinations"):
        bt.optimize(SHORT, bt.strategies.sma_cross, {"fast": range(2, 10**9), "slow": [20]}, costs=COSTS, progress=False)


def test_grid_keeps_several_metrics_with_a_rank():
    space = Space({"x": range(50)})
    found = search.grid(
        lambda batch: np.column_stack([batch[:, 0], parabola(batch)]), space, rank=lambda scores: scores[:, 1], keep=3
    )
    assert found.scores.tolist() == [[30, 0], [29, 1], [31, 1]]


@pytest.mark.parametrize(
    ("evaluate", "message"),
    [
        (lambda batch: np.zeros(len(batch) + 1), r"evaluate must return one score per candidate \(10\), got shape \(11,\)"),
        (lambda batch: 0.0, r"evaluate must return one score per candidate \(10\), got shape \(\)"),
        (lambda batch: np.zeros((len(batch), 2)), r"got shape \(10, 2\)"),
        (lambda batch: np.where(batch[:, 0] == 4, nan, 0), r"evaluate must not return NaN, got it at \{'x': 4\}"),
    ],
)
def test_grid_refuses_bad_scores(evaluate, message):
    with pytest.raises(bt.ObjectiveError, match=message):
        search.grid(evaluate, Space({"x": range(10)}))


def test_grid_ranks_infinities_as_themselves():
    found = search.grid(lambda batch: np.array([inf, 0, -inf])[batch[:, 0].astype(int)], Space({"x": range(3)}), keep=3)
    assert found.batch[:, 0].tolist() == [2, 1, 0]


def test_grid_refuses_spaces_it_cannot_finish():
    with pytest.raises(bt.SpaceError, match=r"a space with a continuous parameter \(x\) has no length"):
        search.grid(parabola, Space({"x": {"low": 0, "high": 1}}))

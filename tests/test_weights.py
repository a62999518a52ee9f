"""bt.optimize_weights over several windows, with a store, and by every search."""

import contextlib
import functools
import json
import math
import os
import pickle
import signal
import time

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest import solve, weights
from backtest.cells import AGGREGATES
from backtest.metrics import SWEEP
from backtest.simulation import json_safe
from backtest.study.store import Store

NAN = math.nan
WINDOWS = [slice(20, 60), slice(60, 110), slice(None, -20)]
CELLS = ["20:60", "60:110", ":-20"]
SPACE = {"n": [5, 10, 20], "every": [1, 5]}
CLOSE = 100 * np.exp(np.cumsum(np.random.default_rng(5).normal(0.0005, 0.02, (130, 3)), axis=0))
COMMON = {"close": CLOSE, "fill": "close", "costs": bt.Costs(fee_rate=0.001), "periods_per_year": 252, "progress": False}
asked = []


@pytest.fixture(autouse=True)
def calls():
    """Parameters that the rule was asked for."""
    asked.clear()
    return asked


def momentum(params, close=CLOSE):
    """Equal weights of the assets that rose over ``n`` bars, every ``every`` bars."""
    asked.append(dict(params))
    rose = np.zeros(close.shape)
    rose[params["n"] :] = close[params["n"] :] > close[: -params["n"]]
    target = rose / np.maximum(rose.sum(axis=1, keepdims=True), 1) * params.get("share", 1.0)
    target[np.arange(len(close)) % params.get("every", 1) != 0] = NAN
    return target


def search(rule=momentum, space=SPACE, **more):
    return bt.optimize_weights(rule, space, **COMMON | more)


def simulated(params, **more):
    given = {name: value for name, value in COMMON.items() if name != "progress"} | more
    return bt.simulate(momentum(params), **given)


def same(one, other):
    pd.testing.assert_frame_equal(one.table, other.table, check_exact=True)
    assert (one.best_params, one.best_value) == (other.best_params, other.best_value)


# --- windows ----------------------------------------------------------------------------------------------------------


def test_windows_are_what_single_searches_give(backend, calls):
    result = search(window=WINDOWS)
    assert result.table.columns.tolist() == [*SWEEP, *(f"{metric}@{cell}" for cell in CELLS for metric in SWEEP)]
    assert len(calls) == 6  # once for all windows
    for cell, window in zip(CELLS, WINDOWS, strict=True):
        single = search(window=window).table
        found = result.table.loc[single.index, [f"{metric}@{cell}" for metric in SWEEP]]
        assert found.to_numpy().tobytes() == single.to_numpy().tobytes()
    assert list(result.best) == CELLS
    for cell, window in zip(CELLS, WINDOWS, strict=True):
        book = simulated(result.best_params, window=window)
        assert result.best[cell].equity.tolist() == book.equity.tolist()
        assert result.best[cell].stats["sharpe"] == result.table[f"sharpe@{cell}"].iloc[0]


def least_but_one(values):
    return np.sort(values, axis=1)[:, 1]


@pytest.mark.parametrize("aggregate", ["median", "mean", "min", least_but_one])
def test_ranked_by_the_aggregate(aggregate):
    result = search(window=WINDOWS, aggregate=aggregate, min_trades=0)
    function = AGGREGATES.get(aggregate, aggregate) if isinstance(aggregate, str) else aggregate
    for metric in SWEEP:
        of_cells = np.ascontiguousarray(result.table[[f"{metric}@{cell}" for cell in CELLS]].to_numpy())
        np.testing.assert_array_equal(result.table[metric], function(of_cells))
    assert result.table["sharpe"].is_monotonic_decreasing
    assert result.best_value == result.table["sharpe"].iloc[0]
    assert result.provenance["aggregate"] == ("least_but_one" if callable(aggregate) else aggregate)


def test_trades_are_counted_over_all_windows():
    table = search(window=WINDOWS, min_trades=0).table
    total = table[[f"n_trades@{cell}" for cell in CELLS]].sum(axis=1)
    limit = int(total.median()) + 1
    result = search(window=WINDOWS, min_trades=limit)
    enough = result.table[[f"n_trades@{cell}" for cell in CELLS]].sum(axis=1) >= limit
    assert 0 < enough.sum() < len(enough)
    assert enough.is_monotonic_decreasing


def test_blocks_of_books_do_not_show(monkeypatch, calls):
    whole = search(window=WINDOWS)
    monkeypatch.setattr("backtest.book_evaluator.BLOCK_BYTES", 6000)
    monkeypatch.setattr(weights, "BATCH", 4)
    before = len(calls)
    for n_threads in (1, 3):
        same(search(window=WINDOWS, n_threads=n_threads), whole)
    assert len(calls) == before + 12


def test_provenance_of_windows():
    provenance = json.loads(json.dumps(json_safe(search(window=WINDOWS, version="7").provenance), allow_nan=False))
    assert provenance["window"] == [[20, 60], [60, 110], [None, -20]]
    assert provenance["cells"] == CELLS
    assert provenance["n_decision_bars"] == 40 + 50 + 110
    assert (provenance["start"], provenance["aggregate"], provenance["version"]) == (0, "median", "7")
    single = search(window=slice(30, 90)).provenance
    assert (single["start"], single["window"], single["aggregate"]) == (30, [30, 90], None)


def test_several_windows_are_saved_and_pickled(tmp_path):
    result = search(window=WINDOWS[:2])
    loaded = bt.load(result.save(tmp_path / "found"))
    pd.testing.assert_frame_equal(loaded.table, result.table)
    trades, equity = (pd.read_csv(tmp_path / "found" / name) for name in ("trades.csv", "equity.csv"))
    for cell, book in result.best.items():
        assert (trades["cell"] == cell).sum() == len(book.trades)
        assert equity.loc[equity["cell"] == cell, "equity"].tolist() == book.equity.tolist()
    saved = json.loads((tmp_path / "found" / "result.json").read_text())
    assert saved["account_statistics"]["60:110"]["end_equity"] == result.best["60:110"].equity.iloc[-1]
    again = pickle.loads(pickle.dumps(search(window=WINDOWS[:2])))
    assert again.best["20:60"].equity.tolist() == result.best["20:60"].equity.tolist()


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ([], "window must hold at least one slice of bars, got none"),
        ([slice(0, 50), slice(0, 50)], "window must hold each slice of bars once, got 0:50 twice"),
        ([slice(0, 50), slice(500, 600)], "window must leave a bar to trade, got bars 130 to 130 of 130"),
        ([slice(0, 50, 2)], "window must be a slice of bars without a step"),
        (7, "window must be a slice of bars"),
    ],
)
def test_windows_that_cannot_be(window, message, calls):
    with pytest.raises(bt.InputError, match=message):
        search(window=window)
    with pytest.raises(bt.InputError, match="aggregate must be one of 'median', 'mean', 'min', got 'most'"):
        search(window=WINDOWS, aggregate="most")
    assert not calls


# --- searches ---------------------------------------------------------------------------------------------------------


def test_optuna_searches_rules(calls):
    result = search(space={"n": range(3, 30), "share": {"low": 0.1, "high": 1.0}}, method="optuna", n_trials=20)
    assert result.n_evaluated == len(calls) == len(result.table) == 20
    assert result.search.startswith("optuna, as asked for; done: 20 of 20 candidates evaluated")


def test_what_is_not_there_is_left_out(calls):
    space = {"n": [5, 10], "every": [1, 5], "share": {"low": 0.5, "high": 1.0, "step": 0.5, "when": "every == 1"}}
    result = search(space=space, metric="total_return")
    assert len(calls) == 6
    assert all(("share" in params) == (params["every"] == 1) for params in calls)
    index = result.table.index.to_frame(index=False)
    assert (index["share"].isna() == (index["every"] == 5)).all()
    for _, row in index.iterrows():
        params = {"n": int(row["n"]), "every": int(row["every"])} | (
            {} if row["share"] != row["share"] else {"share": float(row["share"])}
        )
        assert simulated(params).stats["total_return"] == result.table["total_return"].iloc[row.name]


def test_a_grid_with_a_continuous_parameter_is_refused():
    with pytest.raises(bt.SpaceError, match="share must have a step for a grid search"):
        search(space={"n": [5], "share": {"low": 0.1, "high": 1.0}}, method="grid")


# --- the store --------------------------------------------------------------------------------------------------------


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'results.db'}"


@pytest.mark.parametrize("method", ["auto", "grid", "direct", "evolution", "optuna"])
@pytest.mark.parametrize("window", [slice(10, 80), WINDOWS])
def test_a_second_search_evaluates_nothing(url, calls, method, window):
    options = {"method": method, "n_trials": 6, "window": window, "space": SPACE | {"share": [0.5, 1.0]}}
    plain = search(**options)
    first = search(store=url, version="1", **options)
    before = len(calls)
    again = search(store=url, version="1", **options)
    assert len(calls) == before
    same(plain, first)
    same(plain, again)
    assert "0 of them from the store" in first.search
    assert f"{again.n_evaluated} of them from the store" in again.search


def test_the_store_gives_the_same_bits_on_both_backends(url, backend):
    same(search(store=url, version="1", window=WINDOWS), search(window=WINDOWS))
    same(search(store=url, version="1", window=WINDOWS), search(window=WINDOWS))


def test_searches_share_what_they_evaluate(url, calls):
    search(store=url, version="1")
    before = len(calls)
    for method in ("optuna", "evolution"):
        result = search(method=method, n_trials=4, store=url, version="1")
        assert f"{result.n_evaluated} of them from the store" in result.search
    assert len(calls) == before


OTHER_PRICE = CLOSE.copy()
OTHER_PRICE[70, 1] *= 1.0001


def reversal(params):
    return -momentum(params)


@pytest.mark.parametrize(
    "other",
    [
        {"costs": bt.Costs(fee_rate=0.002)},
        {"window": slice(20, 91)},
        {"window": [slice(20, 90), slice(90, 130)]},
        {"version": "2"},
        {"close": OTHER_PRICE},
        {"open": CLOSE, "fill": "next_open"},
        {"start_cash": 5000.0},
        {"reinvest": False},
        {"reserve_costs": True},
        {"rf": 0.03},
        {"periods_per_year": 365},
        {"rebalance": np.arange(130) % 10 == 0},
        {"data": {"volume": "v2"}},
        {"rule": reversal},
        {"rule": functools.partial(momentum)},
        {"high": CLOSE * 1.01, "low": CLOSE * 0.99},
        {"index": pd.bdate_range("2024-01-01", periods=130)},
    ],
    ids=lambda other: "-".join(other),
)
@pytest.mark.parametrize("method", ["grid", "optuna"])
def test_another_context_is_never_a_hit(url, calls, other, method):
    options = {"method": method, "n_trials": 6, "window": slice(20, 90), "version": "1", "space": {"n": [3, 4, 5, 6, 7, 8]}}
    search(store=url, **options)
    before = len(calls)
    plain = search(**options | other)
    assert len(calls) == before + 6
    result = search(store=url, **options | other)
    assert len(calls) == before + 12
    same(result, plain)


def test_names_of_assets_and_benchmarks_are_the_same_context(url, calls):
    """What scores do not depend on is no other context."""
    search(store=url, version="1")
    before = len(calls)
    other = {"close": pd.DataFrame(CLOSE, columns=list("abc")), "benchmark": CLOSE[:, 0], "metric": "total_return"}
    result = search(store=url, version="1", method="optuna", n_trials=6, **other)
    assert len(calls) == before
    assert result.best.stats["total_return"] == result.best_value


def test_windows_of_numpys_numbers(url, calls):
    """As ``index.searchsorted`` gives them."""
    for window in (slice(np.int64(20), np.int32(60)), [slice(np.int64(20), None), slice(None, np.int64(-20))]):
        result = search(store=url, version="1", window=window)
        before = len(calls)
        plain = [slice(20, None), slice(None, -20)] if isinstance(window, list) else slice(20, 60)
        same(search(store=url, version="1", window=plain), result)
        assert len(calls) == before


def test_another_aggregate_is_another_context(url, calls):
    for aggregate in ("median", "min", "median", "min"):
        same(search(store=url, version="1", window=WINDOWS, aggregate=aggregate), search(window=WINDOWS, aggregate=aggregate))
    assert len(calls) == 6 * (2 + 4)


@pytest.mark.parametrize("version", [None, "", 1])
def test_a_store_wants_a_version(url, calls, version):
    with pytest.raises(bt.InputError, match=r'version must be given with a store .*version="1"; change it when the rule changes'):
        search(store=url, version=version)
    assert not calls


def test_what_a_store_cannot_know_again_is_refused(url, calls):
    given = {"store": url, "version": "1"}
    with pytest.raises(bt.InputError, match="aggregate must be a name to use a store"):
        search(window=WINDOWS, aggregate=least_but_one, **given)
    with pytest.raises(bt.InputError, match="data must be text, a number, Bars"):
        search(data=CLOSE, **given)
    with pytest.raises(bt.InputError, match="a value bound to the objective must be text, a number, Bars"):
        search(functools.partial(momentum, close=CLOSE), **given)
    assert not calls


def test_data_of_a_rule_is_known_by_its_content(url, calls):
    bars = {name: bt.Bars.sample(name) for name in ("GOOG", "IBM")}
    search(store=url, version="1", data=bars)
    search(store=url, version="1", data={name: bt.Bars.sample(name) for name in ("GOOG", "IBM")})
    assert len(calls) == 6
    search(store=url, version="1", data={"GOOG": bt.Bars.sample("IBM"), "IBM": bt.Bars.sample("IBM")})
    assert len(calls) == 12


def test_an_interrupted_grid_goes_on_where_it_was(url, calls, monkeypatch):
    monkeypatch.setattr(solve, "SECONDS", 1e-9)  # so that every candidate is a batch
    space = {"n": range(2, 25)}

    def interrupted(params):
        if len(calls) == 12:
            calls.append("stop")
            os.kill(os.getpid(), signal.SIGINT)
        return momentum(params)

    interrupted.__qualname__ = momentum.__qualname__
    result = search(interrupted, space=space, store=url, version="1")
    assert result.is_interrupted
    assert result.n_evaluated == 12
    calls.clear()
    with pytest.warns(bt.StoreWarning, match="another version for other code"):
        full = search(space=space, store=url, version="1")
    assert len(calls) == 23 - 12
    assert "12 of them from the store" in full.search
    same(full, search(space=space))


@pytest.mark.parametrize("stored", [False, True])
def test_a_slow_rule_stops_at_its_timeout_and_keeps_what_it_has(url, calls, stored):
    def slow(params):
        time.sleep(0.05)
        return momentum(params)

    slow.__qualname__ = momentum.__qualname__
    given = {"store": url, "version": "1"} if stored else {}
    result = search(slow, space={"n": range(2, 102)}, timeout=0.3, method="grid", **given)
    assert "timed out" in result.search
    assert 2 <= result.n_evaluated < 30
    calls.clear()
    is_other = pytest.warns(bt.StoreWarning, match="another version for other code") if stored else contextlib.nullcontext()
    with is_other:
        again = search(space={"n": range(2, 102)}, method="grid", **given)
    assert len(calls) == 100 - result.n_evaluated * stored
    same(again, search(space={"n": range(2, 102)}))


def test_a_grid_knows_what_was_evaluated_for_another_question(url, calls):
    """A wider range, another metric, a larger share of it in the table."""
    search(space={"n": range(5, 15)}, store=url, version="1")
    wide = {"space": {"n": range(5, 25)}, "metric": "total_return", "keep": 5, "min_trades": 0}
    calls.clear()
    result = search(store=url, version="1", **wide)
    assert len(calls) == 10
    same(result, search(**wide))
    assert str(result.distribution) == str(search(**wide).distribution)


def test_the_store_says_what_was_searched(url):
    search(store=url, version="3", data="prices of May")
    store = Store(url)
    try:
        (context,) = store.contexts()
    finally:
        store.close()
    described = context["description"]
    assert (described["rule"], described["version"], described["looks_at"]) == ("test_weights.momentum", "3", "prices of May")
    assert described["costs"]["fee_rate"] == 0.001

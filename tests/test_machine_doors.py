"""Functions with ``bt.on_bar``, and rules with ``engine="machine"``, through every door that takes a strategy."""

import importlib
import pickle
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from cases import random_bars
from hypothesis import given
from hypothesis import strategies as st

import backtest as bt
from backtest import lines
from backtest.cells import Cells
from backtest.compute import threads
from backtest.machine import candidates as tables
from backtest.machine import evaluator as machine
from backtest.metrics import SWEEP


def dated(bars):
    days = np.datetime64("2001-01-01") + np.arange(len(bars))
    return bt.Bars(open=bars.open, high=bars.high, low=bars.low, close=bars.close, index=days)


BARS, OTHER = (dated(random_bars(np.random.default_rng(seed), n)) for seed, n in ((8, 160), (9, 140)))
COSTS = bt.Costs(fee_rate=0.001, slippage=0.0005)
SPACE = {"fast": [2, 3, 5], "slow": [8, 13], "cooldown": [0, 4], "stop": [0.01, 0.03]}


@bt.on_bar(
    fast=lines.sma(lines.close, bt.param("fast")),
    slow=lines.sma(lines.close, bt.param("slow")),
    state={"mark": 0.0, "seen": False},
    params={"cooldown": 2, "stop": 0.03},
)
def trend(bar, account, state, p):
    """SMA trend with a cooldown after a stop, adding once by a limit, half out at a profit."""
    if account.last_exit_reason == bt.STOP and bar.index - account.last_exit_bar < p.cooldown:
        return
    if account.is_flat:
        if bar.fast > bar.slow:
            account.buy(share=0.5, stop_loss=bt.below_entry(p.stop))
            state.mark = bar.close
    elif account.n_entries < 2 and bar.close > state.mark:
        account.buy(share=0.2, limit=bar.close * 0.995, valid_bars=3)
        state.seen = True
    elif bar.fast < bar.slow:
        account.close()
    else:
        account.sell(share_of_position=0.5, limit=account.entry_price * 1.02, once=True)


def batch_of(space):
    space = bt.Space(space)
    return space, space.candidates(np.arange(len(space)))[1]


def evaluator(strategy=trend, space=SPACE, bars=BARS, n_threads=1, **execution):
    execution = bt.Execution(**{"start": 20, **execution})
    return machine.machine_evaluator(
        bars, strategy, bt.Space(space).parameters, costs=COSTS, execution=execution, n_threads=n_threads
    )


def same_bits(one, other):
    assert one.tobytes() == other.tobytes()


# -- bt.run and bt.evaluate --------------------------------------------------------------------------------------------


def test_a_run_has_all_that_a_run_has(backend):
    run = bt.run(BARS, trend, {"fast": 3, "slow": 8}, costs=COSTS)
    assert run.engine == "machine"
    assert run.start == 7
    assert set(run.orders["status"]) >= {"filled", "cancelled", "unfilled"}
    assert set(run.orders["reason"]) >= {"entry", "stop", "signal"}
    assert (run.orders["status"] == "filled").sum() == len(run.fills) == run.sums["n_fills"][0]
    assert len(run.trades) == run.stats["n_trades"] == run.sums["n_trades"][0] > 5
    assert run.equity.iloc[-1] == run.sums["end_equity"][0]
    assert run.units.iloc[-1] == run.fills["position_after"][-1]
    assert len(bt.track_trades(run.orders, close=BARS.close, index=BARS.times()).table) == len(run.trades)
    assert run.account_statistics()["start_cash"] == 1e5
    for table in (run.pending, run.open_positions, run.trade_statistics(), run.to_dict()):
        assert len(table)
    repr(run), run._repr_html_()


def test_orders_that_were_not_executed_have_neither_price_nor_units(backend):
    orders = bt.run(BARS, trend, {"fast": 3, "slow": 8}, costs=COSTS).orders
    rest = orders[orders["status"] != "filled"]
    assert len(rest)
    assert rest[["price", "units", "cost"]].isna().all(axis=None)
    assert (rest["fill_bar"] == -1).all()
    assert set(rest.loc[rest["side"] == "sell", "reason"]) <= {"signal"}


@pytest.mark.parametrize("fill", ["next_open", "close"])
@pytest.mark.parametrize("intrabar", ["pessimistic", "optimistic", "both"])
def test_a_row_of_a_batch_is_its_run(backend, fill, intrabar):
    space, _ = batch_of(SPACE)
    rows = space.decode_batch(batch_of(SPACE)[1])
    execution = bt.Execution(start=20, fill=fill, intrabar=intrabar, close_at_end=True, periods_per_year=252, rf=0.01)
    given = {name: [row[name] for row in rows] for name in SPACE}
    table = bt.evaluate(BARS, trend, given, costs=COSTS, execution=execution)
    for row, values in zip(rows, table.to_numpy(), strict=True):
        run = bt.run(BARS, trend, row, costs=COSTS, execution=execution)
        same_bits(values, np.array([run.stats[name] for name in table.columns]))
    assert len(table.columns) == len(SWEEP) * (1 + (intrabar == "both"))


def test_the_order_inside_a_bar_may_matter_where_no_trade_ends(backend):
    """A limit entry and its stop in one bar: which came first decides whether there is a position at all."""

    bars = bt.Bars(open=[100.0] * 4, high=[101.0, 101.0, 106.0, 101.0], low=[99.0, 99.0, 94.0, 99.0], close=[100.0] * 4)
    execution = bt.Execution(intrabar="both", start=1, periods_per_year=252)
    run = bt.run(bars, bracket, costs=bt.Costs.zero(), execution=execution)
    assert run.sums["n_trades"][0] == 0
    assert run.sums_optimistic["end_equity"][0] > run.sums["end_equity"][0]
    table = bt.evaluate(bars, bracket, costs=bt.Costs.zero(), execution=execution)
    assert table["total_return_optimistic"].iloc[0] == run.stats["total_return_optimistic"] > run.stats["total_return"]


@bt.on_bar
def bracket(bar, account, state, p):
    """Buy below or above the close, and never sell."""
    if bar.index == 1:
        account.buy(units=100, limit=95.0, valid_bars=1)
        account.buy(units=300, limit=98.0, stop=105.0, valid_bars=1)


def test_booleans_are_numbers_and_other_values_are_refused(backend):
    @bt.on_bar
    def switched(bar, account, state, p):
        if p.is_on > 0 and account.is_flat:
            account.buy(units=p.units)

    execution = bt.Execution(start=0)
    on, off = (
        bt.run(BARS, switched, {"is_on": each, "units": 10}, costs=COSTS, execution=execution).sums["n_fills"][0]
        for each in (True, False)
    )
    assert on > off == 0
    for value in (None, "yes"):
        message = re.escape(f"parameter 'is_on' must be a number, or True or False, because the function reads it, got {value!r}")
        with pytest.raises(bt.InputError, match=message):
            bt.run(BARS, switched, {"is_on": value, "units": 10}, costs=COSTS, execution=execution)
        with pytest.raises(bt.InputError, match=message):
            bt.optimize(BARS, switched, {"is_on": [True, value], "units": [10]}, costs=COSTS, execution=execution, progress=False)


def test_a_line_that_is_one_number_for_a_candidate_is_that_number_on_every_bar(backend):
    @bt.on_bar(level=lines.close * 0.0 + bt.param("level"), flat=bt.param("a") + bt.param("b"))
    def above(bar, account, state, p):
        if bar.close > bar.level and bar.flat > 2.5:
            account.buy(units=1, once=True)

    table = bt.evaluate(
        BARS, above, {"level": [1.0, 1e9, 1.0], "a": [1, 1, 1], "b": [2, 2, 1]}, costs=COSTS, execution=bt.Execution(start=0)
    )
    assert (table["exposure"] > 0).tolist() == [True, False, False]
    with pytest.raises(bt.InputError, match=r"line a \+ b must be numbers, got None at a = None, b = 2"):
        bt.evaluate(BARS, above, {"level": [1.0], "a": [None], "b": [2]}, costs=COSTS, execution=bt.Execution(start=0))


# -- the start ---------------------------------------------------------------------------------------------------------


@bt.on_bar(slow=lines.sma(lines.close, bt.param("slow")), is_up=bt.rules.crosses_above(lines.close, lines.sma(lines.close, 6)))
def looks_back(bar, account, state, p):
    """Reads a line three bars ago, and a condition two."""
    if bar.previous(3).slow < bar.close and bar.previous(2).is_up:
        account.buy(units=1)


def test_warm_up_counts_the_bars_that_are_looked_back(backend):
    run = bt.run(BARS, looks_back, {"slow": 9}, costs=COSTS)
    assert run.start == 8 + 3
    assert bt.run(BARS, looks_back, {"slow": 2}, costs=COSTS).start == 6 + 2
    with pytest.raises(bt.InputError, match=r"start must be >= the longest warm-up of the candidates \(11\), got 10"):
        bt.run(BARS, looks_back, {"slow": 9}, costs=COSTS, execution=bt.Execution(start=10))
    evaluate = evaluator(looks_back, {"slow": range(2, 12)}, start=10)
    batch = batch_of({"slow": range(2, 12)})[1]
    assert len(evaluate(batch[:7])) == 7
    with pytest.raises(bt.InputError, match=r"start must be >= the longest warm-up .*, got 10; sma\(close, slow\) needs 11 bars"):
        evaluate(batch[:8])


def test_a_window_and_its_warm_up(backend):
    inside = slice(40, 100)
    run = bt.run(BARS, trend, {"fast": 3, "slow": 8}, costs=COSTS, window=inside)
    assert (run.first, run.last) == (40, 100)
    assert (run.orders["decision_bar"] >= 40).all()
    dates = slice(str(BARS.times()[40].date()), str(BARS.times()[99].date()))
    same_bits(run.sums, bt.run(BARS, trend, {"fast": 3, "slow": 8}, costs=COSTS, window=dates).sums)


# -- what does not matter ----------------------------------------------------------------------------------------------


def test_neither_threads_nor_memory_nor_cuts_matter(backend, monkeypatch):
    space = SPACE | {"fast": [2, 3, 4, 5, 6, 7]}
    _, batch = batch_of(space)
    expected = evaluator(space=space)(batch)
    monkeypatch.setattr(threads, "WORTH_A_THREAD_US", 0.0)
    for n_threads, room, lanes, block in ((3, 1 << 20, 64, 1 << 14), (1, 0, 64, 1 << 14), (2, 5 * 8 * len(BARS), 4, 17)):
        monkeypatch.setattr(machine, "LINES_BYTES", room)
        monkeypatch.setattr(tables, "LANES", lanes)
        monkeypatch.setattr(machine, "LANES", lanes)
        evaluate = evaluator(space=space, n_threads=n_threads)
        monkeypatch.setattr(evaluate, "block", block)
        same_bits(evaluate(batch), expected)
        assert len(evaluate.tables._table.values) == max(3, room // (8 * len(BARS)))


@given(st.data())
def test_parts_hold_every_candidate_once_and_few_lines(data):
    n, n_columns = data.draw(st.integers(0, 300)), data.draw(st.integers(1, 3))
    capacity = data.draw(st.integers(n_columns, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    codes = [np.unique(rng.integers(0, data.draw(st.integers(1, 60)), n), return_inverse=True)[1] for _ in range(n_columns)]
    order = tables._beside_each_other(codes, n)
    parts = list(tables._fitting(order, codes, capacity))
    assert np.concatenate([np.empty(0, dtype=np.int64), *parts]).tolist() == order.tolist()
    assert sorted(order.tolist()) == list(range(n))
    for rows in parts:
        assert sum(len(np.unique(each[rows])) for each in codes) <= capacity


def test_an_evaluator_takes_calls_of_several_threads(backend, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    monkeypatch.setattr(machine, "LINES_BYTES", 3 * 8 * len(BARS))
    evaluate, (_, batch) = evaluator(), batch_of(SPACE)
    expected = evaluate(batch)
    with ThreadPoolExecutor(3) as pool:
        for found in pool.map(evaluate, [batch] * 6):
            same_bits(found, expected)


# -- bt.optimize -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["grid", "direct", "evolution", "optuna"])
def test_every_search(backend, method):
    space = SPACE if method == "grid" else SPACE | {"stop": {"low": 0.005, "high": 0.05}}
    n_trials = None if method == "grid" else 12
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bt.NumericsWarning)
        result = bt.optimize(
            BARS, trend, space, costs=COSTS, method=method, n_trials=n_trials, metric="total_return", progress=False
        )
    assert result.n_evaluated == (24 if method == "grid" else 12)
    assert result.best.stats["total_return"] == result.best_value == result.table["total_return"].iloc[0]
    assert result.best.engine == result.provenance["engine"] == "machine"
    assert result.provenance["strategy"] == repr(trend)
    assert result.start == 12
    assert result.distribution is not None or method != "grid"
    assert pickle.loads(pickle.dumps(result)).best_params == result.best_params


def test_symbols_and_windows(backend):
    bars = {"A": BARS, "B": OTHER}
    windows = [slice(20, 80), slice(80, 130)]
    result = bt.optimize(bars, trend, SPACE, costs=COSTS, window=windows, aggregate="mean", metric="total_return", progress=False)
    each = [f"total_return@{symbol}[{one.start}:{one.stop}]" for symbol in bars for one in windows]
    assert np.allclose(result.table["total_return"], result.table[each].mean(axis=1))
    for name, run in result.best.items():
        assert run.stats["total_return"] == result.table[f"total_return@{name}"].iloc[0]
    runs = bt.run(bars, trend, {"fast": 3, "slow": 8}, costs=COSTS)
    assert {symbol: run.engine for symbol, run in runs.items()} == {"A": "machine", "B": "machine"}


def test_a_store_answers_for_what_a_function_computes_not_for_its_text(backend, tmp_path):
    store = f"sqlite:///{tmp_path / 'a.db'}"
    options = {"costs": COSTS, "store": store, "progress": False, "metric": "total_return", "method": "evolution", "n_trials": 5}

    def known(strategy, **changed):
        result = bt.optimize(BARS, strategy, {"n": [3, 4, 5, 6, 7]}, **options | changed)
        return int(re.search(r"(\d+) of them from the store", result.search)[1])

    @bt.on_bar(mean=lines.sma(lines.close, bt.param("n")))
    def one(bar, account, state, p):
        if bar.close > bar.mean:
            account.buy(units=1.0, once=True)
        else:
            account.close()

    @bt.on_bar(average=lines.sma(lines.close, bt.param("n")))
    def same(bar, account, state, p):  # other names and another way to write it
        is_above = bar.average < bar.close
        if not is_above:
            account.close()
        if is_above:
            account.buy(units=1, once=True)

    @bt.on_bar(mean=lines.sma(lines.close, bt.param("n")))
    def other(bar, account, state, p):
        if bar.close > bar.mean:
            account.buy(units=2, once=True)
        else:
            account.close()

    assert known(one) == 0
    assert known(one) == 5
    assert known(one, execution=bt.Execution(engine="machine")) == 5  # a function knows no other engine
    assert known(other) == 0
    assert known(one, execution=bt.Execution(fill="close")) == 0
    assert known(same) in (0, 5)  # the order of calls is part of what is computed


def test_an_interrupted_grid_resumes(backend, tmp_path):
    store = f"sqlite:///{tmp_path / 'a.db'}"
    first = bt.optimize(BARS, trend, SPACE, costs=COSTS, store=store, method="grid", progress=False)
    again = bt.optimize(BARS, trend, SPACE, costs=COSTS, store=store, method="grid", progress=False)
    assert again.search.endswith("24 of them from the store")
    pd.testing.assert_frame_equal(first.table, again.table)


def test_a_custom_line_needs_a_version_for_a_store(backend, tmp_path):
    @bt.line()
    def half(bars):
        return bars.close / 2

    @bt.on_bar(half=half())
    def rests(bar, account, state, p):
        account.buy(units=p.n, limit=bar.half)

    with pytest.raises(bt.InputError, match="must have a version to use a store"):
        bt.optimize(BARS, rests, {"n": [1, 2]}, costs=COSTS, store=f"sqlite:///{tmp_path / 'a.db'}", progress=False)


# -- rules on the machine ----------------------------------------------------------------------------------------------

RULES = {"fast": [2, 3, 5], "slow": [8, 13], "stop_loss": [None, 0.02], "take_profit": [None, 0.03], "max_bars": [None, 9]}


@pytest.mark.parametrize("intrabar", ["pessimistic", "optimistic", "both"])
def test_rules_give_what_the_event_engine_gives(backend, intrabar):
    execution = bt.Execution(intrabar=intrabar, close_at_end=True)
    tables = []
    for engine in (None, "machine"):
        result = bt.optimize(
            BARS, bt.strategies.sma_cross, RULES, costs=COSTS, execution=execution.replace(engine=engine), progress=False
        )
        assert result.provenance["engine"] == result.best.engine == (engine or "events")
        assert result.provenance["execution"].get("engine") == engine
        tables.append(result.table.sort_index())
    np.testing.assert_allclose(tables[0].to_numpy(), tables[1].to_numpy(), rtol=1e-9, atol=1e-12)


def test_the_engine_is_part_of_a_stores_context_where_it_was_asked_for(backend, tmp_path):
    store = f"sqlite:///{tmp_path / 'a.db'}"
    searches = []
    for engine in (None, "machine", None, "machine"):
        execution = bt.Execution(engine=engine)
        result = bt.optimize(
            BARS,
            bt.strategies.sma_cross,
            {"fast": [2, 3], "slow": [8]},
            costs=COSTS,
            execution=execution,
            store=store,
            progress=False,
        )
        searches.append(result.search.rpartition(", ")[2])
    assert searches == ["0 of them from the store"] * 2 + ["2 of them from the store"] * 2


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("execution", "message"),
    [
        ({"sides": "long"}, "sides must be 'both' for a function, which says itself what it buys and sells, got 'long'"),
        ({"size": 0.5}, r"size and size_type must be left out for a function, .*account.buy\(share=...\)"),
        ({"size": 5e3, "size_type": "value"}, r"size and size_type must be left out .* got 5000.0 and 'value'"),
        ({"size": bt.param("size")}, "size and size_type must be left out for a function"),
        ({"profile": "vectorbt"}, "profile must be None with a function with @bt.on_bar, which runs on the bar machine, got"),
    ],
)
def test_executions_that_a_function_cannot_have(execution, message):
    with pytest.raises(bt.InputError, match=message):
        bt.run(BARS, trend, {"fast": 3, "slow": 8}, costs=bt.Costs(fee_rate=0.001), execution=bt.Execution(**execution))


def test_rules_on_the_machine_have_no_profile():
    execution = bt.Execution(profile="backtesting.py", engine="machine")
    with pytest.raises(bt.InputError, match="profile must be None with engine='machine'"):
        bt.run(BARS, bt.strategies.sma_cross, {"fast": 3, "slow": 8}, costs=bt.Costs.zero(), execution=execution)
    with pytest.raises(bt.InputError, match="engine must be one of None, 'machine', got 'events'"):
        bt.Execution(engine="events")


def plain(bar, account, state, p):
    """A function without the decorator."""


@pytest.mark.parametrize("strategy", [plain, 5, None, "sma_cross"])
def test_what_is_no_strategy(strategy):
    remedy = "; decorate it with @bt.on_bar" if strategy is plain else "$"
    message = r"strategy must be a Strategy, or a function with @bt.on_bar, got .*" + remedy
    for door in (
        lambda: bt.run(BARS, strategy, costs=COSTS),
        lambda: bt.evaluate(BARS, strategy, {"a": [1]}, costs=COSTS),
        lambda: bt.optimize(BARS, strategy, {"a": [1, 2]}, costs=COSTS),
    ):
        with pytest.raises(bt.InputError, match=message):
            door()


def test_parameters_are_those_of_the_function():
    with pytest.raises(bt.InputError, match="parameter 'slow' must have a value, got none"):
        bt.run(BARS, trend, {"fast": 3}, costs=COSTS)
    with pytest.raises(bt.InputError, match=r"parameter 'cooldwn' is not known .*did you mean 'cooldown'\?"):
        bt.run(BARS, trend, {"fast": 3, "slow": 8, "cooldwn": 3}, costs=COSTS)
    with pytest.raises(bt.SpaceError, match="fast must have a step, because it counts bars"):
        bt.optimize(BARS, trend, {"fast": {"low": 2.0, "high": 5.0}, "slow": [8]}, costs=COSTS)


# -- faults ------------------------------------------------------------------------------------------------------------


@bt.on_bar(params={"x": 1.0, "y": 1.0})
def asks(bar, account, state, p):
    """Orders that parameters spoil."""
    if bar.index == 5:
        account.buy(units=p.x, limit=bar.close * p.y, stop_loss=bar.close * 0.9 * p.y)


@bt.on_bar(params={"x": 0.5})
def moves(bar, account, state, p):
    """Changes of an open position that parameters spoil."""
    if bar.index == 3:
        account.buy(share=0.5, stop_loss=bt.below_entry(p.x))
    if bar.index == 6:
        account.move_take_profit(bar.close * 2 - p.x, share=p.x)
        account.sell(share_of_position=p.x)


@bt.on_bar(params={"target": 1e6, "roof": 1e6})
def spoiled(bar, account, state, p):
    """Levels that parameters put on the wrong side."""
    if bar.index == 3:
        account.buy(share=0.5, take_profit=p.target)
    if bar.index == 6:
        account.sell(units=1e-3, stop_loss=p.roof)


@pytest.mark.parametrize(
    ("strategy", "params", "message"),
    [
        (
            asks,
            {"x": -2.0},
            r"units must be > 0, got -2.0: account.buy\(units=p.x, .*\) in asks \(.*test_machine_doors.py:\d+\), bar 5",
        ),
        (asks, {"y": -1.0}, r"limit must be > 0, got -\d.*, bar 5 \(2001-01-06\), y = -1.0$"),
        (
            moves,
            {"x": 1.5},
            r"bt.below_entry of stop_loss must be > 0 and < 1 \(a fraction: 0.05 for 5 %\), got 1.5: .* bar 3 "
            r"\(2001-01-04\), x = 1.5$",
        ),
        (
            spoiled,
            {"target": 0.05},
            r"take_profit must be above the price of the order \(a buy\), got 0.05: .*, bar 3 \(2001-01-04\), target = 0.05; "
            r"a fraction of the entry price is bt.above_entry\(0.05\)$",
        ),
        (
            spoiled,
            {"roof": 0.03},
            r"stop_loss must be above the price of the order \(a sale\), got 0.03: .*, bar 6 \(2001-01-07\), roof = 0.03; "
            r"a fraction of the entry price is bt.above_entry\(0.03\)$",
        ),
        (
            spoiled,
            {"target": 2.0},
            r"take_profit must be above the price of the order \(a buy\), got 2.0: .*, bar 3 \(2001-01-04\), target = 2.0$",
        ),
    ],
)
def test_a_fault_names_argument_rule_value_call_bar_and_parameters(backend, strategy, params, message):
    for door in (
        lambda: bt.run(BARS, strategy, params, costs=COSTS),
        lambda: bt.evaluate(BARS, strategy, {name: [value] for name, value in params.items()}, costs=COSTS),
        lambda: bt.optimize(BARS, strategy, {name: [value] for name, value in params.items()}, costs=COSTS, progress=False),
    ):
        with pytest.raises(bt.InputError, match=message):
            door()
    with pytest.raises(bt.InputError, match=f"A: {message}"):
        bt.run({"A": BARS}, strategy, params, costs=COSTS)


def test_the_first_faulty_candidate_is_named_whatever_the_order_inside(backend):
    values = [1.0, 2.0, -3.0, 4.0, -5.0] + [6.0] * 80 + [-7.0]
    for column, first in ((values, -3.0), (values[::-1], -7.0), (values[3:], -5.0)):
        with pytest.raises(bt.InputError, match=f"got {first}: "):
            bt.evaluate(BARS, asks, {"x": column}, costs=COSTS)


def test_a_fault_of_either_order_inside_a_bar(backend):
    """The optimistic pass alone comes to the order that cannot be."""
    bars = bt.Bars(
        open=[100.0] * 5, high=[101.0, 101.0, 106.0, 101.0, 101.0], low=[99.0, 99.0, 94.0, 99.0, 99.0], close=[100.0] * 5
    )

    @bt.on_bar
    def either(bar, account, state, p):
        if bar.index == 1:
            account.buy(units=100, stop_loss=95.0, take_profit=105.0)
        if bar.index == 3 and account.last_result > 0:
            account.buy(units=0 - account.last_result)

    with pytest.raises(bt.InputError, match=r"units must be > 0, got -"):
        bt.run(bars, either, costs=bt.Costs.zero(), execution=bt.Execution(intrabar="both", start=1, periods_per_year=252))


def test_orders_that_cannot_be_paid_for_are_warned_about_once(backend):
    @bt.on_bar
    def greedy(bar, account, state, p):
        if account.is_flat:
            account.buy(units=1e9)

    with pytest.warns(bt.NumericsWarning, match=r"159 of 160 orders could not be paid for, .* decided at the close of bar 0 "):
        run = bt.run(BARS, greedy, costs=COSTS)
    assert run.n_unaffordable == len(run.orders) - 1 > 100
    assert run.orders["status"].value_counts().to_dict() == {"unaffordable": run.n_unaffordable, "unfilled": 1}


def test_an_infinite_price_is_named():
    @bt.on_bar()
    def trails(bar, account, state, p):
        if account.is_flat:
            account.sell(share=0.5)
        elif account.bars_held > 1:
            account.move_stop_loss(max(account.stop_loss, bar.close + 1.0))  # of a short without a stop it is infinite

    with pytest.raises(bt.InputError, match=r"price must be finite and > 0, got inf: account.move_stop_loss\("):
        bt.run(bt.Bars.sample("GOOG")[:100], trails, costs=bt.Costs.zero())


@pytest.mark.parametrize("strategy", [trend, bt.strategies.sma_cross], ids=["function", "rules"])
def test_doors_that_take_no_strategy_say_which_do(strategy):
    close = np.column_stack([BARS.close, BARS.open])
    for name, door in (
        ("rule", lambda: bt.optimize_weights(strategy, {"a": [1, 2]}, close=close, costs=COSTS, periods_per_year=252)),
        ("objective", lambda: bt.Study({"a": [1, 2]}, strategy, name="a")),
        ("evaluate", lambda: bt.search.grid(strategy, bt.Space({"a": [1, 2]}))),
    ):
        with pytest.raises(bt.InputError, match=rf"{name} must be callable.*, got the strategy .*; bt.optimize and bt.run take"):
            door()


def test_a_result_is_saved_and_read(backend, tmp_path):
    result = bt.optimize(BARS, trend, SPACE, costs=COSTS, progress=False)
    loaded = bt.load(result.save(tmp_path / "found"))
    assert loaded.best_params == result.best_params
    assert loaded.provenance["engine"] == "machine"
    execution = bt.Execution(**loaded.provenance["execution"]).replace(start=loaded.start)
    run = bt.run(BARS, trend, loaded.best_params, costs=bt.Costs(**loaded.provenance["costs"]), execution=execution)
    assert run.stats[result.metric] == result.best_value


def test_the_choice_of_a_search_knows_that_lanes_cost_nothing(monkeypatch):
    """On many bars one candidate takes long, and 64 take no longer."""
    calls = []

    def evaluate(batch):
        calls.append(len(batch))
        return cells(batch)

    ranges = {"fast": range(2, 12), "slow": range(20, 60), "cooldown": range(30), "stop": [0.01, 0.02]}
    space = bt.Space(ranges)
    cells = Cells(BARS, None, "median", lambda bars, share: evaluator(space=ranges, bars=bars, start=60))
    assert cells.lanes == machine.LANES
    monkeypatch.setattr(importlib.import_module("backtest.search.choose"), "SLOW_SECONDS", 0.0)
    evaluate.lanes = cells.lanes
    bt.search.choose(evaluate, space, timeout=1e9)
    del evaluate.lanes
    bt.search.choose(evaluate, space, timeout=1e9)
    assert calls == [1, 64, 1, 4]


@pytest.mark.parametrize("given", [{"tick": 0.25}, {"tick": 1e-30}, {"lot": 1e-30}, {"lot": 1e29}], ids=str)
def test_rounding_to_ticks_and_lots_of_any_size(given, backend):
    @bt.on_bar
    def far(bar, account, state, p):
        if account.is_flat:
            account.buy(share=0.5, take_profit=bt.above_entry(1e308), limit=bar.close, valid_bars=3)
        elif account.bars_held > 5:
            account.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bt.NumericsWarning)  # a lot may be more than there is money for
        run = bt.run(bt.Bars.sample("GOOG")[:60], far, costs=bt.Costs.zero(), execution=bt.Execution(**given))
    assert np.isfinite(run.equity).all()
    assert (run.fills["units"] != 0).any() == (given != {"lot": 1e29})

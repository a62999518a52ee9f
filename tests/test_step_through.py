"""``bt.step_through``: the function itself, as a debugger sees it."""

import math
import sys

import numpy as np
import pytest
import test_machine_strategies

import backtest as bt
from backtest import lines

COSTS = bt.Costs(fee_rate=0.001)
CLOSES = [10.0, 11.0, 12.0, 11.0, 9.0, 8.0, 9.5, 10.0]
LIMIT, N_RUNGS, IS_CAREFUL = 10, 2, True


def bars():
    close = np.array(CLOSES)
    return bt.Bars(open=close, high=close + 0.5, low=close - 0.5, close=close)


def below(bar, n):
    return bar.close - 0.5 * n


def place_two(account, price):
    account.buy(units=1, limit=price)
    account.sell(share_of_position=0.5, limit=price * 2)


@bt.on_bar(mean=lines.sma(lines.close, 2), above=lines.close > lines.sma(lines.close, 2), state={"seen": 0, "armed": False})
def ladder(bar, account, state, p):
    """Rungs below the close."""
    state.seen += 1
    state.armed = bar.above
    if account.is_flat:
        for rung in range(N_RUNGS):
            account.buy(units=LIMIT * (rung + 1), limit=below(bar, rung), valid_bars=2, stop_loss=bt.below_entry(p.risk))
    elif bar.close > bar.mean:
        account.close()
    else:
        place_two(account, bar.previous(1).close)


def stepping(strategy=ladder, params=None, **options):
    options = {"costs": COSTS, "execution": bt.Execution(start=2, periods_per_year=252.0)} | options
    return bt.step_through(strategy, bars(), {"risk": 0.2} if params is None else params, **options)


def test_every_bar_is_a_step_and_what_happened_stays_readable():
    steps = list(stepping())
    assert [step.bar for step in steps] == [2, 3, 4, 5, 6, 7]
    assert [step.state["seen"] for step in steps] == [1, 2, 3, 4, 5, 6]
    assert [step.state_before["seen"] for step in steps] == [0, 1, 2, 3, 4, 5]
    assert [step.state["armed"] for step in steps] == [True, False, False, False, True, True]
    first = steps[0]
    assert (first.open, first.high, first.low, first.close) == (12.0, 12.5, 11.5, 12.0)
    assert first.account["is_flat"]
    assert first.account["stop_loss"] == -math.inf
    assert [str(call) for call in first.orders] == [
        "buy(units=10, limit=12, valid_bars=2, stop_loss=below_entry(0.2))",
        "buy(units=20, limit=11.5, valid_bars=2, stop_loss=below_entry(0.2))",
    ]
    assert len(first.resting) == 2
    assert steps[1].account["units"] == 30.0
    assert steps[1].fills["units"].tolist() == [10.0, 20.0]
    text = str(steps[1])
    assert text.splitlines()[0] == "bar 3  open=11, high=11.5, low=10.5, close=11  equity=99999.67"
    assert "    filled   bought 10 at 11 (open)" in text
    assert "    state    seen: 1 -> 2, armed: True -> False" in text
    assert f"called   buy(units=1, limit=12)  (line {place_two.__code__.co_firstlineno + 1})" in text


def test_the_result_is_that_of_a_run(backend):
    run = bt.run(bars(), ladder, {"risk": 0.2}, costs=COSTS, execution=bt.Execution(start=2, periods_per_year=252.0))
    stepped = stepping()
    assert stepped.n_bars == 0
    equity = [step.equity for step in stepped]
    assert stepped.n_bars == 6
    assert repr(stepped) == f"<step_through: 6 bars, {len(run.fills)} fills, {len(stepped.orders)} orders>"
    assert equity == stepped.equity.tolist() == run.equity.tolist()
    assert stepped.units.tolist() == run.units.tolist()
    assert stepped.fills.tobytes() == run.fills.tobytes()
    assert stepped.sums.tobytes() == run.sums.tobytes()


def test_a_debugger_sees_the_lines_of_the_file(capsys):
    @bt.on_bar
    def printing(bar, account, state, p):
        x = 1 / (bar.close - bar.close)
        print("at", bar.index, x)

    line = printing.function.__code__.co_firstlineno + 3
    seen = []

    def trace(frame, event, argument):
        if frame.f_code.co_name == "printing" and frame.f_code.co_filename == __file__:
            seen.append((event, frame.f_lineno, dict(frame.f_locals)))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        next(stepping(printing, {}))
    finally:
        sys.settrace(before)
    assert capsys.readouterr().out == "at 2.0 inf\n"
    locals_there = next(names for event, at, names in seen if event == "line" and at == line)
    assert locals_there["x"] == math.inf
    assert locals_there["account"].is_flat is True


def test_numbers_are_floats_and_do_not_raise(capsys):
    @bt.on_bar(state={"n": 1})
    def numbers(bar, account, state, p):
        zero = bar.close - bar.close
        state.n = 1 / zero
        state.n /= p.whole
        print(zero / zero, -1 / zero, math.sqrt(zero - 1), p.whole / 2, LIMIT, -0, bar.index)

    step = next(stepping(numbers, {"whole": 3}))
    assert step.state == {"n": math.inf}
    assert capsys.readouterr().out == "nan -inf nan 1.5 10 0 2.0\n"


@pytest.mark.parametrize(
    ("attribute", "message"),
    [("unitz", "account has no 'unitz' (known: units, side, "), ("entry", "account has no 'entry' (known: ")],
)
def test_a_debugger_may_ask_for_names_that_are_not_there(attribute, message):
    step = next(stepping())
    assert step.account["units"] == 0
    from backtest.machine.views import AccountView

    view = AccountView([0.0] * 21, [True, False, False], {})
    with pytest.raises(bt.InputError) as error:
        getattr(view, attribute)
    assert str(error.value).startswith(message)
    assert not hasattr(view, "__len__")


def test_an_order_that_cannot_be_raises_at_its_bar():
    @bt.on_bar
    def faulty(bar, account, state, p):
        account.buy(units=1, limit=bar.close - 9)

    steps = stepping(faulty, {})
    assert [next(steps).bar, next(steps).bar] == [2, 3]
    with pytest.raises(bt.InputError, match=r"limit must be > 0, got 0\.0: account\.buy\(.*bar 4"):
        next(steps)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ([1], r"params must be a mapping of names to values, got \[1\]"),
        ({}, "parameter 'risk' must have a value, got none"),
        ({"risk": 0.1, "rusk": 2}, "parameter 'rusk' is not known .*did you mean 'risk'"),
    ],
)
def test_arguments_are_checked(params, message):
    with pytest.raises(bt.InputError, match=message):
        stepping(params=params)
    with pytest.raises(bt.InputError, match="strategy must be a BarStrategy, got 3"):
        stepping(3)


def test_a_window_is_a_part(backend):
    options = {"window": slice(4, 7)}
    run = bt.run(bars(), ladder, {"risk": 0.2}, costs=COSTS, execution=bt.Execution(periods_per_year=252.0), **options)
    steps = stepping(execution=bt.Execution(periods_per_year=252.0), **options)
    assert [step.bar for step in steps] == [4, 5, 6]
    assert steps.equity.tolist() == run.equity.tolist()


def test_a_number_that_has_changed_since_is_refused(monkeypatch):
    monkeypatch.setitem(ladder.function.__globals__, "LIMIT", 11)
    with pytest.raises(bt.InputError, match="ladder was decorated with LIMIT = 10, which is now 11; decorate it again"):
        stepping()


def sized(units):
    def helper(bar, n=units):
        return n if bar.close > 0 else units

    @bt.on_bar
    def inner(bar, account, state, p):
        if account.is_flat:
            account.buy(units=helper(bar) + units)
        else:
            account.sell(share_of_position=0.5)

    return inner


def test_constants_and_helpers_of_a_function_around():
    steps = list(stepping(sized(3), {}))
    assert [fill["units"] for step in steps for fill in step.fills] == [6.0, -3.0, -1.5, -0.75, -0.375]
    assert steps[0].orders[0].text == "buy(units=6)"


def test_a_bust_ends_the_calls(backend):
    close = np.array([10.0, 10.0, 10.0, 30.0, 10.0, 10.0])
    wild = bt.Bars(open=close, high=close, low=close, close=close)

    @bt.on_bar(state={"n": 0})
    def short(bar, account, state, p):
        state.n += 1
        if account.is_flat:
            account.sell(share=1.0)
        account.buy(units=1, limit=5.0)

    options = {"costs": COSTS, "execution": bt.Execution(periods_per_year=252.0)}
    steps = bt.step_through(short, wild, **options)
    seen = list(steps)
    assert [step.state["n"] for step in seen] == [1, 2, 3, 3, 3, 3]
    assert [step.account == {} for step in seen] == [False, False, False, True, True, True]
    assert [step.resting for step in seen][3:] == [[], [], []]
    assert seen[-1].equity == 0.0
    run = bt.run(wild, short, **options)
    assert steps.equity.tolist() == run.equity.tolist()
    assert steps.fills.tobytes() == run.fills.tobytes()
    assert steps.sums.tobytes() == run.sums.tobytes()


@pytest.mark.filterwarnings("ignore:.* could not be paid for:backtest.NumericsWarning")
@pytest.mark.parametrize("name", test_machine_strategies.NAMES)
def test_worked_strategies_step_as_they_run(name):
    function, _ = test_machine_strategies.strategy(name)
    params, sample = test_machine_strategies.PARAMS[name][1], bt.Bars.sample("GOOG")[:300]
    execution = bt.Execution(intrabar="nearest", leverage=5.0, periods_per_year=252.0)
    options = {"costs": bt.Costs(fee_rate=0.001, funding=0.0001), "execution": execution}
    run = bt.run(sample, function, params, **options)
    steps = bt.step_through(function, sample, params, **options)
    assert [step.time for step in steps] == sample.times()[run.start :].tolist()
    assert len(run.fills) > 3
    assert steps.fills.tobytes() == run.fills.tobytes()
    assert steps.equity.tobytes() == run.equity.to_numpy().tobytes()
    assert steps.orders.tobytes() == run._replay.orders.tobytes()
    assert steps.sums.tobytes() == run.sums.tobytes()


SMALL, FEW = np.float32(0.1), np.int64(3)


def test_what_is_printed_is_as_written(capsys):
    @bt.on_bar
    def printing(bar, account, state, p):
        print("-" * FEW, LIMIT * "=", round(bar.close, 1), f"{bar.close:.{2}f}", 1 / (bar.close - bar.close))

    next(stepping(printing, {}))
    assert capsys.readouterr().out == "--- ========== 12.0 12.00 inf\n"


def test_numbers_of_numpy_in_the_module_are_floats():
    @bt.on_bar
    def sizes(bar, account, state, p):
        account.buy(units=bar.close * SMALL * FEW + LIMIT / 3, stop=bar.close * 2)

    run = bt.run(bars(), sizes, costs=COSTS, execution=bt.Execution(start=2, periods_per_year=252.0))
    steps = stepping(sizes, {})
    assert next(steps).orders[0].numbers[0] == 12.0 * float(SMALL) * 3.0 + 10 / 3
    assert len(list(steps)) == 5
    assert steps.orders.tobytes() == run._replay.orders.tobytes()


@bt.on_bar
def takes_half_once(bar, account, state, p):
    if account.is_flat:
        account.buy(units=10)
    elif bar.index == 6:
        account.close()
    else:
        account.sell(share_of_position=0.5, once=True)


def test_an_order_that_once_holds_back_is_said_not_to_be_placed():
    close = np.linspace(10.0, 12.0, 12)
    flat = bt.Bars(open=close, high=close, low=close, close=close)
    execution = bt.Execution(start=2, periods_per_year=252.0)
    stepping = bt.step_through(takes_half_once, flat, costs=COSTS, execution=execution)
    steps = list(stepping)
    sells = [(step.bar, call.is_placed) for step in steps for call in step.orders if call.text.startswith("sell")]
    assert sells == [(3, True), (4, False), (5, False), (8, True), (9, False), (10, False), (11, False)]
    held_back = steps[2].orders[0]
    assert str(held_back) == "sell(share_of_position=0.5, once=True), not placed: once"
    line = held_back.site.line
    assert f"    called   sell(share_of_position=0.5, once=True)  (line {line}), not placed: once" in str(steps[2]).splitlines()
    assert f"    called   sell(share_of_position=0.5, once=True)  (line {line})" in str(steps[1]).splitlines()
    assert len(stepping.orders) == sum(call.is_placed for step in steps for call in step.orders)


def sqrt(x):
    return x * 0.25


@bt.on_bar
def buys_by_a_helper(bar, account, state, p):
    if account.is_flat:
        account.buy(units=sqrt(40.0))


def test_a_helper_called_sqrt_is_the_users_own():
    steps = bt.step_through(buys_by_a_helper, bt.Bars.sample("GOOG")[:10], costs=bt.Costs.zero())
    list(steps)
    assert steps.fills["units"][0] == 10.0

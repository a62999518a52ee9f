"""Levels that are touched, orders that cannot be paid, and fractions that were meant as percents."""

import warnings
from decimal import Decimal

import numpy as np
import pytest

import backtest as bt
from backtest import lines, rules
from backtest.costs import PROFILES

FREE = bt.Costs.zero()
QUIET = (100.0, 101.0, 99.0, 100.0)
CENT = Decimal("0.01")
#: Prices in cents, and distances in percent, for which the level is a whole number of cents too.
PRICES = [Decimal(cents) / 100 for cents in (*range(100, 4000, 100), *range(110, 990, 10), *range(12300, 20000, 700))]
PERCENTS = ("0.5", "1", "2", "3", "5", "7", "10", "25")
#: Column of the level, the reason of the exit, and on which side of the entry the level of a long lies.
KINDS = {"take_profit": ("target", 1), "stop_loss": ("stop", -1), "trailing_stop": ("trail", -1)}


def bars_of(rows):
    open_, high, low, close = np.array(rows, dtype=float).T
    return bt.Bars(open=open_, high=high, low=low, close=close)


def at(n, *bars):
    mask = np.zeros(n, dtype=bool)
    mask[list(bars)] = True
    return mask


def run_of(bars, *signals, costs=FREE, levels=None, **execution):
    return bt.run(
        bars,
        rules.from_arrays(*signals, **(levels or {})),
        costs=costs,
        execution=bt.Execution(**({"periods_per_year": 252.0, "start_cash": 1000.0} | execution)),
    )


# --- touch -------------------------------------------------------------------------------------------------------------


def touching(kind, side, percent, where, wait):
    """Trades whose level is touched exactly in decimal, one after the other: bars, entries, exits, levels, float misses."""
    toward = KINDS[kind][1] * side
    rows, entries, exits, levels, n_missed = [], [], [], [], 0
    for price in PRICES:
        level = price * (100 + toward * Decimal(percent)) / 100
        if level % CENT:
            continue
        p, touched = float(price), float(level)
        entries.append(len(rows))
        rows += [(p, p, p, p)] * (2 + wait)
        extremes = (max(p, touched), min(p, touched))
        rows.append((touched if where == "open" else p, *extremes, touched if where == "open" else p))
        exits.append(len(rows) - 1)  # where nothing was touched, the next open ends the trade
        rows.append((p, p, p, p))
        levels.append(touched)
        evaluated = p * (1 + toward * float(percent) / 100)
        n_missed += evaluated > touched if toward > 0 else evaluated < touched
    return bars_of(rows), at(len(rows), *entries), at(len(rows), *exits), levels, n_missed


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("where", ["inside", "open"])
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("kind", KINDS)
def test_a_level_that_is_touched_exactly_in_decimal_is_hit(kind, side, where):
    n_trades = n_missed = 0
    for percent, wait in zip(PERCENTS, (0, 0, 0, 45, 0, 17, 0, 0), strict=True):  # some levels are looked for by blocks of bars
        bars, enter, leave, levels, missed = touching(kind, side, percent, where, wait)
        signals = (enter, leave) if side > 0 else (None, None, enter, leave)
        run = run_of(bars, *signals, levels={kind: float(percent) / 100})
        trades = run.trades
        assert trades["exit_reason"].tolist() == [KINDS[kind][0]] * len(levels)
        assert (run.fills["moment"][1::2] == (0 if where == "open" else 1)).all()
        bar = trades["exit_bar"].to_numpy()
        assert (trades["exit_price"] >= bars.low[bar]).all()
        assert (trades["exit_price"] <= bars.high[bar]).all()
        np.testing.assert_allclose(trades["exit_price"], levels, rtol=2.0**-50)
        assert run.sums["n_trades"][0] == len(levels)
        n_trades, n_missed = n_trades + len(levels), n_missed + missed
    assert n_trades > 400
    assert 0.05 < n_missed / n_trades < 0.35, "rounding must matter, or this shows nothing"


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("side", [1, -1])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("miss", "is_hit"), [(0.0, True), (2.0**-51, True), (2.0**-48, False), (1e-9, False)])
def test_a_price_that_does_not_reach_the_level_is_no_touch(kind, side, miss, is_hit):
    reason, toward = KINDS[kind]
    level = 64.0 * (1 + 0.25 * toward * side)
    near = level * (1 - toward * side * miss)
    bars = bars_of([(64.0,) * 4] * 3 + [(64.0, max(64.0, near), min(64.0, near), 64.0), (64.0,) * 4])
    enter, leave = at(5, 0), at(5, 3)
    run = run_of(bars, *((enter, leave) if side > 0 else (None, None, enter, leave)), levels={kind: 0.25})
    assert run.trades["exit_reason"].tolist() == [reason if is_hit else "signal"]
    if is_hit:
        assert run.trades["exit_price"].tolist() == [near]


@pytest.mark.usefixtures("backend")
def test_both_touched_within_rounding_is_ambiguous():
    """1.1 x (1 + 0.1) is above 1.21 as evaluated, 1.1 x (1 - 0.1) above 0.99."""
    assert 1.1 * (1 + 0.1) > 1.21
    bars = bars_of([(1.1,) * 4, (1.1,) * 4, (1.1, 1.21, 0.99, 1.0), (1.0,) * 4])
    for intrabar, reason, price in (("pessimistic", "stop", 1.1 * 0.9), ("optimistic", "target", 1.21)):
        run = run_of(bars, at(4, 0), levels={"stop_loss": 0.1, "take_profit": 0.1}, intrabar=intrabar)
        trade = run.trades.iloc[0]
        assert (trade.exit_reason, trade.ambiguous, trade.exit_price) == (reason, True, price)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("profile", [name for name in PROFILES if name])
def test_profiles_keep_the_other_tools_comparison(profile):
    assert PROFILES[profile].conventions.touches_exactly
    bars = bars_of([(1.1,) * 4, (1.1,) * 4, (1.1,) * 4, (1.1, 1.21, 1.1, 1.1), (1.1,) * 4])
    levels = {"take_profit": 0.1}
    assert len(run_of(bars, at(5, 1), levels=levels, profile=profile).open_positions) == 1
    assert run_of(bars, at(5, 1), levels=levels).trades["exit_reason"].tolist() == ["target"]


@pytest.mark.usefixtures("backend")
def test_the_trail_at_the_exit_is_in_the_trade():
    bars = bars_of([QUIET, (100, 111, 99, 110), (110, 121, 105, 120), (115, 116, 109, 112), (112, 113, 107, 108)])
    long = run_of(bars, at(5, 0), levels={"trailing_stop": 0.1}).trades.iloc[0]
    assert (long.exit_bar, long.exit_reason, long.trail) == (4, "trail", 120 * (1 - 0.1))
    signal = run_of(bars, at(5, 0), at(5, 1), levels={"trailing_stop": 0.1}).trades.iloc[0]
    assert (signal.exit_bar, signal.exit_reason, signal.trail) == (2, "signal", 110 * (1 - 0.1))
    close = run_of(bars, at(5, 0), at(5, 2), levels={"trailing_stop": 0.1}, fill="close").trades.iloc[0]
    assert (close.exit_bar, close.trail) == (2, 120 * (1 - 0.1))  # a close that was reached counts
    gap = run_of(bars_of([QUIET, QUIET, (80, 81, 79, 80)]), at(3, 0), levels={"trailing_stop": 0.1}).trades.iloc[0]
    assert (gap.exit_price, gap.trail) == (80, 100 * (1 - 0.1))
    short = run_of(bars, None, None, at(5, 0), levels={"trailing_stop": 0.25}, close_at_end=True).trades.iloc[0]
    assert (short.exit_reason, short.trail) == ("end", 100 * (1 + 0.25))
    none = run_of(bars, at(5, 0), at(5, 2), levels={"stop_loss": 0.5}).trades.iloc[0]
    assert np.isnan(none.trail)


@pytest.mark.usefixtures("backend")
def test_a_foreign_ledger_may_say_its_trail():
    ledger = {"fill_bar": [0, 2], "units": [1.0, -1.0], "price": [100.0, 95.0], "trail": [np.nan, 94.5], "stop": [90.0, -np.nan]}
    table = bt.track_trades(ledger, close=[100.0, 99.0, 95.0]).table
    assert table[["stop", "trail"]].to_numpy().tolist() == [[90.0, 94.5]]
    del ledger["trail"]
    assert np.isnan(bt.track_trades(ledger, close=[100.0, 99.0, 95.0]).table["trail"].iloc[0])


# --- orders that cannot be paid ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("costs", "execution"),
    [
        (bt.Costs(fee_rate=0, fixed=1000), {}),
        (bt.Costs(fee_rate=0, fixed=5000), {"fill": "close"}),
        (bt.Costs(fee_rate=0.1, minimum=1000), {"sides": "short"}),
        (FREE, {"whole_units": True, "start_cash": 99.0}),
        (FREE, {"whole_units": True, "size_type": "value", "size": 50.0}),
        (FREE, {"whole_units": True, "size": 0.01}),
    ],
)
def test_an_order_that_cannot_be_paid_is_listed_and_said_once(costs, execution):
    bars, enter = bars_of([QUIET] * 5), at(5, 1, 3)
    with pytest.warns(bt.NumericsWarning) as caught:
        run = run_of(bars, enter, None, enter if execution.get("sides") == "short" else None, None, costs=costs, **execution)
    assert [str(each.message) for each in caught] == [
        "2 of 2 entries could not be paid for, or were rounded to 0 units; the first was decided at the close of bar 1 (run."
        "orders lists them as unaffordable)"
    ]
    orders = run.orders
    assert (run.n_unaffordable, len(run.trades)) == (2, 0)
    side = "sell" if execution.get("sides") == "short" else "buy"
    assert orders[["decision_bar", "fill_bar", "side", "reason", "status"]].to_numpy().tolist() == [
        [1, -1, side, "entry", "unaffordable"],
        [3, -1, side, "entry", "unaffordable"],
    ]
    assert orders[["time", "units", "price", "value", "cost", "position_after", "cash_after"]].isna().all(axis=None)
    assert run.equity.tolist() == [run.metric_inputs.start_cash] * 5


@pytest.mark.usefixtures("backend")
def test_orders_are_in_order_whatever_became_of_them():
    """The short that a reversal asks for costs more than is left, the longs before and after it do not, the last one waits."""
    bars = bars_of([QUIET, QUIET, (50, 51, 49, 50), (40, 41, 39, 40), (4, 5, 3, 4), (4, 5, 3, 4)])
    with pytest.warns(bt.NumericsWarning, match=r"1 of 3 entries could not be paid for.*close of bar 1 "):
        run = run_of(
            bars, at(6, 0, 3), None, at(6, 1, 5), whole_units=True, start_cash=190.0, costs=bt.Costs(fee_rate=0, fixed=45)
        )
    assert run.orders[["decision_bar", "fill_bar", "side", "reason", "status"]].to_numpy().tolist() == [
        [0, 1, "buy", "entry", "filled"],
        [1, 2, "sell", "reverse", "filled"],
        [1, -1, "sell", "entry", "unaffordable"],
        [3, 4, "buy", "entry", "filled"],
        [5, -1, "sell", "reverse", "unfilled"],
        [5, -1, "sell", "entry", "unfilled"],
    ]


@pytest.mark.usefixtures("backend")
def test_nothing_is_said_where_all_is_paid_and_a_batch_is_as_it_was():
    bars = bars_of([QUIET] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = run_of(bars, at(6, 1), at(6, 3))
        assert run.n_unaffordable == 0
        table = bt.evaluate(
            bars,
            rules.from_arrays(np.ones((6, 2), bool)),
            costs=bt.Costs(fee_rate=0, fixed=1e6),
            execution=bt.Execution(periods_per_year=252.0),
            metrics=["total_return", "n_trades"],
        )
    assert table.to_numpy().tolist() == [[0.0, 0.0], [0.0, 0.0]]


# --- fractions -----------------------------------------------------------------------------------------------------------


MEAN = lines.sma(lines.close, 5)
UP, DOWN = rules.crosses_above(lines.close, MEAN), rules.crosses_below(lines.close, MEAN)
#: Entries, what is refused for them.
SIDES = {
    "long": ({"enter_long": UP}, {"stop_loss", "trailing_stop"}),
    "short": ({"enter_short": DOWN}, {"take_profit"}),
    "both": ({"enter_long": UP, "enter_short": DOWN}, {"stop_loss", "trailing_stop", "take_profit"}),
}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("level", KINDS)
def test_a_level_of_all_of_the_price_is_refused_where_it_can_never_be_touched(side, level):
    bars = bt.Bars.sample()
    entries, refused = SIDES[side]
    execution = bt.Execution(periods_per_year=252.0)
    plain, given = rules.Strategy(**entries, **{level: 5}), rules.Strategy(**entries, **{level: bt.param("x", 0.05)})
    whole = rules.Strategy(**entries, **{level: bt.param("x", 0.05) * 100.0})
    calls = {
        "number": lambda: bt.run(bars, plain, costs=FREE),
        "value": lambda: bt.run(bars, given, {"x": 1}, costs=FREE),
        "choice": lambda: bt.evaluate(bars, given, {"x": [None, 0.05, 1.5]}, costs=FREE),
        "range": lambda: bt.optimize(bars, given, {"x": (0.01, 2.0)}, costs=FREE, n_trials=3, execution=execution),
        "steps": lambda: bt.optimize(bars, given, {"x": [0.5, 1.0]}, costs=FREE, execution=execution),
        "computed": lambda: bt.run(bars, whole, {"x": 0.05}, costs=FREE),
    }
    for call in calls.values():
        if level not in refused:
            call()
            continue
        with pytest.raises(
            bt.InputError,
            match=rf"{level}.* must be < 1 where (long|short)s are traded "
            r"\(a fraction: 0.05 for 5 %\), got (5\.0|1|1\.0|1\.5|2\.0)$",
        ):
            call()


def test_a_side_that_is_switched_off_does_not_count():
    strategy = rules.Strategy(**SIDES["both"][0], take_profit=1.5)
    bt.run(bt.Bars.sample(), strategy, costs=FREE, execution=bt.Execution(sides="long"))
    with pytest.raises(bt.InputError, match="take_profit must be < 1 where shorts are traded"):
        bt.run(bt.Bars.sample(), strategy, costs=FREE, execution=bt.Execution(sides="short"))


def test_the_range_is_refused_at_the_door_and_by_its_end():
    evaluated = []

    @bt.line("n")
    def seen(bars, n):
        evaluated.append(n)
        return bars.close

    strategy = rules.Strategy(enter_long=seen(3) > 0, stop_loss=bt.param("stop"))
    with pytest.raises(bt.InputError, match=r"stop_loss = stop must be < 1 where longs are traded .*, got 1\.5"):
        bt.optimize(bt.Bars.sample(), strategy, bt.Space({"stop": (0.5, 1.5)}, where="stop < 1"), costs=FREE)
    assert not evaluated


@pytest.mark.usefixtures("backend")
def test_a_line_that_cannot_be_touched_is_counted_in_one_warning():
    close = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 9, 10])
    bars = bt.Bars(open=close, high=close, low=close, close=close)
    strategy = rules.Strategy(enter_long=lines.close > 0, stop_loss=bt.param("k") / lines.close)
    with pytest.warns(bt.NumericsWarning) as caught:
        run = bt.run(bars, strategy, {"k": 3.0}, costs=FREE, execution=bt.Execution(periods_per_year=252.0))
    assert [str(each.message) for each in caught] == [
        "stop_loss = k / close (k = 3.0) is >= 1 on 3 of 10 bars (first: row 0): a level that is never touched"
    ]
    assert run.open_positions["stop"].tolist() == [2.0 * (1 - 3.0)]
    with pytest.warns(bt.NumericsWarning) as caught:
        bt.evaluate(bars, strategy, {"k": [0.5, 2.0, 3.0]}, costs=FREE, execution=bt.Execution(periods_per_year=252.0))
    assert [str(each.message) for each in caught] == [
        "stop_loss = k / close (k = 2.0) is >= 1 on 2 of 10 bars (first: row 0): a level that is never touched; so are 3 values "
        "of 1 other lines"
    ]
    short = rules.Strategy(enter_short=lines.close > 0, stop_loss=bt.param("k") / lines.close)
    bt.run(bars, short, {"k": 3.0}, costs=FREE, execution=bt.Execution(periods_per_year=252.0))


@pytest.mark.parametrize(
    "make",
    [
        lambda: bt.Costs(fee_rate=1),
        lambda: bt.Costs(fee_rate=5.0),
        lambda: bt.Costs(fee_rate=0.0, slippage=2),
        lambda: bt.Levels(
            close=[0.01], high=[0.02], low=[-0.01], high_pred=[0.01], low_pred=[-0.005], position=[1.0], fee_rate=5.0
        ),
    ],
)
def test_fees_in_percent_are_refused(make):
    with pytest.raises(bt.InputError, match=r"(fee_rate|slippage) must be < 1 \(a fraction: 0\.05 for 5 %\), got"):
        make()

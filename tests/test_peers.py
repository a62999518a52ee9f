"""Live parity with other libraries (extra ``peers``): two implementations that nobody tuned to each other."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import random_bars, random_signals

import backtest as bt
from backtest import rules

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peers' own warnings are theirs

N_BARS, CASH = 250, 10_000.0
DAYS = pd.date_range("2001-01-01", periods=N_BARS, freq="B")


def pick(rng, *values):
    return values[int(rng.integers(len(values)))]


def assert_same_numbers(mine, theirs, tolerance):
    """Every key of theirs that is a number or a duration, in mine to a relative tolerance; undefined and infinite alike."""
    names = [name for name, value in theirs.items() if not name.startswith("_")]
    assert names == [name for name in mine.index if not name.startswith("_")]
    for name in names:
        ours, other = mine[name], theirs[name]
        if pd.isna(other):
            assert pd.isna(ours), (name, ours, other)
        elif isinstance(other, (pd.Timestamp, pd.Timedelta)):
            gap = abs(ours - other)
            assert gap <= pd.Timedelta(microseconds=1) if isinstance(other, pd.Timedelta) else ours == other, (name, ours, other)
        else:
            assert ours == pytest.approx(other, rel=tolerance, abs=tolerance), name
    return len(names)


# vectorbt


@pytest.fixture(scope="module")
def vbt():
    return pytest.importorskip("vectorbt", reason="extra `peers` is not installed")


def random_case(rng, density, sides):
    """A path that doubles, halves or goes nowhere, signals of one density (conflicts included), and costs."""
    drift = rng.choice([-np.log(2), 0.0, np.log(2)]) / N_BARS
    close = 100 * np.exp(np.cumsum(rng.normal(drift, rng.choice([0.005, 0.02, 0.05]), N_BARS)))
    signals = [rng.random(N_BARS) < density for _ in range(4)]
    if sides == "long":
        signals[2:] = [None, None]
    return close, signals, float(rng.choice([0.0, 0.001, 0.01])), float(rng.choice([0.0, 0.0005, 0.005]))


def of_vectorbt(vbt, close, signals, fee_rate, slippage):
    entries, exits, short_entries, short_exits = (None if each is None else pd.Series(each) for each in signals)
    sides = (
        {"direction": "longonly"}
        if short_entries is None
        else {"short_entries": short_entries, "short_exits": short_exits, "upon_opposite_entry": "reverse"}
    )
    return vbt.Portfolio.from_signals(
        pd.Series(close), entries, exits, size=np.inf, fees=fee_rate, slippage=slippage, init_cash=CASH, freq="1D", **sides
    )


def assert_same_trades(run, theirs):
    records = theirs.trades.records
    records, trades = records[records["status"] == 1], run.trades
    assert run.stats["n_trades"] == len(trades) == len(records)
    for mine, other in (
        ("entry_bar", "entry_idx"),
        ("exit_bar", "exit_idx"),
        ("entry_price", "entry_price"),
        ("exit_price", "exit_price"),
        ("units", "size"),
        ("return", "return"),
    ):
        ours = trades[mine].abs() if mine == "units" else trades[mine]
        np.testing.assert_allclose(ours, records[other], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(trades["net_profit"], records["pnl"], rtol=1e-9, atol=1e-9 * CASH)


def test_vectorbt_on_random_signals(vbt):
    """Same-bar close, all-in, fees and slippage: returns, and every trade's bars, prices and profit, to 1e-9."""
    rng = np.random.default_rng(20)
    n_cases = n_trades = n_conflicts = 0
    while n_cases < 300:
        sides = ("long", "both")[n_cases % 2]
        close, signals, fee_rate, slippage = random_case(rng, (0.01, 0.1, 0.5)[n_cases // 2 % 3], sides)
        theirs = of_vectorbt(vbt, close, signals, fee_rate, slippage)
        value = theirs.value().to_numpy()
        if not (value > 0).all():
            continue  # a bust means different things to each
        bars = bt.Bars(open=close, high=close, low=close, close=close)
        run = bt.run(
            bars,
            rules.from_arrays(*signals),
            costs=bt.Costs(fee_rate=fee_rate, slippage=slippage),
            execution=bt.Execution(fill="close", start_cash=CASH, sides=sides, periods_per_year=365.0),
        )
        np.testing.assert_allclose(run.equity, value, rtol=1e-9)
        assert run.stats["total_return"] == pytest.approx(theirs.total_return(), rel=1e-9, abs=1e-12)
        assert_same_trades(run, theirs)
        n_cases += 1
        n_trades += len(run.trades)
        n_conflicts += int((signals[0] & signals[1]).sum())
    assert n_trades >= 5000
    assert n_conflicts >= 1000


def stops_of_vectorbt(rng):
    """A stop or a trail or neither, a target or none: as the strategy has them, and as vectorbt does."""
    stop = None if rng.random() < 0.25 else pick(rng, 0.005, 0.02, 0.05, 0.2)
    target = None if rng.random() < 0.25 else pick(rng, 0.01, 0.03, 0.1)
    trails = bool(rng.random() < 0.5)
    ours = {"trailing_stop" if trails else "stop_loss": stop, "take_profit": target}
    theirs = {"sl_stop": np.nan if stop is None else stop, "sl_trail": trails, "tp_stop": np.nan if target is None else target}
    return ours, theirs


def test_vectorbt_profile_on_random_cases_with_stops(vbt):
    """1,000 cases: densities 0.5 % to 50 %, fees, slippage, stops, trails, targets, gaps, each side and both, to 1e-9."""
    rng = np.random.default_rng(4)
    n_cases, reasons, n_stats = 0, {}, 0
    while n_cases < 1000:
        density, sides = (0.005, 0.02, 0.1, 0.5)[n_cases % 4], ("long", "both", "short", "both")[n_cases // 4 % 4]
        bars = random_bars(rng, N_BARS, pick(rng, 0.005, 0.02, 0.05))
        signals = random_signals(rng, N_BARS, density)
        levels, stops = stops_of_vectorbt(rng)
        fee_rate, slippage = pick(rng, 0.0, 0.001, 0.01), pick(rng, 0.0, 0.0005, 0.005)
        entries, exits, short_entries, short_exits = signals
        arrays = {
            "both": {"entries": entries, "exits": exits, "short_entries": short_entries, "short_exits": short_exits},
            "long": {"entries": entries, "exits": exits, "direction": "longonly"},
            "short": {"entries": short_entries, "exits": short_exits, "direction": "shortonly"},
        }[sides]
        theirs = vbt.Portfolio.from_signals(
            pd.Series(bars.close, index=DAYS),
            **arrays,
            **stops,
            open=bars.open,
            high=bars.high,
            low=bars.low,
            fees=fee_rate,
            slippage=slippage,
            init_cash=CASH,
            freq="1D",
        )
        value = theirs.value().to_numpy()
        if not (value > 0).all():
            continue
        dated = bt.Bars(open=bars.open, high=bars.high, low=bars.low, close=bars.close, index=DAYS)
        run = bt.run(
            dated,
            rules.from_arrays(*signals, **levels),
            costs=bt.Costs(fee_rate=fee_rate, slippage=slippage),
            execution=bt.Execution(profile="vectorbt", start_cash=CASH, sides=sides),
        )
        np.testing.assert_allclose(run.equity, value, rtol=1e-9)
        assert run.stats["total_return"] == pytest.approx(theirs.total_return(), rel=1e-9, abs=1e-12)
        assert_same_trades(run, theirs)
        if n_cases % 10 == 0:
            n_stats += assert_same_numbers(run.stats.to_vectorbt("1D"), theirs.stats(), 1e-8)
            assert_same_frames(run.stats.to_vectorbt("1D")["_trades"], theirs.trades.records_readable, 1e-8)
        for reason in run.trades["exit_reason"]:
            reasons[reason] = reasons.get(reason, 0) + 1
        n_cases += 1
    assert all(reasons[reason] >= 500 for reason in ("signal", "reverse", "stop", "trail", "target")), reasons
    assert n_stats >= 100 * 27


def assert_same_frames(mine, theirs, tolerance):
    """Equal columns in equal order, and equal values."""
    assert list(mine.columns) == list(theirs.columns)
    assert len(mine) == len(theirs)
    for name in theirs.columns:
        ours, other = mine[name], theirs[name]
        if pd.api.types.is_numeric_dtype(ours) and name not in ("Column", "Tag"):
            np.testing.assert_allclose(ours, other.astype(float), rtol=tolerance, atol=tolerance, err_msg=name)
        elif name not in ("Column", "Tag"):
            assert ours.tolist() == other.tolist(), name


def test_vectorbt_shares_of_equity_and_fixed_fees_on_one_side(vbt):
    """What from_signals can express on one side only."""
    rng = np.random.default_rng(5)
    for case in range(40):
        sides = ("long", "short")[case % 2]
        bars, signals = random_bars(rng, N_BARS, 0.02), random_signals(rng, N_BARS, 0.1)
        entries, exits = signals[:2] if sides == "long" else signals[2:]
        size, fixed = pick(rng, 1.0, 0.5, 0.25), 0.0
        if size == 1.0:
            fixed = 2.5
        theirs = vbt.Portfolio.from_signals(
            pd.Series(bars.close),
            entries,
            exits,
            direction=f"{sides}only",
            size=size,
            size_type="percent",
            fees=0.001,
            fixed_fees=fixed,
            init_cash=CASH,
            freq="1D",
        )
        if not (theirs.value() > 0).all():
            continue
        run = bt.run(
            bars,
            rules.from_arrays(*signals),
            costs=bt.Costs(fee_rate=0.001, fixed=fixed),
            execution=bt.Execution(profile="vectorbt", start_cash=CASH, sides=sides, size=size, periods_per_year=365.0),
        )
        np.testing.assert_allclose(run.equity, theirs.value(), rtol=1e-9)
        assert_same_trades(run, theirs)


# backtesting.py


@pytest.fixture(scope="module")
def backtesting():
    module = pytest.importorskip("backtesting", reason="extra `peers` is not installed")
    module.backtesting._tqdm = lambda bars, **_: bars  # no bar of progress per run
    return module


def strategy_of_backtesting(backtesting, signals, levels):
    """Our conflict rules, spoken in its language: close, then enter."""
    stop, target, max_bars = levels["stop_loss"], levels["take_profit"], levels["max_bars"]

    class Signals(backtesting.Strategy):
        def init(self):
            pass

        def enter(self, side):
            close = self.data.Close[-1]
            order = {} if stop is None else {"sl": close * (1 - side * stop)}
            order |= {} if target is None else {"tp": close * (1 + side * target)}
            (self.buy if side > 0 else self.sell)(**order)

        def next(self):
            bar = len(self.data) - 1
            enter_long, exit_long, enter_short, exit_short = (bool(signal[bar]) for signal in signals)
            if enter_long and exit_long:
                enter_long = exit_long = False
            if enter_short and exit_short:
                enter_short = exit_short = False
            if enter_long and enter_short:
                enter_long = enter_short = False
            if not self.position:
                if enter_long or enter_short:
                    self.enter(1 if enter_long else -1)
                return
            opposite, leave = (enter_short, exit_long) if self.position.is_long else (enter_long, exit_short)
            is_over = max_bars is not None and bar - self.trades[0].entry_bar + 1 >= max_bars
            if opposite:
                side = -1 if self.position.is_long else 1
                self.position.close()
                self.enter(side)
            elif leave or is_over:
                self.position.close()

    return Signals


def as_floats(column):
    return column.dt.total_seconds() if column.dtype.kind == "m" else column.astype(float)


def compare_with_backtesting(run, theirs):
    """Equity at every bar, every trade, every key."""
    mine = run.stats.to_backtesting()
    np.testing.assert_allclose(mine["_equity_curve"]["Equity"], theirs["_equity_curve"]["Equity"], rtol=1e-9, atol=1e-9 * CASH)
    named = [name for name in theirs["_trades"].columns if not name.startswith(("Entry_", "Exit_"))]  # indicators' values
    assert_same_frames(
        mine["_trades"].fillna({"SL": -1.0, "TP": -1.0}),
        theirs["_trades"][named].astype({"SL": float, "TP": float}).fillna({"SL": -1.0, "TP": -1.0}),
        1e-8,
    )
    for column in ("DrawdownPct", "DrawdownDuration"):
        other = theirs["_equity_curve"][column]
        np.testing.assert_allclose(as_floats(mine["_equity_curve"][column]), as_floats(other), rtol=1e-8, atol=1e-8)
    return assert_same_numbers(mine, theirs, 1e-8)


PAIRS = [(fast, slow) for fast in (5, 10, 15, 20) for slow in (30, 40, 60, 90, 150)]


@pytest.mark.parametrize("finalize", [True, False])
@pytest.mark.parametrize("where", ["GOOG", "generated"])
def test_backtesting_sma_cross(backtesting, where, finalize):
    """Its own SmaCross on its own GOOG, and on generated bars: 20 pairs, both sides, every number to 1e-8."""
    from backtesting.lib import crossover
    from backtesting.test import GOOG, SMA

    class SmaCross(backtesting.Strategy):
        fast, slow = 10, 30

        def init(self):
            self.sma1 = self.I(SMA, self.data.Close, self.fast)
            self.sma2 = self.I(SMA, self.data.Close, self.slow)

        def next(self):
            if crossover(self.sma1, self.sma2):
                self.position.close()
                self.buy()
            elif crossover(self.sma2, self.sma1):
                self.position.close()
                self.sell()

    if where == "GOOG":
        frame = GOOG
    else:
        made = random_bars(np.random.default_rng(8), 1200, 0.02)
        frame = pd.DataFrame(
            {"Open": made.open, "High": made.high, "Low": made.low, "Close": made.close},
            index=pd.date_range("2010-01-01", periods=1200, freq="D"),
        )
    bars, n_keys, n_trades = bt.Bars.from_frame(frame), 0, 0
    for fast, slow in PAIRS:
        theirs = backtesting.Backtest(
            frame, SmaCross, cash=CASH, commission=0.001 * (slow > 50), spread=0.0005 * (fast > 10), finalize_trades=finalize
        ).run(fast=fast, slow=slow)
        run = bt.run(
            bars,
            bt.strategies.sma_cross,
            {"fast": fast, "slow": slow},
            costs=bt.Costs(fee_rate=0.001 * (slow > 50), slippage=0.0005 * (fast > 10)),
            execution=bt.Execution(profile="backtesting.py", start_cash=CASH, close_at_end=finalize),
        )
        assert run.start == slow
        n_keys += compare_with_backtesting(run, theirs)
        n_trades += len(run.trades)
    assert n_keys >= 20 * 30
    assert n_trades >= 400


def test_backtesting_on_random_cases_with_stops(backtesting):
    """Stops, targets, gaps through both, time exits, fees, spread, finalised or not: 300 cases."""
    rng = np.random.default_rng(6)
    reasons = {}
    for case in range(300):
        density, sides = (0.005, 0.02, 0.1, 0.5)[case % 4], ("long", "both", "short")[case // 4 % 3]
        made, signals = random_bars(rng, N_BARS, pick(rng, 0.005, 0.02, 0.05)), random_signals(rng, N_BARS, density)
        frame = pd.DataFrame({"Open": made.open, "High": made.high, "Low": made.low, "Close": made.close}, index=DAYS)
        levels = {
            "stop_loss": pick(rng, None, 0.006, 0.02, 0.05, 0.2),
            "take_profit": pick(rng, None, 0.01, 0.03, 0.1),
            "max_bars": pick(rng, None, None, 1, 5),
        }
        fee_rate, slippage, finalize = pick(rng, 0.0, 0.001, 0.01), pick(rng, 0.0, 0.0005, 0.005), bool(case % 2)
        off = {"both": (), "long": (2, 3), "short": (0, 1)}[sides]
        four = [np.zeros(N_BARS, dtype=bool) if which in off else each for which, each in enumerate(signals)]
        theirs = backtesting.Backtest(
            frame,
            strategy_of_backtesting(backtesting, four, levels),
            cash=CASH,
            spread=slippage,
            commission=fee_rate,
            finalize_trades=finalize,
        ).run()
        run = bt.run(
            bt.Bars.from_frame(frame),
            rules.from_arrays(*signals, **levels),
            costs=bt.Costs(fee_rate=fee_rate, slippage=slippage),
            execution=bt.Execution(profile="backtesting.py", start_cash=CASH, sides=sides, close_at_end=finalize),
        )
        compare_with_backtesting(run, theirs)
        for reason in run.trades["exit_reason"]:
            reasons[reason] = reasons.get(reason, 0) + 1
    assert all(reasons[reason] >= 100 for reason in ("signal", "reverse", "stop", "target", "time")), reasons
    assert reasons["end"] >= 10


@pytest.mark.parametrize("density", [0.0, 0.05])
@pytest.mark.parametrize("freq", [None, "h", "D", "W", "ME"])
def test_backtesting_keys_for_other_bars(backtesting, freq, density):
    """Hours, days with weekends, weeks, months, no dates; and a candidate that never trades."""
    rng = np.random.default_rng(11)
    made, signals = random_bars(rng, 200, 0.02), random_signals(rng, 200, density)
    frame = pd.DataFrame(
        {"Open": made.open, "High": made.high, "Low": made.low, "Close": made.close},
        index=None if freq is None else pd.date_range("2001-01-01", periods=200, freq=freq),
    )
    off = {"stop_loss": None, "take_profit": None, "max_bars": None}
    theirs = backtesting.Backtest(frame, strategy_of_backtesting(backtesting, signals, off), cash=CASH).run()
    execution = bt.Execution(profile="backtesting.py", start_cash=CASH)
    if freq is None:
        with pytest.warns(bt.NumericsWarning, match="no dates"):
            run = bt.run(bt.Bars.from_frame(frame), rules.from_arrays(*signals), costs=bt.Costs.zero(), execution=execution)
    else:
        run = bt.run(bt.Bars.from_frame(frame), rules.from_arrays(*signals), costs=bt.Costs.zero(), execution=execution)
    assert len(run.trades) == len(theirs["_trades"])
    assert_same_numbers(run.stats.to_backtesting(), theirs, 1e-8)


@pytest.mark.parametrize("freq", ["h", "W"])
def test_vectorbt_keys_for_other_bars(vbt, freq):
    """Ratios per year of 365 days, from the bar's duration; and a candidate that never trades."""
    rng = np.random.default_rng(12)
    index = pd.date_range("2001-01-01", periods=200, freq=freq)
    duration = {"h": "1h", "W": "7D"}[freq]
    for density in (0.0, 0.05):
        made, signals = random_bars(rng, 200, 0.02), random_signals(rng, 200, density)
        bars = bt.Bars(open=made.open, high=made.high, low=made.low, close=made.close, index=index)
        theirs = vbt.Portfolio.from_signals(
            pd.Series(made.close, index=index),
            *signals[:2],
            short_entries=signals[2],
            short_exits=signals[3],
            init_cash=CASH,
            freq=duration,
        )
        run = bt.run(
            bars, rules.from_arrays(*signals), costs=bt.Costs.zero(), execution=bt.Execution(profile="vectorbt", start_cash=CASH)
        )
        assert_same_numbers(run.stats.to_vectorbt(), theirs.stats(), 1e-8)
        assert (
            run.stats.to_vectorbt(duration)
            .drop(["_equity_curve", "_trades"])
            .equals(run.stats.to_vectorbt().drop(["_equity_curve", "_trades"]))
        )


@pytest.mark.compiled  # the pure twins would be at it for minutes
@pytest.mark.parametrize(
    ("job", "engine"),
    [
        ("SMA pairs, long, stop", "vectorbt, Rust"),
        ("rules of backtesting.py", "backtesting.py"),
        ("arrays 20.0%, both, 2,000", "vectorbt, Numba"),
        ("machine: showcase, whole units", "backtesting.py"),
        ("machine: showcase, whole units", "vectorbt, orders"),
    ],
)
def test_bench_times_what_agrees(vbt, backtesting, job, engine):
    """``bench/peers.py``: parity holds, so that there is a ratio to tell."""
    script = Path(__file__).parent.parent / "bench" / "peers.py"
    command = [sys.executable, str(script), "--quick", "--jobs", job, "--engines", engine]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [[cell.strip() for cell in line.split("\u2502")] for line in done.stdout.splitlines() if "\u2502" in line]
    ratio = next(row[7] for row in rows if row[2] == engine)
    assert float(ratio.replace(",", "")) > 0, done.stdout  # not "differs: dropped"

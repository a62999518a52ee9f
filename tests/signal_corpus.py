"""A fixed collection of runs that meets every branch of the signals kernel, for comparing twins and their mutants."""

import numpy as np
from cases import random_bars, random_signals, strategy_of

import backtest as bt

#: Sizes on both sides of what counts as all of the equity (cash of 1e-14 of the position's value).
NEARLY_ALL = (1.0 - 2.0**-46, 1.0 - 2.0**-47, 1.0 - 2.0**-40)


def long_holdings():
    """Positions held for many bars: all of the equity and nearly all of it, falls and rises, short ones, with borrowing."""
    rng = np.random.default_rng(11)
    for size in (1.0, *NEARLY_ALL, 0.5):
        for hold in (8, 9, 10, 30, 70):
            bars = random_bars(rng, 100, 0.02)
            signals = [np.zeros(100, bool) for _ in range(4)]
            signals[0][3] = signals[1][3 + hold] = signals[2][50] = signals[3][50 + hold // 2] = True
            costs = bt.Costs(fee_rate=0.001, borrow_rate=0.3 * (hold % 2))
            for fill in ("next_open", "close"):
                execution = bt.Execution(periods_per_year=252.0, size=size, fill=fill, rf=0.03, start=0)
                yield bars, strategy_of(signals), costs, execution


def lattice(seed):
    """Few distinct prices and every kind of cost, level and execution."""
    rng = np.random.default_rng(seed)
    pick = lambda *values: values[int(rng.integers(len(values)))]  # noqa: E731
    n = int(rng.integers(2, 40))
    rows = rng.choice([50.0, 80.0, 90.0, 95.0, 99.0, 100.0, 101.0, 105.0, 110.0, 120.0, 150.0, 400.0], (n, 4))
    if seed % 2:
        rows = rng.choice([99.0, 100.0, 101.0, 99.5, 100.5], (n, 4))
    bars = bt.Bars(open=rows[:, 0], close=rows[:, 1], high=rows.max(1), low=rows.min(1))
    levels = {
        "stop_loss": pick(None, 0.005, 0.01, 0.05, 0.1),
        "take_profit": pick(None, 0.005, 0.01, 0.05, 0.1),
        "trailing_stop": pick(None, None, 0.01, 0.05),
        "max_bars": pick(None, None, 1, 2, 5),
    }
    size_type = pick("equity", "equity", "value")
    costs = bt.Costs(
        fee_rate=pick(0.0, 0.001, 0.25),
        slippage=pick(0.0, 0.001, 0.1),
        fixed=pick(0.0, 0.0, 1.0, 400.0),
        per_unit=pick(0.0, 0.01),
        minimum=pick(0.0, 0.0, 4.0),
        maximum=pick(np.inf, np.inf, 5.0, 50.0),
        borrow_rate=pick(0.0, 0.3),
    )
    execution = bt.Execution(
        fill=pick("next_open", "close"),
        intrabar=pick("pessimistic", "optimistic"),
        size_type=size_type,
        start_cash=1000.0,
        size=pick(1.0, 1.0, 0.5) if size_type == "equity" else pick(300.0, 5000.0),
        whole_units=pick(False, True),
        close_at_end=pick(False, True),
        start=int(rng.integers(0, n)),
        rf=pick(0.0, 0.05),
        periods_per_year=252.0,
    )
    return bars, strategy_of(random_signals(rng, n, pick(0.1, 0.3)), levels), costs, execution


def profiles(seed):
    """The conventions of other tools."""
    rng = np.random.default_rng(seed)
    rows = rng.choice([90.0, 95.0, 99.0, 100.0, 101.0, 105.0, 110.0], (30, 4))
    bars = bt.Bars(open=rows[:, 0], close=rows[:, 1], high=rows.max(1), low=rows.min(1))
    name = ("vectorbt", "backtesting.py")[seed % 2]
    levels = {"stop_loss": (0.01, 0.05, None)[seed % 3], "take_profit": (0.02, None)[seed // 2 % 2]}
    if name == "vectorbt":
        levels["trailing_stop"] = (None, 0.02)[seed // 4 % 2] if levels["stop_loss"] is None else None
    costs = bt.Costs(fee_rate=(0.001, 0.2)[seed // 5 % 2], slippage=0.05 * (seed // 3 % 2))
    fields = {"close_at_end": True} if name == "backtesting.py" and seed % 3 else {}
    execution = bt.Execution(profile=name, periods_per_year=252.0, start=1, **fields)
    return bars, strategy_of(random_signals(rng, 30, 0.25), levels), costs, execution


def whole_units():
    """Budgets that hold a whole number of units and its costs to the last bit, where a division alone would round across it."""
    bars = bt.Bars(open=np.full(4, 10.05), high=np.full(4, 10.05), low=np.full(4, 10.05), close=np.full(4, 10.05))
    entries = np.array([True, False, False, False])
    for units in (15, 30):
        exact = units * 10.05 + 0.001 * (units * 10.05)
        for budget in (exact, np.nextafter(exact, 0.0), np.nextafter(exact, np.inf)):
            execution = bt.Execution(
                periods_per_year=252.0, size_type="value", size=float(budget), whole_units=True, start_cash=1000.0, start=0
            )
            yield bars, strategy_of([entries, ~entries, None, None]), bt.Costs(fee_rate=0.001), execution
    cheap = bt.Bars(open=np.full(4, 10.0), high=np.full(4, 10.0), low=np.full(4, 10.0), close=np.full(4, 10.0))
    for units in (1, 2, 3):
        budget = np.nextafter(units * 10.0 + 0.001 * (units * 10.0), 0.0)
        execution = bt.Execution(
            periods_per_year=252.0, size_type="value", size=float(budget), whole_units=True, start_cash=1000.0, start=0
        )
        yield cheap, strategy_of([entries, ~entries, None, None]), bt.Costs(fee_rate=0.001), execution


def corpus():
    """Every case: bars, strategy, costs, execution."""
    yield from long_holdings()
    yield from whole_units()
    for seed in range(24):
        yield profiles(seed)
    for seed in range(120):
        yield lattice(seed)

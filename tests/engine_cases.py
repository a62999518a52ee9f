"""Random rules strategies and executions that both engines can run, seeded, for tests of their equality."""

import numpy as np
from cases import random_bars

import backtest as bt
from backtest import lines

#: Prices of bars on a lattice, so that levels are touched exactly, gaps jump over them, and shorts go bust.
LATTICE = [50.0, 80.0, 90.0, 95.0, 99.0, 100.0, 101.0, 105.0, 110.0, 120.0, 150.0, 400.0]


def lattice_bars(rng, n):
    """Bars of few distinct prices."""
    rows = rng.choice(LATTICE, (n, 4), p=np.array([1, 1, 3, 5, 8, 10, 8, 5, 3, 2, 1, 0.3]) / 47.3)
    return bt.Bars(open=rows[:, 0], high=rows.max(axis=1), low=rows.min(axis=1), close=rows[:, 1])


def pick(rng, *values):
    """One of some values."""
    return values[rng.integers(len(values))]


def random_costs(rng):
    """Costs of every kind, from none to ruinous; slippage up to beyond any stop."""
    if rng.random() < 0.15:
        return bt.Costs.zero()
    return bt.Costs(
        fee_rate=pick(rng, 0.0, 0.0005, 0.001, 0.25),
        slippage=pick(rng, 0.0, 0.0, 0.0005, 0.01, 0.1, 0.25),
        fixed=pick(rng, 0.0, 0.0, 1.0, 400.0),
        per_unit=pick(rng, 0.0, 0.0, 0.01),
        minimum=pick(rng, 0.0, 0.0, 5.0),
        maximum=pick(rng, 5.0, 50.0, np.inf, np.inf),
        borrow_rate=pick(rng, 0.0, 0.05, 0.9),
    )


def random_level(rng, is_capped):
    """A level: off, a number, a parameter or a line."""
    high = 0.99 if is_capped else 2.0
    kind = rng.integers(8)
    if kind < 3:
        return None
    if kind == 7:
        return pick(rng, 0.5, 1.0, 2.0) * lines.atr(5) / lines.close
    if kind == 6:
        default = pick(rng, None, 0.02, 0.2)
        return bt.param(f"level_{default}".replace(".", "_"), default)  # one default for each name
    return pick(rng, 0.002, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, high)


def random_execution(rng, n, sides):
    """An execution of any kind that has no profile."""
    size_type = pick(rng, "equity", "equity", "value")
    sizes = [1.0, 1.0, 0.5, 0.013] if size_type == "equity" else [300.0, 5000.0, 1e6]
    size = pick(rng, *sizes)
    if rng.random() < 0.15:
        size = lines.lowest(lines.close, 3) / lines.close * size if size_type == "equity" else lines.close * 2.0
    return bt.Execution(
        fill=pick(rng, "next_open", "close"),
        intrabar=pick(rng, "pessimistic", "pessimistic", "optimistic", "both"),
        sides=sides,
        size_type=size_type,
        size=size,
        start_cash=pick(rng, 1000.0, 1000.0, 100_000.0, 80.0),
        whole_units=bool(rng.random() < 0.3),
        close_at_end=bool(rng.random() < 0.4),
        start=int(rng.integers(5, 8 + n // 4)) if rng.random() < 0.5 else None,
        rf=pick(rng, 0.0, 0.0, 0.05, -0.02),
        periods_per_year=252.0,
    )


def random_case(seed):
    """Bars, strategy, parameters, costs, execution and window of a run."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 260))
    bars = (
        lattice_bars(rng, n)
        if rng.random() < 0.4
        else random_bars(rng, n, pick(rng, 0.002, 0.02, 0.06), bool(rng.random() < 0.7))
    )
    sides = pick(rng, "both", "both", "long", "short")
    densities = pick(rng, (0.02,) * 4, (0.1, 0.05, 0.1, 0.05), (0.4,) * 4, (0.3, 0.0, 0.3, 0.0), (0.0, 0.1, 0.05, 0.3))
    arrays = [rng.random(n) < density for density in densities]
    leave_out = rng.random(4) < (0.1, 0.25, 0.25, 0.25)
    signals = [
        None if out and (at in (1, 3) or sides != ("long", "", "short")[at]) else array
        for at, (out, array) in enumerate(zip(leave_out, arrays, strict=True))
    ]
    if signals[0] is None and signals[2] is None:
        signals[0] = arrays[0]
    if sides == "long" and signals[0] is None:
        signals[0] = arrays[0]
    if sides == "short" and signals[2] is None:
        signals[2] = arrays[2]
    longs, shorts = sides != "short" and signals[0] is not None, sides != "long" and signals[2] is not None
    strategy = bt.rules.from_arrays(
        *signals,
        stop_loss=random_level(rng, longs),
        take_profit=random_level(rng, shorts),
        trailing_stop=random_level(rng, longs),
        max_bars=pick(rng, None, None, 1, 3, 10),
    )
    execution = random_execution(rng, n, sides)
    window = pick(rng, None, None, None, slice(int(n // 5), int(n - n // 6)))
    params = {name: pick(rng, None, 0.015, 0.3) for name in strategy.params if name != "column" and rng.random() < 0.5}
    return bars, strategy, params, random_costs(rng), execution, window

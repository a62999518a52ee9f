"""Bars, signals and settings for tests: seeded, and as Hypothesis strategies that look for trouble."""

import warnings

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

import backtest as bt
from backtest.costs import PROFILES

SIDES = ("both", "long", "short")
#: For ``pytest.mark.filterwarnings``, where it does not matter that an account runs dry.
UNPAID = "ignore:[0-9,]+ of [0-9,]+ entries could not be paid for:backtest.NumericsWarning"


def random_bars(rng, n, volatility=0.02, gaps=True):
    """A random walk with highs and lows around it, and gaps between bars."""
    close = 100 * np.exp(np.cumsum(rng.normal(0, volatility, n)))
    before = np.concatenate([[100.0], close[:-1]])
    open_ = before * np.exp(rng.normal(0, volatility / 2, n)) if gaps else before
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, volatility / 2, n)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, volatility / 2, n)))
    return bt.Bars(open=open_, high=high, low=low, close=close)


def random_signals(rng, n, density):
    return [rng.random(n) < density for _ in range(4)]


@st.composite
def lattice_bars(draw, max_bars=24):
    """Few distinct prices, so that levels are touched exactly, gaps jump over them, and shorts go bust."""
    n = draw(st.integers(1, max_bars))
    price = st.sampled_from([50.0, 80.0, 90.0, 95.0, 99.0, 100.0, 101.0, 105.0, 110.0, 120.0, 150.0, 400.0])
    rows = draw(st.lists(st.tuples(price, price, price, price), min_size=n, max_size=n))
    high, low = [max(row) for row in rows], [min(row) for row in rows]
    return bt.Bars(open=[row[0] for row in rows], high=high, low=low, close=[row[1] for row in rows])


@st.composite
def cases(draw):
    """Bars, four signals, levels, costs and execution: everything one candidate can meet."""
    bars = draw(lattice_bars())
    n = len(bars)
    flags = st.lists(st.booleans(), min_size=n, max_size=n)
    often = draw(st.booleans())
    signals = [np.array(draw(flags)) if often else np.array([draw(st.integers(0, 5)) == 0 for _ in range(n)]) for _ in range(4)]
    sides = draw(st.sampled_from(SIDES))
    untouchable = {"stop_loss": "short", "take_profit": "long", "trailing_stop": "short"}  # 1 or more is for that side only
    levels = {
        name: draw(st.sampled_from([None, 0.005, 0.01, 0.05, 0.1, 0.5, 2.0 if sides == side else 0.99]))
        for name, side in untouchable.items()
    }
    max_bars = draw(st.sampled_from([None, 1, 2, 5]))
    costs = bt.Costs(
        fee_rate=draw(st.sampled_from([0.0, 0.001, 0.25])),
        slippage=draw(st.sampled_from([0.0, 0.001, 0.1])),
        fixed=draw(st.sampled_from([0.0, 1.0, 400.0])),
        per_unit=draw(st.sampled_from([0.0, 0.01])),
        minimum=draw(st.sampled_from([0.0, 5.0])),
        maximum=draw(st.sampled_from([5.0, 50.0, float("inf")])),
        borrow_rate=draw(st.sampled_from([0.0, 0.3])),
    )
    size_type = draw(st.sampled_from(["equity", "value"]))
    execution = bt.Execution(
        fill=draw(st.sampled_from(["next_open", "close"])),
        intrabar=draw(st.sampled_from(["pessimistic", "optimistic"])),
        sides=sides,
        size_type=size_type,
        start_cash=1000.0,
        size=draw(st.sampled_from([1.0, 0.5] if size_type == "equity" else [300.0, 5000.0])),
        whole_units=draw(st.booleans()),
        close_at_end=draw(st.booleans()),
        start=draw(st.integers(0, n - 1)),
        rf=draw(st.sampled_from([0.0, 0.05])),
        periods_per_year=252.0,
    )
    return bars, signals, levels | {"max_bars": max_bars}, costs, execution


def under_profile(profile, case):
    """A case of :func:`cases` with what a profile fixes, and without what its tool does not have."""
    bars, signals, levels, costs, execution = case
    assume(len(bars) > 1)
    start = max(execution.start, 1)  # backtesting.py waits for a bar
    costs = bt.Costs(fee_rate=costs.fee_rate, slippage=costs.slippage)
    levels = {name: value for name, value in levels.items() if name not in PROFILES[profile].no_rules}
    if profile == "vectorbt" and levels["stop_loss"] is not None:
        levels["trailing_stop"] = None
    fixed = {} if profile == "vectorbt" else {"close_at_end": execution.close_at_end}
    execution = bt.Execution(
        profile=profile, start_cash=1000.0, sides=execution.sides, start=start, periods_per_year=252.0, **fixed
    )
    if execution.sides == "short":
        signals = [None, None, *signals[2:]]
    return bars, signals, levels, costs, execution


def strategy_of(signals, levels=None, sides="both"):
    """The strategy of four boolean arrays; ``sides`` says which entries it must have."""
    return bt.rules.from_arrays(*signals, **(levels or {}))


@st.composite
def weight_cases(draw, max_bars=14, max_assets=4):
    """Weights, prices on a lattice (gaps, holes and busts included), and rules: everything a book can meet."""
    n_bars, n_assets = draw(st.integers(1, max_bars)), draw(st.integers(1, max_assets))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    holes = draw(st.sampled_from([0.0, 0.15]))

    def prices():
        table = rng.choice(
            [50.0, 80.0, 95.0, 100.0, 101.0, 120.0, 250.0], (n_bars, n_assets), p=[0.05, 0.1, 0.25, 0.3, 0.2, 0.08, 0.02]
        )
        return np.where(rng.random(table.shape) < holes, np.nan, table)

    close, open_ = prices(), prices()
    ends = draw(st.booleans())
    for asset in range(1, n_assets if ends else 1):
        end = rng.integers(1, 2 * n_bars)
        close[end:, asset] = open_[end:, asset] = np.nan
    close[-1, 0] = 100.0  # at least one price
    weights = rng.choice([0.0, 0.25, 0.5, 1.0, -0.5, -1.0, 2.0, 1e-15], (n_bars, n_assets)) / draw(st.sampled_from([1, n_assets]))
    weights[rng.random(n_bars) < draw(st.sampled_from([0.0, 0.5, 0.8]))] = np.nan
    costs = bt.Costs(
        fee_rate=draw(st.sampled_from([0.0, 0.001, 0.1])),
        slippage=draw(st.sampled_from([0.0, 0.002])),
        fixed=draw(st.sampled_from([0.0, 1.0, 100.0])),
        per_unit=draw(st.sampled_from([0.0, 0.01])),
        minimum=draw(st.sampled_from([0.0, 5.0])),
        maximum=draw(st.sampled_from([20.0, np.inf])),
        borrow_rate=draw(st.sampled_from([0.0, 0.3])),
    )
    extremes = draw(st.booleans())
    both = np.fmax(close, open_)
    delisted, after = draw(st.sampled_from([("keep", 5), ("write_off", 0), ("write_off", 3)] if ends else [("keep", 5)]))
    more = {"high": both + 2, "low": both - 30} if extremes else {}
    fill = draw(st.sampled_from(["next_open", "close"]))
    return weights, {
        "close": close,
        "open": open_,
        "costs": costs,
        "fill": fill,
        "start_cash": 1000.0,
        "reinvest": draw(st.booleans()),
        "reserve_costs": draw(st.booleans()),
        "rf": draw(st.sampled_from([0.0, 0.05])),
        "periods_per_year": 252.0,
        "delisted": delisted,
        "delisted_after": after,
    } | more


def simulated(weights, kwargs):
    """A book of :func:`weight_cases`; a last event that has no next open is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bt.NumericsWarning)
        return bt.simulate(weights, **kwargs)

"""Power, exponential and logarithms: right to a unit in the last place, and the same bits wherever they run."""

import decimal
import itertools
import math
import os
import subprocess
import sys
from decimal import Decimal

import numpy as np
import pytest
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

import backtest as bt
from backtest import _backend, elementary

N = 120
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    2.0,
    -2.0,
    3.0,
    -3.0,
    0.5,
    -0.5,
    2.0**53 - 1,
    2.0**53,
    -(2.0**53) - 2,
    2.0**70,
    -(2.0**80),
    5e-324,
    -5e-324,
    1e-310,
    1e308,
    -1e308,
    math.inf,
    -math.inf,
    math.nan,
]


def units_off(got, exact):
    """Distance of a double from an exact value, in units of its last place."""
    return float(abs(Decimal(float(got)) - exact) / Decimal(math.ulp(float(exact))))


def exactly(name, x, y):
    x = Decimal(float(x))
    if name == "exp":
        return x.exp()
    return x.ln() if name == "log" else (1 + x).ln() if name == "log1p" else (Decimal(float(y)) * x.ln()).exp()


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("name", ["power", "exp", "log", "log1p"])
def test_within_a_unit_in_the_last_place(name):
    rng = np.random.default_rng(0)
    spread, near, nearest = 10 ** rng.uniform(-300, 300, N), rng.normal(0, 0.01, N), rng.normal(0, 1e-9, N)
    x, y = {
        "log": (np.concatenate([spread, 1 + near, 1 + nearest, [5e-324, 2.0**-1022, 1.7e308, 1 - 2.0**-53, 1 + 2.0**-52]]), None),
        "log1p": (np.concatenate([10 ** rng.uniform(-30, 300, 20), near, nearest, -1 + 10 ** rng.uniform(-12, 0, N)]), None),
        "exp": (np.concatenate([rng.uniform(-700, 700, N), near, nearest]), None),
        "power": (
            np.concatenate([10 ** rng.uniform(-3, 3, N), 1 + near, 1 + nearest, 10 ** rng.uniform(-20, 20, N)]),
            np.concatenate(
                [rng.uniform(-90, 90, N), 1 / rng.uniform(0.01, 50, N), rng.uniform(-1e10, 1e10, N), rng.uniform(-14, 14, N)]
            ),
        ),
    }[name]
    got = getattr(elementary, name)(*([x] if y is None else [x, y]))
    with decimal.localcontext(decimal.Context(prec=80)):
        worst = max(units_off(value, exactly(name, x[row], None if y is None else y[row])) for row, value in enumerate(got))
    assert worst < 0.52


@pytest.mark.usefixtures("backend")
def test_what_can_be_said_exactly_is():
    whole = np.arange(-20.0, 21.0)
    assert elementary.power(3.0, whole[20:]).tolist() == [3.0**n for n in range(21)]
    assert elementary.power(2.0, [-1074.0, -1023.0, 1023.0]).tolist() == [5e-324, 2.0**-1023, 2.0**1023]
    assert elementary.power(whole**2, 0.5).tolist() == np.abs(whole).tolist()
    assert (elementary.exp(0.0), elementary.log(1.0), elementary.log1p(0.0)) == (1.0, 0.0, 0.0)
    assert elementary.power(10.0, [308.0, 309.0, -323.0, -400.0]).tolist() == [1e308, math.inf, 1e-323, 0.0]


def same(got, expected):
    return (
        np.array_equal(np.isnan(got), np.isnan(expected))
        and np.array_equal(np.copysign(1, got)[~np.isnan(got)], np.copysign(1, expected)[~np.isnan(got)])
        and np.allclose(got, expected, rtol=1e-15, atol=1e-323, equal_nan=True)
    )


@pytest.mark.usefixtures("backend")
def test_zeros_infinities_nan_and_negative_numbers_as_c_has_them():
    x, y = np.array(list(itertools.product(SPECIAL, SPECIAL))).T
    with np.errstate(all="ignore"):
        assert same(elementary.power(x, y), np.power(x, y))
        for name in ("exp", "log", "log1p"):
            assert same(getattr(elementary, name)(SPECIAL), getattr(np, name)(SPECIAL))
    for nothing in (elementary.power(-8.0, 1 / 3), elementary.log(-1.0), elementary.log1p(-2.0), elementary.exp(-math.nan)):
        assert nothing.tobytes() == np.float64(math.nan).tobytes()


@pytest.mark.usefixtures("backend")
def test_shapes():
    x = np.arange(1.0, 7.0).reshape(2, 3)
    assert elementary.power(x, 2.0).tolist() == (x * x).tolist()
    assert elementary.power(x[:, ::2], x[:, ::2]).tolist() == elementary.power(x, x)[:, ::2].tolist()
    assert elementary.power(2.0, x[0]).tolist() == [2.0, 4.0, 8.0]
    assert elementary.power(4.0, 0.5).shape == ()
    assert elementary.power([], 2.0).tolist() == elementary.log([]).tolist() == []


@pytest.mark.compiled
def test_the_same_bits_at_every_level_and_in_the_twin():
    rng = np.random.default_rng(1)
    x, y = np.array(list(itertools.product(SPECIAL, SPECIAL))).T
    x, y = np.concatenate([x, np.exp(rng.normal(0, 50, 20_000))]), np.concatenate([y, rng.normal(0, 5, 20_000)])
    works = [
        lambda: elementary.power(x, y),
        lambda: elementary.power(x, 0.37),
        lambda: elementary.exp(y),
        lambda: elementary.log(x),
        lambda: elementary.log1p(y),
    ]
    for work in works:
        found = set()
        for backend, simd in [("python", None), *(("cython", level) for level in _backend.simd_levels())]:
            with _backend.forced(backend, simd):
                found.add(work().tobytes())
        assert len(found) == 1


# --- the same bits on every processor ---------------------------------------------------------------------------------------

#: Every number that people are shown, as bits: metrics of a batch and of runs, in our words and in other tools', of a book too.
NUMBERS = r"""
import hashlib, sys, warnings
import numpy as np
import backtest as bt
from backtest import _backend

warnings.simplefilter("ignore", bt.NumericsWarning)


def numbers():
    bars, costs = bt.Bars.sample(), bt.Costs(fee_rate=0.001, slippage=0.0005, borrow_rate=0.02)
    candidates = {"fast": [5, 10, 15, 20, 9, 3], "slow": [30, 40, 60, 21, 200, 500]}
    strategy = bt.strategies.sma_cross
    found = {}
    for fill in ("next_open", "close"):
        table = bt.evaluate(bars, strategy, candidates, costs=costs, execution=bt.Execution(fill=fill, rf=0.02))
        found |= {(fill, name): table[name].to_numpy() for name in table}
    cells = bt.evaluate(bars, strategy, candidates, costs=costs, window=[slice(0, 900), slice(900, 2000), slice(1500, None)])
    found |= {("cells", name): cells[name].to_numpy() for name in cells}
    nothing = bt.evaluate(bars, bt.rules.from_arrays(np.zeros((len(bars), 2), bool)), costs=costs)
    found |= {("nothing", name): nothing[name].to_numpy() for name in nothing}
    for params in ({"fast": 5, "slow": 30}, {"fast": 20, "slow": 120, "stop_loss": 0.03, "take_profit": 0.07}):
        run = bt.run(bars, strategy, params, costs=costs)
        found |= {("run", params["fast"], name): value for name, value in run.stats.items()}
        for tool, series in (("backtesting", run.stats.to_backtesting()), ("vectorbt", run.stats.to_vectorbt())):
            found |= {(tool, params["fast"], name): value for name, value in series.items() if isinstance(value, (int, float))}
        found["ledger", params["fast"]] = run.fills.view(np.uint8)
        statistics = run.trade_statistics()
        found |= {("trades", params["fast"], name): statistics.loc[name].to_numpy() for name in statistics.index}
    close = np.column_stack([bars.close, bars.close[::-1], 50 + np.sqrt(np.arange(len(bars)))])
    weights = np.full(close.shape, np.nan)
    weights[::20] = [0.5, 0.3, 0.2]
    book = bt.simulate(weights, close=close, costs=costs, fill="close", periods_per_year=252.0)
    found |= {("book", name): value for name, value in book.stats.items()}
    return {name: np.asarray(value).tobytes().hex() for name, value in found.items()}


levels = list(_backend.simd_levels()) if "levels" in sys.argv else [None]
for level in levels:
    with _backend.forced("cython" if level else _backend.chosen().name, level):
        for name, bits in numbers().items():
            print(level, *name, hashlib.sha256(bits.encode()).hexdigest()[:16], sep="|")
"""


def numbers(disabled, *arguments):
    """Lines of numbers of a process that may not use some instructions; None if NumPy refuses to go without them."""
    env = os.environ | ({"NPY_DISABLE_CPU_FEATURES": " ".join(disabled)} if disabled else {})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", NUMBERS, *arguments], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode and "You cannot disable CPU feature" in done.stderr:
        return None
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


@pytest.mark.slow
def test_every_number_has_the_same_bits_on_processors_that_know_less():
    """NumPy chooses among loops by what the processor knows; what it has for an old one must give what it has for this one."""
    known = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    expected = numbers([])
    assert len(expected) > 150
    sets = [known[at:] for at in range(len(known))]  # from nothing beyond the baseline on; names are in order of age
    compared = 0
    for disabled in sets if len(sets) < 4 else [sets[0], sets[1], sets[-1]]:
        lines = numbers(disabled)
        if lines is not None:
            differ = [(one, other) for one, other in zip(expected, lines, strict=True) if one != other]
            assert not differ, (disabled, differ[:10])
            compared += 1
    assert compared or not known


@pytest.mark.compiled
def test_every_number_has_the_same_bits_at_every_level_of_ours():
    lines = [line.partition("|") for line in numbers([], "levels")]
    by_level = {level: [rest for name, _, rest in lines if name == level] for level in _backend.simd_levels()}
    assert len({tuple(each) for each in by_level.values()}) == 1
    assert min(map(len, by_level.values())) > 150


def test_the_nan_of_a_metric_is_the_one_nan():
    bars = bt.Bars.sample()
    table = bt.evaluate(bars, bt.rules.from_arrays(np.zeros((len(bars), 1), bool)), costs=bt.Costs.zero())
    missing = table.to_numpy()[np.isnan(table.to_numpy())]
    assert len(missing) > 5
    assert missing.tobytes() == np.full(len(missing), np.nan).tobytes()

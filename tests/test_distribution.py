"""Distributions of streamed values: right to their promise, whatever the order and the cut, in bounded memory."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtest as bt
from backtest.search.ranking import Distribution

FLOATS = st.floats(allow_nan=True, allow_infinity=True)


def of(values, cuts=()):
    found = Distribution()
    for part in np.split(np.asarray(values, dtype=np.float64), sorted(cuts)):
        found.add(part)
    return found


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e12])
def test_quantiles_and_moments_are_right(scale):
    values = np.random.default_rng(0).normal(0.3, 1.0, 50_000) * scale
    found = of(values, [1, 7, 4096, 30_000])
    for q in (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99):
        assert found.quantile(q) == pytest.approx(np.quantile(values, q), rel=0.0045, abs=2e-4 * scale)
    assert (found.quantile(0), found.quantile(1)) == pytest.approx((values.min(), values.max()), rel=0.004)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.std == pytest.approx(values.std(ddof=1), rel=1e-12)
    assert (found.min, found.max, found.n) == (values.min(), values.max(), 50_000)


@given(st.lists(FLOATS, max_size=60), st.lists(st.integers(0, 60), max_size=4), st.randoms())
def test_neither_order_nor_cut_changes_a_quantile(values, cuts, random):
    whole, shuffled = of(values), list(values)
    random.shuffle(shuffled)
    other = of(shuffled, cuts)
    assert whole._buckets == other._buckets
    assert (whole.n, whole.n_undefined) == (other.n, other.n_undefined) == (len(values), sum(map(math.isnan, values)))
    known = sorted(value for value in values if value == value)
    for q in (0.0, 0.3, 0.5, 1.0):
        np.testing.assert_equal(whole.quantile(q), other.quantile(q))
        if known:
            exact = known[max(math.ceil(q * len(known)) - 1, 0)]
            # One bucket: 1/128 wide, halves count from its middle; below the normal numbers buckets are absolute.
            assert whole.quantile(q) == pytest.approx(exact, rel=0.0045, abs=1e-305)


def test_memory_is_bounded():
    found, rng = Distribution(), np.random.default_rng(1)
    for _ in range(200):
        found.add(rng.normal(0, 1, 1000))
    before = len(found._buckets)
    for _ in range(200):
        found.add(rng.normal(0, 1, 1000))
    assert before <= len(found._buckets) < before + 400 < 6000


def test_nothing_has_no_numbers():
    found = of([math.nan, math.nan])
    assert (found.n, found.n_undefined) == (2, 2)
    assert all(math.isnan(value) for value in (found.mean, found.std, found.min, found.max, found.quantile(0.5)))


def test_histogram():
    found = of([-1.0, 0.0, 0.5, 0.5, 2.0])
    assert found.histogram([-2, 0, 1, 3]).tolist() == [1, 3, 1]
    with pytest.raises(bt.InputError, match="edges must be two or more ascending numbers"):
        found.histogram([1])


@pytest.mark.parametrize("method", ["grid", "evolution"])
def test_a_search_tells_how_its_metric_is_distributed(method):
    bars = bt.Bars.sample("GOOG")
    space = bt.Space({"fast": range(5, 25), "slow": range(20, 90, 5)}, where="fast < slow")
    found = bt.optimize(
        bars,
        bt.strategies.sma_cross,
        space,
        costs=bt.Costs(fee_rate=0.001),
        method=method,
        keep=3,
        **({"n_trials": 60} if method == "evolution" else {}),
    )
    summary = found.summary
    assert summary["n"] == found.n_evaluated == len(found.distribution)
    assert summary["max"] == found.best_value
    if method == "grid":
        everything = bt.optimize(bars, bt.strategies.sma_cross, space, costs=bt.Costs(fee_rate=0.001)).table["sharpe"]
        assert summary["mean"] == pytest.approx(everything.mean(), rel=1e-12)
        assert summary["50%"] == pytest.approx(everything.median(), rel=0.02)

"""Ready rules for weights, and the calendar."""

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest import allocation


def test_inverse_volatility_is_what_it_says():
    rng = np.random.default_rng(0)
    close = pd.DataFrame(100 * np.exp(np.cumsum(rng.normal(0, [0.01, 0.02, 0.04], (60, 3)), axis=0)))
    close.iloc[:20, 2] = np.nan
    weights = allocation.inverse_volatility(close, 10)
    deviation = close.pct_change(fill_method=None).rolling(10).std()
    expected = (1 / deviation).div((1 / deviation).sum(axis=1), axis=0).fillna(0.0)
    expected.iloc[:10] = 0.0
    np.testing.assert_allclose(weights, expected, rtol=1e-9)
    assert (weights[20:30, 2] == 0).all()  # ten returns need eleven prices
    assert weights[31, 2] > 0
    mask = np.arange(60) % 7 == 0
    some = allocation.inverse_volatility(close, 10, mask)
    assert np.isnan(some[~mask]).all()
    np.testing.assert_array_equal(some[mask], weights[mask])
    with pytest.raises(bt.InputError, match="lookback must be a whole number >= 2, got 1"):
        allocation.inverse_volatility(close, 1)


@pytest.mark.parametrize("tz", [None, "America/New_York"])
@pytest.mark.parametrize(("every", "rule"), [("week", "W"), ("month", "M"), ("quarter", "Q"), ("year", "Y")])
def test_the_calendar_marks_last_bars(every, rule, tz):
    times = pd.bdate_range("2019-11-28", "2021-02-10", tz=tz)
    period = times.tz_localize(None).to_period(rule)
    expected = np.append(period[:-1] != period[1:], False)
    np.testing.assert_array_equal(allocation.calendar(times, every), expected)
    assert expected.sum() in (63, 15, 5, 2)


def test_days_and_what_has_no_dates():
    times = pd.date_range("2024-01-01", periods=6, freq="12h")
    assert allocation.calendar(times, "day").tolist() == [False, True, False, True, False, False]
    with pytest.raises(bt.InputError, match="times must be dates to rebalance by the month, got RangeIndex"):
        allocation.calendar(pd.RangeIndex(3), "month")


@pytest.mark.parametrize("rebalance", [[0, 21, 42], np.ones(3, dtype=bool), [[True] * 5] * 60, 1])
def test_bars_to_rebalance_are_a_mask(rebalance):
    with pytest.raises(bt.InputError, match=r"rebalance must be True or False for each bar, shape \(60,\), got "):
        allocation.inverse_volatility(np.full((60, 2), 10.0), 5, rebalance)

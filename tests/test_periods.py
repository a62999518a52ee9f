"""How many bars make a year, told from their times, and why."""

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest.periods import infer

FREE = bt.Costs.zero()
DAYS = pd.date_range("2020-01-01", periods=1000)
BUSINESS = pd.bdate_range("2020-01-01", periods=600)
HOURS = pd.date_range("2024-01-01", periods=24 * 120, freq="h", tz="America/New_York")


def dated(index):
    index = pd.DatetimeIndex(index)
    prices = 100 + np.arange(len(index)) % 7 * 1.0
    frame = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), prices), index=index)
    return bt.Bars.from_frame(frame)


def weekday(index, *days):
    return index[np.isin(index.day_of_week, days)]


def sessions(days, start, n_bars, freq="min"):
    first = [day + pd.Timedelta(start) for day in days]
    return pd.DatetimeIndex([each for at in first for each in pd.date_range(at, periods=n_bars, freq=freq)])


@pytest.mark.parametrize(
    ("index", "expected", "why"),
    [
        (BUSINESS, 252, "daily bars, 5 bars in the median full week"),
        (BUSINESS.union(pd.DatetimeIndex(["2020-05-02", "2020-06-07"])), 252, "daily bars, 5 bars in the median full week"),
        (BUSINESS.drop(BUSINESS[100:400:5]), 252, "daily bars, 4 bars in the median full week"),
        (weekday(DAYS, 6, 0, 1, 2, 3), 252, "daily bars, 5 bars in the median full week"),  # Sunday to Thursday
        (DAYS, 365, "daily bars, 7 bars in the median full week"),
        (DAYS.drop(DAYS[100:130]), 365, "daily bars, 7 bars in the median full week"),
        (pd.date_range("2000-01-01", periods=600).union(pd.date_range("2015-01-01", periods=600)), 365, "daily bars, 7 bars"),
        (pd.bdate_range("2024-01-01", periods=5), 252, "daily bars, no full week, no whole weekend"),
        (pd.date_range("2024-01-05", periods=4), 365, "daily bars, no full week, bars on a Saturday and a Sunday"),
        (DAYS.tz_localize("Europe/London").tz_convert("UTC").tz_localize(None), 365, "daily bars, 7 bars"),
    ],
)
def test_daily_bars(index, expected, why):
    bars = dated(index)
    assert bars.inferred_periods_per_year() == expected
    assert bars.inferred_periods().why.startswith(why)


def test_sunday_to_friday_counts_what_there_is():
    periods = dated(weekday(DAYS, 6, 0, 1, 2, 3, 4)).inferred_periods()
    assert periods.per_year == pytest.approx(313, abs=0.5)
    assert periods.why == "bars per calendar year of daily bars, 6 bars in the median full week"


def test_a_stray_weekend_does_not_change_the_sharpe_ratio_by_a_fifth():
    close = np.linspace(100, 150, 600) + np.sin(np.arange(600))
    stray = BUSINESS[:-2].union(pd.DatetimeIndex(["2020-05-02", "2020-06-07"]))
    found = []
    for index in (BUSINESS, stray):
        frame = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), close), index=index)
        hold = bt.rules.from_arrays(np.ones(600, dtype=bool))
        found.append(bt.run(bt.Bars.from_frame(frame), hold, costs=FREE).stats["sharpe"])
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.date_range("2024-01-02 09:30", periods=390, freq="min"), 98_280),  # one day
        (pd.date_range("2024-01-02 22:00", periods=390, freq="min"), 98_280),  # over midnight
        (sessions(BUSINESS[:60], "9h30min", 390), 98_280),
        (sessions(BUSINESS[:60], "22h", 390), 98_280),  # a session in Asia, in UTC
        (sessions([*BUSINESS[:30], pd.Timestamp("2020-01-11")], "9h30min", 390).sort_values(), 98_280),  # a stray Saturday
        (sessions(BUSINESS[:60], "9h30min", 2, "4h"), 504),
        (sessions(DAYS[:60], "9h", 8, "h"), 8 * 365),
        (pd.date_range("2024-01-02", periods=200 * 24, freq="h"), 24 * 365),  # never closes
        (pd.date_range("2024-01-02", periods=200 * 24, freq="h", tz="America/New_York"), 24 * 365),
        (pd.date_range("2024-01-02", periods=252, freq="h"), 24 * 365),  # ten days and a half of it
        (pd.date_range("2024-01-02", periods=400, freq="12h"), 2 * 365),  # half a day is no pause
        (HOURS[(HOURS.day_of_week < 5) & (HOURS.hour >= 4) & (HOURS.hour < 20)], 16 * 252),  # nights of 8 hours
        (
            HOURS[(HOURS.day_of_week * 24 + HOURS.hour < 113) | (HOURS.day_of_week * 24 + HOURS.hour >= 161)],
            24 * 252,
        ),  # currencies
        (sessions(weekday(DAYS[:200], 6, 0, 1, 2, 3, 4), "9h", 6, "h"), 6 * 6 * 365.25 / 7),
    ],
)
def test_shorter_bars_over_less_than_a_year(index, expected):
    assert dated(index).inferred_periods_per_year() == pytest.approx(expected, rel=1e-12)


def test_shorter_bars_say_what_was_counted():
    assert dated(pd.date_range("2024-01-02 09:30", periods=390, freq="min")).inferred_periods().why == (
        "390 bars in the median session, times 252: no full week, no whole weekend"
    )
    assert dated(sessions(DAYS[:60], "9h", 8, "h")).inferred_periods().why == (
        "8 bars in the median session, times 365: 7 sessions in the median full week"
    )


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.date_range("2020-01-01", periods=2 * 8766, freq="h"), 8766),
        (sessions(pd.bdate_range("2020-01-01", "2023-12-29"), "10h", 7, "h"), 7 * 365.25 * 5 / 7),
        (pd.date_range("2020-01-01", periods=209, freq="W"), 365.25 / 7),
        (pd.date_range("2020-01-31", periods=61, freq="ME"), 12),
        (pd.date_range("2000-01-01", periods=21, freq="YS"), 1),
    ],
)
def test_all_else_is_bars_per_calendar_year(index, expected):
    periods = dated(index).inferred_periods()
    assert periods.per_year == pytest.approx(expected, rel=2e-3)
    assert periods.why == "bars per calendar year"


def test_weekdays_are_those_of_the_bars_zone():
    index = pd.date_range("2020-01-01", periods=600, tz="Asia/Tokyo")
    assert dated(index[index.day_of_week < 5]).inferred_periods_per_year() == 252
    nanos = np.arange(14, dtype=np.int64) * 86_400_000_000_000
    assert infer(nanos, nanos + 1).per_year == 365


def test_what_a_year_is_has_a_reason_everywhere():
    minutes = dated(pd.date_range("2024-01-02 09:30", periods=390, freq="min"))
    space = {"fast": [2, 3], "slow": [5, 8]}
    result = bt.optimize(minutes, bt.strategies.sma_cross, space, costs=FREE, progress=False, min_trades=0)
    assert result.provenance["periods_per_year"] == 98_280
    assert result.provenance["periods_per_year_why"].startswith("390 bars in the median session, times 252")
    assert result.best.periods == minutes.inferred_periods()
    said = bt.optimize(
        minutes,
        bt.strategies.sma_cross,
        space,
        costs=FREE,
        progress=False,
        min_trades=0,
        execution=bt.Execution(periods_per_year=1000),
    )
    assert (said.provenance["periods_per_year"], said.provenance["periods_per_year_why"]) == (1000, "as given")


def test_books_infer_alike():
    for index, expected in (
        (pd.date_range("2024-01-02 09:30", periods=390, freq="min"), 98_280),
        (BUSINESS.union(pd.DatetimeIndex(["2020-05-02", "2020-06-07"])), 252),
    ):
        close = pd.DataFrame({"A": 100 + np.arange(len(index)) % 5, "B": 50.0}, index=index)
        book = bt.simulate(np.full(close.shape, 0.5), close=close, fill="close", costs=FREE)
        assert book.periods == dated(index).inferred_periods()
        assert book.periods.per_year == expected
        found = bt.optimize_weights(
            lambda params, shape=close.shape: np.full(shape, params["w"]),
            {"w": [0.1, 0.2]},
            close=close,
            fill="close",
            costs=FREE,
            progress=False,
            min_trades=0,
        )
        assert (found.provenance["periods_per_year"], found.provenance["periods_per_year_why"]) == book.periods
    given = bt.simulate(np.full(close.shape, 0.5), close=close, fill="close", costs=FREE, periods_per_year=12)
    assert given.periods == (12, "as given")


def test_too_little_is_undefined():
    assert np.isnan(bt.Bars(open=[1, 1], high=[1, 1], low=[1, 1], close=[1, 1]).inferred_periods().per_year)
    assert np.isnan(
        bt.Bars(
            open=[1], high=[1], low=[1], close=[1], index=np.array(["2020-01-01"], "M8[D]"), tz="Asia/Tokyo"
        ).inferred_periods_per_year()
    )

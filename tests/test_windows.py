"""Windows: bar numbers and dates, what they stand for, and every door that takes one."""

import datetime
import json
import pickle
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import backtest as bt
from backtest.results import json_safe

GOOG = bt.Bars.sample()
COSTS = bt.Costs(fee_rate=0.001)
CROSS = bt.strategies.sma_cross
PARAMS = {"fast": 5, "slow": 20}
SPACE = {"fast": [5, 8], "slow": [20, 30]}


def bars_at(index, tz=None):
    """Bars whose close counts them."""
    close = np.arange(1.0, len(index) + 1)
    return bt.Bars(open=close, high=close, low=close, close=close, index=np.asarray(index, dtype="datetime64[ns]"), tz=tz)


HOURS = bars_at(np.datetime64("2012-01-01") + np.arange(24 * 100) * np.timedelta64(1, "h"))
# --- what dates stand for -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "first", "last"),
    [
        (slice("2010", "2012-06"), "2010-01-04", "2012-06-29"),
        (slice("2010", None), "2010-01-04", "2013-03-01"),
        (slice(None, "2012-06"), "2004-08-19", "2012-06-29"),
        (slice("2004", "2013"), "2004-08-19", "2013-03-01"),  # years that overlap the bars
        (slice("2010-03-13", "2010-03-15"), "2010-03-15", "2010-03-15"),  # a Saturday to a Monday
        (slice(pd.Timestamp("2010-03-15"), pd.Timestamp("2010-03-16")), "2010-03-15", "2010-03-16"),
        (slice(datetime.date(2010, 3, 15), datetime.datetime(2010, 3, 16, 12)), "2010-03-15", "2010-03-16"),
        (slice(np.datetime64("2010-03"), pd.Period("2010-04", "M")), "2010-03-01", "2010-04-30"),
        (slice("2010-03-15 00:00:00.000000000", " 2010-03-16T00:00 "), "2010-03-15", "2010-03-16"),
    ],
)
def test_dates_are_inclusive_at_both_ends(window, first, last):
    found = GOOG.window(window)
    times = GOOG.times()[found]
    assert (str(times[0].date()), str(times[-1].date())) == (first, last)
    assert [type(edge) for edge in (found.start, found.stop)] == [
        type(None) if edge is None else int for edge in (window.start, window.stop)
    ]


def test_numbers_are_half_open_and_stay_what_they_were():
    assert GOOG.window(None) is None
    assert GOOG.window(slice(None)) == slice(None)
    assert GOOG.window(slice(np.int64(5), np.uint8(9))) == slice(5, 9)
    assert GOOG.window(slice(-10, 9_999)) == slice(-10, 9_999)
    assert bars_at(["2012-01-01", "2012-01-02"]).window(slice(0, 1)) == slice(0, 1)


@pytest.mark.parametrize(
    "day", ["2012-01-31", datetime.date(2012, 1, 31), np.datetime64("2012-01-31"), pd.Period("2012-01-31", "D")]
)
def test_a_day_is_a_day_and_a_moment_a_moment(day):
    assert HOURS.window(slice(day, day)) == slice(720, 744)
    for moment in (pd.Timestamp("2012-01-31"), datetime.datetime(2012, 1, 31), np.datetime64("2012-01-31T00:00:00.000000000")):
        assert HOURS.window(slice(moment, moment)) == slice(720, 721)
    assert HOURS.window(slice("2012-01-31 05", "2012-01-31 07:00")) == slice(725, 728)


def ranges():
    """Of the index of HOURS, as text of some precision, or as Timestamps."""
    hours = st.integers(0, len(HOURS) - 2)
    shapes = st.sampled_from(["%Y", "%Y-%m", "%Y-%m-%d", "%Y-%m-%d %H", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", None])
    minutes = st.sampled_from([0, 1, 30, 59])

    def written(hour, minute, shape):
        time = HOURS.times()[hour] + pd.Timedelta(minutes=minute)
        return time if shape is None else time.strftime(shape)

    edge = st.one_of(st.none(), st.builds(written, hours, minutes, shapes))
    return st.tuples(edge, edge)


@given(ranges())
@settings(max_examples=300)
def test_dates_select_what_labels_of_pandas_select(edges):
    expected = pd.Series(HOURS.close, index=HOURS.times()).loc[slice(*edges)].to_numpy()
    if len(expected):
        found = HOURS.window(slice(*edges))
        np.testing.assert_array_equal(HOURS.close[found], expected)
        np.testing.assert_array_equal(HOURS[slice(*edges)].close, expected)
    else:
        with pytest.raises(bt.DataError, match=r"window must (hold at least one bar|end within the bars|begin within the bars)"):
            HOURS.window(slice(*edges))


ZONES = ["America/New_York", "Europe/Berlin", "Asia/Kolkata", "America/Sao_Paulo", "UTC"]


@given(st.sampled_from(ZONES), st.sampled_from(["2018-03", "2018-10", "2018-11"]), ranges(), st.booleans())
@settings(max_examples=300)
def test_dates_are_the_clock_of_the_bars_zone(zone, month, edges, is_aware):
    """Over changes of clocks, against pandas; where a clock shows an hour twice or never, pandas refuses."""
    index = pd.date_range(month, periods=24 * 31, freq="h", tz="UTC").tz_convert(zone)
    bars = bars_at(index.tz_convert("UTC").tz_localize(None), zone)
    shift = index[0].tz_localize(None) - HOURS.times()[0]

    def moved(edge):
        if edge is None or (isinstance(edge, str) and len(edge) < 10):
            return None if edge is None else month
        time = min(pd.Timestamp(edge) + shift, bars.times()[-2].tz_localize(None)).tz_localize(
            zone, ambiguous=True, nonexistent="shift_forward"
        )
        return time if is_aware else time.strftime("%Y-%m-%d %H:%M")

    window = slice(*map(moved, edges))
    try:
        expected = pd.Series(bars.close, index=bars.times()).loc[window].to_numpy()
    except ValueError:  # an hour that is there twice or never
        return
    if len(expected):
        np.testing.assert_array_equal(bars[window].close, expected)
    else:
        with pytest.raises(bt.DataError):
            bars.window(window)


def test_an_hour_that_clocks_show_twice_is_taken_whole():
    index = pd.date_range("2018-10-28", periods=6, freq="30min", tz="UTC")  # 02:00 and 02:30 twice, then 03:00
    bars = bars_at(index.tz_localize(None), "Europe/Berlin")
    assert [str(time)[11:16] for time in bars.times()] == ["02:00", "02:30", "02:00", "02:30", "03:00", "03:30"]
    assert bars.window(slice("2018-10-28 02:30", "2018-10-28 02:30")) == slice(1, 4)
    assert bars.window(slice(None, "2018-10-28 02:00")) == slice(None, 3)
    assert bars.window(slice("2018-10-28 02:30+01:00", None)) == slice(3, None)
    assert bars.window(slice("2018-10-28T00:30Z", "2018-10-28 02:30 +0200")) == slice(1, 2)
    spring = bars_at(pd.date_range("2018-03-25", periods=4, freq="30min"), "Europe/Berlin")  # 01:00, 01:30, 03:00, 03:30
    assert spring.window(slice("2018-03-25 02:30", None)) == slice(2, None)
    assert spring.window(slice(None, "2018-03-25 02:30")) == slice(None, 2)


def test_aware_dates_are_converted_to_the_bars_zone():
    index = pd.date_range("2020-01-01", periods=48, freq="h", tz="UTC")
    bars = bars_at(index.tz_localize(None), "Asia/Tokyo")
    noon = pd.Timestamp("2020-01-01 12:00", tz="UTC")
    for same in (noon, noon.tz_convert("America/New_York"), noon.to_pydatetime(), "2020-01-01 13:00+01:00"):
        assert bars.window(slice(same, None)) == slice(12, None)
    assert bars.window(slice("2020-01-02", "2020-01-02")) == slice(15, 39)  # Tokyo's day


# --- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (5, 'such as slice("2010", "2012-06") or slice(500, 1500), got 5'),
        ("2010", "or slice(500, 1500), got '2010'"),
        (slice("2010", "2012", 2), "or slice(500, 1500), got slice('2010', '2012', 2)"),
        (slice(100, "2012-06"), 'window must be two bar numbers or two dates, got 100 to "2012-06"'),
        (slice("2012-06", 100), 'window must be two bar numbers or two dates, got "2012-06" to 100'),
        (slice(1.5, None), "window must be a slice of bars by their numbers or dates, got 1.5"),
        (slice(True, 5), "window must be a slice of bars by their numbers or dates, got True"),
        (slice(pd.NaT, None), "window must be a slice of bars by their numbers or dates, got NaT"),
        (slice(np.datetime64("NaT"), None), "window must be a slice of bars by their numbers or dates, got np.datetime64('NaT'"),
        (slice(datetime.time(9, 30), None), "window must be a slice of bars by their numbers or dates, got datetime.time(9, 30)"),
        (slice(2**63, None), "edge of window must be a whole number of 64 bits, got 9223372036854775808"),
        (slice("June 2012", None), 'window must hold dates such as "2012", "2012-06", "2012-06-30" or "2012-06-30 15:30", got'),
        (slice("30.06.2012", None), 'got "30.06.2012"'),
        (slice("2012-13", None), 'got "2012-13"'),
        (slice("2012-02-30", None), 'got "2012-02-30"'),
        (slice("2012-06+02:00", None), 'got "2012-06+02:00"'),
        (slice("2012-06-01 10:00+25:00", None), 'got "2012-06-01 10:00+25:00"'),
        (slice("2012-06-01 10:00+01:60", None), 'got "2012-06-01 10:00+01:60"'),
        (slice("", None), 'got ""'),
        (slice("100", None), 'got "100"; 100 without quotes is a bar number'),
        (slice("20120630", None), 'got "20120630"'),
        (
            slice("2003", "2012"),
            'must begin within the bars, 2004-08-19 to 2013-03-01, got "2003"; None ("none" in TOML) begins with the first',
        ),
        (slice("2014", None), 'window must begin within the bars, 2004-08-19 to 2013-03-01, got "2014"'),
        (
            slice(None, "2013-03-02"),
            'window must end within the bars, 2004-08-19 to 2013-03-01, got "2013-03-02"; None ("none" in TOML) ends with',
        ),
        (slice(None, "2003-01-01"), 'window must end within the bars, 2004-08-19 to 2013-03-01, got "2003-01-01"'),
        (slice("0001", None), 'window must begin within the bars, 2004-08-19 to 2013-03-01, got "0001"'),
        (slice(None, "9999-12-31 23:59:59.999999999"), "window must end within the bars"),
        (slice(None, datetime.datetime.max), "window must end within the bars"),
        (slice(datetime.date.min, None), "window must begin within the bars"),
        (slice("2012-06-02", "2012-06-03"), 'window must hold at least one bar, got none from "2012-06-02" to "2012-06-03"'),
        (slice("2012-06", "2010"), 'window must hold at least one bar, got none from "2012-06" to "2010"'),
        (slice(None, "2012-06-30 00:00Z"), 'window must be dates without a zone for bars without one, got "2012-06-30 00:00Z"'),
        (slice(pd.Timestamp("2012", tz="UTC"), None), "window must be dates without a zone for bars without one, got Timestamp("),
    ],
)
def test_what_is_no_window_is_refused(window, message):
    with pytest.raises(bt.InputError, match=re.escape(message)):
        GOOG.window(window)
    with pytest.raises(bt.InputError, match=re.escape(message)):
        bt.run(GOOG, CROSS, PARAMS, costs=COSTS, window=window)


def test_bars_without_dates_have_windows_of_numbers_only():
    bars = bt.Bars(open=GOOG.open, high=GOOG.high, low=GOOG.low, close=GOOG.close)
    assert bars.window(slice(5, 9)) == slice(5, 9)
    with pytest.raises(bt.InputError, match=r'^window must be bar numbers for bars without dates, got "2010" to none$'):
        bars.window(slice("2010", None))


# --- slices of bars -----------------------------------------------------------------------------------------------------


def test_bars_are_sliced_by_numbers_and_dates():
    part = GOOG[100:200]
    assert (len(part), part.symbol, part.tz) == (100, "GOOG", None)
    for name in ("open", "high", "low", "close", "volume", "index"):
        array = getattr(part, name)
        np.testing.assert_array_equal(array, getattr(GOOG, name)[100:200])
        assert not array.flags.writeable
        assert array.base is not None  # no copy
    assert GOOG["2010":"2012-06"].content_hash == GOOG[GOOG.window(slice("2010", "2012-06"))].content_hash
    assert GOOG[:].content_hash == GOOG.content_hash
    assert len(GOOG[-5:]) == 5
    with pytest.raises(AttributeError, match="Bars is immutable"):
        part.close = part.open


def test_a_slice_of_bars_is_bars_in_every_way():
    part = GOOG["2010":"2011"]
    again = bt.Bars.from_frame(GOOG.to_frame().loc["2010":"2011"], symbol="GOOG")
    assert part.content_hash == again.content_hash == pickle.loads(pickle.dumps(part)).content_hash
    assert part.inferred_periods() == again.inferred_periods()
    mine, theirs = (bt.run(bars, CROSS, PARAMS, costs=COSTS).stats for bars in (part, again))
    pd.testing.assert_series_equal(mine, theirs, check_exact=True)
    undated = bt.Bars(open=GOOG.open, high=GOOG.high, low=GOOG.low, close=GOOG.close)[5:9]
    assert (undated.index, undated.volume, len(undated)) == (None, None, 4)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (5, "bars must be sliced, got [5]; bars[5:6] is one bar"),
        (np.int64(-1), "bars must be sliced, got [-1]; bars[-1:] is one bar"),
        (3, "bars must be sliced, got [3]; bars[3:4] is one bar"),
        ("2010", 'bars must be sliced, got ["2010"]; bars["2010":"2010"] holds its bars'),
        ("close", 'bars must be sliced, got [\'close\']; bars["2012-06":"2012-06"] is a month'),
        (slice(2100, 2010), 'got bars 2100 to 2010 of 2148; whole numbers are bar numbers, the year is text: "2100"'),
        (slice(0, 100, 2), "or slice(500, 1500), got slice(0, 100, 2)"),
        (slice(9, 5), "bars must hold at least one row, got bars 9 to 5 of 2148"),
        (slice(5000, None), "bars must hold at least one row, got bars 2148 to 2148 of 2148"),
        (slice("2003", None), 'window must begin within the bars, 2004-08-19 to 2013-03-01, got "2003"'),
    ],
)
def test_what_is_no_slice_of_bars_is_refused(key, message):
    with pytest.raises(bt.InputError, match=re.escape(message)):
        GOOG[key]


# --- doors --------------------------------------------------------------------------------------------------------------

DATES, NUMBERS = slice("2010", "2011-06"), slice(1353, 1730)
LATER = slice("2011-07", None)


def test_numbers_of_these_dates():
    assert GOOG.window(DATES) == NUMBERS
    assert GOOG.window(LATER) == slice(1730, None)


def test_run_and_evaluate_take_dates(backend):
    mine, other = (bt.run(GOOG, CROSS, PARAMS, costs=COSTS, window=window) for window in (DATES, NUMBERS))
    assert mine.sums.tobytes() == other.sums.tobytes()
    assert str(mine.stats.to_backtesting()) == str(other.stats.to_backtesting())  # from the window's first bar
    tables = [bt.evaluate(GOOG, CROSS, SPACE, costs=COSTS, window=window) for window in (DATES, NUMBERS)]
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def optimize(bars=GOOG, window=DATES, **more):
    return bt.optimize(bars, CROSS, SPACE, costs=COSTS, window=window, progress=False, **more)


def test_optimize_takes_dates_and_says_both():
    mine, other = optimize(), optimize(window=NUMBERS)
    pd.testing.assert_frame_equal(mine.table, other.table, check_exact=True)
    assert mine.best.equity.equals(other.best.equity)
    assert (mine.provenance["window"], mine.provenance["window_dates"]) == ([1353, 1730], ["2010", "2011-06"])
    assert (other.provenance["window"], other.provenance["window_dates"]) == ([1353, 1730], None)
    moments = slice(pd.Timestamp("2010-01-01"), datetime.date(2011, 6, 30))
    assert optimize(window=moments).provenance["window_dates"] == ["2010-01-01", "2011-06-30"]


def test_cells_are_named_by_dates_and_resolved_on_each_symbols_bars():
    bars = {"GOOG": GOOG, "IBM": bt.Bars.sample("IBM")}
    result = optimize(bars, [DATES, LATER])
    assert result.provenance["cells"] == [f"{symbol}[{window}]" for symbol in bars for window in ("2010:2011-06", "2011-07:")]
    assert "sharpe@IBM[2010:2011-06]" in result.table
    ibm = bars["IBM"].window(DATES)
    assert ibm != NUMBERS
    assert result.provenance["window"] == {"GOOG": [[1353, 1730], [1730, None]], "IBM": [[ibm.start, ibm.stop], [ibm.stop, None]]}
    assert result.provenance["window_dates"] == [["2010", "2011-06"], ["2011-07", None]]
    json.dumps(json_safe(result.provenance), allow_nan=False)
    for name, run in result.best.items():
        symbol, _, window = name.partition("[")
        assert run.equity.index[0] == bars[symbol].times()[bars[symbol].window(DATES if window.startswith("2010") else LATER)][0]
    with pytest.raises(bt.DataError, match=r'^GOOG: window must begin within the bars, 2004-08-19 to 2013-03-01, got "2001"'):
        optimize(bars, slice("2001", "2012"))


def test_dates_that_are_the_same_bars_are_one_window():
    with pytest.raises(bt.InputError, match=r"window must hold each slice of bars once, got 2010:2011-06, bars 1353:1730, twice"):
        optimize(window=[DATES, slice("2010-01-01", "2011-06-30")])


@pytest.mark.parametrize("window", [(DATES, NUMBERS), ([DATES, LATER], [NUMBERS, slice(1730, None)])])
def test_a_store_knows_dates_by_their_bars(window, tmp_path):
    dates, numbers = window
    url = f"sqlite:///{tmp_path / 'r.db'}"
    assert "4 of them from the store" not in optimize(window=numbers, store=url).search
    again = optimize(window=dates, store=url)
    assert "4 of them from the store" in again.search
    pd.testing.assert_frame_equal(
        again.table.set_axis(range(again.table.shape[1]), axis=1),
        optimize(window=numbers).table.set_axis(range(again.table.shape[1]), axis=1),
        check_exact=True,
    )


def closes():
    return pd.DataFrame({name: bt.Bars.sample(name).close for name in ("AAPL", "IBM")}, index=bt.Bars.sample("IBM").times())


def test_books_take_dates(tmp_path):
    close = closes()
    weights = pd.DataFrame(0.5, index=close.index, columns=close.columns).where(
        np.repeat(np.arange(len(close))[:, None] % 50 == 0, 2, axis=1)
    )
    common = {"close": close, "fill": "close", "costs": COSTS}
    rows = bt.Bars.sample("IBM").window(DATES)
    mine, other = (bt.simulate(weights, window=window, **common) for window in (DATES, rows))
    assert (mine.first, mine.last) == (rows.start, rows.stop)
    assert mine.stats.equals(other.stats)
    for window in (DATES, [DATES, LATER]):
        result = bt.optimize_weights(lambda params: weights, {"x": [1, 2]}, window=window, progress=False, **common)
        assert result.provenance["window_dates"] is not None
        assert result.provenance["start"] == rows.start
    assert list(result.best) == ["2010:2011-06", "2011-07:"]
    with pytest.raises(bt.DataError, match=r'window must end within the bars, 2000-03-01 to 2013-03-01, got "2014"'):
        bt.simulate(weights, window=slice(None, "2014"), **common)
    with pytest.raises(bt.InputError, match="for bars without dates"):
        bt.simulate(weights.to_numpy(), window=DATES, **common | {"close": close.to_numpy()}, periods_per_year=252)


@pytest.mark.parametrize("window", [("2010", "2012-06"), ["2010", "2012"], [[1, 2]], (1, 2)])
def test_a_pair_is_no_window_and_the_error_shows_one(window):
    message = re.escape(f'such as slice("2010", "2012-06") or slice(500, 1500), got {window!r}')
    for call in (lambda: optimize(window=window), lambda: bt.run(GOOG, CROSS, PARAMS, costs=COSTS, window=window)):
        with pytest.raises(bt.InputError, match=message):
            call()


def test_one_run_has_one_window():
    message = r"^window must be one slice of bars here, got 2 in a list; several windows belong to evaluate, optimize and"
    with pytest.raises(bt.InputError, match=message):
        bt.run(GOOG, CROSS, PARAMS, costs=COSTS, window=[DATES, LATER])
    with pytest.raises(bt.InputError, match=message):
        bt.simulate(closes() * 0 + 0.5, close=closes(), fill="close", costs=COSTS, window=[DATES, LATER])


def test_numbers_that_look_like_years_are_bar_numbers_and_an_empty_window_says_so():
    assert len(GOOG[2010:2012]) == 2
    hint = r'; whole numbers are bar numbers, the year is text: "2010"$'
    short = GOOG[:1500]
    with pytest.raises(bt.DataError, match=hint):
        bt.run(short, CROSS, PARAMS, costs=COSTS, window=slice(2010, 2012))
    close = short.to_frame()[["Close"]]
    with pytest.raises(bt.DataError, match=hint):
        bt.simulate(close * 0 + 1, close=close, fill="close", costs=COSTS, window=slice(2010, None))
    for window in (slice(1500, 1501), slice(2010, 3000)):
        with pytest.raises(bt.DataError, match=r"leave none$"):
            bt.run(short, CROSS, PARAMS, costs=COSTS, window=window)


def test_start_is_where_the_warm_up_is_over_and_a_window_begins_after_it():
    result = optimize(window=DATES)
    assert (result.start, result.best.first) == (optimize(window=None).start, NUMBERS.start)
    assert result.start < NUMBERS.start

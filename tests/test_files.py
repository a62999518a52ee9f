"""Files as people have them: each read as it was meant, or refused with what to type; none misread."""

import contextlib
import datetime
import gzip
import io
import logging
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import invoke

import backtest as bt
from backtest.config import portfolio as portfolio_config
from backtest.files.reading import Reading
from backtest.files.tables import read_wide

HEADER = "Date,Open,High,Low,Close"
ROW = "10.5,12.5,9.5,11.5"


def write(folder, dates, header=HEADER, row=ROW, name="x.csv"):
    path = folder / name
    path.write_text("\n".join([header, *(f"{date},{row}" for date in dates)]) + "\n")
    return path


def times(path, **told):
    return [str(each) for each in bt.Bars.read(path, **told).times()]


# -- order of day and month --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["30/01/2014", "31/01/2014", "01/02/2014"], ["2014-01-30", "2014-01-31", "2014-02-01"]),
        (["01/30/2014", "01/31/2014", "02/01/2014"], ["2014-01-30", "2014-01-31", "2014-02-01"]),
        (["01.02.2014", "01.03.2014", "01.04.2014"], ["2014-02-01", "2014-03-01", "2014-04-01"]),
        (["1.2.2014", "1.3.2014"], ["2014-02-01", "2014-03-01"]),
        (["31-01-2014", "01-02-2014"], ["2014-01-31", "2014-02-01"]),
        (["2014/01/02", "2014/01/03"], ["2014-01-02", "2014-01-03"]),
        (["2014-1-2", "2014-1-3"], ["2014-01-02", "2014-01-03"]),
        (["30.01.14", "31.01.14", "03.02.14"], ["2014-01-30", "2014-01-31", "2014-02-03"]),
        (["30/01/14", "31/01/14", "03/02/14"], ["2014-01-30", "2014-01-31", "2014-02-03"]),
        (["30/12/99", "31/12/99", "03/01/00"], ["1999-12-30", "1999-12-31", "2000-01-03"]),
        (["02 Jan 2014", "03 Feb 2014"], ["2014-01-02", "2014-02-03"]),
        (["02-Jan-14", "03-Feb-14"], ["2014-01-02", "2014-02-03"]),
        (['"Jan 2, 2014"', '"Sept 3, 2014"'], ["2014-01-02", "2014-09-03"]),
        (['"Thu, January 2, 2014"', '"Mon, February 3, 2014"'], ["2014-01-02", "2014-02-03"]),
        (["2014-Jan-02", "2014-Feb-03"], ["2014-01-02", "2014-02-03"]),
    ],
)
def test_dates_are_decided_on_the_whole_column(tmp_path, dates, expected):
    assert times(write(tmp_path, dates)) == [f"{each} 00:00:00" for each in expected]


@pytest.mark.parametrize(
    ("dates", "formats"),
    [
        (["01/02/2014", "01/03/2014"], ["%d/%m/%Y", "%m/%d/%Y"]),
        (["01-02-2014", "01-03-2014"], ["%d-%m-%Y", "%m-%d-%Y"]),
        (["01/02/2014 10:00", "01/03/2014 10:00"], ["%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"]),
        (["01/02/14", "01/03/14"], ["%d/%m/%y", "%m/%d/%y"]),
        (["14.01.29", "14.01.30", "14.01.31"], ["%d.%m.%y", "%y.%m.%d"]),
        (["03.02.01", "03.03.01"], ["%d.%m.%y", "%y.%m.%d"]),
        (["02.01.14", "03.01.14", "06.01.14"], ["%d.%m.%y", "%y.%m.%d"]),
    ],
)
def test_dates_that_fit_two_orders_are_refused_with_what_to_type(tmp_path, dates, formats):
    path = write(tmp_path, dates)
    with pytest.raises(bt.DataError) as caught:
        bt.Bars.read(path)
    message = str(caught.value)
    assert message.startswith(f"the time column 'Date' must hold dates of an unambiguous order, got {dates[0]!r} (row 0, line 2)")
    assert message.endswith("in x.csv")
    for each in formats:
        assert f'dates="{each}"' in message
        assert len(bt.Bars.read(path, dates=each)) == len(dates)


@pytest.mark.parametrize(
    ("dates", "message"),
    [
        (["2014-01-31", "2014-02-30"], "must hold dates, got '2014-02-30' (row 1, line 3)"),
        (["13/13/2014"], "must hold dates, got '13/13/2014' (row 0, line 2)"),
        (["13/01/2014", "01/13/2014"], "must hold dates, got '01/13/2014' (row 1, line 3)"),
        (["2014-01-31", "today"], "must hold dates, got 'today' (row 1, line 3)"),
        (["2014-01-31", ""], "must have no missing date, got NaT (row 1, line 3)"),
        (["31/01/62"], "must hold years of four digits where two do not tell the century (50 to 69), got '31/01/62'"),
        (["2020-01-31 09:00 EST"], "must hold dates, got '2020-01-31 09:00 EST'"),
        (["2020-01-31 09:00Z", "2020-02-03 09:00"], "must hold times that all have an offset or all have none, got"),
        (["9999-12-31"], "must hold dates, got '9999-12-31' (row 0, line 2)"),
        (["Jan 2014"], "must hold dates, got 'Jan 2014'"),
    ],
)
def test_what_is_no_date_is_named_with_its_line(tmp_path, dates, message):
    with pytest.raises(bt.DataError) as caught:
        bt.Bars.read(write(tmp_path, dates))
    assert message in str(caught.value)
    assert "in x.csv" in str(caught.value)


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (
            ["01/31/2014 9:30 AM", "01/31/2014 12:15 PM", "02/03/2014 1:00 pm"],
            ["2014-01-31 09:30:00", "2014-01-31 12:15:00", "2014-02-03 13:00:00"],
        ),
        (["2014-01-31 09:30:00", "2014-01-31 09:30:00.500"], ["2014-01-31 09:30:00", "2014-01-31 09:30:00.500000"]),
        (["20140131 093000", "20140131 093100"], ["2014-01-31 09:30:00", "2014-01-31 09:31:00"]),
        (["2014-01-31T09:30", "2014-01-31T09:31"], ["2014-01-31 09:30:00", "2014-01-31 09:31:00"]),
    ],
)
def test_times_of_day(tmp_path, dates, expected):
    assert times(write(tmp_path, dates)) == expected


def monthly():
    """Two years of bars on the first of each month."""
    index = pd.date_range("2014-01-01", periods=24, freq="MS")
    close = 100 * np.cumprod(1 + 0.02 + 0.04 * np.sin(np.arange(24) * 1.7))
    return pd.DataFrame({"Open": close, "High": close * 1.01, "Low": close * 0.99, "Close": close}, index=index)


@pytest.mark.parametrize(("form", "told"), [("%d/%m/%Y", {"dates": "%d/%m/%Y"}), ("%d.%m.%Y", {}), ("%Y-%m-%d", {})])
def test_monthly_bars_have_twelve_periods_a_year(tmp_path, form, told):
    frame = monthly()
    frame.set_axis(frame.index.strftime(form)).to_csv(tmp_path / "m.csv", index_label="Date")
    bars = bt.Bars.read(tmp_path / "m.csv", **told)
    assert bars.inferred_periods_per_year() == pytest.approx(12, abs=0.1)
    hold = bt.rules.from_arrays(np.arange(24) == 0, np.zeros(24, dtype=bool))
    run = bt.run(bars, hold, {}, costs=bt.Costs.zero(), execution=bt.Execution(fill="close"))
    r = frame["Close"].pct_change().to_numpy()[1:]
    r = np.append(0.0, r)  # bought at the first close
    assert run.stats["sharpe"] == pytest.approx(r.mean() / r.std(ddof=1) * np.sqrt(bars.inferred_periods_per_year()), rel=1e-9)


# -- numbers that are times --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([20200131, 20200203], ["2020-01-31", "2020-02-03"]),
        ([202001311530, 202002031530], ["2020-01-31T15:30", "2020-02-03T15:30"]),
        ([20200131153000, 20200203153059], ["2020-01-31T15:30", "2020-02-03T15:30:59"]),
        ([1580428800, 1580688000], ["2020-01-31", "2020-02-03"]),
        ([1580428800000, 1580688000000], ["2020-01-31", "2020-02-03"]),
        ([1580428800000000, 1580688000000000], ["2020-01-31", "2020-02-03"]),
        ([1580428800000000001, 1580688000000000000], ["2020-01-31T00:00:00.000000001", "2020-02-03"]),
        ([1580428800.5, 1580688000.25], ["2020-01-31T00:00:00.5", "2020-02-03T00:00:00.25"]),
        ([-86400, 0, 86400 * 365, 86400 * 366], ["1969-12-31", "1970-01-01", "1971-01-01", "1971-01-02"]),
    ],
)
def test_numbers_are_told_wherever_they_stand(tmp_path, stamps, expected):
    n_bars = len(stamps)
    prices = {name: np.full(n_bars, 10.0) for name in ("open", "high", "low", "close")}
    frame = pd.DataFrame(prices)
    names = ("Date", "timestamp", "open_time", "")
    found = [bt.Bars.read(write(tmp_path, stamps, HEADER.replace("Date", name))) for name in names]
    found += [
        bt.Bars.from_frame(frame.assign(open_time=stamps)),
        bt.Bars.from_frame(frame.set_axis(pd.Index(stamps))),
        bt.Bars.from_frame(frame.set_axis(pd.Index(stamps).astype(str))),
    ]
    frame.set_axis(pd.Index(stamps, name="open_time")).to_parquet(tmp_path / "x.parquet")
    found.append(bt.Bars.read(tmp_path / "x.parquet"))
    for bars in found:
        assert bars.index is not None
        assert bars.index.tolist() == np.array(expected, dtype="M8[ns]").tolist()
    book = bt.simulate(
        np.full((n_bars, 1), np.nan), close=frame[["close"]].set_axis(pd.Index(stamps)), fill="close", costs=bt.Costs.zero()
    )
    assert book.equity.index.tolist() == found[0].times().tolist()
    ledger = pd.DataFrame({"fill_bar": [0], "units": [1.0], "price": [10.0]})
    trades = bt.track_trades(ledger, close=prices["close"], index=stamps)
    assert trades.open_positions["entry_time"].tolist() == [found[0].times()[0]]


@pytest.mark.parametrize(
    ("stamps", "message", "told", "expected"),
    [
        ([43861, 43864], 'dates="excel"', "excel", ["2020-01-31", "2020-02-03"]),
        ([43861.645833333336, 43864.5], 'dates="excel"', "excel", ["2020-01-31T15:30", "2020-02-03T12:00"]),
        ([2020013115, 2020020315], 'dates="%Y%m%d%H" or dates="unix_s"', "%Y%m%d%H", ["2020-01-31T15", "2020-02-03T15"]),
        ([202001280000, 202003260000], 'dates="%Y%m%d%H%M" or dates="unix_ms"', "%Y%m%d%H%M", ["2020-01-28", "2020-03-26"]),
        ([1580428800000, 1780688000000000], 'dates="unix_s", "unix_ms"', None, None),
        ([2019, 2020], "must hold dates, got numbers, 2019", "%Y", ["2019-01-01", "2020-01-01"]),
        ([202001, 202002], "must hold dates, got numbers, 202001", "%Y%m", ["2020-01-01", "2020-02-01"]),
    ],
)
def test_numbers_that_may_be_two_things_are_refused(tmp_path, stamps, message, told, expected):
    path, frame = write(tmp_path, stamps), pd.DataFrame({each: [10.0, 11.0] for each in HEADER.split(",")[1:]}, index=stamps)
    for read in (lambda **more: bt.Bars.read(path, **more), lambda **more: bt.Bars.from_frame(frame, **more)):
        with pytest.raises(bt.DataError) as caught:
            read()
        assert message in str(caught.value)
        if told is not None:
            assert read(dates=told).index.tolist() == np.array(expected, dtype="M8[ns]").tolist()


@pytest.mark.parametrize("labels", [range(3), range(100, 103), range(43861, 43864), [0, 1, 2], [1, 2, 3], [5, 3, 9], [2, 0, 1]])
def test_labels_that_only_number_the_rows_are_no_times(labels):
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 1.0), index=pd.Index(labels))
    assert bt.Bars.from_frame(frame).index is None


@pytest.mark.parametrize("labels", [range(2, -1, -1), [2, 1, 0], [3, 2, 1], range(1, -1, -1), [9, 7, 2]])
def test_an_index_that_counts_down_is_refused(labels):
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 1.0), index=pd.Index(labels))
    counts = rf"got {labels[0]} \(row 0\) down to {labels[-1]}: newest first\? frame\[::-1\]"
    with pytest.raises(bt.DataError, match=f"the index must count up where it only numbers the rows, {counts}"):
        bt.Bars.from_frame(frame)
    assert len(bt.Bars.from_frame(frame.reset_index(drop=True))) == len(bt.Bars.from_frame(frame[::-1])) == len(labels)
    dated = frame.assign(date=pd.date_range("2020-01-31", periods=len(labels)))
    assert bt.Bars.from_frame(dated).index is not None  # where a column holds the times, the index says nothing


def test_a_complex_index_is_refused():
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 1.0), index=pd.Index([1 + 2j, 2 + 0j]))
    with pytest.raises(bt.DataError, match="the index must hold dates, or number the rows, got complex numbers"):
        bt.Bars.from_frame(frame)


@settings(max_examples=40)
@given(
    st.lists(st.integers(31_536_000, 4_100_000_000), min_size=1, max_size=20, unique=True),
    st.sampled_from([("unix_s", 1), ("unix_ms", 1000), ("unix_us", 10**6), ("unix_ns", 10**9)]),
)
def test_unix_times_are_read_right_or_refused(seconds, unit):
    """Whatever the column: told by ``dates`` it is what it is, and untold never something else in silence."""
    word, per_second = unit
    stamps = sorted(each * per_second for each in seconds)
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 1.0), index=range(len(stamps))).assign(time=stamps)
    right = (np.array(sorted(seconds)) * 10**9).astype("M8[ns]")
    assert (bt.Bars.from_frame(frame, dates=word).index == right).all()
    try:
        found = bt.Bars.from_frame(frame).index
    except bt.DataError:
        return
    assert (found == right).all()


# -- zones -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        (["2020-01-31T09:00:00+01:00", "2020-02-03T09:00:00+01:00"], ["2020-01-31 08:00", "2020-02-03 08:00"]),
        (["2020-01-31T09:00:00+01:00", "2020-07-03T09:00:00+02:00"], ["2020-01-31 08:00", "2020-07-03 07:00"]),
        (["2020-01-31 09:00:00Z", "2020-07-03 09:00:00Z"], ["2020-01-31 09:00", "2020-07-03 09:00"]),
        (["31.01.2020 09:00:00.000 GMT+0100", "03.07.2020 09:00:00.000 GMT+0200"], ["2020-01-31 08:00", "2020-07-03 07:00"]),
    ],
)
def test_offsets_become_utc_and_tz_converts(tmp_path, dates, expected):
    path = write(tmp_path, dates)
    bars = bt.Bars.read(path)
    assert (bars.tz, bars.times().tolist()) == ("UTC", pd.DatetimeIndex(expected, tz="UTC").tolist())
    local = bt.Bars.read(path, tz="Europe/Berlin")
    assert (local.tz, local.index.tolist()) == ("Europe/Berlin", bars.index.tolist())


def test_a_frame_with_an_offset_is_in_utc_and_tz_localises_naive_times(tmp_path):
    frame = monthly()
    assert bt.Bars.from_frame(frame.tz_localize("+02:00")).tz == "UTC"
    assert bt.Bars.from_frame(frame.tz_localize("Asia/Tokyo")).tz == "Asia/Tokyo"
    assert bt.Bars.from_frame(frame.tz_localize("Asia/Tokyo"), tz="UTC").times()[0] == pd.Timestamp("2013-12-31 15:00", tz="UTC")
    berlin = bt.Bars.from_frame(frame, tz="Europe/Berlin")
    assert berlin.times().tolist() == frame.index.tz_localize("Europe/Berlin").tolist()
    unix = write(tmp_path, [1580428800, 1580688000])
    assert bt.Bars.read(unix, tz="Europe/Berlin").times()[0] == pd.Timestamp("2020-01-31 01:00", tz="Europe/Berlin")


@pytest.mark.parametrize(("date", "how"), [("2020-10-25 02:30", "twice"), ("2020-03-29 02:30", "never")])
def test_hours_that_a_zone_has_twice_or_never_are_refused_by_row(tmp_path, date, how):
    path = write(tmp_path, ["2020-01-31 09:00", date])
    with pytest.raises(bt.DataError, match=rf"Europe/Berlin has once, got {date}:00 \(row 1, line 3\), which it has {how}"):
        bt.Bars.read(path, tz="Europe/Berlin")


# -- how a file is written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Date;Open;High;Low;Close\n2020-01-31;1,5;2,5;1;2\n2020-02-03;2;3,25;1;2\n", {}),
        ("Date\tOpen\tHigh\tLow\tClose\n2020-01-31\t1.5\t2.5\t1\t2\n2020-02-03\t2\t3.25\t1\t2\n", {}),
        ("Date|Open|High|Low|Close\n2020-01-31|1.5|2.5|1|2\n2020-02-03|2|3.25|1|2\n", {}),
        ("Date, Open, High, Low, Close\n2020-01-31, 1.5, 2.5, 1, 2\n2020-02-03, 2, 3.25, 1, 2 \n", {}),
        ('Date,Open,High,Low,Close\n2020-01-31,"1,5","2,5",1,2\n2020-02-03,2,"3,25",1,2\n', {}),
        ("Date:Open:High:Low:Close\n2020-01-31:1.5:2.5:1:2\n2020-02-03:2:3.25:1:2\n", {"sep": ":"}),
        ("https://www.example.com\nDate,Open,High,Low,Close\n2020-01-31,1.5,2.5,1,2\n\n2020-02-03,2,3.25,1,2\n", {}),
        ("Price,Close,High,Low,Open\nTicker,AAPL,AAPL,AAPL,AAPL\nDate,,,,\n2020-01-31,2,2.5,1,1.5\n2020-02-03,2,3.25,1,2\n", {}),
        ("t,o,h,l,c\n1580428800,1.5,2.5,1,2\n1580688000,2,3.25,1,2\n", {}),
        ("<DATE>\t<OPEN>\t<HIGH>\t<LOW>\t<CLOSE>\n2020.01.31\t1.5\t2.5\t1\t2\n2020.02.03\t2\t3.25\t1\t2\n", {}),
        (
            "Datum;Eröffnung;Hoch;Tief;Schluß\n31.01.2020;1,5;2,5;1,0;2,0\n03.02.2020;2,0;3,25;1,0;2,0\n",
            {"columns": {"Date": "Datum", "Open": "Eröffnung", "High": "Hoch", "Low": "Tief", "Close": "Schluß"}},
        ),
        ("Date,Close/Last,Open,High,Low\n01/31/2020,$2,$1.50,$2.50,$1\n02/03/2020,$2,$2,$3.25,$1\n", {}),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_what_can_be_told_is_told(tmp_path, text, told, encoding):
    (tmp_path / "x.csv").write_bytes(text.encode(encoding))
    bars = bt.Bars.read(tmp_path / "x.csv", **told)
    assert bars.index.tolist() == np.array(["2020-01-31", "2020-02-03"], dtype="M8[ns]").tolist()
    assert [bars.open.tolist(), bars.high.tolist(), bars.low.tolist(), bars.close.tolist()] == [
        [1.5, 2.0],
        [2.5, 3.25],
        [1.0, 1.0],
        [2.0, 2.0],
    ]


def test_what_was_taken_is_logged(tmp_path, caplog):
    (tmp_path / "x.csv").write_bytes("\ufeffDate;Open;High;Low;Close\n31.01.2020;1,5;2,5;1;2\n".encode())
    with caplog.at_level(logging.INFO, logger="backtest"):
        bt.Bars.read(tmp_path / "x.csv")
        bt.Bars.from_frame(pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), 1.0), index=[20200131]))
    assert [each.getMessage() for each in caplog.records] == [
        "x.csv: encoding utf-8-sig; separator a semicolon; the time column 'Date' taken as %d.%m.%Y (day first); decimal ','",
        "the index taken as %Y%m%d",
    ]


@pytest.mark.parametrize(
    ("price", "told", "expected"),
    [
        ("1234.5", {}, 1234.5),
        ("1,234.5", {}, 1234.5),
        ("1.234,5", {}, 1234.5),
        ("1 234,5", {}, 1234.5),
        ("1'234.5", {}, 1234.5),
        ("1,234,567", {}, 1234567.0),
        ("1.234.567", {}, 1234567.0),
        ("110.123", {}, 110.123),
        ("1,23", {}, 1.23),
        ("0,123", {}, 0.123),
        ("1234,567", {}, 1234.567),
        ("1,234", {"decimal": ","}, 1.234),
        ("1,234", {"thousands": ","}, 1234.0),
        ("1,234", {"decimal": "."}, 1234.0),
        ("1.234", {"thousands": "."}, 1234.0),
        ("1e3", {}, 1000.0),
    ],
)
def test_decimal_marks_and_thousands(tmp_path, price, told, expected):
    (tmp_path / "x.csv").write_text(f"Date;Open;High;Low;Close\n2020-01-31;{price};{price};{price};{price}\n")
    assert bt.Bars.read(tmp_path / "x.csv", **told).close.tolist() == [expected]


@pytest.mark.parametrize(
    ("prices", "message"),
    [
        (
            ["1,234", "2,345"],
            "numbers must show whether a comma is their decimal mark, got '1,234' (row 0, line 2) in column 'Open'",
        ),
        (["1.5", "2,5"], "numbers must have one decimal mark, got '1.5' (row 0, line 2) in column 'Open' and '2,5' (row 1"),
        (["1.5", "1_5"], "column 'Open' must hold numbers, got '1_5' (row 1, line 3)"),
        (["1.5", "12.5M"], "column 'Open' must hold numbers, got '12.5M' (row 1, line 3)"),
        (["1.5", ""], "open must be finite, got nan (row 1)"),
    ],
)
def test_numbers_that_cannot_be_told_are_refused(tmp_path, prices, message):
    lines = [f"{day};{price};{price};{price};{price}" for day, price in zip(["2020-01-31", "2020-02-03"], prices, strict=True)]
    (tmp_path / "x.csv").write_text("\n".join(["Date;Open;High;Low;Close", *lines]))
    with pytest.raises(bt.DataError) as caught:
        bt.Bars.read(tmp_path / "x.csv")
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("in x.csv")
    if "comma" in message:
        assert 'decimal="," or thousands=","' in str(caught.value)


def of_prices(folder, closes, volumes=None, beside=()):
    """A file of these closes (and volumes), with semicolons."""
    lines = [f"2020-02-{day:02};{close};{close};{close};{close}" for day, close in enumerate(closes, start=1)]
    if volumes:
        lines = [f"{line};{volume}" for line, volume in zip(lines, volumes, strict=True)]
    if beside:
        lines = [f"{line};{each}" for line, each in zip(lines, beside, strict=True)]
    header = "Date;Open;High;Low;Close" + ";Volume" * bool(volumes) + ";Change" * bool(beside)
    (folder / "x.csv").write_text("\n".join([header, *lines]) + "\n")
    return folder / "x.csv"


@pytest.mark.parametrize(
    ("closes", "volumes", "expected", "expected_volumes"),
    [
        (["980", "990", "1.010"], ["1,5", "1,5", "2,5"], [980, 990, 1010], [1.5, 1.5, 2.5]),
        (["9,50", "9,75", "10,25"], ["950", "980", "12.500"], [9.5, 9.75, 10.25], [950, 980, 12500]),
        (["9,50", "9,75", "10,25"], ["12.500", "12.750", "13.000"], [9.5, 9.75, 10.25], [12500, 12750, 13000]),
        (["9.50", "9.75", "10.25"], ["950", "980", "12,500"], [9.5, 9.75, 10.25], [950, 980, 12500]),
        (["9.50", "999", "1.250"], ["950", "980", "1"], [9.5, 999, 1.25], [950, 980, 1]),
        (["1.250", "1.260", "1.270"], ["950", "980", "1000"], [1.25, 1.26, 1.27], [950, 980, 1000]),
        (["10", "10.5", "10.125"], ["1", "2", "3"], [10, 10.5, 10.125], [1, 2, 3]),
        (["0.999", "999", "1.250"], ["1", "2", "3"], [0.999, 999, 1.25], [1, 2, 3]),
        (["1234.567", "999", "1.250"], ["1", "2", "3"], [1234.567, 999, 1.25], [1, 2, 3]),
    ],
)
def test_a_mark_proven_anywhere_holds_for_every_column(tmp_path, closes, volumes, expected, expected_volumes):
    bars = bt.Bars.read(of_prices(tmp_path, closes, volumes))
    assert (bars.close.tolist(), bars.volume.tolist()) == (expected, expected_volumes)


@pytest.mark.parametrize(
    ("closes", "volumes", "message"),
    [
        (
            ["999", "1.250"],
            ["1", "2"],
            "numbers must show whether a point is their decimal mark, got '1.250' (row 1, line 3) in "
            "column 'Open' beside '999' (row 0, line 2)",
        ),
        (["12.500", "13.500"], ["999", "1.250"], "got '1.250' (row 1, line 3) in column 'Volume' beside '999' (row 0, line 2)"),
        (["9,50", "9,75"], ["950", "0.500"], "must have one decimal mark, got '0.500' (row 1, line 3) in column 'Volume' and"),
        (["1010", "12.500"], ["1", "2"], "in column 'Open' beside '1010' (row 0, line 2)"),  # Spanish writes so
        (["1.010", "12.500"], ["1,5", "1'000"], "column 'Volume' must hold numbers, got \"1'000\" (row 1, line 3); decimal= and"),
        (["9,50", "9,75"], ["950", "12.50"], "must have one decimal mark, got '12.50' (row 1, line 3) in column 'Volume' and"),
    ],
)
def test_points_that_may_be_thousands_are_refused(tmp_path, closes, volumes, message):
    with pytest.raises(bt.DataError) as caught:
        bt.Bars.read(of_prices(tmp_path, closes, volumes))
    assert message in str(caught.value)
    assert "decimal=" in str(caught.value)


def test_what_says_whether_points_are_thousands(tmp_path):
    path = of_prices(tmp_path, ["999", "1.250"])
    assert bt.Bars.read(path, decimal=".").close.tolist() == [999.0, 1.25]
    for told in ({"thousands": "."}, {"decimal": ","}):
        assert bt.Bars.read(path, **told).close.tolist() == [999.0, 1250.0]
    path = of_prices(tmp_path, ["1.250", "1.260"], beside=["1,5%", "-0,25%"])
    with pytest.raises(bt.DataError, match=r"got '1\.250' .* and a comma in column 'Change', '1,5%' \(row 0, line 2\); decimal="):
        bt.Bars.read(path)
    assert bt.Bars.read(path, thousands=".").close.tolist() == [1250.0, 1260.0]


def test_a_comma_in_one_asset_is_one_for_all(tmp_path):
    (tmp_path / "w.csv").write_text("Date;A;B\n2020-01-30;980;9,5\n2020-01-31;990;9,75\n2020-02-03;1.010;10\n")
    assert read_wide(tmp_path / "w.csv", Reading()).to_numpy().tolist() == [[980, 9.5], [990, 9.75], [1010, 10]]
    (tmp_path / "w.csv").write_text("Date;A;B\n2020-01-30;980;\n2020-01-31;990;95\n2020-02-03;1.010;96\n")
    with pytest.raises(bt.DataError, match=r"got '1\.010' \(row 2, line 4\) in column 'A' beside '980' \(row 0, line 2\)"):
        read_wide(tmp_path / "w.csv", Reading())
    assert read_wide(tmp_path / "w.csv", Reading(decimal=".")).loc["2020-02-03"].tolist() == [1.01, 96]


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("<DATE>,<TIME>,<OPEN>,<HIGH>,<LOW>,<CLOSE>", ["2020.01.31,09:30", "2020.01.31,09:31"], ["09:30", "09:31"]),
        ("Date,Time,Open,High,Low,Close", ["20200131,93000", "20200131,153559"], ["09:30", "15:35:59"]),
        ("Date,Time,Open,High,Low,Close", ["20200131,0930", "20200131,1535"], ["09:30", "15:35"]),
        ("Date,Time,Open,High,Low,Close", ["01/31/2020,9:30 AM", "01/31/2020,3:35 PM"], ["09:30", "15:35"]),
    ],
)
def test_date_and_time_in_two_columns(tmp_path, header, cells, expected):
    assert times(write(tmp_path, cells, header)) == [str(pd.Timestamp(f"2020-01-31 {each}")) for each in expected]


TWO = "Date,Time,Open,High,Low,Close"


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (
            ["2020-01-31,09:30", "2020-01-31,"],
            "column 'Time' must hold a time of day in every row, got '' (row 1, line 3); columns=",
        ),
        (
            ["2020-01-31,9h30", "2020-01-31,9h31"],
            "column 'Time' must hold times of day such as 09:30 or 9:30 AM, got '9h30' (row 0",
        ),
        (["2020-01-31,09:30", "2020-01-31,09:31 EST"], "must hold times of day such as 09:30 or 9:30 AM, got '09:31 EST' (row 1"),
        (
            ["2020-01-31,0.39583", "2020-02-03,0.4"],
            "column 'Time' must hold times of day such as 09:30 or 9:30 AM, got '0.39583'",
        ),
        (
            ["2020-01-31 09:30:00,09:31", "2020-02-03 09:30:00,09:30"],
            "column 'Time' must agree with the times of day in 'Date', got 09:31 beside 2020-01-31 09:30:00 (row 0, line 2)",
        ),
        (["2020-01-31,9", "2020-01-31,10"], "which fits four readings, hours and minutes since midnight and seconds"),
        (["2020-01-31,550", "2020-01-31,551"], "got 550 (row 0, line 2), which fits three readings, minutes since midnight"),
        (["2020-01-31,930", "2020-01-31,935"], "three readings, minutes since midnight and seconds since midnight and HHMM"),
        (["2020-01-31,930", "2020-01-31,1535"], "which fits two readings, seconds since midnight and HHMM"),
        (["2020-01-31,34200", "2020-01-31,34500"], "which fits two readings, seconds since midnight and HHMMSS"),
        (["2020-01-31,34260", "2020-01-31,86000"], "must hold unambiguous times of day, such as 09:30, got 34260"),
        (["2020-01-31,0930", "2020-01-31,0975"], "must hold unambiguous times of day, such as 09:30, got 0930"),
        (["2020-01-31,093000", "2020-01-31,253000"], "must hold unambiguous times of day, such as 09:30, got 253000 (row 1"),
    ],
)
def test_a_time_column_that_cannot_be_read_is_refused(tmp_path, cells, message):
    path = write(tmp_path, cells, TWO)
    with pytest.raises(bt.DataError) as caught:
        bt.Bars.read(path)
    assert message in str(caught.value)
    assert str(caught.value).endswith("in x.csv")
    frame = pd.read_csv(path, dtype=None if path.read_text().count(",0") == 0 else {"Time": str})
    with pytest.raises(bt.DataError, match="column 'Time' must"):
        bt.Bars.from_frame(frame)


@pytest.mark.parametrize(
    ("cells", "told", "expected"),
    [
        (["2020-01-31 00:00:00,09:30", "2020-01-31 00:00:00,09:31"], {}, ["2020-01-31 09:30", "2020-01-31 09:31"]),
        (["31.01.2020 00:00,9:30 AM", "31.01.2020 00:00,1:31 PM"], {}, ["2020-01-31 09:30", "2020-01-31 13:31"]),
        (["2020-01-31 09:30:00,09:30", "2020-01-31 09:31:00,09:31"], {}, ["2020-01-31 09:30", "2020-01-31 09:31"]),
        (["2020-01-31 09:30:15,09:30", "2020-01-31 09:31:15,09:31"], {}, ["2020-01-31 09:30:15", "2020-01-31 09:31:15"]),
        (
            ["2020-01-31 09:30+01:00,09:30", "2020-07-31 09:31+02:00,09:31"],
            {},
            ["2020-01-31 08:30+00:00", "2020-07-31 07:31+00:00"],
        ),
        (["2020-01-31T00:00:00Z,09:30", "2020-01-31T00:00:00Z,09:31"], {}, ["2020-01-31 09:30+00:00", "2020-01-31 09:31+00:00"]),
        (["202001310930,0930", "202001311531,1531"], {}, ["2020-01-31 09:30", "2020-01-31 15:31"]),
        (["2020-01-31,", "2020-02-03,"], {}, ["2020-01-31", "2020-02-03"]),
        (["2020-01-31,9h30", "2020-02-03,9h31"], {"columns": {"Date": "Date"}}, ["2020-01-31", "2020-02-03"]),
        (["2020-01-31,0000", "2020-01-31,0005"], {}, ["2020-01-31", "2020-01-31 00:05"]),
        (["2020-01-31,034200", "2020-01-31,034500"], {}, ["2020-01-31 03:42", "2020-01-31 03:45"]),
        (["2020-01-31,930", "2020-01-31,1535"], {"dates": "%Y-%m-%d %H%M"}, ["2020-01-31 09:30", "2020-01-31 15:35"]),
        (["20200131,105", "20200131,110"], {"dates": "%Y%m%d %H%M"}, ["2020-01-31 01:05", "2020-01-31 01:10"]),
        (["2020-01-31,34200", "2020-01-31,34500"], {"dates": "%Y-%m-%d %H%M%S"}, ["2020-01-31 03:42", "2020-01-31 03:45"]),
        (["43861,09:30", "43861,09:31"], {"dates": "excel"}, ["2020-01-31 09:30", "2020-01-31 09:31"]),
    ],
)
def test_time_columns_beside_dates(tmp_path, cells, told, expected):
    path = write(tmp_path, cells, TWO)
    assert times(path, **told) == [str(pd.Timestamp(each)) for each in expected]


def test_time_columns_of_frames(tmp_path, caplog):
    prices = dict.fromkeys(("open", "high", "low", "close"), 1.0)
    days = pd.DatetimeIndex(["2020-01-31", "2020-01-31"])
    clock = [datetime.time(9, 30), datetime.time(9, 31)]
    right = pd.DatetimeIndex(["2020-01-31 09:30", "2020-01-31 09:31"])
    for date in (days, days.date, [20200131] * 2, days.strftime("%d.%m.%Y")):
        assert bt.Bars.from_frame(pd.DataFrame({"date": date, "time": clock, **prices})).times().tolist() == right.tolist()
    aware = pd.DataFrame({"date": days.tz_localize("Asia/Tokyo"), "time": clock, **prices})
    assert bt.Bars.from_frame(aware).times().tolist() == right.tz_localize("Asia/Tokyo").tolist()
    assert bt.Bars.from_frame(aware, tz="UTC").times().tolist() == right.tz_localize("Asia/Tokyo").tz_convert("UTC").tolist()
    with caplog.at_level("INFO", logger="backtest.files"):
        bt.Bars.from_frame(pd.DataFrame({"date": ["2020-01-31", "2020-02-03"], "time": [None, None], **prices}))
        bt.Bars.from_frame(pd.DataFrame({"date": right, "time": ["x", "y"], **prices}), columns={"Date": "date"})
    wide_file = pd.DataFrame({"Date": ["2020-01-31", "2020-02-03"], "Time": ["9h30", "9h31"], "A": [1.0, 2.0]})
    wide_file.to_csv(tmp_path / "w.csv", index=False)
    with pytest.raises(bt.DataError, match=r"got '9h30' \(row 0, line 2\); columns={'Date': 'Date'} takes the dates alone"):
        read_wide(tmp_path / "w.csv", Reading())
    assert list(read_wide(tmp_path / "w.csv", Reading(columns={"Date": "Date"}))) == ["A"]
    assert "the column 'time' is empty, left out" in caplog.text
    assert "times of day in the column 'time' are left out" in caplog.text


def test_date_and_time_columns_with_a_format_of_the_date(tmp_path):
    path = write(tmp_path, ["01/02/2020,09:30", "01/02/2020,09:31"], "Date,Time,Open,High,Low,Close")
    with pytest.raises(bt.DataError, match="of an unambiguous order"):
        bt.Bars.read(path)
    assert times(path, dates="%d/%m/%Y") == ["2020-02-01 09:30:00", "2020-02-01 09:31:00"]
    assert times(path, dates="%m/%d/%Y %H:%M") == ["2020-01-02 09:30:00", "2020-01-02 09:31:00"]


def test_newest_first_is_reversed_with_a_warning(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text(f"{HEADER}\n2020-02-03,1,2,1,1.5\n2020-01-31,3,4,3,3.5\n")
    with pytest.warns(UserWarning, match=r"x\.csv is sorted newest first; its rows are reversed"):
        bars = bt.Bars.read(path)
    assert (bars.open.tolist(), str(bars.index[0])[:10]) == ([3.0, 1.0], "2020-01-31")
    with pytest.raises(bt.DataError, match="it runs newest first throughout, so reverse the rows"):
        bt.Bars.from_frame(monthly().iloc[::-1])
    path.write_text(f"{HEADER}\n2020-02-03,{ROW}\n2020-01-31,{ROW}\n2020-02-01,{ROW}\n")
    with pytest.raises(bt.DataError, match=r"sorted, oldest first, got 2020-01-31.*in x\.csv"):
        bt.Bars.read(path)


def test_adjusted_by_the_adjusted_close(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("Date,Open,High,Low,Close,Adj Close,Volume\n2020-01-31,8,12,8,10,5,100\n2020-02-03,8,10,8,10,10,100\n")
    plain, adjusted = bt.Bars.read(path), bt.Bars.read(path, adjust="close")
    assert plain.close.tolist() == [10.0, 10.0]
    assert [getattr(adjusted, name).tolist() for name in ("open", "high", "low", "close", "volume")] == [
        [4.0, 8.0],
        [6.0, 10.0],
        [4.0, 8.0],
        [5.0, 10.0],
        [100.0, 100.0],
    ]
    assert bt.Bars.from_frame(pd.read_csv(path), adjust="close").content_hash == adjusted.content_hash
    path.write_text(path.read_text().replace("10,5,100", "10,0,100"))
    with pytest.raises(bt.DataError, match=r"Adj Close must be finite and > 0 to adjust by, got 0\.0 \(row 0, line 2\)"):
        bt.Bars.read(path, adjust="close")
    with pytest.raises(bt.DataError, match="frame must have a column 'Adj Close' to adjust by"):
        bt.Bars.from_frame(monthly(), adjust="close")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"dates": "unix"}, "dates must be a format such as '%d/%m/%Y' or one of unix_s, unix_ms"),
        ({"dates": "%d/%m"}, "dates must hold a year (%Y or %y), got '%d/%m'"),
        ({"dates": "%Y%q"}, "dates must be a format such as"),
        ({"dates": 5}, "dates must be a format such as"),
        ({"dates": "%d/%m/%Y"}, "the time column 'Date' must hold dates as dates=\"%d/%m/%Y\", got '2020-01-31' (row 0, line 2)"),
        ({"dates": "unix_ms"}, "the time column 'Date' must hold numbers to be read as dates=\"unix_ms\", got '2020-01-31'"),
        ({"tz": "Mars"}, "tz must be the name of a time zone"),
        ({"sep": ";;"}, "sep must be one character"),
        ({"decimal": ";"}, "decimal must be one of '.', ','"),
        ({"decimal": ",", "thousands": ","}, "thousands must differ from decimal, got ',' for both"),
        ({"columns": {"Close": "Schluss"}}, "columns must name columns that are there, got 'Schluss'"),
        (
            {"columns": {"Price": "Close"}},
            "columns must name Open, High, Low, Close, Volume, Adj Close, Date or Time, got 'price'",
        ),
        ({"columns": ["Close"]}, "columns must map our names to the file's"),
        ({"adjust": "open"}, "adjust must be one of 'close', got 'open'"),
    ],
)
def test_arguments_are_checked(tmp_path, told, message):
    with pytest.raises(bt.InputError) as caught:
        bt.Bars.read(write(tmp_path, ["2020-01-31"]), **told)
    assert str(caught.value).startswith(message)


def test_damaged_files_are_refused_by_name(tmp_path):
    whole = gzip.compress(b"Date,Open,High,Low,Close\n2020-01-31,1,1,1,1\n" * 50)
    buffer = io.BytesIO()
    monthly().to_parquet(buffer)
    parquet = buffer.getvalue()
    damaged = {
        "a.csv.gz": whole[:-10],
        "b.csv.gz": whole[:20] + b"\xff" * 20 + whole[40:],
        "c.csv.gz": b"",
        "d.csv.gz": b"no",
        "e.parquet": parquet[:-20],
        "f.parquet": parquet[:200] + b"\xff" * 300 + parquet[500:],
        "g.parquet": b"",
        "h.csv": b"\x00\x01\x02\x03" * 50,
        "i.csv": b"\xff\xfea",
        "j.csv": b"   \n",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(bt.DataError, match=f"path must be a readable (CSV|Parquet) file, got '.*{name}'"):
            bt.Bars.read(tmp_path / name)


def test_tables_of_several_instruments_in_one_file(tmp_path):
    (tmp_path / "x.csv").write_text("Price,Close,Close\nTicker,AAPL,MSFT\nDate,,\n2020-01-31,1,1\n")
    with pytest.raises(bt.DataError, match=r"x\.csv must hold one instrument, got AAPL, MSFT; write a file for each"):
        bt.Bars.read(tmp_path / "x.csv")


# -- the same frame in forty dialects ----------------------------------------------------------------------------------


def sample(intraday):
    n_bars = 60
    index = (
        pd.date_range("2023-12-20 09:30", periods=n_bars, freq="7h") if intraday else pd.bdate_range("2023-12-20", periods=n_bars)
    )
    random = np.random.default_rng(3)
    close = np.round(100 + random.normal(0, 1, n_bars).cumsum(), 2)
    open_ = np.round(close + random.normal(0, 0.5, n_bars), 2)
    return pd.DataFrame(
        {
            "Open": open_,
            "High": np.maximum(open_, close) + 0.25,
            "Low": np.minimum(open_, close) - 0.25,
            "Close": close,
            "Volume": random.integers(1, 5_000_000, n_bars).astype(float),
        },
        index=index,
    )


def text_of(frame, form="%Y-%m-%d", sep=",", number="{:.2f}", mark=".", thousands="", **how):
    """A frame as one dialect writes it."""
    when = form(frame.index) if callable(form) else frame.index.strftime(form)

    def cell(value):
        text = number.format(value)
        if thousands:
            text = f"{value:,.2f}"
            text = text.replace(",", "\0").replace(".", mark).replace("\0", thousands)
        else:
            text = text.replace(".", mark)
        return f'"{text}"' if sep in text else text

    rows = [
        [f'"{day}"' if sep in day and "names" not in how else day, *map(cell, row)]
        for day, row in zip(map(str, when), frame.to_numpy(), strict=True)
    ]
    names = how.get("names", ["Date", *frame.columns])
    lines = [*how.get("before", []), sep.join(names), *(sep.join(row) for row in rows)]
    lines = [line.replace(sep, sep + how.get("blank", "")) for line in lines]
    return (how.get("end", "\n").join(lines) + "\n").encode(how.get("encoding", "utf-8"))


def unix(per_second, shift=0):
    return lambda index: (index.to_numpy().astype("M8[ns]").astype("i8") // (10**9 // per_second)) + shift


def excel(index):
    return ((index - pd.Timestamp("1899-12-30")) / pd.Timedelta(days=1)).map(repr)


# name: (intraday, arguments of text_of)
DIALECTS = {
    "iso": (0, {}),
    "iso time": (1, {"form": "%Y-%m-%d %H:%M:%S"}),
    "iso T": (1, {"form": "%Y-%m-%dT%H:%M"}),
    "iso Z": (1, {"form": "%Y-%m-%dT%H:%M:%SZ"}),
    "iso slashes": (0, {"form": "%Y/%m/%d"}),
    "iso dots": (0, {"form": "%Y.%m.%d"}),
    "compact": (0, {"form": "%Y%m%d"}),
    "compact minutes": (1, {"form": "%Y%m%d%H%M"}),
    "compact seconds": (1, {"form": "%Y%m%d%H%M%S"}),
    "compact and clock": (1, {"form": "%Y%m%d %H%M%S", "sep": ";"}),
    "unix s": (1, {"form": unix(1)}),
    "unix ms": (1, {"form": unix(1000)}),
    "unix us": (1, {"form": unix(10**6)}),
    "unix ns": (1, {"form": unix(10**9)}),
    "us": (0, {"form": "%m/%d/%Y"}),
    "us time": (1, {"form": "%m/%d/%Y %I:%M %p"}),
    "british": (0, {"form": "%d/%m/%Y"}),
    "dashes": (0, {"form": "%d-%m-%Y"}),
    "german": (0, {"form": "%d.%m.%Y", "sep": ";", "mark": ","}),
    "german thousands": (0, {"form": "%d.%m.%Y", "sep": ";", "mark": ",", "thousands": "."}),
    "german short": (0, {"form": "%d.%m.%y", "sep": ";", "mark": ","}),
    "french": (0, {"form": "%d/%m/%Y", "sep": ";", "mark": ",", "thousands": "\u202f"}),
    "swiss": (0, {"form": "%d.%m.%Y", "sep": ";", "thousands": "'"}),
    "us thousands": (0, {"form": "%m/%d/%Y", "thousands": ","}),
    "quoted commas": (0, {"mark": ","}),
    "month names": (0, {"form": "%d %b %Y"}),
    "month names us": (0, {"form": "%b %d, %Y"}),
    "month names short": (0, {"form": "%d-%b-%y"}),
    "weekdays": (0, {"form": "%a, %d %B %Y"}),
    "two digits us": (0, {"form": "%m/%d/%y"}),
    "tabs": (0, {"sep": "\t"}),
    "bars": (0, {"sep": "|"}),
    "bom": (0, {"encoding": "utf-8-sig"}),
    "utf-16": (0, {"encoding": "utf-16", "sep": "\t"}),
    "blanks": (0, {"blank": " "}),
    "windows lines": (0, {"end": "\r\n"}),
    "short names": (1, {"form": unix(1000), "names": ["t", "o", "h", "l", "c", "v"]}),
    "yfinance": (0, {"names": ["Date"] + [""] * 5, "before": ["Price,Open,High,Low,Close,Volume", "Ticker,X,X,X,X,X"]}),
    "title": (0, {"before": ["from example.com"]}),
    "metatrader": (
        1,
        {
            "form": "%Y.%m.%d\t%H:%M:%S",
            "sep": "\t",
            "names": ["<DATE>", "<TIME>", "<OPEN>", "<HIGH>", "<LOW>", "<CLOSE>", "<VOL>"],
        },
    ),
    # In doubt by what they are: they have to be refused.
    "excel": (0, {"form": excel}),  # whole numbers near 45,000 may count anything
    "compact hours": (0, {"form": "%Y%m%d%H"}),  # ten digits are seconds since 1970, too, in 2030 to 2036
    "year and month": (0, {"form": "%Y%m"}),  # six digits have no day
    "first days, slashes": (0, {"form": "%d/%m/%Y", "first": True}),  # 01/02 is 1 February here and 2 January there
    # 1,234 is 1.234 or 1234:
    "commas of three": (0, {"mark": ",", "number": "{:.3f}", "sep": ";", "names": [*HEADER.split(",")]}),
    "zone names": (1, {"form": "%Y-%m-%d %H:%M EST"}),  # EST is the zone of New York, and of Sydney
}
IN_DOUBT = list(DIALECTS)[-6:]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_frame_in_every_dialect_is_read_back_equal_or_refused(tmp_path, dialect):
    intraday, how = DIALECTS[dialect]
    frame = sample(intraday)
    if how.get("first"):
        frame = frame.iloc[:12].set_axis(pd.date_range("2023-01-01", periods=12, freq="MS"))
    frame = frame[how["names"][1:]] if dialect == "commas of three" else frame  # a volume would tell
    (tmp_path / "x.csv").write_bytes(text_of(frame, **how))
    if dialect in IN_DOUBT:
        with pytest.raises(bt.DataError, match=r"(dates=|decimal=).*x\.csv"):
            bt.Bars.read(tmp_path / "x.csv")
        return
    bars = bt.Bars.read(tmp_path / "x.csv")
    assert bars.index.tolist() == frame.index.to_numpy().astype("M8[ns]").tolist()
    for name in frame.columns:
        assert np.array_equal(getattr(bars, name.lower()), frame[name].round(2)), name


def test_at_least_34_of_40_dialects_are_read():
    assert len(DIALECTS) - len(IN_DOUBT) >= 40


@settings(max_examples=60)
@given(
    start=st.dates(datetime.date(1971, 1, 1), datetime.date(2049, 1, 1)),
    n_bars=st.integers(1, 40),
    step=st.sampled_from([1, 7, 30, 31, 365]),
    dialect=st.sampled_from([name for name in DIALECTS if not DIALECTS[name][0]]),
)
def test_no_dialect_is_ever_misread(tmp_path_factory, start, n_bars, step, dialect):
    """Whatever the dates: what is read is what was written, or nothing is."""
    frame = sample(False).iloc[:n_bars].set_axis(pd.date_range(start, periods=n_bars, freq=f"{step}D"))
    path = tmp_path_factory.getbasetemp() / "dialect.csv"
    how = DIALECTS[dialect][1]
    frame = frame[how["names"][1:]] if dialect == "commas of three" else frame
    path.write_bytes(text_of(frame, **how))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            bars = bt.Bars.read(path)
    except bt.DataError:
        return
    written = frame.index if callable(how.get("form")) or how.get("form") != "%Y%m" else frame.index.to_period("M").to_timestamp()
    assert bars.index.tolist() == written.to_numpy().astype("M8[ns]").tolist()


TOKENS = [
    "Date",
    "Time",
    "Open",
    "High",
    "Low",
    "Close",
    "Volume",
    "Adj Close",
    "open_time",
    "t",
    "o",
    "h",
    "l",
    "c",
    "",
    "Price",
    "Ticker",
    "2020-01-31",
    "2020-02-03",
    "01/02/2014",
    "13.01.2014",
    "31-01-14",
    "02 Jan 2014",
    "20200131",
    "1580428800",
    "1580428800000",
    "43861",
    "9:30",
    "093000",
    "1",
    "1.5",
    "1,5",
    "1,234",
    "1.234,5",
    "nan",
    "-",
    "x",
    "-1",
    "0",
    "1e400",
    "9" * 40,
    "\u0660",
    "\N{NO-BREAK SPACE}",
    "today",
    "Z",
    "+01:00",
    "\x00",
    "$5",
    "'",
    "²",
]
MARKS = [",", ",", ",", ";", "\t", "|", "\n", "\n", "\r\n", " ", '"', "", "T"]
CELLS = st.lists(st.tuples(st.sampled_from(TOKENS), st.sampled_from(MARKS)), max_size=40)
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "dates": st.sampled_from(["%d/%m/%Y", "unix_s", "unix_ns", "excel", "%Y%m%d", "%y", "%Y %z"]),
        "tz": st.sampled_from(["UTC", "Europe/Berlin"]),
        "sep": st.sampled_from([";", " ", "x"]),
        "decimal": st.sampled_from([".", ","]),
        "thousands": st.sampled_from(["'", " "]),
        "columns": st.just({"Close": "Open"}),
        "adjust": st.just("close"),
    },
)


@settings(max_examples=60)
@given(
    cells=CELLS,
    told=TOLD,
    head=st.sampled_from(["", HEADER + "\n", "Date,Time,Open,High,Low,Close,Adj Close\n"]),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-8-sig"]),
    cut=st.sampled_from([0, 0, 0, 1, 3]),
)
def test_whatever_a_file_holds_errors_are_ours(tmp_path_factory, cells, told, head, encoding, cut):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    content = (head + "".join(token + mark for token, mark in cells)).encode(encoding)
    path.write_bytes(content[: len(content) - cut])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for read in (lambda: bt.Bars.read(path, **told), lambda: read_wide(path, Reading(**told))):
            with contextlib.suppress(bt.BacktestError):
                read()


LABELS = st.one_of(
    st.integers(-(2**63), 2**64),
    st.floats(),
    st.text(max_size=12),
    st.none(),
    st.booleans(),
    st.dates(),
    st.datetimes(),
    st.sampled_from(TOKENS),
)


@settings(max_examples=60)
@given(labels=st.lists(LABELS, min_size=1, max_size=4), is_index=st.booleans(), told=TOLD)
def test_whatever_labels_a_frame_has_errors_are_ours(labels, is_index, told):
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close", "adj close"), 1.0), index=range(len(labels)))
    told = {name: value for name, value in told.items() if name in ("dates", "tz", "adjust")}
    frame = frame.set_axis(pd.Index(labels, dtype=object)) if is_index else frame.assign(date=pd.Series(labels, dtype=object))
    with contextlib.suppress(bt.BacktestError):
        bt.Bars.from_frame(frame, **told)


# -- wide files, configurations and the command line -------------------------------------------------------------------

CONFIG = """\
[data]
close = "close.csv"
{data}
[rule]
name = "inverse_volatility"
every = "month"
[params]
lookback = 5
[costs]
fee_rate = 0.001
[portfolio]
fill = "close"
"""


def wide(form, n_bars=130, name="date"):
    index = pd.bdate_range("2020-01-01", periods=n_bars)
    random = np.random.default_rng(5)
    frame = pd.DataFrame(np.exp(random.normal(0.0005, 0.01, (n_bars, 2)).cumsum(axis=0)) * 50, columns=["A", "B"])
    return frame.set_axis(pd.Index(form(index) if callable(form) else index.strftime(form), name=name)).reset_index()


def booked(folder, data="", **told):
    (folder / "p.toml").write_text(CONFIG.format(data=data))
    return portfolio_config.read(folder / "p.toml", told).simulate()


@pytest.mark.parametrize(
    ("form", "data"),
    [
        ("%Y%m%d", ""),
        (unix(1), ""),
        (unix(1000), ""),
        (unix(10**9), ""),
        ("%d.%m.%Y", ""),
        ("%d/%m/%Y", 'dates = "%d/%m/%Y"'),
        (excel, 'dates = "excel"'),
    ],
)
def test_wide_files_give_the_same_book_whatever_their_times_look_like(tmp_path, form, data):
    wide("%Y-%m-%d").to_csv(tmp_path / "close.csv", index=False)
    right = booked(tmp_path)
    assert len(right.orders) >= 8  # the calendar fires each month
    wide(form).to_csv(tmp_path / "close.csv", index=False)
    found = booked(tmp_path, data)
    pd.testing.assert_series_equal(found.equity, right.equity, check_freq=False)
    assert found.stats["sharpe"] == right.stats["sharpe"]


def test_wide_files_in_other_dialects(tmp_path):
    frame = wide("%d.%m.%Y", 5).round(2)
    right = wide("%Y-%m-%d", 5).round(2)
    frame.to_csv(tmp_path / "w.csv", index=False, sep=";", decimal=",", encoding="utf-16")
    found = read_wide(tmp_path / "w.csv", Reading())
    assert found.to_numpy().tolist() == right[["A", "B"]].to_numpy().tolist()
    assert found.index.tolist() == pd.to_datetime(right["date"]).tolist()
    right.iloc[::-1].to_csv(tmp_path / "w.csv", index=False)
    with pytest.warns(UserWarning, match="newest first"):
        pd.testing.assert_frame_equal(read_wide(tmp_path / "w.csv", Reading()), found, check_freq=False)
    right.rename(columns={"date": "Datum", "A": "Apfel"}).to_csv(tmp_path / "w.csv", index=False)
    told = read_wide(tmp_path / "w.csv", Reading(columns={"Date": "Datum", "A": "Apfel"}))
    pd.testing.assert_frame_equal(told, found, check_freq=False)
    right.set_index(pd.DatetimeIndex(right["date"])).drop(columns="date").to_parquet(tmp_path / "w.parquet")
    pd.testing.assert_frame_equal(read_wide(tmp_path / "w.parquet", Reading()), found, check_freq=False, check_names=False)
    (tmp_path / "w.csv").write_text("date,A,B\n2020-01-01,1,\n2020-01-02,2,x\n")
    with pytest.raises(bt.DataError, match=r"column 'B' must hold numbers, got 'x' \(row 1, line 3\).*in w\.csv"):
        read_wide(tmp_path / "w.csv", Reading())


def test_naive_beside_aware_files_is_one_error_that_names_both(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, form in (("a", "%Y-%m-%d"), ("b", "%Y-%m-%dT00:00:00Z")):
        frame = sample(False)
        frame.set_axis(frame.index.strftime(form)).to_csv(f"{name}.csv", index_label="Date")
    text = CONFIG.replace('close = "close.csv"\n{data}', 'files = {{ A = "a.csv", B = "b.csv" }}\n{data}')
    (tmp_path / "p.toml").write_text(text.format(data=""))
    code, out = invoke("portfolio", "p.toml")
    assert (
        code,
        "files must all have times with a zone or all without, got A (times without a zone) and B (times with a zone, "
        'UTC); tz="America/New_York" gives all of them one' in out,
    ) == (2, True), out
    assert invoke("portfolio", "p.toml", "--tz", "UTC")[0] == 0
    wide("%Y-%m-%d").to_csv("close.csv", index=False)
    wide("%Y-%m-%dT00:00:00Z").iloc[::20].to_csv("w.csv", index=False)
    (tmp_path / "p.toml").write_text('[data]\nclose = "close.csv"\nweights = "w.csv"\n[costs]\nfee_rate = 0.0\n')
    code, out = invoke("portfolio", "p.toml")
    assert (code, "got close.csv (times without a zone) and w.csv (times with a zone, UTC)" in out) == (2, True), out


RUN = """\
[data]
file = "x.csv"
{data}
[strategy]
name = "sma_cross"
[params]
fast = 3
slow = 6
stop_loss = "none"
take_profit = "none"
[costs]
fee_rate = 0.0
"""


def test_keys_of_a_configuration_and_options_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = monthly().rename(columns={"Close": "Schluss"}).round(2)
    frame.set_axis(frame.index.strftime("%d/%m/%Y")).to_csv("x.csv", index_label="Date", sep=";", decimal=",")
    (tmp_path / "c.toml").write_text(RUN.format(data=""))
    code, out = invoke("run", "c.toml")
    assert (code, "x.csv" in out) == (2, True)
    options = ("--dates", "%d/%m/%Y", "--column", "Close=Schluss", "--sep", ";", "--decimal", ",", "--tz", "Europe/Berlin")
    code, out = invoke("run", "c.toml", *options)
    assert code == 0, out
    assert "2014-01-01" in out
    assert "2015-12-01" in out
    keys = 'dates = "%m/%d/%Y"\ncolumns = { Close = "Schluss" }\nsep = ";"\ndecimal = ","\n'
    (tmp_path / "c.toml").write_text(RUN.format(data=keys))
    code, out = invoke("run", "c.toml")
    assert (code, "2015-01-12" in out) == (0, True)  # months first: days of January, as the configuration says
    code, out = invoke("run", "c.toml", "--dates", "%d/%m/%Y")  # the command line stands above the configuration
    assert (code, "2015-12-01" in out) == (0, True)
    (tmp_path / "c.toml").write_text(
        RUN.format(data="").replace('"x.csv"', '{ file = "x.csv", dates = "%d/%m/%Y", columns = { Close = "Schluss" } }')
    )
    assert invoke("run", "c.toml")[0] == 0
    code, out = invoke("run", "c.toml", "--column", "Close")
    assert (code, "column must be OURS=THEIRS, such as Close=Schluss, got 'Close'" in out) == (2, True)
    (tmp_path / "c.toml").write_text(RUN.format(data="").replace('file = "x.csv"', 'sample = "GOOG"\ndates = "%Y"'))
    code, out = invoke("run", "c.toml")
    assert (code, "dates must go with files, got sample = 'GOOG'" in out) == (2, True)


def test_levels_of_files_in_other_dialects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frame = sample(False).assign(high_pred=101.0, low_pred=99.0, position=1.0).round(2)
    frame.set_axis(frame.index.strftime("%d.%m.%Y")).to_csv("x.csv", index_label="Datum", sep=";", decimal=",")
    (tmp_path / "c.toml").write_text(
        '[symbols]\nX = "x.csv"\n[data]\ncolumns = { Date = "Datum" }\n[levels]\nwindow = 20\nfee_rate = 0.0\n'
    )
    assert invoke("levels", "c.toml", "--no-progress")[0] == 0
    (tmp_path / "c.toml").write_text((tmp_path / "c.toml").read_text().replace("columns", "colums"))
    code, out = invoke("levels", "c.toml", "--no-progress")
    assert (code, "key of [data] 'colums' is not known" in out) == (2, True)


def test_configurations_in_latin_1_are_refused_by_name(tmp_path):
    (tmp_path / "c.toml").write_bytes('[data]\nfile = "Müller.csv"\n'.encode("latin-1"))
    code, out = invoke("run", str(tmp_path / "c.toml"))
    assert (code, "c.toml', which is not UTF-8" in out) == (2, True)
    for ending in ("toml", "json"):
        (tmp_path / f"s.{ending}").write_bytes('{"ü": 1}'.encode("latin-1"))
        with pytest.raises(bt.SpaceError, match=f"must be {ending.upper()} in UTF-8, got .*; save it as UTF-8"):
            bt.Space.read(tmp_path / f"s.{ending}")


def test_one_dated_bar(tmp_path):
    bars = bt.Bars.read(write(tmp_path, ["2020-01-31"]))
    assert len(bars) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for is_closed in (False, True):
            run = bt.run(
                bars,
                bt.rules.from_arrays([True], [False]),
                {},
                costs=bt.Costs.zero(),
                execution=bt.Execution(fill="close", close_at_end=is_closed),
            )
            assert len(run.equity) == 1
            assert run.stats.to_backtesting()["# Trades"] == is_closed
            assert run.stats.to_vectorbt("1D")["Total Closed Trades"] == is_closed
            with pytest.raises(bt.InputError, match="freq must be given where bars have no dates, or only one"):
                run.stats.to_vectorbt()
        book = bt.simulate([[1.0]], close=bars.to_frame()[["Close"]], fill="close", costs=bt.Costs.zero())
    assert book.equity.tolist() == [100_000.0]


@pytest.mark.parametrize("name", ["Trade Date", "Gmt time", "ts", "Day", "begins_at"])
@pytest.mark.parametrize("form", [None, "%d.%m.%Y 00:00:00.000", "%d-%b-%Y", "unix_ms"])
def test_dates_that_nothing_names_are_not_dropped(tmp_path, name, form):
    frame = bt.Bars.sample("GOOG").to_frame().iloc[:40].rename_axis(name).reset_index()
    if form == "unix_ms":
        name = {"Day": "day time", "begins_at": "stamp"}.get(name, name)
        frame.columns = [name, *frame.columns[1:]]
        frame[name] = frame[name].astype("datetime64[ms]").astype(np.int64)
    elif form is not None:
        frame[name] = frame[name].dt.strftime(form)
    frame.to_csv(tmp_path / "a.csv", index=False)
    for read in (bt.Bars.from_frame, lambda frame: bt.Bars.read(tmp_path / "a.csv")):
        with pytest.raises(bt.DataError, match=rf"got dates in the column '{name}'; columns={{'Date': '{name}'}} names it"):
            read(frame[::-1])
    assert bt.Bars.read(tmp_path / "a.csv", columns={"Date": name}).index[0] == np.datetime64("2004-08-19")


def test_columns_that_nothing_names_are_said(tmp_path, caplog):
    frame = bt.Bars.sample("GOOG").to_frame().iloc[:40].rename_axis("date").rename(columns={"Volume": "Volumen"})
    frame.assign(note=1).to_csv(tmp_path / "a.csv")
    with caplog.at_level("INFO", logger="backtest.files"):
        assert bt.Bars.read(tmp_path / "a.csv").volume is None
    assert "no volume, the column 'Volumen' is left out (columns={'Volume': 'Volumen'} names it)" in caplog.text
    assert "columns left out: Volumen, note" in caplog.text


def test_a_file_without_names_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("1672531200000,1,2,0.5,1,10\n" * 5)
    with pytest.raises(bt.DataError, match=r"a.csv must begin with a line of names, got 1672531200000, 1, 2, 0.5, 1"):
        bt.Bars.read(tmp_path / "a.csv", columns={"Open": "1"})

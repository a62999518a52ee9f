"""Bars: readers, refusals, copies, identity, calendar, and the sample data."""

import copy
import datetime
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

import backtest as bt

N = 6
PRICES = {
    "open": [10.0, 11, 12, 11, 10, 11],
    "high": [12.0, 13, 14, 13, 12, 13],
    "low": [9.0, 10, 11, 10, 9, 10],
    "close": [11.0, 12, 13, 12, 11, 12],
}
VOLUME = [100.0, 0, 300, 400, 500, 600]
DAYS = pd.DatetimeIndex(["2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09", "2024-01-10", "2024-01-11"])


def make(**changes):
    return bt.Bars(**({name: np.array(values) for name, values in PRICES.items()} | changes))


def frame(**changes):
    columns = {name.title(): values for name, values in PRICES.items()} | {"Volume": VOLUME}
    return pd.DataFrame(columns | changes, index=DAYS)


def with_value(name, row, value):
    values = np.array(PRICES[name])
    values[row] = value
    return {name: values}


def expected():
    return make(volume=VOLUME, index=DAYS.to_numpy())


# -- what they hold ----------------------------------------------------------------------------------------------------


def test_bars_hold_what_they_were_given():
    bars = bt.Bars(**PRICES, volume=VOLUME, index=DAYS.to_numpy(), symbol="X")
    for name, values in PRICES.items():
        assert getattr(bars, name).dtype == np.float64
        assert getattr(bars, name).tolist() == values
    assert bars.volume.tolist() == VOLUME
    assert bars.index.dtype == np.dtype("datetime64[ns]")
    assert bars.times().tolist() == DAYS.tolist()
    assert len(bars) == N
    assert repr(bars) == "Bars(X, 6 bars, 2024-01-04T00:00 to 2024-01-11T00:00)"


def test_bars_without_dates_are_numbered():
    bars = make()
    assert bars.index is None
    assert bars.times().tolist() == list(range(N))
    assert repr(bars) == "Bars(6 bars)"


def test_frame_round_trip():
    bars = expected()
    again = bt.Bars.from_frame(bars.to_frame())
    assert again.content_hash == bars.content_hash
    assert list(bars.to_frame().columns) == ["Open", "High", "Low", "Close", "Volume"]


# -- readers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "table",
    [
        frame(),
        frame().rename(columns=str.upper),
        frame().rename(columns=str.lower),
        frame().rename_axis("Date").reset_index(),
        frame().rename_axis("DATETIME").reset_index(),
        frame().rename_axis("Timestamp").reset_index(),
        frame().set_axis(DAYS.strftime("%Y-%m-%d")),
        frame().set_axis([day.date() for day in DAYS]),
        frame().astype({"Volume": "Int64", "Close": "Float64"}),
        frame().convert_dtypes(dtype_backend="pyarrow"),
        frame(Extra="text"),
        frame()[["Volume", "Low", "Close", "High", "Open"]],
        pa.table(frame().rename_axis("date").reset_index()),
        pa.table(frame().rename_axis("time").reset_index().assign(time=[day.date() for day in DAYS])),
    ],
    ids=[
        "index",
        "upper",
        "lower",
        "date",
        "datetime",
        "timestamp",
        "text index",
        "date index",
        "nullable",
        "arrow dtypes",
        "extra column",
        "other order",
        "pyarrow",
        "pyarrow date32",
    ],
)
def test_every_table_gives_equal_bars(table):
    bars = bt.Bars.from_frame(table)
    assert bars.content_hash == expected().content_hash
    assert bars.tz is None


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("named.csv", lambda path: frame().rename_axis("Date").to_csv(path)),
        ("unnamed.csv", lambda path: frame().to_csv(path)),
        ("packed.csv.gz", lambda path: frame().to_csv(path)),
        ("numbered.csv", lambda path: frame().rename_axis("date").reset_index().to_csv(path)),
        ("UPPER.CSV", lambda path: frame().rename(columns=str.upper).to_csv(path)),
        ("bars.parquet", lambda path: frame().to_parquet(path)),
        ("column.parquet", lambda path: frame().rename_axis("date").reset_index().to_parquet(path)),
        ("arrow.pq", lambda path: pyarrow.parquet.write_table(pa.table(frame().rename_axis("date").reset_index()), path)),
    ],
)
def test_every_file_gives_equal_bars(tmp_path, name, write):
    write(tmp_path / name)
    bars = bt.Bars.read(tmp_path / name)
    assert bars.content_hash == expected().content_hash
    assert bars.symbol == name.split(".")[0]
    assert bt.Bars.read(str(tmp_path / name), symbol="Y").symbol == "Y"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_file_with_row_numbers_only_has_no_dates(tmp_path, ending):
    path = tmp_path / f"prices.{ending}"
    numbered = frame().reset_index(drop=True)
    numbered.to_csv(path) if ending == "csv" else numbered.to_parquet(path)
    assert bt.Bars.read(path).content_hash == make(volume=VOLUME).content_hash


@pytest.mark.parametrize("zone", ["America/New_York", "Europe/Berlin", "UTC", "Asia/Kolkata"])
def test_time_zone_is_kept_and_the_index_is_utc(tmp_path, zone):
    local = frame().tz_localize(zone)
    local.to_parquet(tmp_path / "local.parquet")
    utc = local.index.tz_convert("UTC").tz_localize(None).to_numpy()
    arrow = pa.table(local.rename_axis("date").reset_index())
    for bars in (bt.Bars.from_frame(local), bt.Bars.read(tmp_path / "local.parquet"), bt.Bars.from_frame(arrow)):
        assert bars.tz == zone
        np.testing.assert_array_equal(bars.index, utc)
        assert bars.times().tolist() == local.index.tolist()
        assert bars.inferred_periods_per_year() == 252
        assert bt.Bars.from_frame(bars.to_frame()).content_hash == bars.content_hash


def test_fixed_offset_is_a_time_zone():
    bars = bt.Bars.from_frame(frame().tz_localize(datetime.timezone(datetime.timedelta(hours=2))))
    assert bars.times()[0] == pd.Timestamp("2024-01-04T00:00+02:00")


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (with_value("open", 2, np.nan), "open must be finite, got nan (row 2)"),
        (with_value("high", 1, np.inf), "high must be finite, got inf (row 1)"),
        (with_value("low", 5, -np.inf), "low must be finite, got -inf (row 5)"),
        (with_value("close", 3, 0.0), "close must be > 0, got 0.0 (row 3)"),
        (with_value("low", 4, -1.0), "low must be > 0, got -1.0 (row 4)"),
        (with_value("high", 2, 11.5), "high must be >= open, got 11.5 against 12.0 (row 2)"),
        (with_value("high", 1, 11.0), "high must be >= close, got 11.0 against 12.0 (row 1)"),
        (with_value("low", 3, 14.0), "high must be >= low, got 13.0 against 14.0 (row 3)"),
        (with_value("low", 2, 12.5), "low must be <= open, got 12.5 against 12.0 (row 2)"),
        (with_value("close", 4, 8.5), "low must be <= close, got 9.0 against 8.5 (row 4)"),
        ({"open": [10.0]}, "open must have as many rows as close (6), got 1"),
        ({"close": [["1"]]}, "close must have 1 dimension, got shape (1, 1)"),
        ({"close": 1.0}, "close must have 1 dimension, got shape ()"),
        ({"close": ["a"] * N}, "close must hold numbers, got dtype <U1"),
        ({"close": [True] * N}, "close must hold numbers, got dtype bool"),
        ({"close": [1j] * N}, "close must hold numbers, got dtype complex128"),
        ({"close": np.array(["a"] * N, dtype=object)}, "close must hold numbers, got dtype object"),
        ({"volume": [1.0] * 5}, "volume must have as many rows as close (6), got 5"),
        ({"volume": [1, 2, -3, 4, 5, 6]}, "volume must be finite and >= 0, got -3.0 (row 2)"),
        ({"volume": [1, 2, np.nan, 4, 5, 6]}, "volume must be finite and >= 0, got nan (row 2)"),
        ({"index": DAYS[:-1].to_numpy()}, "index must have as many rows as close (6), got shape (5,)"),
        ({"index": np.arange(N)}, "index must hold dates (datetime64), got dtype int64"),
        (
            {"index": DAYS.to_numpy()[::-1]},
            "index must be sorted, oldest first, got 2024-01-10T00:00:00.000000000 after 2024-01-11",
        ),
        (
            {"index": DAYS.to_numpy()[[0, 1, 2, 2, 3, 4]]},
            "index must be without duplicates, got 2024-01-08T00:00:00.000000000 after",
        ),
        ({"index": np.array(["NaT"] + ["2024-01-05"] * 5, "M8[D]")}, "index must have no missing date, got NaT (row 0)"),
        (
            {"index": np.arange("2500", "2506", dtype="M8[Y]").astype("M8[D]")},
            "index must be between 1678-01-01T00:00:00 and 2261-12-31T23:59:59, got 2500-01-01 (row 0)",
        ),
        (
            {"index": DAYS.to_numpy(), "tz": "Mars/Base"},
            "tz must be the name of a time zone, such as 'America/New_York', got 'Mars/Base'",
        ),
        ({"index": DAYS.to_numpy(), "tz": 5}, "tz must be the name of a time zone, such as 'America/New_York', got 5"),
    ],
)
def test_bad_data_is_refused_by_name_rule_value_and_row(changes, message):
    with pytest.raises(bt.DataError) as caught:
        make(**changes)
    assert str(caught.value).startswith(message)


def test_no_bars_are_refused():
    with pytest.raises(bt.DataError, match="bars must hold at least one row, got 0"):
        bt.Bars(open=[], high=[], low=[], close=[])


def test_one_bar_is_enough():
    assert len(bt.Bars(open=[1], high=[1], low=[1], close=[1])) == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            frame().drop(columns="Close"),
            "frame must have a column 'Close' (any letter case), got columns Open, High, Low, Volume",
        ),
        (frame().assign(close=1.0), "frame must have one column 'close', got 'Close' and 'close'"),
        (pd.concat([frame(), frame()[["Close"]]], axis=1), "frame must have unique column names"),
        (frame(Date=DAYS, date=DAYS).reset_index(drop=True), "frame must have one column 'date', got 'Date' and 'date'"),
        ([1, 2], "frame must be a pandas, polars or pyarrow table, got list"),
        (frame()["Close"], "frame must be a pandas, polars or pyarrow table, got Series"),
        (frame(Close=[1.0, None, 1, 1, 1, 1]), "close must be finite, got nan (row 1)"),
        (frame(Close=pd.array([1.0, 1, pd.NA, 1, 1, 1], dtype="Float64").tolist()), "close must"),
        (pa.table({"Open": [1.0], "High": [1.0], "Low": [1.0], "Close": [None]}), "close must"),
        (frame(Date=range(N)).reset_index(drop=True), "the time column 'Date' must hold dates, got numbers, 0 (row 0)"),
        (
            frame(Date=np.arange(N) + 0.5).reset_index(drop=True),
            "the time column 'Date' must hold dates, got numbers, 0.5 (row 0)",
        ),
        (
            frame(Date=np.array(range(N), dtype=object)).reset_index(drop=True),
            "the time column 'Date' must hold dates, got numbers, 0 (row 0)",
        ),
        (
            frame(Date=["2024-01-04", None, "2024-01-06", "2024-01-07", "2024-01-08", "2024-01-09"]).reset_index(drop=True),
            "the time column 'Date' must have no missing date, got NaT (row 1)",
        ),
        (
            frame(Date=["2024-01-04", "x", "2024-01-06", "2024-01-07", "2024-01-08", "2024-01-09"]).reset_index(drop=True),
            "the time column 'Date' must hold dates, got 'x' (row 1)",
        ),
        (frame().set_axis(pd.period_range("2024-01-01", periods=N)), "the index must hold dates, got periods"),
        (frame().iloc[::-1], "index must be sorted, oldest first, got 2024-01-10"),
        (frame().iloc[:0], "bars must hold at least one row, got 0"),
    ],
)
def test_bad_tables_are_refused(table, message):
    with pytest.raises(bt.DataError) as caught:
        bt.Bars.from_frame(table)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("prices.xls", b"", "path must end in .csv, .csv.gz, .tsv, .txt or .parquet, got 'prices.xls'"),
        ("prices.csv", b"", "path must be a readable CSV file, got"),
        ("prices.csv", b"Date,Open\n1,2,3\n1,2,3,4,5,6\n", "path must be a readable CSV file, got"),
        ("prices.csv", b"\xff\xfe\x00\x80\x01", "path must be a readable CSV file, got"),
        ("prices.csv.gz", b"no gzip", "path must be a readable CSV file, got"),
        ("prices.parquet", b"no parquet", "path must be a readable Parquet file, got"),
        ("prices.csv", b"Date,Open,High,Low,Close\n", "bars must hold at least one row, got 0"),
        (
            "prices.csv",
            b"Date,Open,High,Low,Close\n2024-01-01,1,x,1,1\n",
            "column 'High' must hold numbers, got 'x' (row 0, line 2)",
        ),
        (
            "prices.csv",
            b"timestamp,Open,High,Low,Close\n43831,1,1,1,1\n",
            "the time column 'timestamp' must hold dates, got numbers, 43831 (row 0, line 2), which look like serial days",
        ),
    ],
)
def test_bad_files_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(bt.InputError) as caught:
        bt.Bars.read(tmp_path / name)
    assert str(caught.value).startswith(message)


def test_missing_file_and_folder_are_refused(tmp_path):
    with pytest.raises(bt.InputError, match=r"path must be an existing file, got '.*none\.csv'"):
        bt.Bars.read(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(bt.InputError, match="path must be a readable CSV file"):
        bt.Bars.read(tmp_path / "folder.csv")


# -- copies ------------------------------------------------------------------------------------------------------------


def test_callers_arrays_are_neither_changed_nor_aliased():
    given = {name: np.array(values) for name, values in PRICES.items()}
    given |= {"volume": np.array(VOLUME), "index": np.array(DAYS.to_numpy(), dtype="M8[ns]")}
    before = {name: values.copy() for name, values in given.items()}
    bars = bt.Bars(**given)
    for name, values in given.items():
        np.testing.assert_array_equal(values, before[name])
        assert values.flags.writeable
        assert not np.shares_memory(values, getattr(bars, name))
        values[:] = values[::-1].copy()
        np.testing.assert_array_equal(getattr(bars, name), before[name])


def test_callers_frame_is_neither_changed_nor_aliased():
    given = frame()
    before = given.copy(deep=True)
    bars = bt.Bars.from_frame(given)
    pd.testing.assert_frame_equal(given, before)
    given.loc[:, "Close"] = 1.0
    assert bars.close.tolist() == PRICES["close"]
    shown = bars.to_frame()
    shown.loc[:, "Close"] = 1.0
    assert bars.close.tolist() == PRICES["close"]


def test_read_only_and_strided_arrays_are_accepted():
    given = {name: np.repeat(np.array(values), 2)[::2] for name, values in PRICES.items()}
    for values in given.values():
        values.flags.writeable = False
    assert bt.Bars(**given).content_hash == make().content_hash


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.uint16, ">f8", object])
def test_any_numeric_dtype_is_accepted(dtype):
    bars = bt.Bars(**{name: np.array(values).astype(dtype) for name, values in PRICES.items()})
    assert bars.content_hash == make().content_hash


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume", "index"])
def test_arrays_are_read_only(name):
    array = getattr(expected(), name)
    assert array.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        array[0] = array[1]


@pytest.mark.parametrize("name", ["close", "symbol", "anything"])
def test_attributes_cannot_be_set(name):
    with pytest.raises(AttributeError, match=f"Bars is immutable; cannot set '{name}'"):
        setattr(make(), name, 1)


@pytest.mark.parametrize(
    "again", [lambda bars: pickle.loads(pickle.dumps(bars)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
def test_copies_are_equal_and_read_only(again):
    bars = bt.Bars(**PRICES, volume=VOLUME, index=DAYS.to_numpy(), tz="Asia/Tokyo", symbol="X")
    other = again(bars)
    assert (other.content_hash, other.tz, other.symbol) == (bars.content_hash, "Asia/Tokyo", "X")
    assert not other.close.flags.writeable


# -- identity ----------------------------------------------------------------------------------------------------------


def test_content_hash_sees_every_change():
    dates = DAYS.to_numpy()
    hashes = [
        make(volume=VOLUME, index=dates).content_hash,
        make(index=dates).content_hash,
        make(volume=VOLUME).content_hash,
        make().content_hash,
        make(volume=[0.0] * N, index=dates).content_hash,
        make(volume=VOLUME, index=dates + np.timedelta64(1, "ns")).content_hash,
    ]
    for name, values in PRICES.items():
        for row in (0, N - 1):
            outward = -1e-12 if name == "low" else 1e-12
            hashes.append(make(volume=VOLUME, index=dates, **with_value(name, row, values[row] + outward)).content_hash)
    assert len(set(hashes)) == len(hashes)


def test_content_hash_does_not_depend_on_the_name_or_resolution():
    units = ("D", "h", "s", "ms", "us", "ns")
    assert len({make(index=DAYS.to_numpy().astype(f"M8[{unit}]"), symbol=unit).content_hash for unit in units}) == 1


# -- calendar ----------------------------------------------------------------------------------------------------------


def dated(index):
    index = pd.DatetimeIndex(index)
    ones = np.ones(len(index))
    return bt.Bars(open=ones, high=ones, low=ones, close=ones, index=index.to_numpy())


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.bdate_range("2020-01-01", periods=600), 252),
        (pd.bdate_range("2020-01-01 16:00", periods=600), 252),
        (pd.bdate_range("2024-01-01", periods=5), 252),  # one week, Monday to Friday
        (pd.date_range("2020-01-01", periods=600), 365),
        (pd.date_range("2020-01-01", periods=209, freq="W"), 365.25 / 7),
        (pd.date_range("2020-01-01", periods=365 * 24, freq="h"), 365.25 * 24),
        (pd.date_range("2000-01-01", periods=21, freq="YS"), 1.0),
    ],
)
def test_periods_per_year(index, expected):
    assert dated(index).inferred_periods_per_year() == pytest.approx(expected, rel=1e-3)


def test_periods_per_year_of_sessions_counts_the_bars_there_are():
    days = pd.bdate_range("2020-01-01", "2023-12-29")
    sessions = pd.DatetimeIndex([day + pd.Timedelta(hours=hour) for day in days for hour in range(10, 17)])
    assert dated(sessions).inferred_periods_per_year() == pytest.approx(7 * 365.25 * 5 / 7, rel=0.01)


def test_periods_per_year_needs_dates_and_two_bars():
    assert np.isnan(make().inferred_periods_per_year())
    assert np.isnan(dated(["2020-01-01"]).inferred_periods_per_year())


def test_years_count_from_the_bar_before_the_first():
    bars = dated(pd.date_range("2020-01-01", periods=400))
    assert bars.years(0, 366) == pytest.approx(365 / 365.25, rel=1e-12)
    assert bars.years(1, 366) == bars.years(0, 366)
    assert bars.years(2, 366) == pytest.approx(364 / 365.25, rel=1e-12)
    assert np.isnan(make().years(0, N))


# -- sample ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "n_bars", "first"),
    [("GOOG", 2148, "2004-08-19"), ("AAPL", 3270, "2000-03-01"), ("IBM", 3270, "2000-03-01"), ("MSFT", 3270, "2000-03-01")],
)
def test_sample(symbol, n_bars, first):
    bars = bt.Bars.sample(symbol)
    assert len(bars) == n_bars
    assert bars.times()[0] == pd.Timestamp(first)
    assert bars.times()[-1] == pd.Timestamp("2013-03-01")
    assert bars.symbol == symbol
    assert bars.volume is not None
    assert bars.inferred_periods_per_year() == 252


def test_sample_of_goog_is_as_published():
    bars = bt.Bars.sample()
    published = {0: [100.01, 104.06, 95.96, 100.335, 44659000], -1: [797.8, 807.14, 796.15, 806.19, 4346400]}
    for row, values in published.items():
        assert [getattr(bars, name)[row] for name in ("open", "high", "low", "close", "volume")] == values


# Rows 0, 1 and -1 of the column Adj Close, and Open, Close and Volume of row 0, of the source named in data/SOURCE.md.
@pytest.mark.parametrize(
    ("symbol", "adjusted_close", "first_open", "first_close", "first_volume"),
    [
        ("AAPL", [4.186663, 3.919675, 56.137353], 118.56, 130.31, 9616100),
        ("IBM", [73.667719, 75.776710, 175.271183], 102.00, 100.25, 10807800),
        ("MSFT", [30.225710, 31.077795, 24.684342], 89.62, 90.81, 53444900),
    ],
)
def test_sample_is_adjusted(symbol, adjusted_close, first_open, first_close, first_volume):
    bars = bt.Bars.sample(symbol)
    assert bars.close[[0, 1, -1]].round(6).tolist() == adjusted_close
    assert bars.open[0] / bars.close[0] == pytest.approx(first_open / first_close, rel=1e-14)  # one factor for the whole bar
    assert bars.volume[0] == first_volume


def test_unknown_sample_names_the_nearest():
    with pytest.raises(bt.InputError, match=r"symbol must be one of 'AAPL', .*'MSFT', got 'GOOGL'; did you mean 'GOOG'\?"):
        bt.Bars.sample("GOOGL")


@pytest.mark.parametrize("level", [0, 1])
def test_tables_of_several_instruments_say_how_to_take_one(level):
    sample = bt.Bars.sample("AAPL").to_frame().iloc[:30]
    pairs = [("AAPL", name) if level == 0 else (name, "AAPL") for name in sample.columns]
    frame = sample.set_axis(pd.MultiIndex.from_tuples(pairs), axis=1)
    with pytest.raises(bt.DataError, match=rf"frame\.xs\('AAPL', axis=1, level={level}\) is one instrument"):
        bt.Bars.from_frame(frame)
    assert len(bt.Bars.from_frame(frame.xs("AAPL", axis=1, level=level))) == 30

"""What looks like a fault of the file is said, and never corrected."""

import logging

import numpy as np
import pandas as pd
import pytest

import backtest as bt

N = 400
RNG = np.random.default_rng(3)
CLOSE = 100 * np.exp(np.cumsum(RNG.normal(0, 0.015, N)))
VOLUME = RNG.integers(1_000, 9_000, N).astype(float)
DAYS = pd.bdate_range("2014-01-01", periods=N)


def frame(close=CLOSE, index=DAYS, volume=VOLUME):
    close = np.asarray(close, dtype=float)
    opens = np.append(close[:1], close[:-1] * 1.001)
    table = pd.DataFrame(
        {"Open": opens, "High": np.maximum(opens, close) * 1.004, "Low": np.minimum(opens, close) * 0.996, "Close": close},
        index=index,
    )
    return table if volume is None else table.assign(Volume=volume)


def found(table):
    return bt.Bars.from_frame(table).check()


def split(factor, row=200):
    """Prices before ``row`` as they were, not divided by the factor."""
    table = frame()
    columns = ["Open", "High", "Low", "Close"]
    table.iloc[:row, :4] = table[columns].iloc[:row] * factor
    return table


def test_clean_bars_have_nothing():
    table = found(frame())
    assert table.columns.tolist() == ["kind", "first", "last", "first_time", "last_time", "value", "text"]
    assert len(table) == 0
    assert len(bt.Bars(open=[1.0], high=[1.0], low=[1.0], close=[1.0]).check()) == 0


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 10, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 10])
def test_splits(factor):
    bars = bt.Bars.from_frame(split(factor))
    before = bars.content_hash
    table = bars.check()
    assert table["kind"].tolist() == ["split"]
    row = table.iloc[0]
    assert (row["first"], row["last"], row["first_time"], row["last_time"]) == (200, 200, DAYS[200], DAYS[200])
    assert row["value"] == bars.close[200] / bars.close[199]
    assert f"nearly {max(factor, 1 / factor):g} times {'less' if factor > 1 else 'as much'}" in row["text"]
    assert bt.Bars.from_frame(split(factor)).content_hash == before == bars.content_hash


def test_a_split_on_a_day_that_moves_is_known_by_its_open():
    table = split(4)
    table.iloc[200, [1, 3]] = table["Close"].iloc[199] / 4 * 1.12  # up by 12 %, from an open that says four
    table.iloc[200, [0, 2]] = table["Close"].iloc[199] / 4
    first = found(table).iloc[0]
    assert (first["kind"], first["first"]) == ("split", 200)
    assert "nearly 4 times less" in first["text"]


def test_other_jumps_and_restless_prices_are_no_splits():
    assert len(found(frame(np.where(np.arange(N) < 200, 1.5, 1.0) * 100))) == 2  # of equal bars
    assert found(frame(np.where(np.arange(N) < 200, 1.5, 1.0) * CLOSE)).empty
    restless = 100 * np.exp(np.cumsum(RNG.choice([-0.69, 0.69, 0.3, -0.3], N)))
    assert "split" not in set(found(frame(restless))["kind"])
    assert found(frame([100, 50], DAYS[:2], None))["kind"].tolist() == ["split"]


@pytest.mark.parametrize(
    ("index", "kept", "row", "days"),
    [
        (DAYS, np.r_[0:100, 130:400], 99, 43),
        (pd.date_range("2014-01-01", periods=N), np.r_[0:100, 104:400], 99, 5),
        (pd.date_range("2014-01-01", periods=N, freq="h"), np.r_[0:100, 110:400], 99, 11 / 24),
        (pd.date_range("2014-01-01", periods=N, freq="MS"), np.r_[0:100, 103:400], 99, 122),
    ],
)
def test_holes(index, kept, row, days):
    assert found(frame(index=index)).empty
    table = found(frame(CLOSE[kept], index[kept], VOLUME[kept]))
    assert table["kind"].tolist() == ["hole"]
    assert table[["first", "last"]].iloc[0].tolist() == [row, row + 1]
    assert table["value"].iloc[0] == pytest.approx(days)
    assert "without a bar, where others are at most" in table["text"].iloc[0]


def test_several_holes_do_not_hide_each_other():
    kept = np.r_[0:100, 130:200, 215:300, 325:400]
    table = found(frame(CLOSE[kept], DAYS[kept], VOLUME[kept]))
    assert table["kind"].tolist() == ["hole"] * 3
    assert table["first"].tolist() == [99, 169, 254]


def sessions(days):
    return pd.DatetimeIndex([at for day in days for at in pd.date_range(day + pd.Timedelta("9h30min"), periods=13, freq="30min")])


@pytest.mark.parametrize("days", [DAYS[:1], DAYS[:2], DAYS[:3], DAYS[2:4], DAYS[:30], DAYS[:30].delete(12), DAYS[:250]])
def test_nights_weekends_and_holidays_are_no_holes(days):
    index = sessions(days)
    close = 100 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 0.002, len(index))))
    assert found(frame(close, index, None)).empty


def test_a_weekend_of_currencies_is_no_hole():
    hours = pd.date_range("2014-01-06", periods=24 * 12, freq="h")
    index = hours[(hours.day_of_week * 24 + hours.hour < 4 * 24 + 22) | (hours.day_of_week * 24 + hours.hour >= 6 * 24 + 22)]
    assert found(frame(CLOSE[: len(index)], index, None)).empty


def test_runs_of_equal_bars():
    table = frame()
    table.iloc[50:56, :4] = table.iloc[50, :4].to_numpy()
    table.iloc[90:92, :4] = table.iloc[90, :4].to_numpy()  # two may be chance
    row = found(table).iloc[0]
    assert len(found(table)) == 1
    assert (row["kind"], row["first"], row["last"], row["value"]) == ("equal", 50, 55, 6)
    assert "6 equal bars in a row" in row["text"]


def test_no_volume():
    volume = VOLUME.copy()
    volume[[10, 50, 51, 52]] = 0
    table = found(frame(volume=volume))
    assert table[["kind", "first", "last", "value"]].to_numpy().tolist() == [["volume", 10, 10, 1], ["volume", 50, 52, 3]]
    assert table["text"].tolist() == ["no volume on a bar", "no volume on 3 bars in a row"]
    assert found(frame(volume=0 * VOLUME))["text"].tolist() == ["no volume on every bar"]
    assert found(frame(volume=None)).empty


def test_highs_and_lows_far_from_those_beside_them():
    for row in (0, 77, N - 1):
        table = frame()
        table.iloc[row, 1] *= 10.5
        high = found(table).iloc[0]
        assert (high["kind"], high["first"], high["value"]) == ("high", row, table["High"].iloc[row])
        table = frame()
        table.iloc[row, 2] /= 10.5
        low = found(table).iloc[0]
        assert (low["kind"], low["first"], low["value"]) == ("low", row, table["Low"].iloc[row])


def test_embedded_samples_have_what_is_truly_there():
    # Apple lost 52 % on 2000-09-29, after a profit warning: no split, but nothing in the prices tells it from one.
    apple = bt.Bars.sample("AAPL").check()
    assert apple[["kind", "first"]].to_numpy().tolist() == [["split", 148]]
    assert apple["first_time"].iloc[0] == pd.Timestamp("2000-09-29")
    assert apple["value"].iloc[0] == pytest.approx(0.4813, abs=1e-4)
    for symbol in ("IBM", "MSFT", "GOOG"):  # September 2001 (7 days) and the storm of 2012 (5) are not far from Christmas
        assert bt.Bars.sample(symbol).check().empty


def test_reading_says_it_in_one_line_and_corrects_nothing(tmp_path, caplog):
    table = split(2)
    table.iloc[50:56, :4] = table.iloc[50, :4].to_numpy()
    table.iloc[10, 4] = table.iloc[12, 4] = 0
    table.rename_axis("Date").to_csv(tmp_path / "old.csv")
    with caplog.at_level(logging.WARNING, logger="backtest"):
        bars = bt.Bars.read(tmp_path / "old.csv")
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("backtest")]
    assert len(lines) == 1
    assert lines[0].startswith("old.csv looks suspicious, nothing was corrected: close is ")
    assert lines[0].endswith("bars.check() lists it")
    for part in (
        "a split that prices are not adjusted for? (2014-10-08, row 200)",
        "6 equal bars in a row, close ",
        "no volume on a bar (2014-01-15, row 10) and 1 more",
    ):
        assert part in lines[0]
    np.testing.assert_array_equal(bars.close, table["Close"])
    assert set(bars.check()["kind"]) == {"split", "equal", "volume"}
    caplog.clear()
    frame().rename_axis("Date").to_csv(tmp_path / "clean.csv")
    with caplog.at_level(logging.WARNING, logger="backtest"):
        bt.Bars.read(tmp_path / "clean.csv")
    assert not caplog.records


def test_undated_bars_and_extreme_prices_are_checked_too():
    bars = bt.Bars(**{name: CLOSE.repeat(3) for name in ("open", "high", "low", "close")})
    assert set(bars.check()["kind"]) == {"equal"}
    assert bars.check()["first_time"].tolist() == bars.check()["first"].tolist()
    tiny = [1e-30, 1e30, 1e-30, 1e30]
    assert not bt.Bars(open=tiny, high=tiny, low=tiny, close=tiny).check().empty

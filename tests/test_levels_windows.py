"""Rolling windows of levels: cut right, scored on bars they have not seen, compared after each was optimised; the command."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

import backtest as bt
from backtest.levels import windows

FEE = 0.0005


def symbol(seed=0, n=130, warm=7):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, n)))
    before = np.concatenate([[100.0], close[:-1]])
    high, low = np.maximum(before, close) * (1 + 0.005 * rng.random(n)), np.minimum(before, close) * (1 - 0.005 * rng.random(n))
    bars = bt.Bars(open=before, high=high, low=low, close=close, index=pd.date_range("2024-01-01", periods=n))
    forecasts = {"high_pred": before * 1.004, "low_pred": before * 0.996, "position": rng.choice([-1.0, 1.0], n)}
    for values in forecasts.values():
        values[:warm] = np.nan
    return bars, forecasts


def test_windows_tile_the_bars_with_forecasts():
    bars, forecasts = symbol()
    table = windows.walk({"A": windows.series(bars, **forecasts)}, window=30, fee_rate=FEE, progress=False)
    starts = table.index.get_level_values("start").unique().tolist()
    assert starts == [7, 37, 67, 97]
    assert table["next_bars"].tolist() == [30, 30, 30, 30, 30, 30, 3, 3]
    assert table.loc[("A", 37, "limit"), "first"] == bars.times()[37]
    assert table.loc[("A", 37, "limit"), "last"] == bars.times()[66]


def test_rows_equal_problems_made_by_hand_and_their_next_bars():
    bars, forecasts = symbol(1)
    table = windows.walk({"A": windows.series(bars, **forecasts)}, window=40, step=20, fee_rate=FEE, progress=False)
    close, before = bars.close, np.concatenate([[np.nan], bars.close[:-1]])

    def by_hand(rows, policy):
        moves = {
            name: (values / before - 1.0)[rows]
            for name, values in (
                ("close", close),
                ("high", bars.high),
                ("low", bars.low),
                ("high_pred", forecasts["high_pred"]),
                ("low_pred", forecasts["low_pred"]),
            )
        }
        return bt.Levels(**moves, position=forecasts["position"][rows], fee_rate=FEE, close_at_eod=policy == "close")

    for (_, start, policy), row in table.iterrows():
        best = by_hand(slice(start, start + 40), policy).optimize()
        assert row["profit"] == best.profit
        assert [row["high"], row["low"]] == best.x.tolist()
        later = by_hand(slice(start + 40, start + 60), policy)
        if row["next_bars"]:
            assert row["next_profit"] == later.profit([best.x])[0]
            assert row["next_baseline"] == later.profit([[0, 0]])[0]
        else:
            assert np.isnan(row["next_profit"])
    assert table["profit"].ge(table["baseline"]).all()


def test_the_future_changes_no_earlier_window():
    bars, forecasts = symbol(2)
    whole = windows.walk({"A": windows.series(bars, **forecasts)}, window=30, fee_rate=FEE, progress=False)
    cut = bt.Bars(open=bars.open[:70], high=bars.high[:70], low=bars.low[:70], close=bars.close[:70])
    early = windows.walk(
        {"A": windows.series(cut, **{name: values[:70] for name, values in forecasts.items()})},
        window=30,
        fee_rate=FEE,
        progress=False,
    )
    same = whole.loc[early.index]
    assert early["profit"].tolist() == same["profit"].tolist()
    assert len(early) == 4


def test_the_chosen_policy_was_ahead_in_sample():
    bars, forecasts = symbol(3)
    table = windows.walk({"A": windows.series(bars, **forecasts)}, window=30, fee_rate=FEE, progress=False)
    for _, rows in table.groupby(level="start"):
        assert rows["is_chosen"].sum() == 1
        assert rows.loc[rows["is_chosen"], "profit"].iloc[0] == rows["profit"].max()
    totals = windows.summary(table)
    assert totals.loc[("A", "chosen"), "profit"] == pytest.approx(table.loc[table["is_chosen"], "profit"].sum())
    assert totals.loc[("A", "limit"), "next_profit"] == pytest.approx(table.xs("limit", level="policy")["next_profit"].sum())
    assert totals["windows"].tolist() == [4, 4, 4]


def test_simple_forecasts_are_known_before_their_bar():
    bars = bt.Bars.sample()
    forecasts = windows.simple_forecasts(bars)
    cut = bt.Bars(open=bars.open[:300], high=bars.high[:300], low=bars.low[:300], close=bars.close[:300])
    for name, values in windows.simple_forecasts(cut).items():
        np.testing.assert_array_equal(values, forecasts[name][:300])
    changed = bt.Bars(
        open=bars.open[:300],
        high=bars.high[:300] * np.where(np.arange(300) == 299, 2, 1),
        low=bars.low[:300],
        close=bars.close[:300],
    )
    assert windows.simple_forecasts(changed)["high_pred"][299] == forecasts["high_pred"][299]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": 0}, "window must be a whole number >= 1, got 0"),
        ({"window": 500}, r"window must fit into the bars of 'A' \(123 with forecasts\), got 500"),
        ({"policies": ["limits"]}, "policies must be one of 'limit', 'close', got 'limits'; did you mean 'limit'"),
        ({"policies": []}, "policies must name at least one of limit, close, got none"),
        ({"step": 0}, "step must be a whole number >= 1, got 0"),
    ],
)
def test_bad_input(change, message):
    bars, forecasts = symbol()
    with pytest.raises(bt.InputError, match=message):
        windows.walk({"A": windows.series(bars, **forecasts)}, **({"window": 30, "fee_rate": FEE, "progress": False} | change))


def test_a_hole_in_a_forecast_is_an_error_with_its_row():
    bars, forecasts = symbol()
    forecasts["low_pred"][50] = np.nan
    with pytest.raises(bt.InputError, match=r"low_pred must be finite, got nan \(row 50\)"):
        windows.series(bars, **forecasts)


# --- the command --------------------------------------------------------------------------------------------------------


def command(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "backtest", *arguments], cwd=cwd, capture_output=True, text=True, check=False)


CONFIG = """
[symbols]
MINE = "mine.csv"
[forecast]
high = "h"
low = "l"
position = "side"
[levels]
window = 30
fee_rate = 0.0005
[search]
method = "{method}"
"""


@pytest.mark.parametrize("method", ["exact", "direct"])
def test_levels_of_files(tmp_path, method):
    bars, forecasts = symbol()
    frame = bars.to_frame().assign(h=forecasts["high_pred"], l=forecasts["low_pred"], side=forecasts["position"])
    frame.to_csv(tmp_path / "mine.csv")
    (tmp_path / "c.toml").write_text(CONFIG.format(method=method))
    done = command("levels", "c.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "MINE" in done.stdout
    assert "chosen" in done.stdout
    table = pd.read_csv(tmp_path / "out" / "windows.csv", index_col=["symbol", "start", "policy"])
    expected = windows.walk({"MINE": windows.series(bars, **forecasts)}, window=30, fee_rate=FEE, method=method, progress=False)
    np.testing.assert_allclose(table["profit"], expected["profit"], rtol=1e-12)
    assert (tmp_path / "out" / "summary.csv").exists()


def test_levels_without_a_config_runs_the_example(tmp_path):
    done = command("levels", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("GOOG", "AAPL", "IBM", "MSFT"))
    assert "88 problems (exact)" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[levels]", "[level]", "section 'level' is not known (known: symbols, data, forecast, levels, search); did you mean"),
        ("window =", "windows =", "key of [levels] 'windows' is not known"),
        ('high = "h"', 'high = "hh"', "forecast column of mine.csv 'hh' is not known"),
        ("fee_rate = 0.0005", "", "[levels] must have 'fee_rate'"),
        ('"mine.csv"', '"nowhere.csv"', "path must be an existing file"),
        ('"exact"', '"exactly"', "method must be one of 'exact', 'direct', 'evolution', got 'exactly'; did you mean 'exact'?"),
    ],
)
def test_bad_configurations_end_in_one_line(tmp_path, old, new, message):
    bars, forecasts = symbol()
    bars.to_frame().assign(h=forecasts["high_pred"], l=forecasts["low_pred"], side=1.0).to_csv(tmp_path / "mine.csv")
    (tmp_path / "c.toml").write_text(CONFIG.format(method="exact").replace(old, new))
    done = command("levels", "c.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, json.dumps(done.stderr)

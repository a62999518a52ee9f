"""Ledger to trades: the fixtures of the definitions, every kind of fill, excursions, statistics, and bad ledgers."""

import json
import math

import numpy as np
import pandas as pd
import pytest

import backtest as bt

pytestmark = pytest.mark.usefixtures("backend")
DAYS = pd.date_range("2024-01-01", periods=12, freq="D")


def track(rows, close=None, **more):
    """Rows of (bar, units, price, cost)."""
    columns = dict(zip(("fill_bar", "units", "price", "cost"), np.array(rows, dtype=float).reshape(-1, 4).T, strict=True))
    columns["fill_bar"] = columns["fill_bar"].astype(int)
    ledger_more = {name: more.pop(name) for name in ("asset", "moment", "reason", "decision_bar", "ambiguous") if name in more}
    return bt.track_trades(columns | ledger_more, close=np.full(12, 100.0) if close is None else close, **more)


# --- fixtures that must hold exactly ------------------------------------------------------------------------------------


def test_flat_price_in_and_out_costs_twenty():
    """Flat price 100, weights 0, 1, 0, start 1000, 1 % fee, at the close: one trade, costs 20 in all."""
    tracked = track([(1, 10, 100, 10), (2, -10, 100, 10)])
    assert len(tracked) == 1
    trade = tracked.table.iloc[0]
    assert trade.entry_cost + trade.exit_cost == 20
    assert trade.net_profit == -20
    assert trade["return"] == -0.02


def test_a_partial_close_completes_its_part():
    """Weights 1 then 0.4 at price 100, start 100,000: the second fill is -600 units; 400 stay open."""
    tracked = track([(0, 1000, 100, 0), (1, -600, 100, 0)])
    assert tracked.table.iloc[0].units == 600
    assert tracked.open_positions.iloc[0].units == 400


def test_one_row_through_zero_closes_and_opens():
    """Weights 1 then -1: one ledger row of -2000 units; its cost is split by value."""
    tracked = track([(0, 1000, 100, 3), (1, -2000, 100, 8)])
    trade, position = tracked.table.iloc[0], tracked.open_positions.iloc[0]
    assert (trade.units, trade.entry_cost, trade.exit_cost) == (1000, 3, 4)
    assert (position.units, position.side, position.entry_cost) == (-1000, "short", 4)


# --- every kind of fill ---------------------------------------------------------------------------------------------------


def test_additions_average_the_price():
    trade = track([(0, 10, 100, 1), (1, 30, 104, 2), (2, -40, 105, 3)]).table.iloc[0]
    assert trade.entry_price == 103
    assert (trade.entry_bar, trade.exit_bar, trade.entry_cost) == (0, 2, 3)
    assert trade.gross_profit == 80


def test_partial_closes_take_their_share_of_the_entry_cost():
    table = track([(0, 10, 100, 4), (1, -5, 110, 1), (2, -5, 90, 1)]).table
    assert table["entry_cost"].tolist() == [2, 2]
    assert table["net_profit"].tolist() == [47, -53]


def test_a_rounding_remainder_is_no_position():
    tracked = track([(0, 0.3, 100, 0), (1, -0.1, 100, 0), (2, -0.2, 100, 0)])
    assert len(tracked) == 2
    assert len(tracked.open_positions) == 0


def test_assets_are_followed_apart():
    close = pd.DataFrame({"A": np.full(12, 100.0), "B": np.full(12, 50.0)}, index=DAYS)
    tracked = track([(0, 10, 100, 0), (0, -5, 50, 0), (1, -10, 110, 0), (2, 5, 40, 0)], close, asset=["A", "B", "A", "B"])
    table = tracked.table
    assert table["asset"].tolist() == ["A", "B"]
    assert table["side"].tolist() == ["long", "short"]
    assert table["gross_profit"].tolist() == [100, 50]
    assert table["duration"].tolist() == [pd.Timedelta("1D"), pd.Timedelta("2D")]


def test_net_profit_of_closed_and_open_is_the_change_of_value():
    rng = np.random.default_rng(0)
    for _ in range(30):
        n = 25
        ledger = {
            "fill_bar": np.sort(rng.integers(0, 12, n)),
            "units": rng.integers(1, 9, n) * rng.choice([-1.0, 1.0], n),
            "price": 90 + 20 * rng.random(n),
            "cost": rng.random(n),
        }
        tracked = bt.track_trades(ledger, close=np.full(12, 100.0))
        cash = -(ledger["units"] * ledger["price"] + ledger["cost"]).sum()
        still = tracked.open_positions
        value = cash + ledger["units"].sum() * 100.0
        np.testing.assert_allclose(
            tracked.table["net_profit"].sum() + (still["gross_profit"] - still["entry_cost"]).sum(), value, atol=1e-9
        )


# --- excursions -------------------------------------------------------------------------------------------------------------

CLOSE = np.array([100.0, 104, 98, 103, 101, 100, 100, 100, 100, 100, 100, 100])
EXTREMES = {"open": CLOSE - 1, "high": CLOSE + 5, "low": CLOSE - 5}


def test_excursions_from_closes_alone():
    trade = track([(0, 10, 100, 0), (3, -10, 102, 0)], CLOSE).table.iloc[0]
    assert (trade.mae, trade.gross_profit, trade.mfe) == (-20, 20, 40)


@pytest.mark.parametrize(
    ("moments", "mfe", "mae", "uncertain"),
    [
        (["open", "open"], 90, -70, False),  # bars 0 to 2 whole, of bar 3 the open (102) and the exit (101)
        (["close", "close"], 90, -70, False),  # bars 1 to 3 whole
        (["close", "open"], 90, -70, False),
        (["open", "inside"], 90, -70, False),  # bar 3's high of 108 and low of 98 lie inside what was seen
    ],
)
def test_excursions_from_highs_and_lows_while_held(moments, mfe, mae, uncertain):
    trade = track([(0, 10, 100, 0), (3, -10, 101, 0)], CLOSE, moment=moments, **EXTREMES).table.iloc[0]
    assert (trade.mfe, trade.mae, trade.excursion_uncertain) == (mfe, mae, uncertain)


def test_the_exit_bar_counts_up_to_the_exit_price_only():
    tracked = track([(0, 10, 100, 0), (1, -10, 101, 0)], CLOSE, moment=["close", "inside"], **EXTREMES)
    trade = tracked.table.iloc[0]
    assert (trade.mfe, trade.mae) == (30, 0)  # the open of 103 came before the exit; the high of 109 may not have
    assert trade.excursion_uncertain


def test_an_entry_at_the_close_does_not_see_its_own_bar():
    trade = track([(1, 10, 104, 0), (2, -10, 98, 0)], CLOSE, moment=["close", "open"], **EXTREMES).table.iloc[0]
    assert trade.mfe == 0
    assert trade.mae == -70  # the next open, 97


def test_a_partial_close_takes_its_share_of_the_excursion():
    table = track([(0, 10, 100, 0), (1, -5, 104, 0), (3, -5, 103, 0)], CLOSE).table
    assert table["mfe"].tolist() == [20, 20]
    assert table["mae"].tolist() == [0, -10]


@pytest.mark.parametrize("seed", range(5))
def test_mae_gross_mfe_are_ordered(seed):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.05, 60)))
    bars = np.sort(rng.integers(0, 60, 40))
    ledger = {
        "fill_bar": bars,
        "units": rng.integers(1, 9, 40) * rng.choice([-1.0, 1.0], 40),
        "price": close[bars],
        "moment": ["close"] * 40,
    }
    table = bt.track_trades(ledger, close=close, high=close * 1.02, low=close * 0.97, open=close).table
    assert len(table) > 10
    assert (table["mae"] <= table["gross_profit"]).all()
    assert (table["gross_profit"] <= table["mfe"]).all()


def test_a_short_pays_for_borrowing_at_each_close_it_is_held_into():
    rows = [(0, -10, 100, 0), (3, 10, 100, 0)]
    assert track(rows, borrow_per_bar=0.001).table.iloc[0].borrow_cost == 3.0  # closes of bars 1, 2, 3
    assert track(rows, borrow_per_bar=0.001, moment=["open", "open"]).table.iloc[0].borrow_cost == 3.0  # closes of 0, 1, 2
    assert track([(0, 10, 100, 0), (3, -10, 100, 0)], borrow_per_bar=0.001).table.iloc[0].borrow_cost == 0.0


# --- statistics ---------------------------------------------------------------------------------------------------------------


def test_statistics_all_long_short():
    close = pd.Series(np.full(12, 100.0), index=DAYS)
    tracked = track(
        [
            (0, 10, 100, 1),
            (1, -10, 110, 1),
            (1, -10, 110, 1),
            (3, 10, 112, 1),
            (4, 10, 100, 1),
            (6, -10, 90, 1),
            (7, 10, 100, 0),
            (8, -10, 100, 0),
        ],
        close,
    )
    s = tracked.statistics()
    assert list(s.columns) == ["All", "Long", "Short"]
    assert s.loc["n_trades"].tolist() == [4, 3, 1]
    assert s.loc["n_winners"].tolist() == [1, 1, 0]
    assert s.loc["n_losers"].tolist() == [2, 1, 1]  # a trade that ends at nothing is neither
    assert s.loc["win_rate"].tolist() == [0.25, 1 / 3, 0]
    assert s.loc["costs_paid"].tolist() == [6, 4, 2]
    assert s.loc["net_profit"].tolist() == [98 - 22 - 102, 98 - 102, -22]
    assert s.loc["largest_profit"].tolist() == [98, 98, -22]
    assert s.loc["largest_loss"].tolist() == [-102, -102, -22]
    assert s.loc["mean_profit", "All"] == 98
    assert s.loc["mean_loss", "All"] == -62
    assert s.loc["reward_risk", "All"] == 98 / 62
    assert s.loc["profit_factor", "All"] == 98 / 124
    returns = np.array([98 / 1000, -22 / 1100, -102 / 1000, 0.0])
    assert s.loc["expectancy", "All"] == pytest.approx(returns.mean(), rel=1e-12)
    assert s.loc["sqn", "All"] == pytest.approx(2 * returns.mean() / returns.std(ddof=1), rel=1e-9)
    assert s.loc["information_score", "All"] == pytest.approx(returns.mean() / returns.std(), rel=1e-9)
    assert s.loc["longest_losing_streak"].tolist() == [2, 1, 1]
    assert s.loc["longest_winning_streak"].tolist() == [1, 1, 0]
    assert s.loc[["min_bars_held", "mean_bars_held", "max_bars_held"], "All"].tolist() == [1, 1.5, 2]
    assert s.loc[["min_days_held", "mean_days_held", "max_days_held"], "All"].tolist() == [1, 1.5, 2]
    assert s.loc["trades_per_month", "All"] == pytest.approx(4 / (11 / 30.44))


def test_counts_of_nothing_are_zero_and_means_of_nothing_undefined():
    s = track([]).statistics()
    assert (s.loc[["n_trades", "n_winners", "n_losers", "longest_winning_streak", "costs_paid", "net_profit"]] == 0).all(
        axis=None
    )
    assert (
        s.loc[
            [
                "win_rate",
                "mean_profit",
                "mean_loss",
                "expectancy",
                "sqn",
                "profit_factor",
                "mean_mfe",
                "mean_bars_held",
                "largest_profit",
                "min_bars_held",
                "min_days_held",
                "max_days_held",
            ]
        ]
        .isna()
        .all(axis=None)
    )
    one = track([(0, 1, 100, 0), (1, -1, 110, 0)]).statistics()["All"]
    assert np.isnan(one["information_score"])
    assert np.isnan(one["mean_loss"])
    assert one["profit_factor"] == np.inf


# --- bad ledgers ------------------------------------------------------------------------------------------------------

GOOD = {"fill_bar": [0, 1], "units": [1.0, -1.0], "price": [100.0, 100.0]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unit": [1, 1]}, "ledger column 'unit' is not known .* did you mean 'units'"),
        ({"fill_bar": [1, 0]}, r"ledger column 'fill_bar' must be in order of execution, got 0 \(row 1\)"),
        ({"fill_bar": [0, 12]}, r"ledger column 'fill_bar' must be from 0 to 11, got 12 \(row 1\)"),
        ({"units": [1.0, 0.0]}, r"ledger column 'units' must be finite and not 0, got 0.0 \(row 1\)"),
        ({"price": [100.0, np.nan]}, r"ledger column 'price' must be finite and > 0, got nan \(row 1\)"),
        ({"cost": [0.0, -1.0]}, r"ledger column 'cost' must be finite and >= 0, got -1.0 \(row 1\)"),
        ({"cost": [0.0, math.inf]}, r"ledger column 'cost' must be finite and >= 0, got inf \(row 1\)"),
        ({"units": ["a", "b"]}, r"ledger column 'units' must hold numbers, got dtype <U1"),
        ({"fill_bar": [0.0, 1.5]}, r"ledger column 'fill_bar' must hold whole numbers, got 1.5 \(row 1\)"),
        ({"fill_bar": [0.0, math.nan]}, r"ledger column 'fill_bar' must hold whole numbers, got nan \(row 1\)"),
        (
            {"fill_bar": pd.bdate_range("2024", periods=2)},
            "ledger column 'fill_bar' must hold numbers, got dates; close.index.get_i",
        ),
        ({"decision_bar": [0, 99]}, r"ledger column 'decision_bar' must be from 0 to the fill_bar, got 99 \(row 1\)"),
        ({"decision_bar": [-1, 0]}, r"ledger column 'decision_bar' must be from 0 to the fill_bar, got -1 \(row 0\)"),
        ({"moment": ["open", "noon"]}, "moment must be one of 'open', 'inside', 'close', got 'noon'"),
        ({"asset": [0, 3]}, r"ledger column 'asset' must be from 0 to 0, got 3 \(row 1\)"),
        ({"price": [100.0]}, r"ledger column 'price' must have 2 rows, got shape \(1,\)"),
    ],
)
def test_bad_ledgers(change, message):
    with pytest.raises(bt.InputError, match=message):
        bt.track_trades(GOOD | change, close=np.full(12, 100.0))


def test_missing_columns_and_half_given_extremes():
    with pytest.raises(bt.InputError, match="ledger must have a column 'price'"):
        bt.track_trades({"fill_bar": [0], "units": [1.0]}, close=[100.0])
    with pytest.raises(bt.InputError, match="high and low must be given together"):
        bt.track_trades(GOOD, close=np.full(12, 100.0), high=np.full(12, 101.0))
    with pytest.raises(bt.InputError, match="ledger must be a DataFrame, a mapping of columns or a structured array, got list"):
        bt.track_trades([(0, 1.0, 100.0)], close=[100.0])
    with pytest.raises(bt.InputError, match=r"high must have the shape of close"):
        bt.track_trades(GOOD, close=np.full(12, 100.0), high=[1.0], low=[1.0])
    with pytest.raises(bt.InputError, match="ledger must have a column 'asset' where close has 2 columns"):
        bt.track_trades(GOOD, close=np.full((12, 2), 100.0))
    with pytest.raises(bt.InputError, match=r"close must hold numbers, got 'x' \(row 1\)"):
        bt.track_trades(GOOD, close=pd.Series([1.0, "x"]))


def test_a_position_without_a_price_is_valued_at_the_last_one():
    close = np.array([100.0, 90.0, np.nan, 120.0, np.nan, np.nan])
    full = np.array([100.0, 90.0, 90.0, 120.0, 120.0, 120.0])
    for rows in ([(0, -1, 100, 0)], [(0, -1, 100, 0), (4, 1, 110, 0)]):
        gaps, filled = (track(rows, prices, borrow_per_bar=0.01) for prices in (close, full))
        pd.testing.assert_frame_equal(gaps.table, filled.table, check_exact=True)
        pd.testing.assert_frame_equal(gaps.open_positions, filled.open_positions, check_exact=True)
    assert track([(0, -1, 100, 0)], close).open_positions["last_price"].tolist() == [120.0]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("close", -1.0, r"close must be > 0, got -1\.0 \(row 2, asset 1\); NaN means that there is no price"),
        ("open", 0.0, r"open must be > 0, got 0\.0 \(row 2, asset 1\)"),
        ("high", math.inf, r"high must be finite, got inf \(row 2, asset 1\)"),
    ],
)
def test_what_is_no_price_is_refused(name, value, message):
    tables = {each: np.full((4, 2), 100.0) for each in ("close", "open", "high", "low")}
    tables[name][2, 1] = value
    with pytest.raises(bt.DataError, match=message):
        bt.track_trades({"fill_bar": [0], "units": [1.0], "price": [100.0], "asset": [0]}, **tables)
    with pytest.raises(bt.DataError, match=r"close must be > 0, got -3\.0 \(row 1\)|asset 'B'"):
        bt.track_trades(GOOD, close=[100.0, -3.0])


def test_what_was_written_off_has_no_price():
    ledger = {
        "fill_bar": [0, 3],
        "units": [2.0, -2.0],
        "price": [100.0, 0.0],
        "reason": ["", "delisted"],
        "moment": ["close", "open"],
    }
    close = [100.0, 90.0, 95.0, np.nan]
    trade = bt.track_trades(ledger, close=close).table.iloc[0]
    assert (trade.exit_reason, trade.net_profit, trade["return"], trade.mae) == ("delisted", -200.0, -1.0, -200.0)
    assert trade.exit_bar == 3
    with pytest.raises(bt.InputError, match=r"ledger column 'price' must be finite and > 0, got 0\.0 \(row 1\)"):
        bt.track_trades(ledger | {"reason": ["", "stop"]}, close=close)


def test_what_trades_say_of_themselves():
    assert repr(track([(0, 1, 100, 1), (1, -1, 110, 0), (2, 1, 100, 0)])) == "Trades(1 completed, net profit 9.00; 1 open)"


# --- ledgers of other engines -----------------------------------------------------------------------------------------


def vectorbt_records(**changes):
    columns = {
        "id": [0, 2, 1],
        "col": [1, 1, 0],
        "idx": [0, 3, 1],
        "size": [10.0, 10.0, 5.0],
        "price": [100.0, 110.0, 50.0],
        "fees": [1.0, 2.0, 3.0],
        "side": [0, 1, 1],
    } | changes
    return pd.DataFrame(columns)


@pytest.mark.parametrize("form", ["frame", "array"])
def test_order_records_of_vectorbt(form):
    """Columns by number, sides 0 and 1, sizes without sign, rows by id."""
    records, close = vectorbt_records(), pd.DataFrame(np.full((12, 2), 100.0), columns=["A", "B"], index=DAYS)
    tracked = bt.track_trades(records if form == "frame" else records.to_records(index=False).view(np.ndarray), close=close)
    trade = tracked.table.iloc[0]
    assert (trade.asset, trade.units, trade.net_profit, trade.exit_bar) == ("B", 10, 97, 3)
    assert tracked.open_positions.iloc[0][["asset", "units", "entry_cost"]].tolist() == ["A", -5, 3]


def test_bad_order_records_of_vectorbt():
    with pytest.raises(bt.InputError, match=r"'side' of vectorbt's order records must hold 0 \(buy\) and 1 \(sell\), got"):
        bt.track_trades(vectorbt_records(side=[0, 1, 2]), close=np.full((12, 2), 100.0))
    with pytest.raises(bt.InputError, match="'col' of vectorbt's order records must be from 0 to 1, got 7"):
        bt.track_trades(vectorbt_records(col=[0, 1, 7]), close=np.full((12, 2), 100.0))
    with pytest.raises(bt.InputError, match="column of vectorbt's order records 'comment' is not known"):
        bt.track_trades(vectorbt_records(comment=["", "", ""]), close=np.full((12, 2), 100.0))


def test_statistics_as_plain_numbers():
    plain = track([(0, 1, 100, 0), (1, -1, 110, 0)]).to_dict()
    assert plain["All"]["n_trades"] == 1.0
    assert plain["All"]["profit_factor"] is None  # infinite
    assert plain["Short"]["win_rate"] is None  # of nothing
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain

"""What an index says its rows are is compared with the bars it stands beside; arrays go by position."""

import datetime
import pickle

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given as given_
from hypothesis import settings
from hypothesis import strategies as st

import backtest as bt
from backtest import labels, rules
from backtest.levels import windows

FREE = bt.Costs.zero()
DAYS = pd.date_range("2014-01-01", periods=6)
CLOSE = [10.0, 11, 12, 9, 8, 7]
ENTER = [True, False, False, False, False, False]


def bars_of(index):
    return bt.Bars.from_frame(pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), CLOSE), index=index))


BARS = bars_of(DAYS)
NEW_YORK = bars_of(DAYS.tz_localize("America/New_York"))
UNDATED = bt.Bars(open=CLOSE, high=CLOSE, low=CLOSE, close=CLOSE)
#: Name -> (bars, index that is not theirs, what the error says).
WRONG = {
    "other decade": (
        BARS,
        DAYS - pd.DateOffset(years=10),
        r"got 2004-01-01 for 2014-01-01 \(row 0\); X\.reindex\(bars\.times\(\)F\) would find none of its rows",
    ),
    "reversed": (
        BARS,
        DAYS[::-1],
        r"got 2014-01-06 for 2014-01-01 \(row 0\), newest first; "
        r"X\.reindex\(bars\.times\(\)F\) puts each row where it belongs",
    ),
    "shifted": (BARS, DAYS + pd.Timedelta("1D"), r"got 2014-01-02 for 2014-01-01 \(row 0\); X\.reindex\(bars\.times\(\)F\) puts"),
    "one row": (BARS, DAYS[[0, 1, 2, 3, 5, 4]], r"got 2014-01-06 for 2014-01-05 \(row 4\); X\.reindex\(bars\.times\(\)F\) puts"),
    "a row twice": (
        BARS,
        DAYS[[0, 1, 2, 2, 4, 5]],
        r"got 2014-01-03 for 2014-01-04 \(row 3\); X\[~X\.index\.duplicated\(\)\]\.reindex\(bars\.times\(\)F\) puts",
    ),
    "other zone": (
        NEW_YORK,
        DAYS.tz_localize("Asia/Tokyo"),
        r"got 2014-01-01 00:00:00\+09:00 for 2014-01-01 00:00:00-05:00 \(row 0\); "
        r"X\.tz_localize\(None\)\.tz_localize\('America/New_York'\) if only the zone is wrong",
    ),
    "no zone": (NEW_YORK, DAYS, r"got times without a zone for times in America/New_York; X\.tz_localize\('America/New_York'\)"),
    "UTC without saying so": (NEW_YORK, DAYS + pd.Timedelta("5h"), r"got times without a zone .*; X\.tz_localize\('UTC'\) says"),
    "a zone": (BARS, DAYS.tz_localize("Asia/Tokyo"), r"got times in Asia/Tokyo for times without a zone; X\.tz_localize\(None\)"),
    "numbers": (BARS, pd.RangeIndex(5, -1, -1), r"got 5 for 2014-01-01 \(row 0\); X\.to_numpy\(\) takes its rows by position"),
    "rows of a longer table": (BARS, pd.RangeIndex(100, 106), r"got 100 for 2014-01-01 \(row 0\); X\.to_numpy\(\) takes"),
    "words": (BARS, list("abcdef"), r"got 'a' for 2014-01-01 \(row 0\); X\.to_numpy\(\)"),
    "pairs": (BARS, pd.MultiIndex.from_product([["A"], DAYS]), r"got \('A', Timestamp\('2014-01-01 00:00:00'\)\) for 2014-01-01"),
    "numbers beside undated bars": (UNDATED, pd.RangeIndex(5, -1, -1), r", 0 to 5, got 5 for 0 \(row 0\); X\.to_numpy\(\) takes"),
    "newest first beside undated bars": (
        UNDATED,
        DAYS[::-1],
        r"X must be sorted, oldest first, without duplicates, got 2014-01-05 after 2014-01-06 "
        r"\(row 1\); X\.sort_index\(\) is",
    ),
}
#: Index -> bars that it is the index of.
RIGHT = {
    "the same": (BARS, DAYS),
    "other unit": (BARS, DAYS.as_unit("s")),
    "periods": (BARS, DAYS.to_period("D")),
    "dates": (BARS, [each.date() for each in DAYS]),
    "arrow": (BARS, pd.Index(DAYS.astype("timestamp[ns][pyarrow]"))),
    "categories": (BARS, pd.CategoricalIndex(DAYS)),
    "floats": (BARS, np.arange(6.0)),
    "text": (BARS, DAYS.strftime("%Y-%m-%d")),
    "counts": (BARS, range(6)),
    "counts as numbers": (BARS, np.arange(6)),
    "in a zone": (NEW_YORK, DAYS.tz_localize("America/New_York")),
    "the same instants": (NEW_YORK, DAYS.tz_localize("America/New_York").tz_convert("UTC")),
    "undated": (UNDATED, DAYS),
}


def said(text, name, fill=""):
    return text.replace("X", name).replace("F", fill)


@pytest.fixture(params=WRONG)
def wrong(request):
    return WRONG[request.param]


@pytest.fixture(params=RIGHT)
def right(request):
    return RIGHT[request.param]


def buy(bars, entries, **more):
    execution = bt.Execution(fill="close", periods_per_year=252.0)
    run = bt.run(bars, rules.from_arrays(entries, **more), costs=FREE, execution=execution)
    return run.orders[["fill_bar", "price"]].iloc[0].tolist()


# -- signals -----------------------------------------------------------------------------------------------------------


def test_newest_first_signals_are_refused_and_reindexed_ones_buy_where_they_should(backend):
    newest_first = pd.Series(ENTER, DAYS)[::-1]
    message = (
        r"entries must have the index of the bars, got 2014-01-06 for 2014-01-01 \(row 0\), newest first; "
        r"entries\.reindex\(bars\.times\(\), fill_value=False\) puts"
    )
    with pytest.raises(bt.InputError, match=message):
        buy(BARS, newest_first)
    assert buy(BARS, newest_first.reindex(BARS.times(), fill_value=False)) == [0, 10]
    assert buy(BARS, newest_first.to_numpy()) == [5, 7]  # by position, as it says


def test_wrong_signals(wrong):
    bars, index, message = wrong
    message = said(message, "entries", ", fill_value=False")
    with pytest.raises(bt.InputError, match=message):
        buy(bars, pd.Series(ENTER, index))
    with pytest.raises(bt.InputError, match=message):
        bt.evaluate(bars, rules.from_arrays(pd.DataFrame({"a": ENTER, "b": ENTER}, index)), costs=FREE)


def test_right_signals(right):
    bars, index = right
    assert buy(bars, pd.Series(ENTER, index)) == [0, 10]
    assert buy(bars, pd.DataFrame({0: ENTER}, index).iloc[:, 0]) == [0, 10]


@pytest.mark.parametrize("wrap", [np.array, list, pd.Series, pa.array], ids=["array", "list", "counted", "arrow"])
def test_what_has_no_labels_goes_by_position(wrap):
    assert buy(BARS, wrap(ENTER)) == [0, 10]


def test_every_kind_of_signal_names_itself():
    for name, enters in (("exits", "entries"), ("short_exits", "short_entries"), ("short_entries", "exits")):
        given = {"entries": ENTER, enters: ENTER, name: pd.Series(ENTER, DAYS[::-1])}
        with pytest.raises(bt.InputError, match=f"{name} must have the index of the bars"):
            bt.run(BARS, rules.from_arrays(**given), costs=FREE)


def test_labels_of_equal_signals_are_all_compared():
    # As bits both are one; the second alone has labels.
    with pytest.raises(bt.InputError, match="short_exits must have the index of the bars"):
        bt.run(BARS, rules.from_arrays(ENTER, None, ENTER, pd.Series(ENTER, DAYS[::-1])), costs=FREE)
    first, second = rules.from_arrays(pd.Series(ENTER, DAYS)), rules.from_arrays(pd.Series(ENTER, DAYS[::-1]))
    both = rules.Strategy(enter_long=first.enter_long & ~~second.enter_long)
    with pytest.raises(bt.InputError, match="entries must have the index of the bars"):
        bt.run(BARS, both, costs=FREE)


def test_several_symbols_name_the_one_with_other_times():
    later = bars_of(DAYS + pd.Timedelta("1D"))
    with pytest.raises(bt.InputError, match="late: entries must have the index of the bars, got 2014-01-01 for 2014-01-02"):
        bt.evaluate({"now": BARS, "late": later}, rules.from_arrays(pd.Series(ENTER, DAYS)), costs=FREE)


def test_labels_are_no_part_of_what_signals_are():
    plain, labelled = rules.from_arrays(ENTER), rules.from_arrays(pd.Series(ENTER, DAYS))
    assert labelled.key == plain.key
    assert repr(labelled.key) == repr(plain.key)
    assert hash(labelled.key) == hash(plain.key)
    again = pickle.loads(pickle.dumps(labelled))
    assert again.key == plain.key
    bt.run(BARS, again, costs=FREE)
    with pytest.raises(bt.InputError, match="entries must have the index of the bars"):
        bt.run(bars_of(DAYS + pd.Timedelta("1D")), again, costs=FREE)


def test_signals_of_another_length_say_how_they_fit():
    short = pd.Series(ENTER, DAYS).iloc[:5]
    with pytest.raises(bt.InputError, match=r"got 5 rows for 6; entries\.reindex\(bars\.times\(\), fill_value=False\) puts"):
        buy(BARS, short)
    assert buy(BARS, short.reindex(BARS.times(), fill_value=False)) == [0, 10]


def test_one_column_is_for_all(backend):
    wide = np.column_stack([ENTER, np.roll(ENTER, 1)])
    for one in (
        np.roll(ENTER, 3)[:, None],
        pd.DataFrame({"exit": np.roll(ENTER, 3)}, DAYS),
        rules.PackedSignals(np.array([[8]], dtype=np.uint64), 6),
    ):
        table = bt.evaluate(BARS, rules.from_arrays(wide, one), costs=FREE, execution=bt.Execution(fill="close"))
        assert table["total_return"].tolist() == pytest.approx([9 / 10 - 1, 9 / 11 - 1])
        assert rules.from_arrays(wide, one).key == rules.from_arrays(wide, np.roll(ENTER, 3)).key
    with pytest.raises(bt.InputError, match=r"signals must have equal shapes, or one column for all, got \(6, 2\), \(6, 3\)"):
        rules.from_arrays(wide, np.zeros((6, 3), dtype=bool))
    alone = bt.evaluate(BARS, rules.from_arrays(wide[:, :1], wide[:, 1:]), costs=FREE)  # still a table of candidates
    assert alone.index.name == "column"


def test_columns_of_candidates_are_compared():
    wide = pd.DataFrame({"a": ENTER, "b": np.roll(ENTER, 1)}, DAYS)
    message = r"exits must have the columns of entries in their order, got 'b' for 'a' \(column 0\); exits\[entries\.columns\]"
    with pytest.raises(bt.InputError, match=message):
        rules.from_arrays(wide, wide[["b", "a"]])
    rules.from_arrays(wide, wide.set_axis(["c", "d"], axis=1))  # other words


# -- lines -------------------------------------------------------------------------------------------------------------

GIVEN = {}


@bt.line(version="1")
def given(bars):
    return GIVEN["line"]


def over(bars, values):
    GIVEN["line"] = values
    return bt.run(bars, rules.Strategy(enter_long=given() > 9.5), costs=FREE, execution=bt.Execution(fill="close"))


def test_wrong_lines(wrong):
    bars, index, message = wrong
    with pytest.raises(bt.ObjectiveError, match="line 'given' at no parameters: .*" + said(message, "result")):
        over(bars, pd.Series(CLOSE, index))


@pytest.mark.filterwarnings("ignore:bars have no dates")
def test_right_lines(right):
    bars, index = right
    assert over(bars, pd.Series(CLOSE, index)).orders["fill_bar"].tolist() == [0]


# -- levels ------------------------------------------------------------------------------------------------------------

LEVELS = {"high_pred": [11.0] * 6, "low_pred": [9.0] * 6, "position": [1.0] * 6, "valid": [True] * 6, "reference": [10.0] * 6}


@pytest.mark.parametrize("name", LEVELS)
def test_wrong_forecasts(name, wrong):
    bars, index, message = wrong
    given = LEVELS | {name: pd.Series(LEVELS[name], index)}
    with pytest.raises(bt.InputError, match=said(message, name)):
        bt.Levels.from_bars(bars, fee_rate=0.0, **given)
    if name in ("high_pred", "low_pred", "position"):
        with pytest.raises(bt.InputError, match=said(message, name)):
            windows.series(bars, **{key: given[key] for key in ("high_pred", "low_pred", "position")})


def test_right_forecasts(right):
    bars, index = right
    by_label = bt.Levels.from_bars(bars, fee_rate=0.0, **{name: pd.Series(values, index) for name, values in LEVELS.items()})
    by_position = bt.Levels.from_bars(bars, fee_rate=0.0, **LEVELS)
    assert by_label.profit([[0.0, 0.0]]) == by_position.profit([[0.0, 0.0]])


def test_bars_of_levels_may_be_a_table_too():
    table = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), CLOSE), DAYS)
    assert bt.Levels.from_bars(table, fee_rate=0.0, **LEVELS | {"high_pred": pd.Series(LEVELS["high_pred"], DAYS)}).n_bars == 6
    with pytest.raises(bt.InputError, match="high_pred must have the index of the bars, got 2014-01-06 for 2014-01-01"):
        bt.Levels.from_bars(table, fee_rate=0.0, **LEVELS | {"high_pred": pd.Series(LEVELS["high_pred"], DAYS[::-1])})


@pytest.mark.parametrize("name", ["buy", "sell"])
def test_always_on_compares_both_sizes(name):
    given = {"high_pred": LEVELS["high_pred"], "low_pred": LEVELS["low_pred"], "buy": [1.0] * 6, "sell": [-1.0] * 6}
    with pytest.raises(bt.InputError, match=f"{name} must have the index of the bars, got 2014-01-06 for 2014-01-01"):
        bt.AlwaysOn.from_bars(BARS, fee_rate=0.0, **given | {name: pd.Series(given[name], DAYS[::-1])})


def test_moves_compare_with_each_other():
    moves = {"close": [0.01] * 6, "high": [0.02] * 6, "low": [-0.01] * 6, "high_pred": [0.01] * 6, "low_pred": [-0.005] * 6}
    named = {name: pd.Series(values, DAYS) for name, values in moves.items()}
    bt.Levels(**named, position=[1.0] * 6, fee_rate=0.0)
    for name in ("low", "low_pred", "position", "valid"):
        given = named | {"position": pd.Series([1.0] * 6, DAYS), "valid": pd.Series([True] * 6, DAYS)}
        with pytest.raises(bt.InputError, match=rf"{name} must have the index of close, .*{name}\.reindex\(close\.index\) puts"):
            bt.Levels(**given | {name: given[name][::-1]}, fee_rate=0.0)


def test_reference_of_prices_is_compared_with_the_bars():
    problem = bt.Levels.from_bars(BARS, fee_rate=0.0, **LEVELS)
    assert len(problem.prices([0.0, 0.0], reference=pd.Series(CLOSE, DAYS))) == 6
    with pytest.raises(bt.InputError, match="reference must have the index of the bars, got 2014-01-06 for 2014-01-01"):
        pickle.loads(pickle.dumps(problem)).prices([0.0, 0.0], reference=pd.Series(CLOSE, DAYS[::-1]))


# -- portfolios --------------------------------------------------------------------------------------------------------

TABLE = pd.DataFrame({"A": CLOSE, "B": CLOSE[::-1]}, DAYS)
HALF = TABLE * 0 + 0.5


@pytest.mark.parametrize("name", ["weights", "open", "rebalance", "benchmark"])
def test_books_compare_every_table(name):
    given = {"weights": HALF, "open": TABLE, "rebalance": pd.Series(ENTER, DAYS), "benchmark": TABLE["A"]}
    bt.simulate(**given, close=TABLE, costs=FREE)
    wrong = given | {name: given[name][::-1]}
    fill = r", fill_value=False" if name == "rebalance" else ""
    with pytest.raises(
        bt.InputError,
        match=rf"{name} must have the index of close, got 2014-01-06 for 2014-01-01 \(row 0\), "
        rf"newest first; {name}\.reindex\(close\.index{fill}\) puts",
    ):
        bt.simulate(**wrong, close=TABLE, costs=FREE)
    with pytest.raises(bt.InputError, match=rf"{name} must have the index of close, .*; {name}\.reindex\(index{fill}\) puts"):
        bt.simulate(
            **{
                key: np.asarray(each)
                if key != name
                else wrong[name].rename(columns={"A": 0, "B": 1})
                if name in ("weights", "open")
                else wrong[name]
                for key, each in given.items()
            },
            close=TABLE.to_numpy(),
            index=DAYS,
            costs=FREE,
        )


def test_a_search_over_books_compares_benchmark_mask_and_weights():
    def search(weights=HALF, **more):
        return bt.optimize_weights(
            lambda params: weights, {"w": [1, 2]}, close=TABLE, fill="close", costs=FREE, progress=False, min_trades=0, **more
        )

    search(benchmark=TABLE["A"], rebalance=pd.Series(ENTER, DAYS))
    for name, values in (("benchmark", TABLE["A"]), ("rebalance", pd.Series(ENTER, DAYS))):
        with pytest.raises(bt.InputError, match=f"{name} must have the index of close"):
            search(**{name: values[::-1]})
    with pytest.raises(bt.ObjectiveError, match=r"rule at .*: weights must have the index of close, .*newest first"):
        search(HALF[::-1])


def test_an_index_that_counts_is_by_position_in_books_too():
    by_label = bt.simulate(HALF, close=TABLE, fill="close", costs=FREE)
    by_position = bt.simulate(HALF.reset_index(drop=True), close=TABLE, fill="close", costs=FREE)
    pd.testing.assert_series_equal(by_label.equity, by_position.equity)


def test_ready_weights_compare_their_mask():
    from backtest.allocation import inverse_volatility

    inverse_volatility(TABLE, 2, pd.Series(ENTER, DAYS))
    with pytest.raises(bt.InputError, match="rebalance must have the index of close"):
        inverse_volatility(TABLE, 2, pd.Series(ENTER, DAYS[::-1]))


# -- trades and bars ---------------------------------------------------------------------------------------------------

LEDGER = {"fill_bar": [0, 2], "units": [1.0, -1.0], "price": [10.0, 12.0], "asset": ["A", "A"]}


@pytest.mark.parametrize("name", ["open", "high", "low"])
def test_ledgers_compare_their_prices(name):
    prices = {"open": TABLE, "high": TABLE, "low": TABLE}
    assert len(bt.track_trades(LEDGER, close=TABLE, **prices)) == 1
    with pytest.raises(bt.InputError, match=f"{name} must have the index of close, got 2014-01-06 for 2014-01-01"):
        bt.track_trades(LEDGER, close=TABLE, **prices | {name: TABLE[::-1]})
    with pytest.raises(
        bt.InputError, match=rf"{name} must have the columns of close, .*; {name}\[close\.columns\] reorders them"
    ):
        bt.track_trades(LEDGER, close=TABLE, **prices | {name: TABLE[["B", "A"]]})


@pytest.mark.parametrize("name", ["open", "high", "low", "volume"])
def test_columns_of_bars_are_of_the_same_rows(name):
    columns = dict.fromkeys(("open", "high", "low", "close", "volume"), pd.Series(CLOSE, DAYS))
    assert len(bt.Bars(**columns)) == 6
    with pytest.raises(bt.InputError, match=f"{name} must have the index of close, got 2014-01-06 for 2014-01-01"):
        bt.Bars(**columns | {name: columns[name][::-1]})
    with pytest.raises(bt.InputError, match="close must have the index of the bars, got 2014-01-06 for 2014-01-01"):
        bt.Bars(**{key: each[::-1] for key, each in columns.items()}, index=DAYS.to_numpy())
    with pytest.raises(bt.InputError, match="close must be sorted, oldest first, without duplicates"):
        bt.Bars(**{key: each[::-1] for key, each in columns.items()})


@settings(max_examples=60)
@given_(
    order=st.permutations(range(6)),
    days=st.sampled_from([0, 0, 1, -2, 400]),
    zone=st.sampled_from([None, "UTC", "Asia/Tokyo"]),
    shown=st.sampled_from([None, "America/New_York"]),
    cut=st.integers(3, 6),
)
def test_only_the_bars_own_rows_pass_and_reindexed_ones_are_those(order, days, zone, shown, cut):
    times = DAYS if zone is None else DAYS.tz_localize(zone)
    bars = bars_of(times)
    mine = times + pd.Timedelta(days, "D")
    mine = mine if shown is None or zone is None else mine.tz_convert(shown)
    rows = list(order)[:cut]
    entries = pd.Series(ENTER, mine).iloc[rows]
    if rows == list(range(6)) and days == 0:
        assert buy(bars, entries) == [0, 10]
    else:
        with pytest.raises(bt.InputError, match="entries must have the index of the bars, got "):
            buy(bars, entries)
    if days == 0 and 0 in rows:
        assert buy(bars, entries.reindex(bars.times(), fill_value=False)) == [0, 10]


def test_missing_dates_are_shown():
    with pytest.raises(bt.InputError, match=r"got NaT for 2014-01-06 \(row 5\)"):
        buy(BARS, pd.Series(ENTER, [*DAYS[:5], pd.NaT]))


@pytest.mark.parametrize(
    ("index", "hint"),
    [
        ([each.date() for each in DAYS[::-1]], "entries.set_axis(pandas.to_datetime(entries.index))"),
        (DAYS[::-1].strftime("%Y-%m-%d"), "entries.set_axis(pandas.to_datetime(entries.index))"),
        (DAYS[::-1].to_period("D"), "entries.to_timestamp()"),
        (DAYS[::-1], "entries"),
    ],
)
def test_the_hint_works_as_it_stands(index, hint):
    entries = pd.Series(ENTER[::-1], index)
    with pytest.raises(bt.InputError, match="newest first") as caught:
        buy(BARS, entries)
    typed = str(caught.value).partition("; ")[2].removesuffix(" puts each row where it belongs")
    assert typed == f"{hint}.reindex(bars.times(), fill_value=False)"
    assert buy(BARS, eval(typed, {"entries": entries, "pandas": pd, "bars": BARS})) == [0, 10]


@pytest.mark.parametrize(
    "index",
    [
        [20140101 + day for day in range(6)],
        [1_388_534_400 + 86_400 * day for day in range(6)],
        [f"{day:02}.01.2014" for day in range(10, 16)],
        [f"{day}/01/2014" for day in range(10, 16)],
    ],
)
def test_the_index_that_a_frame_came_with_is_the_bars_own(index):
    table = pd.DataFrame(dict.fromkeys(("Open", "High", "Low", "Close"), CLOSE), index)
    bars = bt.Bars.from_frame(table)
    assert bars.index is not None
    assert buy(bars, pd.Series(ENTER, index)) == [0, 10]
    with pytest.raises(bt.InputError, match=r"index of the bars, .*newest first; entries \(with dates as index\)\.reindex"):
        buy(bars, pd.Series(ENTER, index[::-1]))


def test_empty_labels_say_nothing():
    assert labels.labels(pd.Series([], dtype=bool, index=pd.DatetimeIndex([]))) is None
    assert labels.labels([1, 2]) is None
    assert labels.labels(pd.Series([1.0], [datetime.date(2014, 1, 1)])).text(0) == "2014-01-01"

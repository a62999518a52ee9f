"""Rules: conditions against plain loops, strategies as data, ready signals."""

import copy
import itertools
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtest as bt
from backtest import lines, rules
from backtest.candidate_table import all_combinations
from backtest.expr import REQUIRED, And, Comparison, Cross, Not, Or
from backtest.line_values import Block, LineMemo
from backtest.masks import MaskMemo, n_words, unpack
from backtest.ready_signals import ReadySignals

ROOMY = 1 << 24
FREE = bt.Costs.zero()


def bars_of(close, **more):
    close = np.array(close, dtype=np.float64)
    return bt.Bars(open=close, high=close, low=close, close=close, **more)


def walk(n_bars, seed=0):
    close = 100 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 0.02, n_bars)))
    return bars_of(close, index=np.arange("2020-01-01", n_bars, dtype="M8[D]"))


BARS = walk(80)


def memo_of(bars=BARS, room=ROOMY):
    return MaskMemo(LineMemo(bars, ROOMY), room)


def mask(condition, params=None, bars=BARS, memo=None):
    """The condition on every bar, and the length of its warm-up."""
    block = Block(np.zeros((1, 0)), {}, params or {})
    words, [masks] = (memo or memo_of(bars)).masks([condition], block)
    assert masks.inverse.tolist() == [0]
    return unpack(words, len(bars))[0], masks.warm[0]


def truth(condition, params=None, bars=BARS, memo=None):
    return mask(condition, params, bars, memo)[0].tolist()


def as_line(values):
    values = np.array(values, dtype=np.float64)

    @bt.line()
    def given_values(bars):
        return values

    return given_values()


# -- conditions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (lines.close > 100, BARS.close > 100),
        (lines.close >= BARS.close[3], BARS.close >= BARS.close[3]),
        (lines.close < 100, BARS.close < 100),
        (lines.close <= BARS.close[3], BARS.close <= BARS.close[3]),
        (100 > lines.close, BARS.close < 100),  # noqa: SIM300
        (np.float64(100) < lines.close, BARS.close > 100),
        (rules.above(lines.close, 100), BARS.close > 100),
        (rules.below(lines.close, 100), BARS.close < 100),
    ],
)
def test_comparisons(condition, expected):
    assert truth(condition) == expected.tolist()


def test_comparison_of_a_parameter_with_a_number_is_one_answer_for_all_bars():
    assert truth(bt.param("a") > 2, {"a": 3}) == [True] * len(BARS)
    assert truth(bt.param("a") > bt.param("b"), {"a": 3, "b": 3}) == [False] * len(BARS)


def plain_crosses_above(a, b):
    return [False] + [a[bar] > b[bar] and a[bar - 1] <= b[bar - 1] for bar in range(1, len(a))]


levels = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=40)


@given(levels)
def test_crosses_are_their_definition(pairs):
    a, b = ([pair[side] for pair in pairs] for side in (0, 1))
    bars = bars_of(np.ones(len(pairs)))
    above, warm = mask(rules.crosses_above(as_line(a), as_line(b)), bars=bars)
    assert warm == 1
    assert above.tolist() == plain_crosses_above(a, b)
    assert truth(rules.crosses_below(as_line(a), as_line(b)), bars=bars) == plain_crosses_above(b, a)
    assert truth(rules.crosses_above(as_line(a), 1), bars=bars) == plain_crosses_above(a, [1] * len(a))
    assert truth(rules.crosses_below(1, as_line(a)), bars=bars) == plain_crosses_above(a, [1] * len(a))


def test_cross_needs_one_bar_more_than_its_lines():
    condition = rules.crosses_above(lines.close, lines.sma(lines.close, 5))
    sma = [sum(BARS.close[bar - 4 : bar + 1]) / 5 if bar > 3 else None for bar in range(len(BARS))]
    values, warm = mask(condition)
    assert warm == 5
    assert values.tolist() == [
        bar >= 5 and bool(BARS.close[bar] > sma[bar] and BARS.close[bar - 1] <= sma[bar - 1]) for bar in range(len(BARS))
    ]
    assert any(values)


@pytest.mark.parametrize("n_bars", [3, 4, 5, 6])
def test_cross_without_enough_bars_never_happens(n_bars):
    bars = bars_of([1, 1, 1, 1, 9, 1][:n_bars])
    values, warm = mask(rules.crosses_above(lines.close, lines.sma(lines.close, 4)), bars=bars)
    assert warm == min(4, n_bars)
    assert values.tolist() == [bar == 4 for bar in range(n_bars)]


LATE, EARLY = lines.close > lines.sma(lines.close, 10), lines.close > lines.sma(lines.close, 3)


def test_and_or_not():
    late, early = np.array(truth(LATE)), np.array(truth(EARLY))
    assert truth(LATE & EARLY) == [bool(bar >= 9 and late[bar] and early[bar]) for bar in range(len(BARS))]
    assert truth(LATE | EARLY) == [bool(bar >= 9 and (late[bar] or early[bar])) for bar in range(len(BARS))]
    assert truth(~LATE) == [bool(bar >= 9 and not late[bar]) for bar in range(len(BARS))]
    assert truth(~~LATE) == truth(LATE)
    assert truth(~(LATE & EARLY)) == truth(~LATE | ~EARLY)
    assert truth(~(LATE | EARLY)) == truth(~LATE & ~EARLY)
    assert [mask(each)[1] for each in (LATE & EARLY, LATE | EARLY, ~LATE, ~EARLY)] == [9, 9, 9, 2]


def test_warm_up_of_not_is_masked_on_every_level():
    for condition in (~LATE, ~(LATE & EARLY), ~(~LATE), ~rules.crosses_above(lines.close, lines.sma(lines.close, 9))):
        assert not any(truth(condition)[:9])


@pytest.mark.parametrize(
    "condition",
    [
        LATE,
        ~LATE,
        LATE & ~EARLY,
        rules.crosses_below(lines.rsi(lines.close, bt.param("n")), bt.param("level")),
        (lines.close > lines.sma(lines.close, bt.param("n"))) | rules.crosses_above(lines.ema(lines.open, bt.param("m")), 1),
    ],
    ids=repr,
)
def test_longest_warm_up_of_a_space(condition):
    choices = {"n": [3, 12, 7], "m": [4, 9], "level": [40, 50]}
    memo = memo_of()
    candidates = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    longest = max(mask(condition, params, memo=memo)[1] for params in candidates)
    assert memo.warm_up(condition, all_combinations(choices)) == longest


@pytest.mark.parametrize(
    "condition",
    [
        lines.close > bt.param("x"),
        rules.crosses_above(lines.close, bt.param("x")),
        bt.param("x") <= 3,
        (lines.close > 1) & ~(lines.close < bt.param("x") * 2),
    ],
    ids=repr,
)
@pytest.mark.parametrize("x", [None, "5", float("nan")])
def test_operands_without_a_number_are_refused(condition, x):
    with pytest.raises(bt.BacktestError, match=r"must have numbers for its parameters|must be NaN only in"):
        mask(condition, {"x": x})


@pytest.mark.parametrize("other", [None, "5", float("nan"), float("inf"), True, [5], np.ones(80), pd.Series([1.0])])
def test_comparisons_refuse_what_is_no_number(other):
    for compare in (
        lambda: lines.close > other,
        lambda: lines.close <= other,
        lambda: rules.crosses_above(lines.close, other),
        lambda: rules.crosses_below(other, lines.close),
        lambda: rules.above(other, lines.close),
    ):
        with pytest.raises(bt.InputError, match=r"must be a (finite )?number, got"):
            compare()


@pytest.mark.parametrize(
    "use",
    [
        lambda: bool(LATE),
        lambda: LATE and EARLY,
        lambda: LATE or EARLY,
        lambda: not LATE,
        lambda: 1 if LATE else 0,
        lambda: 90 < lines.close < 110,
        lambda: lines.low < lines.close <= lines.high,
    ],
)
def test_conditions_have_no_truth_value(use):
    with pytest.raises(bt.InputError, match=r"has no truth value before bars are known; combine conditions with & \| ~"):
        use()


@pytest.mark.parametrize("other", [True, 1, None, lines.close, np.ones(80, dtype=bool)])
@pytest.mark.parametrize("combine", [lambda a, b: a & b, lambda a, b: b & a, lambda a, b: a | b, lambda a, b: b | a])
def test_only_conditions_combine(combine, other):
    with pytest.raises((bt.InputError, TypeError), match=r"both sides of [&|] must be conditions|unsupported operand"):
        combine(LATE, other)


@pytest.mark.parametrize(
    ("condition", "text"),
    [
        (lines.close > 100, "close > 100"),
        (~(lines.close > 1), "~(close > 1)"),
        ((lines.close > 1) & (lines.close < 2) | (lines.open > 3), "((close > 1) & (close < 2)) | (open > 3)"),
        (rules.crosses_above(lines.close, bt.param("n")), "crosses_above(close, n)"),
        (rules.crosses_below(lines.close, 5), "crosses_above(5, close)"),
    ],
)
def test_repr(condition, text):
    assert repr(condition) == text


KINDS = [
    (lines.close > 1, Comparison, 0, 9),
    (rules.crosses_above(lines.close, lines.open), Cross, 1, 10),
    (rules.crosses_below(lines.close, lines.open), Cross, 1, 10),
    ((lines.close > 1) & (lines.open > 1), And, None, 9),
    ((lines.close > 1) | rules.crosses_above(lines.close, 1), Or, None, 10),
    (~(lines.close > 1), Not, None, 9),
    (rules.from_arrays(BARS.close > 100).enter_long, ReadySignals, None, 0),
]


@pytest.mark.parametrize(("condition", "kind", "lookback", "warm_up"), KINDS, ids=lambda each: getattr(each, "__name__", None))
def test_every_condition_is_of_its_kind(condition, kind, lookback, warm_up):
    for each in (condition, pickle.loads(pickle.dumps(condition)), copy.deepcopy(condition)):
        assert type(each) is kind
        assert each.key == condition.key
        assert each.warm_up(lambda operand: 9) == warm_up
        assert each.warm_up(lambda operand: 9, 0) == min(warm_up, 9)  # a cross without its bar more
        assert getattr(each, "lookback", None) == lookback


def test_a_cross_names_its_mirror():
    above, below = rules.crosses_above(lines.close, lines.open), rules.crosses_below(lines.close, lines.open)
    assert (above.mirror_key, below.mirror_key) == (below.key, above.key)
    assert above.key != below.key
    assert (lines.close > lines.open).mirror_key is None


def test_leaves_are_what_operators_combine():
    assert [each.key for each in (LATE & ~EARLY | LATE).leaves()] == [LATE.key, EARLY.key, LATE.key]
    assert [each.key for each in LATE.leaves()] == [LATE.key]


def test_custom_lines_of_a_strategy_are_listed_once():
    @bt.line("n")
    def shifted(bars, n):
        return bars.close + n

    @bt.line()
    def share(bars):
        return bars.close / bars.close / 20

    strategy = bt.Strategy(enter_long=(lines.sma(shifted(1), 3) > shifted(2)) & ~LATE, stop_loss=2 * share())
    assert sorted(map(repr, strategy.custom_lines())) == ["share", "shifted"]
    assert bt.strategies.sma_cross.custom_lines() == []


def test_columns_of_ready_signals_are_counted():
    assert rules.from_arrays(ENTRIES, EXITS[:, 0]).n_columns == 3
    assert rules.from_arrays(ENTRIES[:, 0], EXITS[:, :0]).n_columns == 0
    assert rules.from_arrays(ENTRIES[:, 0]).n_columns is None
    assert bt.strategies.sma_cross.n_columns is None


def test_memo_of_masks_is_bounded_and_right():
    room = 3 * 8 * n_words(len(BARS))
    memo = memo_of(room=room)
    condition = lines.close > bt.param("x")
    for x in [*range(80, 120), *range(80, 120)]:
        assert truth(condition, {"x": x}, memo=memo) == (BARS.close > x).tolist()
        assert 0 < memo._memo.currsize <= room


def test_masks_of_callers_are_not_theirs_to_change():
    memo = memo_of()
    before = truth(LATE, memo=memo)
    block = Block(np.zeros((1, 0)), {}, {})
    table, _ = memo.masks([LATE], block)
    table[:] = 0  # a table is its caller's
    assert truth(~LATE, memo=memo) != before
    truth(LATE & EARLY, memo=memo)
    assert truth(LATE, memo=memo) == before


# -- strategies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "enter_long or enter_short must be given, got neither"),
        ({"exit_long": LATE}, "enter_long or enter_short must be given, got neither"),
        ({"enter_long": True}, "enter_long must be a condition"),
        ({"enter_long": lines.close}, r"enter_long must be a condition \(for example .*\), got close"),
        ({"enter_long": LATE, "exit_short": np.ones(80, dtype=bool)}, "exit_short must be a condition"),
        ({"enter_long": LATE, "stop_loss": "5%"}, "stop_loss must be a number, got '5%'"),
        ({"enter_long": LATE, "take_profit": float("nan")}, "take_profit must be a finite number, got nan"),
        ({"enter_long": LATE, "trailing_stop": True}, "trailing_stop must be a number, got True"),
        ({"enter_long": LATE, "max_bars": LATE}, "max_bars must be a number, got close > sma"),
    ],
)
def test_strategies_refuse(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        bt.Strategy(**arguments)


@pytest.mark.parametrize("level", ["stop_loss", "take_profit", "trailing_stop"])
@pytest.mark.parametrize(
    ("value", "message"), [(0, "must be > 0, got 0"), (-0.1, r"must be > 0, got -0\.1"), ("x", "must be a number > 0, got 'x'")]
)
def test_levels_are_positive(level, value, message):
    strategy = bt.Strategy(enter_long=LATE, **{level: bt.param("level")})
    with pytest.raises(bt.InputError, match=rf"{level} \(level = .*\) {message}"):
        bt.run(BARS, strategy, {"level": value}, costs=FREE)


def test_levels_computed_to_nan_are_refused():
    strategy = bt.Strategy(enter_long=LATE, stop_loss=bt.param("x") / bt.param("x"))
    with pytest.raises(bt.InputError, match=r"stop_loss \(x = 0\) must be a finite number > 0, got nan"):
        bt.run(BARS, strategy, {"x": 0}, costs=FREE)


def test_levels_that_are_lines_are_checked_from_the_start_on():
    strategy = bt.Strategy(enter_long=LATE, stop_loss=lines.close - bt.param("x"))
    row = next(bar for bar in range(9, 80) if BARS.close[bar] <= 100)
    with pytest.raises(bt.InputError, match=rf"stop_loss = close - x \(x = 100\) must be .* > 0 .*, got .* \(row {row}\)"):
        bt.run(BARS, strategy, {"x": 100}, costs=FREE)


@pytest.mark.parametrize("value", [0, -1, 2.5, "x"])
def test_max_bars_is_a_whole_number(value):
    with pytest.raises(bt.InputError, match=r"max_bars \(k = .*\) must be a whole number >= 1, got"):
        bt.run(BARS, bt.Strategy(enter_long=LATE, max_bars=bt.param("k")), {"k": value}, costs=FREE)


def test_parameters_of_a_strategy_are_merged():
    strategy = bt.Strategy(
        enter_long=lines.close > lines.sma(lines.close, bt.param("n")),
        exit_long=lines.close < bt.param("m", 5),
        stop_loss=bt.param("k", None) * lines.atr(bt.param("n")) / lines.close,
        max_bars=bt.param("hold", 3),
    )
    assert strategy.params == {"n": REQUIRED, "m": 5.0, "k": None, "hold": 3.0}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (bt.param("n"), bt.param("n", 5)),
        (bt.param("n", 5), bt.param("n", 6)),
        (bt.param("n", None), bt.param("n", 5)),
        (bt.param("n"), bt.param("n", None)),
    ],
)
def test_conflicting_defaults_are_refused(one, other):
    for build in (
        lambda: bt.Strategy(enter_long=lines.close > one, exit_long=lines.close < other),
        lambda: bt.Strategy(enter_long=lines.close > one, stop_loss=other),
        lambda: (lines.close > one) & (lines.close < other),
        lambda: one + other,
    ):
        with pytest.raises(bt.InputError, match="parameter 'n' must have one default, got"):
            build()


def test_equal_defaults_merge():
    strategy = bt.Strategy(enter_long=lines.close > bt.param("n", 5), exit_long=lines.close < bt.param("n", 5.0))
    assert strategy.params == {"n": 5.0}


def ready(**changes):
    fast, slow = lines.sma(lines.close, bt.param("fast")), lines.ema(lines.close, bt.param("slow"))
    return bt.Strategy(
        **(
            {
                "enter_long": rules.crosses_above(fast, slow),
                "exit_long": rules.crosses_below(fast, slow),
                "stop_loss": bt.param("k", None),
            }
            | changes
        )
    )


def test_keys_are_equal_for_strategies_that_decide_equally():
    assert ready().key == ready().key == ready(name="other").key
    others = [
        ready(stop_loss=0.1),
        ready(stop_loss=bt.param("k", 0.1)),
        ready(take_profit=0.1),
        ready(exit_long=LATE),
        ready(enter_short=LATE),
        ready(max_bars=5),
        ready(),
    ]
    assert len({each.key for each in others}) == len(others)


@pytest.mark.parametrize(
    "again", [lambda each: pickle.loads(pickle.dumps(each)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deepcopy"]
)
@pytest.mark.parametrize(
    "strategy", [ready(), bt.strategies.sma_cross, rules.from_arrays(BARS.close > 100)], ids=lambda each: each.name
)
def test_copies_of_strategies_are_equal(strategy, again):
    other = again(strategy)
    assert other.key == strategy.key
    assert other.params == strategy.params
    assert repr(other) == repr(strategy)
    given = {"fast": 3, "slow": 8} if "fast" in strategy.params else {}
    runs = [bt.run(BARS, each, given, costs=FREE) for each in (strategy, other)]
    pd.testing.assert_series_equal(runs[0].equity, runs[1].equity)


@pytest.mark.parametrize("name", ["enter_long", "name", "params", "extra"])
def test_strategies_are_immutable(name):
    with pytest.raises(AttributeError, match=f"Strategy is immutable; cannot set '{name}'"):
        setattr(ready(), name, None)


def test_repr_of_a_strategy_names_what_is_set():
    strategy = bt.Strategy(enter_long=lines.close > 1, stop_loss=0.1, name="x")
    assert repr(strategy) == "Strategy(x: enter_long=close > 1, stop_loss=0.1)"


def test_disabled_sides_need_no_parameters():
    strategy = bt.Strategy(enter_long=LATE, enter_short=lines.close < bt.param("low"))
    run = bt.run(BARS, strategy, {}, costs=FREE, execution=bt.Execution(sides="long"))
    assert run.start == 9
    with pytest.raises(bt.InputError, match="parameter 'low' must have a value, got none"):
        bt.run(BARS, strategy, {}, costs=FREE)
    with pytest.raises(bt.InputError, match="sides must leave the strategy an entry, got 'short' for 'strategy'"):
        bt.run(BARS, bt.Strategy(enter_long=LATE), {}, costs=FREE, execution=bt.Execution(sides="short"))


# -- ready signals -----------------------------------------------------------------------------------------------------

RNG = np.random.default_rng(7)
ENTRIES, EXITS = RNG.random((80, 3)) < 0.1, RNG.random((80, 3)) < 0.1
DAYS = pd.date_range("2024-01-01", periods=80)


def test_signals_trade_as_a_condition_with_the_same_truth(backend):
    condition = lines.close > 100
    execution = bt.Execution(start=0)
    by_rule = bt.run(BARS, bt.Strategy(enter_long=condition, exit_long=~condition), costs=FREE, execution=execution)
    entries = BARS.close > 100
    by_array = bt.run(BARS, rules.from_arrays(entries, ~entries), costs=FREE, execution=execution)
    pd.testing.assert_series_equal(by_rule.equity, by_array.equity)
    pd.testing.assert_frame_equal(by_rule.trades, by_array.trades)
    assert len(by_rule.trades) > 2


@pytest.mark.parametrize(
    "wrap",
    [lambda array: array, pd.DataFrame, np.asfortranarray, lambda array: array.tolist()],
    ids=["array", "frame", "fortran", "lists"],
)
def test_each_column_is_a_candidate(backend, wrap):
    table = bt.evaluate(BARS, rules.from_arrays(wrap(ENTRIES), wrap(EXITS)), costs=FREE)
    assert table.index.name == "column"
    assert table.index.tolist() == [0, 1, 2]
    for column in range(3):
        alone = bt.evaluate(BARS, rules.from_arrays(ENTRIES[:, column], EXITS[:, column]), costs=FREE)
        np.testing.assert_array_equal(table.loc[column], alone.iloc[0])
    assert table["total_return"].nunique() == 3


def test_one_column_of_exits_serves_all_entries():
    table = bt.evaluate(BARS, rules.from_arrays(ENTRIES, pd.Series(EXITS[:, 0])), costs=FREE)
    alone = bt.evaluate(BARS, rules.from_arrays(ENTRIES[:, 2], EXITS[:, 0]), costs=FREE)
    np.testing.assert_array_equal(table.loc[2], alone.iloc[0])


def test_columns_combine_with_other_parameters():
    strategy = rules.from_arrays(ENTRIES, EXITS, stop_loss=bt.param("stop"), max_bars=bt.param("hold", None))
    table = bt.evaluate(BARS, strategy, {"column": [2, 2, 0], "stop": [0.01, None, 0.01]}, costs=FREE)
    assert table.index.names == ["column", "stop"]
    plain = bt.evaluate(BARS, rules.from_arrays(ENTRIES[:, 2], EXITS[:, 2]), costs=FREE)
    np.testing.assert_array_equal(table.iloc[1], plain.iloc[0])


def test_short_signals():
    run = bt.run(BARS, rules.from_arrays(short_entries=ENTRIES[:, 0], short_exits=EXITS[:, 0]), costs=FREE)
    assert set(run.trades["side"]) == {"short"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "enter_long or enter_short must be given, got neither"),
        ((None, ENTRIES), "enter_long or enter_short must be given, got neither"),
        ((np.ones(80),), "entries must be boolean, got dtype float64"),
        ((np.ones(80, dtype=int),), "entries must be boolean, got dtype int64"),
        ((pd.Series([True, None]),), "entries must be boolean, got dtype object"),
        ((ENTRIES, np.ones(80)), "exits must be boolean, got dtype float64"),
        ((ENTRIES[None],), r"entries must have shape \(n_bars,\) or \(n_bars, n_candidates\), got \(1, 80, 3\)"),
        ((np.True_,), r"entries must have shape \(n_bars,\) or \(n_bars, n_candidates\), got \(\)"),
        ((ENTRIES, EXITS[:, :2]), r"signals must have equal shapes, or one column for all, got \(80, 3\), \(80, 2\)"),
        ((ENTRIES, EXITS[:79]), r"signals must have equal shapes, or one column for all, got \(80, 3\), \(79, 3\)"),
        ((ENTRIES[:, 0], EXITS[:79, 0]), r"signals must have equal shapes, or one column for all, got \(80,\), \(79,\)"),
        (
            (pd.Series(ENTRIES[:, 0], DAYS), pd.Series(EXITS[:, 0], DAYS + pd.Timedelta("1D"))),
            r"exits must have the index of entries, got 2024-01-02 for 2024-01-01 \(row 0\); exits\.reindex\(entries\.index, ",
        ),
    ],
)
def test_bad_signals_are_refused(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        rules.from_arrays(*arguments)


def test_signals_of_other_bars_are_refused():
    with pytest.raises(bt.InputError, match=r"signals must have one row per bar \(80\), got 79"):
        bt.run(BARS, rules.from_arrays(ENTRIES[:79, 0]), costs=FREE)


@pytest.mark.parametrize("column", [3, -1, 0.5, None, "0"])
def test_columns_that_are_not_there_are_refused(column):
    with pytest.raises(bt.InputError, match="column must be a whole number from 0 to 2, got"):
        bt.evaluate(BARS, rules.from_arrays(ENTRIES), {"column": [column]}, costs=FREE)


def test_signals_are_copied_and_known_by_content():
    given = ENTRIES.copy()
    strategy = rules.from_arrays(given)
    given[:] = True
    assert strategy.key == rules.from_arrays(ENTRIES).key
    assert strategy.key != rules.from_arrays(given).key
    assert rules.from_arrays(ENTRIES[:, 0]).key != rules.from_arrays(ENTRIES[:, :1]).key
    assert rules.from_arrays(np.zeros((2, 3), dtype=bool)).key != rules.from_arrays(np.zeros((3, 2), dtype=bool)).key
    assert given.flags.writeable
    signals = pickle.loads(pickle.dumps(strategy)).enter_long.args[0]
    with pytest.raises(ValueError, match="read-only"):
        signals.words[0, 0] = 1


def packed(array):
    """Bits of booleans (..., n_bars), written bar by bar."""
    words = np.zeros((*array.shape[:-1], -(-array.shape[-1] // 64)), dtype=np.uint64)
    for bar in range(array.shape[-1]):
        words[..., bar // 64] |= array[..., bar].astype(np.uint64) << np.uint64(bar % 64)
    return words


def test_packed_signals_are_what_arrays_become(backend):
    columns, shared = rules.PackedSignals(packed(ENTRIES.T), 80), rules.PackedSignals(packed(EXITS[:, 0]), 80)
    strategy, other = rules.from_arrays(columns, shared), rules.from_arrays(ENTRIES, EXITS[:, 0])
    assert strategy.key == other.key
    assert hash(strategy.key) == hash(other.key)
    assert repr(strategy.key) == repr(other.key)
    assert (columns.shape, shared.shape) == ((80, 3), (80,))
    pd.testing.assert_frame_equal(bt.evaluate(BARS, strategy, costs=FREE), bt.evaluate(BARS, other, costs=FREE))


@pytest.mark.parametrize(
    "layout",
    [
        np.ascontiguousarray,
        np.asfortranarray,
        lambda array: np.repeat(array, 2, axis=1)[:, ::2],
        lambda array: array[::-1][::-1],
        pd.DataFrame,
    ],
)
def test_any_layout_packs_alike(backend, layout):
    signals = RNG.random((130, 300)) < 0.3
    given = layout(signals)
    found = rules.from_arrays(given).enter_long.args[0]
    assert found.words.tobytes() == packed(signals.T).tobytes()
    assert (np.asarray(given) == signals).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)), 80), r"words must be uint64 of shape \(2,\) or \(n_candidates, 2\), got float64 of shape \(3, 2\)"),
        ((np.zeros((3, 3), dtype=np.uint64), 80), r"words must be uint64 of shape \(2,\) or .*, got uint64 of shape \(3, 3\)"),
        ((np.uint64(5), 80), r"words must be uint64 of shape \(2,\) or .*, got uint64 of shape \(\)"),
        ((np.array([0, 1 << 16], dtype=np.uint64), 80), r"words must have no bits from n_bars \(80\) on, got some"),
        ((np.zeros(2, dtype=np.uint64), 80.0), r"n_bars must be a whole number >= 0, got 80\.0"),
    ],
)
def test_packed_signals_refuse(arguments, message):
    with pytest.raises(bt.InputError, match=message):
        rules.PackedSignals(*arguments)


def test_packed_signals_are_immutable_and_their_own():
    words = packed(ENTRIES.T)
    signals = rules.PackedSignals(words, 80)
    words[:] = 0
    assert signals == rules.PackedSignals(packed(ENTRIES.T), 80) != rules.PackedSignals(words, 80)
    assert signals != rules.PackedSignals(packed(ENTRIES.T), 81)
    with pytest.raises(ValueError, match="read-only"):
        signals.words[0, 0] = 1
    for change in (lambda: setattr(signals, "n_bars", 5), lambda: delattr(signals, "words")):
        with pytest.raises(AttributeError, match="PackedSignals is immutable"):
            change()
    again = pickle.loads(pickle.dumps(signals))
    assert (again, hash(again), again.digest) == (signals, hash(signals), signals.digest)
    with pytest.raises(ValueError, match="read-only"):
        again.words[0, 0] = 1
    others = [rules.PackedSignals(np.zeros((n, 2), dtype=np.uint64), n_bars) for n in (1, 2) for n_bars in (80, 81)]
    assert len({each.digest for each in others}) == len(set(others)) == 4


def test_equal_signals_are_one():
    strategy = rules.from_arrays(ENTRIES, EXITS, EXITS.copy(), ENTRIES)
    assert strategy.enter_short.args[0] is strategy.exit_long.args[0]
    assert strategy.exit_short.args[0] is strategy.enter_long.args[0] is not strategy.exit_long.args[0]


def test_all_columns_are_those_that_are_named(backend):
    strategy = rules.from_arrays(ENTRIES, EXITS)
    every = bt.evaluate(BARS, strategy, costs=FREE)
    pd.testing.assert_frame_equal(every, bt.evaluate(BARS, strategy, {"column": [0, 1, 2]}, costs=FREE), check_index_type=False)
    backwards = bt.evaluate(BARS, strategy, {"column": [2, 1, 0]}, costs=FREE)
    pd.testing.assert_frame_equal(every, backwards[::-1], check_index_type=False)


def test_ready_strategies_are_named():
    assert bt.strategies.READY["sma_cross"] is bt.strategies.sma_cross
    assert bt.strategies.sma_cross.params == {
        "fast": REQUIRED,
        "slow": REQUIRED,
        "stop_loss": None,
        "take_profit": None,
        "trailing_stop": None,
        "max_bars": None,
    }


def test_a_table_of_one_column_needs_no_parameter_that_names_it(backend):
    price = np.arange(10.0, 20.0)
    bars = bt.Bars(open=price, high=price, low=price, close=price)
    entries, exits = np.arange(10)[:, None] == 0, np.arange(10)[:, None] == 6
    strategy = rules.from_arrays(entries, exits)
    given = {"costs": bt.Costs.zero(), "execution": bt.Execution(fill="close", periods_per_year=252)}
    run = bt.run(bars, strategy, **given)
    assert run.trades[["entry_price", "exit_price"]].to_numpy().tolist() == [[10.0, 16.0]]
    assert bt.run(bars, strategy, {"column": 0}, **given).equity.equals(run.equity)
    assert bt.evaluate(bars, strategy, **given)["total_return"].tolist() == [run.stats["total_return"]]


def test_masked_signals_are_refused():
    masked = np.ma.array([True, False], mask=[True, False])
    with pytest.raises(bt.InputError, match=r"entries must say True or False everywhere, got a mask on 1 of 2; filled\(False\)"):
        rules.from_arrays(masked, [False, True])

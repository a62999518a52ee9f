"""Lines: every indicator against a plain definition, warm-ups, arithmetic, custom lines, causality, the memo."""

import itertools
import math
import pickle
import sys

import numpy as np
import pytest

import backtest as bt
from backtest import lines
from backtest.candidate_table import all_combinations
from backtest.expr import Line
from backtest.line_values import LineMemo, memo_key

ROOMY = 1 << 24
nan = math.nan


def walk(n_bars, seed=0, **more):
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.02, n_bars)))
    open_ = close * np.exp(rng.normal(0, 0.01, n_bars))
    high = np.maximum(open_, close) * np.exp(rng.exponential(0.005, n_bars))
    low = np.minimum(open_, close) * np.exp(-rng.exponential(0.005, n_bars))
    return bt.Bars(open=open_, high=high, low=low, close=close, volume=rng.integers(1, 1000, n_bars), **more)


def flat(n_bars, price=100.0):
    prices = np.full(n_bars, price)
    return bt.Bars(open=prices, high=prices, low=prices, close=prices)


BARS = walk(60)


def value(node, params=None, bars=BARS):
    return LineMemo(bars, ROOMY).value(node, params or {})


def head(bars, n_bars):
    columns = {name: getattr(bars, name)[:n_bars] for name in ("open", "high", "low", "close", "volume")}
    return bt.Bars(**columns)


# -- plain definitions -------------------------------------------------------------------------------------------------


def plain_sma(x, n):
    return [nan if bar < n - 1 else sum(x[bar - n + 1 : bar + 1]) / n for bar in range(len(x))]


def plain_ema(x, n):
    result = [nan] * len(x)
    for bar in range(n - 1, len(x)):
        result[bar] = sum(x[:n]) / n if bar == n - 1 else result[bar - 1] + (x[bar] - result[bar - 1]) * 2 / (n + 1)
    return result


def wilder(x, first, n):
    """Mean of the first n values from ``first`` on, then smoothed by 1 / n."""
    result = [nan] * len(x)
    for bar in range(first + n - 1, len(x)):
        result[bar] = sum(x[first : first + n]) / n if bar == first + n - 1 else (result[bar - 1] * (n - 1) + x[bar]) / n
    return result


def plain_rsi(x, n):
    changes = [0.0, *(after - before for before, after in itertools.pairwise(x))]
    gains, losses = wilder([max(each, 0.0) for each in changes], 1, n), wilder([max(-each, 0.0) for each in changes], 1, n)
    return [100 * gain / (gain + loss) for gain, loss in zip(gains, losses, strict=True)]


def plain_atr(bars, n):
    high, low, close = bars.high.tolist(), bars.low.tolist(), bars.close.tolist()
    ranges = [0.0] + [
        max(high[bar] - low[bar], abs(high[bar] - close[bar - 1]), abs(low[bar] - close[bar - 1])) for bar in range(1, len(bars))
    ]
    return wilder(ranges, 1, n)


def rolling(function, x, n):
    return [nan if bar < n - 1 else function(x[bar - n + 1 : bar + 1]) for bar in range(len(x))]


def plain_deviation(window):
    mean = sum(window) / len(window)
    return math.sqrt(sum((each - mean) ** 2 for each in window) / len(window))


PLAIN = {
    "sma": (lines.sma, plain_sma),
    "ema": (lines.ema, plain_ema),
    "rsi": (lines.rsi, plain_rsi),
    "highest": (lines.highest, lambda x, n: rolling(max, x, n)),
    "lowest": (lines.lowest, lambda x, n: rolling(min, x, n)),
    "previous": (lines.previous, lambda x, n: ([nan] * n + x)[: len(x)]),
    "deviation": (
        lambda source, n: lines.bollinger(source, n, 1.0).upper - lines.sma(source, n),
        lambda x, n: rolling(plain_deviation, x, n),
    ),
}


@pytest.mark.parametrize("n", [1, 2, 3, 7, 14, 59, 60, 61, 1000])
@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("source", [lines.close, lines.high])
def test_indicator_equals_its_definition(name, n, source):
    make, plain = PLAIN[name]
    if n == 1 and name in ("rsi", "deviation"):
        with pytest.raises(bt.InputError, match=r"window of .* must be >= 2, got 1"):
            value(make(source, 1))
        return
    np.testing.assert_allclose(value(make(source, n)), plain(value(source).tolist(), n), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2, 14, 59, 60])
def test_atr_equals_its_definition(n):
    np.testing.assert_allclose(value(lines.atr(n)), plain_atr(BARS, n), rtol=1e-12)


def test_bollinger_is_a_mean_and_two_bands():
    bands = lines.bollinger(lines.close, 20, 2.5)
    mean, deviation = plain_sma(BARS.close.tolist(), 20), rolling(plain_deviation, BARS.close.tolist(), 20)
    np.testing.assert_allclose(value(bands.middle), mean, rtol=1e-12)
    np.testing.assert_allclose(value(bands.upper), np.array(mean) + 2.5 * np.array(deviation), rtol=1e-10)
    np.testing.assert_allclose(value(bands.lower), np.array(mean) - 2.5 * np.array(deviation), rtol=1e-10)


@pytest.mark.parametrize("scale", [1e-9, 1e-4, 1e6])
@pytest.mark.parametrize("make", [lambda x: lines.bollinger(x, 20).upper, lambda x: lines.sma(x, 20), lambda x: lines.ema(x, 20)])
def test_price_level_does_not_matter(make, scale):
    np.testing.assert_allclose(value(make(scale * lines.close)), scale * value(make(lines.close)), rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_rsi_does_not_depend_on_the_price_level(scale):
    np.testing.assert_allclose(value(lines.rsi(scale * lines.close)), value(lines.rsi(lines.close)), rtol=1e-9)


def test_defaults():
    assert lines.rsi(lines.close).key == lines.rsi(lines.close, 14).key
    assert lines.atr().key == lines.atr(14).key
    assert lines.previous(lines.close).key == lines.previous(lines.close, 1).key
    assert lines.bollinger(lines.close).upper.key == lines.bollinger(lines.close, 20, 2.0).upper.key


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume"])
def test_prices_are_lines(name):
    assert value(getattr(lines, name)) is getattr(BARS, name)


def test_volume_that_is_not_there_is_refused():
    with pytest.raises(bt.DataError, match="bars must have a volume column for the line 'volume', got none"):
        value(lines.sma(lines.volume, 3), bars=flat(10))


# -- windows -----------------------------------------------------------------------------------------------------------

MAKERS = {name: make for name, (make, _) in PLAIN.items() if name != "deviation"} | {"atr": lambda source, n: lines.atr(n)}


@pytest.mark.parametrize("n", [0, -1, 2.5, nan, True, "5", None, [5]])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_windows_are_whole_numbers(make, n):
    with pytest.raises(bt.InputError, match=r"window must be a whole number >= 1, got"):
        make(lines.close, n)


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "5"])
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_windows_from_parameters_are_whole_numbers_too(make, n):
    with pytest.raises(bt.InputError, match=r"window of .* must be a whole number >= 1, got"):
        value(make(lines.close, bt.param("n")), {"n": n})


def test_window_of_none_is_refused_with_the_parameters():
    with pytest.raises(bt.InputError, match=r"sma\(close, n\) must have numbers for its parameters, got n = None"):
        value(lines.sma(lines.close, bt.param("n")), {"n": None})


@pytest.mark.parametrize("n", [5, 5.0, np.int64(5), np.float64(5)])
def test_whole_floats_are_windows(n):
    np.testing.assert_array_equal(value(lines.sma(lines.close, n)), value(lines.sma(lines.close, 5)))


def test_window_may_be_computed():
    node = lines.sma(lines.close, 2 * bt.param("n") + 1)
    np.testing.assert_array_equal(value(node, {"n": 3}), value(lines.sma(lines.close, 7)))
    with pytest.raises(bt.InputError, match=r"must be a whole number >= 1, got 3\.5"):
        value(lines.sma(lines.close, bt.param("n") / 2), {"n": 7})


@pytest.mark.parametrize("source", [5, "close", None, np.ones(60)])
def test_sources_are_lines(source):
    with pytest.raises(bt.InputError, match="source must be a line, got"):
        lines.sma(source, 5)


def test_source_that_is_one_number_is_refused():
    with pytest.raises(bt.InputError, match=r"source of .* must be a line, got 3"):
        value(lines.sma(bt.param("x") + 1, 5), {"x": 2})


# -- warm-up -----------------------------------------------------------------------------------------------------------


def leading_nans(values):
    return next((row for row, each in enumerate(values) if each == each), len(values))


NESTED = {
    "close": lines.close,
    "sma of ema": lines.sma(lines.ema(lines.close, bt.param("a")), bt.param("b")),
    "previous rsi": lines.previous(lines.rsi(lines.close, bt.param("a")), bt.param("b")),
    "atr share": 2 * lines.atr(bt.param("a")) / lines.close,
    "difference": lines.highest(lines.high, bt.param("a")) - lines.lowest(lines.low, bt.param("b")),
    "computed": lines.sma(lines.close, bt.param("a") + bt.param("b")),
    "three deep": lines.highest(lines.sma(lines.previous(lines.volume, bt.param("a")), 4), bt.param("b")),
    "bands": lines.bollinger(lines.rsi(lines.close, bt.param("a")), bt.param("b"), bt.param("a") / 2).lower,
}


@pytest.mark.parametrize("node", NESTED.values(), ids=NESTED)
@pytest.mark.parametrize(("a", "b"), [(2, 2), (3, 9), (14, 2), (20, 30)])
def test_warm_up_by_rule_is_the_warm_up_counted(node, a, b):
    memo, params = LineMemo(BARS, ROOMY), {"a": a, "b": b}
    values, counted = memo.entry(node, params)
    assert counted == leading_nans(values.tolist())
    assert memo.warm_up(node, lambda node: [params]) == counted


@pytest.mark.parametrize("node", NESTED.values(), ids=NESTED)
def test_longest_warm_up_of_a_space_is_the_longest_of_its_candidates(node):
    choices = {"a": [2, 5, 11], "b": [3, 2, 13]}
    memo = LineMemo(BARS, ROOMY)
    longest = max(memo.entry(node, {"a": a, "b": b})[1] for a in choices["a"] for b in choices["b"])
    assert memo.warm_up(node, all_combinations(choices)) == longest


def test_warm_up_over_too_many_combinations_asks_for_a_start():
    choices = {"a": list(range(1, 400)), "b": list(range(1, 400))}
    with pytest.raises(bt.InputError, match=r"needs more than 100,000 combinations of its parameters; give Execution"):
        LineMemo(BARS, ROOMY).warm_up(NESTED["computed"], all_combinations(choices))


@pytest.mark.parametrize(
    "node",
    [
        lines.sma(lines.close, 61),
        lines.sma(lines.sma(lines.close, 40), 40),
        lines.rsi(lines.close, 60),
        lines.atr(60),
        lines.previous(lines.close, 60),
        lines.previous(lines.close, 10**9),
    ],
    ids=repr,
)
def test_window_longer_than_the_data_is_all_warm_up(node):
    values, counted = LineMemo(BARS, ROOMY).entry(node, {})
    assert np.isnan(values).all()
    assert counted == len(BARS)


# -- arithmetic --------------------------------------------------------------------------------------------------------

CLOSE, OPEN = BARS.close, BARS.open


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (lines.close + 1, CLOSE + 1),
        (1 + lines.close, CLOSE + 1),
        (lines.close - 1, CLOSE - 1),
        (1 - lines.close, 1 - CLOSE),
        (lines.close * 2, CLOSE * 2),
        (2 * lines.close, CLOSE * 2),
        (lines.close / 2, CLOSE / 2),
        (2 / lines.close, 2 / CLOSE),
        (-lines.close, -CLOSE),
        (lines.close - lines.open, CLOSE - OPEN),
        (lines.close / lines.open * 3, CLOSE / OPEN * 3),
        (lines.close - (lines.open - 1), CLOSE - (OPEN - 1)),
        (lines.close + np.float64(2), CLOSE + 2),
        (np.float64(2) * lines.close, 2 * CLOSE),
        (np.int64(2) - lines.close, 2 - CLOSE),
        (np.float32(2) / lines.close, 2 / CLOSE),
    ],
)
def test_arithmetic(node, expected):
    np.testing.assert_array_equal(value(node), expected)


def test_arithmetic_with_parameters():
    k = bt.param("k")
    np.testing.assert_array_equal(value(k * lines.close, {"k": 3}), 3 * CLOSE)
    assert value(k * 2 + 1, {"k": 3}) == 7.0
    assert value(1 / k, {"k": 0}) == math.inf
    assert value(k * lines.close, {"k": None}) is None
    assert value(k + 1, {"k": None}) is None
    with pytest.raises(bt.InputError, match=r"k \* close must have numbers for its parameters, got k = 'x'"):
        value(k * lines.close, {"k": "x"})


@pytest.mark.parametrize("other", ["1", None, [1.0], np.ones(60), True, nan, math.inf])
@pytest.mark.parametrize("operate", [lambda a, b: a + b, lambda a, b: b - a, lambda a, b: a * b, lambda a, b: b / a])
def test_operands_are_numbers(operate, other):
    with pytest.raises(bt.InputError, match=r"(left|right) operand must be a (finite )?number, got"):
        operate(lines.close, other)


def test_division_by_zero_is_infinite():
    values = value(lines.close / (lines.close - lines.close))
    assert (values == math.inf).all()


def test_zero_by_zero_later_is_an_error_with_line_and_row():
    prices = np.array([1.0, 2, 3, 3, 4])
    bars = bt.Bars(open=prices, high=prices, low=prices, close=prices)
    change = lines.close - lines.previous(lines.close, bt.param("n"))
    with pytest.raises(bt.DataError) as caught:
        value(change / change, {"n": 1}, bars)
    ratio = "(close - previous(close, n)) / (close - previous(close, n))"
    assert str(caught.value) == f"line {ratio} must be NaN only in its warm-up, got NaN (row 3) at n = 1"


def test_nan_from_the_first_bar_is_warm_up():
    zero = lines.close - lines.close
    values, counted = LineMemo(BARS, ROOMY).entry(zero / zero, {})
    assert counted == len(BARS) == len(values)


# -- text and structure ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "text"),
    [
        (lines.close, "close"),
        (lines.sma(lines.close, 5), "sma(close, 5)"),
        (lines.atr(bt.param("n")), "atr(n)"),
        (2 * lines.atr(14) / lines.close, "(2 * atr(14)) / close"),
        (lines.close - (lines.open - 1), "close - (open - 1)"),
    ],
)
def test_repr(node, text):
    assert repr(node) == text


def test_repr_of_a_custom_line():
    assert repr(momentum(20) > 1.0) == "momentum(20) > 1"
    assert repr(momentum()) == "momentum(n)"


def test_equal_trees_have_equal_keys():
    def build(n, default):
        return lines.sma(lines.close, bt.param("n", default)) * n

    assert build(2, 5).key == build(2, 5).key == build(2.0, 5.0).key
    assert (
        len(
            {
                build(2, 5).key,
                build(3, 5).key,
                build(2, 6).key,
                build(2, None).key,
                lines.ema(lines.close, 5).key,
                lines.sma(lines.open, 5).key,
            }
        )
        == 6
    )


@pytest.mark.parametrize("node", NESTED.values(), ids=NESTED)
def test_lines_survive_a_pickle(node):
    again = pickle.loads(pickle.dumps(node))
    assert again.key == node.key
    assert again.params == node.params
    np.testing.assert_array_equal(value(again, {"a": 3, "b": 4}), value(node, {"a": 3, "b": 4}))


@pytest.mark.parametrize("name", ["op", "args", "key", "params", "extra"])
def test_nodes_are_immutable(name):
    with pytest.raises(AttributeError, match=f"Price is immutable; cannot set '{name}'"):
        setattr(lines.close, name, ())


@pytest.mark.parametrize("name", ["", "a b", "1a", "a.", ".a", None, 5])
def test_parameter_names_are_identifiers(name):
    with pytest.raises(bt.InputError, match="name must be an identifier"):
        bt.param(name)


@pytest.mark.parametrize("default", ["x", nan, math.inf, True, [1]])
def test_parameter_defaults_are_numbers(default):
    with pytest.raises(bt.InputError, match="default must be a"):
        bt.param("n", default)


# -- custom lines ------------------------------------------------------------------------------------------------------

CALLS = []


@bt.line("n", version="1")
def momentum(bars, n):
    CALLS.append(n)
    result = np.full(len(bars), nan)
    result[n:] = bars.close[n:] / bars.close[:-n]
    return result


@bt.line("source", "k")
def scaled(bars, source, k):
    return source * k


@bt.line("n")
def broken(bars, n):
    return {"shape": bars.close[1:], "square": np.ones((2, 2)), "text": "x", "error": 1 / 0 if n == "error" else None}[n]


def test_custom_line_equals_its_function():
    expected = np.concatenate([[nan] * 5, CLOSE[5:] / CLOSE[:-5]])
    np.testing.assert_array_equal(value(momentum(5)), expected)
    np.testing.assert_array_equal(value(momentum(n=5)), expected)
    np.testing.assert_array_equal(value(momentum(), {"n": 5}), expected)
    np.testing.assert_array_equal(value(momentum(bt.param("m")), {"m": 5}), expected)
    np.testing.assert_allclose(value(lines.sma(momentum(5), 3))[5:], plain_sma(expected[5:].tolist(), 3), rtol=1e-12)


def test_custom_line_takes_lines():
    np.testing.assert_array_equal(value(scaled(lines.open, 2.0)), 2 * OPEN)
    assert list(scaled(lines.open).params) == ["k"]


def test_custom_line_is_computed_once_per_distinct_value():
    memo = LineMemo(BARS, ROOMY)
    CALLS.clear()
    for n in (5, 6, 5, 6, 5):
        memo.value(momentum(), {"n": n, "other": n})
        memo.value(lines.sma(momentum(), 3), {"n": n})
    assert CALLS == [5, 6]


def test_optimize_computes_a_custom_line_once_per_distinct_value(backend):
    CALLS.clear()
    strategy = bt.Strategy(enter_long=momentum() > bt.param("level"), exit_long=momentum() < 1)
    bt.optimize(
        walk(300, index=np.arange("2020-01-01", 300, dtype="M8[D]")),
        strategy,
        {"n": [3, 4, 5], "level": [1.0, 1.01, 1.02, 1.03]},
        costs=bt.Costs.zero(),
    )
    assert sorted(CALLS) == [3, 4, 5]


@pytest.mark.parametrize(
    ("n", "message"),
    [
        ("shape", "line 'broken' must have one value per bar (60), got shape (59,) at n = 'shape'"),
        ("square", "line 'broken' must have one value per bar (60), got shape (2, 2) at n = 'square'"),
        ("text", "line 'broken' failed at n = 'text': ValueError: could not convert string to float: 'x'"),
        ("error", "line 'broken' failed at n = 'error': ZeroDivisionError: division by zero"),
    ],
)
def test_failing_custom_line_is_reported_with_its_parameters(n, message):
    with pytest.raises(bt.ObjectiveError) as caught:
        value(broken(), {"n": n})
    assert str(caught.value) == message
    assert caught.value.params == {"n": n}
    assert (caught.value.__cause__ is not None) == (" failed " in message)


def test_objective_errors_survive_a_pickle():
    error = pickle.loads(pickle.dumps(bt.ObjectiveError("text", {"n": 5})))
    assert (str(error), error.params) == ("text", {"n": 5})


def test_custom_line_with_a_late_nan_is_refused():
    @bt.line("row")
    def holed(bars, row):
        result = bars.close.copy()
        result[row] = nan
        return result

    with pytest.raises(bt.DataError, match=r"line holed\(row\) must be NaN only in its warm-up, got NaN \(row 7\) at row = 7"):
        value(holed(), {"row": 7})


def test_custom_line_cannot_change_the_bars_nor_its_sources():
    @bt.line("source")
    def vandal(bars, source):
        source[0] = 1.0
        return source

    for source in (lines.close, lines.sma(lines.close, 3), lines.close * 2):
        with pytest.raises(bt.ObjectiveError, match="read-only"):
            value(vandal(source))


def test_custom_line_keeps_no_reference_to_what_it_returned():
    kept = np.ones(60)

    @bt.line()
    def shared(bars):
        return kept

    memo = LineMemo(BARS, ROOMY)
    values = memo.value(shared(), {})
    kept[:] = 5.0
    assert (values == 1.0).all()
    assert not values.flags.writeable


def test_custom_line_may_return_whole_numbers_and_lists():
    @bt.line()
    def counter(bars):
        return list(range(len(bars)))

    assert value(counter()).tolist() == list(range(60))


def test_names_must_match_the_function():
    with pytest.raises(bt.InputError, match=r"line names must match f's parameters after bars \(n, m\), got n"):

        @bt.line("n")
        def f(bars, n, m):
            return bars.close


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: momentum(1, 2), r"momentum takes 1 values \(n\), got 2"),
        (lambda: momentum(m=1), r"parameter of momentum must be one of 'n', got 'm'"),
        (lambda: momentum(1, n=2), r"parameter of momentum must be one of , got 'n'"),
        (lambda: momentum("5"), r"n must be a number, a parameter or a line, got '5'"),
        (lambda: momentum(True), r"n must be a number, a parameter or a line, got True"),
        (lambda: bt.line("a b"), "name must be an identifier"),
    ],
)
def test_custom_lines_refuse_bad_calls(call, message):
    with pytest.raises(bt.InputError, match=message):
        call()


def test_custom_lines_survive_a_pickle():
    node = lines.sma(momentum(bt.param("m")), 3)
    again = pickle.loads(pickle.dumps(node))
    assert again.key == node.key
    np.testing.assert_array_equal(value(again, {"m": 4}), value(node, {"m": 4}))
    assert pickle.loads(pickle.dumps(momentum)) is momentum


def custom(version, factor):
    @bt.line("n", version=version)
    def same_name(bars, n):
        return bars.close * factor * n

    return same_name


def test_versions_are_the_identity_of_code():
    assert custom("1", 2)(5).key == custom("1", 2)(5).key
    assert custom("1", 2)(5).key != custom("2", 2)(5).key
    assert custom("1", 2)(5).key != custom(None, 2)(5).key
    plain, other = custom(None, 2), custom(None, 3)
    assert plain(5).key == plain(5).key
    assert plain(5).key != plain(5.0).key
    assert plain(5).key != other(5).key
    memo = LineMemo(BARS, ROOMY)
    assert memo.value(plain(1), {})[0] == 2 * CLOSE[0]
    assert memo.value(other(1), {})[0] == 3 * CLOSE[0]


# -- causality ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "node",
    [
        *(make(lines.close, 7) for make in MAKERS.values()),
        lines.bollinger(lines.close, 7).upper,
        NESTED["bands"],
        NESTED["three deep"],
        momentum(3),
    ],
    ids=repr,
)
def test_appending_bars_changes_no_earlier_value(node):
    bars, params = walk(200, seed=4), {"a": 5, "b": 6}
    whole = value(node, params, bars)
    for n_bars in (30, 31, 100, 199):
        np.testing.assert_array_equal(value(node, params, head(bars, n_bars)), whole[:n_bars])


# -- the memo ----------------------------------------------------------------------------------------------------------


def test_memo_is_bounded():
    room = 5 * BARS.close.nbytes
    memo = LineMemo(BARS, room)
    for n in range(2, 40):
        np.testing.assert_allclose(memo.value(lines.sma(lines.close, bt.param("n")), {"n": n}), plain_sma(CLOSE.tolist(), n))
        assert memo._memo.currsize <= room
    assert memo._memo.currsize == room


def test_line_larger_than_the_memo_is_still_computed():
    memo = LineMemo(BARS, BARS.close.nbytes - 1)
    np.testing.assert_array_equal(memo.value(lines.close * 2, {}), 2 * CLOSE)
    assert memo._memo.currsize == 0


def test_memo_tells_types_and_parameters_apart():
    node = lines.close * bt.param("k")
    keys = {memo_key(node, {"k": k}) for k in (1, 1.0, True)}
    assert len(keys) == 3
    assert memo_key(node, {"k": 1, "unused": 2}) == memo_key(node, {"k": 1, "unused": 3})


def test_memo_hands_out_the_same_read_only_array():
    memo = LineMemo(BARS, ROOMY)
    first = memo.value(lines.sma(lines.close, 5), {})
    assert memo.value(lines.sma(lines.close, 5), {}) is first
    with pytest.raises(ValueError, match="read-only"):
        first[10] = 0.0


def test_import_of_the_library_does_not_import_talib_nor_pandas():
    import subprocess

    code = "import sys, backtest; print([name for name in ('talib', 'pandas', 'scipy', 'optuna') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_line_class_is_not_confused_with_numbers():
    assert isinstance(lines.close * 2, Line)
    with pytest.raises(bt.InputError, match="has no truth value before bars are known"):
        bool(lines.close)

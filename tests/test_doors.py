"""What doors say to numbers beyond float, trees without an end, comparisons that cannot be, and prices whose powers overflow."""

import functools
import operator
import pickle

import numpy as np
import pandas as pd
import pytest
from fuzz import BARS, nested

import backtest as bt
from backtest import _said, expr, lines, rules
from backtest.levels import windows

COSTS = bt.Costs.zero()
LARGE = 10**400
SMA = bt.strategies.sma_cross
PRICES = {name: getattr(BARS, name) for name in ("open", "high", "low", "close")}
MOVES = {"close": [0.01], "high": [0.02], "low": [-0.01], "high_pred": [0.01], "low_pred": [-0.005], "position": [1.0]}


def levels(**changes):
    return bt.Levels(**{**MOVES, "fee_rate": 0.0} | changes)


def book(**changes):
    frame = np.column_stack([BARS.close, BARS.open])
    return bt.simulate(**{"weights": np.full((60, 2), 0.5), "close": frame, "fill": "close", "costs": COSTS} | changes)


def square(batch):
    return (batch**2).sum(axis=1)


# --- numbers beyond float ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("large", [LARGE, -LARGE, 10**5000], ids=["1e400", "-1e400", "1e5000"])
@pytest.mark.parametrize(
    "call",
    [
        lambda n: bt.Costs(fee_rate=n),
        lambda n: bt.Costs(fee_rate=0.0, maximum=n),
        lambda n: bt.Execution(start_cash=n),
        lambda n: bt.Execution(size=n),
        lambda n: bt.Execution(start=n),
        lambda n: bt.Execution(periods_per_year=n),
        lambda n: lines.close > n,
        lambda n: lines.close + n,
        lambda n: n * lines.close,
        lambda n: lines.sma(lines.close, n),
        lambda n: lines.previous(lines.close, n),
        lambda n: lines.bollinger(lines.close, 20, n),
        lambda n: bt.param("a", n),
        lambda n: rules.Strategy(enter_long=lines.close > 1, stop_loss=n),
        lambda n: rules.Strategy(enter_long=lines.close > 1, max_bars=n),
        lambda n: rules.PackedSignals(np.ones(1, np.uint64), n),
        lambda n: rules.crosses_above(lines.close, n),
        lambda n: bt.Bars(**PRICES | {"close": [n] * 60}),
        lambda n: bt.Bars(**PRICES, volume=[n] * 60),
        lambda n: bt.run(BARS, SMA, {"fast": n, "slow": 20}, costs=COSTS),
        lambda n: bt.run(BARS, SMA, {"fast": 5, "slow": 20, "max_bars": n}, costs=COSTS),
        lambda n: bt.evaluate(BARS, SMA, {"fast": [5], "slow": [20], "stop_loss": [n]}, costs=COSTS),
        lambda n: bt.optimize(BARS, SMA, {"fast": [5], "slow": [20]}, costs=COSTS, keep=n),
        lambda n: bt.optimize(BARS, SMA, {"fast": [5], "slow": [20]}, costs=COSTS, timeout=n),
        lambda n: bt.optimize(BARS, SMA, {"fast": [5], "slow": [20]}, costs=COSTS, seed=n),
        lambda n: bt.Space({"a": n}),
        lambda n: bt.Space({"a": [1, n]}),
        lambda n: bt.Space({"a": {"low": 0, "high": n, "step": 1}}),
        lambda n: bt.Space({"a": {"low": 0.0, "high": n}}),
        lambda n: bt.Space({"a": range(5)}).encode({"a": n}),
        lambda n: levels(close=[n]),
        lambda n: levels(fee_rate=n),
        lambda n: levels(fill_margin=n),
        lambda n: levels().profit([[0.0, n]]),
        lambda n: levels().optimize(bounds=((0.0, n), (-0.1, 0.1))),
        lambda n: levels().optimize(maxfun=n),
        lambda n: levels().prices([0.0, 0.0], reference=100.0, tick=n),
        lambda n: levels().prices([0.0, 0.0], reference=n),
        lambda n: book(close=[[n, 1.0]] * 60),
        lambda n: book(start_cash=n),
        lambda n: book(weights=[[n, 0.0]] * 60),
        lambda n: book(rf=n),
        lambda n: bt.track_trades({"fill_bar": [0], "units": [n], "price": [1.0]}, close=[1.0, 2.0]),
        lambda n: bt.track_trades({"fill_bar": [n], "units": [1.0], "price": [1.0]}, close=[1.0, 2.0]),
        lambda n: bt.track_trades({"fill_bar": [0], "units": [1.0], "price": [1.0]}, close=[1.0, n]),
        lambda n: bt.search.direct(square, [(0.0, n)]),
        lambda n: bt.search.direct(square, [(0.0, 1.0)], eps=n),
        lambda n: bt.search.evolution(square, [(0.0, n)]),
        lambda n: bt.search.evolution(square, [(0.0, 1.0)], maxfun=n),
        lambda n: bt.Study({"a": [1]}, lambda params, trial: 1.0, seed=n),
        lambda n: bt.Study({"a": [1]}, lambda params, trial: 1.0).run(timeout=n),
        lambda n: windows.simple_forecasts(BARS, n),
    ],
)
def test_a_number_beyond_float_is_refused_by_name(call, large):
    with pytest.raises(bt.InputError, match=r"about 2\*\*(1328|16609)|must") as caught:
        call(large)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("large", [1e19, 2**63, 1e300, 2.0**54])
def test_max_bars_beyond_every_bar_is_refused(backend, large):
    with pytest.raises(bt.InputError, match=r"max_bars \(max_bars = .*\) must be a whole number (<= 9|of 64 bits)"):
        bt.run(BARS, SMA, {"fast": 5, "slow": 20, "max_bars": large}, costs=COSTS)
    with pytest.raises(bt.InputError, match="max_bars"):
        bt.run(BARS, rules.Strategy(enter_long=lines.close > 1, max_bars=bt.param("a") * 1e300), {"a": 1e300}, costs=COSTS)
    assert len(bt.run(BARS, SMA, {"fast": 2, "slow": 5, "max_bars": 2.0**53}, costs=COSTS).trades) == len(
        bt.run(BARS, SMA, {"fast": 2, "slow": 5}, costs=COSTS).trades
    )


def test_windows_that_talib_refuses_are_refused_by_name():
    for make in (lines.sma, lines.ema, lines.highest, lines.lowest, lines.rsi, lambda _, n: lines.atr(n), lines.bollinger):
        with pytest.raises(bt.InputError, match=r"window must be <= 100,000, got 100001; TA-Lib"):
            make(lines.close, 100_001)
        make(lines.close, 100_000)
    n, flat = 100_010, np.ones(100_010)
    bars = bt.Bars(open=flat, high=flat, low=flat, close=flat)
    strategy = rules.Strategy(enter_long=lines.close > lines.sma(lines.close, bt.param("n")))
    with pytest.raises(bt.InputError, match=r"window of sma\(close, n\) must be <= 100,000, got 100001"):
        bt.run(bars, strategy, {"n": 100_001}, costs=COSTS, execution=bt.Execution(periods_per_year=1.0))
    assert bt.run(bars, strategy, {"n": 100_000}, costs=COSTS, execution=bt.Execution(periods_per_year=1.0)).start == 99_999
    shifted = rules.Strategy(enter_long=lines.close > lines.previous(lines.close, n - 5))
    assert bt.run(bars, shifted, costs=COSTS, execution=bt.Execution(periods_per_year=1.0)).start == n - 5


def test_a_space_too_large_for_a_float_says_so():
    space = bt.Space({f"p{k}": {"low": 0, "high": 10**14, "step": 1} for k in range(30)})
    for call in (lambda: len(space), lambda: space.candidates(np.zeros(1, dtype=np.int64))):
        with pytest.raises(bt.SpaceError, match=r"a space of about 2\*\*1395"):
            call()
    method, why = bt.search.choose(square, space)
    assert method == "evolution"
    assert "does not fit" in why


# --- prices whose powers overflow ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [1e308, 1.001e30, 0.999e-30, 5e-324])
def test_prices_are_bounded(price):
    flat = np.full(60, price)
    text = r"must be >= 1e-30 and <= 1e\+30, got "
    with pytest.raises(bt.DataError, match=f"open {text}"):
        bt.Bars(open=flat, high=flat, low=flat, close=flat)
    with pytest.raises(bt.DataError, match=rf"close {text}.* \(row 3, column 1\)"):
        book(close=np.where(np.arange(120).reshape(60, 2) == 7, price, 1.0))
    with pytest.raises(bt.DataError, match=f"close {text}"):
        bt.track_trades({"fill_bar": [0], "units": [1.0], "price": [1.0]}, close=flat)
    with pytest.raises(bt.InputError, match="ledger column 'price' must be"):
        bt.track_trades({"fill_bar": [0], "units": [1.0], "price": [price]}, close=np.ones(60))
    with pytest.raises(bt.DataError, match=f"reference {text}"):
        bt.Levels.from_bars(BARS, high_pred=BARS.high, low_pred=BARS.low, position=np.ones(60), fee_rate=0.0, reference=flat)
    with pytest.raises(bt.InputError, match=f"reference {text}"):
        levels().prices([0.0, 0.0], reference=price)


def test_money_and_volume_are_bounded():
    with pytest.raises(bt.DataError, match=r"volume must be <= 1e\+30, got 1e\+31 \(row 0\)"):
        bt.Bars(**PRICES, volume=np.full(60, 1e31))
    for name in ("fixed", "per_unit", "minimum", "borrow_rate"):
        with pytest.raises(bt.InputError, match=rf"{name} must be <= 1e\+30, got 1e\+31"):
            bt.Costs(fee_rate=0.0, **{name: 1e31})
    with pytest.raises(bt.InputError, match=r"start_cash must be <= 1e\+30, got 1e\+31"):
        bt.Execution(start_cash=1e31)
    with pytest.raises(bt.InputError, match=r"start_cash must be <= 1e\+30, got 1e\+31"):
        book(start_cash=1e31)


def test_prices_at_the_bounds_have_finite_metrics(backend):
    """From the smallest price to the largest within a bar: powers of such returns are what the bounds are for."""
    close = np.resize([1e-30, 1e30], 60)
    bars = bt.Bars(open=close, high=close, low=close, close=close, index=BARS.index)
    run = bt.run(
        bars,
        rules.from_arrays(np.arange(60) == 1, np.arange(60) == 3),
        costs=COSTS,
        execution=bt.Execution(fill="close", start_cash=1.0),
    )
    assert run.stats["total_return"] == pytest.approx(0.0)
    assert run.stats["max_drawdown"] == pytest.approx(-1.0)
    assert np.isfinite(run.stats[["volatility", "skew", "kurtosis", "sharpe"]]).all()
    assert run.stats["kurtosis"] == pytest.approx((60**2 - 3 * 60 + 3) / 59 - 3)  # one return of 1e60 among 60


# --- trees ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("op", [operator.or_, operator.and_])
def test_two_thousand_conditions_in_a_chain(backend, op):
    parts = [lines.sma(lines.close, 2 + at % 20) > 90.0 + at % 13 for at in range(2000)]
    for chain in (functools.reduce(op, parts), functools.reduce(lambda right, left: op(left, right), parts)):
        assert chain.depth <= expr.MAX_DEPTH
        strategy = pickle.loads(pickle.dumps(rules.Strategy(enter_long=chain, exit_long=~chain)))
        assert strategy.key == rules.Strategy(enter_long=chain, exit_long=~chain).key
        assert hash(strategy.key) == hash(rules.Strategy(enter_long=chain, exit_long=~chain).key)
        assert repr(chain).count("sma") == 2000
    few = {(at % 20, at % 13): part for at, part in enumerate(parts)}  # the distinct ones
    short = functools.reduce(op, few.values())
    both = [bt.run(BARS, rules.Strategy(enter_long=each, exit_long=~each), costs=COSTS) for each in (chain, short)]
    assert both[0].equity.tolist() == both[1].equity.tolist()
    assert len(both[0].orders)


def test_two_thousand_lines_in_a_sum_are_added_from_the_left(backend):
    values = [lines.close * (1.0 + at / 7.0) for at in range(2000)]
    for op, plain in ((operator.add, np.add), (operator.sub, np.subtract)):
        chain = functools.reduce(op, values)
        assert chain.depth <= expr.MAX_DEPTH
        expected = functools.reduce(plain, [BARS.close * (1.0 + at / 7.0) for at in range(2000)])
        found = lines.LineMemo(BARS, 1 << 20).value(pickle.loads(pickle.dumps(chain)), {})
        assert found.tobytes() == expected.tobytes()  # to the last bit


def test_trees_that_cannot_be_flat_are_refused():
    with pytest.raises(bt.InputError, match=r"at most 100 nested operations and 100,000 in all, got 101 and 101"):
        functools.reduce(lambda line, _: 1.0 - line, range(200), lines.close)
    with pytest.raises(bt.InputError, match=r"got 17 and 131,071"):
        functools.reduce(lambda line, _: line + line, range(200), lines.close)
    with pytest.raises(bt.InputError, match="nested operations"):
        functools.reduce(lambda condition, _: ~condition, range(200), lines.close > 1)
    with pytest.raises(bt.InputError, match=r"rules\.from_arrays"):
        functools.reduce(lambda a, at: (a & (lines.close > at)) | (lines.open > at), range(200), lines.close > 1)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_files_nested_without_an_end(tmp_path, opening, closing):
    (tmp_path / "space.json").write_text(f'{{"a": {opening * 5000}1{closing * 5000}}}')
    with pytest.raises(bt.SpaceError, match="must be JSON that is nested less deeply"):
        bt.Space.read(tmp_path / "space.json")
    (tmp_path / "space.toml").write_text(f"a = {'[' * 5000}{']' * 5000}")
    with pytest.raises(bt.SpaceError, match="must be TOML that is nested less deeply"):
        bt.Space.read(tmp_path / "space.toml")


def test_groups_of_parameters_nested_without_an_end():
    with pytest.raises(bt.SpaceError, match=r"must be nested at most 50 deep, got a\.a"):
        bt.Space(nested(3000, lambda inside: {"a": [1, 2] if inside is None else inside}))
    assert bt.Space(nested(49, lambda inside: {"a": [1, 2] if inside is None else inside})).size == 2


def test_a_value_nested_without_an_end_is_no_attribute():
    deep = nested(3000, lambda inside: [inside])
    with pytest.raises(bt.ObjectiveError, match="value must be what JSON can hold"):
        bt.Study({"a": [1]}, lambda params, trial: trial.set_attr("deep", deep)).run(n_trials=1, catch=())


# --- operators -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda: lines.close == 5,
        lambda: 5 == lines.close,  # noqa: SIM300
        lambda: lines.close == lines.open,
        lambda: lines.close != 5.0,
        lambda: bt.param("a") == 5,
        lambda: lines.close == np.ones(3),
        lambda: lines.close == pd.Series([1.0]),
        lambda: (lines.close > 1) == True,  # noqa: E712 - what people write
        lambda: (lines.close > 1) == (lines.open > 1),
    ],
)
def test_lines_have_no_equality(use):
    with pytest.raises(bt.InputError, match=r"have no [!=]=, got .*; write \(a >= b\) & \(a <= b\) for equal"):
        use()


def test_nodes_may_be_kept_in_containers():
    nodes = [lines.close, lines.close > 1, bt.param("a")]
    assert lines.close in nodes
    assert {node: at for at, node in enumerate(nodes)}[nodes[1]] == 1
    assert lines.close is not None
    assert (lines.close == None) is False  # noqa: E711 - it must not raise
    assert lines.close != "close"
    assert bt.Execution(size=nodes[2]) == bt.Execution(size=nodes[2])
    with pytest.raises(bt.InputError, match="size must be 1 with profile='vectorbt' and both sides"):
        bt.Execution(profile="vectorbt", size=bt.param("size"))


@pytest.mark.parametrize(
    "use",
    [
        lambda: lines.close > 5 & lines.open,
        lambda: lines.close & lines.open,
        lambda: ~lines.close,
        lambda: True | lines.close,
        lambda: bt.param("a") | (lines.close > 1),
    ],
)
def test_lines_are_no_conditions(use):
    with pytest.raises(bt.InputError, match=r"both sides of & must be conditions.*put each comparison into parentheses"):
        use()


@pytest.mark.parametrize(
    "use",
    [
        lambda: (lines.close > 5) > 3,
        lambda: (lines.close > 5) <= lines.open,
        lambda: 3 < (lines.close > 5),  # noqa: SIM300
        lambda: rules.crosses_above(lines.close, 3) >= 1,
    ],
)
def test_conditions_are_no_values(use):
    with pytest.raises(bt.InputError, match=r"must stand between lines and numbers, got the condition .*\(a < b\) & \(b < c\)"):
        use()


@pytest.mark.parametrize(
    "use",
    [
        lambda: 90 < lines.close < 110,
        lambda: lines.low < lines.close < lines.high,
        lambda: bool(lines.close > 1),
        lambda: lines.close > 1 and lines.open > 1,
    ],
)
def test_a_chain_of_comparisons_says_what_to_write(use):
    with pytest.raises(bt.InputError, match=r"has no truth value before bars are known.*a < b < c is \(a < b\) & \(b < c\)"):
        use()


@pytest.mark.parametrize("other", [pd.Series([1.0, 2.0]), np.ones(2), pd.DataFrame({"a": [1.0]}), pd.Index([1.0])])
def test_a_line_against_an_array_says_what_to_do(other):
    for use in (
        lambda: lines.close > other,
        lambda: other > lines.close,
        lambda: lines.close + other,
        lambda: other / lines.close,
        lambda: rules.above(lines.close, other),
    ):
        with pytest.raises(bt.InputError, match=r"must be a number, got \w+ of shape .*; a function with @bt\.line makes a line"):
            use()


# --- bt.line, heatmap, dir -----------------------------------------------------------------------------------------------


def test_line_without_its_names():
    def mine(bars):
        return bars.close

    for use in (lambda: bt.line(mine), lambda: bt.line(mine, version="1"), lambda: bt.line(np.add)):
        with pytest.raises(
            bt.InputError,
            match=r"line must be given the names .* called without any, @bt.line\(\), got the "
            r"function (mine|add)",
        ):
            use()
    for what in (5, None, "mine"):
        with pytest.raises(bt.InputError, match=r"line must decorate a function f\(bars, ...\) that knows its"):
            bt.line()(what)
    with pytest.raises(bt.InputError, match=r'version must be text, such as "1", got 1'):
        bt.line("n", version=1)
    assert repr(bt.line()(mine)()) == "mine()"
    assert repr(bt.line("n")(functools.partial(lambda m, bars, n: bars.close, 1))(5)) == "partial(5)"  # it has no name


def test_heatmap_of_one_parameter_or_an_unknown_aggregate():
    result = bt.optimize(BARS, SMA, {"fast": [2, 3], "slow": [5, 6]}, costs=COSTS, min_trades=0, n_threads=1)
    assert result.heatmap("fast", "slow").shape == (2, 2)
    with pytest.raises(bt.InputError, match="x and y must be two parameters, got 'fast' for both"):
        result.heatmap("fast", "fast")
    for agg in ("best", None, 5, "_selected_obj"):
        with pytest.raises(bt.InputError, match="agg must be a name that pandas knows, such as 'max'"):
            result.heatmap("fast", "slow", agg=agg)
    with pytest.raises(bt.InputError, match=r"parameter \['fast'\] is not known"):
        result.heatmap(["fast"], "slow")


@pytest.mark.parametrize(
    ("module", "hidden"), [(bt, "study"), (lines, "np"), (rules, "hashlib"), (bt.strategies, "param"), (bt.search, "kept")]
)
def test_dir_shows_public_names(module, hidden):
    names = dir(module)
    assert set(module.__all__) <= set(names)
    assert hidden not in names
    assert {name for name in names if name not in module.__all__} <= {"__version__", "gpu"}
    for name in names:
        if name != "gpu":  # imports nothing of torch, but is only made when asked for
            assert hasattr(module, name)


def test_completion_of_a_name(monkeypatch):
    import rlcompleter

    completer = rlcompleter.Completer({"bt": bt})
    found = []
    while (name := completer.complete("bt.lines.s", len(found))) is not None:
        found.append(name)
    assert [name.rstrip("()") for name in found] == ["bt.lines.sma"]


# --- wording -------------------------------------------------------------------------------------------------------------


def test_shown_is_short_and_never_fails():
    class Unprintable:
        def __repr__(self):
            raise RuntimeError("no")

    assert _said.shown(5) == "5"
    assert _said.shown(True) == "True"
    assert _said.shown(10**400) == "about 2**1328"
    assert _said.shown(-(10**5000)) == "-about 2**16609"
    assert _said.shown("x" * 1000) == "'" + "x" * 199 + "... (str)"
    assert _said.shown(Unprintable()) == "<Unprintable whose repr raises RuntimeError>"
    assert _said.shown(nested(5000, lambda inside: [inside])) == "a list nested too deep to show"


@pytest.mark.parametrize("value", [[[1.0, 2.0], [3.0]], nested(100, lambda inside: [inside])])
def test_ragged_lists_are_refused_by_name(value):
    for call in (
        lambda: bt.Bars(**PRICES | {"open": value}),
        lambda: levels(close=value),
        lambda: book(weights=value),
        lambda: levels().profit(value),
        lambda: rules.from_arrays(value),
        lambda: bt.search.direct(square, value),
        lambda: bt.Space({"a": range(3)}).from_unit(value),
        lambda: book(rebalance=value),
    ):
        with pytest.raises(bt.InputError, match=r"must (be an array|hold numbers|be boolean|have|be finite)"):
            call()


def test_masked_numbers_are_missing():
    masked = np.ma.masked_array(BARS.close, mask=np.arange(60) == 3)
    with pytest.raises(bt.DataError, match=r"close must be finite, got nan \(row 3\)"):
        bt.Bars(**PRICES | {"close": masked})
    with pytest.raises(bt.DataError, match=r"close must be finite, got nan \(row 0\)"):
        levels(close=np.ma.masked_array([0.01], mask=[True]))
    assert book(close=np.ma.column_stack([masked, masked])).equity.notna().all()  # no price there

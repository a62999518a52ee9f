"""The levels door and its kernels: against the oracle, against each other, and against bad input."""

import copy
import pickle
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import oracle_levels as oracle
import pytest
from hypothesis import given
from levels_problems import KINDS, always_on, moves, rules
from mutants import mutated

from backtest import DataError, InputError, _backend, level_rows, search
from backtest._pure import _levels as pure_rows
from backtest._pure import levels as pure
from backtest.levels import AlwaysOn, Levels


def offsets(seed, n_candidates=7):
    return np.random.default_rng([seed, 5]).uniform(-0.02, 0.02, (n_candidates, 2))


def plain(data):
    return {name: value.tolist() for name, value in data.items()}


# --- What is computed


@pytest.mark.parametrize("kind", KINDS)
def test_profit_is_the_oracles_to_the_last_bit(backend, kind):
    for seed in range(12):
        data, rule = moves(17, seed, kind), rules(seed, kind)
        points = np.vstack([offsets(seed), [[0.0, 0.0], [12.0, -3.0], [-3.0, 12.0]]])
        expected = [oracle.profit(plain(data), h, l, **rule) for h, l in points.tolist()]  # noqa: E741
        assert Levels(**data, **rule).profit(points).tolist() == expected
        for allow_short in (True, False):
            both = always_on(data, seed)
            expected = [oracle.always_on(plain(both), h, l, allow_short=allow_short, **rule) for h, l in points.tolist()]  # noqa: E741
            assert AlwaysOn(**both, allow_short=allow_short, **rule).profit(points).tolist() == expected


def one(position=1.0, close=0.01, high=0.02, low=-0.01, high_pred=0.015, low_pred=-0.005, fee_rate=0.001, **rule):
    arrays = {"close": close, "high": high, "low": low, "high_pred": high_pred, "low_pred": low_pred, "position": position}
    return Levels(**{name: [value] for name, value in arrays.items()}, fee_rate=fee_rate, **rule)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, 0.015 + 0.005 - 0.001),  # filled at the forecast low, out at the forecast high
        ({"close_at_eod": True}, 0.01 + 0.005 - 0.001),
        ({"intrabar": "pessimistic"}, 0.01 + 0.005 - 0.001),  # the close does not prove that the high came after the entry
        ({"intrabar": "pessimistic", "close": 0.016}, 0.015 + 0.005 - 0.001),
        ({"position": 0.5}, 0.5 * (0.015 + 0.005 - 0.001)),
        ({"position": 0.0}, 0.0),
        ({"position": -1.0}, 0.015 + 0.005 - 0.001),  # a short sells the forecast high and buys back the forecast low
        ({"position": -1.0, "close_at_eod": True}, 0.015 - 0.01 - 0.001),
        ({"low": -0.005}, 0.0),  # the entry must be traded through, not only touched
        ({"high": 0.015}, 0.015 + 0.005 - 0.001),  # the exit need only be touched
        ({"high": 0.015, "fill_margin": 0.001}, 0.01 + 0.005 - 0.001),
        ({"low": -0.0055, "fill_margin": 0.001}, 0.0),
        ({"low_pred": 0.3}, 0.015 + 0.0 - 0.001),  # no buy order above the reference
    ],
)
def test_one_bar_by_hand(backend, arguments, expected):
    assert one(**arguments).profit([[0.0, 0.0]])[0] == pytest.approx(expected, abs=1e-15)


def test_replay_adds_up_and_matches_the_oracle(backend):
    for seed in range(20):
        data, rule = moves(25, seed, KINDS[seed % 6]), rules(seed)
        problem = Levels(**data, **rule)
        h, l = offsets(seed)[0].tolist()  # noqa: E741
        frame = problem.replay((h, l))
        assert list(frame.columns) == ["entry", "exit", "exit_kind", "filled", "ambiguous", "profit"]
        total = 0.0
        for profit in frame["profit"]:
            total += profit
        assert total == problem.profit([[h, l]])[0]
        for row, bar in enumerate(zip(*plain(data).values(), strict=True)):
            *prices, position = bar
            got = frame.iloc[row]
            if position == 0.0:
                assert (got["filled"], got["exit_kind"], got["profit"]) == (False, "none", 0.0)
                continue
            side = "long" if position > 0 else "short"
            filled, entry, exit_, kind, profit = oracle.bar(side, *prices, abs(position), h, l, **rule)
            assert (got["filled"], got["exit_kind"], got["profit"]) == (filled, kind, profit)
            if filled:
                assert (got["entry"], got["exit"]) == (entry, exit_)
            else:
                assert np.isnan(got["entry"])


def test_always_on_replay_has_both_sides(backend):
    problem = AlwaysOn(**always_on(moves(6, 1), 1), fee_rate=0.001)
    frame = problem.replay((0.001, -0.001))
    assert frame.index.names == ["bar", "side"]
    assert len(frame) == 12
    long, short = frame.xs("long", level="side"), frame.xs("short", level="side")
    assert problem.profit([[0.001, -0.001]])[0] == sum(long["profit"], 0.0) + sum(short["profit"], 0.0)


def test_report_of_a_point(backend):
    for seed in range(30):
        data, rule = moves(30, seed, KINDS[seed % 7]), rules(seed)
        problem = Levels(**data, **rule)
        found = problem.optimize()
        low, high = (
            oracle.profit(plain(data), *found.x.tolist(), **rule | {"intrabar": name}) for name in ("pessimistic", "optimistic")
        )
        assert (found.profit_low, found.profit_high) == (low, high)
        assert low <= found.profit <= high
        assert found.fun == -found.profit
        assert found.baseline == problem.profit([[0.0, 0.0]])[0]
        frame = problem.replay(found.x)
        assert (found.n_fills, found.n_ambiguous) == (frame["filled"].sum(), frame["ambiguous"].sum())
        assert found.n_ambiguous == 0 or not rule["close_at_eod"]
        assert set(found) == {
            "x",
            "fun",
            "profit",
            "profit_low",
            "profit_high",
            "n_fills",
            "n_ambiguous",
            "baseline",
            "tolerance",
            "truncated",
            "fallback",
            "nfev",
            "method",
            "success",
            "status",
            "message",
        }


def walk(rng, n_bars, n_steps):
    """Driftless intrabar paths, as moves from the bar's reference, (n_bars, n_steps + 1)."""
    steps = rng.normal(0.0, 0.02 / np.sqrt(n_steps), (n_bars, n_steps))
    return np.concatenate([np.zeros((n_bars, 1)), np.cumsum(steps, axis=1)], axis=1)


def true_profit(path, position, entry, exit_, fee_rate):
    """Walk one path: the entry fills when the price trades through it, the exit when the price reaches it afterwards."""
    sign = 1.0 if position > 0.0 else -1.0
    through = np.nonzero(sign * path < sign * entry)[0]
    if not len(through):
        return 0.0
    reached = (sign * path[through[0] :] >= sign * exit_).any()
    return sign * ((exit_ if reached else path[-1]) - entry) - fee_rate


def test_the_truth_lies_between_the_two_rules_on_random_walks(backend):
    rng = np.random.default_rng(2024)
    n_bars, fee_rate, ambiguous = 400, 0.0005, 0
    totals = np.zeros(3)
    for _ in range(5):
        path = walk(rng, n_bars, 60)
        position = rng.choice([-1.0, 1.0], n_bars)
        high_pred, low_pred = np.full(n_bars, 0.008), np.full(n_bars, -0.008)
        given_ = {
            "close": path[:, -1],
            "high": path.max(axis=1),
            "low": path.min(axis=1),
            "high_pred": high_pred,
            "low_pred": low_pred,
            "position": position,
            "fee_rate": fee_rate,
        }
        for point in ((0.0, 0.0), (-0.004, 0.003)):
            low = Levels(**given_, intrabar="pessimistic").replay(point)["profit"].to_numpy()
            frame = Levels(**given_).replay(point)
            high = frame["profit"].to_numpy()
            hp, lp = 0.008 + point[0], -0.008 + point[1]
            true = np.array(
                [
                    true_profit(bar, side, lp if side > 0 else hp, hp if side > 0 else lp, fee_rate)
                    for bar, side in zip(path, position, strict=True)
                ]
            )
            assert (low <= true + 1e-15).all()
            assert (true <= high + 1e-15).all()
            ambiguous += frame["ambiguous"].sum()
            totals += low.sum(), true.sum(), high.sum()
    assert ambiguous > 300
    assert totals[0] < totals[1] < 0.0 < totals[2]  # the optimistic sum of a fair game with a fee is a profit, as documented


# --- Twins


def test_the_door_and_the_kernel_mean_the_same_columns():
    names = [name for name in vars(level_rows) if name.isupper() and type(getattr(level_rows, name)) is int]
    assert len(names) == 8 + 6 + 6 + 3
    kernel = vars(pure_rows) | vars(pure)
    assert {name: getattr(level_rows, name) for name in names} == {name: kernel[name] for name in names}


def everything(kernel, rows, split, fee_rate, points, start, stop):
    """What every function of the kernel says, as one list of arrays."""
    out = []
    for pessimistic in (0, 1):
        profit = np.full(len(points), 9.0)
        kernel.profit(rows, split, fee_rate, pessimistic, points, start, stop, profit)
        bars = np.full((len(rows), 6), 9.0)
        if len(points):
            kernel.replay(rows, fee_rate, pessimistic, *points[0].tolist(), 0, len(rows), bars)
        out += [profit, bars]
    for point in points[start:stop]:
        out.append(np.full(6, 9.0))
        kernel.report(rows, split, fee_rate, *point.tolist(), out[-1])
    return out


def frozen(array):
    array.flags.writeable = False
    return array


def assert_twins_agree(rows, split, fee_rate, points, start, stop, twin=pure):
    expected = everything(twin, rows, split, fee_rate, points, start, stop)
    for simd in _backend.simd_levels():
        with _backend.forced("cython", simd) as now:
            got = everything(now.kernels["levels"], rows, split, fee_rate, points, start, stop)
        for ours, theirs in zip(got, expected, strict=True):
            np.testing.assert_array_equal(ours.view(np.int64), theirs.view(np.int64), strict=True)  # bits: -0.0 is not 0.0


move = st.floats(-1.0, 1.0, allow_subnormal=True) | st.sampled_from([0.0, -0.0, -1.0, 1.0, 0.01, -0.01, 5e-324])
offset = st.floats(-0.05, 0.05) | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 0.01, -0.01])


@pytest.mark.compiled
@given(
    bars=st.lists(st.tuples(move, move, move, move, move, st.floats(-10.0, 10.0)), max_size=9),
    points=st.lists(st.tuples(offset, offset), max_size=17),
    fee_rate=st.floats(0.0, 1.0),
    margin=st.sampled_from([0.0, 0.01]),
    cut=st.floats(0.0, 1.0),
)
def test_twins_agree_on_anything(bars, points, fee_rate, margin, cut):
    table = np.array(bars, dtype=np.float64).reshape(-1, 6).T
    high, low = np.maximum(table[1], table[2]), np.minimum(table[1], table[2])
    problem = Levels(
        close=table[0],
        high=high,
        low=low,
        high_pred=table[3],
        low_pred=table[4],
        position=table[5],
        fee_rate=fee_rate,
        fill_margin=margin,
    )
    batch = frozen(np.array(points, dtype=np.float64).reshape(-1, 2))
    assert_twins_agree(problem._rows, int(cut * len(problem._rows)), fee_rate, batch, 0, len(batch))


@pytest.mark.compiled
@pytest.mark.parametrize("n_candidates", range(18))
def test_twins_agree_around_the_width_of_registers(n_candidates):
    for seed in range(4):
        problem = AlwaysOn(**always_on(moves(11, seed), seed), **rules(seed))
        assert_twins_agree(problem._rows, problem._split, problem.fee_rate, offsets(seed, n_candidates), 0, n_candidates)
        start, stop = n_candidates // 3, n_candidates - n_candidates // 4
        assert_twins_agree(problem._rows, problem._split, problem.fee_rate, offsets(seed, n_candidates), start, stop)


MUTATIONS = [
    ("entry > row[ENTRY_LEVEL]", "entry >= row[ENTRY_LEVEL]"),
    ("exit_ <= row[level]", "exit_ < row[level]"),
    ("(exit_ - entry) - fee_rate", "(exit_ - entry) + fee_rate"),
    ("(exit_ - entry) - fee_rate", "exit_ - (entry + fee_rate)"),
    ("-1.0: (-high, -low)", "-1.0: (high, -low)"),
    ("np.where(entry > 0.0, 0.0, entry)", "entry"),
    ("np.where(exit_ < 0.0, 0.0, exit_)", "exit_"),
    ("not exit_ <= row[PESSIMISTIC_LEVEL]", "not exit_ < row[PESSIMISTIC_LEVEL]"),
    ("profits.T.ravel()", "profits.ravel()"),
    ("bars[:, AMBIGUOUS]", "bars[:, FILLED]"),
    ("out[start:stop] = legs[0] + legs[1]", "out[start:stop] = legs[0] - legs[1]"),
]


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize(("text", "mutant"), MUTATIONS)
def test_the_comparison_notices_a_mutation(text, mutant):
    twin = mutated("levels", text, mutant)

    def compare(twin):
        for seed in range(12):
            data = moves(24, seed, ("lattice", "clamped")[seed % 2])
            problem = AlwaysOn(**always_on(data, seed), fee_rate=0.0015)
            points = np.round(offsets(seed, 12) / 0.005) * 0.005
            assert_twins_agree(problem._rows, problem._split, problem.fee_rate, points, 0, len(points), twin)

    compare(pure)
    with pytest.raises(AssertionError):
        compare(twin)


# --- Problems as values


def test_inputs_are_never_changed_and_never_kept(backend):
    data = moves(30, 3)
    before = copy.deepcopy(data)
    for value in data.values():
        value.flags.writeable = False
    points = frozen(offsets(3))
    problem = Levels(**data, fee_rate=0.001)
    first = problem.profit(points)
    problem.optimize()
    problem.replay(points[0])
    for name, value in data.items():
        np.testing.assert_array_equal(value, before[name], strict=True)
        value.flags.writeable = True
        value[:] = 0.5
    np.testing.assert_array_equal(problem.profit(points), first)


def test_problems_are_immutable_and_picklable(backend):
    for problem in (Levels(**moves(9, 3), fee_rate=0.001), AlwaysOn(**always_on(moves(9, 3), 3), fee_rate=0.001)):
        with pytest.raises(AttributeError, match="immutable"):
            problem.fee_rate = 0.0
        with pytest.raises(AttributeError, match="immutable"):
            del problem.fee_rate
        for twin in (pickle.loads(pickle.dumps(problem)), copy.deepcopy(problem)):
            np.testing.assert_array_equal(twin.profit(offsets(1)), problem.profit(offsets(1)))
            with pytest.raises(ValueError, match="read-only"):
                twin._rows[0, 0] = 1.0
        assert "9 bars" in repr(problem)


def test_threads_and_cuts_never_change_a_result(backend):
    problem = Levels(**moves(150, 4), fee_rate=0.001)
    batch = offsets(4, 9000 if backend.name == "cython" else 1000)
    expected = problem.profit(batch, n_threads=1)
    np.testing.assert_array_equal(problem.profit(batch, n_threads=3), expected)
    np.testing.assert_array_equal(np.concatenate([problem.profit(batch[:77]), problem.profit(batch[77:])]), expected)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: problem.optimize(), range(8)))
    assert len({(each.profit, *each.x.tolist()) for each in found}) == 1


def test_valid_leaves_rows_out(backend):
    data = moves(20, 5)
    mask = np.arange(20) % 3 != 0
    kept = Levels(**{name: value[mask] for name, value in data.items()}, fee_rate=0.001)
    holes = {name: np.where(mask, value, np.nan) for name, value in data.items()}
    problem = Levels(**holes, fee_rate=0.001, valid=mask)
    np.testing.assert_array_equal(problem.profit(offsets(5)), kept.profit(offsets(5)))
    assert len(problem.replay((0.0, 0.0))) == 20
    assert problem.prices((0.0, 0.0), reference=100.0)["high"].isna().tolist() == (~mask).tolist()


# --- Bars and prices

Bars = namedtuple("Bars", "open high low close")
BARS = Bars(*np.array([[99.0, 101.0, 103.0], [102.0, 104.0, 105.0], [98.0, 100.0, 101.0], [100.0, 103.0, 102.0]]))


def test_from_bars_takes_prices_and_leaves_the_first_bar_out(backend):
    problem = Levels.from_bars(
        BARS, high_pred=[1.0, 103.0, 104.0], low_pred=[1.0, 100.5, 102.0], position=[1.0, 1.0, -1.0], fee_rate=0.001
    )
    by_hand = Levels(
        close=[103 / 100 - 1, 102 / 103 - 1],
        high=[104 / 100 - 1, 105 / 103 - 1],
        low=[100 / 100 - 1, 101 / 103 - 1],
        high_pred=[103 / 100 - 1, 104 / 103 - 1],
        low_pred=[100.5 / 100 - 1, 102 / 103 - 1],
        position=[1.0, -1.0],
        fee_rate=0.001,
    )
    np.testing.assert_array_equal(problem.profit(offsets(1)), by_hand.profit(offsets(1)))
    assert problem.replay((0.0, 0.0))["filled"].tolist()[0] is False
    moved = Levels.from_bars(
        BARS,
        high_pred=[np.nan, 103 / 100 - 1, 104 / 103 - 1],
        low_pred=[0.0, 100.5 / 100 - 1, 102 / 103 - 1],
        position=[1.0, 1.0, -1.0],
        forecasts="moves",
        fee_rate=0.001,
    )
    np.testing.assert_array_equal(moved.profit(offsets(1)), by_hand.profit(offsets(1)))
    prices = problem.prices((0.0, 0.0))
    assert prices["high"].tolist()[1:] == pytest.approx([103.0, 104.0])
    assert np.isnan(prices["high"][0])


def test_from_bars_against_other_references(backend):
    arguments = {"high_pred": BARS.close * 1.01, "low_pred": BARS.close * 0.99, "position": np.ones(3), "fee_rate": 0.0}
    by_open = Levels.from_bars(BARS, reference="open", **arguments)
    by_price = Levels.from_bars(BARS, reference=BARS.open, **arguments)
    np.testing.assert_array_equal(by_open.profit(offsets(1)), by_price.profit(offsets(1)))
    assert len(by_open.bar) == 3
    both = AlwaysOn.from_bars(
        BARS,
        buy=np.ones(3),
        sell=np.zeros(3),
        reference="open",
        high_pred=BARS.close * 1.01,
        low_pred=BARS.close * 0.99,
        fee_rate=0.0,
    )
    np.testing.assert_array_equal(both.profit(offsets(1)), by_open.profit(offsets(1)))


def test_prices_are_rounded_away_from_the_market(backend):
    problem = one(high_pred=0.01234, low_pred=-0.01234)
    frame = problem.prices((0.0, 0.0), reference=100.0, tick=0.05)
    assert (frame["high"].tolist(), frame["low"].tolist()) == ([101.25], [98.75])
    on_tick = one(high_pred=0.1, low_pred=-0.1).prices((0.0, 0.0), reference=[1.0], tick=0.01)
    assert (on_tick["high"].tolist(), on_tick["low"].tolist()) == ([1.1], [0.9])  # 1.1 / 0.01 is 110.00000000000001
    far = problem.prices((0.5, -2.0), reference=100.0)
    assert far["low"].tolist() == [0.0]
    assert problem.prices((0.0, 0.0), reference=100.0)["high"].tolist() == [100.0 * (1.0 + 0.01234)]


# --- Searches


def test_evolution_counts_points_and_repeats_itself(backend):
    problem = Levels(**moves(30, 1), fee_rate=0.001)
    first, second, other = (problem.optimize("evolution", seed=seed, maxfun=90) for seed in (1, 1, 2))
    assert (first.profit, first.x.tolist()) == (second.profit, second.x.tolist())
    assert first.x.tolist() != other.x.tolist()
    assert first.nfev == 90
    assert problem.profit([first.x])[0] == first.profit
    assert problem.optimize("evolution", effort="fast").nfev <= 100


@pytest.mark.parametrize("maxfun", [5, 6, 7, 13, 29, 30, 31, 100])
def test_evolution_is_the_one_of_search_within_its_budget(maxfun):
    for seed in range(4):
        problem = Levels(**moves(30, seed, "lattice"), fee_rate=0.001)  # many points of equal profit
        found = problem.optimize("evolution", seed=seed, maxfun=maxfun)
        same = search.evolution(lambda batch, of=problem: -of.profit(batch), [(-0.03, 0.03)] * 2, maxfun=maxfun, seed=seed)
        assert (found.x.tolist(), found.nfev) == (same.x.tolist(), same.nfev)
        assert found.profit == -same.fun
        assert found.nfev <= maxfun


def test_evolution_says_when_it_came_to_rest():
    nowhere = Levels(**moves(10, 1) | {"position": np.zeros(10)}, fee_rate=0.001)
    found = nowhere.optimize("evolution")
    assert (found.profit, found.message) == (0.0, "the scores of a generation are alike to tol=0")


# --- Bad input

GOOD = moves(4, 1)
BAD_DATA = [
    ({"low": GOOD["low"][:3]}, r"low must have length 4, got 3"),
    ({"close": np.array([0.0, np.nan, 0.0, 0.0])}, r"close must be finite, got nan \(row 1\)"),
    ({"position": np.array([0.0, 1.0, np.inf, 0.0])}, r"position must be finite, got inf \(row 2\)"),
    ({"low": np.full(4, 0.5)}, r"low must be <= high, got low 0.5 and high .* \(row 0\)"),
    ({"position": np.array([0.0, 1.0, -10.5, 0.0])}, r"position must be within -10 and 10, got -10.5 \(row 2\)"),
    ({"high_pred": np.array([732.1, 1.0, 1.0, 1.0])}, r"relative moves expected, got 732.1 \(row 0\); use Levels.from_bars"),
    ({"position": np.array([True, False, True, True])}, r"position must hold signed fractions of capital .*got a boolean array"),
    ({"close": np.array(["a", "b", "c", "d"])}, r"close must hold numbers"),
    ({"close": np.zeros((4, 2))}, r"close must have 1 dimension, got shape \(4, 2\)"),
]


@pytest.mark.parametrize(("change", "message"), BAD_DATA)
def test_bad_data_is_refused_by_name_and_row(change, message):
    with pytest.raises(DataError, match=message):
        Levels(**GOOD | change, fee_rate=0.001)


BOTH = always_on(GOOD, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"sell": np.array([0.0, 0.5, 0.0, 0.0])},
            r"sell must be within -10 and 0 \(the short leg is negative\), got 0.5 \(row 1\)",
        ),
        (
            {"buy": np.array([0.0, 0.0, -0.5, 0.0])},
            r"buy must be within 0 and 10 \(the size of the long leg\), got -0.5 \(row 2\)",
        ),
        (
            {"sell": np.ones(4, dtype=bool)},
            r"sell must hold negative fractions .*boolean array; pass sell.astype\(float\) \* -1.0",
        ),
        ({"buy": np.ones(4, dtype=bool)}, r"buy must hold fractions .*boolean array; pass buy.astype\(float\)"),
        ({"close": np.full(4, 50.0)}, r"relative moves expected, got 50.0 \(row 0\); use AlwaysOn.from_bars"),
    ],
)
def test_bad_legs_are_refused(change, message):
    with pytest.raises(DataError, match=message):
        AlwaysOn(**BOTH | change, fee_rate=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fee_rate": -0.1}, r"fee_rate must be >= 0, got -0.1"),
        ({"fee_rate": None}, r"fee_rate must be a number >= 0, got None"),
        ({"fill_margin": -1e-9}, r"fill_margin must be >= 0"),
        ({"intrabar": "optimist"}, r"intrabar must be one of .*did you mean 'optimistic'"),
        ({"close_at_eod": 1}, r"close_at_eod must be True or False, got 1"),
        ({"valid": [1, 1, 1, 1]}, r"valid must be a boolean array of length 4, got dtype int64"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        Levels(**GOOD, **{"fee_rate": 0.001} | options)


def test_the_fee_has_no_default():
    with pytest.raises(TypeError, match="fee_rate"):
        Levels(**GOOD)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bounds": ((0.03, -0.03), (-0.03, 0.03))}, r"bounds of h must be \(lowest, highest\), got \(0.03, -0.03\)"),
        ({"bounds": ((-0.03, 0.03), (-0.03, np.inf))}, r"bounds of l must be a finite number, got inf"),
        ({"bounds": (-0.03, 0.03)}, r"bounds must be \(\(lowest, highest h\), \(lowest, highest l\)\)"),
        ({"maxfun": 0}, r"maxfun must be a whole number >= 1 .*, got 0"),
        ({"method": "exakt"}, r"method must be one of .*did you mean 'exact'"),
        ({"effort": "lazy"}, r"effort must be one of"),
        ({"method": "evolution", "bounds": ((0.0, 0.0), (-0.03, 0.03))}, r"lowest < highest for method='evolution'"),
        ({"method": "direct", "bounds": ((0.0, 0.01), (0.03, 0.03))}, r"lowest < highest for method='direct'"),
        ({"method": "direct", "bounds": ((-1e308, 1e308), (0.0, 0.03))}, r"bounds must have a finite width for method='direct'"),
        ({"maxfun": 1 << 60}, r"maxfun must be a whole number"),
        ({"method": "evolution", "seed": -1}, r"seed must be a whole number >= 0"),
    ],
)
def test_bad_search_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Levels(**GOOD, fee_rate=0.001).optimize(**arguments)


def test_bad_points_are_refused():
    problem = Levels(**GOOD, fee_rate=0.001)
    with pytest.raises(InputError, match=r"offsets must have shape \('any', 2\), got \(2, 3\)"):
        problem.profit(np.zeros((2, 3)))
    with pytest.raises(InputError, match=r"offsets must have 2 dimensions, got shape \(2,\)"):
        problem.profit([0.0, 0.0])
    with pytest.raises(InputError, match=r"offsets must be finite, got nan \(row 1, column 0\)"):
        problem.profit([[0.0, 0.0], [np.nan, 0.0]])
    with pytest.raises(InputError, match=r"offsets must have length 2, got 3"):
        problem.replay([0.0, 0.0, 0.0])
    with pytest.raises(InputError, match=r"reference must be given"):
        problem.prices([0.0, 0.0])
    with pytest.raises(InputError, match=r"tick must be > 0, got 0"):
        problem.prices([0.0, 0.0], reference=1.0, tick=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"high_pred": np.full(3, 0.01)}, r"high_pred must hold prices \(or pass forecasts='moves'\), got 0.01 \(row 1\)"),
        ({"reference": "close"}, r"reference must be 'prev_close', 'open' or an array of prices, got 'close'"),
        ({"reference": np.array([1.0, 0.0, 1.0])}, r"reference must hold prices > 0, got 0.0 \(row 1\)"),
        ({"forecasts": "returns"}, r"forecasts must be one of"),
    ],
)
def test_bad_bars_are_refused(arguments, message):
    good = {"high_pred": BARS.high, "low_pred": BARS.low, "position": np.ones(3), "fee_rate": 0.0}
    with pytest.raises(InputError, match=message):
        Levels.from_bars(BARS, **good | arguments)

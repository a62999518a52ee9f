"""What conditions leave of a space: nothing that is a candidate is left out, whatever is rare is found at once."""

import math
import pickle
import time

import numpy as np
import pytest
import scipy.optimize  # noqa: F401  (its import is no part of what is timed)
from hypothesis import given, settings
from hypothesis import strategies as st

import backtest as bt
from backtest import enumeration, search
from backtest.enumeration import VisitOrder
from backtest.space import Space

SUM = "p0 + p1 + p2 + p3 + p4 + p5"


@pytest.fixture
def at_once():
    begun = time.process_time()  # not of what else this machine does
    yield
    assert time.process_time() - begun < 1.0


def six(where):
    return Space({f"p{place}": range(100) for place in range(6)}, where=where)


def ten():
    return Space({name: range(1000) for name in "abcd"}, where="a == 500 and b == 500 and c == 500 and d < 10")


def rows(space):
    return space.candidates(np.arange(len(space)))[1].tolist()


# -- what is answered at once ------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("at_once")
def test_an_impossible_sum_is_refused():
    with pytest.raises(bt.SpaceError, match=r"where must leave at least one candidate, got 'p0 .* == 595', which no combination"):
        six(f"{SUM} == 595")


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    ("where", "candidate", "number"),
    [
        (f"{SUM} == 594", [99.0] * 6, 10**12 - 1),
        (f"594 == {SUM}", [99.0] * 6, 10**12 - 1),
        (f"{SUM} == 0", [0.0] * 6, 0),
        (f"{SUM} > 593", [99.0] * 6, 10**12 - 1),
        (f"not {SUM} < 593.5", [99.0] * 6, 10**12 - 1),
    ],
)
def test_the_only_candidate_is_found(where, candidate, number):
    space = six(where)
    numbers, batch = space.candidates(np.arange(1))
    assert (space.size, space.is_exact, len(space)) == (1, True, 1)
    assert (numbers.tolist(), batch.tolist()) == ([number], [candidate])
    assert search.grid(lambda batch: batch.sum(axis=1), space).fun == sum(candidate)


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("slack", [1, 4, 8])
def test_all_ways_to_make_a_sum_are_counted(slack):
    space = six(f"{SUM} == {594 - slack}")
    assert (space.size, space.is_exact) == (math.comb(slack + 5, 5), True)
    found = np.array(rows(space))
    assert (found.sum(axis=1) == 594 - slack).all()
    assert len(np.unique(found, axis=0)) == len(found)
    assert space.feasible(found).all()


TEN = [[500.0, 500.0, 500.0, float(d)] for d in range(10)]


@pytest.mark.usefixtures("at_once")
def test_ten_of_a_million_million_are_all_found_by_grid():
    space = ten()
    assert (space.size, space.is_exact, space.product) == (10, True, 10**12)
    found = search.grid(lambda batch: batch[:, 3], space, keep=20)
    assert found.nfev == 10
    assert found.batch.tolist() == TEN
    assert found.numbers.tolist() == [500_500_500_000 + d for d in range(10)]
    assert found.fun == 0


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_ten_of_a_million_million_are_all_found_by_a_study(sampler):
    study = bt.Study(ten(), lambda params, trial: params["d"], sampler=sampler)
    begun = time.process_time()
    assert study.run(progress=False).ended == "done"
    assert time.process_time() - begun < 3.0  # Optuna is imported on the way
    assert sorted(tuple(trial.params.values()) for trial in study.trials) == [(500, 500, 500, d) for d in range(10)]


def test_ten_of_a_million_million_are_all_found_by_optuna_in_batches():
    from backtest.search.optuna_search import optuna_search

    found = optuna_search(lambda batch: batch[:, 3], ten(), keep=20)
    assert (found.nfev, found.batch.tolist()) == (10, TEN)


@pytest.mark.parametrize("method", ["auto", "grid"])
def test_ten_of_a_million_million_are_all_found_by_optimize(method):
    goog = bt.Bars.sample("GOOG")
    bars = bt.Bars(**{name: getattr(goog, name)[:120] for name in ("open", "high", "low", "close", "index")})
    strategy = bt.strategies.sma_cross
    space = Space(
        {
            "fast": range(2, 40),
            "slow": range(3, 60),
            "stop_loss": {"low": 0.0001, "high": 0.5, "step": 0.0001},
            "take_profit": {"low": 0.0001, "high": 0.5, "step": 0.0001},
        },
        where="fast == 5 and slow == 20 and stop_loss == 0.05 and take_profit < 0.00105",
    )
    assert space.product > 10**9
    found = bt.optimize(bars, strategy, space, costs=bt.Costs.zero(), method=method, progress=False, min_trades=0)
    assert sorted(found.table.index.get_level_values("take_profit")) == [round(0.0001 * step, 4) for step in range(1, 11)]
    assert found.provenance["n_evaluated"] == 10


@pytest.mark.usefixtures("at_once")
def test_equalities_are_solved_for_their_last_parameter():
    space = six(f"{SUM} == 500")  # too many to be counted: about one position in a hundred is a candidate
    assert not space.is_exact
    assert space.size == 95**5  # none below 5; the last is what the others leave
    numbers, batch = space.candidates(VisitOrder(int(space.size), 3)(0, 20_000))
    assert len(batch) > 100
    assert (batch.sum(axis=1) == 500).all()
    assert (numbers == (batch @ 100 ** np.arange(5, -1, -1)).astype(np.int64)).all()
    assert len(np.unique(numbers)) == len(numbers)


@pytest.mark.parametrize(
    ("where", "size"),
    [
        ("a + b == 1_000_000 and c == 5", 999_999),
        ("a - b == 5 and c + d == 7 and a + c < 40", None),
        ("2 * a + 1 == b / 2 and c == d", None),
        ("-a + 10 == -b and c in (1, 2, 3) and d in (4, 5)", None),
    ],
)
def test_equalities_over_millions(where, size):
    space = Space({name: range(1, 10**6) for name in "abcd"}, where=where)
    assert space.product > 10**23
    if size is not None:
        assert space.size == size * 999_999
    numbers, batch = space.candidates(VisitOrder(int(space.size), 0)(0, 1000))
    assert len(np.unique(numbers)) == len(numbers)
    assert len(batch)
    assert (numbers >= 0).all()
    names = dict(zip("abcd", batch.T, strict=True))
    assert space.feasible(batch).all()
    if where.startswith("2 *"):
        assert (2 * names["a"] + 1 == names["b"] / 2).all()


def test_what_is_beyond_64_bits_can_be_enumerated_if_little_is_left():
    names = [f"p{place}" for place in range(12)]
    where = " and ".join(f"{name} >= 998" for name in names[:-1])
    space = Space({name: range(1000) for name in names}, where=f"{where} and p11 == 7")
    assert (space.size, space.is_exact) == (2**11, True)
    numbers, batch = space.candidates(np.arange(2**11))
    assert len(np.unique(batch, axis=0)) == 2**11
    assert (np.lexsort(batch.T[::-1]) == np.argsort(numbers)).all()  # numbers stay in lexicographic order


def test_a_narrowed_space_survives_a_pickle():
    for space in (ten(), six(f"{SUM} == 500")):
        again = pickle.loads(pickle.dumps(space))
        positions = np.arange(min(10, len(space)))
        assert again.candidates(positions)[1].tolist() == space.candidates(positions)[1].tolist()
        assert again.size == space.size


def test_a_space_of_which_hardly_anything_falls_away_is_visited_as_ever():
    space = Space({"a": range(5000), "b": range(5000)}, where="a < b")
    assert not space.is_exact
    assert space.size == space.product == 25_000_000
    assert space.candidates(np.array([1, 4999, 5000, 5002]))[0].tolist() == [1, 4999, 5002]


# -- nothing is left out -----------------------------------------------------------------------------------------------

PARAMETERS = {
    "i": range(-2, 3),
    "x": {"low": -0.1, "high": 0.3, "step": 0.1},
    "c": [None, 0.1, 3, True],
    "kind": ["ema", None, 1],
    "maybe": {"low": 0, "high": 2, "step": 2, "when": "kind == 'ema' or i > 1"},
    "deep": {"choices": [None, "on", 2], "when": "maybe is not None and x < 0.2"},
}
NUMBERS = ("i", "x", "c", "maybe")
LITERALS = ("0", "1", "-1", "0.1", "0.3", "2", "3.0", "None", "True", "1e300", "0.30000000000000004")


def numbers():
    leaf = st.sampled_from([*NUMBERS, *LITERALS])
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["+", "-", "*", "/", "//", "%"]), inner).map(lambda each: f"({' '.join(each)})"),
            st.tuples(inner, st.sampled_from(["2", "3", "0", "-1", "0.5", "i"])).map(lambda each: f"({each[0]}) ** {each[1]}"),
            inner.map(lambda each: f"(-{each})"),
        ),
        max_leaves=4,
    )


def conditions():
    order = st.tuples(numbers(), st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers()).map(" ".join)
    chain = st.tuples(numbers(), numbers(), numbers()).map(lambda each: f"{each[0]} <= {each[1]} < {each[2]}")
    texts = st.sampled_from(
        [
            "kind == 'ema'",
            "kind != 'ema'",
            "kind in ('ema', i)",
            "kind not in (1, None)",
            "deep == 'on'",
            "deep is None",
            "deep in (2, 'on')",
            "deep == kind",
            "kind",
            "not deep",
            "kind == c",
            "deep != n",
        ]
    )
    among = st.tuples(st.sampled_from(NUMBERS), st.lists(numbers(), max_size=3)).map(
        lambda each: f"{each[0]} in ({''.join(one + ', ' for one in each[1])})"
    )
    leaf = st.one_of(order, chain, among, texts, numbers())
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda each: f"({' '.join(each)})"),
            inner.map(lambda each: f"(not {each})"),
            st.tuples(inner, inner).map(lambda each: f"(({each[0]}) == ({each[1]}))"),
        ),
        max_leaves=4,
    )


def found(space):
    """Rows by number, each once."""
    if not space.size:
        return {}
    numbers, batch = space.candidates(np.arange(space.size))
    assert len(set(numbers.tolist())) == len(numbers)
    return dict(zip(numbers.tolist(), batch.tolist(), strict=True))


def found_in(parameters, where):
    """The same; nothing if the space says that there is nothing."""
    try:
        return found(Space(parameters, where))
    except bt.SpaceError as error:
        if "at least one candidate" not in str(error):
            raise
        return {}


def narrowly(parameters, where, counted):
    """The same, of a space that is taken to be too large to be counted if it has more than so many combinations."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(enumeration, "MAX_COUNTED", counted)
        patch.setattr(enumeration, "MIN_REDUCTION", 0)
        return found_in(parameters, where)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(conditions(), st.sampled_from([0, 300]), st.permutations(list(PARAMETERS)[:3]))
def test_narrowing_leaves_every_candidate(where, counted, order):
    parameters = {name: PARAMETERS[name] for name in [*order, "kind", "maybe", "deep"]}
    try:
        expected = found_in(parameters, where)
    except bt.SpaceError:  # kinds that do not compare, or no parameter in it
        return
    assert narrowly(parameters, where, counted) == expected


@settings(derandomize=True, max_examples=80, deadline=None)
@given(st.data())
def test_equalities_on_stepped_grids_lose_nothing_to_rounding(data):
    places = data.draw(st.integers(0, 3))
    step = 10.0**-places
    parameters = {
        name: {
            "low": low * step if places else low,
            "high": round((low + 12) * step, places) if places else low + 12,
            "step": step if places else 1,
        }
        for name in "abc"
        for low in [data.draw(st.integers(-20, 20))]
    }
    for each in parameters.values():
        each["low"] = round(each["low"], places) if places else each["low"]
    factors, divisors = st.sampled_from(["", "-", "3 * ", "0.1 * ", "-0.7 * "]), st.sampled_from(["", " / 3"])
    terms = [f"{data.draw(factors)}{name}{data.draw(divisors)}" for name in "abc"]
    total = round(
        sum(
            eval(term, {}, dict(zip("abc", (each["low"] + 6 * step for each in parameters.values()), strict=True)))
            for term in terms
        ),
        6,
    )
    where = data.draw(
        st.sampled_from(
            [
                f"{terms[0]} + {terms[1]} == {total} - ({terms[2]})",
                f"{' + '.join(terms)} == {total}",
                f"{terms[0]} + {terms[1]} == {terms[2]}",
                f"{terms[0]} == {terms[1]} and b == c",
                f"{terms[0]} == {terms[1]} * {terms[2]}",
            ]
        )
    )
    assert narrowly(parameters, where, data.draw(st.sampled_from([0, 100]))) == found_in(parameters, where)


def test_a_long_grid_is_narrowed_without_being_listed():
    fine = {"low": 0, "high": 1, "step": 1e-9}
    space = Space({"x": fine, "y": fine}, where="0.25 <= x < 0.250000003 and y + x == 0.5")
    assert (space.size, space.is_exact) == (3, True)
    assert [(row[0], row[1]) for row in rows(space)] == [(0.25, 0.25), (0.250000001, 0.249999999), (0.250000002, 0.249999998)]

"""Spaces: exact sizes, where, enumeration, seeded order, keys and the codec."""

import itertools
import math
import pickle
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import backtest as bt
from backtest.enumeration import VisitOrder
from backtest.space import MAX_COUNTED, Space
from backtest.where import Where

nan, inf = math.nan, math.inf


def everything(space):
    """All candidates as tuples of values, in the order they are enumerated in."""
    numbers, batch = space.candidates(np.arange(len(space)))
    return numbers.tolist(), [tuple(space.decode(row).values()) for row in batch]


def products(space):
    return list(itertools.product(*space.values().values()))


# -- stepped ranges ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "values"),
    [
        ({"low": 0.1, "high": 0.7, "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ({"low": 0, "high": 1, "step": 0.3}, [0.0, 0.3, 0.6, 0.9]),
        ({"low": 0.05, "high": 0.05, "step": 0.1}, [0.05]),
        ({"low": 1e-5, "high": 5e-5, "step": 1e-5}, [1e-5, 2e-5, 3e-5, 4e-5, 5e-5]),
        ({"low": -0.3, "high": 0.3, "step": 0.1}, [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]),
        ({"low": 5, "high": 11, "step": 3}, [5, 8, 11]),
        ({"low": 5, "high": 12, "step": 3}, [5, 8, 11]),
        ({"low": 1.0, "high": 2, "step": 1}, [1.0, 2.0]),
        (range(5, 12, 3), [5, 8, 11]),
        (range(-2, 1), [-2, -1, 0]),
        (range(7, 8), [7]),
        ({"low": np.int64(1), "high": np.int64(3), "step": np.int64(2)}, [1, 3]),
        ({"low": np.float64(0.1), "high": np.float64(0.3), "step": np.float64(0.1)}, [0.1, 0.2, 0.3]),
    ],
)
def test_values_of_a_stepped_range(given, values):
    space = Space({"x": given})
    found = space.values()["x"]
    assert found == values
    assert [type(each) for each in found] == [type(each) for each in values]
    assert len(space) == len(values)


def decimals(low, high, places):
    return st.integers(low, high).map(lambda number: Decimal(number).scaleb(-places))


@given(st.data(), st.integers(0, 8))
def test_size_and_values_are_exact(data, places):
    low = data.draw(decimals(-(10**6), 10**6, places))
    step = data.draw(decimals(1, 10**4, places))
    high = low + step * data.draw(st.integers(0, 10**9)) + data.draw(decimals(0, 10**4, places)) % step
    space = Space({"x": {"low": float(low), "high": float(high), "step": float(step)}})
    n = (Fraction(high) - Fraction(low)) // Fraction(step) + 1
    assert space.size == len(space) == n
    positions = np.unique([0, n - 1, *(data.draw(st.integers(0, n - 1)) for _ in range(5))])
    _, batch = space.candidates(positions)
    assert batch[:, 0].tolist() == [float(low + step * int(position)) for position in positions]
    assert space.grid_index(batch)[:, 0].tolist() == positions.tolist()


@pytest.mark.parametrize(
    "given",
    [
        {"low": 0, "high": 1e6, "step": 1e-6},
        {"low": 0.354655, "high": 32127179.110875, "step": 0.000755},
        {"low": -1e6, "high": 1e6, "step": 1e-6},
        range(10**12),
    ],
)
def test_long_grids_know_their_own_values(given):
    space = Space({"x": given})
    positions = VisitOrder(len(space), 1)(0, 1000)
    assert space.grid_index(space.candidates(positions)[1])[:, 0].tolist() == positions.tolist()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "x must have at least one value, got none"),
        ((), "x must have at least one value, got none"),
        (range(5, 5), r"x must have at least one value, got range\(5, 5\)"),
        (range(5, 0, -1), r"x\.step must be > 0, got -1"),
        ({"low": 1, "high": 2, "step": 0}, r"x\.step must be > 0, got 0"),
        ({"low": 1, "high": 2, "step": -0.5}, r"x\.step must be > 0, got -0\.5"),
        ({"low": 3, "high": 2, "step": 1}, r"x\.low must be <= high \(2\), got 3"),
        ({"low": 2.0, "high": 2.0}, r"x\.low must be < high \(2\.0\), got 2\.0"),
        ({"low": 3, "high": 2}, r"x\.low must be < high \(2\), got 3"),
        ({"low": 1, "high": 2, "step": 0.5, "log": True}, "x must have a step or a log scale, got both"),
        ({"low": 0, "high": 2, "log": True}, r"x\.low must be > 0 on a log scale, got 0"),
        ({"low": 1, "high": 2, "log": "yes"}, r"x\.log must be True or False, got 'yes'"),
        ({"high": 2}, "x must have a 'low', got"),
        ({"low": 2, "step": 1}, "x must have a 'high', got"),
        ({"low": 1, "hihg": 2}, r"key of x 'hihg' is not known .*; did you mean 'high'\?"),
        ({"low": nan, "high": 2}, r"x\.low must be a finite number, got nan"),
        ({"low": 1, "high": inf, "step": 1}, r"x\.high must be a finite number, got inf"),
        ({"low": "1", "high": 2, "step": 1}, r"x\.low must be a number, got '1'"),
        ({"low": True, "high": 2, "step": 1}, r"x\.low must be a number, got True"),
        ({"low": 0.1 + 0.2, "high": 2, "step": 0.1}, "x must have at most 15 significant digits"),
        ([1, 2, 1], "x must hold each value once, got 1 twice"),
        ([0.0, -0.0], r"x must hold each value once, got 0\.0 twice"),
        ([None, None], "x must hold each value once, got None twice"),
        (["a", "a"], "x must hold each value once, got 'a' twice"),
        ([1.0, nan], "x must hold finite numbers, got nan"),
        ([inf], "x must hold finite numbers, got inf"),
        ([[1], [2]], r"x must hold numbers, strings, booleans or None, got \[1\]"),
        (nan, "x must hold finite numbers, got nan"),
        (object, "x must be a range, a list of values"),
    ],
)
def test_bad_parameters_are_refused(given, message):
    with pytest.raises(bt.SpaceError, match=message):
        Space({"x": given})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "parameters must name at least one parameter that varies, got none; bt.run runs one candidate"),
        ([1], "parameters must be a mapping"),
        (None, "parameters must be a mapping"),
        ({"a b": [1]}, "parameter name must be an identifier"),
        ({5: [1]}, "parameter name must be"),
        ({"": [1]}, "parameter name must be"),
    ],
)
def test_bad_spaces_are_refused(given, message):
    with pytest.raises(bt.SpaceError, match=message):
        Space(given)


@pytest.mark.parametrize(
    ("given", "values"),
    [
        (5, [5]),
        (0.5, [0.5]),
        ("a", ["a"]),
        (None, [None]),
        (True, [True]),
        (np.float64(0.5), [0.5]),
        (np.array([1, 2]), [1, 2]),
        ((1, 2), [1, 2]),
        ({1: "a"}.keys(), [1]),
        ([True, 1, 1.0, "1", None], [True, 1, 1.0, "1", None]),
    ],
)
def test_values_and_choices(given, values):
    found = Space({"x": given}).values()["x"]
    assert found == values
    assert [type(each) for each in found] == [type(each) for each in values]


# -- enumeration -------------------------------------------------------------------------------------------------------

SPACES = [
    Space({"a": range(3)}),
    Space({"a": range(3), "b": [None, 0.5], "c": {"low": 0.1, "high": 0.3, "step": 0.1}}),
    Space({"a": [3, 1, 2], "b": ["x", "y"]}),
    Space({"a": range(1), "b": 7}),
    Space({"a": range(4), "b": range(5), "c": range(2)}, where="a < b"),
    Space({"a": range(4), "b": range(5), "c": range(2)}, where="c < b"),
    Space({"a": range(4), "b": range(5), "c": range(2), "d": [1, 2]}, where="d == 1 or c > 0 and b in (1, 3)"),
    Space({"a": range(4), "b": range(5), "c": range(3)}, where="c < a"),
]


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_enumeration_is_complete_and_unique(space):
    numbers, found = everything(space)
    names = space.names
    allowed = [
        each for each in products(space) if space.where is None or eval(space.where.text, {}, dict(zip(names, each, strict=True)))
    ]
    assert sorted(numbers) == [products(space).index(each) for each in allowed]
    assert sorted(found, key=products(space).index) == allowed
    assert len(space) == len(allowed)
    assert [products(space).index(each) for each in found] == numbers  # each knows its own number


@pytest.mark.parametrize("space", [space for space in SPACES if space.where is None], ids=repr)
def test_enumeration_is_lexicographic(space):
    numbers, found = everything(space)
    assert numbers == list(range(len(space)))
    assert found == products(space)


def test_positions_may_be_asked_for_in_any_order():
    space = SPACES[1]
    numbers, batch = space.candidates(np.array([7, 0, 7, 3]))
    assert numbers.tolist() == [7, 0, 7, 3]
    assert [tuple(space.decode(row).values()) for row in batch] == [products(space)[number] for number in (7, 0, 7, 3)]


def test_no_positions_no_candidates():
    numbers, batch = SPACES[1].candidates(np.arange(0))
    assert numbers.shape == (0,)
    assert batch.shape == (0, 3)


# -- where -------------------------------------------------------------------------------------------------------------

PARAMETERS = {
    "a": range(1, 6),
    "b": {"low": 0.5, "high": 3, "step": 0.5},
    "c": [None, 0.1, 2.0],
    "kind": ["ema", "sma", None],
    "on": [True, False],
}


def python_says(text):
    """Sizes by Python itself; what it raises for None is false, as an order comparison with None is."""

    def holds(values):
        try:
            return bool(eval(text, {}, values))
        except TypeError:
            return False

    space = Space(PARAMETERS)
    return sum(holds(dict(zip(space.names, each, strict=True))) for each in products(space))


@pytest.mark.parametrize(
    "text",
    [
        "a < b",
        "a <= b",
        "a > 2 * b",
        "a >= b",
        "a == b",
        "a != b",
        "not a < b",
        "a + b > 4",
        "a - b < 1",
        "a * b == 4",
        "a / b >= 2",
        "a // b == 2",
        "a % 2 == 0",
        "a ** 2 > b ** 3",
        "-a < -3",
        "+a > 3",
        "-a + b > 0",
        "1 < a < 4",
        "1 < a <= b < 3",
        "a < 3 < b",
        "a in (1, 3)",
        "a not in (1, 3)",
        "a in [b, 2]",
        "a in ()",
        "c is None",
        "c is not None",
        "c == None",
        "c != None",
        "None == c",
        "c in (None, 0.1)",
        "c not in (None, 0.1)",
        "c is None or c < 1",
        "c is not None and c > 1",
        "c == 0.1",
        "c != 0.1",
        "c == c",
        "kind == 'ema'",
        "kind != 'ema'",
        "kind in ('ema', None)",
        "kind not in ('ema', 'sma')",
        "kind is None",
        "kind == a",
        "kind == kind",
        "on",
        "not on",
        "on == True",
        "on and a > 3",
        "on or a > 3",
        "(a < 3) + (b < 2) == 2",
        "(a < 3) + on + (b < 2) >= 2",
        "-(a < 3) < 0",
        "a",
        "a and b",
        "not (a < 3 or b > 2)",
        "a < 10 ** 20",
        "a * 2 ** -1 > 1",
        "a < 2 and b < 2 or c is None and a > 4",
        "(a > 2) == on",
        "a > b and on",
    ],
)
def test_where_counts_as_python_does(text):
    expected = python_says(text)
    if expected == 0:
        with pytest.raises(bt.SpaceError, match="where must leave at least one candidate, got"):
            Space(PARAMETERS, where=text)
    else:
        space = Space(PARAMETERS, where=text)
        assert space.is_exact
        assert len(space) == expected
        numbers, batch = space.candidates(np.arange(len(space)))
        assert len(set(numbers.tolist())) == expected
        assert space.feasible(batch).all()


def holds(text, **columns):
    return Where(text, list(columns))({name: np.array(values, dtype=np.float64) for name, values in columns.items()}).tolist()


@pytest.mark.parametrize("text", ["c < 1", "c <= 1", "c > 1", "c >= 1", "1 < c", "c < c", "c + 1 > 0", "-c < 5", "0 < c < 5"])
def test_order_comparison_with_none_is_false(text):
    assert holds(text, c=[nan])[0] is False


def test_none_equals_none_only():
    assert holds("a == b", a=[nan, nan, 1, 1], b=[nan, 1, nan, 1]) == [True, False, False, True]
    assert holds("a != b", a=[nan, nan, 1, 1], b=[nan, 1, nan, 1]) == [False, True, True, False]
    assert holds("a in (b, 5)", a=[nan, 5, 1], b=[nan, 1, 2]) == [True, True, False]
    assert holds("None == a", a=[nan, 1]) == [True, False]
    assert len(Space({"a": [None, "x", 1], "b": [None, 1, "y"]}, where="a == b")) == 2


def test_numbers_are_floats_and_never_wrap_around():
    assert holds("a < 10 ** 20", a=[1, 1e21]) == [True, False]
    assert holds("a < 2 ** -1", a=[0.4, 0.6]) == [True, False]
    assert holds("a < 100000000000000000000", a=[1, 1e30]) == [True, False]


@pytest.mark.parametrize(
    "text",
    [
        "f(a)",
        "a.real()",
        "__import__('os')",
        "(lambda: a)()",
        "lambda: a",
        "[a for a in (1,)]",
        "{a: 1}",
        "{a}",
        "(a for a in (1,))",
        "a[0]",
        "a if a else b",
        "(a := 5)",
        "a < 5; b",
        "a = 5",
        "f'{a}'",
        "a @ b",
        "a << 1",
        "a & b",
        "a | b",
        "~a",
        "a is b",
        "a is 5",
        "a in b",
        "a in 'abc'",
        "a < b'x'",
        "a < 1j",
        "a < ...",
        "(a, b)",
        "[a]",
        "a < (1, 2)",
        "(a, b) in ((1, 2),)",
        "*a",
        "await a",
        "yield a",
        "a and",
        "",
        "  ",
        "a <",
        "a b",
        "5 < 6",
        "None",
        "True",
        "a < 1" + "0" * 400,
        "a\0",
        "a in ((1, 2), 3)",
    ],
)
def test_where_is_never_code(text):
    with pytest.raises(bt.SpaceError, match=r"where (must|may)"):
        Space({"a": range(3), "b": range(3)}, where=text)


@pytest.mark.parametrize("text", ["+".join(["a"] * 20_000) + " > 0", "not " * 20_000 + "a", "(" * 5000 + "a" + ")" * 5000])
def test_too_deep_where_is_refused(text):
    with pytest.raises(bt.SpaceError, match="where must be"):
        Space({"a": [1, 2]}, where=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fats < slow", r"where must name parameters \(fast, slow\), got 'fats' in 'fats < slow'; did you mean 'fast'\?"),
        ("fast.x < slow", r"got 'fast\.x' in"),
        ("__builtins__ < fast", "got '__builtins__' in"),
        (5, "where must be a string such as"),
    ],
)
def test_unknown_names_are_refused(text, message):
    with pytest.raises(bt.SpaceError, match=message):
        Space({"fast": range(5), "slow": range(5)}, where=text)


@pytest.mark.parametrize("text", ["kind < 'f'", "kind + 1 > 2", "a < 'x'", "'x' * 3 == kind", "-kind < 1"])
def test_kinds_that_do_not_compare_are_refused(text):
    with pytest.raises(bt.SpaceError, match="where must compare values of one kind, got"):
        Space({"a": range(3), "kind": [None, "ema", "sma"]}, where=text)


def test_dotted_names():
    space = Space({"trend.fast": range(5), "trend.slow": range(5)}, where="trend.fast < trend.slow")
    assert len(space) == 10
    assert space.where.names == ("trend.fast", "trend.slow")


# -- large spaces ------------------------------------------------------------------------------------------------------


def test_a_million_million_combinations_cost_nothing():
    begun = time.perf_counter()
    space = Space({name: range(1000) for name in "abcd"})
    assert len(space) == space.product == 10**12
    numbers, batch = space.candidates(np.array([0, 10**12 - 1, 123_456_789_012]))
    assert batch.tolist() == [[0, 0, 0, 0], [999, 999, 999, 999], [123, 456, 789, 12]]
    assert numbers.tolist() == [0, 10**12 - 1, 123_456_789_012]
    assert time.perf_counter() - begun < 0.5


def test_where_counts_only_over_the_parameters_it_names():
    space = Space({"a": range(1000), "b": range(1000), "c": range(1000), "d": range(1000)}, where="b < d")
    assert space.is_exact
    assert len(space) == 10**6 * (1000 * 999 // 2)
    _, batch = space.candidates(VisitOrder(len(space), 0)(0, 5000))
    assert (batch[:, 1] < batch[:, 3]).all()
    assert len(np.unique(batch, axis=0)) == 5000


@pytest.mark.slow
def test_beyond_the_limit_the_size_is_an_upper_bound_and_batches_are_filtered():
    space = Space({"a": range(300), "b": range(300), "c": range(200)}, where="a < b and (a + b + c) % 66 == 0")
    assert space.product > MAX_COUNTED
    assert not space.is_exact
    assert len(space) == space.product == 300 * 300 * 200
    found = [space.candidates(np.arange(start, min(start + 2_000_000, len(space)))) for start in range(0, len(space), 2_000_000)]
    batch, numbers = np.concatenate([batch for _, batch in found]), np.concatenate([numbers for numbers, _ in found])
    a, b, c = np.ogrid[:300, :300, :200]
    assert len(batch) == np.count_nonzero((a < b) & ((a + b + c) % 66 == 0))
    assert ((batch[:, 0] < batch[:, 1]) & (batch.sum(axis=1) % 66 == 0)).all()
    assert (np.diff(numbers) > 0).all()
    np.testing.assert_array_equal(space.candidates(numbers[:100])[1], batch[:100])


def test_what_conditions_leave_of_a_large_space_is_counted():
    space = Space({"a": range(300), "b": range(300), "c": range(200)}, where="a < b and c < 3")
    assert (len(space), space.is_exact, space.product) == (300 * 299 // 2 * 3, True, 300 * 300 * 200)


@pytest.mark.parametrize("n", [10, 21])
def test_spaces_beyond_64_bits_are_refused_when_asked_for_a_length_or_candidates(n):
    space = Space({f"p{number}": range(100) for number in range(n)})
    assert space.size == 100**n
    with pytest.raises(bt.SpaceError, match="longer than len"):
        len(space)
    with pytest.raises(bt.SpaceError, match="cannot be enumerated"):
        space.candidates(np.arange(1))


def test_continuous_spaces_have_no_length():
    space = Space({"a": range(3), "x": {"low": 0.1, "high": 1}, "y": {"low": 1e-4, "high": 1, "log": True}}, where="x < a")
    assert space.size == inf
    assert space.continuous == ("x", "y")
    for ask in (lambda: len(space), space.values):
        with pytest.raises(bt.SpaceError, match=r"a space with a continuous parameter \(x, y\) has no length"):
            ask()
    assert space.feasible(np.array([[1, 0.5, 0.1], [0, 0.5, 0.1]])).tolist() == [True, False]


# -- seeded order ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 4095, 4096, 4097, 65537])
@pytest.mark.parametrize("seed", [0, 1, 2**40])
def test_order_is_a_permutation(size, seed):
    whole = VisitOrder(size, seed)(0, size)
    assert whole.dtype == np.int64
    np.testing.assert_array_equal(np.sort(whole), np.arange(size))
    cuts = [0, size // 3, size // 3, size // 2, size]
    order = VisitOrder(size, seed)
    np.testing.assert_array_equal(np.concatenate([order(*cut) for cut in itertools.pairwise(cuts)]), whole)


@given(st.integers(1, 3000), st.integers(0, 2**63))
def test_order_is_a_permutation_for_any_size_and_seed(size, seed):
    assert len(set(VisitOrder(size, seed)(0, size).tolist())) == size


def test_order_differs_by_seed_and_mixes():
    orders = {tuple(VisitOrder(100, seed)(0, 100).tolist()) for seed in range(50)}
    assert len(orders) == 50
    first = [VisitOrder(1000, seed)(0, 1)[0] for seed in range(400)]
    assert len(set(first)) > 250
    half = VisitOrder(10_000, 3)(0, 5000)  # the first half has seen the whole space
    assert np.histogram(half, bins=10, range=(0, 10_000))[0].min() > 350


@pytest.mark.parametrize("size", [10**12, 2**62 - 1])
def test_order_of_a_huge_range_stays_inside(size):
    found = VisitOrder(size, 5)(0, 10_000)
    assert ((found >= 0) & (found < size)).all()
    assert len(np.unique(found)) == 10_000


# -- codec -------------------------------------------------------------------------------------------------------------

CODEC = Space(
    {
        "n": range(5, 50, 5),
        "x": {"low": 0.1, "high": 0.7, "step": 0.1},
        "free": {"low": -1.0, "high": 1.0},
        "kind": [True, 1, 1.0, "1", None],
    }
)
BASE = {"n": 10, "x": 0.3, "free": 0.25, "kind": None}


def key(**changes):
    return tuple(CODEC.grid_index(CODEC.encode(BASE | changes)[None])[0].tolist())


def test_keys_are_grid_indices_bits_and_choices():
    assert key() == (1, 2, int(np.float64(0.25).view(np.int64)), 4)


@pytest.mark.parametrize("x", [0.3, 0.1 + 0.2, 0.3 + 9e-8, 0.3 - 9e-8, np.float64(0.3)])
def test_values_are_snapped_to_their_grid(x):
    assert key(x=x) == key()
    assert CODEC.decode(CODEC.encode(BASE | {"x": x}))["x"] == 0.3


@pytest.mark.parametrize("x", [0.3 + 2e-7, 0.3 - 2e-7, 0.35, 0.0, 0.8, 0.1 - 1e-6])
def test_values_off_their_grid_are_refused(x):
    with pytest.raises(bt.SpaceError, match=r"x must be one of 0\.1\.\.0\.7 step 0\.1, got"):
        CODEC.encode(BASE | {"x": x})


def test_a_step_of_1e_minus_5_keeps_its_values_apart():
    space = Space({"x": {"low": 0.0, "high": 0.001, "step": 1e-5}})
    assert len(space) == 101
    _, batch = space.candidates(np.arange(101))
    assert len(np.unique(space.grid_index(batch))) == 101


def test_choices_are_told_apart_by_type():
    kinds = [key(kind=kind) for kind in (True, 1, 1.0, "1", None)]
    assert len(set(kinds)) == 5
    assert key(kind=np.int64(1)) == key(kind=1)
    assert key(kind=np.bool_(True)) == key(kind=True)


def test_continuous_values_keep_every_bit_and_one_zero():
    assert key(free=0.0) == key(free=-0.0)
    assert key(free=5e-324) != key(free=0.0)
    assert key(free=0.25) != key(free=np.nextafter(0.25, 1))
    tiny = Space({"rate": {"low": 1e-12, "high": 1.0, "log": True}})
    assert CODEC.decode(CODEC.encode(BASE | {"free": 1 / 3}))["free"] == 1 / 3
    assert len(np.unique(tiny.grid_index(np.array([[1e-12], [2e-12], [3e-12]])))) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n": 11}, r"n must be one of 5\.\.45 step 5, got 11"),
        ({"n": 50}, r"n must be one of 5\.\.45 step 5, got 50"),
        ({"n": None}, "n must be a number, got None"),
        ({"n": True}, "n must be a number, got True"),
        ({"n": "10"}, "n must be a number, got '10'"),
        ({"n": nan}, "n must be a finite number, got nan"),
        ({"x": inf}, "x must be a finite number, got inf"),
        ({"free": 1.5}, r"free must be in -1\.\.1, got 1\.5"),
        ({"free": nan}, "free must be a finite number, got nan"),
        ({"kind": False}, r"kind must be one of \[True, 1, 1\.0, '1', None\], got False"),
        ({"kind": [1]}, r"kind must be one of .*, got \[1\]"),
        ({"extra": 1}, "parameter 'extra' is not known"),
        ({"frei": 1}, r"did you mean 'free'\?"),
    ],
)
def test_bad_candidates_are_refused(changes, message):
    with pytest.raises(bt.SpaceError, match=message):
        CODEC.encode(BASE | changes)


def test_incomplete_candidates_are_refused():
    with pytest.raises(bt.SpaceError, match="parameter 'kind' must have a value, got none"):
        CODEC.encode({name: value for name, value in BASE.items() if name != "kind"})


@pytest.mark.parametrize("column", range(4))
@pytest.mark.parametrize("value", [nan, inf, -inf, 1e300])
def test_keys_of_impossible_numbers_are_refused(column, value):
    batch = CODEC.encode(BASE)[None].copy()
    batch[0, column] = value
    with pytest.raises(bt.SpaceError, match=f"{CODEC.names[column]} must be"):
        CODEC.grid_index(batch)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_every_candidate_survives_the_codec(space):
    _, batch = space.candidates(np.arange(len(space)))
    again = np.array([space.encode(space.decode(row)) for row in batch])
    np.testing.assert_array_equal(again, batch)
    assert len(np.unique(space.grid_index(batch), axis=0)) == len(space)


def test_keys_do_not_change_the_batch():
    batch = np.array([[10.0, 0.1 + 0.2, -0.0, 4.0]])
    before = batch.tobytes()
    CODEC.grid_index(batch)
    assert batch.tobytes() == before


@pytest.mark.parametrize("space", [*SPACES, CODEC], ids=repr)
def test_spaces_survive_a_pickle(space):
    again = pickle.loads(pickle.dumps(space))
    assert repr(again) == repr(space)
    assert (again.size, again.is_exact, again.product) == (space.size, space.is_exact, space.product)
    if space.size != inf:
        assert everything(again) == everything(space)


def test_repr():
    assert repr(Space({"fast": range(5, 10), "k": [None, 0.1], "x": {"low": 0.1, "high": 1, "log": True}}, where="fast > 6")) == (
        "Space(fast: 5..9 step 1, k: [None, 0.1], x: 0.1..1 log, where='fast > 6')"
    )


# -- the unit cube -----------------------------------------------------------------------------------------------------

CUBE = Space(
    {
        "k": range(3, 8),
        "fixed": 9,
        "kind": ["a", None, 2.5],
        "x": {"low": -1, "high": 3},
        "y": {"low": 1e-4, "high": 100, "log": True},
        "s": {"low": 0.1, "high": 0.7, "step": 0.1},
    }
)


def test_corners_and_centre_of_the_cube():
    assert CUBE.varied == ("k", "kind", "x", "y", "s")
    corners = [CUBE.decode(row) for row in CUBE.from_unit(np.repeat([[0.0], [0.5], [1.0]], 5, axis=1))]
    assert corners[0] == {"k": 3, "fixed": 9, "kind": "a", "x": -1.0, "y": 1e-4, "s": 0.1}
    assert corners[2] == {"k": 7, "fixed": 9, "kind": 2.5, "x": 3.0, "y": 100.0, "s": 0.7}
    middle = corners[1]
    assert (middle["k"], middle["kind"], middle["x"], middle["s"]) == (5, None, 1.0, 0.4)
    assert middle["y"] == pytest.approx(0.1, rel=1e-14)


@given(st.lists(st.lists(st.floats(0, 1), min_size=5, max_size=5), min_size=1, max_size=20))
def test_points_of_the_cube_are_candidates_wherever_they_stand(points):
    batch = CUBE.from_unit(points)
    keys = CUBE.grid_index(batch)  # refuses what is no candidate
    for row, point in enumerate(points):
        single = CUBE.from_unit([point])
        assert single.tobytes() == batch[row].tobytes()
        assert CUBE.grid_index(single).tolist() == [keys[row].tolist()]
        assert CUBE.encode(CUBE.decode(batch[row])).tolist() == batch[row].tolist()


def test_steps_and_choices_have_equal_widths():
    share = (np.arange(1050) + 0.5) / 1050
    batch = CUBE.from_unit(np.repeat(share[:, None], 5, axis=1))
    for name, size in (("k", 5), ("kind", 3), ("s", 7)):
        counts = np.unique(batch[:, CUBE.names.index(name)], return_counts=True)[1]
        assert counts.tolist() == [1050 // size] * size
    assert (np.diff(batch[:, CUBE.names.index("y")]) > 0).all()


def test_the_longest_grid_ends_inside():
    space = Space({"x": range(10**15)})
    last = space.from_unit([[1.0], [np.nextafter(1.0, 0.0)]])
    assert space.decode(last[0]) == {"x": 10**15 - 1}
    assert space.grid_index(last)[1, 0] < 10**15


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([[0.5]], r"points must have shape \('any', 5\), got \(1, 1\)"),
        ([[0.5, 0.5, 0.5, 0.5, 1.5]], r"points must be >= 0 and <= 1, got 1\.5"),
        ([[nan] * 5], r"points must be finite, got nan \(row 0, column 0\)"),
        ([0.5] * 5, "points must have 2 dimensions"),
    ],
)
def test_points_outside_the_cube_are_refused(points, message):
    with pytest.raises(bt.SpaceError, match=message):
        CUBE.from_unit(points)


# -- groups, distributions, files --------------------------------------------------------------------------------------


def test_groups_have_dotted_names():
    trend = {"fast": range(3), "slow": {"low": 0.1, "high": 0.3, "step": 0.1}, "deep": {"on": [True, False]}}
    space = Space({"trend": trend, "n": 7}, where="trend.fast > 0 and trend.deep.on")
    assert space.names == ("trend.fast", "trend.slow", "trend.deep.on", "n")
    assert len(space) == 2 * 3
    assert Space({"order": {"low": {"low": 1, "high": 2}, "high": [1, 2]}}).names == ("order.low", "order.high")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": {}}, r"x|a must have a 'low', got \{\}"),
        ({"a.b": 1, "a": {"b": 2}}, "parameter 'a.b' must be there once"),
        ({"a": {"b c": 1}}, "parameter name must be an identifier"),
        ({"a": {"choices": "xy"}}, r"a\.choices must be a list of values, got 'xy'"),
        ({"a": {"choices": [1], "low": 1}}, "key of a 'low' is not known"),
        ({"a": {"choices": []}}, "a must have at least one value"),
    ],
)
def test_bad_groups_and_choices_are_refused(given, message):
    with pytest.raises(bt.SpaceError, match=message):
        Space(given)


def test_optuna_distributions_are_parameters():
    from optuna import distributions as d

    space = Space(
        {
            "i": d.IntDistribution(1, 9, step=4),
            "f": d.FloatDistribution(0.1, 0.5, step=0.1),
            "c": d.CategoricalDistribution([None, "a", 1]),
            "log": d.IntDistribution(1, 1000, log=True),
        }
    )
    assert space.values() == {"i": [1, 5, 9], "f": [0.1, 0.2, 0.3, 0.4, 0.5], "c": [None, "a", 1], "log": list(range(1, 1001))}
    ranges = Space({"x": d.FloatDistribution(1e-3, 1.0, log=True), "y": d.FloatDistribution(2.0, 2.0)})
    assert ranges.continuous == ("x",)
    assert ranges.decode(ranges.encode({"x": 0.5, "y": 2.0})) == {"x": 0.5, "y": 2.0}


def test_whole_numbers_on_a_log_scale():
    space = Space({"n": {"low": 1, "high": 1000, "step": 1, "log": True}})
    assert len(space) == 1000
    share = np.linspace(0, 1, 100_001)[:, np.newaxis]
    found = space.from_unit(share)[:, 0]
    assert (found[0], found[-1]) == (1, 1000)
    assert set(found) >= set(range(1, 900))
    assert np.mean(found <= 31) == pytest.approx(0.54, abs=0.02)  # half of the logarithms, not 3 % of the values


@pytest.mark.parametrize(("low", "step"), [(1.0, 1), (0, 1), (1, 2)])
def test_other_steps_have_no_log_scale(low, step):
    with pytest.raises(bt.SpaceError, match="x must have a step or a log scale, got both"):
        Space({"x": {"low": low, "high": 9, "step": step, "log": True}})


FILES = {
    "space.toml": 'where = "trend.fast < trend.slow"\nkind = ["none", "ema"]\nstop = {low = 0.1, high = 0.2, step = 0.1, '
    "when = \"kind == 'ema'\"}\n[trend]\nfast = {low = 1, high = 3, step = 1}\nslow = [2, 3]\n",
    "config.toml": '[data]\nsample = "GOOG"\n[space]\nwhere = "trend.fast < trend.slow"\nkind = ["none", "ema"]\n'
    "[space.stop]\nlow = 0.1\nhigh = 0.2\nstep = 0.1\nwhen = \"kind == 'ema'\"\n[space.trend]\n"
    "fast = {low = 1, high = 3, step = 1}\nslow = [2, 3]\n",
    "space.json": '{"where": "trend.fast < trend.slow", "kind": [null, "ema"], "stop": {"low": 0.1, "high": 0.2, "step": 0.1, '
    '"when": "kind == \'ema\'"}, "trend": {"fast": {"low": 1, "high": 3, "step": 1}, "slow": [2, 3]}}',
}


@pytest.mark.parametrize("name", FILES)
def test_files_say_what_dicts_say(name, tmp_path):
    (tmp_path / name).write_text(FILES[name])
    space = Space.read(tmp_path / name)
    found = [space.decode(row) for row in space.candidates(np.arange(len(space)))[1]]
    expected = [
        {"trend.fast": fast, "trend.slow": slow, **kind}
        for kind in ({"kind": None}, {"kind": "ema", "stop": 0.1}, {"kind": "ema", "stop": 0.2})
        for fast, slow in ((1, 2), (1, 3), (2, 3))
    ]
    assert sorted(map(str, map(sorted_items, found))) == sorted(map(str, map(sorted_items, expected)))
    again = Space.from_dict(space.to_dict())
    assert repr(again) == repr(space)


def sorted_items(params):
    return sorted(params.items())


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "x = ", "must be TOML"),
        ("a.json", "{", "must be JSON"),
        ("a.json", "[1]", "must hold a table"),
        ("a.yaml", "", r"path must be an existing \.toml or \.json file"),
    ],
)
def test_bad_files_are_refused(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(bt.SpaceError, match=message):
        Space.read(tmp_path / name)
    with pytest.raises(bt.SpaceError, match="path must be"):
        Space.read(tmp_path / "missing.toml")


# -- parameters that are not always there ------------------------------------------------------------------------------

CONDITIONAL = {
    "kind": ["sma", "ema", None],
    "n": {"low": 1, "high": 3, "step": 1, "when": "kind is not None"},
    "alpha": {"choices": [0.1, "auto"], "when": "kind == 'ema' and n > 1"},
    "stop": [1, 2],
}


def test_one_candidate_is_one_row():
    space = Space(CONDITIONAL)
    numbers, batch = space.candidates(np.arange(len(space)))
    found = [space.decode(row) for row in batch]
    expected = [{"kind": "sma", "n": n} for n in (1, 2, 3)] + [{"kind": "ema", "n": 1}, {"kind": None}]
    expected += [{"kind": "ema", "n": n, "alpha": alpha} for n in (2, 3) for alpha in (0.1, "auto")]
    expected = [each | {"stop": stop} for each in expected for stop in (1, 2)]
    assert sorted(map(str, map(sorted_items, found))) == sorted(map(str, map(sorted_items, expected)))
    assert len(space) == len(expected) == 18
    assert len(set(numbers.tolist())) == 18
    assert space.decode_batch(batch) == found
    for row, params in zip(batch, found, strict=True):
        np.testing.assert_array_equal(space.encode(params), row)


@pytest.mark.parametrize(
    "identity", [lambda space, batch: list(map(bytes, space.grid_index(batch))), Space.digests], ids=["keys", "digests"]
)
def test_what_is_not_there_has_no_identity(identity):
    space = Space(CONDITIONAL)
    points = np.random.default_rng(0).uniform(size=(3000, 4))
    batch = space.from_unit(points)
    assert space.feasible(batch).all()
    assert len(set(identity(space, batch))) == len(space) == len({str(sorted_items(each)) for each in space.decode_batch(batch)})
    odd = space.encode({"kind": None, "stop": 1})[np.newaxis].copy()
    same = odd.copy()
    odd[0, 1] = 3.0
    assert not space.feasible(odd)[0]
    assert identity(space, odd) == identity(space, same)


def test_conditions_hold_for_continuous_ranges_and_where():
    space = Space({"kind": ["a", "b"], "x": {"low": 0.5, "high": 1.0, "when": "kind == 'b'"}}, where="x is None or x > 0.7")
    batch = space.from_unit(np.array([[0.2, 0.9], [0.9, 0.1], [0.9, 0.9]]))
    assert space.feasible(batch).tolist() == [True, False, True]
    assert space.decode(batch[0]) == {"kind": "a"}
    assert space.size == inf


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"kind": None, "n": 1, "stop": 1}, "parameter 'n' must be left out unless kind is not None, got 1"),
        ({"kind": "sma", "stop": 1}, "parameter 'n' must have a value, got none"),
    ],
)
def test_candidates_have_what_is_there(params, message):
    with pytest.raises(bt.SpaceError, match=message):
        Space(CONDITIONAL).encode(params)


@pytest.mark.parametrize("when", ["b > 1", "a >", "x > 1", 5])
def test_conditions_are_on_parameters_before(when):
    with pytest.raises(bt.SpaceError, match=r"x\.when must be a condition on parameters before it, got"):
        Space({"a": [1, 2], "x": {"low": 1, "high": 2, "when": when}, "b": [1, 2]})


# -- durable identities ------------------------------------------------------------------------------------------------


def digest(space, **params):
    return space.digests(space.encode(params)[np.newaxis])[0]


def test_digests_are_of_names_and_values():
    one = digest(Space({"a": range(10), "b": [None, "x"]}), a=3, b="x")
    assert len(one) == 16
    assert one == digest(Space({"b": ["x", 5, True], "a": range(3, 100, 7)}), a=3, b="x")  # wider, and in another order
    assert one == digest(Space({"a": [3, "q"], "b": "x"}), a=3, b="x")  # a choice, a fixed value
    assert one != digest(Space({"a": [3.0], "b": "x"}), a=3.0, b="x")
    assert one != digest(Space({"a": range(10), "c": [None, "x"]}), a=3, c="x")
    kinds = Space({"a": [1, 1.0, True, "1", None, 0, -1, 2**60, 2**60 + 1]})
    assert len(set(kinds.digests(np.arange(9.0)[:, np.newaxis]))) == 9


def test_digests_snap_as_keys_do():
    coarse = Space({"x": {"low": 0.1, "high": 0.7, "step": 0.1}})
    assert digest(coarse, x=0.1 + 0.2) == digest(Space({"x": {"low": 0.0, "high": 1.0}}), x=0.3) == digest(coarse, x=0.3)
    assert digest(Space({"x": {"low": -1.0, "high": 1.0}}), x=-0.0) == digest(Space({"x": [0.0, 1]}), x=0.0)


def test_digests_do_not_change_between_releases():
    space = Space({"fast": range(5, 60), "kind": ["ema", None], "k": {"low": 0.5, "high": 2.0}})
    assert digest(space, fast=7, kind="ema", k=1.25).hex() == "555f01e70b3ae3d03d56c5adeb0147c8"


def test_strategies_read_every_parameter():
    with pytest.raises(bt.SpaceError, match=r"slow must always be there, .* got a condition \(when\); bt\.Study takes it"):
        bt.optimize(
            bt.Bars.sample("GOOG"),
            bt.strategies.sma_cross,
            {"fast": [5, 6], "slow": {"choices": [9, 10], "when": "fast == 5"}},
            costs=bt.Costs.zero(),
        )


# -- many candidates at once -------------------------------------------------------------------------------------------

ANY = {
    "kind": ["sma", "ema", None, True, 1],
    "n": {"low": 1, "high": 9, "step": 2, "when": "kind is not None"},
    "k": {"low": 0.1, "high": 0.7, "step": 0.1},
    "x": {"low": 0.5, "high": 2.0},
}


@given(st.integers(0, 2**32))
def test_batches_of_values_are_encoded_as_one_by_one(seed):
    space = Space(ANY, where="k < x")
    batch = space.from_unit(np.random.default_rng(seed).uniform(size=(20, 4)))
    params = space.decode_batch(batch)
    assert params == [space.decode(row) for row in batch]
    again, inside = space.encode_batch(params)
    np.testing.assert_array_equal(again[inside], batch[inside])
    assert inside.tolist() == space.feasible(batch).tolist()


@pytest.mark.parametrize(
    "other",
    [
        {"kind": "wma"},
        {"kind": 1.0},
        {"kind": False},
        {"kind": [1]},
        {"n": 4},
        {"n": 11},
        {"n": "3"},
        {"n": None},
        {"n": nan},
        {"k": 0.15},
        {"k": inf},
        {"x": 0.4},
        {"x": "1"},
        {"x": nan},
        {"x": 0.55, "k": 0.7},
        {"y": 1},
        {"kind": None},
        {"n": ...},
        {"x": ...},
    ],
    ids=repr,
)
def test_what_is_not_in_the_space_is_told(other):
    space = Space(ANY, where="k < x")
    good = {"kind": "sma", "n": 3, "k": 0.3, "x": 1.0}
    bad = {name: value for name, value in (good | other).items() if value is not ...}
    _, inside = space.encode_batch([good, bad, good])
    assert inside.tolist() == [True, False, True]
    assert space.encode_batch([])[0].shape == (0, 4)


@pytest.mark.parametrize(("where", "size"), [("3 in (a, b)", 4), ("3 not in (a,)", 4), ("(-2) not in (b, 1)", 6)])
def test_a_number_may_be_looked_for_among_parameters(where, size):
    assert bt.Space({"a": [1, 2, 3], "b": [3, 4]}, where=where).size == size

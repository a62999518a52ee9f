"""Spaces at the edges of numbers, text and depth: each is refused by name, nothing is raw and nothing is misread."""

import itertools
import json
import math

import numpy as np
import pytest

import backtest as bt
from backtest.space import Space
from backtest.where import Where

BEYOND = 10**400
DIGITS = 10**5000  # more than Python writes down


# -- numbers beyond float ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [BEYOND, -BEYOND, DIGITS], ids=["beyond", "below", "digits"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda value: value, "a must hold numbers that a float64 has room for, got -?about 2"),
        (lambda value: [1, value], "a must hold numbers that a float64 has room for, got -?about 2"),
        (lambda value: {"low": value, "high": 1}, r"a\.low must be a finite number, got -?about 2"),
        (lambda value: {"low": 1, "high": value, "step": 1}, r"a\.high must be a finite number, got -?about 2"),
        (lambda value: {"low": 1, "high": 2, "step": value}, r"a\.step must be a finite number, got -?about 2"),
        (lambda value: range(min(0, value), max(0, value)), r"a\.(low|high) must be a finite number, got -?about 2"),
    ],
)
def test_numbers_beyond_float_are_refused(given, message, value):
    with pytest.raises(bt.SpaceError, match=message):
        Space({"a": given(value)})


@pytest.mark.parametrize("given", [range(5), [1, 2], {"low": 0.0, "high": 1.0}, {"low": 0.0, "high": 1.0, "step": 0.1}])
def test_candidates_beyond_float_are_refused(given):
    space = Space({"a": given})
    with pytest.raises(bt.SpaceError, match=r"a must be .*, got about 2\*\*16609"):
        space.encode({"a": DIGITS})
    batch, inside = space.encode_batch([{"a": DIGITS}, {"a": 1}, {"a": -BEYOND}])
    assert inside[[0, 2]].tolist() == [False, False]
    assert np.isfinite(batch).all()


def test_widths_choices_and_lists_that_no_memory_or_float_holds_are_refused(monkeypatch):
    monkeypatch.setattr("backtest.space_params.MAX_CHOICES", 1000)
    with pytest.raises(bt.SpaceError, match="a must have a width that is a float64, got low -1e\\+308 and high 1e\\+308"):
        Space({"a": {"low": -1e308, "high": 1e308}})
    with pytest.raises(bt.SpaceError, match="a must have at most 1,000 choices, got more"):
        Space({"a": itertools.count()})
    with pytest.raises(bt.SpaceError, match="a must have at most 10,000,000 values to be listed, got 1,000,000,001"):
        Space({"a": {"low": 0, "high": 1, "step": 1e-9}}).values()


def test_sizes_beyond_float_are_said():
    names = {f"p{place}": range(10**6) for place in range(60)}
    space = Space(names)
    assert space.size == 10**360
    with pytest.raises(bt.SpaceError, match=r"a space of about 2\*\*1195 candidates is longer than len"):
        len(space)
    with pytest.raises(bt.SpaceError, match=r"a space of about 2\*\*1195 combinations cannot be enumerated"):
        space.candidates([0])
    assert Space({**names, "x": {"low": 0, "high": 1}}).size == math.inf


# -- positions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space",
    [
        Space({"a": range(5)}),
        Space({"a": range(5), "b": range(2)}, where="b == 0 and a < 9"),
        Space({name: range(1000) for name in "abcd"}, where="a == 5 and b == 5 and c == 5 and d < 5"),
    ],
)
@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([-1], r"positions must be >= 0 and < 5, the size of the space, got -1 \(row 0\)"),
        ([0, 5], r"got 5 \(row 1\)"),
        ([-(2**63)], "got -9223372036854775808"),
        ([2**63 - 1], "got 9223372036854775807"),
        (np.array([2**64 - 1], np.uint64), "got 1844"),
        ([2**70], "positions must be a vector of whole numbers, got object"),
        ([1.0], "whole numbers, got float64"),
        ([True], "whole numbers, got bool"),
        ([[1]], r"of shape \(1, 1\)"),
        (3, r"of shape \(\)"),
        (None, "whole numbers, got object"),
        (["1"], "whole numbers, got <U1"),
        ([[1], [1, 2]], "positions must be an array"),
    ],
)
def test_positions_out_of_range_are_refused(space, positions, message):
    with pytest.raises(bt.SpaceError, match=message):
        space.candidates(positions)
    assert space.candidates([4, 0])[1][:, -1 if space.names[-1] == "d" else 0].tolist() == [4, 0]


@pytest.mark.parametrize("index", [-1, 2, math.nan, math.inf, 0.5])
def test_indices_of_choices_out_of_range_are_refused(index):
    space = Space({"a": ["x", "y"], "b": range(3)}, where="a == 'x' or b > 0")
    with pytest.raises(bt.SpaceError, match="must be the index of a choice"):
        space.feasible(np.array([[index, 0.0]]))
    if index != 0.5:
        with pytest.raises(bt.SpaceError, match="the index of a choice must be >= 0 and < 2, got"):
            space.decode([index, 0.0])
    with pytest.raises(bt.SpaceError, match=r"values must be in 0\.\.2 step 1, got inf"):
        space.decode([0.0, math.inf])


# -- where -------------------------------------------------------------------------------------------------------------

WORDS = {"a": range(5), "word": ["%9999999999d", "x", 10**12], "b": [1.0, None]}


@pytest.mark.parametrize(
    "text",
    [
        "'%9999999999d' % a == 3",
        "word % a == 'x'",
        "a % word == 3",
        "'%s' % word == 'x'",
        "'x' * 10**12 == word",
        "word * a == 'x'",
        "word + word == 'x'",
        "word + 'x' == 'xx'",
        "a + word > 0",
        "'x' + 'y' == word",
        "-word == a",
        "word ** 2 == a",
        "word - 1 == a",
        "word == 'x' and '%d' % a == '3'",
        "(word == 'x') + word == 1",
    ],
)
def test_there_is_no_arithmetic_on_text(text):
    with pytest.raises(bt.SpaceError, match=r"where must compare values of one kind, got .*: there is no arithmetic on text"):
        Space(WORDS, where=text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a ** 99999999 > 3", "where must hold exponents up to 1,000, got 99999999"),
        ("a ** 1e5 > 3", "where must hold exponents up to"),
        ("a ** -99999 > 3", "where must hold exponents up to 1,000, got 99999"),
        ("2 ** 2000 > a", "where must hold exponents up to"),
        ("a < 1e999", r"where must hold numbers up to 1e\+300, got inf"),
        ("a < 1e301", r"where must hold numbers up to 1e\+300"),
        ("a < 0x" + "f" * 5000, r"where must hold numbers up to 1e\+300, got about 2\*\*19999"),
        ("a < " + "9" * 5000, "where must be an expression over parameters, got 'a < 999"),
        ("f(0x" + "f" * 5000 + ") < a", "where must"),
        ("a < \ud800", "where must be an expression over parameters"),
        ("a\0 < 3", "where must be an expression over parameters"),
        ("+".join(["a"] * 250) + " > 3", "where must be simpler, nested up to 200 deep, got 503 characters"),
        ("not " * 250 + "a", "where must be"),
        ("-" * 250 + "a", "where must be"),
        ("a" + ".b" * 5000, "where must"),
        ("a in (1, 2) == 3", "where may hold"),
        ("a in (1,) in (2,)", "where may hold"),
    ],
)
def test_huge_and_deep_conditions_are_refused(text, message):
    with pytest.raises(bt.SpaceError, match=message):
        Space(WORDS, where=text)
    with pytest.raises(bt.SpaceError, match=f"c.when must be a condition on parameters before it, .*{message}"):
        Space({**WORDS, "c": {"choices": [1, 2], "when": text}})


def test_long_conditions_within_the_limit_hold():
    assert len(Space({"a": range(5)}, where="+".join(["a"] * 150) + " > 300")) == 2
    assert len(Space({"a": range(5)}, where=" and ".join(f"a != {number}" for number in range(1, 2000)))) == 1
    assert len(Space({"a": range(5)}, where=f"a in ({', '.join(map(str, range(3, 3000)))})")) == 2


def test_whole_numbers_that_are_no_floats_are_refused():
    with pytest.raises(
        bt.SpaceError,
        match=r"numbers that are float64s, as whole numbers up to 2\*\*53 are; got "
        r"9007199254740993, and the nearest is 9007199254740992",
    ):
        Where("a == 9007199254740993", ["a"])
    with pytest.raises(bt.SpaceError, match=r"a must hold whole numbers up to 2\*\*53 to be in a condition, got 9007"):
        Space({"a": [2**53, 2**53 + 1]}, where="a == 9007199254740992")
    assert len(Space({"a": [2**53, 2**53 - 1]}, where="a == 9007199254740992")) == 1
    assert len(Space({"a": [2**53, 2**53 + 1]})) == 2  # without a condition they are told apart


# -- depth and files ---------------------------------------------------------------------------------------------------


def nested(depth):
    table = {"a": [1, 2]}
    for _ in range(depth):
        table = {"g": table}
    return table


def test_groups_are_nested_up_to_fifty_deep():
    assert Space(nested(50)).names == ("g." * 50 + "a",)
    for depth in (51, 5000):
        for make in (Space, lambda table: Space.from_dict(table, "none")):
            with pytest.raises(bt.SpaceError, match="groups of parameters must be nested at most 50 deep"):
                make(nested(depth))
    circle = {}
    circle["g"] = circle
    with pytest.raises(bt.SpaceError, match="groups of parameters must be nested at most 50 deep"):
        Space({"g": circle, "a": {"b": [1]}})
    deep = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(bt.SpaceError, match="a must hold numbers, strings, booleans or None, got a list nested too deep to show"):
        Space({"a": [deep]})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("deep.json", b'{"a":' * 50_000 + b"1" + b"}" * 50_000, "must be JSON that is nested less deeply"),
        ("deep.toml", b"a = " + b"[" * 50_000 + b"]" * 50_000, "must be TOML that is nested less deeply"),
        ("groups.json", json.dumps(nested(200)).encode(), "groups of parameters must be nested at most 50 deep"),
        (
            "latin.toml",
            'a = ["é"]'.encode("latin-1"),
            "must be TOML in UTF-8, got .* byte 0xe9 in position 6.*; save it as UTF-8",
        ),
        ("latin.json", '{"a": ["é"]}'.encode("latin-1"), "must be JSON in UTF-8, got .* byte 0xe9 in position 8"),
        ("huge.json", b'{"a": 1e999}', "a must hold finite numbers, got inf"),
        ("huge.toml", b"a = 1e999", "a must hold finite numbers, got inf"),
        ("digits.json", b'{"a": ' + b"9" * 5000 + b"}", "must be JSON, got"),
        ("list.json", b"[1]", "must hold a table of parameters"),
        ("beyond.json", b'{"a": ' + b"9" * 400 + b"}", "a must hold numbers that a float64 has room for"),
    ],
)
def test_files_that_cannot_be_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(bt.SpaceError, match=message):
        Space.read(tmp_path / name)


@pytest.mark.parametrize("given", [[1], None, 5, "a"])
def test_tables_that_are_none_are_refused(given):
    with pytest.raises(bt.SpaceError, match="a space must be a table of parameters, got"):
        Space.from_dict(given)

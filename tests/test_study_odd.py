"""Stores at their edges: odd rows, leases from the future, impossible paths."""

import random
import sqlite3
import time
import warnings

import numpy as np
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli
from backtest.study.memory import Memory
from backtest.study.store import Row, Store, has_died, new_owner


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'x.db'}"


def objective(params, trial):
    return float(params["a"])


def study(url, function=objective, n=6, **options):
    return bt.Study({"a": range(n)}, function, name="s", sampler="random", store=url, **({"version": "1"} | options))


def raw(url, statement, *values):
    with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
        connection.execute(statement, values)
    connection.close()


# -- odd rows ----------------------------------------------------------------------------------------------------------

ODD = {
    "status": [99, "text", b"x"],
    "value": ["text", b"x"],
    "params": ['{"a": 1', "[1]", "5", b"{}", 7, '{"a":1},{"a":2}', "[" * 9999],
    "metrics": [b"123", "text", 5],
    "extra": ["{", "[]", '{"reports": 5}', '{"reports": [[1]]}', '{"attrs": 5}', '{"error": 5}'],
    "finished": ["text", 1e300, float("inf"), -1.0, b"x"],
    "seconds": ["text"],
    "attempts": ["many", b"x"],
}


@pytest.mark.parametrize(
    ("column", "value"), [(name, value) for name, values in ODD.items() for value in values], ids=lambda value: str(value)[:20]
)
def test_an_odd_row_is_named_and_the_rest_is_served(url, column, value, tmp_path):
    first = study(url)
    first.run(progress=False)
    first.close()
    key = next(each.digest for each in first.trials if each.params == {"a": 3})
    raw(url, f"UPDATE results SET {column} = ? WHERE digest = ?", value, key)
    with pytest.warns(bt.StoreWarning, match=f"digest {key.hex()} .{column} .*; left out, and evaluated again when asked for"):
        again = study(url)
    assert {each.params["a"] for each in again.trials} == {0, 1, 2, 4, 5}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is named once
        assert again.run(progress=False).evaluated == 1
    again.close()
    healed = study(url)
    assert len(healed.trials) == 6
    healed.close()
    if value != ODD[column][0]:
        return
    raw(url, f"UPDATE results SET {column} = ? WHERE digest = ?", value, key)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bt.StoreWarning)
        for command in (["show", url], ["export", url, str(tmp_path / "out.csv")]):
            done = CliRunner().invoke(cli.app, ["store", *command], env={"COLUMNS": "200"})
            assert done.exit_code == 0, done.output
    assert "5 results written" in done.output


@pytest.mark.parametrize("params", [None, "{}", '{"a": 4}', '{"a": [3]}', '{"b": 3}'])
def test_a_row_that_says_it_is_another_candidates_is_evaluated_again(url, params):
    first = study(url)
    first.run(progress=False)
    first.close()
    key = next(each.digest for each in first.trials if each.params == {"a": 3})
    raw(url, "UPDATE results SET params = ? WHERE digest = ?", params, key)
    again = study(url)
    assert len(again.trials) == 5
    with pytest.warns(bt.StoreWarning, match=f"digest {key.hex()} .params .*; left out, and evaluated again"):
        assert again.run(progress=False).evaluated == 1
    again.close()
    healed = study(url)
    assert len(healed.trials) == 6
    healed.close()


def test_many_odd_rows_are_one_warning(url):
    first = study(url, n=50)
    first.run(progress=False)
    first.close()
    raw(url, "UPDATE results SET params = 'no' WHERE id % 2")
    with pytest.warns(bt.StoreWarning, match=r"rows with digest \w+ \(params 'no'\), .* and 22 more; left out") as said_of:
        again = study(url, n=50)
    assert len(said_of) == 1
    assert len(again.trials) == 25
    again.close()


def test_random_damage_to_rows_is_never_a_raw_error(url):
    chance = random.Random(5)
    first = study(url, n=40)
    first.run(progress=False)
    first.close()
    values = [
        None,
        0,
        -1,
        2**62,
        1.5,
        float("inf"),
        "",
        "x",
        "{}",
        "[]",
        "null",
        b"",
        b"12345678",
        "\0",
        '{"a": {}}',
        '{"a": [1]}',
        '{"a": 1e999}',
        '{"a": ' + "9" * 400 + "}",
        '{"a": NaN}',
        '{"a": "\ud800"}'.encode("utf-16", "surrogatepass"),
    ]
    for _ in range(30):
        column = chance.choice(["status", "value", "metrics", "params", "extra", "finished", "seconds", "attempts", "digest"])
        try:
            raw(url, f"UPDATE results SET {column} = ? WHERE id = ?", chance.choice(values), chance.randrange(1, 41))
        except sqlite3.IntegrityError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bt.StoreWarning)
            again = study(url, n=40)
            again.run(progress=False)
            assert len(again.trials) == 40
            again.close()


def test_odd_contexts_leases_and_blocks(url):
    first = study(url)
    first.run(3, progress=False)
    first.close()
    raw(url, "INSERT INTO contexts (fingerprint, name, description, created) VALUES (x'00', 's', '{', 5.0)")
    with pytest.warns(bt.StoreWarning, match="contexts must be .*, got number 2 of .* with description '{'; left out"):
        again = study(url)
    for number, owner in enumerate(("x", "a b c", f"{new_owner().rsplit(' ', 2)[0]} 99999999999999999999 x", b"blob", "")):
        raw(
            url, "INSERT INTO leases (context, digest, owner, until) VALUES (1, ?, ?, ?)", bytes([number]), owner, time.time() - 9
        )
    assert again.run(progress=False).evaluated == 3
    again.close()
    assert not has_died("x")
    assert not has_died(b"x")


def test_metrics_of_another_number_are_evaluated_again(url):
    space = bt.Space({"a": range(4)})
    batch = space.candidates(np.arange(4))[1]
    calls = []

    def evaluate(rows):
        calls.append(len(rows))
        return np.column_stack([rows[:, 0], 2 * rows[:, 0]])

    with Memory(evaluate, space, url, {}, ["x", "y"]) as memory:
        expected = memory(batch)
    raw(url, "UPDATE results SET metrics = ? WHERE id = 2", np.zeros(3).tobytes())
    with (
        Memory(evaluate, space, url, {}, ["x", "y"]) as memory,
        pytest.warns(bt.StoreWarning, match="metrics of 24 bytes, not 16"),
    ):
        assert (memory(batch) == expected).all()
    with Memory(evaluate, space, url, {}, ["x", "y"]) as memory:
        assert (memory(batch) == expected).all()
    assert calls == [4, 1]


# -- leases ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("until", [time.time() + 1e6, 1e300, "text"])
def test_leases_from_the_future_are_capped(url, until, monkeypatch):
    store = Store(url)
    context = store.context(b"x", "s", {})
    key = bytes(16)
    assert store.reserve(context, [key], "other machine", 30.0, 1).granted == [key]
    raw(url, "UPDATE leases SET until = ?", until)
    now = time.time()
    assert store.reserve(context, [key], "me", 30.0, 1).leased_by_others == [key]
    assert store._one("SELECT until FROM leases") == pytest.approx(now + 60.0, abs=5.0)
    monkeypatch.setattr(time, "time", lambda: now + 70.0)
    assert store.reserve(context, [key], "me", 30.0, 1).granted == [key]
    store.close()


def test_a_lease_that_is_renewed_after_the_clock_was_set_back_is_kept(url, monkeypatch):
    store, now = Store(url), time.time()
    context, key = store.context(b"x", "s", {}), bytes(16)
    monkeypatch.setattr(time, "time", lambda: now + 3600.0)
    store.reserve(context, [key], "owner", 30.0, 1)
    monkeypatch.setattr(time, "time", lambda: now)
    assert store.reserve(context, [key], "me", 30.0, 1).leased_by_others == [key]
    store.renew("owner", 30.0)
    assert store._one("SELECT until FROM leases") == now + 30.0
    assert store.finish(context, [Row(key, value=1.0)], "owner") == {key}
    store.close()


# -- paths -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a\0b.db", "without NUL characters"),
        ("x" * 300 + ".db", "must be a file we may open, got"),
        ("\ud800.db", "must be a path that this system can write"),
        ("", "must be a file, got"),
        ("y" * 5000 + "/x.db", "must be a file we may open, got"),
    ],
)
def test_paths_that_cannot_be(tmp_path, path, message):
    with pytest.raises(bt.StoreError, match=message):
        Store(f"sqlite:///{tmp_path}/{path}")


def test_a_name_that_is_no_utf_8(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/\udcff.db")
    store.close()
    assert (tmp_path / "\udcff.db").exists()

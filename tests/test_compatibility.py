"""What version 0.1.0.dev0 wrote (``tests/fixtures/before``): its store answers, its results and configurations are read."""

import contextlib
import gzip
import importlib.metadata
import importlib.util
import json
import logging
import multiprocessing
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli, provenance
from backtest.config import levels as levels_config
from backtest.config import optimize as optimize_config
from backtest.config import portfolio as portfolio_config
from backtest.study.fingerprint import context_fingerprint
from backtest.study.store import APPLICATION_ID, SCHEMA_VERSION, Store

BEFORE = Path(__file__).parent / "fixtures" / "before"
EXPECTED = json.loads((BEFORE / "expected.json").read_text())
SIZED = {"start_cash": 70_000.0, "size": 20_000.0, "size_type": "value"}
MONEY = {"start_cash": 50_000.0}


def _searches():
    spec = importlib.util.spec_from_file_location("searches", BEFORE / "searches.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["searches"] = module
    spec.loader.exec_module(module)
    return module


searches = _searches()


@pytest.fixture
def path(tmp_path):
    """A copy of the store."""
    path = tmp_path / "store.db"
    path.write_bytes(gzip.decompress((BEFORE / "store.db.gz").read_bytes()))
    return path


@pytest.fixture
def url(path, monkeypatch):
    # The versions of TA-Lib and of the numerics are part of what results are known by: with others, all would be evaluated again.
    monkeypatch.setattr(provenance, "NUMERICS_VERSION", 4)
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.8.2" if name == "TA-Lib" else version(name))
    return f"sqlite:///{path}"


def rows(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return [connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("contexts", "results", "blocks")]


def same(one, other):
    """Equal as JSON, whose NaN is not equal to itself."""
    return json.dumps(one) == json.dumps(other)


# -- the store ---------------------------------------------------------------------------------------------------------


def test_the_fixture_is_of_layout_1(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert "key" in [each[1] for each in connection.execute("PRAGMA table_info(results)")]
        texts = "".join(each[0] for each in connection.execute("SELECT description FROM contexts"))
    assert texts.count('"cash": 70000.0') == 3
    assert texts.count('"start_value": 50000.0') == 1


def test_every_search_is_answered_from_the_store(url, path):
    before = rows(path)
    for name, search in searches.searches(url, SIZED, MONEY):
        result = search()
        assert same(searches.figures(result), EXPECTED[name]), name
        assert result.search.endswith(f", {result.n_evaluated:,} of them from the store"), name
    assert rows(path) == before


def test_a_study_is_answered_from_the_store(url, path):
    before, searches.CALLS[:] = rows(path), []
    with contextlib.closing(searches.study(url, SIZED)) as study:
        summary = study.run(catch=ValueError, progress=False)
        assert same(searches.trials(study), EXPECTED["study"])
    assert (summary.evaluated, summary.known, searches.CALLS) == (0, 12, [])
    assert rows(path) == before


def test_what_was_not_evaluated_before_is_evaluated(url):
    """So that the tests above can fail."""
    other = SIZED | {"start_cash": 70_001.0}
    result = dict(searches.searches(url, other, MONEY))["grid"]()
    assert result.search.endswith(", 0 of them from the store")
    with contextlib.closing(searches.study(url, other)) as study:
        assert study.run(3, catch=ValueError, progress=False).evaluated == 3


def test_the_layout_is_raised_once_and_said(path, caplog):
    with caplog.at_level(logging.INFO, logger="backtest"):
        Store(f"sqlite:///{path}").close()
        assert f"raised from layout 1 to {SCHEMA_VERSION}" in caplog.text
        caplog.clear()
        Store(f"sqlite:///{path}").close()
    assert caplog.text == ""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        found = [json.loads(each[0]) for each in connection.execute("SELECT description FROM contexts ORDER BY id")]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found[0]["execution"] | SIZED == found[0]["execution"]
    assert "cash" not in found[0]["execution"]
    assert found[1]["execution"]["size_type"] == "equity"
    assert found[4]["rules"]["start_cash"] == 50_000.0
    execution = found[5]["data"][2]["execution"]
    assert list(execution) == list(bt.Execution().to_dict())
    assert found[5]["data"][2]["cash"] == "a name of the user's"


def test_a_context_that_is_known_by_something_else_stays_as_it_is(path):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE contexts SET fingerprint = ? WHERE id = 1", (b"another",))
        before = connection.execute("SELECT * FROM contexts WHERE id = 1").fetchone()
    Store(f"sqlite:///{path}").close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT * FROM contexts WHERE id = 1").fetchone() == before


def test_one_that_only_looks_raises_the_layout_too(path, tmp_path):
    out = tmp_path / "out.csv"
    done = CliRunner().invoke(cli.app, ["store", "show", f"sqlite:///{path}"])
    assert done.exit_code == 0, done.output
    done = CliRunner().invoke(cli.app, ["store", "export", f"sqlite:///{path}", str(out), "--context", "6"])
    assert done.exit_code == 0, done.output
    table = pd.read_csv(out)
    assert sorted(table["value"].dropna()) == sorted(each[3][0] for each in EXPECTED["study"] if each[3])


def _opened(url, barrier, queue):
    barrier.wait()
    store = Store(url)
    queue.put(sum(store.counts(each["id"])[status] for each in store.contexts() for status in store.counts(each["id"])))
    store.close()


def test_many_processes_open_it_at_once(path):
    spawn = multiprocessing.get_context("spawn")
    barrier, queue = spawn.Barrier(4), spawn.Queue()
    processes = [spawn.Process(target=_opened, args=(f"sqlite:///{path}", barrier, queue)) for _ in range(4)]
    for each in processes:
        each.start()
    counts = [queue.get(timeout=120) for _ in processes]
    for each in processes:
        each.join()
    assert counts == [rows(path)[1]] * 4


def test_an_interruption_leaves_the_layout_as_it_was(path, monkeypatch):
    monkeypatch.setattr("backtest.study.store.migration.content_hash", lambda *_, **__: 1 / 0)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        Store(f"sqlite:///{path}")
    monkeypatch.undo()
    assert path.read_bytes() == before
    Store(f"sqlite:///{path}").close()


def test_data_written_down_with_former_names_is_the_same_data():
    former = bt.Execution(start_cash=5.0).to_dict()
    former = {("cash" if name == "start_cash" else name): value for name, value in former.items()}
    literal = {"a": [1, {**former, "size_type": "cash"}], "b": (2.0, None)}
    current = {"a": [1, bt.Execution(start_cash=5.0).to_dict() | {"size_type": "value"}], "b": (2.0, None)}
    assert context_fingerprint(literal) == context_fingerprint(current)
    assert context_fingerprint({"cash": 5.0}) != context_fingerprint({"start_cash": 5.0})  # anything else is the user's own


def test_a_damaged_context_is_named_and_keeps_its_results(path, caplog):
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE contexts SET description = 'xxx' WHERE id = 2")
    connection.close()
    before = rows(path)
    with caplog.at_level("WARNING", logger="backtest"):
        Store(f"sqlite:///{path}").close()
    assert "the description of context 2 is damaged" in caplog.text
    assert rows(path)[1] == before[1]


def test_a_store_that_can_only_be_read_says_what_to_do(path, monkeypatch):
    def refuse(*_):
        raise bt.StoreError("attempt to write a readonly database")

    monkeypatch.setattr("backtest.study.store.database.migrate", refuse)
    with pytest.raises(bt.StoreError, match=r"store must be of layout 2 to be read, got 1 .* copy it to where"):
        Store(f"sqlite:///{path}", read_only=True).contexts()


# -- results and configurations ----------------------------------------------------------------------------------------


def test_a_saved_result_is_read():
    result = bt.load(BEFORE / "result")
    assert same(searches.figures(result), EXPECTED["grid"])
    assert (result.metric, result.start, result.is_interrupted) == ("total_return", 44, False)
    assert result.best_value == float.fromhex(EXPECTED["grid"]["values"][0][0])
    assert result.provenance["execution"]["cash"] == 70_000.0  # as it was written
    assert np.isfinite(result.table["sharpe"]).all()


@pytest.mark.parametrize(
    ("read", "name", "former"),
    [
        (optimize_config.read, "optimize", [("cash", "start_cash"), ('size_type = "cash"', 'size_type = "value"')]),
        (portfolio_config.read, "portfolio", [("start_value", "start_cash")]),
        (levels_config.read, "levels", []),
    ],
)
def test_former_names_in_a_configuration_are_refused_by_name_and_the_rest_is_read(read, name, former, tmp_path):
    text, path = (BEFORE / f"{name}.toml").read_text(), tmp_path / "my.toml"
    for old, new in former:
        path.write_text(text)
        with pytest.raises(
            bt.InputError, match=f"(?s){old.split(' = ')[-1].strip(chr(34))}.* is now .*{new.split(' = ')[-1].strip(chr(34))}"
        ):
            read(path)
        text = text.replace(old, new, 1)
    path.write_text(text)
    config = read(path)
    if name == "optimize":
        assert config.execution == bt.Execution(**SIZED)

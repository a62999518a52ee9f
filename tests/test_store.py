"""The store: results kept once, leases, many processes, killed processes, bad files."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli
from backtest.study.show import one_line
from backtest.study.store import APPLICATION_ID, SCHEMA_VERSION, Row, Status, Store


def key(number):
    return number.to_bytes(16, "big")


def rows(*numbers, **fields):
    return [Row(key(number), value=float(number), **fields) for number in numbers]


@pytest.fixture
def url(tmp_path):
    return f"sqlite:///{tmp_path / 'a b%3f?.db'}"


@pytest.fixture
def store(url):
    made = Store(url)
    yield made
    made.close()


@pytest.fixture
def context(store):
    return store.context(b"one", "first", {"objective": "f"})


# -- results -----------------------------------------------------------------------------------------------------------


def test_what_is_stored_is_there_after_a_reopening(store, context, url):
    metrics = np.array([0.1, np.nan, -np.inf])
    row = Row(key(7), Status.DONE, 0.1 + 0.2, metrics.tobytes(), '{"a": 1}', '{"attrs": {}}', 12.5, 0.25)
    store.add(context, [row, Row(key(8), Status.UNDEFINED), Row(key(9), value=float("-inf"))])
    store.close()
    again = Store(url)
    assert again.look_up(context, [key(7), key(8), key(1)]) == {key(7): row, key(8): Row(key(8), Status.UNDEFINED)}
    assert again.read(context)[0] == [row, Row(key(8), Status.UNDEFINED), Row(key(9), value=float("-inf"))]
    assert again.counts(context) == {Status.DONE: 2, Status.UNDEFINED: 1}
    again.close()


def test_contexts_do_not_mix(store, context):
    other = store.context(b"two", "first", {})
    assert other != context == store.context(b"one", "renamed", {"objective": "g"})
    store.add(context, rows(1))
    store.add(other, rows(1, 2))
    assert [row.value for row in store.read(context)[0]] == [1.0]
    assert list(store.look_up(other, [key(1), key(2)])) == [key(1), key(2)]
    assert [(each["name"], each["description"]) for each in store.contexts()] == [("first", {"objective": "f"}), ("first", {})]


def test_the_first_result_stays_and_a_failure_does_not(store, context):
    store.add(context, rows(1))
    store.add(context, [Row(key(1), value=5.0), Row(key(2), Status.FAILED, extra='{"error": "no"}')])
    store.add(context, [Row(key(2), Status.FAILED)])
    assert store.look_up(context, [key(1)])[key(1)].value == 1.0
    assert store.look_up(context, [key(2)])[key(2)].attempts == 2
    store.add(context, [Row(key(2), value=3.0)])
    assert store.look_up(context, [key(2)])[key(2)] == Row(key(2), value=3.0, attempts=3)


def test_reading_goes_on_after_a_mark(store, context, url):
    store.add(context, rows(5, 3))
    found, mark = store.read(context)
    assert [row.value for row in found] == [3.0, 5.0]
    other, before = Store(url), store.changes()
    assert store.read(context, mark) == ([], mark)
    other.add(context, rows(1, 9))
    other.close()
    assert store.changes() != before
    assert [row.value for row in store.read(context, mark)[0]] == [1.0, 9.0]


@pytest.mark.slow
def test_what_is_new_in_a_large_store_is_read_at_once(store, context):
    store.add(context, rows(*range(50_000)))
    mark = store.read(context)[1]
    store.add(context, rows(60_000))
    seconds = {}
    for name, after in 3 * (("all", 0), ("new", mark)):
        found = []  # the rows before are let go of now, not when they are replaced
        begun = time.perf_counter()
        found, _ = store.read(context, after)
        seconds[name] = min(seconds.get(name, 9.0), time.perf_counter() - begun)
    assert [row.value for row in found] == [60_000.0]
    assert seconds["new"] < 0.02 * seconds["all"]  # 0.001; 0.05 where the index is searched


def test_columns_that_are_missing_in_some_rows_only(store, context):
    metrics = np.arange(3.0).tobytes()
    mixed = [
        Row(
            key(number),
            Status.DONE if number % 2 else Status.FAILED,
            float(number) if number % 2 else None,
            metrics if number % 3 else None,
            "{}" if number % 700 else None,
            "{}" if number > 1100 else None,
            5.0,
            number or None,
        )
        for number in range(2000)
    ]
    store.add(context, [Row(key(number)) for number in range(3000, 3600)])
    store.add(context, mixed)
    assert [row for row in store.read(context)[0] if row.metrics or row.finished] == mixed
    again = [row._replace(status=Status.DONE, value=None, metrics=None) for row in mixed]
    store.add(context, again)  # of failures nothing of the attempt before is left
    expected = {
        row.digest: row if row.status == Status.DONE else new._replace(attempts=2) for row, new in zip(mixed, again, strict=True)
    }
    assert store.look_up(context, [row.digest for row in mixed]) == expected


def test_many_rows_in_one_call(store, context):
    store.add(context, rows(*range(45_000)))
    assert store.counts(context) == {Status.DONE: 45_000}
    assert len(store.look_up(context, [key(number) for number in range(0, 90_000, 2)])) == 22_500


# -- leases ------------------------------------------------------------------------------------------------------------


def test_a_key_is_reserved_once(store, context, url):
    other = Store(url)
    store.add(context, rows(1))
    mine = store.reserve(context, [key(1), key(2), key(3), key(2)], "a", 60.0, 1)
    assert (mine.granted, list(mine.stored), mine.leased_by_others) == ([key(2), key(3)], [key(1)], [])
    theirs = other.reserve(context, [key(2), key(4)], "b", 60.0, 1)
    assert (theirs.granted, theirs.leased_by_others) == ([key(4)], [key(2)])
    assert store.reserve(context, [key(2)], "a", 60.0, 1).granted == [key(2)]  # it is ours already
    assert store.finish(context, rows(2, 3), "a") == {key(2), key(3)}
    assert list(other.reserve(context, [key(2)], "b", 60.0, 1).stored) == [key(2)]
    store.release("a")
    other.release("b")
    assert store.reserve(context, [key(4)], "a", 60.0, 1).granted == [key(4)]
    other.close()


def test_a_result_after_its_lease_was_taken_over_is_discarded(store, context):
    assert store.reserve(context, [key(1), key(2)], "slow", 0.01, 1).granted == [key(1), key(2)]
    time.sleep(0.05)
    assert store.reserve(context, [key(1)], "fast", 60.0, 1).granted == [key(1)]
    assert store.finish(context, [Row(key(1), value=-1.0), Row(key(2), value=2.0)], "slow") == {key(2)}  # 2 was nobody else's
    assert store.look_up(context, [key(1)]) == {}
    assert store.finish(context, rows(1), "fast") == {key(1)}
    assert store.look_up(context, [key(1)])[key(1)].value == 1.0


def test_a_renewed_lease_is_kept(store, context):
    store.reserve(context, [key(1)], "a", 0.2, 1)
    for _ in range(4):
        time.sleep(0.08)
        store.renew("a", 0.2)
    assert store.reserve(context, [key(1)], "b", 60.0, 1).leased_by_others == [key(1)]


def test_a_failure_may_be_tried_again_but_not_forever(store, context):
    for attempt in range(1, 4):
        assert store.reserve(context, [key(1)], "a", 60.0, 3).granted == [key(1)]
        store.finish(context, [Row(key(1), Status.FAILED)], "a")
        assert store.look_up(context, [key(1)])[key(1)].attempts == attempt
    assert list(store.reserve(context, [key(1)], "a", 60.0, 3).stored) == [key(1)]


def test_finished_blocks(store, context):
    store.finish_blocks(context, [(b"s", b"01", 20), (b"t", b"", 10)], rows(4))
    store.finish_blocks(context, [])
    assert store.blocks(context) == {b"s": b"01", b"t": b""}
    assert store.blocks(context + 1) == {}
    assert store.counts(context) == {Status.DONE: 1}


# -- threads and processes ---------------------------------------------------------------------------------------------


def test_threads_share_a_store(store, context):
    taken = []

    def work(name):
        for number in range(0, 60, 3):
            got = store.reserve(context, [key(number + each) for each in range(3)], name, 60.0, 1).granted
            store.finish(context, [Row(each, value=1.0) for each in got], name)
            taken.extend(got)

    threads = [threading.Thread(target=work, args=(str(name),)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [key(number) for number in range(60)]


WRITER = """
import sys
from backtest.study.store import Row
from backtest.study.store import Store
store = Store(sys.argv[1])
context = store.context(b"one", "first", {})
for start in range(0, 2000, 20):
    keys = [(start + each).to_bytes(16, "big") for each in range(20)]
    mine = store.reserve(context, keys, sys.argv[2], 60.0, 1).granted
    took = store.finish(context, [Row(key, value=1.0, extra=sys.argv[2]) for key in mine], sys.argv[2])
    print(len(took), start, flush=True)
"""


def start(code, *arguments):
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_share_a_new_store(url):
    drivers = [start(WRITER, url, name) for name in "abc"]
    answers = [each.communicate(timeout=120) for each in drivers]
    assert [error for _, error in answers] == ["", "", ""]
    counts = [sum(int(line.split()[0]) for line in out.splitlines()) for out, _ in answers]
    assert sum(counts) == 2000  # each key once, and no lock error
    store = Store(url)
    assert len(store.read(1)[0]) == 2000
    store.close()


def test_what_was_acknowledged_survives_a_kill(url):
    for _ in range(5):
        driver = start(WRITER, url, "a")
        seen = [driver.stdout.readline() for _ in range(3)]
        driver.send_signal(signal.SIGKILL)
        seen += driver.communicate()[0].splitlines(keepends=True)
        store = Store(url)
        stored = {row.digest for row in store.read(1)[0]}
        for line in seen:
            if line.endswith("\n"):
                first = int(line.split()[1])
                assert {key(first + each) for each in range(20)} <= stored
        assert store._one("PRAGMA integrity_check") == "ok"
        store.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_a_connection_of_its_own(store, context):
    store.add(context, rows(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads of other tests, of which the child needs none
        child = os.fork()
    if not child:
        code = 1
        try:
            store.add(context, rows(2))
            code = 0 if len(store.read(context)[0]) == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.add(context, rows(3))
    assert len(store.read(context)[0]) == 3


# -- bad files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("study.db", r"store must be a URL such as 'sqlite:///study\.db'"),
        (5, "store must be a URL"),
        ("postgresql://host/db", "store must be on SQLite"),
        ("sqlite://", "store must name a file"),
        ("sqlite:///", "store must name a file"),
        ("sqlite:///:memory:", "store must name a file"),
        ("sqlite:////no/such/folder/x.db", "store must be in an existing folder, got"),
    ],
)
def test_bad_urls_are_refused(url, message):
    with pytest.raises(bt.StoreError, match=message):
        Store(url)


def test_relative_urls_start_at_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///here.db")
    store.close()
    assert (tmp_path / "here.db").stat().st_size > 0


def test_other_files_are_refused_and_left_alone(tmp_path):
    path = tmp_path / "x.db"
    content = b"hello, this is no database at all" * 40
    path.write_bytes(content)
    with pytest.raises(bt.StoreError, match="must be a SQLite database of this library"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == content
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE trials (x)")
    other.commit()
    other.close()
    before = path.read_bytes()
    with pytest.raises(bt.StoreError, match="which another program wrote"):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_other_layouts_are_refused(store, url, version):
    store.close()
    raw = sqlite3.connect(store.path)
    raw.execute(f"PRAGMA user_version = {version}")
    raw.close()
    with pytest.raises(bt.StoreVersionError, match=f"schema version must be {SCHEMA_VERSION}, got {version}"):
        Store(url)
    assert issubclass(bt.StoreVersionError, bt.StoreError)


@pytest.mark.parametrize(("first", "mark"), [(20_000, 0), (1_000_000, 5)])
def test_a_damaged_file_is_named(store, context, url, first, mark):
    store.add(context, rows(*range(50_000)))
    store.close()
    whole = store.path.read_bytes()
    store.path.write_bytes(whole[:first] + bytes(400_000) + whole[first + 400_000 :])
    again = Store(url)
    with pytest.raises(bt.StoreError, match="must be an undamaged database"):
        again.read(context, mark)
    again.close()


def test_a_full_disk_is_named_and_loses_nothing(store, context):
    store.add(context, rows(1))
    pages = store._one("PRAGMA page_count")
    store._run(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(bt.StoreError, match=r"must have room on its disk, .* what was stored before is kept"):
        store.add(context, rows(*range(2, 20_000)))
    store._run("PRAGMA max_page_count = 1000000")
    assert [row.value for row in store.read(context)[0]] == [1.0]
    store.add(context, rows(2))
    assert len(store.read(context)[0]) == 2


def test_a_file_that_may_only_be_read(store, context, url, tmp_path):
    store.add(context, rows(1))
    reader = Store(url, read_only=True)
    assert len(reader.read(context)[0]) == 1
    with pytest.raises(bt.StoreError, match="store must be writable"):
        reader.add(context, rows(2))
    reader.close()
    store.close()
    with pytest.raises(bt.StoreError, match="store must be an existing file"):
        Store(f"sqlite:///{tmp_path / 'none.db'}", read_only=True)


def test_the_mark_of_a_file(store):
    raw = sqlite3.connect(store.path)
    assert raw.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()
    store.be_durable(True)
    assert store._one("PRAGMA synchronous") == 2
    store.be_durable(False)
    assert store._one("PRAGMA synchronous") == 1


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.fixture
def filled(store):
    one = store.context(b"one", "trend", {"objective": "f", "version": "2", "metrics": ["sharpe", "n_trades"]})
    store.add(
        one,
        [
            Row(
                key(1),
                value=1.5,
                metrics=np.array([1.5, 3.0]).tobytes(),
                params=json.dumps({"a": 1, "b": "x"}),
                extra='{"attrs": {"depth": 7}}',
            ),
            Row(key(2), Status.FAILED, params='{"a": 2, "b": null}', extra='{"error": "ValueError: no"}'),
        ],
    )
    return store.url


def invoke(*arguments):
    return CliRunner().invoke(cli.app, ["store", *arguments], env={"COLUMNS": "200"})


def test_store_show(filled):
    done = invoke("show", filled)
    assert done.exit_code == 0
    line = next(line for line in done.output.splitlines() if "trend" in line)
    assert line.split()[:6] == ["1", "trend", "1", "-", "-", "1"]
    assert "1  objective f, version 2\n" in done.output


def test_what_a_context_is_about():
    """Contexts that differ in costs alone can be told apart."""
    said = one_line(
        {
            "numerics_version": 3,
            "costs": {"fee_rate": 0.001, "fixed": 0.0, "maximum": math.inf},
            "window": None,
            "metrics": ["sharpe"],
            "rule": "m.rule",
            "data": "abc",
            "rules": {"reinvest": False},
            "long": "x" * 1000,
        }
    )
    assert said.startswith("rule m.rule, numerics_version 3, costs (fee_rate 0.001), data abc, long xxx")
    assert len(said) < 400


@pytest.mark.parametrize("name", ["out.csv", "out.parquet"])
def test_store_export(filled, tmp_path, name):
    done = invoke("export", filled, str(tmp_path / name))
    assert done.exit_code == 0, done.output
    assert done.output.startswith("2 results written to")
    table = pd.read_csv(tmp_path / name) if name.endswith("csv") else pd.read_parquet(tmp_path / name)
    assert table["a"].tolist() == [1, 2]
    assert table["sharpe"].tolist()[0] == 1.5
    assert table["status"].tolist() == ["done", "failed"]
    assert table["error"].tolist()[1] == "ValueError: no"
    assert table["attrs.depth"].tolist()[0] == 7


def test_store_commands_refuse_what_is_not_there(filled, tmp_path):
    for arguments, message in (
        (("show", f"sqlite:///{tmp_path / 'no.db'}"), "must be an existing file"),
        (("export", filled, "x.txt"), "OUT must end in .csv or .parquet"),
        (("export", filled, "x.csv", "--context", "9"), "context must be one of 1, got 9"),
    ):
        done = invoke(*arguments)
        assert done.exit_code == 2
        assert message in done.stderr

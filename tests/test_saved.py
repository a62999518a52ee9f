"""Damaged folders of saved results, and output that nobody reads."""

import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    strategy = bt.strategies.sma_cross
    result = bt.optimize(
        bt.Bars.sample("GOOG"),
        strategy,
        {"fast": [5, 10], "slow": [20, 50], "stop_loss": [None, 0.1]},
        costs=bt.Costs(fee_rate=0.001),
        progress=False,
    )
    return result.save(tmp_path_factory.mktemp("saved") / "o")


def changed(saved, folder, **changes):
    shutil.copytree(saved, folder)
    written = json.loads((folder / "result.json").read_text()) | changes
    (folder / "result.json").write_text(json.dumps({name: each for name, each in written.items() if each != "none"}))
    return folder


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("result.json", b"{", "damaged result.json in .*: JSONDecodeError"),
        ("result.json", b"\xff\xfe", "UnicodeDecodeError"),
        ("result.json", b"[1]", "it must hold an object, got list"),
        ("result.json", b"[" * 100_000, "RecursionError"),
        ("result.json", b"{}", "schema_version must be from 1 to 2, got None"),
        ("candidates.parquet", b"", "damaged candidates.parquet in"),
        ("candidates.parquet", b"PAR1" * 9, "damaged candidates.parquet in"),
        ("candidates.parquet", None, "damaged candidates.parquet in .*: FileNotFoundError"),
    ],
)
def test_damaged_files_of_a_saved_result_are_named(saved, tmp_path, file, content, message):
    folder = changed(saved, tmp_path / "x")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(bt.InputError, match=message):
        bt.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"provenance": 5}, "provenance must be an object, got 5"),
        ({"parameters": "none"}, "parameters must be a list, got None"),
        ({"schema_version": 3}, "schema_version must be from 1 to 2, got 3"),
        ({"schema_version": True}, "schema_version must be from 1 to 2, got True"),
        ({"metric": "none", "search": "none"}, "it must have metric, search, got none"),
        ({"metric": 1}, "metric must be text, got 1"),
        ({"n_evaluated": True}, "n_evaluated must be a whole number, got True"),
        ({"start": "1"}, "start must be a whole number or an object, got '1'"),
        (
            {"schema_version": 1, "provenance": {"metric": "sharpe"}},
            "provenance must have start, search, n_evaluated, is_interrupted, got none",
        ),
        ({"parameters": ["no"]}, "must have rows and a column for each of no, sharpe"),
        ({"mixed": ["sharpe"]}, "damaged candidates.parquet in .*: ValueError: malformed"),
    ],
)
def test_results_that_do_not_fit_are_named(saved, tmp_path, changes, message):
    with pytest.raises(bt.InputError, match=message):
        bt.load(changed(saved, tmp_path / "x", **changes))


def test_random_damage_to_a_saved_result_is_never_a_raw_error(saved, tmp_path):
    chance, whole = random.Random(3), {}
    shutil.copytree(saved, tmp_path / "x")
    for name in ("result.json", "candidates.parquet"):
        whole[name] = (saved / name).read_bytes()
    for turn in range(200):
        name = chance.choice(list(whole))
        content = bytearray(whole[name])
        if turn % 4:
            for _ in range(chance.randrange(1, 5)):
                content[chance.randrange(len(content))] = chance.randrange(256)
        else:
            del content[chance.randrange(len(content)) :]
        (tmp_path / "x" / name).write_bytes(content)
        with contextlib.suppress(bt.BacktestError):
            bt.load(tmp_path / "x")
        (tmp_path / "x" / name).write_bytes(whole[name])


@pytest.mark.skipif(os.name != "posix", reason="pipes of a shell")
@pytest.mark.parametrize("command", ["backend", "--help", "optimize --no-progress"])
def test_a_reader_that_goes_away_is_no_error(command):
    child = subprocess.Popen([sys.executable, "-m", "backtest", *command.split()], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()  # as head does, when it has seen enough
    assert child.stderr.read() == b""
    assert child.wait() == 141
    child.stderr.close()


def test_a_reader_that_has_seen_it_all_is_no_end():
    done = subprocess.run(f"{sys.executable} -m backtest backend | cat", shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(("cython", "python"))
    assert "141" in CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).output


def test_a_result_is_frozen(saved):
    loaded = bt.load(saved)
    with pytest.raises(dataclasses.FrozenInstanceError):
        loaded.metric = "calmar"
    with pytest.raises(bt.InputError, match=r"no bars to replay .*; call bt\.run\(bars, strategy, result\.best_params, costs="):
        _ = loaded.best


GOOG, CROSS, GRID = bt.Bars.sample("GOOG"), bt.strategies.sma_cross, {"fast": [5, 10], "slow": [20, 50]}


def call_of(result):
    """The code of ``how_to_replay``, which ends at its sentence."""
    return re.split(r" for each |, with the ", result.how_to_replay)[0]


@pytest.mark.parametrize("window", [None, slice(100, 900), slice(-500, None), slice("2006", "2008")])
def test_how_to_replay_is_code_that_replays(tmp_path, window):
    costs, execution = bt.Costs(fee_rate=0.001), bt.Execution(size=0.5, sides="long", start=70)
    found = bt.optimize(GOOG, CROSS, GRID, costs=costs, execution=execution, window=window, progress=False)
    result = bt.load(found.save(tmp_path))
    assert "costs and execution of the search (result.provenance has them)" in result.how_to_replay
    names = {
        "bt": bt,
        "bars": GOOG,
        "strategy": CROSS,
        "result": result,
        "costs": bt.Costs(**result.provenance["costs"]),
        "execution": bt.Execution(**result.provenance["execution"]),
    }
    assert (names["costs"], names["execution"].replace(start=70)) == (costs, execution)
    assert eval(call_of(result), names).stats["sharpe"] == result.best_value
    assert result.provenance == found.provenance


@pytest.mark.parametrize("window", [None, slice(100, 900), [slice(100, 500), slice(500, 900)]])
def test_how_to_replay_several_cells(tmp_path, window):
    symbols = {"GOOG": GOOG, "IBM": bt.Bars.sample("IBM")}
    found = bt.optimize(symbols, CROSS, GRID, costs=bt.Costs.zero(), window=window, progress=False)
    result = bt.load(found.save(tmp_path))
    windows = result.provenance["window"] if isinstance(window, list) else [result.provenance["window"]]
    assert " for each symbol" in result.how_to_replay
    assert ("window in result.provenance['window']" in result.how_to_replay) == (window is not None)
    for symbol in symbols:
        for place, each in enumerate(windows):
            names = {"bt": bt, "bars": symbols, "strategy": CROSS, "result": result, "symbol": symbol, "window": each}
            names |= {"costs": bt.Costs.zero(), "execution": bt.Execution()}
            run = eval(call_of(result), names)
            of = [cell for cell in result.provenance["cells"] if cell.startswith(symbol)][place]
            assert run.stats["sharpe"] == result.table[f"sharpe@{of}"].iloc[0]


def test_how_to_replay_weights(tmp_path):
    close = pd.DataFrame({"a": GOOG.close[:300], "b": GOOG.close[300:600]})

    def rule(params):
        return np.full(close.shape, params["weight"])

    found = bt.optimize_weights(
        rule, {"weight": [0.2, 0.4]}, close=close, fill="close", rf=0.01, periods_per_year=252, window=slice(20, 200),
        costs=bt.Costs(fee_rate=0.001), progress=False,
    )  # fmt: skip
    result = bt.load(found.save(tmp_path))
    names = {"bt": bt, "rule": rule, "close": close, "result": result, "costs": bt.Costs(**result.provenance["costs"])}
    assert eval(call_of(result), names).stats["sharpe"] == result.best_value


def test_provenance_of_earlier_files_has_infinities(saved, tmp_path):
    written = json.loads((saved / "result.json").read_text())
    assert written["provenance"]["costs"]["maximum"] == "Infinity"  # JSON has no such number
    written["provenance"]["costs"]["maximum"] = None
    loaded = bt.load(changed(saved, tmp_path / "x", provenance=written["provenance"]))
    assert bt.Costs(**loaded.provenance["costs"]) == bt.Costs(fee_rate=0.001)


def test_a_summary_comes_back(saved, tmp_path):
    loaded = bt.load(saved)
    again = bt.optimize(
        GOOG, CROSS, GRID | {"stop_loss": [None, 0.1]}, costs=bt.Costs(fee_rate=0.001), progress=False
    )  # as in saved
    pd.testing.assert_series_equal(loaded.summary, again.summary)
    assert loaded.distribution is None
    with pytest.raises(bt.InputError, match="a result of this file has no summary"):
        _ = bt.load(changed(saved, tmp_path / "x", summary=None)).summary

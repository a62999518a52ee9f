"""Another driver for a study in a store: ``backtest worker``."""

import subprocess
import sys
import textwrap

import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli
from backtest.study.join import imported, join
from backtest.study.store import Status, Store

PROGRAM = textwrap.dedent("""
    import pathlib, sys, time
    import backtest as bt

    helping = pathlib.Path("helping")

    def objective(params, trial):
        if __name__ != "__main__":
            helping.touch()
        time.sleep(0.005 if helping.exists() else 0.05)  # however long the helper takes to start
        return -abs(params["a"] - 30) + params.get("b", 0)

    if __name__ == "__main__":
        space = bt.Space({"kind": ["x", None], "a": range(60), "b": {"choices": [0, 1], "when": "kind == 'x'"}}, where="a > 2")
        study = bt.Study(space, objective, name="joined", version="3", store=sys.argv[1], data="d", sampler="random",
                         direction="maximize", seed=4)
        print("ready", flush=True)
        study.run(int(sys.argv[2]), progress=False)
        print(study.best_value, study.summary.evaluated, flush=True)
""")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A program in the working folder, and its store."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "joined_program.py").write_text(PROGRAM)
    return "sqlite:///joined.db"


def run(url, trials):
    command = [sys.executable, "-W", "error", "joined_program.py", url, str(trials)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def worker(url, *more):
    return subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "backtest",
            "worker",
            "--store",
            url,
            "--study",
            "joined",
            "--objective",
            "joined_program:objective",
            "--no-progress",
            *more,
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_worker_helps(program):
    first = run(program, 171)
    assert first.stdout.readline() == "ready\n"
    helped = worker(program)
    out = first.communicate(timeout=120)[0].split()
    assert helped.returncode == 0, helped.stderr
    by_worker = int(helped.stdout.split(": ")[1].split()[0])
    assert by_worker > 0
    assert int(out[1]) + by_worker == 171
    assert float(out[0]) == 1.0
    store = Store(program)
    assert store.counts(1) == {Status.DONE: 171}
    store.close()


def test_a_worker_goes_on_alone(program):
    run(program, 20).communicate(timeout=120)
    done = worker(program, "--trials", "50", "--processes", "1", "--version", "3")
    assert done.stdout.startswith("done: 30 candidates evaluated, 20 known before"), done.stderr


def objective(params, trial):
    return params["a"]


def test_what_is_joined_is_the_same_study(tmp_path):
    url = f"sqlite:///{tmp_path / 'x.db'}"
    space = {"g": {"a": range(9)}, "x": {"low": 1e-3, "high": 1.0, "log": True}}
    study = bt.Study(
        space, objective_of_group, name="n", version="1", store=url, direction=["minimize", "maximize"], sampler="nsga2", seed=7
    )
    study.run(5, progress=False)
    joined = join(url, "n", objective_of_group)
    assert (repr(joined.space), joined.directions, joined.sampler, joined.seed) == (
        repr(study.space),
        ["minimize", "maximize"],
        "nsga2",
        7,
    )
    assert [each.digest for each in joined.trials] == [each.digest for each in study.trials]
    assert join(url, "n", objective_of_group, seed=1).seed == 1
    with pytest.raises(bt.FingerprintMismatch, match=r"objective 'test_study_join\.objective_of_group' there"):
        join(url, "n", objective)
    for wrong in ({"name": "m"}, {"name": "n", "version": "2"}):
        with pytest.raises(bt.StoreError, match=r"must be in the store, got none"):
            join(url, objective=objective_of_group, **wrong)


def objective_of_group(params, trial):
    return params["g.a"], params["x"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "objective must be 'package.module:name', got 'nothing'"),
        ("no.such:thing", "must name something importable"),
        ("os:no_such", "must name something importable"),
        ("os:1x", "objective must be 'package"),
    ],
)
def test_objectives_that_cannot_be_imported(path, message):
    with pytest.raises(bt.InputError, match=message):
        imported(path)


def test_the_command_refuses_what_is_not_there(tmp_path):
    command = ["worker", "--store", f"sqlite:///{tmp_path / 'x.db'}", "--study", "a", "--objective", "os:getpid"]
    done = CliRunner().invoke(cli.app, command)
    assert done.exit_code == 2
    assert "must be an existing file" in done.stderr

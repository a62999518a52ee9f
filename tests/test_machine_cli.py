"""Functions and the bar machine's engine in configurations, and on the command line."""

import sys

import pytest
from conftest import ROOT
from test_cli import SMALL, invoke

import backtest as bt
from backtest.config import optimize as config

FUNCTION = """\
import backtest as bt
from backtest import lines, rules


@bt.on_bar(mean=lines.sma(lines.close, bt.param("n")), params={"stop": 0.1})
def dips(bar, account, state, p):
    if account.is_flat:
        account.buy(share=1.0, limit=bar.mean, valid_bars=5, stop_loss=bt.below_entry(p.stop))


def plain(bar, account, state, p):
    account.buy(units=1)


trend = rules.Strategy(enter_long=lines.close > lines.sma(lines.close, bt.param("n")), name="trend")
number = 5
"""
TEXT = """\
strategy = "{name}"

[data]
sample = "GOOG"

[space]
n = [20, 50]
stop = [0.05, 0.1]

[params]
n = 20

[costs]
fee_rate = 0.001

[search]
metric = "sharpe"
window = [0, 400]
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # the configuration's folder is added
    (tmp_path / "machine_own.py").write_text(FUNCTION)
    yield tmp_path
    sys.modules.pop("machine_own", None)


def write(folder, name="machine_own:dips", **changed):
    text = TEXT.format(name=name)
    for old, new in changed.items():
        assert f"\n{old}" in text
        text = text.replace(f"\n{old}", f"\n{new}")
    (folder / "c.toml").write_text(text)


def test_a_function_of_a_module_beside_the_configuration(folder, backend):
    write(folder)
    code, out = invoke("optimize", "c.toml", "--out", "found")
    assert code == 0, out
    assert "4 of 4 candidates evaluated" in out
    loaded = bt.load(folder / "found")
    assert loaded.provenance["engine"] == "machine"
    assert loaded.provenance["strategy"] == "BarStrategy(dips: n, stop (default 0.1))"
    assert (folder / "found" / "trades.csv").exists()
    code, out = invoke("run", "c.toml", "--out", "one")
    assert code == 0, out
    assert "Candidate" in out
    rows = (folder / "one" / "orders.csv").read_text().splitlines()
    assert {row.rpartition(",")[2] for row in rows[1:]} >= {"filled", "replaced"}


def test_both_ways_to_name_a_strategy(folder):
    write(folder)
    short = config.read(folder / "c.toml").strategy
    (folder / "c.toml").write_text(SMALL.replace("sma_cross", "machine_own:dips").replace('stop_loss = ["none", 0.05]\n', ""))
    long = config.read(folder / "c.toml").strategy
    assert short is long
    assert short.name == "dips"
    write(folder, "machine_own:trend")
    assert isinstance(config.read(folder / "c.toml").strategy, bt.Strategy)
    write(folder, "sma_cross")
    assert config.read(folder / "c.toml").strategy is bt.strategies.sma_cross


def test_rules_on_the_machine(folder, backend):
    text = SMALL + '[execution]\nengine = "machine"\n'
    (folder / "c.toml").write_text(text.replace('metric = "sharpe"', 'metric = "sharpe"\nwindow = [0, 400]'))
    code, out = invoke("optimize", "c.toml", "--out", "found")
    assert code == 0, out
    assert bt.load(folder / "found").provenance["execution"]["engine"] == "machine"
    assert bt.load(folder / "found").provenance["engine"] == "machine"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("machine_own:dip", "strategy must name something importable, got 'machine_own:dip'"),
        ("machine_own:dip", "did you mean 'dips'?"),
        ("machine_own:plain", "got function at 'machine_own:plain'; decorate it with @bt.on_bar"),
        ("machine_own:number", "strategy must be a Strategy, or a function with @bt.on_bar, got int at 'machine_own:number'"),
        ("nowhere:dips", "strategy must name something importable, got 'nowhere:dips'"),
        ("dips", "strategy must be one of sma_cross or 'package.module:name', got 'dips'"),
    ],
)
def test_names_that_are_no_strategy(folder, name, message):
    write(folder, name)
    code, out = invoke("optimize", "c.toml")
    assert code == 2
    assert message in out


def test_a_function_that_is_refused_says_where(folder):
    (folder / "machine_own.py").write_text(FUNCTION.replace("bar.mean,", "bar.meen,"))
    write(folder)
    code, out = invoke("optimize", "c.toml")
    assert code == 2
    assert "machine_own.py:8" in out
    assert "meen" in out
    assert "mean" in out


def test_a_fault_says_where(folder, backend):
    write(folder, **{"n = 20": "n = 20\nstop = 1.5"})
    code, out = invoke("run", "c.toml")
    assert code == 2
    assert "bt.below_entry of stop_loss must be > 0 and < 1 (a fraction: 0.05 for 5 %), got 1.5: account.buy(" in out
    assert "machine_own.py:8), bar 1" in out


@pytest.mark.parametrize(
    ("engine", "message"),
    [('"events"', "engine must be one of None, 'machine', got 'events'"), ("5", "engine must be one of None, 'machine', got 5")],
)
def test_an_engine_that_there_is_not(folder, engine, message):
    (folder / "c.toml").write_text(SMALL + f"[execution]\nengine = {engine}\n")
    code, out = invoke("optimize", "c.toml")
    assert code == 2
    assert message in out


def test_a_strategy_is_a_section_or_a_text(folder):
    write(folder)
    (folder / "c.toml").write_text((folder / "c.toml").read_text().replace('"machine_own:dips"', "5"))
    code, out = invoke("optimize", "c.toml")
    assert code == 2
    assert "section 'strategy' must be a table [strategy], got 5" in out


def test_the_example_is_read_and_runs(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = config.read(ROOT / "docs" / "examples" / "cooldown.toml")
    assert found.strategy.name == "cooldown"
    assert found.space.size == 594
    run = bt.run(found.bars, found.strategy, found.params, costs=found.costs, execution=found.execution, window=slice(0, 500))
    assert run.stats["n_trades"] > 5

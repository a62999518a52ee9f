"""The command line: in process with CliRunner, and as people run it, in a subprocess."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from typer.testing import CliRunner

import backtest as bt
from backtest import cli
from backtest.config import optimize as config
from backtest.tables import sparkline

SMALL = """\
[data]
sample = "GOOG"

[strategy]
name = "sma_cross"

[space]
fast = [5, 10]
slow = { low = 20, high = 40, step = 10 }
stop_loss = ["none", 0.05]
where = "fast < slow"

[params]
fast = 5
slow = 20
stop_loss = "none"

[costs]
fee_rate = 0.001

[search]
metric = "sharpe"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))  # a custom strategy's folder is added
    (tmp_path / "small.toml").write_text(SMALL)
    return tmp_path


def invoke(*arguments):
    """Exit code and everything printed, lines joined: widths of terminals do not matter."""
    wide = {"COLUMNS": "300", "TERM": "dumb", "NO_COLOR": "1"}
    for console in (cli.console, cli.errors):
        console._width, console.no_color = 300, True
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), env=wide)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def process(*arguments, **more):
    env = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"} | more.pop("env", {})
    return subprocess.run(
        [sys.executable, "-m", "backtest", *map(str, arguments)], capture_output=True, text=True, env=env, timeout=60, **more
    )


def expected(**more):
    space = {"fast": [5, 10], "slow": range(20, 41, 10), "stop_loss": [None, 0.05]}
    return bt.optimize(bt.Bars.sample(), bt.strategies.sma_cross, space, costs=bt.Costs(fee_rate=0.001), **more)


# -- optimize ----------------------------------------------------------------------------------------------------------


def test_optimize_prints_what_optimize_finds(folder):
    code, out = invoke("optimize", "small.toml")
    best = expected()
    assert code == 0
    assert "12 candidates of 12 combinations, where fast < slow" in out
    assert f"fast = {best.best_params['fast']}, slow = {best.best_params['slow']}" in out
    assert f"{best.best_value:.3f}" in out
    assert "first decision on bar 40 for every candidate (2004-10-15)" in out
    assert "done: 12 of 12 candidates evaluated" in out


def test_optimize_writes_its_files(folder):
    code, out = invoke("optimize", "small.toml", "--out", "deep/results")
    assert code == 0
    assert "written to deep/results" in out
    written, best = folder / "deep" / "results", expected()
    assert sorted(path.name for path in written.iterdir()) == ["candidates.parquet", "equity.csv", "result.json", "trades.csv"]
    loaded = bt.load(written)
    pd.testing.assert_frame_equal(loaded.table, best.table)
    assert loaded.best_params == best.best_params
    saved = json.loads((written / "result.json").read_text())
    assert saved["provenance"]["costs"]["fee_rate"] == 0.001
    assert saved["best_value"] == best.best_value
    assert len(pd.read_csv(written / "trades.csv")) == len(best.best.trades)
    assert pd.read_csv(written / "equity.csv")["equity"].iloc[-1] == best.best.equity.iloc[-1]


def test_options_go_before_the_configuration(folder):
    code, out = invoke("optimize", "small.toml", "--metric", "total_return", "--top", "2", "--threads", "1", "--no-progress")
    assert code == 0
    assert "Best 2 of 12 candidates by Total return" in out
    assert f"{expected(metric='total_return').best_value:.2%}" in out


def test_search_section_reaches_optimize(folder):
    search = 'metric = "cagr"\nn_trials = 5\nseed = 3\nmin_trades = 2\nkeep = 4\nwindow = [500, 1500]\nn_threads = 1\n'
    text = SMALL.replace('metric = "sharpe"\n', search)
    (folder / "c.toml").write_text(text + '[execution]\nsides = "long"\nstart_cash = 5000.0\n')
    assert invoke("optimize", "c.toml", "--out", "o")[0] == 0
    execution = bt.Execution(sides="long", start_cash=5000)
    best = expected(metric="cagr", n_trials=5, seed=3, min_trades=2, keep=4, window=slice(500, 1500), execution=execution)
    pd.testing.assert_frame_equal(bt.load(folder / "o").table, best.table)


def test_continuous_ranges_and_methods_reach_optimize(folder):
    text = SMALL.replace('stop_loss = ["none", 0.05]', "stop_loss = { low = 0.01, high = 0.3, log = true }")
    (folder / "c.toml").write_text(text.replace("[search]", '[search]\nmethod = "evolution"\nn_trials = 50\nseed = 4'))
    code, out = invoke("optimize", "c.toml", "--out", "o")
    assert code == 0
    assert "infinitely many candidates, where fast < slow" in out
    assert "0.01..0.3 log" in out
    assert "evolution, as asked for; done: 50 of 50 candidates evaluated" in out
    space = bt.Space(
        {"fast": [5, 10], "slow": range(20, 41, 10), "stop_loss": {"low": 0.01, "high": 0.3, "log": True}}, where="fast < slow"
    )
    best = bt.optimize(
        bt.Bars.sample(), bt.strategies.sma_cross, space, costs=bt.Costs(fee_rate=0.001), method="evolution", n_trials=50, seed=4
    )
    pd.testing.assert_frame_equal(bt.load(folder / "o").table, best.table)


@pytest.mark.parametrize("data", ['samples = ["GOOG", "AAPL"]', 'files = { GOOG = "g.csv", AAPL = "a.parquet" }'])
def test_symbols_and_windows_reach_optimize(folder, data):
    bars = {symbol: bt.Bars.sample(symbol) for symbol in ("GOOG", "AAPL")}
    bars["GOOG"].to_frame().to_csv(folder / "g.csv")
    bars["AAPL"].to_frame().to_parquet(folder / "a.parquet")
    text = SMALL.replace('sample = "GOOG"', data) + 'window = [[0, 1000], [1000, 2148]]\naggregate = "min"\n'
    (folder / "c.toml").write_text(text)
    code, out = invoke("optimize", "c.toml", "--out", "o")
    assert code == 0
    space = bt.Space({"fast": [5, 10], "slow": range(20, 41, 10), "stop_loss": [None, 0.05]}, where="fast < slow")
    best = bt.optimize(
        bars,
        bt.strategies.sma_cross,
        space,
        costs=bt.Costs(fee_rate=0.001),
        aggregate="min",
        window=[slice(0, 1000), slice(1000, 2148)],
    )
    pd.testing.assert_frame_equal(bt.load(folder / "o").table, best.table)
    lines = " ".join(out.split())
    begin, end = (str(bars["AAPL"].times()[bar].date()) for bar in (1000, 2147))
    assert f"window 1000:2148 of AAPL: bars 1000 to 2147, {begin} to {end}" in lines
    assert "first decision on bar 40 of AAPL in 0:1000 for every candidate (2000-04-27)" in lines
    assert f"first decision on bar 1000 of AAPL in 1000:2148 for every candidate ({begin}); start is bar 40" in lines
    for cell in best.best:
        assert any(line.startswith(f"{cell} ") and f"{best.best[cell].stats['sharpe']:.3f}" in line for line in out.splitlines())
    assert f"min {best.best_value:.3f}" in " ".join(out.split())
    code, out = invoke("run", "c.toml")
    assert code == 2
    assert "[data] must have sample or file to run one candidate, got GOOG, AAPL" in out
    (folder / "c.toml").write_text(SMALL + "window = [[0, 1000], [1000, 2148]]\n")
    assert invoke("run", "c.toml") == (2, "error: window must be one pair [first, last] to run one candidate, got 2 windows\n")


@pytest.mark.parametrize(
    ("window", "name", "bars"),
    [
        ("[500, 1500]", "500:1500", "bars 500 to 1499, 2006-08-14 to 2010-08-03"),
        ('["2010", "none"]', "2010:", "bars 1353 to 2147, 2010-01-04 to 2013-03-01"),
    ],
)
def test_windows_are_printed_with_the_first_bar_that_decides(folder, window, name, bars):
    first, date = bars.split()[1], bars.split()[4]
    (folder / "c.toml").write_text(f"{SMALL}window = {window}\n")
    out = " ".join(invoke("optimize", "c.toml")[1].split())
    assert f"window {name}: {bars}" in out
    assert f"first decision on bar {first} for every candidate ({date}); start is bar 40" in out
    out = " ".join(invoke("run", "c.toml")[1].split())
    assert f"window {name}: {bars}" in out
    assert f"first decision on bar {first} ({date})" in out


def test_none_in_choices_is_none(folder):
    code, out = invoke("optimize", "small.toml", "--top", "12")
    assert code == 0
    assert "[None, 0.05]" in out
    rows = [line.split() for line in out.splitlines() if line.strip()[:2].strip().isdigit() and "%" in line]
    assert [row[3] for row in rows].count("off") == 6
    assert [row[3] for row in rows].count("0.05") == 6


def test_undefined_metrics_are_a_dash(folder):
    (folder / "c.toml").write_text(SMALL.replace("[search]", "[search]\nwindow = [2140, 2148]\nmin_trades = 0"))
    with pytest.warns(bt.NumericsWarning, match="no candidate has a defined sharpe"):
        code, out = invoke("optimize", "c.toml")
    assert code == 0
    assert "nan" not in out.lower()
    assert " - " in out


# -- data --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["prices.csv", "prices.parquet", "odd [bold] [x].csv"])
def test_file_data_lies_next_to_the_configuration(folder, name):
    frame = bt.Bars.sample("IBM").to_frame()
    (folder / "sub").mkdir()
    (frame.to_parquet if name.endswith("parquet") else frame.to_csv)(folder / "sub" / name)
    (folder / "sub" / "c.toml").write_text(SMALL.replace('sample = "GOOG"', f'file = "{name}"\nsymbol = "X"'))
    code, out = invoke("optimize", "sub/c.toml", "--out", "o")
    assert code == 0
    assert name in out
    assert json.loads((folder / "o" / "result.json").read_text())["provenance"]["data"] == bt.Bars.sample("IBM").content_hash


def test_suspicious_data_is_said_once(folder):
    frame = bt.Bars.sample().to_frame()
    frame.iloc[:1000, :4] *= 2
    frame.to_csv(folder / "old.csv")
    (folder / "c.toml").write_text(SMALL.replace('sample = "GOOG"', 'file = "old.csv"'))
    code, out = invoke("optimize", "c.toml")
    assert code == 0
    assert out.count("old.csv looks suspicious, nothing was corrected: close is 495.01 after 958.24, nearly 2 times less") == 1


def test_markup_in_names_is_text(folder):
    (folder / "p.csv").write_text(bt.Bars.sample().to_frame().to_csv())
    text = SMALL.replace('sample = "GOOG"', 'file = "p.csv"\nsymbol = "[/bold]"').replace("fast < slow", "fast in [5, 10]")
    (folder / "c.toml").write_text(text)
    code, out = invoke("run", "c.toml")
    assert code == 0
    assert "[/bold]" in out
    code, out = invoke("optimize", "c.toml")
    assert code == 0
    assert "where fast in [5, 10]" in out


# -- custom strategies -------------------------------------------------------------------------------------------------

CUSTOM = """\
import backtest as bt
from backtest import lines, rules

trend = rules.Strategy(enter_long=lines.close > lines.sma(lines.close, bt.param("n")),
                       exit_long=lines.close < lines.sma(lines.close, bt.param("n")), name="trend")
number = 5
"""


def custom(folder, name, space="[space]\nn = [20, 50, 100]\n"):
    text = SMALL.replace('"sma_cross"', f'"{name}"')
    (folder / "c.toml").write_text(text[: text.index("[space]")] + space + text[text.index("[costs]") :])


@pytest.mark.parametrize("place", ["cli_trend.py", "cli_pack/cli_trend.py"])
def test_custom_strategy_next_to_the_configuration(folder, place):
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text(CUSTOM)
    custom(folder, place.removesuffix(".py").replace("/", ".") + ":trend")
    done = process("optimize", folder / "c.toml", cwd="/")
    assert (done.returncode, done.stderr) == (0, "")
    assert "3 candidates" in done.stdout
    assert "n = " in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "cli_missing:trend",
            "strategy must name something importable, got 'cli_missing:trend': "
            "ModuleNotFoundError: No module named 'cli_missing'",
        ),
        ("cli_own:absent", "strategy must name something importable, got 'cli_own:absent'"),
        ("cli_own:number", "strategy must be a Strategy, or a function with @bt.on_bar, got int at 'cli_own:number'"),
        (":trend", "strategy must be 'package.module:name', got ':trend'"),
        ("cli_own:", "strategy must be 'package.module:name', got 'cli_own:'"),
        (".cli_own:trend", "strategy must be 'package.module:name', got '.cli_own:trend'"),
        ("sma_cros", "strategy must be one of sma_cross or 'package.module:name', got 'sma_cros'; did you mean 'sma_cross'?"),
    ],
)
def test_bad_strategies_are_refused(folder, name, message):
    (folder / "cli_own.py").write_text(CUSTOM)
    custom(folder, name)
    code, out = invoke("optimize", "c.toml")
    assert code == 2
    assert message in out


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[costs]", "[cost]", "section 'cost' is not known (known: data, strategy, space, params, costs, execution, search)"),
        ("[costs]", "[cost]", "; did you mean 'costs'?"),
        ("fee_rate", "fee_rat", "key of [costs] 'fee_rat' is not known"),
        ("fee_rate", "fee_rat", "did you mean 'fee_rate'?"),
        ("metric =", "metrik =", "did you mean 'metric'?"),
        ("sample =", "sampel =", "did you mean 'sample'?"),
        ("[strategy]\nname", "[strategy]\nnmae", "key of [strategy] 'nmae' is not known"),
        ('name = "sma_cross"', "", "[strategy] must have a name, one of sma_cross or 'package.module:name', got None"),
        ("[costs]\nfee_rate = 0.001", "", "section [costs] must be there, got none; fee_rate = 0.0 says no costs"),
        ("fee_rate = 0.001", "slippage = 0.1", "[costs] must have 'fee_rate', got {'slippage': 0.1}"),
        ("fee_rate = 0.001", "fee_rate = -1", "fee_rate must be >= 0, got -1"),
        ('sample = "GOOG"', "", "[data] must have one of sample, samples, file and files, got {}"),
        ('sample = "GOOG"', 'sample = "GOOG"\nfile = "x.csv"', "[data] must have one of sample, samples, file and files"),
        ('sample = "GOOG"', 'sample = "GOOG"\nsymbol = "X"', "symbol of [data] must go with file, got sample = 'GOOG'"),
        ('sample = "GOOG"', 'sample = "GOGO"', "did you mean 'GOOG'?"),
        ('sample = "GOOG"', "sample = 5", "sample of [data] must be text, got 5"),
        ('sample = "GOOG"', "file = 5", "file of [data] must be a file, or a table such as"),
        ('sample = "GOOG"', 'file = "none.csv"', "path must be an existing file, got"),
        ('sample = "GOOG"', 'file = "small.toml"', "path must end in .csv, .csv.gz, .tsv, .txt or .parquet, got 'small.toml'"),
        ("fast < slow", "fast < slwo", "did you mean 'slow'?"),
        ("fast < slow", "exit()", "where may hold parameters"),
        ('where = "fast < slow"', "where = 5", "where must be a string such as 'fast < slow', got 5"),
        ("slow = {", "slwo = {", "where must name parameters"),
        ("low = 20", "lo = 20", "key of slow 'lo' is not known"),
        ("low = 20", "low = 50", "slow.low must be <= high (40), got 50"),
        ("fast = [5, 10]", "fast = []", "fast must have at least one value"),
        ("fast = [5, 10]", "fast = [[5]]", "fast must hold numbers, strings, booleans or None, got [5]"),
        ("fast = [5, 10]", 'fast = ["x"]', "where must compare values of one kind, got 'fast < slow'"),
        ("fast = [5, 10]", "fast = [5.5]", "window of sma(close, fast) must be a whole number >= 1, got 5.5"),
        ('metric = "sharpe"', 'metric = "sharp"', "did you mean 'sharpe'?"),
        ('metric = "sharpe"', "metric = 5", "metric 5 is not known"),
        ('metric = "sharpe"', 'n_trials = "x"', "n_trials must be a whole number >= 1, got 'x'"),
        ('metric = "sharpe"', "seed = -1", "seed must be a whole number >= 0, got -1"),
        ('metric = "sharpe"', "window = [1, 2, 3]", "or a list of such pairs, got [1, 2, 3]\n"),
        ('metric = "sharpe"', "window = [[1, 2], [3]]", "or a list of such pairs, got [3]\n"),
        ('metric = "sharpe"', 'window = ["2010"]', 'where "none" is an open end, or a list of such pairs, got ["2010"]\n'),
        ('metric = "sharpe"', 'window = ["", "2010"]', 'or a list of such pairs, got ["", "2010"]\n'),
        ('metric = "sharpe"', 'window = [100, "2012-06"]', 'window must be two bar numbers or two dates, got 100 to "2012-06"\n'),
        ("[data]", "window = [1, 9]\n[data]", "window must stand in [search], got it outside of its section\n"),
        ("[costs]", "[costs]\nwindow = [1, 9]", "window must stand in [search], got it in [costs]\n"),
        ('metric = "sharpe"', 'aggregate = "max"', "aggregate must be one of 'median', 'mean', 'min', got 'max'"),
        ('sample = "GOOG"', 'samples = "GOOG"', "samples of [data] must be a list of symbols, got 'GOOG'"),
        ('sample = "GOOG"', 'samples = ["GOOG", "GOOG"]', "samples of [data] must hold each symbol once, got"),
        ('sample = "GOOG"', "files = { A = 5 }", "files of [data], A, must be a file, or a table such as"),
        ('sample = "GOOG"', 'samples = ["GOOG"]\nsymbol = "X"', "symbol of [data] must go with file, got samples = ['GOOG']"),
        ('metric = "sharpe"', "window = [0, 10]", "window must leave a bar to trade"),
        ('metric = "sharpe"', '[execution]\nfill = "open"', "fill must be one of 'next_open', 'close', got 'open'"),
        ('metric = "sharpe"', "[execution]\ncash = 5", "cash of [execution] is now start_cash\n"),
        (
            'metric = "sharpe"',
            "[execution]\nsize_type = 'cash'",
            "size_type must be one of 'equity', 'value', got 'cash', which is",
        ),
        ('metric = "sharpe"', "[execution]\nsizes = 5", "key of [execution] 'sizes' is not known"),
        ("[search]", "search = 5\n[other]", "is not known"),
        ("[data]", "costs = 1\n[data]", "CONFIG must be TOML"),
        ("[data]", "[data", "CONFIG must be TOML, got"),
    ],
)
def test_bad_configurations_end_in_one_line_and_code_2(folder, old, new, message):
    assert old in SMALL
    (folder / "bad.toml").write_text(SMALL.replace(old, new, 1))
    code, out = invoke("optimize", "bad.toml")
    assert code == 2
    assert message in out
    assert out.count("error:") == 1
    assert "Traceback" not in out


def test_a_section_that_is_no_table_is_refused(folder):
    (folder / "bad.toml").write_text("costs = 5\n")
    assert invoke("optimize", "bad.toml") == (2, "error: section 'costs' must be a table [costs], got 5\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optimize", "none.toml"], "CONFIG must be an existing TOML file, got 'none.toml'"),
        (["optimize", "."], "CONFIG must be an existing"),
        (["optimize", "binary.toml"], "CONFIG must be TOML, got 'binary.toml'"),
        (["run", "none.toml"], "CONFIG must be an existing TOML file"),
        (["optimize", "small.toml", "--metric", "sharp"], "did you mean 'sharpe'?"),
        (["optimize", "small.toml", "--threads", "0"], "n_threads must be a whole number >= 1, got 0"),
        (["optimize", "small.toml", "--out", "small.toml"], "small.toml"),
        (["run", "small.toml", "--out", "small.toml"], "small.toml"),
        (["example", "optimise"], "example must be one of 'optimize', 'levels', 'portfolio', got 'optimise'; did you mean"),
        (["optimize", "params.toml"], "section [space] must be there to optimize, got none; backtest run takes [params]"),
        (["run", "space.toml"], "section [params] must be there to run one candidate, got none"),
        (["optimize", "small.toml", "--top", "0"], "top"),
        (["optimize", "small.toml", "--wat"], "No such option"),
        (["optimise"], "No such command"),
        (["run"], "Missing argument"),
    ],
)
def test_bad_arguments_end_in_code_2(folder, arguments, message):
    (folder / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (folder / "params.toml").write_text(SMALL[: SMALL.index("[space]")] + SMALL[SMALL.index("[params]") :])
    (folder / "space.toml").write_text(SMALL[: SMALL.index("[params]")] + SMALL[SMALL.index("[costs]") :])
    code, out = invoke(*arguments)
    assert code == 2
    assert message in out
    assert "Traceback" not in out


def test_a_folder_that_cannot_be_written_is_refused_before_the_search(folder):
    code, out = invoke("optimize", "small.toml", "--out", "small.toml/x")
    assert code == 2
    assert "Best candidate" not in out


def test_bad_input_leaves_no_traceback_in_a_process(folder):
    (folder / "bad.toml").write_text(SMALL.replace("fast < slow", "fast < slwo"))
    done = process("optimize", "bad.toml", cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        "error: where must name parameters (fast, slow, stop_loss), got 'slwo' in 'fast < slwo'; did you mean 'slow'?"
    ]


# -- interruption ------------------------------------------------------------------------------------------------------

SLOW = """\
import itertools, pathlib, time
import backtest as bt
from backtest import rules, search, signals

search.grid.__kwdefaults__["batch_size"] = 4096
evaluate, full_batches = signals.StrategyEvaluator.__call__, itertools.count(1)

def waits_in_the_second_batch(self, batch, window=None):
    if len(batch) == 4096 and next(full_batches) == 2:
        (pathlib.Path(__file__).parent / "ready").touch()
        time.sleep(60)
    return evaluate(self, batch, window)

signals.StrategyEvaluator.__call__ = waits_in_the_second_batch

@bt.line("n")
def level(bars, n):
    return bars.close / n

strategy = rules.Strategy(enter_long=level() > 1, exit_long=level() < 1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child on Windows")
def test_ctrl_c_prints_and_saves_what_was_done_and_exits_with_130(folder):
    (folder / "cli_slow.py").write_text(SLOW)
    custom(folder, "cli_slow:strategy", "[space]\nn = { low = 100, high = 190, step = 0.01 }\n")
    with (folder / "c.toml").open("a") as file:
        file.write('window = [2000, 2148]\nmethod = "grid"\n')  # by the clock, auto would choose otherwise where nothing is idle
    child = subprocess.Popen(
        [sys.executable, "-m", "backtest", "optimize", "c.toml", "--out", "partial"],
        cwd=folder,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"COLUMNS": "200", "NO_COLOR": "1"},
    )
    deadline = time.monotonic() + 50
    while not (folder / "ready").exists() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "Traceback" not in out + err
    assert "of 9,001 candidates evaluated" in out
    assert "interrupted: " in out
    assert "Best candidate" in out
    loaded = bt.load(folder / "partial")
    assert loaded.is_interrupted
    assert 0 < len(loaded.table) == loaded.n_evaluated < 9001


def test_interruption_before_anything_was_done_exits_with_130(folder, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bt, "optimize", interrupt)
    code, out = invoke("optimize", "small.toml")
    assert code == 130
    assert out.endswith("interrupted\n")


def test_timeout_is_no_interruption(folder, monkeypatch):
    search = "grid, because the space is finite; timed out: 4 of 12 candidates evaluated"
    result = dataclasses.replace(expected(), is_interrupted=True, search=search)
    monkeypatch.setattr(bt, "optimize", lambda *_, **__: result)
    code, out = invoke("optimize", "small.toml")
    assert code == 0
    assert "timed out: 4 of 12" in out


# -- the other commands ------------------------------------------------------------------------------------------------


def test_run_prints_and_writes_one_candidate(folder):
    code, out = invoke("run", "small.toml", "--out", "one")
    run = bt.run(
        bt.Bars.sample(), bt.strategies.sma_cross, {"fast": 5, "slow": 20, "stop_loss": None}, costs=bt.Costs(fee_rate=0.001)
    )
    assert code == 0
    assert "fast = 5, slow = 20, stop_loss = off" in out
    assert f"{run.stats['total_return']:.2%}" in out
    assert f"{run.stats['sharpe']:.3f}" in out
    assert f"Last 20 of {len(run.trades)} trades" in out
    assert sorted(path.name for path in (folder / "one").iterdir()) == ["equity.csv", "orders.csv", "trades.csv"]
    assert pd.read_csv(folder / "one" / "equity.csv")["equity"].tolist() == run.equity.tolist()
    assert len(pd.read_csv(folder / "one" / "trades.csv")) == len(run.trades)
    assert len(pd.read_csv(folder / "one" / "orders.csv")) == len(run.orders)


def test_run_without_trades(folder):
    (folder / "c.toml").write_text(SMALL + "window = [2140, 2141]\n")
    code, out = invoke("run", "c.toml")
    assert code == 0
    assert "Last 0 of 0 trades" in out


@pytest.mark.parametrize(
    ("wish", "text"), [("python", "python (asked for by BACKTEST_BACKEND=python)\n"), (None, bt.backend() + "\n")]
)
def test_backend_says_which_kernels_run(wish, text):
    done = process("backend", env={} if wish is None else {"BACKTEST_BACKEND": wish})
    assert (done.returncode, done.stdout) == (0, text)


def test_unknown_backend_is_one_line():
    done = process("backend", env={"BACKTEST_BACKEND": "rust"})
    assert done.returncode == 2
    assert done.stderr == "error: BACKTEST_BACKEND must be one of auto, cython, python, got 'rust'\n"


def test_example_is_the_configuration_that_runs_without_one(folder):
    done = process("example")
    assert (done.returncode, done.stdout) == (0, config.EXAMPLE)
    (folder / "mine.toml").write_text(done.stdout)
    mine, embedded = config.read(folder / "mine.toml"), config.read(None)
    assert repr(mine.space) == repr(embedded.space)
    assert (mine.search, mine.costs, mine.source) == (embedded.search, embedded.costs, embedded.source)
    assert len(mine.space) == 25_440


def test_optimize_without_a_configuration_runs_the_example(folder, monkeypatch):
    monkeypatch.setattr(config, "EXAMPLE", SMALL)
    code, out = invoke("optimize")
    assert code == 0
    assert "12 candidates" in out
    assert "bars a year: 252, daily bars, 5 bars in the median full week" in out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["optimize", "--help"], ["run", "--help"], ["backend", "--help"], ["example", "--help"]]
)
def test_help(arguments):
    code, out = invoke(*arguments)
    assert code == 0
    assert "Usage:" in out
    assert ("optimize" in out) == (arguments[0] in ("--help", "optimize", "example"))


def test_module_and_script_are_the_same_program():
    done = process("--help")
    assert done.returncode == 0
    assert "Exit codes: 0 done, 2 bad input, 130 interrupted, 141" in done.stdout


@pytest.mark.parametrize(
    ("values", "width", "line"),
    [
        ([1, 2, 4, 8], 4, "▁▃▆█"),
        ([5, 5, 5], 3, "▁▁▁"),
        ([0, 1, 3, 7], 4, "▁▂▄█"),
        ([-7, -6, -4, 0], 10, "▁▂▄█"),
        (range(1, 1001), 1, "▁"),
    ],
)
def test_sparkline(values, width, line):
    assert sparkline(list(values), width) == line


@pytest.mark.parametrize("command", ["optimize", "run"])
def test_a_folder_that_cannot_be_made_is_refused_before_the_work(folder, command):
    (folder / "plain.csv").write_text("")
    code, out = invoke(command, "small.toml", "--out", "plain.csv")
    assert code == 2
    assert "--out must be a folder that can be written, got 'plain.csv': File exists" in out

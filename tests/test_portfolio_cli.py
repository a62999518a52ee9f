"""``backtest portfolio``: rules and files in, statistics out."""

import json
import sys

import pandas as pd
import pytest
from test_cli import invoke

import backtest as bt
from backtest import allocation
from backtest.config import portfolio as config


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))  # a custom rule's folder is added
    return tmp_path


RULE = """\
[data]
samples = ["AAPL", "IBM"]

[rule]
name = "inverse_volatility"

[space]
lookback = [20, 60]

[costs]
fee_rate = 0.001

[portfolio]
window = [100, 600]

[search]
metric = "total_return"
"""


def closes():
    return pd.DataFrame(
        {name: pd.Series(bt.Bars.sample(name).close, index=bt.Bars.sample(name).times()) for name in ("AAPL", "IBM")}
    )


def test_portfolio_searches_a_rule(folder):
    (folder / "p.toml").write_text(RULE)
    code, out = invoke("portfolio", "p.toml", "--no-progress", "--threads", "1", "--out", "o")
    assert code == 0
    assert "AAPL, IBM: 3,270 bars, 2000-03-01 to 2013-03-01" in out
    assert "inverse_volatility; grid, because the space is finite; done: 2 of 2 candidates evaluated" in out
    for word in ("Best 2 of 2 candidates by Total return", "Mean margin load", "Sharpe ratio", "Assets"):
        assert word in out
    written = folder / "o"
    assert sorted(path.name for path in written.iterdir()) == [
        "candidates.parquet",
        "equity.csv",
        "open_positions.csv",
        "orders.csv",
        "result.json",
        "statistics.json",
        "trades.csv",
    ]
    close, opens = closes(), closes()
    for name in opens:
        opens[name] = bt.Bars.sample(name).open
    mask = allocation.calendar(close.index, "month")
    books = [
        bt.simulate(
            allocation.inverse_volatility(close, n, mask),
            close=close,
            open=opens,
            costs=bt.Costs(fee_rate=0.001),
            window=slice(100, 600),
        )
        for n in (20, 60)
    ]
    best = max(books, key=lambda book: book.equity.iloc[-1])
    assert pd.read_csv(written / "equity.csv")["equity"].tolist() == best.equity.tolist()
    assert len(pd.read_csv(written / "orders.csv")) == len(best.fills)
    saved = json.loads((written / "statistics.json").read_text())
    assert saved["account_statistics"]["end_equity"] == best.equity.iloc[-1]


def test_portfolio_trades_weights_from_files(folder):
    close = closes().iloc[:40]
    close.to_csv(folder / "close.csv", index_label="date")
    weights = pd.DataFrame({"IBM": [0.5, 0.2], "AAPL": [0.5, 0.8]}, index=close.index[[0, 20]])
    weights.to_csv(folder / "weights.csv", index_label="date")
    (folder / "p.toml").write_text(
        '[data]\nclose = "close.csv"\nweights = "weights.csv"\n[costs]\nfee_rate = 0.0\n'
        '[portfolio]\nfill = "close"\nstart_cash = 1000.0\n'
    )
    code, out = invoke("portfolio", "p.toml", "--out", "o")
    assert code == 0
    assert "Rule" not in out
    whole = weights[["AAPL", "IBM"]].reindex(close.index)
    book = bt.simulate(whole, close=close, fill="close", costs=bt.Costs.zero(), start_cash=1000.0)
    assert pd.read_csv(folder / "o" / "equity.csv")["equity"].tolist() == pytest.approx(book.equity.tolist(), rel=1e-12)
    assert len(book.fills) == 4


def test_portfolio_with_a_rule_of_ones_own(folder):
    (folder / "my_rules.py").write_text(
        "import numpy as np\n\ndef equal(close, params, mask):\n    weights = np.full(close.shape, np.nan)\n"
        "    weights[mask] = params['share'] / close.shape[1]\n    return weights\n"
    )
    text = RULE.replace('"inverse_volatility"', '"my_rules:equal"\nevery = "week"').replace(
        "[space]\nlookback = [20, 60]", "[params]\nshare = 0.5"
    )
    (folder / "p.toml").write_text(text)
    code, out = invoke("portfolio", "p.toml")
    assert code == 0
    assert "Largest margin load" in out


def test_portfolio_without_a_configuration_searches_the_example(folder):
    code, out = invoke("portfolio", "--no-progress")
    assert code == 0
    assert "AAPL, GOOG, IBM, MSFT" in out
    assert "done: 49 of 49 candidates evaluated" in out
    assert "bars a year: 252, daily bars, 5 bars in the median full week" in out
    assert invoke("example", "portfolio") == (0, config.EXAMPLE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[costs]\nfee_rate = 0.001\n", "", "section [costs] must be there"),
        ('name = "inverse_volatility"', 'name = "inverse_volatilty"', "rule 'inverse_volatilty' is not known"),
        ('name = "inverse_volatility"', 'name = "nowhere:rule"', "rule must name something importable"),
        ('name = "inverse_volatility"', "", "[rule] must have a name"),
        ('name = "inverse_volatility"', 'name = "inverse_volatility"\nevery = "fortnight"', "every must be one of 'day', 'week'"),
        ("[space]\nlookback = [20, 60]", "", "a [rule] must come with [space] to search or [params] to run one, got neither"),
        ('samples = ["AAPL", "IBM"]', "samples = []", "samples of [data] must be a list of symbols"),
        ('samples = ["AAPL", "IBM"]', "", "[data] must have one of samples, files and close, got none"),
        ('samples = ["AAPL", "IBM"]', 'samples = ["AAPL"]\nweights = "w.csv"', "or there must be a section [rule], got both"),
        ('[rule]\nname = "inverse_volatility"', "", "or there must be a section [rule], got neither"),
        ("window = [100, 600]", "start_value = 5", "start_value of [portfolio] is now start_cash\n"),
        ("window = [100, 600]", "cash = 5", "cash of [portfolio] is now start_cash\n"),
        (
            'samples = ["AAPL", "IBM"]',
            'samples = ["AAPL", "IBM"]\nwindow = [1, 9]',
            "must stand in [portfolio], got it in [data]",
        ),
        ("window = [100, 600]", 'fil = "close"', "key of [portfolio] 'fil' is not known"),
        ("window = [100, 600]", 'fill = "noon"', "fill must be one of 'next_open', 'close', got 'noon'"),
    ],
)
def test_portfolio_errors_are_one_line(folder, old, new, message):
    (folder / "p.toml").write_text(RULE.replace(old, new))
    code, out = invoke("portfolio", "p.toml")
    assert code == 2
    assert message in out


def test_weights_files_that_do_not_fit(folder):
    close = closes().iloc[:5]
    close.to_csv(folder / "close.csv", index_label="date")
    (folder / "p.toml").write_text('[data]\nclose = "close.csv"\nweights = "w.csv"\n[costs]\nfee_rate = 0.0\n')
    for text, message in (
        ("date,AAPL\n2000-03-01,1\n", "weights must have a column for every asset, got none for 'IBM'"),
        ("date,AAPL,IBM,XX\n2000-03-01,1,0,0\n", "asset of the weights 'XX' is not known"),
        ("date,AAPL,IBM\n1999-03-01,1,0\n", "weights must be for bars that have prices, got 1999-03-01"),
        ("date,AAPL,IBM\n2000-03-01,1,0\n2000-03-01,1,0\n", "weights must have one row per date"),
        ("date,AAPL,IBM\nsoon,1,0\n", "the time column 'date' must hold dates, got 'soon' (row 0, line 2)"),
        ("day,AAPL,IBM\n2000-03-01,1,0\n", "w.csv must have a column of dates"),
    ):
        (folder / "w.csv").write_text(text)
        code, out = invoke("portfolio", "p.toml")
        assert code == 2
        assert message in out


OWN = RULE.replace('"inverse_volatility"', '"own_rules:equal"\nversion = "1"').replace("lookback = [20, 60]", "share = [0.5, 1]")


@pytest.fixture
def own_rule(folder):
    (folder / "own_rules.py").write_text(
        "import numpy as np\n\ndef equal(close, params, mask):\n    weights = np.full(close.shape, np.nan)\n"
        "    weights[mask] = params['share'] / close.shape[1]\n    return weights\n"
    )
    return folder


@pytest.mark.parametrize("text", [RULE, OWN], ids=["ready", "own"])
def test_portfolio_has_a_store(own_rule, text):
    (own_rule / "p.toml").write_text(text)
    for known in (0, 2):
        code, out = invoke("portfolio", "p.toml", "--no-progress", "--store", "sqlite:///results.db")
        assert code == 0, out
        assert f"2 of 2 candidates evaluated, {known} of them from the store" in out
    for other in (text.replace("[rule]", '[rule]\nevery = "week"'), text.replace("0.001", "0.002")):
        (own_rule / "p.toml").write_text(other.replace("[search]", '[search]\nstore = "sqlite:///results.db"'))
        code, out = invoke("portfolio", "p.toml", "--no-progress")
        assert code == 0, out
        assert "2 of 2 candidates evaluated, 0 of them from the store" in out


def test_versions_of_rules(own_rule):
    (own_rule / "p.toml").write_text(OWN.replace('version = "1"\n', ""))
    code, out = invoke("portfolio", "p.toml", "--no-progress", "--store", "sqlite:///results.db")
    assert (code, "version must be given with a store" in out) == (2, True)
    assert invoke("portfolio", "p.toml", "--no-progress")[0] == 0
    (own_rule / "p.toml").write_text(RULE.replace("[space]", 'version = "1"\n[space]'))
    code, out = invoke("portfolio", "p.toml")
    assert (code, "version of [rule] must go with a function of your own, got '1'" in out) == (2, True)


def test_portfolio_in_several_windows(folder):
    several = RULE.replace("[100, 600]", "[[100, 600], [600, 900]]") + 'aggregate = "min"\n'
    (folder / "p.toml").write_text(several)
    code, out = invoke("portfolio", "p.toml", "--no-progress", "--out", "o")
    assert code == 0, out
    for word in ("Best 2 of 2 candidates by Total return", "In each cell", "window 600:900: bars 600 to 899, ", "min"):
        assert word in out
    table = pd.read_parquet(folder / "o" / "candidates.parquet").set_index("lookback")
    assert (table["total_return"] == table[["total_return@100:600", "total_return@600:900"]].min(axis=1)).all()
    assert set(pd.read_csv(folder / "o" / "equity.csv")["cell"]) == {"100:600", "600:900"}
    (folder / "p.toml").write_text(several.replace("[space]\nlookback = [20, 60]", "[params]\nlookback = 20"))
    code, out = invoke("portfolio", "p.toml")
    assert (code, "window must be one pair [first, last] to run one book, got 2 windows" in out) == (2, True)


def test_an_interruption_shows_what_was_done_and_exits_with_130(own_rule, monkeypatch):
    monkeypatch.setattr("backtest.solve.SECONDS", 1e-9)  # so that every candidate is a batch
    rules = own_rule / "interrupted_rules.py"
    rules.write_text(
        "import os, signal\nimport own_rules\nasked = []\n\ndef equal(*given):\n    asked.append(given)\n"
        "    if len(asked) == 2:\n        os.kill(os.getpid(), signal.SIGINT)\n    return own_rules.equal(*given)\n"
    )
    (own_rule / "p.toml").write_text(OWN.replace("own_rules:", "interrupted_rules:"))
    code, out = invoke("portfolio", "p.toml", "--no-progress", "--out", "o", "--store", "sqlite:///results.db")
    assert code == 130, out
    assert "interrupted: 1 of 2 candidates evaluated" in " ".join(out.split())
    assert bt.load(own_rule / "o").is_interrupted
    code, out = invoke("portfolio", "p.toml", "--no-progress", "--store", "sqlite:///results.db")
    assert (code, "1 of them from the store" in " ".join(out.split())) == (0, True)

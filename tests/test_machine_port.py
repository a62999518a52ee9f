"""docs/coming_from_next.md: the original on live backtesting.py (extra ``peers``), and the port, as they stand on the page."""

import importlib.util
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

import backtest as bt

PAGE = ROOT / "docs" / "coming_from_next.md"
SETS = [
    {"entry": 40, "exit": 20, "gain": 0.1},
    {"entry": 10, "exit": 5, "gain": 0.02},
    {"entry": 20, "exit": 20, "gain": 0.05},
    {"entry": 5, "exit": 30, "gain": 0.01},
]

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


def module_of_block(language, folder):
    """The page's block of that language as an imported module: a strategy needs its source in a file."""
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    path = folder / f"block_{language}.py"
    path.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    pytest.importorskip("backtesting", reason="extra `peers` is not installed").backtesting._tqdm = lambda bars, **_: bars
    return module_of_block("py", tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    return module_of_block("python", tmp_path_factory.mktemp("port"))


@pytest.mark.parametrize("params", SETS, ids=str)
@pytest.mark.parametrize("symbol", ["GOOG", "AAPL"])
def test_the_port_trades_as_the_original(original, port, symbol, params):
    bars = bt.Bars.sample(symbol)
    frame = pd.DataFrame({"Open": bars.open, "High": bars.high, "Low": bars.low, "Close": bars.close}, index=bars.times())
    theirs, run = original.simulate(frame, params), port.simulate(bars, params)
    trades = theirs["_trades"].sort_values(["EntryBar", "ExitBar"])
    assert len(run.trades) == len(trades) >= 20
    assert (trades["Size"] == 20).any()
    for mine, other in (("units", "Size"), ("entry_bar", "EntryBar"), ("exit_bar", "ExitBar")):
        assert run.trades[mine].tolist() == trades[other].tolist(), mine
    for mine, other in (("entry_price", "EntryPrice"), ("exit_price", "ExitPrice"), ("net_profit", "PnL")):
        np.testing.assert_allclose(run.trades[mine], trades[other], rtol=1e-9, atol=1e-9, err_msg=mine)
    np.testing.assert_allclose(run.equity, theirs["_equity_curve"]["Equity"].iloc[run.start :], rtol=1e-9)

"""Live parity with other libraries (extra ``peers``): two implementations that nobody tuned to each other."""

import numpy as np
import pandas as pd
import pytest

import backtest as bt

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]  # the peers' own warnings are theirs

N_BARS, CASH = 250, 10_000.0


@pytest.fixture(scope="module")
def vbt():
    return pytest.importorskip("vectorbt", reason="extra `peers` is not installed")


def random_case(rng, density, sides):
    """A path that doubles, halves or goes nowhere, signals of one density (conflicts included), and costs."""
    drift = rng.choice([-np.log(2), 0.0, np.log(2)]) / N_BARS
    close = 100 * np.exp(np.cumsum(rng.normal(drift, rng.choice([0.005, 0.02, 0.05]), N_BARS)))
    signals = [rng.random(N_BARS) < density for _ in range(4)]
    if sides == "long":
        signals[2:] = [None, None]
    return close, signals, float(rng.choice([0.0, 0.001, 0.01])), float(rng.choice([0.0, 0.0005, 0.005]))


def of_vectorbt(vbt, close, signals, fee_rate, slippage):
    entries, exits, short_entries, short_exits = (None if each is None else pd.Series(each) for each in signals)
    sides = {"direction": "longonly"} if short_entries is None else {
        "short_entries": short_entries, "short_exits": short_exits, "upon_opposite_entry": "reverse"}
    return vbt.Portfolio.from_signals(pd.Series(close), entries, exits, size=np.inf, fees=fee_rate, slippage=slippage,
                                      init_cash=CASH, freq="1D", **sides)


def test_vectorbt_on_random_signals(vbt):
    """Same-bar close, all-in, fees and slippage: returns, and every trade's bars, prices and profit, to 1e-9."""
    rng = np.random.default_rng(20)
    n_cases = n_trades = n_conflicts = 0
    while n_cases < 300:
        sides = ("long", "both")[n_cases % 2]
        close, signals, fee_rate, slippage = random_case(rng, (0.01, 0.1, 0.5)[n_cases // 2 % 3], sides)
        theirs = of_vectorbt(vbt, close, signals, fee_rate, slippage)
        value = theirs.value().to_numpy()
        if not (value > 0).all():
            continue  # a bust means different things to each
        bars = bt.Bars(open=close, high=close, low=close, close=close)
        run = bt.run(bars, bt.rules.from_arrays(*signals), costs=bt.Costs(fee_rate=fee_rate, slippage=slippage),
                     execution=bt.Execution(fill="close", cash=CASH, sides=sides, periods_per_year=365.0))
        np.testing.assert_allclose(run.equity, value, rtol=1e-9)
        assert run.stats["total_return"] == pytest.approx(theirs.total_return(), rel=1e-9, abs=1e-12)
        records = theirs.trades.records
        records, trades = records[records["status"] == 1], run.trades
        assert run.stats["n_trades"] == len(trades) == len(records)
        for mine, other in (("entry_bar", "entry_idx"), ("exit_bar", "exit_idx"), ("entry_price", "entry_price"),
                            ("exit_price", "exit_price"), ("units", "size"), ("return", "return")):
            np.testing.assert_allclose(
                trades[mine].abs() if mine == "units" else trades[mine], records[other], rtol=1e-9, atol=1e-12
            )
        np.testing.assert_allclose(trades["net_profit"], records["pnl"], rtol=1e-9, atol=1e-9 * CASH)
        n_cases += 1
        n_trades += len(trades)
        n_conflicts += int((signals[0] & signals[1]).sum())
    assert n_trades >= 5000
    assert n_conflicts >= 1000

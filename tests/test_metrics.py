"""Metrics against the textbook, and what undefined, infinite and few mean."""

import math

import numpy as np
import pandas as pd
import pytest
from cases import random_bars, random_signals, strategy_of

import backtest as bt
from backtest.metrics import METRICS, SUMS, SWEEP, WALK, MetricInputs, objective, sweep_metrics, walk_metrics

DAYS = pd.bdate_range("2020-01-01", periods=400)


@pytest.fixture(scope="module")
def run():
    rng = np.random.default_rng(1)
    bars = random_bars(rng, 400)
    bars = bt.Bars(open=bars.open, high=bars.high, low=bars.low, close=bars.close, index=DAYS)
    strategy = strategy_of(random_signals(rng, 400, 0.05))
    return bt.run(bars, strategy, costs=bt.Costs(fee_rate=0.001), execution=bt.Execution(start=10, rf=0.03))


def returns_of(run):
    equity = np.concatenate([[run.metric_inputs.start_cash], run.equity.to_numpy()])
    return np.diff(equity) / equity[:-1]


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("rf", [-0.02, 0.0, 0.03])
def test_a_flat_bar_falls_short_of_a_positive_rate_only(rf):
    """Flat bars are skipped in one go: their return of 0 is no shortfall where the rate is negative."""
    bars = random_bars(np.random.default_rng(8), 200, 0.02)
    signals = [np.isin(np.arange(200), each) for each in ([20, 120], [40, 150], [], [])]
    execution = bt.Execution(start=5, rf=rf, periods_per_year=252.0)
    run = bt.run(bars, strategy_of(signals), costs=bt.Costs(fee_rate=0.001), execution=execution)
    r, rate = returns_of(run), rf / 252.0
    assert (r == 0).sum() > 100
    expected = (r.mean() - rate) / np.sqrt(np.mean(np.minimum(r - rate, 0) ** 2)) * 252.0**0.5
    assert run.stats["sortino"] == pytest.approx(expected, rel=1e-11)


def test_every_sweep_metric_against_its_definition(run):
    r, ppy, rf = returns_of(run), 252.0, 0.03 / 252.0
    trades, equity, cash = run.trades, run.equity.to_numpy(), run.metric_inputs.start_cash
    won = trades.loc[trades["net_profit"] > 0, "net_profit"].sum()
    lost = -trades.loc[trades["net_profit"] <= 0, "net_profit"].sum()
    drawdown = (equity / np.maximum.accumulate(np.concatenate([[cash], equity]))[1:] - 1).min()
    years = (DAYS[-1] - DAYS[9]).days / 365.25
    returns, orders = trades["return"], run.orders.query("status == 'filled'")
    expected = {
        "total_return": equity[-1] / cash - 1,
        "cagr": (equity[-1] / cash) ** (1 / years) - 1,
        "volatility": r.std(ddof=1) * ppy**0.5,
        "sharpe": (r.mean() - rf) / r.std(ddof=1) * ppy**0.5,
        "sortino": (r.mean() - rf) / np.sqrt(np.mean(np.minimum(r - rf, 0) ** 2)) * ppy**0.5,
        "max_drawdown": drawdown,
        "calmar": ((equity[-1] / cash) ** (1 / years) - 1) / abs(drawdown),
        "omega": r[r > 0].sum() / -r[r < 0].sum(),
        "skew": ((r - r.mean()) ** 3).mean() / r.std() ** 3,
        "kurtosis": ((r - r.mean()) ** 4).mean() / r.std() ** 4 - 3,
        "n_trades": len(trades),
        "win_rate": (trades["net_profit"] > 0).mean(),
        "profit_factor": won / lost,
        "expectancy": returns.mean(),
        "best_trade": returns.max(),
        "worst_trade": returns.min(),
        "sqn": len(trades) ** 0.5 * returns.mean() / returns.std(ddof=1),
        "exposure": (run.units != 0).mean(),
        "turnover": orders["value"].abs().sum() / cash,
        "costs_paid": orders["cost"].sum() / cash,
        "breakeven_cost": (equity[-1] - cash + orders["cost"].sum()) / orders["value"].abs().sum(),
        "n_ambiguous": 0,
        "largest_trade_share": math.nan,
    }
    total = trades["net_profit"].sum()
    if total > 0:
        expected["largest_trade_share"] = trades["net_profit"].max() / total
    assert set(expected) == set(SWEEP)
    for key, value in expected.items():
        assert run.stats[key] == pytest.approx(value, rel=1e-9, nan_ok=True), key


def test_every_walk_metric_against_its_definition(run):
    r, equity = returns_of(run), run.equity.to_numpy()
    close = run.bars.close
    b = close[10:] / close[9:-1] - 1
    underwater = equity / np.maximum.accumulate(np.concatenate([[run.metric_inputs.start_cash], equity]))[1:] - 1
    longest = streak = 0
    for value in underwater:
        streak = streak + 1 if value < 0 else 0
        longest = max(longest, streak)
    beta = np.cov(r, b, ddof=1)[0, 1] / b.var(ddof=1)
    rf = 0.03 / 252
    expected = {
        "tail_ratio": abs(np.quantile(r, 0.95)) / abs(np.quantile(r, 0.05)),
        "max_drawdown_bars": longest,
        "ulcer_index": np.sqrt((underwater**2).mean()),
        "cvar_5": r[r <= np.quantile(r, 0.05)].mean(),
        "buy_hold_return": close[-1] / close[9] - 1,
        "beta": beta,
        "alpha": (r.mean() - rf - beta * (b.mean() - rf)) * 252,
    }
    assert set(expected) == set(WALK)
    for key, value in expected.items():
        assert run.stats[key] == pytest.approx(value, rel=1e-9), key


def test_the_table_is_complete():
    assert list(METRICS) == [*SWEEP, *WALK]
    for key, metric in METRICS.items():
        assert metric.key == key
        assert metric.direction in (1, -1)
        assert metric.definition
        assert metric.unit in ("fraction", "ratio", "count", "bars")


def never_traded():
    sums = np.zeros(1, dtype=SUMS)
    sums["n_returns"], sums["end_equity"], sums["best_trade"], sums["worst_trade"] = 100, 1000.0, -np.inf, np.inf
    sums["largest_profit"] = -np.inf
    return sums


def test_never_trading_is_undefined_where_it_says_nothing():
    values = dict(zip(SWEEP, sweep_metrics(SWEEP, never_traded(), MetricInputs(1000.0, 0.0, 252.0, 0.4))[0], strict=True))
    assert {key for key, value in values.items() if np.isnan(value)} == {
        "sharpe",
        "sortino",
        "volatility",
        "calmar",
        "omega",
        "skew",
        "kurtosis",
        "win_rate",
        "profit_factor",
        "expectancy",
        "best_trade",
        "worst_trade",
        "sqn",
        "breakeven_cost",
        "largest_trade_share",
    }
    assert values["total_return"] == values["cagr"] == values["max_drawdown"] == values["exposure"] == 0


def test_no_losing_return_is_infinitely_good():
    sums = never_traded()
    sums["sum_return"], sums["sum_return_2"], sums["sum_gain"] = 0.1, 0.01, 0.1
    values = sweep_metrics(["sortino", "omega"], sums, MetricInputs(1000.0, 0.0, 252.0, 0.4))[0]
    assert values.tolist() == [np.inf, np.inf]


def test_rounding_is_no_variance():
    sums = never_traded()
    sums["sum_return"], sums["sum_return_2"] = 1.0, 0.01 * (1 + 1e-13)  # 100 returns of 1 %
    assert np.isnan(sweep_metrics(["sharpe", "volatility"], sums, MetricInputs(1000.0, 0.0, 252.0, 0.4))).all()


def test_objective_ranks_undefined_and_few_trades_last():
    values, n_trades = np.array([1.0, np.nan, np.inf, -np.inf, 5.0]), np.array([3.0, 3, 3, 3, 0])
    assert objective(values, "sharpe", n_trades, 1).tolist() == [-1, np.inf, -np.inf, np.inf, np.inf]
    assert objective(values, "sharpe", n_trades, 0).tolist() == [-1, np.inf, -np.inf, np.inf, -5]
    assert objective(values, "volatility", n_trades, 1).tolist() == [1, np.inf, np.inf, -np.inf, np.inf]
    assert values[0] == 1  # the input is left alone


def test_metrics_do_not_depend_on_the_cut_of_a_batch():
    rng = np.random.default_rng(0)
    sums = np.zeros(37, dtype=SUMS)
    for name in SUMS.names:
        sums[name] = rng.random(37) + 0.5
    inputs = MetricInputs(1.0, 0.01, 252.0, 3.7)
    whole = sweep_metrics(SWEEP, sums, inputs)
    for size in (1, 2, 3, 8, 16):
        pieces = [sweep_metrics(SWEEP, sums[start : start + size], inputs) for start in range(0, 37, size)]
        assert np.concatenate(pieces).tobytes() == whole.tobytes()


def test_walk_metrics_of_a_bust():
    values = walk_metrics(np.array([500.0, 0.0, 0.0]), np.array([100.0, 101, 102, 103]), MetricInputs(1000.0, 0.0, 252.0, 1.0))
    assert values["max_drawdown_bars"] == 3
    assert values["cvar_5"] == -1.0

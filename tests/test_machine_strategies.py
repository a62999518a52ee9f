"""The worked strategies against plain loops written from their descriptions, and against live backtesting.py."""

import importlib.util

import numpy as np
import pandas as pd
import pytest
import strategy_loops
from conftest import ROOT

import backtest as bt
from backtest import records

#: Grids and pyramids that have no cash left place orders that are not paid for.
pytestmark = pytest.mark.filterwarnings("ignore:.* could not be paid for:backtest.NumericsWarning")

FOLDER = ROOT / "docs" / "examples" / "strategies"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py"))
CASH, PERIODS = 100_000.0, 252.0
#: Fees, slippage and the rate of a loan, one for each set of parameters.
COSTS = [bt.Costs(fee_rate=0.001, slippage=0.0005, borrow_rate=0.03), bt.Costs.zero(), bt.Costs(fee_rate=0.0002, slippage=0.004)]
INTRABAR = ["pessimistic", "optimistic", "pessimistic"]
PARAMS = {
    "break_even": [
        {"entry": 20, "n": 14, "k": 2.0, "reward": 3.0, "risk": 0.02},
        {"entry": 5, "n": 10, "k": 0.5, "reward": 1.0, "risk": 0.004},
        {"entry": 60, "n": 30, "k": 1.0, "reward": 1.5, "risk": 0.5},
    ],
    "chandelier": [
        {"trend": 100, "n": 22, "k": 3.0, "share": 1.0},
        {"trend": 20, "n": 10, "k": 1.0, "share": 0.5},
        {"trend": 50, "n": 60, "k": 5.0, "share": 0.9},
    ],
    "cooldown": [
        {"fast": 20, "slow": 100, "cooldown": 24, "stop": 0.03, "target": 0.06},
        {"fast": 5, "slow": 30, "cooldown": 3, "stop": 0.01, "target": 0.01},
        {"fast": 10, "slow": 50, "cooldown": 0, "stop": 0.003, "target": 0.02},
    ],
    "donchian": [
        {"entry": 55, "exit": 20, "share": 1.0},
        {"entry": 3, "exit": 2, "share": 0.7},
        {"entry": 10, "exit": 10, "share": 0.9},
    ],
    "grid": [
        {"step": 0.02, "share": 0.12, "most": 8},
        {"step": 0.004, "share": 0.1, "most": 10},
        {"step": 0.01, "share": 0.4, "most": 5},
    ],
    "half_out": [
        {"fast": 10, "slow": 30, "gain": 0.05, "trail": 0.06},
        {"fast": 3, "slow": 8, "gain": 0.005, "trail": 0.01},
        {"fast": 5, "slow": 20, "gain": 0.01, "trail": 0.003},
    ],
    "limit_entry": [
        {"n": 50, "max_bars": 15, "below": 0.01, "stop": 0.03, "target": 0.05},
        {"n": 10, "max_bars": 5, "below": 0.004, "stop": 0.01, "target": 0.008},
        {"n": 20, "max_bars": 3, "below": 0.02, "stop": 0.002, "target": 0.01},
    ],
    "martingale": [
        {"stake": 0.1, "most": 0.8, "move": 0.04},
        {"stake": 0.05, "most": 1.0, "move": 0.01},
        {"stake": 0.2, "most": 0.5, "move": 0.003},
    ],
    "perpetual": [
        {"fast": 10, "slow": 40, "share": 0.9, "stop": 0.2},
        {"fast": 20, "slow": 60, "share": 4.0, "stop": 0.9},
        {"fast": 3, "slow": 10, "share": 8.0, "stop": 0.5},
    ],
    "pyramid": [
        {"entry": 55, "n": 20, "most": 4, "step": 1.0, "stop": 3.0, "share": 0.24},
        {"entry": 10, "n": 10, "most": 6, "step": 0.3, "stop": 1.0, "share": 0.15},
        {"entry": 20, "n": 14, "most": 3, "step": 0.5, "stop": 0.5, "share": 0.3},
    ],
    "squeeze": [
        {"n": 20, "least": 5, "width": 1.5, "stop": 2.0},
        {"n": 10, "least": 2, "width": 2.0, "stop": 0.5},
        {"n": 20, "least": 1, "width": 1.8, "stop": 1.0},
    ],
}
#: Of the perpetual future: fields of Costs and of Execution, one pair for each set of parameters.
MARGIN = [
    ({"funding": 0.0001, "liquidation_fee": 0.005}, {"leverage": 1.0, "maintenance_margin": 0.02}),
    ({"funding": 0.002, "liquidation_fee": 0.01}, {"leverage": 5.0, "maintenance_margin": 0.05}),  # moves what ruins
    ({"funding": 0.0001, "liquidation_fee": 0.0}, {"leverage": 20.0, "maintenance_margin": 0.01}),
]


def strategy(name):
    """The function of that name in the file of that name."""
    spec = importlib.util.spec_from_file_location(f"strategies_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name), module


def run_of(name, which, symbol):
    """The machine's run of one set of parameters, and the loop's; the pure twins take a part of the bars."""
    bars, costs, params = bt.Bars.sample(symbol), COSTS[which], PARAMS[name][which]
    if not bt.backend().startswith("cython"):
        bars = bars[:800]
    more_costs, margin = MARGIN[which] if name == "perpetual" else ({}, {})
    costs = bt.Costs(**costs.to_dict() | more_costs)
    execution = bt.Execution(intrabar=INTRABAR[which], start_cash=CASH, periods_per_year=PERIODS, **margin)
    run = bt.run(bars, strategy(name)[0], params, costs=costs, execution=execution)
    plain = {"fee_rate": costs.fee_rate, "slippage": costs.slippage, "borrow_per_bar": costs.borrow_rate / PERIODS}
    return run, getattr(strategy_loops, name)(
        bars, params, {**plain, "start_cash": CASH, **more_costs, **margin}, INTRABAR[which]
    )


def test_every_strategy_has_a_loop_and_parameters():
    assert set(NAMES) == set(PARAMS)
    assert len(NAMES) >= 10


@pytest.mark.parametrize("symbol", ["GOOG", "IBM"])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_fills_and_equity_of_a_plain_loop(name, which, symbol):
    """Every fill's bar, units, price and reason, and equity at every close."""
    run, (start, fills, equity) = run_of(name, which, symbol)
    assert run.start == start
    assert len(fills) >= 5
    ours = [
        (int(fill["fill_bar"]), float(fill["units"]), float(fill["price"]), records.REASONS[fill["reason"]]) for fill in run.fills
    ]
    if name == "grid":  # two ways through a bar may end in the same account: which of them the ledger tells is not compared
        ours, fills = (sorted(each, key=lambda fill: (fill[0], fill[2], fill[1] > 0.0)) for each in (ours, fills))
    assert [(bar, reason) for bar, _, _, reason in ours] == [(bar, reason) for bar, _, _, reason in fills]
    np.testing.assert_allclose([fill[1:3] for fill in ours], [fill[1:3] for fill in fills], rtol=1e-9)
    np.testing.assert_allclose(run.equity, equity, rtol=1e-9, atol=1e-9)
    still_open = run.open_positions
    won = run.trades[["net_profit", "written_off"]].to_numpy().sum()
    won += (still_open["gross_profit"] - still_open["entry_cost"] - still_open["borrow_cost"]).sum()
    assert won == pytest.approx(run.equity.iloc[-1] - CASH, abs=1e-9 * CASH)  # trades tell all of it


def test_orders_end_in_every_way():
    """What the strategies of the folder make of their orders, between them."""
    for name, which, ends in (
        ("donchian", 2, {"filled", "replaced"}),
        ("limit_entry", 2, {"filled", "expired"}),
        ("half_out", 0, {"filled", "cancelled"}),
        ("grid", 2, {"filled", "expired", "unaffordable"}),
    ):
        assert set(run_of(name, which, "GOOG")[0].orders["status"]) >= ends, name


@pytest.mark.compiled
@pytest.mark.parametrize("name", NAMES)
def test_files_run_as_they_stand(name, capsys):
    strategy(name)[1].main()
    assert len(capsys.readouterr().out.splitlines()) >= 5


@pytest.mark.parametrize("name", NAMES)
def test_a_table_has_what_runs_have(name):
    """The candidates of a table begin at one bar; a run that begins there has their numbers."""
    bars = bt.Bars.sample("GOOG")[:700]
    columns = {key: [params[key] for params in PARAMS[name]] for key in PARAMS[name][0]}
    costs, margin = COSTS[0], MARGIN[2][1] if name == "perpetual" else {}
    table = bt.evaluate(bars, strategy(name)[0], columns, costs=costs, execution=bt.Execution(**margin))
    for row, params in enumerate(PARAMS[name]):
        execution = bt.Execution(start=max(strategy_start(name, each) for each in PARAMS[name]), **margin)
        stats = bt.run(bars, strategy(name)[0], params, costs=costs, execution=execution).stats
        for metric in ("total_return", "sharpe", "max_drawdown", "n_trades", "costs_paid"):
            assert table[metric].iloc[row] == pytest.approx(stats[metric], rel=1e-9, nan_ok=True), metric


def strategy_start(name, params):
    """The bar on which a candidate may decide first."""
    return {
        "break_even": lambda p: max(p["entry"] - 1, p["n"]),
        "chandelier": lambda p: max(p["trend"] - 1, p["n"]),
        "cooldown": lambda p: max(p["fast"], p["slow"]) - 1,
        "donchian": lambda p: max(p["entry"], p["exit"]) - 1,
        "half_out": lambda p: max(p["fast"], p["slow"]),
        "limit_entry": lambda p: p["n"] - 1,
        "perpetual": lambda p: max(p["fast"], p["slow"]) - 1,
        "pyramid": lambda p: max(p["entry"] - 1, p["n"]),
        "squeeze": lambda p: p["n"],
    }.get(name, lambda p: 0)(params)


# What backtesting.py can say: levels that are prices known when the order is placed.


@pytest.fixture(scope="module")
def backtesting():
    module = pytest.importorskip("backtesting", reason="extra `peers` is not installed")
    module.backtesting._tqdm = lambda bars, **_: bars
    return module


def live(backtesting, bars, decide, start, fee_rate):
    """Their trades and equity: ``decide(strategy, bar)`` is called at each close from ``start`` on."""

    class Live(backtesting.Strategy):
        def init(self):
            self.memory = {}

        def next(self):
            if len(self.data) - 1 >= start:
                decide(self, len(self.data) - 1)

    frame = pd.DataFrame({"Open": bars.open, "High": bars.high, "Low": bars.low, "Close": bars.close}, index=bars.times())
    return backtesting.Backtest(frame, Live, cash=CASH, commission=fee_rate).run()


def chandelier_there(bars, p):
    trend, atr = strategy_loops.mean(bars.close, p["trend"]), strategy_loops.average_true_range(bars, p["n"])
    top, bottom = strategy_loops.highest(bars.high, p["n"]), strategy_loops.lowest(bars.low, p["n"])

    def decide(strategy, t):
        below, above, close = top[t] - p["k"] * atr[t], bottom[t] + p["k"] * atr[t], bars.close[t]
        if strategy.position.is_long:
            strategy.trades[0].sl = max(strategy.trades[0].sl, below)
        elif strategy.position.is_short:
            strategy.trades[0].sl = min(strategy.trades[0].sl, above)
        elif close > trend[t] and below < close:
            strategy.buy(size=p["share"], sl=below)
        elif close < trend[t] and above > close:
            strategy.sell(size=p["share"], sl=above)

    return decide


def squeeze_there(bars, p):
    middle, atr = strategy_loops.mean(bars.close, p["n"]), strategy_loops.average_true_range(bars, p["n"])
    upper = middle + 2.0 * strategy_loops.rolling(np.std, bars.close, p["n"])

    def decide(strategy, t):
        close, quiet = bars.close[t], strategy.memory.get("quiet", 0)
        if strategy.position.size * (close - middle[t]) < 0.0:
            strategy.position.close()
        if upper[t] < middle[t] + p["width"] * atr[t]:
            strategy.memory["quiet"] = quiet + 1
            return
        strategy.memory["quiet"] = 0
        if not strategy.position and quiet >= p["least"]:
            if close > middle[t]:
                strategy.buy(sl=close - p["stop"] * atr[t])
            elif close < middle[t]:
                strategy.sell(sl=close + p["stop"] * atr[t])

    return decide


def break_even_there(bars, p):
    top, atr = strategy_loops.highest(bars.close, p["entry"]), strategy_loops.average_true_range(bars, p["n"])

    def decide(strategy, t):
        close, memory = bars.close[t], strategy.memory
        if not strategy.position:
            memory["is_safe"] = False
            if close >= top[t]:
                memory["risk"] = risk = p["k"] * atr[t]
                share = p["risk"] * close / risk
                strategy.buy(**({"size": share} if share < 1.0 else {}), sl=close - risk, tp=close + p["reward"] * risk)
        elif not memory["is_safe"] and close >= strategy.trades[0].entry_price + memory["risk"]:
            strategy.trades[0].sl, memory["is_safe"] = strategy.trades[0].entry_price, True

    return decide


THERE = {"break_even": break_even_there, "chandelier": chandelier_there, "squeeze": squeeze_there}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("symbol", ["GOOG", "IBM"])
@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("name", sorted(THERE))
def test_trades_and_equity_of_backtesting(backtesting, name, which, symbol):
    """Whole units, a fee, no slippage (theirs is paid by entries only): every trade and equity at every close."""
    bars, params, fee_rate = bt.Bars.sample(symbol), dict(PARAMS[name][which]), (0.001, 0.0, 0.0002)[which]
    params |= {"share": 0.99} if params.get("share") == 1.0 else {}  # a size of 1 is one unit there
    params |= {"reward": 9.0} if params.get("reward") == 1.0 else {}  # a near target: at a gap beyond it, their stop comes first
    theirs = live(backtesting, bars, THERE[name](bars, params), strategy_start(name, params), fee_rate)
    run = bt.run(
        bars,
        strategy(name)[0],
        params,
        costs=bt.Costs(fee_rate=fee_rate),
        execution=bt.Execution(whole_units=True, start_cash=CASH),
    )
    trades = theirs["_trades"].sort_values(["EntryBar", "ExitBar"])
    assert len(trades) >= 5
    assert len(run.trades) == len(trades)
    for mine, other in (("units", "Size"), ("entry_bar", "EntryBar"), ("exit_bar", "ExitBar")):
        assert run.trades[mine].tolist() == trades[other].tolist(), mine
    for mine, other in (("entry_price", "EntryPrice"), ("exit_price", "ExitPrice")):
        np.testing.assert_allclose(run.trades[mine], trades[other], rtol=1e-9)
    np.testing.assert_allclose(run.equity, theirs["_equity_curve"]["Equity"].iloc[run.start :], rtol=1e-9)

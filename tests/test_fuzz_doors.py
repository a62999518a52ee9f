"""Every door, called with whatever comes: an answer, a ``BacktestError`` or Python's own TypeError for a call that cannot be.

``pytest tests/test_fuzz_doors.py --fuzz-calls=20000`` is the long way.
"""

import gzip
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from fuzz import BARS, Mine, bars, endured, nasty, number, series, spoilt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import backtest as bt
from backtest import allocation, lines, rules
from backtest.config import levels as levels_config
from backtest.config import optimize as optimize_config
from backtest.config import portfolio as portfolio_config
from backtest.levels import windows
from backtest.study.trial import Trial

COSTS = bt.Costs(fee_rate=0.001)
SPACE = {"fast": range(2, 4), "slow": range(5, 7)}
DATED = pd.DataFrame({"a": BARS.close, "b": BARS.open}, index=BARS.times())
MOVES = {
    "close": np.tile([0.01, -0.01, 0.0], 20),
    "high": np.full(60, 0.02),
    "low": np.full(60, -0.02),
    "high_pred": np.full(60, 0.015),
    "low_pred": np.full(60, -0.015),
}
PRICES = {"high_pred": BARS.high, "low_pred": BARS.low}
WRITTEN = BARS.to_frame().reset_index().to_csv(index=False)


def affordable(arguments):
    """What is asked for takes its time, which is no fault: budgets are cut."""
    if isinstance(arguments["maxfun"], (int, np.integer)) and arguments["maxfun"] > 1000:
        arguments["maxfun"] = 1000
    return arguments


def look(found, *names):
    """Every table that a result has."""
    for name in names:
        endured(lambda name=name: (each := getattr(found, name))() if callable(each := getattr(found, name)) else each)
    repr(found)


def make_bars(rnd):
    columns = {name: getattr(BARS, name) for name in ("open", "high", "low", "close", "volume", "index")}
    found = endured(lambda: bt.Bars(**spoilt(rnd, columns | {"tz": None, "symbol": ""})))
    if found is not None:
        look(found, "to_frame", "times", "content_hash", "inferred_periods_per_year")
    frame = BARS.to_frame()
    for _ in range(rnd.randint(0, 2)):
        column = rnd.choice([*frame.columns, "Date", "close", ""])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                frame[column] = series(rnd)
            except Exception:  # pandas has no column of that kind
                continue
    endured(lambda: bt.Bars.from_frame(frame))
    how = {"dates": None, "tz": None, "columns": None, "adjust": None}
    endured(lambda: bt.Bars.from_frame(**spoilt(rnd, {"frame": frame, "symbol": "A"} | how)))
    endured(lambda: bt.Bars.sample(nasty(rnd)))


def read_file(rnd):
    text = WRITTEN
    for _ in range(rnd.randint(0, 3)):
        at = rnd.randrange(len(text))
        text = (
            text[:at]
            + rnd.choice(["", ",", ";", "\n", '"', "x", "\0", "1e999", "-", "9" * 400, "é", "2020-13-01"])
            + text[at + rnd.randint(0, 20) :]
        )
    data = text.encode(rnd.choice(["utf-8", "latin-1", "utf-16"]))[: rnd.choice([None, None, 0, 10, 500])]
    name = rnd.choice(["a.csv", "a.csv.gz", "a.parquet", "a.txt", "a"])
    with open(name, "wb") as file:
        file.write(gzip.compress(data)[: rnd.choice([None, 30])] if name.endswith("gz") and rnd.random() < 0.7 else data)
    endured(lambda: bt.Bars.read(name))
    how = {"dates": None, "tz": None, "sep": None, "decimal": None, "thousands": None, "columns": None, "adjust": None}
    endured(lambda: bt.Bars.read(**spoilt(rnd, {"path": name, "symbol": "A"} | how)))


def conditions(rnd):
    return {
        "fee_rate": 0.001,
        "slippage": 0.001,
        "fixed": 1.0,
        "per_unit": 0.01,
        "minimum": 0.0,
        "maximum": 10.0,
        "borrow_rate": 0.01,
    }, {
        "fill": rnd.choice(["next_open", "close"]),
        "intrabar": rnd.choice(["pessimistic", "optimistic", "both"]),
        "sides": rnd.choice(["both", "long", "short"]),
        "size": 1.0,
        "size_type": rnd.choice(["equity", "value"]),
        "start_cash": 1e5,
        "whole_units": False,
        "close_at_end": True,
        "start": rnd.choice([None, 20]),
        "rf": 0.0,
        "periods_per_year": 252.0,
        "profile": None,
    }


def run(rnd):
    costs, execution = conditions(rnd)
    costs = endured(lambda: bt.Costs(**spoilt(rnd, costs))) or COSTS
    execution = endured(lambda: bt.Execution(**spoilt(rnd, execution))) or bt.Execution()
    params = {"fast": 3, "slow": 7, "stop_loss": 0.05, "take_profit": None, "trailing_stop": None, "max_bars": 5}
    good = {
        "bars": BARS,
        "strategy": bt.strategies.sma_cross,
        "params": spoilt(rnd, params, 1),
        "costs": costs,
        "execution": execution,
        "window": rnd.choice([None, slice(0, 50)]),
    }
    found = endured(lambda: bt.run(**spoilt(rnd, good, 1)))
    if found is not None:
        look(
            found,
            "stats",
            "trades",
            "orders",
            "equity",
            "units",
            "open_positions",
            "pending",
            "trade_statistics",
            "account_statistics",
            "to_dict",
        )
        endured(lambda: repr(bt.explain(found)))
        endured(lambda: found.stats.to_backtesting())
        endured(lambda: found.stats.to_vectorbt(nasty(rnd)))


@bt.on_bar(
    fast=lines.sma(lines.close, bt.param("fast")),
    slow=lines.sma(lines.close, bt.param("slow")),
    state={"mark": 0.0},
    params={"size": 0.5, "limit": 0.99, "stop": 0.9, "bars": 3},
)
def decides(bar, account, state, p):
    """Orders whose every number is a parameter."""
    if account.is_flat:
        if bar.fast > bar.slow:
            account.buy(share=p.size, limit=bar.close * p.limit, valid_bars=p.bars, stop_loss=bar.close * p.stop)
        else:
            account.sell(units=p.size * 100, stop=bar.low * p.limit, trailing_stop=bt.distance(bar.close - bar.close * p.stop))
    elif bar.close > state.mark:
        account.sell(share_of_position=p.size, limit=account.entry_price * (2.0 - p.stop))
    elif bar.close == state.mark:
        account.move_take_profit(account.entry_price * p.limit, share=p.size)
    state.mark = bar.fast / (bar.slow - bar.fast)


def functions(rnd):
    """A function on the bar machine, with whatever numbers come."""
    costs, execution = conditions(rnd)
    execution |= {"sides": "both", "size_type": "equity", "engine": rnd.choice([None, "machine"])}
    execution = endured(lambda: bt.Execution(**spoilt(rnd, execution))) or bt.Execution()
    params = {"fast": 3, "slow": 7, "size": 0.5, "limit": 0.99, "stop": 0.95, "bars": 3}
    costs = endured(lambda: bt.Costs(**spoilt(rnd, costs))) or COSTS
    good = {
        "bars": BARS,
        "strategy": decides,
        "params": spoilt(rnd, params, 1),
        "costs": costs,
        "execution": execution,
        "window": rnd.choice([None, slice(0, 50)]),
    }
    found = endured(lambda: bt.run(**spoilt(rnd, good, 1)))
    if found is not None:
        look(found, "stats", "trades", "orders", "pending", "equity", "units", "open_positions", "trade_statistics", "to_dict")
        endured(lambda: bt.explain(found))
    space = {"fast": [2, 3], "slow": [6], "size": rnd.choice([[0.5, 1.0], [number(rnd)], {"low": 0.1, "high": 0.9}])}
    good = {"bars": BARS, "strategy": decides, "space": spoilt(rnd, space, 1), "costs": costs, "execution": execution}
    found = endured(lambda: bt.optimize(**spoilt(rnd, good, 1), n_trials=3, timeout=10.0, progress=False, n_threads=1))
    if found is not None:
        look(found, "summary", "best")
    rules = {"fast": 3, "slow": 7, "stop_loss": 0.05, "take_profit": None, "trailing_stop": 0.1, "max_bars": 5}
    execution = endured(lambda: execution.replace(engine="machine")) or execution
    endured(lambda: bt.run(BARS, bt.strategies.sma_cross, spoilt(rnd, rules, 1), costs=costs, execution=execution))


def prices(rnd):
    """Bars whose prices are of any size that bars may have, traded."""
    scale = (
        [10.0 ** rnd.choice([-29, -12, 0, 12, 27]) for _ in range(60)] if rnd.random() < 0.5 else [10.0 ** rnd.randint(-28, 27)]
    )
    found = endured(
        lambda: bars(
            seed=rnd.randint(0, 3),
            **{name: getattr(BARS, name) * np.resize(scale, 60) for name in ("open", "high", "low", "close")},
        )
    )
    assert found is not None
    costs, execution = conditions(rnd)
    money = rnd.choice([1e-3, 1.0, 1e5, 1e29])
    execution = bt.Execution(**execution | {"start_cash": money, "size": 0.5, "start": None})
    traded = endured(
        lambda: bt.run(found, bt.strategies.sma_cross, {"fast": 2, "slow": 3}, costs=bt.Costs(**costs), execution=execution)
    )
    if traded is not None:
        look(traded, "stats", "trades", "trade_statistics")
    close = np.column_stack([found.close, found.open])
    book = endured(
        lambda: bt.simulate(
            np.full((60, 2), rnd.choice([0.5, -0.5, 1.0])),
            close=close,
            costs=bt.Costs(**costs),
            fill="close",
            start_cash=money,
            index=BARS.index,
        )
    )
    if book is not None:
        look(book, "stats", "trade_statistics", "trades")
    endured(
        lambda: bt.Levels.from_bars(
            found, high_pred=found.high, low_pred=found.low, position=np.ones(60), fee_rate=0.001
        ).optimize()
    )


def evaluate(rnd):
    candidates = rnd.choice(
        [
            {"fast": [2, 3], "slow": [5, 6]},
            pd.DataFrame({"fast": [2, 3], "slow": [5, 6]}),
            [[2, 5], [3, 6]],
            {"fast": [nasty(rnd)], "slow": [5]},
            {"fast": nasty(rnd), "slow": nasty(rnd)},
        ]
    )
    good = {
        "bars": BARS,
        "strategy": bt.strategies.sma_cross,
        "candidates": candidates,
        "costs": COSTS,
        "execution": bt.Execution(),
        "metrics": ["sharpe", "total_return"],
        "window": [slice(0, 30), slice(30, 60)],
        "aggregate": rnd.choice(["mean", "median", "min"]),
        "columns": ["fast", "slow"],
        "n_threads": 1,
    }
    endured(lambda: bt.evaluate(**spoilt(rnd, good)))


def optimize(rnd):
    good = {
        "bars": rnd.choice([BARS, {"A": BARS, "B": BARS}]),
        "strategy": bt.strategies.sma_cross,
        "space": SPACE,
        "costs": COSTS,
        "execution": bt.Execution(),
        "metric": "sharpe",
        "method": rnd.choice(["auto", "grid", "direct", "evolution"]),
        "n_trials": rnd.choice([None, 3]),
        "min_trades": 0,
        "keep": 5,
        "seed": 0,
        "window": None,
        "aggregate": "median",
        "n_threads": 1,
        "timeout": 10.0,
        "progress": False,
    }
    found = endured(lambda: bt.optimize(**spoilt(rnd, good)))
    if found is not None:
        look(found, "summary", "best")
        endured(lambda: found.heatmap(**spoilt(rnd, {"x": "fast", "y": "slow", "metric": "sharpe", "agg": "max"}, 1)))
        if rnd.random() < 0.05:
            endured(lambda: bt.load(found.save("result")))


def space(rnd):
    given = rnd.choice(
        [
            range(1, 5),
            [1, 2.5, "a", None],
            {"low": 0.1, "high": 0.7, "step": 0.1},
            {"low": 1e-4, "high": 1.0, "log": True},
            {"choices": ["a", "b"]},
            {"a": range(3)},
            5,
            nasty(rnd),
            [nasty(rnd)],
            spoilt(rnd, {"low": 1, "high": 50, "step": 1, "log": False}),
            {"low": number(rnd), "high": number(rnd), "step": rnd.choice([None, number(rnd)])},
        ]
    )
    where = rnd.choice(
        [
            None,
            None,
            "a < 3",
            "a == 'b'",
            "a",
            "",
            "a +",
            "a ** 9 ** 9",
            "a < 1 < 2",
            "not a",
            "a in [1, 2]",
            "'%d' % a",
            "a / 0 > 1",
            "(" * 300 + "a" + ")" * 300,
            "a < " + "9" * 5000,
            "a == 2**53",
            nasty(rnd),
        ]
    )
    made = endured(lambda: bt.Space({"a": given, "b": [1, 2]} if rnd.random() < 0.9 else {nasty_key(rnd): given}, where))
    if made is None:
        return
    look(made, "to_dict", "names", "varied")
    endured(lambda: made.encode({"a": nasty(rnd), "b": 1}))
    endured(lambda: made.encode_batch([{"a": nasty(rnd), "b": 1}]))
    endured(lambda: made.from_unit(nasty(rnd)))
    endured(lambda: made.from_unit(np.full((2, len(made.varied)), rnd.random())))
    endured(lambda: len(made))
    endured(lambda: bt.Space.from_dict(made.to_dict()))
    if made.size < 100:
        endured(lambda: made.values())
        batch = endured(lambda: made.candidates(np.arange(int(made.size)))[1])
        if batch is not None:
            endured(lambda: (made.digests(batch), made.grid_index(batch), made.decode_batch(batch)))


def nasty_key(rnd):
    value = nasty(rnd)
    return value if type(value).__hash__ is not None and not isinstance(value, (slice, tuple)) else "a b"


def make_levels(rnd):
    if rnd.random() < 0.5:
        good = {
            **MOVES,
            "position": np.resize([1.0, -1.0], 60),
            "fee_rate": 0.001,
            "close_at_eod": False,
            "intrabar": rnd.choice(["optimistic", "pessimistic"]),
            "fill_margin": 0.0,
            "valid": None,
        }
        problem = endured(lambda: bt.Levels(**spoilt(rnd, good)))
    elif rnd.random() < 0.5:
        good = {**MOVES, "buy": np.ones(60), "sell": -np.ones(60), "fee_rate": 0.001, "allow_short": True}
        problem = endured(lambda: bt.AlwaysOn(**spoilt(rnd, good)))
    else:
        good = {
            "bars": BARS,
            **PRICES,
            "position": np.ones(60),
            "fee_rate": 0.001,
            "reference": rnd.choice(["open", "prev_close"]),
            "forecasts": rnd.choice(["prices", "moves"]),
            "valid": None,
        }
        problem = endured(lambda: bt.Levels.from_bars(**spoilt(rnd, good)))
    if problem is None:
        return
    repr(problem)
    options = {
        "method": rnd.choice(["exact", "direct", "evolution"]),
        "bounds": ((-0.03, 0.03), (-0.03, 0.03)),
        "effort": "fast",
        "maxfun": rnd.choice([None, 20]),
        "seed": 0,
    }
    endured(lambda: problem.optimize(**affordable(spoilt(rnd, options))))
    endured(lambda: problem.profit(**spoilt(rnd, {"offsets": [[0.0, 0.01]], "n_threads": 1}, 1)))
    endured(lambda: problem.replay(rnd.choice([[0.0, 0.01], nasty(rnd), [number(rnd), number(rnd)]])))
    endured(lambda: problem.prices(**spoilt(rnd, {"offsets": [0.0, 0.01], "reference": BARS.close, "tick": 0.01})))
    if rnd.random() < 0.2:
        endured(
            lambda: bt.optimize_many(
                **spoilt(
                    rnd,
                    {
                        "problems": {"a": problem},
                        "method": "exact",
                        "deadline": 5.0,
                        "on_error": "record",
                        "n_threads": 1,
                        "progress": False,
                    },
                )
            )
        )


def walk(rnd):
    good = {"bars": BARS, **PRICES, "position": np.ones(60), "forecasts": "prices", "reference": "prev_close"}
    data = endured(lambda: windows.series(**spoilt(rnd, good)))
    options = {
        "window": 20,
        "step": 10,
        "policies": ["limit", "close"],
        "fee_rate": 0.001,
        "intrabar": "optimistic",
        "fill_margin": 0.0,
        "method": "exact",
        "deadline": 5.0,
        "n_threads": 1,
        "progress": False,
    }
    if data is not None:
        table = endured(lambda: windows.walk({"a": data}, **spoilt(rnd, options)))
        if table is not None:
            endured(lambda: windows.summary(table))
    endured(lambda: windows.simple_forecasts(BARS, rnd.choice([20, nasty(rnd)])))


def simulate(rnd):
    good = {
        "weights": np.full((60, 2), 0.5),
        "close": DATED,
        "open": rnd.choice([DATED, None]),
        "high": DATED * 1.1,
        "low": DATED * 0.9,
        "rebalance": np.arange(60) % 10 == 0,
        "fill": rnd.choice(["next_open", "close"]),
        "costs": COSTS,
        "start_cash": 1e5,
        "reinvest": True,
        "reserve_costs": False,
        "window": slice(0, 50),
        "index": BARS.index,
        "benchmark": BARS.close,
        "periods_per_year": 252.0,
        "rf": 0.0,
    }
    book = endured(lambda: bt.simulate(**spoilt(rnd, good)))
    if book is not None:
        look(
            book,
            "equity",
            "cash",
            "returns",
            "drawdown",
            "margin_load",
            "units",
            "fills",
            "orders",
            "trades",
            "open_positions",
            "unfilled",
            "contribution",
            "stats",
            "trade_statistics",
            "account_statistics",
            "to_dict",
        )


def optimize_weights(rnd):
    value = nasty(rnd) if rnd.random() < 0.5 else np.full((60, 2), 0.5)
    good = {
        "rule": lambda params: value,
        "space": {"n": range(2, 5)},
        "close": DATED,
        "open": DATED,
        "costs": COSTS,
        "metric": "sharpe",
        "method": rnd.choice(["auto", "grid"]),
        "n_trials": 2,
        "min_trades": 0,
        "keep": 3,
        "seed": 0,
        "window": None,
        "fill": "next_open",
        "start_cash": 1e5,
        "n_threads": 1,
        "timeout": 10.0,
        "progress": False,
    }
    endured(lambda: bt.optimize_weights(**spoilt(rnd, good)))


def track_trades(rnd):
    ledger = {
        "fill_bar": [1, 5, 9],
        "units": [1.0, -2.0, 1.0],
        "price": [100.0, 101.0, 99.0],
        "cost": [0.0, 0.1, 0.0],
        "moment": ["open", "inside", "close"],
        "reason": ["", "stop", "signal"],
        "decision_bar": [0, 5, 9],
        "stop": [1.0, 2.0, 3.0],
    }
    ledger = spoilt(rnd, ledger, 1)
    good = {
        "ledger": rnd.choice([ledger, ledger, nasty(rnd)]),
        "close": BARS.close,
        "open": BARS.open,
        "high": BARS.high,
        "low": BARS.low,
        "index": BARS.index,
        "borrow_per_bar": 0.0,
    }
    found = endured(lambda: bt.track_trades(**spoilt(rnd, good)))
    if found is not None:
        look(found, "table", "open_positions", "statistics", "to_dict")


def stats(rnd):
    times = BARS.times()
    trades = {
        "entry_time": times[[1, 5, 9]],
        "exit_time": times[[3, 5, 12]],
        "net_profit": [1.0, -2.0, 1.0],
        "return": [0.01, -0.02, 0.01],
        "side": ["long", "short", "long"],
        "units": [1.0, -2.0, 1.0],
        "ambiguous": [False, True, False],
        "exit_cost": [0.0, 0.1, 0.0],
    }
    held = {"entry_time": times[[14]], "units": [1.0], "entry_price": [100.0], "entry_cost": [0.0]}
    good = {
        "equity": pd.Series(BARS.close, index=times),
        "trades": rnd.choice([None, spoilt(rnd, trades, 1), nasty(rnd)]),
        "open_positions": rnd.choice([None, spoilt(rnd, held, 1)]),
        "start_cash": rnd.choice([None, 100.0]),
        "benchmark": rnd.choice([None, BARS.close, pd.Series(BARS.close, index=times)]),
        "rf": 0.0,
        "periods_per_year": None,
    }
    found = endured(lambda: bt.stats(**spoilt(rnd, good)))
    if found is not None and "trades" not in found.missing.values():
        look(found, "trade_statistics")


def search(rnd):
    value = rnd.choice([None, None, None, nasty(rnd)])

    def evaluate(batch):
        try:
            return ((batch - 0.3) ** 2).sum(axis=1) if value is None else value
        except Exception as error:  # it is also tried as what it is not, a rank or a callback
            raise Mine from error

    box = rnd.choice([[(0.0, 1.0), (-1.0, 2.0)], [(number(rnd), number(rnd))], nasty(rnd)])
    endured(
        lambda: bt.search.direct(
            **spoilt(
                rnd,
                {
                    "evaluate": evaluate,
                    "bounds": box,
                    "eps": 1e-4,
                    "maxfun": 50,
                    "maxiter": 20,
                    "locally_biased": True,
                    "f_min": -1.0,
                    "f_min_rtol": 1e-4,
                    "vol_tol": 1e-16,
                    "len_tol": 1e-6,
                    "callback": None,
                    "selection": "relaxed",
                    "nan": "raise",
                },
                1,
            )
        )
    )
    endured(
        lambda: bt.search.evolution(
            **affordable(
                spoilt(
                    rnd,
                    {"evaluate": evaluate, "bounds": box, "maxfun": 50, "seed": 0, "popsize": 3, "tol": 0.0, "callback": None},
                    1,
                )
            )
        )
    )
    given = bt.Space({"a": range(5), "b": range(3)})
    endured(
        lambda: bt.search.grid(
            **spoilt(
                rnd,
                {
                    "evaluate": evaluate,
                    "space": given,
                    "rank": None,
                    "n_trials": None,
                    "keep": 2,
                    "seed": 0,
                    "batch_size": 10,
                    "seconds": 1.0,
                    "timeout": 5.0,
                    "callback": None,
                },
                1,
            )
        )
    )
    endured(
        lambda: bt.search.cube(
            **spoilt(
                rnd,
                {
                    "evaluate": evaluate,
                    "space": given,
                    "engine": rnd.choice(["direct", "evolution"]),
                    "n_trials": 10,
                    "keep": 2,
                    "seed": 0,
                    "timeout": 5.0,
                    "callback": None,
                },
                1,
            )
        )
    )
    endured(
        lambda: bt.search.choose(
            **spoilt(rnd, {"evaluate": evaluate, "space": given, "n_trials": 10, "seed": 0, "timeout": 5.0}, 1)
        )
    )


UNARY = [
    lambda a: -a,
    lambda a: ~a,
    lambda a: lines.sma(a, 3),
    lambda a: lines.previous(a),
    lambda a: lines.rsi(a),
    lambda a: lines.bollinger(a, 3)[0],
]
BINARY = [
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: a > b,
    lambda a, b: a <= b,
    lambda a, b: a & b,
    lambda a, b: a | b,
    lambda a, b: a == b,
    lambda a, b: a < b < a,
    lambda a, b: (a if isinstance(a, (rules.Value, rules.Condition)) else b) and b,
    rules.crosses_above,
    rules.crosses_below,
    rules.above,
    lines.sma,
    lines.ema,
    lines.highest,
    lines.previous,
    lines.atr,
    lambda a, b: bt.line(a, version=b),
    lambda a, b: bt.param(a, b),
]


def expressions(rnd):
    known = [
        lines.close,
        lines.high,
        lines.volume,
        bt.param("p"),
        3.0,
        lines.close > 100.0,
        lines.sma(lines.close, bt.param("q")),
    ]
    for _ in range(rnd.randint(1, 12)):
        first, second = (rnd.choice(known) if rnd.random() < 0.8 else nasty(rnd) for _ in range(2))
        if not any(isinstance(each, (rules.Value, rules.Condition)) for each in (first, second)):
            first = lines.close  # the operators of others are not ours
        combine, how = (rnd.choice(BINARY), [first, second]) if rnd.random() < 0.7 else (rnd.choice(UNARY), [first])
        made = endured(lambda combine=combine, how=how: combine(*how))
        if isinstance(made, (lines.Line, rules.Condition)):
            known.append(made)
    entries = [each for each in known if isinstance(each, rules.Condition)]
    good = {
        "enter_long": entries[-1],
        "exit_long": entries[0],
        "stop_loss": known[-1],
        "take_profit": rnd.choice(known),
        "max_bars": 5,
        "name": "s",
    }
    strategy = endured(lambda: rules.Strategy(**spoilt(rnd, good, 1)))
    if strategy is not None:
        repr(strategy)
        params = {name: rnd.choice([3, 5, 0.1, nasty(rnd)]) for name in strategy.params}
        endured(lambda: bt.run(BARS, strategy, params, costs=COSTS))


def arrays(rnd):
    entries = np.arange(60) % 7 == 0
    good = {"entries": entries, "exits": ~entries, "short_entries": None, "short_exits": None, "stop_loss": 0.1, "max_bars": 3}
    strategy = endured(lambda: rules.from_arrays(**spoilt(rnd, good)))
    if strategy is not None:
        endured(lambda: bt.evaluate(BARS, strategy, rnd.choice([None, {"column": [0]}, {"column": [nasty(rnd)]}]), costs=COSTS))
    endured(lambda: rules.PackedSignals(**spoilt(rnd, {"words": np.ones(1, np.uint64), "n_bars": 60}, 1)))

    value = rnd.choice([BARS.close, nasty(rnd), series(rnd)])

    @bt.line("n")
    def mine(bars, n):
        return value

    endured(lambda: bt.run(BARS, rules.Strategy(enter_long=mine(rnd.choice([3, 2.5, nasty(rnd)])) > 1.0), costs=COSTS))


def study(rnd):
    value = rnd.choice([1.0, None, nasty(rnd)])

    def objective(params, trial):
        endured(lambda: trial.report(nasty(rnd), nasty(rnd)))
        endured(lambda: trial.set_attr(nasty(rnd), nasty(rnd)))
        return params["fast"] if value is None else value

    good = {
        "space": SPACE,
        "objective": objective,
        "name": "s",
        "version": None,
        "data": None,
        "direction": rnd.choice(["maximize", ["minimize"]]),
        "store": None,
        "resume": "allow",
        "sampler": "random",
        "pruner": None,
        "seed": 0,
    }
    made = endured(lambda: bt.Study(**spoilt(rnd, good, 1)))
    if made is None:
        return
    done = endured(
        lambda: made.run(
            **spoilt(
                rnd,
                {
                    "n_trials": 2,
                    "timeout": 5.0,
                    "trial_timeout": None,
                    "catch": (ValueError,),
                    "retries": 0,
                    "executor": None,
                    "progress": False,
                    "callbacks": (),
                    "mirror": None,
                },
                1,
            )
        )
    )
    look(made, "trials_dataframe", "best_params", "best_value")
    assert done is None or str(done)


def trial(rnd):
    made = Trial(0, {"a": 1})
    endured(lambda: made.report(nasty(rnd), nasty(rnd)))
    endured(lambda: made.report(rnd.randint(-5, 5), number(rnd)))
    endured(lambda: made.set_attr(rnd.choice(["a", nasty(rnd)]), nasty(rnd)))
    json.dumps(made.attrs)


KEYS = {
    optimize_config: {
        "data": {"sample": "GOOG"},
        "strategy": {"name": "sma_cross"},
        "params": {"fast": 5, "slow": 20},
        "space": {"fast": [5, 6], "slow": [20]},
        "costs": {"fee_rate": 0.001},
        "execution": {"start_cash": 1e5, "engine": "machine"},
        "search": {"metric": "sharpe", "n_trials": 2, "window": [0, 100], "seed": 0},
    },
    levels_config: {
        "symbols": {"GOOG": "sample"},
        "forecast": {"kind": "prices"},
        "levels": {"window": 500, "fee_rate": 0.001},
        "search": {"method": "exact", "n_threads": 1, "bounds": [[-0.03, 0.03], [-0.03, 0.03]]},
    },
    portfolio_config: {
        "data": {"samples": ["AAPL", "IBM"]},
        "rule": {"name": "inverse_volatility", "every": "year"},
        "params": {"lookback": 20},
        "costs": {"fee_rate": 0.0},
        "portfolio": {"fill": "close", "window": [0, 900]},
        "search": {"metric": "sharpe"},
    },
}
TOML = [
    "1",
    "-1",
    "1e400",
    "9" * 400,
    "nan",
    "inf",
    '"x"',
    '""',
    '"none"',
    "true",
    "[]",
    "[1, 2]",
    "[[0, 9], [9, 20]]",
    '["a"]',
    "{}",
    "{ a = 1 }",
    "{ low = 1, high = 5, step = 1 }",
    "2020-01-01",
    "0x7fffffffffffffff",
    "[" * 2000 + "]" * 2000,
    '"nowhere.csv"',
    '"a:b"',
    '"os:sep"',
    '"\\u0000"',
]


def toml(rnd):
    room = rnd.choice(list(KEYS))
    text = []
    for section, table in KEYS[room].items():
        if rnd.random() < 0.05:
            continue
        text.append(f"[{section}]")
        for key, value in table.items():
            shown = rnd.choice(TOML) if rnd.random() < 0.08 else _toml(value)
            text.append(f"{key if rnd.random() < 0.98 else 'x'} = {shown}")
        if rnd.random() < 0.05:
            text.append(f"{rnd.choice(['window', 'seed', 'timeout', 'x', 'file', 'size', 'profile'])} = {rnd.choice(TOML)}")
    written = "\n".join(text)
    if rnd.random() < 0.1:
        at = rnd.randrange(len(written) + 1)
        written = written[:at] + rnd.choice(["[", "\0", "=", "é", '"']) + written[at:]
    with open("c.toml", "wb") as file:
        file.write(written.encode(rnd.choice(["utf-8", "utf-8", "latin-1", "utf-16"])))
    found = endured(lambda: room.read("c.toml"))
    if found is not None and room is portfolio_config and rnd.random() < 0.2:
        endured(found.simulate)
    with open("s.toml", "w") as file:
        file.write("\n".join(f"{name} = {rnd.choice(TOML)}" for name in ("a", "b", "where")[: rnd.randint(1, 3)]))
    endured(lambda: bt.Space.read("s.toml"))
    with open("s.json", "w") as file:
        file.write(
            rnd.choice(
                [
                    '{"a": [1, 2]}',
                    "[]",
                    "null",
                    '{"a": ' + "[" * 5000 + "]" * 5000 + "}",
                    '{"a": 1e999}',
                    '{"a": NaN}',
                    '{"a": ' + "9" * 5000 + "}",
                    '{"space": {"a": {"b": [1]}}}',
                    "{",
                    '"x"',
                ]
            )
        )
    endured(lambda: bt.Space.read("s.json"))
    endured(lambda: bt.Space.read(nasty(rnd)))


def _toml(value):
    if isinstance(value, str):
        return f'"{value}"'
    return json.dumps(value)


def allocate(rnd):
    endured(lambda: allocation.calendar(**spoilt(rnd, {"times": DATED.index, "every": rnd.choice(allocation.EVERY)})))
    endured(
        lambda: allocation.inverse_volatility(
            **spoilt(rnd, {"close": rnd.choice([DATED.to_numpy(), DATED]), "lookback": 5, "rebalance": np.arange(60) % 10 == 0})
        )
    )


def load(rnd):
    endured(lambda: bt.load(nasty(rnd)))


DOORS = {
    each.__name__: each
    for each in (
        make_bars,
        read_file,
        run,
        functions,
        prices,
        evaluate,
        optimize,
        space,
        make_levels,
        walk,
        simulate,
        optimize_weights,
        track_trades,
        stats,
        search,
        expressions,
        arrays,
        study,
        trial,
        toml,
        allocate,
        load,
    )
}


@pytest.mark.parametrize("door", DOORS)
def test_door(door, request, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    @settings(
        max_examples=request.config.getoption("--fuzz-calls"),
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def call(rnd):
        DOORS[door](rnd)

    call()

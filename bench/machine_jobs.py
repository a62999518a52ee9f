"""Jobs of bench/peers.py for the bar machine: the same strategies in loops, vectorbt's order function, backtesting.py."""

import functools
import os
import subprocess
import sys
from typing import NamedTuple

import numpy as np
import talib
from jobs import CASH, CHUNK_CELLS, METRICS, PER_YEAR, SEED, Engine
from machine_strategies import Family, chandeliers, flippings, showcases, weighings
from plain_machine import OUT, loops, plain

import backtest as bt
from backtest.metrics import SWEEP


class StepJob(NamedTuple):
    """Candidates of one strategy that lives bar by bar; in an order from which the first are a sample."""

    name: str
    bars: bt.Bars
    family: Family
    fee_rate: float
    slippage: float
    whole_units: bool = False

    @property
    def n_candidates(self):
        return len(self.family.params)

    @property
    def n_bars(self):
        return len(self.bars) - self.family.start

    @property
    def rules(self):
        """Costs and execution, as our calls take them."""
        return {
            "costs": bt.Costs(fee_rate=self.fee_rate, slippage=self.slippage),
            "n_threads": 1,
            "execution": bt.Execution(
                start_cash=CASH, start=self.family.start, periods_per_year=PER_YEAR, whole_units=self.whole_units
            ),
        }

    @property
    def engines(self):
        return ENGINES

    def prices(self):
        return [np.ascontiguousarray(getattr(self.bars, name)) for name in ("open", "high", "low", "close")]

    def sample(self, count):
        """Indices of candidates, spread over the family."""
        return np.random.default_rng(SEED).permutation(self.n_candidates)[:count]

    def lines(self, picked):
        """Every line that the candidates need, once, and each candidate's rows: what a loop needs before it begins."""
        windows = self.family.windows[picked]
        makers = {
            "sma": lambda window: talib.SMA(self.bars.close, window),
            "highest": lambda window: talib.MAX(self.bars.close, window),
            "atr": lambda window: talib.ATR(self.bars.high, self.bars.low, self.bars.close, window),
        }
        found, rows = [], np.zeros(windows.shape, dtype=np.int64)
        for kind in dict.fromkeys(self.family.kinds):
            of_kind = [column for column, each in enumerate(self.family.kinds) if each == kind]
            distinct, inverse = np.unique(windows[:, of_kind], return_inverse=True)
            rows[:, of_kind] = len(found) + inverse.reshape(len(picked), -1)
            found += [makers[kind](int(window)) for window in distinct]
        return np.array(found), rows


def synthetic(n_bars):
    """Bars that go 1 % a step, with gaps, around one level."""
    rng = np.random.default_rng(SEED)
    steps, level = rng.normal(0, 0.01, n_bars), 0.0
    logs = np.empty(n_bars)
    for bar in range(n_bars):
        level = 0.999 * level + steps[bar]
        logs[bar] = level
    close = 100 * np.exp(logs)
    open_ = np.concatenate([[100.0], close[:-1]]) * np.exp(rng.normal(0, 0.003, n_bars))
    spread = np.exp(np.abs(rng.normal(0, 0.004, (2, n_bars))))
    return bt.Bars(open=open_, high=np.maximum(open_, close) * spread[0], low=np.minimum(open_, close) / spread[1], close=close)


def jobs(quick):
    """On the embedded GOOG, one on 100,000 bars; 10,000 candidates of each, there 320."""
    bars, long = bt.Bars.sample("GOOG"), synthetic(100_000)
    few = 10 if quick else 1  # a tenth of the candidates
    fasts, slows = range(5, 105), range(105, 205)
    fee = 2.0 / len(bars)
    for name, slippage, whole in (("showcase", fee / 2, False), ("showcase, whole units", 0.0, True)):
        yield StepJob(f"machine: {name}", bars, showcases(fasts[::few], slows), fee, slippage, whole)
    yield StepJob(
        "machine: showcase, 100,000 bars", long, showcases(range(12, 28), range(90, 110, 8 if quick else 1)), 0.0005, 0.0002
    )
    widths, reaches = np.linspace(2.0, 5.0, 10), np.linspace(1.0, 4.0, 10)
    yield StepJob("machine: chandelier", bars, chandeliers(range(20, 120, few), widths, reaches), 0.0005, 0.0002)
    for every, words in ((10, "tenth"), (2, "second")):
        families = flippings(range(10, 110, few), np.linspace(0.3, 0.6, 100 // every), every)
        yield StepJob(f"machine: a trade every {words} bar", bars, families, fee / 2, fee / 4)
    weights, levels = np.linspace(0.5, 2.0, 10), np.linspace(0.1, 0.8, 10)
    yield StepJob("machine: much arithmetic", bars, weighings(range(110, 210, few), weights, levels), fee / 2, fee / 4)


# Engines: engine(job, count) -> metric -> array of the first ``count`` candidates of the sample


def table(job, picked):
    """The public call: lines, kernel, all sweep metrics, DataFrame."""
    columns = {name: column[picked] for name, column in job.family.columns.items()}
    return bt.evaluate(job.bars, job.family.strategy, columns, **job.rules)


def ours(job, count):
    found = table(job, job.sample(count))
    return {metric: found[metric].to_numpy() for metric in METRICS}


def ours_sweeping(job, count):
    """Candidates side by side, as a sweep visits them; only timed."""
    return table(job, slice(count))


def metrics_of(out, n_bars):
    """The metrics that are compared, from what loops leave behind."""
    column = dict(zip(OUT, np.asarray(out).T, strict=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, square = column["total"] / n_bars, column["squares"] / n_bars
        deviation = np.sqrt((square - mean * mean) * n_bars / (n_bars - 1))
        found = (
            column["equity"] / CASH - 1.0,
            mean / deviation * np.sqrt(PER_YEAR),
            mean / np.sqrt(column["downside"] / n_bars) * np.sqrt(PER_YEAR),
            column["drawdown"],
            column["trades"],
            column["winners"] / column["trades"],
            column["won"] / column["lost"],
        )
    return dict(zip(METRICS, found, strict=True))


@functools.cache
def compiled_loops():
    import numba

    return loops(numba.njit(error_model="numpy", nogil=True))


def rules_of_loops(job):
    return job.family.start, CASH, job.fee_rate, job.slippage, job.whole_units


def numba_loop(job, count):
    picked = job.sample(count)
    made, rows = job.lines(picked)
    out = np.zeros((count, len(OUT)))
    compiled_loops()[job.family.loop](*job.prices(), made, rows, job.family.params[picked], rules_of_loops(job), out)
    return metrics_of(out, job.n_bars)


def plain_loop(job, count):
    """Lists, which plain Python reads faster than arrays."""
    picked = job.sample(count)
    made, rows = job.lines(picked)
    arrays = (*job.prices(), made, rows, job.family.params[picked])
    out = [[0.0] * len(OUT) for _ in range(count)]
    loops(plain)[job.family.loop](*(each.tolist() for each in arrays), rules_of_loops(job), out)
    return metrics_of(out, job.n_bars)


@functools.cache
def order_function():
    """The showcase for vectorbt, which asks again and again on each bar until it is told that nothing is left to do."""
    from numba import njit
    from vectorbt.portfolio import nb
    from vectorbt.portfolio.enums import SizeType

    amount, stays = int(SizeType.Amount), nb.order_nothing_nb()
    nothing, enter, leave, opened, walked = range(5)

    @njit
    def orders(c, open_, high, low, close, lines, rows, params, rules, order, last_stop, levels, asked):
        col, bar = c.from_col, c.i
        _, fee, slip, whole = rules
        if c.call_idx == 0:
            asked[col] = nothing
        units, first = c.last_position[col], open_[bar]
        if asked[col] == nothing:
            asked[col], now = opened, order[col]
            order[col] = nothing
            if now == leave:
                asked[col] = walked
                return col, nb.order_nb(-units, first, size_type=amount, fees=fee, slippage=slip)
            if now == enter:
                size = params[col, 0] * c.last_cash[col] / (first * (1.0 + slip) * (1.0 + fee))
                if whole:
                    size = np.floor(size)
                return col, nb.order_nb(size, first, size_type=amount, fees=fee, slippage=slip)
        if asked[col] == opened:
            asked[col] = walked
            stop, target = levels[col, 0], levels[col, 1]
            if units > 0.0:
                if first <= stop or (low[bar] <= stop and first < target):
                    last_stop[col] = bar
                    return col, nb.order_nb(-units, min(first, stop), size_type=amount, fees=fee, slippage=slip)
                if high[bar] >= target:
                    return col, nb.order_nb(-units, max(first, target), size_type=amount, fees=fee)
        if bar - last_stop[col] >= params[col, 3]:
            fast, slow = lines[rows[col, 0], bar], lines[rows[col, 1], bar]
            if units == 0.0:
                if fast > slow:
                    order[col] = enter
                    levels[col, 0], levels[col, 1] = close[bar] * (1.0 - params[col, 1]), close[bar] * (1.0 + params[col, 2])
            elif fast < slow:
                order[col] = leave
        return -1, stays

    return orders


def books_of_vectorbt(job, count):
    """Chunks of columns; orders alone: nothing is computed from them yet."""
    import vectorbt as vbt

    every = job.sample(count)
    width = max(1, CHUNK_CELLS // len(job.bars))
    start, *rules = rules_of_loops(job)
    prices = [each[start:] for each in job.prices()]  # no bars before the first that decides
    for begin in range(0, count, width):
        picked = every[begin : begin + width]
        made, rows = job.lines(picked)
        n = len(picked)
        states = (np.zeros(n, dtype=np.int64), np.full(n, -(10**9)), np.zeros((n, 2)), np.zeros(n, dtype=np.int64))
        yield vbt.Portfolio.from_order_func(
            np.broadcast_to(prices[3][:, None], (job.n_bars, n)),
            order_function(),
            *(*prices, made[:, start:], rows, job.family.params[picked], tuple(rules), *states),
            flexible=True,
            init_cash=CASH,
            freq="1D",
        )


def vectorbt_orders(job, count):
    for book in books_of_vectorbt(job, count):
        assert len(book.orders.records)


def vectorbt_order_function(job, count):
    found = []
    for book in books_of_vectorbt(job, count):
        closed = book.trades.closed
        numbers = (book.total_return(), book.sharpe_ratio(), book.sortino_ratio(), book.max_drawdown())
        numbers += (closed.count(), closed.win_rate(), closed.profit_factor())
        found.append(np.array([np.asarray(each, dtype=float) for each in numbers]))
    return dict(zip(METRICS, np.concatenate(found, axis=1), strict=True))


def backtesting_py(job, count):
    import pandas as pd
    from backtesting import Backtest, Strategy, backtesting

    backtesting._tqdm = lambda bars, **_: bars
    start = job.family.start

    class Showcase(Strategy):
        fast = slow = 0
        share = stop_loss = take_profit = cooldown = 0.0

        def init(self):
            self.one = self.I(talib.SMA, self.data.Close, self.fast)
            self.other = self.I(talib.SMA, self.data.Close, self.slow)
            self.longest = self.I(talib.SMA, self.data.Close, start)  # so that all candidates begin at one bar
            self.asked, self.last_stop = False, -(10**9)

        def next(self):
            bar = len(self.data) - 1
            if self.closed_trades and not self.asked and self.closed_trades[-1].exit_bar == bar:
                last = self.closed_trades[-1]
                if last.exit_price <= last.sl:
                    self.last_stop = bar
            self.asked = False
            if bar - self.last_stop < self.cooldown:
                return
            if not self.position:
                if self.one[-1] > self.other[-1]:
                    close = self.data.Close[-1]
                    self.buy(size=self.share, sl=close * (1.0 - self.stop_loss), tp=close * (1.0 + self.take_profit))
            elif self.one[-1] < self.other[-1]:
                self.position.close()
                self.asked = True

    frame = pd.DataFrame(
        {name.capitalize(): getattr(job.bars, name) for name in ("open", "high", "low", "close")}, index=job.bars.times()
    )
    engine, found = Backtest(frame, Showcase, cash=CASH, commission=job.fee_rate), []
    for each in job.sample(count):
        told = engine.run(**{name: column[each].item() for name, column in job.family.columns.items()})
        found.append((told["Return [%]"] / 100, told["Max. Drawdown [%]"] / 100, told["# Trades"], told["Win Rate [%]"] / 100))
    return dict(zip(("total_return", "max_drawdown", "n_trades", "win_rate"), np.array(found, dtype=float).T, strict=True))


def _is_showcase(job):
    return job.family.loop == "showcase"


ENGINES = {
    "backtest": Engine("backtest", ours, f"all {len(SWEEP)}", lambda job: True, np.inf, ours_sweeping),
    "Numba loop": Engine("numba", numba_loop, "these 7", lambda job: True, np.inf),
    "plain Python loop": Engine("numpy", plain_loop, "these 7", lambda job: True, CHUNK_CELLS / 2),
    "vectorbt, orders": Engine(
        "vectorbt", vectorbt_order_function, "orders only", _is_showcase, 2 * CHUNK_CELLS, vectorbt_orders
    ),
    "backtesting.py": Engine("backtesting", backtesting_py, "30", lambda job: _is_showcase(job) and job.whole_units, 0),
}


#: Decorated and run in a process that has the library, NumPy, pandas and TA-Lib.
BEGINNING = """
import time
import pandas, talib
import backtest as bt
bars = bt.Bars.sample("GOOG")
begin = time.perf_counter()
import machine_strategies as made
bt.evaluate(bars, made.showcase, made.showcases([20], [100]).columns, costs=bt.Costs(fee_rate=0.001))
first = time.perf_counter() - begin
begin = time.perf_counter()
bt.on_bar(**made.showcase.lines)(made.showcase.function).program()
print(time.perf_counter() - begin, first)
"""


def beginnings():
    """Time to decorate, and to the first result, each the least of five fresh processes."""
    where = os.path.dirname(os.path.abspath(__file__))
    found = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", BEGINNING], cwd=where, capture_output=True, text=True, check=True)
        found.append([float(each) * 1e3 for each in done.stdout.split()])
    decorated, first = np.min(found, axis=0)
    return (
        f"decorating: {decorated:.1f} ms; from the library imported to the first result, four functions decorated: {first:.0f} ms"
    )

"""Every evaluator keeps to the contract of :class:`backtest.evaluator.Evaluator`."""

from typing import ClassVar

import numpy as np
import pytest
from cases import random_bars
from contract import EvaluatorContract

import backtest as bt
from backtest import lines
from backtest.book_evaluator import BookEvaluator
from backtest.cells import Cells
from backtest.machine.evaluator import machine_evaluator
from backtest.metrics import SWEEP
from backtest.portfolio import Market, Rules
from backtest.signals import StrategyEvaluator
from backtest.study.memory import Memory, SweepMemory

N_BARS = 200
COSTS = bt.Costs(fee_rate=0.001, slippage=0.0005)
SPACE = bt.Space({"fast": [3, 5, 8], "slow": [10, 20], "stop_loss": [None, 0.03]})
START = 25


DATES = slice("2000-03-01", "2000-05-29")  # of a bar a day from 2000 on


def dated(bars):
    days = np.datetime64("2000-01-01") + np.arange(len(bars))
    return bt.Bars(open=bars.open, high=bars.high, low=bars.low, close=bars.close, index=days)


def first_bars(bars, n):
    return bars[:n]


BARS = dated(random_bars(np.random.default_rng(3), N_BARS))
OTHER = dated(random_bars(np.random.default_rng(4), N_BARS + 17))


def candidates(space):
    batch = space.candidates(np.arange(len(space)))[1]
    return np.concatenate([batch, batch[2:3]])


class OfStrategies(EvaluatorContract):
    """A strategy on bars."""

    dates = DATES

    execution = bt.Execution(start=START, periods_per_year=252, rf=0.02)

    def of(self, bars, execution, n_threads=1):
        return StrategyEvaluator(
            bars, bt.strategies.sma_cross, SPACE.parameters, costs=COSTS, execution=execution, n_threads=n_threads
        )

    def make(self, n_threads=1):
        return self.of(BARS, self.execution, n_threads)

    def batch(self):
        return candidates(SPACE)

    def without_later_bars(self):
        return self.of(first_bars(BARS, self.window.stop), self.execution.replace(start=self.window.start))


class TestStrategies(OfStrategies):
    def test_columns_are_the_metrics(self, evaluate):
        assert list(evaluate.columns) == list(SWEEP)


class TestStrategiesWithBothOrdersInsideABar(OfStrategies):
    execution = OfStrategies.execution.replace(intrabar="both")

    def test_columns_are_the_metrics_of_both(self, evaluate):
        assert list(evaluate.columns) == [*SWEEP, *(f"{name}_optimistic" for name in SWEEP)]


@bt.on_bar(
    fast=lines.sma(lines.close, bt.param("fast")),
    slow=lines.sma(lines.close, bt.param("slow")),
    is_up=bt.rules.crosses_above(lines.close, lines.sma(lines.close, 4)),
    params={"stop": 0.05},
)
def bar_by_bar(bar, account, state, p):
    """Limit entries, a stop, and half out."""
    if account.is_flat:
        if bar.fast > bar.slow or bar.previous(2).is_up:
            account.buy(share=0.5, limit=bar.close * 0.999, valid_bars=4, stop_loss=bt.below_entry(p.stop))
    elif bar.fast < bar.slow:
        account.close()
    else:
        account.sell(share_of_position=0.5, limit=account.entry_price * 1.01, once=True)


FUNCTION_SPACE = bt.Space({"fast": [3, 5, 8], "slow": [10, 20], "stop": [0.01, 0.04]})


class OfFunctions(OfStrategies):
    """A function with ``bt.on_bar``."""

    def of(self, bars, execution, n_threads=1):
        return machine_evaluator(
            bars, bar_by_bar, FUNCTION_SPACE.parameters, costs=COSTS, execution=execution, n_threads=n_threads
        )

    def batch(self):
        return candidates(FUNCTION_SPACE)


class TestFunctions(OfFunctions):
    def test_columns_are_the_metrics(self, evaluate):
        assert list(evaluate.columns) == list(SWEEP)


class TestFunctionsWithBothOrdersInsideABar(OfFunctions):
    execution = OfStrategies.execution.replace(intrabar="both")


class TestRulesOnTheMachine(OfStrategies):
    execution = OfStrategies.execution.replace(engine="machine", intrabar="both")

    def of(self, bars, execution, n_threads=1):
        return machine_evaluator(
            bars, bt.strategies.sma_cross, SPACE.parameters, costs=COSTS, execution=execution, n_threads=n_threads
        )

    def test_they_are_evaluated_by_the_machine(self, evaluate):
        assert evaluate.engine == "machine"
        assert list(evaluate.columns) == [*SWEEP, *(f"{name}_optimistic" for name in SWEEP)]


CLOSE = np.column_stack([BARS.close, OTHER.close[:N_BARS], BARS.open])
WEIGHTS = bt.Space({"n": [5, 10, 20], "every": [1, 5], "share": [0.5, 1.0]})


def momentum(params, close=CLOSE):
    """Equal weights of the assets that rose over ``n`` bars, every ``every`` bars."""
    rose = np.zeros(close.shape)
    rose[params["n"] :] = close[params["n"] :] > close[: -params["n"]]
    target = rose / np.maximum(rose.sum(axis=1, keepdims=True), 1) * params["share"]
    target[np.arange(len(close)) % params["every"] != 0] = np.nan
    return target


def shorter_momentum(params, n=EvaluatorContract.window.stop):
    return momentum(params)[:n]


class TestBooks(EvaluatorContract):
    """Weights in a market."""

    is_pickled = True

    def of(self, rule, close, n_threads=1):
        rules = Rules(COSTS, "close", periods_per_year=252.0, rf=0.02).checked()
        return BookEvaluator(rule, WEIGHTS, Market(close), rules, n_threads=n_threads)

    def make(self, n_threads=1):
        return self.of(momentum, CLOSE, n_threads)

    def batch(self):
        return candidates(WEIGHTS)

    def without_later_bars(self):
        evaluator = self.of(shorter_momentum, CLOSE[: self.window.stop])
        return lambda batch: evaluator(batch, slice(self.window.start, None))

    def test_columns_are_the_metrics(self, evaluate):
        assert list(evaluate.columns) == list(SWEEP)


def moves(bars, seed):
    rng = np.random.default_rng(seed)
    before = np.concatenate([[100.0], bars.close[:-1]])
    return {
        **{name: getattr(bars, name) / before - 1.0 for name in ("close", "high", "low")},
        "high_pred": rng.normal(0.01, 0.005, len(bars)),
        "low_pred": rng.normal(-0.01, 0.005, len(bars)),
    }


MOVES = moves(BARS, 5)
POSITION = np.random.default_rng(6).choice([-1.0, 0.0, 0.5, 1.0], N_BARS)


def levels(bars=slice(None), **rules):
    given = {name: values[bars] for name, values in MOVES.items()}
    return bt.Levels(**given, position=POSITION[bars], fee_rate=0.001, **rules)


def always_on(bars=slice(None)):
    given = {name: values[bars] for name, values in MOVES.items()}
    sizes = {"buy": np.maximum(POSITION, 0.25)[bars], "sell": np.minimum(POSITION, -0.25)[bars]}
    return bt.AlwaysOn(**given, **sizes, fee_rate=0.001, intrabar="pessimistic")


class OfLevels(EvaluatorContract):
    """Entry and exit levels."""

    is_pickled = True
    has_threads = False  # as many as there are

    def make(self, n_threads=1):
        return levels()

    def batch(self):
        batch = np.random.default_rng(7).uniform(-0.02, 0.02, (12, 2))
        return np.concatenate([batch, batch[2:3], [[0.0, 0.0]]])

    def without_later_bars(self):
        return levels(self.window)


class TestLevels(OfLevels):
    def test_scores_are_the_profit(self, evaluate):
        assert evaluate.columns == ("profit",)
        assert evaluate(self.batch()).tobytes() == evaluate.profit(self.batch(), n_threads=1).tobytes()

    def test_a_search_takes_it(self, evaluate):
        space = bt.Space(
            {"high": {"low": -0.02, "high": 0.02, "step": 0.002}, "low": {"low": -0.02, "high": 0.02, "step": 0.002}}
        )
        found = bt.search.grid(evaluate, space, rank=np.negative)
        assert -found.fun == evaluate.profit(space.candidates(np.arange(len(space)))[1]).max()


class TestAlwaysOn(OfLevels):
    def make(self, n_threads=1):
        return always_on()

    def without_later_bars(self):
        return always_on(self.window)


class OfDevices(OfLevels):
    """Problems of levels on a device."""

    is_pickled = False
    problems = staticmethod(lambda bars=slice(None): [levels(bars), always_on(bars), levels(bars, close_at_eod=True)])

    def of(self, problems):
        pytest.importorskip("torch", reason="extra `gpu` is not installed")
        from backtest import gpu

        return gpu.Problems(problems, "cpu", path="torch")

    def make(self, n_threads=1):
        return self.of(self.problems())

    def without_later_bars(self):
        return self.of(self.problems(self.window))


class TestLevelsOnADevice(OfDevices):
    def test_rows_that_do_not_know_their_bars_have_no_windows(self):
        with pytest.raises(bt.InputError, match="window must be None for rows"):
            self.of([levels().level_rows()])(self.batch(), self.window)


class TestOneProblemOnADevice(OfDevices):
    problems = staticmethod(lambda bars=slice(None): [levels(bars)])


class OfCells(EvaluatorContract):
    """A strategy on two symbols, each in two windows, or all at once."""

    dates = DATES

    windows: ClassVar = [slice(0, 120), slice(100, None)]
    symbols: ClassVar = {"one": BARS, "other": OTHER}

    def of(self, symbols, windows, start, n_threads=1):
        def evaluator(bars, share):
            execution = OfStrategies.execution.replace(start=start)
            given = {"costs": COSTS, "execution": execution, "n_threads": n_threads, "memo_share": share}
            return StrategyEvaluator(bars, bt.strategies.sma_cross, SPACE.parameters, **given)

        return Cells(symbols, windows, "median", evaluator)

    def make(self, n_threads=1):
        return self.of(self.symbols, self.windows, START, n_threads)

    def batch(self):
        return candidates(SPACE)

    def without_later_bars(self):
        return self.of(
            {name: first_bars(bars, self.window.stop) for name, bars in self.symbols.items()},
            [slice(self.window.start, 120), slice(100, None)],
            START,
        )


class TestCells(OfCells):
    def test_columns_are_the_aggregated_metrics_and_then_those_of_each_cell(self, evaluate):
        assert evaluate.columns[: len(SWEEP)] == list(SWEEP)
        assert evaluate.columns[len(SWEEP) :: len(SWEEP)] == [
            f"{SWEEP[0]}@{cell}" for cell in ("one[0:120]", "one[100:]", "other[0:120]", "other[100:]")
        ]

    def test_a_window_that_leaves_a_cell_without_bars_is_refused(self, evaluate):
        with pytest.raises(bt.DataError, match=r"one: window must leave a bar to trade"):
            evaluate(self.batch(), slice(30, 90))


class TestOneCell(OfCells):
    windows = None
    symbols: ClassVar = {"one": BARS}

    def without_later_bars(self):
        bars = {name: first_bars(bars, self.window.stop) for name, bars in self.symbols.items()}
        return self.of(bars, None, self.window.start)


class OfMemories(EvaluatorContract):
    """A store in front of an evaluator."""

    dates = DATES

    space = SPACE

    def behind(self, n_threads=1):
        return TestCells().make(n_threads)

    def make(self, n_threads=1):
        behind = self.behind(n_threads)
        return self.remembering(behind, getattr(behind, "columns", ["value"]))

    def remembering(self, behind, columns):
        return Memory(behind, self.space, f"sqlite:///{self.folder / 'results.db'}", {"data": "x"}, columns)

    def batch(self):
        return candidates(self.space)

    def without_later_bars(self):
        return TestCells().without_later_bars()


class TestMemory(OfMemories):
    def test_what_was_evaluated_is_answered(self, evaluate):
        scores = evaluate(self.batch())
        assert evaluate.n_stored == 0
        other = self.remembering(None, evaluate.columns)
        assert other(self.batch()).tobytes() == scores.tobytes()
        assert other.n_stored == len(SPACE)


class TestSweepMemory(OfMemories):
    def remembering(self, behind, columns):
        return SweepMemory(
            behind,
            self.space,
            f"sqlite:///{self.folder / 'results.db'}",
            {"data": "x"},
            columns,
            rank=lambda scores: scores[:, 0].copy(),
            keep=10_000,
            sweep={},
        )


def plain(batch):
    """A user's function: one number for each candidate."""
    return batch @ np.arange(1.0, batch.shape[1] + 1)


class TestMemoryOfAPlainFunction(OfMemories):
    has_threads = has_windows = False
    dates = None

    def behind(self, n_threads=1):
        return plain

    @pytest.mark.parametrize("shape", [(), (3,), (13, 2), (13, 1, 1)])
    def test_scores_of_another_shape_are_refused(self, evaluate, shape):
        evaluate.evaluate = lambda batch: np.ones(shape)
        with pytest.raises(bt.ObjectiveError, match=r"evaluate must return scores of shape \(12, 1\), got shape"):
            evaluate(self.batch())

    def test_masked_scores_are_refused(self, evaluate):
        evaluate.evaluate = lambda batch: np.ma.masked_greater(plain(batch), 3.0)
        with pytest.raises(bt.ObjectiveError, match="evaluate must return a score for each candidate, got a masked array"):
            evaluate(self.batch())

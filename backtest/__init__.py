"""Search over trading strategies on compiled kernels.

The whole way of the data is one line: bars -> lines -> rules -> signals -> trades -> metrics -> search -> result.
"""

import logging as _logging

from backtest import lines, rules, search, strategies
from backtest._backend import backend, require_compiled
from backtest._checks import (
    BackendUnavailable,
    BacktestError,
    DataError,
    FallbackWarning,
    FingerprintMismatch,
    InputError,
    NumericsWarning,
    ObjectiveError,
    SpaceError,
    StoreError,
    StoreVersionError,
    StoreWarning,
    StrategyError,
)
from backtest.bars import Bars
from backtest.books import Book, simulate
from backtest.compute.many import optimize_many
from backtest.compute.worker import WorkerUnable
from backtest.compute.workers import Workers
from backtest.costs import Costs, Execution
from backtest.explain import explain
from backtest.expr import param
from backtest.ledgers import track_trades
from backtest.levels import AlwaysOn, Levels
from backtest.lines import line
from backtest.machine.decorate import BarStrategy, on_bar
from backtest.machine.relative import above_entry, below_entry, distance
from backtest.machine.step_through import step_through
from backtest.metrics import METRICS
from backtest.optimize import optimize
from backtest.records import BUST, END, LIQUIDATION, REVERSE, SIGNAL, STOP, TARGET, TIME, TRAIL
from backtest.results import Result, load
from backtest.rules import Strategy
from backtest.runs import Run, evaluate, run
from backtest.simulation import Simulation
from backtest.space import Space
from backtest.statistics import stats
from backtest.study.study import Study
from backtest.study.trial import Trial, TrialPruned
from backtest.trades import Trades
from backtest.weights import optimize_weights

__version__ = "0.1.0.dev0"

__all__ = [
    "BUST",
    "END",
    "LIQUIDATION",
    "METRICS",
    "REVERSE",
    "SIGNAL",
    "STOP",
    "TARGET",
    "TIME",
    "TRAIL",
    "AlwaysOn",
    "BackendUnavailable",
    "BacktestError",
    "BarStrategy",
    "Bars",
    "Book",
    "Costs",
    "DataError",
    "Execution",
    "FallbackWarning",
    "FingerprintMismatch",
    "InputError",
    "Levels",
    "NumericsWarning",
    "ObjectiveError",
    "Result",
    "Run",
    "Simulation",
    "Space",
    "SpaceError",
    "StoreError",
    "StoreVersionError",
    "StoreWarning",
    "Strategy",
    "StrategyError",
    "Study",
    "Trades",
    "Trial",
    "TrialPruned",
    "WorkerUnable",
    "Workers",
    "above_entry",
    "backend",
    "below_entry",
    "distance",
    "evaluate",
    "explain",
    "line",
    "lines",
    "load",
    "on_bar",
    "optimize",
    "optimize_many",
    "optimize_weights",
    "param",
    "require_compiled",
    "rules",
    "run",
    "search",
    "simulate",
    "stats",
    "step_through",
    "strategies",
    "track_trades",
]

_logging.getLogger("backtest").addHandler(_logging.NullHandler())


def __dir__() -> list[str]:
    return [*__all__, "__version__", "gpu"]


def __getattr__(name: str) -> object:
    if name == "gpu":  # needs nothing of torch until it is used, and is not needed to say ``import backtest``
        import importlib

        return importlib.import_module("backtest.gpu")
    raise AttributeError(f"module 'backtest' has no attribute {name!r}")

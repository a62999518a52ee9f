"""One trial: the object that an objective is called with, and the outcome of an evaluation."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from backtest._checks import BacktestError, InputError, ObjectiveError, number, whole
from backtest._said import said, shown, trace_of
from backtest.study.store import Status

Objective = Callable[[Mapping[str, Any], "Trial"], Any]
#: ``prune(number, reports) -> bool``: whether to stop, after the reports since the last call.
Prune = Callable[[int, list[tuple[int, float]]], bool]

#: Seconds before the first retry, doubled for each up to a limit, with random jitter of up to the same length.
BACKOFF, LONGEST_BACKOFF = 0.1, 10.0


class TrialPruned(BacktestError):
    """Raise it from an objective when ``trial.should_prune()``; Optuna's exception of this name will do too."""


class Trial:
    """Second argument of an objective: its number and seed, and methods to report values, prune and keep attributes.

    Attributes
    ----------
    number : int
        Its number in the study.
    params : dict
        The parameters.
    """

    def __init__(self, number: int, params: dict[str, Any], entropy: Sequence[int] = (), prune: Prune | None = None) -> None:
        self.number, self.params = number, params
        self.reports: list[tuple[int, float]] = []
        self.attrs: dict[str, Any] = {}
        self._entropy, self._prune, self._n_sent = entropy, prune, 0

    @property
    def seed(self) -> int:
        """A seed of 32 bits: from the study's seed and the candidate, so independent of when and where it is evaluated."""
        return int(np.random.SeedSequence(list(self._entropy)).generate_state(1)[0])

    def report(self, step: int, value: float) -> None:
        """Report an intermediate value, such as of one window or symbol, under its own step."""
        self.reports.append((whole("step", step), number("value", value, infinite=True)))

    def should_prune(self) -> bool:
        """Whether the study's pruner stops the trial, given the values reported so far; False without a pruner."""
        if self._prune is None:
            return False
        unsent, self._n_sent = self.reports[self._n_sent :], len(self.reports)
        return self._prune(self.number, unsent)

    def set_attr(self, key: str, value: Any) -> None:
        """Store an attribute with the result: text, a number, or lists and dicts of them."""
        if not isinstance(key, str):
            raise InputError(f"key must be text, got {shown(key)}")
        try:
            json.dumps([key, value], ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"value must be what JSON can hold, got {shown(value)} for {shown(key)}; {said(error)}") from None
        self.attrs[key] = value


class Task(NamedTuple):
    """A trial to evaluate."""

    number: int
    params: dict[str, Any]
    entropy: tuple[int, ...]


class Outcome(NamedTuple):
    """Outcome of a trial."""

    number: int
    status: Status
    values: tuple[float, ...] | None
    seconds: float
    error: str | None = None
    trace: str | None = None
    reports: tuple[tuple[int, float], ...] = ()
    attrs: dict[str, Any] | None = None
    is_caught: bool = True  # False: an error that ends the run


def evaluate(
    objective: Objective,
    tasks: Sequence[Task],
    n_values: int,
    catch: tuple[type[BaseException], ...],
    retries: int,
    prune: Prune | None = None,
    done: list[Outcome] | None = None,
    until: float = math.inf,
) -> list[Outcome]:
    """Evaluate trials one by one, until ``time.monotonic()`` reaches ``until`` or one ends the run by its error.

    If interrupted, ``done`` holds the outcomes so far.
    """
    done = [] if done is None else done
    for task in tasks:
        for attempt in range(retries + 1):
            if attempt:
                time.sleep(min(LONGEST_BACKOFF, BACKOFF * 2.0 ** (attempt - 1)) * (1.0 + random.random()))
            outcome = _evaluate_once(objective, task, n_values, catch, prune)
            if outcome.status != Status.FAILED:
                break
        done.append(outcome)
        if not outcome.is_caught or time.monotonic() >= until:
            break
    return done


def evaluate_asking(
    objective: Objective,
    tasks: Sequence[Task],
    n_values: int,
    catch: tuple[type[BaseException], ...],
    retries: int,
    channel: Prune,
) -> list[Outcome]:
    """:func:`evaluate` in a worker process that asks the study whether to prune."""
    return evaluate(objective, tasks, n_values, catch, retries, channel)


def _evaluate_once(
    objective: Objective, task: Task, n_values: int, catch: tuple[type[BaseException], ...], prune: Prune | None
) -> Outcome:
    trial = Trial(task.number, task.params, task.entropy, prune)
    started, has_returned = time.perf_counter(), False
    try:
        result = objective(dict(task.params), trial)
        has_returned = True
        values = checked(result, n_values, task.params)
        seconds = time.perf_counter() - started
        return Outcome(task.number, Status.DONE, values, seconds, None, None, tuple(trial.reports), trial.attrs)
    except (Exception, SystemExit) as error:  # an error of the objective is a result of its trial
        seconds, kept = time.perf_counter() - started, (tuple(trial.reports), trial.attrs)
        if type(error).__name__ == "TrialPruned":  # Optuna's is recognised without importing it
            return Outcome(task.number, Status.PRUNED, None, seconds, None, None, *kept)
        trace = None if has_returned else trace_of(error)  # a traceback only of the objective's own errors
        return Outcome(task.number, Status.FAILED, None, seconds, said(error), trace, *kept, isinstance(error, catch))


def checked(result: Any, n_values: int, params: Mapping[str, Any]) -> tuple[float, ...]:
    """Values that an objective returned, as floats; anything but numbers is refused."""
    given = (result,) if n_values == 1 and np.ndim(result) == 0 else result
    rule = "a number" if n_values == 1 else f"{n_values} numbers, one for each direction"
    if not isinstance(given, (tuple, list, np.ndarray)) or len(given) != n_values or not all(_is_number(each) for each in given):
        raise ObjectiveError(f"objective must return {rule}, got {shown(result)} at {dict(params)}", dict(params))
    values = tuple(float(each) for each in given)
    if any(math.isnan(each) for each in values):
        raise ObjectiveError(
            f"objective must return {rule}, got NaN at {dict(params)}; raise an error where it is undefined, or "
            "return -inf or inf to rank it last; catch=bt.ObjectiveError goes on after it",
            dict(params),
        )
    return values


def _is_number(value: Any) -> bool:
    if isinstance(value, (bool, np.bool_, str, bytes, complex, np.complexfloating)):
        return False
    return isinstance(value, (int, float)) or (hasattr(value, "__float__") and np.ndim(value) == 0)

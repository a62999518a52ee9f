"""Adapter to Optuna: its samplers and pruners, and conversion of parameters and trials."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import math
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import BackendUnavailable, InputError, choice
from backtest._said import shown
from backtest.search.duplicates import Status
from backtest.space import Choice, Continuous, Parameter, Space

if TYPE_CHECKING:
    import optuna

Floats = NDArray[np.float64]

#: Samplers of Optuna by name.
SAMPLERS = {"tpe": "TPESampler", "qmc": "QMCSampler", "cmaes": "CmaEsSampler", "gp": "GPSampler", "nsga2": "NSGAIISampler"}
#: Packages they need beyond Optuna's own dependencies.
NEEDS = {"cmaes": "cmaes", "gp": "torch"}
#: Pruners of Optuna by name.
PRUNERS = {
    "median": "MedianPruner",
    "percentile": "PercentilePruner",
    "halving": "SuccessiveHalvingPruner",
    "hyperband": "HyperbandPruner",
    "wilcoxon": "WilcoxonPruner",
}
#: Samplers that learn from candidates they did not suggest; others need the outcome of each of their suggestions.
LEARN_FROM_ANY = ("TPESampler", "GPSampler", "RandomSampler")
#: Results replayed to a sampler on resume: so many of the best, and of the latest.
REPLAYED = 2000


class Engine:
    """An Optuna study in memory, with ask and tell.

    Parameters
    ----------
    space : Space
    sampler : str or Optuna sampler
        A name of :data:`SAMPLERS`.
    pruner : str, Optuna pruner or None
        A name of :data:`PRUNERS`.
    directions : sequence of {"maximize", "minimize"}
    seed : int
    """

    def __init__(self, space: Space, sampler: Any, pruner: Any, directions: Sequence[Any], seed: int) -> None:
        import optuna

        self.space = space
        self._storage = optuna.storages.InMemoryStorage()
        with quiet():
            self.study = optuna.create_study(
                storage=self._storage, directions=[*directions], sampler=_sampler(sampler, seed), pruner=_pruner(pruner)
            )
        self._id = self._storage.get_study_id_from_name(self.study.study_name)
        self.learns_from_any = type(self.study.sampler).__name__ in LEARN_FROM_ANY
        self._distributions = {name: distribution(each) for name, each in space.parameters.items() if each.size > 1}
        self._live: dict[int, optuna.Trial] = {}
        self._reported: dict[int, set[int]] = {}  # steps, by ticket
        self._lock = threading.RLock()  # workers call prune from their threads

    def ask(self) -> tuple[Floats, int]:
        """A suggestion as a row of a batch, possibly a duplicate or infeasible, and its ticket: Optuna's trial number."""
        with self._lock, quiet():
            trial = self.study.ask(self._distributions)
        self._live[trial.number] = trial
        row = np.array(
            [
                number_of(each, trial.params[name]) if name in self._distributions else first(each)
                for name, each in self.space.parameters.items()
            ]
        )
        return self.space.canonical(row[np.newaxis])[0], trial.number

    def register(self, row: Floats) -> int:
        """Register a running trial that the sampler did not suggest, and return its ticket."""
        import optuna

        with self._lock, quiet():
            running = optuna.trial.create_trial(
                state=optuna.trial.TrialState.RUNNING, params=self._labels(row), distributions=self._distributions
            )
            trial = optuna.Trial(self.study, self._storage.create_new_trial(self._id, running))
        self._live[trial.number] = trial
        return trial.number

    def forget(self, ticket: int) -> None:
        """Mark a suggestion that is not evaluated as failed."""
        self.tell(ticket, Status.FAILED, None)

    def tell(self, ticket: int, status: Status, values: Sequence[float] | None) -> None:
        """Tell the outcome of a suggestion."""
        from optuna.trial import TrialState

        trial = self._live.pop(ticket, None)
        self._reported.pop(ticket, None)
        if trial is None:
            return
        state = {Status.DONE: TrialState.COMPLETE, Status.FAILED: TrialState.FAIL}.get(status, TrialState.PRUNED)
        try:
            with self._lock, quiet():
                self.study.tell(trial, list(values) if values and status == Status.DONE else None, state)
        except RuntimeError as error:
            # Samplers that enumerate call Study.stop after the last trial, which has been recorded, outside of Study.optimize.
            if "Study.stop" not in str(error):
                raise

    def prune(self, ticket: int, reports: Sequence[tuple[int, float]]) -> bool:
        """Report intermediate values, and ask whether to stop."""
        trial, reported = self._live[ticket], self._reported.setdefault(ticket, set())
        with self._lock, quiet():
            for step, value in reports:
                if step not in reported:  # a retried evaluation repeats its reports
                    trial.report(value, step)
                    reported.add(step)
            return bool(trial.should_prune())

    def replay(self, finished: Sequence[Any]) -> None:
        """Add earlier results; of many only the best and the latest."""
        if len(finished) > 2 * REPLAYED and len(self.study.directions) == 1:
            sign = -1.0 if self.study.directions[0].name == "MAXIMIZE" else 1.0
            objective = [sign * each.values[0] if each.values else math.inf for each in finished]
            chosen = {*np.argsort(objective, kind="stable")[:REPLAYED].tolist(), *range(len(finished) - REPLAYED, len(finished))}
            finished = [finished[place] for place in sorted(chosen)]
        with self._lock, quiet():
            self.study.add_trials([frozen(self._labels(np.array(each.row)), self._distributions, each) for each in finished])

    def _labels(self, row: Floats) -> dict[str, Any]:
        return {name: label_of(self.space.parameters[name], row[self.space.names.index(name)]) for name in self._distributions}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress Optuna's log lines on new studies and its warnings of experimental features."""
    from optuna.exceptions import ExperimentalWarning

    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)


def distribution(parameter: Parameter) -> Any:
    """A parameter as Optuna's distribution."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(parameter, Choice):
        return CategoricalDistribution(labels(parameter))
    if isinstance(parameter, Continuous):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.is_log)
    if parameter.is_whole:
        return IntDistribution(int(parameter.low), int(parameter.high), step=int(parameter.step), log=parameter.is_log)
    return FloatDistribution(parameter.low, parameter.high, step=parameter.step)


def labels(parameter: Choice) -> list[Any]:
    """Choices for Optuna: the values, or their texts if some are equal (1, 1.0 and True)."""
    has_equal = len(set(parameter.choices)) < len(parameter.choices)
    return [repr(value) for value in parameter.choices] if has_equal else list(parameter.choices)


def number_of(parameter: Parameter, label: Any) -> float:
    """A batch's number for a value that Optuna suggested."""
    if isinstance(parameter, Choice):
        return float(labels(parameter).index(label))
    value = np.array([float(label)])
    return float(value[0] if isinstance(parameter, Continuous) else parameter.at(parameter.index("suggestion", value))[0])


def label_of(parameter: Parameter, value: float) -> Any:
    """Optuna's value for a batch's number."""
    return labels(parameter)[int(value)] if isinstance(parameter, Choice) else parameter.decode(value)


def first(parameter: Parameter) -> float:
    """A batch's number for the first value."""
    return 0.0 if isinstance(parameter, Choice) else parameter.low


def frozen(params: Mapping[str, Any], distributions: Mapping[str, Any], finished: Any) -> optuna.trial.FrozenTrial:
    """A finished trial as Optuna's."""
    from optuna.trial import TrialState, create_trial

    state = {Status.DONE: TrialState.COMPLETE, Status.FAILED: TrialState.FAIL}.get(finished.status, TrialState.PRUNED)
    attrs = dict(finished.attrs or {}) | ({"error": finished.error} if finished.error else {})
    return create_trial(
        state=state,
        values=finished.values if state == TrialState.COMPLETE else None,
        params=dict(params),
        distributions={name: distributions[name] for name in params},
        user_attrs=attrs,
        intermediate_values=dict(finished.reports),
    )


def _sampler(sampler: Any, seed: int) -> Any:
    import optuna

    if not isinstance(sampler, str):
        if not hasattr(sampler, "sample_relative"):
            known = ", ".join(map(repr, ("random", *SAMPLERS)))
            raise InputError(f"sampler must be one of {known} or an Optuna sampler, got {shown(sampler)}")
        return sampler
    name = "RandomSampler" if sampler == "random" else SAMPLERS[choice("sampler", sampler, ("random", *SAMPLERS))]
    package = NEEDS.get(sampler)
    if package is not None and importlib.util.find_spec(package) is None:
        raise BackendUnavailable(f"sampler {sampler!r} needs the package {package}, which is missing: pip install {package}")
    # Explicit, since they are defaults only from Optuna 5 on.
    options = {"multivariate": True, "constant_liar": True} if sampler == "tpe" else {}
    with quiet():
        return getattr(optuna.samplers, name)(seed=int(np.random.SeedSequence(seed).generate_state(1)[0]), **options)


def _pruner(pruner: Any) -> Any:
    import optuna

    if pruner is None:
        return optuna.pruners.NopPruner()
    if not isinstance(pruner, str):
        if not hasattr(pruner, "prune"):
            raise InputError(f"pruner must be one of {', '.join(map(repr, PRUNERS))} or an Optuna pruner, got {shown(pruner)}")
        return pruner
    return getattr(optuna.pruners, PRUNERS[choice("pruner", pruner, tuple(PRUNERS))])()

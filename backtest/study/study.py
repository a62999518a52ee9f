"""``bt.Study``: any Python callable over a space; every candidate evaluated once, remembered, and resumed."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import math
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any

from backtest._checks import (
    FallbackWarning,
    FingerprintMismatch,
    InputError,
    StoreError,
    called,
    choice,
    items,
    number,
    optional_flag,
    whole,
)
from backtest._said import shown
from backtest.search.engine import Engine
from backtest.search.propose import Proposer
from backtest.space import Space
from backtest.study.code import compare, fingerprints
from backtest.study.driver import Driver
from backtest.study.export import Mirror, export, to_frame
from backtest.study.fingerprint import by_content, context_fingerprint, objective_name, without_passwords
from backtest.study.records import Finished, of_rows
from backtest.study.state import State
from backtest.study.store import Store
from backtest.study.summary import Bar, Summary
from backtest.study.trial import Objective

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("backtest")


class Study(State):
    """A search over anything that can be called.

    Parameters
    ----------
    space : Space or mapping
    objective : callable
        ``objective(params, trial) -> float``, or a sequence of floats with several directions.
    name : str
        Of the study; together with ``version``, ``data``, the objective's name and the values bound by ``functools.partial`` it
        identifies results.
    version : str, optional
        Of the objective; change it when the objective changes.  Needed with a store, which cannot know whether code
        still means the same.
    data : str or Bars, or list or dict of them, optional
        What the objective is evaluated on; results on other data are kept apart.
    direction : {"maximize", "minimize"} or sequence of them
    store : str, optional
        ``"sqlite:///study.db"``: results are stored there, and read by a later run or another process.
    resume : {"allow", "never", "require"}
        Stored results: use them if there are any, refuse them, require them.
    sampler : str or Optuna sampler
        ``tpe``, ``qmc``, ``cmaes`` (package cmaes), ``gp`` (package torch), ``nsga2``, or ``random``: every candidate of a
        finite space in seeded order, which costs microseconds.  Once the rest of a finite space fits the budget, it is
        enumerated with any sampler.
    pruner : str or Optuna pruner, optional
        ``median``, ``percentile``, ``halving``, ``hyperband``, ``wilcoxon``; what ``trial.should_prune()`` asks.
    seed : int

    Attributes
    ----------
    trials : list of Finished
        Finished candidates of this space, those from the store first.
    summary : Summary
        Of the last run.
    is_interrupted : bool
        Ctrl-C ended the last run early.

    Raises
    ------
    InputError, SpaceError
        An argument breaks its rule.
    StoreError, FingerprintMismatch
        See ``resume``; the latter where the name is known with another objective, version, direction or data.

    Notes
    -----
    Safe to share between threads: one run at a time.
    """

    def __init__(
        self,
        space: Space | Mapping[str, Any],
        objective: Objective,
        *,
        name: str = "study",
        version: str | None = None,
        data: Any = None,
        direction: str | Sequence[str] = "maximize",
        store: str | None = None,
        resume: str = "allow",
        sampler: Any = "tpe",
        pruner: Any = None,
        seed: int = 0,
    ) -> None:
        space = space if isinstance(space, Space) else Space(space)
        called("objective", objective, ", objective(params, trial) -> float")
        if not isinstance(name, str) or not name:
            raise InputError(f"name must be text, got {shown(name)}")
        directions = [direction] if isinstance(direction, str) else items("direction", direction)
        if not directions:
            raise InputError("direction must be at least one, got none")
        for each in directions:
            choice("direction", each, ("maximize", "minimize"))
        seed = whole("seed", seed, low=0)
        choice("resume", resume, ("allow", "never", "require"))
        if resume == "require" and store is None:
            raise InputError("resume='require' must go with a store, got none")
        super().__init__(space, objective, name, directions, pruner, seed)
        self.version, self.sampler = version, sampler
        self._engine_for(Space({"check": [0, 1]}))  # an invalid sampler or pruner is refused now
        self.summary: Summary | None = None
        self.is_interrupted = False
        self._lock = threading.Lock()
        self._proposer: Proposer | None = None
        self.store = self._opened(store)
        if self.store is not None:
            self._resume(self.store, data, resume)

    # -- the store -----------------------------------------------------------------------------------------------------

    def _opened(self, store: str | None) -> Store | None:
        if store is None:
            return None
        if not isinstance(self.version, str) or not self.version:
            raise InputError(
                f'version must be given with a store (version="1"; change it when the objective changes), got '
                f"{shown(self.version)}: a store cannot know whether code still means the same"
            )
        return Store(store)

    def _resume(self, store: Store, data: Any, resume: str) -> None:
        metrics = [] if self.n_values == 1 else [f"value_{place}" for place in range(self.n_values)]
        identity = {
            "objective": objective_name(self.objective),
            "version": self.version,
            "directions": self.directions,
            "data": by_content("data", data),
        }
        former = context_fingerprint(["study", self.name, identity])  # earlier releases included the passwords of URLs
        identity = without_passwords(identity)
        fingerprint = context_fingerprint(["study", self.name, identity])
        same_name = [each for each in store.contexts() if each["name"] == self.name]
        known = [each["id"] for each in same_name if each["fingerprint"] in (fingerprint, former)]
        has_results = bool(known) and bool(store.counts(known[0]))
        if resume == "never" and has_results:
            raise StoreError(
                f"study {self.name!r} must be new with resume='never', got {sum(store.counts(known[0]).values()):,} "
                "results in the store; give it another name or version"
            )
        if resume == "require" and not known:
            for each in same_name:
                stored = without_passwords(each["description"])
                changed = {key: value for key, value in stored.items() if key in identity and value != identity[key]}
                if changed:
                    differs = "; ".join(f"{key} {value!r} there, {identity[key]!r} here" for key, value in changed.items())
                    raise FingerprintMismatch(f"study {self.name!r} must be the one in the store, got another one: {differs}")
            raise StoreError(f"study {shown(self.name)} must be in the store with resume='require', got none")
        # For drivers that join; a sampler or pruner object is not stored.
        settings = {"sampler": self.sampler, "pruner": self.pruner}
        settings = {name: value if isinstance(value, str) else None for name, value in settings.items()}
        self.context = store.context(
            fingerprint,
            self.name,
            identity | settings | {"metrics": metrics, "seed": self.seed, "space": self.space.to_dict()},
            None if former == fingerprint else former,
        )
        compare(store, self.context, f"study {self.name!r}", fingerprints({"objective": self.objective}))
        with _no_collection():
            rows, self.mark = store.read(self.context)
            trials = of_rows(rows, self.space, 0, self.n_values, functools.partial(store.faulty.report, self.context))
            self.numbers = len(trials)
            self.remember(trials)
        if trials:
            logger.info("Study %s: %s results from %s", self.name, f"{len(trials):,}", store.path)

    def proposer(self) -> Proposer:
        """The proposer, kept between runs so that an engine continues."""
        if self._proposer is None:
            engine = None
            if not self._is_random or self.pruner is not None:
                engine = self._engine_for(self.space)
                if engine is not None and self.trials:
                    engine.replay(self.trials)
            self._proposer = Proposer(self.space, engine, self.memory, self.seed, suggests=not self._is_random)
        return self._proposer

    @property
    def _is_random(self) -> bool:
        return isinstance(self.sampler, str) and self.sampler == "random"

    def _engine_for(self, space: Space) -> Engine | None:
        if self._is_random and self.pruner is None:
            return None
        # The seed depends on the number of known trials: a resumed sampler must not repeat its suggestions.
        return Engine(space, self.sampler, self.pruner, self.directions, self.seed + 1_000_003 * len(self.trials))

    # -- a run ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        n_trials: int | None = None,
        *,
        timeout: float | None = None,
        trial_timeout: float | None = None,
        catch: type[Exception] | tuple[type[Exception], ...] = (),
        retries: int = 0,
        executor: Executor | None = None,
        progress: bool | None = None,
        callbacks: Sequence[Callable[[Study, Finished], Any]] = (),
        mirror: Any = None,
    ) -> Summary:
        """Evaluate candidates.

        Parameters
        ----------
        n_trials : int, optional
            Distinct candidates that the study is to have finished, stored ones included: a second run of the same study
            evaluates nothing.  All of a finite space by default.
        timeout : float, optional
            Seconds after which no further evaluation starts; running ones are waited for without limit: an objective that may
            hang needs a ``trial_timeout``.
        trial_timeout : float, optional
            Seconds after which an evaluation is ended, and has failed; with ``executor=bt.Workers(n)`` only.
        catch : exception or tuple of them
            Errors of the objective after which the run continues; the trial is stored as failed.  Others end the run, after
            everything is stored, with ObjectiveError.
        retries : int
            How often an evaluation that fails is tried again at once, after 0.1 s, 0.2 s and so on.
        executor : Executor, optional
            ``bt.Workers(n)``, persistent processes, or any ``concurrent.futures`` executor; None evaluates in this thread.
        progress : bool, optional
            A progress bar; by default on terminals and in notebooks only.
        callbacks : sequence of callable
            ``callback(study, finished)`` after each trial is stored; :meth:`stop` ends the run.
        mirror : str or Optuna storage, optional
            Where to copy finished trials every few seconds, for optuna-dashboard; see :meth:`export_to_optuna`.

        Returns
        -------
        Summary
            Also :attr:`summary`.  Ctrl-C ends the run with everything stored, and ``is_interrupted``; SIGTERM does so and
            ends the program.

        Raises
        ------
        InputError
            An argument breaks its rule.
        ObjectiveError
            The objective failed, or returned something else than numbers; ``params`` is the candidate.
        """
        if not self._lock.acquire(blocking=False):
            raise InputError("a study must run once at a time, got a second run while one goes on")
        try:
            target = self._target(n_trials, timeout)
            deadline = math.inf if timeout is None else time.monotonic() + number("timeout", timeout, low=0.0, open_low=True)
            if trial_timeout is not None:
                number("trial_timeout", trial_timeout, low=0.0, open_low=True)
            errors = catch if isinstance(catch, tuple) else (catch,)
            if not all(isinstance(each, type) and issubclass(each, Exception) for each in errors):
                raise InputError(f"catch must be an exception class or a tuple of them, got {shown(catch)}")
            if executor is not None and not hasattr(executor, "submit"):
                raise InputError(f"executor must have submit, as bt.Workers(2) has, got {shown(executor)}")
            whole("retries", retries, low=0)
            optional_flag("progress", progress)
            if not isinstance(callbacks, Sequence) or not all(map(callable, callbacks)):
                raise InputError(f"callbacks must be a list of functions callback(study, finished), got {shown(callbacks)}")
            return self._run(target, deadline, trial_timeout, errors, retries, executor, progress, callbacks, mirror)
        finally:
            self._lock.release()

    def _target(self, n_trials: int | None, timeout: float | None) -> float:
        size = self.space.size
        if n_trials is None:
            if size == math.inf and timeout is None:
                raise InputError("n_trials or timeout must be given for a space with a continuous parameter, got none")
            return size
        whole("n_trials", n_trials, low=1)
        if self.space.is_exact and n_trials > size:
            warnings.warn(
                f"Parameter space has only {size} unique combinations but {n_trials} trials were requested. Capping to {size}.",
                FallbackWarning,
                stacklevel=4,
            )
            return size
        return n_trials

    def _run(
        self,
        target: float,
        deadline: float,
        trial_timeout: float | None,
        catch: tuple[Any, ...],
        retries: int,
        executor: Executor | None,
        progress: bool | None,
        callbacks: Sequence[Callable[[Study, Finished], Any]],
        mirror: Any,
    ) -> Summary:
        self.is_interrupted = self.wants_stop = False
        known, proposer = len(self.trials), self.proposer()
        asks, duplicates = proposer.asks, proposer.duplicates
        mirrored = None if mirror is None else Mirror(self, mirror)
        with Bar(self, target, progress) as bar:

            def on_finished(finished: list[Finished]) -> None:
                bar.update(len(finished))
                for each in finished:
                    for callback in callbacks:
                        callback(self, each)
                if mirrored is not None:
                    mirrored.copy_if_due()

            driver = Driver(self, proposer, target, deadline, trial_timeout, catch, retries, executor, on_finished)
            is_failed = True
            try:
                driver.run()
                is_failed = False
            finally:
                if mirrored is not None:
                    mirrored.flush()
                self.summary = Summary(
                    driver.evaluated,
                    known,
                    proposer.asks - asks,
                    proposer.duplicates - duplicates,
                    driver.failures,
                    driver.discarded,
                    **driver.seconds,
                    ended="ended by an error" if is_failed else driver.ended,
                )
                logger.info("Study %s: %s", self.name, self.summary)
        self.is_interrupted = driver.is_stopped
        if driver.is_stopped and driver.interruptions.is_termination:
            raise SystemExit(143)
        return self.summary

    def stop(self) -> None:
        """End the run after the running evaluations; called from a callback or another thread."""
        self.wants_stop = True

    def close(self) -> None:
        """Close the store; finished trials stay available."""
        if self.store is not None:
            self.store.close()

    # -- results -------------------------------------------------------------------------------------------------------

    def trials_dataframe(self) -> pd.DataFrame:
        """One row a trial, by number: parameters, ``value`` (or ``value_0``, ...), ``status``, ``error``, times, attributes."""
        return to_frame(self)

    def export_to_optuna(self, storage: Any, name: str | None = None) -> int:
        """Copy finished trials into an Optuna storage, for optuna-dashboard and ``optuna.visualization``.

        Parameters
        ----------
        storage : str or Optuna storage
            Such as ``"sqlite:///dashboard.db"``.
        name : str, optional
            Of the Optuna study; this one's by default.  Trials that it has already are not copied again.

        Returns
        -------
        int
            Trials copied.
        """
        return export(self, storage, name)


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Disable cyclic garbage collection: among many new objects without cycles it takes as long as making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

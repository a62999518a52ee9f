"""One run of a study: propose, reserve, evaluate, store and tell; in this thread, on threads, or on worker processes."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from typing import Any

import numpy as np

from backtest._checks import BacktestError, InputError, ObjectiveError
from backtest._said import said
from backtest.compute.threads import default_threads
from backtest.compute.worker import Placed, WorkerDied, WorkerUnable
from backtest.compute.workers import Workers
from backtest.search.grid import SearchLimit
from backtest.search.propose import Candidate, Proposer
from backtest.study import sharing
from backtest.study.interruptions import Interruptions, Stopped
from backtest.study.records import Finished, of_outcome
from backtest.study.sharing import SharedStore
from backtest.study.state import State
from backtest.study.store import Status
from backtest.study.trial import Outcome, Task, evaluate, evaluate_asking

logger = logging.getLogger("backtest")

#: Least seconds of work per task on an executor, and the most trials per task.
SECONDS_PER_TASK, LARGEST_TASK = 0.1, 512
#: Seconds of work between transactions if evaluations are cheap.
SECONDS_PER_COMMIT = 0.05
#: Longest seconds that a result waits to be stored with others.
LONGEST_WAIT = 0.25
#: Seconds of an evaluation from which on commits wait for the disk.
EXPENSIVE = 0.01


class Driver:
    """One run of a study.

    Parameters
    ----------
    study : State
    proposer : Proposer
    target : float
        Distinct candidates that the study is to have finished.
    deadline : float
        ``time.monotonic()`` after which nothing starts.
    """

    def __init__(
        self,
        study: State,
        proposer: Proposer,
        target: float,
        deadline: float,
        trial_timeout: float | None,
        catch: tuple[Any, ...],
        retries: int,
        executor: Executor | None,
        on_finished: Callable[[list[Finished]], None],
    ) -> None:
        self.study, self.proposer = study, proposer
        self.target, self.deadline, self.on_finished = target, deadline, on_finished
        self.trial_timeout, self.catch, self.retries, self.executor = trial_timeout, catch, retries, executor
        self.interruptions = Interruptions()
        self.seconds = {"search": 0.0, "evaluation": 0.0, "store": 0.0}
        self.shared = SharedStore(study, proposer, self.seconds)
        self.evaluated = self.discarded = self.failures = 0
        self.is_stopped = self.is_timed_out = False
        self._mean_seconds: float | None = None  # seconds of an evaluation
        self._max_trials = 1
        self._futures: dict[Future[list[Outcome]], list[Task]] = {}
        self._candidates: dict[int, tuple[Candidate, dict[str, Any]]] = {}
        self._reruns: Counter[int] = Counter()
        self._search_until = math.inf
        self.limit = proposer.limit = SearchLimit(deadline, self._must_stop_search)
        self._placed: Placed | None = None
        if study.pruner is not None and not isinstance(executor, (Workers, ThreadPoolExecutor, type(None))):
            raise InputError(f"executor must be bt.Workers, threads or None with a pruner, got {type(executor).__name__}")
        if trial_timeout is not None and not isinstance(executor, Workers):
            raise InputError(
                "trial_timeout must go with executor=bt.Workers(n): only a process can be ended; got "
                f"{'none' if executor is None else type(executor).__name__}"
            )

    # -- the loop ------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Evaluate until the target, the deadline, or the end of the space."""
        with self.interruptions.held(), self.shared.renewing():
            try:
                self.shared.release_dead_owners()
                if self.executor is None:
                    while candidates := self._next(self._n_trials_for(SECONDS_PER_COMMIT)):
                        self._evaluate_here(candidates)
                else:
                    self._evaluate_on_executor(self.executor)
            except Stopped:
                self.is_stopped = True
            finally:
                self._release_all()
        if self.limit.is_exhausted:
            self.limit.warn(self.study.space, len(self.study.trials), stacklevel=4)

    @property
    def ended(self) -> str:
        """How the run ended, without an error."""
        if self.is_stopped:
            return "interrupted"
        if self.is_timed_out:
            return "timed out"
        if self.study.wants_stop:
            return "stopped"
        return "done" if len(self.study.trials) >= self.target else "no more candidates"

    def _evaluate_here(self, candidates: list[Candidate]) -> None:
        """Evaluate in this thread; results finished before an interruption are stored."""
        tasks = self._tasks(candidates)
        outcomes: list[Outcome] = []
        try:
            with self.interruptions.open():
                evaluate(
                    self.study.objective,
                    tasks,
                    self.study.n_values,
                    self.catch,
                    self.retries,
                    self._prune(),
                    outcomes,
                    min(self.deadline, time.monotonic() + LONGEST_WAIT),
                )
        finally:
            self._store_and_report(outcomes)
        left = tasks[len(outcomes) :]  # not evaluated: the others took longer than estimated
        self.proposer.put_back([self._candidates.pop(task.number)[0] for task in left])

    def _evaluate_on_executor(self, executor: Executor) -> None:
        """Keep an executor busy."""
        width = int(getattr(executor, "count", None) or getattr(executor, "_max_workers", None) or default_threads())
        while True:
            # An engine learns from each result; an enumeration may queue more than there are workers, so that none waits.
            n_queued = width if self.proposer.learns else width + 2
            while len(self._futures) < n_queued and (new := self._next(self._n_trials_for(SECONDS_PER_TASK), not self._futures)):
                self._submit(self._tasks(new))
            if not self._futures:
                return
            try:
                with self.interruptions.open():
                    wait(self._futures, timeout=sharing.POLL_SECONDS, return_when=FIRST_COMPLETED)
            finally:
                self._collect({each for each in self._futures if each.done()})

    def _next(self, count: int, is_idle: bool = True) -> list[Candidate]:
        """Candidates reserved for this driver; none when the run is over, or while others evaluate the rest."""
        while True:
            if self.study.wants_stop or self.interruptions.signal is not None:
                if self.interruptions.signal is not None:
                    raise Stopped
                return []
            if time.monotonic() >= self.deadline:
                self.is_timed_out = True
                return []
            self.shared.absorb_others(self._is_expensive)
            started, self._search_until = time.perf_counter(), math.inf if is_idle else time.monotonic() + sharing.POLL_SECONDS
            left = self.target - len(self.study.trials) - len(self.proposer.in_flight)
            candidates = self.proposer.next(int(min(count, left)), left) if left > 0 else []
            self.seconds["search"] += time.perf_counter() - started
            if not candidates and left > 0 and is_idle and self._must_stop_search():
                continue
            if not candidates and left > 0 and is_idle and self.proposer.leased_by_others:
                with self.interruptions.open():
                    time.sleep(0.02)
                self.shared.release_dead_owners()
                candidates = self.proposer.retry_leased()
            elif not candidates:
                return []
            mine = self.shared.reserved(candidates)
            if mine or not is_idle:
                return mine

    @property
    def _is_expensive(self) -> bool:
        return self._mean_seconds is not None and self._mean_seconds >= EXPENSIVE

    def _must_stop_search(self) -> bool:
        """Whether to interrupt the search for candidates: for a signal, the deadline, or results that wait to be stored."""
        now = time.monotonic()
        is_asked = self.interruptions.signal is not None or self.study.wants_stop
        return is_asked or now >= self.deadline or now >= self._search_until

    def _n_trials_for(self, seconds: float) -> int:
        """Number of trials that take about so many seconds."""
        if self.proposer.learns or self.trial_timeout is not None or self.study.pruner is not None or self._mean_seconds is None:
            return 1
        self._max_trials = min(LARGEST_TASK, 2 * self._max_trials)  # grows slowly: the first ones may have been cheap by chance
        return int(min(self._max_trials, max(1.0, seconds / max(self._mean_seconds, 1e-6))))

    def _tasks(self, candidates: Sequence[Candidate]) -> list[Task]:
        params = self.study.space.decode_batch(_stacked(candidates))
        tasks = []
        for candidate, each in zip(candidates, params, strict=True):
            number = self.study.next_number()
            self._candidates[number] = candidate, each
            tasks.append(Task(number, each, (self.study.seed, int.from_bytes(candidate.digest, "little"))))
        return tasks

    # -- on an executor ------------------------------------------------------------------------------------------------

    def _submit(self, tasks: list[Task]) -> None:
        study, executor = self.study, self.executor
        assert executor is not None
        arguments = (tasks, study.n_values, self.catch, self.retries)
        if isinstance(executor, Workers):
            if self._placed is None:  # once per run: variables that it uses may have changed since the last one
                self._placed = executor.place(study.objective)
            asks = study.pruner is not None
            future = executor.call(
                evaluate_asking if asks else evaluate,
                (self._placed, *arguments),
                timeout=self.trial_timeout,
                answer=self._prune() if asks else None,
            )
        else:
            future = executor.submit(evaluate, study.objective, *arguments, self._prune())
        self._futures[future] = tasks

    def _collect(self, ready: set[Future[list[Outcome]]]) -> None:
        outcomes: list[Outcome] = []
        failure: BacktestError | None = None
        for future in ready:
            tasks = self._futures.pop(future)
            try:
                outcomes += future.result()
            except (WorkerDied, TimeoutError) as error:
                outcomes += self._after_death(tasks, error)
            except WorkerUnable as error:  # no trial has failed: none was started
                failure = error
            except Exception as error:
                text = f"the executor could not evaluate: {said(error)}"
                if not isinstance(self.executor, Workers):
                    text += "; bt.Workers takes objectives of any kind, from a notebook, a prompt or python -c too"
                failure = ObjectiveError(text, tasks[0].params)
                failure.__cause__ = error
        self._store_and_report(outcomes)
        if failure is not None:
            raise failure

    def _after_death(self, tasks: list[Task], error: Exception) -> list[Outcome]:
        """Trials whose worker died: each is run once more, alone; then it has failed."""
        outcomes = []
        for task in tasks:
            self._reruns[task.number] += 1
            if isinstance(error, TimeoutError) or (self._reruns[task.number] > 1 and len(tasks) == 1):
                text = said(error)
                logger.warning("Trial %d failed: %s", task.number, text)
                seconds = (self.trial_timeout or 0.0) if isinstance(error, TimeoutError) else 0.0
                outcomes.append(Outcome(task.number, Status.FAILED, None, seconds, text))
            else:
                logger.warning("Trial %d is run again: %s", task.number, error)
                self._submit([task])
        return outcomes

    def _prune(self) -> Callable[[int, list[tuple[int, float]]], bool] | None:
        if self.study.pruner is None:
            return None

        def prune(number: int, reports: list[tuple[int, float]]) -> bool:
            return self.proposer.prune(self._candidates[number][0], reports)

        return prune

    # -- results -------------------------------------------------------------------------------------------------------

    def _store_and_report(self, outcomes: list[Outcome]) -> None:
        """Store outcomes; then count them, tell the engine, and call ``on_finished``."""
        if not outcomes:
            return
        finished = []
        for outcome in outcomes:
            candidate, params = self._candidates.pop(outcome.number)
            finished.append(of_outcome(outcome, candidate.digest, candidate.row.tolist(), params))
        total = sum(outcome.seconds for outcome in outcomes)
        self.seconds["evaluation"] += total
        mean = total / len(outcomes)
        self._mean_seconds = mean if self._mean_seconds is None else 0.5 * (self._mean_seconds + mean)
        accepted = self.shared.finish(finished, self._is_expensive)
        started = time.perf_counter()
        for each in finished:
            if each.digest in accepted:
                self.proposer.complete(each.digest, each.status, each.values)
            else:
                self.discarded += 1
                logger.warning("Trial %d came after its lease was taken over, and is discarded", each.number)
                self.proposer.leased_by_others[each.digest] = self.proposer.in_flight[each.digest].row
                self.proposer.discard(each.digest)
        recorded = [each for each in finished if each.digest in accepted]
        self.study.remember(recorded)
        self.evaluated += len(recorded)
        self.failures += sum(each.status == Status.FAILED for each in recorded)
        self.seconds["search"] += time.perf_counter() - started
        self.on_finished(recorded)
        for outcome in outcomes:
            if not outcome.is_caught:
                params = next(each.params for each in finished if each.number == outcome.number)
                if outcome.trace is None:  # it returned no valid result
                    raise ObjectiveError((outcome.error or "").removeprefix("ObjectiveError: "), params)
                raise ObjectiveError(f"objective failed at {params}: {outcome.error}\n{outcome.trace}", params)

    def _release_all(self) -> None:
        """Release all reservations, and stop the workers."""
        for future in self._futures:
            future.cancel()
        if self._futures and isinstance(self.executor, Workers):
            self.executor.kill()
        self._futures.clear()
        self._candidates.clear()
        for digest in list(self.proposer.in_flight):
            self.proposer.discard(digest)
        self.proposer.leased_by_others.clear()
        self.shared.release()


def _stacked(candidates: Sequence[Candidate]) -> Any:
    return np.array([each.row for each in candidates])

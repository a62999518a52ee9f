"""Optimisation of many problems at once, one per thread or worker."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from typing import TYPE_CHECKING, Any, Protocol

from backtest._checks import InputError, choice, flag, known_names, number
from backtest._said import said, shown
from backtest.compute.threads import shared_pool, thread_count
from backtest.compute.worker import WorkerDied

if TYPE_CHECKING:
    import pandas as pd

#: Columns of the result, for problems of any kind.
COLUMNS = (
    "high",
    "low",
    "profit",
    "profit_low",
    "profit_high",
    "n_fills",
    "n_ambiguous",
    "baseline",
    "tolerance",
    "truncated",
    "fallback",
    "nfev",
    "method",
    "success",
    "status",
    "message",
    "error",
)
OPTIONS = ("bounds", "effort", "maxfun", "seed")
NOT_STARTED = "not started before the deadline"
FAILED = "failed, see error"


#: ``search(problems, options, until, n_threads)`` runs them on a device and yields (place, result); none starts after ``until``.
Search = Callable[[list[Any], dict[str, Any], float | None, int], Iterator[tuple[int, Any]]]


class Problem(Protocol):
    """A problem: :class:`Levels`, :class:`AlwaysOn`, or anything with their ``optimize``.

    With a static method ``on_device(method, device, dtype)`` it may be optimised on a device; that returns a ``Search``, or None
    if the method stays on the CPU.
    """

    def optimize(self, method: str = ..., **options: Any) -> Any:
        """The best point, as a scipy OptimizeResult with the keys of :meth:`Levels.optimize`."""


def optimize_many(
    problems: Mapping[Any, Problem],
    method: str = "exact",
    *,
    deadline: float | None = None,
    on_error: str = "record",
    executor: Executor | None = None,
    n_threads: int | None = None,
    progress: bool | None = None,
    device: str | None = None,
    dtype: str | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Optimise every problem, several at once.

    Parameters
    ----------
    problems
        {key: problem}; tuple keys of one length make a MultiIndex.
    method
        As in :meth:`Levels.optimize`; so are ``options`` (``bounds``, ``effort``, ``maxfun``, ``seed``).
    deadline
        Seconds from the call; problems not started by then are recorded as such, running ones finish.
    on_error
        ``record``: a problem that fails is a row with its ``error``, and the others go on.  ``raise``: the first error in the
        order of the keys is raised, and nothing more is started.
    executor
        Any ``concurrent.futures`` executor; None uses threads of this process (the compiled kernels release the GIL).
        A worker process without compiled kernels runs the pure ones, with equal results.
    n_threads
        Threads, if there is no executor; None takes every processor this process may use.
    progress
        A progress bar; None shows it on a terminal only.
    device
        ``cuda``, ``cuda:1``: ``method="direct"`` runs there, all problems in lock-step, each iteration one launch
        (``deadline`` is checked between waves of thousands of problems).  Rounding differs, so DIRECT may visit other points
        than without a device; the result has the CPU kernel's score of its best point.  ``exact`` stays on the CPU.
    dtype
        On a device: ``float64`` (default) or ``float32``, see :class:`backtest.gpu.Problems`.

    Returns
    -------
    DataFrame
        One row a problem, in the order of the mapping: ``high``, ``low`` (the offsets), what :meth:`Levels.optimize`
        reports, and ``error`` (None, or what was raised).

    Raises
    ------
    InputError
        An option breaks its rule.
    BackendUnavailable
        There is no such device, or torch is not installed.
    """
    choice("on_error", on_error, ("record", "raise"))
    if not isinstance(problems, Mapping):
        raise InputError(f"problems must be a mapping of keys to problems, got {type(problems).__name__}")
    until = None if deadline is None else time.monotonic() + number("deadline", deadline, low=0.0)
    raises = on_error == "raise"
    if progress is None:
        progress = sys.stderr.isatty()
    known_names("option", options, OPTIONS)
    work = list(problems.values())
    for key, problem in problems.items():
        if not callable(getattr(problem, "optimize", None)):
            raise InputError(
                f"problems must have an optimize(), as bt.Levels has, got {shown(problem)} at {key!r}; "
                "a strategy goes to bt.optimize, which takes several symbols"
            )
    searches = _searches(work, method, device, dtype, executor)
    options["method"] = method
    with _Progress(len(work), flag("progress", progress)) as tick:
        if executor is not None:
            results = _on_executor(work, options, until, raises, executor, tick)
        elif searches:
            results = _on_device(work, searches, options, until, raises, thread_count(n_threads), tick)
        else:
            results = _on_threads(work, options, until, raises, thread_count(n_threads), tick)
    failures = [each for each in results if isinstance(each, Exception)]
    if raises and failures:
        raise failures[0]
    return _table(list(problems), results)


def _searches(
    work: list[Problem], method: str, device: str | None, dtype: str | None, executor: Executor | None
) -> dict[Search, list[int]]:
    """Places of the problems by the search that runs them on a device; empty if all stay on the CPU."""
    if device is None:
        if dtype is not None:
            raise InputError(f"dtype must be left out without a device, got {dtype!r}")
        return {}
    if executor is not None:
        raise InputError(f"executor must be None with device={device!r}, got {type(executor).__name__}")
    places: dict[Callable[..., Search | None], list[int]] = {}
    for place, problem in enumerate(work):
        make_search = getattr(problem, "on_device", None)
        if make_search is None:
            raise InputError(f"problems must be Levels or AlwaysOn with device={device!r}, got {type(problem).__name__}")
        places.setdefault(make_search, []).append(place)
    searches = {make_search(method, device, dtype or "float64"): indices for make_search, indices in places.items()}
    return {search: indices for search, indices in searches.items() if search is not None}


def _on_device(
    work: list[Problem],
    searches: dict[Search, list[int]],
    options: dict[str, Any],
    until: float | None,
    raises: bool,
    n_threads: int,
    tick: Callable[[], None],
) -> list[Any]:
    """All problems of a kind at once; an error is recorded for each of them without a result.  The others run on the CPU."""
    results: list[Any] = [None] * len(work)
    search_options = {name: value for name, value in options.items() if name != "method"}
    cpu_places = sorted(set(range(len(work))).difference(*searches.values()))
    on_cpu = _on_threads([work[place] for place in cpu_places], options, until, raises, n_threads, tick)
    for place, result in zip(cpu_places, on_cpu, strict=True):
        results[place] = result
    for search, places in searches.items():
        try:
            for place, result in search([work[place] for place in places], search_options, until, n_threads):
                results[places[place]] = result
                tick()
        except Exception as error:
            for place in places:
                results[place] = error if results[place] is None else results[place]
            if raises:
                return results
    return results


def _solve(problem: Problem, options: dict[str, Any]) -> Any:
    """The result, or the exception: a failing problem must not end its worker."""
    try:
        return problem.optimize(**options)
    except Exception as error:
        return error


def _on_threads(
    work: list[Problem], options: dict[str, Any], until: float | None, raises: bool, n_threads: int, tick: Callable[[], None]
) -> list[Any]:
    """Each thread takes the next problem until none is left: one submission a thread, not one a problem."""
    results: list[Any] = [None] * len(work)
    lock = threading.Lock()
    places: Iterator[int] = iter(range(len(work)))
    stopped = threading.Event()

    def loop() -> None:
        while not stopped.is_set():
            with lock:
                place = next(places, None)
            if place is None or (until is not None and time.monotonic() >= until):
                return
            results[place] = _solve(work[place], options)
            if raises and isinstance(results[place], Exception):
                stopped.set()
            with lock:
                tick()

    if n_threads == 1 or len(work) < 2:
        loop()
        return results
    for future in [shared_pool(n_threads).submit(loop) for _ in range(min(n_threads, len(work)))]:
        future.result()
    return results


def _on_executor(
    work: list[Problem], options: dict[str, Any], until: float | None, raises: bool, executor: Executor, tick: Callable[[], None]
) -> list[Any]:
    results: list[Any] = [None] * len(work)
    places: dict[Future[Any], int] = {}
    if until is None or time.monotonic() < until:
        places = {executor.submit(_solve, problem, options): place for place, problem in enumerate(work)}
    waiting = set(places)
    while waiting:
        seconds_left = None if until is None else max(0.0, until - time.monotonic())
        done, waiting = wait(waiting, timeout=seconds_left, return_when=FIRST_COMPLETED)
        for future in done:
            try:
                results[places[future]] = future.result()
            except WorkerDied as error:  # by a signal or the out-of-memory killer: fails this problem only
                results[places[future]] = error
            except BaseException:  # of the executor, so all others would fail too
                for each in waiting:
                    each.cancel()
                raise
            tick()
        failed = raises and any(isinstance(results[places[future]], Exception) for future in done)
        if failed or (until is not None and time.monotonic() >= until):
            waiting = {future for future in waiting if not future.cancel()}  # running ones finish
            until = None
    return results


class _Progress:
    """A progress bar that is only imported when it is shown."""

    def __init__(self, total: int, shown: bool) -> None:
        self._total, self._shown = total, shown
        self._tqdm: Any = None

    def __enter__(self) -> Callable[[], None]:
        if not self._shown:
            return lambda: None
        from tqdm import tqdm

        self._tqdm = tqdm(total=self._total, unit="problem")
        return lambda: self._tqdm.update() and None

    def __exit__(self, *_: object) -> None:
        if self._tqdm is not None:
            self._tqdm.close()


def _table(keys: list[Any], results: list[Any]) -> pd.DataFrame:
    import pandas as pd

    tuples = bool(keys) and all(isinstance(key, tuple) and len(key) == len(keys[0]) for key in keys)
    index = pd.MultiIndex.from_tuples(keys) if tuples else pd.Index(keys, name="key", tupleize_cols=False)
    return pd.DataFrame([_row(each) for each in results], columns=list(COLUMNS), index=index)


def _row(result: Any) -> dict[str, Any]:
    if result is None:
        return {"success": False, "message": NOT_STARTED, "error": None}
    if isinstance(result, Exception):
        return {"success": False, "message": FAILED, "error": said(result)}
    high, low = result.x.tolist()
    return {**result, "high": high, "low": low, "error": None}  # other keys are dropped by the table

"""A pool of persistent worker processes: started once, sent large values once, replaced when they die."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import math
import os
import pickle
import queue
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from backtest._checks import InputError, number
from backtest._said import said, shown
from backtest.compute import worker
from backtest.compute.folders import Folder
from backtest.compute.process import RESPONSE_SECONDS, Process, ProcessEnded, ResponseTimeout, exit_text
from backtest.compute.threads import thread_count
from backtest.compute.worker import Placed, WorkerDied, WorkerUnable

#: Most processes that are started for a task before it begins.
MAX_STARTS = 3
#: Most placed values that are kept.
MAX_PLACED = 16
_pools: weakref.WeakSet[Workers] = weakref.WeakSet()


class Workers(Executor):
    """A pool of warm worker processes.

    Parameters
    ----------
    count : int, optional
        Processes; as many as processors by default.

    Notes
    -----
    Processes are started at the first task, never forked, and stay until :meth:`shutdown`, the end of a ``with`` block, or
    of the program; if the parent is killed, they end too, with all that their tasks have started: each leads a process
    group.  They have the parent's import path, and no other.  They do not import the parent's
    main module: what is defined there, in a notebook or in ``python -c`` is sent by value, so no ``if __name__ ==
    "__main__"`` is needed.  BLAS uses one thread in each.  After a fork, the child's pool starts workers of its own.

    If a worker ends (a signal, the out-of-memory killer, ``os._exit``), its task fails with ``WorkerDied``, and another takes
    its place.  If none can start, or unpickle its task (a module is missing, an objective cannot be loaded), the task fails with
    ``WorkerUnable``, which quotes the worker's output: that is no result of the task.
    """

    def __init__(self, count: int | None = None) -> None:
        self.count = thread_count(count)
        self._lock = threading.Lock()
        self._pid, self._closed = os.getpid(), False
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._slots: list[_Slot] = []
        self._folder: Folder | None = None
        self._placed: dict[str, Placed] = {}
        self._n_placed = 0
        _pools.add(self)

    def __repr__(self) -> str:
        return f"Workers({self.count})"

    def __reduce__(self) -> tuple[type[Workers], tuple[int]]:
        return type(self), (self.count,)

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run ``fn(*args)`` in a worker; :class:`concurrent.futures.Executor`.

        Arguments may be :meth:`place`\\ d.
        """
        if kwargs:
            import functools

            fn = functools.partial(fn, **kwargs)
        return self.call(fn, args)

    def call(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        *,
        timeout: float | None = None,
        answer: Callable[..., Any] | None = None,
    ) -> Future[Any]:
        """Run a function in a worker.

        Parameters
        ----------
        timeout : float, optional
            Seconds after which the worker is ended with all processes that it started, and the future fails with TimeoutError;
            counted from when the worker has imported the task's modules.
        answer : callable, optional
            The function gets one more argument, a channel: ``channel(*question)`` in the worker returns
            ``answer(*question)``, called in a thread of this process.
        """
        if worker.importing.is_set():  # its workers would import it too, and start workers in turn
            raise InputError(
                "a module that worker processes import must start none when it is imported, got one that does; put "
                'what starts them under if __name__ == "__main__":'
            )
        if timeout is not None:
            number("timeout", timeout, low=0.0, open_low=True)
        data = _pickled((function, arguments, answer is not None))
        task = _Task(data, timeout, answer, Future())
        with self._lock:
            if self._closed:
                raise RuntimeError("these workers were shut down")
            self._rebuild_after_fork()
            self._tasks.put(task)
            if len(self._slots) < self.count:
                self._slots.append(_Slot(self._tasks))
        return task.future

    def _rebuild_after_fork(self) -> None:
        if self._pid != os.getpid():  # a forked child has neither the threads nor the processes of its parent
            self._pid, self._slots, self._tasks = os.getpid(), [], queue.SimpleQueue()
            self._folder, self._placed = None, {}

    def place(self, value: Any) -> Placed:
        """Make a value available to every worker: in a file, whose arrays all of them map read-only.

        It is identified by its content (a function with the variables that it uses): if it is placed again unchanged, workers
        do not load it again.
        """
        with self._lock:
            self._rebuild_after_fork()
            if self._folder is None:
                self._folder = Folder()
            self._n_placed += 1
            path = os.path.join(self._folder.path, str(self._n_placed))
            try:
                sizes = worker.place(value, path)
            except Exception as error:
                raise InputError(
                    f"objective must be picklable for worker processes, got {shown(value)}: "
                    f"{said(error)}; open files, locks and connections inside the function, not outside"
                ) from error
            with open(path, "rb") as file:
                token = hashlib.file_digest(file, "blake2b").hexdigest()
            existing = self._placed.pop(token, None)
            self._placed[token] = placed = existing or Placed(token, path, sizes)
            outdated = [path] if existing else []
            if len(self._placed) > MAX_PLACED:
                outdated.append(self._placed.pop(next(iter(self._placed))).path)
            for each in outdated:
                with contextlib.suppress(OSError):  # Windows: a mapped file is removed with its folder
                    os.remove(each)
            return placed

    # -- the end -------------------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the workers after the tasks they have; with ``cancel_futures``, at once."""
        with self._lock:
            if self._closed or self._pid != os.getpid():
                self._closed = True
                return
            self._closed = True
            slots = self._slots
        if cancel_futures:
            while not self._tasks.empty():
                task = self._tasks.get()
                if task is not None:
                    task.future.cancel()
        for _ in slots:
            self._tasks.put(None)
        if cancel_futures:
            for slot in slots:
                slot.kill()
        if wait or cancel_futures:
            for slot in slots:
                slot.thread.join()
        if self._folder is not None and (wait or cancel_futures):  # otherwise at the end of the program
            self._folder.remove()

    def kill(self) -> None:
        """End every running task; the next task starts new workers."""
        for slot in self._slots:
            slot.kill()

    @property
    def pids(self) -> list[int]:
        """Process numbers of the workers that live."""
        processes = [slot.process for slot in self._slots]
        return [each.pid for each in processes if each is not None and each.is_alive()]


class _Task:
    def __init__(self, data: bytes, timeout: float | None, answer: Callable[..., Any] | None, future: Future[Any]) -> None:
        self.data, self.timeout, self.answer, self.future = data, timeout, answer, future


class _Slot:
    """A worker process and the thread that feeds it."""

    def __init__(self, tasks: queue.SimpleQueue[_Task | None]) -> None:
        self.process: Process | None = None
        self._tasks, self._kills = tasks, 0
        self.thread = threading.Thread(target=self._feed, name="backtest-worker", daemon=True)
        self.thread.start()

    def kill(self) -> None:
        """End the process now."""
        self._kills += 1
        process = self.process
        if process is not None:
            process.kill()

    def _feed(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                break
            if not task.future.set_running_or_notify_cancel():
                continue
            try:
                result = self._run(task)
            except BaseException as error:
                task.future.set_exception(error)
            else:
                task.future.set_result(result)
            del task
        self._end()

    def _run(self, task: _Task) -> Any:
        process = self._hand_over(task)
        until = math.inf if task.timeout is None else time.monotonic() + task.timeout
        try:
            while True:
                kind, content = pickle.loads(process.receive(until))
                if kind == "ask":
                    assert task.answer is not None
                    process.send(b"r", _pickled(task.answer(*content)))
                    continue
                if kind == "failed":
                    raise content
                return content
        except ResponseTimeout as error:
            self._end()
            raise TimeoutError(f"took longer than {task.timeout:g} s") from error
        except ProcessEnded as error:
            raise WorkerDied(f"the worker process died ({exit_text(self._end())})") from error

    def _hand_over(self, task: _Task) -> Process:
        """A process that has unpickled the task; one that dies before is replaced, as that need not be the task's fault."""
        kills = self._kills
        until = math.inf if task.timeout is None else time.monotonic() + max(task.timeout, RESPONSE_SECONDS)
        for n_left in reversed(range(MAX_STARTS)):
            if self.process is not None and not self.process.is_alive():
                self._end()
            if self.process is None:
                try:
                    self.process = Process()
                except WorkerUnable:
                    if n_left:
                        continue
                    raise
            process = self.process
            try:
                if kills != self._kills:
                    raise WorkerDied("the worker process was ended before its task began")
                process.send(b"t", task.data)
                kind, content = pickle.loads(process.receive(until))
            except ResponseTimeout as error:
                self._end()
                raise WorkerUnable(f"a worker process must take in its task, got nothing in {RESPONSE_SECONDS:.0f} s") from error
            except ProcessEnded as error:
                code = self._end()
                if kills != self._kills:
                    raise WorkerDied(f"the worker process died ({exit_text(code)})") from error
                if not n_left:
                    raise WorkerUnable(
                        f"a worker process must take in its task, got {exit_text(code)} {MAX_STARTS} times{process.quoted_output}"
                    ) from error
                continue
            if kind != "taken":
                raise WorkerUnable(f"a worker process must take in its task, got {content}")
            return process
        raise AssertionError("unreachable")

    def _end(self) -> int | None:
        process, self.process = self.process, None
        return None if process is None else process.end()


def _pickled(value: Any) -> bytes:
    import cloudpickle

    try:
        return bytes(cloudpickle.dumps(value, protocol=5))
    except Exception as error:
        raise InputError(f"a task must be picklable for worker processes, got {said(error)}") from error


def _at_exit() -> None:
    for each in list(_pools):
        each.shutdown(wait=False, cancel_futures=True)


atexit.register(_at_exit)

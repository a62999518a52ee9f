"""Main loop of a worker process: tasks arrive on standard input, answers leave on the original standard output."""

from __future__ import annotations

import mmap
import os
import pickle
import queue
import signal
import struct
import sys
import threading
import warnings
from typing import Any

from backtest._checks import BacktestError
from backtest._said import said

_SIZE = struct.Struct("<Q")
#: Set while a task is unpickled, which imports its modules.
importing = threading.Event()


class WorkerDied(RuntimeError):
    """A worker process ended before its task was done."""


class WorkerUnable(BacktestError, RuntimeError):
    """A worker process cannot start, or cannot unpickle its task; nothing was evaluated."""


class Placed:
    """Reference to a large value that workers load from a file once."""

    def __init__(self, token: str, path: str, sizes: tuple[int, ...]) -> None:
        self.token, self.path, self.sizes = token, path, sizes


def send(pipe: Any, message: Any) -> None:
    """Write a message."""
    import cloudpickle

    data = cloudpickle.dumps(message, protocol=5)
    pipe.write(_SIZE.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: Any) -> Any:
    """Read a message; EOFError at the end."""
    head = pipe.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    data = pipe.read(_SIZE.unpack(head)[0])
    if len(data) < _SIZE.unpack(head)[0]:
        raise EOFError
    return data


def place(value: Any, path: str) -> tuple[int, ...]:
    """Write a value into a file, its pickle first and its arrays behind, and return the sizes of these parts."""
    import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(data), *(each.raw() for each in buffers)]
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
            file.write(bytes(-len(part) % 64))  # arrays are aligned to cache lines
    return tuple(len(part) for part in parts)


def fetch(placed: Placed) -> Any:
    """The value in a file; its arrays are memory-mapped, shared by all workers and read-only."""
    with open(placed.path, "rb") as file:
        pages = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    parts, offset = [], 0
    for size in placed.sizes:
        parts.append(pages[offset : offset + size])
        offset += size + -size % 64
    return pickle.loads(parts[0], buffers=parts[1:])


class Channel:
    """Calls from a running task to the parent process."""

    def __init__(self, pipe: Any, replies: queue.SimpleQueue[Any]) -> None:
        self._pipe, self._replies = pipe, replies

    def __call__(self, *question: Any) -> Any:
        """Send a question, and wait for its answer."""
        send(self._pipe, ("ask", question))
        return self._replies.get()


def main(parent: int, errors: int) -> None:
    """Take tasks until the parent closes the pipe, or dies.

    Parameters
    ----------
    parent : int
        Its process number.
    errors : int
        File descriptor for output from the first task on; negative: output stays where it goes.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _start_watchdog(parent)
    # Duplicates are not inherited by programs that an objective starts: these must not read tasks, nor keep the pipes open.
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)  # an objective's prints must not mix with the answers
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for the life of the process
    incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks, incoming, replies), daemon=True).start()
    loaded: dict[str, Any] = {}
    channel = Channel(answers, replies)
    send(answers, ("ready", os.getpid()))
    while True:
        data = incoming.get()
        if data[:1] == b"p":
            sys.path[:] = filter(None, data[1:].decode("utf-8", "surrogatepass").split("\0"))
            continue
        try:
            importing.set()
            function, arguments, wants_channel = pickle.loads(memoryview(data)[1:])
            values = [_resolved(each, loaded) for each in arguments]
        except BaseException as error:  # a module that is missing, or fails on import
            send(answers, ("unable", said(error)))
            continue
        finally:
            importing.clear()
        if errors >= 0:
            errors = _redirect_output(errors)
        send(answers, ("taken", None))
        try:
            answer: tuple[str, Any] = ("done", function(*values, *([channel] if wants_channel else [])))
        except BaseException as error:  # SystemExit of an objective is its task's error, not the worker's end
            answer = ("failed", error)
        try:
            send(answers, answer)
        except Exception as error:
            send(answers, ("failed", RuntimeError(f"the result of a task must be picklable: {said(error)}")))


def _read(tasks: Any, incoming: queue.SimpleQueue[bytes], replies: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            data = receive(tasks)
            if data[:1] == b"r":
                replies.put(pickle.loads(memoryview(data)[1:]))
            else:
                incoming.put(data)
    except (EOFError, OSError):
        _end_all()  # the parent has ended: so does everything that was started here


def _end_all() -> None:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _start_watchdog(parent: int) -> None:
    """Start a process of this group that kills the group when the parent ends, even if a task here never releases the GIL.

    It is no child of this process, whose tasks may wait for all of its children.
    """
    if not hasattr(os, "pidfd_open") or os.getpgrp() != os.getpid():
        return
    try:
        parent_fd = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    except OSError:  # an old or restricted system: the reading thread notices too, once it gets the GIL
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads, of which there are none yet
        child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(parent_fd)
        return
    try:
        if not os.fork():
            os.closerange(0, parent_fd)  # it must keep no pipe open
            os.closerange(parent_fd + 1, 1024)
            import select

            poller = select.poll()
            poller.register(parent_fd, select.POLLIN)
            poller.poll()
            os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)


def _redirect_output(errors: int) -> int:
    """Redirect output to the parent's standard error, with what was printed so far."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    offset = 0
    while data := os.pread(2, 1 << 16, offset):
        offset += len(data)
        os.write(errors, data)
    os.ftruncate(2, 0)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.close(errors)
    return -1


def _resolved(value: Any, loaded: dict[str, Any]) -> Any:
    if not isinstance(value, Placed):
        return value
    if value.token not in loaded:
        loaded.clear()  # one objective at a time: the previous one may hold much memory
        loaded[value.token] = fetch(value)
    return loaded[value.token]

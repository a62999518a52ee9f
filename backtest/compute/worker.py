"""What runs in a worker process: tasks come in by standard input, answers go out where standard output was."""

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
#: Set while a task is taken in, which imports the modules that it is from.
importing = threading.Event()


class WorkerDied(RuntimeError):
    """A worker process ended, or was ended, before its task did."""


class WorkerUnable(BacktestError, RuntimeError):
    """A worker process cannot start, or cannot take in what it is given; nothing was evaluated by it."""


class Placed:
    """Something large that workers have already, or find in a file."""

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
    """Write a value into a file, its arrays side by side at the end, and return the sizes of its parts."""
    import cloudpickle

    buffers: list[pickle.PickleBuffer] = []
    data = cloudpickle.dumps(value, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(data), *(each.raw() for each in buffers)]
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
            file.write(bytes(-len(part) % 64))  # arrays begin at whole cache lines
    return tuple(len(part) for part in parts)


def fetch(placed: Placed) -> Any:
    """The value of a file; its arrays are the file's pages, shared by all workers and read-only."""
    with open(placed.path, "rb") as file:
        pages = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    parts, at = [], 0
    for size in placed.sizes:
        parts.append(pages[at : at + size])
        at += size + -size % 64
    return pickle.loads(parts[0], buffers=parts[1:])


class Channel:
    """Questions of a task to the process that gave it; only while it runs."""

    def __init__(self, pipe: Any, replies: queue.SimpleQueue[Any]) -> None:
        self._pipe, self._replies = pipe, replies

    def __call__(self, *question: Any) -> Any:
        """Ask, and wait for the answer."""
        send(self._pipe, ("ask", question))
        return self._replies.get()


def main(parent: int, errors: int) -> None:
    """Take tasks until the parent closes the pipe, or dies.

    Parameters
    ----------
    parent : int
        Number of its process.
    errors : int
        Where what is said goes from the first task on; negative: where it went until then.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    _guard(parent)
    # Copies, which programs that an objective starts do not inherit: they must not read tasks, nor keep the pipes open.
    tasks, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)  # what an objective prints must not get between the answers
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for the life of the process
    incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    replies: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(tasks, incoming, replies), daemon=True).start()
    known: dict[str, Any] = {}
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
            values = [_resolved(each, known) for each in arguments]
        except BaseException as error:  # a module that is missing here, or fails when it is imported
            send(answers, ("unable", said(error)))
            continue
        finally:
            importing.clear()
        if errors >= 0:
            errors = _speak(errors)
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
        _end_all()  # the parent is gone: whatever runs here, or was started here, is for nobody


def _end_all() -> None:
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def _guard(parent: int) -> None:
    """Start a process of this group that ends all of it when the parent is gone: at once, and also where something that runs
    here never lets Python's threads run.  It is no child of this process, which may wait for children of its own.
    """
    if not hasattr(os, "pidfd_open") or os.getpgrp() != os.getpid():
        return
    try:
        watched = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    except OSError:  # an old or guarded system: the reading thread notices too, when it may run
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, of which there are none yet
        child = os.fork()
    if child:
        os.waitpid(child, 0)
        os.close(watched)
        return
    try:
        if not os.fork():
            os.closerange(0, watched)  # no pipe shall stay open for its sake
            os.closerange(watched + 1, 1024)
            import select

            looked = select.poll()
            looked.register(watched, select.POLLIN)
            looked.poll()
            os.killpg(0, signal.SIGKILL)
    finally:
        os._exit(0)


def _speak(errors: int) -> int:
    """From now on, what is said here goes where the parent's errors go; what was said before, too."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    at = 0
    while data := os.pread(2, 1 << 16, at):
        at += len(data)
        os.write(errors, data)
    os.ftruncate(2, 0)
    os.dup2(errors, 1)
    os.dup2(errors, 2)
    os.close(errors)
    return -1


def _resolved(value: Any, known: dict[str, Any]) -> Any:
    if not isinstance(value, Placed):
        return value
    if value.token not in known:
        known.clear()  # one objective at a time: the one before may hold much memory
        known[value.token] = fetch(value)
    return known[value.token]

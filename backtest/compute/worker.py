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
from typing import Any

_SIZE = struct.Struct("<Q")
#: Set while a task is taken in, which imports the modules that it is from.
importing = threading.Event()


class WorkerDied(RuntimeError):
    """A worker process ended, or was ended, before its task did."""


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


def main() -> None:
    """Take tasks until the parent closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    tasks, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what an objective prints must not get between the answers
    sys.stdin = open(os.devnull)  # noqa: SIM115 - for the life of the process
    incoming: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    replies: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                data = receive(tasks)
                kind = data[:1]
                if kind == b"r":
                    replies.put(pickle.loads(data[1:]))
                else:
                    incoming.put(data[1:])
        except (EOFError, OSError):
            os._exit(1)  # the parent is gone: whatever runs here is for nobody

    threading.Thread(target=read, daemon=True).start()
    known: dict[str, Any] = {}
    channel = Channel(answers, replies)
    send(answers, ("ready", os.getpid()))
    while True:
        data = incoming.get()
        try:
            importing.set()
            try:
                function, arguments, wants_channel = pickle.loads(data)
                values = [_resolved(each, known) for each in arguments]
            finally:
                importing.clear()
            result = function(*values, *([channel] if wants_channel else []))
            answer: tuple[str, Any] = ("done", result)
        except BaseException as error:  # SystemExit of an objective is its task's error, not the worker's end
            answer = ("failed", error)
        try:
            send(answers, answer)
        except Exception as error:
            send(answers, ("failed", RuntimeError(f"the result of a task must be picklable: {type(error).__name__}: {error}")))


def _resolved(value: Any, known: dict[str, Any]) -> Any:
    if not isinstance(value, Placed):
        return value
    if value.token not in known:
        known.clear()  # one objective at a time: the one before may hold much memory
        known[value.token] = fetch(value)
    return known[value.token]

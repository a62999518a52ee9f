"""One worker process: its start, messages to and from it, and its end, with all processes that it started."""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import struct
import sys
import tempfile
import threading
import time
from typing import Any

from backtest._said import said, without_password
from backtest.compute.worker import WorkerUnable

#: Without these, each library would start a thread per processor in each worker.
ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
}
#: Sets ``sys.path`` to the parent's before anything but built-in modules is imported.
_START = """
import sys
size = int.from_bytes(sys.stdin.buffer.read(8), "little")
sys.path[:] = filter(None, sys.stdin.buffer.read(size).decode("utf-8", "surrogatepass").split("\\0"))
from backtest.compute.worker import main
main(*map(int, sys.argv[1:]))
"""
#: Seconds that a process may take to start or respond, and between two checks whether a silent one lives.
RESPONSE_SECONDS, POLL_SECONDS = 120.0, 0.1
#: Characters of a dead process's output that a message quotes.
MAX_QUOTED = 2000
_SIZE = struct.Struct("<Q")
_IS_POSIX = os.name == "posix"


class ProcessEnded(Exception):
    """The process has ended."""


class ResponseTimeout(Exception):
    """The process has not sent a message in time."""


def import_path() -> tuple[str, ...]:
    """``sys.path`` of this process, with the working folder in place of an empty entry."""
    path = []
    for each in sys.path:
        with contextlib.suppress(FileNotFoundError):  # the working folder was removed
            if isinstance(each, str):
                path.append(each or os.getcwd())
    return tuple(path)


def _flags() -> list[str]:
    """Flags of Python: never import from the working folder implicitly, nor from anything excluded in this process."""
    flags = sys.flags
    given = {"-E": flags.ignore_environment, "-s": flags.no_user_site, "-S": flags.no_site}
    return ["-P", *(["-I"] if flags.isolated else []), *(flag for flag, is_given in given.items() if is_given)]


class Process:
    """A worker process that is ready for tasks.

    It leads a process group, so that what its tasks start ends with it.  Its output before the first task is kept, and quoted if
    it ends before that (:attr:`quoted_output`, to be appended to a message).

    Raises
    ------
    WorkerUnable
        It cannot start.
    """

    def __init__(self) -> None:
        import subprocess

        self._lock, self._is_ended, self._buffer = threading.Lock(), False, bytearray()
        self.quoted_output = ""
        try:
            self._output = tempfile.TemporaryFile() if _IS_POSIX else None  # noqa: SIM115 - until the end of the process
        except OSError as error:  # no room
            raise WorkerUnable(f"a worker process must start, got no file for its output: {said(error)}") from error
        errors = _dup_of_stderr() if _IS_POSIX else -1
        options: dict[str, Any] = {"start_new_session": True, "pass_fds": (errors,), "stderr": self._output} if _IS_POSIX else {}
        command = [sys.executable, *_flags(), "-c", _START, str(os.getpid()), str(errors)]
        try:
            self._popen = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, env=os.environ | ONE_THREAD, **options
            )
        except OSError as error:
            if self._output is not None:
                self._output.close()
            raise WorkerUnable(f"a worker process must start, got {said(error)} for sys.executable {sys.executable!r}") from error
        finally:
            if errors >= 0:
                os.close(errors)
        self.pid = self._popen.pid
        self.path = import_path()
        self._poll: Any = None
        if _IS_POSIX:
            assert self._popen.stdout is not None
            self._poll = select.poll()
            self._poll.register(self._popen.stdout.fileno(), select.POLLIN)
        try:
            self._write(_encoded(self.path))
            self.receive(time.monotonic() + RESPONSE_SECONDS)  # ready
        except (ProcessEnded, ResponseTimeout) as error:
            code = self.end()
            how = f"nothing in {RESPONSE_SECONDS:.0f} s" if isinstance(error, ResponseTimeout) else exit_text(code)
            raise WorkerUnable(f"a worker process must start, got {how} of {sys.executable!r}{self.quoted_output}") from error
        except BaseException:
            self.end()
            raise

    # -- messages ------------------------------------------------------------------------------------------------------

    def send(self, kind: bytes, data: bytes) -> None:
        """Send a message, after ``sys.path`` if that has changed."""
        path = import_path()
        if path != self.path:
            self.path = path
            self._write(b"p" + _encoded(path))
        self._write(kind + data)

    def _write(self, data: bytes) -> None:
        assert self._popen.stdin is not None
        try:
            rest = memoryview(_SIZE.pack(len(data)) + data)
            while rest:
                rest = rest[self._popen.stdin.write(rest) :]
        except (OSError, ValueError) as error:  # closed at either end
            raise ProcessEnded from error

    def receive(self, until: float = math.inf) -> bytes:
        """The next message.

        Raises
        ------
        ProcessEnded
            The process has ended, even if another one holds its pipe open.
        ResponseTimeout
            ``time.monotonic()`` has reached ``until``.
        """
        while len(self._buffer) < _SIZE.size or len(self._buffer) < _SIZE.size + _SIZE.unpack_from(self._buffer)[0]:
            self._buffer += self._chunk(until)
        stop = _SIZE.size + _SIZE.unpack_from(self._buffer)[0]
        with memoryview(self._buffer) as view:
            message = bytes(view[_SIZE.size : stop])
        del self._buffer[:stop]
        return message

    def _chunk(self, until: float) -> bytes:
        assert self._popen.stdout is not None
        try:
            if self._poll is None:
                return self._chunk_blocking(until)
            while not self._poll.poll(1000.0 * min(POLL_SECONDS, max(0.0, until - time.monotonic()))):
                if not self.is_alive() and not self._poll.poll(0):
                    raise ProcessEnded
                if time.monotonic() >= until:
                    raise ResponseTimeout
            data = os.read(self._popen.stdout.fileno(), 1 << 20)
        except (OSError, ValueError) as error:
            raise ProcessEnded from error
        if not data:
            raise ProcessEnded
        return data

    def _chunk_blocking(self, until: float) -> bytes:
        """Without polling of pipes (Windows): a timer ends the process."""
        assert self._popen.stdout is not None
        timer = threading.Timer(max(0.0, min(until - time.monotonic(), threading.TIMEOUT_MAX)), self.kill)
        timer.daemon = True
        timer.start()
        try:
            data = bytes(self._popen.stdout.read(1 << 20))  # unbuffered: returns what is available
        finally:
            timer.cancel()
        if not data:
            raise ResponseTimeout if time.monotonic() >= until else ProcessEnded
        return data

    # -- the end -------------------------------------------------------------------------------------------------------

    def is_alive(self) -> bool:
        """Whether it runs; its number is not reused before :meth:`end`."""
        if self._is_ended:
            return False
        if not hasattr(os, "waitid"):
            return self._popen.poll() is None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    def kill(self) -> None:
        """End it now, with all processes of its group."""
        with self._lock:
            if self._is_ended:
                return
            if not _IS_POSIX:
                self._popen.kill()
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS refuses groups of zombies only
                os.killpg(self.pid, signal.SIGKILL)

    def end(self) -> int | None:
        """End it with all processes it started; return its exit code."""
        import subprocess

        self.kill()
        with self._lock:
            self._is_ended = True
            with contextlib.suppress(subprocess.TimeoutExpired):  # in an uninterruptible system call
                self._popen.wait(timeout=RESPONSE_SECONDS)
            for pipe in (self._popen.stdin, self._popen.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            if self._output is not None and not self._output.closed:
                self._output.seek(0)
                text = self._output.read().decode("utf-8", "replace").strip()
                self.quoted_output = f"; it said: {without_password(text)[-MAX_QUOTED:]}" if text else ""
                self._output.close()
        return self._popen.returncode


def exit_text(code: int | None) -> str:
    """How a process ended, in words."""
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _encoded(path: tuple[str, ...]) -> bytes:
    return "\0".join(path).encode("utf-8", "surrogatepass")


def _dup_of_stderr() -> int:
    try:
        return os.dup(2)
    except OSError:  # closed
        return os.open(os.devnull, os.O_WRONLY)

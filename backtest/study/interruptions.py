"""Ctrl-C and SIGTERM, deferred until no result can be lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; caught by the driver only."""


class Interruptions:
    """Handler of Ctrl-C and SIGTERM that defers them except inside :meth:`open`."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._is_open = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Defer both signals in this block; no effect outside the main thread, which alone receives signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        # A handler not set from Python (None) cannot be restored; an ignored signal stays ignored.
        ours = [each for each, handler in before.items() if handler is not None and handler != signal.SIG_IGN]
        for each in ours:
            signal.signal(each, self._arrived)
        try:
            yield
        finally:
            for each in ours:
                signal.signal(each, before[each])

    @property
    def is_termination(self) -> bool:
        """Whether the signal was SIGTERM."""
        return self.signal == signal.SIGTERM

    def _arrived(self, number: int, _: Any) -> None:
        self.signal = number
        if self._is_open:
            self._is_open = False
            raise Stopped

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Deliver signals in this block, a deferred one at once."""
        self._is_open = True
        try:
            if self.signal is not None:
                raise Stopped
            yield
        finally:
            self._is_open = False

"""Ctrl-C and SIGTERM, deferred to moments when nothing is lost by them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any


class Stopped(BaseException):
    """Ctrl-C or SIGTERM; nothing but the driver catches it."""


class Interruptions:
    """Handler of Ctrl-C and SIGTERM that defers them except while :meth:`open`."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._is_open = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Defer both signals for a while; does nothing outside the main thread, which alone receives signals."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        # A handler that is not Python's cannot be put back, and an ignored Ctrl-C stays ignored.
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
        """Whether it was SIGTERM."""
        return self.signal == signal.SIGTERM

    def _arrived(self, number: int, _: Any) -> None:
        self.signal = number
        if self._is_open:
            self._is_open = False
            raise Stopped

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Deliver signals for a while, one that came before at once."""
        self._is_open = True
        try:
            if self.signal is not None:
                raise Stopped
            yield
        finally:
            self._is_open = False

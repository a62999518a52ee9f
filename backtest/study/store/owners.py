"""Who has reserved something in a store: names that say whether their process lives."""

from __future__ import annotations

import functools
import os


def new_owner() -> str:
    """A name of its own, of something in this process."""
    return f"{_here()} {os.getpid()} {os.urandom(16).hex()}"


def has_died(owner: str) -> bool:
    """Whether the owner's process was one of this machine, and is no more."""
    place, _, rest = owner.rpartition(" ")[0].rpartition(" ") if isinstance(owner, str) else ("", "", "")
    return place == _here() and rest.isdecimal() and not _lives(int(rest))  # a name that is none of ours ends with its lease


@functools.cache
def _here() -> str:
    """Where process numbers are our own: this machine, and this container of it."""
    import socket

    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def _lives(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end it there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

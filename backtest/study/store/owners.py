"""Owners of leases in a store: names from which it follows whether their process lives."""

from __future__ import annotations

import functools
import os


def new_owner() -> str:
    """A unique name of an owner in this process."""
    return f"{_machine()} {os.getpid()} {os.urandom(16).hex()}"


def has_died(owner: str) -> bool:
    """Whether the owner was a process of this machine that has ended."""
    machine, _, pid = owner.rpartition(" ")[0].rpartition(" ") if isinstance(owner, str) else ("", "", "")
    return machine == _machine() and pid.isdecimal() and not _is_alive(int(pid))  # of other names, leases expire


@functools.cache
def _machine() -> str:
    """Name of the machine and its PID namespace, in which process numbers are valid."""
    import socket

    try:
        return f"{socket.gethostname()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return socket.gethostname()


def _is_alive(pid: int) -> bool:
    if os.name == "nt":  # os.kill(pid, 0) would end it there
        return True
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True

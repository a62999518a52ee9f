"""Temporary folders shared with worker processes; those of killed programs are removed by the next one."""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from typing import Any

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows, whose file locks need not end with the process: nothing is swept there
    fcntl = None

#: File that a folder's program keeps locked while it lives.
LOCK = "lock"
_is_swept = False
_ours: list[Folder] = []


class Folder:
    """A new folder, locked as long as this process lives.

    The lock is the system's: it ends with the process, however that ends, and a reused process number does not matter.
    """

    def __init__(self) -> None:
        global _is_swept
        if not _is_swept:
            _is_swept = True
            sweep()
        self.path = tempfile.mkdtemp(prefix=_prefix())
        self._lock, self._pid = -1, os.getpid()
        _ours.append(self)
        if fcntl is not None:
            new = os.path.join(self.path, "new")
            self._lock = os.open(new, os.O_WRONLY | os.O_CREAT, 0o600)
            with contextlib.suppress(OSError):  # a disk without locks: without its lock file, the folder is never swept
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(new, os.path.join(self.path, LOCK))  # locked before it is visible

    def remove(self) -> None:
        """Remove the folder and its contents; no effect in a forked child, or the second time."""
        if self._pid != os.getpid() or self not in _ours:
            return
        _ours.remove(self)
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)


def _at_exit() -> None:
    for each in list(_ours):
        each.remove()


atexit.register(_at_exit)


def sweep() -> list[str]:
    """Remove folders of this user whose programs on this machine have ended; return their paths."""
    removed: list[str] = []
    if fcntl is None:
        return removed
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        candidates = [each.path for each in entries if each.name.startswith(_prefix()) and _is_mine(each)]
        for path in candidates:
            with contextlib.suppress(OSError), open(os.path.join(path, LOCK), "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its program lives or another process sweeps it
                shutil.rmtree(path, ignore_errors=True)
                removed.append(path)
    return removed


def _is_mine(entry: os.DirEntry[str]) -> bool:
    status = entry.stat(follow_symlinks=False)
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()


def _prefix() -> str:
    """Prefix with a hash of the machine: locks may not work across network disks."""
    import socket

    return f"backtest-{hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()}-"

"""Folders for what worker processes share; those of programs that were killed are swept by the next one."""

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
except ImportError:  # Windows, where nothing is swept: it has no lock that ends with its process in any case
    fcntl = None

#: A file that the living program of a folder holds locked.
LOCK = "lock"
_is_swept = False
_ours: list[Folder] = []


class Folder:
    """A new folder, locked as long as this process lives.

    The lock is the system's: it ends with the process, however that ends, and cannot be mistaken for another's whose number is
    the same.
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
            with contextlib.suppress(OSError):  # a disk that has no locks: nobody will take it for a dead one's
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.rename(new, os.path.join(self.path, LOCK))  # where it is seen, it is locked already

    def remove(self) -> None:
        """Remove it with all that is in it; nothing in a forked child, or the second time."""
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
    """Remove folders of this user whose programs on this machine are gone; which."""
    found: list[str] = []
    if fcntl is None:
        return found
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as entries:
        mine = [each.path for each in entries if each.name.startswith(_prefix()) and _is_mine(each)]
        for path in mine:
            with contextlib.suppress(OSError), open(os.path.join(path, LOCK), "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails as long as its program lives, or another one sweeps it
                shutil.rmtree(path, ignore_errors=True)
                found.append(path)
    return found


def _is_mine(entry: os.DirEntry[str]) -> bool:
    about = entry.stat(follow_symlinks=False)
    return stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()


def _prefix() -> str:
    """Says which machine's a folder is: locks may not reach across a network's disk."""
    import socket

    return f"backtest-{hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()}-"

"""Threads over row blocks of one batch.

Kernels release the GIL and work on the rows they are given, so the caller chooses the thread count, which
never changes a result.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from backtest._checks import whole

#: Microseconds of work from which on threads pay: a pool that is kept takes 80 to 150 us to start a task.
WORTH_A_THREAD_US = 500.0

#: Most bytes of scratch memory kept by a thread.
KEPT_BYTES = 8 << 20

_local = threading.local()
_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process id, size, pool
_lock = threading.Lock()


def default_threads() -> int:
    """Processors this process may use: its affinity, capped by the container's quota."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        count = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(count, quota) if quota else count)


def _cgroup_quota() -> int | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()[:2]
        return None if limit == "max" else max(1, -(-int(limit) // int(period)))
    except (OSError, ValueError):
        return None


def thread_count(n_threads: int | None) -> int:
    """The ``n_threads`` argument as a number; None means all processors this process may use."""
    return default_threads() if n_threads is None else whole("n_threads", n_threads, low=1)


def run_rows(work: Callable[[int, int], None], n_rows: int, n_threads: int | None, row_us: float, blocks_each: int = 4) -> None:
    """Call ``work(start, stop)`` on row blocks that cover ``range(n_rows)``.

    Parameters
    ----------
    work
        Writes the rows it is given and nothing else; releases the GIL.
    n_rows
        Rows in the batch.
    n_threads
        Blocks that may run at once; None means all processors this process may use.
    row_us
        Estimated microseconds per row, to keep small batches on the calling thread.
    blocks_each
        Blocks per thread: more than one balances rows of unequal cost.
    """
    is_small = n_threads == 1 or n_rows < 2 or n_rows * row_us < WORTH_A_THREAD_US
    count = 1 if is_small else thread_count(n_threads)
    if count == 1:
        work(0, n_rows)
        return
    n_blocks = min(n_rows, blocks_each * count)
    edges = [n_rows * block // n_blocks for block in range(n_blocks + 1)]
    futures = [shared_pool(count).submit(work, start, stop) for start, stop in itertools.pairwise(edges)]
    try:
        for future in futures:
            future.result()
    except BaseException:  # Ctrl-C too: what has not begun is not wanted
        for future in futures:
            future.cancel()
        raise


def scratch(n_bytes: int) -> NDArray[np.uint8]:
    """Uninitialised memory of this thread, valid until its next call: allocating anew costs more than filling it."""
    kept: NDArray[np.uint8] | None = getattr(_local, "scratch", None)
    if kept is None or len(kept) < n_bytes:
        kept = np.empty(n_bytes, dtype=np.uint8)
        if n_bytes <= KEPT_BYTES:
            _local.scratch = kept
    return kept[:n_bytes]


def shared_pool(count: int) -> ThreadPoolExecutor:
    """The pool of this process; replaced after a fork or for another size."""
    global _pool
    with _lock:
        if _pool is None or _pool[0] != os.getpid() or _pool[1] != count:
            _pool = (os.getpid(), count, ThreadPoolExecutor(count, thread_name_prefix="backtest"))
        return _pool[2]


def _after_fork() -> None:
    global _pool, _lock
    _pool, _lock = None, threading.Lock()  # a child inherits no threads, and a lock in any state


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

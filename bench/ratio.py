"""How a benchmark compares: least seconds of several works, taken in turns in one run, so a busy machine moves all of them."""

import ctypes
import time


def minima(*works, repeats=7):
    """Least seconds of each work."""
    least = [float("inf")] * len(works)
    for _ in range(repeats):
        for index, work in enumerate(works):
            start = time.perf_counter()
            work()
            least[index] = min(least[index], time.perf_counter() - start)
    return least


def memory_growth(work):
    """Bytes by which resident memory grew while ``work`` ran, at its peak; None where the system does not tell (Linux does)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back, or the work would find it there
        with open("/proc/self/clear_refs", "w") as refs:
            refs.write("5")  # the peak so far is forgotten
    except (OSError, AttributeError, TypeError):
        return None
    before = _peak()
    work()
    return _peak() - before


def _peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

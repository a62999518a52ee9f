"""How a benchmark compares: least seconds of several works, taken in turns in one run, so a busy machine moves all of them."""

import sys
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


def peak_memory():
    """Peak resident memory of this process so far, in bytes; None where the system does not tell."""
    try:  # of this program alone: getrusage's figure outlives an exec, and so begins with the parent's
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

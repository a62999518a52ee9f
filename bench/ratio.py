"""How a benchmark compares: least seconds of several works, taken in turns in one run, so a busy machine moves all of them."""

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

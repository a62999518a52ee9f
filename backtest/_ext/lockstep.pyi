import numpy as np
from numpy.typing import NDArray

RUNNING: int

class Runs:
    def __init__(
        self,
        ratio: NDArray[np.float64],
        width: NDArray[np.float64],
        eps: float,
        max_iter: int,
        vol_tol: float,
        len_tol: float,
        budgets: NDArray[np.int64],
        capacity: int,
        n_classes: int,
        work: NDArray[np.float64],
        counts: NDArray[np.int64],
    ) -> None: ...

def sizes(n_params: int, budget: int, max_iter: int) -> tuple[int, int, int]: ...
def sample(runs: Runs, first: NDArray[np.int64], points: NDArray[np.float64], start: int, stop: int) -> None: ...
def update(runs: Runs, first: NDArray[np.int64], scores: NDArray[np.float64], start: int, stop: int) -> None: ...
def results(runs: Runs, start: int, stop: int, out: NDArray[np.float64]) -> None: ...

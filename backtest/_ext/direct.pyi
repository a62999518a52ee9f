import numpy as np
from numpy.typing import NDArray

NAN: int

class State:
    def __init__(
        self,
        n_params: int,
        eps: float,
        budget: int,
        max_iter: int,
        locally_biased: bool,
        strict: bool,
        f_min: float,
        f_min_rtol: float,
        vol_tol: float,
        len_tol: float,
    ) -> None: ...
    def bind(
        self,
        ratio: NDArray[np.float64],
        width: NDArray[np.float64],
        centre: NDArray[np.float64],
        exponent: NDArray[np.int32],
        value: NDArray[np.float64],
        rank: NDArray[np.intp],
        child: NDArray[np.intp],
        sibling: NDArray[np.intp],
        chosen: NDArray[np.intp],
        head: NDArray[np.intp],
        waiting: NDArray[np.intp],
        third: NDArray[np.float64],
        size: NDArray[np.float64],
        least: NDArray[np.float64],
        order: NDArray[np.intp],
        side: NDArray[np.intp],
    ) -> None: ...
    @property
    def n_params(self) -> int: ...
    @property
    def n_points(self) -> int: ...
    @property
    def n_chosen(self) -> int: ...
    @property
    def n_new(self) -> int: ...
    @property
    def best(self) -> int: ...
    @property
    def fun(self) -> float: ...
    @property
    def deepest(self) -> int: ...
    @property
    def iteration(self) -> int: ...

def start(state: State) -> int: ...
def select(state: State) -> int: ...
def fits(state: State) -> bool: ...
def sample(state: State, batch: NDArray[np.float64]) -> None: ...
def update(state: State, scores: NDArray[np.float64]) -> int: ...

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LAYOUT: dict[str, int]

def profit(
    rows: Floats, split: int, fee_rate: float, pessimistic: int, offsets: Floats, start: int, stop: int, out: Floats
) -> None: ...
def report(rows: Floats, split: int, fee_rate: float, high: float, low: float, out: Floats) -> None: ...
def replay(
    rows: Floats, fee_rate: float, pessimistic: int, high: float, low: float, start: int, stop: int, out: Floats
) -> None: ...
def scratch_sizes(n_rows: int) -> tuple[int, int]: ...
def exact(
    rows: Floats, split: int, fee_rate: float, pessimistic: int, bounds: Floats, floats: Floats, ints: Ints, out: Floats
) -> None: ...
def direct_scratch_size(budget: int, max_iter: int) -> int: ...
def direct(
    rows: Floats,
    split: int,
    fee_rate: float,
    pessimistic: int,
    bounds: Floats,
    eps: float,
    budget: int,
    max_iter: int,
    vol_tol: float,
    len_tol: float,
    scratch: Floats,
    out: Floats,
) -> None: ...

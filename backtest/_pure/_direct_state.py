"""DIRECT: options, arrays and progress of one run; the twin of ``ext/_direct_state.pxd``."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray


class State:
    """One run: its options, its arrays (bound by ``bind``), its progress.

    Parameters
    ----------
    n_params : int
        Dimensions of the search space.
    eps : float
        Relative improvement a rectangle must promise to be divided.
    budget : int
        The run stops after the iteration that has evaluated more points than this.
    max_iter : int
        scipy's ``maxiter``: the first batch and ``max_iter - 2`` iterations.
    locally_biased : bool
        Sizes are longest sides (True) or half diagonals (False).
    strict : bool
        Drop a rectangle that lies above the lower hull, as Jones does; False keeps it, as scipy does.
    f_min, f_min_rtol : float
        Known minimum (-inf: unknown) and the relative distance to it that ends the run.
    vol_tol, len_tol : float
        Volume and size of the best rectangle that end the run; negative: never.
    """

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
    ) -> None:
        self.n_params, self.eps, self.budget, self.max_iter = n_params, eps, budget, max_iter
        self.locally_biased, self.strict = locally_biased, strict
        self.f_min, self.f_min_rtol, self.vol_tol, self.len_tol = f_min, f_min_rtol, vol_tol, len_tol
        self.f_min_scale = 1.0 if f_min == 0.0 else abs(f_min)
        self.n_points = self.n_chosen = self.n_new = self.best = self.deepest = self.iteration = 0
        self.highest_rank = self.lowest_rank = 0
        self.fun = math.inf

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
    ) -> None:
        """Work on these arrays from now on; copy the old contents before binding larger ones.

        Parameters
        ----------
        ratio, width : float64 (n_params,)
            Lower bound / width, and width, of the search space.
        centre, exponent : float64 and int32 (capacity, n_params)
            Rectangles: centre in the unit cube, cuts of each side.
        value, rank, child, sibling, chosen : float64 (value) and intp (capacity,)
            Rectangles: score, order among equal scores, heap links; the rectangles chosen.
        head, waiting : intp (n_classes,)
            First rectangle of each size class, and first chosen one still waiting; -1 for none.
        third, size : float64 (n_classes,)
            3 ** -k, and the size of each class; filled here.
        least, order, side : float64 (least) and intp (n_params,)
            Scratch for one division.
        """
        self.ratio, self.width, self.centre = floats(ratio), floats(width), floats(centre)
        self.exponent, self.value, self.rank = wholes(exponent), floats(value), wholes(rank)
        self.child, self.sibling, self.chosen = wholes(child), wholes(sibling), wholes(chosen)
        self.head, self.waiting = wholes(head), wholes(waiting)
        self.third, self.size, self.least = floats(third), floats(size), floats(least)
        self.order, self.side = wholes(order), wholes(side)
        self.capacity, self.n_classes = len(value), len(head)
        _fill_tables(self)


def depth_of(state: State, rect: int) -> int:
    depth = 0
    for param in range(state.n_params):
        depth += state.exponent[rect, param]
    return depth


def size_class_of(state: State, depth: int) -> int:
    return depth // state.n_params if state.locally_biased else depth


def floats(array: Any) -> memoryview[float]:
    # Memoryviews read as plain floats: no NumPy scalars, no warnings about infinities, and the speed of a list.
    return cast("memoryview[float]", memoryview(array))


def wholes(array: Any) -> memoryview[int]:
    return cast("memoryview[int]", memoryview(array))


def _fill_tables(state: State) -> None:
    # Sizes as running products, not powers: the bits of pow() differ between libraries.
    power = 1.0
    for size_class in range(state.n_classes):
        state.third[size_class] = 1.0 / power
        power *= 3.0
    n_params = state.n_params
    power = 1.0
    for size_class in range(state.n_classes):
        if state.locally_biased:
            state.size[size_class] = state.third[size_class]
        else:
            cut = size_class % n_params  # sides already cut once more than the others
            state.size[size_class] = math.sqrt((n_params - cut) + cut / 9.0) * 0.5 / power
            if cut == n_params - 1:
                power *= 3.0

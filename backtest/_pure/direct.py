"""DIRECT (DIviding RECTangles), one iteration at a time: choose rectangles, sample them, take in the scores.

A. *A rectangle* is a row: its centre in the unit cube, how often each side was cut into three (``exponent``), and the
   score of its centre.  Only longest sides are cut, so the exponents of a row differ by at most one and their sum, the
   *depth*, says everything about its shape: the longest sides are those with exponent ``depth // n_params``.
B. *A size class* (``level``) holds the rectangles of one size: the depth, or for the locally biased variant, which knows
   a rectangle only by its longest side, ``depth // n_params``.  Level 0 is the largest.
C. *Nothing evaluated inside an iteration influences what else is evaluated in it*, so an iteration is one batch.
D. *A class is a pairing heap* over (score, rank): ``head`` per level, ``child`` and ``sibling`` per rectangle.  The
   algorithm only ever takes rectangles from the front of a class, and inserts behind equals; a rising rank says that
   without walking a list.  One exception is described at ``_insert_pair``; a falling rank serves it.
E. *Rectangles chosen together leave their classes one by one*, each right before its children are inserted.  Whoever
   is chosen is taken from the heap at once, but stays visible as the front of its class (``waiting``, a list linked by
   ``sibling``) until its turn.
F. Floating point order matters everywhere: a child's centre is the parent's plus, then minus, a third of the side,
   never recomputed from integers; sizes come from a running product of 3.0.

References
----------
D. R. Jones, C. D. Perttunen, B. E. Stuckman, Lipschitzian optimization without the Lipschitz constant, J. Optim.
Theory Appl. 79 (1993) 157-181.  J. M. Gablonsky, C. T. Kelley, A locally-biased form of the DIRECT algorithm,
J. Global Optim. 21 (2001) 27-37.  M. L. Fredman et al., The pairing heap, Algorithmica 1 (1986) 111-129.
"""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

#: ``update`` met NaN and changed nothing.
NAN = -1
#: The original variant divides along with the head of a class all whose scores are within this of the head's.
_SAME_SCORE = 1e-13


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
        self.late = self.early = 0
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
        """Work on these arrays from now on; whoever binds larger ones has copied the old contents.

        Parameters
        ----------
        ratio, width : float64 (n_params,)
            Lower bound / width, and width, of the search space.
        centre, exponent : float64 and int32 (capacity, n_params)
            Rectangles: centre in the unit cube, cuts of each side.
        value, rank, child, sibling, chosen : float64 (value) and intp (capacity,)
            Rectangles: score, order among equal scores, heap links; the rectangles chosen.
        head, waiting : intp (n_levels,)
            First rectangle of each size class, and first chosen one still waiting; -1 for none.
        third, size : float64 (n_levels,)
            3 ** -k, and the size of each class; filled here.
        least, order, side : float64 (least) and intp (n_params,)
            Scratch for one division.
        """
        self.ratio, self.width, self.centre = _floats(ratio), _floats(width), _floats(centre)
        self.exponent, self.value, self.rank = _wholes(exponent), _floats(value), _wholes(rank)
        self.child, self.sibling, self.chosen = _wholes(child), _wholes(sibling), _wholes(chosen)
        self.head, self.waiting = _wholes(head), _wholes(waiting)
        self.third, self.size, self.least = _floats(third), _floats(size), _floats(least)
        self.order, self.side = _wholes(order), _wholes(side)
        self.capacity, self.n_levels = len(value), len(head)
        _fill_tables(self)


def start(state: State) -> int:
    """Begin the run.

    Returns
    -------
    int
        Points in the first batch, 2 * n_params + 1: the centre of the space, then two for each parameter.
    """
    state.n_points, state.n_chosen, state.n_new = 1, 1, 2 * state.n_params + 1
    state.best, state.deepest, state.iteration, state.late, state.early = 0, 0, 0, 0, 0
    state.fun = math.inf
    for level in range(state.n_levels):
        state.head[level] = -1
        state.waiting[level] = -1
    for param in range(state.n_params):
        state.centre[0, param] = 0.5
        state.exponent[0, param] = 0
    state.chosen[0] = 0
    state.child[0] = -1
    state.sibling[0] = -1
    return state.n_new


def select(state: State) -> int:
    """Choose the rectangles to divide: those that may hold the minimum for some Lipschitz constant.

    Heads of the size classes, largest first; the original variant adds the members that score like their head.
    At least one is always chosen: the head of the largest class, or one that scores no worse.

    Returns
    -------
    int
        Points in the next batch.
    """
    n_heads = 0
    for level in range(_level(state, state.deepest) + 1):
        if state.head[level] >= 0:
            state.chosen[n_heads] = level
            n_heads += 1
    # From the smallest class up; a dropped class no longer speaks, so the order matters.
    for index in range(n_heads - 1, -1, -1):
        if not _keeps(state, n_heads, index):
            state.chosen[index] = -1
    state.n_chosen = 0
    for index in range(n_heads):
        level = state.chosen[index]
        if level >= 0:
            state.waiting[level] = _pop(state, level)
            state.chosen[state.n_chosen] = state.waiting[level]
            state.n_chosen += 1
    if not state.locally_biased:
        _add_equals(state)
    state.n_new = 0
    for index in range(state.n_chosen):
        state.n_new += 2 * (state.n_params - _depth(state, state.chosen[index]) % state.n_params)
    return state.n_new


def fits(state: State) -> bool:
    """Whether the arrays have room for the rectangles and the depths that this iteration can make."""
    return state.n_points + state.n_new <= state.capacity and state.deepest + state.n_params + 1 < state.n_levels


def sample(state: State, batch: NDArray[np.float64]) -> None:
    """Make the new rectangles and write their centres, in search-space units, into ``batch``.

    Parameters
    ----------
    batch : float64 (n_new, n_params)
        Filled: chosen rectangles in order, their longest sides ascending, plus before minus.
    """
    points = _floats(batch)
    born = state.n_points
    for index in range(state.n_chosen):
        born = _sample_one(state, state.chosen[index], born)
    first = _first(state)
    for row in range(born - first):
        for param in range(state.n_params):
            points[row, param] = (state.centre[first + row, param] + state.ratio[param]) * state.width[param]


def update(state: State, scores: NDArray[np.float64]) -> int:
    """Take in the scores of the batch: divide the chosen rectangles, insert their children.

    Parameters
    ----------
    scores : float64 (n_new,)
        Scores of the batch, in its order.

    Returns
    -------
    int
        0 to go on; 1 budget spent, 2 iterations done, 3 ``f_min`` reached, 4 ``vol_tol``, 5 ``len_tol``; ``NAN`` if a
        score is NaN, and then nothing has changed.
    """
    came = _floats(scores)
    for row in range(state.n_new):
        if came[row] != came[row]:
            return NAN
    first = _first(state)
    for row in range(state.n_new):
        state.value[first + row] = came[row]
        if came[row] < state.fun:  # strictly: among equals the earliest stays the best
            state.fun = came[row]
            state.best = first + row
    born = state.n_points
    for index in range(state.n_chosen):
        born = _divide(state, state.chosen[index], born)
    state.n_points = born
    state.iteration += 1
    return _verdict(state)


def _floats(array: Any) -> memoryview[float]:
    # Memoryviews read as plain floats: no NumPy scalars, no warnings about infinities, and the speed of a list.
    return cast("memoryview[float]", memoryview(array))


def _wholes(array: Any) -> memoryview[int]:
    return cast("memoryview[int]", memoryview(array))


def _fill_tables(state: State) -> None:
    # Sizes as running products, not powers: the bits of pow() differ between libraries.
    power = 1.0
    for level in range(state.n_levels):
        state.third[level] = 1.0 / power
        power *= 3.0
    n_params = state.n_params
    power = 1.0
    for level in range(state.n_levels):
        if state.locally_biased:
            state.size[level] = state.third[level]
        else:
            cut = level % n_params  # sides already cut once more than the others
            state.size[level] = math.sqrt((n_params - cut) + cut / 9.0) * 0.5 / power
            if cut == n_params - 1:
                power *= 3.0


def _depth(state: State, rect: int) -> int:
    depth = 0
    for param in range(state.n_params):
        depth += state.exponent[rect, param]
    return depth


def _level(state: State, depth: int) -> int:
    return depth // state.n_params if state.locally_biased else depth


def _first(state: State) -> int:
    # The first batch also evaluates the centre of the space, rectangle 0.
    return state.n_points if state.iteration > 0 else 0


def _slope(rise: float, run: float) -> float:
    # IEEE division; below 3 ** -646 two sizes are both 0.
    if run == 0.0:
        return math.nan if rise == 0.0 or rise != rise else math.copysign(math.inf, rise)
    return rise / run


def _keeps(state: State, n_heads: int, index: int) -> bool:
    level = state.chosen[index]
    score = state.value[state.head[level]]
    size = state.size[level]
    low = math.inf
    high = 0.0
    for other in range(index):
        larger = state.chosen[other]
        slope = _slope(state.value[state.head[larger]] - score, state.size[larger] - size)
        if slope <= 0.0:
            return False
        if slope < low:
            low = slope
    for other in range(index + 1, n_heads):
        smaller = state.chosen[other]
        if smaller >= 0:
            slope = _slope(state.value[state.head[smaller]] - score, state.size[smaller] - size)
            if slope <= 0.0:
                return False
            if slope > high:
                high = slope
    if high > low:  # above the lower hull
        return not state.strict
    # Infinite scores make this NaN in places, and NaN keeps.
    return not score - low * size > state.fun - state.eps * abs(state.fun)


def _add_equals(state: State) -> None:
    for index in range(state.n_chosen):
        last = state.chosen[index]
        score = state.value[last]
        level = _level(state, _depth(state, last))
        while state.head[level] >= 0 and state.value[state.head[level]] - score <= _SAME_SCORE:
            state.sibling[last] = _pop(state, level)
            last = state.sibling[last]
            state.chosen[state.n_chosen] = last
            state.n_chosen += 1


def _sample_one(state: State, parent: int, born: int) -> int:
    cuts = _depth(state, parent) // state.n_params
    step = state.third[cuts + 1]
    for param in range(state.n_params):
        if state.exponent[parent, param] == cuts:
            for each in range(state.n_params):
                state.centre[born, each] = state.centre[born + 1, each] = state.centre[parent, each]
                state.exponent[born, each] = state.exponent[born + 1, each] = state.exponent[parent, each]
            state.centre[born, param] = state.centre[parent, param] + step
            state.centre[born + 1, param] = state.centre[parent, param] - step
            born += 2
    return born


def _divide(state: State, parent: int, born: int) -> int:
    depth = _depth(state, parent)
    cuts = depth // state.n_params
    n_pairs = 0
    # Sides by the better score of their pair of children, ascending, equals in the order of the parameters.
    for param in range(state.n_params):
        if state.exponent[parent, param] == cuts:
            plus = state.value[born + 2 * n_pairs]
            minus = state.value[born + 2 * n_pairs + 1]
            score = minus if minus < plus else plus
            place = n_pairs
            while place > 0 and score < state.least[place - 1]:
                state.least[place] = state.least[place - 1]
                state.order[place] = state.order[place - 1]
                place -= 1
            state.least[place] = score
            state.order[place] = n_pairs
            state.side[n_pairs] = param
            n_pairs += 1
    # Cut side by side: what is still undivided when a side's turn comes is cut too, so better pairs stay larger.
    for place in range(n_pairs):
        param = state.side[state.order[place]]
        state.exponent[parent, param] = cuts + 1
        for later in range(place, n_pairs):
            plus_child = born + 2 * state.order[later]
            state.exponent[plus_child, param] = cuts + 1
            state.exponent[plus_child + 1, param] = cuts + 1
    level = _level(state, depth)
    state.waiting[level] = state.sibling[parent]
    for _ in range(n_pairs):
        _insert_pair(state, _level(state, _depth(state, born)), born, born + 1)
        born += 2
    depth += n_pairs
    if depth > state.deepest:
        state.deepest = depth
    _push(state, _level(state, depth), parent, _later(state))
    return born


def _insert_pair(state: State, level: int, plus: int, minus: int) -> None:
    # Sorted lists would be: insert each behind its equals, plus first unless minus is better.  But where plus becomes the
    # front of its class and minus equals the old front, the pair goes in as one piece: minus lands before its equals.
    if state.value[minus] < state.value[plus]:
        _push(state, level, minus, _later(state))
        _push(state, level, plus, _later(state))
        return
    front = math.nan  # of an empty class: equal to nothing
    if state.head[level] >= 0:
        front = state.value[state.head[level]]
    if state.waiting[level] >= 0 and not state.value[state.waiting[level]] > front:
        front = state.value[state.waiting[level]]
    _push(state, level, plus, _later(state))
    if state.value[plus] < front and state.value[minus] == front:
        state.early -= 1
        _push(state, level, minus, state.early)
    else:
        _push(state, level, minus, _later(state))


def _later(state: State) -> int:
    state.late += 1
    return state.late


def _push(state: State, level: int, rect: int, rank: int) -> None:
    state.rank[rect] = rank
    state.child[rect] = -1
    state.head[level] = _meld(state, rect, state.head[level])


def _pop(state: State, level: int) -> int:
    front = state.head[level]
    # First pass: meld the children in pairs, left to right; the results are linked in reverse.
    pairs = -1
    one = state.child[front]
    while one >= 0:
        two = state.sibling[one]
        rest = -1
        if two >= 0:
            rest = state.sibling[two]
            one = _meld(state, one, two)
        state.sibling[one] = pairs
        pairs = one
        one = rest
    # Second pass: meld the results, right to left.
    tree = -1
    while pairs >= 0:
        rest = state.sibling[pairs]
        tree = _meld(state, pairs, tree)
        pairs = rest
    state.head[level] = tree
    state.child[front] = -1
    state.sibling[front] = -1
    return front


def _meld(state: State, one: int, two: int) -> int:
    if two < 0:
        return one
    if state.value[two] < state.value[one] or (state.value[two] == state.value[one] and state.rank[two] < state.rank[one]):
        one, two = two, one
    state.sibling[two] = state.child[one]
    state.child[one] = two
    return one


def _verdict(state: State) -> int:
    if state.iteration > 1:
        depth = _depth(state, state.best)
        if state.third[depth] <= state.vol_tol:
            return 4
        if state.size[_level(state, depth)] <= state.len_tol:
            return 5
        # Unknown f_min: infinity over infinity, not <= anything.
        if (state.fun - state.f_min) / state.f_min_scale <= state.f_min_rtol:
            return 3
        if state.n_points > state.budget:
            return 1
    if state.iteration + 1 >= state.max_iter:
        return 2
    return 0

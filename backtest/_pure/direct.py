"""DIRECT (DIviding RECTangles), one iteration at a time: choose rectangles, sample them, take in the scores.

A. *A rectangle* is a row: its centre in the unit cube, how often each side was cut into three (``exponent``), and the
   score of its centre.  Only longest sides are cut, so the exponents of a row differ by at most one and their sum, the
   *depth*, determines its shape: the longest sides are those with exponent ``depth // n_params``.
B. *A size class* holds the rectangles of one size.  Its number is their depth, or for the locally biased variant, which
   measures a rectangle by its longest side, ``depth // n_params``.  Class 0 is the largest.
C. *Nothing evaluated inside an iteration influences what else is evaluated in it*, so an iteration is one batch.
D. *A class is a pairing heap* over (score, rank): ``head`` per size class, ``child`` and ``sibling`` per rectangle.  The
   algorithm only takes rectangles from the front of a class, and inserts after those of equal score, which a rising
   rank expresses.  One exception, at ``insert_pair``, takes a falling rank.
E. *Rectangles chosen together leave their classes one by one*, each right before its children are inserted.  A chosen
   rectangle is taken from the heap at once, but counts as the front of its class (``waiting``, a list linked by
   ``sibling``) until it is divided.
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

import numpy as np
from numpy.typing import NDArray

from backtest._pure._direct_heaps import insert_pair, later_rank, pop, push
from backtest._pure._direct_state import State as State
from backtest._pure._direct_state import depth_of, floats, size_class_of

#: ``update`` met NaN and changed nothing.
NAN = -1
#: The original variant divides along with the head of a class all whose scores are within this of the head's.
_SAME_SCORE = 1e-13


def start(state: State) -> int:
    """Begin the run.

    Returns
    -------
    int
        Points in the first batch, 2 * n_params + 1: the centre of the space, then two for each parameter.
    """
    state.n_points, state.n_chosen, state.n_new = 1, 1, 2 * state.n_params + 1
    state.best, state.deepest, state.iteration, state.highest_rank, state.lowest_rank = 0, 0, 0, 0, 0
    state.fun = math.inf
    for size_class in range(state.n_classes):
        state.head[size_class] = -1
        state.waiting[size_class] = -1
    for param in range(state.n_params):
        state.centre[0, param] = 0.5
        state.exponent[0, param] = 0
    state.chosen[0] = 0
    state.child[0] = -1
    state.sibling[0] = -1
    return state.n_new


def select(state: State) -> int:
    """Choose the rectangles to divide: those that may hold the minimum for some Lipschitz constant.

    Heads of the size classes, largest first; the original variant adds members whose score equals their head's.
    At least one is always chosen: the head of the largest class, or one that scores no worse.

    Returns
    -------
    int
        Points in the next batch.
    """
    n_heads = 0
    for size_class in range(size_class_of(state, state.deepest) + 1):
        if state.head[size_class] >= 0:
            state.chosen[n_heads] = size_class
            n_heads += 1
    # From the smallest class up; a dropped class is not compared with any more, so the order matters.
    for index in range(n_heads - 1, -1, -1):
        if not _is_potentially_optimal(state, n_heads, index):
            state.chosen[index] = -1
    state.n_chosen = 0
    for index in range(n_heads):
        size_class = state.chosen[index]
        if size_class >= 0:
            state.waiting[size_class] = pop(state, size_class)
            state.chosen[state.n_chosen] = state.waiting[size_class]
            state.n_chosen += 1
    if not state.locally_biased:
        _add_equal_scores(state)
    state.n_new = 0
    for index in range(state.n_chosen):
        state.n_new += 2 * (state.n_params - depth_of(state, state.chosen[index]) % state.n_params)
    return state.n_new


def fits(state: State) -> bool:
    """Whether the arrays have room for the rectangles and the depths that this iteration can make."""
    return state.n_points + state.n_new <= state.capacity and state.deepest + state.n_params + 1 < state.n_classes


def sample(state: State, batch: NDArray[np.float64]) -> None:
    """Make the new rectangles and write their centres, in search-space units, into ``batch``.

    Parameters
    ----------
    batch : float64 (n_new, n_params)
        Filled: chosen rectangles in order, their longest sides ascending, plus before minus.
    """
    points = floats(batch)
    new_rect = state.n_points
    for index in range(state.n_chosen):
        new_rect = _sample_one(state, state.chosen[index], new_rect)
    first = _first_of_batch(state)
    for row in range(new_rect - first):
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
    new_scores = floats(scores)
    for row in range(state.n_new):
        if new_scores[row] != new_scores[row]:
            return NAN
    first = _first_of_batch(state)
    for row in range(state.n_new):
        state.value[first + row] = new_scores[row]
        if new_scores[row] < state.fun:  # strictly: among equals the earliest stays the best
            state.fun = new_scores[row]
            state.best = first + row
    new_rect = state.n_points
    for index in range(state.n_chosen):
        new_rect = _divide(state, state.chosen[index], new_rect)
    state.n_points = new_rect
    state.iteration += 1
    return _stop_status(state)


def _first_of_batch(state: State) -> int:
    # The first batch also evaluates the centre of the space, rectangle 0.
    return state.n_points if state.iteration > 0 else 0


def _slope(rise: float, run: float) -> float:
    # IEEE division; below 3 ** -646 two sizes are both 0.
    if run == 0.0:
        return math.nan if rise == 0.0 or rise != rise else math.copysign(math.inf, rise)
    return rise / run


def _is_potentially_optimal(state: State, n_heads: int, index: int) -> bool:
    size_class = state.chosen[index]
    score = state.value[state.head[size_class]]
    size = state.size[size_class]
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
    # Infinite scores can make this NaN: such a rectangle is kept.
    return not score - low * size > state.fun - state.eps * abs(state.fun)


def _add_equal_scores(state: State) -> None:
    for index in range(state.n_chosen):
        last = state.chosen[index]
        score = state.value[last]
        size_class = size_class_of(state, depth_of(state, last))
        while state.head[size_class] >= 0 and state.value[state.head[size_class]] - score <= _SAME_SCORE:
            state.sibling[last] = pop(state, size_class)
            last = state.sibling[last]
            state.chosen[state.n_chosen] = last
            state.n_chosen += 1


def _sample_one(state: State, parent: int, new_rect: int) -> int:
    cuts = depth_of(state, parent) // state.n_params
    step = state.third[cuts + 1]
    for param in range(state.n_params):
        if state.exponent[parent, param] == cuts:
            for each in range(state.n_params):
                state.centre[new_rect, each] = state.centre[new_rect + 1, each] = state.centre[parent, each]
                state.exponent[new_rect, each] = state.exponent[new_rect + 1, each] = state.exponent[parent, each]
            state.centre[new_rect, param] = state.centre[parent, param] + step
            state.centre[new_rect + 1, param] = state.centre[parent, param] - step
            new_rect += 2
    return new_rect


def _divide(state: State, parent: int, new_rect: int) -> int:
    depth = depth_of(state, parent)
    cuts = depth // state.n_params
    n_pairs = 0
    # Sides by the better score of their pair of children, ascending, equals in the order of the parameters.
    for param in range(state.n_params):
        if state.exponent[parent, param] == cuts:
            plus = state.value[new_rect + 2 * n_pairs]
            minus = state.value[new_rect + 2 * n_pairs + 1]
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
            plus_child = new_rect + 2 * state.order[later]
            state.exponent[plus_child, param] = cuts + 1
            state.exponent[plus_child + 1, param] = cuts + 1
    size_class = size_class_of(state, depth)
    state.waiting[size_class] = state.sibling[parent]
    for _ in range(n_pairs):
        insert_pair(state, size_class_of(state, depth_of(state, new_rect)), new_rect, new_rect + 1)
        new_rect += 2
    depth += n_pairs
    if depth > state.deepest:
        state.deepest = depth
    push(state, size_class_of(state, depth), parent, later_rank(state))
    return new_rect


def _stop_status(state: State) -> int:
    if state.iteration > 1:
        depth = depth_of(state, state.best)
        if state.third[depth] <= state.vol_tol:
            return 4
        if state.size[size_class_of(state, depth)] <= state.len_tol:
            return 5
        # Unknown f_min: infinity over infinity, not <= anything.
        if (state.fun - state.f_min) / state.f_min_scale <= state.f_min_rtol:
            return 3
        if state.n_points > state.budget:
            return 1
    if state.iteration + 1 >= state.max_iter:
        return 2
    return 0

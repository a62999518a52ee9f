"""DIRECT: size classes as pairing heaps over (score, rank); the twin of ``ext/_direct_heaps.pxd``.

Notes D and E of ``direct.py`` say what they must do.
"""

from __future__ import annotations

import math

from backtest._pure._direct_state import State


def insert_pair(state: State, size_class: int, plus: int, minus: int) -> None:
    # The order of sorted lists: each is inserted after its equals, plus first unless minus is better.  But if plus becomes the
    # front of its class and minus equals the old front, the pair is inserted together: minus comes before its equals.
    if state.value[minus] < state.value[plus]:
        push(state, size_class, minus, later_rank(state))
        push(state, size_class, plus, later_rank(state))
        return
    front = math.nan  # of an empty class: equal to nothing
    if state.head[size_class] >= 0:
        front = state.value[state.head[size_class]]
    if state.waiting[size_class] >= 0 and not state.value[state.waiting[size_class]] > front:
        front = state.value[state.waiting[size_class]]
    push(state, size_class, plus, later_rank(state))
    if state.value[plus] < front and state.value[minus] == front:
        state.lowest_rank -= 1
        push(state, size_class, minus, state.lowest_rank)
    else:
        push(state, size_class, minus, later_rank(state))


def later_rank(state: State) -> int:
    state.highest_rank += 1
    return state.highest_rank


def push(state: State, size_class: int, rect: int, rank: int) -> None:
    state.rank[rect] = rank
    state.child[rect] = -1
    state.head[size_class] = _meld(state, rect, state.head[size_class])


def pop(state: State, size_class: int) -> int:
    front = state.head[size_class]
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
    state.head[size_class] = tree
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

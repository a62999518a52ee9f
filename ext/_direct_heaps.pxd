# DIRECT: size classes as pairing heaps over (score, rank); the twin is backtest/_pure/_direct_heaps.py.

from libc.math cimport NAN

from _direct_state cimport Direct


cdef inline void direct_insert_pair(Direct *d, Py_ssize_t size_class, Py_ssize_t plus, Py_ssize_t minus) noexcept nogil:
    # The order of sorted lists: each is inserted after its equals, plus first unless minus is better.  But if plus becomes the
    # front of its class and minus equals the old front, the pair is inserted together: minus comes before its equals.
    cdef double front
    if d.value[minus] < d.value[plus]:
        direct_push(d, size_class, minus, direct_later_rank(d))
        direct_push(d, size_class, plus, direct_later_rank(d))
        return
    front = NAN  # of an empty class: equal to nothing
    if d.head[size_class] >= 0:
        front = d.value[d.head[size_class]]
    if d.waiting[size_class] >= 0 and not d.value[d.waiting[size_class]] > front:
        front = d.value[d.waiting[size_class]]
    direct_push(d, size_class, plus, direct_later_rank(d))
    if d.value[plus] < front and d.value[minus] == front:
        d.lowest_rank -= 1
        direct_push(d, size_class, minus, d.lowest_rank)
    else:
        direct_push(d, size_class, minus, direct_later_rank(d))


cdef inline Py_ssize_t direct_later_rank(Direct *d) noexcept nogil:
    d.highest_rank += 1
    return d.highest_rank


cdef inline void direct_push(Direct *d, Py_ssize_t size_class, Py_ssize_t rect, Py_ssize_t rank) noexcept nogil:
    d.rank[rect] = rank
    d.child[rect] = -1
    d.head[size_class] = direct_meld(d, rect, d.head[size_class])


cdef inline Py_ssize_t direct_pop(Direct *d, Py_ssize_t size_class) noexcept nogil:
    cdef Py_ssize_t two, rest, pairs = -1, tree = -1, front = d.head[size_class]
    # First pass: meld the children in pairs, left to right; the results are linked in reverse.
    cdef Py_ssize_t one = d.child[front]
    while one >= 0:
        two = d.sibling[one]
        rest = -1
        if two >= 0:
            rest = d.sibling[two]
            one = direct_meld(d, one, two)
        d.sibling[one] = pairs
        pairs = one
        one = rest
    # Second pass: meld the results, right to left.
    while pairs >= 0:
        rest = d.sibling[pairs]
        tree = direct_meld(d, pairs, tree)
        pairs = rest
    d.head[size_class] = tree
    d.child[front] = -1
    d.sibling[front] = -1
    return front


cdef inline Py_ssize_t direct_meld(Direct *d, Py_ssize_t one, Py_ssize_t two) noexcept nogil:
    cdef Py_ssize_t other
    if two < 0:
        return one
    if d.value[two] < d.value[one] or (d.value[two] == d.value[one] and d.rank[two] < d.rank[one]):
        other = one
        one = two
        two = other
    d.sibling[two] = d.child[one]
    d.child[one] = two
    return one

# DIRECT, one iteration at a time, for any kernel; backtest/_pure/direct.py is the specification and tells what each does.
#
# A kernel with a compiled objective runs the whole search without the GIL, one problem a thread:
#
#     from _direct cimport Direct, direct_capacity, direct_levels, direct_open, direct_place, direct_run, direct_start
#
#     cdef void score(const double *points, Py_ssize_t n_points, double *scores, void *data) noexcept nogil:
#         ...                            # points: n_points rows of n_params; one score a point, smaller is better
#
#     cdef Direct d                      # ratio = low / (high - low), width = high - low
#     direct_open(&d, n_params, ratio, width, eps, budget, max_iter, True, False, f_min, f_min_rtol, vol_tol, len_tol)
#     direct_place(&d, work, capacity, n_levels)
#     direct_start(&d)
#     status = direct_run(&d, score, data, points, scores)        # 1 to 5, DIRECT_NAN or DIRECT_FULL
#     direct_point(&d, d.best, x)        # d.fun, d.n_points (nfev), d.iteration
#
# Tolerances of 0 are passed as -1 ("never").  All memory is the caller's, allocated before the GIL is released: `work` of
# direct_work(n_params, capacity, n_levels) doubles, `points` of capacity * n_params, `scores` of capacity.  With capacity =
# direct_capacity(...) and n_levels = direct_levels(...) the locally biased variant always fits.  The original variant
# divides all that score alike, on a plateau everything there is: no bound is of use.  It may return DIRECT_FULL, with
# nothing lost: take larger buffers, direct_move(&d, work, capacity, n_levels), direct_run again.  After DIRECT_NAN too
# direct_run may be called again; it repeats the batch.
#
# direct_run is a loop over direct_fits, direct_sample, the objective, direct_update and direct_select: write it out in
# order to stop on a clock, or to score the batches of several problems at once.

from libc.math cimport INFINITY, NAN, fabs, sqrt
from libc.string cimport memcpy

cdef enum:
    DIRECT_NAN = -1   # a score is NaN; nothing has changed
    DIRECT_FULL = -2  # no room for the iteration that was chosen; nothing has changed

cdef extern from *:
    """
    /* The original variant divides along with the head of a class all whose scores are within this of the head's. */
    #define BACKTEST_DIRECT_SAME_SCORE 1e-13
    """
    const double DIRECT_SAME_SCORE "BACKTEST_DIRECT_SAME_SCORE"

cdef struct Direct:
    # the problem and its limits
    Py_ssize_t n_params, budget, max_iter
    double eps, f_min, f_min_scale, f_min_rtol, vol_tol, len_tol
    bint locally_biased, strict
    const double *ratio
    const double *width
    # per rectangle (capacity), per size class (n_levels), scratch per parameter
    Py_ssize_t capacity, n_levels
    double *centre
    int *exponent
    double *value
    Py_ssize_t *rank
    Py_ssize_t *child
    Py_ssize_t *sibling
    Py_ssize_t *chosen
    Py_ssize_t *head
    Py_ssize_t *waiting
    double *third
    double *size
    double *least
    Py_ssize_t *order
    Py_ssize_t *side
    # progress
    Py_ssize_t n_points, n_chosen, n_new, best, deepest, iteration, late, early
    double fun

ctypedef void (*direct_objective)(const double *points, Py_ssize_t n_points, double *scores, void *data) noexcept nogil


# ---- memory -------------------------------------------------------------------------------------------------------------

cdef inline Py_ssize_t direct_capacity(Py_ssize_t n_params, Py_ssize_t budget, Py_ssize_t max_iter) noexcept nogil:
    # One cut of all sides costs 2 * n_params points, so `budget` of them make at most this many size classes; the last
    # iteration begins within the budget and divides one rectangle a class.
    cdef Py_ssize_t n_classes = budget // (2 * n_params) + 2
    if n_classes > max_iter + 1:
        n_classes = max_iter + 1
    return budget + 2 * n_params * (n_classes + 1) + 2


cdef inline Py_ssize_t direct_levels(Py_ssize_t n_params, Py_ssize_t budget, Py_ssize_t max_iter) noexcept nogil:
    # A cut deepens one rectangle by 1 and costs two points; an iteration deepens by n_params at most.
    cdef Py_ssize_t deepest = budget // 2 + 1
    if deepest // n_params > max_iter:
        deepest = n_params * max_iter
    return deepest + 3 * n_params + 2


cdef inline Py_ssize_t direct_work(Py_ssize_t n_params, Py_ssize_t capacity, Py_ssize_t n_levels) noexcept nogil:
    # In doubles; every other array has elements of at most that size.
    return capacity * (2 * n_params + 5) + 4 * n_levels + 3 * n_params


cdef inline void direct_place(Direct *d, double *work, Py_ssize_t capacity, Py_ssize_t n_levels) noexcept nogil:
    cdef Py_ssize_t n_params = d.n_params
    d.capacity, d.n_levels = capacity, n_levels
    d.centre = work
    d.exponent = <int *> (d.centre + capacity * n_params)
    d.value = d.centre + 2 * capacity * n_params
    d.rank = <Py_ssize_t *> (d.value + capacity)
    d.child = <Py_ssize_t *> (d.value + 2 * capacity)
    d.sibling = <Py_ssize_t *> (d.value + 3 * capacity)
    d.chosen = <Py_ssize_t *> (d.value + 4 * capacity)
    d.third = d.value + 5 * capacity
    d.size = d.third + n_levels
    d.head = <Py_ssize_t *> (d.third + 2 * n_levels)
    d.waiting = <Py_ssize_t *> (d.third + 3 * n_levels)
    d.least = d.third + 4 * n_levels
    d.order = <Py_ssize_t *> (d.least + n_params)
    d.side = <Py_ssize_t *> (d.least + 2 * n_params)
    direct_fill_tables(d)


cdef inline void direct_move(Direct *d, double *work, Py_ssize_t capacity, Py_ssize_t n_levels) noexcept nogil:
    # Into a larger block; the old one is free afterwards.
    cdef Direct old = d[0]
    cdef Py_ssize_t level, n_params = d.n_params, n_points = d.n_points
    direct_place(d, work, capacity, n_levels)
    memcpy(d.centre, old.centre, n_points * n_params * sizeof(double))
    memcpy(d.exponent, old.exponent, n_points * n_params * sizeof(int))
    memcpy(d.value, old.value, n_points * sizeof(double))
    memcpy(d.rank, old.rank, n_points * sizeof(Py_ssize_t))
    memcpy(d.child, old.child, n_points * sizeof(Py_ssize_t))
    memcpy(d.sibling, old.sibling, n_points * sizeof(Py_ssize_t))
    memcpy(d.chosen, old.chosen, n_points * sizeof(Py_ssize_t))
    for level in range(n_levels):
        d.head[level] = old.head[level] if level < old.n_levels else -1
        d.waiting[level] = old.waiting[level] if level < old.n_levels else -1


# ---- the parts of an iteration ------------------------------------------------------------------------------------------

cdef inline void direct_open(Direct *d, Py_ssize_t n_params, const double *ratio, const double *width, double eps,
                             Py_ssize_t budget, Py_ssize_t max_iter, bint locally_biased, bint strict, double f_min,
                             double f_min_rtol, double vol_tol, double len_tol) noexcept nogil:
    d.n_params, d.eps, d.budget, d.max_iter = n_params, eps, budget, max_iter
    d.locally_biased, d.strict = locally_biased, strict
    d.f_min, d.f_min_rtol, d.vol_tol, d.len_tol = f_min, f_min_rtol, vol_tol, len_tol
    d.f_min_scale = 1.0 if f_min == 0.0 else fabs(f_min)
    d.ratio, d.width = ratio, width
    d.capacity = d.n_levels = 0
    d.n_points = d.n_chosen = d.n_new = d.best = d.deepest = d.iteration = d.late = d.early = 0
    d.fun = INFINITY


cdef inline void direct_fill_tables(Direct *d) noexcept nogil:
    # Sizes as running products, not powers: the bits of pow() differ between libraries.
    cdef Py_ssize_t level, cut, n_params = d.n_params
    cdef double power = 1.0
    for level in range(d.n_levels):
        d.third[level] = 1.0 / power
        power *= 3.0
    power = 1.0
    for level in range(d.n_levels):
        if d.locally_biased:
            d.size[level] = d.third[level]
        else:
            cut = level % n_params  # sides already cut once more than the others
            d.size[level] = sqrt((n_params - cut) + cut / 9.0) * 0.5 / power
            if cut == n_params - 1:
                power *= 3.0


cdef inline Py_ssize_t direct_depth(const Direct *d, Py_ssize_t rect) noexcept nogil:
    cdef Py_ssize_t param, depth = 0
    for param in range(d.n_params):
        depth += d.exponent[rect * d.n_params + param]
    return depth


cdef inline Py_ssize_t direct_level(const Direct *d, Py_ssize_t depth) noexcept nogil:
    return depth // d.n_params if d.locally_biased else depth


cdef inline Py_ssize_t direct_first(const Direct *d) noexcept nogil:
    # The first batch also evaluates the centre of the space, rectangle 0.
    return d.n_points if d.iteration > 0 else 0


cdef inline void direct_point(const Direct *d, Py_ssize_t rect, double *x) noexcept nogil:
    cdef Py_ssize_t param
    for param in range(d.n_params):
        x[param] = (d.centre[rect * d.n_params + param] + d.ratio[param]) * d.width[param]


cdef inline Py_ssize_t direct_start(Direct *d) noexcept nogil:
    cdef Py_ssize_t level, param
    d.n_points, d.n_chosen, d.n_new = 1, 1, 2 * d.n_params + 1
    d.best = d.deepest = d.iteration = d.late = d.early = 0
    d.fun = INFINITY
    for level in range(d.n_levels):
        d.head[level] = -1
        d.waiting[level] = -1
    for param in range(d.n_params):
        d.centre[param] = 0.5
        d.exponent[param] = 0
    d.chosen[0] = 0
    d.child[0] = -1
    d.sibling[0] = -1
    return d.n_new


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


cdef inline void direct_push(Direct *d, Py_ssize_t level, Py_ssize_t rect, Py_ssize_t rank) noexcept nogil:
    d.rank[rect] = rank
    d.child[rect] = -1
    d.head[level] = direct_meld(d, rect, d.head[level])


cdef inline Py_ssize_t direct_pop(Direct *d, Py_ssize_t level) noexcept nogil:
    cdef Py_ssize_t two, rest, pairs = -1, tree = -1, front = d.head[level]
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
    d.head[level] = tree
    d.child[front] = -1
    d.sibling[front] = -1
    return front


cdef inline bint direct_keeps(const Direct *d, Py_ssize_t n_heads, Py_ssize_t index) noexcept nogil:
    cdef Py_ssize_t other, larger, smaller, level = d.chosen[index]
    cdef double score = d.value[d.head[level]], size = d.size[level]
    cdef double slope, low = INFINITY, high = 0.0
    for other in range(index):
        larger = d.chosen[other]
        slope = (d.value[d.head[larger]] - score) / (d.size[larger] - size)
        if slope <= 0.0:
            return False
        if slope < low:
            low = slope
    for other in range(index + 1, n_heads):
        smaller = d.chosen[other]
        if smaller >= 0:
            slope = (d.value[d.head[smaller]] - score) / (d.size[smaller] - size)
            if slope <= 0.0:
                return False
            if slope > high:
                high = slope
    if high > low:  # above the lower hull
        return not d.strict
    # Infinite scores make this NaN in places, and NaN keeps.
    return not score - low * size > d.fun - d.eps * fabs(d.fun)


cdef inline void direct_add_equals(Direct *d) noexcept nogil:
    cdef Py_ssize_t index, last, level
    cdef double score
    for index in range(d.n_chosen):
        last = d.chosen[index]
        score = d.value[last]
        level = direct_level(d, direct_depth(d, last))
        while d.head[level] >= 0 and d.value[d.head[level]] - score <= DIRECT_SAME_SCORE:
            d.sibling[last] = direct_pop(d, level)
            last = d.sibling[last]
            d.chosen[d.n_chosen] = last
            d.n_chosen += 1


cdef inline Py_ssize_t direct_select(Direct *d) noexcept nogil:
    cdef Py_ssize_t level, index, n_heads = 0
    for level in range(direct_level(d, d.deepest) + 1):
        if d.head[level] >= 0:
            d.chosen[n_heads] = level
            n_heads += 1
    # From the smallest class up; a dropped class no longer speaks, so the order matters.
    for index in range(n_heads - 1, -1, -1):
        if not direct_keeps(d, n_heads, index):
            d.chosen[index] = -1
    d.n_chosen = 0
    for index in range(n_heads):
        level = d.chosen[index]
        if level >= 0:
            d.waiting[level] = direct_pop(d, level)
            d.chosen[d.n_chosen] = d.waiting[level]
            d.n_chosen += 1
    if not d.locally_biased:
        direct_add_equals(d)
    d.n_new = 0
    for index in range(d.n_chosen):
        d.n_new += 2 * (d.n_params - direct_depth(d, d.chosen[index]) % d.n_params)
    return d.n_new


cdef inline bint direct_fits(const Direct *d) noexcept nogil:
    return d.n_points + d.n_new <= d.capacity and d.deepest + d.n_params + 1 < d.n_levels


cdef inline Py_ssize_t direct_sample_one(Direct *d, Py_ssize_t parent, Py_ssize_t born) noexcept nogil:
    cdef Py_ssize_t param, each, n_params = d.n_params
    cdef Py_ssize_t cuts = direct_depth(d, parent) // n_params
    cdef double step = d.third[cuts + 1]
    cdef const double *centre = d.centre + parent * n_params
    cdef const int *exponent = d.exponent + parent * n_params
    cdef double *plus
    for param in range(n_params):
        if exponent[param] == cuts:
            plus = d.centre + born * n_params
            for each in range(n_params):
                plus[each] = plus[n_params + each] = centre[each]
                d.exponent[born * n_params + each] = d.exponent[(born + 1) * n_params + each] = exponent[each]
            plus[param] = centre[param] + step
            plus[n_params + param] = centre[param] - step
            born += 2
    return born


cdef inline void direct_sample(Direct *d, double *points) noexcept nogil:
    cdef Py_ssize_t index, row, first, born = d.n_points
    for index in range(d.n_chosen):
        born = direct_sample_one(d, d.chosen[index], born)
    first = direct_first(d)
    for row in range(born - first):
        direct_point(d, first + row, points + row * d.n_params)


cdef inline Py_ssize_t direct_later(Direct *d) noexcept nogil:
    d.late += 1
    return d.late


cdef inline void direct_insert_pair(Direct *d, Py_ssize_t level, Py_ssize_t plus, Py_ssize_t minus) noexcept nogil:
    # Sorted lists would be: insert each behind its equals, plus first unless minus is better.  But where plus becomes the
    # front of its class and minus equals the old front, the pair goes in as one piece: minus lands before its equals.
    cdef double front
    if d.value[minus] < d.value[plus]:
        direct_push(d, level, minus, direct_later(d))
        direct_push(d, level, plus, direct_later(d))
        return
    front = NAN  # of an empty class: equal to nothing
    if d.head[level] >= 0:
        front = d.value[d.head[level]]
    if d.waiting[level] >= 0 and not d.value[d.waiting[level]] > front:
        front = d.value[d.waiting[level]]
    direct_push(d, level, plus, direct_later(d))
    if d.value[plus] < front and d.value[minus] == front:
        d.early -= 1
        direct_push(d, level, minus, d.early)
    else:
        direct_push(d, level, minus, direct_later(d))


cdef inline Py_ssize_t direct_divide(Direct *d, Py_ssize_t parent, Py_ssize_t born) noexcept nogil:
    cdef Py_ssize_t n_params = d.n_params, depth = direct_depth(d, parent)
    cdef Py_ssize_t cuts = depth // n_params, n_pairs = 0
    cdef Py_ssize_t param, place, later, level, plus_child
    cdef double plus, minus, score
    # Sides by the better score of their pair of children, ascending, equals in the order of the parameters.
    for param in range(n_params):
        if d.exponent[parent * n_params + param] == cuts:
            plus = d.value[born + 2 * n_pairs]
            minus = d.value[born + 2 * n_pairs + 1]
            score = minus if minus < plus else plus
            place = n_pairs
            while place > 0 and score < d.least[place - 1]:
                d.least[place] = d.least[place - 1]
                d.order[place] = d.order[place - 1]
                place -= 1
            d.least[place] = score
            d.order[place] = n_pairs
            d.side[n_pairs] = param
            n_pairs += 1
    # Cut side by side: what is still undivided when a side's turn comes is cut too, so better pairs stay larger.
    for place in range(n_pairs):
        param = d.side[d.order[place]]
        d.exponent[parent * n_params + param] = <int> (cuts + 1)
        for later in range(place, n_pairs):
            plus_child = born + 2 * d.order[later]
            d.exponent[plus_child * n_params + param] = <int> (cuts + 1)
            d.exponent[(plus_child + 1) * n_params + param] = <int> (cuts + 1)
    level = direct_level(d, depth)
    d.waiting[level] = d.sibling[parent]
    for _ in range(n_pairs):
        direct_insert_pair(d, direct_level(d, direct_depth(d, born)), born, born + 1)
        born += 2
    depth += n_pairs
    if depth > d.deepest:
        d.deepest = depth
    direct_push(d, direct_level(d, depth), parent, direct_later(d))
    return born


cdef inline int direct_verdict(const Direct *d) noexcept nogil:
    cdef Py_ssize_t depth
    if d.iteration > 1:
        depth = direct_depth(d, d.best)
        if d.third[depth] <= d.vol_tol:
            return 4
        if d.size[direct_level(d, depth)] <= d.len_tol:
            return 5
        # Unknown f_min: infinity over infinity, not <= anything.
        if (d.fun - d.f_min) / d.f_min_scale <= d.f_min_rtol:
            return 3
        if d.n_points > d.budget:
            return 1
    if d.iteration + 1 >= d.max_iter:
        return 2
    return 0


cdef inline int direct_update(Direct *d, const double *scores) noexcept nogil:
    cdef Py_ssize_t row, index, born, first
    for row in range(d.n_new):
        if scores[row] != scores[row]:
            return DIRECT_NAN
    first = direct_first(d)
    for row in range(d.n_new):
        d.value[first + row] = scores[row]
        if scores[row] < d.fun:  # strictly: among equals the earliest stays the best
            d.fun = scores[row]
            d.best = first + row
    born = d.n_points
    for index in range(d.n_chosen):
        born = direct_divide(d, d.chosen[index], born)
    d.n_points = born
    d.iteration += 1
    return direct_verdict(d)


# ---- the whole run ------------------------------------------------------------------------------------------------------

cdef inline int direct_run(Direct *d, direct_objective evaluate, void *data, double *points, double *scores) noexcept nogil:
    cdef int status
    while True:
        if not direct_fits(d):
            return DIRECT_FULL
        direct_sample(d, points)
        evaluate(points, d.n_new, scores, data)
        status = direct_update(d, scores)
        if status:
            return status
        direct_select(d)

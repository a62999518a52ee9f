# DIRECT, one iteration at a time, for any kernel; backtest/_pure/direct.py is the specification and documents each function.
#
# A kernel with a compiled objective runs the whole search without the GIL, one problem a thread:
#
#     from _direct cimport direct_run, direct_start
#     from _direct_state cimport Direct, direct_bind, direct_capacity, direct_init, direct_n_classes
#
#     cdef void score(const double *points, Py_ssize_t n_points, double *scores, void *data) noexcept nogil:
#         ...                            # points: n_points rows of n_params; one score a point, smaller is better
#
#     cdef Direct d                      # ratio = low / (high - low), width = high - low
#     direct_init(&d, n_params, ratio, width, eps, budget, max_iter, True, False, f_min, f_min_rtol, vol_tol, len_tol)
#     direct_bind(&d, work, capacity, n_classes)
#     direct_start(&d)
#     status = direct_run(&d, score, data, points, scores)        # 1 to 5, DIRECT_NAN or DIRECT_FULL
#     direct_point(&d, d.best, x)        # d.fun, d.n_points (nfev), d.iteration
#
# Tolerances of 0 are passed as -1 ("never").  All memory is the caller's, allocated before the GIL is released: `work` of
# direct_work(n_params, capacity, n_classes) doubles, `points` of capacity * n_params, `scores` of capacity.  With capacity =
# direct_capacity(...) and n_classes = direct_n_classes(...) the locally biased variant always fits.  The original variant
# divides all rectangles of equal score, on a plateau all of them: no useful bound exists.  It may return DIRECT_FULL, with
# nothing lost: take larger buffers, direct_rebind(&d, work, capacity, n_classes), direct_run again.  After DIRECT_NAN too
# direct_run may be called again; it repeats the batch.
#
# direct_run is a loop over direct_fits, direct_sample, the objective, direct_update and direct_select: write it out in
# order to stop on a clock, or to score the batches of several problems at once.

from libc.math cimport INFINITY, fabs

from _direct_heaps cimport direct_insert_pair, direct_later_rank, direct_pop, direct_push
from _direct_state cimport Direct, direct_depth_of, direct_size_class_of

cdef enum:
    DIRECT_NAN = -1   # a score is NaN; nothing has changed
    DIRECT_FULL = -2  # no room for the iteration that was chosen; nothing has changed

cdef extern from *:
    """
    /* The original variant divides along with the head of a class all whose scores are within this of the head's. */
    #define BACKTEST_DIRECT_SAME_SCORE 1e-13
    """
    const double DIRECT_SAME_SCORE "BACKTEST_DIRECT_SAME_SCORE"

ctypedef void (*direct_objective)(const double *points, Py_ssize_t n_points, double *scores, void *data) noexcept nogil


cdef inline Py_ssize_t direct_first_of_batch(const Direct *d) noexcept nogil:
    # The first batch also evaluates the centre of the space, rectangle 0.
    return d.n_points if d.iteration > 0 else 0


cdef inline void direct_point(const Direct *d, Py_ssize_t rect, double *x) noexcept nogil:
    cdef Py_ssize_t param
    for param in range(d.n_params):
        x[param] = (d.centre[rect * d.n_params + param] + d.ratio[param]) * d.width[param]


cdef inline Py_ssize_t direct_start(Direct *d) noexcept nogil:
    cdef Py_ssize_t size_class, param
    d.n_points, d.n_chosen, d.n_new = 1, 1, 2 * d.n_params + 1
    d.best = d.deepest = d.iteration = d.highest_rank = d.lowest_rank = 0
    d.fun = INFINITY
    for size_class in range(d.n_classes):
        d.head[size_class] = -1
        d.waiting[size_class] = -1
    for param in range(d.n_params):
        d.centre[param] = 0.5
        d.exponent[param] = 0
    d.chosen[0] = 0
    d.child[0] = -1
    d.sibling[0] = -1
    return d.n_new


cdef inline Py_ssize_t direct_select(Direct *d) noexcept nogil:
    cdef Py_ssize_t size_class, index, n_heads = 0
    for size_class in range(direct_size_class_of(d, d.deepest) + 1):
        if d.head[size_class] >= 0:
            d.chosen[n_heads] = size_class
            n_heads += 1
    # From the smallest class up; a dropped class is not compared with any more, so the order matters.
    for index in range(n_heads - 1, -1, -1):
        if not direct_is_potentially_optimal(d, n_heads, index):
            d.chosen[index] = -1
    d.n_chosen = 0
    for index in range(n_heads):
        size_class = d.chosen[index]
        if size_class >= 0:
            d.waiting[size_class] = direct_pop(d, size_class)
            d.chosen[d.n_chosen] = d.waiting[size_class]
            d.n_chosen += 1
    if not d.locally_biased:
        direct_add_equal_scores(d)
    d.n_new = 0
    for index in range(d.n_chosen):
        d.n_new += 2 * (d.n_params - direct_depth_of(d, d.chosen[index]) % d.n_params)
    return d.n_new


cdef inline bint direct_fits(const Direct *d) noexcept nogil:
    return d.n_points + d.n_new <= d.capacity and d.deepest + d.n_params + 1 < d.n_classes


cdef inline bint direct_is_potentially_optimal(const Direct *d, Py_ssize_t n_heads, Py_ssize_t index) noexcept nogil:
    cdef Py_ssize_t other, larger, smaller, size_class = d.chosen[index]
    cdef double score = d.value[d.head[size_class]], size = d.size[size_class]
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
    # Infinite scores can make this NaN: such a rectangle is kept.
    return not score - low * size > d.fun - d.eps * fabs(d.fun)


cdef inline void direct_add_equal_scores(Direct *d) noexcept nogil:
    cdef Py_ssize_t index, last, size_class
    cdef double score
    for index in range(d.n_chosen):
        last = d.chosen[index]
        score = d.value[last]
        size_class = direct_size_class_of(d, direct_depth_of(d, last))
        while d.head[size_class] >= 0 and d.value[d.head[size_class]] - score <= DIRECT_SAME_SCORE:
            d.sibling[last] = direct_pop(d, size_class)
            last = d.sibling[last]
            d.chosen[d.n_chosen] = last
            d.n_chosen += 1


cdef inline void direct_sample(Direct *d, double *points) noexcept nogil:
    cdef Py_ssize_t index, row, first, new_rect = d.n_points
    for index in range(d.n_chosen):
        new_rect = direct_sample_one(d, d.chosen[index], new_rect)
    first = direct_first_of_batch(d)
    for row in range(new_rect - first):
        direct_point(d, first + row, points + row * d.n_params)


cdef inline Py_ssize_t direct_sample_one(Direct *d, Py_ssize_t parent, Py_ssize_t new_rect) noexcept nogil:
    cdef Py_ssize_t param, each, n_params = d.n_params
    cdef Py_ssize_t cuts = direct_depth_of(d, parent) // n_params
    cdef double step = d.third[cuts + 1]
    cdef const double *centre = d.centre + parent * n_params
    cdef const int *exponent = d.exponent + parent * n_params
    cdef double *plus
    for param in range(n_params):
        if exponent[param] == cuts:
            plus = d.centre + new_rect * n_params
            for each in range(n_params):
                plus[each] = plus[n_params + each] = centre[each]
                d.exponent[new_rect * n_params + each] = d.exponent[(new_rect + 1) * n_params + each] = exponent[each]
            plus[param] = centre[param] + step
            plus[n_params + param] = centre[param] - step
            new_rect += 2
    return new_rect


cdef inline int direct_update(Direct *d, const double *scores) noexcept nogil:
    cdef Py_ssize_t row, index, new_rect, first
    for row in range(d.n_new):
        if scores[row] != scores[row]:
            return DIRECT_NAN
    first = direct_first_of_batch(d)
    for row in range(d.n_new):
        d.value[first + row] = scores[row]
        if scores[row] < d.fun:  # strictly: among equals the earliest stays the best
            d.fun = scores[row]
            d.best = first + row
    new_rect = d.n_points
    for index in range(d.n_chosen):
        new_rect = direct_divide(d, d.chosen[index], new_rect)
    d.n_points = new_rect
    d.iteration += 1
    return direct_stop_status(d)


cdef inline Py_ssize_t direct_divide(Direct *d, Py_ssize_t parent, Py_ssize_t new_rect) noexcept nogil:
    cdef Py_ssize_t n_params = d.n_params, depth = direct_depth_of(d, parent)
    cdef Py_ssize_t cuts = depth // n_params, n_pairs = 0
    cdef Py_ssize_t param, place, later, size_class, plus_child
    cdef double plus, minus, score
    # Sides by the better score of their pair of children, ascending, equals in the order of the parameters.
    for param in range(n_params):
        if d.exponent[parent * n_params + param] == cuts:
            plus = d.value[new_rect + 2 * n_pairs]
            minus = d.value[new_rect + 2 * n_pairs + 1]
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
            plus_child = new_rect + 2 * d.order[later]
            d.exponent[plus_child * n_params + param] = <int> (cuts + 1)
            d.exponent[(plus_child + 1) * n_params + param] = <int> (cuts + 1)
    size_class = direct_size_class_of(d, depth)
    d.waiting[size_class] = d.sibling[parent]
    for _ in range(n_pairs):
        direct_insert_pair(d, direct_size_class_of(d, direct_depth_of(d, new_rect)), new_rect, new_rect + 1)
        new_rect += 2
    depth += n_pairs
    if depth > d.deepest:
        d.deepest = depth
    direct_push(d, direct_size_class_of(d, depth), parent, direct_later_rank(d))
    return new_rect


cdef inline int direct_stop_status(const Direct *d) noexcept nogil:
    cdef Py_ssize_t depth
    if d.iteration > 1:
        depth = direct_depth_of(d, d.best)
        if d.third[depth] <= d.vol_tol:
            return 4
        if d.size[direct_size_class_of(d, depth)] <= d.len_tol:
            return 5
        # Unknown f_min: infinity over infinity, not <= anything.
        if (d.fun - d.f_min) / d.f_min_scale <= d.f_min_rtol:
            return 3
        if d.n_points > d.budget:
            return 1
    if d.iteration + 1 >= d.max_iter:
        return 2
    return 0


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

# DIRECT: options, arrays and progress of one run, and the memory it needs; the twin is backtest/_pure/_direct_state.py.

from libc.math cimport INFINITY, fabs, sqrt
from libc.string cimport memcpy

cdef struct Direct:
    # the problem and its limits
    Py_ssize_t n_params, budget, max_iter
    double eps, f_min, f_min_scale, f_min_rtol, vol_tol, len_tol
    bint locally_biased, strict
    const double *ratio
    const double *width
    # per rectangle (capacity), per size class (n_classes), scratch per parameter
    Py_ssize_t capacity, n_classes
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
    Py_ssize_t n_points, n_chosen, n_new, best, deepest, iteration, highest_rank, lowest_rank
    double fun


cdef inline Py_ssize_t direct_capacity(Py_ssize_t n_params, Py_ssize_t budget, Py_ssize_t max_iter) noexcept nogil:
    # One cut of all sides costs 2 * n_params points, so `budget` of them make at most this many size classes; the last
    # iteration begins within the budget and divides one rectangle a class.
    cdef Py_ssize_t n_classes = budget // (2 * n_params) + 2
    if n_classes > max_iter + 1:
        n_classes = max_iter + 1
    return budget + 2 * n_params * (n_classes + 1) + 2


cdef inline Py_ssize_t direct_n_classes(Py_ssize_t n_params, Py_ssize_t budget, Py_ssize_t max_iter) noexcept nogil:
    # A cut deepens one rectangle by 1 and costs two points; an iteration deepens by n_params at most.
    cdef Py_ssize_t deepest = budget // 2 + 1
    if deepest // n_params > max_iter:
        deepest = n_params * max_iter
    return deepest + 3 * n_params + 2


cdef inline Py_ssize_t direct_work(Py_ssize_t n_params, Py_ssize_t capacity, Py_ssize_t n_classes) noexcept nogil:
    # In doubles; every other array has elements of at most that size.
    return capacity * (2 * n_params + 5) + 4 * n_classes + 3 * n_params


cdef inline void direct_init(Direct *d, Py_ssize_t n_params, const double *ratio, const double *width, double eps,
                             Py_ssize_t budget, Py_ssize_t max_iter, bint locally_biased, bint strict, double f_min,
                             double f_min_rtol, double vol_tol, double len_tol) noexcept nogil:
    d.n_params, d.eps, d.budget, d.max_iter = n_params, eps, budget, max_iter
    d.locally_biased, d.strict = locally_biased, strict
    d.f_min, d.f_min_rtol, d.vol_tol, d.len_tol = f_min, f_min_rtol, vol_tol, len_tol
    d.f_min_scale = 1.0 if f_min == 0.0 else fabs(f_min)
    d.ratio, d.width = ratio, width
    d.capacity = d.n_classes = 0
    d.n_points = d.n_chosen = d.n_new = d.best = d.deepest = d.iteration = d.highest_rank = d.lowest_rank = 0
    d.fun = INFINITY


cdef inline void direct_bind(Direct *d, double *work, Py_ssize_t capacity, Py_ssize_t n_classes) noexcept nogil:
    cdef Py_ssize_t n_params = d.n_params
    d.capacity, d.n_classes = capacity, n_classes
    d.centre = work
    d.exponent = <int *> (d.centre + capacity * n_params)
    d.value = d.centre + 2 * capacity * n_params
    d.rank = <Py_ssize_t *> (d.value + capacity)
    d.child = <Py_ssize_t *> (d.value + 2 * capacity)
    d.sibling = <Py_ssize_t *> (d.value + 3 * capacity)
    d.chosen = <Py_ssize_t *> (d.value + 4 * capacity)
    d.third = d.value + 5 * capacity
    d.size = d.third + n_classes
    d.head = <Py_ssize_t *> (d.third + 2 * n_classes)
    d.waiting = <Py_ssize_t *> (d.third + 3 * n_classes)
    d.least = d.third + 4 * n_classes
    d.order = <Py_ssize_t *> (d.least + n_params)
    d.side = <Py_ssize_t *> (d.least + 2 * n_params)
    direct_fill_tables(d)


cdef inline void direct_rebind(Direct *d, double *work, Py_ssize_t capacity, Py_ssize_t n_classes) noexcept nogil:
    # Into a larger block; the old one is free afterwards.
    cdef Direct old = d[0]
    cdef Py_ssize_t size_class, n_params = d.n_params, n_points = d.n_points
    direct_bind(d, work, capacity, n_classes)
    memcpy(d.centre, old.centre, n_points * n_params * sizeof(double))
    memcpy(d.exponent, old.exponent, n_points * n_params * sizeof(int))
    memcpy(d.value, old.value, n_points * sizeof(double))
    memcpy(d.rank, old.rank, n_points * sizeof(Py_ssize_t))
    memcpy(d.child, old.child, n_points * sizeof(Py_ssize_t))
    memcpy(d.sibling, old.sibling, n_points * sizeof(Py_ssize_t))
    memcpy(d.chosen, old.chosen, n_points * sizeof(Py_ssize_t))
    for size_class in range(n_classes):
        d.head[size_class] = old.head[size_class] if size_class < old.n_classes else -1
        d.waiting[size_class] = old.waiting[size_class] if size_class < old.n_classes else -1


cdef inline void direct_fill_tables(Direct *d) noexcept nogil:
    # Sizes as running products, not powers: the bits of pow() differ between libraries.
    cdef Py_ssize_t size_class, cut, n_params = d.n_params
    cdef double power = 1.0
    for size_class in range(d.n_classes):
        d.third[size_class] = 1.0 / power
        power *= 3.0
    power = 1.0
    for size_class in range(d.n_classes):
        if d.locally_biased:
            d.size[size_class] = d.third[size_class]
        else:
            cut = size_class % n_params  # sides already cut once more than the others
            d.size[size_class] = sqrt((n_params - cut) + cut / 9.0) * 0.5 / power
            if cut == n_params - 1:
                power *= 3.0


cdef inline Py_ssize_t direct_depth_of(const Direct *d, Py_ssize_t rect) noexcept nogil:
    cdef Py_ssize_t param, depth = 0
    for param in range(d.n_params):
        depth += d.exponent[rect * d.n_params + param]
    return depth


cdef inline Py_ssize_t direct_size_class_of(const Direct *d, Py_ssize_t depth) noexcept nogil:
    return depth // d.n_params if d.locally_biased else depth

"""Level profit: the sum over bars for a batch of offsets, and the offsets that are best.

A bar with a position is folded into one *row* that reads like a long, whatever its side: a short is the long of the
mirrored prices, ``entry = -high_pred - h`` and ``exit = -low_pred - l``, and a negated number is exact.  What ``close_at_eod``,
``fill_margin`` and ``intrabar`` ask for is in the two levels of the row, so one loop serves every mode:

    entry = clamp(entry_pred + entry_offset, floor, 0)      fills if entry > entry_level
    exit  = clamp(exit_pred + exit_offset, 0, cap)          counts if exit <= exit_level, else the exit is the close
    profit of a filled row = weight * ((exit - entry) - fee_rate)

Lanes are candidates: each is independent and summed in bar order, so every width of registers gives the same bits.
A long takes (entry_offset, exit_offset) = (l, h), floor -1 and cap 10; a short takes (-h, -l), floor -10 and cap 1.

The exact optimum:

(a) A row has one threshold in h (largest h at which its limit exit counts if long, at which it fills if short) and one in
    l (smallest l at which it fills if long, at which its limit exit counts if short).  Between thresholds no predicate
    changes, every term is non-decreasing in h and non-increasing in l, and rounding keeps that order; so the kernel's own
    sum is largest at the (largest h, smallest l) corner of a cell, and the best corner is the best point there is.
(b) A threshold is found by bisection over the bit patterns of doubles, on the predicate as the kernel evaluates it: one
    step of h near 0 vanishes in HP + h, so the largest h is not the arithmetic breakpoint.
(c) On the grid of thresholds the profit is a sum of *events*: from l-candidate ``step`` on, the first ``end``
    h-candidates gain ``base + per_h * h + per_l * l``.  A row has at most five, its clamps included.
(d) The sweep takes WIDTH h-candidates at a time through all l-candidates.  An event that covers all of them, nearly
    every one, changes three numbers; only one that ends among them touches the columns.  The columns' sums are formed
    only where an upper bound, exact at the last time they were formed, reaches the best cell so far.  A first pass over
    every 2^shift-th column finds a good one early.
(e) Running sums round differently from the kernel.  With N events and S the sum of their largest absolute values, a
    running sum is within E = (N + 32) (eps / 2) S of the truth, the kernel's too, so no cell below best - 4 E can be
    the kernel's best: cells within B = 4 E are scored again by the kernel, which decides.
(f) Where no filled row depends on h (or l), neighbouring cells have one value to the last bit; the sweep keeps the first
    of them in tie order.  Without it a high fee on many bars, which leaves a few fills, gives thousands of equal cells.
"""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t

from _direct cimport direct_point, direct_run, direct_start
from _direct_state cimport Direct, direct_bind, direct_capacity, direct_init, direct_n_classes, direct_work
from _levels cimport (AMBIGUOUS, AT_CLOSE, AT_LIMIT, BEST_HIGH, BEST_LOW, BEST_PROFIT, CLOSE, ENTRY, ENTRY_LEVEL, ENTRY_PRED,
                      EXIT, EXIT_KIND, EXIT_PRED, FIELDS, FILLED, NONE, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, PROFIT, SCORED,
                      SIDE, TOLERANCE, TRUNCATED, WEIGHT, profit_of)
from _levels_events cimport EVENTS_PER_ROW
from _levels_exact cimport MAX_CELLS, WIDTH, exact_optimum

#: Columns and sizes that the callers and both twins must agree on.
LAYOUT = {
    "ENTRY_PRED": ENTRY_PRED, "EXIT_PRED": EXIT_PRED, "ENTRY_LEVEL": ENTRY_LEVEL, "OPTIMISTIC_LEVEL": OPTIMISTIC_LEVEL,
    "PESSIMISTIC_LEVEL": PESSIMISTIC_LEVEL, "CLOSE": CLOSE, "WEIGHT": WEIGHT, "SIDE": SIDE, "ENTRY": ENTRY, "EXIT": EXIT,
    "EXIT_KIND": EXIT_KIND, "FILLED": FILLED, "AMBIGUOUS": AMBIGUOUS, "PROFIT": PROFIT, "NONE": NONE, "AT_CLOSE": AT_CLOSE,
    "AT_LIMIT": AT_LIMIT, "BEST_HIGH": BEST_HIGH, "BEST_LOW": BEST_LOW, "BEST_PROFIT": BEST_PROFIT, "TOLERANCE": TOLERANCE,
    "TRUNCATED": TRUNCATED, "SCORED": SCORED, "EVENTS_PER_ROW": EVENTS_PER_ROW, "WIDTH": WIDTH, "MAX_CELLS": MAX_CELLS,
}


cdef struct Task:
    # What the objective of DIRECT scores points of.
    const double *rows
    Py_ssize_t n_rows
    Py_ssize_t split
    double fee_rate
    int pessimistic


def profit(const double[:, ::1] rows, Py_ssize_t split, double fee_rate, int pessimistic, const double[:, ::1] offsets,
           Py_ssize_t start, Py_ssize_t stop, double[::1] out):
    """Profit of candidates ``start`` to ``stop``.

    Parameters
    ----------
    rows
        (n_rows, 8), folded bars; see the module's columns.
    split
        Rows before it are one sum and rows from it on another; their sum is the profit.
    fee_rate
        Charged once per filled row, relative to its weight.
    pessimistic
        1 to take the pessimistic exit level, 0 the optimistic one.
    offsets
        (n_candidates, 2), columns high and low.
    start, stop
        Candidates to score.
    out
        (n_candidates,), filled from ``start`` to ``stop``.
    """
    if start < stop:
        with nogil:
            profit_of(&rows[0, 0], rows.shape[0], split, fee_rate, pessimistic, &offsets[0, 0], start, stop, &out[0])


def report(const double[:, ::1] rows, Py_ssize_t split, double fee_rate, double high, double low, double[::1] out):
    """Profit of a point by each intrabar rule, that of no offsets, and how often the point fills.

    Parameters
    ----------
    rows, split, fee_rate
        As in :func:`profit`.
    high, low
        The offsets.
    out
        (6,): profit by the optimistic and by the pessimistic rule, the same two at (0, 0), filled rows at the point, and
        those of them where the two rules exit differently.
    """
    cdef double points[4]
    cdef double profits[4]
    cdef int rule
    with nogil:
        points[0], points[1], points[2], points[3] = high, low, 0.0, 0.0
        for rule in range(2):
            profit_of(&rows[0, 0], rows.shape[0], split, fee_rate, rule, points, 0, 2, profits + 2 * rule)
        out[0], out[1], out[2], out[3] = profits[0], profits[2], profits[1], profits[3]
        _count(&rows[0, 0], rows.shape[0], high, low, &out[4])


def replay(const double[:, ::1] rows, double fee_rate, int pessimistic, double high, double low, Py_ssize_t start,
           Py_ssize_t stop, double[:, ::1] out):
    """What rows ``start`` to ``stop`` do at one point.

    Parameters
    ----------
    rows
        (n_rows, 8), folded bars.
    fee_rate
        Charged once per filled row, relative to its weight.
    pessimistic
        1 to take the pessimistic exit level, 0 the optimistic one.
    high, low
        The offsets.
    start, stop
        Rows to replay.
    out
        (n_rows, 6): entry, exit (relative moves; NaN if not filled), exit kind, filled, ambiguous, profit.
    """
    cdef Py_ssize_t index
    with nogil:
        for index in range(start, stop):
            _replay(&rows[index, 0], fee_rate, pessimistic, high, low, &out[index, 0])


def scratch_sizes(Py_ssize_t n_rows):
    """Lengths of the two scratch arrays of :func:`exact`, float64 and int64."""
    return 4 * EVENTS_PER_ROW * n_rows + 2 * (n_rows + 3) + 12 * MAX_CELLS, 11 * (n_rows + 4)


def exact(const double[:, ::1] rows, Py_ssize_t split, double fee_rate, int pessimistic, const double[::1] bounds,
          double[::1] floats, int64_t[::1] ints, double[::1] out):
    """The best point within bounds, to the last bit of :func:`profit`.

    Parameters
    ----------
    rows, split, fee_rate, pessimistic
        As in :func:`profit`.
    bounds
        (4,): lowest and highest h, lowest and highest l.
    floats, ints
        Scratch of :func:`scratch_sizes`; need not be initialised.
    out
        (6,): h, l, profit there, tolerance B, 1 if more than 1,024 cells were within it, cells scored by :func:`profit`.
    """
    with nogil:
        exact_optimum(&rows[0, 0], rows.shape[0], split, fee_rate, pessimistic, &bounds[0], &floats[0], &ints[0], &out[0])


def direct_scratch_size(Py_ssize_t budget, Py_ssize_t max_iter):
    """Length of the scratch of :func:`direct`, float64.  A run never needs more, so it cannot end for lack of room."""
    cdef Py_ssize_t capacity = _capacity(budget, max_iter)
    return direct_work(2, capacity, direct_n_classes(2, budget, max_iter)) + 3 * capacity


def direct(const double[:, ::1] rows, Py_ssize_t split, double fee_rate, int pessimistic, const double[::1] bounds, double eps,
           Py_ssize_t budget, Py_ssize_t max_iter, double vol_tol, double len_tol, double[::1] scratch, double[::1] out):
    """DIRECT, locally biased, from its first point to its end: the points of ``backtest.search.direct``.

    Parameters
    ----------
    rows, split, fee_rate, pessimistic
        As in :func:`profit`.
    bounds
        (4,): lowest and highest h, lowest and highest l, lowest < highest.
    eps, budget, max_iter, vol_tol, len_tol
        As in the State of the kernel ``direct``.
    scratch
        Of :func:`direct_scratch_size`; need not be initialised.
    out
        (5,): h, l, profit there, points scored, status of the kernel ``direct``.
    """
    cdef Direct d
    cdef Task task
    cdef double ratio[2]
    cdef double width[2]
    cdef Py_ssize_t param, capacity, n_classes
    cdef double *points
    with nogil:
        task.rows, task.n_rows, task.split = &rows[0, 0], rows.shape[0], split
        task.fee_rate, task.pessimistic = fee_rate, pessimistic
        for param in range(2):
            width[param] = bounds[2 * param + 1] - bounds[2 * param]
            ratio[param] = bounds[2 * param] / width[param]
        capacity, n_classes = _capacity(budget, max_iter), direct_n_classes(2, budget, max_iter)
        points = &scratch[0] + direct_work(2, capacity, n_classes)
        direct_init(&d, 2, ratio, width, eps, budget, max_iter, True, False, -INFINITY, 0.0, vol_tol, len_tol)
        direct_bind(&d, &scratch[0], capacity, n_classes)
        direct_start(&d)
        out[4] = direct_run(&d, _losses, &task, points, points + 2 * capacity)
        direct_point(&d, d.best, &out[0])
        out[2], out[3] = -d.fun, <double> d.n_points


cdef Py_ssize_t _capacity(Py_ssize_t budget, Py_ssize_t max_iter) noexcept nogil:
    # An iteration adds one size class at most, and divides one rectangle a class into four more at most.
    cdef Py_ssize_t most = 2 * (max_iter + 2) * (max_iter + 2)
    return direct_capacity(2, budget if budget < most else most, max_iter)


cdef void _losses(const double *points, Py_ssize_t n_points, double *scores, void *data) noexcept nogil:
    cdef const Task *task = <const Task *> data
    cdef Py_ssize_t point
    profit_of(task.rows, task.n_rows, task.split, task.fee_rate, task.pessimistic, points, 0, n_points, scores)
    for point in range(n_points):
        scores[point] = -scores[point]


cdef inline double _entry(const double *row, double offset) noexcept nogil:
    cdef double floor = -1.0 if row[SIDE] > 0.0 else -10.0
    cdef double entry = row[ENTRY_PRED] + offset
    entry = floor if entry < floor else entry
    return 0.0 if entry > 0.0 else entry


cdef inline double _exit(const double *row, double offset) noexcept nogil:
    cdef double cap = 10.0 if row[SIDE] > 0.0 else 1.0
    cdef double exit_ = row[EXIT_PRED] + offset
    exit_ = 0.0 if exit_ < 0.0 else exit_
    return cap if exit_ > cap else exit_


cdef void _count(const double *row, Py_ssize_t n_rows, double high, double low, double *out) noexcept nogil:
    cdef int64_t fills = 0, ambiguous = 0
    cdef double entry, exit_
    cdef bint filled
    cdef Py_ssize_t _bar
    for _bar in range(n_rows):
        entry = _entry(row, low if row[SIDE] > 0.0 else -high)
        exit_ = _exit(row, high if row[SIDE] > 0.0 else -low)
        filled = entry > row[ENTRY_LEVEL]
        fills += filled
        ambiguous += filled & (exit_ <= row[OPTIMISTIC_LEVEL]) & (not exit_ <= row[PESSIMISTIC_LEVEL])
        row += FIELDS
    out[0], out[1] = <double> fills, <double> ambiguous


cdef void _replay(const double *row, double fee_rate, int pessimistic, double high, double low, double *out) noexcept nogil:
    cdef double entry = _entry(row, low if row[SIDE] > 0.0 else -high)
    cdef double exit_ = _exit(row, high if row[SIDE] > 0.0 else -low)
    cdef int kind
    if not entry > row[ENTRY_LEVEL]:
        out[ENTRY] = out[EXIT] = NAN
        out[EXIT_KIND], out[FILLED], out[AMBIGUOUS], out[PROFIT] = NONE, 0.0, 0.0, 0.0
        return
    out[AMBIGUOUS] = 1.0 if exit_ <= row[OPTIMISTIC_LEVEL] and not exit_ <= row[PESSIMISTIC_LEVEL] else 0.0
    kind = AT_LIMIT if exit_ <= row[PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL] else AT_CLOSE
    if kind == AT_CLOSE:
        exit_ = row[CLOSE]
    out[ENTRY], out[EXIT] = row[SIDE] * entry + 0.0, row[SIDE] * exit_ + 0.0  # + 0.0: no minus zero
    out[EXIT_KIND], out[FILLED] = kind, 1.0
    out[PROFIT] = row[WEIGHT] * ((exit_ - entry) - fee_rate)

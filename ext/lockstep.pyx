"""DIRECT, locally biased, on many problems at once: every call advances all of them by one iteration.

For objectives with a high cost per call and a low cost per point, such as a launch on a GPU: the points of one iteration of
all problems are one batch.  Each problem's run is that of the kernel ``direct``, bit for bit, independent of the others; one
that has ended adds no points to later batches.
"""

from libc.math cimport INFINITY
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from _direct cimport direct_point, direct_sample, direct_select, direct_start, direct_update
from _direct_state cimport Direct, direct_bind, direct_capacity, direct_init, direct_n_classes, direct_work

#: Status of a run that has not ended.
RUNNING = 0


cdef struct Run:
    Direct direct
    int status


cdef class Runs:
    """Runs over one search space, in the caller's memory.

    Parameters
    ----------
    ratio, width : float64 (n_params,)
        Lower bound / width, and width, of the search space.
    eps, max_iter, vol_tol, len_tol : float, int, float, float
        As in the State of the kernel ``direct``.
    budgets : int64 (n_runs,)
        Budget of each run, at most that given to :func:`sizes`.
    work : float64 (n_runs, n_work)
        Memory of the runs, of the size that :func:`sizes` gives; need not be initialised.
    counts : int64 (n_runs,)
        Filled: points that each run has in the next batch; 0 for one that has ended.
    """

    cdef Run *runs
    cdef int64_t *counts
    cdef Py_ssize_t n_params
    cdef tuple arrays  # keeps alive what the pointers point into

    def __init__(self, const double[::1] ratio, const double[::1] width, double eps, Py_ssize_t max_iter, double vol_tol,
                 double len_tol, const int64_t[::1] budgets, Py_ssize_t capacity, Py_ssize_t n_classes, double[:, ::1] work,
                 int64_t[::1] counts):
        cdef Py_ssize_t run, n_runs = budgets.shape[0]
        cdef Direct *d
        self.arrays = (ratio, width, work, counts)
        self.n_params = width.shape[0]
        free(self.runs)
        self.runs = <Run *> malloc((n_runs + 1) * sizeof(Run))
        if self.runs == NULL:
            raise MemoryError
        if n_runs == 0:
            return
        self.counts = &counts[0]
        for run in range(n_runs):
            d = &self.runs[run].direct
            direct_init(d, self.n_params, &ratio[0], &width[0], eps, budgets[run], max_iter, True, False, -INFINITY, 0.0, vol_tol,
                        len_tol)
            direct_bind(d, &work[run, 0], capacity, n_classes)
            self.runs[run].status = 0
            counts[run] = direct_start(d)

    def __dealloc__(self):
        free(self.runs)


def sizes(Py_ssize_t n_params, Py_ssize_t budget, Py_ssize_t max_iter):
    """Upper bounds for any run of this budget: rectangles, size classes, and float64 of memory."""
    cdef Py_ssize_t most = n_params * (max_iter + 2) * (max_iter + 2)
    cdef Py_ssize_t capacity, n_classes
    # An iteration adds one size class at most, and divides one rectangle a class into 2 * n_params more at most.
    budget = budget if budget < most else most
    capacity, n_classes = direct_capacity(n_params, budget, max_iter), direct_n_classes(n_params, budget, max_iter)
    return capacity, n_classes, direct_work(n_params, capacity, n_classes)


def sample(Runs runs not None, const int64_t[::1] first, double[:, ::1] points, Py_ssize_t start, Py_ssize_t stop) -> None:
    """Points of the next batch, of runs ``start`` to ``stop``.

    Parameters
    ----------
    first : int64 (n_runs,)
        Row of each run's first point.
    points : float64 (n_points, n_params)
        Rows of these runs are filled.
    start, stop : int
        Runs to work on.
    """
    cdef Py_ssize_t run
    with nogil:
        for run in range(start, stop):
            if runs.counts[run]:
                direct_sample(&runs.runs[run].direct, &points[first[run], 0])


def update(Runs runs not None, const int64_t[::1] first, const double[::1] scores, Py_ssize_t start, Py_ssize_t stop) -> None:
    """Take in the scores of the batch and choose the next, for runs ``start`` to ``stop``.

    Parameters
    ----------
    first : int64 (n_runs,)
        As in :func:`sample`.
    scores : float64 (n_points,)
        Smaller is better.
    start, stop : int
        Runs to work on.
    """
    cdef Py_ssize_t run
    cdef Direct *d
    with nogil:
        for run in range(start, stop):
            if runs.counts[run]:
                d = &runs.runs[run].direct
                runs.runs[run].status = direct_update(d, &scores[first[run]])
                runs.counts[run] = 0 if runs.runs[run].status else direct_select(d)


def results(Runs runs not None, Py_ssize_t start, Py_ssize_t stop, double[:, ::1] out) -> None:
    """State of runs ``start`` to ``stop``.

    Parameters
    ----------
    start, stop : int
        Runs to work on.
    out : float64 (n_runs, n_params + 3)
        Rows of these runs are filled: best point, its score, points scored, status of the kernel ``direct`` (0: not ended).
    """
    cdef Py_ssize_t run, n_params = runs.n_params
    cdef Direct *d
    with nogil:
        for run in range(start, stop):
            d = &runs.runs[run].direct
            direct_point(d, d.best, &out[run, 0])
            out[run, n_params], out[run, n_params + 1] = d.fun, <double> d.n_points
            out[run, n_params + 2] = runs.runs[run].status

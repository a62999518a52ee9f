"""Elementary functions of ``+ - * /`` and numbers taken apart bit by bit: the same bits on every processor.

A logarithm is a pair of doubles, good to 2^-64 of its size, since an exponent multiplies its error: with x = 2^e m, 1/2 <= m < 1,
and c from a table, close to 1 / m and so short that m c is exact in two halves,

    log x = e log 2 - log c + log(1 + r),    r = m c - 1,    |r| < 2^-7,

where the sums of what is large are exact and the rest is a short series.  An exponential is 2^n 2^(j/64) exp(r) (P. T. P. Tang,
Table-driven implementation of the exponential function, of the logarithm function, in IEEE floating-point arithmetic, ACM TOMS
15, 1989, and 16, 1990).  ``tables`` is a record, see ``elementary.Tables``.
"""

from libc.math cimport INFINITY, NAN, fabs, floor

cdef extern from "_elementary.h" nogil:
    ctypedef struct Pair "elementary_pair":  # a number as its nearest double and the rest
        double upper
        double lower
    ctypedef struct Look "elementary_tables":
        const double *factors
        const double *log_uppers
        const double *log_lowers
        const double *power_uppers
        const double *power_lowers
        double log2_upper
        double log2_lower
        double step_upper
        double step_lower
    Pair log_pair "elementary_log"(double x, const Look *look)
    double exp_of "elementary_exp"(double x, double rest, const Look *look)
    void powers "elementary_powers"(const double *x, const double *y, ptrdiff_t step, ptrdiff_t n, const Look *look, double *out)


def power(const double[::1] x, const double[::1] y, tables, double[::1] out):
    """x ** y.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    y : ndarray of float64, shape (n,) or (1,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    cdef Lookup of = Lookup(tables)
    cdef Py_ssize_t row, step = y.shape[0] > 1
    if not x.shape[0]:
        return
    with nogil:
        powers(&x[0], &y[0], step, x.shape[0], &of.look, &out[0])
        for row in range(x.shape[0]):
            if not (x[row] > 0.0 and x[row] < INFINITY and y[row * step] == y[row * step]):
                out[row] = beyond(x[row], y[row * step], out[row])


def exp(const double[::1] x, tables, double[::1] out):
    """e ** x.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    cdef Lookup of = Lookup(tables)
    cdef Py_ssize_t row
    with nogil:
        for row in range(x.shape[0]):
            out[row] = exp_of(x[row], 0.0, &of.look) if x[row] == x[row] else NAN


def log(const double[::1] x, tables, double[::1] out):
    """Natural logarithm.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    cdef Lookup of = Lookup(tables)
    cdef Py_ssize_t row
    with nogil:
        for row in range(x.shape[0]):
            if x[row] > 0.0 and x[row] < INFINITY:
                out[row] = log_pair(x[row], &of.look).upper
            else:
                out[row] = log_beyond(x[row])


def log1p(const double[::1] x, tables, double[::1] out):
    """Natural logarithm of 1 + x.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    cdef Lookup of = Lookup(tables)
    cdef Pair pair
    cdef Py_ssize_t row
    cdef double total, part, lost
    with nogil:
        for row in range(x.shape[0]):
            total = 1.0 + x[row]
            if not (total > 0.0 and total < INFINITY):
                out[row] = log_beyond(total)
                continue
            part = total - 1.0
            lost = (1.0 - (total - part)) + (x[row] - part)  # total + lost is exactly 1 + x
            pair = log_pair(total, &of.look)
            out[row] = x[row] if total == 1.0 else pair.upper + (pair.lower + lost / total)  # -0.0 stays


cdef class Lookup:
    """The tables, typed."""

    cdef const double[::1] factors, log_uppers, log_lowers, power_uppers, power_lowers
    cdef Look look

    def __cinit__(self, tables):
        self.factors, self.log_uppers, self.log_lowers = tables.factors, tables.log_uppers, tables.log_lowers
        self.power_uppers, self.power_lowers = tables.power_uppers, tables.power_lowers
        self.look.factors, self.look.log_uppers, self.look.log_lowers = &self.factors[0], &self.log_uppers[0], &self.log_lowers[0]
        self.look.power_uppers, self.look.power_lowers = &self.power_uppers[0], &self.power_lowers[0]
        self.look.log2_upper, self.look.log2_lower = tables.log2_upper, tables.log2_lower
        self.look.step_upper, self.look.step_lower = tables.step_upper, tables.step_lower


cdef inline double beyond(double x, double y, double result) noexcept nogil:
    """x ** y where x is no finite number above 0 or y no number; ``result`` is |x| ** y where that is one."""
    cdef bint is_number = x != 0.0 and fabs(x) < INFINITY
    cdef bint is_negative, is_whole
    if y == 0.0 or x == 1.0:
        return 1.0
    if x != x or y != y:
        return NAN
    if not is_number:
        result = 0.0 if (x == 0.0) == (y > 0.0) else INFINITY
    is_negative = x < 0.0 or (x == 0.0 and 1.0 / x < 0.0)
    if not is_negative:
        return result
    is_whole = floor(y) == y
    if is_number and not is_whole:
        return NAN
    if is_whole and fabs(y) < 9007199254740992.0 and floor(0.5 * y) != 0.5 * y:  # odd
        return -result
    return result


cdef inline double log_beyond(double x) noexcept nogil:
    """Logarithm of what is no finite number above 0."""
    if x == 0.0:
        return -INFINITY
    return INFINITY if x > 0.0 else NAN

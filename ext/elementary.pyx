"""Elementary functions from ``+ - * /`` and bit operations: the same bits on every processor.

A logarithm is a pair of doubles, with a relative error of 2^-64, since an exponent multiplies the error: with x = 2^e m,
1/2 <= m < 1, and c from a table, close to 1 / m and so short that m c is exact in two halves,

    log x = e log 2 - log c + log(1 + r),    r = m c - 1,    |r| < 2^-7,

where the sums of the large terms are exact and the rest is a short series.  An exponential is 2^n 2^(j/64) exp(r) (P. T. P. Tang,
Table-driven implementation of the exponential function, of the logarithm function, in IEEE floating-point arithmetic, ACM TOMS
15, 1989, and 16, 1990).  ``tables`` is a record, see ``elementary.Tables``.
"""

from libc.math cimport INFINITY, NAN, fabs, floor

cdef extern from "_elementary.h" nogil:
    ctypedef struct Pair "elementary_pair":  # a number as its nearest double and the remainder
        double upper
        double lower
    ctypedef struct Pointers "elementary_tables":
        const double *factors
        const double *log_uppers
        const double *log_lowers
        const double *power_uppers
        const double *power_lowers
        double log2_upper
        double log2_lower
        double step_upper
        double step_lower
    Pair log_pair "elementary_log"(double x, const Pointers *tables)
    double exp_of "elementary_exp"(double x, double rest, const Pointers *tables)
    void powers "elementary_powers"(const double *x, const double *y, ptrdiff_t step, ptrdiff_t n, const Pointers *tables,
                                    double *out)


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
    cdef Tables typed = Tables(tables)
    cdef Py_ssize_t row, step = y.shape[0] > 1
    if not x.shape[0]:
        return
    with nogil:
        powers(&x[0], &y[0], step, x.shape[0], &typed.pointers, &out[0])
        for row in range(x.shape[0]):
            if not (x[row] > 0.0 and x[row] < INFINITY and y[row * step] == y[row * step]):
                out[row] = special_power(x[row], y[row * step], out[row])


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
    cdef Tables typed = Tables(tables)
    cdef Py_ssize_t row
    with nogil:
        for row in range(x.shape[0]):
            out[row] = exp_of(x[row], 0.0, &typed.pointers) if x[row] == x[row] else NAN


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
    cdef Tables typed = Tables(tables)
    cdef Py_ssize_t row
    with nogil:
        for row in range(x.shape[0]):
            if x[row] > 0.0 and x[row] < INFINITY:
                out[row] = log_pair(x[row], &typed.pointers).upper
            else:
                out[row] = special_log(x[row])


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
    cdef Tables typed = Tables(tables)
    cdef Pair pair
    cdef Py_ssize_t row
    cdef double total, part, lost
    with nogil:
        for row in range(x.shape[0]):
            total = 1.0 + x[row]
            if not (total > 0.0 and total < INFINITY):
                out[row] = special_log(total)
                continue
            part = total - 1.0
            lost = (1.0 - (total - part)) + (x[row] - part)  # total + lost is exactly 1 + x
            pair = log_pair(total, &typed.pointers)
            out[row] = x[row] if total == 1.0 else pair.upper + (pair.lower + lost / total)  # -0.0 stays


cdef class Tables:
    """Typed views of the tables."""

    cdef const double[::1] factors, log_uppers, log_lowers, power_uppers, power_lowers
    cdef Pointers pointers

    def __cinit__(self, tables):
        self.factors, self.log_uppers, self.log_lowers = tables.factors, tables.log_uppers, tables.log_lowers
        self.power_uppers, self.power_lowers = tables.power_uppers, tables.power_lowers
        self.pointers.factors = &self.factors[0]
        self.pointers.log_uppers, self.pointers.log_lowers = &self.log_uppers[0], &self.log_lowers[0]
        self.pointers.power_uppers, self.pointers.power_lowers = &self.power_uppers[0], &self.power_lowers[0]
        self.pointers.log2_upper, self.pointers.log2_lower = tables.log2_upper, tables.log2_lower
        self.pointers.step_upper, self.pointers.step_lower = tables.step_upper, tables.step_lower


cdef inline double special_power(double x, double y, double result) noexcept nogil:
    """x ** y where x is not both finite and > 0, or y is NaN; ``result`` is |x| ** y if defined."""
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


cdef inline double special_log(double x) noexcept nogil:
    """Logarithm where x is not both finite and > 0."""
    if x == 0.0:
        return -INFINITY
    return INFINITY if x > 0.0 else NAN

"""Elementary functions from ``+ - * /`` and bit operations: the same bits on every processor.

A logarithm is a pair of doubles, with a relative error of 2^-64, since an exponent multiplies the error: with x = 2^e m,
1/2 <= m < 1, and c from a table, close to 1 / m and so short that m c is exact in two halves,

    log x = e log 2 - log c + log(1 + r),    r = m c - 1,    |r| < 2^-7,

where the sums of the large terms are exact and the rest is a short series.  An exponential is 2^n 2^(j/64) exp(r) (P. T. P. Tang,
Table-driven implementation of the exponential function, of the logarithm function, in IEEE floating-point arithmetic, ACM TOMS
15, 1989, and 16, 1990).  ``tables`` is a record, see ``elementary.Tables``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOGS, POWERS = 128, 64
#: Adding and then subtracting them rounds to a multiple of 2^-24 (numbers below 1), and to an integer.
TO_UPPER, TO_WHOLE = 1.5 * 2.0**28, 1.5 * 2.0**52
#: Splits a double into halves whose products are exact.
SPLIT = 2.0**27 + 1.0
#: Beyond these x ** y is 0, 1 or infinite, whatever x is, and e ** x 0 or infinite.
MOST_Y, MOST_X = 2.0**70, 800.0
#: POWERS / log 2; the multiple of the step that it selects need not be the nearest.
STEPS = 92.33248261689366


def power(x: Floats, y: Floats, tables: Any, out: Floats) -> None:
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
    with np.errstate(all="ignore"):
        size = np.abs(x)
        is_number = (size > 0.0) & (size < np.inf)
        upper, lower = _log_pair(np.where(is_number, size, 1.0), tables)
        factor = np.minimum(np.maximum(y, -MOST_Y), MOST_Y)
        product = factor * upper
        result = _exp_of(product, _product_error(factor, upper, product) + factor * lower, tables)
        result = np.where(is_number, result, np.where((size == 0.0) == (y > 0.0), 0.0, np.inf))
        is_whole = np.floor(y) == y
        is_odd = is_whole & (np.abs(y) < 2.0**53) & (np.floor(0.5 * y) != 0.5 * y)
        is_negative = (x < 0.0) | ((x == 0.0) & (1.0 / x < 0.0))
        result = np.where(is_negative & is_odd, -result, result)
        undefined = (is_negative & is_number & ~is_whole) | (x != x) | (y != y)
        result = np.where(undefined, np.nan, result)
        out[...] = np.where((y == 0.0) | (x == 1.0), 1.0, result)


def exp(x: Floats, tables: Any, out: Floats) -> None:
    """e ** x.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    with np.errstate(all="ignore"):
        out[...] = np.where(x == x, _exp_of(x, np.zeros(1), tables), np.nan)


def log(x: Floats, tables: Any, out: Floats) -> None:
    """Natural logarithm.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    with np.errstate(all="ignore"):
        is_number = (x > 0.0) & (x < np.inf)
        out[...] = np.where(is_number, _log_pair(np.where(is_number, x, 1.0), tables)[0], _special_log(x))


def log1p(x: Floats, tables: Any, out: Floats) -> None:
    """Natural logarithm of 1 + x.

    Parameters
    ----------
    x : ndarray of float64, shape (n,)
    tables
        Record, see the module.
    out : ndarray of float64, shape (n,)
        Output.
    """
    with np.errstate(all="ignore"):
        total = 1.0 + x
        is_number = (total > 0.0) & (total < np.inf)
        given, total = np.where(is_number, x, 0.0), np.where(is_number, total, 1.0)
        part = total - 1.0
        lost = (1.0 - (total - part)) + (given - part)  # total + lost is exactly 1 + x
        upper, lower = _log_pair(total, tables)
        found = np.where(total == 1.0, given, upper + (lower + lost / total))  # -0.0 stays
        out[...] = np.where(is_number, found, _special_log(1.0 + x))


def _special_log(x: Floats) -> Floats:
    """Logarithm where x is not both finite and > 0."""
    return np.where(x == 0.0, -np.inf, np.where(x > 0.0, np.inf, np.nan))


def _log_pair(x: Floats, tables: Any) -> tuple[Floats, Floats]:
    """log x, as its nearest double and the remainder."""
    m, exponent = np.frexp(x)
    e = exponent.astype(np.float64)
    index = ((m - 0.5) * (2.0 * LOGS)).astype(np.int64)
    c = tables.factors[index]
    m_upper = (m + TO_UPPER) - TO_UPPER
    r_upper = m_upper * c - 1.0
    r_lower = (m - m_upper) * c
    r = r_upper + r_lower
    # Exact: multiples of 2^-41 below 2^10, and of 2^-65 below 2^-14.
    large = (e * tables.log2_upper + tables.log_uppers[index]) + r_upper
    half_square = 0.5 * (r_upper * r_upper)
    first = large - half_square
    first_lost = (large - first) - half_square
    total = first + r_lower
    part = total - first
    lost = (first - (total - part)) + (r_lower - part)
    series = 1.0 / 3.0 + r * (-0.25 + r * (0.2 + r * (-1.0 / 6.0 + r * (1.0 / 7.0 + r * (-0.125 + r * (1.0 / 9.0))))))
    small = (r * r) * r * series - r_lower * (r_upper + 0.5 * r_lower)
    small = (first_lost + lost) + (small + (e * tables.log2_lower + tables.log_lowers[index]))
    upper = total + small
    return upper, small - (upper - total)


def _product_error(a: Floats, b: Floats, product: Floats) -> Floats:
    """Rounding error of the product of a and b (Dekker)."""
    large = SPLIT * a
    a_upper = large - (large - a)
    a_lower = a - a_upper
    large = SPLIT * b
    b_upper = large - (large - b)
    b_lower = b - b_upper
    return ((a_upper * b_upper - product) + a_upper * b_lower + a_lower * b_upper) + a_lower * b_lower


def _exp_of(x: Floats, rest: Floats, tables: Any) -> Floats:
    """exp(x + rest), rest far below x; unspecified for NaN."""
    is_inside = (x > -MOST_X) & (x < MOST_X)
    rest = np.where(is_inside, rest, 0.0)
    x = np.where(is_inside, x, np.where(x > 0.0, MOST_X, -MOST_X))
    k = (x * STEPS + TO_WHOLE) - TO_WHOLE
    r = ((x - k * tables.step_upper) - k * tables.step_lower) + rest
    series = r + r * r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0)))))
    step = k.astype(np.int64)
    index, n = step & (POWERS - 1), step >> 6
    upper = tables.power_uppers[index]
    value = upper + (tables.power_lowers[index] + upper * series)
    half = n >> 1  # in two steps, the first of them exact: 2^n itself may not be a double
    return np.asarray(value * np.ldexp(1.0, half) * np.ldexp(1.0, n - half))

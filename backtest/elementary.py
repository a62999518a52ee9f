"""Power, exponential and logarithms from basic operations alone: the same bits on every processor.

NumPy computes these differently on each kind of processor, and the last bits differ.  The kernel of this name uses only the
operations that IEEE 754 rounds correctly, ``+ - * /``, and tables computed here in whole numbers.  Results are within 0.51 units
in the last place.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend

Floats = NDArray[np.float64]

#: Numbers of entries of the tables; the kernels have the same constants.
LOGS, POWERS = 128, 64
#: Factors c are multiples of 2 ** -FACTOR_BITS: so short that their product with half of a double's bits is exact.
FACTOR_BITS = 8
#: Upper parts are multiples of 2 ** -GRAIN_BITS, so that their sums and their products with whole numbers are exact.
GRAIN_BITS = 41
#: Fixed-point numbers here have so many binary places.
FIXED = 160


class Tables(NamedTuple):
    """Constants of the kernel; most are split into an upper part and the rest."""

    factors: Floats  # (LOGS,): c close to 1 / m, for m from 1 / 2 to 1
    log_uppers: Floats  # (LOGS,): -log c
    log_lowers: Floats
    power_uppers: Floats  # (POWERS,): 2 ** (j / POWERS)
    power_lowers: Floats
    log2_upper: float
    log2_lower: float
    step_upper: float  # log 2 / POWERS
    step_lower: float


@functools.cache
def tables() -> Tables:
    """The tables, made once."""
    # Reciprocals of interval midpoints; exact at both ends, so that log 1 is 0 from either side.
    inner = [math.floor((1 << FACTOR_BITS) * 2.0 * LOGS / (LOGS + index + 0.5) + 0.5) for index in range(1, LOGS - 1)]
    factors = [2 << FACTOR_BITS, *inner, 1 << FACTOR_BITS]
    log2 = _log(2, 1)
    logs = [_halves(-_log(factor, 1 << FACTOR_BITS), GRAIN_BITS) for factor in factors]
    powers = [_halves(_exp(log2 * index // POWERS), 52) for index in range(POWERS)]
    log_uppers, log_lowers = np.array(logs).T.copy()
    power_uppers, power_lowers = np.array(powers).T.copy()
    return Tables(
        np.array(factors) / (1 << FACTOR_BITS),
        log_uppers,
        log_lowers,
        power_uppers,
        power_lowers,
        *_halves(log2, GRAIN_BITS),
        *_halves(log2 // POWERS, GRAIN_BITS),
    )


def _log(numerator: int, denominator: int) -> int:
    """log(numerator / denominator), by the series of the inverse hyperbolic tangent."""
    term = ratio = ((numerator - denominator) << FIXED) // (numerator + denominator)
    square, total, n = ratio * ratio >> FIXED, 0, 1
    while term not in (0, -1):  # shifts round down
        total, term, n = total + term // n, term * square >> FIXED, n + 2
    return 2 * total


def _exp(x: int) -> int:
    """exp(x) for x >= 0, by its series."""
    term, total, n = 1 << FIXED, 0, 1
    while term:
        total, term, n = total + term, (term * x >> FIXED) // n, n + 1
    return total


def _halves(x: int, bits: int) -> tuple[float, float]:
    """x as a multiple of 2 ** -bits, and the rest."""
    shift = FIXED - bits
    upper = (x + (1 << shift - 1)) >> shift
    return upper / (1 << bits), (x - (upper << shift)) / (1 << FIXED)


def power(x: ArrayLike, y: ArrayLike) -> Floats:
    """x ** y; zeros, infinities, NaN and negative numbers are handled as by C's ``pow``.

    Parameters
    ----------
    x, y : array_like of float
        Of one shape, or one of them a single number.

    Returns
    -------
    ndarray of float64
    """
    base, exponent = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if exponent.ndim:
        base, exponent = np.broadcast_arrays(base, exponent)
    out = np.empty(base.shape)
    _backend.kernel("elementary").power(_flat(base), _flat(exponent), tables(), out.reshape(-1))
    return out


def exp(x: ArrayLike) -> Floats:
    """e ** x."""
    return _apply("exp", x)


def log(x: ArrayLike) -> Floats:
    """Natural logarithm; -inf of 0, NaN below."""
    return _apply("log", x)


def log1p(x: ArrayLike) -> Floats:
    """Natural logarithm of 1 + x, exact for small x too; -inf of -1, NaN below."""
    return _apply("log1p", x)


def _apply(name: str, x: ArrayLike) -> Floats:
    given = np.asarray(x, dtype=np.float64)
    out = np.empty(given.shape)
    getattr(_backend.kernel("elementary"), name)(_flat(given), tables(), out.reshape(-1))
    return out


def _flat(values: Floats) -> Floats:
    return np.ascontiguousarray(values).reshape(-1)

"""Checks of arguments and their wording, once for both backends; the error classes are in ``_errors.py``.

A message reads *name, rule, what came*: ``fee_rate must be >= 0, got -0.1``.
"""

from __future__ import annotations

import difflib
import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest._errors import (
    BackendUnavailable,
    BacktestError,
    DataError,
    FallbackWarning,
    FingerprintMismatch,
    InputError,
    NumericsWarning,
    ObjectiveError,
    SpaceError,
    StoreError,
    StoreVersionError,
    StoreWarning,
    StrategyError,
)
from backtest._said import SHOWN, said, shown

__all__ = [
    "BackendUnavailable",
    "BacktestError",
    "DataError",
    "FallbackWarning",
    "FingerprintMismatch",
    "Frozen",
    "InputError",
    "NumericsWarning",
    "ObjectiveError",
    "SpaceError",
    "StoreError",
    "StoreVersionError",
    "StoreWarning",
    "StrategyError",
]


T = TypeVar("T")


class Frozen:
    """Base of immutable objects: an attribute is set once, by the constructor, and never changed or deleted.

    Arrays stay read-only through a pickle.
    """

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        if hasattr(self, name) or not hasattr(type(self), name):
            raise AttributeError(f"{type(self).__name__} is immutable; cannot set {name!r}")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; cannot delete {name!r}")

    def __getstate__(self) -> dict[str, Any]:
        slots = (name for kind in type(self).__mro__ for name in getattr(kind, "__slots__", ()))
        return {name: getattr(self, name) for name in slots if hasattr(self, name) and name != "__weakref__"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            setattr(self, name, value)


#: Bounds of prices.  Ratios of two stay below 1e60, so that the fourth powers of returns, and sums of them over all bars that
#: memory holds, are finite.
LEAST_PRICE, MOST_PRICE = 1e-30, 1e30
#: Bound of amounts of money, volumes and units.
MOST = 1e30


def price_bounds(name: str, values: NDArray[np.float64], error: type[InputError] | None = None) -> None:
    """Refuse prices so small or large that results would not be finite; other values are left alone."""
    with np.errstate(invalid="ignore"):
        far = ((values < LEAST_PRICE) & (values > 0)) | ((values > MOST_PRICE) & (values < math.inf))
    if far.any():
        where = tuple(int(axis[0]) for axis in np.nonzero(far))
        at = f"row {where[0]}" + (f", column {where[1]}" if len(where) > 1 else "")
        raise (error or DataError)(f"{name} must be >= {LEAST_PRICE:g} and <= {MOST_PRICE:g}, got {values[where]} ({at})")


def number(
    name: str,
    value: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    open_low: bool = False,
    infinite: bool = False,
    error: type[InputError] = InputError,
) -> float:
    """``value`` as a float inside its bounds (``open_low``: the low bound itself is out)."""
    rule = _rule(low, high, open_low)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise error(f"{name} must be a number{rule}, got {shown(value)}")
    try:
        result = float(value)
    except OverflowError:  # a whole number beyond 1.8e308
        raise error(f"{name} must be a finite number{rule}, got {shown(value)}") from None
    if math.isnan(result) or (math.isinf(result) and not infinite):
        raise error(f"{name} must be a finite number{rule}, got {shown(value)}")
    if (low is not None and (result < low or (open_low and result == low))) or (high is not None and result > high):
        raise error(f"{name} must be{rule}, got {shown(value)}")
    return result


def fraction(name: str, value: float, condition: str = "") -> float:
    """``value`` if it is below 1; 5 was meant as percent."""
    if value >= 1:
        raise InputError(f"{name} must be < 1 {condition and condition + ' '}(a fraction: 0.05 for 5 %), got {value!r}")
    return value


def money(name: str, value: Any) -> float:
    """``value`` as an amount of money > 0."""
    return number(name, number(name, value, low=0.0, open_low=True), high=MOST)


def _rule(low: float | None, high: float | None, open_low: bool) -> str:
    parts = []
    if low is not None:
        parts.append(f"{'>' if open_low else '>='} {low:g}")
    if high is not None:
        parts.append(f"<= {high:g}")
    return " " + " and ".join(parts) if parts else ""


def whole(name: str, value: Any, *, low: int | None = None, high: int | None = None, error: type[InputError] = InputError) -> int:
    """``value`` as an int inside its bounds, of 64 bits in any case; 3.0 is refused, so that a mix-up of units shows."""
    rule = _rule(low, high, False)
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise error(f"{name} must be a whole number{rule}, got {shown(value)}")
    if (low is not None and value < low) or (high is not None and value > high):
        raise error(f"{name} must be a whole number{rule}, got {shown(value)}")
    if not -(2**63) <= value < 2**63:
        raise error(f"{name} must be a whole number of 64 bits, got {shown(value)}")
    return int(value)


def optional_whole(name: str, value: Any, *, low: int | None = None) -> int | None:
    """``value`` as an int inside its bounds, or None."""
    return None if value is None else whole(name, value, low=low)


def choice(name: str, value: Any, allowed: Sequence[Any], error: type[InputError] = InputError) -> Any:
    """``value`` if it is one of ``allowed``; otherwise an error that names the nearest."""
    value = value.item() if isinstance(value, np.generic) else value  # NumPy's strings and numbers are as good as Python's
    if any(value is each or (type(value) is type(each) and value == each) for each in allowed):
        return value
    raise error(f"{name} must be one of {', '.join(map(repr, allowed))}, got {shown(value)}{did_you_mean(value, allowed)}")


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; only True and False are."""
    if not isinstance(value, (bool, np.bool_)):
        raise InputError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def optional_flag(name: str, value: Any) -> bool | None:
    """``value`` if it is True, False or None."""
    return None if value is None else flag(name, value)


def instance(name: str, value: Any, kind: type) -> None:
    """Refuse what is not an instance of a class."""
    if not isinstance(value, kind):
        is_table = kind.__name__ == "Bars" and hasattr(value, "columns")
        got = "a table; bt.Bars.from_frame makes one of it" if is_table else shown(value)
        raise InputError(f"{name} must be a {kind.__name__}, got {got}")


def called(name: str, value: Any, how: str = "") -> None:
    """Refuse what cannot be called, and strategies, which have doors of their own; ``how`` it is called, for the message."""
    if hasattr(type(value), "custom_lines"):
        raise InputError(f"{name} must be callable{how}, got the strategy {shown(value)}; bt.optimize and bt.run take strategies")
    if not callable(value):
        raise InputError(f"{name} must be callable{how}, got {shown(value)}")


def items(name: str, value: Any, error: type[InputError] = InputError) -> list[Any]:
    """The items of an iterable as a list; text and mappings are refused."""
    try:
        if isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)):
            return list(value)
    except (TypeError, ValueError, OverflowError, MemoryError):  # an array without a dimension, a range that no memory holds
        pass
    raise error(f"{name} must be a list, got {shown(value)}")


def file_path(name: str, value: Any, error: type[InputError] = InputError) -> Path:
    """``value`` as a path that the operating system accepts; it need not exist."""
    try:
        path = Path(value)
        path.exists()
    except (TypeError, ValueError, OSError):  # NUL bytes, too long a name
        raise error(f"{name} must be a path, got {shown(value)}") from None
    return path


def each_window(window: Any) -> list[Any]:
    """The windows of an argument that may be one or several of them."""
    return list(window) if isinstance(window, (list, tuple)) else [window]


def bars_mask(name: str, value: ArrayLike, n_bars: int) -> NDArray[np.bool_]:
    """``value`` as True or False for each bar; numbers of bars are refused."""
    mask = as_array(name, value)
    if mask.dtype != bool or mask.shape != (n_bars,):
        raise InputError(f"{name} must be True or False for each bar, shape ({n_bars},), got {mask.dtype} of shape {mask.shape}")
    return mask


def did_you_mean(word: Any, known: Iterable[Any]) -> str:
    """``; did you mean 'x'?`` or nothing."""
    text = word if isinstance(word, str) else shown(word)
    if len(text) > SHOWN:
        return ""
    words = [str(each) for each in known]
    near = difflib.get_close_matches(text, words, n=1)
    if not near and len(text) >= 3:  # the beginning of one: fee of fee_rate
        near = [each for each in words if each.startswith(f"{text}_")][:1]
    return f"; did you mean {near[0]!r}?" if near else ""


def listed(names: Iterable[Any]) -> str:
    """Names for a message: cut where there are many."""
    text = ", ".join(map(str, names)) or "none"
    return text if len(text) <= 5 * SHOWN else f"{text[: 5 * SHOWN]}..."


def known_names(what: str, names: Iterable[str], known: Iterable[str], error: type[InputError] = InputError) -> None:
    """Refuse the first name that is not known, and name the nearest one."""
    known = list(known)
    for name in names:
        if not isinstance(name, (str, int, float, np.integer)) or name not in known:
            raise error(f"{what} {shown(name)} is not known (known: {listed(known)}){did_you_mean(name, known)}")


def caller_level() -> int:
    """``stacklevel`` with which a warning points at the line that called this library."""
    level, frame = 1, sys._getframe(1)
    inside = (str(Path(__file__).parent), functools.__file__)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(inside):
        level, frame = level + 1, frame.f_back
    return level


def refuse_former(given: Iterable[str], former: Mapping[str, str], section: str = "") -> None:
    """Refuse arguments under names they had before; ``former`` maps old names to new."""
    for name in given:
        if name in former:
            what = f"{name} of [{section}]" if section else name
            raise InputError(f"{what} is now {former[name]}")


def renamed(former: Mapping[str, str]) -> Callable[[T], T]:
    """Decorator of a function or a class: its arguments are refused under their former names, see :func:`refuse_former`."""

    def decorate(target: T) -> T:
        called: Any = target.__init__ if isinstance(target, type) else target  # type: ignore[misc]

        @functools.wraps(called)
        def checked(*args: Any, **kwargs: Any) -> Any:
            if not former.keys().isdisjoint(kwargs):
                refuse_former(kwargs, former)
            return called(*args, **kwargs)

        if not isinstance(target, type):
            return cast(T, checked)
        target.__init__ = checked  # type: ignore[misc]
        return target

    return decorate


def vector(
    name: str, value: ArrayLike, *, length: int | None = None, finite: bool = True, error: type[InputError] = InputError
) -> NDArray[np.float64]:
    """``value`` as a C-contiguous float64 vector; the caller's array is never changed."""
    return _floats(name, value, 1, (length,), finite, error)


def matrix(
    name: str,
    value: ArrayLike,
    *,
    shape: tuple[int | None, int | None] = (None, None),
    finite: bool = True,
    error: type[InputError] = InputError,
) -> NDArray[np.float64]:
    """``value`` as a C-contiguous float64 matrix."""
    return _floats(name, value, 2, shape, finite, error)


def as_array(name: str, value: Any, error: type[InputError] = InputError) -> NDArray[Any]:
    """``value`` as NumPy has it, NaN where numbers are masked; lists of unequal lengths are refused."""
    try:
        if isinstance(value, np.ma.MaskedArray) and value.dtype.kind in "iuf":
            return np.ma.filled(value.astype(np.float64), np.nan)
        if np.ma.is_masked(value):
            raise error(
                f"{name} must say True or False everywhere, got a mask on {int(np.ma.getmaskarray(value).sum())} of "
                f"{value.size}; filled(False) says what they count as"
            )
        return np.asarray(value)
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as wrong:
        raise error(f"{name} must be an array, got {type(value).__name__}; {said(wrong)}") from None


def check_prices(name: str, values: NDArray[np.float64], assets: Sequence[Any] | None = None) -> None:
    """Refuse values that are neither a price (finite and > 0) nor NaN (no price); values are (n_bars, n_assets)."""
    if ((values >= LEAST_PRICE) & (values <= MOST_PRICE)).all():
        return
    bad = ~((values > 0) & (values < np.inf) | np.isnan(values))
    if bad.any():
        row, column = np.argwhere(bad)[0].tolist()
        value = values[row, column]
        at = f"row {row}" if assets is None else f"row {row}, asset {assets[column]!r}"
        raise DataError(
            f"{name} must be {'> 0' if np.isfinite(value) else 'finite'}, got {value} ({at}); NaN means that there is no price"
        )
    price_bounds(name, values)


def _floats(
    name: str, value: ArrayLike, rank: int, shape: tuple[int | None, ...], finite: bool, error: type[InputError]
) -> NDArray[np.float64]:
    array = as_array(name, value, error)
    if array.dtype == bool or array.dtype.kind not in "iuf":
        if array.dtype.kind == "O":
            try:
                array = array.astype(np.float64)
            except (TypeError, ValueError, OverflowError):
                raise error(f"{name} must hold numbers, got {_no_number(array)}") from None
        else:
            raise error(f"{name} must hold numbers, got dtype {array.dtype}")
    if array.ndim != rank:
        got = f"shape {array.shape}" if array.ndim else shown(value)
        raise error(f"{name} must have {rank} dimension{'s' * (rank > 1)}, got {got}")
    for axis, expected in enumerate(shape):
        if expected is not None and array.shape[axis] != expected:
            wanted = f"length {expected}" if rank == 1 else f"shape {tuple('any' if n is None else n for n in shape)}"
            raise error(f"{name} must have {wanted}, got {array.shape[0] if rank == 1 else array.shape}")
    result = np.ascontiguousarray(array, dtype=np.float64)
    if finite and not np.isfinite(result).all():
        where = tuple(int(axis[0]) for axis in np.nonzero(~np.isfinite(result)))
        at = f"row {where[0]}" if rank == 1 else f"row {where[0]}, column {where[1]}"
        raise error(f"{name} must be finite, got {result[where]} ({at})")
    return result


def _no_number(array: NDArray[Any]) -> str:
    """The first value of an object array that is not a number, and where it is."""
    for where, each in np.ndenumerate(array):
        try:
            float(each)
        except (TypeError, ValueError, OverflowError):
            at = ", ".join(f"{axis} {place}" for axis, place in zip(("row", "column"), where, strict=False))
            return f"{shown(each)} ({at})" if at else shown(each)
    return f"dtype {array.dtype}"

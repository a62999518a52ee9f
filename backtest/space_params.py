"""Parameters of a space: stepped ranges, continuous ranges and choices, each with its exact values and its identity."""

from __future__ import annotations

import hashlib
import itertools
import math
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen, SpaceError, number
from backtest._said import shown
from backtest.elementary import exp, log

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Share of a step that a value may lie off its grid before it is refused.
SNAP = 1e-6
#: Most choices of a parameter: an iterator may be endless.
MAX_CHOICES = 10_000_000
_MAX_EXACT = 2**53  # whole numbers up to here are float64s
_MAX_FLOAT = int(sys.float_info.max)


def _tag(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


#: Tags that distinguish the whole number 1 from the float 1.0 in a durable identity.
_WHOLE, _FLOAT = _tag("int"), _tag("float")


class Grid(Frozen):
    """A stepped range: whole numbers or decimals ``low, low + step, ..., <= high``; sizes are exact decimal arithmetic.

    With ``is_log``, searches sample whole numbers on a logarithmic scale; the values are the same.
    """

    __slots__ = ("_first", "_scale", "_stride", "high", "is_log", "is_whole", "low", "size", "step")

    def __init__(self, name: str, low: Any, high: Any, step: Any, is_log: bool = False) -> None:
        self.is_whole = all(isinstance(value, (int, np.integer)) for value in (low, high, step))
        for key, value in (("low", low), ("high", high), ("step", step)):
            number(f"{name}.{key}", value, error=SpaceError)
        first, last, stride = (
            Decimal(repr(value.item() if isinstance(value, np.generic) else value)) for value in (low, high, step)
        )
        if stride <= 0:
            raise SpaceError(f"{name}.step must be > 0, got {step!r}")
        if first > last:
            raise SpaceError(f"{name}.low must be <= high ({high!r}), got {low!r}")
        self.size = int((last - first) / stride) + 1
        digits = max(0, *(-int(value.as_tuple().exponent) for value in (first, stride)))
        # All values are whole multiples of 10**-digits: one correctly rounded division gives what float("0.3") gives.
        self._scale = 10**digits
        self._first, self._stride = int(first * self._scale), int(stride * self._scale)
        if digits > 22 or max(abs(self._first), abs(self._first + self.size * self._stride)) >= _MAX_EXACT:
            raise SpaceError(f"{name} must have at most 15 significant digits, got low {low!r}, high {high!r}, step {step!r}")
        self.low, self.high, self.step = float(first), self.at(np.array([self.size - 1])).item(), float(stride)
        if is_log and not (self.is_whole and self.step == 1 and self.low >= 1):
            raise SpaceError(f"{name} must have a step or a log scale, got both; only whole numbers from 1 on, step 1, have both")
        self.is_log = is_log

    def at(self, index: Ints) -> Floats:
        """Values at grid indices."""
        result: Floats = (self._first + index.astype(np.int64) * self._stride) / np.float64(self._scale)
        return result

    def index(self, name: str, values: Floats) -> Ints:
        """Grid indices of values; one off the grid by more than ``SNAP`` of a step is refused."""
        slack = SNAP * self.step
        if len(values) and values.min() >= self.low - slack and values.max() <= self.high + slack:  # False for NaN
            index = np.rint((values - self.low) / self.step).astype(np.int64)
            # Against the exact grid value: on a long grid the division alone is off by more than SNAP.
            if np.abs(values - self.at(index)).max() <= slack:
                return index
        inside = (values >= self.low - self.step) & (values <= self.high + self.step)  # no NaN, nothing infinite
        index = np.rint((np.where(inside, values, self.low) - self.low) / self.step).astype(np.int64)
        bad = ~inside | (np.abs(values - self.at(index)) > slack) | (index < 0) | (index >= self.size)
        if bad.any():
            raise SpaceError(f"{name} must be one of {shown(self)}, got {values[bad][0]:g}")
        return index

    def from_unit(self, share: Floats) -> Floats:
        """Values at shares of the range, 0 to 1: every value has the same width, of its logarithm with ``is_log``."""
        if self.is_log:
            first, last = log([self.low - 0.5, self.high + 0.5])
            return np.clip(np.rint(exp(first * (1.0 - share) + last * share)), self.low, self.high)
        return self.at(_bins(share, self.size))

    def bits(self, index: Ints) -> Ints:
        """Durable identities of the values at grid indices: equal values have equal ones in any range."""
        return (self.at(index) + 0.0).view(np.int64) ^ (_WHOLE if self.is_whole else _FLOAT)

    def decode(self, value: float) -> Any:
        """The value of a batch's number, an int on a grid of whole numbers."""
        if not self.is_whole:
            return float(value)
        if not math.isfinite(value):
            raise SpaceError(f"values must be in {self!r}, got {value!r}")
        return int(value)

    def encode_many(self, values: Sequence[Any]) -> tuple[Floats, NDArray[np.bool_]]:
        """A batch's numbers for many values, snapped to the grid, and which of them are on it."""
        numbers = _numbers(values)
        inside = (numbers >= self.low - self.step) & (numbers <= self.high + self.step)
        index = np.rint((np.where(inside, numbers, self.low) - self.low) / self.step).astype(np.int64)
        snapped = self.at(index)
        return snapped, inside & (index >= 0) & (index < self.size) & (np.abs(numbers - snapped) <= SNAP * self.step)

    def encode(self, name: str, value: Any) -> float:
        """A batch's number for a value, snapped to the grid."""
        index = self.index(name, np.array([number(name, value, error=SpaceError)]))
        return float(self.at(index)[0])

    def values(self) -> list[Any]:
        """Every value, in order."""
        return [self.decode(value) for value in self.at(np.arange(self.size))]

    def __repr__(self) -> str:
        log = " log" if self.is_log else ""
        return f"{self.decode(self.low)}..{self.decode(self.high)} step {self.decode(self.step)}{log}"

    def to_dict(self) -> dict[str, Any]:
        """What :func:`parse_parameter` reads."""
        table = {"low": self.decode(self.low), "high": self.decode(self.high), "step": self.decode(self.step)}
        return table | {"log": True} if self.is_log else table


class Continuous(Frozen):
    """A continuous range of floats; it has no finite size."""

    __slots__ = ("high", "is_log", "low")
    size = math.inf

    def __init__(self, name: str, low: Any, high: Any, is_log: bool) -> None:
        self.low, self.high = number(f"{name}.low", low, error=SpaceError), number(f"{name}.high", high, error=SpaceError)
        if not self.low < self.high:
            raise SpaceError(f"{name}.low must be < high ({high!r}), got {low!r}")
        if math.isinf(self.high - self.low):
            raise SpaceError(f"{name} must have a width that is a float64, got low {low!r} and high {high!r}")
        if is_log and self.low <= 0:
            raise SpaceError(f"{name}.low must be > 0 on a log scale, got {low!r}")
        self.is_log = is_log

    def index(self, name: str, values: Floats) -> Ints:
        """The bits of each value: never rounded; -0.0 and 0.0 are one."""
        bad = ~((values >= self.low) & (values <= self.high))
        if bad.any():
            raise SpaceError(f"{name} must be in {self!r}, got {values[bad][0]:g}")
        return (values + 0.0).view(np.int64)

    def at(self, index: Ints) -> Floats:
        """Values given by their bits."""
        return index.view(np.float64)

    def bits(self, index: Ints) -> Ints:
        """Durable identities of values given by their bits."""
        return index ^ _FLOAT

    def from_unit(self, share: Floats) -> Floats:
        """Values at shares of the range, 0 to 1, on its scale; both ends are values."""
        if not self.is_log:
            return np.clip(self.low * (1.0 - share) + self.high * share, self.low, self.high)
        first, last = log([self.low, self.high])
        inside = np.clip(exp(first * (1.0 - share) + last * share), self.low, self.high)
        # exp(log(low)) need not be low.
        return np.where(share == 0.0, self.low, np.where(share == 1.0, self.high, inside))

    def decode(self, value: float) -> float:
        """The value of a batch's number."""
        return float(value)

    def encode_many(self, values: Sequence[Any]) -> tuple[Floats, NDArray[np.bool_]]:
        """A batch's numbers for many values, and which of them are in the range."""
        numbers = _numbers(values)
        return numbers, (numbers >= self.low) & (numbers <= self.high)

    def encode(self, name: str, value: Any) -> float:
        """A batch's number for a value."""
        result = number(name, value, error=SpaceError)
        self.index(name, np.array([result]))
        return result

    def __repr__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' log' if self.is_log else ''}"

    def to_dict(self) -> dict[str, Any]:
        """What :func:`parse_parameter` reads."""
        return {"low": self.low, "high": self.high, "log": self.is_log}


class Choice(Frozen):
    """A list of values, distinguished by type too: True, 1 and 1.0 differ."""

    __slots__ = ("_bits", "_index_of", "choices")

    def __init__(self, name: str, choices: Iterable[Any]) -> None:
        try:
            given = iter(choices)
        except TypeError:  # a 0-dimensional array
            raise SpaceError(f"{name} must be a list of values, got {shown(choices)}") from None
        self.choices = tuple(
            value.item() if isinstance(value, np.generic) else value for value in itertools.islice(given, MAX_CHOICES + 1)
        )
        if not self.choices:
            raise SpaceError(f"{name} must have at least one value, got none")
        if len(self.choices) > MAX_CHOICES:
            raise SpaceError(f"{name} must have at most {MAX_CHOICES:,} choices, got more")
        for value in self.choices:
            if value is not None and not isinstance(value, (bool, int, float, str)):
                raise SpaceError(f"{name} must hold numbers, strings, booleans or None, got {shown(value)}")
            if isinstance(value, float) and not math.isfinite(value):
                raise SpaceError(f"{name} must hold finite numbers, got {value!r}")
            if isinstance(value, int) and abs(value) > _MAX_FLOAT:
                raise SpaceError(f"{name} must hold numbers that a float64 has room for, got {shown(value)}")
        self._index_of = {(type(value), value): index for index, value in enumerate(self.choices)}
        if len(self._index_of) < len(self.choices):
            twice = next(value for index, value in enumerate(self.choices) if self._index_of[type(value), value] != index)
            raise SpaceError(f"{name} must hold each value once, got {twice!r} twice")
        self._bits = np.array([_choice_bits(value) for value in self.choices], dtype=np.int64)

    @classmethod
    def of_column(cls, name: str, values: Any) -> tuple[Any, Choice]:
        """The distinct values of a column in order of appearance, and each value's place among them.

        Raises a TypeError if a value cannot be told from others.  An array holds numbers of one type, none of them NaN.
        """
        if isinstance(values, np.ndarray):
            import pandas as pd

            places, found = pd.factorize(values)  # ten times as fast as a dictionary
            return places, cls(name, found.tolist())
        distinct: dict[Any, int] = {}
        listed = [distinct.setdefault((value.__class__, value), len(distinct)) for value in values]
        return listed, cls(name, [value for _, value in distinct])

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def at(self, index: Ints) -> Floats:
        """A batch's numbers for indices of choices: the indices."""
        return index.astype(np.float64)

    def index(self, name: str, values: Floats) -> Ints:
        """Indices of choices, checked."""
        if len(values) and values.min() >= 0 and values.max() < self.size:  # False for NaN
            index = values.astype(np.int64)
            if (index == values).all():
                return index
        bad = ~((values >= 0) & (values < self.size) & (values == np.rint(values)))
        if bad.any():
            raise SpaceError(f"{name} must be the index of a choice (0 to {self.size - 1}), got {values[bad][0]:g}")
        return values.astype(np.int64)

    def from_unit(self, share: Floats) -> Floats:
        """Indices of choices at shares of the range, 0 to 1: every choice has the same width."""
        return self.at(_bins(share, self.size))

    def bits(self, index: Ints) -> Ints:
        """Durable identities of choices given by their indices: they depend on the values, not on their order."""
        return self._bits[index]

    def decode(self, value: float) -> Any:
        """The choice of a batch's index."""
        if not 0 <= value < self.size:
            raise SpaceError(f"the index of a choice must be >= 0 and < {self.size:,}, got {value!r}")
        return self.choices[int(value)]

    def encode_many(self, values: Sequence[Any]) -> tuple[Floats, NDArray[np.bool_]]:
        """Indices for many values, and which of them are choices."""
        kinds = (bool, int, float, str, type(None))
        index = np.array(
            [self._index_of.get((type(value), value), -1) if isinstance(value, kinds) else -1 for value in values],
            dtype=np.float64,
        )
        return np.maximum(index, 0.0), index >= 0

    def encode(self, name: str, value: Any) -> float:
        """A batch's index for a choice."""
        value = value.item() if isinstance(value, np.generic) else value
        try:
            return float(self._index_of[type(value), value])
        except (KeyError, TypeError):
            raise SpaceError(f"{name} must be one of {shown(self)}, got {shown(value)}") from None

    def values(self) -> list[Any]:
        """Every choice, in order."""
        return list(self.choices)

    def column(self, values: Floats) -> NDArray[Any]:
        """The choices as ``where`` compares them: float64 with NaN for None, or objects."""
        numeric = all(value is None or isinstance(value, (bool, int, float)) for value in self.choices)
        table = np.array(
            [np.nan if numeric and value is None else value for value in self.choices], dtype=np.float64 if numeric else object
        )
        return np.asarray(table[self.index("choice", values)])

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self.choices)) + "]"

    def to_dict(self) -> dict[str, Any]:
        """What :func:`parse_parameter` reads."""
        return {"choices": list(self.choices)}


Parameter = Grid | Continuous | Choice


def _choice_bits(value: Any) -> int:
    """Durable identity of a choice: that of the number in a range if it is one."""
    if isinstance(value, float) or (type(value) is int and abs(value) <= _MAX_EXACT):
        return int(np.array([value + 0.0]).view(np.int64)[0]) ^ (_WHOLE if type(value) is int else _FLOAT)
    return _tag(f"{type(value).__name__}:{value!r}")


def _numbers(values: Sequence[Any]) -> Floats:
    """Floats of values; NaN for what is no number."""
    try:
        if all(type(value) in (int, float) for value in values):
            return np.array(values, dtype=np.float64)
    except OverflowError:  # a whole number that no float64 holds
        values = [math.nan if type(value) is int and abs(value) > _MAX_FLOAT else value for value in values]
    return np.array([value if type(value) in (int, float) else math.nan for value in values], dtype=np.float64)


def _bins(share: Floats, size: int) -> Ints:
    """Which of ``size`` equal widths of 0 to 1 each share lies in."""
    index = np.minimum(np.floor(share * size), size - 1.0).astype(np.int64)
    return np.minimum(index, size - 1)  # size - 1 itself may have been rounded up

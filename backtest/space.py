"""Spaces of candidates: parameters, exact sizes, enumeration without materialising, and the codec to int64 keys.

A batch is a float64 matrix (n_candidates, n_params): the value of a number, the index of a choice.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen, SpaceError, known_names, matrix, number
from backtest.where import Where

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: ``where`` is counted exactly over at most this many combinations of the parameters it names.
MAX_COUNTED = 10_000_000
#: Share of a step that a value may lie off its grid before it is refused.
SNAP = 1e-6
_CHUNK = 1_000_000  # combinations looked at in one go while counting
_MAX_EXACT = 2**53  # whole numbers up to here are float64s


class Grid(Frozen):
    """A stepped range: whole numbers or decimals ``low, low + step, ..., <= high``; sizes are exact decimal arithmetic."""

    __slots__ = ("_first", "_scale", "_stride", "high", "is_whole", "low", "size", "step")

    def __init__(self, name: str, low: Any, high: Any, step: Any) -> None:
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

    def at(self, index: Ints) -> Floats:
        """Values at grid indices."""
        result: Floats = (self._first + index.astype(np.int64) * self._stride) / np.float64(self._scale)
        return result

    def index(self, name: str, values: Floats) -> Ints:
        """Grid indices of values; one off the grid by more than ``SNAP`` of a step is refused."""
        inside = (values >= self.low - self.step) & (values <= self.high + self.step)  # no NaN, nothing infinite
        index = np.rint((np.where(inside, values, self.low) - self.low) / self.step).astype(np.int64)
        # Against the exact grid value: on a long grid the division alone is off by more than SNAP.
        bad = ~inside | (np.abs(values - self.at(index)) > SNAP * self.step) | (index < 0) | (index >= self.size)
        if bad.any():
            raise SpaceError(f"{name} must be one of {self!r}, got {values[bad][0]:g}")
        return index

    def from_unit(self, share: Floats) -> Floats:
        """Values at shares of the range, 0 to 1: every value has the same width."""
        return self.at(_cells(share, self.size))

    def decode(self, value: float) -> Any:
        """The value of a batch's number, an int on a grid of whole numbers."""
        return int(value) if self.is_whole else float(value)

    def encode(self, name: str, value: Any) -> float:
        """A batch's number for a value, snapped to the grid."""
        index = self.index(name, np.array([number(name, value, error=SpaceError)]))
        return float(self.at(index)[0])

    def values(self) -> list[Any]:
        """Every value, in order."""
        return [self.decode(value) for value in self.at(np.arange(self.size))]

    def __repr__(self) -> str:
        return f"{self.decode(self.low)}..{self.decode(self.high)} step {self.decode(self.step)}"


class Continuous(Frozen):
    """A continuous range of floats; it has no finite size."""

    __slots__ = ("high", "is_log", "low")
    size = math.inf

    def __init__(self, name: str, low: Any, high: Any, is_log: bool) -> None:
        self.low, self.high = number(f"{name}.low", low, error=SpaceError), number(f"{name}.high", high, error=SpaceError)
        if not self.low < self.high:
            raise SpaceError(f"{name}.low must be < high ({high!r}), got {low!r}")
        if is_log and self.low <= 0:
            raise SpaceError(f"{name}.low must be > 0 on a log scale, got {low!r}")
        self.is_log = is_log

    def index(self, name: str, values: Floats) -> Ints:
        """The bits of each value: never rounded; -0.0 and 0.0 are one."""
        bad = ~((values >= self.low) & (values <= self.high))
        if bad.any():
            raise SpaceError(f"{name} must be in {self!r}, got {values[bad][0]:g}")
        return (values + 0.0).view(np.int64)

    def from_unit(self, share: Floats) -> Floats:
        """Values at shares of the range, 0 to 1, on its scale; both ends are values."""
        if not self.is_log:
            return np.clip(self.low * (1.0 - share) + self.high * share, self.low, self.high)
        first, last = math.log(self.low), math.log(self.high)
        inside = np.clip(_exp(first * (1.0 - share) + last * share), self.low, self.high)
        # exp(log(low)) need not be low.
        return np.where(share == 0.0, self.low, np.where(share == 1.0, self.high, inside))

    def decode(self, value: float) -> float:
        """The value of a batch's number."""
        return float(value)

    def encode(self, name: str, value: Any) -> float:
        """A batch's number for a value."""
        result = number(name, value, error=SpaceError)
        self.index(name, np.array([result]))
        return result

    def __repr__(self) -> str:
        return f"{self.low:g}..{self.high:g}{' log' if self.is_log else ''}"


class Choice(Frozen):
    """A list of values, told apart by type too: True, 1 and 1.0 differ."""

    __slots__ = ("_known", "choices")

    def __init__(self, name: str, choices: Iterable[Any]) -> None:
        self.choices = tuple(value.item() if isinstance(value, np.generic) else value for value in choices)
        if not self.choices:
            raise SpaceError(f"{name} must have at least one value, got none")
        for value in self.choices:
            if value is not None and not isinstance(value, (bool, int, float, str)):
                raise SpaceError(f"{name} must hold numbers, strings, booleans or None, got {value!r}")
            if isinstance(value, float) and not math.isfinite(value):
                raise SpaceError(f"{name} must hold finite numbers, got {value!r}")
        self._known = {(type(value), value): index for index, value in enumerate(self.choices)}
        if len(self._known) < len(self.choices):
            twice = next(value for index, value in enumerate(self.choices) if self._known[type(value), value] != index)
            raise SpaceError(f"{name} must hold each value once, got {twice!r} twice")

    @property
    def size(self) -> int:
        """Number of choices."""
        return len(self.choices)

    def at(self, index: Ints) -> Floats:
        """A batch's numbers for indices of choices: the indices."""
        return index.astype(np.float64)

    def index(self, name: str, values: Floats) -> Ints:
        """Indices of choices, checked."""
        bad = ~((values >= 0) & (values < self.size) & (values == np.rint(values)))
        if bad.any():
            raise SpaceError(f"{name} must be the index of a choice (0 to {self.size - 1}), got {values[bad][0]:g}")
        return values.astype(np.int64)

    def from_unit(self, share: Floats) -> Floats:
        """Indices of choices at shares of the range, 0 to 1: every choice has the same width."""
        return self.at(_cells(share, self.size))

    def decode(self, value: float) -> Any:
        """The choice of a batch's index."""
        return self.choices[int(value)]

    def encode(self, name: str, value: Any) -> float:
        """A batch's index for a choice."""
        value = value.item() if isinstance(value, np.generic) else value
        try:
            return float(self._known[type(value), value])
        except (KeyError, TypeError):
            raise SpaceError(f"{name} must be one of {self!r}, got {value!r}") from None

    def values(self) -> list[Any]:
        """Every choice, in order."""
        return list(self.choices)

    def column(self, values: Floats) -> NDArray[Any]:
        """The choices as ``where`` sees them: float64 with NaN for None, or objects."""
        numeric = all(value is None or isinstance(value, (bool, int, float)) for value in self.choices)
        table = np.array([np.nan if numeric and value is None else value for value in self.choices],
                         dtype=np.float64 if numeric else object)
        return np.asarray(table[values.astype(np.int64)])

    def __repr__(self) -> str:
        return "[" + ", ".join(map(repr, self.choices)) + "]"


Parameter = Grid | Continuous | Choice


class Space(Frozen):
    """What a search may choose from.

    Parameters
    ----------
    parameters : mapping of str to range, list, dict or number
        ``range(5, 60)``: whole numbers.  A list or tuple: choices (numbers, strings, booleans, None).
        ``{"low": 0.1, "high": 0.7, "step": 0.1}``: both ends included, decimal arithmetic, so this has 7 values.
        ``{"low": 1e-4, "high": 1.0, "log": True}``, without a step: continuous.  A single value: fixed.
    where : str, optional
        Condition on the parameters, such as ``"fast < slow"``; see :class:`backtest.where.Where`.

    Raises
    ------
    SpaceError
        An empty choice, step <= 0, low > high, a ``where`` that is no expression, names an unknown parameter or
        leaves nothing.

    Notes
    -----
    Immutable and picklable.  Candidates are numbered in lexicographic order, the last parameter fastest; ties of a
    search go to the lower number.
    """

    __slots__ = ("_feasible", "_free", "is_exact", "parameters", "product", "size", "where")

    parameters: dict[str, Parameter]
    where: Where | None
    #: Number of combinations before ``where``.
    product: int | float
    #: Number of candidates; ``math.inf`` with a continuous parameter; an upper bound unless ``is_exact``.
    size: int | float
    is_exact: bool
    _feasible: Ints | None
    _free: list[str]  # parameters that ``where`` does not name

    def __init__(self, parameters: Mapping[str, Any], where: str | None = None) -> None:
        if not isinstance(parameters, Mapping) or not parameters:
            raise SpaceError(f"parameters must be a mapping of names to ranges or choices, got {parameters!r}")
        for name in parameters:
            if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
                raise SpaceError(f"parameter name must be an identifier (dots allowed), got {name!r}")
        self.parameters = {name: _parameter(name, given) for name, given in parameters.items()}
        self.where = None if where is None else Where(where, list(self.parameters))
        self.product = math.prod(parameter.size for parameter in self.parameters.values())
        self._free = [name for name in self.parameters if self.where is None or name not in self.where.names]
        self._feasible = self._counted()
        self.is_exact = self.where is None or self.product == math.inf or self._feasible is not None
        free = math.prod(self.parameters[name].size for name in self._free)
        self.size = self.product if self._feasible is None else len(self._feasible) * free

    def _counted(self) -> Ints | None:
        """Flat numbers of the feasible combinations of the parameters that ``where`` names; None if there are too many."""
        if self.where is None or self.product == math.inf:
            return None
        named = [self.parameters[name] for name in self.where.names]
        combinations = math.prod(parameter.size for parameter in named)
        if combinations > MAX_COUNTED:
            return None
        found = []
        for start in range(0, int(combinations), _CHUNK):
            flat = np.arange(start, min(start + _CHUNK, int(combinations)), dtype=np.int64)
            digits = _digits(flat, [int(parameter.size) for parameter in named])
            columns = {name: _seen(parameter, parameter.at(digit)) for name, parameter, digit
                       in zip(self.where.names, named, digits, strict=True) if not isinstance(parameter, Continuous)}
            found.append(flat[self.where(columns)])
        feasible = np.concatenate(found)
        if not len(feasible):
            raise SpaceError(f"where must leave at least one candidate, got {self.where!r}")
        return feasible

    def __len__(self) -> int:
        if self.size == math.inf:
            raise SpaceError(f"a space with a continuous parameter ({', '.join(self.continuous)}) has no length")
        if self.size > sys.maxsize:
            raise SpaceError(f"a space of {self.size:.3g} candidates is longer than len() can say; space.size can")
        return int(self.size)

    def __repr__(self) -> str:
        return f"Space({', '.join(f'{name}: {parameter!r}' for name, parameter in self.parameters.items())}" + (
            f", where={self.where!r})" if self.where else ")")

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of a batch's columns."""
        return tuple(self.parameters)

    @property
    def continuous(self) -> tuple[str, ...]:
        """Names of the continuous parameters."""
        return tuple(name for name, parameter in self.parameters.items() if isinstance(parameter, Continuous))

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the parameters with more than one value: the dimensions of :meth:`from_unit`."""
        return tuple(name for name, parameter in self.parameters.items() if parameter.size > 1)

    def values(self) -> dict[str, list[Any]]:
        """Every value of every parameter, ``where`` ignored; for finite spaces."""
        len(self)
        return {name: parameter.values() for name, parameter in self.parameters.items() if not isinstance(parameter, Continuous)}

    def candidates(self, positions: Ints) -> tuple[Ints, Floats]:
        """Candidates by position.

        Parameters
        ----------
        positions : ndarray of int64
            0 <= position < size.

        Returns
        -------
        numbers : ndarray of int64
            Lexicographic number of each among all combinations; what ties are broken by.  If the space is not
            ``is_exact``, infeasible positions are left out.
        batch : ndarray of float64, shape (n_candidates, n_params)
        """
        if self.product >= 2**63:
            raise SpaceError(f"a space of {self.product:.3g} combinations cannot be enumerated; use another search")
        sizes = [int(parameter.size) for parameter in self.parameters.values()]
        digits = dict(zip(self.parameters, self._digits_at(positions, sizes), strict=True))
        numbers = np.zeros(len(positions), dtype=np.int64)
        batch = np.empty((len(positions), len(sizes)))
        for column, (name, parameter) in enumerate(self.parameters.items()):
            numbers = numbers * sizes[column] + digits[name]
            assert not isinstance(parameter, Continuous)
            batch[:, column] = parameter.at(digits[name])
        if not self.is_exact:
            inside = self.feasible(batch)
            return numbers[inside], np.ascontiguousarray(batch[inside])
        return numbers, batch

    def _digits_at(self, positions: Ints, sizes: list[int]) -> list[Ints]:
        if self._feasible is None or self.where is None:
            return _digits(positions, sizes)
        rest = math.prod(int(self.parameters[name].size) for name in self._free)
        named = _digits(self._feasible[positions // rest], [int(self.parameters[name].size) for name in self.where.names])
        free = _digits(positions % rest, [int(self.parameters[name].size) for name in self._free])
        digits = dict(zip((*self.where.names, *self._free), (*named, *free), strict=True))
        return [digits[name] for name in self.parameters]

    def feasible(self, batch: Floats) -> NDArray[np.bool_]:
        """Which rows of a batch satisfy ``where``."""
        if self.where is None:
            return np.ones(len(batch), dtype=np.bool_)
        columns = {name: _seen(self.parameters[name], batch[:, self.names.index(name)]) for name in self.where.names}
        return self.where(columns)

    def from_unit(self, points: Any) -> Floats:
        """Candidates at points of the unit cube, which is where searches over continuous parameters move.

        Parameters
        ----------
        points : array_like, shape (n_points, n_varied)
            0 to 1; a column for each parameter of :attr:`varied`.

        Returns
        -------
        ndarray of float64, shape (n_points, n_params)
            A batch.  Stepped values and choices have equal widths of the cube, so that several points may be one
            candidate; continuous ranges are stretched along their scale, logarithmic if they are ``log``.  ``where``
            is ignored.
        """
        varied = self.varied
        points = matrix("points", points, shape=(None, len(varied)), error=SpaceError)
        outside = (points < 0) | (points > 1)
        if outside.any():
            raise SpaceError(f"points must be >= 0 and <= 1, got {points[outside][0]:g}")
        batch = np.empty((len(points), len(self.parameters)))
        for column, (name, parameter) in enumerate(self.parameters.items()):
            share = points[:, varied.index(name)] if name in varied else np.zeros(len(points))
            batch[:, column] = parameter.from_unit(share)
        return batch

    def keys(self, batch: Floats) -> Ints:
        """Identity of each candidate: int64 (n_candidates, n_params).

        Numbers on a grid are their grid index, continuous ones the bits of their value, choices their index.  Equal
        candidates have equal keys, whatever path their floats came by.
        """
        keys = np.empty(batch.shape, dtype=np.int64)
        for column, (name, parameter) in enumerate(self.parameters.items()):
            keys[:, column] = parameter.index(name, batch[:, column])
        return keys

    def encode(self, params: Mapping[str, Any]) -> Floats:
        """One candidate as a row of a batch, snapped to its grids."""
        known_names("parameter", params, self.parameters, SpaceError)
        for name in self.parameters:
            if name not in params:
                raise SpaceError(f"parameter {name!r} must have a value, got none")
        return np.array([parameter.encode(name, params[name]) for name, parameter in self.parameters.items()])

    def decode(self, row: Floats | Sequence[float]) -> dict[str, Any]:
        """A row of a batch as named values."""
        return {name: parameter.decode(value) for (name, parameter), value in zip(self.parameters.items(), row, strict=True)}


def _parameter(name: str, given: Any) -> Parameter:
    if isinstance(given, (Grid, Continuous, Choice)):
        return given
    if isinstance(given, range):
        if not given:
            raise SpaceError(f"{name} must have at least one value, got {given!r}")
        if given.step < 0:
            raise SpaceError(f"{name}.step must be > 0, got {given.step!r}")
        return Grid(name, given[0], given[-1], given.step)
    if isinstance(given, Mapping):
        known_names(f"key of {name}", given, ("low", "high", "step", "log"), SpaceError)
        for key in ("low", "high"):
            if key not in given:
                raise SpaceError(f"{name} must have a {key!r}, got {dict(given)!r}")
        is_log = given.get("log", False)
        if not isinstance(is_log, bool):
            raise SpaceError(f"{name}.log must be True or False, got {is_log!r}")
        if given.get("step") is not None:
            if is_log:
                raise SpaceError(f"{name} must have a step or a log scale, got both")
            return Grid(name, given["low"], given["high"], given["step"])
        return Continuous(name, given["low"], given["high"], is_log)
    if given is None or isinstance(given, (str, bool, int, float, np.generic)):
        return Choice(name, [given])
    if isinstance(given, Iterable):
        return Choice(name, given)
    raise SpaceError(f"{name} must be a range, a list of values, {{'low', 'high', 'step', 'log'}} or a value, got {given!r}")


def _cells(share: Floats, size: int) -> Ints:
    """Which of ``size`` equal widths of 0 to 1 each share lies in."""
    index = np.minimum(np.floor(share * size), size - 1.0).astype(np.int64)
    return np.minimum(index, size - 1)  # size - 1 itself may have been rounded up


def _exp(values: Floats) -> Floats:
    """exp, one value at a time: NumPy's vectorised one may round a value by its place in the array."""
    return np.array([math.exp(value) for value in values.tolist()], dtype=np.float64)


def _seen(parameter: Parameter, values: Floats) -> NDArray[Any]:
    return parameter.column(values) if isinstance(parameter, Choice) else values


def _digits(flat: Ints, sizes: list[int]) -> list[Ints]:
    """Mixed-radix digits of flat indices, the last one fastest."""
    digits = []
    for size in reversed(sizes):
        flat, digit = np.divmod(flat, size)
        digits.append(digit)
    return digits[::-1]


class Order:
    """A seeded order of ``range(size)`` that is computed, not stored: a Feistel network that walks its cycles.

    Parameters
    ----------
    size : int
        Below 2**62.
    seed : int
    """

    __slots__ = ("_half", "_keys", "size")
    ROUNDS = 6

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self._half = np.uint64(max(1, (max(size - 1, 1).bit_length() + 1) // 2))
        self._keys = np.random.SeedSequence(seed).generate_state(self.ROUNDS, np.uint64)

    def __call__(self, start: int, stop: int) -> Ints:
        """The ``start``-th to ``stop``-th position; over the whole range each position comes exactly once."""
        positions = self._mix(np.arange(start, stop, dtype=np.uint64))
        outside = positions >= self.size
        while outside.any():  # a point outside steps on along its cycle until it is inside again
            positions[outside] = self._mix(positions[outside])
            outside = positions >= self.size
        return positions.astype(np.int64)

    def _mix(self, values: NDArray[np.uint64]) -> NDArray[np.uint64]:
        mask = (np.uint64(1) << self._half) - np.uint64(1)
        left, right = values >> self._half, values & mask
        for key in self._keys:
            mixed = (right ^ key) * np.uint64(0x9E3779B97F4A7C15)
            mixed = (mixed ^ (mixed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
            left, right = right, left ^ ((mixed ^ (mixed >> np.uint64(32))) & mask)
        return (left << self._half) | right

"""Spaces of candidates: parameters, exact sizes, enumeration without materialising, and the codec to int64 keys.

A batch is a float64 matrix (n_candidates, n_params): the value of a number, the index of a choice.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen, SpaceError, known_names, matrix
from backtest.space_params import Choice, Continuous, Grid, Parameter, condition, flattened, parameter
from backtest.where import Where

__all__ = ["ABSENT", "MAX_COUNTED", "NONE", "Choice", "Continuous", "Grid", "Parameter", "Space"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: ``where`` is counted exactly over at most this many combinations of the parameters it names.
MAX_COUNTED = 10_000_000
#: Key of a parameter whose ``when`` does not hold; no value has it: -0.0 is 0.0, and grids end at 2**53.
ABSENT = -(2**63)
#: TOML has no null: in a TOML file this word stands for None.
NONE = "none"
_NOTHING = object()
_CHUNK = 1_000_000  # combinations looked at in one go while counting


class Space(Frozen):
    """What a search may choose from.

    Parameters
    ----------
    parameters : mapping of str to range, list, dict, distribution, group or number
        ``range(5, 60)``: whole numbers.  A list or tuple, or ``{"choices": [...]}``: choices (numbers, strings, booleans,
        None).  ``{"low": 0.1, "high": 0.7, "step": 0.1}``: both ends included, decimal arithmetic, so this has 7 values.
        ``{"low": 1e-4, "high": 1.0, "log": True}``, without a step: continuous.  An Optuna distribution.  A single value:
        fixed.  Any other mapping is a group: ``{"trend": {"fast": range(5, 60)}}`` has the parameter ``trend.fast``.
        ``{"low": 5, "high": 60, "step": 1, "when": "kind == 'ema'"}``, and so for choices: the parameter is there only
        where the condition holds, on parameters before it; elsewhere candidates do not have it.
    where : str, optional
        Condition on the parameters, such as ``"fast < slow"``; see :class:`backtest.where.Where`.  A parameter that is not
        there counts as None.

    Raises
    ------
    SpaceError
        An empty choice, step <= 0, low > high, a ``where`` that is no expression, names an unknown parameter or
        leaves nothing.

    Notes
    -----
    Immutable and picklable.  Candidates are numbered in lexicographic order, the last parameter fastest; ties of a
    search go to the lower number.  In a batch, a parameter that is not there has its first value, so that one candidate is
    one row.
    """

    __slots__ = ("_conditions", "_digest", "_feasible", "_free", "_named", "is_exact", "parameters", "product", "size", "where")

    parameters: dict[str, Parameter]
    where: Where | None
    _conditions: dict[str, Where]  # ``when`` of the parameters that have one
    _named: list[str]  # parameters that ``where`` and conditions are about
    _digest: bytes  # of the names
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
        flat = {name: condition(given) for name, given in flattened(parameters).items()}
        if not flat:
            raise SpaceError(f"parameters must be a mapping of names to ranges or choices, got {parameters!r}")
        self.parameters = {name: parameter(name, given) for name, (given, _) in flat.items()}
        self._conditions = {name: self._condition(name, when) for name, (_, when) in flat.items() if when is not None}
        self.where = None if where is None else Where(where, list(self.parameters))
        named = [*([] if self.where is None else self.where.names)]
        for name, when in self._conditions.items():
            named += [*when.names, name]
        self._named = list(dict.fromkeys(named))
        self._free = [name for name in self.parameters if name not in self._named]
        self._digest = hashlib.blake2b("\0".join(sorted(self.parameters)).encode(), digest_size=16).digest()
        self.product = math.prod(each.size for each in self.parameters.values())
        self._feasible = self._counted()
        self.is_exact = not self._named or self.product == math.inf or self._feasible is not None
        free = math.prod(self.parameters[name].size for name in self._free)
        self.size = self.product if self._feasible is None else len(self._feasible) * free

    def _condition(self, name: str, when: Any) -> Where:
        known = list(self.parameters)
        try:
            return Where(when, known[: known.index(name)])
        except SpaceError as error:
            raise SpaceError(f"{name}.when must be a condition on parameters before it, got {when!r}: {error}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], none: str | None = None) -> Space:
        """A space from a table of parameters and, under ``where``, the condition; the word ``none`` stands for None."""
        where = table.get("where")
        return cls({name: _nulls(value, none) for name, value in table.items() if name != "where"}, where=where)

    @classmethod
    def read(cls, path: str | Path) -> Space:
        """A space from a TOML or JSON file: its table ``space``, or else the whole file; see :meth:`from_dict`.

        TOML has no null, so there ``"none"`` stands for None.
        """
        import json
        import tomllib

        path = Path(path)
        if path.suffix not in (".toml", ".json") or not path.is_file():
            raise SpaceError(f"path must be an existing .toml or .json file, got {str(path)!r}")
        is_toml = path.suffix == ".toml"
        try:
            text = path.read_text(encoding="utf-8-sig")
            table = tomllib.loads(text) if is_toml else json.loads(text)
        except UnicodeDecodeError as error:
            raise SpaceError(f"{str(path)!r} must be {path.suffix[1:].upper()} in UTF-8, got {error}; save it as UTF-8") from None
        except (ValueError, OSError, RecursionError) as error:  # what is no TOML and no JSON is a ValueError
            raise SpaceError(f"{str(path)!r} must be {path.suffix[1:].upper()}, got {error}") from None
        if isinstance(table, Mapping) and isinstance(table.get("space"), Mapping):
            table = table["space"]
        if not isinstance(table, Mapping):
            raise SpaceError(f"{str(path)!r} must hold a table of parameters, got {type(table).__name__}")
        return cls.from_dict(table, NONE if is_toml else None)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain lists and numbers; :meth:`from_dict` and, written as JSON, :meth:`read` make it anew."""
        table: dict[str, Any] = {
            name: each.to_dict() | ({"when": self._conditions[name].text} if name in self._conditions else {})
            for name, each in self.parameters.items()}
        return table if self.where is None else table | {"where": self.where.text}

    def _counted(self) -> Ints | None:
        """Flat numbers of the feasible combinations of the named parameters; None if there are too many."""
        if not self._named or self.product == math.inf:
            return None
        named = {name: self.parameters[name] for name in self._named}
        sizes = [int(each.size) for each in named.values()]
        combinations = math.prod(sizes)
        if combinations > MAX_COUNTED:
            return None
        found = []
        for start in range(0, combinations, _CHUNK):
            flat = np.arange(start, min(start + _CHUNK, combinations), dtype=np.int64)
            columns = {name: each.at(digit) for (name, each), digit in zip(named.items(), _digits(flat, sizes), strict=True)}
            found.append(flat[self._allowed(columns)])
        feasible = np.concatenate(found)
        if not len(feasible):
            raise SpaceError(f"where must leave at least one candidate, got {self.where!r}")
        return feasible

    def _seen(self, columns: Mapping[str, Floats]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
        """Columns of a batch as conditions see them, None where a parameter is not there; and where conditional ones are."""
        seen: dict[str, NDArray[Any]] = {}
        there: dict[str, NDArray[np.bool_]] = {}
        for name, each in self.parameters.items():
            if name not in columns:
                continue
            seen[name] = each.column(columns[name]) if isinstance(each, Choice) else columns[name]
            if name in self._conditions:
                there[name] = self._conditions[name](seen)
                nothing: Any = None if seen[name].dtype == object else np.nan
                seen[name] = np.where(there[name], seen[name], nothing)
        return seen, there

    def _allowed(self, columns: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Rows that satisfy ``where``, and whose parameters that are not there have their first values."""
        seen, there = self._seen(columns)
        allowed = np.ones(len(columns[self._named[0]]), dtype=np.bool_) if self.where is None else self.where(seen)
        for name, is_there in there.items():
            allowed &= is_there | (columns[name] == self._first(name))
        return allowed

    def _first(self, name: str) -> float:
        each = self.parameters[name]
        return 0.0 if isinstance(each, Choice) else each.low

    def _columns(self, batch: Floats) -> dict[str, Floats]:
        return {name: batch[:, column] for column, name in enumerate(self.parameters) if name in self._named}

    def present(self, batch: Floats) -> dict[str, NDArray[np.bool_]]:
        """Of each parameter with a ``when``, by name: which rows of a batch have it."""
        return self._seen(self._columns(batch))[1] if self._conditions else {}

    def canonical(self, batch: Floats) -> Floats:
        """A batch with the first value where a parameter is not there."""
        if not self._conditions:
            return batch
        batch = batch.copy()
        for name, is_there in self.present(batch).items():
            batch[~is_there, self.names.index(name)] = self._first(name)
        return batch

    def __len__(self) -> int:
        if self.size == math.inf:
            raise SpaceError(f"a space with a continuous parameter ({', '.join(self.continuous)}) has no length")
        if self.size > sys.maxsize:
            raise SpaceError(f"a space of {self.size:.3g} candidates is longer than len() can say; space.size can")
        return int(self.size)

    def __repr__(self) -> str:
        parts = [f"{name}: {each!r}" + (f" when {self._conditions[name].text}" if name in self._conditions else "")
                 for name, each in self.parameters.items()]
        return f"Space({', '.join(parts)}" + (f", where={self.where!r})" if self.where else ")")

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names, in the order of a batch's columns."""
        return tuple(self.parameters)

    @property
    def continuous(self) -> tuple[str, ...]:
        """Names of the continuous parameters."""
        return tuple(name for name, parameter in self.parameters.items() if isinstance(parameter, Continuous))

    @property
    def conditional(self) -> tuple[str, ...]:
        """Names of the parameters with a ``when``."""
        return tuple(self._conditions)

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
        for column, (name, each) in enumerate(self.parameters.items()):
            numbers = numbers * sizes[column] + digits[name]
            batch[:, column] = each.at(digits[name])
        if not self.is_exact:
            inside = self.feasible(batch)
            return numbers[inside], np.ascontiguousarray(batch[inside])
        return numbers, batch

    def _digits_at(self, positions: Ints, sizes: list[int]) -> list[Ints]:
        if self._feasible is None:
            return _digits(positions, sizes)
        rest = math.prod(int(self.parameters[name].size) for name in self._free)
        named = _digits(self._feasible[positions // rest], [int(self.parameters[name].size) for name in self._named])
        free = _digits(positions % rest, [int(self.parameters[name].size) for name in self._free])
        digits = dict(zip((*self._named, *self._free), (*named, *free), strict=True))
        return [digits[name] for name in self.parameters]

    def feasible(self, batch: Floats) -> NDArray[np.bool_]:
        """Which rows of a batch are candidates: ``where`` holds, and what is not there has its first value."""
        return self._allowed(self._columns(batch)) if self._named else np.ones(len(batch), dtype=np.bool_)

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
        for column, (name, each) in enumerate(self.parameters.items()):
            share = points[:, varied.index(name)] if name in varied else np.zeros(len(points))
            batch[:, column] = each.from_unit(share)
        return self.canonical(batch)

    def keys(self, batch: Floats) -> Ints:
        """Identity of each candidate in this space: int64 (n_candidates, n_params).

        Numbers on a grid are their grid index, continuous ones the bits of their value, choices their index, what is not
        there :data:`ABSENT`.  Equal candidates have equal keys, whatever path their floats came by.
        """
        keys = np.empty(batch.shape, dtype=np.int64)
        for column, (name, each) in enumerate(self.parameters.items()):
            keys[:, column] = each.index(name, batch[:, column])
        for name, is_there in self.present(batch).items():
            keys[~is_there, self.names.index(name)] = ABSENT
        return keys

    def digests(self, batch: Floats) -> list[bytes]:
        """Identity of each candidate in any space: a hash, 16 bytes, of the parameters' names and values.

        The same for the same values in a wider range or another order of parameters; whole numbers and floats differ, as do
        1 and True.  What a store knows results by.
        """
        bits = np.empty(batch.shape, dtype=np.int64)
        rank = {name: place for place, name in enumerate(sorted(self.parameters))}
        for column, (name, each) in enumerate(self.parameters.items()):
            bits[:, rank[name]] = each.bits(each.index(name, batch[:, column]))
        for name, is_there in self.present(batch).items():
            bits[~is_there, rank[name]] = ABSENT
        raw, width, names = bits.tobytes(), len(self.parameters) * bits.itemsize, self._digest
        return [hashlib.blake2b(raw[at : at + width], digest_size=16, key=names).digest() for at in range(0, len(raw), width)]

    def encode(self, params: Mapping[str, Any]) -> Floats:
        """One candidate as a row of a batch, snapped to its grids."""
        known_names("parameter", params, self.parameters, SpaceError)
        row = np.array([each.encode(name, params[name]) if name in params else self._first(name)
                        for name, each in self.parameters.items()])
        there = {name: bool(is_there[0]) for name, is_there in self.present(row[np.newaxis]).items()}
        for name in self.parameters:
            if name not in params and there.get(name, True):
                raise SpaceError(f"parameter {name!r} must have a value, got none")
            if name in params and not there.get(name, True):
                unless = self._conditions[name].text
                raise SpaceError(f"parameter {name!r} must be left out unless {unless}, got {params[name]!r}")
        return row

    def encode_batch(self, params: Sequence[Mapping[str, Any]]) -> tuple[Floats, NDArray[np.bool_]]:
        """Candidates as a batch, and which of them are in this space; rows of those that are not mean nothing."""
        batch = np.empty((len(params), len(self.parameters)))
        inside = np.array([all(name in self.parameters for name in each) for each in params], dtype=np.bool_)
        for column, (name, each) in enumerate(self.parameters.items()):
            given = [one.get(name, _NOTHING) for one in params]
            batch[:, column], known = each.encode_many(given)
            absent = np.array([value is _NOTHING for value in given], dtype=np.bool_)
            batch[absent, column] = self._first(name)
            inside &= known | absent
            if name not in self._conditions:
                inside &= ~absent
        batch[~inside] = [self._first(name) for name in self.parameters]
        for name, is_there in self.present(batch).items():
            inside &= is_there == np.array([name in one for one in params], dtype=np.bool_)
        return batch, inside & self.feasible(batch)

    def decode(self, row: Floats | Sequence[float]) -> dict[str, Any]:
        """A row of a batch as named values, of the parameters that are there."""
        if self._conditions:
            return self.decode_batch(np.asarray(row, dtype=np.float64)[np.newaxis])[0]
        return {name: each.decode(value) for (name, each), value in zip(self.parameters.items(), row, strict=True)}

    def decode_batch(self, batch: Floats) -> list[dict[str, Any]]:
        """Rows of a batch as named values, of the parameters that are there."""
        columns = [[each.decode(value) for value in batch[:, column].tolist()]
                   for column, each in enumerate(self.parameters.values())]
        rows = [dict(zip(self.parameters, values, strict=True)) for values in zip(*columns, strict=True)]
        for name, is_there in self.present(batch).items():
            for row in np.flatnonzero(~is_there).tolist():
                del rows[row][name]
        return rows


def _nulls(value: Any, none: str | None) -> Any:
    """``value`` with None for the word ``none``, at any depth."""
    if none is None:
        return value
    if isinstance(value, Mapping):
        return {name: value[name] if name == "when" else _nulls(value[name], none) for name in value}
    if isinstance(value, list):
        return [_nulls(each, none) for each in value]
    return None if value == none else value


def _digits(flat: Ints, sizes: list[int]) -> list[Ints]:
    """Mixed-radix digits of flat indices, the last one fastest."""
    digits = []
    for size in reversed(sizes):
        flat, digit = np.divmod(flat, size)
        digits.append(digit)
    return digits[::-1]

"""Spaces of candidates: parameters, exact sizes, enumeration without materialising, and identities of candidates.

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

from backtest._checks import Frozen, SpaceError, as_array, known_names, listed, matrix
from backtest._said import shown
from backtest.enumeration import LIMIT, MAX_COUNTED, Enumeration
from backtest.space_given import NONE, flatten, parse_parameter, read_table, replace_none, split_when
from backtest.space_params import Choice, Continuous, Grid, Parameter
from backtest.where import Where

__all__ = ["ABSENT", "MAX_COUNTED", "NONE", "Choice", "Continuous", "Grid", "Parameter", "Space"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Index of a parameter whose ``when`` does not hold; no value has it: -0.0 is 0.0, and grids end at 2**53.
ABSENT = -(2**63)
_NOTHING = object()


class Space(Frozen):
    """What a search may choose from.

    Parameters
    ----------
    parameters : mapping of str to range, list, dict, distribution, group or number
        ``range(5, 60)``: whole numbers.  A list or tuple, or ``{"choices": [...]}``: choices (numbers, strings, booleans,
        None).  ``{"low": 0.1, "high": 0.7, "step": 0.1}``: both ends included, decimal arithmetic, so this has 7 values.
        ``{"low": 1e-4, "high": 1.0, "log": True}``, without a step: continuous.  An Optuna distribution.  A single value:
        fixed.  Any other mapping is a group: ``{"trend": {"fast": range(5, 60)}}`` has the parameter ``trend.fast``.
        ``{"low": 5, "high": 60, "step": 1, "when": "kind == 'ema'"}``, and so for choices: the parameter is present only
        where this condition on parameters before it holds, and absent elsewhere.
    where : str, optional
        Condition on the parameters, such as ``"fast < slow"``; see :class:`backtest.where.Where`.  An absent parameter
        counts as None.

    Raises
    ------
    SpaceError
        An empty choice, step <= 0, low > high, a ``where`` that is no expression, names an unknown parameter or
        leaves nothing.

    Notes
    -----
    Immutable and picklable.  Candidates are numbered in lexicographic order, the last parameter fastest; ties of a
    search go to the lower number.  In a batch, an absent parameter has its first value, so that one candidate is one row.
    """

    __slots__ = ("_conditions", "_enumeration", "_named", "_names_hash", "is_exact", "parameters", "product", "size", "where")

    parameters: dict[str, Parameter]
    where: Where | None
    _conditions: dict[str, Where]  # ``when`` of the parameters that have one
    _named: list[str]  # parameters of ``where`` and of conditions
    _names_hash: bytes
    #: Number of combinations before ``where``.
    product: int | float
    #: Number of candidates; ``math.inf`` with a continuous parameter; an upper bound unless ``is_exact``.
    size: int | float
    is_exact: bool
    _enumeration: Enumeration

    def __init__(self, parameters: Mapping[str, Any], where: str | None = None) -> None:
        if isinstance(parameters, Mapping) and not parameters:
            raise SpaceError("parameters must name at least one parameter that varies, got none; bt.run runs one candidate")
        if not isinstance(parameters, Mapping):
            raise SpaceError(f"parameters must be a mapping of names to ranges or choices, got {shown(parameters)}")
        flat = {name: split_when(given) for name, given in flatten(parameters).items()}
        if not flat:
            raise SpaceError(f"parameters must be a mapping of names to ranges or choices, got {shown(parameters)}")
        self.parameters = {name: parse_parameter(name, given) for name, (given, _) in flat.items()}
        self._conditions = {name: self._condition(name, when) for name, (_, when) in flat.items() if when is not None}
        self.where = None if where is None else Where(where, list(self.parameters))
        named = [*([] if self.where is None else self.where.names)]
        for name, when in self._conditions.items():
            named += [*when.names, name]
        self._named = list(dict.fromkeys(named))
        self._names_hash = hashlib.blake2b("\0".join(sorted(self.parameters)).encode(), digest_size=16).digest()
        self._check_named()
        self._enumeration = Enumeration(
            self.parameters,
            self._named,
            self._conditions,
            self.where,
            lambda columns: self._mask_absent(columns)[0],
            self._allowed,
        )
        self.product, self.size, self.is_exact = (getattr(self._enumeration, each) for each in ("product", "size", "is_exact"))
        if not self.size:
            raise SpaceError(f"where must leave at least one candidate, got {self.where!r}")

    def _check_named(self) -> None:
        """Refuse choices in conditions that no float64 holds: conditions compare float64s."""
        for name in self._named:
            each = self.parameters[name]
            for value in each.choices if isinstance(each, Choice) else ():
                if type(value) is int and int(float(value)) != value:
                    raise SpaceError(f"{name} must hold whole numbers up to 2**53 to be in a condition, got {value!r}")

    def _condition(self, name: str, when: Any) -> Where:
        names = list(self.parameters)
        try:
            return Where(when, names[: names.index(name)])
        except SpaceError as error:
            raise SpaceError(f"{name}.when must be a condition on parameters before it, got {shown(when)}: {error}") from None

    @classmethod
    def from_dict(cls, table: Mapping[str, Any], none: str | None = None) -> Space:
        """A space from a table of parameters and, under ``where``, the condition; the word ``none`` stands for None."""
        if not isinstance(table, Mapping):
            raise SpaceError(f"a space must be a table of parameters, got {shown(table)}")
        where = table.get("where")
        return cls({name: replace_none(value, none) for name, value in table.items() if name != "where"}, where=where)

    @classmethod
    def read(cls, path: str | Path) -> Space:
        """A space from a TOML or JSON file: its table ``space``, or else the whole file; see :meth:`from_dict`.

        TOML has no null, so there ``"none"`` stands for None.
        """
        table, none = read_table(path)
        return cls.from_dict(table, none)

    def to_dict(self) -> dict[str, Any]:
        """The space as plain lists and numbers; :meth:`from_dict` and, written as JSON, :meth:`read` restore it."""
        table: dict[str, Any] = {
            name: each.to_dict() | ({"when": self._conditions[name].text} if name in self._conditions else {})
            for name, each in self.parameters.items()
        }
        return table if self.where is None else table | {"where": self.where.text}

    def _mask_absent(self, columns: Mapping[str, Floats]) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
        """Columns of a batch with None where a parameter is absent, and rows in which each conditional one is present."""
        masked: dict[str, NDArray[Any]] = {}
        present: dict[str, NDArray[np.bool_]] = {}
        for name, each in self.parameters.items():
            if name not in columns:
                continue
            masked[name] = each.column(columns[name]) if isinstance(each, Choice) else columns[name]
            if name in self._conditions:
                present[name] = self._conditions[name](masked)
                nothing: Any = None if masked[name].dtype == object else np.nan
                masked[name] = np.where(present[name], masked[name], nothing)
        return masked, present

    def _allowed(self, columns: Mapping[str, Floats]) -> NDArray[np.bool_]:
        """Rows that satisfy ``where``, and whose absent parameters have their first values."""
        masked, present = self._mask_absent(columns)
        allowed = np.ones(len(columns[self._named[0]]), dtype=np.bool_) if self.where is None else self.where(masked)
        for name, is_present in present.items():
            allowed &= is_present | (columns[name] == self._first(name))
        return allowed

    def _first(self, name: str) -> float:
        each = self.parameters[name]
        return 0.0 if isinstance(each, Choice) else each.low

    def _columns(self, batch: Floats) -> dict[str, Floats]:
        return {name: batch[:, column] for column, name in enumerate(self.parameters) if name in self._named}

    def present(self, batch: Floats) -> dict[str, NDArray[np.bool_]]:
        """Rows of a batch in which each parameter with a ``when`` is present, by name."""
        return self._mask_absent(self._columns(batch))[1] if self._conditions else {}

    def canonical(self, batch: Floats) -> Floats:
        """A batch with the first value where a parameter is absent."""
        if not self._conditions:
            return batch
        batch = batch.copy()
        for name, is_present in self.present(batch).items():
            batch[~is_present, self.names.index(name)] = self._first(name)
        return batch

    def __len__(self) -> int:
        if self.size == math.inf:
            raise SpaceError(f"a space with a continuous parameter ({listed(self.continuous)}) has no length")
        if self.size > sys.maxsize:
            raise SpaceError(f"a space of {_sized(self.size)} candidates is longer than len() can say; space.size can")
        return int(self.size)

    def __repr__(self) -> str:
        parts = [
            f"{name}: {each!r}" + (f" when {self._conditions[name].text}" if name in self._conditions else "")
            for name, each in self.parameters.items()
        ]
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
        for name, each in self.parameters.items():
            if each.size > MAX_COUNTED:
                raise SpaceError(f"{name} must have at most {MAX_COUNTED:,} values to be listed, got {each.size:,}")
        return {name: each.values() for name, each in self.parameters.items() if not isinstance(each, Continuous)}

    def candidates(self, positions: Ints) -> tuple[Ints, Floats]:
        """Candidates by position.

        Parameters
        ----------
        positions : ndarray of int64
            0 <= position < size.

        Returns
        -------
        numbers : ndarray of int64
            Lexicographic number of each among all combinations, which breaks ties.  If the space is not
            ``is_exact``, infeasible positions are left out.
        batch : ndarray of float64, shape (n_candidates, n_params)
        """
        if self._enumeration.upper_bound >= LIMIT:
            raise SpaceError(f"a space of {_sized(self.product)} combinations cannot be enumerated; use another search")
        positions = self._checked(positions)
        indices = self._enumeration.indices(positions, lambda columns: self._mask_absent(columns)[0])
        numbers = self._enumeration.numbers(indices)
        batch = np.empty((len(positions), len(indices)))
        for column, each in enumerate(self.parameters.values()):
            batch[:, column] = each.at(indices[column])
        if not self.is_exact:
            inside = self.feasible(batch)
            return numbers[inside], np.ascontiguousarray(batch[inside])
        return numbers, batch

    def _checked(self, positions: Any) -> Ints:
        array = as_array("positions", positions, SpaceError)
        if array.ndim != 1 or (len(array) and array.dtype.kind not in "iu"):
            raise SpaceError(f"positions must be a vector of whole numbers, got {array.dtype} of shape {array.shape}")
        outside = (array < 0) | (array >= int(self.size))
        if outside.any():
            row = int(outside.argmax())
            raise SpaceError(f"positions must be >= 0 and < {self.size:,}, the size of the space, got {array[row]} (row {row})")
        return array.astype(np.int64)

    @property
    def can_enumerate(self) -> bool:
        """Whether :meth:`candidates` works: a finite space of fewer than 2**62 positions."""
        return self._enumeration.upper_bound < LIMIT // 2

    def feasible(self, batch: Floats) -> NDArray[np.bool_]:
        """Which rows of a batch are candidates: ``where`` holds, and absent parameters have their first values."""
        return self._allowed(self._columns(batch)) if self._named else np.ones(len(batch), dtype=np.bool_)

    def from_unit(self, points: Any) -> Floats:
        """Candidates at points of the unit cube, in which continuous searches move.

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

    def grid_index(self, batch: Floats) -> Ints:
        """Identity of each candidate in this space: int64 (n_candidates, n_params).

        Numbers on a grid are their grid index, continuous ones the bits of their value, choices their index, absent
        parameters :data:`ABSENT`.  Equal candidates have equal indices, however their floats were computed.
        """
        index = np.empty(batch.shape, dtype=np.int64)
        for column, (name, each) in enumerate(self.parameters.items()):
            index[:, column] = each.index(name, batch[:, column])
        for name, is_present in self.present(batch).items():
            index[~is_present, self.names.index(name)] = ABSENT
        return index

    def digests(self, batch: Floats) -> list[bytes]:
        """Identity of each candidate in any space: a hash, 16 bytes, of the parameters' names and values.

        The same for the same values in a wider range or another order of parameters; whole numbers and floats differ, as do
        1 and True.  A store identifies results by it.
        """
        bits = np.empty(batch.shape, dtype=np.int64)
        column_of = {name: rank for rank, name in enumerate(sorted(self.parameters))}
        for column, (name, each) in enumerate(self.parameters.items()):
            bits[:, column_of[name]] = each.bits(each.index(name, batch[:, column]))
        for name, is_present in self.present(batch).items():
            bits[~is_present, column_of[name]] = ABSENT
        raw, width, names = bits.tobytes(), len(self.parameters) * bits.itemsize, self._names_hash
        return [hashlib.blake2b(raw[at : at + width], digest_size=16, key=names).digest() for at in range(0, len(raw), width)]

    def encode(self, params: Mapping[str, Any]) -> Floats:
        """One candidate as a row of a batch, snapped to its grids."""
        known_names("parameter", params, self.parameters, SpaceError)
        row = np.array(
            [each.encode(name, params[name]) if name in params else self._first(name) for name, each in self.parameters.items()]
        )
        present = {name: bool(is_present[0]) for name, is_present in self.present(row[np.newaxis]).items()}
        for name in self.parameters:
            if name not in params and present.get(name, True):
                raise SpaceError(f"parameter {name!r} must have a value, got none")
            if name in params and not present.get(name, True):
                when = self._conditions[name].text
                raise SpaceError(f"parameter {name!r} must be left out unless {when}, got {params[name]!r}")
        return row

    def encode_batch(self, params: Sequence[Mapping[str, Any]]) -> tuple[Floats, NDArray[np.bool_]]:
        """Candidates as a batch, and which of them are in this space; rows of the others are undefined."""
        batch = np.empty((len(params), len(self.parameters)))
        inside = np.array([all(name in self.parameters for name in each) for each in params], dtype=np.bool_)
        for column, (name, each) in enumerate(self.parameters.items()):
            values = [candidate.get(name, _NOTHING) for candidate in params]
            batch[:, column], is_valid = each.encode_many(values)
            absent = np.array([value is _NOTHING for value in values], dtype=np.bool_)
            batch[absent, column] = self._first(name)
            inside &= is_valid | absent
            if name not in self._conditions:
                inside &= ~absent
        batch[~inside] = [self._first(name) for name in self.parameters]
        for name, is_present in self.present(batch).items():
            inside &= is_present == np.array([name in candidate for candidate in params], dtype=np.bool_)
        return batch, inside & self.feasible(batch)

    def decode(self, row: Floats | Sequence[float]) -> dict[str, Any]:
        """A row of a batch as values by name, of the parameters that are present."""
        if self._conditions:
            return self.decode_batch(np.asarray(row, dtype=np.float64)[np.newaxis])[0]
        return {name: each.decode(value) for (name, each), value in zip(self.parameters.items(), row, strict=True)}

    def decode_batch(self, batch: Floats) -> list[dict[str, Any]]:
        """Rows of a batch as values by name, of the parameters that are present."""
        columns = [
            [each.decode(value) for value in batch[:, column].tolist()] for column, each in enumerate(self.parameters.values())
        ]
        rows = [dict(zip(self.parameters, values, strict=True)) for values in zip(*columns, strict=True)]
        for name, is_present in self.present(batch).items():
            for row in np.flatnonzero(~is_present).tolist():
                del rows[row][name]
        return rows


def _sized(size: float) -> str:
    return f"{size:.3g}" if size < 1e300 else shown(size)

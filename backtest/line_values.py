"""Values: distinct parameter values of a block of candidates, and the values of lines, computed once for each.

Indicators come from TA-Lib.  A line is NaN only in a leading warm-up; NaN later is an error.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from backtest._checks import DataError, InputError
from backtest._said import shown
from backtest.bars import Bars
from backtest.expr import Arithmetic, Line, Node, Param, Value
from backtest.space import Choice, Grid, Parameter

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
#: From a node to the combinations of parameter values that it is used with.
Combinations = Callable[[Node], Iterable[dict[str, Any]]]

#: Longest window of TA-Lib's functions, and the largest number of bars that a float holds exactly.
TALIB_LONGEST, MOST_BARS = 100_000, 2**53
#: Possible combinations per candidate up to which distinct ones are found with a lookup table; with more, by sorting.
_LOOKUP_PER_CANDIDATE = 64


class DistinctParams:
    """Distinct combinations of a node's parameters in a block of candidates.

    Attributes
    ----------
    names : tuple of str
        Parameters that have a column, in the columns' order.
    fixed : dict
        The others, with their values.
    """

    def __init__(self, node: Any, block: Block) -> None:
        params = node.params if isinstance(node, Node) else {}
        self.node, self._block = node, block
        self.names = tuple(name for name in block.columns if name in params)
        self.fixed = {name: block.defaults[name] for name in params if name not in block.columns}
        self._unique_rows = block.unique_rows(self.names)

    def __len__(self) -> int:
        return len(self._unique_rows.candidates)

    @property
    def candidates(self) -> Ints:
        """One candidate of each combination, shape (n_distinct,)."""
        return self._unique_rows.candidates

    @property
    def inverse(self) -> Ints:
        """Number of each candidate's combination, shape (n_candidates,)."""
        return self._unique_rows.inverse

    @property
    def keys(self) -> list[Any]:
        """The combinations: (type, value) of a single parameter, else a tuple of these."""
        return self._block.keys(self.names)

    @functools.cached_property
    def structure(self) -> tuple[Any, ...]:
        """What the values depend on beside the keys; not the parameters' names: ``sma(close, a)`` is ``sma(close, b)``."""
        return memo_key(self.node, self.fixed | {name: (at,) for at, name in enumerate(self.names)})

    def params(self, keys: Iterable[Any] | None = None) -> Iterator[dict[str, Any]]:
        """The node's parameters at some of the keys, or at all."""
        for key in self.keys if keys is None else keys:
            typed = [key] if len(self.names) == 1 else key
            yield self.fixed | {name: value for name, (_, value) in zip(self.names, typed, strict=True)}

    def column(self) -> tuple[Parameter, Floats]:
        """Of a node with a single parameter: the parameter, and the number that a batch has for each of its distinct values."""
        [name] = self.names
        return self._block.columns[name], self._block.column(name)[self.candidates]


class UniqueRows(NamedTuple):
    """Distinct combinations of the values of some columns of a block, as :func:`numpy.unique` gives them."""

    candidates: Ints  # (n_distinct,): one candidate of each combination
    inverse: Ints  # (n_candidates,): number of each candidate's combination


class Block:
    """Candidates that are evaluated together; each column is factorised once.

    Parameters
    ----------
    batch : ndarray of float64, shape (n_candidates, n_params)
    columns : mapping of str to Parameter
        What the batch's columns hold, in order.
    defaults : mapping of str to value
        Values of parameters without a column.
    """

    def __init__(self, batch: Floats, columns: Mapping[str, Parameter], defaults: Mapping[str, Any]) -> None:
        self.batch, self.columns, self.defaults = batch, columns, defaults
        self._positions = {name: position for position, name in enumerate(columns)}
        self._codes: dict[str, tuple[Floats, Ints]] = {}
        self._values: dict[str, list[Any]] = {}
        self._unique_rows: dict[tuple[str, ...], UniqueRows] = {}
        self._keys: dict[tuple[str, ...], list[Any]] = {}
        self._distinct: dict[int, DistinctParams] = {}

    def __len__(self) -> int:
        return len(self.batch)

    def distinct(self, node: Any) -> DistinctParams:
        """Distinct combinations of the parameters of a node, or of a number, which has none."""
        cached = self._distinct.get(id(node))
        if cached is None:
            cached = self._distinct[id(node)] = DistinctParams(node, self)  # keeps the node alive, so that its id stays its own
        return cached

    def combinations(self, node: Any) -> list[dict[str, Any]]:
        """Distinct combinations of a node's parameters as dicts."""
        return list(self.distinct(node).params())

    def column(self, name: str) -> Floats:
        """A column of the batch."""
        return self.batch[:, self._positions[name]]

    def codes(self, name: str) -> tuple[Floats, Ints]:
        """Distinct numbers of a column, ascending, and each candidate's index among them."""
        cached = self._codes.get(name)
        if cached is None:
            cached = self._codes[name] = _factorised(self.column(name), self.columns[name])
        return cached

    def values(self, name: str) -> list[Any]:
        """Parameter values of a column's distinct numbers."""
        cached = self._values.get(name)
        if cached is None:
            cached = self._values[name] = [self.columns[name].decode(value) for value in self.codes(name)[0].tolist()]
        return cached

    def unique_rows(self, names: tuple[str, ...]) -> UniqueRows:
        """Distinct combinations of the values of columns."""
        cached = self._unique_rows.get(names)
        if cached is None:
            cached = self._unique_rows[names] = _distinct([self.codes(name) for name in names], len(self))
        return cached

    def keys(self, names: tuple[str, ...]) -> list[Any]:
        """Distinct combinations of the values of columns, as :attr:`DistinctParams.keys`."""
        cached = self._keys.get(names)
        if cached is None:
            columns = [[(value.__class__, value) for value in self.values(name)] for name in names]
            if len(columns) == 1:
                cached = columns[0]
            elif names:
                codes = [self.codes(name)[1][self.unique_rows(names).candidates].tolist() for name in names]
                parts = [[column[code] for code in each] for column, each in zip(columns, codes, strict=True)]
                cached = list(zip(*parts, strict=True))
            else:
                cached = [()]
            self._keys[names] = cached
        return cached


def _factorised(column: Floats, parameter: Parameter) -> tuple[Floats, Ints]:
    """Distinct values of a column, ascending, and each row's index among them."""
    if (column[1:] > column[:-1]).all():
        return column, np.arange(len(column))
    low, step = (parameter.low, parameter.step) if isinstance(parameter, Grid) else (0.0, 1.0)
    if isinstance(parameter, (Grid, Choice)) and parameter.size < max(1024, _LOOKUP_PER_CANDIDATE * len(column)):
        index = np.rint((column - low) / step).astype(np.int64)
        table = np.full(int(parameter.size), -1, dtype=np.int64)
        if len(index) and index.min() >= 0 and index.max() < len(table):
            table[index] = np.arange(len(index))
            present = np.flatnonzero(table >= 0)
            values = column[table[present]]
            table[present] = np.arange(len(present))
            codes = table[index]
            if np.array_equal(values[codes], column):  # else values lie off the grid: sort
                return values, codes
    values, codes = np.unique(column, return_inverse=True)
    return values, codes.astype(np.int64, copy=False)


def _distinct(columns: Sequence[tuple[Floats, Ints]], n_candidates: int) -> UniqueRows:
    if not columns:
        return UniqueRows(np.zeros(min(n_candidates, 1), dtype=np.int64), np.zeros(n_candidates, dtype=np.int64))
    codes, size = columns[0][1], len(columns[0][0])
    for values, more in columns[1:]:
        if size * len(values) >= 2**62:
            distinct, codes = np.unique(codes, return_inverse=True)
            size = len(distinct)
        codes, size = codes * len(values) + more, size * len(values)
    if (codes[1:] > codes[:-1]).all():  # a sweep in order: all combinations differ
        return UniqueRows(np.arange(n_candidates), np.arange(n_candidates))
    if size <= max(1024, _LOOKUP_PER_CANDIDATE * n_candidates):
        table = np.full(size, -1, dtype=np.int64)
        table[codes] = np.arange(n_candidates)
        present = np.flatnonzero(table >= 0)
        candidates = table[present]
        table[present] = np.arange(len(present))
        return UniqueRows(candidates, table[codes])
    _, candidates, inverse = np.unique(codes, return_index=True, return_inverse=True)
    return UniqueRows(candidates, inverse)


class Source(Line):
    """A line that is computed from bars."""

    __slots__ = ()

    def compute(self, memo: LineMemo, params: Mapping[str, Any]) -> Floats:
        """The values over ``memo.bars``."""
        raise NotImplementedError(f"{type(self).__name__}.compute")

    def warm_up(self, memo: LineMemo, combinations: Combinations) -> int:
        """The longest warm-up over combinations of the parameters' values; none, unless a subclass has one."""
        return 0


class Price(Source):
    """A column of the bars: open, high, low, close or volume."""

    __slots__ = ()

    def compute(self, memo: LineMemo, params: Mapping[str, Any]) -> Floats:
        """The bars' own array."""
        array = getattr(memo.bars, self.op)
        if array is None:
            raise DataError(f"bars must have a {self.op} column for the line {shown(self.op)}, got none")
        return cast(Floats, array)


class IndicatorDefinition(NamedTuple):
    """How an indicator with a window of n bars is computed."""

    compute: str | Callable[[Bars, Floats, int], Floats]  #: TA-Lib's function of a line, or a function of bars, line and window.
    lookback: int  #: Its first value is on bar n + lookback: -1 or 0.
    smallest: int = 1  #: Smallest window.  TA-Lib refuses 1; where it is allowed here, the result is the line itself.
    largest: int = TALIB_LONGEST


class Indicator(Source):
    """An indicator with a window: arguments are a line and the window, or the window alone if it reads several prices."""

    __slots__ = ("definition",)
    definition: IndicatorDefinition

    def __init__(self, name: str, args: tuple[Any, ...], definition: IndicatorDefinition) -> None:
        self.definition = definition
        super().__init__(name, args)

    def compute(self, memo: LineMemo, params: Mapping[str, Any]) -> Floats:
        """The values, all NaN where the warm-up is as long as the bars."""
        entries = [memo.entry(arg, params) for arg in self.args]
        if any(value is None for value, _ in entries):
            raise numbers_needed(self, params)
        source, first = entries[0] if len(entries) == 2 else (memo.bars.close, 0)
        if not isinstance(source, np.ndarray):
            raise InputError(f"source of {self!r} must be a line, got {shown(source)}")
        n, (compute, lookback, smallest, _) = whole_window(entries[-1][0], self.definition, self), self.definition
        if n < smallest:
            raise InputError(f"window of {self!r} must be >= {smallest}, got {n}")
        if first + n + lookback >= len(source):
            return np.full(len(source), np.nan)
        if callable(compute):
            return np.ascontiguousarray(compute(memo.bars, source, n))
        return source.copy() if n == 1 else np.ascontiguousarray(talib_function(compute)(source, timeperiod=n))

    def warm_up(self, memo: LineMemo, combinations: Combinations) -> int:
        """Warm-up of its line plus that of the longest window."""
        window, before = self.args[-1], memo.warm_up(self.args[0], combinations)
        if isinstance(window, Node):
            windows = [memo.value(cast(Value, window), params) for params in combinations(window)]
            window = max((whole_window(n, self.definition, self) for n in windows if n is not None), default=1)
        return before + int(window) + self.definition.lookback


@functools.cache
def talib_function(name: str) -> Callable[..., Floats]:
    """A function of TA-Lib, which is imported by the first indicator that is computed, because it imports pandas."""
    import talib

    return cast(Callable[..., Floats], getattr(talib, name))


def whole_window(n: Any, definition: IndicatorDefinition, node: Node | None = None) -> int:
    """A window as a whole number; errors name the node, if there is one."""
    name = f"window{'' if node is None else f' of {node!r}'}"
    is_number = isinstance(n, (int, float, np.integer, np.floating)) and not isinstance(n, bool)
    if not is_number or not 1 <= n < math.inf or n != int(n):
        near = '; a range of whole numbers has "step": 1, or is range(low, high + 1)' if isinstance(n, float) and n > 1 else ""
        raise InputError(f"{name} must be a whole number >= 1, got {shown(n)}{near}")
    if n > definition.largest:
        by = "; TA-Lib takes no more" if definition.largest == TALIB_LONGEST else ""
        raise InputError(f"{name} must be <= {definition.largest:,}, got {shown(n)}{by}")
    return int(n)


class WarmUpUnknown(InputError):
    """The longest warm-up of a space has too many combinations to be found; not needed where a start is given."""


class LineMemo:
    """Values of lines over one set of bars, each computed once per distinct parameter value while memory lasts.

    Parameters
    ----------
    bars : Bars
    max_bytes : int
        Bound of the cache; the least recently used line is evicted.
    """

    def __init__(self, bars: Bars, max_bytes: int) -> None:
        self.bars = bars
        self._memo: LRUCache[Any, tuple[Floats, int]] = LRUCache(max_bytes, getsizeof=lambda entry: entry[0].nbytes)
        self._lock = threading.RLock()

    def value(self, node: Value | float, params: Mapping[str, Any]) -> Floats | float | None:
        """The node's values, shape (n_bars,); a number if it does not depend on bars; None if a parameter is None."""
        return self.entry(node, params)[0]

    def entry(self, node: Value | float, params: Mapping[str, Any]) -> tuple[Floats | float | None, int]:
        """The node's values as in :meth:`value`, and the length of their warm-up (leading NaN)."""
        if not isinstance(node, Node):
            return node, 0
        if isinstance(node, Param):
            return params[node.name], 0
        if isinstance(node, Price):
            return node.compute(self, params), 0
        key = memo_key(node, params)
        with self._lock:
            cached = self._memo.get(key)
        if cached is not None:
            return cached
        result = self._arithmetic(node, params) if isinstance(node, Arithmetic) else cast(Source, node).compute(self, params)
        if not isinstance(result, np.ndarray):
            return result, 0
        cached = result, count_warm_up(result, node, params)
        result.flags.writeable = False
        if result.nbytes <= self._memo.maxsize:
            with self._lock:
                self._memo[key] = cached
        return cached

    def _arithmetic(self, node: Arithmetic, params: Mapping[str, Any]) -> Floats | float | None:
        values = [self.value(arg, params) for arg in node.args]
        if any(value is None for value in values):
            return None
        if any(isinstance(value, str) for value in values):
            raise numbers_needed(node, params)
        return cast("Floats | float", node.apply(values))

    def warm_up(self, node: Any, combinations: Combinations) -> int:
        """Longest warm-up of a line, parameter or number over combinations of its parameters' values."""
        if isinstance(node, Arithmetic):
            return max(self.warm_up(arg, combinations) for arg in node.args)
        return node.warm_up(self, combinations) if isinstance(node, Source) else 0


def memo_key(node: Node, params: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a node's values depend on: its structure, with the values (and their types) of the parameters below it.

    Not their names: ``sma(close, fast)`` at 20 is ``sma(close, slow)`` at 20.
    """
    parts: list[Any] = [*node.key[:2]]
    for arg in node.args:
        if isinstance(arg, Param):
            parts.append((params[arg.name].__class__, params[arg.name]))
        else:
            parts.append(memo_key(arg, params) if isinstance(arg, Node) else arg)
    return tuple(parts)


def count_warm_up(values: Floats, node: Node, params: Mapping[str, Any]) -> int:
    """Number of leading NaN; a NaN after the first value is an error that names line, parameters and row."""
    missing = np.isnan(values)
    n_missing = int(np.count_nonzero(missing))
    first = n_missing if n_missing in (0, len(values)) else int(missing.argmin())
    if n_missing != first:
        row = first + int(missing[first:].argmax())
        raise DataError(f"line {node!r} must be NaN only in its warm-up, got NaN (row {row}) at {shown_params(node, params)}")
    return first


def numbers_needed(node: Node, params: Mapping[str, Any]) -> InputError:
    """The error of a node that needs numbers for its parameters and got others."""
    return InputError(f"{node!r} must have numbers for its parameters, got {shown_params(node, params)}")


def shown_params(node: Node, params: Mapping[str, Any]) -> str:
    """The node's parameters as text."""
    return ", ".join(f"{name} = {shown(params[name])}" for name in node.params) or "no parameters"

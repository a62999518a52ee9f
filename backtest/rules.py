"""Rules: conditions on lines, and the strategy that is made of them.  A strategy is data, never code in a hot loop."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from cachetools import LRUCache
from numpy.typing import ArrayLike, NDArray

from backtest._checks import Frozen, InputError
from backtest.bars import Bars
from backtest.expr import Condition, Param, Value, compare, merged_params, operand, param
from backtest.lines import Combinations, LineMemo, memo_key

Mask = NDArray[np.bool_]

CONDITIONS = ("enter_long", "exit_long", "enter_short", "exit_short")
LEVELS = ("stop_loss", "take_profit", "trailing_stop")

_COMPARE: dict[str, Any] = {">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal}


def crosses_above(a: Value | float, b: Value | float) -> Condition:
    """True where ``a[t] > b[t]`` and ``a[t-1] <= b[t-1]``; needs one bar more than the lines themselves."""
    return Condition("crosses_above", (operand("a", a), operand("b", b)))


def crosses_below(a: Value | float, b: Value | float) -> Condition:
    """True where ``a[t] < b[t]`` and ``a[t-1] >= b[t-1]``."""
    # The same event seen from the other line, so that both share what is computed.
    return Condition("crosses_above", (operand("b", b), operand("a", a)))


def above(a: Value | float, b: Value | float) -> Condition:
    """True where ``a > b``; the same as the operator."""
    return compare(">", a, b)


def below(a: Value | float, b: Value | float) -> Condition:
    """True where ``a < b``; the same as the operator."""
    return compare("<", a, b)


class Strategy(Frozen):
    """Entries, exits and levels of a trade, as data.

    Parameters
    ----------
    enter_long, exit_long, enter_short, exit_short : Condition, optional
        At least one entry.  A side without an entry is never held.
    stop_loss, take_profit, trailing_stop : float, parameter or line, optional
        Distance from the entry price (slippage included) as a fraction, > 0; sampled at the decision bar if it is a
        line; None is off.
    max_bars : int or parameter, optional
        Exit decided at the ``max_bars``-th close held.
    name : str, optional
        For tables.
    """

    __slots__ = ("enter_long", "enter_short", "exit_long", "exit_short", "max_bars", "name", "params", "stop_loss",
                 "take_profit", "trailing_stop")

    enter_long: Condition | None
    exit_long: Condition | None
    enter_short: Condition | None
    exit_short: Condition | None
    stop_loss: Value | float | None
    take_profit: Value | float | None
    trailing_stop: Value | float | None
    max_bars: Value | float | None
    name: str
    params: dict[str, Any]

    def __init__(self, *, enter_long: Condition | None = None, exit_long: Condition | None = None,
                 enter_short: Condition | None = None, exit_short: Condition | None = None,
                 stop_loss: Value | float | None = None, take_profit: Value | float | None = None,
                 trailing_stop: Value | float | None = None, max_bars: Param | int | None = None, name: str = "strategy") -> None:
        given = {"enter_long": enter_long, "exit_long": exit_long, "enter_short": enter_short, "exit_short": exit_short}
        for key, condition in given.items():
            if condition is not None and not isinstance(condition, Condition):
                raise InputError(f"{key} must be a condition (for example crosses_above(...) or a > b), got {condition!r}")
        if enter_long is None and enter_short is None:
            raise InputError("enter_long or enter_short must be given, got neither")
        levels = {"stop_loss": stop_loss, "take_profit": take_profit, "trailing_stop": trailing_stop, "max_bars": max_bars}
        for key, level in levels.items():
            if level is not None:
                levels[key] = operand(key, level)
        for key, value in (given | levels | {"name": str(name)}).items():
            setattr(self, key, value)
        self.params = merged_params([*given.values(), *levels.values()])

    def __repr__(self) -> str:
        parts = [
            f"{name}={getattr(self, name)!r}" for name in (*CONDITIONS, *LEVELS, "max_bars") if getattr(self, name) is not None
        ]
        return f"Strategy({self.name}: {', '.join(parts)})"

    @property
    def key(self) -> tuple[Any, ...]:
        """Structure of the whole strategy: equal for strategies that decide equally."""
        nodes = [getattr(self, name) for name in (*CONDITIONS, *LEVELS, "max_bars")]
        return tuple(getattr(node, "key", node) for node in nodes)

    def conditions(self, sides: str) -> list[Condition | None]:
        """The four conditions in the order of ``CONDITIONS``; those of a disabled side are None."""
        off = {"long": "short", "short": "long"}.get(sides, "neither")
        return [None if name.endswith(off) else getattr(self, name) for name in CONDITIONS]


def from_arrays(entries: ArrayLike | None = None, exits: ArrayLike | None = None, short_entries: ArrayLike | None = None,
                short_exits: ArrayLike | None = None, *, stop_loss: Value | float | None = None,
                take_profit: Value | float | None = None, trailing_stop: Value | float | None = None,
                max_bars: Param | int | None = None, name: str = "signals") -> Strategy:
    """A strategy from ready signals.

    Parameters
    ----------
    entries, exits, short_entries, short_exits : array_like of bool, shape (n_bars,) or (n_bars, n_candidates)
        Arrays, DataFrames or Series.  Two-dimensional ones add a parameter ``column`` (0, 1, ...): the candidate.
    stop_loss, take_profit, trailing_stop, max_bars
        As in :class:`Strategy`.
    """
    arrays = {"enter_long": entries, "exit_long": exits, "enter_short": short_entries, "exit_short": short_exits}
    conditions = {key: None if array is None else _array_condition(key, array) for key, array in arrays.items()}
    widths = {
        condition.args[0].shape
        for condition in conditions.values()
        if condition is not None and condition.args[0].array.ndim == 2
    }
    rows = {condition.args[0].shape[0] for condition in conditions.values() if condition is not None}
    if len(rows) > 1 or len({width[1] for width in widths}) > 1:
        shapes = [condition.args[0].shape for condition in conditions.values() if condition is not None]
        raise InputError(f"signals must have equal shapes, or one column for all, got {', '.join(map(str, shapes))}")
    return Strategy(**conditions, stop_loss=stop_loss, take_profit=take_profit, trailing_stop=trailing_stop,
                    max_bars=max_bars, name=name)


class _Signals:
    """A read-only boolean array that is known by its content; equal content, equal text."""

    __slots__ = ("array", "digest")

    def __init__(self, array: Mask) -> None:
        array.flags.writeable = False
        self.array = array
        self.digest = hashlib.blake2b(array.tobytes(), digest_size=16, person=str(array.shape)[:16].encode()).hexdigest()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Signals) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __reduce__(self) -> tuple[type[_Signals], tuple[Mask]]:
        return _Signals, (self.array,)

    def __repr__(self) -> str:
        return f"array{self.shape}"


def _array_condition(name: str, values: ArrayLike) -> Condition:
    array = np.array(values, order="F", copy=True)
    if array.dtype != bool:
        raise InputError(f"{name} must be boolean, got dtype {array.dtype}")
    if array.ndim not in (1, 2):
        raise InputError(f"{name} must have shape (n_bars,) or (n_bars, n_candidates), got {array.shape}")
    signals = _Signals(array)
    return Condition("array", (signals, *([param("column")] if array.ndim == 2 else [])), identity=signals.digest)


class MaskMemo:
    """Masks of conditions over one set of bars, each computed once per distinct parameter value while memory lasts.

    A mask is False in its warm-up, also below ``~``; callers do not read it there anyway.
    """

    def __init__(self, bars: Bars, lines: LineMemo, max_bytes: int) -> None:
        self.bars, self.lines = bars, lines
        self._memo: LRUCache[Any, tuple[Mask, int]] = LRUCache(max_bytes, getsizeof=lambda entry: entry[0].nbytes)

    def mask(self, condition: Condition, params: Mapping[str, Any]) -> tuple[Mask, int]:
        """The condition on every bar, shape (n_bars,), and the length of its warm-up."""
        key = memo_key(condition, params)
        known = self._memo.get(key)
        if known is None:
            known = self._compute(condition, params)
            if known[0].nbytes <= self._memo.maxsize:
                self._memo[key] = known
        return known

    def _compute(self, condition: Condition, params: Mapping[str, Any]) -> tuple[Mask, int]:
        op, n_bars = condition.op, len(self.bars)
        if op == "array":
            return self._column(condition, params), 0
        if op == "~":
            inside, warm = self.mask(condition.args[0], params)
            result = ~inside
            result[:warm] = False
            return result, warm
        if op in ("&", "|"):
            (left, warm_left), (right, warm_right) = (self.mask(arg, params) for arg in condition.args)
            warm = max(warm_left, warm_right)
            result = left & right if op == "&" else left | right
            result[:warm] = False
            return result, warm
        values: list[Any] = []
        warm = 0
        for arg in condition.args:
            value, leading = self.lines.entry(arg, params)
            if not isinstance(value, np.ndarray) and (not isinstance(value, (int, float)) or value != value):
                raise InputError(f"{condition!r} must have numbers for its parameters, got {value!r}")
            warm = max(warm, leading)
            values.append(value)
        compare_with = np.greater if op == "crosses_above" else _COMPARE[op]
        result = np.broadcast_to(compare_with(*values), (n_bars,))
        if op == "crosses_above":
            # No NaN from the warm-up on, so "was not above" is "was at or below".
            crossed = np.zeros(n_bars, dtype=np.bool_)
            np.logical_and(result[1:], ~result[:-1], out=crossed[1:])
            crossed[: warm + 1] = False
            return crossed, min(warm + 1, n_bars)
        return np.ascontiguousarray(result), warm

    def _column(self, condition: Condition, params: Mapping[str, Any]) -> Mask:
        array = condition.args[0].array
        if array.shape[0] != len(self.bars):
            raise InputError(f"signals must have one row per bar ({len(self.bars)}), got {array.shape[0]}")
        if array.ndim == 1:
            return np.ascontiguousarray(array)
        column = params["column"]
        if not isinstance(column, (int, float)) or not 0 <= column < array.shape[1] or column != int(column):
            raise InputError(f"column must be a whole number from 0 to {array.shape[1] - 1}, got {column!r}")
        return np.ascontiguousarray(array[:, int(column)])

    def warm_up(self, condition: Condition | None, combinations: Combinations, cross: int = 1) -> int:
        """Longest warm-up over all combinations of the condition's parameters, ``cross`` bars more for a cross."""
        if condition is None or condition.op == "array":
            return 0
        if condition.op in ("~", "&", "|"):
            return max(self.warm_up(arg, combinations, cross) for arg in condition.args)
        longest = max(self.lines.warm_up(arg, combinations) for arg in condition.args)
        return longest + (cross if condition.op == "crosses_above" else 0)

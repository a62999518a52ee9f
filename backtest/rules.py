"""Rules: conditions on lines, and the strategy that is made of them.  A strategy is data, never code in a hot loop."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import Frozen, InputError, whole
from backtest.compute.threads import run_rows, thread_count
from backtest.expr import Condition, Param, Value, compare, merged_params, operand, param

Words = NDArray[np.uint64]

CONDITIONS = ("enter_long", "exit_long", "enter_short", "exit_short")
LEVELS = ("stop_loss", "take_profit", "trailing_stop")
#: Measured: microseconds to pack one candidate's bar.
_PACK_US = 0.0001


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
    stop_loss, take_profit : float, parameter or line, optional
        Distance from the entry price (slippage included) as a fraction, > 0: 0.05 is 5 %; sampled at the decision bar if it is a
        line; None is off.  Below 1 where the level would lie at 0 or below, which is never touched: stops of longs, targets of
        shorts.
    trailing_stop : float, parameter or line, optional
        The same distance from the best of the entry price and the closes since, known before the bar: the level is
        base x (1 - trailing_stop) for a long, base x (1 + trailing_stop) for a short.
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


def from_arrays(entries: ArrayLike | PackedSignals | None = None, exits: ArrayLike | PackedSignals | None = None,
                short_entries: ArrayLike | PackedSignals | None = None, short_exits: ArrayLike | PackedSignals | None = None, *,
                stop_loss: Value | float | None = None, take_profit: Value | float | None = None,
                trailing_stop: Value | float | None = None, max_bars: Param | int | None = None,
                name: str = "signals") -> Strategy:
    """A strategy from ready signals.

    Parameters
    ----------
    entries, exits, short_entries, short_exits : array_like of bool, shape (n_bars,) or (n_bars, n_candidates), or PackedSignals
        Arrays, DataFrames, Series or packed bits.  Those of several candidates add a parameter ``column`` (0, 1, ...): the
        candidate.  They are packed once, an eighth of the memory of booleans; Fortran order, as of DataFrames, is packed fastest.
    stop_loss, take_profit, trailing_stop, max_bars
        As in :class:`Strategy`.
    """
    arrays = {"enter_long": entries, "exit_long": exits, "enter_short": short_entries, "exit_short": short_exits}
    _check_indexes(arrays)
    packed: dict[PackedSignals, PackedSignals] = {}  # equal signals are one object, so that they are compared here only
    conditions = {key: None if array is None else _array_condition(key, array, packed) for key, array in arrays.items()}
    shapes = [condition.args[0].shape for condition in conditions.values() if condition is not None]
    if len({shape[0] for shape in shapes}) > 1 or len({shape[1] for shape in shapes if len(shape) > 1}) > 1:
        raise InputError(f"signals must have equal shapes, or one column for all, got {', '.join(map(str, shapes))}")
    return Strategy(**conditions, stop_loss=stop_loss, take_profit=take_profit, trailing_stop=trailing_stop,
                    max_bars=max_bars, name=name)


def _check_indexes(arrays: dict[str, Any]) -> None:
    """DataFrames and Series of one strategy must be of the same bars."""
    indexes: dict[str, Any] = {name: array.index for name, array in arrays.items() if hasattr(array, "iloc")}
    first = next(iter(indexes), "")
    for name, index in indexes.items():
        other = indexes[first]
        if len(index) == len(other) and not index.equals(other):  # another length is another shape
            row = next((row for row in range(len(index)) if index[row] != other[row]), 0)
            raise InputError(f"{name} must have the index of {first}, got {index[row]!r} for {other[row]!r} (row {row})")


class PackedSignals:
    """Ready signals as bits: bit ``t % 64`` of word ``t // 64`` is the close of bar ``t``.

    Known by its content: equal content, equal identity.  Immutable; the words are copied.

    Parameters
    ----------
    words : array_like of uint64, shape (n_words,) or (n_candidates, n_words)
        ``n_words`` is ``n_bars / 64``, rounded up; bits from ``n_bars`` on are 0.  One row per candidate, or one for all.
    n_bars : int

    Attributes
    ----------
    words : ndarray of uint64
        Read-only.
    n_bars : int
    digest : str
        Hash of the content, computed when it is first asked for: a search never does, and hashing takes longer than packing.
    """

    __slots__ = ("_digest", "n_bars", "words")

    words: Words
    n_bars: int
    _digest: str | None

    def __init__(self, words: ArrayLike, n_bars: int) -> None:
        n_bars, array = whole("n_bars", n_bars, low=0), np.array(words, order="C", copy=True)
        if array.dtype != np.uint64 or array.ndim not in (1, 2) or array.shape[-1] != -(-n_bars // 64):
            raise InputError(f"words must be uint64 of shape ({-(-n_bars // 64)},) or (n_candidates, {-(-n_bars // 64)}), got "
                             f"{array.dtype} of shape {array.shape}")
        if n_bars % 64 and (array[..., -1] >> np.uint64(n_bars % 64)).any():
            raise InputError(f"words must have no bits from n_bars ({n_bars}) on, got some")
        self._hold(array, n_bars)

    def _hold(self, words: Words, n_bars: int) -> None:
        words.flags.writeable = False
        for name, value in (("words", words), ("n_bars", n_bars), ("_digest", None)):
            object.__setattr__(self, name, value)

    @classmethod
    def pack(cls, name: str, values: ArrayLike) -> PackedSignals:
        """Booleans of shape (n_bars,) or (n_bars, n_candidates); ``name`` is for complaints."""
        array = np.asarray(values)
        if array.dtype != bool:
            raise InputError(f"{name} must be boolean, got dtype {array.dtype}")
        if array.ndim not in (1, 2):
            raise InputError(f"{name} must have shape (n_bars,) or (n_bars, n_candidates), got {array.shape}")
        n_bars, kernel = len(array), _backend.kernel("masks")
        words = np.empty((1 if array.ndim == 1 else array.shape[1], -(-n_bars // 64)), dtype=np.uint64)
        if array.ndim == 2 and not array.flags.f_contiguous:
            given, work, width = np.ascontiguousarray(array).view(np.uint8), kernel.pack_columns, 64  # a line of the cache
        else:
            rows = np.ascontiguousarray(array.reshape(n_bars, -1).T) if array.size else np.empty((len(words), n_bars), np.bool_)
            given, work, width = rows.view(np.uint8), kernel.pack_rows, 1
        n = len(words)
        run_rows(lambda start, stop: work(given, start * width, min(stop * width, n), words), -(-n // width), thread_count(None),
                 _PACK_US * n_bars * width)
        packed = cls.__new__(cls)
        packed._hold(words[0] if array.ndim == 1 else words, n_bars)
        return packed

    @property
    def digest(self) -> str:
        """Hash of the content."""
        if self._digest is None:
            shape = f"{self.n_bars} {self.words.shape}".encode()
            object.__setattr__(self, "_digest", hashlib.blake2b(self.words.data, digest_size=16, key=shape[:64]).hexdigest())
        return self._digest  # type: ignore[return-value]

    @property
    def is_shared(self) -> bool:
        """One row for all candidates."""
        return self.words.ndim == 1

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the booleans: (n_bars,) or (n_bars, n_candidates)."""
        return (self.n_bars,) if self.is_shared else (self.n_bars, len(self.words))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"PackedSignals is immutable; cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"PackedSignals is immutable; cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, PackedSignals) or self.shape != other.shape:
            return self is other
        return np.array_equal(self.words, other.words)

    def __hash__(self) -> int:
        return hash((self.shape, self.words.ravel()[:64].tobytes()))  # equal content has an equal beginning

    def __reduce__(self) -> tuple[type[PackedSignals], tuple[Words, int]]:
        return PackedSignals, (self.words, self.n_bars)

    def __repr__(self) -> str:
        return f"array{self.shape}"


class _Content(Frozen):
    """Identity of a node that holds signals: equal for equal signals, and its text says their digest."""

    __slots__ = ("signals",)

    def __init__(self, signals: PackedSignals) -> None:
        self.signals = signals

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self.signals == other.signals

    def __hash__(self) -> int:
        return hash(self.signals)

    def __repr__(self) -> str:
        return repr(self.signals.digest)


def _array_condition(name: str, values: ArrayLike | PackedSignals, packed: dict[PackedSignals, PackedSignals]) -> Condition:
    signals = values if isinstance(values, PackedSignals) else PackedSignals.pack(name, values)
    signals = packed.setdefault(signals, signals)
    return Condition("array", (signals, *([] if signals.is_shared else [param("column")])), identity=_Content(signals))

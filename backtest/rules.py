"""Rules: conditions on lines, and the strategy that is made of them.  A strategy is data, never code in a hot loop."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import Frozen, InputError, as_array, whole
from backtest._said import shown
from backtest.compute.threads import run_rows, thread_count
from backtest.expr import Condition, Param, Value, compare, merged_params, operand, param
from backtest.labels import Labels, check_alike, check_labels, labels, labels_of_bars

__all__ = [
    "Condition",
    "PackedSignals",
    "Param",
    "Strategy",
    "Value",
    "above",
    "below",
    "crosses_above",
    "crosses_below",
    "from_arrays",
    "param",
]

Words = NDArray[np.uint64]
#: Name of an argument and the labels of its rows, if it has any.
Source = tuple[str, Labels] | None

CONDITIONS = ("enter_long", "exit_long", "enter_short", "exit_short")
LEVELS = ("stop_loss", "take_profit", "trailing_stop")
#: Measured: microseconds to pack one candidate's bar.
_PACK_US = 0.0001


def __dir__() -> list[str]:
    return __all__


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

    __slots__ = (
        "enter_long",
        "enter_short",
        "exit_long",
        "exit_short",
        "max_bars",
        "name",
        "params",
        "stop_loss",
        "take_profit",
        "trailing_stop",
    )

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

    def __init__(
        self,
        *,
        enter_long: Condition | None = None,
        exit_long: Condition | None = None,
        enter_short: Condition | None = None,
        exit_short: Condition | None = None,
        stop_loss: Value | float | None = None,
        take_profit: Value | float | None = None,
        trailing_stop: Value | float | None = None,
        max_bars: Param | int | None = None,
        name: str = "strategy",
    ) -> None:
        given = {"enter_long": enter_long, "exit_long": exit_long, "enter_short": enter_short, "exit_short": exit_short}
        for key, condition in given.items():
            if condition is not None and not isinstance(condition, Condition):
                raise InputError(f"{key} must be a condition (for example crosses_above(...) or a > b), got {shown(condition)}")
        if enter_long is None and enter_short is None:
            raise InputError("enter_long or enter_short must be given, got neither")
        levels = {"stop_loss": stop_loss, "take_profit": take_profit, "trailing_stop": trailing_stop, "max_bars": max_bars}
        for key, level in levels.items():
            if level is not None:
                levels[key] = operand(key, level)
        for key, value in (given | levels | {"name": name if isinstance(name, str) else shown(name)}).items():
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


def from_arrays(
    entries: ArrayLike | PackedSignals | None = None,
    exits: ArrayLike | PackedSignals | None = None,
    short_entries: ArrayLike | PackedSignals | None = None,
    short_exits: ArrayLike | PackedSignals | None = None,
    *,
    stop_loss: Value | float | None = None,
    take_profit: Value | float | None = None,
    trailing_stop: Value | float | None = None,
    max_bars: Param | int | None = None,
    name: str = "signals",
) -> Strategy:
    """A strategy from ready signals.

    Parameters
    ----------
    entries, exits, short_entries, short_exits : array_like of bool, shape (n_bars,) or (n_bars, n_candidates), or PackedSignals
        Arrays, DataFrames, Series or packed bits.  Those of several candidates add a parameter ``column`` (0, 1, ...): the
        candidate; (n_bars, 1) beside them is one column for all.  They are packed once, an eighth of the memory of booleans;
        Fortran order, as of DataFrames, is packed fastest.

        The index of a Series or DataFrame must be that of the bars it meets, and is compared then; arrays, and an index that
        only counts 0, 1, 2, ..., go by position.
    stop_loss, take_profit, trailing_stop, max_bars
        As in :class:`Strategy`.
    """
    given = {"entries": entries, "exits": exits, "short_entries": short_entries, "short_exits": short_exits}
    arrays = {
        name: array if isinstance(array, PackedSignals) else PackedSignals.pack(name, array)
        for name, array in given.items()
        if array is not None
    }
    shapes = [signals.shape for signals in arrays.values()]
    widths = {shape[1] for shape in shapes if len(shape) > 1}
    if len({shape[0] for shape in shapes}) > 1 or len(widths - {1}) > 1:
        raise InputError(f"signals must have equal shapes, or one column for all, got {', '.join(map(str, shapes))}")
    check_alike(given, fill=", fill_value=False")
    _check_columns(given)
    packed: dict[PackedSignals, PackedSignals] = {}  # equal signals are one object, so that they are compared here only
    conditions = {
        condition: _array_condition(arrays[name], max(widths, default=1), packed)
        for condition, name in zip(CONDITIONS, given, strict=True)
        if name in arrays
    }
    return Strategy(
        **conditions, stop_loss=stop_loss, take_profit=take_profit, trailing_stop=trailing_stop, max_bars=max_bars, name=name
    )


def _check_columns(given: Mapping[str, Any]) -> None:
    """Candidates of equal names must be in equal order; other names are other words for them."""
    columns = {name: list(array.columns) for name, array in given.items() if hasattr(array, "iloc") and hasattr(array, "columns")}
    first = next(iter(columns), "")
    for name, mine in columns.items():
        of = columns[first]
        if mine != of and len(mine) == len(of) and set(mine) == set(of):
            at = next(at for at in range(len(of)) if mine[at] != of[at])
            raise InputError(
                f"{name} must have the columns of {first} in their order, got {mine[at]!r} for {of[at]!r} (column "
                f"{at}); {name}[{first}.columns] has"
            )


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
    source : tuple of str and Labels, or None
        Name of the argument and the labels of its rows, where they had any; no part of the content.
    """

    __slots__ = ("_digest", "n_bars", "source", "words")

    words: Words
    n_bars: int
    source: Source
    _digest: str | None

    def __init__(self, words: ArrayLike, n_bars: int) -> None:
        n_bars, array = whole("n_bars", n_bars, low=0), np.array(as_array("words", words), order="C", copy=True)
        if array.dtype != np.uint64 or array.ndim not in (1, 2) or array.shape[-1] != -(-n_bars // 64):
            raise InputError(
                f"words must be uint64 of shape ({-(-n_bars // 64)},) or (n_candidates, {-(-n_bars // 64)}), got "
                f"{array.dtype} of shape {array.shape}"
            )
        if n_bars % 64 and (array[..., -1] >> np.uint64(n_bars % 64)).any():
            raise InputError(f"words must have no bits from n_bars ({n_bars}) on, got some")
        self._hold(array, n_bars)

    def _hold(self, words: Words, n_bars: int, source: Source = None) -> PackedSignals:
        words.flags.writeable = False
        for name, value in (("words", words), ("n_bars", n_bars), ("source", source), ("_digest", None)):
            object.__setattr__(self, name, value)
        return self

    def _of(self, words: Words, source: Source) -> PackedSignals:
        """The same bars, other words or another source."""
        return PackedSignals.__new__(PackedSignals)._hold(words, self.n_bars, source)

    @classmethod
    def pack(cls, name: str, values: ArrayLike) -> PackedSignals:
        """Booleans of shape (n_bars,) or (n_bars, n_candidates); ``name`` is for complaints."""
        array = as_array(name, values)
        if array.dtype != bool:
            raise InputError(
                f"{name} must be boolean, got dtype {array.dtype}; astype(bool) makes numbers so, and "
                "shift(1, fill_value=False) keeps what is so"
            )
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
        run_rows(
            lambda start, stop: work(given, start * width, min(stop * width, n), words),
            -(-n // width),
            thread_count(None),
            _PACK_US * n_bars * width,
        )
        rows_of = labels(values)
        source = None if rows_of is None else (name, rows_of)
        return cls.__new__(cls)._hold(words[0] if array.ndim == 1 else words, n_bars, source)

    def check_labels(self, bars: Any) -> None:
        """Refuse bars whose times are not the labels that the rows came with."""
        if self.source is not None:
            name, rows_of = self.source
            check_labels(name, rows_of, labels_of_bars(bars), len(bars), fill=", fill_value=False")

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
        raise AttributeError(f"PackedSignals is immutable; cannot set {shown(name)}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"PackedSignals is immutable; cannot delete {shown(name)}")

    def __eq__(self, other: object) -> bool:
        if self is other or not isinstance(other, PackedSignals) or self.shape != other.shape:
            return self is other
        return np.array_equal(self.words, other.words)

    def __hash__(self) -> int:
        return hash((self.shape, self.words.ravel()[:64].tobytes()))  # equal content has an equal beginning

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.words, self.n_bars, self.source)

    def __repr__(self) -> str:
        return f"array{self.shape}"


def _restored(words: Words, n_bars: int, source: Source) -> PackedSignals:
    signals = PackedSignals(words, n_bars)
    return signals if source is None else signals._of(signals.words, source)


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


def _array_condition(signals: PackedSignals, width: int, packed: dict[PackedSignals, PackedSignals]) -> Condition:
    """Signals as a condition; one column beside ``width`` others is one for all."""
    if width > 1 and len(signals.words) == 1 and not signals.is_shared:
        signals = signals._of(signals.words[0], signals.source)
    known = packed.setdefault(signals, signals)
    if known.source is None and signals.source is not None:  # labels of either are compared
        known = signals
    if known.is_shared:
        return Condition("array", (known,), identity=_Content(known))
    column = param("column", 0) if len(known.words) == 1 else param("column")  # the only one need not be named
    return Condition("array", (known, column), identity=_Content(known))


def check_signals(conditions: Iterable[Condition | None], bars: Any) -> None:
    """Refuse ready signals whose labels are not the times of the bars."""
    waiting: list[Any] = list(conditions)
    while waiting:
        node = waiting.pop()
        if isinstance(node, PackedSignals):
            node.check_labels(bars)
        elif isinstance(node, Condition):
            waiting += node.args

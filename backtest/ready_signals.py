"""Ready signals: booleans that were computed elsewhere, packed as bits, and the condition that reads them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import Frozen, InputError, as_array, whole
from backtest._said import shown
from backtest.compute.threads import run_rows
from backtest.expr import Condition, Param
from backtest.labels import Labels, check_labels, labels, labels_of_bars
from backtest.line_values import DistinctParams
from backtest.space import Grid

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
#: Name of an argument and the labels of its rows, if it has any.
Source = tuple[str, Labels] | None

#: Measured: microseconds to pack one candidate's bar.
_PACK_US = 0.0001


class PackedSignals:
    """Ready signals as bits: bit ``t % 64`` of word ``t // 64`` is the signal at the close of bar ``t``.

    Immutable and compared by content; the words are copied.

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
        Hash of the content, computed on first use: a search does not need it, and hashing takes longer than packing.
    source : tuple of str and Labels, or None
        Name of the argument and the labels of its rows, if they had any; not part of the content.
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
        self._set(array, n_bars)

    def _set(self, words: Words, n_bars: int, source: Source = None) -> PackedSignals:
        words.flags.writeable = False
        for name, value in (("words", words), ("n_bars", n_bars), ("source", source), ("_digest", None)):
            object.__setattr__(self, name, value)
        return self

    def with_words(self, words: Words, source: Source) -> PackedSignals:
        """Other words, of the same number of bars."""
        return PackedSignals.__new__(PackedSignals)._set(words, self.n_bars, source)

    @classmethod
    def pack(cls, name: str, values: ArrayLike) -> PackedSignals:
        """Booleans of shape (n_bars,) or (n_bars, n_candidates); ``name`` is for error messages."""
        array = as_array(name, values)
        if array.dtype != bool:
            raise InputError(
                f"{name} must be boolean, got dtype {array.dtype}; astype(bool) converts numbers, and "
                "shift(1, fill_value=False) keeps booleans boolean"
            )
        if array.ndim not in (1, 2):
            raise InputError(f"{name} must have shape (n_bars,) or (n_bars, n_candidates), got {array.shape}")
        n_bars, kernel = len(array), _backend.kernel("masks")
        words = np.empty((1 if array.ndim == 1 else array.shape[1], -(-n_bars // 64)), dtype=np.uint64)
        if array.ndim == 2 and not array.flags.f_contiguous:
            given, work, width = np.ascontiguousarray(array).view(np.uint8), kernel.pack_columns, 64  # columns: a cache line
        else:
            rows = np.ascontiguousarray(array.reshape(n_bars, -1).T) if array.size else np.empty((len(words), n_bars), np.bool_)
            given, work, width = rows.view(np.uint8), kernel.pack_rows, 1
        n = len(words)
        run_rows(
            lambda start, stop: work(given, start * width, min(stop * width, n), words),
            -(-n // width),
            None,
            _PACK_US * n_bars * width,
        )
        row_labels = labels(values)
        source = None if row_labels is None else (name, row_labels)
        return cls.__new__(cls)._set(words[0] if array.ndim == 1 else words, n_bars, source)

    def check_labels(self, bars: Any) -> None:
        """Refuse bars whose times are not the labels of the rows."""
        if self.source is not None:
            name, row_labels = self.source
            check_labels(name, row_labels, labels_of_bars(bars), len(bars), fill=", fill_value=False")

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
        return hash((self.shape, self.words.ravel()[:64].tobytes()))  # hashing the beginning is enough

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (self.words, self.n_bars, self.source)

    def __repr__(self) -> str:
        return f"array{self.shape}"


def _restored(words: Words, n_bars: int, source: Source) -> PackedSignals:
    signals = PackedSignals(words, n_bars)
    return signals if source is None else signals.with_words(signals.words, source)


class _Content(Frozen):
    """The signals' part of a node's key: equal for equal signals; its text is their digest."""

    __slots__ = ("signals",)

    def __init__(self, signals: PackedSignals) -> None:
        self.signals = signals

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Content) and self.signals == other.signals

    def __hash__(self) -> int:
        return hash(self.signals)

    def __repr__(self) -> str:
        return repr(self.signals.digest)


class ReadySignals(Condition):
    """Signals of all candidates, or, with a parameter, the column of each candidate.

    Parameters
    ----------
    signals : PackedSignals
    column : Param, optional
        Number of a candidate's column.
    """

    __slots__ = ()

    def __init__(self, signals: PackedSignals, column: Param | None = None) -> None:
        args = (signals,) if column is None else (signals, column)
        super().__init__("array", args, identity=_Content(signals))

    @property
    def n_columns(self) -> int | None:
        """Columns that candidates choose from; None if all have the same signals."""
        return len(self.args[0].words) if len(self.args) > 1 else None

    def check_bars(self, bars: Any) -> None:
        """Refuse bars whose times are not the labels of the signals."""
        self.args[0].check_labels(bars)

    def fill(self, params: DistinctParams, n_bars: int, masks: Words) -> None:
        """Write the masks of the distinct columns in a block, shape (n_distinct, n_words)."""
        signals = self.args[0]
        if signals.n_bars != n_bars:
            raise InputError(f"signals must have one row per bar ({n_bars}), got {signals.n_bars}")
        if signals.is_shared:
            masks[:] = signals.words
        else:
            np.take(signals.words, self._columns(params), axis=0, out=masks)

    def _columns(self, params: DistinctParams) -> Ints:
        """Column of each distinct value of the parameter; without that parameter, column 0."""
        if not params.names:
            return np.zeros(len(params), dtype=np.int64)
        parameter, numbers = params.column()
        n_columns = len(self.args[0].words)
        if isinstance(parameter, Grid) and parameter.is_whole:
            columns = numbers.astype(np.int64)
            bad = columns[(columns < 0) | (columns >= n_columns)].tolist()
        else:
            values = [value for _, value in params.keys]
            bad = [
                value
                for value in values
                if not isinstance(value, (int, float)) or not 0 <= value < n_columns or value != int(value)
            ]
            columns = np.array([0] * len(values) if bad else values, dtype=np.int64)
        if bad:
            raise InputError(f"column must be a whole number from 0 to {n_columns - 1}, got {bad[0]!r}")
        return columns

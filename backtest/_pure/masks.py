"""Masks: conditions as bits, 64 bars a word, for many pairs of lines in one call.

Bit ``t % 64`` of word ``t // 64`` is the condition at the close of bar ``t``; bits of the warm-up and from ``n_bars`` on are 0.

Lines are passed in two forms.  ``lines`` are their values, (n_lines, n_bars).  ``coarse``, int32 (n_tiles, n_lines, 512), are
integers monotone in the values: the upper halves of their bits, flipped below zero, with -0.0 as 0.0.  Where two differ, the
values differ the same way, which takes half the memory and no second comparison for ``<``; where they are equal, the values
decide.  Tiles have 512 bars, 32 vectors of 16: place ``16 i + j`` of a tile is its bar ``32 j + i``, so that comparing vector
``i`` gives bit ``i`` of 16 half words at any width of registers.  The pure Python twin does not use ``coarse``.

``pairs`` is a record of arrays (n_pairs,), see ``masks.Pairs``: ``left`` and ``right``, rows of ``lines`` or -1;
``left_values`` and ``right_values``, the constants of those without a row; ``warm``, the bars to clear.
"""

from __future__ import annotations

import struct
from typing import Any

#: Bars that are compared together.
TILE = 512
#: Sizes that the callers and both twins must agree on.
LAYOUT = {"TILE": TILE}


def spread(values: Any, row: int, coarse: Any) -> None:
    """Lay a line's coarse values out in tiles; after the last bar they are 0.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars,)
    row : int
        Of the line.
    coarse : ndarray of int32, shape (n_tiles, n_lines, 512)
        Output.
    """
    n_bars = len(values)
    for tile in range(len(coarse)):
        for i in range(32):
            for j in range(16):
                bar = TILE * tile + 32 * j + i
                coarse[tile, row, 16 * i + j] = _coarse(float(values[bar])) if bar < n_bars else 0


def compare(lines: Any, coarse: Any, pairs: Any, is_strict: bool, n_bars: int, start: int, stop: int, masks: Any) -> None:
    """Bits of ``left > right``, or of ``left >= right``, for pairs ``start <= row < stop``.

    Parameters
    ----------
    lines, coarse, pairs
        See the module.
    is_strict : bool
        ``>``, not ``>=``.
    n_bars, start, stop : int
    masks : ndarray of uint64, shape (n_pairs, n_words)
        Output.
    """
    for row in range(start, stop):
        a, b = _operands(lines, pairs, n_bars, row)
        if is_strict:
            _write(masks[row], [x > y for x, y in zip(a, b, strict=True)], pairs.warm[row])
        else:
            _write(masks[row], [x >= y for x, y in zip(a, b, strict=True)], pairs.warm[row])


def crosses(lines: Any, coarse: Any, pairs: Any, n_bars: int, start: int, stop: int, above: Any, below: Any) -> None:
    """Bits of ``left`` crossing above ``right`` and crossing below it, for pairs ``start <= row < stop``; never on bar 0.

    Parameters
    ----------
    lines, coarse, pairs
        See the module.
    n_bars, start, stop : int
    above, below : ndarray of uint64, shape (n_pairs, n_words)
        Output; not computed if it has no rows.
    """
    for row in range(start, stop):
        a, b = _operands(lines, pairs, n_bars, row)
        if len(above):
            _write(above[row], _edges([x > y for x, y in zip(a, b, strict=True)]), pairs.warm[row])
        if len(below):
            _write(below[row], _edges([x < y for x, y in zip(a, b, strict=True)]), pairs.warm[row])


def trim(masks: Any, warm: Any, n_bars: int, start: int, stop: int) -> None:
    """Clear the warm-up, and the bits after the last bar, of masks ``start <= row < stop``.

    Parameters
    ----------
    masks : ndarray of uint64, shape (n_masks, n_words)
        Input and output.
    warm : ndarray of int64, shape (n_masks,)
        Bars to clear.
    n_bars, start, stop : int
    """
    for row in range(start, stop):
        for word in range(masks.shape[1]):
            valid_bits = sum(1 << bar for bar in range(64) if warm[row] <= 64 * word + bar < n_bars)
            masks[row, word] = int(masks[row, word]) & valid_bits


def pack_rows(signals: Any, start: int, stop: int, masks: Any) -> None:
    """Bits of signals stored candidate by candidate, for candidates ``start <= row < stop``.

    Parameters
    ----------
    signals : ndarray of uint8, shape (n_candidates, n_bars)
        0 is False.
    start, stop : int
    masks : ndarray of uint64, shape (n_candidates, n_words)
        Output.
    """
    for row in range(start, stop):
        _write(masks[row], [value != 0 for value in signals[row].tolist()], 0)


def pack_columns(signals: Any, start: int, stop: int, masks: Any) -> None:
    """Bits of signals stored bar by bar, for candidates ``start <= column < stop``.

    Parameters
    ----------
    signals : ndarray of uint8, shape (n_bars, n_candidates)
        0 is False.
    start, stop : int
    masks : ndarray of uint64, shape (n_candidates, n_words)
        Output.
    """
    for column in range(start, stop):
        _write(masks[column], [value != 0 for value in signals[:, column].tolist()], 0)


def _coarse(value: float) -> int:
    bits: int = struct.unpack("<q", struct.pack("<d", value + 0.0))[0]
    return (bits if bits >= 0 else bits ^ 0x7FFF_FFFF_FFFF_FFFF) >> 32


def _operands(lines: Any, pairs: Any, n_bars: int, row: int) -> tuple[list[float], list[float]]:
    operands = []
    for line, value in ((pairs.left[row], pairs.left_values[row]), (pairs.right[row], pairs.right_values[row])):
        if line >= 0:
            operands.append(lines[line].tolist())
        else:
            operands.append([float(value)] * n_bars)
    return operands[0], operands[1]


def _edges(truth: list[bool]) -> list[bool]:
    # No NaN from the warm-up on, so "was at or below" is "was not above".
    return [bar > 0 and truth[bar] and not truth[bar - 1] for bar in range(len(truth))]


def _write(mask: Any, truth: list[bool], warm: int) -> None:
    for word in range(len(mask)):
        bits = 0
        for bit, is_true in enumerate(truth[64 * word : 64 * word + 64]):
            if is_true and 64 * word + bit >= warm:
                bits |= 1 << bit
        mask[word] = bits

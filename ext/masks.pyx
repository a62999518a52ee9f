"""Masks: conditions as bits, 64 bars a word, for many pairs of lines in one call.

Bit ``t % 64`` of word ``t // 64`` is the condition at the close of bar ``t``; bits of the warm-up and from ``n_bars`` on are 0.

Lines lie in tiles of 512 bars, 64 vectors of 8: place ``8 i + j`` of a tile is its bar ``64 j + i``.  So comparing vector ``i``
of two lines gives bit ``i`` of 8 words at once, whatever the width of a register, and no bit has to be moved.

``pairs`` is a record of arrays (n_pairs,), see ``masks.Pairs``: ``left`` and ``right``, rows of ``lines`` or -1;
``left_values`` and ``right_values``, the numbers of those without a row; ``warm``, the bars to clear.
"""

from libc.math cimport NAN
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "_bits.h" nogil:
    void backtest_greater(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *out)
    void backtest_greater_equal(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *out)
    void backtest_order(const double *a, ptrdiff_t step_a, const double *b, ptrdiff_t step_b, uint64_t *greater, uint64_t *less)
    void backtest_edges(const uint64_t *before, uint64_t *edges)
    uint64_t backtest_bits_of_bytes(const uint8_t *bytes)
    void backtest_transpose(uint64_t *words)

cdef enum:
    LANES = 8  # range() has to see its step as a number


def spread(const double[::1] values, double[::1] row):
    """Lay a line out in tiles; what is behind its last bar is NaN, which no comparison holds for.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars,)
    row : ndarray of float64, shape (n_tiles * 512,)
        Output.
    """
    cdef Py_ssize_t n_bars = values.shape[0], bar, tile, i, j
    with nogil:
        for tile in range(0, row.shape[0], 512):
            for j in range(LANES):
                for i in range(64):
                    bar = tile + 64 * j + i
                    row[tile + LANES * i + j] = values[bar] if bar < n_bars else NAN


def compare(const double[:, ::1] lines, pairs, bint is_strict, Py_ssize_t n_bars, Py_ssize_t start, Py_ssize_t stop,
            uint64_t[:, ::1] masks):
    """Bits of ``left > right``, or of ``left >= right``, for pairs ``start <= row < stop``.

    Parameters
    ----------
    lines : ndarray of float64, shape (n_lines, n_tiles * 512)
        In tiles, see the module.
    pairs
        Record, see the module.
    is_strict : bool
        ``>``, not ``>=``.
    n_bars, start, stop : int
    masks : ndarray of uint64, shape (n_pairs, n_words)
        Output.
    """
    cdef Sides sides = Sides(lines, pairs)
    cdef Py_ssize_t n_words = masks.shape[1], row, first
    cdef uint64_t bits[LANES]
    cdef Pair pair
    with nogil:
        # Tile by tile, so that the lines' parts stay in the nearest cache for all pairs.
        for first in range(0, n_words, 8):
            for row in range(start, stop):
                set_pair(&pair, sides, row, first)
                if is_strict:
                    backtest_greater(pair.left, pair.left_step, pair.right, pair.right_step, bits)
                else:
                    backtest_greater_equal(pair.left, pair.left_step, pair.right, pair.right_step, bits)
                write_words(&masks[row, 0], bits, first, n_words, sides.warm[row], n_bars)


def crosses(const double[:, ::1] lines, pairs, Py_ssize_t n_bars, Py_ssize_t start, Py_ssize_t stop, uint64_t[:, ::1] above,
            uint64_t[:, ::1] below):
    """Bits of ``left`` crossing above ``right`` and of its mirror, for pairs ``start <= row < stop``; never on bar 0.

    Parameters
    ----------
    lines : ndarray of float64, shape (n_lines, n_tiles * 512)
        In tiles, see the module.
    pairs
        Record, see the module.
    n_bars, start, stop : int
    above, below : ndarray of uint64, shape (n_pairs, n_words)
        Output; one without rows is not wanted.
    """
    cdef Sides sides = Sides(lines, pairs)
    cdef bint has_above = above.shape[0] > 0, has_below = below.shape[0] > 0
    cdef Py_ssize_t n_words = max(above.shape[1], below.shape[1]), row, first
    cdef uint64_t up[LANES + 1]
    cdef uint64_t down[LANES + 1]
    cdef Pair pair
    with nogil:
        for first in range(0, n_words, 8):
            for row in range(start, stop):
                set_pair(&pair, sides, row, first)
                if has_above and has_below:
                    backtest_order(pair.left, pair.left_step, pair.right, pair.right_step, up + 1, down + 1)
                elif has_above:
                    backtest_greater(pair.left, pair.left_step, pair.right, pair.right_step, up + 1)
                else:
                    backtest_greater(pair.right, pair.right_step, pair.left, pair.left_step, down + 1)
                if has_above:
                    write_edges(&above[row, 0], up, first, n_words, pair.left_before > pair.right_before, sides.warm[row], n_bars)
                if has_below:
                    write_edges(&below[row, 0], down, first, n_words, pair.left_before < pair.right_before, sides.warm[row],
                                n_bars)


def trim(uint64_t[:, ::1] masks, const int64_t[::1] warm, Py_ssize_t n_bars, Py_ssize_t start, Py_ssize_t stop):
    """Clear the warm-up, and what is behind the last bar, of masks ``start <= row < stop``.

    Parameters
    ----------
    masks : ndarray of uint64, shape (n_masks, n_words)
        Input and output.
    warm : ndarray of int64, shape (n_masks,)
        Bars to clear.
    n_bars, start, stop : int
    """
    cdef Py_ssize_t row, word
    with nogil:
        for row in range(start, stop):
            for word in range(masks.shape[1]):
                masks[row, word] &= kept(word, warm[row], n_bars)


def pack_rows(const uint8_t[:, ::1] signals, Py_ssize_t start, Py_ssize_t stop, uint64_t[:, ::1] masks):
    """Bits of signals that lie bar after bar, for candidates ``start <= row < stop``.

    Parameters
    ----------
    signals : ndarray of uint8, shape (n_candidates, n_bars)
        0 is False.
    start, stop : int
    masks : ndarray of uint64, shape (n_candidates, n_words)
        Output.
    """
    cdef Py_ssize_t n_bars = signals.shape[1], row, word, bar
    cdef uint64_t bits
    with nogil:
        for row in range(start, stop):
            for word in range(n_bars // 64):
                masks[row, word] = backtest_bits_of_bytes(&signals[row, 64 * word])
            if n_bars % 64:
                bits = 0
                for bar in range(n_bars - n_bars % 64, n_bars):
                    bits |= <uint64_t> (signals[row, bar] != 0) << (bar % 64)
                masks[row, n_bars // 64] = bits


def pack_columns(const uint8_t[:, ::1] signals, Py_ssize_t start, Py_ssize_t stop, uint64_t[:, ::1] masks):
    """Bits of signals that lie candidate after candidate, for candidates ``start <= column < stop``.

    Parameters
    ----------
    signals : ndarray of uint8, shape (n_bars, n_candidates)
        0 is False.
    start, stop : int
    masks : ndarray of uint64, shape (n_candidates, n_words)
        Output.
    """
    cdef Py_ssize_t n_bars = signals.shape[0], n_words = masks.shape[1], column, first, word, bar, n_rows
    cdef uint64_t square[64]
    with nogil:
        for first in range(start, stop, 64):
            if stop - first < 64:
                for column in range(first, stop):
                    pack_column(signals, column, masks)
                continue
            for word in range(n_words):
                n_rows = min(64, n_bars - 64 * word)
                for bar in range(64):
                    square[bar] = backtest_bits_of_bytes(&signals[64 * word + bar, first]) if bar < n_rows else 0
                backtest_transpose(square)
                for column in range(64):
                    masks[first + column, word] = square[column]


cdef void pack_column(const uint8_t[:, ::1] signals, Py_ssize_t column, uint64_t[:, ::1] masks) noexcept nogil:
    cdef Py_ssize_t n_bars = signals.shape[0], word, bar
    cdef uint64_t bits
    for word in range(masks.shape[1]):
        bits = 0
        for bar in range(64 * word, min(64 * word + 64, n_bars)):
            bits |= <uint64_t> (signals[bar, column] != 0) << (bar % 64)
        masks[column, word] = bits


cdef class Sides:
    """The arguments, typed."""

    cdef const double[:, ::1] lines
    cdef const int64_t[::1] left, right, warm
    cdef const double[::1] left_values, right_values

    def __cinit__(self, lines, pairs):
        self.lines, self.left, self.right, self.warm = lines, pairs.left, pairs.right, pairs.warm
        self.left_values, self.right_values = pairs.left_values, pairs.right_values


cdef struct Pair:  # a tile of two lines
    const double *left
    const double *right
    ptrdiff_t left_step   # 0: a number
    ptrdiff_t right_step
    double left_before    # on the bar before the tile
    double right_before
    double left_value[LANES]
    double right_value[LANES]


cdef void set_pair(Pair *pair, Sides sides, Py_ssize_t row, Py_ssize_t first_word) noexcept nogil:
    set_side(&pair.left, &pair.left_step, &pair.left_before, pair.left_value, sides.lines, sides.left[row],
             sides.left_values[row], first_word)
    set_side(&pair.right, &pair.right_step, &pair.right_before, pair.right_value, sides.lines, sides.right[row],
             sides.right_values[row], first_word)


cdef inline void set_side(const double **side, ptrdiff_t *step, double *before, double *value, const double[:, ::1] lines,
                          int64_t line, double number, Py_ssize_t first_word) noexcept nogil:
    cdef int lane
    if line >= 0:
        # The last place of a tile is its last bar.
        side[0], step[0] = &lines[line, 64 * first_word], LANES
        before[0] = lines[line, 64 * first_word - 1] if first_word else NAN
        return
    for lane in range(LANES):
        value[lane] = number
    side[0], step[0], before[0] = value, 0, number


cdef inline void write_edges(uint64_t *mask, uint64_t *truth, Py_ssize_t first, Py_ssize_t n_words, bint was_true,
                             int64_t warm, Py_ssize_t n_bars) noexcept nogil:
    """``truth``: room for a word, then the tile's words."""
    # No NaN from the warm-up on, so "was at or below" is "was not above".  Bar 0 has no bar before it.
    cdef uint64_t edges[LANES]
    truth[0] = <uint64_t> (was_true or not first) << 63
    backtest_edges(truth, edges)
    write_words(mask, edges, first, n_words, warm, n_bars)


cdef inline void write_words(uint64_t *mask, const uint64_t *bits, Py_ssize_t first, Py_ssize_t n_words, int64_t warm,
                             Py_ssize_t n_bars) noexcept nogil:
    cdef Py_ssize_t word
    if warm <= 64 * first and 64 * first + 512 <= n_bars:  # most tiles
        memcpy(mask + first, bits, LANES * sizeof(uint64_t))
        return
    for word in range(first, min(first + LANES, n_words)):
        mask[word] = bits[word - first] & kept(word, warm, n_bars)


cdef inline uint64_t kept(Py_ssize_t word, int64_t warm, Py_ssize_t n_bars) noexcept nogil:
    """Bits of a word that are neither warm-up nor behind the last bar."""
    cdef uint64_t bits = ~<uint64_t> 0
    cdef int64_t low = warm - 64 * word, high = n_bars - 64 * word
    if low > 0:
        bits = bits << low if low < 64 else 0
    if high < 64:
        bits &= (<uint64_t> 1 << high) - 1 if high > 0 else 0
    return bits

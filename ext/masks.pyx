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

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "_bits.h" nogil:
    const int TILE "BACKTEST_TILE"
    int32_t backtest_coarse(double value)
    void backtest_spread(const double *values, int n_bars, int32_t *tile)
    bint backtest_order(const int32_t *a, ptrdiff_t step_a, const int32_t *b, ptrdiff_t step_b, int n_words, uint64_t *greater,
                        uint64_t *less, uint64_t *equal)
    int backtest_lowest(uint64_t bits)
    void backtest_edges(const uint64_t *before, uint64_t *edges)
    uint64_t backtest_bits_of_bytes(const uint8_t *bytes)
    void backtest_words_of_columns(const uint8_t *bytes, ptrdiff_t step, int n_rows, int n_columns, uint64_t *words)

#: Sizes that the callers and both twins must agree on.
LAYOUT = {"TILE": TILE}

cdef enum:  # as a step of range() they have to be literals: 8, 512 and 2048
    WORDS = 8    # of a tile
    VECTOR = 16  # integers
    AT_ONCE = 2048  # pairs compared on one tile before the next
    COLUMNS = 512  # packed at a time


def spread(const double[::1] values, Py_ssize_t row, int32_t[:, :, ::1] coarse):
    """Lay a line's coarse values out in tiles; after the last bar they are 0.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars,)
    row : int
        Of the line.
    coarse : ndarray of int32, shape (n_tiles, n_lines, 512)
        Output.
    """
    cdef Py_ssize_t n_bars = values.shape[0], tile
    with nogil:
        for tile in range(coarse.shape[0]):
            backtest_spread(&values[TILE * tile], <int> min(TILE, n_bars - TILE * tile), &coarse[tile, row, 0])


def compare(const double[:, ::1] lines, const int32_t[:, :, ::1] coarse, pairs, bint is_strict, Py_ssize_t n_bars,
            Py_ssize_t start, Py_ssize_t stop, uint64_t[:, ::1] masks):
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
    cdef Operands operands = Operands(lines, coarse, pairs)
    cdef Py_ssize_t n_words = masks.shape[1], row, first, begin, end
    cdef uint64_t greater[WORDS]
    cdef uint64_t less[WORDS]
    cdef Pair pair
    with nogil:
        for begin in range(start, stop, 2048):
            end = min(begin + AT_ONCE, stop)
            # Tile by tile, so that the lines' tiles stay in the cache for many pairs.
            for first in range(0, n_words, 8):
                for row in range(begin, end):
                    set_pair(&pair, operands, row, first)
                    order(&pair, first, min(first + WORDS, n_words), operands.warm[row], n_bars, not is_strict, greater, less)
                    write_words(&masks[row, 0], greater, first, n_words, operands.warm[row], n_bars)


def crosses(const double[:, ::1] lines, const int32_t[:, :, ::1] coarse, pairs, Py_ssize_t n_bars, Py_ssize_t start,
            Py_ssize_t stop, uint64_t[:, ::1] above, uint64_t[:, ::1] below):
    """Bits of ``left`` crossing above ``right`` and crossing below it, for pairs ``start <= row < stop``; never on bar 0.

    Parameters
    ----------
    lines, coarse, pairs
        See the module.
    n_bars, start, stop : int
    above, below : ndarray of uint64, shape (n_pairs, n_words)
        Output; not computed if it has no rows.
    """
    cdef Operands operands = Operands(lines, coarse, pairs)
    cdef bint has_above = above.shape[0] > 0, has_below = below.shape[0] > 0
    cdef Py_ssize_t n_words = max(above.shape[1], below.shape[1]), row, first, begin, end
    cdef uint64_t greater[WORDS + 1]  # the first is the word before
    cdef uint64_t less[WORDS + 1]
    cdef uint8_t was[AT_ONCE]  # on the bar before the tile: 1 greater, 2 less
    cdef Pair pair
    with nogil:
        for begin in range(start, stop, 2048):
            end = min(begin + AT_ONCE, stop)
            for first in range(0, n_words, 8):
                for row in range(begin, end):
                    set_pair(&pair, operands, row, first)
                    # The bar before the first that may cross counts too.
                    order(&pair, first, min(first + WORDS, n_words), operands.warm[row] - 1, n_bars, False, greater + 1, less + 1)
                    # Bar 0 has no bar before it: true there means no crossing.
                    greater[0] = <uint64_t> (was[row - begin] & 1 if first else 1) << 63
                    less[0] = <uint64_t> (was[row - begin] >> 1 if first else 1) << 63
                    was[row - begin] = <uint8_t> (greater[WORDS] >> 63 | less[WORDS] >> 63 << 1)
                    if has_above:
                        write_edges(&above[row, 0], greater, first, n_words, operands.warm[row], n_bars)
                    if has_below:
                        write_edges(&below[row, 0], less, first, n_words, operands.warm[row], n_bars)


def trim(uint64_t[:, ::1] masks, const int64_t[::1] warm, Py_ssize_t n_bars, Py_ssize_t start, Py_ssize_t stop):
    """Clear the warm-up, and the bits after the last bar, of masks ``start <= row < stop``.

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
                masks[row, word] &= valid_bits(word, warm[row], n_bars)


def pack_rows(const uint8_t[:, ::1] signals, Py_ssize_t start, Py_ssize_t stop, uint64_t[:, ::1] masks):
    """Bits of signals stored candidate by candidate, for candidates ``start <= row < stop``.

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
    """Bits of signals stored bar by bar, for candidates ``start <= column < stop``.

    Parameters
    ----------
    signals : ndarray of uint8, shape (n_bars, n_candidates)
        0 is False.
    start, stop : int
    masks : ndarray of uint64, shape (n_candidates, n_words)
        Output.
    """
    cdef Py_ssize_t n_bars = signals.shape[0], n_candidates = signals.shape[1], n_words = masks.shape[1], first, word, end
    cdef Py_ssize_t column, part
    cdef uint64_t words[WORDS][COLUMNS]  # a cache line of each candidate is written at once
    cdef int n_columns
    with nogil:
        for first in range(start, stop, 512):
            n_columns = <int> min(COLUMNS, stop - first)
            for word in range(0, n_words, 8):
                end = min(word + WORDS, n_words)
                for part in range(word, end):
                    backtest_words_of_columns(&signals[64 * part, first], n_candidates, <int> min(64, n_bars - 64 * part),
                                              n_columns, words[part - word])
                for column in range(n_columns):
                    for part in range(word, end):
                        masks[first + column, part] = words[part - word][column]


cdef class Operands:
    """Typed views of the arguments."""

    cdef const double[:, ::1] lines
    cdef const int32_t[:, :, ::1] coarse
    cdef const int64_t[::1] left, right, warm
    cdef const double[::1] left_values, right_values

    def __cinit__(self, lines, coarse, pairs):
        self.lines, self.coarse, self.left, self.right, self.warm = lines, coarse, pairs.left, pairs.right, pairs.warm
        self.left_values, self.right_values = pairs.left_values, pairs.right_values


cdef struct Operand:  # one side of a comparison in a tile
    const int32_t *coarse
    const double *values
    ptrdiff_t coarse_step    # 0: a constant
    ptrdiff_t step
    double number
    int32_t numbers[VECTOR]


cdef struct Pair:
    Operand left
    Operand right


cdef inline void set_pair(Pair *pair, Operands operands, Py_ssize_t row, Py_ssize_t first) noexcept nogil:
    set_operand(&pair.left, operands, operands.left[row], operands.left_values[row], first)
    set_operand(&pair.right, operands, operands.right[row], operands.right_values[row], first)


cdef inline void set_operand(Operand *operand, Operands operands, int64_t line, double number, Py_ssize_t first) noexcept nogil:
    cdef int lane
    if line >= 0:
        operand.coarse, operand.values = &operands.coarse[first // WORDS, line, 0], &operands.lines[line, 0]
        operand.coarse_step, operand.step = VECTOR, 1
        return
    operand.number = number
    for lane in range(VECTOR):
        operand.numbers[lane] = backtest_coarse(number)
    operand.coarse, operand.values, operand.coarse_step, operand.step = operand.numbers, &operand.number, 0, 0


cdef inline void order(Pair *pair, Py_ssize_t first, Py_ssize_t stop, int64_t warm, Py_ssize_t n_bars, bint with_equal,
                       uint64_t *greater, uint64_t *less) noexcept nogil:
    """Where left is greater (``with_equal``: or equal), and where it is less, from bar ``warm`` on."""
    cdef uint64_t equal[WORDS]
    cdef uint64_t undecided
    cdef Py_ssize_t word, bar
    cdef double left, right
    cdef int place
    if not backtest_order(pair.left.coarse, pair.left.coarse_step, pair.right.coarse, pair.right.coarse_step,
                          <int> (stop - first), greater, less, equal):
        return
    for word in range(first, stop):
        undecided = equal[word - first]
        if not undecided:
            continue
        undecided &= valid_bits(word, warm, n_bars)
        while undecided:
            place = backtest_lowest(undecided)
            undecided &= undecided - 1
            bar = 64 * word + place
            left, right = pair.left.values[bar * pair.left.step], pair.right.values[bar * pair.right.step]
            greater[word - first] |= <uint64_t> (left >= right if with_equal else left > right) << place
            less[word - first] |= <uint64_t> (left < right) << place


cdef inline void write_edges(uint64_t *mask, const uint64_t *truth, Py_ssize_t first, Py_ssize_t n_words, int64_t warm,
                             Py_ssize_t n_bars) noexcept nogil:
    # No NaN from the warm-up on, so "was at or below" is "was not above".
    cdef uint64_t edges[WORDS]
    if warm <= 64 * first and 64 * (first + WORDS) <= n_bars:  # most tiles
        backtest_edges(truth, mask + first)
        return
    backtest_edges(truth, edges)
    write_words(mask, edges, first, n_words, warm, n_bars)


cdef inline void write_words(uint64_t *mask, const uint64_t *bits, Py_ssize_t first, Py_ssize_t n_words, int64_t warm,
                             Py_ssize_t n_bars) noexcept nogil:
    cdef Py_ssize_t word
    if warm <= 64 * first and 64 * (first + WORDS) <= n_bars:  # most tiles
        memcpy(mask + first, bits, WORDS * sizeof(uint64_t))
        return
    for word in range(first, min(first + WORDS, n_words)):
        mask[word] = bits[word - first] & valid_bits(word, warm, n_bars)


cdef inline uint64_t valid_bits(Py_ssize_t word, int64_t warm, Py_ssize_t n_bars) noexcept nogil:
    """Bits of a word that are neither warm-up nor after the last bar."""
    cdef uint64_t bits = ~<uint64_t> 0
    cdef int64_t low = warm - 64 * word, high = n_bars - 64 * word
    if low > 0:
        bits = bits << low if low < 64 else 0
    if high < 64:
        bits &= (<uint64_t> 1 << high) - 1 if high > 0 else 0
    return bits

# What holding from one bar to another comes to; the twin, and what the tables hold, is backtest/_pure/_spans.py.

from libc.stdint cimport int64_t, uint64_t

cdef extern from "_moments.h" nogil:
    ctypedef struct Moments "backtest_moments":  # 8 sums
        pass
    Moments moments_of "backtest_moments_of"(const double *terms)
    void read_moments "backtest_read_moments"(const Moments *moments, double *terms)
    void add_moments "backtest_add_moments"(Moments *moments, const Moments *more)
    void add_powers "backtest_add_powers"(Moments *moments, double result, double rf_per_bar)
    void add_between "backtest_add_between"(Moments *moments, const double *upper, const double *lower)
    void add_shortfall "backtest_add_shortfall"(Moments *moments, double shortfall_2)

cdef extern from "_words.h" nogil:
    int highest_bit(uint64_t word)

cdef enum:
    BLOCK = 16       # bars of a block; its logarithm is BLOCK_BITS
    BLOCK_BITS = 4
    LANES = 8
    MOMENTS = 7
    CHUNK = 64       # bars that are walked at a time; whole lanes, so that no sum depends on it

cdef struct Range:   # of closes
    double low
    double high
    double fall      # worst: least later close over earlier close
    double unused

cdef struct SpanTables:
    const double *moments
    const Range *to_here
    const Range *from_here
    const Range *blocks
    const double *lows
    const double *highs
    int64_t n_blocks


cdef inline Range single(double close) noexcept nogil:
    cdef Range span
    span.low = span.high = close
    span.fall = 1.0
    span.unused = 0.0
    return span


cdef inline Range joined(Range left, Range right) noexcept nogil:
    """Lowest, highest and worst fall of two spans, one after the other."""
    cdef Range span
    cdef double fall = right.low / left.high
    span.low = right.low if right.low < left.low else left.low
    span.high = right.high if right.high > left.high else left.high
    fall = left.fall if left.fall < fall else fall
    span.fall = right.fall if right.fall < fall else fall
    span.unused = 0.0
    return span


cdef inline void measure_moments(const double *close, int64_t n_bars, double rf_per_bar, double *moments) noexcept nogil:
    """Fill ``moments``."""
    cdef double terms[8]
    cdef double total[8]
    cdef double rest[8]
    cdef double before, after, part, term
    cdef Moments nothing, powers
    cdef int64_t bar
    cdef int column
    for column in range(8):
        terms[column] = total[column] = rest[column] = 0.0
        moments[column] = moments[8 + column] = 0.0
    nothing = moments_of(terms)
    for bar in range(1, n_bars):
        powers = nothing
        add_powers(&powers, (close[bar] - close[bar - 1]) / close[bar - 1], rf_per_bar)
        read_moments(&powers, terms)
        for column in range(8):
            term, before = terms[column], total[column]
            after = before + term  # Knuth's two-sum: after + lost is exactly before + term
            part = after - before
            rest[column] += (before - (after - part)) + (term - part)
            total[column] = after
            moments[16 * bar + column], moments[16 * bar + 8 + column] = after, rest[column]


cdef inline void measure_ranges(const double *close, const double *low, const double *high, int64_t n_bars, int64_t n_blocks,
                                int64_t n_levels, Range *to_here, Range *from_here, Range *blocks, double *lows,
                                double *highs) noexcept nogil:
    """Fill the tables of extremes and falls."""
    cdef int64_t block, bar, begin, end, level, half, middle
    cdef Range span
    for block in range(n_blocks):
        begin, end = block * BLOCK, (block + 1) * BLOCK
        end = n_bars if n_bars < end else end
        lows[block], highs[block] = low[begin], high[begin]
        span = single(close[begin])
        to_here[begin] = span
        for bar in range(begin + 1, end):
            if low[bar] < lows[block]:
                lows[block] = low[bar]
            if high[bar] > highs[block]:
                highs[block] = high[bar]
            span = joined(span, single(close[bar]))
            to_here[bar] = span
        span = single(close[end - 1])
        from_here[end - 1] = span
        for bar in range(end - 2, begin - 1, -1):
            span = joined(single(close[bar]), span)
            from_here[bar] = span
    for level in range(n_levels):
        half = <int64_t>1 << level
        middle = half
        while middle < n_blocks:
            span = from_here[middle * BLOCK]
            blocks[level * n_blocks + middle] = span
            for block in range(middle + 1, middle + half if middle + half < n_blocks else n_blocks):
                span = joined(span, from_here[block * BLOCK])
                blocks[level * n_blocks + block] = span
            span = from_here[(middle - 1) * BLOCK]
            blocks[level * n_blocks + middle - 1] = span
            for block in range(middle - 2, middle - half - 1, -1):
                span = joined(from_here[block * BLOCK], span)
                blocks[level * n_blocks + block] = span
            middle += 2 * half


cdef inline int64_t block_level(int64_t left, int64_t right) noexcept nogil:
    """Row of ``blocks`` in which ``left`` and ``right``, left < right, meet in the middle."""
    return highest_bit(<uint64_t>(left ^ right))


cdef inline Range range_of(const SpanTables *spans, const double *close, int64_t begin, int64_t end) noexcept nogil:
    """Lowest and highest close of bars ``begin`` to ``end``, both included; the fall is that of :func:`fall_of`, or 1."""
    cdef int64_t first = begin >> BLOCK_BITS, last = end >> BLOCK_BITS
    cdef int64_t bar, level
    cdef Range span
    cdef const Range *part
    if first == last:
        span = single(close[begin])
        for bar in range(begin + 1, end + 1):
            span.low = close[bar] if close[bar] < span.low else span.low
            span.high = close[bar] if close[bar] > span.high else span.high
        return span
    span = spans.from_here[begin]
    widen(&span, &spans.to_here[end])
    first, last = first + 1, last - 1
    if first < last:
        level = block_level(first, last)
        part = spans.blocks + level * spans.n_blocks
        widen(&span, &part[first])
        widen(&span, &part[last])
    elif first == last:
        widen(&span, &spans.from_here[first * BLOCK])
    return span


cdef inline void widen(Range *span, const Range *part) noexcept nogil:
    span.low = part.low if part.low < span.low else span.low
    span.high = part.high if part.high > span.high else span.high


cdef inline double fall_of(const SpanTables *spans, const double *close, int64_t begin, int64_t end) noexcept nogil:
    """Worst fall of bars ``begin`` to ``end``, both included: quotients, so only asked for where it may matter."""
    cdef int64_t first = begin >> BLOCK_BITS, last = end >> BLOCK_BITS
    cdef int64_t bar, level
    cdef Range span
    if first == last:
        span = single(close[begin])
        for bar in range(begin + 1, end + 1):
            span = joined(span, single(close[bar]))
        return span.fall
    span = spans.from_here[begin]
    first, last = first + 1, last - 1
    if first < last:
        level = block_level(first, last)
        span = joined(span, joined(spans.blocks[level * spans.n_blocks + first], spans.blocks[level * spans.n_blocks + last]))
    elif first == last:
        span = joined(span, spans.from_here[first * BLOCK])
    return joined(span, spans.to_here[end]).fall


cdef inline int64_t first_touch(const SpanTables *spans, const double *low, const double *high, int64_t begin, int64_t end,
                                double floor, double ceiling) noexcept nogil:
    """First bar of ``begin`` to ``end``, both included, with a low at or below ``floor`` or a high at or above ``ceiling``.

    ``end + 1`` if there is none; NaN is never touched.
    """
    cdef int64_t bar = begin
    cdef int64_t block
    while bar <= end:
        if not bar & (BLOCK - 1):
            block = bar >> BLOCK_BITS
            while block < spans.n_blocks and not (spans.lows[block] <= floor or spans.highs[block] >= ceiling):
                block += 1
                if block * BLOCK > end:
                    return end + 1
            bar = block * BLOCK
        if low[bar] <= floor or high[bar] >= ceiling:
            return bar
        bar += 1
    return end + 1


cdef inline void add_lane(double before, double after, double rf_per_bar, double *lane) noexcept nogil:
    cdef double result = (after - before) / before
    cdef double square = result * result
    cdef double excess = result - rf_per_bar
    lane[0] += result
    lane[LANES] += square
    lane[2 * LANES] += square * result
    lane[3 * LANES] += square * square
    lane[4 * LANES] += result if result > 0.0 else 0.0
    lane[5 * LANES] += 0.0 if result > 0.0 else 0.0 - result
    lane[6 * LANES] += excess * excess if excess < 0.0 else 0.0


cdef inline void add_lanes(const double *equity, int64_t n, double rf_per_bar, double *lanes) noexcept nogil:
    """Moments of the ``n`` returns between ``equity[0]`` and ``equity[n]``, lane by lane: ``lanes`` (MOMENTS, LANES)."""
    cdef int64_t at = 0
    cdef int lane
    while at + LANES <= n:
        for lane in range(LANES):
            add_lane(equity[at + lane], equity[at + lane + 1], rf_per_bar, &lanes[lane])
        at += LANES
    for lane in range(<int>(n - at)):
        add_lane(equity[at + lane], equity[at + lane + 1], rf_per_bar, &lanes[lane])

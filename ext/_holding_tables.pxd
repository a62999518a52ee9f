# Precomputed return moments, extremes and worst drawdown of any holding period.  The twin, which describes the tables, is
# backtest/_pure/_holding_tables.py.

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
    SEGMENT = 16       # bars of a segment: 1 << SEGMENT_BITS
    SEGMENT_BITS = 4
    LANES = 8          # partial sums of a span's bars; added up in this order
    MOMENTS = 7
    MOMENTS_WIDTH = 16  # columns of ``moments``: sums and their compensations, each 8 wide
    RANGE_WIDTH = 4    # columns of the other tables: those of CloseRange
    CHUNK = 64         # bars marked at a time; a multiple of LANES, so that no sum depends on it

cdef struct CloseRange:   # of the closes of a holding period
    double low
    double high
    double fall      # worst: least later close over earlier close
    double unused

cdef struct HoldingTables:
    const double *moments
    const CloseRange *since_segment_start
    const CloseRange *until_segment_end
    const CloseRange *segment_runs
    const double *segment_lows
    const double *segment_highs
    int64_t n_segments


cdef inline CloseRange range_of_close(double close) noexcept nogil:
    cdef CloseRange span
    span.low = span.high = close
    span.fall = 1.0
    span.unused = 0.0
    return span


cdef inline CloseRange joined_ranges(CloseRange left, CloseRange right) noexcept nogil:
    """Lowest close, highest close and worst fall of two adjacent spans."""
    cdef CloseRange span
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
    cdef double compensation[8]
    cdef double before, after, part, term
    cdef Moments nothing, powers
    cdef int64_t bar
    cdef int column
    for column in range(8):
        terms[column] = total[column] = compensation[column] = 0.0
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
            compensation[column] += (before - (after - part)) + (term - part)
            total[column] = after
            moments[MOMENTS_WIDTH * bar + column], moments[MOMENTS_WIDTH * bar + 8 + column] = after, compensation[column]


cdef inline void measure_ranges(const double *close, const double *low, const double *high, int64_t n_bars, int64_t n_segments,
                                int64_t n_rows, CloseRange *since_segment_start, CloseRange *until_segment_end,
                                CloseRange *segment_runs, double *segment_lows, double *segment_highs) noexcept nogil:
    """Fill the tables of extremes and falls."""
    cdef int64_t segment, bar, begin, end, row, half, middle
    cdef CloseRange span
    for segment in range(n_segments):
        begin, end = segment * SEGMENT, (segment + 1) * SEGMENT
        end = n_bars if n_bars < end else end
        segment_lows[segment], segment_highs[segment] = low[begin], high[begin]
        span = range_of_close(close[begin])
        since_segment_start[begin] = span
        for bar in range(begin + 1, end):
            if low[bar] < segment_lows[segment]:
                segment_lows[segment] = low[bar]
            if high[bar] > segment_highs[segment]:
                segment_highs[segment] = high[bar]
            span = joined_ranges(span, range_of_close(close[bar]))
            since_segment_start[bar] = span
        span = range_of_close(close[end - 1])
        until_segment_end[end - 1] = span
        for bar in range(end - 2, begin - 1, -1):
            span = joined_ranges(range_of_close(close[bar]), span)
            until_segment_end[bar] = span
    for row in range(n_rows):
        half = <int64_t>1 << row
        middle = half
        while middle < n_segments:
            span = until_segment_end[middle * SEGMENT]
            segment_runs[row * n_segments + middle] = span
            for segment in range(middle + 1, middle + half if middle + half < n_segments else n_segments):
                span = joined_ranges(span, until_segment_end[segment * SEGMENT])
                segment_runs[row * n_segments + segment] = span
            span = until_segment_end[(middle - 1) * SEGMENT]
            segment_runs[row * n_segments + middle - 1] = span
            for segment in range(middle - 2, middle - half - 1, -1):
                span = joined_ranges(until_segment_end[segment * SEGMENT], span)
                segment_runs[row * n_segments + segment] = span
            middle += 2 * half


cdef inline int64_t middle_row(int64_t left, int64_t right) noexcept nogil:
    """Row of ``segment_runs`` in whose middle the segments ``left`` < ``right`` meet."""
    return highest_bit(<uint64_t>(left ^ right))


cdef inline CloseRange close_range(const HoldingTables *tables, const double *close, int64_t begin, int64_t end) noexcept nogil:
    """Lowest and highest close of bars ``begin`` to ``end``, both included; not the fall (:func:`worst_fall`)."""
    cdef int64_t first = begin >> SEGMENT_BITS, last = end >> SEGMENT_BITS
    cdef int64_t bar, row
    cdef CloseRange span
    cdef const CloseRange *part
    if first == last:
        span = range_of_close(close[begin])
        for bar in range(begin + 1, end + 1):
            span.low = close[bar] if close[bar] < span.low else span.low
            span.high = close[bar] if close[bar] > span.high else span.high
        return span
    span = tables.until_segment_end[begin]
    widen(&span, &tables.since_segment_start[end])
    first, last = first + 1, last - 1
    if first < last:
        row = middle_row(first, last)
        part = tables.segment_runs + row * tables.n_segments
        widen(&span, &part[first])
        widen(&span, &part[last])
    elif first == last:
        widen(&span, &tables.until_segment_end[first * SEGMENT])
    return span


cdef inline void widen(CloseRange *span, const CloseRange *part) noexcept nogil:
    span.low = part.low if part.low < span.low else span.low
    span.high = part.high if part.high > span.high else span.high


cdef inline double worst_fall(const HoldingTables *tables, const double *close, int64_t begin, int64_t end) noexcept nogil:
    """Worst fall of bars ``begin`` to ``end``, both included; it takes divisions, so callers ask only where it may matter."""
    cdef int64_t first = begin >> SEGMENT_BITS, last = end >> SEGMENT_BITS
    cdef int64_t bar, row
    cdef CloseRange span
    cdef const CloseRange *part
    if first == last:
        span = range_of_close(close[begin])
        for bar in range(begin + 1, end + 1):
            span = joined_ranges(span, range_of_close(close[bar]))
        return span.fall
    span = tables.until_segment_end[begin]
    first, last = first + 1, last - 1
    if first < last:
        row = middle_row(first, last)
        part = tables.segment_runs + row * tables.n_segments
        span = joined_ranges(span, joined_ranges(part[first], part[last]))
    elif first == last:
        span = joined_ranges(span, tables.until_segment_end[first * SEGMENT])
    return joined_ranges(span, tables.since_segment_start[end]).fall


cdef inline int64_t first_touch(const HoldingTables *tables, const double *low, const double *high, int64_t begin, int64_t end,
                                double floor, double ceiling) noexcept nogil:
    """First bar of ``begin`` to ``end``, both included, with a low at or below ``floor`` or a high at or above ``ceiling``.

    ``end + 1`` if there is none; NaN is never touched.
    """
    cdef int64_t bar = begin
    cdef int64_t segment
    while bar <= end:
        if not bar & (SEGMENT - 1):
            segment = bar >> SEGMENT_BITS
            while segment < tables.n_segments:
                if tables.segment_lows[segment] <= floor or tables.segment_highs[segment] >= ceiling:
                    break
                segment += 1
                if segment * SEGMENT > end:
                    return end + 1
            bar = segment * SEGMENT
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

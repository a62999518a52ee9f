# The exact optimum of level profit: thresholds, the grid they make, and profit as events on it; the twin is
# backtest/_pure/_levels_events.py.  Notes (a) to (c) of levels.pyx say why each step is right.

from libc.math cimport fabs
from libc.stdint cimport int32_t, int64_t

from _levels cimport CLOSE, ENTRY_LEVEL, ENTRY_PRED, EXIT_PRED, FIELDS, LANES, SIDE, WEIGHT

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline double backtest_value(int64_t ordinal) {
        int64_t bits = ordinal >= 0 ? ordinal : INT64_MIN - ordinal;
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    static inline int64_t backtest_ordinal(double value) {
        int64_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits >= 0 ? bits : INT64_MIN - bits;
    }
    """
    double value_of "backtest_value"(int64_t ordinal) noexcept nogil
    int64_t ordinal_of "backtest_ordinal"(double value) noexcept nogil

cdef enum:
    EVENTS_PER_ROW = 5


cdef struct Event:
    double base
    double per_h
    double per_l
    int32_t end
    int32_t moves_with_l


cdef inline void thresholds(const double *rows, Py_ssize_t n_rows, int level, const int64_t *limits, int64_t *top,
                            int64_t *bottom) noexcept nogil:
    cdef int64_t entry[LANES]
    cdef int64_t entry_stop[LANES]
    cdef int64_t exit_[LANES]
    cdef int64_t exit_stop[LANES]
    cdef double field[FIELDS][LANES]
    cdef double floor[LANES]
    cdef double cap[LANES]
    cdef Py_ssize_t block = 0, lane, column, n_lanes, row
    cdef int64_t middle
    cdef double price
    cdef int _halving
    while block < n_rows:
        n_lanes = n_rows - block if n_rows - block < LANES else LANES
        for lane in range(LANES):
            row = block + (lane if lane < n_lanes else n_lanes - 1)
            for column in range(FIELDS):
                field[column][lane] = rows[row * FIELDS + column]
            if field[SIDE][lane] > 0.0:
                entry[lane], entry_stop[lane], exit_[lane], exit_stop[lane] = limits[2], limits[3] + 1, limits[0], limits[1] + 1
                floor[lane], cap[lane] = -1.0, 10.0
            else:
                entry[lane], entry_stop[lane], exit_[lane], exit_stop[lane] = -limits[1], 1 - limits[0], -limits[3], 1 - limits[2]
                floor[lane], cap[lane] = -10.0, 1.0
        for _halving in range(64):
            for lane in range(LANES):
                middle = (entry[lane] >> 1) + (entry_stop[lane] >> 1) + (entry[lane] & entry_stop[lane] & 1)
                price = field[ENTRY_PRED][lane] + value_of(middle)
                price = floor[lane] if price < floor[lane] else price
                price = 0.0 if price > 0.0 else price
                if entry[lane] < entry_stop[lane]:
                    entry[lane], entry_stop[lane] = (entry[lane] if price > field[ENTRY_LEVEL][lane] else middle + 1,
                                                     middle if price > field[ENTRY_LEVEL][lane] else entry_stop[lane])
            for lane in range(LANES):
                middle = (exit_[lane] >> 1) + (exit_stop[lane] >> 1) + (exit_[lane] & exit_stop[lane] & 1)
                price = field[EXIT_PRED][lane] + value_of(middle)
                price = 0.0 if price < 0.0 else price
                price = cap[lane] if price > cap[lane] else price
                if exit_[lane] < exit_stop[lane]:
                    exit_[lane], exit_stop[lane] = (middle + 1 if price <= field[level][lane] else exit_[lane],
                                                    exit_stop[lane] if price <= field[level][lane] else middle)
        for lane in range(n_lanes):
            if field[SIDE][lane] > 0.0:
                top[block + lane], bottom[block + lane] = exit_[lane] - 1, entry[lane]
            else:
                top[block + lane], bottom[block + lane] = -entry[lane], 1 - exit_[lane]
        block += n_lanes


cdef inline Py_ssize_t grid_of(const int64_t *ordinals, Py_ssize_t n_ordinals, int64_t lowest, int64_t highest, int64_t *grid,
                               int64_t *spare) noexcept nogil:
    cdef Py_ssize_t index, n = 0, n_distinct = 1
    for index in range(n_ordinals):
        grid[n] = ordinals[index]
        n += lowest <= ordinals[index] <= highest
    grid[n] = lowest
    grid[n + 1] = highest
    n += 2
    if lowest <= 0 <= highest:
        grid[n] = 0
        n += 1
    _sort(grid, n, spare)
    for index in range(1, n):
        if grid[index] != grid[index - 1]:
            grid[n_distinct] = grid[index]
            n_distinct += 1
    return n_distinct


cdef inline void _sort(int64_t *ordinals, Py_ssize_t n, int64_t *spare) noexcept nogil:
    """Merge sort from the bottom up: it calls nothing for a comparison and does not branch on one."""
    cdef int64_t *source = ordinals
    cdef int64_t *target = spare
    cdef Py_ssize_t run = 1, left, place
    while run < n:
        left = 0
        while left < n:
            _merge(source, target, left, left + run if left + run < n else n, left + 2 * run if left + 2 * run < n else n)
            left += 2 * run
        source, target = target, source
        run *= 2
    if source != ordinals:
        for place in range(n):
            ordinals[place] = source[place]


cdef inline void _merge(const int64_t *source, int64_t *target, Py_ssize_t left, Py_ssize_t middle,
                        Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t place = left, right = middle
    cdef bint takes_left
    while left < middle and right < stop:
        takes_left = source[left] <= source[right]
        target[place] = source[left] if takes_left else source[right]
        left += takes_left
        right += not takes_left
        place += 1
    while left < middle:
        target[place] = source[left]
        left, place = left + 1, place + 1
    while right < stop:
        target[place] = source[right]
        right, place = right + 1, place + 1


cdef inline Py_ssize_t ordinals_below(const int64_t *ordinals, Py_ssize_t n, int64_t limit) noexcept nogil:
    cdef const int64_t *base = ordinals
    cdef Py_ssize_t half
    while n > 1:
        half = n >> 1
        base = base + half if base[half - 1] < limit else base
        n -= half
    return (base - ordinals) + (n == 1 and base[0] < limit)


cdef inline Py_ssize_t _values_below(const double *values, Py_ssize_t n, double limit) noexcept nogil:
    cdef const double *base = values
    cdef Py_ssize_t half
    while n > 1:
        half = n >> 1
        base = base + half if base[half - 1] < limit else base
        n -= half
    return (base - values) + (n == 1 and base[0] < limit)


cdef inline Py_ssize_t events_of(const double *rows, Py_ssize_t n_rows, double fee_rate, const double *high, Py_ssize_t n_high,
                                 const double *low, Py_ssize_t n_low, const int64_t *ends, const int64_t *steps, int64_t *first,
                                 int64_t *spare, Event *events, double *size) noexcept nogil:
    """Events in order of their step, where each step's begin, and the sum of their largest absolute values."""
    cdef Event slots[EVENTS_PER_ROW]
    cdef int64_t when[EVENTS_PER_ROW]
    cdef Py_ssize_t row, slot, index, n_events
    cdef int64_t *zero_ends = spare
    cdef int64_t *zero_steps = spare + n_rows
    cdef int64_t *floor_steps = spare + 2 * n_rows
    cdef double largest_h = fabs(high[0]), largest_l = fabs(low[0])
    largest_h = fabs(high[n_high - 1]) if fabs(high[n_high - 1]) > largest_h else largest_h
    largest_l = fabs(low[n_low - 1]) if fabs(low[n_low - 1]) > largest_l else largest_l
    for index in range(n_low + 2):
        first[index] = 0
    for row in range(n_rows):  # a counting sort: how many events each step has, then where they begin, then each to its place
        _clamps(rows + row * FIELDS, high, n_high, low, n_low, ends[row], steps[row], zero_ends + row, zero_steps + row,
                floor_steps + row)
        _slots(rows + row * FIELDS, fee_rate, n_high, n_low, ends[row], steps[row], zero_ends[row], zero_steps[row],
               floor_steps[row], slots, when)
        for slot in range(EVENTS_PER_ROW):
            first[when[slot] + 1] += when[slot] < n_low
    for index in range(n_low):
        first[index + 1] += first[index]
    n_events = first[n_low]
    for row in range(n_rows):
        _slots(rows + row * FIELDS, fee_rate, n_high, n_low, ends[row], steps[row], zero_ends[row], zero_steps[row],
               floor_steps[row], slots, when)
        for slot in range(EVENTS_PER_ROW):
            if when[slot] < n_low:
                events[first[when[slot]]] = slots[slot]
                first[when[slot]] += 1
    for index in range(n_low, 0, -1):  # each start has moved to the next one's place
        first[index] = first[index - 1]
    first[0] = 0
    size[0] = 0.0
    for index in range(n_events):
        size[0] += (fabs(events[index].base) + fabs(events[index].per_h) * largest_h) + fabs(events[index].per_l) * largest_l
    return n_events


cdef inline void _clamps(const double *row, const double *high, Py_ssize_t n_high, const double *low, Py_ssize_t n_low,
                         int64_t end, int64_t step, int64_t *zero_end, int64_t *zero_step, int64_t *floor_step) noexcept nogil:
    cdef bint is_long = row[SIDE] > 0.0
    cdef double high_pred = row[EXIT_PRED] if is_long else -row[ENTRY_PRED]
    cdef double low_pred = row[ENTRY_PRED] if is_long else -row[EXIT_PRED]
    cdef Py_ssize_t below = _values_below(high, n_high, -high_pred)
    zero_end[0] = below if below < end else end
    zero_step[0] = _values_below(low, n_low, -low_pred)
    floor_step[0] = 0 if is_long else _values_below(low, n_low, -1.0 - low_pred)


cdef inline void _slots(const double *row, double fee_rate, Py_ssize_t n_high, Py_ssize_t n_low, int64_t end, int64_t step,
                        int64_t zero_end, int64_t zero_step, int64_t floor_step, Event *slots, int64_t *when) noexcept nogil:
    cdef bint is_long = row[SIDE] > 0.0
    cdef double weight = row[WEIGHT], close = row[SIDE] * row[CLOSE]
    cdef double high_pred = row[EXIT_PRED] if is_long else -row[ENTRY_PRED]
    cdef double low_pred = row[ENTRY_PRED] if is_long else -row[EXIT_PRED]
    cdef bint is_linear = zero_step > step, is_floor = floor_step > step
    cdef double entry_part = low_pred if is_linear else 0.0
    cdef double exit_part = -1.0 if is_floor else entry_part
    cdef double slope = -weight if is_linear and not is_floor else 0.0
    cdef int64_t never = n_low, every = n_high if is_long else end, start = step if is_long else 0
    cdef Py_ssize_t slot
    slots[0].base = weight * ((close - fee_rate) - entry_part) if is_long else weight * ((high_pred - fee_rate) - close)
    slots[0].per_h = 0.0 if is_long else weight
    slots[0].per_l = slope if is_long else 0.0
    slots[1].base = weight * (high_pred - close) if is_long else weight * (close - exit_part)
    slots[1].per_h = weight if is_long else 0.0
    slots[1].per_l = 0.0 if is_long else slope
    slots[2].base, slots[2].per_h, slots[2].per_l = -(weight * high_pred), -weight, 0.0
    slots[3].base, slots[3].per_h, slots[3].per_l = weight * (-1.0 - low_pred), 0.0, -weight
    slots[4].base, slots[4].per_h, slots[4].per_l = weight * low_pred, 0.0, weight
    slots[0].end, slots[1].end, slots[2].end, slots[3].end, slots[4].end = (<int32_t> every, <int32_t> end, <int32_t> zero_end,
                                                                            <int32_t> end, <int32_t> every)
    when[0], when[1], when[2], when[3] = start, step, start, floor_step if is_floor else never
    when[4] = zero_step if is_linear and step < never else never
    for slot in range(EVENTS_PER_ROW):
        when[slot] = when[slot] if slots[slot].end > 0 else never
        slots[slot].moves_with_l = is_floor or slots[slot].per_l != 0.0

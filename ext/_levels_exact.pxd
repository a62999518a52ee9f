# The exact optimum of level profit; the notes (a) to (e) of backtest/_pure/levels.py say why each step is right.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int32_t, int64_t
from libc.stdlib cimport qsort

from _levels cimport (CLOSE, ENTRY_LEVEL, ENTRY_PRED, EXIT_PRED, FIELDS, LANES, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, SIDE,
                      WEIGHT, _profit)

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline double backtest_value(int64_t key) {
        int64_t bits = key >= 0 ? key : INT64_MIN - key;
        double value;
        memcpy(&value, &bits, sizeof value);
        return value;
    }
    static inline int64_t backtest_key(double value) {
        int64_t bits;
        memcpy(&bits, &value, sizeof bits);
        return bits >= 0 ? bits : INT64_MIN - bits;
    }
    """
    double _value "backtest_value"(int64_t key) noexcept nogil
    int64_t _key "backtest_key"(double value) noexcept nogil

cdef enum:
    CHUNK = 8  # lanes of the sweep's inner loops
    WIDTH = 256
    KEPT = 1024
    EVENTS_PER_ROW = 5


cdef struct Event:
    double base
    double per_h
    double per_l
    int32_t end
    int32_t moves_with_l


cdef struct Cell:
    double value
    double at_h
    double at_l


cdef struct Cells:
    # The cells within tolerance of the best, highest first, at most KEPT; twice as many between two tidyings.
    Cell *rows
    Py_ssize_t n
    double best
    double floor
    double dropped
    double tolerance


cdef inline void _exact(const double *rows, Py_ssize_t n_rows, Py_ssize_t split, double fee_rate, int pessimistic,
                        const double *bounds, double *floats, int64_t *ints, double *out) noexcept nogil:
    cdef Event *events = <Event *> floats
    cdef double *high = floats + 4 * EVENTS_PER_ROW * n_rows
    cdef double *low = high + n_rows + 3
    cdef double *scored = low + n_rows + 3  # 3 * 2 * KEPT of cells, then offsets and scores
    cdef double *offsets = scored + 6 * KEPT
    cdef double *scores = offsets + 2 * KEPT
    cdef int64_t *top = ints
    cdef int64_t *bottom = top + n_rows
    cdef int64_t *highs = bottom + n_rows
    cdef int64_t *lows = highs + n_rows + 3
    cdef int64_t *first = lows + n_rows + 3
    cdef int64_t *spare = first + n_rows + 5
    cdef Cells cells
    cdef int64_t limits[4]
    cdef Py_ssize_t index, n_high, n_low, n_events, column, shift
    cdef double size
    for index in range(4):
        limits[index] = _key(bounds[index])
    _thresholds(rows, n_rows, PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL, limits, top, bottom)
    n_high = _grid(top, n_rows, limits[0], limits[1], highs, spare)
    n_low = _grid(bottom, n_rows, limits[2], limits[3], lows, spare)
    for index in range(n_high):
        high[index] = _value(highs[index])
    for index in range(n_low):
        low[index] = _value(lows[index])
    for index in range(n_rows):
        top[index] = _keys_below(highs, n_high, top[index] + 1)
        bottom[index] = _keys_below(lows, n_low, bottom[index])
    n_events = _events(rows, n_rows, fee_rate, high, n_high, low, n_low, top, bottom, first, spare, events, &size)
    cells.rows = <Cell *> scored
    cells.n = 0
    cells.best = cells.floor = cells.dropped = -INFINITY
    cells.tolerance = 2.0 * (n_events + 32.0) * 2.220446049250313e-16 * size
    shift = 0
    while n_high >> shift > WIDTH:
        shift += 1
    if shift > 0:
        _sweep(first, events, high, n_high, low, n_low, 0, shift, &cells, False)
    column = 0
    while column < n_high:
        _sweep(first, events, high, n_high, low, n_low, column, 0, &cells, True)
        column += WIDTH
    _tidy(&cells)
    for index in range(cells.n):
        offsets[2 * index] = cells.rows[index].at_h
        offsets[2 * index + 1] = cells.rows[index].at_l
    _profit(rows, n_rows, split, fee_rate, pessimistic, offsets, 0, cells.n, scores)
    for index in range(cells.n):
        cells.rows[index].value = scores[index]
        if _ranked(&cells.rows[index], &cells.rows[0]) < 0:
            cells.rows[0] = cells.rows[index]
    out[0], out[1], out[2] = cells.rows[0].at_h, cells.rows[0].at_l, cells.rows[0].value
    out[3], out[4], out[5] = cells.tolerance, 1.0 if cells.dropped >= cells.best - cells.tolerance else 0.0, cells.n


cdef inline void _thresholds(const double *rows, Py_ssize_t n_rows, int level, const int64_t *limits, int64_t *top,
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
                price = field[ENTRY_PRED][lane] + _value(middle)
                price = floor[lane] if price < floor[lane] else price
                price = 0.0 if price > 0.0 else price
                if entry[lane] < entry_stop[lane]:
                    entry[lane], entry_stop[lane] = (entry[lane] if price > field[ENTRY_LEVEL][lane] else middle + 1,
                                                     middle if price > field[ENTRY_LEVEL][lane] else entry_stop[lane])
            for lane in range(LANES):
                middle = (exit_[lane] >> 1) + (exit_stop[lane] >> 1) + (exit_[lane] & exit_stop[lane] & 1)
                price = field[EXIT_PRED][lane] + _value(middle)
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


cdef inline Py_ssize_t _grid(const int64_t *keys, Py_ssize_t n_keys, int64_t lowest, int64_t highest, int64_t *grid,
                             int64_t *spare) noexcept nogil:
    cdef Py_ssize_t index, n = 0, n_distinct = 1
    for index in range(n_keys):
        grid[n] = keys[index]
        n += lowest <= keys[index] <= highest
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


cdef inline void _sort(int64_t *keys, Py_ssize_t n, int64_t *spare) noexcept nogil:
    """Merge sort from the bottom up: it calls nothing for a comparison and does not branch on one."""
    cdef int64_t *source = keys
    cdef int64_t *target = spare
    cdef Py_ssize_t run = 1, left, place
    while run < n:
        left = 0
        while left < n:
            _merge(source, target, left, left + run if left + run < n else n, left + 2 * run if left + 2 * run < n else n)
            left += 2 * run
        source, target = target, source
        run *= 2
    if source != keys:
        for place in range(n):
            keys[place] = source[place]


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


cdef inline Py_ssize_t _keys_below(const int64_t *keys, Py_ssize_t n, int64_t limit) noexcept nogil:
    cdef const int64_t *base = keys
    cdef Py_ssize_t half
    while n > 1:
        half = n >> 1
        base = base + half if base[half - 1] < limit else base
        n -= half
    return (base - keys) + (n == 1 and base[0] < limit)


cdef inline Py_ssize_t _values_below(const double *values, Py_ssize_t n, double limit) noexcept nogil:
    cdef const double *base = values
    cdef Py_ssize_t half
    while n > 1:
        half = n >> 1
        base = base + half if base[half - 1] < limit else base
        n -= half
    return (base - values) + (n == 1 and base[0] < limit)


cdef inline Py_ssize_t _events(const double *rows, Py_ssize_t n_rows, double fee_rate, const double *high, Py_ssize_t n_high,
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


cdef inline void _sweep(const int64_t *first, const Event *events, const double *high, Py_ssize_t n_high, const double *low,
                        Py_ssize_t n_low, Py_ssize_t column, int shift, Cells *cells, bint keep) noexcept nogil:
    """Take WIDTH columns, every 2^shift-th from ``column``, through all l-candidates."""
    cdef double h[WIDTH]
    cdef double sums[WIDTH]
    cdef double slopes[WIDTH]
    cdef double values[WIDTH]
    cdef double highest[CHUNK]
    cdef Event event
    cdef double base = 0.0, per_h = 0.0, per_l = 0.0, line, offset, turn, edge, bound, now
    cdef double peak = 0.0, base_then = 0.0, per_h_then = 0.0, line_then = 0.0
    cdef Py_ssize_t round_up = (1 << shift) - 1, width = (n_high - column + round_up) >> shift
    cdef Py_ssize_t n_chunks, step, index, lane, chunk, end, start, place
    # Columns from h_end (l_end) on do not depend on h (l).  No event ends behind h_end: each comes with one in h of equal end.
    cdef Py_ssize_t h_end = 0, l_end = 0
    cdef Py_ssize_t slots[WIDTH]  # where the cell of the plateau that begins at a column is kept
    cdef Cell cell
    cdef bint is_touched, is_quiet, is_stale = False
    width = WIDTH if width > WIDTH else width
    n_chunks = (width + CHUNK - 1) // CHUNK
    for lane in range(n_chunks * CHUNK):  # no event ends at the last column: repeats of it fill registers and change no maximum
        h[lane] = high[column + ((lane if lane < width else width - 1) << shift)]
        sums[lane] = 0.0
        slopes[lane] = 0.0
        slots[lane] = -1
    for step in range(n_low):
        now = low[step]
        is_touched, is_quiet = step == 0, True
        for index in range(first[step], first[step + 1]):
            event = events[index]
            end = (event.end - column + round_up) >> shift
            if end >= width:
                base += event.base
                per_h += event.per_h
                per_l += event.per_l
            elif end > 0:
                for lane in range((end + CHUNK - 1) // CHUNK * CHUNK):
                    sums[lane] += event.base + event.per_h * h[lane] if lane < end else 0.0
                    slopes[lane] += event.per_l if lane < end else 0.0
                is_touched = True
            else:
                continue
            is_quiet = False
            h_end = end if event.per_h != 0.0 and end > h_end else h_end
            l_end = end if event.moves_with_l and end > l_end else l_end
        is_stale = is_stale or not is_quiet
        line = per_l * now
        if not is_touched:
            turn = per_h - per_h_then
            edge = turn * h[width - 1] if turn > 0.0 else turn * h[0]
            bound = ((peak + (base - base_then)) + edge) + (line - line_then)  # slopes are <= 0, and l only rises
            if bound < cells.floor:
                continue
        offset = base + line
        for lane in range(CHUNK):
            highest[lane] = -INFINITY
        for chunk in range(n_chunks):
            for lane in range(CHUNK):
                index = chunk * CHUNK + lane
                values[index] = ((sums[index] + per_h * h[index]) + slopes[index] * now) + offset
                highest[lane] = values[index] if values[index] > highest[lane] else highest[lane]
        peak = highest[0]
        for lane in range(1, CHUNK):
            peak = highest[lane] if highest[lane] > peak else peak
        base_then, per_h_then, line_then = base, per_h, line
        if peak > cells.best:
            cells.best = peak
            cells.floor = peak - 1.5 * cells.tolerance  # half the tolerance is room for the rounding of the bound itself
        if keep and peak >= cells.best - cells.tolerance:
            start = place = -1
            if is_stale:
                for lane in range(width):
                    slots[lane] = -1
                is_stale = False
            for lane in range(width):
                if not values[lane] >= cells.best - cells.tolerance:
                    continue
                if start < 0 or lane <= h_end:
                    start, place = lane, slots[lane] if lane >= l_end else -1
                cell.value, cell.at_h, cell.at_l = values[lane], h[lane], now
                if place >= 0:
                    if _ranked(&cell, &cells.rows[place]) < 0:
                        cells.rows[place] = cell
                    continue
                if cells.n == 2 * KEPT:
                    _tidy(cells)
                    for index in range(width):
                        slots[index] = -1
                cells.rows[cells.n] = cell
                place = slots[start] = cells.n
                cells.n += 1


cdef inline void _tidy(Cells *cells) noexcept nogil:
    cdef Py_ssize_t index, n = 0
    for index in range(cells.n):
        if cells.rows[index].value >= cells.best - cells.tolerance:
            cells.rows[n] = cells.rows[index]
            n += 1
    qsort(cells.rows, n, sizeof(Cell), _ranked)
    if n > KEPT:
        cells.dropped = cells.rows[KEPT].value if cells.rows[KEPT].value > cells.dropped else cells.dropped
        n = KEPT
    cells.n = n


cdef inline int _ranked(const void *first, const void *second) noexcept nogil:
    """Negative if the first cell goes before the second: highest value, then smallest |h| + |l|, |h|, h, l."""
    cdef const Cell *a = <const Cell *> first
    cdef const Cell *b = <const Cell *> second
    if a.value != b.value:
        return -1 if a.value > b.value else 1
    if fabs(a.at_h) + fabs(a.at_l) != fabs(b.at_h) + fabs(b.at_l):
        return -1 if fabs(a.at_h) + fabs(a.at_l) < fabs(b.at_h) + fabs(b.at_l) else 1
    if fabs(a.at_h) != fabs(b.at_h):
        return -1 if fabs(a.at_h) < fabs(b.at_h) else 1
    if a.at_h != b.at_h:
        return -1 if a.at_h < b.at_h else 1
    return (a.at_l > b.at_l) - (a.at_l < b.at_l)

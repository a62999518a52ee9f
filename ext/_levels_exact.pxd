# The exact optimum of level profit: the sweep over events and the cells it keeps; the twin is backtest/_pure/_levels_exact.py.
# Notes (d) to (f) of levels.pyx say why each step is right.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t
from libc.stdlib cimport qsort

from _levels cimport (BEST_HIGH, BEST_LOW, BEST_PROFIT, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, SCORED, TOLERANCE, TRUNCATED,
                      profit_of)
from _levels_events cimport EVENTS_PER_ROW, Event, events_of, grid_of, ordinal_of, ordinals_below, thresholds, value_of

cdef enum:
    CHUNK = 8  # lanes of the sweep's inner loops
    WIDTH = 256
    MAX_CELLS = 1024


cdef struct Cell:
    double value
    double at_h
    double at_l


cdef struct Cells:
    # The cells within tolerance of the best, highest first, at most MAX_CELLS; up to twice as many until `tidy`.
    Cell *rows
    Py_ssize_t n
    double best
    double floor
    double dropped
    double tolerance


cdef inline void exact_optimum(const double *rows, Py_ssize_t n_rows, Py_ssize_t split, double fee_rate, int pessimistic,
                               const double *bounds, double *floats, int64_t *ints, double *out) noexcept nogil:
    cdef Event *events = <Event *> floats
    cdef double *high = floats + 4 * EVENTS_PER_ROW * n_rows
    cdef double *low = high + n_rows + 3
    cdef double *scored = low + n_rows + 3  # 3 * 2 * MAX_CELLS of cells, then offsets and scores
    cdef double *offsets = scored + 6 * MAX_CELLS
    cdef double *scores = offsets + 2 * MAX_CELLS
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
        limits[index] = ordinal_of(bounds[index])
    thresholds(rows, n_rows, PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL, limits, top, bottom)
    n_high = grid_of(top, n_rows, limits[0], limits[1], highs, spare)
    n_low = grid_of(bottom, n_rows, limits[2], limits[3], lows, spare)
    for index in range(n_high):
        high[index] = value_of(highs[index])
    for index in range(n_low):
        low[index] = value_of(lows[index])
    for index in range(n_rows):
        top[index] = ordinals_below(highs, n_high, top[index] + 1)
        bottom[index] = ordinals_below(lows, n_low, bottom[index])
    n_events = events_of(rows, n_rows, fee_rate, high, n_high, low, n_low, top, bottom, first, spare, events, &size)
    cells.rows = <Cell *> scored
    cells.n = 0
    cells.best = cells.floor = cells.dropped = -INFINITY
    cells.tolerance = 2.0 * (n_events + 32.0) * 2.220446049250313e-16 * size
    shift = 0
    while n_high >> shift > WIDTH:
        shift += 1
    if shift > 0:
        sweep(first, events, high, n_high, low, n_low, 0, shift, &cells, False)
    column = 0
    while column < n_high:
        sweep(first, events, high, n_high, low, n_low, column, 0, &cells, True)
        column += WIDTH
    tidy(&cells)
    for index in range(cells.n):
        offsets[2 * index] = cells.rows[index].at_h
        offsets[2 * index + 1] = cells.rows[index].at_l
    profit_of(rows, n_rows, split, fee_rate, pessimistic, offsets, 0, cells.n, scores)
    for index in range(cells.n):
        cells.rows[index].value = scores[index]
        if ranked(&cells.rows[index], &cells.rows[0]) < 0:
            cells.rows[0] = cells.rows[index]
    out[BEST_HIGH], out[BEST_LOW], out[BEST_PROFIT] = cells.rows[0].at_h, cells.rows[0].at_l, cells.rows[0].value
    out[TOLERANCE], out[SCORED] = cells.tolerance, cells.n
    out[TRUNCATED] = 1.0 if cells.dropped >= cells.best - cells.tolerance else 0.0


cdef inline void sweep(const int64_t *first, const Event *events, const double *high, Py_ssize_t n_high, const double *low,
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
    # Columns from h_end (l_end) on do not depend on h (l).  No event ends after h_end: each comes with one in h of equal end.
    cdef Py_ssize_t h_end = 0, l_end = 0
    cdef Py_ssize_t slots[WIDTH]  # where the cell of the plateau that begins at a column is kept
    cdef Cell cell
    cdef bint is_touched, is_quiet, is_stale = False
    width = WIDTH if width > WIDTH else width
    n_chunks = (width + CHUNK - 1) // CHUNK
    for lane in range(n_chunks * CHUNK):  # repeat the last column, at which no event ends: the maximum is unchanged
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
                    if ranked(&cell, &cells.rows[place]) < 0:
                        cells.rows[place] = cell
                    continue
                if cells.n == 2 * MAX_CELLS:
                    tidy(cells)
                    for index in range(width):
                        slots[index] = -1
                cells.rows[cells.n] = cell
                place = slots[start] = cells.n
                cells.n += 1


cdef inline void tidy(Cells *cells) noexcept nogil:
    cdef Py_ssize_t index, n = 0
    for index in range(cells.n):
        if cells.rows[index].value >= cells.best - cells.tolerance:
            cells.rows[n] = cells.rows[index]
            n += 1
    qsort(cells.rows, n, sizeof(Cell), ranked)
    if n > MAX_CELLS:
        cells.dropped = cells.rows[MAX_CELLS].value if cells.rows[MAX_CELLS].value > cells.dropped else cells.dropped
        n = MAX_CELLS
    cells.n = n


cdef inline int ranked(const void *first, const void *second) noexcept nogil:
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

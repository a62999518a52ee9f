# Level profit: columns of a row, and profit of candidates; the twin is backtest/_pure/_levels.py.

cdef enum:
    ENTRY_PRED, EXIT_PRED, ENTRY_LEVEL, OPTIMISTIC_LEVEL, PESSIMISTIC_LEVEL, CLOSE, WEIGHT, SIDE, FIELDS  # of a row

cdef enum:
    ENTRY, EXIT, EXIT_KIND, FILLED, AMBIGUOUS, PROFIT  # of a replayed row

cdef enum:
    NONE, AT_CLOSE, AT_LIMIT  # its exit kinds

cdef enum:
    BEST_HIGH, BEST_LOW, BEST_PROFIT, TOLERANCE, TRUNCATED, SCORED  # of the exact optimum's answer

cdef enum:
    LANES = 16  # 8, 16 and 32 gave 2.8, 3.1 and 2.1 G candidate-bars/s with AVX-512: few wait for the additions, many spill


cdef struct Sides:
    # (entry_offset, exit_offset) of the candidates for each side.
    double long_entry[LANES]
    double long_exit[LANES]
    double short_entry[LANES]
    double short_exit[LANES]


cdef inline void profit_of(const double *rows, Py_ssize_t n_rows, Py_ssize_t split, double fee_rate, int pessimistic,
                           const double *offsets, Py_ssize_t start, Py_ssize_t stop, double *out) noexcept nogil:
    cdef Sides sides
    cdef double first[LANES]
    cdef double second[LANES]
    cdef int level = PESSIMISTIC_LEVEL if pessimistic else OPTIMISTIC_LEVEL
    cdef Py_ssize_t block = start, lane, candidate, n_lanes
    while block < stop:
        n_lanes = stop - block if stop - block < LANES else LANES
        for lane in range(LANES):  # idle lanes repeat the last candidate
            candidate = block + (lane if lane < n_lanes else n_lanes - 1)
            sides.long_entry[lane] = offsets[2 * candidate + 1]
            sides.long_exit[lane] = offsets[2 * candidate]
            sides.short_entry[lane] = -offsets[2 * candidate]
            sides.short_exit[lane] = -offsets[2 * candidate + 1]
        leg_profit(rows, split, fee_rate, level, &sides, first)
        leg_profit(rows + split * FIELDS, n_rows - split, fee_rate, level, &sides, second)
        for lane in range(n_lanes):
            out[block + lane] = first[lane] + second[lane]
        block += n_lanes


cdef inline void leg_profit(const double *row, Py_ssize_t n_rows, double fee_rate, int level, Sides *sides,
                            double *out) noexcept nogil:
    cdef double total[LANES]
    cdef const double *entry_offset
    cdef const double *exit_offset
    cdef double entry, exit_, gain, floor, cap, entry_pred, exit_pred, entry_level, exit_level, close, weight
    cdef Py_ssize_t _bar, lane
    for lane in range(LANES):
        total[lane] = 0.0
    for _bar in range(n_rows):
        entry_pred = row[ENTRY_PRED]
        exit_pred = row[EXIT_PRED]
        entry_level = row[ENTRY_LEVEL]
        exit_level = row[level]
        close = row[CLOSE]
        weight = row[WEIGHT]
        floor = -1.0 if row[SIDE] > 0.0 else -10.0
        cap = 10.0 if row[SIDE] > 0.0 else 1.0
        entry_offset = &sides.long_entry[0] if row[SIDE] > 0.0 else &sides.short_entry[0]
        exit_offset = &sides.long_exit[0] if row[SIDE] > 0.0 else &sides.short_exit[0]
        for lane in range(LANES):
            entry = entry_pred + entry_offset[lane]
            entry = floor if entry < floor else entry
            entry = 0.0 if entry > 0.0 else entry
            exit_ = exit_pred + exit_offset[lane]
            exit_ = 0.0 if exit_ < 0.0 else exit_
            exit_ = cap if exit_ > cap else exit_
            exit_ = exit_ if exit_ <= exit_level else close
            gain = weight * ((exit_ - entry) - fee_rate)
            total[lane] = total[lane] + (gain if entry > entry_level else 0.0)
        row += FIELDS
    for lane in range(LANES):
        out[lane] = total[lane]

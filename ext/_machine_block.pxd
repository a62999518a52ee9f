# A block of 64 candidates of the bar machine, bar by bar; its rows and their vector code are in _machine_block.h.

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from _machine cimport (ASKED, BLOCK, EXPIRED, FIRST_FLAG, FLAT_WORD, LONG_WORD, MASK_TILE, SHORT_WORD, TILE, Action, Fault,
                       Instruction, MachineAccount, MachineRecords, MachineSettings, MachineShared, MachineSlot, Mask, Tile,
                       fill_mask, fill_row, fill_tile, run_program, tile_row)
from _machine_account cimport end_slots, lowest_bit, sums_of
from _machine_bar cimport end_of_data, fill_market_orders, go_bust, open_bar
from _machine_orders cimport act
from _records cimport CLOSE
from _sums cimport Sums, start_sums

cdef extern from "_machine_block.h" nogil:
    ctypedef struct Block "machine_block":
        MachineAccount lane
        double nearest_low[64]
        double nearest_high[64]
        double equity[64]
        double paid[64]
        double *units
        uint64_t exists, is_bust, is_faulty, is_held, opened_here, left_by_level, has_moved, is_stale, has_equity
        const MachineShared *shared
    MachineAccount *gather_lane(Block *block, int lane, int64_t bar, void *records)
    void scatter_lane(Block *block, const MachineAccount *account)
    void find_nearest(Block *block, uint64_t stale)
    uint64_t find_touched(const Block *block, double low, double high)
    void carry_rows(Block *block, double close, int64_t bar, int with_age, int with_best, int with_worst)
    void value_rows(Block *block, uint64_t groups, double close)
    uint64_t find_bust(const Block *block, uint64_t groups)
    void start_marks(Block *block, double start_cash)
    void mark_rows(Block *block, uint64_t groups)
    void read_sums(const Block *block, int lane, double *sums)
    void fill_fields(Block *block, int64_t used, double close, int64_t bar)
    const double *field_row(const Block *block, int64_t field)
    uint64_t find_expired(const Block *block, int slot, int64_t bar)
    uint64_t find_long(const Block *block)
    void store_numbers(const int *stores, int64_t n, double *const *states, const double *const *rows, double *scratch)

cdef extern from "_machine_fills.h" nogil:
    void fill_market_rows(Block *block, uint64_t alive, double quote, int64_t bar, int at_close)
    uint64_t exit_rows(Block *block, uint64_t lanes, int64_t bar)

cdef extern from "_machine_acts.h" nogil:
    uint64_t act_on_rows(Block *block, const Action *action, const double *const *rows, uint64_t lanes, int64_t bar)

cdef struct Series:  # of a replay, from the first bar on
    double *equity
    double *units
    double *carry

cdef struct Code:  # the program, and the rows of its number file
    const Instruction *code
    int64_t n_setup, n_code, n_actions, n_inputs, n_masks, n_tiles, n_stores, n_flag_stores
    const Action *actions
    const int *stores            # pairs of a state and its new value's place
    const int *flag_stores
    const double **rows
    double **states
    uint64_t *words
    double *scratch              # a row for each store
    uint64_t *new_flags
    Tile *tiles
    const int *input_tiles       # of each input
    const int64_t *input_shifts  # bars back in the tile
    int64_t first_input, first_mask, history
    Mask *masks
    int64_t fields_used, n_bars, n_words
    bint tracks_age, tracks_best, tracks_worst, has_trails


cdef inline void start_block(Block *block, int64_t n_lanes) noexcept nogil:
    """Every lane at its beginning; lanes beyond the candidates do not exist."""
    cdef const MachineShared *shared = block.shared
    cdef const MachineSettings *settings = shared.settings
    cdef MachineAccount *account = &block.lane
    cdef MachineSlot *order
    cdef int lane, at
    memset(account, 0, sizeof(account[0]))
    account.cash = settings.start_cash
    account.stop = account.target = account.trail = NAN
    account.target_share, account.last_exit_bar = 1.0, -INFINITY
    start_sums(sums_of(account), <double>(settings.last - settings.first))
    account.shared = shared
    block.exists = ~<uint64_t>0 if n_lanes == BLOCK else (<uint64_t>1 << n_lanes) - 1
    block.is_bust = block.is_faulty = block.is_held = block.opened_here = block.left_by_level = 0
    for at in range(<int>shared.n_slots):
        order = &shared.slots[at]
        order.active = order.triggered = 0
        fill_row(order.once_epoch, -1.0)
        fill_row(order.limit, NAN)  # what an order is given without
        fill_row(order.stop, NAN)
        fill_row(order.stop_loss, NAN)
        fill_row(order.take_profit, NAN)
        fill_row(order.trail, NAN)
        fill_row(order.valid_until, INFINITY)
    for lane in range(BLOCK):
        account.lane = lane
        scatter_lane(block, account)
    start_marks(block, settings.start_cash)
    block.has_equity = ~<uint64_t>0 if settings.start_cash > 0.0 else 0


cdef inline void run_block(Block *block, Code *code, int64_t first_row, Sums *sums, Fault *faults, MachineRecords *records,
                           Series *series) noexcept nogil:
    """Every bar of a block whose lanes are candidates ``first_row`` and on."""
    cdef const MachineShared *shared = block.shared
    cdef const MachineSettings *settings = shared.settings
    cdef int64_t bar
    cdef int lane
    cdef uint64_t alive, groups, lanes
    cdef double close
    for bar in range(settings.first, settings.last):
        close = shared.close[bar]
        alive = block.exists & ~block.is_bust & ~block.is_faulty
        block.has_moved = block.opened_here = block.left_by_level = 0
        read_tiles(code, bar, settings.first)
        open_lanes(block, bar, alive, records)
        expire_orders(block, bar, alive, records)
        if records != NULL:
            fill_row(block.paid, 0.0)
        carry_rows(block, close, bar, code.tracks_age, code.tracks_best, code.tracks_worst)
        # A trail follows the best close, and the liquidation price what holding costs.
        if code.has_trails or (settings.maintenance_margin > 0.0 and settings.has_carrying_costs):
            block.is_stale |= block.is_held
        groups = block.is_held | block.has_moved
        value_rows(block, groups, close)
        decide(block, code, bar, alive & block.has_equity, first_row, sums, faults, records)
        alive &= ~block.is_faulty
        if series != NULL and block.is_faulty:
            break
        if settings.fills_at_close:
            fill_at_close(block, bar, alive & block.has_equity, records)
            groups |= block.has_moved
            value_rows(block, groups, close)
        if bar == settings.last - 1 and settings.close_at_end:
            lanes = alive & block.has_equity & block.is_held
            groups |= lanes
            while lanes:
                lane = next_lane(&lanes)
                end_lane(block, lane, bar, close, records)
            value_rows(block, groups, close)
        lanes = find_bust(block, groups) & alive
        if lanes:
            block.is_bust |= lanes
            while lanes:
                lane = next_lane(&lanes)
                bust_lane(block, lane, bar, close, records)
        mark_rows(block, groups if settings.rf_per_bar == 0.0 else ~<uint64_t>0)
        if series != NULL:
            series.equity[bar - settings.first], series.carry[bar - settings.first] = block.equity[0], block.paid[0]
            series.units[bar - settings.first] = block.units[0]
    lanes = block.exists & ~block.is_faulty
    while lanes:
        lane = next_lane(&lanes)
        write_lane(block, lane, &sums[first_row + lane])


cdef inline int next_lane(uint64_t *lanes) noexcept nogil:
    """Take the lowest lane out of a word that is not 0."""
    cdef int lane = lowest_bit(lanes[0])
    lanes[0] &= lanes[0] - 1
    return lane


cdef inline void write_lane(const Block *block, int lane, Sums *sums) noexcept nogil:
    """The sums of a candidate that ends here."""
    read_sums(block, lane, <double *>sums)


# --- up to the close ------------------------------------------------------------------------------------------------------


cdef inline void read_tiles(Code *code, int64_t bar, int64_t first) noexcept nogil:
    """Lines and masks of this bar, laid out by lanes."""
    cdef int64_t begin, at
    if bar == first or not bar & (TILE - 1):
        begin = bar & ~<int64_t>(TILE - 1)
        if bar == first:
            begin -= (code.history + TILE - 1) & ~<int64_t>(TILE - 1)
        while begin <= bar:
            for at in range(code.n_tiles):
                fill_tile(&code.tiles[at], begin, code.n_bars)
            begin += TILE
    if bar == first or not bar & (MASK_TILE - 1):
        for at in range(code.n_masks):
            fill_mask(&code.masks[at], bar & ~<int64_t>(MASK_TILE - 1), code.n_words)
    for at in range(code.n_inputs):
        code.rows[code.first_input + at] = tile_row(&code.tiles[code.input_tiles[at]], bar - code.input_shifts[at])
    for at in range(code.n_masks):
        code.words[code.first_mask + at] = code.masks[at].words[bar & (MASK_TILE - 1)]


cdef inline uint64_t active_lanes(const MachineShared *shared, uint64_t slots) noexcept nogil:
    """Lanes that have an order in any of ``slots``."""
    cdef uint64_t lanes = 0
    while slots:
        lanes |= shared.slots[lowest_bit(slots)].active
        slots &= slots - 1
    return lanes


cdef inline void open_lanes(Block *block, int64_t bar, uint64_t alive, MachineRecords *records) noexcept nogil:
    """Lanes with a market order, or whose levels or orders the bar touches: what happens to them up to the close."""
    cdef const MachineShared *shared = block.shared
    cdef MachineAccount *account
    cdef uint64_t lanes
    cdef int lane
    if records == NULL:
        fill_market_rows(block, alive, shared.open[bar], bar, False)
    if block.is_stale:
        find_nearest(block, block.is_stale)
    lanes = find_touched(block, shared.low[bar], shared.high[bar]) & alive
    if records == NULL and lanes:
        lanes = exit_rows(block, lanes, bar)
    lanes |= active_lanes(shared, shared.market_slots) & alive
    while lanes:
        lane = next_lane(&lanes)
        account = gather_lane(block, lane, bar, records)
        open_bar(account, bar)
        scatter_lane(block, account)


cdef inline void expire_orders(Block *block, int64_t bar, uint64_t alive, MachineRecords *records) noexcept nogil:
    """Orders whose last bar this is end."""
    cdef const MachineShared *shared = block.shared
    cdef MachineAccount *account
    cdef uint64_t lanes
    cdef int slot
    for slot in range(<int>shared.n_slots):
        if shared.actions[slot].valid < 0 or not shared.slots[slot].active:
            continue
        lanes = find_expired(block, slot, bar) & alive
        if lanes and records != NULL:  # which has lane 0 alone
            account = gather_lane(block, 0, bar, records)
            end_slots(account, <uint64_t>1 << slot, EXPIRED, ASKED)
        shared.slots[slot].active &= ~lanes
        block.is_stale |= lanes


# --- the close ------------------------------------------------------------------------------------------------------------


cdef inline void decide(Block *block, Code *code, int64_t bar, uint64_t lanes, int64_t first_row, Sums *sums, Fault *faults,
                        MachineRecords *records) noexcept nogil:
    """Run the function of ``lanes``: its orders, and its state for the next bar."""
    cdef uint64_t wanted
    cdef int64_t at
    cdef const Action *action
    if not lanes:
        return
    fill_fields(block, code.fields_used, block.shared.close[bar], bar)
    code.words[FLAT_WORD], code.words[LONG_WORD] = ~block.is_held, find_long(block)
    code.words[SHORT_WORD] = block.is_held & ~code.words[LONG_WORD]
    run_program(code.code, code.n_setup, code.n_code, code.rows, code.words, lanes)
    for at in range(code.n_flag_stores):
        code.new_flags[at] = code.words[code.flag_stores[2 * at + 1]]
    for at in range(code.n_actions):
        action = &code.actions[at]
        wanted = code.words[action.where] & lanes & ~block.is_faulty
        if wanted:
            act_lanes(block, code, at, bar, wanted, first_row, sums, faults, records)
    store_numbers(code.stores, code.n_stores, code.states, code.rows, code.scratch)
    for at in range(code.n_flag_stores):
        code.words[FIRST_FLAG + code.flag_stores[2 * at]] = code.new_flags[at]


cdef inline void act_lanes(Block *block, Code *code, int64_t index, int64_t bar, uint64_t lanes, int64_t first_row, Sums *sums,
                           Fault *faults, MachineRecords *records) noexcept nogil:
    """Apply one action to ``lanes``; a fault ends its lane as it was at the close before."""
    cdef MachineAccount *account
    cdef uint64_t has_moved = block.has_moved
    cdef int lane
    # One lane at a time: a replay, which records orders; prices that are rounded to a tick; and who breaks a rule.
    if records == NULL and block.shared.settings.tick == 0.0:
        lanes = act_on_rows(block, &code.actions[index], code.rows, lanes, bar)
    while lanes:
        lane = next_lane(&lanes)
        account = gather_lane(block, lane, bar, records)
        act(account, index, &code.actions[index], code.rows, &faults[first_row + lane])
        if faults[first_row + lane].code:
            block.is_faulty |= <uint64_t>1 << lane
            write_lane(block, lane, &sums[first_row + lane])
        scatter_lane(block, account)
    block.has_moved = has_moved  # orders move nothing before they fill


cdef inline void fill_at_close(Block *block, int64_t bar, uint64_t lanes, MachineRecords *records) noexcept nogil:
    """Market orders fill at the close that decided them."""
    cdef const MachineShared *shared = block.shared
    cdef MachineAccount *account
    cdef int lane
    if records == NULL:
        fill_market_rows(block, lanes, shared.close[bar], bar, True)
    lanes &= active_lanes(shared, shared.market_slots)
    while lanes:
        lane = next_lane(&lanes)
        account = gather_lane(block, lane, bar, records)
        fill_market_orders(account, shared.close[bar], CLOSE)
        scatter_lane(block, account)


cdef inline void end_lane(Block *block, int lane, int64_t bar, double close, MachineRecords *records) noexcept nogil:
    cdef MachineAccount *account
    account = gather_lane(block, lane, bar, records)
    end_of_data(account, close)
    scatter_lane(block, account)


cdef inline void bust_lane(Block *block, int lane, int64_t bar, double close, MachineRecords *records) noexcept nogil:
    cdef MachineAccount *account
    account = gather_lane(block, lane, bar, records)
    go_bust(account, close)
    scatter_lane(block, account)
    block.equity[lane] = 0.0

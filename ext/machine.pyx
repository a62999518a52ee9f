"""The bar machine: candidates of a strategy that decides bar by bar, with orders.

On each bar, for each candidate: what rests or was decided fills between open and close (``open_bar``), the
account is valued at the close (``close_bar``), the function decides, as a register program (``Registers``), and what fills at
the close does (``end_bar``).

Arguments are records with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``program`` (see
``backtest/machine/program.py``), ``candidates`` (``values``, ``lines``, ``line_rows``, ``masks``, ``mask_rows``) and
``settings`` (see ``backtest/machine/evaluator.py``).
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int32_t, int64_t, uint64_t, uintptr_t
from libc.string cimport memset

from _machine cimport (ALWAYS_WORD, BLOCK, CANCEL, CLOSE_POSITION, FIRST_FLAG, N_FIELDS, N_SUMS, SHARE_OF_POSITION, TILE,
                       Action, Fault, Instruction, MachineAccount, MachineRecords, MachineSettings, MachineShared,
                       MachineSlot, Mask, Order, Tile, fill_row, run_program)
from _machine_account cimport level_or_nan, sums_of, trail_level
from _machine_block cimport Block, Code, Series, field_row, gather_lane, run_block, start_block
from _records cimport Fill
from _sums cimport Sums

_OPS = (
    *("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "NEG", "ABS", "SQRT", "COPY", "SELECT", "NUMBER"),
    *("LT", "LE", "EQ", "NE", "AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "WSELECT", "JUMP"),
)
_FIELDS = (
    *("units", "side", "entry_price", "last_entry_price", "n_entries", "bars_held", "stop_loss", "take_profit", "profit"),
    *("equity", "cash", "peak_equity", "best_close", "worst_close", "last_exit_reason", "last_exit_bar", "last_exit_price"),
    *("last_result", "n_exits", "n_trades", "index"),
)
#: Tables that the callers and both twins must agree on.
LAYOUT = {"ops": _OPS, "fields": _FIELDS, "flags": ("is_flat", "is_long", "is_short"), "sums": N_SUMS, "lanes": BLOCK}

cdef enum:
    HISTORY = 48  # bars back that share the tile of their line; beyond, an input has a tile of its own


def evaluate(bars, program, candidates, settings, Py_ssize_t start, Py_ssize_t stop, Sums[::1] sums, Fault[::1] faults):
    """Replay candidates ``start <= row < stop``; fill their rows of ``sums`` and ``faults``.

    Parameters
    ----------
    bars, program, candidates, settings
        Records, see the module.
    start, stop : int
        Rows of the candidates.
    sums : ndarray of SUMS, shape (n_candidates,)
        Output.
    faults : ndarray of FAULT, shape (n_candidates,)
        Zeros; on return the first fault of each candidate, which stops there.
    """
    cdef Machine machine = Machine(bars, program, candidates, settings)
    cdef int64_t row, n_lanes
    with nogil:
        row = start
        while row < stop:
            n_lanes = stop - row if stop - row < BLOCK else BLOCK
            load_block(machine, row, n_lanes)
            run_block(machine.block, &machine.code, row, &sums[0], &faults[0], NULL, NULL)
            row += n_lanes


def replay(bars, program, candidates, settings, Py_ssize_t row, Sums[::1] sums, Fault[::1] faults, Fill[::1] ledger,
           double[::1] equity, double[::1] units, double[::1] carry, Order[::1] orders, double[::1] levels):
    """Replay one candidate and record its fills, orders and equity.

    Parameters
    ----------
    bars, program, candidates, settings
        Records, see the module.
    row : int
        Row of the candidates.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    faults : ndarray of FAULT, shape (1,)
        Output, as of ``evaluate``.
    ledger : ndarray of FILL
        Output; fills beyond its length are counted only.
    equity, units, carry : ndarray of float64, shape (last - first,)
        Output: equity and position at each close, and what was paid there for holding the position (negative: received).
    orders : ndarray of ORDER
        Output, in the order in which they were placed; those beyond its length are counted only.
    levels : ndarray of float64, shape (3,)
        Output: stop, target and trail of the position at the end; NaN is off.

    Returns
    -------
    n_fills, n_orders : int
    """
    cdef Machine machine = Machine(bars, program, candidates, settings)
    cdef MachineRecords records
    cdef Series series
    cdef MachineAccount *account
    with nogil:
        memset(&records, 0, sizeof(records))
        records.n_ledger, records.n_rows = ledger.shape[0], orders.shape[0]
        records.ledger = &ledger[0] if ledger.shape[0] else NULL
        records.orders = &orders[0] if orders.shape[0] else NULL
        series.equity, series.units, series.carry = &equity[0], &units[0], &carry[0]
        load_block(machine, row, 1)
        # Sums and faults have one row, whatever the candidate's is.
        run_block(machine.block, &machine.code, 0, &sums[0], &faults[0], &records, &series)
        account = gather_lane(machine.block, 0, machine.settings.last - 1, NULL)
        levels[0], levels[1] = level_or_nan(account.stop), level_or_nan(account.target)
        levels[2] = level_or_nan(trail_level(account) if account.units != 0.0 else account.trail)
    return <int64_t>sums_of(account).n_fills, records.n_orders


cdef class Machine:
    """The typed views and structs of a call's arguments, and the rows of one block."""

    cdef const double[::1] open, high, low, close, constants, state_start, funding
    cdef const double[:, ::1] values, lines
    cdef const int64_t[:, ::1] line_rows, mask_rows
    cdef const uint64_t[:, ::1] masks
    cdef const int32_t[:, ::1] instructions, inputs, mask_inputs, stores, flag_stores
    cdef const int32_t[::1] flag_start
    cdef const Action[::1] actions
    cdef int64_t n_constants, n_params, n_states, n_flags
    cdef void *memory
    cdef Block *block
    cdef double *numbers      # rows of constants, parameters, states and temporaries; of inputs too, unused
    cdef int *tile_columns    # line column of each tile
    cdef MachineSettings settings
    cdef MachineShared shared
    cdef Code code

    def __cinit__(self, bars, program, candidates, settings):
        self.open, self.high, self.low, self.close = bars.open, bars.high, bars.low, bars.close
        self.constants, self.state_start, self.flag_start = program.constants, program.state_start, program.flag_start
        self.values, self.lines, self.line_rows = candidates.values, candidates.lines, candidates.line_rows
        self.masks, self.mask_rows = candidates.masks, candidates.mask_rows
        self.instructions, self.inputs, self.mask_inputs = program.code, program.inputs, program.masks
        self.stores, self.flag_stores, self.actions = program.stores, program.flag_stores, program.actions
        self.n_constants, self.n_params = self.constants.shape[0], program.n_params
        self.n_states, self.n_flags = program.n_states, program.n_flags
        self.funding = settings.funding
        read_settings(self, settings)
        self.code.n_setup, self.code.n_code = program.n_setup, self.instructions.shape[0]
        self.code.fields_used = program.fields_used
        self.shared.n_slots = program.n_slots
        self.shared.no_entry_after_level, self.shared.off_is_nan = program.no_entry_after_level, program.off_is_nan
        allocate(self, program.n_numbers, program.n_words)
        prepare_code(self)
        prepare_slots(self)

    def __dealloc__(self):
        PyMem_Free(self.memory)


cdef read_settings(Machine self, settings):
    cdef MachineSettings *to = &self.settings
    to.fee_rate, to.slippage, to.fixed, to.per_unit = settings.fee_rate, settings.slippage, settings.fixed, settings.per_unit
    to.minimum, to.maximum, to.start_cash = settings.minimum, settings.maximum, settings.start_cash
    to.rf_per_bar, to.borrow_per_bar, to.lot = settings.rf_per_bar, settings.borrow_per_bar, settings.lot
    to.touch_tolerance, to.leverage = settings.touch_tolerance, settings.leverage
    to.maintenance_margin, to.multiplier, to.tick = settings.maintenance_margin, settings.multiplier, settings.tick
    to.liquidation_fee, to.first, to.last = settings.liquidation_fee, settings.first, settings.last
    to.fills_at_close, to.intrabar, to.close_at_end = settings.fills_at_close, settings.intrabar, settings.close_at_end
    to.funding = &self.funding[0] if self.funding.shape[0] else NULL
    to.has_carrying_costs = to.borrow_per_bar != 0.0 or to.funding != NULL


cdef int64_t aligned(int64_t size) noexcept nogil:
    """A size that keeps what follows on a cache line."""
    return (size + 63) & ~<int64_t>63


cdef allocate(Machine self, int64_t n_numbers, int64_t n_words):
    """All memory of a block at once; its size depends on the program only."""
    cdef int64_t n_inputs = self.inputs.shape[0], n_masks = self.mask_inputs.shape[0], n_stores = self.stores.shape[0]
    cdef int64_t n_slots = self.shared.n_slots, ring = TILE
    cdef int64_t at, size, place
    cdef int64_t sizes[14]
    cdef char *memory
    for at in range(n_inputs):
        while self.inputs[at, 1] <= HISTORY and ring < TILE + self.inputs[at, 1]:
            ring *= 2
    sizes[0], sizes[1] = sizeof(Block), n_numbers * BLOCK * sizeof(double)
    sizes[2], sizes[3] = n_slots * sizeof(MachineSlot), n_inputs * sizeof(Tile)
    sizes[4], sizes[5] = n_inputs * ring * BLOCK * sizeof(double), n_masks * sizeof(Mask)
    sizes[6], sizes[7] = n_numbers * sizeof(double *), self.n_states * sizeof(double *)
    sizes[8], sizes[9] = n_words * sizeof(uint64_t), n_stores * BLOCK * sizeof(double)
    sizes[10], sizes[11] = self.flag_stores.shape[0] * sizeof(uint64_t), n_inputs * sizeof(int)
    sizes[12], sizes[13] = n_inputs * sizeof(int64_t), n_inputs * sizeof(int)
    size = 64
    for at in range(14):
        size += aligned(sizes[at])
    self.memory = PyMem_Malloc(size)
    if self.memory == NULL:
        raise MemoryError
    memset(self.memory, 0, size)
    memory = <char *>((<uintptr_t>self.memory + 63) & ~<uintptr_t>63)
    self.block = <Block *>take(&memory, sizes[0])
    self.numbers = <double *>take(&memory, sizes[1])
    self.shared.slots = <MachineSlot *>take(&memory, sizes[2])
    self.code.tiles = <Tile *>take(&memory, sizes[3])
    cdef double *tile_rows = <double *>take(&memory, sizes[4])
    for at in range(n_inputs):
        self.code.tiles[at].rows, self.code.tiles[at].n_rows = tile_rows + at * ring * BLOCK, ring
    self.code.masks = <Mask *>take(&memory, sizes[5])
    self.code.rows = <const double **>take(&memory, sizes[6])
    self.code.states = <double **>take(&memory, sizes[7])
    self.code.words = <uint64_t *>take(&memory, sizes[8])
    self.code.scratch = <double *>take(&memory, sizes[9])
    self.code.new_flags = <uint64_t *>take(&memory, sizes[10])
    self.code.input_tiles = <int *>take(&memory, sizes[11])
    self.code.input_shifts = <int64_t *>take(&memory, sizes[12])
    self.tile_columns = <int *>take(&memory, sizes[13])
    self.shared.settings = &self.settings
    self.shared.open, self.shared.high = &self.open[0], &self.high[0]
    self.shared.low, self.shared.close = &self.low[0], &self.close[0]
    self.block.shared = &self.shared
    for place in range(n_numbers):
        self.code.rows[place] = self.numbers + place * BLOCK


cdef void *take(char **memory, int64_t size) noexcept nogil:
    """A part of the memory."""
    cdef void *part = memory[0]
    memory[0] += aligned(size)
    return part


cdef prepare_code(Machine self):
    """Rows and tiles of the program's operands, and which fields of the account have to be kept."""
    cdef Code *code = &self.code
    cdef int64_t first_field = self.n_constants + self.n_params, first_state = first_field + N_FIELDS
    cdef int64_t at, tile, shift
    cdef int column
    code.code = <const Instruction *>&self.instructions[0, 0] if code.n_code else NULL
    code.n_actions, code.n_inputs, code.n_masks = self.actions.shape[0], self.inputs.shape[0], self.mask_inputs.shape[0]
    code.actions = &self.actions[0] if code.n_actions else NULL
    code.n_stores, code.n_flag_stores = self.stores.shape[0], self.flag_stores.shape[0]
    code.stores = <const int *>&self.stores[0, 0] if code.n_stores else NULL
    code.flag_stores = <const int *>&self.flag_stores[0, 0] if code.n_flag_stores else NULL
    code.first_input, code.first_mask = first_state + self.n_states, FIRST_FLAG + self.n_flags
    code.n_bars, code.n_words = self.lines.shape[1], self.masks.shape[1]
    for at in range(N_FIELDS):
        code.rows[first_field + at] = field_row(self.block, at)
    for at in range(self.n_states):
        code.states[at] = self.numbers + (first_state + at) * BLOCK
    for at in range(code.n_inputs):
        column, shift = self.inputs[at, 0], self.inputs[at, 1]
        tile = 0
        while tile < code.n_tiles and not (self.tile_columns[tile] == column
                                           and code.tiles[tile].shift == (0 if shift <= HISTORY else shift)):
            tile += 1
        if tile == code.n_tiles:
            code.n_tiles += 1
            self.tile_columns[tile], code.tiles[tile].shift = column, 0 if shift <= HISTORY else shift
        (<int *>code.input_tiles)[at] = <int>tile
        (<int64_t *>code.input_shifts)[at] = shift if shift <= HISTORY else 0
        code.history = max(code.history, code.input_shifts[at])
    for at in range(code.n_masks):
        code.masks[at].shift = self.mask_inputs[at, 1]
    for at in range(code.n_actions):
        code.has_trails |= self.actions[at].trail_kind != 0
    code.tracks_age = is_used(code, "bars_held")
    code.tracks_best = code.has_trails or is_used(code, "best_close")
    code.tracks_worst = is_used(code, "worst_close")


cdef bint is_used(const Code *code, str field):
    return code.fields_used >> <int64_t>_FIELDS.index(field) & 1


cdef prepare_slots(Machine self):
    """What is known of every call site's orders from the text."""
    cdef MachineShared *shared = &self.shared
    cdef const Action *action
    cdef int64_t at
    cdef uint64_t slot
    for at in range(self.actions.shape[0]):
        action = &self.actions[at]
        if action.kind >= CANCEL:
            continue
        slot = <uint64_t>1 << action.slot
        shared.actions[action.slot] = action
        if action.limit < 0 and action.stop < 0:
            shared.market_slots |= slot
        if action.kind == CLOSE_POSITION:
            shared.closing_slots |= slot
        if action.kind == CLOSE_POSITION or action.reduce_only or action.size_kind == SHARE_OF_POSITION:
            shared.reducing_slots |= slot


cdef void load_block(Machine self, int64_t first_row, int64_t n_lanes) noexcept nogil:
    """Candidates ``first_row`` and on as lanes; those beyond repeat the first and do not exist."""
    cdef Code *code = &self.code
    cdef int64_t at, lane, row, which, never = self.masks.shape[0] - 1
    cdef double *numbers = self.numbers
    cdef Tile *tile
    cdef Mask *mask
    start_block(self.block, n_lanes)
    for at in range(self.n_constants):
        fill_row(numbers + at * BLOCK, self.constants[at])
    for at in range(self.n_states):
        fill_row(code.states[at], self.state_start[at])
    numbers += self.n_constants * BLOCK
    code.words[0], code.words[ALWAYS_WORD] = 0, ~<uint64_t>0
    for at in range(self.n_flags):
        code.words[FIRST_FLAG + at] = ~<uint64_t>0 if self.flag_start[at] else 0
    for lane in range(BLOCK):
        row = first_row + (lane if lane < n_lanes else 0)
        for at in range(self.n_params):
            numbers[at * BLOCK + lane] = self.values[row, at]
        for at in range(code.n_tiles):
            tile = &code.tiles[at]
            tile.from_[lane] = &self.lines[self.line_rows[row, self.tile_columns[at]], 0]
            tile.is_uniform = lane == 0 or (tile.is_uniform and tile.from_[lane] == tile.from_[0])
        for at in range(code.n_masks):
            mask = &code.masks[at]
            which = self.mask_rows[row, self.mask_inputs[at, 0]]
            mask.from_[lane] = &self.masks[which if which >= 0 else never, 0]
            mask.is_uniform = lane == 0 or (mask.is_uniform and mask.from_[lane] == mask.from_[0])
    run_program(code.code, 0, code.n_setup, code.rows, code.words, ~<uint64_t>0)

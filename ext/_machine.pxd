# Records of the bar machine that C and Cython share.

from libc.stdint cimport int32_t, int64_t, uint64_t

from _costs cimport CostRule
from _records cimport Fill

cdef extern from "_machine.h" nogil:
    enum:
        BLOCK, TILE, MASK_TILE, N_SUMS, N_OPS, N_FIELDS, N_FLAGS, FIRST_FLAG, MAX_SLOTS
        ALWAYS_WORD, FLAT_WORD, LONG_WORD, SHORT_WORD
        BUY, SELL, CLOSE_POSITION, CANCEL, MOVE_STOP, MOVE_TARGET
        UNITS, SHARE, VALUE, SHARE_OF_POSITION
        PRICE, BELOW_ENTRY, ABOVE_ENTRY
        FRACTION, DISTANCE
        RESTING, FILLED, EXPIRED, REPLACED, CANCELLED, UNAFFORDABLE
        ASKED, POSITION_ENDED, NOTHING_TO_REDUCE, AT_BUST, AFTER_LEVEL
        FAULT_LIMIT, FAULT_STOP, FAULT_STOP_LOSS, FAULT_TAKE_PROFIT, FAULT_TRAIL, FAULT_SIZE, FAULT_VALID, FAULT_STOP_SIDE
        FAULT_TARGET_SIDE
        PESSIMISTIC, OPTIMISTIC, NEAREST

    ctypedef struct Action "machine_action":
        int32_t kind, slot, where, line, size_kind, stop_loss_kind, take_profit_kind, trail_kind, reduce_only, once, cut, reason
        int32_t size, limit, stop, valid, stop_loss, take_profit, trail, share

    ctypedef struct MachineSettings "machine_settings":
        double fee_rate, slippage, fixed, per_unit, minimum, maximum
        double start_cash, rf_per_bar, borrow_per_bar, lot, touch_tolerance, leverage, maintenance_margin, multiplier, tick
        double liquidation_fee
        const double *funding
        int64_t first, last
        int fills_at_close, intrabar, close_at_end, has_carrying_costs

    ctypedef struct MachineSlot "machine_slot":
        double size[64]
        double limit[64]
        double stop[64]
        double valid_until[64]
        double stop_loss[64]
        double take_profit[64]
        double trail[64]
        double decision_bar[64]
        double once_epoch[64]
        uint64_t active, triggered

    ctypedef struct MachineShared "machine_shared":
        const double *open
        const double *high
        const double *low
        const double *close
        const MachineSettings *settings
        MachineSlot *slots
        const Action *actions[64]
        int64_t n_slots
        uint64_t market_slots, closing_slots, reducing_slots
        int no_entry_after_level, off_is_nan

    ctypedef struct MachineAccount "machine_account":
        double cash, units, entry_price, last_entry_price, entry_cost, borrow_cost, result
        double stop, target, trail, trail_kind, target_share
        double best_close, worst_close, entry_bar, bars_held, n_entries, n_exits, epoch
        double last_exit_reason, last_exit_bar, last_exit_price, last_result, last_equity, peak
        double sums[26]
        int64_t bar
        uint64_t active, triggered
        int64_t lane, opened_here, left_by_level, is_ambiguous
        const MachineShared *shared
        void *records

    ctypedef struct Instruction "machine_instruction":
        int32_t op, out, a, b, c

    ctypedef struct Tile "machine_tile":
        const double *from_ "from"[64]
        double *rows
        int64_t n_rows, shift
        int is_uniform

    ctypedef struct Mask "machine_mask":
        const uint64_t *from_ "from"[64]
        int64_t shift
        int is_uniform
        uint64_t words[64]

    void run_program(const Instruction *code, int64_t begin, int64_t end, const double *const *rows, uint64_t *words,
                     uint64_t live)
    void fill_row(double *row, double value)
    double *tile_row(const Tile *tile, int64_t bar)
    void fill_tile(Tile *tile, int64_t begin, int64_t n_bars)
    void fill_mask(Mask *mask, int64_t begin, int64_t n_words)

cdef extern from *:
    """
    #define MACHINE_DUST 1e-12                   /* a rest of this share of what was held is rounding, not a position */
    #define MACHINE_SAME 1e-12                   /* paths, or equities, that differ by less than this share are the same */
    #define MACHINE_POWER_TOLERANCE (1.0 + 1e-12) /* rounding by which an order may exceed the buying power */
    #define MACHINE_LOT_TOLERANCE 1e-12          /* units so near to a whole number of lots are that number */
    #define MACHINE_TICK_TOLERANCE 8.8817841970012523e-16 /* 2^-50: a price so near to a multiple of the tick is that multiple */
    """
    const double MACHINE_DUST
    const double MACHINE_SAME
    const double MACHINE_POWER_TOLERANCE
    const double MACHINE_LOT_TOLERANCE
    const double MACHINE_TICK_TOLERANCE

cdef struct Order:  # one order placed; ORDER of backtest/machine/program.py has the same fields
    int64_t slot
    int64_t kind
    int64_t line
    int64_t decision_bar
    int64_t end_bar
    int64_t status
    int64_t side
    int64_t size_kind
    int64_t reason       # why it was cancelled
    double size
    double limit
    double stop
    double valid_until
    double stop_loss
    double take_profit
    double trail
    double units         # filled
    double price

cdef struct Fault:  # the first argument of a candidate that breaks a rule; FAULT has the same fields
    int64_t code         # 0: none
    int64_t action
    int64_t bar
    double value

cdef struct MachineRecords:  # of a replay, which has one lane
    Fill *ledger
    int64_t n_ledger     # rows there are; what is beyond them is counted only
    Order *orders
    int64_t n_rows
    int64_t n_orders
    int64_t rows[64]     # of each slot's order
    double units[64]     # filled by each slot's order, and at which price last
    double prices[64]


cdef inline const CostRule *cost_rule(const MachineSettings *settings) noexcept nogil:
    return <const CostRule *>&settings.fee_rate

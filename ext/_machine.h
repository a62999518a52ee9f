/* Records of the bar machine that C and Cython share; codes are those of backtest/_pure/_machine_layout.py. */
#ifndef BACKTEST_MACHINE_H
#define BACKTEST_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#include "_program.h"
#include "_tiles.h"

/* Kinds of actions. */
enum { BUY, SELL, CLOSE_POSITION, CANCEL, MOVE_STOP, MOVE_TARGET };
/* What a size, a level or a trail is given as; 0: not given. */
enum { UNITS = 1, SHARE, VALUE, SHARE_OF_POSITION };
enum { PRICE = 1, BELOW_ENTRY, ABOVE_ENTRY };
enum { FRACTION = 1, DISTANCE };
/* How an order ended, and why it was cancelled. */
enum { RESTING, FILLED, EXPIRED, REPLACED, CANCELLED, UNAFFORDABLE };
enum { ASKED, POSITION_ENDED, NOTHING_TO_REDUCE, AT_BUST, AFTER_LEVEL };
/* Which argument of an action breaks a rule. */
enum { FAULT_LIMIT = 1, FAULT_STOP, FAULT_STOP_LOSS, FAULT_TAKE_PROFIT, FAULT_TRAIL, FAULT_SIZE, FAULT_VALID, FAULT_STOP_SIDE,
       FAULT_TARGET_SIDE };
enum { PESSIMISTIC, OPTIMISTIC, NEAREST };
/* Fields of the account that a program may read. */
enum { FIELD_UNITS, FIELD_SIDE, FIELD_ENTRY_PRICE, FIELD_LAST_ENTRY_PRICE, FIELD_N_ENTRIES, FIELD_BARS_HELD, FIELD_STOP_LOSS,
       FIELD_TAKE_PROFIT, FIELD_PROFIT, FIELD_EQUITY, FIELD_CASH, FIELD_PEAK_EQUITY, FIELD_BEST_CLOSE, FIELD_WORST_CLOSE,
       FIELD_LAST_EXIT_REASON, FIELD_LAST_EXIT_BAR, FIELD_LAST_EXIT_PRICE, FIELD_LAST_RESULT, FIELD_N_EXITS, FIELD_N_TRADES,
       FIELD_INDEX, N_FIELDS };
enum { NEVER_WORD, ALWAYS_WORD, FLAT_WORD, LONG_WORD, SHORT_WORD, N_FLAGS = 3, FIRST_FLAG = 5 };
enum { MAX_SLOTS = 64 };

/* The sums of a candidate, in the order of the struct Sums. */
enum { SUM_N_RETURNS, SUM_END_EQUITY, SUM_RETURN, SUM_RETURN_2, SUM_RETURN_3, SUM_RETURN_4, SUM_GAIN, SUM_LOSS, SUM_DOWNSIDE_2,
       SUM_MAX_DRAWDOWN, SUM_BARS_HELD, SUM_TRADED_VALUE, SUM_COSTS, SUM_WRITTEN_OFF, SUM_N_FILLS, SUM_N_TRADES, SUM_N_WINNERS,
       SUM_WON, SUM_LOST, SUM_NET_PROFIT, SUM_LARGEST_PROFIT, SUM_TRADE_RETURN, SUM_TRADE_RETURN_2, SUM_BEST_TRADE,
       SUM_WORST_TRADE, SUM_N_AMBIGUOUS, N_SUMS };

typedef struct { /* one call on the account; ACTION of backtest/machine/program.py */
    int32_t kind, slot, where, line, size_kind, stop_loss_kind, take_profit_kind, trail_kind, reduce_only, once, cut, reason;
    int32_t size, limit, stop, valid, stop_loss, take_profit, trail, share; /* operands, or -1 */
} machine_action;

typedef struct { /* the same for all candidates of a batch */
    double fee_rate, slippage, fixed, per_unit, minimum, maximum; /* a CostRule */
    double start_cash, rf_per_bar, borrow_per_bar, lot, touch_tolerance, leverage, maintenance_margin, multiplier, tick;
    double liquidation_fee;
    const double *funding; /* NULL: none */
    int64_t first, last;
    int fills_at_close, intrabar, close_at_end;
    int has_carrying_costs; /* any of borrowing and funding is paid */
} machine_settings;

typedef struct { /* what one call site of 64 candidates has placed */
    double size[BLOCK], limit[BLOCK], stop[BLOCK], valid_until[BLOCK], stop_loss[BLOCK], take_profit[BLOCK], trail[BLOCK];
    double decision_bar[BLOCK], once_epoch[BLOCK];
    uint64_t active, triggered; /* of each lane */
} machine_slot;

typedef struct { /* what all lanes share */
    const double *open, *high, *low, *close;
    const machine_settings *settings;
    machine_slot *slots;
    const machine_action *actions[MAX_SLOTS]; /* that place the orders of each slot */
    int64_t n_slots;
    uint64_t market_slots, closing_slots, reducing_slots; /* bits are slots */
    int no_entry_after_level, off_is_nan;
} machine_shared;

typedef struct machine_account { /* of one candidate; a block keeps its numbers as rows of lanes */
    double cash, units;
    double entry_price, last_entry_price, entry_cost, borrow_cost, result;
    double stop, target, trail, trail_kind, target_share; /* levels, and the trail's fraction or distance; NaN: off */
    double best_close, worst_close;
    double entry_bar, bars_held, n_entries, n_exits;
    double epoch; /* counts up when a position opens and when it ends: what ``once`` belongs to */
    double last_exit_reason, last_exit_bar, last_exit_price, last_result;
    double sums[N_SUMS];
    double last_equity, peak;
    int64_t bar; /* that is being processed; the numbers end here */
    uint64_t active, triggered; /* bits are slots */
    int64_t lane, opened_here, left_by_level, is_ambiguous;
    const machine_shared *shared;
    void *records; /* MachineRecords; NULL: nothing is recorded */
} machine_account;

enum { N_ACCOUNT = offsetof(machine_account, bar) / sizeof(double) };
#define ROW_OF(field) (offsetof(machine_account, field) / sizeof(double))

#endif

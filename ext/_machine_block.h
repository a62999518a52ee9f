/* A block of 64 accounts: their numbers are rows of lanes, claims words of bits.  What happens to every lane on
   every bar is vector code here; what happens to few is done one lane at a time, gathered into a struct
   and scattered back (see _machine_bar.pxd).

   A group of 8 lanes in which nobody holds a position and nobody traded on a bar is not marked: each return is 0 there, whatever
   the price, and adding 0 to a sum changes no bit of it (no sum is -0.0).  So no result depends on a lane's neighbours. */
#ifndef BACKTEST_MACHINE_BLOCK_H
#define BACKTEST_MACHINE_BLOCK_H

#include <math.h>
#include <stdint.h>

#include "_machine.h"
#include "_words.h"

enum { GROUP = 8 };
#define EACH_GROUP(groups, first) for (int first = 0; first < BLOCK; first += GROUP) if ((groups) >> first & 0xff)
#define EACH_OF_GROUP(first, lane) for (int lane = first; lane < first + GROUP; lane += WIDTH)
/* More than the rounding of a level and of its touch: the vector test may find more lanes than are touched, never fewer. */
/* As DRAWDOWN_ROUNDING of _sums.pxd. */
#define MARK_ROUNDING 1e-15

typedef struct {
    double account[N_ACCOUNT][BLOCK];
    machine_account lane; /* that is gathered */
    double nearest_low[BLOCK], nearest_high[BLOCK]; /* a bar within them touches nothing of the lane */
    double equity[BLOCK];
    double *units; /* the row */
    double paid[BLOCK]; /* at this bar's close, for holding the position */
    /* Fields that are computed only where a program reads them. */
    double side[BLOCK], stop_loss[BLOCK], take_profit[BLOCK], profit[BLOCK], peak_equity[BLOCK], index[BLOCK];
    uint64_t exists, is_bust, is_faulty, is_held;
    uint64_t opened_here, left_by_level; /* on this bar */
    uint64_t has_moved;                  /* on this bar: cash or units changed */
    uint64_t is_stale;                   /* nearest prices have to be found again */
    uint64_t has_equity;                 /* equity is above 0 */
    const machine_shared *shared;
} machine_block;

#define ROW(block, field) ((block)->account[ROW_OF(field)])
#define SUM(block, sum) ((block)->account[ROW_OF(sums) + (sum)])

/* The account of one lane, all but its sums of returns. */
static inline machine_account *gather_lane(machine_block *block, int lane, int64_t bar, void *records)
{
    machine_account *account = &block->lane;
    double *numbers = &account->cash;
    const machine_shared *shared = block->shared;
    for (size_t row = 0; row < ROW_OF(sums); row++) numbers[row] = block->account[row][lane];
    for (size_t row = ROW_OF(sums) + SUM_BARS_HELD; row < ROW_OF(last_equity); row++) numbers[row] = block->account[row][lane];
    account->lane = lane;
    account->shared = shared;
    account->bar = bar;
    account->active = account->triggered = 0;
    for (int64_t slot = 0; slot < shared->n_slots; slot++) {
        account->active |= (shared->slots[slot].active >> lane & 1) << slot;
        account->triggered |= (shared->slots[slot].triggered >> lane & 1) << slot;
    }
    account->opened_here = (int64_t) (block->opened_here >> lane & 1);
    account->left_by_level = (int64_t) (block->left_by_level >> lane & 1);
    account->is_ambiguous = 0;
    account->records = records;
    return account;
}

static inline uint64_t with_bit(uint64_t word, int lane, int is_set)
{
    return (word & ~((uint64_t) 1 << lane)) | (uint64_t) (is_set != 0) << lane;
}

static inline void scatter_lane(machine_block *block, const machine_account *account)
{
    const double *numbers = &account->cash;
    const machine_shared *shared = block->shared;
    int lane = (int) account->lane;
    for (size_t row = 0; row < ROW_OF(sums); row++) block->account[row][lane] = numbers[row];
    for (size_t row = ROW_OF(sums) + SUM_BARS_HELD; row < ROW_OF(last_equity); row++) block->account[row][lane] = numbers[row];
    for (int64_t slot = 0; slot < shared->n_slots; slot++) {
        shared->slots[slot].active = with_bit(shared->slots[slot].active, lane, (int) (account->active >> slot & 1));
        shared->slots[slot].triggered = with_bit(shared->slots[slot].triggered, lane, (int) (account->triggered >> slot & 1));
    }
    block->is_held = with_bit(block->is_held, lane, account->units != 0.0);
    block->opened_here = with_bit(block->opened_here, lane, account->opened_here != 0);
    block->left_by_level = with_bit(block->left_by_level, lane, account->left_by_level != 0);
    block->has_moved |= (uint64_t) 1 << lane;
    block->is_stale |= (uint64_t) 1 << lane;
}

/* Nearest prices of the groups in which a lane is stale: below and above which something of the lane is reached. */
static void find_nearest(machine_block *block, uint64_t stale)
{
    const machine_shared *shared = block->shared;
    const machine_settings *settings = shared->settings;
    const vector none = vector_all(NAN), zero = vector_all(0.0), one = vector_all(1.0), tick = vector_all(settings->tick);
    /* More than the rounding of a level and of its touch: this may find more lanes than are touched, never fewer. */
    const vector slack = vector_all(1e-14 + settings->touch_tolerance);
    EACH_GROUP(stale, first) EACH_OF_GROUP(first, lane) {
        vector units = vector_at(ROW(block, units) + lane), trail = vector_at(ROW(block, trail) + lane);
        vector best = vector_at(ROW(block, best_close) + lane), low = vector_all(-INFINITY), high = vector_all(INFINITY);
        vector_mask is_long = vector_less(zero, units), is_short = vector_less(units, zero);
        vector_mask is_distance = vector_equal(vector_at(ROW(block, trail_kind) + lane), vector_all((double) DISTANCE));
        vector share = vector_select(is_long, vector_minus(one, trail), vector_plus(one, trail)), level, at;
        vector away = vector_select(is_long, vector_minus(best, trail), vector_plus(best, trail));
        vector trails = vector_select(is_distance, away, vector_times(best, share));
        vector stop = vector_at(ROW(block, stop) + lane), target = vector_at(ROW(block, target) + lane);
        /* of a long: stop, trail and liquidation below, target above */
        level = vector_select(is_long, stop, vector_select(is_short, target, none));
        low = vector_max(low, level);
        /* A trail is rounded to the tick toward the price. */
        low = vector_max(low, vector_select(is_long, vector_plus(trails, tick), none));
        level = vector_select(is_long, target, vector_select(is_short, stop, none));
        high = vector_min(high, level);
        high = vector_min(high, vector_select(is_short, vector_minus(trails, tick), none));
        if (settings->maintenance_margin > 0.0) {
            vector cash = vector_at(ROW(block, cash) + lane), maintenance = vector_all(settings->maintenance_margin);
            vector worth = vector_times(vector_abs(units), vector_all(settings->multiplier));
            at = vector_over(vector_negative(cash), vector_times(worth, vector_minus(one, maintenance)));
            low = vector_max(low, vector_select(is_long, at, none));
            at = vector_over(cash, vector_times(worth, vector_plus(one, maintenance)));
            high = vector_min(high, vector_select(is_short, at, none));
        }
        for (int64_t slot = 0; slot < shared->n_slots; slot++) {
            const machine_slot *order = shared->slots + slot;
            const machine_action *action = shared->actions[slot];
            if ((shared->market_slots >> slot & 1) || !(order->active >> lane & VECTOR_LANES)) continue;
            vector_mask rests = vector_mask_of(order->active, lane);
            vector_mask waits = vector_mask_of(action->stop >= 0 ? ~order->triggered : 0, lane);
            vector stops = vector_select(waits, vector_at(order->stop + lane), none);
            vector limits = vector_select(waits, none, vector_at(order->limit + lane));
            stops = vector_select(rests, stops, none);
            limits = vector_select(rests, limits, none);
            low = vector_max(low, action->kind == BUY ? limits : stops);
            high = vector_min(high, action->kind == BUY ? stops : limits);
        }
        /* Levels are > 0; a trail's may be below. */
        vector_to(block->nearest_low + lane, vector_plus(low, vector_times(vector_abs(low), slack)));
        vector_to(block->nearest_high + lane, vector_minus(high, vector_times(vector_abs(high), slack)));
    }
    block->is_stale &= ~stale;
}

/* Lanes whose nearest prices a bar reaches. */
static inline uint64_t find_touched(const machine_block *block, double low, double high)
{
    const vector lows = vector_all(low), highs = vector_all(high);
    uint64_t touched = 0;
    EACH_VECTOR(lane) {
        touched |= vector_bits(vector_at_most(lows, vector_at(block->nearest_low + lane))) << lane;
        touched |= vector_bits(vector_at_most(vector_at(block->nearest_high + lane), highs)) << lane;
    }
    return touched;
}

/* A cost of holding; 0 where there is none. */
VECTOR_INLINE void pay_row(machine_block *block, int lane, vector amount)
{
    vector_to(ROW(block, cash) + lane, vector_minus(vector_at(ROW(block, cash) + lane), amount));
    vector_to(ROW(block, borrow_cost) + lane, vector_plus(vector_at(ROW(block, borrow_cost) + lane), amount));
    vector_to(SUM(block, SUM_COSTS) + lane, vector_plus(vector_at(SUM(block, SUM_COSTS) + lane), amount));
    vector_to(block->paid + lane, vector_plus(vector_at(block->paid + lane), amount));
}

/* The close of a bar for the positions held: borrowing and funding; their age, best and worst close where they are read. */
static void carry_rows(machine_block *block, double close, int64_t bar, int with_age, int with_best, int with_worst)
{
    const machine_settings *settings = block->shared->settings;
    const vector zero = vector_all(0.0), closes = vector_all(close), worth = vector_all(close * settings->multiplier);
    if (!(settings->has_carrying_costs || with_age || with_best || with_worst)) return;
    EACH_GROUP(block->is_held, first) EACH_OF_GROUP(first, lane) {
        vector units = vector_at(ROW(block, units) + lane);
        vector_mask is_held = vector_mask_of(block->is_held, lane), is_long = vector_less(zero, units);
        if (settings->has_carrying_costs) {
            vector borrow = vector_all(settings->borrow_per_bar);
            vector amount = vector_times(vector_times(vector_negative(units), worth), borrow);
            pay_row(block, lane, vector_select(vector_less(units, zero), amount, zero));
            if (settings->leverage > 1.0) {
                vector cash = vector_at(ROW(block, cash) + lane);
                amount = vector_times(vector_negative(cash), borrow);
                amount = vector_select(vector_less(cash, zero), amount, zero);
                pay_row(block, lane, vector_select(is_held, amount, zero));
            }
            if (settings->funding) {
                amount = vector_times(vector_times(units, worth), vector_all(settings->funding[bar]));
                pay_row(block, lane, vector_select(is_held, amount, zero));
            }
        }
        if (with_age) {
            vector age = vector_at(ROW(block, bars_held) + lane);
            vector_to(ROW(block, bars_held) + lane, vector_select(is_held, vector_plus(age, vector_all(1.0)), age));
        }
        if (with_best) {
            vector best = vector_at(ROW(block, best_close) + lane);
            vector better = vector_select(is_long, vector_max(best, closes), vector_min(best, closes));
            vector_to(ROW(block, best_close) + lane, vector_select(is_held, better, best));
        }
        if (with_worst) {
            vector worst = vector_at(ROW(block, worst_close) + lane);
            vector worse = vector_select(is_long, vector_min(worst, closes), vector_max(worst, closes));
            vector_to(ROW(block, worst_close) + lane, vector_select(is_held, worse, worst));
        }
    }
}

/* Equity at the close of lanes that hold a position or traded; it stays in ``equity`` for the others. */
static void value_rows(machine_block *block, uint64_t groups, double close)
{
    const vector worth = vector_all(close * block->shared->settings->multiplier), zero = vector_all(0.0);
    EACH_GROUP(groups, first) {
        uint64_t has_equity = 0;
        EACH_OF_GROUP(first, lane) {
            vector units = vector_at(ROW(block, units) + lane);
            vector equity = vector_plus(vector_at(ROW(block, cash) + lane), vector_times(units, worth));
            vector_to(block->equity + lane, equity);
            has_equity |= vector_bits(vector_less(zero, equity)) << (lane - first);
        }
        block->has_equity = (block->has_equity & ~((uint64_t) 0xff << first)) | has_equity << first;
    }
}

/* Lanes whose equity is gone. */
static uint64_t find_bust(const machine_block *block, uint64_t groups)
{
    uint64_t bust = 0;
    EACH_GROUP(groups, first) EACH_OF_GROUP(first, lane)
        bust |= vector_bits(vector_at_most(vector_at(block->equity + lane), vector_all(0.0))) << lane;
    return bust;
}

/* Equity, its peak and the sums of returns of all lanes at their beginning. */
static void start_marks(machine_block *block, double start_cash)
{
    block->units = ROW(block, units);
    fill_row(block->equity, start_cash);
    fill_row(ROW(block, last_equity), start_cash);
    fill_row(ROW(block, peak), start_cash);
    for (int sum = SUM_RETURN; sum <= SUM_MAX_DRAWDOWN; sum++) fill_row(SUM(block, sum), 0.0);
}

/* The sums of one lane. */
static void read_sums(const machine_block *block, int lane, double *sums)
{
    for (int sum = 0; sum < N_SUMS; sum++) sums[sum] = SUM(block, sum)[lane];
    sums[SUM_N_RETURNS] = (double) (block->shared->settings->last - block->shared->settings->first);
    sums[SUM_END_EQUITY] = ROW(block, last_equity)[lane];
    if (ROW(block, units)[lane] != 0.0)
        sums[SUM_BARS_HELD] += (double) block->shared->settings->last - ROW(block, entry_bar)[lane];
}

VECTOR_INLINE void add_to_row(double *sum, vector x) { vector_to(sum, vector_plus(vector_at(sum), x)); }

/* Add the returns from the last close's equity to this one. */
static void mark_rows(machine_block *block, uint64_t groups)
{
    const double rf_per_bar = block->shared->settings->rf_per_bar;
    const vector zero = vector_all(0.0), one = vector_all(1.0), half = vector_all(0.5), rf = vector_all(rf_per_bar);
    EACH_GROUP(groups, first) EACH_OF_GROUP(first, lane) {
        vector equity = vector_at(block->equity + lane), last = vector_at(ROW(block, last_equity) + lane);
        vector r = vector_over(vector_minus(equity, last), last), square, size, excess, shortfall, peak, worst;
        r = vector_select(vector_equal(last, zero), zero, r);
        square = vector_times(r, r);
        size = vector_abs(r);
        excess = vector_minus(r, rf);
        shortfall = vector_times(half, vector_minus(vector_abs(excess), excess));
        add_to_row(SUM(block, SUM_RETURN) + lane, r);
        add_to_row(SUM(block, SUM_RETURN_2) + lane, square);
        add_to_row(SUM(block, SUM_RETURN_3) + lane, vector_times(square, r));
        add_to_row(SUM(block, SUM_RETURN_4) + lane, vector_times(square, square));
        add_to_row(SUM(block, SUM_GAIN) + lane, vector_times(half, vector_plus(size, r)));
        add_to_row(SUM(block, SUM_LOSS) + lane, vector_times(half, vector_minus(size, r)));
        add_to_row(SUM(block, SUM_DOWNSIDE_2) + lane, vector_times(shortfall, shortfall));
        vector_to(ROW(block, last_equity) + lane, equity);
        peak = vector_max(vector_at(ROW(block, peak) + lane), equity);
        vector_to(ROW(block, peak) + lane, peak);
        worst = vector_at(SUM(block, SUM_MAX_DRAWDOWN) + lane);
        if (vector_bits(vector_less(equity, vector_times(vector_plus(vector_plus(worst, one), vector_all(MARK_ROUNDING)), peak))))
            vector_to(SUM(block, SUM_MAX_DRAWDOWN) + lane, vector_min(worst, vector_minus(vector_over(equity, peak), one)));
    }
}

/* Lanes whose order in ``slot`` ends with this bar. */
static uint64_t find_expired(const machine_block *block, int slot, int64_t bar)
{
    const machine_slot *order = block->shared->slots + slot;
    uint64_t expired = 0;
    EACH_VECTOR(lane)
        expired |= vector_bits(vector_at_most(vector_at(order->valid_until + lane), vector_all((double) bar))) << lane;
    return expired & order->active;
}

static uint64_t find_long(const machine_block *block)
{
    uint64_t is_long = 0;
    EACH_GROUP(block->is_held, first) EACH_OF_GROUP(first, lane)
        is_long |= vector_bits(vector_less(vector_all(0.0), vector_at(ROW(block, units) + lane))) << lane;
    return is_long;
}

/* New values of number states; all are read before any is written.  ``stores`` are pairs of a state and a place. */
static void store_numbers(const int *stores, int64_t n, double *const *states, const double *const *rows, double *scratch)
{
    for (int64_t at = 0; at < n; at++)
        EACH_VECTOR(lane) vector_to(scratch + BLOCK * at + lane, vector_at(rows[stores[2 * at + 1]] + lane));
    for (int64_t at = 0; at < n; at++)
        EACH_VECTOR(lane) vector_to(states[stores[2 * at]] + lane, vector_at(scratch + BLOCK * at + lane));
}

/* Where a program reads a field of the account. */
static const double *field_row(const machine_block *block, int64_t field)
{
    switch (field) {
    case FIELD_UNITS: return ROW(block, units);
    case FIELD_SIDE: return block->side;
    case FIELD_ENTRY_PRICE: return ROW(block, entry_price);
    case FIELD_LAST_ENTRY_PRICE: return ROW(block, last_entry_price);
    case FIELD_N_ENTRIES: return ROW(block, n_entries);
    case FIELD_BARS_HELD: return ROW(block, bars_held);
    case FIELD_STOP_LOSS: return block->stop_loss;
    case FIELD_TAKE_PROFIT: return block->take_profit;
    case FIELD_PROFIT: return block->profit;
    case FIELD_EQUITY: return block->equity;
    case FIELD_CASH: return ROW(block, cash);
    case FIELD_PEAK_EQUITY: return block->peak_equity;
    case FIELD_BEST_CLOSE: return ROW(block, best_close);
    case FIELD_WORST_CLOSE: return ROW(block, worst_close);
    case FIELD_LAST_EXIT_REASON: return ROW(block, last_exit_reason);
    case FIELD_LAST_EXIT_BAR: return ROW(block, last_exit_bar);
    case FIELD_LAST_EXIT_PRICE: return ROW(block, last_exit_price);
    case FIELD_LAST_RESULT: return ROW(block, last_result);
    case FIELD_N_EXITS: return ROW(block, n_exits);
    case FIELD_N_TRADES: return SUM(block, SUM_N_TRADES);
    default: return block->index;
    }
}

/* Numbers of the account that are computed for the program: those of the bits of ``used``. */
static void fill_fields(machine_block *block, int64_t used, double close, int64_t bar)
{
    const vector zero = vector_all(0.0), least = vector_all(-INFINITY), most = vector_all(INFINITY), closes = vector_all(close);
    const vector multiplier = vector_all(block->shared->settings->multiplier);
    if (used >> FIELD_INDEX & 1) fill_row(block->index, (double) bar);
    if (!(used & ((int64_t) 1 << FIELD_SIDE | (int64_t) 1 << FIELD_STOP_LOSS | (int64_t) 1 << FIELD_TAKE_PROFIT |
                  (int64_t) 1 << FIELD_PROFIT | (int64_t) 1 << FIELD_PEAK_EQUITY)))
        return;
    EACH_VECTOR(lane) {
        vector units = vector_at(ROW(block, units) + lane), level;
        vector_mask is_short = vector_less(units, zero);
        if (used >> FIELD_SIDE & 1)
            vector_to(block->side + lane, vector_select(is_short, vector_all(-1.0),
                                                        vector_select(vector_less(zero, units), vector_all(1.0), zero)));
        if (used >> FIELD_STOP_LOSS & 1) {
            level = vector_at(ROW(block, stop) + lane);
            vector_to(block->stop_loss + lane, vector_select(vector_equal(level, level), level,
                                                             vector_select(is_short, most, least)));
        }
        if (used >> FIELD_TAKE_PROFIT & 1) {
            level = vector_at(ROW(block, target) + lane);
            vector_to(block->take_profit + lane, vector_select(vector_equal(level, level), level,
                                                               vector_select(is_short, least, most)));
        }
        if (used >> FIELD_PROFIT & 1) {
            vector profit = vector_times(units, vector_minus(closes, vector_at(ROW(block, entry_price) + lane)));
            profit = vector_minus(vector_times(profit, multiplier), vector_at(ROW(block, entry_cost) + lane));
            profit = vector_minus(profit, vector_at(ROW(block, borrow_cost) + lane));
            vector_to(block->profit + lane, vector_select(vector_equal(units, zero), zero, profit));
        }
        if (used >> FIELD_PEAK_EQUITY & 1)
            vector_to(block->peak_equity + lane, vector_max(vector_at(ROW(block, peak) + lane), vector_at(block->equity + lane)));
    }
}

#endif

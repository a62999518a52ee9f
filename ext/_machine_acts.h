/* What the function decides, for many lanes at once: orders placed, levels moved.  Lanes whose arguments break a rule are left
   out, for the code that says which (find_fault of _machine_orders.pxd): the rules here are the same. */
#ifndef BACKTEST_MACHINE_ACTS_H
#define BACKTEST_MACHINE_ACTS_H

#include "_machine_block.h"

/* Lanes of a vector on which a number given is above 0 and finite. */
VECTOR_INLINE uint64_t is_positive(vector x)
{
    return vector_bits(vector_less(vector_all(0.0), x)) & vector_bits(vector_less(x, vector_all(INFINITY)));
}

VECTOR_INLINE void put_where(double *row, vector_mask which, vector x)
{
    vector_to(row, vector_select(which, x, vector_at(row)));
}

/* Lanes of a vector on which a level that must be below (or above) ``reference`` keeps the rules. */
VECTOR_INLINE uint64_t is_right_level(vector level, int kind, int is_below, int may_be_off, vector reference)
{
    uint64_t right = is_positive(level);
    if (kind == (is_below ? ABOVE_ENTRY : BELOW_ENTRY)) right = 0;
    if (kind == BELOW_ENTRY && !may_be_off) right &= vector_bits(vector_less(level, vector_all(1.0)));
    if (kind == PRICE) right &= vector_bits(is_below ? vector_less(level, reference) : vector_less(reference, level));
    return may_be_off ? right | vector_bits(vector_unequal(level, level)) : right;
}

/* Lanes of a vector on which a buy or sale keeps the rules. */
static inline uint64_t is_right_order(const machine_shared *shared, const machine_action *action, const double *const *rows,
                                      int lane, double close)
{
    const vector one = vector_all(1.0);
    vector reference = vector_all(close), size = vector_at(rows[action->size] + lane), x;
    uint64_t right = is_positive(size);
    int is_buy = action->kind == BUY, may_be_off = shared->off_is_nan;
    if (action->size_kind == SHARE_OF_POSITION) right &= vector_bits(vector_at_most(size, one));
    if (action->stop >= 0) right &= is_positive(reference = vector_at(rows[action->stop] + lane));
    if (action->limit >= 0) right &= is_positive(reference = vector_at(rows[action->limit] + lane));
    if (action->valid >= 0) {
        const vector big = vector_all(4503599627370496.0); /* 2^52, from where on every number is whole */
        x = vector_at(rows[action->valid] + lane);
        right &= is_positive(x) & vector_bits(vector_at_most(one, x)) &
                 (vector_bits(vector_equal(vector_minus(vector_plus(x, big), big), x)) | vector_bits(vector_at_most(big, x)));
    }
    if (action->stop_loss >= 0)
        right &= is_right_level(vector_at(rows[action->stop_loss] + lane), action->stop_loss_kind, is_buy, may_be_off, reference);
    if (action->take_profit >= 0)
        right &= is_right_level(vector_at(rows[action->take_profit] + lane), action->take_profit_kind, !is_buy, may_be_off,
                                reference);
    if (action->trail >= 0) {
        x = vector_at(rows[action->trail] + lane);
        right &= is_positive(x) | (may_be_off ? vector_bits(vector_unequal(x, x)) : 0);
    }
    return right;
}

/* Place a buy or a sale for ``lanes``; returns those whose arguments break a rule. */
static uint64_t place_orders(machine_block *block, const machine_action *action, const double *const *rows, uint64_t lanes,
                             int64_t bar)
{
    const machine_shared *shared = block->shared;
    machine_slot *order = shared->slots + action->slot;
    const vector zero = vector_all(0.0);
    uint64_t wrong = 0, placed = 0, opposite = 0;
    EACH_GROUP(lanes, first) EACH_OF_GROUP(first, lane) {
        uint64_t here = lanes >> lane & VECTOR_LANES, right;
        vector epoch = vector_at(ROW(block, epoch) + lane), units = vector_at(ROW(block, units) + lane);
        vector_mask which;
        if (!here) continue;
        if (action->once) here &= ~vector_bits(vector_equal(vector_at(order->once_epoch + lane), epoch));
        right = is_right_order(shared, action, rows, lane, shared->close[bar]);
        wrong |= (here & ~right) << lane;
        here &= right;
        placed |= here << lane;
        opposite |= (here & vector_bits(action->kind == BUY ? vector_less(units, zero) : vector_less(zero, units))) << lane;
        which = vector_mask_of(here << lane, lane);
        put_where(order->size + lane, which, vector_at(rows[action->size] + lane));
        if (action->once) put_where(order->once_epoch + lane, which, epoch);
        if (action->limit >= 0) put_where(order->limit + lane, which, vector_at(rows[action->limit] + lane));
        if (action->stop >= 0) put_where(order->stop + lane, which, vector_at(rows[action->stop] + lane));
        if (action->stop_loss >= 0) put_where(order->stop_loss + lane, which, vector_at(rows[action->stop_loss] + lane));
        if (action->take_profit >= 0) put_where(order->take_profit + lane, which, vector_at(rows[action->take_profit] + lane));
        if (action->trail >= 0) put_where(order->trail + lane, which, vector_at(rows[action->trail] + lane));
        if (action->valid >= 0)
            put_where(order->valid_until + lane, which,
                      vector_plus(vector_all((double) bar), vector_at(rows[action->valid] + lane)));
    }
    order->active = (order->active & ~placed) | (shared->reducing_slots >> action->slot & 1 ? opposite : placed);
    order->triggered &= ~placed;
    if (!(shared->market_slots >> action->slot & 1)) block->is_stale |= placed;
    return wrong;
}

/* Move the stop or the target of ``lanes``, which hold a position; returns those whose arguments break a rule. */
static uint64_t move_levels(machine_block *block, const machine_action *action, const double *const *rows, uint64_t lanes)
{
    int is_stop = action->kind == MOVE_STOP;
    const double *prices = rows[is_stop ? action->stop_loss : action->take_profit];
    double *levels = is_stop ? ROW(block, stop) : ROW(block, target), *shares = ROW(block, target_share);
    uint64_t wrong = 0;
    EACH_GROUP(lanes, first) EACH_OF_GROUP(first, lane) {
        uint64_t here = lanes >> lane & VECTOR_LANES, right;
        vector price = vector_at(prices + lane), share = vector_all(1.0);
        if (!here) continue;
        right = is_positive(price);
        if (action->share >= 0) {
            share = vector_at(rows[action->share] + lane);
            right &= is_positive(share) & vector_bits(vector_at_most(share, vector_all(1.0)));
        }
        wrong |= (here & ~right) << lane;
        here &= right;
        put_where(levels + lane, vector_mask_of(here << lane, lane), price);
        if (!is_stop) put_where(shares + lane, vector_mask_of(here << lane, lane), share);
    }
    block->is_stale |= lanes;
    return wrong;
}

/* Apply an action to ``lanes``; returns those that it did not apply to, since an argument breaks a rule. */
static uint64_t act_on_rows(machine_block *block, const machine_action *action, const double *const *rows, uint64_t lanes,
                            int64_t bar)
{
    const machine_shared *shared = block->shared;
    switch (action->kind) {
    case BUY: case SELL: return place_orders(block, action, rows, lanes, bar);
    case CLOSE_POSITION:
        lanes &= block->is_held;
        shared->slots[action->slot].active |= lanes;
        return 0;
    case CANCEL:
        for (int64_t slot = 0; slot < shared->n_slots; slot++) shared->slots[slot].active &= ~lanes;
        block->is_stale |= lanes;
        return 0;
    default: return move_levels(block, action, rows, lanes & block->is_held);
    }
}

#endif

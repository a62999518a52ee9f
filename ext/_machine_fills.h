/* The frequent fills, for many lanes at once: a market order that opens, closes or reverses a position, and an exit by one level
   with nothing else in its way.  Whatever else may happen is left to the code for one lane (_machine_orders.pxd,
   _machine_bar.pxd), whose operations these are, in the same order. */
#ifndef BACKTEST_MACHINE_FILLS_H
#define BACKTEST_MACHINE_FILLS_H

#include "_machine_acts.h"

/* As in _records.pxd. */
enum { EXIT_REVERSE = 2, EXIT_STOP = 3, EXIT_TARGET = 4, EXIT_TRAIL = 5 };

VECTOR_INLINE void add_where(double *row, vector_mask which, vector x)
{
    vector before = vector_at(row);
    vector_to(row, vector_select(which, vector_plus(before, x), before));
}
VECTOR_INLINE void set_where(double *row, vector_mask which, double x) { put_where(row, which, vector_all(x)); }

/* Cost of orders of ``units`` > 0. */
VECTOR_INLINE vector costs_of_orders(const machine_settings *settings, vector units, vector price)
{
    vector cost = vector_plus(vector_plus(vector_all(settings->fixed), vector_times(vector_all(settings->per_unit), units)),
                              vector_times(vector_all(settings->fee_rate), vector_times(units, price)));
    return vector_min(vector_max(cost, vector_all(settings->minimum)), vector_all(settings->maximum));
}

/* Update cash and sums where orders of ``units`` (signed) fill at ``worth`` a unit, with their cost. */
VECTOR_INLINE void execute_rows(machine_block *block, int lane, vector_mask which, vector units, vector worth, vector cost)
{
    vector value = vector_times(units, worth), cash = vector_at(ROW(block, cash) + lane);
    put_where(ROW(block, cash) + lane, which, vector_minus(vector_minus(cash, value), cost));
    add_where(SUM(block, SUM_TRADED_VALUE) + lane, which, vector_abs(value));
    add_where(SUM(block, SUM_COSTS) + lane, which, cost);
    add_where(SUM(block, SUM_N_FILLS) + lane, which, vector_all(1.0));
}

/* Close the positions of lanes ``here`` of a vector at ``price``, slippage included. */
VECTOR_INLINE void close_lanes(machine_block *block, int lane, uint64_t here, vector price, vector reason, int64_t bar)
{
    const machine_settings *settings = block->shared->settings;
    const vector zero = vector_all(0.0), one = vector_all(1.0), half = vector_all(0.5);
    const vector multiplier = vector_all(settings->multiplier), bars = vector_all((double) bar);
    vector_mask which = vector_mask_of(here << lane, lane);
    vector units = vector_at(ROW(block, units) + lane), entry = vector_at(ROW(block, entry_price) + lane);
    vector worth = vector_times(price, multiplier), size = vector_abs(units), cost, net, result, loss, at;
    cost = costs_of_orders(settings, size, worth);
    execute_rows(block, lane, which, vector_negative(units), worth, cost);
    net = vector_times(vector_times(units, vector_minus(price, entry)), multiplier);
    net = vector_minus(vector_minus(net, vector_at(ROW(block, entry_cost) + lane)), cost);
    net = vector_minus(net, vector_at(ROW(block, borrow_cost) + lane));
    result = vector_over(net, vector_times(vector_times(size, entry), multiplier));
    loss = vector_abs(net);
    add_where(SUM(block, SUM_N_TRADES) + lane, which, one);
    add_where(SUM(block, SUM_NET_PROFIT) + lane, which, net);
    add_where(SUM(block, SUM_N_WINNERS) + lane, which, vector_select(vector_less(zero, net), one, zero));
    add_where(SUM(block, SUM_WON) + lane, which, vector_times(half, vector_plus(loss, net)));
    add_where(SUM(block, SUM_LOST) + lane, which, vector_times(half, vector_minus(loss, net)));
    at = vector_at(SUM(block, SUM_LARGEST_PROFIT) + lane);
    put_where(SUM(block, SUM_LARGEST_PROFIT) + lane, which, vector_max(at, net));
    add_where(SUM(block, SUM_TRADE_RETURN) + lane, which, result);
    add_where(SUM(block, SUM_TRADE_RETURN_2) + lane, which, vector_times(result, result));
    at = vector_at(SUM(block, SUM_BEST_TRADE) + lane);
    put_where(SUM(block, SUM_BEST_TRADE) + lane, which, vector_max(at, result));
    at = vector_at(SUM(block, SUM_WORST_TRADE) + lane);
    put_where(SUM(block, SUM_WORST_TRADE) + lane, which, vector_min(at, result));
    add_where(SUM(block, SUM_BARS_HELD) + lane, which, vector_minus(bars, vector_at(ROW(block, entry_bar) + lane)));
    put_where(ROW(block, last_exit_reason) + lane, which, reason);
    put_where(ROW(block, last_exit_bar) + lane, which, bars);
    put_where(ROW(block, last_exit_price) + lane, which, price);
    put_where(ROW(block, last_result) + lane, which, vector_plus(vector_at(ROW(block, result) + lane), net));
    set_where(ROW(block, units) + lane, which, 0.0);
    set_where(ROW(block, entry_price) + lane, which, 0.0);
    set_where(ROW(block, last_entry_price) + lane, which, 0.0);
    set_where(ROW(block, entry_cost) + lane, which, 0.0);
    set_where(ROW(block, borrow_cost) + lane, which, 0.0);
    set_where(ROW(block, result) + lane, which, 0.0);
    set_where(ROW(block, bars_held) + lane, which, 0.0);
    set_where(ROW(block, n_entries) + lane, which, 0.0);
    set_where(ROW(block, n_exits) + lane, which, 0.0);
    set_where(ROW(block, best_close) + lane, which, 0.0);
    set_where(ROW(block, worst_close) + lane, which, 0.0);
    set_where(ROW(block, stop) + lane, which, NAN);
    set_where(ROW(block, target) + lane, which, NAN);
    set_where(ROW(block, trail) + lane, which, NAN);
    set_where(ROW(block, trail_kind) + lane, which, 0.0);
    add_where(ROW(block, epoch) + lane, which, one);
}

/* What words say of lanes whose positions ended. */
static inline void end_positions(machine_block *block, uint64_t lanes)
{
    const machine_shared *shared = block->shared;
    for (uint64_t slots = shared->reducing_slots; slots; slots &= slots - 1) shared->slots[lowest_bit(slots)].active &= ~lanes;
    block->is_held &= ~lanes;
    block->opened_here &= ~lanes;
    block->has_moved |= lanes;
    block->is_stale |= lanes;
}

/* Close the positions of ``lanes`` by market orders. */
static void close_rows(machine_block *block, uint64_t lanes, double quote, double reason, int64_t bar)
{
    const double slippage = block->shared->settings->slippage;
    const vector lower = vector_all(quote * (1.0 - slippage)), higher = vector_all(quote * (1.0 + slippage));
    if (!lanes) return;
    EACH_GROUP(lanes, first) EACH_OF_GROUP(first, lane) {
        uint64_t here = lanes >> lane & VECTOR_LANES;
        vector_mask is_long = vector_less(vector_all(0.0), vector_at(ROW(block, units) + lane));
        if (here) close_lanes(block, lane, here, vector_select(is_long, lower, higher), vector_all(reason), bar);
    }
    end_positions(block, lanes);
}

/* Price of a level given with an order. */
VECTOR_INLINE vector level_of(int kind, const double *row, double entry)
{
    const vector one = vector_all(1.0), price = vector_all(entry);
    vector x = vector_at(row);
    if (kind == BELOW_ENTRY) return vector_times(price, vector_minus(one, x));
    if (kind == ABOVE_ENTRY) return vector_times(price, vector_plus(one, x));
    return x;
}

/* Open positions of ``lanes``, which are flat, by the market orders of a slot; each order ends, filled or unaffordable. */
static void open_rows(machine_block *block, int slot, uint64_t lanes, double quote, int64_t bar)
{
    const machine_shared *shared = block->shared;
    const machine_settings *settings = shared->settings;
    const machine_action *action = shared->actions[slot];
    machine_slot *order = shared->slots + slot;
    const double price = action->kind == BUY ? quote * (1.0 + settings->slippage) : quote * (1.0 - settings->slippage);
    const vector zero = vector_all(0.0), one = vector_all(1.0), worth = vector_all(price * settings->multiplier);
    const vector leverage = vector_all(settings->leverage), divisor = vector_all(
        price * settings->multiplier * (1.0 + settings->fee_rate) + settings->per_unit);
    uint64_t opened = 0;
    EACH_GROUP(lanes, first) EACH_OF_GROUP(first, lane) {
        uint64_t here = lanes >> lane & VECTOR_LANES;
        vector equity = vector_at(ROW(block, cash) + lane), size = vector_at(order->size + lane), units = size;
        vector cost, power, bound, limit;
        vector_mask which;
        if (!here) continue;
        power = vector_times(leverage, equity);
        if (action->size_kind != UNITS) {
            vector budget = size;
            if (action->size_kind == SHARE)
                budget = vector_times(size, equity);
            else if (action->cut)
                budget = vector_min(power, size);
            units = vector_over(vector_minus(budget, vector_all(settings->fixed)), divisor);
            if (settings->minimum > 0.0) {
                bound = vector_over(vector_minus(budget, vector_all(settings->minimum)), worth);
                units = vector_min(units, bound);
            }
            if (settings->maximum < INFINITY) {
                bound = vector_over(vector_minus(budget, vector_all(settings->maximum)), worth);
                units = vector_max(units, bound);
            }
        }
        cost = costs_of_orders(settings, units, worth);
        limit = vector_times(power, vector_all(1.0 + 1e-12)); /* MACHINE_POWER_TOLERANCE */
        here &= vector_bits(vector_less(zero, equity)) & vector_bits(vector_less(zero, units)) &
                vector_bits(vector_at_most(vector_plus(vector_times(units, worth), cost), limit));
        if (!here) continue;
        opened |= here << lane;
        which = vector_mask_of(here << lane, lane);
        if (action->kind == SELL) units = vector_negative(units);
        execute_rows(block, lane, which, units, worth, cost);
        put_where(ROW(block, units) + lane, which, units);
        set_where(ROW(block, entry_price) + lane, which, price);
        set_where(ROW(block, last_entry_price) + lane, which, price);
        put_where(ROW(block, entry_cost) + lane, which, cost);
        set_where(ROW(block, borrow_cost) + lane, which, 0.0);
        set_where(ROW(block, result) + lane, which, 0.0);
        set_where(ROW(block, entry_bar) + lane, which, (double) bar);
        set_where(ROW(block, bars_held) + lane, which, 0.0);
        put_where(ROW(block, n_entries) + lane, which, one);
        set_where(ROW(block, n_exits) + lane, which, 0.0);
        set_where(ROW(block, best_close) + lane, which, price);
        set_where(ROW(block, worst_close) + lane, which, price);
        add_where(ROW(block, epoch) + lane, which, one);
        put_where(ROW(block, target_share) + lane, which, one);
        put_where(ROW(block, stop) + lane, which,
                  action->stop_loss_kind ? level_of(action->stop_loss_kind, order->stop_loss + lane, price) : vector_all(NAN));
        put_where(ROW(block, target) + lane, which,
                  action->take_profit_kind ? level_of(action->take_profit_kind, order->take_profit + lane, price)
                                           : vector_all(NAN));
        put_where(ROW(block, trail) + lane, which, action->trail_kind ? vector_at(order->trail + lane) : vector_all(NAN));
        set_where(ROW(block, trail_kind) + lane, which, (double) action->trail_kind);
    }
    order->active &= ~lanes;
    block->is_held |= opened;
    block->opened_here |= opened;
    block->has_moved |= opened;
    block->is_stale |= opened;
}

/* Fill market orders of the lanes that have one only, where it opens, closes or reverses; the others' stay active. */
static void fill_market_rows(machine_block *block, uint64_t alive, double quote, int64_t bar, int at_close)
{
    const machine_shared *shared = block->shared;
    uint64_t one = 0, several = 0;
    if (shared->settings->lot != 0.0 || shared->settings->tick != 0.0) return;
    for (uint64_t slots = shared->market_slots; slots; slots &= slots - 1) {
        uint64_t active = shared->slots[lowest_bit(slots)].active;
        several |= one & active;
        one |= active;
    }
    alive &= one & ~several;
    if (at_close && shared->no_entry_after_level) alive &= ~block->left_by_level;
    if (!alive) return;
    for (uint64_t slots = shared->market_slots; slots; slots &= slots - 1) {
        int slot = lowest_bit(slots);
        const machine_action *action = shared->actions[slot];
        uint64_t lanes = shared->slots[slot].active & alive, reversed;
        if (!lanes) continue;
        if (action->kind == CLOSE_POSITION) {
            close_rows(block, lanes, quote, (double) action->reason, bar);
            shared->slots[slot].active &= ~lanes;
        } else if (!(shared->reducing_slots >> slot & 1)) {
            reversed = 0;
            if (action->size_kind != UNITS && lanes & block->is_held) {
                uint64_t is_long = find_long(block);
                reversed = lanes & block->is_held & (action->kind == BUY ? ~is_long : is_long);
                close_rows(block, reversed, quote, EXIT_REVERSE, bar);
            }
            open_rows(block, slot, (lanes & ~block->is_held) | reversed, quote, bar);
        }
    }
}

/* Exits of lanes that a bar touches, where one level is all that is reached; returns the lanes that are left. */
static uint64_t exit_rows(machine_block *block, uint64_t lanes, int64_t bar)
{
    const machine_shared *shared = block->shared;
    const machine_settings *settings = shared->settings;
    const double open = shared->open[bar], low = shared->low[bar], high = shared->high[bar];
    const vector opens = vector_all(open), lows = vector_all(low), highs = vector_all(high), zero = vector_all(0.0);
    const vector above = vector_all(1.0 + settings->touch_tolerance), below = vector_all(1.0 - settings->touch_tolerance);
    const vector cheaper = vector_all(1.0 - settings->slippage), dearer = vector_all(1.0 + settings->slippage);
    const vector one = vector_all(1.0);
    uint64_t simple = lanes & block->is_held, done = 0;
    if (settings->tick != 0.0 || settings->maintenance_margin > 0.0) return lanes;
    for (int64_t slot = 0; slot < shared->n_slots; slot++) simple &= ~shared->slots[slot].active;
    EACH_GROUP(simple, first) EACH_OF_GROUP(first, lane) {
        uint64_t here = simple >> lane & VECTOR_LANES, stopped, reached, stop_gap, target_gap, is_long_bits, opened;
        vector units = vector_at(ROW(block, units) + lane), stop = vector_at(ROW(block, stop) + lane), price, reason, level;
        vector target = vector_at(ROW(block, target) + lane), trail = vector_at(ROW(block, trail) + lane);
        vector best = vector_at(ROW(block, best_close) + lane), floors, ceilings, trail_at;
        vector_mask is_long = vector_less(zero, units), is_trail, at_stop, at_open;
        if (!here) continue;
        is_long_bits = vector_bits(is_long);
        trail_at = vector_select(vector_equal(vector_at(ROW(block, trail_kind) + lane), vector_all((double) DISTANCE)),
                                 vector_select(is_long, vector_minus(best, trail), vector_plus(best, trail)),
                                 vector_times(best, vector_select(is_long, vector_minus(one, trail), vector_plus(one, trail))));
        is_trail = vector_mask_of((vector_bits(vector_unequal(stop, stop)) |
                                   (is_long_bits & vector_bits(vector_less(stop, trail_at))) |
                                   (~is_long_bits & vector_bits(vector_less(trail_at, stop)))) << lane, lane);
        stop = vector_select(is_trail, trail_at, stop);
        floors = vector_times(vector_select(is_long, stop, target), above);
        ceilings = vector_times(vector_select(is_long, target, stop), below);
        stopped = (is_long_bits & vector_bits(vector_at_most(lows, floors))) |
                  (~is_long_bits & vector_bits(vector_at_most(ceilings, highs)));
        reached = (is_long_bits & vector_bits(vector_at_most(ceilings, highs))) |
                  (~is_long_bits & vector_bits(vector_at_most(lows, floors)));
        stop_gap = (is_long_bits & vector_bits(vector_at_most(opens, floors))) |
                   (~is_long_bits & vector_bits(vector_at_most(ceilings, opens)));
        target_gap = (is_long_bits & vector_bits(vector_at_most(ceilings, opens))) |
                     (~is_long_bits & vector_bits(vector_at_most(opens, floors)));
        target_gap &= ~stop_gap;
        opened = block->opened_here >> lane & VECTOR_LANES;
        /* Not: both inside the bar, a part by the target, a level of this bar's entry that is beyond its open. */
        here &= ~(stopped & reached & ~(stop_gap | target_gap)) & ~(opened & (stop_gap | target_gap));
        here &= ~(reached & vector_bits(vector_unequal(vector_at(ROW(block, target_share) + lane), one)));
        here &= stopped | reached | stop_gap | target_gap;
        if (!here) continue;
        at_stop = vector_mask_of((stop_gap | (stopped & ~target_gap)) << lane, lane);
        at_open = vector_mask_of((stop_gap | target_gap) << lane, lane);
        level = vector_select(at_stop, stop, target);
        level = vector_select(vector_less(level, lows), lows, level);
        level = vector_select(vector_less(highs, level), highs, level);
        price = vector_select(at_open, opens, level);
        price = vector_select(at_stop, vector_times(price, vector_select(is_long, cheaper, dearer)), price);
        reason = vector_select(at_stop, vector_select(is_trail, vector_all(EXIT_TRAIL), vector_all(EXIT_STOP)),
                               vector_all(EXIT_TARGET));
        close_lanes(block, lane, here, price, reason, bar);
        done |= here << lane;
    }
    if (done) {
        end_positions(block, done);
        block->left_by_level |= done;
    }
    return lanes & ~done;
}

#endif

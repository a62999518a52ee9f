/* Positions of a portfolio: their value and excursions over bars, and the orders of one moment.

   Assets are lanes, independent but for sums: these are kept per lane and added up in order at the end.  No branches on what
   cannot be predicted (half of all orders buy).  The arithmetic of a position is that of _trades.pxd, in the same order; a
   test compares the two bit for bit.  Arrays have room for whole groups of lanes; beyond the assets units and orders are 0. */
#ifndef BACKTEST_POSITIONS_H
#define BACKTEST_POSITIONS_H

#include "_lanes.h"

/* Value of all positions, and the sum of their absolute values, at the prices of each bar; ``end`` is where prices end. */
static LANES_NOINLINE void positions_value(ptrdiff_t n_assets, ptrdiff_t n_bars, const double *LANES_RESTRICT units,
                                               const double *LANES_RESTRICT prices, const double *end,
                                               double *LANES_RESTRICT values, double *LANES_RESTRICT gross)
{
    const ptrdiff_t full = lanes_full(n_assets);
    for (ptrdiff_t bar = 0; bar < n_bars; bar++, prices += n_assets) {
        lanes value = lanes_all(0.0), size = lanes_all(0.0);
        for (ptrdiff_t group = 0; group < full; group += N_LANES) {
            const lanes each = lanes_times(lanes_at(units + group), lanes_at(prices + group));
            value = lanes_plus(value, each);
            size = lanes_plus(size, lanes_size(each));
        }
        if (full < n_assets) {
            const lanes each = lanes_times(lanes_at(units + full), lanes_of_rest(prices + full, n_assets - full, end));
            value = lanes_plus(value, each);
            size = lanes_plus(size, lanes_size(each));
        }
        values[bar] = lanes_sum(value);
        gross[bar] = lanes_sum(size);
    }
}

/* Sum of the absolute weights of an event. */
static LANES_NOINLINE double weights_gross(ptrdiff_t n_assets, const double *LANES_RESTRICT weights)
{
    const ptrdiff_t full = lanes_full(n_assets);
    lanes gross = lanes_all(0.0);
    for (ptrdiff_t group = 0; group < full; group += N_LANES) gross = lanes_plus(gross, lanes_size(lanes_at(weights + group)));
    if (full < n_assets) {
        double rest[N_LANES];
        lanes_copy(rest, weights + full, n_assets - full);
        gross = lanes_plus(gross, lanes_size(lanes_at(rest)));
    }
    return lanes_sum(gross);
}

LANES_INLINE lane_mask lanes_are_prices(lanes quote)
{
    return lane_mask_and(lanes_above(quote, lanes_all(0.0)), lanes_above(lanes_all(INFINITY), quote));
}
/* Value at quotes; at the last valid price (mark) where there is no quote. */
LANES_INLINE lanes lanes_quoted(lanes units, lanes quote, lanes mark)
{
    return lanes_times(units, lanes_select(lanes_are_prices(quote), quote, mark));
}

static LANES_NOINLINE double positions_value_quoted(ptrdiff_t n_assets, const double *LANES_RESTRICT units,
                                                        const double *LANES_RESTRICT quotes, const double *quotes_end,
                                                        const double *LANES_RESTRICT marks, const double *marks_end)
{
    const ptrdiff_t full = lanes_full(n_assets), rest = n_assets - full;
    lanes value = lanes_all(0.0);
    for (ptrdiff_t group = 0; group < full; group += N_LANES)
        value = lanes_plus(value, lanes_quoted(lanes_at(units + group), lanes_at(quotes + group), lanes_at(marks + group)));
    if (rest)
        value = lanes_plus(value, lanes_quoted(lanes_at(units + full), lanes_of_rest(quotes + full, rest, quotes_end),
                                               lanes_of_rest(marks + full, rest, marks_end)));
    return lanes_sum(value);
}

typedef struct { lanes most, least; } excursion;
LANES_INLINE excursion excursion_with(excursion seen, lanes held, lanes entry, lanes price)
{
    const lanes profit = lanes_times(held, lanes_minus(price, entry));
    seen.most = lanes_larger(profit, seen.most);
    seen.least = lanes_smaller(profit, seen.least);
    return seen;
}

/* Updates the best and worst unrealised profit of positions with the prices of some bars. */
static LANES_NOINLINE void positions_track(ptrdiff_t n_assets, ptrdiff_t n_bars, const double *LANES_RESTRICT units,
                                             const double *LANES_RESTRICT entry_price,
                                             const double *LANES_RESTRICT prices, const double *end,
                                             double *LANES_RESTRICT mfe, double *LANES_RESTRICT mae)
{
    for (ptrdiff_t group = 0; group < n_assets; group += N_LANES) {
        const lanes held = lanes_at(units + group), entry = lanes_at(entry_price + group);
        const ptrdiff_t room = end - (prices + group) - N_LANES;
        const ptrdiff_t n_whole = room < 0 ? 0 : room / n_assets + 1; /* bars whose group can be read whole */
        const ptrdiff_t whole = n_whole < n_bars ? n_whole : n_bars;
        excursion seen = {lanes_at(mfe + group), lanes_at(mae + group)};
        for (ptrdiff_t bar = 0; bar < whole; bar++)
            seen = excursion_with(seen, held, entry, lanes_at(prices + bar * n_assets + group));
        for (ptrdiff_t bar = whole; bar < n_bars; bar++)
            seen = excursion_with(seen, held, entry, lanes_of_rest(prices + bar * n_assets + group, n_assets - group, end));
        lanes_to(mfe + group, seen.most);
        lanes_to(mae + group, seen.least);
    }
}

/* Prefetches prices: opens are read only after events, which no hardware prefetcher anticipates. */
LANES_INLINE void positions_prefetch(ptrdiff_t n_assets, const double *prices)
{
#if defined(__GNUC__)
    for (ptrdiff_t asset = 0; asset < n_assets; asset += N_LANES) __builtin_prefetch(prices + asset);
#endif
}

/* How orders are sized, and their costs. */
typedef struct {
    double base, scale;  /* of the targets */
    double least;        /* value of an order that counts */
    double dust;         /* a remainder below this share of what was traded or held is rounding */
    double slippage, fixed, per_unit, fee_rate, minimum, maximum;
} order_sizing;

/* Orders of the waiting assets that have a price: these stop waiting.  Returns whether any asset still waits. */
static LANES_NOINLINE int positions_orders(ptrdiff_t n_assets, const order_sizing *sizing,
                                               const double *LANES_RESTRICT quotes, const double *end,
                                               const double *LANES_RESTRICT units, double *LANES_RESTRICT waiting,
                                               double *LANES_RESTRICT orders, double *LANES_RESTRICT prices,
                                               double *LANES_RESTRICT costs)
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0), never = lanes_all(NAN), dust = lanes_all(sizing->dust);
    const lanes base = lanes_all(sizing->base), scale = lanes_all(sizing->scale), value = lanes_all(sizing->least);
    const lanes up = lanes_all(1.0 + sizing->slippage), down = lanes_all(1.0 - sizing->slippage);
    const lanes fixed = lanes_all(sizing->fixed), per_unit = lanes_all(sizing->per_unit), rate = lanes_all(sizing->fee_rate);
    const lanes minimum = lanes_all(sizing->minimum), maximum = lanes_all(sizing->maximum);
    lanes still = none;
    for (ptrdiff_t group = 0; group < n_assets; group += N_LANES) {
        const lanes quote = n_assets - group < N_LANES ? lanes_of_rest(quotes + group, n_assets - group, end)
                                                              : lanes_at(quotes + group);
        const lanes before = lanes_at(units + group), target = lanes_at(waiting + group);
        const lane_mask is_price = lanes_are_prices(quote);
        lanes order = lanes_minus(lanes_over(lanes_times(lanes_times(target, scale), base), quote), before);
        const lanes after = lanes_plus(before, order);
        const lanes larger = lanes_select(lanes_above(lanes_size(order), lanes_size(before)), lanes_size(order), lanes_size(before));
        /* An order that would leave a rounding error closes the position. */
        order = lanes_select(lanes_at_most(lanes_size(after), lanes_times(dust, larger)), lanes_minus(none, before), order);
        /* NaN compares false: what does not wait, or has no price, has no order. */
        const lanes size = lanes_size(order);
        const lane_mask counts = lane_mask_and(is_price, lanes_above(lanes_times(size, quote), value));
        const lanes price = lanes_times(quote, lanes_select(lanes_above(order, none), up, down));
        lanes cost = lanes_plus(lanes_plus(fixed, lanes_times(per_unit, size)), lanes_times(rate, lanes_times(size, price)));
        cost = lanes_select(lanes_above(minimum, cost), minimum, cost);
        cost = lanes_select(lanes_above(cost, maximum), maximum, cost);
        lanes_to(orders + group, lanes_where(counts, order));
        lanes_to(prices + group, lanes_where(counts, price));
        lanes_to(costs + group, lanes_where(counts, cost));
        /* Without a price an asset goes on waiting if it is held or its target is not 0. */
        const lane_mask wanted = lanes_above(lanes_plus(lanes_size(target), lanes_size(before)), none);
        lanes_to(waiting + group, lanes_select(is_price, never, lanes_select(wanted, target, never)));
        still = lanes_plus(still, lanes_select(is_price, none, lanes_where(wanted, one)));
    }
    return lanes_sum(still) > 0.0;
}

/* Cash after orders, in column order; adds to ``traded``, to ``paid`` and to the count of orders. */
static LANES_NOINLINE double positions_pay(ptrdiff_t n_assets, const double *LANES_RESTRICT orders,
                                               const double *LANES_RESTRICT prices, const double *LANES_RESTRICT costs,
                                               double cash, double *LANES_RESTRICT traded, double *LANES_RESTRICT paid,
                                               int64_t *n_orders)
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0);
    lanes value = lanes_at(traded), cost = lanes_at(paid), n = none;
    for (ptrdiff_t asset = 0; asset < n_assets; asset++) cash -= orders[asset] * prices[asset] + costs[asset];
    for (ptrdiff_t group = 0; group < n_assets; group += N_LANES) {
        const lanes order = lanes_at(orders + group);
        value = lanes_plus(value, lanes_size(lanes_times(order, lanes_at(prices + group))));
        cost = lanes_plus(cost, lanes_at(costs + group));
        n = lanes_plus(n, lanes_where(lanes_above(lanes_size(order), none), one));
    }
    lanes_to(traded, value);
    lanes_to(paid, cost);
    *n_orders += (int64_t)lanes_sum(n);
    return cash;
}

/* Not inlined: when it inlines, gcc loses that the twenty arrays do not overlap, and does not vectorise.

   Applies orders to positions, and describes the trades that they complete; 0 for assets that complete none:
   units_before        units before the order
   net, result, paid, best, worst, held_bars   of the trade */
static LANES_NOINLINE void positions_fill(
    ptrdiff_t n_lanes, double bar, const double *LANES_RESTRICT orders, const double *LANES_RESTRICT prices,
    const double *LANES_RESTRICT costs, const double *LANES_RESTRICT seen, double *LANES_RESTRICT units,
    double *LANES_RESTRICT entry_price, double *LANES_RESTRICT entry_cost, double *LANES_RESTRICT borrow_cost,
    double *LANES_RESTRICT mfe, double *LANES_RESTRICT mae, double *LANES_RESTRICT entry_bar, double *LANES_RESTRICT units_before,
    double *LANES_RESTRICT net, double *LANES_RESTRICT result, double *LANES_RESTRICT paid, double *LANES_RESTRICT best,
    double *LANES_RESTRICT worst, double *LANES_RESTRICT held_bars)
{
    for (ptrdiff_t asset = 0; asset < n_lanes; asset++) {
        const double order = orders[asset], price = prices[asset], cost = costs[asset], held = units[asset];
        const double entry = entry_price[asset], entered = entry_cost[asset], borrowed = borrow_cost[asset];
        const double most = mfe[asset], least = mae[asset], since = entry_bar[asset];
        const double after = held + order;
        const double along = held > 0.0 ? order : -order;   /* > 0 adds to the position, < 0 closes some of it */
        const double beyond = held > 0.0 ? after : -after;  /* < 0: through zero */
        /* The position before the order is still marked at the open at which the order fills. */
        const double seen_profit = held * (seen[asset] - entry);
        const double up = seen_profit > most ? seen_profit : most, down = seen_profit < least ? seen_profit : least;
        /* One division for three cases, since divisions dominate the cost: the share of an order through zero that closes,
           the average price after an addition, the share of a position that is closed. */
        const double numerator = beyond < 0.0 ? held : along > 0.0 ? held * entry + order * price : -order;
        const double denominator = beyond < 0.0 ? -order : along > 0.0 ? after : held;
        const double quotient = numerator / denominator;
        /* The trade. */
        const double closed = beyond > 0.0 ? -order : held;
        const double share = beyond < 0.0 ? 1.0 : quotient;
        const double exit_cost = beyond < 0.0 ? cost * quotient : cost;
        const double of_entry = share * entered, of_borrow = share * borrowed;
        const double gross = closed * (price - entry);
        const double profit = gross - of_entry - exit_cost - of_borrow;
        double above = share * up, below = share * down;
        above = gross > above ? gross : above;
        below = gross < below ? gross : below;
        double closes = along < 0.0 ? 1.0 : 0.0;
        closes = held != 0.0 ? closes : 0.0;
        units_before[asset] = closes > 0.0 ? held : 0.0;
        net[asset] = closes > 0.0 ? profit + 0.0 : 0.0;
        result[asset] = closes > 0.0 ? profit / (fabs(closed) * entry) + 0.0 : 0.0;
        paid[asset] = closes > 0.0 ? of_entry + exit_cost + of_borrow : 0.0;
        best[asset] = closes > 0.0 ? above : 0.0;
        worst[asset] = closes > 0.0 ? below : 0.0;
        held_bars[asset] = closes > 0.0 ? bar - since : 0.0;
        /* The position. */
        const double rest = 1.0 - share; /* what stays open */
        double starts = beyond < 0.0 ? 1.0 : 0.0;
        starts = held != 0.0 ? starts : 1.0;
        const double price_now = starts > 0.0 ? price : along > 0.0 ? quotient : entry;
        const double cost_new = held != 0.0 ? cost - exit_cost : cost;
        const double cost_now = starts > 0.0 ? cost_new : along > 0.0 ? entered + cost : entered * rest;
        const double borrow_now = starts > 0.0 ? 0.0 : along > 0.0 ? borrowed : borrowed * rest;
        const double up_now = starts > 0.0 ? 0.0 : along > 0.0 ? up : up * rest;
        const double down_now = starts > 0.0 ? 0.0 : along > 0.0 ? down : down * rest;
        const double bar_now = starts > 0.0 ? bar : since;
        units[asset] = after;
        entry_price[asset] = order != 0.0 ? price_now : entry;
        entry_cost[asset] = order != 0.0 ? cost_now : entered;
        borrow_cost[asset] = order != 0.0 ? borrow_now : borrowed;
        mfe[asset] = order != 0.0 ? up_now : most;
        mae[asset] = order != 0.0 ? down_now : least;
        entry_bar[asset] = order != 0.0 ? bar_now : since;
    }
}

#endif

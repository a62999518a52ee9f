/* Books: one rebalancing of all assets at once.

   Assets are lanes: nothing crosses them, so the loops become vector code, and nothing branches on what nobody can predict
   (a half of all orders buys, two thirds of all trades win).  The arithmetic of a position is that of _trades.pxd, in the same
   order; a test holds the two against each other bit for bit.  Arrays have room for whole groups of BOOK_LANES assets, and an
   asset without an order has 0 there. */
#ifndef BACKTEST_BOOK_H
#define BACKTEST_BOOK_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_MSC_VER)
#define BOOK_RESTRICT __restrict
#define BOOK_NOINLINE __declspec(noinline)
#else
#define BOOK_RESTRICT restrict
#define BOOK_NOINLINE __attribute__((noinline))
#endif

enum { BOOK_LANES = 8 };

/* Numbers that are kept of a side, in the order of _trades.pxd. */
enum { KEPT_TRADES, KEPT_WINNERS, KEPT_LOSERS, KEPT_COSTS, KEPT_NET, KEPT_WON, KEPT_LOST, KEPT_RETURN, KEPT_RETURN_2, KEPT_MFE,
       KEPT_MAE, KEPT_BARS, KEPT_DAYS, KEPT_MOST_NET, KEPT_LEAST_NET, KEPT_MOST_BARS, KEPT_LEAST_BARS, KEPT_MOST_DAYS,
       KEPT_LEAST_DAYS, KEPT };

/* Orders of assets that wait and have a price; a wait ends with the price.  Returns how many still wait. */
static inline int book_orders(ptrdiff_t n_assets, const double *BOOK_RESTRICT quotes, const double *BOOK_RESTRICT units,
                              double *BOOK_RESTRICT waiting, double *BOOK_RESTRICT orders, double *BOOK_RESTRICT prices,
                              double *BOOK_RESTRICT costs, double base, double scale, double least, double dust,
                              double slippage, double fixed, double per_unit, double fee_rate, double minimum, double maximum)
{
    const double up = 1.0 + slippage, down = 1.0 - slippage;
    double still = 0.0;
    for (ptrdiff_t asset = 0; asset < n_assets; asset++) {
        const double quote = quotes[asset], target = waiting[asset], before = units[asset];
        double order = target * scale * base / quote - before;
        const double after = before + order;
        const double larger = fabs(order) > fabs(before) ? fabs(order) : fabs(before);
        order = fabs(after) <= dust * larger ? -before : order;  /* a rounding error is no position */
        /* NaN compares false: what does not wait, or has no price, has no order. */
        const double size = fabs(order);
        double counts = size * quote > least ? 1.0 : 0.0;
        counts = quote > 0.0 ? counts : 0.0;
        counts = quote < INFINITY ? counts : 0.0;
        const double price = quote * (order > 0.0 ? up : down);
        double cost = fixed + per_unit * size + fee_rate * (size * price);
        cost = cost < minimum ? minimum : cost;
        cost = cost > maximum ? maximum : cost;
        orders[asset] = counts > 0.0 ? order : 0.0;
        prices[asset] = counts > 0.0 ? price : 0.0;
        costs[asset] = counts > 0.0 ? cost : 0.0;
        /* Without a price an asset waits on, if it is held or wanted. */
        double stays = fabs(target) + fabs(before);  /* NaN: does not wait */
        stays = quote > 0.0 ? (quote < INFINITY ? NAN : stays) : stays;
        waiting[asset] = stays > 0.0 ? target : NAN;
    }
    for (ptrdiff_t asset = 0; asset < n_assets; asset++) still += waiting[asset] == waiting[asset] ? 1.0 : 0.0;
    return still > 0.0;
}

/* Not inlined: gcc forgets there that twenty arrays do not overlap, and gives up.

   What the orders make of positions, and of the trades that they complete:
   was        units before, of assets that complete a trade; 0 of the others
   net, result, paid, best, worst, held: of the trade; 0 of the others. */
static BOOK_NOINLINE void book_fill(
    ptrdiff_t n_lanes, double bar, const double *BOOK_RESTRICT orders, const double *BOOK_RESTRICT prices,
    const double *BOOK_RESTRICT costs, const double *BOOK_RESTRICT seen, double *BOOK_RESTRICT units,
    double *BOOK_RESTRICT entry_price, double *BOOK_RESTRICT entry_cost, double *BOOK_RESTRICT borrow_cost,
    double *BOOK_RESTRICT mfe, double *BOOK_RESTRICT mae, double *BOOK_RESTRICT entry_bar, double *BOOK_RESTRICT was,
    double *BOOK_RESTRICT net, double *BOOK_RESTRICT result, double *BOOK_RESTRICT paid, double *BOOK_RESTRICT best,
    double *BOOK_RESTRICT worst, double *BOOK_RESTRICT held_bars)
{
    for (ptrdiff_t asset = 0; asset < n_lanes; asset++) {
        const double order = orders[asset], price = prices[asset], cost = costs[asset], held = units[asset];
        const double entry = entry_price[asset], entered = entry_cost[asset], borrowed = borrow_cost[asset];
        const double most = mfe[asset], least = mae[asset], since = entry_bar[asset];
        const double after = held + order;
        const double along = held > 0.0 ? order : -order;   /* > 0 adds to the position, < 0 closes some of it */
        const double beyond = held > 0.0 ? after : -after;  /* < 0: through zero */
        /* The price at which the order came about was seen by the position before. */
        const double sight = held * (seen[asset] - entry);
        const double up = sight > most ? sight : most, down = sight < least ? sight : least;
        /* The trade. */
        const double closed = beyond > 0.0 ? -order : held;
        const double share = closed / held;
        const double exit_cost = beyond < 0.0 ? cost * (held / -order) : cost;
        const double of_entry = share * entered, of_borrow = share * borrowed;
        const double gross = closed * (price - entry);
        const double left = gross - of_entry - exit_cost - of_borrow;
        double above = share * up, below = share * down;
        above = gross > above ? gross : above;
        below = gross < below ? gross : below;
        double closes = along < 0.0 ? 1.0 : 0.0;
        closes = held != 0.0 ? closes : 0.0;
        was[asset] = closes > 0.0 ? held : 0.0;
        net[asset] = closes > 0.0 ? left + 0.0 : 0.0;
        result[asset] = closes > 0.0 ? left / (fabs(closed) * entry) + 0.0 : 0.0;
        paid[asset] = closes > 0.0 ? of_entry + exit_cost + of_borrow : 0.0;
        best[asset] = closes > 0.0 ? above : 0.0;
        worst[asset] = closes > 0.0 ? below : 0.0;
        held_bars[asset] = closes > 0.0 ? bar - since : 0.0;
        /* The position. */
        const double rest = after / held;
        double starts = beyond < 0.0 ? 1.0 : 0.0;
        starts = held != 0.0 ? starts : 1.0;
        const double averaged = (held * entry + order * price) / after;
        const double price_now = starts > 0.0 ? price : along > 0.0 ? averaged : entry;
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

/* Adds the completed trades of a rebalancing to what is kept of one side: 0 all, 1 long, -1 short. */
static const double BOOK_SIDES[3] = {0.0, 1.0, -1.0};

static BOOK_NOINLINE void book_keep(
    ptrdiff_t n_lanes, double side, const double *BOOK_RESTRICT was, const double *BOOK_RESTRICT net,
    const double *BOOK_RESTRICT result, const double *BOOK_RESTRICT paid, const double *BOOK_RESTRICT best,
    const double *BOOK_RESTRICT worst, const double *BOOK_RESTRICT held_bars, const double *BOOK_RESTRICT days,
    double (*BOOK_RESTRICT all_kept)[BOOK_LANES], double *BOOK_RESTRICT returns)
{
    /* Copies on the stack: nothing can overlap them. */
    double kept[KEPT][BOOK_LANES], most_gained[BOOK_LANES], least_gained[BOOK_LANES];
    memcpy(kept, all_kept, sizeof kept);
    memcpy(most_gained, returns, sizeof most_gained);
    memcpy(least_gained, returns + BOOK_LANES, sizeof least_gained);
    const double any = side == 0.0 ? 1.0 : 0.0;
    for (ptrdiff_t group = 0; group < n_lanes; group += BOOK_LANES) {
        double units[BOOK_LANES], of_net[BOOK_LANES], of_result[BOOK_LANES], of_paid[BOOK_LANES], of_best[BOOK_LANES];
        double of_worst[BOOK_LANES], of_held[BOOK_LANES], of_days[BOOK_LANES];
        memcpy(units, was + group, sizeof units);
        memcpy(of_net, net + group, sizeof units);
        memcpy(of_result, result + group, sizeof units);
        memcpy(of_paid, paid + group, sizeof units);
        memcpy(of_best, best + group, sizeof units);
        memcpy(of_worst, worst + group, sizeof units);
        memcpy(of_held, held_bars + group, sizeof units);
        memcpy(of_days, days + group, sizeof units);
        for (int lane = 0; lane < BOOK_LANES; lane++) {
            const double sign = units[lane] * side + fabs(units[lane]) * any;
            const double mine = sign > 0.0 ? 1.0 : 0.0;
            const double won = mine > 0.0 ? of_net[lane] : 0.0;
            const double gained = mine > 0.0 ? of_result[lane] : 0.0;
            const double held = of_held[lane], lasted = of_days[lane];
            kept[KEPT_TRADES][lane] += mine;
            kept[KEPT_WINNERS][lane] += won > 0.0 ? 1.0 : 0.0;
            kept[KEPT_LOSERS][lane] += won < 0.0 ? 1.0 : 0.0;
            kept[KEPT_COSTS][lane] += mine > 0.0 ? of_paid[lane] : 0.0;
            kept[KEPT_NET][lane] += won;
            kept[KEPT_WON][lane] += won > 0.0 ? won : 0.0;
            kept[KEPT_LOST][lane] -= won < 0.0 ? won : 0.0;
            kept[KEPT_RETURN][lane] += gained;
            kept[KEPT_RETURN_2][lane] += gained * gained;
            kept[KEPT_MFE][lane] += mine > 0.0 ? of_best[lane] : 0.0;
            kept[KEPT_MAE][lane] += mine > 0.0 ? of_worst[lane] : 0.0;
            kept[KEPT_BARS][lane] += mine > 0.0 ? held : 0.0;
            kept[KEPT_DAYS][lane] += mine > 0.0 ? lasted : 0.0;
            const double most = mine > 0.0 ? won : -INFINITY, least = mine > 0.0 ? won : INFINITY;
            const double longest = mine > 0.0 ? held : -INFINITY, shortest = mine > 0.0 ? held : INFINITY;
            const double latest = mine > 0.0 ? lasted : -INFINITY, soonest = mine > 0.0 ? lasted : INFINITY;
            const double highest = mine > 0.0 ? gained : -INFINITY, lowest = mine > 0.0 ? gained : INFINITY;
            kept[KEPT_MOST_NET][lane] = most > kept[KEPT_MOST_NET][lane] ? most : kept[KEPT_MOST_NET][lane];
            kept[KEPT_LEAST_NET][lane] = least < kept[KEPT_LEAST_NET][lane] ? least : kept[KEPT_LEAST_NET][lane];
            kept[KEPT_MOST_BARS][lane] = longest > kept[KEPT_MOST_BARS][lane] ? longest : kept[KEPT_MOST_BARS][lane];
            kept[KEPT_LEAST_BARS][lane] = shortest < kept[KEPT_LEAST_BARS][lane] ? shortest : kept[KEPT_LEAST_BARS][lane];
            kept[KEPT_MOST_DAYS][lane] = latest > kept[KEPT_MOST_DAYS][lane] ? latest : kept[KEPT_MOST_DAYS][lane];
            kept[KEPT_LEAST_DAYS][lane] = soonest < kept[KEPT_LEAST_DAYS][lane] ? soonest : kept[KEPT_LEAST_DAYS][lane];
            most_gained[lane] = highest > most_gained[lane] ? highest : most_gained[lane];
            least_gained[lane] = lowest < least_gained[lane] ? lowest : least_gained[lane];
        }
    }
    memcpy(all_kept, kept, sizeof kept);
    memcpy(returns, most_gained, sizeof most_gained);
    memcpy(returns + BOOK_LANES, least_gained, sizeof least_gained);
}

/* Winners and losers in a row, in column order: streaks of all, long and short trades: winning, losing, the longest of each.
   Six counters move together, by what a trade is (0 none, else 1 + 3 (short) + 0 lost, 1 won, 2 neither): what is added, and
   which go on. */
enum { BOOK_COUNTERS = 8 };
static const int32_t BOOK_MORE[7][BOOK_COUNTERS] = {
    {0}, {0, 1, 0, 1}, {1, 0, 1, 0}, {0}, {0, 1, 0, 0, 0, 1}, {1, 0, 0, 0, 1, 0}, {0}};
static const int32_t BOOK_GO_ON[7][BOOK_COUNTERS] = {
    {-1, -1, -1, -1, -1, -1}, {0, -1, 0, -1, -1, -1}, {-1, 0, -1, 0, -1, -1}, {0, 0, 0, 0, -1, -1},
    {0, -1, -1, -1, 0, -1}, {-1, 0, -1, -1, -1, 0}, {0, 0, -1, -1, 0, 0}};

static BOOK_NOINLINE void book_streaks(ptrdiff_t n_assets, const double *BOOK_RESTRICT was, const double *BOOK_RESTRICT net,
                                       double (*BOOK_RESTRICT streaks)[4])
{
    int32_t now[BOOK_COUNTERS] = {0}, longest[BOOK_COUNTERS] = {0};
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            now[2 * row + which] = (int32_t)streaks[row][which];
            longest[2 * row + which] = (int32_t)streaks[row][2 + which];
        }
    for (ptrdiff_t asset = 0; asset < n_assets; asset++) {
        const int outcome = 1 + (net[asset] > 0.0) + 2 * (net[asset] == 0.0) + 3 * (was[asset] < 0.0);
        const int kind = was[asset] != 0.0 ? outcome : 0;
        for (int which = 0; which < BOOK_COUNTERS; which++) {
            now[which] = (now[which] + BOOK_MORE[kind][which]) & BOOK_GO_ON[kind][which];
            longest[which] = now[which] > longest[which] ? now[which] : longest[which];
        }
    }
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            streaks[row][which] = (double)now[2 * row + which];
            streaks[row][2 + which] = (double)longest[2 * row + which];
        }
}

#endif

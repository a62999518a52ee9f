/* Positions of a portfolio: what bars make of them, and one rebalancing of all of them at once.

   Assets are lanes: nothing crosses them but the sums, which are kept in POSITION_LANES parts, by column, and added up in that
   order at the end.  Nothing branches on what nobody can predict (a half of all orders buys, two thirds of all trades win).
   The arithmetic of a position is that of _trades.pxd, in the same order; a test holds the two against each other bit for bit.
   Arrays have room for whole groups of lanes; an asset that is not there has no units, and no order. */
#ifndef BACKTEST_POSITIONS_H
#define BACKTEST_POSITIONS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && !defined(BACKTEST_PLAIN_LANES)
#define POSITIONS_VECTORS
#if defined(__AVX2__)
#include <immintrin.h>
#endif
#endif

#if defined(_MSC_VER)
#define POSITIONS_RESTRICT __restrict
#define POSITIONS_NOINLINE __declspec(noinline)
#define POSITIONS_INLINE static __forceinline
#else
#define POSITIONS_RESTRICT restrict
#define POSITIONS_NOINLINE __attribute__((noinline))
#define POSITIONS_INLINE static inline __attribute__((always_inline))
#endif

enum { POSITION_LANES = 8 };

/* Eight numbers and what is done with them.  Compilers keep vectors in registers, arrays often in memory; one that knows no
   vectors (or is asked not to use them) computes the same bits with arrays. */
#if defined(POSITIONS_VECTORS)
#pragma GCC diagnostic ignored "-Wpsabi" /* everything is inlined */
typedef double lanes __attribute__((vector_size(64)));
typedef int64_t choice __attribute__((vector_size(64)));
POSITIONS_INLINE lanes lanes_plus(lanes one, lanes other) { return one + other; }
POSITIONS_INLINE lanes lanes_minus(lanes one, lanes other) { return one - other; }
POSITIONS_INLINE lanes lanes_times(lanes one, lanes other) { return one * other; }
POSITIONS_INLINE lanes lanes_over(lanes one, lanes other) { return one / other; }
POSITIONS_INLINE lanes lanes_size(lanes x) { return (lanes)((choice)x & INT64_MAX); }
POSITIONS_INLINE choice lanes_above(lanes one, lanes other) { return one > other; }
POSITIONS_INLINE choice lanes_upto(lanes one, lanes other) { return one <= other; }
POSITIONS_INLINE choice choice_both(choice one, choice other) { return one & other; }
POSITIONS_INLINE lanes lanes_pick(choice which, lanes one, lanes other)
{
    return (lanes)((which & (choice)one) | (~which & (choice)other));
}
POSITIONS_INLINE lanes lanes_only(choice which, lanes x) { return (lanes)(which & (choice)x); }
#else
typedef struct { double of[POSITION_LANES]; } lanes;
typedef struct { int of[POSITION_LANES]; } choice;
#define EACH_LANE for (int lane = 0; lane < POSITION_LANES; lane++)
POSITIONS_INLINE lanes lanes_plus(lanes one, lanes other) { EACH_LANE one.of[lane] += other.of[lane]; return one; }
POSITIONS_INLINE lanes lanes_minus(lanes one, lanes other) { EACH_LANE one.of[lane] -= other.of[lane]; return one; }
POSITIONS_INLINE lanes lanes_times(lanes one, lanes other) { EACH_LANE one.of[lane] *= other.of[lane]; return one; }
POSITIONS_INLINE lanes lanes_over(lanes one, lanes other) { EACH_LANE one.of[lane] /= other.of[lane]; return one; }
POSITIONS_INLINE lanes lanes_size(lanes x) { EACH_LANE x.of[lane] = fabs(x.of[lane]); return x; }
POSITIONS_INLINE choice lanes_above(lanes one, lanes other)
{
    choice is;
    EACH_LANE is.of[lane] = one.of[lane] > other.of[lane];
    return is;
}
POSITIONS_INLINE choice lanes_upto(lanes one, lanes other)
{
    choice is;
    EACH_LANE is.of[lane] = one.of[lane] <= other.of[lane];
    return is;
}
POSITIONS_INLINE choice choice_both(choice one, choice other) { EACH_LANE one.of[lane] &= other.of[lane]; return one; }
POSITIONS_INLINE lanes lanes_pick(choice which, lanes one, lanes other)
{
    EACH_LANE other.of[lane] = which.of[lane] ? one.of[lane] : other.of[lane];
    return other;
}
POSITIONS_INLINE lanes lanes_only(choice which, lanes x) { EACH_LANE x.of[lane] = which.of[lane] ? x.of[lane] : 0.0; return x; }
#endif

/* The larger or smaller of a number and what was reached before, which stays where the number is none. */
#if defined(POSITIONS_VECTORS) && defined(__AVX512F__)
POSITIONS_INLINE lanes lanes_larger(lanes x, lanes most) { return (lanes)_mm512_max_pd((__m512d)x, (__m512d)most); }
POSITIONS_INLINE lanes lanes_smaller(lanes x, lanes least) { return (lanes)_mm512_min_pd((__m512d)x, (__m512d)least); }
#else
POSITIONS_INLINE lanes lanes_larger(lanes x, lanes most) { return lanes_pick(lanes_above(x, most), x, most); }
POSITIONS_INLINE lanes lanes_smaller(lanes x, lanes least) { return lanes_pick(lanes_above(least, x), x, least); }
#endif

POSITIONS_INLINE lanes lanes_at(const double *values)
{
    lanes x;
    memcpy(&x, values, sizeof x);
    return x;
}
POSITIONS_INLINE void lanes_to(double *values, lanes x) { memcpy(values, &x, sizeof x); }
POSITIONS_INLINE lanes lanes_all(double value)
{
    double each[POSITION_LANES];
    for (int lane = 0; lane < POSITION_LANES; lane++) each[lane] = value;
    return lanes_at(each);
}
POSITIONS_INLINE double lanes_sum(lanes x)
{
    double each[POSITION_LANES], total;
    lanes_to(each, x);
    total = each[0];
    for (int lane = 1; lane < POSITION_LANES; lane++) total += each[lane];
    return total;
}
/* The first ``n`` of a group, and zeros. */
static POSITIONS_NOINLINE void lanes_copy(double *to, const double *values, ptrdiff_t n)
{
    memset(to, 0, POSITION_LANES * sizeof(double));
    memcpy(to, values, (size_t)n * sizeof(double));
}
/* The last group of a row of prices.  Beyond its last asset lies the next row: numbers that nobody has units of, but that can be
   read in one go; beyond the last row (``end``) lies nothing. */
POSITIONS_INLINE lanes lanes_of_rest(const double *values, ptrdiff_t n, const double *end)
{
    double each[POSITION_LANES];
    if (values + POSITION_LANES <= end) return lanes_at(values);
    lanes_copy(each, values, n);
    return lanes_at(each);
}
POSITIONS_INLINE ptrdiff_t lanes_full(ptrdiff_t n) { return n / POSITION_LANES * POSITION_LANES; }

/* Value of all positions, and the same regardless of sign, at the prices of each bar; ``end`` is where prices end. */
static POSITIONS_NOINLINE void positions_value(ptrdiff_t n_assets, ptrdiff_t n_bars, const double *POSITIONS_RESTRICT units,
                                               const double *POSITIONS_RESTRICT prices, const double *end,
                                               double *POSITIONS_RESTRICT values, double *POSITIONS_RESTRICT gross)
{
    const ptrdiff_t full = lanes_full(n_assets);
    for (ptrdiff_t bar = 0; bar < n_bars; bar++, prices += n_assets) {
        lanes value = lanes_all(0.0), size = lanes_all(0.0);
        for (ptrdiff_t group = 0; group < full; group += POSITION_LANES) {
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

POSITIONS_INLINE choice lanes_are_prices(lanes quote)
{
    return choice_both(lanes_above(quote, lanes_all(0.0)), lanes_above(lanes_all(INFINITY), quote));
}
/* Value at quotes; at the last valid price where there is none. */
POSITIONS_INLINE lanes lanes_quoted(lanes units, lanes quote, lanes mark)
{
    return lanes_times(units, lanes_pick(lanes_are_prices(quote), quote, mark));
}

static POSITIONS_NOINLINE double positions_value_quoted(ptrdiff_t n_assets, const double *POSITIONS_RESTRICT units,
                                                        const double *POSITIONS_RESTRICT quotes, const double *quotes_end,
                                                        const double *POSITIONS_RESTRICT marks, const double *marks_end)
{
    const ptrdiff_t full = lanes_full(n_assets), rest = n_assets - full;
    lanes value = lanes_all(0.0);
    for (ptrdiff_t group = 0; group < full; group += POSITION_LANES)
        value = lanes_plus(value, lanes_quoted(lanes_at(units + group), lanes_at(quotes + group), lanes_at(marks + group)));
    if (rest)
        value = lanes_plus(value, lanes_quoted(lanes_at(units + full), lanes_of_rest(quotes + full, rest, quotes_end),
                                               lanes_of_rest(marks + full, rest, marks_end)));
    return lanes_sum(value);
}

typedef struct { lanes most, least; } sight;
POSITIONS_INLINE sight sight_of(sight seen, lanes held, lanes entry, lanes price)
{
    const lanes profit = lanes_times(held, lanes_minus(price, entry));
    seen.most = lanes_larger(profit, seen.most);
    seen.least = lanes_smaller(profit, seen.least);
    return seen;
}

/* What positions see of the prices of some bars: their best and worst unrealised profit. */
static POSITIONS_NOINLINE void positions_see(ptrdiff_t n_assets, ptrdiff_t n_bars, const double *POSITIONS_RESTRICT units,
                                             const double *POSITIONS_RESTRICT entry_price,
                                             const double *POSITIONS_RESTRICT prices, const double *end,
                                             double *POSITIONS_RESTRICT mfe, double *POSITIONS_RESTRICT mae)
{
    for (ptrdiff_t group = 0; group < n_assets; group += POSITION_LANES) {
        const lanes held = lanes_at(units + group), entry = lanes_at(entry_price + group);
        const ptrdiff_t room = end - (prices + group) - POSITION_LANES;
        const ptrdiff_t n_whole = room < 0 ? 0 : room / n_assets + 1; /* bars whose group can be read in one go */
        const ptrdiff_t whole = n_whole < n_bars ? n_whole : n_bars;
        sight seen = {lanes_at(mfe + group), lanes_at(mae + group)};
        for (ptrdiff_t bar = 0; bar < whole; bar++)
            seen = sight_of(seen, held, entry, lanes_at(prices + bar * n_assets + group));
        for (ptrdiff_t bar = whole; bar < n_bars; bar++)
            seen = sight_of(seen, held, entry, lanes_of_rest(prices + bar * n_assets + group, n_assets - group, end));
        lanes_to(mfe + group, seen.most);
        lanes_to(mae + group, seen.least);
    }
}

/* Asks for prices before they are needed: of the opens only those after events are looked at, which no processor foresees. */
POSITIONS_INLINE void positions_expect(ptrdiff_t n_assets, const double *prices)
{
#if defined(__GNUC__)
    for (ptrdiff_t asset = 0; asset < n_assets; asset += POSITION_LANES) __builtin_prefetch(prices + asset);
#endif
}

/* Numbers that are kept of a side, in the order of _trades.pxd. */
enum { KEPT_TRADES, KEPT_WINNERS, KEPT_LOSERS, KEPT_COSTS, KEPT_NET, KEPT_WON, KEPT_LOST, KEPT_RETURN, KEPT_RETURN_2, KEPT_MFE,
       KEPT_MAE, KEPT_BARS, KEPT_DAYS, KEPT_MOST_NET, KEPT_LEAST_NET, KEPT_MOST_BARS, KEPT_LEAST_BARS, KEPT_MOST_DAYS,
       KEPT_LEAST_DAYS, KEPT };

/* What orders are sized by, and what they cost. */
typedef struct {
    double base, scale;  /* of the targets */
    double least;        /* value of an order that counts */
    double dust;         /* share of what was traded or held that is a rounding error */
    double slippage, fixed, per_unit, fee_rate, minimum, maximum;
} order_rules;

/* Orders of assets that wait and have a price; a wait ends with the price.  Returns whether any still waits. */
static POSITIONS_NOINLINE int positions_orders(ptrdiff_t n_assets, const order_rules *rules,
                                               const double *POSITIONS_RESTRICT quotes, const double *end,
                                               const double *POSITIONS_RESTRICT units, double *POSITIONS_RESTRICT waiting,
                                               double *POSITIONS_RESTRICT orders, double *POSITIONS_RESTRICT prices,
                                               double *POSITIONS_RESTRICT costs)
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0), never = lanes_all(NAN), dust = lanes_all(rules->dust);
    const lanes base = lanes_all(rules->base), scale = lanes_all(rules->scale), value = lanes_all(rules->least);
    const lanes up = lanes_all(1.0 + rules->slippage), down = lanes_all(1.0 - rules->slippage);
    const lanes fixed = lanes_all(rules->fixed), per_unit = lanes_all(rules->per_unit), rate = lanes_all(rules->fee_rate);
    const lanes minimum = lanes_all(rules->minimum), maximum = lanes_all(rules->maximum);
    lanes still = none;
    for (ptrdiff_t group = 0; group < n_assets; group += POSITION_LANES) {
        const lanes quote = n_assets - group < POSITION_LANES ? lanes_of_rest(quotes + group, n_assets - group, end)
                                                              : lanes_at(quotes + group);
        const lanes before = lanes_at(units + group), target = lanes_at(waiting + group);
        const choice is_price = lanes_are_prices(quote);
        lanes order = lanes_minus(lanes_over(lanes_times(lanes_times(target, scale), base), quote), before);
        const lanes after = lanes_plus(before, order);
        const lanes larger = lanes_pick(lanes_above(lanes_size(order), lanes_size(before)), lanes_size(order), lanes_size(before));
        /* A rounding error is no position. */
        order = lanes_pick(lanes_upto(lanes_size(after), lanes_times(dust, larger)), lanes_minus(none, before), order);
        /* NaN compares false: what does not wait, or has no price, has no order. */
        const lanes size = lanes_size(order);
        const choice counts = choice_both(is_price, lanes_above(lanes_times(size, quote), value));
        const lanes price = lanes_times(quote, lanes_pick(lanes_above(order, none), up, down));
        lanes cost = lanes_plus(lanes_plus(fixed, lanes_times(per_unit, size)), lanes_times(rate, lanes_times(size, price)));
        cost = lanes_pick(lanes_above(minimum, cost), minimum, cost);
        cost = lanes_pick(lanes_above(cost, maximum), maximum, cost);
        lanes_to(orders + group, lanes_only(counts, order));
        lanes_to(prices + group, lanes_only(counts, price));
        lanes_to(costs + group, lanes_only(counts, cost));
        /* Without a price an asset waits on, if it is held or wanted. */
        const choice wanted = lanes_above(lanes_plus(lanes_size(target), lanes_size(before)), none);
        lanes_to(waiting + group, lanes_pick(is_price, never, lanes_pick(wanted, target, never)));
        still = lanes_plus(still, lanes_pick(is_price, none, lanes_only(wanted, one)));
    }
    return lanes_sum(still) > 0.0;
}

/* Cash after orders, in column order; adds to what was ``traded`` and ``paid``, and to the count of orders. */
static POSITIONS_NOINLINE double positions_pay(ptrdiff_t n_assets, const double *POSITIONS_RESTRICT orders,
                                               const double *POSITIONS_RESTRICT prices, const double *POSITIONS_RESTRICT costs,
                                               double cash, double *POSITIONS_RESTRICT traded, double *POSITIONS_RESTRICT paid,
                                               int64_t *n_orders)
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0);
    lanes value = lanes_at(traded), cost = lanes_at(paid), n = none;
    for (ptrdiff_t asset = 0; asset < n_assets; asset++) cash -= orders[asset] * prices[asset] + costs[asset];
    for (ptrdiff_t group = 0; group < n_assets; group += POSITION_LANES) {
        const lanes order = lanes_at(orders + group);
        value = lanes_plus(value, lanes_size(lanes_times(order, lanes_at(prices + group))));
        cost = lanes_plus(cost, lanes_at(costs + group));
        n = lanes_plus(n, lanes_only(lanes_above(lanes_size(order), none), one));
    }
    lanes_to(traded, value);
    lanes_to(paid, cost);
    *n_orders += (int64_t)lanes_sum(n);
    return cash;
}

/* Not inlined: gcc forgets there that twenty arrays do not overlap, and gives up.

   What the orders make of positions, and of the trades that they complete:
   was        units before, of assets that complete a trade; 0 of the others
   net, result, paid, best, worst, held: of the trade; 0 of the others. */
static POSITIONS_NOINLINE void positions_fill(
    ptrdiff_t n_lanes, double bar, const double *POSITIONS_RESTRICT orders, const double *POSITIONS_RESTRICT prices,
    const double *POSITIONS_RESTRICT costs, const double *POSITIONS_RESTRICT seen, double *POSITIONS_RESTRICT units,
    double *POSITIONS_RESTRICT entry_price, double *POSITIONS_RESTRICT entry_cost, double *POSITIONS_RESTRICT borrow_cost,
    double *POSITIONS_RESTRICT mfe, double *POSITIONS_RESTRICT mae, double *POSITIONS_RESTRICT entry_bar, double *POSITIONS_RESTRICT was,
    double *POSITIONS_RESTRICT net, double *POSITIONS_RESTRICT result, double *POSITIONS_RESTRICT paid, double *POSITIONS_RESTRICT best,
    double *POSITIONS_RESTRICT worst, double *POSITIONS_RESTRICT held_bars)
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
        /* One division for three cases, since divisions are what this costs: the share of an order through zero that closes,
           the price of what was added to, the share of a position that is closed. */
        const double above_line = beyond < 0.0 ? held : along > 0.0 ? held * entry + order * price : -order;
        const double below_line = beyond < 0.0 ? -order : along > 0.0 ? after : held;
        const double quotient = above_line / below_line;
        /* The trade. */
        const double closed = beyond > 0.0 ? -order : held;
        const double share = beyond < 0.0 ? 1.0 : quotient;
        const double exit_cost = beyond < 0.0 ? cost * quotient : cost;
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
        const double rest = 1.0 - share; /* what the trade did not take */
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

/* A number of long and of short trades; and which lanes hold trades of either. */
typedef struct { lanes of[2]; } sides;
typedef struct { choice of[2]; } trades_of;

POSITIONS_INLINE sides sides_at(double (*kept)[KEPT][POSITION_LANES], int which)
{
    sides x;
    for (int row = 0; row < 2; row++) x.of[row] = lanes_at(kept[row][which]);
    return x;
}
POSITIONS_INLINE void sides_to(double (*kept)[KEPT][POSITION_LANES], int which, sides x)
{
    for (int row = 0; row < 2; row++) lanes_to(kept[row][which], x.of[row]);
}
POSITIONS_INLINE trades_of trades_at(const double *was)
{
    const lanes units = lanes_at(was), none = lanes_all(0.0);
    trades_of is;
    is.of[0] = lanes_above(units, none);
    is.of[1] = lanes_above(none, units);
    return is;
}
POSITIONS_INLINE sides sides_plus(sides to, trades_of is, lanes x)
{
    for (int row = 0; row < 2; row++) to.of[row] = lanes_plus(to.of[row], lanes_only(is.of[row], x));
    return to;
}
POSITIONS_INLINE sides sides_most(sides to, trades_of is, lanes x)
{
    for (int row = 0; row < 2; row++)
        to.of[row] = lanes_pick(choice_both(is.of[row], lanes_above(x, to.of[row])), x, to.of[row]);
    return to;
}
POSITIONS_INLINE sides sides_least(sides to, trades_of is, lanes x)
{
    for (int row = 0; row < 2; row++)
        to.of[row] = lanes_pick(choice_both(is.of[row], lanes_above(to.of[row], x)), x, to.of[row]);
    return to;
}

/* Adds the completed trades of a rebalancing to what a search wants to know of them; of their results the largest and the
   smallest (``extremes``).  Here and below one loop for each handful of numbers that registers hold. */
static POSITIONS_NOINLINE void positions_keep_some(
    ptrdiff_t n_lanes, const double *POSITIONS_RESTRICT was, const double *POSITIONS_RESTRICT net,
    const double *POSITIONS_RESTRICT result, double (*POSITIONS_RESTRICT kept)[KEPT][POSITION_LANES],
    double *POSITIONS_RESTRICT extremes)
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0);
    sides n = sides_at(kept, KEPT_TRADES), winners = sides_at(kept, KEPT_WINNERS), total = sides_at(kept, KEPT_NET);
    sides won = sides_at(kept, KEPT_WON), lost = sides_at(kept, KEPT_LOST), gained = sides_at(kept, KEPT_RETURN);
    sides squared = sides_at(kept, KEPT_RETURN_2), most = sides_at(kept, KEPT_MOST_NET);
    lanes best = lanes_at(extremes), worst = lanes_at(extremes + POSITION_LANES);
    for (ptrdiff_t group = 0; group < n_lanes; group += POSITION_LANES) {
        const trades_of is = trades_at(was + group);
        const choice is_trade = lanes_above(lanes_size(lanes_at(was + group)), none);
        const lanes profit = lanes_at(net + group), gain = lanes_at(result + group);
        const choice wins = lanes_above(profit, none), loses = lanes_above(none, profit);
        n = sides_plus(n, is, one);
        winners = sides_plus(winners, is, lanes_only(wins, one));
        total = sides_plus(total, is, profit);
        won = sides_plus(won, is, lanes_only(wins, profit));
        lost = sides_plus(lost, is, lanes_only(loses, lanes_minus(none, profit)));
        gained = sides_plus(gained, is, gain);
        squared = sides_plus(squared, is, lanes_times(gain, gain));
        most = sides_most(most, is, profit);
        best = lanes_pick(choice_both(is_trade, lanes_above(gain, best)), gain, best);
        worst = lanes_pick(choice_both(is_trade, lanes_above(worst, gain)), gain, worst);
    }
    sides_to(kept, KEPT_TRADES, n), sides_to(kept, KEPT_WINNERS, winners), sides_to(kept, KEPT_NET, total);
    sides_to(kept, KEPT_WON, won), sides_to(kept, KEPT_LOST, lost), sides_to(kept, KEPT_RETURN, gained);
    sides_to(kept, KEPT_RETURN_2, squared), sides_to(kept, KEPT_MOST_NET, most);
    lanes_to(extremes, best), lanes_to(extremes + POSITION_LANES, worst);
}

/* The rest; ``days`` may be NULL. */
static POSITIONS_NOINLINE void positions_keep_more(
    ptrdiff_t n_lanes, const double *POSITIONS_RESTRICT was, const double *POSITIONS_RESTRICT net,
    const double *POSITIONS_RESTRICT paid, const double *POSITIONS_RESTRICT best, const double *POSITIONS_RESTRICT worst,
    const double *POSITIONS_RESTRICT held_bars, const double *POSITIONS_RESTRICT days,
    double (*POSITIONS_RESTRICT kept)[KEPT][POSITION_LANES])
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0);
    sides losers = sides_at(kept, KEPT_LOSERS), costs = sides_at(kept, KEPT_COSTS), bars = sides_at(kept, KEPT_BARS);
    sides mfe = sides_at(kept, KEPT_MFE), mae = sides_at(kept, KEPT_MAE), least = sides_at(kept, KEPT_LEAST_NET);
    sides longest = sides_at(kept, KEPT_MOST_BARS), shortest = sides_at(kept, KEPT_LEAST_BARS);
    for (ptrdiff_t group = 0; group < n_lanes; group += POSITION_LANES) {
        const trades_of is = trades_at(was + group);
        const lanes profit = lanes_at(net + group), held = lanes_at(held_bars + group);
        losers = sides_plus(losers, is, lanes_only(lanes_above(none, profit), one));
        costs = sides_plus(costs, is, lanes_at(paid + group));
        mfe = sides_plus(mfe, is, lanes_at(best + group));
        mae = sides_plus(mae, is, lanes_at(worst + group));
        bars = sides_plus(bars, is, held);
        least = sides_least(least, is, profit);
        longest = sides_most(longest, is, held);
        shortest = sides_least(shortest, is, held);
    }
    sides_to(kept, KEPT_LOSERS, losers), sides_to(kept, KEPT_COSTS, costs), sides_to(kept, KEPT_BARS, bars);
    sides_to(kept, KEPT_MFE, mfe), sides_to(kept, KEPT_MAE, mae), sides_to(kept, KEPT_LEAST_NET, least);
    sides_to(kept, KEPT_MOST_BARS, longest), sides_to(kept, KEPT_LEAST_BARS, shortest);
    if (days) {
        sides lasted = sides_at(kept, KEPT_DAYS), latest = sides_at(kept, KEPT_MOST_DAYS);
        sides soonest = sides_at(kept, KEPT_LEAST_DAYS);
        for (ptrdiff_t group = 0; group < n_lanes; group += POSITION_LANES) {
            const trades_of is = trades_at(was + group);
            const lanes each = lanes_at(days + group);
            lasted = sides_plus(lasted, is, each);
            latest = sides_most(latest, is, each);
            soonest = sides_least(soonest, is, each);
        }
        sides_to(kept, KEPT_DAYS, lasted), sides_to(kept, KEPT_MOST_DAYS, latest), sides_to(kept, KEPT_LEAST_DAYS, soonest);
    }
}

/* The counters of streaks. */
enum { STREAK_COUNTERS = 8 };
#if defined(POSITIONS_VECTORS)
typedef int32_t counters __attribute__((vector_size(32)));
POSITIONS_INLINE counters counters_on(counters now, counters more, counters go_on) { return (now + more) & go_on; }
POSITIONS_INLINE counters counters_most(counters one, counters other)
{
#if defined(__AVX2__)
    return (counters)_mm256_max_epi32((__m256i)one, (__m256i)other);
#else
    const counters is_more = other > one;
    return (other & is_more) | (one & ~is_more);
#endif
}
#else
typedef struct { int32_t of[STREAK_COUNTERS]; } counters;
POSITIONS_INLINE counters counters_on(counters now, counters more, counters go_on)
{
    for (int each = 0; each < STREAK_COUNTERS; each++) now.of[each] = (now.of[each] + more.of[each]) & go_on.of[each];
    return now;
}
POSITIONS_INLINE counters counters_most(counters one, counters other)
{
    for (int each = 0; each < STREAK_COUNTERS; each++)
        one.of[each] = other.of[each] > one.of[each] ? other.of[each] : one.of[each];
    return one;
}
#endif
POSITIONS_INLINE counters counters_at(const int32_t *values)
{
    counters x;
    memcpy(&x, values, sizeof x);
    return x;
}

/* Winners and losers in a row, in column order: streaks of all, long and short trades: winning, losing, the longest of each.
   Six counters move together, by what a trade is (``kinds``, room for them: 0 none, else 1 + 3 (short) + 0 lost, 1 won, 2 neither): what is added, and
   which go on. */
static const int32_t STREAK_MORE[7][STREAK_COUNTERS] = {
    {0}, {0, 1, 0, 1}, {1, 0, 1, 0}, {0}, {0, 1, 0, 0, 0, 1}, {1, 0, 0, 0, 1, 0}, {0}};
static const int32_t STREAK_GO_ON[7][STREAK_COUNTERS] = {
    {-1, -1, -1, -1, -1, -1}, {0, -1, 0, -1, -1, -1}, {-1, 0, -1, 0, -1, -1}, {0, 0, 0, 0, -1, -1},
    {0, -1, -1, -1, 0, -1}, {-1, 0, -1, -1, -1, 0}, {0, 0, -1, -1, 0, 0}};

static POSITIONS_NOINLINE void positions_streaks(ptrdiff_t n_lanes, const double *POSITIONS_RESTRICT was,
                                                 const double *POSITIONS_RESTRICT net, double *POSITIONS_RESTRICT kinds,
                                                 double (*POSITIONS_RESTRICT streaks)[4])
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0), two = lanes_all(2.0), three = lanes_all(3.0);
    int32_t begun[STREAK_COUNTERS] = {0}, reached[STREAK_COUNTERS] = {0};
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            begun[2 * row + which] = (int32_t)streaks[row][which];
            reached[2 * row + which] = (int32_t)streaks[row][2 + which];
        }
    counters now = counters_at(begun), longest = counters_at(reached);
    for (ptrdiff_t group = 0; group < n_lanes; group += POSITION_LANES) {
        const lanes units = lanes_at(was + group), profit = lanes_at(net + group);
        lanes kind = lanes_pick(lanes_above(profit, none), two, lanes_pick(lanes_above(none, profit), one, three));
        kind = lanes_plus(kind, lanes_only(lanes_above(none, units), three));
        lanes_to(kinds + group, lanes_only(lanes_above(lanes_size(units), none), kind));
    }
    for (ptrdiff_t asset = 0; asset < n_lanes; asset++) {
        const int kind = (int)kinds[asset];
        now = counters_on(now, counters_at(STREAK_MORE[kind]), counters_at(STREAK_GO_ON[kind]));
        longest = counters_most(longest, now);
    }
    memcpy(begun, &now, sizeof begun);
    memcpy(reached, &longest, sizeof reached);
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            streaks[row][which] = (double)begun[2 * row + which];
            streaks[row][2 + which] = (double)reached[2 * row + which];
        }
}

#endif

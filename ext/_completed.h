/* Completed trades of a portfolio: what those of one moment add to sums, extremes and streaks of long and of short ones.

   Assets are lanes; a trade of nobody has 0 in every number.  Two thirds of all trades win, so nothing branches on it. */
#ifndef BACKTEST_COMPLETED_H
#define BACKTEST_COMPLETED_H

#include "_lanes.h"

/* A number of long and of short trades; and which lanes hold trades of either. */
typedef struct { lanes of[2]; } sides;
typedef struct { lane_mask of[2]; } trades_of;

LANES_INLINE sides sides_at(double (*kept)[KEPT][N_LANES], int which)
{
    sides x;
    for (int row = 0; row < 2; row++) x.of[row] = lanes_at(kept[row][which]);
    return x;
}
LANES_INLINE void sides_to(double (*kept)[KEPT][N_LANES], int which, sides x)
{
    for (int row = 0; row < 2; row++) lanes_to(kept[row][which], x.of[row]);
}
LANES_INLINE trades_of trades_at(const double *units_before)
{
    const lanes units = lanes_at(units_before), none = lanes_all(0.0);
    trades_of is;
    is.of[0] = lanes_above(units, none);
    is.of[1] = lanes_above(none, units);
    return is;
}
LANES_INLINE sides sides_plus(sides to, trades_of is, lanes x)
{
    for (int row = 0; row < 2; row++) to.of[row] = lanes_plus(to.of[row], lanes_where(is.of[row], x));
    return to;
}
LANES_INLINE sides sides_most(sides to, trades_of is, lanes x)
{
    for (int row = 0; row < 2; row++)
        to.of[row] = lanes_select(lane_mask_and(is.of[row], lanes_above(x, to.of[row])), x, to.of[row]);
    return to;
}
LANES_INLINE sides sides_least(sides to, trades_of is, lanes x)
{
    for (int row = 0; row < 2; row++)
        to.of[row] = lanes_select(lane_mask_and(is.of[row], lanes_above(to.of[row], x)), x, to.of[row]);
    return to;
}

/* Adds the completed trades of a rebalancing to what a search wants to know of them; of their results the largest and the
   smallest (``extremes``).  Here and below one loop for each handful of numbers that registers hold. */
static LANES_NOINLINE void completed_keep_some(
    ptrdiff_t n_lanes, const double *LANES_RESTRICT units_before, const double *LANES_RESTRICT net,
    const double *LANES_RESTRICT result, double (*LANES_RESTRICT kept)[KEPT][N_LANES],
    double *LANES_RESTRICT extremes)
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0);
    sides n = sides_at(kept, KEPT_TRADES), winners = sides_at(kept, KEPT_WINNERS), total = sides_at(kept, KEPT_NET);
    sides won = sides_at(kept, KEPT_WON), lost = sides_at(kept, KEPT_LOST), gained = sides_at(kept, KEPT_RETURN);
    sides squared = sides_at(kept, KEPT_RETURN_2), most = sides_at(kept, KEPT_MOST_NET);
    lanes best = lanes_at(extremes), worst = lanes_at(extremes + N_LANES);
    for (ptrdiff_t group = 0; group < n_lanes; group += N_LANES) {
        const trades_of is = trades_at(units_before + group);
        const lane_mask is_trade = lanes_above(lanes_size(lanes_at(units_before + group)), none);
        const lanes profit = lanes_at(net + group), gain = lanes_at(result + group);
        const lane_mask wins = lanes_above(profit, none), loses = lanes_above(none, profit);
        n = sides_plus(n, is, one);
        winners = sides_plus(winners, is, lanes_where(wins, one));
        total = sides_plus(total, is, profit);
        won = sides_plus(won, is, lanes_where(wins, profit));
        lost = sides_plus(lost, is, lanes_where(loses, lanes_minus(none, profit)));
        gained = sides_plus(gained, is, gain);
        squared = sides_plus(squared, is, lanes_times(gain, gain));
        most = sides_most(most, is, profit);
        best = lanes_select(lane_mask_and(is_trade, lanes_above(gain, best)), gain, best);
        worst = lanes_select(lane_mask_and(is_trade, lanes_above(worst, gain)), gain, worst);
    }
    sides_to(kept, KEPT_TRADES, n), sides_to(kept, KEPT_WINNERS, winners), sides_to(kept, KEPT_NET, total);
    sides_to(kept, KEPT_WON, won), sides_to(kept, KEPT_LOST, lost), sides_to(kept, KEPT_RETURN, gained);
    sides_to(kept, KEPT_RETURN_2, squared), sides_to(kept, KEPT_MOST_NET, most);
    lanes_to(extremes, best), lanes_to(extremes + N_LANES, worst);
}

/* The rest; ``days`` may be NULL. */
static LANES_NOINLINE void completed_keep_more(
    ptrdiff_t n_lanes, const double *LANES_RESTRICT units_before, const double *LANES_RESTRICT net,
    const double *LANES_RESTRICT paid, const double *LANES_RESTRICT best, const double *LANES_RESTRICT worst,
    const double *LANES_RESTRICT held_bars, const double *LANES_RESTRICT days,
    double (*LANES_RESTRICT kept)[KEPT][N_LANES])
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0);
    sides losers = sides_at(kept, KEPT_LOSERS), costs = sides_at(kept, KEPT_COSTS), bars = sides_at(kept, KEPT_BARS);
    sides mfe = sides_at(kept, KEPT_MFE), mae = sides_at(kept, KEPT_MAE), least = sides_at(kept, KEPT_LEAST_NET);
    sides longest = sides_at(kept, KEPT_MOST_BARS), shortest = sides_at(kept, KEPT_LEAST_BARS);
    for (ptrdiff_t group = 0; group < n_lanes; group += N_LANES) {
        const trades_of is = trades_at(units_before + group);
        const lanes profit = lanes_at(net + group), held = lanes_at(held_bars + group);
        losers = sides_plus(losers, is, lanes_where(lanes_above(none, profit), one));
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
        for (ptrdiff_t group = 0; group < n_lanes; group += N_LANES) {
            const trades_of is = trades_at(units_before + group);
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
#if defined(LANES_VECTORS)
typedef int32_t counters __attribute__((vector_size(32)));
LANES_INLINE counters counters_on(counters now, counters more, counters go_on) { return (now + more) & go_on; }
LANES_INLINE counters counters_most(counters one, counters other)
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
LANES_INLINE counters counters_on(counters now, counters more, counters go_on)
{
    for (int each = 0; each < STREAK_COUNTERS; each++) now.of[each] = (now.of[each] + more.of[each]) & go_on.of[each];
    return now;
}
LANES_INLINE counters counters_most(counters one, counters other)
{
    for (int each = 0; each < STREAK_COUNTERS; each++)
        one.of[each] = other.of[each] > one.of[each] ? other.of[each] : one.of[each];
    return one;
}
#endif
LANES_INLINE counters counters_at(const int32_t *values)
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

static LANES_NOINLINE void completed_streaks(ptrdiff_t n_lanes, const double *LANES_RESTRICT units_before,
                                                 const double *LANES_RESTRICT net, double *LANES_RESTRICT kinds,
                                                 double (*LANES_RESTRICT streaks)[4])
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0), two = lanes_all(2.0), three = lanes_all(3.0);
    int32_t begun[STREAK_COUNTERS] = {0}, reached[STREAK_COUNTERS] = {0};
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            begun[2 * row + which] = (int32_t)streaks[row][which];
            reached[2 * row + which] = (int32_t)streaks[row][2 + which];
        }
    counters now = counters_at(begun), longest = counters_at(reached);
    for (ptrdiff_t group = 0; group < n_lanes; group += N_LANES) {
        const lanes units = lanes_at(units_before + group), profit = lanes_at(net + group);
        lanes kind = lanes_select(lanes_above(profit, none), two, lanes_select(lanes_above(none, profit), one, three));
        kind = lanes_plus(kind, lanes_where(lanes_above(none, units), three));
        lanes_to(kinds + group, lanes_where(lanes_above(lanes_size(units), none), kind));
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

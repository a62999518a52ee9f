/* Completed trades of a portfolio: sums, extremes and streaks of long and of short trades.

   Assets are lanes; where no trade is completed every number is 0.  No branches on profit, which cannot be predicted. */
#ifndef BACKTEST_COMPLETED_H
#define BACKTEST_COMPLETED_H

#include "_lanes.h"

/* A value per lane for long and for short trades; and the lanes that hold trades of either. */
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

/* Adds the completed trades of one moment to the sums that every run needs, and updates the largest and smallest return of a
   trade (``extremes``).  Here and below one loop per group of sums that fits into registers. */
static LANES_NOINLINE void completed_add(
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

/* The other sums, which only a recorded run needs; ``days`` may be NULL. */
static LANES_NOINLINE void completed_add_details(
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
        sides days_held = sides_at(kept, KEPT_DAYS), most_days = sides_at(kept, KEPT_MOST_DAYS);
        sides least_days = sides_at(kept, KEPT_LEAST_DAYS);
        for (ptrdiff_t group = 0; group < n_lanes; group += N_LANES) {
            const trades_of is = trades_at(units_before + group);
            const lanes each = lanes_at(days + group);
            days_held = sides_plus(days_held, is, each);
            most_days = sides_most(most_days, is, each);
            least_days = sides_least(least_days, is, each);
        }
        sides_to(kept, KEPT_DAYS, days_held), sides_to(kept, KEPT_MOST_DAYS, most_days);
        sides_to(kept, KEPT_LEAST_DAYS, least_days);
    }
}

/* Counters of streaks: of all, long and short trades the winners and the losers in a row; the last two stay 0. */
enum { STREAK_COUNTERS = 8 };
#if defined(LANES_VECTORS)
typedef int32_t counters __attribute__((vector_size(32)));
LANES_INLINE counters counters_next(counters now, counters adds, counters keeps) { return (now + adds) & keeps; }
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
LANES_INLINE counters counters_next(counters now, counters adds, counters keeps)
{
    for (int each = 0; each < STREAK_COUNTERS; each++) now.of[each] = (now.of[each] + adds.of[each]) & keeps.of[each];
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

/* Updates ``streaks`` (rows all, long, short; current winning and losing, longest winning and losing) in column order.
   What is added to the counters, and which of them are not reset, depends on the kind of a trade: 0 none, 1 lost, 2 won,
   3 neither, and 3 more if it is short.  ``kinds`` is scratch. */
static const int32_t STREAK_ADDS[7][STREAK_COUNTERS] = {
    {0}, {0, 1, 0, 1}, {1, 0, 1, 0}, {0}, {0, 1, 0, 0, 0, 1}, {1, 0, 0, 0, 1, 0}, {0}};
static const int32_t STREAK_KEEPS[7][STREAK_COUNTERS] = {
    {-1, -1, -1, -1, -1, -1}, {0, -1, 0, -1, -1, -1}, {-1, 0, -1, 0, -1, -1}, {0, 0, 0, 0, -1, -1},
    {0, -1, -1, -1, 0, -1}, {-1, 0, -1, -1, -1, 0}, {0, 0, -1, -1, 0, 0}};

static LANES_NOINLINE void completed_streaks(ptrdiff_t n_lanes, const double *LANES_RESTRICT units_before,
                                                 const double *LANES_RESTRICT net, double *LANES_RESTRICT kinds,
                                                 double (*LANES_RESTRICT streaks)[4])
{
    const lanes none = lanes_all(0.0), one = lanes_all(1.0), two = lanes_all(2.0), three = lanes_all(3.0);
    int32_t current[STREAK_COUNTERS] = {0}, record[STREAK_COUNTERS] = {0};
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            current[2 * row + which] = (int32_t)streaks[row][which];
            record[2 * row + which] = (int32_t)streaks[row][2 + which];
        }
    counters now = counters_at(current), longest = counters_at(record);
    for (ptrdiff_t group = 0; group < n_lanes; group += N_LANES) {
        const lanes units = lanes_at(units_before + group), profit = lanes_at(net + group);
        lanes kind = lanes_select(lanes_above(profit, none), two, lanes_select(lanes_above(none, profit), one, three));
        kind = lanes_plus(kind, lanes_where(lanes_above(none, units), three));
        lanes_to(kinds + group, lanes_where(lanes_above(lanes_size(units), none), kind));
    }
    for (ptrdiff_t asset = 0; asset < n_lanes; asset++) {
        const int kind = (int)kinds[asset];
        now = counters_next(now, counters_at(STREAK_ADDS[kind]), counters_at(STREAK_KEEPS[kind]));
        longest = counters_most(longest, now);
    }
    memcpy(current, &now, sizeof current);
    memcpy(record, &longest, sizeof record);
    for (int row = 0; row < 3; row++)
        for (int which = 0; which < 2; which++) {
            streaks[row][which] = (double)current[2 * row + which];
            streaks[row][2 + which] = (double)record[2 * row + which];
        }
}

#endif

# From fills to positions and completed trades, and sums of trades: shared by the trades and portfolio kernels.
# The twin is in backtest/_pure/trades.py.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from _records cimport CLOSE, INSIDE, OPEN, START, Fill, Position, Trade, TradeSums

cdef extern from *:
    """
    #define BACKTEST_DUST 1e-12
    #define BACKTEST_NS_PER_DAY 86400000000000.0
    """
    const double NS_PER_DAY "BACKTEST_NS_PER_DAY"
    const double DUST "BACKTEST_DUST"  # a remainder below this share of what was traded is rounding

cdef struct Prices:  # of one asset; NULL: not known
    const double *open
    const double *high
    const double *low
    const double *close
    const double *carry  # what holding cost at each close; NULL: shorts pay borrow_per_bar
    double borrow_per_bar
    double multiplier    # value of one unit per unit of price

cdef struct Streaks:  # winners and losers in a row
    double winning
    double losing
    double longest_winning
    double longest_losing

cdef extern from "_layout.h":
    enum:
        LANES "N_LANES"
        N_TRADES "KEPT_TRADES"
        N_WINNERS "KEPT_WINNERS"
        N_LOSERS "KEPT_LOSERS"
        COSTS "KEPT_COSTS"
        NET "KEPT_NET"
        WON "KEPT_WON"
        LOST "KEPT_LOST"
        RETURN "KEPT_RETURN"
        RETURN_2 "KEPT_RETURN_2"
        MFE "KEPT_MFE"
        MAE "KEPT_MAE"
        BARS_HELD "KEPT_BARS"
        DAYS_HELD "KEPT_DAYS"
        N_SUMS "KEPT_SUMS"
        MOST_NET "KEPT_MOST_NET"
        LEAST_NET "KEPT_LEAST_NET"
        MOST_BARS "KEPT_MOST_BARS"
        LEAST_BARS "KEPT_LEAST_BARS"
        MOST_DAYS "KEPT_MOST_DAYS"
        LEAST_DAYS "KEPT_LEAST_DAYS"
        N_KEPT "KEPT"

cdef struct Totals:  # sums of long and of short trades; those of all trades are computed from both
    const int64_t *times             # of the bars, in nanoseconds; NULL: not known
    double kept[2][N_KEPT][LANES]
    double n_ambiguous[2]
    double written_off[2]
    Streaks streaks[3]               # all, long, short


cdef inline void start_totals(Totals *totals, const int64_t *times) noexcept nogil:
    cdef int row, each, lane
    totals.times = times
    for row in range(3):
        totals.streaks[row] = Streaks(winning=0.0, losing=0.0, longest_winning=0.0, longest_losing=0.0)
    for row in range(2):
        totals.n_ambiguous[row] = totals.written_off[row] = 0.0
        for lane in range(LANES):
            for each in range(N_SUMS):
                totals.kept[row][each][lane] = 0.0
            for each in range(N_SUMS, N_KEPT, 2):
                totals.kept[row][each][lane] = -INFINITY
                totals.kept[row][each + 1][lane] = INFINITY


cdef inline double larger(double one, double other) noexcept nogil:
    return other if other > one else one


cdef inline double smaller(double one, double other) noexcept nogil:
    return other if other < one else one


cdef inline void add_streak(Streaks *streaks, double net) noexcept nogil:
    streaks.winning = streaks.winning + 1.0 if net > 0.0 else 0.0
    streaks.losing = streaks.losing + 1.0 if net < 0.0 else 0.0
    streaks.longest_winning = larger(streaks.longest_winning, streaks.winning)
    streaks.longest_losing = larger(streaks.longest_losing, streaks.losing)


cdef inline void add_trade(Totals *totals, const Trade *trade) noexcept nogil:
    # Without branches on profit, which cannot be predicted; adding 0 changes no sum.
    cdef int row = 0 if trade.side > 0 else 1
    cdef int lane = <int>(trade.asset % LANES)
    cdef double *kept = &totals.kept[row][0][lane]
    cdef double net = trade.net_profit + 0.0, result = trade.return_ + 0.0  # -0.0 is 0.0
    cdef double held = <double>(trade.exit_bar - trade.entry_bar)
    cdef double days = 0.0
    if totals.times != NULL:
        days = <double>(totals.times[trade.exit_bar] - totals.times[trade.entry_bar]) / NS_PER_DAY
    kept[N_TRADES * LANES] += 1.0
    kept[N_WINNERS * LANES] += 1.0 if net > 0.0 else 0.0
    kept[N_LOSERS * LANES] += 1.0 if net < 0.0 else 0.0
    kept[COSTS * LANES] += trade.entry_cost + trade.exit_cost + trade.borrow_cost
    kept[NET * LANES] += net
    kept[WON * LANES] += net if net > 0.0 else 0.0
    kept[LOST * LANES] -= net if net < 0.0 else 0.0
    kept[RETURN * LANES] += result
    kept[RETURN_2 * LANES] += result * result
    kept[MFE * LANES] += trade.mfe
    kept[MAE * LANES] += trade.mae
    kept[BARS_HELD * LANES] += held
    kept[DAYS_HELD * LANES] += days
    kept[MOST_NET * LANES] = larger(kept[MOST_NET * LANES], net)
    kept[LEAST_NET * LANES] = smaller(kept[LEAST_NET * LANES], net)
    kept[MOST_BARS * LANES] = larger(kept[MOST_BARS * LANES], held)
    kept[LEAST_BARS * LANES] = smaller(kept[LEAST_BARS * LANES], held)
    kept[MOST_DAYS * LANES] = larger(kept[MOST_DAYS * LANES], days)
    kept[LEAST_DAYS * LANES] = smaller(kept[LEAST_DAYS * LANES], days)
    totals.n_ambiguous[row] += <double>trade.ambiguous
    totals.written_off[row] += trade.written_off
    add_streak(&totals.streaks[0], net)
    add_streak(&totals.streaks[1 + row], net)


cdef inline double total_of(const Totals *totals, int row, int which) noexcept nogil:
    # Rows are all, long, short here and below.
    cdef double total = 0.0
    cdef int lane
    if row == 0:
        return total_of(totals, 1, which) + total_of(totals, 2, which)
    for lane in range(LANES):
        total += totals.kept[row - 1][which][lane]
    return total


cdef inline double largest_of(const Totals *totals, int row, int which) noexcept nogil:
    cdef double extreme = -INFINITY
    cdef int lane
    if row == 0:
        return larger(largest_of(totals, 1, which), largest_of(totals, 2, which))
    for lane in range(LANES):
        extreme = larger(extreme, totals.kept[row - 1][which][lane])
    return extreme


cdef inline double smallest_of(const Totals *totals, int row, int which) noexcept nogil:
    cdef double extreme = INFINITY
    cdef int lane
    if row == 0:
        return smaller(smallest_of(totals, 1, which), smallest_of(totals, 2, which))
    for lane in range(LANES):
        extreme = smaller(extreme, totals.kept[row - 1][which][lane])
    return extreme


cdef inline double of_side(const double *sides, int row) noexcept nogil:
    return sides[0] + sides[1] if row == 0 else sides[row - 1]


cdef inline void write_totals(const Totals *totals, TradeSums *sums) noexcept nogil:
    cdef int row
    for row in range(3):
        sums[row] = TradeSums(
            n_trades=total_of(totals, row, N_TRADES), n_winners=total_of(totals, row, N_WINNERS),
            n_losers=total_of(totals, row, N_LOSERS), costs=total_of(totals, row, COSTS), net_profit=total_of(totals, row, NET),
            won=total_of(totals, row, WON), lost=total_of(totals, row, LOST), largest_profit=largest_of(totals, row, MOST_NET),
            largest_loss=smallest_of(totals, row, LEAST_NET), sum_return=total_of(totals, row, RETURN),
            sum_return_2=total_of(totals, row, RETURN_2), sum_mfe=total_of(totals, row, MFE), sum_mae=total_of(totals, row, MAE),
            sum_bars_held=total_of(totals, row, BARS_HELD), min_bars_held=smallest_of(totals, row, LEAST_BARS),
            max_bars_held=largest_of(totals, row, MOST_BARS), longest_winning_streak=totals.streaks[row].longest_winning,
            longest_losing_streak=totals.streaks[row].longest_losing, n_ambiguous=of_side(totals.n_ambiguous, row),
            written_off=of_side(totals.written_off, row), sum_days_held=total_of(totals, row, DAYS_HELD),
            min_days_held=smallest_of(totals, row, LEAST_DAYS), max_days_held=largest_of(totals, row, MOST_DAYS))
        if sums[row].n_trades == 0.0:  # no trades, no extremes
            sums[row].largest_profit = sums[row].largest_loss = 0.0
            sums[row].min_bars_held = sums[row].max_bars_held = 0.0
        if sums[row].n_trades == 0.0 or totals.times == NULL:
            sums[row].min_days_held = sums[row].max_days_held = 0.0


cdef inline void update_excursions(Position *position, const Prices *prices, double price) noexcept nogil:
    cdef double profit = position.units * (price - position.price) * prices.multiplier
    if profit > position.mfe:
        position.mfe = profit
    if profit < position.mae:
        position.mae = profit


cdef inline void finish_bar(Position *position, const Prices *prices) noexcept nogil:
    cdef int64_t bar = position.bar
    cdef double price
    if position.moment <= OPEN and prices.high != NULL:
        update_excursions(position, prices, prices.high[bar])
        update_excursions(position, prices, prices.low[bar])
    if position.moment < CLOSE:
        price = prices.close[bar]
        update_excursions(position, prices, price)
        if prices.carry != NULL:
            position.borrow_cost += prices.carry[bar]
        elif position.units < 0.0 and prices.borrow_per_bar != 0.0:
            position.borrow_cost += -position.units * price * prices.borrow_per_bar


cdef inline void advance(Position *position, const Prices *prices, int64_t bar, int64_t moment) noexcept nogil:
    while position.bar < bar:
        finish_bar(position, prices)
        position.bar += 1
        position.moment = START
    if moment == CLOSE:
        finish_bar(position, prices)
    elif position.moment == START and prices.open != NULL:
        update_excursions(position, prices, prices.open[bar])
    if moment > position.moment:
        position.moment = moment


cdef inline Py_ssize_t apply_fill(Position *position, const Fill *fill, const Prices *prices, Trade *trades,
                                  Py_ssize_t n_trades) noexcept nogil:
    cdef double units = fill.units, price = fill.price, cost = fill.cost
    cdef double held = position.units if position.side != 0 else 0.0
    cdef double rest, scale, closed, exit_cost, share
    cdef bint crosses
    if held == 0.0:
        open_position(position, fill, units, cost)
        return n_trades
    if (held > 0.0) == (units > 0.0):  # an addition averages the price
        position.price = (held * position.price + units * price) / (held + units)
        position.units = held + units
        position.entry_cost += cost
        return n_trades
    rest = held + units
    scale = fabs(units) if fabs(units) > fabs(held) else fabs(held)
    if fabs(rest) <= DUST * scale:
        rest = 0.0
    crosses = rest != 0.0 and (rest > 0.0) != (held > 0.0)
    closed = held if rest == 0.0 or crosses else -units
    exit_cost = cost * (held / -units) if crosses else cost
    complete(position, fill, closed, held, exit_cost, prices, &trades[n_trades])
    if crosses:
        open_position(position, fill, rest, cost - exit_cost)
    elif rest == 0.0:
        position.side = 0
    else:
        share = 1.0 - closed / held  # what stays open
        position.units = rest
        position.entry_cost *= share
        position.borrow_cost *= share
        position.mfe *= share
        position.mae *= share
    return n_trades + 1


cdef inline void open_position(Position *position, const Fill *fill, double units, double cost) noexcept nogil:
    position.side = 1 if units > 0.0 else -1
    position.decision_bar = fill.decision_bar
    position.entry_bar = position.bar = fill.fill_bar
    position.moment = fill.moment
    position.units, position.price, position.entry_cost = units, fill.price, cost
    position.borrow_cost = position.mfe = position.mae = 0.0
    position.stop, position.target, position.equity = fill.stop, fill.target, fill.equity


cdef inline void complete(const Position *position, const Fill *fill, double closed, double held, double exit_cost,
                          const Prices *prices, Trade *trade) noexcept nogil:
    cdef double share = closed / held
    cdef double entry_price = position.price, exit_price = fill.price
    cdef double entry_cost = share * position.entry_cost, borrow_cost = share * position.borrow_cost
    cdef double gross = closed * (exit_price - entry_price) * prices.multiplier
    cdef double net = gross - entry_cost - exit_cost - borrow_cost
    cdef double entry_value = fabs(closed) * entry_price * prices.multiplier
    cdef double mfe = share * position.mfe, mae = share * position.mae
    cdef double best, worst
    cdef bint is_uncertain = False
    if gross > mfe:
        mfe = gross
    if gross < mae:
        mae = gross
    if fill.moment == INSIDE and prices.high != NULL:
        best = closed * (prices.high[fill.fill_bar] - entry_price) * prices.multiplier
        worst = closed * (prices.low[fill.fill_bar] - entry_price) * prices.multiplier
        is_uncertain = best > mfe or best < mae or worst > mfe or worst < mae
    trade.asset, trade.side = fill.asset, position.side
    trade.decision_bar, trade.entry_bar, trade.exit_bar = position.decision_bar, position.entry_bar, fill.fill_bar
    trade.units, trade.entry_price, trade.exit_price = closed, entry_price, exit_price
    trade.stop, trade.target, trade.trail, trade.entry_value = position.stop, position.target, fill.trail, entry_value
    trade.entry_cost, trade.exit_cost, trade.borrow_cost = entry_cost, exit_cost, borrow_cost
    trade.gross_profit, trade.net_profit, trade.return_ = gross, net, net / entry_value
    trade.mfe, trade.mae, trade.is_uncertain = mfe, mae, is_uncertain
    trade.reason, trade.ambiguous = fill.reason, fill.ambiguous
    trade.equity, trade.written_off = position.equity, fill.written_off

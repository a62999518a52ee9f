# What fills make of a position, and what trades add up to: shared by the kernels of trades and of portfolios.
# The twin is in backtest/_pure/trades.py.

from libc.math cimport fabs
from libc.stdint cimport int64_t

from _records cimport CLOSE, INSIDE, OPEN, START, Fill, Position, Trade, TradeSums

cdef extern from *:
    """
    #define BACKTEST_DUST 1e-12
    #define BACKTEST_NS_PER_DAY 86400000000000.0
    """
    const double NS_PER_DAY "BACKTEST_NS_PER_DAY"
    const double DUST "BACKTEST_DUST"  # a smaller share of what was traded is a rounding error, not a position

cdef struct Prices:  # of one asset; NULL: not known
    const double *open
    const double *high
    const double *low
    const double *close
    double borrow_per_bar

cdef struct Totals:  # trades added up: all, long, short
    const int64_t *times  # of the bars, in nanoseconds; NULL: not known
    TradeSums sums[3]
    double winning[3]  # streaks that are running
    double losing[3]


cdef inline void start_totals(Totals *totals, const int64_t *times) noexcept nogil:
    cdef int row
    totals.times = times
    for row in range(3):
        totals.sums[row] = TradeSums(
            n_trades=0.0, n_winners=0.0, n_losers=0.0, costs=0.0, net_profit=0.0, won=0.0, lost=0.0, largest_profit=0.0,
            largest_loss=0.0, sum_return=0.0, sum_return_2=0.0, sum_mfe=0.0, sum_mae=0.0, sum_bars_held=0.0,
            min_bars_held=0.0, max_bars_held=0.0, longest_winning_streak=0.0, longest_losing_streak=0.0, n_ambiguous=0.0,
            written_off=0.0, sum_days_held=0.0, min_days_held=0.0, max_days_held=0.0)
        totals.winning[row] = totals.losing[row] = 0.0


cdef inline void add_to(Totals *totals, int row, const Trade *trade) noexcept nogil:
    cdef TradeSums *total = &totals.sums[row]
    cdef double net = trade.net_profit
    cdef double held = <double>(trade.exit_bar - trade.entry_bar)
    cdef double result = trade.return_
    cdef double days = 0.0
    if totals.times != NULL:
        days = <double>(totals.times[trade.exit_bar] - totals.times[trade.entry_bar]) / NS_PER_DAY
    if total.n_trades == 0.0:
        total.largest_profit = total.largest_loss = net
        total.min_bars_held = total.max_bars_held = held
        total.min_days_held = total.max_days_held = days
    total.n_trades += 1.0
    total.costs += trade.entry_cost + trade.exit_cost + trade.borrow_cost
    total.net_profit += net
    if net > 0.0:
        total.n_winners += 1.0
        total.won += net
        totals.winning[row] += 1.0
        totals.losing[row] = 0.0
    elif net < 0.0:
        total.n_losers += 1.0
        total.lost -= net
        totals.losing[row] += 1.0
        totals.winning[row] = 0.0
    else:
        totals.winning[row] = totals.losing[row] = 0.0
    if totals.winning[row] > total.longest_winning_streak:
        total.longest_winning_streak = totals.winning[row]
    if totals.losing[row] > total.longest_losing_streak:
        total.longest_losing_streak = totals.losing[row]
    if net > total.largest_profit:
        total.largest_profit = net
    if net < total.largest_loss:
        total.largest_loss = net
    total.sum_return += result
    total.sum_return_2 += result * result
    total.sum_mfe += trade.mfe
    total.sum_mae += trade.mae
    total.sum_bars_held += held
    if held < total.min_bars_held:
        total.min_bars_held = held
    if held > total.max_bars_held:
        total.max_bars_held = held
    total.n_ambiguous += <double>trade.ambiguous
    total.written_off += trade.written_off
    total.sum_days_held += days
    if days < total.min_days_held:
        total.min_days_held = days
    if days > total.max_days_held:
        total.max_days_held = days


cdef inline void add_trade(Totals *totals, const Trade *trade) noexcept nogil:
    add_to(totals, 0, trade)
    add_to(totals, 1 if trade.side > 0 else 2, trade)


cdef inline void see(Position *position, double price) noexcept nogil:
    cdef double profit = position.units * (price - position.price)
    if profit > position.mfe:
        position.mfe = profit
    if profit < position.mae:
        position.mae = profit


cdef inline void pass_close(Position *position, const Prices *prices) noexcept nogil:
    cdef int64_t bar = position.bar
    cdef double price
    if position.moment <= OPEN and prices.high != NULL:
        see(position, prices.high[bar])
        see(position, prices.low[bar])
    if position.moment < CLOSE:
        price = prices.close[bar]
        see(position, price)
        if position.units < 0.0 and prices.borrow_per_bar != 0.0:
            position.borrow_cost += -position.units * price * prices.borrow_per_bar


cdef inline void advance(Position *position, const Prices *prices, int64_t bar, int64_t moment) noexcept nogil:
    while position.bar < bar:
        pass_close(position, prices)
        position.bar += 1
        position.moment = START
    if moment == CLOSE:
        pass_close(position, prices)
    elif position.moment == START and prices.open != NULL:
        see(position, prices.open[bar])
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
        share = rest / held
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
    cdef double gross = closed * (exit_price - entry_price)
    cdef double net = gross - entry_cost - exit_cost - borrow_cost
    cdef double entry_value = fabs(closed) * entry_price
    cdef double mfe = share * position.mfe, mae = share * position.mae
    cdef double best, worst
    cdef bint is_uncertain = False
    if gross > mfe:
        mfe = gross
    if gross < mae:
        mae = gross
    if fill.moment == INSIDE and prices.high != NULL:
        best = closed * (prices.high[fill.fill_bar] - entry_price)
        worst = closed * (prices.low[fill.fill_bar] - entry_price)
        is_uncertain = best > mfe or best < mae or worst > mfe or worst < mae
    trade.asset, trade.side = fill.asset, position.side
    trade.decision_bar, trade.entry_bar, trade.exit_bar = position.decision_bar, position.entry_bar, fill.fill_bar
    trade.units, trade.entry_price, trade.exit_price = closed, entry_price, exit_price
    trade.stop, trade.target, trade.entry_value = position.stop, position.target, entry_value
    trade.entry_cost, trade.exit_cost, trade.borrow_cost = entry_cost, exit_cost, borrow_cost
    trade.gross_profit, trade.net_profit, trade.return_ = gross, net, net / entry_value
    trade.mfe, trade.mae, trade.is_uncertain = mfe, mae, is_uncertain
    trade.reason, trade.ambiguous = fill.reason, fill.ambiguous
    trade.equity, trade.written_off = position.equity, fill.written_off

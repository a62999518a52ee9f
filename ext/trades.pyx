"""Trades: fills replayed into completed trades and open positions, and their sums.

Per asset: 0 to x opens; same sign and larger averages the entry price; same sign and smaller completes a trade for the
closed part; through zero completes one and opens another.  Between fills a position lives through the bars it holds:
best and worst unrealised profit, and the cost of borrowing.

Prices are (n_assets, n_bars), so that one asset's bars lie side by side.  ``open``, ``high`` and ``low`` may be empty,
shape (0, 0): then closes alone tell what a position went through.
"""

from libc.math cimport fabs
from libc.stdint cimport int64_t

from _records cimport CLOSE, INSIDE, OPEN, START, Fill, Position, Trade, TradeSums

cdef double DUST = 1e-12  # a smaller share of what was traded is a rounding error, not a position


cdef struct Prices:  # of one asset; NULL: not known
    const double *open
    const double *high
    const double *low
    const double *close
    double borrow_per_bar


def track(const Fill[::1] ledger, const double[:, ::1] open, const double[:, ::1] high, const double[:, ::1] low,
          const double[:, ::1] close, double borrow_per_bar, int64_t last, Position[::1] positions, Trade[::1] trades):
    """Replay a ledger.

    Parameters
    ----------
    ledger : ndarray of FILL, shape (n_fills,)
        In order of execution.
    open, high, low, close : ndarray of float64, shape (n_assets, n_bars)
        ``open``, ``high`` and ``low`` may be (0, 0).
    borrow_per_bar : float
        Cost of a short per bar, as a share of its value at the close.
    last : int
        Bars from here on do not count; open positions live up to the close before.
    positions : ndarray of POSITION, shape (n_assets,)
        Zeros; on return the open positions.
    trades : ndarray of TRADE, shape (n_fills,)
        Output, in order of exit.

    Returns
    -------
    int
        Number of trades written.
    """
    cdef Py_ssize_t row, asset
    cdef Py_ssize_t n_trades = 0
    cdef Prices prices
    with nogil:
        for row in range(ledger.shape[0]):
            asset = ledger[row].asset
            prices = prices_of(open, high, low, close, borrow_per_bar, asset)
            if positions[asset].side != 0:
                advance(&positions[asset], &prices, ledger[row].fill_bar, ledger[row].moment)
            n_trades = apply_fill(&positions[asset], &ledger[row], &prices, &trades[0], n_trades)
        for asset in range(positions.shape[0]):
            if positions[asset].side != 0:
                prices = prices_of(open, high, low, close, borrow_per_bar, asset)
                advance(&positions[asset], &prices, last - 1, CLOSE)
    return n_trades


def summarise(const Trade[::1] trades, TradeSums[::1] sums):
    """Add trades up: all, long, short.

    Parameters
    ----------
    trades : ndarray of TRADE
        In order of exit.
    sums : ndarray of TRADE_SUMS, shape (3,)
        Output: rows all, long, short.
    """
    cdef Py_ssize_t row, index
    cdef int64_t side
    cdef TradeSums total
    cdef const Trade *trade
    cdef double net, held, result, winning, losing
    with nogil:
        for row in range(3):
            side = 0 if row == 0 else (1 if row == 1 else -1)
            total = TradeSums(
                n_trades=0.0, n_winners=0.0, n_losers=0.0, costs=0.0, net_profit=0.0, won=0.0, lost=0.0, largest_profit=0.0,
                largest_loss=0.0, sum_return=0.0, sum_return_2=0.0, sum_mfe=0.0, sum_mae=0.0, sum_bars_held=0.0,
                min_bars_held=0.0, max_bars_held=0.0, longest_winning_streak=0.0, longest_losing_streak=0.0, n_ambiguous=0.0,
                written_off=0.0)
            winning = losing = 0.0
            for index in range(trades.shape[0]):
                trade = &trades[index]
                if side != 0 and trade.side != side:
                    continue
                net = trade.net_profit
                held = <double>(trade.exit_bar - trade.entry_bar)
                if total.n_trades == 0.0:
                    total.largest_profit = total.largest_loss = net
                    total.min_bars_held = total.max_bars_held = held
                total.n_trades += 1.0
                total.costs += trade.entry_cost + trade.exit_cost + trade.borrow_cost
                total.net_profit += net
                if net > 0.0:
                    total.n_winners += 1.0
                    total.won += net
                    winning += 1.0
                    losing = 0.0
                elif net < 0.0:
                    total.n_losers += 1.0
                    total.lost -= net
                    losing += 1.0
                    winning = 0.0
                else:
                    winning = losing = 0.0
                if winning > total.longest_winning_streak:
                    total.longest_winning_streak = winning
                if losing > total.longest_losing_streak:
                    total.longest_losing_streak = losing
                if net > total.largest_profit:
                    total.largest_profit = net
                if net < total.largest_loss:
                    total.largest_loss = net
                result = trade.return_
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
            sums[row] = total


cdef inline Prices prices_of(const double[:, ::1] open, const double[:, ::1] high, const double[:, ::1] low,
                             const double[:, ::1] close, double borrow_per_bar, Py_ssize_t asset) noexcept nogil:
    cdef Prices prices
    prices.open = prices.high = prices.low = NULL
    if open.shape[0]:
        prices.open = &open[asset, 0]
    if high.shape[0]:
        prices.high, prices.low = &high[asset, 0], &low[asset, 0]
    prices.close = &close[asset, 0]
    prices.borrow_per_bar = borrow_per_bar
    return prices


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


cdef void advance(Position *position, const Prices *prices, int64_t bar, int64_t moment) noexcept nogil:
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


cdef Py_ssize_t apply_fill(Position *position, const Fill *fill, const Prices *prices, Trade *trades,
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


cdef void open_position(Position *position, const Fill *fill, double units, double cost) noexcept nogil:
    position.side = 1 if units > 0.0 else -1
    position.decision_bar = fill.decision_bar
    position.entry_bar = position.bar = fill.fill_bar
    position.moment = fill.moment
    position.units, position.price, position.entry_cost = units, fill.price, cost
    position.borrow_cost = position.mfe = position.mae = 0.0
    position.stop, position.target, position.equity = fill.stop, fill.target, fill.equity


cdef void complete(const Position *position, const Fill *fill, double closed, double held, double exit_cost,
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

# One portfolio run: rebalancings, costs of borrowing, valuation, bust; the twin is backtest/_pure/portfolio.py.

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t

from _costs cimport CostRule, order_cost
from _orders cimport LEAST_ORDER, PortfolioAccount, SharedSettings, fill_price, has_untradable, limit_to_cash, target_scale
from _records cimport BUST, CLOSE, DELISTED, NONE, OPEN, REVERSE, SIGNAL, Fill
from _sums cimport Sums
from _trades cimport (DUST, LANES, LOST, MOST_NET, N_KEPT, N_TRADES, N_WINNERS, NET, NS_PER_DAY, RETURN, RETURN_2, WON, Totals,
                      larger, largest_of, smaller, total_of)

cdef extern from *:
    """
    #include "_positions.h"
    #include "_completed.h"
    """
    void positions_value(Py_ssize_t n_assets, Py_ssize_t n_bars, const double *units, const double *prices, const double *end,
                         double *values, double *gross) nogil
    double positions_value_quoted(Py_ssize_t n_assets, const double *units, const double *quotes, const double *quotes_end,
                                  const double *marks, const double *marks_end) nogil
    void positions_prefetch(Py_ssize_t n_assets, const double *prices) nogil
    void positions_track(Py_ssize_t n_assets, Py_ssize_t n_bars, const double *units, const double *entry_price,
                         const double *prices, const double *end, double *mfe, double *mae) nogil
    ctypedef struct order_sizing:
        double base, scale, least, dust, slippage, fixed, per_unit, fee_rate, minimum, maximum
    bint positions_orders(Py_ssize_t n_assets, const order_sizing *sizing, const double *quotes, const double *end,
                          const double *units, double *waiting, double *orders, double *prices, double *costs) nogil
    double positions_pay(Py_ssize_t n_assets, const double *orders, const double *prices, const double *costs, double cash,
                         double *traded, double *paid, int64_t *n_orders) nogil
    void positions_fill(Py_ssize_t n_lanes, double bar, const double *orders, const double *prices, const double *costs,
                        const double *seen_price, double *units, double *entry_price, double *entry_cost,
                        double *borrow_cost, double *mfe, double *mae, double *entry_bar, double *units_before, double *net,
                        double *result, double *paid, double *best, double *worst, double *held_bars) nogil
    void completed_add(Py_ssize_t n_lanes, const double *units_before, const double *net, const double *result,
                       double (*kept)[N_KEPT][LANES], double *extremes) nogil
    void completed_add_details(Py_ssize_t n_lanes, const double *units_before, const double *net, const double *paid,
                               const double *best, const double *worst, const double *held_bars, const double *days,
                               double (*kept)[N_KEPT][LANES]) nogil
    void completed_streaks(Py_ssize_t n_lanes, const double *units_before, const double *net, double *kinds,
                           double (*streaks)[4]) nogil

cdef enum:
    VALUED_BARS = 64  # most bars that are valued at once; no order fills between them
    N_ARRAYS = 20

cdef inline void rebalance(PortfolioAccount *book, const SharedSettings *settings, int64_t bar, int64_t moment) noexcept nogil:
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef const double *marks = &book.marks[(bar if moment == CLOSE else bar - 1) * book.n_assets]
    cdef const CostRule *costs = &settings.costs
    cdef order_sizing sizing
    cdef double base
    cdef bint still_waits
    cdef bint scales
    cdef double value = book.cash + positions_value_quoted(book.n_assets, book.units, quotes, book.quotes_end, marks,
                                                           book.marks_end)
    if not value > 0.0:
        return  # no value to size orders by; the close decides whether this is a bust
    base = value if settings.reinvest else settings.start_cash
    scales = settings.reserve_costs and not has_untradable(book, bar)
    sizing = order_sizing(
        base=base, scale=target_scale(book, settings, bar, base) if scales else 1.0, least=LEAST_ORDER * base, dust=DUST,
        slippage=costs.slippage, fixed=costs.fixed, per_unit=costs.per_unit, fee_rate=costs.fee_rate, minimum=costs.minimum,
        maximum=costs.maximum)
    still_waits = positions_orders(book.n_assets, &sizing, quotes, book.quotes_end, book.units, book.waiting, book.orders,
                                   book.prices, book.costs)
    if still_waits and has_untradable(book, bar):
        limit_to_cash(book, settings, bar, base)
    execute(book, bar, moment, NONE, value)
    if not still_waits:
        book.decision_bar = -1


cdef inline void write_off(PortfolioAccount *book, int64_t bar) noexcept nogil:
    # Positions in assets whose prices end before this bar are closed at 0, free of costs.
    cdef int64_t waits_since = book.decision_bar
    cdef bint is_held = False
    cdef Py_ssize_t asset
    for asset in range(book.n_lanes):
        book.orders[asset] = book.prices[asset] = book.costs[asset] = 0.0
    while book.next_end < book.n_ends and book.end_bars[book.next_end] == bar:
        asset = book.end_assets[book.next_end]
        if book.units[asset] != 0.0:
            book.orders[asset] = -book.units[asset]
            is_held = True
        book.next_end += 1
    if is_held:
        book.decision_bar = bar
        execute(book, bar, OPEN, DELISTED, book.last_value)
        book.decision_bar = waits_since


cdef inline void execute(PortfolioAccount *book, int64_t bar, int64_t moment, int64_t reason, double value) noexcept nogil:
    # The orders of one moment: ledger, cash, positions, trades.
    cdef const double *seen = &book.quotes[bar * book.n_assets] if moment == OPEN else book.entry_price
    cdef const int64_t *times = book.totals.times
    cdef int64_t n_orders = 0, n_held = 0
    cdef Py_ssize_t asset
    track_until(book, bar if moment == OPEN else bar + 1)
    if book.ledger != NULL:
        record_fills(book, bar, moment, reason, value)
    book.cash = positions_pay(book.n_assets, book.orders, book.prices, book.costs, book.cash, book.traded, book.paid_costs,
                              &n_orders)
    for asset in range(book.n_assets):
        book.seen_price[asset] = seen[asset]  # the position before the order was held at this open
    positions_fill(book.n_lanes, <double>bar, book.orders, book.prices, book.costs, book.seen_price, book.units,
                   book.entry_price, book.entry_cost, book.borrow_cost, book.mfe, book.mae, book.entry_bar, book.units_before,
                   book.net, book.result, book.paid, book.best, book.worst, book.held_bars)
    if times != NULL and book.tracks_positions:
        for asset in range(book.n_assets):
            book.days[asset] = <double>(times[bar] - times[bar - <int64_t>book.held_bars[asset]]) / NS_PER_DAY
    completed_add(book.n_lanes, book.units_before, book.net, book.result, book.totals.kept, book.extremes)
    if book.tracks_positions:
        completed_add_details(book.n_lanes, book.units_before, book.net, book.paid, book.best, book.worst, book.held_bars,
                              NULL if times == NULL else book.days, book.totals.kept)
        completed_streaks(book.n_lanes, book.units_before, book.net, book.orders, <double (*)[4]>&book.totals.streaks[0])
    for asset in range(book.n_assets):
        n_held += book.units[asset] != 0.0
    book.n_fills += n_orders
    book.n_held = n_held


cdef inline void record_fills(const PortfolioAccount *book, int64_t bar, int64_t moment, int64_t reason,
                              double value) noexcept nogil:
    cdef Fill *fill = &book.ledger[book.n_fills]
    cdef double cash = book.cash
    cdef double before, after, order
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        order, before = book.orders[asset], book.units[asset]
        if order == 0.0:
            continue
        after = before + order
        fill.decision_bar, fill.fill_bar, fill.moment, fill.asset = book.decision_bar, bar, moment, asset
        fill.units, fill.price, fill.value, fill.cost = order, book.prices[asset], order * book.prices[asset], book.costs[asset]
        fill.cash_before = cash
        cash -= order * book.prices[asset] + book.costs[asset]
        fill.cash_after = cash
        fill.position_before, fill.position_after = before, after
        fill.reason, fill.ambiguous = reason, 0
        if reason == NONE and before != 0.0 and (before > 0.0) != (order > 0.0):
            fill.reason = REVERSE if after != 0.0 and (after > 0.0) != (before > 0.0) else SIGNAL
        fill.stop, fill.target, fill.trail, fill.equity, fill.written_off = NAN, NAN, NAN, value, 0.0
        fill += 1


cdef inline void write_trade_sums(PortfolioAccount *book) noexcept nogil:
    cdef Sums *sums = &book.sums
    cdef const Totals *totals = &book.totals
    cdef Py_ssize_t lane
    sums.n_trades, sums.n_winners = total_of(totals, 0, N_TRADES), total_of(totals, 0, N_WINNERS)
    sums.won, sums.lost, sums.net_profit = total_of(totals, 0, WON), total_of(totals, 0, LOST), total_of(totals, 0, NET)
    sums.sum_trade_return, sums.sum_trade_return_2 = total_of(totals, 0, RETURN), total_of(totals, 0, RETURN_2)
    sums.largest_profit = largest_of(totals, 0, MOST_NET)
    for lane in range(LANES):
        sums.best_trade = larger(sums.best_trade, book.extremes[lane])
        sums.worst_trade = smaller(sums.worst_trade, book.extremes[LANES + lane])


cdef inline void track_until(PortfolioAccount *book, int64_t bar) noexcept nogil:
    # Update excursions with the bars before this one: high and low, if known, and closes.
    cdef Py_ssize_t row = book.tracked_until * book.n_assets, n_bars = bar - book.tracked_until
    if not book.tracks_positions or n_bars <= 0:
        return
    if book.high != NULL:
        positions_track(book.n_assets, n_bars, book.units, book.entry_price, &book.high[row], book.high_end, book.mfe, book.mae)
        positions_track(book.n_assets, n_bars, book.units, book.entry_price, &book.low[row], book.low_end, book.mfe, book.mae)
    positions_track(book.n_assets, n_bars, book.units, book.entry_price, &book.marks[row], book.marks_end, book.mfe, book.mae)
    book.tracked_until = bar


cdef inline void borrow(PortfolioAccount *book, const SharedSettings *settings, int64_t bar) noexcept nogil:
    cdef const double *marks = &book.marks[bar * book.n_assets]
    cdef double paid = 0.0
    cdef double cost
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.units[asset] < 0.0:
            cost = -book.units[asset] * marks[asset] * settings.borrow_per_bar
            book.borrow_cost[asset] += cost
            paid += cost
    book.cash -= paid
    book.borrowing += paid


cdef inline void bust(PortfolioAccount *book, const SharedSettings *settings, int64_t bar) noexcept nogil:
    cdef const double *marks = &book.marks[bar * book.n_assets]
    cdef Py_ssize_t asset
    cdef double order
    cdef int side = 0
    book.decision_bar = bar
    if book.n_held:  # else the costs of closing the last position were too much
        for asset in range(book.n_assets):
            order = 0.0 if book.units[asset] == 0.0 else -book.units[asset]
            book.orders[asset] = order
            book.prices[asset] = fill_price(settings, order, marks[asset]) if order != 0.0 else 0.0
            book.costs[asset] = order_cost(&settings.costs, fabs(order), book.prices[asset]) if order != 0.0 else 0.0
        execute(book, bar, CLOSE, BUST, 0.0)
    for asset in range(book.n_assets):
        book.waiting[asset] = NAN
        if book.units_before[asset] != 0.0:  # trades of one moment are in column order
            side = 0 if book.units_before[asset] > 0.0 else 1
    book.decision_bar = -1
    book.totals.written_off[side] += 0.0 - book.cash
    if book.ledger != NULL:
        book.ledger[book.n_fills - 1].written_off = 0.0 - book.cash
    book.sums.written_off = 0.0 - book.cash
    book.cash = 0.0


cdef inline void mark(PortfolioAccount *book, const SharedSettings *settings, double value) noexcept nogil:
    cdef Sums *sums = &book.sums
    cdef double result = (value - book.last_value) / book.last_value if book.last_value != 0.0 else 0.0
    cdef double square = result * result
    cdef double excess = result - settings.rf_per_bar
    cdef double fall
    book.last_value = value
    sums.sum_return += result
    sums.sum_return_2 += square
    sums.sum_return_3 += square * result
    sums.sum_return_4 += square * square
    if result > 0.0:
        sums.sum_gain += result
    else:
        sums.sum_loss -= result
    if excess < 0.0:
        sums.sum_downside_2 += excess * excess
    if value > book.peak:
        book.peak = value
    fall = value / book.peak - 1.0
    if fall < sums.max_drawdown:
        sums.max_drawdown = fall


cdef inline int64_t unchanged_until(const PortfolioAccount *book, const SharedSettings *settings, int64_t bar,
                                    Py_ssize_t event) noexcept nogil:
    # End of the bars at whose closes units are unchanged: if nothing waits, up to and including the next event's.
    cdef int64_t end = bar + 1
    if book.decision_bar < 0:
        end = book.event_bars[event] + 1 if event < book.n_events else settings.last
        if book.next_end < book.n_ends and end > book.end_bars[book.next_end]:
            end = book.end_bars[book.next_end]
        if end > bar + VALUED_BARS:
            end = bar + VALUED_BARS
        if end > settings.last:
            end = settings.last
    return end


cdef inline void value_bars(const PortfolioAccount *book, int64_t bar, int64_t end, double *positions,
                            double *gross) noexcept nogil:
    positions_value(book.n_assets, end - bar, book.units, &book.marks[bar * book.n_assets], book.marks_end, positions, gross)


cdef inline void replay_bars(PortfolioAccount *book, const SharedSettings *settings, double *account) noexcept nogil:
    cdef double positions[VALUED_BARS]
    cdef double gross[VALUED_BARS]
    cdef int64_t first = settings.first, last = settings.last
    cdef int64_t n_bars = last - first
    cdef int64_t bar, asset
    cdef int64_t block = first, end = first
    cdef double value, gross_value
    cdef bint is_bust = False
    cdef Py_ssize_t event = 0
    while event < book.n_events and book.event_bars[event] < first:
        event += 1
    while book.next_end < book.n_ends and book.end_bars[book.next_end] < first:
        book.next_end += 1
    for bar in range(first, last):
        if is_bust:
            mark(book, settings, 0.0)
            if account != NULL:
                account[bar - first] = account[n_bars + bar - first] = account[2 * n_bars + bar - first] = 0.0
            continue
        if book.next_end < book.n_ends and book.end_bars[book.next_end] == bar:
            write_off(book, bar)
        if book.decision_bar >= 0:
            rebalance(book, settings, bar, OPEN)
        if settings.borrow_per_bar != 0.0:
            borrow(book, settings, bar)
        if bar >= end:
            block, end = bar, unchanged_until(book, settings, bar, event)
            value_bars(book, bar, end, positions, gross)
        value, gross_value = book.cash + positions[bar - block], gross[bar - block]
        if event < book.n_events and book.event_bars[event] == bar:
            if value > 0.0:
                book.last_targets = &book.targets[event * book.n_assets]
                for asset in range(book.n_assets):
                    book.waiting[asset] = book.last_targets[asset]
                book.decision_bar = bar
                if settings.fills_at_close:
                    rebalance(book, settings, bar, CLOSE)
                    for asset in range(book.n_assets):
                        book.waiting[asset] = NAN
                    book.decision_bar = -1
                    value_bars(book, bar, bar + 1, positions, gross)
                    value, gross_value = book.cash + positions[0], gross[0]
                elif bar + 1 < last:
                    positions_prefetch(book.n_assets, &book.quotes[(bar + 1) * book.n_assets])
            event += 1
        if value <= 0.0:
            is_bust = True
            bust(book, settings, bar)
            value = gross_value = 0.0
        mark(book, settings, value)
        if book.n_held:
            book.sums.bars_held += 1.0
        if account != NULL:
            account[bar - first], account[n_bars + bar - first], account[2 * n_bars + bar - first] = value, book.cash, gross_value
    book.sums.n_fills = <double>book.n_fills
    book.sums.end_equity = book.last_value
    for asset in range(LANES):
        book.sums.traded_value += book.traded[asset]
        book.sums.costs += book.paid_costs[asset]
    book.sums.costs += book.borrowing
    write_trade_sums(book)

"""Portfolio: books of target weights, one at a time through their bars, assets in column order.

The order of events on a bar, once and for all:

1. at the open, assets that wait since an earlier close are traded (``fill="next_open"``): those with a price of their own;
2. at the close, borrowed units are paid for and the book is valued;
3. an event at this close makes every asset wait for its new target; with ``fill="close"`` those with a price trade right
   here, nothing goes on waiting, and the book is valued again;
4. a value of nothing or less is a bust: everything is closed, nothing is traded any more.

Arguments are records with attributes: ``prices`` (see ``portfolio.Prices``), ``targets`` (``portfolio.Targets``) and
``settings`` (``portfolio.Settings``).
"""

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from _costs cimport CostRule, order_cost
from _records cimport BUST, CLOSE, NONE, OPEN, REVERSE, SIGNAL, Fill, Sums, TradeSums
from _trades cimport DUST, LANES, NET, NS_PER_DAY, RETURN, RETURN_2, Totals, added, larger, most, smaller, start_totals, \
    write_totals
from _trades cimport LOST, MOST_NET, N_TRADES, N_WINNERS, WON

cdef extern from *:
    """
    #include "_positions.h"
    #define BACKTEST_LEAST_ORDER 1e-12
    """
    const double LEAST_ORDER "BACKTEST_LEAST_ORDER"  # an order counts if its value is more than this share of what sizes it
    void positions_value(Py_ssize_t n_assets, Py_ssize_t n_bars, const double *units, const double *prices, const double *end,
                         double *values, double *gross) nogil
    double positions_value_quoted(Py_ssize_t n_assets, const double *units, const double *quotes, const double *quotes_end,
                                  const double *marks, const double *marks_end) nogil
    void positions_expect(Py_ssize_t n_assets, const double *prices) nogil
    void positions_see(Py_ssize_t n_assets, Py_ssize_t n_bars, const double *units, const double *entry_price,
                       const double *prices, const double *end, double *mfe, double *mae) nogil
    ctypedef struct order_rules:
        double base, scale, least, dust, slippage, fixed, per_unit, fee_rate, minimum, maximum
    bint positions_orders(Py_ssize_t n_assets, const order_rules *rules, const double *quotes, const double *end,
                          const double *units, double *waiting, double *orders, double *prices, double *costs) nogil
    double positions_pay(Py_ssize_t n_assets, const double *orders, const double *prices, const double *costs, double cash,
                         double *traded, double *paid, int64_t *n_orders) nogil
    void positions_fill(Py_ssize_t n_lanes, double bar, const double *orders, const double *prices, const double *costs,
                        const double *seen, double *units, double *entry_price, double *entry_cost, double *borrow_cost,
                        double *mfe, double *mae, double *entry_bar, double *was, double *net, double *result, double *paid,
                        double *best, double *worst, double *held_bars) nogil
    void positions_keep_some(Py_ssize_t n_lanes, const double *was, const double *net, const double *result,
                             double (*kept)[19][8], double *extremes) nogil
    void positions_keep_more(Py_ssize_t n_lanes, const double *was, const double *net, const double *paid, const double *best,
                             const double *worst, const double *held_bars, const double *days, double (*kept)[19][8]) nogil
    void positions_streaks(Py_ssize_t n_lanes, const double *was, const double *net, double *kinds,
                           double (*streaks)[4]) nogil

cdef enum:
    HALVINGS = 60  # of the scale that leaves room for costs: down to neighbouring floats
    BLOCK = 64  # at most so many bars are valued at once; between them no order can fill
    N_ARRAYS = 20
    LINE = 64  # bytes of a line of the cache: lanes that begin there are read at once

cdef struct Rules:  # what the books share
    CostRule costs
    int64_t first
    int64_t last
    double start_value
    double rf_per_bar
    double borrow_per_bar
    bint fills_at_close
    bint reinvest
    bint reserve_costs


cdef struct Book:  # the account of one book while its bars pass
    Py_ssize_t n_assets
    const double *quotes       # (n_bars, n_assets), as marks, high and low
    const double *marks
    const double *high         # NULL: not known
    const double *low
    const double *quotes_end   # where quotes and the other prices end
    const double *marks_end
    const double *high_end
    const double *low_end
    const double *targets      # (n_events, n_assets)
    const int64_t *event_bars
    Py_ssize_t n_events
    Fill *ledger               # NULL: not recorded
    bint follows               # what positions live through between their fills
    int64_t lived              # positions have seen the bars before this one
    double cash
    # Lanes: one number an asset, and room for whole groups of LANES; beyond the assets they are 0.
    Py_ssize_t n_lanes
    double *units
    double *waiting            # targets; NaN: does not wait
    double *entry_price
    double *entry_cost
    double *borrow_cost
    double *mfe
    double *mae
    double *entry_bar
    double *orders             # of one rebalancing; 0: none
    double *prices
    double *costs
    double *seen
    double *was                # units before, of assets that complete a trade; then of these trades:
    double *net
    double *result
    double *paid
    double *best
    double *worst
    double *held_bars
    double *days
    Py_ssize_t n_held
    int64_t decision_bar
    Totals totals
    double traded[8]           # value of all orders, and what they cost, in LANES lanes
    double paid_costs[8]
    double borrowing
    double extremes[16]        # largest and smallest of a trade, in LANES lanes each
    # Sums.
    int64_t n_fills
    double last_value
    double peak
    Sums sums


def evaluate(prices, targets, settings, Py_ssize_t start, Py_ssize_t stop, Sums[::1] sums):
    """Replay books ``start <= row < stop`` and fill their rows of ``sums``.

    Parameters
    ----------
    prices, targets, settings
        Records, see the module.
    start, stop : int
        Rows of the batch.
    sums : ndarray of SUMS, shape (n_books,)
        Output.
    """
    cdef Data data = Data(prices, targets, settings)
    cdef Py_ssize_t row
    with nogil:
        for row in range(start, stop):
            open_book(&data.book, data, row)
            replay_bars(&data.book, &data.rules, NULL)
            sums[row] = data.book.sums


def replay(prices, targets, settings, Py_ssize_t row, Sums[::1] sums, TradeSums[::1] trade_sums, double[:, ::1] account,
           double[::1] waiting, Fill[::1] ledger):
    """Replay one book and record what it did.

    Parameters
    ----------
    prices, targets, settings
        Records, see the module.
    row : int
        Row of the batch.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    trade_sums : ndarray of TRADE_SUMS, shape (3,)
        Output: completed trades added up, rows all, long, short, excursions included.
    account : ndarray of float64, shape (3, last - first)
        Output: value, cash and value of all positions regardless of sign, at each close.
    waiting : ndarray of float64, shape (n_assets,)
        Output: targets that still waited for a price when the bars ended; NaN of assets that did not.
    ledger : ndarray of FILL
        Output; room for every fill (``sums["n_fills"]``), or empty.

    Returns
    -------
    n_fills, decision_bar : int
        Orders executed; the bar whose close decided what is still waiting, -1 if none did.
    """
    cdef Data data = Data(prices, targets, settings)
    cdef Book *book = &data.book
    cdef Py_ssize_t each
    with nogil:
        open_book(book, data, row)
        book.follows = True
        if ledger.shape[0]:
            book.ledger = &ledger[0]
        replay_bars(book, &data.rules, &account[0, 0])
        sums[0] = book.sums
        write_totals(&book.totals, &trade_sums[0])
        for each in range(book.n_assets):
            waiting[each] = book.waiting[each]
    return book.n_fills, book.decision_bar


def are_prices(const double[:, ::1] values):
    """Whether every value is a price: finite and > 0.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
    """
    cdef Py_ssize_t at, n = values.shape[0] * values.shape[1]
    cdef const double *value = &values[0, 0]
    cdef int64_t is_other = 0
    with nogil:
        for at in range(n):
            is_other |= not (value[at] > 0.0 and value[at] < INFINITY)
    return is_other == 0


def find_events(const double[:, ::1] weights, int64_t[::1] bars):
    """Rows that decide: those that are finite throughout; the others are NaN throughout.

    Parameters
    ----------
    weights : ndarray of float64, shape (n_bars, n_assets)
    bars : ndarray of int64, shape (n_bars,)
        Output: the rows, ascending.

    Returns
    -------
    n_events, row : int
        How many there are; the first row that is neither, or -1.
    """
    cdef Py_ssize_t row, asset, n_assets = weights.shape[1], n_events = 0, wrong = -1
    cdef int64_t n_missing, n_finite
    cdef double value
    with nogil:
        for row in range(weights.shape[0]):
            n_missing = n_finite = 0
            for asset in range(n_assets):
                value = weights[row, asset]
                n_missing += value != value
                n_finite += fabs(value) < INFINITY
            if n_finite == n_assets:
                bars[n_events] = row
                n_events += 1
            elif n_missing < n_assets:
                wrong = row
                break
    return n_events, wrong


cdef class Data:
    """The arguments, typed, and room for one book."""

    cdef const double[:, ::1] quotes, marks, high, low, weights
    cdef const int64_t[::1] bars, first_event, times
    cdef Rules rules
    cdef void *room
    cdef Book book

    def __cinit__(self, prices, targets, settings):
        self.quotes, self.marks, self.high, self.low = prices.quotes, prices.marks, prices.high, prices.low
        self.times = prices.times
        self.weights, self.bars, self.first_event = targets.weights, targets.bars, targets.first_event
        self.rules.costs.fee_rate, self.rules.costs.slippage = settings.fee_rate, settings.slippage
        self.rules.costs.fixed, self.rules.costs.per_unit = settings.fixed, settings.per_unit
        self.rules.costs.minimum, self.rules.costs.maximum = settings.minimum, settings.maximum
        self.rules.first, self.rules.last, self.rules.start_value = settings.first, settings.last, settings.start_value
        self.rules.rf_per_bar, self.rules.borrow_per_bar = settings.rf_per_bar, settings.borrow_per_bar
        self.rules.fills_at_close, self.rules.reinvest = settings.fills_at_close, settings.reinvest
        self.rules.reserve_costs = settings.reserve_costs
        self.book.n_assets = self.marks.shape[1]
        self.book.n_lanes = (self.book.n_assets + LANES - 1) // LANES * LANES
        self.room = malloc(N_ARRAYS * self.book.n_lanes * sizeof(double) + LINE)
        if self.room == NULL:
            raise MemoryError
        self.book.units = <double *>((<size_t>self.room + LINE - 1) // LINE * LINE)

    def __dealloc__(self):
        free(self.room)


cdef void open_book(Book *book, Data data, Py_ssize_t row) noexcept nogil:
    cdef Py_ssize_t asset, first = data.first_event[row]
    cdef Py_ssize_t n = book.n_lanes
    book.quotes, book.marks = &data.quotes[0, 0], &data.marks[0, 0]
    book.high = &data.high[0, 0] if data.high.shape[0] else NULL
    book.low = &data.low[0, 0] if data.low.shape[0] else NULL
    book.quotes_end = book.quotes + data.quotes.shape[0] * data.quotes.shape[1]
    book.marks_end = book.marks + data.marks.shape[0] * data.marks.shape[1]
    book.high_end = book.high + data.high.shape[0] * data.high.shape[1]
    book.low_end = book.low + data.low.shape[0] * data.low.shape[1]
    book.n_events = data.first_event[row + 1] - first
    book.targets = &data.weights[first, 0] if book.n_events else NULL
    book.event_bars = &data.bars[first] if book.n_events else NULL
    book.ledger, book.follows, book.lived = NULL, False, data.rules.first
    book.cash = data.rules.start_value
    book.waiting, book.entry_price, book.entry_cost = book.units + n, book.units + 2 * n, book.units + 3 * n
    book.borrow_cost, book.mfe, book.mae = book.units + 4 * n, book.units + 5 * n, book.units + 6 * n
    book.entry_bar, book.orders, book.prices = book.units + 7 * n, book.units + 8 * n, book.units + 9 * n
    book.costs, book.seen, book.was = book.units + 10 * n, book.units + 11 * n, book.units + 12 * n
    book.net, book.result, book.paid = book.units + 13 * n, book.units + 14 * n, book.units + 15 * n
    book.best, book.worst, book.held_bars = book.units + 16 * n, book.units + 17 * n, book.units + 18 * n
    book.days = book.units + 19 * n
    for asset in range(N_ARRAYS * n):
        book.units[asset] = 0.0
    for asset in range(n):
        book.waiting[asset] = NAN
    book.borrowing = 0.0
    for asset in range(LANES):
        book.traded[asset] = book.paid_costs[asset] = 0.0
        book.extremes[asset], book.extremes[LANES + asset] = -INFINITY, INFINITY
    book.n_held = 0
    book.decision_bar = -1
    start_totals(&book.totals, &data.times[0] if data.times.shape[0] else NULL)
    book.n_fills = 0
    book.last_value = book.peak = data.rules.start_value
    book.sums = Sums(
        n_returns=data.rules.last - data.rules.first, end_equity=0.0, sum_return=0.0, sum_return_2=0.0, sum_return_3=0.0,
        sum_return_4=0.0, sum_gain=0.0, sum_loss=0.0, sum_downside_2=0.0, max_drawdown=0.0, bars_held=0.0, traded_value=0.0,
        costs=0.0, written_off=0.0, n_fills=0.0, n_trades=0.0, n_winners=0.0, won=0.0, lost=0.0, net_profit=0.0,
        largest_profit=-INFINITY, sum_trade_return=0.0, sum_trade_return_2=0.0, best_trade=-INFINITY, worst_trade=INFINITY,
        n_ambiguous=0.0)


cdef inline bint is_price(double quote) noexcept nogil:
    return 0.0 < quote and quote < INFINITY


cdef inline double order_of(const Book *book, Py_ssize_t asset, double target, double base, double quote) noexcept nogil:
    cdef double before = book.units[asset]
    cdef double order = target * base / quote - before
    cdef double after = before + order
    if fabs(after) <= DUST * (fabs(order) if fabs(order) > fabs(before) else fabs(before)):
        order = -before  # a rounding error is no position
    return order if fabs(order) * quote > LEAST_ORDER * base else 0.0


cdef inline double price_of(const Rules *rules, double order, double quote) noexcept nogil:
    return quote * (1.0 + rules.costs.slippage) if order > 0.0 else quote * (1.0 - rules.costs.slippage)


cdef double scale_of(const Book *book, const Rules *rules, int64_t bar, double base) noexcept nogil:
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double cash = book.cash
    cdef double low = 0.0, high = 1.0
    cdef double middle, least
    cdef Py_ssize_t asset
    cdef int _halving
    for asset in range(book.n_assets):
        if book.waiting[asset] == book.waiting[asset] and is_price(quotes[asset]):
            cash -= order_of(book, asset, book.waiting[asset], base, quotes[asset]) * quotes[asset]
    least = cash if cash < 0.0 else 0.0
    if cash_after(book, rules, bar, base, 1.0) >= least or cash_after(book, rules, bar, base, 0.0) < least:
        return 1.0
    for _halving in range(HALVINGS):
        middle = 0.5 * (low + high)
        if cash_after(book, rules, bar, base, middle) >= least:
            low = middle
        else:
            high = middle
    return low


cdef double cash_after(const Book *book, const Rules *rules, int64_t bar, double base, double scale) noexcept nogil:
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double cash = book.cash
    cdef double order, price
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.waiting[asset] == book.waiting[asset] and is_price(quotes[asset]):
            order = order_of(book, asset, book.waiting[asset] * scale, base, quotes[asset])
            if order != 0.0:
                price = price_of(rules, order, quotes[asset])
                cash = cash - (order * price + order_cost(&rules.costs, fabs(order), price))
    return cash


cdef void rebalance(Book *book, const Rules *rules, int64_t bar, int64_t moment) noexcept nogil:
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef const double *marks = &book.marks[(bar if moment == CLOSE else bar - 1) * book.n_assets]
    cdef const CostRule *costs = &rules.costs
    cdef order_rules sizing
    cdef double base
    cdef bint still_waits
    cdef double value = book.cash + positions_value_quoted(book.n_assets, book.units, quotes, book.quotes_end, marks,
                                                           book.marks_end)
    if not value > 0.0:
        return  # nothing is left to size orders by; the close decides whether this is a bust
    base = value if rules.reinvest else rules.start_value
    sizing = order_rules(
        base=base, scale=scale_of(book, rules, bar, base) if rules.reserve_costs else 1.0, least=LEAST_ORDER * base, dust=DUST,
        slippage=costs.slippage, fixed=costs.fixed, per_unit=costs.per_unit, fee_rate=costs.fee_rate, minimum=costs.minimum,
        maximum=costs.maximum)
    still_waits = positions_orders(book.n_assets, &sizing, quotes, book.quotes_end, book.units, book.waiting, book.orders,
                                   book.prices, book.costs)
    execute(book, bar, moment, NONE, value)
    if not still_waits:
        book.decision_bar = -1


cdef void execute(Book *book, int64_t bar, int64_t moment, int64_t reason, double value) noexcept nogil:
    # The orders of one moment: ledger, cash, positions, trades.
    cdef const double *seen = &book.quotes[bar * book.n_assets] if moment == OPEN else book.entry_price
    cdef const int64_t *times = book.totals.times
    cdef int64_t n_orders = 0, n_held = 0
    cdef Py_ssize_t asset
    live_until(book, bar if moment == OPEN else bar + 1)
    if book.ledger != NULL:
        write_down(book, bar, moment, reason, value)
    book.cash = positions_pay(book.n_assets, book.orders, book.prices, book.costs, book.cash, book.traded, book.paid_costs,
                              &n_orders)
    for asset in range(book.n_assets):
        book.seen[asset] = seen[asset]  # an open came before the order that it fills
    positions_fill(book.n_lanes, <double>bar, book.orders, book.prices, book.costs, book.seen, book.units, book.entry_price,
                   book.entry_cost, book.borrow_cost, book.mfe, book.mae, book.entry_bar, book.was, book.net, book.result,
                   book.paid, book.best, book.worst, book.held_bars)
    if times != NULL and book.follows:
        for asset in range(book.n_assets):
            book.days[asset] = <double>(times[bar] - times[bar - <int64_t>book.held_bars[asset]]) / NS_PER_DAY
    positions_keep_some(book.n_lanes, book.was, book.net, book.result, book.totals.kept, book.extremes)
    if book.follows:
        positions_keep_more(book.n_lanes, book.was, book.net, book.paid, book.best, book.worst, book.held_bars,
                            NULL if times == NULL else book.days, book.totals.kept)
        positions_streaks(book.n_lanes, book.was, book.net, book.orders, <double (*)[4]>&book.totals.streaks[0])
    for asset in range(book.n_assets):
        n_held += book.units[asset] != 0.0
    book.n_fills += n_orders
    book.n_held = n_held


cdef void write_down(const Book *book, int64_t bar, int64_t moment, int64_t reason, double value) noexcept nogil:
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
        fill.stop, fill.target, fill.equity, fill.written_off = NAN, NAN, value, 0.0
        fill += 1


cdef inline void of_trades(Book *book) noexcept nogil:
    cdef Sums *sums = &book.sums
    cdef const Totals *totals = &book.totals
    cdef Py_ssize_t lane
    sums.n_trades, sums.n_winners = added(totals, 0, N_TRADES), added(totals, 0, N_WINNERS)
    sums.won, sums.lost, sums.net_profit = added(totals, 0, WON), added(totals, 0, LOST), added(totals, 0, NET)
    sums.sum_trade_return, sums.sum_trade_return_2 = added(totals, 0, RETURN), added(totals, 0, RETURN_2)
    sums.largest_profit = most(totals, 0, MOST_NET)
    for lane in range(LANES):
        sums.best_trade = larger(sums.best_trade, book.extremes[lane])
        sums.worst_trade = smaller(sums.worst_trade, book.extremes[LANES + lane])


cdef inline void live_until(Book *book, int64_t bar) noexcept nogil:
    # What positions see of the bars up to this one: their extremes, if they are known, and their closes.
    cdef Py_ssize_t row = book.lived * book.n_assets, n_bars = bar - book.lived
    if not book.follows or n_bars <= 0:
        return
    if book.high != NULL:
        positions_see(book.n_assets, n_bars, book.units, book.entry_price, &book.high[row], book.high_end, book.mfe, book.mae)
        positions_see(book.n_assets, n_bars, book.units, book.entry_price, &book.low[row], book.low_end, book.mfe, book.mae)
    positions_see(book.n_assets, n_bars, book.units, book.entry_price, &book.marks[row], book.marks_end, book.mfe, book.mae)
    book.lived = bar


cdef void borrow(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    cdef const double *marks = &book.marks[bar * book.n_assets]
    cdef double paid = 0.0
    cdef double cost
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.units[asset] < 0.0:
            cost = -book.units[asset] * marks[asset] * rules.borrow_per_bar
            book.borrow_cost[asset] += cost
            paid += cost
    book.cash -= paid
    book.borrowing += paid


cdef void bust(Book *book, const Rules *rules, int64_t bar) noexcept nogil:
    cdef const double *marks = &book.marks[bar * book.n_assets]
    cdef Py_ssize_t asset
    cdef double order
    cdef int side = 0
    book.decision_bar = bar
    if book.n_held:  # otherwise costs alone were too much, after the last position had been closed
        for asset in range(book.n_assets):
            order = 0.0 if book.units[asset] == 0.0 else -book.units[asset]
            book.orders[asset] = order
            book.prices[asset] = price_of(rules, order, marks[asset]) if order != 0.0 else 0.0
            book.costs[asset] = order_cost(&rules.costs, fabs(order), book.prices[asset]) if order != 0.0 else 0.0
        execute(book, bar, CLOSE, BUST, 0.0)
    for asset in range(book.n_assets):
        book.waiting[asset] = NAN
        if book.was[asset] != 0.0:  # the last trade is that of the last column
            side = 0 if book.was[asset] > 0.0 else 1
    book.decision_bar = -1
    book.totals.written_off[side] += 0.0 - book.cash
    if book.ledger != NULL:
        book.ledger[book.n_fills - 1].written_off = 0.0 - book.cash
    book.sums.written_off = 0.0 - book.cash
    book.cash = 0.0


cdef inline void mark(Book *book, const Rules *rules, double value) noexcept nogil:
    cdef Sums *sums = &book.sums
    cdef double result = (value - book.last_value) / book.last_value if book.last_value != 0.0 else 0.0
    cdef double square = result * result
    cdef double excess = result - rules.rf_per_bar
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


cdef int64_t block_end(const Book *book, const Rules *rules, int64_t bar, Py_ssize_t event) noexcept nogil:
    # One past the last bar at whose close the units are those of this one: where nothing waits, up to the next event's.
    cdef int64_t end = bar + 1
    if book.decision_bar < 0:
        end = book.event_bars[event] + 1 if event < book.n_events else rules.last
        if end > bar + BLOCK:
            end = bar + BLOCK
        if end > rules.last:
            end = rules.last
    return end


cdef inline void value_bars(const Book *book, int64_t bar, int64_t end, double *positions, double *gross) noexcept nogil:
    positions_value(book.n_assets, end - bar, book.units, &book.marks[bar * book.n_assets], book.marks_end, positions, gross)


cdef void replay_bars(Book *book, const Rules *rules, double *account) noexcept nogil:
    cdef double positions[BLOCK]
    cdef double gross[BLOCK]
    cdef int64_t first = rules.first, last = rules.last
    cdef int64_t n_bars = last - first
    cdef int64_t bar, asset
    cdef int64_t block = first, end = first
    cdef double value, load
    cdef bint is_bust = False
    cdef Py_ssize_t event = 0
    while event < book.n_events and book.event_bars[event] < first:
        event += 1
    for bar in range(first, last):
        if is_bust:
            mark(book, rules, 0.0)
            if account != NULL:
                account[bar - first] = account[n_bars + bar - first] = account[2 * n_bars + bar - first] = 0.0
            continue
        if book.decision_bar >= 0:
            rebalance(book, rules, bar, OPEN)
        if rules.borrow_per_bar != 0.0:
            borrow(book, rules, bar)
        if bar >= end:
            block, end = bar, block_end(book, rules, bar, event)
            value_bars(book, bar, end, positions, gross)
        value, load = book.cash + positions[bar - block], gross[bar - block]
        if event < book.n_events and book.event_bars[event] == bar:
            if value > 0.0:
                for asset in range(book.n_assets):
                    book.waiting[asset] = book.targets[event * book.n_assets + asset]
                book.decision_bar = bar
                if rules.fills_at_close:
                    rebalance(book, rules, bar, CLOSE)
                    for asset in range(book.n_assets):
                        book.waiting[asset] = NAN
                    book.decision_bar = -1
                    value_bars(book, bar, bar + 1, positions, gross)
                    value, load = book.cash + positions[0], gross[0]
                elif bar + 1 < last:
                    positions_expect(book.n_assets, &book.quotes[(bar + 1) * book.n_assets])
            event += 1
        if value <= 0.0:
            is_bust = True
            bust(book, rules, bar)
            value = load = 0.0
        mark(book, rules, value)
        if book.n_held:
            book.sums.bars_held += 1.0
        if account != NULL:
            account[bar - first], account[n_bars + bar - first], account[2 * n_bars + bar - first] = value, book.cash, load
    book.sums.n_fills = <double>book.n_fills
    book.sums.end_equity = book.last_value
    for asset in range(LANES):
        book.sums.traded_value += book.traded[asset]
        book.sums.costs += book.paid_costs[asset]
    book.sums.costs += book.borrowing
    of_trades(book)

# A book of target weights, what it wants to trade and what it can pay for; the twin is backtest/_pure/_orders.py.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from _costs cimport CostRule, order_cost
from _records cimport Fill, Sums
from _trades cimport DUST, Totals

cdef extern from *:
    """
    #define BACKTEST_LEAST_ORDER 1e-12
    """
    const double LEAST_ORDER "BACKTEST_LEAST_ORDER"  # an order counts if its value is more than this share of what sizes it

cdef enum:
    HALVINGS = 60  # of what orders are multiplied by so that cash is left: down to neighbouring floats

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
    const double *wanted       # targets of the last event
    const int64_t *end_bars    # (n_ends,); from here on an asset is worth nothing: ascending, and its column
    const int64_t *end_assets
    Py_ssize_t n_ends
    Py_ssize_t ending          # the next of them
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


cdef inline bint is_price(double quote) noexcept nogil:
    return 0.0 < quote and quote < INFINITY


cdef inline double order_of(const Book *book, Py_ssize_t asset, double target, double base, double quote) noexcept nogil:
    cdef double before = book.units[asset]
    return counted(before, target * base / quote - before, base, quote)


cdef inline double counted(double before, double order, double base, double quote) noexcept nogil:
    cdef double after = before + order
    if fabs(after) <= DUST * (fabs(order) if fabs(order) > fabs(before) else fabs(before)):
        order = -before  # a rounding error is no position
    return order if fabs(order) * quote > LEAST_ORDER * base else 0.0


cdef inline double price_of(const Rules *rules, double order, double quote) noexcept nogil:
    return quote * (1.0 + rules.costs.slippage) if order > 0.0 else quote * (1.0 - rules.costs.slippage)


cdef inline double scale_of(const Book *book, const Rules *rules, int64_t bar, double base) noexcept nogil:
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


cdef inline double cash_after(const Book *book, const Rules *rules, int64_t bar, double base, double scale) noexcept nogil:
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


cdef inline bint is_stuck(const Book *book, int64_t bar) noexcept nogil:
    # Something is held that has to trade and cannot: its value is in what sizes orders, and pays for none.
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.waiting[asset] == book.waiting[asset] and book.units[asset] != 0.0 and not is_price(quotes[asset]):
            return True
    return False


cdef inline void limit(Book *book, const Rules *rules, int64_t bar, double base) noexcept nogil:
    # Cut what orders buy, or sell short, to what can be paid for; what was cut waits on.
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double total = 0.0, low = 0.0, high = 1.0
    cdef double least, middle, order
    cdef Py_ssize_t asset
    cdef int _halving
    for asset in range(book.n_assets):
        total += book.wanted[asset]
    least = base * (1.0 - total)
    least = least if least < 0.0 else 0.0
    if cash_left(book, rules, bar, base, 1.0) >= least:
        return
    if cash_left(book, rules, bar, base, 0.0) >= least:
        for _halving in range(HALVINGS):
            middle = 0.5 * (low + high)
            if cash_left(book, rules, bar, base, middle) >= least:
                low = middle
            else:
                high = middle
    for asset in range(book.n_assets):
        order = book.orders[asset]
        if order > 0.0 or (order < 0.0 and book.units[asset] + order < 0.0):
            order = part(book, asset, order, low, base, quotes[asset])
            book.orders[asset] = order
            book.prices[asset] = price_of(rules, order, quotes[asset]) if order != 0.0 else 0.0
            book.costs[asset] = order_cost(&rules.costs, fabs(order), book.prices[asset]) if order != 0.0 else 0.0
            book.waiting[asset] = book.wanted[asset]


cdef inline double part(const Book *book, Py_ssize_t asset, double order, double factor, double base,
                        double quote) noexcept nogil:
    # An order of which what it buys or sells short is multiplied; sales of what is held are not.
    cdef double before = book.units[asset]
    cdef double after = before + order
    if order < 0.0 and before > 0.0:
        return counted(before, order - (1.0 - factor) * after, base, quote) if after < 0.0 else order
    return counted(before, factor * order, base, quote)


cdef inline double cash_left(const Book *book, const Rules *rules, int64_t bar, double base, double factor) noexcept nogil:
    # Cash after such parts of orders and their costs.
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double cash = book.cash
    cdef double order, price
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.orders[asset] != 0.0:
            order = part(book, asset, book.orders[asset], factor, base, quotes[asset])
            if order != 0.0:
                price = price_of(rules, order, quotes[asset])
                cash = cash - (order * price + order_cost(&rules.costs, fabs(order), price))
    return cash

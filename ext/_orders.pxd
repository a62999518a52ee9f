# The account of one portfolio run, and how its orders are sized: by targets and by available cash.
# The twin is backtest/_pure/_orders.py.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t

from _costs cimport CostRule, order_cost
from _records cimport Fill
from _sums cimport Sums
from _trades cimport DUST, LANES, Totals

cdef extern from *:
    """
    #define BACKTEST_LEAST_ORDER 1e-12
    """
    const double LEAST_ORDER "BACKTEST_LEAST_ORDER"  # smaller orders, as a share of what targets are fractions of, are dropped

cdef enum:
    HALVINGS = 60  # bisection steps for the factor of orders that cash pays for: down to neighbouring floats

cdef struct SharedSettings:  # the same for all books of a batch
    CostRule costs
    int64_t first
    int64_t last
    double start_cash
    double rf_per_bar
    double borrow_per_bar
    bint fills_at_close
    bint reinvest
    bint reserve_costs


cdef struct PortfolioAccount:  # the account of one book
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
    const double *last_targets  # of the last event
    const int64_t *end_bars    # (n_ends,), ascending: from this bar on the asset of end_assets is worth 0
    const int64_t *end_assets
    Py_ssize_t n_ends
    Py_ssize_t next_end        # the next of them
    Fill *ledger               # NULL: not recorded
    bint tracks_positions      # whether excursions between fills are tracked
    int64_t tracked_until      # first bar whose prices they do not include
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
    double *seen_price         # the open at which an order fills; entry_price at the close
    double *units_before       # of assets that complete a trade, else 0; as the next, of the trade:
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
    double traded[LANES]       # value of all orders, and what they cost
    double paid_costs[LANES]
    double borrowing
    double extremes[2 * LANES]  # largest and smallest return of a trade
    # Sums.
    int64_t n_fills
    double last_value
    double peak
    Sums sums


cdef inline bint is_price(double quote) noexcept nogil:
    return 0.0 < quote and quote < INFINITY


cdef inline double order_of(const PortfolioAccount *book, Py_ssize_t asset, double target, double base,
                            double quote) noexcept nogil:
    cdef double before = book.units[asset]
    return rounded_order(before, target * base / quote - before, base, quote)


cdef inline double rounded_order(double before, double order, double base, double quote) noexcept nogil:
    cdef double after = before + order
    if fabs(after) <= DUST * (fabs(order) if fabs(order) > fabs(before) else fabs(before)):
        order = -before  # do not leave a rounding error open
    return order if fabs(order) * quote > LEAST_ORDER * base else 0.0


cdef inline double fill_price(const SharedSettings *settings, double order, double quote) noexcept nogil:
    return quote * (1.0 + settings.costs.slippage) if order > 0.0 else quote * (1.0 - settings.costs.slippage)


cdef inline double target_scale(const PortfolioAccount *book, const SharedSettings *settings, int64_t bar,
                                double base) noexcept nogil:
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
    if cash_after(book, settings, bar, base, 1.0) >= least or cash_after(book, settings, bar, base, 0.0) < least:
        return 1.0
    for _halving in range(HALVINGS):
        middle = 0.5 * (low + high)
        if cash_after(book, settings, bar, base, middle) >= least:
            low = middle
        else:
            high = middle
    return low


cdef inline double cash_after(const PortfolioAccount *book, const SharedSettings *settings, int64_t bar, double base,
                              double scale) noexcept nogil:
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double cash = book.cash
    cdef double order, price
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.waiting[asset] == book.waiting[asset] and is_price(quotes[asset]):
            order = order_of(book, asset, book.waiting[asset] * scale, base, quotes[asset])
            if order != 0.0:
                price = fill_price(settings, order, quotes[asset])
                cash = cash - (order * price + order_cost(&settings.costs, fabs(order), price))
    return cash


cdef inline bint has_untradable(const PortfolioAccount *book, int64_t bar) noexcept nogil:
    # A held asset waits and has no price: its value counts in sizing orders, but cannot pay for any.
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.waiting[asset] == book.waiting[asset] and book.units[asset] != 0.0 and not is_price(quotes[asset]):
            return True
    return False


cdef inline void limit_to_cash(PortfolioAccount *book, const SharedSettings *settings, int64_t bar, double base) noexcept nogil:
    # Scale purchases and short sales down to what cash pays for; assets whose orders were cut go on waiting.
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double total = 0.0, low = 0.0, high = 1.0
    cdef double least, middle, order
    cdef Py_ssize_t asset
    cdef int _halving
    for asset in range(book.n_assets):
        total += book.last_targets[asset]
    least = base * (1.0 - total)
    least = least if least < 0.0 else 0.0
    if cash_after_parts(book, settings, bar, base, 1.0) >= least:
        return
    if cash_after_parts(book, settings, bar, base, 0.0) >= least:
        for _halving in range(HALVINGS):
            middle = 0.5 * (low + high)
            if cash_after_parts(book, settings, bar, base, middle) >= least:
                low = middle
            else:
                high = middle
    for asset in range(book.n_assets):
        order = book.orders[asset]
        if order > 0.0 or (order < 0.0 and book.units[asset] + order < 0.0):
            order = part_of_order(book, asset, order, low, base, quotes[asset])
            book.orders[asset] = order
            book.prices[asset] = fill_price(settings, order, quotes[asset]) if order != 0.0 else 0.0
            book.costs[asset] = order_cost(&settings.costs, fabs(order), book.prices[asset]) if order != 0.0 else 0.0
            book.waiting[asset] = book.last_targets[asset]


cdef inline double part_of_order(const PortfolioAccount *book, Py_ssize_t asset, double order, double factor, double base,
                                 double quote) noexcept nogil:
    # An order whose purchase or short sale is multiplied; a sale of units held is not.
    cdef double before = book.units[asset]
    cdef double after = before + order
    if order < 0.0 and before > 0.0:
        return rounded_order(before, order - (1.0 - factor) * after, base, quote) if after < 0.0 else order
    return rounded_order(before, factor * order, base, quote)


cdef inline double cash_after_parts(const PortfolioAccount *book, const SharedSettings *settings, int64_t bar, double base,
                                    double factor) noexcept nogil:
    # Cash after these parts of the orders and their costs.
    cdef const double *quotes = &book.quotes[bar * book.n_assets]
    cdef double cash = book.cash
    cdef double order, price
    cdef Py_ssize_t asset
    for asset in range(book.n_assets):
        if book.orders[asset] != 0.0:
            order = part_of_order(book, asset, book.orders[asset], factor, base, quotes[asset])
            if order != 0.0:
                price = fill_price(settings, order, quotes[asset])
                cash = cash - (order * price + order_cost(&settings.costs, fabs(order), price))
    return cash

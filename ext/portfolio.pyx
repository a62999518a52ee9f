"""Portfolio: replay books of target weights, one at a time, assets in column order.

The order of events on a bar:

1. positions in assets whose prices have ended, if they are written off, are closed at 0;
2. at the open, assets that wait since an earlier close are traded (``fill="next_open"``): those with a quote;
3. at the close, borrowed units are paid for and the book is valued;
4. an event at this close makes every asset wait for its new target; with ``fill="close"`` those with a price trade right
   here, none waits any longer, and the book is valued again;
5. a value <= 0 is a bust: all positions are closed, and trading ends.

Arguments are records with attributes: ``prices`` (see ``portfolio.Prices``), ``targets`` (``portfolio.Targets``) and
``settings`` (``portfolio.Settings``).
"""

from libc.math cimport INFINITY, NAN, fabs
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc

from _account cimport N_ARRAYS, replay_bars
from _orders cimport PortfolioAccount, SharedSettings
from _records cimport Fill, TradeSums
from _sums cimport Sums, start_sums
from _trades cimport LANES, start_totals, write_totals

cdef extern from "_positions.h":
    double weights_gross(Py_ssize_t n_assets, const double *weights) nogil

cdef enum:
    CACHE_LINE = 64  # bytes; lanes that begin there are read at once


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
            start_account(&data.book, data, row)
            replay_bars(&data.book, &data.shared, NULL)
            sums[row] = data.book.sums


def replay(prices, targets, settings, Py_ssize_t row, Sums[::1] sums, TradeSums[::1] trade_sums, double[:, ::1] account,
           double[::1] waiting, double[::1] units, Fill[::1] ledger):
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
        Output: sums of completed trades, rows all, long, short, excursions included.
    account : ndarray of float64, shape (3, last - first)
        Output: value, cash and gross value of positions, at each close.
    waiting : ndarray of float64, shape (n_assets,)
        Output: targets that still waited for a price when the bars ended; NaN of assets that did not.
    units : ndarray of float64, shape (n_assets,)
        Output: units held when the bars ended.
    ledger : ndarray of FILL
        Output; room for every fill (``sums["n_fills"]``), or empty.

    Returns
    -------
    n_fills, decision_bar : int
        Orders executed, positions written off included; the bar whose close decided what is still waiting, -1 if none did.
    """
    cdef Data data = Data(prices, targets, settings)
    cdef PortfolioAccount *book = &data.book
    cdef Py_ssize_t each
    with nogil:
        start_account(book, data, row)
        book.tracks_positions = True
        if ledger.shape[0]:
            book.ledger = &ledger[0]
        replay_bars(book, &data.shared, &account[0, 0])
        sums[0] = book.sums
        write_totals(&book.totals, &trade_sums[0])
        for each in range(book.n_assets):
            waiting[each], units[each] = book.waiting[each], book.units[each]
    return book.n_fills, book.decision_bar


def are_prices(const double[:, ::1] values, double least, double most):
    """Whether every value is a price: ``least`` to ``most``.

    Parameters
    ----------
    values : ndarray of float64, shape (n_bars, n_assets)
    least, most : float
    """
    cdef Py_ssize_t at, n = values.shape[0] * values.shape[1]
    cdef const double *value = &values[0, 0]
    cdef int64_t is_other = 0
    with nogil:
        for at in range(n):
            is_other |= not (value[at] >= least and value[at] <= most)
    return is_other == 0


def find_events(const double[:, ::1] weights, int64_t[::1] bars, double max_gross):
    """Rows that are events: all weights finite.  All weights of any other row have to be NaN.

    Parameters
    ----------
    weights : ndarray of float64, shape (n_bars, n_assets)
    bars : ndarray of int64, shape (n_bars,)
        Output: the rows, ascending.
    max_gross : float
        Limit of the sum of absolute weights of an event.

    Returns
    -------
    n_events, row, heavy : int
        Number of events; the first row that is neither, or -1; the first event above ``max_gross``, or -1.
    """
    cdef Py_ssize_t row, asset, n_assets = weights.shape[1], n_events = 0, wrong = -1, heavy = -1
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
                if heavy < 0 and n_assets and weights_gross(n_assets, &weights[row, 0]) > max_gross:
                    heavy = row
            elif n_missing < n_assets:
                wrong = row
                break
    return n_events, wrong, heavy


cdef class Data:
    """Typed views of the arguments, and the account of one book."""

    cdef const double[:, ::1] quotes, marks, high, low, weights
    cdef const int64_t[::1] bars, first_event, times, end_bars, end_assets
    cdef SharedSettings shared
    cdef void *memory
    cdef PortfolioAccount book

    def __cinit__(self, prices, targets, settings):
        self.quotes, self.marks, self.high, self.low = prices.quotes, prices.marks, prices.high, prices.low
        self.times, self.end_bars, self.end_assets = prices.times, prices.end_bars, prices.end_assets
        self.weights, self.bars, self.first_event = targets.weights, targets.bars, targets.first_event
        self.shared.costs = settings._asdict()  # by name: a field of CostRule that is missing is an error
        self.shared.first, self.shared.last, self.shared.start_cash = settings.first, settings.last, settings.start_cash
        self.shared.rf_per_bar, self.shared.borrow_per_bar = settings.rf_per_bar, settings.borrow_per_bar
        self.shared.fills_at_close, self.shared.reinvest = settings.fills_at_close, settings.reinvest
        self.shared.reserve_costs = settings.reserve_costs
        self.book.n_assets = self.marks.shape[1]
        self.book.n_lanes = (self.book.n_assets + LANES - 1) // LANES * LANES
        self.memory = malloc(N_ARRAYS * self.book.n_lanes * sizeof(double) + CACHE_LINE)
        if self.memory == NULL:
            raise MemoryError
        self.book.units = <double *>((<size_t>self.memory + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)

    def __dealloc__(self):
        free(self.memory)


cdef void start_account(PortfolioAccount *book, Data data, Py_ssize_t row) noexcept nogil:
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
    book.last_targets = NULL
    book.n_ends, book.next_end = data.end_bars.shape[0], 0
    book.end_bars = &data.end_bars[0] if book.n_ends else NULL
    book.end_assets = &data.end_assets[0] if book.n_ends else NULL
    book.ledger, book.tracks_positions, book.tracked_until = NULL, False, data.shared.first
    book.cash = data.shared.start_cash
    book.waiting, book.entry_price, book.entry_cost = book.units + n, book.units + 2 * n, book.units + 3 * n
    book.borrow_cost, book.mfe, book.mae = book.units + 4 * n, book.units + 5 * n, book.units + 6 * n
    book.entry_bar, book.orders, book.prices = book.units + 7 * n, book.units + 8 * n, book.units + 9 * n
    book.costs, book.seen_price, book.units_before = book.units + 10 * n, book.units + 11 * n, book.units + 12 * n
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
    book.last_value = book.peak = data.shared.start_cash
    start_sums(&book.sums, <double>(data.shared.last - data.shared.first))

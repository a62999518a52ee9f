"""Trades: fills replayed into completed trades and open positions, and their sums.

Per asset: 0 to x opens; same sign and larger averages the entry price; same sign and smaller completes a trade for the
closed part; through zero completes one and opens another.  Bars between fills update a position's best and
worst unrealised profit and its cost of borrowing.

Prices are (n_assets, n_bars), so that one asset's bars lie side by side.  ``open``, ``high`` and ``low`` may be empty,
shape (0, 0): then only closes count.
"""

from libc.stdint cimport int64_t

from _records cimport CLOSE, Fill, Position, Trade, TradeSums
from _trades cimport LANES, N_KEPT, Prices, Totals, add_trade, advance, apply_fill, start_totals, write_totals

#: Sizes that both twins must agree on.
LAYOUT = {"LANES": LANES, "N_KEPT": N_KEPT}


def track(const Fill[::1] ledger, const double[:, ::1] open, const double[:, ::1] high, const double[:, ::1] low,
          const double[:, ::1] close, double borrow_per_bar, const double[::1] carry, double multiplier, int64_t last,
          Position[::1] positions, Trade[::1] trades):
    """Replay a ledger.

    Parameters
    ----------
    ledger : ndarray of FILL, shape (n_fills,)
        In order of execution.
    open, high, low, close : ndarray of float64, shape (n_assets, n_bars)
        ``open``, ``high`` and ``low`` may be (0, 0).
    borrow_per_bar : float
        Cost of a short per bar, as a share of its value at the close.
    carry : ndarray of float64, shape (n_bars,)
        What holding the one asset cost at each close, instead of ``borrow_per_bar``; empty where that holds.
    multiplier : float
        Value of one unit per unit of price.
    last : int
        Bars from here on do not count; open positions are followed up to the close before.
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
            prices = prices_of(open, high, low, close, borrow_per_bar, carry, multiplier, asset)
            if positions[asset].side != 0:
                advance(&positions[asset], &prices, ledger[row].fill_bar, ledger[row].moment)
            n_trades = apply_fill(&positions[asset], &ledger[row], &prices, &trades[0], n_trades)
        for asset in range(positions.shape[0]):
            if positions[asset].side != 0:
                prices = prices_of(open, high, low, close, borrow_per_bar, carry, multiplier, asset)
                advance(&positions[asset], &prices, last - 1, CLOSE)
    return n_trades


def summarise(const Trade[::1] trades, const int64_t[::1] times, TradeSums[::1] sums):
    """Sums of trades: all, long, short.

    Parameters
    ----------
    trades : ndarray of TRADE
        In order of exit.
    times : ndarray of int64, shape (n_bars,)
        Time of each bar in nanoseconds; may be empty.
    sums : ndarray of TRADE_SUMS, shape (3,)
        Output: rows all, long, short.
    """
    cdef Totals totals
    cdef Py_ssize_t index
    with nogil:
        start_totals(&totals, &times[0] if times.shape[0] else NULL)
        for index in range(trades.shape[0]):
            add_trade(&totals, &trades[index])
        write_totals(&totals, &sums[0])


cdef inline Prices prices_of(const double[:, ::1] open, const double[:, ::1] high, const double[:, ::1] low,
                             const double[:, ::1] close, double borrow_per_bar, const double[::1] carry, double multiplier,
                             Py_ssize_t asset) noexcept nogil:
    cdef Prices prices
    prices.open = prices.high = prices.low = NULL
    if open.shape[0]:
        prices.open = &open[asset, 0]
    if high.shape[0]:
        prices.high, prices.low = &high[asset, 0], &low[asset, 0]
    prices.close = &close[asset, 0]
    prices.carry = &carry[0] if carry.shape[0] else NULL
    prices.borrow_per_bar, prices.multiplier = borrow_per_bar, multiplier
    return prices

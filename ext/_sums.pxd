# The sums of a candidate or a book, from which metrics are computed: their initial values, and what a completed
# trade adds to them.  The twin is backtest/_pure/_sums.py.

from libc.math cimport INFINITY, fabs

cdef extern from *:
    """
    /* Slack of the test that avoids the division of a drawdown: more than its rounding error. */
    #define DRAWDOWN_ROUNDING 1e-15
    """
    const double DRAWDOWN_ROUNDING


cdef struct Sums:  # of one candidate or book; SUMS in backtest/metrics.py has the same fields
    double n_returns
    double end_equity
    double sum_return
    double sum_return_2
    double sum_return_3
    double sum_return_4
    double sum_gain
    double sum_loss
    double sum_downside_2
    double max_drawdown
    double bars_held
    double traded_value
    double costs
    double written_off
    double n_fills
    double n_trades
    double n_winners
    double won
    double lost
    double net_profit
    double largest_profit
    double sum_trade_return
    double sum_trade_return_2
    double best_trade
    double worst_trade
    double n_ambiguous


cdef inline void start_sums(Sums *sums, double n_returns) noexcept nogil:
    """Initial sums: 0, and infinite extremes that any trade replaces."""
    sums[0] = Sums(
        n_returns=n_returns, end_equity=0.0, sum_return=0.0, sum_return_2=0.0, sum_return_3=0.0, sum_return_4=0.0, sum_gain=0.0,
        sum_loss=0.0, sum_downside_2=0.0, max_drawdown=0.0, bars_held=0.0, traded_value=0.0, costs=0.0, written_off=0.0,
        n_fills=0.0, n_trades=0.0, n_winners=0.0, won=0.0, lost=0.0, net_profit=0.0, largest_profit=-INFINITY,
        sum_trade_return=0.0, sum_trade_return_2=0.0, best_trade=-INFINITY, worst_trade=INFINITY, n_ambiguous=0.0)


cdef inline void add_trade_to_sums(Sums *sums, double net, double result) noexcept nogil:
    """Add a completed trade: its net profit, and that as a share of its entry value.

    Without branches: whether a trade wins cannot be predicted.
    """
    sums.n_trades += 1.0
    sums.net_profit += net
    sums.n_winners += <double>(net > 0.0)
    sums.won += 0.5 * (fabs(net) + net)
    sums.lost += 0.5 * (fabs(net) - net)
    sums.largest_profit = net if net > sums.largest_profit else sums.largest_profit
    sums.sum_trade_return += result
    sums.sum_trade_return_2 += result * result
    sums.best_trade = result if result > sums.best_trade else sums.best_trade
    sums.worst_trade = result if result < sums.worst_trade else sums.worst_trade


cdef inline void update_drawdown(Sums *sums, double equity, double peak) noexcept nogil:
    """Lower the maximum drawdown to equity / peak - 1 if that is a new low; divides only where it may be."""
    cdef double fall
    if equity < (sums.max_drawdown + 1.0 + DRAWDOWN_ROUNDING) * peak:
        fall = equity / peak - 1.0
        sums.max_drawdown = fall if fall < sums.max_drawdown else sums.max_drawdown

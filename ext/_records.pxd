# Records that kernels share; Sums is in _sums.pxd.  Every field is 8 bytes, so layout and packing agree everywhere with the NumPy
# dtypes of the same names in backtest/records.py.  The tests compare names and order.

from libc.stdint cimport int64_t

cdef struct Fill:  # one executed order
    int64_t decision_bar  # bar at whose close it was decided
    int64_t fill_bar
    int64_t moment        # of the fill inside its bar: OPEN, INSIDE, CLOSE
    int64_t asset
    double units          # signed: bought > 0
    double price          # slippage included
    double value          # units * price
    double cost
    double cash_before
    double cash_after
    double position_before
    double position_after
    int64_t reason        # of a closing fill; index of REASONS
    int64_t ambiguous     # 1: stop and target touched in one bar, in unknown order
    double stop           # levels of an opening fill, NaN if off
    double target
    double trail          # level of the trail at a closing fill, NaN if off
    double equity         # before an opening fill
    double written_off    # negative equity written off at a bust

cdef struct Trade:  # one completed (part of a) position
    int64_t asset
    int64_t side          # 1 long, -1 short
    int64_t decision_bar
    int64_t entry_bar
    int64_t exit_bar
    double units          # signed
    double entry_price    # average
    double exit_price
    double stop
    double target
    double trail          # at the exit
    double entry_value    # |units| * entry price
    double entry_cost
    double exit_cost
    double borrow_cost
    double gross_profit
    double net_profit
    double return_        # net profit / entry value
    double mfe            # best and worst gross profit while held, exit included
    double mae
    int64_t is_uncertain  # 1: the exit bar's extremes may have come before or after the exit
    int64_t reason
    int64_t ambiguous
    double equity         # at entry
    double written_off

cdef struct Position:  # one open position of the trades kernel
    int64_t side          # 0: none
    int64_t decision_bar
    int64_t entry_bar
    int64_t bar           # prices are accounted for up to this bar
    int64_t moment        # and up to this moment of it
    double units
    double price          # average entry price
    double entry_cost
    double borrow_cost
    double mfe
    double mae
    double stop
    double target
    double equity

cdef struct TradeSums:  # of the trades of one side
    double n_trades
    double n_winners
    double n_losers
    double costs
    double net_profit
    double won
    double lost
    double largest_profit
    double largest_loss
    double sum_return
    double sum_return_2
    double sum_mfe
    double sum_mae
    double sum_bars_held
    double min_bars_held
    double max_bars_held
    double longest_winning_streak
    double longest_losing_streak
    double n_ambiguous
    double written_off
    double sum_days_held  # 0 without dates, as the next two
    double min_days_held
    double max_days_held

cdef enum:
    # Moments of a bar.  START is before its open: held since an earlier bar.
    START = -1
    OPEN = 0
    INSIDE = 1
    CLOSE = 2

cdef enum:
    # REASONS of backtest/trades.py, in this order.
    NONE = 0
    SIGNAL = 1
    REVERSE = 2
    STOP = 3
    TARGET = 4
    TRAIL = 5
    TIME = 6
    END = 7
    BUST = 8
    DELISTED = 9
    LIQUIDATION = 10

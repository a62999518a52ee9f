# Candidates that are either flat or long with all of their equity, on signals alone: by far the most frequent kind.
# The same results as ``replay_bars``, bit for bit, with the account in registers; that saves a third of the time.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t, uint64_t

from _costs cimport CostRule
from _events cimport CASH_TOLERANCE, has_signals_only, next_signal_one_side
from _holding_tables cimport (LANES, MOMENTS_WIDTH, CloseRange, Moments, add_between, add_moments, add_powers, add_shortfall,
                              close_range, worst_fall)
from _records cimport Sums
from _signal_account cimport SharedSettings, SignalAccount
from _sums cimport DRAWDOWN_ROUNDING, add_trade_to_sums, start_sums, update_drawdown

cdef inline bint has_simple_costs(const SharedSettings *settings) noexcept nogil:
    """Whether costs are a share of the traded value and any fraction of a unit can be traded."""
    cdef const CostRule *costs = &settings.costs
    return (costs.fixed == 0.0 and costs.per_unit == 0.0 and costs.minimum == 0.0 and costs.maximum == INFINITY
            and settings.size_is_share and not settings.whole_units and not settings.sized_on_quote)


cdef inline bint is_full_equity_long(const SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    return (not account.has_shorts and account.lines[3] == NULL and account.values[3] == 1.0
            and has_signals_only(account, settings))


cdef inline bint replay_full_equity_long(SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    """Replay the candidate; False, with the account untouched, if it needs the general loop (for example in a bust)."""
    cdef const double *close = account.close
    cdef const double *quotes = account.close if settings.fills_at_close else account.open
    cdef const uint64_t *entries = account.conditions[0]
    cdef const uint64_t *exits = account.conditions[1]
    cdef int64_t fill_delay = 0 if settings.fills_at_close else 1  # bars from a decision to its fill
    cdef int64_t bar = settings.first, last = settings.last, decision, end, n_fills = 0, entry_bar = 0
    cdef double rate = settings.costs.fee_rate, rf = settings.rf_per_bar
    cdef double bought = 1.0 + settings.costs.slippage, sold = 1.0 - settings.exit_slippage
    cdef double shortfall_2 = (0.0 - rf) * (0.0 - rf)
    cdef double cash = account.cash, units = 0.0, equity = account.cash, peak = account.cash
    cdef double price, value, cost, net, lowest, highest
    cdef double entry_price = 0.0, entry_value = 0.0, entry_cost = 0.0
    cdef Moments nothing = account.moments
    cdef Moments moments = nothing, totals
    cdef CloseRange span
    cdef Sums sums  # a local record, so that the compiler keeps it in registers
    start_sums(&sums, <double>(last - bar))
    if fill_delay or next_signal_one_side(entries, exits, bar, last) > bar:
        add_powers(&moments, 0.0, rf)
    else:
        bar -= 1
    while True:
        # Loop invariant: flat, and all bars up to ``bar`` are marked.
        decision = next_signal_one_side(entries, exits, bar + 1 - fill_delay, last)
        end = decision + fill_delay - 1 if decision + fill_delay < last else last - 1
        if end > bar:
            add_shortfall(&moments, <double>(end - bar) * shortfall_2)
        if decision + fill_delay >= last:
            break
        bar = decision + fill_delay
        price = quotes[bar] * bought
        units = cash / (price * (1.0 + rate))
        if not units > 0.0:
            return False
        entry_price, entry_bar, entry_value = price, bar, units * price
        entry_cost = rate * entry_value
        cash = cash - entry_value - entry_cost
        sums.traded_value += entry_value
        sums.costs += entry_cost
        n_fills += 1
        value = cash + units * close[bar]
        if value <= 0.0:
            return False
        add_powers(&moments, (value - equity) / equity, rf)
        equity = value
        peak = value if value > peak else peak
        update_drawdown(&sums, value, peak)
        # Long with all of the equity.
        decision = next_signal_one_side(exits, entries, bar + 1 - fill_delay, last)
        end = decision + fill_delay - 1 if decision + fill_delay < last else last - 1
        bar += 1
        if end - bar >= LANES:
            if not fabs(cash) <= CASH_TOLERANCE * (units * close[bar]):
                return False
            span = close_range(account.tables, close, bar, end)
            if not fabs(cash) <= CASH_TOLERANCE * (units * span.low):
                return False
            add_between(&moments, account.tables.moments + MOMENTS_WIDTH * end,
                        account.tables.moments + MOMENTS_WIDTH * (bar - 1))
            if span.low < (sums.max_drawdown + 1.0 + DRAWDOWN_ROUNDING) * span.high:
                update_drawdown(&sums, worst_fall(account.tables, close, bar, end), 1.0)
            lowest, highest = cash + units * span.low, cash + units * span.high
            update_drawdown(&sums, lowest, peak)
            peak = highest if highest > peak else peak
            equity = cash + units * close[end]
            bar = end + 1
        elif end >= bar:
            totals = nothing
            while bar <= end:
                value = cash + units * close[bar]
                if value <= 0.0:
                    return False
                add_powers(&totals, (value - equity) / equity, rf)
                equity = value
                peak = value if value > peak else peak
                update_drawdown(&sums, value, peak)
                bar += 1
            add_moments(&moments, &totals)
        if not fill_delay and bar < last and cash + units * close[bar] <= 0.0:
            return False
        if decision + fill_delay >= last:
            break
        price = quotes[bar] * sold
        value = units * price
        cost = rate * value
        cash = cash + value - cost
        net = units * (price - entry_price) - entry_cost - cost
        sums.traded_value += value
        sums.costs += cost
        n_fills += 1
        add_trade_to_sums(&sums, net, net / entry_value)
        sums.bars_held += <double>(bar - entry_bar)
        units = 0.0
        if cash <= 0.0:
            return False
        add_powers(&moments, (cash - equity) / equity, rf)
        equity = cash
        peak = cash if cash > peak else peak
        update_drawdown(&sums, cash, peak)
    account.units, account.entry_bar, account.last_equity, account.n_fills = units, entry_bar, equity, n_fills
    account.moments = moments
    account.sums[0] = sums
    return True

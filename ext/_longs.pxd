# All-in longs on signals alone, the most frequent candidates by far: what ``replay_bars`` does to them, to the last bit, with the
# account in registers and without asking what cannot be.  Measured: memory and questions are a third of the time.

from libc.math cimport INFINITY, fabs
from libc.stdint cimport int64_t, uint64_t

from _book cimport CLOSE_CALL, Book, Rules
from _events cimport NO_CASH, is_plain, next_alone
from _spans cimport LANES, Moments, Range, add_between, add_moments, add_powers, add_shortfall, fall_of, range_of

cdef inline bint has_simple_costs(const Rules *rules) noexcept nogil:
    """Costs are a share of what is traded, and any number of units may be."""
    return (rules.costs.fixed == 0.0 and rules.costs.per_unit == 0.0 and rules.costs.minimum == 0.0
            and rules.costs.maximum == INFINITY and rules.size_is_share and not rules.whole_units and not rules.sized_on_quote)


cdef inline bint is_long(const Book *book, const Rules *rules) noexcept nogil:
    return not book.has_shorts and book.lines[3] == NULL and book.values[3] == 1.0 and is_plain(book, rules)


cdef inline double deeper(double worst, double equity, double peak) noexcept nogil:
    """The worst fall, after equity was this share of its peak; see ``fall_to``."""
    cdef double fall
    if equity < (worst + 1.0 + CLOSE_CALL) * peak:
        fall = equity / peak - 1.0
        worst = fall if fall < worst else worst
    return worst


cdef inline bint replay_long(Book *book, const Rules *rules) noexcept nogil:
    """Replay it, unless it turns out not to be for a straight line: then False, and nothing has happened."""
    cdef const double *close = book.close
    cdef const double *quotes = book.close if rules.fills_at_close else book.open
    cdef const uint64_t *entries = book.conditions[0]
    cdef const uint64_t *exits = book.conditions[1]
    cdef int64_t later = 0 if rules.fills_at_close else 1  # a fill comes so many bars after its decision
    cdef int64_t bar = rules.first, last = rules.last, decision, end, n_fills = 0, entry_bar = 0
    cdef double rate = rules.costs.fee_rate, rf = rules.rf_per_bar
    cdef double bought = 1.0 + rules.costs.slippage, sold = 1.0 - rules.exit_slippage
    cdef double shortfall_2 = (0.0 - rf) * (0.0 - rf)
    cdef double cash = book.cash, units = 0.0, equity = book.cash, peak = book.cash, worst = 0.0
    cdef double price, value, cost, net, result, lowest, highest
    cdef double entry_price = 0.0, entry_value = 0.0, entry_cost = 0.0
    cdef double traded = 0.0, costs = 0.0, bars_held = 0.0, n_trades = 0.0, n_winners = 0.0, won = 0.0, lost = 0.0
    cdef double profit = 0.0, returns = 0.0, returns_2 = 0.0, largest = -INFINITY, best = -INFINITY, least = INFINITY
    cdef Moments nothing = book.moments
    cdef Moments moments = nothing, totals
    cdef Range span
    if later or next_alone(entries, exits, bar, last) > bar:
        add_powers(&moments, 0.0, rf)
    else:
        bar -= 1
    while True:
        # Nothing is held, and all bars up to this one are marked.
        decision = next_alone(entries, exits, bar + 1 - later, last)
        end = decision + later - 1 if decision + later < last else last - 1
        if end > bar:
            add_shortfall(&moments, <double>(end - bar) * shortfall_2)
        if decision + later >= last:
            break
        bar = decision + later
        price = quotes[bar] * bought
        units = cash / (price * (1.0 + rate))
        if not units > 0.0:
            return False
        entry_price, entry_bar, entry_value = price, bar, units * price
        entry_cost = rate * entry_value
        cash = cash - entry_value - entry_cost
        traded += entry_value
        costs += entry_cost
        n_fills += 1
        value = cash + units * close[bar]
        if value <= 0.0:
            return False
        add_powers(&moments, (value - equity) / equity, rf)
        equity = value
        peak = value if value > peak else peak
        worst = deeper(worst, value, peak)
        # All is held.
        decision = next_alone(exits, entries, bar + 1 - later, last)
        end = decision + later - 1 if decision + later < last else last - 1
        bar += 1
        if end - bar >= LANES:
            if not fabs(cash) <= NO_CASH * (units * close[bar]):
                return False
            span = range_of(book.spans, close, bar, end)
            if not fabs(cash) <= NO_CASH * (units * span.low):
                return False
            add_between(&moments, book.spans.moments + 16 * end, book.spans.moments + 16 * (bar - 1))
            if span.low < (worst + 1.0 + CLOSE_CALL) * span.high:
                worst = deeper(worst, fall_of(book.spans, close, bar, end), 1.0)
            lowest, highest = cash + units * span.low, cash + units * span.high
            worst = deeper(worst, lowest, peak)
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
                worst = deeper(worst, value, peak)
                bar += 1
            add_moments(&moments, &totals)
        if not later and bar < last and cash + units * close[bar] <= 0.0:
            return False
        if decision + later >= last:
            break
        price = quotes[bar] * sold
        value = units * price
        cost = rate * value
        cash = cash + value - cost
        net = units * (price - entry_price) - entry_cost - cost
        result = net / entry_value
        traded += value
        costs += cost
        n_fills += 1
        n_trades += 1.0
        profit += net
        # Without branches: nobody can predict which trades win.
        n_winners += <double>(net > 0.0)
        won += 0.5 * (fabs(net) + net)
        lost += 0.5 * (fabs(net) - net)
        largest = net if net > largest else largest
        returns += result
        returns_2 += result * result
        best = result if result > best else best
        least = result if result < least else least
        bars_held += <double>(bar - entry_bar)
        units = 0.0
        if cash <= 0.0:
            return False
        add_powers(&moments, (cash - equity) / equity, rf)
        equity = cash
        peak = cash if cash > peak else peak
        worst = deeper(worst, cash, peak)
    book.units, book.entry_bar, book.last_equity, book.moments, book.n_fills = units, entry_bar, equity, moments, n_fills
    book.sums.max_drawdown, book.sums.bars_held, book.sums.traded_value, book.sums.costs = worst, bars_held, traded, costs
    book.sums.n_trades, book.sums.n_winners, book.sums.won, book.sums.lost = n_trades, n_winners, won, lost
    book.sums.net_profit, book.sums.largest_profit = profit, largest
    book.sums.sum_trade_return, book.sums.sum_trade_return_2 = returns, returns_2
    book.sums.best_trade, book.sums.worst_trade = best, least
    return True

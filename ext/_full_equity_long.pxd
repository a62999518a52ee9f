# Candidates that are either flat or long with all of their equity, on signals alone: by far the most frequent kind.
# They run replay_signals_only on a local copy of the account, with their common settings as constants: the compiler keeps the
# account in registers and drops the branches that cannot be taken.

from libc.math cimport INFINITY, NAN

from _costs cimport CostRule
from _bar_events cimport has_signals_only, replay_signals_only
from _signal_account cimport SharedSettings, SignalAccount
from _sums cimport Sums, start_sums


cdef inline bint has_simple_costs(const SharedSettings *settings) noexcept nogil:
    """Whether costs are a share of the traded value and any fraction of a unit can be traded."""
    cdef const CostRule *costs = &settings.costs
    return (costs.fixed == 0.0 and costs.per_unit == 0.0 and costs.minimum == 0.0 and costs.maximum == INFINITY
            and settings.size_is_share and not settings.whole_units and not settings.sized_on_quote)


cdef inline bint is_full_equity_long(const SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    return (not account.has_shorts and account.lines[3] == NULL and account.values[3] == 1.0
            and has_signals_only(account, settings))


cdef inline bint replay_full_equity_long(SignalAccount *account, const SharedSettings *settings) noexcept nogil:
    """Replay the candidate; False, with the account untouched, if equity is gone while nothing trades."""
    cdef SignalAccount local = account[0]
    cdef SharedSettings shared = settings[0]
    cdef Sums sums
    local.sums = &sums
    start_sums(&sums, <double>(settings.last - settings.first))
    # What is_full_equity_long and has_simple_costs have found, as constants.
    local.has_longs, local.has_shorts, local.max_bars = True, False, 0
    local.lines[0] = local.lines[1] = local.lines[2] = local.lines[3] = NULL
    local.values[0] = local.values[1] = local.values[2] = NAN
    local.values[3] = 1.0
    local.ledger = NULL
    local.equity = local.position = NULL
    local.unaffordable = NULL
    shared.costs.fixed = shared.costs.per_unit = shared.costs.minimum = shared.borrow_per_bar = 0.0
    shared.costs.maximum = INFINITY
    shared.size_is_share = True
    shared.whole_units = shared.sized_on_quote = shared.levels_from_decision = shared.close_at_end = False
    if replay_signals_only(&local, &shared) < settings.last:
        return False
    account.units, account.entry_bar, account.n_fills = local.units, local.entry_bar, local.n_fills
    account.last_equity, account.moments = local.last_equity, local.moments
    account.sums[0] = sums
    return True

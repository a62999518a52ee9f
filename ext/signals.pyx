"""Signals: replay candidates one at a time, from event to event.

The order of events on a bar (``step``):

1. what the previous close decided fills at the open (``fill="next_open"``);
2. a position opened before this bar whose level lies beyond the open exits at the open;
3. high and low against the levels;
4. the close: borrowed units are paid for, equity is marked, the conditions decide; with ``fill="close"`` that fills here.

Between two events nothing fills, so only equity is marked (``skip``): a long position that is all of the equity takes the
sums of its returns from the tables of :func:`measure`; any other position is marked bar by bar, in lanes.

Arguments are records with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``tables`` (filled by
:func:`measure`, see ``signals.HoldingTables``), ``candidates`` (the conditions and numbers of each candidate, see
``CandidateTable``) and ``settings`` (the same for all candidates, see ``signals.Settings``).
"""

from libc.math cimport NAN
from libc.stdint cimport int64_t, uint64_t

from _bar_events cimport finish_sums, has_signals_only, replay_bars, replay_signals_only
from _full_equity_long cimport has_simple_costs, is_full_equity_long, replay_full_equity_long
from _holding_tables cimport (LANES, MOMENTS, MOMENTS_WIDTH, RANGE_WIDTH, SEGMENT, CloseRange, HoldingTables, measure_moments,
                              measure_ranges, moments_of)
from _records cimport NONE, Fill
from _signal_account cimport N_CONDITIONS, N_NUMBERS, SharedSettings, SignalAccount
from _sums cimport Sums, start_sums

#: Sizes that the callers and both twins must agree on.
LAYOUT = {
    "segment_bars": SEGMENT, "lanes": LANES, "moments": MOMENTS, "moments_width": MOMENTS_WIDTH, "range_width": RANGE_WIDTH,
    "conditions": N_CONDITIONS, "numbers": N_NUMBERS, "sums": sizeof(Sums) // sizeof(double),
}


def measure(bars, double rf_per_bar, tables):
    """Fill the tables in which holding periods are looked up.

    Parameters
    ----------
    bars
        Record, see the module.
    rf_per_bar : float
        Riskless return per bar; the part of a return below it is downside.
    tables
        Record of output tables, see ``signals.HoldingTables``.
    """
    cdef const double[::1] close = bars.close, low = bars.low, high = bars.high
    cdef double[:, ::1] moments = tables.moments
    cdef double[:, ::1] since = tables.since_segment_start, until = tables.until_segment_end
    cdef double[:, :, ::1] runs = tables.segment_runs
    cdef double[::1] lows = tables.segment_lows, highs = tables.segment_highs
    with nogil:
        measure_moments(&close[0], close.shape[0], rf_per_bar, &moments[0, 0])
        measure_ranges(&close[0], &low[0], &high[0], close.shape[0], lows.shape[0], runs.shape[0], <CloseRange *>&since[0, 0],
                       <CloseRange *>&until[0, 0], <CloseRange *>&runs[0, 0, 0], &lows[0], &highs[0])


def evaluate(bars, tables, candidates, settings, Py_ssize_t start, Py_ssize_t stop, Sums[::1] sums):
    """Replay candidates ``start <= row < stop`` and fill their rows of ``sums``.

    Parameters
    ----------
    bars, tables, candidates, settings
        Records, see the module.
    start, stop : int
        Rows of the batch.
    sums : ndarray of SUMS, shape (n_candidates,)
        Output.
    """
    cdef Data data = Data(bars, tables, candidates, settings)
    cdef SignalAccount account
    cdef int64_t bar
    cdef Py_ssize_t row
    cdef bint are_simple = has_simple_costs(&data.settings)
    with nogil:
        for row in range(start, stop):
            start_account(&account, data, row, &sums[row])
            if (are_simple and is_full_equity_long(&account, &data.settings)
                    and replay_full_equity_long(&account, &data.settings)):
                pass
            else:
                bar = data.settings.first
                if has_signals_only(&account, &data.settings):
                    bar = replay_signals_only(&account, &data.settings)
                replay_bars(&account, &data.settings, bar)
            finish_sums(&account, &data.settings)


def replay(bars, tables, candidates, settings, Py_ssize_t row, Sums[::1] sums, Fill[::1] ledger, double[::1] equity,
           double[::1] units, int64_t[::1] unaffordable):
    """Replay one candidate and record its fills and its equity.

    Parameters
    ----------
    bars, tables, candidates, settings
        Records, see the module.
    row : int
        Row of the batch.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    ledger : ndarray of FILL
        Output; at least ``sums["n_fills"]`` of ``evaluate`` rows.
    equity, units : ndarray of float64, shape (last - first,)
        Output: equity and position at each close.
    unaffordable : ndarray of int64, shape (last - first,)
        Zeros; on return 1 or -1 at the close of each decision to enter that the account could not pay for.

    Returns
    -------
    n_fills, unfilled_exit, unfilled_entry : int
        Rows written to the ledger; reason and side of the last close's decision, which no bar is left to fill.
    """
    cdef Data data = Data(bars, tables, candidates, settings)
    cdef SignalAccount account
    cdef Fill nowhere  # an empty ledger has no first row, and nothing will be written
    with nogil:
        start_account(&account, data, row, &sums[0])
        account.ledger = &ledger[0] if ledger.shape[0] else &nowhere
        account.equity, account.position, account.unaffordable = &equity[0], &units[0], &unaffordable[0]
        replay_bars(&account, &data.settings, data.settings.first)
        finish_sums(&account, &data.settings)
    return account.n_fills, account.exit_reason, account.entry_side


cdef class Data:
    """The typed views and structs of a call's arguments."""

    cdef const double[::1] open, high, low, close, segment_lows, segment_highs
    cdef const double[:, ::1] moments, since_segment_start, until_segment_end
    cdef const double[:, :, ::1] segment_runs
    cdef const uint64_t[:, ::1] masks
    cdef const int64_t[:, ::1] mask_rows, line_rows
    cdef const double[:, ::1] lines, values
    cdef const int64_t[::1] max_bars
    cdef HoldingTables tables
    cdef SharedSettings settings

    def __cinit__(self, bars, tables, candidates, settings):
        self.open, self.high, self.low, self.close = bars.open, bars.high, bars.low, bars.close
        self.moments, self.since_segment_start = tables.moments, tables.since_segment_start
        self.until_segment_end = tables.until_segment_end
        self.segment_runs, self.segment_lows, self.segment_highs = tables.segment_runs, tables.segment_lows, tables.segment_highs
        self.tables.moments, self.tables.segment_runs = &self.moments[0, 0], <const CloseRange *>&self.segment_runs[0, 0, 0]
        self.tables.since_segment_start = <const CloseRange *>&self.since_segment_start[0, 0]
        self.tables.until_segment_end = <const CloseRange *>&self.until_segment_end[0, 0]
        self.tables.segment_lows, self.tables.segment_highs = &self.segment_lows[0], &self.segment_highs[0]
        self.tables.n_segments = self.segment_lows.shape[0]
        self.masks, self.mask_rows = candidates.masks, candidates.mask_rows
        self.lines, self.line_rows = candidates.lines, candidates.line_rows
        self.values, self.max_bars = candidates.values, candidates.max_bars
        fields = settings._asdict()
        fields["costs"] = fields  # the costs are a struct inside the struct
        fields["touch_above"], fields["touch_below"] = 1.0 + settings.touch_tolerance, 1.0 - settings.touch_tolerance
        self.settings = fields  # by name: a struct's field that is missing is an error


cdef void start_account(SignalAccount *account, Data data, Py_ssize_t row, Sums *sums) noexcept nogil:
    cdef int which
    cdef int64_t at
    cdef int64_t never = data.masks.shape[0] - 1
    cdef double none[8]
    account.has_longs = data.mask_rows[row, 0] >= 0
    account.has_shorts = data.mask_rows[row, 2] >= 0
    account.open, account.high, account.low, account.close = &data.open[0], &data.high[0], &data.low[0], &data.close[0]
    account.tables = &data.tables
    for which in range(N_CONDITIONS):
        at = data.mask_rows[row, which]
        account.conditions[which] = &data.masks[at if at >= 0 else never, 0]
    for which in range(N_NUMBERS):
        at = data.line_rows[row, which]
        account.lines[which] = &data.lines[at, 0] if at >= 0 else NULL
        account.values[which] = data.values[row, which]
    account.max_bars = data.max_bars[row]
    account.ledger = NULL
    account.equity = account.position = NULL
    account.unaffordable = NULL
    account.cash = data.settings.start_cash
    account.units = 0.0
    account.entry_price = account.entry_value = account.entry_cost = account.borrow_cost = 0.0
    account.stop = account.target = account.trail = NAN
    account.has_levels = False
    account.level_base = 0.0
    account.entry_bar = account.closes_held = 0
    account.exit_reason, account.entry_side, account.decision_bar = NONE, 0, -1
    account.is_bust = False
    account.n_fills = 0
    account.last_equity = account.peak = data.settings.start_cash
    for which in range(8):
        none[which] = 0.0
    account.moments = moments_of(none)
    account.sums = sums
    start_sums(sums, <double>(data.settings.last - data.settings.first))

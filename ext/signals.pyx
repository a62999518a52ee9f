"""Signals: one candidate at a time, from event to event.

The order of events on a bar, once and for all (``step``):

1. what the previous close decided fills at the open (``fill="next_open"``);
2. a position opened before this bar whose level lies beyond the open exits at the open;
3. high and low against the levels;
4. the close: borrowed units are paid for, equity is marked, the conditions decide; with ``fill="close"`` that fills here.

Between two events nothing fills, so nothing but the marks has to be added up (``skip``): a position that is all there
is takes the sums of its returns from the tables of :func:`measure`, any other one is walked through, in lanes.

Every argument is a record with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``spans`` (what
:func:`measure` fills, see ``signals.Spans``), ``program`` (what the candidates do, see ``signals.Program``) and
``settings`` (what they share, see ``signals.Settings``).
"""

from libc.math cimport INFINITY, NAN
from libc.stdint cimport int64_t, uint64_t

from _book cimport Book, Rules
from _events cimport add_up, is_plain, replay_bars, replay_plain
from _longs cimport has_simple_costs, is_long, replay_long
from _records cimport NONE, Fill, Sums
from _spans cimport Range, SpanTables, measure_moments, measure_ranges, moments_of


def measure(bars, double rf_per_bar, spans):
    """Fill the tables that spans of bars are looked up in.

    Parameters
    ----------
    bars
        Record, see the module.
    rf_per_bar : float
        Riskless return of a bar; what falls short of it is downside.
    spans
        Record of output tables, see ``signals.Spans``.
    """
    cdef const double[::1] close = bars.close, low = bars.low, high = bars.high
    cdef double[:, ::1] moments = spans.moments, to_here = spans.to_here, from_here = spans.from_here
    cdef double[:, :, ::1] blocks = spans.blocks
    cdef double[::1] lows = spans.lows, highs = spans.highs
    with nogil:
        measure_moments(&close[0], close.shape[0], rf_per_bar, &moments[0, 0])
        measure_ranges(&close[0], &low[0], &high[0], close.shape[0], lows.shape[0], blocks.shape[0], <Range *>&to_here[0, 0],
                       <Range *>&from_here[0, 0], <Range *>&blocks[0, 0, 0], &lows[0], &highs[0])


def evaluate(bars, spans, program, settings, Py_ssize_t start, Py_ssize_t stop, Sums[::1] sums):
    """Replay candidates ``start <= row < stop`` and fill their rows of ``sums``.

    Parameters
    ----------
    bars, spans, program, settings
        Records, see the module.
    start, stop : int
        Rows of the batch.
    sums : ndarray of SUMS, shape (n_candidates,)
        Output.
    """
    cdef Data data = Data(bars, spans, program, settings)
    cdef Book book
    cdef Py_ssize_t row
    cdef bint are_simple = has_simple_costs(&data.rules)
    with nogil:
        for row in range(start, stop):
            open_book(&book, data, row, &sums[row])
            if not (are_simple and is_long(&book, &data.rules) and replay_long(&book, &data.rules)):
                if is_plain(&book, &data.rules):
                    replay_plain(&book, &data.rules)
                else:
                    replay_bars(&book, &data.rules, data.rules.first)
            add_up(&book, &data.rules)


def replay(bars, spans, program, settings, Py_ssize_t row, Sums[::1] sums, Fill[::1] ledger, double[::1] equity,
           double[::1] units, int64_t[::1] unaffordable):
    """Replay one candidate and record what it did.

    Parameters
    ----------
    bars, spans, program, settings
        Records, see the module.
    row : int
        Row of the batch.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    ledger : ndarray of FILL
        Output; room for every fill (``sums["n_fills"]`` of ``evaluate``).
    equity, units : ndarray of float64, shape (last - first,)
        Output: equity and position at each close.
    unaffordable : ndarray of int64, shape (last - first,)
        Zeros; on return the side of each close's decision to enter that the account could not pay for.

    Returns
    -------
    n_fills, unfilled_exit, unfilled_entry : int
        Rows written to the ledger; reason and side of a decision on the last bar that did not fill.
    """
    cdef Data data = Data(bars, spans, program, settings)
    cdef Book book
    cdef Fill nowhere  # an empty ledger has no first row, and nothing will be written
    with nogil:
        open_book(&book, data, row, &sums[0])
        book.ledger = &ledger[0] if ledger.shape[0] else &nowhere
        book.equity, book.position, book.unaffordable = &equity[0], &units[0], &unaffordable[0]
        replay_bars(&book, &data.rules, data.rules.first)
        add_up(&book, &data.rules)
    return book.n_fills, book.exit_reason, book.entry_side


cdef class Data:
    """The arguments, typed."""

    cdef const double[::1] open, high, low, close, lows, highs
    cdef const double[:, ::1] moments, to_here, from_here
    cdef const double[:, :, ::1] blocks
    cdef const uint64_t[:, ::1] masks
    cdef const int64_t[:, ::1] mask_rows, line_rows
    cdef const double[:, ::1] lines, values
    cdef const int64_t[::1] max_bars
    cdef SpanTables spans
    cdef Rules rules

    def __cinit__(self, bars, spans, program, settings):
        self.open, self.high, self.low, self.close = bars.open, bars.high, bars.low, bars.close
        self.moments, self.to_here, self.from_here = spans.moments, spans.to_here, spans.from_here
        self.blocks, self.lows, self.highs = spans.blocks, spans.lows, spans.highs
        self.spans.moments, self.spans.blocks = &self.moments[0, 0], <const Range *>&self.blocks[0, 0, 0]
        self.spans.to_here, self.spans.from_here = <const Range *>&self.to_here[0, 0], <const Range *>&self.from_here[0, 0]
        self.spans.lows, self.spans.highs, self.spans.n_blocks = &self.lows[0], &self.highs[0], self.lows.shape[0]
        self.masks, self.mask_rows = program.masks, program.mask_rows
        self.lines, self.line_rows = program.lines, program.line_rows
        self.values, self.max_bars = program.values, program.max_bars
        self.rules.costs.fee_rate, self.rules.costs.slippage = settings.fee_rate, settings.slippage
        self.rules.costs.fixed, self.rules.costs.per_unit = settings.fixed, settings.per_unit
        self.rules.costs.minimum, self.rules.costs.maximum = settings.minimum, settings.maximum
        self.rules.first, self.rules.last, self.rules.cash = settings.first, settings.last, settings.cash
        self.rules.rf_per_bar, self.rules.borrow_per_bar = settings.rf_per_bar, settings.borrow_per_bar
        self.rules.fills_at_close, self.rules.is_pessimistic = settings.fills_at_close, settings.is_pessimistic
        self.rules.close_at_end, self.rules.whole_units = settings.close_at_end, settings.whole_units
        self.rules.size_is_share = settings.size_is_share
        self.rules.exit_slippage, self.rules.stop_slippage = settings.exit_slippage, settings.stop_slippage
        self.rules.sized_on_quote, self.rules.levels_from_decision = settings.sized_on_quote, settings.levels_from_decision
        self.rules.trail_from_extremes, self.rules.stop_beats_gap = settings.trail_from_extremes, settings.stop_beats_gap
        self.rules.above, self.rules.below = 1.0 + settings.touch_tolerance, 1.0 - settings.touch_tolerance
        self.rules.ends_at_open = settings.ends_at_open


cdef void open_book(Book *book, Data data, Py_ssize_t row, Sums *sums) noexcept nogil:
    cdef int which
    cdef int64_t at
    cdef int64_t never = data.masks.shape[0] - 1
    cdef double none[8]
    book.has_longs = data.mask_rows[row, 0] >= 0
    book.has_shorts = data.mask_rows[row, 2] >= 0
    book.open, book.high, book.low, book.close = &data.open[0], &data.high[0], &data.low[0], &data.close[0]
    book.spans = &data.spans
    for which in range(4):
        at = data.mask_rows[row, which]
        book.conditions[which] = &data.masks[at if at >= 0 else never, 0]
        at = data.line_rows[row, which]
        book.lines[which] = &data.lines[at, 0] if at >= 0 else NULL
        book.values[which] = data.values[row, which]
    book.max_bars = data.max_bars[row]
    book.ledger = NULL
    book.equity = book.position = NULL
    book.unaffordable = NULL
    book.cash = data.rules.cash
    book.units = 0.0
    book.entry_price = book.entry_value = book.entry_cost = book.borrow_cost = 0.0
    book.stop = book.target = book.trail = NAN
    book.has_levels = False
    book.base = 0.0
    book.entry_bar = book.closes_held = 0
    book.exit_reason, book.entry_side, book.decision_bar = NONE, 0, -1
    book.is_bust = False
    book.n_fills = 0
    book.last_equity = book.peak = data.rules.cash
    for which in range(8):
        none[which] = 0.0
    book.moments = moments_of(none)
    book.sums = sums
    sums[0] = Sums(
        n_returns=data.rules.last - data.rules.first, end_equity=0.0, sum_return=0.0, sum_return_2=0.0, sum_return_3=0.0,
        sum_return_4=0.0, sum_gain=0.0, sum_loss=0.0, sum_downside_2=0.0, max_drawdown=0.0, bars_held=0.0, traded_value=0.0,
        costs=0.0, written_off=0.0, n_fills=0.0, n_trades=0.0, n_winners=0.0, won=0.0, lost=0.0, net_profit=0.0,
        largest_profit=-INFINITY, sum_trade_return=0.0, sum_trade_return_2=0.0, best_trade=-INFINITY, worst_trade=INFINITY,
        n_ambiguous=0.0)

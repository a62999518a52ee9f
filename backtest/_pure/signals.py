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

from __future__ import annotations

from typing import Any

from backtest._pure._book import Book
from backtest._pure._events import replay_bars
from backtest._pure._spans import measure_moments, measure_ranges


def measure(bars: Any, rf_per_bar: float, spans: Any) -> None:
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
    measure_moments(bars.close, rf_per_bar, spans.moments)
    measure_ranges(bars, spans.to_here, spans.from_here, spans.blocks, spans.lows, spans.highs)


def evaluate(bars: Any, spans: Any, program: Any, settings: Any, start: int, stop: int, sums: Any) -> None:
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
    for row in range(start, stop):
        book = Book(bars, spans, program, settings, row)
        replay_bars(book)
        book.write(sums[row])


def replay(
    bars: Any,
    spans: Any,
    program: Any,
    settings: Any,
    row: int,
    sums: Any,
    ledger: Any,
    equity: Any,
    units: Any,
    unaffordable: Any,
) -> tuple[int, int, int]:
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
    book = Book(bars, spans, program, settings, row)
    book.ledger, book.equity, book.position, book.unaffordable = ledger, equity, units, unaffordable
    replay_bars(book)
    book.write(sums[0])
    return book.n_fills, book.exit_reason, book.entry_side

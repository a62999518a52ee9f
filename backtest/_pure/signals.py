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

from __future__ import annotations

from typing import Any

from backtest._pure._bar_events import replay_bars
from backtest._pure._holding_tables import LANES, MOMENTS, MOMENTS_WIDTH, RANGE_WIDTH, SEGMENT, measure_moments, measure_ranges
from backtest._pure._signal_account import N_CONDITIONS, N_NUMBERS, SignalAccount
from backtest._pure._sums import CandidateSums

#: Sizes that the callers and both twins must agree on.
LAYOUT = {
    "segment_bars": SEGMENT,
    "lanes": LANES,
    "moments": MOMENTS,
    "moments_width": MOMENTS_WIDTH,
    "range_width": RANGE_WIDTH,
    "conditions": N_CONDITIONS,
    "numbers": N_NUMBERS,
    "sums": len(CandidateSums(0).names()),
}


def measure(bars: Any, rf_per_bar: float, tables: Any) -> None:
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
    measure_moments(bars.close, rf_per_bar, tables.moments)
    measure_ranges(
        bars, tables.since_segment_start, tables.until_segment_end, tables.segment_runs, tables.segment_lows, tables.segment_highs
    )


def evaluate(bars: Any, tables: Any, candidates: Any, settings: Any, start: int, stop: int, sums: Any) -> None:
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
    for row in range(start, stop):
        account = SignalAccount(bars, tables, candidates, settings, row)
        replay_bars(account)
        account.write(sums[row])


def replay(
    bars: Any,
    tables: Any,
    candidates: Any,
    settings: Any,
    row: int,
    sums: Any,
    ledger: Any,
    equity: Any,
    units: Any,
    unaffordable: Any,
) -> tuple[int, int, int]:
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
    account = SignalAccount(bars, tables, candidates, settings, row)
    account.ledger, account.equity, account.position, account.unaffordable = ledger, equity, units, unaffordable
    replay_bars(account)
    account.write(sums[0])
    return account.n_fills, account.exit_reason, account.entry_side

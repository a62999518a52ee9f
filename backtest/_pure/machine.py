"""The bar machine: candidates of a strategy that decides bar by bar, with orders.

On each bar, for each candidate: what rests or was decided fills between open and close (``open_bar``), the
account is valued at the close (``close_bar``), the function decides, as a register program (``Registers``), and what fills at
the close does (``end_bar``).

Arguments are records with attributes: ``bars`` (open, high, low, close: float64 (n_bars,)), ``program`` (see
``backtest/machine/program.py``), ``candidates`` (``values``, ``lines``, ``line_rows``, ``masks``, ``mask_rows``) and
``settings`` (see ``backtest/machine/evaluator.py``).
"""

from __future__ import annotations

from typing import Any

from backtest._pure._machine_account import MachineAccount, level_or_nan, write
from backtest._pure._machine_bar import close_bar, end_bar, open_bar
from backtest._pure._machine_orders import act
from backtest._pure._machine_program import FIELDS, FLAGS, OPS, Registers
from backtest._pure._sums import CandidateSums

#: Tables that the callers and both twins must agree on.
LAYOUT = {"ops": OPS, "fields": FIELDS, "flags": FLAGS, "sums": len(CandidateSums(0).names()), "lanes": 64}

__all__ = ["LAYOUT", "MachineAccount", "act", "close_bar", "end_bar", "evaluate", "open_bar", "replay", "write"]


def evaluate(bars: Any, program: Any, candidates: Any, settings: Any, start: int, stop: int, sums: Any, faults: Any) -> None:
    """Replay candidates ``start <= row < stop``; fill their rows of ``sums`` and ``faults``.

    Parameters
    ----------
    bars, program, candidates, settings
        Records, see the module.
    start, stop : int
        Rows of the candidates.
    sums : ndarray of SUMS, shape (n_candidates,)
        Output.
    faults : ndarray of FAULT, shape (n_candidates,)
        Zeros; on return the first fault of each candidate, which stops there.
    """
    for row in range(start, stop):
        account = MachineAccount(bars, settings, program)
        _run_bars(account, Registers(program, candidates, row), None)
        write(account, sums[row], faults[row])


def replay(
    bars: Any,
    program: Any,
    candidates: Any,
    settings: Any,
    row: int,
    sums: Any,
    faults: Any,
    ledger: Any,
    equity: Any,
    units: Any,
    carry: Any,
    orders: Any,
    levels: Any,
) -> tuple[int, int]:
    """Replay one candidate and record its fills, orders and equity.

    Parameters
    ----------
    bars, program, candidates, settings
        Records, see the module.
    row : int
        Row of the candidates.
    sums : ndarray of SUMS, shape (1,)
        Output, as of ``evaluate``.
    faults : ndarray of FAULT, shape (1,)
        Output, as of ``evaluate``.
    ledger : ndarray of FILL
        Output; fills beyond its length are counted only.
    equity, units, carry : ndarray of float64, shape (last - first,)
        Output: equity and position at each close, and what was paid there for holding the position (negative: received).
    orders : ndarray of ORDER
        Output, in the order in which they were placed; those beyond its length are counted only.
    levels : ndarray of float64, shape (3,)
        Output: stop, target and trail of the position at the end; NaN is off.

    Returns
    -------
    n_fills, n_orders : int
    """
    account = MachineAccount(bars, settings, program)
    account.ledger, account.orders = ledger, orders
    _run_bars(account, Registers(program, candidates, row), (equity, units, carry))
    write(account, sums[0], faults[0])
    trail = account.trail_level() if account.units != 0.0 else account.trail
    levels[:] = [level_or_nan(level) for level in (account.stop, account.target, trail)]
    return account.n_fills, account.n_orders


def _run_bars(account: MachineAccount, registers: Registers, series: Any) -> None:
    """Process every bar of one candidate; it stops at a fault, and trades no more after a bust."""
    settings, closes = account.settings, account.bars.close
    for bar in range(settings.first, settings.last):
        account.paid = 0.0
        if account.is_bust:
            account.mark(0.0)
            value = 0.0
        else:
            open_bar(account, bar)
            value = close_bar(account, bar)
            if value > 0.0:
                registers.decide(account, float(closes[bar]))
                if account.fault is not None:
                    break
            value = end_bar(account, bar, value)
        if series is not None:
            for values, number in zip(series, (value, account.units, account.paid), strict=True):
                values[bar - settings.first] = number

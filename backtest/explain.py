"""Why a run traded, or did not: what became of each order, by the call or the condition that placed it."""

from __future__ import annotations

import itertools
import os.path
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, instance, listed
from backtest._said import shown
from backtest.candidate_table import CandidateTable
from backtest.expr import Condition
from backtest.pending import candidate_of
from backtest.records import MOMENTS, REASONS
from backtest.rules import CONDITIONS, LEVELS, Strategy
from backtest.runs import Run
from backtest.tables import html_of_rows, of_rows

if TYPE_CHECKING:
    import pandas as pd

Flags = NDArray[np.bool_]

#: Longest text of a call or condition in a printed table.
WIDTH = 130
#: Of call sites that have no order.
NEVER = "no order: its condition was never true"
NO_CALLS = "The function has no call that places orders."
NEVER_HELD = "no order: it was never reached with a position"
#: What ended a position's level, by the name of the level in a strategy.
LEVEL_REASONS = {"stop_loss": "stop", "take_profit": "target", "trailing_stop": "trail"}
#: Why a position was closed that no rule closed.
UNASKED = ("liquidation", "end", "bust")


class Explanation:
    """What became of the orders of a run; see :func:`explain`.

    Attributes
    ----------
    table : DataFrame
        One row for each call site (or condition) and end, with columns ``call``, ``where``, ``end``, ``n``, ``first_bar``,
        ``first_time``, ``last_bar``, ``last_time``: the bars whose closes decided the first and the last of the ``n``.
    """

    def __init__(self, title: str, table: pd.DataFrame) -> None:
        self.title, self.table = title, table

    def __repr__(self) -> str:
        return "\n".join([self.title, *([""] if len(self.table) else []), *_lines(self._rows())])

    def __rich__(self) -> Any:
        return of_rows(self.title, self._columns(), self._rows())

    def _repr_html_(self) -> str:
        return html_of_rows(self.title, self._columns(), self._rows())

    def _columns(self) -> list[str]:
        return ["", "orders or bars", "first", "last"]

    def _rows(self) -> list[Sequence[str]]:
        """Lines for people: a call or condition, and below it what became of it."""
        rows: list[Sequence[str]] = []
        records = self.table.to_dict("records")
        for (call, where), group in itertools.groupby(records, key=lambda row: (row["call"], row["where"])):
            place = f"  [{os.path.basename(where)}]" if where else ""  # the table has the whole path
            rows.append((f"{_short(str(call))}{place}", "", "", ""))
            for row in group:
                is_none = row["n"] == 0
                first, last = ("", "") if is_none else (_moment(row, "first"), _moment(row, "last"))
                rows.append((f"  {row['end']}", "" if is_none else f"{row['n']:,}", first, last))
        return rows or [(NO_CALLS, "", "", "")]


def explain(run: Run) -> Explanation:
    """Why a run traded, or did not.

    Parameters
    ----------
    run : Run
        Of :func:`backtest.run`, or ``result.best`` of :func:`backtest.optimize`.

    Returns
    -------
    Explanation
        Prints as text, and as a table on a console (``rich.print``) and in a notebook; ``.table`` is a DataFrame.  Of a
        function (``@bt.on_bar``): each call that places orders, and how many of these were filled, expired, were replaced,
        cancelled or unaffordable, or are pending.  Of rules: each condition, on how many bars it was true once conflicts are
        resolved, and what became of the decisions; and each level that closed positions.
    """
    if isinstance(run, Mapping) and run:
        raise InputError(f"run must be of one symbol, got {len(run)} ({listed(run)}); write runs[{shown(next(iter(run)))}]")
    instance("run", run, Run)
    rows = _of_rules(run) if isinstance(run.strategy, Strategy) else _of_calls(run)
    return Explanation(f"{run!r}", _table(run, rows))


def _table(run: Run, rows: list[tuple[str, str, str, NDArray[np.int64]]]) -> pd.DataFrame:
    """Rows of call, where, end and the bars that decided, ascending, as a table."""
    import pandas as pd

    times = run._all_times()
    columns: dict[str, Any] = {name: [row[at] for row in rows] for at, name in enumerate(("call", "where", "end"))}
    columns["n"] = [len(row[3]) for row in rows]
    for name, place in (("first", 0), ("last", -1)):
        bars = [int(row[3][place]) if len(row[3]) else -1 for row in rows]
        columns[f"{name}_bar"] = bars
        columns[f"{name}_time"] = times[bars].where(np.array(bars, dtype=np.int64) >= 0)
    return pd.DataFrame(columns)


def _of_calls(run: Run) -> list[tuple[str, str, str, NDArray[np.int64]]]:
    """Orders of a function's run, by call site and end."""
    from backtest.machine.program import BUY, CANCEL_REASONS, CLOSE, ORDER_STATUSES, SELL

    rows, orders = [], run._replay.orders
    assert orders is not None  # functions run on the machine alone
    placing = [
        (action, call)
        for action, call in zip(run.strategy.program().actions, run.strategy.calls, strict=True)
        if action["kind"] in (BUY, SELL, CLOSE)
    ]
    sites = [f"{call.file}:{call.line}" for _, call in placing]
    for at, (action, call) in enumerate(placing):
        its = orders[orders["slot"] == action["slot"]]
        n_same = sites.count(sites[at])  # of an unrolled loop, or of a helper that is called several times
        where = sites[at] if n_same == 1 else f"{sites[at]}, {sites[:at].count(sites[at]) + 1} of {n_same}"
        if not len(its):
            none = NEVER_HELD if action["kind"] == CLOSE else NEVER
            rows.append((call.text, where, none, np.empty(0, dtype=np.int64)))
        for status in (*ORDER_STATUSES[1:], ORDER_STATUSES[0]):
            of_status = its[its["status"] == ORDER_STATUSES.index(status)]
            if status != "cancelled":
                parts = [("pending" if status == "open" else status, of_status)]
            else:
                parts = [(f"cancelled: {why}", of_status[of_status["reason"] == code]) for code, why in enumerate(CANCEL_REASONS)]
            rows += [(call.text, where, end, part["decision_bar"]) for end, part in parts if len(part)]
    return rows


def _of_rules(run: Run) -> list[tuple[str, str, str, NDArray[np.int64]]]:
    """Bars of a rules run, by condition and what became of the decision; fills, by level."""
    evaluator, table = candidate_of(run)
    given = _conditions(run, evaluator.conditions, table)
    true = _resolved(given)
    rows = []
    for name in CONDITIONS:
        condition = getattr(run.strategy, name)
        if name not in given:
            continue
        outcomes = (_entry_outcomes if name.startswith("enter") else _exit_outcomes)(run, name, true)
        outcomes["cancelled by a conflict with another condition"] = given[name] & ~true[name]
        found = [(name, repr(condition), end, run.first + np.flatnonzero(bars)) for end, bars in outcomes.items() if bars.any()]
        rows += found or [(name, repr(condition), "never true", np.empty(0, dtype=np.int64))]
    off = {name: not table.has(at)[0] for at, name in enumerate(LEVELS)} | {"max_bars": table.max_bars[0] == 0}
    fills = run._fills
    for name, reason in {**LEVEL_REASONS, "max_bars": "time"}.items():
        node = getattr(run.strategy, name)
        if node is not None:
            bars = fills["decision_bar"][fills["reason"] == REASONS.index(reason)]
            rows.append((name, repr(node), "filled" if len(bars) else "off" if off[name] else "never filled", bars))
    for reason in UNASKED:
        bars = fills["decision_bar"][fills["reason"] == REASONS.index(reason)]
        rows += [(reason, "", "filled", bars)] if len(bars) else []
    return rows


def _conditions(run: Run, conditions: Sequence[Condition | None], table: CandidateTable) -> dict[str, Flags]:
    """Each traded condition of the candidate, from the first bar to the last."""
    n_bars = len(run.bars)
    return {
        name: np.unpackbits(table.masks[row].view(np.uint8), bitorder="little")[:n_bars].view(np.bool_)[run.first : run.last]
        for name, row, condition in zip(CONDITIONS, table.mask_rows[0], conditions, strict=True)
        if condition is not None
    }


def _resolved(given: dict[str, Flags]) -> dict[str, Flags]:
    """Conditions after conflicts: entry and exit of one side cancel each other, then the two entries do."""
    none = np.zeros_like(next(iter(given.values())))
    enter_long, exit_long, enter_short, exit_short = (given.get(name, none) for name in CONDITIONS)
    enter_long, exit_long = enter_long & ~exit_long, exit_long & ~enter_long
    enter_short, exit_short = enter_short & ~exit_short, exit_short & ~enter_short
    enter_long, enter_short = enter_long & ~enter_short, enter_short & ~enter_long
    return dict(zip(CONDITIONS, (enter_long, exit_long, enter_short, exit_short), strict=True))


def _held_before(run: Run) -> NDArray[np.float64]:
    """Units held at each close before what this close decides is filled."""
    fills, at_close = run._fills, MOMENTS.index("close")
    keys = fills["fill_bar"] * len(MOMENTS) + fills["moment"]
    before = np.searchsorted(keys, np.arange(run.first, run.last) * len(MOMENTS) + at_close, side="left")
    held: NDArray[np.float64] = np.concatenate([[0.0], fills["position_after"]])[before]
    return held


def _entry_outcomes(run: Run, name: str, true: dict[str, Flags]) -> dict[str, Flags]:
    """What became of the decisions to enter: bars by outcome."""
    side, fills, held = (1 if name == "enter_long" else -1), run._fills, _held_before(run)
    of_side = true[name]
    opened = np.zeros(run.last - run.first, dtype=np.bool_)
    opens = (fills["position_before"] == 0) & (np.sign(fills["units"]) == side)
    opened[fills["decision_bar"][opens] - run.first] = True
    rest = run._replay.unexecuted
    is_unpaid = (np.array(rest.status, dtype=object) == "unaffordable") & (np.sign(rest.side) == side)
    unpaid = np.zeros_like(opened)
    unpaid[rest.decision_bar[is_unpaid] - run.first] = True
    by_level = np.zeros_like(opened)
    if run.execution.fill == "close":
        closed = np.isin(fills["reason"], [REASONS.index(reason) for reason in (*LEVEL_REASONS.values(), "liquidation")])
        by_level[fills["fill_bar"][closed] - run.first] = True
    gone = np.zeros_like(opened) | (run._equity <= 0.0)
    outcomes = {
        "filled": opened,
        "unaffordable": unpaid,
        f"ignored: already {'long' if side > 0 else 'short'}": held * side > 0,
        "ignored: a level closed a position on that bar": by_level,
        "ignored: the equity was gone": gone,
    }
    return _disjoint(of_side, outcomes, "pending: no bar was left to fill it")


def _exit_outcomes(run: Run, name: str, true: dict[str, Flags]) -> dict[str, Flags]:
    """What became of the decisions to exit."""
    side, fills, held = (1 if name == "exit_long" else -1), run._fills, _held_before(run)
    closed = np.zeros(run.last - run.first, dtype=np.bool_)
    closes = (fills["reason"] == REASONS.index("signal")) & (np.sign(fills["position_before"]) == side)
    closed[fills["decision_bar"][closes] - run.first] = True
    outcomes = {
        "filled": closed,
        "ignored: the equity was gone": run._equity <= 0.0,
        f"ignored: no {'long' if side > 0 else 'short'} position": held * side <= 0,
        "replaced by the opposite entry on that bar": true["enter_short" if side > 0 else "enter_long"],
    }
    return _disjoint(true[name], outcomes, "pending: no bar was left to fill it")


def _disjoint(true: Flags, outcomes: dict[str, Flags], rest: str) -> dict[str, Flags]:
    """Each bar on which a condition was true under the first outcome that fits, others under ``rest``."""
    left, found = true.copy(), {}
    for name, bars in outcomes.items():
        found[name] = left & bars
        left &= ~bars
    return found | {rest: left}


def _moment(row: dict[Any, Any], name: str) -> str:
    """When the first or last of a row was decided: its time, or its bar where bars have no times."""
    time = row[f"{name}_time"]
    return f"bar {row[f'{name}_bar']:,}" if isinstance(time, (int, float)) else str(time).removesuffix(" 00:00:00")


def _short(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 3]}..."


def _lines(rows: list[Sequence[str]]) -> list[str]:
    """Rows as lines of text with aligned columns."""
    widths = [max((len(row[at]) for row in rows if row[1]), default=0) for at in range(4)]
    return [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:<{widths[2]}}  {row[3]}".rstrip() if row[1] else row[0]
        for row in rows
    ]

"""Lowering: a rules strategy as a program of the bar machine, over the tables that the event engine reads.

Conditions are mask inputs; levels, size and time exit are parameters, or line inputs where they change from bar to bar.  What
conflicts and what is decided is that of ``_pure/_signal_account.py``, so both engines trade alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest.candidate_table import SAMPLED, CandidateTable
from backtest.costs import Execution
from backtest.expr import Condition, Param, Value
from backtest.machine.candidates import Candidates
from backtest.machine.program import (
    ACTION,
    BUY,
    CLOSE,
    FIELDS,
    FLAGS,
    LEVEL_KINDS,
    OPERANDS,
    OPS,
    ORDER_STATUSES,
    SELL,
    SIZE_KINDS,
    TRAIL_KINDS,
    Program,
)
from backtest.records import REASONS, Unexecuted
from backtest.rules import CONDITIONS

Floats = NDArray[np.float64]


class Lowered:
    """A rules strategy as a program.

    Parameters
    ----------
    conditions : sequence of Condition or None
        In the order of ``rules.CONDITIONS``; None is never true.
    sampled : sequence
        Levels and size, in the order of ``candidate_table.SAMPLED``: node, number or None.
    max_bars : node, number or None
    execution : Execution

    Attributes
    ----------
    program : Program
    calls : list of str
        What each action of the program is, for people.
    """

    def __init__(
        self, conditions: Sequence[Condition | None], sampled: Sequence[Any], max_bars: Any, execution: Execution
    ) -> None:
        on = [column for column, node in enumerate(sampled) if node is not None]
        #: Columns of ``SAMPLED`` that are lines, and those that are one number for all bars.
        self.line_columns = [
            column for column in on if isinstance(sampled[column], Value) and not isinstance(sampled[column], Param)
        ]
        self.value_columns = [column for column in on if column not in self.line_columns]
        self.mask_columns = [column for column, condition in enumerate(conditions) if condition is not None]
        self.has_max_bars = max_bars is not None
        writer = _Writer(self.mask_columns, len(self.value_columns) + self.has_max_bars, len(self.line_columns))
        levels = {SAMPLED[column]: writer.parameter(at) for at, column in enumerate(self.value_columns)}
        levels |= {SAMPLED[column]: writer.line(at) for at, column in enumerate(self.line_columns)}
        limit = writer.parameter(len(self.value_columns)) if self.has_max_bars else None
        self.calls: list[str] = []
        _decisions(writer, levels, limit, execution, self.calls)
        self.program = writer.program()
        self._extended: tuple[Floats | None, bytes, Floats] = (None, b"", np.empty((0, 0)))

    def candidates(self, table: CandidateTable) -> Candidates:
        """The candidates of a table, or of one of its tiles."""
        values = table.values[:, self.value_columns]
        if self.has_max_bars:  # 0 is off; no number of bars is >= NaN
            limit = np.where(table.max_bars > 0, table.max_bars.astype(np.float64), np.nan)
            values = np.concatenate([values, limit[:, None]], axis=1)
        lines, rows = table.lines, table.line_rows[:, self.line_columns].copy()
        flat = rows < 0  # of these candidates the line is one number, or off
        if flat.any():
            numbers = table.values[:, self.line_columns][flat].view(np.int64)  # distinct ones by their bits: NaN is off
            distinct, inverse = np.unique(numbers, return_inverse=True)
            rows[flat] = len(lines) + inverse
            lines = self._with_constants(lines, distinct.view(np.float64))
        return Candidates(
            np.ascontiguousarray(values),
            np.ascontiguousarray(lines),
            np.ascontiguousarray(rows),
            table.masks,
            np.ascontiguousarray(table.mask_rows[:, self.mask_columns]),
        )

    def _with_constants(self, lines: Floats, numbers: Floats) -> Floats:
        """The lines, and below them one line for each number; kept for the next tile of the same table."""
        source, constants, extended = self._extended
        if source is not lines or constants != numbers.tobytes():
            below = np.broadcast_to(numbers[:, None], (len(numbers), lines.shape[1]))
            extended = np.concatenate([lines, below])
            self._extended = lines, numbers.tobytes(), extended
        return extended


def unexecuted_of_rules(orders: NDArray[Any], program: Program, held: float, last: int) -> tuple[Unexecuted, str, int]:
    """Orders of lowered rules that were not filled, as the event engine lists them.

    Parameters
    ----------
    orders : ndarray of ORDER
    program : Program
    held : float
        Units held after the last bar.
    last : int
        One past the last bar.

    Returns
    -------
    unexecuted : Unexecuted
        Entries that the account could not pay for, then what the last close decided; an entry against the position is two orders.
    exit_reason : str
        Why the position would be closed at the next open; empty if it would not.
    entry_side : int
        Side of the entry at the next open; 0 if there is none.
    """
    unpaid = orders[orders["status"] == ORDER_STATUSES.index("unaffordable")]
    bars, sides = unpaid["decision_bar"].tolist(), unpaid["side"].tolist()
    exit_reason, entry_side = "", 0
    for order in orders[orders["status"] == ORDER_STATUSES.index("open")]:
        if order["kind"] == CLOSE:
            exit_reason = REASONS[program.actions["reason"][order["slot"]]]
        else:
            entry_side = int(order["side"])
            exit_reason = "reverse" if entry_side * held < 0 else ""
    n_unpaid = len(bars)
    rest = [(reason, side) for reason, side in ((exit_reason, -np.sign(held)), ("entry", entry_side)) if reason and side]
    return (
        Unexecuted(
            np.array(bars + [last - 1] * len(rest), dtype=np.int64),
            np.zeros(n_unpaid + len(rest), dtype=np.int64),
            np.array(sides + [side for _, side in rest]),
            ["entry"] * n_unpaid + [reason for reason, _ in rest],
            ["unaffordable"] * n_unpaid + ["unfilled"] * len(rest),
        ),
        exit_reason,
        entry_side,
    )


class _Writer:
    """Instructions and actions, written one after the other; no register is used twice, since there are few."""

    def __init__(self, mask_columns: Sequence[int], n_params: int, n_lines: int) -> None:
        self.n_params, self.n_lines, self.mask_columns = n_params, n_lines, list(mask_columns)
        self.first_mask = 2 + len(FLAGS)
        self.n_words = self.first_mask + len(self.mask_columns)
        self.code: list[tuple[int, int, int, int, int]] = []
        self.actions: list[dict[str, int]] = []
        self.fields_used = 0

    def parameter(self, at: int) -> int:
        return at

    def field(self, name: str) -> int:
        self.fields_used |= 1 << FIELDS.index(name)
        return self.n_params + FIELDS.index(name)

    def line(self, at: int) -> int:
        return self.n_params + len(FIELDS) + at

    def flag(self, name: str) -> int:
        return 2 + FLAGS.index(name)

    def mask(self, name: str) -> int | None:
        """The word of a condition; None if it is never true."""
        column = CONDITIONS.index(name)
        return self.first_mask + self.mask_columns.index(column) if column in self.mask_columns else None

    def word(self, op: str, a: int, b: int = 0) -> int:
        out = self.n_words
        self.n_words += 1
        self.code.append((OPS.index(op), out, a, b, 0))
        return out

    def and_not(self, a: int | None, b: int | None) -> int | None:
        return a if a is None or b is None else self.word("ANDNOT", a, b)

    def both(self, a: int | None, b: int | None) -> int | None:
        return None if a is None or b is None else self.word("AND", a, b)

    def either(self, a: int | None, b: int | None) -> int | None:
        return (b if a is None else a) if a is None or b is None else self.word("OR", a, b)

    def act(self, kind: int, where: int, **fields: int) -> None:
        action = dict.fromkeys(OPERANDS, -1)
        self.actions.append(action | {"kind": kind, "slot": len(self.actions), "where": where} | fields)

    def program(self) -> Program:
        actions = np.zeros(len(self.actions), dtype=ACTION)
        for row, action in zip(actions, self.actions, strict=True):
            for name, value in action.items():
                row[name] = value
        return Program(
            code=np.array(self.code, dtype=np.int32).reshape(-1, 5),
            n_setup=0,
            constants=np.empty(0),
            n_params=self.n_params,
            n_states=0,
            state_start=np.empty(0),
            n_flags=0,
            flag_start=np.empty(0, dtype=np.int32),
            inputs=np.array([(at, 0) for at in range(self.n_lines)], dtype=np.int32).reshape(-1, 2),
            masks=np.array([(at, 0) for at in range(len(self.mask_columns))], dtype=np.int32).reshape(-1, 2),
            n_numbers=self.n_params + len(FIELDS) + self.n_lines,
            n_words=self.n_words,
            actions=actions,
            stores=np.empty((0, 2), dtype=np.int32),
            flag_stores=np.empty((0, 2), dtype=np.int32),
            n_slots=len(self.actions),
            fields_used=self.fields_used,
            no_entry_after_level=1,
            off_is_nan=1,
        )


def _decisions(writer: _Writer, numbers: dict[str, int], max_bars: int | None, execution: Execution, calls: list[str]) -> None:
    """What the close of a bar decides."""
    enter_long, exit_long, enter_short, exit_short = (writer.mask(name) for name in CONDITIONS)
    # Entry and exit of one side cancel each other; then the two entries do.
    enter_long, exit_long = writer.and_not(enter_long, exit_long), writer.and_not(exit_long, enter_long)
    enter_short, exit_short = writer.and_not(enter_short, exit_short), writer.and_not(exit_short, enter_short)
    enter_long, enter_short = writer.and_not(enter_long, enter_short), writer.and_not(enter_short, enter_long)
    is_long, is_short = writer.flag("is_long"), writer.flag("is_short")
    size = {"size_kind": SIZE_KINDS.index("share" if execution.size_type == "equity" else "value"), "size": numbers["size"]}
    size["cut"] = int(execution.size_type == "value")
    # An entry against the position reverses it.
    if enter_long is not None:
        levels = _levels(numbers, "below_entry", "above_entry")
        writer.act(BUY, writer.word("ANDNOT", enter_long, is_long), **size, **levels)
        calls.append("enter_long")
    if enter_short is not None:
        levels = _levels(numbers, "above_entry", "below_entry")
        writer.act(SELL, writer.word("ANDNOT", enter_short, is_short), **size, **levels)
        calls.append("enter_short")
    leave_long = writer.both(writer.and_not(exit_long, enter_short), is_long)
    leave_short = writer.both(writer.and_not(exit_short, enter_long), is_short)
    leave = writer.either(leave_long, leave_short)
    if leave is not None:
        writer.act(CLOSE, leave, reason=REASONS.index("signal"))
        calls.append("exit_long or exit_short")
    if max_bars is not None:
        timed = writer.word("LE", max_bars, writer.field("bars_held"))
        long = writer.and_not(writer.both(timed, is_long), enter_short)
        short = writer.and_not(writer.both(timed, is_short), enter_long)
        due = writer.and_not(writer.either(long, short), leave)
        assert due is not None
        writer.act(CLOSE, due, reason=REASONS.index("time"))
        calls.append("max_bars")


def _levels(numbers: dict[str, int], stop_kind: str, target_kind: str) -> dict[str, int]:
    """The levels of an entry; a parameter that is NaN is off."""
    levels: dict[str, int] = {}
    for name, kind in (("stop_loss", stop_kind), ("take_profit", target_kind)):
        if name in numbers:
            levels |= {f"{name}_kind": LEVEL_KINDS.index(kind), name: numbers[name]}
    if "trailing_stop" in numbers:
        levels |= {"trail_kind": TRAIL_KINDS.index("fraction"), "trail": numbers["trailing_stop"]}
    return levels

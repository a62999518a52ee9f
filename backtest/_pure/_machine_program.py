"""The register program of the bar machine, interpreted for one candidate; the twin of ``ext/_program.h``."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from backtest._pure._machine_account import MachineAccount
from backtest._pure._machine_layout import NUMBERS
from backtest._pure._machine_orders import act

#: Operations, by code; ``backtest/machine/program.py`` says what each does.
OPS = (
    *("ADD", "SUB", "MUL", "DIV", "MIN", "MAX", "NEG", "ABS", "SQRT", "COPY", "SELECT", "NUMBER"),
    *("LT", "LE", "EQ", "NE", "AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "WSELECT", "JUMP"),
)
#: What a program reads of the account: numbers, and booleans.
FIELDS = (
    *("units", "side", "entry_price", "last_entry_price", "n_entries", "bars_held", "stop_loss", "take_profit", "profit"),
    *("equity", "cash", "peak_equity", "best_close", "worst_close", "last_exit_reason", "last_exit_bar", "last_exit_price"),
    *("last_result", "n_exits", "n_trades", "index"),
)
FLAGS = ("is_flat", "is_long", "is_short")


def divide(one: float, other: float) -> float:
    """IEEE division: by zero it is infinite, or NaN."""
    if other != 0.0:
        return one / other
    if one == 0.0 or one != one:
        return math.nan
    return math.copysign(math.inf, one) * math.copysign(1.0, other)


def root(number: float) -> float:
    """Square root; NaN of a negative number."""
    return math.sqrt(number) if number >= 0.0 else math.nan


#: Of two operands from the file of the operation's kind.
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "ADD": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "MUL": lambda a, b: a * b,
    "DIV": divide,
    "MIN": lambda a, b: b if b < a else a,
    "MAX": lambda a, b: b if b > a else a,
    "LT": lambda a, b: a < b,
    "LE": lambda a, b: a <= b,
    "EQ": lambda a, b: a == b,
    "NE": lambda a, b: a != b,
    "AND": lambda a, b: a and b,
    "OR": lambda a, b: a or b,
    "XOR": lambda a, b: a != b,
    "ANDNOT": lambda a, b: a and not b,
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "NEG": lambda a: -a,
    "ABS": abs,
    "SQRT": root,
    "COPY": lambda a: a,
    "NUMBER": float,
    "NOT": lambda a: not a,
    "WCOPY": lambda a: a,
}
#: Operations on booleans, and those whose result is one.
ON_WORDS = {"AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "NUMBER"}
TO_WORDS = {"LT", "LE", "EQ", "NE", "AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "WSELECT"}


class Registers:
    """The registers of one candidate, and the state of its function.

    Parameters
    ----------
    program, candidates
        Records, see :mod:`backtest._pure.machine`.
    row : int
        Row of the candidates.
    """

    def __init__(self, program: Any, candidates: Any, row: int) -> None:
        self.program, self.candidates, self.row = program, candidates, row
        self.numbers, self.words = [0.0] * int(program.n_numbers), [False] * int(program.n_words)
        self.words[1] = True
        n_constants = len(program.constants)
        self.numbers[:n_constants] = program.constants.tolist()
        self.fields_at = n_constants + program.n_params
        self.numbers[n_constants : self.fields_at] = candidates.values[row, : program.n_params].tolist()
        self.states_at = self.fields_at + len(FIELDS)
        self.inputs_at = self.states_at + program.n_states
        self.numbers[self.states_at : self.inputs_at] = program.state_start.tolist()
        self.flags_at = 2 + len(FLAGS)
        self.masks_at = self.flags_at + program.n_flags
        self.words[self.flags_at : self.masks_at] = [bool(flag) for flag in program.flag_start]
        self.code = [(OPS[op], *rest) for op, *rest in program.code.tolist()]
        self.run(0, int(program.n_setup))

    def run(self, begin: int, end: int) -> None:
        """Run instructions ``begin <= at < end``."""
        numbers, words, at = self.numbers, self.words, begin
        while at < end:
            op, out, a, b, c = self.code[at]
            at += 1
            if op == "JUMP":
                at = at if words[a] else b
                continue
            if op == "SELECT":
                result: Any = numbers[b] if words[a] else numbers[c]
            elif op == "WSELECT":
                result = words[b] if words[a] else words[c]
            else:
                file: list[Any] = words if op in ON_WORDS else numbers
                result = BINARY[op](file[a], file[b]) if op in BINARY else UNARY[op](file[a])
            (words if op in TO_WORDS else numbers)[out] = result

    def load(self, bar: int) -> None:
        """Read lines and conditions at a bar."""
        candidates, row = self.candidates, self.row
        for place, (line, shift) in enumerate(self.program.inputs.tolist()):
            self.numbers[self.inputs_at + place] = float(candidates.lines[candidates.line_rows[row, line], bar - shift])
        for place, (mask, shift) in enumerate(self.program.masks.tolist()):
            at, which = bar - shift, int(candidates.mask_rows[row, mask])
            self.words[self.masks_at + place] = bool(which >= 0 and int(candidates.masks[which, at // 64]) >> (at % 64) & 1)

    def decide(self, account: MachineAccount, close: float) -> None:
        """Run the function at a close: its orders, and its state for the next bar."""
        program = self.program
        self.numbers[self.fields_at : self.states_at] = account.fields(close)
        self.words[2 : self.flags_at] = account.flags()
        self.load(account.bar)
        self.run(int(program.n_setup), len(self.code))
        numbers, words = self.numbers, self.words
        wanted = [
            (index, action, [None if action[name] < 0 else numbers[action[name]] for name in NUMBERS])
            for index, action in enumerate(program.actions)
            if words[action["where"]]
        ]
        state = [(self.states_at + state, numbers[source]) for state, source in program.stores.tolist()]
        flags = [(self.flags_at + flag, words[source]) for flag, source in program.flag_stores.tolist()]
        for place, number in state:
            numbers[place] = number
        for place, flag in flags:
            words[place] = flag
        for index, action, arguments in wanted:
            act(account, index, action, arguments)

"""Orders of a function that can never do what they say, found in its constants and parameters before it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.machine.program import ALWAYS, BUY, NEVER, OPS, SELL, SIZE_KINDS, TRAIL_KINDS, Program

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
_Word = tuple[Flags, Flags]

#: Relative rounding of what leverage pays for, as the kernels have it.
TOLERANCE = 1e-12
_NUMBERS: dict[str, Callable[..., Floats]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "DIV": np.divide,
    "MIN": lambda a, b: np.asarray(np.where(b < a, b, a)),
    "MAX": lambda a, b: np.asarray(np.where(b > a, b, a)),
    "NEG": np.negative,
    "ABS": np.abs,
    "SQRT": np.sqrt,
    "COPY": np.copy,
}
_N_OPERANDS = {"NEG": 1, "ABS": 1, "SQRT": 1, "COPY": 1}
_OF_WORDS = frozenset(("AND", "OR", "XOR", "ANDNOT", "NOT", "WCOPY", "WSELECT"))
_COMPARED: dict[str, Callable[..., Flags]] = {"LT": np.less, "LE": np.less_equal, "EQ": np.equal, "NE": np.not_equal}


class Wrong(NamedTuple):
    """An order that can never do what it says."""

    row: int  # of the candidates
    action: int
    name: str
    rule: str
    value: float


class _Limit(NamedTuple):
    action: int
    place: int  # of the number that is limited
    name: str
    rule: str
    is_wrong: Callable[[Floats], Flags]


class OrderLimits:
    """What is known of the sizes and trailing stops of a program's orders before it runs.

    Parameters
    ----------
    program : Program
    leverage : float
        Of the execution.
    """

    def __init__(self, program: Program, leverage: float) -> None:
        self.program = program
        self._limits: list[_Limit] = []
        share = (
            "share",
            f"<= {leverage:g}, the leverage of the execution (a share is a fraction of equity: 0.5 is half of it)",
            lambda values: values > leverage * (1.0 + TOLERANCE),
        )
        trail = ("trailing_stop", "< 1 for a buy (a fraction: 0.05 for 5 %)", lambda values: values >= 1.0)
        for at, action in enumerate(program.actions):
            if action["kind"] in (BUY, SELL) and SIZE_KINDS[action["size_kind"]] == "share" and not action["reduce_only"]:
                self._limits.append(_Limit(at, int(action["size"]), *share))
            if action["kind"] == BUY and TRAIL_KINDS[action["trail_kind"]] == "fraction":
                self._limits.append(_Limit(at, int(action["trail"]), *trail))

    def first_wrong(self, values: Floats) -> Wrong | None:
        """The first candidate with such an order, and its first one; ``values`` as of ``Candidates``."""
        if not self._limits:
            return None
        known, _ = _known(self.program, values, self.program.n_setup)
        found: list[Wrong] = []
        for action, place, name, rule, is_wrong in self._limits:
            if place not in known:
                continue
            given = known[place]
            rows = np.flatnonzero(is_wrong(given))
            if len(rows):
                rows = rows[_may_be_placed(self.program, values[rows], int(self.program.actions[action]["where"]))]
            if len(rows):
                found.append(Wrong(int(rows[0]), action, name, rule, float(given[rows[0]])))
        return min(found, key=lambda each: each.row, default=None)


def _known(program: Program, values: Floats, n_code: int | None = None) -> tuple[dict[int, Floats], dict[int, _Word]]:
    """What is known of the results of the first ``n_code`` instructions, whatever the bars are.

    Returns numbers by place, those of constants and parameters alone, and of each word whether it may be true, and whether it
    may be false.
    """
    n_candidates = len(values)
    yes, no = np.ones(n_candidates, dtype=np.bool_), np.zeros(n_candidates, dtype=np.bool_)
    numbers = {at: np.full(n_candidates, value) for at, value in enumerate(program.constants)}
    numbers |= {program.first_param + column: values[:, column] for column in range(program.n_params)}
    words: dict[int, _Word] = dict.fromkeys(range(program.n_words), (yes, yes))
    words |= {NEVER: (no, yes), ALWAYS: (yes, no)}
    for at, (code, out, *operands) in enumerate(program.code[:n_code].tolist()):
        op = OPS[code]
        if op in _OF_WORDS:
            words[out] = _word(op, *(words[each] for each in operands[: 3 if op == "WSELECT" else 2]))
        elif op in _COMPARED:
            a, b = (numbers.get(each) for each in operands[:2])
            true = None if a is None or b is None else _COMPARED[op](a, b)
            words[out] = (yes, yes) if true is None else (true, ~true)
        elif at < program.n_setup:  # later ones give numbers that bars change, and use places again
            known = _number(op, operands, numbers, words)
            if known is not None:
                numbers[out] = known
    return numbers, words


def _number(op: str, operands: list[int], numbers: dict[int, Floats], words: dict[int, _Word]) -> Floats | None:
    """The result of an operation that gives a number, if it is known."""
    given = [numbers.get(each) for each in operands]
    if op in ("NUMBER", "SELECT"):
        true, false = words[operands[0]]
        a, b = (np.ones(len(true)), np.zeros(len(true))) if op == "NUMBER" else given[1:3]
        return None if a is None or b is None or (true & false).any() else np.where(true, a, b)
    given = given[: _N_OPERANDS.get(op, 2)]
    if op not in _NUMBERS or any(each is None for each in given):
        return None
    with np.errstate(all="ignore"):
        return _NUMBERS[op](*given)


def _may_be_placed(program: Program, values: Floats, where: int) -> Flags:
    """Candidates for which a word may be true on some bar: false where parameters alone forbid it."""
    return _known(program, values)[1][where][0]


def _word(op: str, a: _Word, b: _Word, c: _Word | None = None) -> _Word:
    """Whether a word of words may be true, and whether it may be false."""
    if op == "NOT":
        return a[1], a[0]
    if op == "WCOPY":
        return a
    if op == "OR":
        return a[0] | b[0], a[1] & b[1]
    if op == "XOR":
        return (a[0] & b[1]) | (a[1] & b[0]), (a[0] & b[0]) | (a[1] & b[1])
    if c is not None:
        return (a[0] & b[0]) | (a[1] & c[0]), (a[0] & b[1]) | (a[1] & c[1])
    true, false = b if op == "AND" else (b[1], b[0])
    return a[0] & true, a[1] | false

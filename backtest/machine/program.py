"""The register program that the bar machine runs: its tables as data, and the records that its kernel writes.

The kernels have these tables again (``LAYOUT`` of the module ``machine``), since they import nothing of ours; a test
compares them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]

#: Operations; the code of each is its place.  ``out = op(a, b, c)``.
OPS = (
    # a number of numbers
    "ADD",
    "SUB",
    "MUL",
    "DIV",
    "MIN",
    "MAX",
    "NEG",
    "ABS",
    "SQRT",
    "COPY",
    # a number: b where the word a is true, else c; 1 or 0 for a word
    "SELECT",
    "NUMBER",
    # a word of numbers
    "LT",
    "LE",
    "EQ",
    "NE",
    # a word of words
    "AND",
    "OR",
    "XOR",
    "ANDNOT",
    "NOT",
    "WCOPY",
    "WSELECT",
    # to instruction b if the word a is true nowhere
    "JUMP",
)
#: Numbers of the account that a program may read, in the order of their places behind the parameters.
FIELDS = (
    "units",
    "side",
    "entry_price",
    "last_entry_price",
    "n_entries",
    "bars_held",
    "stop_loss",
    "take_profit",
    "profit",
    "equity",
    "cash",
    "peak_equity",
    "best_close",
    "worst_close",
    "last_exit_reason",
    "last_exit_bar",
    "last_exit_price",
    "last_result",
    "n_exits",
    "n_trades",
    "index",
)
#: Booleans of the account, behind the words ``never`` and ``always``.
FLAGS = ("is_flat", "is_long", "is_short")
#: Places of the words that are the same everywhere.
NEVER, ALWAYS = 0, 1
#: What an action does, by code.
KINDS = ("buy", "sell", "close", "cancel", "move_stop_loss", "move_take_profit")
BUY, SELL, CLOSE, CANCEL, MOVE_STOP, MOVE_TARGET = range(6)
#: What an order's size means, by code.
SIZE_KINDS = ("", "units", "share", "value", "share_of_position")
#: What a protective level given with an order means, by code.
LEVEL_KINDS = ("", "price", "below_entry", "above_entry")
#: What a trailing stop means, by code.
TRAIL_KINDS = ("", "fraction", "distance")
#: Most call sites that place orders.
MAX_SLOTS = 64

#: Fields of an action that are operands in the number file, -1 where they are not given.
OPERANDS = ("size", "limit", "stop", "valid", "stop_loss", "take_profit", "trail", "share")
_PLAIN = ("kind", "slot", "where", "line", "size_kind", "stop_loss_kind", "take_profit_kind", "trail_kind")
_FLAGS = ("reduce_only", "once", "cut", "reason")
#: One call on the account; the struct Action of the kernel.
ACTION = np.dtype([(name, np.int32) for name in (*_PLAIN, *_FLAGS, *OPERANDS)])

#: How an order ended, by code.
ORDER_STATUSES = ("open", "filled", "expired", "replaced", "cancelled", "unaffordable")
#: Why an order was cancelled, by code.
CANCEL_REASONS = ("asked", "its position ended", "nothing to reduce", "bust", "a level closed a position on this bar")
#: One order; the struct Order of the kernel.  Every field is 8 bytes.
ORDER = np.dtype(
    [
        (name, np.int64)
        for name in (
            "slot",
            "kind",
            "line",
            "decision_bar",
            "end_bar",
            "status",
            "side",
            "size_kind",
            "reason",
        )  # 0 if not cancelled
    ]
    + [
        (name, np.float64)
        for name in ("size", "limit", "stop", "valid_until", "stop_loss", "take_profit", "trail", "units", "price")
    ]
)
#: The first fault of a candidate; the struct Fault of the kernel.
FAULT = np.dtype([("code", np.int64), ("action", np.int64), ("bar", np.int64), ("value", np.float64)])
#: The argument that a fault is about and the rule that it breaks, by code.
FAULTS = (
    ("", ""),
    ("limit", "must be > 0"),
    ("stop", "must be > 0"),
    ("stop_loss", "must be > 0"),
    ("take_profit", "must be > 0"),
    ("trailing_stop", "must be > 0"),
    ("size", "must be > 0"),
    ("valid_bars", "must be a whole number >= 1"),
    ("stop_loss", "must be on the losing side of the order's price"),
    ("take_profit", "must be on the winning side of the order's price"),
)


class Program(NamedTuple):
    """A strategy as a register program: plain arrays and numbers.

    There are two files of registers.  Numbers, in this order: constants, parameters, ``FIELDS``, number states, inputs,
    temporaries.  Words (one bit for each candidate): ``NEVER``, ``ALWAYS``, ``FLAGS``, boolean states, masks, temporaries.
    Temporaries may be written several times, except those that the first ``n_setup`` instructions write.

    Attributes
    ----------
    code : ndarray of int32, shape (n_instructions, 5)
        Operation, out, a, b, c: places in the file that the operation says.
    n_setup : int
        So many instructions depend on constants and parameters alone, and run once for each candidate.
    constants : ndarray of float64
    n_params : int
        Parameters that the program reads, as columns of a block's values.
    n_states, n_flags : int
        Numbers and booleans that last from bar to bar.
    state_start : ndarray of float64, shape (n_states,)
    flag_start : ndarray of int32, shape (n_flags,)
    inputs : ndarray of int32, shape (n_inputs, 2)
        Column of lines, and how many bars back it is read.
    masks : ndarray of int32, shape (n_masks, 2)
        Column of masks, and how many bars back it is read.
    n_numbers, n_words : int
        Sizes of the two files.
    actions : ndarray of ACTION
        In the order of the text.
    stores : ndarray of int32, shape (n_stores, 2)
        Number state and its new value; all are read before any is written.
    flag_stores : ndarray of int32, shape (n_flag_stores, 2)
    n_slots : int
        Call sites that place orders.
    fields_used : int
        Bit i: ``FIELDS[i]`` is read.
    no_entry_after_level : int
        1: with ``fill="close"`` no entry on a bar with an exit by a level.
    off_is_nan : int
        1: a level that is NaN is off; 0: it is a fault.
    """

    code: Ints
    n_setup: int
    constants: Floats
    n_params: int
    n_states: int
    state_start: Floats
    n_flags: int
    flag_start: Ints
    inputs: Ints
    masks: Ints
    n_numbers: int
    n_words: int
    actions: NDArray[np.void]
    stores: Ints
    flag_stores: Ints
    n_slots: int
    fields_used: int
    no_entry_after_level: int
    off_is_nan: int

    @property
    def first_param(self) -> int:
        """Place of the first parameter in the number file."""
        return len(self.constants)

    @property
    def first_field(self) -> int:
        """Place of the first field of the account."""
        return self.first_param + self.n_params

    @property
    def first_state(self) -> int:
        """Place of the first number state."""
        return self.first_field + len(FIELDS)

    @property
    def first_input(self) -> int:
        """Place of the first line."""
        return self.first_state + self.n_states

    @property
    def first_number(self) -> int:
        """Place of the first temporary number."""
        return self.first_input + len(self.inputs)

    @property
    def first_flag(self) -> int:
        """Place of the first boolean state in the word file."""
        return 2 + len(FLAGS)

    @property
    def first_mask(self) -> int:
        """Place of the first mask."""
        return self.first_flag + self.n_flags

    @property
    def first_word(self) -> int:
        """Place of the first temporary word."""
        return self.first_mask + len(self.masks)

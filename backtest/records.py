"""Records that kernels read and write: NumPy dtypes of the C structs of the same fields in ``ext/_records.pxd``."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Why a fill closed a position, by code.
REASONS = ("", "signal", "reverse", "stop", "target", "trail", "time", "end", "bust", "delisted", "liquidation")
SIGNAL, REVERSE, STOP, TARGET, TRAIL, TIME, END, BUST, DELISTED, LIQUIDATION = range(1, len(REASONS))
#: Where in its bar a fill happened, by code.
MOMENTS = ("open", "inside", "close")
#: Status of an order.  ``unfilled``: no bar or price to fill at before the end; ``unaffordable``: too little cash, or rounded to
#: 0 units.  The others are of functions: ``expired`` after ``valid_bars``, ``replaced`` by the same call, ``cancelled`` when
#: asked for, or with the position that it would have reduced.
STATUSES = ("filled", "unfilled", "unaffordable", "expired", "replaced", "cancelled")

_INT, _FLOAT = np.int64, np.float64
#: One executed order; the struct Fill in ext/_records.pxd.
FILL = np.dtype(
    [
        ("decision_bar", _INT),
        ("fill_bar", _INT),
        ("moment", _INT),
        ("asset", _INT),
        ("units", _FLOAT),
        ("price", _FLOAT),
        ("value", _FLOAT),
        ("cost", _FLOAT),
        ("cash_before", _FLOAT),
        ("cash_after", _FLOAT),
        ("position_before", _FLOAT),
        ("position_after", _FLOAT),
        ("reason", _INT),
        ("ambiguous", _INT),
        ("stop", _FLOAT),
        ("target", _FLOAT),
        ("trail", _FLOAT),
        ("equity", _FLOAT),
        ("written_off", _FLOAT),
    ]
)
#: One completed trade; the struct Trade.
TRADE = np.dtype(
    [
        ("asset", _INT),
        ("side", _INT),
        ("decision_bar", _INT),
        ("entry_bar", _INT),
        ("exit_bar", _INT),
        ("units", _FLOAT),
        ("entry_price", _FLOAT),
        ("exit_price", _FLOAT),
        ("stop", _FLOAT),
        ("target", _FLOAT),
        ("trail", _FLOAT),
        ("entry_value", _FLOAT),
        ("entry_cost", _FLOAT),
        ("exit_cost", _FLOAT),
        ("borrow_cost", _FLOAT),
        ("gross_profit", _FLOAT),
        ("net_profit", _FLOAT),
        ("return_", _FLOAT),
        ("mfe", _FLOAT),
        ("mae", _FLOAT),
        ("is_uncertain", _INT),
        ("reason", _INT),
        ("ambiguous", _INT),
        ("equity", _FLOAT),
        ("written_off", _FLOAT),
    ]
)
#: One open position; the struct Position.
POSITION = np.dtype(
    [
        ("side", _INT),
        ("decision_bar", _INT),
        ("entry_bar", _INT),
        ("bar", _INT),
        ("moment", _INT),
        ("units", _FLOAT),
        ("price", _FLOAT),
        ("entry_cost", _FLOAT),
        ("borrow_cost", _FLOAT),
        ("mfe", _FLOAT),
        ("mae", _FLOAT),
        ("stop", _FLOAT),
        ("target", _FLOAT),
        ("equity", _FLOAT),
    ]
)
#: Sums over the trades of one side; the struct TradeSums.
TRADE_SUMS = np.dtype(
    [
        (name, _FLOAT)
        for name in (
            "n_trades",
            "n_winners",
            "n_losers",
            "costs",
            "net_profit",
            "won",
            "lost",
            "largest_profit",
            "largest_loss",
            "sum_return",
            "sum_return_2",
            "sum_mfe",
            "sum_mae",
            "sum_bars_held",
            "min_bars_held",
            "max_bars_held",
            "longest_winning_streak",
            "longest_losing_streak",
            "n_ambiguous",
            "written_off",
            "sum_days_held",
            "min_days_held",
            "max_days_held",
        )
    ]
)


class Unexecuted(NamedTuple):
    """Orders that were decided and never executed, an entry per order."""

    decision_bar: NDArray[np.int64]
    asset: NDArray[np.int64]
    side: NDArray[np.generic]  # > 0: buy
    reason: list[str]
    status: list[str]

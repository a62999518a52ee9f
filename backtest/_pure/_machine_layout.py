"""Codes that the parts of the bar machine share; the twin of ``ext/_machine.h``."""

import math

OPEN, INSIDE, CLOSE = 0, 1, 2
#: Why a fill closed (a part of) a position.
NONE, SIGNAL, REVERSE, STOP, TARGET, TRAIL, TIME, END, BUST, DELISTED, LIQUIDATION = range(11)
#: Kinds of actions.
BUY, SELL, CLOSE_POSITION, CANCEL, MOVE_STOP, MOVE_TARGET = range(6)
#: What a size, a level or a trail is given as; 0: not given.
UNITS, SHARE, VALUE, SHARE_OF_POSITION = range(1, 5)
PRICE, BELOW_ENTRY, ABOVE_ENTRY = range(1, 4)
FRACTION, DISTANCE = range(1, 3)
#: How an order ended (RESTING: it has not), and why it was cancelled.
RESTING, FILLED, EXPIRED, REPLACED, CANCELLED, UNAFFORDABLE = range(6)
ASKED, POSITION_ENDED, NOTHING_TO_REDUCE, AT_BUST, AFTER_LEVEL = range(5)
#: Faults: which argument of an action breaks a rule.
FAULT_LIMIT, FAULT_STOP, FAULT_STOP_LOSS, FAULT_TAKE_PROFIT, FAULT_TRAIL, FAULT_SIZE, FAULT_VALID = range(1, 8)
FAULT_STOP_SIDE, FAULT_TARGET_SIDE = 8, 9
#: Numbers of an action, in order.
NUMBERS = ("size", "limit", "stop", "valid", "stop_loss", "take_profit", "trail", "share")
#: Which path a bar takes where the order of its extremes matters.
PESSIMISTIC, OPTIMISTIC, NEAREST = range(3)
#: A position counts as closed at this share of what was held: rounding, not a position.
DUST = 1e-12
#: Two paths through a bar, or two equities, that differ by less than this share are the same.
SAME = 1e-12
#: Rounding by which an order may exceed the buying power.
POWER_TOLERANCE = 1.0 + 1e-12
#: A price within this share of a multiple of the tick is that multiple.
TICK_TOLERANCE = 2.0**-50
#: Units within this share of a whole number of lots are that number: what was added up in lots is some.
LOT_TOLERANCE = 1e-12
NAN, INF = math.nan, math.inf


def floor(number: float) -> float:
    """The largest whole number that is not larger, as C has it: infinite numbers and NaN stay."""
    return float(math.floor(number)) if math.isfinite(number) else number


def ceil(number: float) -> float:
    """The smallest whole number that is not smaller, as C has it."""
    return float(math.ceil(number)) if math.isfinite(number) else number

"""Protective levels that a fill's price decides: what stands for them in a call of ``account.buy`` or ``account.sell``."""

from __future__ import annotations

from typing import Any, NamedTuple

from backtest._checks import InputError
from backtest._said import shown


class Relative(NamedTuple):
    """A level relative to the entry, or a trail at a fixed distance; made by the three functions below."""

    kind: str
    value: float


def below_entry(fraction: float) -> Relative:
    """A level at ``entry price * (1 - fraction)``: the stop loss of a long, the take profit of a short.

    For ``stop_loss=`` and ``take_profit=`` of ``account.buy`` and ``account.sell`` in a function with :func:`backtest.on_bar`.
    The entry price is that of the position after the fill, slippage included.
    """
    return Relative("below_entry", _number(fraction))


def above_entry(fraction: float) -> Relative:
    """A level at ``entry price * (1 + fraction)``: the take profit of a long, the stop loss of a short.

    As :func:`below_entry`.
    """
    return Relative("above_entry", _number(fraction))


def distance(points: float) -> Relative:
    """A trailing stop that keeps this distance, in units of the price, from the best close; for ``trailing_stop=``.

    A plain number there is a fraction of the best close.
    """
    return Relative("distance", _number(points))


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"a level must be a number, got {shown(value)}") from None

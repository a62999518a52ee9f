"""Faults: orders of a function that cannot be, found while a candidate is replayed, as errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from backtest._checks import InputError
from backtest._said import shown
from backtest.bars import Bars
from backtest.machine.decorate import BarStrategy
from backtest.machine.limits import Wrong
from backtest.machine.program import BUY, FAULTS, LEVEL_KINDS, MOVE_STOP, MOVE_TARGET, SIZE_KINDS, Program
from backtest.machine.walk import Call


def fault_error(fault: Any, program: Program, strategy: BarStrategy, params: Mapping[str, Any], bars: Bars) -> InputError:
    """The error of a fault: argument, rule and value; the call, the bar and the candidate.

    Parameters
    ----------
    fault : record of FAULT
    program : Program
    strategy : BarStrategy
    params : mapping
        Of the candidate.
    bars : Bars
    """
    place, bar, value = int(fault["action"]), int(fault["bar"]), float(fault["value"])
    call, time = strategy.calls[place], bars.times()[bar]
    name, rule = broken_rule(int(fault["code"]), program.actions[place], value)
    when = f"bar {bar}" if bars.index is None else f"bar {bar} ({str(time).removesuffix(' 00:00:00')})"
    return InputError(
        f"{name} must be {rule}, got {value!r}: {_where(call)}, {when}{_with(params)}{hint(name, program.actions[place], value)}"
    )


def limit_error(wrong: Wrong, strategy: BarStrategy, params: Mapping[str, Any]) -> InputError:
    """The error of an order that can never do what it says: argument, rule and value; the call and the candidate."""
    return InputError(
        f"{wrong.name} must be {wrong.rule}, got {wrong.value!r}: {_where(strategy.calls[wrong.action])}{_with(params)}"
    )


def _where(call: Call) -> str:
    return f"{call.text} in {call.function} ({call.file}:{call.line})"


def _with(params: Mapping[str, Any]) -> str:
    return "".join(f", {key} = {shown(each)}" for key, each in params.items())


def broken_rule(code: int, action: Any, value: float) -> tuple[str, str]:
    """The argument of an action that a fault is about, and the rule that its value breaks."""
    name, rule = FAULTS[code]
    rule = rule.removeprefix("must be ")
    is_number = rule == "> 0"
    rule = "finite and > 0" if is_number and math.isinf(value) else rule
    if name == "size" and action["kind"] == MOVE_TARGET:
        return "share", "> 0 and <= 1"
    if name == "size":
        kind = SIZE_KINDS[action["size_kind"]]
        return kind, "> 0 and <= 1" if kind == "share_of_position" else rule
    if action["kind"] in (MOVE_STOP, MOVE_TARGET) and name in ("stop_loss", "take_profit"):
        return "price", rule
    if name in ("stop_loss", "take_profit") and is_number:
        kind = LEVEL_KINDS[action[f"{name}_kind"]]
        if kind == "below_entry":
            return f"bt.below_entry of {name}", "> 0 and < 1 (a fraction: 0.05 for 5 %)"
        return (f"bt.above_entry of {name}" if kind == "above_entry" else name), rule
    if "side of" in rule:
        side = "below" if (name == "stop_loss") == (action["kind"] == BUY) else "above"
        return name, f"{side} the price of the order ({'a buy' if action['kind'] == BUY else 'a sale'})"
    return name, rule


def hint(name: str, action: Any, value: float) -> str:
    """What to write where a price of an order is below 1, as fractions are."""
    if name not in ("stop_loss", "take_profit") or not 0.0 < value < 1.0:
        return ""
    side = "below" if (name == "stop_loss") == (action["kind"] == BUY) else "above"
    return f"; a fraction of the entry price is bt.{side}_entry({value:g})"

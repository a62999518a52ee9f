"""What a step function is called with where it runs as it is: bar, account, state and parameters, one class each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, did_you_mean, listed
from backtest._said import shown
from backtest.machine.program import FIELDS, FLAGS, KINDS, LEVEL_KINDS, SIZE_KINDS, TRAIL_KINDS
from backtest.machine.relative import Relative
from backtest.machine.rewritten import TRAIL

#: Arguments of ``buy`` and ``sell`` that are numbers and no size, and the operands of the machine's actions that they become.
NUMBERS = {
    "limit": "limit",
    "stop": "stop",
    "valid_bars": "valid",
    "stop_loss": "stop_loss",
    "take_profit": "take_profit",
    "trailing_stop": "trail",
}


class Site(NamedTuple):
    """Where a call on the account stands."""

    action: int  # place among the program's actions
    slot: int  # place among those that place orders; -1 for the others
    line: int


class Called(NamedTuple):
    """One call of the function on the account, as the account takes it."""

    site: Site
    action: dict[str, int]
    numbers: list[float | None]  # in the order of program.OPERANDS
    text: str
    is_placed: bool = True  # False where ``once`` holds it back

    @property
    def remark(self) -> str:
        """What is to be said of it beside its text."""
        return "" if self.is_placed else ", not placed: once"

    def __str__(self) -> str:
        return self.text + self.remark


def unknown(what: str, name: str, known: Sequence[str]) -> NoReturn:
    """Refuse a name; names of Python's own protocols are attributes that are not there."""
    message = f"{what} has no {shown(name)} (known: {listed(known)}){did_you_mean(name, known)}"
    if name.startswith("__"):
        raise AttributeError(message)
    raise InputError(message)


class BarView:
    """A bar: prices, volume and lines at its close; ``previous(k)`` is the bar k bars ago."""

    def __init__(self, columns: Mapping[str, NDArray[Any]], at: int) -> None:
        self._columns, self._at = columns, at

    @property
    def index(self) -> float:
        """Number of the bar."""
        return float(self._at)

    def previous(self, k: float) -> BarView:
        """The bar ``k`` bars ago."""
        return BarView(self._columns, self._at - int(k))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in self._columns:
            unknown("bar", name, [*self._columns, "index", "previous"])
        value = self._columns[name][self._at].item()
        return value if isinstance(value, bool) else float(value)

    def __repr__(self) -> str:
        return f"Bar({self._at}, {', '.join(f'{name}={self._columns[name][self._at]:.8g}' for name in self._columns)})"


class Params:
    """The candidate's parameters."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        return unknown("p", name, list(self.__dict__))

    def __repr__(self) -> str:
        return named(self.__dict__)


class State:
    """What lasts from bar to bar: numbers are floats, booleans stay booleans."""

    def __init__(self, start: Mapping[str, Any]) -> None:
        for name, value in start.items():
            self.__dict__[name] = value if isinstance(value, bool) else float(value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            unknown("state", name, list(self.__dict__))
        is_flag = isinstance(self.__dict__[name], bool)
        if is_flag != isinstance(value, (bool, np.bool_)):
            raise InputError(
                f"state.{name} must be a {'boolean' if is_flag else 'number'}, as its start value, got {shown(value)}"
            )
        self.__dict__[name] = bool(value) if is_flag else float(value)

    def __getattr__(self, name: str) -> Any:
        return unknown("state", name, list(self.__dict__))

    def __repr__(self) -> str:
        return named(self.__dict__)


class AccountView:
    """The account at a close: its numbers before the orders of this call, which are noted and apply after it."""

    def __init__(self, fields: Sequence[float], flags: Sequence[bool], sites: Mapping[Any, Site]) -> None:
        numbers = {name: value for name, value in zip(FIELDS, fields, strict=True) if name != "index"}
        self.__dict__.update(numbers, **dict(zip(FLAGS, flags, strict=True)))
        self._sites, self._calls = sites, list[Called]()

    def __getattr__(self, name: str) -> Any:
        known = [each for each in (*FIELDS, *FLAGS) if each != "index"]
        return unknown("account", name, [*known, *KINDS])

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise InputError(f"account.{name} must not be set; orders change it, and state keeps what is yours")
        self.__dict__[name] = value

    def __repr__(self) -> str:
        return named({name: value for name, value in self.__dict__.items() if not name.startswith("_")})

    def buy(self, **given: Any) -> None:
        """Place an order to buy; see :func:`backtest.on_bar`."""
        self._order("buy", given)

    def sell(self, **given: Any) -> None:
        """Place an order to sell; see :func:`backtest.on_bar`."""
        self._order("sell", given)

    def close(self, **given: Any) -> None:
        """Close the position at the next market price."""
        self._note("close", given, {"reason": 1}, {}, "")

    def cancel(self, **given: Any) -> None:
        """Cancel every order that rests."""
        self._note("cancel", given, {}, {}, "")

    def move_stop_loss(self, price: float, **given: Any) -> None:
        """Move the position's protective stop."""
        self._note("move_stop_loss", given, {"stop_loss_kind": 1}, {"stop_loss": price}, f"{price:.8g}")

    def move_take_profit(self, price: float, share: float = 1.0, **given: Any) -> None:
        """Move the position's target, where ``share`` of it is closed."""
        text = f"{price:.8g}" + (f", share={share:.8g}" if share != 1 else "")
        self._note("move_take_profit", given, {"take_profit_kind": 1}, {"take_profit": price, "share": share}, text)

    def _order(self, method: str, given: dict[str, Any]) -> None:
        trail = given.pop(TRAIL, None)
        action, numbers = {"reduce_only": 0, "once": 0}, {}
        for name, value in given.items():
            if name in SIZE_KINDS and name:
                action["size_kind"], numbers["size"] = SIZE_KINDS.index(name), value
            elif name in ("reduce_only", "once"):
                action[name] = int(value)
            elif name not in NUMBERS:
                unknown(f"account.{method}(...)", name, [*SIZE_KINDS[1:], *NUMBERS, "reduce_only", "once"])
            elif value is not None:
                kinds, operand = TRAIL_KINDS if name == "trailing_stop" else LEVEL_KINDS, NUMBERS[name]
                if f"{operand}_kind" in _KINDS:
                    action[f"{operand}_kind"] = kinds.index(value.kind) if isinstance(value, Relative) else 1
                numbers[operand] = value.value if isinstance(value, Relative) else value
        self._note(method, {TRAIL: trail}, action, numbers, named(given))

    def _note(self, method: str, given: dict[str, Any], action: dict[str, int], numbers: dict[str, Any], text: str) -> None:
        site = self._sites.get(given.get(TRAIL))
        if site is None:  # the program ignores print and what is in it
            raise InputError(f"account.{method} must be called on a line of its own, not inside print(...)")
        of_action = dict.fromkeys(_KINDS, 0) | {"kind": KINDS.index(method), "slot": site.slot, "line": site.line} | action
        operands = [None if numbers.get(name) is None else float(numbers[name]) for name in _OPERANDS]
        self._calls.append(Called(site, of_action, operands, f"{method}({text})"))


_OPERANDS = ("size", "limit", "stop", "valid", "stop_loss", "take_profit", "trail", "share")
_KINDS = ("size_kind", "stop_loss_kind", "take_profit_kind", "trail_kind", "reduce_only", "once", "cut", "reason")


def named(values: Mapping[str, Any]) -> str:
    """Values by name on one line."""
    return ", ".join(f"{name}={short(value)}" for name, value in values.items())


def short(value: Any) -> str:
    """A value for reading."""
    if isinstance(value, Relative):
        return f"{value.kind}({value.value:.8g})"
    return f"{value:.8g}" if isinstance(value, float) else str(value)

"""Numbers that a strategy's function reads from its module or from a function around it: frozen when it is decorated."""

from __future__ import annotations

import dis
import math
import types
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from backtest._said import shown


class Frozen(NamedTuple):
    """A number as it was when a function was decorated."""

    function: types.FunctionType
    name: str
    attribute: str  # of a module that is called ``name``; empty: the number itself has that name
    value: Any


def numbers_read(function: types.FunctionType) -> tuple[Frozen, ...]:
    """The numbers and booleans that a function and its helpers read from around them."""
    found: list[Frozen] = []
    seen, stack = {function.__code__}, [function]
    while stack:
        each = stack.pop()
        for name, attribute in _names(each.__code__):
            value = _value(each, name)
            if isinstance(value, types.FunctionType) and value.__code__ not in seen:
                seen.add(value.__code__)
                stack.append(value)
            if isinstance(value, types.ModuleType):
                value = vars(value).get(attribute)
            else:
                attribute = ""
            if _is_number(value):
                found.append(Frozen(each, name, attribute, value))
    return tuple(dict.fromkeys(found))


def changes(numbers: Iterable[Frozen]) -> str:
    """What has another value now, in words; empty if nothing has."""
    said = []
    for function, name, attribute, then in numbers:
        now = _value(function, name)
        if attribute:
            now, name = getattr(now, attribute, None), f"{name}.{attribute}"
        if now is None or (_is_number(now) and _same(then, now)):
            continue
        said.append(f"{name} = {_text(then)}, which is now {_text(now)}")
    return " and ".join(dict.fromkeys(said))


def changed_text(name: str, found: str) -> str:
    """What is said of a strategy some of whose numbers have changed."""
    return (
        f"{name} was decorated with {found}; decorate it again (run the cell with the decorator), or make what changes a "
        "parameter (p.name)"
    )


def _names(code: types.CodeType) -> Iterator[tuple[str, str]]:
    """Names that a function takes from around it, each with the attribute that is asked of it, if any."""
    name = ""
    for each in dis.get_instructions(code):
        if name:
            yield name, each.argval if each.opname in ("LOAD_ATTR", "LOAD_METHOD") else ""
        name = each.argval if each.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF") else ""


def _value(function: types.FunctionType, name: str) -> Any:
    """What a name of the module, or of a function around, is now; None if it is not there."""
    code = function.__code__
    if name in code.co_cellvars:
        return None
    if name in code.co_freevars:
        try:
            return (function.__closure__ or ())[code.co_freevars.index(name)].cell_contents
        except ValueError:  # not assigned yet, or deleted
            return None
    return function.__globals__.get(name)


def _is_number(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (type(value).__module__ == "numpy" and getattr(value, "shape", None) == ())


def _same(then: Any, now: Any) -> bool:
    return bool(then == now) or (math.isnan(then) and math.isnan(now))


def _text(value: Any) -> str:
    return shown(value.item() if type(value).__module__ == "numpy" and getattr(value, "shape", None) == () else value)

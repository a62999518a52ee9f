"""Identity of results in a store: an objective's name, and its data by content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backtest._checks import InputError
from backtest._said import shown, without_password

#: Fields of ``Execution`` and of the rules of a portfolio in layout 1: a table with exactly these names is one of them.
_EXECUTION = frozenset(
    [
        "fill",
        "intrabar",
        "sides",
        "size",
        "size_type",
        "cash",
        "whole_units",
        "close_at_end",
        "start",
        "rf",
        "periods_per_year",
        "profile",
    ]
)
_PORTFOLIO = frozenset(
    ["fill", "start_value", "reinvest", "reserve_costs", "periods_per_year", "rf", "delisted", "delisted_after"]
)


def objective_name(objective: Any) -> Any:
    """An objective's name, the same whether its module is run or imported, with the values bound to it."""
    if isinstance(objective, functools.partial):
        bound = [objective.args, objective.keywords]
        return [objective_name(objective.func), *(by_content("a value bound to the objective", each) for each in bound)]
    kind = objective if hasattr(objective, "__qualname__") else type(objective)
    module = kind.__module__.rpartition(".")[2]
    if module == "__main__":  # replaced by the program's file name; a notebook and python -c have none
        module = Path(getattr(sys.modules["__main__"], "__file__", None) or "").stem
    return f"{module}.{kind.__qualname__}" if module else kind.__qualname__


def without_passwords(value: Any) -> Any:
    """A plain value without the passwords of URLs in it, which may change without a change of data."""
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, (list, tuple)):
        return [without_passwords(each) for each in value]
    return {key: without_passwords(each) for key, each in value.items()} if isinstance(value, Mapping) else value


def renamed(value: Any) -> Any:
    """A plain value with the names of today in every execution and every portfolio's rules inside, in the same order."""
    if isinstance(value, (list, tuple)):
        return [renamed(each) for each in value]
    if not isinstance(value, Mapping):
        return value
    if value.keys() == _EXECUTION:
        size_type = "value" if value["size_type"] == "cash" else value["size_type"]
        return {("start_cash" if name == "cash" else name): each for name, each in {**value, "size_type": size_type}.items()}
    if value.keys() == _PORTFOLIO:
        return {("start_cash" if name == "start_value" else name): each for name, each in value.items()}
    return {name: renamed(each) for name, each in value.items()}


def context_fingerprint(value: Any, **options: Any) -> bytes:
    """Hash that identifies a context; data that a user wrote down with the former names is the same data."""
    return content_hash(renamed(value), **options)


def content_hash(value: Any, **options: Any) -> bytes:
    """Hash of a plain value."""
    return hashlib.blake2b(json.dumps(value, **options).encode(), digest_size=16).digest()


def by_content(name: str, value: Any) -> Any:
    """A value as plain content, for a fingerprint."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (list, tuple)):
        return [by_content(name, each) for each in value]
    if isinstance(value, Mapping):
        return {str(key): by_content(name, each) for key, each in value.items()}
    if hasattr(value, "content_hash"):
        return str(value.content_hash)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.asdict(value)
        written = value.to_dict() if hasattr(value, "to_dict") else fields  # an execution without an engine is that of before
        return by_content(name, {field: each for field, each in fields.items() if field in written})
    raise InputError(
        f"{name} must be text, a number, Bars, Costs, or lists and dicts of them, which a store can recognise, got {shown(value)}"
    )

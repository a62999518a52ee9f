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


def context_fingerprint(value: Any, **options: Any) -> bytes:
    """Hash that identifies a context."""
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
        return by_content(name, dataclasses.asdict(value))
    raise InputError(
        f"{name} must be text, a number, Bars, Costs, or lists and dicts of them, which a store can recognise, got {shown(value)}"
    )

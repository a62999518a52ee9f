"""Parameters of a space from user input: ranges, lists, tables, groups, Optuna's distributions, files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from backtest._checks import SpaceError, file_path, known_names
from backtest._said import shown
from backtest.space_params import Choice, Continuous, Grid, Parameter

#: TOML has no null: in a TOML file this word stands for None.
NONE = "none"
#: Most levels of nested groups.
MAX_DEPTH = 50
#: Most characters of a parameter's name, its groups' names not counted: messages hold it.
MAX_NAME = 200
_RANGE_KEYS = ("low", "high", "step", "log", "when")
_CHOICE_KEYS = ("choices", "when")


def flatten(given: Mapping[str, Any], group: str = "", depth: int = 0) -> dict[str, Any]:
    """Parameters by full name; a mapping that is neither range nor choice is a group, whose name and a dot are prefixed."""
    if depth > MAX_DEPTH:
        raise SpaceError(f"groups of parameters must be nested at most {MAX_DEPTH} deep, got {group[:60]}...")
    flat: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str) or len(name) > MAX_NAME or not all(part.isidentifier() for part in name.split(".")):
            raise SpaceError(f"parameter name must be an identifier (dots allowed), got {shown(name)}")
        inside = flatten(value, f"{group}{name}.", depth + 1) if _is_group(value) else {f"{group}{name}": value}
        for key, each in inside.items():
            if key in flat:
                raise SpaceError(f"parameter {key!r} must be there once, got it twice")
            flat[key] = each
    return flat


def _is_group(value: Any) -> bool:
    if not isinstance(value, Mapping) or "choices" in value:
        return False
    ends = [value[key] for key in ("low", "high") if key in value]
    if ends:  # plain numbers, unless a group has parameters of these names
        return all(isinstance(end, (Mapping, range, list, tuple)) or _is_distribution(end) for end in ends)
    return any(key not in _RANGE_KEYS for key in value)


def split_when(given: Any) -> tuple[Any, str | None]:
    """A parameter's input without its ``when``, and its ``when``."""
    if not isinstance(given, Mapping) or "when" not in given:
        return given, None
    return {key: value for key, value in given.items() if key != "when"}, given["when"]


def parse_parameter(name: str, given: Any) -> Parameter:
    """A parameter from user input; see :class:`backtest.Space`."""
    if isinstance(given, (Grid, Continuous, Choice)):
        return given
    if isinstance(given, range):
        if not given:
            raise SpaceError(f"{name} must have at least one value, got {given!r}")
        if given.step < 0:
            raise SpaceError(f"{name}.step must be > 0, got {given.step!r}")
        return Grid(name, given[0], given[-1], given.step)
    if _is_distribution(given):
        return _from_distribution(name, given)
    if isinstance(given, Mapping):
        return _from_mapping(name, given)
    if given is None or isinstance(given, (str, bool, int, float, np.generic)):
        return Choice(name, [given])
    if isinstance(given, Iterable):
        return Choice(name, given)
    raise SpaceError(
        f"{name} must be a range, a list of values, {{'low', 'high', 'step', 'log'}}, {{'choices'}}, an Optuna "
        f"distribution or a value, got {shown(given)}"
    )


def _from_mapping(name: str, given: Mapping[str, Any]) -> Parameter:
    if "choices" in given:
        known_names(f"key of {name}", given, _CHOICE_KEYS, SpaceError)
        if isinstance(given["choices"], (str, Mapping)) or not isinstance(given["choices"], Iterable):
            raise SpaceError(f"{name}.choices must be a list of values, got {shown(given['choices'])}")
        return Choice(name, given["choices"])
    known_names(f"key of {name}", given, _RANGE_KEYS, SpaceError)
    for key in ("low", "high"):
        if key not in given:
            raise SpaceError(f"{name} must have a {key!r}, got {shown(dict(given))}")
    is_log = given.get("log", False)
    if not isinstance(is_log, bool):
        raise SpaceError(f"{name}.log must be True or False, got {shown(is_log)}")
    if given.get("step") is not None:
        return Grid(name, given["low"], given["high"], given["step"], is_log)
    return Continuous(name, given["low"], given["high"], is_log)


def _is_distribution(given: Any) -> bool:
    return type(given).__module__ == "optuna.distributions"  # checked without importing Optuna


def _from_distribution(name: str, given: Any) -> Parameter:
    kind = type(given).__name__
    if kind == "CategoricalDistribution":
        return Choice(name, given.choices)
    if kind == "IntDistribution":
        return Grid(name, given.low, given.high, given.step, given.log)
    if kind != "FloatDistribution":
        raise SpaceError(f"{name} must be an Int-, Float- or CategoricalDistribution, got {given!r}")
    if given.step is not None:
        return Grid(name, given.low, given.high, given.step)
    if given.low == given.high:
        return Choice(name, [given.low])
    return Continuous(name, given.low, given.high, given.log)


def read_table(path: str | Path) -> tuple[Mapping[str, Any], str | None]:
    """The table of parameters in a TOML or JSON file, and the word that stands for None in it."""
    import json
    import tomllib

    path = file_path("path", path, SpaceError)
    if path.suffix not in (".toml", ".json") or not path.is_file():
        raise SpaceError(f"path must be an existing .toml or .json file, got {str(path)!r}")
    is_toml, kind = path.suffix == ".toml", path.suffix[1:].upper()
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text) if is_toml else json.loads(text)
    except UnicodeDecodeError as error:
        raise SpaceError(f"{str(path)!r} must be {kind} in UTF-8, got {error}; save it as UTF-8") from None
    except ValueError as error:  # JSONDecodeError and TOMLDecodeError are both ValueErrors
        raise SpaceError(f"{str(path)!r} must be {kind}, got {error}") from None
    except RecursionError:
        raise SpaceError(f"{str(path)!r} must be {kind} that is nested less deeply") from None
    except OSError as error:
        raise SpaceError(f"{str(path)!r} must be readable, got {error}") from None
    if isinstance(table, Mapping) and isinstance(table.get("space"), Mapping):
        table = table["space"]
    if not isinstance(table, Mapping):
        raise SpaceError(f"{str(path)!r} must hold a table of parameters, got {type(table).__name__}")
    return table, NONE if is_toml else None


def replace_none(value: Any, none: str | None, depth: int = 0) -> Any:
    """``value`` with every ``none`` replaced by None, down to the deepest level of a space."""
    if none is None or depth > MAX_DEPTH + 2:
        return value
    if isinstance(value, Mapping):
        return {name: value[name] if name == "when" else replace_none(value[name], none, depth + 1) for name in value}
    if isinstance(value, list):
        return [replace_none(each, none, depth + 1) for each in value]
    return None if value == none else value

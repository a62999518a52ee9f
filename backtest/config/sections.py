"""What sections of several configurations have in common: tables in, checked values out."""

from __future__ import annotations

import dataclasses
import datetime
import importlib
import json
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from backtest._checks import InputError, did_you_mean, file_path, known_names, refuse_former
from backtest._said import SHOWN, said, shown
from backtest.bars import Bars, from_prices
from backtest.costs import Costs
from backtest.files.reading import KEYS, Reading
from backtest.files.tables import read_prices
from backtest.space import NONE


def read_tables(
    path: str | Path | None, example: str, sections: Iterable[str], told: Mapping[str, Any] | None = None, window: str = "search"
) -> tuple[dict[str, Any], Path]:
    """A file's tables, each a known section, and its folder; None is the example.

    What is told (how to read files) stands above the section ``[data]``; ``window`` is the section of that key.

    Raises
    ------
    InputError
        No such file, no TOML, an unknown section, a value outside of any.
    """
    if path is None:
        return _checked(tomllib.loads(example), sections, told, window), Path.cwd()
    path = file_path("CONFIG", path)
    if not path.is_file():
        raise InputError(f"CONFIG must be an existing TOML file, got {str(path)!r}")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"CONFIG must be TOML, got {str(path)!r}, which is not UTF-8: {error}; save it as UTF-8") from None
    except (tomllib.TOMLDecodeError, OSError, RecursionError) as error:
        raise InputError(f"CONFIG must be TOML, got {str(path)!r}: {error}") from None
    return _checked(tables, sections, told, window), path.parent


def _checked(tables: dict[str, Any], sections: Iterable[str], told: Mapping[str, Any] | None, window: str) -> dict[str, Any]:
    if "window" in tables:
        raise InputError(f"window must stand in [{window}], got it outside of its section")
    known_names("section", tables, sections)
    if isinstance(tables.get("strategy"), str):  # strategy = "package.module:name" is short for its section
        tables = tables | {"strategy": {"name": tables["strategy"]}}
    for name, table in tables.items():
        if isinstance(table, Mapping) and isinstance(table.get("strategy"), str) and name not in ("space", "params", "symbols"):
            raise InputError(
                f"strategy must stand before the first section, got it in [{name}]; or write a section [strategy] with "
                f"name = {json.dumps(table['strategy'])}"
            )
        if not isinstance(table, Mapping):
            raise InputError(f"section {name!r} must be a table [{name}], got {shown(table)}")
        if "window" in table and name not in (window, "space", "params", "symbols"):  # whose keys are names of the user's
            raise InputError(f"window must stand in [{window}], got it in [{name}]")
    if not told:
        return tables
    data = dict(tables.get("data", {}))
    columns = [each["columns"] for each in (data, told) if isinstance(each.get("columns"), Mapping)]
    merged = {"columns": {ours: theirs for each in columns for ours, theirs in each.items()}} if columns else {}
    return tables | {"data": data | dict(told) | merged}


def reading(table: Mapping[str, Any]) -> Reading:
    """How files are written: the keys of ``[data]`` that say so."""
    return Reading(**{key: table[key] for key in KEYS if key in table})


def refuse_reading(table: Mapping[str, Any], given: str) -> None:
    """What says how a file is written needs a file."""
    for key in KEYS:
        if key in table:
            raise InputError(f"{key} must go with files, got {given}")


def file(what: str, given: Any, reading: Reading) -> tuple[str, Reading]:
    """A file, and how it is written: a name, or a table of ``file`` and what differs from ``[data]``."""
    if isinstance(given, str):
        return given, reading
    if not isinstance(given, Mapping) or not isinstance(given.get("file"), str):
        raise InputError(f"{what} must be a file, or a table such as {{ file = 'a.csv', dates = '%d/%m/%Y' }}, got {given!r}")
    known_names(f"key of {what}", given, ("file", *KEYS))
    return given["file"], dataclasses.replace(reading, **{key: value for key, value in given.items() if key != "file"})


def record(section: str, kind: Any, table: Mapping[str, Any], former: Mapping[str, str] | None = None) -> Any:
    """A dataclass of a section's keys; ``former`` maps names that keys had before to today's."""
    fields = dataclasses.fields(kind)
    refuse_former(table, former or {}, section)
    known_names(f"key of [{section}]", table, [field.name for field in fields])
    for field in fields:
        if field.default is dataclasses.MISSING and field.name not in table:
            raise InputError(f"[{section}] must have {field.name!r}, got {dict(table)!r}")
    return kind(**table)


def costs(tables: Mapping[str, Any]) -> Costs:
    """The section ``[costs]``, which nobody may forget."""
    if "costs" not in tables:
        raise InputError("section [costs] must be there, got none; fee_rate = 0.0 says no costs")
    found: Costs = record("costs", Costs, tables["costs"])
    return found


def values(table: Mapping[str, Any]) -> dict[str, Any]:
    """One value per parameter; TOML's word for None is None."""
    return {name: None if value == NONE else value for name, value in table.items()}


def window(value: Any) -> slice | list[slice]:
    """Two bar numbers or two dates, or a list of such pairs; TOML's word for None is an open end."""
    if isinstance(value, list) and value and all(isinstance(each, list) for each in value):
        return [slice(*_edges(each)) for each in value]
    return slice(*_edges(value))


def _edges(value: Any) -> list[Any]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(type(edge) is int or (isinstance(edge, str | datetime.date) and edge != "") for edge in value)
    ):
        written = json.dumps(value, default=str, ensure_ascii=False)
        raise InputError(
            'window must be two bars or two dates [first, last], such as [500, 1500] or ["2010", "none"], where "none" is an '
            f"open end, or a list of such pairs, got {written if len(written) <= SHOWN else written[:SHOWN] + '...'}"
        )
    return [None if edge == NONE else edge for edge in value]


def samples(given: Any) -> tuple[dict[str, Bars], str]:
    """``samples`` of ``[data]``: bars by symbol, and where they came from."""
    if not isinstance(given, list) or not given or not all(isinstance(name, str) for name in given):
        raise InputError(f"samples of [data] must be a list of symbols, got {given!r}")
    if len(set(given)) < len(given):
        raise InputError(f"samples of [data] must hold each symbol once, got {given!r}")
    return {name: Bars.sample(name) for name in given}, "embedded daily bars"


def files(given: Any, folder: Path, reading: Reading) -> tuple[dict[str, Bars], str]:
    """``files`` of ``[data]``: bars by symbol, and where they came from."""
    if not isinstance(given, Mapping) or not given:
        raise InputError(f"files of [data] must be a table of symbols and files, got {given!r}")
    named = {symbol: file(f"files of [data], {symbol},", each, reading) for symbol, each in given.items()}
    return (
        {symbol: from_prices(read_prices(folder / name, how), symbol) for symbol, (name, how) in named.items()},
        ", ".join(name for name, _ in named.values()),
    )


def imported(what: str, name: str, folder: Path) -> Any:
    """What ``package.module:name`` names, also in the configuration's folder."""
    module_name, _, attribute = name.partition(":")
    if not all(part.isidentifier() for part in [*module_name.split("."), attribute]):
        raise InputError(f"{what} must be 'package.module:name', got {name!r}")
    if str(folder.resolve()) not in sys.path:
        sys.path.insert(0, str(folder.resolve()))
    module = None
    try:
        module = importlib.import_module(module_name)
        return getattr(module, attribute)
    except (ImportError, AttributeError) as error:
        near = did_you_mean(attribute, vars(module)) if isinstance(error, AttributeError) and module is not None else ""
        raise InputError(f"{what} must name something importable, got {name!r}: {said(error)}{near}") from error

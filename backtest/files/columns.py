"""Which column of a table is what: prices, volume, dates and times of day, told by their names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from backtest._checks import DataError, InputError, did_you_mean
from backtest.files.reading import Reading, Source

PRICES = ("open", "high", "low", "close")
#: What tables of prices may hold, by our names.
ROLES = (*PRICES, "volume", "adj close")
#: Names of a column of times, in any letter case.
DATE_NAMES = ("date", "datetime", "time", "timestamp", "index", "open_time", "open time", "opentime", "unix")
#: One-letter names, taken where all four prices have them.
SHORT = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "date": "t"}
#: Other names of a column.
ALIASES = {
    "close": ("close/last",),
    "volume": ("vol",),
    "adj close": ("adj_close", "adjclose", "adj. close", "adjusted close", "adjusted_close"),
}
#: Every name that is understood without being told.
KNOWN_NAMES = frozenset({*ROLES, *DATE_NAMES, *SHORT.values(), *(name for names in ALIASES.values() for name in names)})
#: How many values of an unnamed column are looked at to see whether they are dates.
N_SAMPLED = 20
_DATE = re.compile(
    r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.](\d{1,2}|[A-Za-z]{3,9})[-/.]\d{2,4}|\d{1,2} [A-Za-z]{3,9} \d{4})"
)
_TIME_WORD = re.compile(r"date|time|stamp|\bts\b")


class Table(NamedTuple):
    """A table as it was read, before its columns are understood."""

    names: list[Any]
    columns: list[Any]  # pandas Series
    labels: Any  # pandas Index of the rows; None of a text file
    source: Source
    is_text: bool


def report_unused(table: Table, roles: Mapping[str, int], has_times: bool, others: Sequence[str]) -> None:
    """Note which columns are left out; refuse a table without times in which one of these holds dates."""
    unused = [
        place
        for place, name in enumerate(table.names)
        if place not in roles.values() and name not in others and not is_unnamed(name)
    ]
    for place in unused if not has_times else ():
        name = str(table.names[place])
        if _holds_dates(table.columns[place], _TIME_WORD.search(plain_name(name)) is not None):
            raise DataError(
                f"frame must have its times in its index or in a column named {', '.join(DATE_NAMES[:4])}, got dates "
                f"in the column {name!r}; columns={{'Date': {name!r}}} names it"
            )
    for place in unused if "volume" not in roles else ():
        name = str(table.names[place])
        if plain_name(name).startswith("vol"):
            table.source.notes.append(f"no volume, the column {name!r} is left out (columns={{'Volume': {name!r}}} names it)")
    for place in unused if has_times else ():
        if plain_name(table.names[place]) == "time":
            table.source.notes.append(f"times of day in the column {str(table.names[place])!r} are left out")
    if unused:
        table.source.plain.append(f"columns left out: {', '.join(str(table.names[place]) for place in unused)}")


def _holds_dates(column: Any, is_of_time: bool) -> bool:
    """Whether the first values of a column are dates; whole numbers count if the column's name is about time."""
    import pandas as pd

    first = column.iloc[:N_SAMPLED].dropna()
    if pd.api.types.infer_dtype(first) in ("datetime64", "datetime", "date"):
        return True
    texts = [str(each) for each in first if str(each)]
    return bool(texts) and all(_DATE.match(each) or (is_of_time and each.isdigit() and len(each) >= 8) for each in texts)


def plain_name(name: Any) -> str:
    """A column's name in lower case, without blanks and angle brackets around it."""
    return str(name).strip().strip("<>").strip().lower()


def is_unnamed(name: Any) -> bool:
    """Whether a column has no name, or the one pandas gives to columns without one."""
    return plain_name(name) == "" or plain_name(name).startswith("unnamed:")


def roles_of(table: Table, reading: Reading) -> dict[str, int]:
    """Column number of each role: prices, volume, date and time of day."""
    names = [plain_name(name) for name in table.names]
    given = {plain_name(ours): place_of(table, theirs) for ours, theirs in (reading.columns or {}).items()}
    for ours in given:
        if ours not in (*ROLES, "date", "time"):
            raise InputError(
                f"columns must name Open, High, Low, Close, Volume, Adj Close, Date or Time, got {ours!r}"
                f"{did_you_mean(ours, (*ROLES, 'date', 'time'))}"
            )
    roles: dict[str, int] = {}
    is_short = all(SHORT[role] in names for role in PRICES)
    for role in ROLES:
        known = [role, *ALIASES.get(role, ()), *([SHORT[role]] if is_short and role in SHORT else [])]
        for name in known:
            if role not in given and role not in roles and name in names:
                _refuse_twice(table, names, name)
                roles[role] = names.index(name)
    return roles | time_roles_of(table, table.names, is_short, given) | given


def time_roles_of(
    table: Table, given_names: Sequence[Any], is_short: bool = False, given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Column number of the times (``date``) and of times of day beside them (``time``)."""
    names, given = [plain_name(name) for name in given_names], given or {}
    if "date" in given:
        return {}
    known = (*DATE_NAMES, SHORT["date"]) if is_short else DATE_NAMES
    found = [name for name in known if name in names]
    for name in found:
        _refuse_twice(table, names, name)
    roles: dict[str, int] = {}
    if found:
        roles["date"] = names.index(found[0])
        if found[0] == "date" and "time" in names:
            roles["time"] = names.index("time")
    elif table.is_text and table.names and is_unnamed(table.names[0]):
        roles["labels"] = 0
    return roles


def _refuse_twice(table: Table, names: list[str], name: str) -> None:
    if names.count(name) > 1:
        first, second = [each for each, plain in zip(table.names, names, strict=True) if plain == name][:2]
        raise DataError(f"frame must have one column {name!r}, got {first!r} and {second!r}")


def place_of(table: Table, name: str) -> int:
    """Column number of an exact name, or else of the only one that differs in letter case alone."""
    if name in table.names:
        return table.names.index(name)
    alike = [place for place, each in enumerate(table.names) if str(each).strip().lower() == name.strip().lower()]
    if len(alike) != 1:
        raise InputError(
            f"columns must name columns that are there, got {name!r}, and there are "
            f"{', '.join(map(str, table.names))}{did_you_mean(name, map(str, table.names))}"
        )
    return alike[0]


def hint_of_levels(columns: Sequence[Any]) -> str:
    """For columns of two levels (price and instrument), how to select one instrument; else an empty text."""
    for column in columns:
        if isinstance(column, tuple) and len(column) == 2:
            for level in (0, 1):
                if str(column[1 - level]).lower() in PRICES:
                    return f"; frame.xs({column[level]!r}, axis=1, level={level}) is one instrument"
    return ""

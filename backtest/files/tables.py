"""Tables of prices and of weights, read from files and frames."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError, InputError
from backtest.files.columns import (
    DATE_NAMES,
    KNOWN_NAMES,
    N_SAMPLED,
    PRICES,
    ROLES,
    Table,
    hint_of_levels,
    is_unnamed,
    place_of,
    plain_name,
    report_unused,
    roles_of,
    time_roles_of,
)
from backtest.files.numbers import numbers_of
from backtest.files.reading import Reading, Source
from backtest.files.row_times import row_times
from backtest.files.text import read_text

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["PRICES", "Prices", "Table", "prices_of", "read_prices", "read_table", "read_wide", "table_of"]


class Prices(NamedTuple):
    """Columns of one instrument, oldest first, not yet checked as prices."""

    columns: dict[str, Any]  # open, high, low, close, volume where there is one
    times: pd.DatetimeIndex | None
    others: dict[str, NDArray[np.float64]]  # further columns, by name
    source: Source


def read_table(path: Path, reading: Reading) -> Table:
    """A text or Parquet file as it is; its ending says which."""
    import pandas as pd

    name = path.name.lower()
    if not path.exists():
        raise InputError(f"path must be an existing file, got {str(path)!r}")
    if name.endswith((".csv", ".csv.gz", ".tsv", ".txt")):
        names, columns, source = read_text(path, reading.sep)
        return Table(list(names), columns, None, source, True)
    if not name.endswith((".parquet", ".pq")):
        raise InputError(f"path must end in .csv, .csv.gz, .tsv, .txt or .parquet, got {path.name!r}")
    for key in ("sep", "decimal", "thousands"):
        if getattr(reading, key) is not None:
            raise InputError(f"{key} must go with a file of text, got {getattr(reading, key)!r} for {path.name}")
    try:
        frame = pd.read_parquet(path)
    except Exception as error:  # Arrow raises whatever it stumbles over in damaged bytes
        raise DataError(f"path must be a readable Parquet file, got {str(path)!r}: {error}") from None
    return Table(
        list(frame.columns), [frame.iloc[:, place] for place in range(frame.shape[1])], frame.index, Source(path.name), False
    )


def read_prices(path: Path, reading: Reading, others: Sequence[str] = ()) -> Prices:
    """One instrument's file; ``others`` names further columns to return."""
    table = read_table(path, reading)
    with table.source.named():
        found = prices_of(table, reading, others)
        found.source.log()
    return found


def prices_of(table: Table, reading: Reading, others: Sequence[str] = (), *, reverses: bool = True) -> Prices:
    """Open, high, low, close, volume and times of a table."""
    roles = roles_of(table, reading)
    for name in PRICES:
        if name not in roles:
            hint = hint_of_levels(table.names) or f"; columns={{{name.title()!r}: ...}} names it"
            if table.is_text and not roles:
                hint += ", or the file lacks a first line of names"
            raise DataError(
                f"frame must have a column {name.title()!r} (any letter case), got columns "
                f"{', '.join(map(str, table.names))}{hint}"
            )
    if reading.adjust is not None and "adj close" not in roles:
        raise DataError(f"frame must have a column 'Adj Close' to adjust by, got columns {', '.join(map(str, table.names))}")
    wanted = {role: roles[role] for role in ROLES if role in roles}
    if reading.adjust is None and wanted.pop("adj close", None) is not None:
        table.source.plain.append('Adj Close left alone (adjust="close" scales by it)')
    try:
        times = row_times(table, roles, reading)
    except DataError:
        if not roles.keys() & {"date", "labels"} and getattr(getattr(table.labels, "dtype", None), "kind", "") in "iuf":
            report_unused(table, roles, False, others)  # an unnamed column of dates explains more than the index does
        raise
    report_unused(table, roles, times is not None, others)
    places = {str(table.names[place]): place for place in wanted.values()} | {name: place_of(table, name) for name in others}
    numbers = _numbers(table, places, reading, roles)
    columns = {role: numbers[str(table.names[place])] for role, place in wanted.items()}
    extra = {name: np.asarray(numbers[name], dtype=np.float64) for name in others}
    if reading.adjust is not None:
        columns = _adjusted(columns, table.source)
    if reverses and times is not None and _is_newest_first(times):
        _note_reversed(table.source)
        times = times[::-1]
        columns, extra = ({name: values[::-1] for name, values in each.items()} for each in (columns, extra))
    return Prices(columns, times, extra, table.source)


def read_wide(path: Path, reading: Reading) -> pd.DataFrame:
    """A table with a column of dates and one column per asset."""
    import pandas as pd

    table = read_table(path, reading)
    if reading.adjust is not None:
        raise InputError(f"adjust must go with files of one instrument each, got {reading.adjust!r} for {path.name}")
    with table.source.named():
        renamed = {place_of(table, theirs): ours for ours, theirs in (reading.columns or {}).items()}
        names = [renamed.get(place, name) for place, name in enumerate(table.names)]
        table = table._replace(names=names)
        roles = time_roles_of(table, names)
        of_times = set(roles.values())
        if (
            any(plain_name(ours) == plain_name(theirs) == "date" for ours, theirs in (reading.columns or {}).items())
            and "time" in roles
        ):
            del roles["time"]  # the dates alone
            table.source.notes.append("times of day are left out")
        times = row_times(table, roles, reading)
        if times is None:
            raise InputError(
                f"{path.name} must have a column of dates ({', '.join(DATE_NAMES[:5])}), got "
                f"{', '.join(map(str, names[:5]))}; columns={{'Date': ...}} names it"
            )
        places = {str(name).strip(): place for place, name in enumerate(names) if place not in of_times and not is_unnamed(name)}
        frame = pd.DataFrame(_numbers(table, places, reading, roles), index=times)
        if _is_newest_first(times):
            _note_reversed(table.source)
            frame = frame.iloc[::-1]
        table.source.log()
    return frame


def table_of(frame: Any, columns: Mapping[str, str] | None) -> Table:
    """A pandas, polars or pyarrow table."""
    import narwhals as nw

    try:
        table: Any = nw.from_native(frame, eager_only=True, pass_through=True)
    except nw.exceptions.DuplicateError as error:
        raise DataError(f"frame must have unique column names, got a duplicate: {error}") from None
    if not isinstance(table, nw.DataFrame):
        raise DataError(f"frame must be a pandas, polars or pyarrow table, got {type(frame).__name__}")
    import pandas as pd

    used = {str(each).lower() for each in (columns or {}).values()}
    known = KNOWN_NAMES | used
    wanted = [name for name in table.columns if plain_name(name) in known or str(name).lower() in used]
    native = [table[name].to_native() for name in wanted]
    series = [each if isinstance(each, pd.Series) else each.to_pandas() for each in native]
    unused = [name for name in table.columns if name not in wanted]
    seen = [table[name].head(N_SAMPLED).to_native() if isinstance(name, str) else pd.Series() for name in unused]
    rest = [
        each if isinstance(each, pd.Series) else each.to_pandas() for each in seen
    ]  # a few values show whether they are dates
    return Table(wanted + unused, [*series, *rest], nw.maybe_get_index(table), Source(), False)


def _numbers(table: Table, places: Mapping[str, int], reading: Reading, roles: Mapping[str, int]) -> dict[str, Any]:
    """Columns as numbers: parsed from text files, as they are from frames."""
    if table.is_text:
        used = {*places.values(), *(roles[each] for each in ("date", "time", "labels") if each in roles)}
        beside = {str(name): table.columns[place] for place, name in enumerate(table.names) if place not in used}
        return dict(numbers_of({name: table.columns[place] for name, place in places.items()}, reading, table.source, beside))
    return {name: _values(table.columns[place]) for name, place in places.items()}


def _values(column: Any) -> NDArray[Any]:
    """A column as an array; missing numbers of nullable types are NaN."""
    import pandas as pd

    if (
        isinstance(column.dtype, pd.api.extensions.ExtensionDtype)
        and pd.api.types.is_numeric_dtype(column.dtype)
        and not pd.api.types.is_bool_dtype(column.dtype)
    ):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(column.to_numpy())


def _adjusted(columns: dict[str, Any], source: Source) -> dict[str, Any]:
    """Prices times Adj Close / Close: one factor per bar, so that the high stays the highest."""
    try:
        adjusted = np.asarray(columns.pop("adj close"), dtype=np.float64)
        prices = {name: np.asarray(columns[name], dtype=np.float64) for name in PRICES}
    except (TypeError, ValueError) as error:
        raise DataError(f"columns must hold numbers to be adjusted: {error}") from None
    bad = ~(np.isfinite(adjusted) & (adjusted > 0))
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"Adj Close must be finite and > 0 to adjust by, got {adjusted[row]} {source.at(row)}")
    with np.errstate(all="ignore"):  # a close of 0 is refused where bars are checked
        factor = adjusted / prices["close"]
    source.notes.append("open, high, low and close scaled by Adj Close / Close")
    return columns | {name: np.where(prices["close"] > 0, values * factor, values) for name, values in prices.items()}


def _is_newest_first(times: pd.DatetimeIndex) -> bool:
    return len(times) > 1 and times.is_monotonic_decreasing and times[0] > times[-1]


def _note_reversed(source: Source) -> None:
    if source.lines is not None:
        source.lines = source.lines[::-1]
    source.notes.append("newest first, reversed")
    warnings.warn(f"{source.name} is sorted newest first; its rows are reversed, so that the oldest comes first", stacklevel=4)

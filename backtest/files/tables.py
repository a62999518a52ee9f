"""Tables of prices and of weights: which column is what, from files and from frames."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError, InputError, did_you_mean
from backtest.files.numbers import numbers_of
from backtest.files.reading import Reading, Source
from backtest.files.text import read_text
from backtest.files.times import as_text, clock_of, times_of, times_of_labels, with_clock, with_clock_as

if TYPE_CHECKING:
    import pandas as pd

PRICES = ("open", "high", "low", "close")
#: Rows of a column that nothing names which are looked at, and how a date is written.
_SEEN = 20
_DATE = re.compile(
    r"\s*(\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.](\d{1,2}|[A-Za-z]{3,9})[-/.]\d{2,4}|\d{1,2} [A-Za-z]{3,9} \d{4})"
)
_OF_TIME = re.compile(r"date|time|stamp|\bts\b")
DATE_NAMES = ("date", "datetime", "time", "timestamp", "index", "open_time", "open time", "opentime", "unix")
SHORT = {"open": "o", "high": "h", "low": "l", "close": "c", "volume": "v", "date": "t"}
_OTHER = {
    "close": ("close/last",),
    "volume": ("vol",),
    "adj close": ("adj_close", "adjclose", "adj. close", "adjusted close", "adjusted_close"),
}
_ROLES = (*PRICES, "volume", "adj close")


class Table(NamedTuple):
    """A table before anything is known about it."""

    names: list[Any]
    columns: list[Any]  # pandas Series
    labels: Any  # pandas Index of the rows; None of a text file
    source: Source
    is_text: bool


class Prices(NamedTuple):
    """Columns of one instrument, oldest first, not yet checked as prices."""

    columns: dict[str, Any]  # open, high, low, close, volume where there is one
    times: pd.DatetimeIndex | None
    others: dict[str, NDArray[np.float64]]  # columns that were asked for by name
    source: Source


def read_table(path: Path, reading: Reading) -> Table:
    """A CSV or Parquet file as it is, told apart by its ending."""
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
    """One instrument's file; ``others`` are columns wanted beside the prices."""
    table = read_table(path, reading)
    with table.source.named():
        found = prices_of(table, reading, others)
        found.source.log()
    return found


def prices_of(table: Table, reading: Reading, others: Sequence[str] = (), *, reverses: bool = True) -> Prices:
    """Open, high, low, close, volume and times of a table."""
    roles = _roles(table, reading)
    for name in PRICES:
        if name not in roles:
            hint = _of_levels(table.names) or f"; columns={{{name.title()!r}: ...}} names it"
            if table.is_text and not roles:
                hint += ", or the file lacks a first line of names"
            raise DataError(
                f"frame must have a column {name.title()!r} (any letter case), got columns "
                f"{', '.join(map(str, table.names))}{hint}"
            )
    if reading.adjust is not None and "adj close" not in roles:
        raise DataError(f"frame must have a column 'Adj Close' to adjust by, got columns {', '.join(map(str, table.names))}")
    wanted = {role: roles[role] for role in _ROLES if role in roles}
    if reading.adjust is None and wanted.pop("adj close", None) is not None:
        table.source.plain.append('Adj Close left alone (adjust="close" scales by it)')
    try:
        times = _times(table, roles, reading)
    except DataError:
        if not roles.keys() & {"date", "labels"} and getattr(getattr(table.labels, "dtype", None), "kind", "") in "iuf":
            _say_unused(table, roles, False, others)  # dates in a column are the better thing to say
        raise
    _say_unused(table, roles, times is not None, others)
    places = {str(table.names[place]): place for place in wanted.values()} | {name: _place(table, name) for name in others}
    numbers = _numbers(table, places, reading, roles)
    columns = {role: numbers[str(table.names[place])] for role, place in wanted.items()}
    extra = {name: np.asarray(numbers[name], dtype=np.float64) for name in others}
    if reading.adjust is not None:
        columns = _adjusted(columns, table.source)
    if reverses and times is not None and _is_newest_first(times):
        _say_reversed(table.source)
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
        renamed = {_place(table, theirs): ours for ours, theirs in (reading.columns or {}).items()}
        names = [renamed.get(place, name) for place, name in enumerate(table.names)]
        table = table._replace(names=names)
        roles = _time_roles(table, names)
        of_times = set(roles.values())
        if any(_plain(ours) == _plain(theirs) == "date" for ours, theirs in (reading.columns or {}).items()) and "time" in roles:
            del roles["time"]  # the dates alone
            table.source.notes.append("times of day are left out")
        times = _times(table, roles, reading)
        if times is None:
            raise InputError(
                f"{path.name} must have a column of dates ({', '.join(DATE_NAMES[:5])}), got "
                f"{', '.join(map(str, names[:5]))}; columns={{'Date': ...}} names it"
            )
        places = {str(name).strip(): place for place, name in enumerate(names) if place not in of_times and not _is_unnamed(name)}
        frame = pd.DataFrame(_numbers(table, places, reading, roles), index=times)
        if _is_newest_first(times):
            _say_reversed(table.source)
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
    known = {*_ROLES, *DATE_NAMES, *SHORT.values(), *(each for names in _OTHER.values() for each in names), *used}
    wanted = [name for name in table.columns if _plain(name) in known or str(name).lower() in used]
    native = [table[name].to_native() for name in wanted]
    series = [each if isinstance(each, pd.Series) else each.to_pandas() for each in native]
    unused = [name for name in table.columns if name not in wanted]
    seen = [table[name].head(_SEEN).to_native() if isinstance(name, str) else pd.Series() for name in unused]
    rest = [each if isinstance(each, pd.Series) else each.to_pandas() for each in seen]  # enough to see what they are
    return Table(wanted + unused, [*series, *rest], nw.maybe_get_index(table), Source(), False)


def _say_unused(table: Table, roles: Mapping[str, int], has_times: bool, others: Sequence[str]) -> None:
    """Refuse rows without times beside a column of dates that nothing names; say which columns are left out."""
    unused = [
        place
        for place, name in enumerate(table.names)
        if place not in roles.values() and name not in others and not _is_unnamed(name)
    ]
    for place in unused if not has_times else ():
        name = str(table.names[place])
        if _holds_dates(table.columns[place], _OF_TIME.search(_plain(name)) is not None):
            raise DataError(
                f"frame must have its times in its index or in a column named {', '.join(DATE_NAMES[:4])}, got dates "
                f"in the column {name!r}; columns={{'Date': {name!r}}} names it"
            )
    for place in unused if "volume" not in roles else ():
        name = str(table.names[place])
        if _plain(name).startswith("vol"):
            table.source.notes.append(f"no volume, the column {name!r} is left out (columns={{'Volume': {name!r}}} names it)")
    for place in unused if has_times else ():
        if _plain(table.names[place]) == "time":
            table.source.notes.append(f"times of day in the column {str(table.names[place])!r} are left out")
    if unused:
        table.source.plain.append(f"columns left out: {', '.join(str(table.names[place]) for place in unused)}")


def _holds_dates(column: Any, is_of_time: bool) -> bool:
    """Whether the first values of a column that nothing names are dates; numbers may be, if its name speaks of time."""
    import pandas as pd

    first = column.iloc[:_SEEN].dropna()
    if pd.api.types.infer_dtype(first) in ("datetime64", "datetime", "date"):
        return True
    texts = [str(each) for each in first if str(each)]
    return bool(texts) and all(_DATE.match(each) or (is_of_time and each.isdigit() and len(each) >= 8) for each in texts)


def _plain(name: Any) -> str:
    return str(name).strip().strip("<>").strip().lower()


def _is_unnamed(name: Any) -> bool:
    return _plain(name) == "" or _plain(name).startswith("unnamed:")


def _roles(table: Table, reading: Reading) -> dict[str, int]:
    """Places of what is known by name: prices, volume, date and time."""
    names = [_plain(name) for name in table.names]
    given = {_plain(ours): _place(table, theirs) for ours, theirs in (reading.columns or {}).items()}
    for ours in given:
        if ours not in (*_ROLES, "date", "time"):
            raise InputError(
                f"columns must name Open, High, Low, Close, Volume, Adj Close, Date or Time, got {ours!r}"
                f"{did_you_mean(ours, (*_ROLES, 'date', 'time'))}"
            )
    roles: dict[str, int] = {}
    is_short = all(SHORT[role] in names for role in PRICES)
    for role in _ROLES:
        known = [role, *_OTHER.get(role, ()), *([SHORT[role]] if is_short and role in SHORT else [])]
        for name in known:
            if role not in given and role not in roles and name in names:
                _refuse_twice(table, names, name)
                roles[role] = names.index(name)
    return roles | _time_roles(table, table.names, is_short, given) | given


def _time_roles(
    table: Table, given_names: Sequence[Any], is_short: bool = False, given: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Places of the column of times (``date``), and of times of day beside it (``time``)."""
    names, given = [_plain(name) for name in given_names], given or {}
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
    elif table.is_text and table.names and _is_unnamed(table.names[0]):
        roles["labels"] = 0
    return roles


def _refuse_twice(table: Table, names: list[str], name: str) -> None:
    if names.count(name) > 1:
        first, second = [each for each, plain in zip(table.names, names, strict=True) if plain == name][:2]
        raise DataError(f"frame must have one column {name!r}, got {first!r} and {second!r}")


def _place(table: Table, name: str) -> int:
    """Where a column of that name is: as it stands, or in another letter case if only one is so."""
    if name in table.names:
        return table.names.index(name)
    alike = [place for place, each in enumerate(table.names) if str(each).strip().lower() == name.strip().lower()]
    if len(alike) != 1:
        raise InputError(
            f"columns must name columns that are there, got {name!r}, and there are "
            f"{', '.join(map(str, table.names))}{did_you_mean(name, map(str, table.names))}"
        )
    return alike[0]


def _times(table: Table, roles: Mapping[str, int], reading: Reading) -> pd.DatetimeIndex | None:
    """Times of the rows: an index of dates, a column by its name, or an index that can be read as times."""
    labels = table.labels
    if getattr(getattr(labels, "dtype", None), "kind", "") == "M" and "date" not in (
        _plain(each) for each in reading.columns or ()
    ):
        return times_of(labels, reading, table.source)
    if "date" in roles:
        return _times_of_columns(table, roles, reading)
    if "labels" in roles:
        texts = table.columns[roles["labels"]]
        if len(texts) and texts.str.fullmatch(r"\d{1,15}").all():
            return times_of_labels(texts_as_labels(texts), reading, table.source, "the unnamed first column")
        return times_of(texts, reading, table.source, "the unnamed first column") if len(texts) else None
    return None if labels is None else times_of_labels(labels, reading, table.source, "the index")


def texts_as_labels(texts: Any) -> Any:
    """Whole numbers of a text file as an index."""
    import pandas as pd

    return pd.Index(texts.map(int).to_numpy(dtype=np.int64))


def _times_of_columns(table: Table, roles: Mapping[str, int], reading: Reading) -> pd.DatetimeIndex:
    import pandas as pd

    date = str(table.names[roles["date"]])
    name, source, days = f"the time column {date!r}", table.source, table.columns[roles["date"]]
    if "time" not in roles or not len(days):
        return times_of(days, reading, source, name)
    column, clock_name = table.columns[roles["time"]], str(table.names[roles["time"]])
    says_clock = reading.dates is not None and any(each in reading.dates for each in ("%H", "%I", "%T", "%X"))
    has_clock = _has_clock(days)
    if says_clock and not has_clock:
        source.notes.append(f"times from two columns, {date} and {clock_name}")
        return times_of(with_clock_as(days, column, str(reading.dates)), reading, source, name)
    clock = clock_of(column, clock_name, date, source)
    if clock is None:
        source.notes.append(f"the column {clock_name!r} is empty, left out")
        return times_of(days, reading, source, name)
    is_text = pd.api.types.infer_dtype(days) == "string" and not days.str.fullmatch(r"[\d.]+").all()
    if is_text and not has_clock and reading.dates is None:
        source.notes.append(f"times from two columns, {date} and {clock_name}")
        return times_of(with_clock(days, clock), reading, source, name)
    apart = Source(lines=source.lines)
    own = times_of(days, Reading(dates=reading.dates), apart, name)  # without a zone asked for
    zone = None if own.tz is None else str(own.tz)
    both, is_midnight = with_clock(pd.Series(own), clock), bool((own == own.normalize()).all())
    joined = times_of(both, Reading(tz=zone or (reading.tz if is_midnight else None)), Source(lines=source.lines), name)
    if is_midnight:
        source.notes += [f"times from two columns, {date} and {clock_name}", *apart.notes]
        source.plain += apart.plain
        return joined if zone is None or reading.tz is None else joined.tz_convert(reading.tz)
    if zone is not None and reading.dates is None and pd.api.types.infer_dtype(days) == "string":  # the clock before its offset
        bare = days.str.replace(r"(:\d\d(?:\.\d+)?) ?(?:Z|[+-]\d\d:?\d\d)$", r"\1", regex=True)
        own = times_of(bare, Reading(), Source(lines=source.lines), name)
        own = own if own.tz is None else own.tz_localize(None)
        joined = times_of(with_clock(pd.Series(own), clock), Reading(), Source(lines=source.lines), name)
    differs = (own.hour != joined.hour) | (own.minute != joined.minute) | ((joined.second != 0) & (own.second != joined.second))
    if differs.any():
        row = int(differs.argmax())
        raise DataError(
            f"column {clock_name!r} must agree with the times of day in {date!r}, got {column.iloc[row]} beside "
            f"{days.iloc[row]} {source.at(row)}; columns={{'Date': {date!r}}} takes {date!r} alone"
        )
    source.notes.append(f"times from the column {date!r}, {clock_name!r} says the same")
    return times_of(days, reading, source, name)


def _has_clock(days: Any) -> bool:
    """Whether dates have times of day of their own, be they midnight."""
    import pandas as pd

    if pd.api.types.infer_dtype(days) in ("datetime64", "datetime"):
        times = pd.DatetimeIndex(days)
        return bool((times != times.normalize()).any())
    return bool(as_text(days).str.contains(r"\d:\d\d|^\d{9,}(?:\.\d+)?$|^\d{8}[ T_]\d{4}", regex=True).any())


def _numbers(table: Table, places: Mapping[str, int], reading: Reading, roles: Mapping[str, int]) -> dict[str, Any]:
    """Columns as numbers; of a frame as they are."""
    if table.is_text:
        used = {*places.values(), *(roles[each] for each in ("date", "time", "labels") if each in roles)}
        beside = {str(name): table.columns[place] for place, name in enumerate(table.names) if place not in used}
        return dict(numbers_of({name: table.columns[place] for name, place in places.items()}, reading, table.source, beside))
    return {name: _values(table.columns[place]) for name, place in places.items()}


def _values(column: Any) -> NDArray[Any]:
    """A column as NumPy knows it; missing numbers of nullable types are NaN."""
    import pandas as pd

    if (
        isinstance(column.dtype, pd.api.extensions.ExtensionDtype)
        and pd.api.types.is_numeric_dtype(column.dtype)
        and not pd.api.types.is_bool_dtype(column.dtype)
    ):
        return np.asarray(column.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(column.to_numpy())


def _adjusted(columns: dict[str, Any], source: Source) -> dict[str, Any]:
    """Prices times Adj Close / Close: one factor for a whole bar, so that highs stay highs."""
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


def _say_reversed(source: Source) -> None:
    if source.lines is not None:
        source.lines = source.lines[::-1]
    source.notes.append("newest first, reversed")
    warnings.warn(f"{source.name} is sorted newest first; its rows are reversed, so that the oldest comes first", stacklevel=4)


def _of_levels(columns: Sequence[Any]) -> str:
    """How to take one instrument where columns name prices and instruments, as downloads of several do; else nothing."""
    for column in columns:
        if isinstance(column, tuple) and len(column) == 2:
            for level in (0, 1):
                if str(column[1 - level]).lower() in PRICES:
                    return f"; frame.xs({column[level]!r}, axis=1, level={level}) is one instrument"
    return ""

"""Times of a table's rows: from its index, from a column of dates, or from dates and times of day in two columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import DataError
from backtest.files.columns import Table, plain_name
from backtest.files.reading import Reading, Source
from backtest.files.times import as_text, clock_of, times_of, times_of_labels, with_clock, with_clock_as

if TYPE_CHECKING:
    import pandas as pd


def row_times(table: Table, roles: Mapping[str, int], reading: Reading) -> pd.DatetimeIndex | None:
    """Times from an index of dates, else from a named column, else from an index that can be read as times; None without any."""
    labels = table.labels
    if getattr(getattr(labels, "dtype", None), "kind", "") == "M" and "date" not in (
        plain_name(each) for each in reading.columns or ()
    ):
        return times_of(labels, reading, table.source)
    if "date" in roles:
        return _from_columns(table, roles, reading)
    if "labels" in roles:
        texts = table.columns[roles["labels"]]
        if len(texts) and texts.str.fullmatch(r"\d{1,15}").all():
            return times_of_labels(_as_index(texts), reading, table.source, "the unnamed first column")
        return times_of(texts, reading, table.source, "the unnamed first column") if len(texts) else None
    return None if labels is None else times_of_labels(labels, reading, table.source, "the index")


def _as_index(texts: Any) -> Any:
    """Texts of whole numbers as a pandas index."""
    import pandas as pd

    return pd.Index(texts.map(int).to_numpy(dtype=np.int64))


def _from_columns(table: Table, roles: Mapping[str, int], reading: Reading) -> pd.DatetimeIndex:
    import pandas as pd

    date = str(table.names[roles["date"]])
    name, source, days = f"the time column {date!r}", table.source, table.columns[roles["date"]]
    if "time" not in roles or not len(days):
        return times_of(days, reading, source, name)
    column, clock_name = table.columns[roles["time"]], str(table.names[roles["time"]])
    says_clock = reading.dates is not None and any(each in reading.dates for each in ("%H", "%I", "%T", "%X"))
    has_clock = _has_time_of_day(days)
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
    own = times_of(days, Reading(dates=reading.dates), apart, name)  # not yet in the zone asked for
    zone = None if own.tz is None else str(own.tz)
    both, is_midnight = with_clock(pd.Series(own), clock), bool((own == own.normalize()).all())
    joined = times_of(both, Reading(tz=zone or (reading.tz if is_midnight else None)), Source(lines=source.lines), name)
    if is_midnight:
        source.notes += [f"times from two columns, {date} and {clock_name}", *apart.notes]
        source.plain += apart.plain
        return joined if zone is None or reading.tz is None else joined.tz_convert(reading.tz)
    if (
        zone is not None and reading.dates is None and pd.api.types.infer_dtype(days) == "string"
    ):  # compare the local time, without its offset
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


def _has_time_of_day(days: Any) -> bool:
    """Whether the column of dates has times of day too, if only midnight."""
    import pandas as pd

    if pd.api.types.infer_dtype(days) in ("datetime64", "datetime"):
        times = pd.DatetimeIndex(days)
        return bool((times != times.normalize()).any())
    return bool(as_text(days).str.contains(r"\d:\d\d|^\d{9,}(?:\.\d+)?$|^\d{8}[ T_]\d{4}", regex=True).any())

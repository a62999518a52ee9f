"""Columns of dates, texts or numbers to times, with or without a time zone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError
from backtest._said import said, shown
from backtest.files.dates import texts_as_times
from backtest.files.reading import Reading, Source, zone
from backtest.files.stamps import is_row_numbers, numbers_as_times

if TYPE_CHECKING:
    import pandas as pd

#: Range of int64 nanoseconds since 1970, whole years.
YEARS = (1678, 2261)
#: Texts of missing values.
MISSING = frozenset({"", "nan", "nat", "null", "none", "na", "n/a", "#n/a", "<na>", "-"})
_SECONDS_PER_DAY = 86_400
_NUMBER = r"[+-]?(?:0|[1-9]\d*)(?:\.\d*)?"
#: Part of a text that is meant as a time, read or not.
_LIKE_A_DATE = r"\d{4}|\d[-/.: ]\d|\d[-/. ][A-Za-z]{3}|[A-Za-z]{3}[-/. ]\d"
_CLOCK = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp]\.?[Mm]\.?)?(?: ?(?:Z|[+-]\d{2}:?\d{2}))?"


def times_of(values: Any, reading: Reading, source: Source, name: str = "the time column") -> pd.DatetimeIndex:
    """Values of any kind as times, decided for the whole column; aware times are in ``reading.tz``, their named zone or UTC.

    Raises
    ------
    DataError
        A value is missing or not a date, or the column is ambiguous; the message names the argument that decides.
    """
    import pandas as pd

    column = pd.Series(values).reset_index(drop=True)
    if not len(column):
        return pd.DatetimeIndex([])
    if isinstance(column.dtype, pd.PeriodDtype):
        raise DataError(f"{name} must hold dates, got periods ({column.dtype}); to_timestamp() makes dates of them")
    missing = column.isna() | _is_missing_text(column)
    if missing.any():
        row = int(missing.to_numpy().argmax())
        raise DataError(f"{name} must have no missing date, got NaT {source.at(row)}")
    kind, is_utc, taken = pd.api.types.infer_dtype(column), False, ""
    if kind in ("datetime64", "datetime", "date"):
        index = _of_dates(column, name)
    elif kind in ("integer", "floating", "mixed-integer-float", "decimal"):
        try:
            numbers = column.to_numpy(dtype=np.int64) if kind == "integer" else column.to_numpy(dtype=np.float64)
        except OverflowError:
            raise DataError(f"{name} must hold dates, got whole numbers beyond 64 bits") from None
        index, taken, is_utc = _of_numbers(numbers, reading, name, source)
    elif kind == "string":
        index, taken, is_utc = _of_texts(column, reading, name, source)
    else:
        raise DataError(f"{name} must hold dates, got {shown(column[0])} {source.at(0)}")
    far = np.asarray((index.year < YEARS[0]) | (index.year > YEARS[1]))
    if far.any():
        row = int(far.argmax())
        raise DataError(f"{name} must be between {YEARS[0]} and {YEARS[1]}, got {index[row]} {source.at(row)}")
    index = index.as_unit("ns").rename(None)
    if taken:
        is_plain = re.match(r"%Y-%m-%d|%Y%m%d", taken) is not None
        (source.plain if is_plain else source.notes).append(f"{name} taken as {taken}")
    return _in_zone(index, reading.tz, is_utc, name, source)


def times_of_labels(labels: Any, reading: Reading, source: Source, name: str = "the index") -> pd.DatetimeIndex | None:
    """Row labels as times; None if they are row numbers."""
    import pandas as pd

    if not len(labels):
        return None
    if isinstance(labels, pd.MultiIndex):
        raise DataError(
            f"{name} must be one level of times, got {labels.nlevels} levels; xs of a pandas table takes one instrument"
        )
    if pd.api.types.is_complex_dtype(labels.dtype):
        raise DataError(f"{name} must hold dates, or number the rows, got complex numbers, {labels[0]} {source.at(0)}")
    is_numeric = pd.api.types.is_numeric_dtype(labels.dtype) and not pd.api.types.is_bool_dtype(labels.dtype)
    if is_numeric and reading.dates is None:
        numbers = labels.to_numpy(dtype=np.float64, na_value=np.nan)
        if is_row_numbers(numbers, isinstance(labels, pd.RangeIndex)):
            if len(numbers) > 1 and (np.diff(numbers) < 0).all():
                raise DataError(
                    f"{name} must count up where it only numbers the rows, got {labels[0]} {source.at(0)} down to "
                    f"{labels[-1]}: newest first? frame[::-1] turns the rows round, and reset_index(drop=True) "
                    "says that the oldest comes first"
                )
            return None
    try:
        return times_of(labels, reading, source, name)
    except DataError as error:
        if is_numeric:
            raise DataError(f"{error}; if it only numbers the rows, reset_index(drop=True) says so") from None
        raise


def times_asked(name: str, values: Any) -> pd.DatetimeIndex:
    """An argument of times: a DatetimeIndex as it is, anything else read as a column of a file."""
    import pandas as pd

    if isinstance(values, pd.DatetimeIndex):
        return values
    source = Source()
    try:
        column = pd.Series(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} must hold dates, got {type(values).__name__}; {said(error)}") from None
    found = times_of(column, Reading(), source, name)
    source.log()
    return found


def times_of_rows(labels: Any) -> pd.DatetimeIndex | None:
    """Row labels of a frame that are times (dates, texts, periods, numbers); None for any others.

    Raises
    ------
    DataError
        They look like times and cannot be read; the message says what makes dates of them.
    """
    import pandas as pd

    if isinstance(labels, pd.DatetimeIndex):
        return labels
    if isinstance(labels, pd.PeriodIndex):
        return labels.to_timestamp()
    if isinstance(labels, pd.CategoricalIndex):
        labels = pd.Index(labels.to_numpy())
    if isinstance(labels, pd.MultiIndex) or not hasattr(labels, "dtype"):
        return None
    kind = pd.api.types.infer_dtype(labels) if len(labels) and labels.dtype.kind not in "iuf" else "numbers"
    if kind in ("date", "datetime", "datetime64", "string"):
        try:
            return _logged(labels)
        except DataError as error:
            if kind == "string" and not re.search(_LIKE_A_DATE, str(labels[0])):
                return None  # words
            raise DataError(f"{error}; pandas.to_datetime(index, format=...) makes dates of them") from None
    if getattr(labels.dtype, "kind", "?") not in "Miufc":
        return None
    return _logged(labels)


def _logged(labels: Any) -> pd.DatetimeIndex | None:
    source = Source()
    found = times_of_labels(labels, Reading(), source)
    source.log()
    return found


def split(index: pd.DatetimeIndex) -> tuple[NDArray[np.datetime64], str | None]:
    """Times as datetime64 (in UTC if they are aware), and the name of their zone or None."""
    if index.tz is None:
        return index.to_numpy(), None
    return index.tz_convert("UTC").tz_localize(None).to_numpy(), str(index.tz)


def clock_of(column: pd.Series[Any], name: str, date: str, source: Source) -> pd.Series[Any] | None:
    """Times of day such as 09:30, 4:15 PM, 0930 or 093000, as texts with colons; None if all are missing.

    Raises
    ------
    DataError
        One is missing or not a time of day, or numbers are ambiguous.
    """
    column = column.reset_index(drop=True)
    missing = (column.isna() | _is_missing_text(column)).to_numpy(dtype=bool)
    if missing.all():
        return None
    alone = f"columns={{'Date': {date!r}}} takes the dates alone"
    if missing.any():
        row = int(missing.argmax())
        raise DataError(
            f"column {name!r} must hold a time of day in every row, got {shown(column[row])} {source.at(row)}; {alone}"
        )
    texts = as_text(column)
    if texts.str.fullmatch(_CLOCK).all():
        return texts
    if not texts.str.fullmatch(r"\d{1,6}").all():
        row = int((~texts.str.fullmatch(_CLOCK).astype(bool)).to_numpy().argmax())
        raise DataError(
            f"column {name!r} must hold times of day such as 09:30 or 9:30 AM, got {shown(column[row])} {source.at(row)}; {alone}"
        )
    numbers, widths = texts.astype(np.int64), texts.str.len()
    is_padded = bool((widths == widths[0]).all() and widths[0] in (4, 6) and texts.str.startswith("0").any())
    width = int(widths[0]) if is_padded else 4 if widths.max() <= 4 else 6
    padded = texts.str.zfill(width)
    valid = padded.str.fullmatch(r"(?:[01]\d|2[0-3])(?:[0-5]\d)+").astype(bool)
    if valid.all() and (is_padded or numbers.max() >= _SECONDS_PER_DAY):
        return padded.str.replace(
            r"(\d\d)(\d\d)(\d\d)?", lambda found: ":".join(each for each in found.groups() if each), regex=True
        )
    readings = [
        word
        for word, fits in (
            ("hours", numbers.max() < 24),
            ("minutes since midnight", numbers.max() < 1440),
            ("seconds since midnight", numbers.max() < _SECONDS_PER_DAY),
            ("HHMM" if width == 4 else "HHMMSS", valid.all()),
        )
        if fits
    ]
    row = 0 if readings else int((~valid).to_numpy().argmax())
    count = ("", ", which fits one reading, ", *(f", which fits {each} readings, " for each in ("two", "three", "four")))
    which = count[len(readings)] + " and ".join(readings)
    raise DataError(
        f"column {name!r} must hold unambiguous times of day, such as 09:30, got {texts[row]} {source.at(row)}"
        f'{which}; a format of both columns says what they are, such as dates="%Y-%m-%d %H%M", and {alone}'
    )


def with_clock(days: pd.Series[Any], clock: pd.Series[Any]) -> pd.Series[Any]:
    """Days and times of day joined to one text each."""
    import pandas as pd

    if pd.api.types.infer_dtype(days) in ("datetime64", "datetime", "date"):
        days = pd.Series(pd.DatetimeIndex(days).strftime("%Y-%m-%d"))
    days = as_text(days.reset_index(drop=True))
    return (
        days.where(~days.str.fullmatch(r"\d{8}").astype(bool), days.str.replace(r"(\d{4})(\d\d)(\d\d)", r"\1-\2-\3", regex=True))
        + " "
        + clock
    )


def with_clock_as(days: pd.Series[Any], clock: pd.Series[Any], dates: str) -> pd.Series[Any]:
    """Days and times of day joined for a format of both; leading zeros that numbers cannot have are put back."""
    import pandas as pd

    if pd.api.types.infer_dtype(days) in ("datetime64", "datetime", "date"):
        days = pd.Series(pd.DatetimeIndex(days).strftime(dates.split(" ")[0]))
    clock = as_text(clock.reset_index(drop=True))
    if clock.str.fullmatch(r"\d{1,6}").all():
        clock = clock.str.zfill(6 if "%H%M%S" in dates else 4 if "%H%M" in dates else 2)
    return as_text(days.reset_index(drop=True)) + " " + clock


def as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Values as stripped texts; whole numbers without a decimal point."""
    import pandas as pd

    if pd.api.types.is_float_dtype(column.dtype) and (column == np.floor(column)).all():
        column = column.astype(np.int64)
    return column.astype(object).map(str).str.strip()


def _is_missing_text(column: pd.Series[Any]) -> Any:
    import pandas as pd

    if not (pd.api.types.is_object_dtype(column.dtype) or pd.api.types.is_string_dtype(column.dtype)):
        return np.zeros(len(column), dtype=np.bool_)
    return np.fromiter(
        (isinstance(value, str) and len(value) < 9 and value.strip().lower() in MISSING for value in column),
        dtype=np.bool_,
        count=len(column),
    )  # texts of missing values are shorter than 9 characters


def _of_dates(column: pd.Series[Any], name: str) -> pd.DatetimeIndex:
    import pandas as pd

    try:
        try:
            return pd.DatetimeIndex(pd.to_datetime(pd.Index(column)))
        except ValueError as error:
            if "utc=True" not in str(error):
                raise
            if any(getattr(value, "tzinfo", None) is None for value in column):
                raise DataError(f"{name} must hold times that all have a zone or all have none, got both") from None
            return pd.DatetimeIndex(pd.to_datetime(pd.Index(column), utc=True))  # differing offsets
    except (ValueError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} must hold dates, got {shown(column[0])}; {said(error)}") from None


def _of_numbers(numbers: NDArray[Any], reading: Reading, name: str, source: Source) -> tuple[pd.DatetimeIndex, str, bool]:
    import pandas as pd

    bad = ~np.isfinite(numbers) | (np.abs(numbers.astype(np.float64)) > 9e18)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{name} must hold dates, got {numbers[row]} {source.at(row)}")
    times, taken, is_utc = numbers_as_times(numbers, reading.dates, name, source)
    return pd.DatetimeIndex(times), taken, is_utc


def _of_texts(column: pd.Series[Any], reading: Reading, name: str, source: Source) -> tuple[pd.DatetimeIndex, str, bool]:
    import pandas as pd

    texts = pd.Series([text.strip() for text in column], dtype=object)
    is_format = reading.dates is not None and "%" in reading.dates
    if not is_format and re.fullmatch(_NUMBER, texts.iloc[0]) and texts.str.fullmatch(_NUMBER).all():
        is_whole = not texts.str.contains(".", regex=False).any() and bool((texts.str.len() <= 19).all())
        numbers = np.array([int(text) if is_whole else float(text) for text in texts])
        if numbers.dtype.kind not in "if":  # beyond int64
            numbers = numbers.astype(np.float64)
        return _of_numbers(numbers, reading, name, source)
    if reading.dates is not None and not is_format:
        row = int((~texts.str.fullmatch(_NUMBER).astype(bool)).to_numpy().argmax())
        raise DataError(f'{name} must hold numbers to be read as dates="{reading.dates}", got {texts[row]!r} {source.at(row)}')
    index, taken = texts_as_times(texts, reading.dates, name, source)
    return index, taken, False


def _in_zone(index: pd.DatetimeIndex, tz: str | None, is_utc: bool, name: str, source: Source) -> pd.DatetimeIndex:
    """Times in the zone asked for; times with mere offsets are in UTC if none is."""
    if index.tz is not None:
        return index.tz_convert(_named_zone(index.tz) if tz is None else tz)
    if tz is None:
        return index
    if is_utc:
        return index.tz_localize("UTC").tz_convert(tz)
    placed = index.tz_localize(tz, ambiguous="NaT", nonexistent="NaT")
    if placed.hasnans:
        row = int(placed.isna().argmax())
        twice = not index[[row]].tz_localize(tz, ambiguous=np.array([True]), nonexistent="NaT").hasnans
        raise DataError(
            f"{name} must hold times that {tz} has once, got {index[row]} {source.at(row)}, which it has "
            f"{'twice' if twice else 'never'} (a change of clocks); times with offsets, or in UTC, are clear"
        )
    return placed


def _named_zone(tz: Any) -> str:
    """The name of a time zone; UTC for a fixed offset."""
    name = getattr(tz, "key", None) or getattr(tz, "zone", None) or "UTC"
    try:
        return zone(name)
    except DataError:
        return "UTC"

"""Numbers to times: compact dates such as 20200131, unix times by magnitude, serial days of spreadsheets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError
from backtest.files.reading import UNIX, Source

Ints = NDArray[np.int64]

#: Number of digits of compact dates, and their formats.  Ten digits may also be seconds since 1970, of 2030 to 2036.
COMPACT = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
FIRST_YEAR, LAST_YEAR = 1900, 2100
#: Range of serial days of spreadsheets, 1954 to 2064.
EXCEL = (20_000, 60_000)
EXCEL_ZERO = np.datetime64("1899-12-30T00:00:00", "ns")
#: The smallest compact date with a day.
FIRST_COMPACT_DATE = 19_000_101
_SECONDS_1900, _SECONDS_1971, _SECONDS_2101 = (
    int(np.datetime64(f"{year}-01-01", "s").astype(np.int64)) for year in (FIRST_YEAR, 1971, LAST_YEAR + 1)
)
_LONGEST_GAP = 20 * 365.25 * 86_400  # seconds; a column that mixes two units jumps by more
_HELP = 'dates="unix_s", "unix_ms", "unix_us", "unix_ns", "excel" or a format such as "%Y%m%d%H%M" says what they are'


def numbers_as_times(values: NDArray[Any], dates: str | None, name: str, source: Source) -> tuple[NDArray[Any], str, bool]:
    """Numbers as datetime64[ns], the format that was recognised, and whether it counts in UTC."""
    values = np.asarray(values)
    if dates is None:
        dates = _recognised(values, name, source)
        said = {"excel": "serial days of a spreadsheet", **dict.fromkeys(UNIX, f"{dates}, since 1970 in UTC")}.get(dates, dates)
    else:
        said = dates
    if dates in UNIX:
        return _from_unix(values, UNIX[dates], name, source), said, True
    if dates == "excel":
        return _from_excel(values, name, source), said, False
    return _from_compact(_whole(values, name, source), dates, name, source), said, False


def is_row_numbers(values: NDArray[Any], is_range: bool) -> bool:
    """Whether numbers that label rows are row numbers, not times.

    A range is, unless it reaches compact dates.  Others are if they are 0, 1, 2, ... or 1, 2, 3, ..., or whole numbers below
    any compact date that are not all years, all year and month, or all serial days.
    """
    if not len(values):
        return True
    if not np.isfinite(values.astype(np.float64)).all() or (values != np.floor(values)).any():
        return False
    least, most = values.min(), values.max()
    if most >= FIRST_COMPACT_DATE or least < 0:
        return False
    counts = is_range or (least in (0, 1) and most - least + 1 == len(values))
    return bool(
        counts
        or not ((EXCEL[0] <= least and most <= EXCEL[1]) or (least >= FIRST_YEAR and most <= LAST_YEAR) or _are_months(values))
    )


def _are_months(values: NDArray[Any]) -> bool:
    year, month = np.divmod(values.astype(np.int64), 100)
    return bool(((year >= FIRST_YEAR) & (year <= LAST_YEAR) & (month >= 1) & (month <= 12)).all())


def _recognised(values: NDArray[Any], name: str, source: Source) -> str:
    """The format of a column of numbers; an error if two fit, or none."""
    shown = f"got {_shown(values[0])} {source.at(0)}"
    compact = _compact(values)
    unix = [word for word, per_second in UNIX.items() if _is_unix(values, per_second)]
    if compact and unix and (compact == COMPACT[10] or (values % (60 * UNIX[unix[0]]) == 0).all()):
        raise DataError(
            f"{name} must hold unambiguous times, {shown}, which may be {compact} or {unix[0]}; "
            f'dates="{compact}" or dates="{unix[0]}" says which'
        )
    if compact and compact != COMPACT[10]:
        return compact
    if unix:
        return unix[0]
    if values.min() >= EXCEL[0] and values.max() <= EXCEL[1]:
        raise DataError(
            f"{name} must hold dates, got numbers, {_shown(values[0])} {source.at(0)}, which look like serial days "
            f'of a spreadsheet; dates="excel" says so'
        )
    raise DataError(f"{name} must hold dates, got numbers, {_shown(values[0])} {source.at(0)}; {_HELP}")


def _compact(values: NDArray[Any]) -> str | None:
    """The compact format that every value is valid in, or None."""
    if (values != np.floor(values)).any():
        return None
    for digits, dates in COMPACT.items():
        if values.min() >= 10 ** (digits - 1) and values.max() < 10**digits:
            return dates if not np.isnat(_compact_dates(values.astype(np.int64), digits)).any() else None
    return None


def _compact_dates(values: Ints, digits: int) -> NDArray[Any]:
    """Compact dates of so many digits as datetime64[s]; NaT where one is not a date of 1900 to 2100."""
    rest, fields = values * 10 ** (14 - digits), []
    for _ in range(5):
        rest, field = np.divmod(rest, 100)
        fields.append(field)
    (second, minute, hour, day, month), year = fields, rest
    bad = (
        (year < FIRST_YEAR)
        | (year > LAST_YEAR)
        | (month < 1)
        | (month > 12)
        | (day < 1)
        | (hour > 23)
        | (minute > 59)
        | (second > 59)
    )
    months = np.where(bad, 0, (year - 1970) * 12 + month - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + (day - 1)
    bad |= days.astype("datetime64[M]") != months  # 31 April
    found = days.astype("datetime64[s]") + (hour * 3600 + minute * 60 + second)
    found[bad] = np.datetime64("NaT")
    return np.asarray(found)


def _is_unix(values: NDArray[Any], per_second: int) -> bool:
    """Whether numbers are times of 1971 to 2100 in this unit (earlier ones too, if no gap is long)."""
    seconds = np.sort(values.astype(np.float64) / per_second)
    return bool(
        seconds[0] >= _SECONDS_1900
        and _SECONDS_1971 <= seconds[-1] < _SECONDS_2101
        and (len(seconds) == 1 or np.diff(seconds).max() < _LONGEST_GAP)
    )


def _from_unix(values: NDArray[Any], per_second: int, name: str, source: Source) -> NDArray[Any]:
    seconds = values.astype(np.float64) / per_second
    far = ~(np.abs(seconds) < 9e9)  # roughly the range of int64 nanoseconds; catches NaN too
    if far.any():
        row = int(far.argmax())
        unit = next(word for word, each in UNIX.items() if each == per_second)
        raise DataError(f"{name} must hold times in {unit}, got {_shown(values[row])} {source.at(row)}")
    to_nanos = 10**9 // per_second
    if (values == np.floor(values)).all():
        return np.asarray((values.astype(np.int64) * to_nanos).astype("datetime64[ns]"))
    whole = np.floor(values)  # a float64 of a present time is not finer than microseconds
    micros = np.round((values - whole) * (to_nanos / 1000)).astype(np.int64)
    return np.asarray((whole.astype(np.int64) * to_nanos + micros * 1000).astype("datetime64[ns]"))


def _from_excel(values: NDArray[Any], name: str, source: Source) -> NDArray[Any]:
    days = values.astype(np.float64)
    far = ~((days >= 61) & (days < 100_000))  # before 1 March 1900 spreadsheets disagree
    if far.any():
        row = int(far.argmax())
        raise DataError(
            f"{name} must hold serial days of a spreadsheet (61 to 99999), got {_shown(values[row])} {source.at(row)}"
        )
    millis = np.round(days * 86_400_000).astype(np.int64)
    return np.asarray(EXCEL_ZERO + millis * np.timedelta64(1_000_000, "ns"))


def _from_compact(values: Ints, dates: str, name: str, source: Source) -> NDArray[Any]:
    """Whole numbers by a format; leading zeros that a number cannot have are put back."""
    for digits, known in COMPACT.items():
        if dates == known:
            found = _compact_dates(np.where((values >= 10 ** (digits - 1)) & (values < 10**digits), values, 0), digits)
            break
    else:
        found = _by_format(values, dates)
    bad = np.isnat(found)
    if bad.any():
        row = int(bad.argmax())
        raise DataError(f"{name} must hold dates as {dates}, got {values[row]} {source.at(row)}; dates= says what they are")
    return np.asarray(found, dtype="datetime64[ns]")


def _by_format(values: Ints, dates: str) -> NDArray[Any]:
    import pandas as pd

    width = len(pd.Timestamp("2000-01-01").strftime(dates))
    texts = pd.Series(values).astype(str).str.zfill(width)
    found: NDArray[Any] = pd.to_datetime(texts, format=dates, errors="coerce").to_numpy(dtype="datetime64[ns]")
    return found


def _whole(values: NDArray[Any], name: str, source: Source) -> Ints:
    broken = values != np.floor(values)
    if broken.any():
        row = int(broken.argmax())
        raise DataError(f"{name} must hold whole numbers to be read by a format, got {values[row]} {source.at(row)}")
    return values.astype(np.int64)


def _shown(value: Any) -> str:
    number = value.item() if isinstance(value, np.generic) else value
    return str(int(number) if number == int(number) else number)

"""Texts to dates: the order of day, month and year is decided for the whole column, or the column is refused."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import DataError
from backtest._said import shown
from backtest.files.reading import Source

if TYPE_CHECKING:
    import pandas as pd

#: Number of formats that one column may mix, such as with and without fractions of a second.
_SHAPES = 8
_DIGIT = re.compile(r"\d")
_YEARS = (1678, 2261)  # range of int64 nanoseconds since 1970, whole years
_MONTHS = (
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
)
_NAME = r"(?P<month>[A-Za-z]{3,9})\.?"
_NAMED = [
    re.compile(pattern + r"(?P<rest>\D.*)?", re.S)
    for pattern in (
        rf"(?P<day>\d{{1,2}})(?:st|nd|rd|th)?[-/., ]*{_NAME}[-/., ]*(?P<year>\d{{4}}|\d{{2}})",
        rf"{_NAME}[-/ ]*(?P<day>\d{{1,2}})(?:st|nd|rd|th)?(?:, ?|[-/ ])(?P<year>\d{{4}})",
        rf"(?P<year>\d{{4}})[-/., ]*{_NAME}[-/., ]*(?P<day>\d{{1,2}})",
    )
]
_WEEKDAY = r"^(?i:mon|tue|wed|thu|fri|sat|sun)[a-z]*[,.]? +"
#: Anything beyond digits, marks, T and Z; ISO times have none and need no rewriting.
_UNUSUAL = re.compile(r"[A-SU-Ya-z,]|  ")
_SHAPE = re.compile(
    r"(?:(?P<a>\d{1,4})(?P<mark>[-/. ])(?P<b>\d{1,2})(?P=mark)(?P<c>\d{4}|\d{1,2})|(?P<compact>\d{8}))"
    r"(?:(?P<gap> ?T ?| |_|:)(?P<clock>\d{1,2}:\d{2}(?P<second>:\d{2}(?P<fraction>\.\d{1,9})?)?|\d{4}(?:\d{2})?)"
    r"(?P<half> ?[AP]M)?)?(?P<zone> ?(?:Z|[+-]\d{2}(?::?\d{2})?))?"
)
#: Orders of day, month and year, and their formats.
_ORDERS = {"dmy": "%d{0}%m{0}%Y", "mdy": "%m{0}%d{0}%Y", "ymd": "%Y{0}%m{0}%d"}
_ORDER_WORDS = {"dmy": "day first", "mdy": "month first", "ymd": "year first"}
#: Years of two digits are 1970 to 1999 and 2000 to 2049; 50 to 69 are refused, since their century is unknown.
_TWO_DIGITS = (1970, 2049)


def texts_as_times(texts: pd.Series[Any], dates: str | None, name: str, source: Source) -> tuple[pd.DatetimeIndex, str]:
    """Texts as times (in UTC if they have offsets, else naive), and the format that was recognised."""
    import pandas as pd

    texts = texts.reset_index(drop=True).astype(object)
    row = next((row for row, text in enumerate(texts) if not _DIGIT.search(text)), None)  # pandas would read "today" and "now"
    if row is not None:
        raise DataError(f"{name} must hold dates, got {shown(texts[row])} {source.at(row)}; dates= gives the format")
    if dates is not None:
        found = pd.to_datetime(texts, format=dates, errors="coerce", utc="%z" in dates)
        bad = found.isna()
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise DataError(f'{name} must hold dates as dates="{dates}", got {shown(texts[row])} {source.at(row)}')
        return pd.DatetimeIndex(found), dates
    plain = _numbered(_normal(texts)) if _UNUSUAL.search(texts[0]) else texts
    first = _SHAPE.fullmatch(plain[0])
    if first is None:
        raise _no_date(name, texts[0], 0, source)
    orders = _possible_orders(first)
    tried = {order: _parsed(plain, order) for order in orders}
    fits = {order: found for order, found in tried.items() if isinstance(found, _Found)}
    if not fits:
        row = max((each for each in tried.values() if isinstance(each, int)), default=0)
        raise _no_date(name, texts[row], row, source)
    order = _decided(fits, first, texts, name, source)
    taken = fits[order]
    if taken.is_aware.any() and not taken.is_aware.all():
        row = int((taken.is_aware != taken.is_aware[0]).argmax())
        raise DataError(
            f"{name} must hold times that all have an offset or all have none, got {texts[0]!r} {source.at(0)} and "
            f"{texts[row]!r} {source.at(row)}"
        )
    times = pd.DatetimeIndex(taken.times)
    _check_centuries(times, first, texts, name, source)
    return (times.tz_localize("UTC") if taken.is_aware.all() else times), f"{taken.format} ({_ORDER_WORDS[order]})"


class _Found:
    """A column read in one order: times (in UTC where there are offsets), which rows have an offset, the format of the first."""

    def __init__(self, n_rows: int) -> None:
        self.times = np.full(n_rows, np.datetime64("NaT"), dtype="datetime64[ns]")
        self.is_aware = np.zeros(n_rows, dtype=np.bool_)
        self.format = ""

    def is_monotone(self) -> bool:
        steps = np.diff(self.times)
        return bool((steps >= np.timedelta64(0)).all() or (steps <= np.timedelta64(0)).all())


def _normal(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Without weekdays, with single blanks, AM and PM in one spelling, offsets as numbers."""
    texts = texts.str.replace(_WEEKDAY, "", regex=True)
    texts = texts.str.replace(r"\s+", " ", regex=True)
    texts = texts.str.replace(r"(?i)(?<=\d) ?([ap])\.?m\b\.?", lambda found: f" {found[1].upper()}M", regex=True)
    texts = texts.str.replace(r"(?:UTC|GMT)(?=[+-])", "", regex=True)
    texts = texts.str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
    texts = texts.str.replace(r"(\d),(?= ?\d{1,2}:)", r"\1 ", regex=True)
    return texts.str.replace(r" {2,}", " ", regex=True)


def _numbered(texts: pd.Series[Any]) -> pd.Series[Any]:
    """Dates with English names of months, rewritten as year-month-day."""
    if not re.search(r"[A-Za-z]{3}", texts[0]):
        return texts

    def numbered(text: str) -> str:
        for pattern in _NAMED:
            found = pattern.fullmatch(text)
            month = found and _month(found["month"])
            if found and month:
                rest = found["rest"] or ""
                if rest.startswith(","):
                    rest = " " + rest[1:].lstrip()
                year = int(found["year"])
                if year < 100:
                    year += 2000 if year <= _TWO_DIGITS[1] % 100 else 1900
                if year >= _TWO_DIGITS[0] or len(found["year"]) == 4:
                    return f"{year:04}-{month:02}-{int(found['day']):02}{rest}"
        return text

    return texts.map(numbered)


def _month(word: str) -> int | None:
    word = "sep" if word.lower() == "sept" else word.lower()
    for number, name in enumerate(_MONTHS, start=1):
        if word in (name, name[:3]):
            return number
    return None


def _possible_orders(first: re.Match[str]) -> list[str]:
    """Orders that the first date of a column allows."""
    if first["compact"] or len(first["a"]) == 4:
        return ["ymd"]
    if len(first["a"]) == 3:
        return []
    if len(first["c"]) == 4:
        return ["dmy"] if first["mark"] == "." else ["dmy", "mdy"]
    return ["dmy", "ymd"] if first["mark"] == "." else ["dmy", "mdy", "ymd"]


def _format(found: re.Match[str], order: str) -> str | None:
    """The strptime format of one text in an order, or None."""
    if found["compact"]:
        date = "%Y%m%d"
    else:
        widths = {"dmy": (found["c"], found["a"]), "mdy": (found["c"], found["a"]), "ymd": (found["a"], found["c"])}
        year, other = widths[order]
        if len(year) not in (2, 4) or len(other) > 2:
            return None
        date = _ORDERS[order].format(found["mark"]).replace("%Y", "%Y" if len(year) == 4 else "%y")
    if found["clock"] is None:
        return date if found["zone"] is None else None
    if ":" in found["clock"]:
        clock = (
            ("%I" if found["half"] else "%H") + ":%M" + (":%S" if found["second"] else "") + (".%f" if found["fraction"] else "")
        )
    else:
        if not found["compact"] or found["half"]:
            return None
        clock = "%H%M%S" if len(found["clock"]) == 6 else "%H%M"
    half = (found["half"] or "")[:-2] + "%p" if found["half"] else ""
    offset = (" " if found["zone"].startswith(" ") else "") + "%z" if found["zone"] else ""
    return date + found["gap"] + clock + half + offset


def _parsed(texts: pd.Series[Any], order: str) -> _Found | int:
    """A column read in one order, or the first row that does not fit."""
    import pandas as pd

    found, left = _Found(len(texts)), texts
    for _ in range(_SHAPES):
        row = int(left.index[0])
        shape = _SHAPE.fullmatch(left.iloc[0])
        form = _format(shape, order) if shape else None
        if shape is None or form is None:
            return row
        is_aware = form.endswith("%z")
        times = pd.to_datetime(left, format=form, errors="coerce", utc=is_aware)
        if shape["compact"]:  # pandas accepts fewer digits
            times = times.where(left.str.match(r"\d{8}(?!\d)"))
        good = times.dt.year.between(*_YEARS)  # False for NaT
        if not good.iloc[0]:
            return row
        rows = left.index[good]
        some = times[good]
        found.times[rows] = (some.dt.tz_localize(None) if is_aware else some).to_numpy(dtype="datetime64[ns]")
        found.is_aware[rows] = is_aware
        found.format = found.format or form
        left = left[~good]
        if left.empty:
            return found
    return int(left.index[0])


def _decided(fits: dict[str, _Found], first: re.Match[str], texts: pd.Series[Any], name: str, source: Source) -> str:
    """The only order of a column; an error if several remain."""
    orders = list(fits)
    if len(orders) > 1 and "ymd" in orders:  # years of two digits: in the wrong order a column is rarely monotone
        runs = {order for order in orders if fits[order].is_monotone()}
        if first["mark"] == ".":  # day first, unless the column is monotone with the year first
            if "ymd" not in runs:
                orders = ["dmy"]
        elif runs and "ymd" not in runs:
            orders.remove("ymd")
        elif runs == {"ymd"}:
            orders = ["ymd"]
    if len(orders) == 1:
        return orders[0]
    formats = [fits[order].format for order in orders]
    raise DataError(
        f"{name} must hold dates of an unambiguous order, got {texts[0]!r} {source.at(0)}, and every date of the "
        f'column fits {" and ".join(formats)}; dates="{formats[0]}" or dates="{formats[1]}" says which'
    )


def _check_centuries(times: pd.DatetimeIndex, first: re.Match[str], texts: pd.Series[Any], name: str, source: Source) -> None:
    if first["compact"] or len(first["a"]) == 4 or len(first["c"]) == 4:
        return
    far = np.asarray((times.year < _TWO_DIGITS[0]) | (times.year > _TWO_DIGITS[1]))
    if far.any():
        row = int(far.argmax())
        raise DataError(
            f"{name} must hold years of four digits where two do not tell the century (50 to 69), got "
            f"{texts[row]!r} {source.at(row)}"
        )


def _no_date(name: str, text: str, row: int, source: Source) -> DataError:
    return DataError(
        f'{name} must hold dates, got {shown(text)} {source.at(row)}; dates= gives their format, such as dates="%d/%m/%Y %H:%M"'
    )

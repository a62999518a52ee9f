"""Windows of bars: slices by bar numbers or by dates, and the bar numbers that dates stand for.

Numbers are half-open, as Python's slices are.  Dates are inclusive at both ends, as labels of pandas are: ``"2012-06"`` as an
end is June's last bar.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError, InputError, whole
from backtest._said import shown
from backtest.labels import Labels

_DATE = re.compile(r"\d{4}(?:-\d\d(?:-\d\d(?:[ T]\d\d(?::\d\d(?::\d\d(?:\.\d{1,9})?)?)?)?)?)?")
_OFFSET = re.compile(r"(?<=\d\d) ?(?:Z|([+-])([01]\d|2[0-3]):?([0-5]\d))$")
_EXAMPLES = '"2012", "2012-06", "2012-06-30" or "2012-06-30 15:30"'
_SECOND = 10**9
#: More than the clocks of any zone differ from UTC.
_TWO_DAYS = 2 * 86_400 * _SECOND


class _Span(NamedTuple):
    """The nanoseconds that a date stands for, both ends included: a day for ``"2012-06-30"``, one nanosecond for a Timestamp."""

    first: int
    last: int
    is_utc: bool  # else as clocks show it in the bars' zone


def is_dated(window: slice) -> bool:
    """Whether an edge of a window is neither a number nor left out."""
    return not all(_is_number(edge) for edge in (window.start, window.stop) if edge is not None)


def numbered(window: Any, dates: Labels | None) -> slice | None:
    """A window by bar numbers.

    Parameters
    ----------
    window : slice or None
        Of two bar numbers or two dates; either may be None.  Dates are text (``"2012"``, ``"2012-06"``, ``"2012-06-30"``,
        ``"2012-06-30 15:30"``, with an offset or without), ``datetime.date``, ``datetime.datetime``, ``pandas.Timestamp``,
        ``pandas.Period`` or ``numpy.datetime64``.
    dates : Labels or None
        Of the bars; None if nothing dates them.

    Returns
    -------
    slice or None
        Of plain whole numbers; None for all bars.

    Raises
    ------
    InputError, DataError
        Not a slice, a step, a number with a date, an invalid date, a date for bars without dates, a zone for bars without
        one, a date outside the bars, or no bar between two dates.
    """
    if window is None:
        return None
    if isinstance(window, (list, tuple)) and any(isinstance(each, slice) for each in window):
        raise InputError(
            f"window must be one slice of bars here, got {len(window)} in a {type(window).__name__}; several windows belong to "
            "evaluate, optimize and optimize_weights"
        )
    if not isinstance(window, slice) or not (window.step is None or (_is_number(window.step) and window.step == 1)):
        raise no_slice(window)
    edges = window.start, window.stop
    if not is_dated(window):
        return slice(*(None if edge is None else whole("edge of window", edge) for edge in edges))
    spans = [None if edge is None or _is_number(edge) else _span(edge) for edge in edges]
    if any(_is_number(edge) for edge in edges):
        raise InputError(f"window must be two bar numbers or two dates, got {_both(window)}")
    if dates is None or dates.nanos is None:
        raise InputError(f"window must be bar numbers for bars without dates, got {_both(window)}")
    return _between(spans, dates, dates.nanos, window)


def no_slice(window: Any) -> InputError:
    """The error for what is no window, with two that are."""
    return InputError(
        'window must be a slice of bars without a step, such as slice("2010", "2012-06") or slice(500, 1500), got '
        f"{shown(window)}"
    )


def slice_instead(key: Any) -> str:
    """A bar number or a date in brackets, and the slice to write in its place."""
    if _is_number(key):
        return f"[{key}]; bars[{key}:{key + 1 or ''}] is one bar"
    try:
        _span(key)
    except InputError:
        return f'[{shown(key)}]; bars["2012-06":"2012-06"] is a month'
    return f"[{_shown(key)}]; bars[{_shown(key)}:{_shown(key)}] holds its bars"


def hint_of_years(window: slice | None) -> str:
    """What to write where the bar numbers of a window that leaves no bar look like years."""
    edges = [] if window is None else [edge for edge in (window.start, window.stop) if edge is not None]
    if not edges or not all(_is_number(edge) and 1900 <= edge <= 2100 for edge in edges):
        return ""
    return f'; whole numbers are bar numbers, the year is text: "{edges[0]}"'


def text(window: slice | None) -> str:
    """A window as text: ``0:500``, ``2010:2012-06``, ``None`` for all bars."""
    return "None" if window is None else ":".join("" if edge is None else each for edge, each in _texts(window))


def pair(window: slice | None) -> list[Any] | None:
    """A window as plain data: its two edges, dates as text."""
    return None if window is None else [edge if edge is None or _is_number(edge) else each for edge, each in _texts(window)]


def _texts(window: slice) -> Iterator[tuple[Any, str]]:
    for edge in (window.start, window.stop):
        yield edge, str(edge).removesuffix(" 00:00:00")


def _shown(edge: Any) -> str:
    """An edge as one writes it in Python and in TOML."""
    return f'"{shown(edge)[1:-1]}"' if isinstance(edge, str) else shown(edge)


def _both(window: slice) -> str:
    return " to ".join("none" if edge is None else _shown(edge) for edge in (window.start, window.stop))


def _is_number(edge: Any) -> bool:
    return isinstance(edge, (int, np.integer)) and not isinstance(edge, (bool, np.bool_, np.timedelta64))


def _between(spans: list[_Span | None], dates: Labels, nanos: NDArray[np.int64], window: slice) -> slice:
    """The bars from one date to another."""
    if (nanos[1:] <= nanos[:-1]).any():
        raise InputError(f"window must be bar numbers for bars that are not sorted by date, got {_both(window)}")
    numbers: list[int | None] = []
    for span, edge, side in zip(spans, (window.start, window.stop), ("left", "right"), strict=True):
        if span is None:
            numbers.append(None)
            continue
        first, last = _instants(span, dates.zone, nanos, edge)
        if last < nanos[0] or first > nanos[-1]:
            verb, end = ("begin", "first") if side == "left" else ("end", "last")
            raise DataError(
                f"window must {verb} within the bars, {dates.text(0)} to {dates.text(len(nanos) - 1)}, got {_shown(edge)}; "
                f'None ("none" in TOML) {verb}s with the {end} bar'
            )
        instant = min(max(first if side == "left" else last, int(nanos[0])), int(nanos[-1]))
        numbers.append(int(nanos.searchsorted(instant, side=side)))  # type: ignore[call-overload]
    start, stop = numbers
    if (start or 0) >= (len(nanos) if stop is None else stop):
        raise DataError(f"window must hold at least one bar, got none from {_both(window)}")
    return slice(start, stop)


def _instants(span: _Span, zone: str | None, nanos: NDArray[np.int64], edge: Any) -> tuple[int, int]:
    """First and last nanosecond of a span on the bars' scale.

    Clocks that are set back show an hour twice; a span of it goes from the first time to the second.
    """
    import pandas as pd

    if span.is_utc and zone is None:
        raise InputError(f"window must be dates without a zone for bars without one, got {_shown(edge)}")
    if span.is_utc or zone is None:
        return span.first, span.last
    low, high = int(nanos[0]) - _TWO_DAYS, int(nanos[-1]) + _TWO_DAYS  # beyond, the zone does not matter
    if span.last < low or span.first > high:
        return span.first, span.last
    first, last = pd.Timestamp(max(span.first, low)), pd.Timestamp(min(span.last, high))
    return (
        first.tz_localize(zone, ambiguous=True, nonexistent="shift_forward").value,
        last.tz_localize(zone, ambiguous=False, nonexistent="shift_backward").value,
    )


def _span(edge: Any) -> _Span:
    """The nanoseconds of an edge that is a date."""
    if isinstance(edge, str):
        return _span_of_text(edge)
    is_missing = isinstance(edge, np.datetime64 | datetime.date) and edge != edge  # NaT is a datetime
    if isinstance(edge, np.datetime64) and not is_missing:
        return _span_of_unit(edge)
    if hasattr(edge, "start_time") and hasattr(edge, "end_time"):  # a pandas Period
        return _Span(_nanos(edge.start_time.to_datetime64()), _nanos(edge.end_time.to_datetime64()), is_utc=False)
    if isinstance(edge, datetime.datetime) and not is_missing:
        naive = edge.replace(tzinfo=None)
        instant = _nanos(naive.to_datetime64() if hasattr(naive, "to_datetime64") else np.datetime64(naive))
        offset = edge.utcoffset()
        if offset is not None:
            instant -= offset // datetime.timedelta(microseconds=1) * 1000
        return _Span(instant, instant, is_utc=offset is not None)
    if isinstance(edge, datetime.date) and not is_missing:
        return _span_of_unit(np.datetime64(edge, "D"))
    raise InputError(f"window must be a slice of bars by their numbers or dates, got {shown(edge)}")


def _span_of_text(edge: str) -> _Span:
    """A year, month, day, hour, minute, second or fraction of one in ISO 8601; times of day may have an offset."""
    given = edge.strip()
    offset = _OFFSET.search(given) if ":" in given or given.endswith("Z") else None
    written = given if offset is None else given[: offset.start()]
    try:
        if _DATE.fullmatch(written) is None or (offset is not None and ":" not in written):
            raise ValueError
        span = _span_of_unit(np.datetime64(written))
    except ValueError:  # 2012-13, or no date at all
        hint = f"; {given} without quotes is a bar number" if given.isdecimal() else ""
        raise InputError(f"window must hold dates such as {_EXAMPLES}, got {_shown(edge)}{hint}") from None
    if offset is None:
        return span
    sign, hours, minutes = offset.groups(default="0")
    ahead = (int(hours) * 60 + int(minutes)) * 60 * _SECOND * (-1 if sign == "-" else 1)
    return _Span(span.first - ahead, span.last - ahead, is_utc=True)


def _span_of_unit(date: np.datetime64) -> _Span:
    """A year, month, day, ... as long as the unit it is written in."""
    first = _nanos(date)
    return _Span(first, max(first, _nanos(date + 1) - 1), is_utc=False)


def _nanos(date: np.datetime64) -> int:
    """Nanoseconds since 1970; a Python int, for years that 64 bits do not reach."""
    seconds = date.astype("datetime64[s]")
    return int(seconds.astype(np.int64)) * _SECOND + int((date - seconds).astype("timedelta64[ns]").astype(np.int64))

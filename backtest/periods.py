"""Periods: the number of bars in a year, inferred from their times, with the reason."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NS_PER_DAY = 86_400_000_000_000
DAYS_PER_YEAR = 365.25
#: Sessions a year of markets that close at weekends, and of those open every day.
BUSINESS_DAYS, EVERY_DAY = 252.0, 365.0
#: A pause longer than this ends a session.
SESSION_GAP = NS_PER_DAY // 2
#: Saturday and Sunday, where Monday is 0.
WEEKEND = (5, 6)


class Periods(NamedTuple):
    """The number of bars in a year, and how it was found."""

    per_year: float
    why: str


def given(per_year: float) -> Periods:
    """A number given by the user."""
    return Periods(per_year, "as given")


def infer(nanos: Ints, local: Ints) -> Periods:
    """Bars in a year.

    Parameters
    ----------
    nanos : ndarray of int64, shape (n_bars,)
        Time of each bar in nanoseconds, increasing.
    local : ndarray of int64, shape (n_bars,)
        The same in local time of the market, which decides dates and days of the week.

    Returns
    -------
    Periods
        Daily bars (the median distance of dates is one day): 252 if the median full week has 5 bars or fewer, 365 if it has
        7, else bars per calendar year.  Shorter bars over less than a year: the median number of bars in a session times the
        sessions in a year, which are counted as daily bars are.  Anything else: bars per calendar year.

    Notes
    -----
    A session is a run of bars without a pause longer than half a day; a run longer than a day (of a market that hardly closes)
    counts as a session for every 24 hours.  A full week lies, Monday to Sunday, between the first and the last date and holds a
    bar.  If there is none, bars on both a Saturday and a Sunday mean 7 a week, and anything else 5.
    """
    if len(nanos) < 2:
        return Periods(float("nan"), "fewer than two dated bars")
    dates, counts = np.unique(local // NS_PER_DAY, return_counts=True)
    years = float(nanos[-1] - nanos[0]) / (NS_PER_DAY * DAYS_PER_YEAR)
    calendar = (len(nanos) - 1) / years
    is_daily = len(dates) > 1 and float(np.median(np.diff(dates))) == 1.0
    if is_daily and float(np.median(counts)) == 1.0:
        per_week, why = _days_per_week(local // NS_PER_DAY, dates)
        days = _days_per_year(per_week)
        if days is None:
            return Periods(calendar, f"bars per calendar year of daily bars, {why}")
        return Periods(days, f"daily bars, {why}")
    if years >= 1.0 or float(np.median(np.diff(nanos))) > SESSION_GAP:
        return Periods(calendar, "bars per calendar year")
    starts, in_session = _sessions(nanos)
    per_week, why = _days_per_week(local[starts] // NS_PER_DAY, dates)
    days = _days_per_year(per_week) or per_week * DAYS_PER_YEAR / 7
    return Periods(
        in_session * days, f"{in_session:g} bars in the median session, times {days:.6g}: {why.replace('bars', 'sessions')}"
    )


def _days_per_week(days: Ints, dates: Ints) -> tuple[float, str]:
    """The number of ``days`` (sorted, since 1970) in a week, and the reason; ``dates`` are the dates of all bars."""
    monday = (days + 3) // 7  # 1970-01-01 was a Thursday
    weeks, counts = np.unique(monday, return_counts=True)
    full = counts[(weeks * 7 - 3 >= dates[0]) & (weeks * 7 + 3 <= dates[-1])]
    if len(full):
        per_week = float(np.median(full))
        return per_week, f"{per_week:g} bars in the median full week"
    seen = set(((dates + 3) % 7).tolist())
    if seen.issuperset(WEEKEND):
        return 7.0, "no full week, bars on a Saturday and a Sunday"
    return 5.0, "no full week, no whole weekend"


def _days_per_year(per_week: float) -> float | None:
    return BUSINESS_DAYS if per_week <= 5 else EVERY_DAY if per_week == 7 else None


def _sessions(nanos: Ints) -> tuple[Ints, float]:
    """The first bar of each session, and the median number of bars in a session.

    The remainder of a run longer than a day may be incomplete: it is a session, but does not enter the median.
    """
    first = np.flatnonzero(np.diff(nanos, prepend=nanos[0] - NS_PER_DAY) > SESSION_GAP)  # of each run
    run = np.repeat(np.arange(len(first)), np.diff(first, append=len(nanos)))
    day = (nanos - nanos[first][run]) // NS_PER_DAY
    starts = np.flatnonzero((np.diff(run, prepend=-1) != 0) | (np.diff(day, prepend=0) != 0))
    n_bars = np.diff(starts, append=len(nanos))
    is_rest = (day[starts] > 0) & (np.diff(run[starts], append=len(first)) != 0)
    return starts, float(np.median(n_bars[~is_rest]))

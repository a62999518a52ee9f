"""Suspects: signs of faulty data in a series of bars.  They are reported, never corrected."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest.periods import NS_PER_DAY

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Factors of splits and, inverted, of reverse splits; 100 and 1,000 are also changes of units (pence, misread thousands).
FACTORS = (2.0, 3.0, 4.0, 5.0, 10.0, 100.0, 1000.0)
#: How far the close (or the open) may be from a factor, since prices also move that day; and the close, if the open is near.
CLOSE_NEAR, OPEN_NEAR = 0.05, 0.2
#: The smallest log return that may be a split: of 2, less a margin.
MIN_LOG_RETURN = 0.45
#: A split must be so many times the usual move (the lower median of absolute log returns).
MIN_TIMES_USUAL = 8.0
#: A hole is at least so many times as long as any other gap, and there are at most so many holes.
MIN_HOLE, MAX_HOLES = 2.5, 5
#: The longest pause between sessions, idle days aside: a day, and two hours for bars stamped at their start.
LONGEST_NIGHT = NS_PER_DAY + NS_PER_DAY // 12
#: The fewest bars in a row with the same four prices that are reported.
MIN_EQUAL = 3
#: A high so many times both its neighbours, or a low so many times smaller.
MIN_SPIKE = 10.0

KINDS = ("split", "hole", "equal", "volume", "high", "low")
#: Shared with the readers of files.
logger = logging.getLogger("backtest.files")


class Suspect(NamedTuple):
    """One finding, in the rows ``first`` to ``last``, both included."""

    kind: str
    first: int
    last: int
    value: float
    text: str


def suspects(bars: Any) -> list[Suspect]:
    """Everything in the bars that looks like a fault of the data, by ``KINDS``, then by row."""
    found = _splits(bars.open, bars.close)
    if bars.index is not None:
        found += _holes(bars.index.astype("datetime64[ns]").astype(np.int64))
    found += _equal(bars)
    if bars.volume is not None:
        found += _no_volume(bars.volume)
    return found + _spikes(bars.high, bars.low)


def frame(bars: Any, found: list[Suspect]) -> pd.DataFrame:
    """Findings as a table: kind, first and last row, their times, value, description."""
    import pandas as pd

    times = bars.times()
    first, last = ([getattr(each, name) for each in found] for name in ("first", "last"))
    return pd.DataFrame(
        {
            "kind": pd.Series([each.kind for each in found], dtype=object),
            "first": np.array(first, dtype=np.int64),
            "last": np.array(last, dtype=np.int64),
            "first_time": times[first],
            "last_time": times[last],
            "value": np.array([each.value for each in found], dtype=np.float64),
            "text": pd.Series([each.text for each in found], dtype=object),
        }
    )


def summary(bars: Any, found: list[Suspect]) -> str:
    """One line: how many of each kind, and the first of each."""
    counts, times = Counter(each.kind for each in found), bars.times()
    parts = []
    for kind in counts:
        each = next(each for each in found if each.kind == kind)
        more = f" and {counts[kind] - 1:,} more" if counts[kind] > 1 else ""
        at = str(times[each.first]).removesuffix(" 00:00:00")
        parts.append(f"{each.text} ({f'{at}, ' if bars.index is not None else ''}row {each.first}){more}")
    return "; ".join(parts)


def log(bars: Any, source: str) -> None:
    """Log one line if there are any findings."""
    found = suspects(bars)
    if found:
        logger.warning("%s looks suspicious, nothing was corrected: %s; bars.check() lists it", source, summary(bars, found))


def _splits(open: Floats, close: Floats) -> list[Suspect]:
    """Closes that jump by a factor near 2, 3, 4, 5, 10, 100, 1,000 or its inverse."""
    if len(close) < 2:
        return []
    with np.errstate(all="ignore"):  # quotients of tiny prices may overflow
        jump = close[1:] / close[:-1]
        moves = np.abs(np.log(jump))
        usual = float(np.partition(moves, (len(moves) - 1) // 2)[(len(moves) - 1) // 2]) if len(moves) > 1 else 0.0
        rows = np.flatnonzero(moves >= max(MIN_LOG_RETURN, MIN_TIMES_USUAL * usual))
        shares = np.array([*FACTORS, *(1.0 / factor for factor in FACTORS)])
        off = np.abs(jump[rows, None] / shares - 1.0)
        open_off = np.abs((open[rows + 1] / close[rows])[:, None] / shares - 1.0)
        is_near = (off <= CLOSE_NEAR) | ((open_off <= CLOSE_NEAR) & (off <= OPEN_NEAR))
        nearest = np.where(is_near, off, np.inf).argmin(axis=1)
    found = []
    for row, at in zip(rows[is_near.any(axis=1)].tolist(), nearest[is_near.any(axis=1)].tolist(), strict=True):
        factor = FACTORS[at % len(FACTORS)]
        found.append(
            Suspect(
                "split",
                row + 1,
                row + 1,
                float(jump[row]),
                f"close is {close[row + 1]:.6g} after {close[row]:.6g}, nearly {factor:g} times "
                f"{'as much' if at < len(FACTORS) else 'less'}: a split that prices are not adjusted for?",
            )
        )
    return found


def _holes(nanos: Ints) -> list[Suspect]:
    """Gaps that are much longer than all others, not counting days of the week that never have a bar."""
    gaps, days = np.diff(nanos), nanos // NS_PER_DAY
    if len(gaps) < 2:
        return []
    idle = np.setdiff1d(np.arange(7), np.unique((days + 3) % 7))  # 1970-01-01 was a Thursday; Monday is 0
    idle_time = NS_PER_DAY * _idle_days(days[:-1], days[1:], idle)
    n_largest = min(MAX_HOLES + 1, len(gaps))
    rows = np.argpartition(idle_time - gaps, n_largest - 1)[:n_largest]
    rows = rows[np.argsort((idle_time - gaps)[rows], kind="stable")]
    longest = (gaps - idle_time)[rows]
    has_nights = len(np.unique(days)) > 2
    for n_holes in range(n_largest - 1, 0, -1):
        shortest, others = int(longest[n_holes - 1]), int(longest[n_holes])
        # With few sessions, the nights or the only weekend are longer than all gaps within sessions.
        is_night = shortest <= LONGEST_NIGHT and (n_holes > 1 or not has_nights or idle_time[rows[0]] > 0)
        if shortest >= MIN_HOLE * others and not is_night:
            break
    else:
        return []
    aside = " (idle days of the week aside)" if len(idle) else ""
    return [
        Suspect(
            "hole",
            row,
            row + 1,
            float(gaps[row]) / NS_PER_DAY,
            f"{_length(int(gaps[row]))} without a bar, where others are at most {_length(others)} apart{aside}",
        )
        for row in sorted(rows[:n_holes].tolist())
    ]


def _idle_days(first: Ints, last: Ints, idle: Ints) -> Ints:
    """Number of idle weekdays strictly between two days."""
    total = np.zeros(len(first), dtype=np.int64)
    for weekday in idle:  # weekdays up to and including a day, counted from a Monday long ago
        total += (last - 1 + 3 - weekday) // 7 - (first + 3 - weekday) // 7
    return np.maximum(total, 0)


def _length(nanos: int) -> str:
    for unit, name in ((NS_PER_DAY, "days"), (3_600_000_000_000, "hours"), (60_000_000_000, "minutes")):
        if nanos >= 2 * unit or name == "minutes":
            break
    return f"{nanos / unit:.3g} {name}"


def _equal(bars: Any) -> list[Suspect]:
    """Runs of bars with the same four prices."""
    same = np.ones(len(bars.close) - 1, dtype=bool)
    for name in ("open", "high", "low", "close"):
        values = getattr(bars, name)
        same &= values[1:] == values[:-1]
    return [
        Suspect(
            "equal",
            first,
            last + 1,
            float(last + 2 - first),
            f"{last + 2 - first:,} equal bars in a row, close {bars.close[first]:.6g}",
        )
        for first, last in _runs(same)
        if last + 2 - first >= MIN_EQUAL
    ]


def _no_volume(volume: Floats) -> list[Suspect]:
    found = [(first, last) for first, last in _runs(volume == 0)]
    return [
        Suspect(
            "volume",
            first,
            last,
            float(last + 1 - first),
            "no volume on every bar" if last + 1 - first == len(volume) else f"no volume on {_bars(last + 1 - first)}",
        )
        for first, last in found
    ]


def _bars(n: int) -> str:
    return "a bar" if n == 1 else f"{n:,} bars in a row"


def _spikes(high: Floats, low: Floats) -> list[Suspect]:
    """Highs of at least ten times their neighbours', lows of at most a tenth."""
    found = []
    if len(high) > 1:
        with np.errstate(all="ignore"):
            beside_high = np.maximum(np.append(high[1:], 0.0), np.append(0.0, high[:-1]))
            beside_low = np.minimum(np.append(low[1:], np.inf), np.append(np.inf, low[:-1]))
            for kind, ratio in (("high", high / beside_high), ("low", beside_low / low)):
                values = high if kind == "high" else low
                for row in np.flatnonzero(ratio >= MIN_SPIKE).tolist():
                    word = "times" if kind == "high" else "times smaller than"
                    found.append(
                        Suspect(
                            kind,
                            row,
                            row,
                            float(values[row]),
                            f"{kind} is {values[row]:.6g}, {ratio[row]:.3g} {word} those beside it",
                        )
                    )
    return found


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last row of every run of True."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), (edges[1::2] - 1).tolist(), strict=True))

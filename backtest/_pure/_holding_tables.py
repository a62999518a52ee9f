"""Precomputed return moments, extremes and worst drawdown of any holding period; the twin of ``ext/_holding_tables.pxd``.

With them a candidate's time depends on the number of its trades, not of its bars:

* ``moments`` (n_bars, 16): sums over bars 1 to t of r, r^2, r^3, r^4, the gains, the losses and the squared shortfalls
  below the riskless rate, r the return of the close; kept in pairs (columns k and 8 + k), because plain running sums
  lose up to four digits on 200,000 bars;
* ``since_segment_start``, ``until_segment_end`` (n_bars, 4): lowest and highest close and the worst fall (least later
  close over earlier close) from the first bar of a segment of 16 bars to this bar, and from this bar to its last one;
* ``segment_runs`` (n_rows, n_segments, 4): the same for runs of whole segments, as a disjoint sparse table: row k of an
  entry reaches from its segment to the middle of the 2^(k+1) segments around it;
* ``segment_lows``, ``segment_highs`` (n_segments,): lowest low and highest high of a segment's bars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Bars of a segment: short enough to read one by one, long enough to be worth an entry.
SEGMENT = 16
#: Sums over the bars of a span are kept in this many lanes, bar after bar, and the lanes are added up in order.  Spans of up to
#: so many bars are marked bar by bar: that takes no longer than a look-up, which on long series misses the caches.
LANES = 8
MOMENTS = 7
#: Columns of the tables: sums and their compensations, each 8 wide; lowest, highest, worst fall, and one that stays 0.
MOMENTS_WIDTH, RANGE_WIDTH = 16, 4


def return_powers(result: float, rf_per_bar: float) -> tuple[float, ...]:
    """The terms that one return adds to the moments."""
    square = result * result
    excess = result - rf_per_bar
    return (
        result,
        square,
        square * result,
        square * square,
        result if result > 0.0 else 0.0,
        0.0 if result > 0.0 else 0.0 - result,
        excess * excess if excess < 0.0 else 0.0,
    )


def joined_ranges(left: tuple[float, float, float], right: tuple[float, float, float]) -> tuple[float, float, float]:
    """Lowest close, highest close and worst fall of two adjacent spans."""
    low = right[0] if right[0] < left[0] else left[0]
    high = right[1] if right[1] > left[1] else left[1]
    fall = right[0] / left[1]
    fall = left[2] if left[2] < fall else fall
    return low, high, right[2] if right[2] < fall else fall


def measure_moments(close: Floats, rf_per_bar: float, moments: Floats) -> None:
    """Fill ``moments``."""
    total, compensation = [0.0] * MOMENTS, [0.0] * MOMENTS
    moments[0] = 0.0
    for bar in range(1, len(close)):
        for column, term in enumerate(return_powers(float((close[bar] - close[bar - 1]) / close[bar - 1]), rf_per_bar)):
            before = total[column]
            after = before + term  # Knuth's two-sum: after + lost is exactly before + term
            part = after - before
            compensation[column] += (before - (after - part)) + (term - part)
            total[column] = after
        moments[bar, :MOMENTS], moments[bar, 8 : 8 + MOMENTS] = total, compensation
        moments[bar, 7] = moments[bar, 15] = 0.0


def measure_ranges(
    bars: Any,
    since_segment_start: Floats,
    until_segment_end: Floats,
    segment_runs: Floats,
    segment_lows: Floats,
    segment_highs: Floats,
) -> None:
    """Fill the tables of extremes and falls."""
    close, n_bars, n_segments = bars.close.tolist(), len(bars.close), len(segment_lows)
    whole: list[tuple[float, float, float]] = []
    for segment in range(n_segments):
        begin, end = segment * SEGMENT, min((segment + 1) * SEGMENT, n_bars)
        segment_lows[segment], segment_highs[segment] = min(bars.low[begin:end].tolist()), max(bars.high[begin:end].tolist())
        span = (close[begin], close[begin], 1.0)
        since_segment_start[begin, :3] = span
        for bar in range(begin + 1, end):
            span = joined_ranges(span, (close[bar], close[bar], 1.0))
            since_segment_start[bar, :3] = span
        whole.append(span)
        span = (close[end - 1], close[end - 1], 1.0)
        until_segment_end[end - 1, :3] = span
        for bar in range(end - 2, begin - 1, -1):
            span = joined_ranges((close[bar], close[bar], 1.0), span)
            until_segment_end[bar, :3] = span
    for row in range(len(segment_runs)):
        half = 1 << row
        for middle in range(half, n_segments, 2 * half):
            span = whole[middle]
            segment_runs[row, middle, :3] = span
            for segment in range(middle + 1, min(middle + half, n_segments)):
                span = joined_ranges(span, whole[segment])
                segment_runs[row, segment, :3] = span
            span = whole[middle - 1]
            segment_runs[row, middle - 1, :3] = span
            for segment in range(middle - 2, middle - half - 1, -1):
                span = joined_ranges(whole[segment], span)
                segment_runs[row, segment, :3] = span


def close_extremes(close: Floats, begin: int, end: int) -> tuple[float, float, float]:
    """Lowest and highest close of bars ``begin`` to ``end``, both included, and the worst fall.

    The tables give the same bits: a quotient is monotone in both of its operands, and rounding keeps that.
    """
    span = close[begin : end + 1]
    return float(span.min()), float(span.max()), float((span / np.maximum.accumulate(span)).min())


def first_touch(low: Floats, high: Floats, begin: int, end: int, floor: float, ceiling: float) -> int:
    """First bar of ``begin`` to ``end``, both included, with a low at or below ``floor`` or a high at or above ``ceiling``.

    ``end + 1`` if there is none; NaN is never touched.
    """
    touched = (low[begin : end + 1] <= floor) | (high[begin : end + 1] >= ceiling)
    return begin + int(touched.argmax()) if touched.any() else end + 1


def lane_sums(returns: Floats, rf_per_bar: float) -> list[float]:
    """Moments of a span's returns, in the order of :func:`return_powers`."""
    square, excess = returns * returns, returns - rf_per_bar
    terms = np.zeros((MOMENTS, -(-len(returns) // LANES) * LANES))
    terms[:, : len(returns)] = (
        returns,
        square,
        square * returns,
        square * square,
        np.where(returns > 0.0, returns, 0.0),
        np.where(returns > 0.0, 0.0, 0.0 - returns),
        np.where(excess < 0.0, excess * excess, 0.0),
    )
    lanes = np.add.accumulate(terms.reshape(MOMENTS, -1, LANES), axis=1)[:, -1]
    return [float(total) for total in np.add.accumulate(lanes, axis=1)[:, -1]]

"""Holding tables: sums over any holding period of a series of bars, looked up by the signals kernel instead of added up."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest.bars import Bars

Floats = NDArray[np.float64]


class HoldingTables(NamedTuple):
    """Precomputed return moments, extremes and worst drawdown of any holding period; filled by the kernel's ``measure``."""

    moments: Floats  # (n_bars, moments_width)
    since_segment_start: Floats  # (n_bars, range_width)
    until_segment_end: Floats  # (n_bars, range_width)
    segment_runs: Floats  # (n_rows, n_segments, range_width)
    segment_lows: Floats  # (n_segments,)
    segment_highs: Floats  # (n_segments,)

    @classmethod
    def of(cls, bars: Bars, rf_per_bar: float) -> HoldingTables:
        """The tables of these bars; the latest are cached for as long as the bars exist."""
        key = (_backend.chosen().name, rf_per_bar)
        cached = _CACHE.get(bars)
        if cached is None or cached[0] != key:
            cached = _CACHE[bars] = key, cls._computed(bars, rf_per_bar)
        return cached[1]

    @classmethod
    def _computed(cls, bars: Bars, rf_per_bar: float) -> HoldingTables:
        kernel = _backend.kernel("signals")
        width, n_bars = kernel.LAYOUT["range_width"], len(bars)
        n_segments = -(-n_bars // kernel.LAYOUT["segment_bars"])
        n_rows = max(int(n_segments - 1).bit_length(), 1)
        tables = cls(
            np.zeros((n_bars, kernel.LAYOUT["moments_width"])),
            np.zeros((n_bars, width)),
            np.zeros((n_bars, width)),
            np.zeros((n_rows, n_segments, width)),
            np.zeros(n_segments),
            np.zeros(n_segments),
        )
        kernel.measure(bars, rf_per_bar, tables)
        return tables


_CACHE: weakref.WeakKeyDictionary[Bars, tuple[Any, HoldingTables]] = weakref.WeakKeyDictionary()

"""Holding tables: sums over any holding period of a series of bars, looked up by the signals kernel instead of added up."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest.bars import Bars

Floats = NDArray[np.float64]

#: Bars of a block; the kernels know it as BLOCK.
SPAN_BLOCK = 16


class HoldingTables(NamedTuple):
    """Precomputed return moments, extremes and worst drawdown of any holding period; filled by the kernel's ``measure``."""

    moments: Floats  # (n_bars, 16)
    to_here: Floats  # (n_bars, 4)
    from_here: Floats  # (n_bars, 4)
    blocks: Floats  # (n_levels, n_blocks, 4)
    lows: Floats  # (n_blocks,)
    highs: Floats  # (n_blocks,)

    @classmethod
    def of(cls, bars: Bars, rf_per_bar: float) -> HoldingTables:
        """The tables of these bars; the latest are kept for as long as the bars are."""
        key = (_backend.chosen().name, rf_per_bar)
        cached = _CACHE.get(bars)
        if cached is None or cached[0] != key:
            cached = _CACHE[bars] = key, cls._made(bars, rf_per_bar)
        return cached[1]

    @classmethod
    def _made(cls, bars: Bars, rf_per_bar: float) -> HoldingTables:
        n_bars, n_blocks = len(bars), -(-len(bars) // SPAN_BLOCK)
        n_levels = max(int(n_blocks - 1).bit_length(), 1)
        tables = cls(
            np.zeros((n_bars, 16)),
            np.zeros((n_bars, 4)),
            np.zeros((n_bars, 4)),
            np.zeros((n_levels, n_blocks, 4)),
            np.zeros(n_blocks),
            np.zeros(n_blocks),
        )
        _backend.kernel("signals").measure(bars, rf_per_bar, tables)
        return tables


_CACHE: weakref.WeakKeyDictionary[Bars, tuple[Any, HoldingTables]] = weakref.WeakKeyDictionary()

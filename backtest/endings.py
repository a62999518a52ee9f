"""Missing prices: last valid prices, where an asset's prices end, and when it is written off."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Assets that a warning names, at most.
NAMED = 5
#: Rows of weights that are tested together.
CHUNK = 64


class Endings:
    """On which bars each asset has a price, an open or a close.

    A bar on which no asset has one is no trading day and is not counted.

    Attributes
    ----------
    has_price : ndarray of bool, shape (n_bars, n_assets)
    """

    def __init__(self, close: Floats, open: Floats | None) -> None:
        self.has_price = _is_price(close) if open is None else _is_price(close) | _is_price(open)
        #: Trading days up to each bar: bars on which some asset has a price.
        self.days: Ints = np.cumsum(self.has_price.any(axis=1))
        n_bars = len(close)
        #: Last bar with a price of each asset; -1: none.
        self.last: Ints = np.where(self.has_price.any(axis=0), n_bars - 1 - self.has_price[::-1].argmax(axis=0), -1)

    def marks(self, close: Floats, open: Floats | None) -> Floats:
        """At each close the last valid price, an open or a close; 0 before the first."""
        marks = close if open is None else np.where(_is_price(close), close, open)  # a bar without a close may have had an open
        rows = np.where(self.has_price, np.arange(len(close))[:, None], -1)
        np.maximum.accumulate(rows, axis=0, out=rows)
        marks = np.take_along_axis(marks, np.maximum(rows, 0), axis=0)
        marks[rows < 0] = 0.0
        return np.ascontiguousarray(marks)

    def written_off(self, after: int) -> tuple[Ints, Ints]:
        """Bars from which on assets are written off, ascending, and these assets.

        That is the bar after the last price of an asset, if others have prices on ``after`` later bars or more, at least one.
        """
        missing = self.days[-1] - self.days[self.last]
        assets = np.flatnonzero((self.last >= 0) & (missing >= max(after, 1)))
        assets = assets[np.argsort(self.last[assets], kind="stable")]
        return self.last[assets] + 1, assets.astype(np.int64)

    def is_unusual_gap(self, asset: int, bar: int) -> bool:
        """Whether an asset's gap in prices up to this bar is longer than every gap before it; a weekend is not unusual."""
        priced = np.flatnonzero(self.has_price[: bar + 1, asset])
        if not len(priced):
            return False
        days = self.days[priced]
        return bool(self.days[bar] - days[-1] > (np.diff(days) - 1).max(initial=0))

    def unusual_gaps(self, assets: Iterable[int], bar: int, labels: Sequence[Any]) -> str:
        """Those of ``assets`` that have an unusual gap, with the bar of their last price, as text."""
        return listed(
            [
                f"{labels[asset]!r} at bar {np.flatnonzero(self.has_price[: bar + 1, asset])[-1]}"
                for asset in assets
                if self.is_unusual_gap(asset, bar)
            ]
        )


def never_weighted(targets: Floats, endings: Endings | None, bars: Ints) -> list[int]:
    """Assets with a price on some of these bars and weight 0 on all of them; none if all weights are 0.

    ``targets`` are (n_bars, n_assets).
    """
    if not len(targets) or targets[-1].all():
        return []
    never = np.ones(targets.shape[1], dtype=bool)
    for row in range(len(targets), 0, -CHUNK):  # from the end: the first rows are zeros where a rule has a look-back
        never &= ~targets[max(row - CHUNK, 0) : row].any(axis=0)
        if not never.any():
            return []
    if never.all():
        return []
    if endings is not None:
        never &= endings.has_price[bars].any(axis=0)
    assets: list[int] = np.flatnonzero(never).tolist()
    return assets


def listed(words: list[str]) -> str:
    """The first NAMED of them, and how many more there are."""
    return ", ".join(words[:NAMED]) + (f" and {len(words) - NAMED} more" if len(words) > NAMED else "")


def _is_price(values: Floats) -> NDArray[np.bool_]:
    return (values > 0) & (values < np.inf)

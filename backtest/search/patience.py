"""How long a search looks for its next candidate where ``where`` refuses most of what it looks at."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable

from backtest._checks import FallbackWarning
from backtest.space import Space

#: Positions in a row that may hold no candidate where no timeout says how long to look.
MAX_FRUITLESS = 10_000_000


class Patience:
    """What has been looked at since the last candidate, and whether to go on.

    Parameters
    ----------
    deadline : float
        ``time.monotonic()`` after which nothing is looked at; with one, the clock alone decides.
    has_ended : callable, optional
        Whether the search shall end for another reason, such as a signal.

    Attributes
    ----------
    fruitless : int
        Positions since the last candidate.
    """

    def __init__(self, deadline: float = math.inf, has_ended: Callable[[], bool] | None = None) -> None:
        self.deadline, self.has_ended, self.fruitless = deadline, has_ended, 0

    def looked(self, n_positions: int, n_found: int) -> None:
        """So many positions were looked at, and so many held a candidate, new or known."""
        self.fruitless = 0 if n_found else self.fruitless + n_positions

    @property
    def is_out(self) -> bool:
        """Whether too many positions in a row held none."""
        return self.deadline == math.inf and self.fruitless >= MAX_FRUITLESS

    def goes_on(self) -> bool:
        """Whether to look at another block; the first one after a candidate always is."""
        return not self.fruitless or not (self.is_out or self.is_over())

    def is_over(self) -> bool:
        """Whether the time is, or the search shall end for another reason."""
        return time.monotonic() >= self.deadline or (self.has_ended is not None and self.has_ended())

    def said(self, space: Space) -> str:
        """What was looked at in vain."""
        return f"{self.fruitless:,} positions in a row held no candidate of where={space.where!r}"

    def warn(self, space: Space, n_found: int, stacklevel: int) -> None:
        """Tell that a search ends for want of candidates."""
        warnings.warn(
            f"the search ends with the {n_found:,} candidates it found: {self.said(space)}; give a timeout to look on, "
            "or narrower ranges",
            FallbackWarning,
            stacklevel=stacklevel + 1,
        )

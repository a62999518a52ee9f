"""``Stats``: metrics by key as a ``pandas.Series`` that can be asked for other tools' statistics.

Imported on use only, since it needs pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backtest.tool_stats import Backtesting, Vectorbt

if TYPE_CHECKING:
    _Series = pd.Series[float]
else:
    _Series = pd.Series


class Stats(_Series):
    """Every metric of ``bt.METRICS``, by key; a ``pandas.Series`` with two translations."""

    _metadata = ("_run",)
    _run: Any  # Run; its room uses this one

    def __init__(self, values: dict[str, float], run: Any) -> None:
        super().__init__(values, dtype=np.float64, name="value")  # type: ignore[call-arg]  # the stubs know __new__ only
        self._run = run

    @property
    def _constructor(self) -> type[pd.Series[float]]:
        return pd.Series  # a part of it, or a copy, knows no run

    def __reduce__(self) -> tuple[Any, ...]:
        return Stats, (self.to_dict(), self._run)

    def to_backtesting(self) -> pd.Series[Any]:
        """The statistics of backtesting.py, computed as it does from this run's equity and trades.

        Returns
        -------
        Series
            Its keys in its order, percents where it has percents; ``_strategy``, ``_equity_curve`` and ``_trades`` at the end.
            They are the numbers of ``Backtest.run`` if the run had ``Execution(profile="backtesting.py")``.
        """
        return Backtesting(self._run).series()

    def to_vectorbt(self, freq: Any = None) -> pd.Series[Any]:
        """The statistics of vectorbt's ``Portfolio.stats()``, computed as it does from this run's equity and trades.

        Parameters
        ----------
        freq : str or Timedelta, optional
            Duration of a bar, as vectorbt's ``freq``; the median distance between bars by default.

        Returns
        -------
        Series
            Its keys in its order, percents where it has percents; ``_equity_curve`` and ``_trades`` (``records_readable``) at the
            end.  They are the numbers of ``Portfolio.from_signals`` if the run had ``Execution(profile="vectorbt")``.

        Raises
        ------
        InputError
            The bars have no dates and ``freq`` is not given.
        """
        return Vectorbt(self._run, freq).series()

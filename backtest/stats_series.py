"""``Stats``: metrics by key as a ``pandas.Series`` that can be asked for other tools' statistics.

Imported on use only, since it needs pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from backtest._checks import InputError
from backtest.tool_stats import Backtesting, Vectorbt

if TYPE_CHECKING:
    _Series = pd.Series[float]
else:
    _Series = pd.Series


class Stats(_Series):
    """Every metric of ``bt.METRICS``, by key; a ``pandas.Series`` that also gives other tools' statistics and the trades'.

    Attributes
    ----------
    missing : dict of str to str
        Metrics that are NaN because something was not given, and what that is; empty for a simulation of this library.
    """

    _metadata = ("_source", "missing")
    _source: Any  # what the numbers are of: a Simulation, or the equity and trades of another engine
    missing: dict[str, str]

    def __init__(self, values: dict[str, float], source: Any, missing: dict[str, str] | None = None) -> None:
        super().__init__(values, dtype=np.float64, name="value")  # type: ignore[call-arg]  # the stubs know __new__ only
        self._source, self.missing = source, missing or {}

    @property
    def _constructor(self) -> type[pd.Series[float]]:
        return pd.Series  # a selection or a copy is a plain Series

    def __reduce__(self) -> tuple[Any, ...]:
        return Stats, (self.to_dict(), self._source, self.missing)

    def trade_statistics(self) -> pd.DataFrame:
        """Statistics of the completed trades: one row per statistic, columns All, Long, Short."""
        frame: pd.DataFrame = self._source.trade_statistics()
        return frame

    def to_backtesting(self) -> pd.Series[Any]:
        """The statistics of backtesting.py, computed as it does from this run's equity and trades.

        Returns
        -------
        Series
            Its keys in its order, percents where it has percents; ``_strategy``, ``_equity_curve`` and ``_trades`` at the end.
            They are the numbers of ``Backtest.run`` if the run had ``Execution(profile="backtesting.py")``.

        Raises
        ------
        InputError
            These are no statistics of a :class:`backtest.Run`.
        """
        return Backtesting(self._run("to_backtesting", "backtesting.py")).series()

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
            These are no statistics of a :class:`backtest.Run`, or the bars have no dates and ``freq`` is not given.
        """
        return Vectorbt(self._run("to_vectorbt", "vectorbt"), freq).series()

    def _run(self, name: str, tool: str) -> Any:
        if not self._source.has_tool_stats:
            raise InputError(
                f"{name} must be asked of the statistics of a Run, since {tool} defines its own by the bars and orders of one "
                f"asset, got those of {self._source!r}"
            )
        return self._source

"""The sums of a candidate or a book, from which metrics are computed; what a return or a completed trade adds to them.

The twin of ``ext/_sums.pxd``; the names are those of ``SUMS`` and of the struct ``Sums``.
"""

from __future__ import annotations

from typing import Any

from backtest._pure._holding_tables import return_powers

INF = float("inf")
#: Sums of one return's :func:`return_powers`, in their order.
MOMENT_SUMS = ("sum_return", "sum_return_2", "sum_return_3", "sum_return_4", "sum_gain", "sum_loss", "sum_downside_2")


class CandidateSums:
    """Initial sums: 0, and infinite extremes that any trade replaces."""

    def __init__(self, n_returns: int) -> None:
        self.n_returns = float(n_returns)
        self.end_equity = self.max_drawdown = 0.0
        self.moments = [0.0] * len(MOMENT_SUMS)
        self.bars_held = self.traded_value = self.costs = self.written_off = 0.0
        self.n_fills = self.n_trades = self.n_winners = self.won = self.lost = self.net_profit = 0.0
        self.sum_trade_return = self.sum_trade_return_2 = self.n_ambiguous = 0.0
        self.largest_profit = self.best_trade = -INF
        self.worst_trade = INF

    def add_moments(self, terms: Any) -> None:
        """Add the moments of one return, or of a span of returns."""
        for column, term in enumerate(terms):
            self.moments[column] += term

    def add_return(self, result: float, rf_per_bar: float) -> None:
        """Add one return."""
        self.add_moments(return_powers(result, rf_per_bar))

    def add_trade(self, net: float, result: float) -> None:
        """Add a completed trade: its net profit, and that as a share of its entry value."""
        self.n_trades += 1.0
        self.net_profit += net
        if net > 0.0:
            self.n_winners += 1.0
            self.won += net
        else:
            self.lost -= net
        if net > self.largest_profit:
            self.largest_profit = net
        self.sum_trade_return += result
        self.sum_trade_return_2 += result * result
        self.add_extremes(result)

    def add_extremes(self, result: float) -> None:
        """Best and worst return of a trade."""
        if result > self.best_trade:
            self.best_trade = result
        if result < self.worst_trade:
            self.worst_trade = result

    def update_drawdown(self, ratio: float) -> None:
        """Lower the maximum drawdown to ``ratio - 1`` (equity over its peak) if that is a new low."""
        if ratio - 1.0 < self.max_drawdown:
            self.max_drawdown = ratio - 1.0

    def names(self) -> list[str]:
        """Names of all sums."""
        return [*MOMENT_SUMS, *(name for name in vars(self) if name != "moments")]

    def write(self, row: Any) -> None:
        """Write every sum into a row of SUMS."""
        for name in row.dtype.names:
            row[name] = self.moments[MOMENT_SUMS.index(name)] if name in MOMENT_SUMS else getattr(self, name)

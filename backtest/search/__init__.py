"""Searches over any ``evaluate(batch) -> scores``; they minimise, as scipy does."""

from backtest.search.direct import direct as direct
from backtest.search.grid import INTERRUPTED as INTERRUPTED
from backtest.search.grid import grid as grid

__all__ = ["INTERRUPTED", "direct", "grid"]

"""Searches over any ``evaluate(batch) -> scores``; they minimise, as scipy does."""

from backtest.search.grid import INTERRUPTED as INTERRUPTED
from backtest.search.grid import grid as grid

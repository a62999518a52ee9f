"""Searches over any ``evaluate(batch) -> scores``; they minimise, as scipy does."""

from backtest.search.direct import direct

__all__ = ["direct"]

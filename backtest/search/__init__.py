"""Searches over any ``evaluate(batch) -> scores``; they minimise, as scipy does."""

from backtest.search.choose import choose as choose
from backtest.search.cube import cube as cube
from backtest.search.direct import direct as direct
from backtest.search.evolution import evolution as evolution
from backtest.search.grid import grid as grid
from backtest.search.ranking import INTERRUPTED as INTERRUPTED
from backtest.search.ranking import Distribution as Distribution
from backtest.search.ranking import Ranking as Ranking

__all__ = ["INTERRUPTED", "Distribution", "Ranking", "choose", "cube", "direct", "evolution", "grid"]


def __dir__() -> list[str]:
    return __all__

"""Searches over any ``evaluate(batch) -> scores``; they minimise, as scipy does."""

from backtest.search.choose import choose as choose
from backtest.search.cube import cube as cube
from backtest.search.direct import direct as direct
from backtest.search.distribution import Distribution as Distribution
from backtest.search.distribution import Ranking as Ranking
from backtest.search.evolution import evolution as evolution
from backtest.search.grid import grid as grid
from backtest.search.kept import INTERRUPTED as INTERRUPTED

__all__ = ["INTERRUPTED", "Distribution", "Ranking", "choose", "cube", "direct", "evolution", "grid"]


def __dir__() -> list[str]:
    return __all__

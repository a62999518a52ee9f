"""Entry and exit levels around a forecast: the door to the level kernel."""

from backtest.levels.problem import AlwaysOn, Levels

__all__ = ["AlwaysOn", "Levels"]

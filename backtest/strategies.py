"""Ready strategies.  Both sides are defined; ``Execution(sides="long")`` leaves the short one out."""

from __future__ import annotations

from backtest import lines, rules
from backtest.expr import param

__all__ = ["READY", "sma_cross"]


def __dir__() -> list[str]:
    return __all__


_fast, _slow = lines.sma(lines.close, param("fast")), lines.sma(lines.close, param("slow"))

#: Long while the fast simple moving average of the close is above the slow one, short while it is below.  Parameters:
#: ``fast``, ``slow`` (bars); optional, off by default: ``stop_loss``, ``take_profit``, ``trailing_stop`` (fractions),
#: ``max_bars``.
sma_cross = rules.Strategy(
    enter_long=rules.crosses_above(_fast, _slow),
    exit_long=rules.crosses_below(_fast, _slow),
    enter_short=rules.crosses_below(_fast, _slow),
    exit_short=rules.crosses_above(_fast, _slow),
    stop_loss=param("stop_loss", None),
    take_profit=param("take_profit", None),
    trailing_stop=param("trailing_stop", None),
    max_bars=param("max_bars", None),
    name="sma_cross",
)

#: Every ready strategy by name.
READY = {"sma_cross": sma_cross}

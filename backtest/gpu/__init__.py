"""Level profits on a GPU (extra ``gpu``, imported on use): one launch for many candidates of many problems.

On an NVIDIA card a fused Triton kernel runs; where triton is not installed, and on a CPU, plain torch operations do.
:func:`report` says which, and why.  On a CPU the compiled kernel of :meth:`backtest.Levels.profit` is far faster, and it alone is
exact to the last bit.
"""

from backtest.gpu.devices import check as check
from backtest.gpu.devices import report as report
from backtest.gpu.devices import rows_that_fit as rows_that_fit
from backtest.gpu.problems import Problems as Problems
from backtest.gpu.problems import profit as profit
from backtest.gpu.soft import soft_profit as soft_profit

__all__ = ["Problems", "profit", "report", "soft_profit"]

"""Search over trading strategies on compiled kernels.

The whole way of the data is one line: bars -> lines -> rules -> signals -> trades -> metrics -> search.
"""

from backtest._backend import backend, require_compiled
from backtest._checks import (
    BackendUnavailable,
    BacktestError,
    DataError,
    FallbackWarning,
    InputError,
    NumericsWarning,
    ObjectiveError,
    SpaceError,
)

__version__ = "0.1.0.dev0"

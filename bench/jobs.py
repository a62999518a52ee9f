"""What the jobs of bench/peers.py share: made-up bars, what is compared, and what an engine is."""

from typing import Any, NamedTuple

import numpy as np

import backtest as bt

CASH, PER_YEAR, SEED = 100_000.0, 365.0, 7
FEE_BARS = 2.0  # fee rate times bars of a job, so that a candidate that trades often has something left at the end
#: What every engine computes here; vectorbt is asked for these, the others have them among theirs.
METRICS = ("total_return", "sharpe", "sortino", "max_drawdown", "n_trades", "win_rate", "profit_factor")
#: Columns of one vectorbt call: measured on 2,000 bars, 64 and 1,024 are slower per candidate.
CHUNK_CELLS = 256 * 2000


class Engine(NamedTuple):
    """One way to do a job."""

    module: str
    evaluate: Any  # (job, count) -> metric -> array of the first ``count`` candidates
    says: str  # what it computes
    takes: Any  # job -> bool
    cells: float  # candidate-bars that are timed, as far as there are candidates
    timed: Any = None  # what is timed instead of ``evaluate``, where that is another order of candidates or a part of the work

    @property
    def work(self):
        return self.timed or self.evaluate


def random_bars(n_bars):
    """A random walk with highs and lows around it, never near nothing."""
    rng = np.random.default_rng(SEED)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.2 / np.sqrt(n_bars), n_bars)))
    open_ = np.concatenate([[100.0], close[:-1]])
    spread = np.exp(np.abs(rng.normal(0, 0.002, n_bars)))
    return bt.Bars(open=open_, high=np.maximum(open_, close) * spread, low=np.minimum(open_, close) / spread, close=close)

"""Make ``backtest/data/stocks.npz`` from the PyPI package ``bokeh_sampledata`` (see ``backtest/data/SOURCE.md``).

    pip install bokeh_sampledata pandas && python docs/make_sample.py

AAPL, IBM and MSFT have splits and dividends inside: open, high and low are multiplied by ``adj_close / close`` at
load time, so the file keeps the raw prices (they compress) and that factor.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from bokeh_sampledata import stocks

SYMBOLS = ("AAPL", "GOOG", "IBM", "MSFT")
TARGET = Path(__file__).parent.parent / "backtest" / "data" / "stocks.npz"


def main() -> None:
    """Write the file."""
    arrays = {}
    for symbol in SYMBOLS:
        frame = pd.DataFrame(getattr(stocks, symbol))
        arrays[f"{symbol}.date"] = frame["date"].to_numpy("datetime64[D]").astype(np.int32)
        for name in ("open", "high", "low", "close"):
            arrays[f"{symbol}.{name}"] = frame[name].to_numpy(np.float64)
        arrays[f"{symbol}.volume"] = frame["volume"].to_numpy(np.int64)
        if symbol != "GOOG":  # no split or dividend inside: used as it is
            arrays[f"{symbol}.factor"] = (frame["adj_close"] / frame["close"]).to_numpy(np.float64)
    np.savez_compressed(TARGET, **arrays)


if __name__ == "__main__":
    main()

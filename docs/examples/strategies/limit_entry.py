"""Limit entry below the close, good for three bars.

In an uptrend (close above its average of ``n`` bars) a limit order ``below`` the close waits three bars for a dip; only then
a new one may be placed.  Stop and target are fractions of the price at which it filled; what neither has ended after
``max_bars`` closes is sold at the next open.

Parameters: ``n``, ``max_bars`` (bars); ``below``, ``stop``, ``target`` (fractions).

    python limit_entry.py
"""

import backtest as bt
from backtest import lines

WAIT = 3


@bt.on_bar(trend=lines.sma(lines.close, bt.param("n")), state={"next_try": 0.0})
def limit_entry(bar, account, state, p):
    """Bid for a dip in an uptrend, three bars at a time."""
    if account.is_flat:
        if bar.close > bar.trend and bar.index >= state.next_try:
            account.buy(
                share=1.0,
                limit=bar.close * (1.0 - p.below),
                valid_bars=WAIT,
                stop_loss=bt.below_entry(p.stop),
                take_profit=bt.above_entry(p.target),
            )
            state.next_try = bar.index + WAIT
    elif account.bars_held >= p.max_bars:
        account.close()


def main():
    """One candidate on daily bars of GOOG, and what became of its orders."""
    params = {"n": 50, "max_bars": 15, "below": 0.01, "stop": 0.03, "target": 0.05}
    run = bt.run(bt.Bars.sample("GOOG"), limit_entry, params, costs=bt.Costs(fee_rate=0.001, slippage=0.0005))
    print(run)
    print(run.orders["status"].value_counts().to_string())
    print(run.trades["exit_reason"].value_counts().to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

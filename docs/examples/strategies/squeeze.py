"""Squeeze: when a quiet market wakes up, go with it.

The market is quiet while the Bollinger band lies inside the Keltner channel (``width`` ATR around the same average).  After at
least ``least`` quiet bars in a row, the first bar that is not quiet opens a position in the direction of the close from the
average, with a stop ``stop`` ATR away; a close on the other side of the average ends it.

Parameters: ``n``, ``least`` (bars); ``width``, ``stop`` (ATR).

    python squeeze.py
"""

import backtest as bt
from backtest import lines

n = bt.param("n")
band = lines.bollinger(lines.close, n, 2.0)


@bt.on_bar(upper=band.upper, middle=band.middle, atr=lines.atr(n), state={"quiet": 0.0})
def squeeze(bar, account, state, p):
    """Count quiet bars; trade the bar that ends them."""
    if (account.is_long and bar.close < bar.middle) or (account.is_short and bar.close > bar.middle):
        account.close()
    if bar.upper < bar.middle + p.width * bar.atr:
        state.quiet += 1.0
        return
    was_quiet = state.quiet >= p.least
    state.quiet = 0.0
    if account.is_flat and was_quiet:
        if bar.close > bar.middle:
            account.buy(share=1.0, stop_loss=bar.close - p.stop * bar.atr)
        elif bar.close < bar.middle:
            account.sell(share=1.0, stop_loss=bar.close + p.stop * bar.atr)


def main():
    """One candidate on daily bars of GOOG."""
    params = {"n": 20, "least": 5, "width": 1.5, "stop": 2.0}
    run = bt.run(bt.Bars.sample("GOOG"), squeeze, params, costs=bt.Costs(fee_rate=0.001, slippage=0.0005))
    print(run)
    print(run.trades[["side", "entry_time", "exit_time", "exit_reason", "return"]].to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

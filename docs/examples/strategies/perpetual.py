"""A perpetual future: leverage, funding and liquidation.

A trend follower on a contract that is margined, not paid: buying power is ``leverage`` times equity, funding is paid (or
received) on the position's value at every close, and when equity falls to the maintenance margin the exchange closes the
position.  A stop nearer than the liquidation price is the trader's own way out.

Parameters: ``fast``, ``slow`` (bars); ``share`` of equity (2 is twice the equity), ``stop`` (fraction).

    python perpetual.py
"""

import numpy as np

import backtest as bt
from backtest import lines


@bt.on_bar(fast=lines.ema(lines.close, bt.param("fast")), slow=lines.ema(lines.close, bt.param("slow")))
def perpetual(bar, account, state, p):
    """Long above, short below, always with borrowed size."""
    if account.is_flat:
        if account.last_exit_reason == bt.LIQUIDATION and bar.index - account.last_exit_bar < 20.0:
            return
        if bar.fast > bar.slow:
            account.buy(share=p.share, stop_loss=bt.below_entry(p.stop))
        elif bar.fast < bar.slow:
            account.sell(share=p.share, stop_loss=bt.above_entry(p.stop))
    elif (account.is_long and bar.fast < bar.slow) or (account.is_short and bar.fast > bar.slow):
        account.close()


def main():
    """The same candidate with more and more leverage, on daily bars of GOOG as if they were a contract's."""
    goog = bt.Bars.sample("GOOG")
    costs = bt.Costs(fee_rate=0.0005, slippage=0.0005, funding=0.0001, liquidation_fee=0.005)
    for leverage in (1.0, 3.0, 5.0, 10.0):
        params = {"fast": 10, "slow": 40, "share": 0.9 * leverage, "stop": 0.2}
        run = bt.run(goog, perpetual, params, costs=costs, execution=bt.Execution(leverage=leverage, maintenance_margin=0.02))
        ends = run.trades["exit_reason"].value_counts().to_dict()
        print(f"leverage {leverage:g}: return {run.stats['total_return']:.3f}, {ends}")
    print(np.round(run.stats[["max_drawdown", "costs_paid"]], 3).to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

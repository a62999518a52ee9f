"""A pause after a stop: a trend follower that does not buy again at once.

In an uptrend (fast average above the slow one) it buys at the next open, with stop and target.  After a stop it waits
``cooldown`` bars; after a target it may buy again at once.  A cross back closes.

Parameters: ``fast``, ``slow``, ``cooldown`` (bars); ``stop``, ``target`` (fractions).

    python cooldown.py
"""

import backtest as bt
from backtest import lines


@bt.on_bar(fast=lines.sma(lines.close, bt.param("fast")), slow=lines.sma(lines.close, bt.param("slow")))
def cooldown(bar, account, state, p):
    """Trend with stop and target, and a pause after a stop."""
    if account.last_exit_reason == bt.STOP and bar.index - account.last_exit_bar < p.cooldown:
        return
    if account.is_flat:
        if bar.fast > bar.slow:
            account.buy(share=1.0, stop_loss=bt.below_entry(p.stop), take_profit=bt.above_entry(p.target))
    elif bar.fast < bar.slow:
        account.close()


def main():
    """How long should the pause be?  A search over 1,200 candidates on daily bars of GOOG."""
    space = {"fast": range(5, 45, 2), "slow": range(50, 101, 10), "cooldown": range(0, 46, 5), "stop": 0.03, "target": 0.06}
    result = bt.optimize(bt.Bars.sample("GOOG"), cooldown, space, costs=bt.Costs(fee_rate=0.001, slippage=0.0005), progress=False)
    print(result.best_params, f"{result.metric} {result.best_value:.3f}")
    print(result.table.groupby("cooldown")["sharpe"].median().to_string())
    print(bt.explain(result.best))


if __name__ == "__main__":
    main()

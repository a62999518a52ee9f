"""Donchian breakout by stop order: buy where a new high trades, sell where a new low trades.

While flat, a stop order rests at the highest high of the last ``entry`` bars and is renewed at each close, so that it fills
inside the bar that breaks out and not at the open after it.  The position's stop is the lowest low of the last ``exit``
bars; it only rises.

Parameters: ``entry`` and ``exit`` (bars), ``share`` of equity.

    python donchian.py
"""

import backtest as bt
from backtest import lines


@bt.on_bar(upper=lines.highest(lines.high, bt.param("entry")), lower=lines.lowest(lines.low, bt.param("exit")))
def donchian(bar, account, state, p):
    """A stop order above the market while flat; a stop below it that follows the channel while long."""
    if account.is_flat:
        account.buy(share=p.share, stop=bar.upper, stop_loss=bar.lower)
    else:
        account.move_stop_loss(max(account.stop_loss, bar.lower))


def main():
    """One candidate on daily bars of GOOG, and what became of its orders."""
    params = {"entry": 55, "exit": 20, "share": 1.0}
    run = bt.run(bt.Bars.sample("GOOG"), donchian, params, costs=bt.Costs(fee_rate=0.001, slippage=0.0005))
    print(run)
    print(run.trades[["entry_time", "entry_price", "exit_time", "exit_price", "exit_reason", "return"]].to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

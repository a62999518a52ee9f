"""Chandelier exit on both sides: the stop hangs ``k`` ATR from the extreme of the last ``n`` bars.

Above its average of ``trend`` bars the market is bought, below it sold short, at the next open.  A long's stop is the highest
high of the last ``n`` bars less ``k`` ATR, a short's the lowest low plus ``k`` ATR; it only moves towards the price.

Parameters: ``trend``, ``n`` (bars, of the extremes and the ATR), ``k`` (ATR), ``share`` of equity.

    python chandelier.py
"""

import backtest as bt
from backtest import lines

n = bt.param("n")


@bt.on_bar(
    trend=lines.sma(lines.close, bt.param("trend")),
    top=lines.highest(lines.high, n),
    bottom=lines.lowest(lines.low, n),
    atr=lines.atr(n),
)
def chandelier(bar, account, state, p):
    """Follow the trend with a stop that hangs from the last extreme."""
    below = bar.top - p.k * bar.atr
    above = bar.bottom + p.k * bar.atr
    if account.is_flat:
        if bar.close > bar.trend and below < bar.close:
            account.buy(share=p.share, stop_loss=below)
        elif bar.close < bar.trend and above > bar.close:
            account.sell(share=p.share, stop_loss=above)
    elif account.is_long:
        account.move_stop_loss(max(account.stop_loss, below))
    else:
        account.move_stop_loss(min(account.stop_loss, above))


def main():
    """One candidate on daily bars of GOOG."""
    params = {"trend": 100, "n": 22, "k": 3.0, "share": 1.0}
    costs = bt.Costs(fee_rate=0.001, slippage=0.0005, borrow_rate=0.02)
    run = bt.run(bt.Bars.sample("GOOG"), chandelier, params, costs=costs)
    print(run)
    print(run.trade_statistics().loc[["n_trades", "win_rate", "profit_factor"]].to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

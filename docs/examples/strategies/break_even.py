"""Break-even after one unit of risk: once the price has moved as far in favour as the stop is away, nothing can be lost.

A close at the highest close of the last ``entry`` bars buys at the next open, with a stop ``k`` ATR below that close (the
risk, R) and a target ``reward`` R above it.  The first close that is R above the entry price moves the stop there.  What is
staked is such that the stop costs about ``risk`` of equity, and never more than the whole.

Parameters: ``entry``, ``n`` (bars of the ATR); ``k`` (ATR), ``reward`` (R), ``risk`` (share of equity).

    python break_even.py
"""

import backtest as bt
from backtest import lines


@bt.on_bar(
    top=lines.highest(lines.close, bt.param("entry")), atr=lines.atr(bt.param("n")), state={"distance": 0.0, "is_safe": False}
)
def break_even(bar, account, state, p):
    """Risk a fixed share of equity, and move the stop to the entry after one R."""
    if account.is_flat:
        state.is_safe = False
        if bar.close >= bar.top:
            state.distance = p.k * bar.atr
            account.buy(
                share=min(p.risk * bar.close / state.distance, 1.0),
                stop_loss=bar.close - state.distance,
                take_profit=bar.close + p.reward * state.distance,
            )
    elif not state.is_safe and bar.close >= account.entry_price + state.distance:
        account.move_stop_loss(account.entry_price)
        state.is_safe = True


def main():
    """One candidate on daily bars of GOOG: how its positions ended."""
    params = {"entry": 20, "n": 14, "k": 2.0, "reward": 3.0, "risk": 0.02}
    run = bt.run(bt.Bars.sample("GOOG"), break_even, params, costs=bt.Costs(fee_rate=0.001, slippage=0.0005))
    print(run)
    print(run.trades.groupby("exit_reason")["return"].agg(["count", "mean", "min", "max"]).to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

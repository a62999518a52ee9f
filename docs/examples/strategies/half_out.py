"""Half out at a profit, the rest trailing.

Enters when the fast average crosses above the slow one.  At the first close of the position a limit order for half of it is
placed ``gain`` above the entry; the other half (all of it, if that price is never reached) is left to a trailing stop
``trail`` below the best close, or to the opposite cross.

Parameters: ``fast``, ``slow`` (bars); ``gain``, ``trail`` (fractions).

    python half_out.py
"""

import backtest as bt
from backtest import lines, rules

fast, slow = lines.sma(lines.close, bt.param("fast")), lines.sma(lines.close, bt.param("slow"))


@bt.on_bar(up=rules.crosses_above(fast, slow), down=rules.crosses_below(fast, slow))
def half_out(bar, account, state, p):
    """Take half of the position off at a fixed gain, once; the trailing stop has the rest."""
    if account.is_flat:
        if bar.up:
            account.buy(share=1.0, trailing_stop=p.trail)
    else:
        account.sell(share_of_position=0.5, limit=account.entry_price * (1.0 + p.gain), once=True)
        if bar.down:
            account.close()


def main():
    """One candidate on daily bars of GOOG: each partial exit is a trade of its own."""
    params = {"fast": 10, "slow": 30, "gain": 0.05, "trail": 0.06}
    run = bt.run(bt.Bars.sample("GOOG"), half_out, params, costs=bt.Costs(fee_rate=0.001, slippage=0.0005))
    print(run)
    print(run.trades[["entry_time", "exit_time", "units", "exit_reason", "return"]].head(12).to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

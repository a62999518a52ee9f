"""Pyramiding every ATR: one more unit each time the price has moved ``step`` ATR in favour.

A close at the highest close of the last ``entry`` bars opens the first unit at the next open.  Each further close that is
``step`` ATR above the last unit's price adds one, up to ``most`` units; with it the stop of the whole position moves to
``stop`` ATR below that close.  The ATR is the one of the first signal.

Parameters: ``entry``, ``n`` (bars of the ATR), ``most`` (units); ``step``, ``stop`` (ATR); ``share`` of equity a unit.

    python pyramid.py
"""

import backtest as bt
from backtest import lines


@bt.on_bar(top=lines.highest(lines.close, bt.param("entry")), atr=lines.atr(bt.param("n")), state={"atr": 0.0})
def pyramid(bar, account, state, p):
    """Enter at a new high, add every ``step`` ATR, and let the stop of all units follow the last one."""
    if account.is_flat:
        if bar.close >= bar.top:
            state.atr = bar.atr
            account.buy(share=p.share, stop_loss=bar.close - p.stop * state.atr)
    elif account.n_entries < p.most and bar.close >= account.last_entry_price + p.step * state.atr:
        account.buy(share=p.share, stop_loss=bar.close - p.stop * state.atr)


def main():
    """One candidate on daily bars of IBM: positions of one to four units."""
    params = {"entry": 55, "n": 20, "most": 4, "step": 1.0, "stop": 3.0, "share": 0.24}
    run = bt.run(bt.Bars.sample("IBM"), pyramid, params, costs=bt.Costs(fee_rate=0.001, slippage=0.0005))
    print(run)
    print(run.trades[["entry_time", "exit_time", "units", "entry_price", "exit_price", "net_profit"]].to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

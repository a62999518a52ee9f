"""Martingale: the stake doubles after every loss, and goes back after a win.

Always in the market: whenever flat, it buys at the next open with a stop and a target at equal distance, a coin toss.  The
stake is a share of equity that doubles with each loss in a row, up to ``most``.  A strategy to learn from, not to trade.

Parameters: ``stake``, ``most`` (shares of equity), ``move`` (fraction to stop and target).

    python martingale.py
"""

import backtest as bt


@bt.on_bar(state={"factor": 1.0, "seen": 0.0})
def martingale(bar, account, state, p):
    """Double after a loss."""
    if account.is_flat:
        if account.n_trades > state.seen:  # a position has ended since the last toss
            state.seen = account.n_trades
            if account.last_result < 0.0:
                state.factor *= 2.0
            else:
                state.factor = 1.0
        account.buy(
            share=min(p.stake * state.factor, p.most), stop_loss=bt.below_entry(p.move), take_profit=bt.above_entry(p.move)
        )


def main():
    """What doubling does to the worst drawdown on daily bars of GOOG."""
    goog, costs = bt.Bars.sample("GOOG"), bt.Costs(fee_rate=0.001, slippage=0.0005)
    for most in (0.1, 0.2, 0.4, 0.8):
        run = bt.run(goog, martingale, {"stake": 0.1, "most": most, "move": 0.04}, costs=costs)
        row = run.stats[["total_return", "max_drawdown", "n_trades", "win_rate"]]
        print(f"most {most:g}:", ", ".join(f"{name} {value:.3f}" for name, value in row.items()))
    print(bt.explain(run))


if __name__ == "__main__":
    main()

"""A grid: lots bought step by step on the way down, each sold one step higher.

While flat, the anchor is the last close.  Rung k lies ``k * step`` below it; a lot is bought at each rung, and what was bought
at rung k is sold at rung k - 1.  At each close three rungs below and three above what is held have orders for the next bar.

Parameters: ``step`` (fraction of the anchor), ``share`` of equity a lot, ``most`` (lots).

    python grid.py
"""

import backtest as bt

NEAREST = 3


@bt.on_bar(state={"anchor": 0.0, "lot": 0.0})
def grid(bar, account, state, p):
    """Orders at the nearest rungs, one bar at a time."""
    if account.is_flat:
        state.anchor = bar.close
        state.lot = account.equity * p.share / bar.close
    lots = account.units / state.lot  # whole, but for rounding
    for i in range(NEAREST):
        if lots + i < p.most - 0.5:
            account.buy(units=state.lot, limit=state.anchor * (1.0 - p.step * (lots + i + 1.0)), valid_bars=1)
        if lots - i > 0.5:
            account.sell(units=state.lot, limit=state.anchor * (1.0 - p.step * (lots - i - 1.0)), valid_bars=1, reduce_only=True)


def main():
    """One candidate on daily bars of IBM, which went sideways for years."""
    params = {"step": 0.02, "share": 0.12, "most": 8}
    run = bt.run(bt.Bars.sample("IBM"), grid, params, costs=bt.Costs(fee_rate=0.0005))
    print(run)
    print(run.orders["status"].value_counts().to_string())
    print(bt.explain(run))


if __name__ == "__main__":
    main()

"""A strategy in plain Python, searched by Optuna on two worker processes, with a store.

Run it, stop it half-way in any way you like (Ctrl-C, kill -9), and run it again: it goes on where it was.

    python python_strategy.py [STORE]        # sqlite:///python_strategy.db by default
"""

import sys

import backtest as bt

bars = bt.Bars.sample("GOOG")
highs, lows, closes = bars.high.tolist(), bars.low.tolist(), bars.close.tolist()

space = bt.Space(
    {
        "breakout": range(10, 101, 5),  # bars whose highest high is bought
        "exit": {"low": 5, "high": 60, "step": 5},  # bars whose lowest low is sold
        "stop": [None, 0.05, 0.1],
        "trail": {"low": 0.02, "high": 0.2, "step": 0.01, "when": "stop is not None"},
    },
    where="exit < breakout",
)


def growth(params, trial):
    """Growth of 1 unit of money by Donchian breakouts, 0.1 % a trade; a loop over bars, as one writes it first."""
    money, entry, peak = 1.0, None, 0.0
    for bar in range(100, len(closes)):
        close = closes[bar]
        if entry is None:
            if close > max(highs[bar - params["breakout"] : bar]):
                entry, peak, money = close, close, money * 0.999
        else:
            peak = max(peak, close)
            stopped = params["stop"] is not None and (
                close < entry * (1 - params["stop"]) or close < peak * (1 - params["trail"])
            )
            if stopped or close < min(lows[bar - params["exit"] : bar]):
                money, entry = money * close / entry * 0.999, None
        if bar % 500 == 0:  # a poor start is not worth the rest
            trial.report(bar // 500, money)
            if trial.should_prune():
                raise bt.TrialPruned
    return money


def main(store):
    """Two hundred candidates."""
    study = bt.Study(space, Slowly(growth), name="breakout", version="1", data=bars, store=store, sampler="tpe", pruner="median")
    with bt.Workers(2) as workers:
        print(study.run(200, executor=workers), flush=True)
    print(f"best growth {study.best_value:.3f} at {study.best_params}")


class Slowly:
    """Twenty times the same, so that an evaluation takes about 50 ms, as a real one may."""

    def __init__(self, objective):
        self.objective = objective

    def __call__(self, params, trial):
        """The objective's value."""
        for _ in range(19):
            self.objective(params, bt.Trial(trial.number, params))
        return self.objective(params, trial)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "sqlite:///python_strategy.db")

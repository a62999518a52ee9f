"""Strategies that the bar machine is timed on, and candidates of each; bench/plain_machine.py has them as loops."""

from typing import Any, NamedTuple

import numpy as np

import backtest as bt
from backtest import lines

COOLDOWN = 24  # bars
MEANS = (5, 10, 20, 40, 80, 160)  # windows of ``weighing``, besides the one that is a parameter


@bt.on_bar(fast=lines.sma(lines.close, bt.param("fast")), slow=lines.sma(lines.close, bt.param("slow")))
def showcase(bar, account, state, p):
    """The SMA trend with a stop, a target, and a pause after a stop."""
    if account.last_exit_reason == bt.STOP and bar.index - account.last_exit_bar < p.cooldown:
        return
    if account.is_flat:
        if bar.fast > bar.slow:
            stop, target = bar.close * (1.0 - p.stop_loss), bar.close * (1.0 + p.take_profit)
            account.buy(share=p.share, stop_loss=stop, take_profit=target)
    elif bar.fast < bar.slow:
        account.close()


@bt.on_bar(top=lines.highest(lines.close, bt.param("window")), atr=lines.atr(14), state={"mark": 0.0})
def chandelier(bar, account, state, p):
    """A new high; a stop that hangs below the best close, up to three entries by limit, half out at a target."""
    if account.is_flat:
        if bar.close >= bar.top:
            account.buy(share=p.share, stop_loss=bar.close - p.width * bar.atr)
            state.mark = bar.close
        return
    account.move_stop_loss(max(account.stop_loss, account.best_close - p.width * bar.atr))
    if account.n_entries < 3 and bar.close > state.mark + bar.atr:
        account.buy(share=p.share, limit=bar.close - 0.5 * bar.atr, valid_bars=3)
        state.mark = bar.close
    account.sell(share_of_position=0.5, limit=account.entry_price + p.reach * bar.atr, once=True)


@bt.on_bar(mean=lines.sma(lines.close, bt.param("window")))
def flipping(bar, account, state, p):
    """A trade every ``hold + 1`` bars, from a bar on that differs between neighbours; long above the mean, short below it."""
    if account.is_flat:
        if bar.index >= p.phase:
            if bar.close > bar.mean:
                account.buy(share=p.share)
            else:
                account.sell(share=p.share)
    elif account.bars_held >= p.hold:
        account.close()


def squashed(x):
    """Between -1 and 1."""
    return x / (1.0 + abs(x))


def vote(weight, close, mean, before, scale):
    """Where the close lies to a mean, and where that goes."""
    return weight * squashed((close - mean) * scale) + squashed((mean - before) * scale)


@bt.on_bar(
    **{f"mean_{window}": lines.sma(lines.close, window) for window in MEANS},
    mean=lines.sma(lines.close, bt.param("window")),
    atr=lines.atr(14),
    state={"mood": 0.0, "heat": 0.0},
)
def weighing(bar, account, state, p):
    """Much arithmetic: seven means vote, their smoothed sum decides, always in the market."""
    scale = 1.0 / bar.atr
    score = 0.0
    score += vote(p.weight, bar.close, bar.mean_5, bar.previous(5).mean_5, scale)
    score += vote(p.weight, bar.close, bar.mean_10, bar.previous(5).mean_10, scale)
    score += vote(p.weight, bar.close, bar.mean_20, bar.previous(5).mean_20, scale)
    score += vote(p.weight, bar.close, bar.mean_40, bar.previous(5).mean_40, scale)
    score += vote(p.weight, bar.close, bar.mean_80, bar.previous(5).mean_80, scale)
    score += vote(p.weight, bar.close, bar.mean_160, bar.previous(5).mean_160, scale)
    score += vote(p.weight, bar.close, bar.mean, bar.previous(5).mean, scale)
    state.mood = 0.8 * state.mood + 0.2 * max(min(score, 6.0), -6.0)
    state.heat = max(0.98 * state.heat, abs(state.mood))
    edge = p.level * state.heat
    if state.mood > edge and not account.is_long:
        account.buy(share=p.share)
    elif state.mood < -edge and not account.is_short:
        account.sell(share=p.share)


class Family(NamedTuple):
    """Candidates of a strategy, beside each other as a sweep has them."""

    strategy: Any
    loop: str
    columns: dict[str, Any]  # parameter -> (n_candidates,)
    windows: Any  # (n_candidates, n_lines): what a loop's lines are made with
    params: Any  # (n_candidates, ...): what a loop reads
    kinds: tuple[str, ...]  # of the lines: "sma", "highest" or "atr"
    start: int


def showcases(fasts, slows):
    fast, slow = grid(fasts, slows)
    rest = {"share": 0.99, "stop_loss": 0.03, "take_profit": 0.06, "cooldown": float(COOLDOWN)}
    columns = {"fast": fast, "slow": slow} | {name: np.full(len(fast), value) for name, value in rest.items()}
    params = np.stack([columns[name] for name in rest], axis=1)
    return Family(showcase, "showcase", columns, np.stack([fast, slow], axis=1), params, ("sma", "sma"), max(slows))


def chandeliers(windows, widths, reaches):
    window, width, reach = grid(windows, widths, reaches)
    columns = {"window": window, "width": width, "reach": reach, "share": np.full(len(window), 0.3)}
    params = np.stack([columns["share"], width, reach], axis=1)
    made = np.stack([window, np.full_like(window, 14)], axis=1)
    return Family(chandelier, "chandelier", columns, made, params, ("highest", "atr"), max(*windows, 15))


def flippings(windows, shares, every):
    start = max(windows)
    window, share, phase = grid(windows, shares, start + np.arange(float(every)))
    columns = {"window": window, "phase": phase, "hold": np.full(len(window), every - 1.0), "share": share}
    params = np.stack([share, columns["hold"], phase], axis=1)
    return Family(flipping, "flipping", columns, window[:, None], params, ("sma",), start)


def weighings(windows, weights, levels):
    window, weight, level = grid(windows, weights, levels)
    columns = {"window": window, "weight": weight, "level": level, "share": np.full(len(window), 0.5)}
    params = np.stack([columns["share"], weight, level], axis=1)
    made = np.stack([*(np.full_like(window, each) for each in MEANS), window, np.full_like(window, 14)], axis=1)
    return Family(weighing, "weighing", columns, made, params, ("sma",) * 7 + ("atr",), max(*windows, *MEANS) + 5)


def grid(*values):
    """Every combination, the last value fastest."""
    return [each.ravel() for each in np.meshgrid(*(np.array(list(one)) for one in values), indexing="ij")]

"""Random level problems for the tests: the awkward ones on purpose."""

import numpy as np

KINDS = ("plain", "lattice", "duplicates", "clamped", "worthless", "hopeless", "crash")


def moves(n_bars, seed, kind="plain"):
    """The arrays of one problem, as a dict of float64 vectors."""
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    close = rng.normal(0.0, 0.01, n_bars)
    high = np.maximum(close, 0.0) + np.abs(rng.normal(0.0, 0.006, n_bars))
    low = np.minimum(close, 0.0) - np.abs(rng.normal(0.0, 0.006, n_bars))
    high_pred = rng.normal(0.008, 0.004, n_bars)
    low_pred = rng.normal(-0.008, 0.004, n_bars)
    position = rng.choice([-1.0, 0.0, 0.5, 1.0], n_bars) * rng.choice([1.0, rng.uniform(0.1, 2.0)], n_bars)
    if kind == "lattice":
        close, high, low = (np.round(each / 0.005) * 0.005 for each in (close, high, low))
        high_pred, low_pred = (np.round(each / 0.005) * 0.005 for each in (high_pred, low_pred))
        position = np.sign(position)
    if kind == "duplicates" and n_bars:
        index = rng.integers(0, max(1, n_bars // 3), n_bars)
        close, high, low, high_pred, low_pred = (each[index] for each in (close, high, low, high_pred, low_pred))
    if kind == "clamped":  # forecasts on the wrong side of the reference: both clamps at 0 bind
        high_pred, low_pred = rng.normal(0.0, 0.01, n_bars), rng.normal(0.0, 0.01, n_bars)
    if kind == "worthless":
        position = np.abs(position)
    if kind == "crash":  # a low of -1 is the only one at which the clamp at -1 can matter
        low = np.where(rng.random(n_bars) < 0.5, -1.0, low)
        low_pred = np.where(rng.random(n_bars) < 0.5, rng.uniform(-1.0, -0.98, n_bars), low_pred)
        close = np.where(rng.random(n_bars) < 0.5, low, close)
    return {
        "close": close,
        "high": high,
        "low": np.minimum(low, high),
        "high_pred": high_pred,
        "low_pred": low_pred,
        "position": position,
    }


def rules(seed, kind="plain"):
    """Fee, modes and margin of one problem."""
    rng = np.random.default_rng([seed, 77])
    fee = {"worthless": 0.02, "hopeless": 0.9}.get(kind, float(rng.choice([0.0, 0.0015, 0.004])))
    close_at_eod, intrabar = bool(rng.random() < 0.25), str(rng.choice(["optimistic", "pessimistic"]))
    return {
        "fee_rate": fee,
        "close_at_eod": close_at_eod,
        "intrabar": intrabar,
        "fill_margin": float(rng.choice([0.0, 0.0, 0.0005, 0.002])),
    }


def bounds(seed):
    rng = np.random.default_rng([seed, 78])
    return [
        ((-0.03, 0.03), (-0.03, 0.03)),
        ((-0.002, 0.002), (-0.001, 0.004)),
        ((0.001, 0.01), (-0.02, -0.003)),
        ((-2.0, 12.0), (-3.0, 2.0)),
        ((0.0, 0.02), (-0.02, 0.0)),
        ((0.004, 0.004), (-0.03, 0.03)),
    ][rng.integers(0, 6)]


def always_on(data, seed):
    """The same bars as an always-on problem's arguments."""
    rng = np.random.default_rng([seed, 79])
    n_bars = len(data["close"])
    rest = {name: data[name] for name in data if name != "position"}
    return rest | {"buy": rng.choice([0.0, 1.0, 0.3], n_bars), "sell": -rng.choice([0.0, 1.0, 0.7], n_bars)}

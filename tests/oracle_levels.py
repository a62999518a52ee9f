"""Level profit in plain floats, the slowest and most obvious way: one bar and one candidate at a time, no mirror, no rows."""

import struct


def clamp(value, low, high):
    if value < low:
        return low
    if value > high:
        return high
    return value


def bar(side, close, high, low, high_pred, low_pred, weight, h, l, *, fee_rate, close_at_eod, intrabar, fill_margin):  # noqa: E741
    """(filled, entry, exit, kind, profit) of one bar; moves relative to the reference."""
    hp = clamp(high_pred + h, 0.0, 10.0)
    lp = clamp(low_pred + l, -1.0, 0.0)
    if side == "long":
        if not lp > low + fill_margin:
            return False, None, None, "none", 0.0
        limit = high - fill_margin
        if intrabar == "pessimistic":
            limit = min(limit, close)
        at_limit = hp <= limit and not close_at_eod
        exit_ = hp if at_limit else close
        return True, lp, exit_, "limit" if at_limit else "close", weight * ((exit_ - lp) - fee_rate)
    if not hp < high - fill_margin:
        return False, None, None, "none", 0.0
    limit = low + fill_margin
    if intrabar == "pessimistic":
        limit = max(limit, close)
    at_limit = lp >= limit and not close_at_eod
    exit_ = lp if at_limit else close
    return True, hp, exit_, "limit" if at_limit else "close", weight * ((hp - exit_) - fee_rate)


def counts(side, close, high, low, high_pred, low_pred, h, l, *, close_at_eod, intrabar, fill_margin, **_):  # noqa: E741
    """Would the limit exit count, if the entry had filled?"""
    if close_at_eod:
        return False
    if side == "long":
        limit = high - fill_margin
        return clamp(high_pred + h, 0.0, 10.0) <= (min(limit, close) if intrabar == "pessimistic" else limit)
    limit = low + fill_margin
    return clamp(low_pred + l, -1.0, 0.0) >= (max(limit, close) if intrabar == "pessimistic" else limit)


def profit(data, h, l, **rules):  # noqa: E741
    """Entry/exit: one sum over bars.  ``data``: dict of lists, with ``position``."""
    total = 0.0
    columns = ("close", "high", "low", "high_pred", "low_pred", "position")
    for c, hi, lo, hp, lp, p in zip(*(data[name] for name in columns), strict=True):
        if p > 0:
            total += bar("long", c, hi, lo, hp, lp, p, h, l, **rules)[4]
        elif p < 0:
            total += bar("short", c, hi, lo, hp, lp, -p, h, l, **rules)[4]
    return total


def always_on(data, h, l, *, allow_short=True, **rules):  # noqa: E741
    """The long sum over bars plus the short sum over bars."""
    columns = list(zip(*(data[k] for k in ("close", "high", "low", "high_pred", "low_pred", "buy", "sell")), strict=True))
    long_sum = short_sum = 0.0
    for c, hi, lo, hp, lp, buy, _ in columns:
        if buy > 0:
            long_sum += bar("long", c, hi, lo, hp, lp, buy, h, l, **rules)[4]
    for c, hi, lo, hp, lp, _, sell in columns:
        if sell < 0 and allow_short:
            short_sum += bar("short", c, hi, lo, hp, lp, -sell, h, l, **rules)[4]
    return long_sum + short_sum


def order(value):
    """A whole number in the order of the doubles."""
    bits = struct.unpack("<q", struct.pack("<d", value + 0.0))[0]
    return bits if bits >= 0 else -(2**63) - bits


def places(low, high):
    """How many doubles lie from ``low`` to ``high``."""
    return order(high) - order(low)


def ulps(value, step):
    """The double ``step`` places above ``value``."""
    bits = order(value) + step
    return struct.unpack("<d", struct.pack("<q", bits if bits >= 0 else -(2**63) - bits))[0]


def tie_order(point):
    h, l = point  # noqa: E741
    return (abs(h) + abs(l), abs(h), h, l)

"""Why an order of a function was not filled for lack of money, most likely."""

from __future__ import annotations

from typing import Any

from backtest.machine.limits import TOLERANCE
from backtest.machine.program import ORDER_STATUSES, SIZE_KINDS


def why_unaffordable(run: Any) -> str:
    """Of the first unaffordable order of a run, why it was: words for the end of a message."""
    orders, execution = run._replay.orders, run.execution
    [order] = orders[orders["status"] == ORDER_STATUSES.index("unaffordable")][:1]
    bar, kind, size = int(order["decision_bar"]), SIZE_KINDS[order["size_kind"]], float(order["size"])
    unit = float(run.bars.close[bar]) * execution.multiplier
    equity, held = float(run._equity[bar - run.first]), float(run._units[bar - run.first])
    lot = 1.0 if execution.whole_units else execution.lot or 0.0
    budget = {"units": size * unit, "share": size * equity, "value": size}.get(kind, 0.0)
    power = execution.leverage * equity
    if kind == "share" and size > execution.leverage * (1.0 + TOLERANCE):
        why = f"share={size:.6g} is a fraction of equity, at most the leverage ({execution.leverage:g})"
    elif budget > power:
        much = f"{kind}={size:.6g} is {budget:,.6g} of value at that close" if kind == "units" else f"{kind}={size:.6g}"
        why = f"{much}, more than equity times leverage ({power:,.6g})"
    elif lot and (size if kind == "units" else budget / unit) < lot:
        why = f"{kind}={size:.6g} pays for less than one lot ({lot:g}, which is {lot * unit:,.6g} of value at that close)"
    elif held:
        why = f"{held:.6g} units were held: they and {kind}={size:.6g} may be more than equity times leverage ({power:,.6g})"
    else:
        why = f"{kind}={size:.6g} leaves nothing for costs, or the price had risen when it would have filled"
    return f"; most likely, {why}"

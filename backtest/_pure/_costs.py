"""Cost of an order, and the largest size that a budget pays for; shared by the twins as ``ext/_costs.pxd`` is by the kernels.

``costs`` is any record with ``fee_rate, fixed, per_unit, minimum, maximum``.
"""

from __future__ import annotations

import math
from typing import Any


def order_cost(costs: Any, units: float, price: float) -> float:
    """Cost of an order of ``units > 0`` at ``price``."""
    cost = costs.fixed + costs.per_unit * units + costs.fee_rate * (units * price)
    if cost < costs.minimum:
        cost = costs.minimum
    if cost > costs.maximum:
        cost = costs.maximum
    return float(cost)


def affordable_units(costs: Any, budget: float, price: float, whole_units: bool) -> float:
    """Largest number of units whose value and cost fit into ``budget``; may be <= 0.

    The cost is ``min(max(linear, minimum), maximum)`` with each part monotone in units, so the largest size is the
    same expression of the three sizes, with min and max exchanged.
    """
    units = (budget - costs.fixed) / (price * (1.0 + costs.fee_rate) + costs.per_unit)
    at_minimum = (budget - costs.minimum) / price
    at_maximum = (budget - costs.maximum) / price
    if at_minimum < units:
        units = at_minimum
    if at_maximum > units:
        units = at_maximum
    if whole_units:
        units = float(math.floor(units)) if math.isfinite(units) else units
        # The division may have rounded across a whole number; the rule itself decides.
        if (units + 1.0) * price + order_cost(costs, units + 1.0, price) <= budget:
            units = units + 1.0
        elif units * price + order_cost(costs, units, price) > budget:
            units = units - 1.0
    return float(units)

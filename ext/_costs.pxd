# Cost of an order, and the largest size that a budget pays for; the twin is backtest/_pure/_costs.py.

from libc.math cimport INFINITY, floor

cdef struct CostRule:
    double fee_rate
    double slippage
    double fixed
    double per_unit
    double minimum
    double maximum


cdef inline double order_cost(const CostRule *costs, double units, double price) noexcept nogil:
    cdef double cost = costs.fixed + costs.per_unit * units + costs.fee_rate * (units * price)
    if cost < costs.minimum:
        cost = costs.minimum
    if cost > costs.maximum:
        cost = costs.maximum
    return cost


cdef inline double affordable_units(const CostRule *costs, double budget, double price, bint whole_units) noexcept nogil:
    cdef double units = (budget - costs.fixed) / (price * (1.0 + costs.fee_rate) + costs.per_unit)
    cdef double bound
    if costs.minimum > 0.0:  # else it does not bind, and divisions are slow
        bound = (budget - costs.minimum) / price
        units = bound if bound < units else units
    if costs.maximum < INFINITY:
        bound = (budget - costs.maximum) / price
        units = bound if bound > units else units
    if whole_units:
        units = floor(units)
        if (units + 1.0) * price + order_cost(costs, units + 1.0, price) <= budget:
            units = units + 1.0
        elif units * price + order_cost(costs, units, price) > budget:
            units = units - 1.0
    return units

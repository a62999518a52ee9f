"""A strategy's function to its program, its parameters and its key."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from backtest import lines as prices
from backtest._errors import StrategyError
from backtest.expr import REQUIRED, Condition, Node, Param, Value
from backtest.machine.assemble import assemble
from backtest.machine.expressions import PRICES
from backtest.machine.graph import VERSION
from backtest.machine.passes import operands_of, schedule
from backtest.machine.program import Program
from backtest.machine.source import plain_function, source_of
from backtest.machine.statements import walk_strategy
from backtest.machine.walk import Call, Walk


class Compiled(NamedTuple):
    """What a function became."""

    function: types.FunctionType
    program: Program
    calls: tuple[Call, ...]
    value_names: tuple[str, ...]
    params_read: tuple[str, ...]
    line_nodes: tuple[Value, ...]
    mask_nodes: tuple[Condition, ...]
    state_names: tuple[str, ...]
    #: Structure of the strategy, given its parameters with their defaults.
    key: Callable[[Mapping[str, Any]], tuple[Any, ...]]


def compiled(function: Any, lines: Mapping[str, Node], states: Mapping[str, float | bool]) -> Compiled:
    """Walk a function and make its program.

    Parameters
    ----------
    function : callable
    lines : mapping of str to Node
        What ``bar.name`` is, beside prices.
    states : mapping of str to float or bool
    """
    function = plain_function(function)
    distinct: dict[type[Node], dict[Any, Node]] = {Value: {}, Condition: {}}
    columns: dict[type[Node], dict[str, int]] = {Value: {}, Condition: {}}
    parameters: dict[str, str] = {}
    for name, node in ({each: getattr(prices, each) for each in PRICES} | dict(lines)).items():
        if isinstance(node, Param):  # the same on every bar
            parameters[name] = node.name
            continue
        kind = Condition if isinstance(node, Condition) else Value
        distinct[kind].setdefault(node.key, node)
        columns[kind][name] = list(distinct[kind]).index(node.key)
    walk = Walk(columns[Value], columns[Condition], parameters, states)
    try:
        walk_strategy(walk, function, source_of(function))
    except RecursionError:
        code = function.__code__
        raise StrategyError(
            f"{code.co_name} ({code.co_filename}:{code.co_firstlineno}) must not be nested so deeply; give parts of it names",
            code.co_filename,
            code.co_firstlineno,
        ) from None
    plan = schedule(walk)
    program, value_names, line_columns, mask_columns = assemble(walk, plan)
    nodes: dict[type[Node], list[Any]] = {kind: list(each.values()) for kind, each in distinct.items()}
    return Compiled(
        function,
        program,
        tuple(walk.calls),
        tuple(value_names),
        tuple(walk.params),
        tuple(nodes[Value][column] for column in line_columns),
        tuple(nodes[Condition][column] for column in mask_columns),
        tuple(plan.states),
        lambda params: _key(walk, nodes[Value], nodes[Condition], params),
    )


def _key(walk: Walk, lines: list[Value], masks: list[Condition], params: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the graph is before any pass: nodes numbered in the order in which actions and states reach them."""
    graph, numbers = walk.graph, dict[int, int]()
    nodes: list[tuple[Any, ...]] = []
    states = {name: at for at, name in enumerate(walk.states)}

    def leaf(kind: str, what: list[Any]) -> tuple[Any, ...]:
        if kind == "param":
            default = params[what[0]]
            return kind, what[0], "required" if default is REQUIRED else default
        if kind in ("line", "mask"):
            return kind, (lines if kind == "line" else masks)[what[0]].key, what[1]
        return (kind, states[what[0]]) if kind in ("state", "flag_state") else (kind, *what)

    def visit(root: int) -> int:
        stack = [root]
        while stack:
            node = stack[-1]
            operands = operands_of(graph, node)
            missing = [each for each in reversed(operands) if each not in numbers]
            if missing:
                stack += missing
                continue
            stack.pop()
            if node not in numbers:
                kind, *what = graph.nodes[node]
                numbers[node] = len(nodes)
                nodes.append((kind, *(numbers[each] for each in operands)) if operands else leaf(kind, what))
        return numbers[root]

    actions = tuple(
        (
            tuple((name, value) for name, value in action.fields.items() if name not in ("slot", "line")),
            visit(action.where),
            tuple((name, visit(node)) for name, node in action.operands.items()),
        )
        for action in walk.actions
    )
    stores = tuple((states[name], visit(node)) for name, node in walk.state.items() if node != walk.states[name])
    starts = tuple(value.hex() if isinstance(value, float) else value for value in walk.start.values())
    return "on_bar", VERSION, tuple(nodes), actions, stores, starts

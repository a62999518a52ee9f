"""From the graph of a strategy to the order of its instructions: what is needed at all, once a candidate, or only at times.

Nothing here changes a number: operations are left out, done earlier or skipped where their result is not used.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from backtest.machine.graph import NUMBER_LEAVES, WORD_LEAVES, Graph
from backtest.machine.program import BUY, CLOSE, SELL
from backtest.machine.walk import Action, Walk

_LEAVES = frozenset((*NUMBER_LEAVES, *WORD_LEAVES))
#: What an operation costs, as a multiple of an addition; words are one operation for 64 candidates.
_COST = {"DIV": 2.5, "SQRT": 4.5, **dict.fromkeys(("AND", "OR", "XOR", "ANDNOT", "NOT", "WSELECT"), 0.25)}
#: Least cost of what is skipped where the word is an order's, which is rare, or another.
_LEAST_ORDER, _LEAST_OTHER = 1.0, 2.0
_EMPTY: frozenset[int] = frozenset()


class Step(NamedTuple):
    """Nodes to compute in a row; only where the word ``mask`` is true somewhere, if it is not None."""

    mask: int | None
    nodes: list[int]


class Schedule(NamedTuple):
    """What a program computes, in order.

    Attributes
    ----------
    setup : list of int
        Nodes that depend on constants and parameters alone.
    steps : list of Step
    stores : dict of str to int
        States that change, with the node of their new value.
    states : list of str
        States that are read by anything but their own new value.
    """

    setup: list[int]
    steps: list[Step]
    stores: dict[str, int]
    states: list[str]


def schedule(walk: Walk) -> Schedule:
    """The order of instructions of a walked strategy."""
    graph = walk.graph
    roots = [node for action in walk.actions for node in (action.where, *action.operands.values())]
    order, values = _needed(walk, roots)
    stores = {name: value for name, value in values.items() if value != walk.states[name]}
    fixed = _fixed(graph, order)
    setup = [node for node in order if node in fixed]
    rest = [node for node in order if node not in fixed]
    return Schedule(setup, _steps(graph, rest, _masks(graph, rest, walk.actions, stores.values())), stores, list(values))


def operands_of(graph: Graph, node: int) -> tuple[int, ...]:
    """The nodes that an operation reads."""
    op, *args = graph.nodes[node]
    return () if op in _LEAVES else tuple(args)


def _needed(walk: Walk, roots: Sequence[int]) -> tuple[list[int], dict[str, int]]:
    """Operations behind the actions, operands first; and what becomes of the states that these read, directly or not."""
    graph, seen = walk.graph, dict[int, None]()
    order: list[int] = []
    values: dict[str, int] = {}
    for root in roots:
        _visit(graph, root, seen, order)
    while found := [name for name, leaf in walk.states.items() if leaf in seen and name not in values]:
        for name in found:
            # Joined where paths join, or chosen by the path of each assignment: the same value; what costs less is taken.
            forms = [walk.state[name], _by_assignments(walk, name)]
            values[name] = min(forms, key=lambda root: _added_cost(graph, root, seen))
            _visit(graph, values[name], seen, order)
    return order, {name: values[name] for name in walk.states if name in values}


def _by_assignments(walk: Walk, name: str) -> int:
    """What a state becomes: the value of the last assignment whose path was taken."""
    graph, result = walk.graph, walk.states[name]
    paths: list[tuple[int, int]] = []  # several assignments of one value in a row are one
    for each, path, value in walk.assigned:
        if each == name:
            if paths and paths[-1][1] == value:
                path = graph.add("OR", paths.pop()[0], path)
            paths.append((path, value))
    for path, value in paths:
        result = graph.choice(path, value, result)
    return result


def _added_cost(graph: Graph, root: int, seen: Mapping[int, None]) -> float:
    """What an expression costs where ``seen`` is computed anyway."""
    added = list[int]()
    _visit(graph, root, dict(seen), added)
    return sum(_COST.get(graph.nodes[node][0], 1.0) for node in added)


def _visit(graph: Graph, root: int, seen: dict[int, None], order: list[int]) -> None:
    """Depth first: what an operation needs stands shortly before it."""
    stack = [(root, False)]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            order.append(node)
        elif node not in seen:
            seen[node] = None
            if operands := operands_of(graph, node):
                stack.append((node, True))
                stack += [(each, False) for each in reversed(operands)]


def _fixed(graph: Graph, order: Iterable[int]) -> set[int]:
    """Operations that depend on constants and parameters alone."""
    fixed = set[int]()
    for node in order:
        if all(each in fixed or graph.nodes[each][0] in ("constant", "truth", "param") for each in operands_of(graph, node)):
            fixed.add(node)
    return fixed


def _masks(graph: Graph, order: Sequence[int], actions: Sequence[Action], stored: Iterable[int]) -> dict[int, int]:
    """Of the operations whose result is only used where some word is true: that word."""
    implied = _Implied(graph)
    guards: dict[int, frozenset[int]] = {}

    def use(node: int, guard: frozenset[int]) -> None:
        guards[node] = guards[node] & guard if node in guards else guard

    for action in actions:
        use(action.where, _EMPTY)
        for operand in action.operands.values():
            use(operand, implied[action.where])
    for node in stored:
        use(node, _EMPTY)
    for node in reversed(order):  # users before what they use
        op, guard = graph.nodes[node][0], guards[node]
        for at, operand in enumerate(operands_of(graph, node)):
            use(operand, guard | implied[operands_of(graph, node)[0]] if op in ("SELECT", "WSELECT") and at == 1 else guard)
    is_order = {action.where for action in actions if action.fields["kind"] in (BUY, SELL, CLOSE)}
    chosen: dict[int, int] = {}
    for node in order:
        words = [word for word in guards[node] if not guards.get(word, _EMPTY) and graph.known(word) is None]
        if words:
            chosen[node] = max(words, key=lambda word: (len(implied[word]), word))
    costs: dict[int, float] = {}
    for node, word in chosen.items():
        costs[word] = costs.get(word, 0.0) + _COST.get(graph.nodes[node][0], 1.0)
    least = {word: _LEAST_ORDER if word in is_order else _LEAST_OTHER for word in costs}
    return {node: word for node, word in chosen.items() if costs[word] >= least[word]}


class _Implied(dict[int, frozenset[int]]):
    """The words that are true wherever a word is."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def __missing__(self, word: int) -> frozenset[int]:
        op, *args = self.graph.nodes[word]
        found = frozenset([word])
        if op == "AND":
            found |= self[args[0]] | self[args[1]]
        elif op == "ANDNOT":
            found |= self[args[0]]
        elif op == "OR":
            found |= self[args[0]] & self[args[1]]
        self[word] = found
        return found


def _steps(graph: Graph, order: Sequence[int], masks: Mapping[int, int]) -> list[Step]:
    """The operations in an order in which operands come first and those of one mask stand together."""
    place = {node: at for at, node in enumerate(order)}
    users: dict[int, list[int]] = {node: [] for node in order}
    waiting = dict.fromkeys(order, 0)
    for node in order:
        needs = {*operands_of(graph, node), *([masks[node]] if node in masks else [])}
        for each in needs & users.keys():
            users[each].append(node)
            waiting[node] += 1
    ready: dict[int | None, list[int]] = {}

    def release(node: int) -> None:
        heapq.heappush(ready.setdefault(masks.get(node), []), place[node])

    for node in order:
        if not waiting[node]:
            release(node)
    steps: list[Step] = []
    while any(ready.values()):
        mask = None if ready.get(None) else min((key for key, heap in ready.items() if heap), key=lambda key: ready[key][0])
        step = Step(mask, [])
        while ready[mask]:
            node = order[heapq.heappop(ready[mask])]
            step.nodes.append(node)
            for user in users[node]:
                waiting[user] -= 1
                if not waiting[user]:
                    release(user)
        steps.append(step)
    return steps

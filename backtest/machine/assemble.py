"""From the scheduled graph to the program: places of leaves, registers of what is computed, and arrays."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from backtest.machine.graph import Graph
from backtest.machine.passes import Schedule, operands_of
from backtest.machine.program import ACTION, FIELDS, FLAGS, OPERANDS, OPS, Program
from backtest.machine.walk import Action, Walk

_CODES = {op: code for code, op in enumerate(OPS)}


class _Leaves:
    """The leaves that a program reads, each kind in the order of its first use."""

    def __init__(self, graph: Graph, used: Iterable[int]) -> None:
        self.by_kind: dict[str, list[tuple[Any, ...]]] = {}
        for node in used:
            kind, *what = graph.nodes[node]
            self.by_kind.setdefault(kind, []).append(tuple(what))

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        """What the leaves of a kind read."""
        return self.by_kind.get(kind, [])


def assemble(walk: Walk, plan: Schedule) -> tuple[Program, list[str], list[int], list[int]]:
    """The program, the names of its parameters, and which lines and masks its columns are."""
    graph = walk.graph
    computed = [*plan.setup, *(node for step in plan.steps for node in step.nodes)]
    results = [node for action in walk.actions for node in (action.where, *action.operands.values())] + list(plan.stores.values())
    used = dict.fromkeys(node for node in (*(each for one in computed for each in operands_of(graph, one)), *results))
    is_computed = set(computed)
    leaves = _Leaves(graph, (node for node in used if node not in is_computed))
    states = [name for name in plan.states if not isinstance(walk.start[name], bool)]
    flags = [name for name in plan.states if isinstance(walk.start[name], bool)]
    params = [name for (name,) in leaves.of("param")]
    lines, masks = (list(dict.fromkeys(column for column, _ in leaves.of(kind))) for kind in ("line", "mask"))
    numbers = [("constant", *each) for each in leaves.of("constant")] + [("param", name) for name in params]
    numbers += [("field", name) for name in FIELDS] + [("state", name) for name in states]
    numbers += [("line", *each) for each in leaves.of("line")]
    words: list[tuple[Any, ...]] = [("truth", False), ("truth", True), *(("flag", name) for name in FLAGS)]
    words += [("flag_state", name) for name in flags] + [("mask", *each) for each in leaves.of("mask")]
    places = {key: place for kind in (numbers, words) for place, key in enumerate(kind)}
    place_of = {node: places[graph.nodes[node]] for node in used if node not in is_computed}
    code, sizes = _code(graph, plan, results, place_of, (len(numbers), len(words)))
    program = Program(
        code=code,
        n_setup=len(plan.setup),
        constants=np.array([float.fromhex(text) for (text,) in leaves.of("constant")], dtype=np.float64),
        n_params=len(params),
        n_states=len(states),
        state_start=np.array([walk.start[name] for name in states], dtype=np.float64),
        n_flags=len(flags),
        flag_start=np.array([walk.start[name] for name in flags], dtype=np.int32),
        inputs=_pairs((lines.index(column), shift) for column, shift in leaves.of("line")),
        masks=_pairs((masks.index(column), shift) for column, shift in leaves.of("mask")),
        n_numbers=sizes[0],
        n_words=sizes[1],
        actions=_actions(walk.actions, place_of),
        stores=_pairs((states.index(name), place_of[node]) for name, node in plan.stores.items() if name in states),
        flag_stores=_pairs((flags.index(name), place_of[node]) for name, node in plan.stores.items() if name in flags),
        n_slots=walk.n_slots,
        fields_used=sum(1 << FIELDS.index(name) for (name,) in leaves.of("field")),
        no_entry_after_level=0,
        off_is_nan=0,
    )
    return program, params, lines, masks


def _pairs(pairs: Iterable[tuple[int, int]]) -> np.ndarray[Any, np.dtype[np.int32]]:
    return np.array(list(pairs), dtype=np.int32).reshape(-1, 2)


def _actions(actions: Sequence[Action], place_of: Mapping[int, int]) -> np.ndarray[Any, np.dtype[np.void]]:
    records = np.zeros(len(actions), dtype=ACTION)
    for record, action in zip(records, actions, strict=True):
        for name in OPERANDS:
            record[name] = -1
        record["where"] = place_of[action.where]
        for name, value in action.fields.items():
            record[name] = value
        for name, node in action.operands.items():
            record[name] = place_of[node]
    return records


class _Registers:
    """Temporaries of one file: the lowest that is free is given first."""

    def __init__(self, first: int) -> None:
        self.next, self.free = first, list[int]()

    def take(self) -> int:
        if self.free:
            return heapq.heappop(self.free)
        self.next += 1
        return self.next - 1

    def give(self, place: int) -> None:
        heapq.heappush(self.free, place)


def _code(
    graph: Graph, plan: Schedule, results: Sequence[int], place_of: dict[int, int], firsts: tuple[int, int]
) -> tuple[np.ndarray[Any, np.dtype[np.int32]], tuple[int, int]]:
    """The instructions, and the sizes of both files; gives every computed node its place."""
    files = _Registers(firsts[0]), _Registers(firsts[1])
    last = _last_uses(graph, plan, results)
    code: list[list[int]] = []

    def compute(node: int) -> None:
        operands = operands_of(graph, node)
        # An operand's place is free only behind this instruction: none reads and writes the same one.
        place_of[node] = files[graph.is_word[node]].take()
        code.append([_CODES[graph.nodes[node][0]], place_of[node], *(place_of[each] for each in operands)])
        code[-1] += [0] * (5 - len(code[-1]))
        for each in set(operands):
            if last.get(each) == node:
                files[graph.is_word[each]].give(place_of[each])

    for node in plan.setup:
        compute(node)
    for step in plan.steps:
        jump = len(code)
        if step.mask is not None:
            code.append([_CODES["JUMP"], 0, place_of[step.mask], 0, 0])
        for node in step.nodes:
            compute(node)
        if step.mask is not None:
            code[jump][3] = len(code)
    return np.array(code, dtype=np.int32).reshape(-1, 5), (files[0].next, files[1].next)


def _last_uses(graph: Graph, plan: Schedule, results: Sequence[int]) -> dict[int, int]:
    """Of each computed node the operation that uses it last; without those that are kept to the end."""
    last: dict[int, int] = {}
    kept = set(results)
    masks = {step.mask for step in plan.steps}
    for step in plan.steps:
        for node in step.nodes:
            for each in operands_of(graph, node):
                last[each] = node
    computed = {node for step in plan.steps for node in step.nodes}
    return {node: user for node, user in last.items() if node in computed and node not in kept and node not in masks}

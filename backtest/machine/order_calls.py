"""Calls of ``account.buy``, ``sell``, ``close``, ``cancel`` and ``move_...``, as actions of the program."""

from __future__ import annotations

import ast
import math

from backtest._checks import did_you_mean
from backtest.machine.expressions import meaning, object_error
from backtest.machine.graph import Graph
from backtest.machine.program import BUY, CANCEL, CLOSE, KINDS, LEVEL_KINDS, MAX_SLOTS, SELL, SIZE_KINDS, TRAIL_KINDS
from backtest.machine.refusals import ARGUMENTS
from backtest.machine.walk import NOTHING, Action, Call, Level, Meaning, Walk

SIZES = SIZE_KINDS[1:]
KEYWORDS = (*SIZES, "limit", "stop", "valid_bars", "stop_loss", "take_profit", "trailing_stop", "reduce_only", "once")
#: ``REASONS`` of a close that the function asked for.
_SIGNAL = 1


def place_order(walk: Walk, node: ast.Call, name: str) -> None:
    """Walk a call on the account."""
    kind = KINDS.index(name)
    if kind in (BUY, SELL):
        fields, operands = _order(walk, node, kind)
    elif kind in (CLOSE, CANCEL):
        if node.args or node.keywords:
            rest = "account.sell(share_of_position=0.5) sells a part" if kind == CLOSE else "it cancels every resting order"
            raise walk.place(node).error(f"must call account.{name} without arguments, got {walk.place(node).text}; {rest}")
        fields, operands = {"reason": _SIGNAL if kind == CLOSE else 0}, {}
    else:
        fields, operands = _move(walk, node, name)
        _refuse_a_lost_move(walk, node, kind, operands)
    slot = -1
    if kind in (BUY, SELL, CLOSE):
        slot, walk.n_slots = walk.n_slots, walk.n_slots + 1
        if slot >= MAX_SLOTS:
            raise walk.place(node).error(
                f"must have at most {MAX_SLOTS} calls that place orders (each helper call and each pass of a loop counts), got "
                f"one more: {ast.unparse(node)}"
            )
    source = walk.frame.source
    line = node.lineno + source.offset
    walk.actions.append(Action(walk.path(), {"kind": kind, "slot": slot, "line": line, **fields}, operands))
    walk.calls.append(Call(source.text(node), source.file, line, walk.frame.function.__name__, walk.trail_to(node)))


def _order(walk: Walk, node: ast.Call, kind: int) -> tuple[dict[str, int], dict[str, int]]:
    place, name = walk.place(node), KINDS[kind]
    if node.args:
        raise place.error(
            f"must name the arguments of an order, got {place.text}; write account.{name}(units={ast.unparse(node.args[0])})"
        )
    given: dict[str, ast.expr] = {}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise place.use_error("**", "write the arguments one by one")
        if keyword.arg not in KEYWORDS:
            near = did_you_mean(keyword.arg, KEYWORDS)
            if keyword.arg in ARGUMENTS:
                near = f"; write {ARGUMENTS[keyword.arg]}"
            raise place.error(f"must know the arguments of an order ({', '.join(KEYWORDS)}), got {keyword.arg}{near}")
        given[keyword.arg] = keyword.value
    meanings = {key: meaning(walk, value) for key, value in given.items()}
    meanings = {key: each for key, each in meanings.items() if each != NOTHING}  # None is as if it were left out
    sizes = [key for key in SIZES if key in meanings]
    if len(sizes) != 1:
        got = " and ".join(sizes) if sizes else "none"
        raise place.error(f"must give an order one size ({', '.join(SIZES)}), got {got} in {place.text}")
    fields = {"size_kind": SIZE_KINDS.index(sizes[0])}
    for key in ("reduce_only", "once"):
        fields[key] = _flag(walk, given[key], key, meanings[key]) if key in meanings else 0
    operands = {"size": _positive(walk, given[sizes[0]], sizes[0], meanings[sizes[0]])}
    for key in ("limit", "stop"):
        if key in meanings:
            operands[key] = _positive(walk, given[key], key, meanings[key])
    if "valid_bars" in meanings:
        operands["valid"] = _valid_bars(
            walk, given["valid_bars"], meanings["valid_bars"], bool({"limit", "stop"} & meanings.keys())
        )
    is_reducing = bool(fields["reduce_only"]) or sizes[0] == "share_of_position"
    for key in ("stop_loss", "take_profit", "trailing_stop"):
        if key in meanings:
            if is_reducing:
                raise place.error(
                    f"must give levels to orders that open or add, got {key} in {place.text}; "
                    "account.move_stop_loss(price) changes a position's level"
                )
            operand = "trail" if key == "trailing_stop" else key
            fields[f"{operand}_kind"], operands[operand] = _level(walk, given[key], key, meanings[key], kind)
    return fields, operands


def _move(walk: Walk, node: ast.Call, name: str) -> tuple[dict[str, int], dict[str, int]]:
    place = walk.place(node)
    names = ("price",) if name == "move_stop_loss" else ("price", "share")
    given = dict(zip(names, node.args, strict=False))
    for keyword in node.keywords:
        if keyword.arg is None or keyword.arg not in names or keyword.arg in given:
            raise place.error(f"must call account.{name}({', '.join(names)}), got {place.text}")
        given[keyword.arg] = keyword.value
    if "price" not in given or len(node.args) > len(names):
        raise place.error(f"must call account.{name}({', '.join(names)}), got {place.text}")
    price = meaning(walk, given["price"])
    if isinstance(price, Level):
        raise place.error(f"must move a level to a price, got {place.text}; write account.entry_price * (1 - x) or bar.close - x")
    operand = "stop_loss" if name == "move_stop_loss" else "take_profit"
    fields = {f"{operand}_kind": LEVEL_KINDS.index("price")}
    operands = {operand: _positive(walk, given["price"], "price", price)}
    side = ("1 - {0}", "below") if operand == "stop_loss" else ("1 + {0}", "above")
    _refuse_a_fraction(walk, given["price"], "move a level to", operands[operand], f"account.entry_price * ({side[0]})", side[1])
    if operand == "take_profit":
        share = given.get("share")
        operands["share"] = (
            walk.graph.constant(1.0) if share is None else _positive(walk, share, "share", meaning(walk, share), most=1.0)
        )
    return fields, operands


def _refuse_a_lost_move(walk: Walk, node: ast.Call, kind: int, operands: dict[str, int]) -> None:
    """A level moved twice from where it is, on one path: the account is as it was before both, so that the first is lost."""
    field, graph, here = ("stop_loss" if KINDS[kind] == "move_stop_loss" else "take_profit"), walk.graph, walk.path()
    stack, is_from_itself = [operands[field]], False
    while stack:
        op, *args = graph.nodes[stack.pop()]
        stack += args if op in ("MIN", "MAX") else []
        is_from_itself = is_from_itself or (op, *args) == ("field", field)
    if not is_from_itself:
        return
    all_of_here = _all_of(graph, here)
    for action, call in zip(walk.actions, walk.calls, strict=True):
        if action.fields["kind"] != kind:
            continue
        # What a condition is made of has smaller numbers than itself.
        if action.where in all_of_here or (here < action.where and here in _all_of(graph, action.where)):
            raise walk.place(node).error(
                f"must move a level once, got {walk.place(node).text} after {call.text} of line {call.line}; account.{field} is "
                "that before both, so that the last move alone would count: move it once, to the min or max of all"
            )


def _all_of(graph: Graph, condition: int) -> set[int]:
    """Words that are true wherever a condition is, as it is built."""
    found, stack = {graph.true}, [condition]
    while stack:
        found.add(node := stack.pop())
        op, *args = graph.nodes[node]
        stack += args if op == "AND" else args[:1] if op == "ANDNOT" else []
    return found


def _flag(walk: Walk, node: ast.expr, key: str, value: Meaning) -> int:
    known = walk.graph.known(value) if isinstance(value, int) else None
    if not isinstance(known, bool):
        raise walk.place(node).error(
            f"must know {key} when it is decorated, got {walk.place(node).text}; write True or False, and an if"
        )
    return int(known)


def _positive(walk: Walk, node: ast.expr, key: str, value: Meaning, most: float | None = None) -> int:
    """A number that must be > 0; constants are checked here, others on every bar."""
    if not isinstance(value, int):
        if isinstance(value, Level):
            raise walk.place(node).error(f"must give {key} as a number, got {walk.place(node).text}")
        raise object_error(walk, node, value)
    number = walk.graph.as_number(value)
    known = walk.graph.known(number)
    if key == "share_of_position":
        most = 1.0
    if known is not None and not (0.0 < known < math.inf and (most is None or known <= most)):
        rule = "finite and > 0" if known == math.inf else "> 0" if most is None else f"> 0 and <= {most:g}"
        near = "; account.buy and account.sell say the direction" if known < 0.0 and key in SIZES else ""
        raise walk.place(node).error(f"must have {key} {rule}, got {known!r}{near}")
    return number


def _refuse_a_fraction(walk: Walk, node: ast.expr, rule: str, operand: int, remedy: str, side: str) -> None:
    """A constant below 1 as a price is mostly meant as a fraction of the entry price; where it is not, it is a parameter."""
    known = walk.graph.known(operand)
    if known is not None and known < 1.0:
        raise walk.place(node).error(
            f"must {rule} a price, got {known!r}; {remedy.format(f'{known:g}')} is {100.0 * known:g} % {side} the entry, and "
            "a fixed price below 1 is a parameter, p.name"
        )


def _valid_bars(walk: Walk, node: ast.expr, value: Meaning, rests: bool) -> int:
    if not rests:
        raise walk.place(node).error(
            f"must give valid_bars to orders with limit or stop, got {walk.place(node).text}; a market order fills at once"
        )
    number = _positive(walk, node, "valid_bars", value)
    known = walk.graph.known(number)
    if known is not None and known != int(known):
        raise walk.place(node).error(f"must have valid_bars a whole number >= 1, got {known!r}")
    return number


def _level(walk: Walk, node: ast.expr, key: str, value: Meaning, kind: int) -> tuple[int, int]:
    """Kind and operand of a protective level."""
    place, graph = walk.place(node), walk.graph
    kinds = TRAIL_KINDS if key == "trailing_stop" else LEVEL_KINDS
    if not isinstance(value, Level):
        operand = _positive(walk, node, key, value)
        known = graph.known(operand)
        if key != "trailing_stop":
            side = "below" if (key == "stop_loss") == (kind == BUY) else "above"
            _refuse_a_fraction(walk, node, f"have {key}", operand, f"bt.{side}_entry({{0}})", side)
        elif kind == BUY and known is not None and known >= 1.0:
            raise place.error(
                f"must have trailing_stop of account.buy > 0 and < 1 (a fraction: 0.05 for 5 %), got {known!r}; "
                "bt.distance(points) is a distance in units of the price"
            )
        return 1, operand
    if value.kind not in kinds:
        remedy = (
            "a fraction (0.05 for 5 %) or bt.distance(points)"
            if key == "trailing_stop"
            else "a price, bt.below_entry(fraction) or bt.above_entry(fraction)"
        )
        raise place.error(f"must give {key} a level of its kind, got {place.text}; write {remedy}")
    known, is_below = graph.known(value.node), value.kind == "below_entry"
    if known is not None and not (0.0 < known < (1.0 if is_below else math.inf)):
        rule = "> 0 and < 1 (a fraction: 0.05 for 5 %)" if is_below else "finite and > 0"
        raise place.error(f"must have bt.{value.kind} {rule}, got {known!r}")
    if value.kind != "distance" and is_below != ((key == "stop_loss") == (kind == BUY)):
        other = "above_entry" if is_below else "below_entry"
        raise place.error(
            f"must have the {key} of account.{KINDS[kind]} on its side of the entry, got {place.text}; write bt.{other}(...)"
        )
    return kinds.index(value.kind), value.node

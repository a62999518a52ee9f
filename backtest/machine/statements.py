"""Statements of a strategy's function: names, state, branches, unrolled loops, orders, and helpers walked in place."""

from __future__ import annotations

import ast
import builtins
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backtest.machine.expressions import meaning, truth
from backtest.machine.order_calls import place_order
from backtest.machine.refusals import STATEMENTS, named
from backtest.machine.source import Source, source_of
from backtest.machine.walk import (
    MAX_CALLS,
    MAX_NODES,
    NOTHING,
    Account,
    Bar,
    Frame,
    Meaning,
    Method,
    Moment,
    Names,
    Params,
    State,
    Static,
    Unusable,
    Walk,
)

#: What a strategy's function takes, in this order, whatever it calls them.
_ARGUMENTS = ("bar", "account", "state", "p")


def walk_strategy(walk: Walk, function: types.FunctionType, source: Source) -> None:
    """Walk a strategy's function once; afterwards ``walk`` has its graph, actions, and what its states become."""
    arguments = source.node.args
    names = [each.arg for each in (*arguments.posonlyargs, *arguments.args)]
    got = f"got ({ast.unparse(arguments)})"
    rule = ""
    if names[:1] in (["self"], ["cls"]):
        rule = f"must take the bar first, {got}; the function stands outside the class, as f(bar, account, state, p)"
    elif len(names) != 4 or arguments.vararg or arguments.kwarg or arguments.kwonlyargs:
        rule = f"must take four arguments, f(bar, account, state, p), {got}"
    elif any(name in _ARGUMENTS and _ARGUMENTS[at] != name for at, name in enumerate(names)):
        rule = f"must take its arguments in this order, f(bar, account, state, p), {got}"
    if rule:
        walk.frames.append(Frame(function, source, {}))
        raise walk.place(source.node).error(rule)
    objects: list[Meaning] = [Bar(0), Account(), State(), Params()]
    walk.inline = _inline
    walk.frames.append(Frame(function, source, dict(zip(names, objects, strict=True))))
    _block(walk, source.node.body)
    walk.merge(walk.frame.returns, walk.graph.true, 0)
    walk.frames.pop()


def _block(walk: Walk, body: Sequence[ast.stmt]) -> Meaning:
    for node in body:
        if walk.is_dead():  # behind return, break or continue
            break
        walker = _WALKERS.get(type(node))
        if walker is None:
            what, remedy = STATEMENTS.get(type(node), (type(node).__name__, "write assignments, if, for and orders"))
            raise walk.place(node).use_error(what, remedy)
        walker(walk, node)
        if len(walk.graph.nodes) > MAX_NODES:
            raise walk.place(node).error(f"must have at most {MAX_NODES:,} operations, got more; a loop is unrolled: shorten it")
    return NOTHING


def _nothing(walk: Walk, node: ast.stmt) -> None:
    return


def _expression(walk: Walk, node: ast.Expr) -> None:
    value = node.value
    if isinstance(value, ast.Constant):  # a docstring, an ellipsis
        return
    if not isinstance(value, ast.Call):
        text = ast.unparse(value)
        remedy = f"; write {text}()" if isinstance(meaning(walk, value), Method) else ""
        raise walk.place(node).error(f"must not have expressions without effect, got {text}{remedy}")
    target = meaning(walk, value.func)
    if isinstance(target, Static) and target.value is builtins.print:
        return  # shown by step_through, which runs the function itself
    if isinstance(target, Method) and isinstance(target.owner, Account):
        place_order(walk, value, target.name)
        return
    meaning(walk, value)


def _assign(walk: Walk, node: ast.Assign) -> None:
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple) and len(target.elts) == len(node.value.elts):
            continue
        if not isinstance(target, ast.Name | ast.Attribute):
            raise walk.place(node).use_error("such an assignment", "assign to a name or to state.name, one by one")
    if isinstance(node.value, ast.Tuple) and all(isinstance(target, ast.Tuple) for target in node.targets):
        values = [meaning(walk, each) for each in node.value.elts]
        for target in node.targets:
            assert isinstance(target, ast.Tuple)
            for each, value in zip(target.elts, values, strict=True):
                _store(walk, each, value, node)
        return
    value = meaning(walk, node.value)
    for target in node.targets:
        _store(walk, target, value, node)


def _annotated(walk: Walk, node: ast.AnnAssign) -> None:
    if node.value is not None:
        _store(walk, node.target, meaning(walk, node.value), node)


def _augmented(walk: Walk, node: ast.AugAssign) -> None:
    if not isinstance(node.target, ast.Name | ast.Attribute):
        raise walk.place(node).use_error("such an assignment", "assign to a name or to state.name")
    read: Any = (
        ast.Name(node.target.id, ast.Load())
        if isinstance(node.target, ast.Name)
        else ast.Attribute(node.target.value, node.target.attr, ast.Load())
    )
    whole = ast.copy_location(ast.BinOp(ast.copy_location(read, node.target), node.op, node.value), node)
    _store(walk, node.target, meaning(walk, whole), node)


def _store(walk: Walk, target: ast.expr, value: Meaning, node: ast.stmt) -> None:
    """Give a name or a state a value."""
    place = walk.place(node)
    if isinstance(value, Unusable):
        raise place.error(value.why.format(name=ast.unparse(target)))
    if isinstance(target, ast.Name):
        if isinstance(value, Static) and value.value is not None:
            remedy = "use it where it is needed" if callable(value.value) else "constants are int, float or bool"
            raise place.error(f"must assign numbers and booleans, got {named(value.value)}; {remedy}")
        walk.frame.names[target.id] = value
        return
    if not isinstance(target, ast.Attribute):
        raise place.use_error("such an assignment", "assign to a name or to state.name")
    owner = meaning(walk, target.value)
    if not isinstance(owner, State):
        remedy = "account.move_stop_loss(price) moves a stop" if isinstance(owner, Account) else "only state.name can be assigned"
        raise place.error(f"must not assign to {ast.unparse(target)}; {remedy}, and a value of this bar is a name")
    meaning(walk, target)  # refuses an unknown name
    if not isinstance(value, int):
        raise place.error(f"must store numbers and booleans in state, got {place.text}")
    name, is_word = target.attr, walk.graph.is_word[value]
    start = walk.start[name]
    if is_word != isinstance(start, bool):
        kinds = ("a boolean", "a number") if isinstance(start, bool) else ("a number", "a boolean")
        remedy = "write x != 0" if isinstance(start, bool) else "write 1.0 and 0.0, or start it as True or False"
        raise place.error(
            f"must keep state {name!r} {kinds[0]}, as it starts ({start!r}), got {kinds[1]} in {place.text}; {remedy}"
        )
    walk.state[name] = value
    walk.assigned.append((name, walk.path(), value))


def _if(walk: Walk, node: ast.If) -> None:
    condition = truth(walk, node.test)
    walk.branch(condition, lambda: _block(walk, node.body), lambda: _block(walk, node.orelse))


def _for(walk: Walk, node: ast.For) -> None:
    if not isinstance(node.target, ast.Name) or node.orelse:
        raise walk.place(node).use_error("such a loop", "write for name in range(constant), without else")
    passes, frame = _range(walk, node), walk.frame
    path, n_away = walk.path(), walk.n_away
    breaks: list[Moment] = []
    for value in passes:
        if walk.is_dead():
            break
        inner, n_inner, continues = walk.path(), walk.n_away, list[Moment]()
        frame.names[node.target.id] = walk.graph.constant(float(value))
        frame.loops.append((breaks, continues))
        walk.trail.append(value)
        _block(walk, node.body)
        walk.trail.pop()
        frame.loops.pop()
        walk.merge(continues, inner, n_inner)
        if len(walk.graph.nodes) > MAX_NODES:
            raise walk.place(node).error(f"must have at most {MAX_NODES:,} operations, got more; a loop is unrolled: shorten it")
    walk.merge(breaks, path, n_away)


def _range(walk: Walk, node: ast.For) -> range:
    call, remedy = node.iter, "write for name in range(constant); lines and bar.previous(k) look back"
    target = meaning(walk, call.func) if isinstance(call, ast.Call) else None
    if not (isinstance(call, ast.Call) and isinstance(target, Static) and target.value is builtins.range):
        raise walk.place(node).error(f"must loop over range(constant), got {ast.unparse(call)}; {remedy}")
    if call.keywords or not 1 <= len(call.args) <= 3:
        raise walk.place(node).error(f"must give range one to three constants, got {ast.unparse(call)}")
    ends = []
    for each in call.args:
        value = meaning(walk, each)
        known = walk.graph.known(value) if isinstance(value, int) else None
        if known is None or isinstance(known, bool) or known != int(known):
            raise walk.place(node).error(
                f"must know how often a loop runs, got {ast.unparse(call)}; use a constant, and an if or break inside"
            )
        ends.append(int(known))
    if len(ends) == 3 and ends[2] == 0:
        raise walk.place(node).error(f"must loop with a step that is not 0, got {ast.unparse(call)}")
    passes = range(*ends)
    if len(passes) > MAX_NODES:
        raise walk.place(node).error(f"must loop at most {MAX_NODES:,} times, got {ast.unparse(call)}; a loop is unrolled")
    return passes


def _leave(walk: Walk, node: ast.Break | ast.Continue) -> None:
    breaks, continues = walk.frame.loops[-1]
    (breaks if isinstance(node, ast.Break) else continues).append(walk.moment())
    walk.live = None
    walk.n_away += 1


def _return(walk: Walk, node: ast.Return) -> None:
    value = NOTHING if node.value is None else meaning(walk, node.value)
    if isinstance(value, Unusable):
        raise walk.place(node).error(value.why.format(name=ast.unparse(node)))
    if isinstance(value, Method) or (isinstance(value, Static) and value.value is not None):
        raise walk.place(node).error(f"must return numbers or booleans, got {walk.place(node).text}")
    if len(walk.frames) == 1 and value != NOTHING:
        raise walk.place(node).error(
            f"must return nothing, got {walk.place(node).text}; orders are placed by account.buy and account.sell"
        )
    walk.frame.returns.append(walk.moment(value))
    walk.live = None
    walk.n_away += 1


def _inline(walk: Walk, function: types.FunctionType, node: ast.Call) -> Meaning:
    """Walk a helper function in place of its call."""
    place = walk.place(node)
    if any(frame.function.__code__ is function.__code__ for frame in walk.frames):
        raise place.error(f"must not call itself, got {place.text}; write for name in range(constant)")
    if len(walk.frames) > MAX_CALLS:
        raise place.error(f"must call at most {MAX_CALLS} functions inside each other, got {place.text}")
    source = walk.sources.get(function.__code__)
    if source is None:
        source = walk.sources[function.__code__] = source_of(function)
    if source.node.decorator_list:
        raise place.error(f"must call plain functions, got {place.text}, which is decorated")
    names = _bound(walk, function, node)
    path, n_away = walk.path(), walk.n_away
    trail, walk.trail = walk.trail, [*walk.trail_to(node)]
    walk.frames.append(Frame(function, source, names))
    _block(walk, source.node.body)
    walk.trail = trail
    returns, ends_open = walk.frame.returns, not walk.is_dead()
    has_value = [moment.value != NOTHING for moment in returns] + [False] * ends_open
    if any(has_value) and not all(has_value):
        raise walk.place(source.node).error(
            "must return a value on every path or on none, got some of both; return a number at its end too"
        )
    value = walk.merge(returns, path, n_away)
    walk.frames.pop()
    if isinstance(value, Unusable):
        raise place.error(value.why.format(name=place.text))
    return value


def _bound(walk: Walk, function: types.FunctionType, node: ast.Call) -> Names:
    """A helper's parameters with the meanings of its arguments."""
    place = walk.place(node)
    signature = inspect.signature(function)
    if any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in signature.parameters.values()):
        raise place.error(f"must call functions with plain parameters, got {place.text}, which takes * or **")
    if any(isinstance(each, ast.Starred) for each in node.args) or any(each.arg is None for each in node.keywords):
        raise place.use_error("* and ** in calls", "write the arguments one by one")
    given = [meaning(walk, each) for each in node.args]
    by_name = {each.arg: meaning(walk, each.value) for each in node.keywords if each.arg is not None}
    for each, value in zip((*node.args, *node.keywords), (*given, *by_name.values()), strict=True):
        if isinstance(value, Unusable):
            raise place.error(value.why.format(name=ast.unparse(each)))
    try:
        bound = signature.bind(*given, **by_name)
    except TypeError as error:
        raise place.error(f"must call {function.__name__}{signature}, got {place.text}: {error}") from None
    names: Names = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if name not in names:
            names[name] = walk.static(parameter.default, node)
    return names


_WALKERS: Mapping[type[ast.AST], Callable[[Walk, Any], None]] = {
    ast.Pass: _nothing,
    ast.Expr: _expression,
    ast.Assign: _assign,
    ast.AnnAssign: _annotated,
    ast.AugAssign: _augmented,
    ast.If: _if,
    ast.For: _for,
    ast.Break: _leave,
    ast.Continue: _leave,
    ast.Return: _return,
}

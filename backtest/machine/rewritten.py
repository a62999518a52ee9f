"""A step function as Python runs it, with the machine's numbers: every number a float, division as IEEE 754 has it.

The function is rewritten by its syntax tree; file name and line numbers stay, so that breakpoints and tracebacks show its text.
Each call on the account is told where it stands, helper functions and passes of loops included.
"""

from __future__ import annotations

import ast
import builtins
import copy
import math
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from backtest.machine.program import KINDS
from backtest.machine.source import source_of

_DIVIDE, _ROOT, _PASSES = "__divide", "__root", "__passes"
#: The argument that tells a call on the account, or of a helper, where it stands; as ``Call.trail``.
TRAIL = "__trail"


def divide(one: float, other: float) -> float:
    """``one / other``, infinite or NaN where ``other`` is 0."""
    if other != 0:
        return one / other
    return math.nan if one == 0 or one != one else math.copysign(math.inf, one) * math.copysign(1.0, other)


def root(number: float) -> float:
    """Square root; NaN of a negative number."""
    return math.sqrt(number) if number >= 0 else math.nan


def passes(*ends: float) -> Iterator[tuple[float, int]]:
    """The values of ``range``, as floats for the text and as ints for the trails of calls."""
    for value in range(*(int(end) for end in ends)):
        yield float(value), value


def rewritten(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the machine's numbers, and with it the helpers that it calls."""
    return _Rewriting(function).made()


class _Rewriting(ast.NodeTransformer):
    """Rewrites one function; helpers by rewritings of their own."""

    def __init__(self, function: Any) -> None:
        self.function = function
        self.free = _free_names(function)
        self.names: dict[str, Any] = function.__globals__ | {_DIVIDE: divide, _ROOT: root, _PASSES: passes}
        self.local_names = {*function.__code__.co_varnames, *function.__code__.co_cellvars}
        self.is_printing = False  # inside print(...), which is for reading: numbers are as they are written
        self.loops: list[str] = []  # hidden variables of the loops around a node

    def made(self) -> Callable[..., Any]:
        """The new function."""
        source = source_of(self.function)
        tree = ast.increment_lineno(copy.deepcopy(source.node), source.offset)
        tree.decorator_list, tree.returns = [], None
        arguments = tree.args
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            each.annotation = None
        # Defaults are replaced by their values below.
        arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
        arguments.kw_defaults = [each and ast.Constant(None) for each in arguments.kw_defaults] + [ast.Constant(None)]
        arguments.kwonlyargs.append(ast.arg(TRAIL))
        tree.body = [self.visit(statement) for statement in tree.body]
        outer = ast.parse(f"def __outer({', '.join(self.free)}):\n    pass\n    return {tree.name}").body[0]
        assert isinstance(outer, ast.FunctionDef)
        outer.body[0] = tree
        module = ast.fix_missing_locations(ast.Module([outer], []))
        exec(compile(module, self.function.__code__.co_filename, "exec"), self.names)
        new = self.names["__outer"](*self.free.values())
        new.__defaults__ = self.function.__defaults__ and tuple(map(_as_float, self.function.__defaults__))
        by_name = {name: _as_float(value) for name, value in (self.function.__kwdefaults__ or {}).items()}
        new.__kwdefaults__ = by_name | {TRAIL: ()}
        return cast(Callable[..., Any], new)

    # --- what changes -----------------------------------------------------------------------------------------------------

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        """Whole numbers are floats."""
        return node if self.is_printing else ast.copy_location(ast.Constant(_as_float(node.value)), node)

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """So are those of the module, and of functions around."""
        return node if node.id in self.local_names else self.constant(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        """So are those of other modules."""
        self.generic_visit(node)
        return self.constant(node)

    def constant(self, node: ast.Name | ast.Attribute) -> ast.expr:
        """A name of a number or boolean as its value; any other as it is."""
        value = _as_float(self.known(node))
        if self.is_printing or not isinstance(node.ctx, ast.Load) or not isinstance(value, (bool, float)):
            return node
        return ast.copy_location(ast.Constant(value), node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """Division does not raise."""
        self.generic_visit(node)
        return _called(_DIVIDE, [node.left, node.right], node) if isinstance(node.op, ast.Div) else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt:
        """``a /= b`` as ``a = a / b``."""
        self.generic_visit(node)
        if not isinstance(node.op, ast.Div):
            return node
        read = copy.deepcopy(node.target)
        read.ctx = ast.Load()
        return ast.copy_location(ast.Assign([node.target], _called(_DIVIDE, [read, node.value], node)), node)

    def visit_For(self, node: ast.For) -> ast.stmt:
        """A loop counts its passes, in a variable that the text does not have."""
        assert isinstance(node.iter, ast.Call)  # of range: anything else is refused when it is decorated
        hidden = f"__pass_{node.lineno}_{node.col_offset}"
        arguments = [self.visit(each) for each in node.iter.args]
        node.iter = _called(_PASSES, arguments, node.iter)
        target = ast.Tuple([node.target, ast.Name(hidden, ast.Store())], ast.Store())
        node.target = ast.fix_missing_locations(ast.copy_location(target, node.target))
        self.loops.append(hidden)
        node.body = [self.visit(statement) for statement in node.body]
        self.loops.pop()
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        """Calls on the account and of helpers say where they stand; square roots do not raise."""
        place, called, was_printing = (node.lineno, node.col_offset), self.known(node.func), self.is_printing
        self.is_printing = was_printing or called is print
        self.generic_visit(node)
        self.is_printing = was_printing
        if called is math.sqrt:
            return _called(_ROOT, node.args, node)
        if isinstance(called, types.FunctionType) and not called.__module__.startswith("backtest."):
            name = f"__helper_{place[0]}_{place[1]}"
            self.names[name] = rewritten(called)
            node.func = ast.copy_location(ast.Name(name, ast.Load()), node.func)
        elif not (isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name) and node.func.attr in KINDS):
            return node
        at = ast.Tuple([ast.Constant(number) for number in place], ast.Load())
        own = ast.Tuple([*(ast.Name(each, ast.Load()) for each in self.loops), at], ast.Load())
        node.keywords.append(ast.keyword(TRAIL, ast.BinOp(ast.Name(TRAIL, ast.Load()), ast.Add(), own)))
        return ast.fix_missing_locations(node)

    def known(self, node: ast.expr) -> Any:
        """What a name of the text means outside the function, or None."""
        if isinstance(node, ast.Name):
            if node.id in self.local_names:
                return None
            scopes = self.free, self.function.__globals__, vars(builtins)
            return next((scope[node.id] for scope in scopes if node.id in scope), None)
        if isinstance(node, ast.Attribute):
            return getattr(self.known(node.value), node.attr, None)
        return None


def _free_names(function: Any) -> Mapping[str, Any]:
    """Names of functions around, with their values; those that have none yet are left out."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _as_float(value: Any) -> Any:
    """A number as a float, a boolean of NumPy as a bool; anything else as it is."""
    if isinstance(value, np.bool_):
        return bool(value)
    return float(value) if isinstance(value, (int, np.integer, np.floating)) and not isinstance(value, bool) else value


def _called(name: str, arguments: list[ast.expr], at: ast.AST) -> ast.Call:
    return ast.fix_missing_locations(ast.copy_location(ast.Call(ast.Name(name, ast.Load()), arguments, []), at))

"""The syntax tree of a function, read from its source, which must be what the function was compiled from."""

from __future__ import annotations
import __future__

import ast
import functools
import inspect
import linecache
import operator
import tokenize
import types
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

from backtest._checks import InputError
from backtest._errors import StrategyError
from backtest._said import shown

_FUTURE = functools.reduce(operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names))


class Source(NamedTuple):
    """A function's definition.

    Attributes
    ----------
    node : ast.FunctionDef
    file : str
    offset : int
        What must be added to a node's line to give that of the file.
    lines : list of str
        The text, by line of the nodes.
    """

    node: ast.FunctionDef
    file: str
    offset: int
    lines: list[str]

    def text(self, node: ast.expr) -> str:
        """The source of an expression, on one line."""
        parts = [line.encode() for line in self.lines[node.lineno - 1 : node.end_lineno]]
        parts[-1] = parts[-1][: node.end_col_offset]  # columns are counted in bytes
        parts[0] = parts[0][node.col_offset :]
        return " ".join(" ".join(part.decode().split()) for part in parts)


def source_of(function: types.FunctionType) -> Source:
    """The definition of a function.

    Raises
    ------
    StrategyError
        There is no source (a lambda, ``exec``, ``python -c``), or it is not what the function was compiled from.
    """
    code = function.__code__
    name, file, first = code.co_name, code.co_filename, code.co_firstlineno
    where = f"{name} ({file}:{first})"
    if name == "<lambda>":
        raise StrategyError(f"a strategy must be a function with a name, got a lambda ({file}:{first}); write def", file, first)
    if code.co_flags & (inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR):
        raise StrategyError(f"{where} must not be async, got async def {name}; write def {name}", file, first)
    linecache.checkcache(file)
    lines = linecache.getlines(file, function.__globals__)
    if not 0 < first <= len(lines):
        raise StrategyError(
            f"{where} must have its source in a file or a notebook cell, got none (made by exec, python -c or at the prompt?); "
            "write it into a file and import or run that",
            file,
            first,
        )
    node, is_same, is_indented = None, False, False
    try:
        block = inspect.getblock(lines[first - 1 :])
        if is_indented := block[0][:1].isspace():
            block = ["if 1:\n", *block]
        node = _definition("".join(block), name)
        is_same = node is not None and (_compiled(node, function) == _content(code) or _content(code) in _whole_file(lines, code))
    except (SyntaxError, ValueError, tokenize.TokenError):  # what stands there now is no Python
        pass
    if node is None or not is_same:
        raise StrategyError(
            f"{where} must be what its file says, got other code there: the file was edited after it was imported; import it "
            "again (importlib.reload, or a new process)",
            file,
            first,
        )
    return Source(node, file, first - 1 - is_indented, block)


def _definition(text: str, name: str) -> ast.FunctionDef | None:
    """The function in a text, which may be the only thing inside an ``if``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the user's code, shown when it was compiled
        body = ast.parse(text).body
    if len(body) == 1 and isinstance(body[0], ast.If):
        body = body[0].body
    return body[0] if len(body) == 1 and isinstance(body[0], ast.FunctionDef) and body[0].name == name else None


def _compiled(node: ast.FunctionDef, function: types.FunctionType) -> Any:
    """What the definition compiles to where the names that the function took from around it are such names again.

    Calls of an imported name's attributes compile to other instructions, so modules are imported as they mostly are.
    """
    code, scope = function.__code__, function.__globals__
    imported = [name for name in code.co_names if isinstance(scope.get(name), types.ModuleType)]
    imports = "".join(f"import {name}\n" for name in imported)
    module = ast.parse(f"{imports}def around({', '.join(code.co_freevars)}): pass")
    around = module.body[-1]
    assert isinstance(around, ast.FunctionDef)
    around.body = [node]
    return next(_functions(_code(module, code), code), None)


def _whole_file(lines: list[str], code: types.CodeType) -> list[Any]:
    """What the functions of that name and line in a file compile to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse("".join(lines))
    return list(_functions(_code(tree, code), code, code.co_firstlineno))


def _code(tree: ast.Module, code: types.CodeType) -> types.CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled: types.CodeType = compile(tree, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    return compiled


def _functions(outer: types.CodeType, code: types.CodeType, line: int | None = None) -> Iterator[Any]:
    """Contents of the functions inside a code object that have the name of another, and its line if given."""
    for each in outer.co_consts:
        if isinstance(each, types.CodeType):
            if each.co_name == code.co_name and line in (None, each.co_firstlineno):
                yield _content(each)
            yield from _functions(each, code, line)


def _content(code: types.CodeType) -> tuple[Any, ...]:
    """What makes two compilations the same function."""
    constants = tuple(_content(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars


def plain_function(value: Any) -> types.FunctionType:
    """``value`` if it is a function that was written in Python."""
    if isinstance(value, types.FunctionType):
        return value
    raise InputError(f"a strategy must be a plain Python function f(bar, account, state, p), got {shown(value)}")

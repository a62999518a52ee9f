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
from typing import Any, NamedTuple

from backtest._checks import InputError
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
    InputError
        There is no source (a lambda, ``exec``, ``python -c``), or it is not what the function was compiled from.
    """
    code = function.__code__
    name, file, first = code.co_name, code.co_filename, code.co_firstlineno
    where = f"{name} ({file}:{first})"
    if name == "<lambda>":
        raise InputError(f"a strategy must be a function with a name, got a lambda ({file}:{first}); write def name(...): above")
    linecache.checkcache(file)
    lines = linecache.getlines(file, function.__globals__)
    if not 0 < first <= len(lines):
        raise InputError(
            f"{where} must have its source in a file or a notebook cell, got none (made by exec, python -c or at the prompt?); "
            "write it into a file and import or run that"
        )
    node, is_same, is_indented = None, False, False
    try:
        block = inspect.getblock(lines[first - 1 :])
        if is_indented := block[0][:1].isspace():
            block = ["if 1:\n", *block]
        node = _definition("".join(block), name)
        is_same = node is not None and _is_source(node, function, "".join(lines))
    except (SyntaxError, ValueError, tokenize.TokenError):  # what stands there now is no Python
        pass
    if node is None or not is_same:
        raise InputError(
            f"{where} must be what its file says, got other code there: the file was edited after it was imported; import it "
            "again (importlib.reload, or a new process)"
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


def _is_source(node: ast.FunctionDef, function: types.FunctionType, text: str) -> bool:
    """Whether a function was compiled from this definition in a file with this text.

    A call of what an import at the top of a file names compiles to other code than a call of a method.  Names of modules
    most often come from there; only if that does not fit, the file's imports are looked up.
    """
    code, around = function.__code__, function.__globals__
    modules = [name for name in code.co_names if isinstance(around.get(name), types.ModuleType)]
    return _same(_compiled(node, code, [ast.Import([ast.alias(name)]) for name in modules]), code) or _same(
        _compiled(node, code, _imports(text)), code
    )


def _imports(text: str) -> list[ast.stmt]:
    """Imports of a file outside functions and classes."""
    waiting: list[ast.AST] = [ast.parse(text)]
    found: list[ast.stmt] = []
    while waiting:
        for child in ast.iter_child_nodes(waiting.pop()):
            if isinstance(child, ast.Import):
                found.append(child)
            elif isinstance(child, ast.ImportFrom):
                if child.module != "__future__" and all(alias.name != "*" for alias in child.names):
                    found.append(child)
            elif isinstance(child, ast.stmt | ast.ExceptHandler) and not isinstance(child, _SCOPES):
                waiting.append(child)
    return found


_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def _compiled(node: ast.FunctionDef, code: types.CodeType, imports: list[ast.stmt]) -> types.CodeType | None:
    """The definition compiled where the names that the function took from around it are such names again."""
    module = ast.parse(f"def around({', '.join(code.co_freevars)}): pass")
    assert isinstance(module.body[0], ast.FunctionDef)
    module.body[0].body = [node]
    module.body[:0] = [ast.fix_missing_locations(each) for each in imports]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = compile(module, code.co_filename, "exec", code.co_flags & _FUTURE, dont_inherit=True)
    around = next(each for each in compiled.co_consts if isinstance(each, types.CodeType))
    return next((each for each in around.co_consts if isinstance(each, types.CodeType) and each.co_name == code.co_name), None)


def _same(one: types.CodeType | None, other: types.CodeType) -> bool:
    return one is not None and _content(one) == _content(other)


def _content(code: types.CodeType) -> tuple[Any, ...]:
    constants = [_content(each) if isinstance(each, types.CodeType) else repr(each) for each in code.co_consts]
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars


def plain_function(value: Any) -> types.FunctionType:
    """``value`` if it is a function that was written in Python."""
    if isinstance(value, types.FunctionType):
        return value
    raise InputError(f"a strategy must be a plain Python function f(bar, account, state, p), got {shown(value)}")

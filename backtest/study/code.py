"""Fingerprints of source code, to warn if code changed and its version did not."""

from __future__ import annotations

import ast
import functools
import hashlib
import inspect
import io
import linecache
import sys
import textwrap
import tokenize
import types
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from backtest._checks import StoreWarning
from backtest.study.store import Status, Store

#: Hexadecimal digits of a fingerprint.
LETTERS = 16


def fingerprint(function: Any) -> str | None:
    """Hash of a function's source and of the functions and assignments of its module that it uses; None without source.

    What those use in turn is included; of other modules only the names are.  Comments, blank lines, trailing blanks and the
    common indentation are ignored, so that the hash is the same in every release of Python.  This library's own functions have
    none: :data:`backtest.metrics.NUMERICS_VERSION` stands for them.
    """
    pending = list(_sources(function))
    module = _module(pending[-1]) if pending else None  # of the function inside all decorators
    if not module or module.partition(".")[0] == "backtest":
        return None
    texts: dict[str, None] = {}
    seen = set[int]()
    while pending:
        each = pending.pop()
        if id(each) in seen or _module(each) != module:
            continue
        seen.add(id(each))
        definition = _read(each)
        if definition is None:
            if len(seen) == 1:
                return None
            continue
        texts |= dict.fromkeys(map(_without_comments, definition.texts))
        pending += [source for value in definition.uses for source in _sources(value)]
    digest = hashlib.blake2b(digest_size=LETTERS // 2)
    for text in sorted(texts):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def fingerprints(functions: Mapping[str, Any]) -> dict[str, str]:
    """Fingerprints of functions by name; those without source are left out."""
    all_fingerprints = {name: fingerprint(each) for name, each in functions.items()}
    return {name: each for name, each in all_fingerprints.items() if each is not None}


def compare(store: Store, context: int, subject: str, current: Mapping[str, str]) -> None:
    """Store the fingerprints of code with a context, and warn if they differ from those of its results.

    A context without results, or with failures only, gets the new ones.  So does one that was written without any (by an
    earlier release, or without source).
    """
    stored = store.description(context).get("code")
    stored = stored if isinstance(stored, dict) else {}
    if all(stored.get(name) == code for name, code in current.items()):
        return
    if any(count for status, count in store.counts(context).items() if status != Status.FAILED):
        for name, code in current.items():
            if stored.get(name, code) != code:
                warnings.warn(
                    f"{subject} must have another version for other code: the code of {name} changed ({code} here, "
                    f"{stored[name]} in the store) and its version did not, so that results of both are mixed; give "
                    "another version, unless the change cannot change a result",
                    StoreWarning,
                    stacklevel=5,
                )
        merged = {**current, **stored}
    else:
        merged = {**stored, **current}
    if merged != stored:
        store.describe(context, {"code": merged})


class _Definition(NamedTuple):
    """Source of a definition and of the assignments it uses, and the callables it uses."""

    texts: list[str]
    uses: list[Any]


def _sources(value: Any) -> Iterator[Any]:
    """Functions and classes whose source defines a callable."""
    if isinstance(value, functools.partial):
        yield from _sources(value.func)
    elif isinstance(value, types.MethodType):
        yield type(value.__self__) if not isinstance(value.__self__, type) else value.__self__
    elif isinstance(value, (types.FunctionType, type)):
        yield value
        inner = inspect.getattr_static(value, "__wrapped__", None)
        if inner is not None:
            yield from _sources(inner)
    elif isinstance(inner := inspect.getattr_static(value, "__wrapped__", None), types.FunctionType):  # by bt.line
        yield from _sources(inner)
    elif callable(value) and not isinstance(value, (types.BuiltinFunctionType, types.ModuleType)):
        yield type(value)


def _module(source: Any) -> str | None:
    """Module in which it was written: a decorated function's ``__module__`` may be another one, its globals are not."""
    name = source.__globals__.get("__name__") if isinstance(source, types.FunctionType) else source.__module__
    return name if isinstance(name, str) else None


def _read(source: Any) -> _Definition | None:
    lines = _lines(source)
    tree = _tree("".join(lines)) if lines else None
    nodes = [] if tree is None else _nodes(tree, source)
    if tree is None or not nodes:
        return None
    scope = dict(_scope(source))
    texts, uses = [_source_of(lines, each) for each in nodes], []
    pending, seen = [name for each in nodes for name in _names(each)], set[str]()
    while pending:
        name = pending.pop()
        if name in seen:
            continue
        seen.add(name)
        value = scope.get(name)
        if callable(value):
            uses.append(value)
        for each in tree.body:
            if isinstance(each, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and name in _assigned(each):
                texts.append(_source_of(lines, each))
                pending += _names(each)
    return _Definition(texts, uses)


def _names(node: ast.AST) -> list[str]:
    return sorted({each.id for each in ast.walk(node) if isinstance(each, ast.Name)})


def _lines(source: Any) -> list[str]:
    if isinstance(source, types.FunctionType):
        linecache.checkcache(source.__code__.co_filename)
        return linecache.getlines(source.__code__.co_filename, source.__globals__)
    try:  # a class: the file, or notebook cell, of its methods or module
        methods = [each for each in vars(source).values() if isinstance(each, types.FunctionType)]
        return _lines(methods[0]) if methods else linecache.getlines(inspect.getfile(source))
    except (TypeError, OSError):  # built in
        return []


@functools.lru_cache(maxsize=64)
def _tree(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's code, shown when it was compiled
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _nodes(tree: ast.Module, source: Any) -> Sequence[ast.AST]:
    """Nodes of the definition: a class by its name, a function by the line of its first decorator."""
    nodes = ast.walk(tree)
    if isinstance(source, type):
        return [each for each in nodes if isinstance(each, ast.ClassDef) and each.name == source.__name__][-1:]
    line, name = source.__code__.co_firstlineno, source.__code__.co_name
    if name == "<lambda>":  # all of those in one line
        return [each for each in nodes if isinstance(each, ast.Lambda) and each.lineno == line]
    return [
        each
        for each in nodes
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == name and _first(each) == line
    ]


def _first(node: Any) -> int:
    return int(min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))]))


def _source_of(lines: list[str], node: Any) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment("".join(lines), node) or ""
    return "".join(lines[_first(node) - 1 : node.end_lineno])


def _scope(source: Any) -> Iterator[tuple[str, Any]]:
    """Names in scope of a definition, with their values: its module's, and its closure's."""
    if isinstance(source, type):
        yield from vars(sys.modules.get(source.__module__, types)).items()
        return
    yield from source.__globals__.items()
    for name, cell in zip(source.__code__.co_freevars, source.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _assigned(node: Any) -> set[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}


def _without_comments(text: str) -> str:
    lines = textwrap.dedent(text).splitlines()
    try:
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column]
    except (tokenize.TokenError, SyntaxError):  # part of a statement: comments after it stay
        pass
    return "\n".join(line.rstrip() for line in lines if line.strip())

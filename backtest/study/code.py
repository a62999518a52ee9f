"""Fingerprints of code: whether what a version names is still the text that it was."""

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

#: Letters of a fingerprint.
LETTERS = 16


def fingerprint(function: Any) -> str | None:
    """Hash of a function's text and of the helpers and settings of its module that it uses; None where there is no text.

    What they use in turn is in it.  Of other modules, and of values that are computed, only the names are.  Comments, blank
    lines and blanks at the end of a line do not count, nor does how far all of it is indented: the text is what every release
    of Python reads alike.  This library's own functions have none: what they compute has the numerics version.
    """
    waiting = list(_sources(function))
    module = _module(waiting[-1]) if waiting else None  # of what is inside all decorators
    if not module or module.partition(".")[0] == "backtest":
        return None
    texts: dict[str, None] = {}
    seen = set[int]()
    while waiting:
        each = waiting.pop()
        if id(each) in seen or _module(each) != module:
            continue
        seen.add(id(each))
        found = _read(each)
        if found is None:
            if len(seen) == 1:
                return None
            continue
        texts |= dict.fromkeys(map(_without_comments, found.texts))
        waiting += [source for value in found.uses for source in _sources(value)]
    digest = hashlib.blake2b(digest_size=LETTERS // 2)
    for text in sorted(texts):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()


def fingerprints(functions: Mapping[str, Any]) -> dict[str, str]:
    """Of functions by name; those without a text are left out."""
    found = {name: fingerprint(each) for name, each in functions.items()}
    return {name: each for name, each in found.items() if each is not None}


def compare(store: Store, context: int, what: str, here: Mapping[str, str]) -> None:
    """Keep the fingerprints of code beside a context, and warn where they are not what its results were made with.

    A context without results, or with nothing but failures, takes the new ones.  One that was written without any (by an
    earlier release, or where there was no text) takes them as they are now.
    """
    stored = store.description(context).get("code")
    stored = stored if isinstance(stored, dict) else {}
    if all(stored.get(name) == code for name, code in here.items()):
        return
    if any(count for status, count in store.counts(context).items() if status != Status.FAILED):
        for name, code in here.items():
            if stored.get(name, code) != code:
                warnings.warn(
                    f"{what} must have another version for other code: the code of {name} changed ({code} here, "
                    f"{stored[name]} in the store) and its version did not, so that results of both are mixed; give "
                    "another version, unless the change cannot change a result",
                    StoreWarning,
                    stacklevel=5,
                )
        kept = {**here, **stored}
    else:
        kept = {**stored, **here}
    if kept != stored:
        store.describe(context, {"code": kept})


class _Found(NamedTuple):
    """The texts of a definition and of the settings it uses, and the values it uses."""

    texts: list[str]
    uses: list[Any]


def _sources(value: Any) -> Iterator[Any]:
    """Functions and classes whose text says what a callable does."""
    if isinstance(value, functools.partial):
        yield from _sources(value.func)
    elif isinstance(value, types.MethodType):
        yield type(value.__self__) if not isinstance(value.__self__, type) else value.__self__
    elif isinstance(value, (types.FunctionType, type)):
        yield value
        inner = inspect.getattr_static(value, "__wrapped__", None)
        if inner is not None:
            yield from _sources(inner)
    elif isinstance(inner := inspect.getattr_static(value, "__wrapped__", None), types.FunctionType):  # by an object, as bt.line
        yield from _sources(inner)
    elif callable(value) and not isinstance(value, (types.BuiltinFunctionType, types.ModuleType)):
        yield type(value)


def _module(source: Any) -> str | None:
    """Where it was written; a decorator gives its function the name of another's module, but not its surroundings."""
    name = source.__globals__.get("__name__") if isinstance(source, types.FunctionType) else source.__module__
    return name if isinstance(name, str) else None


def _read(source: Any) -> _Found | None:
    lines = _lines(source)
    tree = _tree("".join(lines)) if lines else None
    nodes = [] if tree is None else _nodes(tree, source)
    if tree is None or not nodes:
        return None
    around = dict(_surroundings(source))
    texts, uses = [_cut(lines, each) for each in nodes], []
    waiting, seen = [name for each in nodes for name in _names(each)], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        value = around.get(name)
        if callable(value):
            uses.append(value)
        for each in tree.body:
            if isinstance(each, (ast.Assign, ast.AnnAssign, ast.AugAssign)) and name in _assigned(each):
                texts.append(_cut(lines, each))
                waiting += _names(each)
    return _Found(texts, uses)


def _names(node: ast.AST) -> list[str]:
    return sorted({each.id for each in ast.walk(node) if isinstance(each, ast.Name)})


def _lines(source: Any) -> list[str]:
    if isinstance(source, types.FunctionType):
        linecache.checkcache(source.__code__.co_filename)
        return linecache.getlines(source.__code__.co_filename, source.__globals__)
    try:  # a class, by the file of its module or the cell of its methods
        methods = [each for each in vars(source).values() if isinstance(each, types.FunctionType)]
        return _lines(methods[0]) if methods else linecache.getlines(inspect.getfile(source))
    except (TypeError, OSError):  # one that is built in
        return []


@functools.lru_cache(maxsize=64)
def _tree(text: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's text, said when it was compiled
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return None


def _nodes(tree: ast.Module, source: Any) -> Sequence[ast.AST]:
    """The definition: a class by its name, a function by its line, which is that of its first decorator."""
    nodes = ast.walk(tree)
    if isinstance(source, type):
        return [each for each in nodes if isinstance(each, ast.ClassDef) and each.name == source.__name__][-1:]
    line, name = source.__code__.co_firstlineno, source.__code__.co_name
    if name == "<lambda>":  # of several in one line, all
        return [each for each in nodes if isinstance(each, ast.Lambda) and each.lineno == line]
    return [
        each
        for each in nodes
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == name and _first(each) == line
    ]


def _first(node: Any) -> int:
    return int(min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", ()))]))


def _cut(lines: list[str], node: Any) -> str:
    if isinstance(node, ast.Lambda):
        return ast.get_source_segment("".join(lines), node) or ""
    return "".join(lines[_first(node) - 1 : node.end_lineno])


def _surroundings(source: Any) -> Iterator[tuple[str, Any]]:
    """Values by name that a definition can see: of its module, and of the functions around it."""
    if isinstance(source, type):
        yield from vars(sys.modules.get(source.__module__, types)).items()
        return
    yield from source.__globals__.items()
    for name, cell in zip(source.__code__.co_freevars, source.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not set yet
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
    except (tokenize.TokenError, SyntaxError):  # a piece of a statement; what was cut so far is cut
        pass
    return "\n".join(line.rstrip() for line in lines if line.strip())

"""``where``: a checked expression over parameters, evaluated on whole batches, never arbitrary code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import SpaceError, did_you_mean

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less, ast.LtE: np.less_equal, ast.Gt: np.greater, ast.GtE: np.greater_equal,
    ast.Eq: np.equal, ast.NotEq: np.not_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add, ast.Sub: np.subtract, ast.Mult: np.multiply, ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide, ast.Mod: np.mod, ast.Pow: np.power,
}


class Where:
    """A condition on candidates, such as ``"fast < slow and (stop_loss is None or stop_loss < 0.1)"``.

    Allowed: parameter names, numbers, strings, ``None``, ``True``, ``False``, ``+ - * / // % **``, comparisons (also
    chained), ``in`` and ``not in`` a tuple, ``is None`` and ``is not None``, ``and or not`` and parentheses.
    An order comparison with None is false.

    Parameters
    ----------
    text : str
    known : collection of str
        Names of the parameters.

    Raises
    ------
    SpaceError
        Bad syntax, an unknown name, anything else than the above.
    """

    __slots__ = ("names", "text", "tree")

    def __init__(self, text: str, known: Any) -> None:
        if not isinstance(text, str):
            raise SpaceError(f"where must be a string such as 'fast < slow', got {text!r}")
        self.text = text
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
        except SyntaxError as error:
            raise SpaceError(f"where must be an expression over parameters, got {text!r}: {error.msg}") from None
        names: dict[str, None] = {}
        self._check(self.tree, names)
        for name in names:
            if name not in known:
                raise SpaceError(
                    f"where must name parameters ({', '.join(known)}), got {name!r} in {text!r}{did_you_mean(name, known)}"
                )
        if not names:
            raise SpaceError(f"where must name at least one parameter, got {text!r}")
        self.names = tuple(names)

    def __repr__(self) -> str:
        return repr(self.text)

    def __getstate__(self) -> tuple[str, tuple[str, ...]]:
        return self.text, self.names

    def __setstate__(self, state: tuple[str, tuple[str, ...]]) -> None:
        self.text, self.names = state
        self.tree = ast.parse(self.text.strip(), mode="eval").body

    def _check(self, node: ast.AST, names: dict[str, None]) -> None:
        dotted = _dotted(node)
        if dotted is not None:
            names[dotted] = None
            return
        if isinstance(node, ast.Compare):
            pairs = zip(node.ops, node.comparators, strict=True)
            allowed = all((isinstance(op, (ast.In, ast.NotIn)) and isinstance(right, (ast.Tuple, ast.List)))
                          or (isinstance(op, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant) and right.value is None)
                          or type(op) in _COMPARE for op, right in pairs)
        elif isinstance(node, ast.BinOp):
            allowed = type(node.op) in _ARITHMETIC
        elif isinstance(node, ast.Constant):
            allowed = node.value is None or isinstance(node.value, (bool, int, float, str))
        else:
            allowed = isinstance(node, (ast.BoolOp, ast.Tuple, ast.List)) or (
                isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.UAdd)))
        if not allowed:
            raise SpaceError(f"where may hold parameters, numbers, + - * / // % **, comparisons, in, and, or, not; "
                             f"got {ast.unparse(node)!r} in {self.text!r}")
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._check(child, names)

    def __call__(self, columns: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
        """Which candidates satisfy the condition.

        Parameters
        ----------
        columns : mapping of str to array, shape (n_candidates,)
            A column per name in ``names``; float64, with NaN for None, or objects.
        """
        n = len(next(iter(columns.values())))
        with np.errstate(all="ignore"):
            try:
                result = self._evaluate(self.tree, columns)
            except TypeError as error:
                raise SpaceError(f"where must compare values of one kind, got {self.text!r}: {error}") from None
        return np.broadcast_to(_truth(result), (n,)).copy()

    def _evaluate(self, node: ast.AST, columns: Mapping[str, NDArray[Any]]) -> Any:
        dotted = _dotted(node)
        if dotted is not None:
            return columns[dotted]
        if isinstance(node, ast.Constant):
            return np.nan if node.value is None else node.value
        if isinstance(node, ast.BoolOp):
            parts = [_truth(self._evaluate(value, columns)) for value in node.values]
            combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return combine.reduce(np.broadcast_arrays(*parts))
        if isinstance(node, ast.UnaryOp):
            value = self._evaluate(node.operand, columns)
            return (
                np.logical_not(_truth(value))
                if isinstance(node.op, ast.Not)
                else -value
                if isinstance(node.op, ast.USub)
                else value
            )
        if isinstance(node, ast.BinOp):
            return _ARITHMETIC[type(node.op)](self._evaluate(node.left, columns), self._evaluate(node.right, columns))
        assert isinstance(node, ast.Compare)
        result: Any = True
        left = self._evaluate(node.left, columns)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.In, ast.NotIn)):
                assert isinstance(right_node, (ast.Tuple, ast.List))
                right: Any = None
                found = np.logical_or.reduce([np.broadcast_to(_equal(left, self._evaluate(each, columns)), np.shape(left))
                                              for each in right_node.elts] or [np.zeros(np.shape(left), bool)])
                step = found if isinstance(op, ast.In) else ~found
            else:
                right = self._evaluate(right_node, columns)
                if isinstance(op, (ast.Is, ast.Eq)):
                    step = _equal(left, right)
                elif isinstance(op, (ast.IsNot, ast.NotEq)):
                    step = np.logical_not(_equal(left, right))
                else:
                    step = _COMPARE[type(op)](left, right)
            result = np.logical_and(result, step)
            left = right
        return result


def _equal(left: Any, right: Any) -> Any:
    """Equality in which None (NaN here) equals itself, and kinds that differ are unequal."""
    if _is_missing(right):
        return _missing(left)
    return np.asarray(left == right, dtype=bool)


def _is_missing(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _missing(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype == object:
        return np.array([each is None for each in array.ravel()], dtype=bool).reshape(array.shape)
    return array != array


def _truth(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype == bool:
        return array
    if array.dtype == object:
        return np.array([bool(each) for each in array.ravel()]).reshape(array.shape)
    return (array != 0) & ~np.isnan(array)


def _dotted(node: ast.AST) -> str | None:
    """``a`` or ``group.a`` as a parameter name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _dotted(node.value)
        return None if head is None else f"{head}.{node.attr}"
    return None

"""``where``: a checked expression over parameters, evaluated on whole batches, never arbitrary code."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import Frozen, SpaceError, did_you_mean, listed
from backtest._said import shown
from backtest.elementary import power

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: power,
}

_LARGEST = 10**300
#: Deepest nesting, and longest chain of one operator: each level takes a frame of the stack.
MAX_DEPTH = 200
#: Largest literal exponent: beyond it powers overflow float64 for nearly every base.
MAX_EXPONENT = 1000
_MAX_EXACT = 2**53


class Where(Frozen):
    """A condition on candidates, such as ``"fast < slow and (stop_loss is None or stop_loss < 0.1)"``.

    Allowed: parameter names, numbers, strings, ``None``, ``True``, ``False``, ``+ - * / // % **``, comparisons (also
    chained), ``in`` and ``not in`` a tuple, ``is None`` and ``is not None``, ``and or not`` and parentheses.
    An order comparison of a number with None is false; ``and`` and ``or`` give true or false.  Numbers are float64s: a whole
    number that no float64 holds, such as 2**53 + 1, is refused, and so are arithmetic on text, exponents above 1,000, numbers
    above 1e300 and more than 200 levels of nesting.

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
            raise SpaceError(f"where must be a string such as 'fast < slow', got {shown(text)}")
        self.text = text
        try:
            self.tree = ast.parse(text.strip(), mode="eval").body
            names: dict[str, None] = {}
            self._check(self.tree, names)
        except SpaceError:
            raise
        except SyntaxError as error:
            raise SpaceError(f"where must be an expression over parameters, got {shown(text)}: {error.msg}") from None
        except ValueError as error:  # NUL, or a lone surrogate
            raise SpaceError(f"where must be an expression over parameters, got {shown(text)}: {error}") from None
        except (RecursionError, MemoryError):
            raise SpaceError(f"where must be simpler, got {len(text):,} characters, too deeply nested") from None
        for name in names:
            if name not in known:
                raise SpaceError(
                    f"where must name parameters ({listed(known)}), got {shown(name)} in {shown(text)}{did_you_mean(name, known)}"
                )
        if not names:
            raise SpaceError(f"where must name at least one parameter, got {shown(text)}")
        self.names = tuple(names)

    def __repr__(self) -> str:
        return repr(self.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return Where, (self.text, self.names)

    def _check(self, node: ast.AST, names: dict[str, None], is_list: bool = False, depth: int = 1) -> None:
        if depth > MAX_DEPTH:
            raise SpaceError(f"where must be simpler, nested up to {MAX_DEPTH} deep, got {len(self.text):,} characters")
        name = dotted(node)
        if name is not None:
            names[name] = None
            return
        if isinstance(node, ast.Compare):
            allowed = _may_compare(node)
        elif isinstance(node, ast.BinOp):
            allowed = type(node.op) in _ARITHMETIC
            self._check_numbers(node)
        elif isinstance(node, ast.Constant):
            allowed = node.value is None or isinstance(node.value, (bool, int, float, str))
            if isinstance(node.value, (int, float)):
                self._check_literal(node.value)
        else:
            allowed = (
                isinstance(node, ast.BoolOp)
                or (is_list and isinstance(node, (ast.Tuple, ast.List)))
                or (isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub, ast.UAdd)))
            )
        if not allowed:
            raise SpaceError(
                f"where may hold parameters, numbers, + - * / // % **, comparisons, in, and, or, not; "
                f"got {ast.unparse(node)!r} in {shown(self.text)}"
            )
        lists = node.comparators[-1:] if isinstance(node, ast.Compare) and isinstance(node.ops[-1], (ast.In, ast.NotIn)) else []
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._check(child, names, child in lists, depth + 1)

    def _check_numbers(self, node: ast.BinOp) -> None:
        """Refuse literals in arithmetic that are text, or exponents above the limit."""
        for side in (node.left, node.right):
            if isinstance(side, ast.Constant) and isinstance(side.value, str):
                raise SpaceError(f"where must compare values of one kind, got {shown(self.text)}: there is no arithmetic on text")
        exponent = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        if (
            isinstance(node.op, ast.Pow)
            and isinstance(exponent, ast.Constant)
            and isinstance(exponent.value, (int, float))
            and exponent.value > MAX_EXPONENT
        ):
            raise SpaceError(f"where must hold exponents up to {MAX_EXPONENT:,}, got {shown(exponent.value)}")

    def _check_literal(self, value: float) -> None:
        if abs(value) > _LARGEST:
            raise SpaceError(f"where must hold numbers up to {_LARGEST:g}, got {shown(value)}")
        if isinstance(value, int) and abs(value) > _MAX_EXACT and int(float(value)) != value:
            raise SpaceError(
                f"where must hold numbers that are float64s, as whole numbers up to 2**53 are; got {value}, and the "
                f"nearest is {int(float(value))}"
            )

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
                result = self.value(self.tree, columns)
            except TypeError as error:
                raise SpaceError(f"where must compare values of one kind, got {shown(self.text)}: {error}") from None
        return np.broadcast_to(_truth(result), (n,)).copy()

    def value(self, node: ast.AST, columns: Mapping[str, NDArray[Any]]) -> Any:
        """Value of a part of the expression for each candidate."""
        name = dotted(node)
        if name is not None:
            return columns[name]
        if isinstance(node, ast.Constant):
            # Floats throughout: NumPy's integers overflow silently and refuse 2 ** -1.
            return np.nan if node.value is None else float(node.value) if type(node.value) is int else node.value
        if isinstance(node, ast.BoolOp):
            parts = [_truth(self.value(value, columns)) for value in node.values]
            combine = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
            return combine.reduce(np.broadcast_arrays(*parts))
        if isinstance(node, ast.UnaryOp):
            value = self.value(node.operand, columns)
            if isinstance(node.op, ast.Not):
                return np.logical_not(_truth(value))
            return np.multiply(-1.0 if isinstance(node.op, ast.USub) else 1.0, _as_numbers(value))
        if isinstance(node, ast.BinOp):
            return _ARITHMETIC[type(node.op)](
                _as_numbers(self.value(node.left, columns)), _as_numbers(self.value(node.right, columns))
            )
        assert isinstance(node, ast.Compare)
        result: Any = True
        left = self.value(node.left, columns)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            if isinstance(op, (ast.In, ast.NotIn)):
                assert isinstance(right_node, (ast.Tuple, ast.List))
                right: Any = None
                equal = [_equal(left, self.value(each, columns)) for each in right_node.elts]
                is_in = np.logical_or.reduce(np.broadcast_arrays(np.zeros(np.shape(left), dtype=bool), *equal))
                step = is_in if isinstance(op, ast.In) else ~is_in
            else:
                right = self.value(right_node, columns)
                if isinstance(op, (ast.Is, ast.Eq)):
                    step = _equal(left, right)
                elif isinstance(op, (ast.IsNot, ast.NotEq)):
                    step = np.logical_not(_equal(left, right))
                else:
                    step = _COMPARE[type(op)](left, right)
            result = np.logical_and(result, step)
            left = right
        return result


def _may_compare(node: ast.Compare) -> bool:
    """Whether only order, equality, ``is None``, and ``in`` a list at the end of the chain are used."""
    last = len(node.ops) - 1
    return all(
        (isinstance(op, (ast.In, ast.NotIn)) and isinstance(right, (ast.Tuple, ast.List)) and place == last)
        or (isinstance(op, (ast.Is, ast.IsNot)) and isinstance(right, ast.Constant) and right.value is None)
        or type(op) in _COMPARE
        for place, (op, right) in enumerate(zip(node.ops, node.comparators, strict=True))
    )


def _equal(left: Any, right: Any) -> Any:
    """Equality in which None (here NaN) equals itself, and values of different types are unequal."""
    return np.asarray(left == right, dtype=bool) | (_missing(left) & _missing(right))


def _missing(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype == object:
        return np.array([each is None for each in array.ravel()], dtype=bool).reshape(array.shape)
    return np.asarray(array != array)


def _as_numbers(value: Any) -> Any:
    """Operands of arithmetic; True and False as 1 and 0, as in Python: NumPy's sum of booleans is a boolean.

    Raises
    ------
    TypeError
        There is text among them, which ``%`` would format, and ``*`` and ``+`` repeat and join.
    """
    dtype = np.asarray(value).dtype
    if dtype.kind in "OUS":
        raise TypeError("there is no arithmetic on text")
    return np.asarray(value, dtype=np.float64) if dtype.kind == "b" else value


def _truth(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype == bool:
        return array
    if array.dtype == object:
        return np.array([bool(each) for each in array.ravel()]).reshape(array.shape)
    return (array != 0) & ~np.isnan(array)


def dotted(node: ast.AST) -> str | None:
    """``a`` or ``group.a`` as a parameter name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = dotted(node.value)
        return None if head is None else f"{head}.{node.attr}"
    return None

"""Rules: the functions that make conditions, and the strategy made of them.  A strategy is data: no user code runs per bar."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from numpy.typing import ArrayLike

from backtest._checks import Frozen, InputError
from backtest._said import shown
from backtest.expr import Comparison, Condition, Cross, Node, Param, Value, merged_params, operand, param
from backtest.labels import check_alike
from backtest.lines import Custom, CustomLine
from backtest.ready_signals import PackedSignals, ReadySignals

__all__ = [
    "Condition",
    "PackedSignals",
    "Param",
    "Strategy",
    "Value",
    "above",
    "below",
    "crosses_above",
    "crosses_below",
    "from_arrays",
    "param",
]

#: Fields of a strategy that are conditions, in the order of a candidate's masks.
CONDITIONS = ("enter_long", "exit_long", "enter_short", "exit_short")
#: Fields of a strategy that set exit prices.
LEVELS = ("stop_loss", "take_profit", "trailing_stop")


def __dir__() -> list[str]:
    return __all__


def crosses_above(a: Value | float, b: Value | float) -> Condition:
    """True where ``a[t] > b[t]`` and ``a[t-1] <= b[t-1]``; needs one bar more than the lines themselves."""
    return Cross(operand("a", a), operand("b", b))


def crosses_below(a: Value | float, b: Value | float) -> Condition:
    """True where ``a[t] < b[t]`` and ``a[t-1] >= b[t-1]``."""
    # Stored as b crossing above a, so that both crosses of two lines come out of one kernel call.
    return Cross(operand("b", b), operand("a", a))


def above(a: Value | float, b: Value | float) -> Condition:
    """True where ``a > b``; the same as the operator."""
    return Comparison(">", a, b)


def below(a: Value | float, b: Value | float) -> Condition:
    """True where ``a < b``; the same as the operator."""
    return Comparison("<", a, b)


class Strategy(Frozen):
    """Entries, exits and levels of a trade, as data.

    Parameters
    ----------
    enter_long, exit_long, enter_short, exit_short : Condition, optional
        At least one entry.  A side without an entry is not traded.
    stop_loss, take_profit : float, parameter or line, optional
        Distance from the entry price (slippage included) as a fraction, > 0: 0.05 is 5 %; sampled at the decision bar if it is a
        line; None is off.  Below 1 where the level would lie at 0 or below, which is never touched: stops of longs, targets of
        shorts.
    trailing_stop : float, parameter or line, optional
        The same distance from a base, the best of the entry price and the closes since, up to the bar before: the level is
        base x (1 - trailing_stop) for a long, base x (1 + trailing_stop) for a short.
    max_bars : int or parameter, optional
        Exit decided at the ``max_bars``-th close held.
    name : str, optional
        Label in tables.
    """

    __slots__ = (
        "enter_long",
        "enter_short",
        "exit_long",
        "exit_short",
        "max_bars",
        "name",
        "params",
        "stop_loss",
        "take_profit",
        "trailing_stop",
    )

    enter_long: Condition | None
    exit_long: Condition | None
    enter_short: Condition | None
    exit_short: Condition | None
    stop_loss: Value | float | None
    take_profit: Value | float | None
    trailing_stop: Value | float | None
    max_bars: Value | float | None
    name: str
    params: dict[str, Any]

    def __init__(
        self,
        *,
        enter_long: Condition | None = None,
        exit_long: Condition | None = None,
        enter_short: Condition | None = None,
        exit_short: Condition | None = None,
        stop_loss: Value | float | None = None,
        take_profit: Value | float | None = None,
        trailing_stop: Value | float | None = None,
        max_bars: Param | int | None = None,
        name: str = "strategy",
    ) -> None:
        given = {"enter_long": enter_long, "exit_long": exit_long, "enter_short": enter_short, "exit_short": exit_short}
        for key, condition in given.items():
            if condition is not None and not isinstance(condition, Condition):
                raise InputError(f"{key} must be a condition (for example crosses_above(...) or a > b), got {shown(condition)}")
        if enter_long is None and enter_short is None:
            raise InputError("enter_long or enter_short must be given, got neither")
        levels = {"stop_loss": stop_loss, "take_profit": take_profit, "trailing_stop": trailing_stop, "max_bars": max_bars}
        for key, level in levels.items():
            if level is not None:
                levels[key] = operand(key, level)
        for key, value in (given | levels | {"name": name if isinstance(name, str) else shown(name)}).items():
            setattr(self, key, value)
        self.params = merged_params([*given.values(), *levels.values()])

    def __repr__(self) -> str:
        parts = [
            f"{name}={getattr(self, name)!r}" for name in (*CONDITIONS, *LEVELS, "max_bars") if getattr(self, name) is not None
        ]
        return f"Strategy({self.name}: {', '.join(parts)})"

    @property
    def key(self) -> tuple[Any, ...]:
        """Structure of the whole strategy, hashable; equal for equal strategies."""
        nodes = [getattr(self, name) for name in (*CONDITIONS, *LEVELS, "max_bars")]
        return tuple(getattr(node, "key", node) for node in nodes)

    def custom_lines(self) -> list[CustomLine]:
        """The ``@bt.line`` functions that the strategy uses, each once."""
        return custom_lines_in(getattr(self, name) for name in (*CONDITIONS, *LEVELS, "max_bars"))

    @property
    def n_columns(self) -> int | None:
        """Number of columns (candidates) of two-dimensional ready signals; None if it has none."""
        conditions = [getattr(self, name) for name in CONDITIONS]
        return next(
            (each.n_columns for each in conditions if isinstance(each, ReadySignals) and each.n_columns is not None), None
        )


def custom_lines_in(nodes: Iterable[Any]) -> list[CustomLine]:
    """The ``@bt.line`` functions in nodes (others are skipped), each once."""
    functions: dict[CustomLine, None] = {}
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if isinstance(node, Custom):
            functions[node.function] = None
        if isinstance(node, Node):
            stack += node.args
    return list(functions)


def from_arrays(
    entries: ArrayLike | PackedSignals | None = None,
    exits: ArrayLike | PackedSignals | None = None,
    short_entries: ArrayLike | PackedSignals | None = None,
    short_exits: ArrayLike | PackedSignals | None = None,
    *,
    stop_loss: Value | float | None = None,
    take_profit: Value | float | None = None,
    trailing_stop: Value | float | None = None,
    max_bars: Param | int | None = None,
    name: str = "signals",
) -> Strategy:
    """A strategy from ready signals.

    Parameters
    ----------
    entries, exits, short_entries, short_exits : array_like of bool, shape (n_bars,) or (n_bars, n_candidates), or PackedSignals
        Arrays, DataFrames, Series or packed bits.  Those of several candidates add a parameter ``column`` (0, 1, ...): the
        candidate; an array of shape (n_bars, 1) beside them holds for all.  They are packed once, into an eighth of the memory of
        booleans; Fortran order, as of DataFrames, is packed fastest.

        The index of a Series or DataFrame must be that of the bars, which is checked once bars are given; arrays, and an
        index 0, 1, 2, ..., go by position.
    stop_loss, take_profit, trailing_stop, max_bars
        As in :class:`Strategy`.
    """
    given = {"entries": entries, "exits": exits, "short_entries": short_entries, "short_exits": short_exits}
    arrays = {
        name: array if isinstance(array, PackedSignals) else PackedSignals.pack(name, array)
        for name, array in given.items()
        if array is not None
    }
    shapes = [signals.shape for signals in arrays.values()]
    widths = {shape[1] for shape in shapes if len(shape) > 1}
    if len({shape[0] for shape in shapes}) > 1 or len(widths - {1}) > 1:
        raise InputError(f"signals must have equal shapes, or one column for all, got {', '.join(map(str, shapes))}")
    check_alike(given, fill=", fill_value=False")
    _check_columns(given)
    distinct: dict[PackedSignals, PackedSignals] = {}  # equal signals become one object, which compares fast
    conditions = {
        condition: _ready_signals(arrays[name], max(widths, default=1), distinct)
        for condition, name in zip(CONDITIONS, given, strict=True)
        if name in arrays
    }
    return Strategy(
        **conditions, stop_loss=stop_loss, take_profit=take_profit, trailing_stop=trailing_stop, max_bars=max_bars, name=name
    )


def _check_columns(given: Mapping[str, Any]) -> None:
    """Frames with the same column names must have them in the same order; different names are matched by position."""
    columns = {name: list(array.columns) for name, array in given.items() if hasattr(array, "iloc") and hasattr(array, "columns")}
    first = next(iter(columns), "")
    expected = columns.get(first, [])
    for name, got in columns.items():
        if got != expected and len(got) == len(expected) and set(got) == set(expected):
            at = next(at for at in range(len(expected)) if got[at] != expected[at])
            raise InputError(
                f"{name} must have the columns of {first} in their order, got {got[at]!r} for {expected[at]!r} (column "
                f"{at}); {name}[{first}.columns] reorders them"
            )


def _ready_signals(signals: PackedSignals, width: int, distinct: dict[PackedSignals, PackedSignals]) -> Condition:
    """Signals as a condition; where ``width`` > 1, a single column holds for all candidates."""
    if width > 1 and len(signals.words) == 1 and not signals.is_shared:
        signals = signals.with_words(signals.words[0], signals.source)
    same = distinct.setdefault(signals, signals)
    if same.source is None and signals.source is not None:  # keep the one with labels, so that they are checked
        same = signals
    if same.is_shared:
        return ReadySignals(same)
    column = param("column", 0) if len(same.words) == 1 else param("column")  # a single column is the default
    return ReadySignals(same, column)

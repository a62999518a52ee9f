"""Lines: the functions that make prices, indicators and custom lines, one number per bar, for rules to compare."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from backtest._checks import InputError, ObjectiveError, choice, number
from backtest._said import said, shown
from backtest.bars import Bars
from backtest.expr import Line, Param, Value, param, text
from backtest.labels import check_beside
from backtest.line_values import (
    MOST_BARS,
    Combinations,
    Indicator,
    IndicatorDefinition,
    LineMemo,
    Price,
    Source,
    shown_params,
    talib_function,
    whole_window,
)

__all__ = [
    "Bollinger",
    "CustomLine",
    "Line",
    "atr",
    "bollinger",
    "close",
    "ema",
    "high",
    "highest",
    "line",
    "low",
    "lowest",
    "open",
    "param",
    "previous",
    "rsi",
    "sma",
    "volume",
]

Array = NDArray[np.float64]

open = Price("open", ())  # the field's name; the builtin is not used here
high = Price("high", ())
low = Price("low", ())
close = Price("close", ())
volume = Price("volume", ())


def __dir__() -> list[str]:
    return __all__


def sma(source: Value, n: Value | int) -> Line:
    """Simple moving average of the last ``n`` values; first value on the ``n``-th (TA-Lib SMA)."""
    return _indicator("sma", n, source)


def ema(source: Value, n: Value | int) -> Line:
    """Exponential moving average, weight 2 / (n + 1), seeded with the mean of the first ``n`` values (TA-Lib EMA)."""
    return _indicator("ema", n, source)


def rsi(source: Value, n: Value | int = 14) -> Line:
    """Relative strength index, 0 to 100, with Wilder's smoothing (weight 1 / n); first value after ``n`` changes.

    TA-Lib's RSI, which is 0 where nothing changed for long.
    """
    return _indicator("rsi", n, source)


def atr(n: Value | int = 14) -> Line:
    """Average true range with Wilder's smoothing (weight 1 / n); first value on bar ``n`` (TA-Lib ATR)."""
    return _indicator("atr", n)


def highest(source: Value, n: Value | int) -> Line:
    """Highest of the last ``n`` values, this bar's included (TA-Lib MAX)."""
    return _indicator("highest", n, source)


def lowest(source: Value, n: Value | int) -> Line:
    """Lowest of the last ``n`` values, this bar's included (TA-Lib MIN)."""
    return _indicator("lowest", n, source)


def previous(source: Value, n: Value | int = 1) -> Line:
    """The value ``n`` bars ago."""
    return _indicator("previous", n, source)


class Bollinger(NamedTuple):
    """The three lines of Bollinger bands."""

    upper: Line
    middle: Line
    lower: Line


def bollinger(source: Value, n: Value | int = 20, k: Value | float = 2.0) -> Bollinger:
    """Bollinger bands: simple moving average, and ``k`` population standard deviations around it (TA-Lib SMA, STDDEV)."""
    middle, band = sma(source, n), k * _indicator("stddev", n, source)
    return Bollinger(cast(Line, middle + band), middle, cast(Line, middle - band))


def line(*names: str, version: str | None = None) -> Callable[[Callable[..., Any]], CustomLine]:
    """Turn a function ``f(bars, *values)`` into a line.

    Parameters
    ----------
    *names : str
        Names of the function's parameters after ``bars``.
    version : str, optional
        Names what the function computes; change it whenever that changes.  Code cannot be compared reliably, so results of
        lines without a version are not kept in a store.

    The function returns one number per bar.  A Series must have the bars' times as index, or 0, 1, 2, ...

    Returns
    -------
    Decorator.  The decorated function is called with a value, a parameter or a line per name, and gives a line;
    a name that is left out becomes ``bt.param(name)``.

    Examples
    --------
    >>> import backtest as bt
    >>> @bt.line("n", version="1")
    ... def momentum(bars, n):
    ...     result = bars.close / bars.close[0]
    ...     result[:n] = float("nan")
    ...     return result
    >>> momentum(20) > 1.0
    momentum(20) > 1
    """
    for name in names:
        if callable(name):
            raise InputError(
                "line must be given the names of the parameters after bars, as in @bt.line('n'), or called without "
                f"any, @bt.line(), got the function {_name(name)}"
            )
        Param(name)  # refuses what is not a name
    if version is not None and not (isinstance(version, str) and version):
        raise InputError(f'version must be text, such as "1", got {shown(version)}')

    def decorate(function: Callable[..., Any]) -> CustomLine:
        try:
            expected = list(inspect.signature(function).parameters)[1:]
        except (TypeError, ValueError):  # no function, or a C function without a signature
            raise InputError(
                f"line must decorate a function f(bars, ...) that knows its parameters, got {shown(function)}"
            ) from None
        if expected != list(names):
            raise InputError(
                f"line names must match {_name(function)}'s parameters after bars ({', '.join(expected)}), got {', '.join(names)}"
            )
        return CustomLine(function, names, version)

    return decorate


class CustomLine:
    """A user's function as a line; made by :func:`line`."""

    def __init__(self, function: Callable[..., Any], names: tuple[str, ...], version: str | None) -> None:
        self.function, self.names, self.version = function, names, version
        functools.update_wrapper(self, function)
        self.name = _name(function)
        self._path = getattr(function, "__module__", "?"), getattr(function, "__qualname__", self.name)

    def __call__(self, *values: Any, **named: Any) -> Line:
        """The line at these values, parameters or lines; a name that is left out becomes a parameter."""
        if len(values) > len(self.names):
            raise InputError(f"{self.name} takes {len(self.names)} values ({', '.join(self.names)}), got {len(values)}")
        given = dict(zip(self.names, values, strict=False))
        for name in named:
            choice(f"parameter of {self.name}", name, [each for each in self.names if each not in given])
        args = tuple(_operand(name, (given | named).get(name, param(name))) for name in self.names)
        return Custom(self, args)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Module, name and version; without a version the function object, since code cannot be compared reliably."""
        return *self._path, self.version or id(self.function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CustomLine) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self._path[1]  # pickled by its name in the module, as functions are


class Custom(Source):
    """A user's function applied to numbers, parameters and lines."""

    __slots__ = ()

    def __init__(self, function: CustomLine, args: tuple[Any, ...]) -> None:
        types = tuple(type(arg).__name__ for arg in args)  # the function may treat 5 and 5.0 differently
        super().__init__("custom", (function, *args), identity=types)

    @property
    def function(self) -> CustomLine:
        """The decorated function."""
        return cast(CustomLine, self.args[0])

    def compute(self, memo: LineMemo, params: Mapping[str, Any]) -> Array:
        """The function's result for the bars, checked."""
        name, bars, at = self.function.name, memo.bars, shown_params(self, params)
        values = [memo.value(arg, params) for arg in self.args[1:]]
        try:
            given = self.function.function(bars, *values)
            result = np.array(given, dtype=np.float64, order="C")
        except Exception as error:
            raise ObjectiveError(f"line {name!r} failed at {at}: {said(error)}", dict(params)) from error
        try:
            check_beside(bars, {"result": given})
        except InputError as error:
            raise ObjectiveError(f"line {name!r} at {at}: {error}", dict(params)) from error
        if result.shape != bars.close.shape:
            raise ObjectiveError(
                f"line {shown(name)} must have one value per bar ({len(bars)}), got shape {result.shape} at {at}", dict(params)
            )
        return result

    def warm_up(self, memo: LineMemo, combinations: Combinations) -> int:
        """Counted on the values of every combination."""
        return max((memo.entry(self, params)[1] for params in combinations(self)), default=0)

    def __repr__(self) -> str:
        return f"{self.args[0]!r}({', '.join(map(text, self.args[1:]))})"


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))  # an object with __call__ has none of its own


def _operand(name: str, value: Any) -> Any:
    if isinstance(value, Value):
        return value
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        number(name, value, infinite=True)  # refuses integers too large for a float
        return value
    raise InputError(f"{name} must be a number, a parameter or a line, got {shown(value)}")


def _indicator(name: str, n: Any, *source: Any) -> Line:
    """An indicator of a line; without a line, of the bars' prices."""
    definition = INDICATORS[name]
    for each in source:
        if not isinstance(each, Value):
            raise InputError(f"source must be a line, got {shown(each)}")
    window = n if isinstance(n, Value) else whole_window(n, definition)
    return Indicator(name, (*source, window), definition)


def _atr(bars: Bars, source: Array, n: int) -> Array:
    return talib_function("ATR")(bars.high, bars.low, bars.close, timeperiod=n)


def _previous(bars: Bars, source: Array, n: int) -> Array:
    result = np.full_like(source, np.nan)
    result[n:] = source[:-n]
    return result


#: Every indicator: how it is computed, and how many bars it needs.
INDICATORS = {
    "sma": IndicatorDefinition("SMA", -1),
    "ema": IndicatorDefinition("EMA", -1),
    "highest": IndicatorDefinition("MAX", -1),
    "lowest": IndicatorDefinition("MIN", -1),
    "stddev": IndicatorDefinition("STDDEV", -1, smallest=2),
    "rsi": IndicatorDefinition("RSI", 0, smallest=2),
    "atr": IndicatorDefinition(_atr, 0),
    "previous": IndicatorDefinition(_previous, 0, largest=MOST_BARS),
}

"""Lines: prices and indicators, one number per bar, computed once per distinct parameter value.

Indicators come from TA-Lib.  A line is NaN only in a leading warm-up; NaN later is an error.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from backtest._checks import DataError, InputError, ObjectiveError, choice, number
from backtest._said import said, shown
from backtest.bars import Bars
from backtest.expr import Line, Node, Param, Value, param
from backtest.labels import check_beside

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
#: Parameter values that a node has to be looked at with.
Combinations = Callable[[Node], Iterable[dict[str, Any]]]

open = Line("open", ())  # the field's name; the builtin is not used here
high = Line("high", ())
low = Line("low", ())
close = Line("close", ())
volume = Line("volume", ())

#: Combinations of a window's own parameters that the search for the longest warm-up will try.
MAX_WARM_UP_TRIALS = 100_000
#: Windows: TA-Lib's functions refuse longer ones; and numbers of bars that a float holds.
TALIB_LONGEST, MOST_BARS = 100_000, 2**53


def __dir__() -> list[str]:
    return __all__


def sma(source: Value, n: Value | int) -> Line:
    """Simple moving average of the last ``n`` values; first value on the ``n``-th (TA-Lib SMA)."""
    return _windowed("sma", source, n)


def ema(source: Value, n: Value | int) -> Line:
    """Exponential moving average, weight 2 / (n + 1), seeded with the mean of the first ``n`` values (TA-Lib EMA)."""
    return _windowed("ema", source, n)


def rsi(source: Value, n: Value | int = 14) -> Line:
    """Relative strength index, 0 to 100, in Wilder's smoothing (weight 1 / n); first value after ``n`` changes.

    TA-Lib's RSI, which is 0 where nothing changed for long.
    """
    return _windowed("rsi", source, n)


def atr(n: Value | int = 14) -> Line:
    """Average true range in Wilder's smoothing (weight 1 / n); first value on bar ``n`` (TA-Lib ATR)."""
    return Line("atr", (_window("atr", n),))


def highest(source: Value, n: Value | int) -> Line:
    """Highest of the last ``n`` values, this bar's included (TA-Lib MAX)."""
    return _windowed("highest", source, n)


def lowest(source: Value, n: Value | int) -> Line:
    """Lowest of the last ``n`` values, this bar's included (TA-Lib MIN)."""
    return _windowed("lowest", source, n)


def previous(source: Value, n: Value | int = 1) -> Line:
    """The value ``n`` bars ago."""
    return _windowed("previous", source, n)


class Bollinger(NamedTuple):
    """The three lines of Bollinger bands."""

    upper: Line
    middle: Line
    lower: Line


def bollinger(source: Value, n: Value | int = 20, k: Value | float = 2.0) -> Bollinger:
    """Bollinger bands: simple moving average, and ``k`` population standard deviations around it (TA-Lib SMA, STDDEV)."""
    middle, band = sma(source, n), k * _windowed("stddev", source, n)
    return Bollinger(cast(Line, middle + band), middle, cast(Line, middle - band))


def line(*names: str, version: str | None = None) -> Callable[[Callable[..., Any]], CustomLine]:
    """Turn a function ``f(bars, *values)`` into a line.

    Parameters
    ----------
    *names : str
        Names of the function's parameters after ``bars``.
    version : str, optional
        Name of the function's content.  Python code has none that can be trusted, so results of unversioned lines
        are never kept in a durable store.

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
        except (TypeError, ValueError):  # no function, or one that is written in C and does not say
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
        return Line("custom", (self, *args), identity=tuple(type(arg).__name__ for arg in args))  # 5 and 5.0 may differ to it

    @property
    def identity(self) -> tuple[Any, ...]:
        """Versioned code is named by its version; without one, only this very function object is known to be itself."""
        return *self._path, self.version or id(self.function)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CustomLine) and self.identity == other.identity

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str:
        return self._path[1]  # found again by name in its module, as functions are


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))  # an object with __call__ has none of its own


def _operand(name: str, value: Any) -> Any:
    if isinstance(value, Value):
        return value
    if isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool):
        number(name, value, infinite=True)  # nothing beyond float
        return value
    raise InputError(f"{name} must be a number, a parameter or a line, got {shown(value)}")


def _window(op: str, n: Any) -> Any:
    if isinstance(n, Value):
        return n
    return _whole_window(n, op)


def _whole_window(n: Any, op: str, node: Node | None = None) -> int:
    """A window of an indicator as a number; the node, if there is one, is for complaints."""
    least, most = (1, MOST_BARS) if op == "previous" else (1, TALIB_LONGEST)
    name = f"window{'' if node is None else f' of {node!r}'}"
    is_number = isinstance(n, (int, float, np.integer, np.floating)) and not isinstance(n, bool)
    if not is_number or not least <= n < math.inf or n != int(n):
        near = '; a range of whole numbers has "step": 1, or is range(low, high + 1)' if isinstance(n, float) and n > 1 else ""
        raise InputError(f"{name} must be a whole number >= {least}, got {shown(n)}{near}")
    if n > most:
        raise InputError(f"{name} must be <= {most:,}, got {shown(n)}" + ("" if op == "previous" else "; TA-Lib takes no more"))
    return int(n)


def _windowed(op: str, source: Any, n: Any) -> Line:
    if not isinstance(source, Value):
        raise InputError(f"source must be a line, got {shown(source)}")
    return Line(op, (source, _window(op, n)))


class _Indicator(NamedTuple):
    """How a windowed line is computed, how many bars it needs before its first value, and its smallest window."""

    compute: Callable[[Bars, Array, int], Array]
    lookback: Callable[[int], int]
    smallest: int = 1


@functools.cache
def _talib(name: str) -> Callable[..., Array]:
    import talib  # imports pandas, so it waits for the first line

    return cast(Callable[..., Array], getattr(talib, name))


def _rolling(name: str) -> Callable[[Bars, Array, int], Array]:
    # TA-Lib refuses windows of 1, for which mean, maximum and minimum are the value itself.
    return lambda bars, x, n: x.copy() if n == 1 else _talib(name)(x, timeperiod=n)


def _shifted(bars: Bars, x: Array, n: int) -> Array:
    result = np.full_like(x, np.nan)
    result[n:] = x[:-n]
    return result


_INDICATORS = {
    "sma": _Indicator(_rolling("SMA"), lambda n: n - 1),
    "ema": _Indicator(_rolling("EMA"), lambda n: n - 1),
    "highest": _Indicator(_rolling("MAX"), lambda n: n - 1),
    "lowest": _Indicator(_rolling("MIN"), lambda n: n - 1),
    "stddev": _Indicator(lambda bars, x, n: _talib("STDDEV")(x, timeperiod=n, nbdev=1.0), lambda n: n - 1, 2),
    "rsi": _Indicator(lambda bars, x, n: _talib("RSI")(x, timeperiod=n), lambda n: n, 2),
    "atr": _Indicator(lambda bars, x, n: _talib("ATR")(bars.high, bars.low, bars.close, timeperiod=n), lambda n: n),
    "previous": _Indicator(_shifted, lambda n: n),
}
_PRICES = ("open", "high", "low", "close", "volume")
_ARITHMETIC: dict[str, Any] = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}


class WarmUpUnknown(InputError):
    """The longest warm-up of a space takes too many combinations to find; a start that is given needs none."""


class LineMemo:
    """Values of lines over one set of bars, each computed once per distinct parameter value while memory lasts.

    Parameters
    ----------
    bars : Bars
    max_bytes : int
        Bound of what is remembered; the least recently used goes first.
    """

    def __init__(self, bars: Bars, max_bytes: int) -> None:
        self.bars = bars
        self._memo: LRUCache[Any, tuple[Array, int]] = LRUCache(max_bytes, getsizeof=lambda entry: entry[0].nbytes)
        self._lock = threading.RLock()

    def value(self, node: Value | float, params: Mapping[str, Any]) -> Array | float | None:
        """The node's values, shape (n_bars,); a number where the node does not depend on bars; None where a parameter is."""
        return self.entry(node, params)[0]

    def entry(self, node: Value | float, params: Mapping[str, Any]) -> tuple[Array | float | None, int]:
        """The node's values as in :meth:`value`, and the length of their warm-up (leading NaN)."""
        if not isinstance(node, Node):
            return node, 0
        if isinstance(node, Param):
            return params[node.name], 0
        if node.op in _PRICES:
            return self._price(node.op), 0
        key = memo_key(node, params)
        with self._lock:
            known = self._memo.get(key)
        if known is not None:
            return known
        result = self._compute(node, params)
        if not isinstance(result, np.ndarray):
            return result, 0
        known = result, warm_up(result, node, params)
        result.flags.writeable = False
        if result.nbytes <= self._memo.maxsize:
            with self._lock:
                self._memo[key] = known
        return known

    def _price(self, name: str) -> Array:
        array = getattr(self.bars, name)
        if array is None:
            raise DataError(f"bars must have a {name} column for the line {shown(name)}, got none")
        return cast(Array, array)

    def _compute(self, node: Node, params: Mapping[str, Any]) -> Array | float | None:
        if node.op == "custom":
            return self._custom(node, params)
        entries = [self.entry(arg, params) for arg in node.args]
        args = [value for value, _ in entries]
        if [arg for arg in args if arg is None]:
            if node.op in _ARITHMETIC:
                return None
            raise InputError(f"{node!r} must have numbers for its parameters, got {_settings(node, params)}")
        if node.op in _ARITHMETIC:
            if any(isinstance(arg, str) for arg in args):
                raise InputError(f"{node!r} must have numbers for its parameters, got {_settings(node, params)}")
            with np.errstate(all="ignore"):  # infinities are values; a NaN is refused with its row
                result = functools.reduce(_ARITHMETIC[node.op], args)
            return result if isinstance(result, np.ndarray) else float(cast(float, result))
        indicator = _INDICATORS[node.op]
        source, first = entries[0] if len(args) == 2 else (self.bars.close, 0)
        if not isinstance(source, np.ndarray):
            raise InputError(f"source of {node!r} must be a line, got {shown(source)}")
        n = _whole_window(args[-1], node.op, node)
        if n < indicator.smallest:
            raise InputError(f"window of {node!r} must be >= {indicator.smallest}, got {n}")
        if first + indicator.lookback(n) >= len(source):
            return np.full(len(source), np.nan)
        return np.ascontiguousarray(indicator.compute(self.bars, source, n))

    def _custom(self, node: Node, params: Mapping[str, Any]) -> Array:
        custom, settings = node.args[0], _settings(node, params)
        values = [self.value(arg, params) for arg in node.args[1:]]
        try:
            given = custom.function(self.bars, *values)
            result = np.array(given, dtype=np.float64, order="C")
        except Exception as error:
            raise ObjectiveError(f"line {custom.name!r} failed at {settings}: {said(error)}", dict(params)) from error
        try:
            check_beside(self.bars, {"result": given})
        except InputError as error:
            raise ObjectiveError(f"line {custom.name!r} at {settings}: {error}", dict(params)) from error
        if result.shape != self.bars.close.shape:
            raise ObjectiveError(
                f"line {shown(custom.name)} must have one value per bar ({len(self.bars)}), "
                f"got shape {result.shape} at {settings}",
                dict(params),
            )
        return result

    def warm_up(self, node: Any, combinations: Combinations) -> int:
        """Longest warm-up of a line over all combinations of its own parameters' values."""
        if not isinstance(node, Value) or isinstance(node, Param) or node.op in _PRICES:
            return 0
        if node.op in _ARITHMETIC:
            return max(self.warm_up(arg, combinations) for arg in node.args)
        if node.op == "custom":
            return max((self.entry(node, params)[1] for params in combinations(node)), default=0)
        window, before = node.args[-1], self.warm_up(node.args[0], combinations)
        lookback = _INDICATORS[node.op].lookback
        if not isinstance(window, Node):
            return before + lookback(window)
        # Lookbacks grow with the window, so the largest one decides.
        windows = [self.value(cast(Value, window), params) for params in combinations(window)]
        return before + lookback(max((_whole_window(n, node.op, node) for n in windows if n is not None), default=1))


def memo_key(node: Node, params: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a node's values depend on: its structure, with the values (and their types) of the parameters below it.

    Not their names: ``sma(close, fast)`` at 20 is ``sma(close, slow)`` at 20.
    """
    parts: list[Any] = [*node.key[:2]]
    for arg in node.args:
        if isinstance(arg, Param):
            parts.append((params[arg.name].__class__, params[arg.name]))
        else:
            parts.append(memo_key(arg, params) if isinstance(arg, Node) else arg)
    return tuple(parts)


def warm_up(values: Array, node: Node, params: Mapping[str, Any]) -> int:
    """Number of leading NaN; a NaN after the first value is an error that names line, parameters and row."""
    missing = np.isnan(values)
    n_missing = int(np.count_nonzero(missing))
    first = n_missing if n_missing in (0, len(values)) else int(missing.argmin())
    if n_missing != first:
        row = first + int(missing[first:].argmax())
        raise DataError(f"line {node!r} must be NaN only in its warm-up, got NaN (row {row}) at {_settings(node, params)}")
    return first


def _settings(node: Node, params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {shown(params[name])}" for name in node.params) or "no parameters"


def all_combinations(choices: Mapping[str, Sequence[Any]]) -> Combinations:
    """Every combination of the values of a node's parameters."""

    def combinations(node: Node) -> Iterable[dict[str, Any]]:
        lists = [choices[name] for name in node.params]
        if math.prod(map(len, lists)) > MAX_WARM_UP_TRIALS:
            raise WarmUpUnknown(
                f"the longest warm-up of {node!r} needs more than {MAX_WARM_UP_TRIALS:,} combinations of its "
                "parameters; give Execution(start=...)"
            )
        return (dict(zip(node.params, values, strict=True)) for values in itertools.product(*lists))

    return combinations

"""What a strategy's function must not contain, and what to write instead."""

from __future__ import annotations

import ast

from backtest._checks import did_you_mean
from backtest._errors import StrategyError
from backtest._said import shown

#: By class of syntax: what must not be used, and what to write instead.
STATEMENTS: dict[type[ast.AST], tuple[str, str]] = {
    ast.While: ("while", "a loop must be for name in range(constant), which is unrolled"),
    ast.Try: ("try", "nothing in a strategy raises: x / 0 is infinite or NaN; write an if"),
    ast.TryStar: ("try", "nothing in a strategy raises: x / 0 is infinite or NaN; write an if"),
    ast.Raise: ("raise", "a strategy runs for thousands of candidates at once; write return"),
    ast.Assert: ("assert", "a strategy runs for thousands of candidates at once; bt.step_through shows every bar"),
    ast.With: ("with", "only numbers, the bar, the account, the state and parameters can be used"),
    ast.Match: ("match", "write if and elif"),
    ast.FunctionDef: ("an inner def", "define the helper outside the function, above it"),
    ast.AsyncFunctionDef: ("async def", "define a plain helper outside the function"),
    ast.ClassDef: ("class", "only numbers, the bar, the account, the state and parameters can be used"),
    ast.Import: ("import", "import at the top of the module"),
    ast.ImportFrom: ("import", "import at the top of the module"),
    ast.Global: ("global", 'what lasts from bar to bar is state: state={"name": 0.0}'),
    ast.Nonlocal: ("nonlocal", 'what lasts from bar to bar is state: state={"name": 0.0}'),
    ast.Delete: ("del", "a name may simply be assigned again"),
    ast.AsyncFor: ("async for", "a loop must be for name in range(constant), which is unrolled"),
    ast.AsyncWith: ("async with", "only numbers, the bar, the account, the state and parameters can be used"),
}
_LIST = "keep numbers in state, and look back with bar.previous(k) or with a line"
_TEXT = "only numbers and booleans can be used; print(...) may show text in bt.step_through"
EXPRESSIONS: dict[type[ast.AST], tuple[str, str]] = {
    ast.Subscript: ("[...]", "bar.previous(k).close is the close k bars ago; other series are lines"),
    ast.Slice: ("[...]", "bar.previous(k).close is the close k bars ago; other series are lines"),
    ast.List: ("a list", _LIST),
    ast.Tuple: ("a tuple", _LIST),
    ast.Dict: ("a dict", _LIST),
    ast.Set: ("a set", _LIST),
    ast.ListComp: ("a comprehension", "write for name in range(constant)"),
    ast.SetComp: ("a comprehension", "write for name in range(constant)"),
    ast.DictComp: ("a comprehension", "write for name in range(constant)"),
    ast.GeneratorExp: ("a generator", "write for name in range(constant)"),
    ast.JoinedStr: ("an f-string", _TEXT),
    ast.Lambda: ("lambda", "define a helper function outside, above the strategy"),
    ast.NamedExpr: (":=", "assign on a line of its own"),
    ast.Await: ("await", "only numbers, the bar, the account, the state and parameters can be used"),
    ast.Yield: ("yield", "orders are placed by account.buy and account.sell; what lasts is state"),
    ast.YieldFrom: ("yield", "orders are placed by account.buy and account.sell; what lasts is state"),
    ast.Starred: ("*", "write the arguments one by one"),
}
OPERATORS: dict[type[ast.AST], tuple[str, str]] = {
    ast.FloorDiv: ("//", "write / ; bt.Execution(whole_units=True) rounds the units of orders, and state counts whole numbers"),
    ast.Mod: ("%", "count bars in state and start again at the limit"),
    ast.Pow: ("**", "write x * x, or math.sqrt(x); powers of prices belong into a line (@bt.line)"),
    ast.MatMult: ("@", "write + - * /"),
    ast.LShift: ("<<", "write + - * /"),
    ast.RShift: (">>", "write + - * /"),
    ast.BitAnd: ("& between numbers", "write and"),
    ast.BitOr: ("| between numbers", "write or"),
    ast.BitXor: ("^ between numbers", "write !="),
    ast.Invert: ("~", "write not"),
    ast.Is: ("is", "write =="),
    ast.IsNot: ("is not", "write !="),
    ast.In: ("in", "write a == x or b == x"),
    ast.NotIn: ("not in", "write a != x and b != x"),
}
_WHOLE = (
    "all numbers are float64; bt.Execution(whole_units=True) rounds the units of orders, state counts whole numbers, and a line "
    "(@bt.line) may round"
)
_LINE = "compute it in a line (@bt.line), which is shared between candidates"
FUNCTIONS: dict[str, str] = {
    "round": _WHOLE,
    "int": _WHOLE,
    "floor": _WHOLE,
    "ceil": _WHOLE,
    "trunc": _WHOLE,
    "pow": "write x * x",
    "sqrt": "write math.sqrt",
    "sum": "write a + b + c",
    "len": _LIST,
    "any": "write or",
    "all": "write and",
    "isnan": "write x != x",
    "isfinite": "write x - x == 0",
    "isinf": "write abs(x) == math.inf",
    "fabs": "write abs",
    "minimum": "write min",
    "maximum": "write max",
    "absolute": "write abs",
    "where": "write a if condition else b",
    "print": "it must stand on a line of its own",
    "range": "it may only stand in for name in range(constant)",
    "exp": _LINE,
    "log": _LINE,
    "log10": _LINE,
    "log2": _LINE,
    "sin": _LINE,
    "cos": _LINE,
    "tanh": _LINE,
    "getattr": "write the name: account.equity",
    "setattr": "write the name: state.mark = ...",
    "random": "random numbers belong into a line (@bt.line) with a seed",
}
#: Names that people bring along from other tools, and what they are here.
ELSEWHERE: dict[str, str] = {
    "position": "units",
    "size": "units",
    "pnl": "profit",
    "pl": "profit",
    "entry": "entry_price",
    "balance": "cash",
    "value": "equity",
    "stop": "stop_loss",
    "target": "take_profit",
    "sl": "stop_loss",
    "tp": "take_profit",
    "in_position": "is_long or is_short",
    "n_bars": "bars_held",
}
#: Names that people bring along from other tools and that are nothing here: what to write.
NAMES: dict[str, str] = {
    "position": "account.close() closes the position, account.units is its size and account.is_flat tells that there is none",
    "self": "a strategy is a function without self: bar.close, account.buy(...), state.name and p.name",
    "data": "bar.close is the close of this bar, bar.previous(1).close that of the bar before",
    **dict.fromkeys(("order", "orders"), "account.cancel() cancels every resting order; an order gives nothing back"),
    **dict.fromkeys(
        ("trade", "trades"),
        "account.entry_price, account.profit and account.units are of the open position; account.close() closes it",
    ),
    **{name: f"write account.{name}(...)" for name in ("buy", "sell", "cancel")},
    **{name: f"write bar.{name}" for name in ("high", "low", "close", "volume", "index")},
    **{name: f"write account.{name}" for name in ("equity", "cash", "units", "entry_price")},
}
#: Arguments of orders that other tools have: what to write.
ARGUMENTS: dict[str, str] = {
    "sl": "stop_loss=",
    "tp": "take_profit=",
    "target": "take_profit=",
    **dict.fromkeys(("trail", "trailing", "trailing_sl"), "trailing_stop="),
    **dict.fromkeys(
        ("size", "qty", "quantity", "amount", "volume", "lots"),
        "units= (how many), share= (a part of the equity) or value= (money)",
    ),
    **dict.fromkeys(("percent", "pct", "fraction", "weight"), "share= (a part of the equity: 0.5 for 50 %)"),
    "price": "limit= or stop=, without which an order fills at the market",
}
_TIME = (
    "the time of a bar is a line: @bt.line() above def {0}(bars): return bars.times().{1}, then @bt.on_bar({2}={0}()) and bar.{2}"
)
#: Names of a bar that people expect, and how to get them.
OF_BAR: dict[str, str] = {
    **dict.fromkeys(
        ("next", "next_bar", "next_open", "following", "future", "tomorrow"),
        "what comes after this bar is not known when it is decided; bar.previous(1) is the bar before",
    ),
    **{each: _TIME.format(f"{each}_of", each, each) for each in ("hour", "minute", "day", "month", "year", "dayofweek")},
    "weekday": _TIME.format("weekday_of", "day_of_week", "weekday"),
    **dict.fromkeys(("time", "date", "datetime", "timestamp"), _TIME.format("weekday_of", "day_of_week", "weekday")),
}


class Place:
    """Where in the text something is, for messages."""

    __slots__ = ("_node", "file", "function", "line")

    def __init__(self, function: str, file: str, line: int, node: ast.AST) -> None:
        self.function, self.file, self.line, self._node = function, file, line, node

    @property
    def text(self) -> str:
        """The source there, as Python writes it."""
        return shown_code(ast.unparse(self._node))

    def error(self, rule: str) -> StrategyError:
        """The error of this place."""
        return StrategyError(f"{self.function} ({self.file}:{self.line}) {rule}", self.file, self.line)

    def use_error(self, what: str, remedy: str) -> StrategyError:
        """The error about something that a strategy must not contain."""
        return self.error(f"must not use {what}, got {self.text}; {remedy}")


def shown_code(text: str) -> str:
    """The first line of a source text, shortened."""
    text = " ".join(text.splitlines()[0].split()) if text else text
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(word: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` for a name that is not known, by likeness or because other tools call it so."""
    if ELSEWHERE.get(word) is not None and set(ELSEWHERE[word].split(" or ")) <= set(known):
        return f"; did you mean {ELSEWHERE[word]!r}?"
    return did_you_mean(word, known)


def named(value: object) -> str:
    """A value that is no number, for a message."""
    return getattr(value, "__name__", None) or shown(value)

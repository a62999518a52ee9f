"""``bt.on_bar``: a Python function that lives through every bar becomes a strategy."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np

from backtest._checks import Frozen, InputError, NumericsWarning, caller_level, did_you_mean, number
from backtest._said import shown
from backtest.expr import REQUIRED, Condition, Node, Value, merged_params
from backtest.machine.frozen import changed_text, changes, numbers_read
from backtest.machine.program import Program

if TYPE_CHECKING:
    from backtest.lines import CustomLine
    from backtest.machine.walk import Call

#: Names of a bar that lines cannot have.
RESERVED = ("open", "high", "low", "close", "volume", "index", "previous", "time")


class BarStrategy(Frozen):
    """A strategy that decides bar by bar; made by :func:`on_bar`.

    Attributes
    ----------
    name : str
        The function's name.
    params : dict
        Parameters by name, of the lines and of the function, each with its default or ``REQUIRED``.
    lines : dict of str to Node
        What ``bar.name`` is beside prices.
    states : dict of str to float or bool
        Start values of ``state.name``.
    state_names : tuple of str
        Those that can have an effect, in the order of the program: numbers and booleans each.
    key : tuple
        What it computes, hashable: equal for functions that compute the same, however they are written; neither names of
        functions and variables nor line numbers are part of it.
    calls : tuple of Call
        The call of each action of the program: its text, file, line and function.
    value_names : tuple of str
        The parameter in each column of a block's values.
    line_nodes, mask_nodes : tuple of Node
        The line in each column of a block's line rows, and the condition in each column of its mask rows.
    """

    __slots__ = (
        "__dict__",  # what is shown as the function's own: ``__wrapped__`` and ``__doc__``
        "_program",
        "calls",
        "key",
        "line_nodes",
        "lines",
        "mask_nodes",
        "name",
        "params",
        "path",
        "state_names",
        "states",
        "value_names",
    )

    name: str
    params: dict[str, Any]
    lines: dict[str, Node]
    states: dict[str, float | bool]
    key: tuple[Any, ...]
    calls: tuple[Call, ...]
    value_names: tuple[str, ...]
    line_nodes: tuple[Value, ...]
    mask_nodes: tuple[Condition, ...]
    path: tuple[str, str]
    state_names: tuple[str, ...]
    _program: Program

    def __init__(
        self, function: Callable[..., None], lines: Mapping[str, Any], state: Mapping[str, Any], params: Mapping[str, Any]
    ) -> None:
        from backtest.machine.compile import compiled

        self.lines, self.states, defaults = _checked_lines(lines), _checked_state(state), _checked_defaults(params)
        found = compiled(function, self.lines, self.states)
        self.name, self.path = found.function.__name__, (found.function.__module__, found.function.__qualname__)
        self._program, self.calls, self.value_names = found.program, found.calls, found.value_names
        self.line_nodes, self.mask_nodes = found.line_nodes, found.mask_nodes
        self.state_names = found.state_names
        self.params = _all_params(self.name, self.lines.values(), found.params_read, defaults)
        self.key = found.key(self.params)
        vars(self).update(
            __wrapped__=found.function, __doc__=found.function.__doc__, _numbers=numbers_read(cast(FunctionType, found.function))
        )

    def __repr__(self) -> str:
        given = [name if default is REQUIRED else f"{name} (default {default!r})" for name, default in self.params.items()]
        return f"BarStrategy({self.name}: {', '.join(given)})" if given else f"BarStrategy({self.name})"

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Refused: a strategy is run by the doors."""
        raise InputError(
            f"{self.name} must be run by bt.run, bt.optimize or bt.step_through, got a call; a helper has no decorator"
        )

    @property
    def function(self) -> Callable[..., None]:
        """The function itself.

        Raises
        ------
        InputError
            The strategy was unpickled where its module cannot be imported.
        """
        if "__wrapped__" not in vars(self):  # unpickled: it is where it was written
            module, qualname = self.path
            try:
                found: Any = importlib.import_module(module)
                for name in qualname.split("."):
                    found = getattr(found, name)
            except (ImportError, AttributeError):
                found = None
            if not isinstance(found, BarStrategy) or found.key != self.key:
                raise InputError(
                    f"the function of {self.name} must be importable here, got no {module}.{qualname} that is the same"
                )
            vars(self).update(vars(found))
        return cast(Callable[..., None], vars(self)["__wrapped__"])

    def changes(self) -> str:
        """Which numbers that the function reads from its module are others now, in words; empty where that is not known."""
        return changes(vars(self).get("_numbers", ()))

    def warn_if_changed(self) -> None:
        """Warn that numbers of the module are not those that were frozen when the function was decorated."""
        found = self.changes()
        if found:
            warnings.warn(changed_text(self.name, found), NumericsWarning, stacklevel=caller_level())

    @property
    def n_columns(self) -> None:
        """None: ready signals of several candidates are for rules."""
        return None

    def program(self) -> Program:
        """The register program."""
        return self._program

    def custom_lines(self) -> list[CustomLine]:
        """The ``@bt.line`` functions that the strategy uses, each once."""
        from backtest.lines import Custom

        functions: dict[CustomLine, None] = {}
        stack: list[Any] = [*self.line_nodes, *self.mask_nodes]
        while stack:
            node = stack.pop()
            if isinstance(node, Custom):
                functions[node.function] = None
            if isinstance(node, Node):
                stack += node.args
        return list(functions)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in super().__getstate__().items() if name != "__dict__"}


@overload
def on_bar(function: Callable[..., None], /) -> BarStrategy: ...


@overload
def on_bar(
    *,
    state: Mapping[str, float | bool] | None = None,
    params: Mapping[str, float | bool] | None = None,
    **lines: Value | Condition,
) -> Callable[[Callable[..., None]], BarStrategy]: ...


def on_bar(
    function: Callable[..., None] | None = None,
    /,
    *,
    state: Mapping[str, float | bool] | None = None,
    params: Mapping[str, float | bool] | None = None,
    **lines: Value | Condition,
) -> BarStrategy | Callable[[Callable[..., None]], BarStrategy]:
    """Turn a function ``f(bar, account, state, p)`` into a strategy that decides on every bar.

    The function is plain Python: ``if``, ``and or not``, comparisons, arithmetic, ``min max abs math.sqrt``, names, ``return``,
    ``for name in range(constant)`` and helper functions.  It is read once, when it is decorated, and runs for thousands of
    candidates at once; what cannot be is refused with its line and what to write instead.  All numbers are floats, and ``x / 0``
    is infinite or NaN.  Numbers and booleans of the module are frozen when it is decorated.

    Parameters
    ----------
    **lines : Line, Condition or parameter
        What the function reads as ``bar.name``, beside ``bar.open``, ``high``, ``low``, ``close``, ``volume`` and ``index``: a
        number, or True and False of a condition.  ``bar.previous(k)`` is the bar k bars ago.
    state : mapping of str to float or bool, optional
        What lasts from bar to bar, as ``state.name``, with its value before the first bar.
    params : mapping of str to float or bool, optional
        Defaults of parameters, which the function reads as ``p.name``; one without a default must be in the space, or in the
        ``params`` of :func:`backtest.run`.

    Returns
    -------
    BarStrategy
        For ``bt.run``, ``bt.evaluate``, ``bt.optimize`` and ``bt.step_through``.

    Raises
    ------
    StrategyError
        The function cannot be run for many candidates at once; the message names file and line, and says what to write.

    Examples
    --------
    In a file or a notebook, since the source is read::

        @bt.on_bar(fast=lines.sma(lines.close, bt.param("fast")), params={"cooldown": 24}, state={"stopped": False})
        def trend(bar, account, state, p):
            if account.last_exit_reason == bt.STOP and bar.index - account.last_exit_bar < p.cooldown:
                return
            if account.is_flat and bar.close > bar.fast:
                account.buy(share=1.0, stop_loss=bt.below_entry(0.03))
    """

    def decorate(function: Callable[..., None]) -> BarStrategy:
        return BarStrategy(function, lines, state or {}, params or {})

    return decorate if function is None else decorate(function)


def _checked_lines(lines: Mapping[str, Any]) -> dict[str, Node]:
    for name, node in lines.items():
        if name in RESERVED:
            raise InputError(f"a line must not be called {name}, which is the bar's own; give it another name")
        if not isinstance(node, Value | Condition):
            if isinstance(node, bool | int | float):
                remedy = "a number that stays the same is a name of the module, one that changes is state"
            else:
                remedy = "a function with @bt.line computes a line of values"
            raise InputError(f"{name} must be a line, a condition or a parameter, got {shown(node)}; {remedy}")
    return dict(lines)


def _checked_state(state: Any) -> dict[str, float | bool]:
    if not isinstance(state, Mapping):
        raise InputError(f'state must map names to start values, such as {{"mark": 0.0}}, got {shown(state)}')
    return {_identifier("state", name): _start(f"state {name!r}", value) for name, value in state.items()}


def _checked_defaults(params: Any) -> dict[str, float | bool]:
    if not isinstance(params, Mapping):
        raise InputError(f'params must map names to defaults, such as {{"cooldown": 24}}, got {shown(params)}')
    return {_identifier("params", name): _start(f"the default of {name!r}", value) for name, value in params.items()}


def _identifier(what: str, name: Any) -> str:
    if isinstance(name, str) and name.isidentifier():
        return name
    raise InputError(f"{what} must have names that are identifiers, got {shown(name)}")


def _start(what: str, value: Any) -> float | bool:
    if isinstance(value, bool | np.bool_):
        return bool(value)
    return number(what, value, infinite=True)


def _all_params(name: str, nodes: Iterable[Node], read: Iterable[str], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of lines and function, each with its default."""
    params = merged_params(nodes)
    read = [*read]
    for each in defaults:
        if each not in read and each not in params:
            raise InputError(f"params must be parameters that {name} reads, got {each!r}{did_you_mean(each, [*read, *params])}")
    for each in [*read, *defaults]:
        default = defaults.get(each, params.get(each, REQUIRED))
        if params.setdefault(each, default) is not default and params[each] != default:
            got = "none" if params[each] is REQUIRED else repr(params[each])
            raise InputError(
                f"parameter {each!r} must have one default, got {default!r} in params and {got} in a line; "
                f"write bt.param({each!r}, {default!r})"
            )
    return params

"""What is known while a strategy's function is walked: names, state, the path that leads here, and how paths join.

A branch is walked with the names as they were before it; where paths join, a name that differs becomes a choice between its
values.  So every name is at every moment a node of the graph (or an object such as ``bar``), and no path is walked twice.
"""

from __future__ import annotations

import ast
import builtins
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from backtest.machine.graph import Graph
from backtest.machine.refusals import NAMES, Place, nearest
from backtest.machine.source import Source

#: Most operations of a strategy, and most functions called inside each other.
MAX_NODES, MAX_CALLS = 20_000, 50


class Bar(NamedTuple):
    """``bar``, or ``bar.previous(shift)``."""

    shift: int


class Account(NamedTuple):
    """``account``."""


class State(NamedTuple):
    """``state``."""


class Params(NamedTuple):
    """``p``."""


class Method(NamedTuple):
    """A name of ``bar`` or ``account`` that must be called."""

    owner: Bar | Account
    name: str


class Static(NamedTuple):
    """An object of the module: a function, a module, a class, None."""

    value: Any


class Level(NamedTuple):
    """A level relative to the entry, or a distance."""

    kind: str
    node: int


class Unusable(NamedTuple):
    """A name that cannot be used any more, and why."""

    why: str


#: What a name may stand for: a node's number, or an object.
Meaning = int | Bar | Account | State | Params | Method | Static | Level | Unusable
Names = dict[str, Meaning]
NOTHING = Static(None)


class Moment(NamedTuple):
    """Names, state and path at one place; ``live`` is None where nothing can get there."""

    names: Names
    state: dict[str, int]
    live: int | None
    value: Meaning = NOTHING


class Action(NamedTuple):
    """One call on the account; fields as in ``program.ACTION``, operands as nodes."""

    where: int
    fields: dict[str, int]
    operands: dict[str, int]


class Call(NamedTuple):
    """Where an action stands in the source.

    Attributes
    ----------
    text : str
        The call, on one line.
    file : str
    line : int
    function : str
    trail : tuple
        How it is reached: of each function on the way, the passes of the loops around a call, and the call's line and column.
    """

    text: str
    file: str
    line: int
    function: str
    trail: tuple[Any, ...]


class Frame:
    """One function while it is walked: the strategy's, or a helper's at one of its calls."""

    def __init__(self, function: types.FunctionType, source: Source, names: Names) -> None:
        self.function, self.source, self.names = function, source, names
        code = function.__code__
        self.local_names = {*code.co_varnames, *code.co_cellvars}
        self.returns: list[Moment] = []
        self.loops: list[tuple[list[Moment], list[Moment]]] = []  # breaks and continues of each loop around here

    def static(self, name: str) -> Any:
        """The value of a name of the module or of a function around.

        Raises
        ------
        LookupError
            There is none, or it has no value yet.
        """
        code = self.function.__code__
        if name in code.co_freevars:
            try:
                return (self.function.__closure__ or ())[code.co_freevars.index(name)].cell_contents
            except ValueError:  # assigned later
                raise LookupError(name) from None
        scope = self.function.__globals__
        if name in scope:
            return scope[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise LookupError(name)

    def known_names(self) -> list[str]:
        """Every name that could be meant here."""
        return [*self.names, *self.function.__code__.co_freevars, *self.function.__globals__]


class Walk:
    """The walk through one strategy.

    Parameters
    ----------
    numbers, masks, parameters : mapping of str
        What ``bar.name`` is beside prices: lines and conditions, each a column; parameters of the space, each a name.
    state : mapping of str to float or bool
        Start values.
    """

    def __init__(
        self,
        numbers: Mapping[str, int],
        masks: Mapping[str, int],
        parameters: Mapping[str, str],
        state: Mapping[str, float | bool],
    ) -> None:
        self.graph = Graph()
        self.numbers, self.masks, self.parameters = numbers, masks, parameters
        self.start = dict(state)
        kinds = {name: "flag_state" if isinstance(value, bool) else "state" for name, value in state.items()}
        self.states = {name: self.graph.leaf(kind, name) for name, kind in kinds.items()}
        self.state = dict(self.states)
        #: Every assignment to a state, in the order of the text: name, path and value.
        self.assigned: list[tuple[str, int, int]] = []
        self.live: int | None = self.graph.true
        self.frames: list[Frame] = []
        self.trail: list[Any] = []  # passes of loops and calls of helpers that are being walked, see Call
        self.actions: list[Action] = []
        self.calls: list[Call] = []
        self.params: dict[str, None] = {}
        self.n_slots = 0
        #: Moments that left their path (return, break, continue) and have not joined another yet.
        self.n_away = 0
        #: Helpers that were read.
        self.sources: dict[types.CodeType, Source] = {}
        #: Walks a helper function in place of its call.
        self.inline: Callable[[Walk, types.FunctionType, ast.Call], Meaning] | None = None

    @property
    def frame(self) -> Frame:
        """The function that is walked."""
        return self.frames[-1]

    def place(self, node: ast.AST) -> Place:
        """Where a node of the syntax stands."""
        source = self.frame.source
        return Place(self.frame.function.__name__, source.file, getattr(node, "lineno", source.node.lineno) + source.offset, node)

    def is_dead(self) -> bool:
        """Nothing can get here."""
        return self.live is None

    def path(self) -> int:
        """The word that is true where the path leads here."""
        assert self.live is not None
        return self.live

    def trail_to(self, node: ast.Call) -> tuple[Any, ...]:
        """How a call in this function is reached."""
        return *self.trail, (node.lineno + self.frame.source.offset, node.col_offset)

    def moment(self, value: Meaning = NOTHING) -> Moment:
        """Names, state and path as they are here."""
        return Moment(dict(self.frame.names), dict(self.state), self.live, value)

    def go_to(self, moment: Moment) -> None:
        """Continue as it was there."""
        self.frame.names, self.state, self.live = dict(moment.names), dict(moment.state), moment.live

    def lookup(self, node: ast.Name) -> Meaning:
        """What a name stands for."""
        name, frame = node.id, self.frame
        meaning = frame.names.get(name)
        if meaning is None:
            if name in frame.local_names:
                raise self.place(node).error(f"must assign {name!r} before it is used")
            try:
                value = frame.static(name)
            except LookupError:
                remedy = f"; {NAMES[name]}" if name in NAMES else nearest(name, frame.known_names())
                raise self.place(node).error(
                    f"must know its names when it is decorated, got {name!r}, which is not defined above it{remedy}"
                ) from None
            return self.static(value, node)
        if isinstance(meaning, Unusable):
            raise self.place(node).error(meaning.why.format(name=repr(name)))
        return meaning

    def static(self, value: Any, node: ast.AST) -> Meaning:
        """An object of the module: a number or a boolean as a constant, frozen now."""
        if type(value).__name__ in ("bool", "bool_"):  # Python's, and NumPy's by release
            return self.graph.truth(bool(value))
        if isinstance(value, int | float) or _is_numpy_number(value):
            if isinstance(value, int) and abs(value) > 2**53:
                raise self.place(node).error(f"must use whole numbers up to 2**53, got {self.place(node).text}; write a float")
            return self.graph.constant(float(value))
        return Static(value)

    def branch(
        self, condition: int, then: Callable[[], Meaning], otherwise: Callable[[], Meaning], node: ast.AST | None = None
    ) -> Meaning:
        """Walk both ways and join them; one way only where the condition is known.  Both give a value, which is joined too."""
        known = self.graph.known(condition)
        if known is not None:
            return then() if known else otherwise()
        before, n_away = self.moment(), self.n_away
        assert before.live is not None
        self.live = self.graph.all_of(before.live, condition)
        one = self.moment(then())
        self.go_to(before)
        self.live = self.graph.without(before.live, condition)
        other = self.moment(otherwise())
        if one.live is None or other.live is None:
            self.go_to(other if one.live is None else one)
            return (other if one.live is None else one).value
        self.frame.names, self.state = self._joined(condition, one, other)
        self.live = before.live if self.n_away == n_away else self.graph.add("OR", one.live, other.live)
        return self.join(condition, one.value, other.value)

    def merge(self, away: list[Moment], path: int, n_away: int) -> Meaning:
        """Join moments that left their path here; returns their value, of all that gets here.

        ``path`` and ``n_away`` are what was true before any of them left.
        """
        self.n_away -= len(away)
        here = self.moment()
        if here.live is None and away:
            here = away[-1]
            away = away[:-1]
        for moment in away:
            assert moment.live is not None
            assert here.live is not None
            names, state = self._joined(moment.live, moment, here)
            value = self.join(moment.live, moment.value, here.value)
            here = Moment(names, state, self.graph.add("OR", moment.live, here.live), value)
        if here.live is not None and self.n_away == n_away:  # all of them are here again
            here = here._replace(live=path)
        self.go_to(here)
        return here.value

    def join(self, condition: int, a: Meaning, b: Meaning) -> Meaning:
        """One meaning where the condition is true, another where it is not."""
        if type(a) is type(b) and (a.value is b.value if isinstance(a, Static) and isinstance(b, Static) else a == b):
            return a
        if isinstance(a, Unusable) or isinstance(b, Unusable):
            return a if isinstance(a, Unusable) else b
        if isinstance(a, Level) and isinstance(b, Level) and a.kind == b.kind:
            return Level(a.kind, self.graph.choice(condition, a.node, b.node))
        if isinstance(a, int) and isinstance(b, int):
            if self.graph.is_word[a] == self.graph.is_word[b]:
                return self.graph.choice(condition, a, b)
            return Unusable("must give {name} one kind of value, got a number on one path and a boolean on another")
        return Unusable("must give {name} one kind of value, got two on two paths; write the whole call in an if and its else")

    def _joined(self, condition: int, one: Moment, other: Moment) -> tuple[Names, dict[str, int]]:
        """Names and state of two moments."""
        names: Names = {}
        for name in {**one.names, **other.names}:  # in an order that is the same in every process
            a, b = one.names.get(name), other.names.get(name)
            if a is None or b is None:
                names[name] = Unusable("must assign {name} on every path that leads here, got one that leaves it out")
            else:
                names[name] = self.join(condition, a, b)
        state = dict(other.state)
        for name, value in one.state.items():
            if value != state[name]:
                state[name] = self.graph.choice(condition, value, state[name])
        return names, state


def _is_numpy_number(value: Any) -> bool:
    """A scalar of NumPy; asked without loading it."""
    return type(value).__module__ == "numpy" and getattr(value, "shape", None) == () and value.dtype.kind in "iuf"

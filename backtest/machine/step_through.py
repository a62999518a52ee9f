"""``bt.step_through``: a step function itself, bar by bar, where a debugger and ``print`` see what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError, instance, listed
from backtest._said import shown
from backtest.bars import Bars
from backtest.costs import Costs, Execution
from backtest.expr import REQUIRED, Condition
from backtest.line_values import Block
from backtest.machine.decorate import BarStrategy
from backtest.machine.evaluator import MachineEvaluator
from backtest.machine.faults import fault_error
from backtest.machine.frozen import changed_text
from backtest.machine.program import FAULT, FIELDS, FLAGS, ORDER
from backtest.machine.views import AccountView, BarView, Called, Params, Site, State, named, short
from backtest.masks import unpack
from backtest.metrics import SUMS
from backtest.records import FILL, MOMENTS, REASONS
from backtest.rules import Strategy
from backtest.space import Choice, Parameter

Floats = NDArray[np.float64]

#: Fills of one bar, at most: each of 64 call sites may close and open, and set a stop and a target that are met; the end.
MOST_FILLS = 64 * 4 + 8
#: What a step shows of the account where there is a position.
_SHOWN = ("entry_price", "n_entries", "bars_held", "stop_loss", "take_profit", "profit")


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of :func:`backtest.step_through`.

    Attributes
    ----------
    bar : int
        Its number.
    time
        Its time; None for bars without times.
    open, high, low, close : float
    fills : ndarray of backtest.records.FILL
        What filled since the last step: on this bar, and at its close.
    account : dict of str to value
        What the function read of the account; empty where it was not called because equity was gone.
    state_before, state : dict of str to value
        The function's state before and after the call.
    orders : list of Called
        Its calls on the account, in order; ``str`` of each is readable, and ``is_placed`` is False where ``once`` held it back.
    resting : list of str
        Orders that wait, after them.
    equity, units : float
        At the close, after what filled there.
    """

    bar: int
    time: Any
    open: float
    high: float
    low: float
    close: float
    fills: NDArray[Any]
    account: dict[str, Any]
    state_before: dict[str, Any]
    state: dict[str, Any]
    orders: list[Called]
    resting: list[str]
    equity: float
    units: float

    def __str__(self) -> str:
        prices = named({"open": self.open, "high": self.high, "low": self.low, "close": self.close})
        lines = [f"bar {self.bar}{'' if self.time is None else f'  {self.time}'}  {prices}  equity={self.equity:.8g}"]
        lines += [f"    filled   {_fill_text(fill)}" for fill in self.fills]
        if self.account.get("units"):
            shown = {"units": self.account["units"]} | {name: self.account[name] for name in _SHOWN}
            lines.append(f"    held     {named(shown)}")
        if self.state:
            changed = {name: value for name, value in self.state.items() if value is not self.state_before[name]}
            changes = [f"{name}: {short(self.state_before[name])} -> {short(value)}" for name, value in changed.items()]
            lines.append(f"    state    {', '.join(changes) or named(self.state)}")
        lines += [f"    called   {call.text}  (line {call.site.line})" + call.remark for call in self.orders]
        lines += [f"    waits    {text}" for text in self.resting]
        return "\n".join(lines)


class Stepping(Iterator[Step]):
    """The iterator of :func:`backtest.step_through`; what has happened so far is in its attributes.

    Attributes
    ----------
    n_bars : int
        Bars that have passed.
    sums : ndarray of backtest.metrics.SUMS, shape (1,)
    fills : ndarray of backtest.records.FILL
    orders : ndarray of backtest.machine.program.ORDER
    equity, units : ndarray of float64
        At each close.
    levels : ndarray of float64, shape (3,)
        Stop, target and trail of the position; NaN is off.
    """

    def __init__(self, life: Iterator[Step], account: Any) -> None:
        self._life, self._account = life, account
        self._equity: list[float] = []
        self._units: list[float] = []

    def __next__(self) -> Step:
        step = next(self._life)
        self._equity.append(step.equity)
        self._units.append(step.units)
        return step

    def __repr__(self) -> str:
        return f"<step_through: {self.n_bars} bars, {self._account.n_fills} fills, {self._account.n_orders} orders>"

    @property
    def n_bars(self) -> int:
        """Bars that have passed."""
        return len(self._equity)

    @property
    def equity(self) -> Floats:
        """Equity at each close so far."""
        return np.array(self._equity)

    @property
    def units(self) -> Floats:
        """Units held after each close so far."""
        return np.array(self._units)

    @property
    def fills(self) -> NDArray[Any]:
        """Every fill so far."""
        return np.array(self._account.ledger[: self._account.n_fills])

    @property
    def orders(self) -> NDArray[Any]:
        """Every order so far, in the order in which they were placed."""
        return np.array(self._account.orders[: self._account.n_orders])

    @property
    def sums(self) -> NDArray[Any]:
        """The sums that metrics are made of, as of a run that ends here."""
        row, fault = np.zeros(1, dtype=SUMS), np.zeros(1, dtype=FAULT)
        _backend.twin("machine").write(self._account.trial(), row[0], fault[0])
        return row

    @property
    def levels(self) -> Floats:
        """Levels of the position after the last bar."""
        trail = self._account.trail_level() if self._account.units else np.nan
        return np.array([self._account.stop, self._account.target, trail])


class Conventions(NamedTuple):
    """What the account reads of a program: functions have no rule of their own on entries, and no level that is off as NaN."""

    n_slots: int
    no_entry_after_level: int = 0
    off_is_nan: int = 0


@dataclass(frozen=True, slots=True)
class Problem:
    """What a function lives through: one candidate's values, lines by name and the records of the machine."""

    function: Callable[..., Any]
    sites: Mapping[Any, Site]  # by their trails
    params: Mapping[str, Any]
    states: Mapping[str, Any]
    columns: Mapping[str, NDArray[Any]]
    bars: Any
    settings: Any
    times: Callable[[int], Any]
    fault: Callable[[tuple[int, int, int, float]], Exception]


def live(problem: Problem) -> Stepping:
    """Live through the bars."""
    from backtest.machine.rewritten import rewritten

    n_slots = sum(site.slot >= 0 for site in problem.sites.values())
    account = _backend.twin("machine").MachineAccount(problem.bars, problem.settings, Conventions(n_slots))
    account.ledger, account.orders = np.zeros(0, dtype=FILL), np.zeros(0, dtype=ORDER)
    return Stepping(_bars(problem, account, rewritten(problem.function)), account)


def _bars(problem: Problem, account: Any, function: Callable[..., Any]) -> Iterator[Step]:
    """Every bar, as ``run_bars`` of the machine has them."""
    machine, settings = _backend.twin("machine"), problem.settings
    state, p = State(problem.states), Params(problem.params)
    for bar in range(settings.first, settings.last):
        account.ledger = _grown(account.ledger, account.n_fills + MOST_FILLS)
        account.orders = _grown(account.orders, account.n_orders + len(account.slots))
        n_fills, before, value = account.n_fills, dict(vars(state)), 0.0
        seen: dict[str, Any] = {}
        calls: list[Called] = []
        if account.is_bust:
            account.mark(0.0)
        else:
            machine.open_bar(account, bar)
            value = machine.close_bar(account, bar)
            if value > 0.0:
                view = AccountView(account.fields(float(problem.bars.close[bar])), account.flags(), problem.sites)
                seen = {name: getattr(view, name) for name in (*FIELDS, *FLAGS) if name != "index"}
                function(BarView(problem.columns, bar), view, state, p)
                for call in view._calls:
                    calls.append(call._replace(is_placed=not _is_held_back(account, call)))
                    machine.act(account, call.site.action, call.action, call.numbers)
                    if account.fault is not None:
                        raise problem.fault(account.fault)
            value = machine.end_bar(account, bar, value)
        fills = np.array(account.ledger[n_fills : account.n_fills])
        resting = [_order_text(account.orders[order.row]) for order in account.slots if order.is_active]
        yield Step(
            bar=bar,
            time=problem.times(bar),
            open=float(problem.bars.open[bar]),
            high=float(problem.bars.high[bar]),
            low=float(problem.bars.low[bar]),
            close=float(problem.bars.close[bar]),
            fills=fills,
            account=seen,
            state_before=before,
            state=dict(vars(state)),
            orders=calls,
            resting=resting,
            equity=value,
            units=account.units,
        )


def _is_held_back(account: Any, call: Called) -> bool:
    """Whether ``once`` keeps a call from placing its order: it has placed one in this position, or since the last one."""
    return bool(call.action["once"]) and account.once_epochs[call.site.slot] == account.epoch


def _grown(rows: NDArray[Any], needed: int) -> NDArray[Any]:
    """Records with room for more."""
    if len(rows) >= needed:
        return rows
    larger = np.zeros(2 * needed, dtype=rows.dtype)
    larger[: len(rows)] = rows
    return larger


def _fill_text(fill: Any) -> str:
    """One fill in words."""
    reason = REASONS[fill["reason"]]
    verb = "bought" if fill["units"] > 0 else "sold"
    ambiguous = ", ambiguous" if fill["ambiguous"] else ""
    return (
        f"{verb} {abs(fill['units']):.8g} at {fill['price']:.8g} ({MOMENTS[fill['moment']]}{reason and f', {reason}'}{ambiguous})"
    )


def _order_text(order: Any) -> str:
    """One order that waits, in words."""
    prices = {name: float(order[name]) for name in ("limit", "stop") if order[name] == order[name]}
    until = f", until bar {order['valid_until']:.0f}" if np.isfinite(order["valid_until"]) else ""
    kind = ("buy", "sell", "close")[order["kind"]]
    return f"{kind} of bar {order['decision_bar']} (line {order['line']}){': ' if prices else ''}{named(prices)}{until}"


def step_through(
    strategy: Any,
    bars: Bars,
    params: Mapping[str, Any] | None = None,
    *,
    costs: Costs,
    execution: Execution | None = None,
    window: slice | None = None,
) -> Stepping:
    """Run a step function itself, bar by bar.

    What a function with :func:`backtest.on_bar` does for one candidate, as plain Python: breakpoints in the function stop,
    ``print`` prints, and every bar can be looked at.  It gives the same fills, orders and equity as :func:`backtest.run`, to
    the last bit, some thousand times slower.

    Parameters
    ----------
    strategy : BarStrategy
    bars : Bars
    params : mapping of str to value
        A value for every parameter without a default.
    costs : Costs
    execution : Execution, optional
        ``intrabar="both"`` steps through the pessimistic pass.
    window : slice, optional
        As of :func:`backtest.run`.

    Returns
    -------
    Stepping
        An iterator of :class:`Step`, one a bar, with ``fills``, ``orders``, ``equity``, ``units`` and ``sums`` so far.

    Raises
    ------
    InputError
        An argument breaks a rule, or a number of the function's module has changed since it was decorated; while it runs, an
        order that cannot be.

    Examples
    --------
    >>> for step in bt.step_through(trend, bars, {"fast": 10}, costs=costs):  # doctest: +SKIP
    ...     if len(step.fills):
    ...         print(step)
    """
    _check_one(strategy, bars)
    _check_unchanged(strategy)
    if params is not None and not isinstance(params, Mapping):
        raise InputError(f"params must be a mapping of names to values, got {shown(params)}")
    given = dict(params or {})
    columns: dict[str, Parameter] = {name: Choice(name, [value]) for name, value in given.items()}
    execution = Execution() if execution is None else execution
    evaluator = MachineEvaluator(bars, strategy, columns, costs=costs, execution=execution, n_threads=1)
    batch = np.zeros((1, len(columns)))
    evaluator.fix_start(evaluator.combinations(batch))
    values = {name: default for name, default in evaluator.params.items() if default is not REQUIRED} | given
    evaluator.check_orders(batch)
    sites = {
        call.trail: Site(at, int(strategy.program().actions["slot"][at]), call.line) for at, call in enumerate(strategy.calls)
    }

    def fault(found: tuple[int, int, int, float]) -> InputError:
        return fault_error(np.array([found], dtype=FAULT)[0], strategy.program(), strategy, given, bars)

    return live(
        Problem(
            function=strategy.function,
            sites=sites,
            params={name: float(value) if isinstance(value, (bool, int, float)) else value for name, value in values.items()},
            states=strategy.states,
            columns=columns_of(evaluator, Block(batch, columns, evaluator.params)),
            bars=bars,
            settings=evaluator.settings(evaluator.window(window)),
            times=lambda bar: None if bars.index is None else bars.times()[bar],
            fault=fault,
        )
    )


def _check_one(strategy: Any, bars: Any) -> None:
    """Refuse what is no function, and several symbols."""
    if isinstance(strategy, Strategy):
        raise InputError(
            f"strategy must be a function with @bt.on_bar, got the rules {shown(strategy)}; bt.explain(run) says what became of "
            "each condition of rules"
        )
    instance("strategy", strategy, BarStrategy)
    if isinstance(bars, Mapping) and bars:
        raise InputError(f"bars must be of one symbol, got {len(bars)} ({listed(bars)}); write bars[{shown(next(iter(bars)))}]")


def _check_unchanged(strategy: BarStrategy) -> None:
    """Refuse a function whose constants or helpers are not those that it was decorated with."""
    from backtest.machine.compile import compiled

    if compiled(strategy.function, strategy.lines, strategy.states).key(strategy.params) != strategy.key:
        found = strategy.changes()
        if found:
            raise InputError(changed_text(strategy.name, found))
        raise InputError(
            f"{strategy.name} must be what it was when it was decorated, got another number or helper in its module; decorate it "
            "again (run the cell with the decorator); numbers that change are parameters (p.name) or state"
        )


def columns_of(evaluator: MachineEvaluator, block: Block) -> dict[str, NDArray[Any]]:
    """Prices and the strategy's lines by name, at each bar."""
    bars = evaluator.bars
    columns = {name: getattr(bars, name) for name in ("open", "high", "low", "close", "volume")}
    for name, node in evaluator.strategy.lines.items():
        if isinstance(node, Condition):
            words, [masks] = evaluator.masks.masks([node], block)
            columns[name] = unpack(words[masks.inverse[:1]], len(bars))[0]
        else:
            [params] = block.combinations(node)
            columns[name] = np.full(len(bars), evaluator.lines.value(node, params), dtype=np.float64)
    return {name: values for name, values in columns.items() if values is not None}

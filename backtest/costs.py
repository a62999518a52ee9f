"""What trading costs, and how orders are filled, sized and ended: one class each for the whole library."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from backtest._checks import MOST, InputError, choice, flag, fraction, money, number, renamed, whole


@dataclass(frozen=True, kw_only=True, slots=True)
class OrderCosts:
    """What one order costs: the fields of costs that are arguments of kernels, whose settings are subclasses of this."""

    fee_rate: float
    slippage: float = 0.0
    fixed: float = 0.0
    per_unit: float = 0.0
    minimum: float = 0.0
    maximum: float = math.inf

    def of_order(self) -> dict[str, float]:
        """These fields by name, without those of a subclass."""
        return {name: getattr(self, name) for name in ORDER_COSTS}

    def _asdict(self) -> dict[str, Any]:
        """Every field by name: kernels read all settings by the ``_asdict`` of named tuples."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}  # dataclasses.fields takes longer than the rest


#: Names of the costs of an order.
ORDER_COSTS = tuple(field.name for field in dataclasses.fields(OrderCosts))
#: Costs that are shares of an order's value or price, and below 1.
BELOW_ONE = ("fee_rate", "slippage", "liquidation_fee")
#: Costs that only the bar machine has.
MACHINE_COSTS = ("funding", "liquidation_fee")


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs(OrderCosts):
    """Costs of every order.

    The cost of an order of ``u`` units at price ``p`` is
    ``min(max(fixed + per_unit * u + fee_rate * u * p, minimum), maximum)``; slippage moves the price instead:
    buys fill at ``p * (1 + slippage)``, sells at ``p * (1 - slippage)``.

    Parameters
    ----------
    fee_rate : float
        Share of the traded value, below 1: 0.001 is 0.1 %.  Has no default; ``Costs.zero()`` says none.
    slippage : float
        Share of the price, on market orders (stops too), not on limit orders (targets); below 1.
    fixed : float
        Currency per order.
    per_unit : float
        Currency per unit traded.
    minimum, maximum : float
        Bounds of one order's cost, in currency.
    borrow_rate : float
        Cost of a short per year, as a share of its value, charged at each close; with leverage also of borrowed cash.
    funding : float or line
        Rate per bar on the position's value at each close, as of perpetual futures: longs pay it, shorts receive it, and the
        reverse where it is negative.  Between -1 and 1.
    liquidation_fee : float
        Share of the value that a liquidation costs besides; below 1.

    Notes
    -----
    ``funding`` and ``liquidation_fee`` are the bar machine's, which then replays rules too.
    """

    borrow_rate: float = 0.0
    funding: Any = 0.0
    liquidation_fee: float = 0.0

    def __post_init__(self) -> None:
        if not hasattr(self.funding, "params"):  # a line is checked where its values are known
            object.__setattr__(self, "funding", number("funding", self.funding, low=-1.0, high=1.0))
        for field in dataclasses.fields(self):
            name, may_be_infinite = field.name, field.name == "maximum"
            if name == "funding":
                continue
            object.__setattr__(self, name, number(name, getattr(self, name), low=0.0, infinite=may_be_infinite))
            if name in BELOW_ONE:
                fraction(name, getattr(self, name))
            elif not may_be_infinite:
                number(name, getattr(self, name), high=MOST)
        if self.minimum > self.maximum:
            raise InputError(f"minimum must be <= maximum ({self.maximum:g}), got {self.minimum!r}")

    @classmethod
    def zero(cls) -> Costs:
        """No costs at all."""
        return cls(fee_rate=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, those of the bar machine where they are used; a line as its text."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in MACHINE_COSTS}
        return fields | {name: each if isinstance(each, float) else repr(each) for name, each in self.of_machine().items()}

    def of_machine(self) -> dict[str, Any]:
        """The costs that only the bar machine has, by name, where they are not 0."""
        costs = {name: getattr(self, name) for name in MACHINE_COSTS}
        return {name: each for name, each in costs.items() if not isinstance(each, float) or each != 0.0}

    def refuse_machine(self, where: str) -> None:
        """Refuse what only the bar machine has."""
        for name, value in self.of_machine().items():
            raise InputError(f"{name} must be 0 {where}, got {value!r}")


class Conventions(NamedTuple):
    """What a profile changes inside the loop over bars; the defaults are ours."""

    exits_slip: bool = True  # market exits pay slippage
    stops_slip: bool = True  # stops and trails pay slippage
    sized_on_quote: bool = False  # the fee inside the size is that of the quote, without slippage
    levels_from_decision: bool = False  # levels are fractions of the decision bar's close, not of the entry price
    trail_from_extremes: bool = False  # the trail's base follows highs (lows of a short), not closes
    stop_beats_gap: bool = False  # a bar that opens beyond the target and touches the stop exits at the stop
    touches_exactly: bool = False  # levels are touched by <= and >= as evaluated, not within their rounding
    ends_at_open: bool = False  # close_at_end closes at the last open, where the last close's decision fills too
    extra_warm_up: bool = False  # the first decision is one bar after the longest warm-up of a line, cross or not


class Profile(NamedTuple):
    """Another tool's conventions: what they fix, and what that tool cannot express."""

    conventions: Conventions
    fixed: dict[str, Any]  # fields of Execution
    no_costs: dict[str, str]  # fields of Costs that must be off, and why
    no_rules: dict[str, str]  # of a strategy


#: By the name of ``Execution.profile``; each line is explained, and compared with ours, in docs/definitions.md.
PROFILES: dict[str | None, Profile] = {
    None: Profile(Conventions(), {}, {}, {}),
    "vectorbt": Profile(
        Conventions(
            stops_slip=False, levels_from_decision=True, trail_from_extremes=True, stop_beats_gap=True, touches_exactly=True
        ),
        {"fill": "close", "intrabar": "pessimistic", "size_type": "equity", "whole_units": False, "close_at_end": False},
        {
            "per_unit": "from_signals has none",
            "minimum": "from_signals has none",
            "maximum": "from_signals has none",
            "borrow_rate": "from_signals has none",
        },
        {"max_bars": "from_signals has no time exit"},
    ),
    "backtesting.py": Profile(
        Conventions(
            exits_slip=False,
            stops_slip=False,
            sized_on_quote=True,
            levels_from_decision=True,
            stop_beats_gap=True,
            touches_exactly=True,
            ends_at_open=True,
            extra_warm_up=True,
        ),
        {"fill": "next_open", "intrabar": "pessimistic", "size_type": "equity", "whole_units": True},
        {
            "fixed": "it is taken for a cost of each unit when an order is sized there",
            "per_unit": "it has none",
            "minimum": "it has none",
            "maximum": "it has none",
            "borrow_rate": "it has none",
        },
        {"trailing_stop": "it has no trailing orders"},
    ),
}

#: backtesting.py's default size of an order, just below 1: where equity / price is a whole number, one unit less is bought.
BACKTESTING_FULL_SIZE = 1.0 - 2.0**-52


class _Default:
    """A default that a profile may replace."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return repr(self.value)


_FULL_SIZE = _Default(1.0)

#: Fields of Execution that select the bar machine where they differ from these defaults.
MACHINE_EXECUTION: dict[str, Any] = {
    "engine": None,
    "leverage": 1.0,
    "maintenance_margin": 0.0,
    "multiplier": 1.0,
    "lot": None,
    "tick": None,
}
#: Former names of fields, which are refused with the name to write.
FORMER = {"cash": "start_cash", "start_value": "start_cash"}


@renamed(FORMER)
@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How decisions become fills, how large they are, and where the account starts and ends.

    Parameters
    ----------
    fill : {"next_open", "close"}
        A decision at the close of a bar fills at the next bar's open, or at that same close.
    intrabar : {"pessimistic", "optimistic", "nearest", "both"}
        Which came first when one bar touches stop and target: the stop, the target, or what lies on the side of the extreme that
        is nearer to the open (on the bar machine, as charting platforms do).  ``both`` scores either, in one
        pass: candidates rank, and trades are listed, with the stop first, and each metric comes once more, with the target
        first, as ``metric_optimistic``.  The true total return lies between the two; other metrics need not.
    sides : {"both", "long", "short"}
        Entries and exits of the other side are removed before anything else.
    size : float, parameter or line
        With ``size_type="equity"`` the share of equity to invest, 0 < size <= 1, costs inside; with ``"value"`` an
        amount of currency > 0, which must be given.  A line is sampled at the decision bar.
    size_type : {"equity", "value"}
    start_cash : float
        Equity before the first bar, > 0.
    whole_units : bool
        Round units down to whole numbers.
    close_at_end : bool
        Close an open position at the last close, with costs.
    start : int, optional
        First bar whose close may decide; by default the longest warm-up of the candidates.  In a window that begins later it
        is the window's first bar.
    rf : float
        Risk-free rate per year in Sharpe and Sortino ratio.
    periods_per_year : float, optional
        Bars in a year; inferred from the index by default.
    profile : {None, "vectorbt", "backtesting.py"}
        Another tool's conventions as a whole, so that its numbers are reproduced: fills, conflicts, bases of levels, units,
        warm-up, end of data.  Fields that it fixes may be left out; a different value is an error.
    engine : {None, "machine"}
        What replays rules: the event engine, which jumps from event to event, or the bar machine, which lives through every bar
        and has the same meaning.  Functions with ``@bt.on_bar`` always run on the machine, and so do rules with
        ``intrabar="nearest"`` or with any of what follows.
    leverage : float
        Buying power as a multiple of equity, >= 1.
    maintenance_margin : float
        A position is liquidated where equity falls to this share of its value; 0: never, it goes bust at a close.  Below
        1 / ``leverage``.
    multiplier : float
        Value of one unit per unit of price, > 0: 50 for a future that is worth 50 times its price.
    lot : float, optional
        Units are whole multiples of it, rounded toward 0; ``whole_units=True`` is ``lot=1``.
    tick : float, optional
        Prices of orders and levels are whole multiples of it: limits are rounded away from the market, stops toward it.

    Notes
    -----
    ``docs/definitions.md`` says what each profile sets, and what of the other tool cannot be expressed.
    """

    fill: str = cast(str, _Default("next_open"))
    intrabar: str = cast(str, _Default("pessimistic"))
    sides: str = "both"
    size: Any = _FULL_SIZE
    size_type: str = cast(str, _Default("equity"))
    start_cash: float = 100_000.0
    whole_units: bool = cast(bool, _Default(False))
    close_at_end: bool = cast(bool, _Default(False))
    start: int | None = None
    rf: float = 0.0
    periods_per_year: float | None = None
    profile: str | None = None
    engine: str | None = None
    leverage: float = 1.0
    maintenance_margin: float = 0.0
    multiplier: float = 1.0
    lot: float | None = None
    tick: float | None = None

    def __post_init__(self) -> None:
        choice("profile", self.profile, tuple(PROFILES))
        has_no_size = isinstance(self.size, _Default)
        self._apply_profile(PROFILES[self.profile].fixed)
        if has_no_size and isinstance(self.size_type, str) and self.size_type == "value":
            raise InputError("size must be given with size_type='value', an amount of currency, got none")
        choice("engine", self.engine, (None, "machine"))
        choice("fill", self.fill, ("next_open", "close"))
        choice("intrabar", self.intrabar, ("pessimistic", "optimistic", "nearest", "both"))
        self._check_contract()
        choice("sides", self.sides, ("both", "long", "short"))
        if isinstance(self.size_type, str) and self.size_type == "cash":
            raise InputError("size_type must be one of 'equity', 'value', got 'cash', which is now 'value'")
        choice("size_type", self.size_type, ("equity", "value"))
        if not hasattr(self.size, "params"):  # parameters and lines are checked where their values are known
            object.__setattr__(self, "size", number("size", self.size, low=0.0, open_low=True, high=self.largest_size))
            if self.profile == "backtesting.py" and self.size == 1.0:
                object.__setattr__(self, "size", BACKTESTING_FULL_SIZE)
        if self.profile == "vectorbt" and self.sides == "both" and not (isinstance(self.size, float) and self.size == 1.0):
            raise InputError(
                "size must be 1 with profile='vectorbt' and both sides (from_signals cannot reverse a share of "
                f"equity), got {self.size!r}"
            )
        object.__setattr__(self, "start_cash", money("start_cash", self.start_cash))
        flag("whole_units", self.whole_units)
        flag("close_at_end", self.close_at_end)
        object.__setattr__(self, "rf", number("rf", self.rf))
        if self.start is not None:
            object.__setattr__(self, "start", whole("start", self.start, low=0))
        if self.periods_per_year is not None:
            ppy = number("periods_per_year", self.periods_per_year, low=0.0, open_low=True)
            object.__setattr__(self, "periods_per_year", ppy)

    def _check_contract(self) -> None:
        """Margin, multiplier, lot and tick."""
        for name, low in (("leverage", 1.0), ("maintenance_margin", 0.0)):
            object.__setattr__(self, name, number(name, getattr(self, name), low=low, high=MOST))
        if self.maintenance_margin * self.leverage >= 1.0:
            raise InputError(
                f"maintenance_margin must be below 1 / leverage ({1.0 / self.leverage:g}), or what is bought is liquidated at "
                f"once, got {self.maintenance_margin!r}"
            )
        for name in ("multiplier", "lot", "tick"):
            value = getattr(self, name)
            if value is not None or name == "multiplier":
                object.__setattr__(self, name, number(name, value, low=1.0 / MOST, high=MOST))
        if self.lot is not None and self.whole_units:
            raise InputError(f"lot must be left out with whole_units=True, which is lot=1, got {self.lot!r}")

    def of_machine(self) -> dict[str, Any]:
        """The fields that select the bar machine, by name, where they differ from their defaults."""
        fields = {name: getattr(self, name) for name, default in MACHINE_EXECUTION.items() if getattr(self, name) != default}
        return fields | ({"intrabar": self.intrabar} if self.intrabar == "nearest" else {})

    def _apply_profile(self, fixed: Mapping[str, Any]) -> None:
        """Fill in what was not given; refuse what contradicts the profile."""
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, _Default):
                object.__setattr__(self, field.name, fixed.get(field.name, value.value))
            elif field.name in fixed and value != fixed[field.name]:
                raise InputError(f"{field.name} must be {fixed[field.name]!r} with profile={self.profile!r}, got {value!r}")

    @property
    def conventions(self) -> Conventions:
        """What the profile changes inside the loop over bars."""
        return PROFILES[self.profile].conventions

    def check_costs(self, costs: Costs) -> None:
        """Refuse costs that the profile's tool does not have, or counts in another way."""
        off = Costs.zero()
        for name, why in PROFILES[self.profile].no_costs.items():
            if getattr(costs, name) != getattr(off, name):
                raise InputError(
                    f"{name} must be {getattr(off, name):g} with profile={self.profile!r} ({why}), got {getattr(costs, name)!r}"
                )
        if self.profile == "vectorbt" and self.sides == "both" and costs.fixed > 0:
            raise InputError(
                "fixed must be 0 with profile='vectorbt' and both sides (from_signals reverses with one order), "
                f"got {costs.fixed!r}"
            )

    def check_rules(self, is_on: Mapping[str, Any]) -> None:
        """Refuse candidates with levels or a time exit that the profile's tool does not have.

        Parameters
        ----------
        is_on : mapping of str to ndarray of bool, shape (n_candidates,)
            Which candidates use ``stop_loss``, ``take_profit``, ``trailing_stop``, ``max_bars``.
        """
        for name, why in PROFILES[self.profile].no_rules.items():
            if is_on[name].any():
                raise InputError(f"{name} must be None with profile={self.profile!r} ({why}), got one")
        if self.profile == "vectorbt" and (is_on["stop_loss"] & is_on["trailing_stop"]).any():
            raise InputError(
                "stop_loss or trailing_stop must be None with profile='vectorbt' (from_signals has one stop, fixed "
                "or trailing), got both"
            )

    @property
    def largest_size(self) -> float | None:
        """Upper bound of ``size``: the leverage (1) for a share of equity, none for an amount of currency."""
        return self.leverage if self.size_type == "equity" else None

    def replace(self, **changes: Any) -> Execution:
        """A copy with some fields changed."""
        if changes.get("size_type") == "value" != self.size_type:  # a share is no amount
            changes.setdefault("size", _FULL_SIZE)
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name, those of the bar machine where they are used; a size that is a parameter or a line as text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name, default in MACHINE_EXECUTION.items():
            if fields[name] == default:
                del fields[name]
        return fields | ({} if isinstance(self.size, float) else {"size": repr(self.size)})

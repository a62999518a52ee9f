"""What trading costs, and how orders are filled, sized and ended: one class each for the whole library."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from backtest._checks import InputError, choice, flag, number, whole


@dataclass(frozen=True, kw_only=True, slots=True)
class Costs:
    """Costs of every order.

    The cost of an order of ``u`` units at price ``p`` is
    ``min(max(fixed + per_unit * u + fee_rate * u * p, minimum), maximum)``; slippage moves the price instead:
    buys fill at ``p * (1 + slippage)``, sells at ``p * (1 - slippage)``.

    Parameters
    ----------
    fee_rate : float
        Share of the traded value: 0.001 is 0.1 %.  Has no default; ``Costs.zero()`` says none.
    slippage : float
        Share of the price, on market orders (stops too), not on limit orders (targets); below 1.
    fixed : float
        Currency per order.
    per_unit : float
        Currency per unit traded.
    minimum, maximum : float
        Bounds of one order's cost, in currency.
    borrow_rate : float
        Cost of a short per year, as a share of its value, charged at each close.
    """

    fee_rate: float
    slippage: float = 0.0
    fixed: float = 0.0
    per_unit: float = 0.0
    minimum: float = 0.0
    maximum: float = math.inf
    borrow_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("fee_rate", "slippage", "fixed", "per_unit", "minimum", "borrow_rate"):
            object.__setattr__(self, name, number(name, getattr(self, name), low=0.0))
        if self.slippage >= 1:
            raise InputError(f"slippage must be < 1, got {self.slippage!r}")
        object.__setattr__(self, "maximum", number("maximum", self.maximum, low=0.0, infinite=True))
        if self.minimum > self.maximum:
            raise InputError(f"minimum must be <= maximum ({self.maximum:g}), got {self.minimum!r}")

    @classmethod
    def zero(cls) -> Costs:
        """No costs at all."""
        return cls(fee_rate=0.0)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True, slots=True)
class Execution:
    """How decisions become fills, how large they are, and where the account starts and ends.

    Parameters
    ----------
    fill : {"next_open", "close"}
        A decision at the close of a bar fills at the next bar's open, or at that same close.
    intrabar : {"pessimistic", "optimistic"}
        Which came first when one bar touches stop and target: the stop, or the target.
    sides : {"both", "long", "short"}
        Entries and exits of the other side are removed before anything else.
    size : float, parameter or line
        With ``size_type="equity"`` the share of equity to invest, 0 < size <= 1, costs inside; with ``"cash"`` an
        amount of currency > 0.  A line is sampled at the decision bar.
    size_type : {"equity", "cash"}
    cash : float
        Equity before the first bar, > 0.
    whole_units : bool
        Round units down to whole numbers.
    close_at_end : bool
        Close an open position at the last close, with costs.
    start : int, optional
        First bar whose close may decide; by default the longest warm-up of the candidates.
    rf : float
        Risk-free rate per year in Sharpe and Sortino ratio.
    periods_per_year : float, optional
        Bars in a year; inferred from the index by default.
    profile : None
        Another tool's conventions as a whole; none yet.
    """

    fill: str = "next_open"
    intrabar: str = "pessimistic"
    sides: str = "both"
    size: Any = 1.0
    size_type: str = "equity"
    cash: float = 100_000.0
    whole_units: bool = False
    close_at_end: bool = False
    start: int | None = None
    rf: float = 0.0
    periods_per_year: float | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        choice("fill", self.fill, ("next_open", "close"))
        choice("intrabar", self.intrabar, ("pessimistic", "optimistic"))
        choice("sides", self.sides, ("both", "long", "short"))
        choice("size_type", self.size_type, ("equity", "cash"))
        choice("profile", self.profile, (None,))
        if not hasattr(self.size, "params"):  # parameters and lines are checked where their values are known
            object.__setattr__(self, "size", number("size", self.size, low=0.0, open_low=True, high=self.largest_size))
        object.__setattr__(self, "cash", number("cash", self.cash, low=0.0, open_low=True))
        flag("whole_units", self.whole_units)
        flag("close_at_end", self.close_at_end)
        object.__setattr__(self, "rf", number("rf", self.rf))
        if self.start is not None:
            object.__setattr__(self, "start", whole("start", self.start, low=0))
        if self.periods_per_year is not None:
            ppy = number("periods_per_year", self.periods_per_year, low=0.0, open_low=True)
            object.__setattr__(self, "periods_per_year", ppy)

    @property
    def largest_size(self) -> float | None:
        """Upper bound of ``size``: 1 for a share of equity, none for an amount of currency."""
        return 1.0 if self.size_type == "equity" else None

    def replace(self, **changes: Any) -> Execution:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Every field by name; a size that is a parameter or a line as its text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fields | ({} if isinstance(self.size, float) else {"size": repr(self.size)})

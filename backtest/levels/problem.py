"""Problems of entry and exit levels around a forecast.

One row a bar, every price a relative move against the bar's reference (0.01 is +1 %).  A candidate is a pair of additive
offsets ``(h, l)``; :meth:`Levels.profit` scores batches of them, :meth:`Levels.optimize` finds the best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import (
    LEAST_PRICE,
    MOST_PRICE,
    Frozen,
    InputError,
    as_array,
    choice,
    flag,
    fraction,
    matrix,
    number,
    price_bounds,
    vector,
    whole,
)
from backtest.compute.threads import thread_count
from backtest.folded import SIDE, Folded
from backtest.labels import Labels, check_labels, labels, labels_of_bars
from backtest.levels import search, together
from backtest.levels.rows import Mask, check_moves, fold, moves_from_bars, on_tick, refuse, replay_frame

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bounds = Sequence[Sequence[float]]

FORECASTS = ("prices", "moves")
MAX_POSITION = 10.0


class _LevelProblem(Frozen):
    """What both kinds of problem share: rows folded for the kernel, and the questions one can ask them."""

    __slots__ = (
        "_high_pred",
        "_labels",
        "_low_pred",
        "_reference",
        "_rows",
        "_split",
        "bar",
        "close_at_eod",
        "fee_rate",
        "fill_margin",
        "intrabar",
        "n_bars",
    )

    #: Evaluations a DIRECT or evolution search may spend by default.
    budget: ClassVar[int]

    _rows: Floats  # (n_rows, 8), columns as in rows.py
    _split: int
    _high_pred: Floats
    _low_pred: Floats
    _reference: Floats | None
    _labels: Labels | None  # of the bars it was made from
    #: Bar of each row that has a position, long leg first for always-on.
    bar: NDArray[np.int64]
    n_bars: int
    fee_rate: float
    close_at_eod: bool
    intrabar: str
    fill_margin: float

    def _fill(
        self,
        moves: dict[str, Floats],
        mask: Mask,
        legs: Sequence[tuple[Floats, float]],
        *,
        reference: Floats | None,
        fee_rate: float,
        close_at_eod: bool,
        intrabar: str,
        fill_margin: float,
    ) -> None:
        """Fold the bars; ``legs`` are (weights, side), each summed by itself."""
        values: dict[str, Any] = {
            "fee_rate": fraction("fee_rate", number("fee_rate", fee_rate, low=0.0)),
            "close_at_eod": flag("close_at_eod", close_at_eod),
            "intrabar": choice("intrabar", intrabar, ("optimistic", "pessimistic")),
            "fill_margin": number("fill_margin", fill_margin, low=0.0),
            "n_bars": len(moves["close"]),
        }
        folded = [fold(moves, weights, side, values["close_at_eod"], values["fill_margin"]) for weights, side in legs]
        values["bar"] = np.concatenate([bar for bar, _ in folded])
        values["_rows"] = np.concatenate([rows for _, rows in folded])
        values["_split"] = len(folded[0][0])
        values |= {f"_{name}": np.where(mask, moves[name], np.nan) for name in ("high_pred", "low_pred")}
        values["_reference"] = reference
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
            setattr(self, name, value)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__}: {self.n_bars} bars, {len(self.bar)} rows with a position, fee_rate={self.fee_rate}, "
            f"close_at_eod={self.close_at_eod}, intrabar={self.intrabar!r}, fill_margin={self.fill_margin}>"
        )

    def profit(self, offsets: ArrayLike, *, n_threads: int | None = None) -> Floats:
        """Profit of each candidate: the plain sum over bars, in bar order, not compounded.

        Parameters
        ----------
        offsets
            (n_candidates, 2), columns high and low, relative moves added to the forecasts.
        n_threads
            Threads for big batches; None takes every processor this process may use.  Never changes a result.

        Returns
        -------
        ndarray
            (n_candidates,), in units of capital (0.01 is 1 % of it).

        Raises
        ------
        InputError
            Offsets are not finite or not of shape (n_candidates, 2).
        """
        batch = matrix("offsets", offsets, shape=(None, 2))
        return self._folded.profit(batch, thread_count(n_threads))

    @property
    def _pessimistic(self) -> int:
        return int(self.intrabar == "pessimistic")

    @property
    def _folded(self) -> Folded:
        return Folded(self._rows, self._split, self.fee_rate, self._pessimistic)

    def replay(self, offsets: ArrayLike) -> pd.DataFrame:
        """What happens on every bar at one point.

        Parameters
        ----------
        offsets
            (2,): high, low.

        Returns
        -------
        DataFrame
            One row a bar (always-on: one a bar and side): ``entry`` and ``exit`` (relative moves, NaN where nothing filled),
            ``exit_kind`` (``limit``, ``close`` or ``none``), ``filled``, ``ambiguous`` (the two intrabar rules exit
            differently), ``profit``.  Adding up ``profit`` in order gives :meth:`profit` (always-on: each side by itself).
        """
        high, low = vector("offsets", offsets, length=2).tolist()
        out = np.empty((len(self._rows), 6))
        _backend.kernel("levels").replay(self._rows, self.fee_rate, self._pessimistic, high, low, 0, len(out), out)
        return self._frame(out)

    def _frame(self, replayed: Floats) -> pd.DataFrame:
        import pandas as pd

        return replay_frame(replayed, self.bar, pd.RangeIndex(self.n_bars, name="bar"))

    def prices(self, offsets: ArrayLike, *, reference: ArrayLike | None = None, tick: float | None = None) -> pd.DataFrame:
        """Limit prices to send for every bar.

        Parameters
        ----------
        offsets
            (2,): high, low.
        reference
            Price that the moves are relative to: one number, or one a bar.  :meth:`from_bars` remembers it.
        tick
            Smallest price step.  Prices are rounded away from the market, the high price up and the low price down, because
            the best offsets sit just past an old extreme: a price rounded towards the market would count fills that
            the rounded order would not get.  None does not round.

        Returns
        -------
        DataFrame
            (n_bars, 2): ``high`` (a long's exit, a short's entry) and ``low`` (a long's entry, a short's exit).
        """
        import pandas as pd

        h, l = vector("offsets", offsets, length=2).tolist()  # noqa: E741 - the offset's name
        if reference is None:
            if self._reference is None:
                raise InputError("reference must be given (a price, or one a bar), got None")
            against = self._reference
        else:
            check_labels("reference", labels(reference), getattr(self, "_labels", None), self.n_bars)
            given = as_array("reference", reference)
            given = np.broadcast_to(given, (self.n_bars,)) if given.ndim == 0 else given
            against = vector("reference", given, length=self.n_bars)
            price_bounds("reference", against, InputError)
        high = against * (1.0 + np.clip(self._high_pred + h, 0.0, 10.0))
        low = against * (1.0 + np.clip(self._low_pred + l, -1.0, 0.0))
        if tick is not None:
            step = number("tick", number("tick", tick, low=0.0, open_low=True), low=LEAST_PRICE, high=MOST_PRICE)
            high, low = on_tick(high, step, up=True), on_tick(low, step, up=False)
        return pd.DataFrame({"high": high, "low": low}, index=pd.RangeIndex(self.n_bars, name="bar"))

    def optimize(
        self,
        method: str = "exact",
        bounds: Bounds = search.BOUNDS,
        effort: str = "normal",
        maxfun: int | None = None,
        seed: int = 0,
    ) -> Any:
        """The best offsets within bounds.

        Parameters
        ----------
        method
            ``exact`` (default): the best point there is, to the last bit of :meth:`profit`; ``direct``: DIRECT over batches;
            ``evolution``: differential evolution.  The last two are heuristics with a budget.
        bounds
            ((lowest, highest h), (lowest, highest l)).
        effort
            ``fast`` spends 100 evaluations in place of 500 (always-on: 240); ``exact`` needs no budget.
        maxfun
            Evaluations to spend, in place of what ``effort`` says.
        seed
            Of ``evolution``.

        Returns
        -------
        scipy.optimize.OptimizeResult
            ``x`` (h, l), ``fun`` (-profit), ``profit``, ``profit_low`` and ``profit_high`` (both intrabar rules there),
            ``n_fills``, ``n_ambiguous``, ``baseline`` (profit at (0, 0)), ``tolerance`` (cells whose running sum was this near
            the best were scored by the kernel; NaN for heuristics), ``truncated`` (more than 1,024 were: the value is then
            within tolerance of the best, not proven to the last bit), ``fallback`` (None, or what ran instead and why),
            ``nfev`` (points scored by the kernel), ``method``, ``success``, ``status``, ``message``.

        Raises
        ------
        InputError
            Bounds are reversed or not finite, ``maxfun`` < 1, or a name is not known.

        Warns
        -----
        FallbackWarning
            DIRECT ended with an error status and evolution ran in its place.

        Notes
        -----
        Among equal profits: (0, 0), then the smallest |h| + |l|, |h|, h, l.  The best is returned also when it loses money.
        """
        box, budget, note = search.wish(method, bounds, effort, maxfun, self.budget)
        if method == "exact":
            return search.report(self._folded, method, search.exact(self._folded, box))
        heuristic = search.direct if method == "direct" else search.evolution
        found = heuristic(self._folded, box, budget, whole("seed", seed, low=0))
        return search.report(self._folded, method, found | {"message": found["message"] + note})

    @staticmethod
    def on_device(method: str, device: str, dtype: str) -> together.Search | None:
        """What :func:`backtest.optimize_many` runs on a device, the names checked; None: the method stays on the CPU."""
        return together.searcher(method, device, dtype)


class Levels(_LevelProblem):
    """Entry and exit levels for bars with a position.

    Parameters
    ----------
    close, high, low
        (n_bars,), what the bar did, as moves relative to its reference (0.01 is +1 %).
    high_pred, low_pred
        (n_bars,), its forecast high and low, as moves.
    position
        (n_bars,), fraction of capital, |position| <= 10, positive long, negative short, 0 none.
    fee_rate
        Charged once per filled entry, relative to the position (0.0015 is 0.15 %).  No default: a wrong fee is a wrong optimum.
    close_at_eod
        Every exit at the close.
    intrabar
        ``optimistic`` books a limit exit even where its price may have come before the entry; ``pessimistic`` only where the
        close proves that the price was crossed after it.
    fill_margin
        How far, as a move, the market must trade through a level to fill it.
    valid
        (n_bars,) boolean; rows that are False are left out, whatever they hold.

    Raises
    ------
    DataError
        Lengths differ, a number is not finite, low is above high, a move is beyond 1, a position beyond 10.
    InputError
        An option breaks its rule.

    Examples
    --------
    >>> problem = Levels(close=[0.01], high=[0.02], low=[-0.01], high_pred=[0.01], low_pred=[-0.005], position=[1.0],
    ...                  fee_rate=0.0)
    >>> problem.profit([[0.0, 0.0]]).tolist()
    [0.015]
    """

    __slots__ = ()
    budget = 500

    def __init__(
        self,
        *,
        close: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        high_pred: ArrayLike,
        low_pred: ArrayLike,
        position: ArrayLike,
        fee_rate: float,
        close_at_eod: bool = False,
        intrabar: str = "optimistic",
        fill_margin: float = 0.0,
        valid: ArrayLike | None = None,
    ) -> None:
        given = {"close": close, "high": high, "low": low, "high_pred": high_pred, "low_pred": low_pred}
        self._build(
            given, position, valid, None, fee_rate=fee_rate, close_at_eod=close_at_eod, intrabar=intrabar, fill_margin=fill_margin
        )

    def _build(
        self, given: Mapping[str, ArrayLike], position: ArrayLike, valid: ArrayLike | None, reference: Floats | None, **rules: Any
    ) -> None:
        moves, mask = check_moves(given, {"position": position}, valid, type(self).__name__)
        refuse(np.abs(moves["position"]) > MAX_POSITION, "position", "must be within -10 and 10", moves["position"])
        self._fill(moves, mask, [(moves["position"], 0.0)], reference=reference, **rules)

    @classmethod
    def from_bars(
        cls,
        bars: Any,
        *,
        high_pred: ArrayLike,
        low_pred: ArrayLike,
        position: ArrayLike,
        fee_rate: float,
        reference: str | ArrayLike = "prev_close",
        forecasts: str = "prices",
        close_at_eod: bool = False,
        intrabar: str = "optimistic",
        fill_margin: float = 0.0,
        valid: ArrayLike | None = None,
    ) -> Self:
        """A problem from bars of prices.

        Parameters
        ----------
        bars
            Anything with ``open``, ``high``, ``low``, ``close``, each (n_bars,) of prices.
        high_pred, low_pred
            (n_bars,), forecast high and low of the same bar, made before it: prices, or moves with ``forecasts="moves"``.
            These and all below: a Series must have the bars' times as index, or 0, 1, 2, ...; arrays go by position.
        reference
            ``prev_close`` (the first bar then has none and is left out: it stays in :meth:`replay` and :meth:`prices`, without
            a fill or a price), ``open``, or (n_bars,) prices.
        forecasts
            ``prices`` or ``moves``.
        position, fee_rate, close_at_eod, intrabar, fill_margin, valid
            As in the class.
        """
        moves, mask, against = moves_from_bars(
            bars,
            reference,
            choice("forecasts", forecasts, FORECASTS),
            {"high_pred": high_pred, "low_pred": low_pred},
            {"position": position},
            valid,
        )
        self = cls.__new__(cls)
        self._labels = labels_of_bars(bars)
        self._build(
            moves,
            position,
            mask,
            against,
            fee_rate=fee_rate,
            close_at_eod=close_at_eod,
            intrabar=intrabar,
            fill_margin=fill_margin,
        )
        return self


class AlwaysOn(_LevelProblem):
    """A long and a short order on every bar, with the same offsets: the long sum plus the short sum.

    Parameters
    ----------
    buy, sell
        (n_bars,), size of the long leg (0 to 10) and of the short leg (-10 to 0), as fractions of capital.
    allow_short
        False drops the short leg.
    close, high, low, high_pred, low_pred, fee_rate, close_at_eod, intrabar, fill_margin, valid
        As in :class:`Levels`.

    Raises
    ------
    DataError
        As in :class:`Levels`; also a negative ``buy``, a positive ``sell``, a boolean array.
    """

    __slots__ = ()
    budget = 240

    def __init__(
        self,
        *,
        close: ArrayLike,
        high: ArrayLike,
        low: ArrayLike,
        high_pred: ArrayLike,
        low_pred: ArrayLike,
        buy: ArrayLike,
        sell: ArrayLike,
        fee_rate: float,
        allow_short: bool = True,
        close_at_eod: bool = False,
        intrabar: str = "optimistic",
        fill_margin: float = 0.0,
        valid: ArrayLike | None = None,
    ) -> None:
        given = {"close": close, "high": high, "low": low, "high_pred": high_pred, "low_pred": low_pred}
        self._build(
            given,
            buy,
            sell,
            valid,
            None,
            allow_short,
            fee_rate=fee_rate,
            close_at_eod=close_at_eod,
            intrabar=intrabar,
            fill_margin=fill_margin,
        )

    def _build(
        self,
        given: Mapping[str, ArrayLike],
        buy: ArrayLike,
        sell: ArrayLike,
        valid: ArrayLike | None,
        reference: Floats | None,
        allow_short: bool,
        **rules: Any,
    ) -> None:
        moves, mask = check_moves(given, {"buy": buy, "sell": sell}, valid, type(self).__name__)
        long, short = moves["buy"], moves["sell"]
        refuse((long < 0.0) | (long > MAX_POSITION), "buy", "must be within 0 and 10 (the size of the long leg)", long)
        refuse((short > 0.0) | (short < -MAX_POSITION), "sell", "must be within -10 and 0 (the short leg is negative)", short)
        if not flag("allow_short", allow_short):
            short = np.zeros_like(short)
        self._fill(moves, mask, [(long, 1.0), (short, -1.0)], reference=reference, **rules)

    @classmethod
    def from_bars(
        cls,
        bars: Any,
        *,
        high_pred: ArrayLike,
        low_pred: ArrayLike,
        buy: ArrayLike,
        sell: ArrayLike,
        fee_rate: float,
        reference: str | ArrayLike = "prev_close",
        forecasts: str = "prices",
        allow_short: bool = True,
        close_at_eod: bool = False,
        intrabar: str = "optimistic",
        fill_margin: float = 0.0,
        valid: ArrayLike | None = None,
    ) -> Self:
        """A problem from bars of prices; arguments as in :meth:`Levels.from_bars` and in the class."""
        moves, mask, against = moves_from_bars(
            bars,
            reference,
            choice("forecasts", forecasts, FORECASTS),
            {"high_pred": high_pred, "low_pred": low_pred},
            {"buy": buy, "sell": sell},
            valid,
        )
        self = cls.__new__(cls)
        self._labels = labels_of_bars(bars)
        self._build(
            moves,
            buy,
            sell,
            mask,
            against,
            allow_short,
            fee_rate=fee_rate,
            close_at_eod=close_at_eod,
            intrabar=intrabar,
            fill_margin=fill_margin,
        )
        return self

    def _frame(self, replayed: Floats) -> pd.DataFrame:
        import pandas as pd

        index = pd.MultiIndex.from_product([range(self.n_bars), ["long", "short"]], names=["bar", "side"])
        short = (self._rows[:, SIDE] < 0.0).astype(np.int64)
        return replay_frame(replayed, 2 * self.bar + short, index)

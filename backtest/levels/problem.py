"""Problems of entry and exit levels around a forecast: one position a bar, or a long and a short order on every bar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from backtest._checks import choice, flag
from backtest.labels import labels_of_bars
from backtest.level_rows import SIDE
from backtest.levels.base import Floats, LevelProblem
from backtest.levels.moves import check_moves, moves_from_bars, refuse, replay_frame

if TYPE_CHECKING:
    import pandas as pd

FORECASTS = ("prices", "moves")
MAX_POSITION = 10.0


class Levels(LevelProblem):
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
        self,
        given: Mapping[str, ArrayLike],
        position: ArrayLike,
        valid: ArrayLike | None,
        reference: Floats | None,
        **settings: Any,
    ) -> None:
        moves, mask = check_moves(given, {"position": position}, valid, type(self).__name__)
        refuse(np.abs(moves["position"]) > MAX_POSITION, "position", "must be within -10 and 10", moves["position"])
        self._fill(moves, mask, [(moves["position"], 0.0)], reference=reference, **settings)

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


class AlwaysOn(LevelProblem):
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
        **settings: Any,
    ) -> None:
        moves, mask = check_moves(given, {"buy": buy, "sell": sell}, valid, type(self).__name__)
        long, short = moves["buy"], moves["sell"]
        refuse((long < 0.0) | (long > MAX_POSITION), "buy", "must be within 0 and 10 (the size of the long leg)", long)
        refuse((short > 0.0) | (short < -MAX_POSITION), "sell", "must be within -10 and 0 (the short leg is negative)", short)
        if not flag("allow_short", allow_short):
            short = np.zeros_like(short)
        self._fill(moves, mask, [(long, 1.0), (short, -1.0)], reference=reference, **settings)

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

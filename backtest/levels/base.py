"""What problems of entry and exit levels share: their rows, and the questions one can ask them.

One row a bar, every price a relative move against the bar's reference (0.01 is +1 %).  A candidate is a pair of additive
offsets ``(h, l)``; :meth:`Levels.profit` scores batches of them, :meth:`Levels.optimize` finds the best.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import _backend
from backtest._checks import (
    LEAST_PRICE,
    MOST_PRICE,
    DataError,
    Frozen,
    InputError,
    as_array,
    choice,
    each_window,
    flag,
    fraction,
    matrix,
    number,
    optional_whole,
    price_bounds,
    vector,
    whole,
)
from backtest.labels import Labels, check_labels, labels
from backtest.level_rows import LevelRows
from backtest.levels import device_search, search
from backtest.levels.moves import Mask, fold, on_tick, replay_frame
from backtest.windows import numbered

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Bounds = Sequence[Sequence[float]]


class LevelProblem(Frozen):
    """Rows of the kernel, their settings, and what can be asked of them; :class:`Levels` and :class:`AlwaysOn` fill it."""

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

    #: Names of the scores' columns, as of any evaluator.
    columns: ClassVar[tuple[str, ...]] = ("profit",)
    #: Evaluations a DIRECT or evolution search may spend by default.
    budget: ClassVar[int]

    _rows: Floats  # (n_rows, 8), columns as in level_rows.py
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
        return self.level_rows().profit(batch, optional_whole("n_threads", n_threads, low=1))

    def __call__(self, batch: Floats, window: slice | Sequence[slice | None] | None = None) -> Floats:
        """Profit of each candidate in one window of the bars or several; see :class:`backtest.evaluator.Evaluator`.

        Parameters
        ----------
        batch
            (n_candidates, 2), columns high and low.
        window
            Count these bars only.

        Returns
        -------
        ndarray
            (n_candidates,), or (n_windows, n_candidates).
        """
        batch, windows = matrix("batch", batch, shape=(None, 2)), each_window(window)
        scores = np.empty((len(windows), len(batch)))
        for each, out in zip(windows, scores, strict=True):
            out[:] = self.level_rows(each).profit(batch, None)
        return scores if isinstance(window, (list, tuple)) else scores[0]

    def level_rows(self, window: slice | None = None) -> LevelRows:
        """Rows of the kernel: of all bars, or of those in a window."""
        if window is None:
            return LevelRows(self._rows, self._split, self.fee_rate, self._pessimistic)
        begin, end, _ = (numbered(window, getattr(self, "_labels", None)) or slice(None)).indices(self.n_bars)
        if begin >= end:
            raise DataError(f"window must leave a bar, got bars {begin} to {end} of {self.n_bars}")
        is_inside = (self.bar >= begin) & (self.bar < end)
        rows = np.ascontiguousarray(self._rows[is_inside])
        return LevelRows(rows, int(is_inside[: self._split].sum()), self.fee_rate, self._pessimistic)

    @property
    def _pessimistic(self) -> int:
        return int(self.intrabar == "pessimistic")

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
        box, budget, note = search.check_options(method, bounds, effort, maxfun, self.budget)
        if method == "exact":
            return search.report(self.level_rows(), method, search.exact(self.level_rows(), box))
        heuristic = search.direct if method == "direct" else search.evolution
        found = heuristic(self.level_rows(), box, budget, whole("seed", seed, low=0))
        return search.report(self.level_rows(), method, found | {"message": found["message"] + note})

    @staticmethod
    def on_device(method: str, device: str, dtype: str) -> device_search.Search | None:
        """What :func:`backtest.optimize_many` runs on a device, the names checked; None: the method stays on the CPU."""
        return device_search.searcher(method, device, dtype)

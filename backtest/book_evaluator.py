"""Batches of books: a rule makes the weights of each candidate; they are replayed in blocks on threads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest import _backend
from backtest._checks import InputError, ObjectiveError, called, each_window, matrix, optional_whole
from backtest._said import said
from backtest.compute.threads import run_rows
from backtest.metrics import SUMS, SWEEP, MetricInputs, check_metrics, sweep_metrics
from backtest.periods import Periods
from backtest.portfolio import MAX_GROSS, Events, Floats, Market, Prices, Rule, Rules, Settings, Targets
from backtest.space import Space

#: Memory of the target weights of the books of one kernel call, at most.
BLOCK_BYTES = 32 << 20
#: Measured: microseconds per bar and asset of a book that trades weekly.
CELL_US = 0.006


class BookEvaluator:
    """Evaluates candidates of a rule that makes weights: :class:`backtest.evaluator.Evaluator` over its parameters.

    Parameters
    ----------
    rule : callable
        ``rule(params) -> weights``: target weights for every bar and asset, as :func:`backtest.simulate` takes them.
    space : Space
        Parameters of the batch's columns.
    market : Market
    rules : Rules
        Already checked.
    rebalance : array_like of bool, optional
    max_gross : float
        Largest sum of absolute weights of an event.
    metrics : sequence of str
        Columns of the scores.
    n_threads : int, optional
        All processors this process may use by default.
    """

    def __init__(
        self,
        rule: Rule,
        space: Space,
        market: Market,
        rules: Rules,
        *,
        rebalance: Any = None,
        max_gross: float = MAX_GROSS,
        metrics: Sequence[str] = SWEEP,
        n_threads: int | None = None,
    ) -> None:
        called("rule", rule, ", rule(params) -> weights")
        self.rule, self.space, self.market, self.rules, self.rebalance = rule, space, market, rules, rebalance
        self.max_gross = max_gross
        self.columns, self.n_threads = check_metrics(metrics, "sweep"), optional_whole("n_threads", n_threads, low=1)
        self.prices = market.prices(rules.fill)
        if rebalance is not None:
            market.mask(rebalance)  # checked here, so that the error does not name the rule

    def window(self, window: slice | None) -> slice | None:
        """A window of bar numbers or dates, as bar numbers."""
        return self.market.window(window)

    def bounds(self, window: slice | None) -> tuple[int, int]:
        """First bar of a window, and one past its last."""
        return self.market.bounds(window)

    def metric_inputs(self, window: slice | None = None) -> MetricInputs:
        """What metrics are computed from besides the sums."""
        return self.market.metric_inputs(self.rules, window)

    @property
    def periods(self) -> Periods:
        """How many bars make a year, and why."""
        return self.market.periods(self.rules)

    @property
    def is_annual(self) -> bool:
        """Whether anything says how many bars make a year."""
        return self.periods.per_year > 0

    def __call__(self, batch: Floats, window: slice | Sequence[slice | None] | None = None) -> Floats:
        """Metrics of a batch; see :class:`backtest.evaluator.Evaluator`.

        Parameters
        ----------
        batch : ndarray of float64, shape (n_candidates, n_params)
            As :meth:`backtest.Space.candidates` gives it.
        window : slice or sequence of slices, optional
            Trade inside these bars only.  The rule may look at all bars, and is called once for all windows.

        Returns
        -------
        ndarray of float64, shape (n_candidates, n_metrics), or (n_windows, n_candidates, n_metrics)
        """
        batch = matrix("batch", batch, shape=(None, len(self.space.names)))
        windows = each_window(window)
        settings = [self.market.settings(self.rules, each) for each in windows]
        sums = np.zeros((len(windows), len(batch)), dtype=SUMS)
        for start, books in self._blocks(batch):
            for each, window_sums in zip(settings, sums, strict=True):
                evaluate_books(books, self.prices, each, self.n_threads, window_sums[start : start + len(books)])
        scores = np.empty((len(windows), len(self.columns), len(batch))).transpose(0, 2, 1)
        for each, window_sums, out in zip(windows, sums, scores, strict=True):
            sweep_metrics(self.columns, window_sums, self.metric_inputs(each), out=out)
        return scores if isinstance(window, (list, tuple)) else scores[0]

    def _blocks(self, batch: Floats) -> Iterator[tuple[int, list[Events]]]:
        """Events of the books of a batch, in blocks of bounded memory, each with the number of its first book."""
        start, n_bytes, books = 0, 0, list[Events]()
        for row in batch:
            books.append(self.events(self.space.decode(row)))
            n_bytes += books[-1][0].nbytes
            if n_bytes >= BLOCK_BYTES:
                yield start, books
                start, n_bytes, books = start + len(books), 0, []
        if books:
            yield start, books

    def events(self, params: Mapping[str, Any]) -> Events:
        """Target weights of a candidate, and the bars that decide on them."""
        try:
            weights = self.rule(params)
        except Exception as error:
            raise ObjectiveError(f"rule failed at {params}: {said(error)}", dict(params)) from error
        try:
            return self.market.events(weights, self.rebalance, self.max_gross)
        except InputError as error:
            raise ObjectiveError(f"rule at {params}: {error}", dict(params)) from error


def evaluate_books(
    books: Sequence[Events], prices: Prices, settings: Settings, n_threads: int | None, sums: NDArray[Any]
) -> None:
    """Replay books and write their sums into ``sums`` (n_books,)."""
    targets = joined(books)
    evaluate = _backend.kernel("portfolio").evaluate

    def work(start: int, stop: int) -> None:
        evaluate(prices, targets, settings, start, stop, sums)

    run_rows(work, len(books), n_threads, CELL_US * (settings.last - settings.first) * prices.marks.shape[1])


def joined(books: Sequence[Events]) -> Targets:
    """The events of several books in one table."""
    if len(books) == 1:
        return Targets(*books[0], np.array([0, len(books[0][1])], dtype=np.int64))
    first_event = np.zeros(len(books) + 1, dtype=np.int64)
    np.cumsum([len(bars) for _, bars in books], out=first_event[1:])
    return Targets(np.concatenate([weights for weights, _ in books]), np.concatenate([bars for _, bars in books]), first_event)

"""``bt.optimize_weights``: from a rule that returns weights and a space of its parameters to the best books."""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from backtest import provenance
from backtest._checks import InputError, NumericsWarning, caller_level, renamed
from backtest.book_evaluator import BookEvaluator, joined
from backtest.books import Book
from backtest.cells import Aggregate, Cells, Window
from backtest.costs import FORMER, Costs
from backtest.portfolio import MAX_GROSS, Market, Rule, Rules, gross_limit
from backtest.results import Result
from backtest.solve import SearchOptions, Subject, solve
from backtest.space import Space
from backtest.study.code import fingerprints
from backtest.study.fingerprint import by_content, objective_name

Floats = NDArray[np.float64]

#: Most candidates per batch of a grid: a rule takes milliseconds, and only finished batches are stored.
BATCH = 256


@renamed(FORMER)
def optimize_weights(
    rule: Rule,
    space: Space | Mapping[str, Any],
    *,
    close: Any,
    open: Any = None,
    high: Any = None,
    low: Any = None,
    rebalance: ArrayLike | None = None,
    fill: str = "next_open",
    costs: Costs,
    start_cash: float = 100_000.0,
    reinvest: bool = True,
    reserve_costs: bool = False,
    window: Window = None,
    index: Any = None,
    benchmark: ArrayLike | None = None,
    periods_per_year: float | None = None,
    rf: float = 0.0,
    delisted: str = "keep",
    delisted_after: int = 5,
    max_gross: float = MAX_GROSS,
    metric: str = "sharpe",
    method: str = "auto",
    n_trials: int | None = None,
    min_trades: int = 1,
    keep: int = 10_000,
    seed: int = 0,
    aggregate: Aggregate = "median",
    store: str | None = None,
    version: str | None = None,
    data: Any = None,
    n_threads: int | None = None,
    timeout: float | None = None,
    progress: bool | None = None,
    sampler: Any = "tpe",
) -> Result:
    """Search for the parameters of a rule whose weights make the best book.

    Parameters
    ----------
    rule : callable
        ``rule(params) -> weights``, shape (n_bars, n_assets), as :func:`backtest.simulate` takes them.  Weights of a bar must
        depend only on data up to its close.
    space : Space or mapping
        What may vary.
    close, open, high, low, rebalance, fill, costs, start_cash, reinvest, reserve_costs, index, benchmark, periods_per_year, rf
        As of :func:`backtest.simulate`.
    delisted, delisted_after, max_gross
        As of :func:`backtest.simulate`.
    window : slice or list of slices, optional
        Trade inside these bars only, by their numbers or by dates; the rule may use all bars.  Several windows are traded
        one by one, each with ``start_cash`` anew; the rule is called once for all of them.
    metric : str
        A ``sweep`` metric of ``bt.METRICS``, which has its direction.
    method : {"auto", "grid", "direct", "evolution", "optuna"}
        As of :func:`backtest.optimize`.
    n_trials : int, optional
        Distinct candidates to evaluate.
    min_trades : int
        Candidates with fewer completed trades rank last; of several windows, in all of them together.
    keep : int
        Best candidates that the result's table holds.
    seed : int
        Order of evaluation, or the start of ``evolution``.
    aggregate : {"median", "mean", "min"} or callable
        Of several windows: how a metric's values in all of them become one; as of :func:`backtest.optimize`.
    store : str, optional
        ``"sqlite:///results.db"``: candidates evaluated by any search with the same rule and version, prices, costs, windows and
        other arguments are not evaluated again.
    version : str, optional
        Of the rule; change it when the rule changes.  Needed with a store, which cannot know whether code still means
        the same.
    data : str or Bars, or list or dict of them, optional
        What the rule uses beside the traded prices; results on other data are kept apart in the store.
    n_threads : int, optional
        Of the kernel; the rule is called on one.  Never changes a result.
    timeout : float, optional
        Seconds after which no further batch starts.
    progress : bool, optional
        Show a progress bar; by default on terminals and in notebooks only.
    sampler : str or Optuna sampler
        Of ``method="optuna"``, as of :class:`bt.Study`.

    Returns
    -------
    Result
        ``result.best`` is the best candidate's :class:`backtest.Book`, of several windows a dict of them; ``result.table`` has
        every metric of those kept, of several windows as of :func:`backtest.optimize`.

    Raises
    ------
    InputError
        An argument breaks its rule, a store without a ``version`` among them.
    ObjectiveError
        The rule failed, or gave weights that break a rule; ``params`` holds the candidate.
    """
    options = SearchOptions(metric, method, n_trials, min_trades, keep, seed, timeout, store, progress, sampler)
    space = options.checked(space)
    _check_version(store, version)
    rules = Rules(
        costs=costs,
        fill=fill,
        start_cash=start_cash,
        reinvest=reinvest,
        reserve_costs=reserve_costs,
        periods_per_year=periods_per_year,
        rf=rf,
        delisted=delisted,
        delisted_after=delisted_after,
    ).checked()
    market = Market(close, open, high, low, index, rules.write_off_after)
    base = market.benchmark(benchmark)
    books = BookEvaluator(rule, space, market, rules, rebalance=rebalance, max_gross=gross_limit(max_gross), n_threads=n_threads)
    cells = Cells(market, window, aggregate, lambda _market, _share: books)
    cells.check()
    _warn_of_ended_prices(market, [cell.window for cell in cells.cells])
    subject = _subject(books, cells, version, base, lambda: _more_context(rule, rebalance, data))
    return solve(cells, space, options, subject, batch_size=BATCH)


def _check_version(store: str | None, version: str | None) -> None:
    if store is not None and (not isinstance(version, str) or not version):
        raise InputError(
            f'version must be given with a store (version="1"; change it when the rule changes), got {version!r}: '
            "a store cannot know whether code still means the same"
        )


def _subject(
    books: BookEvaluator,
    cells: Cells[BookEvaluator],
    version: str | None,
    benchmark: Floats | None,
    more_context: Callable[[], dict[str, Any]],
) -> Subject:
    return Subject(
        provenance=lambda: provenance.books(cells, version),
        depends_on=("data", "rules", "start", "version"),
        more_context=more_context,
        replay_factory=lambda cell, params: functools.partial(_book, books, params, cell.window, benchmark),
        how_to_replay=lambda: provenance.how_to_replay(
            cells,
            "bt.simulate(rule(result.best_params), close=close, costs=costs, **result.provenance['rules']",
            "costs of the search (result.provenance has them), its prices, rebalance and max_gross",
        ),
    )


def _more_context(rule: Rule, rebalance: ArrayLike | None, data: Any) -> dict[str, Any]:
    """What scores depend on beside prices and settings, for the store."""
    mask = None if rebalance is None else hashlib.blake2b(np.asarray(rebalance).tobytes(), digest_size=16).hexdigest()
    return {
        "rule": objective_name(rule),
        "rebalance": mask,
        "looks_at": by_content("data", data),
        "code": fingerprints({"rule": rule}),
    }


def _book(evaluator: BookEvaluator, params: dict[str, Any], window: slice | None, benchmark: Floats | None) -> Book:
    events = evaluator.events(params)
    book = Book(evaluator.market, evaluator.rules, joined([events]), window, benchmark)
    book.warn()
    return book


def _warn_of_ended_prices(market: Market, windows: Sequence[slice | None]) -> None:
    """Warn of assets that candidates may hold beyond their last price."""
    endings, last = market.endings, max(market.bounds(window)[1] for window in windows) - 1
    if endings is None:
        return
    ended = endings.unusual_gaps(np.flatnonzero(market.marks[last]).tolist(), last, market.assets)
    if ended:
        warnings.warn(
            f"prices end before the last bar ({last}): {ended}; books that hold these assets then value them at their "
            'last price to the end; delisted="write_off" makes them worth 0',
            NumericsWarning,
            stacklevel=caller_level(),
        )

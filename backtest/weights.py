"""``bt.optimize_weights``: from a rule that makes weights and a space of its parameters to the best books."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
import platform
import warnings
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from numpy.typing import ArrayLike

from backtest import _backend, search
from backtest._checks import NumericsWarning, SpaceError, choice, vector, whole
from backtest.books import Book
from backtest.costs import Costs
from backtest.metrics import METRICS, NUMERICS_VERSION, SWEEP, check_metrics, warn_if_undated
from backtest.optimize import METHODS, _progress
from backtest.portfolio import Evaluator, Market, Rule, Rules, joined
from backtest.results import Result
from backtest.runs import metrics_table
from backtest.space import Space

logger = logging.getLogger("backtest")


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
    start_value: float = 100_000.0,
    reinvest: bool = True,
    reserve_costs: bool = False,
    window: slice | None = None,
    index: Any = None,
    benchmark: ArrayLike | None = None,
    periods_per_year: float | None = None,
    rf: float = 0.0,
    metric: str = "sharpe",
    method: str = "auto",
    n_trials: int | None = None,
    min_trades: int = 1,
    keep: int = 10_000,
    seed: int = 0,
    n_threads: int | None = None,
    timeout: float | None = None,
    progress: bool | None = None,
) -> Result:
    """Search for the parameters whose weights make the best book.

    Parameters
    ----------
    rule : callable
        ``rule(params) -> weights``, shape (n_bars, n_assets), as :func:`backtest.simulate` takes them.  Weights of a bar must
        use what was known at its close, and no more.
    space : Space or mapping
        What may vary.
    close, open, high, low, rebalance, fill, costs, start_value, reinvest, reserve_costs, window, index, benchmark, \
periods_per_year, rf
        As of :func:`backtest.simulate`.  ``window`` trades inside these bars; the rule may look at all of them.
    metric : str
        A ``sweep`` metric of ``bt.METRICS``; its direction is known.
    method : {"auto", "grid", "direct", "evolution"}
        As of :func:`backtest.optimize`.
    n_trials : int, optional
        Distinct candidates to evaluate.
    min_trades : int
        Candidates with fewer completed trades rank last.
    keep : int
        Best candidates that the result's table holds.
    seed : int
        Order of evaluation, or the start of ``evolution``.
    n_threads : int, optional
        Of the kernel; the rule is called on one.  Never changes a result.
    timeout : float, optional
        Seconds after which no further batch starts.
    progress : bool, optional
        Show a progress bar; by default on terminals and in notebooks only.

    Returns
    -------
    Result
        ``result.best`` is the best candidate's :class:`backtest.Book`; ``result.table`` has every metric of those kept.

    Raises
    ------
    ObjectiveError
        The rule failed, or gave weights that break a rule; ``params`` holds the candidate.
    """
    space = space if isinstance(space, Space) else Space(space)
    check_metrics([metric], "sweep")
    choice("method", method, METHODS)
    whole("min_trades", min_trades, low=0)
    for name in space.names:
        if name in METRICS:  # a table of results has both as columns
            raise SpaceError(f"parameter names must not be metrics, got {name!r}")
    if space.continuous and method == "grid":
        raise SpaceError(f"{', '.join(space.continuous)} must have a step for a grid search, got a continuous range")
    rules = Rules(costs, fill, start_value, reinvest, reserve_costs, periods_per_year, rf).checked()
    market = Market(close, open, high, low, index)
    base = None if benchmark is None else vector("benchmark", benchmark, length=market.n_bars)
    evaluator = Evaluator(rule, space.parameters, market, rules, rebalance=rebalance, n_threads=n_threads)
    evaluate = functools.partial(evaluator, window=window)
    context = market.context(rules, window)
    warn_if_undated(context)
    ranking = search.Ranking(metric, min_trades, SWEEP.index(metric), lambda scores: scores[:, SWEEP.index("n_trades")])
    why = "as asked for"
    if method == "auto":
        method, why = search.choose(evaluate, space, n_trials=n_trials, seed=seed, timeout=timeout)
    find = search.grid if method == "grid" else functools.partial(search.cube, engine=method)
    with _progress(method, metric, progress) as bar:
        found = find(evaluate, space, n_trials=n_trials, keep=keep, seed=seed, timeout=timeout, callback=bar,
                     rank=ranking)
    if found.status == search.INTERRUPTED:
        logger.warning("search interrupted: %s", found.message)
    if found.fun == math.inf:
        warnings.warn(f"no candidate has a defined {metric} with at least {min_trades} trades; the first candidate is reported",
                      NumericsWarning, stacklevel=2)
    columns = {name: [parameter.decode(value) for value in found.batch[:, column].tolist()]
               for column, (name, parameter) in enumerate(space.parameters.items())}
    provenance = _provenance(evaluator, space, window) | {
        "metric": metric, "min_trades": min_trades, "seed": seed, "periods_per_year": context.periods_per_year, "method": method,
        "n_trials": n_trials, "n_evaluated": found.nfev, "is_interrupted": not found.success,
        "search": f"{method}, {why}; {found.message}"}
    return Result(metrics_table(SWEEP, columns, found.scores), space.decode(found.x), provenance,
                  lambda: Book(market, rules, joined([evaluator.events(found.x)]), window, base), ranking.distribution)


def _provenance(evaluator: Evaluator, space: Space, window: slice | None) -> dict[str, Any]:
    packages = ("backtest-kernels", "numpy", "scipy", "pandas")
    backend, market, rule = _backend.chosen(), evaluator.market, evaluator.rule
    first, last = market.bounds(window)
    content = hashlib.blake2b(digest_size=16)
    for array in (market.close, market.open, market.high, market.low, market.nanos):
        content.update(b"-" if array is None else array.tobytes())
    return {
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "numerics_version": NUMERICS_VERSION, "backend": backend.name, "simd": backend.simd, "data": content.hexdigest(),
        "assets": list(map(str, market.assets)), "n_bars": market.n_bars, "n_decision_bars": last - first, "start": first,
        "rule": f"{getattr(rule, '__module__', '?')}.{getattr(rule, '__qualname__', repr(rule))}", "space": repr(space),
        "n_candidates": space.size, "costs": evaluator.rules.costs.to_dict(),
        "rules": {name: value for name, value in evaluator.rules._asdict().items() if name != "costs"},
        "window": None if window is None else [window.start, window.stop]}

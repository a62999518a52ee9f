"""``bt.optimize``: from bars, a strategy and a space to the best candidates."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from backtest import provenance
from backtest._checks import SpaceError
from backtest.bars import Bars
from backtest.candidate_table import all_combinations
from backtest.cells import Aggregate, Cell, Cells, Window, evaluator_of
from backtest.costs import Costs, Execution
from backtest.evaluation import BarsEvaluator
from backtest.expr import Node
from backtest.line_values import Combinations
from backtest.lines import Custom
from backtest.machine.decorate import BarStrategy
from backtest.metrics import SWEEP
from backtest.results import Result
from backtest.rules import Strategy
from backtest.runs import Run, run
from backtest.solve import SearchOptions, Subject, solve
from backtest.space import Choice, Continuous, Grid, Space
from backtest.study.memory import custom_lines


def optimize(
    bars: Bars | Mapping[str, Bars],
    strategy: Strategy | BarStrategy,
    space: Space | Mapping[str, Any],
    *,
    costs: Costs,
    execution: Execution | None = None,
    metric: str = "sharpe",
    method: str = "auto",
    n_trials: int | None = None,
    min_trades: int = 1,
    keep: int = 10_000,
    seed: int = 0,
    window: Window = None,
    aggregate: Aggregate = "median",
    store: str | None = None,
    n_threads: int | None = None,
    timeout: float | None = None,
    progress: bool | None = None,
    sampler: Any = "tpe",
) -> Result:
    """Search a space for the best candidates of a strategy.

    Parameters
    ----------
    bars : Bars or mapping of str to Bars
        Several symbols by name: each candidate is evaluated on each.
    strategy : Strategy or function with bt.on_bar
        Ready ones are in ``bt.strategies``.
    space : Space or mapping
        What may vary.
    costs : Costs
        ``bt.Costs.zero()`` says none.
    execution : Execution, optional
    metric : str
        A ``sweep`` metric of ``bt.METRICS``, which has its direction.
    method : {"auto", "grid", "direct", "evolution", "optuna"}
        ``grid`` evaluates every candidate of a finite space.  ``direct`` (DIRECT) and ``evolution`` (differential
        evolution) move through any space, continuous ranges too, and evaluate no candidate twice.  ``auto`` takes the grid
        for a finite space that can be enumerated in 60 s (or ``timeout``), as estimated by timing a few candidates; ``direct``
        for a continuous space in which up to three parameters vary; ``evolution`` otherwise.
        ``result.search`` says what was chosen, and why.  ``optuna`` takes batches of eight from an Optuna sampler, at
        milliseconds a candidate, so ``auto`` never chooses it.
    n_trials : int, optional
        Distinct candidates to evaluate.  By default all (``grid``), or for each parameter that varies 1,000 (``optuna``: 100).
    min_trades : int
        Candidates with fewer completed trades rank last; of several symbols or windows, in all of them together.
    keep : int
        Best candidates that the result's table holds.  Ties are in enumeration order (``grid``), or in order of evaluation.
    seed : int
        Order of evaluation and choice of ``n_trials`` (``grid``), or the start of ``evolution``.
    window : slice or list of slices, optional
        Trade inside these bars only, by their numbers or by dates (``slice("2010", "2012-06")``, both ends included, on each
        symbol's own bars); warm-up is read before them.  Several windows are evaluated one by one, each with
        ``start_cash`` anew; of several symbols, each in each window.
    aggregate : {"median", "mean", "min"} or callable
        Of several symbols or windows (*cells*): how a metric's values in all of them become one, by which candidates are
        ranked.  A metric undefined in a cell is undefined.  A callable takes an array (n_candidates, n_cells), once
        for each metric, and returns (n_candidates,), NaN for undefined; ``min`` is the smallest value, even if less is
        better.
    store : str, optional
        ``"sqlite:///results.db"``: candidates evaluated by any search on the same data with the same costs, execution, start and
        windows are not evaluated again.  A ``grid`` stores its finished blocks and the candidates it keeps; an interrupted one
        resumes.
    n_threads : int, optional
        All processors this process may use by default; never changes a result.
    timeout : float, optional
        Seconds after which no further batch starts.
    progress : bool, optional
        Show a progress bar; by default on terminals and in notebooks only.
    sampler : str or Optuna sampler
        Of ``method="optuna"``, as of :class:`bt.Study`.

    Returns
    -------
    Result
        Ctrl-C ends the search and returns the result so far, marked ``is_interrupted``.  Of several cells, the table has
        the aggregated metrics, then ``metric@cell`` of each, such as ``sharpe@GOOG``, ``sharpe@0:500`` or
        ``sharpe@GOOG[0:500]``; ``table.filter(like="sharpe@")`` is one metric in all cells.

    Notes
    -----
    Every candidate starts at the longest warm-up that any candidate of the space can have (``result.start``, of several
    symbols by symbol), so that their metrics cover the same bars.  A continuous parameter cannot be a line's window.
    """
    options = SearchOptions(metric, method, n_trials, min_trades, keep, seed, timeout, store, progress, sampler)
    space = options.checked(space)
    if space.conditional:
        raise SpaceError(
            f"{', '.join(space.conditional)} must always be there, because a strategy reads every parameter, got a "
            "condition (when); bt.Study takes it"
        )
    execution = Execution() if execution is None else execution
    cells = Cells(
        bars,
        window,
        aggregate,
        lambda of, share: evaluator_of(
            of, strategy, space.parameters, costs=costs, execution=execution, metrics=SWEEP, n_threads=n_threads, memo_share=share
        ),
    )
    cells.by_symbol(lambda each: each.fix_start(_combinations(each, space)))
    cells.check()

    def replay_factory(cell: Cell, params: dict[str, Any]) -> Callable[[], Run]:
        evaluator = cells.evaluators[cell.symbol]
        started = execution.replace(start=evaluator.fixed_start)
        return functools.partial(run, evaluator.bars, strategy, params, costs=costs, window=cell.window, execution=started)

    subject = Subject(
        provenance=lambda: provenance.strategies(cells),
        depends_on=("data", "strategy", "strategy_fingerprint", "execution", "start"),
        more_context=lambda: custom_lines(strategy, execution.size, costs.funding) | {"TA-Lib": metadata.version("TA-Lib")},
        replay_factory=replay_factory,
        how_to_replay=lambda: provenance.how_to_replay(
            cells,
            "bt.run(bars, strategy, result.best_params, costs=costs, execution=execution.replace(start=result.start)",
            "costs and execution of the search (result.provenance has them)",
        ),
        packages=("TA-Lib",),
    )
    return solve(cells, space, options, subject)


class _Values(Sequence[Any]):
    """Values of a parameter, computed on access: a fine grid may not fit into memory."""

    def __init__(self, parameter: Grid | Choice) -> None:
        self._parameter = parameter

    def __len__(self) -> int:
        return self._parameter.size

    def __getitem__(self, place: Any) -> Any:
        return self._parameter.decode(self._parameter.at(np.array([range(len(self))[place]]))[0])

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parameter.values())


def _combinations(evaluator: BarsEvaluator, space: Space) -> Combinations:
    """Parameter values among which the longest warm-up is sought: all values, and both ends of continuous ranges."""
    values: dict[str, Sequence[Any]] = {
        name: [parameter.low, parameter.high] if isinstance(parameter, Continuous) else _Values(parameter)
        for name, parameter in space.parameters.items()
    }
    listed = all_combinations({name: [default] for name, default in evaluator.params.items()} | values)

    def combinations(node: Node) -> Iterable[dict[str, Any]]:
        # A custom line takes any number; all other parameters with a warm-up are windows.
        for name in () if isinstance(node, Custom) else node.params:
            if name in space.continuous:
                raise SpaceError(
                    f"{name} must have a step, because it counts bars, got the continuous range {space.parameters[name]!r}"
                )
        return listed(node)

    max_bars = getattr(evaluator.strategy, "max_bars", None)
    if isinstance(max_bars, Node):
        combinations(max_bars)
    return combinations

"""``bt.optimize``: from bars, a strategy and a space to the best candidates."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import platform
import warnings
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest import _backend, search
from backtest._checks import InputError, NumericsWarning, SpaceError, choice, known_names, whole
from backtest.bars import Bars
from backtest.costs import Costs, Execution
from backtest.lines import all_combinations
from backtest.metrics import METRICS, NUMERICS_VERSION, SWEEP, check_metrics, objective, warn_if_undated
from backtest.rules import Strategy
from backtest.runs import Run, metrics_table, run
from backtest.signals import Evaluator
from backtest.space import Space

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("backtest")

#: Layout of a saved result; raised when a reader of the old one would misread the new one.
SCHEMA_VERSION = 1
METHODS = ("auto", "grid")


class Result:
    """What a search found.

    Attributes
    ----------
    table : DataFrame
        Candidates kept, best first: parameters as (Multi)Index, metrics as columns.
    best_params : dict
    best_value : float
        The metric of the best candidate; NaN if no candidate has it.
    start : int
        First bar whose close could decide, for every candidate.
    search : str
        Which search ran, why, and how it ended.
    n_evaluated : int
        Distinct candidates evaluated.
    is_interrupted : bool
        Ctrl-C or the timeout ended the search early; the rest is what was done until then.
    provenance : dict
        Versions, fingerprints, seed, costs, execution and start: what it takes to get the same numbers again.
    """

    def __init__(self, table: pd.DataFrame, best_params: dict[str, Any], provenance: dict[str, Any], best: Any = None) -> None:
        self.table, self.best_params, self.provenance, self._best = table, best_params, provenance, best
        self.metric: str = provenance["metric"]
        self.best_value = float(table[self.metric].iloc[0])
        self.start: int = provenance["start"]
        self.search: str = provenance["search"]
        self.n_evaluated: int = provenance["n_evaluated"]
        self.is_interrupted: bool = provenance["is_interrupted"]

    def __repr__(self) -> str:
        return f"Result({self.metric} {self.best_value:.6g} at {self.best_params}; {self.search})"

    @functools.cached_property
    def best(self) -> Run:
        """The best candidate, replayed: ``.stats``, ``.trades``, ``.orders``, ``.equity``."""
        if self._best is None:
            raise InputError("a loaded result has no bars to replay its best candidate on; call bt.run with result.best_params "
                             "and Execution(start=result.start)")
        best: Run = self._best()
        return best

    def heatmap(self, x: str, y: str, metric: str | None = None, agg: str = "max") -> pd.DataFrame:
        """A metric over two parameters, of the candidates kept.

        Parameters
        ----------
        x, y : str
            Parameters for columns and rows.
        metric : str, optional
            The searched metric by default.
        agg : str
            What to make of several candidates in one cell; any name pandas knows.

        Returns
        -------
        DataFrame, shape (values of y, values of x)
        """
        for name in (x, y):
            known_names("parameter", [name], [str(each) for each in self.table.index.names])
        metric = self.metric if metric is None else metric
        known_names("metric", [metric], self.table.columns)
        frame: pd.DataFrame = self.table[metric].groupby(level=[y, x], dropna=False).agg(agg).unstack(x)
        return frame

    def save(self, path: str | Path) -> Path:
        """Write ``candidates.parquet``, ``trades.csv``, ``equity.csv``, ``result.json`` into a folder; :func:`load` reads it."""
        folder = Path(path)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"path must be a folder, got the file {str(folder)!r}")
        folder.mkdir(parents=True, exist_ok=True)
        frame = self.table.reset_index()
        parameters = [name for name in self.table.index.names if name is not None]
        for name in parameters:
            values = frame[name].dropna()
            if values.map(type).nunique() > 1:  # a choice of several kinds has no Parquet type
                frame[name] = frame[name].map(repr)
        frame.columns = frame.columns.rename(None)
        frame.to_parquet(folder / "candidates.parquet", index=False)
        self.best.trades.to_csv(folder / "trades.csv", index=False)
        self.best.equity.to_csv(folder / "equity.csv")
        written = {"schema_version": SCHEMA_VERSION, "best_params": self.best_params, "best_value": self.best_value,
                   "statistics": self.best.stats.to_dict(), "trade_statistics": self.best.trade_statistics().to_dict(),
                   "parameters": parameters, "provenance": self.provenance}
        (folder / "result.json").write_text(json.dumps(json_safe(written), indent=2) + "\n", encoding="utf-8")
        return folder


def load(path: str | Path) -> Result:
    """Read what :meth:`Result.save` wrote.

    The result has its table, parameters, metrics and provenance; it has no bars, so ``.best`` cannot be replayed.
    """
    import pandas as pd

    folder = Path(path)
    if not (folder / "result.json").exists():
        raise InputError(f"path must be a folder with a result.json, got {str(folder)!r}")
    written = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    if written.get("schema_version") != SCHEMA_VERSION:
        raise InputError(f"schema_version must be {SCHEMA_VERSION}, got {written.get('schema_version')!r} in {str(folder)!r}")
    table = pd.read_parquet(folder / "candidates.parquet").set_index(written["parameters"])
    table.columns = table.columns.rename("metric")
    return Result(table, written["best_params"], written["provenance"])


def optimize(
    bars: Bars,
    strategy: Strategy,
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
    window: slice | None = None,
    n_threads: int | None = None,
    timeout: float | None = None,
    progress: bool | None = None,
) -> Result:
    """Search a space for the best candidates of a strategy.

    Parameters
    ----------
    bars : Bars
    strategy : Strategy
        Ready ones are in ``bt.strategies``.
    space : Space or mapping
        What may vary.
    costs : Costs
        ``bt.Costs.zero()`` says none.
    execution : Execution, optional
    metric : str
        A ``sweep`` metric of ``bt.METRICS``; its direction is known.
    method : {"auto", "grid"}
        ``grid`` evaluates every candidate of a finite space.
    n_trials : int, optional
        Distinct candidates to evaluate; all by default.
    min_trades : int
        Candidates with fewer completed trades rank last.
    keep : int
        Best candidates that the result's table holds.
    seed : int
        Order of evaluation, and the choice of ``n_trials``.
    window : slice, optional
        Trade inside these bars only; warm-up is read before them.
    n_threads : int, optional
        All processors this process may use by default; never changes a result.
    timeout : float, optional
        Seconds after which no further batch starts.
    progress : bool, optional
        Show a progress bar; by default on terminals and in notebooks only.

    Returns
    -------
    Result
        Ctrl-C ends the search and returns what is done so far, marked ``is_interrupted``.

    Notes
    -----
    Every candidate starts at the longest warm-up that any candidate of the space can have (``result.start``), so that
    their metrics cover the same bars.
    """
    space = space if isinstance(space, Space) else Space(space)
    check_metrics([metric], "sweep")
    choice("method", method, METHODS)
    whole("min_trades", min_trades, low=0)
    execution = execution or Execution()
    evaluator = Evaluator(bars, strategy, space.parameters, costs=costs, execution=execution, metrics=SWEEP, n_threads=n_threads)
    if space.continuous:
        raise SpaceError(f"{', '.join(space.continuous)} must have a step for a grid search, got a continuous range")
    defaults = {name: [default] for name, default in evaluator.params.items()}
    evaluator.fix_start(all_combinations(defaults | space.values()))
    context = evaluator.context(window)
    warn_if_undated(context)
    at, trades_at = SWEEP.index(metric), SWEEP.index("n_trades")
    total = len(space) if n_trials is None else min(n_trials, len(space))
    logger.info("search: grid over %s of %s candidates, because the space is finite", f"{total:,}", f"{len(space):,}")
    with _progress(total, metric, progress) as bar:
        found = search.grid(functools.partial(evaluator, window=window), space, n_trials=n_trials, keep=keep, seed=seed,
                            timeout=timeout, callback=bar,
                            rank=lambda scores: objective(scores[:, at], metric, scores[:, trades_at], min_trades))
    if found.status == search.INTERRUPTED:
        logger.warning("search interrupted: %s", found.message)
    if found.fun == math.inf:
        warnings.warn(f"no candidate has a defined {metric} with at least {min_trades} trades; the first candidate is reported",
                      NumericsWarning, stacklevel=2)
    columns = {name: [parameter.decode(value) for value in found.batch[:, column].tolist()]
               for column, (name, parameter) in enumerate(space.parameters.items())}
    best_params = space.decode(found.x)
    provenance = _provenance(evaluator, space, metric, seed, window, min_trades) | {
        "method": "grid", "n_trials": n_trials, "n_evaluated": found.nfev, "is_interrupted": not found.success,
        "search": f"grid, because the space is finite; {found.message}"}
    replayed = execution.replace(start=evaluator.fixed_start)
    return Result(metrics_table(evaluator, columns, found.scores), best_params, provenance,
                  lambda: run(bars, strategy, best_params, costs=costs, execution=replayed, window=window))


class _progress:
    """A tqdm bar that a search's callback moves; off where nobody looks."""

    def __init__(self, total: int, metric: str, wish: bool | None) -> None:
        from tqdm.auto import tqdm

        self._metric = metric
        self._bar = tqdm(total=total, unit=" candidates", unit_scale=True, desc="grid", leave=False,
                         disable=None if wish is None else not wish)

    def __enter__(self) -> _progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, result: Any) -> None:
        self._bar.update(result.nfev - self._bar.n)
        value = -result.fun if METRICS[self._metric].direction > 0 else result.fun
        self._bar.set_postfix_str(f"best {self._metric} {value:.4g}", refresh=False)


def _provenance(
    evaluator: Evaluator, space: Space, metric: str, seed: int, window: slice | None, min_trades: int
) -> dict[str, Any]:
    packages = ("backtest-kernels", "numpy", "scipy", "pandas", "TA-Lib")
    backend = _backend.chosen()
    strategy = evaluator.strategy
    return {
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in packages},
        "numerics_version": NUMERICS_VERSION, "backend": backend.name, "simd": backend.simd, "data": evaluator.bars.content_hash,
        "symbol": evaluator.bars.symbol, "n_bars": len(evaluator.bars), "strategy": repr(strategy),
        "strategy_fingerprint": hashlib.blake2b(repr(strategy.key).encode(), digest_size=16).hexdigest(), "space": repr(space),
        "n_candidates": len(space), "costs": evaluator.costs.to_dict(), "execution": evaluator.execution.to_dict(),
        "start": evaluator.fixed_start, "window": None if window is None else [window.start, window.stop], "metric": metric,
        "min_trades": min_trades, "periods_per_year": evaluator.periods_per_year, "seed": seed}


def json_safe(value: Any) -> Any:
    """``value`` with NaN and infinities as null and NumPy scalars as numbers, for JSON."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value

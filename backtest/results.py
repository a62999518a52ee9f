"""Result of a search: its table and best candidate, saved and loaded."""

from __future__ import annotations

import ast
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from backtest._checks import InputError, file_path, known_names
from backtest._said import said, shown
from backtest.search import Distribution
from backtest.simulation import Simulation, json_safe

if TYPE_CHECKING:
    import pandas as pd

#: Layout of a saved result; raised when a reader of the old one would misread the new one.  Layout 1 is read too.
SCHEMA_VERSION = 2
#: Required entries of ``result.json``, and their types.
WRITTEN = {"best_params": dict, "provenance": dict, "parameters": list, "mixed": list}
#: Fields of a result in ``result.json``; layout 1 had them in provenance, without ``how_to_replay``.
FIELDS: dict[str, tuple[type, ...]] = {
    "metric": (str,),
    "start": (int, dict),
    "search": (str,),
    "n_evaluated": (int,),
    "is_interrupted": (bool,),
    "how_to_replay": (str,),
}
_REPLAY_OF_LAYOUT_1 = (
    "bt.run(bars, strategy, result.best_params, costs=costs, execution=execution.replace(start=result.start), window=window), of "
    "weights bt.simulate, with the costs, execution and window of the search (result.provenance has them)"
)
_TYPE_NAMES = {dict: "an object", list: "a list", str: "text", int: "a whole number", bool: "true or false"}


@dataclasses.dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Result:
    """What a search found.

    Attributes
    ----------
    table : DataFrame
        Candidates kept, best first: parameters as (Multi)Index, metrics as columns.  Of several cells (symbols, windows)
        the aggregated metrics, then ``metric@cell`` of each.
    best_params : dict
    best_value : float
        The metric of the best candidate; NaN if no candidate has it.
    metric : str
        The metric that was optimised.
    start : int or dict of str to int
        Bar at which the warm-up of every candidate is over, or ``Execution.start``; of several symbols by symbol.  The first
        bar whose close could decide is this one, or the window's first bar where that comes later.  Of
        :func:`backtest.optimize_weights`, where nothing warms up: the first bar of the window, of several of the earliest.
    search : str
        Which search ran, why, and how it ended.
    n_evaluated : int
        Distinct candidates evaluated.
    is_interrupted : bool
        Ctrl-C or the timeout ended the search early; the rest is what was done until then.
    distribution : Distribution or None
        How the metric is distributed over all candidates that this search evaluated, kept or not; None in a loaded result.
    provenance : dict
        Versions, fingerprints, seed, costs, execution and start: what it takes to get the same numbers again.
    how_to_replay : str
        What to call for the best candidate where ``best`` has no data, as in a loaded result.
    replay : callable or None
        Replays the best candidate: a :class:`backtest.Simulation`, of several cells a dict of them.
    """

    table: pd.DataFrame
    best_params: dict[str, Any]
    best_value: float
    metric: str
    start: int | dict[str, int]
    search: str
    n_evaluated: int
    is_interrupted: bool
    distribution: Distribution | None
    provenance: dict[str, Any]
    how_to_replay: str
    replay: Callable[[], Simulation | dict[str, Simulation]] | None
    _saved_summary: dict[str, float | None] | None = None  # of a loaded result

    def __repr__(self) -> str:
        return f"Result({self.metric} {self.best_value:.6g} at {self.best_params}; {self.search})"

    @functools.cached_property
    def best(self) -> Any:
        """The best candidate, replayed: ``.stats``, ``.trades``, ``.orders``, ``.equity``; of several cells a dict of them."""
        if self.replay is None:
            raise InputError(f"a loaded result has no bars to replay its best candidate on; call {self.how_to_replay}")
        return self.replay()

    @property
    def summary(self) -> pd.Series[float]:
        """The metric over all candidates evaluated: counts, mean, standard deviation, quantiles (to 0.4 %), extremes."""
        if self.distribution is None:
            if self._saved_summary is None:
                raise InputError("a result of this file has no summary, got none in result.json")
            import pandas as pd

            return pd.Series(self._saved_summary, dtype=np.float64)
        return self.distribution.summary()

    def heatmap(self, x: str, y: str, metric: str | None = None, agg: str = "max") -> pd.DataFrame:
        """A metric over two parameters, of the candidates kept.

        Parameters
        ----------
        x, y : str
            Parameters for columns and rows.
        metric : str, optional
            The searched metric by default.
        agg : str
            How candidates with the same x and y are aggregated; any name pandas knows.

        Returns
        -------
        DataFrame, shape (values of y, values of x)
        """
        for name in (x, y):
            known_names("parameter", [name], [str(each) for each in self.table.index.names])
        if x == y:
            raise InputError(f"x and y must be two parameters, got {shown(x)} for both")
        metric = self.metric if metric is None else metric
        known_names("metric", [metric], self.table.columns)
        groups = self.table[metric].groupby(level=[y, x], dropna=False)
        if not callable(agg) and not (isinstance(agg, str) and callable(getattr(groups, agg, None))):
            raise InputError(f"agg must be a name that pandas knows, such as 'max', 'mean' or 'count', got {shown(agg)}")
        frame: pd.DataFrame = groups.agg(agg).unstack(x)
        return frame

    def save(self, path: str | Path) -> Path:
        """Write ``candidates.parquet``, ``trades.csv``, ``equity.csv``, ``result.json`` into a folder; :func:`load` reads it.

        Of several cells, trades and equity have a column ``cell``, and statistics are by cell.
        """
        folder = file_path("path", path)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"path must be a folder, got the file {shown(str(folder))}")
        folder.mkdir(parents=True, exist_ok=True)
        frame = self.table.reset_index()
        parameters = [name for name in self.table.index.names if name is not None]
        mixed = [name for name in parameters if frame[name].dropna().map(type).nunique() > 1]
        for name in mixed:  # values of several types have no Parquet type
            frame[name] = frame[name].map(repr, na_action="ignore")
        frame.columns = frame.columns.rename(None)
        frame.to_parquet(folder / "candidates.parquet", index=False)
        trades, equity, numbers = _replayed(self.best)
        trades.to_csv(folder / "trades.csv", index=False)
        equity.to_csv(folder / "equity.csv")
        written = {
            "schema_version": SCHEMA_VERSION,
            "best_params": self.best_params,
            "best_value": self.best_value,
            **{name: getattr(self, name) for name in FIELDS},
            **numbers,
            "parameters": parameters,
            "mixed": mixed,
            "provenance": _with_infinities(self.provenance),
            "summary": None if self.distribution is None else _with_infinities(self.summary.to_dict()),
        }
        (folder / "result.json").write_text(json.dumps(json_safe(written), indent=2) + "\n", encoding="utf-8")
        return folder


def _replayed(best: Simulation | dict[str, Simulation]) -> tuple[Any, Any, dict[str, Any]]:
    """Trades, equity and, by name, numbers to write; of several cells, one table each and numbers by cell."""
    import pandas as pd

    if not isinstance(best, dict):
        return (
            best.trades,
            best.equity,
            {
                "stats": best.stats.to_dict(),
                "account_statistics": best.account_statistics().to_dict(),
                "trade_statistics": best.trade_statistics().to_dict(),
            },
        )
    each = {name: _replayed(one) for name, one in best.items()}
    trades, equity = [one[0] for one in each.values()], [one[1].to_frame() for one in each.values()]
    for tables in (trades, equity):
        for name, table in zip(each, tables, strict=True):
            table.insert(0, "cell", name)
    full = [table for table in trades if len(table)] or trades[:1]  # pandas warns about the dtypes of empty tables
    kinds = next(iter(each.values()))[2]
    numbers = {kind: {name: one[2][kind] for name, one in each.items()} for kind in kinds}
    return pd.concat(full, ignore_index=True), pd.concat(equity), numbers


def load(path: str | Path) -> Result:
    """Read what :meth:`Result.save` wrote.

    The result has its table, parameters, metrics and provenance; it has no bars, so ``.best`` cannot be replayed.

    Raises
    ------
    InputError
        No such folder, another layout, or a file of it that is missing or damaged; the message names the file.
    """
    folder = file_path("path", path)
    if not (folder / "result.json").exists():
        raise InputError(f"path must be a folder with a result.json, got {str(folder)!r}")
    written = _read_json(folder / "result.json")
    table = _candidates(folder / "candidates.parquet", written)
    fields = written if written["schema_version"] > 1 else written["provenance"] | {"how_to_replay": _REPLAY_OF_LAYOUT_1}
    try:
        best_value = float(table[fields["metric"]].iloc[0])
    except (TypeError, ValueError, OverflowError) as error:
        raise _damaged(folder / "candidates.parquet", said(error)) from error
    return Result(
        table=table,
        best_params=written["best_params"],
        best_value=best_value,
        distribution=None,
        provenance=_provenance(written["provenance"]),
        replay=None,
        _saved_summary=_summary(folder / "result.json", written.get("summary")),
        **{name: fields[name] for name in FIELDS},
    )


#: How ``result.json`` writes the infinities of provenance, which JSON does not have.
_INFINITIES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _with_infinities(value: Any) -> Any:
    """``value`` with infinities as text."""
    if isinstance(value, Mapping):
        return {key: _with_infinities(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_infinities(each) for each in value]
    return _INFINITIES.get(value, value) if isinstance(value, float) else value


def _read_infinities(value: Any) -> Any:
    """What :func:`_with_infinities` was given."""
    if isinstance(value, dict):
        return {key: _read_infinities(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_read_infinities(each) for each in value]
    return float(value) if isinstance(value, str) and value in _INFINITIES.values() else value


def _summary(path: Path, written: Any) -> dict[str, float | None] | None:
    """The summary of a saved distribution, if there is one."""
    values = _read_infinities(written)
    if values is None:
        return None
    if not isinstance(values, dict) or not all(each is None or type(each) in (int, float) for each in values.values()):
        raise _damaged(path, f"summary must be an object of numbers, got {shown(written)}")
    return {name: None if each is None else float(each) for name, each in values.items()}


def _provenance(written: dict[str, Any]) -> dict[str, Any]:
    """Provenance as it was before it was written; earlier versions wrote infinities as null."""
    known: dict[str, Any] = _read_infinities(written)
    for holder, name in ((known.get("costs"), "maximum"), (known, "n_candidates")):
        if isinstance(holder, dict) and name in holder and holder[name] is None:
            holder[name] = math.inf
    return known


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"path must be a folder as save wrote it, got a damaged {path.name} in {str(path.parent)!r}: {why}")


def _read_json(path: Path) -> dict[str, Any]:
    """The content of ``result.json``, checked."""
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, said(error)) from error
    if not isinstance(written, dict):
        raise _damaged(path, f"it must hold an object, got {type(written).__name__}")
    layout: Any = written.get("schema_version")
    if isinstance(layout, bool) or layout not in range(1, SCHEMA_VERSION + 1):
        raise InputError(f"schema_version must be from 1 to {SCHEMA_VERSION}, got {shown(layout)} in {str(path.parent)!r}")
    for name, kind in WRITTEN.items():
        if not isinstance(written.get(name), kind):
            raise _damaged(path, f"{name} must be {_TYPE_NAMES[kind]}, got {shown(written.get(name))}")
    where = written if layout > 1 else written["provenance"]
    missing = [name for name in FIELDS if name not in where and (layout > 1 or name != "how_to_replay")]
    if missing:
        raise _damaged(path, f"{'it' if layout > 1 else 'provenance'} must have {', '.join(missing)}, got none")
    for name, kinds in FIELDS.items():
        value = where.get(name, "")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise _damaged(path, f"{name} must be {' or '.join(_TYPE_NAMES[kind] for kind in kinds)}, got {shown(value)}")
    return written


def _candidates(path: Path, written: Mapping[str, Any]) -> pd.DataFrame:
    """The table of ``candidates.parquet``, by the parameters that ``result.json`` names."""
    import pandas as pd
    import pyarrow

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, MemoryError, pyarrow.ArrowException) as error:
        raise _damaged(path, said(error)) from error
    names, mixed = written["parameters"], written["mixed"]
    metric = (written if written["schema_version"] > 1 else written["provenance"])["metric"]
    columns = [str(each) for each in table.columns]
    absent = [each for each in (*names, *mixed, metric) if each not in columns]
    if absent or len(set(columns)) < len(columns) or not len(table):
        raise _damaged(
            path,
            f"it must have rows and a column for each of {', '.join(map(str, (*names, metric)))}, got "
            f"{len(table)} rows of {', '.join(columns) or 'nothing'}",
        )
    try:
        for name in mixed:
            table[name] = table[name].map(ast.literal_eval, na_action="ignore")
        table = table.set_index(names) if names else table
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise _damaged(path, said(error)) from error
    table.columns = table.columns.rename("metric")
    return table

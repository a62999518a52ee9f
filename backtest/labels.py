"""Labels: the index of a Series or DataFrame, compared with the times of the bars it is used with.

Arrays, lists and tables without an index are matched by position, and so are tables whose index only counts 0, 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError, InputError
from backtest._said import shown
from backtest.files.reading import Reading, Source
from backtest.files.times import times_of_labels

#: NaT as int64.
_NO_DATE = np.iinfo(np.int64).min


class Labels(NamedTuple):
    """Labels of rows: times, or any other values of an index."""

    nanos: NDArray[np.int64] | None  # since 1970: in UTC if there is a zone, else local time
    zone: str | None  # of the times; None for naive ones
    others: Any = None  # a pandas index that does not hold dates
    dated: str = "{}"  # a template of what to type for a DatetimeIndex

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.others if self.nanos is None else self.nanos)

    def text(self, row: int) -> str:
        """A label for a message."""
        if self.nanos is None:
            return repr(self.others[row])
        if self.nanos[row] == _NO_DATE:
            return "NaT"
        import pandas as pd

        time = pd.Timestamp(int(self.nanos[row]))
        return str(time if self.zone is None else time.tz_localize("UTC").tz_convert(self.zone)).removesuffix(" 00:00:00")


def labels(values: Any) -> Labels | None:
    """Labels of a Series or DataFrame; None for what is matched by position."""
    # Lists have a method ``index``; ``iloc`` is only there in pandas and what works like it.
    return labels_of_index(values.index) if hasattr(values, "iloc") else None


def labels_of_index(index: Any) -> Labels | None:
    """Labels of a pandas index; None if it only counts 0, 1, 2, ..."""
    import pandas as pd

    try:
        index = index if isinstance(index, pd.Index) else pd.Index(index)
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"index must have a label for each row, got {shown(index)}") from None
    if isinstance(index, pd.MultiIndex):
        return Labels(None, None, index)
    dated = "{}" if isinstance(index, pd.DatetimeIndex) else "{0}.set_axis(pandas.to_datetime({0}.index))"
    if len(index) and not hasattr(index[0], "year") and str(index[0])[4:5] != "-":  # pandas may read such texts differently
        dated = "{} (with dates as index)"
    if isinstance(index, pd.PeriodIndex):
        index, dated = index.to_timestamp(), "{}.to_timestamp()"
    elif isinstance(index, pd.CategoricalIndex):
        index = pd.Index(index.to_numpy())
    if index.dtype.kind in "iuf" and np.array_equal(index, np.arange(len(index))):
        return None
    if not len(index):
        return None
    if not isinstance(index, pd.DatetimeIndex):
        index = _as_dates(index)
    if not isinstance(index, pd.DatetimeIndex):
        return Labels(None, None, index)
    zone = None if index.tz is None else str(index.tz)
    naive = index if zone is None else index.tz_convert("UTC").tz_localize(None)
    return Labels(naive.to_numpy().astype("datetime64[ns]").astype(np.int64), zone, dated=dated)


def _as_dates(index: Any) -> Any:
    """Texts, Python dates and compact dates as a DatetimeIndex, read as in a file; any other index as it is."""
    try:
        times = times_of_labels(index, Reading(), Source())
    except DataError:
        return index  # not dates, but labels all the same
    return index if times is None else times


def labels_of_bars(bars: Any) -> Labels | None:
    """Labels of Bars, or of anything with a ``close``; None without dates."""
    index = getattr(bars, "index", None)
    if isinstance(index, np.ndarray) and index.dtype.kind == "M":
        return Labels(index.astype("datetime64[ns]").astype(np.int64), getattr(bars, "tz", None))
    return labels(getattr(bars, "close", None))


def check_labels(
    name: str,
    mine: Labels | None,
    of: Labels | None,
    n_rows: int,
    whose: str = "the bars",
    target: str = "bars.times()",
    fill: str = "",
) -> None:
    """Refuse labels that differ from those of the bars; the error says what to type.

    Parameters
    ----------
    name : str
        Name of the argument, for the message.
    mine, of : Labels or None
        Labels of the argument and of the bars; None is matched by position.
    n_rows : int
        Number of bars.
    whose, target : str
        What ``of`` belongs to, in words and as a Python expression.
    fill : str
        More arguments of ``reindex``.

    Raises
    ------
    InputError
        Times, order, zone or number of rows differ.
    """
    if mine is None or mine is of:
        return
    if of is None:
        _check_alone(name, mine, n_rows, whose)
        return
    rule, dated = f"{name} must have the index of {whose}", mine.dated.format(name)
    positional = f"; {name}.to_numpy() takes its rows by position"
    if mine.nanos is None or of.nanos is None:
        if mine.nanos is None and of.nanos is None and mine.others.equals(of.others):
            return
        row = _first_difference(mine, of)
        hint = positional if mine.nanos is None else f"; {dated}.reindex({target}{fill}) has it"
        raise InputError(f"{rule}, got {_row_hint(mine, of, row)}{hint}")
    if (mine.zone is None) != (of.zone is None):
        raise InputError(f"{rule}, got {_zone_hint(dated, mine, of)}")
    if np.array_equal(mine.nanos, of.nanos):
        return
    got = _row_hint(mine, of, _first_difference(mine, of))
    if mine.zone != of.zone and np.array_equal(_local_nanos(mine), _local_nanos(of)):
        raise InputError(f"{rule}, got {got}; {dated}.tz_localize(None).tz_localize({of.zone!r}) if only the zone is wrong")
    if np.array_equal(mine.nanos[::-1], of.nanos):
        got += ", newest first"
    once = dated if len(np.unique(mine.nanos)) == mine.n_rows else f"{dated}[~{name}.index.duplicated()]"
    finds = "puts each row where it belongs" if np.isin(mine.nanos, of.nanos).any() else "would find none of its rows"
    raise InputError(f"{rule}, got {got}; {once}.reindex({target}{fill}) {finds}")


def _check_alone(name: str, mine: Labels, n_rows: int, whose: str) -> None:
    """Without times of the bars only the order can be checked: dates must ascend, numbers must be row numbers."""
    if mine.nanos is not None:
        steps = np.diff(mine.nanos)
        if (steps <= 0).any():
            row = int((steps <= 0).argmax()) + 1
            raise InputError(
                f"{name} must be sorted, oldest first, without duplicates, got {mine.text(row)} after "
                f"{mine.text(row - 1)} (row {row}); {name}.sort_index() is"
            )
    elif getattr(mine.others, "dtype", np.dtype(object)).kind in "iuf":
        raise InputError(
            f"{name} must have the index of {whose}, 0 to {n_rows - 1}, got {mine.text(0)} for 0 (row 0); "
            f"{name}.to_numpy() takes its rows by position"
        )


def _first_difference(mine: Labels, of: Labels) -> int:
    """The first row that differs; the length of the shorter one if none does."""
    n = min(mine.n_rows, of.n_rows)
    if mine.nanos is not None and of.nanos is not None:
        different = np.flatnonzero(mine.nanos[:n] != of.nanos[:n])
        return int(different[0]) if len(different) else n
    return next((row for row in range(n) if mine.text(row) != of.text(row)), n)


def _row_hint(mine: Labels, of: Labels, row: int) -> str:
    if row < min(mine.n_rows, of.n_rows):
        return f"{mine.text(row)} for {of.text(row)} (row {row})"
    return f"{mine.n_rows} rows for {of.n_rows}"


def _zone_hint(dated: str, mine: Labels, of: Labels) -> str:
    """The end of a message about naive beside aware times: what came, and what to type."""
    if of.zone is None:
        return f"times in {mine.zone} for times without a zone; {dated}.tz_localize(None) drops it, or give the bars a tz"
    is_utc = np.array_equal(_local_nanos(mine), _local_nanos(of._replace(zone=None))) and not np.array_equal(
        _local_nanos(mine), _local_nanos(of)
    )
    zone = "UTC" if is_utc else of.zone
    return f"times without a zone for times in {of.zone}; {dated}.tz_localize({zone!r}) says which they are in"


def _local_nanos(times: Labels) -> NDArray[np.int64]:
    """Local times of its zone, in nanoseconds."""
    import pandas as pd

    assert times.nanos is not None
    if times.zone is None:
        return times.nanos
    local = pd.DatetimeIndex(times.nanos.astype("datetime64[ns]")).tz_localize("UTC").tz_convert(times.zone).tz_localize(None)
    return np.asarray(local.to_numpy().astype("datetime64[ns]").astype(np.int64))


def check_alike(given: Mapping[str, Any], fill: str = "") -> Labels | None:
    """Refuse tables whose labels differ from those of the first table with labels; return the latter."""
    first, of = "", None
    for name, values in given.items():
        mine = labels(values)
        if of is None:
            first, of = name, mine
        elif mine is not None:
            check_labels(name, mine, of, of.n_rows, first, f"{first}.index", fill)
    return of


def check_beside(bars: Any, given: Mapping[str, Any], fill: str = "") -> None:
    """Refuse tables whose labels differ from those of the bars."""
    of = labels_of_bars(bars)
    for name, values in given.items():
        check_labels(name, labels(values), of, len(bars.close), fill=fill)

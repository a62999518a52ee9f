"""Options of every reader, checked once, and a record of what a reader recognised by itself."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError, InputError, choice, did_you_mean
from backtest._said import shown

logger = logging.getLogger("backtest.files")

UNIX = {"unix_s": 1, "unix_ms": 10**3, "unix_us": 10**6, "unix_ns": 10**9}
#: Values of ``dates`` that are not formats.
WORDS = (*UNIX, "excel")
_YEARS = re.compile(r"%[YyGcxD]")
DECIMALS = (".", ",")
THOUSANDS = (",", ".", "'", "’", " ", "\N{NO-BREAK SPACE}", "\N{NARROW NO-BREAK SPACE}")


@dataclasses.dataclass(frozen=True)
class Reading:
    """Options of a reader; None means that the file shows it.

    Parameters
    ----------
    dates : str, optional
        A strptime format such as ``"%d/%m/%Y"``, or one of unix_s, unix_ms, unix_us, unix_ns, excel.
    tz : str, optional
        Zone of the times: those with an offset, and unix times, are converted to it; others are its local times.
    sep, decimal, thousands : str, optional
        Separator of columns, decimal mark (``"."`` or ``","``), mark between groups of three digits.
    columns : mapping of str to str, optional
        Our name to the file's: ``{"Close": "Schluss", "Date": "Datum"}``.
    adjust : {"close"}, optional
        Scale open, high, low and close by Adj Close / Close.
    """

    dates: str | None = None
    tz: str | None = None
    sep: str | None = None
    decimal: str | None = None
    thousands: str | None = None
    columns: Mapping[str, str] | None = None
    adjust: str | None = None

    def __post_init__(self) -> None:
        if self.dates is not None:
            _check_dates(self.dates)
        if self.tz is not None:
            zone(self.tz)
        if self.sep is not None and (not isinstance(self.sep, str) or len(self.sep) != 1 or self.sep in '"\r\n'):
            raise InputError(f"sep must be one character, such as ';' or '\\t', got {shown(self.sep)}")
        if self.decimal is not None:
            choice("decimal", self.decimal, DECIMALS)
        if self.thousands is not None:
            choice("thousands", self.thousands, THOUSANDS)
            if self.thousands == (self.decimal or ""):
                raise InputError(f"thousands must differ from decimal, got {shown(self.thousands)} for both")
        if self.columns is not None and not (
            isinstance(self.columns, Mapping)
            and self.columns
            and all(isinstance(each, str) for pair in self.columns.items() for each in pair)
        ):
            raise InputError(
                f"columns must map our names to the file's, such as {{'Close': 'Schluss'}}, got {shown(self.columns)}"
            )
        if self.adjust is not None:
            choice("adjust", self.adjust, ("close",))

    def given(self) -> dict[str, Any]:
        """Options that are set, by name."""
        return {each.name: value for each in dataclasses.fields(self) if (value := getattr(self, each.name)) is not None}


#: Names of the options; they are keys of ``[data]`` and options of the command line too.
KEYS = tuple(each.name for each in dataclasses.fields(Reading))


def _check_dates(dates: Any) -> None:
    import pandas as pd

    if isinstance(dates, str) and dates in WORDS:
        return
    listed = f"a format such as '%d/%m/%Y' or one of {', '.join(WORDS)}"
    if not isinstance(dates, str) or "%" not in dates:
        raise InputError(f"dates must be {listed}, got {shown(dates)}{did_you_mean(dates, WORDS)}")
    if not _YEARS.search(dates):
        raise InputError(f"dates must hold a year (%Y or %y), got {shown(dates)}")
    try:
        pd.to_datetime("?", format=dates, errors="coerce")
    except (ValueError, TypeError, re.error) as error:
        raise InputError(f"dates must be {listed}, got {shown(dates)}: {error}") from None


def zone(tz: Any) -> str:
    """``tz``, checked to be the name of a time zone."""
    import pandas as pd

    try:
        if isinstance(tz, str):
            pd.Timestamp(0, tz=tz)
            return tz
    except (KeyError, ValueError, OSError, IndexError):  # IndexError: pandas on an empty text
        pass
    raise DataError(f"tz must be the name of a time zone, such as 'America/New_York', got {shown(tz)}")


class Source:
    """Where a table comes from: its name, the line of each row, and what was recognised while reading."""

    def __init__(self, name: str = "", lines: NDArray[np.int64] | None = None) -> None:
        self.name = name
        self.lines = lines  # of text files: the line of each row
        self.notes: list[str] = []  # worth telling the user
        self.plain: list[str] = []  # as expected

    def at(self, row: int) -> str:
        """A row for an error message: ``(row 3)``, in a text file ``(row 3, line 5)``."""
        return f"(row {row})" if self.lines is None else f"(row {row}, line {self.lines[row]})"

    def log(self) -> None:
        """Log what was recognised, in one line."""
        if self.notes or self.plain:
            said = "; ".join([*self.notes, *self.plain])
            logger.info("%s%s", f"{self.name}: " if self.name else "", said, extra={"is_plain": not self.notes})

    @contextlib.contextmanager
    def named(self) -> Iterator[None]:
        """Add the file's name to errors raised inside."""
        try:
            yield
        except InputError as error:
            if not self.name or self.name in str(error):
                raise
            raise type(error)(f"{error}, in {self.name}") from None

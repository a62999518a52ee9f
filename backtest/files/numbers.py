"""Texts to numbers: the decimal mark and the mark of thousands are recognised from all numbers of a file together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backtest._checks import DataError
from backtest.files.reading import Reading, Source
from backtest.files.times import MISSING

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
#: Characters that do not occur in plain numbers, by decimal mark.
_NOT_PLAIN = {".": re.compile(r"[^0-9eE+.\0-]"), ",": re.compile(r"[^0-9eE+,\0-]")}
_CURRENCY = "$€£¥"
#: Marks that only group thousands.
_GROUPING = "'’ \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}"
#: A point that cannot be a mark of thousands, in texts joined by a zero byte.
_POINT = re.compile(r"\.(?!\d{3}(?:\0|$))")
#: A number that must have a decimal comma.
_COMMA = re.compile(r"[+-]?\d+,(?:\d{1,2}|\d{4,}) ?[%KMBkmb]?")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?P<mark>[.,'’ \N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}])\d{3}(?:(?P=mark)\d{3})*")


def numbers_of(
    columns: Mapping[str, Any], reading: Reading, source: Source, beside: Mapping[str, Any] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Columns of texts (pandas Series) as float64, missing ones as NaN; ``beside`` are the other columns of the file.

    Raises
    ------
    DataError
        A text is not a number, or a mark may be a decimal mark or one of thousands.
    """
    found: dict[str, NDArray[np.float64]] = {}
    unusual: dict[str, Any] = {}
    for name, texts in columns.items():
        if reading.decimal == "," or reading.thousands == ".":
            unusual[name] = texts
        elif (floats := _fast(texts, ".")) is not None:
            found[name] = floats
        elif "," not in "\0".join(texts) and (_matches(texts, _PLAIN) | _is_missing(texts)).all():
            found[name] = _as_floats(texts)
        else:
            unusual[name] = texts
    if not unusual and (reading.decimal or reading.thousands or not _may_group(columns)):
        return found
    decimal, thousands = _marks({**{name: columns[name] for name in found}, **unusual}, reading, source, beside or {})
    if decimal == ",":  # then points are not decimal marks
        unusual |= {name: columns[name] for name in found if any("." in text for text in columns[name])}
    number = _pattern(decimal, thousands)
    for name, texts in unusual.items():
        if thousands is None and (floats := _fast(texts, decimal)) is not None:
            found[name] = floats
            continue
        bare = texts.str.lstrip(_CURRENCY)
        bad = ~(_matches(bare, number) | _is_missing(bare))
        if bad.any():
            row = int(bad.argmax())
            raise DataError(
                f"column {name!r} must hold numbers, got {texts[row]!r} {source.at(row)}; decimal= and "
                "thousands= say which marks they have"
            )
        if thousands:
            bare = bare.str.replace(thousands, "", regex=False)
        found[name] = _as_floats(bare.str.replace(decimal, ".", regex=False))
    return {name: found[name] for name in columns}


def _may_group(columns: Mapping[str, Any]) -> bool:
    """Whether points may group thousands: there are some, and each is followed by exactly three digits."""
    together = ["\0".join(texts) for texts in columns.values()]
    return any("." in each for each in together) and not any(_POINT.search(each) for each in together)


def _fast(texts: Any, decimal: str) -> NDArray[np.float64] | None:
    """Texts of digits, signs and one mark as float64, checked in one search; None if there is anything else."""
    together = "\0".join(texts)
    if _NOT_PLAIN[decimal].search(together):
        return None
    try:
        return np.array([float(text) for text in together.replace(",", ".").split("\0")], dtype=np.float64)
    except ValueError:  # a missing one, or 1.2.3
        return None


def _as_floats(texts: Any) -> NDArray[np.float64]:
    array: NDArray[np.float64] = texts.where(~_is_missing(texts), "nan").to_numpy(dtype=object).astype(np.float64)
    return array


def _matches(texts: Any, pattern: re.Pattern[str]) -> NDArray[np.bool_]:
    return np.fromiter((pattern.fullmatch(text) is not None for text in texts), dtype=np.bool_, count=len(texts))


def _is_missing(texts: Any) -> NDArray[np.bool_]:
    return np.fromiter((text.lower() in MISSING for text in texts), dtype=np.bool_, count=len(texts))


def _pattern(decimal: str, thousands: str | None) -> re.Pattern[str]:
    point = re.escape(decimal)
    groups = rf"|[1-9]\d{{0,2}}(?:{re.escape(thousands)}\d{{3}})+" if thousands else ""
    return re.compile(rf"[+-]?(?:(?:\d+{groups})(?:{point}\d*)?|{point}\d+)(?:[eE][+-]?\d+)?")


def _marks(columns: Mapping[str, Any], reading: Reading, source: Source, beside: Mapping[str, Any]) -> tuple[str, str | None]:
    """The decimal mark, and the mark of thousands or None."""
    texts: dict[str, str] = {}
    for name, column in columns.items():
        for text in dict.fromkeys(column):
            if not _is_whole(text):
                texts.setdefault(text, name)
    decimal, thousands = reading.decimal, reading.thousands
    if decimal is None and thousands in (".", ","):
        decimal = "," if thousands == "." else "."
    if decimal is None:
        decimal, is_proven = _recognised_decimal(texts, columns, source)
        if not is_proven and thousands is None:
            _refuse_points(columns, beside, source)
    if thousands is None:
        others = {found["mark"] for text in texts if (found := _GROUPED.match(text.lstrip(_CURRENCY)))} - {decimal}
        thousands = others.pop() if len(others) == 1 else None
    if decimal != "." and reading.decimal is None:
        source.notes.append(f"decimal {decimal!r}")
    if thousands and reading.thousands is None:
        source.notes.append(f"thousands {thousands!r}")
    return decimal, thousands


def _is_whole(text: str) -> bool:
    return text.isdigit() or text.lower() in MISSING


def _recognised_decimal(texts: Mapping[str, str], columns: Mapping[str, Any], source: Source) -> tuple[str, bool]:
    """The decimal mark that a file's numbers (text to column) show, and whether any of them proves it."""
    proofs: dict[str, str] = {}  # decimal mark -> a text that proves it
    in_doubt = None

    def shown(text: str) -> str:
        row = int((columns[texts[text]] == text).to_numpy().argmax())
        return f"{text!r} {source.at(row)} in column {texts[text]!r}"

    for text in texts:
        bare = text.lstrip(_CURRENCY).lstrip("+-")
        last = max(bare.rfind("."), bare.rfind(","))
        if last < 0:
            continue
        mark, other = bare[last], "," if bare[last] == "." else "."
        if bare.count(mark) > 1:
            proofs.setdefault(other, text)  # 1,234,567: a decimal mark stands once
        elif other in bare or not _GROUPED.fullmatch(bare):
            proofs.setdefault(mark, text)
        elif mark == "," and in_doubt is None:
            in_doubt = text
    if len(proofs) > 1:
        raise DataError(
            f"numbers must have one decimal mark, got {shown(proofs['.'])} and {shown(proofs[','])}; "
            'decimal="," or decimal="." says which'
        )
    if proofs:
        return next(iter(proofs)), True
    if in_doubt is not None:
        raise DataError(
            f"numbers must show whether a comma is their decimal mark, got {shown(in_doubt)}, and three digits "
            'behind every comma; decimal="," or thousands="," says which'
        )
    return ".", False


def _refuse_points(columns: Mapping[str, Any], beside: Mapping[str, Any], source: Source) -> None:
    """Refuse points that may group thousands, in a file whose every point is followed by three digits.

    They may if whole numbers are in the same column (some write 1010 and 12.500), or if another column has a decimal comma.
    A column whose numbers all have three digits after the point holds decimals.
    """
    says = 'decimal="." or thousands="." says which'
    for name, texts in columns.items():
        bare = [text.lstrip(_CURRENCY).lstrip("+-") for text in texts]
        points = [row for row, text in enumerate(bare) if "." in text and _GROUPED.fullmatch(text)]
        if not points:
            continue
        got = f"{texts[points[0]]!r} {source.at(points[0])} in column {name!r}"
        whole = [row for row, text in enumerate(bare) if text.isdigit()]
        n_missing = sum(text.lower() in MISSING for text in texts)
        if whole and len(points) + len(whole) + n_missing == len(bare):
            raise DataError(
                f"numbers must show whether a point is their decimal mark, got {got} beside "
                f"{texts[whole[0]]!r} {source.at(whole[0])}, and three digits behind every point; {says}"
            )
        for other, column in beside.items():
            row = next((row for row, text in enumerate(column) if _COMMA.fullmatch(text)), None)
            if row is not None:
                raise DataError(
                    f"numbers must show whether a point is their decimal mark, got {got}, and a comma in column "
                    f"{other!r}, {column[row]!r} {source.at(row)}; {says}"
                )

"""Text files to columns of texts: compression, encoding, separator, lines before the header."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from backtest._checks import DataError
from backtest.files.reading import Source

SEPARATORS = (",", ";", "\t", "|")
_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_WORDS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)*([eE][-+]?\d+)?")
_BLANK = re.compile(r"\s(?:\0|$)|(?:^|\0)\s")
#: Number of lines looked at to recognise the separator, and of lines that may precede the header.
_SAMPLE, _PREAMBLE = 50, 10


def read_text(path: Path, sep: str | None) -> tuple[list[str], list[Any], Source]:
    """Names, columns of stripped texts (pandas Series), and their source.

    Raises
    ------
    DataError
        The bytes are not text, or not a table.
    """
    import pandas as pd

    source = Source(path.name)
    text = _decoded(_content(path), path, source)
    lines = text.splitlines()
    if not any(line.strip() for line in lines):
        raise _unreadable(path, "it is empty")
    sep, skip = _separator(lines, sep, path, source)
    try:
        raw = pd.read_csv(
            io.StringIO(text),
            sep=sep,
            header=None,
            dtype=object,
            na_filter=False,
            skiprows=skip,
            skip_blank_lines=False,
            skipinitialspace=True,
            engine="c",
        )
    except (ValueError, OverflowError) as error:
        raise _unreadable(path, f'{str(error).strip()}; sep=";" sets the separator if the wrong one was recognised') from None
    columns = [_stripped(raw[name]) for name in raw.columns]
    kept = np.zeros(len(raw), dtype=np.bool_)
    for column in columns:
        kept |= (column != "").to_numpy(dtype=np.bool_)
    source.lines = (np.flatnonzero(kept) + skip + 1).astype(np.int64)
    columns = [column[kept].reset_index(drop=True) for column in columns]
    names, n_header = _header(columns, path, source)
    source.lines = source.lines[n_header:]
    return names, [column[n_header:].reset_index(drop=True) for column in columns], source


def _stripped(column: Any) -> Any:
    """Texts without blanks around them; one search over all of them first, since most files have none."""
    if _BLANK.search("\0".join(column)) is None:
        return column
    return column.map(str.strip).astype(object)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.name.lower().endswith(".gz") else content
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from None


def _decoded(content: bytes, path: Path, source: Source) -> str:
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    if encoding is None and content[1::2].count(0) > len(content) // 4:
        encoding = "utf-16-le"
    elif encoding is None and content[0::2].count(0) > len(content) // 4:
        encoding = "utf-16-be"
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        if encoding is not None:
            raise _unreadable(path, error) from None
        try:
            text, encoding = content.decode("cp1252"), "Windows-1252, since it is not UTF-8"
        except UnicodeDecodeError:
            raise _unreadable(path, error) from None
    if "\0" in text:
        raise _unreadable(path, "it holds zero bytes, so it is not text")
    if encoding is not None:
        source.notes.append(f"encoding {encoding}")
    return text.removeprefix("\ufeff")


def _separator(lines: list[str], sep: str | None, path: Path, source: Source) -> tuple[str, int]:
    """The separator, and the number of lines before the header.

    Candidates cut most lines into the same number of fields, more than one.  The one that does so from the earliest line on is
    taken (a decimal comma does not cut the header); among equals, the one that makes most fields.
    """
    found: dict[str, tuple[int, int]] = {}
    sample = list(itertools.islice(((row, line) for row, line in enumerate(lines) if line.strip()), _SAMPLE))
    for each in SEPARATORS if sep is None else (sep,):
        counts = [len(fields) for fields in csv.reader([line for _, line in sample], delimiter=each, skipinitialspace=True)]
        if not counts:
            continue
        usual = Counter(counts[1:] or counts).most_common(1)[0][0]
        first = next((place for place, count in enumerate(counts) if count == usual), 0)
        if usual > 1 and first <= _PREAMBLE and first < len(sample):
            found[each] = (usual, sample[first][0])
    if not found:
        return (sep or ","), 0
    best = min((skip, -fields) for fields, skip in found.values())
    chosen = [each for each, (fields, skip) in found.items() if (skip, -fields) == best]
    if len(chosen) > 1:
        raise _unreadable(
            path, f'{" and ".join(_WORDS[each] for each in chosen)} may both separate its columns; sep=";" says which'
        )
    if sep is None and chosen[0] != ",":
        source.notes.append(f"separator {_WORDS[chosen[0]]}")
    skip = found[chosen[0]][1]
    if skip:
        source.notes.append(f"{skip} line{'s' * (skip > 1)} before the header left out")
    return chosen[0], skip


def _header(columns: list[Any], path: Path, source: Source) -> tuple[list[str], int]:
    """Names of the columns, and the number of header rows: one, or up to three in downloads that name the instrument."""
    rows = [[column[row] if row < len(column) else "" for column in columns] for row in range(3)]
    first = [row[0].lower() for row in rows]
    if first[0] in ("price", "ticker") and first[1] in ("price", "ticker") and first[0] != first[1]:
        names, tickers = (rows[0], rows[1]) if first[0] == "price" else (rows[1], rows[0])
        symbols = dict.fromkeys(each for each in tickers[1:] if each)
        if len(symbols) > 1:
            raise DataError(f"{path.name} must hold one instrument, got {', '.join(symbols)}; write a file for each")
        has_third = not any(rows[2][1:])
        source.notes.append(f"header of {3 if has_third else 2} rows, instrument {next(iter(symbols), '')}")
        return [rows[2][0] if has_third and rows[2][0] else "Date", *names[1:]], 3 if has_third else 2
    named = [name for name in rows[0] if name]
    if named and all(_NUMBER.fullmatch(name) for name in named):
        raise DataError(
            f"{path.name} must begin with a line of names, got {', '.join(named[:5])}; put one on top, such as "
            "open_time,open,high,low,close,volume and a name for every other column"
        )
    return rows[0], 1


def _unreadable(path: Path, why: object) -> DataError:
    return DataError(f"path must be a readable CSV file, got {str(path)!r}: {why}")

"""What fuzz tests throw at doors: values of every wrong kind, and the few that are allowed to come of it."""

import datetime
import fractions
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

import backtest as bt
from backtest import lines


class Unprintable:
    """Something whose ``repr`` fails."""

    def __repr__(self):
        raise RuntimeError("no repr")


class Anything:
    """A class that is made of any arguments."""

    def __init__(self, *_, **__):
        pass


def nested(depth, make):
    value = make(None)
    for _ in range(depth):
        value = make(value)
    return value


def sized(n):
    return np.arange(1, n + 1, dtype=float)


#: By name, so that a failure says which; made anew for each call, since doors may use up iterators.
NASTY = {
    "None": lambda: None,
    "True": lambda: True,
    "False": lambda: False,
    "text": lambda: "x",
    "no text": lambda: "",
    "long text": lambda: "x" * 100_000,
    "NUL": lambda: "a\0b",
    "surrogate": lambda: "\ud800",
    "bytes": lambda: b"x",
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "-inf": lambda: float("-inf"),
    "-1": lambda: -1,
    "0": lambda: 0,
    "1": lambda: 1,
    "2": lambda: 2,
    "-0.0": lambda: -0.0,
    "0.5": lambda: 0.5,
    "1e308": lambda: 1e308,
    "-1e308": lambda: -1e308,
    "5e-324": lambda: 5e-324,
    "1e19": lambda: 1e19,
    "10**400": lambda: 10**400,
    "-10**400": lambda: -(10**400),
    "10**5000": lambda: 10**5000,
    "2**53": lambda: 2**53,
    "2**63": lambda: 2**63,
    "-2**63": lambda: -(2**63),
    "2**64": lambda: 2**64,
    "np.nan": lambda: np.float64("nan"),
    "np.int64": lambda: np.int64(3),
    "np.uint8": lambda: np.uint8(3),
    "np.bool": lambda: np.True_,
    "np.str": lambda: np.str_("x"),
    "longdouble": lambda: np.longdouble("1e400"),
    "complex": lambda: 1j,
    "Decimal": lambda: Decimal(1),
    "Fraction": lambda: fractions.Fraction(1, 2),
    "object": object,
    "unprintable": Unprintable,
    "class": lambda: Anything,
    "function": lambda: lambda *given: 0.0,
    "raises": lambda: raises,
    "slice": lambda: slice(1, 5),
    "slice of text": lambda: slice("a", None),
    "slice back": lambda: slice(5, 1),
    "large slice": lambda: slice(-(10**400), 10**400),
    "slices": lambda: [slice(0, 20), slice(20, 40)],
    "range": lambda: range(3),
    "no range": lambda: range(0),
    "large range": lambda: range(10**30),
    "set": lambda: {1, 2},
    "list": list,
    "numbers": lambda: [1.0, 2.0],
    "ragged": lambda: [[1.0, 2.0], [3.0]],
    "large list": lambda: [10**400],
    "objects": lambda: [object()],
    "texts": lambda: ["a", "b"],
    "Nones": lambda: [None, None],
    "tuple": tuple,
    "dict": dict,
    "pairs": lambda: [(0.0, 1.0), (2.0, 5.0)],
    "dict of text": lambda: {"a": "b"},
    "dict of numbers": lambda: {1: 2},
    "iterator": lambda: iter([1.0, 2.0]),
    "array": lambda: sized(60),
    "no array": lambda: sized(0),
    "short array": lambda: sized(7),
    "matrix": lambda: np.ones((60, 2)),
    "cube": lambda: np.ones((2, 2, 2)),
    "0-d": lambda: np.array(1.0),
    "0-d object": lambda: np.array(None),
    "0-d text": lambda: np.array("x"),
    "ints": lambda: np.arange(60),
    "bools": lambda: np.arange(60) % 2 == 0,
    "few bools": lambda: np.ones((60, 2), dtype=bool),
    "nans": lambda: np.full(60, np.nan),
    "infs": lambda: np.full(60, np.inf),
    "huge": lambda: np.full(60, 1e308),
    "tiny": lambda: np.full(60, 5e-324),
    "zeros": lambda: np.zeros(60),
    "negative": lambda: -sized(60),
    "large objects": lambda: np.array([10**400] * 60, dtype=object),
    "complexes": lambda: np.ones(60, dtype=complex),
    "dates": lambda: np.arange(60).astype("datetime64[D]"),
    "NaTs": lambda: np.full(60, "NaT", dtype="datetime64[ns]"),
    "old dates": lambda: np.arange(60).astype("datetime64[Y]") - np.timedelta64(5000, "Y"),
    "uint64": lambda: np.ones(1, np.uint64),
    "masked": lambda: np.ma.masked_array(sized(60), mask=np.arange(60) % 3 == 0),
    "texts array": lambda: np.array(["a"] * 60),
    "structured": lambda: np.zeros(60, dtype=[("a", float), ("b", int)]),
    "Series": lambda: pd.Series(sized(60)),
    "dated Series": lambda: pd.Series(sized(60), index=pd.date_range("2020-01-01", periods=60)),
    "NA Series": lambda: pd.Series([1, pd.NA] * 30, dtype="Int64"),
    "categories": lambda: pd.Series(list("ab") * 30).astype("category"),
    "DataFrame": lambda: pd.DataFrame({"a": sized(60), "b": sized(60)}),
    "no DataFrame": pd.DataFrame,
    "twice": lambda: pd.DataFrame(np.ones((60, 2)), columns=["a", "a"]),
    "levels": lambda: pd.DataFrame(np.ones((60, 2)), columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])),
    "index": lambda: pd.date_range("2020-01-01", periods=60, tz="Europe/Berlin"),
    "NA": lambda: pd.NA,
    "NaT": lambda: pd.NaT,
    "Timestamp": lambda: pd.Timestamp("2020-01-01"),
    "date": lambda: datetime.date(2020, 1, 1),
    "Path": lambda: Path("nowhere"),
    "deep list": lambda: nested(3000, lambda value: [value]),
    "deep dict": lambda: nested(3000, lambda value: {"a": value}),
    "line": lambda: lines.close,
    "param": lambda: bt.param("p"),
    "condition": lambda: lines.close > 3.0,
    "sma": lambda: lines.sma(lines.close, bt.param("q")),
    "nan line": lambda: lines.close / 0.0 - lines.close / 0.0,
    "Bars": lambda: BARS,
    "Space": lambda: bt.Space({"p": [1, 2]}),
    "Costs": bt.Costs.zero,
    "Execution": bt.Execution,
}


class Mine(Exception):
    """What a function of the user raises, and some doors let through."""


def raises(*_, **__):
    raise Mine("mine")


def bars(n=60, seed=0, **more):
    rng = np.random.default_rng(seed)
    close = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 0.02, n)))
    open_ = close * np.exp(rng.normal(0.0, 0.01, n))
    high, low = np.maximum(open_, close) * 1.01, np.minimum(open_, close) * 0.99
    return bt.Bars(
        **{
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": np.ones(n),
            "index": np.arange(n).astype("datetime64[D]") + 18_000,
        }
        | more
    )


BARS = bars()


def nasty(rnd):
    return NASTY[rnd.choice(list(NASTY))]()


def number(rnd):
    """Any float, in any order of magnitude."""
    return rnd.choice([1.0, -1.0]) * rnd.random() * 10.0 ** rnd.randint(-320, 308)


def spoilt(rnd, good, most=2):
    """Arguments that are good but for some: a few are nasty, a number of any size, or those of another argument."""
    given = dict(good)
    for _ in range(rnd.randint(0, most)):
        name = rnd.choice(list(good))
        given[name] = rnd.choice([nasty, nasty, nasty, number, lambda rnd: good[rnd.choice(list(good))]])(rnd)
    return given


def series(rnd, n=60):
    """Numbers for each of some bars, good ones or of any kind."""
    kind = rnd.randint(0, 5)
    if kind == 0:
        return nasty(rnd)
    values = 100.0 + np.array([rnd.randint(-50, 50) for _ in range(8)] * 8, dtype=float)[:n]
    if kind == 1:
        values[rnd.randint(0, n - 1)] = rnd.choice([0.0, -1.0, np.nan, np.inf, 1e308, 5e-324, 1e31, 1e29, 1e-29])
    if kind == 2:
        values *= 10.0 ** rnd.choice([-300, -100, -29, -28, 20, 27, 100, 300])
    return values


def endured(call):
    """What a call comes to: an answer, a ``BacktestError``, or what was raised before it came to the library.

    That is Python's own TypeError for a call that cannot be, and pandas' errors for ``Series > line``.  Anything else goes on.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except Mine:
            return None
        except bt.BacktestError as error:
            if not 0 < len(str(error)) < 5000:
                raise AssertionError(
                    f"an error must be short enough to read, got {len(str(error))} characters: {str(error)[:300]}"
                ) from error
        except Exception as error:
            frame, files = error.__traceback__, []
            while frame is not None:
                files.append(frame.tb_frame.f_code.co_filename)
                frame = frame.tb_next
            is_ours = files[-1].startswith(str(Path(__file__).parent)) and not isinstance(error, TypeError)
            if is_ours or any(name.startswith(HOME) for name in files):
                raise
    return None


HOME = str(Path(bt.__file__).parent)

"""Many problems at once: threads, executors, deadlines, bad problems."""

import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd
import pytest
from levels_problems import always_on, moves

import backtest as bt
from backtest import InputError
from backtest.compute import many
from backtest.compute.many import optimize_many
from backtest.levels import AlwaysOn, Levels


def problems(n_problems=6):
    names = ("AAA", "BBB")
    return {(names[index % 2], index): Levels(**moves(30 + index, index), fee_rate=0.001) for index in range(n_problems)}


class Broken:
    def optimize(self, **_):
        raise ZeroDivisionError("nobody's fault")


class Slow:
    def __init__(self, seconds, started=None):
        self.seconds, self.started = seconds, started

    def optimize(self, **options):
        if self.started is not None:
            self.started.append(threading.current_thread().name)
        time.sleep(self.seconds)
        return Levels(**moves(3, 1), fee_rate=0.001).optimize(**options)


def test_one_row_a_problem_in_order(backend):
    work = problems()
    frame = optimize_many(work)
    assert isinstance(frame.index, pd.MultiIndex)
    assert list(frame.index) == list(work)
    assert list(frame.columns) == list(many.COLUMNS)
    for key, problem in work.items():
        found = problem.optimize()
        row = frame.loc[key]
        assert (row["high"], row["low"], row["profit"], row["nfev"]) == (*found.x.tolist(), found.profit, found.nfev)
        assert (row["success"], row["error"], row["method"]) == (True, None, "exact")


@pytest.mark.parametrize("method", ["exact", "direct"])
@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_threads_never_change_a_row(n_threads, method):
    work = problems(9) | {"on": AlwaysOn(**always_on(moves(20, 2), 2), fee_rate=0.001)}
    frame = optimize_many(work, method, n_threads=n_threads)
    pd.testing.assert_frame_equal(frame, optimize_many(work, method, n_threads=1), check_exact=True)
    for key, problem in work.items():
        found = problem.optimize(method)
        assert (frame.loc[[key], "profit"].item(), frame.loc[[key], "nfev"].item()) == (found.profit, found.nfev)
    assert optimize_many(work).index[-1] == "on"  # mixed keys are kept as they are


def test_executors():
    work = problems(5)
    expected = optimize_many(work, "evolution", maxfun=60, seed=3)
    with ThreadPoolExecutor(2) as pool:
        pd.testing.assert_frame_equal(optimize_many(work, "evolution", maxfun=60, seed=3, executor=pool), expected)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        pd.testing.assert_frame_equal(optimize_many(work, "evolution", maxfun=60, seed=3, executor=pool), expected)


@pytest.mark.parametrize("own", [True, False])
def test_one_bad_problem_does_not_end_the_batch(own):
    work = {"a": Levels(**moves(9, 1), fee_rate=0.001), "bad": Broken(), "c": Levels(**moves(9, 2), fee_rate=0.001)}
    with ThreadPoolExecutor(2) as pool:
        executor = None if own else pool
        frame = optimize_many(work, executor=executor)
        assert frame["success"].tolist() == [True, False, True]
        assert frame.loc["bad", "error"] == "ZeroDivisionError: nobody's fault"
        assert np.isnan(frame.loc["bad", "profit"])
        with pytest.raises(ZeroDivisionError, match="nobody's fault"):
            optimize_many(work, on_error="raise", executor=executor)


@pytest.mark.parametrize("own", [True, False])
def test_nothing_starts_after_the_deadline(own):
    started = []
    work = {index: Slow(0.15, started) for index in range(12)}
    with ThreadPoolExecutor(2) as pool:
        begun = time.monotonic()
        frame = optimize_many(work, deadline=0.2, n_threads=2, executor=None if own else pool)
        assert time.monotonic() - begun < 1.0
    assert 2 <= len(started) <= 6
    assert frame["success"].sum() == len(started)
    late = frame[~frame["success"].astype(bool)]
    assert set(late["message"]) == {many.NOT_STARTED}
    assert late["error"].isna().all()
    none = optimize_many(work, deadline=0.0)
    assert set(none["message"]) == {many.NOT_STARTED}


def test_an_error_that_is_raised_starts_nothing_more():
    started = []
    work = {"bad": Broken()} | {index: Slow(0.02, started) for index in range(40)}
    with pytest.raises(ZeroDivisionError):
        optimize_many(work, on_error="raise", n_threads=1)
    assert started == []


def test_progress_is_shown_on_demand(capsys):
    optimize_many(problems(3), progress=True)
    assert "3/3" in capsys.readouterr().err
    optimize_many(problems(3))  # no terminal here
    assert capsys.readouterr().err == ""


def test_an_empty_batch():
    assert optimize_many({}).shape == (0, len(many.COLUMNS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_error": "ignore"}, "on_error must be one of 'record', 'raise', got 'ignore'"),
        ({"deadline": -1.0}, "deadline must be >= 0, got -1.0"),
        ({"bound": 3}, "option 'bound' is not known .*did you mean 'bounds'"),
        ({"n_threads": 0}, "n_threads must be a whole number >= 1"),
        ({"progress": "yes"}, "progress must be True or False"),
    ],
)
def test_bad_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        optimize_many(problems(1), **arguments)
    with pytest.raises(InputError, match="problems must be a mapping of keys to problems, got list"):
        optimize_many([1])


def test_a_strategy_is_no_problem():
    with pytest.raises(bt.InputError, match=r"problems must have an optimize\(\).* at 'GOOG'; a strategy goes to bt.optimize"):
        bt.optimize_many({"GOOG": bt.strategies.sma_cross})

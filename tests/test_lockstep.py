"""DIRECT over many problems at once: each run is that of its own, bit for bit; and optimize_many on a device."""

import os
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from gpu_problems import any_problem
from hypothesis import given
from hypothesis import strategies as st

import backtest as bt
from backtest import _backend, gpu, search
from backtest.compute import many
from backtest.levels import device_search
from backtest.search.lockstep import bytes_each, lockstep

torch = pytest.importorskip("torch", reason="extra `gpu` is not installed")
torch.set_num_threads(1)  # tensors are small: threads would wait for each other
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
if DEVICE == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton is first imported
BOX = np.array([[-0.03, 0.03], [-0.02, 0.03]])


def kernel_losses(problems):
    def evaluate(points, first):
        return np.concatenate(
            [-each.profit(points[first[place] : first[place + 1]], n_threads=1) for place, each in enumerate(problems)]
        )

    return evaluate


def test_each_run_is_that_of_its_own(backend, monkeypatch):
    monkeypatch.setattr("backtest.compute.threads.WORTH_A_THREAD_US", 0.0)
    n = 13 if backend.name == "python" else 40
    problems = [any_problem(seed) for seed in range(n)]
    budgets = np.array([1, 2, 7, 30, 101, 240, 500] * 6)[:n]
    found = lockstep(kernel_losses(problems), BOX, budgets, n_threads=1)
    for ours, threaded in zip(found, lockstep(kernel_losses(problems), BOX, budgets, n_threads=3), strict=True):
        np.testing.assert_array_equal(ours, threaded)
    for place, problem in enumerate(problems):
        alone = problem.optimize("direct", bounds=BOX, maxfun=int(budgets[place]))
        assert (found.x[place].tolist(), found.nfev[place], found.status[place]) == (alone.x.tolist(), alone.nfev, alone.status)
        assert -found.fun[place] == alone.profit
    assert len(set(found.nfev)) > 5


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_any_number_of_parameters(n_params, seed):
    rng = np.random.default_rng(seed)
    centres, budgets = rng.uniform(-1, 1, (5, n_params)), rng.integers(1, 200, 5)
    box = np.stack([rng.uniform(-3, -1, n_params), rng.uniform(1, 3, n_params)], axis=1)
    scores = [lambda x, c=centre: np.floor(np.abs(x - c).sum(1) * 4) for centre in centres]  # plateaus: many ties

    def evaluate(points, first):
        return np.concatenate([score(points[first[place] : first[place + 1]]) for place, score in enumerate(scores)])

    found = lockstep(evaluate, box, budgets)
    for place, score in enumerate(scores):
        alone = search.direct(score, box, maxfun=int(budgets[place]))
        assert found.x[place].tolist() == alone.x.tolist()
        assert (found.fun[place], found.nfev[place], found.status[place]) == (alone.fun, alone.nfev, alone.status)


@pytest.mark.compiled
def test_twins_have_the_same_bits():
    problems = [any_problem(seed) for seed in range(12)]
    budgets = np.full(12, 150)
    ends, batches = [], []
    for name in ("cython", "python"):
        with _backend.forced(name):
            seen = []
            losses = kernel_losses(problems)
            ends.append(
                lockstep(
                    lambda points, first, seen=seen, losses=losses: (seen.append(points.tobytes()), losses(points, first))[1],
                    BOX,
                    budgets,
                )
            )
            batches.append(seen)
            assert bytes_each(2, 500) < 100_000
    assert batches[0] == batches[1]
    for left, right in zip(*ends, strict=True):
        assert left.tobytes() == right.tobytes()


def test_nothing_to_minimise_and_scores_that_are_none(backend):
    assert lockstep(None, BOX, np.zeros(0, dtype=np.int64)).x.shape == (0, 2)
    with pytest.raises(bt.BacktestError, match=r"scores must not be NaN, got nan at x = \[.*\] of objective 1"):
        lockstep(lambda points, first: np.where(np.arange(len(points)) == first[1], np.nan, 0.0), BOX, np.array([9, 9]))


def problems(n=24):
    return {("A", place): any_problem(place) for place in range(n)}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_device_finds_what_the_kernel_confirms(dtype):
    work = problems()
    table = bt.optimize_many(work, "direct", device=DEVICE, dtype=dtype)
    alone = bt.optimize_many(work, "direct")
    assert list(table.columns) == list(many.COLUMNS)
    assert table.index.equals(alone.index)
    assert table["success"].all()
    for key, problem in work.items():
        row = table.loc[key]
        assert row["profit"] == problem.profit([[row["high"], row["low"]]])[0]  # the kernel's value, to the last bit
        best = problem.optimize().profit
        assert alone.loc[key, "profit"] - 0.05 * abs(best) - 1e-4 <= row["profit"] <= best
        assert row["message"].endswith(f"scored on {'cuda:0' if DEVICE == 'cuda' else 'cpu'} in {dtype}")
    assert (np.abs(table["profit"] - alone["profit"]) <= 1e-12).mean() > 0.7


def test_budgets_bounds_and_effort_are_those_of_the_cpu():
    work = {"levels": any_problem(7), "always": any_problem(14)}
    for options in ({}, {"effort": "fast"}, {"maxfun": 33}, {"bounds": ((-0.001, 0.002), (-0.001, 0.001))}):
        table = bt.optimize_many(work, "direct", device=DEVICE, **options)
        alone = bt.optimize_many(work, "direct", **options)
        assert (np.abs(table["nfev"] - alone["nfev"]) <= 40).all()  # other points, the same budget
        for message, expected in zip(table["message"], alone["message"], strict=True):
            assert message.startswith(expected)


@pytest.mark.compiled
def test_the_fused_kernel_takes_a_whole_search():
    pytest.importorskip("triton", reason="extra `gpu` is not installed")
    work = [any_problem(place) for place in (7, 13)]
    there = gpu.Problems(work, DEVICE, path="fused")
    found = lockstep(partial(device_search._losses, there), BOX, np.array([20, 20]))
    for place, problem in enumerate(work):
        alone = problem.optimize("direct", bounds=BOX, maxfun=20)
        assert (-found.fun[place], found.nfev[place]) == (pytest.approx(alone.profit, abs=1e-12), alone.nfev)


def test_waves_change_nothing(monkeypatch):
    work = problems(9)
    whole = bt.optimize_many(work, "direct", device=DEVICE, maxfun=60)
    monkeypatch.setattr(device_search, "WAVE_BYTES", 2 * bytes_each(2, 60))
    assert list(device_search._waves([each.level_rows() for each in work.values()], bytes_each(2, 60), 1 << 60)) == [
        (0, 2),
        (2, 4),
        (4, 6),
        (6, 8),
        (8, 9),
    ]
    assert [stop for _, stop in device_search._waves([each.level_rows() for each in work.values()], 1, 1)][-1] == 9
    again = bt.optimize_many(work, "direct", device=DEVICE, maxfun=60)
    pd.testing.assert_frame_equal(again, whole, check_exact=False, atol=1e-12)


def test_exact_stays_on_the_cpu():
    work = problems(5)
    pd.testing.assert_frame_equal(bt.optimize_many(work, device=DEVICE), bt.optimize_many(work), check_exact=True)


def test_walks_run_on_a_device(monkeypatch):
    from backtest.levels import windows

    rng = np.random.default_rng(1)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, 90)))
    bars = bt.Bars(open=close, high=close * 1.01, low=close * 0.99, close=close)
    series = windows.series(bars, **windows.simple_forecasts(bars))
    table = windows.walk({"X": series}, window=20, fee_rate=0.001, method="direct", device=DEVICE)
    assert table["success"].all()
    assert table["message"].str.contains("scored on").all()


def test_one_bad_wish_is_a_row_of_each():
    table = bt.optimize_many(problems(3), "direct", device=DEVICE, maxfun=0)
    assert not table["success"].any()
    assert table["error"].str.startswith("InputError: maxfun must be a whole number >= 1").all()
    with pytest.raises(bt.InputError, match=r"bounds must be .* lowest < highest for method='direct'"):
        bt.optimize_many(problems(3), "direct", device=DEVICE, bounds=((0, 0), (0, 1)), on_error="raise")


def test_nothing_starts_after_the_deadline(monkeypatch):
    monkeypatch.setattr(device_search, "WAVE_BYTES", 1)
    table = bt.optimize_many(problems(3), "direct", device=DEVICE, deadline=0.0)
    assert set(table["message"]) == {many.NOT_STARTED}
    begun = time.monotonic()
    clock = iter([begun, begun + 1, begun + 9])
    monkeypatch.setattr(device_search, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    table = bt.optimize_many(problems(3), "direct", device=DEVICE, deadline=5.0)
    assert table["success"].tolist() == [True, True, False]


class Remote:
    """A problem of another kind, some of whose methods run on a device."""

    def optimize(self, method, **options):
        return any_problem(7).optimize(method, **options)

    @staticmethod
    def on_device(method, device, dtype):
        return None


class Broken(Remote):
    @staticmethod
    def on_device(method, device, dtype):
        def search(problems, options, until, n_threads):
            yield 0, any_problem(7).optimize(method, **options)
            raise ZeroDivisionError("nobody's fault")

        return search


def test_other_kinds_of_problem():
    work = {"a": Broken(), "b": Remote(), "c": any_problem(7), "d": Broken()}
    table = bt.optimize_many(work, "direct", device=DEVICE, maxfun=20)
    assert table["success"].tolist() == [True, True, True, False]
    assert table.loc["d", "error"] == "ZeroDivisionError: nobody's fault"


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("evolution", {"device": "cpu"}, "method must be 'direct' on a device .*, got 'evolution'; leave out device"),
        ("direct", {"device": "abacus"}, "device must be 'cpu', 'cuda' or 'cuda:N', got 'abacus'"),
        ("direct", {"device": "cpu", "dtype": "float16"}, "dtype must be one of 'float64', 'float32', got 'float16'"),
        ("direct", {"dtype": "float32"}, "dtype must be left out without a device, got 'float32'"),
        ("direct", {"device": "cpu", "executor": "pool"}, "executor must be None with device='cpu', got str"),
        ("exact", {"device": "cdua"}, "device must be 'cpu'"),
    ],
)
def test_bad_wishes_are_refused_at_once(method, options, message):
    with pytest.raises(bt.InputError, match=message):
        bt.optimize_many(problems(2), method, **options)


def test_a_problem_that_no_device_takes():
    class Plain:
        def optimize(self, **_): ...

    with pytest.raises(bt.InputError, match="problems must be Levels or AlwaysOn with device='cpu', got Plain"):
        bt.optimize_many({"a": Plain()}, "direct", device="cpu")

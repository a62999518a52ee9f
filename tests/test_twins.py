"""Compiled kernels and their pure twins: the same names, signatures, docstrings, and results to the last bit."""

import importlib
import inspect
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from cases import UNPAID, cases, random_bars, random_signals, strategy_of
from hypothesis import given, settings

import backtest as bt
from backtest import _backend, level_rows, masks, metrics, records, trades
from backtest.machine import program
from backtest.rules import CONDITIONS
from backtest.signals import StrategyEvaluator

pytestmark = [pytest.mark.compiled, pytest.mark.filterwarnings(UNPAID)]
KERNELS = _backend.kernel_names()


def twins(name):
    return importlib.import_module(f"backtest._ext.{name}"), importlib.import_module(f"backtest._pure.{name}")


def public(module):
    return {
        name: each
        for name, each in vars(module).items()
        if not name.startswith("_")
        and inspect.isroutine(each)
        and getattr(each, "__module__", module.__name__) == module.__name__
    }


@pytest.mark.parametrize("name", KERNELS)
def test_twins_have_the_same_functions_signatures_and_docstrings(name):
    compiled, pure = (public(module) for module in twins(name))
    assert compiled.keys() == pure.keys()
    for function in pure:
        assert list(inspect.signature(compiled[function]).parameters) == list(inspect.signature(pure[function]).parameters)
        assert inspect.getdoc(compiled[function]) == inspect.getdoc(pure[function])
    assert inspect.getdoc(twins(name)[0]) == inspect.getdoc(twins(name)[1])


def test_records_have_the_same_fields_on_both_sides_of_the_border():
    compiled = importlib.import_module("backtest._ext.buildinfo").record_fields()
    here = {
        "FILL": records.FILL,
        "TRADE": records.TRADE,
        "POSITION": records.POSITION,
        "TRADE_SUMS": records.TRADE_SUMS,
        "ACTION": program.ACTION,
        "ORDER": program.ORDER,
        "FAULT": program.FAULT,
        "SUMS": metrics.SUMS,
    }
    assert compiled == {name: list(dtype.names) for name, dtype in here.items()}


def test_sizes_are_the_same_on_both_sides_of_the_border():
    """Widths, strides and counts of kernels have one home in each twin; doors read those of the kernel that runs."""
    folders = list(_backend.simd_levels().values())
    checked = set()
    for name in KERNELS:
        pure = getattr(importlib.import_module(f"backtest._pure.{name}"), "LAYOUT", None)
        for folder in folders:
            compiled = importlib.import_module(f"backtest.{folder}.{name}")
            assert getattr(compiled, "LAYOUT", None) == pure, (name, folder)
        checked |= {name} if pure else set()
    assert checked == {"levels", "machine", "masks", "signals", "trades"}
    of_masks, of_levels = (importlib.import_module(f"backtest._pure.{name}").LAYOUT for name in ("masks", "levels"))
    assert of_masks["TILE"] == masks.TILE
    columns = {name for name in vars(level_rows) if name in of_levels}
    assert len(columns) == 8 + 6 + 3 + 6
    assert {name: getattr(level_rows, name) for name in columns} == {name: of_levels[name] for name in columns}
    sums = importlib.import_module("backtest._pure.signals").LAYOUT["sums"]
    assert sums == len(metrics.SUMS.names)
    assert len(CONDITIONS) == importlib.import_module("backtest._pure.signals").LAYOUT["conditions"]


def both(work):
    results = []
    for name in ("cython", "python"):
        with _backend.forced(name):
            results.append(work())
    return results


def same_bits(left, right):
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    assert left.tobytes() == right.tobytes(), (left, right)


def replayed(bars, strategy, costs, execution):
    run = bt.run(bars, strategy, costs=costs, execution=execution)
    return run, [
        run.sums,
        run.fills,
        run._equity,
        run._units,
        *run._replay.unexecuted[:3],
        run.tracked.records,
        run.tracked.positions,
        run.tracked.sums(),
    ]


@given(cases())
@settings(max_examples=400)
def test_signals_and_trades_agree_to_the_last_bit(case):
    bars, signals, levels, costs, execution = case
    if execution.sides == "short":
        signals = [None, None, *signals[2:]]
    (first, of_first), (second, of_second) = both(lambda: replayed(bars, strategy_of(signals, levels), costs, execution))
    for left, right in zip(of_first, of_second, strict=True):
        same_bits(left, right)
    assert first.orders.equals(second.orders)


@pytest.mark.parametrize("seed", range(6))
def test_batches_agree_to_the_last_bit(seed):
    rng = np.random.default_rng(seed)
    bars = random_bars(rng, 120, 0.03)
    arrays = [rng.random((120, 7)) < (0.02, 0.2, 0.6)[seed % 3] for _ in range(4)]
    strategy = bt.rules.from_arrays(
        *arrays, stop_loss=bt.param("stop"), take_profit=bt.param("k") * bt.lines.atr(5) / bt.lines.close
    )
    candidates = {
        "column": list(range(7)),
        "stop": [None, 0.01, 0.02, 0.05, 0.1, 0.2, None],
        "k": [None, 1, 2, 3.0, 4, None, 0.5],
    }
    left, right = both(
        lambda: bt.evaluate(
            bars,
            strategy,
            candidates,
            costs=bt.Costs(fee_rate=0.001, slippage=0.001),
            execution=bt.Execution(periods_per_year=252.0),
        )
    )
    same_bits(left.to_numpy(), right.to_numpy())


def random_ledger(rng, n_bars, n_assets, n_fills):
    """Adds, partial closes, exact closes and flips, on several assets, at every moment of a bar."""
    ledger = np.zeros(n_fills, dtype=records.FILL)
    order = np.sort(rng.integers(0, n_bars * 3, n_fills))
    held = np.zeros(n_assets)
    for row, at in enumerate(order):
        asset = rng.integers(n_assets)
        units = {0: -held[asset], 1: -held[asset] / 3, 2: -2 * held[asset]}.get(int(rng.integers(5)), float(rng.integers(-5, 6)))
        units = units or 3.0
        held[asset] += units
        ledger[row] = (
            at // 3,
            at // 3,
            at % 3,
            asset,
            units,
            100 + rng.random() * 20,
            0,
            rng.random(),
            0,
            0,
            0,
            0,
            rng.integers(1, 8),
            rng.integers(2),
            np.nan,
            110.0,
            95.0,
            1000.0,
            0.0,
        )
    return ledger


@pytest.mark.parametrize("with_extremes", [True, False])
@pytest.mark.parametrize("seed", range(25))
def test_trades_of_any_ledger_agree_to_the_last_bit(seed, with_extremes):
    rng = np.random.default_rng(seed)
    n_bars, n_assets = int(rng.integers(1, 30)), int(rng.integers(1, 4))
    ledger = random_ledger(rng, n_bars, n_assets, int(rng.integers(0, 40)))
    close = 100 + rng.random((n_assets, n_bars)) * 20
    close[rng.random(close.shape) < 0.02] = np.nan
    extremes = {"open": close + 1, "high": close + 3, "low": close - 3} if with_extremes else {}
    for array in (ledger, close, *extremes.values()):
        array.flags.writeable = False

    def track():
        tracked = trades.track(ledger, close=close, times=None, borrow_per_bar=0.001 * (seed % 2), **extremes)
        return [tracked.records, tracked.positions, tracked.sums()]

    for left, right in zip(*both(track), strict=True):
        same_bits(left, right)


#: What a twin is made of, below first.
PARTS = {"signals": ["_signal_account", "_bar_events", "signals"], "trades": ["trades"], "portfolio": ["_orders", "portfolio"]}


def pure_source(part):
    return Path(importlib.import_module(f"backtest._pure.{part}").__file__).read_text()


def copy_of_twin(name, part, source, monkeypatch):
    """The twin with another source for one of its parts."""
    for each in PARTS[name]:
        module = types.ModuleType(f"backtest._pure.{each}")
        exec(compile(source if each == part else pure_source(each), f"mutant of {each}", "exec"), module.__dict__)
        monkeypatch.setitem(sys.modules, f"backtest._pure.{each}", module)  # the next part imports it
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "sign", "mutant"),
    [
        ("_signal_account", "cash_before - value - cost", "cash_before - value + cost"),
        (
            "_signal_account",
            "floor, ceiling = level * touch_above, target * touch_below",
            "floor, ceiling = level * touch_below, target * touch_below",
        ),
        ("_signal_account", "self.level_base * (1.0 + stop)", "self.level_base * (1.0 - stop)"),
        ("_signal_account", "self.closes_held >= self.max_bars", "self.closes_held > self.max_bars"),
        ("_bar_events", "end = next_touch(account, bar + 1, end) - 1", "end = min(next_touch(account, bar + 1, end), end)"),
        ("_bar_events", "decision - 1 if settings.fills_at_close", "decision if settings.fills_at_close"),
        (
            "_bar_events",
            "moments[end, :MOMENTS] - moments[begin - 1, :MOMENTS]",
            "moments[end, :MOMENTS] - moments[begin, :MOMENTS]",
        ),
        ("trades", "gross - entry_cost - exit_cost - borrow_cost", "gross - entry_cost + exit_cost - borrow_cost"),
        ("trades", "cost * (held / -units)", "cost * (held / units)"),
        ("trades", "elif net < 0.0:", "elif net <= 0.0:"),
    ],
)
def test_a_flipped_sign_in_a_twin_does_not_pass(part, sign, mutant, monkeypatch):
    """The comparison above can fail: a copy of the twin with one change is told apart on the same kind of input."""
    name = next(name for name, parts in PARTS.items() if part in parts)
    source = pure_source(part)
    assert len(re.findall(re.escape(sign), source)) == 1, f"{sign!r} is not there once"
    changed = copy_of_twin(name, part, source.replace(sign, mutant), monkeypatch)
    rng = np.random.default_rng(3)
    differs = False
    for case in range(60):
        rows = rng.choice([90.0, 99.0, 100.0, 101.0, 105.0, 110.0], (30, 4))
        bars = bt.Bars(open=rows[:, 0], close=rows[:, 1], high=rows.max(1), low=rows.min(1))
        levels = {
            "stop_loss": (0.01, 0.1, None)[case % 3],
            "take_profit": (None, 0.05)[case % 5 == 0],
            "max_bars": (3, None)[case % 2],
        }
        strategy = strategy_of(random_signals(rng, 30, 0.2), levels)
        execution = bt.Execution(periods_per_year=252.0, fill=("next_open", "close")[case % 7 == 0])
        costs = bt.Costs(fee_rate=0.01)
        ledger, close = random_ledger(rng, 30, 2, 30), rng.choice([100.0, 101.0], (2, 30))
        ledger["price"], ledger["cost"] = 100.0, rng.choice([0.0, 1.0], 30)  # some trades end at exactly nothing

        def work(bars=bars, strategy=strategy, costs=costs, execution=execution, ledger=ledger, close=close):
            tracked = trades.track(ledger, close=close, times=None)
            return [*replayed(bars, strategy, costs, execution)[1], tracked.records, tracked.sums()]

        with _backend.forced("cython"):
            right = work()
        with _backend.forced("python") as pure:
            monkeypatch.setitem(pure.kernels, name, changed)
            wrong = work()
        differs |= any(a.tobytes() != b.tobytes() for a, b in zip(right, wrong, strict=True))
    assert differs


def test_rows_of_a_batch_are_the_callers_business():
    """``start, stop``: a kernel writes the rows it is given and no others."""
    rng = np.random.default_rng(0)
    bars = random_bars(rng, 50)
    strategy = bt.rules.from_arrays(rng.random((50, 6)) < 0.2, rng.random((50, 6)) < 0.2)
    evaluator = StrategyEvaluator(
        bars,
        strategy,
        bt.Space({"column": range(6)}).parameters,
        costs=bt.Costs.zero(),
        execution=bt.Execution(start=0, periods_per_year=252.0),
    )
    batch = np.arange(6.0)[:, None]
    whole = evaluator.sums(batch)[0]
    table = evaluator.candidate_table(batch, evaluator.settings())
    for backend in ("cython", "python"):
        with _backend.forced(backend):
            part = np.zeros(6, dtype=metrics.SUMS)
            spans = evaluator.holding_tables(evaluator.settings())
            _backend.kernel("signals").evaluate(bars, spans, table, evaluator.settings(), 2, 5, part)
        assert part[2:5].tobytes() == whole[2:5].tobytes()
        assert not part[[0, 1, 5]].tobytes().strip(b"\0")

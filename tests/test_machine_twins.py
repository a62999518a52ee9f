"""The bar machine's compiled kernel against its pure twin: sums, faults, fills, orders and equity to the last bit."""

import copy
import importlib
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import long, slow
from machine_cases import random_case, random_settings

from backtest import _backend, metrics, records
from backtest._pure import machine as pure
from backtest.machine.program import ACTION, BUY, FAULT, FIELDS, OPERANDS, ORDER, SELL, Program

pytestmark = pytest.mark.compiled
FLAT = 2  # the word that is true where no position is held


def compiled():
    return {level: importlib.import_module(f"backtest.{folder}.machine") for level, folder in _backend.simd_levels().items()}


def evaluated(kernel, case, cuts=()):
    """Sums and faults of all candidates, evaluated in parts that end at ``cuts``."""
    n = len(case[2].values)
    sums, faults = np.zeros(n, metrics.SUMS), np.zeros(n, FAULT)
    for start, stop in zip((0, *cuts), (*cuts, n), strict=True):
        kernel.evaluate(*case, start, stop, sums, faults)
    return sums, faults


def replayed(kernel, case, row):
    """Everything that a replay writes, with as many rows as it asks for."""
    settings = case[3]
    counts = (0, 0)
    for _ in range(2):
        sums, faults = np.zeros(1, metrics.SUMS), np.zeros(1, FAULT)
        series = np.zeros((3, settings.last - settings.first))
        ledger, orders, levels = np.zeros(counts[0], records.FILL), np.zeros(counts[1], ORDER), np.zeros(3)
        counts = kernel.replay(*case, row, sums, faults, ledger, *series, orders, levels)
    assert counts == (len(ledger), len(orders))
    return sums, faults, ledger, orders, series, levels


def assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        if a.dtype.names:
            for name in a.dtype.names:
                np.testing.assert_array_equal(a[name], b[name], err_msg=name)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("seed", range(40))
def test_random_programs_give_equal_bits_at_every_level(seed):
    case = random_case(seed)
    expected = evaluated(pure, case)
    for kernel in compiled().values():
        assert_equal(evaluated(kernel, case), expected)
    for row in range(2):
        one = replayed(pure, case, row)
        for kernel in compiled().values():
            assert_equal(replayed(kernel, case, row), one)


@pytest.mark.parametrize("seed", range(100, 120))
def test_a_candidate_does_not_depend_on_its_neighbours(seed):
    """Cuts of a batch, and replays: one lane at a time, where a block has vector code for what is frequent."""
    case = random_case(seed, n_candidates=131)
    kernels = list(compiled().values())
    expected = evaluated(kernels[-1], case)
    for kernel in kernels:
        assert_equal(evaluated(kernel, case), expected)
        assert_equal(evaluated(kernel, case, (1, 18, 64, 65, 129)), expected)
    for row in range(seed % 7, 131, 7):
        sums, faults, *_ = replayed(kernels[-1], case, row)
        assert_equal((sums, faults), (expected[0][row : row + 1], expected[1][row : row + 1]))


@pytest.mark.parametrize("seed", [*map(slow, range(1000, 1060)), *map(long, range(1060, 2000))])
def test_many_random_programs_give_equal_bits(seed):
    case = random_case(seed, n_candidates=3)
    expected, one = evaluated(pure, case), replayed(pure, case, 0)
    for kernel in compiled().values():
        assert_equal(evaluated(kernel, case), expected)
        assert_equal(replayed(kernel, case, 0), one)


def test_the_cases_trade():
    """What the comparisons above are worth: fills, exits of every kind, ambiguous bars, faults."""
    cases = [random_case(seed, n_candidates=64) for seed in range(120)]
    kernel = list(compiled().values())[-1]
    results = [evaluated(kernel, case) for case in cases]
    sums, faults = (np.concatenate(parts) for parts in zip(*results, strict=True))
    assert sums["n_fills"].sum() > 50_000
    assert sums["n_ambiguous"].sum() > 500
    assert np.count_nonzero(sums["written_off"])
    assert len(np.unique(faults["code"])) > 4
    reasons, statuses = set(), set()
    for case in cases:
        _, _, ledger, orders, *_ = replayed(kernel, case, 0)
        reasons |= set(ledger["reason"].tolist())
        statuses |= set(orders["status"].tolist())
    assert reasons >= set(range(8))  # busts and liquidations are rare
    assert statuses == {0, 1, 2, 3, 4, 5}


def test_arguments_are_not_changed():
    case = random_case(3, n_candidates=70)
    before = copy.deepcopy(case)
    for each in (*vars(case[0]).values(), *vars(case[2]).values(), case[1].code, case[1].actions):
        each.setflags(write=False)
    for kernel in compiled().values():
        evaluated(kernel, case)
    for one, other in zip((case[0], case[2]), (before[0], before[2]), strict=True):
        assert_equal(list(vars(one).values()), list(vars(other).values()))
    assert_equal(
        [each for each in case[1] if isinstance(each, np.ndarray)], [each for each in before[1] if isinstance(each, np.ndarray)]
    )


def program_of(**action):
    """A program without instructions that places one order while flat; operands are constants."""
    record = np.zeros(1, ACTION)
    for name in OPERANDS:
        record[name] = -1
    constants = []
    for name, value in ({"kind": BUY, "where": FLAT, "size_kind": 1, "size": 1.0} | action).items():
        if name in OPERANDS:
            constants.append(value)
            value = len(constants) - 1
        record[name] = value
    nothing = np.empty(0)
    pairs = np.empty((0, 2), np.int32)
    n_numbers = len(constants) + len(FIELDS)
    return Program(
        np.empty((0, 5), np.int32), 0, np.array(constants), 0, 0, nothing, 0, np.empty(0, np.int32), pairs, pairs, n_numbers, 5,
        record, pairs, pairs, 1, 0, 0, 0
    )  # fmt: skip


def candidates_of(n, n_bars):
    columns = np.empty((n, 0), np.int64)
    masks = np.zeros((1, n_bars // 64 + 1), np.uint64)
    return SimpleNamespace(
        values=np.empty((n, 0)), lines=np.empty((0, n_bars)), line_rows=columns, masks=masks, mask_rows=columns
    )


def settings_of(n_bars, **changed):
    settings = random_settings(np.random.default_rng(0), n_bars)
    plain = {"fee_rate": 0.0, "slippage": 0.0, "fixed": 0.0, "per_unit": 0.0, "minimum": 0.0, "maximum": np.inf, "first": 0}
    plain |= {"last": n_bars, "start_cash": 1000.0, "rf_per_bar": 0.0, "borrow_per_bar": 0.0, "fills_at_close": False}
    plain |= {"intrabar": 0, "close_at_end": False, "lot": 0.0, "leverage": 1.0, "maintenance_margin": 0.0, "multiplier": 1.0}
    plain |= {"tick": 0.0, "liquidation_fee": 0.0, "funding": np.empty(0)}
    vars(settings).update(plain | changed)
    return settings


def assert_twins_agree(case):
    """Of a batch and of a replay; returns the ledger."""
    expected, one = evaluated(pure, case), replayed(pure, case, 0)
    for kernel in compiled().values():
        assert_equal(evaluated(kernel, case), expected)
        assert_equal(replayed(kernel, case, 0), one)
    return one[2]


@pytest.mark.parametrize("side", [BUY, SELL])
@pytest.mark.parametrize("paid", ["funding", "borrowing"])
def test_what_holding_costs_moves_the_liquidation_price(side, paid):
    n_bars = 120
    drift = -0.001 if side == BUY else 0.001
    close = 100.0 * np.exp(drift * np.arange(n_bars))
    bars = SimpleNamespace(open=close, high=close * 1.001, low=close * 0.999, close=close)
    costs = {"funding": np.full(n_bars, 0.004 if side == BUY else -0.004)} if paid == "funding" else {"borrow_per_bar": 0.004}
    settings = settings_of(n_bars, leverage=5.0, maintenance_margin=0.02, **costs)
    ledger = assert_twins_agree((bars, program_of(kind=side, size_kind=2, size=4.5), candidates_of(3, n_bars), settings))
    assert ledger["reason"].tolist()[:2] == [0, 10]
    assert 2 < ledger["fill_bar"][1] < n_bars - 1


@pytest.mark.parametrize("tick", [0.0, 0.05])
@pytest.mark.parametrize("trail", [0.5, 0.99, 0.999, 0.9999])
def test_a_bar_that_ends_on_a_trail_touches_it(trail, tick):
    close = np.array([100.0, 100.0, 100.0, 100.0, 100.0])
    level = 100.0 * (1.0 - trail)
    level = np.ceil(level / tick - 1e-9) * tick if tick else level
    low = close - 1.0
    low[3] = level
    bars = SimpleNamespace(open=close, high=close + 1.0, low=low, close=close)
    case = bars, program_of(trail=trail, trail_kind=1), candidates_of(2, 5), settings_of(5, tick=tick)
    ledger = assert_twins_agree(case)
    assert ledger["reason"].tolist()[:2] == [0, 5]
    assert ledger["fill_bar"][1] == 3

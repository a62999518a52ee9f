"""The bar machine's compiled kernel against its pure twin: sums, faults, fills, orders and equity to the last bit."""

import copy
import importlib

import numpy as np
import pytest
from machine_cases import random_case

from backtest import _backend, metrics, records
from backtest._pure import machine as pure
from backtest.machine.program import FAULT, ORDER

pytestmark = pytest.mark.compiled


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


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 2000))
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

"""The bar machine's compiled kernel against its pure twin: sums, faults, fills, orders and equity to the last bit."""

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

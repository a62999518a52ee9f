"""Which instruction set level runs, and how it is reported."""

import re

import pytest

from backtest import InputError, _backend, backend

pytestmark = pytest.mark.compiled


def test_the_highest_level_that_runs_is_taken_and_reported():
    levels = list(_backend.simd_levels())
    assert _backend.chosen().simd == levels[-1]
    assert re.fullmatch(rf"cython \(compiled kernels, {levels[-1]}, \d+ threads?\)", backend())


def test_each_level_has_kernels_of_its_own():
    files = set()
    for simd in _backend.simd_levels():
        with _backend.forced("cython", simd) as now:
            assert now.simd == simd
            assert f"{simd}," in backend()
            files |= {kernel.__file__ for kernel in now.kernels.values()}
    assert len(files) == len(_backend.simd_levels()) * len(_backend.kernel_names())


def test_an_unknown_level_is_refused():
    with pytest.raises(InputError, match="simd must be one of"), _backend.forced("cython", "x86-64-v9"):
        pass


def test_a_level_that_was_not_built_gives_the_next_lower_and_says_so(monkeypatch):
    levels = list(_backend.simd_levels())
    if len(levels) == 1:
        pytest.skip("this processor runs the baseline only")
    top = levels[-1].rpartition("-")[2]
    carries = _backend._carries
    monkeypatch.setattr(_backend, "_carries", lambda level: level != top and carries(level))
    with _backend.forced("cython") as now:
        assert now.simd == levels[-2]
        assert f", built without {levels[-1]})" in backend()

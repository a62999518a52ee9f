"""DIRECT's header: a foreign kernel, compiled here, runs the whole loop without the GIL."""

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT, load_setup
from test_direct import sphere

from backtest import search

FOREIGN = """
from _direct cimport DIRECT_FULL, DIRECT_NAN, direct_point, direct_run, direct_start
from _direct_state cimport (
    Direct, direct_bind, direct_capacity, direct_init, direct_n_classes, direct_rebind, direct_work,
)
from libc.stdlib cimport free, malloc

FULL, NAN = DIRECT_FULL, DIRECT_NAN


cdef void sphere(const double *points, Py_ssize_t n_points, double *scores, void *data) noexcept nogil:
    cdef Py_ssize_t row, column, n_params = (<Py_ssize_t *> data)[0]
    cdef double u
    for row in range(n_points):
        scores[row] = 0.0
        for column in range(n_params):
            u = points[row * n_params + column] - 0.3 - 0.1 * column
            scores[row] = scores[row] + u * u


def solve(double[::1] ratio, double[::1] width, Py_ssize_t budget, Py_ssize_t max_iter, bint locally_biased, bint tight,
          double[::1] x):
    cdef Direct d
    cdef Py_ssize_t n_params = ratio.shape[0], n_moves = 0
    cdef Py_ssize_t capacity = direct_capacity(n_params, budget, max_iter)
    cdef Py_ssize_t n_classes = direct_n_classes(n_params, budget, max_iter)
    cdef double *work
    cdef double *more
    cdef double *points
    cdef double *scores
    cdef int status
    with nogil:
        if tight:
            capacity, n_classes = 2 * n_params + 2, 2 * n_params + 2
        direct_init(&d, n_params, &ratio[0], &width[0], 1e-4, budget, max_iter, locally_biased, False, -1e300, 0.0, -1.0, -1.0)
        work = <double *> malloc(direct_work(n_params, capacity, n_classes) * sizeof(double))
        points = <double *> malloc(capacity * n_params * sizeof(double))
        scores = <double *> malloc(capacity * sizeof(double))
        direct_bind(&d, work, capacity, n_classes)
        direct_start(&d)
        status = direct_run(&d, sphere, &n_params, points, scores)
        while status == DIRECT_FULL:
            n_moves += 1
            capacity, n_classes = 2 * capacity, 2 * n_classes
            more = <double *> malloc(direct_work(n_params, capacity, n_classes) * sizeof(double))
            direct_rebind(&d, more, capacity, n_classes)
            free(work)
            free(points)
            free(scores)
            work = more
            points = <double *> malloc(capacity * n_params * sizeof(double))
            scores = <double *> malloc(capacity * sizeof(double))
            status = direct_run(&d, sphere, &n_params, points, scores)
        direct_point(&d, d.best, &x[0])
        free(work)
        free(points)
        free(scores)
    return status, d.fun, d.n_points, n_moves
"""


@pytest.fixture(scope="session")
def foreign(tmp_path_factory):
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    pytest.importorskip("backtest._ext.direct")
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "foreign.pyx").write_text(FOREIGN)
    setup = load_setup()
    flags = setup.MSVC_FLAGS if sys.platform == "win32" else setup.UNIX_FLAGS
    (folder / "setup.py").write_text(f"""
from Cython.Build import cythonize
from setuptools import Extension, setup
modules = cythonize([Extension("foreign", ["foreign.pyx"], extra_compile_args={flags!r})], include_path=[{str(ROOT / "ext")!r}],
                    compiler_directives={{"language_level": "3", "cdivision": True, "boundscheck": False, "wraparound": False}})
setup(name="foreign", ext_modules=modules, script_args=["build_ext", "--inplace"])
""")
    done = subprocess.run([sys.executable, "setup.py"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    path = next(path for path in folder.iterdir() if path.suffix in (".so", ".pyd"))
    spec = importlib.util.spec_from_file_location("foreign", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("locally_biased", [True, False])
def test_a_foreign_kernel_runs_the_whole_loop(foreign, locally_biased, tight):
    def problem(n, budget):
        low, high = np.linspace(-1.0, -0.5, n), np.linspace(1.0, 2.5, n)
        width = high - low
        x = np.empty(n)
        status, fun, nfev, n_moves = foreign.solve(low / width, width, budget, 1000, locally_biased, tight, x)
        got = search.direct(
            sphere, list(zip(low, high, strict=True)), maxfun=budget, locally_biased=locally_biased, vol_tol=0.0, len_tol=0.0
        )
        assert (status, fun, nfev, x.tobytes()) == (got.status, got.fun, got.nfev, got.x.tobytes())
        if not tight and locally_biased:
            assert n_moves == 0
        assert not tight or n_moves > 0

    cases = [(n, budget) for n in (1, 2, 3, 7) for budget in (20, 100, 500, 4000)]
    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(problem, *case) for case in cases]:
            future.result()

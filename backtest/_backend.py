"""Which kernels run: the compiled ones or their pure twins.  Decided here only.

All kernels come from one backend.  The choice is made at the first use and kept:

* ``BACKTEST_BACKEND=auto`` (or unset, or empty): compiled, or pure with one warning that says why;
* ``BACKTEST_BACKEND=cython``: compiled, or :class:`BackendUnavailable`;
* ``BACKTEST_BACKEND=python``: pure.

Compiled kernels come once per instruction set level (``_ext``, ``_ext/v3``, ``_ext/v4``), with equal results to the last bit;
the highest level that this processor runs and this build carries is taken.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pkgutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from backtest._checks import BackendUnavailable, FallbackWarning, InputError, choice

BACKENDS = ("auto", "cython", "python")
SIMD_LEVELS = (3, 4)


class Backend(NamedTuple):
    """The kernels that run, and why these."""

    name: str  # "cython" or "python"
    reason: str  # why not the other one; empty if there is nothing to explain
    simd: str  # instruction set level of the compiled kernels; empty for the pure twins
    kernels: dict[str, ModuleType]


_chosen: Backend | None = None


def chosen() -> Backend:
    """The backend of this process; chosen at the first call."""
    global _chosen
    if _chosen is None:
        _chosen = _choose(os.environ.get("BACKTEST_BACKEND") or "auto")
    return _chosen


def kernel(name: str) -> ModuleType:
    """The module of kernel ``name`` in the backend that runs."""
    return chosen().kernels[name]


def twin(name: str) -> ModuleType:
    """The pure twin of kernel ``name``, whichever backend runs: the specification."""
    return importlib.import_module(f"backtest._pure.{name}")


def backend() -> str:
    """Which kernels run, and why, in one line.

    Returns
    -------
    str
        For example ``cython (compiled kernels, x86-64-v4, 2 threads)`` or
        ``python (compiled kernels unavailable: <why>)``.
    """
    from backtest.compute.threads import default_threads

    now = chosen()
    if now.name == "cython":
        count = default_threads()
        notes = [now.simd, f"{count} thread{'s' * (count != 1)}", *([now.reason] if now.reason else [])]
        return f"cython (compiled kernels, {', '.join(notes)})"
    return f"python ({now.reason})"


def require_compiled() -> None:
    """Raise :class:`BackendUnavailable`, with the reason, unless the compiled kernels run."""
    now = chosen()
    if now.name != "cython":
        raise BackendUnavailable(f"the compiled kernels do not run: {now.reason}")


@contextlib.contextmanager
def forced(name: str, simd: str | None = None) -> Iterator[Backend]:
    """Run the body on one backend, at one of :func:`simd_levels`; for tests and benchmarks, not thread-safe."""
    global _chosen
    before = _chosen
    _chosen = _choose(choice("backend", name, BACKENDS), simd)
    try:
        yield _chosen
    finally:
        _chosen = before


def simd_levels() -> dict[str, str]:
    """Levels that this processor runs and this build carries, lowest first, each with its folder."""
    info = importlib.import_module("backtest._ext.buildinfo")
    runs = [f"v{level}" for level in SIMD_LEVELS if level <= info.CPU_LEVEL]
    return {info.SIMD: "_ext"} | {f"{info.SIMD}-{level}": f"_ext.{level}" for level in runs if _carries(level)}


def _carries(level: str) -> bool:
    return all(importlib.util.find_spec(f"backtest._ext.{level}.{name}") for name in kernel_names())


def _choose(requested: str, simd: str | None = None) -> Backend:
    if requested not in BACKENDS:
        raise InputError(f"BACKTEST_BACKEND must be one of {', '.join(BACKENDS)}, got {requested!r}")
    if requested == "python":
        return Backend("python", "asked for by BACKTEST_BACKEND=python", "", _load("_pure"))
    try:
        info = importlib.import_module("backtest._ext.buildinfo")
        levels = simd_levels()
        simd = choice("simd", simd, list(levels)) if simd else list(levels)[-1]
        compiled = _load(levels[simd])
    except ImportError as error:
        why = f"compiled kernels unavailable: {error}{_source_tree()}"
        if requested == "cython":
            raise BackendUnavailable(f"BACKTEST_BACKEND=cython, but {why}") from error
        warnings.warn(f"{why}; the pure Python kernels run, with equal results but far slower", FallbackWarning, stacklevel=4)
        return Backend("python", why, "", _load("_pure"))
    missing = [f"v{level}" for level in SIMD_LEVELS if level <= info.CPU_LEVEL and not _carries(f"v{level}")]
    return Backend("cython", f"built without {info.SIMD}-{missing[-1]}" if missing else "", simd, compiled)


def _source_tree() -> str:
    """The usual reason, if it applies: the source tree was imported instead of the installed package."""
    here = Path(__file__).parent
    return f"; {here} is the source tree, run elsewhere or pip install -e it" if (here.parent / "ext").is_dir() else ""


def kernel_names() -> list[str]:
    """Every kernel has a pure twin, so the twins' folder is the list."""
    twins = importlib.import_module("backtest._pure")
    return sorted(module.name for module in pkgutil.iter_modules(twins.__path__) if not module.name.startswith("_"))


def _load(side: str) -> dict[str, ModuleType]:
    return {name: importlib.import_module(f"backtest.{side}.{name}") for name in kernel_names()}

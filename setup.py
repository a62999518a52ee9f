"""Compile ``ext/*.pyx`` into ``backtest/_ext``.  Metadata lives in ``pyproject.toml``.

``BACKTEST_BUILD`` says what may happen without a working C compiler:

* ``auto`` (default): build what can be built; the library falls back to its pure twins and says so;
* ``require``: fail loudly (wheels, CI);
* ``pure``: compile nothing, make a ``py3-none-any`` wheel.
"""

import hashlib
import os
import sys
import sysconfig
from pathlib import Path

MODES = ("auto", "require", "pure")
# Strict IEEE arithmetic, so that both twins agree to the last bit: no fused multiply-add, no fast-math.
# -fno-trapping-math only drops floating-point exception flags; without it gcc leaves selects scalar.
# -g0: the debug information that distributions ask for is four fifths of a module, and a wheel has three of each.
UNIX_FLAGS = ["-O3", "-g0", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
MSVC_FLAGS = ["/O2", "/fp:precise"]
# One wheel carries every kernel once more per level (``backtest/_ext/v3``, ``v4``); ``_backend.py`` takes the highest that runs.
SIMD_FLAGS = {
    "linux-x86_64": {"v3": ["-march=x86-64-v3"], "v4": ["-march=x86-64-v4"]},
    "win-amd64": {"v3": ["/arch:AVX2"], "v4": ["/arch:AVX512"]},
}


def sources_of(ext: Path) -> list[Path]:
    """Everything the kernels are compiled from."""
    return sorted(path for path in ext.iterdir() if path.suffix in {".pyx", ".pxd", ".h"})


def source_hash(ext: Path) -> str:
    """Hash of the sources; ``buildinfo`` carries it, the tests compare it."""
    digest = hashlib.sha256()
    for path in sources_of(ext):
        digest.update(path.name.encode() + b"\0" + path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]


def extensions(mode: str) -> list:
    """Every kernel once per instruction set level of this platform, and ``buildinfo`` once."""
    if mode == "pure":
        return []
    from Cython.Build import cythonize
    from setuptools import Extension

    flags = MSVC_FLAGS if sys.platform == "win32" else UNIX_FLAGS
    sources = [f"ext/{path.name}" for path in sources_of(Path("ext"))]
    headers = [path for path in sources if path.endswith(".h")]  # Cython knows what depends on a .pxd
    # ``buildinfo`` carries the hash of all sources, so it depends on all of them.
    info = {"define_macros": [("BACKTEST_SOURCE_HASH", f'"{source_hash(Path("ext"))}"')], "depends": sources}
    modules = []
    for level, level_flags in {"": [], **SIMD_FLAGS.get(sysconfig.get_platform(), {})}.items():
        # Each level has its own C files: Cython enters a module into sys.modules under the name that is written in them.
        modules += cythonize(
            [
                Extension(
                    ".".join(filter(None, ["backtest._ext", level, Path(path).stem])),
                    [path],
                    include_dirs=["ext"],
                    extra_compile_args=flags + level_flags,
                    **(info if "buildinfo" in path else {"depends": headers}),
                )
                for path in sources
                if path.endswith(".pyx") and not (level and "buildinfo" in path)
            ],
            include_path=["ext"],
            build_dir=f"build/cython{level}",
            compiler_directives={
                "language_level": "3",
                "boundscheck": False,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": False,
                "autotestdict": False,
                "auto_pickle": False,
                "freethreading_compatible": True,
            },
        )
    for module in modules:  # cythonize() drops the flag, so it is set afterwards
        module.optional = mode == "auto"
    return modules


if __name__ == "__main__":
    from setuptools import setup

    build = os.environ.get("BACKTEST_BUILD") or "auto"
    if build not in MODES:
        raise SystemExit(f"BACKTEST_BUILD must be one of {', '.join(MODES)}, got {build!r}")
    setup(ext_modules=extensions(build), options={"build_ext": {"parallel": os.cpu_count() or 1}})

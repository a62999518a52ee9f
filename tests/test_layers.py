"""Who may import whom, and what importing costs: walked from the code's own imports."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import backtest

PACKAGE = Path(backtest.__file__).parent

# Each line may use the lines below it; within a line, left may use right.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["config", "weights", "optimize", "solve", "provenance", "results", "strategies"],
    ["levels", "gpu", "level_rows"],
    [
        "explain",
        "runs",
        "pending",
        "books",
        "statistics",
        "equity_record",
        "simulation",
        "tables",
        "stats_series",
        "tool_stats",
        "allocation",
    ],
    [
        *("cells", "machine", "signals", "evaluation", "holding_tables", "candidate_table", "masks"),
        *("book_evaluator", "portfolio", "endings"),
    ],
    ["ledgers", "trades", "records"],
    ["study"],
    ["search"],
    ["rules", "lines", "ready_signals", "line_values", "expr"],
    ["bars", "suspects", "windows", "labels", "periods"],
    ["files"],
    ["space", "space_given", "enumeration", "feasible", "intervals", "space_params", "where"],
    ["metrics"],
    ["costs"],
    ["compute"],
    ["elementary"],
    ["evaluator"],
    ["_backend"],
    ["_checks"],
    ["_errors"],
    ["_said"],
]
RANK = {name: (layer, place) for layer, names in enumerate(LAYERS) for place, name in enumerate(names)}
HEAVY = (
    "pandas",
    "optuna",
    "sqlalchemy",
    "torch",
    "scipy.optimize",
    "plotly",
    "pyarrow",
    "talib",
    "rich",
    "typer",
    "narwhals",
    "tqdm",
)


def modules():
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py" or path.parent != PACKAGE]


def room(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "backtest":
            names = [f"backtest.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        for name in names:
            if name == "backtest":
                yield "backtest", node.lineno
            elif name.startswith("backtest."):
                yield name.split(".")[1], node.lineno


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path):
    here = room(path)
    if here == "data":
        return
    for there, line in imported_rooms(path):
        where = f"{path.relative_to(PACKAGE)}:{line} imports {there}"
        if here in ("_ext", "_pure"):
            assert there == here, f"{where}; kernels import nothing of ours"
        elif there == "backtest":
            assert here in ("cli", "__main__"), f"{where}; only the command line stands above the public names"
        elif there == here or (there == "compute" and here == "_backend"):  # the report names the default thread count
            continue
        else:
            assert there in RANK, f"{where}: give the new room its place in LAYERS"
            assert RANK[there] > RANK[here], f"{where}, which points up"


def imported_modules(path):
    """Files of ours that a file imports, anywhere in it, for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "backtest":
            there = PACKAGE.parent.joinpath(*node.module.split("."))
            for alias in node.names:
                places = (there / f"{alias.name}.py", there.with_suffix(".py"), there / "__init__.py")
                yield next(each for each in places if each.is_file())


@pytest.mark.parametrize("folder", ["cli", "compute", "config", "files", "gpu", "levels", "machine", "search", "study"])
def test_a_room_of_several_modules_has_no_circle(folder):
    inside = [path for path in modules() if room(path) == folder]
    arrows = {path: set(imported_modules(path)) & set(inside) for path in inside}
    assert any(arrows.values())
    graphlib.TopologicalSorter(arrows).prepare()  # a CycleError names them


def test_nobody_looks_inside_the_store():
    inside = PACKAGE / "study" / "store"
    for path in modules():
        text = path.read_text() if inside not in path.parents else ""
        assert "backtest.study.store." not in text, f"{path.relative_to(PACKAGE)}: the store's face is backtest.study.store"


def test_every_room_is_there():
    rooms = {room(path) for path in modules()} - {"_ext", "_pure", "data"}
    assert rooms <= set(RANK), "give the new room its place in LAYERS"


MAX_LINES, MAX_FUNCTION = 400, 60


def too_long(path):
    """A file above its lines, and functions above theirs, docstrings aside."""
    name, text = path.relative_to(PACKAGE).as_posix(), path.read_text(encoding="utf-8")
    if len(text.splitlines()) > MAX_LINES:
        yield name
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            n_docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) is not None else 0
            if node.end_lineno - node.lineno + 1 - n_docstring > MAX_FUNCTION:
                yield f"{name}:{node.name}"


def test_files_and_functions_are_short():
    found = {each for path in PACKAGE.rglob("*.py") for each in too_long(path)}
    assert found == set(), f"files have at most {MAX_LINES} lines, functions {MAX_FUNCTION} without their docstring"


def test_one_environment_variable_is_read():
    """Beside ``BACKTEST_BUILD``, which is of ``setup.py``."""
    read = {name for path in PACKAGE.rglob("*.py") for name in re.findall("BACKTEST_[A-Z]+", path.read_text())}
    assert read == {"BACKTEST_BACKEND"}


def test_importing_is_light_and_silent():
    code = f"import sys, backtest; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""


def test_public_names_are_sorted_and_real():
    assert list(backtest.__all__) == sorted(backtest.__all__, key=lambda name: (not name.isupper(), name[0].islower(), name))
    for name in backtest.__all__:
        assert getattr(backtest, name).__doc__ is not None or name == "METRICS"

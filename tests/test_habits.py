"""What contributors type: the Makefile lists itself, hooks and extras name one version, slow tests wait to be asked for."""

import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

TARGET = re.compile(r"^([a-z][a-z-]*):(?!=).*?(?:## (.+))?$", re.M)


def targets():
    """Targets of the Makefile, and what each says of itself."""
    return dict(TARGET.findall((ROOT / "Makefile").read_text(encoding="utf-8")))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_lists_every_target():
    done = subprocess.run(["make", "-C", str(ROOT), "--no-print-directory"], capture_output=True, text=True, check=True)
    listed = dict(re.findall(r"^make (\S+) +(.+)$", done.stdout, re.M))
    assert listed == targets()
    assert all(listed.values())


def test_pages_name_targets_that_exist():
    known = targets()
    for page in (ROOT / "README.md", ROOT / "docs" / "contributing.md", ROOT / ".pre-commit-config.yaml"):
        named = set(re.findall(r"(?:^|`|: )make (?:-s )?([a-z][a-z-]*)", page.read_text(encoding="utf-8"), re.M))
        assert named <= set(known), page.name
        assert named or page.name == "README.md"


def test_hooks_have_the_versions_of_the_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extra = dict(requirement.split("==") for requirement in project["optional-dependencies"]["lint"])
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    hooks = re.findall(r'"([a-z-]+)==([\d.]+)"', text)
    assert {name for name, _ in hooks} == {"ruff", "cython-lint"}
    assert all(extra[name] == version for name, version in hooks)


def collected(*arguments):
    command = [sys.executable, "-P", "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return {line for line in done.stdout.splitlines() if "::" in line}


def test_slow_tests_run_when_asked_for():
    file, one = "tests/test_habits.py", "tests/test_habits.py::test_this_is_slow"
    assert one not in collected(file)
    assert one in collected(file, "--slow")
    assert collected(one) == {one}


@pytest.mark.slow
def test_this_is_slow(request):
    """It only stands for slow tests."""
    assert request.node.get_closest_marker("slow")


def test_every_package_is_in_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "backtest").rglob("*.py")}
    assert {".".join(folder.parts) for folder in folders} <= set(listed)

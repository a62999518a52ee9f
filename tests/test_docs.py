"""Code blocks of README and docs run as they stand."""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language):
    for page in PAGES:
        for number, code in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)):
            yield pytest.param(code, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("code", list(blocks("python")))
def test_python_blocks_run(code, tmp_path):
    if "bt.gpu." in code:
        pytest.importorskip("torch", reason="extra `gpu` is not installed")
    script = tmp_path / "block.py"  # a file: the bar machine reads a strategy's source
    script.write_text(code, encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_output_shown_below_a_block_is_its_output(tmp_path):
    """On the page of the bar machine, a block of text right below a block of Python is what it prints."""
    text = (ROOT / "docs" / "machine.md").read_text(encoding="utf-8")
    block = r"^```{}\n((?:(?!```).*\n)*)```\n"
    shown = re.findall(block.format("python") + r"\n" + block.format("text"), text, re.M)
    assert len(shown) == 4
    for code, output in shown:
        script = tmp_path / "block.py"
        script.write_text(code, encoding="utf-8")
        done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert [line.rstrip() for line in done.stdout.splitlines()] == output.splitlines()


def test_pages_link_to_what_exists():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_readme_opens_with_two_commands():
    commands = re.findall(r"^```sh\n(.*?)^```", PAGES[0].read_text(encoding="utf-8"), re.M | re.S)[:2]
    assert all(command.startswith("python3 -m venv .venv && .venv/bin/pip install ") for command in commands)
    assert "backtest optimize" in commands[0]
    assert "pytest" in commands[1]


def test_every_metric_and_statistic_is_defined():
    from backtest import METRICS

    text = (ROOT / "docs" / "definitions.md").read_text(encoding="utf-8")
    assert [key for key in METRICS if f"`{key}`" not in text] == []

"""docs/design.md tells of the tree as it is: rooms, files in its picture and tables."""

import re

from conftest import ROOT
from test_layers import PACKAGE, RANK, modules, room

TEXT = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
PATH = re.compile(r"(?<![\w/.])((?:\w+/)*(?:\w+\.(?:pyx|pxd|py|md|h)|\w+/))(?![\w/])")


def section(title):
    """A second-level section of the page."""
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)[1]


def paths(text):
    return {found for code in re.findall(r"`([^`\n]+)`", text) for found in PATH.findall(code)}


def test_every_room_has_a_row():
    named = set()
    for row in re.findall(r"^\| (`.+?) \|", section("Rooms"), re.M):
        named |= {path.removesuffix("/").removesuffix(".py") for path in paths(row)}
    rooms = {room(path) for path in modules()} | {"_ext", "_pure", "data"}
    assert rooms - {"__main__"} - named == set(), "give the room its row in docs/design.md"
    assert named <= rooms
    assert set(RANK) - {"__main__"} <= named


def test_named_files_exist():
    picture = re.search(r"```mermaid\n(.*?)```", TEXT, re.S)[1]
    inside = set(PATH.findall(" ".join(re.findall(r'\["(.*?)"\]', picture, re.S)).replace("<br/>", " ")))
    assert len(inside) > 15
    for path in sorted(inside | paths(TEXT)):
        assert (PACKAGE / path).exists() or (ROOT / path).exists(), f"docs/design.md names {path}, which is not there"


def test_the_picture_has_every_arrow_at_a_box():
    picture = re.search(r"```mermaid\n(.*?)```", TEXT, re.S)[1]
    boxes = set(re.findall(r"(\w+)\[", picture))
    arrows = [line for line in picture.splitlines() if "->" in line and not line.lstrip().startswith("subgraph")]
    bare = [re.sub(r"\[\".*?\"\]|\|.*?\||:::\w+", "", line) for line in arrows]
    ends = {end for line in bare for end in re.split(r"\s*<?-->\s*", line.strip())}
    assert len(arrows) > 15
    assert ends <= boxes

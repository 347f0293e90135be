"""Rooms of the code import in one direction, as docs/code.md says."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gaprune

PACKAGE = Path(gaprune.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "code.md"
ROOMS = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


def room_of(file: Path) -> str:
    """Return the package or module directly in ours that a file belongs to."""
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: Path) -> Iterator[str]:
    """Yield the rooms that a file imports, wherever in it; not those for annotations alone."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    guards = [each for each in ast.walk(tree) if isinstance(each, ast.If) and "TYPE_CHECKING" in ast.dump(each.test)]
    for_types = {id(node) for guard in guards for node in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and id(node) not in for_types:
            first, *others = (node.module or "").split(".")
            if first == "gaprune":
                yield from others[:1] or (name.name for name in node.names)


def test_every_room_is_in_the_table_once():
    there = {room_of(file) for file in PACKAGE.rglob("*.py")} - {"__init__", "samples"}
    assert sorted(ROOMS) == sorted(there)


def test_rooms_import_only_rooms_above_them():
    wrong = {
        f"{file.relative_to(PACKAGE)} imports {name}"
        for file in PACKAGE.rglob("*.py")
        if room_of(file) != "__init__"
        for name in imported(file)
        if name != room_of(file) and ROOMS.index(name) > ROOMS.index(room_of(file))
    }
    assert wrong == set()


def test_ours_is_imported_by_name_alone():
    """An import of a whole module of ours would not be seen above."""
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.split(".")[0] == "gaprune" for name in node.names), file

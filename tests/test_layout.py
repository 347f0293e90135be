"""Rooms of the code import in one direction, as docs/code.md says, and modules are small and without circles."""

from __future__ import annotations

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import gaprune

PACKAGE = Path(gaprune.__file__).parent
PAGE = Path(__file__).parents[1] / "docs" / "code.md"
ROOMS = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}


def room_of(module: str) -> str:
    """Return the package or module directly in ours that a module belongs to; empty for the package itself."""
    return module.split(".")[1] if "." in module else ""


def imports_of(module: str) -> set[str]:
    """Return our modules that a module imports, wherever in it, those for annotations alone included."""
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            source = node.module or ""
            names = {f"{source}.{name.name}" for name in node.names} & MODULES.keys()
            found |= names or ({source} & MODULES.keys())
    return found - {module}


IMPORTS = {module: imports_of(module) for module in MODULES}


def test_there_are_few_rooms_and_every_one_is_in_the_table_once():
    assert sorted(ROOMS) == sorted({room_of(module) for module in MODULES} - {""})
    assert len(ROOMS) <= 15


def test_rooms_import_only_rooms_above_them():
    wrong = {
        f"{module} imports {imported}"
        for module, found in IMPORTS.items()
        for imported in found
        if room_of(module) and (not room_of(imported) or ROOMS.index(room_of(imported)) > ROOMS.index(room_of(module)))
    }
    assert wrong == set()


def test_modules_import_each_other_in_no_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_modules_are_small():
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > 350} == {}


def test_ours_is_imported_by_name_alone():
    """An import of a whole module of ours, or one relative to the own module, would not be seen above."""
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert not any(name.name.split(".")[0] == "gaprune" for name in node.names), path
            assert not (isinstance(node, ast.ImportFrom) and node.level), path

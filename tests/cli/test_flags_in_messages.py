"""Flags that messages and help texts name are there; options without a flag are named as --set NAME=VALUE."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import gaprune
from gaprune.cli.commands import COMMANDS
from gaprune.cli.listing import rows_of
from gaprune.config.data import ExportOptions
from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.shrink import ShrinkOptions

FOREIGN = {"--embeddings", "--model-id", "--nproc-per-node", "--force-reinstall", "--version", "--help"}
PACKAGE = Path(gaprune.__file__).parent
FLAGS = {row["flag"] for name in COMMANDS for row in rows_of(name)}
SETTINGS = {
    *ExportOptions.model_fields,
    *Recipe.model_fields,
    *RecoveryOptions.model_fields,
    *ShrinkOptions.model_fields,
    "NAME",
    "name",
}


@pytest.mark.parametrize("room", sorted({path.parent for path in PACKAGE.rglob("*.py")}), ids=lambda path: path.name)
def test_flags_exist(room):
    for path in room.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*[a-z0-9]", node.value))
                positive = {flag.replace("--no-", "--", 1) for flag in named if flag != "--no"}
                assert positive - FLAGS - FOREIGN == set(), f"{path.name}:{node.lineno}"
                for setting in re.findall(r"--set (\w+)[.=]", node.value):
                    assert setting in SETTINGS, f"{path.name}:{node.lineno}"

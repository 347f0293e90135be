"""A part of ``docs/malformed.md``, made again: the same errors, exit code 2, and nothing written."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_SPEC = importlib.util.spec_from_file_location("malformed", ROOT / "benchmarks" / "malformed.py")
malformed = importlib.util.module_from_spec(_SPEC)
sys.modules["malformed"] = malformed
_SPEC.loader.exec_module(malformed)

ROWS = (ROOT / "docs" / "malformed.md").read_text(encoding="utf-8").splitlines()


def test_the_table_has_a_row_for_every_case():
    assert len(malformed.CASES) == 100
    assert [row.split(" | ")[0] for row in ROWS[-100:]] == [f"| {case.wrong}" for case in malformed.CASES]


@pytest.mark.parametrize("number", range(2, 100, 5))
def test_a_row_is_as_it_was(number):
    case = malformed.CASES[number]
    outcome = malformed.run(case)
    assert (outcome.code, outcome.written) == (2, [])
    assert malformed.row(case, outcome) in ROWS

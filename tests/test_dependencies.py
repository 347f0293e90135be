"""Dependencies are bounded, and both sets of pinned versions lie at or within the bounds."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]


def pinned(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pins = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): Version(version) for name, version in pins}


def required() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = (each for names in project["optional-dependencies"].values() for each in names)
    return [Requirement(each) for each in (*project["dependencies"], *extras)]


REQUIRED = pytest.mark.parametrize("requirement", required(), ids=str)


@REQUIRED
def test_it_is_bounded_on_both_sides(requirement):
    assert {each.operator for each in requirement.specifier} in ({">=", "<"}, {"=="})


@REQUIRED
def test_pins_lie_within_the_bounds(requirement):
    assert pinned("constraints.txt")[canonicalize_name(requirement.name)] in requirement.specifier


@REQUIRED
def test_lowest_pins_are_the_lower_ends(requirement):
    (lower,) = (Version(each.version) for each in requirement.specifier if each.operator in {">=", "=="})
    assert pinned("constraints-lowest.txt")[canonicalize_name(requirement.name)] == lower

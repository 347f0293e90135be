"""Exports of tiny models, each made once a session, with few texts to compare."""

from __future__ import annotations

import pytest

import gaprune


@pytest.fixture(autouse=True)
def _few_texts(few_texts):
    pass


@pytest.fixture(scope="session")
def exported(folder_of, tmp_path_factory):
    """Make an export once: ``exported(family, to, int8)`` gives its folder and report."""
    made = {}

    def make(family, to, int8=False, **options):
        key = family, to, int8, *options.items()
        if key not in made:
            out = tmp_path_factory.mktemp("exported") / f"{family}-{to}"
            made[key] = gaprune.export_model(folder_of(family), to=to, out=out, int8=int8, **options)
        return made[key]

    return make

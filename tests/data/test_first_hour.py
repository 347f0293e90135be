"""What a new user stumbles over is said with the way out."""

from __future__ import annotations

import shutil

import pytest

from gaprune.data.documents.from_texts import triplets_from_texts
from gaprune.data.read import read_triplets
from gaprune.errors import DataError, ModelError
from gaprune.models.load import load_model

PAGE = """---
title: {title}
---
# {title}

The router starts again with its factory settings once the {title} has ended, and every light is green then.

## More about {title}

Nobody has to wait for more than {number} minutes until the {title} is over and the telephone rings again.
"""


@pytest.fixture
def documents(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    for number, title in enumerate(
        ("reset of the router", "invoice by post", "change of tariff", "move to a new flat")
    ):
        (folder / f"{number}.md").write_text(PAGE.format(title=title, number=number), encoding="utf-8")
    return folder


def test_documents_in_place_of_triplets(documents):
    for source in (documents, documents / "0.md"):
        with pytest.raises(DataError, match=r"data from-texts.*gaprune shrink"):
            read_triplets(source)


def test_a_heading_that_repeats_the_title_gives_no_triplet_twice(documents):
    made = triplets_from_texts(documents)
    pairs = [(item.query, item.positive) for item in made.triplets]
    assert len(pairs) == len(set(pairs))
    assert made.report.dropped["heading: the same pair of another kind"] == 4


def test_a_model_one_folder_further_down(folder_of, tmp_path):
    shutil.copytree(folder_of("bert"), tmp_path / "models" / "small")
    with pytest.raises(ModelError, match=r"holds no model(?s:.*)own folder: .*models/small\."):
        load_model(tmp_path / "models")


def test_a_folder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="prunde cannot be loaded: there is no such folder"):
        load_model("prunde")


@pytest.mark.parametrize("name", ["/nowhere/small", "./small", "a/b/small"])
def test_a_path_that_is_not_there_is_not_sought_on_the_hub(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"small cannot be loaded: there is no such folder\.\n"):
        load_model(name)


def test_documents_in_json_lines_are_told_from_triplets(tmp_path):
    (tmp_path / "d.jsonl").write_text('{"text": "A pump moves water."}\n', encoding="utf-8")
    with pytest.raises(DataError, match="has no query") as caught:
        read_triplets(tmp_path / "d.jsonl")
    assert "recover --texts" in caught.value.remedy

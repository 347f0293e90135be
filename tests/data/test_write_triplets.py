"""Writing triplets and reading them again."""

import json
from pathlib import Path

import pytest

from gaprune.data.read import read_triplets
from gaprune.data.triplets import Triplet, Triplets, write_triplets
from gaprune.errors import OutputError

ITEMS = Triplets(
    [Triplet("q", "p\u2028\n"), Triplet("größer", "p", ("n",)), Triplet("r", "p", ("n", "m"))], "made by hand"
)


def test_round_trip(tmp_path):
    path = write_triplets(ITEMS, tmp_path / "new" / "folder" / "a.jsonl")
    again = read_triplets(path)
    assert again.fingerprint == ITEMS.fingerprint
    assert [list(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n")[:-1]] == [
        ["query", "positive"],
        ["query", "positive", "negative"],
        ["query", "positive", "negatives"],
    ]
    assert "größer" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["a.jsonl"]


def test_existing_file(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    with pytest.raises(OutputError, match=r"a\.jsonl exists"):
        write_triplets(ITEMS, path)
    assert path.read_text() == "mine"
    write_triplets(ITEMS, path, overwrite=True)
    assert len(read_triplets(path)) == 3


@pytest.mark.parametrize(("name", "words"), [("a.csv", "written as JSONL"), ("folder.jsonl", "is a folder")])
def test_wrong_names(tmp_path, name, words):
    (tmp_path / "folder.jsonl").mkdir()
    with pytest.raises(OutputError, match=words):
        write_triplets(ITEMS, tmp_path / name, overwrite=True)


def test_unwritable_place(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be made"):
        write_triplets(ITEMS, tmp_path / "file" / "a.jsonl")


def test_interrupted_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text("mine")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="No space left on device"):
        write_triplets(ITEMS, path, overwrite=True)
    assert path.read_text() == "mine"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.jsonl"]

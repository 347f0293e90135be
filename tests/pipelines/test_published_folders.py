"""Output folders can be published: no file in them names a path of the user's machine."""

from __future__ import annotations

import json
import shutil

import pytest

import gaprune
from gaprune.errors import ConfigError
from gaprune.export.provenance import Provenance
from toys import tasks_folder, triplets_file

TRAINING = {"steps": 1, "batch_size": 2, "held_out": 0.3, "device": "cpu"}


@pytest.fixture
def place(folder_of, tmp_path, toy_triplets):
    """Parent, calibration data and tasks in one folder."""
    shutil.copytree(folder_of("bert"), tmp_path / "parent")
    triplets_file(tmp_path / "domain.jsonl", toy_triplets)
    triplets_file(tmp_path / "general.jsonl", toy_triplets)
    tasks_folder(tmp_path / "tasks")
    (tmp_path / "corpus.txt").write_text("cash\n", encoding="utf-8")
    return tmp_path


def inputs(place):
    return {name: str(place / f"{name}.jsonl") for name in ("domain", "general")} | {"tasks": str(place / "tasks")}


def require_no_path(folder, place):
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert str(place).encode() not in file.read_bytes(), file


@pytest.mark.parametrize(
    "options",
    [
        {"criterion": "wanda", "recover": 1, "recovery": {"batch_size": 2, "held_out": 0, "distil": True}},
        {"width": 0.5, "round_to": 8, "criterion": "magnitude", "reconstruct": True, "vocabulary": "corpus.txt"},
    ],
    ids=["unstructured", "structured"],
)
def test_prune_recover_export(place, monkeypatch, options):
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    out = place / "pruned"
    if "vocabulary" in options:
        options = options | {"vocabulary": str(place / "corpus.txt")}
    else:
        options = options | {"scores": str(place / "scores.safetensors"), "checkpoint": str(place / "checkpoint")}
        options["recovery"] = options["recovery"] | {"teacher_cache": str(place / "cache" / "teacher")}
    gaprune.prune(str(place / "parent"), device="cpu", out=str(out), **options, **inputs(place))
    require_no_path(out, place)
    written = Provenance.read(out)
    assert (written.parent.name, written.parent.local, written.parent.path) == ("parent", True, "../parent")
    assert written.recipe["domain"] == "domain.jsonl"
    assert written.recipe["model"] == "parent"
    cache = str(place / "cache" / "teacher")
    gaprune.recover(str(out), out=str(place / "again"), distil=True, teacher_cache=cache, **TRAINING, **inputs(place))
    require_no_path(place / "again", place)
    assert Provenance.read(place / "again").parent.path == "../parent"
    if "vocabulary" in options:  # the record of an export is that of its model
        gaprune.export_model(place / "again", to="onnx", out=place / "onnx", domain=place / "domain.jsonl")
        require_no_path(place / "onnx", place)


def test_recover_a_model_of_others(place):
    gaprune.recover(str(place / "parent"), domain=str(place / "domain.jsonl"), out=str(place / "out"), **TRAINING)
    require_no_path(place / "out", place)
    assert Provenance.read(place / "out").parent.path == "../parent"


def test_export_a_model_of_others(place):
    gaprune.export_model(place / "parent", to="onnx", out=place / "onnx")
    require_no_path(place / "onnx", place)


def test_compare(place):
    found = gaprune.compare(str(place / "parent"), criteria=["magnitude"], device="cpu", **inputs(place))
    assert str(place) not in json.dumps(found.as_dict())


def test_a_parent_that_is_not_found_is_asked_for(place):
    gaprune.prune(str(place / "parent"), criterion="magnitude", device="cpu", out=place / "a" / "b" / "c" / "pruned")
    child = place / "a" / "b" / "c" / "pruned"
    assert Provenance.read(child).parent.path is None
    options = {"domain": str(place / "domain.jsonl"), **TRAINING}
    for needs in ({"distil": True}, {"tasks": str(place / "tasks")}):
        with pytest.raises(ConfigError, match=r"parent: gaprune\.json names parent, a local model.*\n.*--parent"):
            gaprune.recover(str(child), **needs, **options)
    cache = str(place / "cache")
    assert gaprune.recover(str(child), parent=str(place / "parent"), distil=True, teacher_cache=cache, **options)

"""One folder with the child for queries and the parent for documents, opened by sentence-transformers itself."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense

import gaprune
from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost.footprint import footprint
from gaprune.export.provenance import Provenance
from gaprune.models.encode import encode
from gaprune.models.load import load_model
from gaprune.models.prompts import resolve_prompts
from gaprune.report.answer import answer_text
from gaprune.report.sentences import origin_lines

TEXTS = ["the rate of interest", "a dog runs over green grass", "cash"]


@pytest.fixture
def child(family_folder, tmp_path):
    """A child of every family, in a folder that says nothing about its parent."""
    model = load_model(family_folder, device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)), alpha=0.02)
    model.save_pretrained(str(tmp_path / "child"), create_model_card=False)
    return tmp_path / "child"


def test_queries_by_the_child_and_documents_by_the_parent(child, family_folder, tmp_path):
    done = gaprune.export_model(child, to="router", out=tmp_path / "router", parent=family_folder)
    assert done.record.cosine_min > 1 - 1e-5
    opened = SentenceTransformer(str(tmp_path / "router"), device="cpu")
    small, large = (SentenceTransformer(str(folder), device="cpu") for folder in (child, family_folder))
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(opened.encode_query(TEXTS), small.encode_query(TEXTS), **close)
    np.testing.assert_allclose(
        opened.encode_document(TEXTS), encode(large, TEXTS, "passage", resolve_prompts(large)), **close
    )
    assert not np.allclose(opened.encode_query(TEXTS), large.encode_query(TEXTS), atol=1e-3)
    alone = SentenceTransformer(str(tmp_path / "router" / "query"), device="cpu")
    np.testing.assert_allclose(alone.encode_query(TEXTS), small.encode_query(TEXTS), **close)
    card = (tmp_path / "router" / "README.md").read_text()
    assert "encode_query" in card
    assert json.loads((tmp_path / "router" / "gaprune.json").read_text())["export"]["to"] == "router"


def test_the_recorded_parent_is_found_and_must_be_what_it_was(folder_of, toy_triplets, tmp_path):
    parent = tmp_path / "parent"
    model = load_model(folder_of("bert"), device="cpu")
    model.save_pretrained(str(parent), create_model_card=False)
    pruned = tmp_path / "pruned"
    gaprune.prune(parent, domain=toy_triplets, sparsity=0.5, criterion="magnitude", out=pruned, device="cpu")
    gaprune.export_model(pruned, to="router", out=tmp_path / "router")
    tasks = tmp_path / "triples.jsonl"
    tasks.write_text(json.dumps({"query": "cash", "positive": "a loan", "negative": "a dog"}) + "\n")
    kept = gaprune.evaluate(tmp_path / "router", tasks=tasks, device="cpu")
    within = gaprune.evaluate(pruned, tasks=tasks, parent=parent, device="cpu")
    assert kept.scores[0].value == within.scores[0].index.value
    model[0].model.embeddings.word_embeddings.weight.data += 1
    model.save_pretrained(str(parent), create_model_card=False)
    for given in ({}, {"parent": parent}):
        with pytest.raises(ModelError, match="other weights"):
            gaprune.export_model(pruned, to="router", out=tmp_path / "again", **given)
    assert not (tmp_path / "again").exists()
    forced = gaprune.export_model(pruned, to="router", out=tmp_path / "again", parent=parent, force=True)
    card = (forced.path / "README.md").read_text(encoding="utf-8")
    assert "other weights than parent" in card
    assert "other weights than parent" in forced.record.form
    assert "other weights" not in (tmp_path / "router" / "README.md").read_text(encoding="utf-8")


def test_sizes_are_said_of_the_model_for_queries_alone(folder_of, toy_triplets, tmp_path):
    """A router holds the parent too, so it is neither smaller than the parent nor changed since it was written."""
    pruned, router = tmp_path / "pruned", tmp_path / "router"
    gaprune.prune(folder_of("bert"), domain=toy_triplets, depth=1, reconstruct=False, out=pruned, device="cpu")
    gaprune.export_model(pruned, to="router", out=router)
    provenance = Provenance.read(router)
    assert answer_text(provenance, None).startswith("The model for queries is 1.")
    said = " ".join(origin_lines(footprint(load_model(router, device="cpu")), provenance))
    assert said.startswith("Exported from ")
    assert "has changed" not in said


def test_what_makes_no_router_is_refused(folder_of, tmp_path):
    bert = folder_of("bert")
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="parent: nothing says"):
        gaprune.export_model(bert, to="router", out=out)
    with pytest.raises(ConfigError, match="int8: the format router"):
        gaprune.export_model(bert, to="router", out=out, parent=bert, int8=True)
    with pytest.raises(ConfigError, match="parent: the format onnx"):
        gaprune.export_model(bert, to="onnx", out=out, parent=bert)
    narrow = load_model(bert, device="cpu")
    narrow.append(Dense(32, 8, bias=False, activation_function=torch.nn.Identity()))
    narrow.save_pretrained(str(tmp_path / "narrow"), create_model_card=False)
    with pytest.raises(ModelError, match="8 dimensions, those of its parent 32"):
        gaprune.export_model(tmp_path / "narrow", to="router", out=out, parent=bert)
    gaprune.export_model(bert, to="router", out=tmp_path / "router", parent=bert)
    with pytest.raises(ModelError, match="router already"):
        gaprune.export_model(tmp_path / "router", to="router", out=out, parent=bert)
    assert not out.exists()

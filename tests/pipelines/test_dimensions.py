"""Exports with fewer dimensions: by PCA of the domain's texts, or by truncation of a Matryoshka model."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.errors import ConfigError
from gaprune.export.provenance import Provenance
from gaprune.models.encode import encode
from gaprune.models.heads import add_head
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from gaprune.reconstruction.head import pca_head
from toys import tasks_folder, triplets_file


@pytest.fixture
def domain(tmp_path, toy_triplets):
    return triplets_file(tmp_path / "domain.jsonl", toy_triplets)


def test_a_shortened_model_opens_everywhere(folder_of, domain, toy_triplets, tmp_path):
    done = gaprune.export_model(folder_of("bert"), to="torch", out=tmp_path / "short", dimensions=5, domain=domain)
    opened = SentenceTransformer(str(tmp_path / "short"), device="cpu")
    assert opened.encode(["cash"]).shape == (1, 5)
    assert done.record.cosine_min > 1 - 1e-6
    assert "5 of 32 dimensions by PCA" in done.record.form
    model = load_model(folder_of("bert"), device="cpu")
    passages = list(dict.fromkeys(text for item in toy_triplets for text in item.passages))
    texts = {"query": [item.query for item in toy_triplets], "passage": passages}
    add_head(model, pca_head(model, texts, 5, prompts=Prompts()))
    np.testing.assert_allclose(opened.encode(passages), encode(model, passages, None, ""), rtol=1e-4, atol=1e-5)


def test_what_was_measured_of_longer_embeddings_is_not_said_of_it(folder_of, domain, toy_triplets, tmp_path):
    whole, short = tmp_path / "whole", tmp_path / "short"
    gaprune.prune(
        folder_of("bert"),
        domain=toy_triplets,
        width=0.5,
        round_to=8,
        tasks=tasks_folder(tmp_path / "tasks"),
        out=whole,
    )
    assert Provenance.read(whole).evaluation is not None
    gaprune.export_model(whole, to="torch", out=short, dimensions=5, domain=domain)
    found = Provenance.read(short)
    assert found.evaluation is None
    assert found.sparsity.parameters == gaprune.inspect(short)[0].parameters


@pytest.mark.parametrize("place", ["configuration", "card"])
def test_a_matryoshka_model_is_truncated_without_texts(folder_of, tmp_path, place):
    model = load_model(folder_of("bert"), device="cpu")
    nested = tmp_path / "nested"
    model.save_pretrained(str(nested), create_model_card=False)
    if place == "card":
        (nested / "README.md").write_text("---\ntags:\n- loss:MatryoshkaLoss\n---\n")
    else:
        config = json.loads((nested / "config.json").read_text())
        (nested / "config.json").write_text(json.dumps(config | {"matryoshka_dimensions": [8, 16]}))
    gaprune.export_model(nested, to="torch", out=tmp_path / "short", dimensions=8)
    first = encode(model, ["cash", "a loan"], None, "")[:, :8]
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    found = SentenceTransformer(str(tmp_path / "short"), device="cpu").encode(["cash", "a loan"])
    np.testing.assert_allclose(found, first, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"to": "torch", "dimensions": 5}, "no Matryoshka model"),
        ({"to": "router", "dimensions": 5, "parent": "p"}, "a router keeps"),
        ({"to": "torch", "dimensions": 32, "domain": "DOMAIN"}, "between 1 and 31"),
    ],
)
def test_what_cannot_be_shortened_is_refused(folder_of, domain, tmp_path, options, text):
    options = {key: domain if value == "DOMAIN" else value for key, value in options.items()}
    with pytest.raises(ConfigError, match=text):
        gaprune.export_model(folder_of("bert"), out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()

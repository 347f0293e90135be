"""The one way to embed, against sentence-transformers itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from gaprune.models import encode as module
from gaprune.models.encode import encode, encode_tensor
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.util.progress import quiet

TEXTS = ["a dog runs", "net income of the quarter of 2019", "rain", "the bank lends money to people"]


@pytest.mark.parametrize("role", ["query", "passage"])
def test_roles_match_sentence_transformers(model, role):
    own = model.encode_query if role == "query" else model.encode_document
    for prompts in (resolve_prompts(model), Prompts(query="find: ", passage="text: ")):
        wanted = own(TEXTS, prompt=prompts.of(role) or "", normalize_embeddings=True)
        np.testing.assert_array_equal(encode(model, TEXTS, role, prompts, normalize=True), wanted)


def test_an_empty_prompt_switches_off_the_models_own(bert, monkeypatch):
    monkeypatch.setattr(bert, "prompts", {"query": "find: ", "document": "text: "})
    monkeypatch.setattr(bert, "default_prompt_name", "query")
    plain = bert.encode(TEXTS, prompt="")
    for role in ("query", "passage"):
        np.testing.assert_array_equal(encode(bert, TEXTS, role, Prompts()), plain)
    np.testing.assert_array_equal(encode(bert, TEXTS, None, ""), plain)
    np.testing.assert_array_equal(encode(bert, TEXTS, None, None), bert.encode(TEXTS))
    assert not np.allclose(encode(bert, TEXTS, None, None), plain)


def test_the_mode_of_the_model_is_kept(bert):
    bert.train()
    first = encode(bert, TEXTS, "query", Prompts())
    assert bert.training
    assert all(each.training for each in bert.modules())
    np.testing.assert_array_equal(encode(bert, TEXTS, "query", Prompts()), first)


def test_tensors_and_chunks_hold_the_same_embeddings_in_order(bert, monkeypatch):
    wanted = encode(bert, TEXTS, "passage", Prompts())
    found = encode_tensor(bert, TEXTS, "passage", Prompts())
    assert torch.equal(found.cpu(), torch.as_tensor(wanted))
    monkeypatch.setattr(module, "_CHUNK", 3)
    with quiet():
        chunks = encode(bert, TEXTS, "passage", Prompts(), label="Embedding")
    np.testing.assert_allclose(chunks, wanted, atol=1e-6)


def test_half_precision_gives_float32(bert):
    half = bert.to(torch.bfloat16)
    assert encode(half, TEXTS, "query", Prompts()).dtype == np.float32
    assert encode_tensor(half, TEXTS, "query", Prompts()).dtype == torch.float32

"""Linear heads against closed forms, and over all families."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from torch import nn

from families import TEXTS
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.encode import encode, encode_tensor
from gaprune.models.heads import add_head
from gaprune.models.prompts import Prompts
from gaprune.reconstruction.head import fit_head, pca_head

PROMPTS = Prompts("find: ", "text: ")
BY_ROLE = {
    "query": [f"{text}?" for text in TEXTS],
    "passage": [*TEXTS, *(" ".join(text.split()[::-1]) for text in TEXTS)],
}


def raw(model, role):
    """Return embeddings before a last normalisation in double precision, by ordinary calls."""
    modules = [each for each in model if not isinstance(each, Normalize)]
    prompt = PROMPTS.query if role == "query" else PROMPTS.passage
    return encode(SentenceTransformer(modules=modules, device="cpu"), BY_ROLE[role], role, prompt).astype(float)


def narrowed(model, width=20):
    """Return a child whose embeddings are another, narrower linear map of the same states, and the parent."""
    own = model.get_embedding_dimension()
    mix = torch.randn(width, own, generator=torch.Generator().manual_seed(3)) / own**0.5
    child = copy.deepcopy(model)
    add_head(child, Dense(own, width, bias=False, activation_function=nn.Identity(), init_weight=mix))
    return child


@pytest.mark.parametrize("ridge", [1e-3, 0.3])
def test_head_solves_the_stacked_problem(model, ridge):
    child = narrowed(model)
    found = fit_head(child, model, BY_ROLE, prompts=PROMPTS, ridge=ridge).linear.weight.detach().double().numpy()
    rows, targets = [], []
    for role in BY_ROLE:
        mine, its = raw(child, role), raw(model, role)
        weights = 1 / np.linalg.norm(its, axis=1, keepdims=True) / (2 * len(its)) ** 0.5
        rows.append(mine * weights)
        targets.append(its * weights)
    stacked = np.concatenate(rows)
    pull = np.diag(np.sqrt(ridge * (stacked**2).sum(axis=0)))
    goal = np.concatenate([*targets, np.zeros((len(pull), its.shape[1]))])
    expected = np.linalg.lstsq(np.concatenate([stacked, pull]), goal, rcond=None)[0].T
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_child_with_its_head_is_in_the_parents_space(model, tmp_path):
    """The parent's states have fewer directions than texts here, so a narrower map of them can be undone."""
    child, width = narrowed(model), model.get_embedding_dimension()
    add_head(child, fit_head(child, model, BY_ROLE, prompts=PROMPTS, ridge=1e-6))
    assert child.get_embedding_dimension() == width
    assert isinstance(child[-1], Normalize) == isinstance(model[-1], Normalize)
    assert sum(isinstance(each, Normalize) for each in child) == sum(isinstance(each, Normalize) for each in model)
    few = BY_ROLE["query"]
    cosines = torch.cosine_similarity(
        encode_tensor(child, few, "query", PROMPTS), encode_tensor(model, few, "query", PROMPTS)
    )
    assert cosines.min() > 0.98
    child.save(str(tmp_path / "child"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "child"), device="cpu")
    np.testing.assert_allclose(
        encode(again, few, "query", PROMPTS), encode(child, few, "query", PROMPTS), rtol=1e-4, atol=1e-5
    )


def test_a_child_of_its_parents_width_is_pulled_to_itself(model):
    """Without a gap to the parent nothing is changed, however strong the pull."""
    head = fit_head(copy.deepcopy(model), model, BY_ROLE, prompts=PROMPTS, ridge=10.0)
    torch.testing.assert_close(head.linear.weight.detach(), torch.eye(model.get_embedding_dimension()))


def test_queries_count_as_much_as_passages(bert):
    child = narrowed(bert)
    often = {"query": BY_ROLE["query"] * 5, "passage": BY_ROLE["passage"]}
    first, second = (fit_head(child, bert, each, prompts=PROMPTS).linear.weight for each in (BY_ROLE, often))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)
    only = fit_head(child, bert, {"query": BY_ROLE["query"], "passage": []}, prompts=PROMPTS).linear.weight
    assert not torch.allclose(first, only, rtol=1e-2, atol=1e-2)


def test_prompts_are_put_before_texts(bert):
    child = narrowed(bert)
    with_prompts, without = (fit_head(child, bert, BY_ROLE, prompts=each) for each in (PROMPTS, Prompts()))
    assert not torch.allclose(with_prompts.linear.weight, without.linear.weight, rtol=1e-2, atol=1e-2)


def test_pca_head_keeps_the_inner_products_best(model):
    dimensions = 6
    rows = pca_head(model, BY_ROLE, dimensions, prompts=PROMPTS).linear.weight.detach().double().numpy()
    np.testing.assert_allclose(rows @ rows.T, np.eye(dimensions), atol=1e-5)
    parts = [raw(model, role) for role in BY_ROLE]
    unit = [each / np.linalg.norm(each, axis=1, keepdims=True) / len(each) ** 0.5 for each in parts]
    stacked = np.concatenate(unit)
    gram, kept = stacked @ stacked.T, stacked @ rows.T
    lost = np.linalg.norm(gram - kept @ kept.T)
    best = np.linalg.norm(np.linalg.svd(gram, compute_uv=False)[dimensions:])
    assert lost == pytest.approx(best, rel=1e-3, abs=1e-6)


def test_pca_head_ends_in_what_the_model_ended_in(model):
    before = isinstance(model[-1], Normalize)
    add_head(model, pca_head(model, BY_ROLE, 5, prompts=PROMPTS))
    assert model.get_embedding_dimension() == 5
    assert isinstance(model[-1], Normalize) == before
    assert encode(model, ["a text"], "query", PROMPTS).shape == (1, 5)


@pytest.mark.parametrize("dimensions", [0, 32, 40])
def test_pca_needs_fewer_dimensions_than_there_are(bert, dimensions):
    with pytest.raises(ConfigError, match="between 1 and 31"):
        pca_head(bert, BY_ROLE, dimensions, prompts=PROMPTS)


def test_pca_needs_as_many_texts_as_dimensions(bert):
    with pytest.raises(ConfigError, match="3 texts"):
        pca_head(bert, {"query": list(TEXTS[:3])}, 4, prompts=PROMPTS)


def test_no_texts(bert):
    with pytest.raises(ConfigError, match="texts"):
        fit_head(bert, bert, {"query": []}, prompts=PROMPTS)


def test_embeddings_that_are_not_finite(bert):
    child = narrowed(bert)
    child[-2].linear.weight.data[0, 0] = torch.nan
    with pytest.raises(MeasurementError, match="not finite"):
        fit_head(child, bert, BY_ROLE, prompts=PROMPTS)

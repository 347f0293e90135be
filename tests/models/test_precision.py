"""Precision: what bfloat16 products change, how it is decided, and that float32 is exact and repeatable."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import gaprune
from gaprune.config.measurement import MeasurementOptions
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError
from gaprune.models import precision
from gaprune.models.attention import differentiable_attention
from gaprune.models.encode import encode, tokenized
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from gaprune.models.precision import decide_precision
from gaprune.models.prompts import Prompts
from gaprune.statistics.measure import measure
from gaprune.util.products import gram

SUMS = {"gram_sum": 0.02, "input_sum": 0.02, "output_gram_sum": 0.1, "gate_square_sum": 0.2}
"""Relative errors (Frobenius norm) that bfloat16 may cause: in sums over inputs, and over gradients of few texts."""
TEXTS = ["the bank raised the rate", "a dog runs over green grass"]


def measured(model, triplets, chosen):
    options = MeasurementOptions(precision=chosen)
    wanted = {"gram", "input", "output_gram", "gate"}
    layers = [each for each in linear_layers(model) if each.layer is not None]
    return measure(model, triplets, layers, statistics=wanted, prompts=Prompts(), options=options)


def test_bfloat16_changes_statistics_little_and_sums_stay_float32(model, toy_triplets):
    """Within the tolerances above; float32 is the same to the last bit every time."""
    exact, again, fast = (measured(model, toy_triplets, each) for each in ("float32", "float32", "bfloat16"))
    assert exact
    for name, statistics in exact.items():
        for each, tolerance in SUMS.items():
            value, repeated, other = (getattr(found[name], each) for found in (exact, again, fast))
            assert torch.equal(value, repeated)
            assert other.dtype == torch.float32
            assert (other - value).norm() <= tolerance * value.norm(), each
        assert torch.equal(statistics.gram_sum, statistics.gram_sum.T)


@pytest.mark.parametrize("removal", [{"sparsity": 0.5, "targets": "all"}, {"width": 0.5, "round_to": 8}, {"depth": 1}])
def test_bfloat16_selects_nearly_the_same(bert, toy_triplets, removal):
    """Weights: at most 2 % of the mask differ. Embeddings of the result: cosine of at least 0.98."""
    found = [gaprune.prune(bert, domain=toy_triplets, precision=each, **removal) for each in ("float32", "bfloat16")]
    assert [each.provenance().recipe["precision"] for each in found] == ["float32", "bfloat16"]
    exact, fast = (encode(each.model, TEXTS, None, "", normalize=True) for each in found)
    assert (exact * fast).sum(1).min() > 0.98
    if "sparsity" in removal:
        masks = [
            torch.cat(
                [each.module.weight.flatten() == 0 for each in linear_layers(result.model) if each.layer is not None]
            )
            for result in found
        ]
        assert (masks[0] != masks[1]).float().mean() < 0.02


@pytest.mark.parametrize(
    ("has_bfloat16", "threshold", "chosen"), [(True, 0.9, "bfloat16"), (True, 1.1, "float32"), (False, 0.9, "float32")]
)
def test_auto_is_decided_by_hardware_and_by_a_few_texts(bert, monkeypatch, has_bfloat16, threshold, chosen):
    monkeypatch.setattr(precision, "_WORTH", 1)
    monkeypatch.setattr(precision, "_CLOSE", threshold)
    monkeypatch.setattr(precision, "_has_bfloat16", lambda _: has_bfloat16)
    assert decide_precision(bert, "auto", TEXTS, "") == chosen
    assert decide_precision(bert, "float32", TEXTS, "") == "float32"
    assert decide_precision(bert, "auto", [], "") == "float32"


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_parents_compute_in_their_own(folder_of, dtype, toy_triplets):
    parent = load_model(folder_of("bert"), device="cpu", dtype=dtype)
    assert decide_precision(parent, "auto", TEXTS, "") == "auto"
    with pytest.raises(ConfigError, match=f"precision.*{dtype}"):
        gaprune.prune(parent, domain=toy_triplets, precision="float32")
    assert gaprune.prune(parent, domain=toy_triplets).provenance().recipe["precision"] == "auto"


def test_a_recipe_knows_no_other_precision():
    with pytest.raises(ConfigError, match="precision"):
        Recipe.build({"precision": "int8"})


def test_a_gram_matrix_of_few_rows_has_no_negative_eigenvalues():
    """Rounded factors leave it positive semidefinite, which a rounded result would not be."""
    rows = torch.randn(100, 1000, generator=torch.Generator().manual_seed(0))
    eigenvalues = torch.linalg.eigvalsh(gram(rows, torch.bfloat16).double())
    assert eigenvalues.min() > -1e-5 * eigenvalues.max()


@pytest.mark.parametrize("family", ["bert", "qwen3"])
def test_attention_in_bfloat16_is_computed_in_float32_inside_the_block_alone(folder_of, family, toy_triplets):
    """Values and gradients are close to those in bfloat16, and not the same to the last bit."""
    model = load_model(folder_of(family), device="cpu", dtype="bfloat16")
    texts = [item.query for item in toy_triplets]

    def found():
        model.zero_grad()
        embedded = model(tokenized(model, texts, "query", ""))["sentence_embedding"]
        embedded.float()[:, 0].sum().backward()
        return embedded.detach().float(), next(model.parameters()).grad.float().clone()

    before, after = found(), None
    with differentiable_attention(torch.device("cpu")):
        inside = found()
    with differentiable_attention(torch.device("meta")):
        after = found()
    for one, other, again in zip(before, inside, after, strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
        assert functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.99

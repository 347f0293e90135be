"""What stops a measurement, and what it says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gaprune.data.triplets import Triplet, Triplets
from gaprune.errors import DataError, MeasurementError
from gaprune.models.linear_layers import linear_layers


def _named(model, name):
    return [matrix for matrix in linear_layers(model) if matrix.name == name]


def test_explicit_negatives_that_are_not_there(bert, toy_triplets, measured):
    items = [*toy_triplets[:2], Triplet("who", "a dog", (), "finance.jsonl:3")]
    with pytest.raises(DataError) as caught:
        measured(bert, Triplets(items, "finance.jsonl"), negatives="explicit")
    assert caught.value.problem == "finance.jsonl:3: has no negative, and only explicit negatives are asked for."
    assert "mine_negatives=1" in caught.value.remedy


def test_explicit_negatives_without_a_source_name_the_set(bert, measured):
    with pytest.raises(DataError, match=r"^my texts: has no negative"):
        measured(bert, Triplets([Triplet("who", "a dog")], "my texts"), negatives="explicit")


@pytest.mark.parametrize(("count", "batch_size"), [(1, 16), (3, 1), (3, 2)])
def test_a_pair_alone_in_its_batch(bert, toy_pairs, measured, count, batch_size):
    with pytest.raises(DataError, match=r"^toy\.jsonl:\d: has no negative and is alone in its batch") as caught:
        measured(bert, toy_pairs[:count], batch_size=batch_size)
    assert "batch_size=3" in caught.value.remedy


@pytest.mark.parametrize("batch_size", [3, 4, 6])
def test_no_pair_is_left_alone_by_the_last_batch(bert, toy_pairs, measured, batch_size):
    """Seven pairs in batches of six would leave one whose loss is zero."""
    statistics = measured(bert, toy_pairs, batch_size=batch_size)
    assert {matrix.triplets for matrix in statistics.values()} == {7}


def test_a_lone_triplet_with_negatives_is_fine(bert, toy_triplets, measured):
    assert measured(bert, toy_triplets[:1])["encoder.layer.0.output.dense"].fisher.max() > 0


@pytest.mark.usefixtures("two_forwards_a_batch")
@pytest.mark.parametrize("family", ["bert", "xlm-roberta", "mpnet"], indirect=True)
def test_a_layer_that_the_embedding_does_not_use(model, toy_triplets, measured):
    chosen, calls = linear_layers(model), []
    model.register_forward_hook(lambda *_: calls.append(1))
    with pytest.raises(MeasurementError) as caught:
        measured(model, toy_triplets, linear_layers=chosen, batch_size=1)
    assert caught.value.problem.startswith("pooler.dense: no gradient reaches this layer")
    assert caught.value.remedy == "Leave it out (--set ignore=pooler.dense), or choose other --targets."
    assert len(calls) == 2, "the first batch tells"


@pytest.mark.parametrize("wanted", [{"gram"}, {"fisher"}])
def test_a_layer_that_never_runs(bert, toy_triplets, measured, wanted):
    bert.transformers_model.spare = nn.Linear(32, 32)
    with pytest.raises(MeasurementError, match=r"^spare: no gradient reaches this layer"):
        measured(bert, toy_triplets, linear_layers=_named(bert, "spare"), statistics=wanted)


@pytest.mark.parametrize("wanted", [{"gram"}, {"fisher", "gradient", "gram"}])
def test_a_weight_that_is_not_a_number(model, toy_triplets, measured, wanted):
    with torch.no_grad():
        linear_layers(model)[3].module.weight[0, 0] = torch.nan
    with pytest.raises(MeasurementError) as caught:
        measured(model, toy_triplets, statistics=wanted, batch_size=2)
    assert caught.value.problem.startswith("The embedding of a query is not finite. In the batch of toy.jsonl:")
    assert caught.value.problem.count("toy.jsonl:") in {1, 2}
    assert "float32" in caught.value.remedy


def test_a_token_without_a_row(bert, toy_triplets, measured):
    table = bert.transformers_model.get_input_embeddings()
    table.weight = nn.Parameter(table.weight[:10])
    with pytest.raises(MeasurementError) as caught:
        measured(bert, toy_triplets)
    assert caught.value.problem.startswith("A query has a token, or a place for one, of which the model has no row")
    assert "In the batch of toy.jsonl:" in caught.value.problem
    assert "resize_token_embeddings" in caught.value.remedy


def test_a_gradient_that_is_not_a_number(model, toy_triplets, measured):
    """The layer named is the one nearest the loss that gets it."""
    chosen = [matrix for matrix in linear_layers(model) if matrix.layer is not None]

    def spoil(_module, _args, output):
        output.register_hook(lambda gradient: gradient * torch.inf)

    chosen[-1].module.register_forward_hook(spoil)
    with pytest.raises(MeasurementError) as caught:
        measured(model, toy_triplets, linear_layers=chosen, batch_size=16)
    problem = caught.value.problem
    assert problem.startswith(f"{chosen[-1].name}: the gradient is not finite. In the batch of toy.jsonl:")
    assert problem.endswith(", ….")
    assert problem.count("toy.jsonl:") == 4


def test_texts_without_a_source_are_counted(bert, toy_triplets, measured):
    items = [Triplet(item.query, item.positive, item.negatives) for item in toy_triplets]
    with torch.no_grad():
        bert.transformers_model.embeddings.word_embeddings.weight.fill_(torch.inf)
    with pytest.raises(MeasurementError, match=r"In the batch of 7 triplets\."):
        measured(bert, Triplets(items, "memory"))


class _Around(nn.Module):
    """Runs a layer on rows that ``take`` makes of its input."""

    def __init__(self, inside, take):
        super().__init__()
        self.inside, self.take = inside, take

    def forward(self, hidden):
        return self.inside(self.take(hidden)).view(*hidden.shape[:-1], -1)


def _with_rows(model, take):
    layer = model.transformers_model.encoder.layer[0].intermediate
    layer.dense = _Around(layer.dense, take)
    return model


def test_a_layer_that_sees_flattened_tokens(bert, toy_triplets, measured):
    """As in OPT; the sums are those of the same layer on texts and tokens."""
    expected = measured(bert, toy_triplets)["encoder.layer.0.intermediate.dense"].sums()
    flat = measured(_with_rows(bert, lambda hidden: hidden.flatten(0, 1)), toy_triplets)
    found = flat["encoder.layer.0.intermediate.dense.inside"].sums()
    assert found.keys() == expected.keys()
    for name, total in expected.items():
        torch.testing.assert_close(found[name], total)


def test_a_layer_that_sees_rows_in_another_order(bert, toy_triplets, measured):
    """As experts and unpadded attention do."""
    _with_rows(bert, lambda hidden: hidden.transpose(0, 1).contiguous())
    with pytest.raises(
        MeasurementError, match=r"^encoder\.layer\.0\.intermediate\.dense\.inside: its input has shape"
    ) as caught:
        measured(bert, toy_triplets)
    assert "--set ignore=encoder.layer.0.intermediate.dense.inside" in caught.value.remedy

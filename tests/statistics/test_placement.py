"""Where the weights are changes no sum, and nothing of the model that was handed in."""

from __future__ import annotations

import copy

import pytest
import torch
from sentence_transformers import SentenceTransformer

import gaprune
from gaprune.config.measurement import MeasurementOptions
from gaprune.errors import ConfigError
from gaprune.models.linear_layers import linear_layers
from gaprune.models.prompts import Prompts
from gaprune.statistics.forward import Embedder
from gaprune.statistics.hooks import HookContext
from gaprune.statistics.measure import measure
from gaprune.statistics.measurement import Measurement
from gaprune.statistics.placement import is_offloaded, placed
from gaprune.statistics.plan import plan_for
from plain_loop import close, reached

STATISTICS = ("fisher", "gradient", "gram", "input_square", "output_gram")


def test_offloaded_equals_whole(model, toy_triplets, measured):
    expected = measured(model, toy_triplets, statistics=STATISTICS)
    statistics = measured(model, toy_triplets, statistics=STATISTICS, placement="offload", device="cpu")
    for name, each in expected.items():
        assert statistics[name].tokens == each.tokens
        for statistic in STATISTICS:
            close(getattr(statistics[name], statistic), getattr(each, statistic), 2e-4)


def test_the_model_is_not_touched(bert, toy_triplets, measured):
    before = {name: (each, each.detach().clone(), each.requires_grad) for name, each in bert.named_parameters()}
    embeddings = bert.encode(["a text"])
    measured(bert, toy_triplets, statistics={"fisher"}, placement="offload")
    for name, parameter in bert.named_parameters():
        same, values, differentiated = before[name]
        assert parameter is same
        assert torch.equal(parameter, values)
        assert parameter.requires_grad == differentiated
    assert not any(hasattr(module, "_hf_hook") for module in bert.modules())
    assert (bert.encode(["a text"]) == embeddings).all()


def test_offloaded_weights_are_on_the_device_only_when_needed(bert):
    with placed(bert, linear_layers(bert), MeasurementOptions(placement="offload", device="cpu")) as (there, chosen):
        assert is_offloaded(there)
        assert not is_offloaded(bert)
        assert all(matrix.module.weight.is_meta for matrix in chosen)
        found, expected = (
            Embedder(each, Prompts(), HookContext()).forward(["a text"], "query") for each in (there, bert)
        )
        assert torch.equal(found, expected)
        assert all(matrix.module.weight.is_meta for matrix in chosen)


def test_an_offloaded_model_keeps_one_block_at_a_time(bert, toy_triplets, monkeypatch):
    """Blocks run again in the backward, whatever the budget."""
    options = MeasurementOptions(placement="offload", memory_budget="4GB")
    with placed(bert, reached(bert), options) as (there, chosen):
        planned = plan_for(
            Measurement.of(there, toy_triplets, chosen, frozenset({"fisher"}), Prompts(), options, "calibration")
        )
    assert planned.way.rerun
    assert planned.recomputed == 1


def test_a_model_that_its_user_offloaded(folder_of, toy_triplets):
    """``device_map`` of transformers: hooks of accelerate's on the model itself."""
    whole = SentenceTransformer(str(folder_of("bert")), device="cpu")
    model = SentenceTransformer(str(folder_of("bert")), device="cpu")
    from accelerate import cpu_offload

    cpu_offload(model, torch.device("cpu"))
    sums = [
        measure(
            each, toy_triplets, reached(each), statistics=STATISTICS, prompts=Prompts(), options=MeasurementOptions()
        )
        for each in (whole, model)
    ]
    for name, each in sums[0].items():
        for statistic in STATISTICS:
            close(getattr(sums[1][name], statistic), getattr(each, statistic), 2e-4)


def test_one_process_cannot_shard(bert, toy_triplets, measured):
    before = copy.deepcopy(bert.state_dict())
    with pytest.raises(
        ConfigError, match=r"placement: shard spreads the weights over processes, and there is one\.\n"
    ):
        measured(bert, toy_triplets, placement="shard")
    assert all(torch.equal(values, before[name]) for name, values in bert.state_dict().items())


def test_a_single_process_is_told_before_a_model_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match=r"placement: shard spreads"):
        gaprune.prune("nowhere/no-model", criterion="magnitude", placement="shard", out=tmp_path / "out")

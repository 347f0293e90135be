"""Exports for a program by its name: the file that it opens, how it is started, and what it cannot run."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reading_rules import fastembed, onnx_in_text_embeddings_inference, transformers_js
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router
from transformers import T5Config

import gaprune
from gaprune.errors import ConfigError, ModelError
from gaprune.export import graph
from gaprune.export.readers import READERS
from gaprune.models.exported import ExportedModel
from gaprune.models.load import load_model

RULES = {
    "tei": onnx_in_text_embeddings_inference,
    "fastembed": fastembed,
    "transformers.js": transformers_js,
}


@pytest.mark.parametrize(("reader", "int8"), [("tei", True), ("fastembed", False), ("transformers.js", True)])
def test_the_file_that_it_opens(exported, folder_of, reader, int8):
    result = exported("bert", None, int8=int8, reader=reader)
    (graph,) = (result.path / "onnx").iterdir()
    assert graph.name == ("model_quantized.onnx" if reader == "transformers.js" else "model.onnx")
    RULES[reader](result.path)
    model = load_model(folder_of("bert"), device="cpu")
    found, wanted = ExportedModel(result.path).encode(["cash"]), model.encode(["cash"])
    assert (found * wanted).sum() > (0.95 if int8 else 0.9999)
    card = (result.path / "README.md").read_text(encoding="utf-8")
    started = {"tei": ":cpu-1.9 --model-id", "fastembed": '"onnx/model.onnx"', "transformers.js": '{ dtype: "q8" }'}
    assert started[reader] in card


class TestRefused:
    @pytest.fixture
    def bert(self, folder_of):
        return load_model(folder_of("bert"), device="cpu")

    def test_before_anything_is_written(self, folder_of, tmp_path):
        with pytest.raises(ModelError, match="pools by weightedmean; known are cls, mean, lasttoken"):
            gaprune.export_model(folder_of("llama"), reader="tei", out=tmp_path / "out")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("reader", READERS)
    def test_two_routes(self, bert, reader):
        heads = [Dense(32, 6, activation_function=torch.nn.Identity()) for _ in range(2)]
        router = Router.for_query_document(query_modules=heads[:1], document_modules=heads[1:])
        with pytest.raises(ModelError, match="a route for queries and one for documents"):
            READERS[reader].check(SentenceTransformer(modules=[bert[0], bert[1], router], device="cpu"))

    @pytest.mark.parametrize("reader", ["tei", "fastembed"])
    def test_texts_of_any_length(self, bert, reader):
        bert.max_seq_length = None
        with pytest.raises(ModelError, match=r"no limit .* \(max_seq_length\)"):
            READERS[reader].check(bert)

    def test_a_family_without_positions(self, bert):
        bert[0].model.config = T5Config()
        with pytest.raises(ModelError, match="the family t5 has no max_position_embeddings"):
            READERS["tei"].check(bert)

    def test_weights_beside_the_graph(self, bert, monkeypatch):
        monkeypatch.setattr(graph, "_LARGE", 0)
        with pytest.raises(ModelError, match="a file beside the graph"):
            READERS["transformers.js"].check(bert)


def test_names(folder_of, tmp_path):
    for options, words in (
        ({"reader": "fastembd"}, r"for: 'fastembd' is not a reader\. Did you mean 'fastembed'"),
        ({"reader": "tei", "to": "openvino"}, "for: text-embeddings-inference opens onnx, not openvino"),
        ({}, "to: no format is named"),
    ):
        with pytest.raises(ConfigError, match=words):
            gaprune.export_model(folder_of("bert"), out=tmp_path / "out", **options)


def test_a_folder_in_int8_is_a_model_like_any_other(exported):
    """It has the second name of the graph."""
    folder = exported("bert", "onnx", int8=True).path
    assert np.isfinite(ExportedModel(folder).encode(["cash"])).all()
    with pytest.raises(ModelError, match=r"\(onnx/model_quantized\.onnx\)"):
        load_model(folder)

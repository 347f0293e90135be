"""Exports to ONNX and OpenVINO: the same embeddings, whatever the length and padding, without the first weights."""

from __future__ import annotations

import json
import re
import resource
import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router

import gaprune
from gaprune.data.read import read_triplets
from gaprune.errors import ConfigError, MissingExtraError, ModelError, OutputError
from gaprune.export import graph
from gaprune.export.comparison import Floor, Texts
from gaprune.export.formats import openvino as openvino_format
from gaprune.export.formats.base import Request
from gaprune.export.formats.onnx import Onnx
from gaprune.export.provenance import Provenance
from gaprune.models.encoders import TorchModel
from gaprune.models.exported import ExportedModel
from gaprune.models.formats import format_of
from gaprune.models.load import load_model
from gaprune.models.prompts import Prompts
from toys import triplets_file

TEXTS = ["cash", "the bank raised the rate of interest on every loan " * 9, "a dog", "Zürich ?!", "which asset"]


def same(first, second):
    """The lowest cosine between rows."""
    first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (first, second))
    return (first * second).sum(axis=1).min()


@pytest.mark.parametrize(("family", "to"), [("bert", "onnx"), ("bert", "openvino"), ("qwen3", "onnx")])
class TestSameModel:
    def test_embeddings(self, exported, folder_of, family, to):
        result = exported(family, to)
        model = load_model(folder_of(family), device="cpu")
        opened = ExportedModel(result.path, threads=1, exact=True)
        assert same(opened.encode(TEXTS), model.encode(TEXTS)) > 1 - 1e-6
        assert np.allclose(opened.encode(TEXTS), model.encode(TEXTS), atol=1e-5)
        assert np.allclose(opened.encode(TEXTS, batch_size=1), opened.encode(TEXTS), atol=1e-5), "padding shows"
        assert opened.lengths(TEXTS) == TorchModel(model).lengths(TEXTS)
        assert opened.max_length == model.max_seq_length
        query = model.prompts.get("query")
        if query:
            wanted = model.encode(TEXTS, prompt_name="query")
            assert np.allclose(opened.encode(TEXTS, prompt_name="query"), wanted, atol=1e-5)

    def test_what_is_written(self, exported, folder_of, family, to):
        result = exported(family, to)
        assert format_of(result.path) == result.record.to == to
        assert not list(result.path.glob("*.safetensors")), "the weights would lie there twice"
        assert not list(result.path.rglob("*dense*"))
        record = Provenance.read(result.path).export
        assert record.cosine_min == result.record.cosine_min > 1 - 1e-6
        model = load_model(folder_of(family), device="cpu")
        assert record.parameters == sum(parameter.numel() for parameter in model.parameters())
        assert result.bytes == sum(file.stat().st_size for file in result.path.rglob("*") if file.is_file())

    def test_the_code_in_the_card(self, exported, folder_of, family, to, tmp_path):
        """It runs as it stands, without PyTorch and without us."""
        result = exported(family, to)
        code = re.search(r"```python\n(.*?)```", (result.path / "README.md").read_text(encoding="utf-8"), re.DOTALL)[1]
        code = code.replace(f'"{result.path.name}"', repr(str(result.path)))
        alone = "import sys; assert not {'torch', 'gaprune'} & set(sys.modules)"
        save = f"np.save({str(tmp_path / 'e')!r}, embeddings)"
        subprocess.run([sys.executable, "-c", f"{code}\n{alone}\n{save}"], check=True, capture_output=True)
        wanted = load_model(folder_of(family), device="cpu").encode(["a text", "another text"])
        assert same(np.load(tmp_path / "e.npy"), wanted) > 1 - 1e-3


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("weights_only", [False, True])
def test_int8(exported, folder_of, to, weights_only):
    result, dense = exported("bert", to, int8=True, weights_only=weights_only), exported("bert", to)
    sizes = [
        max(file.stat().st_size for file in (each.path / to).iterdir() if file.suffix != ".xml")
        for each in (result, dense)
    ]
    assert sizes[0] < sizes[1]
    assert 0.95 < result.record.cosine_min < dense.record.cosine_min
    assert not result.record.below_floor
    assert result.record.form.startswith("int8")
    model = load_model(folder_of("bert"), device="cpu")
    assert same(ExportedModel(result.path).encode(TEXTS), model.encode(TEXTS)) > 0.95
    if to == "onnx":
        nodes = [node.op_type for node in onnx.load(result.path / "onnx" / "model_quantized.onnx").graph.node]
        kept = int(re.search(r"note: (\d+) of 12|$", result.record.form)[1] or 0)
        kind, count = ("MatMulNBits", 12) if weights_only else ("MatMulInteger", 12 - kept)
        assert nodes.count(kind) == count, "all matrices of both layers but those in the note, and nothing else"


@pytest.mark.parametrize("to", ["onnx", "openvino"])
@pytest.mark.parametrize("int8", [False, True])
def test_a_disk_that_is_full_when_the_graph_is_known(folder_of, tmp_path, monkeypatch, to, int8):
    """Files may have 1,000 bytes from then on: the runtimes' own writers fail as they do on a full disk."""
    trace, limits = graph.trace, resource.getrlimit(resource.RLIMIT_FSIZE)

    def last_file(model, path):
        trace(model, path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))

    monkeypatch.setattr(graph, "trace", last_file)
    try:
        with pytest.raises(OutputError, match=r"cannot be written to .*out.*\n.*Make room"):
            gaprune.export_model(folder_of("bert"), to=to, int8=int8, out=tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_static_quantisation_that_loses_texts_gives_way_to_weights_alone(folder_of, tmp_path, monkeypatch):
    monkeypatch.setattr(openvino_format, "INT8_FLOOR", Floor(1, 1))
    result = gaprune.export_model(folder_of("bert"), to="openvino", int8=True, out=tmp_path / "a, b" / "out")
    assert result.record.form.startswith("int8 weights, activations in floating point; note: static quantisation")
    assert result.record.cosine_min > 0.99


def test_the_worst_matrices_stay_in_fp32(folder_of, tmp_path):
    """One channel of an attention value a thousand times as large ruins the product that reads it, and no other."""
    model = load_model(folder_of("bert"), device="cpu")
    layer = model.transformers_model.encoder.layer[1].attention
    with torch.no_grad():
        layer.self.value.weight[3] *= 1000
        layer.self.value.bias[3] *= 1000
        layer.output.dense.weight[:, 3] /= 1000
    model.save_pretrained(str(tmp_path / "outlier"))
    result = gaprune.export_model(tmp_path / "outlier", to="onnx", int8=True, out=tmp_path / "out")
    assert "note: " in result.record.form
    assert "kept in fp32" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert result.record.cosine_min > 0.95
    graph = onnx.load(tmp_path / "out" / "onnx" / "model_quantized.onnx").graph
    weights = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    products = [weights[node.input[1]] for node in graph.node if node.op_type == "MatMul" and node.input[1] in weights]
    assert any(np.array_equal(each, layer.output.dense.weight.detach().numpy().T) for each in products)


def test_a_model_with_a_route_for_queries_and_one_for_documents(folder_of, tmp_path):
    model = load_model(folder_of("bert"), device="cpu")
    width = model.get_embedding_dimension()
    heads = [Dense(width, 6, activation_function=torch.nn.Identity()) for _ in range(2)]
    router = Router.for_query_document(query_modules=heads[:1], document_modules=heads[1:])
    SentenceTransformer(modules=[model[0], model[1], router], device="cpu").save_pretrained(str(tmp_path / "routed"))
    original = load_model(tmp_path / "routed", device="cpu")
    for to in ("onnx", "openvino"):
        found = ExportedModel(gaprune.export_model(tmp_path / "routed", to=to, out=tmp_path / to).path, exact=True)
        assert np.allclose(found.encode_query(TEXTS), original.encode_query(TEXTS), atol=1e-5)
        assert np.allclose(found.encode_document(TEXTS), original.encode_document(TEXTS), atol=1e-5)
        assert np.array_equal(found.encode(TEXTS), found.encode_query(TEXTS))
        assert not np.allclose(found.encode_query(TEXTS), found.encode_document(TEXTS), atol=1e-3)
    towers = Router.for_query_document(query_modules=list(model)[:2], document_modules=list(model)[:2])
    with pytest.raises(ModelError, match="Router with a tower for each"):
        Onnx(Request(tmp_path)).check_model(SentenceTransformer(modules=[towers], device="cpu"))


def test_large_models_keep_weights_beside_the_graph(folder_of, tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "_LARGE", 0)
    result = gaprune.export_model(folder_of("bert"), to="onnx", out=tmp_path / "out", int8=True)
    names = sorted(file.name for file in (result.path / "onnx").iterdir())
    assert names == ["model_quantized.onnx", "model_quantized.onnx.data"]


def test_int8_is_calibrated_on_the_recorded_domain(folder_of, tmp_path, toy_triplets, capsys):
    domain, out = triplets_file(tmp_path / "mine.jsonl", toy_triplets), tmp_path / "pruned"
    gaprune.prune(folder_of("bert"), domain=domain, criterion="wanda", reconstruct=False, out=out, device="cpu")
    found = gaprune.export_model(out, to="onnx", int8=True, out=tmp_path / "out", force=True)
    assert found.record.texts_origin.startswith("of the domain")
    assert f"calibrated on {domain}" in capsys.readouterr().err


def test_provenance_of_what_was_pruned_stays(folder_of, tmp_path):
    options = {"criterion": "magnitude", "width": 0.5, "depth": 1, "round_to": 8, "dtype": "bfloat16"}
    smaller = gaprune.prune(folder_of("bert"), device="cpu", out=tmp_path / "pruned", **options).model
    domain = triplets_file(tmp_path / "domain.jsonl", [gaprune.Triplet("a loan", "the bank lent")])
    result = gaprune.export_model(tmp_path / "pruned", to="onnx", out=tmp_path / "out", domain=domain)
    found = Provenance.read(result.path)
    assert found.export.parameters == sum(parameter.numel() for parameter in smaller.parameters())
    assert found.model_copy(update={"export": None}) == Provenance.read(tmp_path / "pruned")
    assert {"a loan", "the bank lent"} <= set(Texts.draw(read_triplets(domain), Prompts()).held_out), (
        "the domain's texts are compared too"
    )
    assert result.record.cosine_min > 1 - 1e-6, "a bfloat16 model is exported in fp32"


class TestErrors:
    def test_an_export_that_is_not_the_same_is_not_written(self, folder_of, tmp_path, monkeypatch):
        trace = graph.trace

        def other(model, path):
            trace(model, path)
            made = onnx.load(path)
            for each in made.graph.initializer:
                if tuple(each.dims) == (32,):
                    shifted = onnx.numpy_helper.to_array(each) + np.linspace(0, 1, 32, dtype=np.float32)
                    each.CopyFrom(onnx.numpy_helper.from_array(shifted, each.name))
            onnx.save(made, path)

        monkeypatch.setattr(graph, "trace", other)
        with pytest.raises(ModelError, match=r"too far .* mean 0\.\d{4}, lowest 0\.\d{4}") as caught:
            gaprune.export_model(folder_of("bert"), to="onnx", out=tmp_path / "out")
        assert caught.value.remedy.startswith("Nothing was written")
        assert not list(tmp_path.iterdir())

    def test_what_cannot_be_traced(self, folder_of, tmp_path, monkeypatch):
        def fails(self, *tokens):
            raise ValueError("no such operation")

        monkeypatch.setattr(graph._Whole, "forward", fails)
        with pytest.raises(ModelError, match=r"BertModel cannot be exported to ONNX: .*no such operation"):
            gaprune.export_model(folder_of("bert"), to="onnx", out=tmp_path / "out")
        assert not list(tmp_path.iterdir())

    def test_checked_before_the_model_is_loaded(self, folder_of, exported, tmp_path, monkeypatch):
        done = exported("bert", "onnx").path
        monkeypatch.setattr(Request, "load", lambda *_args, **_options: pytest.fail("loaded"))
        bert = folder_of("bert")
        with pytest.raises(ConfigError, match=r"to: 'onx' is not a format\. Did you mean 'onnx'"):
            gaprune.export_model(bert, to="onx", out=tmp_path / "out")
        with pytest.raises(ModelError, match=r"missing is not a folder\."):
            gaprune.export_model(tmp_path / "missing", to="onnx", out=tmp_path / "out")
        with pytest.raises(ModelError, match=r"is exported already \(onnx/model\.onnx\)"):
            gaprune.export_model(done, to="openvino", out=tmp_path / "out")
        with pytest.raises(OutputError, match="exists"):
            gaprune.export_model(bert, to="onnx", out=tmp_path)
        monkeypatch.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(MissingExtraError, match=r"Exporting to onnx needs .* extra 'onnx'"):
            gaprune.export_model(bert, to="onnx", out=tmp_path / "out")

    def test_prompts_left_out_of_pooling(self, bert, tmp_path):
        bert.set_pooling_include_prompt(include_prompt=False)
        with pytest.raises(ModelError, match="excludes the tokens of its prompt from pooling"):
            Onnx(Request(tmp_path)).check_model(bert)

    def test_folders_that_do_not_open(self, folder_of, exported, tmp_path):
        with pytest.raises(ModelError, match="holds no exported model"):
            ExportedModel(folder_of("bert"))
        for to, file in (("onnx", "onnx/model.onnx"), ("openvino", "openvino/openvino_model.xml")):
            broken = tmp_path / to
            for part in ("tokenizer.json", "config_sentence_transformers.json"):
                broken.mkdir(exist_ok=True)
                (broken / part).write_bytes((exported("bert", to).path / part).read_bytes())
            (broken / file).parent.mkdir()
            (broken / file).write_text("nothing")
            with pytest.raises(ModelError, match=rf"{file} cannot be opened: ") as caught:
                ExportedModel(broken)
            assert caught.value.remedy == "Export the model again."
            (broken / "tokenizer.json").write_text("{")
            with pytest.raises(ModelError, match="cannot be read"):
                ExportedModel(broken)

    def test_a_prompt_that_is_not_there(self, exported):
        with pytest.raises(ConfigError, match=r"has no prompt 'quary'\. Did you mean 'query'"):
            ExportedModel(exported("qwen3", "onnx").path).encode(["a"], prompt_name="quary")

    def test_runtimes_that_are_not_installed(self, exported, monkeypatch):
        for to, module in (("onnx", "onnxruntime"), ("openvino", "openvino")):
            folder = exported("bert", to).path
            monkeypatch.setitem(sys.modules, module, None)
            with pytest.raises(MissingExtraError, match=f"extra '{to}'"):
                ExportedModel(folder)


def test_json_of_the_report(exported):
    result = exported("bert", "onnx")
    assert json.loads(json.dumps(result.as_dict()))["path"] == str(result.path)

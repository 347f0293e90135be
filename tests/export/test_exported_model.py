"""An exported model behaves as SentenceTransformer does, and goes wherever a model goes that is not trained."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import gaprune
from gaprune.errors import ConfigError, GapruneError, ModelError
from gaprune.models.exported import ExportedModel
from gaprune.models.formats import format_of
from gaprune.models.load import load_model
from toys import tasks_folder, triplets_file

TEXTS = ["cash", "the bank raised the rate of interest on every loan " * 9, "a dog", "Zürich ?!", "which asset"]


@pytest.fixture(scope="module")
def pair(exported, folder_of):
    """An exported model with prompts, and the original."""
    folder = exported("qwen3", "onnx").path
    return ExportedModel(folder, threads=1), load_model(folder_of("qwen3"), device="cpu")


@pytest.mark.parametrize(
    "inputs", ["cash", "", [], ["cash"], TEXTS, tuple(TEXTS), np.array(TEXTS), (text for text in TEXTS)],
    ids=["string", "empty string", "empty list", "one", "list", "tuple", "array", "generator"],
)  # fmt: skip
def test_whatever_is_given(pair, inputs):
    inputs = list(inputs) if hasattr(inputs, "send") else inputs
    found, wanted = (model.encode(inputs) for model in pair)
    assert found.shape == wanted.shape
    assert np.allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize("inputs", ["cash", TEXTS, []], ids=["string", "list", "empty"])
@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 2}, {"normalize_embeddings": True}, {"truncate_dim": 5}, {"truncate_dim": 10_000},
        {"truncate_dim": 5, "normalize_embeddings": True}, {"prompt_name": "query"}, {"prompt": "about: "},
        {"prompt": "", "prompt_name": "query"}, {"show_progress_bar": False},
        {"convert_to_tensor": True}, {"convert_to_numpy": False}, {"convert_to_tensor": True, "truncate_dim": 3},
    ],
    ids=str,
)  # fmt: skip
def test_every_option(pair, inputs, options):
    found, wanted = (model.encode(inputs, **options) for model in pair)
    assert type(found) is type(wanted)
    if isinstance(found, list):
        assert all(isinstance(each, torch.Tensor) for each in found)
    for one, other in zip(*(each if isinstance(each, list) else [each] for each in (found, wanted)), strict=True):
        assert one.shape == other.shape
        assert np.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("how", ["encode_query", "encode_document"])
@pytest.mark.parametrize(
    "options", [{}, {"prompt": "about: "}, {"prompt_name": "query"}, {"truncate_dim": 4}], ids=str
)
def test_queries_and_documents(pair, how, options):
    found, wanted = (getattr(model, how)(TEXTS, **options) for model in pair)
    assert np.allclose(found, wanted, atol=1e-5)


def test_a_default_prompt(exported, folder_of, tmp_path):
    """It is for ``encode`` alone, as in sentence-transformers."""
    model = load_model(folder_of("bert"), device="cpu")
    model.prompts, model.default_prompt_name = {"about": "the bank: "}, "about"
    model.save_pretrained(str(tmp_path / "model"))
    found = ExportedModel(gaprune.export_model(tmp_path / "model", to="onnx", out=tmp_path / "out").path)
    wanted = load_model(tmp_path / "model", device="cpu")
    for how in ("encode", "encode_query", "encode_document"):
        assert np.allclose(getattr(found, how)(TEXTS), getattr(wanted, how)(TEXTS), atol=1e-5), how
    assert not np.allclose(found.encode(TEXTS), found.encode_query(TEXTS), atol=1e-3)


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        (["a", 3], {}, "inputs: item 1 is 3, of type int"), (["a", None], {}, "item 1 is None"),
        ({"text": "a"}, {}, "of type dict"), ({"a"}, {}, "of type set"), (3, {}, "inputs: 3 is of type int"),
        (["a"], {"batch_size": 0}, "batch_size: 0 is below 1"), (["a"], {"truncate_dim": -1}, "truncate_dim: -1"),
        (["a"], {"prompt_name": "quary"}, r"no prompt 'quary'\. Did you mean 'query'"),
    ],
)  # fmt: skip
def test_what_is_refused(pair, inputs, options, said):
    with pytest.raises(ConfigError, match=said):
        pair[0].encode(inputs, **options)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    return tasks_folder(tmp_path_factory.mktemp("tasks"))


class TestLikeAnyOther:
    """An exported folder is evaluated, benched and inspected; what must train or prune it refuses it by name."""

    @pytest.mark.parametrize("to", ["onnx", "openvino"])
    def test_evaluate(self, exported, folder_of, tasks, to):
        folder = exported("bert", to).path
        found = gaprune.evaluate(folder, tasks=tasks, parent=folder_of("bert"))
        wanted = gaprune.evaluate(folder_of("bert"), tasks=tasks)
        assert [score.value for score in found.scores] == pytest.approx([score.value for score in wanted.scores])
        shorter = [gaprune.evaluate(each, tasks=tasks, max_length=4) for each in (folder, folder_of("bert"))]
        assert shorter[0].scores[0].value == pytest.approx(shorter[1].scores[0].value)
        assert ExportedModel(folder).max_length != 4

    @pytest.mark.parametrize(("to", "int8"), [("onnx", True), ("openvino", False)])
    def test_its_dimensions_are_known(self, exported, folder_of, tasks, to, int8):
        """A graph in int8 does not declare them, and without them nothing says whether it can search an index."""
        folder, parent = exported("bert", to, int8=int8).path, folder_of("bert")
        assert ExportedModel(folder).dimensions == load_model(parent).get_embedding_dimension()
        found = gaprune.evaluate(folder, tasks=tasks, parent=parent, index="parent")
        assert found.parent_index() is not None

    def test_options_without_effect(self, exported, tasks):
        for option, value in (("device", "cpu"), ("dtype", "bfloat16")):
            with pytest.raises(ConfigError, match=f"{option}: .* is exported"):
                gaprune.evaluate(exported("bert", "onnx").path, tasks=tasks, **{option: value})
            with pytest.raises(ConfigError, match=f"{option}: .* is exported"):
                gaprune.inspect(exported("bert", "onnx").path, **{option: value})

    def test_inspect(self, exported, folder_of):
        result = exported("bert", "onnx")
        (found, provenance), (wanted, _) = gaprune.inspect(result.path), gaprune.inspect(folder_of("bert"))
        assert found.linear_layers == wanted.linear_layers
        assert (found.parameters, found.zeros) == (wanted.parameters, wanted.zeros)
        assert found.bytes == (result.path / "onnx" / "model.onnx").stat().st_size
        assert provenance.export == result.record
        (again, _) = gaprune.inspect(result.path, trust_remote_code=False)  # as the command line calls it
        assert again == found

    def test_inspect_without_record(self, exported, tmp_path):
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
        with pytest.raises(ModelError, match="does not say what was exported"):
            gaprune.inspect(tmp_path)

    def test_what_cannot_take_it_says_so(self, exported, tmp_path):
        folder = exported("bert", "onnx").path
        texts = triplets_file(tmp_path / "texts.jsonl", [gaprune.Triplet("a loan", "the bank lent", ("a dog",))] * 9)
        runs = (
            lambda: gaprune.prune(folder, sparsity=0.5, criterion="magnitude"),
            lambda: gaprune.recover(folder, domain=texts, out=tmp_path / "out"),
            lambda: gaprune.export_model(folder, to="openvino", out=tmp_path / "out"),
            lambda: load_model(folder),
        )
        for run in runs:
            with pytest.raises(GapruneError, match=r"exported") as caught:
                run()
            assert str(folder) in caught.value.problem
            assert "folder" in caught.value.remedy.lower() or "original" in caught.value.remedy

    def test_weights_beside_a_graph(self, exported, folder_of, tmp_path):
        """Many models on the hub hold both; they are PyTorch models and can be pruned."""
        for file in folder_of("bert").rglob("*"):
            if file.is_file():
                place = tmp_path / file.relative_to(folder_of("bert"))
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(file.read_bytes())
        (tmp_path / "onnx").mkdir()
        (tmp_path / "onnx" / "model.onnx").write_bytes(b"")
        assert format_of(tmp_path) == "torch"
        assert gaprune.inspect(tmp_path)[0].parameters == gaprune.inspect(folder_of("bert"))[0].parameters


class TestFloor:
    def test_below_it_nothing_is_left(self, folder_of, tmp_path):
        with pytest.raises(ModelError, match=r"too far .* floor is 1 and 1") as caught:
            gaprune.export_model(folder_of("bert"), to="onnx", int8=True, floor="1,1", out=tmp_path / "out")
        assert "--force" in caught.value.remedy
        assert not list(tmp_path.iterdir())

    def test_by_force(self, folder_of, tmp_path):
        result = gaprune.export_model(
            folder_of("bert"), to="onnx", int8=True, floor=(1, 1), force=True, out=tmp_path / "out"
        )
        assert result.record.below_floor
        content = json.loads((tmp_path / "out" / "gaprune.json").read_text(encoding="utf-8"))["export"]
        assert content["floor"] == [1, 1]
        card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
        assert "below the floor" in card
        assert f"{result.record.cosine_min:.6f}" in card

    @pytest.mark.parametrize("floor", ["high", "0.9", "0.9,0.8,0.7", "2,0.5", (0.9, -1), "nan,0.5"])
    def test_that_is_none(self, folder_of, tmp_path, floor):
        with pytest.raises(ConfigError, match=r"floor: .* is not the mean and the lowest cosine"):
            gaprune.export_model(folder_of("bert"), to="onnx", floor=floor, out=tmp_path / "out")

    def test_held_out_texts_are_not_calibrated_on(self):
        from gaprune.export.comparison import Texts
        from gaprune.models.prompts import Prompts

        own = [gaprune.Triplet(f"query {number}", f"passage {number % 5}") for number in range(40)]
        texts = Texts.draw(own, Prompts("find: ", "text: "))
        assert not set(texts.calibration) & set(texts.held_out)
        for side in (texts.calibration, texts.held_out):
            assert sum(text.startswith("find: query ") for text in side) == 20
        assert Texts.draw(own, Prompts("find: ", "text: ")) == texts

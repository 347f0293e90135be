"""What a model can be: every module class of sentence-transformers is handled whole or refused by name."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer import modules as classes
from tokenizers import Tokenizer, models
from torch import nn

import gaprune
from gaprune.errors import ModelError, OutputError
from gaprune.models.checks import check_layers
from gaprune.models.fingerprints import modules_fingerprint, weights_fingerprint
from gaprune.models.load import load_model
from toys import GENERAL, triplets_file

BEHIND = {
    "CNN": lambda _: [classes.CNN(32, out_channels=8, kernel_sizes=[1, 3]), classes.Pooling(16, "mean")],
    "Dense": lambda _: [classes.Pooling(32, "mean"), Dense(32, 8)],
    "Dropout": lambda _: [classes.Pooling(32, "mean"), classes.Dropout(0.5)],
    "LayerNorm": lambda _: [classes.Pooling(32, "mean"), classes.LayerNorm(32)],
    "Normalize": lambda _: [classes.Pooling(32, "mean"), Normalize()],
    "Router": lambda _: [
        classes.Pooling(32, "mean"),
        Router.for_query_document(query_modules=[Dense(32, 8)], document_modules=[Dense(32, 8)]),
    ],
    "WeightedLayerPooling": lambda _: [
        classes.WeightedLayerPooling(32, num_hidden_layers=2, layer_start=1), classes.Pooling(32, "mean")
    ],
    "WordWeights": lambda bert: [
        classes.WordWeights(list(bert.tokenizer.get_vocab()), {"the": 0.5}), classes.Pooling(32, "mean")
    ],
}  # fmt: skip
IN_FRONT = ("StaticEmbedding", "BoW", "WordEmbeddings", "CLIPModel", "LSTM")
"""What stands in front of a model without transformer blocks; an LSTM reads what WordEmbeddings give."""
OTHERS = {"Transformer", "Pooling", "Asym", "Module", "InputModule"}
"""What every model has, an older name of Router, and the bases."""


def test_every_class_of_the_library_is_in_a_test():
    assert {*BEHIND, *IN_FRONT, *OTHERS} >= set(classes.__all__)


def _behind(folder, name):
    first = Transformer(str(folder), config_kwargs={"output_hidden_states": name == "WeightedLayerPooling"})
    bert = load_model(folder, device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SentenceTransformer(modules=[first, *BEHIND[name](bert)], device="cpu")


@pytest.fixture
def static():
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))  # noqa: S106
    return classes.StaticEmbedding(tokenizer, embedding_dim=32)


@pytest.mark.parametrize("name", BEHIND)
def test_modules_behind_the_transformer_are_kept(folder_of, name, toy_triplets, tmp_path):
    model = _behind(folder_of("bert"), name)
    result = gaprune.prune(model, domain=toy_triplets, general=GENERAL, width=0.5, round_to=8, out=tmp_path / "out")
    again = load_model(tmp_path / "out", device="cpu")
    assert [type(each) for each in again] == [type(each) for each in model]
    for encode in ("encode_query", "encode_document"):
        ours, theirs = (getattr(each, encode)(["a dog runs", "cash"]) for each in (result.model, again))
        assert theirs == pytest.approx(ours, abs=1e-6)


def test_no_layer_is_removed_under_a_pooling_over_layers(folder_of, toy_triplets):
    model = _behind(folder_of("bert"), "WeightedLayerPooling")
    for options in ({"depth": 1}, {"target": "speedup=1.2"}):
        with pytest.raises(ModelError, match="Module 1, a WeightedLayerPooling, has a weight for each layer"):
            gaprune.prune(model, domain=toy_triplets, general=GENERAL, **options)


def test_no_token_is_removed_under_weights_of_tokens(folder_of, tmp_path):
    (tmp_path / "texts.txt").write_text("a dog runs\n", encoding="utf-8")
    with pytest.raises(ModelError, match="Module 1, a WordWeights, keeps a weight for every token"):
        gaprune.prune(_behind(folder_of("bert"), "WordWeights"), vocabulary=tmp_path / "texts.txt")


class TestRefused:
    def test_a_model_without_a_transformer(self, static, toy_triplets):
        model = SentenceTransformer(modules=[static], device="cpu")
        with pytest.raises(ModelError, match="first module is a StaticEmbedding"):
            gaprune.prune(model, domain=toy_triplets, general=GENERAL, sparsity=0.5)

    def test_a_model_that_cannot_embed_a_text(self, folder_of):
        first = Transformer(str(folder_of("bert")))
        lstm = SentenceTransformer(modules=[first, classes.LSTM(32, 8), classes.Pooling(16, "mean")], device="cpu")
        with pytest.raises(ModelError, match="cannot embed a short text: KeyError: 'sentence_lengths'"):
            gaprune.prune(lstm, sparsity=0.5, criterion="magnitude")

    def test_towers_are_named_and_the_way_out_works(self, folder_of, static, toy_triplets, tmp_path):
        one, two = (load_model(folder_of("bert"), device="cpu") for _ in range(2))
        for queries in ([static], [one[0], one[1]]):
            router = Router.for_query_document(query_modules=queries, document_modules=[two[0], two[1]])
            model = SentenceTransformer(modules=[router, Normalize()], device="cpu")
            for run in (
                lambda each: gaprune.prune(each, domain=toy_triplets, general=GENERAL, sparsity=0.5),
                lambda each: gaprune.recover(each, domain=toy_triplets, steps=1, batch_size=2, held_out=0),
            ):
                with pytest.raises(
                    ModelError, match=r"Module 0 is a Router.*document: Transformer, Pooling"
                ) as caught:
                    run(model)
            said = caught.value.remedy.partition("afterwards: ")[2].removesuffix(".save('tower').")
            tower = eval(said, {"SentenceTransformer": SentenceTransformer, "model": model})  # noqa: S307
            check_layers(tower)

    def test_routes_of_different_sizes(self, folder_of, tmp_path):
        bert = load_model(folder_of("bert"), device="cpu")
        heads = Router.for_query_document(query_modules=[Dense(32, 8)], document_modules=[Dense(32, 16)])
        model = SentenceTransformer(modules=[bert[0], bert[1], heads], device="cpu")
        model.save(str(tmp_path / "model"), create_model_card=False)
        with pytest.raises(ModelError, match="queries have 8 dimensions, those of passages 16"):
            gaprune.prune(model, sparsity=0.5, criterion="magnitude")
        with pytest.raises(ModelError, match="queries have 8 dimensions"):
            gaprune.export_model(tmp_path / "model", to="onnx", out=tmp_path / "out")

    def test_an_adapter_and_nothing_is_written(self, folder_of, toy_triplets, tmp_path):
        peft = pytest.importorskip("peft")
        model = load_model(folder_of("bert"), device="cpu")
        model.add_adapter(peft.LoraConfig(task_type="FEATURE_EXTRACTION", r=2, target_modules=["word_embeddings"]))
        model.save(str(tmp_path / "adapter"), create_model_card=False)
        texts = triplets_file(tmp_path / "texts.jsonl", toy_triplets)
        for run in (
            lambda: gaprune.shrink(tmp_path / "adapter", domain=texts, parameters=9000, out=tmp_path / "o"),
            lambda: gaprune.export_model(tmp_path / "adapter", to="onnx", out=tmp_path / "o"),
            lambda: gaprune.export_model(
                folder_of("bert"), to="router", parent=tmp_path / "adapter", out=tmp_path / "o"
            ),
            lambda: gaprune.prune(
                tmp_path / "adapter", domain=toy_triplets, general=GENERAL, sparsity=0.5, out=tmp_path / "o"
            ),
            lambda: gaprune.recover(
                tmp_path / "adapter", domain=toy_triplets, steps=1, batch_size=2, held_out=0, out=tmp_path / "o"
            ),
        ):
            with pytest.raises(ModelError, match="carries an adapter") as caught:
                run()
            assert "Merge the adapter" in caught.value.remedy
        assert {path.name for path in tmp_path.iterdir()} == {"adapter", "texts.jsonl"}


class TestPositions:
    @pytest.fixture
    def unlimited(self, folder_of, tmp_path):
        """An XLM-R whose tokenizer has no limit: 64 positions, of which two lie before the first token."""
        model = load_model(folder_of("xlm-roberta"), device="cpu")
        model.max_seq_length = 64
        model.save(str(tmp_path / "model"), create_model_card=False)
        return tmp_path / "model"

    def test_a_loaded_model_truncates_at_its_positions(self, unlimited, capsys):
        model = load_model(unlimited, device="cpu")
        assert model.max_seq_length == 64 - 1 - 1
        assert "truncated to 62 tokens" in capsys.readouterr().err.replace("\n", " ")
        model.encode(["a dog runs over green grass " * 20])

    def test_a_table_without_a_padding_token_has_all_its_positions(self, folder_of, tmp_path, toy_triplets):
        bert = load_model(folder_of("bert"), device="cpu")
        rows = bert.transformers_model.config.max_position_embeddings
        bert.max_seq_length = 4 * rows
        bert.save(str(tmp_path / "long"), create_model_card=False)
        with pytest.raises(ModelError, match=f"positions for {rows}"):
            gaprune.prune(bert, domain=toy_triplets, general=GENERAL, sparsity=0.5)
        model = load_model(tmp_path / "long", device="cpu")
        assert model.max_seq_length == rows
        model.encode(["a dog runs over green grass " * rows])

    def test_a_model_in_memory_is_told_its_limit(self, unlimited, toy_triplets):
        model = SentenceTransformer(str(unlimited), device="cpu")
        with pytest.raises(ModelError, match="positions for 62") as caught:
            gaprune.prune(model, domain=toy_triplets, general=GENERAL, sparsity=0.5)
        assert "max_seq_length = 62" in caught.value.remedy


class TestIdentity:
    @pytest.fixture
    def rewritten(self, folder_of, tmp_path):
        """A copy of the tiny BERT, whose weights can be changed in the file."""
        load_model(folder_of("bert"), device="cpu").save(str(tmp_path / "copy"), create_model_card=False)
        return tmp_path / "copy"

    def _change(self, folder, change):
        weights = load_file(folder / "model.safetensors")
        save_file(change(weights), folder / "model.safetensors", metadata={"format": "pt"})

    def test_a_pooler_that_nothing_reads_does_not_count(self, folder_of, rewritten):
        before = load_model(folder_of("bert"), device="cpu")
        self._change(rewritten, lambda weights: {k: v for k, v in weights.items() if not k.startswith("pooler")})
        for _ in range(2):  # it is drawn anew
            after = load_model(rewritten, device="cpu")
            assert not torch.equal(
                after.get_parameter("0.model.pooler.dense.weight"), before.get_parameter("0.model.pooler.dense.weight")
            )
            assert weights_fingerprint(after) == weights_fingerprint(before)
            assert modules_fingerprint(after) == modules_fingerprint(before)

    def test_the_form_of_the_files_does_not_count(self, folder_of, tmp_path):
        before = load_model(folder_of("bert"), device="cpu", dtype="bfloat16")
        before[0].model.save_pretrained(tmp_path / "parts", max_shard_size="10KB")
        assert len(list((tmp_path / "parts").glob("*.safetensors"))) > 1
        before.tokenizer.save_pretrained(tmp_path / "parts")
        sharded = SentenceTransformer(modules=[Transformer(str(tmp_path / "parts")), *list(before)[1:]], device="cpu")
        assert weights_fingerprint(sharded.float()) == weights_fingerprint(before)

    def test_weights_in_use_and_settings_count(self, folder_of, rewritten):
        before = load_model(folder_of("bert"), device="cpu")
        self._change(rewritten, lambda weights: {k: v * (1 + ("query" in k)) for k, v in weights.items()})
        assert weights_fingerprint(load_model(rewritten, device="cpu")) != weights_fingerprint(before)
        config = rewritten / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"layer_norm_eps": 0.1}), encoding="utf-8")
        assert modules_fingerprint(load_model(rewritten, device="cpu")) != modules_fingerprint(before)

    def test_gradients_are_as_they_were(self, bert):
        frozen = bert.get_parameter("0.model.embeddings.word_embeddings.weight").requires_grad_(requires_grad=False)
        weights_fingerprint(bert)
        assert not frozen.requires_grad
        assert bert.get_parameter("0.model.pooler.dense.weight").requires_grad
        assert all(each.grad is None for each in bert.parameters())


class _Forgetful(nn.Module):
    """A module of a user's own that does not save what it does."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = shift

    def forward(self, features):
        return features | {"sentence_embedding": features["sentence_embedding"] + self.shift}

    def save(self, *_: object, **__: object) -> None:
        """Save nothing."""

    @classmethod
    def load(cls, *_: object, **__: object):
        return cls()


def test_what_opens_as_another_model_is_not_written(folder_of, toy_triplets, tmp_path):
    bert = load_model(folder_of("bert"), device="cpu")
    for shift in (0.0, 1.0):
        model = SentenceTransformer(
            modules=[bert[0], bert[1], _Forgetful(shift)], device="cpu", trust_remote_code=True
        )
        out = tmp_path / f"shift-{shift}"
        if not shift:
            assert gaprune.prune(model, sparsity=0.5, criterion="magnitude", out=out).out == out
            continue
        with pytest.raises(OutputError, match="another model when it is loaded again"):
            gaprune.prune(model, sparsity=0.5, criterion="magnitude", out=out)
        assert not out.exists()

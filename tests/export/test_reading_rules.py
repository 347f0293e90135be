"""Every folder that we write is read by old and new readers, by their own rules, as the model that it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache

import pytest
from reading_rules import READERS, fastembed, layers_of_transformers_4, transformers_js
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer
from transformers import AutoConfig

import gaprune
from families import TEXTS
from gaprune.export.model_files import write_model
from gaprune.models.load import load_model

HEADS = ("qwen3", "mistral", "llama", "gemma")
CHANGES = {
    "zeros": {"sparsity": 0.5},
    "structures": {"width": 0.5, "depth": 1, "round_to": 8},
    "vocabulary": {"vocabulary": "texts.txt"},
}


@pytest.fixture(scope="module")
def child_of(folder_of, tmp_path_factory):
    """The folder of a child: ``child_of(family, change)``."""
    made = {}

    def child(family, change):
        if (family, change) not in made:
            folder = tmp_path_factory.mktemp(f"{family}-{change}")
            (folder / "texts.txt").write_text("\n".join(TEXTS[:4]), encoding="utf-8")
            options = {**CHANGES[change]}
            if "vocabulary" in options:
                options["vocabulary"] = str(folder / "texts.txt")
            if change == "structures" and family in HEADS:
                options["heads"] = 0.5
            out = folder / "child"
            gaprune.prune(folder_of(family), criterion="magnitude", device="cpu", out=out, **options)
            made[family, change] = out
        return made[family, change]

    return child


@cache
def _truth(folder):
    """What the model computes, according to sentence-transformers 6 itself."""
    model = SentenceTransformer(str(folder), device="cpu")
    names = [type(module).__name__ for module in model]
    (pooling,) = [module.pooling_mode for module in model if isinstance(module, Pooling)]
    facts = {"pooling": pooling, "normalized": "Normalize" in names, "dense": names.count("Dense")}
    return facts | {"max_length": model.max_seq_length}


@pytest.mark.parametrize("change", CHANGES)
class TestEveryChild:
    @pytest.mark.parametrize("reader", READERS)
    def test_is_read_as_what_it_is(self, child_of, family, change, reader):
        folder = child_of(family, change)
        truth, read = _truth(folder), READERS[reader](folder)
        known = {name: value for name, value in asdict(read).items() if value is not None}
        assert known == {name: truth[name] for name in known}
        unknown = truth["pooling"] == "weightedmean" and reader != "sentence_transformers"  # by the parent too
        assert (read.pooling is None) == unknown

    def test_has_no_leftovers_of_loading(self, child_of, family, change):
        settings = json.loads((child_of(family, change) / "tokenizer_config.json").read_text(encoding="utf-8"))
        assert not settings.keys() & {"is_local", "local_files_only", "backend", "max_length", "name_or_path"}
        tokenizer = Tokenizer.from_file(str(child_of(family, change) / "tokenizer.json"))
        assert tokenizer.truncation is None
        assert tokenizer.padding is None

    def test_config_says_the_same_in_earlier_names(self, child_of, family, change):
        config = AutoConfig.from_pretrained(child_of(family, change))
        rope = getattr(config, "rope_parameters", None)
        if rope is None:
            pytest.skip("no rotary positions")
        types = getattr(config, "layer_types", None) or ["full_attention"] * config.num_hidden_layers
        bases = [(rope if "rope_theta" in rope else rope[each])["rope_theta"] for each in types]
        assert layers_of_transformers_4(child_of(family, change)) == list(zip(types, bases, strict=True))


def test_a_limit_of_the_calibration_is_not_the_childs(folder_of, tmp_path, toy_triplets):
    options = {"criterion": "wanda", "sparsity": 0.5, "max_length": 7, "device": "cpu"}
    gaprune.prune(folder_of("bert"), domain=toy_triplets, out=tmp_path / "out", **options)
    assert {READERS[name](tmp_path / "out").max_length for name in READERS} == {60, None}


def test_layers_that_follow_no_period_stop_readers_that_compute_them(folder_of, tmp_path):
    """Better than another model without a word."""
    model = load_model(folder_of("modernbert"), device="cpu")
    model[0].model.config.layer_types = ["full_attention", "full_attention"]
    write_model(model, tmp_path)
    assert layers_of_transformers_4(tmp_path)[1][0] == "full_attention"
    model[0].model.config.layer_types = ["sliding_attention", "full_attention"]
    write_model(model, tmp_path)
    with pytest.raises(TypeError):
        layers_of_transformers_4(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).layer_types == ["sliding_attention", "full_attention"]


def test_exports_are_read_too(child_of, folder_of, tmp_path):
    for folder in (child_of("bert", "vocabulary"), folder_of("qwen3")):
        out = gaprune.export_model(folder, to="onnx", out=tmp_path / folder.parent.name).path
        truth = _truth(folder)
        assert fastembed(out).max_length == truth["max_length"]
        transformers_js(out)
        for name in ("text_embeddings_inference", "vllm"):
            assert READERS[name](out).pooling == truth["pooling"]


class TestParentsOwnFiles:
    """They are kept where they are still true."""

    @pytest.fixture
    def parent(self, folder_of, tmp_path):
        """A BERT as version 2 of sentence-transformers wrote it."""
        folder = tmp_path / "parent"
        write_model(load_model(folder_of("bert"), device="cpu"), folder)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        words = sorted(tokenizer.get_vocab(), key=tokenizer.token_to_id)
        (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
        (folder / "sentencepiece.bpe.model").write_bytes(b"words")
        (folder / "special_tokens_map.json").write_text(
            '{"cls_token": {"content": "[CLS]", "lstrip": false, "normalized": false, "rstrip": false, '
            '"single_word": false}, "sep_token": "[SEP]", "pad_token": "[PAD]", "unk_token": "[UNK]"}',
            encoding="utf-8",
        )
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"never_split": None}), encoding="utf-8")
        (folder / "config_sentence_transformers.json").write_text('{"__version__": {"pytorch": "1.8"}}')
        return folder

    def same(self, parent, child, name):
        return (child / name).is_file() and (parent / name).read_bytes() == (child / name).read_bytes()

    def test_all_of_them_if_the_vocabulary_is_whole(self, parent, tmp_path):
        gaprune.prune(parent, criterion="magnitude", sparsity=0.5, device="cpu", out=tmp_path / "child")
        for name in (
            "vocab.txt", "sentencepiece.bpe.model", "special_tokens_map.json", "config_sentence_transformers.json",
        ):  # fmt: skip
            assert self.same(parent, tmp_path / "child", name), name
        assert "never_split" in json.loads((tmp_path / "child" / "tokenizer_config.json").read_text())

    def test_those_of_a_cut_vocabulary_are_new_or_left_out(self, parent, tmp_path):
        (tmp_path / "texts.txt").write_text(TEXTS[0], encoding="utf-8")
        child = tmp_path / "child"
        gaprune.prune(parent, vocabulary=str(tmp_path / "texts.txt"), device="cpu", out=child)
        tokenizer = Tokenizer.from_file(str(child / "tokenizer.json"))
        words = (child / "vocab.txt").read_text(encoding="utf-8").splitlines()
        assert {word: index for index, word in enumerate(words)} == tokenizer.get_vocab()
        assert not (child / "sentencepiece.bpe.model").exists()
        assert self.same(parent, child, "special_tokens_map.json")

    def test_not_one_that_has_become_wrong(self, parent, tmp_path):
        model = load_model(parent, device="cpu")
        model.prompts = {"query": "find: ", "document": ""}
        model.tokenizer.add_tokens(["cashflow"])
        write_model(model, tmp_path / "child")
        assert load_model(tmp_path / "child", device="cpu").prompts["query"] == "find: "
        assert "cashflow" in Tokenizer.from_file(str(tmp_path / "child" / "tokenizer.json")).get_vocab()


class TestWhatTheEarlierFormCannotSay:
    """It is left as sentence-transformers 6 writes it, which releases before it refuse."""

    def test_pooled_in_another_order(self, folder_of, tmp_path):
        network = Transformer(str(folder_of("bert")))
        model = SentenceTransformer(modules=[network, Pooling(32, pooling_mode=("mean", "cls"))], device="cpu")
        write_model(model, tmp_path)
        assert (SentenceTransformer(str(tmp_path), device="cpu").encode("cash") == model.encode("cash")).all()
        with pytest.raises(AssertionError):
            READERS["sentence_transformers"](tmp_path)

    def test_a_module_that_reads_something_else(self, folder_of, tmp_path):
        modules = [Transformer(str(folder_of("bert"))), Pooling(32), Normalize(module_input_name="token_embeddings")]
        model = SentenceTransformer(modules=modules, device="cpu")
        write_model(model, tmp_path)
        opened = SentenceTransformer(str(tmp_path), device="cpu")
        assert opened[2].module_input_name == "token_embeddings"
        with pytest.raises(AssertionError):
            READERS["sentence_transformers"](tmp_path)

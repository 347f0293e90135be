"""A model with fewer tokens: the same for texts that need no other, and whole in every file, number and promise."""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

from families import TEXTS
from gaprune.data.read import read_texts
from gaprune.data.samples import sample_triplets
from gaprune.errors import ConfigError, MissingExtraError, ModelError
from gaprune.models.load import load_model
from gaprune.models.vocabulary import vocabulary
from gaprune.pruning.cut_vocabulary import cut_vocabulary
from gaprune.pruning.kept_tokens import close_vocabulary, rank_tokens, used_tokens

CORPUS = TEXTS[:2]
OTHERS = (
    *TEXTS[2:],
    "",
    " ",
    "Ünïcode 😀 中文 ĸ\u0301\u200d",
    "<unk> [UNK] <pad>[PAD] </s>",
    "zq" * 300,
    "\x00\ufffd",
)


def _cut(model, texts=CORPUS):
    return cut_vocabulary(model, used_tokens(model, texts).keys())


def _table(model):
    return model.transformers_model.get_input_embeddings().weight


def _tokens(model, text):
    tokenizer = model.tokenizer
    return tokenizer.convert_ids_to_tokens(tokenizer(text, verbose=False)["input_ids"])


def _named_tokens(model):
    """The token or foreign number behind every id that the configuration names."""
    ids = {token_id: token for token, token_id in model.tokenizer.get_vocab().items()}
    named = {name: value for name, value in model.transformers_model.config.to_dict().items() if name.endswith("_id")}
    return {name: ids.get(value, value) for name, value in named.items()}


@pytest.fixture(scope="module")
def parent(family_folder):
    return load_model(family_folder, device="cpu")


@pytest.fixture(scope="module")
def parts(parent):
    """The parent with a copy of its state before, its child, and what was kept."""
    before = {name: tensor.clone() for name, tensor in parent.state_dict().items()}
    files = parent.tokenizer.backend_tokenizer.to_str(), parent.transformers_model.config.to_dict()
    return before, files, *_cut(parent)


class TestFamilies:
    @pytest.mark.parametrize("prompted", [False, True])
    def test_texts_of_the_corpus_keep_tokens_and_embeddings(self, parent, parts, prompted):
        child, cut = parts[2:]
        assert cut.removed > 5
        for prompt in parent.prompts.values() if prompted else [None]:
            texts = [(prompt or "") + text for text in CORPUS]
            assert [_tokens(child, text) for text in texts] == [_tokens(parent, text) for text in texts]
            first, second = (one.encode(list(CORPUS), prompt=prompt) for one in (parent, child))
            np.testing.assert_allclose(second, first, atol=1e-5)

    def test_every_row_is_its_tokens(self, parent, parts):
        child, cut = parts[2:]
        old, new = parent.tokenizer.get_vocab(), child.tokenizer.get_vocab()
        assert [old[token] for token in sorted(new, key=new.get)] == list(cut.kept[: len(new)])
        assert torch.equal(_table(child), _table(parent)[list(cut.kept)])
        assert sorted(new.values()) == list(range(len(new)))
        assert child.transformers_model.config.vocab_size == len(cut.kept) == len(_table(child))
        assert cut.rows == len(_table(parent))
        assert cut.sparsity == pytest.approx(cut.removed / cut.rows)
        assert sum(cut.reasons.values()) == len(cut.kept)

    def test_every_other_text_has_tokens(self, parent, parts):
        child = parts[2]
        assert np.isfinite(child.encode(list(OTHERS))).all()
        unknown = parent.tokenizer.unk_token
        for text in TEXTS:  # of known characters: the same text in smaller pieces
            pieces = [_tokens(one, text) for one in (parent, child)]
            whole, spelled = ("".join(each.removeprefix("##") for each in tokens) for tokens in pieces)
            assert whole == spelled
            assert pieces[1].count(unknown) == pieces[0].count(unknown)

    def test_configurations_name_the_same_tokens(self, parent, parts):
        child, cut = parts[2:]
        assert _named_tokens(child) == _named_tokens(parent)
        special = parent.tokenizer.special_tokens_map.items()
        assert child.tokenizer.special_tokens_map == {role: each for role, each in special if each not in cut.rowless}
        padding = [one.transformers_model.get_input_embeddings().padding_idx for one in (parent, child)]
        assert padding[0] == (None if padding[1] is None else cut.kept[padding[1]])

    def test_round_trip(self, parts, tmp_path):
        child = parts[2]
        texts = [*CORPUS, *OTHERS]
        expected = child.encode(texts)
        child.save_pretrained(str(tmp_path), create_model_card=False)
        np.testing.assert_allclose(load_model(tmp_path, device="cpu").encode(texts), expected, atol=1e-6)
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
        network, info = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
        assert not any(info.values())
        assert tokenizer.get_vocab() == child.tokenizer.get_vocab()
        batch = tokenizer(list(CORPUS), padding=True, return_tensors="pt")
        inputs = child.preprocess(list(CORPUS))
        assert torch.equal(batch["input_ids"], inputs["input_ids"])
        assert batch["input_ids"].max() < network.config.vocab_size == len(network.get_input_embeddings().weight)
        written = "".join(file.read_text() for file in tmp_path.glob("*.json"))
        assert tempfile.gettempdir() not in written, "no traces of how it was made"

    def test_the_parent_is_untouched(self, parent, parts):
        before, (tokenizer, config), child, _ = parts
        after = parent.state_dict()
        assert after.keys() == before.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())
        content = [json.loads(each) for each in (tokenizer, parent.tokenizer.backend_tokenizer.to_str())]
        assert content[0]["model"] == content[1]["model"]
        assert content[0]["added_tokens"] == content[1]["added_tokens"]
        assert parent.transformers_model.config.to_dict() == config
        left, right = ({each.data_ptr() for each in one.state_dict().values()} for one in (parent, child))
        assert left.isdisjoint(right)
        assert child.prompts == parent.prompts
        assert child.dtype == parent.dtype
        assert [type(module) for module in child.modules()] == [type(module) for module in parent.modules()]
        random = torch.get_rng_state()
        again, _ = _cut(parent)
        assert torch.equal(torch.get_rng_state(), random)
        assert again.training == parent.training  # that of the shared child is as the test before left it

    def test_again_is_the_same(self, parent, parts):
        child, cut = parts[2:]
        twice, second = _cut(child)
        assert second.removed == 0
        assert all(torch.equal(tensor, child.state_dict()[name]) for name, tensor in twice.state_dict().items())
        assert close_vocabulary(parent, cut.kept).kept == cut.kept


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_types_buffers_and_freezing_follow(folder_of, dtype):
    parent = load_model(folder_of("gemma"), device="cpu", dtype=dtype)
    frozen = next(parent.parameters())
    frozen.requires_grad_(requires_grad=False)
    parent.train()
    child, _ = _cut(parent)
    assert [(n, p.dtype, p.requires_grad) for n, p in child.named_parameters()] == [
        (n, p.dtype, p.requires_grad) for n, p in parent.named_parameters()
    ]
    buffers = dict(parent.named_buffers())
    assert dict(child.named_buffers()).keys() == buffers.keys()
    assert all(torch.equal(each, buffers[name]) for name, each in child.named_buffers())
    assert all(module.training for module in child.modules())


def test_what_the_parent_remembered_of_prompts_is_forgotten(folder_of):
    parent = load_model(folder_of("qwen3"), device="cpu")
    prompt = "un un"  # no prompt of the model, and longer without its token
    before = parent.preprocess(["a"], prompt=prompt)["prompt_length"]
    child, _ = _cut(parent)
    assert child.preprocess(["a"], prompt=prompt)["prompt_length"] > before
    assert child.preprocess(["a"], prompt=prompt)["prompt_length"] == len(child.tokenizer(prompt)["input_ids"]) - 1


@pytest.fixture
def tied(folder_of, tmp_path):
    """A T5 encoder, whose table stands in its checkpoint twice."""
    tokenizer = load_model(folder_of("xlm-roberta"), device="cpu").tokenizer
    config = transformers.T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=2,
        num_heads=4,
        pad_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(0)
    network = transformers.T5EncoderModel(config)
    network.tie_weights()  # construction ties them only while transformers initialises weights
    network.save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    return SentenceTransformer(modules=[Transformer(str(tmp_path / "t5")), Pooling(16)], device="cpu")


def test_tied_tables_stay_one(tied, tmp_path):
    place = vocabulary(tied)
    assert place.table == "shared.weight"
    child, cut = _cut(tied)
    assert child.transformers_model.shared.weight is child.transformers_model.encoder.embed_tokens.weight
    assert len(_table(child)) == len(cut.kept) < cut.rows
    np.testing.assert_allclose(child.encode(list(CORPUS)), tied.encode(list(CORPUS)), atol=1e-5)
    child.save_pretrained(str(tmp_path / "child"), create_model_card=False)
    again = SentenceTransformer(str(tmp_path / "child"), device="cpu")
    np.testing.assert_allclose(again.encode(list(CORPUS)), child.encode(list(CORPUS)), atol=1e-6)


@pytest.mark.genuine
def test_the_genuine_model_on_its_domain(genuine, tmp_path):
    parent = load_model(genuine, device="cpu")
    texts = read_texts(sample_triplets("finance"))[:60]
    child, cut = _cut(parent, texts)
    assert cut.sparsity > 0.7
    np.testing.assert_allclose(child.encode(texts[:12]), parent.encode(texts[:12]), atol=1e-5)
    child.save_pretrained(str(tmp_path), create_model_card=False)
    others = read_texts(sample_triplets("chemistry"))[:6]
    again = load_model(tmp_path, device="cpu")
    np.testing.assert_allclose(again.encode(others), child.encode(others), atol=1e-5)
    assert [again.tokenizer.tokenize(text) for text in others] != [parent.tokenizer.tokenize(text) for text in others]


class TestUse:
    def test_counts_of_whole_texts(self, bert):
        text = "cash and " * 100  # longer than the model takes
        plain = Counter(bert.tokenizer([text, "cash"], verbose=False)["input_ids"][0])
        plain += Counter(bert.tokenizer(["cash"])["input_ids"][0])
        assert used_tokens(bert, iter([text, "cash"])) == plain
        assert plain[bert.tokenizer.pad_token_id] == 0

    def test_prompts_meet_the_texts(self, folder_of):
        model = load_model(folder_of("xlm-roberta"), device="cpu")
        model.prompts = {"query": "the co", "document": ""}
        alone, met = (set(model.tokenizer(text)["input_ids"]) for text in ("sts", "the costs"))
        counts = used_tokens(model, ["sts"])
        assert counts.keys() == alone | met
        assert met - alone
        further = used_tokens(model, ["sts"], prompts=["the co", "a ", ""])
        assert further == counts + Counter(model.tokenizer("a sts")["input_ids"]), "each prompt once"

    def test_rank_keeps_the_most_frequent(self, parent):
        counts = used_tokens(parent, TEXTS)
        needed = set(close_vocabulary(parent, ()).kept)
        rows = len(_table(parent))
        least = len(needed) / rows
        for part in (0.0, 0.3, 0.7):
            sparsity = part * (1 - least)
            cut = rank_tokens(parent, counts, sparsity)
            assert cut.removed == pytest.approx(sparsity * rows, abs=2)
            assert cut.removed >= round(sparsity * rows)
            assert close_vocabulary(parent, cut.kept).kept == cut.kept, "closed"
            if parent.tokenizer.backend_tokenizer.model.__class__.__name__ != "BPE":  # there, ways come along
                wanted = [counts[each] for each in cut.kept if each not in needed]
                gone = [counts[each] for each in range(rows) if each not in cut.kept]
                assert min(wanted, default=0) >= max(gone, default=0)

    def test_rank_says_how_much_is_possible(self, bert):
        with pytest.raises(ConfigError) as caught:
            rank_tokens(bert, {}, 0.5)
        assert caught.value.problem == (
            "vocabulary: sparsity 0.5 leaves 45 of 91 rows, and 62 are needed for special tokens, prompts and to spell"
            " texts."
        )
        most = float(caught.value.remedy.removeprefix("Ask for at most ").removesuffix("."))
        assert rank_tokens(bert, {}, most).removed == 91 - 62
        with pytest.raises(ConfigError, match=r"sparsity 1 is outside 0 to 1"):
            rank_tokens(bert, {}, 1)


class TestRefusals:
    def test_without_the_extra(self, bert, monkeypatch):
        monkeypatch.setitem(sys.modules, "skeletoken", None)
        with pytest.raises(MissingExtraError, match=r"Cutting a vocabulary needs .*\nInstall .*gaprune\[vocabulary\]"):
            cut_vocabulary(bert, ())

    @pytest.mark.parametrize("stranger", [-1, 91])
    def test_an_id_of_another_model(self, bert, stranger):
        with pytest.raises(ConfigError, match=rf"The token id {stranger} is not a row of the model's table of 91\."):
            cut_vocabulary(bert, {5, stranger})

    def test_a_model_without_a_transformer(self, bert):
        static = SentenceTransformer(modules=[StaticEmbedding(bert.tokenizer, embedding_dim=8)], device="cpu")
        with pytest.raises(ModelError, match="first module is a StaticEmbedding, not a transformer"):
            vocabulary(static)

    def test_padding_without_a_row(self, bert):
        bert.tokenizer.add_special_tokens({"pad_token": "[NEW]"})
        with pytest.raises(ModelError, match=r"'\[NEW\]' has the id 91, the embedding table 91 rows"):
            vocabulary(bert)

    def test_a_table_that_is_none(self, bert):
        bert.transformers_model.set_input_embeddings(torch.nn.Linear(2, 2))
        with pytest.raises(ModelError, match="token embeddings of this BertModel are a Linear, not a table"):
            vocabulary(bert)

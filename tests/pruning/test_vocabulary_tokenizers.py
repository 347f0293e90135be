"""Tokenizers as they are found: trained on real texts, with bytes, added tokens and numbers in odd places."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from families import FAMILIES
from gaprune.data.read import read_texts
from gaprune.data.samples import sample_triplets
from gaprune.errors import ModelError
from gaprune.models.load import load_model
from gaprune.pruning.cut_vocabulary import cut_vocabulary
from gaprune.pruning.kept_tokens import close_vocabulary, rank_tokens, used_tokens

STRANGE = "Ω≈ç 😀 中文 naïve \x07 zzzqqq"
NASTY = (
    "",
    " \t\r\n ",
    "\x00\x07\x1b[0m\x7f",
    "\u200b\u202eright to left\u202c\ufeff\ufffd",
    "😀👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 \U0001f1e9\U0001f1ea",
    "東京都の天気は晴れ、한국어 العربية עברית ไทย हिन्दी",
    "é e\u0301 ﬁ ½ Ⅻ \u1e9e İ",
    "company" * 40,
    "x" * 5000,
    "the " * 2000,
    "<|endoftext|> [MASK] <unk> </s> ##ing ▁the Ġthe <0x0A> </w>",
)
"""What users' texts hold sooner or later."""


@pytest.fixture(scope="module")
def texts():
    """Real texts: a corpus, and others."""
    found = read_texts(sample_triplets("finance"))[:60] + read_texts(sample_triplets("chemistry"))[:60]
    return found[:60], found[60:]


def _trained(tokenizer, trainer, texts):
    tokenizer.train_from_iterator(texts[0] + texts[1], trainer)
    return tokenizer


def _word_piece(texts):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 (no password)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    tokenizer = _trained(tokenizer, trainer, texts)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def _byte_level(texts, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1500, initial_alphabet=alphabet, show_progress=False)
    tokenizer = _trained(tokenizer, trainer, texts)
    # As Qwen's: behind the vocabulary, not in it, and one that ordinary texts hold.
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>"])
    tokenizer.add_tokens([AddedToken("company", normalized=False)])
    end = tokenizer.token_to_id("<|endoftext|>")
    template = processors.TemplateProcessing(single="$A <|endoftext|>", special_tokens=[("<|endoftext|>", end)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tokenizer


def _whole_words_first(texts):
    return _byte_level(texts, ignore_merges=True)


def _byte_fallback(texts):
    """As Gemma's: characters first, bytes for the rest."""
    options = {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<pad>", "</s>", "<s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special, show_progress=False)
    tokenizer = _trained(tokenizer, trainer, texts)
    content = json.loads(tokenizer.to_str())
    content["added_tokens"] = content["added_tokens"][:4]  # bytes are no added tokens
    tokenizer = Tokenizer.from_str(json.dumps(content))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 1)]
    )
    return tokenizer


def _word_ends(texts):
    """As CLIP's: the last character of a word is marked."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<pad>"))  # noqa: S106 (no password)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=1500, end_of_word_suffix="</w>", special_tokens=["<pad>", "<s>", "</s>"], show_progress=False
    )
    tokenizer = _trained(tokenizer, trainer, texts)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 1))
    return tokenizer


def _unigram(texts, **options):
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=1500, show_progress=False)
    tokenizer = _trained(tokenizer, trainer, texts)
    content = json.loads(tokenizer.to_str())
    # The special tokens stand last, so that their numbers move when others go.
    content["model"]["vocab"] += [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
    content["model"] |= {"unk_id": len(content["model"]["vocab"]) - 1, **options}
    tokenizer = Tokenizer.from_str(json.dumps(content))
    ends = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    return tokenizer


KINDS = {
    "WordPiece": ("bert", _word_piece),
    "byte-level BPE": ("qwen3", _byte_level),
    "byte-level BPE, whole words first": ("qwen3", _whole_words_first),
    "BPE with bytes": ("gemma", _byte_fallback),
    "BPE with word ends": ("llama", _word_ends),
    "Unigram": ("mistral", _unigram),
}


@pytest.fixture(scope="module", params=list(KINDS))
def parent(request, texts, tmp_path_factory):
    family, make = KINDS[request.param]
    builder = dataclasses.replace(FAMILIES[family], tokenizer=lambda: make(texts))
    return load_model(builder(tmp_path_factory.mktemp("kind")), device="cpu")


def _tokens(model, text):
    tokenizer = model.tokenizer
    return tokenizer.convert_ids_to_tokens(tokenizer(text, verbose=False)["input_ids"])


def _joined(tokens):
    """The text as bytes, so that it does not matter which characters are spelled in bytes."""
    spelled = ((token, re.fullmatch("<0x(..)>", token)) for token in tokens)
    return b"".join(bytes.fromhex(byte[1]) if byte else token.removeprefix("##").encode() for token, byte in spelled)


def _check(parent, child, corpus, others):
    for text in [*corpus, ""]:
        assert _tokens(child, text) == _tokens(parent, text)
    shorter = 0
    for text in others:
        pieces = [_tokens(one, text) for one in (parent, child)]
        assert _joined(pieces[0]) == _joined(pieces[1])
        shorter += len(pieces[0]) < len(pieces[1])
    assert shorter > len(others) / 2
    first, second = (one.encode(corpus[:20]) for one in (parent, child))
    np.testing.assert_allclose(second, first, atol=1e-5)
    assert np.isfinite(child.encode([STRANGE, *others[:5]])).all()


def test_corpus_as_before_and_the_rest_in_pieces(parent, texts, tmp_path):
    corpus, others = texts
    child, cut = cut_vocabulary(parent, used_tokens(parent, corpus).keys())
    assert 0.1 < cut.sparsity < 0.9
    _check(parent, child, corpus, others)
    child.save_pretrained(str(tmp_path), create_model_card=False)
    again = SentenceTransformer(str(tmp_path), device="cpu")
    assert [_tokens(again, text) for text in others] == [_tokens(child, text) for text in others]
    assert _tokens(child, STRANGE) == _tokens(again, STRANGE)
    assert child.tokenizer.unk_token == parent.tokenizer.unk_token
    added = [{str(each) for each in one.tokenizer.added_tokens_decoder.values()} for one in (parent, child)]
    assert added[0] == added[1]
    for role in ("pad", "unk", "bos", "eos"):
        old, new = (getattr(one.tokenizer, f"{role}_token_id") for one in (parent, child))
        assert old == (None if new is None else cut.kept[new])


def test_every_text_still_has_tokens(parent, texts):
    child, cut = cut_vocabulary(parent, used_tokens(parent, texts[0][:20]).keys())
    unknown = parent.tokenizer.unk_token
    for text in NASTY:
        before, after = (_tokens(one, text) for one in (parent, child))
        if unknown not in before:
            assert _joined(after) == _joined(before)
        else:
            assert unknown in after
        assert max(child.tokenizer(text, verbose=False)["input_ids"], default=0) < len(cut.kept)
    assert np.isfinite(child.encode([text[:200] for text in NASTY])).all()


def test_unknown_characters_stay_unknown(parent, texts):
    """What no token spells is as unknown as it was, even beside tokens of the corpus."""
    corpus = [f"{text} {STRANGE}" for text in texts[0]]
    child, _ = cut_vocabulary(parent, used_tokens(parent, corpus).keys())
    assert [_tokens(child, text) for text in corpus] == [_tokens(parent, text) for text in corpus]
    np.testing.assert_allclose(child.encode(corpus[:5]), parent.encode(corpus[:5]), atol=1e-5)


def _pieces(*pieces, unknown):
    tokenizer = Tokenizer(models.Unigram(list(pieces), unk_id=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def test_unknown_characters_cost_what_they_did(tmp_path):
    """With the least likely piece gone, an unknown character would be cheaper than two unlikely pieces."""
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    letters = [("▁", -1.0), ("a", -45.0), ("b", -45.0), ("c", -1.0), ("ab", -1.0)]
    tokenizer = _pieces(*special, *letters, ("☃a", -40.0), ("bc", -40.0), ("zz", -100.0), unknown=3)
    parent = load_model(dataclasses.replace(FAMILIES["xlm-roberta"], tokenizer=lambda: tokenizer)(tmp_path))
    assert _tokens(parent, "☃abc") == ["▁", "☃a", "bc"]
    child, _ = cut_vocabulary(parent, used_tokens(parent, ["☃abc", "ab"]).keys())
    assert _tokens(child, "☃abc") == ["▁", "☃a", "bc"]


def test_positions_that_count_from_the_padding_token(tmp_path):
    """As RoBERTa's, but with the padding token behind tokens that no text needs."""
    words = [("▁rare", -5.0), ("▁seldom", -5.0), ("▁never", -5.0), ("▁at", -5.0)]
    rest = [("<pad>", 0.0), ("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), ("▁cash", -4.0), ("▁loan", -4.0)]
    tokenizer = _pieces(*words, *rest, unknown=5)
    parent = load_model(dataclasses.replace(FAMILIES["xlm-roberta"], tokenizer=lambda: tokenizer)(tmp_path))
    parent.prompts = {}
    child, cut = cut_vocabulary(parent, used_tokens(parent, ["cash"]).keys())
    assert cut.removed == 1
    assert child.transformers_model.config.pad_token_id == 4
    np.testing.assert_allclose(child.encode(["cash", "cash cash"]), parent.encode(["cash", "cash cash"]), atol=1e-5)


def test_a_budget_is_met_to_the_row(parent, texts):
    counts = used_tokens(parent, texts[0])
    needed = len(close_vocabulary(parent, ()).kept)
    rows = len(parent.transformers_model.get_input_embeddings().weight)
    cut = rank_tokens(parent, counts, 0.5 * (1 - needed / rows))
    assert cut.removed == round(0.5 * (rows - needed))
    child, same = cut_vocabulary(parent, cut.kept)
    assert same.kept == cut.kept
    assert np.isfinite(child.encode(texts[1][:5])).all()


def test_a_token_without_a_row(folder_of, tmp_path):
    """As EmbeddingGemma's image token, whose number is one behind the table."""
    parent = load_model(folder_of("bert"), device="cpu")
    parent.tokenizer.add_special_tokens({"extra_special_tokens": ["<image>"]})
    child, cut = cut_vocabulary(parent, used_tokens(parent, ["the bank"]).keys())
    assert cut.rowless == ("<image>",)
    child.save_pretrained(str(tmp_path), create_model_card=False)
    again = load_model(tmp_path, device="cpu")
    assert len(again.tokenizer) == len(again.transformers_model.get_input_embeddings().weight) == len(cut.kept)
    assert np.isfinite(again.encode("the <image>")).all()


def test_a_row_without_a_token(folder_of):
    """As in tables padded to a round size; a row that the configuration names stays, the others go."""
    parent = load_model(folder_of("mistral"), device="cpu")
    network = parent.transformers_model
    network.resize_token_embeddings(128)
    network.config.eos_token_id = [2, 120]
    child, cut = cut_vocabulary(parent, used_tokens(parent, ["the bank"]).keys())
    assert cut.kept[-1] == 120
    assert child.transformers_model.config.vocab_size == len(child.tokenizer) + 1
    assert child.transformers_model.config.eos_token_id == [child.tokenizer.eos_token_id, len(child.tokenizer)]
    np.testing.assert_allclose(child.encode("the bank"), parent.encode("the bank"), atol=1e-5)


def test_a_tokenizer_of_another_type(folder_of, tmp_path):
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "bank": 4}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no password)
    parent = load_model(dataclasses.replace(FAMILIES["bert"], tokenizer=lambda: words)(tmp_path), device="cpu")
    with pytest.raises(ModelError) as caught:
        close_vocabulary(parent, ())
    assert caught.value.problem == "The tokenizer is of the type WordLevel; WordPiece, BPE and Unigram can be cut."
    assert caught.value.remedy == "Choose a model with one of these, or leave its vocabulary whole."

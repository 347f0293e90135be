"""Tokenizers as llama.cpp has them, for whole and for cut vocabularies.

llama.cpp's own converter recognises a tokenizer by how it splits a certain text, so it refuses a vocabulary that was
cut. The rule by which words are split is the parent's; here it is recognised by the settings of the tokenizer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gaprune.errors import ModelError
from gaprune.models.blocks import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BERT_ROLES = {"bos": "cls_token_id", "eos": "sep_token_id", "unk": "unk_token_id", "sep": "sep_token_id"} | {
    "pad": "pad_token_id",
    "mask": "mask_token_id",
}
"""Roles in llama.cpp by the token of BERT that has it."""

_PRE = {"bert": "jina-v2-en", "llama": "default"}
"""What the converter writes where the runtime splits by the kind of tokenizer alone."""

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How the tokenizers of Qwen 2 and 3 split a text into words."""

_SPACE = "▁"
_WORD = "cash"


def kind_of(model: SentenceTransformer) -> tuple[str, str] | None:
    """Return the kind of tokenizer and the rule for words, by llama.cpp's names; ``None`` for any other.

    The kinds are ``bert`` (WordPiece of BERT), ``gpt2`` (BPE over bytes, by the rules of GPT-2 or Qwen 2) and
    ``llama`` (BPE as SentencePiece makes it, with single bytes for what is unknown).
    """
    settings = _settings(model)
    pieces, normalizer = settings.get("model") or {}, settings.get("normalizer") or {}
    types, splits = (pieces.get("type"), normalizer.get("type")), settings.get("pre_tokenizer") or {}
    if types == ("WordPiece", "BertNormalizer") and splits.get("type") == "BertPreTokenizer":
        return ("bert", _PRE["bert"]) if pieces["continuing_subword_prefix"] == "##" else None
    plain = not any(pieces.get(name) for name in ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges"))
    if types[0] != "BPE" or not plain:
        return None
    if pieces.get("byte_fallback"):
        escapes = normalizer.get("pattern") == {"String": " "} and normalizer.get("content") == _SPACE
        return ("llama", _PRE["llama"]) if types[1] == "Replace" and escapes and _is_complete(pieces) else None
    pre = _words(splits)
    return ("gpt2", pre) if pre and types[1] in (None, "NFC") else None


def add_tokens(writer: Any, model: SentenceTransformer) -> None:
    """Write tokens, their types, and how they are joined and framed.

    Args:
        writer: The ``gguf.GGUFWriter``.
        model: A model whose tokenizer has a kind.

    Raises:
        ModelError: If more than one token is put before or after a text.
    """
    kind, pre = kind_of(model) or ("", "")
    settings, tokenizer = _settings(model), model.tokenizer
    texts, types = _tokens(model, kind)
    writer.add_tokenizer_model(kind)
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    if kind == "bert":
        roles = {role: getattr(tokenizer, attribute) for role, attribute in _BERT_ROLES.items()}
        first, last = roles["bos"], roles["eos"]
        writer.add_add_sep_token(False)
        writer.add_bool("tokenizer.ggml.normalizer.lowercase", bool(settings["normalizer"]["lowercase"]))
    else:
        first, last = _frame(tokenizer)
        roles = {"bos": tokenizer.bos_token_id if first is None else first}
        roles |= {"eos": tokenizer.eos_token_id if last is None else last}
        roles |= {"unk": tokenizer.unk_token_id, "pad": tokenizer.pad_token_id}
    if kind == "gpt2":
        writer.add_token_merges([" ".join(pair) for pair in _merges(settings["model"])])
    if kind == "llama":
        ranks: dict[str, int] = {}
        for rank, pair in enumerate(_merges(settings["model"])):
            ranks.setdefault("".join(pair), rank)
        writer.add_token_scores([-float(ranks.get(text, 0)) for text in texts])
        writer.add_add_space_prefix(False)
    for role, index in roles.items():
        if index is not None:
            getattr(writer, f"add_{role}_token_id")(index)
    writer.add_add_bos_token(first is not None)
    writer.add_add_eos_token(last is not None)


def _tokens(model: SentenceTransformer, kind: str) -> tuple[list[str], list[int]]:
    """Return text and type of every token; rows of the embedding table without a token are unused."""
    from gguf import TokenType

    tokenizer, settings = model.tokenizer, _settings(model)
    added = {each["content"]: each["special"] for each in settings["added_tokens"]}
    table: Any = transformer_of(model).get_input_embeddings()
    rows = table.weight.shape[0]
    texts, types = [f"[PAD{index}]" for index in range(rows)], [int(TokenType.UNUSED)] * rows
    for token, index in tokenizer.get_vocab().items():
        text, of_type = token, TokenType.NORMAL
        if added.get(token):
            of_type = TokenType.CONTROL
        elif token in added:
            text, of_type = token.replace(_SPACE, " ") if kind == "llama" else token, TokenType.USER_DEFINED
        elif kind == "llama" and token == f"<0x{token[3:5]}>":
            of_type = TokenType.BYTE
        if kind == "bert" and of_type != TokenType.CONTROL:  # the beginning of a word is marked, not its continuation
            text = token[2:] if token.startswith("##") else f"{_SPACE}{token}"
        texts[index], types[index] = text, int(of_type)
    return texts, types


def _frame(tokenizer: Any) -> tuple[int | None, int | None]:
    """Return the token put before every text, and the one after it."""
    whole, inner = tokenizer(_WORD)["input_ids"], tokenizer(_WORD, add_special_tokens=False)["input_ids"]
    start = next((at for at in range(len(whole)) if whole[at : at + len(inner)] == inner), 0) if inner else 0
    first, last = whole[:start], whole[start + len(inner) :]
    if not inner or max(len(first), len(last)) > 1:
        raise ModelError(
            f"The tokenizer makes {whole} of the word {_WORD!r}; GGUF has room for one token before a text and one "
            "after it.",
            "Use --to onnx.",
        )
    return next(iter(first), None), next(iter(last), None)


def _words(pre_tokenizer: dict[str, Any]) -> str | None:
    """Return llama.cpp's name of the rule by which a text is split into words."""

    def bytes_only(step: dict[str, Any], *, split: bool) -> bool:
        return (step.get("type"), step.get("add_prefix_space"), step.get("use_regex")) == ("ByteLevel", False, split)

    if bytes_only(pre_tokenizer, split=True):
        return "gpt-2"
    steps = pre_tokenizer.get("pretokenizers") or []
    if len(steps) == 2 and steps[0].get("pattern") == {"Regex": QWEN2} and bytes_only(steps[1], split=False):
        return "qwen2" if (steps[0]["behavior"], steps[0]["invert"]) == ("Isolated", False) else None
    return None


def _is_complete(pieces: dict[str, Any]) -> bool:
    """Return whether every two pieces that form a third are merged; llama.cpp merges them by the third alone."""
    vocabulary, merges = pieces["vocab"], set(_merges(pieces))
    made = {"".join(pair) for pair in merges}
    return all(
        (token[:cut], token[cut:]) in merges
        for token in made
        for cut in range(1, len(token))
        if token[:cut] in vocabulary and token[cut:] in vocabulary
    )


def _merges(pieces: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (merge if isinstance(merge, list) else merge.split(" ") for merge in pieces["merges"])
    return [(first, second) for first, second in pairs]


def _settings(model: SentenceTransformer) -> dict[str, Any]:
    backend = getattr(model.tokenizer, "backend_tokenizer", None)
    return {} if backend is None else dict(json.loads(backend.to_str()))

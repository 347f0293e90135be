"""The families that are written as GGUF, with tokenizers of the kinds that genuine models have."""

from __future__ import annotations

from dataclasses import replace

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from families import FAMILIES, TEXTS, Builder, decoder, framed
from gaprune.export.gguf_tokens import QWEN2

__all__ = ["GGUF_FAMILIES"]


def _as_qwen() -> Tokenizer:
    tokenizer = FAMILIES["qwen3"].tokenizer()
    split = pre_tokenizers.Split(Regex(QWEN2), "isolated")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    return tokenizer


def _as_gemma() -> Tokenizer:
    """Pieces as SentencePiece makes them: spaces are a letter, and what is unknown is spelled in bytes."""
    words = dict.fromkeys(word for text in TEXTS for word in text.split())
    pieces = dict.fromkeys(letter for text in TEXTS for letter in text.replace(" ", "▁"))
    for word in words:
        pieces |= dict.fromkeys(word[:end] for end in range(2, len(word) + 1))
        pieces[f"▁{word}"] = None
    pieces |= dict.fromkeys(("▁t", "▁th", "in", "er", "th"))
    first = ("<pad>", "</s>", "<s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)))
    vocabulary = {piece: index for index, piece in enumerate((*first, *pieces))}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in sorted(pieces, key=len)
        for cut in range(1, len(piece))
        if piece[:cut] in pieces and piece[cut:] in pieces
    ]
    model = models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)  # noqa: S106
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return framed(tokenizer, "<s>", "</s>")


_GEMMA = {"sliding_window": 8, "query_pre_attn_scalar": 8, "layer_types": ["sliding_attention", "full_attention"]}

GGUF_FAMILIES: dict[str, Builder] = {
    "bert": FAMILIES["bert"],
    "qwen3": replace(FAMILIES["qwen3"], tokenizer=_as_qwen),
    "gemma": replace(
        FAMILIES["gemma"],
        tokenizer=_as_gemma,
        network=decoder("Gemma3Text", use_bidirectional_attention=True, **_GEMMA),
        tokens={"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"},
    ),
}

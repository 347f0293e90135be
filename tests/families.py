"""Tiny randomly initialised models of every family, with real tokenizers, made on the spot and offline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import transformers
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

__all__ = ["FAMILIES", "Builder", "build", "decoder", "framed"]

TEXTS = (
    "the bank raised the rate of interest on every loan it had lent",
    "net income of the quarter was lower than a year before",
    "cash and cash equivalents at the end of the period",
    "which asset does the company lease to others",
    "a dog runs over green grass and a cat sleeps in the sun",
    "how many shares were sold in the first quarter of 2019",
    "revenue grew by 12 per cent, costs by 7 per cent",
)
"""What the tokenizers know, and near what the toy triplets say."""

_HIDDEN, _INTERMEDIATE, _LAYERS, _HEADS, _POSITIONS = 32, 48, 2, 4, 64


_LETTERS = sorted({letter for text in TEXTS for letter in text if letter != " "})
_WORDS = sorted({word for text in TEXTS for word in text.split()}, key=lambda word: (-len(word), word))[::2]
"""Every other word is a piece of its own, the rest is spelled; nothing is trained, so that a build is repeatable."""


def _word_piece() -> Tokenizer:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *_LETTERS, *(f"##{letter}" for letter in _LETTERS), *_WORDS]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 (no password)
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return framed(tokenizer, "[CLS]", "[SEP]")


def _unigram() -> Tokenizer:
    pieces = dict.fromkeys(("<s>", "<pad>", "</s>", "<unk>"), 0.0)
    pieces |= dict.fromkeys(("▁", *_LETTERS), -8.0) | dict.fromkeys((f"▁{word}" for word in _WORDS), -4.0)
    tokenizer = Tokenizer(models.Unigram(list(pieces.items()), unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return framed(tokenizer, "<s>", "</s>")


def _byte_pairs(first: str | None, last: str | None, pad: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = [token for token in dict.fromkeys((pad, first, last)) if token]
    letters = sorted({letter for text in TEXTS for letter in text.replace(" ", "Ġ")} | set("ABCDEFGHIQRSTW:?'-"))
    tokenizer.train_from_iterator(
        TEXTS,
        trainers.BpeTrainer(vocab_size=96, special_tokens=special, initial_alphabet=letters, show_progress=False),
    )
    return framed(tokenizer, first, last)


def framed(tokenizer: Tokenizer, first: str | None, last: str | None) -> Tokenizer:
    """Put ``first`` before and ``last`` after every text."""
    ends = [token for token in (first, last) if token]
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(filter(None, (first, "$A", last))),
            pair=" ".join(filter(None, (first, "$A", last, "$B", last))),
            special_tokens=[(token, tokenizer.token_to_id(token)) for token in dict.fromkeys(ends)],
        )
    return tokenizer


@dataclass(frozen=True)
class Builder:
    """How one family's tiny model is made, and the layers that should be found in it.

    Args:
        network: Makes the transformer for a vocabulary size and the id of the padding token.
        tokenizer: Makes and trains the tokenizer.
        tokens: Special tokens by their role (``pad_token`` and so on).
        mlp: Linear layers of the MLP in each block, as named inside the block.
        attention: Linear layers of attention in each block, as named inside the block.
        blocks: Path of the list of blocks.
        other: Linear layers outside the blocks.
        pooling: As in sentence-transformers.
        after: Makes the modules after pooling.
        padding: Side that is padded.
        prompts: The model's prompts.
        inputs: What the tokenizer hands to the network.
    """

    network: Callable[[int, int], transformers.PreTrainedModel]
    tokenizer: Callable[[], Tokenizer]
    tokens: dict[str, str]
    blocks: str
    mlp: tuple[str, ...]
    attention: tuple[str, ...]
    other: tuple[str, ...] = ()
    pooling: str = "mean"
    after: Callable[[], list[nn.Module]] = list
    padding: str = "right"
    prompts: dict[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("input_ids", "attention_mask")

    def __call__(self, folder: Path) -> Path:
        """Write the model to ``folder`` as sentence-transformers does and return the folder."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tokenizer = self.tokenizer()
            parts = folder / "parts"
            transformers.PreTrainedTokenizerFast(
                tokenizer_object=tokenizer,
                padding_side=self.padding,
                model_max_length=_POSITIONS - 4,
                model_input_names=list(self.inputs),
                **self.tokens,
            ).save_pretrained(parts)
            network = self.network(tokenizer.get_vocab_size(), tokenizer.token_to_id(self.tokens["pad_token"]))
            _spread(network)
            network.save_pretrained(parts)
            modules = [Transformer(str(parts)), Pooling(_HIDDEN, pooling_mode=self.pooling), *self.after()]
            model = SentenceTransformer(modules=modules, prompts=dict(self.prompts), device="cpu")
        model.save(str(folder / "model"), create_model_card=False)
        return folder / "model"


def _spread(network: nn.Module) -> None:
    """Widen the usual 0.02 initialisation, so that a tiny network tells texts apart and gradients are not tiny."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.5 if "embed" in name else 0.2)


def _bert(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=_HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        intermediate_size=_INTERMEDIATE,
        max_position_embeddings=_POSITIONS,
        pad_token_id=pad,
    )
    return transformers.BertModel(config)


def _xlm_roberta(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
    config = transformers.XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=_HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        intermediate_size=_INTERMEDIATE,
        max_position_embeddings=_POSITIONS,
        type_vocab_size=1,
        pad_token_id=pad,
        bos_token_id=0,
        eos_token_id=2,
    )
    return transformers.XLMRobertaModel(config)


def _mpnet(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
    config = transformers.MPNetConfig(
        vocab_size=vocabulary,
        hidden_size=_HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        intermediate_size=_INTERMEDIATE,
        max_position_embeddings=_POSITIONS,
        pad_token_id=pad,
        bos_token_id=2,
        eos_token_id=3,
    )
    return transformers.MPNetModel(config)


def _distilbert(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
    config = transformers.DistilBertConfig(
        vocab_size=vocabulary,
        dim=_HIDDEN,
        n_layers=_LAYERS,
        n_heads=_HEADS,
        hidden_dim=_INTERMEDIATE,
        max_position_embeddings=_POSITIONS,
        pad_token_id=pad,
    )
    return transformers.DistilBertModel(config)


def _modernbert(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
    config = transformers.ModernBertConfig(
        vocab_size=vocabulary,
        hidden_size=_HIDDEN,
        num_hidden_layers=_LAYERS,
        num_attention_heads=_HEADS,
        intermediate_size=_INTERMEDIATE,
        max_position_embeddings=_POSITIONS,
        global_attn_every_n_layers=2,
        local_attention=8,
        pad_token_id=pad,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.ModernBertModel(config)


def decoder(name: str, **options: object) -> Callable[[int, int], transformers.PreTrainedModel]:
    """Return the maker of a decoder-only network of the architecture ``name``."""

    def network(vocabulary: int, pad: int) -> transformers.PreTrainedModel:
        config = getattr(transformers, f"{name}Config")(
            vocab_size=vocabulary,
            hidden_size=_HIDDEN,
            num_hidden_layers=_LAYERS,
            num_attention_heads=_HEADS,
            num_key_value_heads=2,
            head_dim=_HIDDEN // _HEADS,
            intermediate_size=_INTERMEDIATE,
            max_position_embeddings=_POSITIONS,
            pad_token_id=pad,
            bos_token_id=1,
            eos_token_id=2,
            **options,
        )
        return getattr(transformers, f"{name}Model")(config)

    return network


_BERT_TOKENS = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
}
_XLM_TOKENS = {
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "sep_token": "</s>",
}
_DECODER_TOKENS = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
_QWEN_TOKENS = {"pad_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}
_BERT_ATTENTION = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
_BERT_MLP = ("intermediate.dense", "output.dense")
_LLAMA_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
_LLAMA_MLP = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")

FAMILIES: dict[str, Builder] = {
    "bert": Builder(
        _bert,
        _word_piece,
        _BERT_TOKENS,
        blocks="encoder.layer",
        mlp=_BERT_MLP,
        attention=_BERT_ATTENTION,
        other=("pooler.dense",),
        after=lambda: [Normalize()],
        inputs=("input_ids", "token_type_ids", "attention_mask"),
    ),
    "xlm-roberta": Builder(
        _xlm_roberta,
        _unigram,
        _XLM_TOKENS,
        blocks="encoder.layer",
        mlp=_BERT_MLP,
        attention=_BERT_ATTENTION,
        other=("pooler.dense",),
        pooling="cls",
        after=lambda: [Normalize()],
        prompts={"query": "query: ", "passage": "passage: "},
    ),
    "mpnet": Builder(
        _mpnet,
        _word_piece,
        _BERT_TOKENS,
        blocks="encoder.layer",
        mlp=_BERT_MLP,
        attention=("attention.attn.q", "attention.attn.k", "attention.attn.v", "attention.attn.o"),
        other=("pooler.dense",),
    ),
    "distilbert": Builder(
        _distilbert,
        _word_piece,
        _BERT_TOKENS,
        blocks="transformer.layer",
        mlp=("ffn.lin1", "ffn.lin2"),
        attention=("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin"),
        other=("2.linear",),
        after=lambda: [Dense(_HIDDEN, 24, activation_function=nn.Tanh())],
    ),
    "modernbert": Builder(
        _modernbert,
        lambda: _byte_pairs("<s>", "</s>", "<pad>"),
        {**_DECODER_TOKENS, "cls_token": "<s>", "sep_token": "</s>"},
        blocks="layers",
        mlp=("mlp.Wi", "mlp.Wo"),
        attention=("attn.Wqkv", "attn.Wo"),
        pooling="cls",
    ),
    "qwen3": Builder(
        decoder("Qwen3"),
        lambda: _byte_pairs(None, "<|endoftext|>", "<|endoftext|>"),
        _QWEN_TOKENS,
        blocks="layers",
        mlp=_LLAMA_MLP,
        attention=_LLAMA_ATTENTION,
        pooling="lasttoken",
        after=lambda: [Normalize()],
        padding="left",
        prompts={"query": "Instruct: find the passage\nQuery:", "document": ""},
    ),
    "mistral": Builder(
        decoder("Mistral", sliding_window=None),
        lambda: _byte_pairs("<s>", "</s>", "<pad>"),
        _DECODER_TOKENS,
        blocks="layers",
        mlp=_LLAMA_MLP,
        attention=_LLAMA_ATTENTION,
        pooling="lasttoken",
    ),
    "llama": Builder(
        decoder("Llama"),
        lambda: _byte_pairs("<s>", None, "<pad>"),
        _DECODER_TOKENS,
        blocks="layers",
        mlp=_LLAMA_MLP,
        attention=_LLAMA_ATTENTION,
        pooling="weightedmean",
    ),
    "gemma": Builder(
        decoder("Gemma3Text", use_bidirectional_attention=True, sliding_window=8, query_pre_attn_scalar=8),
        lambda: _byte_pairs("<s>", "</s>", "<pad>"),
        _DECODER_TOKENS,
        blocks="layers",
        mlp=_LLAMA_MLP,
        attention=_LLAMA_ATTENTION,
        other=("2.linear", "3.linear"),
        after=lambda: [
            Dense(_HIDDEN, 48, bias=False, activation_function=nn.Identity()),
            Dense(48, _HIDDEN, bias=False, activation_function=nn.Identity()),
            Normalize(),
        ],
        prompts={"query": "task: search result | query: ", "document": "title: none | text: "},
    ),
}


def build(family: str, folder: Path) -> Path:
    """Write the tiny model of ``family`` under ``folder`` and return the model's own folder."""
    return FAMILIES[family](folder)

"""Where a model keeps one row a token: the embedding table, and the tokenizer that numbers its rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from torch import nn

from gaprune.errors import ModelError
from gaprune.models.blocks import transformer_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

VocabularyKind = Literal["WordPiece", "BPE", "Unigram"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The embedding table of a model and the tokenizer that numbers its rows.

    Args:
        table: Name of the table's weight ``(rows, width)`` in the transformer's own checkpoint.
        rows: Rows of the table; there may be more than tokens, or fewer.
        width: Entries of a row.
        kind: How the tokenizer splits a word.
        tokens: Ids by token, added tokens included.
        fixed: Number of first ids that cannot change, because positions are counted from the padding token's id.
        network: The transformer.
        tokenizer: Its tokenizer.
    """

    table: str
    rows: int
    width: int
    kind: VocabularyKind
    tokens: Mapping[str, int] = field(repr=False)
    fixed: int
    network: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerFast = field(repr=False)


def vocabulary(model: SentenceTransformer) -> Vocabulary:
    """Return where ``model`` keeps its vocabulary.

    Raises:
        ModelError: If there is no transformer in it, its table is not a ``torch.nn.Embedding``, or
            its tokenizer is not WordPiece, BPE or Unigram.
    """
    from sentence_transformers.sentence_transformer.modules import WordWeights

    network = transformer_of(model)
    tokenizer = _tokenizer(model)
    embedding = network.get_input_embeddings()
    if not isinstance(embedding, nn.Embedding):
        raise ModelError(
            f"The token embeddings of this {type(network).__name__} are a {type(embedding).__name__}, not a table.",
            "Load the model unquantised, with its token embeddings in a torch.nn.Embedding.",
        )
    weighted = next((name for name, each in model.named_modules() if isinstance(each, WordWeights)), None)
    if weighted is not None:
        raise ModelError(
            f"Module {weighted}, a WordWeights, keeps a weight for every token, which is not cut here.",
            "Leave the vocabulary whole.",
        )
    if getattr(network.config, "vocab_size_per_layer_input", None) is not None:
        raise ModelError(
            f"This {type(network).__name__} keeps a second table of tokens for its layers, which is not cut here.",
            "Choose a model with one embedding table, or leave its vocabulary whole.",
        )
    table = next(name for name, each in network.named_parameters() if each is embedding.weight)
    pad = tokenizer.pad_token_id
    if pad is not None and pad >= embedding.num_embeddings:
        raise ModelError(
            f"The padding token {tokenizer.pad_token!r} has the id {pad}, the embedding table"
            f" {embedding.num_embeddings} rows.",
            "Give the model a padding token it knows, or resize its embeddings to the tokenizer.",
        )
    return Vocabulary(
        table=table,
        rows=embedding.num_embeddings,
        width=embedding.embedding_dim,
        kind=_kind(tokenizer),
        tokens=tokenizer.get_vocab(),
        fixed=_fixed(network),
        network=network,
        tokenizer=tokenizer,
    )


def _tokenizer(model: SentenceTransformer) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    tokenizer = model[0].processor
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(
            f"The model's texts go through a {type(tokenizer).__name__}, whose vocabulary cannot be cut.",
            "Choose a text model whose tokenizer is a tokenizer.json of the library tokenizers.",
        )
    return tokenizer


def _kind(tokenizer: PreTrainedTokenizerFast) -> VocabularyKind:
    pieces = tokenizer.backend_tokenizer.model
    known: tuple[VocabularyKind, ...] = ("WordPiece", "BPE", "Unigram")
    for kind in known:
        if type(pieces).__name__ == kind:
            if getattr(pieces, "continuing_subword_prefix", None) and kind == "BPE":
                raise ModelError(
                    "The tokenizer's BPE marks the pieces inside a word with a prefix, which is not understood here.",
                    "Choose a model with byte-level BPE, or leave its vocabulary whole.",
                )
            return kind
    raise ModelError(
        f"The tokenizer is of the type {type(pieces).__name__}; WordPiece, BPE and Unigram can be cut.",
        "Choose a model with one of these, or leave its vocabulary whole.",
    )


def _fixed(network: PreTrainedModel) -> int:
    """Return how many ids cannot change: RoBERTa counts positions from the padding token's id."""
    fixed = 0
    for module in network.modules():
        index = getattr(module, "padding_idx", None)
        if isinstance(index, int) and isinstance(getattr(module, "position_embeddings", None), nn.Embedding):
            fixed = max(fixed, index + 1)
    return fixed

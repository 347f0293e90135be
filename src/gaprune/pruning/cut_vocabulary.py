"""Pruning of the vocabulary: rows of the embedding table that texts do not need are removed, with their tokens.

A text all of whose tokens are kept is split as before, so its embedding does not change (except for a word that
WordPiece could not split, and can without longer pieces). Any other text is split into smaller pieces, down to
characters or bytes. The result is an ordinary checkpoint.
"""

from __future__ import annotations

import copy
from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.errors import ModelError, require_extra
from gaprune.models.vocabulary import Vocabulary, vocabulary
from gaprune.pruning.kept_tokens import VocabularyCut, close_vocabulary
from gaprune.pruning.rebuild import filled, skeleton
from gaprune.pruning.token_needs import renumber
from gaprune.pruning.tokenizers import VOCABULARY_EXTRA, cut_tokenizer

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from transformers import PreTrainedModel


def cut_vocabulary(model: SentenceTransformer, keep: Collection[int]) -> tuple[SentenceTransformer, VocabularyCut]:
    """Return a copy of ``model`` with the rows of ``keep`` and what they need alone, and what was kept and why.

    Raises:
        MissingExtraError: If skeletoken is not installed.
        ModelError: If the model's vocabulary cannot be cut.
        ConfigError: If an id is none of the table's.
    """
    require_extra(*VOCABULARY_EXTRA)
    cut = close_vocabulary(model, keep)
    place = vocabulary(model)
    tokenizer = cut_tokenizer(place.tokenizer, frozenset(cut.kept))
    order = {token: each for each, token in enumerate(cut.kept)}
    old = {place.tokens[token]: new for token, new in tokenizer.get_vocab().items()}
    kept = sorted(
        cut.kept, key=lambda each: old.get(each, len(old) + order[each])
    )  # the tokenizer's order, tokens first
    network = _cut_network(place, kept)
    # Whatever in the parent refers to its transformer or tokenizer refers to the new one in the copy.
    child = copy.deepcopy(model, {id(place.network): network, id(place.tokenizer): tokenizer})
    for memory in ("_prompt_length_mapping", "_chat_template_suffix_cache"):
        vars(child[0]).get(memory, {}).clear()  # what the parent's tokenizer said
    return child, replace(cut, kept=tuple(kept))


def _cut_network(place: Vocabulary, kept: list[int]) -> PreTrainedModel:
    """Return a new transformer with the rows ``kept``, made from a configuration that says so."""
    parent = place.network
    new = {old: each for each, old in enumerate(kept)}
    config = copy.deepcopy(parent.config)
    renumber(config, new)
    config.get_text_config().vocab_size = len(kept)
    child = skeleton(parent, config)
    shapes = {name: tensor.shape for name, tensor in child.state_dict().items()}
    index = torch.tensor(kept)
    weights = {name: _rows(name, tensor, shapes.get(name), index) for name, tensor in parent.state_dict().items()}
    child = filled(child, parent, weights)
    if len(child.get_input_embeddings().get_parameter("weight")) != len(kept):
        raise ModelError(
            f"The configuration of this {type(parent).__name__} does not say how many rows {place.table} has.",
            "Leave this model's vocabulary whole, and please report it.",
        )
    if getattr(parent, "generation_config", None) is not None:
        child.generation_config = copy.deepcopy(parent.generation_config)
        renumber(child.generation_config, new)
    return child


def _rows(name: str, tensor: Tensor, shape: torch.Size | None, index: Tensor) -> Tensor:
    """Return ``tensor``, or the rows of ``index`` alone where the new model has as many."""
    if shape is None or shape == tensor.shape:
        return tensor
    if shape != (len(index), *tensor.shape[1:]):
        raise ModelError(
            f"{name} is {tuple(tensor.shape)} and would be {tuple(shape)} with {len(index)} tokens.",
            "Leave this model's vocabulary whole, and please report it.",
        )
    return tensor[index.to(tensor.device)]

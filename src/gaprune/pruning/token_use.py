"""How often texts use each token of a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_BATCH = 64


def used_tokens(model: SentenceTransformer, texts: Iterable[str], prompts: Iterable[str] = ()) -> Counter[int]:
    """Return how often each token occurs in ``texts``, by id.

    Every text is split whole, however long, and once behind each prompt beside once alone, as the last token of a
    prompt may take in the first characters of a text.

    Args:
        model: Its own preprocessing is used, with special tokens and chat template where it has them.
        texts: Read once.
        prompts: Others than the model's own.
    """
    prompts = dict.fromkeys(["", *filter(None, model.prompts.values()), *prompts])
    counts: Counter[int] = Counter()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        for prompt in prompts:
            counts.update(_ids(model, batch, prompt))
    return counts


def prompt_tokens(model: SentenceTransformer) -> set[int]:
    """Return the ids of the tokens that an empty text needs, alone and behind each prompt of the model."""
    return set(used_tokens(model, [""]))


def _ids(model: SentenceTransformer, texts: list[str], prompt: str) -> list[int]:
    whole = {"truncation": False, "verbose": False}  # no warning that a text is longer than the model's limit
    features = model.preprocess(texts, prompt=prompt or None, processing_kwargs={"text": whole})
    ids = features["input_ids"]
    mask = features.get("attention_mask")  # absent where texts are laid end to end without padding
    flat: list[int] = (ids if mask is None else ids[mask.bool()]).flatten().tolist()
    return flat

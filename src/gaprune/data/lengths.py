"""How long texts are, in the model's tokens or in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaprune.errors import ModelError
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Counter", "Lengths", "TokenCounter", "measure", "word_counter"]

Counter = Callable[[Sequence[str], str], list[int]]
"""Takes texts and the prompt before each, returns the length of each."""

_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the texts of one role.

    Args:
        count: Number of texts.
        minimum: Length of the shortest.
        median: Median length.
        p95: 95th percentile.
        maximum: Length of the longest.
        cut: Number of texts longer than the model reads; ``None`` where no model was given.
    """

    count: int
    minimum: int
    median: float
    p95: float
    maximum: int
    cut: int | None


def word_counter(texts: Sequence[str], prompt: str) -> list[int]:
    """Return the number of words of each text, with those of ``prompt``."""
    return [len((prompt + text).split()) for text in texts]


class TokenCounter:
    """Counts tokens as the model sees them: prompt and special tokens included.

    Args:
        model: The model whose tokenizer counts.

    Raises:
        ModelError: If the model has no tokenizer.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._tokenizer: Any = getattr(model, "tokenizer", None)
        if self._tokenizer is None:
            raise ModelError("The model has no tokenizer, so tokens cannot be counted.", "Check without a model.")

    def __call__(self, texts: Sequence[str], prompt: str) -> list[int]:
        """Return the number of tokens of each text."""
        from transformers import PreTrainedTokenizerBase

        lengths: list[int] = []
        for start in track(range(0, len(texts), _CHUNK), "Counting tokens"):
            chunk = [prompt + text for text in texts[start : start + _CHUNK]]
            if isinstance(self._tokenizer, PreTrainedTokenizerBase):
                # verbose=False: a text above the limit is what is counted here, not a reason to warn.
                ids = self._tokenizer(chunk, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
                lengths += map(len, ids)
            else:
                encodings = self._tokenizer.encode_batch(chunk, add_special_tokens=False)
                lengths += (len(encoding.ids) for encoding in encodings)
        return lengths


def measure(texts: Sequence[str], prompt: str, counter: Counter, limit: int | None) -> Lengths | None:
    """Return the lengths of ``texts``, ``None`` where there is no text.

    Args:
        texts: The texts of one role.
        prompt: What the model reads before each.
        counter: Counts tokens or words.
        limit: Longest text the model reads, ``None`` where it reads any or is not known.
    """
    if not texts:
        return None
    values = np.asarray(counter(texts, prompt))
    return Lengths(
        count=len(texts),
        minimum=int(values.min()),
        median=float(np.median(values)),
        p95=float(np.percentile(values, 95)),
        maximum=int(values.max()),
        cut=None if limit is None else int((values > limit).sum()),
    )

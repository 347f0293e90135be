"""Lengths of texts, in tokens of a model or in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gaprune.errors import ModelError
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Counter = Callable[[Sequence[str], str], list[int]]
"""Takes texts and the prompt before each; returns the length of each."""

_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of the texts of one role; ``cut`` of them are longer than the model's limit, if there is one."""

    count: int
    minimum: int
    median: float
    p95: float
    maximum: int
    cut: int | None


def lengths_of(texts: Sequence[str], prompt: str, counter: Counter, limit: int | None) -> Lengths:
    """Return the lengths of ``texts``."""
    values = np.asarray(counter(texts, prompt))
    return Lengths(
        count=len(texts),
        minimum=int(values.min()),
        median=float(np.median(values)),
        p95=float(np.percentile(values, 95)),
        maximum=int(values.max()),
        cut=None if limit is None else int((values > limit).sum()),
    )


def word_counter(texts: Sequence[str], prompt: str) -> list[int]:
    """Return the number of words of each text and its prompt."""
    return [len((prompt + text).split()) for text in texts]


class TokenCounter:
    """Counts tokens as the model reads them, with the prompt and special tokens.

    Raises:
        ModelError: If the model has no tokenizer.
    """

    def __init__(self, model: SentenceTransformer) -> None:
        self._tokenizer: Any = getattr(model, "tokenizer", None)
        if self._tokenizer is None:
            raise ModelError("The model has no tokenizer, so tokens cannot be counted.", "Check without a model.")

    def __call__(self, texts: Sequence[str], prompt: str) -> list[int]:
        """Return the number of tokens of each text and its prompt."""
        from transformers import PreTrainedTokenizerBase

        lengths: list[int] = []
        for start in track(range(0, len(texts), _CHUNK), "Counting tokens"):
            chunk = [prompt + text for text in texts[start : start + _CHUNK]]
            if isinstance(self._tokenizer, PreTrainedTokenizerBase):
                # verbose=False: texts above the limit are counted here and need no warning.
                ids = self._tokenizer(chunk, truncation=False, return_attention_mask=False, verbose=False)["input_ids"]
                lengths += map(len, ids)
            else:
                encodings = self._tokenizer.encode_batch(chunk, add_special_tokens=False)
                lengths += (len(encoding.ids) for encoding in encodings)
        return lengths

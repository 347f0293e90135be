"""What a benchmark runs: batch sizes, text lengths and rounds; and the texts themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import ClassVar

from pydantic import Field, field_validator

from gaprune.config.options import CommandOptions, Counts
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_triplets


class Workload(CommandOptions):
    """What is timed."""

    command: ClassVar[str] = "bench"

    batch_sizes: Counts = Field((1, 32), description="Texts per batch; comma-separated. 1 shows latency.")
    lengths: Counts = Field((32, 128), description="Tokens per text, special tokens included; comma-separated.")
    rounds: int = Field(10, ge=2, description="How often each model is timed, in turn, after one warm-up.")
    threads: int | None = Field(None, ge=1, description="Threads to compute with; default: PyTorch's own choice.")

    @field_validator("batch_sizes", "lengths")
    @classmethod
    def _in_order(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values:
            raise ValueError("needs at least one number")
        return tuple(sorted(set(values)))

    @classmethod
    def known(cls) -> str:
        """Return an example."""
        return "For example --batch-sizes 1,32 --lengths 32,128 --rounds 10."


def texts_of_length(length: int, count: int, lengths: Callable[[Sequence[str]], list[int]]) -> list[str]:
    """Return ``count`` different texts of real words, each as close to ``length`` tokens as words allow.

    Args:
        length: Tokens per text, special tokens included; a text is longer only if its first word alone is.
        count: Number of texts.
        lengths: Returns the number of tokens of texts, or the model's limit for longer ones.
    """
    words = [word for item in read_triplets(sample_triplets("general")) for word in item.positive.split()]
    texts = []
    for number in range(count):
        start = 7 * number % len(words)
        own = list(islice(cycle(words), start, start + length + 1))
        low, high = 1, len(own)  # bisect for the longest prefix that fits; a word is one token or more
        while low < high:
            middle = (low + high + 1) // 2
            if lengths([" ".join(own[:middle])])[0] <= length:
                low = middle
            else:
                high = middle - 1
        texts.append(" ".join(own[:low]))
    return texts

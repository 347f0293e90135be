"""What a benchmark runs: batch sizes, text lengths, rounds; and the texts themselves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationError, field_validator

from gaprune.config.options import Options
from gaprune.data.read import read_triplets
from gaprune.data.samples import sample_triplets
from gaprune.errors import ConfigError

__all__ = ["Workload", "texts_of_length"]


def _listed(value: object) -> object:
    """Accept ``"1,32"`` and a lone number where a list is meant."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return (value,) if isinstance(value, int) else value


Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed)]


class Workload(Options):
    """What is timed."""

    batch_sizes: Numbers = Field((1, 32), description="Texts at a time; comma-separated. 1 shows latency.")
    lengths: Numbers = Field((32, 128), description="Tokens of every text, special tokens included; comma-separated.")
    rounds: int = Field(10, ge=2, description="How often each is timed, the models in turn, after one warm-up.")
    threads: int | None = Field(None, ge=1, description="Threads to compute with; PyTorch's own choice by default.")

    @field_validator("batch_sizes", "lengths")
    @classmethod
    def _positive(cls, values: tuple[int, ...]) -> tuple[int, ...]:
        if not values or min(values) < 1:
            raise ValueError("needs at least one number, each above 0")
        return tuple(sorted(set(values)))

    @classmethod
    def build(cls, **options: object) -> Workload:
        """Return a workload; an option that is ``None`` is not given.

        Raises:
            ConfigError: If an option makes no sense; it names it.
        """
        try:
            return cls.model_validate({name: value for name, value in options.items() if value is not None})
        except ValidationError as error:
            first = error.errors()[0]
            message = first["msg"].removeprefix("Value error, ")
            raise ConfigError(
                f"{first['loc'][0]}: {message}.", "For example --batch-sizes 1,32 --lengths 32,128 --rounds 10."
            ) from error


def texts_of_length(length: int, count: int, lengths: Callable[[Sequence[str]], list[int]]) -> list[str]:
    """Return ``count`` different texts of words of real language, each as near to ``length`` tokens as words allow.

    Args:
        length: Tokens wanted, special tokens included; no text has more, unless its first word alone does.
        count: How many texts.
        lengths: Gives the tokens of texts; for texts beyond the model's limit, the limit.
    """
    words = [word for item in read_triplets(sample_triplets("general")) for word in item.positive.split()]
    texts = []
    for number in range(count):
        own = list(islice(cycle(words), 7 * number % len(words), 7 * number % len(words) + length + 1))
        low, high = 1, len(own)  # the longest prefix that fits; a word is a token or more
        while low < high:
            middle = (low + high + 1) // 2
            if lengths([" ".join(own[:middle])])[0] <= length:
                low = middle
            else:
                high = middle - 1
        texts.append(" ".join(own[:low]))
    return texts

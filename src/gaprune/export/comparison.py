"""Holding an export against the model that it was made from: on which texts, by which measure, above which floor."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self, get_args

import numpy as np
from numpy.typing import NDArray

from gaprune.data.read import read_triplets
from gaprune.data.samples import SampleDomain, sample_triplets
from gaprune.data.triplets import Triplet
from gaprune.errors import ConfigError
from gaprune.models.prompts import Prompts

_SAMPLES = 16
"""Sample triplets per domain on each side: to calibrate on, and held out."""

_OWN = 128
"""Triplets of the user's own on each side, at most."""

_ODD = (
    "a",
    "?!",
    "Zürich, 東京, Москва, القاهرة 🙂",
    "\ttabs\nand   spaces ",
    "1,234.56 % of 7 · 10⁻³",
    "long " * 2000,
)
"""Texts that different tokenizers treat differently, and whose activations lie outside of the ordinary; held out."""

_OTHER_ODD = (
    "I",
    "...",
    "Łódź, 北京, Αθήνα, תל אביב 🙃",
    "\n\nlines\tand  tabs",
    "no. 12: 0.5 ± 0.1 kg",
    "again " * 2000,
)
"""Others of the same kinds, to calibrate on."""


class Floor(NamedTuple):
    """The least agreement of an export: mean and lowest cosine between the embeddings of a text."""

    mean: float
    lowest: float

    @classmethod
    def build(cls, values: Sequence[float] | str) -> Self:
        """Return the floor of two numbers, or of a text such as ``0.99,0.95``.

        Raises:
            ConfigError: If it is something else, or a number is not between 0 and 1.
        """
        parts = values.split(",") if isinstance(values, str) else list(values)
        try:
            mean, lowest = (float(part) for part in parts)
        except ValueError:
            mean = lowest = float("nan")
        if not (0 <= lowest <= 1 and 0 <= mean <= 1):
            raise ConfigError(
                f"floor: {values!r} is not the mean and the lowest cosine, two numbers between 0 and 1.",
                "For example --set floor=0.99,0.95 (floor=(0.99, 0.95)).",
            )
        return cls(mean, lowest)


FP32_FLOOR = Floor(0.999, 0.999)
INT8_FLOOR = Floor(0.98, 0.95)
"""Floors by default: docs/export.md has the figures that they rest on."""


@dataclass(frozen=True)
class Texts:
    """Texts with their prompts: some to calibrate a quantisation on, others to hold the result against the model.

    Args:
        calibration: Texts that a quantisation may look at.
        held_out: Texts that it has not seen.
        origin: Whose texts they are, in words.
    """

    calibration: tuple[str, ...]
    held_out: tuple[str, ...]
    origin: str

    @classmethod
    def draw(cls, own: Sequence[Triplet], prompts: Prompts) -> Self:
        """Return queries and positives of our sample triplets and of the user's ``own``, half on each side."""
        samples = [list(read_triplets(sample_triplets(name)))[: 2 * _SAMPLES] for name in get_args(SampleDomain)]
        mixed = random.Random(0).sample(list(own), len(own))  # noqa: S311 (a sample, not a secret)
        sides: list[list[Triplet]] = [[], []]
        for triplets, limit in (*((each, _SAMPLES) for each in samples), (mixed, _OWN)):
            for number, side in enumerate(sides):
                side.extend(triplets[number::2][:limit])
        held_out, others = (
            [text for each in chosen for text in (prompts.query + each.query, prompts.passage + each.positive)]
            for chosen in sides
        )
        kept = dict.fromkeys([*_ODD, *held_out])
        calibration = tuple(text for text in dict.fromkeys([*_OTHER_ODD, *others]) if text not in kept)
        origin = f"{'of the domain, and ' if own else ''}samples that come with GAPrune"
        return cls(calibration, tuple(kept), origin)


@dataclass(frozen=True)
class Agreement:
    """How near two models embed the same texts: mean and lowest cosine, and the text of the lowest."""

    texts: int
    mean: float
    lowest: float
    farthest: str

    @classmethod
    def of(cls, first: NDArray[np.float32], second: NDArray[np.float32], texts: Sequence[str]) -> Self:
        """Compare embeddings ``(texts, dimensions)``, or several of every text one below the other.

        An embedding that is zero or not finite has the cosine 0.
        """
        one, other = first.astype(np.float64), second.astype(np.float64)
        with np.errstate(all="ignore"):
            cosines = (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
        cosines = np.nan_to_num(cosines, nan=0.0, posinf=0.0, neginf=0.0)
        worst = int(cosines.argmin())
        return cls(len(texts), float(cosines.mean()), float(cosines[worst]), texts[worst % len(texts)])

    def reaches(self, floor: Floor) -> bool:
        """Return whether both figures are at or above the floor."""
        return self.mean >= floor.mean and self.lowest >= floor.lowest

    def __str__(self) -> str:
        """Return a sentence for people."""
        return (
            f"Cosine to the embeddings of the original over {self.texts} held-out texts: mean {self.mean:.4f}, "
            f"lowest {self.lowest:.4f} ({self.farthest[:40]!r})."
        )

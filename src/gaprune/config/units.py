"""Options that say which whole units are cut out."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field

from gaprune.config.options import Options, Source

__all__ = ["UNITS", "Unit", "UnitOptions"]

Unit = Literal["width", "heads", "depth", "vocabulary"]
UNITS: tuple[Unit, ...] = get_args(Unit)


class UnitOptions(Options):
    """Which whole units to cut out, for a model that is truly smaller."""

    width: float | None = Field(None, gt=0, lt=1, description="Cut out this fraction of every layer's FFN neurons.")
    heads: float | None = Field(
        None, gt=0, lt=1, description="Cut out this fraction of the attention heads (by key/value group)."
    )
    depth: int | None = Field(None, ge=1, description="Cut out this many layers.")
    remove: int | None = Field(None, ge=1, description="The same, beside --granularity depth.")
    vocabulary: Source | None = Field(
        None,
        description="Cut out tokens that neither these texts (.txt, .jsonl, folder) nor the calibration data need.",
    )
    tokens: float | None = Field(
        None, gt=0, lt=1, description="Vocabulary: cut out this fraction, the rarest; default: all that no text needs."
    )
    round_to: int = Field(64, ge=1, description="Keep a multiple of this many FFN neurons.")
    greedy: bool = Field(False, description="Depth: measure again after each layer that goes.")
    layer_triplets: int = Field(
        64,
        ge=1,
        description="Triplets of each kind on which layers are left out; where repair runs, of those it holds out.",
    )
    target_params: str | None = Field(None, description="Choose a mix that leaves at most so many parameters: 12M.")
    target_size: str | None = Field(None, description="Choose a mix whose weights take at most so much: 25MB.")
    target_speedup: float | None = Field(
        None, gt=1, description="Choose a mix with so many times fewer operations a token: 2."
    )

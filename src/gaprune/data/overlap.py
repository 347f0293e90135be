"""Texts that two sets have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gaprune.data.triplets import Triplets

__all__ = ["Overlap", "overlap", "places"]

_NAMED = 5
"""Places kept in a report."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Texts of a set that also stand in another, compared without case, spacing and punctuation.

    Args:
        left: The set, ``domain`` or ``general``.
        right: ``general``, or the name of the evaluation task.
        is_evaluation: Whether the other is an evaluation task.
        count: Number of different texts of the set that are in both.
        share: ``count`` as a share of the set's different texts.
        sources: Where the first few stand, ``file:line`` in the set, with the other's where it has lines.
    """

    left: str
    right: str
    is_evaluation: bool
    count: int
    share: float
    sources: tuple[str, ...]


def places(triplets: Triplets, same: Mapping[str, str]) -> dict[str, str]:
    """Return every different text of a set (normalised) and where it stands first."""
    found: dict[str, str] = {}
    for item in triplets:
        for text in (item.query, *item.passages):
            found.setdefault(same[text], item.source)
    return found


def overlap(left: Mapping[str, str], right: Mapping[str, str], *, names: tuple[str, str], evaluation: bool) -> Overlap:
    """Return what of ``left`` is in ``right``.

    Args:
        left: Normalised texts of a set, and where each stands.
        right: Normalised texts of the other; an empty place where it has none.
        names: Names of both.
        evaluation: Whether the other is an evaluation task.
    """
    common = [text for text in left if text in right]
    first = common[:_NAMED]
    return Overlap(
        left=names[0],
        right=names[1],
        is_evaluation=evaluation,
        count=len(common),
        share=len(common) / len(left),
        sources=tuple(left[text] + (f" = {right[text]}" if right[text] else "") for text in first),
    )

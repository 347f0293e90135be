"""Reconstruction as part of a run: fitted on most of the calibration triplets, kept only if held-out ones agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.pruning.calibration import Calibration
from gaprune.reconstruction.least_squares import UnsolvedError
from gaprune.reconstruction.reconstruct import Start, reconstructed_copy, shares_of, split
from gaprune.statistics.degradation import ReferenceOutputs
from gaprune.util.progress import say
from gaprune.util.records import Record

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ChildOf = Callable[["SentenceTransformer", bool], "SentenceTransformer"]
"""Prunes what else is pruned of a model of the shape of the start, which it may change if the argument is true."""


class Reconstruction(Record):
    """A least-squares reconstruction, and the degradation on held-out triplets without and with it.

    Args:
        kept: Whether the reconstructed model was kept; else it was rolled back to the pruned one.
        ridge: The ridge of the best reconstruction. One that makes no kind of data worse comes before all that do;
            after that the least degradation counts.
        general_share: Share of general texts among those it was fitted on.
        triplets: Number of domain triplets it was fitted on.
        held_out: Number of domain triplets it was judged on.
        degradation_pruned: Degradation of the pruned model on held-out triplets by kind of data
            (:meth:`gaprune.statistics.degradation.ReferenceOutputs.degradation`).
        degradation_reconstructed: The same with reconstruction; empty if there is none that could be judged.
        problem: Why no reconstruction could be judged; ``None`` if one was.
    """

    kept: bool
    ridge: float
    general_share: float
    triplets: int
    held_out: int
    degradation_pruned: dict[str, float]
    degradation_reconstructed: dict[str, float]
    problem: str | None = None


@dataclass(frozen=True)
class _Candidate:
    """A reconstruction with its ridge and its degradation by kind of data."""

    model: SentenceTransformer
    ridge: float
    degradation: Mapping[str, float]


def reconstruct(
    parent: SentenceTransformer,
    start: Start,
    keep: Mapping[str, Tensor],
    child_of: ChildOf,
    calibration: Calibration,
    recipe: Recipe,
) -> tuple[SentenceTransformer, Reconstruction]:
    """Return the pruned model with its kept weights reconstructed, or only pruned if that is better or all there is.

    The reconstruction is rolled back if held-out triplets of any kind of data get worse by it, if its least squares
    cannot be solved, or if its loss is not finite.

    Args:
        parent: The model; it is left as it is.
        start: What is left of it without whole layers and hidden dimensions; it is left as it is too.
        keep: What is kept of each linear layer, by name without the removed layers, as
            :func:`gaprune.reconstruction.reconstruct.reconstruct_blocks` takes it.
        child_of: Prunes what else is pruned of ``start``.
        calibration: The triplets of a run. Of each kind that the user named, ``recipe.reconstruction_triplets`` are
            fitted, and others, one in five (but two at least) and at most half as many, are held out.
        recipe: Ridges to try, share of general texts, batch size, loss, seed.

    Raises:
        ConfigError: If there are too few triplets to hold any out.
        MeasurementError: If the model's blocks cannot be run one by one.
    """
    fitted, judged = split(calibration, recipe)
    shares = shares_of(fitted, recipe)
    references = {
        kind: ReferenceOutputs(parent, triplets, prompts=calibration.prompts, options=recipe)
        for kind, triplets in judged.items()
    }

    def degradation(model: SentenceTransformer) -> dict[str, float]:
        return {kind: reference.degradation(model) for kind, reference in references.items()}

    before = degradation(child_of(start.model, False))  # not kept: a copy of it beside two others would be the peak

    def rank(after: Mapping[str, float]) -> tuple[bool, float]:
        return not _agrees(before, after), sum(shares[kind] * each for kind, each in after.items())

    best, problem = None, None
    for ridge in recipe.ridge:
        try:
            candidate = child_of(
                reconstructed_copy(
                    parent,
                    start,
                    keep,
                    fitted,
                    recipe,
                    prompts=calibration.prompts,
                    ridge=ridge,
                ),
                True,
            )
        except UnsolvedError as error:
            problem = error.problem
            continue
        after = degradation(candidate)
        if not all(map(math.isfinite, after.values())):
            problem = f"The loss of the model reconstructed with ridge {ridge:g} is not finite."
        elif best is None or rank(after) < rank(best.degradation):
            best = _Candidate(candidate, ridge, after)
        del candidate  # or it would stay in memory beside the next one
    kept = best is not None and _agrees(before, best.degradation)
    report = Reconstruction(
        kept=kept,
        ridge=recipe.ridge[0] if best is None else best.ridge,
        general_share=shares.get("general", 0.0),
        triplets=len(fitted["domain"]),
        held_out=len(judged["domain"]),
        degradation_pruned=before,
        degradation_reconstructed={} if best is None else dict(best.degradation),
        problem=problem if best is None else None,
    )
    if not kept:
        say(_warning(report))
    return (best.model if best is not None and kept else child_of(start.model, False)), report


def _warning(report: Reconstruction) -> str:
    """Return why a reconstruction was rolled back, and what to do."""
    after, before = report.degradation_reconstructed, report.degradation_pruned
    if not after:
        return f"Warning: nothing is reconstructed: {report.problem} A larger ridge may help (--set ridge=1)."
    kinds = ", ".join(f"{kind} {each:.2f} without it and {after[kind]:.2f} with it" for kind, each in before.items())
    share = f", or another share of general texts than {report.general_share:g} (--set general_share=VALUE)"
    return (
        f"Warning: the reconstruction was rolled back, because one kind of held-out triplets lost more with it: "
        f"{kinds}. It was fitted on {report.triplets} triplets of the domain; more of them may help (--triplets, "
        f"--set reconstruction_triplets=VALUE; in gaprune shrink more --minutes){share if len(before) > 1 else ''}."
    )


def _agrees(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    """Whether the degradation of no kind of data is larger than before."""
    return all(after[kind] <= each for kind, each in before.items())

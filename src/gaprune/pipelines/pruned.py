"""A model that a run has pruned, and the record of how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.criteria.names import split_name
from gaprune.export.records import Method, Reconstruction, Recovery, Structured, Unstructured
from gaprune.pipelines.prepare import Prepared
from gaprune.pruning.structured import StructuredPruning
from gaprune.pruning.zeros import Pruning

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.reconstruction.validate import ReconstructionReport

__all__ = ["PrunedModel", "method_record"]


@dataclass(frozen=True)
class PrunedModel:
    """A pruned model.

    Args:
        model: The model.
        change: Which weights were kept, or which structures were removed.
        method: How that was chosen.
        recoveries: Every recovery that followed.
    """

    model: SentenceTransformer
    change: Pruning | StructuredPruning
    method: Method
    recoveries: Sequence[Recovery]


def method_record(
    run: Prepared, name: str, pruning: Unstructured | Structured, report: ReconstructionReport | None
) -> Method:
    """Return how a model was pruned by the criterion ``name``, for its provenance."""
    return Method(
        criterion=split_name(name)[0],
        options=run.criteria[name].model_dump(),
        pruning=pruning,
        reconstruction=None if report is None else Reconstruction.model_validate(report),
    )

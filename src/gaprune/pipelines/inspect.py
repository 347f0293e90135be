"""``gaprune.inspect``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from gaprune.config.typed import ModelOptions
from gaprune.evaluation.cost.footprint import Footprint, footprint
from gaprune.export.provenance import Provenance
from gaprune.models.load import load_model
from gaprune.pipelines.arguments import LOADING, loading_options

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["inspect"]


def inspect(
    model: str | Path | SentenceTransformer, **options: Unpack[ModelOptions]
) -> tuple[Footprint, Provenance | None]:
    """Return the sizes and zeros of a model, and its provenance if it is a folder that GAPrune made.

    Args:
        model: A folder, a hub id or a loaded model.
        **options: How it is loaded: ``revision``, ``trust_remote_code``, ``device``, ``dtype``.

    Raises:
        ConfigError: If an option is unknown or would have no effect.
        ModelError: If the model cannot be loaded, or its provenance cannot be read.
    """
    loading = loading_options(options, {"model": model}, LOADING)
    if not isinstance(model, str | Path):
        return footprint(model), None
    provenance = Provenance.read(model)
    return footprint(load_model(model, **loading)), provenance

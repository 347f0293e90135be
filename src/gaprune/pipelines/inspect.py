"""``gaprune.inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.typed import ModelOptions
from gaprune.errors import ConfigError, ModelError
from gaprune.evaluation.cost.footprint import Footprint, footprint
from gaprune.export.provenance import Provenance
from gaprune.models.formats import format_of, graph_of
from gaprune.models.load import load_model
from gaprune.pipelines.arguments import LOADING, loading_options
from gaprune.util.files import folder_bytes

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def inspect(
    model: str | Path | SentenceTransformer, **options: Unpack[ModelOptions]
) -> tuple[Footprint, Provenance | None]:
    """Return the sizes and zeros of a model, and its provenance if it is a folder that GAPrune made.

    Args:
        model: A folder, a hub id or a loaded model.
        **options: How it is loaded: ``revision``, ``trust_remote_code``, ``device``, ``dtype``.

    Sizes and zeros of an exported model are those of the model that was exported; the bytes are its own.

    Raises:
        ConfigError: If an option is unknown or would have no effect.
        ModelError: If the model cannot be loaded, or its provenance cannot be read.
    """
    loading = loading_options(options, {"model": model}, LOADING)
    if not isinstance(model, str | Path):
        return footprint(model), None
    provenance = Provenance.read(model)
    if format_of(model) != "torch":
        return _of_export(Path(model), provenance, loading), provenance
    return footprint(load_model(model, **loading)), provenance


def _of_export(folder: Path, provenance: Provenance | None, loading: Mapping[str, Any]) -> Footprint:
    """Return what was recorded of the model at its export, with the bytes of the graph as it is."""
    for option in (option for option, value in loading.items() if value):
        raise ConfigError(
            f"{option}: {folder} is exported, and is not loaded to be inspected.", f"Leave {option} out."
        )
    found = None if provenance is None or provenance.export is None else provenance.export.footprint
    if found is None:
        raise ModelError(f"{folder} does not say what was exported.", "Export the model with `gaprune export`.")
    return replace(found, bytes=folder_bytes((folder / (graph_of(folder) or "")).parent))

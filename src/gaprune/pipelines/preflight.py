"""What is checked of a run before anything expensive starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, ModelError
from gaprune.export.folder import check_destination
from gaprune.models.load import load_model
from gaprune.util.files import check_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["check_finite", "check_outside", "load_parent", "outputs", "require_model", "require_same"]


def outputs(recipe: Recipe) -> Mapping[str, Path | None]:
    """Return the output folder of every single recipe, by name; ``None`` if nothing is written."""
    scores = None if recipe.scores is None else Path(recipe.scores).resolve()
    if scores is not None and not scores.exists():
        check_file(scores)
    if recipe.out is None:
        return dict.fromkeys(recipe.singles())
    out = Path(recipe.out)
    singles = recipe.singles()
    folders = {
        name: check_destination(out / name if len(singles) > 1 else out, overwrite=recipe.overwrite)
        for name in singles
    }
    check_outside(
        set(folders.values()),
        read={option: getattr(recipe, option) for option in ("model", "domain", "general", "vocabulary", "tasks")},
        written={"scores": recipe.scores, "checkpoint": recipe.checkpoint},
    )
    return folders


def check_outside(
    folders: Collection[Path], *, read: Mapping[str, str | Path | None], written: Mapping[str, str | Path | None]
) -> None:
    """Refuse output folders that would replace what is read, or in which something else is to be written.

    Args:
        folders: Where results will be, resolved.
        read: What is read, by option; names on the hub are no paths.
        written: What is written beside the results, by option.

    Raises:
        ConfigError: If anything of it is one of the folders or lies in one.
    """

    def holding(path: str | Path | None) -> Path | None:
        resolved = Path(path or "/").resolve()
        return next((folder for folder in folders if folder in (resolved, *resolved.parents)), None)

    for option, source in read.items():
        if source is not None and Path(source).exists() and (out := holding(source)):
            raise ConfigError(f"out: {out} would replace the {option} {source}.", "Choose another --out (out=...).")
    for option, place in written.items():
        if holding(place):
            raise ConfigError(f"{option}: {place} lies in the output folder.", "Name a place outside --out (out=...).")


def require_model(recipe: Recipe) -> str:
    """Return the name of the parent, which must be given."""
    if recipe.model is None:
        raise ConfigError("model: no parent model is named.", "Name a model folder or a hub id.")
    return recipe.model


def load_parent(recipe: Recipe) -> SentenceTransformer:
    """Return the parent that the recipe names, with its own limit of text length."""
    return load_model(
        require_model(recipe),
        revision=recipe.revision,
        trust_remote_code=recipe.trust_remote_code,
        device=recipe.device if recipe.placement == "whole" else "cpu",
        dtype=recipe.dtype,
    )


def check_finite(model: SentenceTransformer) -> None:
    """Refuse a parent with weights that are not finite, naming the first."""
    for name, parameter in model.named_parameters():
        # The extremes are NaN where any weight is, and finding them makes nothing of the parameter's size.
        if parameter.numel() and not torch.stack(torch.aminmax(parameter.detach())).isfinite().all():
            raise ModelError(
                f"{name}: the parent has weights that are NaN or infinite.",
                "Use a sound checkpoint, or load it in another dtype (--set dtype=float32).",
            )


def require_same(path: Path, kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse scores that were made from something else, naming what differs."""
    different = [key for key in wanted if kept.get(key) != wanted[key]]
    if different:
        raise ConfigError(
            f"scores: {path} was made with another {', '.join(different)}.",
            "Name another file, or delete it to measure again.",
        )

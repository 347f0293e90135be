"""Checks before anything expensive starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, ModelError
from gaprune.export.folder import check_destination
from gaprune.models.load import load_model
from gaprune.util.files import check_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def output_folders(recipe: Recipe) -> dict[str, Path | None]:
    """Return the folder of each result by its name, ``None`` if nothing is written; all of them can be written.

    Raises:
        GapruneError: One of its kinds if a folder or the file of scores cannot be written.
    """
    scores = None if recipe.scores is None else Path(recipe.scores).resolve()
    if scores is not None and not scores.exists():
        check_file(scores)
    names = list(recipe.singles())
    if recipe.out is None:
        return dict.fromkeys(names)
    out = Path(recipe.out)
    places = {name: out / name if len(names) > 1 else out for name in names}
    folders = {name: check_destination(place, overwrite=recipe.overwrite) for name, place in places.items()}
    check_outside(
        set(folders.values()),
        read={option: getattr(recipe, option) for option in ("model", "domain", "general", "vocabulary", "tasks")},
        written={"scores": recipe.scores, "checkpoint": recipe.checkpoint},
    )
    return dict(folders)


def check_outside(
    folders: Collection[Path], *, read: Mapping[str, str | Path | None], written: Mapping[str, str | Path | None]
) -> None:
    """Refuse output folders that would replace what is read, or in which something else is to be written.

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

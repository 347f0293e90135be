"""What all verbs do with their arguments, and what they check before anything expensive starts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from gaprune.config.files import given_options
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, ModelError, suggest
from gaprune.export.folder import check_destination
from gaprune.models.load import load_model
from gaprune.util.files import check_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LOADING = ("revision", "trust_remote_code", "device", "dtype")
"""Options that say how a model is loaded."""

Loaded = TypeVar("Loaded")


def build_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None = None, **options: Any) -> Recipe:
    """Return a recipe from a file, a mapping or another recipe, with ``options`` on top.

    Precedence, lowest first: defaults, ``recipe``, ``options``; an option that is ``None`` is not given.

    Raises:
        ConfigError: If an option is unknown or its value is not valid.
    """
    return Recipe.build(given_options(recipe), options)


def split_source(source: str | Path | Loaded | None) -> tuple[str | Path | None, Loaded | None]:
    """Return the place to read something from, or the thing itself if it was given; the other is ``None``."""
    return (source, None) if source is None or isinstance(source, str | Path) else (None, source)


def refuse_loading_options(recipe: Recipe) -> None:
    """Refuse options that say how to load a model, because the model is loaded already.

    Raises:
        ConfigError: If there is such an option; it would have no effect.
    """
    for option in ("model", *LOADING, "max_length"):
        if getattr(recipe, option):
            raise no_effect(option, "parent")


def no_effect(option: str, model: str) -> ConfigError:
    """Return the error for an option that has no effect on a loaded model."""
    return ConfigError(
        f"{option}: the {model} is a loaded model, so this has no effect.",
        "Leave it out, or name the model's folder or hub id instead.",
    )


def loading_options(options: Mapping[str, Any], sources: Mapping[str, object], known: Sequence[str]) -> dict[str, Any]:
    """Return the options that are given, after a check that each has an effect on every model of ``sources``, by role.

    Raises:
        ConfigError: If an option is unknown, a model is loaded already, or several models could have the revision.
    """
    for option in options:
        if option not in known:
            raise ConfigError(
                f"Unknown option {option!r}.{suggest(option, known)}", f"The options are {', '.join(known)}."
            )
    given = {option: value for option, value in options.items() if value is not None}
    asked = [option for option, value in given.items() if value is not False]
    for role, source in sources.items():
        if asked and not isinstance(source, str | Path):
            raise no_effect(asked[0], role)
    on_hub = [role for role, source in sources.items() if isinstance(source, str | Path) and not Path(source).is_dir()]
    if "revision" in given and len(on_hub) != 1:
        raise ConfigError(
            f"revision: it belongs to the one model on the hub; here {'both are' if on_hub else 'none is'}.",
            "Leave it out, or name the folder of a model that was downloaded.",
        )
    return given


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

"""What all verbs do with their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gaprune.config.files import given_options
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, suggest

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

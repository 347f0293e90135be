"""Recipe files: YAML 1.2, with the line of every fault."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML, MappingNode
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gaprune.config.options import CommandOptions
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, suggest

_PACKAGED = {file.stem: file for file in (Path(__file__).parent / "recipes").glob("*.yaml")}
"""Recipes that come with the package, by name."""


def load_recipe(path: str | Path, options: type[CommandOptions] = Recipe) -> dict[str, Any]:
    """Read a recipe: a file (YAML, one mapping of option names to values), or ``paper``, which comes with GAPrune.

    Raises:
        ConfigError: If the file cannot be read, is not a mapping, or names an option that is unknown or twice there.
    """
    path = _PACKAGED.get(str(path), Path(path).expanduser())
    try:
        text = path.read_text(encoding="utf-8")
        content = _yaml().load(text)
        node = _yaml().compose(text)
    except (OSError, UnicodeDecodeError) as error:
        packaged = _PACKAGED if options is Recipe else {}
        near = suggest(str(path), packaged)
        ours = "".join(f", or {name}, which comes with GAPrune" for name in packaged)
        raise ConfigError(
            f"The recipe {path} cannot be read: {error}{near and '.'}{near}", f"Give a YAML file that exists{ours}."
        ) from error
    except MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f":{error.problem_mark.line + 1}"
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}.", "Correct this line.") from error
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}", "Correct the file.") from error
    if not isinstance(content, dict) or not isinstance(node, MappingNode):
        raise ConfigError(f"The recipe {path} is not a mapping.", "Write lines such as `sparsity: 0.5`.")
    _check_names(path, node, options)
    return content


def _check_names(path: Path, node: MappingNode, options: type[CommandOptions]) -> None:
    """Refuse names that are no options, in sections too."""
    lines = [(key.value, key.start_mark.line + 1) for key, _ in node.value]
    options.refuse_unknown(
        {name if isinstance(name, str) else "a list or a mapping": f"{path}:{line}" for name, line in lines}
    )
    for key, value in node.value:
        if key.value in options.sections and isinstance(value, MappingNode):
            _check_names(path, value, options.sections[key.value])


def given_options(
    recipe: CommandOptions | Mapping[str, Any] | str | Path | None, options: type[CommandOptions] = Recipe
) -> dict[str, Any]:
    """Return the options that a recipe states: options, a mapping or the name of a file.

    Raises:
        ConfigError: If a file cannot be read; see :func:`load_recipe`.
    """
    if isinstance(recipe, CommandOptions):
        return recipe.model_dump(exclude_unset=True)
    return load_recipe(recipe, options) if isinstance(recipe, str | Path) else dict(recipe or {})


def _yaml() -> YAML:
    """Return a reader of plain data: no code in tags, no key twice, and ``2:4`` is a text."""
    return YAML(typ="safe", pure=True)

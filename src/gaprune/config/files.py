"""Recipe files: YAML, read with the line of every fault."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from gaprune.config.options import CommandOptions
from gaprune.config.recipe import Recipe
from gaprune.errors import ConfigError, suggest

__all__ = ["load_recipe"]


class _RecipeLoader(yaml.SafeLoader):
    """Safe YAML in which ``2:4`` is a pattern, where YAML 1.1 reads 124, in base 60."""

    def integer(self, node: yaml.ScalarNode) -> int | str:
        return node.value if ":" in node.value else self.construct_yaml_int(node)


_RecipeLoader.add_constructor("tag:yaml.org,2002:int", _RecipeLoader.integer)


def load_recipe(path: str | Path, options: type[CommandOptions] = Recipe) -> dict[str, Any]:
    """Read a recipe file (YAML, one mapping of option names to values).

    Args:
        path: The file.
        options: The kind of options it holds.

    Raises:
        ConfigError: If the file cannot be read, is no mapping, or names an option that is unknown or twice there.
    """
    path = Path(path)
    try:
        loader = _RecipeLoader(path.read_text(encoding="utf-8"))
        node = loader.get_single_node()
        content = None if node is None else loader.construct_document(node)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The recipe {path} cannot be read: {error}", "Give a YAML file that exists.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The recipe {path} is not valid YAML: {error}", "Mend it at the place named.") from error
    if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"The recipe {path} is no mapping.", "Write lines such as `sparsity: 0.5`.")
    _refuse_duplicates(path, node)
    for key, _ in node.value:
        if key.value not in options.model_fields:
            raise ConfigError(
                f"{path}:{key.start_mark.line + 1}: unknown option {key.value!r}."
                + suggest(key.value, options.model_fields),
                options.known(),
            )
    return content


def _refuse_duplicates(path: Path, node: yaml.MappingNode) -> None:
    """Refuse a key that stands twice in a mapping, at any depth: YAML would let the last one win."""
    lines: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if key.value in lines:
            raise ConfigError(
                f"{path}:{line}: {key.value!r} stands on line {lines[key.value]} too.", "Keep one of the two."
            )
        lines[key.value] = line
        if isinstance(value, yaml.MappingNode):
            _refuse_duplicates(path, value)

"""The token ids that a model's configurations name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedConfig, PreTrainedModel


def named_ids(network: PreTrainedModel) -> set[int]:
    """Return the token ids that the configurations of ``network`` name, rows of its table or not."""
    configs = [network.config, getattr(network, "generation_config", None)]
    return {
        each
        for config in configs
        if config is not None
        for _, value in _named(config)
        for each in (value if isinstance(value, list) else [value])
    }


def renumber(config: PreTrainedConfig | GenerationConfig, new: Mapping[int, int]) -> None:
    """Give the token ids that ``config`` names their new numbers, in place.

    Args:
        config: A configuration; its text part, where it has one, is renumbered too.
        new: New ids by old. A number without a new id is not a row of the parent, as the defaults of a family often
            are not; it is left as it is.
    """
    for part in _parts(config):
        for name, value in list(_own(part)):
            many = isinstance(value, list)
            setattr(part, name, [new.get(each, each) for each in value] if many else new.get(value, value))


def _named(config: PreTrainedConfig | GenerationConfig) -> Iterator[tuple[str, Any]]:
    for part in _parts(config):
        yield from _own(part)


def _own(config: PreTrainedConfig | GenerationConfig) -> Iterator[tuple[str, Any]]:
    for name, value in vars(config).items():
        if name.endswith(("_token_id", "_token_ids")) and value is not None:
            yield name, value


def _parts(config: PreTrainedConfig | GenerationConfig) -> list[PreTrainedConfig | GenerationConfig]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return [config] if text is config else [config, text]

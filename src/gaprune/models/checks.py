"""What a model must be like to be pruned, checked before anything is measured."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from gaprune.errors import ModelError
from gaprune.models.blocks import block_path, blocks, transformer_of
from gaprune.models.encode import encode
from gaprune.models.load import padded_inputs
from gaprune.models.obstacles import obstacles_in

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["check_blocks", "check_layers"]

_TEXTS = ["one text", "another text, which is longer"]


def check_layers(model: SentenceTransformer) -> None:
    """Refuse a model with linear layers in its blocks whose weights cannot be changed.

    Raises:
        ModelError: If a layer is parametrized, quantised, wrapped by an adapter, or shares its weight with another.
    """
    transformer = transformer_of(model)
    inside = next(name for name, module in model.named_modules() if module is transformer)
    start = f"{inside}.{block_path(transformer)}."
    for path, obstacle in obstacles_in(model).items():
        if path.startswith(start):
            raise obstacle.error(path.removeprefix(f"{inside}."))


def check_blocks(model: SentenceTransformer, *, streamed: bool) -> None:
    """Run two short texts, and refuse a model with blocks that do not run once each.

    Args:
        model: The model.
        streamed: Whether blocks will run one at a time on ``(texts, tokens, hidden)``, as reconstruction and the
            removal of layers need it.

    Raises:
        ModelError: If a block runs several times, as one that is shared between layers (ALBERT) does; or, if
            ``streamed``, a block does not run or reads something else.
    """
    found = blocks(model)
    path = block_path(transformer_of(model))
    seen: dict[nn.Module, list[Tensor | None]] = {block: [] for block in found}

    def before(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen[block].append(args[0] if args else kwargs.get("hidden_states"))

    with ExitStack() as stack:
        for block in found:
            stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.enter_context(padded_inputs(model))
        encode(model, _TEXTS, None, "", batch_size=len(_TEXTS))
    for index, inputs in enumerate(seen.values()):
        if len(inputs) > 1:
            raise ModelError(
                f"{path}.{index} runs {len(inputs)} times for a text, as its weights are shared between layers.",
                "Choose a model whose layers have weights of their own.",
            )
        if streamed and not all(_is_padded(each) for each in inputs or [None]):
            raise ModelError(
                f"{path}.{index} does not run once with an input of (texts, tokens, hidden).",
                "Choose a model with padded inputs, or prune weights, neurons or heads "
                "without reconstruction (--no-reconstruct, reconstruct=False).",
            )


def _is_padded(hidden: Tensor | None) -> bool:
    return isinstance(hidden, Tensor) and hidden.ndim == 3 and len(hidden) == len(_TEXTS)

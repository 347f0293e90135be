"""A model at work on two short texts: which modules run, in which order, and on what.

Names and the order of declaration do not tell which linear layer writes to the residual stream, whether a block runs
more than once, or whether a family pads texts inside the model. A forward pass of two short texts does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.errors import GapruneError, ModelError
from gaprune.models.blocks import blocks
from gaprune.models.encode import encode
from gaprune.models.modes import padded_inputs

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXTS = ("one text", "another text, which is longer")


@dataclass(frozen=True)
class Call:
    """One call of a module in the forward pass.

    Args:
        module: A block or a linear layer.
        shape: Of its input; ``None`` if that is not a tensor.
    """

    module: nn.Module
    shape: torch.Size | None


@dataclass(frozen=True)
class Probe:
    """What happened in the forward pass.

    Args:
        texts: Shape of the attention mask, ``(texts, tokens)``; ``None`` if there was none.
        blocks: Calls of the blocks, in the order in which they began.
        linears: Calls of ``torch.nn.Linear`` modules, in the order in which they began.
    """

    texts: torch.Size | None
    blocks: tuple[Call, ...]
    linears: tuple[Call, ...]

    def has_rows(self, call: Call) -> bool:
        """Whether a layer reads one row for every token, in two dimensions or flattened, or for every text."""
        if call.shape is None or self.texts is None:
            return False
        rows = call.shape[:-1]
        return rows in (self.texts, self.texts[:1]) or (len(rows) == 1 and rows.numel() == self.texts.numel())


def probe(model: SentenceTransformer) -> Probe:
    """Embed two short texts, and return what ran.

    Raises:
        ModelError: If the model cannot embed a text.
    """
    texts: list[torch.Size] = []
    of_blocks: list[Call] = []
    of_linears: list[Call] = []

    def read_mask(_module: nn.Module, args: tuple[Any, ...]) -> None:
        mask = args[0].get("attention_mask") if isinstance(args[0], Mapping) else None
        if isinstance(mask, Tensor):
            texts.append(mask.shape)

    def read(calls: list[Call], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden = args[0] if args else kwargs.get("hidden_states")
        calls.append(Call(module, hidden.shape if isinstance(hidden, Tensor) else None))

    with ExitStack() as stack:
        stack.enter_context(padded_inputs(model))
        stack.callback(model[0].register_forward_pre_hook(read_mask).remove)
        linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
        for calls, modules in ((of_blocks, blocks(model)), (of_linears, linears)):
            for module in dict.fromkeys(modules):
                hook = partial(read, calls)
                stack.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        with embedding():
            encode(model, TEXTS, "query", "", batch_size=len(TEXTS))
    return Probe(texts[0] if texts else None, tuple(of_blocks), tuple(of_linears))


@contextmanager
def embedding() -> Iterator[None]:
    """Turn whatever a model raises that cannot embed a short text into a :class:`ModelError`."""
    try:
        yield
    except GapruneError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"The model cannot embed a short text: {type(error).__name__}: {reason}",
            "Give a model whose encode_query(['a text']) works in sentence-transformers.",
        ) from error

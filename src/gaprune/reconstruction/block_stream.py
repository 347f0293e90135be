"""Texts on their way through a model block by block, while the blocks change.

The texts enter the model once. From then on only the hidden states between two blocks are kept, one block runs at a
time, and the next one sees what the block before it gives *now*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.errors import MeasurementError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.load import evaluating, padded_inputs
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplets

__all__ = ["BlockStream"]

_Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class _Batch:
    """One batch between two blocks.

    Args:
        hidden: Input of the next block, ``(texts, tokens, hidden)``.
        mask: True for real tokens, ``(texts, tokens)``.
        calls: Further arguments of every block (positions and masks), which no block changes.
    """

    hidden: Tensor
    mask: Tensor
    calls: list[_Call]


class BlockStream:
    """The texts of some triplets on their way through a model, one block at a time.

    ``model`` is the model, ``blocks`` are its blocks, and ``next`` is the index of the block that the texts come to.

    Raises:
        MeasurementError: If the blocks do not see ``(texts, tokens, hidden)``.
    """

    def __init__(
        self, model: SentenceTransformer, triplets: Triplets, *, prompts: Prompts, batch_size: int, label: str
    ) -> None:
        self.model = model
        self.blocks = blocks(model)
        self.next = 0
        batches = list(_text_batches(triplets, batch_size))
        entry = _Entry(model, self.blocks)
        with _without_cache(model), torch.no_grad():
            self._batches = [
                entry.enter(texts, role, prompts.of(role)) for role, texts in track(batches, f"Reading {label} texts")
            ]

    @property
    def masks(self) -> list[Tensor]:
        """True for real tokens, ``(texts, tokens)`` of every batch."""
        return [batch.mask for batch in self._batches]

    @property
    def hidden(self) -> list[Tensor]:
        """Inputs of the next block, ``(texts, tokens, hidden)`` of every batch."""
        return [batch.hidden for batch in self._batches]

    def rescale(self, scale: Tensor, shift: Tensor) -> None:
        """Multiply the inputs of the next block and add to them, ``(hidden,)`` each."""
        for batch in self._batches:
            batch.hidden = (batch.hidden * scale + shift).to(batch.hidden.dtype)

    @torch.no_grad()
    def run(self, index: int, count: int = 1) -> Tensor:
        """Return the output of the next ``count`` blocks for one batch, as they are now, without going on."""
        batch = self._batches[index]
        hidden = batch.hidden
        for block in range(self.next, self.next + count):
            args, kwargs = batch.calls[block]
            output = self.blocks[block](hidden, *args, **kwargs)
            hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def advance(self, count: int = 1) -> None:
        """Run the next ``count`` blocks as they are now, and go on to the block after them."""
        for index, batch in enumerate(self._batches):
            batch.hidden = self.run(index, count)
        self.next += count


def _text_batches(triplets: Triplets, size: int) -> Iterator[tuple[Role, list[str]]]:
    """Yield batches of texts of one role and of similar length."""
    by_role: dict[Role, list[str]] = {
        "query": [item.query for item in triplets],
        "passage": [passage for item in triplets for passage in item.passages],
    }
    for role, texts in by_role.items():
        texts.sort(key=len)
        for start in range(0, len(texts), size):
            yield role, texts[start : start + size]


class _Entry:
    """Brings texts to the first block, and records the further arguments of every block.

    The blocks themselves run for the first batch only, which shows whether they return tuples. After that they are
    bypassed: they return their input.
    """

    def __init__(self, model: SentenceTransformer, found: Sequence[nn.Module]) -> None:
        self._model, self._found = model, found
        self._returns_tuples: list[bool] = []
        self._can_bypass = True

    def enter(self, texts: list[str], role: Role, prompt: str | None) -> _Batch:
        """Return texts at the first block.

        Raises:
            MeasurementError: If the blocks do not see ``(texts, tokens, hidden)``, each once.
        """
        entered: list[Tensor] = []
        calls: list[_Call] = []

        def before(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            named = dict(kwargs)
            hidden, rest = (args[0], args[1:]) if args else (named.pop("hidden_states"), ())
            entered.append(hidden)
            calls.append((rest, named))

        model, task = self._model, TASKS[role]
        with padded_inputs(model):
            features = {
                key: value.to(model.device) if isinstance(value, Tensor) else value
                for key, value in model.preprocess(texts, prompt=prompt, task=task).items()
            }
        mask = features["attention_mask"].bool()
        with ExitStack() as stack:
            for block in self._found:
                stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            bypass = bool(self._returns_tuples) and self._can_bypass
            stack.enter_context(self._bypassed() if bypass else self._observed())
            model(features, task=task)
        if len(calls) != len(self._found) or entered[0].ndim != 3 or entered[0].shape[:2] != mask.shape:
            raise MeasurementError(
                f"The blocks see {tuple(entered[0].shape) if entered else 'nothing'} for texts of shape "
                f"{tuple(mask.shape)}, and {len(calls)} of {len(self._found)} ran.",
                "Reconstruction needs blocks that see (texts, tokens, hidden), each once; switch it off: "
                "--no-reconstruct (reconstruct=False).",
            )
        return _Batch(entered[0], mask, calls)

    @contextmanager
    def _observed(self) -> Iterator[None]:
        self._returns_tuples.clear()

        def after(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
            self._returns_tuples.append(isinstance(output, tuple))
            # A further output may be an argument of a later block (T5's position bias): such blocks always run.
            self._can_bypass &= not isinstance(output, tuple) or len(output) == 1

        with ExitStack() as stack:
            for block in self._found:
                stack.callback(block.register_forward_hook(after).remove)
            yield

    @contextmanager
    def _bypassed(self) -> Iterator[None]:
        def bypass(returns_tuple: bool) -> Callable[..., Any]:
            def forward(hidden_states: Tensor, *_args: Any, **_kwargs: Any) -> Any:
                return (hidden_states,) if returns_tuple else hidden_states

            return forward

        own = [vars(block).get("forward") for block in self._found]  # set by offloading
        try:
            for block, returns_tuple in zip(self._found, self._returns_tuples, strict=True):
                block.forward = bypass(returns_tuple)
            yield
        finally:
            for block, forward in zip(self._found, own, strict=True):
                del block.forward
                if forward is not None:
                    block.forward = forward


@contextmanager
def _without_cache(model: SentenceTransformer) -> Iterator[None]:
    """Evaluation mode, and no cache of keys and values, which would grow when a block runs twice."""
    config = transformer_of(model).config
    cached = getattr(config, "use_cache", None)
    if cached is not None:
        config.use_cache = False
    try:
        with evaluating(model):
            yield
    finally:
        if cached is not None:
            config.use_cache = cached

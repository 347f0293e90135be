"""Texts on their way through a model block by block, while the blocks change.

The texts enter the model once. From then on only the hidden states between two blocks are kept, one block runs at a
time, and the next one sees what the block before it gives *now*.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from gaprune.config.measurement import Precision
from gaprune.data.triplets import Triplets
from gaprune.errors import MeasurementError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.encode import tokenized
from gaprune.models.modes import computing, evaluating, padded_inputs
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_Call = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class _Batch:
    """One batch between two blocks.

    Args:
        features: What the model reads.
        role: Of the texts.
        hidden: Input of the next block, ``(texts, tokens, hidden)``.
        mask: True for real tokens, ``(texts, tokens)``.
        calls: Further arguments of every block (positions and masks), which no block changes.
    """

    features: Mapping[str, Any]
    role: Role
    hidden: Tensor
    mask: Tensor
    calls: Sequence[_Call]


class BlockStream:
    """The texts of some triplets on their way through a model, one block at a time.

    ``model`` is the model, ``blocks`` are its blocks, and ``next`` is the index of the block that the texts come to.

    Raises:
        MeasurementError: If the blocks do not see ``(texts, tokens, hidden)``.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        triplets: Triplets,
        *,
        prompts: Prompts,
        batch_size: int,
        precision: Precision = "float32",
    ) -> None:
        self.model = model
        self.triplets = triplets
        self.blocks = blocks(model)
        self.next = 0
        self.precision: Precision = precision
        self._by_role, batches = _text_batches(triplets, batch_size)
        self._entry = _Entry(model, self.blocks)
        with _without_cache(model), torch.no_grad(), computing(model.device, precision):
            self._batches = [
                self._entry.enter(texts, role, prompts.of(role))
                for role, texts in track(batches, f"Reading texts of {triplets.name}")
            ]

    def through(self, model: SentenceTransformer, kept: Sequence[int] | None = None) -> BlockStream:
        """Return the same texts on their way through a copy of the model, which may have only these of its blocks."""
        kept = range(len(self.blocks)) if kept is None else kept
        other = copy.copy(self)
        vars(other).update(
            model=model,
            blocks=blocks(model),
            _batches=[replace(each, calls=[each.calls[block] for block in kept]) for each in self._batches],
        )
        return other

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
        self._batches = [
            replace(each, hidden=(each.hidden * scale + shift).to(each.hidden.dtype)) for each in self._batches
        ]

    @torch.no_grad()
    def run(self, index: int, count: int = 1) -> Tensor:
        """Return the output of the next ``count`` blocks for one batch, as they are now, without going on."""
        batch = self._batches[index]
        hidden = batch.hidden
        with computing(self.model.device, self.precision):
            for block in range(self.next, self.next + count):
                args, kwargs = batch.calls[block]
                output = self.blocks[block](hidden, *args, **kwargs)
                hidden = output[0] if isinstance(output, tuple) else output
        return hidden

    def step(self, index: int, count: int = 1) -> None:
        """Run the next ``count`` blocks as they are now for one batch, which goes on; the others must follow."""
        self._batches[index] = replace(self._batches[index], hidden=self.run(index, count))

    def advance(self, count: int = 1) -> None:
        """Run the next ``count`` blocks as they are now, and go on to the block after them."""
        for index in range(len(self._batches)):
            self.step(index, count)
        self.next += count

    @torch.no_grad()
    def embeddings(self, *, without: int) -> tuple[Tensor, Tensor]:
        """Return the embeddings of queries and passages in their order, ``(texts, dim)``, without one of the blocks.

        The texts continue from the next block; the blocks before it do not run again.
        """
        found: dict[Role, list[Tensor]] = {"query": [], "passage": []}
        for batch in self._batches:
            with ExitStack() as stack:
                stack.enter_context(_without_cache(self.model))
                stack.enter_context(self._entry.bypassed(self.blocks, {*range(self.next), without}))
                begin = partial(_begin_with, batch.hidden)
                stack.callback(self.blocks[self.next].register_forward_pre_hook(begin, with_kwargs=True).remove)
                stack.enter_context(computing(self.model.device, self.precision))
                stack.enter_context(padded_inputs(self.model))
                embedded = self.model(dict(batch.features), task=TASKS[batch.role])["sentence_embedding"]
            found[batch.role].append(embedded[:, : self.model.truncate_dim].float())
        queries, passages = (
            torch.cat(found[role]).index_select(0, torch.tensor(order, device=self.model.device).argsort())
            for role, order in self._by_role.items()
        )
        return queries, passages


def _begin_with(
    hidden: Tensor, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})


def _text_batches(triplets: Triplets, size: int) -> tuple[dict[Role, list[int]], list[tuple[Role, list[str]]]]:
    """Return the order in which the texts of each role are read, and batches of texts of similar length."""
    by_role: dict[Role, list[str]] = {
        "query": [item.query for item in triplets],
        "passage": [passage for item in triplets for passage in item.passages],
    }
    orders = {role: sorted(range(len(texts)), key=lambda i: len(texts[i])) for role, texts in by_role.items()}
    batches = [
        (role, [by_role[role][index] for index in order[start : start + size]])
        for role, order in orders.items()
        for start in range(0, len(order), size)
    ]
    return orders, batches


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
            features = tokenized(model, texts, role, prompt)
        mask = features["attention_mask"].bool()
        with ExitStack() as stack:
            for block in self._found:
                stack.callback(block.register_forward_pre_hook(before, with_kwargs=True).remove)
            everything = range(len(self._found))
            known = bool(self._returns_tuples) and self._can_bypass
            stack.enter_context(self.bypassed(self._found, everything) if known else self._observed())
            model(dict(features), task=task)
        if len(calls) != len(self._found) or entered[0].ndim != 3 or entered[0].shape[:2] != mask.shape:
            raise MeasurementError(
                f"The blocks see {tuple(entered[0].shape) if entered else 'nothing'} for texts of shape "
                f"{tuple(mask.shape)}, and {len(calls)} of {len(self._found)} ran.",
                "Reconstruction needs blocks that see (texts, tokens, hidden), each once; switch it off: "
                "--no-reconstruct (reconstruct=False).",
            )
        return _Batch(features, role, entered[0], mask, calls)

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
    def bypassed(self, found: Sequence[nn.Module], which: Collection[int]) -> Iterator[None]:
        """Let some of these blocks return their input; they do not run unless a further output of theirs is needed."""

        def instead(run: Callable[..., Any], returns_tuple: bool) -> Callable[..., Any]:
            def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
                if self._can_bypass:
                    return (hidden_states,) if returns_tuple else hidden_states
                return (hidden_states, *run(hidden_states, *args, **kwargs)[1:])

            return forward

        own = {index: vars(found[index]).get("forward") for index in which}  # set by offloading
        try:
            for index in which:
                found[index].forward = instead(found[index].forward, self._returns_tuples[index])
            yield
        finally:
            for index, forward in own.items():
                del found[index].forward
                if forward is not None:
                    found[index].forward = forward


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

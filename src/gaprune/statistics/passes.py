"""One pass: the forward and backward of every batch, with taps on the matrices of the pass."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from gaprune.config.measurement import MeasurementOptions
from gaprune.errors import MeasurementError
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.load import evaluating
from gaprune.models.prompts import TASKS, Prompts, Role
from gaprune.statistics.accumulators import PROJECTED
from gaprune.statistics.batches import Batch
from gaprune.statistics.hooks import HookContext, LinearHook
from gaprune.statistics.losses import info_nce, rademacher_probe
from gaprune.statistics.placement import device_of
from gaprune.statistics.sums import Statistic
from gaprune.statistics.token_rows import TokenRows, chunks

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Embedder", "Objective", "frozen", "gradients_from", "idle_step", "measure_batch", "recomputing"]

_TOKENS = {"cpu": (2048, 32)}
_MANY_TOKENS = 16384, 1024
"""Tokens of a forward pass, padding included, enough to keep a device busy; and tokens as dear as starting one.

On a CPU both are measured (13 ms a pass of six layers, 0.5 ms a token); elsewhere estimated from kernel launches.
"""


class Embedder:
    """Embeds the texts of a batch in forward passes of like lengths, the taps told which token is whose.

    Args:
        model: The model.
        prompts: Put before queries and passages.
        watch: Shared with the taps.
    """

    def __init__(self, model: SentenceTransformer, prompts: Prompts, watch: HookContext) -> None:
        self.model = model
        self.prompts = prompts
        self.watch = watch
        transformer = transformer_of(model)
        self.device = device_of(transformer.get_input_embeddings())
        self.limits = _TOKENS.get(self.device.type, _MANY_TOKENS)

    def rounds(self, batch: Batch) -> int:
        """Return how many forward passes :meth:`both` makes for a batch."""
        passages = [length for lengths in batch.passages for length in lengths]
        return len(chunks(batch.queries, *self.limits)) + len(chunks(passages, *self.limits))

    def both(self, batch: Batch, *, watched: bool) -> tuple[Tensor, Tensor]:
        """Return the embeddings of queries ``(triplets, dim)`` and passages ``(passages, dim)``."""
        queries = [item.query for item in batch.triplets]
        passages = [text for item in batch.triplets for text in item.passages]
        lengths = [length for of_triplet in batch.passages for length in of_triplet]
        return (
            self._embed(queries, batch.queries, list(range(len(queries))), "query", watched=watched),
            self._embed(passages, lengths, owners_of(batch), "passage", watched=watched),
        )

    def _embed(
        self, texts: Sequence[str], lengths: Sequence[int], owners: Sequence[int], role: Role, *, watched: bool
    ) -> Tensor:
        parts = [sorted(part) for part in chunks(lengths, *self.limits)]
        found = [
            self.forward(
                [texts[i] for i in part], role, [owners[i] for i in part] if watched else None, owners[-1] + 1
            )
            for part in parts
        ]
        if len(found) == 1:
            return found[0]
        order = torch.tensor([index for part in parts for index in part], device=found[0].device)
        return torch.cat(found).index_select(0, order.argsort())

    def forward(self, texts: list[str], role: Role, owners: Sequence[int] | None, triplets: int) -> Tensor:
        """Return the embeddings of texts of one role; with their ``owners``, the taps watch them."""
        task, device = TASKS[role], self.device
        features: dict[str, Any] = self.model.preprocess(texts, prompt=self.prompts.of(role), task=task)
        features = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in features.items()}
        if owners is not None:
            mask = features["attention_mask"].bool()
            self.watch.texts = TokenRows(mask, torch.tensor(owners, device=mask.device), triplets)
        try:
            embeddings: Tensor = self.model(features, task=task)["sentence_embedding"]
        finally:
            self.watch.texts = None
        if not torch.isfinite(embeddings).all():
            raise MeasurementError(
                f"The embedding of a {role} is not finite.",
                "Load the model in float32 or bfloat16 (--dtype), and check its weights and these texts.",
            )
        return embeddings if self.model.truncate_dim is None else embeddings[:, : self.model.truncate_dim]


def owners_of(batch: Batch) -> list[int]:
    """Return the triplet of each passage of a batch."""
    return [index for index, item in enumerate(batch.triplets) for _ in item.passages]


@dataclass(frozen=True)
class Objective:
    """What gradients are of: the contrastive loss of triplets, or random projections of embeddings.

    Args:
        options: Temperature, negatives and seed.
        projected: Whether it is projections.
    """

    options: MeasurementOptions
    projected: bool

    @classmethod
    def of(cls, quantities: Collection[Statistic], options: MeasurementOptions) -> Objective:
        """Return what the quantities that need a backward are of; they must want the same."""
        return cls(options, bool(PROJECTED & set(quantities)))

    @property
    def over_batch(self) -> bool:
        """Whether a triplet's part depends on the other triplets of its batch."""
        return self.options.negatives == "in-batch" and not self.projected

    def __call__(self, queries: Tensor, passages: Tensor, batch: Batch) -> Tensor:
        """Return the sum over a batch, a scalar, of embeddings ``(texts, dim)``."""
        if self.projected:
            texts = [item.query for item in batch.triplets] + [
                text for item in batch.triplets for text in item.passages
            ]
            return rademacher_probe(torch.cat([queries, passages]), texts, seed=self.options.seed)
        losses = info_nce(
            queries,
            passages,
            torch.tensor(owners_of(batch), device=passages.device),
            temperature=self.options.temperature,
            in_batch=self.over_batch,
        )
        return losses.sum()


def measure_batch(
    embedder: Embedder, batch: Batch, hooks: Sequence[LinearHook], objective: Objective, *, at_once: int, idle: int = 0
) -> None:
    """Run one batch forward and, where gradients are on, backward.

    Args:
        embedder: Embeds the texts.
        batch: The batch.
        hooks: On the matrices that are measured.
        objective: What is differentiated.
        at_once: Tokens whose activations are kept at a time. Where the batch has more and the loss is over the batch,
            embeddings and their gradients come first, and activations are made once more, part by part.
        idle: Forward passes to add that nobody watches, so that all processes of a sharded model make as many.
    """
    parts = batch.split(at_once)
    try:
        if not torch.is_grad_enabled():
            for part in parts:
                embedder.both(part, watched=True)
            _idle(embedder, idle)
        elif len(parts) == 1 or not objective.over_batch:
            for part in parts:
                queries, passages = embedder.both(part, watched=True)
                total = objective(queries, passages, part)
                (total + _idle(embedder, idle)).backward()  # type: ignore[no-untyped-call]
        else:
            _by_parts(embedder, batch, parts, objective)
    finally:
        embedder.watch.clear()
        for tap in hooks:
            tap.forget()


def _by_parts(embedder: Embedder, batch: Batch, parts: Sequence[Batch], objective: Objective) -> None:
    """Source: Gao et al. 2021, gradient caching (arXiv 2101.06983), over whole triplets; the last part runs once."""
    with torch.no_grad():
        found = [embedder.both(part, watched=False) for part in parts[:-1]]
    last = embedder.both(parts[-1], watched=True)
    found.append((last[0].detach(), last[1].detach()))
    queries = torch.cat([each for each, _ in found]).requires_grad_()
    passages = torch.cat([each for _, each in found]).requires_grad_()
    gradients = torch.autograd.grad(objective(queries, passages, batch), (queries, passages))
    by_query = torch.split(gradients[0], [len(each) for each, _ in found])
    by_passage = torch.split(gradients[1], [len(each) for _, each in found])
    torch.autograd.backward(last, (by_query[-1], by_passage[-1]))
    del last
    for part, of_queries, of_passages in zip(parts[:-1], by_query, by_passage, strict=False):
        torch.autograd.backward(embedder.both(part, watched=True), (of_queries, of_passages))


def idle_step(embedder: Embedder, rounds: int) -> None:
    """Take part in a step of a sharded model without a batch of one's own."""
    total = _idle(embedder, rounds)
    if isinstance(total, Tensor) and total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]


def _idle(embedder: Embedder, rounds: int) -> Tensor | int:
    """Return a zero that depends on so many forward passes of a text that is nobody's."""
    return sum(embedder.forward(["a"], "query", None, 0).sum() * 0 for _ in range(rounds))


@contextmanager
def frozen(model: SentenceTransformer, *, gradients: bool) -> Iterator[None]:
    """Evaluation mode, no parameter differentiated."""
    parameters = list(model.parameters())
    required = [parameter.requires_grad for parameter in parameters]
    model.requires_grad_(requires_grad=False)
    try:
        with evaluating(model), torch.set_grad_enabled(gradients):
            yield
    finally:
        for parameter, was_required in zip(parameters, required, strict=True):
            parameter.requires_grad_(was_required)


@contextmanager
def gradients_from(model: SentenceTransformer, linear_layers: Sequence[LinearLayer]) -> Iterator[None]:
    """Let gradients start at the first block that holds one of ``linear_layers``, or behind the embedding table."""
    layers = [matrix.layer for matrix in linear_layers if matrix.layer is not None]
    first = min(layers) if len(layers) == len(linear_layers) else 0
    if first:
        handle = blocks(model)[first].register_forward_pre_hook(_differentiated, with_kwargs=True)
    else:
        table: nn.Module = transformer_of(model).get_input_embeddings()
        handle = table.register_forward_hook(
            lambda _module, _args, output: output.requires_grad_() if torch.is_grad_enabled() else None
        )
    try:
        yield
    finally:
        handle.remove()


def _differentiated(
    _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """Make the hidden states that a block reads a leaf, unless an earlier call of it made them depend on one."""
    hidden = args[0] if args else kwargs.get("hidden_states")
    if not isinstance(hidden, Tensor) or hidden.requires_grad or not torch.is_grad_enabled():
        return None
    leaf = hidden.detach().requires_grad_()
    return ((leaf, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": leaf})


@contextmanager
def recomputing(model: SentenceTransformer, watch: HookContext) -> Iterator[None]:
    """Keep no activations inside the blocks: each block runs once more when its gradients are needed."""
    with ExitStack() as stack:
        for block in blocks(model):
            block.forward = _rerun(block.forward, watch)
            stack.callback(delattr, block, "forward")
        yield


def _rerun(forward: Callable[..., Any], watch: HookContext) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not args:
            args = (kwargs.pop("hidden_states"),)
        if not (torch.is_grad_enabled() and args[0].requires_grad):
            return forward(*args, **kwargs)
        texts = watch.texts

        def run(*inner: Any) -> Any:
            again = torch.is_grad_enabled()
            before = watch.texts, watch.again
            watch.texts, watch.again = texts, again
            try:
                return forward(*inner, **kwargs)
            finally:
                watch.texts, watch.again = before

        # preserve_rng_state: nothing is drawn in evaluation mode
        return checkpoint(run, *args, use_reentrant=True, preserve_rng_state=False)

    return wrapped

"""How long a distillation takes: measured on a few of its own batches, before it starts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gaprune.config.recovery import RecoveryOptions
from gaprune.models.attention import differentiable_attention
from gaprune.models.encode import encode, tokenized
from gaprune.models.modes import shortened
from gaprune.models.prompts import TASKS, Prompts, Role, resolve_prompts
from gaprune.recovery.masked_training import in_float32
from gaprune.recovery.text_data import TextData

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PROBES = (0.5, 0.2, 0.5, 0.8)
"""Places, in the order of length, of the batches that are timed; the first one only warms up."""

_LOOKS = 1.1
"""What held-out looks and checkpoints add to the time of the training."""

Texts = list[tuple[Role, list[str]]]


@dataclass(frozen=True)
class Speed:
    """How fast this machine is.

    Args:
        parent: Tokens that the parent embeds per second.
        child: Tokens that the child is trained on per second.
        a_pass: Tokens of one pass over the texts.
        new: Share of the tokens of a later pass that the parent has not embedded yet: the queries.
    """

    parent: float
    child: float
    a_pass: float
    new: float

    def seconds(self, tokens: float) -> float:
        """Return how long ``tokens`` tokens take, the parent's embeddings included."""
        embedded = min(tokens, self.a_pass) + self.new * max(0.0, tokens - self.a_pass)
        return embedded / self.parent + _LOOKS * tokens / self.child

    def tokens(self, seconds: float) -> int:
        """Return how many tokens a time is enough for."""
        first = self.seconds(self.a_pass)
        if seconds <= first:
            return int(self.a_pass * seconds / first)
        return int(self.a_pass + (seconds - first) / (self.new / self.parent + _LOOKS / self.child))


def measure_speed(
    child: SentenceTransformer, parent: SentenceTransformer, data: TextData, options: RecoveryOptions
) -> Speed:
    """Time child and parent on a few batches of ``data``, which are planned for some of the texts.

    The child takes optimiser steps with a learning rate of zero, so that its weights remain the same.
    """
    prompts = resolve_prompts(child, query=options.query_prompt, passage=options.passage_prompt)
    pairs, batches = data.plan(options)
    order = sorted(range(len(batches)), key=data.packed.tokens.__getitem__)
    chosen = [order[int(place * (len(order) - 1))] for place in _PROBES]
    tokens = sum(data.packed.tokens[number] for number in chosen[1:])
    texts: list[Texts] = [
        [("query", [pairs[row].query for row in batches[n]]), ("passage", [pairs[row].positive for row in batches[n]])]
        for n in chosen
    ]
    own = parent.max_seq_length
    limit = None if options.max_length is None else min(options.max_length, own or options.max_length)
    with shortened(parent, limit), _autocast(parent, options):
        of_parent = _seconds(lambda batch: [encode(parent, part, role, prompts) for role, part in batch], texts)
    with in_float32(child), differentiable_attention(child.device), torch.random.fork_rng():
        optimizer = torch.optim.AdamW(child.parameters(), lr=0.0, weight_decay=0.0)
        of_child = _seconds(lambda batch: _step(child, batch, prompts, options, optimizer), texts)
    return Speed(tokens / of_parent, tokens / of_child, data.tokens_of_a_pass, data.query_share)


def _seconds(work: Callable[[Texts], object], batches: list[Texts]) -> float:
    """Return the seconds of ``work`` on all batches but the first, which warms up."""
    work(batches[0])
    start = time.perf_counter()
    for batch in batches[1:]:
        work(batch)
    return max(time.perf_counter() - start, 1e-9)


def _step(
    child: SentenceTransformer,
    batch: Texts,
    prompts: Prompts,
    options: RecoveryOptions,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Take a step of the training on a loss that costs as little as the loss of a distillation."""
    child.train()
    loss = torch.zeros((), device=child.device)
    for role, texts in batch:
        features = tokenized(child, texts, role, prompts.of(role))
        with _autocast(child, options):
            loss = loss + child(features, task=TASKS[role])["sentence_embedding"].float().square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    loss.item()  # waits for the device


def _autocast(model: SentenceTransformer, options: RecoveryOptions) -> torch.autocast:
    return torch.autocast(model.device.type, torch.bfloat16, enabled=bool(options.bf16))

"""The pass: triplets in, signals of every selected matrix out."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gaprune.anatomy import Matrix
from gaprune.config import SignalOptions
from gaprune.data import Triplet, Triplets
from gaprune.errors import DataError, ModelError, SignalError
from gaprune.models import Prompts, Role
from gaprune.progress import track
from gaprune.signals.loss import info_nce
from gaprune.signals.sums import Quantity, Signals
from gaprune.signals.taps import GramCache, Tap, Texts

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["measure"]

_TASKS: dict[Role, str] = {"query": "query", "passage": "document"}
"""What sentence-transformers calls the roles when it routes a text."""


def measure(
    model: SentenceTransformer,
    triplets: Triplets,
    matrices: Sequence[Matrix],
    *,
    quantities: Collection[Quantity],
    prompts: Prompts,
    options: SignalOptions,
    label: str = "calibration",
) -> Signals:
    """Measure the signals of ``matrices`` in one pass over ``triplets``.

    The model is in evaluation mode and frozen meanwhile and is left as it was. Triplets are taken in batches of
    like length. The gradient of triplet i is the part of the gradient of the summed loss that flows through its own
    texts; with explicit negatives alone it is the gradient of its own loss.

    Args:
        model: The model that holds the matrices.
        triplets: Calibration data.
        matrices: What to measure, from :func:`gaprune.anatomy.matrices`.
        quantities: Which signals; with ``gram`` and ``input_square`` alone no backward is run.
        prompts: Put before queries and passages.
        options: Loss, Fisher kind, batch size and seed.
        label: Name of the data in the progress bar.

    Raises:
        DataError: If explicit negatives are asked for and a triplet has none, or a batch is one pair alone.
        SignalError: If an embedding or gradient is not finite, or the embedding does not depend on a matrix.
    """
    with_gradients = bool({"fisher", "gradient", "output_gram", "gate"} & set(quantities))
    batches = list(_batches(triplets, options))
    if options.negatives == "explicit":
        _need_negatives(triplets)
    elif with_gradients:
        _need_company(batches, triplets)
    grams = GramCache()
    taps = [Tap(matrix, quantities, options.fisher == "batch", grams) for matrix in matrices]
    with ExitStack() as stack:
        stack.enter_context(_frozen(model, with_gradients))
        for tap in taps:
            handle = tap.matrix.module.register_forward_hook(tap.forward)
            stack.callback(handle.remove)
        seen = 0
        for batch in track(batches, f"Measuring {label}"):
            try:
                _measure_batch(model, batch, taps, prompts, options)
            except SignalError as error:
                raise SignalError(f"{error.problem} In the batch of {_sources(batch)}.", error.remedy) from error
            seen += len(batch)
            _need_use(taps, seen if with_gradients else 0)
    return Signals({tap.matrix.name: tap.signals for tap in taps}, triplets.fingerprint)


def _measure_batch(
    model: SentenceTransformer, batch: Sequence[Triplet], taps: Sequence[Tap], prompts: Prompts, options: SignalOptions
) -> None:
    queries = _embed(model, [item.query for item in batch], list(range(len(batch))), "query", prompts, taps=taps)
    owners = [index for index, item in enumerate(batch) for _ in item.passages]
    texts = [passage for item in batch for passage in item.passages]
    passages = _embed(model, texts, owners, "passage", prompts, taps=taps)
    if not torch.is_grad_enabled():
        return
    losses = info_nce(
        queries,
        passages,
        torch.tensor(owners, device=passages.device),
        temperature=options.temperature,
        in_batch=options.negatives == "in-batch",
    )
    losses.sum().backward()  # type: ignore[no-untyped-call]


def _embed(
    model: SentenceTransformer,
    texts: list[str],
    owners: list[int],
    role: Role,
    prompts: Prompts,
    *,
    taps: Sequence[Tap],
) -> Tensor:
    """Embed the texts of one role with the taps told which token belongs to which triplet; ``(texts, dim)``."""
    task = _TASKS[role]
    features = model.preprocess(texts, prompt=prompts.of(role), task=task)
    features = {key: value.to(model.device) if isinstance(value, Tensor) else value for key, value in features.items()}
    context = Texts(
        mask=features["attention_mask"].bool(),
        owners=torch.tensor(owners, device=model.device),
        triplets=owners[-1] + 1,
    )
    for tap in taps:
        tap.texts = context
    try:
        embeddings: Tensor = model(features, task=task)["sentence_embedding"]
    finally:
        for tap in taps:
            tap.texts = None
    if not torch.isfinite(embeddings).all():
        raise SignalError(
            f"The embedding of a {role} is not finite.",
            "Load the model in float32 or bfloat16 (--dtype), and check its weights and these texts.",
        )
    return embeddings if model.truncate_dim is None else embeddings[:, : model.truncate_dim]


def _batches(triplets: Triplets, options: SignalOptions) -> Iterator[list[Triplet]]:
    """Yield batches of triplets of like length and, within one, like size, in an order drawn from the seed."""
    by_length = sorted(triplets, key=lambda item: sum(map(len, item.passages), len(item.query)))
    count = math.ceil(len(by_length) / options.triplets_per_batch)
    bounds = [len(by_length) * index // count for index in range(count + 1)]
    generator = torch.Generator().manual_seed(options.seed)
    for index in torch.randperm(count, generator=generator).tolist():
        yield by_length[bounds[index] : bounds[index + 1]]


@contextmanager
def _frozen(model: SentenceTransformer, with_gradients: bool) -> Iterator[None]:
    """Evaluation mode, no parameter differentiated; gradients start at the output of the embedding table."""
    parameters = list(model.parameters())
    required = [parameter.requires_grad for parameter in parameters]
    training = {module: module.training for module in model.modules()}
    transformer = model.transformers_model
    if transformer is None:
        raise ModelError("The model holds no transformer.", "Choose a model whose modules start with a Transformer.")
    table: nn.Module = transformer.get_input_embeddings()
    handle = table.register_forward_hook(lambda _module, _args, output: output.requires_grad_(with_gradients))
    model.requires_grad_(requires_grad=False).eval()
    try:
        with torch.set_grad_enabled(with_gradients):
            yield
    finally:
        handle.remove()
        for module, mode in training.items():
            module.training = mode
        for parameter, was_required in zip(parameters, required, strict=True):
            parameter.requires_grad_(was_required)


def _need_negatives(triplets: Triplets) -> None:
    for item in triplets:
        if not item.negatives:
            raise DataError(
                "has no negative, and only explicit negatives are asked for.",
                "Use --negatives in-batch, or mine some with --mine-negatives 1.",
                source=item.source or triplets.name,
            )


def _need_company(batches: Sequence[Sequence[Triplet]], triplets: Triplets) -> None:
    """A pair alone in its batch has no candidate but its positive: its loss is zero whatever the model does."""
    for batch in batches:
        if len(batch) == 1 and not batch[0].negatives:
            raise DataError(
                "has no negative and is alone in its batch, so there is nothing to tell its positive from.",
                "Use --batch-size 3 or more and at least two pairs, or mine negatives with --mine-negatives 1.",
                source=batch[0].source or triplets.name,
            )


def _need_use(taps: Sequence[Tap], triplets: int) -> None:
    """Every layer has run and has had gradients of so many triplets."""
    for tap in taps:
        if tap.signals.tokens == 0 or tap.signals.triplets != triplets:
            raise SignalError(
                f"{tap.matrix.name}: no gradient reaches this layer, the embedding does not depend on it.",
                f"Leave it out (--ignore {tap.matrix.name}), or choose other --targets.",
            )


def _sources(batch: Sequence[Triplet]) -> str:
    named = [item.source for item in batch if item.source]
    return f"{', '.join(named[:4])}{', …' if len(named) > 4 else ''}" if named else f"{len(batch)} triplets"

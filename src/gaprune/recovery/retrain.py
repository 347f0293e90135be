"""All training after pruning: distillation on texts, then fine-tuning on triplets; the door for every verb."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError, TimeTooShortError
from gaprune.models.heads import add_head
from gaprune.models.prompts import Role, resolve_prompts
from gaprune.reconstruction.head import fit_head
from gaprune.recovery.arguments import computes_in_bf16
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import RecoveryData
from gaprune.recovery.estimate import Speed, measure_speed
from gaprune.recovery.recover_model import Training, recover_model
from gaprune.recovery.teacher import Teacher, embed_with_teacher
from gaprune.recovery.text_data import TextData
from gaprune.util.distributed import all_reduce_min, rank, world_size
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_PASSES = 3
"""Passes over the texts if neither tokens nor minutes are given."""

_PATIENCE = 3
"""Looks at the held-out texts without an improvement after which a distillation stops, by default."""

_LOOKS, _PASSES_OF_A_STEP = 0.1, 3
"""Looks at held-out texts cost at most this share of the training, whose steps cost so many forward passes."""

_HEAD = 4096
"""Passages, each with a query, that a linear head is fitted on, if embeddings have another width than the parent's."""

_SAMPLE = 100_000
"""Tokens of the batches that the speed is estimated on."""

FEWEST_STEPS = 20
"""Steps of a distillation that a time budget must be enough for, and below which a number of tokens is warned of."""


@dataclass(frozen=True)
class Stage:
    """A finished stage of training: a distillation on texts (:class:`TextData`) or a fine-tuning on triplets."""

    options: RecoveryOptions
    data: RecoveryData | TextData
    training: Training


def retrain(
    child: SentenceTransformer,
    parent: SentenceTransformer | None,
    options: RecoveryOptions,
    checkpoints: Checkpoints,
    *,
    texts: TextData | None = None,
    triplets: RecoveryData | None = None,
    parent_sha256: str = "",
    identity: Mapping[str, object] | None = None,
) -> tuple[Stage, ...]:
    """Train ``child`` in place: a distillation on texts, then a fine-tuning on triplets; either can be left out.

    The distillation reads ``options.tokens`` tokens, or as many as ``options.minutes`` are enough for together with
    the fine-tuning (the smaller number if both are given; three passes without either). How long it takes is measured
    on a few batches and said before it starts. The fine-tuning takes ``options.steps`` steps. Weights that are zero
    remain zero. A run that was ended continues from ``checkpoints``, which the caller clears once the result is safe.

    Args:
        child: The model to train, on its device.
        parent: The model to distil from; ``None`` if nothing is distilled.
        options: All options of the training.
        checkpoints: Where the state is kept.
        texts: Texts of the domain: ``TextData.of(read_passages(path), None, options)``.
        triplets: Triplets of the domain: ``read_recovery_data(options)``.
        parent_sha256: Fingerprint of the parent's weights, for the file of its embeddings.
        identity: What else must be the same if a run continues.

    Returns:
        What was done in every stage, in order.

    Raises:
        TimeTooShortError: If the time is too short.
        ConfigError: If a run continues that is another.
        GapruneError: As :func:`gaprune.recovery.recover_model.recover_model`.
    """
    if texts is not None and options.bf16 is None:
        options = options.model_copy(update={"bf16": computes_in_bf16(child.device)})
    seconds, start = None, time.monotonic()
    if texts is not None and parent is not None:
        _give_head(child, parent, texts, options)
        texts, seconds = _planned(child, parent, texts, options, checkpoints, triplets=triplets)
    if rank() == 0:
        planned = None if texts is None else sum(texts.packed.tokens)
        kinds = {"texts": texts and texts.as_dict(), "data": triplets and triplets.as_dict()}
        checkpoints.claim({**(identity or {}), **kinds, "tokens": planned, "seconds": seconds})
    stages = []
    if texts is not None:
        stages.append(_distilled(child, parent, texts, options, checkpoints, parent_sha256, seconds))
    if triplets is not None:
        finish = options.model_copy(update={"texts": None, "tokens": None, "minutes": None})
        teacher = _teacher(parent, triplets, finish, parent_sha256) if finish.distil else None
        is_timed = seconds is not None and world_size() == 1  # several processes have to stop at the same step
        spent = max(time.monotonic() - start, sum(each.training.seconds for each in stages))
        left = 60 * (options.minutes or 0.0) - spent if is_timed else None
        points, label = checkpoints.of("triplets"), "Fine-tuning on triplets"
        training = recover_model(child, triplets, finish, points, teacher=teacher, seconds=left, label=label)
        stages.append(Stage(finish, triplets, training))
    return tuple(stages)


def check_width(child: SentenceTransformer, parent: SentenceTransformer | None, options: RecoveryOptions) -> None:
    """Refuse to compare embeddings of different dimensions one by one on triplets.

    Raises:
        ConfigError: If the dimensions differ, the loss compares embeddings, and no texts are named to fit a head on.
    """
    if parent is None or options.texts or not (options.distil and (options.embedding_weight or options.fixed_targets)):
        return
    mine, its = child.get_embedding_dimension(), parent.get_embedding_dimension()
    if mine != its:
        raise ConfigError(
            f"embedding_weight: the model's embeddings have {mine} dimensions, the parent's {its}.",
            "Name texts to fit a linear head on (--texts), or distil similarities alone: --set embedding_weight=0.",
        )


def _give_head(
    child: SentenceTransformer, parent: SentenceTransformer, texts: TextData, options: RecoveryOptions
) -> None:
    """Add a linear head to the parent's dimensions, if the child's embeddings have others."""
    mine, its = child.get_embedding_dimension(), parent.get_embedding_dimension()
    if mine == its:
        return
    entries = random.Random(options.seed).sample(texts.domain.entries, min(_HEAD, len(texts.domain)))  # noqa: S311
    some: dict[Role, list[str]] = {
        "query": [entry.query(0) for entry in entries],
        "passage": [entry.passage for entry in entries],
    }
    prompts, its_prompts = (
        resolve_prompts(each, query=options.query_prompt, passage=options.passage_prompt) for each in (child, parent)
    )
    say(f"A linear head brings the model's {mine} dimensions to the parent's {its}.")
    add_head(child, fit_head(child, parent, some, prompts=prompts, parent_prompts=its_prompts))


def _distilled(
    child: SentenceTransformer,
    parent: SentenceTransformer | None,
    texts: TextData,
    options: RecoveryOptions,
    checkpoints: Checkpoints,
    parent_sha256: str,
    seconds: float | None,
) -> Stage:
    """Distil on texts that are planned, for at most ``seconds``, the parent's embeddings included."""
    start = time.monotonic()
    steps = len(texts.packed.batches)
    every = options.evaluate_every
    if not options.differs("evaluate_every"):
        rare = round(len(texts.held_out or ()) / (_LOOKS * _PASSES_OF_A_STEP * options.batch_size))
        every = max(every, steps // 20, rare)
    asked = options.model_copy(
        update={
            "distil": True, "contrastive_weight": 0.0, "fixed_targets": False, "steps": steps, "evaluate_every": every,
            "patience": options.patience or (_PATIENCE if texts.held_out else None),
        }
    )  # fmt: skip
    teacher = _teacher(parent, texts, asked, parent_sha256)
    limit = None if world_size() > 1 else seconds  # several processes have to stop at the same step
    prepared, points = time.monotonic() - start, checkpoints.of("texts")
    training = recover_model(
        child, texts, asked, points, teacher=teacher, seconds=limit, prepared=prepared, label="Distilling"
    )
    return Stage(asked, texts, training)


def _teacher(
    parent: SentenceTransformer | None, data: RecoveryData | TextData, options: RecoveryOptions, sha256: str
) -> Teacher:
    """Return the parent's embeddings of all texts, which the first process computes."""
    from accelerate import PartialState

    if parent is None:
        raise ConfigError("parent: nothing says what to distil from.", "Name the dense model with --parent.")
    with PartialState().main_process_first() if world_size() > 1 else nullcontext():
        return embed_with_teacher(parent, data.texts([options]), options, fingerprint=sha256)


def _planned(
    child: SentenceTransformer,
    parent: SentenceTransformer,
    texts: TextData,
    options: RecoveryOptions,
    checkpoints: Checkpoints,
    *,
    triplets: RecoveryData | None,
) -> tuple[TextData, float | None]:
    """Return the texts with the batches that the budget is enough for, and their seconds if there is a time budget.

    How long they take is said.
    """
    kept = checkpoints.kept("tokens")
    if kept is not None:  # planned before the run was ended
        return texts.planned(child, int(kept), options), checkpoints.kept("seconds")
    sample = texts.planned(child, _SAMPLE, options)
    speed = measure_speed(child, parent, sample, options)
    seconds, finish = None, _finish(options, speed, sample, triplets)
    tokens = options.tokens or int(_PASSES * speed.a_pass)
    if options.minutes is not None:
        seconds = _seconds(options, speed, sample, finish)
        affordable = speed.tokens(seconds)
        tokens = affordable if options.tokens is None else min(tokens, affordable)
    planned = texts.planned(child, all_reduce_min(tokens), options)
    total = sum(planned.packed.tokens)
    say(
        f"Distilling on {total:,} tokens, {planned.passes:.1f} passes over {len(planned.domain):,} passages: about "
        f"{_minutes(speed.seconds(total))} (the parent embeds {speed.parent:,.0f} tokens per second, the model is "
        f"trained on {speed.child:,.0f})."
    )
    if (steps := len(planned.packed.batches)) < FEWEST_STEPS:
        say(
            f"Warning: {total:,} tokens are {steps} steps of {options.batch_size} texts; fewer than {FEWEST_STEPS} "
            f"seldom help. Give --tokens {FEWEST_STEPS * total // steps} or more, or a smaller --batch-size."
        )
    if triplets is not None:
        limit = "" if options.minutes is None else f"; both end after {options.minutes:.3g} minutes"
        say(f"Then {options.steps} steps of fine-tuning on triplets: about {_minutes(finish)}{limit}.")
    return planned, seconds


def _finish(options: RecoveryOptions, speed: Speed, sample: TextData, triplets: RecoveryData | None) -> float:
    """Return how many seconds the fine-tuning on triplets takes, with its looks at held-out ones."""
    if triplets is None:
        return 0.0
    rows = [row for batch in sample.packed.batches for row in batch]
    a_pair = sum(sample.packed.tokens) / len(rows) * (1 + triplets.negatives)
    looks = 2 + options.steps // options.evaluate_every
    pairs = options.steps * options.batch_size + looks * len(triplets.held_out or ()) / _PASSES_OF_A_STEP
    return pairs * a_pair / speed.child


def _seconds(options: RecoveryOptions, speed: Speed, sample: TextData, finish: float) -> float:
    """Return the time for the distillation, beside the seconds of the fine-tuning on triplets.

    Raises:
        ConfigError: If that is not enough for a few steps.
    """
    a_step = sum(sample.packed.tokens) / len(sample.packed.batches)
    least = speed.seconds(FEWEST_STEPS * a_step)
    seconds = 60 * (options.minutes or 0.0) - finish
    if seconds < least:
        also = f" and {options.steps} steps on triplets" if finish else ""
        raise TimeTooShortError(
            f"minutes: {options.minutes:g} are too few: {FEWEST_STEPS} steps of distillation{also} take about "
            f"{_minutes(finish + least)} here.",
            f"Give --minutes {(finish + least) / 60:.1f} or more{', or lower --steps' if finish else ''}.",
            least_minutes=(finish + least) / 60,
        )
    return seconds


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"

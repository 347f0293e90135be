"""Pruning with recovery in one go: prune a bit, recover a bit, up to the same budget."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.anatomy import matrices
from gaprune.config import Recipe, RecoveryOptions
from gaprune.errors import ConfigError
from gaprune.recovered import record
from gaprune.recovery import Corpus, Teacher, check_extras, read_corpus, sparsities, steps_of_rounds, train
from gaprune.recovery.teacher import default_cache
from gaprune.surgery import Pruning, apply

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sentence_transformers import SentenceTransformer

    from gaprune.data import Triplet
    from gaprune.models import Prompts
    from gaprune.scores import Scores

__all__ = ["Gradual"]

_SHARED = (
    "domain", "general", "subset", "split", "columns", "general_subset", "general_split", "general_columns",
    "query_prompt", "passage_prompt", "max_length", "seed",
)  # fmt: skip
"""Options that recovery takes from the recipe of the pruning."""

_NOT_HERE = (
    *_SHARED, "model", "parent", "steps", "targets", "device", "trust_remote_code", "tasks", "out", "overwrite",
    "checkpoints", "resume", "mine_negatives",
)  # fmt: skip
"""Options of a recovery that the recipe decides."""


class Gradual:
    """Prunes and recovers by turns.

    Args:
        recipe: What is asked for; its ``recover`` steps are split over its ``rounds``.
        domain: Triplets used instead of those the recipe names.
        general: Likewise.

    Raises:
        GapruneError: One of its kinds if options or data do not fit; the data are read here.
    """

    def __init__(
        self, recipe: Recipe, *, domain: Sequence[Triplet] | None = None, general: Sequence[Triplet] | None = None
    ) -> None:
        for option in recipe.recover_options:
            if option in _NOT_HERE:
                raise ConfigError(f"recover_options: {option} is no option here.", "Say it to prune itself.")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(
                "recover: pruning is done by one process.", "Prune first, then start `gaprune recover` with torchrun."
            )
        shared = {name: getattr(recipe, name) for name in _SHARED}
        steps = recipe.recover // recipe.rounds
        if not steps:
            raise ConfigError(
                f"rounds: {recipe.recover} steps do not reach for {recipe.rounds} rounds.", "Raise --recover."
            )
        self.recipe = recipe
        self.options = RecoveryOptions.build(shared, {"steps": recipe.recover}, recipe.recover_options)
        check_extras(self.options)
        self.corpus: Corpus = read_corpus(self.options, domain=domain, general=general)

    def run(
        self,
        parent: SentenceTransformer,
        identity: Mapping[str, Any],
        prompts: Prompts,
        sparsity: float,
        score: Callable[[SentenceTransformer | None], Scores],
    ) -> tuple[SentenceTransformer, Pruning, list[dict[str, Any]]]:
        """Return the model, which of its weights stayed, and what the provenance says of every recovery.

        Args:
            parent: The dense model; it is left as it is.
            identity: What identifies it.
            prompts: Put before queries and passages.
            sparsity: Sparsity after the last round.
            score: Scores a model, the parent for ``None``.
        """
        recipe = self.recipe
        teacher = self._teacher(parent, identity, prompts)
        model, keep, records = None, {}, []
        steps = steps_of_rounds(recipe.recover, recipe.rounds)
        for turn, (budget, count) in enumerate(zip(sparsities(sparsity, recipe.rounds), steps, strict=True)):
            scores = score(model)
            if model is not None:
                scores = scores.below(keep)
            current = parent if model is None else model
            names = {matrix.name: matrix.module.weight.detach() for matrix in matrices(current)}
            weights = {name: names[name] for name in scores.importances}
            pruning = scores.decide(weights, sparsity=budget, allocation=recipe.allocation, pattern=recipe.pattern)
            model, keep = apply(current, pruning), dict(pruning.keep)
            options = self.options.model_copy(update={"steps": count, "seed": self.options.seed + turn})
            records.append(self._recover(model, options, pruning, prompts, teacher, turn))
        if model is None:
            raise ConfigError("rounds: there is none.", "Use --rounds 1 or more.")
        return model, Pruning(keep), records

    def _recover(
        self,
        model: SentenceTransformer,
        options: RecoveryOptions,
        pruning: Pruning,
        prompts: Prompts,
        teacher: Teacher | None,
        turn: int,
    ) -> dict[str, Any]:
        checkpoints = Path(tempfile.mkdtemp(prefix="gaprune-"))
        rounds = self.recipe.rounds
        try:
            training = train(
                model,
                self.corpus,
                options,
                prompts=prompts,
                zeros={name: ~keep for name, keep in pruning.keep.items() if not keep.all()},
                units=False,
                checkpoints=checkpoints,
                teacher=teacher,
                label="Recovering" if rounds == 1 else f"Recovering, round {turn + 1} of {rounds}",
            )
        finally:
            shutil.rmtree(checkpoints)
        of_parent = {"name": "the parent"} if teacher is not None else None
        return record(options, self.corpus, training, of_parent)

    def _teacher(self, parent: SentenceTransformer, identity: Mapping[str, Any], prompts: Prompts) -> Teacher | None:
        if not self.options.distil:
            return None
        from contextlib import nullcontext

        first: AbstractContextManager[None] = nullcontext()
        cache = self.options.teacher_cache
        return Teacher.of(
            parent,
            self.corpus.texts(),
            prompts=prompts,
            fingerprint=identity["weights_sha256"],
            cache=default_cache() if cache is None else Path(cache),
            first=first,
        )

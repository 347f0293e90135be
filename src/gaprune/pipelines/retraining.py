"""Recovery as part of a run: what it is trained on is read before anything is pruned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.errors import ConfigError
from gaprune.pipelines.recovered import record
from gaprune.recovery.arguments import check_extras, check_training
from gaprune.recovery.corpus import read_corpus
from gaprune.recovery.held import held_matrices, zeros_of
from gaprune.recovery.schedule import sparsities, steps_of_rounds
from gaprune.recovery.teacher import Teacher, default_cache
from gaprune.recovery.train import train
from gaprune.util.distributed import launched_processes
from gaprune.util.files import temporary_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data.triplets import Triplet
    from gaprune.models.prompts import Prompts

__all__ = ["Retraining", "Round", "turns"]

_SHARED = (
    "domain", "general", "subset", "split", "columns", "general_subset", "general_split", "general_columns",
    "query_prompt", "passage_prompt", "max_length", "mine_negatives", "seed",
)  # fmt: skip
"""Options that recovery takes from the recipe of the pruning."""

_NOT_HERE = (
    *_SHARED, "model", "parent", "steps", "targets", "device", "trust_remote_code", "tasks", "out", "overwrite",
    "checkpoint", "resume",
)  # fmt: skip
"""Options of a recovery that the recipe decides."""


@dataclass(frozen=True)
class Round:
    """One round of pruning, and of recovery where there are steps.

    Args:
        number: From zero.
        of: How many rounds there are.
        sparsity: What is gone after it.
        steps: Steps of recovery.
    """

    number: int
    of: int
    sparsity: float
    steps: int


def _instead(option: str) -> str:
    """Return the way out for an option that recovery has by itself alone."""
    if option == "steps":
        return "Give the steps as --recover (recover=...)."
    if option in Recipe.model_fields and option not in ("checkpoint", "resume"):  # those are of the measurement
        return "Say it to prune itself."
    return "Prune first, then give it to `gaprune recover` (gaprune.recover)."


def turns(recipe: Recipe, sparsity: float) -> list[Round]:
    """Return the rounds that lead to a sparsity."""
    count = recipe.rounds
    rounds = zip(sparsities(sparsity, count), steps_of_rounds(recipe.recover, count), strict=True)
    return [Round(number, count, budget, steps) for number, (budget, steps) in enumerate(rounds)]


class Retraining:
    """The recoveries of a run.

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
        for option in recipe.recovery:
            if option in _NOT_HERE:
                raise ConfigError(f"recovery: {option} is not an option here.", _instead(option))
        if launched_processes() > 1:
            raise ConfigError(
                "recover: several processes measure together, and this would train in each of them.",
                "Prune first, then start `gaprune recover` with torchrun.",
            )
        if recipe.recover < recipe.rounds:
            raise ConfigError(
                f"rounds: {recipe.recover} steps do not reach for {recipe.rounds} rounds.", "Raise --recover."
            )
        shared = {name: getattr(recipe, name) for name in _SHARED}
        self.options = RecoveryOptions.build(shared, {"steps": recipe.recover}, recipe.recovery)
        check_extras(self.options)
        self.corpus = read_corpus(self.options, domain=domain, general=general)
        self.trainings = [self._of_turn(turn) for turn in turns(recipe, sparsity=1.0)]  # the same for every sparsity
        self.corpus.check(self.trainings, parts=1)
        self.out = recipe.out
        self.teacher: Teacher | None = None
        self.identity: Mapping[str, Any] | None = None

    def prepare(self, parent: SentenceTransformer, identity: Mapping[str, Any], prompts: Prompts) -> None:
        """Take from the parent what training needs of it, as long as it is what it was.

        Args:
            parent: The dense model.
            identity: What identifies it.
            prompts: Put before queries and passages.

        Raises:
            GapruneError: One of its kinds if the model cannot be trained as asked for.
        """
        check_training(parent, self.corpus, self.options, prompts)
        if self.options.mine_negatives:
            self.corpus = self.corpus.with_negatives(parent, self.options.mine_negatives, prompts)
            self.corpus.check(self.trainings, parts=1)
        if self.options.distil:
            cache = self.options.teacher_cache
            self.identity = identity
            self.teacher = Teacher.of(
                parent,
                self.corpus.texts(self.trainings),
                prompts=prompts,
                fingerprint=identity["weights_sha256"],
                cache=default_cache() if cache is None else Path(cache),
                first=nullcontext(),
            )

    def _of_turn(self, turn: Round) -> RecoveryOptions:
        return self.options.model_copy(update={"steps": turn.steps, "seed": self.options.seed + turn.number})

    def train(
        self,
        model: SentenceTransformer,
        turn: Round,
        *,
        prompts: Prompts,
    ) -> dict[str, Any]:
        """Retrain ``model`` in place, and return what the provenance says of it.

        Args:
            model: What was pruned.
            turn: The round.
            prompts: Put before queries and passages.
        """
        options = self._of_turn(turn)
        with temporary_folder(self.out) as checkpoints:
            training = train(
                model,
                self.corpus,
                options,
                prompts=prompts,
                zeros=zeros_of(held_matrices(model, None)),
                checkpoints=checkpoints,
                resumable=False,
                teacher=self.teacher,
                label="Recovering" if turn.of == 1 else f"Recovering, round {turn.number + 1} of {turn.of}",
            )
        return record(options, self.corpus, training, self.identity)

"""Recovery as part of ``gaprune.prune``: checked and read before anything is pruned, run after each round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.data.triplets import Triplet
from gaprune.errors import ConfigError
from gaprune.export.portable import Parent
from gaprune.export.records import Recovery
from gaprune.pipelines.recovered import record
from gaprune.recovery.arguments import check_training
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import RecoveryData, read_recovery_data
from gaprune.recovery.recover_model import recover_model
from gaprune.recovery.retrain import Stage
from gaprune.recovery.rounds import Round, plan_rounds
from gaprune.recovery.teacher import Teacher, embed_with_teacher
from gaprune.util.distributed import launched_processes
from gaprune.util.files import temporary_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_SHARED = (
    "domain", "general", "subset", "split", "columns", "general_subset", "general_split", "general_columns",
    "query_prompt", "passage_prompt", "max_length", "mine_negatives", "seed",
)  # fmt: skip
"""Options that recovery takes from the recipe of the pruning."""

_NOT_HERE = {
    *_SHARED, "model", "parent", "steps", "targets", "device", "trust_remote_code", "tasks", "out", "overwrite",
    "checkpoint", "resume", "texts", "tokens", "minutes",
}  # fmt: skip
"""Options of ``gaprune recover`` that the recipe decides."""


@dataclass(frozen=True)
class RecoveryPlan:
    """The recoveries of a run of pruning."""

    options: tuple[RecoveryOptions, ...]
    data: RecoveryData
    teacher: Teacher | None = None
    teacher_identity: Parent | None = None

    def prepare(self, parent: SentenceTransformer, identity: Parent) -> RecoveryPlan:
        """Return the plan with mined negatives and the parent's embeddings, once the parent is loaded.

        Raises:
            GapruneError: One of its kinds if the model cannot be trained as asked for.
        """
        options, data = self.options[0], self.data
        check_training(parent, data, options)
        data = data.mined(parent, self.options)
        if not options.distil:
            return replace(self, data=data)
        fingerprint = identity.weights_sha256
        teacher = embed_with_teacher(parent, data.texts(self.options), options, fingerprint=fingerprint)
        return replace(self, data=data, teacher=teacher, teacher_identity=identity)

    def recover(self, model: SentenceTransformer, after: Round, *, beside: str | None) -> Recovery:
        """Recover ``model`` in place after a round of pruning, and return the record for the provenance."""
        options = self.options[after.number]
        label = "Recovering" if after.count == 1 else f"Recovering, round {after.number + 1} of {after.count}"
        with temporary_folder(beside) as folder:
            training = recover_model(model, self.data, options, Checkpoints(folder), teacher=self.teacher, label=label)
        return record(Stage(options, self.data, training), self.teacher_identity)


def rounds_to(recipe: Recipe, sparsity: float) -> list[Round]:
    """Return the rounds of pruning and recovery that lead to a sparsity; structures have one, after all of theirs."""
    return plan_rounds(sparsity, recipe.recover, 1 if recipe.is_structured else recipe.rounds)


def plan_recovery(
    recipe: Recipe, *, domain: Sequence[Triplet] | None = None, general: Sequence[Triplet] | None = None
) -> RecoveryPlan:
    """Read the data of the recoveries of a run and check that they fit; triplets given here replace the files.

    Raises:
        GapruneError: One of its kinds if options or data do not fit.
    """
    for option in recipe.recovery:
        if option in _NOT_HERE:
            raise ConfigError(f"recovery: {option} is not an option here.", _instead(option))
    if launched_processes() > 1:
        raise ConfigError(
            "recover: several processes measure together, and this would train in each of them.",
            "Prune first, then start `gaprune recover` with torchrun.",
        )
    if recipe.recover < recipe.rounds and not recipe.is_structured:
        raise ConfigError(
            f"rounds: {recipe.recover} steps are too few for {recipe.rounds} rounds.", "Raise --recover."
        )
    shared = {name: getattr(recipe, name) for name in _SHARED}
    options = RecoveryOptions.build(shared, {"steps": recipe.recover}, recipe.recovery)
    data = read_recovery_data(options, domain=domain, general=general)
    by_round = tuple(
        options.model_copy(update={"steps": each.steps, "seed": options.seed + each.number})
        for each in rounds_to(recipe, 1.0)  # the same steps for every sparsity
    )
    data.check(by_round)
    return RecoveryPlan(by_round, data)


def _instead(option: str) -> str:
    """Return what to do with an option that the recovery within pruning does not have."""
    if option == "steps":
        return "Give the steps as --recover (recover=...)."
    if option in Recipe.model_fields and option not in ("checkpoint", "resume"):  # those of the measurement
        return "Give it to prune itself."
    return "Prune first, then give it to `gaprune recover` (gaprune.recover)."

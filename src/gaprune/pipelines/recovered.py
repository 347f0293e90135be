"""The result of a recovery: a model that can be evaluated and saved, with its provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gaprune.config.recovery import RecoveryOptions
from gaprune.evaluation.cost.footprint import footprint
from gaprune.evaluation.quality.evaluate import evaluate
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import Task
from gaprune.export.folder import save
from gaprune.export.provenance import versions
from gaprune.models.linear_layers import linear_layers
from gaprune.models.prompts import Prompts
from gaprune.models.selection import select
from gaprune.recovery.data import RecoveryData
from gaprune.recovery.recover_model import TrainingRecord
from gaprune.report.card import model_card

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Recovered", "origin", "record"]

_WHERE = {"model", "out", "overwrite", "checkpoints", "resume", "teacher_cache", "tasks"}
"""Options that say where things are, not what is done."""


def record(
    options: RecoveryOptions, data: RecoveryData, training: TrainingRecord, teacher: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Return what the provenance says of one recovery."""
    return {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "data": data.as_dict(),
        "options": options.model_dump(mode="json", exclude=_WHERE),
        "teacher": teacher,
        "training": training.as_dict(),
    }


@dataclass(frozen=True, repr=False)
class Recovered:
    """A model after its recovery.

    Args:
        model: The recovered model; the one given is another object, unchanged.
        options: Options of the recovery.
        training: How the training went.
        prompts: Put before queries and passages.
        base: Provenance of the model that was recovered.
        record: What the provenance says of this recovery.
        evaluation: Its quality, where it was evaluated.
    """

    model: SentenceTransformer
    options: RecoveryOptions
    training: TrainingRecord
    prompts: Prompts
    base: Mapping[str, Any]
    record: Mapping[str, Any]
    evaluation: Evaluation | None = None

    def __repr__(self) -> str:
        training = self.training
        losses = [each.get("loss") for each in (training.before, training.after)]
        said = "" if None in losses else f", held-out loss {losses[0]:.4f} to {losses[1]:.4f}"
        return f"Recovered({training.steps} steps, {training.masked_weights:,} weights kept at zero{said})"

    def evaluate(self, tasks: Sequence[Task], *, parent: SentenceTransformer | Evaluation | None = None) -> Self:
        """Return this result with its quality in ``tasks``, beside the parent's where that is given."""
        return replace(self, evaluation=evaluate(self.model, tasks, prompts=self.prompts, parent=parent))

    def provenance(self) -> dict[str, Any]:
        """Return everything that made this model, as plain data for JSON: its pruning, and every recovery in turn."""
        return {
            **self.base,
            "sparsity": self._sparsity(),
            "recovery": [*self.base.get("recovery", ()), self.record],
            "evaluation": None if self.evaluation is None else self.evaluation.as_dict(),
        }

    def _sparsity(self) -> Mapping[str, Any]:
        """Return the sparsity as it is now: zeros outside the targets of a recovery were not held."""
        said: Mapping[str, Any] = self.base["sparsity"]
        if "cuts" in self.base["method"]:
            return said
        size = footprint(self.model)
        found = [each for each in size.linear_layers if each.name in said["by_matrix"]]
        zeros = sum(each.zeros for each in found)
        return {
            **said,
            "of_selected": zeros / said["selected"],
            "of_model": zeros / size.parameters,
            "removed": zeros,
            "by_matrix": {each.name: each.zeros / each.size for each in found},
        }

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model, its card and its provenance to the folder ``out``.

        Raises:
            OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
        """
        provenance = self.provenance()
        card = model_card(provenance, self.evaluation)
        return save(self.model, out, card=card, provenance=provenance, overwrite=overwrite)


def origin(model: SentenceTransformer, identity: Mapping[str, Any], options: RecoveryOptions) -> dict[str, Any]:
    """Return the provenance of a model that GAPrune did not prune: itself is its parent, and no criterion is known.

    Args:
        model: The model.
        identity: What identifies it as it was.
        options: Options of the recovery.
    """
    size = footprint(model)
    by_name = {each.name: each for each in size.linear_layers}
    targets = options.targets or ("all",)
    layers = linear_layers(model)
    chosen = select(layers, targets) if options.targets else [each for each in layers if each.layer is not None]
    found = [by_name[matrix.name] for matrix in chosen]
    zeros, selected = sum(each.zeros for each in found), sum(each.size for each in found)
    return {
        "versions": versions(),
        "parent": dict(identity),
        "method": {
            "criterion": None,
            "options": {},
            "granularity": "weight",
            "allocation": None,
            "targets": list(targets),
            "matrices": [each.name for each in found],
            "reconstruct": None,
        },
        "sparsity": {
            "asked": None,
            "of_selected": zeros / selected,
            "of_model": zeros / size.parameters,
            "removed": zeros,
            "selected": selected,
            "parameters": size.parameters,
            "parent_parameters": size.parameters,
            "by_matrix": {each.name: each.zeros / each.size for each in found},
        },
        "calibration": {},
        "recipe": {"max_length": None},
    }

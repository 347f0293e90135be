"""The result of a recovery: a model that can be evaluated and saved, with its provenance."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from gaprune.config.recovery import RecoveryOptions
from gaprune.evaluation.cost.footprint import Footprint, footprint
from gaprune.evaluation.quality.changed import ChangedQueries, evaluate_queries
from gaprune.evaluation.quality.scores import Evaluation
from gaprune.evaluation.quality.task import Task
from gaprune.export import records
from gaprune.export.folder import save
from gaprune.export.hub import Pushable
from gaprune.export.portable import Parent
from gaprune.export.provenance import Provenance, now, versions
from gaprune.export.records import Method, Recovery, Sparsity, Structured, Unstructured
from gaprune.models.linear_layers import linear_layers, select
from gaprune.models.prompts import Prompts, resolve_prompts
from gaprune.recovery.recover_model import Training
from gaprune.recovery.retrain import Stage
from gaprune.recovery.text_data import TextData
from gaprune.report.card import model_card
from gaprune.report.page import report_page

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_WHERE = {"model", "out", "overwrite", "checkpoint", "resume", "teacher_cache", "tasks"}
"""Options that name places and do not change the result."""


def record(stage: Stage, teacher: Parent | None, *, other: str | None = None) -> Recovery:
    """Return the record of one stage of training; ``other`` is the teacher's name, if it is not the parent."""
    options, data, name = stage.options, stage.data.as_dict(), other or "the parent"
    distilled = {
        f"distance to {name}'s embeddings": options.embedding_weight,
        f"distance to {name}'s similarities": options.similarity_weight,
    }
    contrastive = f"contrastive with {name}'s passages" if options.fixed_targets else "contrastive"
    loss = {contrastive: options.contrastive_weight, **(distilled if options.distil else {})}
    kind = records.DistillationData if isinstance(stage.data, TextData) else records.RecoveryData
    return Recovery(
        made=now(),
        versions=versions(),
        data=kind.model_validate(data),
        steps=options.steps,
        batch_size=options.batch_size,
        lora=options.lora,
        loss={term: weight for term, weight in loss.items() if weight},
        options=options.model_dump(mode="json", exclude=_WHERE),
        teacher=teacher if options.distil else None,
        other_teacher=other if options.distil else None,
        training=stage.training,
    )


@dataclass(frozen=True, repr=False)
class Recovered(Pushable):
    """A model after its recovery.

    Args:
        model: The recovered model; the one given is another object, unchanged.
        options: Options of the recovery.
        training: How the last stage of the training went.
        prompts: Put before queries and passages.
        base: Provenance of the model that was recovered.
        records: The records of its stages: a distillation on texts, a fine-tuning on triplets, or both.
        beside: Name of the model that it was evaluated beside, if that is not its parent.
        leaks: Sentences about triplets it was trained with that are in evaluation tasks too.
        evaluation: Its quality, if it was evaluated.
        queries: The queries that it answers worse and better than its parent, if it was evaluated beside it.
    """

    model: SentenceTransformer
    options: RecoveryOptions
    training: Training
    prompts: Prompts
    base: Provenance
    records: tuple[Recovery, ...]
    beside: str | None = None
    leaks: tuple[str, ...] = ()
    evaluation: Evaluation | None = None
    queries: ChangedQueries | None = None

    def __repr__(self) -> str:
        training = self.training
        losses = [each.get("loss") for each in (training.before, training.after)]
        said = "" if None in losses else f", held-out loss {losses[0]:.4f} to {losses[1]:.4f}"
        return f"Recovered({training.steps} steps, {training.masked_weights:,} weights kept at zero{said})"

    def evaluate(self, tasks: Sequence[Task], *, parent: SentenceTransformer | Evaluation | None = None) -> Self:
        """Return this result with its quality in ``tasks``, beside the parent's if it is given."""
        given = {"query": self.options.query_prompt, "passage": self.options.passage_prompt}
        its = None if parent is None or isinstance(parent, Evaluation) else resolve_prompts(parent, **given)
        evaluation, queries = evaluate_queries(
            self.model, tasks, prompts=self.prompts, parent_prompts=its, parent=parent
        )
        return replace(self, evaluation=evaluation, queries=queries)

    def provenance(self) -> Provenance:
        """Return the provenance of this model: its pruning, and every recovery in turn."""
        recoveries = (*self.base.recoveries, *self.records)
        return self.base.model_copy(
            update={
                "sparsity": self._sparsity(),
                "recoveries": recoveries,
                "evaluation": self.evaluation,
                "beside": self.beside,
                "leaks": tuple(dict.fromkeys((*self.base.leaks, *self.leaks))),
            }
        )

    def _sparsity(self) -> Sparsity:
        """Return the sparsity as it is now: zeros outside the targets of a recovery were trained."""
        before = self.base.sparsity
        if isinstance(self.base.method.pruning, Structured):
            return before.model_copy(update={"parameters": footprint(self.model).parameters})  # a head may be new
        return zeros_among(footprint(self.model), self.base.method.pruning.linear_layers, asked=before.asked)

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model, its card, its page and its provenance to the folder ``out``.

        Raises:
            OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
        """
        provenance = self.provenance().seen_from(Path(out), self.base.parent.find(self.options.model))
        return write_result(self.model, out, provenance, self.queries, overwrite=overwrite)


def write_result(
    model: SentenceTransformer,
    out: str | Path,
    provenance: Provenance,
    queries: ChangedQueries | None,
    *,
    overwrite: bool,
) -> Path:
    """Write a model, its card and its page, which both follow from its provenance, to the folder ``out``.

    Raises:
        OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
    """
    card, page = model_card(provenance, provenance.evaluation), report_page(provenance, queries)
    return save(model, out, card=card, page=page, provenance=provenance, queries=queries, overwrite=overwrite)


def zeros_among(found: Footprint, names: Collection[str], *, asked: float | None = None) -> Sparsity:
    """Return the zeros of a model among the linear layers of these names."""
    layers = [layer for layer in found.linear_layers if layer.name in names]
    zeros, selected = sum(layer.zeros for layer in layers), sum(layer.size for layer in layers)
    return Sparsity(
        asked=asked,
        of_selected=zeros / selected,
        of_model=zeros / found.parameters,
        removed=zeros,
        selected=selected,
        parameters=found.parameters,
        parent_parameters=found.parameters,
        by_linear_layer={layer.name: layer.zeros / layer.size for layer in layers},
    )


def unpruned(model: SentenceTransformer, parent: Parent, targets: Sequence[str] | None = None) -> Provenance:
    """Return the provenance of a model that GAPrune did not prune: it is its own parent, by no criterion.

    Args:
        model: The model.
        parent: Its identity.
        targets: The selection that recovery keeps the zeros of; the layers of the blocks by default.
    """
    layers = linear_layers(model)
    chosen = select(layers, targets) if targets else [layer for layer in layers if layer.layer is not None]
    names = tuple(layer.name for layer in chosen)
    return Provenance(
        versions=versions(),
        parent=parent,
        method=Method(
            criterion=None,
            pruning=Unstructured(granularity="weight", targets=tuple(targets or ("all",)), linear_layers=names),
        ),
        sparsity=zeros_among(footprint(model), names),
    )

"""The result of a pruning run: a model that can be asked, evaluated, compared and saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gaprune.config import Recipe
from gaprune.evaluation import Evaluation, Footprint, Task, evaluate, footprint
from gaprune.export import save
from gaprune.models import Prompts
from gaprune.report import model_card
from gaprune.surgery import Pruning

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Result"]


@dataclass(frozen=True, repr=False)
class Result:
    """A pruned model and everything that made it.

    Args:
        model: The pruned model; the parent is another object, unchanged.
        recipe: What was asked for.
        sparsity: The sparsity of this result (a recipe can ask for several).
        pruning: Which weights stayed.
        prompts: Put before queries and passages in calibration and evaluation.
        own_length: The parent's own limit of text length, which the saved model has whatever calibration was cut at.
        origin: The parts of the provenance known before pruning: parent, method, calibration, versions.
        evaluation: Its quality, where it was evaluated.
        out: Folder it is written to, where the recipe names one.
        recoveries: What the provenance says of every recovery that followed the pruning.
    """

    model: SentenceTransformer
    recipe: Recipe
    sparsity: float
    pruning: Pruning
    prompts: Prompts
    own_length: int | None
    origin: Mapping[str, Any]
    evaluation: Evaluation | None = None
    out: Path | None = None
    recoveries: Sequence[Mapping[str, Any]] = ()

    def __repr__(self) -> str:
        return (
            f"Result({self.recipe.criterion!r}, {self.sparsity_of_selected:.2%} of {self.pruning.size:,} selected "
            f"weights are zero, {self.sparsity_of_model:.2%} of the model)"
        )

    @cached_property
    def footprint(self) -> Footprint:
        """Sizes and zeros by matrix, kind and of the whole model."""
        return footprint(self.model)

    @property
    def sparsity_of_selected(self) -> float:
        """Zeros among the weights that were selected for pruning."""
        return self.footprint.sparsity(set(self.pruning.keep))

    @property
    def sparsity_of_model(self) -> float:
        """Zeros among the weights that were selected, as a fraction of all parameters of the model."""
        zeros = sum(matrix.zeros for matrix in self.footprint.matrices if matrix.name in self.pruning.keep)
        return zeros / self.footprint.parameters

    def evaluate(self, tasks: Sequence[Task], *, parent: SentenceTransformer | Evaluation | None = None) -> Self:
        """Return this result with its quality in ``tasks``, beside the parent's where that is given."""
        found = evaluate(self.model, tasks, prompts=self.prompts, parent=parent)
        return replace(self, evaluation=found)

    def provenance(self) -> dict[str, Any]:
        """Return everything that made this model, as plain data for JSON."""
        return {
            **self.origin,
            "sparsity": {
                "asked": self.sparsity,
                "of_selected": self.sparsity_of_selected,
                "of_model": self.sparsity_of_model,
                "zeros": sum(m.zeros for m in self.footprint.matrices if m.name in self.pruning.keep),
                "selected": self.pruning.size,
                "parameters": self.footprint.parameters,
                "by_matrix": {
                    m.name: m.zeros / m.size for m in self.footprint.matrices if m.name in self.pruning.keep
                },
            },
            **({"recovery": list(self.recoveries)} if self.recoveries else {}),
            "evaluation": None if self.evaluation is None else self.evaluation.as_dict(),
        }

    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the model, its card and its provenance to the folder ``out``.

        Raises:
            OutputError: If ``out`` exists and ``overwrite`` is false, or it cannot be written.
        """
        provenance = self.provenance()
        card = model_card(provenance, self.evaluation)
        cut_at = self.model.max_seq_length
        self.model.max_seq_length = self.own_length
        try:
            return save(self.model, out, card=card, provenance=provenance, overwrite=overwrite)
        finally:
            self.model.max_seq_length = cut_at

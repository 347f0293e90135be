"""One run over one calibration sample: everything is checked first, measured once, then pruned in every way asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.anatomy import matrices, select
from gaprune.calibration import Needs, read_calibration
from gaprune.config import Recipe
from gaprune.criteria import Criterion, Reconstruction, create
from gaprune.evaluation import Evaluation, Task, evaluate
from gaprune.export import parent_identity, versions
from gaprune.gradual import Gradual
from gaprune.masks import check_pattern
from gaprune.models import limit_length
from gaprune.preflight import check_finite, load_parent, outputs, require_same
from gaprune.result import Result
from gaprune.scores import Scores, score
from gaprune.surgery import Pruning, apply

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from gaprune.data import Triplet
    from gaprune.signals import Signals

__all__ = ["Run"]


class Run:
    """Prunes one model by one or more criteria at one or more sparsities, from a single measurement.

    Args:
        recipe: What is asked for.
        criteria: Names of criteria; the recipe's own where none are given.
        model: The parent where it is loaded already; it is left as it is.
        domain: Triplets used instead of those the recipe names.
        general: Likewise.
        tasks: What every result is evaluated on, beside the parent.
        earlier: A run of the same model and tasks, whose parent and its evaluation are taken over.

    Raises:
        GapruneError: One of its kinds for anything that is wrong with options, files, model or output folder.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        criteria: Sequence[str] = (),
        model: SentenceTransformer | None = None,
        domain: Sequence[Triplet] | None = None,
        general: Sequence[Triplet] | None = None,
        tasks: Sequence[Task] = (),
        earlier: Run | None = None,
    ) -> None:
        self.recipe = recipe
        self.criteria: dict[str, Criterion] = (
            {name: create(name) for name in criteria}
            if criteria
            else {recipe.criterion: create(recipe.criterion, recipe.criterion_options)}
        )
        for name, criterion in self.criteria.items():
            if isinstance(criterion, Reconstruction):
                criterion.refuse_allocation(name, recipe.allocation)
        self.outputs = outputs(recipe)
        self.tasks = tasks
        if earlier is None:
            self.parent = load_parent(recipe) if model is None else model
            self.own_length = self.parent.max_seq_length
            limit_length(self.parent, recipe.max_length)
            check_finite(self.parent)
            self.identity = parent_identity(self.parent, recipe.model or _name_of(self.parent), recipe.revision)
        else:
            self.parent, self.own_length, self.identity = earlier.parent, earlier.own_length, earlier.identity
            self.dense = earlier.dense
        self.matrices = select(matrices(self.parent), recipe.targets, recipe.ignore)
        if recipe.pattern is not None:
            for matrix in self.matrices:
                check_pattern(matrix.module.in_features, recipe.pattern, name=matrix.name)
        self.needs = Needs.of(self.criteria.values())
        self.gradual = Gradual(recipe, domain=domain, general=general) if recipe.recover else None
        self.calibration = read_calibration(self.parent, recipe, self.needs, domain=domain, general=general)

    @cached_property
    def dense(self) -> Evaluation | None:
        """The parent's evaluation; ``None`` without tasks."""
        return evaluate(self.parent, self.tasks, prompts=self.calibration.prompts) if self.tasks else None

    def results(self) -> Iterator[Result]:
        """Yield a result for every criterion and sparsity, written and evaluated as the recipe says."""
        weights = {matrix.name: matrix.module.weight.detach() for matrix in self.matrices}
        for name, criterion in self.criteria.items():
            scores = self._scores(name, criterion)
            for sparsity, out in self.outputs.items():
                model, pruning, recoveries = self._prune(name, criterion, scores, weights, sparsity)
                result = Result(
                    model=model,
                    recipe=self.recipe.model_copy(update={"criterion": name}),
                    sparsity=sparsity,
                    pruning=pruning,
                    prompts=self.calibration.prompts,
                    own_length=self.own_length,
                    origin=self._origin(name, criterion),
                    out=out,
                    recoveries=recoveries,
                )
                if self.dense is not None:
                    result = result.evaluate(self.tasks, parent=self.dense)
                if out is not None:
                    result.save(out, overwrite=self.recipe.overwrite)
                yield result

    def _prune(
        self, name: str, criterion: Criterion, scores: Scores, weights: Mapping[str, Tensor], sparsity: float
    ) -> tuple[SentenceTransformer, Pruning, list[dict[str, Any]]]:
        """Prune to a sparsity, and recover where that is asked for."""
        recipe = self.recipe
        if self.gradual is None:
            pruning = scores.decide(weights, sparsity=sparsity, allocation=recipe.allocation, pattern=recipe.pattern)
            return apply(self.parent, pruning), pruning, []

        def again(model: SentenceTransformer | None) -> Scores:
            if model is None:
                return scores
            chosen = select(matrices(model), recipe.targets, recipe.ignore)
            domain, general = self.calibration.measure(model, chosen, Needs.of([criterion]), recipe)
            return score(chosen, criterion, name, domain=domain, general=general, seed=recipe.seed)

        return self.gradual.run(self.parent, self.identity, self.calibration.prompts, sparsity, again)

    @cached_property
    def _signals(self) -> tuple[Signals | None, Signals | None]:
        return self.calibration.measure(self.parent, self.matrices, self.needs, self.recipe)

    def _scores(self, name: str, criterion: Criterion) -> Scores:
        """Measure and score, or take the scores that were kept."""
        origin = self._scores_origin(name, criterion)
        path = None if self.recipe.scores is None else Path(self.recipe.scores)
        if path is not None and path.exists():
            kept = Scores.load(path)
            require_same(path, kept.origin, origin)
            return kept
        domain, general = self._signals
        seed = self.recipe.seed
        made = score(self.matrices, criterion, name, domain=domain, general=general, seed=seed, origin=origin)
        if path is not None:
            made.save(path, storage=self.recipe.scores_dtype)
            return Scores.load(path)  # so that this run decides as every later one will
        return made

    def _scores_origin(self, name: str, criterion: Criterion) -> dict[str, Any]:
        """Return all that the scores of a criterion depend on, as plain data."""
        recipe, data = self.recipe, self.calibration
        origin: dict[str, Any] = {
            "parent": self.identity["weights_sha256"],
            "criterion": name,
            "criterion options": criterion.model_dump(),
            "modules": hashlib.sha256(repr(self.parent).encode()).hexdigest(),
            "matrices": [matrix.name for matrix in self.matrices],
            "scores_dtype": recipe.scores_dtype if recipe.scores else None,
            "seed": recipe.seed if criterion.depends_on_seed else None,
        }
        if criterion.domain_needs | criterion.general_needs:
            origin |= {
                "domain triplets": data.domain and data.domain.fingerprint,
                "general triplets": data.general and data.general.fingerprint,
                "prompts": [data.prompts.query, data.prompts.passage],
                "max_length": self.parent.max_seq_length,
                "truncate_dim": self.parent.truncate_dim,
                "fisher": recipe.fisher,
                "negatives": recipe.negatives,
                "temperature": recipe.temperature,
                "batch size": recipe.triplets_per_batch,
            }
        return origin

    def _origin(self, name: str, criterion: Criterion) -> dict[str, Any]:
        """Return the provenance as far as it is the same for every sparsity."""
        recipe = self.recipe
        return {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "parent": self.identity,
            "method": {
                "criterion": name,
                "options": criterion.model_dump(),
                "granularity": recipe.granularity,
                "allocation": None if recipe.pattern else recipe.allocation or criterion.default_allocation,
                "targets": list(recipe.targets),
                "matrices": [matrix.name for matrix in self.matrices],
                "scores_origin_sha256": _digest(self._scores_origin(name, criterion)),
            },
            "calibration": self.calibration.as_dict(),
            "prompts": {"query": self.calibration.prompts.query, "passage": self.calibration.prompts.passage},
            "recipe": recipe.model_copy(update={"criterion": name}).model_dump(mode="json"),
        }


def _name_of(model: SentenceTransformer) -> str:
    return str(getattr(model.config, "_name_or_path", "") or "a model in memory")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

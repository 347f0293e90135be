"""One run over one calibration sample: everything is checked first, measured once, then pruned in every way asked."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.anatomy import matrices, select
from gaprune.calibration import Needs, checkpoint_of, prepare_calibration, read_data
from gaprune.config import Recipe
from gaprune.criteria import Criterion, Reconstruction, create
from gaprune.evaluation import Evaluation, Task, evaluate
from gaprune.export import parent_identity, versions
from gaprune.files import temporary_folder
from gaprune.masks import check_pattern
from gaprune.models import limit_length
from gaprune.preflight import check_finite, load_parent, outputs, require_model, require_same
from gaprune.processes import join, rank
from gaprune.result import Result
from gaprune.scores import Scores, writing_scores
from gaprune.surgery import apply

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.data import Triplet

__all__ = ["Run"]


class Run:
    """Prunes one model by one or more criteria at one or more sparsities, from a single measurement.

    Args:
        recipe: What is asked for.
        criteria: Names of criteria; the recipe's own where none are given.
        model: The parent where it is loaded already; it is left as it is, unless results are to be made in place.
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
        join()
        self.outputs = outputs(recipe) if rank() == 0 else dict.fromkeys(recipe.sparsity)
        self.tasks = tasks if rank() == 0 else ()  # the first process evaluates and writes, the others only measure
        if model is None:
            require_model(recipe)
        self.needs = Needs.of(self.criteria.values())
        data = read_data(recipe, self.needs, domain=domain, general=general)
        checkpoint = checkpoint_of(recipe, {})
        if checkpoint is not None:
            checkpoint.check()
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
        self.calibration = prepare_calibration(self.parent, recipe, data)

    @cached_property
    def dense(self) -> Evaluation | None:
        """The parent's evaluation; ``None`` without tasks."""
        return evaluate(self.parent, self.tasks, prompts=self.calibration.prompts) if self.tasks else None

    def results(self, *, inplace: bool = False) -> Iterator[Result]:
        """Yield a result for every criterion and sparsity, written and evaluated as the recipe says.

        Scores lie in files, the one that the recipe names or temporary ones beside the output folder (the system's
        own place without one), and are read one matrix at a time: in memory are the parent, the results that are
        held, and for each of them a mask of one byte a weight.

        Args:
            inplace: Whether the last result is the parent itself, pruned, and no copy; nothing else may use it then.
        """
        weights = {matrix.name: matrix.module.weight.detach() for matrix in self.matrices}
        jobs = [(name, sparsity, out) for name in self.criteria for sparsity, out in self.outputs.items()]
        with ExitStack() as stack:
            scores = self._scores(stack)
            for name, sparsity, out in jobs:
                pruning = scores[name].decide(
                    weights, sparsity=sparsity, allocation=self.recipe.allocation, pattern=self.recipe.pattern
                )
                dense = self.dense  # before its weights go
                result = Result(
                    model=apply(self.parent, pruning, inplace=inplace and (name, sparsity, out) == jobs[-1]),
                    recipe=self.recipe.model_copy(update={"criterion": name}),
                    sparsity=sparsity,
                    pruning=pruning,
                    prompts=self.calibration.prompts,
                    own_length=self.own_length,
                    origin=self._origin(name, self.criteria[name]),
                    out=out,
                )
                if dense is not None:
                    result = result.evaluate(self.tasks, parent=dense)
                if out is not None:
                    result.save(out, overwrite=self.recipe.overwrite)
                yield result
                del result, pruning
                gc.collect()  # models hold themselves in cycles; without this the last one would stay beside the next

    def _scores(self, stack: ExitStack) -> dict[str, Scores]:
        """Return kept scores, or measure and score by every criterion in files that go with ``stack``."""
        origins = {name: self._scores_origin(name, criterion) for name, criterion in self.criteria.items()}
        kept = None if self.recipe.scores is None else Path(self.recipe.scores)
        if kept is None or (rank() and not kept.exists()):  # the first process keeps them for all
            folder = stack.enter_context(temporary_folder(self.recipe.out))
            paths = {name: folder / f"{index}.safetensors" for index, name in enumerate(self.criteria)}
        else:
            paths = dict.fromkeys(self.criteria, kept)
        new = [name for name, path in paths.items() if not path.exists()]
        if new:
            self._measure_and_score({name: paths[name] for name in new}, origins)
        scores = {name: Scores.load(path) for name, path in paths.items()}
        for name in scores.keys() - new:
            require_same(paths[name], scores[name].origin, origins[name])
        return scores

    def _measure_and_score(self, paths: Mapping[str, Path], origins: Mapping[str, Mapping[str, Any]]) -> None:
        """Measure the signals and write what every criterion makes of them; they are let go afterwards."""
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    writing_scores(
                        path,
                        self.matrices,
                        self.criteria[name],
                        name,
                        seed=self.recipe.seed,
                        origin=origins[name],
                        storage=self.recipe.scores_dtype if self.recipe.scores else "float32",
                    )
                )
                for name, path in paths.items()
            ]
            identity = {"parent": self.identity["weights_sha256"], "modules": self._modules}
            domain, general = self.calibration.measure(self.parent, self.matrices, self.needs, self.recipe, identity)
            for write in writers:
                write(self.matrices, domain, general)

    @property
    def _modules(self) -> str:
        return hashlib.sha256(repr(self.parent).encode()).hexdigest()

    def _scores_origin(self, name: str, criterion: Criterion) -> dict[str, Any]:
        """Return all that the scores of a criterion depend on, as plain data."""
        recipe, data = self.recipe, self.calibration
        origin: dict[str, Any] = {
            "parent": self.identity["weights_sha256"],
            "criterion": name,
            "criterion options": criterion.model_dump(),
            "modules": self._modules,
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

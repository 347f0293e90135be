"""The weights road: single weights become zeros, and what stays is refit."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, nullcontext
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import (
    Criterion,
    Granularity,
    UpdatingCriterion,
    for_weights,
    needs_of,
)
from gaprune.criteria.names import split_name
from gaprune.criteria.needs import DataKind, Needs
from gaprune.errors import ConfigError
from gaprune.export.records import PruningRound, Reconstruction, Recovery, Unstructured
from gaprune.models.fingerprints import modules_fingerprint
from gaprune.models.linear_layers import linear_layers
from gaprune.models.selection import select
from gaprune.pipelines.base import PrunedModel, Run
from gaprune.pipelines.preflight import require_same
from gaprune.pipelines.recovery_plan import rounds_to
from gaprune.pipelines.result import Result
from gaprune.pruning.scores import Scores, writing_scores
from gaprune.pruning.zeros import Pruning, apply
from gaprune.reconstruction.validate import ReconstructionReport
from gaprune.reconstruction.validate import reconstruct as reconstruct_model
from gaprune.recovery.rounds import Round
from gaprune.util.distributed import rank
from gaprune.util.files import locked, temporary_folder
from gaprune.util.pattern import check_pattern

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["UnstructuredRun"]


class UnstructuredRun(Run):
    """Sets single weights to zero, by one or more criteria at one or more sparsities, from a single measurement."""

    def check_options(self) -> None:
        """Refuse an allocation or a repair where a criterion chooses while it updates."""
        for name, criterion in self.criteria.items():
            for_weights(criterion, name)
            if isinstance(criterion, UpdatingCriterion):
                criterion.check_allocation(name, self.recipe.allocation)
                if self.recipe.reconstruct:
                    raise ConfigError(
                        f"reconstruct: {name} updates the weights that stay itself.",
                        "Leave --reconstruct out (reconstruct=None).",
                    )

    @classmethod
    def granularities(cls, recipe: Recipe) -> tuple[Granularity, ...]:  # noqa: ARG003 (the other road looks at it)
        """Return that single weights go."""
        return ("weights",)

    @classmethod
    def can_reconstruct(cls, recipe: Recipe) -> bool:  # noqa: ARG003 (the other road looks at it)
        """Always: weights that stay can make up for those that go."""
        return True

    @classmethod
    def find_needs(
        cls,
        recipe: Recipe,  # noqa: ARG003 (the other road looks at it)
        criteria: Collection[Criterion],
        named: Collection[DataKind],  # noqa: ARG003
    ) -> Needs:
        """Return what the criteria look at."""
        return Needs.together(needs_of(criterion, {"weights"}) for criterion in criteria)

    def check_model(self) -> None:
        """Select the matrices; all of them must take the pattern."""
        self.linear_layers = select(linear_layers(self.parent), self.recipe.targets, self.recipe.ignore)
        if self.recipe.pattern is not None:
            for matrix in self.linear_layers:
                check_pattern(matrix.module.in_features, self.recipe.pattern, name=matrix.name)

    def results(self, *, inplace: bool = False) -> Iterator[Result]:
        """Yield a result for every criterion and sparsity, written and evaluated as the recipe says.

        Scores lie in files, the one that the recipe names or temporary ones beside the output folder (the system's
        own place without one), and are read one matrix at a time: in memory are the parent, the results that are
        held, and for each of them a mask of one byte a weight. Repair needs two copies of the parent for a while, and
        recovery by turns measures what it made anew, in a temporary file too.

        Args:
            inplace: Whether the last result is the parent itself, pruned, and no copy, where nothing is repaired;
                nothing else may use it then.
        """
        jobs = list(product(self.criteria, self.outputs))
        with ExitStack() as stack:
            scores = self._scores(stack)
            for name, single in jobs:
                dense = self.dense  # before its weights go
                last = inplace and (name, single) == jobs[-1]
                (sparsity,) = self.singles[single].sparsity
                yield self.finish(self._prune(name, scores[name], sparsity, inplace=last), name, single, dense)
                gc.collect()  # models hold themselves in cycles; without this the last one would stay beside the next

    def _prune(self, name: str, scores: Scores, sparsity: float, *, inplace: bool) -> PrunedModel:
        """Return the pruned model, with the last repair and every recovery, by turns if so asked for."""
        first, *later = rounds_to(self.recipe, sparsity)
        pruning = self._decide(scores, self.parent, first)
        model, reconstruct = self._zero(name, self.parent, pruning, inplace=inplace)
        recoveries = self._recover(model, reconstruct, first)
        for turn in later:
            pruning = self._decide_again(name, model, pruning, turn)
            model, reconstruct = self._zero(name, model, pruning, inplace=True)
            recoveries += self._recover(model, reconstruct, turn)
        return PrunedModel(model, pruning, self.method(name, self._record(name), reconstruct), recoveries)

    def _decide(self, scores: Scores, model: SentenceTransformer, turn: Round) -> Pruning:
        """Return what is gone after a round."""
        weights = {
            matrix.name: matrix.module.weight.detach()
            for matrix in linear_layers(model)
            if matrix.name in scores.importances
        }
        return scores.decide(
            weights, sparsity=turn.sparsity, allocation=self.recipe.allocation, pattern=self.recipe.pattern
        )

    def _decide_again(self, name: str, model: SentenceTransformer, before: Pruning, turn: Round) -> Pruning:
        """Measure and score what recovery has made, and return what is gone after a round: all that was, and more."""
        criterion, recipe = self.criteria[name], self.recipe.model_copy(update={"checkpoint": None, "resume": False})
        chosen = select(linear_layers(model), recipe.targets, recipe.ignore)
        with temporary_folder(recipe.out) as folder:
            path = folder / "scores.safetensors"
            with writing_scores(path, chosen, for_weights(criterion, name), name, seed=recipe.seed) as write:
                write(chosen, *self.calibration.measure(model, chosen, needs_of(criterion, {"weights"}), recipe, {}))
            return self._decide(Scores.load(path).below(before.keep), model, turn)

    def _recover(
        self, model: SentenceTransformer, reconstruct: ReconstructionReport | None, turn: Round
    ) -> list[Recovery]:
        """Recover the model in place if asked to, and return the record of it."""
        if self.recovery is None:
            return []
        record = self.recovery.recover(model, turn, beside=self.recipe.out)
        if turn.count > 1:
            before = None if reconstruct is None else Reconstruction.model_validate(reconstruct)
            record = record.model_copy(update={"round": PruningRound(sparsity=turn.sparsity, reconstruction=before)})
        return [record]

    def _zero(
        self, name: str, model: SentenceTransformer, pruning: Pruning, *, inplace: bool
    ) -> tuple[SentenceTransformer, ReconstructionReport | None]:
        """Return the model with zeros, repaired where that is asked for and helps."""
        if not self.reconstructs or isinstance(self.criteria[name], UpdatingCriterion):
            return apply(model, pruning, inplace=inplace), None
        return reconstruct_model(
            model,
            pruning.keep,
            lambda each, own: apply(each, pruning, inplace=own),
            self.calibration,
            self.recipe,
        )

    def _scores(self, stack: ExitStack) -> dict[str, Scores]:
        """Return kept scores, or measure and score by every criterion in files that go with ``stack``."""
        origins = {name: self._scores_origin(name, criterion) for name, criterion in self.criteria.items()}
        kept = None if self.recipe.scores is None else Path(self.recipe.scores)
        if kept is None or (rank() and not kept.exists()):  # the first process keeps them for all
            folder = stack.enter_context(temporary_folder(self.recipe.out))
            paths = {name: folder / f"{index}.safetensors" for index, name in enumerate(self.criteria)}
        else:
            paths = dict.fromkeys(self.criteria, kept)
        alone = locked(kept) if kept is not None and not rank() else nullcontext()
        with alone:  # another run that measures the same scores now is waited for
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
                        self.linear_layers,
                        for_weights(self.criteria[name], name),
                        name,
                        seed=self.recipe.seed,
                        origin=origins[name],
                    )
                )
                for name, path in paths.items()
            ]
            identity = {"parent": self.identity.weights_sha256, "modules": modules_fingerprint(self.parent)}
            domain, general = self.calibration.measure(
                self.parent, self.linear_layers, self.needs, self.recipe, identity
            )
            for write in writers:
                write(self.linear_layers, domain, general)

    def _scores_origin(self, name: str, criterion: Criterion) -> dict[str, Any]:
        """Return all that the scores of a criterion depend on, as plain data."""
        recipe, data = self.recipe, self.calibration
        origin: dict[str, Any] = {
            "parent": self.identity.weights_sha256,
            "criterion": split_name(name)[0],
            "criterion options": criterion.model_dump(),
            "modules": modules_fingerprint(self.parent),
            "matrices": [matrix.name for matrix in self.linear_layers],
            "seed": recipe.seed if criterion.depends_on_seed else None,
        }
        needs = needs_of(criterion, {"weights"})
        if needs:
            origin |= {
                "domain triplets": data.domain.fingerprint if data.domain and needs.domain else None,
                "general triplets": data.general.fingerprint if data.general and needs.general else None,
                "prompts": [data.prompts.query, data.prompts.passage],
                "max_length": self.parent.max_seq_length,
                "truncate_dim": self.parent.truncate_dim,
                "fisher": recipe.fisher,
                "negatives": recipe.negatives,
                "temperature": recipe.temperature,
                "batch size": recipe.triplets_per_batch,
            }
        return origin

    def _record(self, name: str) -> Unstructured:
        """Return how the weights were chosen, for the provenance."""
        recipe, criterion = self.recipe, self.criteria[name]
        default = for_weights(criterion, name).default_allocation
        return Unstructured(
            granularity=recipe.granularity,
            allocation=None if recipe.pattern else recipe.allocation or default,
            targets=recipe.targets,
            linear_layers=tuple(matrix.name for matrix in self.linear_layers),
            scores_origin_sha256=_digest(self._scores_origin(name, criterion)),
        )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

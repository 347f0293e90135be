"""The units road: layers, heads, neurons and tokens are cut out, and what stays is refit."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Collection, Iterator, Mapping
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.config.recipe import Recipe
from gaprune.criteria.base import Criterion, Granularity, for_layers, for_units, needs_of
from gaprune.criteria.needs import DataKind, Needs
from gaprune.data.readers.texts import read_texts
from gaprune.errors import require_extra
from gaprune.export.records import Recovery, Removed, Structured, TargetChoice, Texts
from gaprune.models.blocks import blocks, transformer_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup, UnitKind, unit_groups
from gaprune.models.vocabulary import vocabulary
from gaprune.pipelines.base import PrunedModel, Run
from gaprune.pipelines.recovery_plan import rounds_to
from gaprune.pipelines.result import Result
from gaprune.pruning.choose import choose_layers, choose_units
from gaprune.pruning.cut import remove_layers, remove_units
from gaprune.pruning.cut_vocabulary import cut_vocabulary
from gaprune.pruning.kept_tokens import close_vocabulary, rank_tokens
from gaprune.pruning.prunable import PrunableParameters
from gaprune.pruning.rebuild import changed_config
from gaprune.pruning.removed_units import RemovedUnits, StructuredPruning
from gaprune.pruning.targets import Target, choose_plan
from gaprune.pruning.token_use import used_tokens
from gaprune.pruning.tokenizers import VOCABULARY_EXTRA
from gaprune.pruning.unit_plan import UnitPlan, plan_units, units_kept
from gaprune.pruning.unit_statistics import UnitStatistics
from gaprune.reconstruction.reconstruct import quick_reconstruction
from gaprune.reconstruction.validate import ReconstructionReport, reconstruct

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["StructuredRun"]

_KINDS: tuple[UnitKind, ...] = ("heads", "width")
"""Units inside the layers."""


class StructuredRun(Run):
    """Cuts whole units out: layers first, then heads and neurons from one measurement of what is left, then tokens."""

    def check_options(self) -> None:
        """Refuse criteria that cannot tell the units apart; read the texts whose tokens stay."""
        self.target = Target.of(self.recipe)
        units = self.recipe.units
        self.kinds, self.cuts_tokens = [kind for kind in _KINDS if kind in units], "vocabulary" in units
        for name, criterion in self.criteria.items():
            for granularity in self.granularities(self.recipe):
                (for_units if granularity == "units" else for_layers)(criterion, name)
        if self.cuts_tokens:
            require_extra(*VOCABULARY_EXTRA)
        self.texts = [] if self.recipe.vocabulary is None else read_texts(Path(self.recipe.vocabulary))

    @classmethod
    def granularities(cls, recipe: Recipe) -> tuple[Granularity, ...]:
        """Return whether heads or neurons, and whether layers go."""
        found: dict[Granularity, bool] = {
            "units": not recipe.units.isdisjoint(_KINDS),
            "layers": "depth" in recipe.units,
        }
        return tuple(granularity for granularity, goes in found.items() if goes)

    @classmethod
    def can_reconstruct(cls, recipe: Recipe) -> bool:
        """Return whether anything but tokens goes: what is left can be refit."""
        return bool(cls.granularities(recipe))

    @classmethod
    def find_needs(cls, recipe: Recipe, criteria: Collection[Criterion], named: Collection[DataKind]) -> Needs:
        """Return what the criteria look at, and the triplets whose tokens stay."""
        granularities = cls.granularities(recipe)
        needs = Needs.together(needs_of(criterion, granularities) for criterion in criteria)
        if recipe.target is not None:
            needs |= Needs(texts=frozenset({"domain"}))
        if "vocabulary" in recipe.units:
            needs |= Needs(texts=frozenset(named if named or recipe.vocabulary else {"domain"}))
        return needs

    def check_model(self) -> None:
        """Find the units, and turn what is asked into numbers that the model can take."""
        layers = len(blocks(self.parent))
        if self.cuts_tokens:
            vocabulary(self.parent)
        groups = {kind: unit_groups(self.parent, kind) for kind in self.kinds}
        if self.target:
            self.target.check(self.parent, groups["width"], self.recipe.round_to, 0 if self.cuts_tokens else None)
            return
        for single in self.singles.values():
            plan = plan_units(single, layers=layers)
            for found in groups.values():
                kept = self._kept(found, plan)
                changed_config(
                    transformer_of(self.parent).config,
                    {field: each * kept for field, each in found[0].fields.items()},
                )

    def results(self, *, inplace: bool = False) -> Iterator[Result]:  # noqa: ARG002 (nothing to gain)
        """Yield a result for every criterion and sparsity; a smaller model is a new one, ``inplace`` or not."""
        for name, single in product(self.criteria, self.outputs):
            yield self.finish(self._prune(name, self.singles[single]), name, single, self.dense)
            gc.collect()

    def _prune(self, name: str, single: Recipe) -> PrunedModel:
        criterion = self.criteria[name]
        plan, chosen = self._plan(criterion, single)
        model, cuts, report = self._cut(criterion, plan)
        record = Structured(
            removed=tuple(map(Removed.model_validate, cuts.cuts)),
            texts=self._texts_identity() if self.cuts_tokens else None,
            target=chosen,
        )
        return PrunedModel(model, cuts, self.method(name, record, report), self._recover(model))

    @cached_property
    def _evidence(self) -> UnitStatistics:
        groups = [group for kind in self.kinds for group in unit_groups(self.parent, kind)]
        return UnitStatistics(
            self.parent,
            groups,
            self.needs,
            calibration=self.calibration,
            recipe=self.recipe,
            weights_sha256=self.identity.weights_sha256,
            reconstructs=self.reconstructs,
        )

    def _plan(self, criterion: Criterion, single: Recipe) -> tuple[UnitPlan, TargetChoice | None]:
        """Return what goes, and how a target led to it."""
        if self.target is None:
            return plan_units(single, layers=len(blocks(self.parent))), None
        groups = unit_groups(self.parent, "width")
        tokens = len(self._tokens_kept(self.parent, self.recipe.tokens)) if self.cuts_tokens else None
        self.target.check(self.parent, groups, self.recipe.round_to, tokens)  # before anything is measured
        found, choice = choose_plan(
            self.parent,
            self.target,
            groups=groups,
            importances=self._evidence.importances(self.parent, groups, for_units(criterion, self.recipe.criterion)),
            criterion=for_layers(criterion, self.recipe.criterion),
            calibration=self.calibration,
            recipe=self.recipe,
            tokens=tokens,
            reconstructs=self.reconstructs,
        )
        return found, TargetChoice.model_validate(choice)

    def _cut(
        self, criterion: Criterion, plan: UnitPlan
    ) -> tuple[SentenceTransformer, StructuredPruning, ReconstructionReport | None]:
        """Return the smaller model, what went, and what repair did."""
        model, report = self.parent, None
        cuts: list[RemovedUnits] = []
        gone: tuple[int, ...] = ()
        selection = PrunableParameters(self.parent)
        if plan.depth:
            selection.add_blocks()
            choice = plan.layers or choose_layers(
                model,
                for_layers(criterion, self.recipe.criterion),
                self.calibration,
                self.recipe,
                count=plan.depth,
                reconstructs=self.reconstructs,
            )
            gone = choice.order
            stay = [layer for layer in range(len(blocks(model))) if layer not in gone]
            cuts.append(RemovedUnits("depth", plan.depth, len(blocks(model)), {"layers": stay}, choice.found))
            model = remove_layers(model, gone)
        keep: dict[str, Tensor] = {}
        if plan.heads or plan.width:
            keep, made = self._choose_units(model, criterion, plan, gone)
            cuts += made
            selection.add_units(group for kind in self.kinds for group in unit_groups(self.parent, kind))
        if self.reconstructs and (gone or keep):
            columns = self._columns(model, keep)
            cut = partial(self._without_units, keep)
            model, report = reconstruct(self.parent, columns, cut, self.calibration, self.recipe, removed_layers=gone)
        else:
            model = self._without_units(keep, model)
        if plan.vocabulary:
            selection.add_table()
            model, cut_tokens = cut_vocabulary(model, self._tokens_kept(model, plan.tokens))
            cuts.append(
                RemovedUnits(
                    "vocabulary", cut_tokens.removed, cut_tokens.rows, found={"kept_for": dict(cut_tokens.reasons)}
                )
            )
        return model, selection.cuts(cuts, model), report

    def _choose_units(
        self, model: SentenceTransformer, criterion: Criterion, plan: UnitPlan, gone: Collection[int]
    ) -> tuple[dict[str, Tensor], list[RemovedUnits]]:
        """Return which heads and neurons stay by one measurement, ``(units,)`` by name of the group, and the cuts.

        ``model`` is measured, or where layers are gone and repair comes, one that makes up for them.
        """
        if self.reconstructs and gone:
            model = quick_reconstruction(self.parent, self.calibration, self.recipe, gone)
        groups = {kind: unit_groups(model, kind) for kind in self.kinds}
        found_groups = [group for found in groups.values() for group in found]
        importances = self._evidence.importances(
            model, found_groups, for_units(criterion, self.recipe.criterion), gone
        )
        keep: dict[str, Tensor] = {}
        cuts = []
        for kind, found in groups.items():
            kept = self._kept(found, plan)
            mine = choose_units({group.name: importances[group.name] for group in found}, kept)
            indices = {name: mask.nonzero().squeeze(1).tolist() for name, mask in mine.items()}
            cuts.append(RemovedUnits(kind, found[0].units - kept, found[0].units, indices))
            keep |= mine
        return keep, cuts

    def _without_units(
        self, keep: Mapping[str, Tensor], model: SentenceTransformer, _own: bool = False
    ) -> SentenceTransformer:
        """Return ``model`` without the units that do not stay."""
        for kind in self.kinds if keep else ():
            model = remove_units(model, unit_groups(model, kind), keep)
        return model

    def _columns(self, model: SentenceTransformer, keep: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what stays of every matrix of the blocks, ``(in,)`` by name: all that can make up for what goes."""
        columns = {
            matrix.name: torch.ones(matrix.module.in_features, dtype=torch.bool)
            for matrix in linear_layers(model)
            if matrix.layer is not None
        }
        for kind in self.kinds if keep else ():
            for group in unit_groups(model, kind):
                columns[group.name] = keep[group.name].repeat_interleave(group.consumer.columns_per_unit)
        return columns

    def _recover(self, model: SentenceTransformer) -> list[Recovery]:
        """Recover the smaller model in place if asked to, and return the record of it."""
        if self.recovery is None:
            return []
        (only,) = rounds_to(self.recipe, self.recipe.sparsity[0])
        return [self.recovery.recover(model, only, beside=self.recipe.out)]

    def _kept(self, groups: list[UnitGroup], plan: UnitPlan) -> int:
        """Return how many units of each of these groups stay."""
        if groups[0].kind == "width":
            return units_kept(groups, plan.width or 0.0, round_to=self.recipe.round_to)
        return units_kept(groups, plan.heads or 0.0, round_to=1)

    def _texts_identity(self) -> Texts:
        """Return what identifies the texts, beside the triplets, whose tokens stay."""
        digest = hashlib.sha256("\n".join(self.texts).encode()).hexdigest()
        return Texts(texts=len(self.texts), sha256=digest)

    def _tokens_kept(self, model: SentenceTransformer, sparsity: float | None) -> tuple[int, ...]:
        """Return the tokens that are wanted: those of all texts, or the most frequent of them."""
        triplets = [item for data in self.calibration.of_user().values() for item in data]
        texts = [*self.texts, *(text for item in triplets for text in (item.query, *item.passages))]
        prompts = self.calibration.prompts
        counts = used_tokens(model, texts, (prompts.query, prompts.passage))
        if sparsity is not None:
            return rank_tokens(model, counts, sparsity).kept
        return close_vocabulary(model, counts).kept

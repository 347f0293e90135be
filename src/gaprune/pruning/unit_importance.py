"""How heads and neurons are ranked: the parent is measured once, and a model without layers once per criterion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from gaprune.config.recipe import Recipe, ReconstructionOptions
from gaprune.criteria.base import UnitCriterion
from gaprune.criteria.inputs import UnitInputs
from gaprune.criteria.needs import Needs
from gaprune.data.triplets import Triplets
from gaprune.errors import MeasurementError
from gaprune.models.blocks import transformer_of
from gaprune.models.units import UnitGroup
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.measure import measure_both
from gaprune.statistics.degradation import LayerEffect
from gaprune.statistics.sums import Statistics

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class QuickReconstruction(Protocol):
    """Reconstructs a parent on few texts (:class:`gaprune.reconstruction.quick.Quick`)."""

    def __call__(self, removed_layers: Collection[int], keep: Mapping[str, Tensor]) -> SentenceTransformer:
        """Return the parent without some layers; ``keep`` has the kept columns ``(in,)`` of linear layers by name."""

    def layer_effects(
        self, judged: Mapping[str, Triplets], layers: Collection[int]
    ) -> dict[str, dict[int, LayerEffect]]:
        """Return the degradation without each of ``layers``, reconstructed, by kind of data."""


class UnitRanking:
    """Ranks the heads and neurons of a parent, and of the same model without some layers.

    Args:
        parent: The model; it is measured once for all criteria.
        groups_of: Returns all units of a model that any criterion is asked about.
        needs: What all criteria need together.
        calibration: The triplets of a run.
        recipe: Options, and where measurements are kept.
        weights_sha256: Fingerprint of the parent's weights, for checkpoints.
        quick: Makes the models without layers that are measured; ``None`` if the run does not reconstruct.
    """

    def __init__(
        self,
        parent: SentenceTransformer,
        groups_of: Callable[[SentenceTransformer], list[UnitGroup]],
        needs: Needs,
        *,
        calibration: Calibration,
        recipe: Recipe,
        weights_sha256: str,
        quick: QuickReconstruction | None,
    ) -> None:
        self._parent, self._groups_of, self._needs = parent, groups_of, needs
        self._calibration, self._recipe = calibration, recipe
        self._weights_sha256, self._quick = weights_sha256, quick
        self._last: tuple[tuple[frozenset[int], UnitCriterion], dict[str, Tensor]] | None = None
        self._begun: set[str] = set()  # measurements that this run has kept, and can find again

    def importances(
        self, model: SentenceTransformer, criterion: UnitCriterion, removed_layers: Collection[int] = ()
    ) -> dict[str, Tensor]:
        """Return the importance of every unit of ``model``, ``(units,)`` by name of the group.

        Args:
            model: The parent without these layers. If the run reconstructs, its quick reconstruction is measured.
            criterion: Ranks the units.
            removed_layers: Layers of the parent.

        Raises:
            MeasurementError: If something measured is not finite.
        """
        key = frozenset(removed_layers), criterion
        if self._last is None or self._last[0] != key:
            if removed_layers and self._quick is not None:
                model = self._quick(removed_layers, {})
            groups = self._groups_of(model)
            needs = criterion.unit_needs
            measured = self._measure(model, needs, removed_layers) if removed_layers else self._whole
            self._last = key, unit_importances(groups, criterion, *measured, seed=self._recipe.seed)
        return self._last[1]

    @cached_property
    def _whole(self) -> tuple[Statistics | None, Statistics | None]:
        return self._measure(self._parent, self._needs, ())

    def _measure(
        self, model: SentenceTransformer, needs: Needs, removed_layers: Collection[int]
    ) -> tuple[Statistics | None, Statistics | None]:
        shape = hashlib.sha256(f"{model!r} {transformer_of(model).config}".encode()).hexdigest()
        identity: dict[str, object] = {"parent": self._weights_sha256, "modules": shape}
        part = ""
        if removed_layers:
            identity["without layers"] = sorted(removed_layers)
            if self._quick is not None:
                identity |= self._recipe.model_dump(mode="json", include=set(ReconstructionOptions.model_fields))
            measured = sorted(needs.domain), sorted(needs.general)
            part = hashlib.sha256(json.dumps([identity, measured], sort_keys=True).encode()).hexdigest()[:16]
        recipe = self._recipe.model_copy(update={"resume": True}) if part in self._begun else self._recipe
        self._begun.add(part)
        consumers = [group.consumer for group in self._groups_of(model)]
        return measure_both(self._calibration, model, consumers, needs, recipe, identity, part=part)


def unit_importances(
    groups: Sequence[UnitGroup],
    criterion: UnitCriterion,
    domain: Statistics | None,
    general: Statistics | None,
    *,
    seed: int,
) -> dict[str, Tensor]:
    """Return the importance of every unit, ``(units,)`` by name of the group.

    Raises:
        MeasurementError: If one is not finite; it names the group.
    """
    importances: dict[str, Tensor] = {}
    for together in _shared(groups):
        inputs = [
            UnitInputs(
                name=group.name,
                weight=_by_unit(group),
                producer_square=_producer_square(group),
                domain=_of(domain, group.name),
                general=_of(general, group.name),
                seed=seed,
            )
            for group in together
        ]
        only = inputs[0]
        found = criterion.unit_importance(only) if len(inputs) == 1 else criterion.shared_unit_importance(inputs)
        if not torch.isfinite(found).all():
            raise MeasurementError(
                f"{only.name}: the importance of its units is not finite.", "Check the model, or use more triplets."
            )
        importances |= {group.name: found for group in together}
    return importances


def _shared(groups: Sequence[UnitGroup]) -> list[list[UnitGroup]]:
    """Return the groups whose units are ranked together."""
    kinds = {group.kind: [each for each in groups if each.kind == group.kind] for group in groups if group.shared}
    return [*kinds.values(), *([group] for group in groups if not group.shared)]


def _by_unit(group: UnitGroup) -> Tensor:
    weight = group.consumer.module.weight.detach().float()
    return weight.view(len(weight), group.units, group.consumer.columns_per_unit)


def _of(statistics: Statistics | None, name: str) -> Any:
    return None if statistics is None else statistics[name]


def _producer_square(group: UnitGroup) -> Tensor:
    """Return the sum of squares of the weights that produce each unit, ``(units,)``."""
    total = torch.zeros(group.units, device=group.consumer.module.weight.device)
    for producer in group.producers:
        weight = producer.linear.module.weight.detach().float()
        total += weight.view(producer.parts, group.units, producer.rows, -1).square().sum((0, 2, 3))
    return total

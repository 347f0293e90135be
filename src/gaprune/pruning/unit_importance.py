"""How heads and neurons are ranked: the parent is measured once, and a model without layers once per criterion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
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
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Narrowing = Callable[["SentenceTransformer"], "tuple[SentenceTransformer, Mapping[str, Tensor]]"]
"""Cuts hidden dimensions; returns the model and which outputs of linear layers are kept, indices by name."""


class QuickReconstruction(Protocol):
    """Reconstructs a parent on few texts (:class:`gaprune.reconstruction.quick.Quick`)."""

    def __call__(
        self,
        removed_layers: Collection[int],
        keep: Mapping[str, Tensor],
        narrow: Narrowing | None = None,
    ) -> SentenceTransformer:
        """Return the parent without some layers; ``keep`` has the kept columns ``(in,)`` of linear layers by name.

        ``narrow`` then cuts hidden dimensions out of it.
        """

    def layer_effects(
        self, judged: Mapping[str, Triplets], layers: Collection[int], removed: Collection[int]
    ) -> dict[str, dict[int, LayerEffect]]:
        """Return the degradation without each of ``layers`` and those ``removed``, reconstructed, by kind of data."""


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
        self._last: tuple[tuple[str, UnitCriterion], dict[str, Tensor]] | None = None
        self._begun: set[str] = set()  # measurements that this run has kept, and can find again

    def importances(
        self,
        model: SentenceTransformer,
        criterion: UnitCriterion,
        removed_layers: Collection[int] = (),
        keep: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> dict[str, Tensor]:
        """Return the importance of every unit of ``model``, ``(units,)`` by name of the group.

        Args:
            model: The parent without these layers. If the run reconstructs, its quick reconstruction is measured.
            criterion: Ranks the units.
            removed_layers: Layers of the parent.
            keep: Columns ``(in,)`` that earlier rounds left, by name of the linear layer; the run reconstructs. Units
                of the other columns are the least important.

        Raises:
            MeasurementError: If something measured is not finite.
        """
        without = _identity(removed_layers, keep)
        key = json.dumps(without), criterion
        if self._last is None or self._last[0] != key:
            if without and self._quick is not None:
                model = self._quick(removed_layers, keep)
            groups = self._groups_of(model)
            measured = self._measure(model, criterion.unit_needs, without) if without else self._whole
            found = unit_importances(groups, criterion, *measured, seed=self._recipe.seed)
            self._last = key, found | {group.name: _left(group, keep, found) for group in groups if group.name in keep}
        return self._last[1]

    @cached_property
    def _whole(self) -> tuple[Statistics | None, Statistics | None]:
        return self._measure(self._parent, self._needs, {})

    def _measure(
        self, model: SentenceTransformer, needs: Needs, without: Mapping[str, object]
    ) -> tuple[Statistics | None, Statistics | None]:
        shape = hashlib.sha256(f"{model!r} {transformer_of(model).config}".encode()).hexdigest()
        identity: dict[str, object] = {"parent": self._weights_sha256, "modules": shape, **without}
        part = ""
        if without:
            if self._quick is not None:
                identity |= self._recipe.model_dump(mode="json", include=set(ReconstructionOptions.model_fields))
                fitted = self._calibration.of_user()
                identity["reconstructed on"] = {kind: each.fingerprint for kind, each in fitted.items()}
            measured = sorted(needs.domain), sorted(needs.general)
            part = hashlib.sha256(json.dumps([identity, measured], sort_keys=True).encode()).hexdigest()[:16]
        recipe = self._recipe.model_copy(update={"resume": True}) if part in self._begun else self._recipe
        self._begun.add(part)
        consumers = [group.consumer for group in self._groups_of(model)]
        return measure_both(self._calibration, model, consumers, needs, recipe, identity, part=part)


def _identity(removed_layers: Collection[int], keep: Mapping[str, Tensor]) -> dict[str, object]:
    """Return what a measured model lost of its parent; empty for the parent itself."""
    found: dict[str, object] = {"without layers": sorted(removed_layers)} if removed_layers else {}
    if keep:
        columns = b"".join(name.encode() + mask.cpu().numpy().tobytes() for name, mask in sorted(keep.items()))
        found["with columns"] = hashlib.sha256(columns).hexdigest()
    return found


def _left(group: UnitGroup, keep: Mapping[str, Tensor], importances: Mapping[str, Tensor]) -> Tensor:
    """Return the importances of a group, minus infinity for units without a column left."""
    units = keep[group.name].view(group.units, -1).any(1)
    return importances[group.name].masked_fill(~units.to(importances[group.name].device), -torch.inf)


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
    for together in track(_shared(groups), "Ranking neurons and heads"):
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

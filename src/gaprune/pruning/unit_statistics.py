"""What heads and neurons are told apart by: the parent is measured once, a shallower model for each criterion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from gaprune.config.recipe import Recipe
from gaprune.config.reconstruction import ReconstructionOptions
from gaprune.criteria.base import UnitCriterion
from gaprune.criteria.needs import Needs
from gaprune.models.blocks import transformer_of
from gaprune.models.units import UnitGroup
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.choose import unit_importances

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from gaprune.statistics.sums import Statistics


__all__ = ["UnitStatistics"]

_Measured = tuple["Statistics | None", "Statistics | None"]


class UnitStatistics:
    """Measures heads and neurons.

    Args:
        parent: The model.
        groups: All units of it that any criterion will be asked about.
        needs: What all criteria look at together.
        calibration: The triplets of a run.
        recipe: Options, and where measurements are kept.
        weights_sha256: What a checkpoint says of the parent's weights.
        repairs: Whether models without some of the layers are refit before they come here.
    """

    def __init__(
        self,
        parent: SentenceTransformer,
        groups: Sequence[UnitGroup],
        needs: Needs,
        *,
        calibration: Calibration,
        recipe: Recipe,
        weights_sha256: str,
        reconstructs: bool,
    ) -> None:
        self._parent, self._groups, self._needs = parent, groups, needs
        self._calibration, self._recipe = calibration, recipe
        self._weights_sha256, self._repairs = weights_sha256, reconstructs
        self._last: tuple[tuple[frozenset[int], Needs], _Measured] | None = None
        self._begun: set[str] = set()  # what this run has kept, and may find again

    def importances(
        self,
        model: SentenceTransformer,
        groups: Sequence[UnitGroup],
        criterion: UnitCriterion,
        gone: Collection[int] = (),
    ) -> dict[str, Tensor]:
        """Return the importance of every unit of ``model``, ``(units,)`` by name of the group.

        Args:
            model: The parent, or what is left of it without the layers ``gone``.
            groups: Units of that model.
            criterion: Scores them.
            gone: Layers of the parent.

        Raises:
            SignalError: If something measured is not finite.
        """
        domain, general = self._of_shallower(model, groups, criterion, gone) if gone else self._of_parent
        return unit_importances(groups, criterion, domain=domain, general=general, seed=self._recipe.seed)

    @cached_property
    def _of_parent(self) -> _Measured:
        return self._measure(self._parent, self._groups, self._needs, ())

    def _of_shallower(
        self, model: SentenceTransformer, groups: Sequence[UnitGroup], criterion: UnitCriterion, gone: Collection[int]
    ) -> _Measured:
        """Return what is measured of a model without layers; what the criterion before asked for too is kept."""
        needs = criterion.unit_needs
        key = frozenset(gone), needs
        if self._last is None or self._last[0] != key:
            self._last = None  # its memory goes before the next is measured
            self._last = key, self._measure(model, groups, needs, gone)
        return self._last[1]

    def _measure(
        self, model: SentenceTransformer, groups: Sequence[UnitGroup], needs: Needs, gone: Collection[int]
    ) -> _Measured:
        shape = hashlib.sha256(f"{model!r} {transformer_of(model).config}".encode()).hexdigest()
        identity: dict[str, object] = {"parent": self._weights_sha256, "modules": shape}
        part = ""
        if gone:
            identity["without layers"] = sorted(gone)
            if self._repairs:
                refit_by = {*ReconstructionOptions.model_fields, "layer_triplets"}
                identity |= self._recipe.model_dump(mode="json", include=refit_by)
            looked_at = sorted(needs.domain), sorted(needs.general)
            part = hashlib.sha256(json.dumps([identity, looked_at], sort_keys=True).encode()).hexdigest()[:16]
        consumers = [group.consumer for group in groups]
        recipe = self._recipe.model_copy(update={"resume": True}) if part in self._begun else self._recipe
        self._begun.add(part)
        return self._calibration.measure(model, consumers, needs, recipe, identity, part=part)

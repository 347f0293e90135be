"""What FFN neurons and attention heads have in common: units that one linear layer of each block consumes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from torch import Tensor

from gaprune.criteria.base import Granularity, for_units
from gaprune.errors import ConfigError
from gaprune.models.linear_layers import LinearLayer
from gaprune.models.units import UnitGroup, unit_groups
from gaprune.pruning.basis import Basis
from gaprune.pruning.cut import remove_units
from gaprune.pruning.removable.base import Removable, RemovedUnits
from gaprune.pruning.removable.trial import check_alike, embedded, masking
from gaprune.util.threshold import lowest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class RankedUnits(Removable[RemovedUnits]):
    """Units that a criterion ranks, all kinds of them by one measurement."""

    order: ClassVar[int] = 20
    ranked_by: ClassVar[Granularity | None] = "units"

    @abstractmethod
    def groups(self, model: SentenceTransformer) -> list[UnitGroup]:
        """Return all groups of units that are ranked."""


class Units(RankedUnits):
    """Units inside the layers: the same number is removed from every layer, each by its own ranking."""

    kind: ClassVar[Literal["width", "heads"]]
    """Which units of the model."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """The number of kept units is a multiple of this."""

    def groups(self, model: SentenceTransformer) -> list[UnitGroup]:
        """Return the units of every layer."""
        return unit_groups(model, self.kind)

    def check(self, model: SentenceTransformer) -> None:
        """Refuse a model without such units, and numbers of units that its family cannot have."""
        groups = self.groups(model)
        units = groups[0].units
        kept = units - self.multiple if self.amount is None else kept_of(self, units, self.amount, self.multiple)
        if kept > 0:
            keep = {group.name: torch.arange(units) < kept for group in groups}
            with masking(groups, keep):
                masked = embedded(model)
            cut = remove_units(model, groups, keep, share=True)
            check_alike(masked, cut, self.label.removesuffix(" per layer"), shorter_sums=True)

    def measured(self, model: SentenceTransformer) -> list[LinearLayer]:
        """Return the layers that consume the units."""
        return [group.consumer for group in self.groups(model)]

    def parameters(self, model: SentenceTransformer) -> Iterator[Tensor]:
        """Yield the weights that consume the units, and the weights and biases that produce them."""
        for group in self.groups(model):
            yield group.consumer.module.weight
            for producer in group.producers:
                yield from producer.linear.module.parameters()

    def choose(self, model: SentenceTransformer, amount: float, basis: Basis) -> RemovedUnits:
        """Return the most important units of every layer, by one measurement of all kinds of units."""
        if basis.units is None:
            raise ValueError("units are chosen by a ranking")
        groups = self.groups(model)
        criterion = for_units(basis.criterion, basis.name)
        importances = basis.units.importances(model, criterion, basis.removed_layers, basis.keep)
        units = groups[0].units
        kept = kept_of(self, units, amount, self.multiple)
        kept = round(units * (kept / units) ** basis.share)
        masks = most_important({group.name: importances[group.name] for group in groups}, kept)
        indices = {name: mask.nonzero().squeeze(1).tolist() for name, mask in masks.items()}
        return RemovedUnits(self.name, self.label, units - kept, units, indices)

    def cut(self, model: SentenceTransformer, choice: RemovedUnits) -> SentenceTransformer:
        """Return a smaller copy of ``model``."""
        groups = self.groups(model)
        return remove_units(model, groups, {group.name: _mask(group, choice) for group in groups})

    def columns(self, model: SentenceTransformer, choice: RemovedUnits) -> Mapping[str, Tensor]:
        """Return the kept columns of the linear layers that consume the units."""
        groups = self.groups(model)
        return {each.name: _mask(each, choice).repeat_interleave(each.consumer.columns_per_unit) for each in groups}


def kept_of(kind: RankedUnits, units: int, fraction: float, multiple: int) -> int:
    """Return how many of so many units are kept if a fraction is removed.

    Raises:
        ConfigError: If that is none of them or all.
    """
    kept = round(units * (1 - fraction) / multiple) * multiple
    if not 0 < kept < units:
        raise ConfigError(
            f"{kind.option}: {fraction:g} of {units} {kind.label} in multiples of {multiple} would leave "
            f"{min(kept, units)}.",
            "Choose another fraction" + (", or a smaller round_to (--set round_to=8)." if multiple > 1 else "."),
        )
    return kept


def most_important(importances: Mapping[str, Tensor], kept: int) -> dict[str, Tensor]:
    """Return a mask of the ``kept`` most important units of every group, ``(units,)`` by name."""
    return {name: ~lowest(values.cpu(), len(values) - kept) for name, values in importances.items()}


def _mask(group: UnitGroup, choice: RemovedUnits) -> Tensor:
    mask = torch.zeros(group.units, dtype=torch.bool)
    mask[list(choice.kept[group.name])] = True
    return mask

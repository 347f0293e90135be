"""A size or a speed to reach: the mix of layers and neurons that loses least for it, by measured curves."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from gaprune.config.recipe import Recipe
from gaprune.config.removal import TargetKind
from gaprune.criteria.base import LayerCriterion
from gaprune.data.triplets import Triplets
from gaprune.errors import ConfigError, MeasurementError
from gaprune.models.blocks import blocks, removable_layers, transformer_of
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup
from gaprune.pruning.calibration import Calibration
from gaprune.pruning.choose import choose_layers, choose_units, layer_triplets
from gaprune.pruning.unit_plan import UnitPlan
from gaprune.reconstruction.reconstruct import quick_reconstruction
from gaprune.statistics.degradation import ReferenceOutputs, skipping
from gaprune.util.distributed import gather
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["Costs", "Target", "choose_plan"]

_FRACTIONS = (0.25, 0.5, 0.75, 0.9)
"""Parts of the neurons without which harm is measured, beside the most that can go; between them is interpolated."""


@dataclass(frozen=True)
class Costs:
    """What a model of this family costs by what is left of it.

    Args:
        parameters: Of the parent.
        bytes_each: Bytes of a parameter.
        layers: Number of layers.
        block: Parameters of a layer.
        block_weights: Weights of a layer's matrices, each two operations a token.
        units: FFN neurons of a layer.
        unit: Parameters of a neuron.
        unit_weights: Weights of a neuron, each two operations a token.
        rows: Rows of the embedding table, and
        row: parameters of one.
    """

    parameters: int
    bytes_each: int
    layers: int
    block: int
    block_weights: int
    units: int
    unit: int
    unit_weights: int
    rows: int
    row: int

    @classmethod
    def of(cls, model: SentenceTransformer, groups: Sequence[UnitGroup]) -> Self:
        """Return the costs of a parent with these FFN groups."""
        parameters = list(model.parameters())
        found = blocks(model)
        table: Tensor = transformer_of(model).get_input_embeddings().get_parameter("weight")
        return cls(
            parameters=sum(each.numel() for each in parameters),
            bytes_each=parameters[0].element_size(),
            layers=len(found),
            block=sum(each.numel() for each in found[-1].parameters()),
            block_weights=sum(m.module.weight.numel() for m in linear_layers(model) if m.layer == len(found) - 1),
            units=groups[0].units,
            unit=groups[0].parameters,
            unit_weights=groups[0].weights,
            rows=table.shape[0],
            row=table.shape[1],
        )

    def left(self, *, depth: int, width: int, tokens: int) -> int:
        """Return the parameters left without ``depth`` layers, with ``width`` neurons a layer and so many tokens."""
        neurons = (self.layers - depth) * (self.units - width) * self.unit
        return self.parameters - depth * self.block - neurons - (self.rows - tokens) * self.row

    def speedup(self, *, depth: int, width: int) -> float:
        """Return how many times fewer operations a token takes in the matrices of the layers."""
        block = self.block_weights - (self.units - width) * self.unit_weights
        return self.layers * self.block_weights / ((self.layers - depth) * block)


@dataclass(frozen=True)
class Target:
    """What is to be reached: at most so many parameters or bytes, or at least so many times fewer operations."""

    kind: TargetKind
    limit: float

    @classmethod
    def of(cls, recipe: Recipe) -> Self | None:
        """Return the target of a recipe, ``None`` without one."""
        return None if recipe.target is None else cls(recipe.target.kind, recipe.target.limit)

    def met(self, costs: Costs, *, depth: int, width: int, tokens: int) -> bool:
        """Return whether a mix reaches the target."""
        left = costs.left(depth=depth, width=width, tokens=tokens)
        if self.kind == "speedup":
            return costs.speedup(depth=depth, width=width) >= self.limit
        return left * (costs.bytes_each if self.kind == "size" else 1) <= self.limit

    def fraction(self, costs: Costs) -> float:
        """Return which part of the parent's parameters, bytes or operations is to go."""
        whole = {"parameters": costs.parameters, "size": costs.parameters * costs.bytes_each}
        return 1 - (1 / self.limit if self.kind == "speedup" else self.limit / whole[self.kind])

    def check(
        self, model: SentenceTransformer, groups: Sequence[UnitGroup], round_to: int, tokens: int | None
    ) -> None:
        """Refuse what not even the smallest mix reaches (``tokens`` left, or all), and what needs nothing to go.

        Raises:
            ConfigError: If it is out of reach, or reached already.
        """
        costs = Costs.of(model, groups)
        least = _deepest(model)
        if self.kind == "speedup":
            remedy = "Ask for less, or keep fewer neurons: a smaller round_to (--set round_to=8)."
        elif tokens is None:
            remedy = "Ask for less, or cut the vocabulary too: --vocabulary FILE."
        else:
            remedy = "Ask for less, or remove tokens that are rare in your texts: --set tokens=0.9."
        tokens = costs.rows if tokens is None else tokens
        if round_to > costs.units:
            raise ConfigError(
                f"round_to: {round_to} is more than the {costs.units} FFN neurons of a layer.",
                "Choose a smaller round_to (--set round_to=8).",
            )
        if not self.met(costs, depth=least, width=round_to, tokens=tokens):
            left = costs.left(depth=least, width=round_to, tokens=tokens)
            raise ConfigError(
                f"target: {self.kind}={self.limit:g} is out of reach: {left:,} parameters and "
                f"{costs.speedup(depth=least, width=round_to):.1f} times fewer operations are the least that layers "
                "and neurons leave.",
                remedy,
            )
        if self.met(costs, depth=0, width=costs.units, tokens=costs.rows):
            raise ConfigError(
                f"target: the parent reaches {self.kind}={self.limit:g} as it is.", "Ask for a smaller model."
            )


def _deepest(model: SentenceTransformer) -> int:
    """Return how many layers can go."""
    return min(len(removable_layers(model)), len(blocks(model)) - 1)


def choose_plan(
    model: SentenceTransformer,
    target: Target,
    *,
    groups: Sequence[UnitGroup],
    importances: Mapping[str, Tensor],
    criterion: LayerCriterion,
    calibration: Calibration,
    recipe: Recipe,
    tokens: int | None,
    reconstructs: bool,
) -> tuple[UnitPlan, dict[str, Any]]:
    """Return the mix of layers and neurons that reaches the target at the least estimated harm, and how it was found.

    The harm is the increase of the loss on domain triplets and, weighted as `dai` does for layers, the distance of
    their embeddings: the loss of some dozens of triplets can fall without a layer that other texts need. It is
    measured without more and more layers, and without more and more neurons; that of a mix is estimated by the sum of
    the two.

    Args:
        model: The parent.
        target: What is to be reached, and can be: see :meth:`Target.check`.
        groups: Its FFN neurons.
        importances: Of the neurons, by name of the group.
        criterion: Ranks the layers.
        calibration: ``recipe.layer_triplets`` of its domain triplets are measured on.
        recipe: Loss, and the multiple of neurons that stays.
        tokens: Tokens that stay, where the vocabulary is cut too.
        reconstructs: Whether what is left will be repaired: then it is measured with a draft of that.

    Raises:
        SignalError: If what is measured is not finite.
    """
    costs = Costs.of(model, groups)
    rows = costs.rows if tokens is None else tokens
    domain = _domain(calibration)
    triplets = layer_triplets({"domain": domain}, calibration, recipe, reconstructs=reconstructs)["domain"]
    choice = choose_layers(model, criterion, calibration, recipe, count=_deepest(model), reconstructs=reconstructs)
    narrowest = 1 - recipe.round_to / costs.units
    widths = sorted({0.0, *(each for each in _FRACTIONS if each < narrowest), narrowest})
    whole = ReferenceOutputs(model, triplets, prompts=calibration.prompts, options=recipe)
    preservation = criterion.preservation_weight

    def degradation(gone: Collection[int], keep: Mapping[str, Tensor]) -> float:
        columns = {
            group.name: keep[group.name].repeat_interleave(group.consumer.columns_per_unit)
            for group in groups
            if group.name in keep
        }
        if reconstructs:
            return whole.degradation(
                quick_reconstruction(model, calibration, recipe, gone, columns), preservation=preservation
            )
        with skipping(model, gone), _switched_off(groups, columns):
            return whole.degradation(preservation=preservation)

    counts = track(range(1, len(choice.order) + 1), "Measuring depths")
    by_depth = [0.0, *(degradation(choice.order[:count], {}) for count in counts)]
    kept = (round(costs.units * (1 - fraction)) for fraction in track(widths[1:], "Measuring widths"))
    by_width = [0.0, *(degradation((), choose_units(importances, count)) for count in kept)]
    if not all(map(math.isfinite, (*by_depth, *by_width))):
        raise MeasurementError(
            "The loss is not finite with some layers or neurons switched off.",
            "Load the model in float32 or bfloat16 (--set dtype=float32).",
        )
    candidates = []
    for depth, harmed in enumerate(by_depth):
        met = [
            width
            for width in {costs.units, *range(recipe.round_to, costs.units, recipe.round_to)}
            if target.met(costs, depth=depth, width=width, tokens=rows)
        ]
        if met:
            width = max(met)
            candidates.append(
                {
                    "depth": depth,
                    "width": width,
                    "tokens": rows,
                    "parameters": costs.left(depth=depth, width=width, tokens=rows),
                    "speedup": costs.speedup(depth=depth, width=width),
                    "estimated_degradation": harmed + float(np.interp(1 - width / costs.units, widths, by_width)),
                }
            )
    best = gather(min(candidates, key=lambda each: each["estimated_degradation"]))[
        0
    ]  # the first process decides for all
    depth = int(best["depth"])
    plan = UnitPlan(
        width=None if best["width"] == costs.units else 1 - best["width"] / costs.units,
        depth=depth,
        layers=choice.first(depth),
        vocabulary=tokens is not None,
        tokens=recipe.tokens,
    )
    found = {
        "kind": target.kind,
        "limit": target.limit,
        "asked": target.fraction(costs),
        "parent": {"depth": costs.layers, "width": costs.units, "tokens": costs.rows},
        "chosen": best,
        "candidates": candidates,
        "degradation_by_depth": by_depth,
        "degradation_by_width": dict(zip(map(str, widths), by_width, strict=True)),
    }
    return plan, found


def _domain(calibration: Calibration) -> Triplets:
    if calibration.domain is None:
        raise ConfigError("domain: a mix is chosen on triplets of your domain.", "Name them with --domain FILE.")
    return calibration.domain


@contextmanager
def _switched_off(groups: Sequence[UnitGroup], columns: Mapping[str, Tensor]) -> Iterator[None]:
    """Let the matrices that read units see zeros in the columns that do not stay."""

    def hook(mask: Tensor) -> Any:
        def switch(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (torch.where(mask.to(args[0].device), args[0], 0), *args[1:])

        return switch

    with ExitStack() as stack:
        for group in groups if columns else ():
            stack.callback(group.consumer.module.register_forward_pre_hook(hook(columns[group.name])).remove)
        yield

"""Applying a criterion to the linear layers of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from gaprune.criteria.base import WeightCriterion
from gaprune.criteria.inputs import WeightInputs
from gaprune.errors import MeasurementError
from gaprune.models.linear_layers import LinearLayer
from gaprune.pruning.scores import Scores
from gaprune.statistics.sums import Statistics
from gaprune.util.progress import track


def score(
    linear_layers: Sequence[LinearLayer],
    criterion: WeightCriterion,
    name: str,
    *,
    domain: Statistics | None,
    general: Statistics | None,
    seed: int,
) -> Scores:
    """Apply a criterion to every linear layer and hold the scores in memory.

    Raises:
        MeasurementError: If a weight or an importance is not finite; it names the layer.
    """
    found = {layer.name: _score(layer, criterion, name, domain, general, seed) for layer in linear_layers}
    return Scores(
        criterion=name,
        options=criterion.model_dump(),
        importances={name: importance for name, (importance, _) in found.items()},
        layers={layer.name: layer.layer for layer in linear_layers},
        second_moments={name: moments for name, (_, moments) in found.items() if moments is not None},
    )


@contextmanager
def writing_scores(
    path: str | Path,
    linear_layers: Sequence[LinearLayer],
    criterion: WeightCriterion,
    name: str,
    *,
    seed: int,
    origin: Mapping[str, object] | None = None,
) -> Iterator[Callable[[Sequence[LinearLayer], Statistics | None, Statistics | None], None]]:
    """Write the scores of ``linear_layers`` to a file, group by group as their statistics are measured.

    The file takes its name at the end of the block, when it is complete; :meth:`Scores.load` opens it.

    Yields:
        The function that scores a group of the layers by its statistics on domain and on general data; it needs
        memory for one layer, and the statistics can be freed after it.

    Raises:
        OutputError: If the file cannot be written, or the disk has too little room, which is found before the block.
        MeasurementError: If a weight or an importance is not finite.
    """
    layers = {layer.name: layer.layer for layer in linear_layers}
    scores = Scores(name, criterion.model_dump(), {}, layers, origin=origin or {})
    shapes = {layer.name: layer.module.weight.shape for layer in linear_layers}
    with scores.writing(Path(path), shapes, with_second_moments=criterion.uses_second_moments) as write:

        def add(group: Sequence[LinearLayer], domain: Statistics | None, general: Statistics | None) -> None:
            for layer in track(group, f"Scoring ({name})"):
                write(layer.name, *_score(layer, criterion, name, domain, general, seed))

        yield add


def _score(
    layer: LinearLayer,
    criterion: WeightCriterion,
    name: str,
    domain: Statistics | None,
    general: Statistics | None,
    seed: int,
) -> tuple[Tensor, Tensor | None]:
    """Return the importance of a layer's weights, and the second moments if the criterion chooses on them."""
    inputs = WeightInputs(
        name=layer.name,
        weight=layer.module.weight.detach().float(),
        domain=None if domain is None else domain[layer.name],
        general=None if general is None else general[layer.name],
        seed=seed,
        writes_residual=layer.writes_residual,
    )
    importance = criterion.importance(inputs).float()
    if not torch.isfinite(importance).all():
        weights = "the weights are" if torch.isfinite(inputs.weight).all() else "nor are the weights"
        raise MeasurementError(
            f"{layer.name}: the importance ({name}) is not finite; {weights}.",
            f"Check the model, or leave the layer out: --set ignore={layer.name}",
        )
    return importance, criterion.second_moments(inputs) if criterion.uses_second_moments else None

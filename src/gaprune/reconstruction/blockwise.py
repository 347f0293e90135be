"""Repair of a whole model, block by block, with the inputs that the blocks already changed really give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gaprune.models.blocks import blocks
from gaprune.models.linear_layers import Kind, LinearLayer, linear_layers
from gaprune.reconstruction.least_squares import refit_columns, refit_entries
from gaprune.reconstruction.paired_stream import Moments, PairedBlockStream
from gaprune.util.progress import track

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

__all__ = ["reconstruct_blocks"]

_KINDS: tuple[Kind, ...] = ("attention", "unknown", "mlp")
"""The order in which a block computes; the FFN sees what the repaired attention gives."""


@torch.no_grad()
def reconstruct_blocks(
    model: SentenceTransformer,
    keep: Mapping[str, Tensor],
    courses: Sequence[tuple[float, PairedBlockStream]],
    *,
    ridge: float,
) -> None:
    """Take away and repair, in place, block by block.

    Args:
        model: The model that ``courses`` run through; its weights and biases change.
        keep: By name of a matrix in a block, true for entries ``(out, in)`` or for columns ``(in,)`` that stay; all
            matrices named are refit.
        courses: Calibration texts, none of which has advanced, with their shares in the mixture.
        ridge: Pull towards the original weights, see :mod:`gaprune.reconstruction.least_squares`.

    Raises:
        SignalError: If a matrix cannot be repaired.
    """
    for stages in track(_stages(model, keep), f"Repairing layers (ridge {ridge:g})"):
        for _, course in courses if stages else ():
            course.copy_final_norm()
        for here in stages:
            moments = _mixed([(share, course.moments(here)) for share, course in courses])
            for matrix in here:
                _refit(matrix, moments[matrix.name], keep[matrix.name], ridge)
        for _, course in courses:
            course.advance()


def _stages(model: SentenceTransformer, keep: Mapping[str, Tensor]) -> list[list[list[LinearLayer]]]:
    """Return for every block, up to the last that changes, groups of matrices that are refit on the same inputs.

    Those that come last in attention and in the FFN read what the others give, and so come after them.
    """
    found = linear_layers(model)
    stages: list[list[list[LinearLayer]]] = []
    for layer in range(len(blocks(model))):
        stages.append([])
        for kind in _KINDS:
            here = [matrix for matrix in found if (matrix.layer, matrix.kind) == (layer, kind) and matrix.name in keep]
            for writes_residual in (False, True):
                stages[-1].append([matrix for matrix in here if matrix.writes_residual is writes_residual])
        stages[-1] = [group for group in stages[-1] if group]
    while stages and not stages[-1]:
        stages.pop()
    return stages


def _mixed(parts: Sequence[tuple[float, Mapping[str, Moments]]]) -> dict[str, Moments]:
    """Return the moments of the mixture by name."""
    (weight, first), *others = parts
    mixed = dict(first)
    for share, found in others:
        weight += share
        mixed = {name: moments.mixed(found[name], share / weight) for name, moments in mixed.items()}
    return mixed


def _refit(matrix: LinearLayer, moments: Moments, keep: Tensor, ridge: float) -> None:
    linear = matrix.module
    refit = refit_columns if keep.ndim == 1 else refit_entries
    weight = linear.weight.float()
    bias = None if linear.bias is None else linear.bias.float()
    reconstructed = refit(weight, bias, moments, keep.to(weight.device), ridge=ridge, name=matrix.name)
    linear.weight.copy_(reconstructed.weight)
    if linear.bias is not None and reconstructed.bias is not None:
        linear.bias.copy_(reconstructed.bias)

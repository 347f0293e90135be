"""Which rows of an activation are real tokens, and whose."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from gaprune.errors import MeasurementError

__all__ = ["TokenRows", "chunks"]


class TokenRows:
    """The texts of one forward pass.

    Args:
        mask: True for real tokens, ``(texts, tokens)``.
        owners: Triplet of each text, ``(texts,)``.
        triplets: Number of triplets that are measured together.
    """

    def __init__(self, mask: Tensor, owners: Tensor, triplets: int) -> None:
        self.shape = mask.shape
        self.owners = owners
        self.triplets = triplets
        self._real = mask.flatten().nonzero().squeeze(1)
        self._token_owners = owners.repeat_interleave(mask.sum(1))

    def check(self, values: Tensor, layer: str) -> None:
        """Check that ``values`` has a row for every token, or for every text.

        Raises:
            SignalError: If it has neither.
        """
        if values.shape[:-1] not in (self.shape, self.owners.shape):
            raise MeasurementError(
                f"{layer}: its input has shape {tuple(values.shape)} for texts of shape {tuple(self.shape)}.",
                "Layers must see (texts, tokens, features); load the model with padded inputs (no flash attention).",
            )

    def rows(self, values: Tensor) -> Tensor:
        """Return the rows of real tokens ``(real tokens, features)``, or of texts where ``values`` has one a text."""
        if values.ndim == 2:
            return values
        flat = values.flatten(0, 1)
        return flat if len(self._real) == len(flat) else flat.index_select(0, self._real)

    def row_owners(self, values: Tensor) -> Tensor:
        """Return the triplet of each of :meth:`rows`."""
        return self.owners if values.ndim == 2 else self._token_owners

    def count(self, values: Tensor) -> int:
        """Return the number of :meth:`rows`."""
        return len(self.row_owners(values))


def chunks(lengths: Sequence[int], tokens: int, overhead: int) -> list[list[int]]:
    """Return the texts in groups of like length, a forward pass each, so that the least is computed.

    A group is padded to its longest text and has at most ``tokens`` then; a text that is longer alone is a group of
    its own. The groups are the best there are of neighbours by length: padding against the cost of a pass.

    Args:
        lengths: Tokens of each text.
        tokens: The most of a group.
        overhead: Tokens that cost as much as a forward pass costs whatever it has.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    cost, start = [0.0], [0]  # of the best groups of the first texts, and where the last of these groups starts
    for end in range(1, len(order) + 1):
        best, of_best = math.inf, end - 1
        for first in range(end - 1, -1, -1):
            padded = (end - first) * lengths[order[first]]
            if padded > tokens and first < end - 1:
                break
            if (total := cost[first] + padded + overhead) < best:
                best, of_best = total, first
        cost.append(best)
        start.append(of_best)
    found, end = [], len(order)
    while end:
        found.append(order[start[end] : end])
        end = start[end]
    return found[::-1]

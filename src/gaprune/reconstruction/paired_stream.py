"""Block by block beside the parent: what a changed model's matrices read, and what they fall short of.

The texts run through the model as it changes and, one step ahead, through its parent. A matrix is held against what
the same one gives in the parent. Where it is the last of attention or of the FFN, the residual stream after it is held
against the parent's instead, so that it can make up for what the stream already lacks, and for blocks after it that
are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.hook_points import HookPoint, residual_hook_points

__all__ = ["Moments", "PairedBlockStream"]


@dataclass(frozen=True)
class Moments:
    """First and second moments, over real tokens and in fp32, of inputs ``a`` and of gaps ``g``, goal less output.

    Args:
        mean: ``E[a]``, ``(in,)``.
        gram: ``E[a aᵀ]``, ``(in, in)``.
        gap: ``E[g]``, ``(out,)``.
        cross: ``E[g aᵀ]``, ``(out, in)``.
    """

    mean: Tensor
    gram: Tensor
    gap: Tensor
    cross: Tensor

    def mixed(self, other: Moments, share: float) -> Moments:
        """Return the moments of a mixture with this share of ``other``."""
        return Moments(
            torch.lerp(self.mean, other.mean, share),
            torch.lerp(self.gram, other.gram, share),
            torch.lerp(self.gap, other.gap, share),
            torch.lerp(self.cross, other.cross, share),
        )

    def seen(self, *, centred: bool) -> Tensor:
        """Return what weights see: the covariance where a bias takes the mean, else the second moments."""
        return self.gram - torch.outer(self.mean, self.mean) if centred else self.gram

    def missed(self, *, centred: bool) -> Tensor:
        """Return what of the gaps goes with the inputs, ``(out, in)``: without means where a bias takes them."""
        return self.cross - torch.outer(self.gap, self.mean) if centred else self.cross


class PairedBlockStream:
    """The texts of one kind on their way through a model that changes, beside their way through its parent.

    Args:
        changing: The texts at the first block of the model that changes.
        parent: The same at the first block of its parent.
        stays: Blocks of the parent that the model still has; all by default.
    """

    def __init__(self, changing: BlockStream, parent: BlockStream, stays: Sequence[int] | None = None) -> None:
        self._changing, self._parent = changing, parent
        count = len(parent.blocks)
        self._stays = [*(range(count) if stays is None else stays), count]
        parent.advance(self._stays[0])
        self._last = {matrix.module for matrix in linear_layers(changing.model) if matrix.writes_residual}

    @property
    def _gone(self) -> int:
        """How many blocks are gone between the next block and the one after it, or behind it."""
        place = self._changing.next
        return self._stays[place + 1] - self._stays[place] - 1

    @cached_property
    def _sums(self) -> dict[str, HookPoint]:
        """Where the sums of the last matrices are seen, by path in a block; all blocks are alike in this."""
        block = self._changing.blocks[self._changing.next]
        paths = [path for path, module in block.named_modules() if module in self._last]
        return residual_hook_points(block, paths, lambda: self._changing.run(0))

    def copy_final_norm(self) -> None:
        """Where blocks are gone after the next one, give it the norm that they ended with, if a sum goes into it."""
        block = self._changing.blocks[self._changing.next]
        for path, site in self._sums.items():
            if self._gone and self._closes(path) and site.side == "input":
                last = self._parent.blocks[self._parent.next + self._gone]
                block.get_submodule(site.path).load_state_dict(last.get_submodule(site.path).state_dict())

    @torch.no_grad()
    def moments(self, linear_layers: Sequence[LinearLayer]) -> dict[str, Moments]:
        """Return the moments of ``linear_layers``, all of the next block, as that block is now."""
        block = self._changing.blocks[self._changing.next]
        paths = {module: path for path, module in block.named_modules()}
        totals = {matrix.name: _Totals() for matrix in linear_layers}
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        goals: dict[str, Tensor] = {}
        steps = 1
        with ExitStack() as stack:
            for matrix in linear_layers:
                path, name = paths[matrix.module], matrix.name
                site = self._sums.get(path, HookPoint(path, "output"))
                ahead = self._gone if self._closes(path) and site.path != path else 0
                steps = max(steps, 1 + ahead)
                there = self._parent.blocks[self._parent.next + ahead]
                for each, of, seen in (
                    (HookPoint(path, "input"), block, partial(inputs.__setitem__, name)),
                    (site, block, partial(_see, outputs, name, len(linear_layers))),
                    (site, there, partial(_see, goals, name, len(linear_layers))),
                ):
                    stack.callback(each.watch(of, seen).remove)
            for index, mask in enumerate(self._changing.masks):
                with suppress(_SeenAllError):
                    self._parent.run(index, steps)
                with suppress(_SeenAllError):
                    self._changing.run(index)
                for name, total in totals.items():
                    total.add(*(_rows(found.pop(name), mask) for found in (inputs, outputs, goals)))
        return {name: total.moments() for name, total in totals.items()}

    def advance(self) -> None:
        """Go on to the next block that the model still has; the parent's texts run through those that are gone too."""
        self._parent.advance(1 + self._gone)
        self._changing.advance()

    def _closes(self, path: str) -> bool:
        """Whether the matrix at this path adds to the residual stream last of all in the block."""
        return path == list(self._sums)[-1]


class _SeenAllError(Exception):
    """Stops a block once all that is looked for was seen; it is never let out."""


def _see(into: dict[str, Tensor], name: str, wanted: int, values: Tensor) -> None:
    into[name] = values
    if len(into) == wanted:
        raise _SeenAllError


def _rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of real tokens in fp32, where the mask is."""
    return values[mask.to(values.device)].float().to(mask.device)


class _Totals:
    """Sums over tokens for one matrix."""

    def __init__(self) -> None:
        self._sums: tuple[Tensor, ...] = ()
        self._tokens = 0

    def add(self, inputs: Tensor, outputs: Tensor, goals: Tensor) -> None:
        """Add rows of inputs ``(tokens, in)``, and of outputs and goals ``(tokens, out)``."""
        gaps = goals - outputs
        if not self._sums:
            self._sums = tuple(
                inputs.new_zeros(shape)
                for shape in (
                    inputs.shape[1:], (inputs.shape[1],) * 2, gaps.shape[1:], (gaps.shape[1], inputs.shape[1])
                )
            )  # fmt: skip
        mean, gram, gap, cross = self._sums
        mean += inputs.sum(0)
        gram.addmm_(inputs.T, inputs)
        gap += gaps.sum(0)
        cross.addmm_(gaps.T, inputs)
        self._tokens += len(inputs)

    def moments(self) -> Moments:
        """Return their means."""
        return Moments(*(each / self._tokens for each in self._sums))

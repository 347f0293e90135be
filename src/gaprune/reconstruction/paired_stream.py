"""The block streams of a changing model and of its parent, side by side.

The texts run through the model as it changes and, one block ahead, through its parent. The output of a linear layer is
compared with that of the same layer of the parent. For the last linear layer of attention and of the FFN, the residual
stream after it is compared instead, so that the layer can compensate errors of the stream and blocks removed after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.hook_points import HookPoint, residual_hook_points
from gaprune.reconstruction.moments import MomentAccumulator, Moments
from gaprune.reconstruction.norms import NormMoments

__all__ = ["PairedBlockStream"]


class PairedBlockStream:
    """The texts of one kind in a changing model and in its parent.

    Args:
        changing: The texts at the first block of the model that changes.
        parent: The same texts at the first block of its parent.
        kept: Indices of the blocks of the parent that the model still has; all by default.
        outputs: Which of the parent's outputs the linear layers of the model have, indices ``(out,)`` by name of the
            layer; all of them where a name is missing.
    """

    def __init__(
        self,
        changing: BlockStream,
        parent: BlockStream,
        kept: Sequence[int] | None = None,
        outputs: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        self._changing, self._parent, self._outputs = changing, parent, outputs
        count = len(parent.blocks)
        self._kept = [*(range(count) if kept is None else kept), count]
        writers = [linear for linear in linear_layers(changing.model) if linear.writes_residual]
        self._residual = {linear.module for linear in writers}
        self._hidden = outputs.get(writers[0].name)
        self._entry = [_part(hidden, self._hidden) for hidden in parent.hidden] if outputs else []
        parent.advance(self._kept[0])

    @property
    def _removed(self) -> int:
        """Number of blocks that were removed behind the next block."""
        place = self._changing.next
        return self._kept[place + 1] - self._kept[place] - 1

    @cached_property
    def _points(self) -> dict[str, HookPoint]:
        """Where the residual stream is read after the linear layers that write to it, by path; alike in all blocks."""
        block = self._changing.blocks[self._changing.next]
        paths = [path for path, module in block.named_modules() if module in self._residual]
        return residual_hook_points(block, paths, lambda: self._changing.run(0))

    def copy_final_norm(self) -> None:
        """If the blocks behind the next one were removed, copy their final norm to it (post-norm models)."""
        block = self._changing.blocks[self._changing.next]
        for path, point in self._points.items():
            if self._removed and self._is_last(path) and point.side == "input":
                last = self._parent.blocks[self._parent.next + self._removed]
                state = last.get_submodule(point.path).state_dict()
                parts = {name: _part(values, self._hidden) for name, values in state.items()}
                block.get_submodule(point.path).load_state_dict(parts)

    @torch.no_grad()
    def moments(self, linears: Sequence[LinearLayer]) -> dict[str, Moments]:
        """Return the moments of linear layers, all of the next block, as that block is now, by name."""
        block = self._changing.blocks[self._changing.next]
        paths = {module: path for path, module in block.named_modules()}
        totals = {linear.name: MomentAccumulator() for linear in linears}
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        targets: dict[str, Tensor] = {}
        steps = 1
        with ExitStack() as stack:
            for linear in linears:
                path, name = paths[linear.module], linear.name
                point = self._points.get(path, HookPoint(path, "output"))
                ahead = self._removed if self._is_last(path) and point.path != path else 0
                steps = max(steps, 1 + ahead)
                there = self._parent.blocks[self._parent.next + ahead]
                for each, of, read in (
                    (HookPoint(path, "input"), block, partial(inputs.__setitem__, name)),
                    (point, block, partial(_store, outputs, name, len(linears))),
                    (point, there, partial(_store, targets, name, len(linears))),
                ):
                    stack.callback(each.watch(of, read).remove)
            for index, mask in enumerate(self._changing.masks):
                with suppress(_AllReadError):
                    self._parent.run(index, steps)
                with suppress(_AllReadError):
                    self._changing.run(index)
                for name, total in totals.items():
                    target = _part(targets.pop(name), self._outputs.get(name))
                    total.add(*(_rows(found, mask) for found in (inputs.pop(name), outputs.pop(name), target)))
        return {name: total.moments() for name, total in totals.items()}

    @property
    def entry(self) -> NormMoments:
        """Moments of what enters the first block, of a model with fewer hidden dimensions and of its parent."""
        moments = NormMoments()
        for own, parent, mask in zip(self._changing.hidden, self._entry, self._changing.masks, strict=True):
            moments.add(_rows(own, mask), _rows(parent, mask))
        return moments

    def rescale_entry(self, scale: Tensor, shift: Tensor) -> None:
        """Multiply what enters the first block of the model and add to it, ``(hidden,)`` each."""
        self._changing.rescale(scale, shift)
        self._entry.clear()

    @torch.no_grad()
    def norm_after(self, linear: LinearLayer) -> tuple[nn.Module, NormMoments] | None:
        """Return the norm in the next block that reads the residual stream after a linear layer was added to it.

        With it come the moments of its outputs now and of the parent's outputs. ``None`` if no norm follows.
        """
        block = self._changing.blocks[self._changing.next]
        path = next(path for path, module in block.named_modules() if module is linear.module)
        point = self._points[path]
        if point.side == "output":
            return None
        ahead = self._removed if self._is_last(path) else 0
        there, after = self._parent.blocks[self._parent.next + ahead], HookPoint(point.path, "output")
        found: dict[str, Tensor] = {}
        moments = NormMoments()
        with ExitStack() as stack:
            for name, of in (("own", block), ("parent", there)):
                stack.callback(after.watch(of, partial(found.__setitem__, name)).remove)
            for index, mask in enumerate(self._changing.masks):
                self._parent.run(index, 1 + ahead)
                self._changing.run(index)
                moments.add(_rows(found["own"], mask), _rows(_part(found["parent"], self._hidden), mask))
        return block.get_submodule(point.path), moments

    def advance(self) -> None:
        """Go on to the next block of the model; the parent's texts also run through removed blocks before it."""
        self._parent.advance(1 + self._removed)
        self._changing.advance()

    def _is_last(self, path: str) -> bool:
        """Whether the linear layer at this path is the last of the block that writes to the residual stream."""
        return path == list(self._points)[-1]


class _AllReadError(Exception):
    """Stops a block once everything was read; it never leaves this module."""


def _store(into: dict[str, Tensor], name: str, wanted: int, values: Tensor) -> None:
    into[name] = values
    if len(into) == wanted:
        raise _AllReadError


def _part(values: Tensor, kept: Tensor | None) -> Tensor:
    """Return the kept entries of the last axis."""
    return values if kept is None else values.index_select(-1, kept.to(values.device))


def _rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of real tokens in fp32 on the device of the mask."""
    return values.flatten(0, -2)[mask.flatten().to(values.device)].float().to(mask.device)

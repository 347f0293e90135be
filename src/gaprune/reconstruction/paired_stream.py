"""The block streams of a changing model and of its parent, side by side.

The texts run through the parent, one block at a time, and through the model as it changes. What a linear layer is to
give is what the same layer of the parent gives. Until it is fitted it has the parent's weight ``W``, so the gap is
``W (a' - a)`` for inputs ``a'`` of the parent and ``a`` of the model, and inputs alone are compared. For the last
linear layer of attention and of the FFN, the residual stream after it is compared instead, so that the layer can
compensate errors of the stream and blocks removed after it. With fewer hidden dimensions outputs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cached_property, partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gaprune.models.linear_layers import LinearLayer, linear_layers
from gaprune.models.precision import product_type
from gaprune.reconstruction.block_stream import BlockStream
from gaprune.reconstruction.hook_points import HookPoint, residual_hook_points
from gaprune.reconstruction.moments import MomentAccumulator, Moments
from gaprune.reconstruction.norms import NormMoments


class PairedBlockStream:
    """The texts of one kind in a changing model and in its parent.

    Args:
        changing: The texts at a block of the model that changes.
        parent: The same texts on their way through its parent. Where they are behind the block that the model comes
            to, only what lies before them is compared: of linear layers the last, if blocks behind it were removed.
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
        self._targets: list[Mapping[str, Tensor]] = []
        parent.advance(max(0, self._kept[0] - parent.next))  # it may be further, with the changing model

    @property
    def _block(self) -> nn.Module:
        """The next block of the model."""
        return self._changing.blocks[self._changing.next]

    @property
    def _removed(self) -> int:
        """Number of blocks that were removed behind the next block."""
        place = self._changing.next
        return self._kept[place + 1] - self._kept[place] - 1

    @cached_property
    def _residual_points(self) -> dict[str, HookPoint]:
        """Where the residual stream is read after the linear layers that write to it, by path; alike in all blocks."""
        paths = [path for path, module in self._block.named_modules() if module in self._residual]
        return residual_hook_points(self._block, paths, lambda: self._changing.run(0))

    def _point(self, path: str) -> HookPoint:
        """Return where the model is compared with its parent for a linear layer."""
        point = self._residual_points.get(path)
        if point is not None and point.path != path:
            return point
        return HookPoint(path, "output" if self._outputs else "input")

    def looks_behind(self, linear: LinearLayer) -> bool:
        """Whether a linear layer of the next block is compared behind the blocks that were removed there."""
        paths = [path for path, module in self._block.named_modules() if module is linear.module]
        return any(self._point(path).path != path and self._is_last(path) for path in paths)

    def copy_final_norm(self) -> None:
        """If the blocks behind the next one were removed, copy their final norm to it (post-norm models)."""
        for path, point in self._residual_points.items():
            if self._removed and self._is_last(path) and point.side == "input":
                last = self._parent.blocks[self._kept[self._changing.next] + self._removed]
                state = last.get_submodule(point.path).state_dict()
                parts = {name: _part(values, self._hidden) for name, values in state.items()}
                self._block.get_submodule(point.path).load_state_dict(parts)

    def _run_parent(self) -> None:
        """Let the parent's texts go on to its next kept block, and keep what the linear layers are compared with."""
        at, removed, first = self._kept[self._changing.next], self._removed, self._parent.next
        found: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for path, module in self._block.named_modules():
                if isinstance(module, nn.Linear):
                    point = self._point(path)
                    ahead = removed if self._is_last(path) and point.path != path else 0
                    if at + ahead < first:
                        continue
                    there = self._parent.blocks[at + ahead]
                    stack.callback(point.watch(there, partial(found.__setitem__, path)).remove)
                    if self._outputs and point.path != path and point.side == "input":
                        after = HookPoint(point.path, "output")
                        stack.callback(after.watch(there, partial(found.__setitem__, _norm_of(path))).remove)
            for index, mask in enumerate(self._parent.masks):
                self._parent.step(index, at + 1 + removed - first)
                self._targets.append(_all_rows(found, mask))
                found.clear()
        self._parent.next = at + 1 + removed

    @torch.no_grad()
    def moments(self, linears: Sequence[LinearLayer]) -> dict[str, Moments]:
        """Return the moments of linear layers, all of the next block, by name; none of them was changed before."""
        if not self._targets:
            self._run_parent()
        paths = {module: path for path, module in self._block.named_modules()}
        here = {linear.name: paths[linear.module] for linear in linears}
        totals = {name: MomentAccumulator(product_type(self._changing.precision)) for name in here}
        inputs: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        with ExitStack() as stack:
            for name, path in here.items():
                stack.callback(HookPoint(path, "input").watch(self._block, partial(inputs.__setitem__, name)).remove)
                read = partial(_store, outputs, name, len(linears))
                stack.callback(self._point(path).watch(self._block, read).remove)
            for index, mask in enumerate(self._changing.masks):
                with suppress(_AllReadError):
                    self._changing.run(index)
                rows, compared = _all_rows(inputs, mask), _all_rows(outputs, mask)
                for name, path in here.items():
                    target = _part(self._targets[index][path], self._outputs.get(name))
                    totals[name].add(rows[name], compared[name], target)
                inputs.clear()
                outputs.clear()
        found = {name: total.moments() for name, total in totals.items()}
        return {
            linear.name: found[linear.name].through(linear.module.weight.float())
            if self._point(here[linear.name]) == HookPoint(here[linear.name], "input")
            else found[linear.name]
            for linear in linears
        }

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
        path = next(path for path, module in self._block.named_modules() if module is linear.module)
        point = self._residual_points[path]
        if point.side == "output":
            return None
        found: dict[str, Tensor] = {}
        moments = NormMoments()
        with ExitStack() as stack:
            read = partial(found.__setitem__, path)
            stack.callback(HookPoint(point.path, "output").watch(self._block, read).remove)
            for index, mask in enumerate(self._changing.masks):
                self._changing.run(index)
                moments.add(_rows(found[path], mask), _part(self._targets[index][_norm_of(path)], self._hidden))
        return self._block.get_submodule(point.path), moments

    def advance(self) -> None:
        """Go on to the next block of the model; the parent's texts also run through removed blocks before it."""
        if not self._targets:
            self._parent.advance(1 + self._removed)
        self._targets.clear()
        self._changing.advance()

    def _is_last(self, path: str) -> bool:
        """Whether the linear layer at this path is the last of the block that writes to the residual stream."""
        return path == list(self._residual_points)[-1]


def _norm_of(path: str) -> str:
    """Return the key of the outputs of the norm that follows a linear layer."""
    return f"{path}, normed"


class _AllReadError(Exception):
    """Stops a block once everything was read; it never leaves this module."""


def _store(into: dict[str, Tensor], name: str, wanted: int, values: Tensor) -> None:
    into[name] = values
    if len(into) == wanted:
        raise _AllReadError


def _part(values: Tensor, kept: Tensor | None) -> Tensor:
    """Return the kept entries of the last axis."""
    return values if kept is None else values.index_select(-1, kept.to(values.device))


def _all_rows(values: Mapping[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Return the rows of real tokens in fp32 on the device of the mask, the same tensor of the same values."""
    rows: dict[int, Tensor] = {}
    for each in values.values():
        if id(each) not in rows and each.shape[:-1].numel() == mask.numel():  # OPT flattens texts and tokens
            rows[id(each)] = _rows(each, mask)
    return {name: rows[id(each)] for name, each in values.items() if id(each) in rows}


def _rows(values: Tensor, mask: Tensor) -> Tensor:
    """Return the rows of real tokens in fp32 on the device of the mask."""
    return values.flatten(0, -2)[mask.flatten().to(values.device)].float().to(mask.device)

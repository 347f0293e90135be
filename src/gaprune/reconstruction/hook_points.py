"""Places in a block at which the output of a linear layer is compared with the parent's."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

_NORM = re.compile("norm", re.IGNORECASE)


@dataclass(frozen=True)
class HookPoint:
    """The input or the output of a module of a block."""

    path: str
    side: Literal["input", "output"]

    def watch(self, block: nn.Module, read: Callable[[Tensor], None]) -> RemovableHandle:
        """Call ``read`` with the tensor at this place whenever ``block`` runs."""
        module = block.get_submodule(self.path)
        if self.side == "input":

            def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
                read(args[0])

            return module.register_forward_pre_hook(before)

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            read(output[0] if isinstance(output, tuple) else output)

        return module.register_forward_hook(after)


def residual_hook_points(block: nn.Module, paths: Collection[str], run: Callable[[], object]) -> dict[str, HookPoint]:
    """Return where the residual stream can be read right after each of these linear layers was added to it.

    That is the input of the next norm, or the output of the block if no norm follows. If the output of the linear
    layer is normed before it is added (Gemma 3), it is that output itself.
    """
    points: dict[str, HookPoint] = {}
    added: dict[str, Tensor] = {}

    def watch_norm(path: str) -> Callable[[Tensor], None]:
        def read(value: Tensor) -> None:
            for linear, output in list(added.items()):
                if value.shape[-1] == output.shape[-1] and value.numel() == output.numel():
                    alone = value.data_ptr() == output.data_ptr()
                    points[linear] = HookPoint(linear, "output") if alone else HookPoint(path, "input")
                    del added[linear]

        return read

    with ExitStack() as stack:
        for path in paths:
            stack.callback(HookPoint(path, "output").watch(block, partial(added.__setitem__, path)).remove)
        for path, module in block.named_modules():
            if _NORM.search(type(module).__name__):
                stack.callback(HookPoint(path, "input").watch(block, watch_norm(path)).remove)
        run()
    return points | dict.fromkeys(added, HookPoint("", "output"))

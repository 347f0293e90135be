"""Where in a block what a matrix gives can be held against what it ought to give."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

__all__ = ["HookPoint", "residual_hook_points"]

_NORM = re.compile("norm", re.IGNORECASE)


@dataclass(frozen=True)
class HookPoint:
    """A place in a block.

    Args:
        path: Of a module in the block; empty for the block itself.
        side: What is looked at: what the module is given, or what it gives.
    """

    path: str
    side: Literal["input", "output"]

    def watch(self, block: nn.Module, seen: Callable[[Tensor], None]) -> RemovableHandle:
        """Tell ``seen`` whatever comes by here whenever ``block`` runs."""
        module = block.get_submodule(self.path)
        if self.side == "input":

            def before(_: nn.Module, args: tuple[Tensor, ...]) -> None:
                seen(args[0])

            return module.register_forward_pre_hook(before)

        def after(_module: nn.Module, _args: Any, output: Any) -> None:
            seen(output[0] if isinstance(output, tuple) else output)

        return module.register_forward_hook(after)


def residual_hook_points(block: nn.Module, paths: Collection[str], run: Callable[[], object]) -> dict[str, HookPoint]:
    """Return where the residual stream can be seen right after each of these matrices was added to it.

    That is what the next norm is given, or what the block gives if there is none. Where a norm comes before the
    addition (Gemma 3), the place is what the matrix itself gives.

    Args:
        block: The block.
        paths: Of the matrices in the block.
        run: Runs the block once.
    """
    sites: dict[str, HookPoint] = {}
    waiting: dict[str, Tensor] = {}

    def gives(path: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def hook(_module: nn.Module, _args: Any, output: Tensor) -> None:
            waiting[path] = output

        return hook

    def norm(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            for matrix, output in list(waiting.items()):
                if args[0].shape == output.shape:
                    alone = args[0].data_ptr() == output.data_ptr()
                    sites[matrix] = HookPoint(matrix, "output") if alone else HookPoint(path, "input")
                    del waiting[matrix]

        return hook

    handles = [block.get_submodule(path).register_forward_hook(gives(path)) for path in paths]
    handles += [
        module.register_forward_pre_hook(norm(path))
        for path, module in block.named_modules()
        if _NORM.search(type(module).__name__)
    ]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return sites | dict.fromkeys(waiting, HookPoint("", "output"))

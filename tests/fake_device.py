"""A second device without one: its tensors say that they are on an accelerator, and hold their values on the CPU.

They refuse to meet tensors of the CPU where a real accelerator would refuse.
"""

from __future__ import annotations

import contextlib
from typing import Any, Self

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["DEVICE", "FakeDevice", "is_on_device", "moved"]

torch.utils.backend_registration._setup_privateuseone_for_python_backend("fakedevice")
torch.fakedevice.get_amp_supported_dtype = lambda: [torch.bfloat16]
DEVICE = torch.device("fakedevice", 0)
"""torch knows it until the process ends."""

_aten = torch.ops.aten
_CROSSING = {_aten.copy_.default, _aten._to_copy.default, _aten.index.Tensor, _aten.index_put_.default}
"""Operations that real accelerators let tensors of the CPU take part in: as what is copied, or as an index."""


class _OnDevice(Tensor):
    """A tensor of the device; ``inner`` has its values on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Self:
        found = Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
            requires_grad=inner.requires_grad,
        )
        found.inner = inner
        return found

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.inner.tolist()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.inner.untyped_storage()

    def __repr__(self) -> str:
        return f"{self.inner!r} on {DEVICE}"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        copied = _OnDevice(self.inner.detach().clone())
        memo[id(self)] = nn.Parameter(copied, self.requires_grad) if isinstance(self, nn.Parameter) else copied
        return memo[id(self)]


class FakeDevice(TorchDispatchMode):
    """While it is active, what is made on the device or moved to it is on it."""

    def __enter__(self) -> Self:
        self._before = torch.tensor, torch._C._InferenceMode
        torch.tensor, torch._C._InferenceMode = _tensor, _no_grad  # subclasses cannot be made in inference mode
        return super().__enter__()

    def __exit__(self, *args: object) -> None:
        super().__exit__(*args)
        torch.tensor, torch._C._InferenceMode = self._before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def is_on_device(tensor: Tensor) -> bool:
    """Return whether a tensor is on the device."""
    return isinstance(tensor, _OnDevice)


def moved(model: SentenceTransformer) -> SentenceTransformer:
    """Move a model to the device, in place."""
    known: dict[int, Tensor] = {}
    for module in model.modules():
        for own in (module._parameters, module._buffers):
            for name, tensor in own.items():
                if tensor is not None:
                    on_device = _OnDevice(tensor.detach())
                    made = nn.Parameter(on_device, tensor.requires_grad) if own is module._parameters else on_device
                    own[name] = known.setdefault(id(tensor), made)
    return model


_make = torch.tensor


def _no_grad(on: bool) -> Any:
    return torch.no_grad() if on else contextlib.nullcontext()


def _tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
    """Make a tensor from numbers, which torch does below what a mode sees."""
    ours = device is not None and torch.device(device).type == DEVICE.type
    made = _make(data, device="cpu" if ours else device, **options)
    return _OnDevice(made) if ours else made


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    device = kwargs.get("device")
    ours = [each for each in tensors if isinstance(each, _OnDevice)]
    theirs = [each for each in tensors if not isinstance(each, _OnDevice)]
    if ours and any(each.dim() for each in theirs) and func not in _CROSSING:
        shapes = [(tuple(each.shape), str(each.device)) for each in tensors]
        raise RuntimeError(f"{func} has tensors on two devices: {shapes}")
    if func in {_aten.index.Tensor, _aten.index_put_.default} and not isinstance(args[0], _OnDevice) and ours:
        raise RuntimeError(f"{func}: an index on the device into a tensor of the CPU")
    if device is not None:
        kwargs = kwargs | {"device": torch.device("cpu") if torch.device(device).type == DEVICE.type else device}
    on_device = torch.device(device).type == DEVICE.type if device is not None else bool(ours)
    result = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    if func._schema.is_mutable and isinstance(result, Tensor):
        return kwargs.get("out", args[0])
    if not on_device:
        return result
    return tree_map(lambda each: _OnDevice(each) if isinstance(each, Tensor) else each, result)


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, _OnDevice) else value

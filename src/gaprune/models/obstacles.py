"""Linear layers whose weight cannot simply be changed: to set zeros there would prune the model in name only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from gaprune.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Obstacle:
    """Why the weight of a layer cannot be changed, as the end of a sentence, and the way out."""

    reason: str
    remedy: str

    def error(self, name: str) -> ModelError:
        """Return the error that refuses the layer ``name``."""
        return ModelError(f"{name} {self.reason}, so setting its weights to zero would not prune it.", self.remedy)


_ADAPTER = Obstacle(
    "carries an adapter (PEFT)", "Merge the adapter into the weights (peft: merge_and_unload) and save the model."
)
_PARAMETRIZED = Obstacle(
    "is parametrized, which computes its weight anew in every forward pass",
    "Make the weight plain with torch.nn.utils.parametrize.remove_parametrizations.",
)
_COMPUTED = Obstacle(
    "computes its weight anew in every forward pass, as weight norm does",
    "Make the weight plain, for example with torch.nn.utils.remove_weight_norm or prune.remove.",
)
_UNQUANTISED = "Load the model unquantised, in float32, bfloat16 or float16."


def obstacles_in(model: SentenceTransformer) -> dict[str, Obstacle]:
    """Return the obstacles of all linear layers of ``model``, by path, of whatever class they are."""
    names = _names_by_weight(model)
    adapters: list[str] = []
    found: dict[str, Obstacle] = {}
    for path, module in model.named_modules():
        if isinstance(getattr(module, "base_layer", None), nn.Module):
            adapters.append(path)
        obstacle = _of(path, module, adapters) or _sharing(module, names)
        if obstacle is not None:
            found[path] = obstacle
    return found


def _of(path: str, module: nn.Module, adapters: list[str]) -> Obstacle | None:
    obstacle = None
    if not _is_linear(module):
        return obstacle
    weight = module._parameters.get("weight")  # noqa: SLF001 (a weight that a hook computes is an attribute alone)
    if any(path == each or path.startswith(f"{each}.") for each in adapters):
        obstacle = _ADAPTER
    elif parametrize.is_parametrized(module):
        obstacle = _PARAMETRIZED
    elif not isinstance(module, nn.Linear):
        obstacle = Obstacle(f"is a {_class_name(module)} and not a torch.nn.Linear", _UNQUANTISED)
    elif weight is None:
        obstacle = _COMPUTED
    elif not _is_plain(weight, (module.out_features, module.in_features)):
        reason = f"keeps its weight quantised or packed ({_class_name(weight)}, {weight.dtype})"
        obstacle = Obstacle(reason, _UNQUANTISED)
    return obstacle


def _is_linear(module: nn.Module) -> bool:
    """Whether ``module`` is a linear layer, of whatever library: quantised ones and adapters say their sizes too."""
    return all(isinstance(getattr(module, name, None), int) for name in ("in_features", "out_features"))


def _is_plain(weight: Tensor, shape: tuple[int, int]) -> bool:
    """Whether a weight is a plain floating-point tensor; types of one byte need scales beside them."""
    plain = type(weight) is nn.Parameter and type(weight.data) is Tensor
    return plain and weight.is_floating_point() and weight.itemsize > 1 and tuple(weight.shape) == shape


def _sharing(module: nn.Module, names: dict[object, list[str]]) -> Obstacle | None:
    weight = getattr(module, "weight", None)
    if not isinstance(module, nn.Linear) or not isinstance(weight, Tensor):
        return None
    shared = names.get(_identity(weight), [])
    if len(shared) < 2:
        return None
    return Obstacle(
        f"shares its weight: {' and '.join(shared[:3])} are one tensor",
        "Give every layer a weight of its own (module.weight = torch.nn.Parameter(module.weight.detach().clone())).",
    )


def _names_by_weight(model: SentenceTransformer) -> dict[object, list[str]]:
    """Return the names of every tensor, those inside the transformer as in its checkpoint.

    The same transformer may serve queries and passages as two modules; within it, a name is a name.
    """
    transformer = model.transformers_model
    inside = [] if transformer is None else list(transformer.named_parameters(remove_duplicate=False))
    known = {id(weight) for _, weight in inside}
    others = (each for each in model.named_parameters(remove_duplicate=False) if id(each[1]) not in known)
    names: dict[object, list[str]] = {}
    for name, weight in (*inside, *others):
        names.setdefault(_identity(weight), []).append(name)
    return names


def _identity(weight: Tensor) -> object:
    """Return a key that all names of one tensor share; views that start at the same address count as one tensor."""
    has_memory = weight.device.type != "meta" and type(weight.data) is torch.Tensor and weight.numel()
    return (weight.device, weight.data_ptr()) if has_memory else id(weight)


def _class_name(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}"

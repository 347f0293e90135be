"""Which part of a block a linear layer belongs to: attention or the MLP, by positive evidence for either.

Evidence is a name or a class on the way to the layer (``self_attn``, ``MHA``, ``mlp``, ``ffn``), or else the shapes of
the layers beside it: projections whose outputs make heads are attention, and layers that widen the hidden state and
narrow it again are an MLP. A module that also holds other weights, such as a convolution, has no such shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal

from torch import nn

Kind = Literal["mlp", "attention", "unknown", "other"]

_NAMES: Mapping[Kind, re.Pattern[str]] = {
    "attention": re.compile(r"attn|attention|multi_?head|qkv|mha(?![a-z])", re.IGNORECASE),
    "mlp": re.compile(r"mlp|ffn|feed_?forward|intermediate", re.IGNORECASE),
}
WIDTHS = ("intermediate_size", "hidden_dim", "ffn_dim", "n_inner", "d_ff")
"""Names under which a configuration keeps the width of its FFN."""


@dataclass(frozen=True)
class _Sizes:
    """Sizes that a configuration states; zero for those it does not state."""

    width: int
    queries: int
    keys: int

    @classmethod
    def of(cls, config: Any) -> _Sizes:
        def number(*names: str) -> int:
            found = (getattr(config, name, None) for name in names)
            return next((value for value in found if isinstance(value, int)), 0)

        heads = number("num_attention_heads")
        size = number("head_dim") or number("hidden_size") // max(heads, 1)
        return cls(number(*WIDTHS), heads * size, (number("num_key_value_heads") or heads) * size)


def kinds_in(block: nn.Module, config: Any) -> dict[str, Kind]:
    """Return the kind of every linear layer of ``block``, by its path in the block; ``unknown`` without evidence."""
    modules = dict(block.named_modules())
    linears = {path: module for path, module in modules.items() if isinstance(module, nn.Linear)}
    parts = {path: _part(path, linears) for path in linears}
    named = {path: _named(path, modules) for path in linears}
    sizes = _Sizes.of(config)
    by_shape: dict[str, Kind] = {}
    for part in {parts[path] for path, kind in named.items() if kind == "unknown"}:
        beside = {path: linears[path] for path in linears if parts[path] == part}
        known = not _has_other_weights(part, modules, set(parts.values()))
        by_shape[part] = _by_shape(beside, named, sizes) if known else "unknown"
    return {path: by_shape[parts[path]] if kind == "unknown" else kind for path, kind in named.items()}


def _ancestors(path: str) -> list[str]:
    """Return the paths of the modules on the way to ``path``, the block left out."""
    return list(accumulate(path.split("."), "{}.{}".format))[:-1]


def _part(path: str, linears: Mapping[str, nn.Linear]) -> str:
    """Return the innermost module around a layer that has other linear layers too; empty for the block."""
    around = [each for each in _ancestors(path) if sum(other.startswith(f"{each}.") for other in linears) > 1]
    return around[-1] if around else ""


def _named(path: str, modules: Mapping[str, nn.Module]) -> Kind:
    words = [*path.split("."), *(type(modules[each]).__name__ for each in _ancestors(path))]
    return next((kind for kind, pattern in _NAMES.items() if any(map(pattern.search, words))), "unknown")


def _has_other_weights(part: str, modules: Mapping[str, nn.Module], parts: set[str]) -> bool:
    """Whether a part holds weights that are neither a linear layer's nor a vector, as a convolution does."""

    def belongs(path: str) -> bool:
        return [each for each in ("", *_ancestors(path), path) if each in parts][-1:] == [part]

    return any(
        weight.ndim > 1
        for path, module in modules.items()
        if not isinstance(module, nn.Linear) and belongs(path)
        for weight in module.parameters(recurse=False)
    )


def _by_shape(beside: Mapping[str, nn.Linear], named: Mapping[str, Kind], sizes: _Sizes) -> Kind:
    """Return the kind of those layers of a part whose names tell nothing."""

    def without(kind: Kind) -> list[nn.Linear]:
        return [linear for path, linear in beside.items() if named[path] != kind]

    if _makes_heads(without("mlp"), sizes):
        return "attention"
    return "mlp" if _widens_and_narrows(without("attention"), sizes) else "unknown"


def _makes_heads(linears: Sequence[nn.Linear], sizes: _Sizes) -> bool:
    """Whether these are projections to queries, keys and values, separate or fused, and the output projection."""
    if len(linears) < 2 or not sizes.queries:
        return False
    *projections, output = linears
    fused = {1: [[sizes.queries + 2 * sizes.keys]], 2: [[sizes.queries, 2 * sizes.keys]]}
    made = [projection.out_features for projection in projections]
    return (
        sorted(made) in [sorted(each) for each in fused.get(len(made), [[sizes.queries, sizes.keys, sizes.keys]])]
        and {projection.in_features for projection in projections} == {output.out_features}
        and output.in_features == sizes.queries
    )


def _widens_and_narrows(linears: Sequence[nn.Linear], sizes: _Sizes) -> bool:
    """Whether one layer, or two with a gate, widen the hidden state, and the last narrows it again."""
    if not 2 <= len(linears) <= 3:
        return False
    *up, down = linears
    wide, hidden = down.in_features, down.out_features
    made = {linear.out_features for linear in up}
    return (
        {linear.in_features for linear in up} == {hidden}
        and (made == {wide} or (len(up) == 1 and made == {2 * wide}))
        and (wide > hidden or wide == sizes.width)
    )

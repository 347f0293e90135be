"""The linear layers of a model, found by structure rather than by the name of its family.

A transformer is a list of similar blocks. A linear layer inside a block belongs to attention or to the MLP, see
:mod:`gaprune.models.kinds`. That holds for BERT, XLM-R, MPNet, DistilBERT, ModernBERT, Qwen3, Mistral, Llama and
Gemma, with separate or fused projections. :func:`select` understands the words of ``--targets`` in all options.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import nn

from gaprune.errors import ModelError, SelectionError, suggest
from gaprune.models.blocks import block_path, transformer_of
from gaprune.models.kinds import Kind, kinds_in
from gaprune.models.obstacles import Obstacle, obstacles_in
from gaprune.models.probe import probe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_WORDS = {"mlp": ("mlp",), "attention": ("attention",), "all": ("mlp", "attention")}
_TARGETS = "mlp, attention, all, a layer's name or re:PATTERN"


@dataclass(frozen=True, eq=False)
class LinearLayer:
    """A linear layer with a weight ``(out, in)``.

    Args:
        name: As in the transformer's own checkpoint (``encoder.layer.0.output.dense``); for modules after the
            transformer, as in sentence-transformers (``2.linear``).
        module: The layer itself.
        kind: The part of a block that it belongs to; ``unknown`` in a block if nothing tells, ``other`` outside.
        layer: Index of its block; ``None`` outside the blocks.
        columns_per_unit: Neighbouring input columns that make up one unit: 1 but for attention heads.
        writes_residual: Whether its outputs are added to the residual stream: it runs last in its part of the block.
        reads_tokens: Whether it runs, and reads a row for every token or text whenever it does.
        obstacle: Why its weight cannot be changed; ``None`` for a plain layer.
    """

    name: str
    module: nn.Linear
    kind: Kind
    layer: int | None
    columns_per_unit: int = 1
    writes_residual: bool = False
    reads_tokens: bool = True
    obstacle: Obstacle | None = None


def linear_layers(model: SentenceTransformer) -> list[LinearLayer]:
    """Return every linear layer of ``model`` in module order.

    Raises:
        ModelError: If the model holds no transformer, or no linear layers in its blocks.
    """
    transformer = transformer_of(model)
    inside = next(name for name, module in model.named_modules() if module is transformer)
    path = block_path(transformer)
    places: dict[nn.Module, tuple[int | None, Kind]] = {
        block.get_submodule(within): (index, kind)
        for index, block in enumerate(transformer.get_submodule(path).children() if path else ())
        for within, kind in kinds_in(block, transformer.config).items()
    }
    obstacles = obstacles_in(model)
    outside: tuple[int | None, Kind] = (None, "other")
    found = []
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            layer, kind = places.get(module, outside)
            name = path.removeprefix(f"{inside}.")
            found.append(LinearLayer(name, module, kind, layer, obstacle=obstacles.get(path)))
    if all(each.layer is None for each in found):
        raise ModelError(
            f"No linear layers were found in the blocks of this {type(transformer).__name__}.",
            "Models whose blocks keep their weights in torch.nn.Linear can be pruned; please report this one.",
        )
    writers, tokenwise = _ran(model, found)
    return [replace(each, writes_residual=each.name in writers, reads_tokens=each.name in tokenwise) for each in found]


_KNOWN: dict[tuple[object, ...], tuple[frozenset[str], frozenset[str]]] = {}
"""What :func:`_ran` found, by the class of the transformer and the names of all layers."""


def _ran(model: SentenceTransformer, found: Sequence[LinearLayer]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names of the layers that run last in each part of a block, and of those that read tokens or texts.

    A forward pass of two short texts shows both, once for every architecture and depth. Families declare their layers
    in other orders: Phi-3 the output projection of attention before the one to queries, keys and values. A part inside
    a bottleneck (MobileBERT) writes to a narrower stream than the residual one.
    """
    key = (type(transformer_of(model)), *((each.name, each.kind, each.layer) for each in found))
    if key not in _KNOWN:
        seen = probe(model)
        by_module = {each.module: each for each in found}
        ran = [(by_module[call.module], seen.has_rows(call)) for call in seen.linears if call.module in by_module]
        last = {(each.layer, each.kind): each for each, _ in ran if each.layer is not None}
        widths = {call.shape[-1] for call in seen.blocks if call.shape is not None}
        writers = frozenset(each.name for each in last.values() if each.module.out_features in widths)
        other = {each.name for each, has_rows in ran if not has_rows}
        _KNOWN[key] = writers, frozenset({each.name for each, _ in ran} - other)
    return _KNOWN[key]


def select(
    linear_layers: Sequence[LinearLayer], targets: Sequence[str], ignore: Sequence[str] = ()
) -> list[LinearLayer]:
    """Return the linear layers that a target names and ``ignore`` does not, in model order.

    A target is one of ``mlp``, ``attention``, ``all`` (both, but nothing outside the blocks), the full name of a
    layer, or ``re:PATTERN``, a regular expression that must match a full name.

    Raises:
        SelectionError: If an entry of either list matches nothing, nothing is left, or ``mlp``, ``attention`` or
            ``all`` is named and the blocks have layers of unknown kind.
        ModelError: If the weight of a selected layer cannot be changed.
    """
    if not targets:
        raise SelectionError("No target was given.", f"Use {_TARGETS}.")
    _refuse_unknown(linear_layers, targets, ignore)
    chosen = set().union(*(_matching(linear_layers, target, "targets") for target in targets))
    refused = set().union(*(_matching(linear_layers, target, "ignore") for target in ignore))
    if not chosen - refused:
        raise SelectionError(
            f"ignore ({', '.join(ignore)}) takes away everything that targets ({', '.join(targets)}) selects.",
            "Ignore less.",
        )
    selected = [each for each in linear_layers if each.name in chosen - refused]
    for each in selected:
        if each.obstacle is not None:
            raise each.obstacle.error(each.name)
    return selected


def _refuse_unknown(linear_layers: Sequence[LinearLayer], targets: Sequence[str], ignore: Sequence[str]) -> None:
    """Refuse ``mlp``, ``attention`` and ``all`` if layers in the blocks may or may not be that."""
    words = [target for target in targets if target in _WORDS]
    unknown = [each for each in linear_layers if each.kind == "unknown"]
    if not words or not unknown:
        return
    named = [(word, "targets") for word in targets] + [(word, "ignore") for word in ignore]
    named_alone = set().union(*(_matching(linear_layers, *each) for each in named if each[0] not in _WORDS))
    names = [each.name for each in unknown if each.name not in named_alone]
    if names:
        raise SelectionError(
            f"targets: {words[0]!r} is not clear for this model: nothing tells whether {', '.join(names[:3])}"
            f"{' and others' if len(names) > 3 else ''} belong to attention or to the MLP.",
            "Select layers by name with --targets re:PATTERN (targets=['re:PATTERN']), or leave these out with "
            "--set ignore=re:PATTERN.",
        )


def _matching(linear_layers: Sequence[LinearLayer], target: str, option: str) -> set[str]:
    names = [each.name for each in linear_layers]
    if target in _WORDS:
        found = {each.name for each in linear_layers if each.kind in _WORDS[target]}
    elif target.startswith("re:"):
        try:
            pattern = re.compile(target.removeprefix("re:"))
        except re.error as error:
            raise SelectionError(
                f"{option}: {target!r} is not a regular expression: {error}.", "Correct the pattern after 're:'."
            ) from error
        found = {name for name in names if pattern.fullmatch(name)}
    else:
        found = {name for name in names if name == target}
    if not found and target in _WORDS:
        raise SelectionError(
            f"{option}: {target!r} matches none of the model's {len(names)} linear layers; experts of a "
            "mixture and convolutions are not among them.",
            f"Select others: {_TARGETS}; the first names are {', '.join(names[:3])}.",
        )
    if not found:
        raise SelectionError(
            f"{option}: {target!r} matches none of the model's {len(names)} linear layers."
            + suggest(target.removeprefix("re:"), [*_WORDS, *names]),
            f"Use {_TARGETS}; the first names are {', '.join(names[:3])}.",
        )
    return found

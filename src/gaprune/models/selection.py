"""The language that selects linear layers, in all options."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gaprune.errors import SelectionError, suggest
from gaprune.models.linear_layers import LinearLayer

_WORDS = {"mlp": ("mlp",), "attention": ("attention",), "all": ("mlp", "attention")}
_TARGETS = "mlp, attention, all, a layer's name or re:PATTERN"


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
    told = set().union(*(_matching(linear_layers, *each) for each in named if each[0] not in _WORDS))
    names = [each.name for each in unknown if each.name not in told]
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

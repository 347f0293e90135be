"""One small language that says which matrices are meant, everywhere."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gaprune.errors import SelectionError, suggest
from gaprune.models.linear_layers import LinearLayer

__all__ = ["select"]

_WORDS = {"mlp": ("mlp",), "attention": ("attention",), "all": ("mlp", "attention")}


def select(
    linear_layers: Sequence[LinearLayer], targets: Sequence[str], ignore: Sequence[str] = ()
) -> list[LinearLayer]:
    """Return the matrices that a target names and no ``ignore`` does, in model order.

    A word is one of ``mlp``, ``attention``, ``all`` (both; nothing outside the blocks), the full name of a matrix,
    or ``re:PATTERN``, a regular expression that must match a full name.

    Raises:
        SelectionError: If a word of either list matches nothing, or nothing is left.
    """
    if not targets:
        raise SelectionError("No target was given.", "Use mlp, attention, all, a layer's name or re:PATTERN.")
    chosen = [_matching(linear_layers, word, "targets") for word in targets]
    refused = [_matching(linear_layers, word, "ignore") for word in ignore]
    names = set().union(*chosen).difference(*refused)
    if not names:
        raise SelectionError(
            f"ignore ({', '.join(ignore)}) takes away everything that targets ({', '.join(targets)}) selects.",
            "Ignore less.",
        )
    return [matrix for matrix in linear_layers if matrix.name in names]


def _matching(linear_layers: Sequence[LinearLayer], word: str, option: str) -> set[str]:
    names = [matrix.name for matrix in linear_layers]
    if word in _WORDS:
        found = {matrix.name for matrix in linear_layers if matrix.kind in _WORDS[word]}
    elif word.startswith("re:"):
        try:
            pattern = re.compile(word.removeprefix("re:"))
        except re.error as error:
            raise SelectionError(
                f"{option}: {word!r} is not a regular expression: {error}.", "Mend the pattern after 're:'."
            ) from error
        found = {name for name in names if pattern.fullmatch(name)}
    else:
        found = {name for name in names if name == word}
    if not found:
        raise SelectionError(
            f"{option}: {word!r} matches none of the model's {len(names)} linear layers."
            + suggest(word.removeprefix("re:"), [*_WORDS, *names]),
            f"Use mlp, attention, all, a layer's name or re:PATTERN; the first names are {', '.join(names[:3])}.",
        )
    return found

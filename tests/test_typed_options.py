"""The types of Python's keyword arguments agree with the fields that check them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Union, get_args, get_origin, get_type_hints

import pytest

import gaprune
from gaprune.config import options, typed
from gaprune.config.recipe import Recipe
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.removal import Target
from gaprune.config.shrink import ParameterLimit, ShrinkOptions, SizeLimit, Speedup

ACCEPTED = {
    options.Source: str | Path,
    options.Words: str | Sequence[str],
    options.Fractions: float | str | Sequence[float],
    options.Values: float | str | Sequence[float],
    options.Counts: int | str | Sequence[int],
    options.Size: int | str,
    options.Number: int | str,
    **dict.fromkeys((Speedup, SizeLimit, ParameterLimit), float | str | Target),
}
"""What a field takes from Python, where it is more than what it holds."""


def accepted(annotation):
    """Return the type that a caller may give for a field."""
    if annotation in ACCEPTED:
        return ACCEPTED[annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return Union[tuple(accepted(part) for part in get_args(annotation))]  # noqa: UP007 (made from parts)
    if get_origin(annotation) is Annotated:
        return str | Target
    if get_origin(annotation) is dict:
        return Mapping[get_args(annotation)]
    return annotation


@pytest.mark.parametrize(
    ("verb", "kind", "fields"),
    [
        (gaprune.prune, typed.PruneOptions, Recipe),
        (gaprune.prune_many, typed.PruneManyOptions, Recipe),
        (gaprune.compare, typed.CompareOptions, Recipe),
        (gaprune.recover, typed.RecoverOptions, RecoveryOptions),
        (gaprune.shrink, typed.ShrinkKeywords, ShrinkOptions),
    ],
)
def test_every_option_is_typed_as_its_field(verb, kind, fields):
    own = {name for name, each in inspect.signature(verb).parameters.items() if each.kind is each.KEYWORD_ONLY}
    refused = {"criterion", "scores", "out", "overwrite"} if verb is gaprune.compare else set()
    hints = get_type_hints(kind)
    assert hints.keys() == fields.model_fields.keys() - own - {"model"} - refused
    declared = get_type_hints(fields, include_extras=True)
    for name, hint in hints.items():
        assert hint == accepted(declared[name]), name


@pytest.mark.parametrize("kind", [typed.LoadingOptions, typed.ModelOptions])
def test_options_of_loading(kind):
    declared = get_type_hints(Recipe, include_extras=True)
    assert all(hint == accepted(declared[name]) for name, hint in get_type_hints(kind).items())


@pytest.mark.parametrize("name", ["prune", "prune_many", "compare", "recover", "evaluate", "inspect", "shrink"])
def test_verbs_state_their_options(name):
    (extra,) = (
        each for each in inspect.signature(getattr(gaprune, name)).parameters.values() if each.kind is each.VAR_KEYWORD
    )
    assert "Unpack" in str(extra.annotation)

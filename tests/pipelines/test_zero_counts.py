"""As many weights are zero as were asked for, in memory and in the file, whichever way a model takes.

The ways cross granularities, criteria, what follows pruning and who owns the parent, over all families: every pair of
values occurs, not every combination.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import pytest
from safetensors.torch import load_file

import gaprune
from families import FAMILIES
from gaprune.models.linear_layers import linear_layers
from gaprune.models.load import load_model
from toys import GENERAL

FACTORS: Mapping[str, Sequence[Any]] = {
    "granularity": ("weight", "2:4"),
    "criterion": ("magnitude", "dai", "sparsegpt", "activation"),
    "reconstruct": (False, True),
    "recover": (None, "steps", "lora", "rounds"),
    "parent": ("loaded", "folder"),
    "allocation": (None, "global", "layer", "matrix", "row"),
    "targets": ("mlp", "attention", "all"),
    "dtype": (None, "bfloat16"),
}
SPARSITY = 0.37


def _possible(way: Mapping[str, Any]) -> bool:
    """Whether the values of a way, perhaps of some factors alone, are not refused together."""
    pattern, updates = way.get("granularity") == "2:4", way.get("criterion") == "sparsegpt"
    return not (
        (pattern and (way.get("allocation") is not None or way.get("recover") == "rounds"))
        or (updates and (way.get("allocation") is not None or way.get("reconstruct")))
        or (way.get("dtype") is not None and way.get("parent") == "loaded")
    )


def _pairs(way: Mapping[str, Any]) -> set[tuple[tuple[str, Any], ...]]:
    return set(combinations(way.items(), 2))


def _covering() -> list[dict[str, Any]]:
    """Return ways in which every possible pair of values occurs: always the one with most of the missing pairs."""
    ways = [dict(zip(FACTORS, values, strict=True)) for values in product(*FACTORS.values())]
    ways = [way for way in ways if _possible(way)]
    found = {index: _pairs(way) for index, way in enumerate(ways)}
    missing, chosen = set().union(*found.values()), []
    while missing:
        best = max(found, key=lambda index: len(found[index] & missing))
        chosen.append(ways[best])
        missing -= found[best]
    return chosen


WAYS = [(list(FAMILIES)[index % len(FAMILIES)], way) for index, way in enumerate(_covering())]


def _name(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "-".join(str(each) for each in value.values() if each not in (None, False))


def _zeros(weights: Mapping[str, Any]) -> int:
    return sum(int((weight == 0).sum()) for weight in weights.values())


@pytest.mark.parametrize(("family", "way"), WAYS, ids=_name)
def test_as_many_zeros_as_asked_for(family, way, folder_of, toy_triplets, tmp_path):
    if way["recover"] == "lora":
        pytest.importorskip("peft")
    folder = folder_of(family)
    parent = load_model(folder, device="cpu")
    options = {name: way[name] for name in ("granularity", "criterion", "allocation", "targets", "dtype") if way[name]}
    if way["recover"] is not None:
        options["recover"] = 2
        options["recovery"] = {"batch_size": 2, "held_out": 0} | ({"lora": 2} if way["recover"] == "lora" else {})
        options["rounds"] = 2 if way["recover"] == "rounds" else 1
    reconstruct = None if way["criterion"] == "sparsegpt" else way["reconstruct"]
    if way["granularity"] == "weight":
        options["sparsity"] = SPARSITY
    result = gaprune.prune(
        parent if way["parent"] == "loaded" else folder,
        domain=toy_triplets,
        general=GENERAL,
        reconstruct=reconstruct,
        out=tmp_path / "out",
        device=None if way["parent"] == "loaded" else "cpu",
        **options,
    )

    kinds = {"all": {"mlp", "attention"}}.get(way["targets"], {way["targets"]})
    sizes = {each.name: each.module.weight.numel() for each in linear_layers(parent) if each.kind in kinds}
    budget = _budget(way, sizes)
    for model in (result.model, load_model(tmp_path / "out", device="cpu")):
        weights = {each.name: each.module.weight.detach() for each in linear_layers(model)}
        assert _zeros({name: weights[name] for name in sizes}) == budget
        assert _zeros({name: weight for name, weight in weights.items() if name not in sizes}) == 0
    (file,) = (each for each in (tmp_path / "out").rglob("model.safetensors") if each.parent == tmp_path / "out")
    saved = load_file(file)
    assert _zeros({name: saved[f"{name}.weight"] for name in sizes}) == budget
    assert result.change.zeros == budget


def _budget(way: Mapping[str, Any], sizes: Mapping[str, int]) -> int:
    """Return the number of weights that have to be zero."""
    size = sum(sizes.values())
    return size // 2 if way["granularity"] == "2:4" else round(SPARSITY * size)


def test_the_ways_are_few_and_take_all_families():
    assert len(WAYS) <= 30
    assert {family for family, _ in WAYS} == set(FAMILIES)

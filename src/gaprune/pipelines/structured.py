"""Structured pruning: layers, heads, neurons and tokens are removed, and what is left is reconstructed."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gaprune.export.records import Removed, Structured, Texts
from gaprune.models.fingerprints import weights_fingerprint
from gaprune.models.linear_layers import linear_layers
from gaprune.models.units import UnitGroup
from gaprune.pipelines.prepare import Prepared, PrunedModel
from gaprune.pipelines.recovery_plan import rounds_to
from gaprune.pruning.basis import Basis
from gaprune.pruning.removable.base import Removable, RemovedUnits, StructuredPruning, stages
from gaprune.pruning.removable.tokens import Tokens
from gaprune.pruning.removable.units import RankedUnits
from gaprune.pruning.rotation import rotated
from gaprune.pruning.search import Plan, search
from gaprune.pruning.spaces import check_target, spaces
from gaprune.pruning.unit_importance import QuickReconstruction, UnitRanking
from gaprune.reconstruction.quick import Quick
from gaprune.reconstruction.reconstruct import Start, split
from gaprune.reconstruction.validate import Reconstruction, reconstruct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer


def with_rotation(run: Prepared) -> Prepared:
    """Return the run with a parent whose residual stream lies along its principal axes, if the recipe says so."""
    if not run.recipe.rotate:
        return run
    model = rotated(run.parent.model, run.calibration, run.recipe)
    return replace(run, parent=replace(run.parent, model=model))


def rank_units(run: Prepared) -> UnitRanking:
    """Return what ranks the heads and neurons of all results of a run."""
    kinds = [each for each in run.removal.kinds if isinstance(each, RankedUnits)]

    def groups_of(model: SentenceTransformer) -> list[UnitGroup]:
        return [group for each in kinds for group in each.groups(model)]

    its_own = run.recipe.rotate  # other calibration data turn the parent along other axes
    return UnitRanking(
        run.parent.model,
        groups_of,
        run.needs,
        calibration=run.calibration,
        recipe=run.recipe,
        weights_sha256=weights_fingerprint(run.parent.model) if its_own else run.parent.identity.weights_sha256,
        quick=_quick(run),
    )


def prune_structured(
    run: Prepared, name: str, result: str, units: UnitRanking, *, parent: SentenceTransformer
) -> PrunedModel:
    """Return the smaller model by a criterion; the parent is left as it is.

    ``parent`` is the user's model, which parameters are counted of; that of the run may be rotated.
    """
    removables = run.removal.removables[result]
    held_out = split(run.calibration, run.recipe)[1] if run.removal.reconstructs else {}
    basis = Basis(name, run.criteria[name], run.calibration, units=units, quick=_quick(run), held_out=held_out)
    plan = _plan(run, removables, basis)
    removables = [each for each in removables if each.name in plan.amounts]
    reconstructible = [each for each in removables if each.ranked_by is not None]
    model, cuts, report = _remove_and_reconstruct(run, reconstructible, plan, basis)
    for each in (each for each in removables if each.ranked_by is None):
        choice = each.choose(model, plan.amounts[each.name], basis)
        model = each.cut(model, choice)
        cuts.append(choice)
    selected = (parameter for each in removables for parameter in each.parameters(parent))
    change = StructuredPruning.of(cuts, parent, model, selected=selected)
    texts = next((each.texts_identity() for each in removables if isinstance(each, Tokens)), None)
    record = Structured(
        removed=tuple(map(Removed.model_validate, cuts)),
        texts=None if texts is None else Texts.model_validate(texts),
        target=plan.found,
    )
    recoveries = []
    if run.recovery is not None:
        (only,) = rounds_to(run.recipe, run.recipe.sparsity[0])  # one recovery, after all rounds
        recoveries.append(run.recovery.recover(model, only, beside=run.recipe.out))
    return PrunedModel(model, change, run.method(name, record, report), recoveries)


def _quick(run: Prepared) -> QuickReconstruction | None:
    if not run.removal.reconstructs:
        return None
    return Quick(run.parent.model, run.calibration, run.recipe)


def _plan(run: Prepared, removables: Sequence[Removable[Any]], basis: Basis) -> Plan:
    """Return how much of each kind is removed: what the recipe says, or what a search for its target finds."""
    target, parent = run.recipe.target, run.parent.model
    if target is None:
        return Plan({each.name: each.amount for each in removables}, {}, None)
    tokens = next((each for each in removables if isinstance(each, Tokens)), None)
    kept = None if tokens is None else len(tokens.kept(parent, run.calibration, tokens.amount).kept)
    recipe = removables[0].recipe
    found = spaces(parent, target, recipe, tokens=kept, speed=run.speed)
    check_target(target, parent, found, tokens=kept)  # before anything is measured
    plan = search(parent, target, found, basis=basis, recipe=recipe, tokens=kept)
    given = {} if tokens is None else {tokens.name: tokens.amount}
    return replace(plan, amounts={**plan.amounts, **given})


def _chosen(
    stage: Sequence[Removable[Any]], model: SentenceTransformer, plan: Plan, basis: Basis, *, rounds: int
) -> list[RemovedUnits]:
    """Return what is removed of structures of one order.

    In every round but the first, what is left is measured again, on a quick reconstruction towards the parent of what
    the round before left.
    """
    choices: list[RemovedUnits] = []
    for number in range(rounds):
        basis = replace(basis, share=(number + 1) / rounds)
        choices = [plan.chosen.get(each.name) or each.choose(model, plan.amounts[each.name], basis) for each in stage]
        for each, choice in zip(stage, choices, strict=True):
            basis = replace(basis, keep={**basis.keep, **each.columns(model, choice)})
        if not basis.keep:
            break
    return choices


def _remove_and_reconstruct(
    run: Prepared, removables: Sequence[Removable[Any]], plan: Plan, basis: Basis
) -> tuple[SentenceTransformer, list[RemovedUnits], Reconstruction | None]:
    """Return the smaller model, what was removed, and how the reconstruction went.

    If the run reconstructs, heads and neurons are only chosen at first. The reconstruction sees their columns switched
    off, and they are cut out of its result. Layers and hidden dimensions are cut before it.
    """
    model = run.parent.model
    cuts: list[RemovedUnits] = []
    pending: list[tuple[Removable[Any], RemovedUnits]] = []
    columns: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for stage in stages(removables):
        basis = replace(basis, removed_layers=tuple(layer for cut in cuts for layer in cut.removed_layers))
        choices = _chosen(stage, model, plan, basis, rounds=run.recipe.rounds)
        cuts += choices
        for each, choice in zip(stage, choices, strict=True):
            switched_off = each.columns(model, choice) if run.removal.reconstructs else {}
            columns |= switched_off
            if switched_off:
                pending.append((each, choice))
            else:
                outputs |= each.outputs(model, choice)
                model = each.cut(model, choice)
    if not (cuts and run.removal.reconstructs):
        return model, cuts, None
    keep = {
        layer.name: torch.ones(layer.module.in_features, dtype=torch.bool)
        for layer in linear_layers(model)
        if layer.layer is not None and layer.reads_tokens
    }

    def cut(other: SentenceTransformer, _own: bool) -> SentenceTransformer:
        for each, choice in pending:
            other = each.cut(other, choice)
        return other

    removed_layers = tuple(layer for cut in cuts for layer in cut.removed_layers)
    start = Start(model, removed_layers, outputs)
    model, report = reconstruct(run.parent.model, start, keep | columns, cut, run.calibration, run.recipe)
    return model, cuts, report

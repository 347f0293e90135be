"""Unstructured and N:M pruning: single weights become zeros, and the kept ones are reconstructed."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gaprune.criteria.base import UpdatingCriterion, WeightCriterion, for_weights
from gaprune.criteria.registry import split_name
from gaprune.errors import ConfigError
from gaprune.export.records import PruningRound, Recovery, Unstructured
from gaprune.models.fingerprints import modules_fingerprint
from gaprune.pipelines.prepare import Prepared, PrunedModel
from gaprune.pipelines.recovery_plan import rounds_to
from gaprune.pruning.basis import Basis
from gaprune.pruning.measure import measure_both
from gaprune.pruning.removable.weights import Weights
from gaprune.pruning.scores import Scores
from gaprune.pruning.scoring import writing_scores
from gaprune.pruning.zeros import Pruning, check_zeros
from gaprune.reconstruction.reconstruct import Start
from gaprune.reconstruction.validate import Reconstruction, reconstruct
from gaprune.recovery.rounds import Round
from gaprune.util.distributed import gather, rank
from gaprune.util.files import locked, temporary_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def score_weights(run: Prepared, stack: ExitStack) -> dict[str, Scores]:
    """Return the scores by every criterion: kept ones, or new ones from a single measurement.

    They lie in files, the one that the recipe names or temporary ones beside the output folder that are deleted with
    ``stack``, and are read layer by layer.

    Raises:
        ConfigError: If kept scores were made from something else.
    """
    origins = {name: _origin(run, name) for name in run.criteria}
    kept = None if run.recipe.scores is None else Path(run.recipe.scores)
    if kept is None or (rank() and not kept.exists()):  # the first process keeps them for all
        folder = stack.enter_context(temporary_folder(run.recipe.out))
        paths = {name: folder / f"{index}.safetensors" for index, name in enumerate(run.criteria)}
    else:
        paths = dict.fromkeys(run.criteria, kept)
    with locked(kept) if kept is not None and not rank() else nullcontext():  # wait for runs that measure the same
        missing = [name for name, path in paths.items() if not path.exists()]
        new = gather(missing)[0]  # what the first process finds after it has waited holds for all
        if not new and kept is not None:
            paths = dict.fromkeys(run.criteria, kept)
        if new:
            _measure_and_score(run, {name: paths[name] for name in new}, origins)
    scores = {name: Scores.load(path) for name, path in paths.items()}
    for name in scores.keys() - new:
        different = [key for key, value in origins[name].items() if scores[name].origin.get(key) != value]
        if different:
            raise ConfigError(
                f"scores: {paths[name]} does not match this run; different: {', '.join(different)}.",
                "Name another file, or delete this one to measure again.",
            )
    return scores


def prune_unstructured(run: Prepared, name: str, result: str, scores: Scores, *, inplace: bool) -> PrunedModel:
    """Return the model with zeros by a criterion, after the last reconstruction and recovery.

    In memory are the parent, the results that the caller holds, and a mask of one byte per weight for each of them.
    A reconstruction needs two copies of the parent; rounds after the first measure again.

    Args:
        run: The run.
        name: Name of the criterion.
        result: Name of the result.
        scores: Its scores of the parent.
        inplace: Whether the parent itself may become the result; nothing else may use it then.
    """
    weights = _weights_of(run, result)
    first, *later = rounds_to(run.recipe, weights.amount)
    basis = Basis(name, run.criteria[name], run.calibration, scores=scores)
    pruning = weights.choose(run.parent.model, first.sparsity, basis)
    model, report = _zero(run, name, weights, run.parent.model, pruning, inplace=inplace)
    recoveries = _recover(run, model, pruning, report, first)
    for each in later:
        pruning = _choose_again(run, name, weights, model, each.sparsity, pruning)
        model, report = _zero(run, name, weights, model, pruning, inplace=True)
        recoveries += _recover(run, model, pruning, report, each)
    return PrunedModel(model, pruning, run.method(name, _record(run, name, weights), report), recoveries)


def _weights_of(run: Prepared, result: str) -> Weights:
    (weights,) = run.removal.removables[result]
    if not isinstance(weights, Weights):
        raise TypeError(f"{weights.name} is not a kind of single weights")
    return weights


def _zero(
    run: Prepared,
    name: str,
    weights: Weights,
    model: SentenceTransformer,
    pruning: Pruning,
    *,
    inplace: bool,
) -> tuple[SentenceTransformer, Reconstruction | None]:
    """Return the model with zeros, reconstructed if that is asked for and helps."""

    def cut(other: SentenceTransformer, own: bool) -> SentenceTransformer:
        return weights.cut(other if own else copy.deepcopy(other), pruning)

    if not run.removal.reconstructs or isinstance(run.criteria[name], UpdatingCriterion):
        return cut(model, inplace), None
    model, report = reconstruct(model, Start(model), pruning.keep, cut, run.calibration, run.recipe)
    check_zeros(model, pruning)
    return model, report


def _recover(
    run: Prepared, model: SentenceTransformer, pruning: Pruning, report: Reconstruction | None, after: Round
) -> list[Recovery]:
    """Recover the model in place if that is asked for, and return the record of it."""
    if run.recovery is None:
        return []
    record = run.recovery.recover(model, after, beside=run.recipe.out)
    check_zeros(model, pruning)
    if after.count > 1:
        record = record.model_copy(update={"round": PruningRound(sparsity=after.sparsity, reconstruction=report)})
    return [record]


def _measure_and_score(run: Prepared, paths: Mapping[str, Path], origins: Mapping[str, Mapping[str, Any]]) -> None:
    """Measure the statistics and write the scores by every criterion; the statistics are freed afterwards."""
    parent, recipe = run.parent.model, run.recipe
    layers = _weights_of(run, next(iter(run.removal.singles))).selected(parent)
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                writing_scores(path, layers, _criterion(run, name), name, seed=recipe.seed, origin=origins[name])
            )
            for name, path in paths.items()
        ]
        identity = {"parent": run.parent.identity.weights_sha256, "modules": modules_fingerprint(parent)}
        domain, general = measure_both(run.calibration, parent, layers, run.needs, recipe, identity)
        for write in writers:
            write(layers, domain, general)


def _choose_again(
    run: Prepared, name: str, weights: Weights, model: SentenceTransformer, to: float, before: Pruning
) -> Pruning:
    """Measure and score a recovered model, and return which weights are kept: no pruned weight comes back."""
    criterion, recipe = _criterion(run, name), run.recipe.model_copy(update={"checkpoint": None, "resume": False})
    layers = weights.selected(model)
    with temporary_folder(recipe.out) as folder:
        path = folder / "scores.safetensors"
        with writing_scores(path, layers, criterion, name, seed=recipe.seed) as write:
            write(layers, *measure_both(run.calibration, model, layers, criterion.weight_needs, recipe, {}))
        scores = Scores.load(path).after(before.keep)
        return weights.choose(model, to, Basis(name, criterion, run.calibration, scores=scores))


def _criterion(run: Prepared, name: str) -> WeightCriterion:
    return for_weights(run.criteria[name], name)


def _origin(run: Prepared, name: str) -> dict[str, Any]:
    """Return everything that the scores of a criterion depend on, as plain data."""
    recipe, data, criterion = run.recipe, run.calibration, _criterion(run, name)
    parent, needs = run.parent.model, criterion.weight_needs
    weights = _weights_of(run, next(iter(run.removal.singles)))
    origin: dict[str, Any] = {
        "parent": run.parent.identity.weights_sha256,
        "criterion": split_name(name)[0],
        "criterion options": criterion.model_dump(),
        "modules": modules_fingerprint(parent),
        "linear layers": [layer.name for layer in weights.selected(parent)],
        "seed": recipe.seed if criterion.depends_on_seed else None,
    }
    if needs:
        origin |= {
            "domain triplets": data.domain.fingerprint if data.domain and needs.domain else None,
            "general triplets": data.general.fingerprint if data.general and needs.general else None,
            "prompts": [data.prompts.query, data.prompts.passage],
            "max_length": parent.max_seq_length,
            "truncate_dim": parent.truncate_dim,
            "fisher": recipe.fisher,
            "negatives": recipe.negatives,
            "temperature": recipe.temperature,
            "precision": recipe.precision,
            "batch size": recipe.triplets_per_batch,
        }
    return origin


def _record(run: Prepared, name: str, weights: Weights) -> Unstructured:
    """Return how the weights were chosen, for the provenance."""
    recipe, origin = run.recipe, _origin(run, name)
    return Unstructured(
        granularity=recipe.granularity,
        allocation=None if weights.pattern else recipe.allocation or _criterion(run, name).default_allocation,
        targets=recipe.targets,
        linear_layers=tuple(origin["linear layers"]),
        scores_origin_sha256=hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest(),
    )

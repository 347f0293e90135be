"""The sentences about a result: for the model card, the terminal, and whoever asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gaprune.export.records import DistillationData, Structured
from gaprune.statistics.degradation import PRESERVATION

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from gaprune.evaluation.cost.footprint import Footprint
    from gaprune.evaluation.quality.scores import Evaluation
    from gaprune.export.provenance import Provenance
    from gaprune.export.records import Calibration, CalibrationData, Export, Recovery, Removed
    from gaprune.pruning.search import TargetChoice
    from gaprune.reconstruction.validate import Reconstruction
    from gaprune.recovery.recover_model import Training

AS_LARGE = "Zeros make a saved model neither smaller nor faster"
ZEROS = (
    f"{AS_LARGE}: runtimes store and multiply them like any other number, "
    "unless they have kernels for an N:M pattern and use them. To get a smaller and faster model, remove "
    "whole structures (gaprune prune with --width, --hidden, --depth or --vocabulary) or quantise it to int8 "
    "(gaprune export --to onnx --int8). gaprune export --to archive stores a model with zeros in a smaller file."
)

_LIMITS = {
    "parameters": "at most {:,.0f} parameters",
    "size": "weights of at most {:,.0f} bytes",
    "speedup": "a speedup of at least {:g}",
}
_TOLERANCE = 1e-6


def percent(fraction: float) -> str:
    """Return ``0.1234`` as ``12.34 %``."""
    return f"{fraction * 100:.2f} %"


def constants_text(constants: Mapping[str, object]) -> str:
    """Return the constants of a criterion as the command line writes them, numbers to six digits."""
    return ", ".join(f"{name}={_constant(value)}" for name, value in constants.items())


def _constant(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def summary(provenance: Provenance) -> str:
    """Return how much was removed, of the selection and of the model."""
    found, pruning = provenance.sparsity, provenance.method.pruning
    selected, model = percent(found.of_selected), percent(found.of_model)
    if isinstance(pruning, Structured):
        return (
            f"{_parts(pruning.removed)} removed: {selected} of the {found.selected:,} selected parameters, {model} of "
            f"the parent; {found.parameters:,} parameters remain"
        )
    return (
        f"{selected} of the {found.selected:,} selected weights are zero, {model} of all {found.parameters:,} "
        "parameters of the model"
    )


def _parts(removed: tuple[Removed, ...]) -> str:
    return ", ".join(f"{each.removed:,} of {each.total:,} {each.label}" for each in removed)


def negatives_text(data: CalibrationData) -> str:
    """Return the origin of the negatives of calibration triplets."""
    own, without = data.with_own_negatives, data.triplets - data.with_own_negatives
    mined = data.mined_negatives_each
    others = f"{mined} negatives each, mined with the parent" if mined else "in-batch negatives only"
    parts = [f"{own:,} with negatives of their own"] * bool(own) + [f"{without:,} with {others}"] * bool(without)
    return ", ".join(parts)


def worth_lines(provenance: Provenance, evaluation: Evaluation | None) -> list[str]:
    """Return what was measured of a model beside its parent: size and quality."""
    found = provenance.sparsity
    if isinstance(provenance.method.pruning, Structured):
        lines = [f"Size: {found.parameters:,} parameters; its parent has {found.parent_parameters:,}."]
    else:
        lines = [f"Size: that of its parent; {found.removed:,} of its {found.parameters:,} parameters are zero."]
    if evaluation is None:
        return [
            *lines,
            "Quality: it was not evaluated when it was made. `gaprune evaluate` measures it on your own tasks.",
        ]
    for domain in evaluation.domains:
        own, parents = evaluation.mean(domain), evaluation.parent_mean(domain)
        tasks = sum(score.domain == domain for score in evaluation.scores)
        where = f"{tasks} {'task' if tasks == 1 else 'tasks'}" + (f" of {domain}" if domain else "")
        if provenance.shrink is not None and domain == "domain":
            where = f"{provenance.shrink.held_out_queries} held-out queries of the domain"
        beside = "" if not parents else f", {own / parents:.1%} of its parent's {parents:.4f}"
        lines.append(f"Quality: a mean score of {own:.4f} in {where}{beside}.")
    return [*lines, *leak_lines(provenance)]


def leak_lines(provenance: Provenance) -> list[str]:
    """Return what must stand beside scores: that they are too good, or that the parent's are another model's."""
    beside = (
        f"The scores called the parent's are those of {provenance.beside}, which this model was compared with; it was "
        f"made from {provenance.parent.name}."
    )
    return [*(f"Warning: {leak}" for leak in provenance.leaks), *([beside] if provenance.beside else ())]


def data_lines(calibration: Calibration) -> list[str]:
    """Return a line about each kind of calibration data."""
    kinds = (("domain", calibration.domain), ("general", calibration.general))
    return [
        f"{kind}: {data.triplets:,} triplets of {data.name}: {negatives_text(data)}."
        for kind, data in kinds
        if data is not None
    ]


def unused_lines(provenance: Provenance, named: Collection[str], *, mines: bool) -> list[str]:
    """Return a line about each kind of data that was named or was to be mined, in vain."""
    calibration, lines = provenance.calibration, []
    used = (calibration, *(recovery.data for recovery in provenance.recoveries))
    for kind in ("domain", "general"):
        if kind in named and not any(getattr(each, kind) for each in used):
            lines.append(
                f"Note: this criterion with these constants does not use {kind} data; --{kind} has no effect."
            )
        data = getattr(calibration, kind)
        if mines and data is not None and data.with_own_negatives == data.triplets:
            lines.append(f"Note: every {kind} triplet has negatives of its own, so none were mined.")
    return lines


def degradation_text(reconstruction: Reconstruction) -> str:
    """Return the degradation without and with reconstruction."""
    after = reconstruction.degradation_reconstructed
    found = ", ".join(
        f"{kind} {before:.4f} without" + (f" and {after[kind]:.4f} with reconstruction" if kind in after else "")
        for kind, before in reconstruction.degradation_pruned.items()
    )
    return (
        f"degradation on held-out triplets (increase of the loss + {PRESERVATION:g} x distance of the embeddings: "
        f"lower is better, 0 is the parent): {found}"
    )


def reconstruction_text(reconstruction: Reconstruction | None) -> str:
    """Return what reconstruction did, for a table."""
    if reconstruction is None:
        return "none"
    outcome, share = _outcome(reconstruction), reconstruction.general_share
    texts = f"{share:.0%} general texts" if share else "no general texts"
    return (
        f"least squares with ridge {reconstruction.ridge:g} and {texts}, {outcome}; {degradation_text(reconstruction)}"
    )


def _outcome(reconstruction: Reconstruction) -> str:
    if reconstruction.kept:
        return "kept"
    return f"rolled back: {reconstruction.problem or 'it increased the degradation'}".rstrip(".")


def target_text(target: TargetChoice) -> str:
    """Return what was asked for and what was chosen."""
    best, parent = target.chosen, target.parent
    kept = [
        f"{best.layers} of {parent.layers} layers",
        f"{best.width:,} of {parent.width:,} FFN neurons per layer",
    ]
    if best.hidden != parent.hidden:
        kept.append(f"{best.hidden} of {parent.hidden} hidden dimensions")
    if best.heads is not None and best.heads != parent.heads:
        kept.append(f"{best.heads} of {parent.heads} attention head groups per layer")
    if best.tokens != parent.tokens:
        kept.append(f"{best.tokens:,} of {parent.tokens:,} tokens")
    speed = (
        f"it is expected to be {best.speedup:.2f} times as fast, by timings of such layers"
        if target.measured
        else f"{best.speedup:.2f} times fewer operations per token in the linear layers"
    )
    return (
        f"Best of {len(target.candidates)} configurations with {_LIMITS[target.kind].format(target.limit)} (lowest "
        f"estimated degradation): {', '.join(kept)} are kept; {best.parameters:,} parameters, "
        f"{speed}."
    )


def recovery_lines(recovery: Recovery) -> list[str]:
    """Return how a recovery went."""
    training = recovery.training
    held = f"; {training.masked_weights:,} weights were kept at zero" if training.masked_weights else ""
    if isinstance(recovery.data, DistillationData):
        return _distillation_lines(recovery.data, training, held, recovery.taught_by)
    lines = [
        f"Recovery: {training.steps} steps of fine-tuning, learning rate at most {training.learning_rate:g}{held}."
    ]
    if training.before:
        before, after = training.before["loss"], training.after["loss"]
        lines.append(f"Held-out loss: {before:.4f} before, {after:.4f} after (step {training.best_step}).")
        if after >= before:
            lines.append(
                "Note: the held-out loss did not fall. Try another learning rate, more triplets or more steps."
            )
    if recovery.data.negatives_left_out:
        lines.append(
            "Note: the negatives of the triplets were not used; the recovery option hard_negatives=1 uses one each."
        )
    return lines


def _distillation_lines(data: DistillationData, training: Training, held: str, teacher: str) -> list[str]:
    """Return how a distillation on texts went, and whether it fitted the training texts only."""
    points = training.distillation
    tokens = points[-1].tokens if points else data.tokens
    first = (
        f"Distillation: {tokens:,} tokens, {data.passes:.1f} passes over {data.domain.passages:,} passages planned, "
        f"{training.steps} steps, learning rate at most {training.learning_rate:g}{held}."
    )
    lines = [first]
    if data.spans_as_queries:
        lines.append("Note: there is little text, so spans of words were queries too, once the sentences were used.")
    if not points:
        return lines
    best = next(point for point in points if point.step == training.best_step)
    before = points[0].held_out_cosine
    if best is points[0]:
        after = max((point.held_out_cosine for point in points[1:]), default=before)
        lines.append(
            f"The weights from before were kept: after {points[-1].tokens:,} tokens the cosine to {teacher} on "
            f"held-out texts was {after:.4f}, no higher than the {before:.4f} before."
        )
        return [*lines, "Note: give more tokens (--tokens) or more texts, or another learning rate."]
    lines.append(
        f"Cosine to {teacher} on held-out texts: {before:.4f} before, {best.held_out_cosine:.4f} "
        f"after {best.tokens:,} tokens."
    )
    if points[0].held_out_ndcg is not None and best.held_out_ndcg is not None:
        lines.append(
            f"nDCG@10 of held-out queries among the held-out passages: {points[0].held_out_ndcg:.4f} before, "
            f"{best.held_out_ndcg:.4f} after."
        )
    if points[-1].held_out_cosine < best.held_out_cosine:
        lines.append(
            "Note: it fell after that: the model began to fit the training texts only. More texts would help."
        )
    return lines


def outcome_lines(provenance: Provenance) -> list[str]:
    """Return what a pruning run did, in the order in which it did it."""
    method = provenance.method
    lines = [f"{method.criterion}: {summary(provenance)}."]
    if method.reconstruction is not None:
        lines.append(
            f"Reconstruction was {_outcome(method.reconstruction)}; {degradation_text(method.reconstruction)}."
        )
    for recovery in provenance.recoveries:
        lines += recovery_lines(recovery)
    if isinstance(method.pruning, Structured) and method.pruning.target is not None:
        lines.append(target_text(method.pruning.target))
    return lines


def export_lines(export: Export) -> list[str]:
    """Return what a model was exported to, and how near its embeddings are to those of the original."""
    compared = "not compared with the original"
    if export.cosine_min is not None and export.cosine_mean is not None:
        compared = (
            f"cosine to the embeddings of the original over {export.texts} texts: mean {export.cosine_mean:.4f}, "
            f"lowest {export.cosine_min:.4f}"
        )
    below = " This is below the floor; it was written by force." if export.below_floor else ""
    form = f" ({export.form})" if export.form else ""
    return [f"Exported from {export.source.name} to {export.to}{form}; {compared}.{below}"]


def origin_lines(footprint: Footprint, provenance: Provenance) -> list[str]:
    """Return what made a model, and whether it is still what its provenance says."""
    if provenance.export is not None:
        source = provenance.model_copy(update={"export": None})
        was_pruned = provenance.method.criterion is not None or provenance.recoveries
        is_one_model = provenance.export.to != "router"  # of a router, one side alone was pruned
        shown = origin_lines(footprint, source) if was_pruned and is_one_model else ()
        return [*export_lines(provenance.export), *shown]
    parent, method, said = provenance.parent.name, provenance.method, provenance.sparsity
    made = f"Pruned from {parent} by {method.criterion}" if method.criterion else f"Fine-tuned from {parent}"
    recoveries = [line for recovery in provenance.recoveries for line in recovery_lines(recovery)]
    if isinstance(method.pruning, Structured):
        left = f"{footprint.parameters:,} of {said.parent_parameters:,} parameters remain"
        lines = [f"{made}: {_parts(method.pruning.removed)} were removed; {left}.", *recoveries]
        if footprint.parameters != said.parameters:
            lines.append(
                f"gaprune.json says {said.parameters:,} parameters: the model has changed since it was written."
            )
        return lines
    made = f"{made} ({', '.join(method.pruning.targets)})"
    selected = set(method.pruning.linear_layers)
    if not selected or not selected <= {layer.name for layer in footprint.linear_layers}:
        return [f"{made}, according to gaprune.json, but this model does not have the layers that it names."]
    now, whole = footprint.sparsity(selected), percent(footprint.sparsity())
    lines = [f"{made}: {percent(now)} of the selected weights are zero, {whole} of the whole model.", *recoveries]
    if abs(now - said.of_selected) > _TOLERANCE:
        lines.append(
            f"gaprune.json says {percent(said.of_selected)} of the selected weights: the weights have changed since "
            "it was written, as they do if fine-tuning does not hold the zeros."
        )
    return lines

"""``gaprune.recover``."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from gaprune.config.files import given_options
from gaprune.config.recovery import RecoveryOptions
from gaprune.config.typed import RecoverOptions
from gaprune.data.checks.prompts import check_prompts
from gaprune.data.triplets import Triplet
from gaprune.errors import ConfigError, ModelError, continued_by
from gaprune.evaluation.quality.discovery import find_tasks
from gaprune.export.folder import check_destination
from gaprune.export.portable import Parent
from gaprune.export.provenance import Provenance
from gaprune.models.checks import check_blocks, check_layers
from gaprune.models.fingerprints import modules_fingerprint
from gaprune.models.formats import format_of
from gaprune.models.load import load_model
from gaprune.models.modes import shortened
from gaprune.models.prompts import resolve_prompts
from gaprune.pipelines.arguments import check_finite, check_outside, no_effect, split_source
from gaprune.pipelines.prepare import say_problems
from gaprune.pipelines.recovered import Recovered, record, unpruned
from gaprune.recovery.arguments import check_training
from gaprune.recovery.checkpoints import Checkpoints
from gaprune.recovery.data import RecoveryData, read_recovery_data
from gaprune.recovery.masked_training import masked_layers
from gaprune.recovery.retrain import check_width, retrain
from gaprune.recovery.text_data import TextData, read_text_data
from gaprune.util.distributed import join_process_group
from gaprune.util.files import temporary_folder
from gaprune.util.progress import say

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from gaprune.evaluation.quality.task import Task

_MAY_DIFFER = {
    "out", "overwrite", "checkpoint", "resume", "teacher_cache", "tasks", "model", "parent", "device", "minutes",
}  # fmt: skip
"""Options that may differ in a run that is resumed: what its time is enough for was planned when it began."""

_IN_MEMORY = "a model in memory"


def recover(
    model: str | Path | SentenceTransformer | None = None,
    *,
    domain: str | Path | Sequence[Triplet] | None = None,
    general: str | Path | Sequence[Triplet] | None = None,
    texts: str | Path | None = None,
    steps: int | None = None,
    out: str | Path | None = None,
    parent: str | Path | SentenceTransformer | None = None,
    recipe: RecoveryOptions | Mapping[str, Any] | str | Path | None = None,
    **options: Unpack[RecoverOptions],
) -> Recovered:
    """Distil a pruned model on texts of its domain, or fine-tune it on triplets, or both; its zeros stay zeros.

    Args:
        model: The model to recover: a folder (best one that GAPrune wrote), a hub id, or a loaded model, which is not
            changed.
        domain: Triplets of the domain, or where to read them.
        general: Triplets of general language to mix in against forgetting, or where to read them.
        texts: Texts of the domain without labels, to distil from the parent first: documents or triplets.
        steps: Optimiser steps on triplets.
        out: Folder to write the result to; nothing is written without one.
        parent: The model to distil from and to compare with: a folder, a hub id, or a loaded model; by default the
            one that ``gaprune.json`` names.
        recipe: Options, a mapping or a YAML file with further options.
        **options: Any other field of :class:`gaprune.RecoveryOptions`.

    Returns:
        The result, with the recovered model.

    Raises:
        GapruneError: One of its kinds, naming the option, file, line or layer, before anything is trained.

    Example:
        >>> gaprune.recover("pruned", texts="documents", tokens="20M", out="recovered")

    Source:
        GAPrune, arXiv 2509.10844, on contrastive fine-tuning after pruning.
    """
    (model_name, loaded), (parent_name, teacher) = split_source(model), split_source(parent)
    (domain_name, domain_triplets), (general_name, general_triplets) = split_source(domain), split_source(general)
    given = {"model": model_name, "domain": domain_name, "general": general_name, "parent": parent_name}
    asked = RecoveryOptions.build(
        given_options(recipe, RecoveryOptions), given, {"texts": texts, "steps": steps, "out": out}, options
    )

    processes = _join_processes(asked)
    count = processes.num_processes
    if asked.batch_size % count:
        raise ConfigError(
            f"batch_size: {asked.batch_size} do not divide into {count} processes.", f"Use a multiple of {count}."
        )
    _check_models(asked, loaded, teacher)
    destination = _check_out(asked)
    with _checkpoints(asked, destination, count) as checkpoints:
        tasks = find_tasks(Path(asked.tasks)) if asked.tasks else []
        base = _read_base(asked, teacher)
        unlabelled = None if asked.texts is None else read_text_data(asked, general_triplets)
        triplets = None
        if unlabelled is None or asked.domain is not None or domain_triplets is not None:
            triplets = read_recovery_data(asked, domain=domain_triplets, general=general_triplets, processes=count)
            triplets.check([asked], count)
        else:
            asked.refuse_without_triplets()
        leaks = _leaks(triplets, unlabelled, tasks) if tasks and processes.is_main_process else ()

        child = _load_child(asked, loaded)
        with shortened(child, asked.max_length):
            _check_child(asked, child, unlabelled or triplets)
            prompts = resolve_prompts(child, query=asked.query_prompt, passage=asked.passage_prompt)
            used = [
                each for data in (unlabelled, triplets) if data for each in (data.domain, data.general, data.held_out)
            ]
            check_prompts(child, prompts, (*used, *tasks))
            identity = Parent.of(child, asked.model or _IN_MEMORY)
            if asked.model is not None:
                identity = identity.seen_from(Path(asked.model), asked.model)
            dense, beside = _open_parent(asked, base, teacher)
            distilled = beside if asked.distil or asked.texts else None
            other = _other_than_parent(beside, base, identity, teaches=distilled is not None)
            check_width(child, dense, asked)
            run = {
                "options": asked.model_dump(mode="json", exclude=_MAY_DIFFER),
                "model": [identity.weights_sha256, modules_fingerprint(child)],
                "parent": distilled and distilled.weights_sha256,
                "processes": count,
            }
            processes.wait_for_everyone()
            stages = retrain(
                child,
                dense if distilled else None,
                asked,
                checkpoints,
                texts=unlabelled,
                triplets=triplets and triplets.mined(child, [asked], count),
                parent_sha256=distilled.weights_sha256 if distilled else "",
                identity=run,
            )
        result = Recovered(
            model=child,
            options=asked,
            training=stages[-1].training,
            prompts=prompts,
            base=base or unpruned(child, identity, asked.targets),
            records=tuple(record(stage, distilled, other=other) for stage in stages),
            leaks=leaks,
        )
        processes.wait_for_everyone()
        if processes.is_main_process:
            if tasks:  # a model whose parent is unknown is compared with itself before the recovery
                result = replace(result, beside=other)
                result = result.evaluate(tasks, parent=dense or _load_child(asked, loaded))
            if destination is not None:
                result.save(destination, overwrite=asked.overwrite)
            checkpoints.clear()
        processes.wait_for_everyone()
    return result


def _leaks(triplets: RecoveryData | None, unlabelled: TextData | None, tasks: Sequence[Task]) -> tuple[str, ...]:
    """Say what of the data is in the tasks too; return what makes scores too good."""
    domain, general = (None, None) if triplets is None else (triplets.domain, triplets.general)
    sets = {} if unlabelled is None else {"texts": unlabelled.domain}
    if unlabelled is not None and unlabelled.general is not None and general is None:
        sets["general texts"] = unlabelled.general
    queries = {name: [text for role, text in each.roles() if role == "query"] for name, each in sets.items()}
    return say_problems(domain, tasks, general=general, texts=queries)


def _join_processes(asked: RecoveryOptions) -> Any:
    """Return accelerate's state of this process among those that train together."""
    import torch
    from accelerate import PartialState

    join_process_group()  # with a longer timeout than accelerate's: one process embeds, evaluates and writes for all
    return PartialState(cpu=asked.device == "cpu" or not torch.cuda.is_available())


def _check_models(
    asked: RecoveryOptions, loaded: SentenceTransformer | None, teacher: SentenceTransformer | None
) -> None:
    """Refuse a missing model, an exported one, and options that would have no effect on loaded models."""
    if loaded is None and asked.model is None:
        raise ConfigError("model: no model to recover is named.", "Name the folder of a pruned model.")
    if (teacher is not None or asked.parent is not None) and not (asked.distil or asked.texts or asked.tasks):
        raise ConfigError(
            "parent: nothing is distilled from it or evaluated beside it, so this has no effect.",
            "Leave it out, or ask for --distil, --texts or --tasks.",
        )
    if loaded is not None:
        loads_parent = teacher is None and asked.parent is not None
        for option in ("model", *(() if loads_parent else ("trust_remote_code", "device"))):
            if getattr(asked, option):
                raise no_effect(option, "model")
    if asked.model is not None and format_of(asked.model) != "torch":
        raise ConfigError(
            f"model: {asked.model} is exported, and cannot be trained.", "Name the folder it was made from."
        )


def _check_out(asked: RecoveryOptions) -> Path | None:
    """Return the output folder, in which nothing else is read or written."""
    if asked.out is None:
        return None
    out = check_destination(asked.out, overwrite=asked.overwrite)
    check_outside(
        {out},
        read={name: getattr(asked, name) for name in ("model", "parent", "domain", "general", "texts", "tasks")},
        written={name: getattr(asked, name) for name in ("checkpoint", "teacher_cache")},
    )
    return out


@contextmanager
def _checkpoints(asked: RecoveryOptions, out: Path | None, processes: int) -> Iterator[Checkpoints]:
    """Give the checkpoints of the run: in the folder named, beside the output, or in a temporary folder."""
    if asked.checkpoint is None and out is None:
        if asked.resume or processes > 1:
            raise ConfigError(
                "checkpoint: a run that is resumed, or of several processes, needs a folder for its checkpoints.",
                "Name one with --set checkpoint=FOLDER, or an output folder with --out.",
            )
        with temporary_folder(None) as folder:
            yield Checkpoints(folder / "checkpoints")
        return
    folder = Path(asked.checkpoint or f"{out}.checkpoints").resolve()
    checkpoints = Checkpoints(folder, resumable=True, resume=asked.resume)
    checkpoints.check(overwrite=asked.overwrite)
    how = f"Run the same command again with --resume to continue; the checkpoints are in {folder}."
    with continued_by(how, folder=folder):
        yield checkpoints


def _read_base(asked: RecoveryOptions, teacher: SentenceTransformer | None) -> Provenance | None:
    """Return the provenance of the model; ``None`` if GAPrune did not make it, or it is in memory."""
    base = None if asked.model is None else Provenance.read(asked.model)
    if teacher is not None or asked.parent is not None:
        return base
    remedy = "Name the dense model with --parent (parent=...)."
    if base is None and (asked.distil or asked.texts):
        raise ConfigError(
            f"parent: nothing says what to distil from: {asked.model or 'the model'} has no gaprune.json.", remedy
        )
    if base is not None and (asked.distil or asked.texts or asked.tasks) and base.parent.find(asked.model) is None:
        raise ConfigError(f"parent: gaprune.json names {base.parent.name}, a local model that is not found.", remedy)
    return base


def _load_child(asked: RecoveryOptions, loaded: SentenceTransformer | None) -> SentenceTransformer:
    if loaded is not None:
        return copy.deepcopy(loaded)
    return load_model(str(asked.model), trust_remote_code=asked.trust_remote_code, device=asked.device)


def _check_child(asked: RecoveryOptions, child: SentenceTransformer, data: TextData | RecoveryData | None) -> None:
    """Refuse a model that cannot be trained, before its parent is loaded."""
    check_finite(child)
    check_layers(child)
    check_blocks(child, streamed=False)
    masked_layers(child, asked.targets)
    if data is not None:
        check_training(child, data, asked)


def _open_parent(
    asked: RecoveryOptions, base: Provenance | None, given: SentenceTransformer | None
) -> tuple[SentenceTransformer | None, Parent | None]:
    """Return the model to distil from and to compare with if it is needed and known, and its identity.

    Raises:
        ModelError: If it cannot be loaded, or the recorded parent has other weights now.
    """
    recorded = base.parent if base is not None and asked.parent is None and given is None else None
    name = asked.parent or (recorded and recorded.find(asked.model))
    if not (asked.distil or asked.texts or asked.tasks) or (given is None and name is None):
        return None, None
    dense = given or _load_parent(asked, str(name), recorded)
    identity = Parent.of(dense, name or _IN_MEMORY)
    if recorded is not None and identity.weights_sha256 != recorded.weights_sha256:
        raise ModelError(
            f"parent: {name} has other weights ({identity.weights_sha256[:12]}) than gaprune.json says "
            f"({recorded.weights_sha256[:12]}).",
            "Name the parent, or another model to distil from, with --parent.",
        )
    return dense, identity


def _other_than_parent(beside: Parent | None, base: Provenance | None, child: Parent, *, teaches: bool) -> str | None:
    """Return the name of the model to distil from and to compare with, if it is not the recorded parent."""
    origin = child if base is None else base.parent
    if beside is None or beside.weights_sha256 == origin.weights_sha256:
        return None
    if origin.dtype is not None and beside.name == origin.name:  # loaded in another type, so its values differ
        return None
    if base is not None:
        role = "the teacher" if teaches else "what the model is compared with"
        say(f"Note: {role} is {beside.name}, not the parent of this model ({origin.name}); card and page name both.")
    return beside.name


def _load_parent(asked: RecoveryOptions, name: str, recorded: Parent | None) -> SentenceTransformer:
    """Load the parent, as it was loaded when it was pruned if ``gaprune.json`` names it."""
    how: dict[str, Any] = {} if recorded is None else {"revision": recorded.revision, "dtype": recorded.dtype}
    try:
        return load_model(name, trust_remote_code=asked.trust_remote_code, device=asked.device, **how)
    except ModelError as error:
        if recorded is None:
            raise
        raise ModelError(
            f"parent: gaprune.json in {asked.model} names {recorded.name}. {error.problem}",
            f"Name the dense model with --parent (parent=...). {error.remedy}",
        ) from error
